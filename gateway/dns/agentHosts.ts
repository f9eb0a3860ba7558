/**
 * From the records of a public zone to sets of hosts: AA records, the native addresses of the names that have them, the addresses of gateways that are named.
 *
 *   TXT of NAME.PUBLIC ──ZoneEntries──► label, context, reference ──┐
 *   addresses of NAME.LOCAL, of gateway names ──HostFinder──────────┴─ matchHosts ──► one set for each pair of IP versions
 *
 * A lookup that failed is a doubt, not an answer: what was known stays, and where nothing at all could be looked up the transfer is worth nothing.
 */
import { Type } from '../../dns/constants.ts'
import { type ResourceRecord, stringsOf } from '../../dns/message.ts'
import {
  countLabels,
  formatName,
  isAtOrBelow,
  joinNames,
  labelsOf,
  lowerName,
  type Name,
  nameOfLabels,
  parseName,
  plainName,
} from '../../dns/name.ts'
import { parseAaRecord } from '../../ipref/aaRecord.ts'
import { compareHosts, type HostRecord, hashHosts } from '../../ipref/hostSetHash.ts'
import type { Clock } from '../../runtime/clock.ts'
import { isContext } from '../mapper/assertions.ts'
import type { AgentSource } from './agentConfig.ts'
import type { HostSet } from './agentLink.ts'
import type { Looked } from './lookup.ts'
import type { UpstreamServer } from './upstreams.ts'

/** Local addresses are asked for once for all servers that are polled at about the same time. */
const LOOKUP_KEPT_MS = 10_000
/** Names of a large zone that are dealt with before others have their turn: primaries do not wait long for a reader. */
const CHUNK = 2000
/** Names that are remembered beyond those of the zone at hand. */
const KNOWN_SLACK = 1000

export interface AaEntry {
  /** first label of the owner, lower case */
  label: string
  context: Uint8Array | Name
  reference: bigint
}

/** The AA records of one transfer, as they come. */
export class ZoneEntries {
  readonly #zone: Name
  readonly #digest = new Uint32Array(2)
  readonly list: AaEntry[] = []

  constructor(zone: Name) {
    this.#zone = zone
  }

  add(record: ResourceRecord): void {
    if (record.type !== Type.TXT) return
    const label = labelOf(record.name, this.#zone)
    if (label === undefined) return
    for (const text of stringsOf(record.data)) {
      const entry = entryOf(label, text)
      if (!entry) continue
      this.list.push(entry)
      addTo(this.#digest, `${label} ${text}`)
    }
  }

  /** The same for the same records in any order. */
  get fingerprint(): string {
    return `${this.list.length} ${this.#digest[0]} ${this.#digest[1]}`
  }
}

// the zone itself is no host, and a wildcard names none
function labelOf(owner: Name, zone: Name): string | undefined {
  if (countLabels(owner) <= countLabels(zone)) return undefined
  const label = lowerName(labelsOf(owner)[0]!)
  return label === '*' ? undefined : label
}

function entryOf(label: string, text: string): AaEntry | undefined {
  const record = parseAaRecord(text)
  if (typeof record !== 'object') return undefined
  if ('context' in record) return { label, context: record.context, reference: record.reference }
  const name = parseName(record.name)
  return name && countLabels(name) > 1 ? { label, context: lowerName(name), reference: record.reference } : undefined
}

// sums of two hashes of each line: the same for every order
function addTo(digest: Uint32Array, line: string): void {
  let [a, b] = [0x811c9dc5, 0x9747b28c]
  for (let i = 0; i < line.length; i++) {
    const c = line.charCodeAt(i)
    a = Math.imul(a ^ c, 0x01000193)
    b = Math.imul(b + c, 0x5bd1e995) ^ (b >>> 15)
  }
  digest[0]! += a >>> 0
  digest[1]! += b >>> 0
}

/** Records of a set, in order and once each. Entries whose address or context is not known, or of another IP version, are left out. */
export async function matchHosts(
  entries: readonly AaEntry[],
  known: { natives: ReadonlyMap<string, Uint8Array>; contexts: ReadonlyMap<Name, readonly Uint8Array[]> },
  tunnelFamily: 4 | 6,
): Promise<HostRecord[]> {
  const length = tunnelFamily === 4 ? 4 : 16
  const records: HostRecord[] = []
  for (const { label, context, reference } of entries) {
    const native = known.natives.get(label)
    if (!native || reference === 0n) continue
    const list = typeof context === 'string' ? (known.contexts.get(context) ?? []) : [context]
    for (const one of list)
      if (one.length === length && isContext(one)) records.push({ native, context: one, reference })
  }
  await breathe()
  records.sort(compareHosts)
  await breathe()
  return records.filter((record, i) => i === 0 || compareHosts(record, records[i - 1]!) !== 0)
}

/** How many records of one set have gone from another: neither their address nor their context with reference is there any more. */
export function lostHosts(from: readonly HostSet[], to: readonly HostSet[]): number {
  let lost = 0
  for (const old of from) {
    const now = to.find(s => s.encodedFamily === old.encodedFamily && s.tunnelFamily === old.tunnelFamily)
    const natives = new Set(now?.records.map(record => keyOf(record.native)))
    const remotes = new Set(now?.records.map(remoteKeyOf))
    for (const record of old.records)
      if (!natives.has(keyOf(record.native)) && !remotes.has(remoteKeyOf(record))) lost++
  }
  return lost
}

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}

function remoteKeyOf({ context, reference }: HostRecord): string {
  return `${keyOf(context)}+${reference.toString(36)}`
}

export interface NameLookup {
  /** At the first server that answers. `authoritative`: what the server does not answer from its own zones is `elsewhere`. */
  addresses(
    name: Name,
    family: 4 | 6,
    servers: readonly UpstreamServer[],
    wanted?: { authoritative: boolean },
  ): Promise<Looked>
}

export interface HostFinderPorts {
  lookup: NameLookup
  clock: Clock
  /** of /etc/hosts, by name */
  hosts(): ReadonlyMap<string, Uint8Array[]>
  resolvers(): readonly UpstreamServer[]
  onProblem(text: string): void
}

export interface HostsWanted {
  entries: readonly AaEntry[]
  /** where the entries came from */
  zoneServer: UpstreamServer
  /** lookups made before are too old, in milliseconds of the clock */
  freshAfter: number
}

/** What one transfer needs to know beside its entries. */
interface Round extends HostsWanted {
  labels: readonly string[]
  hosts: ReadonlyMap<string, Uint8Array[]>
  resolvers: readonly UpstreamServer[]
}

export class HostFinder {
  readonly #source: AgentSource
  readonly #families: { encoded: readonly (4 | 6)[]; context: readonly (4 | 6)[] }
  readonly #ports: HostFinderPorts
  /** what a name had when it was last known, by family and name */
  readonly #knownNatives = new Map<string, Uint8Array[]>()
  readonly #knownContexts = new Map<string, Uint8Array[]>()
  readonly #lookups = new Map<string, { at: number; found: Promise<Looked> }>()

  constructor(
    source: AgentSource,
    families: { encoded: readonly (4 | 6)[]; context: readonly (4 | 6)[] },
    ports: HostFinderPorts,
  ) {
    this.#source = source
    this.#families = families
    this.#ports = ports
  }

  /** Local names have other addresses now. */
  forget(): void {
    this.#lookups.clear()
  }

  /** One set for each pair of IP versions. Rejects with why the entries are worth nothing. */
  async setsOf(wanted: HostsWanted): Promise<HostSet[]> {
    const { entries } = wanted
    const labels = [...new Set(entries.map(entry => entry.label))]
    const round = { ...wanted, labels, hosts: this.#ports.hosts(), resolvers: this.#ports.resolvers() }
    const local = plainName(this.#source.local)
    const publicName = plainName(this.#source.public)
    const sets: HostSet[] = []
    const contextsOf = new Map<4 | 6, Map<Name, Uint8Array[]>>()
    for (const family of this.#families.context) contextsOf.set(family, await this.#contextsOf(family, round))
    for (const encodedFamily of this.#families.encoded) {
      const natives = await this.#nativesOf(encodedFamily, round)
      for (const [tunnelFamily, contexts] of contextsOf) {
        const records = await matchHosts(entries, { natives, contexts }, tunnelFamily)
        sets.push({ local, public: publicName, encodedFamily, tunnelFamily, hash: hashHosts(records), records })
      }
    }
    return sets
  }

  async #nativesOf(family: 4 | 6, round: Round): Promise<Map<string, Uint8Array>> {
    const { labels, resolvers } = round
    const natives = new Map<string, Uint8Array>()
    const counts = { asked: 0, failed: 0 }
    this.#forgetOld(labels.length)
    const find = async (label: string) => {
      const native = await this.#nativeOf(label, family, round, counts)
      if (native) natives.set(label, native)
    }
    const finds: Promise<void>[] = []
    for (let at = 0; at < labels.length; at += CHUNK) {
      for (const label of labels.slice(at, at + CHUNK)) finds.push(find(label))
      await breathe()
    }
    await Promise.all(finds)
    const isUnasked = resolvers.length === 0 && natives.size === 0 && labels.length > 0
    if (isUnasked || (counts.asked > 0 && counts.failed === counts.asked))
      throw new Error(
        `none of the names below ${formatName(this.#source.local)} could be looked up: ${isUnasked ? 'there is no resolver; name one with -resolver' : `${resolvers.map(r => r.text).join(', ')} did not answer`}`,
      )
    return natives
  }

  async #nativeOf(
    label: string,
    family: 4 | 6,
    round: Round,
    counts: { asked: number; failed: number },
  ): Promise<Uint8Array | undefined> {
    const name = joinNames(nameOfLabels([label])!, this.#source.local)
    if (name === undefined) return undefined
    const written = inOrder(round.hosts.get(plainName(name).toLowerCase()) ?? [], family)
    if (written.length > 0 || round.resolvers.length === 0) return written[0]
    const key = `${family} ${label}`
    counts.asked++
    const found = await this.#ask(key, name, family, round)
    if (typeof found === 'string') {
      counts.failed++
      return this.#knownNatives.get(key)?.[0]
    }
    const right = inOrder(found, family)
    this.#knownNatives.delete(key)
    this.#knownNatives.set(key, right)
    return right[0]
  }

  async #ask(key: string, name: Name, family: 4 | 6, round: Round): Promise<Looked> {
    let lookup = this.#lookups.get(key)
    if (!lookup || lookup.at < round.freshAfter) {
      lookup = {
        at: this.#ports.clock.now(),
        found: this.#ports.lookup.addresses(name, family, round.resolvers),
      }
      this.#lookups.set(key, lookup)
    }
    const found = await lookup.found
    if (typeof found === 'string' && this.#lookups.get(key) === lookup) this.#lookups.delete(key)
    return found
  }

  #forgetOld(labels: number): void {
    const now = this.#ports.clock.now()
    for (const [key, { at }] of this.#lookups) if (now - at > LOOKUP_KEPT_MS) this.#lookups.delete(key)
    trim(this.#knownNatives, this.#families.encoded.length * (2 * labels + KNOWN_SLACK))
  }

  async #contextsOf(family: 4 | 6, round: Round): Promise<Map<Name, Uint8Array[]>> {
    const names = [...new Set(round.entries.flatMap(e => (typeof e.context === 'string' ? [e.context] : [])))]
    const contexts = new Map<Name, Uint8Array[]>()
    trim(this.#knownContexts, this.#families.context.length * (2 * names.length + KNOWN_SLACK))
    await Promise.all(
      names.map(async name => {
        contexts.set(name, inOrder(await this.#contextOf(name, family, round), family))
      }),
    )
    return contexts
  }

  // asked of the server that the zone came from: a special resolver would answer with an encoded address. What that server does not serve, others know
  async #contextOf(name: Name, family: 4 | 6, { zoneServer, resolvers }: Round): Promise<readonly Uint8Array[]> {
    const { lookup, onProblem } = this.#ports
    const key = `${family} ${name}`
    const isOfZone = isAtOrBelow(name, this.#source.public)
    const said = await lookup.addresses(name, family, [zoneServer], { authoritative: true })
    const isElsewhere = said === 'elsewhere' || (said === 'failed' && !isOfZone)
    const found = isElsewhere && resolvers.length > 0 ? await lookup.addresses(name, family, resolvers) : said
    if (typeof found !== 'string') {
      this.#knownContexts.delete(key)
      this.#knownContexts.set(key, found)
      return found
    }
    const problem = `the address of ${formatName(name)} could not be looked up at ${zoneServer.text}`
    if (said === 'failed' && isOfZone) throw new Error(problem)
    // a name of others that is broken must not hold up all hosts
    const known = this.#knownContexts.get(key)
    if (!known) onProblem(`${problem}, nor elsewhere: AA records with it have no effect`)
    return known ?? []
  }
}

// those that were written longest ago
function trim(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return
    map.delete(key)
  }
}

function lengthOf(family: 4 | 6): number {
  return family === 4 ? 4 : 16
}

function inOrder(addresses: readonly Uint8Array[], family: 4 | 6): Uint8Array[] {
  return addresses.filter(address => address.length === lengthOf(family)).sort((a, b) => Buffer.compare(a, b))
}

function breathe(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
