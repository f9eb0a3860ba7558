/**
 * Hostile askers on real sockets: many datagrams on few sockets, and TCP connections that send frames that fit and frames that lie. Every answer must
 * belong to a question and be no longer than allowed.
 */
import { createSocket, type Socket } from 'node:dgram'
import { connect } from 'node:net'
import { formatRcode, Type } from '../../dns/constants.ts'
import { decodeMessage, HEADER } from '../../dns/message.ts'
import { FrameReader, frameOf } from '../../dns/tcpListener.ts'
import type { MessageMutator } from './dnsMutate.ts'
import { joined, type Random } from './random.ts'
import type { Report } from './report.ts'

const SOCKETS = 4
const AT_ONCE = 24
const MOST_UDP = 1232
const MIN_UDP = 512
/** what the resolver waits for servers, and more */
const LAST_ANSWERS_MS = 6000
const TCP_SILENCE_MS = 150

export const clientProperties = {
  length: 'no datagram is longer than allowed',
  asked: 'every answer belongs to a question, and there is one at most',
} as const

export class HostileClients {
  readonly #random: Random
  readonly #messages: MessageMutator
  readonly #report: Report
  readonly #target: string
  readonly #port: number
  readonly #sockets: { socket: Socket; open: Map<number, Uint8Array> }[] = []
  #nextId = 0
  #answers = 0

  constructor(wanted: { random: Random; messages: MessageMutator; report: Report; target: string; port: number }) {
    this.#random = wanted.random
    this.#messages = wanted.messages
    this.#report = wanted.report
    this.#target = wanted.target
    this.#port = wanted.port
    this.#report.promise(...Object.values(clientProperties).map(one => `${this.#target}: ${one}`))
  }

  async run(seconds: number, least: number): Promise<void> {
    for (let i = 0; i < SOCKETS; i++) this.#sockets.push(await this.#openSocket())
    const until = performance.now() + seconds * 1000
    const udp = this.#report.tally(`${this.#target}, UDP`)
    const isOver = () => this.#report.isHopeless || (udp.received >= least && performance.now() >= until)
    const connections = async () => {
      do await this.#connection()
      while (!isOver())
    }
    const datagrams = async () => {
      while (!isOver()) await this.#volley()
    }
    await Promise.all([datagrams(), connections(), connections()])
    for (let waited = 0; this.#isAwaiting && waited < LAST_ANSWERS_MS; waited += 100) await pause(100)
    for (const { open } of this.#sockets) for (let left = open.size; left > 0; left--) udp.count('no answer')
    for (const { socket } of this.#sockets) socket.close()
  }

  get #isAwaiting(): boolean {
    return this.#sockets.some(({ open }) => [...open.values()].some(bytes => (bytes[2]! & 0x80) === 0))
  }

  // ---- UDP

  async #openSocket(): Promise<{ socket: Socket; open: Map<number, Uint8Array> }> {
    const socket = createSocket('udp4')
    const open = new Map<number, Uint8Array>()
    socket.on('error', () => {})
    socket.on('message', answer => this.#datagram(answer, open))
    await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
    return { socket, open }
  }

  // as many at once as are answered soon, so that few are lost
  async #volley(): Promise<void> {
    const { socket, open } = this.#random.pick(this.#sockets)
    const udp = this.#report.tally(`${this.#target}, UDP`)
    const before = this.#answers
    for (let i = 0; i < AT_ONCE; i++) {
      const bytes = this.#message()
      if (bytes.length > 60_000) continue
      udp.received++
      const id = this.#take(bytes, open)
      if (id === undefined || bytes.length < HEADER) udp.count('no answer')
      else open.set(id, bytes)
      socket.send(bytes, this.#port, '127.0.0.1', () => {})
    }
    const until = performance.now() + 20
    do await pause(0)
    while (this.#answers < before + AT_ONCE / 2 && performance.now() < until)
  }

  // an id that no other open question of the socket has
  #take(bytes: Uint8Array, open: ReadonlyMap<number, Uint8Array>): number | undefined {
    if (bytes.length < 2 || open.size > 60_000) return undefined
    do this.#nextId = (this.#nextId + 1) & 0xffff
    while (open.has(this.#nextId))
    bytes.set([this.#nextId >> 8, this.#nextId & 255])
    return this.#nextId
  }

  #message(): Uint8Array {
    return this.#messages.next().slice()
  }

  #datagram(answer: Uint8Array, open: Map<number, Uint8Array>): void {
    this.#answers++
    const id = (answer[0]! << 8) | answer[1]!
    const asked = open.get(id)
    if (!asked || (asked[2]! & 0x80) !== 0)
      return this.#broken('asked', `an answer to ${asked ? 'a response' : 'nothing'}`, asked ?? answer)
    open.delete(id)
    this.#report.tally(`${this.#target}, UDP`).count(formatRcode(answer[3]! & 15))
    const message = decodeMessage(asked)
    const size = typeof message === 'string' ? HEADER : Math.max(MIN_UDP, message.edns?.payloadSize ?? MIN_UDP)
    if (answer.length > Math.min(MOST_UDP, size)) this.#broken('length', `${answer.length} bytes`, asked)
  }

  #broken(property: keyof typeof clientProperties, what: string, bytes: Uint8Array): void {
    this.#report.broken(`${this.#target}: ${clientProperties[property]}`, what, bytes)
  }

  // ---- TCP

  /** Frames, perhaps one that lies about its length, and then silence until no more answers come. */
  #connection(): Promise<void> {
    const random = this.#random
    const tcp = this.#report.tally(`${this.#target}, TCP`)
    const open = new Map<number, Uint8Array>()
    const frames: Uint8Array[] = []
    for (let i = 1 + random.below(random.oneIn(8) ? 100 : 6); i > 0; i--) {
      const bytes = this.#message()
      if (bytes.length > 65_535) continue
      tcp.received++
      const id = this.#take(bytes, open)
      if (id === undefined) tcp.count('no answer')
      else open.set(id, bytes)
      frames.push(frameOf(bytes))
    }
    if (random.oneIn(6)) frames.push(random.bytes(1 + random.below(100)))
    const socket = connect(this.#port, '127.0.0.1')
    const reader = new FrameReader()
    return new Promise(resolve => {
      let timer = setTimeout(() => socket.destroy(), LAST_ANSWERS_MS)
      socket.on('error', () => socket.destroy())
      socket.on('connect', () => socket.write(joined(...frames)))
      socket.on('data', (data: Buffer) => {
        clearTimeout(timer)
        timer = setTimeout(() => socket.destroy(), TCP_SILENCE_MS)
        for (const answer of reader.take(data)) this.#frame(answer, open)
      })
      socket.on('close', () => {
        clearTimeout(timer)
        for (const bytes of open.values()) if (!isTransfer(bytes) || !transfers.has(bytes)) tcp.count('no answer')
        resolve()
      })
    })
  }

  #frame(answer: Uint8Array, open: Map<number, Uint8Array>): void {
    if (answer.length < HEADER) return this.#broken('asked', 'less than a header', answer)
    const id = (answer[0]! << 8) | answer[1]!
    const asked = open.get(id)
    if (!asked || (asked[2]! & 0x80) !== 0) return this.#broken('asked', 'an answer to nothing', asked ?? answer)
    // a transfer has many messages
    if (transfers.has(asked)) return
    if (isTransfer(asked)) transfers.add(asked)
    else open.delete(id)
    this.#report.tally(`${this.#target}, TCP`).count(formatRcode(answer[3]! & 15))
  }
}

/** Questions for transfers that were answered. */
const transfers = new WeakSet<Uint8Array>()

function isTransfer(bytes: Uint8Array): boolean {
  const message = decodeMessage(bytes)
  if (typeof message === 'string') return false
  return message.questions.some(({ type }) => type === Type.AXFR || type === Type.IXFR)
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => (ms === 0 ? setImmediate(resolve) : setTimeout(resolve, ms)))
}
