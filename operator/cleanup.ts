/**
 * `ipref operator -cleanup`: undoes what operators and gateways of a cluster have made, before they are taken away (the chart's pre-delete hook).
 *
 *   Lease taken: operators rest ─ the cluster's DNS as it was ─ records withdrawn ─ gateways deleted, nodes clean ─ finalizers lifted ─ those that stay say so
 *   ─ objects of ours gone ─ operators deleted, and when they have ended, the Lease
 *
 * Each step is safe to repeat, and one that fails does not keep the others: what is left is named at the end. IprefServices, peers and claims of references
 * stay, with their status: they are people's. Conditions of theirs say that nobody serves them (operatorGone.ts). So do IprefGateways that a person has written into. Kinds that are gone already have no objects.
 * One that acts alone: nothing else may write the same objects meanwhile.
 */
import { type Config, parseConfig } from '../resources/config.ts'
import type { DaemonSet, IprefGateway, IprefService, KindName, Kinds, LabelSelector } from '../resources/kinds.ts'
import { NETWORK_NAME, UPLINK_NAME } from '../resources/network.ts'
import { isReadyPod } from '../resources/pods.ts'
import { type Key, type ResourceStore, StoreError } from '../resources/store.ts'
import { type Clock, timestamp } from '../runtime/clock.ts'
import type { Logger } from '../runtime/log.ts'
import { keyOf } from './byKey.ts'
import { GATEWAY_FINALIZER, publicAddressesOf } from './gateway/plan.ts'
import { tellOperatorGone } from './operatorGone.ts'
import { restore } from './publish/clusterDns.ts'
import { type Desired, DesiredTable } from './publish/desired.ts'
import type { Output } from './publish/output.ts'
import { outputsOf } from './publish/outputsOf.ts'
import {
  publicGateways,
  recordsOfPeer,
  recordsOfService,
  recordsOnceOf,
  zoneKinds,
  zonesOf,
} from './publish/records.ts'
import { MANAGED_BY, STATE_NAME } from './publish/serialBook.ts'
import { ZONE_SERVER } from './publish/zoneServerOutput.ts'
import { FINALIZER } from './service/reconcile.ts'
import { SETTINGS_KEY } from './settingsSource.ts'

const LEASE = 'ipref-operator'
const GATEWAY_LEASE = /^ipref-gateway-/
/** An operator looks at its Lease every 2 s, and ends what it has begun. */
const REST_MS = 6000
/** Operators rest until the Lease is over: by then Helm has deleted them. */
const AFTERWARDS_S = 60
const TRIES = 5
const AGAIN_MS = 2000
const LOOK_MS = 1000
/** for saying on objects that nobody serves them, which is worth no more */
const TELL_MS = 20_000

export interface CleanupSettings {
  namespace: string
  /** name of the ConfigMap with the settings */
  settings: string
  identity: string
  /** DaemonSet of the gateways, to be deleted */
  gateways: string | undefined
  /** DaemonSet whose pods are ready when their node is clean */
  nodeCleanup: string | undefined
  /** Deployment of the operators, to be deleted at the end */
  operators: string | undefined
  patienceMs: number
}

export interface CleanupPorts {
  store: ResourceStore
  clock: Clock
  log: Logger
  /** absent: those that the settings name */
  outputs?(config: Config): Output[]
}

/** What could not be done; empty: all was. */
export async function cleanUp(settings: CleanupSettings, ports: CleanupPorts): Promise<string[]> {
  return new Cleanup(settings, ports).run()
}

class Cleanup {
  readonly #settings: CleanupSettings
  readonly #ports: CleanupPorts
  readonly #problems: string[] = []
  readonly #deadline: number

  constructor(settings: CleanupSettings, ports: CleanupPorts) {
    this.#settings = settings
    this.#ports = ports
    this.#deadline = ports.clock.now() + settings.patienceMs
  }

  async run(): Promise<string[]> {
    const config = await this.#config()
    const { gateways, nodeCleanup } = this.#settings
    // what keeps operators from undoing the rest comes first, and nothing goes on without it
    const isResting = await this.#step('operators rest', () => this.#letOperatorsRest())
    if (!isResting) return this.#problems
    await this.#step("the cluster's DNS is as it was", () => this.#restoreDns(config))
    await this.#step('records are withdrawn', () => this.#withdraw(config))
    if (gateways !== undefined)
      await this.#step('gateways are deleted', () => this.#delete('DaemonSet', { name: gateways }))
    if (nodeCleanup !== undefined) await this.#step('nodes are clean', () => this.#untilClean(nodeCleanup))
    await this.#step('finalizers are lifted', () => this.#liftFinalizers())
    await this.#step('objects that stay say that nobody serves them', () => this.#tellThoseThatStay())
    await this.#step('objects of ours are gone', () => this.#deleteOwn(config))
    const { operators } = this.#settings
    if (operators !== undefined && this.#problems.length === 0)
      await this.#step('operators are gone', () => this.#endOperators(operators))
    else await this.#step('the Lease runs out', () => this.#hold(AFTERWARDS_S))
    return this.#problems
  }

  async #step(done: string, work: () => Promise<unknown>): Promise<boolean> {
    const before = this.#problems.length
    try {
      await work()
    } catch (error) {
      this.#problems.push((error as Error).message)
    }
    const fresh = this.#problems.slice(before)
    for (const problem of fresh) this.#ports.log.error({ component: 'cleanup' }, problem)
    if (fresh.length === 0) this.#ports.log.info({ component: 'cleanup' }, done)
    return fresh.length === 0
  }

  /** Settings that cannot be read do not keep nodes from being cleaned. */
  async #config(): Promise<Config> {
    const { namespace, settings: name } = this.#settings
    const shown = `ConfigMap ${namespace}/${name}`
    let parsed = parseConfig('', shown)
    try {
      const text = (await this.#ports.store.get('ConfigMap', { namespace, name }))?.data?.[SETTINGS_KEY]
      const given = parseConfig(text ?? '', shown)
      if ('config' in given) parsed = given
      else this.#problems.push(...given.problems)
      if (text === undefined) this.#ports.log.warn({ component: 'cleanup' }, `${shown} is gone: defaults are taken`)
    } catch (error) {
      this.#problems.push((error as Error).message)
    }
    return (parsed as { config: Config }).config
  }

  // ---- operators

  async #letOperatorsRest(): Promise<void> {
    await this.#hold(Math.ceil(this.#settings.patienceMs / 1000) + AFTERWARDS_S)
    await this.#pause(REST_MS)
  }

  async #hold(seconds: number): Promise<void> {
    const { store, clock } = this.#ports
    const key = { namespace: this.#settings.namespace, name: LEASE }
    await this.#again(async () => {
      const lease = await store.get('Lease', key)
      const now = timestamp(clock.now()).replace(/(\.\d+)?Z$/, '.000000Z')
      const spec = {
        holderIdentity: this.#settings.identity,
        leaseDurationSeconds: seconds,
        acquireTime: now,
        renewTime: now,
        leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + 1,
      }
      if (lease) await store.update('Lease', { ...lease, spec })
      else
        await store.create('Lease', { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { ...key }, spec })
    })
  }

  /** They rest until they have ended: the Lease goes after them, or the last of them would make it again. */
  async #endOperators(name: string): Promise<void> {
    const { store, clock } = this.#ports
    const { namespace } = this.#settings
    const deployment = await this.#again(() => store.get('Deployment', { namespace, name }))
    const labelSelector = selectorText(deployment?.spec?.selector)
    await this.#delete('Deployment', { name })
    while (labelSelector !== '') {
      const pods = await this.#again(() => store.list('Pod', { namespace, labelSelector }))
      if (pods.length === 0) break
      if (clock.now() >= this.#deadline) {
        const names = pods.map(({ metadata }) => metadata.name).sort()
        throw new Error(`operators have not ended: ${names.join(', ')}; Lease ${namespace}/${LEASE} stays`)
      }
      await this.#pause(LOOK_MS)
    }
    await this.#delete('Lease', { name: LEASE })
  }

  // ---- DNS

  async #restoreDns({ clusterDns }: Config): Promise<void> {
    try {
      const { problems } = await this.#again(() => restore(this.#ports.store, clusterDns))
      if (clusterDns.manage) this.#problems.push(...problems)
    } catch (error) {
      // where nothing was managed there is no right to look
      if (clusterDns.manage || !(error instanceof StoreError && error.code === 'Forbidden')) throw error
    }
  }

  async #withdraw(config: Config): Promise<void> {
    const desired = await this.#nothing(config)
    const outputs = (this.#ports.outputs ?? (one => this.#outputs(one)))(config)
    // the zone server goes with the operators
    for (const output of outputs.filter(({ name }) => name !== ZONE_SERVER)) {
      try {
        const { conflicts } = await this.#again(() => output.apply(desired))
        for (const why of conflicts.values()) this.#problems.push(`${output.name}: ${why}`)
      } catch (error) {
        this.#problems.push(`${output.name}: records stay: ${(error as Error).message}`)
      } finally {
        await output.stop()
      }
    }
  }

  #outputs(config: Config): Output[] {
    const { store, clock, log } = this.#ports
    const { namespace } = this.#settings
    // what holds the text of the zones is deleted as a whole
    const { configMap: _whole, ...publishers } = config.publishers
    const ports = { store, clock, log, namespace, isLeader: () => true, inside: () => [], onForeignChange: () => {} }
    return outputsOf({ ...config, publishers }, ports)
  }

  /** No records, and the names that had some: servers that show no whole zone are asked for each. */
  async #nothing(config: Config): Promise<Desired> {
    const table = new DesiredTable(zonesOf(config))
    const nodes = new Map((await this.#list('Node')).map(node => [node.metadata.name, node]))
    const gateways = publicGateways(await this.#list('IprefGateway'), gateway =>
      publicAddressesOf(gateway, nodes.get(gateway.spec.nodeName ?? ''), { config, tunnelFamilies: [4, 6] }),
    )
    const all = [
      ...(await this.#list('IprefService')).flatMap(object => [
        recordsOfService(object, config, gateways),
        recordsOnceOf(object, config, gateways),
      ]),
      ...(await this.#list('IprefPeer')).map(peer => recordsOfPeer(peer, config)),
    ]
    for (const [i, records] of all.entries())
      for (const kind of zoneKinds) for (const set of records[kind]) table.suspect(kind, { ...set, owner: String(i) })
    return table.snapshot()
  }

  // ---- nodes

  async #untilClean(name: string): Promise<void> {
    const { store, clock } = this.#ports
    const { namespace } = this.#settings
    for (;;) {
      const object = await this.#again(() => store.get('DaemonSet', { namespace, name }))
      if (!object)
        throw new Error(`DaemonSet ${namespace}/${name} is not there: nodes may keep device, routes and rules`)
      if (isDone(object)) return
      if (clock.now() >= this.#deadline) return this.#nameNodes(object)
      await this.#pause(LOOK_MS)
    }
  }

  async #nameNodes({ metadata, spec, status }: DaemonSet): Promise<void> {
    const pods = await this.#ports.store.list('Pod', {
      namespace: this.#settings.namespace,
      labelSelector: selectorText(spec?.selector),
    })
    const late = pods.filter(pod => !isReadyPod(pod)).map(({ spec: of }) => of?.nodeName ?? 'a node')
    const { desiredNumberScheduled = 0, numberReady = 0 } = status ?? {}
    const which = late.length > 0 ? ` (${late.sort().join(', ')})` : ''
    this.#problems.push(
      `${numberReady} of ${desiredNumberScheduled} nodes are clean; the others keep device, routes and rules${which}: see the pods of DaemonSet ${metadata.name}`,
    )
  }

  // ---- objects

  async #liftFinalizers(): Promise<void> {
    let left: string[] = []
    for (let tries = 0; tries < TRIES; tries++) {
      left = []
      for (const object of await this.#list('IprefService')) left.push(...(await this.#lift(object, FINALIZER)))
      for (const object of await this.#list('IprefGateway')) left.push(...(await this.#lift(object, GATEWAY_FINALIZER)))
      if (left.length === 0) return
      await this.#pause(AGAIN_MS)
    }
    this.#problems.push(...left)
  }

  /** Why it stays; empty: it does not. */
  async #lift(object: IprefService | IprefGateway, finalizer: string): Promise<string[]> {
    const { kind, metadata } = object
    const { finalizers = [] } = metadata
    if (!finalizers.includes(finalizer)) return []
    const kept = finalizers.filter(one => one !== finalizer)
    try {
      await this.#ports.store.update(kind, { ...object, metadata: { ...metadata, finalizers: kept } })
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NotFound') return []
      return [`${kind} ${keyOf(object)}: its finalizer stays: ${(error as Error).message}`]
    }
    return []
  }

  /** What could not be said keeps nothing from going. */
  async #tellThoseThatStay(): Promise<void> {
    const { store, clock, log } = this.#ports
    const warn = (problem: string) =>
      log.warn({ component: 'cleanup', problem }, 'some objects still say that they are served')
    try {
      const objects = [...(await this.#list('IprefService')), ...(await this.#list('IprefPeer'))]
      const { left, problem } = await tellOperatorGone(objects, { store, clock, withinMs: TELL_MS })
      if (left > 0) warn(`${left} of ${objects.length}: ${problem}`)
    } catch (error) {
      warn((error as Error).message)
    }
  }

  async #deleteOwn(config: Config): Promise<void> {
    const { store } = this.#ports
    const { namespace } = this.#settings
    const leases = await this.#again(() => store.list('Lease', { namespace }))
    const names = leases.map(({ metadata }) => metadata.name)
    for (const name of names.filter(one => GATEWAY_LEASE.test(one) || one === UPLINK_NAME))
      await this.#delete('Lease', { name })
    for (const name of [NETWORK_NAME, STATE_NAME]) await this.#delete('ConfigMap', { name })
    await this.#delete('Secret', { name: UPLINK_NAME })
    await this.#deleteZoneText(config)
    for (const { metadata, spec } of await this.#list('IprefGateway')) {
      const { name } = metadata
      const written = writtenByPeople(spec)
      if (written.length === 0) await this.#again(() => this.#ports.store.delete('IprefGateway', { name }))
      else this.#ports.log.info({ component: 'cleanup', gateway: name, written }, 'a person wrote into it: it stays')
    }
  }

  /** Of a kind that is gone there are none. */
  async #list<Kind extends KindName>(kind: Kind): Promise<Kinds[Kind][]> {
    try {
      return await this.#again(() => this.#ports.store.list(kind))
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NoSuchKind') return []
      throw error
    }
  }

  /** NAME, NAME-2 and so on, as far as they are labelled as ours. */
  async #deleteZoneText({ publishers }: Config): Promise<void> {
    const { configMap } = publishers
    if (!configMap) return
    const namespace = configMap.namespace ?? this.#settings.namespace
    for (let i = 1; ; i++) {
      const key = { namespace, name: i === 1 ? configMap.name : `${configMap.name}-${i}` }
      const found = await this.#again(() => this.#ports.store.get('ConfigMap', key)).catch(error => {
        // more parts than there ever are
        if (i > 1 && error instanceof StoreError && error.code === 'Forbidden') return undefined
        throw error
      })
      const isOurs = Object.entries(MANAGED_BY).every(([label, value]) => found?.metadata.labels?.[label] === value)
      if (!found || !isOurs) return
      await this.#delete('ConfigMap', key)
    }
  }

  async #delete(kind: 'ConfigMap' | 'DaemonSet' | 'Deployment' | 'Lease' | 'Secret', key: Key): Promise<void> {
    const { namespace } = this.#settings
    await this.#again(() => this.#ports.store.delete(kind, { namespace, ...key }))
  }

  // ---- time

  /** Conflicts pass, and so do servers that are away. */
  async #again<Result>(work: () => Promise<Result>): Promise<Result> {
    for (let tries = 1; ; tries++) {
      try {
        return await work()
      } catch (error) {
        const isHopeless = error instanceof StoreError && !error.isRetryable && error.code !== 'AlreadyExists'
        if (isHopeless || tries >= TRIES || this.#ports.clock.now() >= this.#deadline) throw error
        await this.#pause(AGAIN_MS)
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => void this.#ports.clock.after(ms, resolve))
  }
}

/** Fields that neither an operator writes nor the server fills in. */
function writtenByPeople({ nodeName: _node, slices: _slices, publish, ...rest }: IprefGateway['spec']): string[] {
  return [...(publish === false ? ['publish'] : []), ...Object.keys(rest)]
}

function selectorText(selector: LabelSelector | undefined): string {
  return Object.entries(selector?.matchLabels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
}

function isDone({ metadata, status }: DaemonSet): boolean {
  const { observedGeneration = 0, desiredNumberScheduled = 0, numberReady = 0 } = status ?? {}
  return observedGeneration >= (metadata.generation ?? 1) && numberReady >= desiredNumberScheduled
}
