/** Names that records may be left under: written with what comes instead of them, dropped when they are seen gone. */
import { describe, expect, it } from 'vitest'
import { formerNames, MOST_FORMER_NAMES } from '../../../../operator/service/formerNames.ts'
import type { IprefServiceStatus, ServiceMapping } from '../../../../resources/kinds.ts'

const mapping = (more: Partial<ServiceMapping> = {}): ServiceMapping => ({
  ...{ slot: 0, family: 'IPv4' as const, address: '10.0.0.1', reference: '7' },
  ...more,
})
const status = (more: Partial<IprefServiceStatus> = {}): IprefServiceStatus => ({
  ...{ observedGeneration: 1, internalName: 'web.in', publicName: 'web.out', mappings: [mapping()] },
  ...more,
})
const left = () => false
const gone = () => true

describe('former names', () => {
  it.each<[string, IprefServiceStatus | undefined, Partial<IprefServiceStatus>, string[] | undefined]>([
    ['an object that begins has none', undefined, status(), undefined],
    ['nor one that stays as it is', status(), status(), undefined],
    ['a name that another comes instead of', status(), status({ publicName: 'www.out' }), ['web.out']],
    ['both, where it is refused', status(), {}, ['web.in', 'web.out']],
    ['both, with its last address', status(), status({ mappings: [] }), ['web.in', 'web.out']],
    ['none that never had records', status({ mappings: [] }), {}, undefined],
    [
      'those of a member that went',
      status({ mappings: [mapping({ member: 'db-0' }), mapping({ member: 'db-1', slot: 1 })] }),
      status({ mappings: [mapping({ member: 'db-0' })] }),
      ['db-1.web.in', 'db-1.web.out'],
    ],
    [
      'one that came back is none',
      status({ formerNames: ['www.out'] }),
      status({ publicName: 'www.out' }),
      ['web.out'],
    ],
    ['one that is still out there', status({ formerNames: ['old.out'] }), status(), ['old.out']],
  ])('%s', (_, before, now, names) => expect(formerNames(before, now, left)).toEqual(names))

  it('are dropped when gone, but not before they were written down', () => {
    const before = status({ formerNames: ['old.out'] })
    expect(formerNames(before, status(), gone)).toBeUndefined()
    expect(formerNames(before, status({ publicName: 'www.out' }), gone)).toEqual(['web.out'])
  })

  it('are no more than a status holds', () => {
    const mappings = Array.from({ length: 300 }, (_, slot) => mapping({ slot, member: `m-${slot}` }))
    expect(formerNames(status({ mappings }), status(), left)).toHaveLength(MOST_FORMER_NAMES)
  })
})
