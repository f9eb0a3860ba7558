/**
 * References: opaque unsigned integers of 1 to 128 bits, as text, as the bytes of a tunnel header, and as the four words of the packet paths
 * (wire.md sections 1 and 2).
 *
 *   '11'  '0-7000'  '8000--1'  'a--'   ◄─►  bigint  ◄─►  4, 8 or 16 bytes in a header  ·  four signed words
 *
 * Text: decimal without a dash; with dashes, groups of 16 bits in hexadecimal, most significant first; one `--` stands for zeros between.
 */
import type { AddressWords } from './address.ts'
import { lengthCode, referenceLength } from './tunnelHeader.ts'

export const MAX_REFERENCE = (1n << 128n) - 1n
const GROUPS = 8
const DECIMAL_BELOW = 65536n

export interface ReferencePrefix {
  readonly value: bigint
  readonly bits: number
}

/** undefined: not a reference. 0 is read, though no host has it. */
export function parseReference(text: string): bigint | undefined {
  if (text.includes('-')) return parseGroups(text, true)
  if (!/^\d+$/.test(text)) return undefined
  const value = BigInt(text)
  return value <= MAX_REFERENCE ? value : undefined
}

/** Groups joined by dashes. With `mayBeShort` fewer than 8 groups are the low bits; else all 8 or a `--` must be there. */
function parseGroups(text: string, mayBeShort: boolean): bigint | undefined {
  const halves = text.split('--')
  if (halves.length > 2) return undefined
  const head = groupsOf(halves[0]!)
  if (!head || head.length === 0) return undefined
  if (halves.length === 1) {
    return head.length === GROUPS || (mayBeShort && head.length < GROUPS) ? valueOfGroups(head) : undefined
  }
  const tail = groupsOf(halves[1]!)
  // all 8 groups may be followed by `--`, as in a prefix; otherwise it stands for one group at least
  const isWhole = head.length === GROUPS && tail?.length === 0
  if (!tail || (head.length + tail.length >= GROUPS && !isWhole)) return undefined
  return (valueOfGroups(head) << BigInt(16 * (GROUPS - head.length))) | valueOfGroups(tail)
}

function groupsOf(text: string): number[] | undefined {
  if (text === '') return []
  const parts = text.split('-')
  if (!parts.every(part => /^[0-9a-fA-F]{1,4}$/.test(part))) return undefined
  return parts.map(part => Number.parseInt(part, 16))
}

function valueOfGroups(groups: readonly number[]): bigint {
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n)
}

export function formatReference(value: bigint): string {
  return value < DECIMAL_BELOW ? value.toString() : formatGroups(value)
}

function formatGroups(value: bigint): string {
  const groups: string[] = []
  for (let rest = value; rest > 0n; rest >>= 16n) groups.unshift((rest & 0xffffn).toString(16))
  return groups.length === 0 ? '0' : groups.join('-')
}

/** `groups--/bits`; the `--` may be missing when all 8 groups are there. Bits beyond the length must be zero. */
export function parseReferencePrefix(text: string): ReferencePrefix | undefined {
  const slash = text.indexOf('/')
  const digits = text.slice(slash + 1)
  if (slash < 0 || !/^\d{1,3}$/.test(digits) || Number(digits) > 128) return undefined
  const value = parseGroups(text.slice(0, slash), false)
  const bits = Number(digits)
  if (value === undefined || (value & ((1n << BigInt(128 - bits)) - 1n)) !== 0n) return undefined
  return { value, bits }
}

export function formatReferencePrefix(prefix: ReferencePrefix): string {
  return `${formatPrefixValue(prefix.value)}/${prefix.bits}`
}

/** The value as it stands before the slash: left-aligned, zeros at the end as `--`. */
export function formatPrefixValue(value: bigint): string {
  const groups = Array.from({ length: GROUPS }, (_, i) => (value >> BigInt(16 * (GROUPS - 1 - i))) & 0xffffn)
  let used = GROUPS
  while (used > 1 && groups[used - 1] === 0n) used--
  const text = groups
    .slice(0, used)
    .map(group => group.toString(16))
    .join('-')
  return used === GROUPS ? text : `${text}--`
}

// ---- words and bytes

export function wordsFromReference(value: bigint): AddressWords {
  const word = (shift: bigint) => Number(BigInt.asIntN(32, value >> shift))
  return [word(96n), word(64n), word(32n), word(0n)]
}

export function referenceFromWords(w: AddressWords): bigint {
  return w.reduce((value, word) => (value << 32n) | BigInt(word >>> 0), 0n)
}

/** Two references as they stand in one tunnel header: in the shortest form that holds both. */
export function encodeReferences(
  source: bigint,
  destination: bigint,
): { code: number; length: number; source: Uint8Array; destination: Uint8Array } {
  const code = Math.max(...[source, destination].map(value => lengthCode(...wordsFromReference(value))))
  const length = referenceLength(code)
  return { code, length, source: encodeReference(source, length), destination: encodeReference(destination, length) }
}

/** The first byte is the top one (bits 127..120), the others are the low ones. */
export function encodeReference(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = length - 1; i > 0; i--) bytes[i] = Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn)
  bytes[0] = Number(value >> 120n)
  return bytes
}

export function decodeReference(bytes: Uint8Array): bigint {
  const low = bytes.subarray(1).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n)
  return (BigInt(bytes[0]!) << 120n) | low
}
