/**
 * Which IprefPeers are looked at again when something changes. Pure over the views of the cluster, which have the change already.
 *
 *   what a peer says, or has               all: what one may have depends on what the others have
 *   what gateways saw of it                those that are at these addresses
 *   addresses of gateways, nodes, networks all; peers are few
 *   the set of gateways that are alive     all (whoever knows it adds them)
 */
import { isDeepStrictEqual } from 'node:util'
import type { IprefGateway, IprefPeer } from '../../resources/kinds.ts'
import type { Change } from '../../resources/store.ts'
import type { Cluster } from '../cluster.ts'
import { isApiServer, isApiServerSlice, isSameGateway, isSameNode } from '../surroundings.ts'

/** Calls `add` for each name that a change touches. Before the cluster starts, and after the controller was made. */
export function listenForPeers(cluster: Cluster, add: (name: string) => void): void {
  const addAll = () => {
    for (const { metadata } of cluster.peers()) add(metadata.name)
  }
  cluster.listen('IprefPeer', change => {
    add((change.now ?? change.before)!.metadata.name)
    if (concernsOthers(change)) addAll()
  })
  cluster.listen('IprefGateway', change => {
    if (!change.now || !change.before || !isSameGateway(change)) return addAll()
    const addresses = addressesSeen(change)
    for (const { metadata, status } of addresses.size > 0 ? cluster.peers() : [])
      if (status?.addresses?.some(address => addresses.has(address))) add(metadata.name)
  })
  cluster.listen('Node', change => !isSameNode(change) && addAll())
  cluster.listen('ServiceCIDR', addAll)
  cluster.listen('Service', change => isApiServer(change) && addAll())
  cluster.listen('EndpointSlice', change => isApiServerSlice(change) && addAll())
}

/** Spec and age, and what others may not have any more. */
function concernsOthers({ now, before }: Change<'IprefPeer'>): boolean {
  const of = (peer: IprefPeer | undefined) => {
    const accepted = peer?.status?.conditions?.find(({ type }) => type === 'Accepted')
    return [
      peer?.metadata.generation,
      peer?.status?.addresses,
      peer?.status?.hosts,
      accepted?.status,
      accepted?.observedGeneration,
    ]
  }
  return !isDeepStrictEqual(of(now), of(before))
}

function addressesSeen({ now, before }: Change<'IprefGateway'>): Set<string> {
  const rows = (gateway: IprefGateway | undefined) =>
    new Map((gateway?.status?.peers ?? []).map(row => [row.address, row]))
  const [current, former] = [rows(now), rows(before)]
  return new Set(
    [...current.keys(), ...former.keys()].filter(
      address => !isDeepStrictEqual(current.get(address), former.get(address)),
    ),
  )
}
