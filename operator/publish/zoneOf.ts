/** Zones as name servers have them: the sets of one zone with its SOA and NS records, in an order that depends on nothing else. Pure. */
import { Class, Type } from '../../dns/constants.ts'
import { dataOfStrings, encodeSoa, type ResourceRecord } from '../../dns/message.ts'
import { nameToBytes, parseName } from '../../dns/name.ts'
import { Zone } from '../../dns/zone.ts'
import { parseAddress } from '../../ipref/address.ts'
import type { DesiredZone } from './desired.ts'
import type { RecordSet } from './records.ts'

/** Negative answers are kept no longer than this, so that a name that was asked for too early is soon seen. */
export const NEGATIVE_TTL = 60
const APEX_TTL = 3600
const SOA_TIMES = { refresh: 3600, retry: 600, expire: 604_800, minimum: NEGATIVE_TTL } as const

const made = new WeakMap<RecordSet, readonly ResourceRecord[]>()

/** The records of one set. */
export function recordsOfSet(set: RecordSet): readonly ResourceRecord[] {
  let records = made.get(set)
  if (!records) {
    const name = parseName(set.name)!
    const type = Type[set.type]
    records = set.values.map(value => ({ name, type, class: Class.IN, ttl: set.ttl, data: dataOf(set.type, value) }))
    made.set(set, records)
  }
  return records
}

export function dataOf(type: RecordSet['type'], value: string): Uint8Array {
  return type === 'TXT' ? dataOfStrings([value]) : parseAddress(value)!
}

/** With serial 0. Rejects nothing that records.ts makes; what is wrong all the same is named. */
export function zoneOf(
  { zone, sets }: DesiredZone,
  nameServers: readonly string[],
): { zone: Zone } | { problem: string } {
  const origin = parseName(zone)!
  const servers = nameServers.length > 0 ? nameServers : [`ns.${zone}`]
  const soa = encodeSoa({
    primary: parseName(servers[0]!)!,
    mailbox: parseName(`hostmaster.${zone}`) ?? origin,
    serial: 0,
    ...SOA_TIMES,
  })
  const apex = { name: origin, class: Class.IN, ttl: APEX_TTL }
  const records: ResourceRecord[] = [{ ...apex, type: Type.SOA, data: soa }]
  for (const server of servers) records.push({ ...apex, type: Type.NS, data: nameToBytes(parseName(server)!) })
  for (const key of [...sets.keys()].sort()) records.push(...recordsOfSet(sets.get(key)!))
  const { zone: whole, problems } = Zone.from(origin, records)
  return whole ? { zone: whole } : { problem: problems[0]!.problem }
}
