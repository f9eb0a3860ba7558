/**
 * What an API server does with an object that is written, for the folder store: what it gives to objects, what it keeps apart, what it refuses. Pure.
 */
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { type KindName, type KubeObject, kindTable } from './kinds.ts'
import { type FieldProblem, problemText } from './schema/check.ts'
import { validate, withDefaults } from './schema/tables.ts'
import { StoreError } from './store.ts'

/** Their status is written by `updateStatus` alone; `create` and `update` leave it as it is. */
export const hasOwnStatus: ReadonlySet<KindName> = new Set<KindName>([
  'IprefService',
  'IprefPeer',
  'IprefGateway',
  'Service',
  'Pod',
  'Node',
  'Namespace',
])

/** Their status is none of a file's business; that of Pods, Nodes and Services has nowhere else to come from. */
export const hasProgramStatus: ReadonlySet<KindName> = new Set<KindName>(['IprefService', 'IprefPeer', 'IprefGateway'])

const hasGeneration: ReadonlySet<KindName> = new Set<KindName>([
  'IprefService',
  'IprefPeer',
  'IprefGateway',
  'IprefReference',
  'DNSEndpoint',
])

/** With what the store gives to an object, and without what nobody else may say. `now`: a timestamp. */
export function complete(kind: KindName, old: KubeObject | undefined, wanted: KubeObject, now: string): KubeObject {
  const { name, namespace, labels, annotations, finalizers, ownerReferences } = wanted.metadata
  const before = old?.metadata
  const filled = withDefaults(kind, plain({ ...wanted, ...named(kind) }) as KubeObject)
  const isSame = old !== undefined && isDeepStrictEqual(contentOf(filled), contentOf(old))
  const generation = isSame ? before?.generation : (before?.generation ?? 0) + 1
  const metadata = plain({
    name,
    namespace,
    uid: before?.uid ?? randomUUID(),
    generation: hasGeneration.has(kind) ? generation : undefined,
    creationTimestamp: before?.creationTimestamp ?? now,
    deletionTimestamp: before?.deletionTimestamp,
    labels: unlessEmpty(labels),
    annotations: unlessEmpty(annotations),
    finalizers: finalizers?.length ? [...new Set(finalizers)] : undefined,
    ownerReferences: ownerReferences?.length ? ownerReferences : undefined,
  }) as KubeObject['metadata']
  return { ...filled, metadata }
}

/** What was wrong before, and was let in, does not keep an object from its status or its end. */
export function problemsOf(kind: KindName, object: KubeObject, old: KubeObject | undefined): FieldProblem[] {
  const { deletionTimestamp, finalizers = [] } = object.metadata
  const problems: FieldProblem[] = []
  if (deletionTimestamp !== undefined && finalizers.some(name => !old?.metadata.finalizers?.includes(name)))
    problems.push({
      path: ['metadata', 'finalizers'],
      problem: 'the object is being deleted',
      right: 'those that it has, or fewer',
    })
  const found = validate(kind, object, old)
  const known = new Set(old && found.length > 0 ? validate(kind, old).map(problemText) : [])
  return [...problems, ...found.filter(one => !known.has(problemText(one)))]
}

export function invalid(verb: string, id: string, problems: readonly FieldProblem[]): StoreError {
  return new StoreError('Invalid', `${verb} ${id}: ${problems.map(problemText).join('. ')}`, { status: 422 })
}

/** Throws unless the object is there, and still the one that was meant. */
export function requireSame(
  verb: string,
  id: string,
  found: KubeObject | undefined,
  { resourceVersion, uid }: { resourceVersion?: string | undefined; uid?: string | undefined },
): void {
  if (!found) throw new StoreError('NotFound', `${verb} ${id}: it is not there`, { status: 404 })
  const { metadata } = found
  if (uid !== undefined && uid !== metadata.uid)
    throw new StoreError('Conflict', `${verb} ${id}: another object of that name has taken its place`, { status: 409 })
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion)
    throw new StoreError('Conflict', `${verb} ${id}: it has changed since ${resourceVersion}`, { status: 409 })
}

export function isGoing(object: KubeObject | undefined): boolean {
  return object?.metadata.deletionTimestamp !== undefined
}

/** But for the resourceVersion. */
export function isSameObject(a: KubeObject, b: KubeObject): boolean {
  return isDeepStrictEqual(withoutVersion(a), withoutVersion(b))
}

function withoutVersion(object: KubeObject): object {
  return { ...object, metadata: { ...object.metadata, resourceVersion: undefined } }
}

export function named(kind: KindName): { apiVersion: string; kind: KindName } {
  return { apiVersion: kindTable[kind].apiVersion, kind }
}

export function withoutStatus<Value extends KubeObject>(object: Value): Value {
  const { status: _dropped, ...rest } = object as Value & { status?: unknown }
  return rest as unknown as Value
}

export function withStatusOf(object: KubeObject, from: KubeObject): KubeObject {
  const { status } = from as { status?: unknown }
  return { ...withoutStatus(object), ...(status !== undefined && { status }) } as KubeObject
}

function contentOf(object: KubeObject): object {
  const { metadata: _metadata, ...content } = withoutStatus(object)
  return content
}

/** As JSON holds it. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value))
}

function unlessEmpty<Map extends object>(map: Map | undefined): Map | undefined {
  return map && Object.keys(map).length > 0 ? map : undefined
}
