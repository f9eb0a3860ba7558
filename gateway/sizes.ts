/**
 * Which sizes of packets pass a way, found by trying: the largest, then the middle of what is open, until what passes and what does not are near each other.
 *
 *   576 passes ──► 1500? lost ──► 1038? passes ──► 1269? passes ──► … ──► 1380 passes, 1388 does not
 *
 * Pure but for the trying. A size that is lost is tried again, since any packet may be: so many times in a row are taken for no.
 */

/** milliseconds; 'lost' or 'refused': did not pass */
export type Tried = number | 'lost' | 'refused'

export interface Sizes {
  /** the largest that passed */
  passes: number
  /** the smallest that did not; undefined: all do */
  fails: number | undefined
  /** the smallest was refused by our own kernel, not lost */
  isRefused: boolean
}

const TRIES = 3
/** What passes and what does not are told apart so well. */
const NEAR = 4

/** undefined: not even the smallest passes. `from` is the smallest, `to` the largest of interest. */
export async function findSizes(
  attempt: (size: number) => Promise<Tried>,
  { from, to }: { from: number; to: number },
): Promise<Sizes | undefined> {
  const passes = async (size: number): Promise<Tried> => {
    let last: Tried = 'lost'
    for (let tries = 0; tries < TRIES; tries++) {
      last = await attempt(size)
      if (last !== 'lost') break
    }
    return last
  }
  const isYes = (tried: Tried) => typeof tried === 'number'
  const whole = await passes(to)
  if (isYes(whole)) return { passes: to, fails: undefined, isRefused: false }
  if (to <= from || !isYes(await passes(from))) return undefined
  let [low, high, isRefused] = [from, to, whole === 'refused']
  while (high - low > NEAR) {
    const middle = (low + high) >> 1
    const tried = await passes(middle)
    if (isYes(tried)) low = middle
    else [high, isRefused] = [middle, tried === 'refused']
  }
  return { passes: low, fails: high, isRefused }
}
