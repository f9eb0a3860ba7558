/**
 * Batches of small datagrams: recvmmsg into slots of an arena, sendmmsg out of them (recvmmsg(2), sendmmsg(2)). For services such as DNS; tunnel
 * packets have their own way (plane/udpSender.ts). One system call moves up to `slots` messages.
 */
import type { Arena } from './arena.ts'
import {
  AF_INET,
  AF_INET6,
  Errno,
  IOVEC,
  IPV6_V6ONLY,
  MMSGHDR,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSGHDR,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCKADDR,
  SOL_IPV6,
  SOL_SOCKET,
} from './layouts.ts'
import { bindSocket, check, close, errno, getsockname, recvmmsg, sendmmsg, socket } from './libc.ts'
import { scratch } from './scratch.ts'
import { setOption, writeSockaddr } from './udp.ts'

const NAME_SLOT = 32
const AT = 4096

export const NAME_BYTES = 28

/** A bound, non-blocking UDP socket; `bytes`: of each of its two queues. Throws a SysError with the address in it. */
export function openDatagramSocket(address: Uint8Array, port: number, bytes: number): number {
  const is4 = address.length === 4
  const fd = check('socket', socket(is4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  try {
    if (!is4) check('IPV6_V6ONLY', setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1))
    setQueues(fd, bytes)
    const memory = scratch()
    const length = writeSockaddr(memory.view, AT, address, port)
    check('bind', bindSocket(fd, memory.address(AT), length))
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Room for this many bytes in both queues of a socket, or what the system allows. */
export function setQueues(fd: number, bytes: number): void {
  for (const [force, ordinary] of [
    [SO_RCVBUFFORCE, SO_RCVBUF],
    [SO_SNDBUFFORCE, SO_SNDBUF],
  ] as const) {
    if (setOption(fd, SOL_SOCKET, force, bytes) < 0) setOption(fd, SOL_SOCKET, ordinary, bytes)
  }
}

export function portOf(fd: number): number {
  const memory = scratch()
  memory.view.setUint32(AT + 64, NAME_BYTES, true)
  check('getsockname', getsockname(fd, memory.address(AT), memory.address(AT + 64)))
  return memory.view.getUint16(AT + SOCKADDR.port)
}

/** Receives up to `slots` messages at once; what is longer than a slot is cut. */
export class DatagramReceiver {
  readonly slots: number
  readonly size: number
  readonly #arena: Arena
  readonly #headers: number
  readonly #names: number
  readonly #data: number

  constructor(arena: Arena, slots: number, size: number) {
    this.slots = slots
    this.size = size
    this.#arena = arena
    this.#headers = arena.allocate(slots * MMSGHDR.size)
    const vectors = arena.allocate(slots * IOVEC.size)
    this.#names = arena.allocate(slots * NAME_SLOT)
    this.#data = arena.allocate(slots * size)
    for (let i = 0; i < slots; i++) {
      const header = this.#headers + i * MMSGHDR.size
      arena.setAddress(header + MSGHDR.name, this.#names + i * NAME_SLOT)
      arena.words[(header + MSGHDR.nameLength) >> 2] = NAME_BYTES
      arena.setAddress(header + MSGHDR.iov, vectors + i * IOVEC.size)
      arena.setPointer(header + MSGHDR.iovLength, 1)
      arena.setAddress(vectors + i * IOVEC.size + IOVEC.base, this.#data + i * size)
      arena.setPointer(vectors + i * IOVEC.size + IOVEC.length, size)
    }
  }

  /** How many came; 0 when none waits (errors of earlier sends are taken and forgotten). */
  receive(fd: number): number {
    const { words, base } = this.#arena
    for (let tries = 0; tries < 3; tries++) {
      const count = recvmmsg(fd, base + this.#headers, this.slots, MSG_DONTWAIT, 0)
      if (count > 0) {
        for (let i = 0; i < count; i++) words[(this.#headers + i * MMSGHDR.size + MSGHDR.nameLength) >> 2] = NAME_BYTES
        return count
      }
      if (count === 0 || errno() === Errno.EAGAIN) return 0
    }
    return 0
  }

  start(i: number): number {
    return this.#data + i * this.size
  }

  length(i: number): number {
    return this.#arena.words[(this.#headers + i * MMSGHDR.size + MMSGHDR.length) >> 2]!
  }

  /** Where the sockaddr of the sender stands. */
  name(i: number): number {
    return this.#names + i * NAME_SLOT
  }
}

/** Collects messages and sends them together. */
export class DatagramSender {
  readonly slots: number
  readonly size: number
  readonly #arena: Arena
  readonly #headers: number
  readonly #vectors: number
  readonly #names: number
  readonly #data: number
  readonly #hasNames: boolean
  #count = 0
  /** messages that the kernel refused */
  refused = 0

  /** `hasNames`: each message has a destination of its own; else the socket is connected */
  constructor(arena: Arena, slots: number, size: number, hasNames = true) {
    this.slots = slots
    this.size = size
    this.#arena = arena
    this.#hasNames = hasNames
    this.#headers = arena.allocate(slots * MMSGHDR.size)
    this.#vectors = arena.allocate(slots * IOVEC.size)
    this.#names = arena.allocate(slots * NAME_SLOT)
    this.#data = arena.allocate(slots * size)
    for (let i = 0; i < slots; i++) {
      const header = this.#headers + i * MMSGHDR.size
      if (hasNames) arena.setAddress(header + MSGHDR.name, this.#names + i * NAME_SLOT)
      arena.setAddress(header + MSGHDR.iov, this.#vectors + i * IOVEC.size)
      arena.setPointer(header + MSGHDR.iovLength, 1)
      arena.setAddress(this.#vectors + i * IOVEC.size + IOVEC.base, this.#data + i * size)
    }
  }

  get count(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count === this.slots
  }

  /** Where the next message is to be written; at most `size` bytes. */
  start(): number {
    return this.#data + this.#count * this.size
  }

  /** Takes what stands at `start()`; `name`: offset in the arena of the sockaddr of the destination. */
  push(length: number, name: number): void {
    const { words } = this.#arena
    const i = this.#count++
    const header = (this.#headers + i * MMSGHDR.size) >> 2
    if (this.#hasNames) {
      const from = name >> 2
      const to = (this.#names + i * NAME_SLOT) >> 2
      for (let k = 0; k < 7; k++) words[to + k] = words[from + k]!
      words[header + 2] = (words[from]! & 0xffff) === AF_INET ? SOCKADDR.size4 : SOCKADDR.size6
    }
    words[(this.#vectors + i * IOVEC.size + IOVEC.length) >> 2] = length
  }

  /** The same, with the sockaddr as bytes. */
  pushTo(length: number, sockaddr: Uint8Array): void {
    const at = this.#names + this.#count * NAME_SLOT
    this.#arena.bytes.set(sockaddr, at)
    this.push(length, at)
  }

  /**
   * Sends everything. A message that the kernel refuses is counted and left out; those that find the queue full are too, or, with `keep`,
   * stay for the next time.
   */
  flush(fd: number, keep = false): void {
    const { base } = this.#arena
    let at = 0
    while (at < this.#count) {
      const sent = sendmmsg(fd, base + this.#headers + at * MMSGHDR.size, this.#count - at, MSG_DONTWAIT | MSG_NOSIGNAL)
      if (sent > 0) at += sent
      else if (errno() === Errno.EAGAIN) {
        if (keep) return this.#keepFrom(at)
        this.refused += this.#count - at
        break
      } else {
        this.refused++
        at++
      }
    }
    this.#count = 0
  }

  #keepFrom(at: number): void {
    const { bytes, words } = this.#arena
    const left = this.#count - at
    for (let i = 0; i < left && at > 0; i++) {
      const [to, from] = [this.#data + i * this.size, this.#data + (at + i) * this.size]
      bytes.copyWithin(to, from, from + this.size)
      const [toName, fromName] = [this.#names + i * NAME_SLOT, this.#names + (at + i) * NAME_SLOT]
      bytes.copyWithin(toName, fromName, fromName + NAME_SLOT)
      const vector = (n: number) => (this.#vectors + n * IOVEC.size + IOVEC.length) >> 2
      words[vector(i)] = words[vector(at + i)]!
      words[(this.#headers + i * MMSGHDR.size + MSGHDR.nameLength) >> 2] =
        words[(this.#headers + (at + i) * MMSGHDR.size + MSGHDR.nameLength) >> 2]!
    }
    this.#count = left
  }

  /** Forgets what was not sent. */
  clear(): void {
    this.#count = 0
  }
}
