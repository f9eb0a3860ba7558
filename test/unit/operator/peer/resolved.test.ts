import { describe, expect, it } from 'vitest'
import { type Answer, ResolvedNames } from '../../../../operator/peer/resolved.ts'
import { ManualClock } from '../../../support/manualClock.ts'

const GW = 'gw.example.net'

function namesOf(random = 1) {
  const clock = new ManualClock()
  const asked: number[] = []
  const changed: string[] = []
  let answer: Answer | Error = { addresses: ['203.0.113.2'], ttlSeconds: 60 }
  const say = (now: Answer | Error) => {
    answer = now
  }
  const names = new ResolvedNames({
    resolve: async () => {
      asked.push(clock.now())
      if (answer instanceof Error) throw answer
      return answer
    },
    clock,
    random: () => random,
    onChange: name => void changed.push(name),
  })
  return { clock, names, asked, changed, say }
}
type World = ReturnType<typeof namesOf>
const gaps = ({ asked }: World) => asked.slice(1).map((at, i) => at - asked[i]!)

describe('a name of a gateway', () => {
  it('is waited for, then known, and said to be', async () => {
    const world = namesOf()
    expect(world.names.get(GW, [])).toMatchObject({ addresses: [], problem: { reason: 'Resolving' } })
    await world.clock.advance(0)
    expect(world.names.get(GW, [])).toEqual({ addresses: ['203.0.113.2'] })
    expect(world.changed).toEqual([GW])
  })

  it('counts as before, until something else is known', async () => {
    const world = namesOf()
    expect(world.names.get(GW, ['203.0.113.2'])).toEqual({ addresses: ['203.0.113.2'] })
    await world.clock.advance(0)
    expect(world.changed).toEqual([])
  })

  it.each([
    [60, 1, 60_000],
    [60, 0, 48_000],
    [0, 0, 10_000],
    [5, 1, 10_000],
    [86_400, 1, 300_000],
    [86_400, 0, 240_000],
  ])('with TTL %i is looked up again in time (jitter %i): %i ms', async (ttlSeconds, random, expected) => {
    const world = namesOf(random)
    world.say({ addresses: ['203.0.113.2'], ttlSeconds })
    world.names.get(GW, [])
    await world.clock.advance(700_000)
    expect(new Set(gaps(world))).toEqual(new Set([expected]))
  })

  it('whose address changes is said to, once', async () => {
    const world = namesOf()
    world.names.get(GW, [])
    await world.clock.advance(0)
    world.say({ addresses: ['2001:DB8::2', '203.0.113.3', '203.0.113.3'], ttlSeconds: 60 })
    await world.clock.advance(180_000)
    expect(world.names.get(GW, [])).toEqual({ addresses: ['203.0.113.3', '2001:db8::2'] })
    expect(world.changed).toEqual([GW, GW])
  })

  it.each<[string, Answer | Error, string]>([
    ['fails', { failed: 'SERVFAIL' }, 'LookupFailed'],
    ['breaks', new Error('socket'), 'LookupFailed'],
    ['has no record', { addresses: [], ttlSeconds: 60 }, 'NoAddress'],
    ['has none that is one', { addresses: ['999.1.1.1'], ttlSeconds: 60 }, 'NoAddress'],
  ])('that %s keeps what was known, says so, and is tried again soon', async (_name, answer, reason) => {
    const world = namesOf()
    world.names.get(GW, [])
    await world.clock.advance(0)
    world.say(answer)
    await world.clock.advance(60_000)
    expect(world.names.get(GW, [])).toMatchObject({ addresses: ['203.0.113.2'], problem: { reason } })
    world.say({ addresses: ['203.0.113.2'], ttlSeconds: 60 })
    await world.clock.advance(15_000)
    expect(world.names.get(GW, [])).toEqual({ addresses: ['203.0.113.2'] })
    expect(world.changed).toHaveLength(3)
  })

  it('with more addresses than a status holds has the first', async () => {
    const world = namesOf()
    world.say({ addresses: Array.from({ length: 100 }, (_, i) => `203.0.113.${i}`), ttlSeconds: 60 })
    world.names.get(GW, [])
    await world.clock.advance(0)
    expect(world.names.get(GW, []).addresses).toHaveLength(16)
  })

  it('that nobody has any more is not looked up', async () => {
    const world = namesOf()
    world.names.get(GW, [])
    await world.clock.advance(0)
    world.names.keep(new Set())
    await world.clock.advance(1_000_000)
    expect([world.asked.length, world.clock.waiting]).toEqual([1, 0])
  })
})
