/**
 * Netlink messages (netlink(7)): one request on a socket of its own, the answers to it, attributes in and out.
 *
 *   | nlmsghdr: length type flags sequence pid |  body: a struct that the type tells  | attributes: length type value (padded to 4) |
 *
 * The socket waits two seconds at most; for the main thread, at start and on changes. What the bodies hold is in netlink.ts and its neighbours.
 */
import { AF_NETLINK, SO_RCVTIMEO, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, TIMESPEC } from './layouts.ts'
import { check, close, recv, SysError, send, setsockopt, socket } from './libc.ts'
import { scratch } from './scratch.ts'

const NLMSG_ERROR = 2
const NLMSG_DONE = 3
export const NLM_F = {
  request: 1,
  multi: 2,
  ack: 4,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
} as const
export const NETLINK_ROUTE = 0
export const NETLINK_NETFILTER = 12
const NLA_F_NESTED = 0x8000
const HEADER = 16
const AT = 8192
const ANSWER_AT = 65536
const ANSWER_BYTES = 1 << 18

export interface Message {
  type: number
  body: Uint8Array
}

export interface Request {
  type: number
  flags: number
  body: Uint8Array
  /** absent: NETLINK_ROUTE */
  protocol?: number
}

export function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + value.length + 3) & ~3)
  new DataView(bytes.buffer).setUint16(0, 4 + value.length, true)
  new DataView(bytes.buffer).setUint16(2, type, true)
  bytes.set(value, 4)
  return bytes
}

/** An attribute that holds attributes. */
export function nested(type: number, ...attributes: Uint8Array[]): Uint8Array {
  return attribute(type | NLA_F_NESTED, concat(...attributes))
}

export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

/** Big-endian. */
export function be16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff)
}

export function u32Of(value: Uint8Array | undefined): number | undefined {
  return value && value.length >= 4 ? new DataView(value.buffer, value.byteOffset).getUint32(0, true) : undefined
}

/** Without the NUL at its end. */
export function textOf(value: Uint8Array | undefined): string {
  return Buffer.from(value ?? [])
    .toString()
    .replace(/\0.*$/, '')
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

/** Attributes that begin at `offset` of a message body: type → value. */
export function attributesOf(body: Uint8Array, offset: number): Map<number, Uint8Array> {
  const view = new DataView(body.buffer, body.byteOffset, body.length)
  const found = new Map<number, Uint8Array>()
  for (let at = offset; at + 4 <= body.length; ) {
    const length = view.getUint16(at, true)
    if (length < 4 || at + length > body.length) break
    found.set(view.getUint16(at + 2, true) & 0x3fff, body.subarray(at + 4, at + length))
    at += (length + 3) & ~3
  }
  return found
}

export function request(what: string, message: Request): Message[] {
  const memory = scratch()
  const protocol = message.protocol ?? NETLINK_ROUTE
  const fd = check('socket AF_NETLINK', socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol))
  try {
    memory.setPointer(64 + TIMESPEC.seconds, 2)
    memory.setPointer(64 + TIMESPEC.fraction, 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, memory.address(64), TIMESPEC.size)
    const length = HEADER + message.body.length
    memory.view.setUint32(AT, length, true)
    memory.view.setUint16(AT + 4, message.type, true)
    memory.view.setUint16(AT + 6, message.flags | NLM_F.request, true)
    memory.view.setUint32(AT + 8, 1, true)
    memory.view.setUint32(AT + 12, 0, true)
    memory.bytes.set(message.body, AT + HEADER)
    check(what, send(fd, memory.address(AT), length, 0))
    return receive(what, fd)
  } finally {
    close(fd)
  }
}

function receive(what: string, fd: number): Message[] {
  const memory = scratch()
  const { view } = memory
  const messages: Message[] = []
  for (;;) {
    const got = check(what, recv(fd, memory.address(ANSWER_AT), ANSWER_BYTES, 0))
    let isMulti = false
    for (let at = ANSWER_AT; at + HEADER <= ANSWER_AT + got; ) {
      const length = view.getUint32(at, true)
      const type = view.getUint16(at + 4, true)
      if (length < HEADER) break
      isMulti = (view.getUint16(at + 6, true) & NLM_F.multi) !== 0
      if (type === NLMSG_DONE) return messages
      if (type === NLMSG_ERROR) {
        const error = -view.getInt32(at + HEADER, true)
        if (error !== 0) throw new SysError(what, error)
        return messages
      }
      messages.push({ type, body: memory.bytes.slice(at + HEADER, at + length) })
      at += (length + 3) & ~3
    }
    if (!isMulti && messages.length > 0) return messages
  }
}

/** Errors of these numbers are none. */
export function tolerate(errnos: readonly number[], change: () => void): void {
  try {
    change()
  } catch (error) {
    if (!(error instanceof SysError) || !errnos.includes(error.errno)) throw error
  }
}
