/**
 * From `kubectl apply` to a packet: a real API server, `ipref operator` and `ipref gateway` as programs on a node, and another network that knows the service by
 * its name alone.
 *
 *   cluster: pods 10.1.0.10, .20 ── node (gateway, operator, zone server) ── internet ── gateway ── remote 10.1.0.10
 *                                    198.51.100.1 │                          198.51.100.2
 *                                        API server, by a relay
 *
 * Both networks use the same addresses. The other one asks the operator's zone server for AA records, and nobody has told it anything else.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { API_VERSION, type IprefService, type ObjectMeta } from '../../resources/kinds.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { type Relay, startRelay } from '../support/apiRelay.ts'
import { type ApiServer, kubectl, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { eventually, type Lab, type Namespace, openLab, type Running } from '../support/netns.ts'
import { exchange, joinInternet, Network, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { expectNoPing, ping } from '../support/probes.ts'
import type { TransferReport } from '../support/traffic.ts'
import { labSupport } from '../support/userNamespace.ts'
import { packetsWith, watchContexts } from '../support/wireContexts.ts'

const ROOT = join(import.meta.dirname, '../..')
const IPREF = join(ROOT, 'cli/ipref')
const SITE = join(ROOT, 'test/demo/site.ts')
const NODE = 'node-c'
const [OPERATORS, SHOP] = ['ipref', 'shop']
const NAME = 'web.shop.example.com'
const QUIET = ['-metrics-address', 'off', '-health-address', 'off'] as const
/** The remote network as the cluster sees it. */
const ENCODED_HERE = /^10\.1(7[6-9]|8\d|9[01])\./
/** The service as the remote network sees it. */
const ENCODED_THERE = /^10\.2(4\d|5[0-5])\./
const LONG = { withinMs: 90_000, everyMs: 200 }
/** long enough for packets between the end of a record and the end of its mapping */
const TTL_S = 12
/** the node's, by its annotation; and what is on the wire when nobody knows one */
const [PUBLIC, UNKNOWN] = ['198.51.100.1', '0.0.0.0'] as const

const support = labSupport()
const problem =
  ownApiServerProblem() ??
  (support.how === 'root' ? undefined : support.how === 'none' ? support.reason : 'network namespaces here need root')
if (problem) process.stdout.write(`skipped: from kubectl apply to a packet: ${problem}\n`)

describe.skipIf(problem)('from kubectl apply to a packet', { timeout: 240_000 }, () => {
  let server: ApiServer
  let users: KubernetesStore
  let lab: Lab
  let relay: Relay
  let here: Network
  let there: Network
  let remote: Namespace
  let operator: Running
  /** of the service, as others know it */
  let reference: string

  async function kube(argv: readonly string[], input = ''): Promise<string> {
    const { code, output, errors } = await kubectl(server.kubeconfig, argv, input)
    if (code !== 0) throw new Error(`kubectl ${argv.join(' ')}: ${errors}`)
    return output
  }
  const apply = (...objects: object[]) => kube(['apply', '-f', '-'], objects.map(one => writeYaml(one)).join('---\n'))
  const object = (name: string): Promise<IprefService | undefined> =>
    users.get('IprefService', { namespace: SHOP, name })
  const wait = (condition: string, name: string) =>
    kube(['wait', '-n', SHOP, `--for=${condition}`, `iprefservice/${name}`, '--timeout=120s'])

  beforeAll(async () => {
    server = await startOwnApiServer('operator-flow')
    users = await KubernetesStore.open({ kubeconfig: server.kubeconfig, fieldManager: 'users' })
    lab = await openLab()
    await build()
    await fill()
    const flags = ['-kubeconfig', server.kubeconfig, '-namespace', OPERATORS, '-log-format', 'text', ...QUIET]
    operator = here.gateway.start([IPREF, 'operator', ...flags], { log: 'operator.log' })
    for (const network of [here, there]) network.startGateway()
    await Promise.all([here.ready(), there.ready()])
  }, 240_000)
  afterAll(async () => {
    await users?.close()
    await relay?.close()
    await lab?.close()
    await server?.stop()
  })

  // ---- two networks

  async function build(): Promise<void> {
    const internet = await lab.add('internet', { forwards: true })
    here = await Network.build(lab, {
      name: 'c',
      lan: ['10.1.0.1/24'],
      hosts: { 'pod-a': ['10.1.0.10/24'], 'pod-b': ['10.1.0.20/24'] },
      mappings: [],
      flags: [
        ...['-gateway-bind', '198.51.100.1', '-encode-net', '10.176.0.0/12', ...QUIET],
        ...['-kubeconfig', server.kubeconfig, '-node', NODE],
      ],
    })
    there = await Network.build(lab, {
      name: 'r',
      lan: ['10.1.0.1/24'],
      hosts: { remote: ['10.1.0.10/24'] },
      nameServers: ['10.1.0.1'],
      mappings: ['10.1.0.10 remote #= pub + 11'],
      flags: [
        ...['-gateway', '198.51.100.2', '-encode-net', '10.240.0.0/12', ...QUIET],
        ...['-resolver-listen', '10.1.0.1:53', '-resolver-upstream', '198.51.100.1:5353'],
      ],
    })
    await joinInternet(lab, here, internet, { gateway: ['198.51.100.1/31'], router: ['198.51.100.0/31'] })
    await joinInternet(lab, there, internet, { gateway: ['198.51.100.2/31'], router: ['198.51.100.3/31'] })
    await watchContexts(there.gateway, [PUBLIC, UNKNOWN])
    remote = there.host('remote')
    const config = readYaml(readFileSync(server.kubeconfig, 'utf8'))[0]!.value
    const { server: url } = (config as { clusters: { cluster: { server: string } }[] }).clusters[0]!.cluster
    relay = await startRelay(here.gateway, Number(new URL(url).port), lab.file('api.sock'))
    for (const label of ['pod-a', 'pod-b']) {
      await serveTraffic(here.host(label))
      await serveName(here.host(label), 80)
    }
  }

  /** Who connects is told the name of the host. */
  async function serveName(host: Namespace, port: number): Promise<Running> {
    const program = `net.createServer(s => s.end('${host.label}')).listen(${port}, () => console.log('ready'))`
    const running = host.start([process.execPath, '-e', program], { log: `${host.label}-${port}.log` })
    await eventually(`port ${port} of ${host.label}`, () => running.log().includes('ready'), LONG)
    return running
  }

  // ---- what Kubernetes and the platform team put there

  async function fill(): Promise<void> {
    const config = {
      encodingNetworks: ['10.176.0.0/12'],
      internalZone: 'in.example.com',
      publicZone: 'example.com',
      publishers: { zoneServer: { listen: ['198.51.100.1:5353'], nameServers: ['ns1.example.com'] } },
      readBack: { servers: ['198.51.100.1:5353'] },
    }
    const named = (kind: string, name: string, namespace?: string) => ({
      apiVersion: 'v1',
      kind,
      metadata: { name, ...(namespace && { namespace }) },
    })
    await apply(named('Namespace', OPERATORS), named('Namespace', SHOP))
    await apply(
      named('ServiceAccount', 'default', SHOP),
      { ...named('ConfigMap', 'ipref-config', OPERATORS), data: { 'config.yaml': writeYaml(config) } },
      {
        ...named('Node', NODE),
        metadata: { name: NODE, annotations: { 'ipref.io/public-addresses': '198.51.100.1' } },
        spec: { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24'] },
      },
    )
    const node = (await users.get('Node', { name: NODE }))!
    await users.updateStatus('Node', {
      ...node,
      status: { ...node.status, addresses: [{ type: 'InternalIP', address: '10.1.0.1' }] },
    })
    const ports = [
      { name: 'site', port: 80, targetPort: 80, protocol: 'TCP' },
      { name: 'traffic', port: TRAFFIC_PORT, targetPort: TRAFFIC_PORT, protocol: 'TCP' },
    ]
    await apply({ ...named('Service', 'web', SHOP), spec: { clusterIP: 'None', ports } })
    await putMember('10.1.0.10')
  }

  /** Pod 0 of a StatefulSet, wherever it is now, and the endpoint that follows from it. */
  async function putMember(address: string): Promise<void> {
    await kube(['delete', 'pod', '-n', SHOP, 'web-0', '--ignore-not-found', '--force', '--grace-period=0'])
    const set = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'web', uid: 'e5a1', controller: true }
    const metadata = { namespace: SHOP, name: 'web-0', labels: { app: 'web' }, ownerReferences: [set] }
    const spec = { nodeName: NODE, containers: [{ name: 'web', image: 'web' }] }
    await apply({ apiVersion: 'v1', kind: 'Pod', metadata, spec })
    const pod = (await users.get('Pod', { namespace: SHOP, name: 'web-0' }))!
    await users.updateStatus('Pod', {
      ...pod,
      status: {
        ...pod.status,
        phase: 'Running',
        podIP: address,
        podIPs: [{ ip: address }],
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    })
    await apply({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace: SHOP, name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      endpoints: [{ addresses: [address], conditions: { ready: true } }],
      ports: [
        { name: 'site', port: 80, protocol: 'TCP' },
        { name: 'traffic', port: TRAFFIC_PORT, protocol: 'TCP' },
      ],
    })
  }

  const iprefService = (metadata: Partial<ObjectMeta>, spec: object = {}) => ({
    apiVersion: API_VERSION,
    kind: 'IprefService',
    metadata: { namespace: SHOP, ...metadata },
    spec: { target: { service: { name: 'web' } }, ttlSeconds: TTL_S, ...spec },
  })

  // ---- what the other network sees

  /** AA strings at the operator's zone server, or what it says in their place. */
  const askZone = async (name = NAME) =>
    (await there.gateway.require([process.execPath, SITE, 'ask', '198.51.100.1:5353', name, 'TXT'])).trim()

  async function encodedAddress(): Promise<string> {
    const look = async () => {
      const { stdout } = await remote.run(['getent', 'ahostsv4', NAME])
      return stdout.split(/\s/)[0] || undefined
    }
    const address = await eventually(`${NAME} in the other network`, look, LONG)
    expect(address).toMatch(ENCODED_THERE)
    return address
  }

  /** The host that answers at this port; undefined: nobody. */
  async function whoIsAt(address: string, port: number): Promise<string | undefined> {
    const program = `net.connect(${port}, '${address}').on('error', () => process.exit(1))
      .setTimeout(3000, () => process.exit(1)).on('data', data => console.log(String(data)))`
    const { code, stdout } = await remote.run([process.execPath, '-e', program])
    return code === 0 ? stdout.trim() : undefined
  }

  async function mapped(): Promise<number> {
    return (await here.status()).mappings.counts.crd ?? 0
  }

  // ---- the flow

  it('publishes: ready, an AA record, and packets to the target, from an encoded address', async () => {
    await apply(iprefService({ name: 'web' }))
    try {
      await wait('condition=Ready', 'web')
    } catch (error) {
      throw new Error(
        `${(error as Error).message}\n${JSON.stringify(await object('web'))}\n${operator.log()}\n${here.log()}`,
      )
    }
    const { status } = (await object('web'))!
    expect(status!.mappings).toHaveLength(1)
    expect(status!.mappings![0]).toMatchObject({ slot: 0, family: 'IPv4', address: '10.1.0.10', member: 'web-0' })
    reference = status!.mappings![0]!.reference
    expect(await askZone()).toBe(`AA 198.51.100.1 + ${reference}`)
    expect(await askZone(`web-0.${NAME}`)).toBe(`AA 198.51.100.1 + ${reference}`)
    // Mapped is no promise: it is in the gateway
    expect(await mapped()).toBe(1)
    const address = await encodedAddress()
    await ping(remote, address)
    const report = await exchange<TransferReport>(remote, ['upload', address, TRAFFIC_PORT, 200_000, 7])
    expect(report.from).toMatch(ENCODED_HERE)
  })

  it('puts the address of the annotation on the wire, and none when it is taken away', async () => {
    const address = await encodedAddress()
    const annotate = (text: string) =>
      kube(['annotate', 'node', NODE, `ipref.io/public-addresses${text}`, '--overwrite'])
    const carries = async (context: string) => {
      const isCarried = async () => {
        const before = await packetsWith(there.gateway, context)
        await ping(remote, address)
        return (await packetsWith(there.gateway, context)) > before
      }
      await eventually(`${context} on the wire`, isCarried, LONG)
    }
    await carries(PUBLIC)
    await annotate('-')
    await carries(UNKNOWN)
    expect((await here.status()).contexts).toEqual([])
    await annotate(`=${PUBLIC}`)
    await carries(PUBLIC)
    await wait('condition=Ready', 'web')
  })

  it('opens the ports of the Service, and no others', async () => {
    const address = await encodedAddress()
    const other = await serveName(here.host('pod-a'), 81)
    expect(await whoIsAt(address, 80)).toBe('pod-a')
    expect(await whoIsAt(address, 81)).toBeUndefined()
    await other.stop()
  })

  it('follows a target that moves: the same reference, the same name, packets to where it is now', async () => {
    const address = await encodedAddress()
    await putMember('10.1.0.20')
    const isMoved = async () => (await object('web'))?.status?.mappings?.[0]?.address === '10.1.0.20'
    await eventually('the mapping follows', isMoved, LONG)
    await wait('condition=Ready', 'web')
    expect((await object('web'))!.status!.mappings).toHaveLength(1)
    expect((await object('web'))!.status!.mappings![0]!.reference).toBe(reference)
    expect(await askZone()).toBe(`AA 198.51.100.1 + ${reference}`)
    await eventually('packets follow', async () => (await whoIsAt(address, 80)) === 'pod-b', LONG)
    expect(await encodedAddress()).toBe(address)
    await ping(remote, address)
  })

  it('of two that ask for a name the older keeps it, and the other says why', async () => {
    await apply(iprefService({ name: 'second' }, { hostname: 'web' }))
    await wait('condition=Accepted=False', 'second')
    const [line] = (await kube(['get', 'iprefsvc', 'second', '-n', SHOP, '--no-headers'])).split('\n')
    expect(line).toMatch(/^second\s+False\s+NameConflict\s/)
    const said = await kube(['describe', 'iprefsvc', 'second', '-n', SHOP])
    expect(said).toContain('belongs to the older IprefService shop/web')
    expect(await askZone()).toBe(`AA 198.51.100.1 + ${reference}`)
    const [first] = (await kube(['get', 'iprefsvc', 'web', '-n', SHOP, '--no-headers'])).split('\n')
    expect(first).toMatch(/^web\s+True\s+Ready\s/)
    await kube(['delete', 'iprefsvc', 'second', '-n', SHOP, '--timeout=60s'])
    expect(await askZone()).toBe(`AA 198.51.100.1 + ${reference}`)
  })

  it('withdraws: the record first, then, when nobody can remember it, the mapping with the object', async () => {
    const address = await encodedAddress()
    await kube(['delete', 'iprefsvc', 'web', '-n', SHOP, '--wait=false'])
    const record = await eventually(
      'the record is gone',
      async () => (await object('web'))?.status?.withdrawnAt !== undefined && (await askZone()),
      LONG,
    )
    expect(record).toBe('ENOTFOUND')
    // who has asked before still reaches it
    await ping(remote, address)
    expect((await exchange<TransferReport>(remote, ['upload', address, TRAFFIC_PORT, 1000, 8])).ok).toBe(true)
    expect((await object('web'))?.metadata.finalizers).toHaveLength(1)
    await wait('delete', 'web')
    await eventually('the mapping is gone', async () => (await mapped()) === 0, LONG)
    await expectNoPing(remote, address)
    // kept for an object of the same name
    const [claim] = await users.list('IprefReference')
    await eventually('the claim is let go', async () => (await users.list('IprefReference'))[0]?.spec.releasedAt, LONG)
    expect(claim!.spec).toMatchObject({ namespace: SHOP, name: 'web' })
  })

  it('comes back under the reference that others know', async () => {
    await apply(iprefService({ name: 'web' }))
    await wait('condition=Ready', 'web')
    expect((await object('web'))!.status!.mappings![0]!.reference).toBe(reference)
    const address = await encodedAddress()
    await eventually('packets arrive', () => ping(remote, address), LONG)
    expect(operator.hasExited()).toBe(false)
  })
})
