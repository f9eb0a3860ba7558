/**
 * Single uplink with a real API server: one Lease, one Secret, two gateways (processes, without packets), each with a way of its own to the server, so that one
 * can be cut off alone. How long takeovers take is printed.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Lease } from '../../resources/kinds.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { type FaultyProxy, startFaultyProxy } from '../support/faultyProxy.ts'
import {
  GATEWAYS,
  type Name,
  networkOfTwo,
  OTHER,
  PATIENCE_MS,
  UplinkGateways,
  until,
} from '../support/uplinkGateways.ts'

const LEASE = { namespace: 'ipref', name: 'ipref-uplink' }
/** longer than the Lease, and than the patience of everybody */
const LONG_OUTAGE_MS = 8000
const HOSTS = Array.from({ length: 20 }, (_, i) => `host${i}`)

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: a single uplink with an API server: ${problem}\n`)

describe.skipIf(problem)('a single uplink with an API server', { timeout: 4 * PATIENCE_MS }, () => {
  let server: ApiServer
  let users: KubernetesStore
  let gateways: UplinkGateways
  const proxies = new Map<Name, FaultyProxy>()
  let given: (string | undefined)[]

  const start = (name: Name) => gateways.start(name, ['-kubeconfig', proxies.get(name)!.kubeconfig('first')])
  const claim = async (): Promise<NonNullable<Lease['spec']>> => (await users.get('Lease', LEASE))!.spec!
  const isActive = async (name: Name) => (await gateways.uplinkOf(name)).startsWith('active')

  beforeAll(async () => {
    server = await startOwnApiServer('uplink')
    users = await KubernetesStore.open({ kubeconfig: server.kubeconfig, fieldManager: 'users' })
    await users.create('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: LEASE.namespace } })
    await users.create('ConfigMap', networkOfTwo())
    gateways = await UplinkGateways.open()
    for (const name of GATEWAYS) {
      proxies.set(name, await startFaultyProxy(server.kubeconfig))
      start(name)
    }
  }, 240_000)
  afterAll(async () => {
    await gateways?.close()
    for (const proxy of proxies.values()) await proxy.close()
    await users?.close()
    await server?.stop()
  }, 180_000)

  it('has one active gateway, that of the Lease, and a standby with the same mappings', async () => {
    const active = await gateways.active()
    expect((await claim()).holderIdentity).toBe(active)
    const secret = await users.get('Secret', LEASE)
    expect(Buffer.from(secret!.data!.key!, 'base64')).toHaveLength(32)
    given = await gateways.addresses(active, HOSTS)
    expect(new Set(given).size).toBe(HOSTS.length)
    expect(await gateways.addresses(OTHER[active], HOSTS)).toEqual(given)
  })

  it('is taken over when the active one ends without a word, with all addresses, and back again in turn', async () => {
    for (const _turn of [1, 2]) {
      const first = await gateways.active()
      const second = OTHER[first]
      const before = await claim()
      const killed = performance.now()
      await gateways.end(first, 'SIGKILL')
      await until('the other is active', () => isActive(second))
      console.log(`active ${((performance.now() - killed) / 1000).toFixed(1)} s after kill -9 of the one before`)
      const after = await claim()
      expect([after.holderIdentity, after.leaseTransitions]).toEqual([second, (before.leaseTransitions ?? 0) + 1])
      expect(await gateways.addresses(second, HOSTS)).toEqual(given)
      start(first)
      expect(await gateways.active()).toBe(second)
    }
  })

  it('stays as it is while the API server is away, and after it', async () => {
    const active = await gateways.active()
    const before = await claim()
    const said = new Set<string>()
    await server.restart({
      kill: true,
      during: async () => {
        for (const end = Date.now() + LONG_OUTAGE_MS; Date.now() < end; ) {
          for (const name of GATEWAYS) said.add(`${name}: ${await gateways.uplinkOf(name)}`)
          await new Promise(resolve => setTimeout(resolve, 200))
        }
        // names that nobody has asked for yet, at both
        const [fresh] = await gateways.addresses(OTHER[active], ['host100'])
        expect(await gateways.addresses(active, ['host100'])).toEqual([fresh])
      },
    })
    // the holder renews again: whoever holds the Lease now has got it since
    await until('the Lease is renewed again', async () => (await claim()).renewTime !== before.renewTime)
    expect([...said].sort()).toEqual(
      [
        `${active}: active, standby ${OTHER[active]}`,
        `${OTHER[active]}: ${active} is active; standing by for it`,
      ].sort(),
    )
    const after = await claim()
    expect([after.holderIdentity, after.leaseTransitions]).toEqual([active, before.leaseTransitions])
  })

  it('is the same after a restart of both while the API server is away', async () => {
    const active = await gateways.active()
    await server.restart({
      kill: true,
      during: async () => {
        for (const name of GATEWAYS) await gateways.end(name, 'SIGKILL')
        for (const name of GATEWAYS) start(name)
        expect(await gateways.active()).toBe(active)
        for (const name of GATEWAYS) expect(await gateways.addresses(name, HOSTS)).toEqual(given)
      },
    })
    expect(await gateways.active()).toBe(active)
  })

  it('goes to the standby when the active one alone is cut off, which steps back although it sees no Lease', async () => {
    const first = await gateways.active()
    const second = OTHER[first]
    const proxy = proxies.get(first)!
    proxy.fault = () => ({ cut: 'before' })
    proxy.cutAll()
    await until('the other is active', () => isActive(second))
    // it has no word from the API server
    await until('the first one steps back', async () => !(await isActive(first)))
    expect(await gateways.active()).toBe(second)
    for (const name of GATEWAYS) expect(await gateways.addresses(name, HOSTS)).toEqual(given)
    proxy.fault = undefined
    expect((await claim()).holderIdentity).toBe(second)
    expect(await gateways.active()).toBe(second)
  })
})
