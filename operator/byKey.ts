/**
 * The objects of one kind by something in them (an owner, an address, a name), kept up to date by the changes of a watch. Most keys have one object, which then
 * stands for itself: there are several of these tables, with ten thousand keys each.
 */
import type { KindName, Kinds } from '../resources/kinds.ts'
import type { Change } from '../resources/store.ts'

export class ByKey<Kind extends KindName> {
  readonly #keysOf: (object: Kinds[Kind]) => Iterable<string>
  /** by key: the object, or several by `namespace/name` */
  readonly #found = new Map<string, Kinds[Kind] | Map<string, Kinds[Kind]>>()

  constructor(keysOf: (object: Kinds[Kind]) => Iterable<string>) {
    this.#keysOf = keysOf
  }

  /** The keys whose objects are not the same any more. */
  change({ before, now }: Change<Kind>): Set<string> {
    const touched = new Set<string>()
    for (const key of before ? this.#keysOf(before) : []) {
      touched.add(key)
      this.#remove(key, keyOf(before!))
    }
    for (const key of now ? this.#keysOf(now) : []) {
      touched.add(key)
      this.#put(key, now!)
    }
    return touched
  }

  #remove(key: string, object: string): void {
    const found = this.#found.get(key)
    if (found instanceof Map) {
      found.delete(object)
      const [last] = found.values()
      if (found.size === 1) this.#found.set(key, last!)
    } else if (found && keyOf(found) === object) this.#found.delete(key)
  }

  #put(key: string, object: Kinds[Kind]): void {
    const found = this.#found.get(key)
    if (found instanceof Map) found.set(keyOf(object), object)
    else if (!found || keyOf(found) === keyOf(object)) this.#found.set(key, object)
    else
      this.#found.set(
        key,
        new Map([
          [keyOf(found), found],
          [keyOf(object), object],
        ]),
      )
  }

  get(key: string): Kinds[Kind][] {
    const found = this.#found.get(key)
    if (!found) return []
    return found instanceof Map ? [...found.values()] : [found]
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
