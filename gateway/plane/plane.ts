/**
 * The main thread's end of the packet plane: starts the two workers, keeps them alive, and answers their misses.
 *
 *   TUN ──► encap worker ──► UDP            UDP ──► decap worker ──► TUN
 *               │ miss ring ▲ return ring        │ miss ring ▲ return ring
 *               └───────────┴──── Plane ─────────┴───────────┘ ──► ports.onMiss (mapper, peers)
 *
 * The tables, the file descriptors, the rings and the counters belong to the main thread and outlive a worker: one that
 * dies is started again at once and goes on with them (hostile-input.md section 11). The main thread never waits for a worker
 * and never holds a lock that one needs.
 */
import { Worker } from 'node:worker_threads'
import type { ForwardSettings } from '../forward/environment.ts'
import {
  CONTROL_WORDS,
  Control,
  type Offloads,
  RING_WORDS,
  type TunnelSocket,
  type WorkerMessage,
  type WorkerRole,
  type WorkerSetup,
} from './protocol.ts'
import { Ring } from './ring.ts'
import { WorkerStats } from './stats.ts'

/** Room for 16 super-packets, or some 4,000 small ones, that wait for a mapping. */
const MISS_RING_BYTES = 1 << 20
const RESTART_DELAY_MS = 50
const STOP_DEADLINE_MS = 3000
const YOUNG_GENERATION_MB = 4
const OLD_GENERATION_MB = 96

export interface PlaneSetup {
  tunFd: number
  sockets: TunnelSocket[]
  settings: ForwardSettings
  offloads: Offloads
  mappings: SharedArrayBuffer[]
  peers: { buffer: SharedArrayBuffer; capacity: number }
  /** PolicyTable */
  policy: SharedArrayBuffer
}

export interface PlanePorts {
  /** An eventfd: made once for each worker. */
  makeWakeFd(): number
  wake(fd: number): void
  /** One message of a miss ring: MissKind, its words, its packet. 'return': hand the packet back to the worker. */
  onMiss(role: WorkerRole, ring: Ring): 'return' | 'done'
  onWorker(event: PlaneEvent): void
}

export type PlaneEvent =
  | { what: 'started' | 'restarted'; role: WorkerRole }
  | { what: 'died'; role: WorkerRole; error: unknown }
  | { what: 'offload-off'; role: WorkerRole; offload: keyof Offloads; errno: number }

interface Lane {
  role: WorkerRole
  setup: WorkerSetup
  stats: WorkerStats
  control: Int32Array
  missRing: Ring
  returnRing: Ring
  worker: Worker | undefined
  restarts: number
  scratch: Uint8Array
}

export class Plane {
  readonly #ports: PlanePorts
  readonly #lanes: Lane[]
  readonly offloads: Offloads
  #stopping = false

  constructor(setup: PlaneSetup, ports: PlanePorts) {
    this.#ports = ports
    this.offloads = { ...setup.offloads }
    this.#lanes = (['encap', 'decap'] as const).map(role => this.#makeLane(role, setup))
  }

  #makeLane(role: WorkerRole, setup: PlaneSetup): Lane {
    const buffers = {
      missRing: Ring.allocate(MISS_RING_BYTES),
      returnRing: Ring.allocate(MISS_RING_BYTES),
      stats: WorkerStats.allocate(),
      control: new SharedArrayBuffer(CONTROL_WORDS * 4),
    }
    const control = new Int32Array(buffers.control)
    const { tunFd, sockets, settings, offloads, mappings, peers, policy } = setup
    const wakeFd = this.#ports.makeWakeFd()
    return {
      role,
      setup: { role, tunFd, sockets, wakeFd, settings, offloads, mappings, peers, policy, ...buffers },
      stats: new WorkerStats(buffers.stats),
      control,
      missRing: new Ring(buffers.missRing, RING_WORDS),
      returnRing: new Ring(buffers.returnRing, RING_WORDS),
      worker: undefined,
      restarts: 0,
      scratch: new Uint8Array(MISS_RING_BYTES / 2),
    }
  }

  /** Resolves when both workers wait for packets. */
  async start(): Promise<void> {
    await Promise.all(this.#lanes.map(lane => this.#spawn(lane)))
  }

  /** Ends both workers after the batch they are at; a worker that does not end in time is terminated. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#lanes.map(lane => this.#end(lane)))
  }

  async #end(lane: Lane): Promise<void> {
    const { worker } = lane
    if (!worker) return
    const ended = new Promise<void>(resolve => worker.once('exit', () => resolve()))
    Atomics.store(lane.control, Control.stop, 1)
    this.#ports.wake(lane.setup.wakeFd)
    const timer = setTimeout(() => void worker.terminate(), STOP_DEADLINE_MS)
    await ended
    clearTimeout(timer)
  }

  #spawn(lane: Lane): Promise<void> {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      name: `ipref-${lane.role}`,
      workerData: { ...lane.setup, offloads: { ...this.offloads } },
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB, maxOldGenerationSizeMb: OLD_GENERATION_MB },
    })
    lane.worker = worker
    let death: unknown = new Error('ended without an error')
    worker.on('error', error => {
      death = error
    })
    worker.on('exit', () => this.#exited(lane, worker, death))
    return new Promise((resolve, reject) => {
      worker.on('message', (message: WorkerMessage) => {
        if (message.what === 'ready') resolve()
        this.#heard(lane, message)
      })
      worker.once('error', reject)
    })
  }

  #heard(lane: Lane, message: WorkerMessage): void {
    if (message.what === 'ring') return this.#drain(lane)
    if (message.what === 'ready') {
      this.#ports.onWorker({ what: lane.restarts === 0 ? 'started' : 'restarted', role: lane.role })
      this.#drain(lane)
      return
    }
    this.offloads[message.offload] = false
    this.#ports.onWorker({ what: 'offload-off', role: lane.role, offload: message.offload, errno: message.errno })
  }

  #exited(lane: Lane, worker: Worker, error: unknown): void {
    if (lane.worker !== worker) return
    lane.worker = undefined
    if (this.#stopping) return
    lane.restarts++
    this.#ports.onWorker({ what: 'died', role: lane.role, error })
    const delay = Math.min(RESTART_DELAY_MS * lane.restarts, 500)
    setTimeout(() => {
      if (!this.#stopping) this.#spawn(lane).catch(() => {})
    }, delay).unref()
  }

  #drain(lane: Lane): void {
    const { missRing, returnRing, scratch } = lane
    let returned = false
    missRing.beginRead()
    while (missRing.next()) {
      if (this.#ports.onMiss(lane.role, missRing) === 'return') {
        missRing.takePacket(scratch, 0)
        returnRing.words.set(missRing.words)
        returned = returnRing.push(missRing.kind, scratch, 0, missRing.packetLength) || returned
      }
      missRing.release()
    }
    if (returned) this.#ports.wake(lane.setup.wakeFd)
  }

  /** New settings take effect at the next batch of each worker. */
  reload(settings: ForwardSettings): void {
    for (const lane of this.#lanes) {
      lane.setup.settings = settings
      lane.worker?.postMessage(settings)
      Atomics.add(lane.control, Control.settings, 1)
      this.#ports.wake(lane.setup.wakeFd)
    }
  }

  stats(role: WorkerRole): WorkerStats {
    return this.#lanes.find(lane => lane.role === role)!.stats
  }

  /** Times that a worker was started again. */
  restarts(role: WorkerRole): number {
    return this.#lanes.find(lane => lane.role === role)!.restarts
  }

  /** Both workers run. */
  get healthy(): boolean {
    return this.#lanes.every(lane => lane.worker !== undefined)
  }

  /** Ends one worker as an exception would: for tests of the restart. */
  crash(role: WorkerRole): void {
    void this.#lanes.find(lane => lane.role === role)!.worker?.terminate()
  }
}
