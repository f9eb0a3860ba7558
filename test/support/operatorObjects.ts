/** Objects for tests of the operator: right as they are, with what a test says otherwise. */
import { parsePrefix } from '../../ipref/address.ts'
import {
  addressesInUse,
  canonical,
  clusterIpsOf,
  type Surroundings,
  type TargetInput,
} from '../../operator/service/targets.ts'
import { type Config, parseConfig } from '../../resources/config.ts'
import {
  API_VERSION,
  type EndpointSlice,
  type IprefGateway,
  type IprefPeer,
  type IprefPeerSpec,
  type IprefService,
  type IprefServiceSpec,
  type Node,
  type ObjectMeta,
  type Pod,
  type Service,
} from '../../resources/kinds.ts'

const CREATED = '2030-01-01T00:00:00Z'

export function settings(more = ''): Config {
  const parsed = parseConfig(
    `encodingNetworks: [10.176.0.0/12, "fd76::/64"]\ninternalZone: in.example.com\npublicZone: example.com\n${more}`,
    'test',
  )
  if ('problems' in parsed) throw new Error(parsed.problems.join('\n'))
  return parsed.config
}

export function iprefService(spec: Partial<IprefServiceSpec> = {}, metadata: Partial<ObjectMeta> = {}): IprefService {
  const name = metadata.name ?? 'web'
  return {
    apiVersion: API_VERSION,
    kind: 'IprefService',
    metadata: { name, namespace: 'shop', uid: `uid-${name}`, creationTimestamp: CREATED, generation: 1, ...metadata },
    spec: { target: { service: { name: 'web' } }, ...spec },
  }
}

export function service(spec: Partial<Service['spec']> = {}, metadata: Partial<ObjectMeta> = {}): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', ...metadata },
    spec: {
      clusterIP: '10.96.0.10',
      clusterIPs: ['10.96.0.10'],
      ports: [{ port: 80, targetPort: 8080, protocol: 'TCP' }],
      ...spec,
    },
  }
}

export const headless = (spec: Partial<Service['spec']> = {}, metadata: Partial<ObjectMeta> = {}) =>
  service({ clusterIP: 'None', clusterIPs: ['None'], ...spec }, metadata)

type Endpoints = NonNullable<EndpointSlice['endpoints']>

/** Endpoints as addresses, or as they are in the slice. */
export function slice(
  endpoints: readonly (string | Endpoints[number])[],
  more: Partial<EndpointSlice> = {},
  metadata: Partial<ObjectMeta> & { service?: string } = {},
): EndpointSlice {
  const { service: of = 'web', ...meta } = metadata
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${of}-1`, namespace: 'shop', labels: { 'kubernetes.io/service-name': of }, ...meta },
    addressType: 'IPv4',
    endpoints: endpoints.map(one =>
      typeof one === 'string' ? { addresses: [one], conditions: { ready: true } } : one,
    ),
    ports: [{ port: 8080, protocol: 'TCP' }],
    ...more,
  }
}

export interface PodOptions {
  metadata?: Partial<ObjectMeta>
  spec?: Pod['spec']
  phase?: string
  ready?: 'True' | 'False'
}

export function pod(name: string, addresses: readonly string[], options: PodOptions = {}): Pod {
  const { metadata, spec = {}, phase = 'Running', ready = 'True' } = options
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      creationTimestamp: CREATED,
      labels: { app: 'web' },
      ...metadata,
    },
    spec,
    status: {
      phase,
      ...(addresses[0] === undefined ? {} : { podIP: addresses[0] }),
      podIPs: addresses.map(ip => ({ ip })),
      conditions: [{ type: 'Ready', status: ready }],
    },
  }
}

/** Pod of a StatefulSet. */
export function member(set: string, ordinal: number, addresses: readonly string[], options: PodOptions = {}): Pod {
  const ownerReferences = [
    { apiVersion: 'apps/v1', kind: 'StatefulSet', name: set, uid: `uid-${set}`, controller: true },
  ]
  return pod(`${set}-${ordinal}`, addresses, { ...options, metadata: { ownerReferences, ...options.metadata } })
}

export function node(name: string, addresses: readonly string[], podCIDRs: string[] = []): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec: { podCIDRs },
    status: {
      addresses: [{ type: 'Hostname', address: name }, ...addresses.map(address => ({ type: 'InternalIP', address }))],
    },
  }
}

export function gateway(
  name: string,
  spec: Partial<IprefGateway['spec']> = {},
  status?: Partial<NonNullable<IprefGateway['status']>>,
): IprefGateway {
  return {
    apiVersion: API_VERSION,
    kind: 'IprefGateway',
    metadata: { name, uid: `uid-${name}`, creationTimestamp: CREATED },
    spec: { nodeName: name, ...spec },
    ...(status ? { status: { observedGeneration: 1, ...status } } : {}),
  }
}

export function peer(spec: Partial<IprefPeerSpec> = {}, metadata: Partial<ObjectMeta> = {}): IprefPeer {
  const name = metadata.name ?? 'other'
  return {
    apiVersion: API_VERSION,
    kind: 'IprefPeer',
    metadata: { name, uid: `uid-${name}`, creationTimestamp: CREATED, generation: 1, ...metadata },
    spec: { gateway: { address: '203.0.113.2', port: 1045 }, probe: { mode: 'Enabled', intervalSeconds: 25 }, ...spec },
  }
}

const prefixes = (texts: readonly string[]) => texts.map(text => parsePrefix(text)!)

export interface World {
  pods?: readonly Pod[]
  services?: readonly Service[]
  slices?: readonly EndpointSlice[]
  forbidden?: Record<string, string>
  onNodes?: Record<string, string>
  clusterNetworks?: readonly string[]
  /** `CIDR` for all, `CIDR NAMESPACE` for one */
  allowed?: readonly string[]
}

/** What findTargets is asked, of a world around one object. */
export function targetInput(object: IprefService, world: World = {}): TargetInput {
  const { pods = [], services = [], slices = [], allowed = [] } = world
  const { namespace } = object.metadata
  const surroundings: Surroundings = {
    forbidden: new Map(Object.entries(world.forbidden ?? {})),
    onNodes: new Map(Object.entries(world.onNodes ?? {})),
    encodingNetworks: prefixes(['10.176.0.0/12', 'fd76::/64']),
    clusterNetworks: prefixes(world.clusterNetworks ?? ['10.244.0.0/16', '10.96.0.0/12']),
    allowedRanges: allowed.map(text => {
      const [cidr, only] = text.split(' ')
      return { range: parsePrefix(cidr!)!, ...(only === undefined ? {} : { namespaces: [only] }) }
    }),
  }
  const name = object.spec.target.service?.name
  const isOurs = (one: { metadata: ObjectMeta }) => one.metadata.namespace === namespace
  return {
    object,
    service: services.find(one => isOurs(one) && one.metadata.name === name),
    slices: slices.filter(one => isOurs(one) && one.metadata.labels?.['kubernetes.io/service-name'] === name),
    pods: pods.filter(isOurs),
    podsAt: address => pods.filter(one => addressesInUse(one).includes(canonical(address))),
    serviceAt: address => services.find(one => clusterIpsOf(one).includes(address)),
    surroundings,
  }
}
