/**
 * Addresses of the gateways of peers that are given by name: looked up again and again, each in its own time.
 *
 *   name ──► A and AAAA ──► kept for its TTL (10 to 300 s, with jitter) ──► again;   a failure keeps what was known, and is tried again soon
 *
 * Owner: the peer controller, which asks `get` and is called back when an answer is another.
 */
import { parseAddress } from '../../ipref/address.ts'
import type { Clock } from '../../runtime/clock.ts'

const LEAST_MS = 10_000
const MOST_MS = 300_000
const RETRY_MS = 15_000

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
  addresses: string[]
  /** why they may be old, or why there are none */
  problem?: { reason: string; message: string }
}

interface Entry extends Resolved {
  cancel: (() => void) | undefined
  isKnown: boolean
}

export class ResolvedNames {
  readonly #ports: ResolvedPorts
  readonly #entries = new Map<string, Entry>()

  constructor(ports: ResolvedPorts) {
    this.#ports = ports
  }

  /** `known`: what was resolved before this program started. */
  get(name: string, known: readonly string[]): Resolved {
    let entry = this.#entries.get(name)
    if (!entry) {
      const problem = { reason: 'Resolving', message: `${name} is being looked up` }
      entry = { addresses: [...known], problem, cancel: undefined, isKnown: false }
      this.#entries.set(name, entry)
      void this.#look(name, entry)
    }
    return entry
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
    const { clock, random } = this.#ports
    const answer = await this.#ports.resolve(name).catch((error: Error) => ({ failed: error.message }))
    if (this.#entries.get(name) !== entry) return
    const before = JSON.stringify([entry.addresses, entry.problem])
    const jitter = 0.9 + random() / 5
    let waitMs = RETRY_MS
    if ('failed' in answer) entry.problem = { reason: 'LookupFailed', message: `${name}: ${answer.failed}` }
    else if (answer.addresses.length === 0)
      entry.problem = { reason: 'NoAddress', message: `${name} has neither an A nor an AAAA record` }
    else {
      entry.addresses = answer.addresses.filter(text => parseAddress(text) !== undefined).sort()
      delete entry.problem
      waitMs = Math.min(Math.max(answer.ttlSeconds * 1000, LEAST_MS), MOST_MS)
    }
    entry.cancel = clock.after(waitMs * jitter, () => void this.#look(name, entry))
    if (before !== JSON.stringify([entry.addresses, entry.problem])) this.#ports.onChange(name)
  }

  stop(): void {
    this.keep(new Set())
  }
}
