/**
 * A real API server with everything around an operator: settings, users who change objects, a gateway's side that reports, somebody else's objects, and a
 * ledger of all references. Operators run in this process, through whatever store the test puts before the server.
 *
 *   users ── publish, move, remove ──► API server ◄── operators (as many as the test starts)
 *                                          ▲ ◄────── gateway: watches, reports, renews its Lease (gateway/kube, without packets)
 *                                          └───────► ledger
 *
 * The operator acts on the whole of a cluster, so such a server is the test file's own. `settled` is the truth in the end: every object is what its spec
 * says, in its status, in its claims, in the DNS and in the ConfigMap of the zones; and nobody else's object was touched.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { Flag, Type } from '../../dns/constants.ts'
import { stringsOf } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { KubeSource } from '../../gateway/kube/source.ts'
import { formatAddress } from '../../ipref/address.ts'
import { keyOf } from '../../operator/byKey.ts'
import { Operator } from '../../operator/operator.ts'
import { API_VERSION, type Condition, type ConfigMap, type IprefService, type KindName } from '../../resources/kinds.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { type ResourceStore, StoreError, type Watched } from '../../resources/store.ts'
import { compareVersions } from '../../resources/view.ts'
import { type Clock, systemClock } from '../../runtime/clock.ts'
import { HOST } from '../dns/programs.ts'
import { eventually } from './netns.ts'
import { freePorts } from './ports.ts'
import { quietSourcePorts } from './quietSource.ts'
import { openAccounts, ReferenceLedger } from './referenceLedger.ts'
import { PassingStore, type Verb } from './storeWrappers.ts'
import { UpdateZones } from './updateZones.ts'

export const NAMESPACE = 'ipref'
export const SHOP = 'shop'
const GATEWAY = 'edge'
const CONTEXT = '198.51.100.1'
const ZONES = { internal: 'in.example.com', public: 'example.com' } as const
const OWN = `${SHOP}.${ZONES.public}`
const GRANTED = `stage.${ZONES.public}`
const PATIENCE_MS = 90_000
const BEGUN = Date.now()
/** Requests of operators under test are tried again sooner than those of others. */
const HASTE = { firstBackoffMs: 50, lastBackoffMs: 500 }

/** A gateway reports once a second, which much here would wait for. */
const HASTE_OF_GATEWAY = 10
const hastyClock: Clock = {
  now: () => BEGUN + (Date.now() - BEGUN) * HASTE_OF_GATEWAY,
  after: (ms, run) => systemClock.after(ms / HASTE_OF_GATEWAY, run),
}

export interface OperatorOptions {
  /** through another door, as a proxy or another user has it */
  kubeconfig?: string
  /** stands between the operator and the server */
  through?(store: ResourceStore): ResourceStore
  leaderElect?: boolean
  identity?: string
  workers?: number
}

export interface RunningOperator {
  readonly operator: Operator
  /** `requests`: its writes alone */
  readonly store: ResourceStore
  /** lines of its log, as JSON */
  readonly log: string[]
  stop(): Promise<void>
}

export interface Wanted {
  address: string
  ttlSeconds?: number
  /** below names that are the namespace's by a grant, and the hostname of the internal one; absent: that of the object */
  alias?: string
}

export class OperatorCluster {
  readonly kubeconfig: string
  readonly users: KubernetesStore
  readonly zoneServer: { host: string; port: number }
  ledger!: ReferenceLedger
  /** by kubeconfig; operators that follow each other share one */
  readonly #stores = new Map<string, Promise<KubernetesStore>>()
  readonly #running = new Set<RunningOperator>()
  readonly #folder = mkdtempSync(join(tmpdir(), 'ipref-operator-'))
  #isServing = false
  #updates: UpdateZones | undefined
  #gateway: { source: KubeSource; store: KubernetesStore } | undefined
  /** somebody else's, by `kind namespace/name`: the resourceVersion */
  readonly #foreign = new Map<string, string>()

  static async open(kubeconfig: string): Promise<OperatorCluster> {
    const [port] = await freePorts(1)
    const users = await KubernetesStore.open({ kubeconfig, fieldManager: 'users', times: { attempts: 30 } })
    const cluster = new OperatorCluster(kubeconfig, users, port!)
    for (const name of [NAMESPACE, SHOP])
      await users.create('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }).catch(unlessThere)
    await cluster.settings()
    await cluster.#makeForeign()
    cluster.ledger = await ReferenceLedger.begin(users)
    return cluster
  }

  private constructor(kubeconfig: string, users: KubernetesStore, port: number) {
    this.kubeconfig = kubeconfig
    this.users = users
    this.zoneServer = { host: HOST, port }
  }

  async close(): Promise<void> {
    for (const running of [...this.#running]) await running.stop()
    await this.stopGateway()
    await this.#updates?.close()
    this.ledger?.stop()
    await this.users.close()
    for (const store of this.#stores.values()) await (await store).close()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  // ---- the platform team

  /** `inOneProcess`: several operators, which cannot have the zone server's port twice. */
  async settings({ inOneProcess = false, comment = '' } = {}): Promise<void> {
    const server = `${HOST}:${this.zoneServer.port}`
    const zoneServer = `zoneServer: {listen: ["${server}"], nameServers: [ns1.example.com]}`
    this.#isServing = !inOneProcess
    await this.#set(`publishers:
  ${inOneProcess ? '' : zoneServer}
  configMap: {name: ipref-zones}
readBack: ${inOneProcess ? '{mode: Off}' : `{servers: ["${server}"]}`}
# ${comment}`)
  }

  /** Published by dynamic update to a server of others (needs knotd), and nowhere else. */
  async publishByUpdates({ transfer }: { transfer: boolean }): Promise<UpdateZones> {
    this.#updates ??= await UpdateZones.open(this.#folder, ZONES)
    await this.#set(this.#updates.settings({ transfer }))
    return this.#updates
  }

  async #set(outputs: string): Promise<void> {
    const text = `encodingNetworks: [10.176.0.0/12]
internalZone: ${ZONES.internal}
publicZone: ${ZONES.public}
grants: [{namespace: ${SHOP}, names: ["*.${GRANTED}"]}]
targets: {allowedRanges: [{cidr: 172.20.0.0/16}]}
${outputs}
`
    await this.users.apply('ConfigMap', configMap(NAMESPACE, 'ipref-config', { 'config.yaml': text }))
  }

  /** What looks like the operator's affair, and is not. */
  async #makeForeign(): Promise<void> {
    const objects = [
      configMap(NAMESPACE, 'ipref-zones-2', { 'example.com.zone': 'not of the operator\n' }),
      configMap(NAMESPACE, 'somebody', { 'example.com.zone': 'mail 60 IN A 192.0.2.25\n' }),
      configMap('kube-system', 'coredns', { Corefile: '.:53 {\n    forward . /etc/resolv.conf\n}\n' }),
    ]
    for (const object of objects) {
      const { metadata } = await this.users.create('ConfigMap', object)
      this.#foreign.set(keyOf({ metadata }), metadata.resourceVersion!)
    }
  }

  // ---- users

  async publish(name: string, { address, ttlSeconds = 1, alias }: Wanted): Promise<void> {
    const metadata = { namespace: SHOP, name }
    const spec = { target: { address }, ttlSeconds, ...(alias === undefined ? {} : aliased(alias)) }
    await this.users.create('IprefService', { apiVersion: API_VERSION, kind: 'IprefService', metadata, spec })
  }

  /** Until it is in: others write the same object. */
  async edit(name: string, change: (object: IprefService) => void): Promise<void> {
    const edit = async () => {
      const object = await this.users.get('IprefService', { namespace: SHOP, name })
      if (!object) throw new Error(`there is no ${name}`)
      change(object)
      return this.users.update('IprefService', object)
    }
    await eventually(`${name} is edited`, edit, { withinMs: PATIENCE_MS })
  }

  move(name: string, address: string): Promise<void> {
    return this.edit(name, object => {
      object.spec.target = { address }
    })
  }

  rename(name: string, alias: string): Promise<void> {
    return this.edit(name, object => {
      Object.assign(object.spec, aliased(alias))
    })
  }

  remove(name: string): Promise<void> {
    return this.users.delete('IprefService', { namespace: SHOP, name })
  }

  object(name: string): Promise<IprefService | undefined> {
    return this.users.get('IprefService', { namespace: SHOP, name })
  }

  // ---- a gateway

  /** Its side of the cluster; mappings end here. */
  async startGateway(name = GATEWAY): Promise<void> {
    const store = await KubernetesStore.open({ kubeconfig: this.kubeconfig, fieldManager: 'ipref-gateway' })
    const source = new KubeSource(
      {
        name,
        namespace: NAMESPACE,
        stateFile: join(this.#folder, `${name}.json`),
        tunnelFamilies: [4],
        own: { publicAddresses: [CONTEXT] },
      },
      quietSourcePorts(store, { clock: hastyClock }),
    )
    source.start()
    this.#gateway = { source, store }
  }

  async stopGateway(): Promise<void> {
    await this.#gateway?.source.stop()
    await this.#gateway?.store.close()
    this.#gateway = undefined
  }

  // ---- operators

  /** Credentials are read by a program of their own, which takes longer than an operator to start. */
  #storeOf(kubeconfig: string): Promise<KubernetesStore> {
    const store = this.#stores.get(kubeconfig) ?? KubernetesStore.open({ kubeconfig, times: HASTE })
    this.#stores.set(kubeconfig, store)
    return store
  }

  /** Rejects as it does, and leaves nothing running then. */
  async startOperator(options: OperatorOptions = {}): Promise<RunningOperator> {
    const { kubeconfig = this.kubeconfig, leaderElect = false, identity = 'operator', workers = 8 } = options
    const door = new Door(await this.#storeOf(kubeconfig))
    const store = options.through?.(door) ?? door
    const log: string[] = []
    const operator = new Operator(
      {
        manifests: undefined,
        namespace: NAMESPACE,
        settings: 'ipref-config',
        leaderElect,
        identity,
        workers,
        zoneAddresses: [],
        tunnelFamilies: [4, 6],
      },
      {
        store,
        clock: systemClock,
        log: pino({ level: 'debug' }, { write: line => void log.push(line.trimEnd()) }),
        random: Math.random,
      },
    )
    const running: RunningOperator = {
      ...{ operator, store, log },
      stop: async () => {
        this.#running.delete(running)
        await operator.stop()
        await store.close()
      },
    }
    this.#running.add(running)
    try {
      await operator.start()
    } catch (error) {
      await running.stop()
      throw error
    }
    return running
  }

  // ---- the truth in the end

  /** Waits until everything is as these objects ask for, and nothing else is there; or until `until`. */
  async settled(wanted: Readonly<Record<string, Wanted>>, until: () => boolean = () => false): Promise<void> {
    let last: string[] = ['nothing was looked at']
    const end = Date.now() + PATIENCE_MS
    while (last.length > 0) {
      if (Date.now() > end) throw new Error(`not settled:\n${last.join('\n')}`)
      await new Promise(resolve => setTimeout(resolve, 50))
      if (until()) return
      last = await this.#unsettled(wanted)
    }
    const touched = await this.#touched()
    const faults = [...this.ledger.faults, ...touched]
    if (faults.length > 0) throw new Error(faults.join('\n'))
  }

  async #unsettled(wanted: Readonly<Record<string, Wanted>>): Promise<string[]> {
    const objects = await this.users.list('IprefService')
    const faults: string[] = []
    const names = new Set([...Object.keys(wanted), ...objects.map(({ metadata }) => metadata.name)])
    const observed = (await this.users.get('IprefGateway', { name: GATEWAY }))?.status?.observedResourceVersion
    for (const name of names) {
      const object = objects.find(({ metadata }) => metadata.name === name)
      const problem = problemOf(wanted[name], object, observed)
      if (problem !== undefined) faults.push(`${name}: ${problem}`)
    }
    if (faults.length > 0) return faults
    faults.push(...openAccounts(objects, await this.users.list('IprefReference')))
    return faults.length > 0 ? faults : this.#unpublished(objects)
  }

  /** Claims of objects that are there, and that they have no use for: each was made twice. */
  async spareClaims(): Promise<string[]> {
    const objects = await this.users.list('IprefService')
    const claims = await this.users.list('IprefReference')
    return claims
      .filter(({ spec }) => spec.releasedAt !== undefined && objects.some(({ metadata }) => metadata.uid === spec.uid))
      .map(({ metadata, spec }) => `${metadata.name} of ${spec.name}`)
  }

  async #unpublished(objects: readonly IprefService[]): Promise<string[]> {
    if (this.#updates) return this.#updates.problems(objects, CONTEXT)
    const zones = await this.users.get('ConfigMap', { namespace: NAMESPACE, name: 'ipref-zones' })
    const text = zones?.data?.[`${ZONES.public}.zone`]
    if (text === undefined) return ['no zone text yet']
    const written = [...text.matchAll(/^(\S+)\s.*\sTXT\s+"(AA .*)"$/gm)]
    const found = written.map(([, name, text]) => `${name} ${text}`).sort()
    const right = objects.map(object => `${nameOf(object)}. AA ${CONTEXT} + ${referenceOf(object)}`).sort()
    if (found.join() !== right.join()) return [`zone text: ${found.join(', ')}; should be ${right.join(', ')}`]
    for (const object of this.#isServing ? objects.slice(0, 20) : []) {
      const texts = await this.ask(nameOf(object), Type.TXT)
      if (texts.join() !== `AA ${CONTEXT} + ${referenceOf(object)}`) return [`DNS: ${nameOf(object)}: ${texts.join()}`]
      const addresses = await this.ask(object.status!.internalName!, Type.A)
      if (addresses.join() !== object.status!.mappings![0]!.address) return [`DNS, inside: ${addresses.join()}`]
    }
    return []
  }

  /** What the operator's own zone server answers, as an authority. */
  async ask(name: string, type: number): Promise<string[]> {
    const answer = await queryServer(this.zoneServer, { name: parseName(name)!, type })
    if (!answer) return ['no answer']
    if ((answer.flags & Flag.AA) === 0) return ['no authority']
    return answer.answers.map(({ data }) => (type === Type.TXT ? stringsOf(data).join('') : formatAddress(data)))
  }

  async #touched(): Promise<string[]> {
    const touched: string[] = []
    for (const [key, version] of this.#foreign) {
      const [namespace, name] = key.split('/') as [string, string]
      const found = await this.users.get('ConfigMap', { namespace, name })
      if (found?.metadata.resourceVersion !== version) touched.push(`ConfigMap ${key} was touched`)
    }
    return touched
  }

  /** resourceVersion of every object of the kinds that the operator may write, but Leases and Events. */
  async versions(): Promise<string[]> {
    const all = await Promise.all(
      (['IprefService', 'IprefPeer', 'IprefGateway', 'IprefReference', 'ConfigMap'] as const).map(async kind =>
        (await this.users.list(kind)).map(one => `${kind} ${keyOf(one)} ${one.metadata.resourceVersion}`),
      ),
    )
    return all.flat().sort()
  }
}

/** One operator's part of a store that others use too: its watches, and what it wrote. */
class Door extends PassingStore {
  readonly #written = new Map<string, number>()
  readonly #watches: { stop(): void }[] = []

  /** writes alone: `verb kind code` → count */
  override get requests(): ReadonlyMap<string, number> {
    return this.#written
  }

  protected override async write<Result>(verb: Verb, kind: KindName, run: () => Promise<Result>): Promise<Result> {
    const count = (code: number) => {
      const what = `${verb} ${kind} ${code}`
      this.#written.set(what, (this.#written.get(what) ?? 0) + 1)
    }
    try {
      const result = await super.write(verb, kind, run)
      count(200)
      return result
    } catch (error) {
      count((error as StoreError).status ?? 0)
      throw error
    }
  }

  override async watch<Kind extends KindName>(...[kind, options, events]: Parameters<ResourceStore['watch']>) {
    const watched = await this.inner.watch(kind, options, events)
    this.#watches.push(watched)
    return watched as unknown as Watched<Kind>
  }

  override async close(): Promise<void> {
    for (const watch of this.#watches) watch.stop()
  }
}

function problemOf(wanted: Wanted | undefined, object: IprefService | undefined, observed: string | undefined) {
  if (!wanted) return object && `still there: ${shown(object)}`
  if (!object) return 'not there'
  const { metadata, status } = object
  if (metadata.deletionTimestamp !== undefined) return 'being deleted'
  if (conditionOf(object, 'Ready')?.status !== 'True') return `not ready: ${shown(object)}`
  if (status!.observedGeneration !== metadata.generation) return 'not up to date'
  const addresses = (status!.mappings ?? []).map(({ address }) => address)
  if (addresses.join() !== wanted.address) return `mapped at ${addresses.join()}`
  const { hostname, publicName } = aliased(wanted.alias ?? metadata.name, wanted.alias ? GRANTED : OWN)
  const names = [status!.internalName, status!.publicName]
  if (names.join() !== `${hostname}.${SHOP}.${ZONES.internal},${publicName}`) return `called ${names.join()}`
  const version = status!.mappingsVersion
  if (version === undefined || observed === undefined || compareVersions(version, observed) > 0)
    return `said to be mapped, at ${version}, where the gateway is at ${observed}`
  return undefined
}

function shown({ status }: IprefService): string {
  return (status?.conditions ?? []).map(({ type, status: is, reason }) => `${type}=${is} ${reason}`).join(', ')
}

export function conditionOf({ status }: IprefService, type: string): Condition | undefined {
  return status?.conditions?.find(condition => condition.type === type)
}

function nameOf({ status }: IprefService): string {
  return status!.publicName!
}

function aliased(alias: string, above = GRANTED): { hostname: string; publicName: string } {
  return { hostname: alias, publicName: `${alias}.${above}` }
}

function referenceOf({ status }: IprefService): string {
  return (status?.mappings ?? []).map(({ reference }) => reference).join()
}

function configMap(namespace: string, name: string, data: Record<string, string>): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name }, data }
}

function unlessThere(error: unknown): void {
  if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
}
