/**
 * The operator ends before or after its n-th write, for every n that a whole history of objects needs, and another one goes on: nothing may be lost, given
 * twice or left over. Then the worse kinds of company: views that are behind, two operators at once, users in between, writes that are refused.
 */
import { afterEach, describe, expect, it } from 'vitest'
import type { IprefService, IprefServiceSpec } from '../../../../resources/kinds.ts'
import { StoreError } from '../../../../resources/store.ts'
import { CrashPoint } from '../../../support/crashPoint.ts'
import { headless, iprefService, pod, service, slice } from '../../../support/operatorObjects.ts'
import { type Operator, ServiceWorld } from '../../../support/serviceWorld.ts'
import { CrashingStore, LaggingStore, RefusingStore } from '../../../support/storeWrappers.ts'

const HOUR_MS = 3_600_000
const publishing = (name: string, spec: Partial<IprefServiceSpec> = {}): IprefService =>
  iprefService({ target: { service: { name } }, ...spec }, { name })

let cleanUp: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step()
  cleanUp = []
})

async function openWorld(): Promise<ServiceWorld> {
  const world = await ServiceWorld.open()
  cleanUp.push(() => world.close())
  await world.put(
    pod('a-pod', ['10.244.0.1']),
    pod('p1', ['10.244.1.1']),
    pod('p2', ['10.244.1.2']),
    pod('p3', ['10.244.1.3']),
  )
  await world.put(
    service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] }, { name: 'a' }),
    headless({}, { name: 'pods' }),
  )
  await world.put(
    slice(['10.244.0.1'], {}, { service: 'a' }),
    slice(['10.244.1.1', '10.244.1.2'], {}, { service: 'pods' }),
  )
  return world
}

/** Address → reference, of all objects. */
async function given(world: ServiceWorld): Promise<Map<string, string>> {
  const objects = await world.store.list('IprefService')
  return new Map(
    objects.flatMap(({ status }) => (status?.mappings ?? []).map(({ address, reference }) => [address, reference])),
  )
}

/** What users do, with what must be true after each step. `settle`: the operator, whichever, has done all there is. */
async function history(world: ServiceWorld, settle: (ms?: number, stepMs?: number) => Promise<void>): Promise<void> {
  const check = async () => expect(await world.faults()).toEqual([])
  // an object of one address, one of pods, one that shares the address, one with a reference of its own that conflicts with another
  await world.put(publishing('a'), publishing('pods'), publishing('shared', { target: { service: { name: 'a' } } }))
  await settle()
  await check()
  const first = await given(world)
  expect([...first.keys()].sort()).toEqual(['10.244.1.1', '10.244.1.2', '10.96.0.1'])

  // a pod goes, another comes
  await world.put(slice(['10.244.1.2', '10.244.1.3'], {}, { service: 'pods' }))
  await settle()
  await check()
  const second = await given(world)
  expect(second.get('10.244.1.2')).toBe(first.get('10.244.1.2'))
  expect([...first.values()]).not.toContain(second.get('10.244.1.3'))

  // the owner of a shared reference goes: the other keeps it
  await world.remove('IprefService', 'a')
  await settle(70_000, 5000)
  await check()
  expect(await world.object('a')).toBeUndefined()
  expect(await world.reference('shared')).toBe(first.get('10.96.0.1'))

  // pods are withdrawn and made again
  await world.remove('IprefService', 'pods')
  await settle(70_000, 5000)
  await world.put(publishing('pods'))
  await settle()
  await check()
  expect((await given(world)).size).toBe(3)
  for (const reference of (await given(world)).values())
    expect([...first.values(), ...second.values()]).toContain(reference)

  // all goes, and is forgotten
  await world.remove('IprefService', 'pods')
  await world.remove('IprefService', 'shared')
  await settle(70_000, 5000)
  await settle(25 * HOUR_MS, 5 * HOUR_MS)
  await check()
  expect(await world.store.list('IprefService')).toEqual([])
  expect(await world.claims()).toEqual([])
}

describe('an operator that ends', () => {
  /** Did it end before the history did? */
  async function run(at: number, when: 'before' | 'after'): Promise<boolean> {
    const world = await openWorld()
    const point = new CrashPoint(at, when)
    let operator: Operator | undefined = await world.start(new CrashingStore(world.store, point))
    await history(world, async (ms = 0, stepMs = ms) => {
      for (let left = ms; left >= 0; left -= Math.max(1, stepMs)) {
        if (ms > 0) await world.clock.advance(Math.min(left, stepMs))
        await operator?.settle()
        if (point.hasEnded && operator) {
          await operator.stop()
          operator = undefined
        }
        operator ??= await world.start()
        await operator.settle()
      }
    })
    await operator?.stop()
    for (const step of cleanUp.splice(0)) await step()
    return point.hasEnded
  }

  it.each(['before', 'after'] as const)(
    '%s any of its writes is followed by one that brings everything in order',
    async when => {
      let writes = 0
      while (await run(writes + 1, when)) writes++
      // finalizers, claims, statuses in two passes, releases
      expect(writes).toBeGreaterThan(25)
    },
    300_000,
  )
})

describe('views that are behind', () => {
  it.each([1, 2, 3])(
    'nothing is lost when changes come %i at a time, long after',
    async count => {
      const world = await openWorld()
      const store = new LaggingStore(world.store)
      const operator = await world.start(store)
      cleanUp.push(() => operator.stop())
      store.isLagging = true
      await history(world, async (ms = 0, stepMs = ms) => {
        for (let left = ms; left >= 0; left -= Math.max(1, stepMs)) {
          if (ms > 0) await world.clock.advance(Math.min(left, stepMs))
          await operator.settle()
          while (store.waiting > 0) {
            store.release(count)
            await operator.advance(500)
          }
          await operator.advance(1000)
        }
      })
    },
    120_000,
  )

  it('a claim that is not seen yet is not made twice', async () => {
    const world = await openWorld()
    const store = new LaggingStore(world.store)
    const operator = await world.start(store)
    cleanUp.push(() => operator.stop())
    await world.put(publishing('a'))
    store.isLagging = true
    await operator.settle()
    for (let i = 0; i < 3; i++) await operator.resync()
    expect((await world.claims()).length).toBeLessThanOrEqual(1)
    store.isLagging = false
    store.release()
    await operator.advance(10_000, 1000)
    expect(await world.claims()).toHaveLength(1)
    expect(await world.faults()).toEqual([])
  })
})

describe('two operators at once', () => {
  it('agree, though both believe to lead', async () => {
    const world = await openWorld()
    const [a, b] = [await world.start(), await world.start(new LaggingStore(world.store))]
    cleanUp.push(
      () => a.stop(),
      () => b.stop(),
    )
    await history(world, async (ms = 0, stepMs = ms) => {
      for (let left = ms; left >= 0; left -= Math.max(1, stepMs)) {
        if (ms > 0) await world.clock.advance(Math.min(left, stepMs))
        // conflicts are tried again after a while
        for (let i = 0; i < 8; i++) {
          await world.clock.advance(300)
          await Promise.all([a.settle(), b.settle()])
        }
      }
    })
    expect([...a.results, ...b.results]).toContain('conflict')
  }, 180_000)
})

describe('somebody in between', () => {
  it('an object edited during its reconcile is decided anew', async () => {
    const world = await openWorld()
    let edits = 0
    const store = new RefusingStore(world.store, () => undefined)
    const operator = await world.start(store)
    cleanUp.push(() => operator.stop())
    // before each status write a user is faster
    const { updateStatus } = world.store
    world.store.updateStatus = async (kind, object) => {
      if (kind === 'IprefService' && edits < 3) {
        edits++
        await world.change('IprefService', 'a', one => {
          one.spec.ttlSeconds = 60 + edits
        })
      }
      return updateStatus.call(world.store, kind, object) as never
    }
    await world.put(publishing('a'))
    await operator.advance(20_000, 1000)
    expect(operator.results).toContain('conflict')
    const { metadata, status, spec } = (await world.object('a'))!
    expect([edits, spec.ttlSeconds, status!.observedGeneration]).toEqual([3, 63, metadata.generation])
    expect(await world.claims()).toHaveLength(1)
    expect(await world.faults()).toEqual([])
  })

  it('claims and finalizers that somebody takes away are made again', async () => {
    const world = await openWorld()
    const operator = await world.start()
    cleanUp.push(() => operator.stop())
    await world.put(publishing('a'))
    await operator.settle()
    const [claim] = await world.claims()
    await world.store.delete('IprefReference', { name: claim!.metadata.name })
    await world.change('IprefService', 'a', ({ metadata }) => {
      metadata.finalizers = []
    })
    await operator.advance(5000, 500)
    expect((await world.object('a'))!.metadata.finalizers).toHaveLength(1)
    expect(await world.faults()).toEqual([])
    expect((await world.claims())[0]!.metadata.name).toBe(claim!.metadata.name)
  })
})

describe('writes that are refused', () => {
  const forbidden = () => new StoreError('Forbidden', 'not allowed', { status: 403 })

  it.each([
    ['claims', 'IprefReference', 'create'],
    ['changes of claims', 'IprefReference', 'update'],
    ['status', 'IprefService', 'updateStatus'],
    ['finalizers', 'IprefService', 'update'],
    ['Events', 'Event', 'create'],
  ] as const)(
    'of %s: tried again, less and less often, and all is well when they are allowed',
    async (_name, kind, verb) => {
      const world = await openWorld()
      const store = new RefusingStore(world.store, (v, k) => (v === verb && k === kind ? forbidden() : undefined))
      const operator = await world.start(store)
      cleanUp.push(() => operator.stop())
      await world.put(publishing('a'), publishing('pods'))
      await operator.advance(60_000, 1000)
      expect(operator.results.filter(result => result === 'failed').length).toBeLessThan(40)
      store.refusal = () => undefined
      await operator.advance(600_000, 10_000)
      expect(await world.faults()).toEqual([])
      expect((await given(world)).size).toBe(3)
    },
    60_000,
  )

  it('an object can be deleted though only its finalizer may be written', async () => {
    const world = await openWorld()
    const store = new RefusingStore(world.store, () => undefined)
    const operator = await world.start(store)
    cleanUp.push(() => operator.stop())
    await world.put(publishing('a'))
    await operator.settle()
    store.refusal = (verb, kind) => (verb === 'update' && kind === 'IprefService' ? undefined : forbidden())
    await world.remove('IprefService', 'a')
    await operator.advance(1_200_000, 10_000)
    expect(await world.object('a')).toBeUndefined()
  })
})
