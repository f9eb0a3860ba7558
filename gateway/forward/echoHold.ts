/**
 * First fragments of ICMP echo that wait for the last one.
 *
 * The checksum of ICMPv6 covers the length of the whole datagram, which only the last fragment tells; that of IPREF-ICMP does not. So
 * between the two, the first fragment (it has the checksum) is held back until the last one passed, 60 s at most (wire.md section 2, MTU and
 * fragments). Bounded: SLOTS datagrams; a new one takes the place of one that has run out, or is refused.
 */
const HOLD_SECONDS = 60
export const HOLD_SLOT = 9216
/** source and destination (4 words each), identification */
const KEY_WORDS = 9

export const Hold = { kept: -1, full: -2 } as const

export class EchoHold {
  readonly slots: number
  readonly key = new Int32Array(KEY_WORDS)
  readonly #bytes: Uint8Array
  readonly #region: number
  readonly #keys: Int32Array
  /** of the whole datagram; 0: not known yet */
  readonly #totals: Int32Array
  /** of the first fragment kept; 0: none */
  readonly #lengths: Int32Array
  /** when it runs out; 0: free */
  readonly #deadlines: Float64Array

  constructor(bytes: Uint8Array, region: number, regionLength: number) {
    this.#bytes = bytes
    this.#region = region
    this.slots = Math.floor(regionLength / HOLD_SLOT)
    this.#keys = new Int32Array(this.slots * KEY_WORDS)
    this.#totals = new Int32Array(this.slots)
    this.#lengths = new Int32Array(this.slots)
    this.#deadlines = new Float64Array(this.slots)
  }

  /** The first fragment of the datagram in `key` came: the length of the whole one if known, else it was kept, or there is no room. */
  first(packet: number, length: number, now: number): number {
    const slot = this.#slotOf(now)
    if (slot < 0 || length > HOLD_SLOT) return Hold.full
    if (this.#totals[slot] !== 0) return this.#totals[slot]!
    this.#bytes.copyWithin(this.#region + slot * HOLD_SLOT, packet, packet + length)
    this.#lengths[slot] = length
    return Hold.kept
  }

  /** The last fragment came: copies the first one, if it was kept, to `to`, and returns its length, else 0. */
  last(total: number, now: number, to: number): number {
    const slot = this.#slotOf(now)
    if (slot < 0) return 0
    this.#totals[slot] = total
    const length = this.#lengths[slot]!
    const from = this.#region + slot * HOLD_SLOT
    this.#bytes.copyWithin(to, from, from + length)
    this.#lengths[slot] = 0
    return length
  }

  /** Forgets what ran out: the number of first fragments that were lost by it. */
  expire(now: number): number {
    let lost = 0
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.#deadlines[slot] === 0 || this.#deadlines[slot]! > now) continue
      if (this.#lengths[slot] !== 0) lost++
      this.#deadlines[slot] = 0
    }
    return lost
  }

  #slotOf(now: number): number {
    let free = -1
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.#deadlines[slot] === 0) {
        if (free < 0) free = slot
      } else if (this.#hasKey(slot)) return slot
    }
    if (free < 0) return -1
    this.#keys.set(this.key, free * KEY_WORDS)
    this.#totals[free] = 0
    this.#lengths[free] = 0
    this.#deadlines[free] = now + HOLD_SECONDS
    return free
  }

  #hasKey(slot: number): boolean {
    for (let i = 0; i < KEY_WORDS; i++) if (this.#keys[slot * KEY_WORDS + i] !== this.key[i]) return false
    return true
  }
}
