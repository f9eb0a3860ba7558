/**
 * Who acts, of several that could: a Lease, taken and renewed by writes that carry its resourceVersion.
 *
 *   follower ──(no holder, or its time is over as seen by our own clock)──► holder ──(not renewed in time, or taken by another)──► follower
 *
 * A Lease does not guarantee a single holder, and nothing here relies on it: every write that decides something carries a resourceVersion or is
 * the creation of a claim, so that a holder that lost the Lease unawares is refused by the store (hostile-input.md section 10). The time of others is
 * judged by when we saw the Lease change, never by what their clocks wrote.
 */
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import type { Lease } from './kinds.ts'
import { type Key, type ResourceStore, StoreError } from './store.ts'

export interface LeaderSettings {
  lease: Key
  /** differs between processes */
  identity: string
  durationMs: number
  renewMs: number
  /** how long a Lease that is free, or over, is left to others who would hold it better; absent: not at all */
  patienceMs?: () => number
  /** how long after its last change the Lease of another is over; absent, or undefined: as long as its holder wrote */
  overMs?: () => number | undefined
}

export interface LeaderPorts {
  store: ResourceStore
  clock: Clock
  log: Logger
  onStart(): void
  /** Nothing may be written any more. */
  onLost(): void
}

export class Leader {
  readonly #settings: LeaderSettings
  readonly #ports: LeaderPorts
  #isLeader = false
  #stopped = false
  #cancel: (() => void) | undefined
  #renewedAt = 0
  /** what the Lease of another holder looked like, and since when by our clock */
  #seen = { version: '', at: 0 }
  #turn: Promise<void> = Promise.resolve()

  constructor(settings: LeaderSettings, ports: LeaderPorts) {
    this.#settings = settings
    this.#ports = ports
  }

  get isLeader(): boolean {
    return this.#isLeader
  }

  start(): void {
    this.#turn = this.#step()
  }

  /** Gives the Lease back, so that another need not wait. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancel?.()
    await this.#turn
    if (!this.#isLeader) return
    this.#lose('the program ends')
    const { store } = this.#ports
    const lease = await store.get('Lease', this.#settings.lease).catch(() => undefined)
    if (lease?.spec?.holderIdentity !== this.#settings.identity) return
    await store.update('Lease', { ...lease, spec: { ...lease.spec, holderIdentity: '' } }).catch(() => {})
  }

  async #step(): Promise<void> {
    const { clock, log } = this.#ports
    try {
      if (await this.#hold()) this.#win()
      else if (this.#isLeader) this.#lose('another program holds the Lease')
    } catch (error) {
      const isRace = error instanceof StoreError && (error.code === 'Conflict' || error.code === 'AlreadyExists')
      if (!isRace) {
        // its holder cannot have renewed it either: the time that it has begins anew
        this.#seen = { version: '', at: 0 }
        log.warn({ component: 'leader', error: (error as Error).message }, 'the Lease cannot be renewed')
      }
    }
    if (this.#isLeader && clock.now() - this.#renewedAt >= this.#settings.durationMs)
      this.#lose('the Lease could not be renewed in time')
    if (!this.#stopped) {
      this.#cancel = clock.after(this.#settings.renewMs, () => {
        this.#turn = this.#step()
      })
    }
  }

  /** Is the Lease ours now? */
  async #hold(): Promise<boolean> {
    const { store, clock } = this.#ports
    const { lease: key, identity, durationMs } = this.#settings
    const begun = clock.now()
    const lease = await store.get('Lease', key)
    const holder = lease?.spec?.holderIdentity ?? ''
    if (lease && holder !== identity && !this.#isOver(lease, begun)) return false
    const now = microtime(begun)
    const isNew = holder !== identity
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(durationMs / 1000),
      renewTime: now,
      acquireTime: isNew ? now : (lease?.spec?.acquireTime ?? now),
      leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (isNew && lease ? 1 : 0),
    }
    if (lease) await store.update('Lease', { ...lease, spec })
    else
      await store.create('Lease', { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { ...key }, spec })
    this.#renewedAt = begun
    return true
  }

  #isOver(lease: Lease, now: number): boolean {
    const version = lease.metadata.resourceVersion ?? ''
    if (version !== this.#seen.version) this.#seen = { version, at: now }
    const { patienceMs, overMs } = this.#settings
    const written = lease.spec?.holderIdentity ? (lease.spec.leaseDurationSeconds ?? 0) * 1000 : 0
    const duration = Math.min(written, overMs?.() ?? written)
    return now - this.#seen.at >= duration + (patienceMs?.() ?? 0)
  }

  #win(): void {
    if (this.#isLeader || this.#stopped) return
    this.#isLeader = true
    this.#ports.log.info({ component: 'leader', lease: this.#settings.lease.name }, 'acts from now on')
    this.#ports.onStart()
  }

  #lose(why: string): void {
    this.#isLeader = false
    this.#ports.log.info({ component: 'leader', lease: this.#settings.lease.name }, `acts no more: ${why}`)
    this.#ports.onLost()
  }
}

/** metav1.MicroTime */
function microtime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z')
}
