/**
 * The gateway: puts the parts together, starts them in order, and ends them in reverse.
 *
 *   lock ─ tables ─ store ─ mapper ─ peers ─ objects ─ hosts file ─ TUN and sockets ─ host filter ─ plane ─ mapper socket ─ zones, DNS agent, resolver ─ control socket ─ metrics, health
 *
 * All that is known of mappings is in force before packets flow: none is made anew for a packet that came too early. Parts behind the mapper socket that packets do not need are loaded behind it: a start is mostly loading, and packets wait for it (`npm run bench -- start`).
 *
 * Knows every concrete class, and decides nothing about packets. Everything here runs on the main thread.
 *
 * Longer than other files: it is the one list of all parts, of their order, and of who calls whom. What a part does is in its own file.
 */
import { randomBytes, randomFillSync } from 'node:crypto'
import { closeSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type AddressWords,
  bytesFromWords,
  familyOf,
  formatAddress,
  formatPrefix,
  formatWords,
  isUnspecified,
  prefixWords,
  wordsFromBytes,
} from '../ipref/address.ts'
import { Fault, faultNames } from '../ipref/faults.ts'
import { encodeReferences, wordsFromReference } from '../ipref/reference.ts'
import { type Handler, serveControl } from '../runtime/controlSocket.ts'
import type { Logger } from '../runtime/log.ts'
import { answerCheck, answerEncode, type CheckParts } from './checkRequests.ts'
import type { GatewayConfig } from './config.ts'
import { isSameList, ownContextsOf } from './contexts.ts'
import type { PeerReport, StatusReport, TraceReport } from './controlReports.ts'
import { type DeviceSettings, mtuOfAddress, overlapWithHost, removeDevice, wireMtuTo } from './device.ts'
import { DeviceKeeper } from './deviceKeeper.ts'
import type { Agent } from './dns/agent.ts'
import type { LinkEvents } from './dns/agentLink.ts'
import { renderPublishMetrics } from './dns/publishReports.ts'
import { RESOLVER_PORT } from './dns/resolverConfig.ts'
import type { ResolverHost } from './dns/resolverHost.ts'
import { logResolverEvent, renderResolverMetrics } from './dns/resolverReports.ts'
import type { Zones } from './dns/zones.ts'
import { Echoes, type EchoTarget, THE_GATEWAY } from './echoes.ts'
import type { ForwardSettings } from './forward/environment.ts'
import { tunMtuOf } from './forward/mtu.ts'
import { HostFilter } from './hostFilter.ts'
import { KubeHost, type KubeHostPorts } from './kube/host.ts'
import { NodeNetwork } from './kube/nodeNetwork.ts'
import { observationsOf } from './kube/report.ts'
import { UplinkStore } from './kube/uplinkStore.ts'
import type { Assertion } from './mapper/assertions.ts'
import { Mapper } from './mapper/mapper.ts'
import { MapperMessages } from './mapper/mapperSocket.ts'
import { Store, type StoreEvent } from './mapper/store.ts'
import { type PeerEvent, Peers } from './peers/peers.ts'
import { encodeProbe, type ProbeEcho } from './peers/probe.ts'
import { SavedPeers } from './peers/savedPeers.ts'
import { MappingsWriter } from './plane/mappings.ts'
import { PeerTable } from './plane/peerTable.ts'
import { Plane, type PlaneEvent } from './plane/plane.ts'
import { PolicyTable } from './plane/policyTable.ts'
import { MissKind, type Offloads, type TunnelSocket, type WorkerRole } from './plane/protocol.ts'
import type { Ring } from './plane/ring.ts'
import { HostsSource } from './sources/hosts.ts'
import { directionReport, peerReport } from './statusReports.ts'
import { makeEventFd, signalEventFd } from './sys/eventfd.ts'
import { close } from './sys/libc.ts'
import { lockFolder } from './sys/lock.ts'
import { listNft, runNft } from './sys/nft.ts'
import { Poller } from './sys/poller.ts'
import { testOffloads } from './sys/selfTest.ts'
import { SeqpacketServer } from './sys/seqpacket.ts'
import { openTun } from './sys/tun.ts'
import { openTunnelSocket, sendDatagram } from './sys/udp.ts'
import { Tracer } from './trace.ts'

const STATUS_ROWS = 200
const MAPPER_CLIENTS = 64
const MAPPER_MESSAGE = 65536
const RANDOM_WORDS = 256
const POLICY_ENTRIES = 16_384
const DEVICE_CHECK_TICKS = 4
const TICK_MS = 250

/** Settings that may change while packets flow. */
const RELOADABLE = new Set(['decrementTtl', 'gatewayOpen', 'clampMss', 'localNetworks', 'static', 'notes', 'checkOnly'])

export const version: string = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string }
).version

export class Gateway {
  #config: GatewayConfig
  readonly #log: Logger
  readonly #onFatal: () => void
  readonly #ends: (() => void | Promise<void>)[] = []
  readonly #startedAt = performance.now()
  readonly #missesDropped: Record<WorkerRole, Float64Array> = {
    encap: new Float64Array(faultNames.length),
    decap: new Float64Array(faultNames.length),
  }
  readonly #random = new Int32Array(RANDOM_WORDS)
  readonly #probeId = randomBytes(2).readUInt16BE()
  readonly #echoes = new Echoes({
    send: (target, echo, size) => this.#sendEcho(target, echo, size),
    nowMs: () => performance.now(),
  })
  #randomLeft = 0
  #probeSequence = 0
  #device: DeviceKeeper | undefined
  #plane: Plane | undefined
  #mapper!: Mapper
  #store!: Store
  #mappings!: UplinkStore
  #peers!: Peers
  #messages!: MapperMessages
  #filter: HostFilter | undefined
  #policy!: PolicyTable
  #kube: KubeHost | undefined
  #isCarrying = true
  /** our own addresses, as far as anybody knows them */
  #contexts: readonly Uint8Array[]
  #contextProblems: readonly string[] = []
  #hosts: HostsSource | undefined
  #resolver: ResolverHost | undefined
  #zones: Zones | undefined
  #agent: Agent | undefined
  #sockets: TunnelSocket[] = []
  #fileProblems: readonly string[] = []
  #workersDown = new Set<WorkerRole>()
  #isReady = false
  /** milliseconds since the process began, at which each part of the start was done */
  readonly #startMs: Record<string, number> = {}

  /** `onFatal`: the process must be started again, by whoever started it. */
  constructor(config: GatewayConfig, log: Logger, onFatal: () => void) {
    this.#config = config
    this.#contexts = config.contexts
    this.#log = log
    this.#onFatal = onFatal
    this.#done('modules')
  }

  #done(part: 'modules' | 'store' | 'objects' | 'files' | 'device' | 'filter' | 'packets' | 'ready'): void {
    this.#startMs[part] = Math.round(performance.now())
  }

  /** Rejects with a sentence for the person who started it; what was begun is ended then. */
  async start(): Promise<void> {
    try {
      await this.#startParts()
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async #startParts(): Promise<void> {
    const config = this.#config
    const lock = lockFolder(config.dataFolder)
    this.#ends.push(() => lock.release())
    const capacity = { ours: config.maxMappings, theirs: config.maxMappings }
    const mappings = MappingsWriter.allocate(capacity)
    const peers = PeerTable.allocate(config.maxPeers)
    this.#makePeers(new PeerTable(peers, config.maxPeers))
    this.#makeMapper(new MappingsWriter(mappings))
    this.#keepPeers()
    this.#done('store')
    const policy = PolicyTable.allocate(POLICY_ENTRIES)
    this.#policy = new PolicyTable(policy)
    this.#policy.write()
    await this.#openKube()
    this.#done('objects')
    this.#startHosts()
    // the mapper takes sources in turn: the hosts file is in force then, too
    await this.#mapper.setSource('static', config.static)
    this.#done('files')
    if (!config.devmode) await this.#startPlane(mappings, { buffer: peers, capacity: config.maxPeers }, policy)
    const prepared = this.#kube?.prepare()
    // where something else fails first, that is said
    prepared?.catch(() => {})
    this.#startTicks()
    await this.#startMapperSocket()
    await this.#startDns()
    await prepared
    this.#kube?.start()
    const control = await serveControl(config.controlSocket, this.#control)
    this.#ends.push(() => control.close())
    await this.#startPages()
    this.#isReady = true
    this.#done('ready')
    this.#log.info(
      {
        listening: this.#listening(),
        tun: config.devmode ? null : config.tunName,
        mtu: this.#device?.settings.mtu,
        mappings: this.#mapper.countsByOwner(),
        startMs: this.#startMs,
      },
      'gateway started',
    )
  }

  // ---- peers

  #makePeers(table: PeerTable): void {
    const config = this.#config
    const ports = {
      table,
      now: monotonicSeconds,
      nowMs: () => performance.now(),
      sendProbe: (to: AddressWords, port: number, nonce: Uint8Array) => this.#sendProbe(to, port, nonce),
      routeMtu: (to: AddressWords) => wireMtuTo(bytesFromWords(to)),
      onEvent: (event: PeerEvent) => this.#onPeer(event),
    }
    const configured = config.peers.map(({ address, port }) => ({ address: wordsFromBytes(address), port }))
    this.#peers = new Peers(ports, {
      defaultPort: config.remotePort,
      wireMtu: config.wireMtu,
      configured,
      keepsOpen: this.#contexts.length < config.bind.length,
    })
  }

  // before objects name peers: a port that was proved is better than theirs
  #keepPeers(): void {
    const saved = new SavedPeers(join(this.#config.dataFolder, 'peers.json'), this.#peers)
    saved.start()
    this.#ends.push(() => saved.stop())
  }

  #onPeer(event: PeerEvent): void {
    const { what, peer, ...fields } = event
    const level = what === 'unreachable' ? 'warn' : 'info'
    this.#log[level]({ component: 'peers', peer: formatWords(peer), ...fields }, `peer ${what.replace('-', ' ')}`)
  }

  #sendProbe(to: AddressWords, port: number, nonce: Uint8Array): boolean {
    return this.#sendEcho({ context: bytesFromWords(to), reference: THE_GATEWAY, port }, { nonce }, 0)
  }

  #sendEcho(
    { context: theirContext, reference, port }: EchoTarget,
    echo: Omit<ProbeEcho, 'id' | 'sequence'>,
    size: number,
  ): boolean {
    const family = familyOf(theirContext)
    const socket = this.#sockets.find(s => s.family === family)
    if (!socket) return false
    const ourContext = this.#contexts.find(c => c.length === theirContext.length) ?? new Uint8Array(theirContext.length)
    const references = encodeReferences(this.#config.gatewayReference, reference)
    const addressing = {
      family,
      ourContext,
      theirContext,
      ourReference: references.source,
      theirReference: references.destination,
      referenceCode: references.code,
    }
    const numbers = { id: this.#probeId, sequence: ++this.#probeSequence & 0xffff }
    return sendDatagram(
      socket.fd,
      { address: theirContext, port },
      encodeProbe(addressing, { ...numbers, ...echo }, size),
    )
  }

  // ---- mapper and store

  #makeMapper(tables: MappingsWriter): void {
    const config = this.#config
    this.#store = new Store(config.dataFolder, event => this.#onStore(event))
    this.#mappings = new UplinkStore(this.#store)
    const peers = this.#peers
    this.#mapper = new Mapper(
      {
        tables,
        store: this.#mappings,
        filter: { change: (published, withdrawn) => this.#filter?.change(published, withdrawn) ?? Promise.resolve() },
        peers: {
          require: (a0, a1, a2, a3) => peers.require(a0, a1, a2, a3),
          release: n => peers.release(n),
          capacity: config.maxPeers,
        },
        now: monotonicSeconds,
        unixNow: () => Date.now() / 1000,
        random32: () => this.#random32(),
        onProblems: problems => {
          for (const problem of problems) {
            const where = problem.assertion.where
            this.#log.warn(
              { component: 'mapper', owner: problem.owner, ...(where ? { where } : {}), reason: problem.reason },
              problem.detail,
            )
          }
        },
      },
      config,
    )
    let restored = 0
    const begun = performance.now()
    const isBroken = this.#store.open(saved => {
      if (this.#mapper.restore(saved)) restored++
    })
    if (isBroken) this.#mapper.saveAll()
    this.#ends.push(() => this.#store.close())
    if (restored > 0)
      this.#log.info(
        { component: 'store', mappings: restored, ms: Math.round(performance.now() - begun) },
        'mappings restored',
      )
  }

  #random32(): number {
    if (this.#randomLeft === 0) {
      randomFillSync(this.#random)
      this.#randomLeft = RANDOM_WORDS
    }
    return this.#random[--this.#randomLeft]!
  }

  #onStore(event: StoreEvent): void {
    const level = event.what === 'write-recovered' ? 'info' : event.what === 'foreign-files' ? 'warn' : 'error'
    this.#log[level]({ component: 'store' }, event.detail)
  }

  // ---- packets

  async #startPlane(
    mappings: SharedArrayBuffer[],
    peers: { buffer: SharedArrayBuffer; capacity: number },
    policy: SharedArrayBuffer,
  ): Promise<void> {
    const config = this.#config
    const families = config.bind.map(familyOf)
    const wireMtu =
      config.wireMtu ??
      Math.min(
        ...config.bind.map(address => mtuOfAddress(address) ?? (isUnspecified(address) ? 1500 : wireMtuTo(address))),
      )
    const device: DeviceSettings = {
      name: config.tunName,
      mtu: tunMtuOf(
        wireMtu,
        families,
        config.encodingNetworks.map(n => n.family),
      ),
      ownEncoded: config.ownEncoded,
      encodingNetworks: config.encodingNetworks,
    }
    const overlap = overlapWithHost(device)
    if (overlap) throw new Error(overlap)
    const offloads = await this.#chooseOffloads()
    const { tunTso4: tso4, tunTso6: tso6, tunUso4: uso4, tunUso6: uso6 } = offloads
    const tun = openTun({ name: config.tunName, offloads: { tso4, tso6, uso4, uso6 } })
    this.#ends.push(() => closeSync(tun.fd))
    Object.assign(offloads, {
      tunTso4: tun.offloads.tso4,
      tunTso6: tun.offloads.tso6,
      tunUso4: tun.offloads.uso4,
      tunUso6: tun.offloads.uso6,
    })
    const more = { isCarrying: this.#isCarrying, onGone: () => this.#onFatal() }
    this.#device = new DeviceKeeper(device, this.#log, more)
    this.#device.putUp()
    for (const address of config.bind) {
      const { fd, gro } = openTunnelSocket({ address, port: config.port, gro: offloads.udpGro })
      this.#sockets.push({ family: familyOf(address), fd })
      this.#ends.push(() => void close(fd))
      if (!gro) offloads.udpGro = false
    }
    this.#done('device')
    await this.#startFilter()
    this.#done('filter')
    this.#plane = new Plane(
      { tunFd: tun.fd, sockets: this.#sockets, settings: this.#forwardSettings(), offloads, mappings, peers, policy },
      {
        makeWakeFd: makeEventFd,
        wake: signalEventFd,
        onMiss: (role, ring) => this.#onMiss(role, ring),
        onWorker: event => this.#onWorker(event),
      },
    )
    this.#ends.push(() => this.#plane!.stop())
    await this.#plane.start()
    this.#done('packets')
  }

  async #chooseOffloads(): Promise<Offloads> {
    const { tunTso, tunUso, udpGso, udpGro } = this.#config.offloads
    const tested = testOffloads()
    for (const [what, problem] of Object.entries(tested.problems))
      this.#log.warn({ component: 'plane', offload: what }, `offload not used: ${problem}`)
    return {
      tunTso4: tunTso,
      tunTso6: tunTso,
      tunUso4: tunTso && tunUso,
      tunUso6: tunTso && tunUso,
      udpSegment: udpGso && tested.udpSegment,
      udpGro: udpGro && tested.udpGro,
    }
  }

  async #startFilter(): Promise<void> {
    if (this.#config.openHosts) return
    const ports = { nft: runNft, nftList: listNft }
    const filter = new HostFilter(ports, { tun: this.#config.tunName, own: this.#config.ownEncoded.map(formatAddress) })
    try {
      await filter.install(this.#mapper.published())
    } catch (error) {
      throw new Error(
        `${(error as Error).message}\n  without nftables anybody could begin connections to hosts that nobody published; -open-hosts allows that`,
      )
    }
    this.#filter = filter
  }

  #forwardSettings(): ForwardSettings {
    const config = this.#config
    const wordsOf = (addresses: readonly Uint8Array[], length: number) => {
      const address = addresses.find(a => a.length === length)
      return address && Int32Array.from(wordsFromBytes(address))
    }
    return {
      encodingNetworks: config.encodingNetworks.map(prefixWords),
      ownEncoded4: wordsOf(config.ownEncoded, 4),
      ownEncoded6: wordsOf(config.ownEncoded, 16),
      context4: wordsOf(this.#contexts, 4),
      context6: wordsOf(this.#contexts, 16),
      gatewayReference: Int32Array.from(wordsFromReference(config.gatewayReference)),
      decrementTtl: config.decrementTtl,
      probeId: this.#probeId,
      gatewayOpen: config.gatewayOpen,
      localNetworks: config.localNetworks.map(prefixWords),
      clampMss: config.clampMss,
      tunMtu: this.#device!.settings.mtu,
    }
  }

  #onMiss(role: WorkerRole, ring: Ring): 'return' | 'done' {
    const { words } = ring
    const source: AddressWords = [words[11]!, words[12]!, words[13]!, words[14]!]
    switch (ring.kind) {
      case MissKind.native:
        return this.#judge(role, this.#mapper.missNative([words[0]!, words[1]!, words[2]!, words[3]!]))
      case MissKind.remote: {
        const context: AddressWords = [words[0]!, words[1]!, words[2]!, words[3]!]
        const reference: AddressWords = [words[4]!, words[5]!, words[6]!, words[7]!]
        if (!this.#isOwnContext(source)) this.#peers.arrived(source, words[9]!, ring.packetLength)
        return this.#judge(role, this.#mapper.missRemote({ context, reference, family: words[8] === 4 ? 4 : 6 }))
      }
      case MissKind.candidate:
        this.#peers.candidate(words[0]!, words[1]!)
        return 'done'
      case MissKind.probeAnswer: {
        const nonce = new Uint8Array(ring.packetLength)
        ring.takePacket(nonce, 0)
        if (!this.#echoes.answered(nonce)) this.#peers.answered(source, words[9]!, nonce)
        return 'done'
      }
      case MissKind.tooBig:
        this.#peers.routesChanged()
        return 'done'
      case MissKind.pathMtu:
        this.#peers.mtuReported(source, words[0]!)
        return 'done'
      default:
        this.#peers.arrived(source, words[0]!, words[1]!)
        return 'done'
    }
  }

  #isOwnContext(words: AddressWords): boolean {
    const text = formatWords(words)
    return this.#contexts.some(context => formatAddress(context) === text)
  }

  #judge(role: WorkerRole, fault: number): 'return' | 'done' {
    if (fault === Fault.none) return 'return'
    this.#missesDropped[role][fault]! += 1
    return 'done'
  }

  #onWorker(event: PlaneEvent): void {
    const log = this.#log.child({ component: 'plane', worker: event.role })
    if (event.what === 'died') {
      this.#workersDown.add(event.role)
      log.error({ error: String(event.error) }, 'packet worker died; it is started again')
    } else if (event.what === 'offload-off')
      log.warn({ offload: event.offload, errno: event.errno }, 'the kernel refused an offload; going on without it')
    else {
      this.#workersDown.delete(event.role)
      if (event.what === 'restarted') log.warn('packet worker runs again')
    }
  }

  // ---- ticks

  #startTicks(): void {
    let ticks = 0
    const timer = setInterval(() => {
      this.#peers.tick()
      if (++ticks % DEVICE_CHECK_TICKS !== 0) return
      this.#mapper.tick()
      this.#device?.check()
    }, TICK_MS)
    this.#ends.push(() => clearInterval(timer))
  }

  // ---- sources

  #startHosts(): void {
    const hosts = new HostsSource(this.#config.hostsFile, {
      onAssertions: assertions => void this.#setHosts(assertions),
      onProblems: problems => {
        this.#fileProblems = problems
        for (const problem of problems) this.#log.error({ component: 'hosts' }, problem)
        if (problems.length === 0)
          this.#log.info({ component: 'hosts' }, `${this.#config.hostsFile}: no errors any more`)
      },
    })
    this.#hosts = hosts
    hosts.start()
    this.#ends.push(() => hosts.stop())
  }

  async #setHosts(assertions: Assertion[]): Promise<void> {
    try {
      const problems = await this.#mapper.setSource('hosts', assertions)
      this.#log.info(
        {
          component: 'hosts',
          file: this.#config.hostsFile,
          mappings: assertions.length - problems.length,
          problems: problems.length,
        },
        'hosts file read',
      )
    } catch (error) {
      this.#log.error({ component: 'hosts' }, (error as Error).message)
    }
  }

  async #startMapperSocket(): Promise<void> {
    const config = this.#config
    const tunnelFamilies = config.bind.length > 0 ? config.bind.map(familyOf) : [4, 6]
    this.#messages = new MapperMessages({
      encodedFor: wanted => this.#mapper.encodedFor(wanted),
      setSource: (owner, assertions) =>
        this.#mapper
          .setSource(owner, assertions)
          .catch(error => this.#log.error({ component: 'mapper' }, (error as Error).message)),
      encodedFamilies: config.encodingNetworks.map(n => n.family),
      tunnelFamilies,
    })
    const poller = new Poller()
    this.#ends.push(() => poller.close())
    const server = await SeqpacketServer.listen({
      path: config.mapperSocket,
      mode: 0o660,
      maxClients: MAPPER_CLIENTS,
      maxMessage: MAPPER_MESSAGE,
      poller,
      onMessage: (connection, message) => {
        void this.#messages.handle(message, connection).then(answer => answer && connection.send(answer))
      },
      onClosed: connection => this.#messages.left(connection),
    })
    this.#ends.push(() => {
      this.#messages.stop()
      server.close()
    })
  }

  // ---- objects of a cluster

  async #openKube(): Promise<void> {
    const config = this.#config
    const { kube, bind } = config
    if (!kube) return
    this.#kube = await KubeHost.open(
      {
        kube,
        dataFolder: config.dataFolder,
        encodingNetworks: config.encodingNetworks,
        tunnelFamilies: bind.length > 0 ? bind.map(familyOf) : [4, 6],
        publicAddresses: config.contexts.map(formatAddress),
        tunName: config.tunName,
        tunnelPort: config.port,
        resolverPort: config.resolver?.listen[0]?.port ?? RESOLVER_PORT,
      },
      {
        log: this.#log,
        mapper: this.#mapper,
        mappings: this.#mappings,
        durable: () => this.#store.durable(),
        policy: this.#policy,
        peers: this.#peers,
        nodeNetwork: config.devmode ? undefined : new NodeNetwork(),
        setContexts: published => this.#setContexts(published),
        setRouting: routing => this.#resolver?.setRouting(routing),
        forgetMappings: () => this.#resolver?.forgetMappings(),
        setCarrying: isCarrying => {
          this.#isCarrying = isCarrying
          this.#device?.setCarrying(isCarrying)
        },
        observe: () => this.#observe(),
      },
    )
    this.#ends.push(() => this.#kube!.stop())
  }

  // packets that are on the way keep the one they were given
  #setContexts(published: readonly string[]): void {
    const { contexts, problems } = ownContextsOf(this.#config.contexts, published)
    for (const problem of problems)
      if (!this.#contextProblems.includes(problem)) this.#log.warn({ component: 'kube' }, problem)
    this.#contextProblems = problems
    if (isSameList(contexts, this.#contexts)) return
    this.#contexts = contexts
    this.#log.info({ component: 'kube', contexts: contexts.map(formatAddress) }, 'our own addresses')
    this.#peers.setKeepsOpen({ isNeeded: contexts.length < this.#config.bind.length })
    void this.#mapper
      .setContexts(contexts)
      .catch(error => this.#log.error({ component: 'mapper' }, (error as Error).message))
    this.#plane?.reload(this.#forwardSettings())
  }

  #observe(): ReturnType<KubeHostPorts['observe']> {
    return {
      version,
      nodeAddresses: this.#config.bind.filter(address => !isUnspecified(address)).map(formatAddress),
      publicAddresses: this.#contexts.map(formatAddress),
      tunMtu: this.#device?.settings.mtu,
      offloads: Object.entries(this.#plane?.offloads ?? {}).flatMap(([name, isOn]) => (isOn ? [name] : [])),
      peers: observationsOf(this.#peers.status(), Date.now()),
      unready: this.#unreadyParts(),
    }
  }

  // ---- names

  async #startDns(): Promise<void> {
    const { resolver, zones, shortcut, contexts, dataFolder } = this.#config
    if (zones) {
      const { Zones } = await import('./dns/zones.ts')
      const server = new Zones(zones, this.#log, dataFolder, zone => this.#agent?.zoneChanged(zone))
      this.#ends.push(() => server.stop())
      await server.start()
      this.#zones = server
    }
    await this.#startAgent()
    if (!resolver) return
    const { ResolverHost } = await import('./dns/resolverHost.ts')
    const host = new ResolverHost(
      resolver,
      {
        onEvent: event => logResolverEvent(this.#log, event),
        ...(shortcut ? { native: wanted => this.#mapper.nativeOf(wanted) } : {}),
        whyRefused: wanted => {
          const found = this.#mapper.encodedFor(wanted)
          return 'refused' in found ? found.refused : 'the store did not write it in time'
        },
      },
      contexts,
    )
    this.#ends.push(() => host.stop())
    if (this.#kube) host.setRouting(this.#kube.routing)
    await host.start()
    this.#resolver = host
  }

  // after the zone server, from which it may transfer
  async #startAgent(): Promise<void> {
    const config = this.#config.agent
    if (!config) return
    const { Agent } = await import('./dns/agent.ts')
    const { joinMapper } = await import('./dns/agentLink.ts')
    const poller = new Poller()
    this.#ends.push(() => poller.close())
    const link = (events: LinkEvents) => joinMapper(message => this.#messages.handle(message), events)
    const agent = new Agent(config, { link, poller, log: this.#log })
    this.#ends.push(() => agent.stop())
    await agent.start()
    this.#agent = agent
  }

  // ---- what people and machines ask

  readonly #control: Handler = request => {
    if (request.do === 'status') return this.status()
    if (request.do === 'trace') return this.trace(request)
    if (request.do === 'check') return answerCheck(request, this.#checkParts)
    if (request.do === 'encode') return answerEncode(request, this.#checkParts)
    if (request.do === 'crash-worker' && process.env.IPREF_TEST === '1') {
      this.#plane?.crash(request.role === 'decap' ? 'decap' : 'encap')
      return 'crashed'
    }
    throw new Error(`unknown request ${JSON.stringify(request.do)}`)
  }

  async #startPages(): Promise<void> {
    const { metrics: metricsAt, health: healthAt } = this.#config
    const { Metrics } = await import('./metrics.ts')
    const { healthPages, metricsPage, servePages } = await import('../runtime/http.ts')
    const metrics = new Metrics({
      stats: role => this.#plane?.stats(role),
      restarts: role => this.#plane?.restarts(role) ?? 0,
      missesDropped: this.#missesDropped,
      offloads: () => ({ ...this.#plane?.offloads }),
      mappings: () => this.#mapper.countsByOwner(),
      mappingCapacity: this.#config.maxMappings,
      mapperCounts: () => this.#mapper.counts,
      peers: () => {
        const rows = this.#peers.status()
        return { verified: rows.filter(row => row.verified).length, all: rows.length, evicted: this.#peers.evicted }
      },
      socket: () => this.#messages.counts,
      store: () => this.#store,
      problems: () => this.#mapper.problems().length + this.#fileProblems.length,
      hostFilterDrops: () => this.#filter?.droppedPackets() ?? Promise.resolve(0),
    })
    this.#ends.push(() => metrics.stop())
    if (metricsAt) {
      const render = async () =>
        (await metrics.render()) +
        this.#resolverMetrics() +
        renderPublishMetrics(this.#zones?.counts(), this.#agent?.counts()) +
        (this.#kube?.metrics() ?? '')
      const server = await servePages(metricsAt, metricsPage(render))
      this.#ends.push(() => server.close())
    }
    if (healthAt) {
      const server = await servePages(
        healthAt,
        healthPages(() => this.#unready()),
      )
      this.#ends.push(() => server.close())
    }
  }

  #resolverMetrics(): string {
    const resolver = this.#resolver
    return resolver ? renderResolverMetrics(name => resolver.stat(name), resolver.restarts) : ''
  }

  /** Why the gateway does not do its whole work; empty: it does. */
  #unready(): string[] {
    return [...this.#unreadyParts(), ...(this.#kube?.unready ?? [])]
  }

  #unreadyParts(): string[] {
    const reasons: string[] = []
    if (!this.#isReady) reasons.push('starting')
    for (const role of this.#workersDown) reasons.push(`the ${role} worker is down`)
    if (this.#device?.trouble) reasons.push(this.#device.trouble)
    if (this.#store.failing) reasons.push('the mapping store cannot be written')
    if (this.#resolver?.unready) reasons.push(this.#resolver.unready)
    return reasons
  }

  #listening(): string[] {
    return this.#config.bind.map(a =>
      a.length === 4 ? `${formatAddress(a)}:${this.#config.port}` : `[${formatAddress(a)}]:${this.#config.port}`,
    )
  }

  status(): StatusReport {
    const config = this.#config
    const rows = this.#mapper.rows(STATUS_ROWS + 1)
    const plane = this.#plane
    const directionOf = (role: WorkerRole) => directionReport(plane!.stats(role), this.#missesDropped[role])
    return {
      version,
      uptimeSeconds: Math.floor((performance.now() - this.#startedAt) / 1000),
      tun: this.#device ? { name: this.#device.settings.name, mtu: this.#device.settings.mtu } : null,
      encodingNetworks: config.encodingNetworks.map(formatPrefix),
      contexts: this.#contexts.map(formatAddress),
      listening: this.#listening(),
      workers: plane
        ? (['encap', 'decap'] as const).map(role => ({
            role,
            running: !this.#workersDown.has(role),
            restarts: plane.restarts(role),
          }))
        : [],
      offloads: { ...plane?.offloads },
      mappings: {
        counts: this.#mapper.countsByOwner(),
        capacity: config.maxMappings,
        rows: rows.slice(0, STATUS_ROWS),
        truncated: rows.length > STATUS_ROWS,
      },
      peers: this.#peers.status().map(peerReport),
      uplink: this.#kube?.describeUplink() ?? null,
      traffic: plane ? { encap: directionOf('encap'), decap: directionOf('decap') } : null,
      problems: [
        ...this.#unreadyParts(),
        ...this.#fileProblems,
        ...(this.#zones?.problems ?? []),
        ...(this.#kube?.problems ?? []),
        ...this.#contextProblems,
        ...(this.#agent?.problems ?? []),
        ...this.#mapper.problems().map(p => (p.assertion.where ? `${p.assertion.where}: ${p.detail}` : p.detail)),
      ],
    }
  }

  /** `{ address }` or `{ name }`. */
  trace({ address, name }: Record<string, unknown>): Promise<TraceReport> {
    const tracer = new Tracer({
      config: () => ({ ...this.#config, contexts: this.#contexts }),
      describe: of => this.#mapper.describe(of),
      carrierOf: of => this.#kube?.carrierOf(of),
      storeFailing: () => this.#store.failing,
      peer: context => this.#peerReport(context),
      measure: context => new Promise(resolve => this.#peers.measure(wordsFromBytes(context), resolve)),
      resolver: () => this.#resolver,
    })
    return name === undefined ? tracer.address(String(address)) : tracer.name(String(name))
  }

  #peerReport(context: Uint8Array): PeerReport | undefined {
    const peer = this.#peers.status().find(p => formatWords(p.address) === formatAddress(context))
    return peer && peerReport(peer)
  }

  get #checkParts(): CheckParts {
    return {
      config: this.#config,
      contexts: () => this.#contexts,
      mapper: this.#mapper,
      peers: this.#peers,
      peer: context => this.#peerReport(context),
      kube: this.#kube,
      echoes: this.#echoes,
      listening: () => this.#listening(),
      unready: () => this.#unready(),
      filterTable: this.#filter?.tableName,
    }
  }

  // ---- end

  /**
   * Takes over what may change while packets flow: what passes, static mappings, the hosts file. undefined: the new configuration
   * is wrong, the old one stays. Everything else needs a restart, and is named.
   */
  reload(next: GatewayConfig | undefined): void {
    this.#hosts?.read()
    if (!next) return
    const needRestart = Object.entries(next).filter(
      ([key, value]) => !RELOADABLE.has(key) && asText(value) !== asText(this.#config[key as keyof GatewayConfig]),
    )
    if (needRestart.length > 0)
      this.#log.warn({ settings: needRestart.map(([key]) => key) }, 'changed, but in force only after a restart')
    const { decrementTtl, gatewayOpen, clampMss, localNetworks } = next
    this.#config = Object.freeze({
      ...this.#config,
      decrementTtl,
      gatewayOpen,
      clampMss,
      localNetworks,
      static: next.static,
    })
    this.#plane?.reload(this.#forwardSettings())
    void this.#mapper
      .setSource('static', next.static)
      .catch(error => this.#log.error({ component: 'mapper' }, (error as Error).message))
    this.#log.info('configuration read again')
  }

  /** TUN device, addresses, routes and the nftables table stay (decisions.md 12), unless the gateway was released. */
  async stop(): Promise<void> {
    this.#isReady = false
    const leaves = this.#kube?.isReleased === true && this.#device !== undefined
    // packets go on while the cluster is told
    await this.#kube?.stop().catch(error => this.#log.warn({ error: (error as Error).message }, 'while ending'))
    for (const end of this.#ends.splice(0).reverse()) {
      try {
        await end()
      } catch (error) {
        this.#log.warn({ error: (error as Error).message }, 'while ending')
      }
    }
    if (!leaves) return
    for (const problem of await removeDevice(this.#config.tunName)) this.#log.warn({ component: 'device' }, problem)
  }
}

function monotonicSeconds(): number {
  return process.hrtime()[0]
}

function asText(value: unknown): string {
  return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? inner.toString() : inner)) ?? ''
}
