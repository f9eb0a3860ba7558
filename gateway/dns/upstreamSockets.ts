/**
 * The sockets that questions go out from: several of each family, at random ports of our own choosing, one of them replaced twice a second (RFC 5452 section
 * 9.2). A socket that was replaced is listened to for a while yet. Batches both ways (sys/datagrams.ts).
 */
import type { Arena } from '../sys/arena.ts'
import { DatagramReceiver, DatagramSender, NAME_BYTES, openDatagramSocket } from '../sys/datagrams.ts'
import { AF_INET, SOCKADDR } from '../sys/layouts.ts'
import { close } from '../sys/libc.ts'
import { writeSockaddr } from '../sys/udp.ts'
import type { UpstreamServer } from './upstreams.ts'

const PORTS = 8
const RENEW_MS = 500
const RETIRED_MS = 5000
const SLOTS = 64
const ANSWER_BYTES = 4096
const QUERY_SLOTS = 32
const QUERY_BYTES = 1280
const QUEUE_BYTES = 4 << 20
/** Receives from one socket before others have their turn. */
const TURNS = 4
const LOWEST_PORT = 1024
const HIGHEST_PORT = 65535
const NO_SOCKET = -1

interface OpenSocket {
  number: number
  fd: number
  sender: DatagramSender
  retiredAt: number
}

export class UpstreamSockets {
  readonly #arena: Arena
  readonly #random32: () => number
  readonly #receiver: DatagramReceiver
  readonly #pool = new Map<4 | 6, OpenSocket[]>()
  readonly #byNumber = new Map<number, OpenSocket>()
  readonly #spareSenders: DatagramSender[] = []
  readonly #sockaddrs = new WeakMap<UpstreamServer, Uint8Array>()
  #retired: OpenSocket[] = []
  #nextNumber = 0
  #renewAt = 0
  /** system calls that sent */
  sends = 0

  constructor(arena: Arena, servers: readonly UpstreamServer[], random32: () => number) {
    this.#arena = arena
    this.#random32 = random32
    this.#receiver = new DatagramReceiver(arena, SLOTS, ANSWER_BYTES)
    this.serve(servers)
  }

  /** Sockets for the families of these servers too. Throws what the system says: a host may have no IPv6. */
  serve(servers: readonly UpstreamServer[]): void {
    for (const family of new Set(servers.map(familyOf))) {
      if (this.#pool.has(family)) continue
      this.#pool.set(
        family,
        Array.from({ length: PORTS }, () => this.#open(family)),
      )
    }
  }

  /** All that may have an answer, by number. */
  get open(): IterableIterator<{ number: number; fd: number }> {
    return this.#byNumber.values()
  }

  #open(family: 4 | 6): OpenSocket {
    const sender = this.#spareSenders.pop() ?? new DatagramSender(this.#arena, QUERY_SLOTS, QUERY_BYTES)
    sender.clear()
    const fd = this.#openAtRandomPort(new Uint8Array(family === 4 ? 4 : 16))
    const opened = { number: this.#nextNumber++ & 0xfffff, fd, sender, retiredAt: 0 }
    this.#byNumber.set(opened.number, opened)
    return opened
  }

  // what the system chooses may be guessed
  #openAtRandomPort(address: Uint8Array): number {
    for (let tries = 0; tries < 10; tries++) {
      const wanted = LOWEST_PORT + ((this.#random32() >>> 0) % (HIGHEST_PORT - LOWEST_PORT + 1))
      try {
        return openDatagramSocket(address, wanted, QUEUE_BYTES)
      } catch {
        // in use: another
      }
    }
    return openDatagramSocket(address, 0, QUEUE_BYTES)
  }

  choose(server: UpstreamServer): number {
    const pool = this.#pool.get(familyOf(server))
    if (!pool) return NO_SOCKET
    return pool[(this.#random32() >>> 0) % pool.length]!.number
  }

  /** Sent at the next `flush`, or before. False: it is not. */
  send(number: number, server: UpstreamServer, message: Uint8Array): boolean {
    const socket = this.#byNumber.get(number)
    if (!socket || message.length > QUERY_BYTES) return false
    if (socket.sender.isFull) this.#flush(socket)
    this.#arena.bytes.set(message, socket.sender.start())
    socket.sender.pushTo(message.length, this.#sockaddrOf(server))
    return true
  }

  #flush(socket: OpenSocket): void {
    this.sends++
    socket.sender.flush(socket.fd)
  }

  flush(): void {
    for (const pool of this.#pool.values()) for (const socket of pool) if (socket.sender.count > 0) this.#flush(socket)
  }

  #sockaddrOf(server: UpstreamServer): Uint8Array {
    let sockaddr = this.#sockaddrs.get(server)
    if (!sockaddr) {
      sockaddr = new Uint8Array(NAME_BYTES)
      writeSockaddr(new DataView(sockaddr.buffer), 0, server.address, server.port)
      this.#sockaddrs.set(server, sockaddr)
    }
    return sockaddr
  }

  /** Takes what came to a socket. */
  receive(
    number: number,
    onDatagram: (bytes: Uint8Array, sender: { address: Uint8Array; port: number }) => void,
  ): void {
    const socket = this.#byNumber.get(number)
    if (!socket) return
    const receiver = this.#receiver
    for (let turn = 0; turn < TURNS; turn++) {
      const count = receiver.receive(socket.fd)
      for (let i = 0; i < count; i++) {
        const at = receiver.start(i)
        const bytes = this.#arena.bytes.slice(at, at + Math.min(receiver.length(i), ANSWER_BYTES))
        onDatagram(bytes, this.#senderAt(receiver.name(i)))
      }
      if (count < SLOTS) return
    }
  }

  #senderAt(name: number): { address: Uint8Array; port: number } {
    const { bytes, view } = this.#arena
    const is4 = view.getUint16(name, true) === AF_INET
    const at = name + (is4 ? SOCKADDR.address4 : SOCKADDR.address6)
    return { address: bytes.slice(at, at + (is4 ? 4 : 16)), port: view.getUint16(name + SOCKADDR.port) }
  }

  /** Call now and then. `nowMs`: milliseconds, monotonic. Tells which sockets came and went. */
  renew(nowMs: number, changed?: { opened?(fd: number, number: number): void; closing?(fd: number): void }): void {
    if (nowMs < this.#renewAt) return
    this.#renewAt = nowMs + RENEW_MS
    this.#retired = this.#retired.filter(socket => {
      if (socket.retiredAt + RETIRED_MS > nowMs) return true
      changed?.closing?.(socket.fd)
      close(socket.fd)
      this.#byNumber.delete(socket.number)
      this.#spareSenders.push(socket.sender)
      return false
    })
    for (const [family, pool] of this.#pool) {
      const i = (this.#random32() >>> 0) % pool.length
      const old = pool[i]!
      try {
        pool[i] = this.#open(family)
      } catch {
        // no descriptor left: the old one stays
        continue
      }
      changed?.opened?.(pool[i]!.fd, pool[i]!.number)
      this.#flush(old)
      old.retiredAt = nowMs
      this.#retired.push(old)
    }
  }

  close(): void {
    for (const { fd } of this.#byNumber.values()) close(fd)
    this.#byNumber.clear()
  }
}

function familyOf(server: UpstreamServer): 4 | 6 {
  return server.address.length === 4 ? 4 : 6
}
