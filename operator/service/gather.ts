/** Everything that is decided about one IprefService from, out of the views. */
import type { IprefReference, IprefService } from '../../resources/kinds.ts'
import { namesOf } from '../../resources/names.ts'
import { keyOf } from '../byKey.ts'
import type { Cluster } from '../cluster.ts'
import { surroundingsOf } from '../surroundings.ts'
import type { PlanInput } from './plan.ts'
import type { ReferenceBook } from './references.ts'
import { findTargets } from './targets.ts'

export function gather(object: IprefService, cluster: Cluster, book: ReferenceBook, now: number): PlanInput {
  const { metadata, spec } = object
  const namespace = metadata.namespace ?? ''
  const name = spec.target.service?.name
  const usesPods = spec.target.address === undefined
  return {
    object,
    names: namesOf(object, cluster.config),
    targets: findTargets({
      object,
      service: name === undefined ? undefined : cluster.service(namespace, name),
      slices: name === undefined ? [] : cluster.slicesOf(namespace, name),
      pods: usesPods ? cluster.podsOf(namespace) : [],
      surroundings: surroundingsOf(cluster),
    }),
    own: book.ofOwner(keyOf(object)),
    sharedAt: address => sharedAt(address, object, cluster),
    ownerOfName: wanted => older(cluster.withName(wanted), object).map(keyOf)[0],
    holderOf: reference => {
      const claim = book.find(reference)
      if (!claim || isOf(claim, object)) return undefined
      return { claim, owner: `${claim.spec.namespace}/${claim.spec.name}`, gone: !isAlive(claim, cluster) }
    },
    now,
  }
}

function sharedAt(
  address: string,
  object: IprefService,
  cluster: Cluster,
): { reference: string; owner: string } | undefined {
  for (const other of older(cluster.withAddress(address), object)) {
    const mapping = other.status?.mappings?.find(m => m.address === address)
    if (mapping) return { reference: mapping.reference, owner: keyOf(other) }
  }
  return undefined
}

function isOf({ spec }: IprefReference, { metadata }: IprefService): boolean {
  return spec.namespace === metadata.namespace && spec.name === metadata.name
}

/** Does the object that made this claim still exist? */
export function isAlive({ spec }: IprefReference, cluster: Cluster): boolean {
  return cluster.services.get({ namespace: spec.namespace, name: spec.name })?.metadata.uid === spec.uid
}

/** Those that came before this one, the oldest first: conflicts go to them. */
function older(objects: readonly IprefService[], object: IprefService): IprefService[] {
  return objects.filter(other => compareAge(other, object) < 0).sort(compareAge)
}

export function compareAge({ metadata: a }: IprefService, { metadata: b }: IprefService): number {
  const [x, y] = [`${a.creationTimestamp} ${a.uid}`, `${b.creationTimestamp} ${b.uid}`]
  return x < y ? -1 : x > y ? 1 : 0
}
