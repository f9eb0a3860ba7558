/**
 * Record data in presentation form (RFC 1035 section 5, RFC 3597 section 5): tokens of a zone file to the bytes of the wire, and back.
 *
 *   10 mail   ◄─►   00 0a 04 'mail' 07 'example' 03 'com' 00        (MX below example.com.)
 *
 * One table says which fields each type has; reading, printing and checking all walk it. Types that are not in it are written `\# LENGTH HEX`,
 * and every type may be. Names in data are uncompressed, as everywhere in this folder.
 */
import { formatAddress, parseAddress } from '../ipref/address.ts'
import { formatType, Type } from './constants.ts'
import { nameAt } from './message.ts'
import { formatName, lowerName, MAX_LABEL, MAX_NAME, type Name, nameToBytes, parseName } from './name.ts'

/** A word of zone text as it was written, escapes included; each character is one byte. */
export interface Token {
  text: string
  isQuoted: boolean
}

type Field =
  | 'ipv4'
  | 'ipv6'
  | 'name'
  | 'mailbox'
  | 'u8'
  | 'u16'
  | 'u32'
  | 'time'
  | 'algorithm'
  | 'string'
  | 'tag'
  // these take all that is left
  | 'strings'
  | 'bytes'
  | 'hex'
  | 'base64'

interface Form {
  fields: readonly Field[]
  example: string
}

const NAME: Form = { fields: ['name'], example: 'www.example.com.' }
const PREFERENCE: Form = { fields: ['u16', 'name'], example: '10 mail.example.com.' }
const STRINGS: Form = { fields: ['strings'], example: '"some text"' }
const DIGEST: Form = {
  fields: ['u16', 'algorithm', 'u8', 'hex'],
  example: '60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118',
}

const forms: Readonly<Record<number, Form>> = {
  [Type.A]: { fields: ['ipv4'], example: '192.0.2.1' },
  [Type.AAAA]: { fields: ['ipv6'], example: '2001:db8::1' },
  [Type.NS]: NAME,
  [Type.MD]: NAME,
  [Type.MF]: NAME,
  [Type.CNAME]: NAME,
  [Type.MB]: NAME,
  [Type.MG]: NAME,
  [Type.MR]: NAME,
  [Type.PTR]: NAME,
  [Type.DNAME]: NAME,
  [Type.SOA]: {
    fields: ['name', 'mailbox', 'u32', 'time', 'time', 'time', 'time'],
    example: 'ns1.example.com. admin.example.com. 1 1h 10m 1w 5m',
  },
  [Type.HINFO]: { fields: ['string', 'string'], example: '"cpu" "system"' },
  [Type.MINFO]: { fields: ['mailbox', 'mailbox'], example: 'admin.example.com. errors.example.com.' },
  [Type.MX]: PREFERENCE,
  [Type.AFSDB]: PREFERENCE,
  [Type.RT]: PREFERENCE,
  [Type.KX]: PREFERENCE,
  [Type.PX]: { fields: ['u16', 'name', 'name'], example: '10 a.example.com. b.example.com.' },
  [Type.TXT]: STRINGS,
  [Type.SPF]: STRINGS,
  [Type.RP]: { fields: ['mailbox', 'name'], example: 'admin.example.com. about.example.com.' },
  [Type.SRV]: { fields: ['u16', 'u16', 'u16', 'name'], example: '0 5 443 www.example.com.' },
  [Type.NAPTR]: {
    fields: ['u16', 'u16', 'string', 'string', 'string', 'name'],
    example: '100 10 "U" "E2U+sip" "!^.*$!sip:info@example.com!" .',
  },
  [Type.DS]: DIGEST,
  [Type.CDS]: DIGEST,
  [Type.SSHFP]: {
    fields: ['u8', 'u8', 'hex'],
    example: '4 2 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789',
  },
  [Type.DNSKEY]: { fields: ['u16', 'u8', 'algorithm', 'base64'], example: '257 3 13 AwEAAQ==' },
  [Type.TLSA]: { fields: ['u8', 'u8', 'u8', 'hex'], example: '3 1 1 0123456789ABCDEF' },
  [Type.CAA]: { fields: ['u8', 'tag', 'bytes'], example: '0 issue "ca.example.net"' },
}

const sizes: Partial<Record<Field, number>> = { ipv4: 4, ipv6: 16, u8: 1, algorithm: 1, u16: 2, u32: 4, time: 4 }
const takesRest: ReadonlySet<Field> = new Set<Field>(['strings', 'bytes', 'hex', 'base64'])
/** RFC 4034 appendix A.1 and its successors; numbers are always accepted, and printed. */
const algorithms: Readonly<Record<string, number>> = {
  RSAMD5: 1,
  DH: 2,
  DSA: 3,
  RSASHA1: 5,
  RSASHA256: 8,
  RSASHA512: 10,
  ECDSAP256SHA256: 13,
  ECDSAP384SHA384: 14,
  ED25519: 15,
  ED448: 16,
}
const MAX_DATA = 65535

/** How a word of a file is shown in a sentence: cut, and without what a terminal would act on. */
export function show(text: string): string {
  if (text === '') return '""'
  const printable = Buffer.from(text.slice(0, 200), 'latin1')
    .toString('utf8')
    .replace(/[\p{C}\s]/gu, '?')
  return printable.length > 60 ? `${printable.slice(0, 60)}…` : printable
}

// ---- reading

/** The bytes, or a sentence that says what is wrong and what would be right. */
export function parseData(type: number, tokens: readonly Token[], origin: Name): Uint8Array | string {
  if (tokens[0]?.text === '\\#' && !tokens[0].isQuoted) return parseGeneric(type, tokens.slice(1))
  const form = forms[type]
  const typeName = formatType(type)
  if (!form) return `data of ${typeName} is written as \\# LENGTH HEX, such as \\# 4 0a000001`
  const right = `write ${typeName} ${form.example}`
  const parts: Uint8Array[] = []
  let at = 0
  for (const field of form.fields) {
    const mine = takesRest.has(field) ? tokens.slice(at) : tokens.slice(at, at + 1)
    if (mine.length === 0) return `${typeName} needs more than that: ${right}`
    const bytes = parseField(field, mine, origin)
    if (typeof bytes === 'string') return `${bytes}: ${right}`
    parts.push(bytes)
    at += mine.length
  }
  if (at < tokens.length) return `${show(tokens[at]!.text)} is one word too many: ${right}`
  const data = Uint8Array.from(Buffer.concat(parts))
  return data.length <= MAX_DATA ? data : `${data.length} bytes are more than a record can hold, which is ${MAX_DATA}`
}

function parseGeneric(type: number, [length, ...rest]: readonly Token[]): Uint8Array | string {
  const right = 'write \\# LENGTH HEX, such as \\# 4 0a000001'
  const count = length && parseNumber(length.text, MAX_DATA)
  if (count === undefined) return `the length of the data is missing: ${right}`
  const data = count === 0 && rest.length === 0 ? new Uint8Array() : parseHex(rest)
  if (typeof data === 'string') return `${data}: ${right}`
  if (data.length !== count) return `${data.length} bytes follow where ${count} were announced: ${right}`
  if (!isData(type, data)) return `these bytes are no data of ${formatType(type)}: write it in its own form`
  return Uint8Array.from(data)
}

function parseField(field: Field, tokens: readonly Token[], origin: Name): Uint8Array | string {
  const { text } = tokens[0]!
  switch (field) {
    case 'ipv4':
    case 'ipv6': {
      const address = parseAddress(text)
      return address && address.length === sizes[field]
        ? address
        : `${show(text)} is no ${field === 'ipv4' ? 'IPv4' : 'IPv6'} address`
    }
    case 'mailbox':
      if (/(^|[^\\])@./.test(text)) return `${show(text)} has an @: a mailbox is written with a dot in its place`
      return parseNameField(text, origin)
    case 'name':
      return parseNameField(text, origin)
    case 'u8':
    case 'u16':
    case 'u32':
      return (
        unsigned(parseNumber(text, 256 ** sizes[field]! - 1), field) ??
        `${show(text)} is no number from 0 to ${256 ** sizes[field]! - 1}`
      )
    case 'algorithm':
      return (
        unsigned(algorithms[text.toUpperCase()] ?? parseNumber(text, 255), field) ?? `${show(text)} is no algorithm`
      )
    case 'time':
      return unsigned(parseTtl(text, 0xffffffff), field) ?? `${show(text)} is no time: seconds, or such as 1h30m`
    case 'string':
      return parseString(text)
    case 'strings':
      return parseStrings(tokens)
    case 'tag':
      return /^[A-Za-z0-9]{1,255}$/.test(text)
        ? withLength(Buffer.from(text, 'latin1'))
        : `${show(text)} is no tag of letters and digits`
    case 'bytes':
      if (tokens.length > 1) return `${show(tokens[1]!.text)} is one word too many; put text with spaces between quotes`
      return unescapeText(text) ?? `${show(text)} has a \\ without three digits up to 255, or one character, after it`
    case 'hex':
      return parseHex(tokens)
    case 'base64':
      return parseBase64(tokens)
  }
}

function parseNameField(text: string, origin: Name): Uint8Array | string {
  const name = parseName(text, origin)
  return name === undefined ? `${show(text)} is no name` : nameToBytes(name)
}

function parseNumber(text: string, most: number): number | undefined {
  return /^\d{1,10}$/.test(text) && Number(text) <= most ? Number(text) : undefined
}

function unsigned(value: number | undefined, field: Field): Uint8Array | undefined {
  if (value === undefined) return undefined
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes.subarray(4 - sizes[field]!)
}

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 }

/** Seconds, or parts with units: `1h30m`. A TTL is at most 2^31 − 1 (RFC 2181 section 8); times in SOA records use all 32 bits. */
export function parseTtl(text: string, most = 0x7fffffff): number | undefined {
  if (text.length > 60 || !/^(\d+|(\d+[smhdw])+)$/i.test(text)) return undefined
  let seconds = 0
  for (const [, digits, unit] of text.matchAll(/(\d+)([a-z]?)/gi))
    seconds += Number(digits) * (units[unit!.toLowerCase()] ?? 1)
  return seconds <= most ? seconds : undefined
}

function withLength(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(bytes.length), bytes])
}

function parseString(text: string): Uint8Array | string {
  const bytes = unescapeText(text)
  if (!bytes) return `${show(text)} has a \\ without three digits up to 255, or one character, after it`
  if (bytes.length > 255)
    return `a string of ${bytes.length} bytes is too long: cut it into several of at most 255, each between quotes`
  return withLength(bytes)
}

function parseStrings(tokens: readonly Token[]): Uint8Array | string {
  const parts: Uint8Array[] = []
  for (const { text } of tokens) {
    const part = parseString(text)
    if (typeof part === 'string') return part
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** The bytes of a string with `\DDD` and `\c` in it. */
function unescapeText(text: string): Uint8Array | undefined {
  if (!text.includes('\\')) return Buffer.from(text, 'latin1')
  const bytes: number[] = []
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== '\\') {
      bytes.push(text.charCodeAt(i))
      continue
    }
    const digits = text.slice(i + 1, i + 4)
    if (/^\d/.test(digits)) {
      if (!/^\d{3}$/.test(digits) || Number(digits) > 255) return undefined
      bytes.push(Number(digits))
      i += 3
    } else if (digits === '') return undefined
    else bytes.push(text.charCodeAt(++i))
  }
  return Uint8Array.from(bytes)
}

function parseHex(tokens: readonly Token[]): Uint8Array | string {
  const text = tokens.map(token => token.text).join('')
  if (text === '' || text.length % 2 !== 0 || /[^0-9a-f]/i.test(text))
    return `${show(text)} is no hex, two digits for each byte`
  return Buffer.from(text, 'hex')
}

function parseBase64(tokens: readonly Token[]): Uint8Array | string {
  const text = tokens.map(token => token.text).join('')
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return `${show(text)} is no base64`
  return Buffer.from(text, 'base64')
}

// ---- walking

interface Piece {
  field: Field
  start: number
  end: number
}

/** Where the fields of the data lie; undefined: it is broken, or of a type without a form. */
function piecesOf(type: number, data: Uint8Array): Piece[] | undefined {
  const pieces: Piece[] = []
  let at = 0
  for (const field of forms[type]?.fields ?? []) {
    const end = endOfField(field, data, at)
    if (end === undefined || end > data.length) return undefined
    pieces.push({ field, start: at, end })
    at = end
  }
  return pieces.length > 0 && at === data.length ? pieces : undefined
}

function endOfField(field: Field, data: Uint8Array, start: number): number | undefined {
  if (field === 'name' || field === 'mailbox') return endOfName(data, start)
  if (field === 'bytes') return data.length
  if (field === 'hex' || field === 'base64') return start < data.length ? data.length : undefined
  if (sizes[field] !== undefined) return start + sizes[field]
  if (start >= data.length) return undefined
  if (field === 'string') return start + 1 + data[start]!
  if (field === 'tag') return isTag(data, start) ? start + 1 + data[start]! : undefined
  let at = start
  while (at < data.length) at += 1 + data[at]!
  return at
}

function endOfName(data: Uint8Array, start: number): number | undefined {
  let at = start
  while (data[at]! > 0) {
    if (data[at]! > MAX_LABEL) return undefined
    at += 1 + data[at]!
  }
  return at < data.length && at + 1 - start <= MAX_NAME ? at + 1 : undefined
}

function isTag(data: Uint8Array, start: number): boolean {
  return /^[A-Za-z0-9]+$/.test(Buffer.from(data.subarray(start + 1, start + 1 + data[start]!)).toString('latin1'))
}

/** Are these bytes data of that type? Of a type without a form, any are. */
export function isData(type: number, data: Uint8Array): boolean {
  return data.length <= MAX_DATA && (forms[type] === undefined || piecesOf(type, data) !== undefined)
}

/** Equal for data that says the same: names in it in lower case (RFC 4034 section 6.2). */
export function dataKey(type: number, data: Uint8Array): string {
  const text = Buffer.from(data.buffer, data.byteOffset, data.length).toString('latin1')
  const pieces = piecesOf(type, data)
  if (!pieces?.some(isName)) return text
  return pieces.map(p => (isName(p) ? lowerName(text.slice(p.start, p.end)) : text.slice(p.start, p.end))).join('')
}

function isName({ field }: Piece): boolean {
  return field === 'name' || field === 'mailbox'
}

// ---- printing

/** In the form of its type; `\# LENGTH HEX` for other types, and for data that does not fit its type. */
export function formatData(type: number, data: Uint8Array): string {
  const pieces = piecesOf(type, data)
  if (pieces) return pieces.map(({ field, start, end }) => formatField(field, data.subarray(start, end))).join(' ')
  return `\\# ${data.length}${data.length > 0 ? ` ${hex(data)}` : ''}`
}

function formatField(field: Field, data: Uint8Array): string {
  switch (field) {
    case 'ipv4':
    case 'ipv6':
      return formatAddress(data)
    case 'name':
    case 'mailbox':
      return formatName(nameAt(data, 0))
    case 'string':
      return quote(data.subarray(1))
    case 'tag':
      return Buffer.from(data.subarray(1)).toString('latin1')
    case 'strings':
      return formatStrings(data)
    case 'bytes':
      return quote(data)
    case 'hex':
      return hex(data)
    case 'base64':
      return Buffer.from(data).toString('base64')
    default:
      return String(data.reduce((value, byte) => value * 256 + byte, 0))
  }
}

function formatStrings(data: Uint8Array): string {
  const strings: string[] = []
  for (let at = 0; at < data.length; at += 1 + data[at]!) strings.push(quote(data.subarray(at + 1, at + 1 + data[at]!)))
  return strings.join(' ')
}

function quote(data: Uint8Array): string {
  const escaped = Buffer.from(data)
    .toString('latin1')
    .replace(/[^ -~]|["\\]/g, c =>
      c === '"' || c === '\\' ? `\\${c}` : `\\${String(c.charCodeAt(0)).padStart(3, '0')}`,
    )
  return `"${escaped}"`
}

function hex(data: Uint8Array): string {
  return Buffer.from(data).toString('hex').toUpperCase()
}
