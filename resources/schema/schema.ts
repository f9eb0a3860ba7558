/**
 * The language of the validation tables: what a field may hold, its default, and its text for people. A kind is one table; from it are made
 *
 *   table ──► crd.ts    the CustomResourceDefinition: structural schema, CEL rules, texts of `kubectl explain`
 *         ──► check.ts  the same checks in this process, for objects that no API server has seen
 *         ──► page.ts   the page of documentation
 *
 * What a schema cannot say is a rule, given once with its CEL text and its test. Both are run over the same objects (test/support/resourceCases.ts and
 * generated ones), the CEL text by a real API server, so that they cannot drift apart. Settings of the platform (../config.ts) are a table too.
 */

/** What the API server calls it; FieldValueInvalid where absent. Those that it has beside these swallow the message. */
export type RuleReason = 'FieldValueInvalid' | 'FieldValueForbidden'

export interface Rule<Self = unknown> {
  /** unique within its field */
  id: string
  /** what is wrong with a value that breaks it */
  problem: string
  /** what would be right */
  right: string
  /** absent only where no API server will read it */
  cel?: string
  test(self: Self, old: Self): boolean
  /** compares with the object before: not run when there was none */
  isTransition?: true
  /** field of `self` that the problem is about, `metadata.name` */
  at?: string
  reason?: RuleReason
}

interface Common {
  /** For `kubectl explain`: what it is, its unit, an example. */
  about: string
  default?: unknown
  required?: true
  rules?: readonly Rule[]
}

export interface TextField extends Common {
  type: 'text'
  pattern?: string
  /** what the pattern means */
  right?: string
  oneOf?: readonly string[]
  /** characters */
  least?: number
  most?: number
  /** never shown */
  isSecret?: true
  /** values that are right, for generated objects */
  examples?: readonly string[]
}

export interface IntegerField extends Common {
  type: 'integer'
  least?: number
  most?: number
  oneOf?: readonly number[]
  isLong?: true
}

export interface BooleanField extends Common {
  type: 'boolean'
}

export interface ListField extends Common {
  type: 'list'
  of: Field
  least?: number
  most: number
  /** no item twice; or no two items with the same of these fields */
  unique?: 'items' | readonly string[]
}

export interface ObjectField extends Common {
  type: 'object'
  fields: Readonly<Record<string, Field>>
}

/** Names chosen by people, one kind of value. */
export interface MapField extends Common {
  type: 'map'
  of: Field
  most: number
}

export type Field = TextField | IntegerField | BooleanField | ListField | ObjectField | MapField

export interface PrinterColumn {
  name: string
  type: 'string' | 'integer' | 'date'
  about: string
  path: string
  /** shown with `-o wide` only */
  isWide?: true
}

export interface KindTable {
  about: string
  shortNames: readonly string[]
  columns: readonly PrinterColumn[]
  /** `metadata.name` */
  name: TextField
  /** over the whole object */
  rules?: readonly Rule[]
  spec: ObjectField
  status?: ObjectField
}

/** A rule over values of a known type. */
export function rule<Self>(one: Rule<Self>): Rule {
  return one as Rule
}

type Without<F extends Field> = Omit<F, 'type' | 'about'>

export function text(about: string, more: Without<TextField> = {}): TextField {
  return { type: 'text', about, ...more }
}

export function integer(about: string, more: Without<IntegerField> = {}): IntegerField {
  return { type: 'integer', about, ...more }
}

export function boolean(about: string, more: Without<BooleanField> = {}): BooleanField {
  return { type: 'boolean', about, ...more }
}

export function list(about: string, of: Field, more: Omit<Without<ListField>, 'of'>): ListField {
  return { type: 'list', about, of, ...more }
}

export function object(
  about: string,
  fields: ObjectField['fields'],
  more: Omit<Without<ObjectField>, 'fields'> = {},
): ObjectField {
  return { type: 'object', about, fields, ...more }
}

export function map(about: string, of: Field, more: Omit<Without<MapField>, 'of'>): MapField {
  return { type: 'map', about, of, ...more }
}

/** The same field, but that it must be there. */
export function required<F extends Field>(field: F): F {
  return { ...field, required: true }
}

/** As they stand in messages and in the documentation: `spec.ports[].port`. */
export function membersOf(field: Field, path: string): { path: string; field: Field }[] {
  switch (field.type) {
    case 'object':
      return Object.entries(field.fields).map(([name, member]) => ({
        path: path === '' ? name : `${path}.${name}`,
        field: member,
      }))
    case 'list':
      return [{ path: `${path}[]`, field: field.of }]
    case 'map':
      return [{ path: `${path}.*`, field: field.of }]
    default:
      return []
  }
}

/** The field itself, then all below it, in the order of the table. */
export function allFields(field: Field, path: string): { path: string; field: Field }[] {
  return [{ path, field }, ...membersOf(field, path).flatMap(member => allFields(member.field, member.path))]
}
