/** Events: what is written of each, and that there are not too many. */
import { describe, expect, it } from 'vitest'
import { Events } from '../../../operator/events.ts'
import type { EventObject } from '../../../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../../../resources/store.ts'
import { ManualClock } from '../../support/manualClock.ts'
import { iprefService, peer } from '../../support/operatorObjects.ts'
import { silentLog } from '../../support/silentLog.ts'

/** A store of Events alone. */
function world() {
  const clock = new ManualClock()
  const written = new Map<string, EventObject>()
  const key = ({ namespace = '', name }: { namespace?: string; name: string }) => `${namespace}/${name}`
  const store = {
    async create(_kind: string, event: EventObject) {
      if (written.has(key(event.metadata))) throw new StoreError('AlreadyExists', 'there')
      written.set(key(event.metadata), event)
      return event
    },
    get: async (_kind: string, at: { name: string }) => written.get(key(at)),
    async update(_kind: string, event: EventObject) {
      written.set(key(event.metadata), event)
      return event
    },
  } as unknown as ResourceStore
  return { clock, written, events: new Events({ store, clock, log: silentLog, namespace: 'ipref' }) }
}

describe('events', () => {
  it('are about the object, in its namespace or in the operator’s own', async () => {
    const { clock, written, events } = world()
    events.say(iprefService(), 'Warning', 'NameConflict', 'taken')
    events.say(peer(), 'Normal', 'Ready', 'reached')
    await clock.advance(1)
    expect([...written.values()]).toMatchObject([
      { metadata: { namespace: 'shop' }, reason: 'NameConflict', involvedObject: { name: 'web', uid: 'uid-web' } },
      { metadata: { namespace: 'ipref' }, reason: 'Ready', involvedObject: { kind: 'IprefPeer', name: 'other' } },
    ])
  })

  it('that say the same count up', async () => {
    const { clock, written, events } = world()
    for (let i = 0; i < 3; i++) {
      events.say(iprefService(), 'Warning', 'NameConflict', 'taken')
      await clock.advance(1000)
    }
    expect([...written.values()].map(({ count }) => count)).toEqual([3])
  })

  it('normal ones: a hundred at once, then five a second; warnings are all written', async () => {
    const { clock, written, events } = world()
    const sayAll = async (type: 'Normal' | 'Warning', from: number) => {
      for (let i = from; i < from + 1000; i++) events.say(iprefService({}, { name: `s-${i}` }), type, 'X', 'x')
      await clock.advance(1)
      return written.size
    }
    expect(await sayAll('Normal', 0)).toBe(100)
    await clock.advance(10_000)
    expect(await sayAll('Normal', 1000)).toBe(150)
    expect(await sayAll('Warning', 2000)).toBe(1150)
    await clock.advance(3_600_000)
    expect(await sayAll('Normal', 3000)).toBe(1250)
  })
})
