/**
 * Tries the UDP offloads on a private pair of sockets on the loopback device: some kernels say yes and then lose or mangle packets
 * (hostile-input.md section 5, known bad kernels). What comes back must be, byte for byte, what was sent.
 */
import {
  AF_INET,
  CMSGHDR,
  IOVEC,
  MSG_DONTWAIT,
  MSGHDR,
  POLLFD,
  POLLIN,
  SO_RCVBUF,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  SOL_UDP,
  TIMESPEC,
  UDP_GRO,
  UDP_SEGMENT,
} from './layouts.ts'
import { bindSocket, close, getsockname, ppoll, recv, sendmsg, socket } from './libc.ts'
import { scratch } from './scratch.ts'
import { setOption, writeSockaddr } from './udp.ts'

const SEGMENT = 1200
/** a short last one: where some kernels fail */
const SENT = SEGMENT * 5 + 700
const LOOPBACK = Uint8Array.of(127, 0, 0, 1)
const at = {
  name: 4096,
  length: 4160,
  iov: 4224,
  control: 4288,
  header: 4352,
  poll: 4480,
  timeout: 4512,
  data: 8192,
  received: 65536,
} as const

export interface OffloadTest {
  udpSegment: boolean
  udpGro: boolean
  /** why not, by offload */
  problems: Record<string, string>
}

export function testOffloads(): OffloadTest {
  const problems: Record<string, string> = {}
  const plain = exchange(false)
  if (plain !== undefined) problems.udpSegment = plain
  const merged = plain === undefined ? exchange(true) : plain
  if (merged !== undefined) problems.udpGro = merged
  return { udpSegment: plain === undefined, udpGro: merged === undefined, problems }
}

function openSocket(): number {
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  const memory = scratch()
  const length = writeSockaddr(memory.view, at.name, LOOPBACK, 0)
  bindSocket(fd, memory.address(at.name), length)
  setOption(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20)
  return fd
}

/** undefined: everything arrived as it was sent. */
function exchange(gro: boolean): string | undefined {
  const receiver = openSocket()
  const sender = openSocket()
  try {
    if (gro && setOption(receiver, SOL_UDP, UDP_GRO, 1) < 0) return 'the kernel does not know UDP_GRO'
    return send(sender, receiver) ?? receive(receiver)
  } finally {
    close(receiver)
    close(sender)
  }
}

function send(sender: number, receiver: number): string | undefined {
  const memory = scratch()
  const { view, bytes } = memory
  view.setUint32(at.length, 16, true)
  getsockname(receiver, memory.address(at.name), memory.address(at.length))
  for (let i = 0; i < SENT; i++) bytes[at.data + i] = (i * 31 + (i >> 8)) & 0xff
  for (let i = 0; i < MSGHDR.size; i += 4) view.setUint32(at.header + i, 0)
  memory.setPointer(at.iov + IOVEC.base, memory.address(at.data))
  memory.setPointer(at.iov + IOVEC.length, SENT)
  memory.setPointer(at.header + MSGHDR.name, memory.address(at.name))
  view.setUint32(at.header + MSGHDR.nameLength, 16, true)
  memory.setPointer(at.header + MSGHDR.iov, memory.address(at.iov))
  memory.setPointer(at.header + MSGHDR.iovLength, 1)
  memory.setPointer(at.header + MSGHDR.control, memory.address(at.control))
  memory.setPointer(at.header + MSGHDR.controlLength, 24)
  memory.setPointer(at.control + CMSGHDR.length, CMSGHDR.size + 2)
  view.setInt32(at.control + CMSGHDR.level, SOL_UDP, true)
  view.setInt32(at.control + CMSGHDR.type, UDP_SEGMENT, true)
  view.setUint16(at.control + CMSGHDR.size, SEGMENT, true)
  const sent = sendmsg(sender, memory.address(at.header), MSG_DONTWAIT)
  return sent === SENT ? undefined : 'the kernel refuses UDP_SEGMENT'
}

function receive(receiver: number): string | undefined {
  const memory = scratch()
  const { view, bytes } = memory
  let got = 0
  for (let tries = 0; got < SENT && tries < 20; tries++) {
    view.setInt32(at.poll, receiver, true)
    view.setInt32(at.poll + POLLFD.events, POLLIN, true)
    memory.setPointer(at.timeout + TIMESPEC.seconds, 0)
    memory.setPointer(at.timeout + TIMESPEC.fraction, 100_000_000)
    ppoll(memory.address(at.poll), 1, memory.address(at.timeout), 0)
    const length = recv(receiver, memory.address(at.received + got), 65536, MSG_DONTWAIT)
    if (length > 0) got += length
  }
  if (got !== SENT) return `of ${SENT} bytes sent in one message, ${got} arrived`
  for (let i = 0; i < SENT; i++)
    if (bytes[at.received + i] !== bytes[at.data + i]) return `byte ${i} of a segmented message arrived changed`
  return undefined
}
