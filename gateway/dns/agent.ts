/**
 * The DNS agent (wire.md section 4): publishes the hosts that a network's own public zone names.
 *
 *   each server: AXFR of PUBLIC ──► AA records at NAME.PUBLIC ──► address of NAME.LOCAL, contexts ──► set ──► hash ──┐
 *   quorum of the servers of a source (quorum.ts) ◄────────────────────────────────────────────────────────────────┘
 *        └── a set that is current ──► mapper (agentLink.ts)
 *
 * Every transfer is judged as a whole; what fails anywhere leaves the set in force as it is.
 */
import { lookup as systemLookup } from 'node:dns/promises'
import { formatName, lowerName, type Name, plainName } from '../../dns/name.ts'
import { transferZone } from '../../dns/transfer.ts'
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import { type Clock, monotonicClock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Poller } from '../sys/poller.ts'
import type { AgentConfig, AgentServer, AgentSource } from './agentConfig.ts'
import { HostFinder, lostHosts, type NameLookup, ZoneEntries } from './agentHosts.ts'
import { type HostSet, type LinkEvents, type MapperLink, SetDelivery, type SetEvent } from './agentLink.ts'
import { Lookup } from './lookup.ts'
import { NotifyListener } from './notifyListener.ts'
import type { AgentCounts } from './publishReports.ts'
import { type Decision, Quorum } from './quorum.ts'
import { readHosts, readResolvers } from './systemNames.ts'

const FIRST_RETRY_S = 5
const NOTIFY_S = 5
const SPREAD = 0.2
const JITTER_S = 2

interface ServerState {
  readonly server: AgentServer
  readonly index: number
  /** of a server that is named: what the name was last */
  address: string | undefined
  failures: number
  /** goes on with each failure: with which key, and at which of its addresses, it is asked */
  attempt: number
  stopTimer: (() => void) | undefined
  dueAt: number
  isPolling: boolean
  pollAgain: boolean
  lastPolledAt: number
  /** when its hosts were looked up last, in milliseconds of the clock */
  lookedUpAt: number
  problem: string | undefined
  serial: number | undefined
}

interface SourceState {
  readonly source: AgentSource
  readonly servers: ServerState[]
  readonly quorum: Quorum
  readonly finder: HostFinder
  /** sets by hash: those that a server reported last, and the current one */
  readonly sets: Map<string, HostSet[]>
  readonly reported: (string | undefined)[]
  why: string
  hosts: number
  /** that hosts are held back has been said */
  isHeldBack: boolean
}

export interface AgentPorts {
  link(events: LinkEvents): MapperLink
  poller: Poller
  log: Logger
  /** /etc/hosts and /etc/resolv.conf; tests have their own */
  hostsFile?: string
  resolvFile?: string
  /** absent: time passes by itself */
  clock?: Clock
  /** 0 to 1 */
  random?(): number
  transfer?: typeof transferZone
  lookup?: NameLookup & { stop(): void }
}

export interface AgentStatus {
  source: string
  hosts: number
  state: string
  servers: { server: string; serial: number | null; problem: string | null }[]
}

export class Agent {
  readonly #config: AgentConfig
  readonly #ports: AgentPorts
  readonly #log: Logger
  readonly #sources: SourceState[]
  readonly #delivery: SetDelivery
  readonly #lookup: NameLookup & { stop(): void }
  readonly #clock: Clock
  readonly #random: () => number
  readonly #abort = new AbortController()
  #notify: NotifyListener | undefined
  readonly #counts = { transfers: 0, transfersFailed: 0 }
  #stopped = false

  constructor(config: AgentConfig, ports: AgentPorts) {
    this.#config = config
    this.#ports = ports
    this.#log = ports.log.child({ component: 'dns-agent' })
    this.#clock = ports.clock ?? monotonicClock
    this.#random = ports.random ?? Math.random
    this.#lookup = ports.lookup ?? new Lookup(ports.poller)
    this.#sources = config.sources.map(source => this.#newSource(source))
    this.#delivery = new SetDelivery(ports.link, {
      pollSeconds: config.pollSeconds,
      clock: this.#clock,
      random: this.#random,
      onEvent: event => this.#said(event),
      onUp: () => this.#log.info('connected to the mapper'),
      onDown: why => this.#log.warn(`no mapper: ${why}`),
    })
  }

  #newSource(source: AgentSource): SourceState {
    const { holdDownSeconds, encodedFamilies, contextFamilies, resolvers } = this.#config
    const { hostsFile = '/etc/hosts', resolvFile = '/etc/resolv.conf' } = this.#ports
    const sets = new Map<string, HostSet[]>()
    return {
      source,
      servers: source.servers.map((server, index) => ({
        server,
        index,
        address: parseAddress(server.host) ? server.host : undefined,
        failures: 0,
        attempt: 0,
        stopTimer: undefined,
        dueAt: 0,
        isPolling: false,
        pollAgain: false,
        lastPolledAt: Number.NEGATIVE_INFINITY,
        lookedUpAt: Number.NEGATIVE_INFINITY,
        problem: undefined,
        serial: undefined,
      })),
      quorum: new Quorum(source.servers.length, holdDownSeconds, (from, to) =>
        lostHosts(sets.get(from) ?? [], sets.get(to) ?? []),
      ),
      finder: new HostFinder(
        source,
        { encoded: encodedFamilies, context: contextFamilies },
        {
          lookup: this.#lookup,
          clock: this.#clock,
          hosts: () => readHosts(hostsFile),
          resolvers: () => (resolvers.length > 0 ? resolvers : readResolvers(resolvFile)),
          onProblem: text => this.#log.warn(text),
        },
      ),
      sets,
      reported: source.servers.map(() => undefined),
      why: 'no server has reported yet',
      hosts: 0,
      isHeldBack: false,
    }
  }

  #said({ what, set, ms }: SetEvent): void {
    const fields = { source: shownSource(set), hosts: set.records.length, ms: Math.round(ms) }
    if (what === 'acknowledged') this.#log.info(fields, 'the mapper has the hosts')
    else if (what === 'refused')
      this.#log.warn(fields, 'the mapper does not have the hosts any more; handing them over again')
    else
      this.#log.warn(
        fields,
        `the mapper does not answer for IPv${set.encodedFamily} hosts of IPv${set.tunnelFamily} gateways; has it an encoding network and an address of these? (-ea-ipver, -gw-ipver)`,
      )
  }

  // seconds, monotonic
  #now(): number {
    return this.#clock.now() / 1000
  }

  async start(): Promise<void> {
    const { notifyListen, keys } = this.#config
    if (notifyListen) {
      this.#notify = new NotifyListener({
        listen: notifyListen,
        keys,
        onNotify: (zone, from) => this.#notified(zone, from),
      })
      await this.#notify.start()
    }
    for (const state of this.#sources) for (const server of state.servers) this.#schedule(state, server, 0)
  }

  status(): AgentStatus[] {
    return this.#sources.map(({ source, servers, hosts, why }) => ({
      source: shownSource({ local: plainName(source.local), public: plainName(source.public) }),
      hosts,
      state: why,
      servers: servers.map(({ server, serial, problem }) => ({
        server: server.text,
        serial: serial ?? null,
        problem: problem ?? null,
      })),
    }))
  }

  counts(): AgentCounts {
    const servers = this.#sources.flatMap(source => source.servers)
    const failing = servers.filter(({ problem }) => problem !== undefined).length
    return {
      hosts: this.#sources.reduce((sum, { hosts }) => sum + hosts, 0),
      serversWell: servers.length - failing,
      serversFailing: failing,
      ...this.#counts,
    }
  }

  /** What keeps the agent from its work. */
  get problems(): string[] {
    return this.#sources.flatMap(({ servers }) => servers.flatMap(({ problem }) => (problem ? [problem] : [])))
  }

  // ---- when

  #schedule(state: SourceState, server: ServerState, inSeconds: number): void {
    if (this.#stopped) return
    const dueAt = this.#now() + inSeconds
    if (server.stopTimer && server.dueAt <= dueAt) return
    server.stopTimer?.()
    server.dueAt = dueAt
    server.stopTimer = this.#clock.after(inSeconds * 1000, () => {
      server.stopTimer = undefined
      void this.#poll(state, server)
    })
  }

  /** A zone that is served in this process has new content: no server need say so. */
  zoneChanged(zone: Name): void {
    for (const state of this.#sources) {
      const { source, servers, finder } = state
      if (source.local === zone) finder.forget()
      else if (source.public !== zone) continue
      for (const server of servers) this.#soon(state, server)
    }
  }

  #notified(zone: Name, from: string): boolean {
    let isOurs = false
    for (const state of this.#sources) {
      if (state.source.public !== lowerName(zone)) continue
      for (const server of state.servers) {
        if (server.address !== from) continue
        isOurs = true
        this.#soon(state, server)
      }
    }
    return isOurs
  }

  #soon(state: SourceState, server: ServerState): void {
    this.#schedule(state, server, Math.max(0, server.lastPolledAt + NOTIFY_S - this.#now()))
    server.pollAgain ||= server.isPolling
  }

  // ---- one transfer

  async #poll(state: SourceState, server: ServerState): Promise<void> {
    if (server.isPolling) return
    server.isPolling = true
    server.lastPolledAt = this.#now()
    try {
      await this.#transfer(state, server)
      this.#counts.transfers++
      server.failures = 0
      const spread = 1 - SPREAD + 2 * SPREAD * this.#random()
      this.#schedule(state, server, this.#config.pollSeconds * spread)
    } catch (error) {
      if (this.#stopped) return
      this.#counts.transfersFailed++
      server.failures++
      // it may be that it knows another key, or listens on another address
      server.attempt++
      this.#setProblem(server, (error as Error).message)
      const backOff = Math.min(this.#config.pollSeconds, FIRST_RETRY_S * 2 ** Math.min(10, server.failures - 1))
      this.#schedule(state, server, backOff * (0.5 + this.#random()))
    } finally {
      server.isPolling = false
      if (server.pollAgain) this.#schedule(state, server, NOTIFY_S)
      server.pollAgain = false
    }
  }

  #setProblem(server: ServerState, problem: string | undefined): void {
    if (problem === server.problem) return
    if (problem !== undefined) this.#log.warn({ failures: server.failures }, problem)
    else this.#log.info({ server: server.server.text }, 'the server is well again')
    server.problem = problem
  }

  async #transfer(state: SourceState, server: ServerState): Promise<void> {
    const { source, finder } = state
    const { text, host: written, port } = server.server
    const { keys } = this.#config
    const hosts = parseAddress(written) ? [written] : await addressesOf(written)
    const host = hosts[Math.floor(server.attempt / Math.max(1, keys.length)) % hosts.length]!
    const address = parseAddress(host)!
    server.address = formatAddress(address)
    const entries = new ZoneEntries(source.public)
    const { serial } = await (this.#ports.transfer ?? transferZone)({
      server: { host, port },
      zone: source.public,
      key: keys.length > 0 ? keys[server.attempt % keys.length] : undefined,
      signal: this.#abort.signal,
      onRecord: record => entries.add(record),
    })
    const sets = await finder.setsOf({
      entries: entries.list,
      zoneServer: { text, address, port },
      freshAfter: server.lookedUpAt,
    })
    if (this.#stopped) return
    server.lookedUpAt = this.#clock.now()
    const hash = sets.map(set => set.hash.toString(16)).join()
    const report = { serial, zone: entries.fingerprint, hash, hosts: countHosts(sets) }
    const verdict = state.quorum.report(server.index, report, this.#now())
    if (verdict.what === 'doubted') {
      this.#setProblem(
        server,
        `${formatName(source.public)} from ${text}: ${verdict.why}; what it said before counts until it has said this for a while`,
      )
      this.#schedule(state, server, Math.max(1, verdict.again - this.#now()) + JITTER_S * this.#random())
      return
    }
    this.#setProblem(server, undefined)
    server.serial = serial
    state.sets.set(hash, sets)
    state.reported[server.index] = hash
    this.#decide(state)
  }

  #decide(state: SourceState): void {
    const decision = state.quorum.decide(this.#now())
    state.why = decision.why
    for (const hash of state.sets.keys())
      if (hash !== decision.current && !state.reported.includes(hash)) state.sets.delete(hash)
    this.#holdBack(state, decision)
    if (!decision.changed) return
    const sets = state.sets.get(decision.current!)!
    state.hosts = countHosts(sets)
    this.#log.info(
      { source: shownOf(state.source), hosts: state.hosts, servers: state.servers.length, quorum: state.quorum.needed },
      'hosts agreed upon',
    )
    for (const set of sets) this.#delivery.put(set)
  }

  // servers that fail are asked again in their own time
  #holdBack(state: SourceState, { confirm, why }: Decision): void {
    if (!confirm) {
      state.isHeldBack = false
      return
    }
    const wait = Math.max(0, confirm.at - this.#now())
    if (!state.isHeldBack)
      this.#log.warn(
        { source: shownOf(state.source), inSeconds: Math.ceil(wait) },
        `the zone lost hosts (${why}); the set in force stays until the servers confirm it`,
      )
    state.isHeldBack = true
    for (const index of confirm.servers) {
      const server = state.servers[index]!
      if (server.failures > 0) continue
      const soonest = server.lastPolledAt + NOTIFY_S - this.#now()
      this.#schedule(state, server, Math.max(soonest, wait + JITTER_S * this.#random() * Math.min(1, wait / 10) + 0.01))
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#abort.abort()
    for (const { servers } of this.#sources) for (const server of servers) server.stopTimer?.()
    await this.#notify?.stop()
    this.#delivery.stop()
    this.#lookup.stop()
  }
}

async function addressesOf(name: string): Promise<string[]> {
  const found = await systemLookup(name, { all: true })
  return found.map(({ address }) => address)
}

function countHosts(sets: readonly HostSet[]): number {
  return sets.reduce((sum, set) => sum + set.records.length, 0)
}

function shownSource({ local, public: publicName }: { local: string; public: string }): string {
  return `${local}:${publicName}`
}

function shownOf(source: AgentSource): string {
  return shownSource({ local: plainName(source.local), public: plainName(source.public) })
}
