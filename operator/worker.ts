/**
 * One worker for every kind: keys in, one reconcile at a time for each key, back-off for those that fail.
 *
 *            add                      ┌── done: forgotten, or again after the time that it asked for
 *   idle ──────────► waiting ──► running ── failed: again after the back-off of this key (doubled, with jitter)
 *                       ▲             └── added meanwhile: waiting again, at once
 *                       └ a key is in the queue once, however often it is added
 *
 * Level-triggered: a key says that something may have changed, never what. The queue is bounded by the number of objects.
 */
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'

const FIRST_RETRY_MS = 250
const LAST_RETRY_MS = 300_000

/** `againMs`: when to look at the key again though nothing changed; undefined: only when something does. */
export type Reconcile = (key: string) => Promise<{ againMs?: number } | undefined>

export interface WorkerPorts {
  /** of the controller, for logs and metrics */
  name: string
  reconcile: Reconcile
  clock: Clock
  log: Logger
  /** 0 to 1 */
  random(): number
  /** Told of each end of a reconcile. */
  onDone?(outcome: { result: 'done' | 'conflict' | 'failed'; ms: number }): void
  /** reconciles at the same time, of different keys */
  concurrency?: number
}

interface Entry {
  state: 'idle' | 'waiting' | 'running' | 'again'
  failures: number
  cancel: (() => void) | undefined
}

export class Worker {
  readonly #ports: WorkerPorts
  readonly #entries = new Map<string, Entry>()
  readonly #queue = new Set<string>()
  readonly #idle: (() => void)[] = []
  #running = 0
  #open = false

  constructor(ports: WorkerPorts) {
    this.#ports = ports
  }

  /** Keys that were added before are taken now. */
  start(): void {
    this.#open = true
    this.#pump()
  }

  /** Resolves when what runs has ended; what waits is forgotten. */
  async stop(): Promise<void> {
    this.#open = false
    for (const entry of this.#entries.values()) entry.cancel?.()
    if (this.#running > 0) await new Promise<void>(resolve => this.#idle.push(resolve))
    this.#entries.clear()
    this.#queue.clear()
  }

  add(key: string): void {
    const entry = this.#entryOf(key)
    if (entry.state === 'running' || entry.state === 'again') {
      entry.state = 'again'
      return
    }
    entry.cancel?.()
    entry.cancel = undefined
    entry.state = 'waiting'
    this.#queue.add(key)
    this.#pump()
  }

  /** What failed is tried again now: something that many depend on is there again. */
  retryFailed(): void {
    for (const [key, { state, failures }] of [...this.#entries]) if (state === 'idle' && failures > 0) this.add(key)
  }

  get depth(): number {
    return this.#queue.size
  }

  /** Nothing waits and nothing runs; what is to be looked at later does not count. */
  get isIdle(): boolean {
    return this.#queue.size === 0 && this.#running === 0
  }

  #entryOf(key: string): Entry {
    let entry = this.#entries.get(key)
    if (!entry) {
      entry = { state: 'idle', failures: 0, cancel: undefined }
      this.#entries.set(key, entry)
    }
    return entry
  }

  #pump(): void {
    while (this.#open && this.#running < (this.#ports.concurrency ?? 1)) {
      const next = this.#queue.values().next()
      if (next.done) return
      this.#queue.delete(next.value)
      this.#running++
      void this.#run(next.value, this.#entryOf(next.value))
    }
  }

  async #run(key: string, entry: Entry): Promise<void> {
    const { clock, reconcile, onDone } = this.#ports
    const begun = clock.now()
    entry.state = 'running'
    let againMs: number | undefined
    try {
      againMs = (await reconcile(key))?.againMs
      entry.failures = 0
      onDone?.({ result: 'done', ms: clock.now() - begun })
    } catch (error) {
      againMs = this.#failed(key, entry, error)
      onDone?.({ result: isConflict(error) ? 'conflict' : 'failed', ms: clock.now() - begun })
    }
    this.#running--
    this.#settle(key, entry, againMs)
    if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve()
    this.#pump()
  }

  // a conflict says that our view was behind: the change is on its way to us, so it is no news to a person
  #failed(key: string, entry: Entry, error: unknown): number {
    entry.failures++
    const wait = Math.min(FIRST_RETRY_MS * 2 ** (entry.failures - 1), LAST_RETRY_MS)
    const againMs = Math.round(wait * (0.75 + this.#ports.random() / 2))
    const fields = { controller: this.#ports.name, object: key, error: (error as Error).message, againMs }
    if (isConflict(error)) this.#ports.log.debug(fields, 'the object changed meanwhile')
    else this.#ports.log.warn(fields, 'could not be brought in order; tried again')
    return againMs
  }

  #settle(key: string, entry: Entry, againMs: number | undefined): void {
    if (!this.#open) return
    if (entry.state === 'again') {
      entry.state = 'idle'
      if (entry.failures === 0) return this.add(key)
      // something changed while it failed: not at once, or a broken object would spin
      againMs = Math.min(againMs ?? FIRST_RETRY_MS, FIRST_RETRY_MS)
    }
    entry.state = 'idle'
    if (againMs === undefined) this.#entries.delete(key)
    else entry.cancel = this.#ports.clock.after(againMs, () => this.add(key))
  }
}

function isConflict(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'Conflict'
}
