/**
 * An operator that ends at its n-th write, for every n that something users do needs, and another that goes on.
 *
 *   prepare, undisturbed ──► act, and it ends at write n ──► another begins ──► everything is as the objects say ──► n + 1, until there is no n-th
 *
 * Owner of what users want at the moment. What "as the objects say" means is the cluster's to know (OperatorCluster.settled).
 */
import { CrashPoint, type When } from './crashPoint.ts'
import type { OperatorCluster, RunningOperator, Wanted } from './operatorCluster.ts'
import { CrashingStore } from './storeWrappers.ts'

export class CrashRuns {
  readonly #cluster: OperatorCluster
  readonly #onStart: (point: CrashPoint) => void
  #operator: RunningOperator | undefined
  #count = 0
  #addresses = 0
  readonly wanted: Record<string, Wanted> = {}

  /** `onStart`: the point of an operator that begins, for other doors than its store. */
  constructor(cluster: OperatorCluster, onStart: (point: CrashPoint) => void = () => {}) {
    this.#cluster = cluster
    this.#onStart = onStart
  }

  // ---- users

  /** Nobody else's: an address that another object maps has a reference already. */
  address(): string {
    const n = ++this.#addresses
    return `172.20.${16 + (n >> 8)}.${n & 255}`
  }

  name(of = 'web'): string {
    return `${of}-${++this.#count}`
  }

  async publish(name: string, more: Partial<Wanted> = {}): Promise<void> {
    const object = { address: this.address(), ...more }
    this.wanted[name] = object
    await this.#cluster.publish(name, object)
  }

  async move(name: string): Promise<void> {
    const address = this.address()
    this.wanted[name] = { ...this.wanted[name], address }
    await this.#cluster.move(name, address)
  }

  async rename(name: string, alias: string): Promise<void> {
    this.wanted[name] = { ...this.wanted[name]!, alias }
    await this.#cluster.rename(name, alias)
  }

  async remove(name: string): Promise<void> {
    delete this.wanted[name]
    await this.#cluster.remove(name)
  }

  async removeAll(): Promise<void> {
    for (const name of Object.keys(this.wanted)) await this.remove(name)
  }

  // ---- operators

  async #start(): Promise<CrashPoint> {
    const point = new CrashPoint()
    this.#onStart(point)
    this.#operator = await this.#cluster.startOperator({ through: inner => new CrashingStore(inner, point) })
    return point
  }

  async stop(): Promise<void> {
    await this.#operator?.stop()
    this.#operator = undefined
  }

  /** Each write at which it ended, of those that `counts` says. */
  async endAtEach(
    when: When,
    prepare: (name: string) => Promise<void>,
    act: (name: string) => Promise<void>,
    counts: (what: string) => boolean = () => true,
  ): Promise<string[]> {
    let point = await this.#start()
    const ends: string[] = []
    for (let n = 1; ; n++) {
      const name = this.name()
      await prepare(name)
      await this.#cluster.settled(this.wanted)
      point.arm(n, when, counts)
      await act(name)
      await this.#cluster.settled(this.wanted, () => point.hasEnded)
      if (!point.hasEnded) break
      ends.push(point.last!)
      await this.stop()
      point = await this.#start()
      await this.#cluster.settled(this.wanted)
      // a claim that was made and not written down elsewhere is found again
      const spare = await this.#cluster.spareClaims()
      if (spare.length > 0) throw new Error(`after ${ends.at(-1)}: claimed twice: ${spare.join(', ')}`)
    }
    point.arm(Number.POSITIVE_INFINITY, when)
    await this.removeAll()
    await this.#cluster.settled({})
    await this.stop()
    return ends
  }
}
