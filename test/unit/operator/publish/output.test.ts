/** One output at work: what it is told, when it rests, and when it tries again. */
import { describe, expect, it } from 'vitest'
import type { Desired } from '../../../../operator/publish/desired.ts'
import { NO_CONFLICTS, type Output, OutputRunner } from '../../../../operator/publish/output.ts'
import { ManualClock } from '../../../support/manualClock.ts'

/** An output whose work takes as long as it is told; `fails`: and fails. */
function world(takesMs: number, lookEveryMs?: number) {
  const clock = new ManualClock()
  const applied: { at: number; version: number }[] = []
  const begun = clock.now()
  const it = { fails: false }
  const output: Output = {
    name: 'test',
    zones: ['public'],
    lookEveryMs,
    apply: ({ version }) =>
      new Promise((resolve, reject) => {
        clock.after(takesMs, () => {
          applied.push({ at: clock.now() - begun, version })
          if (it.fails) reject(new Error('no'))
          else resolve(NO_CONFLICTS)
        })
      }),
    doubt: () => {},
    servers: () => [],
    stop: async () => {},
  }
  const runner = new OutputRunner(output, { clock, random: () => 0.5, onState: () => {} })
  const desired = { version: 1 }
  const want = () => runner.want(() => ({ version: desired.version, zones: new Map() }) as Desired)
  return { clock, applied, runner, desired, want, it }
}

describe('an output', () => {
  it('is told what shall be there when its turn comes, not what was wanted when it was called', async () => {
    const { clock, applied, desired, want, runner } = world(100)
    want()
    for (desired.version = 2; desired.version < 9; desired.version++) want()
    await clock.advance(1000)
    expect(applied.map(({ version }) => version)).toEqual([1, 9])
    expect(runner.state.appliedVersion).toBe(9)
  })

  it('rests for twice as long as it took', async () => {
    const { clock, applied, want } = world(100)
    for (let i = 0; i < 20; i++) {
      want()
      await clock.advance(50)
    }
    expect(applied.map(({ at }) => at)).toEqual([100, 400, 700, 1000])
  })

  it('but not for more than two seconds, and at once when nothing was done lately', async () => {
    const { clock, applied, want } = world(5000)
    want()
    await clock.advance(10)
    want()
    await clock.advance(12_500)
    want()
    await clock.advance(30_000)
    want()
    await clock.advance(5000)
    expect(applied.map(({ at }) => at)).toEqual([5000, 12_000, 19_000, 47_510])
  })

  it('rests no longer when the clock is set back', async () => {
    const { clock, applied, want, runner } = world(100)
    want()
    await clock.advance(100)
    const now = clock.now.bind(clock)
    clock.now = () => now() - 3_600_000
    want()
    await clock.advance(2100)
    expect(applied.length).toBe(2)
    await runner.stop()
  })

  it('is tried again after a back-off, and changes wait for it', async () => {
    const { clock, applied, want, it, runner } = world(10)
    it.fails = true
    want()
    await clock.advance(500)
    want()
    await clock.advance(400)
    expect(applied.length).toBe(1)
    it.fails = false
    await clock.advance(1000)
    expect(applied.length).toBe(2)
    expect(runner.state.problem).toBeUndefined()
  })
})
