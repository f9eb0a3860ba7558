/** `ipref operator -cleanup`: what is undone, what stays, and that one step that fails keeps no other; in a folder, with a clock that does not wait. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CleanupSettings, cleanUp } from '../../../operator/cleanup.ts'
import { GATEWAY_FINALIZER } from '../../../operator/gateway/plan.ts'
import { keepBlock } from '../../../operator/publish/clusterDns.ts'
import type { Desired } from '../../../operator/publish/desired.ts'
import type { Output } from '../../../operator/publish/output.ts'
import { MANAGED_BY } from '../../../operator/publish/serialBook.ts'
import { FINALIZER } from '../../../operator/service/reconcile.ts'
import { DirectoryStore } from '../../../resources/directoryStore.ts'
import { API_VERSION, type KindName, type Kinds } from '../../../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../../../resources/store.ts'
import type { Clock } from '../../../runtime/clock.ts'
import { settings as configOf, iprefService } from '../../support/operatorObjects.ts'
import { silentLog } from '../../support/silentLog.ts'
import { RefusingStore } from '../../support/storeWrappers.ts'

const NAMESPACE = 'ipref'
const COREFILE = '.:53 {\n    forward . /etc/resolv.conf\n}\n'

/** Time that is waited for is over at once. */
function hurriedClock(): Clock & { waited: number } {
  let now = Date.parse('2030-01-01T00:00:00Z')
  const clock = {
    waited: 0,
    now: () => now,
    after(ms: number, work: () => void) {
      clock.waited += ms
      const timer = setImmediate(() => {
        now += ms
        work()
      })
      return () => clearImmediate(timer)
    },
  }
  return clock
}

class NotedOutput implements Output {
  readonly name: string
  readonly zones = ['public'] as const
  readonly lookEveryMs = undefined
  readonly told: Desired[] = []
  isStopped = false
  failures: number

  constructor(name: string, failures = 0) {
    this.name = name
    this.failures = failures
  }
  async apply(desired: Desired) {
    this.told.push(desired)
    if (this.failures-- > 0) throw new Error('the server does not answer')
    return { conflicts: new Map<string, string>() }
  }
  doubt() {}
  servers() {
    return []
  }
  async stop() {
    this.isStopped = true
  }
}

describe('cleaning up', () => {
  let folder: string
  let store: DirectoryStore

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ipref-cleanup-'))
    writeFileSync(join(folder, '.keep'), '')
    store = await DirectoryStore.open(folder, { onProblems: () => {} })
  })
  afterEach(async () => {
    await store.close()
    rmSync(folder, { recursive: true })
  })

  const put = <Kind extends KindName>(kind: Kind, object: Omit<Kinds[Kind], 'kind' | 'apiVersion'>) =>
    store.create(kind, object as unknown as Kinds[Kind])
  const configMap = (name: string, data: Record<string, string>, more: { namespace?: string; labels?: object } = {}) =>
    put('ConfigMap', { metadata: { name, namespace: NAMESPACE, ...more } as Kinds['ConfigMap']['metadata'], data })
  const settings = (text: string) => configMap('ipref-config', { 'config.yaml': text })

  /** The store, with something that happens before each list. */
  const withList = (before: (kind: KindName) => Promise<void>) =>
    new Proxy<ResourceStore>(store, {
      get(target, member) {
        const value = Reflect.get(target, member, target) as unknown
        if (member === 'list')
          return async (kind: KindName, options?: object) => {
            await before(kind)
            return target.list(kind, options)
          }
        return typeof value === 'function' ? value.bind(target) : value
      },
    })

  function run(more: Partial<CleanupSettings> = {}, ports: { store?: ResourceStore; outputs?: Output[] } = {}) {
    const clock = hurriedClock()
    const outputs = ports.outputs ?? []
    return cleanUp(
      {
        namespace: NAMESPACE,
        settings: 'ipref-config',
        identity: 'job-1',
        gateways: undefined,
        nodeCleanup: undefined,
        operators: undefined,
        patienceMs: 60_000,
        ...more,
      },
      { store: ports.store ?? store, clock, log: silentLog, outputs: () => outputs },
    )
  }

  it('takes the Lease of the operators first, and gives it a short time at the end', async () => {
    await settings('')
    await put('Lease', {
      metadata: { name: 'ipref-operator', namespace: NAMESPACE },
      spec: { holderIdentity: 'operator-1', leaseDurationSeconds: 15, leaseTransitions: 3 },
    })
    const output = new NotedOutput('one')
    const seen: unknown[] = []
    output.apply = async desired => {
      seen.push((await store.get('Lease', { namespace: NAMESPACE, name: 'ipref-operator' }))?.spec)
      output.told.push(desired)
      return { conflicts: new Map() }
    }
    expect(await run({}, { outputs: [output] })).toEqual([])
    expect(seen).toMatchObject([{ holderIdentity: 'job-1', leaseDurationSeconds: 120, leaseTransitions: 4 }])
    const lease = await store.get('Lease', { namespace: NAMESPACE, name: 'ipref-operator' })
    expect(lease?.spec).toMatchObject({ holderIdentity: 'job-1', leaseDurationSeconds: 60 })
  })

  it('does nothing else where operators cannot be kept from acting', async () => {
    await settings('')
    const refused = new RefusingStore(store, (_verb, kind) =>
      kind === 'Lease' ? new StoreError('Forbidden', 'no Leases') : undefined,
    )
    const output = new NotedOutput('one')
    expect(await run({}, { store: refused, outputs: [output] })).toEqual(['no Leases'])
    expect(output.told).toEqual([])
  })

  it("gives the cluster's DNS back, byte for byte", async () => {
    await settings('clusterDns: { manage: true, resolver: 10.96.0.53 }')
    await configMap('coredns', { Corefile: COREFILE }, { namespace: 'kube-system' })
    await keepBlock(store, configOf('clusterDns: { manage: true, resolver: 10.96.0.53 }\n'), ['example.com'])
    const text = async () =>
      (await store.get('ConfigMap', { namespace: 'kube-system', name: 'coredns' }))?.data?.Corefile
    expect(await text()).toContain('# BEGIN ipref')
    expect(await run()).toEqual([])
    expect(await text()).toBe(COREFILE)
  })

  it('tells every output that nothing is published, and of the names that were; one that fails keeps no other', async () => {
    await settings('publicZone: example.com')
    await put('IprefGateway', { metadata: { name: 'a' }, spec: { publicAddresses: ['198.51.100.1'] } })
    const object = await put('IprefService', { ...iprefService({}, { finalizers: [FINALIZER] }) })
    await store.updateStatus('IprefService', {
      ...object,
      status: {
        observedGeneration: 1,
        publicName: 'web.shop.example.com',
        internalName: 'web.shop.ipref.internal',
        mappings: [{ slot: 0, family: 'IPv4', address: '10.1.0.9', reference: '7' }],
        conditions: [
          {
            type: 'Accepted',
            status: 'True',
            reason: 'Accepted',
            message: '',
            lastTransitionTime: '2030-01-01T00:00:00Z',
            observedGeneration: 1,
          },
        ],
      },
    })
    const [slow, dead, good] = [new NotedOutput('slow', 2), new NotedOutput('dead', 99), new NotedOutput('good')]
    expect(await run({}, { outputs: [slow, dead, good] })).toEqual(['dead: records stay: the server does not answer'])
    expect([slow.told.length, dead.told.length, good.told.length]).toEqual([3, 5, 1])
    const zone = good.told[0]!.zones.get('public')!
    expect([zone.zone, zone.sets.size, [...zone.former]]).toEqual(['example.com', 0, ['web.shop.example.com']])
    expect([slow, dead, good].every(({ isStopped }) => isStopped)).toBe(true)
    // and people's objects stay, free
    const kept = await store.get('IprefService', { namespace: 'shop', name: 'web' })
    expect(kept?.metadata.finalizers ?? []).toEqual([])
    expect(kept?.status?.mappings).toHaveLength(1)
  })

  it('lifts finalizers of ours alone', async () => {
    await settings('')
    await put('IprefService', iprefService({}, { name: 'a', finalizers: ['example.com/mine', FINALIZER] }))
    await put('IprefService', iprefService({}, { name: 'b' }))
    const gateway = { apiVersion: API_VERSION, kind: 'IprefGateway' as const, spec: { publish: false } }
    await put('IprefGateway', { ...gateway, metadata: { name: 'node-x', finalizers: [GATEWAY_FINALIZER] } })
    expect(await run()).toEqual([])
    expect((await store.get('IprefGateway', { name: 'node-x' }))?.metadata.finalizers ?? []).toEqual([])
    const finalizers = async (name: string) =>
      (await store.get('IprefService', { namespace: 'shop', name }))?.metadata.finalizers ?? []
    expect([await finalizers('a'), await finalizers('b')]).toEqual([['example.com/mine'], []])
  })

  it('deletes what operators and gateways keep for themselves, and nothing of others', async () => {
    await settings('publishers: { configMap: {} }')
    const lease = (name: string) => put('Lease', { metadata: { name, namespace: NAMESPACE }, spec: {} })
    for (const name of ['ipref-gateway-a', 'ipref-uplink', 'others']) await lease(name)
    for (const name of ['ipref-network', 'ipref-zones-state', 'mine']) await configMap(name, {})
    for (const name of ['ipref-zones', 'ipref-zones-2']) await configMap(name, {}, { labels: MANAGED_BY })
    await configMap('ipref-zones-3', {})
    expect(await run()).toEqual([])
    const names = async (kind: 'Lease' | 'ConfigMap') =>
      (await store.list(kind, { namespace: NAMESPACE })).map(({ metadata }) => metadata.name).sort()
    expect(await names('Lease')).toEqual(['ipref-operator', 'others'])
    expect(await names('ConfigMap')).toEqual(['ipref-config', 'ipref-zones-3', 'mine'])
  })

  it('deletes IprefGateways, but for those that a person has written into', async () => {
    await settings('')
    const gateway = (name: string, spec: Kinds['IprefGateway']['spec']) =>
      put('IprefGateway', { metadata: { name, finalizers: [GATEWAY_FINALIZER] }, spec })
    await gateway('node-a', { nodeName: 'node-a', slices: ['10.177.0.0/18'] })
    await gateway('node-b', { nodeName: 'node-b', slices: ['10.177.64.0/18'], publish: false })
    expect(await run()).toEqual([])
    const left = await store.list('IprefGateway')
    expect(left.map(({ metadata }) => [metadata.name, metadata.finalizers ?? []])).toEqual([['node-b', []]])
  })

  it('takes kinds that are gone for kinds without objects', async () => {
    await settings('')
    const gone = withList(async kind => {
      if (kind.startsWith('Ipref'))
        throw new StoreError('NoSuchKind', 'the server could not find the requested resource')
    })
    const output = new NotedOutput('one')
    expect(await run({}, { store: gone, outputs: [output] })).toEqual([])
    expect(output.told).toHaveLength(1)
  })

  describe('of operators', () => {
    const deployment = () =>
      put('Deployment', {
        metadata: { name: 'operators', namespace: NAMESPACE },
        spec: { selector: { matchLabels: { app: 'operator' } } },
      })
    const pod = () =>
      put('Pod', { metadata: { name: 'operator-1', namespace: NAMESPACE, labels: { app: 'operator' } } })
    const lease = () => store.get('Lease', { namespace: NAMESPACE, name: 'ipref-operator' })
    const isThere = async () =>
      (await store.get('Deployment', { namespace: NAMESPACE, name: 'operators' })) !== undefined

    it('takes them away at last, and the Lease after them', async () => {
      await settings('')
      await deployment()
      await pod()
      // ends while it is waited for
      const watched = withList(async kind => {
        if (kind === 'Pod') await store.delete('Pod', { namespace: NAMESPACE, name: 'operator-1' })
      })
      expect(await run({ operators: 'operators' }, { store: watched })).toEqual([])
      expect([await isThere(), await lease()]).toEqual([false, undefined])
      // again, as a Job does that was ended before it could say so
      expect(await run({ operators: 'operators' })).toEqual([])
      expect(await lease()).toBeUndefined()
    })

    it('names those that do not end, and holds the Lease against them', async () => {
      await settings('')
      await deployment()
      await pod()
      expect(await run({ operators: 'operators' })).toEqual([
        expect.stringMatching(/have not ended: operator-1; Lease/),
      ])
      expect((await lease())?.spec?.holderIdentity).toBe('job-1')
    })

    it('leaves them where something else could not be undone', async () => {
      await settings('')
      await deployment()
      expect(await run({ operators: 'operators', nodeCleanup: 'gone' })).toHaveLength(1)
      expect(await isThere()).toBe(true)
      expect((await lease())?.spec).toMatchObject({ holderIdentity: 'job-1', leaseDurationSeconds: 60 })
    })
  })

  it('goes on with defaults where the settings cannot be read, and says so', async () => {
    await settings('encodingNetworks: nonsense')
    await put('IprefService', iprefService({}, { finalizers: [FINALIZER] }))
    expect(await run()).toEqual([expect.stringMatching(/ipref-config:1:1 encodingNetworks: .* is no list/)])
    const kept = await store.get('IprefService', { namespace: 'shop', name: 'web' })
    expect(kept?.metadata.finalizers ?? []).toEqual([])
  })

  describe('of nodes', () => {
    const nodes = (numberReady: number, observedGeneration = 1) =>
      put('DaemonSet', {
        metadata: { name: 'nodes', namespace: NAMESPACE },
        spec: { selector: { matchLabels: { app: 'cleanup' } } },
        status: { observedGeneration, desiredNumberScheduled: 2, numberReady },
      } as Omit<Kinds['DaemonSet'], 'kind' | 'apiVersion'>)

    it('deletes the gateways, then waits until each is clean', async () => {
      await settings('')
      await put('DaemonSet', { metadata: { name: 'gateways', namespace: NAMESPACE } })
      await nodes(2)
      expect(await run({ gateways: 'gateways', nodeCleanup: 'nodes' })).toEqual([])
      expect(await store.get('DaemonSet', { namespace: NAMESPACE, name: 'gateways' })).toBeUndefined()
    })

    it('names those that are not in time, and lifts finalizers all the same', async () => {
      await settings('')
      await nodes(1)
      const pod = async (name: string, status: string) => {
        const made = await put('Pod', {
          metadata: { name, namespace: NAMESPACE, labels: { app: 'cleanup' } },
          spec: { nodeName: `node-${name}` },
        })
        await store.updateStatus('Pod', { ...made, status: { conditions: [{ type: 'Ready', status }] } })
      }
      await pod('a', 'True')
      await pod('b', 'False')
      await put('IprefService', iprefService({}, { finalizers: [FINALIZER] }))
      expect(await run({ nodeCleanup: 'nodes' })).toEqual([
        expect.stringMatching(/^1 of 2 nodes are clean; .*\(node-b\)/),
      ])
      const kept = await store.get('IprefService', { namespace: 'shop', name: 'web' })
      expect(kept?.metadata.finalizers ?? []).toEqual([])
    })

    it('does not take a DaemonSet for done that nobody has looked at', async () => {
      await settings('')
      await put('DaemonSet', { metadata: { name: 'nodes', namespace: NAMESPACE } })
      expect(await run({ nodeCleanup: 'nodes' })).toEqual([expect.stringMatching(/^0 of 0 nodes are clean/)])
      expect(await run({ nodeCleanup: 'gone' })).toEqual([expect.stringMatching(/gone is not there/)])
    })
  })
})
