/**
 * A single uplink with packets (threeNodes.ts): two gateways behind one public address, a node without a gateway, and the node networks of all three by
 * the gateways themselves. Objects come from a folder.
 *
 *   pod3 ── n3 ──VXLAN──► active of n1, n2 ══ NAT 203.0.113.2 ══ gw-far ── far
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StatusReport, TraceReport } from '../../gateway/controlReports.ts'
import { GATEWAY_FINALIZER } from '../../operator/gateway/plan.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { API_VERSION } from '../../resources/kinds.ts'
import { type Network as ClusterNetwork, formatNetwork, NETWORK_KEY, NETWORK_NAME } from '../../resources/network.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { network } from '../support/clusterBuilders.ts'
import { eventually, type Running } from '../support/netns.ts'
import { type Network, serveTraffic, startStream } from '../support/networks.ts'
import { ping } from '../support/probes.ts'
import type { StreamReport } from '../support/traffic.ts'
import { type ClusterNode, ENCODING, openThreeNodes, SLICES, type ThreeNodes } from './threeNodes.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const OUTSIDE = '203.0.113.2'
const FAR = '203.0.113.1'
const QUIET = ['-metrics-address', 'off', '-health-address', 'off', '-log-format', 'text']
const PATIENCE = { withinMs: 90_000, everyMs: 250 }
const ADDRESSES = { n1: ['172.18.0.1', 'fd18::1'], n2: ['172.18.0.2', 'fd18::2'], n3: ['172.19.0.3', 'fd19::3'] }
const ZONE = `$TTL 300
@ IN SOA ns admin 1 1h 10m 1w 5m
@ IN NS ns
ns IN A ${FAR}
host IN TXT "AA ${FAR} + 11"
`

export async function run(checks: Checks): Promise<void> {
  const cluster = await openThreeNodes()
  const world = new World(cluster)
  try {
    await world.open()
    await checkAll(checks, world)
    await checkReleased(checks, world)
  } finally {
    await world.operator?.close()
    await cluster.lab.close()
  }
}

class World {
  readonly cluster: ThreeNodes
  readonly #running = new Map<ClusterNode, Running>()
  operator: DirectoryStore | undefined

  constructor(cluster: ThreeNodes) {
    this.cluster = cluster
  }

  async open(): Promise<void> {
    const { lab, router, far, nodes } = this.cluster
    await router.nft(`table ip outside {
  chain post {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 172.18.0.0/24 ip daddr ${FAR} udp dport 1045 snat to ${OUTSIDE}
  }
}`)
    mkdirSync(this.#folder)
    this.operator = await DirectoryStore.open(this.#folder)
    await this.say({})
    const zoneFile = lab.file('far.zone')
    writeFileSync(zoneFile, ZONE)
    writeFileSync(far.hostsFile, `${far.plan.mappings.join('\n')}\n`)
    const zone = ['-zone', `far.example=${zoneFile}`, '-zone-listen', `${FAR}:53`]
    far.gateway.start([IPREF, ...far.arguments(), ...zone], { log: 'far.log' })
    for (const node of Object.values(nodes)) this.start(node)
    await serveTraffic(far.host('host'))
  }

  get #folder(): string {
    return this.cluster.lab.file('objects')
  }

  /** What the operator would tell all gateways. */
  async say(more: Partial<ClusterNetwork>): Promise<void> {
    const gateways = (['n1', 'n2'] as const).map(name => ({
      name,
      nodeName: name,
      nodeAddresses: ADDRESSES[name],
      slices: [...SLICES[name]],
      publicAddresses: [OUTSIDE],
      publish: true,
    }))
    const nodes = (['n1', 'n2', 'n3'] as const).map(name => ({
      name,
      addresses: ADDRESSES[name],
      podNetworks: [`10.244.${name[1]}.0/24`, `fd44:${name[1]}::/64`],
    }))
    const statics = ['10.176.0.0/16', 'fd24::/80']
    const text = formatNetwork(
      network({ uplink: 'single', encodingNetworks: [...ENCODING], statics, gateways, nodes, ...more }),
    )
    await this.operator!.apply('ConfigMap', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'ipref', name: NETWORK_NAME },
      data: { [NETWORK_KEY]: text },
    })
  }

  start(node: ClusterNode): void {
    const { name } = node
    const { lab } = this.cluster
    const path = (called: string) => lab.file(`${name}-${called}`)
    const own = ADDRESSES[name][0]!
    const argv = [
      ...['gateway', '-gateway-bind', own, '-gateway-pub', OUTSIDE, ...ENCODING.flatMap(one => ['-encode-net', one])],
      ...['-hosts', '/dev/null', '-data', path('data'), '-mapper-socket', path('mapper.sock')],
      ...['-control-socket', node.network.controlSocket, '-manifests', this.#folder, '-node', name],
      ...['-resolver-listen', own, '-resolver-upstream', `${FAR}:53`, ...QUIET],
    ]
    this.#running.set(node, node.in.start([IPREF, ...argv], { log: `${name}.log` }))
  }

  async kill(node: ClusterNode): Promise<void> {
    await this.#running.get(node)?.stop('SIGKILL')
  }

  /** Of those that have ended, their last words. */
  last(): string {
    return [...this.#running]
      .filter(([, running]) => running.hasExited())
      .map(([node, running]) => `${node.name} ended: ${running.log().trim().split('\n').at(-1)}`)
      .join('\n')
  }
}

const ask = (node: ClusterNode, request: Record<string, unknown>) =>
  askControl(node.network.controlSocket, request, 30_000)
const statusOf = async (node: ClusterNode) => (await ask(node, { do: 'status' })) as StatusReport

/** As the node's resolver answers; a question like any other. */
async function addressesAt(node: ClusterNode): Promise<string[]> {
  const { addresses } = (await ask(node, { do: 'trace', name: 'host.far.example' })) as TraceReport
  return addresses
}

/** IPv4 address of the far host, the same at all nodes. */
function addressOfFar(nodes: readonly ClusterNode[]): Promise<string> {
  return eventually(
    'all nodes give one address',
    async () => {
      const all = await Promise.all(nodes.map(addressesAt))
      const [first] = all[0]!.filter(text => text.includes('.'))
      return first !== undefined && all.every(list => list.includes(first)) && first
    },
    PATIENCE,
  )
}

async function checkAll(checks: Checks, world: World): Promise<void> {
  const { n1, n2, n3 } = world.cluster.nodes
  const { far } = world.cluster
  let active = n1
  let other = n2
  let address = ''
  let references = ''
  await checks.check('one of two is active, the other stands by', async () => {
    await eventually(
      'an active gateway with a standby',
      async () => {
        const said = await Promise.all([n1, n2].map(async node => (await statusOf(node)).uplink))
        const isFirst = said[0] === 'active, standby n2'
        if (!isFirst && said[1] !== 'active, standby n1') return false
        if (!isFirst) [active, other] = [n2, n1]
        return true
      },
      PATIENCE,
    )
    return active.name
  })
  await checks.check('all nodes give the far host one address, and packets to it go to the active one', async () => {
    address = await addressOfFar([n1, n2, n3])
    await eventually('pods reach it', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    await ping(other.pod, address)
    await ping(active.pod, address)
    references = await referencesAt(far)
    return address
  })
  await checks.check('a connection lives through kill -9 of the active one', async () => {
    const stream = startStream(n3.pod, address, 1)
    await stream.connected()
    const pings = n3.pod.start(['ping', '-n', '-D', '-i', '0.05', address], { log: 'gap.log' })
    await pause(500)
    await world.kill(active)
    await eventually('the other is active', async () => (await statusOf(other)).uplink?.startsWith('active'), PATIENCE)
    await eventually('packets flow', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    await pause(5000)
    await pings.stop('SIGINT')
    const report = JSON.parse(await stream.end()) as StreamReport
    expectSame('every byte echoed', report.ok, true)
    return `no packet came back for ${longestPause(pings.log())} ms; the connection waited ${report.longestGapMs} ms`
  })
  await checks.check('the address is the same, and the far network sees the same reference', async () => {
    expectSame('at the node without a gateway', await addressOfFar([other, n3]), address)
    expectSame('hosts of ours that it knows', await referencesAt(far), references)
    return undefined
  })
  await checks.check('back again it stands by, and takes over in turn', async () => {
    world.start(active)
    await eventually(
      'it stands by',
      async () => (await statusOf(other)).uplink === `active, standby ${active.name}`,
      PATIENCE,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${world.last()}`)
    })
    await world.kill(other)
    await eventually('packets flow', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    expectSame('the address', await addressOfFar([active, n3]), address)
    world.start(other)
    return undefined
  })
  await checks.check('an overlap takes mappings and routes away by name, and they come back', async () => {
    const problem = { reason: 'EncodingNetworkOverlap', message: 'the encoding network contains 10.180.0.1, a pod' }
    await world.say({ problem })
    for (const node of [n1, n2, n3]) {
      await eventually(
        `${node.name} leads nothing to the TUN`,
        async () => !(await routesOf(node)).some(route => route.startsWith('10.17') || route.startsWith('10.18')),
        PATIENCE,
      )
      const { problems } = await statusOf(node)
      expectThat(problems.includes(problem.message), `it is not named: ${problems.join('; ')}`)
    }
    await world.say({})
    address = await addressOfFar([n1, n2, n3])
    await eventually('packets flow', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    return undefined
  })
}

async function checkReleased(checks: Checks, world: World): Promise<void> {
  const { n3 } = world.cluster.nodes
  await checks.check(
    'a node whose IprefGateway is deleted is clean before the object is gone, and back with another',
    async () => {
      const operator = world.operator!
      const key = { name: n3.name }
      const metadata = { ...key, finalizers: [GATEWAY_FINALIZER] }
      const spec = { nodeName: n3.name }
      await operator.create('IprefGateway', { apiVersion: API_VERSION, kind: 'IprefGateway', metadata, spec })
      const reason = async () => {
        const { conditions } = (await operator.get('IprefGateway', key))?.status ?? {}
        return conditions?.find(({ type }) => type === 'Accepted')?.reason
      }
      await eventually('it reports', async () => (await reason()) !== undefined, PATIENCE)
      expectThat((await leftOn(n3)).length > 0, 'there was nothing to be taken away')
      await operator.delete('IprefGateway', key)
      await eventually('it says that the node is clean', async () => (await reason()) === 'Released', PATIENCE)
      expectSame('left on the node', (await leftOn(n3)).join('; '), '')
      const object = (await operator.get('IprefGateway', key))!
      await operator.update('IprefGateway', { ...object, metadata: { ...object.metadata, finalizers: [] } })
      await eventually('the network of the node is back', async () => (await leftOn(n3)).length > 0, PATIENCE)
      return undefined
    },
  )
}

/** Routes to encoded addresses, our rules, devices and tables. */
async function leftOn(node: ClusterNode): Promise<string[]> {
  const routes = (await routesOf(node)).filter(route => route.startsWith('10.17') || route.startsWith('10.18'))
  const links = ((await node.in.ipJson('link show')) as { ifname: string }[]).map(({ ifname }) => ifname)
  const tables = await node.in.require(['nft', 'list', 'tables'])
  return [
    ...routes,
    ...links.filter(name => name.startsWith('ipref-vx')),
    ...tables.split('\n').filter(line => line.includes('ipref_node')),
  ]
}

/** What the far network knows of hosts of ours. */
async function referencesAt(far: Network): Promise<string> {
  const { mappings } = (await askControl(far.controlSocket, { do: 'status' })) as StatusReport
  const ofOurs = mappings.rows.filter(row => row.relation === 'theirs' && row.remote.startsWith(`${OUTSIDE} + `))
  // the gateway itself, which answers probes, is no host
  return ofOurs
    .filter(row => row.remote !== `${OUTSIDE} + 1`)
    .map(row => `${row.local} ${row.remote}`)
    .sort()
    .join('; ')
}

async function routesOf(node: ClusterNode): Promise<string[]> {
  const routes = (await node.in.ipJson('-4 route show table main')) as { dst: string }[]
  return routes.map(route => route.dst)
}

/** Between two answers of `ping -D`, in milliseconds. */
function longestPause(log: string): number {
  const times = [...log.matchAll(/^\[(\d+\.\d+)\].* bytes from /gm)].map(([, seconds]) => Number(seconds) * 1000)
  return Math.round(Math.max(0, ...times.slice(1).map((time, i) => time - times[i]!)))
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
