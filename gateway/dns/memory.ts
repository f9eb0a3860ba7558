/** A table that forgets what ran out, and the oldest when it is full. Times are in seconds. */
interface Kept<Value> {
  value: Value
  expires: number
}

export class Memory<Value> {
  readonly #entries = new Map<string, Kept<Value>>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: string, now: number): Value | undefined {
    const kept = this.#entries.get(key)
    if (kept && kept.expires > now) return kept.value
    if (kept) this.#entries.delete(key)
    return undefined
  }

  /** Seconds that are left of what `get` found. */
  left(key: string, now: number): number {
    return (this.#entries.get(key)?.expires ?? now) - now
  }

  set(key: string, value: Value, expires: number): void {
    this.#entries.delete(key)
    if (this.#entries.size >= this.#most) this.#entries.delete(this.#entries.keys().next().value!)
    this.#entries.set(key, { value, expires })
  }

  forget(isGone: (key: string) => boolean): void {
    for (const key of this.#entries.keys()) if (isGone(key)) this.#entries.delete(key)
  }

  clear(): void {
    this.#entries.clear()
  }
}
