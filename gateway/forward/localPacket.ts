/**
 * One IPv4 or IPv6 packet of the local side, taken apart: where its layer 4 begins and what its headers say.
 *
 * IPv4 options and IPv6 hop-by-hop, routing (no segments left) and destination options headers are skipped, as RFC 7915 sections 4.1 and 5.1 do.
 * An instance is reused for every packet; `parse` writes every field.
 */
import { fold } from '../../ipref/checksum.ts'
import { Fault } from '../../ipref/faults.ts'
import {
  IP4_DF,
  IP4_MF,
  IP4_OFFSET,
  IPV4_HEADER,
  IPV6_FRAGMENT_HEADER,
  IPV6_HEADER,
  ip4,
  ip6,
  MAX_PACKET,
  NEXT_DESTINATION,
  NEXT_FRAGMENT,
  NEXT_HOP_BY_HOP,
  NEXT_ROUTING,
} from '../../ipref/ip.ts'
import { MAPPED } from './tables.ts'

const OPTION_END = 0
const OPTION_NOP = 1
const OPTION_LOOSE_ROUTE = 131
const OPTION_STRICT_ROUTE = 137

export class LocalPacket {
  family = 4
  tos = 0
  ttl = 0
  protocol = 0
  /** offset of layer 4 in the memory, bytes of it that are there, and bytes that the header says there are */
  l4 = 0
  l4Length = 0
  l4Claimed = 0
  dontFragment = false
  /** has fragment info: is a fragment, or (IPv6) carries a Fragment header */
  hasFragmentInfo = false
  fragmentOffset = 0
  moreFragments = false
  identification = 0
  /** both addresses, as they stand in the header: for checksums */
  addresses = 0
  addressesLength = 0
  s0 = 0
  s1 = 0
  s2 = 0
  s3 = 0
  d0 = 0
  d1 = 0
  d2 = 0
  d3 = 0
  readonly #view: DataView
  #next = 0
  #at = 0

  constructor(view: DataView) {
    this.#view = view
  }

  get isFragment(): boolean {
    return this.fragmentOffset !== 0 || this.moreFragments
  }

  /** Fault.none, or why it is refused. Bytes behind what the header counts are ignored. */
  parse(packet: number, length: number): number {
    return this.#parse(packet, length, false)
  }

  /** A packet quoted in an ICMP error: it may end before its header says. */
  parseQuoted(packet: number, length: number): number {
    return this.#parse(packet, length, true)
  }

  #parse(packet: number, length: number, quoted: boolean): number {
    if (length < IPV4_HEADER) return Fault.ip_header_invalid
    const version = this.#view.getUint8(packet) >>> 4
    if (version === 4) return this.#parse4(packet, length, quoted)
    if (version === 6) return this.#parse6(packet, length, quoted)
    return Fault.ip_header_invalid
  }

  #parse4(packet: number, length: number, quoted: boolean): number {
    const view = this.#view
    const headerLength = (view.getUint8(packet) & 0x0f) * 4
    if (headerLength < IPV4_HEADER || headerLength > length) return Fault.ip_header_invalid
    const total = view.getUint16(packet + ip4.length)
    if (total < headerLength || (total > length && !quoted)) return Fault.ip_length_mismatch
    if (!quoted && this.#sumHeader(packet, headerLength) !== 0xffff) return Fault.ip_header_invalid
    const fragment = view.getUint16(packet + ip4.fragment)
    this.family = 4
    this.tos = view.getUint8(packet + ip4.tos)
    this.ttl = view.getUint8(packet + ip4.ttl)
    this.protocol = view.getUint8(packet + ip4.protocol)
    this.l4 = packet + headerLength
    this.l4Claimed = total - headerLength
    this.l4Length = Math.min(total, length) - headerLength
    this.dontFragment = (fragment & IP4_DF) !== 0
    this.fragmentOffset = (fragment & IP4_OFFSET) * 8
    this.moreFragments = (fragment & IP4_MF) !== 0
    this.hasFragmentInfo = this.fragmentOffset !== 0 || this.moreFragments
    this.identification = view.getUint16(packet + ip4.identification)
    this.addresses = packet + ip4.source
    this.addressesLength = 8
    this.s0 = 0
    this.s1 = 0
    this.s2 = MAPPED
    this.s3 = view.getInt32(packet + ip4.source)
    this.d0 = 0
    this.d1 = 0
    this.d2 = MAPPED
    this.d3 = view.getInt32(packet + ip4.destination)
    if (headerLength > IPV4_HEADER && this.#isSourceRouted(packet + IPV4_HEADER, packet + headerLength)) {
      return Fault.source_route
    }
    return this.#checkFragment()
  }

  #sumHeader(at: number, length: number): number {
    let sum = 0
    for (let i = 0; i < length; i += 2) sum += this.#view.getUint16(at + i)
    return fold(sum)
  }

  // an option whose length makes no sense ends the list: none of them is carried anyway
  #isSourceRouted(at: number, end: number): boolean {
    const view = this.#view
    while (at < end) {
      const option = view.getUint8(at)
      if (option === OPTION_END) return false
      if (option === OPTION_NOP) {
        at++
        continue
      }
      const length = at + 1 < end ? view.getUint8(at + 1) : 0
      if (length < 2 || at + length > end) return false
      if (option === OPTION_LOOSE_ROUTE || option === OPTION_STRICT_ROUTE) {
        if (length >= 3 && view.getUint8(at + 2) <= length) return true
      }
      at += length
    }
    return false
  }

  #parse6(packet: number, length: number, quoted: boolean): number {
    const view = this.#view
    if (length < IPV6_HEADER) return Fault.ip_header_invalid
    const payload = view.getUint16(packet + ip6.length)
    if (payload + IPV6_HEADER > length && !quoted) return Fault.ip_length_mismatch
    this.family = 6
    this.tos = (view.getUint16(packet) >>> 4) & 0xff
    this.ttl = view.getUint8(packet + ip6.hopLimit)
    this.addresses = packet + ip6.source
    this.addressesLength = 32
    this.s0 = view.getInt32(packet + 8)
    this.s1 = view.getInt32(packet + 12)
    this.s2 = view.getInt32(packet + 16)
    this.s3 = view.getInt32(packet + 20)
    this.d0 = view.getInt32(packet + 24)
    this.d1 = view.getInt32(packet + 28)
    this.d2 = view.getInt32(packet + 32)
    this.d3 = view.getInt32(packet + 36)
    this.dontFragment = true
    this.hasFragmentInfo = false
    this.fragmentOffset = 0
    this.moreFragments = false
    this.identification = 0
    const end = packet + Math.min(length, payload + IPV6_HEADER)
    this.#next = view.getUint8(packet + ip6.next)
    this.#at = packet + IPV6_HEADER
    const fault = this.#skipExtensions(end)
    if (fault !== Fault.none) return fault
    this.protocol = this.#next
    this.l4 = this.#at
    this.l4Length = end - this.#at
    this.l4Claimed = packet + IPV6_HEADER + payload - this.#at
    return this.#checkFragment()
  }

  #skipExtensions(end: number): number {
    const view = this.#view
    for (;;) {
      const next = this.#next
      const isOptions = next === NEXT_HOP_BY_HOP || next === NEXT_DESTINATION
      if (!isOptions && next !== NEXT_ROUTING && next !== NEXT_FRAGMENT) return Fault.none
      if (this.hasFragmentInfo) return Fault.protocol_not_carried
      if (this.#at + 8 > end) return Fault.ip_header_invalid
      if (next === NEXT_FRAGMENT) {
        if (!this.#takeFragmentHeader()) return Fault.fragment_invalid
        continue
      }
      if (next === NEXT_ROUTING && view.getUint8(this.#at + 3) !== 0) return Fault.source_route
      const length = (view.getUint8(this.#at + 1) + 1) * 8
      if (this.#at + length > end) return Fault.ip_header_invalid
      this.#next = view.getUint8(this.#at)
      this.#at += length
    }
  }

  // no IPv6 router cuts, so DF stays set; reserved bits must be zero
  #takeFragmentHeader(): boolean {
    const view = this.#view
    const offset = view.getUint16(this.#at + 2)
    if (view.getUint8(this.#at + 1) !== 0 || (offset & 6) !== 0) return false
    this.hasFragmentInfo = true
    this.fragmentOffset = offset & 0xfff8
    this.moreFragments = (offset & 1) !== 0
    this.identification = view.getUint32(this.#at + 4)
    this.#next = view.getUint8(this.#at)
    this.#at += IPV6_FRAGMENT_HEADER
    return true
  }

  #checkFragment(): number {
    if (!this.hasFragmentInfo) return Fault.none
    if (this.moreFragments && (this.l4Claimed & 7) !== 0) return Fault.fragment_invalid
    if (this.fragmentOffset + this.l4Claimed > MAX_PACKET) return Fault.fragment_beyond_end
    return Fault.none
  }
}
