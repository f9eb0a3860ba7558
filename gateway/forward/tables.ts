/**
 * What encap and decap ask the mapping tables: the port, declared by its user.
 *
 *   encap   source: native address -> reference            destination: encoded address -> context + reference
 *   decap   destination: reference -> native address        source: context + reference -> encoded address
 *
 * Addresses and references are four signed 32-bit words, most significant first, so that nothing is allocated and
 * every word is a small integer to the engine. An IPv4 address is the IPv4-mapped IPv6 address (0, 0, 0xffff, v4).
 * A lookup that hits leaves what it found in the fields of the table object, valid until the next lookup, and marks
 * the mapping as used. A mapping that has expired is not found.
 */
export interface Tables {
  /** reference found (by findNative, findEncoded) */
  readonly r0: number
  readonly r1: number
  readonly r2: number
  readonly r3: number
  /** context address found (by findEncoded) */
  readonly c0: number
  readonly c1: number
  readonly c2: number
  readonly c3: number
  /** native or encoded address found (by findReference, findRemote) */
  readonly a0: number
  readonly a1: number
  readonly a2: number
  readonly a3: number
  /** number of the peer (by findEncoded): handed on in Output.peer, opaque here */
  readonly peer: number
  /** path MTU to that peer, outer IP header included (by findEncoded); 65535 when nothing limits it */
  readonly peerMtu: number
  /** known path MTU to the native address (by findReference); 65535 when unknown */
  readonly hostMtu: number
  /** somebody published the native address (by findReference); false: only replies are meant for it */
  readonly isPublished: boolean

  findNative(a0: number, a1: number, a2: number, a3: number): boolean
  findReference(r0: number, r1: number, r2: number, r3: number): boolean
  findEncoded(a0: number, a1: number, a2: number, a3: number): boolean
  /** `family`: 4 or 6, of the encoded address wanted. */
  findRemote(
    c0: number,
    c1: number,
    c2: number,
    c3: number,
    r0: number,
    r1: number,
    r2: number,
    r3: number,
    family: number,
  ): boolean
  /** The packet to the encoded address found last is a true answer: no RST, no ICMP error (decisions.md 7). */
  noteAnswer(): void
  /** A local router said that packets to this native address may have `mtu` bytes at most. */
  noteHostMtu(a0: number, a1: number, a2: number, a3: number, mtu: number): void
}

/** Third word of an IPv4-mapped address. */
export const MAPPED = 0xffff

/** Word 2 tells IPv4-mapped addresses from others only together with words 0 and 1. */
export function isMapped(a0: number, a1: number, a2: number): boolean {
  return a0 === 0 && a1 === 0 && a2 === MAPPED
}
