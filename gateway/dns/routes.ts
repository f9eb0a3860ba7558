/**
 * Which servers are asked about a name. A route is for a domain and all below it; the longest that matches counts; without one the resolver's own servers
 * are asked. Routes come from the objects of a cluster (kube/domains.ts), and change while the resolver runs.
 *
 *   name ──► the longest route ──► upstreams: TXT, addresses of gateways ──(nothing known, `orOwn`)──► own upstreams
 *                              └──► forwarders: everything else
 *
 * Owner: the Resolver of one thread. A server keeps its state (cookies, silences) as long as any route names it.
 */
import { lowerName, type Name, parentOf } from '../../dns/name.ts'
import { formatAddress, type Prefix } from '../../ipref/address.ts'
import type { ServerState, UpstreamServer } from './upstreams.ts'

export interface Route {
  /** lower case */
  domain: Name
  /** who says so, for people: `IprefPeer b` */
  by: string
  /** asked for AA records and the addresses of gateways; empty: the resolver's own */
  upstreams: readonly UpstreamServer[]
  /** the resolver's own upstreams are asked where these know nothing */
  orOwn: boolean
  /** what has no AA record is handed on to these; empty: the resolver's own */
  forwarders: readonly UpstreamServer[]
  /** false: no AA records are looked for, everything is handed on */
  looksForAa: boolean
  /** addresses that answers of the forwarders may hold although answers of others may not */
  mayHold: readonly Prefix[]
}

/** What a resolver is told of the network that it is in, beside its configuration. */
export interface Routing {
  routes: readonly Route[]
  /** contexts of this network, more than the configured ones */
  ownContexts: readonly Uint8Array[]
  /** resolvers that map for this one: names with AA records are handed to them; empty: the mapper here */
  uplink: readonly UpstreamServer[]
  /** who may ask, more than the configured ones */
  allow: readonly Prefix[]
}

export const noRouting: Routing = { routes: [], ownContexts: [], uplink: [], allow: [] }

/** How a name is looked up. */
export interface Way {
  route: Route | undefined
  /** one group after the other, while nobody knows anything */
  upstreams: readonly (readonly ServerState[])[]
  forwarders: readonly ServerState[]
}

export class RouteTable {
  readonly #own: Way
  readonly #makeState: (server: UpstreamServer) => ServerState
  #ways = new Map<Name, Way>()
  #states = new Map<string, ServerState>()

  constructor(
    own: { upstreams: readonly ServerState[]; forwarders: readonly ServerState[] },
    makeState: (server: UpstreamServer) => ServerState,
  ) {
    this.#own = { route: undefined, upstreams: [own.upstreams], forwarders: own.forwarders }
    this.#makeState = makeState
  }

  wayOf(name: Name): Way {
    for (let at: Name | undefined = lowerName(name); at !== undefined && this.#ways.size > 0; at = parentOf(at)) {
      const way = this.#ways.get(at)
      if (way) return way
    }
    return this.#own
  }

  /** Of two routes for one domain the first counts. The domains that are answered in another way from now on. */
  set(routes: readonly Route[]): Name[] {
    const states = new Map<string, ServerState>()
    const before = this.#ways
    this.#ways = new Map()
    for (const route of routes)
      if (!this.#ways.has(route.domain)) this.#ways.set(route.domain, this.#wayFor(route, states))
    this.#states = states
    const domains = new Set([...before.keys(), ...this.#ways.keys()])
    return [...domains].filter(domain => textOf(before.get(domain)) !== textOf(this.#ways.get(domain)))
  }

  #wayFor(route: Route, states: Map<string, ServerState>): Way {
    const stateOf = (server: UpstreamServer) => {
      const key = serverText(server)
      const state = states.get(key) ?? this.#states.get(key) ?? this.#makeState(server)
      states.set(key, state)
      return state
    }
    const { upstreams: own, forwarders } = this.#own
    const upstreams = route.upstreams.map(stateOf)
    return {
      route,
      upstreams: upstreams.length === 0 ? own : route.orOwn ? [upstreams, ...own] : [upstreams],
      forwarders: route.forwarders.length === 0 ? forwarders : route.forwarders.map(stateOf),
    }
  }
}

export function serverText({ address, port }: UpstreamServer): string {
  return `${formatAddress(address)} ${port}`
}

function textOf(way: Way | undefined): string {
  if (!way?.route) return ''
  const { upstreams, forwarders, orOwn, looksForAa, mayHold } = way.route
  const prefixes = mayHold.map(({ address, length }) => `${formatAddress(address)}/${length}`)
  return JSON.stringify([upstreams.map(serverText), forwarders.map(serverText), orOwn, looksForAa, prefixes])
}
