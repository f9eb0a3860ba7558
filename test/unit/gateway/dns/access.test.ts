import { describe, expect, it } from 'vitest'
import { Access, AccessList, budgetKey, localPrefixes, NewNameBudget } from '../../../../gateway/dns/access.ts'
import { parseAddress, parsePrefix } from '../../../../ipref/address.ts'

const nameOf = (verdict: number) => Object.entries(Access).find(([, value]) => value === verdict)![0]

function judge(list: AccessList, text: string, second = 1): string {
  const address = parseAddress(text)!
  const bytes = new Uint8Array(40)
  bytes.set(address, 5)
  return nameOf(list.judge(bytes, 5, address.length, second))
}

describe('who may ask', () => {
  const standard = new AccessList(localPrefixes, 100)

  it.each([
    '127.0.0.1',
    '10.255.255.255',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '100.64.0.1',
    '169.254.1.1',
    '::1',
    'fd12:3456::1',
    'fe80::1',
  ])('%s, by default', text => {
    expect(judge(standard, text)).toBe('allowed')
  })

  it.each([
    '8.8.8.8',
    '172.32.0.1',
    '172.15.255.255',
    '100.128.0.1',
    '11.0.0.1',
    '0.0.0.0',
    '255.255.255.255',
    '::',
    '2001:db8::1',
    '::ffff:10.0.0.1',
    'fb00::1',
  ])('not %s, by default', text => expect(judge(standard, text)).toBe('refused'))

  it('only what is listed, where a list is given', () => {
    const list = new AccessList([parsePrefix('192.168.7.0/24')!], 0)
    expect(judge(list, '192.168.7.9')).toBe('allowed')
    expect(judge(list, '192.168.8.9')).toBe('refused')
    expect(judge(list, '10.0.0.1')).toBe('refused')
    expect(judge(list, '127.0.0.1')).toBe('refused')
  })

  it('one after the other: the memory of the last asker misleads nobody', () => {
    const list = new AccessList([parsePrefix('10.0.0.0/8')!], 0)
    for (let i = 0; i < 3; i++) {
      expect(judge(list, '10.0.0.1')).toBe('allowed')
      expect(judge(list, '11.0.0.1')).toBe('refused')
      expect(judge(list, '255.255.255.255')).toBe('refused')
    }
  })
})

describe('rate of answers', () => {
  const everybody = [parsePrefix('0.0.0.0/0')!, parsePrefix('::/0')!]

  it('is unlimited for local networks', () => {
    const list = new AccessList(everybody, 5)
    for (let i = 0; i < 100; i++) expect(judge(list, '10.0.0.1')).toBe('allowed')
  })

  it('is limited for each network outside; beyond, every second answer is cut and the others are left out', () => {
    const list = new AccessList(everybody, 5)
    const verdicts = Array.from({ length: 9 }, (_, i) => judge(list, `198.51.100.${i}`))
    expect(verdicts).toEqual(['outside', 'outside', 'outside', 'outside', 'outside', 'drop', 'slip', 'drop', 'slip'])
    expect(judge(list, '198.51.101.1')).toBe('outside')
    expect(judge(list, '198.51.100.1', 2)).toBe('outside')
  })

  it('is for a /56 in IPv6', () => {
    const list = new AccessList(everybody, 2)
    expect(judge(list, '2001:db8:0:1::1')).toBe('outside')
    expect(judge(list, '2001:db8:0:2::1')).toBe('outside')
    expect(judge(list, '2001:db8:0:3::1')).toBe('drop')
    expect(judge(list, '2001:db8:0:100::1')).toBe('outside')
  })

  it('bounds refusals too, and these are never cut answers', () => {
    const list = new AccessList(localPrefixes, 3)
    const verdicts = Array.from({ length: 20 }, () => judge(list, '198.51.100.1'))
    expect(verdicts.filter(v => v === 'refused')).toHaveLength(3)
    expect(verdicts.filter(v => v === 'drop')).toHaveLength(17)
  })

  it('remembers a bounded number of networks', () => {
    const list = new AccessList(everybody, 1)
    const bytes = new Uint8Array(4)
    expect(judge(list, '200.0.0.1')).toBe('outside')
    for (let i = 0; i < 9_000; i++) {
      bytes.set([1 + (i >> 16), i >> 8, i, 1])
      list.judge(bytes, 0, 4, 1)
    }
    // a flood of other networks does not give a new start to one that has used up its share
    expect(judge(list, '200.0.0.1')).not.toBe('outside')
  })
})

describe('budget of new names', () => {
  it('is used up by mappings and fills again with time', () => {
    const budget = new NewNameBudget(10, 2)
    expect(budget.take('a', 4, 100)).toBe(true)
    expect(budget.take('a', 6, 100)).toBe(true)
    expect(budget.take('a', 1, 100)).toBe(false)
    expect(budget.take('a', 3, 101)).toBe(false)
    expect(budget.take('a', 2, 101)).toBe(true)
    expect(budget.take('a', 10, 10_000)).toBe(true)
    expect(budget.take('a', 1, 10_000)).toBe(false)
  })

  it('is the own of each asker: one host for IPv4, a /64 for IPv6', () => {
    const budget = new NewNameBudget(1, 0)
    const take = (text: string) => budget.take(budgetKey(parseAddress(text)!), 1, 0)
    expect(take('10.0.0.1')).toBe(true)
    expect(take('10.0.0.2')).toBe(true)
    expect(take('10.0.0.1')).toBe(false)
    expect(take('fd00::1')).toBe(true)
    expect(take('fd00::2')).toBe(false)
    expect(take('fd00:0:0:1::1')).toBe(true)
  })

  it('is not renewed by a flood of other askers that is smaller than the table', () => {
    const budget = new NewNameBudget(1, 0)
    expect(budget.take('a', 1, 0)).toBe(true)
    for (let i = 0; i < 9_998; i++) budget.take(`other ${i}`, 1, 0)
    expect(budget.take('a', 1, 0)).toBe(false)
    for (let i = 0; i < 9_998; i++) budget.take(`another ${i}`, 1, 0)
    expect(budget.take('a', 1, 0)).toBe(false)
  })
})
