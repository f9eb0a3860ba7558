import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Cluster } from '../../../../operator/cluster.ts'
import { Events } from '../../../../operator/events.ts'
import { PeerController } from '../../../../operator/peer/reconcile.ts'
import { type Answer, ResolvedNames } from '../../../../operator/peer/resolved.ts'
import { listenForPeers } from '../../../../operator/peer/triggers.ts'
import { Worker } from '../../../../operator/worker.ts'
import type { IprefPeerSpec, PeerObservation } from '../../../../resources/kinds.ts'
import type { ResourceStore } from '../../../../resources/store.ts'
import { timestamp } from '../../../../runtime/clock.ts'
import { gateway, node, peer, service, settings } from '../../../support/operatorObjects.ts'
import { ServiceWorld } from '../../../support/serviceWorld.ts'
import { silentLog } from '../../../support/silentLog.ts'
import { LaggingStore } from '../../../support/storeWrappers.ts'

let world: ServiceWorld
let answers: Record<string, Answer>
let alive: string[]
let stop: (() => Promise<void>)[] = []

beforeEach(async () => {
  world = await ServiceWorld.open()
  answers = {}
  alive = ['n1', 'n2']
})
afterEach(async () => {
  for (const one of stop) await one()
  stop = []
  await world.close()
})

/** A peer controller at work, and how to wait for it. */
async function start(store: ResourceStore = world.store) {
  const { clock } = world
  const results: string[] = []
  const touched: string[] = []
  const cluster = new Cluster(store, settings('podNetworks: [10.244.0.0/16]'), silentLog)
  const names = new ResolvedNames({
    resolve: async name => answers[name] ?? { failed: 'SERVFAIL' },
    ...{ clock, random: () => 1 },
    onChange: name => {
      for (const one of cluster.peers()) if (one.spec.gateway.name === name) worker.add(one.metadata.name)
    },
  })
  const controller = new PeerController({
    ...{ store, cluster, names, clock },
    gateways: () => cluster.gateways().filter(one => alive.includes(one.metadata.name)),
    publicAddresses: one => one.spec.publicAddresses ?? [],
    events: new Events({ store, clock, log: silentLog, namespace: 'ipref' }),
  })
  const worker = new Worker({
    ...{ name: 'peers', reconcile: controller.reconcile, clock, log: silentLog, random: () => 0.5 },
    onDone: ({ result }) => results.push(result),
  })
  listenForPeers(cluster, name => {
    touched.push(name)
    worker.add(name)
  })
  await cluster.start()
  worker.start()
  stop.push(async () => {
    names.stop()
    await worker.stop()
    cluster.stop()
  })
  const settle = async () => {
    for (let quiet = 0; quiet < 5; quiet = worker.isIdle ? quiet + 1 : 0)
      await new Promise(resolve => setImmediate(resolve))
  }
  const advance = async (ms: number, stepMs = ms) => {
    for (let left = ms; left > 0; left -= stepMs) {
      await clock.advance(Math.min(left, stepMs))
      await settle()
    }
  }
  const all = () => {
    for (const { metadata } of cluster.peers()) worker.add(metadata.name)
    return settle()
  }
  await settle()
  return { cluster, settle, advance, all, results, touched }
}

/** Peers that are made one after the other have different ages. */
async function put(name: string, spec: Partial<IprefPeerSpec> = {}): Promise<void> {
  await world.put(peer(spec, { name }))
  await world.clock.advance(1000)
}
const status = async (name: string) => (await world.store.get('IprefPeer', { name }))!.status!
const condition = async (name: string, type = 'Accepted') => {
  const found = (await status(name)).conditions?.find(one => one.type === type)
  return `${found?.status} ${found?.reason}`
}
const writes = () =>
  [...world.store.requests].reduce((sum, [name, n]) => (/^update-status IprefPeer/.test(name) ? sum + n : sum), 0)
const saw = (name: string, row: Omit<PeerObservation, 'gateway'>) => world.put(gateway(name, {}, { peers: [row] }))
const seen = (more = {}) => ({
  address: '203.0.113.2',
  verified: true,
  rttMilliseconds: 20,
  pathMtu: 1400,
  lastSeenTime: timestamp(world.clock.now()),
  ...more,
})

describe('a peer', () => {
  it('is known, observed, and ready; afterwards nothing is written', async () => {
    const { settle, all, advance } = await start()
    await put('other', { hosts: [{ name: 'db', reference: '2466' }], domains: ['example.net'] })
    await settle()
    expect([await condition('other'), await condition('other', 'Reachable')]).toEqual([
      'True Accepted',
      'Unknown NotObserved',
    ])
    await saw('n1', seen())
    await settle()
    const found = await status('other')
    expect(await condition('other', 'Ready')).toBe('True Ready')
    expect(found).toMatchObject({ addresses: ['203.0.113.2'], observations: [{ gateway: 'n1', rttMilliseconds: 20 }] })
    expect(found.hosts!.map(({ dnsName }) => dnsName)).toEqual([
      'db.other.peers.in.example.com',
      'db.other.peers.in.example.com',
    ])
    const before = writes()
    await all()
    await advance(300_000, 30_000)
    expect(writes()).toBe(before)
  })

  it('that falls silent is said to, though nothing happens', async () => {
    const { settle, advance } = await start()
    await put('other')
    await saw('n1', seen())
    await settle()
    expect(await condition('other', 'Reachable')).toBe('True Reachable')
    await advance(660_000, 60_000)
    expect(await condition('other', 'Reachable')).toBe('False NoAnswer')
  })

  it('by name follows what the name says', async () => {
    const { settle, advance } = await start()
    await put('other', { gateway: { name: 'gw.example.net' } })
    await settle()
    expect(await condition('other', 'Resolved')).toBe('False LookupFailed')
    answers['gw.example.net'] = { addresses: ['203.0.113.2', '2001:db8::2'], ttlSeconds: 60 }
    await advance(20_000)
    expect([await condition('other', 'Resolved'), (await status('other')).addresses]).toEqual([
      'True Resolved',
      ['203.0.113.2', '2001:db8::2'],
    ])
    answers['gw.example.net'] = { addresses: ['203.0.113.3'], ttlSeconds: 60 }
    await advance(60_000)
    expect((await status('other')).addresses).toEqual(['203.0.113.3'])
    delete answers['gw.example.net']
    await advance(60_000)
    expect([await condition('other', 'Resolved'), (await status('other')).addresses]).toEqual([
      'False LookupFailed',
      ['203.0.113.3'],
    ])
  })

  it('by name is as before after a restart of the operator, without a write', async () => {
    answers['gw.example.net'] = { addresses: ['203.0.113.2'], ttlSeconds: 60 }
    const first = await start()
    await put('other', { gateway: { name: 'gw.example.net' } })
    await first.settle()
    expect(await condition('other', 'Resolved')).toBe('True Resolved')
    for (const one of stop.splice(0)) await one()
    const before = writes()
    const second = await start()
    await second.advance(200_000, 20_000)
    expect(writes()).toBe(before)
  })

  it.each([
    ['a gateway of ours', '198.51.100.1', 'GatewayIsOurs'],
    ['a node', '192.168.0.1', 'GatewayForbidden'],
    ['an address on a node', '172.17.0.1', 'GatewayForbidden'],
    ['the API server', '10.96.0.1', 'GatewayForbidden'],
    ['a pod', '10.244.3.3', 'GatewayForbidden'],
    ['a host of another network', '10.176.0.7', 'GatewayForbidden'],
    ['loopback', '127.0.0.1', 'GatewayForbidden'],
    ['the metadata service of the cloud', '169.254.169.254', 'GatewayForbidden'],
  ])('whose gateway is %s (%s) is refused, by address and by name', async (_name, address, reason) => {
    answers['gw.example.net'] = { addresses: [address], ttlSeconds: 60 }
    const { settle } = await start()
    await world.put(
      gateway('n1', { publicAddresses: ['198.51.100.1'] }, { nodeAddresses: ['172.17.0.1'] }),
      node('n1', ['192.168.0.1']),
    )
    await world.put(
      service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] }, { name: 'kubernetes', namespace: 'default' }),
    )
    await put('by-address', { gateway: { address } })
    await put('by-name', { gateway: { name: 'gw.example.net' }, hosts: [{ name: 'db', reference: '11' }] })
    await settle()
    expect(await condition('by-address')).toBe(`False ${reason}`)
    expect(await condition('by-name')).toBe(`False ${reason}`)
    const found = await status('by-name')
    expect([found.addresses, found.hosts, found.gateway]).toEqual([undefined, undefined, undefined])
  })

  it('is refused when a node comes with the address of its gateway, and not any more when that goes', async () => {
    const { settle } = await start()
    await put('other')
    await world.put(node('n9', ['203.0.113.2']))
    await settle()
    expect(await condition('other')).toBe('False GatewayForbidden')
    await world.remove('Node', 'n9')
    await settle()
    expect(await condition('other')).toBe('True Accepted')
  })
})

describe('two peers', () => {
  it.each<[string, Partial<IprefPeerSpec>, string]>([
    ['gateway', { gateway: { address: '203.0.113.2' } }, 'GatewayConflict'],
    ['domain', { gateway: { address: '203.0.113.9' }, domains: ['example.net'] }, 'DomainConflict'],
  ])('with one %s: the older has it, and the younger when the older goes', async (_name, spec, reason) => {
    const { settle } = await start()
    await put('older', { domains: ['example.net'] })
    await put('younger', spec)
    await settle()
    expect([await condition('older'), await condition('younger')]).toEqual(['True Accepted', `False ${reason}`])
    await world.store.delete('IprefPeer', { name: 'older' })
    await settle()
    expect(await condition('younger')).toBe('True Accepted')
  })

  it('a name that comes to lead to the gateway of the younger takes it', async () => {
    answers['gw.example.net'] = { addresses: ['203.0.113.9'], ttlSeconds: 60 }
    const { settle, advance } = await start()
    await put('older', { gateway: { name: 'gw.example.net' } })
    await put('younger')
    await settle()
    expect(await condition('younger')).toBe('True Accepted')
    answers['gw.example.net'] = { addresses: ['203.0.113.2'], ttlSeconds: 60 }
    await advance(60_000)
    expect([await condition('older'), await condition('younger')]).toEqual(['True Accepted', 'False GatewayConflict'])
  })

  it('never have one address for two hosts, though the view is behind', async () => {
    const store = new LaggingStore(world.store)
    const { settle, advance } = await start(store)
    const hosts = Array.from({ length: 256 }, (_, i) => ({ name: `h${i}`, reference: String(i + 11) }))
    const names = Array.from({ length: 8 }, (_, i) => `p${i}`)
    for (const [i, name] of names.entries()) await put(name, { gateway: { address: `203.0.113.${i + 1}` } })
    await settle()
    for (const name of names)
      await world.change('IprefPeer', name, one => {
        one.spec.hosts = hosts
      })
    // all are decided on before the view shows what was written
    store.isLagging = true
    await settle()
    const given = async () =>
      (await Promise.all(names.map(status))).flatMap(({ hosts: rows = [] }) =>
        rows.map(({ encodedAddress }) => encodedAddress),
      )
    const early = await given()
    expect([early.length > 1000, new Set(early).size]).toEqual([true, early.length])
    store.isLagging = false
    store.release()
    await advance(10_000, 1000)
    const all = await given()
    expect([all.length, new Set(all).size]).toEqual([8 * 512, 8 * 512])
  }, 180_000)

  it('a host that is made again finds its address again', async () => {
    const { settle } = await start()
    const hosts = [{ name: 'db', reference: '2466' }]
    await put('other', { hosts })
    await settle()
    const before = (await status('other')).hosts
    await world.store.delete('IprefPeer', { name: 'other' })
    await put('other', { hosts })
    await settle()
    expect((await status('other')).hosts).toEqual(before)
  })
})

describe('the gateway that carries hosts', () => {
  it('is kept while it lives, and moves when it goes', async () => {
    const { settle, all } = await start()
    await world.put(gateway('n1'), gateway('n2'))
    await put('other', { hosts: [{ name: 'db', reference: '2466' }] })
    await settle()
    const first = (await status('other')).gateway!
    alive = alive.filter(name => name !== first)
    await all()
    const second = (await status('other')).gateway!
    expect([first, second].sort()).toEqual(['n1', 'n2'])
    alive = ['n1', 'n2']
    await all()
    expect((await status('other')).gateway).toBe(second)
    alive = []
    await all()
    expect((await status('other')).gateway).toBe(second)
  })
})

describe('reports of gateways', () => {
  it('touch the peers that they are about, and are written when they are news', async () => {
    const { settle, touched } = await start()
    await put('other')
    await put('far', { gateway: { address: '203.0.113.9' } })
    await saw('n1', seen())
    await settle()
    touched.length = 0
    let before = writes()
    for (let i = 1; i <= 10; i++) {
      await world.clock.advance(5000)
      await saw('n1', seen({ rttMilliseconds: 20 + 10 * i }))
      await settle()
    }
    expect([new Set(touched), writes() - before]).toEqual([new Set(['other']), 0])
    await world.clock.advance(15_000)
    await saw('n1', seen({ rttMilliseconds: 150 }))
    await settle()
    expect([writes() - before, (await status('other')).observations![0]!.rttMilliseconds]).toEqual([1, 150])
    before = writes()
    await saw('n1', seen({ rttMilliseconds: 150, verified: false }))
    await settle()
    expect([writes() - before, await condition('other', 'Reachable')]).toEqual([1, 'False NoAnswer'])
    touched.length = 0
    await world.put(
      gateway(
        'n1',
        {},
        { peers: (await world.store.get('IprefGateway', { name: 'n1' }))!.status!.peers!, tunMtu: 1300 },
      ),
    )
    expect(touched).toEqual([])
  })
})
