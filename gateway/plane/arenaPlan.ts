/** How one worker divides its arena. */

import { HOLD_SLOT } from '../forward/echoHold.ts'
import { HEAD_SLOT, MOST_PER_CALL, Output, SCRATCH_PER_CALL } from '../forward/output.ts'
import type { Arena } from '../sys/arena.ts'

/** Packets that wait to be written: enough for several super-packets cut into ordinary segments. */
const OUTPUT_CAPACITY = MOST_PER_CALL + 1024
const SCRATCH = 32 * SCRATCH_PER_CALL
const HELD_FRAGMENTS = 64

export function planOutput(arena: Arena): Output {
  return new Output({
    slots: arena.allocate(OUTPUT_CAPACITY * HEAD_SLOT),
    capacity: OUTPUT_CAPACITY,
    scratch: arena.allocate(SCRATCH),
    scratchLength: SCRATCH,
  })
}

export function planHold(arena: Arena): { hold: number; holdLength: number } {
  const holdLength = HELD_FRAGMENTS * HOLD_SLOT
  return { hold: arena.allocate(holdLength), holdLength }
}

/** Bytes for one of each of the above. */
export const PLAN_BYTES = OUTPUT_CAPACITY * HEAD_SLOT + SCRATCH + HELD_FRAGMENTS * HOLD_SLOT + 4096
