/**
 * What the active gateway of a single uplink and its standby say to each other, over TCP between node addresses. Pure.
 *
 *    0        1        2        3        4        5
 *   +--------+--------+--------+--------+--------+------------
 *   |      length of the payload        |  kind  | payload …          big-endian; nothing may follow the payload's fields
 *   +--------+--------+--------+--------+--------+------------
 *
 *   active                                   standby
 *     hello (nonce, name, transitions)  ────►            transitions: of the Lease, so that the older claim gives way
 *            ◄──── hello (nonce, name, transitions), proof
 *     proof                             ────►            HMAC-SHA256 over both nonces and names, with the key of the Secret
 *            ◄──── commit …, end                         what the standby has: what the active lacks, it takes over
 *     begin, commit …, peers …, end     ────►            all that the active has: everything else goes
 *            ◄──── peers …                               right after begin: what the standby has of an active before
 *     commit …, peers …, ping           ────►
 *            ◄──── ack                                   up to this sequence number all is on disk
 *            ◄──── taken                                 I hold the Lease now
 *
 *   commit: sequence number (8 bytes), then records of 53 bytes
 *
 *    0        1                 17                33                49               53
 *   +--------+-----------------+-----------------+-----------------+----------------+
 *   | what   | local address   | context         | reference       | seconds left   |        addresses as the mapping tables have them
 *   +--------+-----------------+-----------------+-----------------+----------------+
 *
 *
 * Seconds that are left, not a time: clocks of nodes are never compared.
 *
 *   peers: records of 21 bytes; each port was proved by a probe; MTU 0: that of the route
 *
 *    0        1                 17       19       21
 *   +--------+-----------------+--------+--------+
 *   | what   | address         | port   | MTU    |
 *   +--------+-----------------+--------+--------+
 *
 * What was added after version 1 goes to those alone who say that they know it: the standby in the top byte of its `end`, which is zero in version 1
 * and not looked at there; the active in a byte of its `begin`, which has none in version 1, and gets one only after such an `end`.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { AddressWords } from '../../ipref/address.ts'

export const UPLINK_VERSION = 1
export const NONCE_BYTES = 32
export const PROOF_BYTES = 32
export const MOST_PAYLOAD = 1 << 16
export const RECORD_BYTES = 53
export const MOST_RECORDS = 500
export const PEER_BYTES = 21
export const MOST_PEER_RECORDS = 1000
/** Bits: what the other side understands beyond version 1. */
export const Feature = { peers: 1 } as const
export const FEATURES = Feature.peers
const HEADER = 5
const SEQUENCE = 8
const HELLO_FIXED = 1 + NONCE_BYTES + 4
const MOST_NAME = 253

const Kind = { hello: 1, proof: 2, commit: 3, begin: 4, end: 5, ack: 6, ping: 7, taken: 8, peers: 9 } as const
const What = { saveOurs: 1, saveTheirs: 2, removeOurs: 3, removeTheirs: 4 } as const
const PeerWhat = { known: 1, gone: 2 } as const

export interface UplinkRecord {
  do: 'save' | 'remove'
  kind: 'ours' | 'theirs'
  local: AddressWords
  context: AddressWords
  reference: AddressWords
  /** seconds; 0 in a removal */
  left: number
}

/** A remote gateway, and what was found out about the way to it. */
export interface PeerRecord {
  do: 'know' | 'forget'
  address: AddressWords
  /** 0 where it is forgotten */
  port: number
  /** bytes that the path takes; 0: what the route says */
  mtu: number
}

export type UplinkMessage =
  | { kind: 'hello'; nonce: Uint8Array; name: string; transitions: number }
  | { kind: 'proof'; proof: Uint8Array }
  | { kind: 'commit'; sequence: number; records: UplinkRecord[] }
  | { kind: 'peers'; records: PeerRecord[] }
  | { kind: 'begin'; features: number }
  | { kind: 'end'; sequence: number; features: number }
  | { kind: 'ack'; sequence: number }
  | { kind: 'ping' }
  | { kind: 'taken'; name: string; transitions: number }

/** Why a frame was refused; the connection ends with it. */
export type UplinkFault = 'too_long' | 'unknown_kind' | 'unknown_version' | 'bad_length' | 'bad_name' | 'bad_record'

// ---- decode

/** Puts pieces of a stream together. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0)

  /** Messages that are whole now, or the fault of the first one that is none. */
  push(bytes: Uint8Array): UplinkMessage[] | UplinkFault {
    this.#pending = this.#pending.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#pending, bytes])
    const messages: UplinkMessage[] = []
    let at = 0
    while (this.#pending.length - at >= HEADER) {
      const length = this.#pending.readUInt32BE(at)
      if (length > MOST_PAYLOAD) return 'too_long'
      const end = at + HEADER + length
      if (this.#pending.length < end) break
      const message = decodeFrame(this.#pending[at + 4]!, this.#pending.subarray(at + HEADER, end))
      if (typeof message === 'string') return message
      messages.push(message)
      at = end
    }
    this.#pending = this.#pending.subarray(at)
    return messages
  }
}

function decodeFrame(kind: number, payload: Buffer): UplinkMessage | UplinkFault {
  switch (kind) {
    case Kind.hello:
      return decodeHello(payload)
    case Kind.proof:
      return payload.length === PROOF_BYTES ? { kind: 'proof', proof: Uint8Array.from(payload) } : 'bad_length'
    case Kind.commit:
      return decodeCommit(payload)
    case Kind.peers:
      return decodePeers(payload)
    case Kind.begin:
      return payload.length <= 1 ? { kind: 'begin', features: payload[0] ?? 0 } : 'bad_length'
    case Kind.ping:
      return payload.length === 0 ? { kind: 'ping' } : 'bad_length'
    case Kind.end:
      if (payload.length !== SEQUENCE) return 'bad_length'
      return { kind: 'end', sequence: sequenceAt(payload), features: payload[0]! }
    case Kind.ack:
      return payload.length === SEQUENCE ? { kind: 'ack', sequence: sequenceAt(payload) } : 'bad_length'
    case Kind.taken: {
      if (payload.length < 4) return 'bad_length'
      const name = nameOf(payload.subarray(4))
      return name === undefined ? 'bad_name' : { kind: 'taken', transitions: payload.readUInt32BE(0), name }
    }
    default:
      return 'unknown_kind'
  }
}

function decodeHello(payload: Buffer): UplinkMessage | UplinkFault {
  if (payload.length < HELLO_FIXED) return 'bad_length'
  if (payload[0] !== UPLINK_VERSION) return 'unknown_version'
  const name = nameOf(payload.subarray(HELLO_FIXED))
  if (name === undefined) return 'bad_name'
  const nonce = Uint8Array.from(payload.subarray(1, 1 + NONCE_BYTES))
  return { kind: 'hello', nonce, transitions: payload.readUInt32BE(1 + NONCE_BYTES), name }
}

function decodeCommit(payload: Buffer): UplinkMessage | UplinkFault {
  const bytes = payload.length - SEQUENCE
  if (bytes < 0 || bytes % RECORD_BYTES !== 0) return 'bad_length'
  const records: UplinkRecord[] = []
  for (let at = SEQUENCE; at < payload.length; at += RECORD_BYTES) {
    const what = payload[at]!
    if (what < What.saveOurs || what > What.removeTheirs) return 'bad_record'
    records.push({
      do: what <= What.saveTheirs ? 'save' : 'remove',
      kind: what === What.saveOurs || what === What.removeOurs ? 'ours' : 'theirs',
      local: wordsAt(payload, at + 1),
      context: wordsAt(payload, at + 17),
      reference: wordsAt(payload, at + 33),
      left: payload.readUInt32BE(at + 49),
    })
  }
  return { kind: 'commit', sequence: sequenceAt(payload), records }
}

function decodePeers(payload: Buffer): UplinkMessage | UplinkFault {
  if (payload.length % PEER_BYTES !== 0) return 'bad_length'
  const records: PeerRecord[] = []
  for (let at = 0; at < payload.length; at += PEER_BYTES) {
    const [what, port, mtu] = [payload[at]!, payload.readUInt16BE(at + 17), payload.readUInt16BE(at + 19)]
    const isRight = what === PeerWhat.known ? port !== 0 : what === PeerWhat.gone && port === 0 && mtu === 0
    if (!isRight) return 'bad_record'
    records.push({ do: what === PeerWhat.known ? 'know' : 'forget', address: wordsAt(payload, at + 1), port, mtu })
  }
  return { kind: 'peers', records }
}

function wordsAt(bytes: Buffer, at: number): AddressWords {
  return [bytes.readInt32BE(at), bytes.readInt32BE(at + 4), bytes.readInt32BE(at + 8), bytes.readInt32BE(at + 12)]
}

function sequenceAt(payload: Buffer): number {
  return Number(payload.readBigUInt64BE(0) & 0x1f_ffff_ffff_ffffn)
}

// names of Kubernetes objects: nothing that could make a log line look like another
function nameOf(bytes: Buffer): string | undefined {
  const text = bytes.toString('latin1')
  return /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(text) && text.length <= MOST_NAME ? text : undefined
}

// ---- encode

export function encodeUplink(message: UplinkMessage): Uint8Array {
  const payload = payloadOf(message)
  const frame = Buffer.alloc(HEADER + payload.length)
  frame.writeUInt32BE(payload.length, 0)
  frame[4] = Kind[message.kind]
  frame.set(payload, HEADER)
  return frame
}

function payloadOf(message: UplinkMessage): Uint8Array {
  switch (message.kind) {
    case 'hello': {
      const fixed = Buffer.alloc(HELLO_FIXED)
      fixed[0] = UPLINK_VERSION
      fixed.set(message.nonce, 1)
      fixed.writeUInt32BE(message.transitions, 1 + NONCE_BYTES)
      return Buffer.concat([fixed, Buffer.from(message.name, 'latin1')])
    }
    case 'proof':
      return message.proof
    case 'commit':
      return encodeCommit(message.sequence, message.records)
    case 'peers':
      return encodePeers(message.records)
    case 'begin':
      return message.features === 0 ? new Uint8Array(0) : Uint8Array.of(message.features)
    case 'ping':
      return new Uint8Array(0)
    case 'end': {
      const payload = encodeCommit(message.sequence, [])
      payload[0] = message.features
      return payload
    }
    case 'ack':
      return encodeCommit(message.sequence, [])
    case 'taken': {
      const transitions = Buffer.alloc(4)
      transitions.writeUInt32BE(message.transitions, 0)
      return Buffer.concat([transitions, Buffer.from(message.name, 'latin1')])
    }
  }
}

function encodeCommit(sequence: number, records: readonly UplinkRecord[]): Uint8Array {
  const payload = Buffer.alloc(SEQUENCE + records.length * RECORD_BYTES)
  payload.writeBigUInt64BE(BigInt(sequence), 0)
  let at = SEQUENCE
  for (const { do: verb, kind, local, context, reference, left } of records) {
    const what = verb === 'save' ? What.saveOurs : What.removeOurs
    payload[at] = kind === 'ours' ? what : what + 1
    for (const [i, word] of [...local, ...context, ...reference].entries()) payload.writeInt32BE(word, at + 1 + 4 * i)
    payload.writeUInt32BE(Math.max(0, Math.min(left, 0xffffffff)), at + 49)
    at += RECORD_BYTES
  }
  return payload
}

function encodePeers(records: readonly PeerRecord[]): Uint8Array {
  const payload = Buffer.alloc(records.length * PEER_BYTES)
  for (const [i, { do: verb, address, port, mtu }] of records.entries()) {
    const at = i * PEER_BYTES
    payload[at] = verb === 'know' ? PeerWhat.known : PeerWhat.gone
    for (const [n, word] of address.entries()) payload.writeInt32BE(word, at + 1 + 4 * n)
    payload.writeUInt16BE(port, at + 17)
    payload.writeUInt16BE(mtu, at + 19)
  }
  return payload
}

// ---- proof

export interface Handshake {
  active: { nonce: Uint8Array; name: string }
  standby: { nonce: Uint8Array; name: string }
}

/** That `by` knows the key; bound to this connection by both nonces. */
export function proofOf(key: Uint8Array, by: 'active' | 'standby', { active, standby }: Handshake): Uint8Array {
  const text = [by, active.name, standby.name].map(part => `${part}\n`).join('')
  const mac = createHmac('sha256', key).update(`ipref uplink ${UPLINK_VERSION}\n`).update(text)
  return mac.update(active.nonce).update(standby.nonce).digest()
}

export function isProof(given: Uint8Array, wanted: Uint8Array): boolean {
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}
