/**
 * Chooses encoded addresses and references for dynamic mappings (wire.md section 2, lifetimes; decisions.md 5): random, so that scanning meets
 * nothing and nobody can foretell the next one; their second-to-last byte is 16 or more.
 */
import { type AddressWords, type Prefix, wordsFromBytes } from '../../ipref/address.ts'
import { FIRST_DYNAMIC_BYTE } from '../../ipref/lifetimes.ts'

const RANDOM_TRIES = 64
/** Addresses looked at one after the other when random ones were all taken: the network is nearly full then. */
const MOST_PROBES = 65536

/** Where dynamic mappings get their encoded addresses. */
export interface Pool {
  network: Prefix
  /** least second-to-last byte: 16 in a network that has static addresses too, 0 in a slice, which has none (decisions.md 20) */
  leastByte: number
}

export function wholeNetwork(network: Prefix): Pool {
  return { network, leastByte: FIRST_DYNAMIC_BYTE }
}

export function slice(network: Prefix): Pool {
  return { network, leastByte: 0 }
}

/** Addresses of a pool. */
export function dynamicSpace({ network, leastByte }: Pool): number {
  const hostBits = network.address.length * 8 - network.length
  return Math.floor((2 ** Math.min(hostBits, 40) * (256 - leastByte)) / 256)
}

export function chooseEncoded(
  pool: Pool,
  random32: () => number,
  isFree: (words: AddressWords) => boolean,
): AddressWords | undefined {
  const { network, leastByte } = pool
  for (let tries = 0; tries < RANDOM_TRIES; tries++) {
    const words = randomIn(pool, random32)
    if (isFree(words)) return words
  }
  const [w0, w1, w2, start] = randomIn(pool, random32)
  const hostBits = Math.min(32, network.address.length * 8 - network.length)
  const mask = hostBits === 32 ? -1 : (1 << hostBits) - 1
  for (let step = 1; step <= Math.min(MOST_PROBES, 2 ** hostBits); step++) {
    const words: AddressWords = [w0, w1, w2, (start & ~mask) | ((start + step) & mask)]
    if (((words[3] >>> 8) & 0xff) >= leastByte && isPlain(words[3], network) && isFree(words)) return words
  }
  return undefined
}

function randomIn({ network, leastByte }: Pool, random32: () => number): AddressWords {
  for (;;) {
    const bytes = network.address.slice()
    let random = 0
    for (let i = bytes.length - 1, k = 0; i >= 0; i--, k++) {
      if (k % 4 === 0) random = random32()
      const bits = Math.max(0, Math.min(8, network.length - i * 8))
      bytes[i] = bytes[i]! | (random & (0xff >>> bits))
      random >>>= 8
    }
    const low = bytes[bytes.length - 1]!
    if (bytes[bytes.length - 2]! >= leastByte && (network.family === 6 || (low !== 0 && low !== 255)))
      return wordsFromBytes(bytes)
  }
}

// some hosts take .0 and .255 for a network and a broadcast
function isPlain(low: number, network: Prefix): boolean {
  return network.family === 6 || ((low & 0xff) !== 0 && (low & 0xff) !== 0xff)
}

/** Random bits below the top byte: 56 for the 8-byte form, 24 for the 4-byte one. */
export function chooseReference(
  length: 4 | 8,
  random32: () => number,
  isFree: (words: AddressWords) => boolean,
): AddressWords | undefined {
  for (let tries = 0; tries < 10_000; tries++) {
    const low = random32()
    const words: AddressWords = [
      0,
      0,
      length === 8 ? random32() & 0x00ffffff : 0,
      length === 8 ? low : low & 0x00ffffff,
    ]
    if (((low >>> 8) & 0xff) >= FIRST_DYNAMIC_BYTE && isFree(words)) return words
  }
  return undefined
}
