/**
 * Watches and requests through a proxy that cuts, goes silent, refuses and garbles, in front of a real API server: the view is the truth each time, each
 * change that is told fits those before, and nothing is missed or told twice.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { StoreError } from '../../resources/store.ts'
import { configMap, until } from '../contract/resourceStore.ts'
import { isMissing, sharedApiServer } from '../support/apiServer.ts'
import { type Fault, type FaultyProxy, type Seen, startFaultyProxy } from '../support/faultyProxy.ts'
import { type Followed, follow } from '../support/followed.ts'
import { makeNamespaces } from '../support/namespaces.ts'

const server = sharedApiServer()

describe.skipIf(isMissing(server))('faults between a store and an API server', () => {
  let truth: KubernetesStore
  let proxy: FaultyProxy
  let ns: string
  let removeNamespaces: () => Promise<void>
  /** through the proxy, of all tests that do not close one */
  let shared: KubernetesStore
  const stores: KubernetesStore[] = []
  const views: { stop(): void }[] = []
  let labels: Record<string, string>
  let count = 0

  const times = { silenceMs: 1500, firstBackoffMs: 20, lastBackoffMs: 200 }

  beforeAll(async () => {
    if (isMissing(server)) throw new Error(server.missing)
    truth = await KubernetesStore.open({ kubeconfig: server.kubeconfig })
    proxy = await startFaultyProxy(server.kubeconfig)
    shared = await KubernetesStore.open({ kubeconfig: proxy.kubeconfig('first'), times })
    const made = await makeNamespaces(truth)
    ns = made.namespaces[0]
    removeNamespaces = made.remove
  })
  afterEach(async () => {
    proxy.fault = undefined
    for (const view of views.splice(0)) view.stop()
    for (const store of stores.splice(0)) await store.close()
  })
  afterAll(async () => {
    await removeNamespaces?.()
    await shared?.close()
    await truth?.close()
    await proxy?.close()
  })

  async function open(token = 'first'): Promise<KubernetesStore> {
    const store = await KubernetesStore.open({ kubeconfig: proxy.kubeconfig(token), times })
    stores.push(store)
    return store
  }

  /** A watch of objects of this test alone, some of which are there. */
  async function begin(objects = 5, store = shared): Promise<Followed & { store: KubernetesStore }> {
    labels = { test: `fault-${++count}` }
    for (let i = 0; i < objects; i += 20)
      await Promise.all(
        Array.from({ length: Math.min(20, objects - i) }, (_, j) =>
          truth.create('ConfigMap', configMap(ns, `f${count}-${i + j}`, { text: 'ä€𝄞' }, { labels })),
        ),
      )
    const followed = await follow(store, { namespace: ns, labelSelector: `test=fault-${count}` })
    views.push(followed.view)
    expect(followed.view.size).toBe(objects)
    return { ...followed, store }
  }

  /** One is made, one changed, one goes, and another takes its place. */
  async function change(round: number): Promise<void> {
    const at = (i: number) => `f${count}-${i}`
    await truth.apply('ConfigMap', configMap(ns, at(0), { text: 'ä€𝄞', round: String(round) }, { labels }))
    await truth.create('ConfigMap', configMap(ns, at(1000 + round), { text: '𝄞'.repeat(100) }, { labels }))
    await truth.delete('ConfigMap', { namespace: ns, name: at(1) })
    await truth.create('ConfigMap', configMap(ns, at(1), { round: String(round) }, { labels }))
  }

  const isOurs = ({ query }: Seen) => query.get('labelSelector') === `test=fault-${count}`
  const gone = JSON.stringify({
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    reason: 'Expired',
    code: 410,
    message: 'too old',
  })
  const goneEvent = `${JSON.stringify({ type: 'ERROR', object: JSON.parse(gone) })}\n`

  /** The next `times` watches have the fault; those that are on are cut, so that it comes to pass at once. */
  function faultyWatches(times: number, fault: () => Fault): { hits(): number } {
    let hits = 0
    proxy.fault = seen => (isOurs(seen) && seen.isWatch && hits < times && ++hits ? fault() : undefined)
    proxy.cutAll()
    return { hits: () => hits }
  }

  const once = (text: string) => {
    let isDone = false
    return (line: string) => {
      if (isDone) return line
      isDone = true
      return text
    }
  }

  it.each<[string, number, () => Fault]>([
    ['is cut', 0, () => ({})],
    ['is cut again and again', 6, () => ({ cut: 'before' })],
    ['ends in the middle of a line', 4, () => ({ cutAfterBytes: 1234 })],
    ['ends in the middle of a character', 4, () => ({ cutAfterBytes: 701 })],
    ['says nothing any more', 2, () => ({ silent: true })],
    ['does not begin', 1, () => ({ delayMs: 1000 })],
    ['is refused with 410', 1, () => ({ status: 410, body: gone })],
    ['ends with 410 in a line', 1, () => ({ lines: line => goneEvent + line })],
    ['loses a line to 410', 2, () => ({ lines: once(goneEvent) })],
    ['is refused with 500', 4, () => ({ status: 500, body: 'oops' })],
    ['is refused with 503 and no words', 3, () => ({ status: 503 })],
    ['is refused with 504', 5, () => ({ status: 504 })],
    ['ends with an error of the server', 2, () => ({ lines: once(goneEvent.replaceAll('410', '500')) })],
    ['says what is no JSON', 2, () => ({ lines: once('{"type":"ADDED","object":{"meta\n') })],
    ['says what is no event', 2, () => ({ lines: once('{"type":"NEW","object":{"metadata":{}}}\n') })],
    ['says what is no event of an object', 2, () => ({ lines: once('{"type":"ADDED"}\n') })],
    ['says everything twice', 1, () => ({ lines: line => line + line })],
    ['comes in single bytes', 1, () => ({ pieceBytes: 1 })],
    ['is slow', 1, () => ({ pieceBytes: 50, delayMs: 200 })],
  ])('a watch that %s', async (what, times, fault) => {
    const followed = await begin()
    await change(0)
    const { hits } = faultyWatches(times, fault)
    for (let round = 1; round <= 3; round++) await change(round)
    await until(hits, n => n === times)
    await change(4)
    await followed.converge(truth)
    await change(5)
    await followed.converge(truth)
    expect(followed.view.silentMs).toBeLessThan(60_000)
    if (what !== 'says everything twice') expect(followed.troubles[0]).toMatch(/ConfigMap/)
    await until(
      () => followed.troubles,
      told => told.length === 0 || told.at(-1) === undefined,
    )
  })

  it('old events come again', async () => {
    const followed = await begin()
    let old = ''
    faultyWatches(1, () => ({
      lines(line) {
        const again = old
        old += line
        return line + again
      },
    }))
    for (let round = 0; round < 4; round++) await change(round)
    await followed.converge(truth)
    const told = followed.changes.map(
      ({ before, now }) => `${before?.metadata.resourceVersion}>${now?.metadata.resourceVersion}`,
    )
    expect(new Set(told).size).toBe(told.length)
  })

  it('after 410 the objects that did not change are the same, and those that went are gone', async () => {
    const followed = await begin(620)
    const before = new Map([...followed.view.all()].map(object => [object.metadata.name, object]))
    const told = followed.changes.length
    faultyWatches(1, () => ({ status: 410, body: gone }))
    await truth.delete('ConfigMap', { namespace: ns, name: `f${count}-7` })
    await change(1)
    await followed.converge(truth)
    const kept = [...followed.view.all()].filter(object => before.get(object.metadata.name) === object)
    expect(kept).toHaveLength(620 - 3)
    expect(followed.changes.slice(told).length).toBeLessThanOrEqual(8)
    expect(followed.view.get({ namespace: ns, name: `f${count}-7` })).toBeUndefined()
  })

  it('a list whose pages grow too old begins anew, and comes in one page at last', async () => {
    const followed = await begin(620)
    const lists = () => proxy.seen.filter(seen => isOurs(seen) && !seen.isWatch)
    const earlier = lists().length
    let refused = 0
    proxy.fault = seen => {
      if (!isOurs(seen)) return undefined
      if (seen.isWatch && refused === 0) return { status: 410, body: gone }
      return seen.query.has('continue') && ++refused <= 2 ? { status: 410, body: gone } : undefined
    }
    proxy.cutAll()
    await change(1)
    await until(
      () => lists().length,
      length => length >= earlier + 3,
    )
    await followed.converge(truth)
    const queries = lists()
      .slice(earlier)
      .map(({ query }) => (query.has('continue') ? 'next' : (query.get('limit') ?? 'whole')))
    expect(queries.slice(0, 3)).toEqual(['500', 'next', 'whole'])
    // a list of single requests, too
    refused = 0
    proxy.fault = seen => (seen.query.has('continue') && ++refused ? { status: 410, body: gone } : undefined)
    expect(await shared.list('ConfigMap', { namespace: ns, labelSelector: `test=fault-${count}` })).toHaveLength(
      followed.view.size,
    )
    expect(refused).toBe(1)
  })

  it('a server that asks for patience is given it', async () => {
    const followed = await begin()
    const { hits } = faultyWatches(2, () => ({ status: 429, headers: { 'retry-after': '1' } }))
    await change(1)
    await until(hits, n => n === 2)
    await followed.converge(truth)
    const watches = proxy.seen.filter(seen => isOurs(seen) && seen.isWatch).slice(-3)
    expect(watches[1]!.at - watches[0]!.at).toBeGreaterThanOrEqual(990)
    expect(watches[2]!.at - watches[1]!.at).toBeGreaterThanOrEqual(990)
    let refused = 0
    proxy.fault = seen =>
      seen.method === 'GET' && ++refused <= 2 ? { status: 429, headers: { 'retry-after': '1' } } : undefined
    const began = performance.now()
    expect(await shared.get('ConfigMap', { namespace: ns, name: `f${count}-0` })).toBeDefined()
    expect(performance.now() - began).toBeGreaterThanOrEqual(1990)
  })

  it('a token that is not accepted any more is read again', async () => {
    const followed = await begin(5, await open())
    proxy.tokens = new Set(['second'])
    proxy.cutAll()
    await change(1)
    await until(
      () => followed.troubles.join(),
      text => /\(401\)/.test(text),
    )
    proxy.kubeconfig('second')
    await followed.converge(truth)
    proxy.tokens = new Set(['third'])
    proxy.kubeconfig('third')
    // at once, without an error
    expect(await followed.store.get('ConfigMap', { namespace: ns, name: `f${count}-0` })).toBeDefined()
    proxy.tokens = new Set(['first'])
    const refused = followed.store.get('ConfigMap', { namespace: ns, name: `f${count}-0` })
    await expect(refused).rejects.toMatchObject({ code: 'Forbidden', status: 401 })
  })

  it('nobody is there for a while', async () => {
    const followed = await begin()
    proxy.fault = () => ({ cut: 'before' })
    proxy.cutAll()
    await change(1)
    await until(
      () => followed.troubles.length,
      length => length >= 6,
    )
    const lists = () => proxy.seen.filter(seen => isOurs(seen) && !seen.isWatch).length
    const before = lists()
    proxy.fault = undefined
    await followed.converge(truth)
    // an outage is no reason to list again
    expect(lists()).toBe(before)
  })

  describe('requests', () => {
    const key = () => ({ namespace: ns, name: `f${count}-0` })

    it.each<[string, Fault]>([
      ['500', { status: 500 }],
      ['503', { status: 503, headers: { 'retry-after': '0' } }],
      ['504', { status: 504 }],
      ['429', { status: 429 }],
      ['a cut before the answer', { cut: 'before' }],
      ['a cut after the work was done', { cut: 'after' }],
      ['half an answer', { cutAfterBytes: 100 }],
    ])('outlive %s', async (_what, fault) => {
      const { store } = await begin(1)
      let hits = 0
      // each request fails twice
      proxy.fault = seen => (!seen.isWatch && ++hits % 3 !== 0 ? fault : undefined)
      const found = (await store.get('ConfigMap', key()))!
      expect(found.metadata.name).toBe(key().name)
      expect(await store.list('ConfigMap', { namespace: ns, labelSelector: `test=fault-${count}` })).toHaveLength(1)
      const name = `f${count}-made`
      const made = await store.create('ConfigMap', configMap(ns, name, { by: 'us' }, { labels }))
      expect(made.data).toEqual({ by: 'us' })
      const next = await store.apply('ConfigMap', configMap(ns, name, { by: 'apply' }, { labels }))
      expect(next.data).toEqual({ by: 'apply' })
      await store.delete('ConfigMap', { namespace: ns, name })
      proxy.fault = undefined
      expect(await truth.get('ConfigMap', { namespace: ns, name })).toBeUndefined()
    })

    it('that created something say so when the answer was lost, and not when it is another’s', async () => {
      const { store } = await begin(0)
      let cuts = 0
      proxy.fault = seen => (seen.method === 'POST' && cuts++ === 0 ? { cut: 'after' } : undefined)
      const mine = await store.create('ConfigMap', configMap(ns, `f${count}-claim`, { owner: 'me' }))
      expect(mine).toEqual(await truth.get('ConfigMap', { namespace: ns, name: `f${count}-claim` }))
      expect(cuts).toBe(2)
      cuts = 0
      const another = store.create('ConfigMap', configMap(ns, `f${count}-claim`, { owner: 'another' }))
      await expect(another).rejects.toMatchObject({ code: 'AlreadyExists' })
      proxy.fault = undefined
      await expect(store.create('ConfigMap', configMap(ns, `f${count}-claim`, { owner: 'me' }))).rejects.toMatchObject({
        code: 'AlreadyExists',
      })
    })

    it('give up after some attempts, and say that nobody is there', async () => {
      const { store } = await begin(1)
      let hits = 0
      proxy.fault = seen => (!seen.isWatch && ++hits ? { status: 500, body: 'oops' } : undefined)
      const failing = store.get('ConfigMap', key())
      await expect(failing).rejects.toBeInstanceOf(StoreError)
      await expect(failing).rejects.toMatchObject({ code: 'Unavailable', status: 500, isRetryable: true })
      expect(hits).toBe(5)
      hits = 0
      proxy.fault = seen => (!seen.isWatch && ++hits ? { status: 429, headers: { 'retry-after': '600' } } : undefined)
      await expect(store.get('ConfigMap', key())).rejects.toMatchObject({ code: 'Unavailable', status: 429 })
      expect(hits).toBe(1)
      hits = 0
      proxy.fault = seen => (!seen.isWatch && ++hits ? { status: 403, body: '{}' } : undefined)
      await expect(store.get('ConfigMap', key())).rejects.toMatchObject({ code: 'Forbidden', isRetryable: false })
      expect(hits).toBe(1)
    })

    it('take no more than their time', async () => {
      await begin(1)
      const store = await KubernetesStore.open({
        kubeconfig: proxy.kubeconfig('first'),
        times: { ...times, requestMs: 300, attempts: 2 },
      })
      stores.push(store)
      proxy.fault = seen => (seen.isWatch ? undefined : { silent: true })
      await expect(store.get('ConfigMap', key())).rejects.toMatchObject({ code: 'Unavailable' })
      proxy.fault = seen => (seen.isWatch ? undefined : { delayMs: 1500 })
      await expect(store.get('ConfigMap', key())).rejects.toMatchObject({ code: 'Unavailable' })
    })
  })

  it('a watch begins as soon as the server can be asked', async () => {
    await begin(2)
    const store = await open()
    proxy.fault = () => ({ status: 503 })
    const watching = follow(store, { namespace: ns, labelSelector: `test=fault-${count}` })
    await until(
      () => store.requests.get('list ConfigMap 503') ?? 0,
      n => n > 6,
    )
    proxy.fault = undefined
    const followed = await watching
    expect(followed.view.size).toBe(2)
    await followed.converge(truth)
  })

  it('a watch of what is not served, or not ours to see, is refused at once', async () => {
    const store = shared
    await expect(store.watch('DNSEndpoint', {}, { onChange() {} })).rejects.toMatchObject({ code: 'NoSuchKind' })
    proxy.fault = () => ({ status: 403, body: '{}' })
    await expect(store.watch('ConfigMap', {}, { onChange() {} })).rejects.toMatchObject({ code: 'Forbidden' })
  })

  it('a store that is closed leaves no connection, and its watches tell nothing', async () => {
    const { store, changes } = await begin(1, await open())
    await store.close()
    const told = changes.length
    await change(1)
    expect(changes).toHaveLength(told)
  })
})
