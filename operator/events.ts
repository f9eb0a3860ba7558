/**
 * Events: what a person sees under `kubectl describe`. One for each change of a condition that matters, never one for each reconcile; a repeated one
 * counts up. An Event that cannot be written is no failure of the work. Normal ones are for whoever watches one object: of ten thousand that become ready in
 * a minute only some have one, for each is a write as well.
 */
import { createHash } from 'node:crypto'
import type { KubeObject } from '../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../resources/store.ts'
import { type Clock, timestamp } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'

const COMPONENT = 'ipref-operator'
const MOST_MESSAGE = 1000
const NORMAL_AT_ONCE = 100
const NORMAL_MS = 200

export type EventType = 'Normal' | 'Warning'

export interface EventPorts {
  store: ResourceStore
  clock: Clock
  log: Logger
  /** where Events about objects without a namespace go */
  namespace: string
}

export class Events {
  readonly #ports: EventPorts
  /** when the last of the normal ones counts as written, one each NORMAL_MS */
  #normalUntil = 0

  constructor(ports: EventPorts) {
    this.#ports = ports
  }

  /** Does not wait and does not fail. */
  say(about: KubeObject, type: EventType, reason: string, message: string): void {
    if (type === 'Normal' && !this.#mayNormal()) return
    void this.#write(about, type, reason, message.slice(0, MOST_MESSAGE)).catch(error => {
      this.#ports.log.debug({ component: 'events', error: (error as Error).message }, 'an Event could not be written')
    })
  }

  #mayNormal(): boolean {
    const now = this.#ports.clock.now()
    // a clock that was set back begins anew
    if (this.#normalUntil > now + NORMAL_AT_ONCE * NORMAL_MS) this.#normalUntil = now
    const next = Math.max(now, this.#normalUntil) + NORMAL_MS
    if (next > now + NORMAL_AT_ONCE * NORMAL_MS) return false
    this.#normalUntil = next
    return true
  }

  async #write(about: KubeObject, type: EventType, reason: string, message: string): Promise<void> {
    const { store, clock } = this.#ports
    const { name, uid } = about.metadata
    const namespace = about.metadata.namespace ?? this.#ports.namespace
    const digest = createHash('sha256').update(`${about.kind} ${uid} ${type} ${reason} ${message}`).digest('hex')
    const key = { namespace, name: `${name.slice(0, 200)}.${digest.slice(0, 16)}` }
    const now = timestamp(clock.now())
    try {
      await store.create('Event', {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: key,
        type,
        reason,
        message,
        involvedObject: {
          apiVersion: about.apiVersion,
          kind: about.kind,
          ...(about.metadata.namespace === undefined ? {} : { namespace }),
          name,
          ...(uid === undefined ? {} : { uid }),
        },
        source: { component: COMPONENT },
        count: 1,
        firstTimestamp: now,
        lastTimestamp: now,
      })
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
      const known = await store.get('Event', key)
      if (known) await store.update('Event', { ...known, count: (known.count ?? 1) + 1, lastTimestamp: now })
    }
  }
}
