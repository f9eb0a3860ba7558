/**
 * ICMP errors of the tunnel, as a local host gets them: the message translated, and the packet quoted inside it.
 *
 *   IPREF-ICMP error                                    ICMPv4 or ICMPv6 error
 *   | type code checksum 0 mtu |                        | type code checksum … mtu |
 *   | tunnel header: ours -> theirs | layer 4 |   ──►   | IP header: ours -> encoded | layer 4 |
 *
 * The quoted packet once left through this gateway, so the roles of ours and theirs are exchanged. It may be cut; nothing behind its end is
 * read. Errors about errors are followed to three ICMP headers in all (wire.md section 2, ICMP). No mapping is made.
 */
import { fold, negate, sumOfWords, swap16 } from '../../ipref/checksum.ts'
import { Fault } from '../../ipref/faults.ts'
import {
  FRAGMENTATION_NEEDED,
  ICMP_ECHO_REPLY,
  ICMP_ECHO_REQUEST,
  iprefToIcmp4,
  iprefToIcmp6,
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
import { HostWriter } from './hostWriter.ts'
import { MOST_QUOTED, mtuTowardsHost, tcpChecksumAt } from './mtu.ts'
import { isMapped } from './tables.ts'
import { TunnelPacket } from './tunnelPacket.ts'

/** ICMP headers in one packet. */
const DEEPEST = 3

export class QuoteToHost {
  /** Why the last `translate` refused. */
  fault: number = Fault.none
  /** Where the datagram came from, and the family of its contexts; set before `translate`. */
  peerFamily = 4
  peer0 = 0
  peer1 = 0
  peer2 = 0
  peer3 = 0
  readonly #env: Environment
  readonly #packets: TunnelPacket[]
  readonly #writers: HostWriter[]

  constructor(env: Environment) {
    this.#env = env
    this.#packets = Array.from({ length: DEEPEST }, () => new TunnelPacket(env.view))
    this.#writers = Array.from({ length: DEEPEST }, () => new HostWriter(env))
  }

  /**
   * Translates the error of `length` bytes at `at` for the header in `outer` (its addresses and family) into `to`, at most
   * SCRATCH_PER_CALL bytes; its new length, or -1 (fault).
   */
  translate(at: number, length: number, outer: HostWriter, to: number): number {
    const total = this.#message(at, length, outer.family, to, 1)
    if (total >= 0) this.#writeChecksum(outer, to, total)
    return total
  }

  #writeChecksum(outer: HostWriter, to: number, length: number): void {
    const { view } = this.#env
    view.setUint16(to + icmp.checksum, 0)
    const pseudo = outer.family === 4 ? 0 : pseudoHeader(outer, length)
    view.setUint16(to + icmp.checksum, negate(fold(pseudo + this.#env.sum(to, length))), true)
  }

  #message(at: number, length: number, family: number, to: number, depth: number): number {
    const { view } = this.#env
    if (length < ICMP_HEADER) return this.#refuse(Fault.l4_truncated)
    const iprefKind = view.getUint16(at)
    const kind = (family === 4 ? iprefToIcmp4 : iprefToIcmp6)[iprefKind]!
    if (kind === NOT_CARRIED) return this.#refuse(Fault.icmp_not_carried)
    view.setUint16(to, kind)
    view.setUint32(to + 4, 0)
    if (iprefKind === FRAGMENTATION_NEEDED) {
      const told = mtuTowardsHost(view.getUint16(at + icmp.mtu), family)
      if (told === undefined) return this.#refuse(Fault.icmp_mtu_range)
      if (family === 4) view.setUint16(to + icmp.mtu, told)
      else view.setUint32(to + icmp.mtu6, told)
    }
    const quoted = Math.min(length - ICMP_HEADER, MOST_QUOTED)
    const written = this.#quoted(at + ICMP_HEADER, quoted, { family, to: to + ICMP_HEADER, depth })
    return written < 0 ? written : ICMP_HEADER + written
  }

  #quoted(at: number, length: number, into: { family: number; to: number; depth: number }): number {
    const packet = this.#packets[into.depth - 1]!
    const writer = this.#writers[into.depth - 1]!
    if (packet.parseStart(at, length) !== Fault.none) return this.#refuse(Fault.inner_header_invalid)
    if (packet.family !== this.peerFamily) return this.#refuse(Fault.inner_header_invalid)
    packet.parseEnds()
    this.#fillContext(packet, (into.depth & 1) === 1)
    writer.family = into.family
    if (!this.#findEnds(packet, writer, (into.depth & 1) === 1)) return this.#refuse(Fault.inner_unmapped)
    writer.ttl = packet.ttl
    writer.tos = 0
    writer.protocol = packet.protocol === IPPROTO_ICMP && into.family === 6 ? IPPROTO_ICMPV6 : packet.protocol
    writer.dontFragment = packet.dontFragment
    writer.hasFragmentInfo = packet.hasFragmentInfo
    writer.fragmentOffset = packet.fragmentOffset
    writer.moreFragments = packet.moreFragments
    writer.identification = packet.identification
    const header = writer.headerLength
    const written = this.#layer4(packet, writer, into.to + header, into.depth)
    if (written < 0) return written
    writer.write(into.to, written)
    return header + written
  }

  // an error about a packet of ours is about ours -> theirs, an error about such an error about theirs -> ours, and so on
  #findEnds(packet: TunnelPacket, writer: HostWriter, fromUs: boolean): boolean {
    const { sc0, sc1, sc2, sc3, dc0, dc1, dc2, dc3, sr0, sr1, sr2, sr3, dr0, dr1, dr2, dr3 } = packet
    const { tables } = this.#env
    if (fromUs) {
      if (!this.#isOurContext(packet.family, sc0, sc1, sc2, sc3) || !this.#findOurs(writer.family, sr0, sr1, sr2, sr3))
        return false
    } else if (!tables.findRemote(sc0, sc1, sc2, sc3, sr0, sr1, sr2, sr3, writer.family)) return false
    writer.s0 = fromUs ? this.#n0 : tables.a0
    writer.s1 = fromUs ? this.#n1 : tables.a1
    writer.s2 = fromUs ? this.#n2 : tables.a2
    writer.s3 = fromUs ? this.#n3 : tables.a3
    if (!fromUs) {
      if (!this.#isOurContext(packet.family, dc0, dc1, dc2, dc3) || !this.#findOurs(writer.family, dr0, dr1, dr2, dr3))
        return false
    } else if (!tables.findRemote(dc0, dc1, dc2, dc3, dr0, dr1, dr2, dr3, writer.family)) return false
    writer.d0 = fromUs ? tables.a0 : this.#n0
    writer.d1 = fromUs ? tables.a1 : this.#n1
    writer.d2 = fromUs ? tables.a2 : this.#n2
    writer.d3 = fromUs ? tables.a3 : this.#n3
    return true
  }

  // zeros in the place of the peer's context stand for the address that the error came from
  #fillContext(packet: TunnelPacket, fromUs: boolean): void {
    if (fromUs && packet.hasZeroDestination()) {
      packet.dc0 = this.peer0
      packet.dc1 = this.peer1
      packet.dc2 = this.peer2
      packet.dc3 = this.peer3
    } else if (!fromUs && packet.hasZeroSource()) {
      packet.sc0 = this.peer0
      packet.sc1 = this.peer1
      packet.sc2 = this.peer2
      packet.sc3 = this.peer3
    }
  }

  // zeros stand for ours; so does any address while ours is not known
  #isOurContext(family: number, c0: number, c1: number, c2: number, c3: number): boolean {
    const { settings } = this.#env
    const context = family === 4 ? settings.context4 : settings.context6
    if (!context || (c0 === 0 && c1 === 0 && c3 === 0 && (c2 === 0 || family === 4))) return true
    return c3 === context[3] && c0 === context[0] && c1 === context[1] && c2 === context[2]
  }

  // native address found by findOurs
  #n0 = 0
  #n1 = 0
  #n2 = 0
  #n3 = 0

  #findOurs(family: number, r0: number, r1: number, r2: number, r3: number): boolean {
    const { tables, settings } = this.#env
    const gateway = settings.gatewayReference
    if (r3 === gateway[3] && r0 === gateway[0] && r1 === gateway[1] && r2 === gateway[2]) {
      const own = family === 4 ? settings.ownEncoded4 : settings.ownEncoded6
      if (!own) return false
      this.#n0 = own[0]!
      this.#n1 = own[1]!
      this.#n2 = own[2]!
      this.#n3 = own[3]!
      return true
    }
    if (!tables.findReference(r0, r1, r2, r3) || isMapped(tables.a0, tables.a1, tables.a2) !== (family === 4))
      return false
    this.#n0 = tables.a0
    this.#n1 = tables.a1
    this.#n2 = tables.a2
    this.#n3 = tables.a3
    return true
  }

  #layer4(packet: TunnelPacket, writer: HostWriter, to: number, depth: number): number {
    const { protocol, l4, l4Length } = packet
    const isFirst = packet.fragmentOffset === 0
    if (protocol === IPPROTO_ICMP && isFirst) return this.#quotedIcmp(packet, writer, to, depth)
    if (
      protocol !== IPPROTO_TCP &&
      protocol !== IPPROTO_UDP &&
      protocol !== IPPROTO_ICMP &&
      !isOpaqueProtocol(protocol)
    ) {
      return this.#refuse(Fault.inner_not_carried)
    }
    this.#env.bytes.copyWithin(to, l4, l4 + l4Length)
    if (protocol !== IPPROTO_TCP && (!isFirst || isOpaqueProtocol(protocol))) return l4Length
    if (protocol === IPPROTO_UDP) {
      if (l4Length < 8) return this.#refuse(Fault.inner_l4_truncated)
      if (this.#env.view.getUint16(to + udp.checksum) !== 0) this.#addAddresses(writer, to + udp.checksum, 0xffff)
      return l4Length
    }
    const at = tcpChecksumAt(packet.fragmentOffset, l4Length, true)
    if (at === -2) return this.#refuse(Fault.inner_l4_truncated)
    if (at >= 0) this.#addAddresses(writer, to + at, 0)
    return l4Length
  }

  #addAddresses(writer: HostWriter, at: number, insteadOfZero: number): void {
    const { view } = this.#env
    const addresses =
      sumOfWords(writer.s0, writer.s1, writer.s2, writer.s3) + sumOfWords(writer.d0, writer.d1, writer.d2, writer.d3)
    const checksum = negate(fold(negate(view.getUint16(at, true)) + addresses))
    view.setUint16(at, checksum === 0 ? insteadOfZero : checksum, true)
  }

  #quotedIcmp(packet: TunnelPacket, writer: HostWriter, to: number, depth: number): number {
    const { view } = this.#env
    const { l4, l4Length } = packet
    if (l4Length < ICMP_HEADER) return this.#refuse(Fault.inner_l4_truncated)
    const before = view.getUint16(l4)
    const kind = (writer.family === 4 ? iprefToIcmp4 : iprefToIcmp6)[before]!
    if (kind === NOT_CARRIED) return this.#refuse(Fault.inner_not_carried)
    const type = before >> 8
    if (type !== ICMP_ECHO_REQUEST && type !== ICMP_ECHO_REPLY) {
      if (depth === DEEPEST) return this.#refuse(Fault.icmp_nested_too_deep)
      const total = this.#message(l4, l4Length, writer.family, to, depth + 1)
      if (total >= 0) this.#writeChecksum(writer, to, total)
      return total
    }
    this.#env.bytes.copyWithin(to, l4, l4 + l4Length)
    if (writer.family === 4) return l4Length
    view.setUint16(to, kind)
    const sum =
      negate(view.getUint16(to + icmp.checksum, true)) +
      negate(swap16(before)) +
      swap16(kind) +
      pseudoHeader(writer, l4Length)
    view.setUint16(to + icmp.checksum, negate(fold(sum)), true)
    return l4Length
  }

  #refuse(fault: number): number {
    this.fault = fault
    return -1
  }
}

/** Sum of the ICMPv6 pseudo-header (RFC 8200 section 8.1), folded. */
export function pseudoHeader(writer: HostWriter, length: number): number {
  return fold(
    sumOfWords(writer.s0, writer.s1, writer.s2, writer.s3) +
      sumOfWords(writer.d0, writer.d1, writer.d2, writer.d3) +
      swap16(length) +
      swap16(IPPROTO_ICMPV6),
  )
}
