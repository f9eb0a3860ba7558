/**
 * A bounded ring of messages between two threads: one writes, one reads, nothing is allocated.
 *
 *   control (Int32)   [0] written  [1] read  [2] notified          byte counts, modulo 2^32
 *   data (bytes)      | length u32 | kind u32 | words … | packet bytes … | pad to 4 |   wraps around
 *
 * A message is at most half the ring. `push` returns false when there is no room: the caller counts a drop. After a
 * push the writer wakes the reader when `shouldNotify()` says so; the reader calls `beginRead()` before it drains, so no message
 * is left asleep. Used for packets that wait for a mapping, and for what workers tell the main thread about peers.
 */
const CONTROL_BYTES = 64
const at = { written: 0, read: 1, notified: 2 } as const
const HEADER_WORDS = 2

export class Ring {
  readonly #control: Int32Array
  readonly #bytes: Uint8Array
  readonly #words: Int32Array
  readonly #size: number
  /** Kind, words and packet of the message that `next` found; valid until the next call. */
  kind = 0
  readonly words: Int32Array
  packetLength = 0
  #packetAt = 0

  /** `size`: bytes of data, a power of two. */
  static allocate(size: number): SharedArrayBuffer {
    return new SharedArrayBuffer(CONTROL_BYTES + size)
  }

  /** `wordCount`: Int32 words that every message of this ring carries besides its packet. */
  constructor(buffer: SharedArrayBuffer, wordCount: number) {
    this.#control = new Int32Array(buffer, 0, CONTROL_BYTES / 4)
    this.#bytes = new Uint8Array(buffer, CONTROL_BYTES)
    this.#words = new Int32Array(buffer, CONTROL_BYTES)
    this.#size = this.#bytes.length
    if ((this.#size & (this.#size - 1)) !== 0) throw new Error(`ring size ${this.#size} is not a power of two`)
    this.words = new Int32Array(wordCount)
  }

  /** Writer: append `this.words` and `length` bytes of `from` at `offset`. False: no room. */
  push(kind: number, from: Uint8Array, offset: number, length: number): boolean {
    const total = (HEADER_WORDS + this.words.length) * 4 + ((length + 3) & ~3)
    const written = Atomics.load(this.#control, at.written)
    const used = (written - Atomics.load(this.#control, at.read)) >>> 0
    if (total > this.#size >>> 1 || used + total > this.#size) return false
    const mask = this.#size - 1
    let position = written >>> 0
    this.#words[(position & mask) >>> 2] = length
    position += 4
    this.#words[(position & mask) >>> 2] = kind
    position += 4
    for (let i = 0; i < this.words.length; i++, position += 4) this.#words[(position & mask) >>> 2] = this.words[i]!
    const start = position & mask
    const first = Math.min(length, this.#size - start)
    this.#bytes.set(from.subarray(offset, offset + first), start)
    if (first < length) this.#bytes.set(from.subarray(offset + first, offset + length), 0)
    Atomics.store(this.#control, at.written, (written + total) | 0)
    return true
  }

  /** Writer: true once between two `beginRead` calls: the reader may be asleep, wake it. */
  shouldNotify(): boolean {
    return Atomics.exchange(this.#control, at.notified, 1) === 0
  }

  /** Reader: call before draining with `next`. */
  beginRead(): void {
    Atomics.store(this.#control, at.notified, 0)
  }

  /** Reader: false when empty. Otherwise kind, words and packetLength are set; take the packet, then `release`. */
  next(): boolean {
    const read = Atomics.load(this.#control, at.read)
    if (read === Atomics.load(this.#control, at.written)) return false
    const mask = this.#size - 1
    let position = read >>> 0
    this.packetLength = this.#words[(position & mask) >>> 2]!
    position += 4
    this.kind = this.#words[(position & mask) >>> 2]!
    position += 4
    for (let i = 0; i < this.words.length; i++, position += 4) this.words[i] = this.#words[(position & mask) >>> 2]!
    this.#packetAt = position & mask
    return true
  }

  /** Reader: copy the packet of the message that `next` found. */
  takePacket(to: Uint8Array, offset: number): void {
    const first = Math.min(this.packetLength, this.#size - this.#packetAt)
    to.set(this.#bytes.subarray(this.#packetAt, this.#packetAt + first), offset)
    if (first < this.packetLength) to.set(this.#bytes.subarray(0, this.packetLength - first), offset + first)
  }

  /** Reader: done with the message that `next` found. */
  release(): void {
    const total = (HEADER_WORDS + this.words.length) * 4 + ((this.packetLength + 3) & ~3)
    Atomics.store(this.#control, at.read, (Atomics.load(this.#control, at.read) + total) | 0)
  }
}
