/**
 * Serials of the zones, kept across restarts and replicas: ConfigMap `ipref-zones-state` in the operator's namespace.
 *
 *   {"example.com": {"serial": 1900000000, "hash": "…"}}      hash: of the zone without its serial
 *
 * The leader records a serial before anybody is given the zone with it; the other replicas serve what has a recorded hash, with the recorded serial, so
 * that one serial never stands for two contents. Nothing is written when nothing changed.
 */
import { nextSerial } from '../../dns/zone.ts'
import type { ConfigMap } from '../../resources/kinds.ts'
import { type Key, type ResourceStore, StoreError } from '../../resources/store.ts'

export const STATE_NAME = 'ipref-zones-state'
export const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'ipref-operator' } as const
const ENTRY = 'zones.json'
const TRIES = 5

export interface Recorded {
  serial: number
  hash: string
}

export class SerialBook {
  readonly #store: ResourceStore
  readonly #key: Key
  #found: ConfigMap | undefined
  #isRead = false
  /** one write after the other: both outputs ask for the same zones */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(store: ResourceStore, namespace: string) {
    this.#store = store
    this.#key = { namespace, name: STATE_NAME }
  }

  async read(): Promise<ReadonlyMap<string, Recorded>> {
    this.#found = await this.#store.get('ConfigMap', this.#key)
    this.#isRead = true
    return recordedIn(this.#found)
  }

  /** Somebody else may have recorded since. */
  doubt(): void {
    this.#isRead = false
  }

  /** The serial under which this content may be served; recorded when this resolves. `nowS`: seconds since 1970. */
  serialFor(zone: string, hash: string, nowS: number): Promise<number> {
    const next = this.#turn.then(() => this.#serialFor(zone, hash, nowS))
    this.#turn = next.catch(() => {})
    return next
  }

  async #serialFor(zone: string, hash: string, nowS: number): Promise<number> {
    for (let tries = 1; ; tries++) {
      if (!this.#isRead) await this.read()
      const all = recordedIn(this.#found)
      const known = all.get(zone)
      if (known?.hash === hash) return known.serial
      const serial = known ? nextSerial(known.serial, nowS) : Math.floor(nowS) >>> 0
      try {
        await this.#write(new Map(all).set(zone, { serial, hash }))
        return serial
      } catch (error) {
        this.#isRead = false
        const isRace = error instanceof StoreError && (error.code === 'Conflict' || error.code === 'AlreadyExists')
        if (!isRace || tries >= TRIES) throw error
      }
    }
  }

  async #write(all: ReadonlyMap<string, Recorded>): Promise<void> {
    const data = { [ENTRY]: JSON.stringify(Object.fromEntries(all)) }
    this.#found = this.#found
      ? await this.#store.update('ConfigMap', { ...this.#found, data })
      : await this.#store.create('ConfigMap', {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { ...this.#key, labels: { ...MANAGED_BY } },
          data,
        })
  }
}

/** What cannot be read counts as not recorded: the next serial is then the time. */
function recordedIn(found: ConfigMap | undefined): Map<string, Recorded> {
  const all = new Map<string, Recorded>()
  let value: unknown
  try {
    value = JSON.parse(found?.data?.[ENTRY] ?? '{}')
  } catch {
    return all
  }
  if (typeof value !== 'object' || value === null) return all
  for (const [zone, recorded] of Object.entries(value)) {
    const { serial, hash } = (recorded ?? {}) as Partial<Recorded>
    if (typeof serial === 'number' && Number.isInteger(serial) && typeof hash === 'string')
      all.set(zone, { serial: serial >>> 0, hash })
  }
  return all
}
