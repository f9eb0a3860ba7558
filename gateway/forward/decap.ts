/**
 * Tunnel packet to local packet (wire.md section 2).
 *
 *   | tunnel header |  layer 4  |   ──►   | IP header | layer 4 |
 *     in the receive buffer                head slot    in place
 *
 * Every lookup is made before a byte of the packet is changed: one that misses is handed over whole and comes again. Checksums are adapted
 * (RFC 1624), so a wrong one stays wrong. Nothing is allocated. `fault` tells why a packet was dropped or answered; `miss…` which remote
 * IPREF address wants an encoded address.
 *
 * Packets of one run have the same contexts and references: what was found for the last one is kept until `forget` is called, which the caller does
 * at the start of each batch, so a mapping that changes is seen with the next batch.
 */
import { fold, negate, sumOfWords, swap16 } from '../../ipref/checksum.ts'
import { Fault } from '../../ipref/faults.ts'
import {
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  iprefToIcmp4,
  iprefToIcmp6,
  isError4,
  NOT_CARRIED,
} from '../../ipref/icmp.ts'
import {
  ICMP_HEADER,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_FRAGMENT_HEADER,
  IPV6_HEADER,
  icmp,
  isOpaqueProtocol,
  TCP_HEADER,
  TCP_SYN,
  tcp,
  UDP_HEADER,
  udp,
} from '../../ipref/ip.ts'
import { LARGEST_HEADER } from '../../ipref/tunnelHeader.ts'
import { EchoHold, Hold } from './echoHold.ts'
import { type Environment, Verdict } from './environment.ts'
import { HostWriter } from './hostWriter.ts'
import { clampMss } from './mss.ts'
import { ipHeaderLength, nextFragment, tcpChecksumAt } from './mtu.ts'
import { Direction, HEAD_SLOT } from './output.ts'
import { pseudoHeader, QuoteToHost } from './quoteToHost.ts'
import { isMapped } from './tables.ts'
import { TunnelAnswer } from './tunnelAnswer.ts'
import { TunnelPacket } from './tunnelPacket.ts'

const ENDS_WORDS = LARGEST_HEADER / 4

export class Decap {
  /** Why the last packet was dropped or answered. */
  fault: number = Fault.none
  /** After missRemote: context, reference and family of the encoded address wanted. */
  missC0 = 0
  missC1 = 0
  missC2 = 0
  missC3 = 0
  missR0 = 0
  missR1 = 0
  missR2 = 0
  missR3 = 0
  missFamily = 4
  /** Datagrams whose header and contexts were right, mapped or not: from these peers are learned. */
  validDatagrams = 0
  /** After probeAnswer: where the echo data begins. */
  probeAt = 0
  readonly #env: Environment
  readonly #packet: TunnelPacket
  readonly #writer: HostWriter
  readonly #quote: QuoteToHost
  readonly #answer: TunnelAnswer
  readonly #hold: EchoHold
  #start = 0
  #length = 0
  #tos = 0
  // outer source address
  #o0 = 0
  #o1 = 0
  #o2 = 0
  #o3 = 0
  /** IPREF type and code of an ICMP message; NOT_CARRIED for other protocols */
  #icmpKind = NOT_CARRIED
  #toGateway = false
  #hostMtu = 65535
  /** of both addresses in the IP header, for checksums */
  #addressSum = 0
  #echoTotal = 0
  #heldAt = 0
  #heldLength = 0
  #heldTotal = 0
  // the contexts and references that `#writer` and the fields above were found for; 0 bytes: none
  readonly #known = new Int32Array(ENDS_WORDS)
  #knownLength = 0
  #knownFamily = 0

  constructor(env: Environment) {
    this.#env = env
    this.#packet = new TunnelPacket(env.view)
    this.#writer = new HostWriter(env)
    this.#quote = new QuoteToHost(env)
    this.#answer = new TunnelAnswer(env)
    this.#hold = new EchoHold(env.bytes, env.hold, env.holdLength)
  }

  /** The next packet looks everything up anew. */
  forget(): void {
    this.#knownLength = 0
  }

  /** Forgets first fragments whose last one never came; how many. */
  expireHeld(): number {
    return this.#hold.expire(this.#env.now)
  }

  /** One UDP payload of `length` bytes at `datagram` that came from o0…o3 : sourcePort, with the DSCP and ECN bits `outerTos`. */
  decap(
    datagram: number,
    length: number,
    o0: number,
    o1: number,
    o2: number,
    o3: number,
    sourcePort: number,
    outerTos: number,
  ): Verdict {
    if (length === 0) return this.#drop(Fault.datagram_empty)
    if (sourcePort === 0) return this.#drop(Fault.outer_source_invalid)
    if (o0 !== this.#o0 || o1 !== this.#o1 || o2 !== this.#o2 || o3 !== this.#o3) {
      this.#knownLength = 0
      this.#o0 = o0
      this.#o1 = o1
      this.#o2 = o2
      this.#o3 = o3
    }
    this.#start = datagram
    this.#length = length
    this.#tos = outerTos
    this.#echoTotal = 0
    return this.#decap(datagram, length)
  }

  #decap(datagram: number, length: number): Verdict {
    const packet = this.#packet
    let fault = packet.parseStart(datagram, length)
    if (fault === Fault.none && packet.hasFragmentInfo) fault = packet.checkFragment()
    if (fault !== Fault.none) return this.#drop(fault)
    const isKnown = this.#isKnown(packet)
    if (!isKnown) {
      fault = this.#checkEnds(packet)
      if (fault !== Fault.none) return this.#drop(fault)
    }
    this.validDatagrams++
    fault = this.#checkLayer4(packet)
    if (fault !== Fault.none) return this.#drop(fault)
    if (!isKnown) {
      this.#knownLength = 0
      fault = this.#findDestination(packet)
      if (fault === Fault.destination_unmapped) return this.#answerTunnel(fault)
      if (fault !== Fault.none) return this.#drop(fault)
    }
    if (this.#toGateway) {
      const verdict = this.#gatewayItself(packet)
      if (verdict !== Verdict.missRemote) return verdict
    }
    if (this.#env.settings.decrementTtl && packet.ttl <= 1) return this.#answerTunnel(Fault.ttl_exceeded)
    fault = this.#checkKind(packet)
    if (fault !== Fault.none) return this.#drop(fault)
    if (!isKnown) {
      if (!this.#findSource(packet)) return this.#isError(packet) ? this.#missOfError(packet) : Verdict.missRemote
      this.#remember(packet)
      const { s0, s1, s2, s3, d0, d1, d2, d3 } = this.#writer
      this.#addressSum = sumOfWords(s0, s1, s2, s3) + sumOfWords(d0, d1, d2, d3)
    }
    this.#fillHeader(packet)
    if (this.#isError(packet)) return this.#decapError(packet)
    return this.#decapOne(packet)
  }

  // ---- what is known from the packet before

  #isKnown(packet: TunnelPacket): boolean {
    if (packet.endsLength !== this.#knownLength || packet.family !== this.#knownFamily) return false
    const { view } = this.#env
    const known = this.#known
    for (let i = 0, at = packet.ends; i < packet.endsLength >> 2; i++, at += 4) {
      if (view.getInt32(at, true) !== known[i]) return false
    }
    return true
  }

  #remember(packet: TunnelPacket): void {
    const { view } = this.#env
    for (let i = 0, at = packet.ends; i < packet.endsLength >> 2; i++, at += 4) this.#known[i] = view.getInt32(at, true)
    this.#knownLength = packet.endsLength
    this.#knownFamily = packet.family
  }

  // ---- checks

  #checkEnds(packet: TunnelPacket): number {
    packet.parseEnds()
    if (!isHostAddress(this.#o0, this.#o1, this.#o2, this.#o3)) return Fault.outer_source_invalid
    const outerFamily = isMapped(this.#o0, this.#o1, this.#o2) ? 4 : 6
    if (packet.family !== outerFamily) return Fault.source_context_mismatch
    if (packet.hasZeroSource()) {
      packet.sc0 = this.#o0
      packet.sc1 = this.#o1
      packet.sc2 = this.#o2
      packet.sc3 = this.#o3
    } else if (
      packet.sc3 !== this.#o3 ||
      packet.sc0 !== this.#o0 ||
      packet.sc1 !== this.#o1 ||
      packet.sc2 !== this.#o2
    ) {
      return Fault.source_context_mismatch
    }
    const { settings } = this.#env
    const context = packet.family === 4 ? settings.context4 : settings.context6
    if (context && !packet.hasZeroDestination()) {
      if (
        packet.dc3 !== context[3] ||
        packet.dc0 !== context[0] ||
        packet.dc1 !== context[1] ||
        packet.dc2 !== context[2]
      ) {
        return Fault.destination_context_foreign
      }
    }
    return packet.sr0 === 0 && packet.sr1 === 0 && packet.sr2 === 0 && packet.sr3 === 0
      ? Fault.reference_zero
      : Fault.none
  }

  #checkLayer4(packet: TunnelPacket): number {
    const { protocol, l4Length } = packet
    this.#icmpKind = NOT_CARRIED
    const isFirst = packet.fragmentOffset === 0
    if (protocol === IPPROTO_TCP) {
      const at = tcpChecksumAt(packet.fragmentOffset, l4Length, packet.moreFragments)
      return at === -2 ? Fault.l4_truncated : Fault.none
    }
    if (protocol === IPPROTO_UDP) return isFirst && l4Length < UDP_HEADER ? Fault.l4_truncated : Fault.none
    if (protocol !== IPPROTO_ICMP) return isOpaqueProtocol(protocol) ? Fault.none : Fault.protocol_not_carried
    if (!isFirst) return Fault.none
    if (l4Length < ICMP_HEADER) return Fault.l4_truncated
    this.#icmpKind = this.#env.view.getUint16(packet.l4)
    if (iprefToIcmp4[this.#icmpKind] === NOT_CARRIED) return Fault.icmp_not_carried
    return this.#isError(packet) && packet.isFragment ? Fault.icmp_error_fragmented : Fault.none
  }

  #isError(packet: TunnelPacket): boolean {
    if (this.#icmpKind === NOT_CARRIED || packet.fragmentOffset !== 0) return false
    const type = this.#icmpKind >> 8
    return type !== ICMP_ECHO_REQUEST && type !== ICMP_ECHO_REPLY
  }

  // what depends on the family of the host
  #checkKind(packet: TunnelPacket): number {
    if (this.#writer.family === 4) return Fault.none
    if (this.#icmpKind !== NOT_CARRIED && iprefToIcmp6[this.#icmpKind] === NOT_CARRIED) return Fault.icmp_not_carried
    if (packet.protocol !== IPPROTO_UDP || packet.fragmentOffset !== 0 || !packet.isFragment) return Fault.none
    return this.#env.view.getUint16(packet.l4 + udp.checksum) === 0 ? Fault.udp_checksum_missing : Fault.none
  }

  /** decisions.md 1. missRemote here means: let it through to our own host. Answers to our own probes are ours, open or not. */
  #gatewayItself(packet: TunnelPacket): Verdict {
    const { gatewayOpen, probeId } = this.#env.settings
    const isOther = packet.protocol !== IPPROTO_ICMP || (packet.isFragment && packet.fragmentOffset !== 0)
    if (!isOther && this.#isError(packet)) return Verdict.missRemote
    const isRequest = this.#icmpKind >> 8 === ICMP_ECHO_REQUEST
    const isOurs = !isOther && !isRequest && this.#env.view.getUint16(packet.l4 + icmp.id) === probeId
    if (gatewayOpen && !isOurs) return Verdict.missRemote
    // the answer to a large probe may come in fragments; the first proves as much
    if (isOther || (packet.isFragment && !isOurs)) return this.#drop(Fault.gateway_closed)
    if (isRequest) {
      this.#answer.sendEchoReply(packet)
      return Verdict.forwarded
    }
    if (!isOurs) return Verdict.missRemote
    this.probeAt = packet.l4 + ICMP_HEADER
    return packet.l4Length >= ICMP_HEADER + 16 ? Verdict.probeAnswer : this.#drop(Fault.l4_truncated)
  }

  // ---- lookups

  #findDestination(packet: TunnelPacket): number {
    const { tables, settings } = this.#env
    const writer = this.#writer
    const gateway = settings.gatewayReference
    this.#toGateway =
      packet.dr3 === gateway[3] && packet.dr0 === gateway[0] && packet.dr1 === gateway[1] && packet.dr2 === gateway[2]
    this.#hostMtu = 65535
    if (this.#toGateway) {
      const own = settings.ownEncoded4 ?? settings.ownEncoded6
      if (!own) return Fault.destination_unmapped
      writer.family = settings.ownEncoded4 ? 4 : 6
      writer.d0 = own[0]!
      writer.d1 = own[1]!
      writer.d2 = own[2]!
      writer.d3 = own[3]!
      return Fault.none
    }
    if (!tables.findReference(packet.dr0, packet.dr1, packet.dr2, packet.dr3)) return Fault.destination_unmapped
    writer.d0 = tables.a0
    writer.d1 = tables.a1
    writer.d2 = tables.a2
    writer.d3 = tables.a3
    writer.family = isMapped(tables.a0, tables.a1, tables.a2) ? 4 : 6
    this.#hostMtu = tables.hostMtu
    if (tables.isPublished && !this.#mayReach(packet)) return Fault.peer_denied
    return (writer.family === 4 ? settings.ownEncoded4 : settings.ownEncoded6) ? Fault.none : Fault.ip_version_unserved
  }

  // other hosts of ours get replies only, which is not for a policy to refuse
  #mayReach({ sc0, sc1, sc2, sc3, dr0, dr1, dr2, dr3 }: TunnelPacket): boolean {
    return this.#env.mayReach(sc0, sc1, sc2, sc3, dr0, dr1, dr2, dr3)
  }

  #findSource(packet: TunnelPacket): boolean {
    const { tables, settings } = this.#env
    const writer = this.#writer
    if (this.#isFromOurselves(packet)) {
      const own = (writer.family === 4 ? settings.ownEncoded4 : settings.ownEncoded6)!
      writer.s0 = own[0]!
      writer.s1 = own[1]!
      writer.s2 = own[2]!
      writer.s3 = own[3]!
      return true
    }
    const { sc0, sc1, sc2, sc3, sr0, sr1, sr2, sr3 } = packet
    if (tables.findRemote(sc0, sc1, sc2, sc3, sr0, sr1, sr2, sr3, writer.family)) {
      writer.s0 = tables.a0
      writer.s1 = tables.a1
      writer.s2 = tables.a2
      writer.s3 = tables.a3
      return true
    }
    this.missC0 = sc0
    this.missC1 = sc1
    this.missC2 = sc2
    this.missC3 = sc3
    this.missR0 = sr0
    this.missR1 = sr1
    this.missR2 = sr2
    this.missR3 = sr3
    this.missFamily = writer.family
    return false
  }

  #isFromOurselves(packet: TunnelPacket): boolean {
    const { settings } = this.#env
    const context = packet.family === 4 ? settings.context4 : settings.context6
    const gateway = settings.gatewayReference
    if (!context || packet.sr3 !== gateway[3] || packet.sr0 !== gateway[0]) return false
    if (packet.sr1 !== gateway[1] || packet.sr2 !== gateway[2]) return false
    return (
      packet.sc3 === context[3] && packet.sc0 === context[0] && packet.sc1 === context[1] && packet.sc2 === context[2]
    )
  }

  // ---- output

  #fillHeader(packet: TunnelPacket): void {
    const writer = this.#writer
    writer.ttl = this.#env.settings.decrementTtl ? packet.ttl - 1 : packet.ttl
    writer.tos = this.#tos
    writer.protocol = packet.protocol === IPPROTO_ICMP && writer.family === 6 ? IPPROTO_ICMPV6 : packet.protocol
    writer.dontFragment = packet.dontFragment
    writer.hasFragmentInfo = packet.hasFragmentInfo
    writer.fragmentOffset = packet.fragmentOffset
    writer.moreFragments = packet.moreFragments
    writer.identification = packet.identification
  }

  #decapOne(packet: TunnelPacket): Verdict {
    const writer = this.#writer
    const needsLength = packet.protocol === IPPROTO_ICMP && writer.family === 6 && packet.isFragment
    if (needsLength) {
      const verdict = this.#holdEcho(packet)
      if (verdict !== Verdict.forwarded) return verdict
    }
    this.#adaptLayer4(packet)
    this.#emitWhole(packet.l4, packet.l4Length)
    if (this.#heldLength !== 0) this.#releaseHeld()
    return Verdict.forwarded
  }

  // an IPv4 packet that is too long is cut, or answered, by the next router: the kernel. No IPv6 router cuts
  #emitWhole(l4: number, l4Length: number): void {
    const writer = this.#writer
    const tooLong = writer.family === 6 && !writer.dontFragment && writer.headerLength + l4Length > this.#hostMtu
    if (tooLong) this.#emitFragments(l4, l4Length)
    else this.#emit(l4, l4Length)
  }

  #emit(l4: number, l4Length: number): void {
    const { output } = this.#env
    const i = output.count++
    const head = output.slots + i * HEAD_SLOT
    output.direction[i] = Direction.host
    output.head[i] = head
    output.headLength[i] = this.#writer.write(head, l4Length)
    output.body[i] = l4
    output.bodyLength[i] = l4Length
    output.fromGateway[i] = 0
  }

  #emitFragments(l4: number, l4Length: number): void {
    const writer = this.#writer
    const start = writer.fragmentOffset
    const lastHasMore = writer.moreFragments
    if (!writer.hasFragmentInfo) writer.identification = this.#env.random32() >>> 0
    writer.hasFragmentInfo = true
    const step = (Math.max(this.#hostMtu, 1280) - IPV6_HEADER - IPV6_FRAGMENT_HEADER) & ~7
    for (let done = 0, length = 0; done < l4Length; done += length) {
      length = nextFragment(l4Length - done, step)
      writer.fragmentOffset = start + done
      writer.moreFragments = done + length < l4Length || lastHasMore
      this.#emit(l4 + done, length)
    }
  }

  // ---- layer 4, in place

  #adaptLayer4(packet: TunnelPacket): void {
    const { protocol, l4 } = packet
    const { view } = this.#env
    if (protocol === IPPROTO_TCP) {
      const at = tcpChecksumAt(packet.fragmentOffset, packet.l4Length, packet.moreFragments)
      if (at >= 0) this.#addAddresses(l4 + at, 0)
      if (packet.fragmentOffset === 0) this.#clamp(packet)
    } else if (packet.fragmentOffset !== 0) return
    else if (protocol === IPPROTO_UDP) {
      if (view.getUint16(l4 + udp.checksum) !== 0) this.#addAddresses(l4 + udp.checksum, 0xffff)
      else if (this.#writer.family === 6) this.#computeUdpChecksum(packet)
    } else if (protocol === IPPROTO_ICMP && this.#writer.family === 6) this.#adaptEcho(packet)
  }

  #addAddresses(at: number, insteadOfZero: number): void {
    const { view } = this.#env
    const checksum = negate(fold(negate(view.getUint16(at, true)) + this.#addressSum))
    view.setUint16(at, checksum === 0 ? insteadOfZero : checksum, true)
  }

  // RFC 8200 section 8.1: none is not allowed in IPv6
  #computeUdpChecksum(packet: TunnelPacket): void {
    const { view } = this.#env
    const { s0, s1, s2, s3, d0, d1, d2, d3 } = this.#writer
    const sum =
      this.#env.sum(packet.l4, packet.l4Length) +
      sumOfWords(s0, s1, s2, s3) +
      sumOfWords(d0, d1, d2, d3) +
      swap16(packet.l4Length) +
      swap16(IPPROTO_UDP)
    view.setUint16(packet.l4 + udp.checksum, negate(fold(sum)) || 0xffff, true)
  }

  #clamp(packet: TunnelPacket): void {
    const { settings, view } = this.#env
    if (!settings.clampMss || packet.l4Length < TCP_HEADER || (view.getUint8(packet.l4 + tcp.flags) & TCP_SYN) === 0)
      return
    clampMss(view, packet.l4, packet.l4Length, settings.tunMtu - ipHeaderLength(this.#writer.family) - TCP_HEADER)
  }

  #adaptEcho(packet: TunnelPacket): void {
    const { view } = this.#env
    const { l4 } = packet
    const kind = iprefToIcmp6[this.#icmpKind]!
    view.setUint16(l4, kind)
    const sum =
      negate(view.getUint16(l4 + icmp.checksum, true)) +
      negate(swap16(this.#icmpKind)) +
      swap16(kind) +
      pseudoHeader(this.#writer, this.#echoTotal || packet.l4Length)
    view.setUint16(l4 + icmp.checksum, negate(fold(sum)), true)
  }

  // ---- echo to IPv6 hosts, in fragments

  #holdEcho(packet: TunnelPacket): Verdict {
    const { output, now } = this.#env
    if (this.#echoTotal !== 0) return Verdict.forwarded
    const { key } = this.#hold
    const writer = this.#writer
    key[0] = writer.s0
    key[1] = writer.s1
    key[2] = writer.s2
    key[3] = writer.s3
    key[4] = writer.d0
    key[5] = writer.d1
    key[6] = writer.d2
    key[7] = writer.d3
    key[8] = packet.identification | 0
    if (packet.fragmentOffset === 0) {
      const total = this.#hold.first(this.#start, this.#length, now)
      if (total === Hold.kept) return Verdict.held
      if (total === Hold.full) return this.#drop(Fault.fragment_hold_full)
      this.#echoTotal = total
      return Verdict.forwarded
    }
    if (packet.moreFragments) return Verdict.forwarded
    this.#heldAt = output.scratch + output.scratchUsed
    this.#heldTotal = packet.fragmentOffset + packet.l4Length
    this.#heldLength = this.#hold.last(this.#heldTotal, now, this.#heldAt)
    output.scratchUsed += (this.#heldLength + 3) & ~3
    return Verdict.forwarded
  }

  #releaseHeld(): void {
    const length = this.#heldLength
    this.#heldLength = 0
    this.#start = this.#heldAt
    this.#length = length
    this.#echoTotal = this.#heldTotal
    this.#decap(this.#heldAt, length)
  }

  // ---- ICMP errors

  #decapError(packet: TunnelPacket): Verdict {
    const { output } = this.#env
    const to = output.scratch + output.scratchUsed
    const length = this.#translateError(packet, to)
    if (length < 0) return this.#drop(this.#quote.fault)
    output.scratchUsed += (length + 3) & ~3
    this.#emitWhole(to, length)
    return Verdict.forwarded
  }

  // an error about nothing of ours makes no mapping for who sent it (RFC 5508 section 7)
  #missOfError(packet: TunnelPacket): Verdict {
    const { output } = this.#env
    const length = this.#translateError(packet, output.scratch + output.scratchUsed)
    return length < 0 ? this.#drop(this.#quote.fault) : Verdict.missRemote
  }

  #translateError(packet: TunnelPacket, to: number): number {
    const quote = this.#quote
    quote.peerFamily = packet.family
    quote.peer0 = this.#o0
    quote.peer1 = this.#o1
    quote.peer2 = this.#o2
    quote.peer3 = this.#o3
    return quote.translate(packet.l4, packet.l4Length, this.#writer, to)
  }

  #answerTunnel(fault: number): Verdict {
    this.fault = fault
    const packet = this.#packet
    if (packet.fragmentOffset !== 0) return Verdict.dropped
    if (packet.protocol === IPPROTO_ICMP && isError4(this.#env.view.getUint8(packet.l4))) return Verdict.dropped
    packet.parseEnds()
    const about = { fault, mtu: 0, packet: this.#start, length: this.#length }
    return this.#answerTo(packet, about) ? Verdict.answered : Verdict.dropped
  }

  #answerTo(packet: TunnelPacket, about: { fault: number; mtu: number; packet: number; length: number }): boolean {
    if (packet.hasZeroSource()) {
      packet.sc0 = this.#o0
      packet.sc1 = this.#o1
      packet.sc2 = this.#o2
      packet.sc3 = this.#o3
    }
    return this.#answer.send(packet, about)
  }

  #drop(fault: number): Verdict {
    this.fault = fault
    return Verdict.dropped
  }
}

// 0/8, 127/8, 224/3 and the like send nothing (RFC 1122 section 3.2.1.3, RFC 6890)
function isHostAddress(a0: number, a1: number, a2: number, a3: number): boolean {
  if (isMapped(a0, a1, a2)) {
    const top = a3 >>> 24
    return top !== 0 && top !== 127 && top < 224
  }
  if (a0 >>> 24 === 0xff) return false
  return a0 !== 0 || a1 !== 0 || a2 !== 0 || (a3 !== 0 && a3 !== 1)
}
