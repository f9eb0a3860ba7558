/**
 * Which gateways there are, with which slices and public addresses, and what all of them are told. Pure.
 *
 *   nodes that match, IprefGateways, settings ──► IprefGateways to make, to complete, to release ──► one network for all (network.yaml)
 *
 * One that is being deleted stays until its gateway says that the node is clean; until nobody is there to say it; or two minutes. So no finalizer lasts.
 * A gateway whose node is gone is kept for `nodeReleaseTime`, with its slice: nodes come back, and their mappings with them. IprefGateways without a
 * node (gateways outside Kubernetes) are left to those who made them.
 */
import {
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixesOverlap,
} from '../../ipref/address.ts'
import type { Config } from '../../resources/config.ts'
import { API_VERSION, type IprefGateway, type IprefGatewaySpec, type Node } from '../../resources/kinds.ts'
import type { Network, NetworkGateway, NetworkNode } from '../../resources/network.ts'
import { networksOfNode } from '../surroundings.ts'
import { type Allotment, allot, staticPart } from './slices.ts'

/** On a node: its public addresses, with commas between. */
export const PUBLIC_ADDRESSES = 'ipref.io/public-addresses'

/** Its gateway is to clean the node before the object is gone (decisions.md 12). */
export const GATEWAY_FINALIZER = 'ipref.io/clean-node'
/** However the node is, the object goes after this. */
export const LONGEST_RELEASE_MS = 120_000

export interface GatewayInput {
  config: Config
  nodes: readonly Node[]
  gateways: readonly IprefGateway[]
  /** since when a node has been missing, by name */
  missingSince: ReadonlyMap<string, number>
  /** since when we have seen a gateway being deleted, by name */
  releasingSince: ReadonlyMap<string, number>
  /** Does a gateway of this name renew its Lease? */
  isAlive(name: string): boolean
  /** pod and service networks, and addresses of nodes and pods, each with what it is */
  inUse: readonly { what: string; network: string }[]
  /** of the API server, where it says them */
  serviceNetworks: readonly string[]
  /** where the operator serves the zones */
  zoneServers: readonly string[]
  /** IP versions over which gateways of nodes talk to others */
  tunnelFamilies: readonly (4 | 6)[]
  now: number
}

export type GatewayChange =
  | { do: 'make'; object: IprefGateway }
  | { do: 'complete'; object: IprefGateway }
  | { do: 'release'; object: IprefGateway; why: string }
  /** Its finalizer goes. */
  | { do: 'forget'; object: IprefGateway; why: string }

export interface GatewayPlan {
  changes: GatewayChange[]
  network: Network
}

export function planGateways(input: GatewayInput): GatewayPlan {
  const { config, nodes, gateways } = input
  const networks = config.encodingNetworks.map(text => parsePrefix(text)!)
  const wanted = nodes.filter(node => isSelected(node, config.gatewayNodeSelector))
  const released = gateways.filter(
    gateway => gateway.metadata.deletionTimestamp === undefined && isOver(gateway, wanted, input),
  )
  const kept = gateways.filter(
    gateway => !released.includes(gateway) && gateway.metadata.deletionTimestamp === undefined,
  )
  const fresh = wanted.filter(node => !gateways.some(gateway => gateway.metadata.name === node.metadata.name))
  const owners = [...kept.map(ownerOf), ...fresh.map(newOwnerOf)]
  const allotment = allot(owners, networks, config.sliceLengths)
  const changes: GatewayChange[] = released.map(object => ({
    do: 'release',
    object,
    why: `node ${object.spec.nodeName} is gone, or is no gateway's any more`,
  }))
  for (const node of fresh) changes.push({ do: 'make', object: newGateway(node, allotment) })
  for (const gateway of kept) {
    const { metadata, spec } = gateway
    const slices = allotment.slices.get(metadata.name)!
    const isRight = isEqual(spec.slices ?? [], slices) || isPinned(gateway, allotment)
    if (isRight && isGuarded(gateway)) continue
    const finalizers = [...new Set([...(metadata.finalizers ?? []), GATEWAY_FINALIZER])]
    const object = { ...gateway, metadata: { ...metadata, finalizers }, spec: isRight ? spec : { ...spec, slices } }
    changes.push({ do: 'complete', object })
  }
  for (const gateway of gateways) {
    const why = gateway.metadata.deletionTimestamp === undefined ? undefined : whyForget(gateway, input)
    if (why === undefined || !isGuarded(gateway)) continue
    const finalizers = gateway.metadata.finalizers!.filter(one => one !== GATEWAY_FINALIZER)
    changes.push({ do: 'forget', object: { ...gateway, metadata: { ...gateway.metadata, finalizers } }, why })
  }
  return { changes, network: networkOf(input, kept, fresh, allotment) }
}

// ---- nodes and gateways

function isSelected(node: Node, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => node.metadata.labels?.[key] === value)
}

function isOver(gateway: IprefGateway, wanted: readonly Node[], { config, missingSince, now }: GatewayInput): boolean {
  const { nodeName } = gateway.spec
  if (nodeName === undefined || wanted.some(node => node.metadata.name === nodeName)) return false
  const since = missingSince.get(nodeName)
  return since !== undefined && now - since >= config.nodeReleaseTimeMs
}

function isGuarded({ metadata }: IprefGateway): boolean {
  return metadata.finalizers?.includes(GATEWAY_FINALIZER) === true
}

/** undefined: its gateway is at it. */
function whyForget({ metadata, status }: IprefGateway, input: GatewayInput): string | undefined {
  const accepted = status?.conditions?.find(({ type }) => type === 'Accepted')
  if (accepted?.reason === 'Released') return 'its node is clean'
  if (!input.isAlive(metadata.name)) return 'no gateway is there that could clean its node'
  const since = input.releasingSince.get(metadata.name) ?? input.now
  return input.now - since < LONGEST_RELEASE_MS ? undefined : 'its gateway has not cleaned the node in time'
}

function ownerOf({ metadata, spec }: IprefGateway) {
  return { name: metadata.name, slices: spec.slices ?? [], age: `${metadata.creationTimestamp} ${metadata.uid}` }
}

/** Younger than any that is there. */
function newOwnerOf({ metadata }: Node) {
  return { name: metadata.name, slices: [], age: `~${metadata.creationTimestamp} ${metadata.name}` }
}

function newGateway(node: Node, allotment: Allotment): IprefGateway {
  const { name } = node.metadata
  const spec: IprefGatewaySpec = { nodeName: name, slices: allotment.slices.get(name)! }
  return { apiVersion: API_VERSION, kind: 'IprefGateway', metadata: { name, finalizers: [GATEWAY_FINALIZER] }, spec }
}

/** What is written is wrong: a person has to say something else; what it would be otherwise is in the problem. */
function isPinned(gateway: IprefGateway, { problems }: Allotment): boolean {
  const reason = problems.get(gateway.metadata.name)?.reason
  return reason === 'SliceInvalid' || reason === 'SliceConflict'
}

/**
 * spec, settings, annotation of the node, its ExternalIPs; none: unknown. What a person says holds. Of the ExternalIPs, which a cloud gives to nodes of two IP
 * versions unasked, those that the tunnel does not listen on are nobody's to send to.
 */
export function publicAddressesOf(
  gateway: IprefGateway,
  node: Node | undefined,
  { config, tunnelFamilies }: Pick<GatewayInput, 'config' | 'tunnelFamilies'>,
): string[] {
  const { metadata, spec } = gateway
  const annotated = node?.metadata.annotations?.[PUBLIC_ADDRESSES]?.split(',').map(text => text.trim())
  const isHeard = (text: string) => tunnelFamilies.includes(text.includes(':') ? 6 : 4)
  const external = node?.status?.addresses
    ?.filter(({ type, address }) => type === 'ExternalIP' && isHeard(address))
    .map(({ address }) => address)
  const configured = spec.nodeName === undefined ? undefined : config.publicAddresses[spec.nodeName]
  const found =
    spec.publicAddresses ?? configured ?? annotated ?? external ?? config.publicAddresses[metadata.name] ?? []
  return onePerFamily(found)
}

function onePerFamily(texts: readonly string[]): string[] {
  const byLength = new Map<number, string>()
  for (const text of texts) {
    const address = parseAddress(text)
    if (address && !byLength.has(address.length)) byLength.set(address.length, formatAddress(address))
  }
  return [...byLength].sort(([a], [b]) => a - b).map(([, text]) => text)
}

// ---- the network

function networkOf(
  input: GatewayInput,
  kept: readonly IprefGateway[],
  fresh: readonly Node[],
  allotment: Allotment,
): Network {
  const { config, nodes } = input
  const networks = config.encodingNetworks.map(text => parsePrefix(text)!)
  const all = [...kept, ...fresh.map(node => newGateway(node, allotment))]
  const gateways = all.map(gateway => gatewayOf(gateway, input, allotment)).sort((a, b) => (a.name < b.name ? -1 : 1))
  const problem = overlapOf(networks, input.inUse)
  return {
    encodingNetworks: networks.map(formatPrefix),
    statics: networks.map(network => formatPrefix(staticPart(network))),
    uplink: config.uplink === 'auto' ? uplinkOf(gateways) : config.uplink,
    nodeNetwork: config.nodeNetwork,
    inbound: config.inbound.default,
    podNetworks: [...config.podNetworks],
    serviceNetworks: [...new Set([...config.serviceNetworks, ...input.serviceNetworks])],
    internalZone: config.internalZone,
    ...(config.publicZone === undefined ? {} : { publicZone: config.publicZone }),
    zoneServers: [...input.zoneServers],
    gateways,
    ...(nodes.length > 0 ? { nodes: nodes.map(networkNode).sort((a, b) => (a.name < b.name ? -1 : 1)) } : {}),
    ...(problem === undefined ? {} : { problem: { reason: 'EncodingNetworkOverlap', message: problem } }),
  }
}

function networkNode(node: Node): NetworkNode {
  const internal = node.status?.addresses?.filter(({ type }) => type === 'InternalIP').map(({ address }) => address)
  return {
    name: node.metadata.name,
    addresses: (internal ?? []).filter(text => parseAddress(text) !== undefined),
    podNetworks: networksOfNode(node).filter(text => parsePrefix(text) !== undefined),
  }
}

function gatewayOf(gateway: IprefGateway, input: GatewayInput, allotment: Allotment): NetworkGateway {
  const { metadata, spec } = gateway
  const node = input.nodes.find(one => one.metadata.name === spec.nodeName)
  const problem = allotment.problems.get(metadata.name)
  const internal = node?.status?.addresses?.filter(a => a.type === 'InternalIP').map(a => a.address) ?? []
  return {
    name: metadata.name,
    ...(spec.nodeName === undefined ? {} : { nodeName: spec.nodeName }),
    nodeAddresses: internal,
    slices: allotment.slices.get(metadata.name) ?? [],
    publicAddresses: publicAddressesOf(gateway, node, input),
    publish: spec.publish !== false,
    ...(problem ? { problem } : {}),
  }
}

/** perNode where every published gateway can be told apart by its address (decisions.md 23). */
function uplinkOf(gateways: readonly NetworkGateway[]): 'perNode' | 'single' {
  const published = gateways.filter(gateway => gateway.publish)
  const seen = new Set<string>()
  for (const { publicAddresses } of published) {
    if (publicAddresses.length === 0 || publicAddresses.some(address => seen.has(address))) return 'single'
    for (const address of publicAddresses) seen.add(address)
  }
  return 'perNode'
}

function overlapOf(networks: readonly Prefix[], inUse: GatewayInput['inUse']): string | undefined {
  for (const network of networks) {
    for (const { what, network: text } of inUse) {
      const other = parsePrefix(text)
      if (other && other.family === network.family && prefixesOverlap(network, other))
        return `the encoding network ${formatPrefix(network)} contains ${text}, ${what}: choose another in encodingNetworks`
    }
  }
  return undefined
}

function isEqual(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i])
}
