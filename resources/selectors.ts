/**
 * Label and field selectors, as texts of the API (`app=web,tier in (a, b),!old`) and as objects (`LabelSelector`). Pure.
 *
 * Field selectors compare any field by its path; a field that is not there is the empty text, as in the API.
 */
import type { KubeObject, LabelSelector } from './kinds.ts'
import type { WatchOptions } from './store.ts'

type Labels = Readonly<Record<string, string>>
type Test<Subject> = (subject: Subject) => boolean

/** A text that is no selector throws: it is written by programs, never read from input. */
export function selects(options: WatchOptions): Test<KubeObject> {
  const { namespace, labelSelector, fieldSelector } = options
  const byLabels = labelSelector ? parseLabelSelector(labelSelector) : undefined
  const byFields = fieldSelector ? parseFieldSelector(fieldSelector) : undefined
  return object =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (byLabels?.(object.metadata.labels ?? {}) ?? true) &&
    (byFields?.(object) ?? true)
}

export function parseLabelSelector(text: string): Test<Labels> {
  const tests = splitOutside(text).map(labelTest)
  return labels => tests.every(test => test(labels))
}

function labelTest(text: string): Test<Labels> {
  const set = /^([^\s!=(),]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text)
  if (set) {
    const [, key, word, list] = set
    const values = list!.split(',').map(value => value.trim())
    const has = (labels: Labels) => values.includes(labelOf(labels, key!)!)
    return word === 'in' ? has : labels => !has(labels)
  }
  const equal = /^([^\s!=(),]+)\s*(==|=|!=)\s*([^\s!=(),]*)$/.exec(text)
  if (equal) {
    const [, key, sign, value] = equal
    return labels => (labelOf(labels, key!) === value) === (sign !== '!=')
  }
  const present = /^(!?)\s*([^\s!=(),]+)$/.exec(text)
  if (!present) throw new Error(`${text} is no label selector`)
  const [, not, key] = present
  return labels => (labelOf(labels, key!) !== undefined) === (not === '')
}

function labelOf(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined
}

function parseFieldSelector(text: string): Test<KubeObject> {
  const tests = splitOutside(text).map(part => {
    const match = /^([^\s!=]+)\s*(==|=|!=)\s*(.*)$/.exec(part)
    if (!match) throw new Error(`${part} is no field selector`)
    const [, path, sign, value] = match
    return (object: KubeObject) => (fieldText(object, path!) === value) === (sign !== '!=')
  })
  return object => tests.every(test => test(object))
}

function fieldText(object: KubeObject, path: string): string {
  let value: unknown = object
  for (const step of path.split('.')) value = (value as Record<string, unknown> | undefined)?.[step]
  return value === undefined || value === null ? '' : String(value)
}

/** At commas that are in no brackets. */
function splitOutside(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map(part => part.trim())
    .filter(part => part !== '')
}

/** The empty selector matches everything. */
export function matchesLabels(selector: LabelSelector, labels: Labels = {}): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector
  if (!Object.entries(matchLabels).every(([key, value]) => labelOf(labels, key) === value)) return false
  return matchExpressions.every(({ key, operator, values = [] }) => {
    const has = Object.hasOwn(labels, key)
    switch (operator) {
      case 'Exists':
        return has
      case 'DoesNotExist':
        return !has
      case 'In':
        return has && values.includes(labels[key]!)
      case 'NotIn':
        return !has || !values.includes(labels[key]!)
      default:
        return false
    }
  })
}
