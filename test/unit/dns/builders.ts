/** Names, records, zones and questions for tests of the DNS, from text as short as it can be. */
import { Class, parseType } from '../../../dns/constants.ts'
import {
  decodeMessage,
  encodeMessage,
  type Message,
  type MessageParts,
  type ResourceRecord,
} from '../../../dns/message.ts'
import { type Name, parseName } from '../../../dns/name.ts'
import { parseTsigKey, type TsigKey } from '../../../dns/tsig.ts'
import { Zone, type ZoneAnswer } from '../../../dns/zone.ts'
import { formatRecord, parseZoneText } from '../../../dns/zoneText.ts'

export function name(text: string): Name {
  const parsed = parseName(text)
  if (parsed === undefined) throw new Error(`${text} is no name`)
  return parsed
}

export const EXAMPLE = name('example.com.')

export const APEX = `$TTL 1h
@ IN SOA ns1 admin 1 1h 10m 1w 5m
@ IN NS ns1
ns1 IN A 192.0.2.1
`

export function records(text: string, origin = EXAMPLE): ResourceRecord[] {
  const { records, problems } = parseZoneText(text, { origin, file: 'test' })
  if (problems.length > 0) throw new Error(JSON.stringify(problems))
  return records
}

/** SOA, NS and its address are there already. */
export function zone(text = '', origin = EXAMPLE): Zone {
  const { zone, problems } = Zone.from(origin, records(APEX + text, origin))
  if (!zone) throw new Error(JSON.stringify(problems))
  return zone
}

export function type(text: string): number {
  return parseType(text)!
}

/** `www.example.com. 3600 IN A 192.0.2.1` */
export function lines(list: readonly ResourceRecord[]): string[] {
  return list.map(record => formatRecord(record).replaceAll('\t', ' '))
}

export function shown(answer: ZoneAnswer): Record<string, unknown> {
  const { rcode, isAuthoritative, answers, authority, additional } = answer
  return {
    rcode,
    aa: isAuthoritative,
    answers: lines(answers),
    authority: lines(authority),
    additional: lines(additional),
  }
}

/** A question as a message; `example.com. SOA`. */
export function query(text: string, parts: Partial<MessageParts> = {}): Uint8Array {
  const [owner, kind] = text.split(' ')
  const questions = [{ name: name(owner!), type: type(kind!), class: Class.IN }]
  return encodeMessage({ id: 0x1234, flags: 0, questions, ...parts })
}

export function edns(options: Partial<NonNullable<Message['edns']>> = {}): NonNullable<Message['edns']> {
  return { payloadSize: 1232, extendedRcode: 0, version: 0, dnssecOk: false, options: [], ...options }
}

export function decoded(bytes: unknown): Message {
  if (!(bytes instanceof Uint8Array)) throw new Error('no message')
  const message = decodeMessage(bytes)
  if (typeof message === 'string') throw new Error(message)
  return message
}

export function key(text = 'hmac-sha256:transfer:bXkgc2VjcmV0'): TsigKey {
  const parsed = parseTsigKey(text)
  if (typeof parsed === 'string') throw new Error(parsed)
  return parsed
}

/** `16 x 'ab'` is written `ab*16`. */
export function hex(text: string): Uint8Array {
  const whole = text.replace(/([0-9a-f]{2})\*(\d+)/g, (_, byte: string, count: string) => byte.repeat(Number(count)))
  return Uint8Array.from(Buffer.from(whole.replaceAll(/\s/g, ''), 'hex'))
}
