/** The table of IprefPeer: the platform team describes a remote network (design.md section 7, decisions.md 29). */
import { type InboundException, type IprefPeerSpec, peerConditions } from '../kinds.ts'
import { boolean, integer, type KindTable, list, object, required, rule, text } from './schema.ts'
import {
  address,
  conditions,
  dnsLabel,
  dnsName,
  endpoint,
  exactlyOne,
  isEmptySelector,
  isIpText,
  observedGeneration,
  reference,
  selector,
  time,
} from './texts.ts'

const MAX_DOMAINS = 64
const MAX_HOSTS = 256
const MAX_EXCEPTIONS = 64

const nameIsNoAddress = rule<string>({
  id: 'no-address',
  problem: 'an address where a name is expected',
  right: 'a name such as gw.example.com here, or the address as gateway.address',
  cel: '!isIP(self)',
  test: self => !isIpText(self),
})

const gateway = object(
  "The network's gateway: exactly one of address and name.",
  {
    address: address('Address of the gateway. Example: 203.0.113.2'),
    name: {
      ...dnsName('DNS name of the gateway, resolved again and again. Example: gw.example.org'),
      rules: [nameIsNoAddress],
    },
    port: integer('UDP port of the gateway, 1 to 65535.', { least: 1, most: 65535, default: 1045 }),
  },
  { rules: [exactlyOne(['address', 'name'], 'one of them')] },
)

const uniqueReferences = rule<{ reference: string }[]>({
  id: 'unique-references',
  problem: 'the same reference for two hosts',
  right: 'a reference of its own for each host; it may be given several names by CNAME records',
  cel: 'self.all(x, self.exists_one(y, y.reference == x.reference))',
  test: self => new Set(self.map(host => host.reference)).size === self.length,
})

const namespaceOrLabels = rule<NonNullable<InboundException['services']>>({
  id: 'namespace-or-labels',
  problem: 'an exception for every IprefService of the cluster',
  right: 'a namespace, or a selector that is not empty; to allow or deny everything set inbound.policy',
  cel: [
    'has(self.__namespace__)',
    '(has(self.selector.matchLabels) && self.selector.matchLabels.size() > 0)',
    '(has(self.selector.matchExpressions) && self.selector.matchExpressions.size() > 0)',
  ].join(' || '),
  test: self => self.namespace !== undefined || !isEmptySelector(self.selector),
})

const spec = object(
  'The remote network, and what it may reach here.',
  {
    gateway: required(gateway),
    domains: list(
      'DNS domains of that network. Pods of this cluster resolve names below them, to addresses that lead there. Lower case, without a dot at the end. Example: [example.org]',
      dnsName('A domain. Example: example.org'),
      { most: MAX_DOMAINS, unique: 'items' },
    ),
    dnsServers: list(
      "Servers to ask about these domains, as ADDRESS or ADDRESS:PORT. Absent: the resolvers' own upstreams. Example: [203.0.113.53]",
      endpoint('Address of a DNS server, port 53 unless it says another. Example: 203.0.113.53'),
      { most: 8, unique: 'items' },
    ),
    hosts: list(
      'Hosts of that network that are known without its DNS. Each gets an address here, and the name <host>.<peer>.peers.<internal zone>.',
      object('One host.', {
        name: required(dnsLabel('First label of its name here. Example: db')),
        reference: required(
          reference(
            'Its reference in that network. Below 65536 in decimal, else groups of 16 bits in hexadecimal. Example: 2466',
          ),
        ),
      }),
      { most: MAX_HOSTS, unique: ['name'], rules: [uniqueReferences] },
    ),
    inbound: object(
      "What that network may reach here. Absent: the platform's inbound default, without exceptions. The address of a peer is no authentication: whoever can send from it is taken for it.",
      {
        policy: required(
          text('Allow: everything that is published but the exceptions. Deny: nothing but the exceptions.', {
            oneOf: ['Allow', 'Deny'],
          }),
        ),
        except: list(
          'Exceptions to the policy.',
          object(
            'One exception: exactly one of reference and services.',
            {
              reference: reference('Reference of one published host here. Example: 2466'),
              services: object(
                'The IprefServices of a namespace, those that a selector chooses in all namespaces, or both together.',
                {
                  namespace: dnsLabel('Namespace of the IprefServices. Absent: all. Example: shop'),
                  selector: required(selector('Labels of the IprefServices. Empty: all of the namespace.')),
                },
                { rules: [namespaceOrLabels] },
              ),
            },
            { rules: [exactlyOne(['reference', 'services'], 'one of them; add an exception for each')] },
          ),
          { most: MAX_EXCEPTIONS },
        ),
      },
    ),
    probe: object(
      'How the gateways of this cluster probe that network: an echo request to its reference 1, which keeps NAT open and measures the path.',
      {
        mode: text('Enabled or Disabled.', { oneOf: ['Enabled', 'Disabled'], default: 'Enabled' }),
        intervalSeconds: integer('Time between two probes, in seconds, 5 to 3600.', {
          least: 5,
          most: 3600,
          default: 25,
        }),
      },
      { default: {} },
    ),
  },
  {
    rules: [
      rule<IprefPeerSpec>({
        id: 'servers-for-domains',
        problem: 'DNS servers without a domain to ask them about',
        right: 'domains beside dnsServers, or neither',
        at: 'dnsServers',
        cel: '!has(self.dnsServers) || self.dnsServers.size() == 0 || (has(self.domains) && self.domains.size() > 0)',
        test: ({ dnsServers = [], domains = [] }) => dnsServers.length === 0 || domains.length > 0,
      }),
    ],
  },
)

/** What one gateway has seen of a peer: also in IprefGateway. */
export const observationFields = {
  address: required(text("Address of the peer's gateway.", { most: 45 })),
  verified: required(boolean('It answered a probe from this address.')),
  rttMilliseconds: integer('Round-trip time of the last probe, in milliseconds.', { least: 0, most: 2147483647 }),
  pathMtu: integer('Largest packet that the path carries, in bytes.', { least: 0, most: 65535 }),
  lastSeenTime: time('When something came from there last.'),
} as const

const status = object('What the operator has made of it, and what the gateways see.', {
  observedGeneration,
  conditions: conditions(peerConditions),
  addresses: list(
    "The gateway's addresses, as resolved last.",
    text('An address.', { least: 2, most: 45, examples: ['203.0.113.2'] }),
    { most: 16 },
  ),
  hosts: list(
    'The hosts of the specification, with the addresses that stand for them here. They are kept.',
    object('One host.', {
      name: required(text('Its name in the specification.', { least: 1, most: 63 })),
      reference: required(text('Its reference.', { least: 1, most: 39 })),
      encodedAddress: required(text('The address that stands for it here.', { least: 2, most: 45 })),
      dnsName: required(text('Its name in the internal zone.', { most: 253 })),
    }),
    // one of each IP version
    { most: 2 * MAX_HOSTS },
  ),
  gateway: text('The IprefGateway that carries the hosts.', { most: 253 }),
  observations: list(
    'What the gateways of this cluster see of the peer.',
    object('What one gateway sees.', {
      gateway: required(text('Name of the IprefGateway.', { least: 1, most: 253 })),
      ...observationFields,
    }),
    { most: 1024 },
  ),
})

export const iprefPeer: KindTable = {
  about:
    'IprefPeer describes a remote network: where its gateway is, which DNS domains are its own, which of its hosts are known without DNS, and what it may reach here.',
  shortNames: ['ipeer'],
  columns: [
    {
      name: 'Ready',
      type: 'string',
      about: 'Known, and answering probes.',
      path: '.status.conditions[?(@.type=="Ready")].status',
    },
    { name: 'Gateway', type: 'string', about: 'Its address or name.', path: ".spec.gateway['address','name']" },
    {
      name: 'RTT',
      type: 'integer',
      about: 'Round-trip time in milliseconds.',
      path: '.status.observations[0].rttMilliseconds',
    },
    {
      name: 'MTU',
      type: 'integer',
      about: 'Largest packet that the path carries, in bytes.',
      path: '.status.observations[0].pathMtu',
      isWide: true,
    },
    {
      name: 'Last seen',
      type: 'date',
      about: 'Time since something came from there.',
      path: '.status.observations[0].lastSeenTime',
    },
    { name: 'Age', type: 'date', about: 'Time since it was made.', path: '.metadata.creationTimestamp' },
  ],
  name: dnsLabel('Name of the object, and label in <host>.<peer>.peers.<internal zone>.'),
  spec,
  status,
}
