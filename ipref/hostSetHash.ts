/**
 * The hash of a set of hosts, by which agent and gateway agree on what the gateway holds (wire.md section 4): FNV-1a, 64 bits, over native address, context
 * and reference (16 bytes) of each record, in ascending order of (context, reference).
 */
import { encodeReference } from './reference.ts'

export interface HostRecord {
  native: Uint8Array
  context: Uint8Array
  reference: bigint
}

const REFERENCE_BYTES = 16

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return a.length - b.length
}

/** By context and reference: the order of the hash. */
export function compareContexts(a: HostRecord, b: HostRecord): number {
  return compareBytes(a.context, b.context) || (a.reference < b.reference ? -1 : a.reference > b.reference ? 1 : 0)
}

/** The same, and records that differ in the native address alone in the order of that. */
export function compareHosts(a: HostRecord, b: HostRecord): number {
  return compareContexts(a, b) || compareBytes(a.native, b.native)
}

/** `records` in the order of `compareContexts`. */
export function hashHosts(records: readonly HostRecord[]): bigint {
  // four limbs of 16 bits, times the prime 2^40 + 0x1b3
  let [h0, h1, h2, h3] = [0x2325, 0x8422, 0x9ce4, 0xcbf2]
  const mix = (bytes: Uint8Array) => {
    for (let i = 0; i < bytes.length; i++) {
      h0 ^= bytes[i]!
      const p0 = h0 * 0x1b3
      const p1 = h1 * 0x1b3 + (p0 >>> 16)
      const p2 = h2 * 0x1b3 + ((h0 << 8) & 0xffffff) + (p1 >>> 16)
      const p3 = h3 * 0x1b3 + (h1 << 8) + Math.floor(p2 / 65536)
      h0 = p0 & 0xffff
      h1 = p1 & 0xffff
      h2 = p2 & 0xffff
      h3 = p3 & 0xffff
    }
  }
  for (const { native, context, reference } of records) {
    mix(native)
    mix(context)
    mix(encodeReference(reference, REFERENCE_BYTES))
  }
  return (BigInt(h3) << 48n) | (BigInt(h2) << 32n) | (BigInt(h1) << 16n) | BigInt(h0)
}
