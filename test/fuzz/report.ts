/**
 * What a fuzzer promises, what it counted, and how it ends.
 *
 *   target                    outcome                        messages
 *   codec                     read                             214077
 *                             truncated                        301882
 *   PROBLEM codec: nothing throws: TypeError …  bytes 1234…
 *   9 passed, 1 failed, 0 skipped                 (properties; exit code 1; the seed is printed with every failure)
 */
const MOST_SHOWN = 10
/** of one property */
const MOST_ALIKE = 3
const MOST_HEX = 4000
const TARGET_WIDTH = 30

/** What became of the messages to one target. Received is counted where they go in, outcomes where they come out. */
export class Tally {
  received = 0
  readonly outcomes = new Map<string, number>()

  count(outcome: string): void {
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1)
  }

  get accounted(): number {
    return [...this.outcomes.values()].reduce((sum, count) => sum + count, 0)
  }
}

export class Report {
  readonly seed: number
  readonly #tallies = new Map<string, Tally>()
  readonly #properties = new Map<string, string[]>()
  readonly #started = performance.now()
  problems = 0

  constructor(seed: number) {
    this.seed = seed
  }

  tally(target: string): Tally {
    const known = this.#tallies.get(target)
    if (known) return known
    const tally = new Tally()
    this.#tallies.set(target, tally)
    return tally
  }

  /** Properties that are looked at from now on. */
  promise(...properties: readonly string[]): void {
    for (const property of properties) if (!this.#properties.has(property)) this.#properties.set(property, [])
  }

  /** `bytes`: the message that shows it. */
  broken(property: string, what: string, bytes?: Uint8Array): void {
    this.promise(property)
    this.problems++
    const hex = bytes && Buffer.from(bytes).toString('hex')
    const shown = hex && hex.length > MOST_HEX ? `${hex.slice(0, MOST_HEX)}… (${bytes.length} bytes)` : hex
    this.#properties.get(property)!.push(`${property}: ${what}${shown === undefined ? '' : `\n        bytes ${shown}`}`)
  }

  /** Enough is known. */
  get isHopeless(): boolean {
    return this.problems >= MOST_SHOWN
  }

  /** Each of these outcomes of a target was met. Not asked of a run that ended early. */
  requireOutcomes(target: string, wanted: readonly string[]): void {
    if (this.isHopeless) return
    const property = `${target}: every outcome was met`
    this.promise(property)
    const missing = wanted.filter(outcome => !this.tally(target).outcomes.has(outcome))
    if (missing.length > 0) this.broken(property, `never met: ${missing.join(', ')}`)
  }

  /** Prints everything; the exit code. */
  end(): number {
    this.#sums()
    console.log(`\n${'target'.padEnd(TARGET_WIDTH)}${'outcome'.padEnd(56)}messages`)
    for (const [target, tally] of this.#tallies) {
      const sorted = [...tally.outcomes].sort((a, b) => b[1] - a[1])
      for (const [i, [outcome, count]] of sorted.entries())
        console.log(`${(i === 0 ? target : '').padEnd(TARGET_WIDTH)}${outcome.slice(0, 55).padEnd(56)}${count}`)
    }
    const received = [...this.#tallies.values()].reduce((sum, tally) => sum + tally.received, 0)
    const seconds = (performance.now() - this.#started) / 1000
    console.log(
      `\nreceived ${received} messages in ${seconds.toFixed(1)} s, ${Math.round(received / seconds)} a second`,
    )
    for (const problems of this.#properties.values())
      for (const problem of problems.slice(0, MOST_ALIKE)) console.log(`PROBLEM ${problem}`)
    const failed = [...this.#properties.values()].filter(problems => problems.length > 0).length
    if (failed > 0) console.log(`${this.problems} problems; repeat with --seed ${this.seed}`)
    console.log(`${this.#properties.size - failed} passed, ${failed} failed, 0 skipped`)
    return failed === 0 ? 0 : 1
  }

  #sums(): void {
    for (const [target, { received, accounted }] of this.#tallies) {
      const property = `${target}: received = the sum of the outcomes`
      this.promise(property)
      if (received !== accounted) this.broken(property, `${received} received, but ${accounted} accounted for`)
    }
  }
}
