/**
 * IPv4, IPv6, TCP, UDP and ICMP headers: where the fields are, and the numbers in them (RFC 791, 8200, 9293, 768, 792, 4443).
 *
 * Offsets are bytes from the start of the header they belong to. Everything is big-endian.
 */
export const IPPROTO_ICMP = 1
export const IPPROTO_TCP = 6
export const IPPROTO_UDP = 17
export const IPPROTO_GRE = 47
export const IPPROTO_ESP = 50
export const IPPROTO_ICMPV6 = 58
export const IPPROTO_SCTP = 132

/** IPv6 extension headers. */
export const NEXT_HOP_BY_HOP = 0
export const NEXT_ROUTING = 43
export const NEXT_FRAGMENT = 44
export const NEXT_DESTINATION = 60

export const IPV4_HEADER = 20
export const IPV6_HEADER = 40
export const IPV6_FRAGMENT_HEADER = 8
export const UDP_HEADER = 8
export const TCP_HEADER = 20
export const ICMP_HEADER = 8
export const MAX_PACKET = 65535

export const ip4 = {
  tos: 1,
  length: 2,
  identification: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
} as const
export const IP4_DF = 0x4000
export const IP4_MF = 0x2000
export const IP4_OFFSET = 0x1fff

export const ip6 = { length: 4, next: 6, hopLimit: 7, source: 8, destination: 24 } as const

export const tcp = { sequence: 4, ack: 8, dataOffset: 12, flags: 13, window: 14, checksum: 16, options: 20 } as const
export const TCP_FIN = 0x01
export const TCP_SYN = 0x02
export const TCP_RST = 0x04
export const TCP_PSH = 0x08
export const TCP_ACK = 0x10
export const TCP_URG = 0x20
export const TCP_ECE = 0x40
export const TCP_CWR = 0x80
export const TCP_OPTION_END = 0
export const TCP_OPTION_NOP = 1
export const TCP_OPTION_MSS = 2

export const udp = { length: 4, checksum: 6 } as const
export const icmp = { type: 0, code: 1, checksum: 2, id: 4, mtu: 6, mtu6: 4 } as const

/**
 * Protocols without a pseudo-header checksum that are carried as they are (wire.md section 2, layer 4 checksums):
 * all others would arrive with a checksum over the wrong addresses, or are not for a tunnel.
 */
export function isOpaqueProtocol(protocol: number): boolean {
  return protocol === IPPROTO_SCTP || protocol === IPPROTO_ESP || protocol === IPPROTO_GRE
}
