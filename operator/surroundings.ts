/**
 * What the cluster says about addresses: which are never targets, and which networks are its own.
 *
 * Asked for each IprefService, and put together anew only when something of it changed: `surroundingsChange` says whether a change is one.
 */
import { isDeepStrictEqual } from 'node:util'
import { formatAddress, hostPrefix, type Prefix, parseAddress, parsePrefix } from '../ipref/address.ts'
import type { Config } from '../resources/config.ts'
import type { EndpointSlice, IprefGateway, Node, ServiceCidr } from '../resources/kinds.ts'
import type { Change } from '../resources/store.ts'
import { type Cluster, serviceOfSlice } from './cluster.ts'
import type { Surroundings } from './service/targets.ts'

/** The API server, as every cluster names it. */
const API_SERVER = { namespace: 'default', name: 'kubernetes' } as const

/** Keeps what was made of nodes, networks and settings of one cluster until they change; makes itself a listener, so before `cluster.start()`. */
class Kept<T> {
  readonly #cluster: Cluster
  readonly #make: (cluster: Cluster) => T
  #known: { config: Config; value: T } | undefined

  constructor(cluster: Cluster, make: (cluster: Cluster) => T) {
    this.#cluster = cluster
    this.#make = make
    cluster.listen('Node', change => !isSameNode(change) && this.forget())
    cluster.listen('ServiceCIDR', change => !isSameOf(change, ({ spec }: ServiceCidr) => spec?.cidrs) && this.forget())
  }

  forget(): void {
    this.#known = undefined
  }

  get(): T {
    const { config } = this.#cluster
    if (this.#known?.config !== config) this.#known = { config, value: this.#make(this.#cluster) }
    return this.#known.value
  }
}

export class SurroundingsCache extends Kept<Surroundings> {
  constructor(cluster: Cluster) {
    super(cluster, surroundingsOf)
    cluster.listen('IprefGateway', change => !isSameGateway(change) && this.forget())
    cluster.listen('Service', change => isApiServer(change) && this.forget())
    cluster.listen('EndpointSlice', change => isApiServerSlice(change) && this.forget())
  }
}

export function surroundingsOf(cluster: Cluster): Surroundings {
  const { config } = cluster
  return {
    forbidden: forbiddenAddresses(cluster),
    onNodes: addressesOnNodes(cluster),
    encodingNetworks: prefixes(config.encodingNetworks),
    clusterNetworks: prefixes(clusterNetworks(cluster)),
    allowedRanges: config.targets.allowedRanges.flatMap(({ cidr, namespaces }) =>
      prefixes([cidr]).map(range => ({ range, ...(namespaces ? { namespaces } : {}) })),
    ),
  }
}

function prefixes(texts: Iterable<string>): Prefix[] {
  return [...texts].flatMap(text => parsePrefix(text) ?? [])
}

function forbiddenAddresses(cluster: Cluster): Map<string, string> {
  const forbidden = new Map<string, string>()
  const forbid = (text: string, why: string) => {
    const bytes = parseAddress(text)
    if (bytes) forbidden.set(formatAddress(bytes), why)
  }
  for (const [node, addresses] of Object.entries(cluster.config.publicAddresses))
    for (const address of addresses) forbid(address, `the public address of node ${node}`)
  for (const { metadata, spec } of cluster.gateways())
    for (const address of spec.publicAddresses ?? []) forbid(address, `the public address of gateway ${metadata.name}`)
  for (const node of cluster.nodes())
    for (const address of addressesOfNode(node)) forbid(address, `the address of node ${node.metadata.name}`)
  const api = cluster.service(API_SERVER.namespace, API_SERVER.name)
  for (const address of api?.spec.clusterIPs ?? [api?.spec.clusterIP ?? '']) forbid(address, 'the API server')
  for (const slice of cluster.slicesOf(API_SERVER.namespace, API_SERVER.name))
    for (const { addresses } of slice.endpoints ?? [])
      for (const address of addresses) forbid(address, 'the API server')
  return forbidden
}

// a gateway that lies could name others' pods: so these do not count against pods
function addressesOnNodes(cluster: Cluster): Map<string, string> {
  const found = new Map<string, string>()
  for (const { metadata, status } of cluster.gateways())
    for (const text of status?.nodeAddresses ?? []) {
      const bytes = parseAddress(text)
      if (bytes) found.set(formatAddress(bytes), `an address of the node of gateway ${metadata.name}`)
    }
  return found
}

/** Those that are IP addresses, whatever their type. */
export function addressesOfNode({ status }: Node): string[] {
  return (status?.addresses ?? []).map(({ address }) => address).filter(text => parseAddress(text) !== undefined)
}

export function networksOfNode({ spec }: Node): string[] {
  return spec?.podCIDRs ?? (spec?.podCIDR ? [spec.podCIDR] : [])
}

/** Networks and nodes of the cluster as they are when it is called. Makes itself a listener, so before `cluster.start()`. */
export function insideOf(cluster: Cluster): () => readonly Prefix[] {
  const kept = new Kept(cluster, () =>
    prefixes([...clusterNetworks(cluster), ...cluster.nodes().flatMap(addressesOfNode).map(hostPrefix)]),
  )
  return () => kept.get()
}

/** Pod and service networks: of the nodes, of the API server where it says them, and of the configuration. */
export function clusterNetworks(cluster: Cluster): string[] {
  const { podNetworks, serviceNetworks } = cluster.config
  const found = new Set<string>([...podNetworks, ...serviceNetworks])
  for (const node of cluster.nodes()) for (const cidr of networksOfNode(node)) found.add(cidr)
  for (const { spec } of cluster.view('ServiceCIDR').all()) for (const cidr of spec?.cidrs ?? []) found.add(cidr)
  return [...found]
}

// ---- which changes count

export function isSameNode(change: Change<'Node'>): boolean {
  return isSameOf(change, (node: Node) => [addressesOfNode(node), networksOfNode(node)])
}

export function isSameGateway(change: Change<'IprefGateway'>): boolean {
  return isSameOf(change, ({ spec, status }: IprefGateway) => [spec.publicAddresses, status?.nodeAddresses])
}

export function isApiServer({ now, before }: Change<'Service'>): boolean {
  const { namespace, name } = (now ?? before)!.metadata
  return namespace === API_SERVER.namespace && name === API_SERVER.name
}

export function isApiServerSlice({ now, before }: Change<'EndpointSlice'>): boolean {
  return [now, before].some((slice: EndpointSlice | undefined) => {
    const service = slice && serviceOfSlice(slice)
    return service?.namespace === API_SERVER.namespace && service.name === API_SERVER.name
  })
}

function isSameOf<Value>(
  { now, before }: { now: Value | undefined; before: Value | undefined },
  of: (value: Value) => unknown,
) {
  return isDeepStrictEqual(now && of(now), before && of(before))
}
