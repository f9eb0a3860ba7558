/**
 * Answers as bytes, found by the bytes of the question: a set-associative table of fixed size, so that no flood of names makes it grow.
 *
 *   question in lower case + variant ──hash──► a bucket of eight entries ──► answer, TTLs counted down once a second at most
 *
 * An entry that runs out may be kept for longer as a stale answer (RFC 8767), for when nothing better is to be had.
 */
import { equalsQuestion, hashQuestion, lowerQuestion } from '../../dns/packet.ts'

const WAYS = 8

export interface CachedAnswer {
  readonly key: Uint8Array
  readonly variant: number
  readonly hash: number
  /** the whole message; id and case of the question are the asker's to set */
  readonly bytes: Uint8Array
  readonly ttlAt: readonly number[]
  /** second of the last countdown */
  shownAt: number
  /** seconds, monotonic */
  readonly expires: number
  readonly staleUntil: number
  usedAt: number
}

export class AnswerCache {
  readonly #mask: number
  readonly #entries: (CachedAnswer | undefined)[]
  readonly counts = { hits: 0, misses: 0, stored: 0, evicted: 0 }

  /** `capacity` is rounded up to a power of two; 0: nothing is ever kept */
  constructor(capacity: number) {
    const buckets = capacity === 0 ? 0 : 2 ** Math.max(0, Math.ceil(Math.log2(capacity / WAYS)))
    this.#mask = buckets - 1
    this.#entries = new Array<CachedAnswer | undefined>(buckets * WAYS).fill(undefined)
  }

  get enabled(): boolean {
    return this.#entries.length > 0
  }

  get size(): number {
    return this.#entries.reduce((sum, entry) => sum + (entry ? 1 : 0), 0)
  }

  /** The entry of a question at `start`, with the TTLs of `now`; undefined: none that has not run out. */
  find(bytes: Uint8Array, start: number, end: number, variant: number, now: number): CachedAnswer | undefined {
    const entry = this.#look(bytes, start, end, variant)
    if (!entry || entry.expires <= now) {
      this.counts.misses++
      return undefined
    }
    this.counts.hits++
    entry.usedAt = now
    if (entry.shownAt !== now) countDown(entry, now)
    return entry
  }

  /** One that has run out, but may still be shown. */
  findStale(bytes: Uint8Array, start: number, end: number, variant: number, now: number): CachedAnswer | undefined {
    const entry = this.#look(bytes, start, end, variant)
    return entry && entry.staleUntil > now ? entry : undefined
  }

  /** One that has not run out, without counting it as used. `question`: name, type, class. */
  peek(question: Uint8Array, variant: number, now: number): CachedAnswer | undefined {
    const entry = this.#look(question, 0, question.length, variant)
    return entry && entry.expires > now ? entry : undefined
  }

  #look(bytes: Uint8Array, start: number, end: number, variant: number): CachedAnswer | undefined {
    if (this.#entries.length === 0) return undefined
    const hash = hashQuestion(bytes, start, end, variant)
    const bucket = (hash & this.#mask) * WAYS
    for (let i = bucket; i < bucket + WAYS; i++) {
      const entry = this.#entries[i]
      if (entry && entry.hash === hash && entry.variant === variant && equalsQuestion(entry.key, bytes, start, end))
        return entry
    }
    return undefined
  }

  /** Keeps an answer whose question ends at `questionEnd`. */
  store(answer: {
    bytes: Uint8Array
    questionStart: number
    questionEnd: number
    variant: number
    ttlAt: readonly number[]
    now: number
    ttl: number
    staleFor: number
  }): void {
    const { bytes, questionStart, questionEnd, variant, ttlAt, now, ttl, staleFor } = answer
    if (this.#entries.length === 0 || ttl <= 0) return
    const hash = hashQuestion(bytes, questionStart, questionEnd, variant)
    const entry: CachedAnswer = {
      key: lowerQuestion(bytes, questionStart, questionEnd),
      variant,
      hash,
      bytes,
      ttlAt,
      shownAt: now,
      expires: now + ttl,
      staleUntil: now + ttl + staleFor,
      usedAt: now,
    }
    this.counts.stored++
    this.#entries[this.#slotFor(entry, now)] = entry
  }

  // the same question; else a free one; else one that ran out; else the one not used for longest
  #slotFor(wanted: CachedAnswer, now: number): number {
    const bucket = (wanted.hash & this.#mask) * WAYS
    let best = bucket
    let bestScore = Number.POSITIVE_INFINITY
    for (let i = bucket; i < bucket + WAYS; i++) {
      const entry = this.#entries[i]
      if (entry && entry.hash === wanted.hash && entry.variant === wanted.variant) {
        if (equalsQuestion(entry.key, wanted.key, 0, wanted.key.length)) return i
      }
      const score = !entry ? -2 : entry.staleUntil <= now ? -1 : entry.usedAt
      if (score < bestScore) [best, bestScore] = [i, score]
    }
    if (bestScore >= 0) this.counts.evicted++
    return best
  }

  /** `question`: name, type and class, in lower case. */
  forget(isGone: (question: Uint8Array) => boolean): void {
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[i]
      if (entry && isGone(entry.key)) this.#entries[i] = undefined
    }
  }

  clear(): void {
    this.#entries.fill(undefined)
  }
}

function countDown(entry: CachedAnswer, now: number): void {
  const { bytes } = entry
  const age = now - entry.shownAt
  entry.shownAt = now
  for (const at of entry.ttlAt) {
    const ttl = bytes[at]! * 2 ** 24 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!)
    const left = Math.max(0, ttl - age)
    bytes[at] = left >>> 24
    bytes[at + 1] = left >>> 16
    bytes[at + 2] = left >>> 8
    bytes[at + 3] = left
  }
}
