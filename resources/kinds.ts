/**
 * Our kinds (group `ipref.io`, version `v1alpha1`, category `ipref`), as TypeScript types. Types and names only.
 *
 *   IprefService    namespaced  application team   publish a Service, pods or an address under a reference and two names
 *   IprefPeer       cluster     platform team      a remote network: gateway, domains, hosts, what it may reach here
 *   IprefGateway    cluster     operator           one gateway of this cluster; its status is written by that gateway alone
 *   IprefReference  cluster     operator           the claim on one reference: creating it is the claim (decisions.md 21)
 *
 * What each field may hold, and the text of `kubectl explain`, is in the validation tables (schema/), from which the CRDs are made.
 * References are canonical reference text (wire.md section 1), compared as strings; addresses are canonical text too.
 */

export const GROUP = 'ipref.io'
export const VERSION = 'v1alpha1'
export const API_VERSION = `${GROUP}/${VERSION}`

export interface ObjectMeta {
  name: string
  namespace?: string
  uid?: string
  resourceVersion?: string
  generation?: number
  creationTimestamp?: string
  deletionTimestamp?: string
  finalizers?: string[]
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[]
}

export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: ObjectMeta
}

/** metav1.Condition; one of each type. */
export interface Condition {
  type: string
  status: 'True' | 'False' | 'Unknown'
  /** PascalCase; documented, never renamed */
  reason: string
  message: string
  lastTransitionTime: string
  observedGeneration: number
}

export interface LabelSelector {
  matchLabels?: Record<string, string>
  matchExpressions?: { key: string; operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'; values?: string[] }[]
}

export interface PortRule {
  port: number
  /** last port of a range */
  endPort?: number
  protocol?: 'TCP' | 'UDP' | 'SCTP'
}

// ---- IprefService

/** Exactly one member. */
export interface ServiceTarget {
  /** a Service of the object's own namespace */
  service?: { name: string; mode?: 'ClusterIP' | 'Endpoints' }
  /** ready pods of the object's own namespace */
  pods?: { selector: LabelSelector }
  /** a machine outside the cluster, where the platform team allows its range */
  address?: string
}

export interface IprefServiceSpec {
  target: ServiceTarget
  /** fixed reference, for targets of one address; absent: allocated once. Cannot be changed or taken away */
  reference?: string
  /** first label of the names; absent: the object's name */
  hostname?: string
  /** whole names, only below what the platform team grants to the namespace */
  internalName?: string
  publicName?: string
  /** what may be reached; absent: the Service's ports in Endpoints mode, everything else */
  ports?: PortRule[]
  ttlSeconds?: number
}

export interface ServiceMapping {
  /** place of the address among those of the object: StatefulSet ordinal, or the lowest that was free */
  slot: number
  family: 'IPv4' | 'IPv6'
  address: string
  reference: string
  /** StatefulSet members have a name of their own below the names of the object */
  member?: string
  /** empty or absent: all ports and protocols */
  ports?: PortRule[]
}

export interface IprefServiceStatus {
  observedGeneration: number
  conditions?: Condition[]
  internalName?: string
  publicName?: string
  /** names that it had, and under which records may still be found */
  formerNames?: string[]
  mappings?: ServiceMapping[]
  /** resourceVersion of the write that last changed `mappings` (decisions.md 19) */
  mappingsVersion?: string
  /** when records were seen gone, while the object is being deleted: its mapping outlives them by one TTL */
  withdrawnAt?: string
}

export interface IprefService extends KubeObject {
  kind: 'IprefService'
  spec: IprefServiceSpec
  status?: IprefServiceStatus
}

/** Types of the conditions of an IprefService. */
export const serviceConditions = [
  'Accepted',
  'Resolved',
  'Mapped',
  'PublishedInternal',
  'PublishedPublic',
  'Ready',
] as const

// ---- IprefPeer

export interface IprefPeerSpec {
  /** `address` or `name` */
  gateway: { address?: string; name?: string; port?: number }
  /** DNS domains of that network, handed to the resolvers */
  domains?: string[]
  /** servers to ask about them, `ADDRESS` or `ADDRESS:PORT`; absent: the resolvers' own upstreams */
  dnsServers?: string[]
  /** hosts known without DNS */
  hosts?: { name: string; reference: string }[]
  /** what that network may reach here; absent: `inbound.default` of the configuration, without exceptions */
  inbound?: { policy: 'Allow' | 'Deny'; except?: InboundException[] }
  probe?: { mode?: 'Enabled' | 'Disabled'; intervalSeconds?: number }
}

/** One reference, or the references of all IprefServices that match. */
export interface InboundException {
  reference?: string
  services?: { namespace?: string; selector: LabelSelector }
}

export interface PeerObservation {
  /** name of the IprefGateway that saw it */
  gateway: string
  address: string
  verified: boolean
  rttMilliseconds?: number
  pathMtu?: number
  lastSeenTime?: string
}

export interface IprefPeerStatus {
  observedGeneration: number
  conditions?: Condition[]
  /** the gateway's addresses, as resolved last */
  addresses?: string[]
  /** encoded addresses of `spec.hosts`; static, kept */
  hosts?: { name: string; reference: string; encodedAddress: string; dnsName: string }[]
  /** the IprefGateway that carries `hosts`, picked and moved by the operator (decisions.md 29) */
  gateway?: string
  /** copied from the gateways' own objects by the operator */
  observations?: PeerObservation[]
}

export interface IprefPeer extends KubeObject {
  kind: 'IprefPeer'
  spec: IprefPeerSpec
  status?: IprefPeerStatus
}

export const peerConditions = ['Accepted', 'Resolved', 'Reachable', 'Ready'] as const

// ---- IprefGateway

export interface IprefGatewaySpec {
  /** name of the node; absent: a gateway outside Kubernetes */
  nodeName?: string
  /** slices of the encoding networks; absent: allotted by the operator */
  slices?: string[]
  /** absent: node annotation, node ExternalIP, or unknown */
  publicAddresses?: string[]
  /** AA records name this gateway */
  publish?: boolean
}

export interface RefusedMapping {
  namespace: string
  name: string
  reason: string
  message: string
}

export interface IprefGatewayStatus {
  observedGeneration: number
  conditions?: Condition[]
  /** all IprefServices and IprefPeers up to here are in force, but for `refused` */
  observedResourceVersion?: string
  refused?: RefusedMapping[]
  version?: string
  nodeAddresses?: string[]
  /** its own contexts in force, wherever they were said */
  publicAddresses?: string[]
  tunMtu?: number
  offloads?: string[]
  peers?: Omit<PeerObservation, 'gateway'>[]
}

export interface IprefGateway extends KubeObject {
  kind: 'IprefGateway'
  spec: IprefGatewaySpec
  status?: IprefGatewayStatus
}

export const gatewayConditions = ['Accepted', 'NodeNetwork', 'Ready'] as const

// ---- IprefReference

export interface IprefReferenceSpec {
  /** of the IprefService that owns it */
  namespace: string
  name: string
  uid: string
  slot: number
  family: 'IPv4' | 'IPv6'
  /** the object is gone since; kept for `referenceHoldTime`, and given to an object of the same name */
  releasedAt?: string
}

/** `metadata.name` is the reference in hexadecimal, without leading zeros. */
export interface IprefReference extends KubeObject {
  kind: 'IprefReference'
  spec: IprefReferenceSpec
}

// ---- what we read of Kubernetes' own kinds

export interface Service extends KubeObject {
  kind: 'Service'
  spec: {
    type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
    clusterIP?: string
    clusterIPs?: string[]
    externalName?: string
    selector?: Record<string, string>
    ports?: { name?: string; port: number; targetPort?: number | string; protocol?: 'TCP' | 'UDP' | 'SCTP' }[]
    publishNotReadyAddresses?: boolean
  }
}

export interface EndpointSlice extends KubeObject {
  kind: 'EndpointSlice'
  addressType: 'IPv4' | 'IPv6' | 'FQDN'
  endpoints?: {
    addresses: string[]
    conditions?: { ready?: boolean | null; serving?: boolean | null; terminating?: boolean | null }
    hostname?: string | null
    nodeName?: string | null
    targetRef?: { kind?: string; namespace?: string; name?: string; uid?: string } | null
  }[]
  ports?: { name?: string | null; port?: number | null; protocol?: 'TCP' | 'UDP' | 'SCTP' | null }[] | null
}

export interface Pod extends KubeObject {
  kind: 'Pod'
  spec?: { nodeName?: string; hostNetwork?: boolean; hostname?: string; subdomain?: string }
  status?: {
    phase?: string
    podIP?: string
    podIPs?: { ip: string }[]
    conditions?: { type: string; status: string }[]
    containerStatuses?: { name: string; state?: ContainerState; lastState?: ContainerState }[]
  }
}

export interface ContainerState {
  running?: object
  waiting?: { reason?: string; message?: string }
  terminated?: { reason?: string; message?: string; exitCode?: number }
}

export interface Node extends KubeObject {
  kind: 'Node'
  spec?: { podCIDR?: string; podCIDRs?: string[]; unschedulable?: boolean }
  status?: {
    addresses?: { type: string; address: string }[]
    conditions?: { type: string; status: string }[]
    nodeInfo?: { containerRuntimeVersion?: string }
  }
}

export interface Namespace extends KubeObject {
  kind: 'Namespace'
  status?: { phase?: 'Active' | 'Terminating' }
}

export interface ConfigMap extends KubeObject {
  kind: 'ConfigMap'
  data?: Record<string, string>
}

export interface Secret extends KubeObject {
  kind: 'Secret'
  /** base64 */
  data?: Record<string, string>
}

export interface Lease extends KubeObject {
  kind: 'Lease'
  spec?: {
    holderIdentity?: string
    leaseDurationSeconds?: number
    acquireTime?: string
    renewTime?: string
    leaseTransitions?: number
  }
}

export interface ServiceCidr extends KubeObject {
  kind: 'ServiceCIDR'
  spec?: { cidrs?: string[] }
}

export interface EventObject extends KubeObject {
  kind: 'Event'
  type: 'Normal' | 'Warning'
  reason: string
  message: string
  involvedObject: { apiVersion: string; kind: string; namespace?: string; name: string; uid?: string }
  source?: { component?: string }
  count?: number
  firstTimestamp?: string
  lastTimestamp?: string
}

/** external-dns's kind (`externaldns.k8s.io/v1alpha1`). */
export interface DnsEndpoint extends KubeObject {
  kind: 'DNSEndpoint'
  spec: {
    endpoints: {
      dnsName: string
      recordType: string
      recordTTL?: number
      targets: string[]
      labels?: Record<string, string>
    }[]
  }
}

/** Of gateways, and of what cleans up after them: read and deleted while they are taken away. */
export interface DaemonSet extends KubeObject {
  kind: 'DaemonSet'
  spec?: { selector?: LabelSelector }
  status?: { observedGeneration?: number; desiredNumberScheduled?: number; numberReady?: number }
}

/** Of the operators: read and deleted at the very end. */
export interface Deployment extends KubeObject {
  kind: 'Deployment'
  spec?: { selector?: LabelSelector }
}

export interface Kinds {
  IprefService: IprefService
  IprefPeer: IprefPeer
  IprefGateway: IprefGateway
  IprefReference: IprefReference
  Service: Service
  EndpointSlice: EndpointSlice
  Pod: Pod
  Node: Node
  Namespace: Namespace
  ConfigMap: ConfigMap
  Secret: Secret
  Lease: Lease
  ServiceCIDR: ServiceCidr
  Event: EventObject
  DNSEndpoint: DnsEndpoint
  DaemonSet: DaemonSet
  Deployment: Deployment
}

export type KindName = keyof Kinds

/** How each kind is called in the API. */
export const kindTable: Readonly<
  Record<KindName, { apiVersion: string; plural: string; scope: 'Namespaced' | 'Cluster' }>
> = {
  IprefService: { apiVersion: API_VERSION, plural: 'iprefservices', scope: 'Namespaced' },
  IprefPeer: { apiVersion: API_VERSION, plural: 'iprefpeers', scope: 'Cluster' },
  IprefGateway: { apiVersion: API_VERSION, plural: 'iprefgateways', scope: 'Cluster' },
  IprefReference: { apiVersion: API_VERSION, plural: 'iprefreferences', scope: 'Cluster' },
  Service: { apiVersion: 'v1', plural: 'services', scope: 'Namespaced' },
  EndpointSlice: { apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', scope: 'Namespaced' },
  Pod: { apiVersion: 'v1', plural: 'pods', scope: 'Namespaced' },
  Node: { apiVersion: 'v1', plural: 'nodes', scope: 'Cluster' },
  Namespace: { apiVersion: 'v1', plural: 'namespaces', scope: 'Cluster' },
  ConfigMap: { apiVersion: 'v1', plural: 'configmaps', scope: 'Namespaced' },
  Secret: { apiVersion: 'v1', plural: 'secrets', scope: 'Namespaced' },
  Lease: { apiVersion: 'coordination.k8s.io/v1', plural: 'leases', scope: 'Namespaced' },
  ServiceCIDR: { apiVersion: 'networking.k8s.io/v1', plural: 'servicecidrs', scope: 'Cluster' },
  Event: { apiVersion: 'v1', plural: 'events', scope: 'Namespaced' },
  DNSEndpoint: { apiVersion: 'externaldns.k8s.io/v1alpha1', plural: 'dnsendpoints', scope: 'Namespaced' },
  DaemonSet: { apiVersion: 'apps/v1', plural: 'daemonsets', scope: 'Namespaced' },
  Deployment: { apiVersion: 'apps/v1', plural: 'deployments', scope: 'Namespaced' },
}
