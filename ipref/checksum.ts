/**
 * The Internet checksum (RFC 1071), and its incremental form (RFC 1624).
 *
 * Sums here are one's-complement sums of 16-bit words in the byte order of this machine (little-endian), as the SIMD code
 * produces them: the order of bytes does not matter as long as all words have the same one, and the field is then
 * stored little-endian too. A constant that RFCs write big-endian goes through `swap16` first.
 */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff)
}

/** Folds carries of a sum below 2^32 into 16 bits. */
export function fold(sum: number): number {
  sum = (sum & 0xffff) + (sum >>> 16)
  return (sum & 0xffff) + (sum >>> 16)
}

/** What to add in order to take `sum` (16 bits) away. */
export function negate(sum: number): number {
  return ~sum & 0xffff
}

/** Sum of the four words of an address as it stands in a header; an IPv4-mapped one counts as IPv4. */
export function sumOfWords(w0: number, w1: number, w2: number, w3: number): number {
  let sum = (w3 >>> 16) + (w3 & 0xffff)
  if (w0 !== 0 || w1 !== 0 || w2 !== 0xffff) {
    sum += (w0 >>> 16) + (w0 & 0xffff) + (w1 >>> 16) + (w1 & 0xffff) + (w2 >>> 16) + (w2 & 0xffff)
  }
  return swap16(fold(sum))
}

/** The plain loop: for small things, and what faster code is compared with. Not inverted, not folded beyond 16 bits. */
export function sumBytes(bytes: Uint8Array, offset: number, length: number): number {
  let sum = 0
  const end = offset + length
  for (let i = offset; i + 1 < end; i += 2) sum += bytes[i]! | (bytes[i + 1]! << 8)
  if (length & 1) sum += bytes[end - 1]!
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536)
  return sum
}
