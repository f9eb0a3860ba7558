/**
 * The operator: puts the parts together, starts them in order, and ends them in reverse.
 *
 *   settings ─ views ─ claims, Leases ─ publisher ─ Lease of the leader ──► workers: gateways, services, peers
 *
 * All of several operators watch, one acts: workers run between winning and losing the Lease. Knows every concrete class, and decides nothing about objects.
 */
import type { Config } from '../resources/config.ts'
import type { IprefGateway, IprefPeer, IprefService } from '../resources/kinds.ts'
import { Leader } from '../resources/leader.ts'
import { NETWORK_NAME } from '../resources/network.ts'
import type { ResourceStore } from '../resources/store.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import { keyOf } from './byKey.ts'
import { Cluster } from './cluster.ts'
import { Events } from './events.ts'
import { Liveness } from './gateway/liveness.ts'
import { publicAddressesOf } from './gateway/plan.ts'
import { GatewayController } from './gateway/reconcile.ts'
import { OperatorMetrics } from './metrics.ts'
import type { OperatorConfig } from './operatorOptions.ts'
import { PeerController } from './peer/reconcile.ts'
import { type Answer, ResolvedNames } from './peer/resolved.ts'
import { systemResolve } from './peer/systemResolve.ts'
import { listenForPeers } from './peer/triggers.ts'
import { Publisher, type PublishingReport } from './publish/publisher.ts'
import { Rights } from './rights.ts'
import { ServiceController } from './service/reconcile.ts'
import { ReferenceBook } from './service/references.ts'
import { listenForServices } from './service/triggers.ts'
import { type SettingsEvents, type SettingsSource, settingsOfConfigMap, settingsOfFolder } from './settingsSource.ts'
import { type Reconcile, Worker } from './worker.ts'

const LEASE = 'ipref-operator'
const LEASE_MS = 15_000
const RENEW_MS = 2_000
/** Everything is looked at again so often, for what no event told. */
const RESYNC_MS = 600_000
const ALL_GATEWAYS = 'all'

export interface OperatorPorts {
  store: ResourceStore
  clock: Clock
  log: Logger
  /** 0 to 1 */
  random(): number
  /** addresses of gateways that are given by name; absent: as this host resolves */
  resolve?(name: string): Promise<Answer>
}

export type OperatorSettings = Pick<
  OperatorConfig,
  'manifests' | 'namespace' | 'settings' | 'leaderElect' | 'identity' | 'workers' | 'zoneAddresses' | 'tunnelFamilies'
>

export class Operator {
  readonly #settings: OperatorSettings
  readonly #ports: OperatorPorts
  readonly #rights: Rights
  readonly #events: Events
  readonly #source: SettingsSource
  readonly metrics: OperatorMetrics
  readonly #workers = new Map<string, Worker>()
  #cluster!: Cluster
  #book!: ReferenceBook
  #liveness!: Liveness
  #publisher!: Publisher
  #gateways!: GatewayController
  #names!: ResolvedNames
  #leader: Leader | undefined
  readonly #watches: { stop(): void }[] = []
  #settingsProblems: readonly string[] = []
  #isActing = false
  #isStarted = false
  #changing: Promise<void> = Promise.resolve()
  #cancelResync: (() => void) | undefined

  constructor(settings: OperatorSettings, ports: OperatorPorts) {
    this.#settings = settings
    this.#rights = new Rights({ store: ports.store, log: ports.log, onAllowed: () => this.#retryFailed() })
    this.#ports = { ...ports, store: this.#rights }
    const { store, clock, log } = this.#ports
    this.#events = new Events({ store, clock, log, namespace: settings.namespace })
    const events: SettingsEvents = {
      onChange: config => this.#settingsChanged(config),
      onProblems: problems => this.#settingsWrong(problems),
    }
    const { manifests, namespace } = settings
    this.#source =
      manifests === undefined
        ? settingsOfConfigMap(store, { namespace, name: settings.settings }, events)
        : settingsOfFolder(manifests, events)
    this.metrics = this.#makeMetrics()
  }

  /** Rejects with what is wrong with the settings, or with the rights. */
  async start(): Promise<void> {
    const { store, clock, log, random } = this.#ports
    const config = await this.#source.start()
    const cluster = new Cluster(store, config, log)
    this.#cluster = cluster
    this.#book = new ReferenceBook(store, () => cluster.config.referenceLength)
    this.#liveness = new Liveness(
      clock,
      () => cluster.config.gatewayStaleTimeMs,
      () => this.#livenessChanged(),
    )
    this.#publisher = new Publisher({
      store,
      cluster,
      events: this.#events,
      clock,
      log,
      random,
      namespace: this.#settings.namespace,
      publicAddresses: gateway => this.#publicAddresses(gateway),
      onChange: keys => this.#add('services', keys),
    })
    this.#makeControllers()
    this.#listen()
    const { namespace } = this.#settings
    this.#watches.push(
      await store.watch('Lease', { namespace }, { onChange: change => this.#liveness.change(change) }),
      await store.watch(
        'ConfigMap',
        { namespace, fieldSelector: `metadata.name=${NETWORK_NAME}` },
        { onChange: ({ now }) => this.#gateways.seen(now) && this.#add('gateways', [ALL_GATEWAYS]) },
      ),
    )
    await cluster.start()
    this.#publisher.start()
    this.#isStarted = true
    if (this.#settings.leaderElect) this.#runForLeader()
    else this.#act()
    log.info({ services: cluster.services.size, gateways: cluster.gateways().length }, 'operator started')
  }

  #publicAddresses(gateway: IprefGateway): string[] {
    const { nodeName } = gateway.spec
    const node = nodeName === undefined ? undefined : this.#cluster.view('Node').get({ name: nodeName })
    const { tunnelFamilies } = this.#settings
    return publicAddressesOf(gateway, node, { config: this.#cluster.config, tunnelFamilies })
  }

  // ---- controllers

  #makeControllers(): void {
    const { store, clock, log, random } = this.#ports
    const [cluster, events] = [this.#cluster, this.#events]
    this.#gateways = new GatewayController({
      store,
      cluster,
      namespace: this.#settings.namespace,
      zoneServers: () => this.#zoneServers(),
      tunnelFamilies: this.#settings.tunnelFamilies,
      isAlive: name => this.#liveness.isAlive(name),
      events,
      clock,
      log,
    })
    const alive = () => this.#liveness.alive(cluster.gateways())
    const services = new ServiceController({
      store,
      cluster,
      book: this.#book,
      publication: this.#publisher,
      gateways: alive,
      events,
      clock,
    })
    this.#names = new ResolvedNames({
      resolve: this.#ports.resolve ?? systemResolve(),
      clock,
      random,
      onChange: name => this.#addPeers(peer => peer.spec.gateway.name === name),
    })
    const peers = new PeerController({
      store,
      cluster,
      names: this.#names,
      gateways: alive,
      publicAddresses: gateway => this.#publicAddresses(gateway),
      events,
      clock,
    })
    this.#worker('peers', peers.reconcile, 1)
    this.#worker('gateways', this.#gateways.reconcile, 1)
    this.#worker('services', services.reconcile, this.#settings.workers)
  }

  #zoneServers(): readonly string[] {
    if (this.#settings.zoneAddresses.length > 0) return this.#settings.zoneAddresses
    const listen = this.#cluster.config.publishers.zoneServer?.listen ?? []
    return listen.filter(text => !/^(0\.0\.0\.0|\[::\]):/.test(text))
  }

  #worker(name: string, reconcile: Reconcile, concurrency: number): void {
    const { clock, log, random } = this.#ports
    const onDone = ({ result, ms }: { result: 'done' | 'conflict' | 'failed'; ms: number }) =>
      this.metrics.reconciled(name, result, ms, clock.now())
    this.#workers.set(name, new Worker({ name, reconcile, clock, log, random, onDone, concurrency }))
  }

  #add(worker: string, keys: Iterable<string>): void {
    for (const key of keys) this.#workers.get(worker)!.add(key)
  }

  #listen(): void {
    const cluster = this.#cluster
    cluster.whenFollowing(() => this.#retryFailed())
    // the book has a claim before whoever decides by it is told
    cluster.listen('IprefReference', change => this.#add('services', this.#book.change(change)))
    listenForServices(
      cluster,
      () => this.#liveness.alive(cluster.gateways()),
      key => this.#add('services', [key]),
    )
    listenForPeers(cluster, name => this.#add('peers', [name]))
    for (const kind of ['IprefGateway', 'Node'] as const)
      cluster.listen(kind, () => this.#add('gateways', [ALL_GATEWAYS]))
  }

  #livenessChanged(): void {
    this.#addAll()
  }

  /** Everything is looked at, whatever has changed. */
  #addAll(): void {
    if (!this.#isStarted) return
    this.#add('gateways', [ALL_GATEWAYS])
    this.#add('services', this.#allServices())
    this.#addPeers()
  }

  /** The API server, or a right, is there again: nobody waits for a back-off of minutes. */
  #retryFailed(): void {
    if (!this.#isStarted) return
    for (const worker of this.#workers.values()) worker.retryFailed()
    this.#publisher.retryFailed()
  }

  #addPeers(isMeant: (peer: IprefPeer) => boolean = () => true): void {
    for (const peer of this.#cluster.peers()) if (isMeant(peer)) this.#add('peers', [peer.metadata.name])
  }

  // claims whose object is gone are found by its name
  #allServices(): Set<string> {
    const keys = new Set([...this.#cluster.services.all()].map(keyOf))
    for (const { spec } of this.#book.all()) keys.add(`${spec.namespace}/${spec.name}`)
    return keys
  }

  // ---- acting

  #runForLeader(): void {
    const { store, clock, log } = this.#ports
    const { namespace, identity } = this.#settings
    this.#leader = new Leader(
      { lease: { namespace, name: LEASE }, identity, durationMs: LEASE_MS, renewMs: RENEW_MS },
      { store, clock, log, onStart: () => this.#act(), onLost: () => this.#rest() },
    )
    this.#leader.start()
  }

  #act(): void {
    this.#changing = this.#changing.then(() => {
      this.#isActing = true
      this.#publisher.lead()
      this.#addAll()
      for (const worker of this.#workers.values()) worker.start()
      this.#resyncLater()
    })
  }

  #rest(): void {
    this.#isActing = false
    this.#cancelResync?.()
    this.#changing = this.#changing.then(async () => {
      await Promise.all([...this.#workers.values()].map(worker => worker.stop()))
      await this.#publisher.follow()
    })
  }

  #resyncLater(): void {
    const { clock, random } = this.#ports
    this.#cancelResync = clock.after(RESYNC_MS * (0.9 + random() / 5), () => {
      this.#addAll()
      this.#resyncLater()
    })
  }

  // ---- settings

  #settingsChanged(config: Config): void {
    this.#ports.log.info('the settings were read again')
    this.#cluster.config = config
    void this.#publisher.configChanged().then(() => this.#addAll())
  }

  #settingsWrong(problems: readonly string[]): void {
    const { log } = this.#ports
    this.#settingsProblems = problems
    for (const problem of problems) log.error({ component: 'settings' }, `${problem}; the settings in force stay`)
    if (problems.length === 0) log.info({ component: 'settings' }, 'the settings have no mistakes any more')
  }

  // ---- what people and machines ask

  get isActing(): boolean {
    return this.#isActing
  }

  get publishing(): PublishingReport {
    return this.#publisher.report
  }

  /** Why the operator does not do its whole work; empty: it does, or another does. */
  unready(): string[] {
    if (!this.#isStarted) return ['starting']
    const overlap = this.#gateways.problem
    return [...this.#cluster.troubles, ...this.#rights.missing, ...(overlap === undefined ? [] : [overlap])]
  }

  /** Nothing waits to be done, but for what has a time of its own. */
  get isIdle(): boolean {
    return [...this.#workers.values()].every(worker => worker.isIdle)
  }

  #makeMetrics(): OperatorMetrics {
    const report = () => (this.#isStarted ? this.#publisher.report : undefined)
    return new OperatorMetrics({
      queues: () => Object.fromEntries([...this.#workers].map(([name, worker]) => [name, worker.depth])),
      requests: () => this.#ports.store.requests,
      services: () => countStates(this.#isStarted ? this.#cluster.services.all() : []),
      gateways: () => {
        const all = this.#isStarted ? this.#cluster.gateways() : []
        return { alive: this.#isStarted ? this.#liveness.alive(all).length : 0, all: all.length }
      },
      references: () => (this.#isStarted ? this.#book.size : 0),
      outputs: () => report()?.outputs ?? [],
      records: () => report()?.records ?? {},
      pendingRecords: () => report()?.pending ?? 0,
      isLeader: () => this.#isActing,
      troubles: () => (this.#isStarted ? this.#cluster.troubles.length : 0),
      settingsProblems: () => this.#settingsProblems.length,
    })
  }

  async stop(): Promise<void> {
    this.#source.stop()
    this.#cancelResync?.()
    if (!this.#isStarted) return
    this.#isStarted = false
    if (this.#leader) await this.#leader.stop()
    else this.#rest()
    await this.#changing
    await this.#publisher.stop()
    this.#liveness.stop()
    this.#names.stop()
    for (const watch of this.#watches.splice(0)) watch.stop()
    this.#cluster.stop()
  }
}

function countStates(services: Iterable<IprefService>): Record<'ready' | 'waiting' | 'failed', number> {
  const counts = { ready: 0, waiting: 0, failed: 0 }
  for (const { status } of services) {
    const ready = status?.conditions?.find(condition => condition.type === 'Ready')?.status
    counts[ready === 'True' ? 'ready' : ready === 'False' ? 'failed' : 'waiting']++
  }
  return counts
}
