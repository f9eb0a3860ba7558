/**
 * Claims on references, put back: which can be, and why not the others. The plan is pure.
 *
 *   backup, IprefReferences and IprefServices here ── plan ──► create · there · conflict ── create ──► read again, planned again: what is a conflict now
 *
 * Creating an IprefReference is the claim, and the store refuses the second of a name: so no reference has two owners, whoever writes meanwhile. Nothing
 * that is here is changed. A claim comes back with the owner that it had. It waits for an IprefService of that name: the operator gives it to it, or lets it
 * go when `referenceHoldTime` is over.
 */
import { referenceOf } from '../resources/claims.ts'
import type { IprefReference, IprefService } from '../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../resources/store.ts'

export type Verdict =
  | { do: 'create'; claim: IprefReference }
  | { do: 'nothing'; claim: IprefReference }
  | { do: 'conflict'; claim: IprefReference; why: string }

export interface Here {
  claims: readonly IprefReference[]
  services: readonly IprefService[]
}

export function planReferences(backup: readonly IprefReference[], here: Here): Verdict[] {
  const claims = new Map(here.claims.map(claim => [claim.metadata.name, claim]))
  const inUse = new Map(here.claims.filter(isInUse).map(claim => [placeOf(claim), claim]))
  const mappers = mappersOf(here.services)
  return backup.map(claim => {
    const known = claims.get(claim.metadata.name)
    if (known && placeOf(known) === placeOf(claim)) return { do: 'nothing', claim }
    const why = known ? `is of ${placeOf(known)} here` : whyNot(claim, inUse.get(placeOf(claim)), mappers)
    return why === undefined ? { do: 'create', claim } : { do: 'conflict', claim, why }
  })
}

function whyNot(
  claim: IprefReference,
  other: IprefReference | undefined,
  mappers: ReadonlyMap<string, readonly string[]>,
): string | undefined {
  if (other && isInUse(claim)) return `cannot be of ${placeOf(claim)}, which has ${referenceOf(other)} here`
  const users = mappers.get(referenceOf(claim)) ?? []
  return users.length === 0 || users.includes(ownerOf(claim)) ? undefined : `is in use by ${users[0]} here`
}

/** Names of the IprefServices that map a reference. */
function mappersOf(services: readonly IprefService[]): Map<string, string[]> {
  const mappers = new Map<string, string[]>()
  for (const { metadata, status } of services)
    for (const { reference } of status?.mappings ?? [])
      mappers.set(reference, [...(mappers.get(reference) ?? []), `${metadata.namespace}/${metadata.name}`])
  return mappers
}

function isInUse({ spec }: IprefReference): boolean {
  return spec.releasedAt === undefined
}

export function ownerOf({ spec }: IprefReference): string {
  return `${spec.namespace}/${spec.name}`
}

export function placeOf(claim: IprefReference): string {
  return `${ownerOf(claim)} slot ${claim.spec.slot} ${claim.spec.family}`
}

// ---- with a store

export async function readHere(store: ResourceStore): Promise<Here> {
  const [claims, services] = await Promise.all([store.list('IprefReference'), store.list('IprefService')])
  return { claims, services }
}

export interface RestoredReferences {
  created: IprefReference[]
  there: number
  conflicts: (Verdict & { do: 'conflict' })[]
}

/** Rejects with a StoreError; what was created until then stays. */
export async function restoreReferences(
  store: ResourceStore,
  backup: readonly IprefReference[],
): Promise<RestoredReferences> {
  const created: IprefReference[] = []
  for (const verdict of planReferences(backup, await readHere(store))) {
    if (verdict.do !== 'create') continue
    try {
      await store.create('IprefReference', verdict.claim)
      created.push(verdict.claim)
    } catch (error) {
      // somebody was faster: the second look says who
      if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
    }
  }
  const others = backup.filter(claim => !created.includes(claim))
  const second = planReferences(others, await readHere(store))
  return {
    created,
    there: second.filter(verdict => verdict.do === 'nothing').length,
    conflicts: second.flatMap(verdict => {
      if (verdict.do === 'create') return [{ ...verdict, do: 'conflict', why: 'was here, and went: run this again' }]
      return verdict.do === 'conflict' ? [verdict] : []
    }),
  }
}

/** True once an operator has taken note of all claims whose owner is not here: it says of each since when it waits. */
export async function haveBeenSeen(store: ResourceStore, created: readonly IprefReference[]): Promise<boolean> {
  const { claims, services } = await readHere(store)
  const owners = new Set(services.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`))
  const waiting = new Set(created.filter(claim => isInUse(claim) && !owners.has(ownerOf(claim))).map(nameOf))
  return !claims.some(claim => waiting.has(nameOf(claim)) && isInUse(claim))
}

function nameOf({ metadata }: IprefReference): string {
  return metadata.name
}
