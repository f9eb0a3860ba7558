/** What the cluster says about addresses: which are never targets, and which networks are its own. */
import { formatAddress, parseAddress } from '../ipref/address.ts'
import type { Cluster } from './cluster.ts'
import type { Surroundings } from './service/targets.ts'

/** The API server, as every cluster names it. */
const API_SERVER = { namespace: 'default', name: 'kubernetes' } as const

export function surroundingsOf(cluster: Cluster): Surroundings {
  return {
    forbidden: forbiddenAddresses(cluster),
    clusterNetworks: clusterNetworks(cluster),
    allowedRanges: cluster.config.targets.allowedRanges,
  }
}

function forbiddenAddresses(cluster: Cluster): Map<string, string> {
  const forbidden = new Map<string, string>()
  const forbid = (text: string, why: string) => {
    const bytes = parseAddress(text)
    if (bytes) forbidden.set(formatAddress(bytes), why)
  }
  for (const node of cluster.nodes()) {
    for (const { type, address } of node.status?.addresses ?? [])
      if (type === 'InternalIP' || type === 'ExternalIP') forbid(address, `the address of node ${node.metadata.name}`)
  }
  const api = cluster.service(API_SERVER.namespace, API_SERVER.name)
  for (const address of api?.spec.clusterIPs ?? [api?.spec.clusterIP ?? '']) forbid(address, 'the API server')
  for (const slice of cluster.slicesOf(API_SERVER.namespace, API_SERVER.name))
    for (const { addresses } of slice.endpoints ?? [])
      for (const address of addresses) forbid(address, 'the API server')
  return forbidden
}

/** Pod and service networks: of the nodes, of the API server where it says them, and of the configuration. */
export function clusterNetworks(cluster: Cluster): string[] {
  const { podNetworks, serviceNetworks } = cluster.config
  const found = new Set<string>([...podNetworks, ...serviceNetworks])
  for (const { spec } of cluster.nodes())
    for (const cidr of spec?.podCIDRs ?? (spec?.podCIDR ? [spec.podCIDR] : [])) found.add(cidr)
  for (const { spec } of cluster.view('ServiceCIDR').all()) for (const cidr of spec?.cidrs ?? []) found.add(cidr)
  return [...found]
}
