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
import { formatAddress, parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import type { EndpointSlice, IprefService, LabelSelector, Pod, PortRule, Service } from '../../resources/kinds.ts'
import { matchesLabels } from '../../resources/selectors.ts'

/** Slots of one object: more endpoints than this are not published. */
export const MOST_SLOTS = 256

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
  pods: readonly Pod[]
  surroundings: Surroundings
}

/** What the platform says about addresses. */
export interface Surroundings {
  /** addresses of nodes and of the API server: never targets */
  forbidden: ReadonlyMap<string, string>
  /** pod and service networks: no targets through `address` */
  clusterNetworks: readonly string[]
  allowedRanges: readonly { cidr: string; namespaces?: readonly string[] }[]
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
  const { service, slices, object, surroundings } = input
  const addresses = clusterIpsOf(service!)
  if (addresses.length === 0) return unresolved('NoClusterIP', `Service ${name} has no ClusterIP yet`)
  const own = addresses.map(address => forbiddenReason(address, surroundings)).find(reason => reason !== undefined)
  if (own) return refused('TargetForbidden', `Service ${name} is ${own}`)
  let ready = 0
  for (const { address, isReady, pod } of endpointsOf(slices, podsByAddress(input.pods))) {
    const why = pod ? undefined : whyNoTarget(address, object, surroundings)
    if (why) return refused('TargetForbidden', `Service ${name} leads to ${address}: ${why}`)
    if (isReady) ready++
  }
  const { ports } = object.spec
  const wanted = addresses.map(address => ({
    holder: 'ClusterIP',
    ordinal: 0,
    family: familyOf(address),
    address,
    ...(ports ? { ports } : {}),
  }))
  if (ready > 0) return { wanted }
  return { wanted, warning: unresolved('NoReadyEndpoints', `Service ${name} has no ready endpoints`) }
}

function endpointTargets(input: TargetInput, name: string): TargetsFound | TargetProblem {
  const { service, slices, object, surroundings } = input
  const known = podsByAddress(input.pods)
  const wanted: WantedAddress[] = []
  const refusals: string[] = []
  const takesUnready = service!.spec.publishNotReadyAddresses === true
  for (const { address, isReady, pod } of endpointsOf(slices, known)) {
    if (!isReady && !takesUnready) continue
    const why = pod ? forbiddenReason(address, surroundings) : whyNoTarget(address, object, surroundings)
    if (why) {
      refusals.push(`${address}: ${why}`)
      continue
    }
    wanted.push({
      ...identityOf(pod, address),
      family: familyOf(address),
      address,
      ports: portsOf(object, service!, slices),
    })
  }
  return outcome(wanted, refusals, `Service ${name} has no ready endpoints`)
}

interface Endpoint {
  address: string
  isReady: boolean
  /** the pod of this namespace that has the address */
  pod: Pod | undefined
}

function* endpointsOf(slices: readonly EndpointSlice[], pods: ReadonlyMap<string, Pod>): Iterable<Endpoint> {
  const seen = new Set<string>()
  for (const slice of slices) {
    if (slice.addressType === 'FQDN') continue
    for (const { addresses, conditions } of slice.endpoints ?? []) {
      for (const text of addresses) {
        const address = canonical(text)
        if (seen.has(address)) continue
        seen.add(address)
        // ready: null means unknown, to be taken as ready (discovery.k8s.io/v1)
        const isReady = conditions?.ready !== false && conditions?.terminating !== true
        yield { address, isReady, pod: pods.get(address) }
      }
    }
  }
}

// what the Service's ports are on the pods; a number can be read off the Service, a name only off its slices
function portsOf(object: IprefService, service: Service, slices: readonly EndpointSlice[]): PortRule[] {
  if (object.spec.ports) return object.spec.ports
  const rules = new Map<string, PortRule>()
  const add = (port: number, protocol: PortRule['protocol'] = 'TCP') =>
    rules.set(`${protocol} ${port}`, { port, protocol })
  for (const slice of slices) {
    for (const { port, protocol } of slice.ports ?? []) if (port) add(port, protocol ?? 'TCP')
  }
  for (const { port, targetPort, protocol } of service.spec.ports ?? []) {
    if (targetPort === undefined) add(port, protocol)
    else if (typeof targetPort === 'number') add(targetPort, protocol)
  }
  return [...rules.values()].sort((a, b) => a.port - b.port || (a.protocol! < b.protocol! ? -1 : 1))
}

// ---- target.pods

function podTargets(
  { object, pods, surroundings }: TargetInput,
  selector: LabelSelector,
): TargetsFound | TargetProblem {
  const wanted: WantedAddress[] = []
  const refusals: string[] = []
  const { ports } = object.spec
  for (const pod of pods) {
    if (!matchesLabels(selector, pod.metadata.labels ?? {}) || !isReadyPod(pod)) continue
    for (const address of addressesOf(pod)) {
      const why = pod.spec?.hostNetwork ? HOST_NETWORK : forbiddenReason(address, surroundings)
      if (why) refusals.push(`pod ${pod.metadata.name}: ${why}`)
      else wanted.push({ ...identityOf(pod, address), family: familyOf(address), address, ...(ports ? { ports } : {}) })
    }
  }
  return outcome(wanted, refusals, 'no ready pod of this namespace matches the selector')
}

function isReadyPod(pod: Pod): boolean {
  return (
    pod.metadata.deletionTimestamp === undefined &&
    pod.status?.phase === 'Running' &&
    pod.status.conditions?.some(c => c.type === 'Ready' && c.status === 'True') === true
  )
}

// ---- target.address

function addressTarget({ object, surroundings }: TargetInput, text: string): TargetsFound | TargetProblem {
  const address = canonical(text)
  const why = whyNoTarget(address, object, surroundings)
  if (why) return refused('TargetForbidden', `${address}: ${why}`)
  const { ports } = object.spec
  return {
    wanted: [{ holder: 'address', ordinal: 0, family: familyOf(address), address, ...(ports ? { ports } : {}) }],
  }
}

// ---- bounds

const HOST_NETWORK = 'a pod on the host network has the address of its node'

/** An address that no pod of the namespace has: undefined when the platform team allows it. */
function whyNoTarget(address: string, object: IprefService, surroundings: Surroundings): string | undefined {
  const bytes = parseAddress(address)
  if (!bytes) return 'no IP address'
  const forbidden = forbiddenReason(address, surroundings)
  if (forbidden) return forbidden
  const network = surroundings.clusterNetworks.find(cidr => contains(cidr, bytes))
  if (network) return `it lies in the cluster network ${network} and is no pod of this namespace`
  const { namespace = '' } = object.metadata
  const isAllowed = surroundings.allowedRanges.some(
    ({ cidr, namespaces }) => contains(cidr, bytes) && (namespaces === undefined || namespaces.includes(namespace)),
  )
  return isAllowed
    ? undefined
    : 'it is in no range that the platform team allows for this namespace (targets.allowedRanges)'
}

/** Never a target, whoever allows it; undefined: no objection. */
function forbiddenReason(address: string, { forbidden }: Surroundings): string | undefined {
  const bytes = parseAddress(address)
  if (!bytes) return 'no IP address'
  const always = NEVER_TARGETS.find(([cidr]) => contains(cidr, bytes))
  return always?.[1] ?? forbidden.get(address)
}

const NEVER_TARGETS: readonly (readonly [cidr: string, what: string])[] = [
  ['0.0.0.0/8', 'no address of a host'],
  ['127.0.0.0/8', 'a loopback address'],
  ['169.254.0.0/16', 'a link-local address'],
  ['224.0.0.0/3', 'a multicast or reserved address'],
  ['::/127', 'a loopback address, or none at all'],
  ['::ffff:0:0/96', 'an IPv4 address in IPv6 clothing'],
  ['fe80::/10', 'a link-local address'],
  ['ff00::/8', 'a multicast address'],
]

function contains(cidr: string, address: Uint8Array): boolean {
  const prefix = parsePrefix(cidr)
  return prefix !== undefined && prefix.address.length === address.length && prefixContains(prefix, address)
}

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

function podsByAddress(pods: readonly Pod[]): Map<string, Pod> {
  const found = new Map<string, Pod>()
  for (const pod of pods) {
    // the address of a pod that has ended may be another's by now
    if (pod.spec?.hostNetwork || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') continue
    for (const address of addressesOf(pod)) found.set(address, pod)
  }
  return found
}

function addressesOf(pod: Pod): string[] {
  const { podIP, podIPs } = pod.status ?? {}
  const texts = podIPs?.length ? podIPs.map(({ ip }) => ip) : podIP ? [podIP] : []
  return texts.map(canonical)
}

function clusterIpsOf({ spec }: Service): string[] {
  const texts = spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : []
  return texts.filter(text => text !== '' && text !== 'None').map(canonical)
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
function canonical(text: string): string {
  const bytes = parseAddress(text)
  return bytes ? formatAddress(bytes) : text
}
