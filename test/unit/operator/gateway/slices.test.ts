import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatPrefix, parsePrefix, prefixContains, prefixesOverlap } from '../../../../ipref/address.ts'
import { allot, type SliceOwner, staticPart } from '../../../../operator/gateway/slices.ts'

const network = parsePrefix('10.176.0.0/12')!
const network6 = parsePrefix('fd76::/64')!
const lengths = { ipv4: 18, ipv6: 80 }
const owner = (name: string, age: number, ...slices: string[]): SliceOwner => ({ name, age: String(age), slices })
const slicesOf = (owners: SliceOwner[], networks = [network]) =>
  Object.fromEntries(allot(owners, networks, lengths).slices)

describe('slices', () => {
  it.each([
    ['10.176.0.0/12', '10.176.0.0/16'],
    ['10.176.0.0/16', '10.176.0.0/18'],
    ['10.176.0.0/19', '10.176.0.0/21'],
    ['fd76::/64', 'fd76::/80'],
    ['fd76::/96', 'fd76::/98'],
  ])('the static part of %s is %s', (text, part) => {
    expect(formatPrefix(staticPart(parsePrefix(text)!))).toBe(part)
  })

  it('the first are behind the static part, in the order of age', () => {
    expect(slicesOf([owner('b', 2), owner('a', 1), owner('c', 3)])).toEqual({
      a: ['10.177.0.0/18'],
      b: ['10.177.64.0/18'],
      c: ['10.177.128.0/18'],
    })
  })

  it('one for each IP version', () => {
    expect(slicesOf([owner('a', 1)], [network, network6])).toEqual({ a: ['10.177.0.0/18', 'fd76::1:0:0:0/80'] })
  })

  it('what is written is kept, whoever comes and goes', () => {
    expect(slicesOf([owner('b', 2, '10.177.64.0/18'), owner('new', 9)])).toEqual({
      b: ['10.177.64.0/18'],
      new: ['10.177.0.0/18'],
    })
  })

  it.each([
    ['outside the network', '10.192.0.0/18', 'SliceInvalid'],
    ['in the static part', '10.176.64.0/18', 'SliceInvalid'],
    ['larger than the network', '10.0.0.0/8', 'SliceInvalid'],
    ["in an older gateway's slice", '10.177.0.0/20', 'SliceConflict'],
  ])('a slice %s is refused by name, and another is given', (_name, written, reason) => {
    const { slices, problems } = allot([owner('old', 1, '10.177.0.0/18'), owner('x', 2, written)], [network], lengths)
    expect(problems.get('x')).toMatchObject({ reason, message: expect.stringContaining(written) })
    expect(slices.get('x')).toEqual(['10.177.64.0/18'])
    expect(problems.has('old')).toBe(false)
  })

  it('the youngest go without when there are too many', () => {
    const small = parsePrefix('10.176.0.0/16')!
    const owners = Array.from({ length: 5 }, (_, i) => owner(`n${i}`, i))
    const { slices, problems } = allot(owners, [small], lengths)
    expect([...slices.values()].flat()).toHaveLength(3)
    expect([...problems]).toMatchObject([
      ['n3', { reason: 'NoSliceLeft' }],
      ['n4', { reason: 'NoSliceLeft' }],
    ])
  })

  it('never overlap, never leave the network, and never move while gateways come and go', () => {
    const step = fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), comes: fc.boolean() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const present = new Map<string, SliceOwner>()
        let age = 0
        for (const { name, comes } of steps) {
          if (comes && !present.has(name)) present.set(name, owner(name, age++))
          if (!comes) present.delete(name)
          const { slices, problems } = allot([...present.values()], [network, network6], lengths)
          expect(problems.size).toBe(0)
          const all = [...slices.values()].flat().map(text => parsePrefix(text)!)
          for (const [i, slice] of all.entries()) {
            const whole = slice.family === 4 ? network : network6
            expect(prefixContains(whole, slice.address) && !prefixesOverlap(slice, staticPart(whole))).toBe(true)
            expect(all.slice(i + 1).some(other => prefixesOverlap(slice, other))).toBe(false)
          }
          for (const [one, given] of slices) {
            const before = present.get(one)!.slices
            if (before.length > 0) expect(given).toEqual(before)
            present.set(one, { ...present.get(one)!, slices: given })
          }
        }
      }),
    )
  })
})
