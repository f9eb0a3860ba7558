/** The objects of one kind by something in them (an owner, an address, a name), kept up to date by the changes of a watch. */
import type { KindName, Kinds } from '../resources/kinds.ts'
import type { Change } from '../resources/store.ts'

export class ByKey<Kind extends KindName> {
  readonly #keysOf: (object: Kinds[Kind]) => Iterable<string>
  /** by key, then by `namespace/name` */
  readonly #found = new Map<string, Map<string, Kinds[Kind]>>()

  constructor(keysOf: (object: Kinds[Kind]) => Iterable<string>) {
    this.#keysOf = keysOf
  }

  /** The keys whose objects are not the same any more. */
  change({ before, now }: Change<Kind>): Set<string> {
    const touched = new Set<string>()
    for (const key of before ? this.#keysOf(before) : []) {
      touched.add(key)
      const objects = this.#found.get(key)
      objects?.delete(keyOf(before!))
      if (objects?.size === 0) this.#found.delete(key)
    }
    for (const key of now ? this.#keysOf(now) : []) {
      touched.add(key)
      let objects = this.#found.get(key)
      if (!objects) {
        objects = new Map()
        this.#found.set(key, objects)
      }
      objects.set(keyOf(now!), now!)
    }
    return touched
  }

  get(key: string): Kinds[Kind][] {
    return [...(this.#found.get(key)?.values() ?? [])]
  }

  get size(): number {
    return this.#found.size
  }
}

/** `namespace/name`, or the name alone for kinds without namespaces. */
export function keyOf({ metadata }: { metadata: { name: string; namespace?: string } }): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`
}

/** The other way round. */
export function fromKey(key: string): { name: string; namespace?: string } {
  const slash = key.indexOf('/')
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) }
}
