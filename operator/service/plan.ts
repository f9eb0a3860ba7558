/**
 * From what an IprefService wants to what is claimed and mapped. Pure.
 *
 *   wanted addresses ──► slots ──► a reference each: shared, kept, given, or new ──► claims to make first, then `status.mappings`
 *
 * - Slots (decisions.md 22): a StatefulSet member has its ordinal; others keep theirs while they live, and new ones take the lowest that is free. A slot that was
 *   left is free again after two TTLs, so that nobody reaches the next pod by an old record.
 * - A reference belongs to an address (decisions.md 4): what an older object maps already is shared, and a different one given for it is refused.
 * - References are never changed: a slot has the one that was claimed for it, also by an object of this name that is gone.
 */
import { formatReference } from '../../ipref/reference.ts'
import type { IprefReference, IprefService, ServiceMapping } from '../../resources/kinds.ts'
import { isNameProblem, type NameProblem, type Names } from '../../resources/names.ts'
import type { Finding } from '../conditions.ts'
import { MOST_SLOTS, type TargetProblem, type TargetsFound, type WantedAddress } from './targets.ts'

/** An object as people write it: `namespace/name`. */
export type Owner = string

export interface PlanInput {
  object: IprefService
  names: Names | NameProblem
  targets: TargetsFound | TargetProblem
  /** claims in the name of this object, whatever their uid */
  own: readonly IprefReference[]
  /** what an older object maps for this address */
  sharedAt(address: string): { reference: string; owner: Owner } | undefined
  /** the older object that has this name */
  ownerOfName(name: string): Owner | undefined
  /** who holds a reference; `gone`: the object is no more */
  holderOf(reference: string): { claim: IprefReference; owner: Owner; gone: boolean } | undefined
  now: number
}

export type ClaimChange =
  /** `reference` absent: any that is free */
  | { do: 'claim'; slot: number; family: 'IPv4' | 'IPv6'; reference?: string }
  /** take over a claim that was of an object that is gone, or bring its slot up to date */
  | { do: 'adopt'; claim: IprefReference; slot: number; family: 'IPv4' | 'IPv6' }
  /** nobody is at this slot since now */
  | { do: 'leave'; claim: IprefReference }

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
  /** when a slot becomes free that somebody waits for */
  againMs?: number
}

export function planService(input: PlanInput): ServicePlan {
  const problem = firstProblem(input)
  if (problem) return refusal(problem, input)
  const names = input.names as Names
  const { wanted, warning } = input.targets as TargetsFound
  const { placed, waiting } = placeAll(wanted, input)
  const plan: ServicePlan = { changes: [], mappings: [], names, findings: [] }
  for (const one of placed) {
    const refused = referenceFor(one, input, plan)
    if (refused) return refusal(refused, input)
  }
  for (const claim of leftSlots(placed, input)) plan.changes.push({ do: 'leave', claim })
  if (waiting > 0) plan.againMs = waiting
  plan.mappings.sort((a, b) => a.slot - b.slot || (a.family < b.family ? -1 : 1))
  plan.findings = findingsOf(plan.mappings.length, warning, wanted.length - placed.length)
  return plan
}

// ---- what forbids the whole

function firstProblem({ names, targets, ownerOfName }: PlanInput): TargetProblem | undefined {
  if (isNameProblem(names)) return { type: 'Accepted', reason: names.reason, message: names.problem }
  for (const name of [names.internal, names.public]) {
    const owner = name === undefined ? undefined : ownerOfName(name)
    if (owner)
      return { type: 'Accepted', reason: 'NameConflict', message: `${name} belongs to the older IprefService ${owner}` }
  }
  return 'reason' in targets ? targets : undefined
}

function refusal(problem: TargetProblem, { names }: PlanInput): ServicePlan {
  const said: Finding = { type: problem.type, status: 'False', reason: problem.reason, message: problem.message }
  const isAccepted = problem.type === 'Resolved'
  const findings: Finding[] = isAccepted
    ? [accepted(), said]
    : [said, { type: 'Resolved', status: 'Unknown', reason: 'NotAccepted', message: 'the object is not accepted' }]
  return { changes: [], mappings: [], names: isNameProblem(names) || !isAccepted ? undefined : names, findings }
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

// ---- slots

interface Placed extends WantedAddress {
  slot: number
}

/** `waiting`: milliseconds until a slot becomes free for those without one; 0: none waits. */
function placeAll(wanted: readonly WantedAddress[], input: PlanInput): { placed: Placed[]; waiting: number } {
  const holders = new Map<string, WantedAddress[]>()
  for (const one of wanted) holders.set(one.holder, [...(holders.get(one.holder) ?? []), one])
  const slots = new Map<string, number>()
  const taken = new Set<number>()
  const take = (holder: string, slot: number | undefined) => {
    if (slot === undefined || taken.has(slot) || slots.has(holder)) return
    slots.set(holder, slot)
    taken.add(slot)
  }
  const before = new Map((input.object.status?.mappings ?? []).map(mapping => [mapping.address, mapping.slot]))
  for (const [holder, [first]] of holders) take(holder, first!.ordinal)
  for (const [holder, addresses] of holders)
    take(
      holder,
      addresses.map(({ address }) => before.get(address)).find(slot => slot !== undefined),
    )
  const frees = freeTimes(input)
  let waiting = 0
  for (const holder of [...holders.keys()].sort()) {
    if (slots.has(holder)) continue
    const slot = lowestFree(taken, frees, input.now)
    if (slot !== undefined) take(holder, slot)
    else waiting = Math.max(1000, Math.min(...frees.values()) - input.now)
  }
  const placed = wanted.flatMap(one => {
    const slot = slots.get(one.holder)
    return slot === undefined ? [] : [{ ...one, slot }]
  })
  return { placed, waiting }
}

// slots that were left, some of them just now: when they are free again
function freeTimes({ own, object, now }: PlanInput): Map<number, number> {
  const ttl = (object.spec.ttlSeconds ?? 60) * 1000
  const mapped = new Set((object.status?.mappings ?? []).map(mapping => mapping.slot))
  const times = new Map<number, number>()
  for (const { spec } of own) {
    if (spec.uid !== object.metadata.uid) continue
    const left = spec.releasedAt ? Date.parse(spec.releasedAt) : mapped.has(spec.slot) ? now : 0
    times.set(spec.slot, Math.max(times.get(spec.slot) ?? 0, left + 2 * ttl))
  }
  return times
}

function lowestFree(taken: ReadonlySet<number>, frees: ReadonlyMap<number, number>, now: number): number | undefined {
  for (let slot = 0; slot < MOST_SLOTS; slot++) if (!taken.has(slot) && (frees.get(slot) ?? 0) <= now) return slot
  return undefined
}

function leftSlots(placed: readonly Placed[], { own, object }: PlanInput): IprefReference[] {
  const used = new Set(placed.map(({ slot, family }) => `${slot} ${family}`))
  return own.filter(
    ({ spec }) =>
      spec.uid === object.metadata.uid && spec.releasedAt === undefined && !used.has(`${spec.slot} ${spec.family}`),
  )
}

// ---- references

/** Adds one mapping and the claim that it needs; a problem forbids the whole object. */
function referenceFor(one: Placed, input: PlanInput, plan: ServicePlan): TargetProblem | undefined {
  const { slot, family, address, member, ports } = one
  const given = input.object.spec.reference
  const map = (reference: PlannedMapping['reference']) => {
    plan.mappings.push({
      slot,
      family,
      address,
      reference,
      ...(member === undefined ? {} : { member }),
      ...(ports?.length ? { ports: [...ports] } : {}),
    })
    return undefined
  }
  const change = (wanted: ClaimChange) => plan.changes.push(wanted) - 1
  const shared = input.sharedAt(address)
  if (shared) {
    if (given === undefined || given === shared.reference) return map(shared.reference)
    const message = `${address} has the reference ${shared.reference} already, by the older IprefService ${shared.owner}; an address has one`
    return { type: 'Accepted', reason: 'AddressAlreadyReferenced', message }
  }
  const kept = keptClaim(one, input)
  if (kept && (given === undefined || given === referenceOf(kept))) {
    const { spec } = kept
    const isOurs = spec.uid === input.object.metadata.uid && spec.slot === slot && spec.family === family
    if (!isOurs || spec.releasedAt !== undefined) change({ do: 'adopt', claim: kept, slot, family })
    return map(referenceOf(kept))
  }
  if (given === undefined) return map({ claim: change({ do: 'claim', slot, family }) })
  const holder = input.holderOf(given)
  if (holder && !holder.gone) {
    const message = `reference ${given} belongs to the IprefService ${holder.owner}`
    return { type: 'Accepted', reason: 'ReferenceTaken', message }
  }
  if (plan.mappings.length > 0) {
    const message = 'a given reference is for a target of one address; this one has several, so leave `reference` out'
    return { type: 'Accepted', reason: 'SeveralAddresses', message }
  }
  if (holder) change({ do: 'adopt', claim: holder.claim, slot, family })
  return map(holder ? given : { claim: change({ do: 'claim', slot, family, reference: given }) })
}

/** The claim whose reference this address has, or had: of the mapping before, else of the slot. */
function keptClaim(
  { slot, family, address }: Placed,
  { own, object, holderOf }: PlanInput,
): IprefReference | undefined {
  const before = object.status?.mappings?.find(mapping => mapping.address === address && mapping.slot === slot)
  const ofSlot = own.filter(({ spec }) => spec.slot === slot && spec.family === family)
  if (!before) return ofSlot.find(({ spec }) => spec.uid === object.metadata.uid) ?? ofSlot[0]
  const same = ofSlot.find(claim => referenceOf(claim) === before.reference)
  if (same) return same
  // shared until now, and whoever claimed it is gone: it is ours to keep
  const holder = holderOf(before.reference)
  return holder?.gone ? holder.claim : ofSlot[0]
}

export function referenceOf(claim: IprefReference): string {
  return formatReference(BigInt(`0x${claim.metadata.name}`))
}

export function nameOfClaim(reference: bigint): string {
  return reference.toString(16)
}
