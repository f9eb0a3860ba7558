import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Cluster } from '../../../../operator/cluster.ts'
import { listenForServices } from '../../../../operator/service/triggers.ts'
import { SurroundingsCache } from '../../../../operator/surroundings.ts'
import {
  API_VERSION,
  type Condition,
  type IprefReference,
  type IprefServiceStatus,
  type ServiceMapping,
} from '../../../../resources/kinds.ts'
import {
  gateway,
  headless,
  iprefService,
  node,
  pod,
  service,
  settings,
  slice,
} from '../../../support/operatorObjects.ts'
import { ServiceWorld } from '../../../support/serviceWorld.ts'
import { silentLog } from '../../../support/silentLog.ts'

let world: ServiceWorld
let cluster: Cluster
let surroundings: SurroundingsCache
const keys = new Set<string>()

beforeEach(async () => {
  world = await ServiceWorld.open()
  cluster = new Cluster(world.store, settings(), silentLog)
  surroundings = new SurroundingsCache(cluster)
  listenForServices(
    cluster,
    () => cluster.gateways(),
    key => void keys.add(key),
  )
  await cluster.start()
})
afterEach(async () => {
  cluster.stop()
  await world.close()
})

/** Keys that were added since the last call. */
function added(): string[] {
  const found = [...keys].sort()
  keys.clear()
  return found
}

const condition = (type: string, status: Condition['status'], reason: string): Condition => ({
  ...{ type, status, reason, message: '', lastTransitionTime: '2030-01-01T00:00:00Z', observedGeneration: 1 },
})
const mapping = (address: string, reference: string): ServiceMapping => ({
  slot: 0,
  family: 'IPv4',
  address,
  reference,
})
const status = (more: Partial<IprefServiceStatus>): IprefServiceStatus => ({ observedGeneration: 1, ...more })
const mapped = (address: string, reference: string, version = '1') =>
  status({
    mappings: [mapping(address, reference)],
    mappingsVersion: version,
    conditions: [condition('Mapped', 'True', 'Mapped')],
  })

async function put(
  name: string,
  spec: Parameters<typeof iprefService>[0] = {},
  said?: IprefServiceStatus,
): Promise<void> {
  await world.put({ ...iprefService(spec, { name }), ...(said ? { status: said } : {}) })
}

describe('a change of', () => {
  beforeEach(async () => {
    await put('web', { target: { service: { name: 'web' } } }, mapped('10.96.0.1', '2466'))
    await put('pods', { target: { pods: { selector: { matchLabels: { app: 'web' } } } } }, mapped('10.244.0.1', '2467'))
    await put('lab', { target: { address: '192.0.2.7' } }, mapped('192.0.2.7', '2468'))
    await put('other', { target: { service: { name: 'other' } } }, mapped('10.96.0.9', '2469'))
    await world.put(headless(), slice(['10.244.0.1', '10.244.0.2']))
    added()
  })

  it('an object: itself, and whoever asks for its name, its reference, or has its address', async () => {
    await put('asks', { target: { address: '192.0.2.8' }, reference: '2467' })
    added()
    await put('rival', { hostname: 'web', reference: '2467' })
    expect(added()).toEqual(['shop/asks', 'shop/rival', 'shop/web'])
    await world.change('IprefService', 'rival', one => {
      one.spec.ttlSeconds = 5
    })
    expect(added()).toEqual(['shop/asks', 'shop/rival', 'shop/web'])
    const rival = (await world.object('rival'))!
    await world.store.updateStatus('IprefService', { ...rival, status: mapped('192.0.2.7', '2469') })
    expect(added()).toEqual(['shop/lab', 'shop/other', 'shop/rival'])
    await world.remove('IprefService', 'rival')
    expect(added()).toEqual(['shop/asks', 'shop/lab', 'shop/other', 'shop/rival', 'shop/web'])
  })

  it("an object's conditions: itself alone", async () => {
    const web = (await world.object('web'))!
    await put('rival', { hostname: 'web' })
    added()
    const conditions = [condition('Mapped', 'Unknown', 'WaitingForGateways')]
    await world.store.updateStatus('IprefService', { ...web, status: { ...web.status!, conditions } })
    expect(added()).toEqual(['shop/web'])
  })

  it('mappings: whoever was refused because of some address', async () => {
    await put('refused', {}, status({ conditions: [condition('Accepted', 'False', 'AddressAlreadyReferenced')] }))
    await world.remove('IprefService', 'lab')
    expect(added()).toContain('shop/refused')
  })

  it('a claim: its owner, whoever asks for the reference, and whoever maps it', async () => {
    const claim: IprefReference = {
      ...{ apiVersion: API_VERSION, kind: 'IprefReference', metadata: { name: '9a2' } },
      spec: { namespace: 'shop', name: 'gone', uid: 'x', slot: 0, family: 'IPv4' },
    }
    await put('asks', { target: { address: '192.0.2.8' }, reference: '2466' })
    added()
    await world.put(claim)
    expect(added()).toEqual(['shop/asks', 'shop/gone', 'shop/web'])
    await world.store.delete('IprefReference', { name: '9a2' })
    expect(added()).toEqual(['shop/asks', 'shop/gone', 'shop/web'])
  })

  it('a Service or one of its slices: what publishes it', async () => {
    await world.change('Service', 'web', one => {
      one.spec.publishNotReadyAddresses = true
    })
    expect(added()).toEqual(['shop/web'])
    await world.put(slice(['10.244.0.3']))
    expect(added()).toEqual(['shop/web'])
    await world.remove('EndpointSlice', 'web-1')
    expect(added()).toEqual(['shop/web'])
    await world.put(service({}, { name: 'nobody' }), slice(['10.244.0.1'], {}, { service: 'nobody' }))
    expect(added()).toEqual([])
  })

  it('a Service that takes the address of a target: that target', async () => {
    await world.put(service({ clusterIP: '192.0.2.7', clusterIPs: ['192.0.2.7'] }, { name: 'nobody' }))
    expect(added()).toEqual(['shop/lab'])
  })

  it('a pod: who selects it, and who leads to its address', async () => {
    await world.put(pod('new', [], { metadata: { labels: { app: 'db' } }, ready: 'False' }))
    expect(added()).toEqual([])
    await world.put(pod('new', ['10.244.0.2'], { metadata: { labels: { app: 'db' } } }))
    expect(added()).toEqual(['shop/web'])
    await world.put(pod('b', ['10.244.0.5']))
    expect(added()).toEqual(['shop/pods'])
    await world.put(pod('b', ['10.244.0.5'], { metadata: { annotations: { seen: 'yes' } } }))
    expect(added()).toEqual([])
    await world.put(pod('far', ['192.0.2.7'], { metadata: { namespace: 'other' } }))
    expect(added()).toEqual(['shop/lab'])
    await world.remove('Pod', 'b')
    expect(added()).toEqual(['shop/pods'])
  })

  it('a node: what its addresses and networks touch, and what was refused for such', async () => {
    await put(
      'refused',
      { target: { address: '198.51.100.1' } },
      status({ conditions: [condition('Accepted', 'False', 'TargetForbidden')] }),
    )
    added()
    await world.put(node('n1', ['192.168.0.1']))
    expect(added()).toEqual(['shop/refused'])
    await world.put({ ...node('n1', ['192.168.0.1']), metadata: { name: 'n1', annotations: { heartbeat: '1' } } })
    expect(added()).toEqual([])
    await world.put(node('n1', ['192.168.0.1', '192.0.2.7']))
    expect(added()).toEqual(['shop/lab', 'shop/refused'])
    await world.put(node('n2', ['10.244.0.2']))
    expect(added()).toEqual(['shop/refused', 'shop/web'])
    await world.put(node('n3', [], ['192.0.2.0/24']))
    expect(added()).toEqual(['shop/lab', 'shop/refused'])
  })

  it('the API server or a service network: all', async () => {
    const all = ['shop/lab', 'shop/other', 'shop/pods', 'shop/web']
    await world.put(
      service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] }, { name: 'kubernetes', namespace: 'default' }),
    )
    expect(added()).toEqual(all)
    await world.put(slice(['192.168.0.9'], {}, { service: 'kubernetes', namespace: 'default' }))
    expect(added()).toEqual(all)
    await world.put({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'ServiceCIDR' as const,
      metadata: { name: 'k' },
      spec: { cidrs: ['10.96.0.0/12'] },
    })
    expect(added()).toEqual(all)
  })

  it('a gateway: who waits for it, and whom it refuses or does not refuse any more', async () => {
    const waiting = (version: string) =>
      status({ mappingsVersion: version, conditions: [condition('Mapped', 'Unknown', 'WaitingForGateways')] })
    await world.put(
      gateway('n1', {}, { observedResourceVersion: '5' }),
      gateway('n2', {}, { observedResourceVersion: '5' }),
    )
    await put('early', {}, waiting('10'))
    await put('late', {}, waiting('20'))
    added()
    const report = (name: string, observedResourceVersion: string, more = {}) =>
      world.put(gateway(name, {}, { observedResourceVersion, ...more }))
    await report('n1', '15')
    expect(added()).toEqual([])
    await report('n2', '12')
    expect(added()).toEqual(['shop/early'])
    const refusal = { namespace: 'shop', name: 'web', reason: 'X', message: '' }
    await report('n2', '12', { refused: [refusal, { namespace: '', name: 'a-peer', reason: 'X', message: '' }] })
    expect(added()).toEqual(['shop/web'])
    await report('n2', '12', { refused: [{ ...refusal, message: 'other' }] })
    expect(added()).toEqual(['shop/web'])
    await report('n2', '12')
    expect(added()).toEqual(['shop/web'])
    await report('n2', '12', { tunMtu: 1400 })
    expect(added()).toEqual([])
  })

  it('a gateway that comes into service: all, for they wait for it now', async () => {
    await world.put(gateway('n1'))
    expect(added()).toEqual([])
    await world.put(gateway('n1', {}, { observedResourceVersion: '1' }))
    expect(added()).toEqual(['shop/lab', 'shop/other', 'shop/pods', 'shop/web'])
  })

  it("a gateway's addresses: what leads there", async () => {
    await world.put(gateway('n1', { publicAddresses: ['192.0.2.7'] }))
    expect(added()).toEqual(['shop/lab'])
    await world.put(gateway('n1', { publicAddresses: ['192.0.2.7'] }, { nodeAddresses: ['10.244.0.2'] }))
    expect(added()).toEqual(['shop/lab', 'shop/web'])
  })

  it('a namespace: nothing', async () => {
    await world.put({ apiVersion: 'v1', kind: 'Namespace' as const, metadata: { name: 'shop' } })
    expect(added()).toEqual([])
  })
})

describe('the surroundings', () => {
  it('are put together once, until something of them changes', async () => {
    let known = surroundings.get()
    const isKept = async (change: () => Promise<unknown>) => {
      await change()
      const now = surroundings.get()
      const same = now === known
      known = now
      return same
    }
    expect(await isKept(() => world.put(node('n1', ['192.168.0.1'], ['10.244.0.0/24'])))).toBe(false)
    expect(known.forbidden.get('192.168.0.1')).toBe('the address of node n1')
    expect(known.clusterNetworks).toHaveLength(1)
    const again = { ...node('n1', ['192.168.0.1'], ['10.244.0.0/24']), metadata: { name: 'n1', labels: { beat: '1' } } }
    expect(await isKept(() => world.put(again))).toBe(true)
    expect(await isKept(() => world.put(pod('a', ['10.244.0.1']), service(), slice(['10.244.0.1'])))).toBe(true)
    const api = service(
      { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'] },
      { name: 'kubernetes', namespace: 'default' },
    )
    expect(await isKept(() => world.put(api))).toBe(false)
    expect(known.forbidden.get('10.96.0.1')).toBe('the API server')
    const apiSlice = slice(['192.168.0.9'], {}, { service: 'kubernetes', namespace: 'default' })
    expect(await isKept(() => world.put(apiSlice))).toBe(false)
    expect(known.forbidden.get('192.168.0.9')).toBe('the API server')
    expect(await isKept(() => world.put(gateway('n1', { publicAddresses: ['198.51.100.1'] })))).toBe(false)
    expect(known.forbidden.get('198.51.100.1')).toBe('the public address of gateway n1')
    expect(await isKept(() => world.put(gateway('n1', { publicAddresses: ['198.51.100.1'] }, { tunMtu: 1400 })))).toBe(
      true,
    )
    expect(
      await isKept(() =>
        world.put(gateway('n1', { publicAddresses: ['198.51.100.1'] }, { nodeAddresses: ['172.17.0.1'] })),
      ),
    ).toBe(false)
    expect(known.onNodes.has('172.17.0.1')).toBe(true)
    cluster.config = settings('podNetworks: [10.99.0.0/16]\npublicAddresses: {n7: [198.51.100.7]}')
    expect(await isKept(async () => {})).toBe(false)
    expect(known.clusterNetworks).toHaveLength(2)
    expect(known.forbidden.get('198.51.100.7')).toBe('the public address of node n7')
    expect(await isKept(() => world.remove('Node', 'n1'))).toBe(false)
    expect(known.forbidden.has('192.168.0.1')).toBe(false)
  })
})
