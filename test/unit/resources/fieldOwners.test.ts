/** Apply of the folder store: who says which field. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { mergeApplied, type Owners, ownersAfterWrite } from '../../../resources/fieldOwners.ts'
import type { ConfigMap } from '../../../resources/kinds.ts'

const object = (data: Record<string, string> | undefined, metadata: object = {}): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'a', ...metadata },
  ...(data && { data }),
})

describe('apply', () => {
  it('removes what its manager said before, and maps that become empty', () => {
    const first = mergeApplied(undefined, object({ a: '1' }, { labels: { x: 'y' } }), 'one', {})
    const second = mergeApplied(first.object, object(undefined), 'one', first.owners)
    expect(second.object).toEqual(object(undefined))
    expect(second.owners).toEqual({})
  })

  it('keeps fields that two managers say the same of until both are silent', () => {
    const first = mergeApplied(undefined, object({ a: '1' }), 'one', {})
    const both = mergeApplied(first.object, object({ a: '1' }), 'two', first.owners)
    const left = mergeApplied(both.object, object(undefined), 'one', both.owners)
    expect(left.object.data).toEqual({ a: '1' })
    expect(mergeApplied(left.object, object(undefined), 'two', left.owners).object.data).toBeUndefined()
  })

  it('reads names with slashes, tildes and dots as names, and __proto__ too', () => {
    const data = JSON.parse('{"a/b~1.c": "1", "__proto__": "2", "": "3"}')
    const first = mergeApplied(undefined, object(data), 'one', {})
    expect(JSON.stringify(first.object.data)).toBe(JSON.stringify(data))
    expect(mergeApplied(first.object, object(undefined), 'one', first.owners).object.data).toBeUndefined()
  })

  it('takes a map for a text and a text for a map', () => {
    const first = mergeApplied(undefined, object({ a: { b: 'c' } as never }), 'one', {})
    const second = mergeApplied(first.object, object({ a: 'text' }), 'two', first.owners)
    expect(second.object.data).toEqual({ a: 'text' })
    const third = mergeApplied(second.object, object({ a: { d: 'e' } as never }), 'one', second.owners)
    expect(third.object.data).toEqual({ a: { d: 'e' } })
    expect(third.owners.two).toBeUndefined()
  })

  const data = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('1', '2'))
  const step = fc.record({ manager: fc.constantFrom('one', 'two'), data, isApply: fc.boolean() })

  it('in any order: what was said last is there, what nobody says is not, and saying it again changes nothing', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), steps => {
        let current: ConfigMap | undefined
        let owners: Owners = {}
        for (const { manager, data, isApply } of steps) {
          if (isApply || !current) {
            const merged = mergeApplied(current, object(data), manager, owners)
            expect(merged.object.data ?? {}).toMatchObject(data)
            const again = mergeApplied(merged.object, object(data), manager, merged.owners)
            expect(again).toEqual(merged)
            ;({ object: current, owners } = merged)
          } else {
            const next: ConfigMap = { ...current, data }
            owners = ownersAfterWrite(owners, current, next)
            current = next
          }
          const said = new Set(Object.values(owners).flat())
          for (const path of said) expect(current).toHaveProperty(path.slice(1).split('/'))
        }
      }),
    )
  })

  it('never changes what it is given', () => {
    const current = Object.freeze(object(Object.freeze({ a: '1' }) as never))
    mergeApplied(current, Object.freeze(object({ b: '2' })), 'one', Object.freeze({ one: ['/data/a'] }))
    expect(current).toEqual(object({ a: '1' }))
  })
})
