/**
 * What breaks, one after another, under traffic that goes on; and how long it takes until all is well again. Times are printed, not judged: decisions on them
 * (0 packets lost without operator or API server; gateway pod 3 s, resolver 2 s, node 10 s, single uplink 5 s) are for machines with nothing else to do.
 *
 *   pods of B ══ packets, one every 50 ms ══ NAT ══ gateways of A ══► pod of A          operator, API server, gateway, resolver, active gateway, node
 *
 * What is judged: nothing is lost for good. The same stream goes on, by the same encoded address, and references are those of before.
 */
import { type Checks, expectThat } from '../support/checks.ts'
import { type Cluster, NAMESPACE } from './rig/cluster.ts'
import { note, noteFlow } from './rig/figures.ts'
import { addressesOf, type Client, pings, soon, startClients, webServers } from './rig/pods.ts'
import { docker } from './rig/programs.ts'
import type { Rig } from './rig/rig.ts'
import { Stream, told } from './rig/stream.ts'

const PLACE = 'faults'
const GATEWAY = 'app.kubernetes.io/component=gateway'
const OPERATOR = 'app.kubernetes.io/component=operator'

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const { a, b } = rig
  await checks.check('a pod of A, published; pods of B that talk to it', async () => {
    await a.apply(`${webServers(PLACE, 1)}---\n${serviceNamed('web')}`)
    await b.apply(`${webServers(PLACE, 1)}---\n${serviceNamed('web')}`)
    for (const cluster of [a, b]) await cluster.waitFor('condition=Ready', 'iprefservice/web', PLACE)
    return undefined
  })
  const faults = new Faults(checks, rig)
  for (const cluster of [a, b]) {
    await faults.fault(`operators of ${cluster.name} killed`, cluster, () => killOperators(cluster))
    await faults.fault(`API server of ${cluster.name} killed`, cluster, () => killApiServer(cluster))
  }
  await faults.fault('gateway pod that carries, deleted', a, async ({ carrier }) => restartGateway(a, carrier))
  await faults.fault('gateway process that carries, killed', a, async ({ carrier }) => killGateway(a, carrier))
  await faults.resolver()
  await faults.fault('single uplink: pod of the active gateway deleted', b, async ({ active }) =>
    restartGateway(b, active),
  )
  await faults.fault('single uplink: process of the active gateway killed', b, async ({ active }) =>
    killGateway(b, active),
  )
  await faults.node()
  for (const cluster of [a, b]) await cluster.kubectl(['delete', 'namespace', PLACE, '--wait=false'])
}

function serviceNamed(name: string): string {
  return `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: ${name}, namespace: ${PLACE}}
spec:
  target: {pods: {selector: {matchLabels: {app: web}}}}
`
}

/** Nodes that a packet passes. */
interface Way {
  /** in A */
  carrier: string
  /** in B */
  active: string
}

class Faults {
  readonly #checks: Checks
  readonly #rig: Rig
  #count = 0
  /** a node of B that is switched off */
  #off: string | undefined

  constructor(checks: Checks, rig: Rig) {
    this.#checks = checks
    this.#rig = rig
  }

  /** `work` resolves when what it broke works again; what it returns is shown. */
  async fault(name: string, cluster: Cluster, work: (way: Way) => Promise<string | undefined>): Promise<void> {
    await this.#checks.check(name, async () => {
      const { client, address, way } = await this.#talk()
      const before = await referencesOf(cluster)
      const stream = await Stream.start(client, address)
      try {
        stream.mark()
        const said = await work(way)
        await stream.untilAnswers(120)
        // what is lost at the very end of a recovery counts
        await new Promise(resolve => setTimeout(resolve, 2000))
        const now = await referencesOf(cluster)
        const lost = before.filter(reference => !now.includes(reference))
        expectThat(lost.length === 0, `references of ${cluster.name} that are lost: ${lost.join(' ')}`)
        await this.#sameAddress(client, address)
        const flow = stream.flow()
        noteFlow(name, flow)
        return [told(flow), ...(said ? [said] : [])].join('; ')
      } finally {
        stream.stop()
      }
    })
  }

  /** Questions by the resolvers' Service, from the node whose resolver ends. */
  async resolver(): Promise<void> {
    const { a } = this.#rig
    await this.#checks.check('resolver of the own node killed, with its gateway', async () => {
      const client = (await startClients(a)).find(one => one.node === a.workers[0]!.name)!
      const server = await a.kubectl([
        'get',
        'service',
        'ipref-resolver',
        '-n',
        NAMESPACE,
        '-o',
        'jsonpath={.spec.clusterIP}',
      ])
      const name = `web.${PLACE}.${a.facts.internalZone}`
      const ask = `dig +short +time=1 +tries=1 @${server} ${name} A | grep -q '^[0-9]' && echo ok`
      const asking = a.inPod(
        client.pod,
        `for i in $(seq 150); do echo $(cut -d' ' -f1 /proc/uptime) $(${ask}); sleep 0.1; done`,
        {
          namespace: 'clients',
          timeoutMs: 300_000,
        },
      )
      await new Promise(resolve => setTimeout(resolve, 2000))
      await killGateway(a, client.node)
      const lines = (await asking).split('\n').map(line => line.split(' '))
      const good = lines.filter(([, answer]) => answer === 'ok').map(([at]) => Number(at))
      expectThat(good.length > 0 && lines.at(-1)?.[1] === 'ok', `${good.length} of ${lines.length} questions answered`)
      const gap = Math.max(0, ...good.slice(1).map((at, i) => at - good[i]!))
      note('resolver of the own node killed: longest gap', gap, 's')
      return `${lines.length - good.length} of ${lines.length} questions without an answer, longest gap ${gap.toFixed(1)} s`
    })
  }

  /** The node of the active gateway of B, as if it lost its power; and back. */
  async node(): Promise<void> {
    const { b } = this.#rig
    await this.#checks.check('the active gateway is on a worker, that can be switched off', async () => {
      for (let tries = 0; tries < 6; tries++) {
        const active = await this.#active()
        if (b.workers.some(({ name }) => name === active)) return active
        await restartGateway(b, active)
      }
      throw new Error('it stays on the control plane')
    })
    await this.fault('single uplink: node of the active gateway switched off', b, async ({ active }) => {
      this.#off = active
      await docker('kill', active)
      await soon('another is active', async () => {
        const now = await b.activeGateway()
        return now !== undefined && now !== active
      })
      return undefined
    })
    const off = this.#off
    if (off === undefined) return
    await this.fault('the node comes back', b, async () => {
      await docker('start', off)
      this.#off = undefined
      await b.kubectl(['wait', '--for=condition=Ready', `node/${off}`, '--timeout=180s'], { timeoutMs: 200_000 })
      await gatewaysReady(b)
      return undefined
    })
  }

  /** Another name each time, so that its mapping is as fresh as can be; from a node that is not the active gateway's. */
  async #talk(): Promise<{ client: Client; address: string; way: Way }> {
    const { a, b } = this.#rig
    const name = `again-${++this.#count}`
    await a.apply(serviceNamed(name))
    await a.waitFor('condition=Ready', `iprefservice/${name}`, PLACE)
    const active = await this.#active()
    const client = (await startClients(b, this.#off)).find(one => one.node !== active)!
    const dnsName = `${name}.${PLACE}.${a.facts.publicZone}`
    const [address = ''] = await soon(`${dnsName} resolves`, async () => {
      const found = await addressesOf(client, dnsName)
      return found.length > 0 && found
    })
    await soon(`${address} answers`, () => pings(client, address).then(() => true))
    const { stdout } = await b.ipref(active, ['trace', address])
    const context = /goes to (\S+) \+/.exec(stdout)?.[1]
    const carrier = a.facts.nodes.find(node => node.address === context)?.name
    if (carrier === undefined) throw new Error(`which gateway of A carries ${address}? ${stdout}`)
    return { client, address, way: { carrier, active } }
  }

  #active(): Promise<string> {
    return soon('a gateway of B is active', () => this.#rig.b.activeGateway())
  }

  async #sameAddress(client: Client, address: string): Promise<void> {
    const name = `again-${this.#count}.${PLACE}.${this.#rig.a.facts.publicZone}`
    await soon(`${name} is ${address} still`, async () => (await addressesOf(client, name)).includes(address))
  }
}

async function referencesOf(cluster: Cluster): Promise<string[]> {
  const claims = await soon('the API server answers', () => cluster.list('iprefreferences').catch(() => undefined))
  return claims.map(({ metadata }) => metadata.name)
}

async function killOperators(cluster: Cluster): Promise<string> {
  const begun = performance.now()
  await cluster.kubectl(['-n', NAMESPACE, 'delete', 'pods', '-l', OPERATOR, '--grace-period=0', '--force'])
  const name = `after-${Date.now()}`
  await cluster.apply(serviceNamed(name))
  await cluster.waitFor('condition=Ready', `iprefservice/${name}`, PLACE)
  return `an IprefService made at once is Ready after ${((performance.now() - begun) / 1000).toFixed(1)} s`
}

async function killApiServer(cluster: Cluster): Promise<string> {
  const node = cluster.facts.nodes.find(({ isControlPlane }) => isControlPlane)!.name
  const begun = performance.now()
  await killContainer(cluster, node, 'kube-apiserver')
  await soon('the API server answers', async () => {
    const { code } = await cluster.tryKubectl(['get', '--raw', '/readyz', '--request-timeout=2s'])
    return code === 0
  })
  return `API server away for ${((performance.now() - begun) / 1000).toFixed(1)} s`
}

async function restartGateway(cluster: Cluster, node: string): Promise<undefined> {
  await cluster.kubectl(['-n', NAMESPACE, 'delete', 'pod', await cluster.gatewayPod(node)])
  await gatewaysReady(cluster)
  return undefined
}

async function killGateway(cluster: Cluster, node: string): Promise<undefined> {
  await killContainer(cluster, node, 'gateway')
  await gatewaysReady(cluster)
  return undefined
}

async function gatewaysReady(cluster: Cluster): Promise<void> {
  await soon(
    'all gateways are ready',
    async () => {
      const pods = await cluster.list('pods', '-n', NAMESPACE, '-l', GATEWAY)
      const ready = pods.filter(({ status }) => {
        const conditions = (status?.conditions ?? []) as { type: string; status: string }[]
        return conditions.some(one => one.type === 'Ready' && one.status === 'True')
      })
      return ready.length === cluster.facts.nodes.length && pods.length === ready.length
    },
    180,
  )
}

/** SIGKILL to its first process; the kubelet starts it again. Resolves when another runs. */
async function killContainer(cluster: Cluster, node: string, name: string): Promise<void> {
  const find = `crictl ps -q --state Running --name '^${name}$'`
  const id = await cluster.onNode(node, find)
  const pid = await cluster.onNode(node, `crictl inspect -o go-template --template '{{.info.pid}}' ${id}`)
  await cluster.onNode(node, `kill -9 ${pid}`)
  await soon(`${name} runs again on ${node}`, async () => {
    const now = await cluster.onNode(node, find).catch(() => id)
    return now !== '' && now !== id
  })
}
