import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Cluster } from '../../../../operator/cluster.ts'
import { Events } from '../../../../operator/events.ts'
import { GatewayController } from '../../../../operator/gateway/reconcile.ts'
import { parseConfig } from '../../../../resources/config.ts'
import { DirectoryStore } from '../../../../resources/directoryStore.ts'
import { NETWORK_KEY, NETWORK_NAME, parseNetwork } from '../../../../resources/network.ts'
import { StoreError } from '../../../../resources/store.ts'
import { ManualClock } from '../../../support/manualClock.ts'
import { silentLog } from '../../../support/silentLog.ts'

const NAMESPACE = 'ipref'
const key = { namespace: NAMESPACE, name: NETWORK_NAME }
let folder: string
let store: DirectoryStore
let cluster: Cluster
let clock: ManualClock
let controller: GatewayController
let alive: Set<string>

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-gateways-'))
  store = await DirectoryStore.open(folder)
  clock = new ManualClock()
  alive = new Set()
  const parsed = parseConfig('internalZone: in.example.com', 'test')
  if ('problems' in parsed) throw new Error(parsed.problems.join())
  cluster = new Cluster(store, parsed.config, silentLog)
  await cluster.start()
  const events = new Events({ store, clock, log: silentLog, namespace: NAMESPACE })
  const isAlive = (name: string) => alive.has(name)
  const network = { zoneServers: () => [], tunnelFamilies: [4] as const }
  const ports = { store, cluster, namespace: NAMESPACE, ...network, isAlive, events, clock, log: silentLog }
  controller = new GatewayController(ports)
})
afterEach(async () => {
  cluster.stop()
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

const node = (name: string) => store.create('Node', { apiVersion: 'v1', kind: 'Node', metadata: { name } })
const written = async () => parseNetwork((await store.get('ConfigMap', key))?.data?.[NETWORK_KEY] ?? '')
async function until(what: string, look: () => boolean): Promise<void> {
  for (const end = Date.now() + 60_000; !look(); ) {
    if (Date.now() > end) throw new Error(`not within a minute: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

describe('the gateway controller', () => {
  it('makes a gateway for each node, and tells all of them of each other', async () => {
    await Promise.all([node('a'), node('b')])
    await until('nodes', () => cluster.nodes().length === 2)
    await controller.reconcile()
    await until('gateways', () => cluster.gateways().length === 2)
    await controller.reconcile()
    expect(await written()).toMatchObject({
      encodingNetworks: ['10.176.0.0/12'],
      gateways: [
        { name: 'a', slices: ['10.177.0.0/18'] },
        { name: 'b', slices: ['10.177.64.0/18'] },
      ],
    })
  })

  it('writes nothing when nothing changed', async () => {
    await node('a')
    await until('the node', () => cluster.nodes().length === 1)
    await controller.reconcile()
    await until('the gateway', () => cluster.gateways().length === 1)
    await controller.reconcile()
    const before = [...store.requests].join()
    await controller.reconcile()
    expect([...store.requests].join()).toBe(before)
  })

  it('puts back what somebody changed or took away', async () => {
    await controller.reconcile()
    const good = await store.get('ConfigMap', key)
    expect(controller.seen(good)).toBe(false)
    const changed = await store.update('ConfigMap', { ...good!, data: { [NETWORK_KEY]: '{}' } })
    expect(controller.seen(changed)).toBe(true)
    await controller.reconcile()
    expect((await store.get('ConfigMap', key))?.data).toEqual(good!.data)
    await store.delete('ConfigMap', key)
    expect(controller.seen(undefined)).toBe(true)
    await controller.reconcile()
    expect((await store.get('ConfigMap', key))?.data).toEqual(good!.data)
  })

  it('releases the gateway of a node that is gone for long, not before', async () => {
    await node('a')
    await until('the node', () => cluster.nodes().length === 1)
    await controller.reconcile()
    await until('the gateway', () => cluster.gateways().length === 1)
    await store.delete('Node', { name: 'a' })
    await until('no node', () => cluster.nodes().length === 0)
    const again = await controller.reconcile()
    expect(again?.againMs).toBe(600_000)
    await clock.advance(599_000)
    await controller.reconcile()
    expect(await store.get('IprefGateway', { name: 'a' })).toBeDefined()
    await clock.advance(1_000)
    await controller.reconcile()
    // nobody is there that could clean
    await until('it is being deleted', () => cluster.gateways()[0]?.metadata.deletionTimestamp !== undefined)
    await controller.reconcile()
    expect(await store.get('IprefGateway', { name: 'a' })).toBeUndefined()
  })

  describe('a gateway that is deleted', () => {
    const own = () => cluster.gateways().find(({ metadata }) => metadata.name === 'a')
    const uidOf = () => own()?.metadata.uid
    let uid: string | undefined

    beforeEach(async () => {
      await node('a')
      await until('the node', () => cluster.nodes().length === 1)
      await controller.reconcile()
      await until('the gateway', () => own() !== undefined)
      uid = uidOf()
    })

    const remove = async () => {
      await store.delete('IprefGateway', { name: 'a' })
      await until('it is being deleted', () => own()?.metadata.deletionTimestamp !== undefined)
    }

    it('is there until its gateway says that the node is clean, and is made anew for the node', async () => {
      alive.add('a')
      await remove()
      expect(await controller.reconcile()).toEqual({ againMs: 2000 })
      await clock.advance(60_000)
      await controller.reconcile()
      expect(uidOf()).toBe(uid)
      expect(await written()).toMatchObject({ gateways: [] })
      const condition = { type: 'Accepted', status: 'False' as const, reason: 'Released', message: '' }
      const conditions = [{ ...condition, lastTransitionTime: '2030-01-01T00:00:00Z', observedGeneration: 1 }]
      await store.updateStatus('IprefGateway', { ...own()!, status: { observedGeneration: 1, conditions } })
      await until('it is said', () => own()?.status?.conditions !== undefined)
      await controller.reconcile()
      await until('it is gone', () => own() === undefined)
      expect(await controller.reconcile()).toBeUndefined()
      await until('there is another', () => own() !== undefined && uidOf() !== uid)
    })

    it('goes at once when no gateway is there that could clean', async () => {
      await remove()
      await controller.reconcile()
      await until('it is gone', () => own() === undefined)
    })

    it('goes also while none can be made, as when the kind itself is being deleted', async () => {
      await node('b')
      await until('the other node', () => cluster.nodes().length === 2)
      await remove()
      const create = vi.spyOn(store, 'create').mockRejectedValue(new StoreError('Forbidden', 'create not allowed'))
      await expect(controller.reconcile()).rejects.toThrow(/create not allowed/)
      create.mockRestore()
      await until('it is gone', () => own() === undefined)
    })

    it('goes after two minutes, whatever its gateway says', async () => {
      alive.add('a')
      await remove()
      await controller.reconcile()
      await clock.advance(119_000)
      await controller.reconcile()
      expect(own()).toBeDefined()
      await clock.advance(1000)
      await controller.reconcile()
      await until('it is gone', () => own() === undefined)
    })
  })
})
