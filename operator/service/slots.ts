/**
 * Which slot each address has (decisions.md 22). Pure.
 *
 *   1. who has one keeps it, also when it comes back to the one that it left
 *   2. a StatefulSet member has its ordinal, a target of one address slot 0
 *   3. others have the lowest that is free
 *
 * A slot that was left is free again after two TTLs, so that nobody reaches the next pod by an old record; for whoever was there last it is free at once.
 * Whoever finds none waits. An address that a pod took over from another one of the same object keeps its slot and its reference: they belong to the address.
 */
import type { IprefReference, ServiceMapping } from '../../resources/kinds.ts'
import type { PlanInput } from './plan.ts'
import { MOST_SLOTS, type WantedAddress } from './targets.ts'

/** On a claim: who was at its slot until when, `NAME TIME`; of no meaning while the claim is mapped. */
export const LAST_HOLDER = 'ipref.io/last-holder'

export function lastHolderText(holder: string, time: string): string {
  return `${holder} ${time}`
}

export interface Placed extends WantedAddress {
  slot: number
}

type Input = Pick<PlanInput, 'object' | 'own' | 'now'>

/** A StatefulSet member is known by its name, others by their address. */
export function holderNameOf(one: Pick<ServiceMapping, 'address' | 'member'> | undefined): string | undefined {
  return one?.member ?? one?.address
}

/** `waitMs`: until a slot becomes free for those without one. */
export function placeAll(wanted: readonly WantedAddress[], input: Input): { placed: Placed[]; waitMs?: number } {
  const holders = holdersOf(wanted)
  const table = new SlotTable(input)
  for (const [holder, addresses] of holders) table.take(holder, table.currentSlotOf(addresses))
  for (const [holder, addresses] of holders) table.take(holder, table.formerSlotOf(addresses))
  for (const [holder, addresses] of holders) table.take(holder, table.fixedSlotOf(addresses))
  let isWaiting = false
  for (const holder of [...holders.keys()].sort()) if (!table.takeLowest(holder)) isWaiting = true
  const placed = [...holders].flatMap(([holder, addresses]) => {
    const slot = table.slots.get(holder)
    return slot === undefined ? [] : addresses.map(one => ({ ...one, slot }))
  })
  const waitMs = isWaiting ? table.waitMs() : undefined
  return waitMs === undefined ? { placed } : { placed, waitMs }
}

/** Addresses of each holder, one of each IP version. */
function holdersOf(wanted: readonly WantedAddress[]): Map<string, WantedAddress[]> {
  const holders = new Map<string, WantedAddress[]>()
  for (const one of wanted) {
    const known = holders.get(one.holder) ?? []
    if (!known.some(({ family }) => family === one.family)) holders.set(one.holder, [...known, one])
  }
  return holders
}

class SlotTable {
  readonly slots = new Map<string, number>()
  readonly #taken = new Set<number>()
  readonly #now: number
  /** when a slot that somebody has or had is free for others */
  readonly #freeAt = new Map<number, number>()
  /** by name of the holder */
  readonly #current = new Map<string, number>()
  readonly #former = new Map<string, number>()

  constructor({ object, own, now }: Input) {
    this.#now = now
    const twoTtlMs = 2 * (object.spec.ttlSeconds ?? 60) * 1000
    const mapped = object.status?.mappings ?? []
    for (const mapping of mapped) {
      this.#current.set(holderNameOf(mapping)!, mapping.slot)
      this.#freeAt.set(mapping.slot, now + twoTtlMs)
    }
    const inUse = new Set(mapped.map(({ slot }) => slot))
    const left = own.flatMap(claim => (claim.spec.uid === object.metadata.uid ? leavingOf(claim) : []))
    for (const { slot, leftAt } of left)
      this.#freeAt.set(slot, Math.max(this.#freeAt.get(slot) ?? 0, leftAt + twoTtlMs))
    // those of the slot's last days alone: whoever was there before is a stranger again
    for (const { slot, leftAt, holder } of left)
      if (holder !== '' && !inUse.has(slot) && this.#freeAt.get(slot) === leftAt + twoTtlMs)
        this.#former.set(holder, slot)
  }

  take(holder: string, slot: number | undefined): boolean {
    if (slot === undefined || this.#taken.has(slot) || this.slots.has(holder) || this.slots.size >= MOST_SLOTS)
      return false
    this.slots.set(holder, slot)
    this.#taken.add(slot)
    return true
  }

  currentSlotOf(addresses: readonly WantedAddress[]): number | undefined {
    return isAlone(addresses[0]!) ? 0 : slotIn(this.#current, addresses)
  }

  formerSlotOf(addresses: readonly WantedAddress[]): number | undefined {
    return slotIn(this.#former, addresses)
  }

  fixedSlotOf([first]: readonly WantedAddress[]): number | undefined {
    return first?.ordinal !== undefined && this.#isFree(first.ordinal) ? first.ordinal : undefined
  }

  takeLowest(holder: string): boolean {
    if (this.slots.has(holder)) return true
    for (let slot = 0; slot < MOST_SLOTS; slot++) if (this.#isFree(slot)) return this.take(holder, slot)
    return false
  }

  #isFree(slot: number): boolean {
    return !this.#taken.has(slot) && (this.#freeAt.get(slot) ?? 0) <= this.#now
  }

  /** undefined: none will be. */
  waitMs(): number | undefined {
    const times = [...this.#freeAt].flatMap(([slot, freeAt]) =>
      slot < MOST_SLOTS && !this.#taken.has(slot) && freeAt > this.#now ? [freeAt - this.#now] : [],
    )
    return times.length === 0 || this.slots.size >= MOST_SLOTS ? undefined : Math.min(...times)
  }
}

/** None: claimed and never mapped, so nobody knows of it. */
function leavingOf({ metadata, spec }: IprefReference): { slot: number; leftAt: number; holder: string }[] {
  const [holder = '', time = ''] = (metadata.annotations?.[LAST_HOLDER] ?? '').split(' ')
  const leftAt = Math.max(Date.parse(time) || 0, Date.parse(spec.releasedAt ?? '') || 0)
  return leftAt > 0 ? [{ slot: spec.slot, leftAt, holder }] : []
}

/** The target has one address: its slot is what others know it by, whatever was there before. */
function isAlone({ ordinal, member }: WantedAddress): boolean {
  return ordinal !== undefined && member === undefined
}

function slotIn(known: ReadonlyMap<string, number>, addresses: readonly WantedAddress[]): number | undefined {
  return addresses.map(one => known.get(holderNameOf(one)!)).find(slot => slot !== undefined)
}
