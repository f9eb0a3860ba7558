/** One vector, as the README of the vector folders describes it. */
export interface Vector {
  name: string
  class: string
  description: string
  // biome-ignore lint/suspicious/noExplicitAny: each file has a shape of its own, checked by the driver of that shape
  input: any
  // biome-ignore lint/suspicious/noExplicitAny: see above
  state: any
  // biome-ignore lint/suspicious/noExplicitAny: see above
  expect: any
  not_deterministic?: unknown
  do_better?: boolean
  rule?: string
  // biome-ignore lint/suspicious/noExplicitAny: same form as expect
  better?: any
}

export type Outcome = { vector: Vector; kind: 'passed' | 'failed' | 'skipped' | 'superseded'; why?: string }

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

export function unhex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

/** Bytes of our own vectors: hexadecimal, or a list of [hexadecimal, what it is]. */
export function joinFields(value: unknown): unknown {
  if (Array.isArray(value)) {
    const isFields =
      value.length > 0 &&
      value.every(item => Array.isArray(item) && item.length === 2 && item.every(part => typeof part === 'string'))
    return isFields ? value.map(item => (item as string[])[0]!.replaceAll(' ', '')).join('') : value.map(joinFields)
  }
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, joinFields(inner)]))
}
