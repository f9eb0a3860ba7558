/** Stores for tests that stand before a real one and are worse: they end, they lag behind, they refuse. */
import type { KindName, Kinds } from '../../resources/kinds.ts'
import type { Change, Key, ResourceStore, Watched, WatchOptions } from '../../resources/store.ts'
import { keyText, View } from '../../resources/view.ts'
import { CrashPoint } from './crashPoint.ts'

export type Verb = 'create' | 'update' | 'updateStatus' | 'apply' | 'delete'

/** Hands everything on; every write passes through `write`. */
export class PassingStore implements ResourceStore {
  readonly inner: ResourceStore

  constructor(inner: ResourceStore) {
    this.inner = inner
  }

  get requests(): ReadonlyMap<string, number> {
    return this.inner.requests
  }

  protected write<Result>(_verb: Verb, _kind: KindName, run: () => Promise<Result>): Promise<Result> {
    return run()
  }

  watch<Kind extends KindName>(
    kind: Kind,
    options: WatchOptions,
    events: { onChange(change: Change<Kind>): void; onTrouble?(problem: string | undefined): void },
  ): Promise<Watched<Kind>> {
    return this.inner.watch(kind, options, events)
  }
  get<Kind extends KindName>(kind: Kind, key: Key): Promise<Kinds[Kind] | undefined> {
    return this.inner.get(kind, key)
  }
  list<Kind extends KindName>(kind: Kind, options?: WatchOptions): Promise<Kinds[Kind][]> {
    return this.inner.list(kind, options)
  }
  create<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.write('create', kind, () => this.inner.create(kind, object))
  }
  update<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.write('update', kind, () => this.inner.update(kind, object))
  }
  updateStatus<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.write('updateStatus', kind, () => this.inner.updateStatus(kind, object))
  }
  apply<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.write('apply', kind, () => this.inner.apply(kind, object))
  }
  delete(kind: KindName, key: Key, only?: { uid?: string; resourceVersion?: string }): Promise<void> {
    return this.write('delete', kind, () => this.inner.delete(kind, key, only))
  }
  close(): Promise<void> {
    return this.inner.close()
  }
}

/** The program behind it ends at its n-th write. Events do not count. */
export class CrashingStore extends PassingStore {
  readonly point: CrashPoint

  constructor(inner: ResourceStore, point = new CrashPoint()) {
    super(inner)
    this.point = point
  }

  protected override write<Result>(verb: Verb, kind: KindName, run: () => Promise<Result>): Promise<Result> {
    if (kind === 'Event') return super.write(verb, kind, run)
    return this.point.write(`${verb} ${kind}`, run)
  }
}

/** Views that stay behind while `isLagging`, and go on one change at a time by `release`. */
export class LaggingStore extends PassingStore {
  isLagging = false
  readonly #queue: (() => void)[] = []

  override async watch<Kind extends KindName>(
    kind: Kind,
    options: WatchOptions,
    events: { onChange(change: Change<Kind>): void; onTrouble?(problem: string | undefined): void },
  ): Promise<Watched<Kind>> {
    const view = new View<Kind>()
    const take = ({ now, before }: Change<Kind>) => {
      const changes = now ? view.put(now) : view.remove(keyText(before!.metadata))
      for (const change of changes) events.onChange(change)
    }
    const watched = await this.inner.watch(kind, options, {
      ...events,
      onChange: change => {
        if (this.isLagging || this.#queue.length > 0) this.#queue.push(() => take(change))
        else take(change)
      },
    })
    return {
      get: key => view.get(key),
      all: () => view.all(),
      get size() {
        return view.size
      },
      get resourceVersion() {
        return watched.resourceVersion
      },
      get silentMs() {
        return watched.silentMs
      },
      stop: () => watched.stop(),
    }
  }

  get waiting(): number {
    return this.#queue.length
  }

  release(count = this.#queue.length): void {
    for (const take of this.#queue.splice(0, count)) take()
  }
}

/** Somebody else is faster: `meddle` is done just before the n-th write of one IprefService, once. */
export class MeddledStore extends PassingStore {
  #name = ''
  #left = Number.POSITIVE_INFINITY
  #meddle: () => Promise<void> = async () => {}
  #meddling: Promise<void> | undefined

  arm(name: string, at: number, meddle: () => Promise<void>): void {
    this.#name = name
    this.#left = at
    this.#meddle = meddle
    this.#meddling = undefined
  }

  /** Whether it came to that; rejects as `meddle` did. */
  async hasMeddled(): Promise<boolean> {
    await this.#meddling
    return this.#meddling !== undefined
  }

  override async update<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    await this.#before(kind, object.metadata.name)
    return super.update(kind, object)
  }
  override async updateStatus<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    await this.#before(kind, object.metadata.name)
    return super.updateStatus(kind, object)
  }

  async #before(kind: KindName, name: string): Promise<void> {
    if (kind !== 'IprefService' || name !== this.#name || --this.#left !== 0) return
    this.#meddling = this.#meddle()
    await this.#meddling
  }
}

/** Some writes are refused: `refusal` says with what. */
export class RefusingStore extends PassingStore {
  refusal: (verb: Verb, kind: KindName) => Error | undefined

  constructor(inner: ResourceStore, refusal: (verb: Verb, kind: KindName) => Error | undefined) {
    super(inner)
    this.refusal = refusal
  }

  protected override async write<Result>(verb: Verb, kind: KindName, run: () => Promise<Result>): Promise<Result> {
    const error = this.refusal(verb, kind)
    if (error) throw error
    return run()
  }
}
