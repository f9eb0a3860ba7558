import { describe, expect, it } from 'vitest'
import { type Reconcile, Worker } from '../../../operator/worker.ts'
import { StoreError } from '../../../resources/store.ts'
import { ManualClock } from '../../support/manualClock.ts'
import { silentLog } from '../../support/silentLog.ts'

function workerOf(reconcile: Reconcile, more: { concurrency?: number } = {}) {
  const clock = new ManualClock()
  const results: string[] = []
  const log = silentLog
  const worker = new Worker({
    name: 'test',
    reconcile,
    clock,
    log,
    random: () => 0.5,
    onDone: ({ result }) => results.push(result),
    ...more,
  })
  return { worker, clock, results }
}

describe('worker', () => {
  it('takes a key once, however often it was added', async () => {
    const seen: string[] = []
    const { worker, clock } = workerOf(async key => void seen.push(key))
    for (const key of ['a', 'b', 'a', 'a']) worker.add(key)
    worker.start()
    await clock.advance(0)
    expect(seen).toEqual(['a', 'b'])
  })

  it('never reconciles one key twice at the same time, and looks again when it was added meanwhile', async () => {
    let [open, most, runs] = [0, 0, 0]
    const gates: (() => void)[] = []
    const { worker, clock } = workerOf(
      async () => {
        runs++
        most = Math.max(most, ++open)
        await new Promise<void>(resolve => gates.push(resolve))
        open--
        return undefined
      },
      { concurrency: 4 },
    )
    worker.start()
    worker.add('a')
    await clock.advance(0)
    worker.add('a')
    worker.add('a')
    gates.shift()!()
    await clock.advance(0)
    expect([runs, most]).toEqual([2, 1])
    gates.shift()!()
    await clock.advance(1000)
    expect(runs).toBe(2)
  })

  it('runs different keys at the same time, up to its concurrency', async () => {
    let [open, most] = [0, 0]
    const { worker, clock } = workerOf(
      async () => {
        most = Math.max(most, ++open)
        await new Promise(resolve => setImmediate(resolve))
        open--
        return undefined
      },
      { concurrency: 3 },
    )
    for (let i = 0; i < 10; i++) worker.add(`k${i}`)
    worker.start()
    await clock.advance(0)
    expect(most).toBe(3)
    expect(worker.isIdle).toBe(true)
  })

  it('doubles the wait for a key that keeps failing, and forgets the failures after a success', async () => {
    const at: number[] = []
    let broken = true
    const { worker, clock, results } = workerOf(async () => {
      at.push(clock.now())
      if (broken) throw new Error('broken')
      return undefined
    })
    worker.start()
    worker.add('a')
    await clock.advance(1800)
    expect(at.map(t => t - at[0]!)).toEqual([0, 250, 750, 1750])
    broken = false
    await clock.advance(3000)
    expect(results).toEqual(['failed', 'failed', 'failed', 'failed', 'done'])
    broken = true
    worker.add('a')
    await clock.advance(300)
    expect(at.length).toBe(7)
  })

  it('tries at once what failed, and nothing else, when it is told that it may succeed', async () => {
    const seen: string[] = []
    let broken = true
    const { worker, clock } = workerOf(async key => {
      seen.push(key)
      if (broken && key === 'a') throw new Error('broken')
      return key === 'later' ? { againMs: 1_000_000 } : undefined
    })
    worker.start()
    for (const key of ['a', 'fine', 'later']) worker.add(key)
    await clock.advance(100_000)
    const before = seen.length
    broken = false
    worker.retryFailed()
    await clock.advance(1)
    expect(seen.slice(before)).toEqual(['a'])
    worker.retryFailed()
    await clock.advance(1)
    expect(seen).toHaveLength(before + 1)
  })

  it('counts conflicts apart and tries them again', async () => {
    let n = 0
    const { worker, clock, results } = workerOf(async () => {
      if (n++ === 0) throw new StoreError('Conflict', 'changed')
      return undefined
    })
    worker.start()
    worker.add('a')
    await clock.advance(1000)
    expect(results).toEqual(['conflict', 'done'])
  })

  it('looks at a key again after the time that it asked for, earlier when it is added', async () => {
    let runs = 0
    const { worker, clock } = workerOf(async () => {
      runs++
      return { againMs: 10_000 }
    })
    worker.start()
    worker.add('a')
    await clock.advance(9_999)
    expect(runs).toBe(1)
    worker.add('a')
    await clock.advance(0)
    expect(runs).toBe(2)
    await clock.advance(9_999)
    expect(runs).toBe(2)
    await clock.advance(1)
    expect(runs).toBe(3)
  })

  it('stops after what runs has ended, and takes nothing more', async () => {
    let ended = 0
    const { worker, clock } = workerOf(async () => {
      await new Promise(resolve => setTimeout(resolve, 20))
      ended++
      return { againMs: 1 }
    })
    worker.start()
    worker.add('a')
    worker.add('b')
    await clock.advance(0)
    await worker.stop()
    expect(ended).toBe(1)
    await clock.advance(1000)
    expect(ended).toBe(1)
  })
})
