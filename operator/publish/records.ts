/**
 * From objects to records. Pure.
 *
 *   IprefService, accepted, not being deleted ──► internal zone: A, AAAA of its native addresses
 *                                            └──► public zone:   TXT "AA <gateway address> + <reference>", one for each reference at each published gateway
 *   IprefPeer ──► internal zone: <host>.<peer>.peers.<internal zone>, A or AAAA of the encoded address
 *
 * What is published equals the status: names, mappings, nothing that is only asked for. A name counts only where the bounds of names.ts still give it to the
 * object, so a grant that was taken away takes its records along. A name has at most 64 AA strings, over at most 4 gateways (decisions.md 22, 23): where there
 * would be more, the last slots are left out, so that every reference that is published is reached through every gateway.
 */
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import type { Config } from '../../resources/config.ts'
import type { IprefGateway, IprefPeer, IprefService, ServiceMapping } from '../../resources/kinds.ts'
import { isAtOrBelow, isNameProblem, memberNameOf, namesOf, PEERS } from '../../resources/names.ts'

export type ZoneKind = 'internal' | 'public'
export const zoneKinds = ['internal', 'public'] as const satisfies readonly ZoneKind[]

export type PublishedType = 'A' | 'AAAA' | 'TXT'

export const recordTypes: Readonly<Record<ZoneKind, readonly PublishedType[]>> = {
  internal: ['A', 'AAAA'],
  public: ['TXT'],
}

/** All records of one name and type. */
export interface RecordSet {
  /** lower case, without a dot at its end */
  name: string
  type: PublishedType
  ttl: number
  /** addresses in canonical text, or the one string of each TXT record; each once */
  values: readonly string[]
}

/** What one object has in each zone. */
export interface ObjectRecords {
  internal: RecordSet[]
  public: RecordSet[]
  /** references that found no room under a name of the public zone */
  leftOut: number
}

/** Where AA records lead. */
export interface PublicGateway {
  name: string
  /** empty: unknown, so never published */
  addresses: readonly string[]
}

export const MOST_AA = 64
export const MOST_GATEWAYS = 4
export const DEFAULT_TTL = 60

export type RecordConfig = Pick<Config, 'internalZone' | 'publicZone' | 'grants'>

export function zoneNameOf(kind: ZoneKind, { internalZone, publicZone }: RecordConfig): string | undefined {
  return kind === 'internal' ? internalZone : publicZone
}

export function zonesOf(config: RecordConfig): Map<ZoneKind, string> {
  const all = zoneKinds.map(kind => [kind, zoneNameOf(kind, config)] as const)
  return new Map(all.filter((one): one is readonly [ZoneKind, string] => one[1] !== undefined))
}

/** Key of a set within its zone. */
export function setKey({ name, type }: Pick<RecordSet, 'name' | 'type'>): string {
  return `${name} ${type}`
}

export function isSameSet(a: RecordSet | undefined, b: RecordSet | undefined): boolean {
  if (!a || !b) return a === b
  if (a.name !== b.name || a.type !== b.type || a.ttl !== b.ttl || a.values.length !== b.values.length) return false
  return a.values.every((value, i) => value === b.values[i])
}

// ---- gateways

/** The first four by name of those that are to be published and whose address is known. */
export function publicGateways(
  gateways: Iterable<IprefGateway>,
  addressesOf: (gateway: IprefGateway) => readonly string[],
): PublicGateway[] {
  const found: PublicGateway[] = []
  for (const gateway of gateways) {
    if (gateway.spec.publish === false || gateway.metadata.deletionTimestamp !== undefined) continue
    const addresses = [...new Set(addressesOf(gateway).flatMap(canonical))].sort(compareAddresses)
    if (addresses.length > 0) found.push({ name: gateway.metadata.name, addresses })
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1)).slice(0, MOST_GATEWAYS)
}

/** IPv4 first. */
function compareAddresses(a: string, b: string): number {
  const [x, y] = [a.includes(':'), b.includes(':')]
  return x === y ? (a < b ? -1 : a > b ? 1 : 0) : x ? 1 : -1
}

function canonical(text: string): string[] {
  const bytes = parseAddress(text)
  return bytes ? [formatAddress(bytes)] : []
}

// ---- services

export function recordsOfService(
  object: IprefService,
  config: RecordConfig,
  gateways: readonly PublicGateway[],
): ObjectRecords {
  const { metadata, status, spec } = object
  const names = namesOf(object, config)
  const isPublished = metadata.deletionTimestamp === undefined && isAccepted(object) && !isNameProblem(names)
  if (!isPublished) return { internal: [], public: [], leftOut: 0 }
  const place = { namespace: metadata.namespace ?? '', config }
  // a name that is asked for now and not settled yet is not published, nor is one that was settled and is not asked for any more
  return recordsUnder(
    {
      internal: status?.internalName === names.internal ? names.internal : undefined,
      public: status?.publicName === names.public ? names.public : undefined,
    },
    {
      mappings: status?.mappings ?? [],
      ttl: spec.ttlSeconds ?? DEFAULT_TTL,
      contexts: contextsOf(gateways),
      nameOf: (member, name, kind) => memberNameOf(member, name, zoneNameOf(kind, config)!, place),
    },
  )
}

export function isAccepted({ status }: IprefService): boolean {
  return status?.conditions?.some(({ type, status: is }) => type === 'Accepted' && is === 'True') === true
}

/** Under the names that its status says, whatever the bounds say now: what may still be out there of an object that is going, or was renamed. */
export function recordsOnceOf(
  { status, spec }: IprefService,
  config: RecordConfig,
  gateways: readonly PublicGateway[],
): ObjectRecords {
  const { internalZone, publicZone } = config
  const whole = (member: string, name: string) => `${member}.${name}`
  const records = recordsUnder(
    {
      internal: within(internalZone, status?.internalName),
      public: within(publicZone, status?.publicName),
    },
    {
      mappings: status?.mappings ?? [],
      ttl: spec.ttlSeconds ?? DEFAULT_TTL,
      contexts: contextsOf(gateways),
      nameOf: whole,
    },
  )
  // what they had is not known any more
  for (const name of status?.formerNames ?? []) {
    const kind = kindOfName(name, config)
    if (kind === undefined || records[kind].some(set => set.name === name)) continue
    for (const type of recordTypes[kind])
      records[kind].push({ name, type, ttl: spec.ttlSeconds ?? DEFAULT_TTL, values: [] })
  }
  return records
}

/** The zone that a name lies in; where one zone lies inside the other, the inner one. undefined: none of them. */
export function kindOfName(name: string, config: RecordConfig): ZoneKind | undefined {
  const around = [...zonesOf(config)].filter(([, zone]) => isAtOrBelow(name, zone))
  return around.sort(([, a], [, b]) => b.length - a.length)[0]?.[0]
}

/** Zones may have been others when the status was written. */
function within(zone: string | undefined, name: string | undefined): string | undefined {
  return zone !== undefined && name !== undefined && isAtOrBelow(name, zone) ? name : undefined
}

interface Published {
  mappings: readonly ServiceMapping[]
  ttl: number
  contexts: readonly string[]
  nameOf(member: string, name: string, kind: ZoneKind): string | undefined
}

function recordsUnder(names: Partial<Record<ZoneKind, string | undefined>>, published: Published): ObjectRecords {
  const { ttl, contexts, nameOf } = published
  const mappings = [...published.mappings].sort((a, b) => a.slot - b.slot || (a.family < b.family ? -1 : 1))
  const records: ObjectRecords = { internal: [], public: [], leftOut: 0 }
  if (mappings.length === 0) return records
  if (names.internal !== undefined)
    for (const [name, of] of groups(names.internal, mappings, (member, above) => nameOf(member, above, 'internal')))
      records.internal.push(...addressSets(name, ttl, of))
  if (names.public === undefined || contexts.length === 0) return records
  for (const [name, of] of groups(names.public, mappings, (member, above) => nameOf(member, above, 'public'))) {
    const { values, leftOut } = aaStrings(of, contexts)
    records.public.push({ name, type: 'TXT', ttl, values })
    if (name === names.public) records.leftOut = leftOut
  }
  return records
}

function contextsOf(gateways: readonly PublicGateway[]): string[] {
  return [...new Set(gateways.flatMap(({ addresses }) => addresses))]
}

/** The name of the object with all mappings, and the names of StatefulSet members with theirs. */
function groups(
  name: string,
  mappings: readonly ServiceMapping[],
  nameOf: (member: string, name: string) => string | undefined,
): Map<string, ServiceMapping[]> {
  const found = new Map([[name, [...mappings]]])
  for (const mapping of mappings) {
    const own = mapping.member === undefined ? undefined : nameOf(mapping.member, name)
    if (own === undefined) continue
    const known = found.get(own)
    if (known) known.push(mapping)
    else found.set(own, [mapping])
  }
  return found
}

function addressSets(name: string, ttl: number, mappings: readonly { address: string }[]): RecordSet[] {
  const addresses = [...new Set(mappings.flatMap(({ address }) => canonical(address)))]
  const of = (type: 'A' | 'AAAA', isIpv6: boolean): RecordSet[] => {
    const values = addresses.filter(address => address.includes(':') === isIpv6)
    return values.length > 0 ? [{ name, type, ttl, values }] : []
  }
  return [...of('A', false), ...of('AAAA', true)]
}

function aaStrings(
  mappings: readonly { reference: string }[],
  contexts: readonly string[],
): { values: string[]; leftOut: number } {
  const references = [...new Set(mappings.map(({ reference }) => reference))]
  const most = Math.max(1, Math.floor(MOST_AA / contexts.length))
  const values = references
    .slice(0, most)
    .flatMap(reference => contexts.map(context => `AA ${context} + ${reference}`))
    .slice(0, MOST_AA)
  return { values, leftOut: Math.max(0, references.length - most) }
}

// ---- peers

/** Hosts of a network that are known without DNS (decisions.md 29). */
export function recordsOfPeer({ metadata, status }: IprefPeer, { internalZone }: RecordConfig): ObjectRecords {
  const records: ObjectRecords = { internal: [], public: [], leftOut: 0 }
  if (metadata.deletionTimestamp !== undefined) return records
  const byName = new Map<string, { address: string }[]>()
  for (const { name, dnsName, encodedAddress } of status?.hosts ?? []) {
    if (dnsName !== `${name}.${metadata.name}.${PEERS}.${internalZone}`) continue
    byName.set(dnsName, [...(byName.get(dnsName) ?? []), { address: encodedAddress }])
  }
  for (const [name, hosts] of byName) records.internal.push(...addressSets(name, DEFAULT_TTL, hosts))
  return records
}
