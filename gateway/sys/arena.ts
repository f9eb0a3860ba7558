/**
 * One memory for everything that JavaScript, the SIMD checksum and the kernel touch: packets, iovecs, message headers.
 *
 * A WebAssembly memory, because SIMD code runs only on one; never grown, because the kernel is given native addresses of it; kept for ever,
 * because a buffer that the kernel writes into must not be collected. `allocate` only ever adds: plan once, at start.
 */
import { checksumBytes } from './checksumBytes.ts'
import { nativeAddress } from './libc.ts'

const PAGE = 65536
const kept: Arena[] = []

export class Arena {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly words: Int32Array
  /** Native address of byte 0. */
  readonly base: number
  /** One's-complement sum of `length` bytes at `offset` (ipref/checksum.ts says in which form). */
  readonly sum: (offset: number, length: number) => number
  readonly #baseLow: number
  readonly #baseHigh: number
  #used = 64

  constructor(size: number) {
    const pages = Math.ceil(size / PAGE)
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    const module = new WebAssembly.Module(Buffer.from(checksumBytes, 'base64'))
    const instance = new WebAssembly.Instance(module, { e: { m: memory } })
    this.bytes = new Uint8Array(memory.buffer)
    this.view = new DataView(memory.buffer)
    this.words = new Int32Array(memory.buffer)
    this.base = nativeAddress(this.bytes)
    this.#baseLow = this.base % 4294967296
    this.#baseHigh = Math.floor(this.base / 4294967296)
    this.sum = instance.exports.s as (offset: number, length: number) => number
    kept.push(this)
  }

  /** Offset of `length` bytes that nobody else has. */
  allocate(length: number, align = 64): number {
    const offset = Math.ceil(this.#used / align) * align
    if (offset + length > this.bytes.length) throw new Error(`arena of ${this.bytes.length} bytes is too small`)
    this.#used = offset + length
    return offset
  }

  address(offset: number): number {
    return this.base + offset
  }

  /** Writes the native address of `target` (an offset) at `offset`, a multiple of 8: for the path of packets. */
  setAddress(offset: number, target: number): void {
    const low = this.#baseLow + target
    this.words[offset >> 2] = low
    this.words[(offset >> 2) + 1] = low > 0xffffffff ? this.#baseHigh + 1 : this.#baseHigh
  }

  /** Writes a native address (or a size_t) at `offset`. */
  setPointer(offset: number, value: number): void {
    this.view.setUint32(offset, value >>> 0, true)
    this.view.setUint32(offset + 4, Math.floor(value / 4294967296), true)
  }
}
