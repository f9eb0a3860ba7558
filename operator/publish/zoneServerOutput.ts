/**
 * Output: the built-in zone server (dns/zoneServer.ts), from which ordinary secondaries transfer.
 *
 *   leader    zone ──► serial recorded (serialBook.ts) ──► served, secondaries told
 *   follower  zone ──► hash recorded? ── yes: served with the recorded serial
 *                                     └─ no: what it served before for at most 5 min more, then nothing (REFUSED, and the asker goes to the next server)
 *
 * Every replica answers, so that a Service may lead to any; a follower's view may be behind or ahead of the leader's by moments, and a content without a
 * recorded serial is never given out. While much changes it rarely has just what the leader recorded: it looks again and again then, and is a secondary that lags.
 * The internal zone is answered to private addresses, this host, the cluster's networks and nodes, and those that may
 * transfer: native addresses are nobody else's affair, whoever can reach the port.
 */
import { type Name, parseName } from '../../dns/name.ts'
import type { TsigKey } from '../../dns/tsig.ts'
import { ZoneServer, type ZoneServerLog } from '../../dns/zoneServer.ts'
import { hostPrefix, type Prefix, parsePrefix, prefixContains } from '../../ipref/address.ts'
import type { Config, ZoneServerConfig } from '../../resources/config.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Desired, DesiredZone } from './desired.ts'
import { type Server, serverOf } from './endpoints.ts'
import { readKey } from './keys.ts'
import { type Applied, NO_CONFLICTS, type Output } from './output.ts'
import { type ZoneKind, zoneKinds } from './records.ts'
import type { SerialBook } from './serialBook.ts'
import { writeZone, ZoneMaker } from './zoneOf.ts'

export interface ZoneServerOutputPorts {
  store: ResourceStore
  serials: SerialBook
  /** only the leader gives serials */
  isLeader(): boolean
  /** networks and nodes of the cluster, as they are now */
  inside(): readonly Prefix[]
  clock: Clock
  log: ZoneServerLog
  namespace: string
}

const LEADER_LOOK_MS = 60_000
const FOLLOWER_LOOK_MS = 5000
const BEHIND_LOOK_MS = 300
const STALE_MS = 300_000
const PRIVATE = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '::1/128',
  'fc00::/7',
  'fe80::/10',
]

export const ZONE_SERVER = 'zone server'

export class ZoneServerOutput implements Output {
  readonly name = ZONE_SERVER
  readonly zones: readonly ZoneKind[] = zoneKinds
  readonly #config: ZoneServerConfig
  readonly #settings: Config
  readonly #ports: ZoneServerOutputPorts
  #running: { server: ZoneServer; keys: string; own: readonly Server[] } | undefined
  /** what each zone was made from last, to make it once */
  readonly #makers = new Map<ZoneKind, ZoneMaker>()
  readonly #made = new Map<ZoneKind, { from: DesiredZone | undefined; servedAt: number }>()
  readonly #hashes = new WeakMap<DesiredZone, string>()
  /** a zone is not what the leader recorded last */
  #isBehind = false

  constructor(config: ZoneServerConfig, settings: Config, ports: ZoneServerOutputPorts) {
    this.#config = config
    this.#settings = settings
    this.#ports = ports
  }

  get lookEveryMs(): number {
    if (this.#ports.isLeader()) return LEADER_LOOK_MS
    return this.#isBehind ? BEHIND_LOOK_MS : FOLLOWER_LOOK_MS
  }

  doubt(): void {
    this.#ports.serials.doubt()
    for (const made of this.#made.values()) made.from = undefined
  }

  servers(): readonly Server[] {
    return this.#running?.own ?? []
  }

  get counters(): ZoneServer['counters'] | undefined {
    return this.#running?.server.counters
  }

  async apply(desired: Desired): Promise<Applied> {
    const server = await this.#server()
    const recorded = this.#ports.isLeader() ? undefined : await this.#ports.serials.read()
    this.#isBehind = false
    for (const zone of desired.zones.values()) {
      const now = this.#ports.clock.now()
      const last = this.#made.get(zone.kind)
      if (recorded === undefined && last?.from === zone) continue
      const hash = this.#hashOf(zone)
      const known = recorded?.get(zone.zone)
      if (recorded && known?.hash !== hash) {
        this.#isBehind = true
        if (now - (last?.servedAt ?? 0) >= STALE_MS) server.removeZone(parseName(zone.zone) as Name)
        continue
      }
      const made = this.#makerOf(zone.kind).make(zone)
      if ('problem' in made) throw new Error(`zone ${zone.zone}: ${made.problem}`)
      const serial = known?.serial ?? (await this.#ports.serials.serialFor(zone.zone, hash, now / 1000))
      server.setZone(made.zone.withSerial(serial))
      this.#made.set(zone.kind, { from: zone, servedAt: now })
    }
    return NO_CONFLICTS
  }

  // a follower looks at the same zone again and again
  #hashOf(zone: DesiredZone): string {
    const hash = this.#hashes.get(zone) ?? writeZone(zone, this.#config.nameServers).hash
    this.#hashes.set(zone, hash)
    return hash
  }

  #makerOf(kind: ZoneKind): ZoneMaker {
    const maker = this.#makers.get(kind) ?? new ZoneMaker(this.#config.nameServers)
    this.#makers.set(kind, maker)
    return maker
  }

  // Secrets are read again at each look, and the server begins anew where a key changed
  async #server(): Promise<ZoneServer> {
    const { store, namespace } = this.#ports
    const { keys: texts, keySecrets } = this.#config.transfer
    const keys: TsigKey[] = []
    for (const given of [...texts.map(key => ({ key })), ...keySecrets.map(keySecret => ({ keySecret }))]) {
      const key = await readKey(given, store, namespace)
      if (key) keys.push(key)
    }
    const shown = JSON.stringify(keys.map(({ name, algorithm, secret }) => [name, algorithm, [...secret]]))
    if (this.#running?.keys === shown) return this.#running.server
    await this.#running?.server.stop()
    this.#running = undefined
    this.#made.clear()
    const server = new ZoneServer(this.#serverSettings(keys), {
      log: this.#ports.log,
      now: () => this.#ports.clock.now() / 1000,
    })
    const listening = await server.start()
    this.#running = { server, keys: shown, own: listening.map(reachable) }
    return server
  }

  #serverSettings(keys: readonly TsigKey[]) {
    const { listen, transfer, notify } = this.#config
    const servers = listen.map(text => serverOf(text))
    // this host asks itself, to read back
    const self = servers.map(({ host }) => hostPrefix(host))
    const [key] = keys
    return {
      listen: servers,
      keys,
      transferAllow: prefixes(transfer.allow),
      transferKeys: keys.map(({ name }) => name),
      notify: notify.map(text => ({ ...serverOf(text), ...(key ? { key } : {}) })),
      internal: {
        zones: [parseName(this.#settings.internalZone) as Name],
        allows: askersOfInternal(prefixes([...self, ...transfer.allow]), this.#ports.inside),
      },
    }
  }

  async stop(): Promise<void> {
    await this.#running?.server.stop()
    this.#running = undefined
  }
}

/** `inside`: what else is in the cluster, now. */
export function askersOfInternal(
  allowed: readonly Prefix[],
  inside: () => readonly Prefix[],
): (address: Uint8Array) => boolean {
  const always = [...prefixes(PRIVATE), ...allowed]
  return address => [always, inside()].some(some => some.some(prefix => prefixContains(prefix, address)))
}

function prefixes(texts: readonly string[]): Prefix[] {
  return texts.map(parsePrefix).filter(prefix => prefix !== undefined)
}

function reachable({ host, port }: Server): Server {
  return { host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host, port }
}
