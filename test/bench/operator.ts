/**
 * `npm run bench -- operator [--quick] [--objects N] [--json FILE]`: the operator against a real API server, with 10,000 IprefServices (1,000 with --quick, or --objects N).
 *
 *   bench: makes objects, watches them, asks the zone server ── API server (etcd, kube-apiserver) ── `ipref operator`, a process of its own
 *     └─ a gateway that reports what it has seen; for K2 gateway/kube as it is, which puts mappings in force in memory
 *
 *   K1  from the operator's start to all objects Ready; API writes on a full pass in which nothing changed
 *   K2  one object's address is changed: until the zone server answers with it, and until the gateway has it
 *   K3  memory with all objects; its peak when every watch is answered 410 and all is listed again
 *
 * Targets are addresses, so that nothing but the operator is measured. Leases and Events are not counted as writes.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Type } from '../../dns/constants.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { KubeSource } from '../../gateway/kube/source.ts'
import { formatAddress } from '../../ipref/address.ts'
import type { IprefService } from '../../resources/kinds.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import type { Watched } from '../../resources/store.ts'
import { compareVersions, versionOfMappings } from '../../resources/view.ts'
import { startOwnApiServer } from '../support/apiServer.ts'
import { startFaultyProxy } from '../support/faultyProxy.ts'
import { freePort } from '../support/ports.ts'
import { quietSourcePorts } from '../support/quietSource.ts'
import { argumentOf, percentile, round } from './numbers.ts'

const QUICK = process.argv.includes('--quick')
const OBJECTS = Number(argumentOf('--objects') ?? (QUICK ? 1000 : 10_000))
const WORKERS = argumentOf('--workers')
const CHANGES = QUICK ? 50 : 200
const AT_ONCE = 32
const PATIENCE_MS = 1_200_000
const CLOCK_TICKS = 100
const NAMESPACE = 'ipref-bench'
const TEAM = 'ipref-bench-team'
const GATEWAY = 'gw-bench'
const IPREF = join(import.meta.dirname, '../../cli/ipref')
const RELISTED = ['iprefservices', 'iprefreferences', 'iprefpeers', 'pods']

const folder = mkdtempSync(join(tmpdir(), 'ipref-bench-operator-'))
const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })]
const results: Record<string, number> = {}

function note(name: string, value: number, shown: string): void {
  results[name] = round(value)
  console.log(`${name.padEnd(26)}${shown}`)
}

async function until<T>(what: string, ask: () => Promise<T | undefined> | T | undefined, everyMs = 20): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s`)
    await new Promise(resolve => setTimeout(resolve, everyMs))
  }
}

async function inParallel(count: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const one = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
}

// ---- objects

const addressOf = (i: number, turn = 0) => `172.${16 + turn}.${(i >> 8) & 255}.${i & 255}`

function settingsText(port: number, comment: string): string {
  return `# ${comment}
encodingNetworks: [10.176.0.0/12]
internalZone: in.bench.example
publicZone: bench.example
targets: {allowedRanges: [{cidr: 172.16.0.0/12}]}
publishers:
  zoneServer: {listen: ["127.0.0.1:${port}"], nameServers: [ns.bench.example]}
readBack: {servers: ["127.0.0.1:${port}"]}
`
}

async function writeSettings(store: KubernetesStore, port: number, comment: string): Promise<void> {
  const metadata = { namespace: NAMESPACE, name: 'ipref-config' }
  const data = { 'config.yaml': settingsText(port, comment) }
  await store.apply('ConfigMap', { apiVersion: 'v1', kind: 'ConfigMap', metadata, data })
}

async function makeObjects(store: KubernetesStore, port: number): Promise<void> {
  for (const name of [NAMESPACE, TEAM])
    await store.create('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  await writeSettings(store, port, 'made by the bench')
  await inParallel(OBJECTS, i =>
    store.create('IprefService', {
      apiVersion: 'ipref.io/v1alpha1',
      kind: 'IprefService',
      metadata: { namespace: TEAM, name: `s-${i}` },
      spec: { target: { address: addressOf(i) } },
    }),
  )
}

/**
 * A gateway that does nothing but report: for the first sync, in which gateways' own work is on other machines. Counts objects that are Ready on the way, so that
 * the API server has one watch less to serve.
 */
class ReportingGateway {
  ready = 0
  readonly #store: KubernetesStore
  #awaited: string | undefined
  #services!: Watched<'IprefService'>
  #gateways!: Watched<'IprefGateway'>
  #timers: NodeJS.Timeout[] = []

  constructor(store: KubernetesStore) {
    this.#store = store
  }

  async start(): Promise<void> {
    const store = this.#store
    const isReady = (object: IprefService | undefined) =>
      object?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true
    this.#services = await store.watch(
      'IprefService',
      {},
      {
        onChange: ({ now, before }) => {
          this.ready += Number(isReady(now)) - Number(isReady(before))
          const version = now && versionOfMappings(now)
          if (version !== undefined && (!this.#awaited || compareVersions(version, this.#awaited) > 0))
            this.#awaited = version
        },
      },
    )
    const metadata = { name: GATEWAY }
    const spec = { publicAddresses: ['198.51.100.1'] }
    await store.create('IprefGateway', { apiVersion: 'ipref.io/v1alpha1', kind: 'IprefGateway', metadata, spec })
    const lease = { name: `ipref-gateway-${GATEWAY}`, namespace: NAMESPACE }
    await store.create('Lease', { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: lease })
    this.#gateways = await store.watch('IprefGateway', {}, { onChange: () => {} })
    await this.#renew()
    this.#timers = [
      setInterval(() => void this.#renew().catch(() => {}), 10_000),
      setInterval(() => void this.#report().catch(() => {}), 1000),
    ]
  }

  async #renew(): Promise<void> {
    const known = (await this.#store.get('Lease', { name: `ipref-gateway-${GATEWAY}`, namespace: NAMESPACE }))!
    const renewTime = new Date().toISOString().replace('Z', '000Z')
    await this.#store.update('Lease', {
      ...known,
      spec: { holderIdentity: GATEWAY, leaseDurationSeconds: 40, renewTime },
    })
  }

  // as gateway/kube/report.ts: when somebody waits for it
  async #report(): Promise<void> {
    const object = this.#gateways.get({ name: GATEWAY })
    const reported = object?.status?.observedResourceVersion
    const version = this.#services.resourceVersion
    const isAwaited = this.#awaited !== undefined && (!reported || compareVersions(reported, this.#awaited) < 0)
    if (!object || !isAwaited || version === undefined) return
    const status = { observedGeneration: object.metadata.generation ?? 0, observedResourceVersion: version }
    await this.#store.updateStatus('IprefGateway', { ...object, status })
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer)
    this.#services?.stop()
    this.#gateways?.stop()
  }
}

/** The gateway's side of the cluster, without packets: what is in force is in `mappings`. */
function startGateway(store: KubernetesStore): { mappings: Map<string, string> } {
  const gateway = { mappings: new Map<string, string>() }
  const source = new KubeSource(
    {
      name: GATEWAY,
      namespace: NAMESPACE,
      stateFile: join(folder, 'cluster.json'),
      tunnelFamilies: [4],
      own: { publicAddresses: ['198.51.100.1'] },
    },
    quietSourcePorts(store, {
      async setAssertions(assertions) {
        gateway.mappings = new Map(
          assertions.flatMap(one =>
            one.kind === 'ours' ? [[one.where ?? '', formatAddress(one.address)] as const] : [],
          ),
        )
        return []
      },
    }),
  )
  source.start()
  ends.push(() => source.stop())
  return gateway
}

// ---- the operator

class OperatorProcess {
  readonly #child: ChildProcess
  readonly #metrics: string

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.#metrics = `http://127.0.0.1:${port}/metrics`
  }

  static async start(kubeconfig: string): Promise<OperatorProcess> {
    const port = await freePort()
    const child = spawn(
      IPREF,
      [
        ...['operator', '-kubeconfig', kubeconfig, '-namespace', NAMESPACE, '-log-level', 'error'],
        ...(WORKERS === undefined ? [] : ['-workers', WORKERS]),
        ...['-metrics-address', `127.0.0.1:${port}`, '-health-address', 'off'],
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
    const operator = new OperatorProcess(child, port)
    ends.push(() => operator.stop())
    return operator
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  async metrics(): Promise<string> {
    return (await fetch(this.#metrics)).text()
  }

  async sum(name: string, isCounted: (labels: string) => boolean = () => true): Promise<number> {
    const lines = (await this.metrics()).split('\n').filter(line => line.startsWith(`${name}{`))
    return lines.filter(isCounted).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  /** But for Leases and Events. */
  writes(): Promise<number> {
    return this.sum('ipref_operator_api_requests_total', line => {
      const isWrite = /verb="(create|update|update-status|apply|delete|patch)"/.test(line)
      return isWrite && !/kind="(Lease|Event)"/.test(line)
    })
  }

  reconciles(): Promise<number> {
    return this.sum('ipref_operator_reconciles_total', line => line.includes('controller="services"'))
  }

  queued(): Promise<number> {
    return this.sum('ipref_operator_queue_length')
  }

  /** MB, from /proc/PID/status. */
  memory(field: 'VmRSS' | 'VmHWM'): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8')
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024
  }

  forgetPeak(): void {
    writeFileSync(`/proc/${this.#child.pid}/clear_refs`, '5')
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = new Promise(resolve => this.#child.on('exit', resolve))
    this.#child.kill('SIGTERM')
    await ended
  }

  /** Until nothing waits, twice in a row. */
  async idle(): Promise<void> {
    let calm = 0
    await until(
      'the operator is idle',
      async () => {
        const isCalm = (await this.queued().catch(() => 1)) === 0
        calm = isCalm ? calm + 1 : 0
        return calm >= 10 ? true : undefined
      },
      200,
    )
  }
}

// ---- what is measured

/** Processor seconds of a process so far; `undefined`: not ours to see. */
function processorSeconds(pid: number | undefined): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS
  } catch {
    return undefined
  }
}

/** Of the server that the bench started. */
function pidOf(kubeconfig: string, program: string): number | undefined {
  try {
    return Number(readFileSync(join(dirname(kubeconfig), `${program}.pid`), 'utf8').split(/\s/)[0])
  } catch {
    return undefined
  }
}

async function measureSync(kubeconfig: string, reporter: ReportingGateway): Promise<OperatorProcess> {
  const servers = { 'kube-apiserver': pidOf(kubeconfig, 'kube-apiserver'), etcd: pidOf(kubeconfig, 'etcd') }
  const spent = () => Object.entries(servers).map(([name, pid]) => [name, processorSeconds(pid) ?? 0] as const)
  const before = new Map(spent())
  const begun = performance.now()
  const operator = await OperatorProcess.start(kubeconfig)
  let shown = begun
  await until('all objects are ready', () => {
    if (performance.now() - shown > 10_000) {
      shown = performance.now()
      console.error(`  ${reporter.ready} of ${OBJECTS} ready after ${Math.round((shown - begun) / 1000)} s`)
    }
    return reporter.ready >= OBJECTS ? true : undefined
  })
  const seconds = (performance.now() - begun) / 1000
  note('K1 sync, s', seconds, `${round(seconds, 1)} s until ${OBJECTS} objects are Ready`)
  // where others work on the same processors, these say more than the time
  const used = [['operator', processorSeconds(operator.pid) ?? 0] as const, ...spent()]
  for (const [name, total] of used) {
    const seconds = total - (before.get(name) ?? 0)
    note(`K1 CPU ${name}, s`, seconds, `${round(seconds, 1)} processor seconds`)
  }
  await operator.idle()
  const writes = await operator.writes()
  note('K1 writes per object', writes / OBJECTS, `${round(writes / OBJECTS)} API writes for each`)
  return operator
}

async function measureChanges(store: KubernetesStore, gateway: { mappings: Map<string, string> }, port: number) {
  const dns: number[] = []
  const mapped: number[] = []
  for (let turn = 0; turn < CHANGES; turn++) {
    const i = (turn * 7919) % OBJECTS
    const key = { namespace: TEAM, name: `s-${i}` }
    const address = addressOf(i, 1 + (turn % 15))
    const object = (await store.get('IprefService', key))!
    await store.update('IprefService', { ...object, spec: { target: { address } } })
    const begun = performance.now()
    const where = `IprefService ${TEAM}/s-${i}`
    const name = parseName(`s-${i}.${TEAM}.in.bench.example`)!
    const [one, other] = await Promise.all([
      until('the DNS answer', () => answers(port, name, address, begun), 5),
      until('the mapping', () => (gateway.mappings.get(where) === address ? performance.now() - begun : undefined), 5),
    ])
    dns.push(one)
    mapped.push(other)
  }
  const both = dns.map((ms, i) => Math.max(ms, mapped[i]!))
  for (const [what, times] of Object.entries({ DNS: dns, gateway: mapped, both })) {
    const [p50, p99] = [percentile(times, 50), percentile(times, 99)]
    results[`K2 ${what} p50, ms`] = round(p50)
    note(`K2 ${what} p99, ms`, p99, `p50 ${Math.round(p50)} ms, p99 ${Math.round(p99)} ms, of ${times.length} changes`)
  }
}

async function answers(port: number, name: string, address: string, begun: number): Promise<number | undefined> {
  const answer = await queryServer({ host: '127.0.0.1', port }, { name: name as never, type: Type.A })
  const isThere = answer?.answers.some(({ type, data }) => type === Type.A && formatAddress(data) === address)
  return isThere ? performance.now() - begun : undefined
}

/** An operator that finds everything done: starts, goes through all of it, loses all watches, and writes nothing. */
async function measureRest(kubeconfig: string, store: KubernetesStore, port: number): Promise<void> {
  const proxy = await startFaultyProxy(kubeconfig)
  ends.push(() => proxy.close())
  const operator = await OperatorProcess.start(proxy.kubeconfig('first'))
  await until(
    'the operator has looked at all',
    async () => {
      const count = await operator.reconciles().catch(() => 0)
      return count >= OBJECTS ? true : undefined
    },
    200,
  )
  await operator.idle()
  const started = await operator.writes()
  note('K1 writes at a start', started, `${started} API writes by an operator that finds all done`)
  const seen = await operator.reconciles()
  await writeSettings(store, port, 'written again, to the same effect')
  await until('a full pass', async () => ((await operator.reconciles()) >= seen + OBJECTS ? true : undefined), 200)
  await operator.idle()
  const writes = (await operator.writes()) - started
  note('K1 writes on a resync', writes, `${writes} API writes on a full pass in which nothing changed`)
  await new Promise(resolve => setTimeout(resolve, 10_000))
  const steady = operator.memory('VmRSS')
  note('K3 steady, MB', steady, `${Math.round(steady)} MB`)
  operator.forgetPeak()
  await relist(proxy)
  await operator.idle()
  const peak = operator.memory('VmHWM')
  note('K3 peak, MB', peak, `${Math.round(peak)} MB while all is listed again`)
  note('K3 peak / steady', peak / steady, `${round(peak / steady)}`)
  const after = (await operator.writes()) - started - writes
  note('K1 writes on a re-list', after, `${after} API writes when all was listed again`)
}

async function relist(proxy: Awaited<ReturnType<typeof startFaultyProxy>>): Promise<void> {
  const gone = JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'Expired', code: 410 })
  const from = proxy.seen.length
  // a watch that goes on from a version that was handed out before is told that it is too old
  const listed = new Set<string>()
  proxy.fault = ({ path, isWatch }) => {
    const kind = path.split('/').at(-1)!
    if (!isWatch) listed.add(kind)
    return isWatch && !listed.has(kind)
      ? { status: 410, headers: { 'content-type': 'application/json' }, body: gone }
      : undefined
  }
  proxy.cutAll()
  await until('all is listed again', () => (RELISTED.every(kind => listed.has(kind)) ? true : undefined))
  const pages = () => proxy.seen.slice(from).filter(one => !one.isWatch && one.path.endsWith('/iprefservices')).length
  await until('all pages are read', () => (pages() >= Math.ceil(OBJECTS / 500) ? true : undefined))
  proxy.fault = undefined
}

// ---- run

const floors: Record<string, string> = {
  'K1 sync, s': '<= 120 (10,000 objects)',
  'K1 writes on a resync': '0',
  'K2 both p99, ms': '<= 3000',
  'K3 steady, MB': '<= 250',
  'K3 peak / steady': '<= 1.6',
}

let ending: Promise<void> | undefined
function end(): Promise<void> {
  ending ??= (async () => {
    for (const one of ends.reverse()) await one()
  })()
  return ending
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void end().then(() => process.exit(130)))

try {
  const server = await startOwnApiServer('bench')
  ends.push(() => server.stop())
  const store = await KubernetesStore.open({ kubeconfig: server.kubeconfig, fieldManager: 'ipref-bench' })
  ends.push(() => store.close())
  const port = await freePort()
  await makeObjects(store, port)
  const ofGateway = await KubernetesStore.open({ kubeconfig: server.kubeconfig, fieldManager: 'ipref-gateway' })
  ends.push(() => ofGateway.close())
  const reporter = new ReportingGateway(ofGateway)
  await reporter.start()
  ends.push(() => reporter.stop())
  const operator = await measureSync(server.kubeconfig, reporter)
  reporter.stop()
  const gateway = startGateway(ofGateway)
  await until('the gateway has all', () => (gateway.mappings.size >= OBJECTS ? true : undefined))
  await operator.idle()
  await measureChanges(store, gateway, port)
  await operator.idle()
  await operator.stop()
  await measureRest(server.kubeconfig, store, port)
  console.log('\ngoal                    measured   floor')
  for (const [name, floor] of Object.entries(floors))
    console.log(`${name.padEnd(26)}${String(results[name]).padEnd(11)}${floor}`)
  const out = argumentOf('--json')
  const about = { node: process.version, cpus: cpus().length, objects: OBJECTS }
  if (out) writeFileSync(out, `${JSON.stringify({ ...about, results }, null, 2)}\n`)
} catch (error) {
  console.error(`bench operator: ${(error as Error).message}`)
  process.exitCode = 1
} finally {
  await end()
}
process.exit()
