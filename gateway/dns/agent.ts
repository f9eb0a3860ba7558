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
import { Type } from '../../dns/constants.ts'
import { stringsOf } from '../../dns/message.ts'
import {
  countLabels,
  formatName,
  joinNames,
  labelsOf,
  lowerName,
  type Name,
  nameOfLabels,
  parseName,
} from '../../dns/name.ts'
import { transferZone } from '../../dns/transfer.ts'
import { parseAaRecord } from '../../ipref/aaRecord.ts'
import { parseAddress } from '../../ipref/address.ts'
import { compareHosts, type HostRecord, hashHosts } from '../../ipref/hostSetHash.ts'
import type { Logger } from '../../runtime/log.ts'
import { isContext } from '../mapper/assertions.ts'
import type { Poller } from '../sys/poller.ts'
import type { AgentConfig, AgentServer, AgentSource } from './agentConfig.ts'
import { type HostSet, type LinkEvents, type MapperLink, SetDelivery } from './agentLink.ts'
import { type Looked, Lookup, plainName } from './lookup.ts'
import { NotifyListener } from './notifyListener.ts'
import type { AgentCounts } from './publishReports.ts'
import { Quorum } from './quorum.ts'
import { readHosts, readResolvers } from './systemNames.ts'
import type { UpstreamServer } from './upstreams.ts'

const FIRST_RETRY_S = 5
const NOTIFY_S = 5
/** Local addresses are asked for once for all servers that are polled at about the same time. */
const LOOKUP_KEPT_MS = 10_000
/** Names of a large zone that are dealt with before others have their turn: primaries do not wait long for a reader. */
const CHUNK = 2000
const SPREAD = 0.2
const JITTER_S = 2

interface AaEntry {
  /** first label of the owner, lower case */
  label: string
  context: Uint8Array | Name
  reference: bigint
}

interface ServerState {
  readonly server: AgentServer
  readonly index: number
  failures: number
  timer: NodeJS.Timeout | undefined
  dueAt: number
  isPolling: boolean
  pollAgain: boolean
  lastPolledAt: number
  problem: string | undefined
  serial: number | undefined
}

interface SourceState {
  readonly source: AgentSource
  readonly servers: ServerState[]
  readonly quorum: Quorum
  /** sets by hash: those that a server reported last, and the current one */
  readonly sets: Map<string, HostSet[]>
  readonly reported: (string | undefined)[]
  /** what a local name had when it was last known */
  readonly known: Map<string, Uint8Array[]>
  readonly lookups: Map<string, { at: number; found: Promise<Looked> }>
  why: string
  hosts: number
  confirmTimer: NodeJS.Timeout | undefined
}

export interface AgentPorts {
  link(events: LinkEvents): MapperLink
  poller: Poller
  log: Logger
  /** /etc/hosts and /etc/resolv.conf; tests have their own */
  hostsFile?: string
  resolvFile?: string
  /** seconds, monotonic */
  now?(): number
  /** 0 to 1 */
  random?(): number
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
  readonly #lookup: Lookup
  readonly #now: () => number
  readonly #random: () => number
  readonly #abort = new AbortController()
  #notify: NotifyListener | undefined
  readonly #counts = { transfers: 0, transfersFailed: 0 }
  #stopped = false

  constructor(config: AgentConfig, ports: AgentPorts) {
    this.#config = config
    this.#ports = ports
    this.#log = ports.log.child({ component: 'dns-agent' })
    this.#now = ports.now ?? (() => performance.now() / 1000)
    this.#random = ports.random ?? Math.random
    this.#lookup = new Lookup(ports.poller)
    this.#sources = config.sources.map(source => ({
      source,
      servers: source.servers.map((server, index) => ({
        server,
        index,
        failures: 0,
        timer: undefined,
        dueAt: 0,
        isPolling: false,
        pollAgain: false,
        lastPolledAt: Number.NEGATIVE_INFINITY,
        problem: undefined,
        serial: undefined,
      })),
      quorum: new Quorum(source.servers.length, config.holdDownSeconds),
      sets: new Map(),
      reported: source.servers.map(() => undefined),
      known: new Map(),
      lookups: new Map(),
      why: 'no server has reported yet',
      hosts: 0,
      confirmTimer: undefined,
    }))
    this.#delivery = new SetDelivery(ports.link, {
      pollSeconds: config.pollSeconds,
      onEvent: ({ what, set, ms }) => {
        const fields = { source: shownSource(set), hosts: set.records.length }
        if (what === 'acknowledged') this.#log.info({ ...fields, ms: Math.round(ms) }, 'the mapper has the hosts')
        else this.#log.warn(fields, 'the mapper does not have the hosts any more; handing them over again')
      },
      onUp: () => this.#log.info('connected to the mapper'),
      onDown: why => this.#log.warn(`no mapper: ${why}`),
    })
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
    if (server.timer && server.dueAt <= dueAt) return
    clearTimeout(server.timer)
    server.dueAt = dueAt
    server.timer = setTimeout(() => {
      server.timer = undefined
      void this.#poll(state, server)
    }, inSeconds * 1000)
  }

  /** A zone that is served in this process has new content: no server need say so. */
  zoneChanged(zone: Name): void {
    for (const state of this.#sources) {
      const { source, servers, lookups } = state
      if (source.local === zone) lookups.clear()
      else if (source.public !== zone) continue
      for (const server of servers) this.#soon(state, server)
    }
  }

  #notified(zone: Name, from: string): boolean {
    let isOurs = false
    for (const state of this.#sources) {
      if (state.source.public !== lowerName(zone)) continue
      for (const server of state.servers) {
        if (server.server.host !== from) continue
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
      const problem = (error as Error).message
      if (problem !== server.problem) this.#log.warn({ failures: server.failures }, problem)
      server.problem = problem
      const backOff = Math.min(this.#config.pollSeconds, FIRST_RETRY_S * 2 ** Math.min(10, server.failures - 1))
      this.#schedule(state, server, backOff * (0.5 + this.#random()))
    } finally {
      server.isPolling = false
      if (server.pollAgain) this.#schedule(state, server, NOTIFY_S)
      server.pollAgain = false
    }
  }

  async #transfer(state: SourceState, server: ServerState): Promise<void> {
    const { source } = state
    const entries: AaEntry[] = []
    const digest = new Uint32Array(2)
    const host = parseAddress(server.server.host)
      ? server.server.host
      : (await systemLookup(server.server.host)).address
    const { serial } = await transferZone({
      server: { host, port: server.server.port },
      zone: source.public,
      key: this.#config.keys[0],
      signal: this.#abort.signal,
      onRecord: record => {
        if (record.type !== Type.TXT) return
        const label = labelOf(record.name, source.public)
        if (label === undefined) return
        for (const text of stringsOf(record.data)) {
          const entry = entryOf(label, text)
          if (!entry) continue
          entries.push(entry)
          addTo(digest, `${label} ${text}`)
        }
      },
    })
    const zone = `${entries.length} ${digest[0]} ${digest[1]}`
    const sets = await this.#setsOf(state, entries, {
      text: server.server.text,
      address: parseAddress(host)!,
      port: server.server.port,
    })
    if (this.#stopped) return
    const hash = sets.map(set => set.hash.toString(16)).join()
    const hosts = sets.reduce((sum, set) => sum + set.records.length, 0)
    const verdict = state.quorum.report(server.index, { serial, zone, hash, hosts }, this.#now())
    if (verdict.what === 'doubted') {
      const problem = `${formatName(source.public)} from ${server.server.text}: ${verdict.why}; what it said before counts until it says this again`
      if (problem !== server.problem) this.#log.warn(problem)
      server.problem = problem
      this.#schedule(state, server, Math.max(1, verdict.again - this.#now()) + JITTER_S * this.#random())
      return
    }
    server.problem = undefined
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
    if (decision.confirmAt !== undefined) {
      clearTimeout(state.confirmTimer)
      const wait = Math.max(0, decision.confirmAt - this.#now())
      this.#log.warn(
        { source: shownOf(state.source), inSeconds: Math.ceil(wait) },
        `the zone lost hosts (${decision.why}); the set in force stays until the servers confirm it`,
      )
      for (const server of state.servers)
        this.#schedule(state, server, wait + 0.05 + JITTER_S * this.#random() * Math.min(1, wait))
    }
    if (!decision.changed) return
    const sets = state.sets.get(decision.current!)!
    state.hosts = sets.reduce((sum, set) => sum + set.records.length, 0)
    this.#log.info(
      { source: shownOf(state.source), hosts: state.hosts, servers: state.servers.length, quorum: state.quorum.needed },
      'hosts agreed upon',
    )
    for (const set of sets) this.#delivery.put(set)
  }

  // ---- names to addresses

  async #setsOf(state: SourceState, entries: readonly AaEntry[], zoneServer: UpstreamServer): Promise<HostSet[]> {
    const { encodedFamilies, contextFamilies } = this.#config
    const labels = [...new Set(entries.map(entry => entry.label))]
    const contextNames = [...new Set(entries.flatMap(e => (typeof e.context === 'string' ? [e.context] : [])))]
    const sets: HostSet[] = []
    const hostsFile = readHosts(this.#ports.hostsFile ?? '/etc/hosts')
    const resolvers =
      this.#config.resolvers.length > 0
        ? this.#config.resolvers
        : readResolvers(this.#ports.resolvFile ?? '/etc/resolv.conf')
    for (const family of encodedFamilies) {
      const natives = await this.#nativesOf(state, labels, family, hostsFile, resolvers)
      for (const tunnelFamily of contextFamilies) {
        const contexts = await this.#contextsOf(contextNames, tunnelFamily, zoneServer)
        const records: HostRecord[] = []
        for (const { label, context, reference } of entries) {
          const native = natives.get(label)
          if (!native || reference === 0n) continue
          const list = typeof context === 'string' ? (contexts.get(context) ?? []) : [context]
          for (const one of list)
            if (one.length === (tunnelFamily === 4 ? 4 : 16) && isContext(one))
              records.push({ native, context: one, reference })
        }
        await breathe()
        records.sort(compareHosts)
        await breathe()
        const unique = records.filter((record, i) => i === 0 || compareHosts(record, records[i - 1]!) !== 0)
        const names = { local: plainName(state.source.local), public: plainName(state.source.public) }
        sets.push({ ...names, encodedFamily: family, tunnelFamily, hash: hashHosts(unique), records: unique })
      }
    }
    return sets
  }

  // a lookup that failed is a doubt: what was known of that host stays; when nothing could be looked up, the whole transfer is worth nothing
  async #nativesOf(
    state: SourceState,
    labels: readonly string[],
    family: 4 | 6,
    hostsFile: ReadonlyMap<string, Uint8Array[]>,
    resolvers: readonly UpstreamServer[],
  ): Promise<Map<string, Uint8Array>> {
    const natives = new Map<string, Uint8Array>()
    const now = performance.now()
    for (const [key, { at }] of state.lookups) if (now - at > LOOKUP_KEPT_MS) state.lookups.delete(key)
    let [asked, failed] = [0, 0]
    const length = family === 4 ? 4 : 16
    const use = (label: string, key: string, found: Uint8Array[]) => {
      const right = found.filter(address => address.length === length).sort((a, b) => Buffer.compare(a, b))
      state.known.set(key, right)
      if (right[0]) natives.set(label, right[0])
    }
    const find = async (label: string) => {
      const name = joinNames(nameOfLabels([label])!, state.source.local)
      if (name === undefined) return
      const key = `${family} ${label}`
      const written = hostsFile.get(plainName(name).toLowerCase())?.filter(address => address.length === length)
      if (written && written.length > 0) return use(label, key, written)
      let lookup = state.lookups.get(key)
      if (!lookup) {
        const asking = resolvers.length > 0 ? this.#lookup.addresses(name, family, resolvers) : Promise.resolve([])
        lookup = { at: now, found: asking }
        state.lookups.set(key, lookup)
      }
      asked++
      const found = await lookup.found
      if (found !== 'failed') return use(label, key, found)
      failed++
      state.lookups.delete(key)
      const known = state.known.get(key)
      if (known?.[0]) natives.set(label, known[0])
    }
    const finds: Promise<void>[] = []
    for (let at = 0; at < labels.length; at += CHUNK) {
      for (const label of labels.slice(at, at + CHUNK)) finds.push(find(label))
      await breathe()
    }
    await Promise.all(finds)
    if (asked > 0 && failed === asked)
      throw new Error(
        `none of the names below ${formatName(state.source.local)} could be looked up: ${resolvers.length === 0 ? 'there is no resolver' : `${resolvers.map(r => r.text).join(', ')} did not answer`}`,
      )
    return natives
  }

  // asked of the server that the zone came from: a special resolver would answer with an encoded address
  async #contextsOf(
    names: readonly Name[],
    family: 4 | 6,
    zoneServer: UpstreamServer,
  ): Promise<Map<Name, Uint8Array[]>> {
    const contexts = new Map<Name, Uint8Array[]>()
    await Promise.all(
      names.map(async name => {
        const found = await this.#lookup.addresses(name, family, [zoneServer])
        if (found === 'failed')
          throw new Error(`the address of ${formatName(name)} could not be looked up at ${zoneServer.text}`)
        contexts.set(name, found)
      }),
    )
    return contexts
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#abort.abort()
    for (const state of this.#sources) {
      clearTimeout(state.confirmTimer)
      for (const server of state.servers) clearTimeout(server.timer)
    }
    await this.#notify?.stop()
    this.#delivery.stop()
    this.#lookup.stop()
  }
}

function breathe(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

function shownSource({ local, public: publicName }: { local: string; public: string }): string {
  return `${local}:${publicName}`
}

function shownOf(source: AgentSource): string {
  return shownSource({ local: plainName(source.local), public: plainName(source.public) })
}

// the zone itself is no host, and a wildcard names none
function labelOf(owner: Name, zone: Name): string | undefined {
  if (countLabels(owner) <= countLabels(zone)) return undefined
  const label = lowerName(labelsOf(owner)[0]!)
  return label === '*' ? undefined : label
}

function entryOf(label: string, text: string): AaEntry | undefined {
  const record = parseAaRecord(text)
  if (typeof record !== 'object') return undefined
  if ('context' in record) return { label, context: record.context, reference: record.reference }
  const name = parseName(record.name)
  return name && countLabels(name) > 1 ? { label, context: lowerName(name), reference: record.reference } : undefined
}

// sums of two hashes of each line: the same for every order
function addTo(digest: Uint32Array, line: string): void {
  let [a, b] = [0x811c9dc5, 0x9747b28c]
  for (let i = 0; i < line.length; i++) {
    const c = line.charCodeAt(i)
    a = Math.imul(a ^ c, 0x01000193)
    b = Math.imul(b + c, 0x5bd1e995) ^ (b >>> 15)
  }
  digest[0]! += a >>> 0
  digest[1]! += b >>> 0
}
