import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Policy, PolicyTable } from '../../../gateway/plane/policyTable.ts'
import { type AddressWords, parseAddress, wordsFromBytes } from '../../../ipref/address.ts'
import { wordsFromReference } from '../../../ipref/reference.ts'

const context = (text: string): AddressWords => wordsFromBytes(parseAddress(text)!)
const reference = (value: number | bigint): AddressWords => wordsFromReference(BigInt(value))
const tableOf = (policy?: Policy, entries = 64): PolicyTable => {
  const table = new PolicyTable(PolicyTable.allocate(entries))
  if (policy) expect(table.write(policy)).toBe(true)
  return table
}
const asks = (table: PolicyTable, from: string, to: number | bigint): boolean =>
  table.mayReach(...context(from), ...reference(to))

describe('inbound policy', () => {
  it('lets everybody reach everything until something is written', () => {
    expect(asks(tableOf(), '198.51.100.7', 11)).toBe(true)
    expect(asks(tableOf({ others: { allow: true, except: [] }, peers: [] }), '2001:db8::1', 11)).toBe(true)
  })

  it.each([
    ['a network that is denied', '198.51.100.1', 11, false],
    ['… but for its exceptions', '198.51.100.1', 12, true],
    ['a network that is allowed', '198.51.100.2', 12, true],
    ['… but for its exceptions', '198.51.100.2', 11, false],
    ['exceptions of one network are none of another', '198.51.100.3', 12, false],
    ['an IPv6 gateway', '2001:db8::3', 99, true],
    ['everybody else, by the rule for others', '203.0.113.9', 50, false],
    ['… but for its exceptions', '203.0.113.9', 51, true],
    ['an address that differs in its last bit', '198.51.100.0', 12, false],
  ])('%s: %s + %i', (_name, from, to, may) => {
    const table = tableOf({
      others: { allow: false, except: [reference(51)] },
      peers: [
        { context: context('198.51.100.1'), rule: { allow: false, except: [reference(12)] } },
        { context: context('198.51.100.2'), rule: { allow: true, except: [reference(11), reference(13)] } },
        { context: context('198.51.100.3'), rule: { allow: false, except: [] } },
        { context: context('2001:db8::3'), rule: { allow: true, except: [] } },
      ],
    })
    expect(asks(table, from, to)).toBe(may)
  })

  it('takes the next policy as a whole', () => {
    const table = tableOf({ others: { allow: false, except: [reference(1000)] }, peers: [] })
    table.write({ others: { allow: true, except: [] }, peers: [] })
    expect(asks(table, '198.51.100.1', 11)).toBe(true)
    table.write({ others: { allow: false, except: [] }, peers: [] })
    expect(asks(table, '198.51.100.1', 1000)).toBe(false)
  })

  it('keeps the policy in force when there is no room for the next', () => {
    const table = tableOf({ others: { allow: false, except: [] }, peers: [] }, 8)
    const except = Array.from({ length: 1000 }, (_, i) => reference(i + 1))
    expect(table.write({ others: { allow: true, except }, peers: [] })).toBe(false)
    expect(asks(table, '198.51.100.1', 11)).toBe(false)
  })

  it('is seen by another thread that has the same memory', () => {
    const buffer = PolicyTable.allocate(64)
    const [writer, reader] = [new PolicyTable(buffer), new PolicyTable(buffer)]
    writer.write({ others: { allow: false, except: [reference(5)] }, peers: [] })
    expect([asks(reader, '192.0.2.1', 5), asks(reader, '192.0.2.1', 6)]).toEqual([true, false])
  })

  it('says the same as a plain reading of the policy', () => {
    const words = fc.tuple(fc.nat(2), fc.nat(2), fc.integer({ min: -2, max: 2 }), fc.integer({ min: -3, max: 3 }))
    const rule = fc.record({ allow: fc.boolean(), except: fc.uniqueArray(words, { selector: w => w.join() }) })
    const peers = fc.uniqueArray(fc.record({ context: words, rule }), {
      selector: p => p.context.join(),
      maxLength: 12,
    })
    fc.assert(
      fc.property(rule, peers, fc.array(fc.tuple(words, words), { maxLength: 40 }), (others, known, questions) => {
        const table = tableOf({ others, peers: known }, 256)
        for (const [from, to] of questions) {
          const own = known.find(p => p.context.join() === from.join())?.rule ?? others
          expect(table.mayReach(...from, ...to)).toBe(own.allow !== own.except.some(e => e.join() === to.join()))
        }
      }),
    )
  })
})
