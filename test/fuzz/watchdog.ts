/**
 * Tells when one message keeps the fuzzer busy for ever: the message at work lies in shared memory, and a thread of its own looks at it. When it has been
 * the same for half a minute the thread prints it and ends the process: a loop without end cannot be left in another way.
 */
import { Worker } from 'node:worker_threads'

const HEAD = 16
const ROOM = 1 << 17

export class Watchdog {
  readonly #shared = new SharedArrayBuffer(HEAD + ROOM)
  /** busy or not, count of messages, length */
  readonly #state = new Int32Array(this.#shared, 0, 3)
  readonly #bytes = new Uint8Array(this.#shared, HEAD)
  readonly #worker: Worker

  constructor(seed: number) {
    this.#worker = new Worker(new URL('./watchdogWorker.ts', import.meta.url), {
      workerData: { shared: this.#shared, seed },
    })
    this.#worker.unref()
  }

  /** Work on this message begins. */
  begin(bytes: Uint8Array): void {
    const length = Math.min(bytes.length, ROOM)
    this.#bytes.set(bytes.length > ROOM ? bytes.subarray(0, ROOM) : bytes)
    this.#state[2] = length
    this.#state[1]!++
    this.#state[0] = 1
  }

  /** Nothing is worked on: waiting is right. */
  rest(): void {
    this.#state[0] = 0
  }
}
