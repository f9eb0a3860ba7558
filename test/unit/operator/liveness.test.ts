import { describe, expect, it } from 'vitest'
import { Liveness, leaseNameOf } from '../../../operator/gateway/liveness.ts'
import type { Lease } from '../../../resources/kinds.ts'
import { Leader } from '../../../resources/leader.ts'
import { type Key, type ResourceStore, StoreError } from '../../../resources/store.ts'
import { ManualClock } from '../../support/manualClock.ts'
import { silentLog } from '../../support/silentLog.ts'

const lease = (gateway: string, renewTime: string, holderIdentity = 'x'): Lease => ({
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { name: leaseNameOf(gateway) },
  spec: { holderIdentity, renewTime },
})

describe('liveness of gateways', () => {
  it('is judged by when the Lease changed here, whatever the clocks of nodes say', async () => {
    const clock = new ManualClock()
    let changes = 0
    const liveness = new Liveness(
      clock,
      () => 40_000,
      () => changes++,
    )
    liveness.change({ before: undefined, now: lease('a', '1999-01-01T00:00:00Z') })
    expect([liveness.isAlive('a'), changes]).toEqual([true, 1])
    await clock.advance(39_000)
    liveness.change({ before: undefined, now: lease('a', '1999-01-01T00:00:10Z') })
    await clock.advance(39_000)
    expect(liveness.isAlive('a')).toBe(true)
    liveness.change({ before: undefined, now: lease('a', '1999-01-01T00:00:10Z') })
    await clock.advance(2_000)
    expect([liveness.isAlive('a'), changes]).toEqual([false, 2])
  })

  it('a Lease that was given up, or deleted, is none', () => {
    const liveness = new Liveness(
      new ManualClock(),
      () => 40_000,
      () => {},
    )
    liveness.change({ before: undefined, now: lease('a', 't1') })
    liveness.change({ before: undefined, now: lease('a', 't2', '') })
    expect(liveness.isAlive('a')).toBe(false)
    liveness.change({ before: undefined, now: lease('a', 't3') })
    liveness.change({ before: lease('a', 't3'), now: undefined })
    expect(liveness.isAlive('a')).toBe(false)
  })
})

/** A store of one Lease, with conflicts as an API server has them; it can be away. */
class OneLease {
  lease: Lease | undefined
  away = false
  #version = 0

  store(): ResourceStore {
    return {
      get: async () => this.#here() && this.lease && structuredClone(this.lease),
      create: async (_kind: 'Lease', object: Lease) => {
        this.#here()
        if (this.lease) throw new StoreError('AlreadyExists', 'there')
        return this.#put(object)
      },
      update: async (_kind: 'Lease', object: Lease) => {
        this.#here()
        if (object.metadata.resourceVersion !== this.lease?.metadata.resourceVersion)
          throw new StoreError('Conflict', 'changed')
        return this.#put(object)
      },
    } as unknown as ResourceStore
  }

  #here(): true {
    if (this.away) throw new StoreError('Unavailable', 'away')
    return true
  }

  #put(object: Lease): Lease {
    this.lease = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } }
    return this.lease
  }
}

describe('leadership', () => {
  const key: Key = { namespace: 'ipref', name: 'ipref-operator' }
  const leaderOf = (api: OneLease, clock: ManualClock, identity: string) =>
    new Leader(
      { lease: key, identity, durationMs: 15_000, renewMs: 2_000 },
      { store: api.store(), clock, log: silentLog, onStart: () => {}, onLost: () => {} },
    )

  it('one of two acts, and the other takes over a whole duration after it fell silent', async () => {
    const [api, clock] = [new OneLease(), new ManualClock()]
    const [a, b] = [leaderOf(api, clock, 'a'), leaderOf(api, clock, 'b')]
    a.start()
    await clock.advance(0)
    b.start()
    await clock.advance(60_000)
    expect([a.isLeader, b.isLeader]).toEqual([true, false])
    // the process of a is gone: nothing of it runs any more
    const silent = leaderOf(api, clock, 'c')
    api.lease = { ...api.lease!, spec: { ...api.lease!.spec, holderIdentity: 'dead' } }
    silent.start()
    await clock.advance(14_000)
    expect([a.isLeader, b.isLeader, silent.isLeader]).toEqual([false, false, false])
    await clock.advance(6_000)
    expect([a, b, silent].filter(leader => leader.isLeader)).toHaveLength(1)
  })

  it('acts no more when it cannot renew in time', async () => {
    const [api, clock] = [new OneLease(), new ManualClock()]
    const a = leaderOf(api, clock, 'a')
    a.start()
    await clock.advance(2_000)
    api.away = true
    await clock.advance(12_000)
    expect(a.isLeader).toBe(true)
    await clock.advance(6_000)
    expect(a.isLeader).toBe(false)
    api.away = false
    await clock.advance(4_000)
    expect(a.isLeader).toBe(true)
  })

  it('gives the Lease back at its end, and another need not wait', async () => {
    const [api, clock] = [new OneLease(), new ManualClock()]
    const [a, b] = [leaderOf(api, clock, 'a'), leaderOf(api, clock, 'b')]
    a.start()
    b.start()
    await clock.advance(2_000)
    const [winner, other] = a.isLeader ? [a, b] : [b, a]
    await winner.stop()
    await clock.advance(2_500)
    expect(other.isLeader).toBe(true)
  })
})
