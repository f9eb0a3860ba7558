/**
 * What the operator sees: one view of each kind that it watches, and the indexes over them. Everything that decides reads here; nothing here writes.
 *
 *   store ──watch──► views ──► indexes ──► listeners (controllers, which add keys to their queues)
 *
 * A listener is told after the indexes have the change. Owner: the operator; controllers hold it read-only.
 */
import type { Config } from '../resources/config.ts'
import type {
  EndpointSlice,
  IprefGateway,
  IprefPeer,
  IprefReference,
  IprefService,
  KindName,
  Node,
  Pod,
  Service,
} from '../resources/kinds.ts'
import { isNameProblem, namesOf } from '../resources/names.ts'
import { type Change, type ResourceStore, StoreError, type Watched } from '../resources/store.ts'
import type { Logger } from '../runtime/log.ts'
import { ByKey } from './byKey.ts'
import { addressesInUse, canonical, clusterIpsOf } from './service/targets.ts'

const WATCHED = [
  'IprefReference',
  'IprefGateway',
  'IprefPeer',
  'Node',
  'Namespace',
  'Service',
  'EndpointSlice',
  'Pod',
  'ServiceCIDR',
  'IprefService',
] as const satisfies readonly KindName[]
type WatchedKind = (typeof WATCHED)[number]

/** Without these the operator can do all but notice overlaps with service networks that nobody configured. */
const OPTIONAL: ReadonlySet<KindName> = new Set(['ServiceCIDR'])
const SERVICE_NAME = 'kubernetes.io/service-name'

type Listener = (change: Change<WatchedKind>) => void

export class Cluster {
  readonly #store: ResourceStore
  readonly #log: Logger
  readonly #views = new Map<WatchedKind, Watched<WatchedKind>>()
  readonly #listeners = new Map<WatchedKind, Listener[]>()
  readonly #troubles = new Map<KindName, string>()
  readonly #whenFollowing: (() => void)[] = []
  #config: Config
  readonly #slices = new ByKey<'EndpointSlice'>(({ metadata }) => [
    `${metadata.namespace}/${metadata.labels?.[SERVICE_NAME] ?? ''}`,
  ])
  readonly #slicesByAddress = new ByKey<'EndpointSlice'>(addressesOfSlice)
  readonly #pods = new ByKey<'Pod'>(({ metadata }) => [metadata.namespace ?? ''])
  readonly #podsByAddress = new ByKey<'Pod'>(addressesInUse)
  readonly #servicesByAddress = new ByKey<'Service'>(clusterIpsOf)
  // what they ask for, not what they have: of two that ask at once, one must see the other
  #byName = this.#newNameIndex()
  readonly #byAddress = new ByKey<'IprefService'>(({ status }) => new Set((status?.mappings ?? []).map(m => m.address)))
  readonly #byReference = new ByKey<'IprefService'>(
    ({ status }) => new Set((status?.mappings ?? []).map(m => m.reference)),
  )
  readonly #byGiven = new ByKey<'IprefService'>(({ spec }) => (spec.reference === undefined ? [] : [spec.reference]))
  readonly #byTarget = new ByKey<'IprefService'>(({ metadata, spec }) =>
    spec.target.service ? [`${metadata.namespace}/${spec.target.service.name}`] : [],
  )
  readonly #byNamedAddress = new ByKey<'IprefService'>(({ spec }) =>
    spec.target.address === undefined ? [] : [canonical(spec.target.address)],
  )
  readonly #byMark = new ByKey<'IprefService'>(marksOf)
  readonly #bySelecting = new ByKey<'IprefService'>(({ metadata, spec }) =>
    spec.target.pods ? [metadata.namespace ?? ''] : [],
  )

  constructor(store: ResourceStore, config: Config, log: Logger) {
    this.#store = store
    this.#config = config
    this.#log = log.child({ component: 'watch' })
  }

  /** Settings of the platform; replaced as a whole when they change. */
  get config(): Config {
    return this.#config
  }

  set config(config: Config) {
    this.#config = config
    this.#byName = this.#newNameIndex()
    for (const now of this.services.all()) this.#byName.change({ before: undefined, now })
  }

  #newNameIndex(): ByKey<'IprefService'> {
    return new ByKey<'IprefService'>(object => namesAsked(object, this.#config))
  }

  /** Resolves when every kind has been listed once; rejects with all that may not be seen, for nothing is decided on half of a cluster. */
  async start(): Promise<void> {
    const refusals: string[] = []
    const watch = async (kind: WatchedKind) => {
      const refusal = await this.#watch(kind)
      if (refusal === undefined) return
      if (OPTIONAL.has(kind)) this.#log.warn({ kind }, `${refusal}; it goes on without`)
      else refusals.push(refusal)
    }
    await Promise.all(WATCHED.map(watch))
    if (refusals.length === 0) return
    this.stop()
    throw new Error(
      [
        ...refusals,
        'without these nothing can be decided: apply the CRDs, and give the role of the operator what is missing',
      ].join('\n'),
    )
  }

  /** Why the kind cannot be seen. */
  async #watch<Kind extends WatchedKind>(kind: Kind): Promise<string | undefined> {
    try {
      const view = await this.#store.watch(
        kind,
        {},
        {
          onChange: change => this.#changed(kind, change),
          onTrouble: problem => this.#trouble(kind, problem),
        },
      )
      this.#views.set(kind, view as unknown as Watched<WatchedKind>)
      return undefined
    } catch (error) {
      if (!(error instanceof StoreError && (error.code === 'NoSuchKind' || error.code === 'Forbidden'))) throw error
      return error.message
    }
  }

  #trouble(kind: KindName, problem: string | undefined): void {
    if (problem === undefined) {
      if (!this.#troubles.delete(kind)) return
      this.#log.info({ kind }, 'the view follows again')
      if (this.#troubles.size === 0) for (const run of this.#whenFollowing) run()
      return
    }
    if (this.#troubles.get(kind) !== problem) this.#log.warn({ kind }, problem)
    this.#troubles.set(kind, problem)
  }

  #changed<Kind extends WatchedKind>(kind: Kind, change: Change<Kind>): void {
    const any = change as unknown as Change<WatchedKind>
    for (const index of this.#indexesOf(kind)) index.change(any)
    for (const listener of this.#listeners.get(kind) ?? []) listener(any)
  }

  #indexesOf(kind: WatchedKind): { change(change: Change<WatchedKind>): unknown }[] {
    const all: Partial<Record<WatchedKind, readonly { change(change: never): unknown }[]>> = {
      EndpointSlice: [this.#slices, this.#slicesByAddress],
      Pod: [this.#pods, this.#podsByAddress],
      Service: [this.#servicesByAddress],
      IprefService: [
        ...[this.#byName, this.#byAddress, this.#byReference, this.#byGiven],
        ...[this.#byTarget, this.#byNamedAddress, this.#byMark, this.#bySelecting],
      ],
    }
    return (all[kind] ?? []) as { change(change: Change<WatchedKind>): unknown }[]
  }

  /** Before `start`: the listener is told of the first list too. */
  listen<Kind extends WatchedKind>(kind: Kind, listener: (change: Change<Kind>) => void): void {
    const listeners = this.#listeners.get(kind) ?? []
    this.#listeners.set(kind, [...listeners, listener as unknown as Listener])
  }

  /** Calls `run` each time that all views follow again. */
  whenFollowing(run: () => void): void {
    this.#whenFollowing.push(run)
  }

  view<Kind extends WatchedKind>(kind: Kind): Watched<Kind> {
    return (this.#views.get(kind) ?? EMPTY) as unknown as Watched<Kind>
  }

  /** Why views may be behind; empty: they follow. */
  get troubles(): string[] {
    return [...this.#troubles].map(([kind, problem]) => `${kind}: ${problem}`)
  }

  get services(): Watched<'IprefService'> {
    return this.view('IprefService')
  }
  gateways(): IprefGateway[] {
    return [...this.view('IprefGateway').all()]
  }
  peers(): IprefPeer[] {
    return [...this.view('IprefPeer').all()]
  }
  nodes(): Node[] {
    return [...this.view('Node').all()]
  }
  references(): IprefReference[] {
    return [...this.view('IprefReference').all()]
  }
  service(namespace: string, name: string): Service | undefined {
    return this.view('Service').get({ namespace, name })
  }
  slicesOf(namespace: string, service: string): EndpointSlice[] {
    return this.#slices.get(`${namespace}/${service}`)
  }
  /** Slices of any Service that name this address. */
  slicesAt(address: string): EndpointSlice[] {
    return this.#slicesByAddress.get(address)
  }
  podsOf(namespace: string): Pod[] {
    return this.#pods.get(namespace)
  }
  /** Pods of any namespace that have this address now. */
  podsAt(address: string): Pod[] {
    return this.#podsByAddress.get(address)
  }
  serviceAt(address: string): Service | undefined {
    return this.#servicesByAddress.get(address)[0]
  }
  withName(name: string): IprefService[] {
    return this.#byName.get(name)
  }
  withAddress(address: string): IprefService[] {
    return this.#byAddress.get(address)
  }
  /** IprefServices that map this reference, theirs or shared. */
  withReference(reference: string): IprefService[] {
    return this.#byReference.get(reference)
  }
  /** IprefServices that ask for this very reference. */
  asking(reference: string): IprefService[] {
    return this.#byGiven.get(reference)
  }
  /** IprefServices whose target is this address. */
  naming(address: string): IprefService[] {
    return this.#byNamedAddress.get(address)
  }
  marked(mark: Mark): IprefService[] {
    return this.#byMark.get(mark)
  }
  /** IprefServices that publish this Service. */
  publishing(namespace: string, service: string): IprefService[] {
    return this.#byTarget.get(`${namespace}/${service}`)
  }
  /** IprefServices that select pods of this namespace. */
  selectingIn(namespace: string): IprefService[] {
    return this.#bySelecting.get(namespace)
  }

  stop(): void {
    for (const view of this.#views.values()) view.stop()
  }
}

/** What changes of the surroundings may touch. */
export type Mark = 'addressTarget' | 'refusedTarget' | 'addressTaken' | 'waiting'

function marksOf({ spec, status }: IprefService): Mark[] {
  const marks: Mark[] = []
  const conditions = status?.conditions ?? []
  if (spec.target.address !== undefined) marks.push('addressTarget')
  if (conditions.some(({ reason }) => reason === 'TargetForbidden' || reason === 'SomeTargetsForbidden'))
    marks.push('refusedTarget')
  if (conditions.some(({ reason }) => reason === 'AddressAlreadyReferenced')) marks.push('addressTaken')
  // for gateways to report its mappings
  const mapped = conditions.find(({ type }) => type === 'Mapped')
  if (mapped === undefined || mapped.status === 'Unknown') marks.push('waiting')
  return marks
}

export function addressesOfSlice({ addressType, endpoints }: EndpointSlice): Iterable<string> {
  if (addressType === 'FQDN') return []
  return new Set((endpoints ?? []).flatMap(({ addresses }) => addresses.map(canonical)))
}

const EMPTY: Watched<'Pod'> = {
  get: () => undefined,
  all: () => [],
  size: 0,
  resourceVersion: undefined,
  silentMs: 0,
  stop: () => {},
}

/** The names that an object asks for, if it may have them. */
export function namesAsked(object: IprefService, config: Config): string[] {
  const names = namesOf(object, config)
  if (isNameProblem(names)) return []
  return [names.internal, names.public].filter(name => name !== undefined)
}

export function serviceOfSlice({ metadata }: EndpointSlice): { namespace: string; name: string } | undefined {
  const name = metadata.labels?.[SERVICE_NAME]
  return name === undefined ? undefined : { namespace: metadata.namespace ?? '', name }
}
