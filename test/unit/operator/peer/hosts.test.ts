import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAddress, parsePrefix, prefixContains } from '../../../../ipref/address.ts'
import { isStaticEncoded } from '../../../../ipref/lifetimes.ts'
import { staticPart } from '../../../../operator/gateway/slices.ts'
import { type Host, type HostsInput, hostsOf } from '../../../../operator/peer/hosts.ts'
import type { IprefPeer } from '../../../../resources/kinds.ts'
import { peer } from '../../../support/operatorObjects.ts'

const NETWORKS = ['10.176.0.0/12', 'fd76::/64']

/** Hosts `NAME` or `NAME=REFERENCE`, and what they have already. */
function peerWith(name: string, hosts: string[], have: Record<string, string> = {}): IprefPeer {
  const spec = {
    hosts: hosts.map((text, i) => ({ name: text.split('=')[0]!, reference: text.split('=')[1] ?? String(i + 11) })),
  }
  const rows = Object.entries(have).map(([host, encodedAddress]) => ({
    ...{ name: host, reference: '11', encodedAddress },
    dnsName: `${host}.${name}.peers.in.example.com`,
  }))
  const object = peer(spec, { name })
  return rows.length > 0 ? { ...object, status: { observedGeneration: 1, hosts: rows } } : object
}

const find = (object: IprefPeer, more: Partial<HostsInput> = {}) =>
  hostsOf({ object, encodingNetworks: NETWORKS, internalZone: 'in.example.com', others: [], ...more })
const addressesOf = (hosts: readonly Host[]) => hosts.map(({ name, encodedAddress }) => `${name} ${encodedAddress}`)

describe('hosts of a peer', () => {
  it('have one static address in each encoding network, and a name', () => {
    const { hosts } = find(peerWith('lab', ['db=2466']))
    expect(hosts.map(({ name, reference, dnsName }) => [name, reference, dnsName])).toEqual([
      ['db', '2466', 'db.lab.peers.in.example.com'],
      ['db', '2466', 'db.lab.peers.in.example.com'],
    ])
    for (const [i, { encodedAddress }] of hosts.entries()) {
      const address = parseAddress(encodedAddress)!
      expect(prefixContains(staticPart(parsePrefix(NETWORKS[i]!)!), address) && isStaticEncoded(address)).toBe(true)
    }
  })

  it('keep what they have, also under another reference, and when others come before them', () => {
    const have = { db: '10.176.3.77' }
    const { hosts } = find(peerWith('lab', ['a', 'b', 'db=99'], have), { encodingNetworks: ['10.176.0.0/12'] })
    expect(hosts[2]).toMatchObject({ name: 'db', reference: '99', encodedAddress: '10.176.3.77' })
  })

  it('find the same again when the peer is made again', () => {
    const first = find(peerWith('lab', ['a', 'b', 'c'])).hosts
    expect(
      find(peerWith('lab', ['c', 'a', 'b']))
        .hosts.map(addressOf)
        .sort(),
    ).toEqual(first.map(addressOf).sort())
    function addressOf({ name, encodedAddress }: Host) {
      return `${name} ${encodedAddress}`
    }
  })

  it.each([
    ['outside the network', '10.99.0.7'],
    ['in a slice', '10.177.0.7'],
    ['that is not static', '10.176.16.7'],
  ])('an address %s is not kept', (_name, address) => {
    const { hosts } = find(peerWith('lab', ['db'], { db: address }), { encodingNetworks: ['10.176.0.0/12'] })
    expect(hosts[0]!.encodedAddress).toMatch(/^10\.176\.(\d|1[0-5])\.\d+$/)
  })

  it('of an older peer keep an address that both have; a younger one is told when it looks again', () => {
    const ours = peerWith('lab', ['db'], { db: '10.176.3.77' })
    const theirs = peerWith('other', ['x'], { x: '10.176.3.77' })
    const network = { encodingNetworks: ['10.176.0.0/12'] }
    expect(addressesOf(find(ours, { ...network, others: [{ peer: theirs, isOlder: false }] }).hosts)).toEqual([
      'db 10.176.3.77',
    ])
    expect(addressesOf(find(ours, { ...network, others: [{ peer: theirs, isOlder: true }] }).hosts)).not.toContain(
      'db 10.176.3.77',
    )
  })

  it('that are new take nothing that a younger peer has', () => {
    const network = { encodingNetworks: ['10.176.0.0/12'] }
    const [first] = find(peerWith('lab', ['db']), network).hosts
    const theirs = peerWith('other', ['x'], { x: first!.encodedAddress })
    const [second] = find(peerWith('lab', ['db']), { ...network, others: [{ peer: theirs, isOlder: false }] }).hosts
    expect(second!.encodedAddress).not.toBe(first!.encodedAddress)
  })

  it('whose name would be too long are refused by it', () => {
    const zone = `${'x'.repeat(60)}.${'y'.repeat(60)}.${'z'.repeat(60)}.example.com`
    const { hosts, problem } = find(peerWith('lab', ['short', 'h'.repeat(63)]), { internalZone: zone })
    expect([hosts, problem?.reason]).toEqual([[], 'NameTooLong'])
  })

  it('that find no address are refused by the network', () => {
    const names = Array.from({ length: 254 }, (_, i) => `h${i}`)
    const { hosts, problem } = find(peerWith('lab', names), { encodingNetworks: ['10.176.0.0/22'] })
    expect([hosts.length, problem?.reason]).toEqual([253, 'NoEncodedAddressLeft'])
    expect(problem!.message).toContain('10.176.0.0/22')
  })

  it.each([
    ['10.176.0.0/26', 13],
    ['10.176.0.0/29', 0],
    ['10.176.8.0/22', 253],
    ['10.176.32.0/20', 0],
  ])('in the small network %s find %i places, all static and inside', (network, places) => {
    const names = Array.from({ length: 256 }, (_, i) => `h${i}`)
    const { hosts, problem } = find(peerWith('lab', names), { encodingNetworks: [network] })
    expect([hosts.length, problem?.reason]).toEqual([places, 'NoEncodedAddressLeft'])
    for (const { encodedAddress } of hosts) {
      const address = parseAddress(encodedAddress)!
      expect(prefixContains(staticPart(parsePrefix(network)!), address) && isStaticEncoded(address)).toBe(true)
    }
  })

  it('never two have one address, and who stays keeps its own, whoever comes and goes', () => {
    const names = ['lab', 'hq', 'far']
    const step = fc.record({
      peer: fc.constantFrom(...names),
      hosts: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 4 }),
    })
    // a network so small that they meet all the time
    const encodingNetworks = ['10.176.0.0/27']
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        const peers = new Map<string, IprefPeer>()
        for (const { peer: name, hosts } of steps) {
          const before = peers.get(name)?.status?.hosts ?? []
          const object = { ...peerWith(name, hosts), status: { observedGeneration: 1, hosts: before } }
          const others = names.flatMap(other => {
            const one = peers.get(other)
            return one && other !== name ? [{ peer: one, isOlder: other < name }] : []
          })
          const found = find(object, { encodingNetworks, others })
          peers.set(name, { ...object, status: { observedGeneration: 1, hosts: found.hosts } })
          const all = [...peers.values()].flatMap(({ status }) =>
            status!.hosts!.map(({ encodedAddress }) => encodedAddress),
          )
          expect(new Set(all).size).toBe(all.length)
          for (const { name: host, encodedAddress } of before)
            if (found.hosts.some(one => one.name === host))
              expect(addressesOf(found.hosts)).toContain(`${host} ${encodedAddress}`)
        }
      }),
    )
  })
})
