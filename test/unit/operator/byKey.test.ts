/** Objects by something in them, through changes of any kind: the same as looking at all of them. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByKey, keyOf } from '../../../operator/byKey.ts'
import type { IprefService } from '../../../resources/kinds.ts'
import { iprefService } from '../../support/operatorObjects.ts'

const labelsOf = ({ metadata }: IprefService) => Object.keys(metadata.labels ?? {})

describe('objects by key', () => {
  it('are those that have it, whatever changed', () => {
    const change = fc.record({ name: fc.constantFrom('a', 'b', 'c'), labels: fc.option(fc.subarray(['x', 'y'])) })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), changes => {
        const index = new ByKey<'IprefService'>(labelsOf)
        const all = new Map<string, IprefService>()
        for (const { name, labels } of changes) {
          const before = all.get(name)
          const now = labels
            ? iprefService({}, { name, labels: Object.fromEntries(labels.map(label => [label, ''])) })
            : undefined
          if (!before && !now) continue
          const touched = index.change({ before, now })
          expect([...touched].sort()).toEqual(
            [...new Set([before, now].flatMap(one => (one ? labelsOf(one) : [])))].sort(),
          )
          if (now) all.set(name, now)
          else all.delete(name)
          for (const label of ['x', 'y']) {
            const expected = [...all.values()].filter(object => labelsOf(object).includes(label))
            expect(index.get(label).map(keyOf).sort()).toEqual(expected.map(keyOf).sort())
            for (const found of index.get(label)) expect(found).toBe(all.get(found.metadata.name))
          }
        }
        expect(index.size).toBe(new Set([...all.values()].flatMap(labelsOf)).size)
      }),
    )
  })

  it('that several have are all found, and the last one that is left', () => {
    const index = new ByKey<'IprefService'>(labelsOf)
    const [a, b] = ['a', 'b'].map(name => iprefService({}, { name, labels: { x: '' } }))
    index.change({ before: undefined, now: a })
    index.change({ before: undefined, now: b })
    expect(index.get('x')).toEqual([a, b])
    index.change({ before: a, now: undefined })
    expect(index.get('x')).toEqual([b])
    index.change({ before: b, now: undefined })
    expect(index.get('x')).toEqual([])
  })
})
