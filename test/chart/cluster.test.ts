/**
 * The chart and a real API server: every object of every row of the matrix is taken by it; and the accounts of the chart may do what operator, gateways and
 * cleanup do, and no more.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KubeSource } from '../../gateway/kube/source.ts'
import { cleanUp } from '../../operator/cleanup.ts'
import { Operator } from '../../operator/operator.ts'
import { neededRights } from '../../operator/rights.ts'
import { FINALIZER } from '../../operator/service/reconcile.ts'
import { API_VERSION, type IprefGateway, kindTable, type Lease, type Secret } from '../../resources/kinds.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { StoreError } from '../../resources/store.ts'
import { systemClock } from '../../runtime/clock.ts'
import { HOST } from '../dns/programs.ts'
import { ownApiServerProblem } from '../support/apiServer.ts'
import { ChartCluster } from '../support/chartCluster.ts'
import { chartRows } from '../support/chartMatrix.ts'
import { helmProblem, NAMESPACE, pick, type Rendered, render } from '../support/helm.ts'
import { eventually } from '../support/netns.ts'
import { freePorts } from '../support/ports.ts'
import { quietSourcePorts } from '../support/quietSource.ts'
import { silentLog } from '../support/silentLog.ts'

const problem = helmProblem ?? ownApiServerProblem()
if (problem) process.stdout.write(`skipped: the chart in an API server: ${problem}\n`)

const COREFILE = '.:53 {\n    errors\n}\n'
/** Until nothing is thrown any more. */
function soon(what: string, check: () => Promise<unknown>): Promise<true> {
  const checked = async () => {
    await check()
    return true as const
  }
  return eventually(what, checked, { withinMs: 180_000 })
}

const isKind =
  (...kinds: string[]) =>
  (object: Rendered) =>
    kinds.includes(object.kind)

/** Everything switched on that asks for a right. */
const fullValues = (port: number) => ({
  config: {
    internalZone: 'in.example.com',
    publicZone: 'example.com',
    targets: { allowedRanges: [{ cidr: '172.20.0.0/16' }] },
    publicAddresses: { 'node-a': ['198.51.100.1'], 'node-b': ['198.51.100.2'] },
    clusterDns: { manage: true },
    publishers: {
      zoneServer: {
        listen: [`${HOST}:${port}`],
        nameServers: ['ns1.example.com'],
        transfer: { keySecrets: [{ name: 'transfer-key' }] },
      },
      dnsEndpoint: { namespace: 'external-dns' },
      configMap: {},
    },
    readBack: { servers: [`${HOST}:${port}`] },
  },
  resolver: { service: { clusterIP: '10.96.0.53' } },
})

interface Rule {
  apiGroups: string[]
  resources: string[]
  resourceNames?: string[]
  verbs: string[]
}
const rulesOf = (object: Rendered) => object.rules as Rule[]

/** `group/resource verb`, of all these rules. */
function rightsOf(rules: readonly Rule[]): string[] {
  const all = rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap(group => resources.flatMap(resource => verbs.map(verb => `${group}/${resource} ${verb}`))),
  )
  return [...new Set(all)].sort()
}

function rightsNeeded(where: 'all' | 'own'): string[] {
  const all = neededRights
    .filter(right => right.where === where)
    .flatMap(({ kind, verbs, status = [] }) => {
      const { apiVersion, plural } = kindTable[kind]
      const place = `${apiVersion.includes('/') ? apiVersion.split('/')[0] : ''}/${plural}`
      return [...verbs.map(verb => `${place} ${verb}`), ...status.map(verb => `${place}/status ${verb}`)]
    })
  return [...new Set(all)].sort()
}

describe.skipIf(helmProblem !== undefined)('rights in the chart', () => {
  const objects = helmProblem ? [] : render(fullValues(5300))
  const ofOperator = (kind: string) =>
    objects.filter(one => one.kind === kind && one.metadata.name === 'ipref-operator').flatMap(rulesOf)

  it('are those that the operator says it needs, verb by verb', () => {
    expect(rightsOf(ofOperator('ClusterRole'))).toEqual(rightsNeeded('all'))
    expect(rightsOf(ofOperator('Role'))).toEqual(rightsNeeded('own'))
  })

  it('name each object where its name is known', () => {
    const roles = objects.filter(isKind('Role')).flatMap(rulesOf)
    const unnamed = roles.filter(({ resourceNames }) => resourceNames === undefined)
    // what is made cannot be named by RBAC; Leases of gateways have names of nodes, DNSEndpoints of objects
    expect(rightsOf(unnamed)).toEqual(
      [
        ...['/configmaps create', '/secrets create'],
        ...['create', 'delete', 'get', 'list', 'update', 'watch'].map(verb => `coordination.k8s.io/leases ${verb}`),
        ...['create', 'delete', 'get', 'list', 'update', 'watch'].map(
          verb => `externaldns.k8s.io/dnsendpoints ${verb}`,
        ),
      ].sort(),
    )
    expect(
      objects
        .filter(isKind('Role', 'ClusterRole'))
        .flatMap(rulesOf)
        .flatMap(rule => Object.values(rule))
        .flat(),
    ).not.toContain('*')
  })
})

describe.skipIf(problem !== undefined)('the chart in an API server', { timeout: 300_000 }, () => {
  let cluster: ChartCluster
  let objects: Rendered[]
  let port: number

  beforeAll(async () => {
    cluster = await ChartCluster.open(['dns', 'external-dns', 'net', 'shop'])
    ;[port] = (await freePorts(1)) as [number]
    objects = render(fullValues(port))
  })
  afterAll(() => cluster?.close())

  it.each(chartRows)('takes every object of $name', async ({ values, kubeVersion }) => {
    const all = render(values, kubeVersion === undefined ? [] : ['--kube-version', kubeVersion])
    expect(await cluster.apply(all, { isDry: true })).toEqual([])
  })

  it('and notices an object that is wrong', async () => {
    const wrong = structuredClone(pick(objects, 'DaemonSet', 'ipref-gateway')) as Rendered & {
      spec: { template: { spec: { hostNetworks?: boolean } } }
    }
    wrong.spec.template.spec.hostNetworks = true
    await expect(cluster.apply([wrong], { isDry: true })).rejects.toThrow(/hostNetworks/)
  })

  describe('installed', () => {
    let operator: Operator | undefined
    const opened: KubernetesStore[] = []
    const sources: KubeSource[] = []

    const openAs = async (account: string, node?: string) => {
      const kubeconfig = await cluster.account(account, node)
      const store = await KubernetesStore.open({ kubeconfig, times: { attempts: 3 } })
      opened.push(store)
      return store
    }
    const forbidden = (store: KubernetesStore) => [...store.requests.keys()].filter(what => /40[13]$/.test(what))

    const gatewayOn = async (node: string) => {
      const store = await openAs('ipref-gateway', node)
      const source = new KubeSource(
        { name: node, namespace: NAMESPACE, stateFile: cluster.file(`${node}.json`), tunnelFamilies: [4] },
        quietSourcePorts(store),
      )
      source.start()
      sources.push(source)
      return store
    }

    beforeAll(async () => {
      await cluster.node('node-a', '192.0.2.11')
      await cluster.node('node-b', '192.0.2.12')
      const configMap = (namespace: string, name: string, data: Record<string, string>) =>
        cluster.admin.create('ConfigMap', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name }, data })
      await configMap('kube-system', 'coredns', { Corefile: COREFILE })
      const key = Buffer.from('hmac-sha256:transfer:bXkgc2VjcmV0').toString('base64')
      await cluster.admin.create('Secret', {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace: NAMESPACE, name: 'transfer-key' },
        data: { key },
      })
      await cluster.apply(objects)
    })
    afterAll(async () => {
      for (const source of sources) await source.stop()
      await operator?.stop()
      for (const store of opened) await store.close()
    })

    it('lets operator and gateways do all their work, from an object to its records and back', async () => {
      const store = await openAs('ipref-operator')
      const settings = { manifests: undefined, namespace: NAMESPACE, settings: 'ipref-config', workers: 8 }
      operator = new Operator(
        {
          ...settings,
          leaderElect: true,
          identity: 'operator-1',
          zoneAddresses: ['10.96.0.54:53'],
          tunnelFamilies: [4, 6],
        },
        { store, clock: systemClock, log: silentLog, random: Math.random },
      )
      await operator.start()
      const gateways = [await gatewayOn('node-a'), await gatewayOn('node-b')]
      const metadata = { namespace: 'shop', name: 'web' }
      const kind = 'IprefService' as const
      const spec = { target: { address: '172.20.0.1' }, ttlSeconds: 1 }
      await cluster.admin.create(kind, { apiVersion: API_VERSION, kind, metadata, spec })
      const ready = async () => {
        const { status } = (await cluster.admin.get(kind, metadata))!
        const states = status?.conditions?.map(({ type, status: is, message }) => `${type} ${is} ${message}`) ?? []
        if (!states.some(text => text.startsWith('Ready True'))) throw new Error(states.join('\n') || 'no conditions')
      }
      await soon('the object is ready', ready)
      const corefile = async () =>
        (await cluster.admin.get('ConfigMap', { namespace: 'kube-system', name: 'coredns' }))!.data!.Corefile!
      await soon('CoreDNS is told', async () => expect(await corefile()).toMatch(/# BEGIN ipref[\s\S]*10\.96\.0\.53/))
      await soon('external-dns is told', async () =>
        expect(await cluster.admin.list('DNSEndpoint', { namespace: 'external-dns' })).toHaveLength(1),
      )
      const reports = async () => (await cluster.admin.list('IprefGateway')).map(({ status }) => status?.version)
      await soon('gateways report', async () => expect(await reports()).toEqual(['0', '0']))
      await cluster.admin.delete(kind, metadata)
      await soon('the object goes', async () => expect(await cluster.admin.get(kind, metadata)).toBeUndefined())
      expect(operator.unready()).toEqual([])
      expect([forbidden(store), ...gateways.map(forbidden)]).toEqual([[], [], []])
      // and it was work
      const done = [...store.requests.keys()].map(what => what.replace(/ \d+$/, ''))
      expect(done).toEqual(
        expect.arrayContaining([
          ...['create IprefReference', 'create IprefGateway', 'update IprefService', 'update-status IprefService'],
          ...[
            'get Secret',
            'update ConfigMap',
            'create ConfigMap',
            'create DNSEndpoint',
            'create Event',
            'update Lease',
          ],
        ]),
      )
    })

    it('lets a gateway write what is about its own node, and nothing else', async () => {
      const own = await openAs('ipref-gateway', 'node-c')
      await cluster.node('node-c', '192.0.2.13')
      const refusal = async (work: () => Promise<unknown>) => {
        const error = await work().then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        return error instanceof StoreError ? `${error.code}: ${error.message}` : String(error)
      }
      const report = (name: string, store = own) =>
        refusal(async () => {
          const object = (await cluster.admin.get('IprefGateway', { name }))!
          const status = { ...object.status, observedGeneration: 1, version: 'of node-c' }
          await store.updateStatus('IprefGateway', { ...object, status } as IprefGateway)
        })
      await soon('there is a gateway for the node', async () =>
        expect(await cluster.admin.get('IprefGateway', { name: 'node-c' })).toBeDefined(),
      )
      // a policy is in force some moments after it is made
      await soon('others are refused', async () =>
        expect(await report('node-b')).toMatch(/writes the IprefGateway of that name alone/),
      )
      expect(await report('node-c')).toBe('undefined')
      const anywhere = await openAs('ipref-gateway')
      expect(await report('node-c', anywhere)).toMatch(/says on which node it runs, and this one does not/)

      const lease = (name: string): Lease => ({
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { namespace: NAMESPACE, name },
        spec: { holderIdentity: 'node-c' },
      })
      const make = (name: string) => refusal(() => own.create('Lease', lease(name)))
      expect(await make('ipref-gateway-node-c')).toBe('undefined')
      expect(await make('ipref-uplink')).toBe('undefined')
      expect(await make('ipref-gateway-node-x')).toMatch(
        /writes the Leases ipref-uplink and ipref-gateway-node-c alone/,
      )
      // which its owner writes all the time
      await soon('the Lease of the operators is refused', async () => {
        const taken = (await own.get('Lease', { namespace: NAMESPACE, name: 'ipref-operator' }))!
        expect(await refusal(() => own.update('Lease', taken))).toMatch(/writes the Leases/)
      })

      const secret = (name: string): Secret => ({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace: NAMESPACE, name },
        data: {},
      })
      expect(await refusal(() => own.create('Secret', secret('mine')))).toMatch(/makes the Secret ipref-uplink alone/)
      expect(await refusal(() => own.create('Secret', secret('ipref-uplink')))).toBe('undefined')
      expect(await own.get('Secret', { namespace: NAMESPACE, name: 'ipref-uplink' })).toBeDefined()
      for (const work of [
        () => own.get('Secret', { namespace: NAMESPACE, name: 'transfer-key' }),
        () => own.list('Secret', { namespace: NAMESPACE }),
        () => own.list('Pod'),
        () => own.get('ConfigMap', { namespace: NAMESPACE, name: 'ipref-config' }),
        () => own.delete('IprefGateway', { name: 'node-c' }),
      ])
        expect(await refusal(work)).toMatch(/^Forbidden/)
      // the policy is about gateways: others go on
      expect(await report('node-b', cluster.admin)).toBe('undefined')
    })

    it('lets cleanup undo everything', async () => {
      const kind = 'IprefService' as const
      const metadata = { namespace: 'shop', name: 'left' }
      await cluster.admin.create(kind, {
        apiVersion: API_VERSION,
        kind,
        metadata,
        spec: { target: { address: '172.20.0.2' } },
      })
      await soon('external-dns is told', async () =>
        expect(await cluster.admin.list('DNSEndpoint', { namespace: 'external-dns' })).toHaveLength(1),
      )
      const status = {
        observedGeneration: 1,
        currentNumberScheduled: 3,
        numberMisscheduled: 0,
        desiredNumberScheduled: 3,
        numberReady: 3,
      }
      const patch = ['--subresource=status', '--type=merge', '-p', JSON.stringify({ status })]
      await cluster.must(['-n', NAMESPACE, 'patch', 'daemonset', 'ipref-cleanup-nodes', ...patch])
      const { admin } = cluster
      // the operator of this test is a pod of the Deployment, and ends when that is deleted
      const deployment = { namespace: NAMESPACE, name: 'ipref-operator' }
      const { matchLabels = {} } = (await admin.get('Deployment', deployment))!.spec!.selector!
      const labels = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`)
      const pod = ['run', 'operator-1', '--image=none', `--labels=${labels.join()}`]
      const account = JSON.stringify({ spec: { serviceAccountName: 'ipref-operator' } })
      await cluster.must(['-n', NAMESPACE, ...pod, `--overrides=${account}`])
      const ended = soon('the operator is told to end', async () =>
        expect(await admin.get('Deployment', deployment)).toBeUndefined(),
      ).then(async () => {
        const wasActing = operator!.isActing
        await operator!.stop()
        await cluster.must(['-n', NAMESPACE, 'delete', 'pod', 'operator-1', '--now'])
        return wasActing
      })
      const store = await openAs('ipref-cleanup')
      const left = await cleanUp(
        {
          namespace: NAMESPACE,
          settings: 'ipref-config',
          identity: 'cleanup-1',
          gateways: 'ipref-gateway',
          nodeCleanup: 'ipref-cleanup-nodes',
          operators: 'ipref-operator',
          patienceMs: 180_000,
        },
        { store, clock: systemClock, log: silentLog },
      )
      expect(left).toEqual([])
      expect(forbidden(store)).toEqual([])
      expect(await ended).toBe(false)
      expect((await admin.get('ConfigMap', { namespace: 'kube-system', name: 'coredns' }))!.data!.Corefile).toBe(
        COREFILE,
      )
      expect(await admin.list('DNSEndpoint', { namespace: 'external-dns' })).toEqual([])
      const stays = (await admin.get(kind, metadata))!
      expect(stays.metadata.finalizers ?? []).not.toContain(FINALIZER)
      expect(stays.status?.conditions?.find(({ type }) => type === 'Ready')?.reason).toBe('OperatorGone')
      expect((await admin.list('ConfigMap', { namespace: NAMESPACE })).map(one => one.metadata.name).sort()).toEqual([
        'ipref-config',
      ])
      expect(await admin.get('DaemonSet', { namespace: NAMESPACE, name: 'ipref-gateway' })).toBeUndefined()
      expect(await admin.get('Deployment', { namespace: NAMESPACE, name: 'ipref-operator' })).toBeUndefined()
      expect(await admin.get('Lease', { namespace: NAMESPACE, name: 'ipref-operator' })).toBeUndefined()
      expect(await admin.list('IprefGateway')).toEqual([])
      expect((await admin.list('Secret', { namespace: NAMESPACE })).map(one => one.metadata.name)).toEqual([
        'transfer-key',
      ])
    })
  })
})
