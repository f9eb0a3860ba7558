/**
 * What every ResourceStore keeps to. Run for a folder (resourceStoreDirectory.test.ts) and for a real API server (test/api/store.test.ts).
 *
 * Each test has names of its own in two namespaces that the place provides.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  API_VERSION,
  type ConfigMap,
  type IprefService,
  type IprefServiceSpec,
  type KubeObject,
  type Lease,
  type Service,
} from '../../resources/kinds.ts'
import { type Change, type ResourceStore, StoreError, type Watched } from '../../resources/store.ts'
import { compareVersions } from '../../resources/view.ts'

export interface StorePlace {
  store: ResourceStore
  /** another store on the same place, as another process has it; `close` is the test's */
  another(settings?: { fieldManager: string }): Promise<ResourceStore>
  /** two namespaces that are there */
  namespaces: readonly [string, string]
  close(): Promise<void>
}

const DEADLINE_MS = 60_000

/** Waits until it is so, and fails with what was seen last. */
export async function until<Value>(
  look: () => Value | Promise<Value>,
  isSo: (value: Value) => boolean,
): Promise<Value> {
  const end = performance.now() + DEADLINE_MS
  for (;;) {
    const value = await look()
    if (isSo(value)) return value
    if (performance.now() > end) throw new Error(`it did not come to pass; last seen: ${JSON.stringify(value)}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

export function configMap(
  namespace: string,
  name: string,
  data: Record<string, string> = {},
  more: object = {},
): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, ...more }, data }
}

async function faultOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    return error.code
  }
}

export async function collect(store: ResourceStore, options: Parameters<ResourceStore['watch']>[1]) {
  const changes: Change<'ConfigMap'>[] = []
  const view = await store.watch('ConfigMap', options, { onChange: change => changes.push(change) })
  return { changes, view }
}

const say = ({ before, now }: Change<'ConfigMap'>): string =>
  `${before?.metadata.name ?? '-'}>${now?.metadata.name ?? '-'}`

export function storeContract(name: string, open: () => Promise<StorePlace>): void {
  describe(`a ResourceStore: ${name}`, () => {
    let place: StorePlace
    let store: ResourceStore
    let ns: string
    let other: string
    beforeAll(async () => {
      place = await open()
      store = place.store
      ;[ns, other] = place.namespaces
    })
    afterAll(() => place?.close())

    describe('objects', () => {
      it('gives what it creates a uid, a decimal resourceVersion and a time', async () => {
        const made = await store.create('ConfigMap', configMap(ns, 'made', { a: '1' }))
        expect(made).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap', data: { a: '1' } })
        expect(made.metadata.uid).toMatch(/^[0-9a-f-]{36}$/)
        expect(made.metadata.resourceVersion).toMatch(/^[1-9]\d*$/)
        expect(made.metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
        expect(await store.get('ConfigMap', { namespace: ns, name: 'made' })).toEqual(made)
      })

      it('says AlreadyExists of a name that is taken', async () => {
        await store.create('ConfigMap', configMap(ns, 'taken', { a: '1' }))
        expect(await faultOf(store.create('ConfigMap', configMap(ns, 'taken', { a: '2' })))).toBe('AlreadyExists')
        expect((await store.get('ConfigMap', { namespace: ns, name: 'taken' }))?.data).toEqual({ a: '1' })
      })

      it('names the field of what is not valid', async () => {
        const wrong = store.create('ConfigMap', configMap(ns, 'Not_A_Name'))
        await expect(wrong).rejects.toMatchObject({ code: 'Invalid', isRetryable: false })
        await expect(wrong).rejects.toThrow(/metadata\.name/)
      })

      it('finds nothing where nothing is', async () => {
        expect(await store.get('ConfigMap', { namespace: ns, name: 'nothing' })).toBeUndefined()
        const missing = configMap(ns, 'nothing', {}, { resourceVersion: '1' })
        expect(await faultOf(store.update('ConfigMap', missing))).toMatch(/NotFound|Conflict/)
      })

      it('keeps large objects and all characters whole', async () => {
        const data = { text: 'ä€𝄞'.repeat(30_000), odd: '\u0000"\\\n\u2028 - : #\t' }
        const { changes, view } = await collect(store, { namespace: ns, fieldSelector: 'metadata.name=large' })
        await store.create('ConfigMap', configMap(ns, 'large', data))
        await until(
          () => changes.length,
          length => length === 1,
        )
        expect(changes[0]!.now?.data).toEqual(data)
        expect((await store.get('ConfigMap', { namespace: ns, name: 'large' }))?.data).toEqual(data)
        view.stop()
      })
    })

    describe('writes that decide', () => {
      it('refuses an update of what has changed since', async () => {
        const first = await store.create('ConfigMap', configMap(ns, 'decide', { a: '1' }))
        const second = await store.update('ConfigMap', { ...first, data: { a: '2' } })
        expect(compareVersions(second.metadata.resourceVersion!, first.metadata.resourceVersion!)).toBeGreaterThan(0)
        expect(await faultOf(store.update('ConfigMap', { ...first, data: { a: '3' } }))).toBe('Conflict')
        expect((await store.get('ConfigMap', { namespace: ns, name: 'decide' }))?.data).toEqual({ a: '2' })
      })

      it('wants a resourceVersion for an update', async () => {
        await store.create('ConfigMap', configMap(ns, 'blind'))
        const blind = store.update('ConfigMap', configMap(ns, 'blind', { a: '1' }))
        await expect(blind).rejects.toThrow(/metadata\.resourceVersion/)
        expect(await faultOf(blind)).toBe('Invalid')
      })

      it('lets one of many at the same time win', async () => {
        const second = await place.another()
        const first = await store.create('ConfigMap', configMap(ns, 'race'))
        const outcomes = await Promise.all(
          Array.from({ length: 8 }, (_, i) =>
            faultOf((i % 2 ? second : store).update('ConfigMap', { ...first, data: { winner: String(i) } })),
          ),
        )
        expect(outcomes.filter(one => one === 'none')).toHaveLength(1)
        expect(outcomes.filter(one => one === 'Conflict')).toHaveLength(7)
        const made = await Promise.all(
          Array.from({ length: 8 }, (_, i) =>
            faultOf((i % 2 ? second : store).create('ConfigMap', configMap(ns, 'claim', { winner: String(i) }))),
          ),
        )
        expect(made.filter(one => one === 'none')).toHaveLength(1)
        expect(made.filter(one => one === 'AlreadyExists')).toHaveLength(7)
        await second.close()
      })

      it('makes no resourceVersion of a write that changes nothing', async () => {
        const first = await store.create('ConfigMap', configMap(ns, 'same', { a: '1' }))
        const again = await store.update('ConfigMap', structuredClone(first))
        expect(again.metadata.resourceVersion).toBe(first.metadata.resourceVersion)
        const applied = await store.apply('ConfigMap', configMap(ns, 'same-applied', { a: '1' }))
        const twice = await store.apply('ConfigMap', configMap(ns, 'same-applied', { a: '1' }))
        expect(twice.metadata.resourceVersion).toBe(applied.metadata.resourceVersion)
      })
    })

    describe('status', () => {
      const service = (name: string): Service => ({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: ns },
        spec: { type: 'ClusterIP', clusterIP: 'None', ports: [{ name: 'web', port: 80 }] },
      })
      const condition = {
        type: 'Seen',
        status: 'True',
        reason: 'R',
        message: 'm',
        lastTransitionTime: '2026-01-01T00:00:00Z',
      }
      const conditionsOf = (object: KubeObject | undefined) =>
        (object as { status?: { conditions?: unknown[] } }).status?.conditions

      it('is written by updateStatus alone, which writes nothing else', async () => {
        const first = await store.create('Service', service('status'))
        const changed = {
          ...first,
          metadata: { ...first.metadata, labels: { a: 'b' } },
          spec: { ...first.spec, ports: [{ name: 'web', port: 81 }] },
          status: { conditions: [condition] },
        }
        const second = await store.updateStatus('Service', changed)
        expect(conditionsOf(second)).toEqual([condition])
        expect(second.spec.ports![0]!.port).toBe(80)
        const third = await store.update('Service', {
          ...second,
          spec: { ...second.spec, ports: [{ name: 'web', port: 82 }] },
          status: {},
        } as Service)
        expect(third.spec.ports![0]!.port).toBe(82)
        expect(conditionsOf(third)).toEqual([condition])
      })

      it('is refused with an old resourceVersion', async () => {
        const first = await store.create('Service', service('status-old'))
        await store.updateStatus('Service', { ...first, status: { conditions: [condition] } } as Service)
        const late = { ...first, status: { conditions: [] } } as Service
        expect(await faultOf(store.updateStatus('Service', late))).toBe('Conflict')
      })
    })

    describe('kinds of ours', () => {
      const service = (name: string, spec: IprefServiceSpec): IprefService => ({
        apiVersion: API_VERSION,
        kind: 'IprefService',
        metadata: { name, namespace: ns },
        spec,
      })
      const status = { observedGeneration: 1, internalName: 'web.shop.internal.example.com' }

      it('count changes of what is wanted in their generation, and nothing else', async () => {
        const wanted = { ...service('generation', { target: { address: '192.0.2.1' } }), status }
        const first = await store.create('IprefService', wanted)
        expect(first.metadata.generation).toBe(1)
        expect(first.status?.internalName).toBeUndefined()
        const second = await store.updateStatus('IprefService', { ...first, status })
        const labels = { a: 'b' }
        const third = await store.update('IprefService', { ...second, metadata: { ...second.metadata, labels } })
        expect([second.metadata.generation, third.metadata.generation]).toEqual([1, 1])
        const fourth = await store.update('IprefService', { ...third, spec: { target: { address: '192.0.2.2' } } })
        expect(fourth.metadata.generation).toBe(2)
        expect(fourth.status).toMatchObject(status)
        const fifth = await store.apply('IprefService', service('generation', { target: { address: '192.0.2.3' } }))
        expect(fifth).toMatchObject({ metadata: { generation: 3, labels }, status })
      })

      it('are refused when they are not valid, naming the field', async () => {
        const wrong = store.create('IprefService', service('wrong', { target: {} }))
        await expect(wrong).rejects.toMatchObject({ code: 'Invalid' })
        await expect(wrong).rejects.toThrow(/spec\.target/)
        const port = { target: { address: '192.0.2.1' }, ports: [{ port: 70_000 }] }
        await expect(store.apply('IprefService', service('wrong', port))).rejects.toThrow(/spec\.ports\[0\]\.port/)
        expect(await store.get('IprefService', { namespace: ns, name: 'wrong' })).toBeUndefined()
      })

      it('keep what must not change', async () => {
        const target = { address: '192.0.2.1' }
        const first = await store.create('IprefService', service('fixed', { target, reference: '1234' }))
        const changed = store.update('IprefService', { ...first, spec: { target, reference: '1235' } })
        await expect(changed).rejects.toMatchObject({ code: 'Invalid' })
        await expect(changed).rejects.toThrow(/spec\.reference|spec/)
        const late = store.updateStatus('IprefService', { ...first, status: { observedGeneration: 'x' as never } })
        await expect(late).rejects.toThrow(/status\.observedGeneration/)
      })
    })

    describe('apply', () => {
      it('makes what is not there, and removes what it does not say any more', async () => {
        await store.apply('ConfigMap', configMap(ns, 'applied', { a: '1', b: '2' }, { labels: { x: 'y' } }))
        const next = await store.apply('ConfigMap', configMap(ns, 'applied', { b: '3' }))
        expect(next.data).toEqual({ b: '3' })
        expect(next.metadata.labels ?? {}).toEqual({})
      })

      it('leaves the fields of others alone, and takes those that it says', async () => {
        const second = await place.another({ fieldManager: 'somebody-else' })
        await store.apply('ConfigMap', configMap(ns, 'shared', { ours: '1', both: '1' }, { labels: { ours: 'l' } }))
        const theirs = { theirs: '2', both: '2' }
        await second.apply('ConfigMap', configMap(ns, 'shared', theirs, { annotations: { 'a.b/c': 'd' } }))
        const ours = await store.apply('ConfigMap', configMap(ns, 'shared', { both: '3' }))
        expect(ours.data).toEqual({ theirs: '2', both: '3' })
        expect(ours.metadata.labels).toBeUndefined()
        expect(ours.metadata.annotations).toEqual({ 'a.b/c': 'd' })
        // `both` is ours since: they do not take it away
        const last = await second.apply('ConfigMap', configMap(ns, 'shared', { theirs: '4' }))
        expect(last.data).toEqual({ theirs: '4', both: '3' })
        await second.close()
      })

      it('leaves fields alone that an update wrote', async () => {
        await store.apply('ConfigMap', configMap(ns, 'edited', { a: '1' }))
        const found = (await store.get('ConfigMap', { namespace: ns, name: 'edited' }))!
        await store.update('ConfigMap', { ...found, data: { ...found.data, b: '2' } })
        const next = await store.apply('ConfigMap', configMap(ns, 'edited', { a: '3' }))
        expect(next.data).toEqual({ a: '3', b: '2' })
      })

      it('shares finalizers', async () => {
        const second = await place.another({ fieldManager: 'somebody-else' })
        const finalizers = (...names: string[]) => ({ finalizers: names.map(one => `ipref.io/${one}`) })
        await store.apply('ConfigMap', configMap(ns, 'fin', {}, finalizers('a', 'b')))
        await second.apply('ConfigMap', configMap(ns, 'fin', {}, finalizers('c')))
        const next = await store.apply('ConfigMap', configMap(ns, 'fin', {}, finalizers('b')))
        expect([...next.metadata.finalizers!].sort()).toEqual(['ipref.io/b', 'ipref.io/c'])
        await second.apply('ConfigMap', configMap(ns, 'fin'))
        expect((await store.apply('ConfigMap', configMap(ns, 'fin'))).metadata.finalizers ?? []).toEqual([])
        await second.close()
      })

      it('is refused with the resourceVersion of before', async () => {
        const first = await store.apply('ConfigMap', configMap(ns, 'apply-old', { a: '1' }))
        await store.apply('ConfigMap', configMap(ns, 'apply-old', { a: '2' }))
        const { resourceVersion } = first.metadata
        const late = store.apply('ConfigMap', configMap(ns, 'apply-old', { a: '3' }, { resourceVersion }))
        expect(await faultOf(late)).toBe('Conflict')
      })
    })

    describe('deletion', () => {
      it('is done for what is not there', async () => {
        await store.delete('ConfigMap', { namespace: ns, name: 'never-was' })
      })

      it('is refused of another object than was meant', async () => {
        const made = await store.create('ConfigMap', configMap(ns, 'meant'))
        const key = { namespace: ns, name: 'meant' }
        const uid = '00000000-0000-4000-8000-000000000000'
        expect(await faultOf(store.delete('ConfigMap', key, { uid }))).toBe('Conflict')
        const next = await store.update('ConfigMap', { ...made, data: { a: '1' } })
        const { resourceVersion } = made.metadata
        expect(await faultOf(store.delete('ConfigMap', key, { resourceVersion: resourceVersion! }))).toBe('Conflict')
        await store.delete('ConfigMap', key, {
          uid: next.metadata.uid!,
          resourceVersion: next.metadata.resourceVersion!,
        })
        expect(await store.get('ConfigMap', key)).toBeUndefined()
      })

      it('waits for finalizers', async () => {
        const key = { namespace: ns, name: 'finalized' }
        const { changes, view } = await collect(store, { namespace: ns, fieldSelector: 'metadata.name=finalized' })
        await store.create('ConfigMap', configMap(ns, 'finalized', {}, { finalizers: ['ipref.io/test'] }))
        await store.delete('ConfigMap', key)
        await store.delete('ConfigMap', key)
        const going = (await store.get('ConfigMap', key))!
        expect(going.metadata.deletionTimestamp).toMatch(/^\d{4}-.*Z$/)
        const more = { ...going.metadata, finalizers: ['ipref.io/test', 'ipref.io/more'] }
        expect(await faultOf(store.update('ConfigMap', { ...going, metadata: more }))).toMatch(/Invalid|Forbidden/)
        await store.update('ConfigMap', { ...going, metadata: { ...going.metadata, finalizers: [] } })
        expect(await store.get('ConfigMap', key)).toBeUndefined()
        await until(
          () => changes.at(-1)?.now === undefined && changes.length >= 3,
          done => done,
        )
        expect(changes.some(({ now }) => now?.metadata.deletionTimestamp !== undefined)).toBe(true)
        expect(view.size).toBe(0)
        view.stop()
      })
    })

    describe('lists and watches', () => {
      it('tells of what is there before the watch is given, and keeps its view', async () => {
        const labels = { test: 'view' }
        const one = await store.create('ConfigMap', configMap(ns, 'view-1', { a: '1' }, { labels }))
        await store.create('ConfigMap', configMap(other, 'view-2', {}, { labels }))
        const { changes, view } = await collect(store, { labelSelector: 'test=view' })
        expect(changes.map(say).sort()).toEqual(['->view-1', '->view-2'])
        expect(view.size).toBe(2)
        expect(view.get({ namespace: ns, name: 'view-1' })).toEqual(one)
        expect(view.get({ namespace: other, name: 'view-1' })).toBeUndefined()
        expect([...view.all()].map(object => object.metadata.name).sort()).toEqual(['view-1', 'view-2'])

        const two = await store.update('ConfigMap', { ...one, data: { a: '2' } })
        await store.delete('ConfigMap', { namespace: other, name: 'view-2' })
        await until(
          () => changes.length,
          length => length === 4,
        )
        expect(changes[2]).toEqual({ before: one, now: two })
        expect(changes[3]!.before?.metadata.name).toBe('view-2')
        expect(changes[3]!.now).toBeUndefined()
        expect(view.size).toBe(1)
        view.stop()
      })

      it('follows its resourceVersion', async () => {
        const { view } = await collect(store, { namespace: ns })
        const first = view.resourceVersion!
        expect(first).toMatch(/^\d+$/)
        const made = await store.create('ConfigMap', configMap(ns, 'version'))
        await until(
          () => view.resourceVersion!,
          version => compareVersions(version, made.metadata.resourceVersion!) >= 0,
        )
        expect(compareVersions(view.resourceVersion!, first)).toBeGreaterThan(0)
        expect(view.get(made.metadata)).toEqual(made)
        expect(view.silentMs).toBeLessThan(DEADLINE_MS)
        view.stop()
      })

      it('sees objects enter and leave a label selector', async () => {
        const { changes, view } = await collect(store, { namespace: ns, labelSelector: 'enter in (a, b),!not' })
        const made = await store.create('ConfigMap', configMap(ns, 'enter', { x: '1' }))
        const inside = await store.apply('ConfigMap', configMap(ns, 'enter', {}, { labels: { enter: 'b' } }))
        await until(
          () => view.size,
          size => size === 1,
        )
        const outside = { ...inside, metadata: { ...inside.metadata, labels: { enter: 'c' } } }
        await store.update('ConfigMap', outside)
        await until(
          () => view.size,
          size => size === 0,
        )
        expect(changes.map(say)).toEqual(['->enter', 'enter>-'])
        expect(made.metadata.uid).toBe(inside.metadata.uid)
        view.stop()
      })

      it('lists by namespace, labels and fields', async () => {
        for (const namespace of [ns, other])
          for (const color of ['red', 'blue'])
            await store.create('ConfigMap', configMap(namespace, `list-${color}`, {}, { labels: { list: 'x', color } }))
        const names = async (options: Parameters<ResourceStore['list']>[1]) =>
          (await store.list('ConfigMap', options))
            .map(({ metadata }) => `${metadata.namespace === ns}/${metadata.name}`)
            .sort()
        const labelSelector = 'list=x'
        expect(await names({ labelSelector })).toEqual([
          'false/list-blue',
          'false/list-red',
          'true/list-blue',
          'true/list-red',
        ])
        expect(await names({ namespace: ns, labelSelector })).toEqual(['true/list-blue', 'true/list-red'])
        expect(await names({ labelSelector: 'list=x,color!=red', namespace: other })).toEqual(['false/list-blue'])
        expect(await names({ fieldSelector: 'metadata.name=list-red', namespace: ns })).toEqual(['true/list-red'])
      })

      it('tells of another object of the same name as one that went and one that came', async () => {
        const { changes, view } = await collect(store, { namespace: ns, fieldSelector: 'metadata.name=again' })
        const first = await store.create('ConfigMap', configMap(ns, 'again'))
        await store.delete('ConfigMap', { namespace: ns, name: 'again' })
        const second = await store.create('ConfigMap', configMap(ns, 'again'))
        expect(second.metadata.uid).not.toBe(first.metadata.uid)
        await until(
          () => changes.length,
          length => length === 3,
        )
        expect(changes.map(say)).toEqual(['->again', 'again>-', '->again'])
        view.stop()
      })

      it('tells nothing after stop', async () => {
        const { changes, view } = await collect(store, { namespace: ns, labelSelector: 'test=stop' })
        const still = await collect(store, { namespace: ns, labelSelector: 'test=stop' })
        view.stop()
        await store.create('ConfigMap', configMap(ns, 'stopped', {}, { labels: { test: 'stop' } }))
        await until(
          () => still.changes.length,
          length => length === 1,
        )
        expect(changes).toEqual([])
        still.view.stop()
      })

      it('keeps more objects than fit into a page of a list', async () => {
        const labels = { test: 'many' }
        const names = Array.from({ length: 620 }, (_, i) => `many-${i}`)
        for (let i = 0; i < names.length; i += 20)
          await Promise.all(
            names.slice(i, i + 20).map(name => store.create('ConfigMap', configMap(ns, name, {}, { labels }))),
          )
        const { changes, view } = await collect(store, { namespace: ns, labelSelector: 'test=many' })
        expect(view.size).toBe(620)
        expect(changes).toHaveLength(620)
        expect(await store.list('ConfigMap', { namespace: ns, labelSelector: 'test=many' })).toHaveLength(620)
        view.stop()
      })

      it('gives objects that cannot spoil the view', async () => {
        const labels = { test: 'private' }
        const made = await store.create('ConfigMap', configMap(ns, 'private', { a: '1' }, { labels }))
        const { view } = await collect(store, { namespace: ns, labelSelector: 'test=private' })
        made.data!.a = 'spoilt'
        const read = (await store.get('ConfigMap', { namespace: ns, name: 'private' }))!
        read.data!.a = 'spoilt'
        expect(view.get(made.metadata)!.data).toEqual({ a: '1' })
        expect(() => {
          view.get(made.metadata)!.data!.a = 'spoilt'
        }).toThrow(TypeError)
        view.stop()
      })
    })

    describe('two stores on one place', () => {
      it('see what the other writes', async () => {
        const second = await place.another()
        const here = await collect(store, { namespace: ns, labelSelector: 'test=two' })
        const there = await collect(second, { namespace: ns, labelSelector: 'test=two' })
        const labels = { test: 'two' }
        const made = await second.create('ConfigMap', configMap(ns, 'two', { a: '1' }, { labels }))
        expect(await store.get('ConfigMap', { namespace: ns, name: 'two' })).toEqual(made)
        await until(
          () => here.changes.length,
          length => length === 1,
        )
        const next = await store.update('ConfigMap', { ...made, data: { a: '2' } })
        expect(compareVersions(next.metadata.resourceVersion!, made.metadata.resourceVersion!)).toBeGreaterThan(0)
        await until(
          () => there.changes.length,
          length => length === 2,
        )
        expect(there.changes[1]).toEqual({ before: made, now: next })
        await second.delete('ConfigMap', { namespace: ns, name: 'two' })
        await until(
          () => here.changes.length,
          length => length === 3,
        )
        expect(here.changes.map(say)).toEqual(['->two', 'two>two', 'two>-'])
        await second.close()
        here.view.stop()
      })

      it('take a Lease from each other one at a time', async () => {
        const second = await place.another()
        const lease = (holderIdentity: string): Lease => ({
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          metadata: { name: 'leader', namespace: ns },
          spec: { holderIdentity, leaseDurationSeconds: 15, renewTime: '2026-01-01T00:00:00.000000Z' },
        })
        const made = await store.create('Lease', lease('one'))
        expect(await faultOf(second.create('Lease', lease('two')))).toBe('AlreadyExists')
        const take = (by: ResourceStore, holderIdentity: string) =>
          faultOf(by.update('Lease', { ...made, spec: { ...made.spec, holderIdentity } }))
        const outcomes = await Promise.all([take(store, 'one'), take(second, 'two')])
        // an update that changes nothing may go through beside one that does, before it
        expect(outcomes.filter(one => one === 'none').length).toBeGreaterThanOrEqual(1)
        expect(outcomes.every(one => one === 'none' || one === 'Conflict')).toBe(true)
        const { resourceVersion } = made.metadata
        const late = {
          ...made,
          metadata: { ...made.metadata, resourceVersion: resourceVersion! },
          spec: { holderIdentity: 'late' },
        }
        const now = await store.get('Lease', { namespace: ns, name: 'leader' })
        const isTaken = now!.metadata.resourceVersion !== resourceVersion
        expect(await faultOf(second.update('Lease', late))).toBe(isTaken ? 'Conflict' : 'none')
        await second.close()
      })
    })

    it('counts its requests by verb, kind and code', async () => {
      const count = (name: string) => store.requests.get(name) ?? 0
      const before = count('get ConfigMap 404')
      await store.get('ConfigMap', { namespace: ns, name: 'counted' })
      expect(count('get ConfigMap 404')).toBe(before + 1)
    })

    it('ends its watches when it is closed', async () => {
      const second = await place.another()
      const { changes } = await collect(second, { namespace: ns, labelSelector: 'test=close' })
      await second.close()
      await store.create('ConfigMap', configMap(ns, 'closed', {}, { labels: { test: 'close' } }))
      const view: Watched<'ConfigMap'> = (await collect(store, { namespace: ns, labelSelector: 'test=close' })).view
      expect(view.size).toBe(1)
      expect(changes).toEqual([])
      view.stop()
    })
  })
}
