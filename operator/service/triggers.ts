/**
 * Which IprefServices are looked at again when something changes. Pure over the indexes of the cluster, which have the change already.
 *
 *   its own object, its claims                       the object
 *   names, addresses, references of an object        others that ask for, map or share them
 *   Service, EndpointSlice                           objects that publish the Service
 *   Pod                                              objects of its namespace that select it, or publish a Service that leads to its address
 *   Node, ServiceCIDR, Service/kubernetes            objects that lead to the addresses, were refused for such, or name an address
 *   IprefGateway                                     objects that wait for it, that it refuses or does not refuse any more
 *   settings, the set of gateways that are alive     all
 *
 * Nothing of a Namespace is decided on: its end deletes its objects, which is a change of each.
 */
import { isDeepStrictEqual } from 'node:util'
import { familyOf, type Prefix, parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import { referenceOf } from '../../resources/claims.ts'
import type { EndpointSlice, IprefGateway, IprefReference, IprefService, Pod } from '../../resources/kinds.ts'
import { matchesLabels } from '../../resources/selectors.ts'
import type { Change } from '../../resources/store.ts'
import { compareVersions, versionOfMappings } from '../../resources/view.ts'
import { keyOf } from '../byKey.ts'
import { type Cluster, namesAsked, serviceOfSlice } from '../cluster.ts'
import {
  addressesOfNode,
  isApiServer,
  isApiServerSlice,
  isSameGateway,
  isSameNode,
  networksOfNode,
} from '../surroundings.ts'
import { addressesInUse, canonical } from './targets.ts'

type Keys = Set<string>

/** Calls `add` for each key that a change touches. Before the cluster starts, and after the controller was made. `alive`: gateways that are. */
export function listenForServices(
  cluster: Cluster,
  alive: () => readonly IprefGateway[],
  add: (key: string) => void,
): void {
  const addAll = (keys: Iterable<string>) => {
    for (const key of keys) add(key)
  }
  cluster.listen('IprefService', change => addAll(ofIprefService(change, cluster)))
  cluster.listen('IprefReference', change => addAll(ofReference(change, cluster)))
  cluster.listen('Service', change => addAll(ofService(change, cluster)))
  cluster.listen('EndpointSlice', change => addAll(ofSlice(change, cluster)))
  cluster.listen('Pod', change => addAll(ofPod(change, cluster)))
  cluster.listen('Node', change => addAll(ofNode(change, cluster)))
  cluster.listen('ServiceCIDR', () => addAll(ofSurroundings(cluster)))
  cluster.listen('IprefGateway', change => addAll(ofGateway(change, cluster, alive())))
}

/** Settings, or the set of gateways that are alive. */
export function* allServices(cluster: Cluster): Iterable<string> {
  for (const object of cluster.services.all()) yield keyOf(object)
}

// ---- our own kinds

export function ofIprefService({ now, before }: Change<'IprefService'>, cluster: Cluster): Keys {
  const keys = new Set([keyOf((now ?? before)!)])
  for (const object of [now, before]) {
    if (!object) continue
    if (now?.metadata.generation !== before?.metadata.generation) {
      for (const name of namesAsked(object, cluster.config)) addKeys(keys, cluster.withName(name))
      if (object.spec.reference !== undefined) addKeys(keys, cluster.asking(object.spec.reference))
    }
    const changed = mappingsNotIn(object, object === now ? before : now)
    for (const { address, reference } of changed) {
      addKeys(keys, cluster.withAddress(address))
      addKeys(keys, cluster.withReference(reference))
    }
    // which address they were refused for is not in any index
    if (changed.length > 0) addKeys(keys, cluster.marked('addressTaken'))
  }
  return keys
}

function mappingsNotIn({ status }: IprefService, other: IprefService | undefined) {
  const same = new Set((other?.status?.mappings ?? []).map(({ address, reference }) => `${address} ${reference}`))
  return (status?.mappings ?? []).filter(({ address, reference }) => !same.has(`${address} ${reference}`))
}

export function ofReference({ now, before }: Change<'IprefReference'>, cluster: Cluster): Keys {
  const keys: Keys = new Set()
  for (const claim of [now, before]) {
    if (!claim) continue
    keys.add(ownerOf(claim))
    addKeys(keys, cluster.asking(referenceOf(claim)))
    addKeys(keys, cluster.withReference(referenceOf(claim)))
  }
  return keys
}

function ownerOf({ spec }: IprefReference): string {
  return `${spec.namespace}/${spec.name}`
}

/** Which gateways are alive is not told by this kind. */
export function ofGateway(change: Change<'IprefGateway'>, cluster: Cluster, alive: readonly IprefGateway[]): Keys {
  const { now, before } = change
  const keys: Keys = new Set()
  const [observed, observedBefore] = [now?.status?.observedResourceVersion, before?.status?.observedResourceVersion]
  // a gateway that reports for the first time is waited for from now on
  if (observed !== undefined && observedBefore === undefined) return new Set(allServices(cluster))
  if (observed !== observedBefore) addReported(keys, cluster, alive)
  const [current, former] = [refusedBy(now), refusedBy(before)]
  for (const key of [...current.keys(), ...former.keys()]) if (current.get(key) !== former.get(key)) keys.add(key)
  if (!isSameGateway(change)) {
    const addresses = [now, before].flatMap(one => [
      ...(one?.spec.publicAddresses ?? []),
      ...(one?.status?.nodeAddresses ?? []),
    ])
    for (const address of addresses) addAt(keys, canonical(address), cluster)
    addKeys(keys, cluster.marked('refusedTarget'))
  }
  return keys
}

/** Objects that every gateway has reported by now, and that do not say so yet. */
function addReported(keys: Keys, cluster: Cluster, alive: readonly IprefGateway[]): void {
  const versions = alive.flatMap(({ status }) => status?.observedResourceVersion ?? [])
  if (versions.length === 0) return
  const lowest = versions.reduce((a, b) => (compareVersions(a, b) <= 0 ? a : b))
  for (const object of cluster.marked('waiting')) {
    const version = versionOfMappings(object)
    if (version !== undefined && compareVersions(version, lowest) <= 0) keys.add(keyOf(object))
  }
}

function refusedBy(gateway: IprefGateway | undefined): Map<string, string> {
  const refused = (gateway?.status?.refused ?? []).filter(({ namespace }) => namespace !== '')
  return new Map(
    refused.map(({ namespace, name, reason, message }) => [`${namespace}/${name}`, `${reason} ${message}`]),
  )
}

// ---- Kubernetes' own

export function ofService(change: Change<'Service'>, cluster: Cluster): Keys {
  const { namespace = '', name } = (change.now ?? change.before)!.metadata
  if (isApiServer(change)) return ofSurroundings(cluster)
  const keys: Keys = new Set()
  addKeys(keys, cluster.publishing(namespace, name))
  // an address that is a Service's now, or not any more
  if (!isDeepStrictEqual(change.now?.spec.clusterIPs, change.before?.spec.clusterIPs))
    for (const address of [...(change.now?.spec.clusterIPs ?? []), ...(change.before?.spec.clusterIPs ?? [])])
      addAt(keys, canonical(address), cluster)
  return keys
}

export function ofSlice(change: Change<'EndpointSlice'>, cluster: Cluster): Keys {
  if (isApiServerSlice(change)) return ofSurroundings(cluster)
  const keys: Keys = new Set()
  for (const slice of [change.now, change.before]) addPublishing(keys, slice, cluster)
  return keys
}

function addPublishing(keys: Keys, slice: EndpointSlice | undefined, cluster: Cluster): void {
  const service = slice && serviceOfSlice(slice)
  if (service) addKeys(keys, cluster.publishing(service.namespace, service.name))
}

export function ofPod({ now, before }: Change<'Pod'>, cluster: Cluster): Keys {
  const keys: Keys = new Set()
  if (isDeepStrictEqual(now && decisiveOf(now), before && decisiveOf(before))) return keys
  for (const pod of [now, before]) {
    if (!pod) continue
    const { namespace = '', labels = {} } = pod.metadata
    for (const object of cluster.selectingIn(namespace)) {
      const selector = object.spec.target.pods?.selector
      if (selector && matchesLabels(selector, labels)) keys.add(keyOf(object))
    }
    for (const address of addressesInUse(pod)) addAt(keys, address, cluster)
  }
  return keys
}

/** What targets.ts reads of a pod. */
function decisiveOf({ metadata, spec, status }: Pod) {
  const { labels, uid, deletionTimestamp, ownerReferences } = metadata
  const isReady = status?.conditions?.find(({ type }) => type === 'Ready')?.status
  return [
    labels,
    uid,
    deletionTimestamp,
    ownerReferences,
    spec?.hostNetwork,
    status?.phase,
    status?.podIP,
    status?.podIPs,
    isReady,
  ]
}

export function ofNode(change: Change<'Node'>, cluster: Cluster): Keys {
  const keys: Keys = new Set()
  if (isSameNode(change)) return keys
  const nodes = [change.now, change.before].filter(node => node !== undefined)
  for (const address of nodes.flatMap(addressesOfNode)) addAt(keys, canonical(address), cluster)
  const networks = nodes.flatMap(networksOfNode).flatMap(text => parsePrefix(text) ?? [])
  for (const object of cluster.marked('addressTarget'))
    if (networks.some(network => isIn(network, object.spec.target.address!))) keys.add(keyOf(object))
  addKeys(keys, cluster.marked('refusedTarget'))
  return keys
}

function isIn(network: Prefix, text: string): boolean {
  const address = parseAddress(text)
  return address !== undefined && familyOf(address) === network.family && prefixContains(network, address)
}

/** Something about addresses that is no single address; rare. */
function ofSurroundings(cluster: Cluster): Keys {
  return new Set(allServices(cluster))
}

// ---- small things

function addKeys(keys: Keys, objects: Iterable<IprefService>): void {
  for (const object of objects) keys.add(keyOf(object))
}

/** Objects that lead to this address. */
function addAt(keys: Keys, address: string, cluster: Cluster): void {
  addKeys(keys, cluster.withAddress(address))
  addKeys(keys, cluster.naming(address))
  for (const slice of cluster.slicesAt(address)) addPublishing(keys, slice, cluster)
}
