/** The API server is killed and comes back with the same data, while watches run: they overcome it by themselves, and 410 Gone is a real one. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { configMap, until } from '../contract/resourceStore.ts'
import { type ApiServer, isMissing, kubectl, ownApiServerProblem, startApiServer } from '../support/apiServer.ts'
import { type FaultyProxy, startFaultyProxy } from '../support/faultyProxy.ts'
import { follow } from '../support/followed.ts'
import { makeNamespaces } from '../support/namespaces.ts'

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: restarts of an API server: ${problem}\n`)

describe.skipIf(problem)('an API server that restarts', { timeout: 240_000 }, () => {
  let server: ApiServer
  let truth: KubernetesStore
  let ns: string

  beforeAll(async () => {
    const started = await startApiServer({
      name: 'restart',
      controllers: 'none',
      flags: ['--etcd-compaction-interval=1s'],
    })
    if (isMissing(started)) throw new Error(started.missing)
    server = started
    truth = await KubernetesStore.open({ kubeconfig: server.kubeconfig, times: { attempts: 20 } })
    ns = (await makeNamespaces(truth)).namespaces[0]
    for (let i = 0; i < 30; i++) await truth.create('ConfigMap', configMap(ns, `kept-${i}`, { i: String(i) }))
  })
  afterAll(async () => {
    await truth?.close()
    await server?.stop()
  })

  it.each([
    ['ends in order', 1, {}],
    ['is killed, and etcd with it', 2, { kill: true, etcd: true }],
  ] as const)('%s', async (_what, round, how) => {
    const store = await KubernetesStore.open({ kubeconfig: server.kubeconfig })
    const followed = await follow(store, { namespace: ns })
    const before = new Map([...followed.view.all()].map(object => [object.metadata.name, object]))
    await truth.apply('ConfigMap', configMap(ns, 'changed', { at: `before ${round}` }))
    await followed.converge(truth)
    await server.restart({
      ...how,
      async during() {
        await until(
          () => followed.troubles.length,
          length => length > 0,
        )
        // the view stays what it was
        expect(followed.view.size).toBeGreaterThanOrEqual(30)
        const asked = store.get('ConfigMap', { namespace: ns, name: 'kept-0' })
        await expect(asked).rejects.toMatchObject({ code: 'Unavailable' })
      },
    })
    await truth.apply('ConfigMap', configMap(ns, 'changed', { at: `after ${round}` }))
    await truth.delete('ConfigMap', { namespace: ns, name: `kept-${round}` })
    await truth.create('ConfigMap', configMap(ns, `new-${round}`))
    await followed.converge(truth)
    await until(
      () => followed.troubles,
      told => told.at(-1) === undefined,
    )
    const kept = [...followed.view.all()].filter(object => before.get(object.metadata.name) === object)
    expect(kept.length).toBeGreaterThanOrEqual(before.size - 3)
    await store.close()
  })

  it('has forgotten what changed while a watch was cut off: a real 410', async () => {
    const proxy: FaultyProxy = await startFaultyProxy(server.kubeconfig)
    const store = await KubernetesStore.open({
      kubeconfig: proxy.kubeconfig('first'),
      times: { firstBackoffMs: 50, lastBackoffMs: 200 },
    })
    const followed = await follow(store, { namespace: ns })
    proxy.fault = seen => (seen.isWatch ? { cut: 'before' } : undefined)
    proxy.cutAll()
    await truth.delete('ConfigMap', { namespace: ns, name: 'kept-29' })
    await truth.apply('ConfigMap', configMap(ns, 'changed', { at: 'away' }))
    await truth.create('ConfigMap', configMap(ns, 'made-away'))
    // the cache of the server begins anew with it, and etcd forgets soon
    await server.restart({ kill: true })
    const query = `watch=1&timeoutSeconds=1&resourceVersion=${followed.view.resourceVersion}`
    const raw = ['get', '--raw', `/api/v1/namespaces/${ns}/configmaps?${query}`]
    const watchOfBefore = async () => {
      const { output, errors } = await kubectl(server.kubeconfig, raw)
      return output + errors
    }
    await until(watchOfBefore, text => /"code":410|too old|compacted/.test(text))
    await truth.apply('ConfigMap', configMap(ns, 'changed', { at: 'later' }))
    proxy.fault = undefined
    await followed.converge(truth)
    expect(followed.troubles.join('\n')).toMatch(/\(410\)/)
    expect(followed.view.get({ namespace: ns, name: 'kept-29' })).toBeUndefined()
    await store.close()
    await proxy.close()
  })
})
