/**
 * Where a program ends: at its n-th write, whichever door it goes through, just before it, or just after, when nobody hears of it any more.
 *
 *   program ──► CrashingStore (storeWrappers.ts) ──► API server
 *          └──► DnsRelay (dnsRelay.ts) ───────────► DNS server      both ask one CrashPoint
 *
 * The program itself runs on until the test stops it: from that write on nothing of it gets through.
 */
export type When = 'before' | 'after'

export class CrashPoint {
  #at: number
  #when: When
  #counts: (what: string) => boolean = () => true
  writes = 0
  hasEnded = false
  /** the write that was its last */
  last: string | undefined

  constructor(at = Number.POSITIVE_INFINITY, when: When = 'before') {
    this.#at = at
    this.#when = when
  }

  /** Writes are counted from now, those that `counts` says. */
  arm(at: number, when: When, counts: (what: string) => boolean = () => true): void {
    this.#at = at
    this.#when = when
    this.#counts = counts
    this.writes = 0
  }

  async write<Result>(what: string, run: () => Promise<Result>): Promise<Result> {
    if (this.hasEnded) throw new Error('the program has ended')
    const isLast = this.#counts(what) && ++this.writes === this.#at
    if (isLast) {
      this.hasEnded = true
      this.last = what
    }
    if (isLast && this.#when === 'before') throw new Error('the program ends')
    const result = await run()
    // others of its writes may have been on their way
    if (this.hasEnded) throw new Error('the program has ended')
    return result
  }
}
