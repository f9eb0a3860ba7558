/**
 * One packet worker: a thread that waits in ppoll, takes a batch, hands it through forward, and writes it out. No libuv, no promise, no
 * allocation while packets flow. `role` encap: TUN to UDP; decap: UDP to TUN. Started and watched by plane.ts.
 *
 *   ppoll ──► [eventfd: settings, packets that got their mapping] ──► [TUN or sockets: read until empty or the batch is full] ──► write ──┐
 *     ▲────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 */
import { randomFillSync } from 'node:crypto'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { wordsFromBytes } from '../../ipref/address.ts'
import { Fault } from '../../ipref/faults.ts'
import { Decap } from '../forward/decap.ts'
import { Encap, Gso } from '../forward/encap.ts'
import { type Environment, type ForwardSettings, Verdict } from '../forward/environment.ts'
import { Direction, PEER_SELF } from '../forward/output.ts'
import { MAPPED } from '../forward/tables.ts'
import { Arena } from '../sys/arena.ts'
import {
  AF_INET,
  CMSGHDR,
  Errno,
  IOVEC,
  IP_RECVTOS,
  IP_TOS,
  IPV6_TCLASS,
  MMSGHDR,
  MSG_DONTWAIT,
  MSG_TRUNC,
  MSGHDR,
  POLLERR,
  POLLFD,
  POLLIN,
  SOCKADDR,
  SOL_IP,
  SOL_IPV6,
  SOL_UDP,
  UDP_GRO,
  VNET,
  VNET_NEEDS_CHECKSUM,
} from '../sys/layouts.ts'
import { errno, ppoll, read, recvmmsg } from '../sys/libc.ts'
import { drainErrorQueue } from '../sys/udp.ts'
import { AnswerLimiter } from './answerLimiter.ts'
import { PLAN_BYTES, planHold, planOutput } from './arenaPlan.ts'
import { MappingsReader } from './mappings.ts'
import { PeerTable } from './peerTable.ts'
import { PolicyTable } from './policyTable.ts'
import { Control, MissKind, type Offloads, RING_WORDS, type WorkerMessage, type WorkerSetup } from './protocol.ts'
import { Ring } from './ring.ts'
import { Histogram, Stat, WorkerStats } from './stats.ts'
import { TunWriter } from './tunWriter.ts'
import { type Source, UdpSender } from './udpSender.ts'

const LARGEST_PACKET = 65536
/** TUN reads are packed into this; a batch ends when less than one largest packet is left, or after this many packets. */
const READ_REGION = 6 * LARGEST_PACKET
const READ_PACKETS = 256
/** Datagrams (or GRO runs) of one batch. */
const RECEIVE_SLOTS = 12
const NAME_SLOT = 32
const CONTROL_SLOT = 128
const RETURN_SLOT = LARGEST_PACKET + 64
const ARENA_BYTES = 2 * PLAN_BYTES + Math.max(READ_REGION, RECEIVE_SLOTS * LARGEST_PACKET) + 2 * RETURN_SLOT + (1 << 20)
const RANDOM_WORDS = 1024
const HOUSEKEEPING_S = 5
const LONGEST_WAIT_S = 5
const STRANGERS_PER_SECOND = 100

const setup = workerData as WorkerSetup
const port = parentPort!

class PacketWorker {
  readonly arena = new Arena(ARENA_BYTES)
  readonly stats = new WorkerStats(setup.stats)
  readonly control = new Int32Array(setup.control)
  readonly offloads: Offloads = { ...setup.offloads }
  readonly peers = new PeerTable(setup.peers.buffer, setup.peers.capacity)
  readonly tables = new MappingsReader(setup.mappings, this.peers)
  readonly policy = new PolicyTable(setup.policy)
  readonly misses = new Ring(setup.missRing, RING_WORDS)
  readonly returns = new Ring(setup.returnRing, RING_WORDS)
  readonly random = new Int32Array(RANDOM_WORDS)
  readonly limiter: AnswerLimiter
  readonly env: Environment
  readonly encap: Encap
  readonly decap: Decap
  readonly sender: UdpSender
  readonly writer: TunWriter
  readonly source: Source = { a0: 0, a1: 0, a2: 0, a3: 0, port: 0 }
  readonly poll: number
  readonly pollCount: number
  readonly timeout: number
  readonly drain: number
  readonly returnAt: number
  readonly batchPackets: Histogram
  readonly receiveBytes: Histogram
  readonly receiveSegments: Histogram
  #randomLeft = 0
  /** from this thread's performance.now to the clock of the tables */
  readonly #clockOffset: number
  #settingsSeen = 0
  #housekeepingAt = 0

  constructor(fds: readonly number[]) {
    const { arena } = this
    const [seconds, nanoseconds] = process.hrtime()
    this.#clockOffset = seconds + nanoseconds / 1e9 - performance.now() / 1000
    this.limiter = new AnswerLimiter(() => this.random32())
    const output = planOutput(arena)
    this.env = {
      bytes: arena.bytes,
      view: arena.view,
      words: arena.words,
      settings: { ...setup.settings },
      tables: this.tables,
      output,
      ...planHold(arena),
      sum: arena.sum,
      random32: () => this.random32(),
      now: 0,
      mayAnswer: (a0, a1, a2, a3) => this.limiter.mayAnswer(a0, a1, a2, a3),
      mayReach: (c0, c1, c2, c3, r0, r1, r2, r3) => this.policy.mayReach(c0, c1, c2, c3, r0, r1, r2, r3),
    }
    this.encap = new Encap(this.env)
    this.decap = new Decap(this.env)
    const onRefused = (offload: keyof Offloads, code: number) => this.switchOff(offload, code)
    const parts = { arena, env: this.env, stats: this.stats, offloads: this.offloads, onRefused }
    this.writer = new TunWriter({ ...parts, fd: setup.tunFd })
    this.sender = new UdpSender({
      ...parts,
      sockets: setup.sockets,
      peers: this.peers,
      onTooBig: (peer, bytes) => this.report(MissKind.tooBig, peer, bytes),
    })
    this.poll = arena.allocate(POLLFD.size * 4)
    this.timeout = arena.allocate(16)
    this.drain = arena.allocate(8)
    this.returnAt = arena.allocate(RETURN_SLOT)
    this.batchPackets = new Histogram(this.stats, 'batchPackets')
    this.receiveBytes = new Histogram(this.stats, 'receiveBytes')
    this.receiveSegments = new Histogram(this.stats, 'receiveSegments')
    const all = [setup.wakeFd, ...fds]
    this.pollCount = all.length
    for (const [i, fd] of all.entries()) {
      arena.view.setInt32(this.poll + i * POLLFD.size, fd, true)
      arena.view.setInt16(this.poll + i * POLLFD.size + POLLFD.events, POLLIN, true)
    }
    arena.setPointer(this.timeout, LONGEST_WAIT_S)
    arena.setPointer(this.timeout + 8, 0)
    this.#settingsSeen = Atomics.load(this.control, Control.settings)
  }

  random32(): number {
    if (this.#randomLeft === 0) {
      randomFillSync(this.random)
      this.#randomLeft = RANDOM_WORDS
    }
    return this.random[--this.#randomLeft]!
  }

  switchOff(offload: keyof Offloads, code: number): void {
    if (!this.offloads[offload]) return
    this.offloads[offload] = false
    port.postMessage({ what: 'offload-off', offload, errno: code } satisfies WorkerMessage)
  }

  /** Tells the main thread something that carries no packet. */
  report(kind: number, ...words: number[]): void {
    this.misses.words.fill(0)
    this.misses.words.set(words)
    if (this.misses.push(kind, this.arena.bytes, 0, 0)) this.notify()
  }

  notify(): void {
    if (this.misses.shouldNotify()) port.postMessage({ what: 'ring' } satisfies WorkerMessage)
  }

  /** Waits; false: the main thread wants us to stop. */
  wait(): boolean {
    const { arena } = this
    ppoll(arena.base + this.poll, this.pollCount, arena.base + this.timeout, 0)
    this.stats.add(Stat.wakeups, 1)
    this.setClock()
    if (this.isReady(0)) {
      read(setup.wakeFd, arena.base + this.drain, 8)
      if (Atomics.load(this.control, Control.stop) !== 0) return false
      this.takeSettings()
      this.takeReturned()
    }
    if (this.env.now >= this.#housekeepingAt) this.housekeeping()
    return true
  }

  /** Between two batches under load: what must not wait until there is nothing to read. False: stop. */
  between(): boolean {
    this.setClock()
    if (Atomics.load(this.control, Control.stop) !== 0) return false
    this.takeSettings()
    this.takeReturned()
    return true
  }

  setClock(): void {
    const nowMs = performance.now()
    const seconds = Math.floor(this.#clockOffset + nowMs / 1000)
    this.env.now = seconds
    this.tables.now = seconds
    this.limiter.nowMs = nowMs
    this.decap.forget()
  }

  isReady(index: number): boolean {
    return this.arena.view.getInt16(this.poll + index * POLLFD.size + POLLFD.revents, true) !== 0
  }

  housekeeping(): void {
    this.#housekeepingAt = this.env.now + HOUSEKEEPING_S
    const lost = this.encap.expireHeld() + this.decap.expireHeld()
    if (lost > 0) this.stats.dropped(Fault.fragment_hold_expired, lost)
  }

  takeSettings(): void {
    const seen = Atomics.load(this.control, Control.settings)
    if (seen === this.#settingsSeen) return
    this.#settingsSeen = seen
    for (let m = receiveMessageOnPort(port); m; m = receiveMessageOnPort(port)) {
      Object.assign(this.env.settings, m.message as ForwardSettings)
    }
  }

  takeReturned(): void {
    while (this.returns.next()) {
      const length = this.returns.packetLength
      this.returns.takePacket(this.arena.bytes, this.returnAt)
      const { words, kind } = this.returns
      this.stats.add(Stat.missed, -1)
      if (kind === MissKind.native) this.encapOne(this.returnAt, length, words[10] === 1, words[8]!, words[9]!)
      else if (kind === MissKind.remote) {
        this.setSource(words[11]!, words[12]!, words[13]!, words[14]!, words[9]!)
        this.decapOne(this.returnAt, length, words[10]!)
      }
      this.returns.release()
      this.flush()
    }
  }

  setSource(a0: number, a1: number, a2: number, a3: number, sourcePort: number): void {
    const { source } = this
    source.a0 = a0
    source.a1 = a1
    source.a2 = a2
    source.a3 = a3
    source.port = sourcePort
  }

  flush(): void {
    const { output } = this.env
    if (output.count === 0) return
    this.sender.sendAll(this.source)
    this.turnAround()
    this.writer.writeAll()
    output.clear()
  }

  // packets for our own network that came from it: decap right here (decisions.md 9)
  turnAround(): void {
    const { env, arena } = this
    const { output } = env
    const count = output.count
    for (let i = 0; i < count; i++) {
      if (output.direction[i] !== Direction.tunnel || output.peer[i] !== PEER_SELF) continue
      const at = output.scratch + output.scratchUsed
      const length = output.headLength[i]! + output.bodyLength[i]!
      if (output.scratchUsed + length > output.scratchLength || !output.hasRoom()) {
        this.stats.dropped(Fault.tunnel_send_failed, 1)
        continue
      }
      arena.bytes.copyWithin(at, output.head[i]!, output.head[i]! + output.headLength[i]!)
      arena.bytes.copyWithin(at + output.headLength[i]!, output.body[i]!, output.body[i]! + output.bodyLength[i]!)
      output.scratchUsed += (length + 3) & ~3
      const is4 = (arena.bytes[at + 1]! & 0xf0) === 0x40
      const context = is4 ? env.settings.context4 : env.settings.context6
      if (!context) continue
      this.stats.add(Stat.turnedAround, 1)
      this.setSource(context[0]!, context[1]!, context[2]!, context[3]!, 1)
      const verdict = this.decap.decap(
        at,
        length,
        context[0]!,
        context[1]!,
        context[2]!,
        context[3]!,
        1,
        output.tos[i]!,
      )
      if (verdict === Verdict.missRemote) this.missRemote(at, length, output.tos[i]!)
    }
  }

  count(verdict: number, fault: number, packets: number): void {
    const { stats } = this
    if (verdict === Verdict.forwarded || verdict === Verdict.probeAnswer) stats.add(Stat.forwarded, packets)
    else if (verdict === Verdict.dropped) stats.dropped(fault, packets)
    else if (verdict === Verdict.answered) stats.answered(fault, packets)
    else if (verdict === Verdict.held) stats.add(Stat.held, packets)
  }

  encapOne(packet: number, length: number, needsChecksum: boolean, gsoType: number, gsoSize: number): void {
    const packets = gsoType === Gso.none ? 1 : this.packetsIn(packet, length, gsoSize)
    const verdict = this.encap.encap(packet, length, needsChecksum, gsoType, gsoSize)
    if (verdict !== Verdict.missNative) return this.count(verdict, this.encap.fault, packets)
    const { words } = this.misses
    const { encap } = this
    words.fill(0)
    words[0] = encap.miss0
    words[1] = encap.miss1
    words[2] = encap.miss2
    words[3] = encap.miss3
    words[8] = gsoType
    words[9] = gsoSize
    words[10] = needsChecksum ? 1 : 0
    if (!this.misses.push(MissKind.native, this.arena.bytes, packet, length))
      return this.stats.dropped(Fault.miss_queue_full, packets)
    this.stats.add(Stat.missed, 1)
    this.notify()
  }

  // packets that a super-packet stands for
  packetsIn(packet: number, length: number, gsoSize: number): number {
    const { bytes } = this.arena
    const ip = bytes[packet]! >> 4 === 4 ? (bytes[packet]! & 15) * 4 : 40
    const protocol = ip === 40 ? bytes[packet + 6] : bytes[packet + 9]
    const header = ip + (protocol === 6 ? (bytes[packet + ip + 12]! >> 4) * 4 : 8)
    return gsoSize > 0 && length > header ? Math.ceil((length - header) / gsoSize) : 1
  }

  decapOne(datagram: number, length: number, tos: number): void {
    const { source, decap } = this
    const verdict = decap.decap(datagram, length, source.a0, source.a1, source.a2, source.a3, source.port, tos)
    if (verdict === Verdict.missRemote) return this.missRemote(datagram, length, tos)
    this.count(verdict, decap.fault, 1)
    if (verdict === Verdict.probeAnswer) this.probeAnswered()
  }

  missRemote(datagram: number, length: number, tos: number): void {
    const { source, decap } = this
    const { words } = this.misses
    words[0] = decap.missC0
    words[1] = decap.missC1
    words[2] = decap.missC2
    words[3] = decap.missC3
    words[4] = decap.missR0
    words[5] = decap.missR1
    words[6] = decap.missR2
    words[7] = decap.missR3
    words[8] = decap.missFamily
    words[9] = source.port
    words[10] = tos
    words[11] = source.a0
    words[12] = source.a1
    words[13] = source.a2
    words[14] = source.a3
    if (!this.misses.push(MissKind.remote, this.arena.bytes, datagram, length))
      return this.stats.dropped(Fault.miss_queue_full, 1)
    this.stats.add(Stat.missed, 1)
    this.notify()
  }

  probeAnswered(): void {
    const { source } = this
    const { words } = this.misses
    words.fill(0)
    words[9] = source.port
    words[11] = source.a0
    words[12] = source.a1
    words[13] = source.a2
    words[14] = source.a3
    if (this.misses.push(MissKind.probeAnswer, this.arena.bytes, this.decap.probeAt, 16)) this.notify()
  }

  // ---- encap: TUN to UDP

  runEncap(): void {
    const { arena, env, stats } = this
    const { view } = arena
    const region = arena.allocate(READ_REGION)
    const end = region + READ_REGION
    while (this.wait()) {
      for (let more = this.isReady(1); more; ) {
        let at = region
        let packets = 0
        while (at + LARGEST_PACKET + VNET.size <= end && packets < READ_PACKETS && env.output.hasRoom()) {
          const got = read(setup.tunFd, arena.base + at, LARGEST_PACKET + VNET.size)
          stats.add(Stat.receiveCalls, 1)
          if (got <= VNET.size) {
            more = false
            if (got < 0 && errno() !== Errno.EAGAIN && errno() !== Errno.EINTR) this.waitForDevice()
            break
          }
          packets++
          const gsoType = view.getUint8(at + VNET.gsoType)
          const gsoSize = view.getUint16(at + VNET.gsoSize, true)
          const needsChecksum = (view.getUint8(at + VNET.flags) & VNET_NEEDS_CHECKSUM) !== 0
          const length = got - VNET.size
          const segments = gsoType === Gso.none ? 1 : this.packetsIn(at + VNET.size, length, gsoSize)
          stats.add(Stat.packetsIn, segments)
          stats.add(Stat.bytesIn, length)
          this.receiveBytes.observe(length)
          this.receiveSegments.observe(segments)
          this.encapOne(at + VNET.size, length, needsChecksum, gsoType, gsoSize)
          at = (at + got + 63) & ~63
        }
        this.batchPackets.observe(packets)
        this.flush()
        if (!this.between()) return
      }
    }
  }

  // the device is down or gone: the main thread repairs it; until then do not spin
  waitForDevice(): void {
    ppoll(this.arena.base + this.poll, 1, this.arena.base + this.timeout, 0)
  }

  // ---- decap: UDP to TUN

  runDecap(): void {
    const { arena } = this
    const buffers = arena.allocate(RECEIVE_SLOTS * LARGEST_PACKET)
    const messages = arena.allocate(RECEIVE_SLOTS * MMSGHDR.size)
    const names = arena.allocate(RECEIVE_SLOTS * NAME_SLOT)
    const controls = arena.allocate(RECEIVE_SLOTS * CONTROL_SLOT)
    const iov = arena.allocate(RECEIVE_SLOTS * IOVEC.size)
    for (let i = 0; i < RECEIVE_SLOTS; i++) {
      const header = messages + i * MMSGHDR.size
      arena.setPointer(iov + i * IOVEC.size, arena.base + buffers + i * LARGEST_PACKET)
      arena.setPointer(iov + i * IOVEC.size + IOVEC.length, LARGEST_PACKET)
      arena.setPointer(header + MSGHDR.name, arena.base + names + i * NAME_SLOT)
      arena.setPointer(header + MSGHDR.iov, arena.base + iov + i * IOVEC.size)
      arena.setPointer(header + MSGHDR.iovLength, 1)
      arena.setPointer(header + MSGHDR.control, arena.base + controls + i * CONTROL_SLOT)
    }
    const place = { buffers, messages, names, controls }
    while (this.wait()) {
      for (let k = 0; k < setup.sockets.length; k++) {
        if (!this.isReady(k + 1)) continue
        if ((arena.view.getInt16(this.poll + (k + 1) * POLLFD.size + POLLFD.revents, true) & POLLERR) !== 0)
          this.takeErrors(setup.sockets[k]!.fd)
        while (this.receiveBatch(setup.sockets[k]!.fd, place)) if (!this.between()) return
      }
    }
  }

  // what routers and hosts said about datagrams of ours: rare, so this may allocate
  takeErrors(fd: number): void {
    for (const error of drainErrorQueue(fd)) {
      if (error.mtu === 0) continue
      const [a0, a1, a2, a3] = wordsFromBytes(error.address)
      this.report(MissKind.pathMtu, error.mtu, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a0, a1, a2, a3)
    }
  }

  /** One batch; false: the socket is empty. */
  receiveBatch(fd: number, place: { buffers: number; messages: number; names: number; controls: number }): boolean {
    const { arena, stats, env } = this
    let slot = 0
    let packets = 0
    let isEmpty = false
    while (slot < RECEIVE_SLOTS) {
      for (let i = slot; i < RECEIVE_SLOTS; i++) {
        const header = place.messages + i * MMSGHDR.size
        arena.words[(header + MSGHDR.nameLength) >> 2] = NAME_SLOT
        arena.words[(header + MSGHDR.controlLength) >> 2] = CONTROL_SLOT
        arena.words[(header + MSGHDR.controlLength + 4) >> 2] = 0
      }
      stats.add(Stat.receiveCalls, 1)
      const got = recvmmsg(fd, arena.base + place.messages + slot * MMSGHDR.size, RECEIVE_SLOTS - slot, MSG_DONTWAIT, 0)
      if (got <= 0) {
        // a queued ICMP error is reported once, and is gone then
        if (got < 0 && errno() !== Errno.EAGAIN && slot === 0) {
          stats.add(Stat.retries, 1)
          return true
        }
        break
      }
      for (let i = slot; i < slot + got; i++) {
        packets += this.receiveOne(place, i)
        if (!env.output.hasRoom()) this.flush()
      }
      slot += got
      // fewer than there was room for: the socket is empty, and these should not wait for another call to say so
      if (slot < RECEIVE_SLOTS) {
        isEmpty = true
        break
      }
    }
    if (packets > 0) this.batchPackets.observe(packets)
    this.flush()
    return slot > 0 && !isEmpty
  }

  receiveOne(place: { buffers: number; messages: number; names: number; controls: number }, i: number): number {
    const { arena, stats } = this
    const { view, words } = arena
    const header = place.messages + i * MMSGHDR.size
    const length = words[(header + MMSGHDR.length) >> 2]!
    const name = place.names + i * NAME_SLOT
    const is4 = view.getUint16(name, true) === AF_INET
    const sourcePort = view.getUint16(name + SOCKADDR.port)
    const address = name + SOCKADDR.address6
    if (is4) this.setSource(0, 0, MAPPED, view.getInt32(name + SOCKADDR.address4), sourcePort)
    else
      this.setSource(
        view.getInt32(address),
        view.getInt32(address + 4),
        view.getInt32(address + 8),
        view.getInt32(address + 12),
        sourcePort,
      )
    let segment = length
    let tos = 0
    const control = place.controls + i * CONTROL_SLOT
    const controlEnd = control + words[(header + MSGHDR.controlLength) >> 2]!
    for (let at = control; at + CMSGHDR.size <= controlEnd; ) {
      const size = words[at >> 2]!
      if (size < CMSGHDR.size) break
      const level = words[(at + CMSGHDR.level) >> 2]
      const type = words[(at + CMSGHDR.type) >> 2]
      if (level === SOL_UDP && type === UDP_GRO) segment = words[(at + CMSGHDR.size) >> 2]!
      else if (level === SOL_IP && (type === IP_TOS || type === IP_RECVTOS)) tos = arena.bytes[at + CMSGHDR.size]!
      else if (level === SOL_IPV6 && type === IPV6_TCLASS) tos = words[(at + CMSGHDR.size) >> 2]! & 0xff
      at += (size + 7) & ~7
    }
    const buffer = place.buffers + i * LARGEST_PACKET
    if ((words[(header + MSGHDR.flags) >> 2]! & MSG_TRUNC) !== 0) {
      stats.add(Stat.packetsIn, 1)
      stats.dropped(Fault.receive_truncated, 1)
      return 1
    }
    if (segment <= 0) segment = length
    const packets = length === 0 ? 1 : Math.ceil(length / segment)
    stats.add(Stat.packetsIn, packets)
    stats.add(Stat.bytesIn, length)
    this.receiveBytes.observe(length)
    this.receiveSegments.observe(packets)
    if (length === 0) this.decapOne(buffer, 0, tos)
    const faultBefore = this.decap.validDatagrams
    for (let at = 0; at < length; at += segment) this.decapOne(buffer + at, Math.min(segment, length - at), tos)
    if (this.decap.validDatagrams !== faultBefore) this.sawPeer(length, packets)
    return packets
  }

  #strangersLeft = STRANGERS_PER_SECOND
  #strangersSecond = 0

  // forged sources are free: they must not fill the ring that others need
  mayReportStranger(): boolean {
    if (this.env.now !== this.#strangersSecond) {
      this.#strangersSecond = this.env.now
      this.#strangersLeft = STRANGERS_PER_SECOND
    }
    return this.#strangersLeft-- > 0
  }

  // a datagram whose header and contexts were right came from there
  sawPeer(bytes: number, packets: number): void {
    const { peers, source, env } = this
    const peer = peers.find(source.a0, source.a1, source.a2, source.a3)
    if (peer < 0 && !this.mayReportStranger()) return
    if (peer < 0)
      return this.report(
        MissKind.stranger,
        source.port,
        bytes,
        packets,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        source.a0,
        source.a1,
        source.a2,
        source.a3,
      )
    peers.bytesIn[peer]! += bytes
    peers.packetsIn[peer]! += packets
    peers.lastSeen[peer] = env.now
    if (Atomics.load(peers.port, peer) === source.port) return
    if (peers.candidatePort[peer] === source.port && env.now - peers.candidateSeen[peer]! < 1) return
    peers.candidatePort[peer] = source.port
    peers.candidateSeen[peer] = env.now
    this.report(MissKind.candidate, peer, source.port)
  }
}

const fds = setup.role === 'encap' ? [setup.tunFd] : setup.sockets.map(s => s.fd)
const worker = new PacketWorker(fds)
worker.setClock()
port.postMessage({ what: 'ready' } satisfies WorkerMessage)
worker.takeReturned()
if (setup.role === 'encap') worker.runEncap()
else worker.runDecap()
port.close()
