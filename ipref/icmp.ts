/**
 * ICMP types and codes of the three worlds, and the one table that joins them (wire.md section 2, ICMP).
 *
 * IPREF-ICMP has the types of ICMPv4 and, for port unreachable, a code of its own. A pair is written type << 8 | code; -1: not carried.
 */
export const ICMP_ECHO_REPLY = 0
export const ICMP_UNREACHABLE = 3
export const ICMP_ECHO_REQUEST = 8
export const ICMP_TIME_EXCEEDED = 11
export const ICMPV6_UNREACHABLE = 1
export const ICMPV6_TOO_BIG = 2
export const ICMPV6_TIME_EXCEEDED = 3
export const ICMPV6_PARAMETER_PROBLEM = 4
export const ICMPV6_ECHO_REQUEST = 128
export const ICMPV6_ECHO_REPLY = 129

export const NOT_CARRIED = -1

interface Row {
  readonly what: string
  readonly ipref: readonly [type: number, code: number]
  readonly v4: readonly [type: number, code: number]
  readonly v6: readonly [type: number, code: number]
}

export const icmpTable: readonly Row[] = [
  { what: 'echo reply', ipref: [0, 0], v4: [0, 0], v6: [129, 0] },
  { what: 'echo request', ipref: [8, 0], v4: [8, 0], v6: [128, 0] },
  { what: 'network unreachable', ipref: [3, 0], v4: [3, 0], v6: [1, 0] },
  { what: 'host unreachable', ipref: [3, 1], v4: [3, 1], v6: [1, 3] },
  { what: 'port unreachable', ipref: [3, 2], v4: [3, 3], v6: [1, 4] },
  { what: 'fragmentation needed', ipref: [3, 4], v4: [3, 4], v6: [2, 0] },
  { what: 'administratively prohibited', ipref: [3, 13], v4: [3, 13], v6: [1, 1] },
  { what: 'TTL exceeded', ipref: [11, 0], v4: [11, 0], v6: [3, 0] },
  { what: 'reassembly time exceeded', ipref: [11, 1], v4: [11, 1], v6: [3, 1] },
]

/** IPREF-ICMP (and the ICMPv4 errors that gateways send): fragmentation needed. */
export const FRAGMENTATION_NEEDED = 0x0304
export const NETWORK_UNREACHABLE = 0x0300
export const TTL_EXCEEDED = 0x0b00

function tableOf(from: 'ipref' | 'v4' | 'v6', to: 'ipref' | 'v4' | 'v6'): Int32Array {
  const table = new Int32Array(65536).fill(NOT_CARRIED)
  for (const row of icmpTable) table[(row[from][0] << 8) | row[from][1]] = (row[to][0] << 8) | row[to][1]
  return table
}

/** Index and value: type << 8 | code. */
export const icmp4ToIpref = tableOf('v4', 'ipref')
export const icmp6ToIpref = tableOf('v6', 'ipref')
export const iprefToIcmp4 = tableOf('ipref', 'v4')
export const iprefToIcmp6 = tableOf('ipref', 'v6')

/** An IPREF-ICMP or ICMPv4 message that quotes a packet: to such, no answer is ever due. */
export function isError4(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12
}

export function isError6(type: number): boolean {
  return type < 128
}
