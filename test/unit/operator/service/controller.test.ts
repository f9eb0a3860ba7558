import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FINALIZER } from '../../../../operator/service/reconcile.ts'
import type { IprefService, IprefServiceSpec } from '../../../../resources/kinds.ts'
import { versionOfMappings } from '../../../../resources/view.ts'
import {
  gateway,
  headless,
  iprefService,
  member,
  node,
  pod,
  service,
  settings,
  slice,
} from '../../../support/operatorObjects.ts'
import { type Operator, ServiceWorld } from '../../../support/serviceWorld.ts'

const HOUR_MS = 3_600_000

let world: ServiceWorld
let operator: Operator

beforeEach(async () => {
  world = await ServiceWorld.open()
})
afterEach(async () => {
  await operator?.stop()
  await world.close()
})

/** A Service of that name and ClusterIP, with a ready pod behind it. */
async function publishable(name: string, address: string): Promise<void> {
  const podAddress = address.replace('10.96', '10.244')
  await world.put(pod(`${name}-pod`, [podAddress]))
  await world.put(service({ clusterIP: address, clusterIPs: [address] }, { name }))
  await world.put(slice([podAddress], {}, { service: name }))
}

const publishing = (name: string, spec: Partial<IprefServiceSpec> = {}): IprefService =>
  iprefService({ target: { service: { name } }, ...spec }, { name })

async function writes(): Promise<number> {
  return [...world.store.requests].reduce((sum, [name, n]) => (/^(get|list) /.test(name) ? sum : sum + n), 0)
}

/** The gateway reports everything up to now. */
async function report(name: string): Promise<void> {
  const object = (await world.store.get('IprefGateway', { name }))!
  const observedResourceVersion = operator.cluster.services.resourceVersion!
  await world.store.updateStatus('IprefGateway', {
    ...object,
    status: { observedGeneration: 1, ...object.status, observedResourceVersion },
  })
  await operator.settle()
}

describe('one object', () => {
  it('is published step by step: finalizer, claim, mapping, proof', async () => {
    operator = await world.start()
    await world.put(gateway('node-1'))
    await publishable('web', '10.96.0.10')
    await world.put(publishing('web'))
    await operator.settle()
    const object = (await world.object('web'))!
    expect(object.metadata.finalizers).toEqual([FINALIZER])
    const [claim] = await world.claims()
    expect(claim!.spec).toMatchObject({
      namespace: 'shop',
      name: 'web',
      uid: object.metadata.uid,
      slot: 0,
      family: 'IPv4',
    })
    expect(object.status).toMatchObject({ internalName: 'web.shop.in.example.com', publicName: 'web.shop.example.com' })
    expect(await world.condition('web')).toBe('Unknown WaitingForGateways')
    await report('node-1')
    expect(await world.condition('web')).toBe('True Ready')
    expect(await world.faults()).toEqual([])
  })

  it('mappingsVersion is that of the write of the mappings, or later, and a gateway that saw less does not count', async () => {
    operator = await world.start()
    await publishable('web', '10.96.0.10')
    await world.put(
      gateway('node-1', {}, { observedResourceVersion: '1' }),
      gateway('node-2', {}, { observedResourceVersion: '1' }),
    )
    await world.put(publishing('web'))
    await operator.settle()
    // known without being written: it goes along with the next write
    const waiting = (await world.object('web'))!
    expect(waiting.status!.mappingsVersion).toBeUndefined()
    expect(versionOfMappings(waiting)).toBe(waiting.metadata.resourceVersion)
    await report('node-1')
    expect(await world.condition('web', 'Mapped')).toBe('Unknown WaitingForGateways')
    await report('node-2')
    expect(await world.condition('web', 'Mapped')).toBe('True Mapped')
    expect((await world.object('web'))!.status!.mappingsVersion).toBe(waiting.metadata.resourceVersion)
  })

  it('an unchanged resync makes no write', async () => {
    operator = await world.start()
    await world.put(gateway('node-1'))
    for (const [name, address] of [
      ['a', '10.96.0.1'],
      ['b', '10.96.0.2'],
    ] as const) {
      await publishable(name, address)
      await world.put(publishing(name))
    }
    await world.put(publishing('lost'), publishing('a2', { target: { service: { name: 'a' } } }))
    await operator.settle()
    await report('node-1')
    const before = [await writes(), operator.results.length] as const
    await operator.resync()
    await operator.advance(HOUR_MS)
    await operator.resync()
    expect(operator.results.length).toBeGreaterThanOrEqual(before[1] + 8)
    expect(await writes()).toBe(before[0])
  })

  it('a restart makes no write', async () => {
    operator = await world.start()
    await publishable('web', '10.96.0.10')
    await world.put(publishing('web'))
    await operator.settle()
    await operator.stop()
    const before = await writes()
    operator = await world.start()
    expect(operator.results).toContain('done')
    expect(await writes()).toBe(before)
  })

  it('follows its target, and keeps its reference', async () => {
    operator = await world.start()
    await world.put(publishing('web'))
    await operator.settle()
    expect(await world.condition('web', 'Resolved')).toBe('False ServiceNotFound')
    await publishable('web', '10.96.0.10')
    await operator.settle()
    const reference = await world.reference('web')
    expect(await world.mapped('web')).toEqual([`0 10.96.0.10 ${reference}`])
    await world.remove('Service', 'web')
    await operator.settle()
    expect([await world.condition('web', 'Resolved'), await world.mapped('web'), await world.faults()]).toEqual([
      'False ServiceNotFound',
      [],
      [],
    ])
    await publishable('web', '10.96.0.99')
    await operator.settle()
    expect(await world.mapped('web')).toEqual([`0 10.96.0.99 ${reference}`])
  })

  it('an edit of its spec is seen in the generation of all conditions', async () => {
    operator = await world.start()
    await publishable('web', '10.96.0.10')
    await world.put(publishing('web'))
    await operator.settle()
    await world.change('IprefService', 'web', object => {
      object.spec.ports = [{ port: 443, protocol: 'TCP' }]
    })
    await operator.settle()
    const { metadata, status } = (await world.object('web'))!
    expect(metadata.generation).toBe(2)
    expect(status!.observedGeneration).toBe(2)
    expect(new Set(status!.conditions!.map(one => one.observedGeneration))).toEqual(new Set([2]))
    expect(status!.mappings![0]!.ports).toEqual([{ port: 443, protocol: 'TCP' }])
  })

  it('says in Events what a person would act on, once', async () => {
    operator = await world.start()
    await world.put(publishing('web'))
    await operator.settle()
    await operator.resync()
    const events = (await world.store.list('Event')).map(({ type, reason, count }) => `${type} ${reason} ${count}`)
    expect(events).toEqual(['Warning ServiceNotFound 1'])
  })

  it('settings that change are looked at', async () => {
    operator = await world.start()
    await world.put(iprefService({ target: { address: '192.0.2.7' } }, { name: 'lab' }))
    await operator.settle()
    expect(await world.condition('lab', 'Accepted')).toBe('False TargetForbidden')
    operator.cluster.config = settings('targets: {allowedRanges: [{cidr: 192.0.2.0/24}]}')
    await operator.resync()
    expect(await world.condition('lab', 'Accepted')).toBe('True Accepted')
  })
})

describe('pods', () => {
  const endpoints = (...addresses: string[]) => world.put(slice(addresses))

  it('have a reference each, which the others keep when one goes', async () => {
    operator = await world.start()
    await world.put(pod('a', ['10.244.0.1']), pod('b', ['10.244.0.2']))
    await world.put(headless())
    await endpoints('10.244.0.1', '10.244.0.2')
    await world.put(publishing('web'))
    await operator.settle()
    const at = async (address: string) => (await world.mapped('web')).find(text => text.includes(` ${address} `))
    const [a, b] = [await at('10.244.0.1'), await at('10.244.0.2')]
    await endpoints('10.244.0.2')
    await operator.settle()
    expect(await world.mapped('web')).toEqual([b])
    await world.put(pod('c', ['10.244.0.3']))
    await endpoints('10.244.0.2', '10.244.0.3')
    await operator.settle()
    expect(await at('10.244.0.3')).toMatch(/^2 /)
    await endpoints('10.244.0.1', '10.244.0.2', '10.244.0.3')
    await operator.settle()
    expect([await at('10.244.0.1'), await at('10.244.0.2')]).toEqual([a, b])
    expect(await world.faults()).toEqual([])
  })

  it('who found no slot is given one when it is free', async () => {
    operator = await world.start()
    const many = Array.from({ length: 257 }, (_, i) => `192.0.${i >> 8}.${(i & 255) + 0}`)
    operator.cluster.config = settings('targets: {allowedRanges: [{cidr: 192.0.0.0/16}]}')
    await world.put(headless())
    await endpoints(...many.slice(0, 256))
    await world.put(publishing('web'))
    await operator.settle()
    await endpoints(...many.slice(1))
    await operator.settle()
    expect(await world.condition('web', 'Resolved')).toBe('True WaitingForSlot')
    await operator.advance(121_000, 60_500)
    expect(await world.condition('web', 'Resolved')).toBe('True Resolved')
    expect(await world.faults()).toEqual([])
  }, 180_000)

  it('members of a StatefulSet have their ordinals', async () => {
    operator = await world.start()
    await world.put(member('web', 0, ['10.244.0.1']), member('web', 1, ['10.244.0.2']))
    await world.put(iprefService({ target: { pods: { selector: { matchLabels: { app: 'web' } } } } }))
    await operator.settle()
    const [first, second] = (await world.object('web'))!.status!.mappings!
    expect([first!.member, second!.member]).toEqual(['web-0', 'web-1'])
    await world.remove('Pod', 'web-0')
    await operator.settle()
    await world.put(member('web', 0, ['10.244.0.9']))
    await operator.settle()
    expect(await world.mapped('web')).toEqual([`0 10.244.0.9 ${first!.reference}`, `1 10.244.0.2 ${second!.reference}`])
  })
})

describe('the end of an object', () => {
  beforeEach(async () => {
    operator = await world.start()
    await publishable('web', '10.96.0.10')
    await world.put(publishing('web'))
    await operator.settle()
  })

  it('first the records, one TTL later the mapping and the object, at last the claim', async () => {
    world.publication.isGone = false
    await world.remove('IprefService', 'web')
    await operator.advance(10_000, 2000)
    expect(await world.mapped('web')).toHaveLength(1)
    world.publication.isGone = true
    await operator.advance(2000)
    expect((await world.object('web'))!.status!.withdrawnAt).toBeDefined()
    await operator.advance(56_000, 2000)
    expect(await world.mapped('web')).toHaveLength(1)
    await operator.advance(6000, 2000)
    expect(await world.object('web')).toBeUndefined()
    expect((await world.claims())[0]!.spec.releasedAt).toBeDefined()
    await operator.advance(23 * HOUR_MS)
    expect(await world.claims()).toHaveLength(1)
    await operator.advance(2 * HOUR_MS, HOUR_MS)
    expect(await world.claims()).toEqual([])
  })

  it('comes after ten minutes whatever is left of its records', async () => {
    world.publication.isGone = false
    await world.remove('IprefService', 'web')
    await operator.advance(598_000, 2000)
    expect(await world.object('web')).toBeDefined()
    await operator.advance(4000, 2000)
    expect(await world.object('web')).toBeUndefined()
  })

  it('comes after ten minutes also where the TTL is three hours', async () => {
    await world.change('IprefService', 'web', object => {
      object.spec.ttlSeconds = 10_800
    })
    await operator.settle()
    await world.remove('IprefService', 'web')
    await operator.advance(602_000, 20_000)
    expect(await world.object('web')).toBeUndefined()
  })

  it('comes after ten minutes of operators that were started again and again', async () => {
    world.publication.isGone = false
    await world.remove('IprefService', 'web')
    for (let i = 0; i < 11; i++) {
      await operator.stop()
      operator = await world.start()
      await operator.advance(58_000, 29_000)
    }
    expect(await world.object('web')).toBeUndefined()
  })

  it('comes at once where nothing was published', async () => {
    await world.put(publishing('lost'))
    await operator.settle()
    world.publication.isGone = false
    await world.remove('IprefService', 'lost')
    await operator.settle()
    expect(await world.object('lost')).toBeUndefined()
  })

  it('waits for the finalizers of others, without work', async () => {
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = [...metadata.finalizers!, 'example.com/other']
    })
    await world.remove('IprefService', 'web')
    await operator.advance(120_000, 2000)
    expect((await world.object('web'))!.metadata.finalizers).toEqual(['example.com/other'])
    const before = operator.results.length
    await operator.advance(HOUR_MS)
    expect(operator.results.length).toBe(before)
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = []
    })
    await operator.settle()
    expect((await world.claims())[0]!.spec.releasedAt).toBeDefined()
  })

  it('somebody takes the finalizer away: the claims are held all the same', async () => {
    await world.remove('IprefService', 'web')
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = []
    })
    await operator.settle()
    expect(await world.object('web')).toBeUndefined()
    expect((await world.claims())[0]!.spec.releasedAt).toBeDefined()
  })

  async function remade(after: number): Promise<[string, string]> {
    const reference = (await world.reference('web'))!
    await world.remove('IprefService', 'web')
    await operator.advance(120_000, 2000)
    expect(await world.object('web')).toBeUndefined()
    await operator.advance(after, after)
    await world.put(publishing('web'))
    await operator.settle()
    expect(await world.faults()).toEqual([])
    return [reference, (await world.reference('web'))!]
  }

  it('made again within the hold time, it has its reference again', async () => {
    const [before, now] = await remade(23 * HOUR_MS)
    expect(now).toBe(before)
    expect(await world.claims()).toHaveLength(1)
  })

  it('made again after the hold time, it has another one', async () => {
    const [before, now] = await remade(25 * HOUR_MS)
    expect(now).not.toBe(before)
    expect(await world.claims()).toHaveLength(1)
  })

  it('made again in the moment that it goes, it has its reference again', async () => {
    const reference = await world.reference('web')
    await world.remove('IprefService', 'web')
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = []
    })
    await world.put(publishing('web'))
    await operator.settle()
    expect(await world.reference('web')).toBe(reference)
    expect(await world.faults()).toEqual([])
  })

  it('made again while there is no operator, it has its reference again', async () => {
    const reference = await world.reference('web')
    await operator.stop()
    await world.remove('IprefService', 'web')
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = []
    })
    await world.put(publishing('web'))
    operator = await world.start()
    expect(await world.reference('web')).toBe(reference)
    expect(await world.faults()).toEqual([])
  })

  it('gone for long while there is no operator, its claim stays with who shares the reference', async () => {
    await world.put(publishing('shared', { target: { service: { name: 'web' } } }))
    await operator.settle()
    const reference = await world.reference('web')
    await operator.stop()
    await world.remove('IprefService', 'web')
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = []
    })
    const [claim] = await world.claims()
    await world.store.update('IprefReference', {
      ...claim!,
      spec: { ...claim!.spec, releasedAt: '2029-12-01T00:00:00Z' },
    })
    operator = await world.start()
    expect([await world.reference('shared'), await world.faults()]).toEqual([reference, []])
    expect([...world.store.requests.keys()].filter(name => name.startsWith('delete IprefReference'))).toEqual([])
  })

  it('gone while there is no operator, its claims go after the hold time', async () => {
    await operator.stop()
    await world.remove('IprefService', 'web')
    await world.change('IprefService', 'web', ({ metadata }) => {
      metadata.finalizers = []
    })
    operator = await world.start()
    expect((await world.claims())[0]!.spec.releasedAt).toBeDefined()
    await operator.advance(25 * HOUR_MS, HOUR_MS * 5)
    expect(await world.claims()).toEqual([])
  })
})

describe('two objects in conflict', () => {
  beforeEach(async () => {
    operator = await world.start()
    await publishable('a', '10.96.0.1')
    await publishable('b', '10.96.0.2')
  })

  async function removed(name: string): Promise<void> {
    await world.remove('IprefService', name)
    await operator.advance(120_000, 2000)
    expect(await world.object(name)).toBeUndefined()
  }

  it('over a name: the older has it, the younger says so, and has it when the older goes', async () => {
    await world.put(publishing('a', { hostname: 'www' }), publishing('b', { hostname: 'www' }))
    await operator.settle()
    expect([await world.condition('a', 'Accepted'), await world.condition('b', 'Accepted')]).toEqual([
      'True Accepted',
      'False NameConflict',
    ])
    expect(await world.mapped('b')).toEqual([])
    await removed('a')
    expect(await world.condition('b', 'Accepted')).toBe('True Accepted')
    expect(await world.mapped('b')).toHaveLength(1)
  })

  it('over a name: also when the older asks for another one, and takes it back', async () => {
    await world.put(publishing('a', { hostname: 'www' }), publishing('b', { hostname: 'www' }))
    await operator.settle()
    const hostname = (name: string) =>
      world.change('IprefService', 'a', object => {
        object.spec.hostname = name
      })
    await hostname('other')
    await operator.settle()
    expect(await world.condition('b', 'Accepted')).toBe('True Accepted')
    const reference = await world.reference('b')
    await hostname('www')
    await operator.settle()
    expect(await world.condition('b', 'Accepted')).toBe('False NameConflict')
    await hostname('other')
    await operator.settle()
    expect(await world.reference('b')).toBe(reference)
  })

  it('over an address: both have its reference, and the younger keeps it when the older goes', async () => {
    await world.put(publishing('a'), publishing('a2', { target: { service: { name: 'a' } } }))
    await operator.settle()
    const reference = await world.reference('a')
    expect(await world.reference('a2')).toBe(reference)
    expect(await world.claims()).toHaveLength(1)
    await removed('a')
    expect(await world.reference('a2')).toBe(reference)
    expect(await world.faults()).toEqual([])
    await operator.advance(25 * HOUR_MS, HOUR_MS * 5)
    expect(await world.reference('a2')).toBe(reference)
    expect(await world.claims()).toHaveLength(1)
  })

  it("over an address: who comes to another's takes that reference, whoever is older, and has its own again afterwards", async () => {
    await world.put(publishing('a'), publishing('b'))
    await operator.settle()
    const [a, b] = [await world.reference('a'), await world.reference('b')]
    const target = (name: string) =>
      world.change('IprefService', 'a', object => {
        object.spec.target = { service: { name } }
      })
    await target('b')
    await operator.settle()
    await operator.resync()
    expect([await world.reference('a'), await world.reference('b'), await world.faults()]).toEqual([b, b, []])
    await target('a')
    await operator.settle()
    expect([await world.reference('a'), await world.reference('b'), await world.faults()]).toEqual([a, b, []])
  })

  it('over an address with references of their own: the older wins', async () => {
    const own = (reference: string) => ({ target: { service: { name: 'a' } }, reference })
    await world.put(publishing('a', own('2466')), publishing('b', own('2467')))
    await operator.settle()
    expect([await world.reference('a'), await world.condition('b', 'Accepted')]).toEqual([
      '2466',
      'False AddressAlreadyReferenced',
    ])
    await removed('a')
    expect([await world.reference('b'), await world.condition('b', 'Accepted')]).toEqual(['2467', 'True Accepted'])
    expect(await world.faults()).toEqual([])
  })

  it('over a reference: the older wins, and the younger has it when the older goes', async () => {
    await world.put(publishing('a', { reference: '2466' }), publishing('b', { reference: '2466' }))
    await operator.settle()
    expect([await world.reference('a'), await world.condition('b', 'Accepted')]).toEqual([
      '2466',
      'False ReferenceTaken',
    ])
    await removed('a')
    expect([await world.reference('b'), await world.condition('b', 'Accepted')]).toEqual(['2466', 'True Accepted'])
    expect(await world.faults()).toEqual([])
  })

  it('over a reference: one of another namespace has it only after the hold time', async () => {
    await world.put(publishing('a', { reference: '2466' }))
    const theirs = { namespace: 'other' }
    await world.put(pod('b', ['10.244.9.9'], { metadata: theirs }))
    await world.put(service({ clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9'] }, theirs))
    await world.put(slice(['10.244.9.9'], {}, theirs))
    await world.put(iprefService({ reference: '2466' }, theirs))
    await operator.settle()
    expect(await world.condition('web', 'Accepted', 'other')).toBe('False ReferenceTaken')
    await removed('a')
    expect(await world.condition('web', 'Accepted', 'other')).toBe('False ReferenceTaken')
    await operator.advance(25 * HOUR_MS, HOUR_MS)
    expect(await world.reference('web', 'other')).toBe('2466')
    expect(await world.faults()).toEqual([])
  })

  it('made at once while there is no operator, in any order: the same objects win', async () => {
    for (const order of [
      ['a', 'b'],
      ['b', 'a'],
    ]) {
      for (const name of order) await world.put(publishing(name, { hostname: `www-${order[0]}`, reference: '2466' }))
      await operator.settle()
      expect(await world.condition(order[0]!, 'Accepted')).toBe('True Accepted')
      expect(await world.condition(order[1]!, 'Accepted')).toBe('False NameConflict')
      for (const name of order) await removed(name)
    }
  })
})

describe('what surrounds an object', () => {
  it('a gateway that refuses is named, until it does not', async () => {
    operator = await world.start()
    await publishable('web', '10.96.0.10')
    await world.put(gateway('node-1'))
    await world.put(publishing('web'))
    await operator.settle()
    await report('node-1')
    const refused = [
      { namespace: 'shop', name: 'web', reason: 'ReferenceInUse', message: 'a line of the hosts file has it' },
    ]
    const object = (await world.store.get('IprefGateway', { name: 'node-1' }))!
    await world.store.updateStatus('IprefGateway', { ...object, status: { ...object.status!, refused } })
    await operator.settle()
    expect(await world.condition('web', 'Mapped')).toBe('False ReferenceInUse')
    const after = (await world.store.get('IprefGateway', { name: 'node-1' }))!
    await world.store.updateStatus('IprefGateway', { ...after, status: { ...after.status!, refused: [] } })
    await operator.settle()
    expect(await world.condition('web', 'Mapped')).toBe('True Mapped')
  })

  it('a gateway more is waited for only when it has reported', async () => {
    operator = await world.start()
    await publishable('web', '10.96.0.10')
    await world.put(gateway('node-1'))
    await world.put(publishing('web'))
    await operator.settle()
    await report('node-1')
    const before = await writes()
    await world.put(gateway('node-2'))
    await operator.resync()
    expect(await world.condition('web', 'Mapped')).toBe('True Mapped')
    expect(await writes()).toBe(before + 1)
  })

  it('a node that comes with an address of a target withdraws it', async () => {
    operator = await world.start(world.store, settings('targets: {allowedRanges: [{cidr: 192.0.2.0/24}]}'))
    await world.put(iprefService({ target: { address: '192.0.2.7' } }, { name: 'lab' }))
    await operator.settle()
    expect(await world.condition('lab', 'Accepted')).toBe('True Accepted')
    await world.put(node('node-9', ['192.0.2.7']))
    await operator.settle()
    expect(await world.condition('lab', 'Accepted')).toBe('False TargetForbidden')
    await world.remove('Node', 'node-9')
    await operator.settle()
    expect(await world.condition('lab', 'Accepted')).toBe('True Accepted')
  })
})
