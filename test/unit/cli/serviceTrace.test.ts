/** `ipref trace IPREFSERVICE`: of everything that can be wrong on the way, the first is named, with what to do. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findService, gatherFacts } from '../../../cli/serviceFacts.ts'
import { traceService } from '../../../cli/serviceTrace.ts'
import { exitCodeOf } from '../../../cli/trace.ts'
import { Rcode } from '../../../dns/constants.ts'
import type { TraceReport } from '../../../gateway/controlReports.ts'
import { StoreError } from '../../../resources/store.ts'
import { pod, slice } from '../../support/operatorObjects.ts'
import { AA, condition, TracedWorld } from '../../support/tracedWorld.ts'

let world: TracedWorld
beforeEach(async () => {
  world = new TracedWorld()
  await world.open()
})
afterEach(() => world.close())

async function traced(subject = 'shop/web'): Promise<TraceReport> {
  const object = await findService(world.store, subject, undefined)
  return traceService(await gatherFacts(world.store, object, 'ipref'), world.ports)
}

const PUBLIC = '203.0.113.53 web.shop.example.com TXT'
const INTERNAL = '10.96.0.53 web.shop.in.example.com A'

const refusal = { namespace: 'shop', name: 'web', reason: 'Shadowed', message: '10.96.0.10 is said by static' }
const rows: readonly [
  what: string,
  change: (world: TracedWorld) => unknown,
  first: string,
  detail: RegExp,
  fix: RegExp,
][] = [
  [
    'the operator has never seen it',
    w => w.edit('IprefService', 'web', o => Object.assign(o, { status: { observedGeneration: -1 } }), 'updateStatus'),
    'operator',
    /has not seen it/,
    /kubectl get pods/,
  ],
  [
    'the operator has not seen the last change',
    w => w.edit('IprefService', 'web', o => Object.assign(o.spec, { ttlSeconds: 30 })),
    'operator',
    /has not seen the last change/,
    /its log/,
  ],
  [
    'it is being deleted',
    async w => {
      await w.edit('IprefService', 'web', o => Object.assign(o.metadata, { finalizers: ['ipref.io/withdraw'] }))
      await w.store.delete('IprefService', { namespace: 'shop', name: 'web' })
    },
    'object',
    /is being deleted/,
    /make it again/,
  ],
  [
    'it is not accepted',
    w => w.say(condition('Accepted', 'NameNotGranted', 'False', 'www.example.com is not granted')),
    'accepted',
    /NameNotGranted: www.example.com/,
    /grants/,
  ],
  [
    'its Service is not there',
    w => w.say(condition('Resolved', 'ServiceNotFound', 'False', 'there is no Service web')),
    'target',
    /ServiceNotFound/,
    /make the Service/,
  ],
  [
    'no pod is ready',
    async w => {
      await w.store.delete('EndpointSlice', { namespace: 'shop', name: 'web-1' })
      const endpoint = { addresses: ['10.244.1.5'], conditions: { ready: false } }
      await w.put('EndpointSlice', slice([endpoint]))
    },
    'pods',
    /none of 1 is ready/,
    /look at the pods/,
  ],
  [
    'nobody has claimed its reference',
    w => w.store.delete('IprefReference', { name: '8a3f00000812' }),
    'reference',
    /8a3f-0-812, which nobody has claimed/,
    /operator's log/,
  ],
  ['there is no gateway', w => w.store.delete('IprefGateway', { name: 'gw-1' }), 'gateways', /there is none/, /start/],
  [
    'the gateway has ended',
    w => w.edit('Lease', 'ipref-gateway-gw-1', o => Object.assign(o.spec!, { holderIdentity: '' })),
    'gateway gw-1',
    /does not run on node node-1/,
    /start it/,
  ],
  [
    'the gateway is silent',
    w => w.edit('Lease', 'ipref-gateway-gw-1', o => Object.assign(o.spec!, { renewTime: '2030-01-01T00:50:00Z' })),
    'gateway gw-1',
    /silent for 10m on node node-1/,
    /its log/,
  ],
  [
    'the gateway refuses the mapping',
    w => w.edit('IprefGateway', 'gw-1', o => Object.assign(o.status!, { refused: [refusal] }), 'updateStatus'),
    'gateway gw-1',
    /refuses it: Shadowed: 10.96.0.10 is said by static/,
    /-static/,
  ],
  [
    'the gateway does not do its work',
    w =>
      w.edit(
        'IprefGateway',
        'gw-1',
        o => Object.assign(o.status!, { conditions: [condition('Ready', 'NotReady', 'False', 'no TUN device')] }),
        'updateStatus',
      ),
    'gateway gw-1',
    /NotReady: no TUN device/,
    /readyz/,
  ],
  [
    'the gateway is behind',
    w =>
      w.edit('IprefGateway', 'gw-1', o => Object.assign(o.status!, { observedResourceVersion: '4' }), 'updateStatus'),
    'gateway gw-1',
    /has not reported it yet: reports 4, and it is of 5/,
    /wait a moment/,
  ],
  [
    'the internal record is missing',
    w => w.records.delete(INTERNAL),
    'internal name',
    /no such name/,
    /transfer the zone/,
  ],
  [
    'the internal record is another',
    w => w.records.set(INTERNAL, ['10.96.0.11']),
    'internal name',
    /lacks 10.96.0.10; it has 10.96.0.11/,
    /name server/,
  ],
  ['the public record is missing', w => w.records.delete(PUBLIC), 'public name', /no such name/, /name server/],
  [
    'the public record is of another gateway',
    w => w.records.set(PUBLIC, ['AA 192.0.2.99 + 8a3f-0-812']),
    'public name',
    /lacks AA 198.51.100.1 \+ 8a3f-0-812/,
    /name server/,
  ],
  [
    'the public record has more than it should',
    w => w.records.set(PUBLIC, [AA, 'AA 198.51.100.1 + 99']),
    'public name',
    /has AA 198.51.100.1 \+ 99 too/,
    /name server/,
  ],
  [
    'the zone cannot be asked, and the operator has not read it back',
    async w => {
      w.broken.set('203.0.113.53', undefined)
      await w.say(condition('PublishedPublic', 'OutputFailed', 'False', 'rfc2136 192.0.2.53:53: REFUSED'))
    },
    'public name',
    /OutputFailed: rfc2136/,
    /names the output/,
  ],
  [
    'nobody has a public address',
    async w => {
      w.records.delete(PUBLIC)
      w.broken.set('203.0.113.53', Rcode.REFUSED)
      await w.say(condition('PublishedPublic', 'PublicAddressUnknown', 'False', 'no gateway has one'))
    },
    'public name',
    /PublicAddressUnknown/,
    /publicAddresses/,
  ],
]

describe('the first thing that is wrong', () => {
  it.each(rows)('%s', async (_what, change, first, detail, fix) => {
    await change(world)
    const report = await traced()
    const wrong = report.steps.find(step => !step.ok)
    expect(wrong).toMatchObject({ what: first, detail: expect.stringMatching(detail), fix: expect.stringMatching(fix) })
    expect(report.verdict).toBe(`${first}: ${wrong!.detail}\n→ ${wrong!.fix}`)
    expect(exitCodeOf(report)).toBe(1)
  })
})

describe('when nothing is wrong', () => {
  it('says the way, and by what others reach it', async () => {
    const report = await traced()
    expect(report.steps.map(({ ok, what, detail }) => `${ok} ${what}: ${detail}`)).toEqual([
      'true object: IprefService shop/web, 60m old',
      'true operator: has seen it as it is now',
      'true accepted: yes',
      'true target: Service web, 10.96.0.10',
      'true pods: 2 of 2 ready: web-1 (10.244.1.5 on node-1), web-2 (10.244.2.5 on node-2)',
      'true reference: 10.96.0.10 ⇔ 8a3f-0-812',
      'true gateway gw-1: has it in force on node node-1',
      'true internal name: web.shop.in.example.com A 10.96.0.10, at 10.96.0.53',
      `true public name: web.shop.example.com TXT "${AA}", at 203.0.113.53`,
    ])
    expect(report.verdict).toBe('web.shop.example.com leads to 10.96.0.10: others reach it by reference 8a3f-0-812')
    expect(exitCodeOf(report)).toBe(0)
  })

  it('takes the word of the operator, where servers do not answer here', async () => {
    world.broken.set('10.96.0.53', undefined)
    const { steps, verdict } = await traced()
    expect(steps.find(({ what }) => what === 'internal name')).toMatchObject({
      ok: true,
      detail: 'web.shop.in.example.com: the operator read it back (10.96.0.53 does not answer)',
    })
    expect(verdict).toMatch(/^web.shop.example.com leads to/)
  })

  it('says less where less may be read', async () => {
    const object = await findService(world.store, 'shop/web', undefined)
    const {
      claims: _claims,
      gateways: _gateways,
      leases: _leases,
      network: _network,
      ...facts
    } = await gatherFacts(world.store, object, 'ipref')
    const { steps } = await traceService(facts, world.ports)
    expect(steps.filter(step => !step.ok)).toEqual([])
    expect(steps.map(({ what }) => what)).toContain('gateways')
  })

  it('a reference may be shared with the object that has the address too', async () => {
    const claim = (await world.store.get('IprefReference', { name: '8a3f00000812' }))!
    await world.store.delete('IprefReference', { name: '8a3f00000812' })
    await world.put('IprefReference', {
      ...claim,
      metadata: { name: '8a3f00000812' },
      spec: { ...claim.spec, name: 'older' },
    })
    const { steps } = await traced()
    expect(steps.find(({ what }) => what === 'reference')).toMatchObject({
      ok: true,
      detail: expect.stringContaining('shared with IprefService shop/older'),
    })
  })
})

describe('which object is meant', () => {
  it.each([
    'shop/web',
    'iprefservice/web',
    'iprefservices.ipref.io/web',
    'iprefsvc/web',
    'web',
    'web.shop.example.com',
    'WEB.shop.in.example.com.',
  ])('%s', async subject => {
    expect((await findService(world.store, subject, undefined)).metadata).toMatchObject({
      namespace: 'shop',
      name: 'web',
    })
  })

  it('of two of one name, the namespace says which', async () => {
    const other = { ...pod('x', []).metadata, name: 'web', namespace: 'other' }
    const spec = { target: { address: '192.0.2.7' } }
    await world.put('IprefService', { apiVersion: 'ipref.io/v1alpha1', kind: 'IprefService', metadata: other, spec })
    await expect(findService(world.store, 'web', undefined)).rejects.toThrow(/which of other\/web, shop\/web\?.*-n/)
    expect((await findService(world.store, 'web', 'other')).metadata.namespace).toBe('other')
  })

  it('one that is not there is said, with those that are', async () => {
    await expect(findService(world.store, 'shop/wbe', undefined)).rejects.toThrow(
      'there is no IprefService wbe in namespace shop; there is shop/web',
    )
    await expect(findService(world.store, 'wbe', undefined)).rejects.toBeInstanceOf(StoreError)
  })
})

it('a folder needs no kubectl', async () => {
  world.isFolder = true
  await world.edit('IprefService', 'web', o => Object.assign(o, { status: { observedGeneration: -1 } }), 'updateStatus')
  expect((await traced()).verdict).toContain('ipref operator -manifests')
})
