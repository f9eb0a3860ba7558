/** Who acts: a Lease in a store of one object, and a clock that the test moves. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Kinds, Lease } from '../../../resources/kinds.ts'
import { Leader } from '../../../resources/leader.ts'
import { type ResourceStore, StoreError } from '../../../resources/store.ts'
import { ManualClock } from '../../support/manualClock.ts'
import { silentLog } from '../../support/silentLog.ts'

/** Refuses writes of what has changed since it was read, as every store does. */
class LeaseStore {
  lease: Lease | undefined
  isAway = false
  #version = 0

  async get(): Promise<Lease | undefined> {
    this.#reach()
    return this.lease && structuredClone(this.lease)
  }

  async create(_kind: string, lease: Kinds['Lease']): Promise<Lease> {
    this.#reach()
    if (this.lease) throw new StoreError('AlreadyExists', 'it is there')
    return this.#put(lease)
  }

  async update(_kind: string, lease: Kinds['Lease']): Promise<Lease> {
    this.#reach()
    if (lease.metadata.resourceVersion !== this.lease?.metadata.resourceVersion)
      throw new StoreError('Conflict', 'it has changed')
    return this.#put(lease)
  }

  #reach(): void {
    if (this.isAway) throw new StoreError('Unavailable', 'no answer')
  }

  #put(lease: Lease): Lease {
    this.lease = { ...lease, metadata: { ...lease.metadata, resourceVersion: String(++this.#version) } }
    return this.lease
  }
}

let store: LeaseStore
let clock: ManualClock
let said: string[]
let leaders: Leader[]

beforeEach(() => {
  store = new LeaseStore()
  clock = new ManualClock()
  said = []
  leaders = []
})
afterEach(async () => {
  for (const leader of leaders) await leader.stop()
})

async function lead(identity: string, patienceMs?: () => number, overMs?: () => number | undefined): Promise<Leader> {
  const settings = {
    lease: { namespace: 'ipref', name: 'ipref-uplink' },
    identity,
    durationMs: 3000,
    renewMs: 500,
    ...(patienceMs ? { patienceMs } : {}),
    ...(overMs ? { overMs } : {}),
  }
  const leader = new Leader(settings, {
    store: store as unknown as ResourceStore,
    clock,
    log: silentLog,
    onStart: () => void said.push(`${identity} acts`),
    onLost: () => void said.push(`${identity} stops`),
  })
  leaders.push(leader)
  leader.start()
  await clock.advance(0)
  return leader
}

const holder = () => store.lease?.spec?.holderIdentity

describe('a Lease', () => {
  it('has one holder while it is renewed, and another when it was given back', async () => {
    const first = await lead('a')
    const second = await lead('b')
    await clock.advance(20_000)
    expect([first.isLeader, second.isLeader]).toEqual([true, false])
    await first.stop()
    expect(holder()).toBe('')
    await clock.advance(500)
    expect([second.isLeader, holder(), store.lease?.spec?.leaseTransitions]).toEqual([true, 'b', 1])
    expect(said).toEqual(['a acts', 'a stops', 'b acts'])
  })

  it('is lost by who cannot renew it, and found again', async () => {
    const first = await lead('a')
    store.isAway = true
    await clock.advance(3500)
    expect(first.isLeader).toBe(false)
    store.isAway = false
    await clock.advance(500)
    expect([first.isLeader, said]).toEqual([true, ['a acts', 'a stops', 'a acts']])
  })

  it('that nobody renews is left to others for as long as patience lasts', async () => {
    await lead('a')
    const patient = await lead('b', () => 1500)
    const ready = await lead('c', () => 0)
    // the process is gone
    store.lease = { ...store.lease!, spec: { ...store.lease!.spec, holderIdentity: 'gone' } }
    await leaders.shift()!.stop()
    await clock.advance(2000)
    expect(holder()).toBe('gone')
    await clock.advance(2000)
    expect([patient.isLeader, ready.isLeader, holder()]).toEqual([false, true, 'c'])
    await ready.stop()
    await clock.advance(1000)
    expect(holder()).toBe('')
    await clock.advance(1500)
    expect([patient.isLeader, holder()]).toEqual([true, 'b'])
  })

  it('is over sooner for who knows better, and not before', async () => {
    await lead('a')
    let isSilent = false
    const next = await lead('b', undefined, () => (isSilent ? 1250 : undefined))
    await clock.advance(5000)
    expect(next.isLeader).toBe(false)
    isSilent = true
    await clock.advance(5000)
    // silent or not, it is renewed
    expect(next.isLeader).toBe(false)
    store.lease = { ...store.lease!, spec: { ...store.lease!.spec, holderIdentity: 'gone' } }
    await leaders.shift()!.stop()
    await clock.advance(1000)
    expect(holder()).toBe('gone')
    await clock.advance(1000)
    expect([next.isLeader, holder()]).toEqual([true, 'b'])
  })

  it('is its holder’s for a whole time after nobody could renew it', async () => {
    const first = await lead('a')
    const second = await lead('b')
    await clock.advance(1000)
    store.isAway = true
    await clock.advance(60_000)
    store.isAway = false
    // b is the first to find the store again
    await leaders.shift()!.stop()
    await clock.advance(2500)
    expect([second.isLeader, holder()]).toEqual([false, 'a'])
    await clock.advance(2000)
    expect([first.isLeader, second.isLeader, holder()]).toEqual([false, true, 'b'])
  })
})
