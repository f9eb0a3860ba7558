/**
 * Domain names, byte for byte (RFC 1035 section 3.1, RFC 4343): a name is its uncompressed wire form, one character from 0 to 255 for each byte.
 *
 *   www.example.com.   ◄─►   '\x03www\x07example\x03com\x00'
 *
 * So no byte of a label is special: a label may hold dots, NULs or anything else, and two names are equal when their strings are. Length octets
 * are at most 63, below every letter: lower case can be taken of the whole string.
 */
export type Name = string

export const ROOT: Name = '\0'
export const MAX_NAME = 255
export const MAX_LABEL = 63

const HAS_UPPER = /[A-Z]/
const UPPER = /[A-Z]+/g

/** ASCII letters only (RFC 4343). */
export function lowerName(name: Name): Name {
  return HAS_UPPER.test(name) ? name.replace(UPPER, letters => letters.toLowerCase()) : name
}

/** First to last, without the root. */
export function labelsOf(name: Name): string[] {
  const labels: string[] = []
  for (let at = 0; name.charCodeAt(at) > 0; at += 1 + name.charCodeAt(at))
    labels.push(name.slice(at + 1, at + 1 + name.charCodeAt(at)))
  return labels
}

export function countLabels(name: Name): number {
  let count = 0
  for (let at = 0; name.charCodeAt(at) > 0; at += 1 + name.charCodeAt(at)) count++
  return count
}

/** undefined: too long. */
export function nameOfLabels(labels: readonly string[]): Name | undefined {
  let name = ''
  for (const label of labels) {
    if (label.length === 0 || label.length > MAX_LABEL) return undefined
    name += String.fromCharCode(label.length) + label
  }
  return name.length + 1 <= MAX_NAME ? `${name}\0` : undefined
}

/** The name without its first label; the root has none. */
export function parentOf(name: Name): Name | undefined {
  const length = name.charCodeAt(0)
  return length === 0 ? undefined : name.slice(1 + length)
}

/** Is it the ancestor itself, or below it? Both in lower case. */
export function isAtOrBelow(name: Name, ancestor: Name): boolean {
  const start = name.length - ancestor.length
  if (start < 0 || !name.endsWith(ancestor)) return false
  let at = 0
  while (at < start) at += 1 + name.charCodeAt(at)
  return at === start
}

/** `prefix` (labels without the root) before `name`; undefined: too long. */
export function joinNames(prefix: Name, name: Name): Name | undefined {
  const joined = prefix.slice(0, -1) + name
  return joined.length <= MAX_NAME ? joined : undefined
}

/**
 * Presentation form: `\.` and `\DDD` as RFC 1035 section 5.1 says. A name without a dot at its end is taken below `origin`; without an origin
 * it is taken as complete. undefined: not a name.
 */
export function parseName(text: string, origin: Name = ROOT): Name | undefined {
  if (text === '@') return origin
  if (text === '.') return ROOT
  const labels: string[] = []
  let label = ''
  let isComplete = false
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    isComplete = false
    if (c === '.') {
      if (label === '') return undefined
      labels.push(label)
      label = ''
      isComplete = true
    } else if (c === '\\') {
      const digits = /^\d{3}/.exec(text.slice(i + 1, i + 4))?.[0]
      if (digits !== undefined) {
        if (Number(digits) > 255) return undefined
        label += String.fromCharCode(Number(digits))
        i += 3
      } else {
        const next = text.charCodeAt(++i)
        if (!(next <= 255)) return undefined
        label += String.fromCharCode(next)
      }
    } else {
      if (c.charCodeAt(0) > 255) return undefined
      label += c
    }
  }
  if (label !== '') labels.push(label)
  const name = nameOfLabels(labels)
  if (name === undefined || labels.length === 0) return undefined
  return isComplete ? name : joinNames(name, origin)
}

/** Presentation form, with the dot at its end. */
export function formatName(name: Name): string {
  if (name === ROOT) return '.'
  return labelsOf(name)
    .map(label => `${label.replace(/[^!-~]|[\\.";()@$]/g, escapeByte)}.`)
    .join('')
}

/** Without the dot at its end. */
export function plainName(name: Name): string {
  return formatName(name).replace(/(.)\.$/, '$1')
}

function escapeByte(c: string): string {
  const code = c.charCodeAt(0)
  return code > 0x20 && code < 0x7f ? `\\${c}` : `\\${String(code).padStart(3, '0')}`
}

export function nameToBytes(name: Name): Uint8Array {
  const bytes = new Uint8Array(name.length)
  for (let i = 0; i < name.length; i++) bytes[i] = name.charCodeAt(i)
  return bytes
}

/** For RFC 4034 section 6.1: labels from the right, in lower case, byte by byte. */
export function compareNames(a: Name, b: Name): number {
  const [x, y] = [labelsOf(lowerName(a)).reverse(), labelsOf(lowerName(b)).reverse()]
  for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) return x[i]! < y[i]! ? -1 : 1
  return x.length - y.length
}

/** `4.3.2.1.in-addr.arpa.`, or 32 nibbles below `ip6.arpa.` */
export function reverseName(address: Uint8Array): Name {
  const labels =
    address.length === 4
      ? [...[...address].reverse().map(String), 'in-addr', 'arpa']
      : [...[...address].reverse().flatMap(b => [(b & 15).toString(16), (b >> 4).toString(16)]), 'ip6', 'arpa']
  return nameOfLabels(labels)!
}

const IN_ADDR = '\x07in-addr\x04arpa\0'
const IP6 = '\x03ip6\x04arpa\0'

/** The address that a name below in-addr.arpa or ip6.arpa (lower case) is about; undefined: none. */
export function addressOfReverse(name: Name): Uint8Array | undefined {
  const is4 = isAtOrBelow(name, IN_ADDR)
  if (!is4 && !isAtOrBelow(name, IP6)) return undefined
  const labels = labelsOf(name).slice(0, -2).reverse()
  if (is4) {
    if (labels.length !== 4 || !labels.every(l => /^(0|[1-9]\d{0,2})$/.test(l) && Number(l) < 256)) return undefined
    return Uint8Array.from(labels, Number)
  }
  if (labels.length !== 32 || !labels.every(l => /^[0-9a-f]$/.test(l))) return undefined
  return Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(labels[2 * i]! + labels[2 * i + 1]!, 16))
}
