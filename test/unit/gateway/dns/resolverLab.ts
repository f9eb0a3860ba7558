/**
 * A resolver whose servers, mapper and clock are the test's: questions to upstreams pass through the real Upstreams, and are answered when the test
 * lets them.
 *
 *   ask() ──► Resolver ──► Upstreams ──► asked ──deliver()──► answering(server) ──► Upstreams ──► Resolver ──► answer
 */
import { decodeMessage, encodeMessage, type Message, type MessageParts } from '../../../../dns/message.ts'
import { formatName } from '../../../../dns/name.ts'
import { ZoneResponder } from '../../../../dns/zoneResponder.ts'
import { NewNameBudget } from '../../../../gateway/dns/access.ts'
import type { MapperAnswer } from '../../../../gateway/dns/mapperClient.ts'
import { Resolver, type ResolverSettings } from '../../../../gateway/dns/resolver.ts'
import { type UpstreamServer, Upstreams } from '../../../../gateway/dns/upstreams.ts'
import { formatAddress, parseAddress } from '../../../../ipref/address.ts'
import { decoded, name, query, zone } from '../../dns/builders.ts'

/** What a server says; undefined: nothing. */
export type Answering = (asked: Message, transport: 'udp' | 'tcp') => Uint8Array | undefined

export interface Asked {
  server: string
  transport: 'udp' | 'tcp'
  /** `example.com. 16`, in lower case */
  question: string
  bytes: Uint8Array
  socket: number
}

const SOCKET = 7

export function server(address: string): UpstreamServer {
  return { text: address, address: parseAddress(address)!, port: 53 }
}

/** Answers out of a zone, as an authoritative server does. SOA, NS and ns1 are there already. */
export function ofZone(text: string): Answering {
  const responder = new ZoneResponder({ keys: [], transferAllow: [], transferKeys: [] }, { now: () => 0 })
  responder.setZone(zone(text))
  return (asked, transport) => {
    const { tsig: _, ...parts } = asked
    const answer = responder.answer(encodeMessage(parts), { transport, address: parseAddress('127.0.0.1')! })
    return answer instanceof Uint8Array ? answer : undefined
  }
}

/** An answer to what was asked. */
export function reply(asked: Message, parts: Partial<MessageParts> = {}): Uint8Array {
  const { id, questions } = asked
  return encodeMessage({ id, questions, ...parts, flags: 0x8400 | (parts.flags ?? 0) })
}

export interface Answer extends Message {
  bytes: Uint8Array
}

export class ResolverLab {
  nowMs = 1_000_000
  readonly asked: Asked[] = []
  readonly #pending: { asked: Asked; tcpDone?: (answer: Uint8Array | undefined) => void }[] = []
  readonly answering = new Map<string, Answering>()
  readonly upstreams: Upstreams
  readonly resolver: Resolver
  /** `CONTEXT REFERENCE` of each request, with its family before it */
  readonly mapped: string[] = []
  mapping: (wanted: { family: 4 | 6; context: Uint8Array; reference: bigint; name: string }) => MapperAnswer | 'later'
  natives = new Map<bigint, Uint8Array>()
  readonly #encoded = new Map<string, Uint8Array>()
  #random = 1

  constructor(
    servers: { upstreams: Record<string, Answering>; forwarders?: Record<string, Answering> },
    settings: Partial<ResolverSettings> = {},
    budget = new NewNameBudget(1000, 10),
  ) {
    this.mapping = wanted => ({ encoded: this.encodedFor(wanted) })
    this.upstreams = new Upstreams({
      choose: () => SOCKET,
      send: (socket, to, message) => {
        this.#push(to, message, 'udp', socket)
        return true
      },
      askTcp: (to, message, done) => this.#push(to, message, 'tcp', 0, done),
      now: () => this.nowMs,
      random32: () => {
        this.#random = (Math.imul(this.#random, 1664525) + 1013904223) | 0
        return (this.#random >>> 7) ^ (this.#random << 11)
      },
    })
    const states = (of: Record<string, Answering> = {}) =>
      Object.entries(of).map(([address, answering]) => {
        this.answering.set(address, answering)
        return this.upstreams.makeState(server(address))
      })
    this.resolver = new Resolver(
      {
        domains: [name('.')],
        excluded: [],
        encodedFamilies: [4],
        contextFamilies: [4],
        cacheSize: 1024,
        serveStale: 0,
        denyAnswers: [],
        ownContexts: [],
        ...settings,
      },
      {
        upstreams: this.upstreams,
        upstreamServers: states(servers.upstreams),
        forwarders: states(servers.forwarders),
        mapper: (wanted, done) => {
          const { family, context, reference } = wanted
          this.mapped.push(`${family} ${formatAddress(context)} ${reference}`)
          const answer = this.mapping(wanted)
          if (answer !== 'later') done(answer)
        },
        native: ({ family, reference }, done) => {
          const address = this.natives.get(reference)
          done(address && address.length === (family === 4 ? 4 : 16) ? address : undefined)
        },
        budget,
        now: () => Math.floor(this.nowMs / 1000),
      },
    )
  }

  /** 10.240.16.1 and so on, in the order of asking; fd00::1 and so on for IPv6. */
  encodedFor({ family, context, reference }: { family: 4 | 6; context: Uint8Array; reference: bigint }): Uint8Array {
    const key = `${family} ${formatAddress(context)} ${reference}`
    const count = this.#encoded.size + 1
    const address = parseAddress(family === 4 ? `10.240.16.${count}` : `fd00::${count}`)!
    if (!this.#encoded.has(key)) this.#encoded.set(key, address)
    return this.#encoded.get(key)!
  }

  #push(
    to: UpstreamServer,
    bytes: Uint8Array,
    transport: 'udp' | 'tcp',
    socket: number,
    tcpDone?: (answer: Uint8Array | undefined) => void,
  ): void {
    const { questions } = decoded(bytes)
    const question = `${formatName(questions[0]!.name).toLowerCase()} ${questions[0]!.type}`
    const asked = { server: to.text, transport, question, bytes: bytes.slice(), socket }
    this.asked.push(asked)
    this.#pending.push({ asked, ...(tcpDone ? { tcpDone } : {}) })
  }

  /** Servers answer what they were asked, until nothing is asked any more. */
  deliver(): void {
    for (let next = this.#pending.shift(); next; next = this.#pending.shift()) {
      const { asked, tcpDone } = next
      const answer = this.answering.get(asked.server)!(decoded(asked.bytes), asked.transport)
      if (tcpDone) tcpDone(answer)
      else if (answer) this.receive(asked, answer)
    }
  }

  /** A datagram comes to the socket that a question went out from; from the server asked, unless `sender` says another. */
  receive(asked: Asked, bytes: Uint8Array, sender: { address?: string; port?: number } = {}): void {
    this.upstreams.onDatagram(asked.socket, Uint8Array.from(bytes), {
      address: parseAddress(sender.address ?? asked.server)!,
      port: sender.port ?? 53,
    })
  }

  /** Time passes, in steps, and what is overdue is looked after. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 50) {
      this.nowMs += Math.min(50, left)
      this.upstreams.tick()
      this.deliver()
    }
  }

  /** Asks; the answer comes when it comes. */
  send(
    bytes: Uint8Array,
    asker: { overTcp?: boolean; from?: string; most?: number; isService?: boolean } = {},
  ): Answer[] {
    const answers: Answer[] = []
    this.resolver.handle(bytes, {
      overTcp: asker.overTcp ?? false,
      from: asker.from ?? '10.1.1.1',
      most: asker.most ?? (asker.overTcp ? 65535 : 1232),
      isService: asker.isService ?? false,
      reply: answer => {
        const message = decodeMessage(answer)
        if (typeof message === 'string') throw new Error(`the answer is malformed: ${message}`)
        answers.push({ ...message, bytes: answer.slice() })
      },
    })
    return answers
  }

  /** Asks `NAME TYPE` and lets everything happen. */
  ask(text: string, parts: Partial<MessageParts> = {}, asker: Parameters<ResolverLab['send']>[1] = {}): Answer {
    const answers = this.send(query(text, { flags: 0x0100, ...parts }), asker)
    this.deliver()
    for (let i = 0; i < 200 && answers.length === 0; i++) this.pass(50)
    if (answers.length !== 1) throw new Error(`${answers.length} answers to ${text}`)
    return answers[0]!
  }
}
