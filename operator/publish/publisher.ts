/**
 * Publishing: from what the watches say to records, to every output, and back from the DNS to what is said on each object.
 *
 *   views ──► records of one object ──► desired (all objects) ──► outputs, each in its own time
 *                                             └──► read back ──► findings ──► onChange(keys) ──► the service controller writes conditions
 *
 * Work is per object: one that changes is computed anew alone, all of them only when gateways or settings change. Only the leader publishes and reads back;
 * the zone server of every other replica answers with what the leader recorded. Owner of everything under publish/: this class, in one thread.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Message } from '../../dns/message.ts'
import type { Name } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import type { Prefix } from '../../ipref/address.ts'
import type { Config } from '../../resources/config.ts'
import type { IprefGateway, IprefPeer, IprefService } from '../../resources/kinds.ts'
import type { Change, ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import { fromKey, keyOf } from '../byKey.ts'
import type { Cluster } from '../cluster.ts'
import type { Finding } from '../conditions.ts'
import type { Events } from '../events.ts'
import type { Publication } from '../service/reconcile.ts'
import { insideOf } from '../surroundings.ts'
import { ClusterDnsKeeper, type ClusterDnsReport } from './clusterDnsKeeper.ts'
import { DesiredTable, type OwnedSet, type SetChange } from './desired.ts'
import { type Server, showServer } from './endpoints.ts'
import { OutputRunner, type OutputState } from './output.ts'
import { outputsOf } from './outputsOf.ts'
import { ReadBack, type ReadEntry } from './readBack.ts'
import { ReadServers, type SystemDns, systemDns } from './readServers.ts'
import {
  type ObjectRecords,
  type PublicGateway,
  publicGateways,
  recordsOfPeer,
  recordsOfService,
  recordsOnceOf,
  setKey,
  type ZoneKind,
  zoneKinds,
  zonesOf,
} from './records.ts'
import { findingOf, isNameGone, isSetGone, isWithdrawn, type PublishState } from './statements.ts'
import { ZONE_SERVER } from './zoneServerOutput.ts'

export interface PublisherPorts {
  store: ResourceStore
  cluster: Cluster
  events: Events
  clock: Clock
  log: Logger
  /** 0 to 1 */
  random(): number
  /** the operator's own */
  namespace: string
  /** Where other networks reach a gateway; empty: unknown. */
  publicAddresses(gateway: IprefGateway): readonly string[]
  /** IprefServices of which something else is to be said. */
  onChange(keys: readonly string[]): void
  dns?: SystemDns
  ask?(server: Server, question: { name: Name; type: number }): Promise<Message | undefined>
}

export interface PublishingReport {
  outputs: readonly OutputState[]
  /** sets by zone */
  records: Readonly<Record<ZoneKind, number>>
  /** sets that are not known to be where they should be */
  pending: number
  servers: Readonly<Record<ZoneKind, readonly string[]>>
  clusterDns: ClusterDnsReport
}

const PUBLISH_MS = 100
const TELL_MS = 50
const MOST_DRIFT_EVENTS = 20
const DRIFT_EVENTS_MS = 60_000

export class Publisher implements Publication {
  readonly #ports: PublisherPorts
  readonly #log: Logger
  readonly #ask: NonNullable<PublisherPorts['ask']>
  readonly #records = new Map<string, ObjectRecords>()
  /** version of the desired records when the sets of an object changed last */
  readonly #changedAt = new Map<string, number>()
  /** changed since we lead: of these no older condition says anything */
  readonly #fresh = new Set<string>()
  /** objects that are going, whose records were looked for */
  readonly #suspected = new Set<string>()
  readonly #dirty = new Set<string>()
  readonly #servers: ReadServers
  readonly #asked = new Map<ZoneKind, readonly Server[]>()
  readonly #clusterDns: ClusterDnsKeeper
  readonly #inside: () => readonly Prefix[]
  readonly #drifted = new Set<ZoneKind>()
  #driftEvents = { since: 0, count: 0 }
  #config: Config
  #gateways: PublicGateway[] = []
  #table: DesiredTable
  #runners: OutputRunner[] = []
  #readBack: ReadBack | undefined
  #timers = new Map<string, () => void>()
  #isStarted = false
  #isLeader = false

  constructor(ports: PublisherPorts) {
    this.#ports = ports
    this.#log = ports.log.child({ component: 'publish' })
    this.#ask = ports.ask ?? queryServer
    const { cluster, clock, store, random } = ports
    this.#config = cluster.config
    this.#table = new DesiredTable(zonesOf(this.#config))
    this.#servers = new ReadServers({
      dns: ports.dns ?? systemDns(),
      clock,
      log: this.#log,
      known: kind => this.#runners.flatMap(({ output }) => (output.zones.includes(kind) ? output.servers(kind) : [])),
    })
    this.#clusterDns = new ClusterDnsKeeper({
      store,
      cluster,
      clock,
      random,
      log: this.#log,
      ask: (server, question) => this.#ask(server, question),
      published: () => this.#anyPublished(),
    })
    this.#inside = insideOf(cluster)
    cluster.listen('IprefService', change => this.#serviceChanged(change))
    cluster.listen('IprefPeer', change => this.#peerChanged(change))
    cluster.listen('IprefGateway', () => this.#later('gateways', PUBLISH_MS, () => this.#gatewaysChanged()))
    cluster.listen('Node', () => this.#later('gateways', PUBLISH_MS, () => this.#gatewaysChanged()))
  }

  // ---- life

  /** After the views are filled. As a follower at first. */
  start(): void {
    this.#isStarted = true
    this.#gateways = this.#gatewaysNow()
    this.#recomputeAll()
    this.#openOutputs()
    this.#publish()
  }

  lead(): void {
    if (this.#isLeader) return
    this.#isLeader = true
    this.#fresh.clear()
    this.#dirty.clear()
    // another may have published since
    for (const { output } of this.#runners) output.doubt()
    this.#openReadBack()
    this.#clusterDns.start()
    this.#publish()
  }

  retryFailed(): void {
    for (const runner of this.#runners) runner.retryFailed()
  }

  async follow(): Promise<void> {
    if (!this.#isLeader) return
    this.#isLeader = false
    this.#closeReadBack()
    await this.#clusterDns.stop()
    // the zone server goes on; what only a leader does ends
    const zoneServer = this.#runners.find(({ output }) => output.name === ZONE_SERVER)
    this.#runners = this.#runners.filter(runner => runner !== zoneServer)
    await this.#closeOutputs()
    if (this.#isStarted) this.#openOutputs(zoneServer)
  }

  /** The settings of the cluster were replaced. */
  async configChanged(): Promise<void> {
    const { config } = this.#ports.cluster
    const isOther = !isDeepStrictEqual(settingsFor(config), settingsFor(this.#config))
    this.#config = config
    if (!this.#isStarted) return
    if (isOther) {
      this.#closeReadBack()
      await this.#closeOutputs()
      this.#table = new DesiredTable(zonesOf(config))
      this.#changedAt.clear()
      this.#suspected.clear()
      this.#openOutputs()
    }
    this.#gateways = this.#gatewaysNow()
    this.#recomputeAll()
    if (isOther && this.#isLeader) this.#openReadBack()
    this.#clusterDns.changed()
    this.#publish()
    this.#tell([...this.#records.keys()])
  }

  async stop(): Promise<void> {
    this.#isStarted = false
    this.#isLeader = false
    for (const cancel of this.#timers.values()) cancel()
    this.#timers.clear()
    this.#closeReadBack()
    await this.#clusterDns.stop()
    await this.#closeOutputs()
  }

  #openOutputs(kept?: OutputRunner): void {
    const { store, clock, random, namespace } = this.#ports
    this.#servers.forget()
    const outputs = outputsOf(this.#config, {
      store,
      clock,
      log: this.#log,
      namespace,
      isLeader: () => this.#isLeader,
      inside: this.#inside,
      onForeignChange: name => this.#runners.find(({ output }) => output.name === name)?.again(),
    })
    const onState = (state: OutputState) => this.#outputChanged(state)
    this.#runners = outputs.map(output =>
      kept && output.name === kept.output.name ? kept : new OutputRunner(output, { clock, random, onState }),
    )
    this.#states.clear()
  }

  async #closeOutputs(): Promise<void> {
    const runners = this.#runners
    this.#runners = []
    await Promise.all(runners.map(runner => runner.stop()))
  }

  #openReadBack(): void {
    const { mode, intervalSeconds } = this.#config.readBack
    if (mode === 'Off') return
    const { clock, random } = this.#ports
    this.#readBack = new ReadBack(
      { isAuthoritative: mode === 'Authoritative', intervalMs: intervalSeconds * 1000, zones: zonesOf(this.#config) },
      {
        clock,
        random,
        ask: (server, question) => this.#ask(server, question),
        servers: kind => this.#serversFor(kind),
        onEntry: entry => this.#entryChanged(entry),
        onDrift: entry => this.#drift(entry),
      },
    )
    for (const { kind, sets } of this.#table.snapshot().zones.values())
      for (const set of sets.values()) this.#readBack.expect(kind, set)
    for (const [kind, former] of this.#table.formerSets()) this.#readBack.expectGone(kind, former)
    this.#readBack.start()
  }

  #closeReadBack(): void {
    this.#readBack?.stop()
    this.#readBack = undefined
  }

  async #serversFor(kind: ZoneKind): Promise<readonly Server[]> {
    const servers = await this.#servers.of(kind, this.#config)
    this.#asked.set(kind, servers)
    return servers
  }

  // ---- from objects to records

  #gatewaysNow(): PublicGateway[] {
    const { cluster, publicAddresses } = this.#ports
    return publicGateways(cluster.gateways(), gateway => publicAddresses(gateway))
  }

  #gatewaysChanged(): void {
    if (!this.#isStarted) return
    const gateways = this.#gatewaysNow()
    if (isDeepStrictEqual(gateways, this.#gateways)) return
    const isAnother = gateways.length === 0 || this.#gateways.length === 0
    this.#gateways = gateways
    this.#recomputeAll()
    if (isAnother) this.#tell([...this.#records.keys()])
  }

  #recomputeAll(): void {
    const { cluster } = this.#ports
    for (const object of cluster.services.all()) this.#serviceNow(keyOf(object), object)
    for (const peer of cluster.peers()) this.#peerNow(peer.metadata.name, peer)
  }

  #serviceChanged({ before, now }: Change<'IprefService'>): void {
    if (this.#isStarted) this.#serviceNow(keyOf((now ?? before)!), now)
  }

  #peerChanged({ before, now }: Change<'IprefPeer'>): void {
    if (!this.#isStarted) return
    this.#peerNow(keyOf((now ?? before)!), now)
    if (!isDeepStrictEqual(before?.spec.domains, now?.spec.domains)) this.#clusterDns.changed()
  }

  #serviceNow(key: string, object: IprefService | undefined): void {
    if (!object) {
      this.#suspected.delete(key)
      this.#put(key, '', undefined)
      this.#changedAt.delete(key)
      this.#fresh.delete(key)
      return
    }
    const { creationTimestamp, uid } = object.metadata
    this.#put(key, `${creationTimestamp} ${uid}`, recordsOfService(object, this.#config, this.#gateways))
    this.#suspect(key, object)
  }

  #peerNow(key: string, peer: IprefPeer | undefined): void {
    // hosts of peers come before everything: no object has their names
    this.#put(key, '', peer && recordsOfPeer(peer, this.#config))
  }

  #put(key: string, age: string, records: ObjectRecords | undefined): void {
    if (records) this.#records.set(key, records)
    else this.#records.delete(key)
    this.#changed(this.#table.set(key, age, records))
  }

  /** What its status says was published, and is not wanted now: it may be out there since before this program started. */
  #suspect(key: string, object: IprefService): void {
    if (this.#suspected.has(key)) return
    this.#suspected.add(key)
    const once = recordsOnceOf(object, this.#config, this.#gateways)
    for (const kind of zoneKinds)
      for (const set of once[kind]) {
        const former = { ...set, owner: key }
        if (!this.#table.suspect(kind, former)) continue
        this.#changedAt.set(key, this.#table.version)
        this.#readBack?.expectGone(kind, former)
        this.#publishSoon()
      }
  }

  #changed(changes: readonly SetChange[]): void {
    if (changes.length === 0) return
    const { version } = this.#table
    for (const { kind, now, before } of changes) {
      if (now) this.#readBack?.expect(kind, now)
      else if (before) this.#readBack?.expectGone(kind, before)
      for (const set of [now, before]) {
        if (!set) continue
        this.#changedAt.set(set.owner, version)
        this.#fresh.add(set.owner)
        this.#tell([set.owner])
      }
    }
    this.#publishSoon()
  }

  #publishSoon(): void {
    this.#later('publish', PUBLISH_MS, () => this.#publish())
  }

  #publish(): void {
    if (!this.#isStarted) return
    const desired = () => this.#table.snapshot()
    for (const runner of this.#runners) if (this.#isLeader || runner.output.name === ZONE_SERVER) runner.want(desired)
  }

  // ---- from outputs and from the DNS

  readonly #states = new Map<string, OutputState>()

  #outputChanged(state: OutputState): void {
    const before = this.#states.get(state.name)
    this.#states.set(state.name, state)
    if (state.problem !== before?.problem) {
      const fields = { output: state.name, ...(state.problem === undefined ? {} : { problem: state.problem }) }
      if (state.problem !== undefined) this.#log.warn(fields, 'an output does not take the records')
      else if (before) this.#log.info(fields, 'the output takes the records again')
    }
    const isOther = state.problem !== before?.problem || state.appliedVersion !== before?.appliedVersion
    if (isOther) {
      const from = before?.appliedVersion ?? 0
      this.#tell([...this.#changedAt].filter(([, version]) => version > from).map(([key]) => key))
      if (state.problem === undefined) this.#readBack?.hurry(state.zones)
      this.#forgetGone()
    }
    if (!isDeepStrictEqual(state.conflicts, before?.conflicts ?? new Map()))
      for (const at of [...state.conflicts.keys(), ...(before?.conflicts.keys() ?? [])]) {
        const [kind, name] = at.split(' ') as [ZoneKind, string]
        const owner = this.#table.ownerOf(kind, name)
        if (owner !== undefined) this.#tell([owner])
      }
  }

  /** An output that is told of a name no more does not look there: so it has to have been there before that. */
  #forgetGone(all: Iterable<[ZoneKind, OwnedSet]> = [...this.#table.formerSets()]): void {
    const state = this.#state
    for (const [kind, former] of all) {
      if (!isSetGone(kind, former, state)) continue
      this.#table.forget(kind, setKey(former))
      this.#readBack?.forget(kind, setKey(former))
    }
  }

  #entryChanged({ kind, set, former }: ReadEntry): void {
    if (!set) this.#forgetGone([[kind, former as OwnedSet]])
    this.#tell([((set ?? former) as OwnedSet).owner])
  }

  #drift({ kind, set, problem }: ReadEntry): void {
    this.#drifted.add(kind)
    this.#later('drift', PUBLISH_MS, () => {
      for (const runner of this.#runners) if (runner.output.zones.some(zone => this.#drifted.has(zone))) runner.again()
      this.#drifted.clear()
    })
    const { owner } = set as OwnedSet
    const now = this.#ports.clock.now()
    if (now - this.#driftEvents.since >= DRIFT_EVENTS_MS) this.#driftEvents = { since: now, count: 0 }
    const object = owner.includes('/') ? this.#ports.cluster.services.get(fromKey(owner)) : undefined
    if (object && this.#driftEvents.count++ < MOST_DRIFT_EVENTS)
      this.#ports.events.say(object, 'Warning', 'Drifted', `${problem}; published again`)
  }

  // ---- what is said of objects

  internal(object: IprefService): Finding {
    return findingOf('internal', object, this.#state)
  }

  public(object: IprefService): Finding {
    return findingOf('public', object, this.#state)
  }

  isWithdrawn(object: IprefService): boolean {
    return this.#suspected.has(keyOf(object)) && isWithdrawn(object, this.#state)
  }

  isNameGone(object: IprefService, name: string): boolean {
    return this.#suspected.has(keyOf(object)) && isNameGone(object, name, this.#state)
  }

  get #state(): PublishState {
    return {
      config: this.#config,
      table: this.#table,
      gateways: this.#gateways,
      readBack: this.#readBack,
      outputs: this.#runners.map(({ state }) => state),
      recordsOf: key => this.#records.get(key),
      changedAt: key => this.#changedAt.get(key) ?? 0,
      isFresh: key => this.#fresh.has(key),
      hasServers: kind => this.#asked.get(kind)?.length !== 0,
    }
  }

  #anyPublished(): OwnedSet | undefined {
    for (const set of this.#table.snapshot().zones.get('internal')?.sets.values() ?? [])
      if (this.#readBack?.get('internal', setKey(set))?.state === 'right') return set
    return undefined
  }

  get report(): PublishingReport {
    const shown = (kind: ZoneKind) => (this.#asked.get(kind) ?? []).map(showServer)
    return {
      outputs: this.#runners.map(({ state }) => state),
      records: { internal: this.#table.size('internal'), public: this.#table.size('public') },
      pending: this.#readBack?.pending ?? 0,
      servers: { internal: shown('internal'), public: shown('public') },
      clusterDns: this.#clusterDns.report,
    }
  }

  // ---- in a while, once

  #tell(keys: readonly string[]): void {
    for (const key of keys) if (key.includes('/')) this.#dirty.add(key)
    if (this.#dirty.size === 0 || !this.#isLeader) return
    this.#later('tell', TELL_MS, () => {
      const all = [...this.#dirty]
      this.#dirty.clear()
      if (all.length > 0 && this.#isLeader) this.#ports.onChange(all)
    })
  }

  #later(what: string, ms: number, run: () => void): void {
    if (this.#timers.has(what)) return
    this.#timers.set(
      what,
      this.#ports.clock.after(ms, () => {
        this.#timers.delete(what)
        run()
      }),
    )
  }
}

/** What outputs and reading back depend on. */
function settingsFor({ internalZone, publicZone, publishers, readBack }: Config): unknown {
  return { internalZone, publicZone, publishers, readBack }
}
