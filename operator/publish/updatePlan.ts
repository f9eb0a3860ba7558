/**
 * What to change in a zone that others write too (RFC 2136). Pure.
 *
 *   name as it is there ─┬─ no mark, nothing of our types ──► claim:   mark and records, only if all of that is still so
 *                        ├─ our mark ───────────────────────► change:  what differs, only if the mark is still ours
 *                        │                └─ not wanted ────► release: records, then the mark, only if the mark is still ours
 *                        └─ anything else ──────────────────► conflict: left alone
 *
 * The mark of `www.example.com` is the TXT record `_ipref-owner.www.example.com "ipref-owner=<owner>"`, which stands and falls with the records. Each unit
 * carries its conditions to the server as prerequisites (RFC 2136 section 2.4), so nothing that happens meanwhile is overwritten. Under our mark all A and AAAA
 * records of a name in the internal zone are ours, and in the public zone the TXT records that hold nothing but AA strings; other TXT records beside them stay.
 */
import { Class, Type } from '../../dns/constants.ts'
import { dataOfStrings, type ResourceRecord, stringsOf } from '../../dns/message.ts'
import { type Name, parseName } from '../../dns/name.ts'
import type { OwnedSet } from './desired.ts'
import { type PublishedType, recordTypes, type ZoneKind } from './records.ts'
import { recordsOfSet } from './zoneOf.ts'

export const MARK_LABEL = '_ipref-owner'

/** What is known of one name in the zone. */
export interface NameState {
  /** data of the TXT records at its mark */
  mark: readonly string[]
  sets: Partial<Record<PublishedType, { ttl: number; data: readonly string[] }>>
  /** a CNAME stands there, and so nothing else can */
  isAlias: boolean
}

export const NOTHING: NameState = { mark: [], sets: {}, isAlias: false }

/** What belongs together: all of it is done, or nothing. */
export interface UpdateUnit {
  do: 'claim' | 'change' | 'release'
  name: string
  prerequisites: ResourceRecord[]
  updates: ResourceRecord[]
  /** the name afterwards */
  after: NameState
}

export interface UpdatePlan {
  units: UpdateUnit[]
  /** by name: why it is left alone */
  conflicts: Map<string, string>
}

export function markName(name: string): string {
  return `${MARK_LABEL}.${name}`
}

export function planUpdates({
  kind,
  owner,
  current,
  wanted,
}: {
  kind: ZoneKind
  owner: string
  current: ReadonlyMap<string, NameState>
  /** sets by name */
  wanted: ReadonlyMap<string, readonly OwnedSet[]>
}): UpdatePlan {
  const plan: UpdatePlan = { units: [], conflicts: new Map() }
  const mark = bytesText(dataOfStrings([`ipref-owner=${owner}`]))
  for (const [name, sets] of wanted) {
    const outcome = planName({ kind, mark, name, sets, state: current.get(name) ?? NOTHING })
    if (typeof outcome === 'string') plan.conflicts.set(name, outcome)
    else if (outcome) plan.units.push(outcome)
  }
  for (const [name, state] of current)
    if (!wanted.has(name) && isOnly(state.mark, mark)) {
      const outcome = planName({ kind, mark, name, sets: [], state })
      if (outcome && typeof outcome === 'object') plan.units.push(outcome)
    }
  return plan
}

interface NameInput {
  kind: ZoneKind
  mark: string
  name: string
  sets: readonly OwnedSet[]
  state: NameState
}

/** A text: the conflict. undefined: all is well. */
function planName(input: NameInput): UpdateUnit | string | undefined {
  const { kind, mark, name, state } = input
  const owner = parseName(name)
  const at = parseName(markName(name))
  if (!owner || !at) return `${markName(name)} is too long for a name, so ${name} cannot be marked as ours`
  if (isOnly(state.mark, mark)) return state.isAlias ? aliasConflict(name) : changeOf(input, owner, at)
  if (state.mark.length > 0) return `${name} is marked as another's: ${state.mark.map(shownMark).join(', ')}`
  if (state.isAlias) return aliasConflict(name)
  const taken = recordTypes[kind].find(type => state.sets[type])
  if (taken) return `${name} has ${taken} records that are not ours (no mark at ${markName(name)})`
  return claimOf(input, owner, at)
}

function aliasConflict(name: string): string {
  return `${name} is a CNAME, and nothing can stand beside it`
}

function claimOf({ kind, mark, name, sets }: NameInput, owner: Name, at: Name): UpdateUnit {
  const records = sets.flatMap(set => recordsFor(owner, set))
  return {
    do: 'claim',
    name,
    prerequisites: [
      without(at, Type.TXT),
      ...recordTypes[kind].map(type => without(owner, Type[type])),
      without(owner, Type.CNAME),
    ],
    updates: [present(at, Type.TXT, ttlOf(sets), mark), ...records],
    after: { mark: [mark], sets: setsAfter(sets), isAlias: false },
  }
}

function changeOf({ kind, mark, name, sets, state }: NameInput, owner: Name, at: Name): UpdateUnit | undefined {
  const updates: ResourceRecord[] = []
  const after: NameState = { mark: [mark], sets: {}, isAlias: false }
  for (const type of recordTypes[kind]) {
    const there = state.sets[type]
    const wanted = sets.find(set => set.type === type)
    const data = wanted ? dataOfSet(wanted) : []
    if (there && wanted && there.ttl === wanted.ttl && isSameList(there.data, data)) {
      after.sets[type] = there
      continue
    }
    const foreign = there?.data.filter(one => type === 'TXT' && !isAaData(one)) ?? []
    const ours = there?.data.filter(one => !foreign.includes(one)) ?? []
    // where others' records share the set its TTL is theirs too
    const isOtherTtl = wanted !== undefined && there?.ttl !== wanted.ttl && foreign.length === 0
    const gone = isOtherTtl ? ours : ours.filter(one => !data.includes(one))
    const added = isOtherTtl ? data : data.filter(one => !ours.includes(one))
    for (const one of gone) updates.push(removed(owner, Type[type], one))
    for (const one of added) updates.push(present(owner, Type[type], wanted!.ttl, one))
    const all = [...foreign, ...data]
    if (all.length > 0) after.sets[type] = { ttl: wanted?.ttl ?? there!.ttl, data: all }
  }
  const isReleased = sets.length === 0
  if (isReleased) updates.push(withoutAny(at, Type.TXT))
  if (updates.length === 0) return undefined
  const prerequisites = [{ ...present(at, Type.TXT, 0, mark) }]
  const isDone = isReleased ? { ...after, mark: [] } : after
  return { do: isReleased ? 'release' : 'change', name, prerequisites, updates, after: isDone }
}

function setsAfter(sets: readonly OwnedSet[]): NameState['sets'] {
  return Object.fromEntries(sets.map(set => [set.type, { ttl: set.ttl, data: dataOfSet(set) }]))
}

function recordsFor(name: Name, set: OwnedSet): ResourceRecord[] {
  return dataOfSet(set).map(data => present(name, Type[set.type], set.ttl, data))
}

const texts = new WeakMap<OwnedSet, readonly string[]>()

function dataOfSet(set: OwnedSet): readonly string[] {
  const known = texts.get(set)
  if (known) return known
  const data = recordsOfSet(set).map(record => bytesText(record.data))
  texts.set(set, data)
  return data
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((one, i) => one === b[i]))
}

function ttlOf(sets: readonly OwnedSet[]): number {
  return Math.min(...sets.map(({ ttl }) => ttl))
}

/** Nothing but AA strings. */
export function isAaData(data: string): boolean {
  return stringsOf(Buffer.from(data, 'latin1')).every(text => text.startsWith('AA '))
}

function isOnly(values: readonly string[], value: string): boolean {
  return values.length === 1 && values[0] === value
}

function shownMark(data: string): string {
  return JSON.stringify(stringsOf(Buffer.from(data, 'latin1')).join(' ').slice(0, 80))
}

export function bytesText(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.length).toString('latin1')
}

// ---- records of updates (RFC 2136 sections 2.4 and 2.5)

function present(name: Name, type: number, ttl: number, data: string): ResourceRecord {
  return { name, type, class: Class.IN, ttl, data: Uint8Array.from(Buffer.from(data, 'latin1')) }
}

function removed(name: Name, type: number, data: string): ResourceRecord {
  return { ...present(name, type, 0, data), class: Class.NONE }
}

/** Prerequisite: there is no such set. */
function without(name: Name, type: number): ResourceRecord {
  return { name, type, class: Class.NONE, ttl: 0, data: new Uint8Array() }
}

/** Update: the whole set goes. */
function withoutAny(name: Name, type: number): ResourceRecord {
  return { name, type, class: Class.ANY, ttl: 0, data: new Uint8Array() }
}
