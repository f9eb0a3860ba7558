import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { HostFilter, renderFilter } from '../../../gateway/hostFilter.ts'
import type { PortRange } from '../../../gateway/mapper/assertions.ts'

const tcp = (first: number, last = first): PortRange => ({ protocol: 'tcp', first, last })
const settings = { tun: 'ipref0', own: ['10.240.0.1', 'fd00::1'] }

function filterOf() {
  const scripts: string[] = []
  let broken = false
  const filter = new HostFilter(
    {
      nft: async script => {
        if (broken && !script.includes('chain from_tunnel')) throw new Error('no such element')
        scripts.push(script)
      },
      nftList: async () => undefined,
    },
    settings,
  )
  return { filter, scripts, breakChanges: () => (broken = true) }
}

describe('host filter', () => {
  it('opens a host with all ports, or with those that it is published with, joined where they meet', async () => {
    const { filter, scripts } = filterOf()
    await filter.install([])
    const udp: PortRange = { protocol: 'udp', first: 53, last: 53 }
    await filter.change(
      [{ address: '10.1.0.1' }, { address: 'fd01::2', ports: [tcp(81, 90), tcp(80), udp, tcp(85)] }],
      [],
    )
    expect(scripts[1]!.trim().split('\n')).toEqual([
      'add element inet ipref_ipref0 published4 { 10.1.0.1 }',
      'add element inet ipref_ipref0 limited6 { fd01::2 }',
      'add element inet ipref_ipref0 ports6 { fd01::2 . 6 . 80-90, fd01::2 . 17 . 53 }',
    ])
  })

  it('takes other ports of a host in one transaction', async () => {
    const { filter, scripts } = filterOf()
    await filter.install([{ address: '10.1.0.1', ports: [tcp(80)] }])
    await filter.change([{ address: '10.1.0.1', ports: [tcp(443)] }], [])
    await filter.change([{ address: '10.1.0.1' }], [])
    await filter.change([], ['10.1.0.1'])
    expect(scripts.slice(1).map(script => script.trim().split('\n'))).toEqual([
      [
        'delete element inet ipref_ipref0 limited4 { 10.1.0.1 }',
        'delete element inet ipref_ipref0 ports4 { 10.1.0.1 . 6 . 80 }',
        'add element inet ipref_ipref0 limited4 { 10.1.0.1 }',
        'add element inet ipref_ipref0 ports4 { 10.1.0.1 . 6 . 443 }',
      ],
      [
        'delete element inet ipref_ipref0 limited4 { 10.1.0.1 }',
        'delete element inet ipref_ipref0 ports4 { 10.1.0.1 . 6 . 443 }',
        'add element inet ipref_ipref0 published4 { 10.1.0.1 }',
      ],
      ['delete element inet ipref_ipref0 published4 { 10.1.0.1 }'],
    ])
  })

  it('puts the whole table in force anew when a change is refused', async () => {
    const { filter, scripts, breakChanges } = filterOf()
    await filter.install([{ address: '10.1.0.1' }])
    breakChanges()
    await filter.change([{ address: '10.1.0.2', ports: [tcp(80)] }], ['10.1.0.1'])
    const published = new Map([['10.1.0.2', [tcp(80)]]])
    expect(scripts.at(-1)).toBe(renderFilter(settings, published))
  })

  const isolated = ['-n', 'nft', '-c', '-f', '-']
  const check = (script: string) => spawnSync('unshare', isolated, { input: script, encoding: 'utf8' })
  const isUsable = check('table inet x {}\n').status === 0

  it.skipIf(!isUsable)('is a script that nftables takes (needs root and nft)', () => {
    const published = new Map<string, PortRange[] | undefined>([
      ['10.1.0.1', undefined],
      ['10.1.0.2', [tcp(80, 90), { protocol: 'udp', first: 1, last: 65535 }]],
      ['fd01::3', [{ protocol: 'sctp', first: 5, last: 5 }]],
      ['fd01::4', undefined],
    ])
    const { status, stderr } = check(renderFilter(settings, published))
    expect(stderr).toBe('')
    expect(status).toBe(0)
  })
})
