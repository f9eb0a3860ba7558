/** Updates against a zone in memory that keeps the rules of RFC 2136 sections 3.2 and 3.4, written down here once more. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Class, Type } from '../../../../dns/constants.ts'
import { dataOfStrings, type ResourceRecord } from '../../../../dns/message.ts'
import { formatName, lowerName, type Name, parseName } from '../../../../dns/name.ts'
import type { OwnedSet } from '../../../../operator/publish/desired.ts'
import { recordTypes } from '../../../../operator/publish/records.ts'
import { packed } from '../../../../operator/publish/updateMessage.ts'
import {
  bytesText,
  markName,
  type NameState,
  planUpdates,
  type UpdateUnit,
} from '../../../../operator/publish/updatePlan.ts'
import { dataOf } from '../../../../operator/publish/zoneOf.ts'

type Kind = 'internal' | 'public'
const NAMES = ['a.example.com', 'b.example.com', 'c.example.com']

class MemoryZone {
  readonly records: ResourceRecord[]
  constructor(records: readonly ResourceRecord[]) {
    this.records = [...records]
  }

  #of(name: Name, type: number) {
    return this.records.filter(record => record.name === lowerName(name) && record.type === type)
  }

  take({ prerequisites, updates }: UpdateUnit): boolean {
    for (const { name, type, class: is, data } of prerequisites) {
      const set = this.#of(name, type)
      if (is === Class.NONE && set.length > 0) return false
      if (is === Class.IN && (set.length !== 1 || bytesText(set[0]!.data) !== bytesText(data))) return false
    }
    for (const record of updates) this.#update(record)
    return true
  }

  #update(record: ResourceRecord): void {
    const { name, type, class: is, data } = record
    const keep = (test: (one: ResourceRecord) => boolean) =>
      this.records.splice(0, this.records.length, ...this.records.filter(test))
    if (is === Class.ANY) keep(one => !(one.name === name && one.type === type))
    else if (is === Class.NONE)
      keep(one => !(one.name === name && one.type === type && bytesText(one.data) === bytesText(data)))
    else {
      keep(one => !(one.name === name && one.type === type && bytesText(one.data) === bytesText(data)))
      // one TTL for a set
      for (const one of this.#of(name, type)) one.ttl = record.ttl
      this.records.push({ ...record })
    }
  }

  look(kind: Kind): Map<string, NameState> {
    const found = new Map<string, NameState>()
    for (const text of NAMES) {
      const name = parseName(text)!
      const sets: NameState['sets'] = {}
      for (const type of recordTypes[kind]) {
        const set = this.#of(name, Type[type])
        if (set.length > 0) sets[type] = { ttl: set[0]!.ttl, data: set.map(({ data }) => bytesText(data)) }
      }
      const mark = this.#of(parseName(markName(text))!, Type.TXT).map(({ data }) => bytesText(data))
      found.set(text, { mark, sets, isAlias: this.#of(name, Type.CNAME).length > 0 })
    }
    return found
  }

  get lines(): string[] {
    return this.records
      .map(({ name, type, ttl, data }) => `${formatName(name)} ${ttl} ${type} ${Buffer.from(data).toString('latin1')}`)
      .sort()
  }
}

const record = (name: string, type: number, data: Uint8Array, ttl = 60): ResourceRecord => ({
  name: parseName(name)!,
  type,
  class: Class.IN,
  ttl,
  data,
})
const mark = (name: string, owner = 'here') => record(markName(name), Type.TXT, dataOfStrings([`ipref-owner=${owner}`]))
const wantedOf = (sets: OwnedSet[]) => {
  const wanted = new Map<string, OwnedSet[]>()
  for (const set of sets) wanted.set(set.name, [...(wanted.get(set.name) ?? []), set])
  return wanted
}
const set = (name: string, type: OwnedSet['type'], values: string[], ttl = 60): OwnedSet => ({
  name,
  type,
  ttl,
  values,
  owner: 'shop/web',
})
const plan = (kind: Kind, zone: MemoryZone, sets: OwnedSet[]) =>
  planUpdates({ kind, owner: 'here', current: zone.look(kind), wanted: wantedOf(sets) })
const AA = 'AA 198.51.100.1 + 1-0-9'

describe('a plan of updates', () => {
  it('claims a name that nobody uses, with its mark', () => {
    const zone = new MemoryZone([])
    const { units, conflicts } = plan('public', zone, [set('a.example.com', 'TXT', [AA])])
    expect(units.map(unit => `${unit.do} ${unit.name}`)).toEqual(['claim a.example.com'])
    expect(conflicts.size).toBe(0)
    expect(zone.take(units[0]!)).toBe(true)
    expect(zone.records).toHaveLength(2)
  })

  it.each([
    ['records without a mark', [record('a.example.com', Type.TXT, dataOfStrings(['v=spf1 -all']))], /not ours/],
    ["another's mark", [mark('a.example.com', 'there')], /another's: "ipref-owner=there"/],
    ['two marks', [mark('a.example.com'), mark('a.example.com', 'there')], /another's/],
    ['a CNAME', [record('a.example.com', Type.CNAME, Buffer.from(parseName('b.example.com')!, 'latin1'))], /CNAME/],
  ])('leaves a name with %s alone, and says so', (_, records, why) => {
    const { units, conflicts } = plan('public', new MemoryZone(records), [set('a.example.com', 'TXT', [AA])])
    expect(units).toEqual([])
    expect(conflicts.get('a.example.com')).toMatch(why)
  })

  it('takes a name with records of other types, and leaves those', () => {
    const web = record('a.example.com', Type.A, Uint8Array.of(192, 0, 2, 1))
    const zone = new MemoryZone([web])
    for (const unit of plan('public', zone, [set('a.example.com', 'TXT', [AA])]).units) zone.take(unit)
    for (const unit of plan('public', zone, []).units) zone.take(unit)
    expect(zone.records).toEqual([web])
  })

  it('leaves text of others under our mark, and its TTL', () => {
    const spf = record('a.example.com', Type.TXT, dataOfStrings(['v=spf1 -all']), 300)
    const zone = new MemoryZone([
      mark('a.example.com'),
      spf,
      record('a.example.com', Type.TXT, dataOfStrings(['AA 1.2.3.4 + 5']), 300),
    ])
    for (const unit of plan('public', zone, [set('a.example.com', 'TXT', [AA])]).units)
      expect(zone.take(unit)).toBe(true)
    expect(zone.records.map(({ data }) => bytesText(data))).toContain(bytesText(spf.data))
    expect(plan('public', zone, [set('a.example.com', 'TXT', [AA])]).units).toEqual([])
    for (const unit of plan('public', zone, []).units) zone.take(unit)
    expect(zone.records.map(({ data }) => bytesText(data))).toEqual([bytesText(spf.data)])
  })

  it('says that a name is too long to be marked', () => {
    const long = `${'x'.repeat(60)}.${'y'.repeat(60)}.${'z'.repeat(60)}.${'w'.repeat(50)}.example.com`
    const { conflicts } = plan('public', new MemoryZone([]), [set(long, 'TXT', [AA])])
    expect(conflicts.get(long)).toMatch(/too long/)
  })

  it('does nothing when the claim is not what it was any more', () => {
    const zone = new MemoryZone([])
    const { units } = plan('internal', zone, [set('a.example.com', 'A', ['10.0.0.1'])])
    zone.records.push(mark('a.example.com', 'there'))
    expect(zone.take(units[0]!)).toBe(false)
  })

  it('fits into messages, none too large', () => {
    const sets = Array.from({ length: 1000 }, (_, i) => set(`h${i}.example.com`, 'TXT', [AA]))
    const { units } = plan('public', new MemoryZone([]), sets)
    const packs = [...packed(units)]
    expect(packs.flat()).toEqual(units)
    for (const pack of packs) {
      const bytes = pack
        .flatMap(({ prerequisites, updates }) => [...prerequisites, ...updates])
        .reduce((sum, { name, data }) => sum + name.length + 10 + data.length, 0)
      expect(bytes).toBeLessThanOrEqual(32_000)
    }
  })

  // ---- any zone, any wish

  const texts = fc.subarray([AA, 'AA 198.51.100.1 + 7', 'AA 2001:db8::1 + 7'], { minLength: 1 })
  const v4 = fc.subarray(['10.0.0.1', '10.0.0.2', '10.0.0.3'], { minLength: 1 })
  const v6 = fc.subarray(['2001:db8::1', '2001:db8::2'], { minLength: 1 })
  const ttl = fc.constantFrom(60, 300)
  type Wish = [name: string, type: OwnedSet['type'], values: string[], ttl: number]
  const names = fc.constantFrom(...NAMES)
  const wish = (type: OwnedSet['type'], values: fc.Arbitrary<string[]>): fc.Arbitrary<Wish> =>
    fc.tuple(names, fc.constant(type), values, ttl)
  const wishes = (kind: Kind) =>
    fc
      .array(kind === 'public' ? wish('TXT', texts) : fc.oneof(wish('A', v4), wish('AAAA', v6)), { maxLength: 5 })
      .map(all => [...new Map(all.map(one => [`${one[0]} ${one[1]}`, set(...one)])).values()])
  const foreign = fc
    .array(
      fc.oneof(
        fc
          .tuple(fc.constantFrom(...NAMES), fc.constantFrom('v=spf1 -all', AA))
          .map(([name, text]) => record(name, Type.TXT, dataOfStrings([text]), 300)),
        fc.constantFrom(...NAMES).map(name => record(name, Type.A, dataOf('A', '192.0.2.1'), 300)),
        fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom('here', 'there')).map(([name, owner]) => mark(name, owner)),
        fc
          .constantFrom(...NAMES)
          .map(name => record(name, Type.MX, Buffer.from(`\0\n${parseName('m.example.com')}`, 'latin1'), 300)),
      ),
      { maxLength: 6 },
    )
    .map(all => [...new Map(all.map(one => [`${one.name} ${one.type} ${bytesText(one.data)}`, one])).values()])

  it.each(['internal', 'public'] as const)(
    'brings the %s zone in order, touches nothing else, and is then done',
    kind => {
      fc.assert(
        fc.property(foreign, wishes(kind), wishes(kind), (others, first, second) => {
          const zone = new MemoryZone(others.map(one => ({ ...one })))
          const start = zone.look(kind)
          for (const sets of [first, second, []]) {
            const before = zone.look(kind)
            const { units, conflicts } = plan(kind, zone, sets)
            for (const unit of units) expect(zone.take(unit)).toBe(true)
            expect(plan(kind, zone, sets).units).toEqual([])
            const now = zone.look(kind)
            for (const one of sets) {
              if (conflicts.has(one.name)) continue
              const found = now.get(one.name)!.sets[one.type]!.data
              const ours = found.filter(data => one.type !== 'TXT' || data.slice(1).startsWith('AA '))
              expect(new Set(ours)).toEqual(new Set(one.values.map(value => bytesText(dataOf(one.type, value)))))
            }
            for (const name of conflicts.keys()) expect(now.get(name)).toEqual(before.get(name))
          }
          // at the end nothing of ours is left, and all of the others' is there
          const rest = zone.lines
          for (const one of others) {
            const state = start.get(NAMES.find(name => parseName(name) === one.name) ?? '')
            const wasOurs = state?.mark.length === 1 && state.mark[0] === bytesText(dataOfStrings(['ipref-owner=here']))
            const isOfOurTypes = recordTypes[kind].some(type => Type[type] === one.type)
            if (one.type === Type.TXT && formatName(one.name).startsWith('_ipref-owner')) continue
            if (wasOurs && isOfOurTypes) continue
            expect(
              rest.some(
                line =>
                  line.startsWith(`${formatName(one.name)} `) &&
                  line.endsWith(`${one.type} ${Buffer.from(one.data).toString('latin1')}`),
              ),
            ).toBe(true)
          }
        }),
        { numRuns: 500 },
      )
    },
  )
})
