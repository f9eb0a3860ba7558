/**
 * The meanings of MTU, and the arithmetic between them (wire.md section 2, MTU and fragments).
 *
 *   peer MTU     of the path to a peer gateway:  outer IP header + UDP header + tunnel header + layer 4
 *   TUN MTU      of our interface:               local IP header + layer 4
 *   host MTU     of the path to one of our hosts
 */
import { IPV4_HEADER, IPV6_FRAGMENT_HEADER, IPV6_HEADER, tcp, UDP_HEADER } from '../../ipref/ip.ts'
import { FRAGMENT_INFO, headerLength, LARGEST_HEADER, SMALLEST_HEADER } from '../../ipref/tunnelHeader.ts'

export const IPV6_MINIMUM_MTU = 1280
/** No IPv4 path has a smaller one (RFC 791). */
export const IPV4_MINIMUM_MTU = 68
/** Of a refused packet, this much is quoted at most. */
export const MOST_QUOTED = 576
export const LARGEST_UDP_PAYLOAD = 65507

/** Bytes for the tunnel header and layer 4 in one datagram over a path of this MTU. */
export function tunnelRoom(peerMtu: number, tunnelFamily: number): number {
  return Math.min(peerMtu - (tunnelFamily === 4 ? IPV4_HEADER : IPV6_HEADER) - UDP_HEADER, LARGEST_UDP_PAYLOAD)
}

export function ipHeaderLength(family: number): number {
  return family === 4 ? IPV4_HEADER : IPV6_HEADER
}

/** What a local host may send so that it fits `room` behind a tunnel header of this length. Never less than its family demands. */
export function hostMtuOf(room: number, header: number, family: number): number {
  const mtu = room - header + ipHeaderLength(family)
  return family === 6 ? Math.max(mtu, IPV6_MINIMUM_MTU) : Math.max(mtu, IPV4_MINIMUM_MTU)
}

/** "Fragmentation needed" from the local side, as the other network is told. undefined: no path has such an MTU. */
export function mtuTowardsTunnel(mtu: number, family: number): number | undefined {
  if (family === 4) return mtu >= IPV4_MINIMUM_MTU && mtu <= 65535 ? mtu : undefined
  if (mtu > 65535) return undefined
  const told = mtu + SMALLEST_HEADER - (IPV6_HEADER + IPV6_FRAGMENT_HEADER)
  return told >= 1 ? told : undefined
}

/** "Fragmentation needed" from the tunnel, as the local host is told: never too much, to IPv6 never less than 1280. */
export function mtuTowardsHost(mtu: number, family: number): number | undefined {
  const told = mtu + ipHeaderLength(family) - LARGEST_HEADER
  if (told < 1 || told > 65535) return undefined
  return family === 6 ? Math.max(told, IPV6_MINIMUM_MTU) : told
}

/**
 * MTU of the TUN device: what fits every tunnel family in use with references of 8 bytes, so that nothing is ever too big
 * for a path that takes what our own interface takes. `wireMtu` counts the outer IP header.
 */
export function tunMtuOf(wireMtu: number, tunnelFamilies: readonly number[], localFamilies: readonly number[]): number {
  let least = 65535
  for (const tunnelFamily of tunnelFamilies) {
    for (const family of localFamilies) {
      least = Math.min(
        least,
        tunnelRoom(wireMtu, tunnelFamily) - headerLength(tunnelFamily, 1) + ipHeaderLength(family),
      )
    }
  }
  return least
}

/** Layer 4 bytes of each fragment but the last. */
export function fragmentRoom(room: number, header: number): number {
  return (room - header - FRAGMENT_INFO) & ~7
}

/**
 * Length of the next fragment when `left` bytes are left and `room` (a multiple of 8) fit each: the last two are made about equal, so that
 * a path that is a little narrower does not cut one of them again.
 */
export function nextFragment(left: number, room: number): number {
  if (left <= room) return left
  return left <= 2 * room ? (((left + 1) >> 1) + 7) & ~7 : room
}

/** Where a TCP fragment at `offset` of `length` bytes has the checksum; -1: not in it; -2: it is cut in the middle, or missing for good. */
export function tcpChecksumAt(offset: number, length: number, moreFollow: boolean): number {
  const at = tcp.checksum - offset
  if (at < 0) return -1
  if (length >= at + 2) return at
  return moreFollow && length < at ? -1 : -2
}
