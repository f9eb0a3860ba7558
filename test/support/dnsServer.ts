/**
 * A DNS server for tests: answers over UDP and TCP on loopback with whatever a function says; nothing said, nothing sent. Counts what it was asked.
 */
import { createSocket, type Socket } from 'node:dgram'
import { createServer, type Server, type Socket as TcpSocket } from 'node:net'

/** `from`: the port that asks. */
export type Answering = (
  query: Uint8Array,
  transport: 'udp' | 'tcp',
  from: number,
) => Uint8Array | undefined | Promise<Uint8Array | undefined>

export class TestDnsServer {
  readonly #udp: Socket = createSocket('udp4')
  readonly #tcp: Server
  readonly #connections = new Set<TcpSocket>()
  #isStopped = false
  answering: Answering
  asked = { udp: 0, tcp: 0 }
  port = 0

  constructor(answering: Answering) {
    this.answering = answering
    this.#tcp = createServer(socket => this.#serve(socket))
  }

  async start(): Promise<void> {
    for (;;) {
      await new Promise<void>(resolve => this.#tcp.listen(0, '127.0.0.1', resolve))
      this.port = (this.#tcp.address() as { port: number }).port
      const bound = await new Promise<boolean>(resolve => {
        this.#udp.once('error', () => resolve(false))
        this.#udp.bind(this.port, '127.0.0.1', () => resolve(true))
      })
      if (bound) break
      await new Promise(resolve => this.#tcp.close(resolve))
    }
    this.#udp.on('message', async (bytes, from) => {
      this.asked.udp++
      const answer = await this.answering(Uint8Array.from(bytes), 'udp', from.port)
      if (answer && !this.#isStopped) this.#udp.send(answer, from.port, from.address, () => {})
    })
  }

  get text(): string {
    return `127.0.0.1:${this.port}`
  }

  /** A datagram that nobody asked for. */
  sendUnasked(bytes: Uint8Array, port: number): void {
    this.#udp.send(bytes, port, '127.0.0.1', () => {})
  }

  #serve(socket: TcpSocket): void {
    this.#connections.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.#connections.delete(socket))
    let pending: Buffer = Buffer.alloc(0)
    socket.on('data', async (data: Buffer) => {
      pending = Buffer.concat([pending, data])
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE()) {
        const length = pending.readUInt16BE()
        const query = Uint8Array.from(pending.subarray(2, 2 + length))
        pending = pending.subarray(2 + length)
        this.asked.tcp++
        const answer = await this.answering(query, 'tcp', socket.remotePort ?? 0)
        if (answer) socket.write(Buffer.concat([Uint8Array.of(answer.length >> 8, answer.length & 255), answer]))
      }
    })
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#udp.close()
    for (const socket of this.#connections) socket.destroy()
    await new Promise(resolve => this.#tcp.close(resolve))
  }
}

/** One question over UDP from a socket of its own; undefined: no answer in time. */
export function askUdp(port: number, query: Uint8Array, patienceMs = 30_000): Promise<Uint8Array | undefined> {
  return new Promise(resolve => {
    const socket = createSocket('udp4')
    const end = (answer: Uint8Array | undefined) => {
      clearTimeout(timer)
      socket.close()
      resolve(answer)
    }
    const timer = setTimeout(() => end(undefined), patienceMs)
    socket.on('message', bytes => end(Uint8Array.from(bytes)))
    socket.on('error', () => {})
    socket.send(query, port, '127.0.0.1')
  })
}
