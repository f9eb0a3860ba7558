/** `ipref status` of objects: what is shown of each kind, and why something is not ready. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { parseCommand } from '../../../cli/arguments.ts'
import { readCluster, renderCluster } from '../../../cli/clusterStatus.ts'
import { clusterFlags, clusterSettings } from '../../../cli/clusterStore.ts'
import { StoreError } from '../../../resources/store.ts'
import { peer } from '../../support/operatorObjects.ts'
import { condition, NOW, TracedWorld } from '../../support/tracedWorld.ts'

let world: TracedWorld
beforeEach(async () => {
  world = new TracedWorld()
  await world.open()
})
afterEach(() => world.close())

async function shown(namespace?: string): Promise<string> {
  return renderCluster(await readCluster(world.store, namespace, { problems: [], now: NOW }), NOW)
}

it('has a table for each kind', async () => {
  const inbound = { policy: 'Deny' as const }
  await world.put('IprefPeer', peer({ domains: ['example.org', 'example.net', 'example.edu'], inbound }), {
    observedGeneration: 1,
    conditions: [condition('Ready', 'Ready')],
    addresses: ['203.0.113.2'],
    observations: [
      {
        gateway: 'gw-1',
        address: '203.0.113.2',
        verified: true,
        rttMilliseconds: 12,
        lastSeenTime: '2030-01-01T00:58:00Z',
      },
    ],
  })
  expect(await shown()).toBe(`IprefServices: 1, 1 ready
NAMESPACE  NAME  READY  REASON  ADDRESS     REFERENCE   KNOWN AS              AGE
shop       web   True   Ready   10.96.0.10  8a3f-0-812  web.shop.example.com  60m

IprefPeers: 1, 1 ready
NAME   READY  REASON  GATEWAY      DOMAINS                     HOSTS  INBOUND  RTT   SEEN    AGE
other  True   Ready   203.0.113.2  example.org,example.net,+1  0      Deny     12ms  2m ago  60m

IprefGateways: 1, 1 ready
NAME  READY  REASON  NODE    PUBLIC  SLICES  MTU  REFUSED  VERSION  AGE
gw-1  True   Ready   node-1  -       -       -    0        -        60m`)
})

it('says why something is not ready, and what nobody has looked at', async () => {
  await world.say(condition('Ready', 'NameConflict', 'False', 'web.shop.example.com belongs to shop/older'))
  await world.put('IprefPeer', peer())
  const text = await shown()
  expect(text).toContain('IprefServices: 1, 0 ready')
  expect(text).toContain('  ! shop/web: web.shop.example.com belongs to shop/older')
  expect(text).toContain('  ! other: nobody has looked at it as it is now')
})

it('shows one namespace', async () => {
  expect(await shown('shop')).toContain('IprefServices: 1,')
  expect(await shown('other')).toContain('IprefServices: none')
})

it('an application team may not see everything, and is told', async () => {
  const { store } = world
  const list: typeof store.list = (kind, options) =>
    kind === 'IprefService' ? store.list(kind, options) : Promise.reject(new StoreError('Forbidden', 'no'))
  const report = await readCluster({ list } as typeof store, 'shop', { problems: ['web.yaml:3:1 no object'], now: NOW })
  expect(report).toMatchObject({
    services: [{ name: 'web' }],
    problems: [/^web.yaml/, /IprefPeers/, /IprefGateways/].map(re => expect.stringMatching(re)),
  })
  expect(report).not.toHaveProperty('peers')
  expect(renderCluster(report, NOW)).toMatch(/^! web.yaml:3:1 no object\n! IprefPeers cannot be read/)
})

it.each([
  [['-kube'], { namespace: undefined, operatorNamespace: 'ipref' }],
  [['-kubeconfig', 'f', '-n', 'shop'], { namespace: 'shop', operatorNamespace: 'ipref' }],
  [['-manifests', 'd', '-A', '-operator-namespace', 'x'], { namespace: undefined, operatorNamespace: 'x' }],
  [[], undefined],
  [['-n', 'shop'], { problem: expect.stringContaining('-kube') }],
  [['-A'], { problem: expect.stringContaining('-kube') }],
  [['-kube', '-manifests', 'd'], { problem: expect.stringContaining('no cluster') }],
  [['-kube', '-A', '-n', 'shop'], { problem: expect.stringContaining('-n') }],
] as const)('%j', (argv, expected) => {
  const args = parseCommand(argv, clusterFlags)
  if (typeof args === 'string') throw new Error(args)
  expect(clusterSettings(args)).toEqual(expected)
})
