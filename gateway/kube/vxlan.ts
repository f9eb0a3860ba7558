/**
 * What every node can work out of another one's address, so that VXLAN needs no learning and no questions (ARP, neighbour discovery).
 *
 *   node address 172.18.0.2 ──► hardware address 02:49:ac:12:00:02 ──► link-local address fe80::49:acff:fe12:2
 *
 * 02 marks an address given by hand. An IPv6 node address does not fit: 40 bits of its hash do, and nodes whose hashes meet are named.
 */
import { createHash } from 'node:crypto'
import { formatAddress, parseAddress } from '../../ipref/address.ts'

/** Ethernet 14, VXLAN 8, UDP 8, and the IP header. */
export const VXLAN_OVERHEAD = { 4: 50, 6: 70 } as const

const BY_HAND = 0x02
const FOR_IPV4 = 0x49

export function hardwareAddressOf(nodeAddress: string): string {
  const bytes = parseAddress(nodeAddress)
  if (!bytes) throw new Error(`${nodeAddress} is no address`)
  const rest =
    bytes.length === 4 ? [FOR_IPV4, ...bytes] : [...createHash('sha256').update(bytes).digest().subarray(0, 5)]
  return [BY_HAND, ...rest].map(byte => byte.toString(16).padStart(2, '0')).join(':')
}

/** RFC 4291, appendix A. */
export function linkLocalOf(hardwareAddress: string): string {
  const [a, b, c, d, e, f] = hardwareAddress.split(':').map(byte => Number.parseInt(byte, 16))
  return formatAddress(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a! ^ 0x02, b!, c!, 0xff, 0xfe, d!, e!, f!))
}
