/**
 * The resolver's thread: waits in ppoll, takes queries in batches, answers from memory at once, and hands the rest to the Resolver. No libuv, no promise;
 * TCP is the main thread's (resolverHost.ts), for there is little of it.
 *
 *   ppoll ──► [eventfd: TCP, native addresses] ──► [upstream sockets] ──► [mapper socket] ──► [listening sockets] ──► send all ──┐
 *     ▲──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 */
import { randomFillSync } from 'node:crypto'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { Flag, Opcode, Rcode, servicePorts } from '../../dns/constants.ts'
import { HEADER, MAX_MESSAGE } from '../../dns/message.ts'
import { Scan, type ScannedQuery, scanQuery, skipName } from '../../dns/packet.ts'
import { Arena } from '../sys/arena.ts'
import { DatagramReceiver, DatagramSender, NAME_BYTES, setQueues } from '../sys/datagrams.ts'
import { drainEventFd } from '../sys/eventfd.ts'
import { AF_INET, MSG_DONTWAIT, POLLFD, POLLIN, POLLOUT, SOCKADDR } from '../sys/layouts.ts'
import { close, ppoll, recv } from '../sys/libc.ts'
import { dialSeqpacket } from '../sys/seqpacket.ts'
import { Access, AccessList, budgetKey, MOST_RATIO, NewNameBudget } from './access.ts'
import { MapperClient } from './mapperClient.ts'
import { type NameTracePorts, traceName } from './nameTrace.ts'
import { type Asker, Resolver, type ResolverPorts } from './resolver.ts'
import {
  type FromWorker,
  type ResolverSetup,
  type ResolverStat,
  resolverStats,
  type ToWorker,
} from './resolverProtocol.ts'
import type { Routing } from './routes.ts'
import { MOST_UDP } from './upstreamAnswers.ts'
import { UpstreamSockets } from './upstreamSockets.ts'
import { Upstreams } from './upstreams.ts'

const SLOTS = 128
const QUERY_BYTES = 1024
const ANSWER_BYTES = 1280
const MAPPER_SLOTS = 128
const MAPPER_BYTES = 512
const MAPPER_QUEUE_BYTES = 2 << 20
const RECONNECT_MS = [50, 250, 1000, 2000] as const
const LONGEST_WAIT_MS = 500
const MOST_POLLED = 128
const RANDOM_WORDS = 4096
const ARENA_BYTES = 8 << 20
const NEW_NAMES_BURST = 20_000
const NEW_NAMES_PER_SECOND = 1000

const setup = workerData as ResolverSetup
const port = parentPort!

class ResolverWorker {
  readonly arena = new Arena(ARENA_BYTES)
  readonly receiver = new DatagramReceiver(this.arena, SLOTS, QUERY_BYTES)
  readonly answers = setup.sockets.map(({ fd }) => ({
    fd,
    sender: new DatagramSender(this.arena, SLOTS, ANSWER_BYTES),
  }))
  readonly fromMapper = this.arena.allocate(MAPPER_BYTES)
  readonly toMapper = new DatagramSender(this.arena, MAPPER_SLOTS, MAPPER_BYTES, false)
  readonly poll = this.arena.allocate(MOST_POLLED * POLLFD.size)
  readonly timeout = this.arena.allocate(16)
  readonly stats = new Float64Array(setup.stats)
  readonly random = new Int32Array(RANDOM_WORDS)
  access = new AccessList(setup.allow, setup.rateLimit)
  readonly scan: ScannedQuery = { questionEnd: 0, type: 0, class: 0, variant: 0, payloadSize: 0 }
  readonly sockets: UpstreamSockets
  readonly upstreams: Upstreams
  readonly mapper: MapperClient
  readonly resolver: Resolver
  readonly #ports: Omit<ResolverPorts, 'budget' | 'now'>
  #randomLeft = 0
  nowMs = performance.now()
  second = Math.floor(this.nowMs / 1000)
  #stopping = false
  // mapper
  #mapperFd = -1
  #mapperRetryAt = 0
  #mapperTries = 0
  #isMapperDownTold = false
  #mapperBacklog: Uint8Array[] = []
  // main thread
  readonly #tcpOpen = new Map<number, (answer: Uint8Array | undefined) => void>()
  readonly #nativeOpen = new Map<number, (address: Uint8Array | undefined) => void>()
  #nextAsk = 0
  readonly own = {
    access: 0,
    limited: 0,
    hits: 0,
    receives: 0,
    sends: 0,
    fastNoerror: 0,
    fast: {} as Record<number, number>,
  }

  constructor() {
    this.sockets = new UpstreamSockets(this.arena, [...setup.upstreams, ...setup.forwarders], () => this.random32())
    this.upstreams = new Upstreams({
      choose: server => this.sockets.choose(server),
      send: (number, server, message) => this.sockets.send(number, server, message),
      askTcp: (server, bytes, done) => {
        const id = ++this.#nextAsk
        this.#tcpOpen.set(id, done)
        tell({ what: 'ask-tcp', id, server, bytes })
      },
      now: () => this.nowMs,
      random32: () => this.random32(),
    })
    this.mapper = new MapperClient(
      message => this.#sendMapper(message),
      () => this.nowMs,
    )
    this.#ports = {
      upstreams: this.upstreams,
      upstreamServers: setup.upstreams.map(server => this.upstreams.makeState(server)),
      forwarders: setup.forwarders.map(server => this.upstreams.makeState(server)),
      mapper: (wanted, done) => this.mapper.ask(wanted, done),
      native: ({ family, reference }, done) => {
        const id = ++this.#nextAsk
        this.#nativeOpen.set(id, done)
        tell({ what: 'ask-native', id, family, reference })
      },
    }
    this.resolver = new Resolver(setup, {
      ...this.#ports,
      budget: new NewNameBudget(NEW_NAMES_BURST, NEW_NAMES_PER_SECOND),
      now: () => this.second,
    })
    this.#setRouting(setup.routing)
  }

  #setRouting(routing: Routing): void {
    const { routes, uplink, allow } = routing
    try {
      this.sockets.serve([...uplink, ...routes.flatMap(route => [...route.upstreams, ...route.forwarders])])
    } catch {
      // a host without that IP version: whoever is asked over it does not answer
    }
    this.access = new AccessList([...setup.allow, ...allow], setup.rateLimit)
    this.resolver.setRouting(routing)
  }

  random32(): number {
    if (this.#randomLeft === 0) {
      randomFillSync(this.random)
      this.#randomLeft = RANDOM_WORDS
    }
    return this.random[--this.#randomLeft]!
  }

  #receiveUpstream(number: number): void {
    this.sockets.receive(number, (bytes, sender) => this.upstreams.onDatagram(number, bytes, sender))
  }

  // ---- mapper socket

  #sendMapper(message: Uint8Array): boolean {
    if (this.#mapperFd < 0) {
      this.#connectMapper()
      if (this.#mapperFd < 0) return false
    }
    if (message.length > MAPPER_BYTES) return false
    if (this.toMapper.isFull) this.#flushMapper()
    if (this.toMapper.isFull) {
      if (this.#mapperBacklog.length > 8192) return false
      this.#mapperBacklog.push(message)
      return true
    }
    this.#putMapper(message)
    return true
  }

  #putMapper(message: Uint8Array): void {
    this.arena.bytes.set(message, this.toMapper.start())
    this.toMapper.push(message.length, 0)
  }

  #flushMapper(): void {
    this.toMapper.flush(this.#mapperFd, true)
    while (this.#mapperBacklog.length > 0 && !this.toMapper.isFull) this.#putMapper(this.#mapperBacklog.shift()!)
  }

  #connectMapper(): void {
    if (this.nowMs < this.#mapperRetryAt) return
    try {
      this.#mapperFd = dialSeqpacket(setup.mapperSocket)
      setQueues(this.#mapperFd, MAPPER_QUEUE_BYTES)
      this.#mapperTries = 0
      this.#isMapperDownTold = false
      tell({ what: 'mapper', up: true, why: '' })
    } catch (error) {
      const wait = RECONNECT_MS[Math.min(this.#mapperTries, RECONNECT_MS.length - 1)]!
      this.#mapperRetryAt = this.nowMs + wait
      this.#mapperTries++
      this.#tellMapperDown((error as Error).message)
    }
  }

  #tellMapperDown(why: string): void {
    if (!this.#isMapperDownTold) tell({ what: 'mapper', up: false, why })
    this.#isMapperDownTold = true
  }

  #receiveMapper(): void {
    const { arena } = this
    for (let turn = 0; turn < 1024; turn++) {
      const got = recv(this.#mapperFd, arena.address(this.fromMapper), MAPPER_BYTES, MSG_DONTWAIT)
      if (got < 0) return
      if (got === 0) return this.#mapperGone()
      this.mapper.onMessage(arena.bytes.slice(this.fromMapper, this.fromMapper + got))
    }
  }

  #mapperGone(): void {
    close(this.#mapperFd)
    this.#mapperFd = -1
    this.#mapperRetryAt = this.nowMs + RECONNECT_MS[0]
    this.toMapper.clear()
    this.#mapperBacklog = []
    this.#tellMapperDown('the connection was closed')
    // another gateway, or one with another store, may come back
    this.resolver.forgetMappings()
    this.mapper.onDown()
  }

  // ---- queries

  #receiveQueries(index: number): void {
    const { fd, sender } = this.answers[index]!
    const { receiver } = this
    const count = receiver.receive(fd)
    this.own.receives++
    for (let i = 0; i < count; i++) {
      if (sender.isFull) this.#flush(fd, sender)
      this.#query(receiver.start(i), receiver.length(i), receiver.name(i), index)
    }
  }

  #flush(fd: number, sender: DatagramSender): void {
    this.own.sends++
    sender.flush(fd)
  }

  #query(at: number, length: number, name: number, index: number): void {
    const { arena, scan, resolver, access } = this
    const { bytes, view, words } = arena
    const is4 = (words[name >> 2]! & 0xffff) === AF_INET
    // nobody asks from port 0
    if (view.getUint16(name + SOCKADDR.port) === 0) return
    const verdict = access.judge(bytes, name + (is4 ? SOCKADDR.address4 : SOCKADDR.address6), is4 ? 4 : 16, this.second)
    if (verdict !== Access.allowed && verdict !== Access.outside) return this.#limited(verdict, at, length, name, index)
    const most = verdict === Access.outside ? Math.min(MOST_UDP, MOST_RATIO * length) : MOST_UDP
    const scanned = scanQuery(bytes, at, length, scan)
    if (scanned === Scan.drop) return
    if (scanned === Scan.plain) {
      const entry = resolver.cache.find(bytes, at + HEADER, scan.questionEnd, scan.variant, this.second)
      if (entry && entry.bytes.length <= Math.min(scan.payloadSize, most)) {
        const { sender } = this.answers[index]!
        const to = sender.start()
        const answer = entry.bytes
        bytes.set(answer, to)
        bytes[to] = bytes[at]!
        bytes[to + 1] = bytes[at + 1]!
        for (let i = HEADER, end = scan.questionEnd - at; i < end; i++) bytes[to + i] = bytes[at + i]!
        sender.push(answer.length, name)
        this.own.hits++
        const rcode = answer[3]! & 15
        this.own.fast[rcode] = (this.own.fast[rcode] ?? 0) + 1
        return
      }
    }
    resolver.handle(bytes.subarray(at, at + Math.min(length, QUERY_BYTES)), this.#askerOf(name, index, is4, most))
  }

  #askerOf(name: number, index: number, is4: boolean, most: number): Asker {
    const { bytes, view } = this.arena
    const sockaddr = bytes.slice(name, name + NAME_BYTES)
    const start = is4 ? SOCKADDR.address4 : SOCKADDR.address6
    return {
      overTcp: false,
      from: budgetKey(sockaddr.subarray(start, start + (is4 ? 4 : 16))),
      most,
      isService: servicePorts.has(view.getUint16(name + SOCKADDR.port)),
      reply: answer => this.#reply(answer, sockaddr, index),
    }
  }

  #reply(answer: Uint8Array, sockaddr: Uint8Array, index: number): void {
    const { fd, sender } = this.answers[index]!
    if (sender.isFull) this.#flush(fd, sender)
    this.arena.bytes.set(answer, sender.start())
    sender.pushTo(answer.length, sockaddr)
  }

  // REFUSED, or cut, or nothing: never longer than what came
  #limited(verdict: number, at: number, length: number, name: number, index: number): void {
    const { bytes } = this.arena
    if (verdict === Access.refused) this.own.access++
    else this.own.limited++
    if (verdict === Access.drop || length < HEADER || (bytes[at + 2]! & 0x80) !== 0) return
    if (((bytes[at + 2]! >> 3) & 15) !== Opcode.QUERY || bytes[at + 4] !== 0 || bytes[at + 5] !== 1) return
    if (servicePorts.has(this.arena.view.getUint16(name + SOCKADDR.port))) return
    const nameEnd = skipName(bytes.subarray(at, at + length), HEADER)
    const end = at + nameEnd + 4
    if (nameEnd < 0 || end > at + length || bytes[at + HEADER]! >= 192) return
    const answer = bytes.slice(at, end)
    answer[2] = (Flag.QR >> 8) | (answer[2]! & 1) | (verdict === Access.slip ? Flag.TC >> 8 : 0)
    answer[3] = verdict === Access.refused ? Rcode.REFUSED : 0
    answer.fill(0, 6, HEADER)
    this.#reply(answer, bytes.slice(name, name + NAME_BYTES), index)
  }

  // ---- main thread

  #hear(): void {
    drainEventFd(setup.wakeFd)
    for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port)) {
      const message = received.message as ToWorker
      if (message.what === 'stop') this.#stopping = true
      else if (message.what === 'forget') this.resolver.forgetMappings()
      else if (message.what === 'routing') this.#setRouting(message.routing)
      else if (message.what === 'tcp-query') this.#tcpQuery(message)
      else if (message.what === 'trace') this.#trace(message)
      else if (message.what === 'tcp-answer') take(this.#tcpOpen, message.id)?.(message.bytes)
      else take(this.#nativeOpen, message.id)?.(message.address)
    }
  }

  #tcpQuery({ id, address, bytes }: ToWorker & { what: 'tcp-query' }): void {
    let answered = false
    const verdict = this.access.judge(address, 0, address.length, this.second)
    const isQuery = bytes.length >= HEADER && (bytes[2]! & 0x80) === 0
    if (verdict === Access.refused || !isQuery) {
      this.own.access++
      return tell({ what: 'tcp-reply', id, bytes: undefined })
    }
    this.resolver.handle(bytes, {
      overTcp: true,
      from: budgetKey(address),
      most: MAX_MESSAGE,
      isService: false,
      reply: answer => {
        if (answered) return
        answered = true
        tell({ what: 'tcp-reply', id, bytes: answer })
      },
    })
  }

  #trace({ id, name, optionPrefix }: ToWorker & { what: 'trace' }): void {
    const { resolver } = this
    const { upstreams, mapper, native } = this.#ports
    const ports: NameTracePorts = {
      upstreams,
      serversFor: of => resolver.routes.wayOf(of).upstreams,
      resolver,
      mapper,
      native,
      nowMs: () => performance.now(),
    }
    traceName(name, { ...setup, optionPrefix }, ports, trace => tell({ what: 'traced', id, trace }))
  }

  // ---- the loop

  run(): void {
    tell({ what: 'ready' })
    this.#connectMapper()
    while (!this.#stopping) {
      const wait = Math.min(LONGEST_WAIT_MS, this.upstreams.tick(), this.mapper.tick())
      this.#flushAll()
      this.#wait(wait)
    }
    this.sockets.close()
    if (this.#mapperFd >= 0) close(this.#mapperFd)
  }

  #wait(waitMs: number): void {
    const { arena } = this
    const upstreams = [...this.sockets.open]
    let n = 0
    const add = (fd: number, events: number) => {
      arena.words[(this.poll + n * POLLFD.size) >> 2] = fd
      arena.words[(this.poll + n * POLLFD.size + POLLFD.events) >> 2] = events
      return n++
    }
    add(setup.wakeFd, POLLIN)
    const mapperAt = this.#mapperFd >= 0 ? add(this.#mapperFd, this.toMapper.count > 0 ? POLLIN | POLLOUT : POLLIN) : -1
    const listenAt = n
    for (const { fd } of this.answers) add(fd, POLLIN)
    const upstreamAt = n
    for (const { fd } of upstreams.slice(0, MOST_POLLED - n)) add(fd, POLLIN)
    arena.setPointer(this.timeout, Math.floor(waitMs / 1000))
    arena.setPointer(this.timeout + 8, Math.floor((waitMs % 1000) * 1e6))
    const ready = ppoll(arena.address(this.poll), n, arena.address(this.timeout), 0)
    this.nowMs = performance.now()
    const second = Math.floor(this.nowMs / 1000)
    if (second !== this.second) this.#everySecond(second)
    this.sockets.renew(this.nowMs)
    if (ready <= 0) return
    const isReady = (i: number) => arena.words[(this.poll + i * POLLFD.size + POLLFD.events) >> 2]! >>> 16 !== 0
    if (isReady(0)) this.#hear()
    for (let i = upstreamAt; i < n; i++) if (isReady(i)) this.#receiveUpstream(upstreams[i - upstreamAt]!.number)
    if (mapperAt >= 0 && isReady(mapperAt) && this.#mapperFd >= 0) this.#receiveMapper()
    for (let i = listenAt; i < upstreamAt; i++) if (isReady(i)) this.#receiveQueries(i - listenAt)
  }

  #flushAll(): void {
    for (const { fd, sender } of this.answers) if (sender.count > 0) this.#flush(fd, sender)
    this.sockets.flush()
    if (this.#mapperFd >= 0 && (this.toMapper.count > 0 || this.#mapperBacklog.length > 0)) this.#flushMapper()
  }

  #everySecond(second: number): void {
    this.second = second
    if (this.#mapperFd < 0) this.#connectMapper()
    const { resolver, upstreams, mapper, own } = this
    const { counts } = resolver
    const rcode = (code: number) => (counts.rcode[code] ?? 0) + (own.fast[code] ?? 0)
    const known = [0, 1, 2, 3, 4, 5]
    const values: Record<ResolverStat, number> = {
      queries: counts.queries + own.hits,
      cache_hits: resolver.cache.counts.hits,
      refused_access: own.access,
      rate_limited: own.limited,
      malformed: counts.malformed,
      joined: counts.joined,
      forwarded: counts.forwarded,
      mapped: counts.mapped,
      reverse: counts.reverse,
      stale: counts.stale,
      denied_answers: counts.denied,
      over_budget: counts.overBudget,
      busy: counts.busy,
      upstream_asked: upstreams.counts.asked,
      upstream_answered: upstreams.counts.answered,
      upstream_ignored: upstreams.counts.ignored,
      upstream_timeouts: upstreams.counts.timeouts,
      upstream_tcp: upstreams.counts.tcp,
      upstream_failed: upstreams.counts.failed,
      mapper_asked: mapper.counts.asked,
      mapper_acks: mapper.counts.acks,
      mapper_nacks: mapper.counts.nacks,
      mapper_timeouts: mapper.counts.timeouts,
      mapper_unavailable: mapper.counts.unavailable,
      rcode_noerror: rcode(0),
      rcode_formerr: rcode(1),
      rcode_servfail: rcode(2),
      rcode_nxdomain: rcode(3),
      rcode_notimp: rcode(4),
      rcode_refused: rcode(5) + own.access,
      rcode_other: Object.entries(counts.rcode).reduce(
        (sum, [code, n]) => sum + (known.includes(Number(code)) ? 0 : n),
        0,
      ),
      send_refused: this.answers.reduce((sum, { sender }) => sum + sender.refused, 0),
      receive_calls: own.receives,
      send_calls: own.sends + this.sockets.sends,
    }
    for (const [i, name] of resolverStats.entries()) this.stats[i] = values[name]
  }
}

function tell(message: FromWorker): void {
  port.postMessage(message)
}

function take<Value>(map: Map<number, Value>, id: number): Value | undefined {
  const value = map.get(id)
  map.delete(id)
  return value
}

const worker = new ResolverWorker()
worker.run()
process.exit(0)
