/**
 * Who may ask: prefixes that are served, and how much those may ask that are not on private addresses (RFC 5358; response rate limiting as name
 * servers do it: by network of the asker, one answer in a few sent cut, so that an honest asker goes on over TCP).
 */
import { formatAddress, isLoopback, type Prefix, parsePrefix, prefixContains } from '../../ipref/address.ts'

/** Loopback, link-local, private (RFC 1918, RFC 6598) and unique local addresses (RFC 4193). */
export const localPrefixes: readonly Prefix[] = [
  '127.0.0.0/8',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '169.254.0.0/16',
  '::1/128',
  'fc00::/7',
  'fe80::/10',
].map(text => parsePrefix(text)!)

export const Access = { allowed: 0, refused: 1, slip: 2, drop: 3 } as const

const MOST_NETWORKS = 10_000
const SLIP = 2
const WINDOW_S = 1

interface Bucket {
  second: number
  used: number
}

export class AccessList {
  readonly #allowed: readonly Prefix[]
  readonly #limit: number
  readonly #networks = new Map<string, Bucket>()
  readonly #last4 = { address: -1, verdict: Access.refused as number, isLocal: false }
  #slip = 0

  /** `limit`: answers a second for each network of askers that are not local; 0: no limit */
  constructor(allowed: readonly Prefix[], limit: number) {
    this.#allowed = allowed
    this.#limit = limit
  }

  /** May this address (4 or 16 bytes at `at`) have an answer now? */
  judge(bytes: Uint8Array, at: number, length: number, second: number): number {
    if (length === 4) {
      const address = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
      const last = this.#last4
      if (last.address !== address || address === -1) {
        const plain = bytes.slice(at, at + 4)
        last.address = address
        last.verdict = this.#isAllowed(plain) ? Access.allowed : Access.refused
        last.isLocal = isLocal(plain)
      }
      if (last.isLocal && last.verdict === Access.allowed) return Access.allowed
      return this.#meter(bytes.slice(at, at + 4), last.verdict, second)
    }
    const plain = bytes.slice(at, at + 16)
    const verdict = this.#isAllowed(plain) ? Access.allowed : Access.refused
    if (verdict === Access.allowed && isLocal(plain)) return verdict
    return this.#meter(plain, verdict, second)
  }

  #isAllowed(address: Uint8Array): boolean {
    return this.#allowed.some(prefix => prefixContains(prefix, address))
  }

  #meter(address: Uint8Array, verdict: number, second: number): number {
    if (this.#limit === 0) return verdict
    const key = address.length === 4 ? address.subarray(0, 3).join('.') : formatAddress(address.fill(0, 7))
    let bucket = this.#networks.get(key)
    if (!bucket) {
      if (this.#networks.size >= MOST_NETWORKS) this.#networks.clear()
      bucket = { second, used: 0 }
      this.#networks.set(key, bucket)
    }
    if (second - bucket.second >= WINDOW_S) {
      bucket.second = second
      bucket.used = 0
    }
    if (++bucket.used <= this.#limit) return verdict
    return ++this.#slip % SLIP === 0 ? Access.slip : Access.drop
  }
}

function isLocal(address: Uint8Array): boolean {
  return isLoopback(address) || localPrefixes.some(prefix => prefixContains(prefix, address))
}

/** How many new mappings one asker may cause: a bucket that fills again (RFC 4732). */
export class NewNameBudget {
  readonly #burst: number
  readonly #perSecond: number
  readonly #askers = new Map<string, { left: number; at: number }>()

  constructor(burst: number, perSecond: number) {
    this.#burst = burst
    this.#perSecond = perSecond
  }

  /** False: used up for now. `now` in seconds. */
  take(asker: string, now: number): boolean {
    let bucket = this.#askers.get(asker)
    if (!bucket) {
      if (this.#askers.size >= MOST_NETWORKS) this.#askers.clear()
      bucket = { left: this.#burst, at: now }
      this.#askers.set(asker, bucket)
    }
    bucket.left = Math.min(this.#burst, bucket.left + (now - bucket.at) * this.#perSecond)
    bucket.at = now
    if (bucket.left < 1) return false
    bucket.left--
    return true
  }
}
