/**
 * The service controller: IprefService ──► claims on references, `status.mappings`, names, conditions.
 *
 *   alive:          finalizer ──► plan ──► claims ──► status (mappings) ──► status (version of that write, once there is more to say)
 *   being deleted:  records read back gone ──► one TTL ──► claims released ──► finalizer
 *   gone:           claims released, forgotten after the hold time
 *
 * Every write carries the resourceVersion of what was decided on, or is the creation of a claim; a crash between any two leaves something that the next
 * pass brings in order. Level-triggered; nothing here depends on which event came.
 */
import { isDeepStrictEqual } from 'node:util'
import { referenceOf } from '../../resources/claims.ts'
import type {
  Condition,
  IprefGateway,
  IprefService,
  IprefServiceStatus,
  ServiceMapping,
} from '../../resources/kinds.ts'
import type { ResourceStore } from '../../resources/store.ts'
import { type Clock, timestamp } from '../../runtime/clock.ts'
import { fromKey, keyOf } from '../byKey.ts'
import type { Cluster } from '../cluster.ts'
import type { Finding } from '../conditions.ts'
import type { Events } from '../events.ts'
import { SurroundingsCache } from '../surroundings.ts'
import { gather } from './gather.ts'
import { planService, type ServicePlan } from './plan.ts'
import type { ReferenceBook } from './references.ts'
import { statusOf } from './status.ts'

export const FINALIZER = 'ipref.io/withdraw'
/** However long records stay where they were published, an object can be deleted after this. */
const LONGEST_WITHDRAWAL_MS = 600_000
const WITHDRAWAL_LOOK_MS = 2000

/** What the publisher knows of an object's records. */
export interface Publication {
  internal(object: IprefService): Finding
  public(object: IprefService): Finding
  /** No record of it is left where it was published. */
  isWithdrawn(object: IprefService): boolean
  /** None is left under a name that it had. */
  isNameGone(object: IprefService, name: string): boolean
}

export interface ServicePorts {
  store: ResourceStore
  cluster: Cluster
  book: ReferenceBook
  publication: Publication
  /** gateways that are alive */
  gateways(): readonly IprefGateway[]
  events: Events
  clock: Clock
}

export class ServiceController {
  readonly #ports: ServicePorts
  readonly #surroundings: SurroundingsCache
  /** since when we have seen an object being deleted */
  readonly #deletedSince = new Map<string, { uid: string | undefined; at: number }>()

  /** Before the cluster starts. */
  constructor(ports: ServicePorts) {
    this.#ports = ports
    this.#surroundings = new SurroundingsCache(ports.cluster)
  }

  readonly reconcile = async (key: string): Promise<{ againMs?: number } | undefined> => {
    const object = this.#ports.cluster.services.get(fromKey(key))
    if (!object) return this.#gone(key)
    if (object.metadata.deletionTimestamp !== undefined) return this.#withdraw(object)
    if (!object.metadata.finalizers?.includes(FINALIZER)) return this.#addFinalizer(object)
    const { cluster, book, clock } = this.#ports
    const ports = { cluster, book, surroundings: this.#surroundings }
    const plan = planService(gather(object, ports, clock.now()))
    const mappings = await this.#claim(object, plan)
    await this.#writeStatus(object, plan, mappings)
    return plan.againMs === undefined ? undefined : { againMs: plan.againMs }
  }

  /** The watch brings the object back, with the finalizer. */
  async #addFinalizer(object: IprefService): Promise<undefined> {
    const finalizers = [...(object.metadata.finalizers ?? []), FINALIZER]
    await this.#ports.store.update('IprefService', { ...object, metadata: { ...object.metadata, finalizers } })
  }

  async #claim(object: IprefService, plan: ServicePlan): Promise<ServiceMapping[]> {
    const { book, clock } = this.#ports
    const references: string[] = []
    for (const change of plan.changes) references.push(await book.apply(change, object, clock.now()))
    return plan.mappings.map(({ slot, family, address, reference, ...more }) => ({
      slot,
      family,
      address,
      reference: typeof reference === 'string' ? reference : references[reference.claim]!,
      ...more,
    }))
  }

  async #writeStatus(object: IprefService, plan: ServicePlan, mappings: ServiceMapping[]): Promise<void> {
    const { store, publication, clock, gateways } = this.#ports
    const status = statusOf({
      object,
      names: plan.names,
      mappings,
      findings: plan.findings,
      gateways: gateways(),
      publishedInternal: publication.internal(object),
      publishedPublic: publication.public(object),
      isGone: name => publication.isNameGone(object, name),
      now: clock.now(),
    })
    if (isKnown(status, object.status)) return
    await store.updateStatus('IprefService', { ...object, status })
    this.#tell(object, status)
  }

  #tell(object: IprefService, status: IprefServiceStatus): void {
    const ready = (conditions: Condition[] | undefined) => conditions?.find(c => c.type === 'Ready')
    const [before, now] = [ready(object.status?.conditions), ready(status.conditions)]
    if (!now || (before?.status === now.status && before.reason === now.reason)) return
    if (now.status === 'True') {
      const names = [status.publicName, status.internalName].filter(name => name !== undefined).join(', ')
      this.#ports.events.say(object, 'Normal', 'Ready', `published as ${names}`)
    } else if (now.status === 'False') this.#ports.events.say(object, 'Warning', now.reason, now.message)
  }

  // ---- the end of an object

  /** Claims are released when it is gone: nothing but the finalizer is still to be written here, so nothing else can keep it. */
  async #withdraw(object: IprefService): Promise<{ againMs: number } | undefined> {
    const { metadata } = object
    if (!metadata.finalizers?.includes(FINALIZER)) return undefined
    const waitMs = this.#untilOver(object)
    const againMs = waitMs > 0 ? await this.#untilWithdrawn(object) : 0
    if (againMs > 0) return { againMs: Math.min(againMs, waitMs) }
    const finalizers = metadata.finalizers.filter(finalizer => finalizer !== FINALIZER)
    await this.#ports.store.update('IprefService', { ...object, metadata: { ...metadata, finalizers } })
    return undefined
  }

  /** 0: it goes, whatever is left of it. By its own time and by ours, for clocks differ and operators restart. */
  #untilOver({ metadata }: IprefService): number {
    const now = this.#ports.clock.now()
    const key = keyOf({ metadata })
    const known = this.#deletedSince.get(key)
    const seen = known?.uid === metadata.uid && known !== undefined ? known : { uid: metadata.uid, at: now }
    this.#deletedSince.set(key, seen)
    const begun = Math.min(seen.at, Date.parse(metadata.deletionTimestamp!))
    return Math.max(0, begun + LONGEST_WITHDRAWAL_MS - now)
  }

  /** First its records, then, one TTL later, its mapping. 0: nothing of it is left. */
  async #untilWithdrawn(object: IprefService): Promise<number> {
    const { store, publication, clock } = this.#ports
    const { status, spec } = object
    const now = clock.now()
    if (!status?.mappings?.length) return 0
    if (status.withdrawnAt !== undefined)
      return Math.max(0, Date.parse(status.withdrawnAt) + (spec.ttlSeconds ?? 60) * 1000 - now)
    if (!publication.isWithdrawn(object)) return WITHDRAWAL_LOOK_MS
    // rounded up: a mapping that ends before its TTL is over would leave somebody with a record of nothing
    const withdrawnAt = timestamp(now + 999)
    await store.updateStatus('IprefService', { ...object, status: { ...status, withdrawnAt } })
    return WITHDRAWAL_LOOK_MS
  }

  /** Claims of an object that is no more, however it went. */
  async #gone(key: string): Promise<{ againMs: number } | undefined> {
    const { book, cluster, clock } = this.#ports
    const now = clock.now()
    const hold = cluster.config.referenceHoldTimeMs
    this.#deletedSince.delete(key)
    let next: number | undefined
    for (const claim of book.ofOwner(key)) {
      await book.release(claim, now)
      const over = claim.spec.releasedAt === undefined ? now + hold : Date.parse(claim.spec.releasedAt) + hold
      // shared by an object that has not taken it over yet
      const isMapped = cluster.withReference(referenceOf(claim)).length > 0
      if (over <= now && !isMapped) await book.forget(claim)
      else next = Math.min(next ?? Number.POSITIVE_INFINITY, Math.max(1000, over - now))
    }
    return next === undefined ? undefined : { againMs: next }
  }
}

/** Nothing is new, or only the version of the write that brought the mappings, which gateways know without: it goes along with the next write. */
function isKnown({ mappingsVersion, ...status }: IprefServiceStatus, before: IprefServiceStatus | undefined): boolean {
  const { mappingsVersion: last, ...same } = before ?? {}
  return isDeepStrictEqual(status, same) && (last === mappingsVersion || last === undefined)
}
