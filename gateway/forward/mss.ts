/**
 * Clamps the maximum segment size that a TCP SYN announces to what fits the tunnel (design.md section 4).
 *
 * Works in place on a whole TCP header whose checksum is right or not: it is adapted, not computed (RFC 1624).
 */
import { fold, negate, swap16 } from '../../ipref/checksum.ts'
import { TCP_OPTION_END, TCP_OPTION_MSS, TCP_OPTION_NOP, tcp } from '../../ipref/ip.ts'

const MSS_LENGTH = 4
/** RFC 9293 section 3.7.1: no host may be asked for less. */
const LEAST = 536

export function clampMss(view: DataView, l4: number, l4Length: number, most: number): void {
  if (most < LEAST) return
  const end = l4 + Math.min((view.getUint8(l4 + tcp.dataOffset) >>> 4) * 4, l4Length)
  let at = l4 + tcp.options
  while (at + 1 < end) {
    const kind = view.getUint8(at)
    if (kind === TCP_OPTION_END) return
    if (kind === TCP_OPTION_NOP) {
      at++
      continue
    }
    const length = view.getUint8(at + 1)
    if (length < 2 || at + length > end) return
    if (kind === TCP_OPTION_MSS && length === MSS_LENGTH) return lower(view, l4, at + 2, most)
    at += length
  }
}

function lower(view: DataView, l4: number, at: number, most: number): void {
  const before = view.getUint16(at)
  if (before <= most) return
  view.setUint16(at, most)
  // at an odd offset the two bytes lie in two words of the sum: exchanged, they do so in the other order
  const isOdd = ((at - l4) & 1) !== 0
  const removed = isOdd ? before : swap16(before)
  const added = isOdd ? most : swap16(most)
  const sum = negate(view.getUint16(l4 + tcp.checksum, true)) + negate(removed) + added
  view.setUint16(l4 + tcp.checksum, negate(fold(sum)), true)
}
