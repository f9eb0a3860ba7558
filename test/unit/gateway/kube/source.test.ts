import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Observation } from '../../../../gateway/kube/report.ts'
import { KubeSource } from '../../../../gateway/kube/source.ts'
import { describeAssertion, type Problem } from '../../../../gateway/mapper/assertions.ts'
import { formatWords } from '../../../../ipref/address.ts'
import { DirectoryStore } from '../../../../resources/directoryStore.ts'
import { API_VERSION, type IprefService, type ServiceMapping } from '../../../../resources/kinds.ts'
import { formatNetwork, NETWORK_KEY, NETWORK_NAME } from '../../../../resources/network.ts'
import { systemClock } from '../../../../runtime/clock.ts'
import { acceptedPeer, network } from '../../../support/clusterBuilders.ts'
import { quietObservation } from '../../../support/quietSource.ts'
import { silentLog } from '../../../support/silentLog.ts'

const NAMESPACE = 'ipref'
const SLICES = ['10.177.0.0/18']
let folder: string
let operator: DirectoryStore
let ends: (() => unknown)[]

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-kube-'))
  operator = await DirectoryStore.open(folder)
  ends = [() => operator.close()]
})
afterEach(async () => {
  for (const end of ends.reverse()) await end()
  rmSync(folder, { recursive: true, force: true })
})

/** A gateway that keeps what it is told. */
class TestGateway {
  order: string[] = []
  mapped: string[] = []
  denied: string[] = []
  slices: string[] | undefined
  refuses: string | undefined
  observation: Observation = { ...quietObservation, version: 'test', tunMtu: 1400 }
  source!: KubeSource
  store!: DirectoryStore

  async open(): Promise<this> {
    this.store = await DirectoryStore.open(folder, { fieldManager: 'ipref-gateway' })
    this.source = new KubeSource(
      {
        name: 'node-1',
        namespace: NAMESPACE,
        stateFile: join(folder, '.data', 'cluster.json'),
        tunnelFamilies: [4],
        own: {},
      },
      {
        store: this.store,
        clock: systemClock,
        log: silentLog,
        random: () => 0.5,
        setAssertions: async assertions => {
          this.order.push('assertions')
          this.mapped = assertions.map(describeAssertion)
          return assertions
            .filter(one => describeAssertion(one) === this.refuses)
            .map(
              (assertion): Problem => ({
                owner: 'crd',
                assertion,
                reason: 'shadowed',
                detail: 'the hosts file says otherwise',
              }),
            )
        },
        setPolicy: policy => {
          this.order.push('policy')
          this.denied = policy.peers.filter(one => !one.rule.allow).map(one => formatWords(one.context))
          return true
        },
        setPeers: () => {},
        setNetwork: (_network, self) => {
          this.slices = self?.slices
        },
        setDomains: () => {},
        observe: () => this.observation,
        onReleased: () => {},
      },
    )
    ends.push(() => this.close())
    await this.source.restore()
    return this
  }

  #isOpen = true
  async close(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.source.stop()
    await this.store.close()
  }
}

async function until<Value>(
  what: string,
  look: () => Promise<Value | undefined> | Value | undefined | false,
): Promise<Value> {
  const end = Date.now() + 60_000
  for (;;) {
    const value = await look()
    if (value) return value
    if (Date.now() > end) throw new Error(`not within a minute: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

const self = { name: 'node-1', nodeAddresses: [], slices: SLICES, publicAddresses: [], publish: true }

async function sayNetwork(): Promise<void> {
  await operator.apply('ConfigMap', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: NAMESPACE, name: NETWORK_NAME },
    data: { [NETWORK_KEY]: formatNetwork(network({ gateways: [self] })) },
  })
}

/** As the operator does: mappings first, then the version of that write. */
async function publish(name: string, mapping: Partial<ServiceMapping>): Promise<IprefService> {
  const key = { namespace: 'shop', name }
  const object =
    (await operator.get('IprefService', key)) ??
    (await operator.create('IprefService', {
      apiVersion: API_VERSION,
      kind: 'IprefService',
      metadata: key,
      spec: { target: { service: { name } } },
    }))
  const mappings: ServiceMapping[] = [{ slot: 0, family: 'IPv4', address: '10.1.0.9', reference: '11', ...mapping }]
  const first = await operator.updateStatus('IprefService', { ...object, status: { observedGeneration: 1, mappings } })
  const mappingsVersion = first.metadata.resourceVersion!
  return operator.updateStatus('IprefService', { ...first, status: { ...first.status!, mappingsVersion } })
}

const status = async () => (await operator.get('IprefGateway', { name: 'node-1' }))?.status
const isObserved = (service: IprefService) => async () => {
  const observed = (await status())?.observedResourceVersion
  return observed !== undefined && Number(observed) >= Number(service.status!.mappingsVersion)
}

describe('objects of a cluster', () => {
  it('become mappings, and the report says up to where', async () => {
    await sayNetwork()
    const gateway = await new TestGateway().open()
    gateway.source.start()
    const service = await publish('web', {})
    await until('the report', isObserved(service))
    expect([gateway.mapped, gateway.slices]).toEqual([['10.1.0.9 = pub + 11'], SLICES])
    await operator.delete('IprefService', { namespace: 'shop', name: 'web' })
    await until('the mapping gone', () => gateway.mapped.length === 0)
  })

  it('a report says which are refused, and takes it back', async () => {
    await sayNetwork()
    const gateway = await new TestGateway().open()
    gateway.refuses = '10.1.0.9 = pub + 11'
    gateway.source.start()
    await until('the report', isObserved(await publish('web', {})))
    expect((await status())?.refused).toEqual([
      { namespace: 'shop', name: 'web', reason: 'Shadowed', message: 'the hosts file says otherwise' },
    ])
    await until('the report', isObserved(await publish('web', { reference: '12' })))
    expect((await status())?.refused).toBeUndefined()
  })

  it('the policy is in force before the mappings that it is about', async () => {
    await sayNetwork()
    const gateway = await new TestGateway().open()
    const peer = acceptedPeer('b', { inbound: { policy: 'Deny' } })
    const { status: peerStatus, ...rest } = peer
    const made = await operator.create('IprefPeer', rest)
    await operator.updateStatus('IprefPeer', {
      ...made,
      status: {
        ...peerStatus!,
        conditions: peerStatus!.conditions!.map(c => ({ ...c, lastTransitionTime: '2030-01-01T00:00:00Z' })),
      },
    })
    gateway.source.start()
    await until('the policy', () => gateway.denied.length > 0)
    expect(gateway.denied).toEqual(['203.0.113.2'])
    expect(gateway.order.slice(0, 2)).toEqual(['policy', 'assertions'])
  })

  it('nothing is written while nothing changes', async () => {
    await sayNetwork()
    const gateway = await new TestGateway().open()
    gateway.source.start()
    await until('the report', isObserved(await publish('web', {})))
    const writes = () => [...gateway.store.requests].filter(([what]) => !/^(get|list|watch) |Lease/.test(what)).join()
    // the last report may be on its way still
    await until('no write in 3 s', async () => {
      const before = writes()
      await new Promise(resolve => setTimeout(resolve, 3000))
      return writes() === before
    })
  })

  it('a restart without the cluster goes on with what was said last, at once', async () => {
    await sayNetwork()
    const first = await new TestGateway().open()
    first.source.start()
    await until('the report', isObserved(await publish('web', {})))
    await first.close()
    const second = await new TestGateway().open()
    expect([second.mapped, second.slices]).toEqual([['10.1.0.9 = pub + 11'], SLICES])
    // what changed meanwhile counts as soon as the views are there
    await publish('web', { reference: '12' })
    second.source.start()
    await until('the new mapping', () => second.mapped.includes('10.1.0.9 = pub + 12'))
  })

  it('a network that cannot be read leaves the last one in force, and is named', async () => {
    await sayNetwork()
    const gateway = await new TestGateway().open()
    gateway.source.start()
    await until('the network', () => gateway.slices)
    const known = (await operator.get('ConfigMap', { namespace: NAMESPACE, name: NETWORK_NAME }))!
    await operator.update('ConfigMap', { ...known, data: { [NETWORK_KEY]: '{"uplink": 7}' } })
    const [problem] = await until('the problem', () => gateway.source.problems.length > 0 && gateway.source.problems)
    expect(problem).toContain('ConfigMap ipref/ipref-network, network.json: encodingNetworks: no list')
    expect(gateway.slices).toEqual(SLICES)
  })

  it('gives its Lease up at its end', async () => {
    await sayNetwork()
    const gateway = await new TestGateway().open()
    gateway.source.start()
    const lease = () => operator.get('Lease', { namespace: NAMESPACE, name: 'ipref-gateway-node-1' })
    await until('the Lease', async () => (await lease())?.spec?.holderIdentity === 'node-1')
    await gateway.close()
    expect((await lease())?.spec?.holderIdentity).toBe('')
  })
})
