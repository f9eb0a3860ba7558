/**
 * The mapping store: dynamic mappings in SQLite, so that they survive a restart, a kill and a power cut.
 *
 *   save, remove ──► rows waiting ──one batch at a time──► worker thread: one transaction, fdatasync ──► promises of that batch
 *
 * Group commit: everything that waits when the worker becomes free goes into one transaction. A promise of `save` is kept only after the
 * commit. While a write fails (disk full) rows stay queued and are tried again; who waits is told. A file that is no database is set aside under
 * another name and a new one begun. Expiry is stored as seconds of the wall clock.
 */
import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import type { AddressWords } from '../../ipref/address.ts'

export const SCHEMA_VERSION = 1
/** "IPRF" */
export const APPLICATION_ID = 0x49505246
export const STORE_FILE = 'mappings.db'
const OUR_FILES = /^(lock$|mappings\.db|(cluster|uplink|peers)\.json)/
/** operation, local address, context, reference, expiry */
export const ROW_WORDS = 16
export const Row = { operation: 0, local: 1, context: 5, reference: 9, expires: 13 } as const
export const Operation = { saveOurs: 1, saveTheirs: 2, removeOurs: 3, removeTheirs: 4 } as const
const RETRY_MS = 1000
const SQLITE_CORRUPT = 11
const SQLITE_NOTADB = 26
const SQLITE_IOERR_SHORT_READ = 522
const MOST_WAITING = 1 << 20

export class StoreError extends Error {}

export interface SavedMapping {
  kind: 'ours' | 'theirs'
  local: AddressWords
  context: AddressWords
  reference: AddressWords
  /** seconds of the wall clock */
  expires: number
}

export interface StoreEvent {
  what: 'set-aside' | 'write-failed' | 'write-recovered' | 'foreign-files'
  detail: string
}

interface Waiter {
  resolve(): void
  reject(error: Error): void
}

const noWords: AddressWords = [0, 0, 0, 0]

export class Store {
  readonly #file: string
  readonly #onEvent: (event: StoreEvent) => void
  #rows = new Int32Array(ROW_WORDS * 256)
  #count = 0
  #waiters: Waiter[] = []
  #busy = false
  #failing = false
  #worker: Worker | undefined
  #stopped: (() => void) | undefined
  #waitForRetry: NodeJS.Timeout | undefined
  commits = 0
  rowsWritten = 0

  constructor(folder: string, onEvent: (event: StoreEvent) => void) {
    mkdirSync(folder, { recursive: true, mode: 0o750 })
    this.#file = join(folder, STORE_FILE)
    this.#onEvent = onEvent
    const foreign = readdirSync(folder).filter(name => !OUR_FILES.test(name))
    if (foreign.length > 0 && !existsSync(this.#file)) {
      onEvent({
        what: 'foreign-files',
        detail: `${folder} holds files of another program (${foreign.slice(0, 3).join(', ')}); they are left alone, mappings start afresh`,
      })
    }
  }

  /**
   * Reads everything that was saved, in no order, then starts the writer. Throws StoreError for a newer schema. True: the file was
   * broken and a new one is begun; what could be read of the old one was handed over, and must be saved again.
   */
  open(take: (mapping: SavedMapping) => void): boolean {
    const isBroken = this.#read(take)
    this.#start()
    return isBroken
  }

  /** Reads everything that was saved, and no more: for tools. */
  readOnce(take: (mapping: SavedMapping) => void): void {
    this.#read(take)
  }

  #read(take: (mapping: SavedMapping) => void): boolean {
    try {
      const db = openDatabase(this.#file)
      try {
        for (const mapping of rowsOf(db)) take(mapping)
      } finally {
        db.close()
      }
      return false
    } catch (error) {
      if (error instanceof StoreError) throw error
      if (!isCorruption(error)) throw new StoreError(`${this.#file}: ${(error as Error).message}`)
      this.#setAside((error as Error).message)
      openDatabase(this.#file).close()
      return true
    }
  }

  #setAside(why: string): void {
    const name = `${this.#file}.corrupt-${new Date().toISOString().replaceAll(':', '')}`
    for (const suffix of ['', '-wal', '-shm'])
      if (existsSync(this.#file + suffix)) renameSync(this.#file + suffix, name + suffix)
    this.#onEvent({
      what: 'set-aside',
      detail: `${this.#file} cannot be read (${why}); it was set aside as ${name}, and a new one begun`,
    })
  }

  #start(): void {
    const worker = new Worker(new URL('./storeWorker.ts', import.meta.url), {
      name: 'ipref-store',
      workerData: { file: this.#file },
    })
    this.#worker = worker
    let waiting: Waiter[] = []
    let sent: { rows: Int32Array; count: number } | undefined
    this.#post = () => {
      waiting = this.#waiters
      sent = { rows: this.#rows, count: this.#count }
      this.#waiters = []
      this.#rows = new Int32Array(ROW_WORDS * 256)
      this.#count = 0
      worker.postMessage({ rows: sent.rows, count: sent.count })
    }
    worker.on('message', (answer: { error?: string }) => {
      this.#busy = false
      if (answer.error === undefined) this.#committed(sent!.count, waiting)
      else this.#failed(answer.error, sent!, waiting)
    })
    worker.on('error', error => this.#failed(String(error), sent ?? { rows: new Int32Array(0), count: 0 }, waiting))
    worker.on('exit', () => this.#stopped?.())
  }

  #post: () => void = () => {}

  #committed(count: number, waiting: Waiter[]): void {
    this.commits++
    this.rowsWritten += count
    if (this.#failing) this.#onEvent({ what: 'write-recovered', detail: `${this.#file} is written again` })
    this.#failing = false
    for (const waiter of waiting) waiter.resolve()
    this.#send()
  }

  #failed(error: string, sent: { rows: Int32Array; count: number }, waiting: Waiter[]): void {
    if (!this.#failing)
      this.#onEvent({
        what: 'write-failed',
        detail: `${this.#file}: ${error}; new names get no address until it can be written`,
      })
    this.#failing = true
    for (const waiter of waiting) waiter.reject(new StoreError(error))
    // rows that failed come before those that were added since
    const later = this.#rows.slice(0, this.#count * ROW_WORDS)
    const laterCount = this.#count
    this.#rows = new Int32Array((sent.count + laterCount) * ROW_WORDS * 2)
    this.#rows.set(sent.rows.subarray(0, sent.count * ROW_WORDS))
    this.#rows.set(later, sent.count * ROW_WORDS)
    this.#count = sent.count + laterCount
    this.#waitForRetry = setTimeout(() => {
      this.#waitForRetry = undefined
      this.#send()
    }, RETRY_MS)
  }

  get failing(): boolean {
    return this.#failing
  }

  /** Resolves when it is durable; rejects when the disk refused it (it is tried again all the same). */
  save(mapping: SavedMapping): Promise<void> {
    this.#push(mapping.kind === 'ours' ? Operation.saveOurs : Operation.saveTheirs, mapping)
    return this.durable()
  }

  /** Resolves when everything said so far is durable. */
  durable(): Promise<void> {
    if (this.#failing) return Promise.reject(new StoreError('the mapping store cannot be written'))
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#send()
    })
  }

  /** As save, when nobody waits for it. */
  saveLater(mapping: SavedMapping): void {
    this.#push(mapping.kind === 'ours' ? Operation.saveOurs : Operation.saveTheirs, mapping)
    this.#send()
  }

  remove(kind: 'ours' | 'theirs', local: AddressWords): void {
    const operation = kind === 'ours' ? Operation.removeOurs : Operation.removeTheirs
    this.#push(operation, { local, context: noWords, reference: noWords, expires: 0 })
    this.#send()
  }

  #push(operation: number, row: Omit<SavedMapping, 'kind'>): void {
    if (this.#count >= MOST_WAITING) return
    if ((this.#count + 1) * ROW_WORDS > this.#rows.length) {
      const larger = new Int32Array(this.#rows.length * 2)
      larger.set(this.#rows)
      this.#rows = larger
    }
    const at = this.#count++ * ROW_WORDS
    this.#rows[at] = operation
    this.#rows.set(row.local, at + Row.local)
    this.#rows.set(row.context, at + Row.context)
    this.#rows.set(row.reference, at + Row.reference)
    this.#rows[at + Row.expires] = row.expires
  }

  #send(): void {
    if (this.#busy || this.#waitForRetry || !this.#worker || (this.#count === 0 && this.#waiters.length === 0)) return
    this.#busy = true
    // what is said in the same turn of the event loop goes into the same transaction
    setImmediate(() => this.#post())
  }

  /** Writes what waits, and ends the writer. */
  async close(): Promise<void> {
    if (!this.#worker) return
    if (!this.#failing) await this.durable().catch(() => {})
    const ended = new Promise<void>(resolve => {
      this.#stopped = resolve
    })
    this.#worker.postMessage('close')
    await ended
    this.#worker = undefined
    clearTimeout(this.#waitForRetry)
  }
}

export function isCorruption(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode ?? 0
  return [SQLITE_CORRUPT, SQLITE_NOTADB].includes(code & 0xff) || code === SQLITE_IOERR_SHORT_READ
}

export function openDatabase(file: string): DatabaseSync {
  const db = new DatabaseSync(file)
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000')
    if (versionOf(db, file) === 0) {
      db.exec(`BEGIN;
        CREATE TABLE IF NOT EXISTS ours (l0 INTEGER, l1 INTEGER, l2 INTEGER, l3 INTEGER, r0 INTEGER, r1 INTEGER, r2 INTEGER, r3 INTEGER,
          expires INTEGER NOT NULL, PRIMARY KEY (l3, l2, l1, l0)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS theirs (l0 INTEGER, l1 INTEGER, l2 INTEGER, l3 INTEGER, c0 INTEGER, c1 INTEGER, c2 INTEGER, c3 INTEGER,
          r0 INTEGER, r1 INTEGER, r2 INTEGER, r3 INTEGER, expires INTEGER NOT NULL, PRIMARY KEY (l3, l2, l1, l0)) WITHOUT ROWID;
        PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`)
    }
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** As it is at the first look, whoever writes meanwhile; nothing of it is changed, so a gateway may run. */
export function openSnapshot(file: string): DatabaseSync {
  const db = new DatabaseSync(file, { readOnly: true })
  try {
    db.exec('PRAGMA busy_timeout = 5000; BEGIN')
    if (versionOf(db, file) === 0) throw new StoreError(`${file} is no mapping store`)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

function versionOf(db: DatabaseSync, file: string): number {
  const version = (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
  if (version <= SCHEMA_VERSION) return version
  throw new StoreError(
    `${file} was written by a newer ipref (schema ${version}, this one knows ${SCHEMA_VERSION}); run that version, or give another folder with -data`,
  )
}

// numbers, not blobs: a million small buffers would be a million allocations that the C library never gives back
export function* rowsOf(db: DatabaseSync): Generator<SavedMapping> {
  const theirs = db.prepare('SELECT l0, l1, l2, l3, c0, c1, c2, c3, r0, r1, r2, r3, expires FROM theirs')
  theirs.setReturnArrays(true)
  for (const r of theirs.iterate() as unknown as Iterable<number[]>) {
    const [local, context, reference] = [wordsAt(r, 0), wordsAt(r, 4), wordsAt(r, 8)]
    yield { kind: 'theirs', local, context, reference, expires: r[12]! }
  }
  const ours = db.prepare('SELECT l0, l1, l2, l3, r0, r1, r2, r3, expires FROM ours')
  ours.setReturnArrays(true)
  for (const r of ours.iterate() as unknown as Iterable<number[]>) {
    yield { kind: 'ours', local: wordsAt(r, 0), context: noWords, reference: wordsAt(r, 4), expires: r[8]! }
  }
}

function wordsAt(row: readonly number[], i: number): AddressWords {
  return [row[i]!, row[i + 1]!, row[i + 2]!, row[i + 3]!]
}
