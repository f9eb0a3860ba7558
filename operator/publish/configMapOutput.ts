/**
 * Output: the text of the zones in a ConfigMap, for CoreDNS's `file` plugin and whoever else reads zone text.
 *
 *   zone ──► text ──► NAME, key `<zone>.zone` ── more than 900 KB ──► NAME-2, NAME-3 …, same key: whole lines, to be put one behind the other
 *
 * A ConfigMap that is not labelled as ours is left alone. What is in force where it is read, nobody tells us: servers to ask are given in `readBack.servers`.
 */
import { createHash } from 'node:crypto'
import type { ConfigMap } from '../../resources/kinds.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Desired } from './desired.ts'
import { type Applied, NO_CONFLICTS, type Output } from './output.ts'
import { type ZoneKind, zoneKinds } from './records.ts'
import { MANAGED_BY, type SerialBook } from './serialBook.ts'
import { writeZone } from './zoneOf.ts'

export interface ConfigMapConfig {
  namespace: string
  name: string
  nameServers: readonly string[]
}

/** of the 1 MiB that an object may have */
const MOST_BYTES = 900_000
const MOST_PARTS = 50
const LOOK_MS = 300_000
const HASH = 'ipref.io/hash'

export class ConfigMapOutput implements Output {
  readonly name: string
  readonly zones: readonly ZoneKind[] = zoneKinds
  readonly lookEveryMs = LOOK_MS
  readonly #config: ConfigMapConfig
  readonly #ports: { store: ResourceStore; serials: SerialBook; clock: Clock }
  /** hash of each part as it was written or found last */
  #hashes: string[] | undefined
  #lastVersion = 0

  constructor(config: ConfigMapConfig, ports: { store: ResourceStore; serials: SerialBook; clock: Clock }) {
    this.#config = config
    this.#ports = ports
    this.name = `ConfigMap ${config.namespace}/${config.name}`
  }

  doubt(): void {
    this.#hashes = undefined
  }

  servers(): readonly [] {
    return []
  }

  async apply(desired: Desired): Promise<Applied> {
    // nothing new to write: a look at what others did
    if (desired.version === this.#lastVersion) this.doubt()
    const texts = new Map<string, string>()
    for (const zone of desired.zones.values()) {
      const { hash, text } = writeZone(zone, this.#config.nameServers)
      const serial = await this.#ports.serials.serialFor(zone.zone, hash, this.#ports.clock.now() / 1000)
      texts.set(`${zone.zone}.zone`, text(serial))
    }
    const parts = partsOf(texts, MOST_BYTES)
    const hashes: string[] = []
    for (const [i, data] of parts.entries()) hashes.push(await this.#put(i, data))
    for (let i = parts.length; i < MOST_PARTS; i++) if (!(await this.#remove(i))) break
    this.#hashes = hashes
    this.#lastVersion = desired.version
    return NO_CONFLICTS
  }

  #keyOf(i: number): { namespace: string; name: string } {
    const { namespace, name } = this.#config
    return { namespace, name: i === 0 ? name : `${name}-${i + 1}` }
  }

  async #put(i: number, data: Record<string, string>): Promise<string> {
    const { store } = this.#ports
    const hash = createHash('sha256').update(JSON.stringify(data)).digest('base64url')
    if (this.#hashes?.[i] === hash) return hash
    const key = this.#keyOf(i)
    const found = await store.get('ConfigMap', key)
    if (found && !isOurs(found)) throw new Error(foreign(key))
    if (found && JSON.stringify(sorted(found.data)) === JSON.stringify(sorted(data))) return hash
    const annotations = { ...found?.metadata.annotations, [HASH]: hash }
    if (found) await store.update('ConfigMap', { ...found, metadata: { ...found.metadata, annotations }, data })
    else {
      const metadata = { ...key, labels: { ...MANAGED_BY }, annotations }
      await store.create('ConfigMap', { apiVersion: 'v1', kind: 'ConfigMap', metadata, data })
    }
    return hash
  }

  /** false: there is none. */
  async #remove(i: number): Promise<boolean> {
    const { store } = this.#ports
    if (this.#hashes && i >= this.#hashes.length) return false
    const key = this.#keyOf(i)
    const found = await store.get('ConfigMap', key)
    if (!found || !isOurs(found)) return false
    const { uid } = found.metadata
    await store.delete('ConfigMap', key, uid === undefined ? {} : { uid })
    return true
  }

  async stop(): Promise<void> {}
}

function isOurs({ metadata }: ConfigMap): boolean {
  return Object.entries(MANAGED_BY).every(([key, value]) => metadata.labels?.[key] === value)
}

function foreign({ namespace, name }: { namespace: string; name: string }): string {
  return `ConfigMap ${namespace}/${name} is somebody else's: choose another name in publishers.configMap, or delete it`
}

function sorted(data: Readonly<Record<string, string>> = {}): [string, string][] {
  return Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))
}

/** Texts cut at ends of lines, so that no part has more than `most` bytes. Pure. */
export function partsOf(texts: ReadonlyMap<string, string>, most: number): Record<string, string>[] {
  const parts: Record<string, string>[] = [{}]
  let room = most
  for (const [key, text] of texts) {
    let at = 0
    while (at < text.length) {
      if (text.length - at <= room) {
        parts.at(-1)![key] = text.slice(at)
        room -= text.length - at
        break
      }
      const fits = text.lastIndexOf('\n', at + room - 1) + 1
      // a line that is longer than all of a part goes whole all the same
      const end = fits > at || room < most ? Math.max(fits, at) : text.indexOf('\n', at) + 1 || text.length
      if (end > at) parts.at(-1)![key] = text.slice(at, end)
      at = end
      parts.push({})
      room = most
    }
  }
  return parts
}
