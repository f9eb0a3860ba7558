/** Mappings as records of the stream, and back: expiry as seconds that are left. Pure. */
import type { SavedMapping } from '../mapper/store.ts'
import { MOST_RECORDS, type UplinkRecord } from './uplinkProtocol.ts'

export function recordOf({ kind, local, context, reference, expires }: SavedMapping, unixNow: number): UplinkRecord {
  return { do: 'save', kind, local, context, reference, left: Math.max(0, Math.floor(expires - unixNow)) }
}

export function mappingOf({ kind, local, context, reference, left }: UplinkRecord, unixNow: number): SavedMapping {
  return { kind, local, context, reference, expires: Math.floor(unixNow) + left }
}

export function keyOf({ kind, local }: Pick<SavedMapping, 'kind' | 'local'>): string {
  return `${kind} ${local.join()}`
}

/** In portions of one frame each. Read as it is asked for: what changes meanwhile is in it as it is then. */
export function* portionsOf(mappings: Iterable<SavedMapping>, unixNow: () => number): Generator<UplinkRecord[]> {
  let portion: UplinkRecord[] = []
  for (const mapping of mappings) {
    portion.push(recordOf(mapping, unixNow()))
    if (portion.length < MOST_RECORDS) continue
    yield portion
    portion = []
  }
  if (portion.length > 0) yield portion
}
