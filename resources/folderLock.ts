/**
 * One writer at a time in a folder that several processes share, the operator and the gateway, also from different containers.
 *
 * The lock is SQLite's on an empty database: the kernel lets it go when its holder ends, however it ends, so that there is no stale lock to tell from a
 * held one. It is held for the few milliseconds of a write; who waits does so without holding up the process.
 */
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { StoreError } from './store.ts'

const SQLITE_BUSY = 5
const PATIENCE_MS = 20_000

export class FolderLock {
  readonly #file: string
  readonly #database: DatabaseSync
  #last: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(file: string) {
    this.#file = file
    this.#database = new DatabaseSync(file, { timeout: 0 })
  }

  /** `work` must not wait for anything: it runs from beginning to end with the lock held. */
  hold<Result>(work: () => Result): Promise<Result> {
    const turn = this.#last.then(async () => {
      await this.#acquire()
      try {
        return work()
      } finally {
        this.#database.exec('ROLLBACK')
      }
    })
    this.#last = turn.catch(() => {})
    return turn
  }

  async #acquire(): Promise<void> {
    const started = performance.now()
    for (;;) {
      if (this.#isClosed) throw new StoreError('Unavailable', `${this.#file}: the store is closed`)
      try {
        this.#database.exec('BEGIN EXCLUSIVE')
        return
      } catch (error) {
        if ((error as { errcode?: number }).errcode !== SQLITE_BUSY)
          throw new StoreError('Unavailable', `${this.#file}: ${(error as Error).message}`, { cause: error })
      }
      if (performance.now() - started > PATIENCE_MS)
        throw new StoreError('Unavailable', `${this.#file}: another process has held it for ${PATIENCE_MS / 1000} s`)
      await sleep(1 + Math.random() * 10)
    }
  }

  /** Waits for the work that was handed over. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    const last = this.#last
    await last
    this.#isClosed = true
    this.#database.close()
  }
}
