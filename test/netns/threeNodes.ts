/**
 * A cluster of three nodes, two with gateways, and a network elsewhere; what the tests of node networks use.
 *
 *   pod1 10.244.1.10 ── n1 172.18.0.1 ──┐
 *                       gateway, slice 1  ├─ one link ─ r ─── n3 172.19.0.3 ── pod3 10.244.3.10
 *   pod2 10.244.2.10 ── n2 172.18.0.2 ──┘              │    no gateway
 *                       gateway, slice 2                └─── gw-far 203.0.113.1 ── far 10.1.0.10
 *
 * Everything has IPv6 too. Pods of other nodes are reached by plain routes, as some CNIs make them. The router r carries pods' addresses and drops
 * encoded ones, as clouds do; the link of n1 and n2 carries what it gets, until `spoil` makes it a cloud as well.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NodeNetworkWanted } from '../../gateway/kube/nodeTypes.ts'
import { eventually, type Lab, type Namespace, openLab, type Running } from '../support/netns.ts'
import { joinInternet, Network } from '../support/networks.ts'
import type { DriverReport } from './nodeDriver.ts'

const DRIVER = join(import.meta.dirname, 'nodeDriver.ts')
export const ENCODING = ['10.176.0.0/12', 'fd24::/64'] as const
export const SLICES = {
  n1: ['10.177.0.0/18', 'fd24::1:0:0:0/80'],
  n2: ['10.178.0.0/18', 'fd24::2:0:0:0/80'],
} as const
/** What the far host is called by those who use the gateway of n1, and that of n2. */
export const FAR = { n1: ['10.177.0.9', 'fd24::1:0:0:9'], n2: ['10.178.0.9', 'fd24::2:0:0:9'] } as const
/** What the far network calls, by the gateway of n2: the pods and the services. */
export const AT_FAR = {
  pod3: '10.240.0.31',
  pod3v6: 'fd25::31',
  pod2: '10.240.0.32',
  service3: '10.240.0.41',
  service2: '10.240.0.42',
} as const
/** Of a service on pod3, and of one on pod2. */
export const CLUSTER_IPS = { pod3: '10.96.0.10', pod2: '10.96.0.12' } as const
const NODES = {
  n1: ['172.18.0.1', 'fd18::1'],
  n2: ['172.18.0.2', 'fd18::2'],
  n3: ['172.19.0.3', 'fd19::3'],
} as const
const PODS = { n1: 'pod1', n2: 'pod2', n3: 'pod3' } as const
export type NodeName = keyof typeof NODES
const DROP_ENCODED = ['saddr', 'daddr'].flatMap(field => [
  `ip ${field} ${ENCODING[0]} drop`,
  `ip6 ${field} ${ENCODING[1]} drop`,
])
const ROUTED_ONLY = 'for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$f" ] || echo 0 > "$f"; done'
const QUIET = ['-metrics-address', 'off', '-health-address', 'off'] as const

const podNetworks = (n: NodeName) => [`10.244.${n[1]}.0/24`, `fd44:${n[1]}::/64`]

export function wantedOf(name: NodeName, change: Partial<NodeNetworkWanted> = {}): NodeNetworkWanted {
  const slices = name === 'n3' ? [] : SLICES[name]
  return {
    encodingNetworks: ENCODING,
    own: { nodeName: name, nodeAddresses: NODES[name], slices },
    gateways: (['n1', 'n2'] as const).map(n => ({
      name: `gateway-${n}`,
      nodeName: n,
      nodeAddresses: NODES[n],
      slices: SLICES[n],
    })),
    nodes: (['n1', 'n2', 'n3'] as const).map(n => ({
      nodeName: n,
      nodeAddresses: NODES[n],
      podNetworks: podNetworks(n),
    })),
    mode: 'auto',
    tun: name === 'n3' ? undefined : 'ipref0',
    tunnelPort: 1045,
    uplinkPort: 1048,
    podNetworks: ['10.244.0.0/16', 'fd44::/16'],
    serviceNetworks: ['10.96.0.0/16'],
    ...change,
  }
}

/** One node: a network whose hosts are its pods. */
export class ClusterNode {
  readonly name: NodeName
  readonly network: Network
  readonly #lab: Lab
  #version = 0
  #driver: Running | undefined

  constructor(lab: Lab, name: NodeName, network: Network) {
    this.#lab = lab
    this.name = name
    this.network = network
  }

  get in(): Namespace {
    return this.network.gateway
  }

  get pod(): Namespace {
    return this.network.host(PODS[this.name])
  }

  #order(wanted: NodeNetworkWanted): void {
    const file = this.#lab.file(`${this.name}-wanted.json`)
    writeFileSync(`${file}.new`, JSON.stringify({ version: ++this.#version, wanted }))
    renameSync(`${file}.new`, file)
  }

  apply(wanted: NodeNetworkWanted): Promise<DriverReport> {
    this.#order(wanted)
    return this.settled()
  }

  /** Resolves when what was ordered last is in force. */
  settled(): Promise<DriverReport> {
    return eventually(
      `${this.name} has its network`,
      () => {
        if (this.#driver?.hasExited()) throw new Error(`the driver of ${this.name} ended:\n${this.#driver.log()}`)
        const report = this.report()
        return report.version === this.#version && report
      },
      { withinMs: 30_000 },
    )
  }

  report(): DriverReport {
    return JSON.parse(readFileSync(this.#lab.file(`${this.name}-report.json`), 'utf8')) as DriverReport
  }

  /** Words before the command of the driver may take rights away. */
  startDriverWith(wanted: NodeNetworkWanted, before: readonly string[] = []): void {
    rmSync(this.#lab.file(`${this.name}-report.json`), { force: true })
    this.#order(wanted)
    const files = ['wanted', 'report'].map(what => this.#lab.file(`${this.name}-${what}.json`))
    this.#driver = this.in.start([...before, process.execPath, DRIVER, ...files], { log: `${this.name}-driver.log` })
  }

  async stopDriver(): Promise<void> {
    await this.#driver?.stop('SIGKILL')
    await this.#driver?.exited
  }
}

export interface ThreeNodes {
  lab: Lab
  router: Namespace
  far: Network
  nodes: Record<NodeName, ClusterNode>
  /** The link of n1 and n2 drops encoded addresses from now on, or carries them again. */
  spoil(what: 'drops' | 'carries'): Promise<void>
}

export async function openThreeNodes(): Promise<ThreeNodes> {
  const lab = await openLab()
  try {
    return await build(lab)
  } catch (error) {
    await lab.close()
    throw error
  }
}

async function build(lab: Lab): Promise<ThreeNodes> {
  const router = await lab.add('r', { forwards: true })
  await router.ip(
    'link add shared type bridge forward_delay 0',
    'address add 172.18.0.254/24 dev shared',
    'address add fd18::ff/64 dev shared nodad',
    'link set shared up',
  )
  // what is bridged is not routed, and no cloud of the router drops it
  await router.require(['sh', '-c', ROUTED_ONLY])
  const nodes = {} as Record<NodeName, ClusterNode>
  for (const name of ['n1', 'n2', 'n3'] as const) nodes[name] = await addNode(lab, router, name)
  await addRoutes(router, nodes)
  await router.nft(`table inet cloud {
  chain forward {
    type filter hook forward priority 0; policy accept;
    ${DROP_ENCODED.join('\n    ')}
  }
}
table bridge cloud {
  chain forward {
    type filter hook forward priority 0; policy accept;
  }
}`)
  const far = await addFar(lab, router)
  return {
    lab,
    router,
    far,
    nodes,
    spoil: what =>
      router.nft(
        what === 'carries'
          ? 'flush chain bridge cloud forward'
          : DROP_ENCODED.map(rule => `add rule bridge cloud forward ${rule}`).join('\n'),
      ),
  }
}

async function addNode(lab: Lab, router: Namespace, name: NodeName): Promise<ClusterNode> {
  const number = name[1]
  const [node4, node6] = NODES[name]
  const network = await Network.build(lab, {
    name,
    lan: [`10.244.${number}.1/24`, `fd44:${number}::1/64`],
    hosts: { [PODS[name]]: [`10.244.${number}.10/24`, `fd44:${number}::10/64`] },
    mappings: name === 'n3' ? [] : mappingsOf(name),
    flags: ['-gateway', node4, ...ENCODING.flatMap(network => ['-encode-net', network]), ...QUIET],
  })
  const isShared = name !== 'n3'
  await lab.connect(
    { in: network.gateway, device: 'eth0', addresses: [`${node4}/24`, `${node6}/64`] },
    { in: router, device: `to-${name}`, addresses: isShared ? [] : ['172.19.0.254/24', 'fd19::ff/64'] },
  )
  if (isShared) await router.ip(`link set dev to-${name} master shared`)
  const [via4, via6] = isShared ? ['172.18.0.254', 'fd18::ff'] : ['172.19.0.254', 'fd19::ff']
  await network.gateway.ip(`route add default via ${via4}`, `route add default via ${via6}`)
  return new ClusterNode(lab, name, network)
}

function mappingsOf(name: 'n1' | 'n2'): string[] {
  const far = FAR[name].map((address, i) => `${address} far${i} #= ext 203.0.113.1 + ${11 + i}`)
  if (name === 'n1') return far
  return [
    ...far,
    '10.244.3.10 pod3 #= pub + 31',
    'fd44:3::10 pod3v6 #= pub + 33',
    '10.244.2.10 pod2 #= pub + 32',
    `${CLUSTER_IPS.pod3} service3 #= pub + 41`,
    `${CLUSTER_IPS.pod2} service2 #= pub + 42`,
  ]
}

/** The CNI: routes to the pods of others, by their node where both share a link. */
async function addRoutes(router: Namespace, nodes: Record<NodeName, ClusterNode>): Promise<void> {
  for (const name of ['n1', 'n2', 'n3'] as const) {
    const routes = podNetworks(name).map((network, i) => `route add ${network} via ${NODES[name][i]}`)
    await router.ip(...routes)
    if (name === 'n1') await nodes.n2.in.ip(...routes)
    if (name === 'n2') await nodes.n1.in.ip(...routes)
  }
}

async function addFar(lab: Lab, router: Namespace): Promise<Network> {
  const far = await Network.build(lab, {
    name: 'far',
    lan: ['10.1.0.1/24', 'fd01::1/64'],
    hosts: { host: ['10.1.0.10/24', 'fd01::10/64'] },
    mappings: [
      '10.1.0.10 host #= pub + 11',
      'fd01::10 host6 #= pub + 12',
      `${AT_FAR.pod3} pod3 #= ext 172.18.0.2 + 31`,
      `${AT_FAR.pod3v6} pod3v6 #= ext 172.18.0.2 + 33`,
      `${AT_FAR.pod2} pod2 #= ext 172.18.0.2 + 32`,
      `${AT_FAR.service3} service3 #= ext 172.18.0.2 + 41`,
      `${AT_FAR.service2} service2 #= ext 172.18.0.2 + 42`,
    ],
    flags: ['-gateway', '203.0.113.1', '-encode-net', '10.240.0.0/12', '-encode-net', 'fd25::/64', ...QUIET],
  })
  await joinInternet(lab, far, router, { gateway: ['203.0.113.1/30'], router: ['203.0.113.2/30'] })
  return far
}
