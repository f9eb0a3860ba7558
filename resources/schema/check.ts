/**
 * A value against its table, as an API server does it: defaults first, then types and bounds, then the rules.
 *
 *   value ── complete ──► with defaults, members that are null left out ── check ──► problems, each with the path of its field
 *
 * Differs from the API server in one thing: fields that are not in the table are problems, where the server drops them (kubectl asks it to refuse them).
 * A rule is run only where its value has the right shape, so that one mistake is one problem. Pure; nothing is changed in place.
 */
import { distanceOf } from '../../runtime/settings.ts'
import type { Field, IntegerField, ListField, MapField, ObjectField, Rule, TextField } from './schema.ts'

export interface FieldProblem {
  path: (string | number)[]
  /** what is wrong */
  problem: string
  /** what would be right */
  right: string
}

type Path = FieldProblem['path']

/** `spec.ports[0].port`; names that hold dots in brackets. */
export function pathText(path: Path): string {
  return path
    .map((step, i) => {
      if (typeof step === 'number') return `[${step}]`
      if (!/^[\w-]+$/.test(step)) return `[${step}]`
      return i === 0 ? step : `.${step}`
    })
    .join('')
}

/** `path: what is wrong; what would be right` */
export function problemText({ path, problem, right }: FieldProblem): string {
  return `${pathText(path)}: ${problem}; ${right}`
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A copy with the defaults of what is absent. What does not fit the table is kept as it is. */
export function complete(field: Field, value: unknown): unknown {
  if (field.type === 'list') return Array.isArray(value) ? value.map(item => complete(field.of, item)) : value
  if (field.type === 'map') {
    if (!isRecord(value)) return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, complete(field.of, member)]))
  }
  return field.type === 'object' && isRecord(value) ? completeObject(field, value) : value
}

function completeObject({ fields }: ObjectField, value: Record<string, unknown>): Record<string, unknown> {
  const present = Object.entries(value).filter(([name, member]) => member !== null || !Object.hasOwn(fields, name))
  const result: Record<string, unknown> = Object.fromEntries(
    present.map(([name, member]) => [name, Object.hasOwn(fields, name) ? complete(fields[name]!, member) : member]),
  )
  for (const [name, field] of Object.entries(fields))
    if (result[name] === undefined && field.default !== undefined)
      result[name] = complete(field, structuredClone(field.default))
  return result
}

/** `old`: the value before, where there was one; both with defaults. */
export function check(field: Field, value: unknown, old: unknown, path: Path): FieldProblem[] {
  const checker = new Checker()
  checker.check(field, value, old, path)
  return checker.problems
}

/** For rules that are not part of a field. */
export function checkRules(rules: readonly Rule[], value: unknown, old: unknown, path: Path): FieldProblem[] {
  return rules
    .filter(one => !(one.isTransition && old === undefined) && !one.test(value, old))
    .map(({ at, problem, right }) => ({ path: at === undefined ? path : [...path, ...at.split('.')], problem, right }))
}

class Checker {
  readonly problems: FieldProblem[] = []

  /** Are all types as the table says, here and below? Rules of a value whose parts have other types are not run. */
  check(field: Field, value: unknown, old: unknown, path: Path): boolean {
    const before = this.problems.length
    const isTyped = this.#checkShape(field, value, old, path)
    const isRight = !this.problems.slice(before).some(one => one.path.length === path.length)
    if (isTyped && isRight) this.problems.push(...checkRules(field.rules ?? [], value, old, path))
    return isTyped
  }

  #checkShape(field: Field, value: unknown, old: unknown, path: Path): boolean {
    switch (field.type) {
      case 'text':
        return this.#checkText(field, value, path)
      case 'integer':
        return this.#checkInteger(field, value, path)
      case 'boolean':
        return typeof value === 'boolean' || this.#refuse(path, `${shown(value)} is no yes or no`, 'true or false')
      case 'list':
        return this.#checkList(field, value, old, path)
      case 'map':
        return this.#checkMap(field, value, old, path)
      case 'object':
        return this.#checkObject(field, value, old, path)
    }
  }

  /** The type is wrong. */
  #refuse(path: Path, problem: string, right: string): false {
    this.problems.push({ path, problem, right })
    return false
  }

  /** The type is right, the value is not. */
  #object(path: Path, problem: string, right: string): true {
    this.problems.push({ path, problem, right })
    return true
  }

  #checkText(field: TextField, value: unknown, path: Path): boolean {
    const { pattern, oneOf, least = 0, most = Number.POSITIVE_INFINITY } = field
    const said = field.isSecret ? 'a secret' : shown(value)
    const right = oneOf ? `one of ${oneOf.join(', ')}` : (field.right ?? 'a text')
    if (typeof value !== 'string') {
      const isPlain = typeof value === 'number' || typeof value === 'boolean'
      return this.#refuse(path, `${said} is no text`, isPlain ? `${right}; in quotes` : right)
    }
    const length = [...value].length
    if (length < least) return this.#object(path, length === 0 ? 'empty' : `${said} is too short`, right)
    if (length > most) return this.#object(path, `${length} characters`, `at most ${most}`)
    if (oneOf && !oneOf.includes(value)) return this.#object(path, `${said} is not known`, right)
    if (pattern !== undefined && !new RegExp(pattern).test(value))
      return this.#object(path, `${said} does not fit`, right)
    return true
  }

  #checkInteger({ least, most, oneOf }: IntegerField, value: unknown, path: Path): boolean {
    const bounds = [least === undefined ? '' : `from ${least}`, most === undefined ? '' : `to ${most}`]
    const right = oneOf ? `one of ${oneOf.join(', ')}` : ['a whole number', ...bounds].filter(Boolean).join(' ')
    if (typeof value !== 'number' || !Number.isInteger(value))
      return this.#refuse(path, `${shown(value)} is no whole number`, right)
    const isIn = value >= (least ?? value) && value <= (most ?? value) && (oneOf?.includes(value) ?? true)
    return isIn || this.#object(path, `${value} is out of range`, right)
  }

  #checkList(field: ListField, value: unknown, old: unknown, path: Path): boolean {
    const { of, least = 0, most, unique } = field
    if (!Array.isArray(value))
      return this.#refuse(path, `${shown(value)} is no list`, 'a list: [a, b], or one a line after a dash')
    if (value.length > most) return this.#object(path, `${value.length} items`, `at most ${most}`)
    if (value.length < least) this.#object(path, `${value.length} items`, `at least ${least}`)
    const before = correlate(field, old)
    const areTyped = value.map((item, i) => this.check(of, item, before(item), [...path, i]))
    if (unique === undefined) return !areTyped.includes(false)
    const seen = new Set<string>()
    for (const [i, item] of value.entries()) {
      const identity = identityOf(unique, item)
      const right = unique === 'items' ? 'each only once' : `each ${unique.join(' and ')} only once`
      if (seen.has(identity)) this.#object([...path, i], `${identity} is there already`, right)
      seen.add(identity)
    }
    return !areTyped.includes(false)
  }

  #checkMap({ of, most }: MapField, value: unknown, old: unknown, path: Path): boolean {
    if (!isRecord(value)) return this.#refuse(path, `${shown(value)} is no set of names and values`, 'name: value')
    const members = Object.entries(value)
    if (members.length > most) return this.#object(path, `${members.length} members`, `at most ${most}`)
    const before = isRecord(old) ? old : {}
    return !members.map(([name, member]) => this.check(of, member, before[name], [...path, name])).includes(false)
  }

  #checkObject({ fields }: ObjectField, value: unknown, old: unknown, path: Path): boolean {
    const known = Object.keys(fields)
    if (!isRecord(value))
      return this.#refuse(path, `${shown(value)} is no set of fields`, `fields: ${known.join(', ')}`)
    for (const name of Object.keys(value))
      if (!Object.hasOwn(fields, name)) this.#object([...path, name], 'unknown field', rightName(name, known))
    const before = isRecord(old) ? old : {}
    return !Object.entries(fields)
      .map(([name, field]) => {
        if (value[name] !== undefined) return this.check(field, value[name], before[name], [...path, name])
        return !field.required || this.#refuse([...path, name], 'missing', firstSentence(field.about))
      })
      .includes(false)
  }
}

function firstSentence(text: string): string {
  return text.split(/[.:] /)[0]!.replace(/\.$/, '')
}

/** The item that was there before: only lists whose items have keys can tell. */
function correlate({ unique }: ListField, old: unknown): (item: unknown) => unknown {
  if (!Array.isArray(old) || unique === undefined || unique === 'items') return () => undefined
  const byKey = new Map(old.map(item => [identityOf(unique, item), item]))
  return item => byKey.get(identityOf(unique, item))
}

function identityOf(unique: NonNullable<ListField['unique']>, item: unknown): string {
  if (unique === 'items') return typeof item === 'string' ? item : JSON.stringify(item)
  return unique.map(name => String(isRecord(item) ? item[name] : undefined)).join(' ')
}

function rightName(name: string, known: readonly string[]): string {
  const near = known
    .map(one => ({ one, distance: distanceOf(one.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0]
  return near && near.distance <= Math.max(1, name.length / 3)
    ? `did you mean ${near.one}?`
    : `known are ${known.join(', ')}`
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'nothing'
  const text = JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}
