/**
 * The names of an IprefService, and the bounds that keep one namespace from taking names of others (design.md section 7).
 *
 *   <hostname>.<namespace>.<zone>            the namespace's own; an object may choose its hostname freely
 *   www.example.com, *.shop.example.com      only what the platform team grants to the namespace; * stands for exactly one label
 *   <member>.<name of the object>            members of StatefulSets, under the same bounds
 *   <host>.<peer>.peers.<internal zone>      hosts of peers (decisions.md 29): no namespace called `peers` gets names, and no grant reaches there
 *
 * Where one zone lies inside the other, a name of the outer one never lies in the inner one: it would be nobody's, or pass for another's.
 *
 * Nothing is made lower case here and no dot is taken away: a text that is no name in canonical form is refused, for two texts of one name would be two
 * claims. That object names are bounded by a schema is not relied upon. Conflicts between objects are decided elsewhere, by age. Pure.
 */
import type { Config } from './config.ts'
import type { IprefService } from './kinds.ts'
import { DNS_LABEL, DNS_NAME } from './schema/texts.ts'

export const PEERS = 'peers'
const MAX_NAME = 253

export type NameReason =
  /** not a name in canonical form, or not in its zone */
  | 'InvalidName'
  | 'NameTooLong'
  /** neither the namespace's own nor granted to it */
  | 'NameNotGranted'
  /** the namespace gets no names */
  | 'NamespaceReserved'

export interface NameProblem {
  reason: NameReason
  problem: string
}

export interface Names {
  internal: string
  /** absent: there is no public zone */
  public?: string
}

export type NameConfig = Pick<Config, 'internalZone' | 'publicZone' | 'grants'>

const label = new RegExp(DNS_LABEL)
const wholeName = new RegExp(DNS_NAME)

/** Whole labels are compared. Both in lower case, without a dot at their end. */
export function isAtOrBelow(name: string, ancestor: string): boolean {
  return name === ancestor || name.endsWith(`.${ancestor}`)
}

export function namesOf(
  { metadata, spec }: Pick<IprefService, 'metadata' | 'spec'>,
  config: NameConfig,
): Names | NameProblem {
  const namespace = metadata.namespace ?? ''
  const hostname = spec.hostname ?? metadata.name
  const own = checkOwner(namespace, hostname)
  if (own) return own
  const place = { namespace, config }
  const internal = nameIn(config.internalZone, spec.internalName, hostname, place)
  if (typeof internal !== 'string') return internal
  if (config.publicZone === undefined)
    return spec.publicName === undefined ? { internal } : noPublicZone(spec.publicName)
  const outside = nameIn(config.publicZone, spec.publicName, hostname, place)
  return typeof outside === 'string' ? { internal, public: outside } : outside
}

export function isNameProblem(names: Names | NameProblem): names is NameProblem {
  return 'reason' in names
}

/** The name of a StatefulSet's member below one of the object's names. undefined: too long, or the bounds do not let it. */
export function memberNameOf(
  member: string,
  name: string,
  zone: string,
  place: { namespace: string; config: NameConfig },
): string | undefined {
  if (!label.test(member)) return undefined
  const whole = `${member}.${name}`
  const isBelowOwn = isOwn(name, zone, place.namespace) && checkPlace(whole, zone, place.config) === undefined
  return isBelowOwn || checkName(whole, zone, place) === undefined ? whole : undefined
}

interface Place {
  namespace: string
  config: NameConfig
}

function checkOwner(namespace: string, hostname: string): NameProblem | undefined {
  if (!label.test(namespace))
    return { reason: 'InvalidName', problem: `namespace ${quoted(namespace)} is no DNS label` }
  if (namespace === PEERS)
    return {
      reason: 'NamespaceReserved',
      problem: `namespace ${PEERS} gets no names: hosts of peers have theirs there; use another namespace`,
    }
  if (!label.test(hostname))
    return {
      reason: 'InvalidName',
      problem: `hostname ${quoted(hostname)} is no DNS label of up to 63 lower-case letters, digits and dashes; set spec.hostname`,
    }
  return undefined
}

function nameIn(zone: string, given: string | undefined, hostname: string, place: Place): string | NameProblem {
  const name = given ?? `${hostname}.${place.namespace}.${zone}`
  return checkName(name, zone, place) ?? name
}

function checkName(name: string, zone: string, place: Place): NameProblem | undefined {
  return checkPlace(name, zone, place.config) ?? checkRight(name, zone, place)
}

/** May there be such a name in this zone at all? */
function checkPlace(name: string, zone: string, { internalZone, publicZone }: NameConfig): NameProblem | undefined {
  if (!wholeName.test(name))
    return {
      reason: 'InvalidName',
      problem: `${quoted(name)} is no DNS name in lower case, without a dot at its end`,
    }
  if (name.length > MAX_NAME)
    return { reason: 'NameTooLong', problem: `${name} has ${name.length} characters; at most ${MAX_NAME}` }
  if (!isAtOrBelow(name, zone)) return { reason: 'InvalidName', problem: `${name} is not in zone ${zone}` }
  const inner = [internalZone, publicZone].find(
    other => other !== undefined && other !== zone && isAtOrBelow(other, zone) && isAtOrBelow(name, other),
  )
  if (inner !== undefined)
    return {
      reason: 'NamespaceReserved',
      problem: `${name} would lie in zone ${inner}, which is inside zone ${zone}; use another name or namespace`,
    }
  if (isAtOrBelow(name, `${PEERS}.${internalZone}`))
    return { reason: 'NamespaceReserved', problem: `${name} is among the names of hosts of peers` }
  return undefined
}

function checkRight(name: string, zone: string, { namespace, config }: Place): NameProblem | undefined {
  if (isOwn(name, zone, namespace) || isGranted(name, namespace, config)) return undefined
  return {
    reason: 'NameNotGranted',
    problem: `${name} is not granted to namespace ${namespace}, whose own are HOSTNAME.${namespace}.${zone}; the platform team may grant it`,
  }
}

/** One label below `<namespace>.<zone>`. */
function isOwn(name: string, zone: string, namespace: string): boolean {
  const suffix = `.${namespace}.${zone}`
  return name.endsWith(suffix) && label.test(name.slice(0, -suffix.length))
}

export function isGranted(name: string, namespace: string, { grants }: Pick<NameConfig, 'grants'>): boolean {
  return grants.some(grant => grant.namespace === namespace && grant.names.some(pattern => matches(pattern, name)))
}

function matches(pattern: string, name: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === name
  const suffix = pattern.slice(1)
  return name.endsWith(suffix) && label.test(name.slice(0, -suffix.length))
}

function noPublicZone(name: string): NameProblem {
  return { reason: 'InvalidName', problem: `${quoted(name)}: there is no public zone; leave publicName out` }
}

function quoted(text: string): string {
  const shown = JSON.stringify(text)
  return shown.length > 80 ? `${shown.slice(0, 77)}..."` : shown
}
