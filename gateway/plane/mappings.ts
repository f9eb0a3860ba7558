/**
 * The mapping tables, in shared memory: two relations, each looked up from both sides.
 *
 *   ours     native address     ⇔  reference               encap: source       decap: destination
 *   theirs   encoded address    ⇔  context + reference     encap: destination  decap: source
 *
 *   index (open addressing, slot + 1, 0 = empty) ──► record (words of both keys) + columns by slot
 *
 * One writer: the mapper, on the main thread, through MappingsWriter. Any number of readers, through MappingsReader, which never wait:
 * a record is guarded by its own sequence number (odd: being written), the indexes by a generation (odd: being rearranged). A reader
 * that finds nothing while the generation moves looks again; in the end it reports a miss, and the main thread, which knows better, hands the
 * packet back. Readers write `lastUsed`, `answered` and the path MTU of hosts, and nothing else.
 *
 * Seconds are those of the monotonic clock, so that a jump of the wall clock expires nothing. Hashes are seeded with a random word:
 * references in packets are chosen by strangers.
 */
import { randomBytes } from 'node:crypto'
import type { AddressWords } from '../../ipref/address.ts'
import { isMapped, type Tables } from '../forward/tables.ts'
import type { PeerTable } from './peerTable.ts'

/** `expires` of a mapping that lasts as long as its source says. */
export const NEVER = 0x7fffffff
const UNLIMITED_MTU = 65535
/** A path MTU that a local router reported is forgotten after this (RFC 8201 section 4: not sooner than 5 minutes). */
const HOST_MTU_HOLD_S = 600
const READ_TRIES = 4

const OURS_STRIDE = 8
const THEIRS_STRIDE = 12
/** header words of each relation */
const at = { seed: 0, generation: 1 } as const
const HEADER_WORDS = 16

function mix(h: number, word: number): number {
  h = Math.imul(h ^ word, 0x9e3779b1)
  return h ^ (h >>> 15)
}

function finish(h: number): number {
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return h ^ (h >>> 16)
}

function hash4(seed: number, a0: number, a1: number, a2: number, a3: number): number {
  return finish(mix(mix(mix(mix(seed, a0), a1), a2), a3))
}

function indexSize(capacity: number): number {
  let size = 64
  while (size < capacity * 2) size *= 2
  return size
}

/** Cuts one buffer into Int32 columns. */
class Columns {
  readonly #buffer: SharedArrayBuffer
  #offset = 0

  constructor(buffer: SharedArrayBuffer) {
    this.#buffer = buffer
  }

  take(words: number): Int32Array {
    const column = new Int32Array(this.#buffer, this.#offset, words)
    this.#offset += words * 4
    return column
  }
}

/** The shared columns of one relation: a record of key words, and what both relations have. */
class Relation {
  readonly capacity: number
  readonly header: Int32Array
  readonly records: Int32Array
  readonly sequence: Int32Array
  readonly expires: Int32Array
  readonly lastUsed: Int32Array
  /** ours: path MTU to the host, and until when it holds; theirs: number of the peer, and whether the host answered */
  readonly extra1: Int32Array
  readonly extra2: Int32Array
  /** by local address */
  readonly localIndex: Int32Array
  /** by reference, or by context + reference */
  readonly remoteIndex: Int32Array
  readonly stride: number

  static allocate(capacity: number, stride: number): SharedArrayBuffer {
    return new SharedArrayBuffer((HEADER_WORDS + capacity * (stride + 5) + 2 * indexSize(capacity)) * 4)
  }

  constructor(buffer: SharedArrayBuffer, stride: number) {
    const words = buffer.byteLength / 4 - HEADER_WORDS
    this.stride = stride
    this.capacity = capacityOf(words, stride)
    const columns = new Columns(buffer)
    this.header = columns.take(HEADER_WORDS)
    this.records = columns.take(this.capacity * stride)
    this.sequence = columns.take(this.capacity)
    this.expires = columns.take(this.capacity)
    this.lastUsed = columns.take(this.capacity)
    this.extra1 = columns.take(this.capacity)
    this.extra2 = columns.take(this.capacity)
    this.localIndex = columns.take(indexSize(this.capacity))
    this.remoteIndex = columns.take(indexSize(this.capacity))
  }
}

// the capacity that `allocate` was given: the word count grows with it, so bisection finds it
function capacityOf(words: number, stride: number): number {
  let low = 0
  let high = Math.floor(words / stride)
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (middle * (stride + 5) + 2 * indexSize(middle) <= words) low = middle
    else high = middle - 1
  }
  return low
}

function sameWords(records: Int32Array, i: number, w: AddressWords): boolean {
  return records[i] === w[0] && records[i + 1] === w[1] && records[i + 2] === w[2] && records[i + 3] === w[3]
}

function wordsAt(records: Int32Array, i: number): AddressWords {
  return [records[i]!, records[i + 1]!, records[i + 2]!, records[i + 3]!]
}

/** What the writers of both relations share: slots, and the two indexes. */
abstract class TableWriter {
  protected readonly relation: Relation
  readonly capacity: number
  readonly expires: Int32Array
  readonly lastUsed: Int32Array
  readonly #free: number[] = []
  #highWater = 0

  constructor(relation: Relation) {
    this.relation = relation
    this.capacity = relation.capacity
    this.expires = relation.expires
    this.lastUsed = relation.lastUsed
  }

  get size(): number {
    return this.#highWater - this.#free.length
  }

  /** Slots at and above this were never used: bound for scans. */
  get highWater(): number {
    return this.#highWater
  }

  /** An odd or zero sequence: not in use. */
  isUsed(slot: number): boolean {
    const sequence = this.relation.sequence[slot]!
    return sequence !== 0 && (sequence & 1) === 0
  }

  protected takeSlot(): number {
    const slot = this.#free.pop()
    if (slot !== undefined) return slot
    return this.#highWater < this.capacity ? this.#highWater++ : -1
  }

  protected beginWrite(slot: number): void {
    Atomics.or(this.relation.sequence, slot, 1)
  }

  // even and never 0: 0 says "never used"
  protected endWrite(slot: number): void {
    const next = ((this.relation.sequence[slot]! | 1) + 1) & 0x7ffffffe
    Atomics.store(this.relation.sequence, slot, next === 0 ? 2 : next)
  }

  protected insert(index: Int32Array, hash: number, slot: number): void {
    const mask = index.length - 1
    let place = hash & mask
    while (index[place] !== 0) place = (place + 1) & mask
    Atomics.store(index, place, slot + 1)
  }

  protected abstract localHash(slot: number): number
  protected abstract remoteHash(slot: number): number

  remove(slot: number): void {
    if (!this.isUsed(slot)) return
    const { header, localIndex, remoteIndex } = this.relation
    Atomics.add(header, at.generation, 1)
    this.#close(localIndex, slot, s => this.localHash(s))
    this.#close(remoteIndex, slot, s => this.remoteHash(s))
    this.beginWrite(slot)
    Atomics.add(header, at.generation, 1)
    this.#free.push(slot)
  }

  // backward shift: an entry behind the gap moves into it unless that would put it before its home
  #close(index: Int32Array, slot: number, hashOf: (slot: number) => number): void {
    const mask = index.length - 1
    let gap = hashOf(slot) & mask
    while (index[gap] !== slot + 1) {
      if (index[gap] === 0) return
      gap = (gap + 1) & mask
    }
    for (let place = (gap + 1) & mask; index[place] !== 0; place = (place + 1) & mask) {
      const home = hashOf(index[place]! - 1) & mask
      if (((place - home) & mask) < ((place - gap) & mask)) continue
      Atomics.store(index, gap, index[place]!)
      gap = place
    }
    Atomics.store(index, gap, 0)
  }
}

/** Our hosts: native address ⇔ reference. Keys are unique; `add` of one that is there is a mistake of the caller. */
export class OursTable extends TableWriter {
  /** Slot, or -1: no room. */
  add(address: AddressWords, reference: AddressWords, expires: number): number {
    const slot = this.takeSlot()
    if (slot < 0) return -1
    const { relation } = this
    this.beginWrite(slot)
    relation.records.set(address, slot * OURS_STRIDE)
    relation.records.set(reference, slot * OURS_STRIDE + 4)
    relation.expires[slot] = expires
    relation.lastUsed[slot] = 0
    relation.extra1[slot] = 0
    relation.extra2[slot] = 0
    this.endWrite(slot)
    this.insert(relation.localIndex, this.localHash(slot), slot)
    this.insert(relation.remoteIndex, this.remoteHash(slot), slot)
    return slot
  }

  findAddress(address: AddressWords): number {
    return this.#find(this.relation.localIndex, address, 0)
  }

  findReference(reference: AddressWords): number {
    return this.#find(this.relation.remoteIndex, reference, 4)
  }

  address(slot: number): AddressWords {
    return wordsAt(this.relation.records, slot * OURS_STRIDE)
  }

  reference(slot: number): AddressWords {
    return wordsAt(this.relation.records, slot * OURS_STRIDE + 4)
  }

  protected override localHash(slot: number): number {
    const { records, header } = this.relation
    const i = slot * OURS_STRIDE
    return hash4(header[at.seed]!, records[i]!, records[i + 1]!, records[i + 2]!, records[i + 3]!)
  }

  protected override remoteHash(slot: number): number {
    const { records, header } = this.relation
    const i = slot * OURS_STRIDE + 4
    return hash4(header[at.seed]!, records[i]!, records[i + 1]!, records[i + 2]!, records[i + 3]!)
  }

  #find(index: Int32Array, key: AddressWords, offset: number): number {
    const { records, header } = this.relation
    const mask = index.length - 1
    let place = hash4(header[at.seed]!, key[0], key[1], key[2], key[3]) & mask
    for (; index[place] !== 0; place = (place + 1) & mask) {
      const slot = index[place]! - 1
      if (sameWords(records, slot * OURS_STRIDE + offset, key)) return slot
    }
    return -1
  }
}

/** Remote hosts: encoded address ⇔ context + reference. One encoded address of each family for one remote host. */
export class TheirsTable extends TableWriter {
  /** 1: the local host answered with something that is no RST and no ICMP error. Written by the encap worker. */
  readonly answered: Int32Array

  constructor(relation: Relation) {
    super(relation)
    this.answered = relation.extra2
  }

  /** Slot, or -1: no room. */
  add(record: {
    ea: AddressWords
    context: AddressWords
    reference: AddressWords
    peer: number
    expires: number
  }): number {
    const slot = this.takeSlot()
    if (slot < 0) return -1
    const { relation } = this
    const i = slot * THEIRS_STRIDE
    this.beginWrite(slot)
    relation.records.set(record.ea, i)
    relation.records.set(record.context, i + 4)
    relation.records.set(record.reference, i + 8)
    relation.expires[slot] = record.expires
    relation.lastUsed[slot] = 0
    relation.extra1[slot] = record.peer
    relation.extra2[slot] = 0
    this.endWrite(slot)
    this.insert(relation.localIndex, this.localHash(slot), slot)
    this.insert(relation.remoteIndex, this.remoteHash(slot), slot)
    return slot
  }

  findEncoded(ea: AddressWords): number {
    const { records, header, localIndex: index } = this.relation
    const mask = index.length - 1
    let place = hash4(header[at.seed]!, ea[0], ea[1], ea[2], ea[3]) & mask
    for (; index[place] !== 0; place = (place + 1) & mask) {
      const slot = index[place]! - 1
      if (sameWords(records, slot * THEIRS_STRIDE, ea)) return slot
    }
    return -1
  }

  findRemote(context: AddressWords, reference: AddressWords, family: 4 | 6): number {
    const { records, header, remoteIndex: index } = this.relation
    const mask = index.length - 1
    let place = hashRemote(header[at.seed]!, context, reference) & mask
    for (; index[place] !== 0; place = (place + 1) & mask) {
      const slot = index[place]! - 1
      const i = slot * THEIRS_STRIDE
      if (!sameWords(records, i + 4, context) || !sameWords(records, i + 8, reference)) continue
      if (isMapped(records[i]!, records[i + 1]!, records[i + 2]!) === (family === 4)) return slot
    }
    return -1
  }

  encoded(slot: number): AddressWords {
    return wordsAt(this.relation.records, slot * THEIRS_STRIDE)
  }

  context(slot: number): AddressWords {
    return wordsAt(this.relation.records, slot * THEIRS_STRIDE + 4)
  }

  reference(slot: number): AddressWords {
    return wordsAt(this.relation.records, slot * THEIRS_STRIDE + 8)
  }

  peer(slot: number): number {
    return this.relation.extra1[slot]!
  }

  /** The context is the same, and whether it is ours has changed. */
  setPeer(slot: number, peer: number): void {
    this.beginWrite(slot)
    this.relation.extra1[slot] = peer
    this.endWrite(slot)
  }

  protected override localHash(slot: number): number {
    const { records, header } = this.relation
    const i = slot * THEIRS_STRIDE
    return hash4(header[at.seed]!, records[i]!, records[i + 1]!, records[i + 2]!, records[i + 3]!)
  }

  protected override remoteHash(slot: number): number {
    return hashRemote(this.relation.header[at.seed]!, this.context(slot), this.reference(slot))
  }
}

function hashRemote(seed: number, c: AddressWords, r: AddressWords): number {
  return finish(mix(mix(mix(mix(mix(mix(mix(mix(seed, c[0]), c[1]), c[2]), c[3]), r[0]), r[1]), r[2]), r[3]))
}

export class MappingsWriter {
  readonly buffers: SharedArrayBuffer[]
  readonly ours: OursTable
  readonly theirs: TheirsTable

  static allocate(capacity: { ours: number; theirs: number }): SharedArrayBuffer[] {
    const buffers = [Relation.allocate(capacity.ours, OURS_STRIDE), Relation.allocate(capacity.theirs, THEIRS_STRIDE)]
    for (const buffer of buffers) new Int32Array(buffer, 0, 1)[at.seed] = randomBytes(4).readInt32LE()
    return buffers
  }

  constructor(buffers: SharedArrayBuffer[]) {
    this.buffers = buffers
    this.ours = new OursTable(new Relation(buffers[0]!, OURS_STRIDE))
    this.theirs = new TheirsTable(new Relation(buffers[1]!, THEIRS_STRIDE))
  }
}

/** What encap and decap read. One object per worker; the registers are those of the Tables port. */
export class MappingsReader implements Tables {
  r0 = 0
  r1 = 0
  r2 = 0
  r3 = 0
  c0 = 0
  c1 = 0
  c2 = 0
  c3 = 0
  a0 = 0
  a1 = 0
  a2 = 0
  a3 = 0
  peer = -1
  peerMtu = UNLIMITED_MTU
  hostMtu = UNLIMITED_MTU
  isPublished = false
  /** Monotonic seconds; set before each batch. */
  now = 0
  readonly #ours: Relation
  readonly #theirs: Relation
  readonly #peers: PeerTable
  readonly #oursSeed: number
  readonly #theirsSeed: number
  #answerSlot = -1

  constructor(buffers: SharedArrayBuffer[], peers: PeerTable) {
    this.#ours = new Relation(buffers[0]!, OURS_STRIDE)
    this.#theirs = new Relation(buffers[1]!, THEIRS_STRIDE)
    this.#peers = peers
    this.#oursSeed = this.#ours.header[at.seed]!
    this.#theirsSeed = this.#theirs.header[at.seed]!
  }

  findNative(a0: number, a1: number, a2: number, a3: number): boolean {
    const { header, records, sequence, localIndex: index, lastUsed } = this.#ours
    const mask = index.length - 1
    for (let tries = 0; tries < READ_TRIES; tries++) {
      const generation = Atomics.load(header, at.generation)
      let place = hash4(this.#oursSeed, a0, a1, a2, a3) & mask
      for (let entry = Atomics.load(index, place); entry !== 0; entry = Atomics.load(index, place)) {
        const slot = entry - 1
        const before = Atomics.load(sequence, slot)
        const i = slot * OURS_STRIDE
        if (records[i + 3] === a3 && records[i] === a0 && records[i + 1] === a1 && records[i + 2] === a2) {
          this.r0 = Atomics.load(records, i + 4)
          this.r1 = Atomics.load(records, i + 5)
          this.r2 = Atomics.load(records, i + 6)
          this.r3 = Atomics.load(records, i + 7)
          if ((before & 1) === 0 && Atomics.load(sequence, slot) === before) {
            if (this.#ours.expires[slot]! <= this.now) return false
            if (lastUsed[slot] !== this.now) lastUsed[slot] = this.now
            return true
          }
        }
        place = (place + 1) & mask
      }
      if (Atomics.load(header, at.generation) === generation && (generation & 1) === 0) return false
    }
    return false
  }

  findReference(r0: number, r1: number, r2: number, r3: number): boolean {
    const { header, records, sequence, remoteIndex: index, lastUsed } = this.#ours
    const mask = index.length - 1
    for (let tries = 0; tries < READ_TRIES; tries++) {
      const generation = Atomics.load(header, at.generation)
      let place = hash4(this.#oursSeed, r0, r1, r2, r3) & mask
      for (let entry = Atomics.load(index, place); entry !== 0; entry = Atomics.load(index, place)) {
        const slot = entry - 1
        const before = Atomics.load(sequence, slot)
        const i = slot * OURS_STRIDE
        if (records[i + 7] === r3 && records[i + 4] === r0 && records[i + 5] === r1 && records[i + 6] === r2) {
          this.a0 = Atomics.load(records, i)
          this.a1 = Atomics.load(records, i + 1)
          this.a2 = Atomics.load(records, i + 2)
          this.a3 = Atomics.load(records, i + 3)
          if ((before & 1) === 0 && Atomics.load(sequence, slot) === before) {
            if (this.#ours.expires[slot]! <= this.now) return false
            if (lastUsed[slot] !== this.now) lastUsed[slot] = this.now
            this.hostMtu = this.#ours.extra2[slot]! > this.now ? this.#ours.extra1[slot]! : UNLIMITED_MTU
            this.isPublished = this.#ours.expires[slot] === NEVER
            return true
          }
        }
        place = (place + 1) & mask
      }
      if (Atomics.load(header, at.generation) === generation && (generation & 1) === 0) return false
    }
    return false
  }

  findEncoded(a0: number, a1: number, a2: number, a3: number): boolean {
    const { header, records, sequence, localIndex: index, lastUsed } = this.#theirs
    const mask = index.length - 1
    this.#answerSlot = -1
    for (let tries = 0; tries < READ_TRIES; tries++) {
      const generation = Atomics.load(header, at.generation)
      let place = hash4(this.#theirsSeed, a0, a1, a2, a3) & mask
      for (let entry = Atomics.load(index, place); entry !== 0; entry = Atomics.load(index, place)) {
        const slot = entry - 1
        const before = Atomics.load(sequence, slot)
        const i = slot * THEIRS_STRIDE
        if (records[i + 3] === a3 && records[i] === a0 && records[i + 1] === a1 && records[i + 2] === a2) {
          this.c0 = Atomics.load(records, i + 4)
          this.c1 = Atomics.load(records, i + 5)
          this.c2 = Atomics.load(records, i + 6)
          this.c3 = Atomics.load(records, i + 7)
          this.r0 = Atomics.load(records, i + 8)
          this.r1 = Atomics.load(records, i + 9)
          this.r2 = Atomics.load(records, i + 10)
          this.r3 = Atomics.load(records, i + 11)
          this.peer = Atomics.load(this.#theirs.extra1, slot)
          if ((before & 1) === 0 && Atomics.load(sequence, slot) === before) {
            if (this.#theirs.expires[slot]! <= this.now) return false
            if (lastUsed[slot] !== this.now) lastUsed[slot] = this.now
            this.peerMtu = this.peer >= 0 ? this.#peers.mtu[this.peer]! : UNLIMITED_MTU
            this.#answerSlot = slot
            return true
          }
        }
        place = (place + 1) & mask
      }
      if (Atomics.load(header, at.generation) === generation && (generation & 1) === 0) return false
    }
    return false
  }

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
  ): boolean {
    const { header, records, sequence, remoteIndex: index, lastUsed } = this.#theirs
    const mask = index.length - 1
    const hash = finish(mix(mix(mix(mix(mix(mix(mix(mix(this.#theirsSeed, c0), c1), c2), c3), r0), r1), r2), r3))
    for (let tries = 0; tries < READ_TRIES; tries++) {
      const generation = Atomics.load(header, at.generation)
      let place = hash & mask
      for (let entry = Atomics.load(index, place); entry !== 0; entry = Atomics.load(index, place)) {
        const slot = entry - 1
        const before = Atomics.load(sequence, slot)
        const i = slot * THEIRS_STRIDE
        if (
          records[i + 11] === r3 &&
          records[i + 7] === c3 &&
          records[i + 4] === c0 &&
          records[i + 5] === c1 &&
          records[i + 6] === c2 &&
          records[i + 8] === r0 &&
          records[i + 9] === r1 &&
          records[i + 10] === r2
        ) {
          const a0 = Atomics.load(records, i)
          const a1 = Atomics.load(records, i + 1)
          const a2 = Atomics.load(records, i + 2)
          const a3 = Atomics.load(records, i + 3)
          if (
            isMapped(a0, a1, a2) === (family === 4) &&
            (before & 1) === 0 &&
            Atomics.load(sequence, slot) === before
          ) {
            if (this.#theirs.expires[slot]! <= this.now) return false
            if (lastUsed[slot] !== this.now) lastUsed[slot] = this.now
            this.a0 = a0
            this.a1 = a1
            this.a2 = a2
            this.a3 = a3
            return true
          }
        }
        place = (place + 1) & mask
      }
      if (Atomics.load(header, at.generation) === generation && (generation & 1) === 0) return false
    }
    return false
  }

  /** The packet to the encoded address found last is an answer: no RST, no ICMP error. A tentative mapping may stay. */
  noteAnswer(): void {
    const slot = this.#answerSlot
    if (slot >= 0 && this.#theirs.extra2[slot] === 0) this.#theirs.extra2[slot] = 1
  }

  noteHostMtu(a0: number, a1: number, a2: number, a3: number, mtu: number): void {
    const { records, localIndex: index, extra1, extra2 } = this.#ours
    const mask = index.length - 1
    let place = hash4(this.#oursSeed, a0, a1, a2, a3) & mask
    for (let entry = Atomics.load(index, place); entry !== 0; entry = Atomics.load(index, place)) {
      const i = (entry - 1) * OURS_STRIDE
      if (records[i + 3] === a3 && records[i] === a0 && records[i + 1] === a1 && records[i + 2] === a2) {
        extra1[entry - 1] = mtu
        extra2[entry - 1] = this.now + HOST_MTU_HOLD_S
        return
      }
      place = (place + 1) & mask
    }
  }
}
