import { describe, expect, it } from 'vitest'
import { findTargets } from '../../../../operator/service/targets.ts'
import type { IprefServiceSpec } from '../../../../resources/kinds.ts'
import {
  headless,
  iprefService,
  member,
  pod,
  service,
  slice,
  targetInput,
  type World,
} from '../../../support/operatorObjects.ts'

const find = (target: IprefServiceSpec['target'], world: World, more: Partial<IprefServiceSpec> = {}) =>
  findTargets(targetInput(iprefService({ target, ...more }), world))
const toService = { service: { name: 'web' } }
const toEndpoints = { service: { name: 'web', mode: 'Endpoints' as const } }
const toPods = { pods: { selector: { matchLabels: { app: 'web' } } } }

const said = (found: ReturnType<typeof find>) =>
  'reason' in found ? `${found.type} ${found.reason}` : found.wanted.map(({ address }) => address).join(' ')
const warned = (found: ReturnType<typeof find>) => ('reason' in found ? undefined : found.warning?.reason)

const ownPod = pod('web-a', ['10.244.1.5'])
const foreignPod = pod('db-0', ['10.244.2.9'], { metadata: { namespace: 'other' } })

describe('a Service by its ClusterIP', () => {
  const world = { services: [service()], slices: [slice(['10.244.1.5'])], pods: [ownPod] }

  it('is one address, of slot 0, on all ports', () => {
    expect(find(toService, world)).toEqual({
      wanted: [{ holder: 'ClusterIP', ordinal: 0, family: 'IPv4', address: '10.96.0.10' }],
    })
  })

  it('has both IP versions where the Service has', () => {
    const services = [service({ clusterIPs: ['10.96.0.10', 'fd00:96::10'] })]
    expect(said(find(toService, { ...world, services }))).toBe('10.96.0.10 fd00:96::10')
  })

  it('is limited to the ports that the object names', () => {
    const found = find(toService, world, { ports: [{ port: 80 }] })
    expect(found).toMatchObject({ wanted: [{ ports: [{ port: 80, protocol: 'TCP' }] }] })
  })

  it.each<[string, World, string]>([
    ['no Service', { services: [] }, 'Resolved ServiceNotFound'],
    ['a Service of another namespace', { services: [service({}, { namespace: 'other' })] }, 'Resolved ServiceNotFound'],
    [
      'an ExternalName',
      { services: [service({ type: 'ExternalName', externalName: 'metadata.google.internal' })] },
      'Accepted ExternalName',
    ],
    [
      'an ExternalName that still has a ClusterIP',
      { services: [service({ type: 'ExternalName', clusterIP: '10.96.0.10' })] },
      'Accepted ExternalName',
    ],
    ['no ClusterIP yet', { services: [service({ clusterIP: '', clusterIPs: [] })] }, 'Resolved NoClusterIP'],
  ])('%s: refused', (_name, more, expected) => {
    expect(said(find(toService, { ...world, ...more }))).toBe(expected)
  })

  it('a headless Service has none to publish in this mode', () => {
    expect(said(find({ service: { name: 'web', mode: 'ClusterIP' } }, { services: [headless()] }))).toBe(
      'Accepted HeadlessService',
    )
  })

  it('without ready endpoints keeps its address, and says so', () => {
    for (const slices of [[], [slice([{ addresses: ['10.244.1.5'], conditions: { ready: false } }])]]) {
      const found = find(toService, { ...world, slices })
      expect([said(found), warned(found)]).toEqual(['10.96.0.10', 'NoReadyEndpoints'])
    }
  })

  it.each<[string, World]>([
    ['a pod of another namespace', { slices: [slice(['10.244.2.9'])], pods: [ownPod, foreignPod] }],
    [
      'a pod of another namespace, behind one of its own',
      { slices: [slice(['10.244.1.5', '10.244.2.9'])], pods: [ownPod, foreignPod] },
    ],
    [
      'a pod of another namespace, said to be its own',
      {
        slices: [
          slice([
            {
              addresses: ['10.244.2.9'],
              targetRef: { kind: 'Pod', namespace: 'shop', name: 'web-a', uid: 'uid-web-a' },
            },
          ]),
        ],
        pods: [ownPod, foreignPod],
      },
    ],
    [
      'a pod of another namespace that is not ready yet',
      { slices: [slice([{ addresses: ['10.244.2.9'], conditions: { ready: false } }])], pods: [foreignPod] },
    ],
    ['an address of the pod network that nobody has yet', { slices: [slice(['10.244.7.7'])] }],
    ['the ClusterIP of another Service', { slices: [slice(['10.96.0.20'])] }],
    [
      'a pod of another namespace, where nodes say nothing of their networks',
      { slices: [slice(['10.244.2.9'])], pods: [foreignPod], clusterNetworks: [], allowed: ['10.0.0.0/8'] },
    ],
    [
      'the ClusterIP of another Service, where nobody says the service network',
      {
        services: [
          service(),
          service({ clusterIP: '10.96.0.20', clusterIPs: ['10.96.0.20'] }, { name: 'db', namespace: 'other' }),
        ],
        slices: [slice(['10.96.0.20'])],
        clusterNetworks: [],
        allowed: ['10.0.0.0/8'],
      },
    ],
    [
      'a node',
      { slices: [slice(['192.168.0.1'])], forbidden: { '192.168.0.1': 'a node' }, allowed: ['192.168.0.0/16'] },
    ],
    [
      'another address of a node',
      { slices: [slice(['192.168.9.1'])], onNodes: { '192.168.9.1': 'a node' }, allowed: ['192.168.0.0/16'] },
    ],
    [
      'the API server',
      { slices: [slice(['192.168.0.7'])], forbidden: { '192.168.0.7': 'the API server' }, allowed: ['0.0.0.0/0'] },
    ],
    [
      'a pod on the host network',
      { slices: [slice(['192.168.0.1'])], pods: [pod('host', ['192.168.0.1'], { spec: { hostNetwork: true } })] },
    ],
    [
      'a pod that has the address of a node',
      {
        slices: [slice(['192.168.0.1'])],
        pods: [pod('odd', ['192.168.0.1'])],
        forbidden: { '192.168.0.1': 'a node' },
      },
    ],
    ['the metadata service of the cloud', { slices: [slice(['169.254.169.254'])], allowed: ['0.0.0.0/0'] }],
    ['loopback', { slices: [slice(['127.0.0.1'])], allowed: ['0.0.0.0/0'] }],
    ['an address outside that nobody allowed', { slices: [slice(['198.51.100.9'])] }],
    [
      'an address outside that is allowed to others',
      { slices: [slice(['198.51.100.9'])], allowed: ['198.51.100.0/24 other'] },
    ],
    ['a host of another network', { slices: [slice(['10.177.0.5'])], allowed: ['10.0.0.0/8'] }],
    ['no address', { slices: [slice(['010.244.1.5'])] }],
  ])('endpoints written by hand that lead to %s: refused', (_name, more) => {
    expect(said(find(toService, { ...world, ...more }))).toBe('Accepted TargetForbidden')
    expect(said(find(toEndpoints, { ...world, ...more, slices: (more.slices ?? []).map(onlyBad) }))).toMatch(
      /Accepted TargetForbidden|Resolved NoReadyEndpoints/,
    )
  })

  // in Endpoints mode the right ones beside the wrong one are published
  function onlyBad(one: ReturnType<typeof slice>) {
    return { ...one, endpoints: one.endpoints!.filter(({ addresses }) => addresses[0] !== '10.244.1.5') }
  }

  it('endpoints outside are fine where the platform team allows them', () => {
    for (const allowed of ['198.51.100.0/24', '198.51.100.0/24 shop'])
      expect(said(find(toService, { ...world, slices: [slice(['198.51.100.9'])], allowed: [allowed] }))).toBe(
        '10.96.0.10',
      )
  })

  it('endpoints that are names lead nowhere', () => {
    const slices = [slice(['169.254.169.254'], { addressType: 'FQDN' }), slice(['10.244.1.5'])]
    expect(said(find(toService, { ...world, slices }))).toBe('10.96.0.10')
  })

  it('the API server is no target, under its own name neither', () => {
    const forbidden = { '10.96.0.1': 'the API server', '192.168.0.7': 'the API server' }
    const api = (name: string) => ({
      services: [service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] }, { name, namespace: 'default' })],
      slices: [slice(['192.168.0.7'], {}, { service: name, namespace: 'default' })],
      forbidden,
    })
    for (const mode of ['ClusterIP', 'Endpoints'] as const) {
      const object = iprefService({ target: { service: { name: 'kubernetes', mode } } }, { namespace: 'default' })
      expect(said(findTargets(targetInput(object, api('kubernetes'))))).toBe('Accepted TargetForbidden')
    }
  })
})

describe('a Service by its endpoints', () => {
  const pods = [pod('a', ['10.244.1.1']), pod('b', ['10.244.1.2'])]
  const world = { services: [headless()], slices: [slice(['10.244.1.1', '10.244.1.2'])], pods }

  it('gives each ready pod an address, on the ports of the Service', () => {
    expect(find(toService, world)).toEqual({
      wanted: [
        { holder: 'uid-a', family: 'IPv4', address: '10.244.1.1', ports: [{ port: 8080, protocol: 'TCP' }] },
        { holder: 'uid-b', family: 'IPv4', address: '10.244.1.2', ports: [{ port: 8080, protocol: 'TCP' }] },
      ],
    })
  })

  it('holds both IP versions of a pod together', () => {
    const both = pod('a', ['10.244.1.1', 'fd00:244::1'])
    const slices = [slice(['10.244.1.1']), slice(['fd00:244::1'], { addressType: 'IPv6' }, { name: 'web-6' })]
    expect(find(toService, { ...world, pods: [both], slices })).toMatchObject({
      wanted: [
        { holder: 'uid-a', family: 'IPv4' },
        { holder: 'uid-a', family: 'IPv6' },
      ],
    })
  })

  it('names members of a StatefulSet, with their ordinals', () => {
    const members = [member('web', 0, ['10.244.1.1']), member('web', 1, ['10.244.1.2'])]
    expect(find(toService, { ...world, pods: members })).toMatchObject({
      wanted: [
        { ordinal: 0, member: 'web-0' },
        { ordinal: 1, member: 'web-1' },
      ],
    })
  })

  it.each<[string, Parameters<typeof pod>[2]]>([
    ['has the name of one and no StatefulSet', {}],
    [
      'has an owner that is none',
      { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Job', name: 'web', uid: 'u', controller: true }] } },
    ],
    [
      'is not controlled by it',
      { metadata: { ownerReferences: [{ apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'web', uid: 'u' }] } },
    ],
    [
      'has the name of another',
      {
        metadata: {
          ownerReferences: [{ apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'db', uid: 'u', controller: true }],
        },
      },
    ],
  ])('a pod that %s is no member', (_name, options) => {
    const found = find(toService, {
      ...world,
      slices: [slice(['10.244.1.1'])],
      pods: [pod('web-0', ['10.244.1.1'], options)],
    })
    expect('wanted' in found && found.wanted[0]).toMatchObject({ holder: 'uid-web-0' })
    expect('wanted' in found && found.wanted[0]).not.toHaveProperty('ordinal')
  })

  it.each([
    ['is unknown', { ready: null }, true],
    ['is not said', undefined, true],
    ['is no', { ready: false }, false],
    ['is yes while it ends', { ready: true, terminating: true }, false],
  ])('an endpoint whose readiness %s', (_name, conditions, counts) => {
    const endpoint = { addresses: ['10.244.1.1'], ...(conditions ? { conditions } : {}) }
    expect(said(find(toService, { ...world, slices: [slice([endpoint])] }))).toBe(
      counts ? '10.244.1.1' : 'Resolved NoReadyEndpoints',
    )
  })

  it('an endpoint that moves between slices is ready when it is in one of them', () => {
    const [no, yes] = [{ ready: false }, { ready: true }].map(conditions => ({ addresses: ['10.244.1.1'], conditions }))
    for (const slices of [
      [slice([no!]), slice([yes!])],
      [slice([yes!]), slice([no!])],
    ])
      expect(said(find(toService, { ...world, slices }))).toBe('10.244.1.1')
  })

  it('unready ones are published where the Service says so', () => {
    const services = [headless({ publishNotReadyAddresses: true })]
    const slices = [slice([{ addresses: ['10.244.1.1'], conditions: { ready: false } }])]
    expect(said(find(toService, { ...world, services, slices }))).toBe('10.244.1.1')
  })

  it('those that may not be are left out and named, the others are published', () => {
    const found = find(toService, { ...world, slices: [slice(['10.244.1.1', '10.244.9.9', '192.168.0.1'])] })
    expect([said(found), warned(found)]).toEqual(['10.244.1.1', 'SomeTargetsForbidden'])
    expect('warning' in found && found.warning?.message).toContain('10.244.9.9')
  })

  it('an address of a machine outside is published where it is allowed', () => {
    const slices = [slice(['198.51.100.9'])]
    expect(find(toService, { ...world, slices, allowed: ['198.51.100.0/24 shop'] })).toMatchObject({
      wanted: [{ holder: '198.51.100.9', address: '198.51.100.9' }],
    })
  })

  describe('ports', () => {
    const named = headless({ ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }] })
    const portsOf = (more: World, spec: Partial<IprefServiceSpec> = {}) => {
      const found = find(toService, { ...world, ...more, pods: [pods[0]!], slices: more.slices ?? world.slices }, spec)
      return 'reason' in found ? said(found) : found.wanted[0]!.ports
    }

    it('are those that the object names, if it does', () => {
      expect(portsOf({}, { ports: [{ port: 9000, endPort: 9010, protocol: 'UDP' }] })).toEqual([
        { port: 9000, endPort: 9010, protocol: 'UDP' },
      ])
    })

    it('are read off the slices where the Service says names', () => {
      expect(portsOf({ services: [named], slices: [slice(['10.244.1.1'], { ports: [{ port: 8443 }] })] })).toEqual([
        { port: 8443, protocol: 'TCP' },
      ])
    })

    it.each([null, [], [{ name: 'http' }]])('are never all because nobody knows them (%j)', ports => {
      expect(portsOf({ services: [named], slices: [slice(['10.244.1.1'], { ports })] })).toBe('Resolved NoPorts')
    })

    it('are all where a headless Service has none', () => {
      const services = [headless({ ports: [] })]
      expect(portsOf({ services, slices: [slice(['10.244.1.1'], { ports: [] })] })).toBeUndefined()
    })

    it('of a row become a range, and more than a status holds are refused', () => {
      const ports = (step: number) =>
        Array.from({ length: 100 }, (_, i) => ({ port: 3000 + i * step, protocol: 'TCP' as const }))
      const withPorts = (step: number) => ({
        services: [headless({ ports: ports(step) })],
        slices: [slice(['10.244.1.1'], { ports: [] })],
      })
      expect(portsOf(withPorts(1))).toEqual([{ port: 3000, endPort: 3099, protocol: 'TCP' }])
      expect(portsOf(withPorts(2))).toBe('Accepted TooManyPorts')
    })
  })
})

describe('whose address it is', () => {
  const world = (pods: World['pods']) => ({ services: [headless()], slices: [slice(['10.244.1.1'])], pods: pods! })
  const elsewhere = { metadata: { namespace: 'other' } }

  it('a pod that has ended has none any more', () => {
    for (const phase of ['Succeeded', 'Failed']) {
      const ended = pod('job', ['10.244.1.1'], { phase })
      expect(said(find(toService, world([ended])))).toBe('Accepted TargetForbidden')
      const reused = pod('job', ['10.244.1.1'], { ...elsewhere, phase })
      expect(said(find(toService, world([reused, pod('a', ['10.244.1.1'])])))).toBe('10.244.1.1')
      expect(said(find(toService, world([ended, pod('x', ['10.244.1.1'], elsewhere)])))).toBe(
        'Accepted TargetForbidden',
      )
    }
  })

  it('where pods of two namespaces have it, nobody can tell whom it reaches', () => {
    const pods = [pod('a', ['10.244.1.1']), pod('x', ['10.244.1.1'], elsewhere)]
    expect(said(find(toService, world(pods)))).toBe('Accepted TargetForbidden')
    expect(said(find(toPods, world(pods)))).toBe('Accepted TargetForbidden')
  })

  it('one that is being deleted does not count beside one that is not', () => {
    const going = { deletionTimestamp: '2030-01-02T00:00:00Z' }
    const theirs = pod('x', ['10.244.1.1'], { metadata: { namespace: 'other', ...going } })
    expect(said(find(toService, world([theirs, pod('a', ['10.244.1.1'])])))).toBe('10.244.1.1')
    const ours = pod('a', ['10.244.1.1'], { metadata: going })
    expect(said(find(toService, world([ours, pod('x', ['10.244.1.1'], elsewhere)])))).toBe('Accepted TargetForbidden')
  })

  it('of two pods of the namespace it is the newer one', () => {
    const later = { metadata: { creationTimestamp: '2030-01-02T00:00:00Z' } }
    const found = find(toService, world([pod('new', ['10.244.1.1'], later), pod('old', ['10.244.1.1'])]))
    expect(found).toMatchObject({ wanted: [{ holder: 'uid-new' }] })
  })

  it('a pod that says two of one IP version has the first', () => {
    const pods = [pod('a', ['10.244.1.1', '10.244.1.2'])]
    expect(said(find(toPods, { pods }))).toBe('10.244.1.1')
    expect(said(find(toService, { ...world(pods), slices: [slice(['10.244.1.2'])] }))).toBe('Accepted TargetForbidden')
  })
})

describe('pods by their labels', () => {
  it('gives each ready one an address, on all ports', () => {
    const pods = [
      pod('b', ['10.244.1.2']),
      pod('a', ['10.244.1.1', 'fd00::1']),
      pod('db', ['10.244.1.3'], { metadata: { labels: { app: 'db' } } }),
    ]
    expect(said(find(toPods, { pods }))).toBe('10.244.1.1 10.244.1.2 fd00::1')
  })

  it.each<[string, Parameters<typeof pod>[2]]>([
    ['is not ready', { ready: 'False' }],
    ['is being deleted', { metadata: { deletionTimestamp: '2030-01-02T00:00:00Z' } }],
    ['has ended', { phase: 'Succeeded' }],
    ['is of another namespace', { metadata: { namespace: 'other' } }],
  ])('one that %s does not count', (_name, options) => {
    expect(said(find(toPods, { pods: [pod('a', ['10.244.1.1'], options)] }))).toBe('Resolved NoReadyEndpoints')
  })

  it.each<[string, World]>([
    ['on the host network', { pods: [pod('a', ['192.168.0.1'], { spec: { hostNetwork: true } })] }],
    ['with the address of a node', { pods: [pod('a', ['192.168.0.1'])], forbidden: { '192.168.0.1': 'a node' } }],
    ['with a link-local address', { pods: [pod('a', ['169.254.1.1'])] }],
    ['with an address of another network', { pods: [pod('a', ['10.177.0.1'])] }],
  ])('one %s is refused, and the others are published', (_name, world) => {
    expect(said(find(toPods, world))).toBe('Accepted TargetForbidden')
    const found = find(toPods, { ...world, pods: [...world.pods!, pod('b', ['10.244.1.2'])] })
    expect([said(found), warned(found)]).toEqual(['10.244.1.2', 'SomeTargetsForbidden'])
  })
})

describe('a machine outside', () => {
  const allowed = ['0.0.0.0/0', '::/0']

  it('is published where its range is allowed, to the namespace or to all', () => {
    const world = { allowed: ['192.0.2.0/24 shop', '2001:db8::/32'] }
    for (const address of ['192.0.2.7', '2001:db8::7']) expect(said(find({ address }, world))).toBe(address)
  })

  it.each<[string, string, World]>([
    ['where nothing is allowed', '192.0.2.7', {}],
    ['where only others may', '192.0.2.7', { allowed: ['192.0.2.0/24 other'] }],
    ['beside the range', '192.0.3.7', { allowed: ['192.0.2.0/24'] }],
    ['that is a pod network', '10.244.3.3', { allowed }],
    ['that is a service network', '10.96.0.10', { allowed }],
    ['that is a pod of its own namespace', '10.244.1.5', { allowed, pods: [ownPod], clusterNetworks: [] }],
    ['that is a pod, where no network is known', '10.244.2.9', { allowed, pods: [foreignPod], clusterNetworks: [] }],
    ['that is a node', '192.168.0.1', { allowed, forbidden: { '192.168.0.1': 'a node' } }],
    ['that is an address on a node', '172.17.0.1', { allowed, onNodes: { '172.17.0.1': 'a node' } }],
    ['that is loopback', '127.0.0.53', { allowed }],
    ['that is loopback in IPv6', '::1', { allowed }],
    ['that is nobody', '0.0.0.0', { allowed }],
    ['that is link-local', '169.254.169.254', { allowed }],
    ['that is link-local in IPv6', 'fe80::1', { allowed }],
    ['that is a multicast group', '224.0.0.251', { allowed }],
    ['that is a multicast group in IPv6', 'ff02::fb', { allowed }],
    ['that is broadcast', '255.255.255.255', { allowed }],
    ['that is a host of another network', '10.180.0.1', { allowed }],
    ['that is a host of another network in IPv6', 'fd76::99', { allowed }],
    ['that is a node in IPv6 clothing', '::ffff:192.168.0.1', { allowed, forbidden: { '192.168.0.1': 'a node' } }],
    ['that is a node in old IPv6 clothing', '::192.168.0.1', { allowed, forbidden: { '192.168.0.1': 'a node' } }],
    ['that is a node behind NAT64', '64:ff9b::192.168.0.1', { allowed, forbidden: { '192.168.0.1': 'a node' } }],
    ['that is a node behind 6to4', '2002:c0a8:1::', { allowed, forbidden: { '192.168.0.1': 'a node' } }],
    ['in another spelling', '192.168.000.1', { allowed, forbidden: { '192.168.0.1': 'a node' } }],
    ['a node in another spelling', '2001:DB8:0:0::7', { allowed, forbidden: { '2001:db8::7': 'a node' } }],
  ])('%s (%s): refused', (_name, address, world) => {
    expect(said(find({ address }, world))).toBe('Accepted TargetForbidden')
  })
})
