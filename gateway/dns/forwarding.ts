/**
 * Questions that are handed on, and their answers: bytes that are changed as little as can be. Pure.
 */
import { EdnsOption, Rcode, Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, HEADER, type Message } from '../../dns/message.ts'
import { skipName, type WalkedMessage, walkRecords } from '../../dns/packet.ts'
import { type Prefix, prefixContains } from '../../ipref/address.ts'
import { MOST_TTL, MOST_UDP } from './upstreamAnswers.ts'

const FAILURE_TTL = 2
const MOST_NEGATIVE_TTL = 3600
/** Keys of SVCB and HTTPS records (RFC 9460 section 14.3.2) whose values are addresses, and how long one of them is. */
const HINTS: Readonly<Record<number, number>> = { 4: 4, 6: 16 }

/** The query as it came, with id 0; its OPT record last, without cookies, and with no more room than we take. `optAt` 0: it has none. */
export function forwardQuery(
  query: Uint8Array,
  message: Message,
  questionEnd: number,
): { bytes: Uint8Array; optAt: number } {
  if (!message.edns) {
    const bytes = query.slice(0, questionEnd)
    bytes.fill(0, 6, HEADER)
    bytes[0] = 0
    bytes[1] = 0
    return { bytes, optAt: 0 }
  }
  const options = message.edns.options.filter(o => o.code !== EdnsOption.COOKIE && o.code !== EdnsOption.KEEPALIVE)
  const edns = { ...message.edns, payloadSize: Math.min(Math.max(512, message.edns.payloadSize), MOST_UDP), options }
  const bytes = encodeMessage({ id: 0, flags: message.flags, questions: message.questions, edns })
  return { bytes, optAt: questionEnd }
}

/** Does the answer hold an address in one of these, in an A or AAAA record or as a hint of a service (RFC 9460)? `but`: not in one of those. */
export function holdsAddressIn(
  answer: Uint8Array,
  walked: WalkedMessage,
  prefixes: readonly Prefix[],
  but: readonly Prefix[] = [],
): boolean {
  if (prefixes.length === 0) return false
  const isWithin = (list: readonly Prefix[], address: Uint8Array) => list.some(one => prefixContains(one, address))
  const isIn = (address: Uint8Array) => isWithin(prefixes, address) && !isWithin(but, address)
  return walked.records.some(({ type, dataAt, end }) => {
    if (type === Type.A || type === Type.AAAA) {
      const isAddress = end - dataAt === (type === Type.A ? 4 : 16)
      return isAddress && isIn(answer.subarray(dataAt, end))
    }
    return (type === Type.SVCB || type === Type.HTTPS) && hintsOf(answer, dataAt, end).some(isIn)
  })
}

// priority, target, then key, length, value
function hintsOf(bytes: Uint8Array, dataAt: number, end: number): Uint8Array[] {
  const hints: Uint8Array[] = []
  let at = skipName(bytes, dataAt + 2)
  while (at > 0 && at + 4 <= end) {
    const size = HINTS[(bytes[at]! << 8) | bytes[at + 1]!]
    const valueEnd = at + 4 + ((bytes[at + 2]! << 8) | bytes[at + 3]!)
    if (size !== undefined)
      for (let p = at + 4; p + size <= Math.min(valueEnd, end); p += size) hints.push(bytes.subarray(p, p + size))
    at = valueEnd
  }
  return hints
}

/** How long an answer may be shown. */
export function ttlOfForwarded(answer: Uint8Array, walked: WalkedMessage): number {
  const rcode = answer[3]! & 15
  if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN) return rcode === Rcode.SERVFAIL ? FAILURE_TTL : 0
  const records = walked.records.filter(r => r.type !== Type.OPT)
  const hasAnswer = records.some(r => r.section === 'answer')
  let ttl = MOST_TTL
  // RFC 2181 section 8
  for (const record of records) ttl = Math.min(ttl, record.ttl > 0x7fffffff ? 0 : record.ttl)
  if (hasAnswer && rcode === Rcode.NOERROR) return ttl
  const soa = records.find(r => r.section === 'authority' && r.type === Type.SOA)
  if (!soa || soa.end - soa.dataAt < 4) return 0
  const minimum = new DataView(answer.buffer, answer.byteOffset + soa.end - 4, 4).getUint32(0)
  return Math.min(ttl, minimum, MOST_NEGATIVE_TTL)
}

/** An answer to ANY with one set of records of all that it holds (RFC 8482 section 4.1). */
export function leastOfAny(answer: Uint8Array): Uint8Array | undefined {
  const message = decodeMessage(answer)
  if (typeof message === 'string') return undefined
  const first = message.answers[0]
  if (!first) return answer
  const { id, flags, questions, edns } = message
  const answers = message.answers.filter(r => r.type === first.type && r.name === first.name)
  return encodeMessage({ id, flags, questions, answers, ...(edns ? { edns } : {}) })
}

/** As it is, or cut to the question with TC set (and its OPT record, if that is its last). */
export function fitAnswer(answer: Uint8Array, questionEnd: number, most: number): Uint8Array {
  if (answer.length <= most) return answer
  const opt = walkRecords(answer)?.records.find(r => r.type === Type.OPT)
  const optBytes = opt && opt.end - opt.start <= most - questionEnd ? answer.subarray(opt.start, opt.end) : undefined
  const cut = new Uint8Array(questionEnd + (optBytes?.length ?? 0))
  cut.set(answer.subarray(0, questionEnd))
  cut.fill(0, 6, HEADER)
  cut[2]! |= 2
  if (optBytes) {
    cut.set(optBytes, questionEnd)
    cut[11] = 1
  }
  return cut
}
