/**
 * What an authoritative server answers: bytes in, bytes out, or a transfer, or nothing. No sockets, no clock of its own, and no bytes make it throw.
 *
 *   query ──► readable? ──► signature ──► EDNS version ──► question ──┬─► AXFR, IXFR ──► may it? ──► messages, one after the other
 *                                                                     └─► zone with the longest name ──► its answer
 *
 * Refusals, in the order in which they are looked for: nothing for answers (QR); NOTIMP for other operations; FORMERR; NOTAUTH for a signature
 * that is wrong (RFC 8945 section 5.2); BADVERS; REFUSED for names of no zone here, and for transfers. IXFR is answered as RFC 1995 section 4
 * allows: over TCP with the whole zone, over UDP with its SOA record, which sends the asker to TCP.
 */
import { type Prefix, prefixContains } from '../ipref/address.ts'
import { Class, Flag, Opcode, Rcode, Type } from './constants.ts'
import {
  decodeMessage,
  decodeSoa,
  type Edns,
  encodeMessage,
  HEADER,
  isNewerSerial,
  MAX_MESSAGE,
  type Message,
  type MessageParts,
  opcodeOf,
  type Question,
  type ResourceRecord,
} from './message.ts'
import { lowerName, type Name, parentOf } from './name.ts'
import { appendTsigError, type TsigFault, type TsigKey, TsigSigner, TsigVerifier, tsigLength } from './tsig.ts'
import type { Zone } from './zone.ts'

export interface ResponderSettings {
  keys: readonly TsigKey[]
  /** who may transfer zones; empty: nobody */
  transferAllow: readonly Prefix[]
  /** names of keys, lower case; where there are any, a transfer must also be signed with one of them */
  transferKeys: readonly Name[]
  /** zones that are for some askers alone; to others it is as if they were not here */
  internal?: { zones: readonly Name[]; allows(address: Uint8Array): boolean }
}

export interface ResponderPorts {
  /** seconds since 1970 */
  now(): number
  onRefusedTransfer?(zone: Name, asker: Asker, reason: string): void
}

export interface Asker {
  transport: 'udp' | 'tcp'
  address: Uint8Array
}

/** An answer of many messages. Each is made when it is asked for, from the zone as it was when the transfer began. */
export interface Transfer {
  zone: Zone
  messages: Iterator<Uint8Array, void>
}

/** Largest answer over UDP (DNS flag day 2020), so that none is fragmented. */
export const MAX_UDP = 1232
const MIN_UDP = 512
/** Messages of a transfer: pointers of compression reach no further than 16 KB. */
const TRANSFER_MESSAGE = 16_384
/** SOA of an IXFR, OPT, TSIG, and some to spare */
const MOST_RECORDS = 8

interface Request {
  message: Message
  asker: Asker
  /** of the key that signed it */
  signer: TsigSigner | undefined
  key: TsigKey | undefined
}

/** What an answer has beside id and flags. */
type Sections = Partial<Pick<Message, 'answers' | 'authority' | 'additional'>>

export class ZoneResponder {
  readonly #settings: ResponderSettings
  readonly #ports: ResponderPorts
  readonly #zones = new Map<Name, Zone>()

  constructor(settings: ResponderSettings, ports: ResponderPorts) {
    this.#settings = settings
    this.#ports = ports
  }

  setZone(zone: Zone): void {
    this.#zones.set(zone.origin, zone)
  }

  removeZone(origin: Name): void {
    this.#zones.delete(lowerName(origin))
  }

  zone(origin: Name): Zone | undefined {
    return this.#zones.get(lowerName(origin))
  }

  /** undefined: not to be answered. */
  answer(bytes: Uint8Array, asker: Asker): Uint8Array | Transfer | undefined {
    if (bytes.length < HEADER || (bytes[2]! & 0x80) !== 0) return undefined
    const isQuery = (bytes[2]! & 0x78) >> 3 === Opcode.QUERY
    if (isQuery && !hasCountsOfQuery(bytes)) return headerOnly(bytes, Rcode.FORMERR)
    const message = decodeMessage(bytes)
    if (typeof message === 'string') return headerOnly(bytes, isQuery ? Rcode.FORMERR : Rcode.NOTIMP)
    if (!isQuery) return encodeMessage({ id: message.id, flags: replyFlags(message, Rcode.NOTIMP), ...edns(message) })
    const unsigned: Request = { message, asker, signer: undefined, key: undefined }
    if (!message.tsig) return this.#answerQuery(unsigned)
    const now = () => this.#ports.now()
    const verifier = new TsigVerifier(this.#settings.keys, now)
    const fault = verifier.verify(bytes, message)
    const signer = verifier.key && new TsigSigner(verifier.key, now, verifier.mac)
    if (fault !== undefined) return refuseSignature(unsigned, fault, signer, verifier.time, now())
    return this.#answerQuery({ ...unsigned, signer, key: verifier.key })
  }

  #answerQuery(request: Request): Uint8Array | Transfer {
    const { questions, edns: asked } = request.message
    if (asked && asked.version > 0) return finish(request, Rcode.BADVERS)
    const question = questions[0]!
    if (question.class !== Class.IN) return finish(request, Rcode.REFUSED)
    if (question.type === Type.AXFR || question.type === Type.IXFR) return this.#answerTransfer(request, question)
    const zone = this.#zoneFor(question)
    const found = zone && this.#isFor(request.asker, zone.origin) && zone.lookup(question.name, question.type)
    if (!found) return finish(request, Rcode.REFUSED)
    const { rcode, isAuthoritative, needsAdditional, ...sections } = found
    return finish(request, rcode, sections, { isAuthoritative, needsAdditional })
  }

  // the longest; for DS, which the parent answers, one longer than the name has (RFC 4035 section 3.1.4.1)
  #zoneFor({ name, type }: Question): Zone | undefined {
    const lower = lowerName(name)
    let own: Zone | undefined
    for (let at: Name | undefined = lower; at !== undefined; at = parentOf(at)) {
      const zone = this.#zones.get(at)
      if (!zone) continue
      if (type !== Type.DS || at !== lower) return zone
      own = zone
    }
    return own
  }

  #answerTransfer(request: Request, question: Question): Uint8Array | Transfer {
    const { asker } = request
    if (question.type === Type.AXFR && asker.transport === 'udp') return finish(request, Rcode.FORMERR)
    const reason = this.#whyNot(request, question.name)
    if (reason !== undefined) {
      this.#ports.onRefusedTransfer?.(question.name, asker, reason)
      return finish(request, Rcode.REFUSED)
    }
    const zone = this.zone(question.name)
    if (!zone) return finish(request, Rcode.NOTAUTH)
    if (question.type === Type.IXFR) {
      const serial = serialOf(request.message)
      if (serial === undefined) return finish(request, Rcode.FORMERR)
      const isCurrent = serial === zone.soa.serial || isNewerSerial(serial, zone.soa.serial)
      if (isCurrent || asker.transport === 'udp')
        return finish(request, Rcode.NOERROR, { answers: [zone.soaRecord] }, { isAuthoritative: true })
    }
    return { zone, messages: transferMessages(zone, request) }
  }

  #isFor({ address }: Asker, origin: Name): boolean {
    const { internal } = this.#settings
    if (!internal?.zones.includes(lowerName(origin))) return true
    return internal.allows(address)
  }

  #whyNot({ asker, key }: Request, origin: Name): string | undefined {
    const { transferAllow, transferKeys } = this.#settings
    if (!this.#isFor(asker, origin)) return 'the zone is internal'
    if (!transferAllow.some(prefix => prefixContains(prefix, asker.address))) return 'the address is not listed'
    if (transferKeys.length === 0) return undefined
    if (!key) return 'not signed'
    return transferKeys.includes(key.name) ? undefined : 'signed with a key that is not for transfers'
  }
}

/** What the asker of an IXFR has. */
function serialOf({ authority }: Message): number | undefined {
  const soa = authority.find(record => record.type === Type.SOA && record.class === Class.IN)
  return soa && decodeSoa(soa.data).serial
}

function* transferMessages(zone: Zone, request: Request): Generator<Uint8Array, void> {
  const { message } = request
  const question = message.questions[0]!
  const reserved = HEADER + question.name.length + 16 + (request.key ? tsigLength(request.key) : 0)
  const flags = replyFlags(message, Rcode.NOERROR) | Flag.AA
  let records: ResourceRecord[] = []
  let length = reserved
  let isFirst = true
  const flush = () => {
    const opening = isFirst ? { questions: message.questions, ...edns(message) } : {}
    const bytes = encodeMessage({ id: message.id, flags, ...opening, answers: records })
    records = []
    length = reserved
    isFirst = false
    return request.signer ? request.signer.sign(bytes).message : bytes
  }
  for (const record of zone.transfer()) {
    const more = record.name.length + 10 + record.data.length
    if (length + more > TRANSFER_MESSAGE && records.length > 0) yield flush()
    records.push(record)
    length += more
  }
  yield flush()
}

// ---- answers

function replyFlags({ flags }: Message, rcode: number): number {
  return Flag.QR | (opcodeOf(flags) << 11) | (flags & Flag.RD) | (rcode & 15)
}

/** One question, and no more records than a query has any use for: 64 KB of them would cost milliseconds to read. */
function hasCountsOfQuery(bytes: Uint8Array): boolean {
  const count = (at: number) => (bytes[at]! << 8) | bytes[at + 1]!
  return count(4) === 1 && count(6) + count(8) + count(10) <= MOST_RECORDS
}

/** For what cannot be read further. */
function headerOnly(bytes: Uint8Array, rcode: number): Uint8Array {
  const answer = new Uint8Array(HEADER)
  answer.set(bytes.subarray(0, 2))
  answer[2] = 0x80 | (bytes[2]! & 0x79)
  answer[3] = rcode
  return answer
}

/** OPT, where the query had one (RFC 6891 section 6.1.1). */
function edns({ edns: asked }: Message, rcode = 0): { edns?: Edns } {
  if (!asked) return {}
  const { dnssecOk } = asked
  return { edns: { payloadSize: MAX_UDP, extendedRcode: rcode >> 4, version: 0, dnssecOk, options: [] } }
}

function finish(
  request: Request,
  rcode: number,
  sections: Sections = {},
  { isAuthoritative = false, needsAdditional = false } = {},
): Uint8Array {
  const { message, signer, key } = request
  const parts: MessageParts = {
    id: message.id,
    flags: replyFlags(message, rcode) | (isAuthoritative ? Flag.AA : 0),
    questions: message.questions.slice(0, 1),
    ...sections,
    ...edns(message, rcode),
  }
  const most = largestAnswer(request) - (key ? tsigLength(key) : 0)
  let bytes = encodeMessage(parts, most)
  if (isTruncated(bytes) && !needsAdditional && parts.additional?.length)
    bytes = encodeMessage({ ...parts, additional: [] }, most)
  return signer ? signer.sign(bytes).message : bytes
}

function isTruncated(bytes: Uint8Array): boolean {
  return (bytes[2]! & (Flag.TC >> 8)) !== 0
}

function largestAnswer({ message, asker }: Request): number {
  if (asker.transport === 'tcp') return MAX_MESSAGE
  return message.edns ? Math.max(MIN_UDP, Math.min(MAX_UDP, message.edns.payloadSize)) : MIN_UDP
}

function refuseSignature(
  request: Request,
  fault: TsigFault,
  signer: TsigSigner | undefined,
  signedAt: number,
  now: number,
): Uint8Array {
  if (fault === 'malformed') return finish(request, Rcode.FORMERR)
  const answer = finish(request, Rcode.NOTAUTH)
  if (fault === 'bad time' && signer) return signer.sign(answer, Rcode.BADTIME, signedAt).message
  const error = fault === 'bad key' ? Rcode.BADKEY : Rcode.BADSIG
  const whole = appendTsigError(answer, request.message.tsig!, error, Math.floor(now))
  // the names of key and algorithm are the asker's, and may be long
  return whole.length <= largestAnswer(request) ? whole : headerOnly(answer, Rcode.NOTAUTH)
}
