/**
 * UDP sockets for tunnel packets: non-blocking, large buffers, path MTU probing, traffic class and errors reported (udp(7), ip(7), ipv6(7)).
 */
import {
  AF_INET,
  AF_INET6,
  CMSGHDR,
  Errno,
  EXTENDED_ERROR,
  IOVEC,
  IP_MTU_DISCOVER,
  IP_RECVERR,
  IP_RECVTOS,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
  IPV6_RECVTCLASS,
  IPV6_V6ONLY,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSGHDR,
  PMTUDISC_PROBE,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCKADDR,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from './layouts.ts'
import { bindSocket, check, close, recvmsg, sendto, setsockopt, socket } from './libc.ts'
import { scratch } from './scratch.ts'

const BUFFER_BYTES = 7 << 20
const AT = 4096

export function setOption(fd: number, level: number, name: number, value: number): number {
  const memory = scratch()
  memory.view.setInt32(64, value, true)
  return setsockopt(fd, level, name, memory.address(64), 4)
}

/** Writes struct sockaddr_in or sockaddr_in6 at `at`; its length. `address` has 4 or 16 bytes. */
export function writeSockaddr(view: DataView, at: number, address: Uint8Array, port: number): number {
  const is4 = address.length === 4
  const length = is4 ? SOCKADDR.size4 : SOCKADDR.size6
  for (let i = 0; i < length; i++) view.setUint8(at + i, 0)
  view.setUint16(at, is4 ? AF_INET : AF_INET6, true)
  view.setUint16(at + SOCKADDR.port, port)
  const start = at + (is4 ? SOCKADDR.address4 : SOCKADDR.address6)
  for (const [i, byte] of address.entries()) view.setUint8(start + i, byte)
  return length
}

/** File descriptor of a bound socket. */
export function openTunnelSocket(wanted: { address: Uint8Array; port: number; gro: boolean }): {
  fd: number
  gro: boolean
} {
  const { address, port } = wanted
  const is4 = address.length === 4
  const fd = check('socket', socket(is4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  try {
    if (!is4) check('IPV6_V6ONLY', setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1))
    const [level, discover, receiveTos, receiveErrors] = is4
      ? [SOL_IP, IP_MTU_DISCOVER, IP_RECVTOS, IP_RECVERR]
      : [SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_RECVTCLASS, IPV6_RECVERR]
    check('MTU_DISCOVER', setOption(fd, level, discover, PMTUDISC_PROBE))
    check('RECVTOS', setOption(fd, level, receiveTos, 1))
    check('RECVERR', setOption(fd, level, receiveErrors, 1))
    for (const [force, ordinary] of [
      [SO_RCVBUFFORCE, SO_RCVBUF],
      [SO_SNDBUFFORCE, SO_SNDBUF],
    ] as const) {
      if (setOption(fd, SOL_SOCKET, force, BUFFER_BYTES) < 0) setOption(fd, SOL_SOCKET, ordinary, BUFFER_BYTES)
    }
    const memory = scratch()
    const length = writeSockaddr(memory.view, AT, address, port)
    check(`bind ${address.join(is4 ? '.' : ' ')} port ${port}`, bindSocket(fd, memory.address(AT), length))
    return { fd, gro: wanted.gro && setOption(fd, SOL_UDP, UDP_GRO, 1) >= 0 }
  } catch (error) {
    close(fd)
    throw error
  }
}

/** One datagram; false when the kernel refused it. */
export function sendDatagram(fd: number, to: { address: Uint8Array; port: number }, payload: Uint8Array): boolean {
  const memory = scratch()
  const length = writeSockaddr(memory.view, AT, to.address, to.port)
  memory.bytes.set(payload, AT + 64)
  return sendto(fd, memory.address(AT + 64), payload.length, MSG_DONTWAIT, memory.address(AT), length) >= 0
}

/** What a router or host said about a datagram of ours. */
export interface TunnelError {
  errno: number
  /** of the path, when it was about the size; else 0 */
  mtu: number
  /** the destination of our datagram */
  address: Uint8Array
}

/** Takes everything out of the error queue. The kernel matched each with a datagram of this socket (ip(7), IP_RECVERR). */
export function drainErrorQueue(fd: number): TunnelError[] {
  const errors: TunnelError[] = []
  while (errors.length < 64) {
    const error = nextError(fd)
    if (!error) break
    errors.push(error)
  }
  return errors
}

function nextError(fd: number): TunnelError | undefined {
  const memory = scratch()
  const { view } = memory
  const [name, control, header, iov, payload] = [AT, AT + 64, AT + 1024, AT + 1152, AT + 2048]
  view.setUint16(name, 0)
  for (let i = 0; i < MSGHDR.size; i += 4) view.setUint32(header + i, 0)
  memory.setPointer(header + MSGHDR.name, memory.address(name))
  view.setUint32(header + MSGHDR.nameLength, 64, true)
  // of the datagram nothing is wanted, but emulators of system calls leave out a call that has room for nothing
  memory.setPointer(iov + IOVEC.base, memory.address(payload))
  memory.setPointer(iov + IOVEC.length, 64)
  memory.setPointer(header + MSGHDR.iov, memory.address(iov))
  memory.setPointer(header + MSGHDR.iovLength, 1)
  memory.setPointer(header + MSGHDR.control, memory.address(control))
  memory.setPointer(header + MSGHDR.controlLength, 512)
  if (recvmsg(fd, memory.address(header), MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return undefined
  const is4 = view.getUint16(name, true) === AF_INET
  const start = name + (is4 ? SOCKADDR.address4 : SOCKADDR.address6)
  const error: TunnelError = { errno: 0, mtu: 0, address: memory.bytes.slice(start, start + (is4 ? 4 : 16)) }
  const end = control + view.getUint32(header + MSGHDR.controlLength, true)
  for (let at = control; at + CMSGHDR.size <= end; ) {
    const length = view.getUint32(at, true)
    if (length < CMSGHDR.size) break
    const level = view.getInt32(at + CMSGHDR.level, true)
    const type = view.getInt32(at + CMSGHDR.type, true)
    if ((level === SOL_IP && type === IP_RECVERR) || (level === SOL_IPV6 && type === IPV6_RECVERR)) {
      error.errno = view.getUint32(at + CMSGHDR.size + EXTENDED_ERROR.errno, true)
      error.mtu = error.errno === Errno.EMSGSIZE ? view.getUint32(at + CMSGHDR.size + EXTENDED_ERROR.info, true) : 0
    }
    at += (length + 7) & ~7
  }
  return error
}
