import { describe, expect, it } from 'vitest'
import { droppedBy, droppingChains, type Sample } from '../../../../gateway/kube/nodeForward.ts'

const CHAIN = { family: 'ip', table: 'filter', name: 'FORWARD' }
const IN: Sample = {
  name: 'in',
  source: '10.176.0.0',
  destination: '10.244.0.0',
  incoming: 'ipref0',
  outgoing: undefined,
}
const OUT: Sample = {
  name: 'out',
  source: '10.244.0.0',
  destination: '10.176.0.0',
  incoming: undefined,
  outgoing: 'ipref0',
}

const match = (left: object, right: unknown, op = '==') => ({ match: { op, left, right } })
const address = (field: 'saddr' | 'daddr', right: unknown, op?: string) =>
  match({ payload: { protocol: 'ip', field } }, right, op)
const prefix = (addr: string, len: number) => ({ prefix: { addr, len } })
const device = (key: 'iifname' | 'oifname', name: string, op?: string) => match({ meta: { key } }, name, op)
const state = (...states: string[]) => match({ ct: { key: 'state' } }, states, 'in')
const mark = (value: number) => match({ '&': [{ meta: { key: 'mark' } }, value] }, value)
const COUNTER = { counter: { packets: 0, bytes: 0 } }
const ACCEPT = { accept: null }
const DROP = { drop: null }

/** Chains as `chain: rules`, each rule its expressions. */
function listing(chains: Record<string, object[][]>): unknown {
  const rules = Object.entries(chains).flatMap(([chain, list]) =>
    list.map(expr => ({ rule: { family: 'ip', table: 'filter', chain, expr } })),
  )
  return { nftables: [{ metainfo: {} }, ...rules] }
}

const dropped = (chains: Record<string, object[][]>, chain = CHAIN) =>
  droppedBy(chain, listing(chains), [IN, OUT]).map(sample => sample.name)

describe('a chain whose policy is drop', () => {
  const rows: { name: string; chains: Record<string, object[][]>; drops: string[] }[] = [
    { name: 'without rules drops both', chains: {}, drops: ['in', 'out'] },
    { name: 'with an accept of everything drops none', chains: { FORWARD: [[COUNTER, ACCEPT]] }, drops: [] },
    {
      name: "with a CNI's accept of pods drops none",
      chains: {
        FORWARD: [[COUNTER, { jump: { target: 'FLANNEL-FWD' } }]],
        'FLANNEL-FWD': [
          [address('saddr', prefix('10.244.0.0', 16)), COUNTER, ACCEPT],
          [address('daddr', prefix('10.244.0.0', 16)), COUNTER, ACCEPT],
        ],
      },
      drops: [],
    },
    {
      name: 'with an accept of one direction drops the other',
      chains: { FORWARD: [[address('saddr', prefix('10.244.0.0', 16)), ACCEPT]] },
      drops: ['in'],
    },
    {
      name: "is not opened by kube-proxy's accepts of marked and of known connections",
      chains: {
        FORWARD: [
          [mark(0x4000), ACCEPT],
          [state('related', 'established'), ACCEPT],
        ],
      },
      drops: ['in', 'out'],
    },
    {
      name: 'knows the device a packet comes from, and not by which it leaves',
      chains: { FORWARD: [[device('iifname', 'ipref*'), ACCEPT]] },
      drops: [],
    },
    {
      name: 'other networks do not matter',
      chains: { FORWARD: [[address('saddr', prefix('10.0.0.0', 16)), ACCEPT]] },
      drops: ['in', 'out'],
    },
    {
      name: 'a drop before the accept counts',
      chains: { FORWARD: [[address('daddr', prefix('10.176.0.0', 12)), DROP], [ACCEPT]] },
      drops: ['out'],
    },
    {
      name: 'a return leaves the chain it is in, and no other',
      chains: { FORWARD: [[{ jump: { target: 'USER' } }], [ACCEPT]], USER: [[{ return: null }], [DROP]] },
      drops: [],
    },
    {
      name: 'an accept that may match leaves it open',
      chains: { FORWARD: [[match({ meta: { key: 'skuid' } }, 0), ACCEPT]] },
      drops: [],
    },
    { name: 'what only iptables knows leaves it open', chains: { FORWARD: [[{ xt: null }]] }, drops: [] },
    {
      name: 'not this source',
      chains: { FORWARD: [[address('saddr', prefix('10.244.0.0', 16), '!='), ACCEPT]] },
      drops: ['out'],
    },
    {
      name: 'chains that jump in a circle come to an end',
      chains: { FORWARD: [[{ jump: { target: 'FORWARD' } }]] },
      drops: [],
    },
  ]
  it.each(rows)('$name', ({ chains, drops }) => {
    expect(dropped(chains)).toEqual(drops)
  })

  it('of IPv6 does not concern IPv4', () => {
    expect(dropped({}, { ...CHAIN, family: 'ip6' })).toEqual([])
    expect(dropped({}, { ...CHAIN, family: 'inet' })).toEqual(['in', 'out'])
  })
})

describe('chains that matter', () => {
  const chain = (change: object) => ({
    chain: { ...CHAIN, type: 'filter', hook: 'forward', policy: 'drop', ...change },
  })
  it.each([
    ['policy accept', { policy: 'accept' }],
    ['another hook', { hook: 'input' }],
    ['another type', { type: 'nat' }],
    ['another family', { family: 'bridge' }],
    ['our own table', { table: 'ipref_node' }],
  ])('not: %s', (_name, change) => {
    expect(droppingChains({ nftables: [chain(change)] })).toEqual([])
  })

  it('filter, forward, drop; nothing listed is none', () => {
    expect(droppingChains({ nftables: [{ metainfo: {} }, chain({})] })).toEqual([CHAIN])
    expect(droppingChains(undefined)).toEqual([])
  })
})
