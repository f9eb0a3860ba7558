/**
 * The tables of our kinds, and the check of whole objects against them: `withDefaults` and `validate` do for a folder of YAML what an API server does with
 * the CRDs made from the same tables.
 *
 * Kinds that are not ours are checked as far as names go: their fields are Kubernetes' own affair.
 */
import { type KindName, kindTable } from '../kinds.ts'
import { check, checkRules, complete, type FieldProblem, isRecord } from './check.ts'
import { iprefGateway, iprefReference } from './iprefGateway.ts'
import { iprefPeer } from './iprefPeer.ts'
import { iprefService } from './iprefService.ts'
import { allFields, type Field, type KindTable, map, type Rule, text } from './schema.ts'
import { dnsLabel, dnsName, labelValue } from './texts.ts'

export type OwnKind = 'IprefService' | 'IprefPeer' | 'IprefGateway' | 'IprefReference'

export const tables: Readonly<Record<OwnKind, KindTable>> = {
  IprefService: iprefService,
  IprefPeer: iprefPeer,
  IprefGateway: iprefGateway,
  IprefReference: iprefReference,
}

export const ownKinds = Object.keys(tables) as OwnKind[]

export function tableOf(kind: KindName): KindTable | undefined {
  return (tables as Partial<Record<KindName, KindTable>>)[kind]
}

/** Gives new objects a status from which tools see that nobody has looked at them yet. */
export const newStatus = { observedGeneration: -1 }

/** A copy with the defaults of its table; members that are null are left out. */
export function withDefaults<T>(kind: KindName, object: T): T {
  const table = tableOf(kind)
  if (!table || !isRecord(object)) return object
  const status = table.status && { ...table.status, default: newStatus }
  const fields: Record<string, Field> = status ? { spec: table.spec, status } : { spec: table.spec }
  return complete({ type: 'object', about: '', fields }, object) as T
}

/** All that is wrong with an object; `old` is the one that it replaces. Defaults are filled in before. */
export function validate(kind: KindName, object: unknown, old?: unknown): FieldProblem[] {
  const { apiVersion } = kindTable[kind]
  if (!isRecord(object))
    return [{ path: [], problem: 'no object', right: `apiVersion: ${apiVersion}, kind: ${kind} and so on` }]
  const problems = [...checkConstant(object, 'apiVersion', apiVersion), ...checkConstant(object, 'kind', kind)]
  const metadata = checkMetadata(kind, object.metadata)
  problems.push(...metadata)
  const table = tableOf(kind)
  if (!table) return problems
  const whole = withDefaults(kind, object)
  const before = old === undefined ? undefined : withDefaults(kind, old)
  const body: Field = {
    type: 'object',
    about: '',
    fields: {
      apiVersion: text('', {}),
      kind: text('', {}),
      metadata: { type: 'object', about: '', fields: {} },
      spec: { ...table.spec, required: true },
      ...(table.status ? { status: table.status } : {}),
    },
  }
  problems.push(...check(body, { ...whole, metadata: {} }, before && { ...(before as object), metadata: {} }, []))
  if (metadata.length === 0) problems.push(...checkRules(table.rules ?? [], whole, before, []))
  return problems
}

function checkConstant(object: Record<string, unknown>, name: string, right: string): FieldProblem[] {
  const value = object[name]
  if (value === right) return []
  return [{ path: [name], problem: value === undefined ? 'missing' : `${JSON.stringify(value)} is not it`, right }]
}

const labels = map('Labels.', labelValue('A value.'), { most: 1024 })
const annotations = map('Annotations.', text('A value.'), { most: 1024 })
const resourceName = { ...dnsName('Name of the object.'), required: true } as const

function checkMetadata(kind: KindName, metadata: unknown): FieldProblem[] {
  if (!isRecord(metadata)) return [{ path: ['metadata'], problem: 'missing', right: 'metadata: {name: NAME}' }]
  const isNamespaced = kindTable[kind].scope === 'Namespaced'
  const name: Field = { ...(tableOf(kind)?.name ?? resourceName), required: true }
  const namespace: Field = dnsLabel('Namespace of the object.')
  const parts: [string, Field][] = [
    ['name', name],
    ['labels', labels],
    ['annotations', annotations],
    ...(isNamespaced ? [['namespace', namespace] as [string, Field]] : []),
  ]
  const problems = parts.flatMap(([part, field]) => {
    const value = metadata[part]
    if (value !== undefined && value !== null) return check(field, value, undefined, ['metadata', part])
    return field.required ? [{ path: ['metadata', part], problem: 'missing', right: 'the name of the object' }] : []
  })
  if (!isNamespaced && metadata.namespace !== undefined && metadata.namespace !== '')
    problems.push({ path: ['metadata', 'namespace'], problem: `${kind} is in no namespace`, right: 'without it' })
  const unknown = Object.keys(metadata).filter(one => !METADATA.has(one))
  for (const one of unknown)
    problems.push({ path: ['metadata', one], problem: 'unknown field', right: 'name, namespace, labels, annotations' })
  return problems
}

const METADATA: ReadonlySet<string> = new Set([
  ...['name', 'namespace', 'labels', 'annotations', 'uid', 'resourceVersion', 'generation', 'creationTimestamp'],
  ...['deletionTimestamp', 'deletionGracePeriodSeconds', 'finalizers', 'ownerReferences', 'managedFields'],
  ...['generateName', 'selfLink'],
])

export interface PlacedRule {
  kind: OwnKind
  /** `spec.hosts[].reference static` */
  place: string
  rule: Rule
}

/** Every rule of every table, where it stands. */
export function placedRules(kind: OwnKind): PlacedRule[] {
  const { rules = [], spec, status } = tables[kind]
  const inFields = [...allFields(spec, 'spec'), ...(status ? allFields(status, 'status') : [])]
  return [
    ...rules.map(rule => ({ kind, place: rule.id, rule })),
    ...inFields.flatMap(({ path, field }) =>
      (field.rules ?? []).map(rule => ({ kind, place: `${path} ${rule.id}`, rule })),
    ),
  ]
}
