/**
 * ResourceStore: the door to objects, in a Kubernetes API server (kubernetesStore.ts) or in a folder of YAML (directoryStore.ts). One contract suite
 * holds both (test/contract).
 *
 *   watch ──► a cached view that follows the store through cuts, and says what changed
 *   get, list ──► read past the cache
 *   create, update, updateStatus, apply, delete ──► the object as it is afterwards, or a StoreError
 *
 * `update` and `updateStatus` are refused with `Conflict` when the object changed since the `resourceVersion` that they carry: what decides
 * something carries one. `apply` is server-side apply with the one field manager of the store: it says what we want of an object of ours and
 * leaves the fields of others alone. A write that changes nothing makes no new resourceVersion.
 */
import type { KindName, Kinds } from './kinds.ts'

export type StoreFault =
  | 'NotFound'
  | 'AlreadyExists'
  /** the object changed in between; read again and decide anew */
  | 'Conflict'
  /** refused by validation or admission */
  | 'Invalid'
  /** not allowed by RBAC, or not known who we are */
  | 'Forbidden'
  /** the kind is not served */
  | 'NoSuchKind'
  /** no answer, 429 or 5xx after all attempts */
  | 'Unavailable'

export class StoreError extends Error {
  readonly code: StoreFault
  /** HTTP status, where there was one */
  readonly status: number | undefined

  constructor(code: StoreFault, message: string, more: { status?: number; cause?: unknown } = {}) {
    super(message, { cause: more.cause })
    this.code = code
    this.status = more.status
  }

  get isRetryable(): boolean {
    return this.code === 'Conflict' || this.code === 'Unavailable'
  }
}

export interface Key {
  name: string
  namespace?: string
}

export interface WatchOptions {
  namespace?: string
  labelSelector?: string
  fieldSelector?: string
}

export interface Change<Kind extends KindName> {
  /** as it is now; undefined: gone */
  now: Kinds[Kind] | undefined
  before: Kinds[Kind] | undefined
}

/** A view that the store keeps up to date. Its objects are frozen or private to the reader: never change one in place. */
export interface Watched<Kind extends KindName> {
  get(key: Key): Kinds[Kind] | undefined
  all(): Iterable<Kinds[Kind]>
  readonly size: number
  /** The store's resourceVersion up to which the view is known to be whole, decimal; undefined before the first list. */
  readonly resourceVersion: string | undefined
  /** Milliseconds since the last sign of life of the watch. */
  readonly silentMs: number
  stop(): void
}

export interface ResourceStore {
  /**
   * Lists, then watches. Resolves when the first list is in; rejects only with `NoSuchKind` or `Forbidden` at the first attempt. `onChange` is told of each
   * object of the first list too, before this resolves; afterwards cuts, 410 Gone, silence, expired tokens and errors are overcome inside, and reported to `onTrouble`.
   */
  watch<Kind extends KindName>(
    kind: Kind,
    options: WatchOptions,
    events: {
      onChange(change: Change<Kind>): void
      /** problem: why the view may be behind; undefined: it follows again */
      onTrouble?(problem: string | undefined): void
    },
  ): Promise<Watched<Kind>>

  get<Kind extends KindName>(kind: Kind, key: Key): Promise<Kinds[Kind] | undefined>
  list<Kind extends KindName>(kind: Kind, options?: WatchOptions): Promise<Kinds[Kind][]>
  create<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]>
  /** Spec and metadata; needs `metadata.resourceVersion`. */
  update<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]>
  /** Status alone; needs `metadata.resourceVersion`. */
  updateStatus<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]>
  /** Made where it is not there. Fields that an earlier `apply` said and this one does not are removed. */
  apply<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]>
  /** Gone already: nothing happens. `uid`, `resourceVersion`: only if the object is still that one. */
  delete(kind: KindName, key: Key, only?: { uid?: string; resourceVersion?: string }): Promise<void>
  /** Ends all watches. */
  close(): Promise<void>
  /** Requests made so far: `verb kind code` → count. */
  readonly requests: ReadonlyMap<string, number>
}
