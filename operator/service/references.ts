/**
 * Claims on references: IprefReference objects, whose creation is the claim (decisions.md 21). Never two owners: the store refuses the second creation.
 *
 *   claim ──► create ── 409 ──► another random one (or, for a given one: taken)
 *   adopt, leave, release ──► update, with the resourceVersion that the decision was made on
 *
 * What was written here is remembered until the watch has shown it, so that a decision made before that does not claim twice.
 */
import { randomFillSync } from 'node:crypto'
import { isStaticReference } from '../../ipref/lifetimes.ts'
import { parseReference } from '../../ipref/reference.ts'
import { nameOfClaim, referenceOf } from '../../resources/claims.ts'
import { API_VERSION, type IprefReference, type IprefReferenceSpec, type IprefService } from '../../resources/kinds.ts'
import { type Change, type ResourceStore, StoreError } from '../../resources/store.ts'
import { timestamp } from '../../runtime/clock.ts'
import { ByKey } from '../byKey.ts'
import type { ClaimChange } from './plan.ts'
import { LAST_HOLDER, lastHolderText } from './slots.ts'

const TRIES = 16
/** Below this, references are for people to give. */
const LEAST_ALLOCATED = 256n

export class ReferenceBook {
  readonly #store: ResourceStore
  readonly #bytes: () => 4 | 8
  /** by `namespace/name` of the IprefService */
  readonly #byOwner = new ByKey<'IprefReference'>(({ spec }) => [`${spec.namespace}/${spec.name}`])
  readonly #all = new Map<string, IprefReference>()

  constructor(store: ResourceStore, referenceLength: () => 4 | 8) {
    this.#store = store
    this.#bytes = referenceLength
  }

  /** From the watch, or from an answer of the store: the newer one counts. Keys of the owners that are touched. */
  change({ now, before }: Change<'IprefReference'>): Set<string> {
    const name = (now ?? before)!.metadata.name
    const known = this.#all.get(name)
    if (now && known && known.metadata.uid === now.metadata.uid && !isNewer(now, known)) return new Set()
    if (!now && known && before && known.metadata.uid !== before.metadata.uid) return new Set()
    if (now) this.#all.set(name, now)
    else this.#all.delete(name)
    return this.#byOwner.change({ before: known, now })
  }

  ofOwner(key: string): IprefReference[] {
    return this.#byOwner.get(key)
  }

  /** The claim on this reference text, whoever made it. */
  find(reference: string): IprefReference | undefined {
    const value = parseReference(reference)
    return value === undefined ? undefined : this.#all.get(nameOfClaim(value))
  }

  all(): Iterable<IprefReference> {
    return this.#all.values()
  }

  get size(): number {
    return this.#all.size
  }

  /** The reference that the change is about, as text. `Conflict` and `AlreadyExists` of a given one: decide anew. */
  async apply(change: ClaimChange, object: IprefService, now: number): Promise<string> {
    if (change.do === 'claim') return this.#claim(change, object)
    const { claim } = change
    if (change.do === 'leave') await this.#leave(claim, timestamp(now), change.holder)
    else if (change.do === 'forget') await this.forget(claim)
    else await this.#adopt(claim, ownedBy(object, change), now)
    return referenceOf(claim)
  }

  // only what was let go may be taken up, so that a claim in use never changes hands unseen
  async #adopt(claim: IprefReference, spec: IprefReferenceSpec, now: number): Promise<void> {
    const isFree = claim.spec.releasedAt !== undefined
    const free = isFree ? claim : await this.#update(claim, { ...claim.spec, releasedAt: timestamp(now) })
    // who had it last counts for the slots of the same object alone
    const { [LAST_HOLDER]: _dropped, ...annotations } = free.metadata.annotations ?? {}
    const metadata = spec.uid === free.spec.uid ? free.metadata : { ...free.metadata, annotations }
    await this.#update({ ...free, metadata }, spec)
  }

  async #claim(change: ClaimChange & { do: 'claim' }, object: IprefService): Promise<string> {
    for (let tries = 1; ; tries++) {
      const value = change.reference === undefined ? this.#random() : parseReference(change.reference)!
      try {
        const claim = await this.#store.create('IprefReference', {
          apiVersion: API_VERSION,
          kind: 'IprefReference',
          metadata: { name: nameOfClaim(value) },
          spec: ownedBy(object, change),
        })
        this.change({ before: undefined, now: claim })
        return referenceOf(claim)
      } catch (error) {
        const isTaken = error instanceof StoreError && error.code === 'AlreadyExists'
        if (!isTaken || change.reference !== undefined || tries >= TRIES) throw error
      }
    }
  }

  /** The owner is gone since `now`: kept for objects of the same name until the hold time is over. */
  async release(claim: IprefReference, now: number): Promise<void> {
    if (claim.spec.releasedAt === undefined) await this.#update(claim, { ...claim.spec, releasedAt: timestamp(now) })
  }

  async forget(claim: IprefReference): Promise<void> {
    const { name, uid, resourceVersion } = claim.metadata
    await this.#store.delete(
      'IprefReference',
      { name },
      { ...(uid ? { uid } : {}), ...(resourceVersion ? { resourceVersion } : {}) },
    )
    this.change({ before: claim, now: undefined })
  }

  async #leave(claim: IprefReference, releasedAt: string, holder: string | undefined): Promise<void> {
    const before = claim.metadata.annotations
    const annotations = holder === undefined ? before : { ...before, [LAST_HOLDER]: lastHolderText(holder, releasedAt) }
    const metadata = { ...claim.metadata, ...(annotations ? { annotations } : {}) }
    await this.#update({ ...claim, metadata }, { ...claim.spec, releasedAt })
  }

  async #update(claim: IprefReference, spec: IprefReferenceSpec): Promise<IprefReference> {
    const now = await this.#store.update('IprefReference', { ...claim, spec })
    this.change({ before: claim, now })
    return now
  }

  // random, so that scanning meets nothing; the static rule keeps them apart from dynamic ones (decisions.md 5)
  #random(): bigint {
    for (;;) {
      const bytes = randomFillSync(Buffer.alloc(8))
      const value = this.#bytes() === 8 ? bytes.readBigUInt64BE() >> 8n : BigInt(bytes.readUInt32BE() >>> 8)
      // the second-to-last byte is what the static rule is about
      const reference = value & ~0xf000n
      if (reference >= LEAST_ALLOCATED && isStaticReference(reference) && !this.#all.has(nameOfClaim(reference)))
        return reference
    }
  }
}

function ownedBy(
  { metadata }: IprefService,
  { slot, family }: { slot: number; family: 'IPv4' | 'IPv6' },
): IprefReferenceSpec {
  return { namespace: metadata.namespace ?? '', name: metadata.name, uid: metadata.uid ?? '', slot, family }
}

function isNewer(a: IprefReference, b: IprefReference): boolean {
  const [x, y] = [a.metadata.resourceVersion ?? '', b.metadata.resourceVersion ?? '']
  return x.length === y.length ? x > y : x.length > y.length
}
