/**
 * What encap and decap produced: a list of packets, each of two parts of one memory.
 *
 *     head (headLength bytes, written by us)  +  body (bodyLength bytes, usually still in the receive buffer)
 *
 * Columns instead of objects: nothing is allocated per packet. The caller owns it, empties it with `clear()` once it
 * has written everything, and calls neither encap nor decap while `hasRoom()` is false.
 */
export const HEAD_SLOT = 192
/** Packets that one call of encap or decap may add at most: 65535 bytes cut into the smallest segments we accept. */
export const MOST_PER_CALL = 1024
/** Scratch bytes that one call may use at most. */
export const SCRATCH_PER_CALL = 16384

/** Output.direction */
export const Direction = { tunnel: 0, host: 1 } as const

/** Output.peer of a packet whose destination context is our own: turned around without a socket. */
export const PEER_SELF = -1
/** Output.peer of an answer to the datagram being handled: goes back to the address and port that it came from. */
export const PEER_SOURCE = -2

export class Output {
  readonly capacity: number
  count = 0
  readonly direction: Uint8Array
  readonly head: Int32Array
  readonly headLength: Int32Array
  readonly body: Int32Array
  readonly bodyLength: Int32Array
  /** to the tunnel: number of the peer, PEER_SELF or PEER_SOURCE */
  readonly peer: Int32Array
  /** to the tunnel: DSCP and ECN of the outer header */
  readonly tos: Uint8Array
  /** 1: an ICMP error that this gateway made, not a packet that it forwarded */
  readonly fromGateway: Uint8Array
  /** first byte of the head slots; slot i is at `slots + i * HEAD_SLOT` and belongs to packet i */
  readonly slots: number
  /** room for packets that must be written anew (translated ICMP errors, released fragments); emptied with count */
  readonly scratch: number
  readonly scratchLength: number
  scratchUsed = 0

  /** Offsets are bytes in the memory that encap and decap work on; `scratchLength` is at least 2 * SCRATCH_PER_CALL. */
  constructor(layout: { slots: number; capacity: number; scratch: number; scratchLength: number }) {
    const { slots, capacity, scratch, scratchLength } = layout
    this.slots = slots
    this.capacity = capacity
    this.scratch = scratch
    this.scratchLength = scratchLength
    this.direction = new Uint8Array(capacity)
    this.head = new Int32Array(capacity)
    this.headLength = new Int32Array(capacity)
    this.body = new Int32Array(capacity)
    this.bodyLength = new Int32Array(capacity)
    this.peer = new Int32Array(capacity)
    this.tos = new Uint8Array(capacity)
    this.fromGateway = new Uint8Array(capacity)
  }

  /** False: write out and `clear()` before the next call of encap or decap. */
  hasRoom(): boolean {
    return this.capacity - this.count >= MOST_PER_CALL && this.scratchLength - this.scratchUsed >= SCRATCH_PER_CALL
  }

  clear(): void {
    this.count = 0
    this.scratchUsed = 0
  }
}
