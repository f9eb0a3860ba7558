/**
 * Local packet to tunnel packets (wire.md section 2).
 *
 *   | IP header | layer 4 |   ──►   | tunnel header |  layer 4  |         one packet
 *    in the receive buffer            head slot        in place
 *
 *   | IP | TCP | 64 KB payload |  ──►  N × | tunnel header + TCP header | payload slice |     super-packet (TSO, USO)
 *
 * Every lookup is made before a byte of the packet is changed: one that misses is handed over whole and comes again. The checksum of a
 * packet that is not cut is adapted (RFC 1624), so a wrong one stays wrong; that of a super-packet the kernel left to us, so it is computed.
 * Nothing is allocated. `fault` tells why a packet was dropped or answered; `miss…` which native address wants a reference.
 */
import { fold, negate, sumOfWords, swap16 } from '../../ipref/checksum.ts'
import { Fault } from '../../ipref/faults.ts'
import {
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  icmp4ToIpref,
  icmp6ToIpref,
  isError4,
  isError6,
  NOT_CARRIED,
} from '../../ipref/icmp.ts'
import {
  ICMP_HEADER,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  icmp,
  isOpaqueProtocol,
  TCP_CWR,
  TCP_FIN,
  TCP_HEADER,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  tcp,
  UDP_HEADER,
  udp,
} from '../../ipref/ip.ts'
import { FRAGMENT_INFO } from '../../ipref/tunnelHeader.ts'
import { EchoHold, Hold } from './echoHold.ts'
import { type Environment, type PrefixWords, Verdict } from './environment.ts'
import { HostAnswer } from './hostAnswer.ts'
import { LocalPacket } from './localPacket.ts'
import { clampMss } from './mss.ts'
import {
  fragmentRoom,
  hostMtuOf,
  IPV6_MINIMUM_MTU,
  ipHeaderLength,
  nextFragment,
  tcpChecksumAt,
  tunnelRoom,
} from './mtu.ts'
import { Direction, HEAD_SLOT, MOST_PER_CALL, PEER_SELF } from './output.ts'
import { QuoteToTunnel } from './quoteToTunnel.ts'
import { MAPPED } from './tables.ts'
import { TunnelWriter } from './tunnelWriter.ts'

/** Values of gso_type in the virtio network header. */
export const Gso = { none: 0, tcp4: 1, tcp6: 4, udp: 5, ecn: 0x80 } as const

export class Encap {
  /** Why the last packet was dropped or answered. */
  fault: number = Fault.none
  /** After missNative: the address that wants a reference. */
  miss0 = 0
  miss1 = 0
  miss2 = 0
  miss3 = 0
  readonly #env: Environment
  readonly #packet: LocalPacket
  readonly #writer: TunnelWriter
  readonly #quote: QuoteToTunnel
  readonly #answer: HostAnswer
  readonly #hold: EchoHold
  #start = 0
  #length = 0
  #peer = 0
  #peerMtu = 0
  /** IPREF type and code of an ICMP message; NOT_CARRIED for other protocols */
  #icmpKind = NOT_CARRIED
  /** length of the whole ICMPv6 echo that this fragment is of; 0: not known */
  #echoTotal = 0

  constructor(env: Environment) {
    this.#env = env
    this.#packet = new LocalPacket(env.view)
    this.#writer = new TunnelWriter(env.view)
    this.#quote = new QuoteToTunnel(env)
    this.#answer = new HostAnswer(env)
    this.#hold = new EchoHold(env.bytes, env.hold, env.holdLength)
  }

  /**
   * One packet of `length` bytes at `packet`. `needsChecksum`, `gsoType`, `gsoSize`: as its virtio header says
   * (false, 0, 0 without one).
   */
  encap(packet: number, length: number, needsChecksum: boolean, gsoType: number, gsoSize: number): Verdict {
    this.#start = packet
    this.#length = length
    this.#echoTotal = 0
    return this.#encap(packet, length, needsChecksum, gsoType & ~Gso.ecn, gsoSize)
  }

  /** Forgets first fragments whose last one never came; how many. */
  expireHeld(): number {
    return this.#hold.expire(this.#env.now)
  }

  #encap(packet: number, length: number, needsChecksum: boolean, gsoType: number, gsoSize: number): Verdict {
    const local = this.#packet
    let fault = local.parse(packet, length)
    if (fault === Fault.none) fault = this.#checkSource(local)
    if (fault === Fault.none) fault = this.#checkLayer4(local)
    if (fault !== Fault.none) return this.#drop(fault)
    fault = this.#findDestination(local)
    if (fault === Fault.destination_unmapped) return this.#answerHost(fault, 0)
    if (fault !== Fault.none) return this.#drop(fault)
    if (this.#env.settings.decrementTtl && local.ttl <= 1) return this.#answerHost(Fault.ttl_exceeded, 0)
    if (this.#isError(local)) return this.#encapError(local)
    if (!this.#findSource(local)) return Verdict.missNative
    this.#fillHeader(local)
    if (gsoType !== Gso.none) return this.#encapSuper(local, gsoType, gsoSize)
    return this.#encapOne(local, needsChecksum)
  }

  // ---- checks

  #checkSource(local: LocalPacket): number {
    const { settings } = this.#env
    const networks = settings.encodingNetworks
    let served = false
    for (let i = 0; i < networks.length; i++) {
      const network = networks[i]!
      if (network.family !== local.family) continue
      served = true
      if (contains(network, local.s0, local.s1, local.s2, local.s3) && !this.#isOwn(local, false))
        return Fault.source_encoded
    }
    if (!served) return Fault.ip_version_unserved
    const fault = local.family === 4 ? checkSource4(local.s3) : checkSource6(local.s0, local.s1, local.s2, local.s3)
    if (fault !== Fault.none) return fault
    return this.#isLocal(local) ? Fault.none : Fault.source_not_local
  }

  #isLocal(local: LocalPacket): boolean {
    const networks = this.#env.settings.localNetworks
    if (networks.length === 0 || this.#isOwn(local, false)) return true
    for (let i = 0; i < networks.length; i++) {
      const network = networks[i]!
      if (network.family === local.family && contains(network, local.s0, local.s1, local.s2, local.s3)) return true
    }
    return false
  }

  /** Is the source (or the destination) the gateway's own encoded address? */
  #isOwn(local: LocalPacket, destination: boolean): boolean {
    const { settings } = this.#env
    const own = local.family === 4 ? settings.ownEncoded4 : settings.ownEncoded6
    if (!own) return false
    if (destination) return local.d3 === own[3] && local.d0 === own[0] && local.d1 === own[1] && local.d2 === own[2]
    return local.s3 === own[3] && local.s0 === own[0] && local.s1 === own[1] && local.s2 === own[2]
  }

  #checkLayer4(local: LocalPacket): number {
    const { protocol } = local
    this.#icmpKind = NOT_CARRIED
    if (protocol === IPPROTO_TCP) {
      const at = tcpChecksumAt(local.fragmentOffset, local.l4Length, local.moreFragments)
      return at === -2 ? Fault.l4_truncated : Fault.none
    }
    if (protocol === IPPROTO_UDP)
      return local.fragmentOffset === 0 && local.l4Length < UDP_HEADER ? Fault.l4_truncated : Fault.none
    if (protocol === (local.family === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) return this.#checkIcmp(local)
    if (protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6) return Fault.icmp_other_version
    return isOpaqueProtocol(protocol) ? Fault.none : Fault.protocol_not_carried
  }

  #checkIcmp(local: LocalPacket): number {
    if (local.fragmentOffset !== 0) return Fault.none
    if (local.l4Length < ICMP_HEADER) return Fault.l4_truncated
    const table = local.family === 4 ? icmp4ToIpref : icmp6ToIpref
    this.#icmpKind = table[this.#env.view.getUint16(local.l4)]!
    if (this.#icmpKind === NOT_CARRIED) return Fault.icmp_not_carried
    return this.#isError(local) && local.isFragment ? Fault.icmp_error_fragmented : Fault.none
  }

  #isError(local: LocalPacket): boolean {
    if (this.#icmpKind === NOT_CARRIED || local.fragmentOffset !== 0) return false
    const type = this.#icmpKind >> 8
    return type !== ICMP_ECHO_REQUEST && type !== ICMP_ECHO_REPLY
  }

  // ---- lookups

  #findDestination(local: LocalPacket): number {
    const { tables, settings } = this.#env
    const writer = this.#writer
    if (isMulticast(local)) return Fault.destination_multicast
    if (this.#isOwn(local, true)) return this.#toOurselves(local)
    if (!tables.findEncoded(local.d0, local.d1, local.d2, local.d3)) return Fault.destination_unmapped
    if (this.#isTrueAnswer(local)) tables.noteAnswer()
    writer.dc0 = tables.c0
    writer.dc1 = tables.c1
    writer.dc2 = tables.c2
    writer.dc3 = tables.c3
    writer.dr0 = tables.r0
    writer.dr1 = tables.r1
    writer.dr2 = tables.r2
    writer.dr3 = tables.r3
    this.#peer = tables.peer
    this.#peerMtu = tables.peerMtu
    writer.setContexts(settings.context4, settings.context6)
    if (
      writer.sc3 === writer.dc3 &&
      writer.sc0 === writer.dc0 &&
      writer.sc1 === writer.dc1 &&
      writer.sc2 === writer.dc2
    ) {
      this.#peer = PEER_SELF
    }
    return Fault.none
  }

  // to the gateway's own encoded address: our own context and the gateway's reference
  #toOurselves(local: LocalPacket): number {
    const { settings } = this.#env
    const writer = this.#writer
    const context =
      (local.family === 4 ? settings.context4 : settings.context6) ?? settings.context4 ?? settings.context6
    writer.dc0 = context ? context[0]! : 0
    writer.dc1 = context ? context[1]! : 0
    writer.dc2 = context ? context[2]! : MAPPED
    writer.dc3 = context ? context[3]! : 0
    const gateway = settings.gatewayReference
    writer.dr0 = gateway[0]!
    writer.dr1 = gateway[1]!
    writer.dr2 = gateway[2]!
    writer.dr3 = gateway[3]!
    this.#peer = PEER_SELF
    this.#peerMtu = 65535
    writer.setContexts(settings.context4, settings.context6)
    return Fault.none
  }

  #isTrueAnswer(local: LocalPacket): boolean {
    if (this.#isError(local)) return false
    if (local.protocol !== IPPROTO_TCP || local.fragmentOffset !== 0) return true
    return (this.#env.view.getUint8(local.l4 + tcp.flags) & TCP_RST) === 0
  }

  #findSource(local: LocalPacket): boolean {
    const { tables, settings } = this.#env
    const writer = this.#writer
    if (this.#isOwn(local, false)) {
      const gateway = settings.gatewayReference
      writer.sr0 = gateway[0]!
      writer.sr1 = gateway[1]!
      writer.sr2 = gateway[2]!
      writer.sr3 = gateway[3]!
      return true
    }
    if (!tables.findNative(local.s0, local.s1, local.s2, local.s3)) {
      this.miss0 = local.s0
      this.miss1 = local.s1
      this.miss2 = local.s2
      this.miss3 = local.s3
      return false
    }
    writer.sr0 = tables.r0
    writer.sr1 = tables.r1
    writer.sr2 = tables.r2
    writer.sr3 = tables.r3
    return true
  }

  // ---- output

  #fillHeader(local: LocalPacket): void {
    const writer = this.#writer
    writer.ttl = this.#env.settings.decrementTtl ? local.ttl - 1 : local.ttl
    writer.protocol =
      this.#icmpKind !== NOT_CARRIED || local.protocol === IPPROTO_ICMPV6 ? IPPROTO_ICMP : local.protocol
    writer.dontFragment = local.dontFragment
    writer.hasFragmentInfo = local.hasFragmentInfo
    writer.fragmentOffset = local.fragmentOffset
    writer.moreFragments = local.moreFragments
    writer.identification = local.identification
  }

  #encapOne(local: LocalPacket, needsChecksum: boolean): Verdict {
    const header = this.#writer.measure()
    const room = tunnelRoom(this.#peerMtu, this.#writer.family)
    const infoLength = local.hasFragmentInfo ? FRAGMENT_INFO : 0
    const fits = header + infoLength + local.l4Length <= room
    if (!fits && (this.#mustStayWhole(local) || fragmentRoom(room, header) < 8))
      return this.#answerHost(Fault.too_big, room - header)
    if (local.protocol === IPPROTO_ICMPV6 && local.isFragment) {
      const verdict = this.#holdEcho(local)
      if (verdict !== Verdict.forwarded) return verdict
    }
    const fault = this.#adaptLayer4(local, needsChecksum, room - header)
    if (fault !== Fault.none) return this.#drop(fault)
    if (fits) this.#emit(local.l4, local.l4Length, local.tos)
    else this.#emitFragments(0, local.l4, local.l4Length, room)
    // a last fragment that lets a held first one go: that one follows it
    if (this.#heldLength !== 0) this.#releaseHeld()
    return Verdict.forwarded
  }

  // every IPv6 path takes 1280 bytes (RFC 8200 section 5): a host need not send less, so the tunnel has to cut (RFC 2473 section 7.1)
  #mustStayWhole(local: LocalPacket): boolean {
    if (!local.dontFragment) return false
    return local.family === 4 || this.#length > IPV6_MINIMUM_MTU
  }

  #emit(body: number, bodyLength: number, tos: number): void {
    const { output } = this.#env
    const i = output.count++
    const head = output.slots + i * HEAD_SLOT
    output.direction[i] = Direction.tunnel
    output.head[i] = head
    output.headLength[i] = this.#writer.write(head)
    output.body[i] = body
    output.bodyLength[i] = bodyLength
    output.peer[i] = this.#peer
    output.tos[i] = tos
    output.fromGateway[i] = 0
  }

  // `prefix` bytes before `body` belong to the first fragment too: the layer 4 header of a super-packet, in `template`
  #emitFragments(prefix: number, body: number, bodyLength: number, room: number): void {
    const writer = this.#writer
    const { output, bytes } = this.#env
    const start = writer.fragmentOffset
    const lastHasMore = writer.moreFragments
    if (!writer.hasFragmentInfo) writer.identification = this.#env.random32() >>> 0
    writer.hasFragmentInfo = true
    writer.dontFragment = false
    const step = fragmentRoom(room, writer.measure())
    const total = prefix + bodyLength
    for (let done = 0, length = 0; done < total; done += length) {
      length = nextFragment(total - done, step)
      writer.fragmentOffset = start + done
      writer.moreFragments = done + length < total || lastHasMore
      if (done > 0) {
        this.#emit(body + done - prefix, length, this.#packet.tos)
        continue
      }
      this.#emit(body, length - prefix, this.#packet.tos)
      if (prefix === 0) continue
      const i = output.count - 1
      bytes.copyWithin(output.head[i]! + output.headLength[i]!, this.#template, this.#template + prefix)
      output.headLength[i]! += prefix
    }
    writer.hasFragmentInfo = this.#packet.hasFragmentInfo
    writer.dontFragment = this.#packet.dontFragment
    writer.fragmentOffset = start
    writer.moreFragments = lastHasMore
  }

  // ---- layer 4 of one packet, in place

  #adaptLayer4(local: LocalPacket, needsChecksum: boolean, l4Room: number): number {
    const { protocol, l4 } = local
    if (protocol === IPPROTO_TCP) {
      const at = tcpChecksumAt(local.fragmentOffset, local.l4Length, local.moreFragments)
      if (at < 0) return Fault.none
      // 0 is a checksum like any other, but deployed gateways would not adapt it: its other form is the same number
      if (needsChecksum) this.#computeChecksum(local, l4 + at, 0xffff)
      else this.#removeAddresses(local, l4 + at, 0xffff)
      if (local.fragmentOffset === 0) this.#clamp(local, l4Room)
      return Fault.none
    }
    if (local.fragmentOffset !== 0) return Fault.none
    if (protocol === IPPROTO_UDP) {
      if (needsChecksum) this.#computeChecksum(local, l4 + udp.checksum, 0xffff)
      else if (this.#env.view.getUint16(l4 + udp.checksum) !== 0)
        this.#removeAddresses(local, l4 + udp.checksum, 0xffff)
      return Fault.none
    }
    if (protocol === IPPROTO_ICMPV6) this.#adaptEcho(local)
    return Fault.none
  }

  #clamp(local: LocalPacket, l4Room: number): void {
    const { settings, view } = this.#env
    if (!settings.clampMss || local.l4Length < TCP_HEADER || (view.getUint8(local.l4 + tcp.flags) & TCP_SYN) === 0)
      return
    const fitsTun = settings.tunMtu - ipHeaderLength(local.family)
    clampMss(view, local.l4, local.l4Length, Math.min(l4Room, fitsTun) - TCP_HEADER)
  }

  #removeAddresses(local: LocalPacket, at: number, insteadOfZero: number): void {
    const { view } = this.#env
    const addresses =
      sumOfWords(local.s0, local.s1, local.s2, local.s3) + sumOfWords(local.d0, local.d1, local.d2, local.d3)
    const checksum = negate(fold(negate(view.getUint16(at, true)) + negate(fold(addresses))))
    view.setUint16(at, checksum === 0 ? insteadOfZero : checksum, true)
  }

  #computeChecksum(local: LocalPacket, at: number, insteadOfZero: number): void {
    const { view } = this.#env
    view.setUint16(at, 0)
    const sum = this.#env.sum(local.l4, local.l4Length) + swap16(local.protocol) + swap16(local.l4Length)
    const checksum = negate(fold(sum))
    view.setUint16(at, checksum === 0 ? insteadOfZero : checksum, true)
  }

  // ICMPv6 echo: another type, and no pseudo-header any more
  #adaptEcho(local: LocalPacket): void {
    const { view } = this.#env
    const { l4 } = local
    const pseudo =
      sumOfWords(local.s0, local.s1, local.s2, local.s3) +
      sumOfWords(local.d0, local.d1, local.d2, local.d3) +
      swap16(this.#echoTotal || local.l4Length) +
      swap16(IPPROTO_ICMPV6) +
      swap16(view.getUint16(l4))
    view.setUint16(l4, this.#icmpKind)
    const sum = negate(view.getUint16(l4 + icmp.checksum, true)) + negate(fold(pseudo)) + swap16(this.#icmpKind)
    view.setUint16(l4 + icmp.checksum, negate(fold(sum)), true)
  }

  // ---- ICMPv6 echo in fragments

  #heldLength = 0
  #heldAt = 0

  #holdEcho(local: LocalPacket): Verdict {
    const { output, now } = this.#env
    if (this.#echoTotal !== 0) return Verdict.forwarded
    const { key } = this.#hold
    key[0] = local.s0
    key[1] = local.s1
    key[2] = local.s2
    key[3] = local.s3
    key[4] = local.d0
    key[5] = local.d1
    key[6] = local.d2
    key[7] = local.d3
    key[8] = local.identification | 0
    if (local.fragmentOffset === 0) {
      const total = this.#hold.first(this.#start, this.#length, now)
      if (total === Hold.kept) return Verdict.held
      if (total === Hold.full) return this.#drop(Fault.fragment_hold_full)
      this.#echoTotal = total
      return Verdict.forwarded
    }
    if (local.moreFragments) return Verdict.forwarded
    this.#heldAt = output.scratch + output.scratchUsed
    const total = local.fragmentOffset + local.l4Length
    this.#heldLength = this.#hold.last(total, now, this.#heldAt)
    if (this.#heldLength !== 0) {
      output.scratchUsed += this.#heldLength
      this.#heldTotal = total
    }
    return Verdict.forwarded
  }

  #heldTotal = 0

  #releaseHeld(): void {
    const length = this.#heldLength
    this.#heldLength = 0
    this.#start = this.#heldAt
    this.#length = length
    this.#echoTotal = this.#heldTotal
    this.#encap(this.#heldAt, length, false, Gso.none, 0)
  }

  // ---- ICMP errors

  #encapError(local: LocalPacket): Verdict {
    const { output } = this.#env
    const to = output.scratch + output.scratchUsed
    // the quoted packet is translated first: an error about nothing of ours makes no mapping
    const length = this.#quote.translate(local.l4, local.l4Length, local.family, to)
    if (length < 0) return this.#drop(this.#quote.fault)
    if (!this.#findSource(local)) return Verdict.missNative
    this.#fillHeader(local)
    const room = tunnelRoom(this.#peerMtu, this.#writer.family)
    const header = this.#writer.measure()
    if (header + length > room) {
      if (this.#mustStayWhole(local) || fragmentRoom(room, header) < 8)
        return this.#answerHost(Fault.too_big, room - header)
      output.scratchUsed += length
      this.#emitFragments(0, to, length, room)
      return Verdict.forwarded
    }
    output.scratchUsed += length
    this.#emit(to, length, local.tos)
    return Verdict.forwarded
  }

  #answerHost(fault: number, l4Room: number): Verdict {
    const local = this.#packet
    this.fault = fault
    const { protocol, l4, l4Length, fragmentOffset } = local
    if (fragmentOffset !== 0) return Verdict.dropped
    const isIcmp = protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6
    if (isIcmp && (l4Length < 1 || isErrorType(local.family, this.#env.view.getUint8(l4)))) return Verdict.dropped
    const mtu = fault === Fault.too_big ? hostMtuOf(l4Room, 0, local.family) : 0
    return this.#answer.send(local, { fault, mtu, packet: this.#start, length: this.#length })
      ? Verdict.answered
      : Verdict.dropped
  }

  #drop(fault: number): Verdict {
    this.fault = fault
    return Verdict.dropped
  }

  // ---- super-packets

  /** layer 4 header that every piece begins with */
  #template = 0

  #encapSuper(local: LocalPacket, gsoType: number, gsoSize: number): Verdict {
    const isTcp = local.protocol === IPPROTO_TCP
    const expected = isTcp ? (local.family === 4 ? Gso.tcp4 : Gso.tcp6) : Gso.udp
    if ((!isTcp && local.protocol !== IPPROTO_UDP) || gsoType !== expected || local.isFragment || gsoSize === 0) {
      return this.#drop(Fault.vnet_header_invalid)
    }
    const l4Header = isTcp ? this.#tcpHeaderLength(local) : UDP_HEADER
    const payload = local.l4Length - l4Header
    if (l4Header < 0 || payload <= 0) return this.#drop(Fault.vnet_header_invalid)
    const header = this.#writer.measure()
    const room = tunnelRoom(this.#peerMtu, this.#writer.family)
    const infoLength = local.hasFragmentInfo ? FRAGMENT_INFO : 0
    const fits = header + infoLength + l4Header + Math.min(gsoSize, payload) <= room
    if (!fits && (local.dontFragment || fragmentRoom(room, header) < l4Header))
      return this.#answerHost(Fault.too_big, room - header)
    const perPiece = fits ? 1 : Math.ceil((l4Header + gsoSize) / fragmentRoom(room, header))
    if (Math.ceil(payload / gsoSize) * perPiece > MOST_PER_CALL) return this.#drop(Fault.vnet_header_invalid)
    if (isTcp) this.#splitTcp(local, l4Header, gsoSize, fits ? 0 : room)
    else this.#splitUdp(local, gsoSize, fits ? 0 : room)
    return Verdict.forwarded
  }

  #tcpHeaderLength(local: LocalPacket): number {
    const length = (this.#env.view.getUint8(local.l4 + tcp.dataOffset) >>> 4) * 4
    return length < TCP_HEADER || length > local.l4Length ? -1 : length
  }

  // sequence counts on; FIN and PSH only on the last piece, CWR only on the first (RFC 3168 section 6.1.2)
  #splitTcp(local: LocalPacket, l4Header: number, size: number, room: number): void {
    const { view, output } = this.#env
    const { l4 } = local
    const end = l4 + local.l4Length
    const flags = view.getUint8(l4 + tcp.flags)
    const sequence = view.getUint32(l4 + tcp.sequence)
    view.setUint32(l4 + tcp.sequence, 0)
    view.setUint8(l4 + tcp.flags, 0)
    view.setUint16(l4 + tcp.checksum, 0)
    this.#template = l4
    const fixed = this.#env.sum(l4, l4Header) + swap16(IPPROTO_TCP)
    let at = l4 + l4Header
    for (let first = true; at < end; first = false) {
      const length = Math.min(size, end - at)
      let pieceFlags = flags
      if (!first) pieceFlags &= ~TCP_CWR
      if (at + length < end) pieceFlags &= ~(TCP_FIN | TCP_PSH)
      const pieceSequence = (sequence + (at - l4 - l4Header)) >>> 0
      const sum =
        fixed +
        this.#env.sum(at, length) +
        swap16(l4Header + length) +
        swap16(pieceFlags) +
        swap16(pieceSequence >>> 16) +
        swap16(pieceSequence & 0xffff)
      const slot = output.count
      if (room === 0) this.#emitPiece(l4Header, at, length, first)
      else this.#emitFragments(l4Header, at, length, room)
      const head = output.head[slot]! + output.headLength[slot]! - l4Header
      view.setUint32(head + tcp.sequence, pieceSequence)
      view.setUint8(head + tcp.flags, pieceFlags)
      view.setUint16(head + tcp.checksum, negate(fold(sum)) || 0xffff, true)
      at += length
    }
  }

  #splitUdp(local: LocalPacket, size: number, room: number): void {
    const { view, output } = this.#env
    const { l4 } = local
    const end = l4 + local.l4Length
    const ports = view.getUint16(l4, true) + view.getUint16(l4 + 2, true)
    this.#template = l4
    let at = l4 + UDP_HEADER
    for (let first = true; at < end; first = false) {
      const length = Math.min(size, end - at)
      const datagram = swap16(UDP_HEADER + length)
      const checksum = negate(fold(ports + this.#env.sum(at, length) + datagram + datagram + swap16(IPPROTO_UDP)))
      const slot = output.count
      if (room === 0) this.#emitPiece(UDP_HEADER, at, length, first)
      else this.#emitFragments(UDP_HEADER, at, length, room)
      const head = output.head[slot]! + output.headLength[slot]! - UDP_HEADER
      view.setUint16(head + udp.length, datagram, true)
      view.setUint16(head + udp.checksum, checksum === 0 ? 0xffff : checksum, true)
      at += length
    }
  }

  // every piece has the same tunnel header and, but for a few fields, the same layer 4 header: written once, then copied
  #emitPiece(l4Header: number, at: number, length: number, first: boolean): void {
    const { output, bytes, words: memory } = this.#env
    const i = output.count
    if (first) {
      this.#emit(at, length, this.#packet.tos)
      const end = output.head[i]! + output.headLength[i]!
      bytes.copyWithin(end, this.#template, this.#template + l4Header)
      output.headLength[i]! += l4Header
      return
    }
    output.count = i + 1
    const head = output.slots + i * HEAD_SLOT
    const from = output.head[i - 1]! >> 2
    const count = (output.headLength[i - 1]! + 3) >> 2
    for (let w = 0; w < count; w++) memory[(head >> 2) + w] = memory[from + w]!
    output.direction[i] = Direction.tunnel
    output.head[i] = head
    output.headLength[i] = output.headLength[i - 1]!
    output.body[i] = at
    output.bodyLength[i] = length
    output.peer[i] = this.#peer
    output.tos[i] = this.#packet.tos
    output.fromGateway[i] = 0
  }
}

function contains(network: PrefixWords, a0: number, a1: number, a2: number, a3: number): boolean {
  const { network: n, mask: m } = network
  return (a3 & m[3]!) === n[3] && (a0 & m[0]!) === n[0] && (a1 & m[1]!) === n[1] && (a2 & m[2]!) === n[2]
}

// 0/8, 127/8, 224/3 are no hosts (RFC 6890); 169.254/16 is link-local
function checkSource4(address: number): number {
  const top = address >>> 24
  if (top === 0 || top === 127 || top >= 224) return Fault.source_not_unicast
  return address >>> 16 === 0xa9fe ? Fault.source_link_local : Fault.none
}

function checkSource6(a0: number, a1: number, a2: number, a3: number): number {
  if (a0 >>> 24 === 0xff) return Fault.source_not_unicast
  if (a0 >>> 22 === 0x3fa) return Fault.source_link_local
  // unspecified, loopback, IPv4-mapped
  if (a0 === 0 && a1 === 0 && ((a2 === 0 && (a3 === 0 || a3 === 1)) || a2 === MAPPED)) return Fault.source_not_unicast
  return Fault.none
}

function isMulticast(local: LocalPacket): boolean {
  if (local.family === 6) return local.d0 >>> 24 === 0xff
  return local.d3 >>> 28 === 0xe || local.d3 === -1
}

function isErrorType(family: number, type: number): boolean {
  return family === 4 ? isError4(type) : isError6(type)
}
