/** Everything that is decided about one IprefService from, out of the views. */
import type { IprefReference, IprefService } from '../../resources/kinds.ts'
import { namesOf } from '../../resources/names.ts'
import { keyOf } from '../byKey.ts'
import type { Cluster } from '../cluster.ts'
import type { SurroundingsCache } from '../surroundings.ts'
import type { PlanInput } from './plan.ts'
import type { ReferenceBook } from './references.ts'
import { familyOf, findTargets } from './targets.ts'

export interface GatherPorts {
  cluster: Cluster
  book: ReferenceBook
  surroundings: SurroundingsCache
}

export function gather(object: IprefService, { cluster, book, surroundings }: GatherPorts, now: number): PlanInput {
  const { metadata, spec } = object
  const namespace = metadata.namespace ?? ''
  const name = spec.target.service?.name
  const { config } = cluster
  return {
    object,
    names: namesOf(object, config),
    targets: findTargets({
      object,
      service: name === undefined ? undefined : cluster.service(namespace, name),
      slices: name === undefined ? [] : cluster.slicesOf(namespace, name),
      pods: spec.target.pods ? cluster.podsOf(namespace) : [],
      podsAt: address => cluster.podsAt(address),
      serviceAt: address => cluster.serviceAt(address),
      surroundings: surroundings.get(),
    }),
    families: new Set(config.encodingNetworks.map(familyOf)),
    own: book.ofOwner(keyOf(object)),
    mappedAt: address => mappedAt(address, object, cluster),
    addressesOf: reference => addressesOf(reference, object, cluster),
    ownerOfName: wanted => older(cluster.withName(wanted), object).map(keyOf)[0],
    askerOf: reference => older(cluster.asking(reference), object).map(keyOf)[0],
    holderOf: reference => {
      const claim = book.find(reference)
      if (!claim || isOf(claim, object)) return undefined
      return { claim, owner: `${claim.spec.namespace}/${claim.spec.name}`, gone: !isAlive(claim, cluster) }
    },
    holdMs: config.referenceHoldTimeMs,
    now,
  }
}

function mappedAt(address: string, object: IprefService, cluster: Cluster) {
  const others = cluster.withAddress(address).filter(other => keyOf(other) !== keyOf(object))
  return others.sort(compareAge).flatMap(other => {
    const mapping = other.status?.mappings?.find(m => m.address === address)
    return mapping
      ? [{ reference: mapping.reference, owner: keyOf(other), isOlder: compareAge(other, object) < 0 }]
      : []
  })
}

function addressesOf(reference: string, object: IprefService, cluster: Cluster): string[] {
  const others = cluster.withReference(reference).filter(other => keyOf(other) !== keyOf(object))
  return others.flatMap(({ status }) =>
    (status?.mappings ?? []).filter(mapping => mapping.reference === reference).map(({ address }) => address),
  )
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
