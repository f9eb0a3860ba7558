/**
 * One question to the upstream servers, and what its answer says of a name. The resolver and the trace of a name (nameTrace.ts) both ask and read here, so
 * that a trace sees what the resolver sees.
 */
import { Class, Flag, Rcode, Type } from '../../dns/constants.ts'
import {
  decodeMessage,
  type Edns,
  encodeMessage,
  type Message,
  nameAt,
  type ResourceRecord,
} from '../../dns/message.ts'
import { countLabels, lowerName, type Name, parseName } from '../../dns/name.ts'
import { parseAaRecord } from '../../ipref/aaRecord.ts'
import type { ServerState, Upstreams } from './upstreams.ts'

/** Answers over UDP are at most this long (RFC 9715). */
export const MOST_UDP = 1232
export const MOST_ALIASES = 8
export const MOST_STRINGS = 64
export const MOST_CONTEXT_NAMES = 8
export const MOST_ADDRESSES = 16
export const MOST_TTL = 86_400

export interface Servers {
  upstreams: Upstreams
  /** Who is asked for TXT and the addresses of contexts: one group after the other, while nobody knows anything. */
  serversFor(name: Name): readonly (readonly ServerState[])[]
}

/** `from`: the server that answered. An answer that cannot be read is none. */
export type Answered = (answer: Message | undefined, from: ServerState | undefined) => void

/** One question to the upstreams, with EDNS and a cookie, over TCP when cut. */
export function askUpstreams(servers: Servers, question: { name: Name; type: number }, done: Answered): void {
  const groups = servers.serversFor(question.name)
  const askGroup = (i: number) => {
    const asked = { upstreams: servers.upstreams, group: groups[i] ?? [] }
    askServers(asked, question, (answer, from) => {
      if (i + 1 < groups.length && !isKnown(answer, question)) return askGroup(i + 1)
      done(answer, from)
    })
  }
  askGroup(0)
}

function isKnown(answer: Message | undefined, { name, type }: { name: Name; type: number }): boolean {
  if (!answer || (answer.flags & 15) !== Rcode.NOERROR) return false
  const { links, records } = readAnswer(answer, { name: lowerName(name), type, mostAliases: 1 })
  return links.length + records.length > 0
}

export interface Asked {
  upstreams: Upstreams
  group: readonly ServerState[]
}

/** As askUpstreams, to these servers. */
export function askServers(asked: Asked, question: { name: Name; type: number }, done: Answered): void {
  const edns: Edns = { payloadSize: MOST_UDP, extendedRcode: 0, version: 0, dnssecOk: false, options: [] }
  ask(asked, question, edns, done)
}

function ask(asked: Asked, question: { name: Name; type: number }, edns: Edns | undefined, done: Answered): void {
  const message = encodeMessage({
    id: 0,
    flags: Flag.RD,
    questions: [{ ...question, class: Class.IN }],
    ...(edns ? { edns } : {}),
  })
  let read: { bytes: Uint8Array; answer: Message } | undefined
  const isReadable = (bytes: Uint8Array) => {
    const answer = decodeMessage(bytes)
    if (typeof answer === 'string') return false
    read = { bytes, answer }
    return true
  }
  asked.upstreams.ask({
    servers: asked.group,
    message,
    optAt: edns ? message.length - 11 : 0,
    transport: 'udp-then-tcp',
    letters: 'random',
    isReadable,
    done: (bytes, from) => {
      if (!bytes) return done(undefined, from)
      const rcode = bytes[3]! & 15
      // a server that does not know EDNS (RFC 6891 section 7)
      if (edns && (rcode === Rcode.FORMERR || rcode === Rcode.NOTIMP)) return ask(asked, question, undefined, done)
      done(read?.bytes === bytes || isReadable(bytes) ? read?.answer : undefined, from)
    },
  })
}

export interface Reading {
  rcode: number
  /** the aliases from the name on, one more than allowed where there are too many */
  links: ResourceRecord[]
  /** where they lead, in lower case */
  owner: Name
  /** of the type asked for, at the owner */
  records: ResourceRecord[]
  /** the least of all of them */
  ttl: number
}

/** `name` in lower case. */
export function readAnswer(answer: Message, asked: { name: Name; type: number; mostAliases: number }): Reading {
  const links: ResourceRecord[] = []
  let owner = asked.name
  while (links.length <= asked.mostAliases) {
    const link = answer.answers.find(r => r.type === Type.CNAME && lowerName(r.name) === owner)
    if (!link) break
    links.push(link)
    owner = lowerName(nameAt(link.data, 0))
  }
  const records = answer.answers.filter(
    r => r.type === asked.type && r.class === Class.IN && lowerName(r.name) === owner,
  )
  const ttl = [...links, ...records].reduce((least, record) => Math.min(least, record.ttl), MOST_TTL)
  return { rcode: answer.flags & 15, links, owner, records, ttl }
}

export interface AaString {
  context: Uint8Array | Name
  reference: bigint
}

/** undefined: no AA record, or not one that can be used. */
export function aaOfString(text: string): AaString | undefined {
  const record = parseAaRecord(text)
  if (typeof record !== 'object') return undefined
  if ('context' in record) return { context: record.context, reference: record.reference }
  const name = parseName(record.name)
  // fully qualified: a single label is somebody's search list forgotten
  return name && countLabels(name) > 1 ? { context: name, reference: record.reference } : undefined
}
