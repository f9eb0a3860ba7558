/**
 * Writes what is for the local side to the TUN device: one writev for each packet, or for each group that Coalescer made.
 *
 *   [ virtio header ][ IP header (head slot) ][ layer 4 of the first ][ payload of the second ] …
 *
 * A kernel that refuses a super-packet (EINVAL, EIO) gets its packets one by one, and no more of that kind (hostile-input.md section 5).
 */

import { Fault } from '../../ipref/faults.ts'
import { IPPROTO_TCP, IPV4_HEADER, ip4, ip6, tcp, udp } from '../../ipref/ip.ts'
import { Coalescer } from '../forward/coalesce.ts'
import { Gso } from '../forward/encap.ts'
import type { Environment } from '../forward/environment.ts'
import { Direction } from '../forward/output.ts'
import type { Arena } from '../sys/arena.ts'
import { Errno, IOVEC, VNET, VNET_NEEDS_CHECKSUM } from '../sys/layouts.ts'
import { errno, writev } from '../sys/libc.ts'
import type { Offloads } from './protocol.ts'
import { Histogram, Stat, type WorkerStats } from './stats.ts'

const IOVECS = 160

export interface TunWriterParts {
  arena: Arena
  env: Environment
  fd: number
  stats: WorkerStats
  offloads: Offloads
  /** An offload that the kernel refused. */
  onRefused(offload: keyof Offloads, errno: number): void
}

export class TunWriter {
  readonly #parts: TunWriterParts
  readonly #coalescer: Coalescer
  readonly #iov: number
  /** two virtio headers: one for super-packets, one that is all zeros for others */
  readonly #super: number
  readonly #plain: number
  readonly #allowed = { tcp4: false, tcp6: false, udp4: false, udp6: false }
  readonly #segments: Histogram
  readonly #bytes: Histogram

  constructor(parts: TunWriterParts) {
    const { arena, env, stats } = parts
    this.#parts = parts
    this.#coalescer = new Coalescer(env)
    this.#iov = arena.allocate(IOVECS * IOVEC.size)
    this.#super = arena.allocate(VNET.size)
    this.#plain = arena.allocate(VNET.size)
    this.#segments = new Histogram(stats, 'sendSegments')
    this.#bytes = new Histogram(stats, 'sendBytes')
  }

  /** Writes every packet of the output that is for the local side, in order. */
  writeAll(): void {
    const { env, offloads } = this.#parts
    const { output } = env
    const allowed = this.#allowed
    allowed.tcp4 = offloads.tunTso4
    allowed.tcp6 = offloads.tunTso6
    allowed.udp4 = offloads.tunUso4
    allowed.udp6 = offloads.tunUso6
    this.#coalescer.run(allowed)
    for (let i = 0; i < output.count; i++) {
      if (output.direction[i] !== Direction.host || this.#coalescer.leads[i] === 0) continue
      if (this.#coalescer.pieces[i] === 1) this.#writeOne(i)
      else this.#writeGroup(i)
    }
  }

  #setIovec(index: number, offset: number, length: number): void {
    const { arena } = this.#parts
    const at = this.#iov + index * IOVEC.size
    arena.setAddress(at, offset)
    arena.words[(at + IOVEC.length) >> 2] = length
    arena.words[(at + IOVEC.length + 4) >> 2] = 0
  }

  #writeOne(i: number): void {
    const { env, stats } = this.#parts
    const { output } = env
    this.#setIovec(0, this.#plain, VNET.size)
    this.#setIovec(1, output.head[i]!, output.headLength[i]!)
    this.#setIovec(2, output.body[i]!, output.bodyLength[i]!)
    const written = this.#write(3)
    if (written < 0) return stats.dropped(Fault.tun_write_failed, 1)
    this.#count(1, written)
  }

  #count(pieces: number, bytes: number): void {
    const { stats } = this.#parts
    stats.add(Stat.packetsOut, pieces)
    stats.add(Stat.bytesOut, bytes - VNET.size)
    this.#segments.observe(pieces)
    this.#bytes.observe(bytes)
  }

  #write(iovecs: number): number {
    const { arena, fd, stats } = this.#parts
    stats.add(Stat.sendCalls, 1)
    return writev(fd, arena.base + this.#iov, iovecs)
  }

  #writeGroup(leader: number): void {
    const { env, stats } = this.#parts
    const { output } = env
    const { pieces, next, l4Header } = this.#coalescer
    this.#coalescer.seal(leader)
    const offload = this.#describe(leader)
    this.#setIovec(0, this.#super, VNET.size)
    this.#setIovec(1, output.head[leader]!, output.headLength[leader]!)
    this.#setIovec(2, output.body[leader]!, output.bodyLength[leader]!)
    let count = 3
    for (let i = next[leader]!; i >= 0; i = next[i]!) {
      this.#setIovec(count++, output.body[i]! + l4Header[i]!, output.bodyLength[i]! - l4Header[i]!)
    }
    const written = this.#write(count)
    if (written >= 0) return this.#count(pieces[leader]!, written)
    const code = errno()
    this.#coalescer.unseal(leader)
    if (code === Errno.EINVAL || code === Errno.EIO) this.#parts.onRefused(offload, code)
    stats.add(Stat.offloadFallbacks, 1)
    for (let i = leader; i >= 0; i = next[i]!) this.#writeOne(i)
  }

  // the virtio header of a super-packet; which offload it makes use of
  #describe(leader: number): keyof Offloads {
    const { env } = this.#parts
    const { output, view } = env
    const head = output.head[leader]!
    const headLength = output.headLength[leader]!
    const is4 = headLength === IPV4_HEADER
    const isTcp = view.getUint8(head + (is4 ? ip4.protocol : ip6.next)) === IPPROTO_TCP
    const at = this.#super
    view.setUint8(at + VNET.flags, VNET_NEEDS_CHECKSUM)
    view.setUint8(at + VNET.gsoType, isTcp ? (is4 ? Gso.tcp4 : Gso.tcp6) : Gso.udp)
    view.setUint16(at + VNET.headerLength, headLength + this.#coalescer.l4Header[leader]!, true)
    view.setUint16(at + VNET.gsoSize, this.#coalescer.size[leader]!, true)
    view.setUint16(at + VNET.checksumStart, headLength, true)
    view.setUint16(at + VNET.checksumOffset, isTcp ? tcp.checksum : udp.checksum, true)
    if (isTcp) return is4 ? 'tunTso4' : 'tunTso6'
    return is4 ? 'tunUso4' : 'tunUso6'
  }
}
