/**
 * The remote gateways, in shared memory: what the workers need to reach one, and what they saw of it.
 *
 * Written by the main thread (gateway/peers): address, port, flags, mtu, the index. Written by the encap worker: the
 * `…Out` columns; by the decap worker: the `…In` columns, lastSeen and the candidate. Nobody else writes any of them. A peer
 * number is handed out again only after a delay, so a worker that still holds one sends to nobody new.
 */
export const PeerFlag = {
  used: 1,
  /** proved that it is reached at this address and port, or is configured: no budget */
  verified: 2,
  /** named by a flag or a resource: never evicted, always probed */
  configured: 4,
  /** our side spoke first: it is reached at the default port without a budget */
  outbound: 8,
} as const

const COLUMNS = { address: 4, port: 1, flags: 1, mtu: 1, lastSeen: 1, candidatePort: 1, candidateSeen: 1 } as const
const COUNTERS = ['bytesIn', 'packetsIn', 'bytesOut', 'packetsOut'] as const

export class PeerTable {
  readonly capacity: number
  readonly buffer: SharedArrayBuffer
  /** four words for each peer */
  readonly address: Int32Array
  readonly port: Int32Array
  readonly flags: Int32Array
  /** path MTU, outer IP header included */
  readonly mtu: Int32Array
  /** seconds */
  readonly lastSeen: Int32Array
  /** a source port that is not the current one, and when it was reported (seconds) */
  readonly candidatePort: Int32Array
  readonly candidateSeen: Int32Array
  readonly bytesIn: Float64Array
  readonly packetsIn: Float64Array
  readonly bytesOut: Float64Array
  readonly packetsOut: Float64Array
  /** open addressing by address: number + 1, 0 empty */
  readonly #index: Int32Array

  static allocate(capacity: number): SharedArrayBuffer {
    const words = Object.values(COLUMNS).reduce((a, b) => a + b, 0)
    return new SharedArrayBuffer(capacity * (COUNTERS.length * 8 + words * 4) + indexSize(capacity) * 4)
  }

  constructor(buffer: SharedArrayBuffer, capacity: number) {
    this.buffer = buffer
    this.capacity = capacity
    let offset = 0
    const floats = () => {
      const column = new Float64Array(buffer, offset, capacity)
      offset += capacity * 8
      return column
    }
    const words = (width: number, count = capacity) => {
      const column = new Int32Array(buffer, offset, count * width)
      offset += count * width * 4
      return column
    }
    this.bytesIn = floats()
    this.packetsIn = floats()
    this.bytesOut = floats()
    this.packetsOut = floats()
    this.address = words(COLUMNS.address)
    this.port = words(COLUMNS.port)
    this.flags = words(COLUMNS.flags)
    this.mtu = words(COLUMNS.mtu)
    this.lastSeen = words(COLUMNS.lastSeen)
    this.candidatePort = words(COLUMNS.candidatePort)
    this.candidateSeen = words(COLUMNS.candidateSeen)
    this.#index = words(1, indexSize(capacity))
  }

  /** Number of the peer with this address, or -1. May miss one that is being added or removed at this moment. */
  find(a0: number, a1: number, a2: number, a3: number): number {
    const mask = this.#index.length - 1
    for (let slot = hash(a0, a1, a2, a3) & mask, steps = 0; steps <= mask; slot = (slot + 1) & mask, steps++) {
      const entry = Atomics.load(this.#index, slot)
      if (entry === 0) return -1
      if (this.#hasAddress(entry - 1, a0, a1, a2, a3)) return entry - 1
    }
    return -1
  }

  #hasAddress(peer: number, a0: number, a1: number, a2: number, a3: number): boolean {
    const at = peer * 4
    const { address } = this
    return address[at] === a0 && address[at + 1] === a1 && address[at + 2] === a2 && address[at + 3] === a3
  }

  /** Main thread only: put the address of an unused number into the index. */
  insert(peer: number, a0: number, a1: number, a2: number, a3: number): void {
    this.address.set([a0, a1, a2, a3], peer * 4)
    const mask = this.#index.length - 1
    let slot = hash(a0, a1, a2, a3) & mask
    while (this.#index[slot] !== 0) slot = (slot + 1) & mask
    Atomics.store(this.#index, slot, peer + 1)
  }

  /** Main thread only: take it out of the index; the columns keep their values. */
  remove(peer: number): void {
    const mask = this.#index.length - 1
    const wordAt = peer * 4
    const { address } = this
    let slot = hash(address[wordAt]!, address[wordAt + 1]!, address[wordAt + 2]!, address[wordAt + 3]!) & mask
    while (this.#index[slot] !== peer + 1) {
      if (this.#index[slot] === 0) return
      slot = (slot + 1) & mask
    }
    this.#closeGap(slot)
  }

  // backward shift: entries behind the gap move into it unless that would put them before their home slot
  #closeGap(gap: number): void {
    const mask = this.#index.length - 1
    for (let slot = (gap + 1) & mask; this.#index[slot] !== 0; slot = (slot + 1) & mask) {
      const at = (this.#index[slot]! - 1) * 4
      const { address } = this
      const home = hash(address[at]!, address[at + 1]!, address[at + 2]!, address[at + 3]!) & mask
      if (((slot - home) & mask) < ((slot - gap) & mask)) continue
      Atomics.store(this.#index, gap, this.#index[slot]!)
      gap = slot
    }
    Atomics.store(this.#index, gap, 0)
  }
}

function indexSize(capacity: number): number {
  let size = 64
  while (size < capacity * 4) size *= 2
  return size
}

// peers are few and bounded, so a fixed mix is enough: filling the table needs as many addresses as it has places
function hash(a0: number, a1: number, a2: number, a3: number): number {
  let h = Math.imul(a0 ^ Math.imul(a1, 0x9e3779b1), 0x85ebca6b)
  h = Math.imul(h ^ a2 ^ (h >>> 15), 0xc2b2ae35)
  h = Math.imul(h ^ a3 ^ (h >>> 13), 0x27d4eb2f)
  return h ^ (h >>> 16)
}
