/**
 * Zones as name servers have them: the sets of one zone with its SOA and NS records, in an order that depends on nothing else. Pure but for what it remembers.
 *
 * What one set looks like as records and as text is kept with the set, and a zone is made of the one before where little changed: at 10,000 objects
 * one of them changes all the time.
 */
import { createHash } from 'node:crypto'
import { Class, Type } from '../../dns/constants.ts'
import { dataOfStrings, encodeSoa, type ResourceRecord } from '../../dns/message.ts'
import { type Name, nameToBytes, parseName } from '../../dns/name.ts'
import { Zone } from '../../dns/zone.ts'
import { formatZone } from '../../dns/zoneText.ts'
import { parseAddress } from '../../ipref/address.ts'
import type { DesiredZone, OwnedSet } from './desired.ts'
import type { RecordSet } from './records.ts'

/** Negative answers are kept no longer than this, so that a name that was asked for too early is soon seen. */
export const NEGATIVE_TTL = 10
const APEX_TTL = 3600
const SOA_TIMES = { refresh: 3600, retry: 600, expire: 604_800, minimum: NEGATIVE_TTL } as const
/** More changes than this, and a zone is made anew. */
const MOST_CHANGES = 1000

const made = new WeakMap<RecordSet, readonly ResourceRecord[]>()
const written = new WeakMap<RecordSet, string>()

/** The records of one set. */
export function recordsOfSet(set: RecordSet): readonly ResourceRecord[] {
  const known = made.get(set)
  if (known) return known
  const name = parseName(set.name)!
  const type = Type[set.type]
  const records = set.values.map(value => ({
    name,
    type,
    class: Class.IN,
    ttl: set.ttl,
    data: dataOf(set.type, value),
  }))
  made.set(set, records)
  return records
}

function textOfSet(set: RecordSet): string {
  const known = written.get(set)
  if (known !== undefined) return known
  const text = formatZone(recordsOfSet(set))
  written.set(set, text)
  return text
}

export function dataOf(type: RecordSet['type'], value: string): Uint8Array {
  return type === 'TXT' ? dataOfStrings([value]) : parseAddress(value)!
}

/** SOA, with serial 0, and NS records. */
function apexOf(zone: string, nameServers: readonly string[]): ResourceRecord[] {
  const name = parseName(zone)!
  const servers = nameServers.length > 0 ? nameServers : [`ns.${zone}`]
  const mailbox = parseName(`hostmaster.${zone}`) ?? name
  const soa = encodeSoa({ primary: parseName(servers[0]!)!, mailbox, serial: 0, ...SOA_TIMES })
  const apex = { name, class: Class.IN, ttl: APEX_TTL }
  return [
    { ...apex, type: Type.SOA, data: soa },
    ...servers.map(server => ({ ...apex, type: Type.NS, data: nameToBytes(parseName(server)!) })),
  ]
}

/** As text, and what stands for its content: equal for equal zones, whatever their serial. */
export interface WrittenZone {
  hash: string
  /** with this serial */
  text(serial: number): string
}

export function writeZone({ zone, sets }: DesiredZone, nameServers: readonly string[]): WrittenZone {
  const [soa, ...servers] = apexOf(zone, nameServers) as [ResourceRecord, ...ResourceRecord[]]
  const rest = [formatZone(servers), ...[...sets.keys()].sort().map(key => textOfSet(sets.get(key)!))].join('')
  const hash = createHash('sha256')
    .update(formatZone([soa]))
    .update(rest)
    .digest('base64')
  return { hash, text: serial => formatZone([withSerial(soa, serial)]) + rest }
}

function withSerial(soa: ResourceRecord, serial: number): ResourceRecord {
  const data = Uint8Array.from(soa.data)
  new DataView(data.buffer).setUint32(data.length - 20, serial)
  return { ...soa, data }
}

/** Makes zones of one kind, each of the one before where that is less work. Serials are 0. */
export class ZoneMaker {
  readonly #nameServers: readonly string[]
  #last: { from: DesiredZone; zone: Zone } | undefined

  constructor(nameServers: readonly string[]) {
    this.#nameServers = nameServers
  }

  /** Refuses nothing that records.ts makes; what is wrong all the same is named. */
  make(from: DesiredZone): { zone: Zone } | { problem: string } {
    if (this.#last?.from === from) return this.#last
    const zone = this.#changed(from) ?? this.#anew(from)
    if (!(zone instanceof Zone)) return zone
    this.#last = { from, zone }
    return this.#last
  }

  #changed(from: DesiredZone): Zone | undefined {
    if (this.#last?.from.zone !== from.zone) return undefined
    const { sets } = this.#last.from
    const names = new Set<string>()
    for (const [key, set] of from.sets) if (sets.get(key) !== set) names.add(set.name)
    for (const [key, set] of sets) if (!from.sets.has(key)) names.add(set.name)
    if (names.size > MOST_CHANGES) return undefined
    const changes = new Map<Name, ResourceRecord[]>()
    for (const name of names) changes.set(parseName(name)!, [...setsAt(name, from)].flatMap(recordsOfSet))
    return this.#last.zone.withRecords(changes)
  }

  #anew({ zone, sets }: DesiredZone): Zone | { problem: string } {
    const records = apexOf(zone, this.#nameServers)
    for (const key of [...sets.keys()].sort()) records.push(...recordsOfSet(sets.get(key)!))
    const { zone: whole, problems } = Zone.from(parseName(zone)!, records)
    return whole ?? { problem: problems[0]!.problem }
  }
}

function* setsAt(name: string, { sets }: DesiredZone): Iterable<OwnedSet> {
  for (const type of ['A', 'AAAA', 'TXT']) {
    const set = sets.get(`${name} ${type}`)
    if (set) yield set
  }
}
