/**
 * Everything that a trace of one IprefService goes by, read from the store: the object, its target, its claims, the gateways. What may not be read is absent, and
 * the steps that need it say less.
 */
import { parseReference } from '../ipref/reference.ts'
import { nameOfClaim } from '../resources/claims.ts'
import type {
  EndpointSlice,
  IprefGateway,
  IprefReference,
  IprefService,
  Lease,
  Pod,
  Service,
} from '../resources/kinds.ts'
import type { Network } from '../resources/network.ts'
import { matchesLabels } from '../resources/selectors.ts'
import { type Key, type ResourceStore, StoreError } from '../resources/store.ts'
import { ifAllowed, listIfAllowed, readNetwork } from './clusterStore.ts'

const SERVICE_NAME = 'kubernetes.io/service-name'
const KINDS = /^(iprefservices?|iprefsvc)(\.ipref\.io)?$/i

export interface ServiceFacts {
  object: IprefService
  /** `target.service`; undefined: not there */
  service?: Service | undefined
  /** of that Service, or those that the selector finds */
  slices: readonly EndpointSlice[]
  pods: readonly Pod[]
  /** by reference text; absent: may not be read */
  claims?: ReadonlyMap<string, IprefReference | undefined>
  gateways?: readonly IprefGateway[]
  /** by name of the Lease; absent: may not be read */
  leases?: ReadonlyMap<string, Lease>
  network?: Network | undefined
}

// ---- which object

/** `NAME`, `NAMESPACE/NAME`, `iprefservice/NAME`, or a name that it is known by in DNS. Rejects with a sentence. */
export async function findService(
  store: ResourceStore,
  subject: string,
  namespace: string | undefined,
): Promise<IprefService> {
  const key = keyOf(subject, namespace)
  if (key.namespace !== undefined) {
    const found = await store.get('IprefService', { name: key.name, namespace: key.namespace })
    if (found) return found
  }
  const all = await listIfAllowed(
    store,
    'IprefService',
    key.namespace === undefined ? {} : { namespace: key.namespace },
  )
  if (all === 'Forbidden')
    throw new StoreError('Forbidden', 'IprefServices of all namespaces may not be read: name one with -n NAMESPACE')
  const found = all.filter(({ metadata }) => metadata.name === key.name)
  if (found.length === 0) found.push(...all.filter(object => isKnownAs(object, key.name)))
  if (found.length === 1) return found[0]!
  const where = key.namespace === undefined ? '' : ` in namespace ${key.namespace}`
  if (found.length > 1) {
    const names = found.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).join(', ')
    throw new StoreError('Invalid', `${subject}: which of ${names}? Say it with -n NAMESPACE`)
  }
  const others = all.slice(0, 5).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)
  const hint =
    others.length === 0 ? 'there is none' : `there ${others.length === 1 ? 'is' : 'are'} ${others.join(', ')}`
  throw new StoreError('NotFound', `there is no IprefService ${key.name}${where}; ${hint}`)
}

function keyOf(subject: string, namespace: string | undefined): { name: string; namespace: string | undefined } {
  const [first = '', second] = subject.split('/')
  if (second === undefined) return { name: first, namespace }
  return KINDS.test(first) ? { name: second, namespace } : { name: second, namespace: first }
}

function isKnownAs({ status }: IprefService, text: string): boolean {
  const name = text.toLowerCase().replace(/\.$/, '')
  const names = [status?.publicName, status?.internalName].filter(one => one !== undefined)
  const members = (status?.mappings ?? []).flatMap(({ member }) => (member === undefined ? [] : [member]))
  return names.some(one => one === name || members.some(member => `${member}.${one}` === name))
}

// ---- what belongs to it

export async function gatherFacts(
  store: ResourceStore,
  object: IprefService,
  operatorNamespace: string,
): Promise<ServiceFacts> {
  const [target, claims, gateways, leases, network] = await Promise.all([
    readTarget(store, object),
    readClaims(store, object),
    listIfAllowed(store, 'IprefGateway'),
    listIfAllowed(store, 'Lease', { namespace: operatorNamespace }),
    readNetwork(store, operatorNamespace),
  ])
  return {
    object,
    ...target,
    ...(claims ? { claims } : {}),
    ...(gateways === 'Forbidden' ? {} : { gateways }),
    ...(leases === 'Forbidden' ? {} : { leases: new Map(leases.map(lease => [lease.metadata.name, lease])) }),
    ...(network ? { network } : {}),
  }
}

type Target = Pick<ServiceFacts, 'service' | 'slices' | 'pods'>

async function readTarget(store: ResourceStore, { metadata, spec }: IprefService): Promise<Target> {
  const namespace = metadata.namespace ?? ''
  const { service, pods } = spec.target
  const listed = async () => {
    const found = await listIfAllowed(store, 'Pod', { namespace })
    return found === 'Forbidden' ? [] : found
  }
  if (pods) {
    const found = (await listed()).filter(pod => matchesLabels(pods.selector, pod.metadata.labels ?? {}))
    return { slices: [], pods: found }
  }
  if (!service) return { slices: [], pods: [] }
  const key: Key = { name: service.name, namespace }
  const [found, slices, all] = await Promise.all([
    ifAllowed(store.get('Service', key)),
    listIfAllowed(store, 'EndpointSlice', { namespace, labelSelector: `${SERVICE_NAME}=${service.name}` }),
    listed(),
  ])
  const known = slices === 'Forbidden' ? [] : slices
  const addresses = new Set(known.flatMap(({ endpoints }) => (endpoints ?? []).flatMap(one => one.addresses)))
  return {
    ...(found === 'Forbidden' ? {} : { service: found }),
    slices: known,
    pods: all.filter(({ status }) => status?.podIPs?.some(({ ip }) => addresses.has(ip))),
  }
}

async function readClaims(
  store: ResourceStore,
  { status }: IprefService,
): Promise<ReadonlyMap<string, IprefReference | undefined> | undefined> {
  const claims = new Map<string, IprefReference | undefined>()
  for (const { reference } of status?.mappings ?? []) {
    const value = parseReference(reference)
    if (value === undefined) continue
    const claim = await ifAllowed(store.get('IprefReference', { name: nameOfClaim(value) }))
    if (claim === 'Forbidden') return undefined
    claims.set(reference, claim)
  }
  return claims
}
