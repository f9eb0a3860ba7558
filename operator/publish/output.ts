/**
 * Outputs: where records are published, several at once, each on its own.
 *
 *   want(desired) ──► apply: the whole, always ──► applied version
 *                        └─ fails: again after 1, 2, 4 … 300 s, with jitter; what is wanted by then is what is tried
 *
 * After each it rests for twice as long as it took, at most 2 s: what changes meanwhile is one next time, so that ten thousand objects that become ready one after the
 * other do not make as many whole zones.
 *
 * An output is level-triggered: it is told everything that shall be there, and finds out itself what is different. A runner holds one output, so that none
 * waits for another.
 */
import type { Clock } from '../../runtime/clock.ts'
import type { Desired } from './desired.ts'
import type { ZoneKind } from './records.ts'

export interface Applied {
  /** names that are somebody else's there, and were left alone: why, by `kind name` */
  conflicts: ReadonlyMap<string, string>
}

export const NO_CONFLICTS: Applied = { conflicts: new Map() }

export interface Output {
  /** for people */
  readonly name: string
  readonly zones: readonly ZoneKind[]
  /** Brings everything in order. Rejects with a sentence that says what is wrong and what would be right. */
  apply(desired: Desired): Promise<Applied>
  /** The next `apply` takes nothing for granted that it did before. */
  doubt(): void
  /** Milliseconds after which it is to look for what others changed; undefined: nobody else can. */
  readonly lookEveryMs: number | undefined
  /** Servers that answer with what it publishes, as far as it knows them. */
  servers(kind: ZoneKind): readonly { host: string; port: number }[]
  stop(): Promise<void>
}

export interface OutputState {
  name: string
  zones: readonly ZoneKind[]
  /** version of what was applied last; 0: nothing yet */
  appliedVersion: number
  /** why the last attempt failed */
  problem: string | undefined
  conflicts: ReadonlyMap<string, string>
  lastSuccessMs: number | undefined
}

export interface RunnerPorts {
  clock: Clock
  /** 0 to 1 */
  random(): number
  onState(state: OutputState): void
}

const REST = 2
const MOST_REST_MS = 2000
const FIRST_RETRY_MS = 1000
const LAST_RETRY_MS = 300_000

export class OutputRunner {
  readonly output: Output
  readonly #ports: RunnerPorts
  #wanted: (() => Desired) | undefined
  #running: Promise<void> | undefined
  #isAgain = false
  #failures = 0
  #cancel: (() => void) | undefined
  #cancelRest: (() => void) | undefined
  #restsUntil = 0
  #isStopped = false
  state: OutputState

  constructor(output: Output, ports: RunnerPorts) {
    this.output = output
    this.#ports = ports
    const { name, zones } = output
    this.state = {
      name,
      zones,
      appliedVersion: 0,
      problem: undefined,
      conflicts: new Map(),
      lastSuccessMs: undefined,
    }
  }

  /** As it is when its turn comes. */
  want(desired: Desired | (() => Desired)): void {
    const isFirst = this.#wanted === undefined
    this.#wanted = typeof desired === 'function' ? desired : () => desired
    if (isFirst || !this.#isWaiting) this.#now()
  }

  /** What is there is not what was applied, or may not be. */
  again(): void {
    this.output.doubt()
    if (!this.#isWaiting) this.#now()
  }

  /** What it needs may be there again: the back-off is over. */
  retryFailed(): void {
    if (this.#isWaiting) this.#now()
  }

  /** While it fails, changes wait for the back-off; those that come while it tries again are next, should it succeed. */
  get #isWaiting(): boolean {
    return this.#failures > 0 && this.#running === undefined
  }

  #now(): void {
    if (this.#isStopped || !this.#wanted) return
    if (this.#running) {
      this.#isAgain = true
      return
    }
    // a clock that was set back must not make it long
    const restMs = Math.min(this.#restsUntil - this.#ports.clock.now(), MOST_REST_MS)
    if (restMs > 0) {
      this.#cancelRest ??= this.#ports.clock.after(restMs, () => {
        this.#cancelRest = undefined
        this.#restsUntil = 0
        this.#now()
      })
      return
    }
    this.#cancel?.()
    this.#running = this.#run(this.#wanted())
  }

  async #run(desired: Desired): Promise<void> {
    const { clock, random, onState } = this.#ports
    let waitMs: number | undefined
    const begun = clock.now()
    try {
      const { conflicts } = await this.output.apply(desired)
      this.#failures = 0
      waitMs = this.output.lookEveryMs
      const { version } = desired
      this.state = { ...this.state, appliedVersion: version, problem: undefined, conflicts, lastSuccessMs: clock.now() }
    } catch (error) {
      this.#failures++
      waitMs = Math.min(FIRST_RETRY_MS * 2 ** (this.#failures - 1), LAST_RETRY_MS)
      this.state = { ...this.state, problem: (error as Error).message }
    }
    this.#running = undefined
    this.#restsUntil = clock.now() + Math.min(REST * (clock.now() - begun), MOST_REST_MS)
    if (this.#isStopped) return
    if (waitMs !== undefined) this.#cancel = clock.after(waitMs * (0.75 + random() / 2), () => this.#now())
    const isAgain = this.#isAgain && this.#failures === 0
    this.#isAgain = false
    onState(this.state)
    if (isAgain) this.#now()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancel?.()
    this.#cancelRest?.()
    await this.#running
    await this.output.stop()
  }
}
