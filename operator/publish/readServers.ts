/**
 * Whom to ask about what is published.
 *
 *   Authoritative  readBack.servers, else the servers that the DNS names for the zone, and those that outputs publish to
 *   Resolver       readBack.servers, else the system's resolver
 *
 * Where the DNS knows no servers of a zone, which is usual for internal zones and wrong for public ones, those of the outputs are left, and a line in the
 * log says so.
 */
import { Resolver } from 'node:dns/promises'
import type { Config } from '../../resources/config.ts'
import type { Clock } from '../../runtime/clock.ts'
import { type Server, serverOf } from './endpoints.ts'
import { type ZoneKind, zoneNameOf } from './records.ts'

/** What the system's resolver says. Rejects where it says nothing. */
export interface SystemDns {
  nameServers(zone: string): Promise<string[]>
  addresses(host: string): Promise<string[]>
  /** of the resolver itself */
  servers(): string[]
}

export interface ReadServersPorts {
  dns: SystemDns
  clock: Clock
  log: { warn(fields: object, text: string): void }
  /** those of the outputs */
  known(kind: ZoneKind): readonly Server[]
}

interface Found {
  at: number
  keepMs: number
  servers: Promise<Server[]>
}

const KEEP_MS = 60_000
const KEEP_UNNAMED_MS = 5000
const MOST_SERVERS = 16

export function systemDns(): SystemDns {
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  return {
    nameServers: zone => resolver.resolveNs(zone),
    async addresses(host) {
      const all = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
      return all.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
    },
    servers: () => resolver.getServers(),
  }
}

export class ReadServers {
  readonly #ports: ReadServersPorts
  readonly #found = new Map<ZoneKind, Found>()
  readonly #told = new Set<string>()

  constructor(ports: ReadServersPorts) {
    this.#ports = ports
  }

  /** Empty: nobody is known who could be asked. */
  of(kind: ZoneKind, config: Config): Promise<Server[]> {
    const { clock } = this.#ports
    const kept = this.#found.get(kind)
    if (kept && clock.now() - kept.at < kept.keepMs) return kept.servers
    const found: Found = { at: clock.now(), keepMs: KEEP_MS, servers: Promise.resolve([]) }
    found.servers = this.#find(kind, config, found)
    this.#found.set(kind, found)
    return found.servers
  }

  /** Outputs or settings are others now. */
  forget(): void {
    this.#found.clear()
  }

  async #find(kind: ZoneKind, config: Config, found: Found): Promise<Server[]> {
    const { mode, servers } = config.readBack
    if (servers.length > 0) return servers.map(text => serverOf(text))
    if (mode === 'Resolver') return this.#ports.dns.servers().map(text => serverOf(text))
    const zone = zoneNameOf(kind, config)
    if (zone === undefined) return []
    const named = await this.#authoritative(kind, zone, config)
    // soon the DNS may know them, and until they were asked little is proved
    if (named.length === 0) found.keepMs = KEEP_UNNAMED_MS
    const all = [...named, ...this.#ports.known(kind)]
    const unique = new Map(all.map(server => [`${server.host} ${server.port}`, server]))
    return [...unique.values()].slice(0, MOST_SERVERS)
  }

  async #authoritative(kind: ZoneKind, zone: string, config: Config): Promise<Server[]> {
    const { dns, log } = this.#ports
    // before the zone is delegated; of an internal one they know nothing, where they serve the public one alone
    const own = kind === 'public' ? (config.publishers.zoneServer?.nameServers ?? []) : []
    const named = await dns.nameServers(zone).catch(() => [...own])
    const lists = await Promise.all(
      named.map(async name => (await dns.addresses(name).catch(() => [])).map(host => ({ host, port: 53, name }))),
    )
    const servers = lists.flat()
    if (servers.length > 0) this.#told.delete(zone)
    else if (!this.#told.has(zone)) {
      this.#told.add(zone)
      log.warn(
        { zone },
        'the DNS names no servers of this zone: records are read back from where they are published to alone',
      )
    }
    return servers
  }
}
