/**
 * What a node's network is spoken of in: what is wanted, what surrounds the node, and what should be in the kernel. Addresses, networks and
 * hardware addresses are canonical text everywhere here, so that plans can be compared, logged and read; nodeKernel.ts makes bytes of them.
 */
import type { IpFamily } from '../../ipref/address.ts'

export interface GatewayPlace {
  name: string
  nodeName: string
  nodeAddresses: readonly string[]
  slices: readonly string[]
  /** networks of one address that this gateway carries: hosts of peers that are known without DNS */
  statics?: readonly string[]
}

export interface NodePlace {
  nodeName: string
  nodeAddresses: readonly string[]
  /** of this node alone; empty: unknown, and the way to its pods is left to the CNI */
  podNetworks: readonly string[]
}

export interface NodeNetworkWanted {
  encodingNetworks: readonly string[]
  own: { nodeName: string; nodeAddresses: readonly string[]; slices: readonly string[] }
  /** all of the cluster; that of the own node is known by its node's name */
  gateways: readonly GatewayPlace[]
  /** all of the cluster, with or without a gateway */
  nodes: readonly NodePlace[]
  /** single uplink: name of the gateway that carries everything */
  active?: string | undefined
  mode: 'auto' | 'direct' | 'vxlan'
  /** undefined: no gateway on this node */
  tun: string | undefined
  tunnelPort: number
  /** TCP, between gateways of a single uplink */
  uplinkPort: number
  /** of the cluster */
  podNetworks: readonly string[]
  serviceNetworks: readonly string[]
}

/** How the kernel would send to an address, whatever we have made. */
export interface NodeWay {
  device: string
  /** on a link of this node, without a router between */
  isOnLink: boolean
  mtu: number
}

/** What this node knows of itself and the way to others. */
export interface Surroundings {
  /** by node address */
  ways: ReadonlyMap<string, NodeWay>
  /** own address → link that has it, and its MTU */
  own: ReadonlyMap<string, { device: string; mtu: number }>
  /** names of the links whose reverse path filter is strict */
  strict: ReadonlySet<string>
  /** links of other overlays, as CNIs make them */
  overlays: readonly string[]
  /** keys (probeKey) that a probe proved */
  proved: ReadonlySet<string>
}

export interface LinkWanted {
  name: string
  local: string
  hardwareAddress: string
  mtu: number
}

export interface RouteWanted {
  table: 'main' | 'return'
  destination: string
  /** absent: unreachable */
  device?: string
  via?: string
  onLink?: boolean
  mtu?: number
  source?: string
}

export interface NeighbourWanted {
  device: string
  address: string
  hardwareAddress: string
}

export interface RuleWanted {
  family: IpFamily
  incoming: string
}

/** What the nftables table is made of (nodeTable.ts). */
export interface TableWanted {
  encodingNetworks: readonly string[]
  /** links by which encoded sources may come in */
  carriers: readonly string[]
  /** links by which other nodes are reached */
  underlay: readonly string[]
  nodes: readonly string[]
  /** sources of probes */
  probers: readonly string[]
  inside: readonly string[]
  tunnelPort: number
  uplinkPort: number
}

export interface Probe {
  key: string
  /** own address, and that of the other node */
  source: string
  destination: string
  /** next hop of the way that it tries */
  via: string
}

export interface NodePath {
  nodeName: string
  family: IpFamily
  how: 'direct' | 'vxlan'
  why: string
}

export interface Desired {
  links: LinkWanted[]
  /** `device address/length` */
  addresses: { device: string; address: string }[]
  neighbours: NeighbourWanted[]
  /** where a hardware address lives: `address` is that of the node */
  forwarding: NeighbourWanted[]
  routes: RouteWanted[]
  rules: RuleWanted[]
  table: TableWanted
  probes: Probe[]
  paths: NodePath[]
  problems: string[]
}
