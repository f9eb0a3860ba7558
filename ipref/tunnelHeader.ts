/**
 * The header that opens every tunnel packet (wire.md section 2).
 *
 *    0               1               2               3
 *   +-------+---+-+-+-------+-------+---------------+---------------+
 *   | ver=1 |len|I|D| ip ver|   0   |   TTL         |  protocol     |
 *   +-------+---+-+-+-------+-------+---------------+---------------+
 *   | 0 (16)                        | offset (13) | 0 |M|            only with I (fragment info)
 *   +-------------------------------+-------------------------------+
 *   | identification                                                | only with I
 *   +---------------------------------------------------------------+
 *   | source context (4 or 16) · destination context                |
 *   | source reference (4, 8 or 16) · destination reference         |
 *   +---------------------------------------------------------------+
 *
 * The first byte of a reference is its top byte (bits 127..120), the rest its low bits: so 4 bytes hold a reference whose bits 119..24
 * are zero, 8 bytes one whose bits 119..56 are zero.
 */
export const TUNNEL_PORT = 1045
export const VERSION_1 = 0x10
export const FLAG_FRAGMENT = 0x02
export const FLAG_DF = 0x01
export const FRAGMENT_INFO = 8
export const LENGTH_CODE_16 = 2
/** 4 + 2 * 4 + 2 * 4 */
export const SMALLEST_HEADER = 20
/** 4 + 8 + 2 * 16 + 2 * 16 */
export const LARGEST_HEADER = 76

export const tunnel = { flags: 0, version: 1, ttl: 2, protocol: 3, offset: 6, identification: 8 } as const

/** Length code of the shortest form that holds a reference given as words: 0, 1 or 2. */
export function lengthCode(r0: number, r1: number, r2: number, r3: number): number {
  if ((r0 & 0x00ffffff) !== 0 || r1 !== 0) return LENGTH_CODE_16
  if ((r2 & 0xff000000) !== 0) return LENGTH_CODE_16
  return r2 !== 0 || (r3 & 0xff000000) !== 0 ? 1 : 0
}

/** Bytes of one reference. */
export function referenceLength(code: number): number {
  return 4 << code
}

export function headerLength(family: number, code: number): number {
  return 4 + (family === 4 ? 8 : 32) + (8 << code)
}
