/**
 * Sends tunnel packets: runs of equal size to one peer become one message with UDP_SEGMENT, messages go out in batches by sendmmsg.
 *
 *   packets  1348 1348 1348 900 | 1348 1348 …            a run: same peer, same TOS, equal sizes but the last, at most 64, at most 65,507 bytes
 *   message  name · control (UDP_SEGMENT 1348, TOS) · iovecs (head, body, head, body, …)
 *
 * What the kernel refuses is answered by cause (hostile-input.md section 5): EAGAIN and ENOBUFS wait, a queued ICMP error is taken and the
 * message sent again, EIO and EINVAL send the run again packet by packet and switch segmentation off, EMSGSIZE tells the main thread the path is narrower.
 */

import { Fault } from '../../ipref/faults.ts'
import type { Environment } from '../forward/environment.ts'
import { Direction, PEER_SELF, PEER_SOURCE } from '../forward/output.ts'
import { isMapped } from '../forward/tables.ts'
import type { Arena } from '../sys/arena.ts'
import {
  AF_INET,
  AF_INET6,
  CMSGHDR,
  Errno,
  IOVEC,
  IP_TOS,
  IPV6_TCLASS,
  MMSGHDR,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSGHDR,
  POLLFD,
  POLLOUT,
  SOCKADDR,
  SOL_IP,
  SOL_IPV6,
  SOL_UDP,
  UDP_MAX_SEGMENTS,
  UDP_SEGMENT,
} from '../sys/layouts.ts'
import { errno, ppoll, sendmmsg } from '../sys/libc.ts'
import { PeerFlag, type PeerTable } from './peerTable.ts'
import type { Offloads, TunnelSocket } from './protocol.ts'
import { Histogram, Stat, type WorkerStats } from './stats.ts'

const MESSAGES = 64
const IOVECS = 4096
const NAME_SLOT = 32
const CONTROL_SLOT = 64
const LARGEST = 65507
/** times that one message is tried after an error that passes, and how long to wait for room (ns) */
const TRIES = 50
const WAIT_NS = 2_000_000
/** what an unproved peer may get for each byte it sent (decisions.md 6) */
const BUDGET = 3

export interface UdpSenderParts {
  arena: Arena
  env: Environment
  sockets: readonly TunnelSocket[]
  peers: PeerTable
  stats: WorkerStats
  offloads: Offloads
  onRefused(offload: keyof Offloads, errno: number): void
  /** The path to this peer does not take `bytes` of UDP payload. */
  onTooBig(peer: number, bytes: number): void
}

/** Where packets of PEER_SOURCE go. */
export interface Source {
  a0: number
  a1: number
  a2: number
  a3: number
  port: number
}

export class UdpSender {
  readonly #parts: UdpSenderParts
  readonly #messages: number
  readonly #names: number
  readonly #controls: number
  readonly #iov: number
  readonly #poll: number
  readonly #timeout: number
  readonly #fd4: number
  readonly #fd6: number
  readonly #segments: Histogram
  readonly #bytes: Histogram
  // of each message being built: first packet, packets, bytes, peer
  readonly #first = new Int32Array(MESSAGES)
  readonly #count = new Int32Array(MESSAGES)
  readonly #size = new Int32Array(MESSAGES)
  readonly #peer = new Int32Array(MESSAGES)
  #built = 0
  #iovUsed = 0
  #batchFd = -1

  constructor(parts: UdpSenderParts) {
    const { arena, stats } = parts
    this.#parts = parts
    this.#messages = arena.allocate(MESSAGES * MMSGHDR.size)
    this.#names = arena.allocate(MESSAGES * NAME_SLOT)
    this.#controls = arena.allocate(MESSAGES * CONTROL_SLOT)
    this.#iov = arena.allocate(IOVECS * IOVEC.size)
    this.#poll = arena.allocate(POLLFD.size)
    this.#timeout = arena.allocate(16)
    arena.setPointer(this.#timeout, 0)
    arena.setPointer(this.#timeout + 8, WAIT_NS)
    this.#fd4 = parts.sockets.find(s => s.family === 4)?.fd ?? -1
    this.#fd6 = parts.sockets.find(s => s.family === 6)?.fd ?? -1
    this.#segments = new Histogram(stats, 'sendSegments')
    this.#bytes = new Histogram(stats, 'sendBytes')
    this.#writeConstants()
  }

  #writeConstants(): void {
    const { arena } = this.#parts
    for (let i = 0; i < MESSAGES; i++) {
      const header = this.#messages + i * MMSGHDR.size
      arena.setPointer(header + MSGHDR.name, arena.base + this.#names + i * NAME_SLOT)
      arena.setPointer(header + MSGHDR.control, arena.base + this.#controls + i * CONTROL_SLOT)
    }
  }

  /** Sends every packet of the output that is for the tunnel, in order. `source`: for answers to the datagram being handled. */
  sendAll(source: Source | undefined): void {
    const { output } = this.#parts.env
    for (let i = 0; i < output.count; ) {
      if (output.direction[i] !== Direction.tunnel || output.peer[i] === PEER_SELF) {
        i++
        continue
      }
      const end = this.#endOfRun(i)
      this.#build(i, end, source)
      i = end
    }
    this.#flush()
  }

  #endOfRun(start: number): number {
    const { output } = this.#parts.env
    const most = this.#parts.offloads.udpSegment ? UDP_MAX_SEGMENTS : 1
    const size = output.headLength[start]! + output.bodyLength[start]!
    const peer = output.peer[start]!
    const tos = output.tos[start]!
    let end = start + 1
    let total = size
    while (end < output.count && end - start < most && output.direction[end] === Direction.tunnel) {
      const length = output.headLength[end]! + output.bodyLength[end]!
      if (output.peer[end] !== peer || output.tos[end] !== tos || length > size || total + length > LARGEST) break
      total += length
      end++
      if (length < size) break
    }
    return end
  }

  #build(start: number, end: number, source: Source | undefined): void {
    const { env, peers, stats } = this.#parts
    const { output } = env
    const peer = output.peer[start]!
    let total = 0
    for (let i = start; i < end; i++) total += output.headLength[i]! + output.bodyLength[i]!
    if (peer >= 0 && !this.#mayHave(peer, total)) return stats.dropped(Fault.peer_unverified, end - start)
    const fromSource = peer === PEER_SOURCE
    if (peer < 0 && (!fromSource || !source)) return stats.dropped(Fault.tunnel_send_failed, end - start)
    const at = peer * 4
    const a0 = fromSource ? source!.a0 : peers.address[at]!
    const a1 = fromSource ? source!.a1 : peers.address[at + 1]!
    const a2 = fromSource ? source!.a2 : peers.address[at + 2]!
    const is4 = isMapped(a0, a1, a2)
    const fd = is4 ? this.#fd4 : this.#fd6
    if (fd < 0) return stats.dropped(Fault.tunnel_send_failed, end - start)
    const iovecs = (end - start) * 2
    if (fd !== this.#batchFd || this.#built === MESSAGES || this.#iovUsed + iovecs > IOVECS) this.#flush()
    this.#batchFd = fd
    const m = this.#built++
    this.#first[m] = start
    this.#count[m] = end - start
    this.#size[m] = total
    this.#peer[m] = peer
    const a3 = fromSource ? source!.a3 : peers.address[at + 3]!
    this.#writeName(m, is4, a0, a1, a2, a3, fromSource ? source!.port : this.#portOf(peer, total))
    this.#writeMessage(m, is4, output.headLength[start]! + output.bodyLength[start]!)
  }

  #mayHave(peer: number, bytes: number): boolean {
    const { peers } = this.#parts
    const flags = Atomics.load(peers.flags, peer)
    if ((flags & PeerFlag.used) === 0) return false
    if ((flags & (PeerFlag.verified | PeerFlag.configured | PeerFlag.outbound)) !== 0) return true
    return this.#isWithinBudget(peer, bytes)
  }

  #isWithinBudget(peer: number, bytes: number): boolean {
    const { peers } = this.#parts
    return peers.bytesOut[peer]! + bytes <= BUDGET * peers.bytesIn[peer]!
  }

  // before the first proof the port is a guess, and replies go to where the datagrams come from, within the budget (decisions.md 6)
  #portOf(peer: number, bytes: number): number {
    const { peers } = this.#parts
    const current = Atomics.load(peers.port, peer)
    if ((Atomics.load(peers.flags, peer) & PeerFlag.verified) !== 0) return current
    const seen = Atomics.load(peers.candidatePort, peer)
    return seen !== 0 && this.#isWithinBudget(peer, bytes) ? seen : current
  }

  #writeName(m: number, is4: boolean, a0: number, a1: number, a2: number, a3: number, port: number): void {
    const { view } = this.#parts.arena
    const at = this.#names + m * NAME_SLOT
    view.setUint16(at, is4 ? AF_INET : AF_INET6, true)
    view.setUint16(at + SOCKADDR.port, port)
    if (is4) {
      view.setInt32(at + SOCKADDR.address4, a3)
      return
    }
    view.setInt32(at + 4, 0)
    view.setInt32(at + SOCKADDR.address6, a0)
    view.setInt32(at + SOCKADDR.address6 + 4, a1)
    view.setInt32(at + SOCKADDR.address6 + 8, a2)
    view.setInt32(at + SOCKADDR.address6 + 12, a3)
    view.setInt32(at + 24, 0)
  }

  #writeMessage(m: number, is4: boolean, segment: number): void {
    const { arena, env } = this.#parts
    const { output } = env
    const header = this.#messages + m * MMSGHDR.size
    const start = this.#first[m]!
    arena.words[(header + MSGHDR.nameLength) >> 2] = is4 ? SOCKADDR.size4 : SOCKADDR.size6
    arena.setPointer(header + MSGHDR.iov, arena.base + this.#iov + this.#iovUsed * IOVEC.size)
    let iovecs = 0
    for (let i = start; i < start + this.#count[m]!; i++) {
      this.#setIovec(this.#iovUsed + iovecs++, output.head[i]!, output.headLength[i]!)
      if (output.bodyLength[i] !== 0) this.#setIovec(this.#iovUsed + iovecs++, output.body[i]!, output.bodyLength[i]!)
    }
    this.#iovUsed += iovecs
    arena.words[(header + MSGHDR.iovLength) >> 2] = iovecs
    arena.words[(header + MSGHDR.controlLength) >> 2] = this.#writeControl(m, is4, segment)
  }

  #setIovec(index: number, offset: number, length: number): void {
    const { arena } = this.#parts
    const at = this.#iov + index * IOVEC.size
    arena.setAddress(at, offset)
    arena.words[(at + IOVEC.length) >> 2] = length
  }

  #writeControl(m: number, is4: boolean, segment: number): number {
    const { words } = this.#parts.arena
    const { output } = this.#parts.env
    let at = (this.#controls + m * CONTROL_SLOT) >> 2
    let length = 0
    const tos = output.tos[this.#first[m]!]!
    if (tos !== 0) {
      words[at] = CMSGHDR.size + 4
      words[at + 2] = is4 ? SOL_IP : SOL_IPV6
      words[at + 3] = is4 ? IP_TOS : IPV6_TCLASS
      words[at + 4] = tos
      at += 6
      length += 24
    }
    if (this.#count[m]! > 1) {
      words[at] = CMSGHDR.size + 2
      words[at + 2] = SOL_UDP
      words[at + 3] = UDP_SEGMENT
      words[at + 4] = segment
      length += 24
    }
    return length
  }

  #flush(): void {
    const { arena, stats } = this.#parts
    let tries = 0
    for (let done = 0; done < this.#built; ) {
      stats.add(Stat.sendCalls, 1)
      const sent = sendmmsg(
        this.#batchFd,
        arena.base + this.#messages + done * MMSGHDR.size,
        this.#built - done,
        MSG_DONTWAIT | MSG_NOSIGNAL,
      )
      if (sent > 0) {
        for (let m = done; m < done + sent; m++) this.#sent(m)
        done += sent
        tries = 0
        continue
      }
      if (this.#shouldRetry(errno(), tries)) {
        tries++
        continue
      }
      this.#refused(done, errno())
      done++
      tries = 0
    }
    this.#built = 0
    this.#iovUsed = 0
  }

  #sent(m: number): void {
    const { stats, peers } = this.#parts
    stats.add(Stat.packetsOut, this.#count[m]!)
    stats.add(Stat.bytesOut, this.#size[m]!)
    this.#segments.observe(this.#count[m]!)
    this.#bytes.observe(this.#size[m]!)
    const peer = this.#peer[m]!
    if (peer < 0) return
    peers.bytesOut[peer]! += this.#size[m]!
    peers.packetsOut[peer]! += this.#count[m]!
  }

  #shouldRetry(code: number, tries: number): boolean {
    if (tries >= TRIES) return false
    this.#parts.stats.add(Stat.retries, 1)
    if (code === Errno.EAGAIN || code === Errno.ENOBUFS) {
      this.#waitForRoom()
      return true
    }
    // an ICMP error about an earlier datagram, reported on this call; the datagram itself was not tried
    const isQueued = code === Errno.ECONNREFUSED || code === Errno.EHOSTUNREACH || code === Errno.EINTR
    return isQueued && tries < 4
  }

  #waitForRoom(): void {
    const { arena } = this.#parts
    arena.view.setInt32(this.#poll, this.#batchFd, true)
    arena.view.setInt32(this.#poll + POLLFD.events, POLLOUT, true)
    ppoll(arena.base + this.#poll, 1, arena.base + this.#timeout, 0)
  }

  #refused(m: number, code: number): void {
    const { stats, offloads, env } = this.#parts
    const count = this.#count[m]!
    if (code === Errno.EMSGSIZE) {
      const first = this.#first[m]!
      this.#parts.onTooBig(this.#peer[m]!, env.output.headLength[first]! + env.output.bodyLength[first]!)
      return stats.dropped(Fault.too_big, count)
    }
    if (count > 1 && (code === Errno.EIO || code === Errno.EINVAL)) {
      if (offloads.udpSegment) this.#parts.onRefused('udpSegment', code)
      stats.add(Stat.offloadFallbacks, 1)
      return this.#sendSingly(m)
    }
    stats.dropped(Fault.tunnel_send_failed, count)
  }

  // the message's own header is used for each of its packets: two iovecs at a time, no segment size
  #sendSingly(m: number): void {
    const { arena, env, stats } = this.#parts
    const { output } = env
    const header = this.#messages + m * MMSGHDR.size
    const iov = this.#iov + (IOVECS - 2) * IOVEC.size
    const control = output.tos[this.#first[m]!] === 0 ? 0 : 24
    for (let i = this.#first[m]!, left = this.#count[m]!; left > 0; i++, left--) {
      arena.setPointer(header + MSGHDR.iov, arena.base + iov)
      this.#setIovec(IOVECS - 2, output.head[i]!, output.headLength[i]!)
      this.#setIovec(IOVECS - 1, output.body[i]!, output.bodyLength[i]!)
      arena.words[(header + MSGHDR.iovLength) >> 2] = output.bodyLength[i] === 0 ? 1 : 2
      arena.words[(header + MSGHDR.controlLength) >> 2] = control
      let tries = 0
      while (sendmmsg(this.#batchFd, arena.base + header, 1, MSG_DONTWAIT | MSG_NOSIGNAL) !== 1) {
        if (this.#shouldRetry(errno(), tries++)) continue
        stats.dropped(Fault.tunnel_send_failed, 1)
        break
      }
      if (tries <= TRIES) stats.add(Stat.packetsOut, 1)
    }
  }
}
