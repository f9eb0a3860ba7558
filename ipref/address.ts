/**
 * IPv4 and IPv6 addresses and prefixes: as text, as bytes, and as the four words of the packet paths.
 *
 *   text  '10.1.0.2'  ◄─►  bytes (4 or 16)  ◄─►  words (four signed 32-bit; IPv4 as ::ffff:10.1.0.2)
 *
 * Text is read strictly: four decimal numbers without leading zeros, or RFC 4291 section 2.2; no zone, no white space. It is printed as RFC 5952 says.
 */
export type IpFamily = 4 | 6
/** Most significant first; an IPv4 address is (0, 0, 0xffff, address). */
export type AddressWords = readonly [number, number, number, number]

export interface Prefix {
  readonly family: IpFamily
  /** bits beyond `length` are zero */
  readonly address: Uint8Array
  readonly length: number
}

const MAPPED = 0xffff

export function parseAddress(text: string): Uint8Array | undefined {
  return text.includes(':') ? parse6(text) : parse4(text)
}

function parse4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    bytes[i] = Number(part)
  }
  return bytes
}

function parse6(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = groups(halves[0]!, halves.length === 1)
  const tail = halves.length === 2 ? groups(halves[1]!, true) : []
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail]
  return Uint8Array.from(all.flatMap(group => [group >>> 8, group & 0xff]))
}

// an IPv4 address may stand for the last two groups
function groups(text: string, mayEndInIPv4: boolean): number[] | undefined {
  if (text === '') return []
  const result: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (part.includes('.')) {
      const v4 = i === parts.length - 1 && mayEndInIPv4 ? parse4(part) : undefined
      if (!v4) return undefined
      result.push((v4[0]! << 8) | v4[1]!, (v4[2]! << 8) | v4[3]!)
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) result.push(Number.parseInt(part, 16))
    else return undefined
  }
  return result
}

export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const words = Array.from({ length: 8 }, (_, i) => (bytes[i * 2]! << 8) | bytes[i * 2 + 1]!)
  if (words.slice(0, 5).every(w => w === 0) && words[5] === 0xffff) return `::ffff:${bytes.subarray(12).join('.')}`
  const { start, length } = longestZeros(words)
  const text = (part: number[]) => part.map(w => w.toString(16)).join(':')
  if (length < 2) return text(words)
  return `${text(words.slice(0, start))}::${text(words.slice(start + length))}`
}

function longestZeros(words: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < words.length; start++) {
    let length = 0
    while (words[start + length] === 0) length++
    if (length > best.length) best = { start, length }
  }
  return best
}

export function familyOf(bytes: Uint8Array): IpFamily {
  return bytes.length === 4 ? 4 : 6
}

export function familyOfWords(w: AddressWords): IpFamily {
  return w[0] === 0 && w[1] === 0 && w[2] === MAPPED ? 4 : 6
}

export function wordsFromBytes(bytes: Uint8Array): AddressWords {
  const word = (i: number) => (bytes[i]! << 24) | (bytes[i + 1]! << 16) | (bytes[i + 2]! << 8) | bytes[i + 3]!
  return bytes.length === 4 ? [0, 0, MAPPED, word(0)] : [word(0), word(4), word(8), word(12)]
}

export function bytesFromWords(w: AddressWords): Uint8Array {
  const all = Uint8Array.from(w.flatMap(word => [word >>> 24, (word >>> 16) & 0xff, (word >>> 8) & 0xff, word & 0xff]))
  return familyOfWords(w) === 4 ? all.slice(12) : all
}

export function formatWords(w: AddressWords): string {
  return formatAddress(bytesFromWords(w))
}

/** ADDRESS:PORT, or [ADDRESS]:PORT; names are as IPv4 addresses. */
export function formatHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

export function equalAddress(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

// ---- prefixes

/** undefined also when a bit beyond the length is set. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/')
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (!address || !/^\d{1,3}$/.test(digits) || Number(digits) > address.length * 8) return undefined
  const length = Number(digits)
  const isClean = address.every((byte, i) => (byte & ~maskByte(length, i)) === 0)
  return isClean ? { family: familyOf(address), address, length } : undefined
}

/** The prefix that holds this address alone, as text. */
export function hostPrefix(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.address)}/${prefix.length}`
}

export function prefixContains(prefix: Prefix, address: Uint8Array): boolean {
  if (familyOf(address) !== prefix.family) return false
  return prefix.address.every((byte, i) => (address[i]! & maskByte(prefix.length, i)) === byte)
}

export function prefixesOverlap(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? prefixContains(a, b.address) : prefixContains(b, a.address)
}

function maskByte(length: number, index: number): number {
  const bits = Math.max(0, Math.min(8, length - index * 8))
  return (0xff00 >>> bits) & 0xff
}

/** As encap compares it: IPv4 lies under ::ffff:0:0/96. */
export function prefixWords(prefix: Prefix): { family: IpFamily; network: Int32Array; mask: Int32Array } {
  const length = prefix.family === 4 ? prefix.length + 96 : prefix.length
  const mask = new Int32Array(4)
  for (let i = 0; i < 4; i++) {
    const bits = Math.max(0, Math.min(32, length - i * 32))
    mask[i] = bits === 0 ? 0 : -1 << (32 - bits)
  }
  return { family: prefix.family, network: Int32Array.from(wordsFromBytes(prefix.address)), mask }
}

// ---- kinds

export function isUnspecified(address: Uint8Array): boolean {
  return address.every(byte => byte === 0)
}

export function isLoopback(address: Uint8Array): boolean {
  if (address.length === 4) return address[0] === 127
  return address[15] === 1 && address.subarray(0, 15).every(byte => byte === 0)
}

export function isLinkLocal(address: Uint8Array): boolean {
  if (address.length === 4) return address[0] === 169 && address[1] === 254
  return address[0] === 0xfe && (address[1]! & 0xc0) === 0x80
}

/** May belong to one host: not unspecified, multicast, broadcast or reserved. */
export function isUnicast(address: Uint8Array): boolean {
  if (isUnspecified(address)) return false
  return address.length === 4 ? address[0]! < 224 && address[0] !== 0 : address[0] !== 0xff
}
