/**
 * Unix domain sockets of type SEQPACKET (unix(7)): a connection that keeps the borders of messages. Node has none of its own.
 *
 * The server bounds clients and messages: one client too many is refused, a message that is too long is dropped and reported, a client
 * that does not read is closed.
 */
import { chmodSync, existsSync, mkdirSync, statSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { setQueues } from './datagrams.ts'
import {
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCKADDR_UN,
} from './layouts.ts'
import { accept4, bindSocket, check, close, connectSocket, listenSocket, recv, send, socket } from './libc.ts'
import type { Poller } from './poller.ts'
import { scratch } from './scratch.ts'

const ADDRESS_AT = 2048
const MESSAGE_AT = 1 << 17
const BACKLOG = 64
const QUEUE_BYTES = 4 << 20
/** messages taken from one client before others have their turn */
const TURN = 256

function writeAddress(path: string): { address: number; length: number } {
  const bytes = Buffer.from(path)
  if (bytes.length >= SOCKADDR_UN.pathLength)
    throw new Error(`${path}: the path of a Unix socket has at most 107 bytes`)
  const memory = scratch()
  memory.bytes.fill(0, ADDRESS_AT, ADDRESS_AT + SOCKADDR_UN.size)
  memory.view.setUint16(ADDRESS_AT, AF_UNIX, true)
  memory.bytes.set(bytes, ADDRESS_AT + SOCKADDR_UN.path)
  return { address: memory.address(ADDRESS_AT), length: SOCKADDR_UN.path + bytes.length + 1 }
}

function open(): number {
  return check('socket AF_UNIX', socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
}

/** One end of a connection. */
export class SeqpacketConnection {
  readonly id: number
  readonly #fd: number
  readonly #poller: Poller
  readonly #onClosed: () => void
  #open = true

  constructor(parts: {
    id: number
    fd: number
    poller: Poller
    most: number
    onMessage(message: Uint8Array): void
    onTooLong?(): void
    onClosed(): void
  }) {
    this.id = parts.id
    this.#fd = parts.fd
    this.#poller = parts.poller
    this.#onClosed = parts.onClosed
    this.#poller.add(this.#fd, () => this.#receive(parts))
  }

  #receive(parts: { most: number; onMessage(message: Uint8Array): void; onTooLong?(): void }): void {
    const memory = scratch()
    for (let turn = 0; turn < TURN && this.#open; turn++) {
      const got = recv(this.#fd, memory.address(MESSAGE_AT), parts.most, MSG_DONTWAIT | MSG_TRUNC)
      if (got < 0) return
      // an empty message cannot be told from the end of the connection; neither means anything
      if (got === 0) return this.close()
      if (got > parts.most) parts.onTooLong?.()
      else parts.onMessage(memory.bytes.slice(MESSAGE_AT, MESSAGE_AT + got))
    }
  }

  /** False: the other end is gone or does not read; the connection is closed then. */
  send(message: Uint8Array): boolean {
    if (!this.#open) return false
    const memory = scratch()
    memory.bytes.set(message, MESSAGE_AT)
    if (send(this.#fd, memory.address(MESSAGE_AT), message.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true
    this.close()
    return false
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#poller.remove(this.#fd)
    close(this.#fd)
    this.#onClosed()
  }
}

export interface SeqpacketServerSettings {
  path: string
  mode: number
  maxClients: number
  maxMessage: number
  poller: Poller
  onMessage(connection: SeqpacketConnection, message: Uint8Array): void
  onClosed?(connection: SeqpacketConnection): void
  onTooLong?(): void
  onRefused?(): void
}

export class SeqpacketServer {
  readonly #settings: SeqpacketServerSettings
  readonly #fd: number
  readonly #connections = new Set<SeqpacketConnection>()
  #nextId = 1

  /** A socket file that nobody listens on is replaced; one that somebody listens on is an error that says so. */
  static async listen(settings: SeqpacketServerSettings): Promise<SeqpacketServer> {
    mkdirSync(dirname(settings.path), { recursive: true, mode: 0o750 })
    if (existsSync(settings.path)) {
      if (!statSync(settings.path).isSocket()) throw new Error(`${settings.path} exists and is no socket`)
      if (isListening(settings.path))
        throw new Error(`${settings.path} is in use: another gateway listens there; choose another with -mapper-socket`)
      unlinkSync(settings.path)
    }
    const fd = open()
    const { address, length } = writeAddress(settings.path)
    check(`bind ${settings.path}`, bindSocket(fd, address, length))
    chmodSync(settings.path, settings.mode)
    check(`listen ${settings.path}`, listenSocket(fd, BACKLOG))
    return new SeqpacketServer(settings, fd)
  }

  private constructor(settings: SeqpacketServerSettings, fd: number) {
    this.#settings = settings
    this.#fd = fd
    settings.poller.add(fd, () => this.#accept())
  }

  get clients(): number {
    return this.#connections.size
  }

  #accept(): void {
    for (;;) {
      const fd = accept4(this.#fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)
      if (fd < 0) return
      const { maxClients, maxMessage, poller, onMessage, onClosed, onTooLong, onRefused } = this.#settings
      if (this.#connections.size >= maxClients) {
        close(fd)
        onRefused?.()
        continue
      }
      // thousands of answers may wait for a client that is busy for a moment
      setQueues(fd, QUEUE_BYTES)
      const connection: SeqpacketConnection = new SeqpacketConnection({
        id: this.#nextId++,
        fd,
        poller,
        most: maxMessage,
        onMessage: message => onMessage(connection, message),
        onTooLong: () => onTooLong?.(),
        onClosed: () => {
          this.#connections.delete(connection)
          onClosed?.(connection)
        },
      })
      this.#connections.add(connection)
    }
  }

  close(): void {
    this.#settings.poller.remove(this.#fd)
    close(this.#fd)
    for (const connection of [...this.#connections]) connection.close()
    try {
      unlinkSync(this.#settings.path)
    } catch {
      // somebody removed it before us
    }
  }
}

function isListening(path: string): boolean {
  const fd = open()
  const { address, length } = writeAddress(path)
  const listening = connectSocket(fd, address, length) >= 0
  close(fd)
  return listening
}

/** File descriptor of a connection, non-blocking; throws a SysError (ENOENT, ECONNREFUSED) when there is no server. */
export function dialSeqpacket(path: string): number {
  const fd = open()
  const { address, length } = writeAddress(path)
  try {
    check(`connect ${path}`, connectSocket(fd, address, length))
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Connects to a server; throws a SysError (ENOENT, ECONNREFUSED) when there is none. */
export function connectSeqpacket(parts: {
  path: string
  poller: Poller
  most: number
  onMessage(message: Uint8Array): void
  onClosed?(): void
}): SeqpacketConnection {
  const fd = dialSeqpacket(parts.path)
  return new SeqpacketConnection({ ...parts, id: 0, fd, onClosed: () => parts.onClosed?.() })
}
