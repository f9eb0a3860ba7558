/** Everything that is decided about one IprefPeer from, out of the views. */
import { formatAddress, parseAddress, prefixContains } from '../../ipref/address.ts'
import type { IprefGateway, IprefPeer } from '../../resources/kinds.ts'
import type { Cluster } from '../cluster.ts'
import type { Surroundings } from '../service/targets.ts'
import { neverReason } from '../service/targets.ts'
import type { SurroundingsCache } from '../surroundings.ts'
import type { PeerInput } from './plan.ts'
import type { ResolvedNames } from './resolved.ts'

export interface PeerGatherPorts {
  cluster: Cluster
  surroundings: SurroundingsCache
  names: ResolvedNames
  /** gateways that are alive */
  gateways(): readonly IprefGateway[]
  publicAddresses(gateway: IprefGateway): readonly string[]
}

/** `peers`: all, this one among them. */
export function gatherPeer(object: IprefPeer, peers: readonly IprefPeer[], ports: PeerGatherPorts): PeerInput {
  const { cluster, names, surroundings, gateways, publicAddresses } = ports
  const own = new Set(cluster.gateways().flatMap(gateway => [...publicAddresses(gateway)]))
  const { name, address = '' } = object.spec.gateway
  const bytes = parseAddress(address)
  return {
    object,
    config: cluster.config,
    others: peers.filter(peer => peer !== object && peer.metadata.deletionTimestamp === undefined),
    refusalOf: text => refusalOf(text, own, surroundings.get()),
    resolved:
      name === undefined
        ? { addresses: bytes ? [formatAddress(bytes)] : [] }
        : names.get(name, object.status?.addresses ?? []),
    gateways: gateways().map(gateway => gateway.metadata.name),
  }
}

function refusalOf(
  text: string,
  own: ReadonlySet<string>,
  { forbidden, onNodes, encodingNetworks, clusterNetworks }: Surroundings,
): ReturnType<PeerInput['refusalOf']> {
  if (own.has(text))
    return { reason: 'GatewayIsOurs', message: `${text} is a gateway of this cluster; a peer is another network` }
  const bytes = parseAddress(text)!
  const network = [...encodingNetworks, ...clusterNetworks].find(prefix => prefixContains(prefix, bytes))
  const what =
    neverReason(bytes) ??
    forbidden.get(text) ??
    onNodes.get(text) ??
    (network && `an address of ${formatAddress(network.address)}/${network.length}, a network of this cluster`)
  return what === undefined
    ? undefined
    : { reason: 'GatewayForbidden', message: `${text} is ${what}; a peer is another network` }
}
