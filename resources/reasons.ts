/**
 * Reasons of conditions and Events: an API, documented, never renamed. `reasons` is the one list: docs/operator.md is generated from it, `ipref trace` says what
 * to do by it, and a test holds it against what the code says.
 *
 * Ready carries the reason of the first condition that is not True.
 */
import type { KindName } from './kinds.ts'

export type ReasonKind = Extract<KindName, 'IprefService' | 'IprefPeer' | 'IprefGateway'>

export interface ReasonRow {
  kind: ReasonKind
  condition: string
  reason: string
  /** True: all is well; Unknown: it is waited for; False: somebody has to do something */
  status: 'True' | 'Unknown' | 'False'
  meaning: string
  /** what to do about it */
  fix?: string
}

type Row = readonly [reason: string, status: ReasonRow['status'], meaning: string, fix?: string]

const BOUNDS = 'publish something else, or ask the platform team for the range (targets.allowedRanges)'
const GONE: Row = [
  'OperatorGone',
  'Unknown',
  'the operator was uninstalled, and nobody serves the object',
  'install it again, or delete the object',
]
const OPERATOR = "look at the operator's log, and at its /metrics"

const table: Readonly<Record<ReasonKind, Readonly<Record<string, readonly Row[]>>>> = {
  IprefService: {
    Accepted: [
      ['Accepted', 'True', 'what the object asks for may be'],
      ['InvalidName', 'False', 'a name is no DNS name in lower case, or not in its zone', 'choose another name'],
      [
        'NameTooLong',
        'False',
        'a name has more than 253 characters',
        'set a shorter hostname, internalName or publicName',
      ],
      [
        'NameNotGranted',
        'False',
        "a name is neither the namespace's own nor granted to it",
        'leave internalName and publicName out, or ask the platform team for the name (grants)',
      ],
      [
        'NamespaceReserved',
        'False',
        'the namespace, or the name, is kept for hosts of peers or for another zone',
        'use another namespace or name',
      ],
      [
        'NameConflict',
        'False',
        'an older IprefService has the name',
        'choose another hostname, or delete the older one',
      ],
      [
        'ExternalName',
        'False',
        'the Service is only another name for a host elsewhere',
        'publish that host itself, by target.address, or where it lives',
      ],
      [
        'HeadlessService',
        'False',
        'ClusterIP mode is asked for, and the Service has none',
        'leave target.service.mode out, or say Endpoints',
      ],
      [
        'TooManyPorts',
        'False',
        'the Service has more ports than an object may publish',
        'name those to publish in spec.ports',
      ],
      ['TargetForbidden', 'False', 'the target leads where it may not', BOUNDS],
      [
        'SeveralAddresses',
        'False',
        'a given reference is for a target of one address, and there are several',
        'leave reference out',
      ],
      [
        'AddressAlreadyReferenced',
        'False',
        'an older IprefService has given the address another reference; an address has one',
        'leave reference out: the one that is there is shared',
      ],
      [
        'ReferenceTaken',
        'False',
        'the reference belongs to another IprefService, or is kept for one that was deleted',
        'give another reference, or none',
      ],
    ],
    Resolved: [
      ['Resolved', 'True', 'the target has addresses'],
      ['NotAccepted', 'Unknown', 'the object is not accepted'],
      [
        'ServiceNotFound',
        'False',
        'there is no such Service in the namespace',
        'make the Service, or mend target.service.name',
      ],
      ['NoClusterIP', 'False', 'the Service has no ClusterIP yet', 'look at the Service: kubectl describe service'],
      [
        'NoReadyEndpoints',
        'False',
        'no pod behind the target is ready',
        'look at the pods: are they there, are they ready, does the selector find them?',
      ],
      [
        'NoPorts',
        'False',
        'no endpoint has a port of the names that the Service asks for',
        "mend the names of the Service's ports, or those of the pods",
      ],
      [
        'NoEncodingNetwork',
        'False',
        'the target has addresses of an IP version only that has no encoding network',
        'ask the platform team for one of that IP version (encodingNetworks)',
      ],
      ['SomeTargetsForbidden', 'True', 'some of the addresses may not be published; the others are', BOUNDS],
      ['WaitingForSlot', 'True', 'some addresses wait for a slot; the others are published'],
    ],
    Mapped: [
      ['Mapped', 'True', 'every gateway that is alive has the mappings in force'],
      ['WaitingForGateways', 'Unknown', 'not every gateway reports them yet', 'look at the gateways: ipref status'],
      ['NothingToMap', 'False', 'there is no address to map'],
      [
        'NoGateway',
        'False',
        'no gateway is alive',
        'start `ipref gateway`; in a cluster, look at its DaemonSet and at what the nodes are labelled',
      ],
      ['InvalidMapping', 'False', 'a gateway cannot use the mapping', OPERATOR],
      ['Invalid', 'False', 'a gateway cannot use the address', 'look at the message'],
      ['NotStatic', 'False', 'the reference is none for publishing', 'give another reference, or none'],
      [
        'ForeignContext',
        'False',
        'the mapping is for a context address that the gateway does not have',
        'look at how the gateway was started (-gateway-pub)',
      ],
      [
        'Shadowed',
        'False',
        "the gateway's own options say something else of the address or the reference",
        'take it out of -static on that gateway, or give another reference',
      ],
      ['OutsideEncodingNetwork', 'False', 'the encoded address lies in no encoding network', OPERATOR],
      [
        'AddressAlreadyReferenced',
        'False',
        'the gateway has another reference for the address, by another source',
        "look at the message: another object, or the gateway's options, say it",
      ],
    ],
    'PublishedInternal, PublishedPublic': [
      ['Published', 'True', 'every server of the zone answers with the records'],
      ['NotReadBack', 'True', 'the records were handed to every output; reading back is switched off (readBack.mode)'],
      [
        'WaitingForDns',
        'Unknown',
        'the records are handed over, and not every server of the zone has them yet',
        'look at that name server: does it transfer the zone, or take the updates?',
      ],
      ['WaitingForOutput', 'Unknown', 'the records are not handed over yet', OPERATOR],
      [
        'Drifted',
        'False',
        'the records were there, and are not any more; they are published again',
        'see who else writes to the zone',
      ],
      [
        'OutputFailed',
        'False',
        'an output does not take the records',
        'look at the message: it names the output and what it said',
      ],
      [
        'NotOurs',
        'False',
        'the name is in use there by somebody else, and is left alone',
        'take the other record away, or choose another name',
      ],
      ['NameTaken', 'False', 'an older object has the name', 'choose another hostname, or delete the older object'],
      [
        'NoServers',
        'Unknown',
        'nobody is known who could be asked whether the records are there',
        'name a server in readBack.servers',
      ],
      [
        'NoPublisher',
        'False',
        'nothing is configured that publishes this zone',
        'set publishers in the settings of the platform',
      ],
      ['NoPublicZone', 'False', 'the platform has no public zone; not a fault of the object'],
      [
        'PublicAddressUnknown',
        'False',
        'no published gateway has a known public address',
        'set publicAddresses in the settings, annotate the node (ipref.io/public-addresses), or give it an ExternalIP',
      ],
      ['NotAccepted', 'Unknown', 'the object is not accepted, so nothing of it is published'],
      ['NothingToPublish', 'False', 'the object has no addresses'],
    ],
    Ready: [['Ready', 'True', 'all of the above'], GONE],
  },
  IprefPeer: {
    Accepted: [
      ['Accepted', 'True', 'what the object says may be'],
      ['DomainIsOurs', 'False', 'a domain lies in our own zones', 'leave it out of domains'],
      ['GatewayIsOurs', 'False', 'the gateway is one of this cluster', "give the other network's gateway"],
      [
        'GatewayForbidden',
        'False',
        'the gateway has no address of another network: loopback, a node, a pod, an encoded one',
        "give the other network's gateway; where it is given by name, see who writes that name into DNS",
      ],
      ['DomainConflict', 'False', 'an older IprefPeer has the domain', 'leave it out of one of the two'],
      ['GatewayConflict', 'False', 'an older IprefPeer has the gateway', 'make one object of the two'],
      [
        'NameTooLong',
        'False',
        'the name of a host has more than 253 characters',
        'give the host, or the object, a shorter name',
      ],
      [
        'NoEncodedAddressLeft',
        'False',
        'the static part of an encoding network is full',
        'take hosts away, or have them resolved by DNS (domains)',
      ],
    ],
    Resolved: [
      ['Resolved', 'True', "the gateway's addresses are known"],
      ['NotAccepted', 'Unknown', 'the object is not accepted'],
      ['Resolving', 'Unknown', 'the name of the gateway is being looked up'],
      [
        'SomeAddressesForbidden',
        'True',
        'some of the addresses are of no other network, and are left out',
        'see who writes the name of the gateway into DNS',
      ],
      [
        'LookupFailed',
        'False',
        'the DNS does not answer; what was known stays',
        'look at the resolvers of the operator',
      ],
      ['NoAddress', 'False', 'the name has neither an A nor an AAAA record', 'mend spec.gateway.name'],
    ],
    Reachable: [
      ['Reachable', 'True', 'a gateway of ours had answers from it lately'],
      ['NotAccepted', 'Unknown', 'the object is not accepted'],
      ['NotProbed', 'Unknown', 'probing is disabled, and nothing was heard lately; not a fault'],
      ['NotObserved', 'Unknown', 'no gateway reports it yet', 'look at the gateways: ipref status'],
      [
        'NoAnswer',
        'False',
        'it does not answer',
        'look whether a gateway runs there, and whether UDP port 1045 passes the firewalls and NAT between (both ways)',
      ],
    ],
    Ready: [['Ready', 'True', 'all of the above'], GONE],
  },
  IprefGateway: {
    Accepted: [
      ['Accepted', 'True', 'the gateway may work as it is'],
      [
        'EncodingNetworkOverlap',
        'False',
        'the encoding network contains addresses that are in use',
        'choose another in the settings (encodingNetworks)',
      ],
      [
        'EncodingNetworkMismatch',
        'False',
        'the gateway was started with other encoding networks than the settings say',
        'start it with -encode-net as in the settings',
      ],
      [
        'NotAGateway',
        'False',
        'the operator has no IprefGateway of this name, or its node does not match',
        'label the node (gatewayNodeSelector), or start the gateway with the right -node',
      ],
      [
        'WaitingForOperator',
        'False',
        'the operator has not said yet which gateways there are',
        'start `ipref operator`',
      ],
      [
        'Releasing',
        'False',
        'the IprefGateway is being deleted, and what was made on the node is taken away',
        'if it lasts, the condition NodeNetwork says what cannot be taken away; the object goes after two minutes in any case',
      ],
      [
        'Released',
        'False',
        'the IprefGateway is being deleted, and its node is clean: the operator lets the object go',
      ],
      [
        'NoSliceLeft',
        'False',
        'the encoding network has no slice left for it',
        'make sliceLengths longer, or the network larger',
      ],
      [
        'SliceInvalid',
        'False',
        'spec.slices is not inside the encoding network, or meets its static part',
        'take spec.slices out',
      ],
      [
        'SliceConflict',
        'False',
        'spec.slices meets those of another gateway',
        'take spec.slices out of one of the two',
      ],
      ['Refused', 'False', 'the gateway may not work as it is', 'look at the message'],
    ],
    NodeNetwork: [
      ['InPlace', 'True', 'routes and rules of the node are as they should be'],
      [
        'Disturbed',
        'False',
        'routes or rules are not as they should be',
        "look at the message, and at the gateway's log",
      ],
    ],
    Ready: [
      ['Ready', 'True', 'the gateway does its whole work'],
      ['NotReady', 'False', 'it does not', "look at the message, at the gateway's log and its /readyz"],
    ],
  },
}

export const reasons: readonly ReasonRow[] = Object.entries(table).flatMap(([kind, conditions]) =>
  Object.entries(conditions).flatMap(([condition, rows]) =>
    rows.map(([reason, status, meaning, fix]) => ({
      kind: kind as ReasonKind,
      condition,
      reason,
      status,
      meaning,
      ...(fix === undefined ? {} : { fix }),
    })),
  ),
)

/** What to do about a condition that is not True. */
export function fixOf(kind: ReasonKind, condition: string, reason: string): string | undefined {
  const rows = reasons.filter(row => row.kind === kind && row.reason === reason)
  return (rows.find(row => row.condition.split(', ').includes(condition)) ?? rows[0])?.fix
}
