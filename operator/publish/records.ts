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
import { isNameProblem, memberNameOf, namesOf, PEERS } from '../../resources/names.ts'

export type ZoneKind = 'internal' | 'public'
export const zoneKinds = ['internal', 'public'] as const satisfies readonly ZoneKind[]

export type PublishedType = 'A' | 'AAAA' | 'TXT'

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
  const isPublished = object.metadata.deletionTimestamp === undefined && isAccepted(object)
  return isPublished ? recordsOnceOf(object, config, gateways) : { internal: [], public: [], leftOut: 0 }
}

export function isAccepted({ status }: IprefService): boolean {
  return status?.conditions?.some(({ type, status: is }) => type === 'Accepted' && is === 'True') === true
}

/** The same for an object that is being deleted, or not accepted any more: what may still be out there. */
export function recordsOnceOf(
  object: IprefService,
  config: RecordConfig,
  gateways: readonly PublicGateway[],
): ObjectRecords {
  const names = namesOf(object, config)
  const { status, metadata, spec } = object
  const records: ObjectRecords = { internal: [], public: [], leftOut: 0 }
  if (isNameProblem(names) || !status?.mappings?.length) return records
  const mappings = [...status.mappings].sort((a, b) => a.slot - b.slot || (a.family < b.family ? -1 : 1))
  const ttl = spec.ttlSeconds ?? DEFAULT_TTL
  const place = { namespace: metadata.namespace ?? '', config }
  if (status.internalName === names.internal)
    for (const [name, of] of groups(names.internal, config.internalZone, mappings, place))
      records.internal.push(...addressSets(name, ttl, of))
  const { publicZone } = config
  const contexts = gateways.flatMap(({ addresses }) => addresses)
  if (publicZone === undefined || names.public === undefined || contexts.length === 0) return records
  if (status.publicName !== names.public) return records
  for (const [name, of] of groups(names.public, publicZone, mappings, place)) {
    const { values, leftOut } = aaStrings(of, [...new Set(contexts)])
    records.public.push({ name, type: 'TXT', ttl, values })
    if (name === names.public) records.leftOut = leftOut
  }
  return records
}

/** The name of the object with all mappings, and the names of StatefulSet members with theirs. */
function groups(
  name: string,
  zone: string,
  mappings: readonly ServiceMapping[],
  place: { namespace: string; config: RecordConfig },
): Map<string, ServiceMapping[]> {
  const found = new Map([[name, [...mappings]]])
  for (const mapping of mappings) {
    const own = mapping.member === undefined ? undefined : memberNameOf(mapping.member, name, zone, place)
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
