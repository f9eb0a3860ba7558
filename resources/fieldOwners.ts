/**
 * Who says which field: `apply` of the folder store, after server-side apply of the API. Pure.
 *
 *   owners: manager → JSON pointers of the fields that its last `apply` said
 *
 *   apply ── fields said now ──────────────► set; others that said another value lose them
 *         └─ said last time, not now ──────► removed, unless another manager says them too
 *   any other write ── fields it changes ──► nobody's any more
 *
 * Lists are one value, but for finalizers (a set) and ownerReferences (by uid), which several managers share.
 */
import { isDeepStrictEqual } from 'node:util'
import type { KubeObject } from './kinds.ts'

export type Owners = Readonly<Record<string, readonly string[]>>

type Tree = Record<string, unknown>

/** Members that nobody says: the store's own, and those that name the object. */
const notSaid = [
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'managedFields',
]

export function mergeApplied<Object extends KubeObject>(
  current: Object | undefined,
  said: Object,
  manager: string,
  owners: Owners,
): { object: Object; owners: Owners } {
  const object = toTree(current ?? bare(said))
  const wanted = toTree(said)
  for (const name of ['apiVersion', 'kind']) delete wanted[name]
  for (const name of notSaid) delete (wanted.metadata as Tree)[name]
  const leaves = leavesOf(wanted)
  const others = Object.entries(owners).filter(([name]) => name !== manager)
  const saidByOthers = new Set(others.flatMap(([, paths]) => paths))
  for (const path of owners[manager] ?? [])
    if (!leaves.has(path) && !saidByOthers.has(path)) removeAt(object, stepsOf(path))
  // others say that a map is there, even an empty one
  for (const path of saidByOthers) if (valueAt(object, stepsOf(path)) === undefined) setAt(object, stepsOf(path), {})
  const next: Record<string, readonly string[]> = {}
  const before = structuredClone(object)
  for (const [path, value] of leaves) setAt(object, stepsOf(path), value)
  for (const [name, paths] of others) next[name] = kept(paths, before, object)
  next[manager] = [...leaves.keys()]
  return { object: fromTree(object) as unknown as Object, owners: withoutEmpty(next) }
}

/** After a write that is no `apply`. */
export function ownersAfterWrite(owners: Owners, before: KubeObject, after: KubeObject): Owners {
  const [was, is] = [toTree(before), toTree(after)]
  return withoutEmpty(
    Object.fromEntries(Object.entries(owners).map(([name, paths]) => [name, kept(paths, was, is)] as const)),
  )
}

function kept(paths: readonly string[], before: Tree, after: Tree): string[] {
  return paths.filter(path => isDeepStrictEqual(valueAt(before, stepsOf(path)), valueAt(after, stepsOf(path))))
}

function withoutEmpty(owners: Owners): Owners {
  return Object.fromEntries(Object.entries(owners).filter(([, paths]) => paths.length > 0))
}

function bare({ apiVersion, kind, metadata: { name, namespace } }: KubeObject): KubeObject {
  return { apiVersion, kind, metadata: { name, ...(namespace !== undefined && { namespace }) } }
}

// ---- objects as trees of maps

function toTree(object: KubeObject): Tree {
  const tree = structuredClone(object) as unknown as Tree & { metadata: Tree }
  const { finalizers, ownerReferences } = object.metadata
  if (finalizers) tree.metadata.finalizers = Object.fromEntries(finalizers.map(name => [name, name]))
  if (ownerReferences)
    tree.metadata.ownerReferences = Object.fromEntries(ownerReferences.map(owner => [owner.uid, { ...owner }]))
  return tree
}

function fromTree(tree: Tree): Tree {
  const metadata = tree.metadata as Tree
  for (const name of ['finalizers', 'ownerReferences']) {
    if (metadata[name] === undefined) continue
    const items = Object.values(metadata[name] as Tree)
    if (items.length > 0) metadata[name] = items
    else delete metadata[name]
  }
  return tree
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function leavesOf(tree: Tree, above = '', leaves = new Map<string, unknown>()): Map<string, unknown> {
  for (const [name, value] of Object.entries(tree)) {
    const path = `${above}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
    if (value === undefined) continue
    if (isTree(value) && Object.keys(value).length > 0) leavesOf(value, path, leaves)
    else if (path !== '/metadata') leaves.set(path, value)
  }
  return leaves
}

function stepsOf(path: string): string[] {
  return path
    .slice(1)
    .split('/')
    .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function valueAt(tree: Tree, steps: readonly string[]): unknown {
  let value: unknown = tree
  for (const step of steps) {
    if (!isTree(value) || !Object.hasOwn(value, step)) return undefined
    value = value[step]
  }
  return value
}

function setAt(tree: Tree, steps: readonly string[], value: unknown): void {
  let place = tree
  for (const step of steps.slice(0, -1)) {
    const next = Object.hasOwn(place, step) ? place[step] : undefined
    place = isTree(next) ? next : put(place, step, {})
  }
  const last = steps.at(-1)!
  // an empty map that is said makes sure that one is there
  if (isTree(value) && Object.hasOwn(place, last) && isTree(place[last])) return
  put(place, last, value)
}

/** As an own member, also where its name is `__proto__`. */
function put<Value>(place: Tree, name: string, value: Value): Value {
  Object.defineProperty(place, name, { value, writable: true, enumerable: true, configurable: true })
  return value
}

/** Maps that become empty go too. */
function removeAt(tree: Tree, steps: readonly string[]): void {
  const [step, ...rest] = steps
  if (step === undefined || !Object.hasOwn(tree, step)) return
  if (rest.length === 0) {
    delete tree[step]
    return
  }
  const inner = tree[step]
  if (!isTree(inner)) return
  removeAt(inner, rest)
  if (Object.keys(inner).length === 0) delete tree[step]
}
