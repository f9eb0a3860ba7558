/**
 * DNS messages (RFC 1035 section 4, EDNS: RFC 6891). Strict: what does not fit is a fault, never an exception, never half a message.
 *
 * Time is linear in the length: a compression pointer leads to an earlier byte than the label run it ends, and a name follows no more of them
 * than it has any use for, so that every name is read in at most 255 steps (RFC 9267 lists what happens otherwise). Record data is kept as bytes with
 * its names uncompressed (RFC 3597 section 4 says which types have any), and written again with names compressed only where RFC 1035 allows it.
 */
import { Class, Flag, Opcode, Type } from './constants.ts'
import { MAX_NAME, type Name, ROOT } from './name.ts'

export const HEADER = 12
export const MAX_MESSAGE = 65535

export interface Question {
  name: Name
  type: number
  class: number
}

export interface ResourceRecord extends Question {
  /** seconds; the top bit is read as 0 (RFC 2181 section 8) */
  ttl: number
  /** names in it are uncompressed */
  data: Uint8Array
}

export interface Edns {
  payloadSize: number
  /** upper 8 bits of the 12-bit response code */
  extendedRcode: number
  version: number
  dnssecOk: boolean
  options: { code: number; data: Uint8Array }[]
}

export interface Message {
  id: number
  /** the second word of the header, opcode and response code included */
  flags: number
  questions: Question[]
  answers: ResourceRecord[]
  authority: ResourceRecord[]
  /** without OPT and TSIG */
  additional: ResourceRecord[]
  edns?: Edns
  tsig?: ResourceRecord & { /** where the record starts in the message */ start: number }
}

export const messageFaults = [
  'short',
  'truncated',
  'name',
  'pointer',
  'label',
  'data',
  'trailing',
  'opt',
  'tsig',
  'long',
] as const
export type MessageFault = (typeof messageFaults)[number]

export const opcodeOf = (flags: number): number => (flags >> 11) & 15
export const rcodeOf = (message: Message): number => (message.flags & 15) | ((message.edns?.extendedRcode ?? 0) << 4)

type Field = 'name' | 'u16' | 'u32' | 'string' | 'rest'

/** Types whose data holds names that may come compressed, and what stands before and after these. */
const layouts: Readonly<Record<number, readonly Field[]>> = {
  [Type.NS]: ['name'],
  [Type.MD]: ['name'],
  [Type.MF]: ['name'],
  [Type.CNAME]: ['name'],
  [Type.SOA]: ['name', 'name', 'u32', 'u32', 'u32', 'u32', 'u32'],
  [Type.MB]: ['name'],
  [Type.MG]: ['name'],
  [Type.MR]: ['name'],
  [Type.PTR]: ['name'],
  [Type.MINFO]: ['name', 'name'],
  [Type.MX]: ['u16', 'name'],
  [Type.RP]: ['name', 'name'],
  [Type.AFSDB]: ['u16', 'name'],
  [Type.RT]: ['u16', 'name'],
  [Type.PX]: ['u16', 'name', 'name'],
  [Type.SRV]: ['u16', 'u16', 'u16', 'name'],
  [Type.NAPTR]: ['u16', 'u16', 'string', 'string', 'string', 'name'],
  [Type.KX]: ['u16', 'name'],
  [Type.DNAME]: ['name'],
}
/** RFC 3597 section 4: only the types of RFC 1035 are written compressed. */
const LAST_COMPRESSED = Type.MX
const FIXED: Readonly<Record<number, number>> = { [Type.A]: 4, [Type.AAAA]: 16 }
const SIZES = { u16: 2, u32: 4 } as const
/** one before the longest name, and one behind each of its labels */
const MOST_POINTERS = 128

// no Error: whoever sends broken messages must not make us write down the stack for each
class Fault {
  readonly fault: MessageFault
  constructor(fault: MessageFault) {
    this.fault = fault
  }
}

class Reader {
  readonly bytes: Uint8Array
  readonly isUpdate: boolean
  at = HEADER

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.isUpdate = (bytes[2]! & 0x78) >> 3 === Opcode.UPDATE
  }

  u8(): number {
    if (this.at >= this.bytes.length) throw new Fault('truncated')
    return this.bytes[this.at++]!
  }

  u16(): number {
    if (this.at + 2 > this.bytes.length) throw new Fault('truncated')
    const value = (this.bytes[this.at]! << 8) | this.bytes[this.at + 1]!
    this.at += 2
    return value
  }

  u32(): number {
    return this.u16() * 65536 + this.u16()
  }

  take(length: number): Uint8Array {
    if (this.at + length > this.bytes.length) throw new Fault('truncated')
    this.at += length
    return this.bytes.slice(this.at - length, this.at)
  }

  name(): Name {
    const { bytes } = this
    let name = ''
    let at = this.at
    // the first byte that was read of this run of labels; a pointer must lead to before it
    let runStart = at
    let end = -1
    let pointers = 0
    for (;;) {
      if (at >= bytes.length) throw new Fault('truncated')
      const length = bytes[at]!
      if (length === 0) {
        if (end < 0) end = at + 1
        this.at = end
        if (name.length + 1 > MAX_NAME) throw new Fault('name')
        return `${name}\0`
      }
      if (length < 64) {
        if (at + 1 + length > bytes.length) throw new Fault('truncated')
        if (name.length + 1 + length + 1 > MAX_NAME) throw new Fault('name')
        for (let i = at; i <= at + length; i++) name += String.fromCharCode(bytes[i]!)
        at += 1 + length
      } else if (length >= 192) {
        if (at + 2 > bytes.length) throw new Fault('truncated')
        const target = ((length & 63) << 8) | bytes[at + 1]!
        if (target >= runStart || target < HEADER || ++pointers > MOST_POINTERS) throw new Fault('pointer')
        if (end < 0) end = at + 2
        runStart = target
        at = target
      } else throw new Fault('label')
    }
  }
}

/** The message, or what is wrong with it. */
export function decodeMessage(bytes: Uint8Array): Message | MessageFault {
  if (bytes.length < HEADER) return 'short'
  if (bytes.length > MAX_MESSAGE) return 'long'
  try {
    return decode(bytes)
  } catch (error) {
    if (error instanceof Fault) return error.fault
    throw error
  }
}

function decode(bytes: Uint8Array): Message {
  const word = (at: number) => (bytes[at]! << 8) | bytes[at + 1]!
  const reader = new Reader(bytes)
  const message: Message = {
    id: word(0),
    flags: word(2),
    questions: [],
    answers: [],
    authority: [],
    additional: [],
  }
  for (let i = word(4); i > 0; i--)
    message.questions.push({ name: reader.name(), type: reader.u16(), class: reader.u16() })
  for (let i = word(6); i > 0; i--) message.answers.push(ordinary(readRecord(reader)))
  for (let i = word(8); i > 0; i--) message.authority.push(ordinary(readRecord(reader)))
  for (let i = word(10); i > 0; i--) {
    const start = reader.at
    const record = readRecord(reader)
    if (message.tsig) throw new Fault('tsig')
    if (record.type === Type.OPT) {
      if (message.edns || record.name !== ROOT) throw new Fault('opt')
      message.edns = readEdns(record)
    } else if (record.type === Type.TSIG) {
      if (record.class !== Class.ANY || record.ttl !== 0) throw new Fault('tsig')
      message.tsig = { ...record, start }
    } else message.additional.push(record)
  }
  if (reader.at !== bytes.length) throw new Fault('trailing')
  return message
}

function ordinary(record: ResourceRecord): ResourceRecord {
  if (record.type === Type.OPT) throw new Fault('opt')
  if (record.type === Type.TSIG) throw new Fault('tsig')
  return record
}

function readRecord(reader: Reader): ResourceRecord {
  const name = reader.name()
  const type = reader.u16()
  const recordClass = reader.u16()
  const raw = reader.u32()
  const ttl = raw > 0x7fffffff && type !== Type.OPT && type !== Type.TSIG ? 0 : raw
  const length = reader.u16()
  const end = reader.at + length
  if (end > reader.bytes.length) throw new Fault('truncated')
  const layout = layouts[type]
  // no data at all: in dynamic updates alone (RFC 2136 section 2.4), so that others may trust what they read
  const isEmpty = reader.isUpdate && length === 0 && (recordClass === Class.ANY || recordClass === Class.NONE)
  const data = layout && !isEmpty ? readFields(reader, layout, end) : reader.take(length)
  if (reader.at !== end) throw new Fault('data')
  if (!isEmpty && !layout && type !== Type.OPT) checkData(type, data)
  return { name, type, class: recordClass, ttl, data }
}

function readFields(reader: Reader, layout: readonly Field[], end: number): Uint8Array {
  const parts: Uint8Array[] = []
  for (const field of layout) {
    if (field === 'name') parts.push(Buffer.from(reader.name(), 'latin1'))
    else if (field === 'string') parts.push(reader.take(1 + (reader.bytes[reader.at] ?? 0)))
    else parts.push(reader.take(field === 'rest' ? end - reader.at : SIZES[field]))
    if (reader.at > end) throw new Fault('data')
  }
  return concat(parts)
}

function checkData(type: number, data: Uint8Array): void {
  const fixed = FIXED[type]
  if (fixed !== undefined && data.length !== fixed) throw new Fault('data')
  if ((type === Type.TXT || type === Type.SPF) && !isStrings(data)) throw new Fault('data')
}

function isStrings(data: Uint8Array): boolean {
  let at = 0
  while (at < data.length) at += 1 + data[at]!
  return at === data.length && data.length > 0
}

function readEdns(record: ResourceRecord): Edns {
  const options: Edns['options'] = []
  const { data } = record
  let at = 0
  while (at < data.length) {
    if (at + 4 > data.length) throw new Fault('opt')
    const length = (data[at + 2]! << 8) | data[at + 3]!
    if (at + 4 + length > data.length) throw new Fault('opt')
    options.push({ code: (data[at]! << 8) | data[at + 1]!, data: data.slice(at + 4, at + 4 + length) })
    at += 4 + length
  }
  return {
    payloadSize: record.class,
    extendedRcode: (record.ttl >>> 24) & 255,
    version: (record.ttl >>> 16) & 255,
    dnssecOk: (record.ttl & 0x8000) !== 0,
    options,
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return Uint8Array.from(parts[0]!)
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

// ---- writing

// one message is written at a time: its bytes are copied out when it is whole
let room = new Uint8Array(4096)

class Writer {
  bytes = room
  at = 0
  readonly #offsets = new Map<Name, number>()

  reserve(length: number): void {
    const needed = this.at + length
    if (needed <= this.bytes.length) return
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2))
    larger.set(this.bytes)
    this.bytes = larger
    room = larger
  }

  u16(value: number): void {
    this.reserve(2)
    this.bytes[this.at++] = value >>> 8
    this.bytes[this.at++] = value
  }

  u32(value: number): void {
    this.u16(value >>> 16)
    this.u16(value & 0xffff)
  }

  put(data: Uint8Array): void {
    this.reserve(data.length)
    this.bytes.set(data, this.at)
    this.at += data.length
  }

  /** Compression is by exact bytes, so that the case of every name is kept. */
  name(name: Name, mayPoint: boolean): void {
    let rest = name
    while (rest.length > 1) {
      const known = this.#offsets.get(rest)
      if (known !== undefined && mayPoint) {
        this.u16(0xc000 | known)
        return
      }
      if (known === undefined && this.at < 0x4000) this.#offsets.set(rest, this.at)
      const step = 1 + rest.charCodeAt(0)
      this.reserve(step)
      for (let i = 0; i < step; i++) this.bytes[this.at++] = rest.charCodeAt(i)
      rest = rest.slice(step)
    }
    this.reserve(1)
    this.bytes[this.at++] = 0
  }

  record(record: ResourceRecord): void {
    this.name(record.name, true)
    this.u16(record.type)
    this.u16(record.class)
    this.u32(record.ttl)
    const layout = layouts[record.type]
    if (!layout || record.type > LAST_COMPRESSED || record.data.length === 0) {
      this.u16(record.data.length)
      this.put(record.data)
      return
    }
    const lengthAt = this.at
    this.u16(0)
    this.#fields(record.data, layout)
    const length = this.at - lengthAt - 2
    this.bytes[lengthAt] = length >>> 8
    this.bytes[lengthAt + 1] = length
  }

  #fields(data: Uint8Array, layout: readonly Field[]): void {
    let at = 0
    for (const field of layout) {
      if (field === 'name') {
        const name = nameAt(data, at)
        this.name(name, true)
        at += name.length
      } else if (field !== 'string' && field !== 'rest') {
        this.put(data.subarray(at, at + SIZES[field]))
        at += SIZES[field]
      }
    }
  }
}

/** An uncompressed name in record data that was checked when it was read. */
export function nameAt(data: Uint8Array, start: number): Name {
  let end = start
  while (data[end]! > 0) end += 1 + data[end]!
  let name = ''
  for (let i = start; i <= end; i++) name += String.fromCharCode(data[i]!)
  return name
}

/** What a message is made of; sections that are left out are empty. */
export type MessageParts = Pick<Message, 'id' | 'flags'> & Partial<Omit<Message, 'tsig'>>

/** The bytes. Where they would be more than `most`, the three sections are left out and TC is set (RFC 2181 section 9). */
export function encodeMessage(parts: MessageParts, most = MAX_MESSAGE): Uint8Array {
  const whole = encodeWhole(parts)
  if (whole.length <= most) return whole
  const { id, flags, questions = [], edns } = parts
  return encodeWhole({ id, flags: flags | Flag.TC, questions, ...(edns ? { edns } : {}) })
}

function encodeWhole(parts: MessageParts): Uint8Array {
  const { id, flags, questions = [], answers = [], authority = [], additional = [], edns } = parts
  const writer = new Writer()
  for (const word of [id, flags, questions.length, answers.length, authority.length]) writer.u16(word)
  writer.u16(additional.length + (edns ? 1 : 0))
  for (const question of questions) {
    writer.name(question.name, true)
    writer.u16(question.type)
    writer.u16(question.class)
  }
  for (const section of [answers, authority, additional]) for (const record of section) writer.record(record)
  if (edns) writeEdns(writer, edns)
  return writer.bytes.slice(0, writer.at)
}

function writeEdns(writer: Writer, edns: Edns): void {
  writer.put(Uint8Array.of(0))
  writer.u16(Type.OPT)
  writer.u16(edns.payloadSize)
  writer.u16((edns.extendedRcode << 8) | edns.version)
  writer.u16(edns.dnssecOk ? 0x8000 : 0)
  writer.u16(edns.options.reduce((sum, option) => sum + 4 + option.data.length, 0))
  for (const { code, data } of edns.options) {
    writer.u16(code)
    writer.u16(data.length)
    writer.put(data)
  }
}

// ---- record data

/** The strings of a TXT record, each as bytes in latin1. */
export function stringsOf(data: Uint8Array): string[] {
  const strings: string[] = []
  for (let at = 0; at < data.length; at += 1 + data[at]!)
    strings.push(Buffer.from(data.buffer, data.byteOffset + at + 1, data[at]!).toString('latin1'))
  return strings
}

export function dataOfStrings(strings: readonly string[]): Uint8Array {
  return concat(strings.map(text => Uint8Array.from([text.length, ...Buffer.from(text, 'latin1')])))
}

export interface Soa {
  primary: Name
  mailbox: Name
  serial: number
  refresh: number
  retry: number
  expire: number
  minimum: number
}

export function decodeSoa(data: Uint8Array): Soa {
  const primary = nameAt(data, 0)
  const mailbox = nameAt(data, primary.length)
  const view = new DataView(data.buffer, data.byteOffset + primary.length + mailbox.length, 20)
  const [serial, refresh, retry, expire, minimum] = [0, 4, 8, 12, 16].map(at => view.getUint32(at)) as [
    number,
    number,
    number,
    number,
    number,
  ]
  return { primary, mailbox, serial, refresh, retry, expire, minimum }
}

export function encodeSoa(soa: Soa): Uint8Array {
  const names = Buffer.from(soa.primary + soa.mailbox, 'latin1')
  const data = new Uint8Array(names.length + 20)
  data.set(names)
  const view = new DataView(data.buffer)
  for (const [i, value] of [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum].entries())
    view.setUint32(names.length + 4 * i, value)
  return data
}

/** RFC 1982: is serial `a` newer than `b`? Undefined by it (and false here) when they are 2^31 apart. */
export function isNewerSerial(a: number, b: number): boolean {
  const difference = (a - b) >>> 0
  return difference !== 0 && difference < 0x80000000
}
