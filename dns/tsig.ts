/**
 * Transaction signatures (RFC 8945): HMAC over a message, its time and its key's name; for transfers of many messages a chain of them.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Class, Rcode, Type } from './constants.ts'
import { HEADER, type Message, nameAt, type ResourceRecord } from './message.ts'
import { formatName, lowerName, MAX_NAME, type Name, nameToBytes, parseName } from './name.ts'

export interface TsigKey {
  /** lower case */
  name: Name
  algorithm: Name
  secret: Uint8Array
}

export const tsigFaults = ['unsigned', 'bad key', 'bad signature', 'bad time', 'malformed'] as const
export type TsigFault = (typeof tsigFaults)[number]

const FUDGE_S = 300
const digests: ReadonlyMap<Name, { digest: string; length: number }> = new Map(
  [
    { algorithm: 'hmac-sha1', digest: 'sha1', length: 20 },
    { algorithm: 'hmac-sha224', digest: 'sha224', length: 28 },
    { algorithm: 'hmac-sha256', digest: 'sha256', length: 32 },
    { algorithm: 'hmac-sha384', digest: 'sha384', length: 48 },
    { algorithm: 'hmac-sha512', digest: 'sha512', length: 64 },
  ].map(({ algorithm, digest, length }) => [parseName(algorithm)!, { digest, length }] as const),
)

/** `[ALGORITHM:]NAME:BASE64`, as dig and kdig write it; a text that says what is wrong otherwise. */
export function parseTsigKey(text: string): TsigKey | string {
  const parts = text.split(':')
  const [algorithmText, nameText, secretText] = parts.length === 2 ? ['hmac-sha256', ...parts] : parts
  const expected = 'write ALGORITHM:NAME:SECRET with the secret in base64, such as hmac-sha256:transfer:bXkgc2VjcmV0'
  if (parts.length < 2 || parts.length > 3) return expected
  const algorithm = parseName(algorithmText!.toLowerCase())
  if (!algorithm || !digests.has(algorithm))
    return `${algorithmText} is none of ${[...digests.keys()].map(a => formatName(a).slice(0, -1)).join(', ')}`
  const name = parseName(nameText!)
  if (!name) return `${nameText} is no name of a key; ${expected}`
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(secretText!)) return `the secret is no base64; ${expected}`
  return { name: lowerName(name), algorithm, secret: Uint8Array.from(Buffer.from(secretText!, 'base64')) }
}

interface TsigData {
  algorithm: Name
  time: number
  fudge: number
  mac: Uint8Array
  originalId: number
  error: number
  other: Uint8Array
}

function decodeData(data: Uint8Array): TsigData | undefined {
  let end = 0
  while (end < data.length && data[end]! > 0 && data[end]! < 64) end += 1 + data[end]!
  if (end >= Math.min(data.length, MAX_NAME) || data[end] !== 0) return undefined
  const algorithm = lowerName(nameAt(data, 0))
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  let at = algorithm.length
  if (at + 10 > data.length) return undefined
  const time = view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2)
  const fudge = view.getUint16(at + 6)
  const macLength = view.getUint16(at + 8)
  at += 10
  if (at + macLength + 6 > data.length) return undefined
  const mac = data.slice(at, at + macLength)
  at += macLength
  const otherLength = view.getUint16(at + 4)
  if (at + 6 + otherLength !== data.length) return undefined
  const other = data.slice(at + 6)
  return { algorithm, time, fudge, mac, originalId: view.getUint16(at), error: view.getUint16(at + 2), other }
}

function timeBytes(time: number, fudge: number): Uint8Array {
  const bytes = new Uint8Array(8)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, Math.floor(time / 2 ** 32))
  view.setUint32(2, time % 2 ** 32)
  view.setUint16(6, fudge)
  return bytes
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 255)
}

// RFC 8945 section 4.3.3; after the first message of a transfer only the timers (5.3.1)
function variablesOf(key: TsigKey, data: Pick<TsigData, 'time' | 'fudge' | 'error' | 'other'>, timersOnly: boolean) {
  if (timersOnly) return [timeBytes(data.time, data.fudge)]
  return [
    nameToBytes(key.name),
    u16(Class.ANY),
    new Uint8Array(4),
    nameToBytes(key.algorithm),
    timeBytes(data.time, data.fudge),
    u16(data.error),
    u16(data.other.length),
    data.other,
  ]
}

function hmac(key: TsigKey, parts: readonly Uint8Array[]): Uint8Array {
  const mac = createHmac(digests.get(key.algorithm)!.digest, key.secret)
  for (const part of parts) mac.update(part)
  return mac.digest()
}

function withLength(mac: Uint8Array | undefined): Uint8Array[] {
  return mac && mac.length > 0 ? [u16(mac.length), mac] : []
}

/** Signs the messages of one exchange: a request, or the answers to one (`request`: its MAC). */
export class TsigSigner {
  readonly #key: TsigKey
  readonly #now: () => number
  #previous: Uint8Array | undefined
  #isFirst = true

  /** `now`: seconds since 1970 */
  constructor(key: TsigKey, now: () => number, request?: Uint8Array) {
    this.#key = key
    this.#now = now
    this.#previous = request
  }

  /**
   * The message with its signature. `error`: the code of RFC 8945 section 3. An answer that says BADTIME carries the time of the request, so that
   * the asker takes it, and ours in `other` (5.2.3).
   */
  sign(message: Uint8Array, error = 0, requestTime?: number): { message: Uint8Array; mac: Uint8Array } {
    const key = this.#key
    const now = Math.floor(this.#now())
    const other = error === Rcode.BADTIME ? timeBytes(now, 0).subarray(0, 6) : new Uint8Array()
    const data = { time: requestTime ?? now, fudge: FUDGE_S, error, other }
    const mac = hmac(key, [...withLength(this.#previous), message, ...variablesOf(key, data, !this.#isFirst)])
    this.#previous = mac
    this.#isFirst = false
    const signed = appendTsig(message, key.name, key.algorithm, { ...data, mac, originalId: idOf(message) })
    return { message: signed, mac }
  }
}

/** How many bytes a signature adds to a message. */
export function tsigLength(key: TsigKey): number {
  // of the record 10, of its data 16, and 6 for our time beside BADTIME
  return key.name.length + key.algorithm.length + digests.get(key.algorithm)!.length + 32
}

/** An answer that says why a signature was not taken: BADKEY and BADSIG are not signed (RFC 8945 section 5.2). */
export function appendTsigError(
  message: Uint8Array,
  request: NonNullable<Message['tsig']>,
  error: number,
  now: number,
): Uint8Array {
  const data = decodeData(request.data)
  const algorithm = data?.algorithm ?? parseName('hmac-sha256')!
  const rest = { time: data?.time ?? now, fudge: FUDGE_S, error, other: new Uint8Array(), mac: new Uint8Array() }
  return appendTsig(message, request.name, algorithm, { ...rest, originalId: idOf(message) })
}

function idOf(message: Uint8Array): number {
  return (message[0]! << 8) | message[1]!
}

function appendTsig(message: Uint8Array, name: Name, algorithm: Name, data: Omit<TsigData, 'algorithm'>): Uint8Array {
  const rdata = Buffer.concat([
    nameToBytes(algorithm),
    timeBytes(data.time, data.fudge),
    u16(data.mac.length),
    data.mac,
    u16(data.originalId),
    u16(data.error),
    u16(data.other.length),
    data.other,
  ])
  const signed = Buffer.concat([
    message,
    nameToBytes(name),
    u16(Type.TSIG),
    u16(Class.ANY),
    new Uint8Array(4),
    u16(rdata.length),
    rdata,
  ])
  signed.writeUInt16BE(signed.readUInt16BE(10) + 1, 10)
  return Uint8Array.from(signed)
}

/** Checks the messages of one exchange. In a transfer up to 99 messages between two signed ones may be unsigned (5.3.1). */
export class TsigVerifier {
  readonly #keys: readonly TsigKey[]
  readonly #now: () => number
  #previous: Uint8Array | undefined
  #isFirst = true
  #unsigned: Uint8Array[] = []
  /** of the last message that was signed and right */
  mac: Uint8Array | undefined
  key: TsigKey | undefined
  /** when it says that it was signed; seconds since 1970 */
  time = 0

  /** `request`: the MAC of what this answers */
  constructor(keys: readonly TsigKey[], now: () => number, request?: Uint8Array) {
    this.#keys = keys
    this.#now = now
    this.#previous = request
  }

  /** undefined: right. `decoded` is what `bytes` holds. */
  verify(bytes: Uint8Array, decoded: Message): TsigFault | undefined {
    const { tsig } = decoded
    if (!tsig) {
      if (this.#isFirst || this.#unsigned.length >= 99) return 'unsigned'
      this.#unsigned.push(bytes)
      return undefined
    }
    const data = decodeData(tsig.data)
    if (!data) return 'malformed'
    const key = this.#keys.find(k => k.name === lowerName(tsig.name) && k.algorithm === data.algorithm)
    if (!key) return 'bad key'
    const bare = withoutTsig(bytes, tsig, data.originalId)
    const expected = hmac(key, [
      ...withLength(this.#previous),
      ...this.#unsigned,
      bare,
      ...variablesOf(key, data, !this.#isFirst),
    ])
    if (data.mac.length !== expected.length || !timingSafeEqual(data.mac, expected)) return 'bad signature'
    this.key = key
    this.mac = data.mac
    this.time = data.time
    this.#previous = data.mac
    this.#isFirst = false
    this.#unsigned = []
    if (Math.abs(this.#now() - data.time) > data.fudge) return 'bad time'
    return undefined
  }

  /** Every message up to the last has been covered by a signature. */
  get complete(): boolean {
    return this.#unsigned.length === 0 && !this.#isFirst
  }
}

function withoutTsig(bytes: Uint8Array, tsig: ResourceRecord & { start: number }, originalId: number): Uint8Array {
  const bare = bytes.slice(0, Math.max(tsig.start, HEADER))
  const view = new DataView(bare.buffer)
  view.setUint16(0, originalId)
  view.setUint16(10, view.getUint16(10) - 1)
  return bare
}

/** The error code in a signed answer, 0 when all is well. */
export function tsigErrorOf(tsig: ResourceRecord): number {
  return decodeData(tsig.data)?.error ?? 0
}
