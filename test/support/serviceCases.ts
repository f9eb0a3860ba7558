/** IprefServices that are accepted and refused, by rule (resourceCases.ts). */
import {
  accepted,
  addresses,
  changesOf,
  iprefService,
  numbers,
  type ResourceCase,
  references,
  refused,
  rowsOf,
  toAddress,
  toPods,
  toService,
} from './resourceBuilders.ts'

const withReference = (reference: string) => ({ ...toService, reference })

const services = rowsOf('IprefService', iprefService, {
  'spec.target exactly-one': [
    ['a Service', toService],
    ['pods', toPods({ matchLabels: { app: 'web' } })],
    ['an address', toAddress('192.0.2.7')],
    ['no target', { target: {} }, 'spec.target'],
    ['two targets', { target: { service: { name: 'web' }, address: '192.0.2.7' } }, 'spec.target'],
    [
      'three targets',
      { target: { service: { name: 'web' }, address: '192.0.2.7', pods: { selector: { matchLabels: { a: 'b' } } } } },
      'spec.target',
    ],
  ],
  'spec.target.pods.selector selects-something': [
    ['pods by label', toPods({ matchLabels: { app: 'web' } })],
    ['pods by condition', toPods({ matchExpressions: [{ key: 'app', operator: 'Exists' }] })],
    ['pods by nothing', toPods({}), 'spec.target.pods.selector'],
    ['pods by no label', toPods({ matchLabels: {}, matchExpressions: [] }), 'spec.target.pods.selector'],
  ],
  'spec.target.pods.selector.matchExpressions[] values-fit-operator': [
    ['In with values', toPods({ matchExpressions: [{ key: 'app', operator: 'In', values: ['web', ''] }] })],
    ['DoesNotExist', toPods({ matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] })],
    [
      'In without values',
      toPods({ matchExpressions: [{ key: 'app', operator: 'In' }] }),
      'spec.target.pods.selector.matchExpressions[0]',
    ],
    [
      'NotIn with an empty list',
      toPods({ matchExpressions: [{ key: 'app', operator: 'NotIn', values: [] }] }),
      'spec.target.pods.selector.matchExpressions[0]',
    ],
    [
      'Exists with values',
      toPods({ matchExpressions: [{ key: 'app', operator: 'Exists', values: ['web'] }] }),
      'spec.target.pods.selector.matchExpressions[0]',
    ],
  ],
  'spec.target.address address': [
    ...accepted('address', toAddress, addresses.good),
    ...refused('address', toAddress, addresses.bad, 'spec.target.address'),
  ],
  'spec.target.address host-address': [
    ...accepted('address of a host', toAddress, ['192.0.2.7', 'fe80::1']),
    ...refused('address of no host', toAddress, addresses.ofNoHost, 'spec.target.address'),
  ],
  'spec.reference reference': [
    ...accepted('reference', withReference, ['11', '1-0', '8a3f-0-812', 'ffff-ffff-ffff-ffff-ffff-ffff-ffff-fff']),
    ...refused('reference', withReference, references.bad, 'spec.reference'),
  ],
  'spec.reference static': [
    ...accepted('static reference', withReference, ['2', '4095', '1-fff', '1000-0']),
    ...refused('passing reference', withReference, ['4096', '65535', '1-1000', 'fff-ffff'], 'spec.reference'),
  ],
  'spec.reference not-the-gateway': [
    ['a reference beside that of the gateway', withReference('2')],
    ["the gateway's own reference", withReference('1'), 'spec.reference'],
  ],
  'spec reference-of-one-address': [
    ['a reference for an address', { ...toAddress('192.0.2.7'), reference: '11' }],
    ['a reference for a Service', withReference('11')],
    ['a reference for a ClusterIP', { target: { service: { name: 'web', mode: 'ClusterIP' } }, reference: '11' }],
    ['no reference for endpoints', { target: { service: { name: 'web', mode: 'Endpoints' } } }],
    [
      'a reference for endpoints',
      { target: { service: { name: 'web', mode: 'Endpoints' } }, reference: '11' },
      'spec.reference',
    ],
    ['a reference for pods', { ...toPods({ matchLabels: { app: 'web' } }), reference: '11' }, 'spec.reference'],
  ],
  'spec.ports[] port-range': [
    [
      'a port, and ranges',
      { ...toService, ports: [{ port: 80 }, { port: 443, endPort: 443 }, { port: 1, endPort: 65535 }] },
    ],
    [
      'a range backwards',
      { ...toService, ports: [{ port: 80 }, { port: 443, endPort: 442 }] },
      'spec.ports[1].endPort',
    ],
  ],
  schema: [
    [
      'everything that can be said',
      {
        target: { service: { name: 'web', mode: 'ClusterIP' } },
        reference: '2466',
        hostname: 'shop',
        internalName: 'www.internal.example.com',
        publicName: 'www.example.com',
        ports: [
          { port: 80, protocol: 'TCP' },
          { port: 80, protocol: 'UDP' },
        ],
        ttlSeconds: 10800,
      },
    ],
    ['members that are null', { ...toService, hostname: null, ports: null, ttlSeconds: null }],
    ['the most ports', { ...toService, ports: numbers(64).map(port => ({ port })) }],
    ['a port too many', { ...toService, ports: numbers(65).map(port => ({ port })) }, 'spec.ports'],
    ['the same port twice', { ...toService, ports: [{ port: 80 }, { port: 80, protocol: 'TCP' }] }, 'spec.ports[1]'],
    ['port 0', { ...toService, ports: [{ port: 0 }] }, 'spec.ports[0].port'],
    ['port 65536', { ...toService, ports: [{ port: 65536 }] }, 'spec.ports[0].port'],
    ['a port by name', { ...toService, ports: [{ port: 'http' }] }, 'spec.ports[0].port'],
    ['no port', { ...toService, ports: [{ endPort: 80 }] }, 'spec.ports[0].port'],
    ['a protocol in lower case', { ...toService, ports: [{ port: 80, protocol: 'tcp' }] }, 'spec.ports[0].protocol'],
    ['no target at all', { hostname: 'web' }, 'spec.target'],
    ['a Service without a name', { target: { service: {} } }, 'spec.target.service.name'],
    ['a Service with an empty name', { target: { service: { name: '' } } }, 'spec.target.service.name'],
    ['a Service of another namespace', { target: { service: { name: 'shop/web' } } }, 'spec.target.service.name'],
    ['an unknown mode', { target: { service: { name: 'web', mode: 'Headless' } } }, 'spec.target.service.mode'],
    ['a reference that is a number', { ...toService, reference: 2466 }, 'spec.reference'],
    ['the shortest TTL', { ...toService, ttlSeconds: 1 }],
    ['a TTL of nothing', { ...toService, ttlSeconds: 0 }, 'spec.ttlSeconds'],
    ['a TTL of more than three hours', { ...toService, ttlSeconds: 10801 }, 'spec.ttlSeconds'],
    ['a TTL with a fraction', { ...toService, ttlSeconds: 1.5 }, 'spec.ttlSeconds'],
    ['the longest label', { ...toService, hostname: 'x'.repeat(63) }],
    ...refused(
      'hostname',
      hostname => ({ ...toService, hostname }),
      ['a.b', 'a.', '.a', 'A', '-a', 'a-', 'a_b', '*', 'ä', '\u212a', 'x'.repeat(64), 'a b', 'a\n', ''],
      'spec.hostname',
    ),
    ...accepted('name', publicName => ({ ...toService, publicName }), [
      'www.example.com',
      'a',
      'xn--nxasmq6b.example',
      '1.2',
    ]),
    ...refused(
      'name',
      publicName => ({ ...toService, publicName }),
      [
        'www.example.com.',
        'WWW.example.com',
        '.example.com',
        'a..b',
        '*.example.com',
        'a.-b',
        'a.ä',
        '',
        'a\\.b',
        `${'x'.repeat(64)}.a`,
      ],
      'spec.publicName',
    ),
    ...refused(
      'name',
      internalName => ({ ...toService, internalName }),
      ['A.b', 'a.', `${'a.'.repeat(127)}a`],
      'spec.internalName',
    ),
    ['an unknown field', { ...toService, refrence: '11' }, 'spec.refrence'],
    [
      'an unknown field further down',
      { target: { service: { name: 'web', namespace: 'shop' } } },
      'spec.target.service.namespace',
    ],
    ['a label that is none', toPods({ matchLabels: { app: 'a b' } }), 'spec.target.pods.selector.matchLabels.app'],
  ],
})

const serviceNames: ResourceCase[] = [
  { name: 'the longest name', kind: 'IprefService', object: iprefService(toService, 'x'.repeat(63)) },
  { name: 'a name with a dot', kind: 'IprefService', object: iprefService(toService, 'a.b'), refused: 'metadata.name' },
  {
    name: 'a name too long for a label',
    kind: 'IprefService',
    object: iprefService(toService, 'x'.repeat(64)),
    refused: 'metadata.name',
  },
  { name: 'no spec', kind: 'IprefService', object: { ...iprefService({}), spec: undefined }, refused: 'spec' },
]

const serviceChanges = changesOf('IprefService', iprefService, {
  'spec reference-stays': [
    ['a reference given later', toService, withReference('11')],
    ['a reference that stays', withReference('11'), { ...withReference('11'), ttlSeconds: 300 }],
    ['the same reference for another target', withReference('11'), { ...toAddress('192.0.2.7'), reference: '11' }],
    ['another reference', withReference('11'), withReference('12'), 'spec.reference'],
    ['a reference taken away', withReference('11'), toService, 'spec.reference'],
  ],
})

export const serviceCases: readonly ResourceCase[] = [...services, ...serviceNames, ...serviceChanges]
