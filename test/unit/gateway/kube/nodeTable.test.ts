import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { desire } from '../../../../gateway/kube/nodeDesired.ts'
import { countersOf, listedEncoding, normalizeListing, renderTable } from '../../../../gateway/kube/nodeTable.ts'
import { hardwareAddressOf, linkLocalOf } from '../../../../gateway/kube/vxlan.ts'
import { around, wanted } from './nodeBuilders.ts'

const { table } = desire(wanted({ encodingNetworks: ['10.176.0.0/12', 'fd24::/64'] }), around())
const lines = renderTable(table)
  .split('\n')
  .map(line => line.trim())

describe('the nftables table of a node', () => {
  it.each([
    'ip saddr @encoding iifname != @carriers counter name forged drop',
    'ip6 saddr @encoding6 iifname != @carriers counter name forged drop',
    'type nat hook postrouting priority 90; policy accept;',
    'ip daddr @encoding snat ip to ip saddr',
    'ip saddr @encoding snat ip to ip saddr',
    'ip6 daddr @encoding6 snat ip6 to ip6 saddr',
    'ip6 saddr @encoding6 snat ip6 to ip6 saddr',
    'tcp dport 1048 ip saddr @inside ip saddr != @nodes ip daddr @nodes counter name inside drop',
    'tcp dport 1048 ip6 saddr @inside6 ip6 saddr != @nodes6 counter name inside drop',
    'set encoding { type ipv4_addr; flags interval; auto-merge; elements = { 10.176.0.0/12 }; }',
    'set nodes { type ipv4_addr; flags interval; auto-merge; elements = { 172.18.0.2, 172.19.0.3 }; }',
    'set nodes6 { type ipv6_addr; flags interval; auto-merge; }',
  ])('%s', line => {
    expect(lines).toContain(line)
  })

  it('comes before others, and is put in force as a whole', () => {
    expect(lines.slice(0, 2)).toEqual(['table inet ipref_node {}', 'delete table inet ipref_node'])
  })

  const nft = spawnSync('nft', ['--version']).status === 0
  it.skipIf(!nft)('is understood by nft, if nft is here', () => {
    const { status, stderr } = spawnSync('nft', ['-c', '-f', '-'], { input: renderTable(table), encoding: 'utf8' })
    // without the right to look at tables nft checks nothing
    if (/Operation not permitted/.test(stderr)) return
    expect(stderr).toBe('')
    expect(status).toBe(0)
  })
})

describe('listings', () => {
  const listing = (packets: number, elem: unknown[] = [{ prefix: { addr: '10.176.0.0', len: 12 } }]) => ({
    nftables: [
      { metainfo: { version: '1.0.6' } },
      { table: { family: 'inet', name: 'ipref_node', handle: packets } },
      { counter: { name: 'forged', packets, bytes: packets * 40 } },
      { set: { name: 'encoding', handle: 3, elem } },
      { set: { name: 'encoding6', handle: 4 } },
    ],
  })

  it('are the same whatever was counted, and differ by an element', () => {
    expect(normalizeListing(listing(1))).toBe(normalizeListing(listing(99)))
    expect(normalizeListing(listing(1))).not.toBe(normalizeListing(listing(1, [])))
  })

  it('tell the encoding networks, single addresses too', () => {
    expect(listedEncoding(listing(0))).toBe('10.176.0.0/12')
    expect(listedEncoding(listing(0, ['10.1.1.1', { prefix: { addr: '10.0.0.0', len: 9 } }]))).toBe(
      '10.0.0.0/9 10.1.1.1/32',
    )
  })

  it.each([undefined, { nftables: [{ metainfo: {} }] }])('no table is undefined', nothing => {
    expect(normalizeListing(nothing)).toBeUndefined()
    expect(listedEncoding(nothing)).toBeUndefined()
  })

  it('count', () => {
    expect(countersOf(listing(7))).toMatchObject({ forged: 7, inside: 0 })
  })
})

describe('addresses that follow from the address of a node', () => {
  it.each([
    ['172.18.0.2', '02:49:ac:12:00:02', 'fe80::49:acff:fe12:2'],
    ['10.0.0.255', '02:49:0a:00:00:ff', 'fe80::49:aff:fe00:ff'],
  ])('%s', (node, hardware, linkLocal) => {
    expect(hardwareAddressOf(node)).toBe(hardware)
    expect(linkLocalOf(hardware)).toBe(linkLocal)
  })

  it('of IPv6 by a hash: given by hand, for one machine, and never the same for two here', () => {
    const all = Array.from({ length: 1000 }, (_, i) => hardwareAddressOf(`fd18::${(i + 1).toString(16)}`))
    expect(new Set(all).size).toBe(1000)
    expect(all.every(one => one.startsWith('02:'))).toBe(true)
  })
})
