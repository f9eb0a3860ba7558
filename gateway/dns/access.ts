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

/** `outside`: allowed, but not from a local network. */
export const Access = { allowed: 0, refused: 1, slip: 2, drop: 3, outside: 4 } as const

/** Over UDP, answers to the outside are at most this many times as long as the question. */
export const MOST_RATIO = 10

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
  readonly #last4 = { address: -1, verdict: Access.refused as number }
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
        last.verdict = this.#verdictOf(plain)
      }
      return last.verdict === Access.allowed
        ? Access.allowed
        : this.#meter(bytes.slice(at, at + 4), last.verdict, second)
    }
    const plain = bytes.slice(at, at + 16)
    const verdict = this.#verdictOf(plain)
    return verdict === Access.allowed ? verdict : this.#meter(plain, verdict, second)
  }

  #verdictOf(address: Uint8Array): number {
    if (!this.#allowed.some(prefix => prefixContains(prefix, address))) return Access.refused
    return isLocal(address) ? Access.allowed : Access.outside
  }

  #meter(address: Uint8Array, verdict: number, second: number): number {
    if (this.#limit === 0) return verdict
    const key = address.length === 4 ? address.subarray(0, 3).join('.') : formatAddress(address.fill(0, 7))
    let bucket = this.#networks.get(key)
    if (!bucket) {
      if (this.#networks.size >= MOST_NETWORKS) this.#networks.delete(this.#networks.keys().next().value!)
      bucket = { second, used: 0 }
      this.#networks.set(key, bucket)
    }
    if (second - bucket.second >= WINDOW_S) {
      bucket.second = second
      bucket.used = 0
    }
    if (++bucket.used <= this.#limit) return verdict
    return verdict === Access.outside && ++this.#slip % SLIP === 0 ? Access.slip : Access.drop
  }
}

function isLocal(address: Uint8Array): boolean {
  return isLoopback(address) || localPrefixes.some(prefix => prefixContains(prefix, address))
}

/** Whom a budget is for: an IPv4 address, the /64 of an IPv6 address. */
export function budgetKey(address: Uint8Array): string {
  return formatAddress(address.length === 4 ? address : address.slice().fill(0, 8))
}

/** How many new mappings one asker may cause: a bucket that fills again (RFC 4732). */
export class NewNameBudget {
  readonly #burst: number
  readonly #perSecond: number
  /** the one that asked last is at the end */
  readonly #askers = new Map<string, { left: number; at: number }>()

  constructor(burst: number, perSecond: number) {
    this.#burst = burst
    this.#perSecond = perSecond
  }

  /** False: used up for now, and nothing taken. `now` in seconds. */
  take(asker: string, mappings: number, now: number): boolean {
    const bucket = this.#askers.get(asker) ?? { left: this.#burst, at: now }
    this.#askers.delete(asker)
    if (this.#askers.size >= MOST_NETWORKS) this.#askers.delete(this.#askers.keys().next().value!)
    this.#askers.set(asker, bucket)
    bucket.left = Math.min(this.#burst, bucket.left + (now - bucket.at) * this.#perSecond)
    bucket.at = now
    if (bucket.left < mappings) return false
    bucket.left -= mappings
    return true
  }
}
