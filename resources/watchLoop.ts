/**
 * One watch of an API server, for as long as it is wanted: lists page by page, follows the changes, and overcomes whatever ends that.
 *
 *              ┌────────────── 410, changes that cannot be followed ─────────────┐
 *              ▼                                                                 │
 *   start ─► list ── 500 a page, compared with the view ─► follow ── ended ──────┤
 *              │ failed                                      ▲     ended, cut,   │
 *              └─► back-off ─► list                          └──── silent ◄──────┘ after a back-off, from the last resourceVersion
 *
 * - A list compares page after page with the view: objects that did not change stay, what is missing at its end is gone.
 * - A change at or before the view's resourceVersion was seen already, and is skipped.
 * - The server sends a bookmark each minute: a watch without a sign of life for `silenceMs` is cut. So is one that says what cannot be read;
 *   what was not read comes again.
 * - A first list that is refused (NoSuchKind, Forbidden) ends it; later refusals are waited out.
 *
 * Owner of the view and of `resourceVersion`. The loop never ends by an error; `stop` ends it.
 */
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiClient, ApiError } from './apiClient.ts'
import { readLines } from './jsonLines.ts'
import type { KindName, Kinds, KubeObject } from './kinds.ts'
import type { Change, Key, Watched } from './store.ts'
import { compareVersions, keyText, View } from './view.ts'

export interface WatchTimes {
  /** without any byte; a bookmark is due each minute */
  silenceMs: number
  /** the server ends each watch after a time between this and twice as much */
  leastSeconds: number
  /** a watch that lasted this long begins the back-off anew */
  soundMs: number
}

export const watchTimes: WatchTimes = { silenceMs: 90_000, leastSeconds: 240, soundMs: 10_000 }

export const PAGE_SIZE = 500
const MOST_FRUITLESS = 3

/** What the loop asks of the store. */
export interface WatchPorts<Kind extends KindName> {
  client: ApiClient
  kind: Kind
  /** of the collection, with these parameters in its query */
  path(parameters: Readonly<Record<string, string>>): string
  /** An object as it enters the view. */
  admit(object: KubeObject): Kinds[Kind]
  onChange(change: Change<Kind>): void
  onTrouble?(problem: string | undefined): void
}

interface Page {
  metadata: { resourceVersion: string; continue?: string }
  items: KubeObject[] | null
}

interface WatchEvent {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  object: KubeObject & { code?: number; message?: string }
}

/** The server does not know any more, or cannot say, what changed since: only a list helps. */
class MustList extends Error {}

export class WatchLoop<Kind extends KindName> implements Watched<Kind> {
  readonly #ports: WatchPorts<Kind>
  readonly #times: WatchTimes
  readonly #view = new View<Kind>()
  readonly #stop = new AbortController()
  #version: string | undefined
  #mustList = true
  /** list without pages: going on in a list was refused */
  #isWhole = false
  /** one after the other, for the back-off */
  #failures = 0
  /** watches in a row that the server accepted or refused for a reason of its own, and that told nothing */
  #fruitless = 0
  #isTroubled = false
  #lifeSign = performance.now()
  #ended: Promise<void> = Promise.resolve()

  constructor(ports: WatchPorts<Kind>, times: WatchTimes) {
    this.#ports = ports
    this.#times = times
  }

  get(key: Key): Kinds[Kind] | undefined {
    return this.#view.get(key)
  }

  all(): Iterable<Kinds[Kind]> {
    return this.#view.all()
  }

  get size(): number {
    return this.#view.size
  }

  get resourceVersion(): string | undefined {
    return this.#version
  }

  get silentMs(): number {
    return performance.now() - this.#lifeSign
  }

  /** Resolves when the first list is in. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#ended = this.#run(resolve, reject)
    })
  }

  stop(): void {
    this.#stop.abort()
  }

  /** After `stop`: nothing is told any more, and no connection is left. */
  ended(): Promise<void> {
    return this.#ended
  }

  async #run(onListed: () => void, onRefused: (error: Error) => void): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        if (this.#mustList) {
          await this.#list()
          this.#mustList = false
          onListed()
        }
        await this.#follow()
      } catch (error) {
        if (this.#stop.signal.aborted) break
        if (this.#version === undefined && isRefusal(error)) {
          this.stop()
          return onRefused(error)
        }
        await this.#overcome(error as Error)
      }
    }
    onRefused(new Error(`the watch of ${this.#ports.kind} was stopped`))
  }

  async #overcome(error: Error): Promise<void> {
    const { client } = this.#ports
    if (error instanceof MustList || isGone(error)) this.#mustList = true
    this.#failures++
    // it may fail because of where it begins
    if (!isOutage(error) && ++this.#fruitless > MOST_FRUITLESS) this.#mustList = true
    this.#tell(this.#mustList ? `${error.message}; listing again` : `${error.message}; following again`)
    const retryAfterMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0
    const waitMs = isGone(error) && this.#failures === 1 ? 0 : client.backoffMs(this.#failures)
    await sleep(Math.max(retryAfterMs, waitMs), undefined, { signal: this.#stop.signal }).catch(() => {})
  }

  #tell(problem: string | undefined): void {
    if (problem === undefined && !this.#isTroubled) return
    this.#isTroubled = problem !== undefined
    this.#ports.onTrouble?.(problem)
  }

  #sign(): void {
    this.#lifeSign = performance.now()
  }

  // ---- list

  async #list(): Promise<void> {
    const seen = new Set<string>()
    let more = ''
    let version = ''
    do {
      const page = await this.#page(more)
      this.#sign()
      for (const item of page.items ?? []) {
        seen.add(keyText(item.metadata))
        this.#put(item)
      }
      more = page.metadata.continue ?? ''
      version = page.metadata.resourceVersion
    } while (more !== '')
    for (const key of this.#view.keys()) if (!seen.has(key)) this.#report(this.#view.remove(key))
    this.#version = version
    this.#isWhole = false
    this.#fruitless = 0
  }

  async #page(more: string): Promise<Page> {
    const { client, kind, path } = this.#ports
    const parameters: Record<string, string> = this.#isWhole ? {} : { limit: String(PAGE_SIZE) }
    if (more !== '') parameters.continue = more
    try {
      const { value } = await client.request<Page>({
        verb: 'list',
        kind,
        name: '',
        method: 'GET',
        path: path(parameters),
        signal: this.#stop.signal,
      })
      return value
    } catch (error) {
      // pages grow old faster than we read them: the next list is one page
      if (isGone(error) && more !== '') this.#isWhole = true
      throw error
    }
  }

  // ---- follow

  async #follow(): Promise<void> {
    const { client, kind, path } = this.#ports
    const cut = new AbortController()
    const signal = AbortSignal.any([cut.signal, this.#stop.signal])
    const seconds = Math.floor(this.#times.leastSeconds * (1 + Math.random()))
    const started = performance.now()
    const guard = this.#guardAgainstSilence(cut)
    try {
      this.#sign()
      const response = await client.stream({
        verb: 'watch',
        kind,
        name: '',
        method: 'GET',
        path: path({
          watch: 'true',
          allowWatchBookmarks: 'true',
          resourceVersion: this.#version!,
          timeoutSeconds: String(seconds),
        }),
        signal,
      })
      this.#sign()
      this.#tell(undefined)
      await this.#read(response)
    } catch (error) {
      if (cut.signal.aborted) throw cut.signal.reason
      throw (error as NodeJS.ErrnoException).code === 'ECONNRESET' ? new Error(`the watch of ${kind} was cut`) : error
    } finally {
      clearInterval(guard)
      cut.abort()
      if (performance.now() - started >= this.#times.soundMs) this.#failures = 0
    }
    // the usual end; a server that ends watches at once is not to be asked in a loop
    if (performance.now() - started < Math.min(1000, this.#times.soundMs))
      throw new Error(`the watch of ${kind} ended at once`)
  }

  #guardAgainstSilence(cut: AbortController): NodeJS.Timeout {
    const { silenceMs } = this.#times
    const check = () => {
      if (this.silentMs < silenceMs) return
      cut.abort(new Error(`the watch of ${this.#ports.kind} was silent for ${Math.round(silenceMs / 1000)} s`))
    }
    return setInterval(check, Math.min(5000, Math.max(10, silenceMs / 10)))
  }

  async #read(response: IncomingMessage): Promise<void> {
    for await (const line of readLines(response, () => this.#sign())) {
      if (this.#stop.signal.aborted) return
      this.#take(parseEvent(line, this.#ports.kind))
    }
  }

  #take({ type, object }: WatchEvent): void {
    if (type === 'ERROR') throw this.#errorOf(object)
    const version = object.metadata.resourceVersion!
    if (compareVersions(version, this.#version!) <= 0) return
    if (type === 'DELETED') this.#report(this.#view.remove(keyText(object.metadata)))
    else if (type !== 'BOOKMARK') this.#put(object)
    this.#version = version
    this.#failures = 0
    this.#fruitless = 0
  }

  #errorOf(object: { code?: number; message?: string }): Error {
    const text = `the watch of ${this.#ports.kind} ended: ${object.message ?? 'no reason given'} (${object.code ?? '?'})`
    // 504: the server is not as far as our resourceVersion, such as after its data were restored
    return object.code === 410 || object.code === 504 ? new MustList(text) : new Error(text)
  }

  #put(object: KubeObject): void {
    this.#report(this.#view.put(this.#ports.admit(object)))
  }

  #report(changes: readonly Change<Kind>[]): void {
    for (const change of changes) {
      if (this.#stop.signal.aborted) return
      try {
        this.#ports.onChange(change)
      } catch (error) {
        // a mistake of ours, not the server's: the process ends by it, as by any other, and the loop is not blamed
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}

function parseEvent(line: string, kind: string): WatchEvent {
  let event: WatchEvent
  try {
    event = JSON.parse(line) as WatchEvent
  } catch {
    throw new Error(`the watch of ${kind} said what is no JSON: ${line.slice(0, 80)}`)
  }
  const { type, object } = event
  const isKnown = ['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR'].includes(type)
  const hasVersion = /^\d+$/.test(object?.metadata?.resourceVersion ?? '')
  if (!isKnown || (type !== 'ERROR' && !hasVersion) || object === undefined)
    throw new Error(`the watch of ${kind} said what is no event: ${line.slice(0, 80)}`)
  return event
}

function isGone(error: unknown): boolean {
  return error instanceof ApiError && error.status === 410
}

/** Nobody is there, or it has no time: nothing is said of where the watch begins. */
function isOutage(error: unknown): boolean {
  return error instanceof ApiError && (error.status === undefined || error.status === 429 || error.status === 503)
}

function isRefusal(error: unknown): error is ApiError {
  return error instanceof ApiError && (error.code === 'NoSuchKind' || error.code === 'Forbidden')
}
