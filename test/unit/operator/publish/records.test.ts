import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAaRecord } from '../../../../ipref/aaRecord.ts'
import { formatAddress } from '../../../../ipref/address.ts'
import { formatReference } from '../../../../ipref/reference.ts'
import {
  MOST_AA,
  publicGateways,
  type RecordSet,
  recordsOfPeer,
  recordsOfService,
  recordsOnceOf,
} from '../../../../operator/publish/records.ts'
import type { ServiceMapping } from '../../../../resources/kinds.ts'
import { isAtOrBelow } from '../../../../resources/names.ts'
import { at, configOf, gateway, mapping, peer, service } from './builders.ts'

const config = configOf()
const gateways = [at('198.51.100.1', '2001:db8::1')]
const lines = (sets: readonly RecordSet[]) =>
  sets.flatMap(({ name, type, ttl, values }) => values.map(value => `${name} ${ttl} ${type} ${value}`))

describe('records of an IprefService', () => {
  it('are its native addresses inside and one AA string for each reference at each gateway address outside', () => {
    const mappings = [mapping(), mapping({ family: 'IPv6', address: '2001:db8:1::5', reference: '8a3f-0-13' })]
    const { internal, public: outside } = recordsOfService(service({ mappings }), config, gateways)
    expect(lines(internal)).toEqual([
      'web.shop.internal.example.com 60 A 10.1.2.3',
      'web.shop.internal.example.com 60 AAAA 2001:db8:1::5',
    ])
    expect(lines(outside)).toEqual([
      'web.shop.example.com 60 TXT AA 198.51.100.1 + 8a3f-0-12',
      'web.shop.example.com 60 TXT AA 2001:db8::1 + 8a3f-0-12',
      'web.shop.example.com 60 TXT AA 198.51.100.1 + 8a3f-0-13',
      'web.shop.example.com 60 TXT AA 2001:db8::1 + 8a3f-0-13',
    ])
  })

  it('have the TTL of the object', () => {
    const { internal } = recordsOfService(service({ spec: { ttlSeconds: 5 } }), config, gateways)
    expect(internal[0]!.ttl).toBe(5)
  })

  it('name members of StatefulSets too', () => {
    const mappings = [
      mapping({ member: 'db-0' }),
      mapping({ slot: 1, member: 'db-1', address: '10.1.2.4', reference: '8a3f-0-14' }),
    ]
    const { internal, public: outside } = recordsOfService(service({ mappings }), config, [at('198.51.100.1')])
    expect(lines(internal)).toEqual([
      'web.shop.internal.example.com 60 A 10.1.2.3',
      'web.shop.internal.example.com 60 A 10.1.2.4',
      'db-0.web.shop.internal.example.com 60 A 10.1.2.3',
      'db-1.web.shop.internal.example.com 60 A 10.1.2.4',
    ])
    expect(lines(outside.slice(1))).toEqual([
      'db-0.web.shop.example.com 60 TXT AA 198.51.100.1 + 8a3f-0-12',
      'db-1.web.shop.example.com 60 TXT AA 198.51.100.1 + 8a3f-0-14',
    ])
  })

  const nothing = { internal: [], public: [], leftOut: 0 }
  it.each([
    ['is not accepted', service({ isAccepted: false })],
    ['is being deleted', service({ deletedAt: '2026-01-02T00:00:00Z' })],
    ['has no mappings', service({ mappings: [] })],
    ['is in the namespace peers', service({ namespace: 'peers' })],
  ])('are none when it %s', (_, object) => {
    expect(recordsOfService(object, config, gateways)).toEqual(nothing)
  })

  it.each([
    ['it asks for another now', service({ spec: { hostname: 'other' } })],
    [
      'its status was written by somebody else',
      service({ status: { publicName: 'www.example.com', internalName: 'x.internal.example.com' } }),
    ],
    [
      'the grant was taken away',
      service({
        spec: { publicName: 'www.example.com', internalName: 'w.internal.example.com' },
        status: { publicName: 'www.example.com', internalName: 'w.internal.example.com' },
      }),
    ],
  ])('are none under a name of the status when %s', (_, object) => {
    expect(recordsOfService(object, config, gateways)).toEqual(nothing)
  })

  it('are under a granted name while it is granted', () => {
    const granting = configOf('grants: [{namespace: shop, names: [www.example.com]}]')
    const object = service({ spec: { publicName: 'www.example.com' }, status: { publicName: 'www.example.com' } })
    expect(recordsOfService(object, granting, gateways).public[0]!.name).toBe('www.example.com')
    expect(recordsOfService(object, config, gateways).public).toEqual([])
  })

  it('are none outside without a gateway that has an address', () => {
    const { internal, public: outside } = recordsOfService(service(), config, [])
    expect([internal.length, outside.length]).toEqual([1, 0])
  })

  it('leave the last references out where 64 strings are full, and none halfway', () => {
    const mappings = Array.from({ length: 50 }, (_, slot) =>
      mapping({ slot, address: `10.1.0.${slot}`, reference: `1-0-${slot + 100}` }),
    )
    const three = [at('198.51.100.1'), at('198.51.100.2'), at('198.51.100.3')]
    const { public: outside, leftOut } = recordsOfService(service({ mappings }), config, three)
    expect(outside[0]!.values).toHaveLength(63)
    expect(leftOut).toBe(29)
    for (const reference of new Set(outside[0]!.values.map(value => value.split(' + ')[1])))
      expect(outside[0]!.values.filter(value => value.endsWith(`+ ${reference}`))).toHaveLength(3)
  })

  it('were under the names of the status, also when the object may not have them any more', () => {
    const gone = service({
      deletedAt: '2026-01-02T00:00:00Z',
      status: { publicName: 'www.example.com' },
      mappings: [mapping({ member: 'db-0' })],
    })
    expect(recordsOnceOf(gone, config, gateways).public.map(({ name }) => name)).toEqual([
      'www.example.com',
      'db-0.www.example.com',
    ])
    expect(
      recordsOnceOf(gone, configOf('publicZone: example.net\ninternalZone: internal.example.com'), gateways).public,
    ).toEqual([])
  })

  const mappings = fc.uniqueArray(
    fc.record({
      slot: fc.nat(300),
      address: fc.oneof(
        fc.uint8Array({ minLength: 4, maxLength: 4 }).map(formatAddress),
        fc.uint8Array({ minLength: 16, maxLength: 16 }).map(formatAddress),
      ),
      reference: fc.bigInt({ min: 256n, max: (1n << 64n) - 1n }).map(formatReference),
      member: fc.option(fc.constantFrom('db-0', 'db-1', '-bad', 'x'.repeat(63)), { nil: undefined }),
    }),
    { selector: ({ reference }) => reference, maxLength: 40 },
  )
  const toMappings = (given: { slot: number; address: string; reference: string; member: string | undefined }[]) =>
    given.map(
      ({ member, ...one }): ServiceMapping => ({
        ...one,
        family: one.address.includes(':') ? 'IPv6' : 'IPv4',
        ...(member === undefined ? {} : { member }),
      }),
    )
  const addresses = fc.array(fc.uint8Array({ minLength: 4, maxLength: 4 }).map(formatAddress), {
    minLength: 1,
    maxLength: 4,
  })

  it('equal the status: every address inside, every reference that has room outside, nothing else', () => {
    fc.assert(
      fc.property(mappings, addresses, fc.constantFrom('shop', 'other'), (given, contexts, namespace) => {
        const object = service({ namespace, mappings: toMappings(given) })
        const records = recordsOfService(object, config, [at(...contexts)])
        const inside = records.internal.filter(({ name }) => name === object.status!.internalName)
        expect(new Set(inside.flatMap(({ values }) => values))).toEqual(new Set(given.map(({ address }) => address)))
        const outside = records.public.find(({ name }) => name === object.status!.publicName)
        const read = (outside?.values ?? []).map(value => parseAaRecord(value))
        for (const record of read) {
          if (typeof record !== 'object' || !('context' in record)) throw new Error(String(record))
          expect(contexts).toContain(formatAddress(record.context))
          expect(given.map(({ reference }) => reference)).toContain(formatReference(record.reference))
        }
        expect(read.length).toBe((given.length - records.leftOut) * new Set(contexts).size)
        expect(read.length).toBeLessThanOrEqual(MOST_AA)
        for (const set of [...records.internal, ...records.public]) {
          const zone = set.type === 'TXT' ? 'example.com' : 'internal.example.com'
          expect(isAtOrBelow(set.name, `${namespace}.${zone}`)).toBe(true)
          expect(new Set(set.values).size).toBe(set.values.length)
        }
      }),
    )
  })

  it('do not depend on the order of mappings', () => {
    fc.assert(
      fc.property(
        mappings.filter(all => new Set(all.map(one => one.slot)).size === all.length),
        addresses,
        (given, contexts) => {
          const of = (all: ServiceMapping[]) => recordsOfService(service({ mappings: all }), config, [at(...contexts)])
          expect(of(toMappings([...given].reverse()))).toEqual(of(toMappings(given)))
        },
      ),
    )
  })

  it('are only under names that the namespace may have, whatever the status says', () => {
    const labels = fc.constantFrom('web', 'shop', 'peers', 'www', 'internal', 'db-0', 'other')
    const names = fc.array(labels, { minLength: 1, maxLength: 4 }).map(all => `${all.join('.')}.example.com`)
    fc.assert(
      fc.property(names, names, labels, (internalName, publicName, namespace) => {
        const object = service({
          namespace,
          spec: { internalName, publicName },
          status: { internalName, publicName },
          mappings: [mapping({ member: 'db-0' })],
        })
        const records = recordsOfService(object, config, gateways)
        const zones = { internal: 'internal.example.com', public: 'example.com' }
        for (const kind of ['internal', 'public'] as const)
          for (const { name } of records[kind]) {
            expect(isAtOrBelow(name, `${namespace}.${zones[kind]}`)).toBe(true)
            expect(namespace).not.toBe('peers')
          }
      }),
    )
  })
})

describe('gateways that AA records name', () => {
  const addressesOf = ({ spec }: ReturnType<typeof gateway>) => spec.publicAddresses ?? []
  it('are the first four that are to be published and whose address is known', () => {
    const all = [5, 3, 1, 2, 4, 0].map(i =>
      gateway(`node-${i}`, { publicAddresses: i === 0 ? [] : [`198.51.100.${i}`] }),
    )
    all.push(gateway('a-hidden', { publish: false, publicAddresses: ['198.51.100.9'] }))
    expect(publicGateways(all, addressesOf).map(({ name }) => name)).toEqual(['node-1', 'node-2', 'node-3', 'node-4'])
  })

  it('have IPv4 addresses first, in canonical text, and none that is no address', () => {
    const one = gateway('node-1', { publicAddresses: ['2001:DB8:0::1', '198.51.100.1', 'gw'] })
    expect(publicGateways([one], addressesOf)).toEqual([{ name: 'node-1', addresses: ['198.51.100.1', '2001:db8::1'] }])
  })
})

describe('records of an IprefPeer', () => {
  const host = (name: string, encodedAddress: string, dnsName = `${name}.hq.peers.internal.example.com`) => ({
    name,
    reference: '1-0-1',
    encodedAddress,
    dnsName,
  })
  it('are encoded addresses in the internal zone', () => {
    const hosts = [host('printer', '10.176.0.9'), host('printer', '2001:db8:9::9')]
    expect(lines(recordsOfPeer(peer('hq', hosts), config).internal)).toEqual([
      'printer.hq.peers.internal.example.com 60 A 10.176.0.9',
      'printer.hq.peers.internal.example.com 60 AAAA 2001:db8:9::9',
    ])
  })

  it('are under no other name', () => {
    const hosts = [host('printer', '10.176.0.9', 'web.shop.internal.example.com')]
    expect(recordsOfPeer(peer('hq', hosts), config).internal).toEqual([])
  })
})
