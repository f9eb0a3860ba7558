/**
 * What all gateways of a cluster are told of each other: one ConfigMap, `ipref-network`, that the operator writes on change (decisions.md 19).
 *
 * Read by programs alone, so it is JSON. A gateway checks what it reads: a text that it does not understand leaves the last good one in force.
 */
import { parseAddress, parsePrefix } from '../ipref/address.ts'

export const NETWORK_NAME = 'ipref-network'
/** The Lease of a single uplink, and the Secret with the key of its stream (decisions.md 23, 24). */
export const UPLINK_NAME = 'ipref-uplink'
export const NETWORK_KEY = 'network.json'

export interface Network {
  encodingNetworks: string[]
  /** static parts of the encoding networks, shared by all gateways */
  statics: string[]
  uplink: 'perNode' | 'single'
  nodeNetwork: 'auto' | 'direct' | 'vxlan'
  /** for networks without an IprefPeer that says otherwise */
  inbound: 'allow' | 'deny'
  podNetworks: string[]
  serviceNetworks: string[]
  internalZone: string
  publicZone?: string
  /** where the operator serves the zones, `ADDRESS:PORT`; absent: it does not */
  zoneServers: string[]
  gateways: NetworkGateway[]
  /** of the cluster, with or without a gateway; absent: outside Kubernetes */
  nodes?: NetworkNode[]
  /** why no gateway may work; absent: they may */
  problem?: { reason: string; message: string }
}

export interface NetworkGateway {
  name: string
  /** absent: outside Kubernetes */
  nodeName?: string
  nodeAddresses: string[]
  slices: string[]
  /** known public addresses, at most one of each IP version */
  publicAddresses: string[]
  publish: boolean
  problem?: { reason: string; message: string }
}

export interface NetworkNode {
  name: string
  addresses: string[]
  /** of this node alone */
  podNetworks: string[]
}

export function formatNetwork(network: Network): string {
  return `${JSON.stringify(network, null, 2)}\n`
}

/** A text that is not what `formatNetwork` writes: what is wrong with it. */
export function parseNetwork(text: string): Network | string {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return `no JSON: ${(error as Error).message}`
  }
  return problemOf(value) ?? (value as Network)
}

type Fields = Record<string, unknown>

function problemOf(value: unknown): string | undefined {
  if (!isFields(value)) return 'no object'
  const listProblem =
    prefixes(value, 'encodingNetworks') ??
    prefixes(value, 'statics') ??
    prefixes(value, 'podNetworks') ??
    prefixes(value, 'serviceNetworks') ??
    texts(value, 'zoneServers')
  if (listProblem) return listProblem
  if (!oneOf(value.uplink, 'perNode', 'single')) return 'uplink: neither perNode nor single'
  if (!oneOf(value.nodeNetwork, 'auto', 'direct', 'vxlan')) return 'nodeNetwork: none of auto, direct, vxlan'
  if (!oneOf(value.inbound, 'allow', 'deny')) return 'inbound: neither allow nor deny'
  if (typeof value.internalZone !== 'string') return 'internalZone: no text'
  if (!Array.isArray(value.gateways)) return 'gateways: no list'
  if (value.nodes !== undefined && !Array.isArray(value.nodes)) return 'nodes: no list'
  const { gateways, nodes = [] } = value as { gateways: unknown[]; nodes?: unknown[] }
  return [...gateways.map(gatewayProblem), ...nodes.map(nodeProblem)].find(problem => problem !== undefined)
}

function nodeProblem(value: unknown): string | undefined {
  if (!isFields(value) || typeof value.name !== 'string') return 'nodes: one without a name'
  const problem = addresses(value, 'addresses') ?? prefixes(value, 'podNetworks')
  return problem && `node ${value.name}: ${problem}`
}

function gatewayProblem(value: unknown): string | undefined {
  if (!isFields(value) || typeof value.name !== 'string') return 'gateways: one without a name'
  const problem = addresses(value, 'nodeAddresses') ?? prefixes(value, 'slices') ?? addresses(value, 'publicAddresses')
  return problem && `gateway ${value.name}: ${problem}`
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function oneOf(value: unknown, ...known: string[]): boolean {
  return typeof value === 'string' && known.includes(value)
}

function texts(fields: Fields, name: string): string | undefined {
  return each(fields, name, () => true)
}

function prefixes(fields: Fields, name: string): string | undefined {
  return each(fields, name, text => parsePrefix(text) !== undefined)
}

function addresses(fields: Fields, name: string): string | undefined {
  return each(fields, name, text => parseAddress(text) !== undefined)
}

function each(fields: Fields, name: string, isRight: (text: string) => boolean): string | undefined {
  const list = fields[name]
  if (!Array.isArray(list)) return `${name}: no list`
  const wrong = list.find(text => typeof text !== 'string' || !isRight(text))
  return wrong === undefined ? undefined : `${name}: ${JSON.stringify(wrong)} is not what belongs there`
}
