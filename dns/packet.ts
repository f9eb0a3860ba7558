/**
 * DNS messages as bytes, without taking them apart: for the paths where a message is answered from memory or handed on as it is. Offsets are from the
 * start of `bytes`; nothing is allocated but by `walkRecords`. Everything is checked against the end of the message.
 */
import { Type } from './constants.ts'
import { HEADER } from './message.ts'

/** What `scanQuery` says. */
export const Scan = {
  /** not to be answered at all */
  drop: 0,
  /** an ordinary query: one question, at most a plain OPT record */
  plain: 1,
  /** everything else: to be looked at in full */
  other: 2,
} as const

/** Bits of a variant: queries that may have different answers to one question. */
export const Variant = { RD: 1, CD: 2, AD: 4, EDNS: 8, DO: 16 } as const

export interface ScannedQuery {
  questionEnd: number
  type: number
  class: number
  variant: number
  /** largest answer over UDP that the asker takes */
  payloadSize: number
}

/** Reads a query at `at` into `out`. */
export function scanQuery(bytes: Uint8Array, at: number, length: number, out: ScannedQuery): number {
  if (length < HEADER || (bytes[at + 2]! & 0x80) !== 0) return Scan.drop
  const end = at + length
  const flags1 = bytes[at + 2]!
  // opcode, TC; QDCOUNT 1; ANCOUNT, NSCOUNT 0; ARCOUNT 0 or 1
  if ((flags1 & 0x7a) !== 0 || bytes[at + 4] !== 0 || bytes[at + 5] !== 1) return Scan.other
  if ((bytes[at + 6]! | bytes[at + 7]! | bytes[at + 8]! | bytes[at + 9]! | bytes[at + 10]!) !== 0) return Scan.other
  const additional = bytes[at + 11]!
  let p = at + HEADER
  for (;;) {
    if (p >= end) return Scan.other
    const label = bytes[p]!
    if (label === 0) break
    if (label > 63) return Scan.other
    p += 1 + label
  }
  p++
  if (p + 4 > end || p - at - HEADER > 255) return Scan.other
  out.type = (bytes[p]! << 8) | bytes[p + 1]!
  out.class = (bytes[p + 2]! << 8) | bytes[p + 3]!
  p += 4
  out.questionEnd = p
  const flags2 = bytes[at + 3]!
  let variant = (flags1 & 1) | ((flags2 & 0x10) >> 3) | ((flags2 & 0x20) >> 3)
  out.payloadSize = 512
  if (additional === 1) {
    // root, OPT, size, an extended code that means nothing here, version 0, flags, no options
    if (p + 11 !== end || bytes[p] !== 0 || bytes[p + 1] !== 0 || bytes[p + 2] !== Type.OPT) return Scan.other
    if (bytes[p + 6] !== 0 || bytes[p + 9] !== 0 || bytes[p + 10] !== 0) return Scan.other
    out.payloadSize = Math.max(512, (bytes[p + 3]! << 8) | bytes[p + 4]!)
    variant |= Variant.EDNS | ((bytes[p + 7]! & 0x80) >> 3)
  } else if (additional !== 0 || p !== end) return Scan.other
  out.variant = variant
  return Scan.plain
}

/** Where a name ends that starts at `at`; −1: it does not fit. A pointer is not followed. */
export function skipName(bytes: Uint8Array, at: number): number {
  let p = at
  for (;;) {
    if (p >= bytes.length) return -1
    const label = bytes[p]!
    if (label === 0) return p + 1
    if (label >= 192) return p + 2 <= bytes.length ? p + 2 : -1
    if (label > 63 || p - at > 255) return -1
    p += 1 + label
  }
}

export interface WalkedRecord {
  section: 'answer' | 'authority' | 'additional'
  start: number
  type: number
  /** of the TTL field */
  ttlAt: number
  ttl: number
  dataAt: number
  end: number
}

export interface WalkedMessage {
  questionEnd: number
  records: WalkedRecord[]
}

/** All records of a message with one question; undefined: it is broken. Data is not looked into. */
export function walkRecords(bytes: Uint8Array): WalkedMessage | undefined {
  if (bytes.length < HEADER || bytes[4] !== 0 || bytes[5] !== 1) return undefined
  const nameEnd = skipName(bytes, HEADER)
  if (nameEnd < 0 || nameEnd + 4 > bytes.length) return undefined
  const records: WalkedRecord[] = []
  let p = nameEnd + 4
  const word = (at: number) => (bytes[at]! << 8) | bytes[at + 1]!
  for (const [section, countAt] of [
    ['answer', 6],
    ['authority', 8],
    ['additional', 10],
  ] as const) {
    for (let i = word(countAt); i > 0; i--) {
      const start = p
      p = skipName(bytes, p)
      if (p < 0 || p + 10 > bytes.length) return undefined
      const end = p + 10 + word(p + 8)
      if (end > bytes.length) return undefined
      const ttl = word(p + 4) * 65536 + word(p + 6)
      records.push({ section, start, type: word(p), ttlAt: p + 4, ttl, dataAt: p + 10, end })
      p = end
    }
  }
  return p === bytes.length ? { questionEnd: nameEnd + 4, records } : undefined
}

/** Is this one question and all the records that it counts, to the last byte? */
export function isWhole(bytes: Uint8Array): boolean {
  if (bytes.length < HEADER || bytes[4] !== 0 || bytes[5] !== 1) return false
  let p = skipName(bytes, HEADER)
  if (p < 0 || p + 4 > bytes.length) return false
  p += 4
  const word = (at: number) => (bytes[at]! << 8) | bytes[at + 1]!
  for (let left = word(6) + word(8) + word(10); left > 0; left--) {
    p = skipName(bytes, p)
    if (p < 0 || p + 10 > bytes.length) return false
    p += 10 + word(p + 8)
  }
  return p === bytes.length
}

const A_UPPER = 65
const Z_UPPER = 90

/** FNV-1a over the question in lower case (length octets are below every letter), and the variant. */
export function hashQuestion(bytes: Uint8Array, start: number, end: number, variant: number): number {
  let hash = 0x811c9dc5
  for (let i = start; i < end; i++) {
    let c = bytes[i]!
    if (c >= A_UPPER && c <= Z_UPPER) c |= 32
    hash = Math.imul(hash ^ c, 0x01000193)
  }
  hash = Math.imul(hash ^ variant, 0x01000193)
  return hash ^ (hash >>> 15)
}

/** Is `key` (lower case) this question? */
export function equalsQuestion(key: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start
  if (key.length !== length) return false
  const nameLength = length - 4
  for (let i = 0; i < nameLength; i++) {
    let c = bytes[start + i]!
    if (c >= A_UPPER && c <= Z_UPPER) c |= 32
    if (c !== key[i]) return false
  }
  for (let i = nameLength; i < length; i++) if (bytes[start + i] !== key[i]) return false
  return true
}

/** The question in lower case. Type and class are left as they are. */
export function lowerQuestion(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const key = bytes.slice(start, end)
  for (let i = 0; i < key.length - 4; i++) if (key[i]! >= A_UPPER && key[i]! <= Z_UPPER) key[i]! |= 32
  return key
}
