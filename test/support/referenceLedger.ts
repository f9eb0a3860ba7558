/**
 * Writes down, from what the API server tells, which reference was whose and when: nothing may be lost, and nothing be given twice, not even for a moment.
 *
 *   IprefService.status.mappings ─┐
 *   IprefReference ───────────────┴─► faults: a line for each thing that must never be, as it came to pass
 *
 * Both kinds come in watches of their own, so only what one of them says by itself is judged as it comes; what both say is judged by `open`, at rest.
 */
import { keyOf } from '../../operator/byKey.ts'
import { referenceOf } from '../../resources/claims.ts'
import type { IprefReference, IprefService } from '../../resources/kinds.ts'
import type { Change, ResourceStore } from '../../resources/store.ts'

export class ReferenceLedger {
  /** what must never be, and was */
  readonly #faults = new Set<string>()
  /** `namespace/name slot family` → the reference that others know */
  readonly #known = new Map<string, string>()
  /** mappings of each object as they are */
  readonly #mapped = new Map<string, IprefService>()
  readonly #views: { stop(): void }[] = []

  static async begin(store: ResourceStore): Promise<ReferenceLedger> {
    const ledger = new ReferenceLedger()
    ledger.#views.push(
      await store.watch('IprefService', {}, { onChange: change => ledger.#service(change) }),
      await store.watch('IprefReference', {}, { onChange: change => ledger.#claim(change) }),
    )
    return ledger
  }

  get faults(): string[] {
    return [...this.#faults]
  }

  /** The reference that this object was given first; undefined: none yet. */
  known(key: string, slot = 0, family = 'IPv4'): string | undefined {
    return this.#known.get(`${key} ${slot} ${family}`)
  }

  #service({ now, before }: Change<'IprefService'>): void {
    const key = keyOf((now ?? before)!)
    if (!now) return void this.#mapped.delete(key)
    this.#mapped.set(key, now)
    for (const { slot, family, address, reference } of now.status?.mappings ?? []) {
      const place = `${key} ${slot} ${family}`
      const first = this.#known.get(place) ?? reference
      this.#known.set(place, first)
      if (first !== reference) this.#faults.add(`${place}: ${first} is lost, it is ${reference} now`)
      for (const [other, { status }] of this.#mapped)
        for (const one of status?.mappings ?? [])
          if (one.reference === reference && one.address !== address)
            this.#faults.add(`${reference}: of ${key} at ${address}, and of ${other} at ${one.address}`)
    }
  }

  /** A claim changes hands only after it was let go. */
  #claim({ now, before }: Change<'IprefReference'>): void {
    if (!now || !before || now.metadata.uid !== before.metadata.uid || now.spec.uid === before.spec.uid) return
    if (before.spec.releasedAt === undefined)
      this.#faults.add(`claim ${now.metadata.name}: taken from ${before.spec.name} by ${now.spec.name}`)
  }

  stop(): void {
    for (const view of this.#views) view.stop()
  }
}

/** What must hold of claims and mappings whenever nothing is left to do: a line for each thing that does not. */
export function openAccounts(objects: readonly IprefService[], claims: readonly IprefReference[]): string[] {
  const faults: string[] = []
  const byReference = new Map(claims.map(claim => [referenceOf(claim), claim]))
  const used = new Set<string>()
  for (const object of objects)
    for (const { slot, address, reference } of object.status?.mappings ?? []) {
      used.add(reference)
      const what = `${keyOf(object)} ${slot} ${address} ${reference}`
      const claim = byReference.get(reference)
      if (!claim) faults.push(`${what}: nobody has claimed it`)
      else if (claim.spec.releasedAt !== undefined) faults.push(`${what}: its claim is let go`)
      else if (!objects.some(({ metadata }) => metadata.uid === claim.spec.uid))
        faults.push(`${what}: its claim is of an object that is gone`)
    }
  for (const [reference, { spec }] of byReference)
    if (spec.releasedAt === undefined && !used.has(reference))
      faults.push(`${reference}, claimed for ${spec.namespace}/${spec.name}: nobody uses it`)
  return faults
}
