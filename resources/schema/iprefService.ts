/** The table of IprefService: an application team publishes a Service, pods or an address (design.md section 7). */
import { type IprefServiceSpec, type ServiceTarget, serviceConditions } from '../kinds.ts'
import { integer, type KindTable, list, object, required, rule, text } from './schema.ts'
import {
  address,
  conditions,
  DNS_LABEL,
  dnsLabel,
  dnsName,
  exactlyOne,
  isEmptySelector,
  notEmpty,
  observedGeneration,
  ownReference,
  ports,
  reportedPorts,
  type Selector,
  selector,
  time,
} from './texts.ts'

/** Names of a StatefulSet's members count too; two families. */
const MAX_MAPPINGS = 1024

const selectsSomething = rule<Selector>({
  id: 'selects-something',
  problem: 'an empty selector would publish every pod of the namespace',
  right: 'at least one label or condition, such as matchLabels: {app: web}',
  cel: notEmpty,
  test: self => !isEmptySelector(self),
})

const target = object(
  'What is published: exactly one of service, pods and address.',
  {
    service: object('A Service of the same namespace.', {
      name: required(dnsLabel('Name of the Service. Example: web')),
      mode: text(
        'ClusterIP publishes the address of the Service, and kube-proxy balances. Endpoints gives each ready pod a reference and a record of its own. Absent: ClusterIP for Services that have one, Endpoints for headless ones.',
        { oneOf: ['ClusterIP', 'Endpoints'] },
      ),
    }),
    pods: object('The ready pods of the same namespace that a selector chooses.', {
      selector: required(selector('Labels of the pods. Example: {matchLabels: {app: web}}', [selectsSomething])),
    }),
    address: address(
      'Address of a machine outside the cluster, in a range that the platform team allows to the namespace. Example: 192.0.2.7',
    ),
  },
  { rules: [exactlyOne(['service', 'pods', 'address'], 'one of them; make an IprefService for each target')] },
)

const hasOneAddress = ({ service, address }: ServiceTarget) =>
  address !== undefined || (service !== undefined && service.mode !== 'Endpoints')

const spec = object(
  'What is published, and under which reference and names.',
  {
    target: required(target),
    reference: ownReference(
      'The reference to publish under, for targets of one address. Absent: one is allocated, once. It cannot be changed or taken away afterwards. Below 65536 in decimal, else groups of 16 bits in hexadecimal, with less than 16 in bits 8 to 15. Examples: 2466, 8a3f-0-812',
    ),
    hostname: dnsLabel(
      'First label of the names, which are <hostname>.<namespace> below the internal and the public zone. Absent: the name of the object. Example: web',
    ),
    internalName: dnsName(
      'The whole name in the internal zone, in place of <hostname>.<namespace>.<zone>. Only names that the platform team grants to the namespace. Lower case, without a dot at the end. Example: www.internal.example.com',
    ),
    publicName: dnsName(
      'The whole name in the public zone, in place of <hostname>.<namespace>.<zone>. Only names that the platform team grants to the namespace. Lower case, without a dot at the end. Example: www.example.com',
    ),
    ports: ports(
      "Ports that other networks may reach. Absent: the ports of the Service in mode Endpoints, everything else otherwise. A ClusterIP answers on the Service's ports only, and not to ping.",
    ),
    ttlSeconds: integer(
      'How long others may remember the records, in seconds, 1 to 10800. It is also how long a mapping outlives its record.',
      { least: 1, most: 10800, default: 60 },
    ),
  },
  {
    rules: [
      rule<IprefServiceSpec>({
        id: 'reference-stays',
        problem: 'a reference that is changed or taken away',
        right: 'the reference that was there; others know the service by it; make another IprefService for another one',
        at: 'reference',
        reason: 'FieldValueForbidden',
        isTransition: true,
        cel: '!has(oldSelf.reference) || (has(self.reference) && self.reference == oldSelf.reference)',
        test: (self, old) => old.reference === undefined || self.reference === old.reference,
      }),
      rule<IprefServiceSpec>({
        id: 'reference-of-one-address',
        problem: 'a fixed reference for a target of several addresses',
        right:
          'no reference, so that each address is given one; or a target of one address: address, or service in mode ClusterIP',
        at: 'reference',
        reason: 'FieldValueForbidden',
        cel: "!has(self.reference) || has(self.target.address) || (has(self.target.service) && (!has(self.target.service.mode) || self.target.service.mode != 'Endpoints'))",
        test: self => self.reference === undefined || hasOneAddress(self.target),
      }),
    ],
  },
)

const status = object('What the operator has made of it.', {
  observedGeneration,
  conditions: conditions(serviceConditions),
  internalName: text('Name in the internal zone, with native addresses.', { most: 253 }),
  publicName: text('Name in the public zone, with AA records.', { most: 253 }),
  formerNames: list(
    'Names that it had, until their records are gone.',
    text('A name in one of the zones.', { least: 1, most: 253 }),
    { most: 256 },
  ),
  mappings: list(
    'Addresses that are published, with their references.',
    object('One address.', {
      slot: required(
        integer(
          "Place of the address among those of the object: the ordinal of a StatefulSet's pod, else the lowest free.",
          {
            least: 0,
            most: 2147483647,
          },
        ),
      ),
      family: required(text('IPv4 or IPv6.', { oneOf: ['IPv4', 'IPv6'] })),
      address: required(text('The native address.', { least: 2, most: 45, examples: ['10.0.0.1'] })),
      reference: required(text('The reference, unique in this cluster.', { least: 1, most: 39 })),
      member: text('Name of the pod, which has a name of its own below the names of the object.', { most: 253 }),
      ports: reportedPorts('Ports that may be reached. Absent: all ports and protocols.'),
    }),
    { most: MAX_MAPPINGS },
  ),
  mappingsVersion: text(
    'The resourceVersion of the write that last changed the mappings; gateways report what they have seen.',
    {
      most: 64,
    },
  ),
  withdrawnAt: time('When the records were seen gone, while the object is being deleted.'),
})

export const iprefService: KindTable = {
  about:
    'IprefService publishes a Service, pods or the address of a machine to other IPREF networks: under a reference, and under a name in the internal and in the public zone. When the condition Ready is True, other networks resolve and reach it.',
  shortNames: ['iprefsvc'],
  columns: [
    {
      name: 'Ready',
      type: 'string',
      about: 'Published and reachable.',
      path: '.status.conditions[?(@.type=="Ready")].status',
    },
    {
      name: 'Reason',
      type: 'string',
      about: 'Reason of the condition Ready.',
      path: '.status.conditions[?(@.type=="Ready")].reason',
    },
    {
      name: 'Target',
      type: 'string',
      about: 'Name of the Service, the address, or the selector.',
      path: ".spec.target['service.name','address','pods.selector']",
    },
    { name: 'Public name', type: 'string', about: 'Name in the public zone.', path: '.status.publicName' },
    {
      name: 'References',
      type: 'string',
      about: 'The first of its references.',
      path: '.status.mappings[*].reference',
      isWide: true,
    },
    { name: 'Age', type: 'date', about: 'Time since it was made.', path: '.metadata.creationTimestamp' },
  ],
  name: {
    ...dnsLabel('Name of the object, and first label of its names unless spec.hostname says another.'),
    pattern: DNS_LABEL,
  },
  spec,
  status,
}
