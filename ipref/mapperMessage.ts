/**
 * Messages of the mapper socket (wire.md section 3).
 *
 *     0        1        2        3        4        5        6        7
 *   +--------+--------+-----------------+--------+--------+-----------------+
 *   |  0x11  |mode+cmd|    packet id    |EA / tun|   0    | length in words |
 *   +--------+--------+-----------------+--------+--------+-----------------+
 *   address record: encoded address, native address (EA version), context (tunnel version), reference (16)
 *   string: 4, length, bytes, zeros up to a multiple of 4
 *
 * Big-endian. Bytes behind the last whole record are ignored; everything else that does not fit is a fault.
 */
import { decodeReference, encodeReference } from './reference.ts'

export const MESSAGE_HEADER = 8
const SIGNATURE = 0x11
const STRING_TYPE = 4
const REFERENCE_LENGTH = 16
export const Mode = { data: 0, request: 1, ack: 2, nack: 3 } as const
export const Command = { noop: 0, getEncoded: 7, hostData: 14, hostDataHash: 15 } as const

export type MessageFault = 'short' | 'signature' | 'length' | 'version' | 'reserved' | 'command' | 'content'

export interface MessageHeader {
  mode: number
  command: number
  id: number
  encodedFamily: 4 | 6
  tunnelFamily: 4 | 6
}

export interface AddressRecord {
  encoded: Uint8Array
  native: Uint8Array
  context: Uint8Array
  reference: bigint
}

export interface HostDataHead {
  batch: number
  hash: bigint
  local: string
  public: string
}

export type MapperRequest =
  | { header: MessageHeader; what: 'noop' }
  | { header: MessageHeader; what: 'getEncoded'; record: AddressRecord; name: string | undefined }
  | { header: MessageHeader; what: 'hostData'; head: HostDataHead; records: AddressRecord[] }
  | { header: MessageHeader; what: 'hostDataHash'; count: number; hash: bigint; local: string; public: string }

function lengthOf(family: 4 | 6): number {
  return family === 4 ? 4 : 16
}

export function recordLength(header: Pick<MessageHeader, 'encodedFamily' | 'tunnelFamily'>): number {
  return 2 * lengthOf(header.encodedFamily) + lengthOf(header.tunnelFamily) + REFERENCE_LENGTH
}

export function decodeHeader(message: Uint8Array): MessageHeader | MessageFault {
  if (message.length < MESSAGE_HEADER) return 'short'
  if (message[0] !== SIGNATURE) return 'signature'
  const view = viewOf(message)
  if (view.getUint16(6) * 4 !== message.length) return 'length'
  if (message[5] !== 0) return 'reserved'
  const encodedFamily = message[4]! >> 4
  const tunnelFamily = message[4]! & 15
  if ((encodedFamily !== 4 && encodedFamily !== 6) || (tunnelFamily !== 4 && tunnelFamily !== 6)) return 'version'
  return { mode: message[1]! >> 6, command: message[1]! & 63, id: view.getUint16(2), encodedFamily, tunnelFamily }
}

export function decodeRequest(message: Uint8Array): MapperRequest | MessageFault {
  const header = decodeHeader(message)
  if (typeof header === 'string') return header
  if (header.command === Command.noop) return { header, what: 'noop' }
  if (header.mode !== Mode.request) return 'command'
  if (header.command === Command.getEncoded) return decodeGetEncoded(header, message)
  if (header.command === Command.hostData) return decodeHostData(header, message)
  if (header.command === Command.hostDataHash) return decodeHostDataHash(header, message)
  return 'command'
}

function decodeGetEncoded(header: MessageHeader, message: Uint8Array): MapperRequest | MessageFault {
  const record = readRecord(header, message, MESSAGE_HEADER)
  if (!record) return 'content'
  const name = readString(message, MESSAGE_HEADER + recordLength(header))
  return { header, what: 'getEncoded', record, name: name?.text }
}

function decodeHostData(header: MessageHeader, message: Uint8Array): MapperRequest | MessageFault {
  if (message.length < MESSAGE_HEADER + 12) return 'content'
  const view = viewOf(message)
  const local = readString(message, MESSAGE_HEADER + 12)
  const publicDomain = local && readString(message, local.end)
  if (!publicDomain) return 'content'
  const records: AddressRecord[] = []
  const step = recordLength(header)
  for (let at = publicDomain.end; at + step <= message.length; at += step)
    records.push(readRecord(header, message, at)!)
  const head = { batch: view.getUint32(8), hash: view.getBigUint64(12), local: local.text, public: publicDomain.text }
  return { header, what: 'hostData', head, records }
}

function decodeHostDataHash(header: MessageHeader, message: Uint8Array): MapperRequest | MessageFault {
  if (message.length < MESSAGE_HEADER + 12) return 'content'
  const view = viewOf(message)
  const local = readString(message, MESSAGE_HEADER + 12)
  const publicDomain = local && readString(message, local.end)
  if (!publicDomain) return 'content'
  const [count, hash] = [view.getUint32(8), view.getBigUint64(12)]
  return { header, what: 'hostDataHash', count, hash, local: local.text, public: publicDomain.text }
}

function readRecord(header: MessageHeader, message: Uint8Array, at: number): AddressRecord | undefined {
  if (at + recordLength(header) > message.length) return undefined
  const own = lengthOf(header.encodedFamily)
  const context = lengthOf(header.tunnelFamily)
  const end = at + 2 * own + context
  return {
    encoded: message.slice(at, at + own),
    native: message.slice(at + own, at + 2 * own),
    context: message.slice(at + 2 * own, end),
    reference: decodeReference(message.subarray(end, end + REFERENCE_LENGTH)),
  }
}

function readString(message: Uint8Array, at: number): { text: string; end: number } | undefined {
  if (at + 2 > message.length || message[at] !== STRING_TYPE) return undefined
  const length = message[at + 1]!
  const end = at + ((2 + length + 3) & ~3)
  if (end > message.length) return undefined
  return { text: Buffer.from(message.subarray(at + 2, at + 2 + length)).toString('latin1'), end }
}

// ---- answers

function answerHeader(header: MessageHeader, mode: number, bytes: number): Uint8Array {
  const message = new Uint8Array(bytes)
  message[0] = SIGNATURE
  message[1] = (mode << 6) | header.command
  message[4] = (header.encodedFamily << 4) | header.tunnelFamily
  const view = viewOf(message)
  view.setUint16(2, header.id)
  view.setUint16(6, bytes / 4)
  return message
}

export function encodeNack(header: MessageHeader): Uint8Array {
  return answerHeader(header, Mode.nack, MESSAGE_HEADER)
}

/** The record of the request with the encoded address set. */
export function encodeEncodedAck(header: MessageHeader, record: AddressRecord): Uint8Array {
  const message = answerHeader(header, Mode.ack, MESSAGE_HEADER + recordLength(header))
  message.set(
    Buffer.concat([
      record.encoded,
      new Uint8Array(record.encoded.length),
      record.context,
      encodeReference(record.reference, REFERENCE_LENGTH),
    ]),
    MESSAGE_HEADER,
  )
  return message
}

/** Header, batch id, hash and both strings of the request. */
export function encodeHostDataAck(header: MessageHeader, request: Uint8Array): Uint8Array {
  const strings = readString(request, MESSAGE_HEADER + 12)!
  const end = readString(request, strings.end)!.end
  const message = answerHeader(header, Mode.ack, end)
  message.set(request.subarray(MESSAGE_HEADER, end), MESSAGE_HEADER)
  return message
}

/** The request, whole, with the mode changed. */
export function encodeSame(request: Uint8Array, mode: number): Uint8Array {
  const message = request.slice()
  message[1] = (mode << 6) | (message[1]! & 63)
  return message
}

/** An answer to HOST_DATA or HOST_DATA_HASH. `number`: the batch, or the count of records. */
export function readHostAnswer(
  message: Uint8Array,
): (MessageHeader & { number: number; hash: bigint; local: string; public: string }) | undefined {
  const header = decodeHeader(message)
  if (typeof header === 'string' || message.length < MESSAGE_HEADER + 12) return undefined
  if (header.command !== Command.hostData && header.command !== Command.hostDataHash) return undefined
  if (header.mode !== Mode.ack && header.mode !== Mode.nack) return undefined
  const local = readString(message, MESSAGE_HEADER + 12)
  const publicDomain = local && readString(message, local.end)
  if (!publicDomain) return undefined
  const view = viewOf(message)
  const [number, hash] = [view.getUint32(8), view.getBigUint64(12)]
  return { ...header, number, hash, local: local.text, public: publicDomain.text }
}

// ---- requests, for clients and tests

export function encodeGetEncoded(
  header: Omit<MessageHeader, 'mode' | 'command'>,
  record: Omit<AddressRecord, 'encoded' | 'native'>,
  name = '',
): Uint8Array {
  const text = name === '' ? new Uint8Array() : encodeString(name)
  const whole = { ...header, mode: Mode.request, command: Command.getEncoded }
  const message = answerHeader(whole, Mode.request, MESSAGE_HEADER + recordLength(whole) + text.length)
  const at = MESSAGE_HEADER + 2 * lengthOf(header.encodedFamily)
  message.set(record.context, at)
  message.set(encodeReference(record.reference, REFERENCE_LENGTH), at + record.context.length)
  message.set(text, MESSAGE_HEADER + recordLength(whole))
  return message
}

export function encodeString(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'latin1').subarray(0, 255)
  const out = new Uint8Array((2 + bytes.length + 3) & ~3)
  out[0] = STRING_TYPE
  out[1] = bytes.length
  out.set(bytes, 2)
  return out
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

export interface HostBatchRecord {
  native: Uint8Array
  context: Uint8Array
  reference: bigint
}

/** How many records fit a message of `most` bytes. */
export function recordsOfBatch(
  header: Pick<MessageHeader, 'encodedFamily' | 'tunnelFamily'>,
  names: { local: string; public: string },
  most: number,
): number {
  const head = MESSAGE_HEADER + 12 + encodeString(names.local).length + encodeString(names.public).length
  return Math.max(1, Math.floor((most - head) / recordLength(header)))
}

export function encodeHostData(
  header: Omit<MessageHeader, 'mode' | 'command'>,
  head: HostDataHead,
  records: readonly HostBatchRecord[],
): Uint8Array {
  const strings = [encodeString(head.local), encodeString(head.public)]
  const recordsAt = MESSAGE_HEADER + 12 + strings[0]!.length + strings[1]!.length
  const whole = { ...header, mode: Mode.request, command: Command.hostData }
  const message = answerHeader(whole, Mode.request, recordsAt + records.length * recordLength(whole))
  const view = viewOf(message)
  view.setUint32(8, head.batch)
  view.setBigUint64(12, head.hash)
  message.set(strings[0]!, MESSAGE_HEADER + 12)
  message.set(strings[1]!, MESSAGE_HEADER + 12 + strings[0]!.length)
  let at = recordsAt
  for (const { native, context, reference } of records) {
    message.set(native, at + native.length)
    message.set(context, at + 2 * native.length)
    message.set(encodeReference(reference, REFERENCE_LENGTH), at + 2 * native.length + context.length)
    at += recordLength(whole)
  }
  return message
}

export function encodeHostDataHash(
  header: Omit<MessageHeader, 'mode' | 'command'>,
  set: { count: number; hash: bigint; local: string; public: string },
): Uint8Array {
  const strings = [encodeString(set.local), encodeString(set.public)]
  const whole = { ...header, mode: Mode.request, command: Command.hostDataHash }
  const message = answerHeader(whole, Mode.request, MESSAGE_HEADER + 12 + strings[0]!.length + strings[1]!.length)
  const view = viewOf(message)
  view.setUint32(8, set.count)
  view.setBigUint64(12, set.hash)
  message.set(strings[0]!, MESSAGE_HEADER + 12)
  message.set(strings[1]!, MESSAGE_HEADER + 12 + strings[0]!.length)
  return message
}
