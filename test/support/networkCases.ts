/** IprefPeers, IprefGateways and IprefReferences that are accepted and refused, by rule (resourceCases.ts). */
import {
  accepted,
  addresses,
  changesOf,
  claim,
  excepting,
  iprefGateway,
  iprefPeer,
  iprefReference,
  numbers,
  peer,
  type ResourceCase,
  references,
  refused,
  released,
  rowsOf,
} from './resourceBuilders.ts'

// ---- IprefPeer

const withHost = (reference: string) => peer({ hosts: [{ name: 'db', reference }] })

const peers = rowsOf('IprefPeer', iprefPeer, {
  'spec.gateway exactly-one': [
    ['a gateway by address', { gateway: { address: '203.0.113.2', port: 2045 } }],
    ['a gateway by name', { gateway: { name: 'gw.example.org' } }],
    ['a gateway nowhere', { gateway: { port: 1045 } }, 'spec.gateway'],
    ['a gateway in two ways', { gateway: { address: '203.0.113.2', name: 'gw.example.org' } }, 'spec.gateway'],
  ],
  'spec.gateway.address address': [
    ...accepted('gateway', address => ({ gateway: { address } }), addresses.good),
    ...refused('gateway', address => ({ gateway: { address } }), addresses.bad, 'spec.gateway.address'),
  ],
  'spec.gateway.address host-address': [
    ['a gateway', peer({})],
    ...refused('gateway', address => ({ gateway: { address } }), addresses.ofNoHost, 'spec.gateway.address'),
  ],
  'spec.gateway.name no-address': [
    ...accepted('gateway', name => ({ gateway: { name } }), ['gw.example.org', 'gw', '1.2.3', '1.2.3.400', '1.2.3.04']),
    ['an address as a name', { gateway: { name: '203.0.113.2' } }, 'spec.gateway.name'],
  ],
  'spec.dnsServers[] endpoint': [
    ...accepted('server', server => peer({ domains: ['example.org'], dnsServers: [server] }), [
      '192.0.2.53',
      '192.0.2.53:1',
      '192.0.2.53:65535',
      '2001:db8::53',
      '[2001:db8::53]:53',
      '[::1]:5353',
    ]),
    ...refused(
      'server',
      server => peer({ domains: ['example.org'], dnsServers: ['192.0.2.53', server] }),
      [
        'ns.example.org',
        '192.0.2.53:',
        '192.0.2.53:0',
        '192.0.2.53:65536',
        '192.0.2.53:053',
        '[192.0.2.53]:x',
        '[2001:db8::53]',
        '2001:db8::53:99999',
        '[2001:db8::g]:53',
        ':53',
        '::ffff:1.2.3.4',
        '[::ffff:1.2.3.4]:53',
        '192.0.2.53:53:53',
      ],
      'spec.dnsServers[1]',
    ),
  ],
  'spec servers-for-domains': [
    ['domains with servers', peer({ domains: ['example.org'], dnsServers: ['192.0.2.53'] })],
    ['servers for nothing', peer({ dnsServers: ['192.0.2.53'] }), 'spec.dnsServers'],
    ['servers for an empty list', peer({ domains: [], dnsServers: ['192.0.2.53'] }), 'spec.dnsServers'],
  ],
  'spec.hosts unique-references': [
    [
      'two hosts',
      peer({
        hosts: [
          { name: 'db', reference: '11' },
          { name: 'www', reference: '12' },
        ],
      }),
    ],
    ['the most hosts', peer({ hosts: numbers(256).map(i => ({ name: `h${i}`, reference: String(i) })) })],
    [
      'two hosts under one reference',
      peer({
        hosts: [
          { name: 'db', reference: '11' },
          { name: 'www', reference: '11' },
        ],
      }),
      'spec.hosts',
    ],
  ],
  'spec.hosts[].reference reference': [
    ...accepted('reference of theirs', withHost, [...references.good, '1']),
    ...refused('reference of theirs', withHost, references.bad, 'spec.hosts[0].reference'),
  ],
  'spec.inbound.except[] exactly-one': [
    ['an exception for a reference', excepting({ reference: '11' })],
    ['an exception for services', excepting({ services: { selector: { matchLabels: { open: 'yes' } } } })],
    ['an exception for nothing', excepting({}), 'spec.inbound.except[0]'],
    [
      'an exception for both',
      excepting({ reference: '11', services: { namespace: 'shop', selector: {} } }),
      'spec.inbound.except[0]',
    ],
  ],
  'spec.inbound.except[].reference reference': [
    ['an exception for a long reference', excepting({ reference: '8a3f-0-12' })],
    ['an exception for no reference', excepting({ reference: '0' }), 'spec.inbound.except[0].reference'],
  ],
  'spec.inbound.except[].services namespace-or-labels': [
    ['all services of a namespace', excepting({ services: { namespace: 'shop', selector: {} } })],
    ['some services of all namespaces', excepting({ services: { selector: { matchLabels: { open: 'yes' } } } })],
    ['all services of all namespaces', excepting({ services: { selector: {} } }), 'spec.inbound.except[0].services'],
    [
      'all services of all namespaces, with empty lists',
      excepting({ services: { selector: { matchLabels: {}, matchExpressions: [] } } }),
      'spec.inbound.except[0].services',
    ],
  ],
  'spec.inbound.except[].services.selector.matchExpressions[] values-fit-operator': [
    [
      'NotIn with values',
      excepting({ services: { selector: { matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['b'] }] } } }),
    ],
    [
      'NotIn without values',
      excepting({ services: { selector: { matchExpressions: [{ key: 'a', operator: 'NotIn' }] } } }),
      'spec.inbound.except[0].services.selector.matchExpressions[0]',
    ],
  ],
  schema: [
    ['no gateway', { domains: ['example.org'] }, 'spec.gateway'],
    ['port 0', { gateway: { address: '203.0.113.2', port: 0 } }, 'spec.gateway.port'],
    ['a port too high', { gateway: { address: '203.0.113.2', port: 65536 } }, 'spec.gateway.port'],
    ['the most domains', peer({ domains: numbers(64).map(i => `d${i}.example.org`) })],
    ['a domain too many', peer({ domains: numbers(65).map(i => `d${i}.example.org`) }), 'spec.domains'],
    ['the same domain twice', peer({ domains: ['example.org', 'example.com', 'example.org'] }), 'spec.domains[2]'],
    ...refused(
      'domain',
      domain => peer({ domains: [domain] }),
      ['Example.org', 'example.org.', '.', '', '*.example.org'],
      'spec.domains[0]',
    ),
    [
      'a host too many',
      peer({ hosts: numbers(257).map(i => ({ name: `h${i}`, reference: String(i) })) }),
      'spec.hosts',
    ],
    [
      'the same host twice',
      peer({
        hosts: [
          { name: 'db', reference: '11' },
          { name: 'db', reference: '12' },
        ],
      }),
      'spec.hosts[1]',
    ],
    ['a host with a dot', peer({ hosts: [{ name: 'db.x', reference: '11' }] }), 'spec.hosts[0].name'],
    ['a host without a reference', peer({ hosts: [{ name: 'db' }] }), 'spec.hosts[0].reference'],
    ['an inbound policy without exceptions', peer({ inbound: { policy: 'Allow' } })],
    ['exceptions without a policy', peer({ inbound: { except: [{ reference: '11' }] } }), 'spec.inbound.policy'],
    ['an unknown policy', peer({ inbound: { policy: 'allow' } }), 'spec.inbound.policy'],
    ['no probing', peer({ probe: { mode: 'Disabled' } })],
    ['the shortest interval', peer({ probe: { intervalSeconds: 5 } })],
    ['an interval too short', peer({ probe: { intervalSeconds: 4 } }), 'spec.probe.intervalSeconds'],
    ['an interval too long', peer({ probe: { intervalSeconds: 3601 } }), 'spec.probe.intervalSeconds'],
  ],
})

const peerNames: ResourceCase[] = [
  { name: 'a name with a dot', kind: 'IprefPeer', object: iprefPeer(peer({}), 'a.b'), refused: 'metadata.name' },
]

// ---- IprefGateway

const gateways = rowsOf('IprefGateway', iprefGateway, {
  'spec.slices[] prefix': [
    ...accepted('slice', slice => ({ slices: [slice] }), [
      '10.177.0.0/18',
      '10.0.0.0/8',
      '192.0.2.7/32',
      'fd24::/80',
      '0.0.0.0/0',
      '::/0',
    ]),
    ...refused(
      'slice',
      slice => ({ slices: [slice] }),
      [
        '10.177.0.1/18',
        '10.177.0.0',
        '10.177.0.0/33',
        '10.177.0.0/018',
        '10.177.0.0/',
        'fd24::1/80',
        'FD24::/80',
        'fd24:0::/80',
        '::ffff:10.0.0.0/104',
        'fd24::/129',
      ],
      'spec.slices[0]',
    ),
  ],
  'spec.slices one-of-each-family': [
    ['a slice of each', { slices: ['fd24::/80', '10.177.0.0/18'] }],
    ['two IPv4 slices', { slices: ['10.177.0.0/18', '10.178.0.0/18'] }, 'spec.slices'],
    ['two IPv6 slices', { slices: ['fd24::/80', 'fd25::/80'] }, 'spec.slices'],
  ],
  'spec.publicAddresses[] address': [
    ...accepted('public address', one => ({ publicAddresses: [one] }), ['198.51.100.1', '2001:db8::1']),
    ...refused('public address', one => ({ publicAddresses: [one] }), addresses.bad, 'spec.publicAddresses[0]'),
  ],
  'spec.publicAddresses[] host-address': [
    ['a public address', { publicAddresses: ['198.51.100.1'] }],
    ...refused('public address', one => ({ publicAddresses: [one] }), addresses.ofNoHost, 'spec.publicAddresses[0]'),
  ],
  'spec.publicAddresses one-of-each-family': [
    ['a public address of each', { publicAddresses: ['198.51.100.1', '2001:db8::1'] }],
    ['two IPv4 addresses', { publicAddresses: ['198.51.100.1', '198.51.100.2'] }, 'spec.publicAddresses'],
    ['two IPv6 addresses', { publicAddresses: ['2001:db8::1', '2001:db8::2'] }, 'spec.publicAddresses'],
  ],
  schema: [
    ['nothing said', {}],
    [
      'everything said',
      {
        nodeName: 'ip-10-0-0-1.ec2.internal',
        slices: ['10.177.0.0/18'],
        publicAddresses: ['198.51.100.1'],
        publish: false,
      },
    ],
    ['three slices', { slices: ['10.177.0.0/18', 'fd24::/80', '10.178.0.0/18'] }, 'spec.slices'],
    ['the same slice twice', { slices: ['10.177.0.0/18', '10.177.0.0/18'] }, 'spec.slices[1]'],
    ['publish as a text', { publish: 'yes' }, 'spec.publish'],
    ['a node with a capital', { nodeName: 'Node-1' }, 'spec.nodeName'],
  ],
})

const gatewayNames: ResourceCase[] = [
  { name: 'a name with dots', kind: 'IprefGateway', object: iprefGateway({}, 'ip-10-0-0-1.ec2.internal') },
]

// ---- IprefReference

const hexNames = (names: readonly string[], more: Partial<ResourceCase>): ResourceCase[] =>
  names.map(name => ({ name: `name ${name}`, kind: 'IprefReference', object: iprefReference(claim, name), ...more }))

const claims = [
  ...rowsOf('IprefReference', iprefReference, {
    schema: [
      ['a claim', claim],
      ['a claim that was released', released],
      ['no owner', { ...claim, uid: undefined }, 'spec.uid'],
      ['an empty owner', { ...claim, uid: '' }, 'spec.uid'],
      ['a slot below 0', { ...claim, slot: -1 }, 'spec.slot'],
      ['a family that is none', { ...claim, family: '4' }, 'spec.family'],
      ['a time that is none', { ...claim, releasedAt: 'yesterday' }, 'spec.releasedAt'],
      ['a month that is none', { ...claim, releasedAt: '2026-13-01T12:00:00Z' }, 'spec.releasedAt'],
      ['a list as a time', { ...claim, releasedAt: ['a'] }, 'spec.releasedAt'],
    ],
  }),
  ...hexNames(['2', 'b', '9a2', 'fff', '10000', '8a3f00000812', `ffffffffffffffffffffffffffff0fff`], {
    rule: 'not-the-gateway',
  }),
  ...hexNames(['1'], { rule: 'not-the-gateway', refused: 'metadata.name' }),
  ...hexNames(['0', '09a2', '9A2', '1000', 'f000', '11000', 'x', '8a3f-12', `1${'0'.repeat(32)}`], {
    refused: 'metadata.name',
  }),
  ...changesOf('IprefReference', iprefReference, {
    'spec claim-stays': [
      ['released', claim, released],
      ['taken back', released, claim],
      ['another namespace', claim, { ...claim, namespace: 'other' }, 'spec'],
      ['another service', claim, { ...claim, name: 'other' }, 'spec'],
      ['another slot', claim, { ...claim, slot: 1 }, 'spec'],
      ['another family', claim, { ...claim, family: 'IPv6' }, 'spec'],
      ['taken away from its owner', claim, { ...claim, uid: 'u-2' }, 'spec'],
      ['taken up by an object of the same name', released, { ...claim, uid: 'u-2' }],
      ['taken up by another service', released, { ...claim, name: 'other', slot: 3, uid: 'u-2' }],
      ['given to another, yet released', released, { ...released, uid: 'u-2' }, 'spec'],
    ],
  }),
] satisfies ResourceCase[]

export const networkCases: readonly ResourceCase[] = [...peers, ...peerNames, ...gateways, ...gatewayNames, ...claims]
