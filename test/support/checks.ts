/**
 * Checks that print one line each, for tests of whole networks: `ok`, `FAIL` with what was found, or `skip` with the reason.
 *
 *   ok    4→6 over IPv4: ping                                     0.2 s
 *   FAIL  4→6 over IPv4: traceroute                               2.0 s
 *           expected 5 hops, found 3
 *
 * A failed check does not end the run. The last line is for programs: `N passed, N failed, N skipped`.
 */
const NAME_WIDTH = 66

export interface Tally {
  passed: number
  failed: number
  skipped: number
}

export class Checks {
  readonly tally: Tally = { passed: 0, failed: 0, skipped: 0 }
  readonly #print: (line: string) => void

  constructor(print: (line: string) => void) {
    this.#print = print
  }

  /** Passes unless `look` throws. What it resolves to is shown behind the name. */
  async check(name: string, look: () => Promise<string | undefined>): Promise<boolean> {
    const started = performance.now()
    const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`
    try {
      const found = await look()
      this.tally.passed++
      this.#print(`ok    ${name.padEnd(NAME_WIDTH)} ${seconds()}${found ? `  ${found}` : ''}`)
      return true
    } catch (error) {
      this.tally.failed++
      this.#print(`FAIL  ${name.padEnd(NAME_WIDTH)} ${seconds()}`)
      for (const line of (error as Error).message.split('\n')) this.#print(`        ${line}`)
      return false
    }
  }

  skip(name: string, reason: string): void {
    this.tally.skipped++
    this.#print(`skip  ${name.padEnd(NAME_WIDTH)} ${reason}`)
  }

  summary(): string {
    const { passed, failed, skipped } = this.tally
    return `${passed} passed, ${failed} failed, ${skipped} skipped`
  }
}

/** Throws with both values when `found` is not what was expected. */
export function expectSame<T extends string | number | boolean | undefined>(what: string, found: T, expected: T): void {
  if (found !== expected) throw new Error(`${what}: expected ${String(expected)}, found ${String(found)}`)
}

export function expectThat(condition: boolean, otherwise: string): void {
  if (!condition) throw new Error(otherwise)
}
