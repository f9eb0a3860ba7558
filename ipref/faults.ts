/**
 * Why one packet was refused: the one closed list.
 *
 * A name is a metric label, a log field and a row of the table in docs/metrics.md, so it is never renamed.
 * Packet code passes the number (an attacker chooses how often we refuse, and a number costs nothing);
 * everything that people read uses the name.
 */
export const faultDescriptions = {
  none: 'not refused',
  // tunnel datagram
  datagram_empty: 'UDP datagram of no bytes',
  outer_source_invalid: 'the datagram comes from port 0 or from an address that no host can have',
  tunnel_header_invalid: 'tunnel header too short, of an unknown version, or with reserved bits set',
  source_context_mismatch: 'the source context address is not the address that the datagram came from',
  destination_context_foreign: 'the destination context address is not ours',
  reference_zero: '0 is no reference',
  // local packet
  vnet_header_invalid: 'offload header of the TUN device that does not fit its packet',
  ip_header_invalid: 'IP header too short, of an unknown version, or with a wrong checksum',
  ip_length_mismatch: 'length field says more than there is, or nothing',
  ip_version_unserved: 'no encoding network of this IP version',
  source_route: 'source route with hops left',
  source_encoded: 'source lies in the encoding network',
  source_link_local: 'source is a link-local address',
  source_not_unicast: 'source is not a unicast address',
  source_not_local: 'source is not in one of the local networks (local-net)',
  // mapping
  destination_unmapped: 'nothing is mapped to the destination',
  destination_multicast: 'the destination is a multicast address',
  source_unmapped: 'the source has no mapping and may have none now',
  quota_exceeded: 'the source has no mapping and its quota of new ones is used up',
  miss_queue_full: 'too many packets wait for a mapping',
  gateway_closed: 'only echo and ICMP errors reach the gateway itself (gateway-open)',
  peer_unverified: 'a peer that has not proved its port may get three times the bytes it sent',
  peer_denied: 'policy: this peer may not reach this reference',
  // layer 4
  protocol_not_carried: 'layer 4 protocol that is not carried',
  l4_truncated: 'layer 4 header cut short',
  icmp_not_carried: 'ICMP type and code that is not carried',
  icmp_other_version: 'ICMPv4 in IPv6, or ICMPv6 in IPv4',
  icmp_error_fragmented: 'ICMP error that is itself a fragment',
  icmp_nested_too_deep: 'ICMP errors quoted in ICMP errors, more than three',
  icmp_mtu_range: 'fragmentation needed, with an MTU that no path has',
  udp_checksum_missing: 'UDP fragment without a checksum, towards an IPv6 host',
  // quoted packet
  inner_header_invalid: 'the packet quoted in an ICMP error has no valid header',
  inner_l4_truncated: 'the packet quoted in an ICMP error is cut inside what must be translated',
  inner_unmapped: 'the packet quoted in an ICMP error has no mapping',
  inner_not_carried: 'the packet quoted in an ICMP error is of a kind that is not carried',
  // fragments and sizes
  fragment_invalid: 'fragment header with reserved bits, cut, doubled, or a length that is not a multiple of 8',
  fragment_beyond_end: 'a fragment that would end beyond 65535 bytes',
  fragment_hold_full: 'too many first fragments are held back',
  fragment_hold_expired: 'a held first fragment whose last one never came',
  ttl_exceeded: 'TTL or hop limit ran out',
  too_big: 'does not fit the path, and may not be fragmented',
  // machine
  tunnel_send_failed: 'the kernel refused to send the tunnel packet',
  tun_write_failed: 'the kernel refused the packet on the TUN device',
  receive_truncated: 'the datagram was longer than any buffer',
} as const satisfies Record<string, string>

export type FaultName = keyof typeof faultDescriptions

/** Index = the number of the fault. */
export const faultNames = Object.freeze(Object.keys(faultDescriptions)) as readonly FaultName[]

/** Number of a fault, by name: `Fault.ttl_exceeded`. */
export const Fault = Object.freeze(Object.fromEntries(faultNames.map((name, index) => [name, index]))) as Readonly<
  Record<FaultName, number>
>
