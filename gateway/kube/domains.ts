/**
 * Which servers the resolver asks about the domains of peers and the zones of the cluster. Pure.
 *
 *   internal zone ──► zone servers of the operator: native addresses, and static encoded ones of peers' hosts
 *   public zone ────► zone servers for AA records, then the resolver's own upstreams: the zone may hold more than the cluster publishes
 *   IprefPeer.spec.domains ──► its dnsServers; none: the resolver's own
 *
 * Of two that claim one domain the first counts; zones of the cluster come before peers.
 */
import { formatName, lowerName, type Name, parseName } from '../../dns/name.ts'
import { formatHostPort, hostPrefix, type Prefix, parseAddress, parsePrefix } from '../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../resources/network.ts'
import { parseEndpoint } from '../dns/endpoint.ts'
import type { Route, Routing } from '../dns/routes.ts'
import type { UpstreamServer } from '../dns/upstreams.ts'
import type { Domain } from './assertions.ts'

const DNS_PORT = 53

export interface RoutingInput {
  network: Network
  domains: readonly Domain[]
  /** gateways whose resolvers map for ours */
  above: readonly NetworkGateway[]
  /** where resolvers of gateways listen */
  resolverPort: number
}

/** `problems`: what is left out, and why. */
export function routingOf(input: RoutingInput): { routing: Routing; problems: string[] } {
  const { network, above, resolverPort } = input
  const { routes, problems } = routesOf(input)
  const uplink = above.flatMap(({ nodeAddresses }) =>
    nodeAddresses.flatMap(text => serverOf(formatHostPort(text, resolverPort))),
  )
  return {
    routing: {
      routes,
      uplink,
      // one reference under each gateway of the cluster, so each of their addresses is ours (decisions.md 23)
      ownContexts: network.gateways.flatMap(({ publicAddresses }) =>
        publicAddresses.flatMap(text => parseAddress(text) ?? []),
      ),
      allow: askersOf(network),
    },
    problems,
  }
}

function routesOf({ network, domains }: RoutingInput): { routes: Route[]; problems: string[] } {
  const problems: string[] = []
  const routes = new Map<Name, Route>()
  const add = (text: string, by: string, more: Partial<Route>) => {
    const parsed = parseName(text)
    if (!parsed) return void problems.push(`${by}: ${text} is no domain name`)
    const domain = lowerName(parsed)
    const known = routes.get(domain)
    if (known) return void problems.push(`${by}: ${formatName(domain)} is claimed by ${known.by} already`)
    const plain = { upstreams: [], forwarders: [], orOwn: false, looksForAa: true, mayHold: [] }
    routes.set(domain, { ...plain, ...more, domain, by })
  }
  const zoneServers = network.zoneServers.flatMap(serverOf)
  add(network.internalZone, 'the internal zone', {
    forwarders: zoneServers,
    looksForAa: false,
    mayHold: prefixesOf(network.statics),
  })
  if (network.publicZone !== undefined && network.publicZone !== network.internalZone)
    add(network.publicZone, 'the public zone', { upstreams: zoneServers, orOwn: true })
  for (const { name, servers, by } of domains) {
    const wrong = servers.filter(text => serverOf(text).length === 0)
    for (const text of wrong) problems.push(`${by}: ${text} is no address of a DNS server`)
    const asked = servers.flatMap(serverOf)
    // silence where somebody was named: not the resolver's own servers instead
    if (wrong.length > 0 && asked.length === 0) continue
    add(name, by, { upstreams: asked, forwarders: asked })
  }
  return { routes: [...routes.values()], problems }
}

function serverOf(text: string): UpstreamServer[] {
  const endpoint = parseEndpoint(text, DNS_PORT)
  return endpoint && endpoint.port > 0 ? [{ text, ...endpoint }] : []
}

function prefixesOf(texts: readonly string[]): Prefix[] {
  return texts.flatMap(text => parsePrefix(text) ?? [])
}

/** Pods, services and nodes: whoever is inside, and nobody else. */
function askersOf({ podNetworks, serviceNetworks, nodes = [], gateways }: Network): Prefix[] {
  const addresses = [...nodes.flatMap(node => node.addresses), ...gateways.flatMap(gateway => gateway.nodeAddresses)]
  const networks = [...podNetworks, ...serviceNetworks, ...nodes.flatMap(node => node.podNetworks)]
  const hosts = addresses.map(hostPrefix)
  return prefixesOf([...new Set([...networks, ...hosts])])
}
