/**
 * Which addresses an IprefService reaches, and whether it may. Pure.
 *
 *   target.service, ClusterIP mode   the Service's own addresses: one slot, kube-proxy balances
 *   target.service, Endpoints mode   each ready endpoint that is a pod of the namespace: a slot each   (headless Services imply it)
 *   target.pods                      each ready pod that the selector finds: a slot each
 *   target.address                   one machine outside the cluster, where the platform team allows its range
 *
 * Targets are claims and are bounded (design.md section 7, decisions.md 25): an EndpointSlice written by hand can name any address, so an endpoint
 * counts as what the pods say, not as what it says itself; a ClusterIP in front of such endpoints is no way around that.
 */
import {
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../ipref/address.ts'
import type { EndpointSlice, IprefService, LabelSelector, Pod, PortRule, Service } from '../../resources/kinds.ts'
import { isReadyPod } from '../../resources/pods.ts'
import { matchesLabels } from '../../resources/selectors.ts'

/** Slots of one object: more endpoints than this are not published. */
export const MOST_SLOTS = 256
/** As many as a status holds. */
const MOST_PORT_RULES = 64

/** One address that shall have a reference. */
export interface WantedAddress {
  /** what keeps its slot: uid of the pod, or a constant for targets of one address */
  holder: string
  /** its slot whatever happens: ordinal of a StatefulSet member; 0 for targets of one address */
  ordinal?: number
  /** name below the names of the object */
  member?: string
  family: 'IPv4' | 'IPv6'
  address: string
  ports?: readonly PortRule[]
}

export interface TargetsFound {
  wanted: WantedAddress[]
  /** the target is there, and something about it is wrong all the same */
  warning?: TargetProblem
}

export interface TargetProblem {
  /** which condition says it */
  type: 'Accepted' | 'Resolved'
  reason: string
  message: string
}

export interface TargetInput {
  object: IprefService
  /** `target.service`, if it is there */
  service: Service | undefined
  /** EndpointSlices of that Service */
  slices: readonly EndpointSlice[]
  /** pods of the object's namespace */
  pods: Iterable<Pod>
  /** pods of any namespace that have this address now (`addressesInUse`) */
  podsAt(address: string): readonly Pod[]
  /** a Service of any namespace that has this address */
  serviceAt(address: string): Service | undefined
  surroundings: Surroundings
}

/** What the platform says about addresses. */
export interface Surroundings {
  /** addresses of nodes, of gateways and of the API server: never targets */
  forbidden: ReadonlyMap<string, string>
  /** addresses that gateways found on their nodes: no targets but for pods */
  onNodes: ReadonlyMap<string, string>
  /** their addresses stand for hosts of other networks: never targets */
  encodingNetworks: readonly Prefix[]
  /** pod and service networks: no targets through `address` */
  clusterNetworks: readonly Prefix[]
  allowedRanges: readonly { range: Prefix; namespaces?: readonly string[] }[]
}

export function findTargets(input: TargetInput): TargetsFound | TargetProblem {
  const { target } = input.object.spec
  if (target.service) return serviceTargets(input, target.service)
  if (target.pods) return podTargets(input, target.pods.selector)
  return addressTarget(input, target.address ?? '')
}

// ---- target.service

function serviceTargets(
  input: TargetInput,
  { name, mode }: { name: string; mode?: string },
): TargetsFound | TargetProblem {
  const { service } = input
  if (!service) return unresolved('ServiceNotFound', `there is no Service ${name} in this namespace`)
  if (service.spec.type === 'ExternalName') {
    const outside = service.spec.externalName ?? ''
    return refused(
      'ExternalName',
      `Service ${name} is an ExternalName, only another name for ${outside}; use target.address, or publish ${outside} where it lives`,
    )
  }
  const isHeadless = service.spec.clusterIP === 'None'
  if (isHeadless && mode === 'ClusterIP')
    return refused(
      'HeadlessService',
      `Service ${name} is headless and has no ClusterIP; leave mode out, or say Endpoints`,
    )
  if (mode === 'Endpoints' || isHeadless) return endpointTargets(input, name)
  return clusterIpTarget(input, name)
}

function clusterIpTarget(input: TargetInput, name: string): TargetsFound | TargetProblem {
  const { service, object, surroundings } = input
  const addresses = clusterIpsOf(service!)
  if (addresses.length === 0) return unresolved('NoClusterIP', `Service ${name} has no ClusterIP yet`)
  const own = addresses.map(address => forbiddenReason(address, surroundings)).find(reason => reason !== undefined)
  if (own) return refused('TargetForbidden', `Service ${name} is ${own}`)
  let ready = 0
  for (const { address, isReady, pod } of endpointsOf(input)) {
    const why = whyNotEndpoint(address, pod, input)
    if (why) return refused('TargetForbidden', `Service ${name} leads to ${address}: ${why}`)
    if (isReady) ready++
  }
  const wanted = addresses.map(address => ({
    holder: 'ClusterIP',
    ordinal: 0,
    family: familyOf(address),
    address,
    ...portsMember(object.spec.ports),
  }))
  if (ready > 0) return { wanted }
  return { wanted, warning: unresolved('NoReadyEndpoints', `Service ${name} has no ready endpoints`) }
}

function endpointTargets(input: TargetInput, name: string): TargetsFound | TargetProblem {
  const { service } = input
  const wanted: WantedAddress[] = []
  const refusals: string[] = []
  const takesUnready = service!.spec.publishNotReadyAddresses === true
  const ports = portsOf(input)
  if (!Array.isArray(ports)) return ports
  for (const { address, isReady, pod } of endpointsOf(input)) {
    if (!isReady && !takesUnready) continue
    const why = whyNotEndpoint(address, pod, input)
    if (why) refusals.push(`${address}: ${why}`)
    else wanted.push({ ...identityOf(pod, address), family: familyOf(address), address, ...portsMember(ports) })
  }
  return outcome(wanted, refusals, `Service ${name} has no ready endpoints`)
}

interface Endpoint {
  address: string
  isReady: boolean
  /** the pod of this namespace that has the address */
  pod: Pod | undefined
}

/** Each address once, in order; what an endpoint says of its pod is not believed. */
function endpointsOf({ slices, object, podsAt }: TargetInput): Endpoint[] {
  const ready = new Map<string, boolean>()
  for (const slice of slices) {
    if (slice.addressType === 'FQDN') continue
    for (const { addresses, conditions } of slice.endpoints ?? []) {
      // ready: null means unknown, to be taken as ready (discovery.k8s.io/v1)
      const isReady = conditions?.ready !== false && conditions?.terminating !== true
      // one that moves from slice to slice is in both for a while
      for (const text of addresses) ready.set(canonical(text), isReady || ready.get(canonical(text)) === true)
    }
  }
  return [...ready]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([address, isReady]) => ({ address, isReady, pod: podOf(object, podsAt(address)) }))
}

function whyNotEndpoint(address: string, pod: Pod | undefined, input: TargetInput): string | undefined {
  return pod ? forbiddenReason(address, input.surroundings) : whyNoTarget(address, input)
}

// what the Service's ports are on the pods; a number can be read off the Service, a name only off its slices
function portsOf({ object, service, slices }: TargetInput): PortRule[] | TargetProblem {
  if (object.spec.ports) return object.spec.ports
  const { ports = [] } = service!.spec
  const found = new Map<string, PortRule>()
  const add = (port: number, protocol: PortRule['protocol'] = 'TCP') =>
    found.set(`${protocol} ${port}`, { port, protocol })
  for (const slice of slices) {
    for (const { port, protocol } of slice.ports ?? []) if (port) add(port, protocol ?? 'TCP')
  }
  for (const { port, targetPort, protocol } of ports) {
    if (targetPort === undefined) add(port, protocol)
    else if (typeof targetPort === 'number') add(targetPort, protocol)
  }
  // an empty list would open all ports, which is meant only where the Service has none
  if (found.size === 0 && ports.length > 0)
    return unresolved('NoPorts', `no endpoint of Service ${service!.metadata.name} has a port of the names it asks for`)
  const rules = inRanges([...found.values()])
  if (rules.length <= MOST_PORT_RULES) return rules
  return refused(
    'TooManyPorts',
    `Service ${service!.metadata.name} has more ports than ${MOST_PORT_RULES}; name those to publish in spec.ports`,
  )
}

/** Ports that follow each other become a range. */
function inRanges(rules: readonly PortRule[]): PortRule[] {
  const sorted = [...rules].sort((a, b) =>
    a.protocol === b.protocol ? a.port - b.port : a.protocol! < b.protocol! ? -1 : 1,
  )
  const found: PortRule[] = []
  for (const { port, protocol } of sorted) {
    const last = found.at(-1)
    if (last?.protocol === protocol && (last!.endPort ?? last!.port) + 1 === port) last!.endPort = port
    else found.push({ port, protocol: protocol! })
  }
  return found.sort((a, b) => a.port - b.port)
}

function portsMember(ports: readonly PortRule[] | undefined): { ports?: PortRule[] } {
  return ports?.length ? { ports: ports.map(rule => ({ ...rule, protocol: rule.protocol ?? 'TCP' })) } : {}
}

// ---- target.pods

function podTargets(input: TargetInput, selector: LabelSelector): TargetsFound | TargetProblem {
  const { object, pods, podsAt, surroundings } = input
  const wanted: WantedAddress[] = []
  const refusals: string[] = []
  for (const pod of pods) {
    if (!matchesLabels(selector, pod.metadata.labels ?? {}) || !takesTraffic(pod)) continue
    for (const address of addressesOf(pod)) {
      const why = whyNotPod(pod, address)
      if (why) refusals.push(`pod ${pod.metadata.name}: ${why}`)
      else
        wanted.push({
          ...identityOf(pod, address),
          family: familyOf(address),
          address,
          ...portsMember(object.spec.ports),
        })
    }
  }
  function whyNotPod(pod: Pod, address: string): string | undefined {
    if (pod.spec?.hostNetwork) return HOST_NETWORK
    if (podOf(object, podsAt(address))?.metadata.name !== pod.metadata.name)
      return `${address} is the address of another pod too`
    return forbiddenReason(address, surroundings)
  }
  refusals.sort()
  wanted.sort((a, b) => (a.address < b.address ? -1 : 1))
  return outcome(wanted, refusals, 'no ready pod of this namespace matches the selector')
}

function takesTraffic(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp === undefined && pod.status?.phase === 'Running' && isReadyPod(pod)
}

// ---- target.address

function addressTarget(input: TargetInput, text: string): TargetsFound | TargetProblem {
  const address = canonical(text)
  const why = whyNoTarget(address, input)
  if (why) return refused('TargetForbidden', `${address}: ${why}`)
  const { ports } = input.object.spec
  return {
    wanted: [{ holder: 'address', ordinal: 0, family: familyOf(address), address, ...portsMember(ports) }],
  }
}

// ---- bounds

const HOST_NETWORK = 'a pod on the host network has the address of its node'

/** An address that no pod of the namespace has: undefined when the platform team allows it. */
function whyNoTarget(address: string, { object, surroundings, podsAt, serviceAt }: TargetInput): string | undefined {
  const bytes = parseAddress(address)
  if (!bytes) return 'no IP address'
  const forbidden = forbiddenReason(address, surroundings) ?? surroundings.onNodes.get(address)
  if (forbidden) return forbidden
  const network = surroundings.clusterNetworks.find(prefix => prefixContains(prefix, bytes))
  if (network) return `it lies in the cluster network ${formatPrefix(network)} and is no pod of this namespace`
  // what nodes say of their networks does not hold under every network plugin (decisions.md 32)
  const [pod] = podsAt(address)
  if (pod) return `it is the address of pod ${pod.metadata.namespace}/${pod.metadata.name}`
  const service = serviceAt(address)
  if (service) return `it is the address of Service ${service.metadata.namespace}/${service.metadata.name}`
  const { namespace = '' } = object.metadata
  const isAllowed = surroundings.allowedRanges.some(
    ({ range, namespaces }) =>
      prefixContains(range, bytes) && (namespaces === undefined || namespaces.includes(namespace)),
  )
  return isAllowed
    ? undefined
    : 'it is in no range that the platform team allows for this namespace (targets.allowedRanges)'
}

/** Never a target, whoever allows it; undefined: no objection. */
function forbiddenReason(address: string, surroundings: Surroundings): string | undefined {
  const bytes = parseAddress(address)
  if (!bytes) return 'no IP address'
  const always = neverReason(bytes)
  if (always) return always
  const network = surroundings.encodingNetworks.find(prefix => prefixContains(prefix, bytes))
  if (network)
    return `an address of the encoding network ${formatPrefix(network)}, which stands for a host of another network`
  return surroundings.forbidden.get(address)
}

/** No address of another host, wherever one is. */
export function neverReason(bytes: Uint8Array): string | undefined {
  return NEVER_TARGETS.find(({ prefix }) => prefixContains(prefix, bytes))?.what
}

const NEVER_TARGETS = [
  ['0.0.0.0/8', 'no address of a host'],
  ['127.0.0.0/8', 'a loopback address'],
  ['169.254.0.0/16', 'a link-local address'],
  ['224.0.0.0/3', 'a multicast or reserved address'],
  ['::/127', 'a loopback address, or none at all'],
  // each leads to the IPv4 address inside, and so around what is said of that one
  ['::/96', 'an IPv4 address in IPv6 clothing'],
  ['::ffff:0:0/96', 'an IPv4 address in IPv6 clothing'],
  ['64:ff9b::/96', 'an IPv4 address in IPv6 clothing (NAT64)'],
  ['64:ff9b:1::/48', 'an IPv4 address in IPv6 clothing (NAT64)'],
  ['2002::/16', 'an IPv4 address in IPv6 clothing (6to4)'],
  ['2001::/32', 'an IPv4 address in IPv6 clothing (Teredo)'],
  ['fe80::/10', 'a link-local address'],
  ['ff00::/8', 'a multicast address'],
].map(([text, what]) => ({ prefix: parsePrefix(text!)!, what: what! }))

// ---- small things

function outcome(wanted: WantedAddress[], refusals: string[], none: string): TargetsFound | TargetProblem {
  const [first] = refusals
  if (wanted.length === 0)
    return first === undefined ? unresolved('NoReadyEndpoints', none) : refused('TargetForbidden', first)
  if (first === undefined) return { wanted }
  const more = refusals.length === 1 ? '' : ` (and ${refusals.length - 1} more)`
  return { wanted, warning: refused('SomeTargetsForbidden', `not published: ${first}${more}`) }
}

function refused(reason: string, message: string): TargetProblem {
  return { type: 'Accepted', reason, message }
}

function unresolved(reason: string, message: string): TargetProblem {
  return { type: 'Resolved', reason, message }
}

/**
 * The pod of the object's namespace that has an address. Where another namespace has a pod there too, nobody can tell which of them would be reached, so none
 * is found; one that is being deleted does not count beside one that is not.
 */
function podOf({ metadata }: IprefService, pods: readonly Pod[]): Pod | undefined {
  const staying = pods.filter(pod => pod.metadata.deletionTimestamp === undefined)
  const candidates = staying.length > 0 ? staying : pods
  if (candidates.some(pod => pod.metadata.namespace !== metadata.namespace)) return undefined
  const age = ({ metadata: { creationTimestamp, uid } }: Pod) => `${creationTimestamp} ${uid}`
  return candidates.reduce<Pod | undefined>(
    (newest, pod) => (!newest || age(pod) > age(newest) ? pod : newest),
    undefined,
  )
}

/** Addresses that are this pod's own; none when it has ended, for they may be another's by now, and none on the host network. */
export function addressesInUse(pod: Pod): string[] {
  const hasEnded = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
  return pod.spec?.hostNetwork || hasEnded ? [] : addressesOf(pod)
}

function addressesOf(pod: Pod): string[] {
  const { podIP, podIPs } = pod.status ?? {}
  return onePerFamily(podIPs?.length ? podIPs.map(({ ip }) => ip) : podIP ? [podIP] : [])
}

export function clusterIpsOf({ spec }: Service): string[] {
  const texts = spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : []
  return onePerFamily(texts.filter(text => text !== '' && text !== 'None'))
}

// a slot has one address of each IP version, so that each has a reference of its own
function onePerFamily(texts: readonly string[]): string[] {
  const found = new Map<string, string>()
  for (const address of texts.map(canonical)) if (!found.has(familyOf(address))) found.set(familyOf(address), address)
  return [...found.values()]
}

function identityOf(pod: Pod | undefined, address: string): Pick<WantedAddress, 'holder' | 'ordinal' | 'member'> {
  if (!pod) return { holder: address }
  const { name, uid, ownerReferences } = pod.metadata
  const holder = uid ?? name
  const set = ownerReferences?.find(owner => owner.kind === 'StatefulSet' && owner.controller === true)
  const ordinal = set && name.startsWith(`${set.name}-`) ? name.slice(set.name.length + 1) : ''
  if (!/^(0|[1-9]\d{0,3})$/.test(ordinal)) return { holder }
  return { holder, ordinal: Number(ordinal), member: name }
}

export function familyOf(address: string): 'IPv4' | 'IPv6' {
  return address.includes(':') ? 'IPv6' : 'IPv4'
}

// addresses are compared as texts: each has one
export function canonical(text: string): string {
  const bytes = parseAddress(text)
  return bytes ? formatAddress(bytes) : text
}
