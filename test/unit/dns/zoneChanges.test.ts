/** A zone that is changed a little at a time is the zone that would be made of all its records. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Class, Type } from '../../../dns/constants.ts'
import { dataOfStrings, encodeSoa, type ResourceRecord } from '../../../dns/message.ts'
import { type Name, nameToBytes, parseName } from '../../../dns/name.ts'
import { Zone } from '../../../dns/zone.ts'
import { formatRecord } from '../../../dns/zoneText.ts'

const origin = parseName('example.com')!
const of = (name: string, type: number, data: Uint8Array): ResourceRecord => ({
  name: parseName(name)!,
  type,
  class: Class.IN,
  ttl: 60,
  data,
})
const soa = encodeSoa({ primary: origin, mailbox: origin, serial: 7, refresh: 1, retry: 1, expire: 1, minimum: 1 })
const apex = [of('example.com', Type.SOA, soa), of('example.com', Type.NS, nameToBytes(parseName('ns.example.org')!))]
const a = (name: string, last: number) => of(name, Type.A, Uint8Array.of(192, 0, 2, last))
const whole = (records: readonly ResourceRecord[]) => Zone.from(origin, [...apex, ...records]).zone!

const NAMES = ['a', 'b.a', 'c.b.a', 'd', 'e.d', 'x.y.z'].map(name => `${name}.example.com`)
const QUESTIONS = [...NAMES, 'y.z.example.com', 'z.example.com', 'none.a.example.com', 'example.com'].map(
  name => parseName(name)!,
)

const step = fc.dictionary(
  fc.constantFrom(...NAMES),
  fc.array(
    fc.oneof(
      fc.nat(3).map(n => ({ type: Type.A, n })),
      fc.nat(3).map(n => ({ type: Type.TXT, n })),
    ),
    { maxLength: 3 },
  ),
  { maxKeys: 4 },
)

describe('a zone that is changed at some names', () => {
  it('is the one that all its records make', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 6 }), steps => {
        const now = new Map<string, ResourceRecord[]>()
        let zone = whole([])
        for (const changes of steps) {
          const changed = new Map<Name, ResourceRecord[]>()
          for (const [name, list] of Object.entries(changes)) {
            const records = list.map(({ type, n }) =>
              type === Type.A ? a(name, n) : of(name, type, dataOfStrings([String(n)])),
            )
            now.set(name, records)
            changed.set(parseName(name)!, records)
          }
          zone = zone.withRecords(changed)!
        }
        const right = whole([...now.values()].flat())
        expect(zone.size).toBe(right.size)
        expect(zone.hasContentOf(right) && right.hasContentOf(zone)).toBe(true)
        const lines = (one: Zone) => [...one.records()].map(formatRecord).sort()
        expect(lines(zone)).toEqual(lines(right))
        for (const name of QUESTIONS)
          for (const type of [Type.A, Type.TXT]) {
            const [x, y] = [zone.lookup(name, type)!, right.lookup(name, type)!]
            expect([x.rcode, x.answers.map(formatRecord).sort()]).toEqual([y.rcode, y.answers.map(formatRecord).sort()])
          }
      }),
    )
  })

  it('leaves the one before as it was', () => {
    const before = whole([a('a.example.com', 1)])
    const after = before.withRecords(new Map([[parseName('a.example.com')!, []]]))!
    expect([before.size, after.size]).toEqual([3, 2])
    expect(after.lookup(parseName('a.example.com')!, Type.A)!.rcode).toBe(3)
  })

  const cname = of('alias.example.com', Type.CNAME, nameToBytes(origin))
  const ns = of('sub.example.com', Type.NS, nameToBytes(origin))
  it.each([
    ['at the apex', 'example.com', [a('example.com', 1)]],
    ['outside of the zone', 'example.org', [a('example.org', 1)]],
    ['where a CNAME is', 'alias.example.com', [a('alias.example.com', 1)]],
    ['below a delegation', 'x.sub.example.com', [a('x.sub.example.com', 1)]],
    ['with a CNAME', 'new.example.com', [of('new.example.com', Type.CNAME, nameToBytes(origin))]],
    ['with records of another name', 'new.example.com', [a('other.example.com', 1)]],
    ['with data that is none', 'new.example.com', [of('new.example.com', Type.A, Uint8Array.of(1))]],
  ])('is to be made whole when it changes %s', (_, name, records) => {
    expect(whole([cname, ns]).withRecords(new Map([[parseName(name)!, records]]))).toBeUndefined()
  })
})
