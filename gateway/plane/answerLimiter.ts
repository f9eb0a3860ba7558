/**
 * How many ICMP errors one worker makes of its own: token buckets, one for each destination and one for all.
 *
 * RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8. The bucket for all is refilled by an unpredictable amount, so
 * that counting answers tells an outsider nothing about traffic that is not his (CVE-2020-25705). Destinations share 1024
 * buckets by hash: two that meet are limited together, which is the safe side.
 */
const BUCKETS = 1024
/** answers to one destination: how many at once, how many a second */
const EACH = { burst: 20, rate: 10 }
const ALL = { burst: 400, rate: 400 }

export class AnswerLimiter {
  readonly #tokens = new Float64Array(BUCKETS).fill(EACH.burst)
  readonly #filled = new Float64Array(BUCKETS)
  readonly #seed: number
  readonly #random32: () => number
  #all: number = ALL.burst
  #allFilled = 0
  /** milliseconds, monotonic; set before each batch */
  nowMs = 0

  constructor(random32: () => number) {
    this.#random32 = random32
    this.#seed = random32() | 1
  }

  mayAnswer(a0: number, a1: number, a2: number, a3: number): boolean {
    const bucket = (Math.imul(a0 ^ Math.imul(a1, 31) ^ Math.imul(a2, 131) ^ a3, this.#seed) >>> 8) & (BUCKETS - 1)
    const passed = (this.nowMs - this.#filled[bucket]!) / 1000
    if (passed > 0) {
      this.#tokens[bucket] = Math.min(EACH.burst, this.#tokens[bucket]! + passed * EACH.rate)
      this.#filled[bucket] = this.nowMs
    }
    if (this.#tokens[bucket]! < 1 || !this.#takeFromAll()) return false
    this.#tokens[bucket]! -= 1
    return true
  }

  #takeFromAll(): boolean {
    const passed = (this.nowMs - this.#allFilled) / 1000
    if (passed >= 0.05) {
      const jitter = 0.5 + (this.#random32() & 0xff) / 255
      this.#all = Math.min(ALL.burst, this.#all + passed * ALL.rate * jitter)
      this.#allFilled = this.nowMs
    }
    if (this.#all < 1) return false
    this.#all -= 1
    return true
  }
}
