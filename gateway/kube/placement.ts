/**
 * What this gateway is among those of the cluster: which encoded addresses it keeps, whether it gives new ones, and who else does. Pure.
 *
 *   perNode   own slices ─────────────────────────► 'own'       no slice ──► 'none': a resolver that hands names to gateways that have one
 *   single    holder of the Lease ipref-uplink ───► 'active'    another holds it ──► 'other': names to its resolver, packets to its node
 *   refused   ────────────────────────────────────► 'none'      nothing is in force, nothing is handed on
 *
 * With a single uplink every gateway keeps addresses of all slices, so that whoever is active next can have the mappings of the one before.
 */
import { parsePrefix, prefixContains } from '../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../resources/network.ts'

/** Resolvers that are asked one after the other by a gateway without a slice. */
const MOST_ABOVE = 3

export interface Placement {
  role: 'own' | 'active' | 'other' | 'none'
  /** where dynamic encoded addresses may lie */
  pools: string[]
  /** gives new encoded addresses and references */
  allocates: boolean
  /** gateways whose resolvers map for ours */
  above: NetworkGateway[]
  /** the gateway that carries all of the encoding network; undefined: each carries its own slices */
  active: string | undefined
}

const nothing: Placement = { role: 'none', pools: [], allocates: false, above: [], active: undefined }

export interface PlacementInput {
  network: Network
  /** name of our IprefGateway */
  name: string
  /** why nothing may be in force here */
  isRefused: boolean
  /** name of the gateway that holds the Lease, as far as is known */
  holder: string | undefined
}

export function placementOf({ network, name, isRefused, holder }: PlacementInput): Placement {
  if (isRefused) return nothing
  const self = network.gateways.find(gateway => gateway.name === name)
  if (network.uplink === 'perNode') {
    if (self && self.slices.length > 0)
      return { role: 'own', pools: self.slices, allocates: true, above: [], active: undefined }
    return { ...nothing, above: resolversFor(name, network) }
  }
  const active = network.gateways.find(gateway => gateway.name === holder)
  const pools = self ? network.gateways.flatMap(gateway => gateway.slices) : []
  if (active && active === self) return { role: 'active', pools, allocates: true, above: [], active: active.name }
  return { role: 'other', pools, allocates: false, above: active ? [active] : [], active: active?.name }
}

/** The other gateway that packets to an encoded address go to; undefined: this one, or nobody knows. */
export function carrierOf(
  address: Uint8Array,
  { network, name, placement }: { network: Network; name: string; placement: Placement },
): string | undefined {
  if (network.uplink === 'single') return placement.active === name ? undefined : placement.active
  const isIn = (text: string) => {
    const slice = parsePrefix(text)
    return slice !== undefined && prefixContains(slice, address)
  }
  const carrier = network.gateways.find(gateway => gateway.slices.some(isIn))?.name
  return carrier === name ? undefined : carrier
}

/** May hold the Lease `ipref-uplink`. */
export function isCandidate(network: Network, name: string): boolean {
  return candidatesOf(network).some(gateway => gateway.name === name)
}

/** By name. */
export function candidatesOf({ uplink, gateways }: Network): NetworkGateway[] {
  if (uplink !== 'single') return []
  return gateways
    .filter(gateway => gateway.publish && gateway.slices.length > 0 && gateway.problem === undefined)
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Who may be the standby of `name`, in the order in which they are tried. */
export function standbysOf(network: Network, name: string): NetworkGateway[] {
  const others = candidatesOf(network).filter(gateway => gateway.name !== name)
  return [...others.filter(gateway => gateway.name > name), ...others.filter(gateway => gateway.name < name)]
}

// each node begins with another gateway
function resolversFor(name: string, { gateways }: Network): NetworkGateway[] {
  const able = gateways.filter(gateway => gateway.slices.length > 0 && gateway.nodeAddresses.length > 0)
  const first =
    able.length === 0 ? 0 : [...name].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) >>> 0, 0) % able.length
  return [...able.slice(first), ...able.slice(0, first)].slice(0, MOST_ABOVE)
}
