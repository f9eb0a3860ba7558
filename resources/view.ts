/**
 * The objects of one kind that a watch has seen, and what each step changed. Both stores keep their views with it.
 *
 * An object is frozen when it enters, so that readers may share it. One that is here already, by uid and resourceVersion, stays as it is: a relist
 * keeps every object that did not change, and needs memory for one page only. Owner: the watch that fills it.
 */
import type { IprefService, KindName, Kinds, KubeObject } from './kinds.ts'
import type { Change, Key } from './store.ts'

export function keyText(key: Key): string {
  return `${key.namespace ?? ''}/${key.name}`
}

export class View<Kind extends KindName> {
  readonly #objects = new Map<string, Kinds[Kind]>()

  get size(): number {
    return this.#objects.size
  }

  get(key: Key): Kinds[Kind] | undefined {
    return this.#objects.get(keyText(key))
  }

  all(): Iterable<Kinds[Kind]> {
    return this.#objects.values()
  }

  /** Copied, so that the view may change meanwhile. */
  keys(): string[] {
    return [...this.#objects.keys()]
  }

  /** None: it was here. Two: another object of the same name has taken its place. */
  put(object: Kinds[Kind]): Change<Kind>[] {
    const key = keyText(object.metadata)
    const before = this.#objects.get(key)
    if (before && isSame(before, object)) return []
    const now = freeze(object)
    this.#objects.set(key, now)
    if (before && before.metadata.uid !== now.metadata.uid)
      return [
        { before, now: undefined },
        { before: undefined, now },
      ]
    return [{ before, now }]
  }

  remove(key: string): Change<Kind>[] {
    const before = this.#objects.get(key)
    this.#objects.delete(key)
    return before ? [{ before, now: undefined }] : []
  }
}

function isSame(a: KubeObject, b: KubeObject): boolean {
  return a.metadata.resourceVersion === b.metadata.resourceVersion && a.metadata.uid === b.metadata.uid
}

/** All of it, in place. */
export function freeze<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const inner of Object.values(value)) freeze(inner)
  return Object.freeze(value)
}

/** Decimal resourceVersions of any length: negative, 0 or positive as `a` is before, at or after `b`. */
export function compareVersions(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}

/**
 * Gateways that have seen an IprefService of this version have its mappings (decisions.md 19): that of the write that brought them, or, until it is recorded, that of
 * the object, which is no earlier. undefined: there are none.
 */
export function versionOfMappings({ metadata, status }: IprefService): string | undefined {
  return status?.mappingsVersion ?? (status?.mappings?.length ? metadata.resourceVersion : undefined)
}
