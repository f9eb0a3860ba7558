/**
 * The publisher whole: objects in a store of files, the built-in zone server on a real port, read back from it.
 *
 *   store ──► Cluster ──► Publisher ──► zone server on 127.0.0.1 ──► read back ──► findings
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Type } from '../../../../dns/constants.ts'
import { stringsOf } from '../../../../dns/message.ts'
import { parseName } from '../../../../dns/name.ts'
import { queryServer } from '../../../../dns/query.ts'
import { Cluster } from '../../../../operator/cluster.ts'
import { Events } from '../../../../operator/events.ts'
import { Publisher } from '../../../../operator/publish/publisher.ts'
import { DirectoryStore } from '../../../../resources/directoryStore.ts'
import type { IprefService } from '../../../../resources/kinds.ts'
import { systemClock } from '../../../../runtime/clock.ts'
import { freePorts } from '../../../support/ports.ts'
import { silentLog } from '../../../support/silentLog.ts'
import { configOf, gateway, mapping, type ServiceGiven, service } from './builders.ts'

const namespace = 'ipref'
const AA = 'AA 198.51.100.1 + 8a3f-0-12'

class World {
  readonly told: string[] = []
  cluster!: Cluster
  publisher!: Publisher
  readonly #folder = mkdtempSync(join(tmpdir(), 'ipref-publisher-'))
  store!: DirectoryStore
  port = 0

  async open(settings = '', readBack = 'readBack: {intervalSeconds: 1}'): Promise<void> {
    this.store ??= await DirectoryStore.open(this.#folder)
    if (this.port === 0) [this.port] = (await freePorts(1)) as [number]
    const publishers = `publishers: {zoneServer: {listen: ['127.0.0.1:${this.port}'], nameServers: [ns1.example.com]}}`
    const config = configOf([settings.includes('publishers:') ? '' : publishers, readBack, settings].join('\n'))
    this.cluster = new Cluster(this.store, config, silentLog)
    this.publisher = this.#newPublisher()
    await this.cluster.start()
    this.publisher.start()
    this.publisher.lead()
  }

  #newPublisher(): Publisher {
    const { store, cluster } = this
    return new Publisher({
      store,
      cluster,
      events: new Events({ store, clock: systemClock, log: silentLog, namespace }),
      clock: systemClock,
      log: silentLog,
      random: Math.random,
      namespace,
      publicAddresses: ({ spec }) => spec.publicAddresses ?? [],
      onChange: keys => this.told.push(...keys),
      // the system of the test machine knows none of our zones
      dns: { nameServers: async () => [], addresses: async () => [], servers: () => [] },
    })
  }

  async restart(): Promise<void> {
    await this.publisher.stop()
    this.cluster.stop()
    this.told.length = 0
    this.cluster = new Cluster(this.store, this.cluster.config, silentLog)
    this.publisher = this.#newPublisher()
    await this.cluster.start()
    this.publisher.start()
  }

  async put(given: ServiceGiven = {}): Promise<IprefService> {
    const { status, ...object } = service(given)
    const key = { namespace: object.metadata.namespace!, name: object.metadata.name }
    const found = await this.store.get('IprefService', key)
    const { uid: _uid, creationTimestamp: _created, generation: _generation, ...metadata } = object.metadata
    const made =
      found ??
      (await this.store.create('IprefService', { ...object, metadata: { ...metadata, finalizers: ['test/keep'] } }))
    return this.store.updateStatus('IprefService', { ...made, status: status! })
  }

  get(name = 'web', space = 'shop'): IprefService {
    return this.cluster.services.get({ namespace: space, name })!
  }

  /** As status and reason. */
  said(name = 'web', space = 'shop') {
    const object = this.get(name, space)
    const show = ({ status, reason }: { status: string; reason: string }) => `${status} ${reason}`
    return [show(this.publisher.internal(object)), show(this.publisher.public(object))]
  }

  async ask(name: string, type: number): Promise<string[]> {
    const answer = await queryServer({ host: '127.0.0.1', port: this.port }, { name: parseName(name)!, type })
    return (answer?.answers ?? []).flatMap(({ data }) => (type === Type.TXT ? stringsOf(data) : [...data].join('.')))
  }

  async close(): Promise<void> {
    await this.publisher?.stop()
    this.cluster?.stop()
    await this.store?.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

let world: World
beforeEach(async () => {
  world = new World()
})
afterEach(async () => {
  await world.close()
})

const becomes = (...said: string[]) => expect.poll(() => world.said()).toEqual(said)

async function withGateway(): Promise<void> {
  await world.store.create('IprefGateway', gateway('node-1', { publicAddresses: ['198.51.100.1'] }))
}

describe('the publisher', { timeout: 180_000 }, () => {
  it('publishes an object, proves it, tells, and withdraws it', async () => {
    await world.open()
    await withGateway()
    await world.put()
    await becomes('True Published', 'True Published')
    expect(await world.ask('web.shop.example.com', Type.TXT)).toEqual([AA])
    expect(await world.ask('web.shop.internal.example.com', Type.A)).toEqual(['10.1.2.3'])
    expect(world.told).toContain('shop/web')
    expect(world.publisher.isWithdrawn(world.get())).toBe(false)
    await world.store.delete('IprefService', { namespace: 'shop', name: 'web' })
    await expect.poll(() => world.publisher.isWithdrawn(world.get())).toBe(true)
    expect(await world.ask('web.shop.example.com', Type.TXT)).toEqual([])
    expect(await world.ask('web.shop.internal.example.com', Type.A)).toEqual([])
  })

  it('follows mappings, names and gateways', async () => {
    await world.open()
    await withGateway()
    await world.put()
    await becomes('True Published', 'True Published')
    await world.put({ mappings: [mapping({ address: '10.1.2.9', reference: '8a3f-0-19' })] })
    await expect.poll(() => world.ask('web.shop.example.com', Type.TXT)).toEqual(['AA 198.51.100.1 + 8a3f-0-19'])
    await becomes('True Published', 'True Published')
    await world.store.create('IprefGateway', gateway('node-2', { publicAddresses: ['2001:db8::1'] }))
    await expect.poll(() => world.ask('web.shop.example.com', Type.TXT)).toHaveLength(2)
    await world.put({ isAccepted: false })
    await expect.poll(() => world.ask('web.shop.example.com', Type.TXT)).toEqual([])
    expect(world.said()).toEqual(['Unknown NotAccepted', 'Unknown NotAccepted'])
  })

  it('publishes nothing outside while no address of a gateway is known', async () => {
    await world.open()
    await world.store.create('IprefGateway', gateway('node-1'))
    await world.put()
    await becomes('True Published', 'False PublicAddressUnknown')
  })

  it('gives a name to the older object, and to the next when that goes', async () => {
    await world.open(
      'grants: [{namespace: shop, names: [www.example.com]}, {namespace: other, names: [www.example.com]}]',
    )
    await withGateway()
    const named = { spec: { publicName: 'www.example.com' }, status: { publicName: 'www.example.com' } }
    await world.put({ ...named })
    await world.put({
      ...named,
      namespace: 'other',
      name: 'b',
      uid: 'u-2',
      mappings: [mapping({ reference: '8a3f-0-99' })],
    })
    const objects = [world.get(), world.get('b', 'other')].sort((x, y) => {
      const age = ({ metadata }: IprefService) => `${metadata.creationTimestamp} ${metadata.uid}`
      return age(x) < age(y) ? -1 : 1
    })
    const [winner, loser] = objects as [IprefService, IprefService]
    await expect.poll(() => world.publisher.public(winner).reason).toBe('Published')
    expect(world.publisher.public(loser).reason).toBe('NameTaken')
    const { namespace: space, name } = winner.metadata
    await world.store.delete('IprefService', { namespace: space!, name })
    await expect.poll(() => world.publisher.public(loser).reason).toBe('Published')
    // the other has the name now, so nothing of the first is left under it
    await expect.poll(() => world.publisher.isWithdrawn(world.get(name, space))).toBe(true)
  })

  it('finds what an object had that was deleted while nobody looked', async () => {
    await world.open()
    await withGateway()
    await world.put()
    await becomes('True Published', 'True Published')
    await world.publisher.stop()
    await world.store.delete('IprefService', { namespace: 'shop', name: 'web' })
    await world.restart()
    expect(world.publisher.isWithdrawn(world.get())).toBe(false)
    world.publisher.lead()
    await expect.poll(() => world.publisher.isWithdrawn(world.get())).toBe(true)
  })

  it('says after a restart what was said before, until it knows better', async () => {
    await world.open()
    await withGateway()
    const object = await world.put()
    await becomes('True Published', 'True Published')
    const conditions = [world.publisher.internal(object), world.publisher.public(object)].map(found => ({
      ...found,
      lastTransitionTime: '2026-01-01T00:00:00Z',
      observedGeneration: object.metadata.generation!,
    }))
    const { status } = world.get()
    await world.store.updateStatus('IprefService', {
      ...world.get(),
      status: { ...status!, conditions: [...status!.conditions!, ...conditions] },
    })
    await world.restart()
    world.publisher.lead()
    expect(world.said()).toEqual(['True Published', 'True Published'])
    await expect.poll(() => world.publisher.report.pending).toBe(0)
    expect(world.said()).toEqual(['True Published', 'True Published'])
  })

  it('proves nothing where reading back is switched off, and says so', async () => {
    await world.open('', 'readBack: {mode: Off}')
    await withGateway()
    await world.put()
    await becomes('True NotReadBack', 'True NotReadBack')
    await world.store.delete('IprefService', { namespace: 'shop', name: 'web' })
    await expect.poll(() => world.publisher.isWithdrawn(world.get())).toBe(true)
  })

  it('says that nobody is known who could be asked', async () => {
    await world.open('publishers: {configMap: {}}')
    await withGateway()
    await world.put()
    await becomes('Unknown NoServers', 'Unknown NoServers')
    expect(world.publisher.public(world.get()).message).toMatch(/readBack.servers/)
    await world.store.delete('IprefService', { namespace: 'shop', name: 'web' })
    await expect.poll(() => world.publisher.isWithdrawn(world.get())).toBe(true)
  })

  it('says that nothing publishes, and that there is no public zone', async () => {
    await world.open('publishers: {}\ninternalZone: internal.example.com')
    await world.put()
    await becomes('False NoPublisher', 'False NoPublicZone')
  })

  it('lets one output fail without the other', async () => {
    await world.open()
    const [dead] = (await freePorts(1)) as [number]
    await withGateway()
    world.cluster.config = configOf(
      `publishers: {zoneServer: {listen: ['127.0.0.1:${world.port}'], nameServers: [ns1.example.com]}, rfc2136: [{server: '127.0.0.1:${dead}'}]}\nreadBack: {intervalSeconds: 1}`,
    )
    await world.publisher.configChanged()
    await world.put()
    await expect.poll(() => world.ask('web.shop.example.com', Type.TXT)).toEqual([AA])
    await becomes('True Published', 'False OutputFailed')
    expect(world.publisher.public(world.get()).message).toContain(`127.0.0.1:${dead}`)
    const states = world.publisher.report.outputs.map(({ name, problem }) => [name, problem !== undefined])
    expect(states).toEqual([
      ['zone server', false],
      [`rfc2136 127.0.0.1:${dead} example.com`, true],
    ])
  })

  it('goes on answering when it does not lead any more, and is quiet', async () => {
    await world.open()
    await withGateway()
    await world.put()
    await becomes('True Published', 'True Published')
    await world.publisher.follow()
    world.told.length = 0
    expect(await world.ask('web.shop.example.com', Type.TXT)).toEqual([AA])
    await world.put({ mappings: [mapping({ reference: '8a3f-0-19' })] })
    // no serial is recorded for the new content, so it is not given out
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect(await world.ask('web.shop.example.com', Type.TXT)).toEqual([AA])
    expect(world.told).toEqual([])
    world.publisher.lead()
    await expect.poll(() => world.ask('web.shop.example.com', Type.TXT)).toEqual(['AA 198.51.100.1 + 8a3f-0-19'])
  })

  it('writes nothing while nothing changes', async () => {
    await world.open('publishers: {dnsEndpoint: {}, configMap: {}}', 'readBack: {mode: Off}')
    await withGateway()
    for (let i = 0; i < 20; i++)
      await world.put({ name: `web-${i}`, mappings: [mapping({ reference: `8a3f-0-${i + 20}` })] })
    await expect.poll(() => world.said('web-19')).toEqual(['True NotReadBack', 'True NotReadBack'])
    const writes = () => [...world.store.requests].filter(([what]) => /^(create|update|apply|delete)/.test(what))
    const before = writes()
    await world.restart()
    world.publisher.lead()
    await expect.poll(() => world.said('web-19')).toEqual(['True NotReadBack', 'True NotReadBack'])
    expect(writes()).toEqual(before)
  })
})
