/**
 * Counters of one packet worker, in shared memory.
 *
 * The worker alone adds (plain float64 stores, exact to 2^53); the main thread reads at scrape. Everything that came in is
 * accounted for: packetsIn = forwarded + answered + dropped + held + waiting, where forwarded counts what was received, not
 * what left, `dropped` and `answered` are the sums over their reasons, and `waiting` packets come back through the miss ring (counted once).
 */
import { faultNames } from '../../ipref/faults.ts'

const names = [
  'packetsIn', // from TUN or UDP, super-packets counted as the packets they stand for
  'bytesIn', // layer 3 on the TUN side, UDP payload on the tunnel side
  'packetsOut',
  'bytesOut',
  'forwarded',
  'held',
  'missed', // handed to the main thread for a mapping
  'turnedAround', // packets for our own network that never left (decisions.md 9)
  'wakeups', // returns of ppoll
  'receiveCalls',
  'sendCalls',
  'offloadFallbacks', // batches written again without an offload that the kernel refused
  'retries', // send calls repeated after EAGAIN, ENOBUFS or a queued error
] as const
export type StatName = (typeof names)[number]

/** Histograms: upper bounds of the buckets; one more bucket takes the rest. */
export const histogramBounds = {
  /** super-packet or datagram run received by one call: bytes */
  receiveBytes: [128, 512, 1500, 4096, 16384, 32768, 49152, 65536],
  /** packets in one received buffer (GRO, TSO) */
  receiveSegments: [1, 2, 4, 8, 16, 32, 48, 64],
  /** packets in one message sent (UDP_SEGMENT on encap, merged write on decap) */
  sendSegments: [1, 2, 4, 8, 16, 32, 48, 64],
  /** bytes of one message sent */
  sendBytes: [128, 512, 1500, 4096, 16384, 32768, 49152, 65536],
  /** packets handled for one wake-up */
  batchPackets: [1, 2, 4, 8, 16, 64, 256, 1024],
} as const
export type HistogramName = keyof typeof histogramBounds
const histogramNames = Object.keys(histogramBounds) as HistogramName[]

/** Bounds, the rest, the sum, the count. */
const HISTOGRAM_WIDTH = 8 + 1 + 2

export const Stat = Object.freeze(Object.fromEntries(names.map((name, index) => [name, index]))) as Readonly<
  Record<StatName, number>
>
const DROPPED = names.length
const ANSWERED = DROPPED + faultNames.length
const HISTOGRAMS = ANSWERED + faultNames.length
const TOTAL = HISTOGRAMS + histogramNames.length * HISTOGRAM_WIDTH

export class WorkerStats {
  readonly values: Float64Array

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(TOTAL * 8)
  }

  constructor(buffer: SharedArrayBuffer) {
    this.values = new Float64Array(buffer)
  }

  add(stat: number, amount: number): void {
    this.values[stat]! += amount
  }

  dropped(fault: number, packets: number): void {
    this.values[DROPPED + fault]! += packets
  }

  answered(fault: number, packets: number): void {
    this.values[ANSWERED + fault]! += packets
  }

  droppedBy(fault: number): number {
    return this.values[DROPPED + fault]!
  }

  answeredBy(fault: number): number {
    return this.values[ANSWERED + fault]!
  }

  get(name: StatName): number {
    return this.values[Stat[name]]!
  }

  histogram(name: HistogramName): { bounds: readonly number[]; counts: number[]; sum: number; count: number } {
    const start = HISTOGRAMS + histogramNames.indexOf(name) * HISTOGRAM_WIDTH
    const bounds = histogramBounds[name]
    return {
      bounds,
      counts: Array.from(this.values.subarray(start, start + bounds.length + 1)),
      sum: this.values[start + bounds.length + 1]!,
      count: this.values[start + bounds.length + 2]!,
    }
  }
}

/** The writing end of one histogram: made once by the worker, so that observing is a short loop and three additions. */
export class Histogram {
  readonly #values: Float64Array
  readonly #bounds: Float64Array
  readonly #start: number

  constructor(stats: WorkerStats, name: HistogramName) {
    this.#values = stats.values
    this.#bounds = Float64Array.from(histogramBounds[name])
    this.#start = HISTOGRAMS + histogramNames.indexOf(name) * HISTOGRAM_WIDTH
  }

  observe(value: number): void {
    const length = this.#bounds.length
    let bucket = 0
    while (bucket < length && value > this.#bounds[bucket]!) bucket++
    this.#values[this.#start + bucket]! += 1
    this.#values[this.#start + length + 1]! += value
    this.#values[this.#start + length + 2]! += 1
  }
}
