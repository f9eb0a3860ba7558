/**
 * Objects made at random from the tables of our kinds: mostly right, each field wrong now and then. For comparing what `validate` says with what an API
 * server says of the same object, over more than anybody would write down (resourceCases.ts has the rows that people thought of).
 */
import fc from 'fast-check'
import { API_VERSION, kindTable } from '../../resources/kinds.ts'
import type { Field, ObjectField, TextField } from '../../resources/schema/schema.ts'
import { type OwnKind, tables, validate } from '../../resources/schema/tables.ts'

/** Of how many values one is wrong. */
const MISTAKES = 25

const trickyTexts = [
  ...['', ' ', '0', '1', '00', 'A', 'web ', 'a.b', 'a..b', '.', '-', '*', 'ä', '\u212a', '\u0000', 'a\n', '\n', '🦊'],
  ...[
    '0-7000',
    '65535',
    '65536',
    '1-0',
    '1--1',
    '1-1000',
    '8A3F-1',
    '1-2-3-4-5-6-7-8',
    '1-2-3-4-5-6-7-8-9',
    '4096',
    '4095',
  ],
  ...[
    '0.0.0.0',
    '::',
    '::1',
    '1.2.3.4',
    '01.2.3.4',
    '::ffff:1.2.3.4',
    '::1.2.3.4',
    'fe80::1%1',
    '255.255.255.255',
    'ff02::1',
  ],
  ...['64:ff9b::1.2.3.4', '1:2:3:4:5:6:7::', '::2:3:4:5:6:7:8', '1:0:0:2::', '2001:db8::0:1', '2001:DB8::1', '1::2::3'],
  ...[
    '10.0.0.0/8',
    '10.0.0.1/8',
    '::/0',
    '::/129',
    'fd24::/080',
    '::ffff:0:0/96',
    '::ffff:a00:0/104',
    '10.0.0.0/-1',
    '/8',
  ],
  ...[
    '1.2.3.4:53',
    '1.2.3.4:0',
    '[::1]:53',
    '[::1]',
    '[::1]:65536',
    '[1.2.3.4]:53',
    '1.2.3.4:',
    '::1:53',
    '[fe80::1%1]:53',
  ],
  ...[
    'www.example.com',
    'WWW.example.com',
    'www.example.com.',
    '1.2.3.4.',
    'x'.repeat(63),
    'x'.repeat(64),
    `${'a.'.repeat(126)}a`,
  ],
  ...['2026-01-31T12:00:00Z', '2026-02-31', 'TCP', 'Allow', 'Endpoints', 'In'],
]

const wrongTypes: fc.Arbitrary<unknown> = fc.constantFrom<unknown>(null, true, 5, 1.5, 'text', [], {}, ['a'], {
  a: 'b',
})

/** One of `MISTAKES` values is drawn from `wrong`. */
function mostly(right: fc.Arbitrary<unknown>, wrong: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof({ arbitrary: right, weight: MISTAKES - 1 }, { arbitrary: wrong, weight: 1 })
}

function arbitraryOf(field: Field): fc.Arbitrary<unknown> {
  return mostly(rightOf(field), fc.oneof(nearlyOf(field), wrongTypes))
}

function rightOf(field: Field): fc.Arbitrary<unknown> {
  switch (field.type) {
    case 'text':
      return fc.constantFrom(...textsOf(field))
    case 'integer': {
      const { least: min = -1, most: max = 2147483647 } = field
      return fc.oneof(fc.integer({ min, max }), fc.integer({ min, max: Math.min(max, min + 3) }))
    }
    case 'boolean':
      return fc.boolean()
    case 'list':
      return fc.array(arbitraryOf(field.of), { minLength: field.least ?? 0, maxLength: 3 })
    case 'map':
      return fc.dictionary(fc.constantFrom('app', 'tier', 'app.kubernetes.io/name'), arbitraryOf(field.of), {
        maxKeys: 3,
      })
    case 'object':
      return rightObject(field)
  }
}

function textsOf({ oneOf, examples }: TextField): readonly string[] {
  return oneOf ?? examples ?? ['text']
}

/** Of the right type, but perhaps not right. */
function nearlyOf(field: Field): fc.Arbitrary<unknown> {
  switch (field.type) {
    case 'text': {
      const { most = 10 } = field
      return fc.oneof(
        fc.constantFrom(...trickyTexts, 'a'.repeat(most), 'a'.repeat(most + 1)),
        fc.string({ unit: 'grapheme' }),
      )
    }
    case 'integer':
      return fc.constantFrom((field.least ?? 0) - 1, (field.most ?? 0) + 1, 0)
    case 'list':
      return fc.array(fc.oneof(rightOf(field.of), nearlyOf(field.of)), { maxLength: 3 })
    case 'object':
      return fc.constantFrom({}, { unknown: 1 })
    default:
      return wrongTypes
  }
}

function rightObject({ fields }: ObjectField): fc.Arbitrary<unknown> {
  const entries = Object.entries(fields)
  const model = Object.fromEntries(
    entries.map(([name, field]) => {
      const present = field.required ? MISTAKES : 1
      const one = fc.oneof(
        { arbitrary: arbitraryOf(field).map(value => [name, value] as const), weight: present },
        { arbitrary: fc.constant(undefined), weight: 1 },
      )
      return [name, one]
    }),
  )
  return fc.record(model).map(drawn => Object.fromEntries(Object.values(drawn).filter(one => one !== undefined)))
}

/** The name is right: an API server says little of wrong ones before it looks at the rest. */
export function arbitraryObject(kind: OwnKind, name: string): fc.Arbitrary<Record<string, unknown>> {
  const { scope } = kindTable[kind]
  const metadata = scope === 'Namespaced' ? { name, namespace: 'default' } : { name }
  return rightObject(tables[kind].spec).map(spec => ({ apiVersion: API_VERSION, kind, metadata, spec }))
}

/** An object that is right, and one that comes in its place. */
export function arbitraryChange(
  kind: OwnKind,
  name: string,
): fc.Arbitrary<{ old: Record<string, unknown>; object: Record<string, unknown> }> {
  const right = arbitraryObject(kind, name).filter(object => validate(kind, object).length === 0)
  return fc.tuple(right, arbitraryObject(kind, name), fc.boolean()).map(([old, other, isSmall]) => {
    const [before, after] = [old.spec as object, other.spec as object]
    return { old, object: { ...other, spec: isSmall ? { ...before, ...pick(after) } : after } }
  })
}

/** One member, so that the change is small. */
function pick(fields: object): object {
  return Object.fromEntries(Object.entries(fields).slice(0, 1))
}
