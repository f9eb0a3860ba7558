/**
 * Stands between a program and a DNS server, and ends the program at its n-th UPDATE message: before the server has it, or when the answer is lost.
 *
 *   program ──UDP, TCP──► relay ──► server
 *                           └─ each UPDATE asks the CrashPoint; from its end on nothing passes
 *
 * Messages are handed on as they are, so signatures hold.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { Opcode } from '../../dns/constants.ts'
import { FrameReader, frameOf } from '../../dns/tcpListener.ts'
import { queryOverTcp } from '../../dns/tcpQuery.ts'
import { HOST } from '../dns/programs.ts'
import type { CrashPoint } from './crashPoint.ts'
import { freePort } from './ports.ts'

export const UPDATE = 'UPDATE'
const PATIENCE_MS = 30_000

export class DnsRelay {
  readonly port: number
  readonly #upstream: { host: string; port: number }
  readonly #tcp: Server
  readonly #udp: UdpSocket
  readonly #open = new Set<{ destroy(): unknown }>()
  /** of the program that runs now; undefined: everything passes */
  point: CrashPoint | undefined

  static async open(upstreamPort: number): Promise<DnsRelay> {
    const relay = new DnsRelay(await freePort(), upstreamPort)
    await new Promise<void>(resolve => relay.#tcp.listen(relay.port, HOST, resolve))
    await new Promise<void>(resolve => relay.#udp.bind(relay.port, HOST, resolve))
    return relay
  }

  private constructor(port: number, upstreamPort: number) {
    this.port = port
    this.#upstream = { host: HOST, port: upstreamPort }
    this.#tcp = createServer(client => this.#accept(client))
    this.#udp = createSocket('udp4')
    this.#udp.on('message', (question, { address, port: from }) => this.#ask(question, { address, port: from }))
  }

  async close(): Promise<void> {
    for (const one of this.#open) one.destroy()
    this.#udp.close()
    await new Promise(resolve => this.#tcp.close(resolve))
  }

  #keep<One extends Socket>(socket: One): One {
    this.#open.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#open.delete(socket))
    return socket
  }

  #accept(client: Socket): void {
    this.#keep(client)
    const reader = new FrameReader()
    let server: Socket | undefined
    client.on('data', (data: Buffer) => {
      for (const message of reader.take(data)) {
        if (this.point?.hasEnded) return client.destroy()
        if (opcodeOf(message) === Opcode.UPDATE) {
          void this.#update(message, client)
          continue
        }
        server ??= this.#through(client)
        server.write(frameOf(message))
      }
    })
  }

  /** A question, or a transfer, whose answer is many messages. */
  #through(client: Socket): Socket {
    const server = this.#keep(connect(this.#upstream))
    server.pipe(client)
    client.on('close', () => server.destroy())
    return server
  }

  async #update(message: Uint8Array, client: Socket): Promise<void> {
    const send = async () => {
      const answer = await queryOverTcp(this.#upstream, message, PATIENCE_MS)
      if (!answer) throw new Error('the server does not answer')
      return answer
    }
    try {
      client.write(frameOf(await (this.point ? this.point.write(UPDATE, send) : send())))
    } catch {
      client.destroy()
    }
  }

  #ask(question: Buffer, from: { address: string; port: number }): void {
    if (this.point?.hasEnded) return
    const socket = createSocket('udp4')
    const open = { destroy: () => socket.close() }
    this.#open.add(open)
    const end = () => {
      if (this.#open.delete(open)) socket.close()
      clearTimeout(timer)
    }
    const timer = setTimeout(end, PATIENCE_MS)
    socket.on('error', end)
    socket.on('message', answer => {
      this.#udp.send(answer, from.port, from.address)
      end()
    })
    socket.send(question, this.#upstream.port, this.#upstream.host)
  }
}

function opcodeOf(message: Uint8Array): number {
  return ((message[2] ?? 0) >> 3) & 15
}
