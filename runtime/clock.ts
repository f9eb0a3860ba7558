/** Time as an argument: programs are given the system's clock, tests one that they move by hand. */
export interface Clock {
  /** milliseconds since 1970 */
  now(): number
  /** Runs once after `ms`; the result calls it off. */
  after(ms: number, run: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, Math.min(ms, 0x7fffffff))
    return () => clearTimeout(timer)
  },
}

/** Milliseconds since an arbitrary moment: what sets the wall clock does not move it. */
export const monotonicClock: Clock = { now: () => performance.now(), after: systemClock.after }

/** RFC 3339 without fractions, as Kubernetes writes times. */
export function timestamp(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`
}
