/**
 * Changes to DNS messages where it hurts: counts, lengths of labels, pointers, RDLENGTH, types, OPT and TSIG, besides bits and bytes. Messages are walked
 * loosely here, by code of its own: what the codec thinks of them does not matter.
 */
import { Class, Opcode, Type } from '../../dns/constants.ts'
import { HEADER } from '../../dns/message.ts'
import { chainOfPointers } from './dnsChain.ts'
import { joined, type Random } from './random.ts'

/** Places of a message, by what stands there. */
interface Places {
  /** length bytes of labels, pointers and ends of names */
  labels: number[]
  /** of records: where the type stands */
  fixed: number[]
  /** of records: where they begin */
  starts: number[]
  end: number
}

const COUNTS = [4, 6, 8, 10]
const TYPES: readonly number[] = [...Object.values(Type), 0, 11, 65280, 65535]
const CLASSES: readonly number[] = [...Object.values(Class), 0, 2, 512, 1232, 65535]
const LENGTHS = [0, 1, 2, 62, 63, 64, 65, 127, 128, 191, 192, 193, 255]
const LONG = 65_536
const LINKS = [1, 2, 60, 127, 128, 129, 3000]

export class MessageMutator {
  readonly #random: Random
  readonly #seeds: readonly Uint8Array[]

  constructor(random: Random, seeds: readonly Uint8Array[]) {
    this.#random = random
    this.#seeds = seeds
  }

  next(): Uint8Array {
    const random = this.#random
    const kind = random.below(4096)
    if (kind < 3) return joined(this.#seed(), new Uint8Array(LONG - random.below(40)))
    if (kind < 16) return this.#chain()
    if (kind < 128) return random.bytes(random.below(random.oneIn(2) ? 40 : 600))
    if (kind < 256) return this.#promising()
    if (kind < 512) return this.#seed().slice()
    return this.change(this.#seed())
  }

  #seed(): Uint8Array {
    return this.#random.pick(this.#seeds)
  }

  /** One to four changes of a message. */
  change(original: Uint8Array): Uint8Array {
    const random = this.#random
    let bytes: Uint8Array = original.slice()
    for (let left = 1 + random.below(4); left > 0 && bytes.length > HEADER; left--) bytes = this.#change(bytes)
    return bytes
  }

  #change(bytes: Uint8Array): Uint8Array {
    const random = this.#random
    const places = placesOf(bytes)
    const at = HEADER + random.below(bytes.length - HEADER)
    switch (random.below(16)) {
      case 0:
        put(bytes, random.pick(COUNTS), random.pick([0, 1, 2, 3, 255, 65535]))
        return bytes
      case 1:
        if (places.labels.length > 0) bytes[random.pick(places.labels)] = random.pick(LENGTHS)
        return bytes
      case 2:
        return this.#point(bytes, places)
      case 3:
        return this.#length(bytes, places)
      case 4:
        if (places.fixed.length > 0) put(bytes, random.pick(places.fixed), random.pick(TYPES))
        return bytes
      case 5:
        if (places.fixed.length > 0) put(bytes, random.pick(places.fixed) + 2, random.pick(CLASSES))
        return bytes
      case 6:
        if (places.fixed.length > 0) bytes.set(random.bytes(4), random.pick(places.fixed) + 4)
        return bytes
      case 7:
        return this.#repeat(bytes, places)
      case 8:
        return this.#addRecord(bytes)
      case 9:
        return bytes.slice(0, places.labels.length > 0 && random.oneIn(2) ? random.pick(places.labels) : at)
      case 10: {
        const other = this.#seed()
        return joined(bytes.subarray(0, at), other.subarray(random.below(other.length)))
      }
      case 11:
        return joined(bytes.subarray(0, at), random.bytes(1 + random.below(8)), bytes.subarray(at))
      case 12:
        return this.#empty(bytes, places)
      case 13:
        put(bytes, 2, random.oneIn(2) ? random.below(65536) : random.pick([0, 0x100, 0x200, 0x8000, 0x2000, 0xa800]))
        return bytes
      case 14:
        bytes[at]! ^= 1 << random.below(8)
        return bytes
      default:
        bytes[at] = random.oneIn(2) ? random.below(256) : random.pick(LENGTHS)
        return bytes
    }
  }

  // to itself, forwards, into the header, to its own labels, to another name, to the end
  #point(bytes: Uint8Array, { labels }: Places): Uint8Array {
    const random = this.#random
    if (labels.length === 0) return bytes
    const at = random.pick(labels)
    const target = random.pick([at, at + 2, random.below(HEADER), at - 1, random.pick(labels), bytes.length, 0x3fff])
    if (at + 1 < bytes.length) put(bytes, at, 0xc000 | (target & 0x3fff))
    return bytes
  }

  #length(bytes: Uint8Array, { fixed }: Places): Uint8Array {
    const random = this.#random
    if (fixed.length === 0) return bytes
    const at = random.pick(fixed) + 8
    if (at + 2 > bytes.length) return bytes
    const now = (bytes[at]! << 8) | bytes[at + 1]!
    put(bytes, at, random.pick([now + 1, now - 1, 0, 1, 65535, bytes.length - at - 2, random.below(65536)]) & 0xffff)
    return bytes
  }

  // a record once more, or a hundred times, at the end
  #repeat(bytes: Uint8Array, { starts, end }: Places): Uint8Array {
    const random = this.#random
    if (starts.length === 0 || end > bytes.length) return bytes
    const i = random.below(starts.length)
    const record = bytes.slice(starts[i], starts[i + 1] ?? end)
    const times = random.oneIn(8) && record.length < 100 ? 100 : 1
    const out = joined(bytes, ...new Array<Uint8Array>(times).fill(record))
    const countAt = random.pick(COUNTS.slice(1))
    put(out, countAt, (out[countAt]! << 8) + out[countAt + 1]! + times)
    return out
  }

  // OPT, TSIG or any other record, at the end of the message
  #addRecord(bytes: Uint8Array): Uint8Array {
    const random = this.#random
    const type = random.pick([Type.OPT, Type.OPT, Type.TSIG, Type.TSIG, random.pick(TYPES)])
    const recordClass = type === Type.TSIG ? Class.ANY : random.pick(CLASSES)
    const data = random.bytes(random.below(random.oneIn(4) ? 300 : 24))
    if (random.oneIn(2) && data.length >= 4) data.set([0, random.below(20), 0, data.length - 4])
    const record = new Uint8Array(11 + data.length)
    put(record, 1, type)
    put(record, 3, recordClass)
    put(record, 9, data.length)
    record.set(data, 11)
    const out = joined(bytes, record)
    put(out, 10, ((out[10]! << 8) + out[11]! + 1) & 0xffff)
    return out
  }

  // a record without data, as updates have them, in an update or not
  #empty(bytes: Uint8Array, { fixed }: Places): Uint8Array {
    const random = this.#random
    if (fixed.length === 0) return bytes
    const at = random.pick(fixed)
    if (at + 10 > bytes.length) return bytes
    const length = (bytes[at + 8]! << 8) | bytes[at + 9]!
    put(bytes, at + 2, random.pick([Class.IN, Class.ANY, Class.NONE]))
    put(bytes, at + 8, 0)
    if (random.oneIn(2)) bytes[2] = (bytes[2]! & 0x87) | (Opcode.UPDATE << 3)
    return joined(bytes.subarray(0, at + 10), bytes.subarray(Math.min(bytes.length, at + 10 + length)))
  }

  // noise behind a header that promises little
  #promising(): Uint8Array {
    const random = this.#random
    const rest = Uint8Array.from({ length: random.below(120) }, () =>
      random.pick([0, 0, 0, 1, 1, 3, 12, 97, 192, 41, 250]),
    )
    const head = Uint8Array.of(
      1,
      2,
      random.pick([0, 1, 0x80]),
      0,
      0,
      random.below(2),
      0,
      random.below(3),
      0,
      0,
      0,
      random.below(3),
    )
    return joined(head, rest)
  }

  // pointers to pointers, with and without labels between them, and a record named by the last
  #chain(): Uint8Array {
    const random = this.#random
    return chainOfPointers(random.pick(LINKS), random.oneIn(2) ? [1, 97] : [], 1 + random.below(3))
  }
}

function put(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

function placesOf(bytes: Uint8Array): Places {
  const places: Places = { labels: [], fixed: [], starts: [], end: bytes.length }
  const count = (at: number) => (bytes[at]! << 8) | bytes[at + 1]!
  const records = Math.min(64, count(6) + count(8) + count(10))
  let at = HEADER
  const name = () => {
    while (at < bytes.length && places.labels.length < 400) {
      places.labels.push(at)
      const length = bytes[at]!
      at += length >= 192 ? 2 : 1 + length
      if (length === 0 || length >= 192) return
    }
  }
  for (let i = Math.min(4, count(4)); i > 0; i--) {
    name()
    at += 4
  }
  for (let i = records; i > 0 && at < bytes.length; i--) {
    places.starts.push(at)
    name()
    if (at + 10 > bytes.length) break
    places.fixed.push(at)
    at += 10 + count(at + 8)
  }
  places.end = at
  return places
}
