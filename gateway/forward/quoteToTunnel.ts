/**
 * ICMP errors of the local side, as the tunnel carries them: the message translated, and the packet quoted inside it.
 *
 *   ICMPv4 or ICMPv6 error                        IPREF-ICMP error
 *   | type code checksum … mtu |                  | type code checksum 0 mtu |
 *   | IP header: encoded -> ours | layer 4 |  ──► | tunnel header: theirs -> ours | layer 4 |
 *
 * The quoted packet once came through this gateway from the tunnel, so the roles of ours and theirs are exchanged. It may be cut;
 * nothing behind its end is read. Errors about errors are followed to three ICMP headers in all (wire.md section 2, ICMP). No mapping is made.
 */
import { fold, negate, sumOfWords, swap16 } from '../../ipref/checksum.ts'
import { Fault } from '../../ipref/faults.ts'
import {
  FRAGMENTATION_NEEDED,
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  icmp4ToIpref,
  icmp6ToIpref,
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
  udp,
} from '../../ipref/ip.ts'
import type { Environment } from './environment.ts'
import { LocalPacket } from './localPacket.ts'
import { MOST_QUOTED, mtuTowardsTunnel, tcpChecksumAt } from './mtu.ts'
import { TunnelWriter } from './tunnelWriter.ts'

/** ICMP headers in one packet. */
const DEEPEST = 3

export class QuoteToTunnel {
  /** Why the last `translate` refused. */
  fault: number = Fault.none
  readonly #env: Environment
  readonly #packets: LocalPacket[]
  readonly #writers: TunnelWriter[]

  constructor(env: Environment) {
    this.#env = env
    this.#packets = Array.from({ length: DEEPEST }, () => new LocalPacket(env.view))
    this.#writers = Array.from({ length: DEEPEST }, () => new TunnelWriter(env.view))
  }

  /** Translates the error of `length` bytes at `at` into `to` (at most SCRATCH_PER_CALL bytes); its new length, or -1 (fault). */
  translate(at: number, length: number, family: number, to: number): number {
    const total = this.#message(at, length, family, to, 1)
    if (total >= 0) this.#writeChecksum(to, total)
    return total
  }

  #writeChecksum(to: number, length: number): void {
    const { view } = this.#env
    view.setUint16(to + icmp.checksum, 0)
    view.setUint16(to + icmp.checksum, negate(fold(this.#env.sum(to, length))), true)
  }

  #message(at: number, length: number, family: number, to: number, depth: number): number {
    const { view } = this.#env
    if (length < ICMP_HEADER) return this.#refuse(Fault.l4_truncated)
    const kind = (family === 4 ? icmp4ToIpref : icmp6ToIpref)[view.getUint16(at)]!
    if (kind === NOT_CARRIED) return this.#refuse(Fault.icmp_not_carried)
    view.setUint16(to, kind)
    view.setUint16(to + icmp.checksum, view.getUint16(at + icmp.checksum))
    view.setUint32(to + 4, 0)
    let mtu = 0
    if (kind === FRAGMENTATION_NEEDED) {
      mtu = family === 4 ? view.getUint16(at + icmp.mtu) : view.getUint32(at + icmp.mtu6)
      const told = mtuTowardsTunnel(mtu, family)
      if (told === undefined) return this.#refuse(Fault.icmp_mtu_range)
      view.setUint16(to + icmp.mtu, told)
    }
    const quoted = Math.min(length - ICMP_HEADER, MOST_QUOTED)
    const written = this.#quoted(at + ICMP_HEADER, quoted, to + ICMP_HEADER, depth)
    if (written < 0) return written
    if (kind === FRAGMENTATION_NEEDED && depth === 1) this.#noteMtu(mtu)
    return ICMP_HEADER + written
  }

  // the quoted packet was on its way to our host: this is the MTU of the path there
  #noteMtu(mtu: number): void {
    const packet = this.#packets[0]!
    this.#env.tables.noteHostMtu(packet.d0, packet.d1, packet.d2, packet.d3, mtu)
  }

  #quoted(at: number, length: number, to: number, depth: number): number {
    const packet = this.#packets[depth - 1]!
    const writer = this.#writers[depth - 1]!
    if (packet.parseQuoted(at, length) !== Fault.none) return this.#refuse(Fault.inner_header_invalid)
    if (!this.#findEnds(packet, writer, (depth & 1) === 1)) return this.#refuse(Fault.inner_unmapped)
    const isIcmp = packet.protocol === (packet.family === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)
    writer.protocol = isIcmp ? IPPROTO_ICMP : packet.protocol
    writer.ttl = packet.ttl
    writer.dontFragment = packet.dontFragment
    writer.hasFragmentInfo = packet.hasFragmentInfo
    writer.fragmentOffset = packet.fragmentOffset
    writer.moreFragments = packet.moreFragments
    writer.identification = packet.identification
    writer.measure()
    const header = writer.write(to)
    const written = isIcmp ? this.#quotedIcmp(packet, to + header, depth) : this.#quotedOther(packet, to + header)
    return written < 0 ? written : header + written
  }

  // an error about a packet from the tunnel is about theirs -> ours, an error about such an error about ours -> theirs, and so on
  #findEnds(packet: LocalPacket, writer: TunnelWriter, fromTunnel: boolean): boolean {
    const { tables, settings } = this.#env
    const { s0, s1, s2, s3, d0, d1, d2, d3 } = packet
    const found = fromTunnel ? tables.findEncoded(s0, s1, s2, s3) : tables.findEncoded(d0, d1, d2, d3)
    if (!found) return false
    // theirs decides the tunnel family, so it goes into the destination fields, and is exchanged below
    writer.dc0 = tables.c0
    writer.dc1 = tables.c1
    writer.dc2 = tables.c2
    writer.dc3 = tables.c3
    writer.dr0 = tables.r0
    writer.dr1 = tables.r1
    writer.dr2 = tables.r2
    writer.dr3 = tables.r3
    writer.setContexts(settings.context4, settings.context6)
    const isOurs = fromTunnel
      ? this.#findOurs(writer, packet.family, d0, d1, d2, d3)
      : this.#findOurs(writer, packet.family, s0, s1, s2, s3)
    if (isOurs && fromTunnel) this.#exchange(writer)
    return isOurs
  }

  #findOurs(writer: TunnelWriter, family: number, a0: number, a1: number, a2: number, a3: number): boolean {
    const { tables, settings } = this.#env
    const own = family === 4 ? settings.ownEncoded4 : settings.ownEncoded6
    const isOwn = own && a3 === own[3] && a0 === own[0] && a1 === own[1] && a2 === own[2]
    if (!isOwn && !tables.findNative(a0, a1, a2, a3)) return false
    const gateway = settings.gatewayReference
    writer.sr0 = isOwn ? gateway[0]! : tables.r0
    writer.sr1 = isOwn ? gateway[1]! : tables.r1
    writer.sr2 = isOwn ? gateway[2]! : tables.r2
    writer.sr3 = isOwn ? gateway[3]! : tables.r3
    return true
  }

  #exchange(writer: TunnelWriter): void {
    const { sc0, sc1, sc2, sc3, sr0, sr1, sr2, sr3 } = writer
    writer.sc0 = writer.dc0
    writer.sc1 = writer.dc1
    writer.sc2 = writer.dc2
    writer.sc3 = writer.dc3
    writer.dc0 = sc0
    writer.dc1 = sc1
    writer.dc2 = sc2
    writer.dc3 = sc3
    writer.sr0 = writer.dr0
    writer.sr1 = writer.dr1
    writer.sr2 = writer.dr2
    writer.sr3 = writer.dr3
    writer.dr0 = sr0
    writer.dr1 = sr1
    writer.dr2 = sr2
    writer.dr3 = sr3
  }

  #copy(from: number, length: number, to: number): void {
    this.#env.bytes.copyWithin(to, from, from + length)
  }

  #quotedOther(packet: LocalPacket, to: number): number {
    const { protocol, l4, l4Length } = packet
    if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP && !isOpaqueProtocol(protocol)) {
      return this.#refuse(Fault.inner_not_carried)
    }
    this.#copy(l4, l4Length, to)
    if (isOpaqueProtocol(protocol) || (packet.fragmentOffset !== 0 && protocol === IPPROTO_UDP)) return l4Length
    if (protocol === IPPROTO_UDP) {
      if (l4Length < 8) return this.#refuse(Fault.inner_l4_truncated)
      if (this.#env.view.getUint16(to + udp.checksum) !== 0) this.#removeAddresses(packet, to + udp.checksum, 0xffff)
      return l4Length
    }
    const at = tcpChecksumAt(packet.fragmentOffset, l4Length, true)
    if (at === -2) return this.#refuse(Fault.inner_l4_truncated)
    if (at >= 0) this.#removeAddresses(packet, to + at, 0xffff)
    return l4Length
  }

  #removeAddresses(packet: LocalPacket, at: number, insteadOfZero: number): void {
    const { view } = this.#env
    const addresses =
      sumOfWords(packet.s0, packet.s1, packet.s2, packet.s3) + sumOfWords(packet.d0, packet.d1, packet.d2, packet.d3)
    const sum = fold(negate(view.getUint16(at, true)) + negate(fold(addresses)))
    const checksum = negate(sum)
    view.setUint16(at, checksum === 0 ? insteadOfZero : checksum, true)
  }

  #quotedIcmp(packet: LocalPacket, to: number, depth: number): number {
    const { view } = this.#env
    const { l4, l4Length, family } = packet
    if (packet.fragmentOffset !== 0) {
      this.#copy(l4, l4Length, to)
      return l4Length
    }
    if (l4Length < ICMP_HEADER) return this.#refuse(Fault.inner_l4_truncated)
    const kind = (family === 4 ? icmp4ToIpref : icmp6ToIpref)[view.getUint16(l4)]!
    if (kind === NOT_CARRIED) return this.#refuse(Fault.inner_not_carried)
    const type = kind >> 8
    if (type !== ICMP_ECHO_REQUEST && type !== ICMP_ECHO_REPLY) {
      if (depth === DEEPEST) return this.#refuse(Fault.icmp_nested_too_deep)
      const total = this.#message(l4, l4Length, family, to, depth + 1)
      if (total >= 0) this.#writeChecksum(to, total)
      return total
    }
    this.#copy(l4, l4Length, to)
    if (family === 6) this.#echoChecksum(packet, kind, to)
    return l4Length
  }

  #echoChecksum(packet: LocalPacket, kind: number, to: number): void {
    const { view } = this.#env
    const pseudo =
      sumOfWords(packet.s0, packet.s1, packet.s2, packet.s3) +
      sumOfWords(packet.d0, packet.d1, packet.d2, packet.d3) +
      swap16(packet.l4Claimed) +
      swap16(IPPROTO_ICMPV6) +
      swap16(view.getUint16(to))
    view.setUint16(to, kind)
    const sum = negate(view.getUint16(to + icmp.checksum, true)) + negate(fold(pseudo)) + swap16(kind)
    view.setUint16(to + icmp.checksum, negate(fold(sum)), true)
  }

  #refuse(fault: number): number {
    this.fault = fault
    return -1
  }
}
