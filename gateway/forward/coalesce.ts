/**
 * Packets for the local side that can be handed to the TUN device as one super-packet: segments of one TCP flow, datagrams of one UDP flow.
 *
 *   | IP | TCP | 1348 |  | IP | TCP | 1348 |  | IP | TCP | 900 |   ──►   | IP | TCP | 1348 | 1348 | 900 |   gso_size 1348
 *
 * The rules are those by which Linux merges on receipt (net/ipv4/tcp_offload.c): same header but for what must differ, in order, equal sizes but the
 * last, PSH only at the end, nothing with FIN, SYN, RST, URG or an empty payload. And one rule more: a packet joins only after its checksum
 * was found right, because the kernel computes a fresh one over the whole (hostile-input.md section 5, GRO checksum laundering).
 *
 * Works on the columns of Output. A group is emitted where its first packet stood; a packet of the same flow that cannot join closes the group,
 * so the order within a flow is kept. `seal` writes the super-packet's header over the first packet's, `unseal` takes that back.
 */
import { fold, negate, swap16 } from '../../ipref/checksum.ts'
import {
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_HEADER,
  IPV6_HEADER,
  ip4,
  ip6,
  MAX_PACKET,
  TCP_ACK,
  TCP_PSH,
  tcp,
  UDP_HEADER,
  udp,
} from '../../ipref/ip.ts'
import type { Environment } from './environment.ts'
import { Direction } from './output.ts'

/** Groups that may still grow, looked at for each packet. */
const OPEN_GROUPS = 64
const MOST_PIECES = 128
const Verified = { unknown: 0, right: 1, wrong: 2 } as const

export class Coalescer {
  /** Of each packet of the output: the next one of its group, or -1. */
  readonly next: Int32Array
  /** 1: begins a group (perhaps of one); 0: joined one before. */
  readonly leads: Uint8Array
  /** Of a leader: packets in its group, payload of each but the last, payload of all. */
  readonly pieces: Int32Array
  readonly size: Int32Array
  readonly payload: Int32Array
  /** Length of the layer 4 header of a packet that may join; 0: may not. */
  readonly l4Header: Int32Array
  readonly #env: Environment
  readonly #last: Int32Array
  readonly #sequence: Int32Array
  readonly #verified: Uint8Array
  readonly #addresses: Int32Array
  readonly #open = new Int32Array(OPEN_GROUPS)
  #openCount = 0

  constructor(env: Environment) {
    this.#env = env
    const { capacity } = env.output
    this.next = new Int32Array(capacity)
    this.leads = new Uint8Array(capacity)
    this.pieces = new Int32Array(capacity)
    this.size = new Int32Array(capacity)
    this.payload = new Int32Array(capacity)
    this.l4Header = new Int32Array(capacity)
    this.#last = new Int32Array(capacity)
    this.#sequence = new Int32Array(capacity)
    this.#verified = new Uint8Array(capacity)
    this.#addresses = new Int32Array(capacity)
  }

  /** Groups all packets of the output. */
  run(allowed: { tcp4: boolean; tcp6: boolean; udp4: boolean; udp6: boolean }): void {
    const { output, bytes } = this.#env
    this.#openCount = 0
    for (let i = 0; i < output.count; i++) {
      this.next[i] = -1
      this.leads[i] = 1
      this.pieces[i] = 1
      this.l4Header[i] = 0
      if (output.direction[i] !== Direction.host || output.fromGateway[i] !== 0) continue
      const is4 = output.headLength[i] === IPV4_HEADER
      const protocol = is4 ? bytes[output.head[i]! + ip4.protocol]! : bytes[output.head[i]! + ip6.next]!
      if (protocol === IPPROTO_TCP && (is4 ? allowed.tcp4 : allowed.tcp6)) this.#tcp(i, is4)
      else if (protocol === IPPROTO_UDP && (is4 ? allowed.udp4 : allowed.udp6)) this.#udp(i, is4)
    }
  }

  // ---- which packets

  #tcp(i: number, is4: boolean): void {
    const { output, view } = this.#env
    const l4 = output.body[i]!
    const length = output.bodyLength[i]!
    if ((!is4 && output.headLength[i] !== IPV6_HEADER) || (is4 && this.#isFragment4(i)) || length < tcp.options) return
    const leader = this.#findOpen(i, is4)
    const header = (view.getUint8(l4 + tcp.dataOffset) >>> 4) * 4
    const flags = view.getUint8(l4 + tcp.flags)
    const payload = length - header
    if (header < tcp.options || payload <= 0 || (flags & ~TCP_PSH) !== TCP_ACK) return this.#close(leader)
    this.l4Header[i] = header
    this.#verified[i] = Verified.unknown
    const sequence = view.getInt32(l4 + tcp.sequence)
    const joins =
      leader >= 0 &&
      this.#sequence[leader] === sequence &&
      this.#fits(leader, payload) &&
      this.#sameTcp(leader, i, header)
    if (joins && this.#areRight(leader, i, is4, IPPROTO_TCP)) {
      this.#join(leader, i, payload)
      this.#sequence[leader] = (sequence + payload) | 0
      if (payload < this.size[leader]! || (flags & TCP_PSH) !== 0) this.#close(leader)
      return
    }
    this.#close(leader)
    this.#begin(i, payload)
    this.#sequence[i] = (sequence + payload) | 0
    if ((flags & TCP_PSH) === 0) this.#keepOpen(i)
  }

  #udp(i: number, is4: boolean): void {
    const { output } = this.#env
    const length = output.bodyLength[i]!
    if ((!is4 && output.headLength[i] !== IPV6_HEADER) || (is4 && this.#isFragment4(i)) || length < UDP_HEADER) return
    const leader = this.#findOpen(i, is4)
    const payload = length - UDP_HEADER
    const checksum = this.#env.view.getUint16(output.body[i]! + udp.checksum)
    if (payload === 0 || checksum === 0) return this.#close(leader)
    this.l4Header[i] = UDP_HEADER
    this.#verified[i] = Verified.unknown
    if (leader >= 0 && this.#fits(leader, payload) && this.#areRight(leader, i, is4, IPPROTO_UDP)) {
      this.#join(leader, i, payload)
      if (payload < this.size[leader]!) this.#close(leader)
      return
    }
    this.#close(leader)
    this.#begin(i, payload)
    this.#keepOpen(i)
  }

  #isFragment4(i: number): boolean {
    return (this.#env.view.getUint16(this.#env.output.head[i]! + ip4.fragment) & 0x3fff) !== 0
  }

  // ---- groups

  // the open group of the flow that packet i belongs to: addresses, protocol, TTL, TOS, DF and ports are the same
  #findOpen(i: number, is4: boolean): number {
    for (let k = this.#openCount - 1; k >= 0; k--) {
      const leader = this.#open[k]!
      if (this.#sameFlow(leader, i, is4)) return leader
    }
    return -1
  }

  #sameFlow(a: number, b: number, is4: boolean): boolean {
    const { output, view, words } = this.#env
    if (output.headLength[a] !== output.headLength[b]) return false
    if (view.getInt32(output.body[a]!) !== view.getInt32(output.body[b]!)) return false
    const x = output.head[a]! >> 2
    const y = output.head[b]! >> 2
    if (is4) {
      // first byte pair of word 0 (version, TOS), flags of word 1, TTL and protocol of word 2
      return (
        words[x + 4] === words[y + 4] &&
        words[x + 3] === words[y + 3] &&
        ((words[x]! ^ words[y]!) & 0xffff) === 0 &&
        ((words[x + 1]! ^ words[y + 1]!) & 0x00ff0000) === 0 &&
        ((words[x + 2]! ^ words[y + 2]!) & 0xffff) === 0
      )
    }
    if (words[x] !== words[y] || ((words[x + 1]! ^ words[y + 1]!) & 0xffff0000) !== 0) return false
    for (let w = 2; w < 10; w++) if (words[x + w] !== words[y + w]) return false
    return true
  }

  #fits(leader: number, payload: number): boolean {
    const { output } = this.#env
    const total = output.headLength[leader]! + this.l4Header[leader]! + this.payload[leader]! + payload
    return payload <= this.size[leader]! && total <= MAX_PACKET && this.pieces[leader]! < MOST_PIECES
  }

  // acknowledgement, window, flags but PSH, and options
  #sameTcp(leader: number, i: number, header: number): boolean {
    const { output, view } = this.#env
    if (this.l4Header[leader] !== header) return false
    const a = output.body[leader]!
    const b = output.body[i]!
    if (view.getInt32(a + tcp.ack) !== view.getInt32(b + tcp.ack)) return false
    if (((view.getInt32(a + tcp.dataOffset) ^ view.getInt32(b + tcp.dataOffset)) & ~(TCP_PSH << 16)) !== 0) return false
    for (let at: number = tcp.options; at < header; at += 4)
      if (view.getInt32(a + at) !== view.getInt32(b + at)) return false
    return true
  }

  #areRight(leader: number, i: number, is4: boolean, protocol: number): boolean {
    return this.#isRight(leader, leader, is4, protocol) && this.#isRight(i, leader, is4, protocol)
  }

  // both addresses are those of the leader
  #isRight(i: number, leader: number, is4: boolean, protocol: number): boolean {
    if (this.#verified[i] === Verified.unknown) {
      const { output } = this.#env
      if (i === leader) this.#addresses[leader] = this.#sumAddresses(leader, is4)
      const length = output.bodyLength[i]!
      const sum = this.#addresses[leader]! + swap16(length) + swap16(protocol) + this.#env.sum(output.body[i]!, length)
      this.#verified[i] = fold(sum) === 0xffff ? Verified.right : Verified.wrong
    }
    return this.#verified[i] === Verified.right
  }

  #pseudo(i: number, is4: boolean, protocol: number, length: number): number {
    return fold(this.#sumAddresses(i, is4) + swap16(length) + swap16(protocol))
  }

  #sumAddresses(i: number, is4: boolean): number {
    const { output } = this.#env
    return is4 ? this.#env.sum(output.head[i]! + ip4.source, 8) : this.#env.sum(output.head[i]! + ip6.source, 32)
  }

  #begin(i: number, payload: number): void {
    this.size[i] = payload
    this.payload[i] = payload
    this.#last[i] = i
  }

  #join(leader: number, i: number, payload: number): void {
    this.leads[i] = 0
    this.next[this.#last[leader]!] = i
    this.#last[leader] = i
    this.pieces[leader]! += 1
    this.payload[leader]! += payload
  }

  #keepOpen(i: number): void {
    if (this.#openCount === OPEN_GROUPS) {
      this.#open.copyWithin(0, 1)
      this.#openCount--
    }
    this.#open[this.#openCount++] = i
  }

  #close(leader: number): void {
    if (leader < 0) return
    let k = this.#openCount - 1
    while (k >= 0 && this.#open[k] !== leader) k--
    if (k < 0) return
    this.#open.copyWithin(k, k + 1, this.#openCount)
    this.#openCount--
  }

  // ---- the header of the whole

  #savedHead = 0
  #savedHeadChecksum = 0
  #savedChecksum = 0
  #savedFlags = 0
  #savedUdpLength = 0

  /** The first packet's headers now describe the whole group; layer 4 has the sum of the pseudo-header, for the kernel to finish. */
  seal(leader: number): void {
    const { output, view } = this.#env
    const head = output.head[leader]!
    const l4 = output.body[leader]!
    const is4 = output.headLength[leader] === IPV4_HEADER
    const isTcp = (is4 ? view.getUint8(head + ip4.protocol) : view.getUint8(head + ip6.next)) === IPPROTO_TCP
    const length = this.l4Header[leader]! + this.payload[leader]!
    const checksumAt = l4 + (isTcp ? tcp.checksum : udp.checksum)
    this.#savedChecksum = view.getUint16(checksumAt)
    this.#savedFlags = view.getUint8(l4 + tcp.flags)
    if (is4) {
      this.#savedHead = view.getUint16(head + ip4.length)
      this.#savedHeadChecksum = view.getUint16(head + ip4.checksum)
      const total = IPV4_HEADER + length
      const sum = negate(this.#savedHeadChecksum) + negate(this.#savedHead) + total
      view.setUint16(head + ip4.length, total)
      view.setUint16(head + ip4.checksum, negate(fold(sum)))
    } else {
      this.#savedHead = view.getUint16(head + ip6.length)
      view.setUint16(head + ip6.length, length)
    }
    view.setUint16(checksumAt, this.#pseudo(leader, is4, isTcp ? IPPROTO_TCP : IPPROTO_UDP, length), true)
    if (isTcp) {
      const last = output.body[this.#last[leader]!]!
      if ((view.getUint8(last + tcp.flags) & TCP_PSH) !== 0) view.setUint8(l4 + tcp.flags, this.#savedFlags | TCP_PSH)
      return
    }
    this.#savedUdpLength = view.getUint16(l4 + udp.length)
    view.setUint16(l4 + udp.length, length)
  }

  /** Takes back the last `seal`. */
  unseal(leader: number): void {
    const { output, view } = this.#env
    const head = output.head[leader]!
    const l4 = output.body[leader]!
    const is4 = output.headLength[leader] === IPV4_HEADER
    const isTcp = (is4 ? view.getUint8(head + ip4.protocol) : view.getUint8(head + ip6.next)) === IPPROTO_TCP
    view.setUint16(head + (is4 ? ip4.length : ip6.length), this.#savedHead)
    if (is4) view.setUint16(head + ip4.checksum, this.#savedHeadChecksum)
    view.setUint16(l4 + (isTcp ? tcp.checksum : udp.checksum), this.#savedChecksum)
    if (isTcp) view.setUint8(l4 + tcp.flags, this.#savedFlags)
    else view.setUint16(l4 + udp.length, this.#savedUdpLength)
  }
}
