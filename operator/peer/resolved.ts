/**
 * Addresses of the gateways of peers that are given by name: looked up again and again, each in its own time.
 *
 *   name ──► A and AAAA ──► kept for its TTL (10 to 300 s, with jitter) ──► again;   a failure keeps what was known, and is tried again soon
 *
 * Owner: the peer controller, which asks `get` and is called back when an answer is another.
 */
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import type { Clock } from '../../runtime/clock.ts'

const LEAST_MS = 10_000
const MOST_MS = 300_000
const RETRY_MS = 15_000
/** As many as a status holds; what others write into DNS has no bound. */
const MOST_ADDRESSES = 16

export type Answer = { addresses: string[]; ttlSeconds: number } | { failed: string }

export interface ResolvedPorts {
  /** Both address families. */
  resolve(name: string): Promise<Answer>
  clock: Clock
  /** 0 to 1 */
  random(): number
  /** The addresses of this name, or why there are none, are others now. */
  onChange(name: string): void
}

export interface Resolved {
  readonly addresses: readonly string[]
  /** why they may be old, or why there are none; `isWaiting`: nobody knows yet */
  readonly problem?: { reason: string; message: string; isWaiting?: true }
}

interface Entry {
  found: Resolved
  cancel: (() => void) | undefined
}

export class ResolvedNames {
  readonly #ports: ResolvedPorts
  readonly #entries = new Map<string, Entry>()

  constructor(ports: ResolvedPorts) {
    this.#ports = ports
  }

  /** `known`: what was resolved before this program started; it counts until something else is known. */
  get(name: string, known: readonly string[]): Resolved {
    const entry = this.#entries.get(name)
    if (entry) return entry.found
    const problem = { reason: 'Resolving', message: `${name} is being looked up`, isWaiting: true as const }
    const found = known.length > 0 ? { addresses: [...known] } : { addresses: [], problem }
    const made = { found, cancel: undefined }
    this.#entries.set(name, made)
    void this.#look(name, made)
    return found
  }

  /** Names that no peer has any more are not looked up. */
  keep(names: ReadonlySet<string>): void {
    for (const [name, entry] of this.#entries) {
      if (names.has(name)) continue
      entry.cancel?.()
      this.#entries.delete(name)
    }
  }

  async #look(name: string, entry: Entry): Promise<void> {
    const { clock, random, resolve, onChange } = this.#ports
    const answer = await resolve(name).catch((error: Error) => ({ failed: error.message }))
    if (this.#entries.get(name) !== entry) return
    const { found, waitMs } = takeAnswer(name, answer, entry.found)
    entry.cancel = clock.after(Math.max(LEAST_MS, waitMs * (0.8 + random() / 5)), () => void this.#look(name, entry))
    const isSame = JSON.stringify(found) === JSON.stringify(entry.found)
    entry.found = found
    if (!isSame) onChange(name)
  }

  stop(): void {
    this.keep(new Set())
  }
}

function takeAnswer(name: string, answer: Answer, before: Resolved): { found: Resolved; waitMs: number } {
  const { addresses } = before
  if ('failed' in answer)
    return {
      found: { addresses, problem: { reason: 'LookupFailed', message: `${name}: ${answer.failed}` } },
      waitMs: RETRY_MS,
    }
  const found = new Set(answer.addresses.flatMap(text => canonical(text)))
  if (found.size === 0) {
    const problem = { reason: 'NoAddress', message: `${name} has neither an A nor an AAAA record` }
    return { found: { addresses, problem }, waitMs: RETRY_MS }
  }
  const waitMs = Math.min(Math.max(answer.ttlSeconds * 1000, LEAST_MS), MOST_MS)
  return { found: { addresses: [...found].sort(ipv4First).slice(0, MOST_ADDRESSES) }, waitMs }
}

function canonical(text: string): string[] {
  const bytes = parseAddress(text)
  return bytes ? [formatAddress(bytes)] : []
}

function ipv4First(a: string, b: string): number {
  return Number(a.includes(':')) - Number(b.includes(':')) || (a < b ? -1 : 1)
}
