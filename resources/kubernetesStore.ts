/**
 * ResourceStore in a Kubernetes API server. Watches are in watchLoop.ts, requests in apiClient.ts, credentials in kubeAccess.ts; here is how objects are named,
 * written and read.
 *
 * - One field manager: `apply` is server-side apply with force, and all other writes carry the same name.
 * - A create whose answer was lost is tried again; finding the very object there that it asked for counts as done.
 * - `managedFields` are dropped from all that comes in. Pods and Nodes in views hold what kinds.ts names, and labels: write none of them back.
 */
import { isDeepStrictEqual } from 'node:util'
import { ApiClient, ApiError, type ApiRequest, type ApiTimes, apiTimes } from './apiClient.ts'
import { type KindName, type Kinds, type KubeObject, kindTable } from './kinds.ts'
import { KubeAccess } from './kubeAccess.ts'
import type { CredentialSettings } from './kubeCredentials.ts'
import { type Key, type ResourceStore, StoreError, type Watched, type WatchOptions } from './store.ts'
import { PAGE_SIZE, WatchLoop, type WatchPorts, type WatchTimes, watchTimes } from './watchLoop.ts'

export interface KubernetesSettings extends CredentialSettings {
  fieldManager?: string
  userAgent?: string
  times?: Partial<ApiTimes & WatchTimes>
}

const FIELD_MANAGER = 'ipref-operator'

export class KubernetesStore implements ResourceStore {
  readonly #client: ApiClient
  readonly #times: ApiTimes & WatchTimes
  readonly #fieldManager: string
  readonly #loops = new Set<WatchLoop<KindName>>()
  readonly #access: KubeAccess

  /** Rejects with a message for people when there is no configuration; does not talk to the server. */
  static async open(settings: KubernetesSettings = {}): Promise<KubernetesStore> {
    const store = KubernetesStore.of(settings)
    await store.prepare()
    return store
  }

  /** Nothing is read before it is prepared, or asked for something. */
  static of(settings: KubernetesSettings = {}): KubernetesStore {
    const { kubeconfig, context, serviceAccountRoot } = settings
    const access = new KubeAccess(
      {
        ...(kubeconfig !== undefined && { kubeconfig }),
        ...(context !== undefined && { context }),
        ...(serviceAccountRoot !== undefined && { serviceAccountRoot }),
      },
      settings.userAgent ?? 'ipref',
    )
    return new KubernetesStore(access, settings)
  }

  private constructor(access: KubeAccess, settings: KubernetesSettings) {
    this.#access = access
    this.#times = { ...apiTimes, ...watchTimes, ...settings.times }
    this.#client = new ApiClient(access, this.#times)
    this.#fieldManager = settings.fieldManager ?? FIELD_MANAGER
  }

  /** Reads the configuration; rejects as `open`. */
  async prepare(): Promise<void> {
    await this.#access.access()
  }

  get requests(): ReadonlyMap<string, number> {
    return this.#client.requests
  }

  async watch<Kind extends KindName>(
    kind: Kind,
    options: WatchOptions,
    events: Pick<WatchPorts<Kind>, 'onChange' | 'onTrouble'>,
  ): Promise<Watched<Kind>> {
    const loop = new WatchLoop<Kind>(
      {
        client: this.#client,
        kind,
        path: parameters => pathOf(kind, options, { ...selectorsOf(options), ...parameters }),
        admit: object => slim(kind, object),
        onChange: change => events.onChange(change),
        onTrouble: problem => events.onTrouble?.(problem),
      },
      this.#times,
    )
    const known = loop as unknown as WatchLoop<KindName>
    this.#loops.add(known)
    const listed = loop.start()
    void loop.ended().then(() => this.#loops.delete(known))
    await listed
    return loop
  }

  async get<Kind extends KindName>(kind: Kind, key: Key): Promise<Kinds[Kind] | undefined> {
    try {
      return await this.#send(kind, key, { verb: 'get', method: 'GET', path: pathOf(kind, key) })
    } catch (error) {
      if (isMissing(error)) return undefined
      throw error
    }
  }

  async list<Kind extends KindName>(kind: Kind, options: WatchOptions = {}): Promise<Kinds[Kind][]> {
    for (let pageSize = PAGE_SIZE; ; pageSize = 0) {
      try {
        return await this.#listPages(kind, options, pageSize)
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 410 && pageSize > 0)) throw error
      }
    }
  }

  async #listPages<Kind extends KindName>(kind: Kind, options: WatchOptions, limit: number): Promise<Kinds[Kind][]> {
    const objects: Kinds[Kind][] = []
    let more = ''
    do {
      const parameters: Record<string, string> = selectorsOf(options)
      if (limit > 0) parameters.limit = String(limit)
      if (more !== '') parameters.continue = more
      const { value } = await this.#client.request<{ items: KubeObject[] | null; metadata: { continue?: string } }>({
        verb: 'list',
        kind,
        name: '',
        method: 'GET',
        path: pathOf(kind, options, parameters),
      })
      for (const item of value.items ?? []) objects.push(clean(kind, item))
      more = value.metadata.continue ?? ''
    } while (more !== '')
    return objects
  }

  async create<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    const { name, namespace } = object.metadata
    const path = pathOf(kind, namespace === undefined ? {} : { namespace }, this.#writer())
    try {
      return await this.#send(kind, object.metadata, { verb: 'create', method: 'POST', path, body: outgoing(object) })
    } catch (error) {
      if (!(error instanceof ApiError && error.code === 'AlreadyExists' && error.isAmbiguous)) throw error
      const found = await this.get(kind, { name, ...(namespace !== undefined && { namespace }) })
      if (found && isPartOf(withoutStatus(object), found)) return found
      throw error
    }
  }

  update<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#put('update', kind, object, '')
  }

  updateStatus<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#put('update-status', kind, object, '/status')
  }

  async #put<Kind extends KindName>(
    verb: string,
    kind: Kind,
    object: Kinds[Kind],
    below: string,
  ): Promise<Kinds[Kind]> {
    if (!object.metadata.resourceVersion)
      throw new StoreError('Invalid', `${verb} ${kind} ${object.metadata.name}: metadata.resourceVersion: is missing`)
    const path = pathOf(kind, object.metadata, this.#writer(), below)
    return this.#send(kind, object.metadata, { verb, method: 'PUT', path, body: outgoing(object) })
  }

  apply<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    const path = pathOf(kind, object.metadata, { ...this.#writer(), force: 'true' })
    const { apiVersion } = kindTable[kind]
    const body = { ...outgoing(object), apiVersion, kind }
    const contentType = 'application/apply-patch+yaml'
    return this.#send(kind, object.metadata, { verb: 'apply', method: 'PATCH', path, body, contentType })
  }

  async delete(kind: KindName, key: Key, only: { uid?: string; resourceVersion?: string } = {}): Promise<void> {
    const body: Record<string, unknown> = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: 'Background',
    }
    if (only.uid !== undefined || only.resourceVersion !== undefined) body.preconditions = only
    try {
      await this.#send(kind, key, { verb: 'delete', method: 'DELETE', path: pathOf(kind, key), body })
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }

  async close(): Promise<void> {
    const loops = [...this.#loops]
    this.#loops.clear()
    for (const loop of loops) loop.stop()
    await Promise.all(loops.map(loop => loop.ended()))
    this.#access.close()
  }

  #writer(): Record<string, string> {
    return { fieldManager: this.#fieldManager }
  }

  async #send<Kind extends KindName>(
    kind: Kind,
    key: Key,
    request: Omit<ApiRequest, 'kind' | 'name'>,
  ): Promise<Kinds[Kind]> {
    const name = key.namespace === undefined ? key.name : `${key.namespace}/${key.name}`
    const { value } = await this.#client.request<KubeObject>({ ...request, kind, name })
    return clean(kind, value)
  }
}

// ---- objects

function pathOf(
  kind: KindName,
  place: { name?: string; namespace?: string },
  parameters: Readonly<Record<string, string>> = {},
  below = '',
): string {
  const { apiVersion, plural, scope } = kindTable[kind]
  let path = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
  if (scope === 'Namespaced' && place.namespace !== undefined)
    path += `/namespaces/${encodeURIComponent(place.namespace)}`
  path += `/${plural}`
  if (place.name !== undefined) path += `/${encodeURIComponent(place.name)}${below}`
  const query = new URLSearchParams(parameters).toString()
  return query === '' ? path : `${path}?${query}`
}

function selectorsOf({ labelSelector, fieldSelector }: WatchOptions): Record<string, string> {
  return { ...(labelSelector && { labelSelector }), ...(fieldSelector && { fieldSelector }) }
}

/** Items of lists do not say their kind. */
function clean<Kind extends KindName>(kind: Kind, object: KubeObject): Kinds[Kind] {
  const { apiVersion } = kindTable[kind]
  if (object.metadata) {
    // copied, for an object from which something was deleted takes several times as much room
    const { managedFields: _dropped, ...metadata } = object.metadata as KubeObject['metadata'] & {
      managedFields?: unknown
    }
    object.metadata = metadata
  }
  return Object.assign(object, { apiVersion, kind }) as unknown as Kinds[Kind]
}

/** What a view keeps. */
function slim<Kind extends KindName>(kind: Kind, object: KubeObject): Kinds[Kind] {
  const whole = clean(kind, object)
  if (kind !== 'Pod' && kind !== 'Node') return whole
  const { apiVersion, metadata, spec, status } = whole as Kinds['Pod'] & Kinds['Node']
  const { name, namespace, uid, resourceVersion, creationTimestamp, deletionTimestamp, labels, annotations } = metadata
  const kept = { name, namespace, uid, resourceVersion, creationTimestamp, deletionTimestamp, labels, annotations }
  if (kind === 'Node') {
    const { podCIDR, podCIDRs, unschedulable } = spec ?? {}
    const { addresses, conditions } = (status ?? {}) as NonNullable<Kinds['Node']['status']>
    return copied({
      apiVersion,
      kind,
      metadata: kept,
      spec: { podCIDR, podCIDRs, unschedulable },
      status: { addresses, conditions: conditions?.map(short) },
    })
  }
  const { nodeName, hostNetwork, hostname, subdomain } = spec ?? {}
  const { phase, podIP, podIPs, conditions } = (status ?? {}) as NonNullable<Kinds['Pod']['status']>
  const { ownerReferences } = metadata
  return copied({
    apiVersion,
    kind,
    metadata: { ...kept, annotations: undefined, ownerReferences },
    spec: { nodeName, hostNetwork, hostname, subdomain },
    status: { phase, podIP, podIPs, conditions: conditions?.map(short) },
  })
}

function short({ type, status }: { type: string; status: string }): { type: string; status: string } {
  return { type, status }
}

/** Without members that are undefined. */
function copied<Value>(value: unknown): Value {
  return JSON.parse(JSON.stringify(value)) as Value
}

function outgoing<Kind extends KindName>(object: Kinds[Kind]): object {
  const { metadata, ...rest } = object as unknown as { metadata: { managedFields?: unknown } }
  const { managedFields: _dropped, ...kept } = metadata
  return { ...rest, metadata: kept }
}

function withoutStatus(object: object): object {
  const { status: _dropped, ...rest } = object as { status?: unknown }
  return rest
}

/** Whether all that `wanted` says is said by `found` too. */
function isPartOf(wanted: unknown, found: unknown): boolean {
  if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) return isDeepStrictEqual(wanted, found)
  if (typeof found !== 'object' || found === null) return false
  return Object.entries(wanted).every(
    ([name, value]) => value === undefined || isPartOf(value, (found as Record<string, unknown>)[name]),
  )
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.code === 'NotFound'
}
