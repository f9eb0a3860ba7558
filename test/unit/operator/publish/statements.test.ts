/** When a name that an object had counts as gone: not by a look at its values alone, for an output that is told of it no more does not look there. */
import { beforeEach, describe, expect, it } from 'vitest'
import { DesiredTable, type OwnedSet } from '../../../../operator/publish/desired.ts'
import type { ReadBack } from '../../../../operator/publish/readBack.ts'
import { kindOfName, recordsOnceOf, setKey, zonesOf } from '../../../../operator/publish/records.ts'
import { isNameGone, isSetGone, type PublishState } from '../../../../operator/publish/statements.ts'
import { configOf, service } from './builders.ts'

const config = configOf()
const NAME = 'old.shop.example.com'
const object = service({ status: { formerNames: [NAME] } })
const former: OwnedSet = { name: NAME, type: 'TXT', ttl: 60, values: [], owner: 'shop/web' }

describe('a name that an object had', () => {
  let table: DesiredTable
  beforeEach(() => {
    table = new DesiredTable(zonesOf(config))
    table.suspect('public', former)
  })

  const state = (appliedVersion: number, read?: 'right' | 'wrong'): PublishState => ({
    config,
    table,
    gateways: [],
    readBack: read && ({ get: () => ({ state: read }) } as unknown as ReadBack),
    outputs: [
      {
        ...{ name: 'one', zones: ['public'], appliedVersion, problem: undefined },
        ...{ conflicts: new Map(), lastSuccessMs: undefined },
      },
    ],
    recordsOf: () => undefined,
    changedAt: () => table.version,
    isFresh: () => false,
    hasServers: () => true,
  })

  it.each([
    ['an output has not been there, whatever is read', -1, 'right', false],
    ['outputs were there, and a server has it', 0, 'wrong', false],
    ['outputs were there, and no server has it', 0, 'right', true],
    ['outputs were there, and nobody can be asked', 0, undefined, true],
  ] as const)('%s', (_, behind, read, isGone) =>
    expect(isSetGone('public', former, state(table.version + behind, read))).toBe(isGone),
  )

  it('is gone when all its sets are forgotten', () => {
    expect(isNameGone(object, NAME, state(table.version, 'right'))).toBe(false)
    table.forget('public', setKey(former))
    expect(isNameGone(object, NAME, state(table.version, 'right'))).toBe(true)
    expect(isNameGone(object, NAME, state(table.version - 1, 'right'))).toBe(false)
    expect(isNameGone(object, 'old.example.net', state(0))).toBe(true)
  })

  it('is looked for in the zone that it lies in, with every type, whatever it had', () => {
    const nested = configOf('publicZone: example.com\ninternalZone: in.example.com\n')
    expect(kindOfName('a.in.example.com', nested)).toBe('internal')
    expect(kindOfName('a.example.com', nested)).toBe('public')
    const many = service({ mappings: [], status: { formerNames: [NAME, 'a.in.example.com'] } })
    const { internal, public: outside } = recordsOnceOf(many, nested, [])
    expect(internal.map(setKey)).toEqual(['a.in.example.com A', 'a.in.example.com AAAA'])
    expect(outside.map(setKey)).toEqual([`${NAME} TXT`])
  })
})
