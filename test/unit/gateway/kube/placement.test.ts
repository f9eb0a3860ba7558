import { describe, expect, it } from 'vitest'
import { isForbidden, refusalOf } from '../../../../gateway/kube/network.ts'
import { carrierOf, isCandidate, placementOf, standbysOf } from '../../../../gateway/kube/placement.ts'
import { parseAddress, parsePrefix } from '../../../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../../../resources/network.ts'
import { network } from '../../../support/clusterBuilders.ts'

const gateway = (name: string, n: number, more: Partial<NetworkGateway> = {}): NetworkGateway => ({
  name,
  nodeName: name,
  nodeAddresses: [`10.0.0.${n}`],
  slices: [`10.177.${n}.0/24`],
  publicAddresses: [],
  publish: true,
  ...more,
})
const abc = [gateway('a', 1), gateway('b', 2), gateway('c', 3)]
const place = (name: string, more: Partial<Network>, holder?: string, isRefused = false) => {
  const { above, ...rest } = placementOf({ network: network({ gateways: abc, ...more }), name, isRefused, holder })
  return { ...rest, above: above.map(one => one.name) }
}
const slices = abc.flatMap(one => one.slices)

describe('a gateway for each node', () => {
  it('carries its own slices', () => {
    expect(place('b', {})).toEqual({
      role: 'own',
      pools: ['10.177.2.0/24'],
      allocates: true,
      active: undefined,
      above: [],
    })
  })

  it('without a slice hands names to those that have one, each node beginning with another', () => {
    const placements = ['x', 'y', 'z'].map(name => place(name, {}))
    for (const one of placements) expect(one).toMatchObject({ role: 'none', pools: [], allocates: false })
    expect(new Set(placements.map(one => one.above[0])).size).toBe(3)
    const gateways = [gateway('a', 1, { slices: [] }), gateway('b', 2)]
    expect(place('a', { gateways }).above).toEqual(['b'])
  })
})

describe('a single uplink', () => {
  const single = { uplink: 'single' } as const

  it('the holder of the Lease gives addresses of all slices', () => {
    expect(place('b', single, 'b')).toEqual({ role: 'active', pools: slices, allocates: true, active: 'b', above: [] })
  })

  it('others keep them, give none, and hand names and packets to it', () => {
    expect(place('a', single, 'b')).toEqual({
      role: 'other',
      pools: slices,
      allocates: false,
      active: 'b',
      above: ['b'],
    })
    expect(place('x', single, 'b')).toEqual({ role: 'other', pools: [], allocates: false, active: 'b', above: ['b'] })
  })

  it('while nobody is known to hold it, nobody gives any', () => {
    for (const holder of [undefined, 'gone'])
      expect(place('a', single, holder)).toMatchObject({
        role: 'other',
        allocates: false,
        active: undefined,
        above: [],
      })
  })

  it('those that are published and may work may hold it; the standby is the next by name', () => {
    const problem = { reason: 'SliceConflict', message: '' }
    const gateways = [...abc, gateway('d', 4, { publish: false }), gateway('e', 5, { problem })]
    const all = network({ ...single, gateways })
    expect(gateways.filter(one => isCandidate(all, one.name)).map(one => one.name)).toEqual(['a', 'b', 'c'])
    expect(standbysOf(all, 'b').map(one => one.name)).toEqual(['c', 'a'])
    expect(isCandidate(network({ gateways }), 'a')).toBe(false)
  })
})

describe('who carries an encoded address', () => {
  const carrier = (more: Partial<Network>, address: string, holder?: string) => {
    const all = network({ gateways: abc, ...more })
    const placement = placementOf({ network: all, name: 'a', isRefused: false, holder })
    return carrierOf(parseAddress(address)!, { network: all, name: 'a', placement })
  }

  it('the gateway of the slice, or the active one; this one is not named', () => {
    expect(['10.177.1.9', '10.177.2.9', '10.190.0.1'].map(text => carrier({}, text))).toEqual([
      undefined,
      'b',
      undefined,
    ])
    const single = { uplink: 'single' } as const
    expect([
      carrier(single, '10.177.1.9', 'b'),
      carrier(single, '10.177.2.9', 'a'),
      carrier(single, '10.177.2.9'),
    ]).toEqual(['b', undefined, undefined])
  })
})

describe('what keeps a gateway from work', () => {
  const settings = { encodingNetworks: [parsePrefix('10.176.0.0/12')!] }
  const problem = { reason: 'EncodingNetworkOverlap', message: 'it contains 10.180.0.1' }

  it.each<[string, Partial<Network>, NetworkGateway | undefined, string | undefined, boolean]>([
    ['nothing', {}, abc[0], undefined, false],
    ['an overlap', { problem }, abc[0], 'EncodingNetworkOverlap', true],
    ['another encoding network', { encodingNetworks: ['10.192.0.0/12'] }, abc[0], 'EncodingNetworkMismatch', true],
    ['no IprefGateway', {}, undefined, 'NotAGateway', false],
    ['no slice', {}, gateway('a', 1, { problem: { reason: 'NoSliceLeft', message: '' } }), 'NoSliceLeft', false],
  ])('%s', (_what, more, self, reason, isNothingInForce) => {
    const refusal = refusalOf(network(more), self, settings)
    expect([refusal?.reason, isForbidden(refusal)]).toEqual([reason, isNothingInForce])
  })

  it('where nothing may be in force, there is no pool and nobody is asked', () => {
    expect(place('a', { uplink: 'single' }, 'a', true)).toEqual({
      role: 'none',
      pools: [],
      allocates: false,
      active: undefined,
      above: [],
    })
  })
})
