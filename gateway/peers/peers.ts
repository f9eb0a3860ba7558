/**
 * The remote gateways: which port each is reached at, how large a packet the path takes, whether it is there.
 *
 *     first packet from a stranger, or a mapping to a new context ──► unproved ──probe answered──► verified
 *     verified, and datagrams come from another port ──► candidate port ──probe answered from it──► current port
 *
 * One forged datagram can make us send one small probe a second, and nothing else: the current port changes only when the echo with our
 * random bytes comes back from the new address and port (decisions.md 6). Two candidates are kept for a peer. Towards a stranger that has not proved its
 * port, the encap worker keeps to three times the bytes received.
 *
 * Only this file writes the main thread's columns of PeerTable. Runs on the main thread; `tick` is called four times a second.
 */
import { randomBytes } from 'node:crypto'
import type { AddressWords } from '../../ipref/address.ts'
import { PeerFlag, type PeerTable } from '../plane/peerTable.ts'

const PROBE_EVERY_S = 1
const KEEPALIVE_EVERY_S = 25
const CANDIDATES = 2
const CANDIDATE_TRIES = 4
const UNVERIFIED_TRIES = 8
/** Probes, a second apart, until one is answered, to peers that shall learn that we speak from here now. */
const TELLINGS = 4
/** How long a person waits for an answer: some probes, a second apart. */
const MEASURE_S = 4
/** A lowered path MTU is tried again at its first value after this time (RFC 8201 section 4: not sooner than 5 minutes). */
const MTU_HOLD_S = 600
const MTU_FLOOR = { 4: 552, 6: 1280 } as const
/** A number is given to another peer only after workers cannot hold it any more. */
const REUSE_AFTER_S = 5
const NO_PEER = -1

export interface PeersPorts {
  table: PeerTable
  /** Seconds, monotonic. */
  now(): number
  /** Milliseconds, monotonic, with fractions. */
  nowMs(): number
  /** Sends one echo request with these 16 bytes; false when the kernel refused it. */
  sendProbe(to: AddressWords, port: number, nonce: Uint8Array): boolean
  /** MTU of the interface (and route) towards this address. */
  routeMtu(to: AddressWords): number
  onEvent(event: PeerEvent): void
}

export type PeerEvent =
  | { what: 'reachable'; peer: AddressWords; port: number; rttMs: number }
  | { what: 'port-changed'; peer: AddressWords; from: number; to: number }
  | { what: 'unreachable'; peer: AddressWords; port: number }
  | { what: 'mtu-lowered'; peer: AddressWords; from: number; to: number }

export interface NamedPeer {
  address: AddressWords
  port: number
  /** absent: not asked */
  probeS?: number
}

/** What was found out about a peer, and what another gateway of the cluster may go on with. */
export interface KnownPeer {
  address: AddressWords
  /** proved by a probe */
  port: number
  /** 0: of the route */
  mtu: number
}

export interface PeersSettings {
  defaultPort: number
  /** gateway-ifc-mtu; absent: of the route */
  wireMtu: number | undefined
  configured: readonly { address: AddressWords; port: number }[]
  /** our own address is unknown: NAT in front of us must be kept open towards configured peers */
  keepsOpen: boolean
}

interface Probe {
  port: number
  nonce: Uint8Array
  sentMs: number
  tries: number
}

interface Peer {
  number: number
  address: AddressWords
  /** mappings that name this peer */
  uses: number
  /** probes on the way: of the current port and of candidates */
  probes: Probe[]
  nextProbe: number
  /** when it was probed last */
  probed: number
  /** seconds between probes of a peer that answers; undefined: it is not asked */
  keepalive: number | undefined
  rttMs: number | undefined
  unanswered: number
  /** how often it is still told where we speak from now */
  tellings: number
  /** the port that it was added with, or that resources say */
  written: number
  /** those who asked how long an answer takes */
  waiting: { until: number; done(rttMs: number | undefined): void }[]
  baseMtu: number
  mtuSince: number
}

export interface PeerStatus {
  address: AddressWords
  port: number
  verified: boolean
  configured: boolean
  mappings: number
  mtu: number
  rttMs: number | undefined
  /** seconds since the last datagram; undefined: never */
  lastSeenAgo: number | undefined
  bytesIn: number
  bytesOut: number
  packetsIn: number
  packetsOut: number
}

export class Peers {
  readonly #ports: PeersPorts
  readonly #settings: PeersSettings
  readonly #byNumber: (Peer | undefined)[]
  readonly #free: { number: number; since: number }[] = []
  readonly #named: Peer[] = []
  /** forgotten because there was no room for a new one */
  evicted = 0

  constructor(ports: PeersPorts, settings: PeersSettings) {
    this.#ports = ports
    this.#settings = settings
    this.#byNumber = new Array(ports.table.capacity)
    for (let number = 0; number < ports.table.capacity; number++) this.#free.push({ number, since: -REUSE_AFTER_S })
    for (const { address, port } of settings.configured) {
      const peer = this.#add(address, port, PeerFlag.configured)
      if (peer && settings.keepsOpen) peer.keepalive = KEEPALIVE_EVERY_S
    }
  }

  /**
   * The peers that resources name, all of them: never evicted, and asked every `probeS` seconds. One that is named no more, nor by a
   * flag, is an ordinary peer from then on.
   */
  setNamed(named: readonly NamedPeer[]): void {
    const { table } = this.#ports
    for (const peer of this.#named.splice(0)) {
      if (this.#isFlagged(peer.address)) continue
      Atomics.and(table.flags, peer.number, ~PeerFlag.configured)
      peer.keepalive = undefined
    }
    for (const { address, port, probeS } of named) {
      const peer = this.#add(address, port, PeerFlag.configured)
      if (!peer || this.#named.includes(peer)) continue
      Atomics.or(table.flags, peer.number, PeerFlag.configured)
      // a port that was proved is better than one that was written down, unless that is another now and answers
      if (!this.#isProved(peer)) Atomics.store(table.port, peer.number, port)
      else if (peer.written !== port) this.candidate(peer.number, port)
      peer.written = port
      peer.keepalive = probeS ?? peer.keepalive
      this.#named.push(peer)
    }
  }

  /** Our own address is known from now on, or is not any more. */
  setKeepsOpen({ isNeeded }: { isNeeded: boolean }): void {
    for (const { address } of this.#settings.configured) {
      const peer = this.#byNumber[this.#ports.table.find(...address)]
      if (peer && !this.#named.includes(peer)) peer.keepalive = isNeeded ? KEEPALIVE_EVERY_S : undefined
    }
  }

  /** We speak from here from now on: every peer that is in use is asked at once, so that it learns where from (decisions.md 24). */
  announce(): void {
    for (const peer of this.#byNumber) if (peer && this.#isInUse(peer)) this.#tell(peer)
  }

  /** Another gateway speaks from now on. */
  hush(): void {
    for (const peer of this.#byNumber) if (peer) peer.tellings = 0
  }

  // a probe may be lost, and until one comes through the peer answers to where we spoke from before
  #tell(peer: Peer, again = TELLINGS - 1): void {
    peer.tellings = again
    this.#probe(peer, this.#ports.table.port[peer.number]!)
  }

  /** Peers in use whose port is proved. */
  *known(): Generator<KnownPeer> {
    const { table } = this.#ports
    for (const peer of this.#byNumber) {
      if (!peer || !this.#isProved(peer) || !this.#isInUse(peer)) continue
      const mtu = table.mtu[peer.number]!
      yield { address: peer.address, port: table.port[peer.number]!, mtu: mtu < peer.baseMtu ? mtu : 0 }
    }
  }

  /**
   * Another gateway of the cluster found it out, or we before we were started again, later than anything that we know: as if it had been found out here. So a peer is
   * reached behind its NAT at once, without the budget of a stranger. What a flag says of it is tried too; all else is for `announce`.
   */
  adopt({ address, port, mtu }: KnownPeer): void {
    const peer = this.#add(address, port, 0)
    if (!peer) return
    this.#know(peer, port, mtu)
    if (this.#isFlagged(address)) this.candidate(peer.number, peer.written)
  }

  /** As adopt, of a peer in use whose port is not proved here yet; it is asked at once. */
  merge({ address, port, mtu }: KnownPeer): void {
    const peer = this.#byNumber[this.#ports.table.find(...address)]
    if (!peer || this.#isProved(peer) || !this.#isInUse(peer)) return
    this.#know(peer, port, mtu)
    this.#tell(peer)
  }

  #know(peer: Peer, port: number, mtu: number): void {
    const { table } = this.#ports
    Atomics.store(table.port, peer.number, port)
    Atomics.or(table.flags, peer.number, PeerFlag.verified)
    if (mtu !== 0) this.#lowerMtu(peer, mtu)
  }

  #isProved(peer: Peer): boolean {
    return (this.#ports.table.flags[peer.number]! & PeerFlag.verified) !== 0
  }

  #isInUse(peer: Peer): boolean {
    return peer.uses > 0 || (this.#ports.table.flags[peer.number]! & PeerFlag.configured) !== 0
  }

  #isFlagged(address: AddressWords): boolean {
    return this.#settings.configured.some(one => one.address.every((word, i) => word === address[i]))
  }

  /** A mapping to this context address begins: the number of its peer, or -1 when no more can be tracked. */
  require(a0: number, a1: number, a2: number, a3: number): number {
    const number = this.#ports.table.find(a0, a1, a2, a3)
    const peer =
      number >= 0 ? this.#byNumber[number] : this.#add([a0, a1, a2, a3], this.#settings.defaultPort, PeerFlag.outbound)
    if (!peer) return NO_PEER
    peer.uses++
    return peer.number
  }

  /** One mapping less. */
  release(number: number): void {
    const peer = this.#byNumber[number]
    if (peer && peer.uses > 0) peer.uses--
  }

  /** The first valid datagram of a stranger: remembered with its port, and asked to prove it. */
  arrived(address: AddressWords, port: number, bytes: number): void {
    const number = this.#ports.table.find(...address)
    if (number >= 0) return this.candidate(number, port)
    const peer = this.#add(address, port, 0, bytes)
    if (peer) this.#probeCurrent(peer)
  }

  /** The decap worker saw a source port that is not the current one. */
  candidate(number: number, port: number): void {
    const peer = this.#byNumber[number]
    if (!peer || port === 0 || peer.probes.some(p => p.port === port)) return
    const current = this.#ports.table.port[number]!
    if (port === current) return
    if (peer.probes.filter(p => p.port !== current).length >= CANDIDATES) return
    // the pause between keepalives is no reason to wait: the other end may speak in the middle of each of ours
    const earliest = peer.probed + PROBE_EVERY_S
    if (this.#ports.now() >= earliest) return this.#probe(peer, port)
    this.#remember(peer, port)
    peer.nextProbe = Math.min(peer.nextProbe, earliest)
  }

  /** An echo reply from reference 1 with one of our identifiers. */
  answered(address: AddressWords, port: number, nonce: Uint8Array): void {
    const { table } = this.#ports
    const peer = this.#byNumber[table.find(...address)]
    const probe = peer?.probes.find(p => p.port === port && Buffer.compare(p.nonce, nonce) === 0)
    if (!peer || !probe) return
    const current = table.port[peer.number]!
    const wasVerified = this.#isProved(peer)
    peer.rttMs = this.#ports.nowMs() - probe.sentMs
    peer.unanswered = 0
    peer.tellings = 0
    peer.probes = peer.probes.filter(p => p !== probe && p.port !== current)
    this.#know(peer, port, 0)
    if (port !== current) this.#ports.onEvent({ what: 'port-changed', peer: address, from: current, to: port })
    else if (!wasVerified) this.#ports.onEvent({ what: 'reachable', peer: address, port, rttMs: peer.rttMs })
    endWaiting(peer, () => true, peer.rttMs)
  }

  /** Asks a peer at its current port: milliseconds until it answered, or undefined after some tries, or when it is none of ours. */
  measure(address: AddressWords, done: (rttMs: number | undefined) => void): void {
    const peer = this.#byNumber[this.#ports.table.find(...address)]
    if (!peer) return done(undefined)
    const now = this.#ports.now()
    peer.waiting.push({ until: now + MEASURE_S, done })
    if (now >= peer.nextProbe || peer.keepalive !== undefined) this.#probe(peer, this.#ports.table.port[peer.number]!)
  }

  /**
   * The path takes less than we thought (EMSGSIZE, or an ICMP error that quotes our own datagram). Only ever lowers,
   * never below what every path must take (hostile-input.md section 3, forged packet too big).
   */
  mtuReported(address: AddressWords, mtu: number): void {
    const { table } = this.#ports
    const peer = this.#byNumber[table.find(...address)]
    if (!peer) return
    const before = table.mtu[peer.number]!
    if (mtu < 68 || !this.#lowerMtu(peer, mtu)) return
    this.#ports.onEvent({ what: 'mtu-lowered', peer: address, from: before, to: table.mtu[peer.number]! })
  }

  #lowerMtu(peer: Peer, mtu: number): boolean {
    const { table, now } = this.#ports
    const lowered = Math.max(mtu, MTU_FLOOR[familyOf(peer.address)])
    if (lowered >= table.mtu[peer.number]!) return false
    Atomics.store(table.mtu, peer.number, lowered)
    peer.mtuSince = now()
    return true
  }

  /** Interfaces or routes changed: ask for the MTU of every path again. */
  routesChanged(): void {
    for (const peer of this.#byNumber) {
      if (!peer) continue
      const mtu = this.#baseMtu(peer.address)
      if (mtu === peer.baseMtu) continue
      peer.baseMtu = mtu
      Atomics.store(this.#ports.table.mtu, peer.number, mtu)
    }
  }

  /** Four times a second. */
  tick(): void {
    const now = this.#ports.now()
    for (const peer of this.#byNumber) {
      if (!peer) continue
      this.#ageMtu(peer, now)
      endWaiting(peer, waiter => waiter.until <= now, undefined)
      if (now >= peer.nextProbe) this.#nextProbe(peer)
    }
  }

  status(): PeerStatus[] {
    const { table } = this.#ports
    const rows: PeerStatus[] = []
    for (const peer of this.#byNumber) {
      if (!peer) continue
      const n = peer.number
      const seen = table.lastSeen[n]!
      rows.push({
        address: peer.address,
        port: table.port[n]!,
        verified: this.#isProved(peer),
        configured: (table.flags[n]! & PeerFlag.configured) !== 0,
        mappings: peer.uses,
        mtu: table.mtu[n]!,
        rttMs: peer.rttMs,
        lastSeenAgo: seen === 0 ? undefined : Math.max(0, this.#ports.now() - seen),
        bytesIn: table.bytesIn[n]!,
        bytesOut: table.bytesOut[n]!,
        packetsIn: table.packetsIn[n]!,
        packetsOut: table.packetsOut[n]!,
      })
    }
    return rows
  }

  #add(address: AddressWords, port: number, flags: number, bytesIn = 0): Peer | undefined {
    const { table, now } = this.#ports
    if (table.find(...address) >= 0) return this.#byNumber[table.find(...address)]
    const number = this.#takeNumber()
    if (number === NO_PEER) return undefined
    const baseMtu = this.#baseMtu(address)
    for (const column of [table.bytesIn, table.packetsIn, table.bytesOut, table.packetsOut]) column[number] = 0
    for (const column of [table.lastSeen, table.candidatePort, table.candidateSeen]) column[number] = 0
    // the budget of a stranger begins with what it sent before we knew it (decisions.md 6)
    table.bytesIn[number] = bytesIn
    table.port[number] = port
    table.mtu[number] = baseMtu
    Atomics.store(table.flags, number, PeerFlag.used | flags)
    const peer: Peer = {
      number,
      address,
      uses: 0,
      probes: [],
      nextProbe: now(),
      probed: now() - PROBE_EVERY_S,
      keepalive: undefined,
      rttMs: undefined,
      unanswered: 0,
      tellings: 0,
      written: port,
      waiting: [],
      baseMtu,
      mtuSince: 0,
    }
    this.#byNumber[number] = peer
    table.insert(number, ...address)
    return peer
  }

  #takeNumber(): number {
    const now = this.#ports.now()
    const first = this.#free[0]
    if (first && now - first.since >= REUSE_AFTER_S) return this.#free.shift()!.number
    this.#evictOne(now)
    return NO_PEER
  }

  // the peer that nothing is mapped to and that was silent for longest; its number is free a little later
  #evictOne(now: number): void {
    const { table } = this.#ports
    let oldest: Peer | undefined
    for (const peer of this.#byNumber) {
      if (!peer || this.#isInUse(peer)) continue
      if (!oldest || table.lastSeen[peer.number]! < table.lastSeen[oldest.number]!) oldest = peer
    }
    if (!oldest) return
    endWaiting(oldest, () => true, undefined)
    table.remove(oldest.number)
    Atomics.store(table.flags, oldest.number, 0)
    this.#byNumber[oldest.number] = undefined
    this.#free.push({ number: oldest.number, since: now })
    this.evicted++
  }

  #baseMtu(address: AddressWords): number {
    return this.#settings.wireMtu ?? this.#ports.routeMtu(address)
  }

  #ageMtu(peer: Peer, now: number): void {
    const { table } = this.#ports
    if (table.mtu[peer.number]! < peer.baseMtu && now - peer.mtuSince >= MTU_HOLD_S) {
      Atomics.store(table.mtu, peer.number, peer.baseMtu)
    }
  }

  // candidates first, then a port not proved yet, then the keepalive of configured peers
  #nextProbe(peer: Peer): void {
    const { table } = this.#ports
    const current = table.port[peer.number]!
    const verified = this.#isProved(peer)
    peer.probes = peer.probes.filter(p => p.tries < (p.port === current ? UNVERIFIED_TRIES : CANDIDATE_TRIES))
    const candidate = peer.probes.find(p => p.port !== current)
    if (candidate) return this.#probe(peer, candidate.port)
    if (peer.tellings > 0) return this.#tell(peer, peer.tellings - 1)
    const seen = table.lastSeen[peer.number]! !== 0
    if (!verified && seen && peer.unanswered < UNVERIFIED_TRIES) return this.#probeCurrent(peer)
    if (peer.keepalive !== undefined) return this.#keepAlive(peer, peer.keepalive, verified)
    // does not count as unanswered: a person who asks changes nothing
    if (peer.waiting.length > 0) this.#probe(peer, current)
  }

  #keepAlive(peer: Peer, everyS: number, verified: boolean): void {
    const { table, now } = this.#ports
    const current = table.port[peer.number]!
    if (peer.unanswered === 3) this.#ports.onEvent({ what: 'unreachable', peer: peer.address, port: current })
    this.#probeCurrent(peer)
    if (verified || peer.unanswered > 3) peer.nextProbe = now() + everyS
  }

  #probeCurrent(peer: Peer): void {
    peer.unanswered++
    this.#probe(peer, this.#ports.table.port[peer.number]!)
  }

  #probe(peer: Peer, port: number): void {
    const probe = peer.probes.find(p => p.port === port) ?? this.#remember(peer, port)
    probe.sentMs = this.#ports.nowMs()
    probe.tries++
    peer.probed = this.#ports.now()
    peer.nextProbe = peer.probed + PROBE_EVERY_S
    this.#ports.sendProbe(peer.address, port, probe.nonce)
  }

  #remember(peer: Peer, port: number): Probe {
    const probe: Probe = { port, nonce: new Uint8Array(randomBytes(16)), sentMs: 0, tries: 0 }
    peer.probes.push(probe)
    return probe
  }
}

function endWaiting(peer: Peer, isOver: (waiter: Peer['waiting'][number]) => boolean, rttMs: number | undefined): void {
  if (peer.waiting.length === 0) return
  const over = peer.waiting.filter(isOver)
  peer.waiting = peer.waiting.filter(waiter => !over.includes(waiter))
  for (const { done } of over) done(rttMs)
}

function familyOf(address: AddressWords): 4 | 6 {
  return address[0] === 0 && address[1] === 0 && address[2] === 0xffff ? 4 : 6
}
