/** What objects that outlive the operator say: nothing that only an operator keeps true; and that saying it takes no longer than it may. */
import { describe, expect, it } from 'vitest'
import { afterOperator, tellOperatorGone } from '../../../operator/operatorGone.ts'
import type { Condition, IprefService } from '../../../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../../../resources/store.ts'
import { systemClock } from '../../../runtime/clock.ts'
import { iprefService } from '../../support/operatorObjects.ts'

const NOW = Date.parse('2030-01-02T00:00:00Z')
const BEFORE = '2030-01-01T00:00:00Z'

const condition = (type: string, status: Condition['status'], reason: string = type): Condition => ({
  ...{ type, status, reason, message: '', lastTransitionTime: BEFORE, observedGeneration: 1 },
})
const object = (conditions?: Condition[], more: object = {}): IprefService => ({
  ...iprefService({}, { resourceVersion: '1', ...more }),
  ...(conditions ? { status: { observedGeneration: 1, conditions } } : {}),
})
const shown = (conditions: readonly Condition[] | undefined) =>
  conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason}`)

describe('after the operator', () => {
  it('what was proved is open, what may be may be, and the order stays', () => {
    const said = afterOperator(
      object([
        condition('Accepted', 'True'),
        condition('Resolved', 'True'),
        condition('Mapped', 'True'),
        condition('PublishedPublic', 'False', 'NoPublicZone'),
        condition('PublishedInternal', 'True', 'Published'),
        condition('Ready', 'True'),
      ]),
      NOW,
    )
    expect(shown(said)).toEqual([
      'Accepted True Accepted',
      'Resolved True Resolved',
      'Mapped Unknown OperatorGone',
      'PublishedPublic False NoPublicZone',
      'PublishedInternal Unknown OperatorGone',
      'Ready Unknown OperatorGone',
    ])
    expect(said!.at(-1)).toMatchObject({ lastTransitionTime: '2030-01-02T00:00:00Z', observedGeneration: 1 })
    expect(said!.at(-1)!.message).toMatch(/install it again, or delete/)
    expect(said![0]!.lastTransitionTime).toBe(BEFORE)
  })

  it('an object that was not ready is not known to be either; one that has no such condition is given one', () => {
    expect(shown(afterOperator(object([condition('Ready', 'False', 'NameTaken')]), NOW))).toEqual([
      'Ready Unknown OperatorGone',
    ])
    expect(shown(afterOperator(object([]), NOW))).toEqual(['Ready Unknown OperatorGone'])
  })

  it('nothing is said twice, nor of objects that nobody looked at, or that are going', () => {
    const conditions = afterOperator(object([condition('Mapped', 'True'), condition('Ready', 'True')]), NOW)
    expect(afterOperator(object(conditions), NOW)).toBeUndefined()
    expect(afterOperator(object(), NOW)).toBeUndefined()
    expect(afterOperator(object([condition('Ready', 'True')], { deletionTimestamp: BEFORE }), NOW)).toBeUndefined()
  })
})

describe('telling', () => {
  const objects = Array.from({ length: 40 }, () => object([condition('Ready', 'True')]))
  const tell = (updateStatus: () => Promise<unknown>, withinMs = 60_000) => {
    const store = { updateStatus, get: async () => objects[0] } as unknown as ResourceStore
    return tellOperatorGone(objects, { store, clock: systemClock, withinMs })
  }

  it('goes on after a refusal, and comes back to what changed meanwhile', async () => {
    let calls = 0
    const fate = async () => {
      calls++
      if (calls === 1) throw new StoreError('Conflict', 'it changed')
      if (calls === 2) throw new StoreError('NotFound', 'gone')
      if (calls === 3) throw new StoreError('Invalid', 'not like this')
    }
    expect(await tell(fate)).toEqual({ left: 1, problem: 'not like this' })
    expect(calls).toBe(41)
  })

  it('ends when its time is over, whatever the server does', async () => {
    expect(await tell(() => new Promise(() => {}), 50)).toEqual({ left: 40, problem: '0.05 s were not enough' })
  })
})
