/** Chance that can be repeated: xorshift of 32 bits from a seed, and what the fuzzers do to plain bytes. */

/** values that sit at the edges of fields of headers */
const INTERESTING = [
  0, 1, 2, 3, 4, 6, 7, 8, 11, 16, 17, 20, 40, 44, 47, 50, 58, 59, 60, 64, 127, 128, 129, 132, 224, 254, 255,
]

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 1
  }

  /** 32 bits, signed */
  word(): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return this.#state
  }

  below(end: number): number {
    return (this.word() >>> 0) % end
  }

  oneIn(count: number): boolean {
    return this.below(count) === 0
  }

  pick<Value>(list: readonly Value[]): Value {
    return list[this.below(list.length)]!
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.below(256)
    return bytes
  }

  /** Up to four changes anywhere: bits, bytes, words, an end that is cut or added, a part copied over another. */
  mutate(original: Uint8Array): Uint8Array {
    let bytes: Uint8Array = original.slice()
    for (let i = this.below(5); i > 0 && bytes.length > 0; i--) {
      const at = this.below(bytes.length)
      switch (this.below(7)) {
        case 0:
          bytes[at]! ^= 1 << this.below(8)
          break
        case 1:
          bytes[at] = this.pick(INTERESTING)
          break
        case 2:
          bytes[at] = this.below(256)
          break
        case 3:
          bytes = bytes.slice(0, at)
          break
        case 4:
          bytes = joined(bytes, this.bytes(this.below(64)))
          break
        case 5:
          if (at + 1 < bytes.length) bytes.set(this.bytes(2), at)
          break
        default:
          bytes.copyWithin(at, this.below(bytes.length))
      }
    }
    return bytes
  }
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}
