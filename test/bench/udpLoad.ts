/**
 * UDP load for the bench, on the same batched calls as the gateway, so that the load generator is not what is measured.
 *
 *   udpLoad.ts receive PORT                              counts; on a line of input prints { packets, bytes } and starts anew
 *   udpLoad.ts send ADDRESS PORT SIZE SECONDS RATE GSO   RATE packets a second (0: as fast as it goes), GSO packets in one message
 */

import { Arena } from '../../gateway/sys/arena.ts'
import {
  CMSGHDR,
  IOVEC,
  MMSGHDR,
  MSG_DONTWAIT,
  MSGHDR,
  POLLFD,
  POLLIN,
  SOL_UDP,
  UDP_SEGMENT,
} from '../../gateway/sys/layouts.ts'
import { ppoll, recvmmsg, sendmmsg } from '../../gateway/sys/libc.ts'
import { openTunnelSocket, writeSockaddr } from '../../gateway/sys/udp.ts'
import { parseAddress } from '../../ipref/address.ts'

const MESSAGES = 64
const BUFFER = 65536

function makeBatch(arena: Arena): { messages: number; buffers: number; names: number; controls: number; iov: number } {
  const batch = {
    messages: arena.allocate(MESSAGES * MMSGHDR.size),
    buffers: arena.allocate(MESSAGES * BUFFER),
    names: arena.allocate(MESSAGES * 32),
    controls: arena.allocate(MESSAGES * 64),
    iov: arena.allocate(MESSAGES * IOVEC.size),
  }
  for (let i = 0; i < MESSAGES; i++) {
    const header = batch.messages + i * MMSGHDR.size
    arena.setPointer(batch.iov + i * IOVEC.size, arena.address(batch.buffers + i * BUFFER))
    arena.setPointer(batch.iov + i * IOVEC.size + IOVEC.length, BUFFER)
    arena.setPointer(header + MSGHDR.name, arena.address(batch.names + i * 32))
    arena.setPointer(header + MSGHDR.iov, arena.address(batch.iov + i * IOVEC.size))
    arena.setPointer(header + MSGHDR.iovLength, 1)
    arena.setPointer(header + MSGHDR.control, arena.address(batch.controls + i * 64))
  }
  return batch
}

function any(address: string): Uint8Array {
  return address.includes(':') ? new Uint8Array(16) : new Uint8Array(4)
}

function receive(port: number): void {
  const { fd } = openTunnelSocket({ address: any('0'), port, gro: true })
  const arena = new Arena(MESSAGES * BUFFER + (1 << 20))
  const batch = makeBatch(arena)
  const poll = arena.allocate(POLLFD.size)
  const timeout = arena.allocate(16)
  arena.setPointer(timeout, 0)
  arena.setPointer(timeout + 8, 20_000_000)
  let [packets, bytes] = [0, 0]
  process.stdin.on('data', () => {
    console.log(JSON.stringify({ packets, bytes }))
    packets = 0
    bytes = 0
  })
  process.stdin.on('end', () => process.exit(0))
  const turn = () => {
    arena.view.setInt32(poll, fd, true)
    arena.view.setInt32(poll + POLLFD.events, POLLIN, true)
    ppoll(arena.address(poll), 1, arena.address(timeout), 0)
    for (let calls = 0; calls < 256; calls++) {
      for (let i = 0; i < MESSAGES; i++) {
        arena.words[(batch.messages + i * MMSGHDR.size + MSGHDR.nameLength) >> 2] = 32
        arena.words[(batch.messages + i * MMSGHDR.size + MSGHDR.controlLength) >> 2] = 64
      }
      const got = recvmmsg(fd, arena.address(batch.messages), MESSAGES, MSG_DONTWAIT, 0)
      if (got <= 0) break
      for (let i = 0; i < got; i++) {
        const length = arena.words[(batch.messages + i * MMSGHDR.size + MMSGHDR.length) >> 2]!
        const hasGro = arena.words[(batch.messages + i * MMSGHDR.size + MSGHDR.controlLength) >> 2]! >= 20
        const control = batch.controls + i * 64
        const segment =
          hasGro && arena.words[(control + CMSGHDR.level) >> 2] === SOL_UDP
            ? arena.words[(control + CMSGHDR.size) >> 2]!
            : length
        packets += segment > 0 ? Math.ceil(length / segment) : 1
        bytes += length
      }
    }
    setImmediate(turn)
  }
  console.log('ready')
  turn()
}

async function send(
  to: string,
  port: number,
  load: { size: number; seconds: number; rate: number; gso: number },
): Promise<void> {
  const address = parseAddress(to)!
  const { fd } = openTunnelSocket({ address: any(to), port: 0, gro: false })
  const arena = new Arena(MESSAGES * BUFFER + (1 << 20))
  const batch = makeBatch(arena)
  const gso = Math.max(1, load.gso)
  for (let i = 0; i < MESSAGES; i++) {
    const header = batch.messages + i * MMSGHDR.size
    const length = writeSockaddr(arena.view, batch.names + i * 32, address, port)
    arena.words[(header + MSGHDR.nameLength) >> 2] = length
    arena.setPointer(batch.iov + i * IOVEC.size + IOVEC.length, load.size * gso)
    const control = batch.controls + i * 64
    arena.words[(header + MSGHDR.controlLength) >> 2] = gso > 1 ? 24 : 0
    arena.words[control >> 2] = CMSGHDR.size + 2
    arena.words[(control + CMSGHDR.level) >> 2] = SOL_UDP
    arena.words[(control + CMSGHDR.type) >> 2] = UDP_SEGMENT
    arena.words[(control + CMSGHDR.size) >> 2] = load.size
  }
  const perCall = gso > 1 ? 4 : 16
  const started = performance.now()
  let sent = 0
  for (;;) {
    const elapsed = (performance.now() - started) / 1000
    if (elapsed >= load.seconds) break
    const due = load.rate === 0 ? perCall * gso : Math.floor(elapsed * load.rate) - sent
    if (due < gso) {
      ppoll(0, 0, pause(arena), 0)
      continue
    }
    const count = Math.min(perCall, Math.floor(due / gso))
    const done = sendmmsg(fd, arena.address(batch.messages), count, 0)
    if (done > 0) sent += done * gso
    else ppoll(0, 0, pause(arena), 0)
  }
  console.log(JSON.stringify({ sent, seconds: (performance.now() - started) / 1000 }))
}

let pauseAt = 0
function pause(arena: Arena): number {
  if (pauseAt === 0) {
    pauseAt = arena.allocate(16)
    arena.setPointer(pauseAt, 0)
    arena.setPointer(pauseAt + 8, 50_000)
  }
  return arena.address(pauseAt)
}

const [what, ...args] = process.argv.slice(2)
if (what === 'receive') receive(Number(args[0]))
else {
  const [size = 64, seconds = 2, rate = 0, gso = 1] = args.slice(2).map(Number)
  await send(args[0]!, Number(args[1]), { size, seconds, rate, gso })
}
