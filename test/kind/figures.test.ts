/**
 * How fast and how large: from `kubectl apply` to the first packet, memory and processor time of each pod; with `--figures` (minutes more) also at a
 * thousand services, and throughput between pods of the clusters as a part of what pods reach by the CNI and kube-proxy alone.
 *
 * Figures are noted (rig/figures.ts) and printed by run.ts; none is judged.
 */
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { type Cluster, NAMESPACE } from './rig/cluster.ts'
import { note } from './rig/figures.ts'
import { addressesOf, type Client, namespaceNamed, pings, soon, startClients, webServers } from './rig/pods.ts'
import type { Rig } from './rig/rig.ts'

const PLACE = 'figures'
const ROUNDS = 3
const MANY = 1000
const SAMPLE_MS = 20_000
const IPERF_SECONDS = 6
const IMAGE = 'image: ipref/toolbox:local, imagePullPolicy: Never'

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const { a, b } = rig
  let client!: Client
  await checks.check('servers and clients; names of A resolve in B', async () => {
    await Promise.all([a.apply(webServers(PLACE, 1)), startClients(b)])
    await a.waitFor('condition=Available', 'deployment/web', PLACE)
    client = (await startClients(b)).find(({ node }) => node === b.workers[0]!.name)!
    // CoreDNS reads its settings a minute after a fresh install
    await first(a, client, 'before')
    return undefined
  })
  for (let i = 0; i < ROUNDS; i++)
    await checks.check('from kubectl apply to the first packet', async () => {
      const { ready, packets } = await first(a, client, `first-${i}`)
      note('kubectl apply to Ready', ready, 's')
      note('kubectl apply to the first packet', packets, 's')
      return `Ready after ${ready.toFixed(1)} s, packets after ${packets.toFixed(1)} s`
    })
  await checks.check('memory and processor time of pods at rest', () => pods(a, 'at rest'))
  if (process.argv.includes('--figures')) {
    await checks.check('throughput from pod to pod', () => throughput(rig, client))
    await checks.check(`${MANY} services`, () => many(a))
    await checks.check(`memory and processor time of pods at ${MANY} services`, async () => {
      await rests(a)
      return pods(a, `${MANY} services`)
    })
    await a.kubectl(['delete', 'namespace', `${PLACE}-many`, '--timeout=300s'], { timeoutMs: 320_000 }).catch(() => {})
  }
  await a.kubectl(['delete', 'namespace', PLACE, '--wait=false'])
}

function iprefService(name: string, namespace: string, target: string): string {
  return `---
apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: ${name}, namespace: ${namespace}}
spec: {target: ${target}}
`
}

/** Seconds. A name nobody asked for before, so that no server remembers that it was not there; asked for as soon as the object is Ready. */
async function first(a: Cluster, client: Client, label: string): Promise<{ ready: number; packets: number }> {
  const name = `${label}-${Date.now() % 100_000}`
  const begun = performance.now()
  const seconds = () => (performance.now() - begun) / 1000
  await a.apply(iprefService(name, PLACE, '{pods: {selector: {matchLabels: {app: web}}}}'))
  await a.waitFor('condition=Ready', `iprefservice/${name}`, PLACE)
  const ready = seconds()
  const dnsName = `${name}.${PLACE}.${a.facts.publicZone}`
  const [address = ''] = await soon(`${dnsName} resolves`, async () => {
    const found = await addressesOf(client, dnsName)
    return found.length > 0 && found
  })
  await soon(`${address} answers`, () => pings(client, address).then(() => true))
  return { ready, packets: seconds() }
}

// ---- pods

interface Use {
  memory: number
  cpu: number
  at: number
}

async function pods(cluster: Cluster, when: string): Promise<string> {
  const before = await usesOf(cluster)
  await new Promise(resolve => setTimeout(resolve, SAMPLE_MS))
  const after = await usesOf(cluster)
  const lines: string[] = []
  for (const [pod, { memory, cpu, at }] of after) {
    const was = before.get(pod)
    const cores = was ? ((cpu - was.cpu) / (at - was.at)) * 1000 : Number.NaN
    note(`${pod} ${when}: memory`, memory / 1e6, 'MB')
    note(`${pod} ${when}: processor`, cores, 'thousandths of a core')
    lines.push(`${pod} ${Math.round(memory / 1e6)} MB, ${cores.toFixed(0)} m`)
  }
  expectThat(lines.length >= cluster.facts.nodes.length + 1, lines.join('; '))
  return lines.join('; ')
}

/** By `operator-N` and `gateway-N`, in the order of nodes. */
async function usesOf(cluster: Cluster): Promise<Map<string, Use>> {
  const uses = new Map<string, Use>()
  const count = { operator: 0, gateway: 0 }
  for (const { name } of cluster.facts.nodes) {
    const { stats } = JSON.parse(await cluster.onNode(name, 'crictl stats -o json')) as { stats: Stats[] }
    for (const { attributes, cpu, memory } of stats) {
      const what = attributes.metadata.name
      // one that has ended is listed for a while, without numbers
      if (attributes.labels['io.kubernetes.pod.namespace'] !== NAMESPACE || !(what in count) || !cpu || !memory)
        continue
      uses.set(`${what}-${++count[what as keyof typeof count]}`, {
        memory: Number(memory.workingSetBytes.value),
        cpu: Number(cpu.usageCoreNanoSeconds.value),
        at: Number(cpu.timestamp),
      })
    }
  }
  return uses
}

interface Stats {
  attributes: { metadata: { name: string }; labels: Record<string, string> }
  cpu: { timestamp: string; usageCoreNanoSeconds: { value: string } } | null
  memory: { workingSetBytes: { value: string } } | null
}

async function many(a: Cluster): Promise<string> {
  const namespace = `${PLACE}-many`
  const names = Array.from({ length: MANY }, (_, i) => `s${i}`)
  const services = names.map(
    name => `---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec: {ports: [{port: 80}]}
${iprefService(name, namespace, `{service: {name: ${name}}}`)}`,
  )
  const begun = performance.now()
  await a.kubectl(['apply', '-f', '-'], {
    input: `${namespaceNamed(namespace)}${services.join('')}`,
    timeoutMs: 600_000,
  })
  const applied = (performance.now() - begun) / 1000
  const ready = await soon(
    'all are Ready',
    async () => {
      const jsonpath = '{range .items[*]}{.status.conditions[?(@.type=="Mapped")].status}{"\\n"}{end}'
      const text = await a.kubectl(['get', 'iprefservices', '-n', namespace, '-o', `jsonpath=${jsonpath}`])
      const mapped = text.split('\n').filter(line => line === 'True').length
      return mapped === MANY && mapped
    },
    600,
  )
  const seconds = (performance.now() - begun) / 1000
  note(`${MANY} services: applied`, applied, 's')
  note(`${MANY} services: all mapped`, seconds, 's')
  expectSame('mapped', ready, MANY)
  return `kubectl took ${applied.toFixed(0)} s, all mapped after ${seconds.toFixed(0)} s`
}

/** Nothing of IprefServices was written for ten seconds. */
async function rests(a: Cluster): Promise<void> {
  const version = async () => {
    const text = await a.kubectl(['get', '--raw', '/apis/ipref.io/v1alpha1/iprefservices'])
    const { items } = JSON.parse(text) as { items: { metadata: { resourceVersion: string } }[] }
    return items.map(({ metadata }) => metadata.resourceVersion).join(' ')
  }
  await soon(
    'nothing is written any more',
    async () => {
      const before = await version()
      await new Promise(resolve => setTimeout(resolve, 10_000))
      return (await version()) === before
    },
    300,
  )
}

// ---- throughput

/** One server in A, asked by a pod of the same cluster on another node, by its address and by a node port; and by a pod of B. */
async function throughput({ a }: Rig, client: Client): Promise<string> {
  const [near, far] = a.workers
  await a.apply(`apiVersion: v1
kind: Pod
metadata: {name: iperf, namespace: ${PLACE}, labels: {app: iperf}}
spec:
  nodeName: ${near!.name}
  terminationGracePeriodSeconds: 0
  containers: [{name: server, ${IMAGE}, command: [iperf3, -s], readinessProbe: {tcpSocket: {port: 5201}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: iperf, namespace: ${PLACE}}
spec: {type: NodePort, selector: {app: iperf}, ports: [{port: 5201}]}
${iprefService('iperf', PLACE, '{pods: {selector: {matchLabels: {app: iperf}}}}')}`)
  await a.waitFor('condition=Ready', 'pod/iperf', PLACE)
  await a.waitFor('condition=Ready', 'iprefservice/iperf', PLACE)
  const pod = await a.get('pod', 'iperf', PLACE)
  const service = await a.get('service', 'iperf', PLACE)
  const nodePort = (service!.spec!.ports as { nodePort: number }[])[0]!.nodePort
  const neighbour = (await startClients(a)).find(({ node }) => node === far!.name)!
  const name = `iperf.${PLACE}.${a.facts.publicZone}`
  const [address = ''] = await soon(`${name} resolves`, async () => {
    const found = await addressesOf(client, name)
    return found.length > 0 && found
  })
  const rates = {
    'pod to pod, CNI alone': await iperf(neighbour, pod!.status!.podIP as string, 5201),
    'pod to pod, node port': await iperf(neighbour, near!.address, nodePort),
    'pod to pod across the clusters': await iperf(client, address, 5201),
  }
  const [cni, port, across] = Object.values(rates) as [number, number, number]
  for (const [what, rate] of Object.entries(rates)) note(`throughput ${what}`, rate, 'Gbit/s')
  note('throughput across the clusters, of that by the CNI alone', across / cni, '')
  note('throughput across the clusters, of that by a node port', across / port, '')
  return `${across.toFixed(2)} Gbit/s across, ${cni.toFixed(2)} by the CNI alone (${(across / cni).toFixed(2)}), ${port.toFixed(2)} by a node port`
}

async function iperf({ cluster, pod }: Client, address: string, port: number): Promise<number> {
  const line = `iperf3 -J -c ${address} -p ${port} -t ${IPERF_SECONDS} -O 1`
  const text = await soon('iperf3 ends well', async () => {
    const { code, stdout } = await cluster.tryInPod(pod, line, { namespace: 'clients', timeoutMs: 60_000 })
    return code === 0 && stdout
  })
  const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } }
  return end.sum_received.bits_per_second / 1e9
}
