/**
 * What the tests of a single uplink play in: threeNodes.ts with gateways on all three nodes, of which n1 and n2 share a public address. Objects come
 * from a folder. The far network serves the zone far.example, with hosts of its own and one behind a NAT (uplinkNat.ts).
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StatusReport, TraceReport } from '../../gateway/controlReports.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { type Network as ClusterNetwork, formatNetwork, NETWORK_KEY, NETWORK_NAME } from '../../resources/network.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { network } from '../support/clusterBuilders.ts'
import { eventually, type Running } from '../support/netns.ts'
import { serveTraffic } from '../support/networks.ts'
import { type ClusterNode, ENCODING, SLICES, type ThreeNodes } from './threeNodes.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
export const OUTSIDE = '203.0.113.2'
/** what a network behind a NAT of its own is called outside */
export const BEHIND_NAT = '198.51.100.9'
const METRICS_PORT = 9145
const FAR = '203.0.113.1'
const QUIET = ['-health-address', 'off', '-log-format', 'text']
export const PATIENCE = { withinMs: 90_000, everyMs: 250 }
export const ADDRESSES = { n1: ['172.18.0.1', 'fd18::1'], n2: ['172.18.0.2', 'fd18::2'], n3: ['172.19.0.3', 'fd19::3'] }
const ZONE = `$TTL 300
@ IN SOA ns admin 1 1h 10m 1w 5m
@ IN NS ns
ns IN A ${FAR}
host IN TXT "AA ${FAR} + 11"
inner IN TXT "AA ${BEHIND_NAT} + 21"
`

export class World {
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
      ...['-metrics-address', `${own}:${METRICS_PORT}`],
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
export const statusOf = async (node: ClusterNode) => (await ask(node, { do: 'status' })) as StatusReport

/** As the node's resolver answers; a question like any other. */
async function addressesAt(node: ClusterNode, host: string): Promise<string[]> {
  const { addresses } = (await ask(node, { do: 'trace', name: `${host}.far.example` })) as TraceReport
  return addresses
}

/** IPv4 address of a far host, the same at all nodes. */
export function addressOfFar(nodes: readonly ClusterNode[], host = 'host'): Promise<string> {
  return eventually(
    'all nodes give one address',
    async () => {
      const all = await Promise.all(nodes.map(node => addressesAt(node, host)))
      const [first] = all[0]!.filter(text => text.includes('.'))
      return first !== undefined && all.every(list => list.includes(first)) && first
    },
    PATIENCE,
  )
}

/** A gauge or counter without labels. */
export async function metricOf(node: ClusterNode, name: string): Promise<number> {
  const page = `http://${ADDRESSES[node.name][0]}:${METRICS_PORT}/metrics`
  const text = await node.in.require([process.execPath, '-e', `fetch('${page}').then(r => r.text()).then(console.log)`])
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
}

/** Once there is an active gateway with a standby. */
export function rolesOf({ cluster }: World): Promise<{ active: ClusterNode; other: ClusterNode }> {
  const { n1, n2 } = cluster.nodes
  return eventually(
    'an active gateway with a standby',
    async () => {
      const said = await Promise.all([n1, n2].map(async node => (await statusOf(node)).uplink))
      if (said[0] === 'active, standby n2') return { active: n1, other: n2 }
      return said[1] === 'active, standby n1' && { active: n2, other: n1 }
    },
    PATIENCE,
  )
}
