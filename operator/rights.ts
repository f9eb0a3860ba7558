/**
 * What the operator must be allowed, and which of it the API server refuses.
 *
 *   everything of the operator ──► Rights ──► store
 *                                    └ refused: said once, named by /readyz; allowed again: said, and what failed is tried again
 *
 * A right that is missing never stops the rest: what needs it is tried again, less and less often, and all else goes on. Only what the operator must see to
 * decide is needed to start (cluster.ts).
 */
import type { KindName, Kinds } from '../resources/kinds.ts'
import {
  type Change,
  type Key,
  type ResourceStore,
  StoreError,
  type Watched,
  type WatchOptions,
} from '../resources/store.ts'
import type { Logger } from '../runtime/log.ts'

export interface Right {
  kind: KindName
  /** of RBAC */
  verbs: readonly string[]
  /** verbs of the subresource `status` */
  status?: readonly string[]
  /** `own`: in the operator's namespace alone; and in those of `clusterDns` and of Secrets that the settings name */
  where: 'all' | 'own'
}

const SEE = ['list', 'watch'] as const
const ALL = ['get', ...SEE, 'create', 'update', 'delete'] as const

/** All that the operator does, with every output in use. */
export const neededRights: readonly Right[] = [
  { kind: 'IprefService', verbs: [...SEE, 'update'], status: ['update'], where: 'all' },
  { kind: 'IprefPeer', verbs: SEE, status: ['update'], where: 'all' },
  { kind: 'IprefGateway', verbs: ALL, where: 'all' },
  { kind: 'IprefReference', verbs: ALL, where: 'all' },
  ...(['Node', 'Namespace', 'Service', 'EndpointSlice', 'Pod', 'ServiceCIDR'] as const).map(
    kind => ({ kind, verbs: SEE, where: 'all' }) as const,
  ),
  { kind: 'Event', verbs: ['get', 'create', 'update'], where: 'all' },
  { kind: 'ConfigMap', verbs: ALL, where: 'own' },
  { kind: 'Lease', verbs: ['get', ...SEE, 'create', 'update'], where: 'own' },
  { kind: 'Secret', verbs: ['get'], where: 'own' },
  { kind: 'DNSEndpoint', verbs: ALL, where: 'own' },
]

/** Nobody's work waits for these, and they are refused for more reasons than rights: a namespace that ends. */
const UNIMPORTANT: ReadonlySet<KindName> = new Set(['Event'])
const MOST_SHOWN = 8

export interface RightsPorts {
  store: ResourceStore
  log: Logger
  /** Something is allowed that was refused. */
  onAllowed(): void
}

export class Rights implements ResourceStore {
  readonly #ports: RightsPorts
  /** by verb, kind and namespace: what the server said */
  readonly #missing = new Map<string, { kind: KindName; problem: string }>()

  constructor(ports: RightsPorts) {
    this.#ports = ports
  }

  /** What is refused, each with what the server says; empty: nothing that was asked for. */
  get missing(): string[] {
    const all = [...this.#missing.values()].filter(({ kind }) => !UNIMPORTANT.has(kind)).map(({ problem }) => problem)
    const more = all.length - MOST_SHOWN
    return more > 0 ? [...all.slice(0, MOST_SHOWN), `and ${more} more rights are missing`] : all
  }

  get requests(): ReadonlyMap<string, number> {
    return this.#ports.store.requests
  }

  async #noticing<Result>(verb: string, kind: KindName, place: { namespace?: string }, run: () => Promise<Result>) {
    const key = `${verb} ${kind} ${place.namespace ?? ''}`
    try {
      const result = await run()
      this.#allowed(key, `${verb} ${kind}`)
      return result
    } catch (error) {
      if (error instanceof StoreError && error.code === 'Forbidden')
        this.#refused(key, kind, `may not ${verb} ${kind}: ${error.message}`)
      // it was let in, whatever came of it
      else if (error instanceof StoreError && error.code !== 'Unavailable') this.#allowed(key, `${verb} ${kind}`)
      throw error
    }
  }

  #refused(key: string, kind: KindName, problem: string): void {
    const isNew = !this.#missing.has(key)
    this.#missing.set(key, { kind, problem })
    if (isNew) this.#ports.log.error({ component: 'rights' }, `${problem}; the rest goes on without`)
  }

  #allowed(key: string, what: string): void {
    if (!this.#missing.delete(key)) return
    this.#ports.log.info({ component: 'rights' }, `may ${what} now`)
    this.#ports.onAllowed()
  }

  // ---- the store

  watch<Kind extends KindName>(
    kind: Kind,
    options: WatchOptions,
    events: { onChange(change: Change<Kind>): void; onTrouble?(problem: string | undefined): void },
  ): Promise<Watched<Kind>> {
    return this.#ports.store.watch(kind, options, events)
  }
  get<Kind extends KindName>(kind: Kind, key: Key): Promise<Kinds[Kind] | undefined> {
    return this.#noticing('get', kind, key, () => this.#ports.store.get(kind, key))
  }
  list<Kind extends KindName>(kind: Kind, options: WatchOptions = {}): Promise<Kinds[Kind][]> {
    return this.#noticing('list', kind, options, () => this.#ports.store.list(kind, options))
  }
  create<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#noticing('create', kind, object.metadata, () => this.#ports.store.create(kind, object))
  }
  update<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#noticing('update', kind, object.metadata, () => this.#ports.store.update(kind, object))
  }
  updateStatus<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#noticing('update the status of', kind, object.metadata, () =>
      this.#ports.store.updateStatus(kind, object),
    )
  }
  apply<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#noticing('apply', kind, object.metadata, () => this.#ports.store.apply(kind, object))
  }
  delete(kind: KindName, key: Key, only?: { uid?: string; resourceVersion?: string }): Promise<void> {
    return this.#noticing('delete', kind, key, () => this.#ports.store.delete(kind, key, only))
  }
  close(): Promise<void> {
    return this.#ports.store.close()
  }
}
