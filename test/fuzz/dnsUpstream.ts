/** What a hostile server answers: mostly what fits the question, with a lie in it; then changed once more, byte by byte. */
import { Class, Flag, Rcode, Type } from '../../dns/constants.ts'
import {
  dataOfStrings,
  decodeMessage,
  encodeMessage,
  encodeSoa,
  HEADER,
  type Message,
  type MessageParts,
  type ResourceRecord,
} from '../../dns/message.ts'
import { type Name, nameToBytes, parseName, ROOT } from '../../dns/name.ts'
import { ednsOf } from './dnsCorpus.ts'
import type { MessageMutator } from './dnsMutate.ts'
import type { Random } from './random.ts'

const STRINGS = [
  'AA 198.51.100.2 + 22',
  'AA 198.51.100.3 + 0-1-2',
  'AA gw.example.com + 23',
  'AA gw2.example.com + a--1',
  'AA 2001:db8:100::2 + 51',
  'AA 198.51.100.1 + 33',
  'AA 198.51.100.2 + 0',
  'AA 224.0.0.1 + 54',
  'AA gw + 28',
  'AA 198.51.100.2 + zz',
  'AA 198.51.100.2 22',
  'AA 198.51.100.2 + 2 + 2',
  `AA ${'9'.repeat(240)}`,
  'v=spf1 -all',
  '',
]
const TTLS = [0, 1, 60, 3600, 0x7fffffff, 0xffffffff]
const TARGETS = ['gw.example.com.', 'alias.example.com.', 'host11.example.com.', 'other.test.'].map(t => parseName(t)!)
const SOA = encodeSoa({ primary: ROOT, mailbox: ROOT, serial: 1, refresh: 2, retry: 3, expire: 4, minimum: 60 })

export class HostileServer {
  readonly #random: Random
  readonly #messages: MessageMutator

  /** `messages`: what has nothing to do with any question */
  constructor(random: Random, messages: MessageMutator) {
    this.#random = random
    this.#messages = messages
  }

  /** undefined: silence. */
  answer(query: Uint8Array): Uint8Array | undefined {
    const random = this.#random
    const kind = random.below(40)
    if (kind === 0) return undefined
    if (kind === 1) return withId(this.#messages.next(), query)
    if (kind === 2) return withId(random.bytes(random.below(100)), query)
    if (kind === 3) return query.slice()
    const asked = decodeMessage(query)
    if (typeof asked === 'string') return query.slice()
    const answer = this.#fitting(asked, query)
    return random.oneIn(4) ? this.#messages.change(answer) : answer
  }

  #fitting(asked: Message, query: Uint8Array): Uint8Array {
    const random = this.#random
    const flags = Flag.QR | Flag.RA | (asked.flags & Flag.RD)
    const cookie = asked.edns?.options.find(option => option.code === 10)?.data
    const options = cookie && random.oneIn(2) ? [{ code: 10, data: this.#cookie(cookie) }] : []
    const edns = asked.edns && !random.oneIn(8) ? { edns: ednsOf({ options }) } : {}
    const { id, questions } = asked
    const say = (parts: Partial<MessageParts>) => encodeMessage({ id, flags, questions, ...edns, ...parts })
    switch (random.below(16)) {
      case 0:
        return say({ flags: flags | random.pick([Rcode.SERVFAIL, Rcode.REFUSED, Rcode.NOTIMP, Rcode.FORMERR, 9]) })
      case 1:
        return withId(Uint8Array.of(0, 0, 0x80, random.pick([1, 4, 2]), 0, random.below(2), 0, 0, 0, 0, 0, 0), query)
      case 2:
        return say({ flags: flags | Flag.TC })
      case 3:
        return say({ questions: questions.map(question => ({ ...question, name: swapCase(question.name) })) })
      case 4:
        return say({ edns: ednsOf({ extendedRcode: 1, options }), flags: flags | random.pick([0, 7]) })
      case 5:
        return say({ authority: [this.#record(ROOT, Type.SOA, SOA)], flags: flags | random.pick([0, Rcode.NXDOMAIN]) })
      case 6:
        return say({ questions: [] })
      default:
        return say({ answers: this.#records(questions[0] ?? { name: ROOT, type: Type.A }) })
    }
  }

  #cookie(ours: Uint8Array): Uint8Array {
    const random = this.#random
    const server = random.bytes(random.pick([0, 7, 8, 16, 32, 33]))
    return Uint8Array.from([...(random.oneIn(4) ? random.bytes(8) : ours.subarray(0, 8)), ...server])
  }

  // aliases, perhaps in a ring, and then what was asked for, or something else
  #records({ name, type }: { name: Name; type: number }): ResourceRecord[] {
    const random = this.#random
    const records: ResourceRecord[] = []
    let owner = name
    while (random.oneIn(3) && records.length < 20) {
      const target = random.oneIn(6) ? name : random.pick(TARGETS)
      records.push(this.#record(owner, Type.CNAME, nameToBytes(target)))
      owner = random.oneIn(8) ? random.pick(TARGETS) : target
    }
    const count = random.oneIn(6) ? 20 + random.below(100) : 1 + random.below(4)
    const wanted = random.oneIn(8) ? random.pick([Type.A, Type.AAAA, Type.TXT, Type.MX]) : type
    for (let i = 0; i < count; i++) records.push(this.#record(owner, wanted, this.#data(wanted)))
    return records
  }

  #data(type: number): Uint8Array {
    const random = this.#random
    if (type === Type.TXT)
      return dataOfStrings(
        Array.from({ length: 1 + random.below(random.oneIn(16) ? 100 : 3) }, () => random.pick(STRINGS)),
      )
    if (type === Type.A)
      return Uint8Array.of(random.pick([10, 198, 192, 0, 127]), random.pick([240, 51]), 100, random.below(4))
    if (type === Type.AAAA) return random.bytes(16)
    if (type === Type.MX) return Uint8Array.from([0, 10, ...nameToBytes(random.pick(TARGETS))])
    if (type === Type.SOA) return SOA
    return random.oneIn(2) ? nameToBytes(random.pick(TARGETS)) : random.bytes(random.below(60))
  }

  #record(name: Name, type: number, data: Uint8Array): ResourceRecord {
    return { name, type, class: this.#random.oneIn(50) ? Class.CH : Class.IN, ttl: this.#random.pick(TTLS), data }
  }
}

function swapCase(name: Name): Name {
  return name.replace(/[a-z]/i, letter => String.fromCharCode(letter.charCodeAt(0) ^ 32))
}

function withId(bytes: Uint8Array, query: Uint8Array): Uint8Array {
  const out = bytes.slice()
  out.set(query.subarray(0, Math.min(2, out.length)))
  if (out.length >= HEADER) out[2]! |= 0x80
  return out
}
