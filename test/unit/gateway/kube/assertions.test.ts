import { describe, expect, it } from 'vitest'
import { type KubeInput, refusedOf, wantedOf } from '../../../../gateway/kube/assertions.ts'
import { describeAssertion, type Problem } from '../../../../gateway/mapper/assertions.ts'
import { formatWords } from '../../../../ipref/address.ts'
import { referenceFromWords } from '../../../../ipref/reference.ts'
import type { ServiceMapping } from '../../../../resources/kinds.ts'
import { network, acceptedPeer as peer, mappedService as service } from '../../../support/clusterBuilders.ts'

const wanted = (input: Partial<KubeInput>) =>
  wantedOf({ self: 'node-1', services: [], peers: [], network: network(), tunnelFamilies: [4, 6], ...input })

describe('mappings of services', () => {
  it('each mapping of the status is ours under every context', () => {
    const services = [service('web', [{}, { slot: 1, family: 'IPv6', address: 'fd01::9', reference: '8a3f-0-812' }])]
    expect(wanted({ services }).assertions.map(describeAssertion)).toEqual([
      '10.1.0.9 = pub + 11',
      'fd01::9 = pub + 8a3f-0-812',
    ])
  })

  it('ports are ranges; none means all', () => {
    const ports: ServiceMapping['ports'] = [{ port: 80 }, { port: 5000, endPort: 5010, protocol: 'UDP' }]
    const [limited, open] = wanted({
      services: [service('web', [{ ports }]), service('db', [{ ports: [] }])],
    }).assertions
    expect(limited).toMatchObject({
      ports: [
        { protocol: 'tcp', first: 80, last: 80 },
        { protocol: 'udp', first: 5000, last: 5010 },
      ],
    })
    expect(open).not.toHaveProperty('ports')
  })

  it.each([
    ['an address that is none', { address: '10.1.0.999' }],
    ['a reference that is none', { reference: '+5' }],
    ['reference 0', { reference: '0' }],
    ['a dynamic reference', { reference: '4096' }],
  ])('%s is refused by name, the rest goes on', (_name, wrong) => {
    const { assertions, refused } = wanted({
      services: [service('web', [wrong, { address: '10.1.0.8', reference: '12' }])],
    })
    expect(assertions).toHaveLength(1)
    expect(refused).toMatchObject([{ namespace: 'shop', name: 'web', reason: 'InvalidMapping' }])
  })

  it('an object that is being deleted counts until it is gone', () => {
    const going = service('web', [{}])
    going.metadata.deletionTimestamp = '2030-01-01T00:00:00Z'
    expect(wanted({ services: [going] }).assertions).toHaveLength(1)
  })

  it('what the mapper refused is reported with the object, once', () => {
    const services = [service('web', [{}, { slot: 1, address: '10.1.0.8', reference: '12' }]), service('db', [])]
    const all = wanted({ services })
    const problems: Problem[] = all.assertions.map(assertion => ({
      owner: 'crd',
      assertion,
      reason: 'outside_encoding_network',
      detail: 'no',
    }))
    expect(refusedOf(all, problems, services)).toEqual([
      { namespace: 'shop', name: 'web', reason: 'OutsideEncodingNetwork', message: 'no' },
    ])
  })
})

describe('peers', () => {
  const hosts = [{ name: 'db', reference: '22', encodedAddress: '10.176.0.5', dnsName: 'db.b.peers.in.example.com' }]

  it('their hosts are mapped by the gateway that carries them', () => {
    const peers = [peer('b', {}, { hosts, gateway: 'node-1' }), peer('c', {}, { hosts, gateway: 'node-2' })]
    expect(wanted({ peers }).assertions.map(describeAssertion)).toEqual(['10.176.0.5 = ext 203.0.113.2 + 22'])
  })

  it('their addresses lead to the gateway that carries them; with a single uplink all are ready to', () => {
    const peers = [peer('c', {}, { hosts, gateway: 'node-2' })]
    const all = wanted({ peers, network: network({ uplink: 'single' }) })
    expect(all.assertions.map(describeAssertion)).toEqual(['10.176.0.5 = ext 203.0.113.2 + 22'])
    expect(wanted({ peers })).toMatchObject({
      assertions: [],
      carried: [{ gateway: 'node-2', networks: ['10.176.0.5/32'] }],
    })
  })

  it('over the first IP version that both have', () => {
    const peers = [peer('b', {}, { hosts, gateway: 'node-1', addresses: ['203.0.113.2', '2001:db8::2'] })]
    expect(wanted({ peers, tunnelFamilies: [6] }).assertions.map(describeAssertion)).toEqual([
      '10.176.0.5 = ext 2001:db8::2 + 22',
    ])
    const alone = [peer('b', {}, { hosts, gateway: 'node-1' })]
    expect(wanted({ peers: alone, tunnelFamilies: [6] }).assertions).toEqual([])
  })

  it('are known with their port, and asked as they say', () => {
    const peers = [
      peer('b', { gateway: { address: '203.0.113.2', port: 2000 }, probe: { intervalSeconds: 60 } }),
      peer('c', { probe: { mode: 'Disabled' } }, { addresses: ['2001:db8::3'] }),
    ]
    expect(wanted({ peers }).peers.map(one => ({ ...one, address: formatWords(one.address) }))).toEqual([
      { address: '203.0.113.2', port: 2000, probeS: 60 },
      { address: '2001:db8::3', port: 1045 },
    ])
  })

  it('one that is not accepted has no say', () => {
    const refused = peer('b', { domains: ['b.example'], inbound: { policy: 'Deny' } }, { hosts, gateway: 'node-1' })
    refused.status!.conditions![0]!.status = 'False'
    const all = wanted({ peers: [refused] })
    expect([all.assertions, all.peers, all.domains, all.policy.peers]).toEqual([[], [], [], []])
  })

  it('their domains go to the resolver, with the servers to ask', () => {
    const peers = [peer('b', { domains: ['b.example', 'c.example'], dnsServers: ['203.0.113.53'] })]
    expect(wanted({ peers }).domains).toEqual([
      { name: 'b.example', servers: ['203.0.113.53'], by: 'IprefPeer b' },
      { name: 'c.example', servers: ['203.0.113.53'], by: 'IprefPeer b' },
    ])
  })
})

describe('inbound policy', () => {
  const shown = ({ policy }: ReturnType<typeof wanted>) =>
    policy.peers.map(({ context, rule }) => [
      formatWords(context),
      rule.allow,
      rule.except.map(words => Number(referenceFromWords(words))),
    ])

  it('without a word the settings of the platform hold', () => {
    const all = wanted({ peers: [peer('b', {})], network: network({ inbound: 'deny' }) })
    expect(all.policy).toEqual({ others: { allow: false, except: [] }, peers: [] })
  })

  it('exceptions are references, and those of the services that match, in their namespace', () => {
    const services = [
      service('web', [{ reference: '11' }, { slot: 1, reference: '12' }], { app: 'web' }),
      service('db', [{ reference: '13' }], { app: 'db' }),
    ]
    const elsewhere = service('web', [{ reference: '14' }], { app: 'web' })
    elsewhere.metadata.namespace = 'other'
    const except = [{ reference: '99' }, { services: { namespace: 'shop', selector: { matchLabels: { app: 'web' } } } }]
    const peers = [
      peer('b', { inbound: { policy: 'Deny', except } }, { addresses: ['203.0.113.2', '2001:db8::2'] }),
      peer('c', { inbound: { policy: 'Allow' } }, { addresses: ['203.0.113.3'] }),
    ]
    expect(shown(wanted({ services: [...services, elsewhere], peers }))).toEqual([
      ['203.0.113.2', false, [99, 11, 12]],
      ['2001:db8::2', false, [99, 11, 12]],
      ['203.0.113.3', true, []],
    ])
  })
})
