/**
 * A real resolver on loopback, with its worker and its sockets, between servers of the test and a real mapper.
 *
 *   client ──UDP, TCP──► ResolverHost ──UDP, TCP──► TestDnsServer, …
 *                             └──SEQPACKET──► link ──► mapper of MapperLab, which may be exchanged
 */
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync, symlinkSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Flag, type Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, type Message } from '../../dns/message.ts'
import { framed } from '../../dns/tcpQuery.ts'
import { ZoneResponder } from '../../dns/zoneResponder.ts'
import { parseResolverConfig } from '../../gateway/dns/resolverConfig.ts'
import { type ResolverEvent, ResolverHost } from '../../gateway/dns/resolverHost.ts'
import type { ResolverStat } from '../../gateway/dns/resolverProtocol.ts'
import { parseAddress } from '../../ipref/address.ts'
import { MapperLab } from '../conformance/mapper.ts'
import { type Answering, askUdp, TestDnsServer } from '../support/dnsServer.ts'
import { edns, query, zone } from '../unit/dns/builders.ts'

const PATIENCE_MS = 60_000

/** Answers out of a zone, SOA, NS and ns1 are there already. */
export function ofZone(text: string): Answering {
  const responder = new ZoneResponder({ keys: [], transferAllow: [], transferKeys: [] }, { now: () => 0 })
  responder.setZone(zone(text))
  return (bytes, transport) => {
    const answer = responder.answer(bytes, { transport, address: parseAddress('127.0.0.1')! })
    return answer instanceof Uint8Array ? answer : undefined
  }
}

/** Repeated until it holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE_MS
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

export class ResolverWorld {
  readonly folder = mkdtempSync(join(tmpdir(), 'ipref-resolver-'))
  readonly mapperPath = join(this.folder, 'mapper.sock')
  readonly servers: TestDnsServer[] = []
  readonly events: ResolverEvent[] = []
  #mapper: MapperLab | undefined
  #host: ResolverHost | undefined
  /** see ResolverHostPorts */
  tcpIdleMs: number | undefined

  /** One server for each function. */
  async addServers(...answering: Answering[]): Promise<TestDnsServer[]> {
    const added = answering.map(one => new TestDnsServer(one))
    for (const server of added) await server.start()
    this.servers.push(...added)
    return added
  }

  get mapper(): MapperLab {
    return this.#mapper!
  }

  /** A mapper with nothing in it; the one before is gone. */
  async startMapper(encodeNets = ['10.240.0.0/12']): Promise<MapperLab> {
    await this.stopMapper()
    this.#mapper = new MapperLab({ encodeNets, contexts: ['198.51.100.1'], inMemory: true })
    await this.#mapper.open()
    symlinkSync(this.#mapper.path, this.mapperPath)
    return this.#mapper
  }

  async stopMapper(): Promise<void> {
    if (!this.#mapper) return
    unlinkSync(this.mapperPath)
    await this.#mapper.close()
    this.#mapper = undefined
  }

  async startResolver(...argv: string[]): Promise<void> {
    const listen = argv.includes('-listen') ? [] : ['-listen', '127.0.0.1:0']
    const mapper = argv.includes('-mapper') ? [] : ['-mapper', this.mapperPath]
    const parsed = parseResolverConfig([...listen, ...mapper, ...argv], () => '')
    if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
    this.#host = new ResolverHost(parsed.config.resolver, {
      onEvent: event => this.events.push(event),
      ...(this.tcpIdleMs === undefined ? {} : { tcpIdleMs: this.tcpIdleMs }),
    })
    await this.#host.start()
  }

  get host(): ResolverHost {
    return this.#host!
  }

  get port(): number {
    return this.host.listening[0]!.port
  }

  stat(name: ResolverStat): number {
    return this.host.stat(name)
  }

  /** `NAME TYPE`, with EDNS. */
  async ask(text: string, parts: Parameters<typeof query>[1] = {}): Promise<Message> {
    return read(await askUdp(this.port, question(text, parts), PATIENCE_MS), text)
  }

  async askTcp(text: string, parts: Parameters<typeof query>[1] = {}): Promise<Message> {
    const [answer] = await this.askManyTcp([question(text, parts)])
    return read(answer, text)
  }

  /** Over one connection, written at once or in pieces; answers in the order in which they come. */
  askManyTcp(queries: readonly Uint8Array[], pieces = 1): Promise<Uint8Array[]> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.port, '127.0.0.1')
      const answers: Uint8Array[] = []
      let pending: Buffer = Buffer.alloc(0)
      const end = (error?: Error) => {
        clearTimeout(timer)
        socket.destroy()
        if (error) reject(error)
        else resolve(answers)
      }
      const timer = setTimeout(() => end(new Error(`${answers.length} of ${queries.length} answers`)), PATIENCE_MS)
      socket.on('error', end)
      socket.on('close', () => end())
      socket.on('data', (data: Buffer) => {
        pending = Buffer.concat([pending, data])
        while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE()) {
          answers.push(Uint8Array.from(pending.subarray(2, 2 + pending.readUInt16BE())))
          pending = pending.subarray(2 + pending.readUInt16BE())
        }
        if (answers.length === queries.length) end()
      })
      const whole = Buffer.concat(queries.map(framed))
      const step = Math.ceil(whole.length / pieces)
      const write = (at: number) => {
        socket.write(whole.subarray(at, at + step))
        if (at + step < whole.length) setTimeout(write, 2, at + step)
      }
      write(0)
    })
  }

  async stop(): Promise<void> {
    await this.#host?.stop()
    for (const server of this.servers) await server.stop()
    await this.stopMapper()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export function question(text: string, parts: Parameters<typeof query>[1] = {}): Uint8Array {
  const id = Math.floor(Math.random() * 65536)
  return query(text, { id, flags: Flag.RD, edns: edns(), ...parts })
}

function read(bytes: Uint8Array | undefined, text: string): Message {
  if (!bytes) throw new Error(`no answer to ${text}`)
  const message = decodeMessage(bytes)
  if (typeof message === 'string') throw new Error(`the answer to ${text} is malformed: ${message}`)
  return message
}

/** An answer to the bytes of a query. */
export function replyTo(bytes: Uint8Array, parts: Partial<Parameters<typeof encodeMessage>[0]> = {}): Uint8Array {
  const { id, questions } = decodeMessage(bytes) as Message
  return encodeMessage({ id, questions, ...parts, flags: Flag.QR | Flag.AA | (parts.flags ?? 0) })
}

/** A datagram from a socket of its own. */
export function sendFrom(address: string, bytes: Uint8Array, port: number): Promise<void> {
  return new Promise(resolve => {
    const socket = createSocket('udp4')
    socket.bind(0, address, () =>
      socket.send(bytes, port, '127.0.0.1', () => {
        socket.close()
        resolve()
      }),
    )
  })
}

export const rcodeOf = (message: Message) => message.flags & 15
export const typeOf = (bytes: Uint8Array): number => (decodeMessage(bytes) as Message).questions[0]!.type
export type TypeNumber = (typeof Type)[keyof typeof Type]

/** Of the EDE option. */
export function reasonOf(message: Message): number | undefined {
  const option = message.edns?.options.find(o => o.code === 15)
  return option && (option.data[0]! << 8) | option.data[1]!
}
