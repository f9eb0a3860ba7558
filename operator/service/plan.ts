/**
 * From what an IprefService wants to what is claimed and mapped. Pure.
 *
 *   wanted addresses ──► slots (slots.ts) ──► a reference each: shared, kept, given, or new ──► claims to make first, then `status.mappings`
 *
 * - A reference belongs to an address (decisions.md 4): what another object maps already is shared. A different one given for it is a conflict, which the older
 *   object wins; without one given, whoever comes to an address takes what is there, so that nobody's reference moves because of somebody else.
 * - References are never changed: a slot has the one that was claimed for it, also by an object of this name that is gone.
 * - A claim that nothing is mapped with is let go, not given away: it waits for its slot, or until the hold time is over where another took its place.
 */
import { referenceOf } from '../../resources/claims.ts'
import type { IprefReference, IprefService, ServiceMapping } from '../../resources/kinds.ts'
import { isNameProblem, type NameProblem, type Names } from '../../resources/names.ts'
import type { Finding } from '../conditions.ts'
import { holderNameOf, type Placed, placeAll } from './slots.ts'
import type { TargetProblem, TargetsFound, WantedAddress } from './targets.ts'

/** An object as people write it: `namespace/name`. */
export type Owner = string
type Family = 'IPv4' | 'IPv6'

export interface PlanInput {
  object: IprefService
  names: Names | NameProblem
  targets: TargetsFound | TargetProblem
  /** IP versions that have an encoding network: others cannot be mapped */
  families: ReadonlySet<Family>
  /** claims in the name of this object, whatever their uid */
  own: readonly IprefReference[]
  /** what other objects map for this address, the oldest first */
  mappedAt(address: string): readonly { reference: string; owner: Owner; isOlder: boolean }[]
  /** addresses that other objects map this reference to */
  addressesOf(reference: string): readonly string[]
  /** the older object that has this name */
  ownerOfName(name: string): Owner | undefined
  /** the oldest object before this one that asks for this reference */
  askerOf(reference: string): Owner | undefined
  /** who holds a reference, if another object; `gone`: the object is no more */
  holderOf(reference: string): { claim: IprefReference; owner: Owner; gone: boolean } | undefined
  /** how long claims that nobody has are kept */
  holdMs: number
  now: number
}

export type ClaimChange =
  /** `reference` absent: any that is free */
  | { do: 'claim'; slot: number; family: Family; reference?: string }
  /** take over a claim that was of an object that is gone, or bring its slot up to date */
  | { do: 'adopt'; claim: IprefReference; slot: number; family: Family }
  /** nobody is at this slot since now; `holder`: who was */
  | { do: 'leave'; claim: IprefReference; holder?: string }
  /** held for long enough */
  | { do: 'forget'; claim: IprefReference }

export type PlannedMapping = Omit<ServiceMapping, 'reference'> & {
  /** index into `changes` where it is still to be claimed */
  reference: string | { claim: number }
}

export interface ServicePlan {
  changes: ClaimChange[]
  mappings: PlannedMapping[]
  /** absent: the object has none */
  names: Names | undefined
  /** `Accepted` and `Resolved` */
  findings: Finding[]
  /** when a slot or a reference becomes free that somebody waits for */
  againMs?: number
}

export function planService(input: PlanInput): ServicePlan {
  const problem = firstProblem(input)
  if (problem) return refusal(problem, input)
  const names = input.names as Names
  const { wanted: all, warning } = input.targets as TargetsFound
  const wanted = all.filter(({ family }) => input.families.has(family))
  if (wanted.length === 0) return refusal(noNetwork(all), input)
  const { placed, waitMs } = placeAll(wanted, input)
  const plan: ServicePlan = { changes: [], mappings: [], names, findings: [] }
  const several = severalAddresses(placed, input)
  if (several) return refusal(several, input)
  const given = givenTo(placed, input)
  for (const one of placed) {
    const refused = referenceFor(one, one === given ? input.object.spec.reference : undefined, input, plan)
    if (refused) return refusal(refused, input)
  }
  plan.mappings.sort((a, b) => a.slot - b.slot || (a.family < b.family ? -1 : 1))
  plan.findings = findingsOf(plan.mappings.length, warning, wanted.length - placed.length)
  return letGo(plan, input, waitMs)
}

// ---- what forbids the whole

interface Refusal extends TargetProblem {
  againMs?: number | undefined
}

function firstProblem({ names, targets, ownerOfName }: PlanInput): TargetProblem | undefined {
  if (isNameProblem(names)) return { type: 'Accepted', reason: names.reason, message: names.problem }
  for (const name of [names.internal, names.public]) {
    const owner = name === undefined ? undefined : ownerOfName(name)
    if (owner)
      return { type: 'Accepted', reason: 'NameConflict', message: `${name} belongs to the older IprefService ${owner}` }
  }
  return 'reason' in targets ? targets : undefined
}

function noNetwork(wanted: readonly WantedAddress[]): TargetProblem {
  const families = [...new Set(wanted.map(({ family }) => family))].sort().join(' and ')
  const message = `the target has only ${families} addresses, and there is no encoding network of that IP version (encodingNetworks)`
  return { type: 'Resolved', reason: 'NoEncodingNetwork', message }
}

function severalAddresses(placed: readonly Placed[], { object }: PlanInput): TargetProblem | undefined {
  if (object.spec.reference === undefined || new Set(placed.map(({ slot }) => slot)).size <= 1) return undefined
  const message = 'a given reference is for a target of one address; this one has several, so leave `reference` out'
  return { type: 'Accepted', reason: 'SeveralAddresses', message }
}

/** Of the addresses of one slot that which has the given reference already, else the first. */
function givenTo(placed: readonly Placed[], { object }: PlanInput): Placed | undefined {
  const before = object.status?.mappings?.find(({ reference }) => reference === object.spec.reference)
  return placed.find(({ address }) => address === before?.address) ?? placed[0]
}

function refusal(problem: Refusal, input: PlanInput): ServicePlan {
  const { names } = input
  const said: Finding = { type: problem.type, status: 'False', reason: problem.reason, message: problem.message }
  const isAccepted = problem.type === 'Resolved'
  const findings: Finding[] = isAccepted
    ? [accepted(), said]
    : [said, { type: 'Resolved', status: 'Unknown', reason: 'NotAccepted', message: 'the object is not accepted' }]
  const shown = isNameProblem(names) || !isAccepted ? undefined : names
  return letGo({ changes: [], mappings: [], names: shown, findings }, input, problem.againMs)
}

function accepted(): Finding {
  return { type: 'Accepted', status: 'True', reason: 'Accepted', message: '' }
}

function findingsOf(mappings: number, warning: TargetProblem | undefined, left: number): Finding[] {
  const resolved: Finding = { type: 'Resolved', status: 'True', reason: 'Resolved', message: '' }
  if (warning?.type === 'Resolved')
    return [accepted(), { ...resolved, status: 'False', reason: warning.reason, message: warning.message }]
  if (warning) return [accepted(), { ...resolved, reason: warning.reason, message: warning.message }]
  if (left === 0) return [accepted(), resolved]
  const message = `${mappings} of ${mappings + left} addresses are published: the others wait for a free slot`
  return [accepted(), { ...resolved, reason: 'WaitingForSlot', message }]
}

// ---- references

/** Adds one mapping and the change that it needs; a problem forbids the whole object. */
function referenceFor(
  one: Placed,
  given: string | undefined,
  input: PlanInput,
  plan: ServicePlan,
): TargetProblem | undefined {
  const shared = sharedAt(one, given, input)
  if (shared) {
    if (given === undefined || given === shared.reference) return map(one, shared.reference, input, plan)
    const message = `${one.address} has the reference ${shared.reference} already, by the older IprefService ${shared.owner}; an address has one`
    return { type: 'Accepted', reason: 'AddressAlreadyReferenced', message }
  }
  if (given !== undefined) return mapGiven(one, given, input, plan)
  const kept = keptClaim(one, input, plan)
  if (typeof kept === 'object') return map(one, referenceOf(kept), input, plan, kept)
  return mapNew(one, kept, plan)
}

function map(one: Placed, reference: string, input: PlanInput, plan: ServicePlan, claim?: IprefReference): undefined {
  const { slot, family } = one
  const found = claim ?? input.own.find(own => referenceOf(own) === reference)
  const spec = found?.spec
  const isOurs = spec?.uid === input.object.metadata.uid && spec?.slot === slot && spec.family === family
  if (found && (!isOurs || spec?.releasedAt !== undefined))
    plan.changes.push({ do: 'adopt', claim: found, slot, family })
  plan.mappings.push(mappingOf(one, reference))
}

function mapNew(one: Placed, reference: string | undefined, plan: ServicePlan): undefined {
  const { slot, family } = one
  const change: ClaimChange = { do: 'claim', slot, family, ...(reference === undefined ? {} : { reference }) }
  plan.mappings.push(mappingOf(one, { claim: plan.changes.push(change) - 1 }))
}

function mappingOf({ slot, family, address, member, ports }: Placed, reference: PlannedMapping['reference']) {
  return {
    ...{ slot, family, address, reference },
    ...(member === undefined ? {} : { member }),
    ...(ports?.length ? { ports: [...ports] } : {}),
  }
}

function mapGiven(one: Placed, given: string, input: PlanInput, plan: ServicePlan): Refusal | undefined {
  const { object, own, holderOf, askerOf, now, holdMs } = input
  if (own.some(claim => referenceOf(claim) === given)) return map(one, given, input, plan)
  const taken = (message: string, againMs?: number): Refusal => ({
    ...{ type: 'Accepted', reason: 'ReferenceTaken', againMs },
    message: `reference ${given} ${message}`,
  })
  const holder = holderOf(given)
  if (holder && !holder.gone) return taken(`belongs to the IprefService ${holder.owner}`)
  const wasShared = object.status?.mappings?.some(({ reference }) => reference === given) === true
  if (holder) {
    const isOurNamespace = holder.claim.spec.namespace === object.metadata.namespace
    const heldMs = (Date.parse(holder.claim.spec.releasedAt ?? '') || now) + holdMs - now
    // others may know it as the host of the one that is gone: no stranger takes its place
    if (!wasShared && !isOurNamespace && heldMs > 0)
      return taken(`is kept for the IprefService ${holder.owner}, which is gone, in case that it comes back`, heldMs)
  }
  const asker = wasShared ? undefined : askerOf(given)
  if (asker) return taken(`is asked for by the older IprefService ${asker}`)
  return holder ? map(one, given, input, plan, holder.claim) : mapNew(one, given, plan)
}

/** What another object maps at this address, if it is ours to share. */
function sharedAt({ address, slot }: Placed, given: string | undefined, input: PlanInput) {
  const others = input.mappedAt(address)
  const older = others.find(({ isOlder }) => isOlder)
  if (older || given !== undefined) return older
  const before = input.object.status?.mappings?.find(mapping => mapping.address === address && mapping.slot === slot)
  return before ? others.find(({ reference }) => reference === before.reference) : others[0]
}

/**
 * The claim whose reference this address has, or had: of the mapping before, else of the slot. A text: the reference that is mapped, whose claim somebody took
 * away.
 */
function keptClaim(one: Placed, input: PlanInput, plan: ServicePlan): IprefReference | string | undefined {
  const { slot, family, address } = one
  const { own, object, holderOf, addressesOf } = input
  const isFree = (claim: IprefReference) =>
    !isMappedIn(plan, referenceOf(claim)) &&
    (claim.spec.uid === object.metadata.uid || addressesOf(referenceOf(claim)).every(other => other === address))
  const before = object.status?.mappings?.find(mapping => mapping.address === address && mapping.slot === slot)
  const same = before && own.find(claim => referenceOf(claim) === before.reference)
  if (same && isFree(same)) return same
  // shared until now, and whoever claimed it is gone: it is ours to keep
  const holder = before && holderOf(before.reference)
  if (holder?.gone && isFree(holder.claim)) return holder.claim
  if (before && !same && !holder && !isMappedIn(plan, before.reference)) return before.reference
  const given = object.spec.reference
  return own
    .filter(claim => claim.spec.slot === slot && claim.spec.family === family && referenceOf(claim) !== given)
    .sort((a, b) => rank(a) - rank(b) || releasedMs(b) - releasedMs(a) || (a.metadata.name < b.metadata.name ? -1 : 1))
    .find(isFree)

  // of those of an object that is gone the last one in use is the one that others know
  function rank({ spec }: IprefReference): number {
    return (spec.uid === object.metadata.uid ? 0 : 2) + (spec.releasedAt === undefined ? 0 : 1)
  }
}

function isMappedIn({ mappings }: ServicePlan, reference: string): boolean {
  return mappings.some(mapping => mapping.reference === reference)
}

function releasedMs({ spec }: IprefReference): number {
  return spec.releasedAt === undefined ? 0 : Date.parse(spec.releasedAt)
}

// ---- claims that nothing is mapped with

function letGo(plan: ServicePlan, input: PlanInput, waitMs: number | undefined): ServicePlan {
  const { own, object, now, holdMs, addressesOf } = input
  const { uid } = object.metadata
  const waits = waitMs === undefined ? [] : [waitMs]
  const mapped = new Set(plan.mappings.map(({ reference }) => reference))
  const served = new Set(plan.mappings.map(({ slot, family }) => `${slot} ${family}`))
  for (const claim of own) {
    const { spec } = claim
    const reference = referenceOf(claim)
    if (mapped.has(reference)) continue
    const inForce = object.status?.mappings?.find(mapping => mapping.reference === reference)
    const leftAt = spec.releasedAt === undefined ? undefined : Date.parse(spec.releasedAt)
    // one that was let go before a crash is in force until now all the same
    if (leftAt === undefined || (inForce && now - leftAt >= 1000)) {
      const holder = holderNameOf(inForce)
      plan.changes.push({ do: 'leave', claim, ...(holder === undefined ? {} : { holder }) })
    }
    // one of this object waits for its slot as long as the object lives, unless another serves the slot
    if (spec.uid === uid && (!served.has(`${spec.slot} ${spec.family}`) || reference === object.spec.reference))
      continue
    const left = (leftAt === undefined || inForce ? now : leftAt) + holdMs - now
    if (left > 0) waits.push(left)
    else if (addressesOf(reference).length === 0) plan.changes.push({ do: 'forget', claim })
  }
  return waits.length === 0 ? plan : { ...plan, againMs: Math.max(1000, Math.min(...waits)) }
}
