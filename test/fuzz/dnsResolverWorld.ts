/**
 * A resolver in a time of its own: what it asks of servers and of the mapper lies here until somebody answers it, and every asker is watched. Nothing
 * waits; `settle` lets minutes go by in which nobody answers.
 */
import { formatRcode } from '../../dns/constants.ts'
import { decodeMessage, HEADER, MAX_MESSAGE } from '../../dns/message.ts'
import { walkRecords } from '../../dns/packet.ts'
import { NewNameBudget } from '../../gateway/dns/access.ts'
import type { MapperAnswer } from '../../gateway/dns/mapperClient.ts'
import { type Asker, Resolver, type ResolverSettings } from '../../gateway/dns/resolver.ts'
import { type UpstreamServer, Upstreams } from '../../gateway/dns/upstreams.ts'
import type { HostileServer } from './dnsUpstream.ts'
import type { Random } from './random.ts'
import type { Report, Tally } from './report.ts'

const MOST_UDP = 1232
const SOCKETS = 4
/** room of the sockets towards servers */
const MOST_SENT = 1280
const MOST_PATIENCE = 400

export const resolverProperties = {
  throws: 'resolver: nothing throws',
  one: 'resolver: every question has one answer, a response has none',
  length: 'resolver: no answer is longer than allowed',
  fits: 'resolver: answers have the id and the question of the asker',
  sent: 'resolver: no question to a server is longer than a message',
  ends: 'resolver: every question ends when nobody answers any more',
} as const
const P = resolverProperties

interface Open {
  socket: number
  server: UpstreamServer
  message: Uint8Array
  /** over TCP */
  done: ((answer: Uint8Array | undefined) => void) | undefined
}

interface Asked {
  bytes: Uint8Array
  answers: number
  /** not told of errors */
  isService: boolean
}

export interface ResolverKind {
  settings: ResolverSettings
  /** how many */
  forwarders: number
}

export class ResolverWorld {
  readonly #random: Random
  readonly #report: Report
  readonly #resolver: Resolver
  readonly #upstreams: Upstreams
  readonly #open: Open[] = []
  readonly #mapper: ((isSilent?: 'silent') => void)[] = []
  readonly #asked = new Set<Asked>()
  readonly #tally: Tally
  readonly #upstreamTally: Tally
  #nowMs = 1000

  constructor(random: Random, report: Report, kind: ResolverKind) {
    this.#random = random
    this.#report = report
    this.#tally = report.tally('resolver')
    this.#upstreamTally = report.tally('upstream answers')
    const now = () => Math.floor(this.#nowMs / 1000)
    this.#upstreams = new Upstreams({
      choose: () => random.below(SOCKETS),
      send: (socket, server, message) => {
        if (random.oneIn(200) || message.length > MOST_SENT) return false
        this.#open.push({ socket, server, message: message.slice(), done: undefined })
        return true
      },
      askTcp: (server, message, done) => {
        if (message.length > MAX_MESSAGE) report.broken(P.sent, `${message.length} bytes`, message)
        if (random.oneIn(50)) return done(undefined)
        this.#open.push({ socket: 0, server, message: message.slice(), done })
      },
      now: () => this.#nowMs,
      random32: () => random.word(),
    })
    const states = (first: number, count: number) =>
      Array.from({ length: count }, (_, i) => this.#upstreams.makeState(serverAt(first + i)))
    this.#resolver = new Resolver(kind.settings, {
      upstreams: this.#upstreams,
      upstreamServers: states(1, 2),
      forwarders: states(10, kind.forwarders),
      mapper: ({ family }, done) => this.#askMapper(done, () => mapped(family, random)),
      native: (_wanted, done) =>
        this.#askMapper(done, () => (random.oneIn(4) ? undefined : random.bytes(4)), undefined),
      budget: new NewNameBudget(1000, 100),
      now,
    })
  }

  get open(): number {
    return this.#open.length
  }

  get mapperOpen(): number {
    return this.#mapper.length
  }

  #askMapper<Answer>(
    done: (answer: Answer) => void,
    make: () => Answer,
    silent: Answer = 'unavailable' as Answer,
  ): void {
    if (this.#random.oneIn(4)) return done(make())
    this.#mapper.push(isSilent => done(isSilent ? silent : make()))
  }

  ask(bytes: Uint8Array): void {
    const random = this.#random
    this.#tally.received++
    // datagrams are received into slots of that size
    const overTcp = random.oneIn(8) || bytes.length > 1024
    const most = overTcp || random.oneIn(4) ? MAX_MESSAGE : random.oneIn(8) ? 10 * bytes.length : MOST_UDP
    const isService = !overTcp && random.oneIn(50)
    const asked: Asked = { bytes, answers: 0, isService }
    const asker: Asker = {
      overTcp,
      from: `10.0.0.${random.below(4)}`,
      most,
      isService,
      reply: answer => this.#replied(asked, answer, overTcp ? most : Math.min(most, MOST_UDP, payloadSizeOf(bytes))),
    }
    this.#asked.add(asked)
    this.#resolver.handle(bytes.slice(), asker)
    if (asked.answers === 0 && !isQuestion(bytes)) this.#end(asked, 'dropped')
  }

  #end(asked: Asked, outcome: string): void {
    this.#asked.delete(asked)
    this.#tally.count(outcome)
  }

  #replied(asked: Asked, answer: Uint8Array, most: number): void {
    const { bytes } = asked
    const wrong = (property: string, what: string) =>
      this.#report.broken(property, `${what}; answer ${Buffer.from(answer).toString('hex').slice(0, 600)}`, bytes)
    if (++asked.answers > 1 || !isQuestion(bytes)) return wrong(P.one, `${asked.answers} answers`)
    this.#end(asked, formatRcode(answer[3]! & 15))
    if (answer.length > most) wrong(P.length, `${answer.length} bytes, at most ${most}`)
    if (answer[0] !== bytes[0] || answer[1] !== bytes[1] || (answer[2]! & 0x80) === 0)
      return wrong(P.fits, 'the header')
    const message = decodeMessage(bytes)
    if (typeof message === 'string' || message.questions.length !== 1) {
      if (answer.length > Math.max(HEADER, bytes.length))
        wrong(P.length, `${answer.length} bytes to what cannot be read`)
      return
    }
    const end = HEADER + message.questions[0]!.name.length + 4
    if (answer[5] !== 1 || Buffer.compare(answer.subarray(HEADER, end), bytes.subarray(HEADER, end)) !== 0)
      wrong(P.fits, 'the question')
    else if (!walkRecords(answer)) wrong(P.fits, 'the records')
  }

  /** One of the open questions is answered, or not. */
  answer(servers: HostileServer): void {
    const random = this.#random
    const tally = this.#upstreamTally
    const i = random.below(this.#open.length)
    const open = this.#open[i]!
    const isAgain = !open.done && random.oneIn(16)
    if (!isAgain) {
      this.#open[i] = this.#open.at(-1)!
      this.#open.pop()
    }
    tally.received++
    const answer = servers.answer(open.message)
    if (open.done) {
      tally.count('over TCP')
      return open.done(answer)
    }
    if (!answer) return tally.count('silence')
    const isElsewhere = random.oneIn(20)
    tally.count(isElsewhere ? 'from elsewhere' : isAgain ? 'twice' : 'over UDP')
    const { address, port } = isElsewhere ? serverAt(random.below(20)) : open.server
    this.#upstreams.onDatagram(isElsewhere ? random.below(SOCKETS) : open.socket, answer, { address, port })
  }

  mapperAnswer(): void {
    this.#mapper.splice(this.#random.below(this.#mapper.length), 1)[0]!()
  }

  pass(ms: number): void {
    this.#nowMs += ms
    this.#upstreams.tick()
    if (this.#random.oneIn(50)) this.#resolver.forgetMappings()
  }

  /** Nobody answers any more. */
  settle(): void {
    for (let left = MOST_PATIENCE; left > 0 && (this.#resolver.open > 0 || left > MOST_PATIENCE - 3); left--) {
      for (const open of this.#open.splice(0)) open.done?.(undefined)
      for (const answer of this.#mapper.splice(0)) answer('silent')
      this.#nowMs += 500
      this.#upstreams.tick()
    }
    if (this.#resolver.open > 0)
      this.#report.broken(P.ends, `${this.#resolver.open} questions are open after 200 s of silence`)
    for (const asked of this.#asked) {
      if (!asked.isService) this.#report.broken(P.one, 'no answer', asked.bytes)
      this.#end(asked, 'dropped')
    }
  }
}

function isQuestion(bytes: Uint8Array): boolean {
  return bytes.length >= HEADER && (bytes[2]! & 0x80) === 0
}

function payloadSizeOf(bytes: Uint8Array): number {
  const message = decodeMessage(bytes)
  return typeof message === 'string' ? HEADER : Math.max(512, message.edns?.payloadSize ?? 512)
}

function mapped(family: 4 | 6, random: Random): MapperAnswer {
  if (random.oneIn(6)) return 'refused'
  if (random.oneIn(10)) return 'unavailable'
  return { encoded: random.bytes(family === 4 ? 4 : 16) }
}

function serverAt(i: number): UpstreamServer {
  return { text: `192.0.2.${i}`, address: Uint8Array.of(192, 0, 2, i), port: 53 }
}
