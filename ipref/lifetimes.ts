/**
 * What keeps static and dynamic mappings apart (wire.md section 2, lifetimes): the second-to-last byte, of an encoded address or of a
 * reference, is below 16 in a static one, 16 or more in a dynamic one. References below 256 are never dynamic.
 */
export const DYNAMIC_LIFETIME_S = 14400
export const FIRST_DYNAMIC_BYTE = 16

export function isStaticReference(reference: bigint): boolean {
  return ((reference >> 8n) & 0xffn) < BigInt(FIRST_DYNAMIC_BYTE)
}

export function isStaticEncoded(address: Uint8Array): boolean {
  return address[address.length - 2]! < FIRST_DYNAMIC_BYTE
}
