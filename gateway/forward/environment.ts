/**
 * Everything encap and decap need besides the packet: settings, tables, and the few things that are not pure.
 *
 * One object per worker, made once; nothing in it is replaced while packets flow, but `settings` fields may be
 * overwritten between batches (a reload).
 */
import type { Output } from './output.ts'
import type { Tables } from './tables.ts'

/** A prefix as signed words: matches when (address & mask) equals network, word by word. */
export interface PrefixWords {
  readonly family: 4 | 6
  readonly network: Int32Array
  readonly mask: Int32Array
}

export interface ForwardSettings {
  /** At most one for each family. */
  encodingNetworks: readonly PrefixWords[]
  /** The gateway's own encoded address (`.1` of the encoding network), 4 words, for each family that has one. */
  ownEncoded4: Int32Array | undefined
  ownEncoded6: Int32Array | undefined
  /**
   * Our context address, 4 words, for each tunnel family. undefined: unknown; then zeros are sent, and every
   * destination context of that family is taken as ours (wire.md section 2, context addresses and NAT).
   */
  context4: Int32Array | undefined
  context6: Int32Array | undefined
  /** The gateway's own reference, 4 words. */
  gatewayReference: Int32Array
  decrementTtl: boolean
  /** Identifier of the echo requests by which we probe peers: replies with it are ours, not a host's. -1: none. */
  probeId: number
  /** decisions.md 1: false lets only ICMP echo and ICMP errors through to the gateway's own reference. */
  gatewayOpen: boolean
  /** What may be a source on the local side; empty: all but encoding networks, link-local and multicast. */
  localNetworks: readonly PrefixWords[]
  /** Clamp the MSS option of TCP SYN packets to what fits the path. */
  clampMss: boolean
  /** Upper bound of the MTU of the local side, for the MSS clamp (TUN MTU, VXLAN MTU). */
  tunMtu: number
}

export interface Environment {
  /** The one memory: packets, head slots, scratch, held fragments. */
  readonly bytes: Uint8Array
  /** Over the same bytes. */
  readonly view: DataView
  /** Over the same bytes. */
  readonly words: Int32Array
  readonly settings: ForwardSettings
  readonly tables: Tables
  readonly output: Output
  /** Where first fragments of ICMPv6 echo are held back: offset and length in `bytes`; other code never writes there. */
  readonly hold: number
  readonly holdLength: number
  /**
   * One's-complement sum of the 16-bit words of `length` bytes at `offset`, in the byte order of the machine
   * (little-endian), folded to 16 bits, an odd last byte padded with a zero byte. Not inverted.
   */
  sum(offset: number, length: number): number
  /** 32 unpredictable bits. */
  random32(): number
  /** Seconds, monotonic: for held fragments. Set before each batch. */
  now: number
  /** May an ICMP error be sent to this address now (rate limit, per destination and in all)? */
  mayAnswer(a0: number, a1: number, a2: number, a3: number): boolean
  /** Inbound policy, for published references: may the network of this context reach this reference? */
  mayReach(c0: number, c1: number, c2: number, c3: number, r0: number, r1: number, r2: number, r3: number): boolean
}

/** What became of one packet. The number of its Fault is in `Encap.fault` / `Decap.fault`. */
export const Verdict = {
  /** its outputs were added */
  forwarded: 0,
  /** refused, and an ICMP error about it was added to the output */
  answered: 1,
  /** refused */
  dropped: 2,
  /** a fragment that waits for another one */
  held: 3,
  /** needs a reference for its native source address: Encap.miss… tell which */
  missNative: 4,
  /** needs an encoded address for its remote source: Decap.miss… tell which */
  missRemote: 5,
  /** a reply to one of our probes: Decap.probeAt is where its 16 bytes are */
  probeAnswer: 6,
} as const
export type Verdict = (typeof Verdict)[keyof typeof Verdict]
