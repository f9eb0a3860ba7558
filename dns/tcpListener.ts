/**
 * DNS over TCP (RFC 7766): messages with two bytes of length before each, answered in order, many on one connection.
 *
 *   socket ──► frames ──► answer ──► one message, or those of a transfer ──► socket, as fast as the other side reads
 *
 * While an answer waits to be sent, nothing more is read. A connection is closed that completes no request within the idle time, however many bytes it
 * sends, or that takes nothing for the stall time. Where all places are taken the connection that was idle for longest makes room.
 */
import { createServer, type Server, type Socket } from 'node:net'

export interface TcpLimits {
  connections: number
  perAddress: number
  idleMs: number
  stallMs: number
}

export const DEFAULT_LIMITS: TcpLimits = { connections: 256, perAddress: 16, idleMs: 10_000, stallMs: 30_000 }

/** Answers one request; undefined: the connection is closed. */
export type AnswerFrame = (request: Uint8Array, address: string) => Iterable<Uint8Array> | undefined

/** Cuts a stream into messages. At most one message is held, in a buffer of its announced length. */
export class FrameReader {
  readonly #length = new Uint8Array(2)
  #have = 0
  #frame: Uint8Array | undefined;

  /** Messages that are complete now; what is left of `chunk` is kept. */
  *take(chunk: Uint8Array): Generator<Uint8Array, void> {
    let at = 0
    while (at < chunk.length) {
      if (!this.#frame) {
        this.#length[this.#have++] = chunk[at++]!
        if (this.#have < 2) continue
        this.#frame = new Uint8Array((this.#length[0]! << 8) | this.#length[1]!)
        this.#have = 0
      }
      const part = chunk.subarray(at, at + this.#frame.length - this.#have)
      this.#frame.set(part, this.#have)
      this.#have += part.length
      at += part.length
      if (this.#have < this.#frame.length) continue
      const frame = this.#frame
      this.#frame = undefined
      this.#have = 0
      yield frame
    }
  }
}

export function frameOf(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(message.length + 2)
  frame[0] = message.length >>> 8
  frame[1] = message.length
  frame.set(message, 2)
  return frame
}

class Connection {
  readonly address: string
  readonly #socket: Socket
  readonly #limits: TcpLimits
  #timer: NodeJS.Timeout | undefined
  isAnswering = false
  idleSince = performance.now()

  constructor(socket: Socket, address: string, limits: TcpLimits) {
    this.#socket = socket
    this.address = address
    this.#limits = limits
    socket.on('error', () => socket.destroy())
    socket.setNoDelay(true)
  }

  close(): void {
    this.#socket.destroy()
  }

  /** Until the connection is closed. Never rejects. */
  async serve(answer: AnswerFrame): Promise<void> {
    const reader = new FrameReader()
    this.#closeAfter(this.#limits.idleMs)
    try {
      for await (const chunk of this.#socket) {
        for (const frame of reader.take(chunk as Uint8Array)) {
          const answers = answer(frame, this.address)
          if (!answers || !(await this.#send(answers))) return this.close()
        }
      }
      // the other side sends no more, but reads what is on its way
      this.#socket.end()
    } catch {
      this.close()
    } finally {
      if (this.#socket.destroyed) clearTimeout(this.#timer)
      else this.#socket.once('close', () => clearTimeout(this.#timer))
    }
  }

  // false: the connection ended before all was sent
  async #send(messages: Iterable<Uint8Array>): Promise<boolean> {
    this.isAnswering = true
    for (const message of messages) {
      if (this.#socket.destroyed) return false
      if (this.#socket.write(frameOf(message))) continue
      this.#closeAfter(this.#limits.stallMs)
      await this.#drained()
    }
    this.isAnswering = false
    this.idleSince = performance.now()
    this.#closeAfter(this.#limits.idleMs)
    return !this.#socket.destroyed
  }

  #drained(): Promise<void> {
    const socket = this.#socket
    return new Promise(resolve => {
      const done = () => {
        socket.off('drain', done)
        socket.off('close', done)
        resolve()
      }
      socket.on('drain', done)
      socket.on('close', done)
    })
  }

  #closeAfter(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.close(), ms)
  }
}

export class TcpListener {
  readonly #answer: AnswerFrame
  readonly #limits: TcpLimits
  readonly #servers: Server[] = []
  readonly #connections = new Set<Connection>()

  constructor(answer: AnswerFrame, limits: TcpLimits) {
    this.#answer = answer
    this.#limits = limits
  }

  get connections(): number {
    return this.#connections.size
  }

  /** The port that was taken, and how to give it back. */
  async listen(host: string, port: number): Promise<{ port: number; close(): void }> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => this.#accept(socket))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port, ipv6Only: true, backlog: 128 }, resolve)
    })
    server.on('error', () => {})
    this.#servers.push(server)
    return { port: (server.address() as { port: number }).port, close: () => void server.close() }
  }

  #accept(socket: Socket): void {
    const address = (socket.remoteAddress ?? '').replace(/%.*/, '')
    const mine = [...this.#connections].filter(connection => connection.address === address)
    if (address === '' || mine.length >= this.#limits.perAddress || !this.#hasRoom()) {
      socket.on('error', () => {})
      socket.destroy()
      return
    }
    const connection = new Connection(socket, address, this.#limits)
    this.#connections.add(connection)
    socket.once('close', () => this.#connections.delete(connection))
    void connection.serve(this.#answer)
  }

  #hasRoom(): boolean {
    if (this.#connections.size < this.#limits.connections) return true
    let oldest: Connection | undefined
    for (const connection of this.#connections)
      if (!connection.isAnswering && (!oldest || connection.idleSince < oldest.idleSince)) oldest = connection
    if (!oldest) return false
    this.#connections.delete(oldest)
    oldest.close()
    return true
  }

  async close(): Promise<void> {
    const closed = this.#servers.map(server => new Promise<void>(resolve => void server.close(() => resolve())))
    for (const connection of this.#connections) connection.close()
    this.#servers.length = 0
    await Promise.all(closed)
  }
}
