/**
 * The mapper: who may say what about an address; the only writer of the mapping tables. Runs on the main thread.
 *
 *   static, crd, hosts, dns:… ──setSource──► resolve (assertions.ts) ──► tables, filter of published hosts
 *   resolver, traffic ──encodedFor, missNative, missRemote──► dynamic mappings ──► tables, store
 *   tick ──► dynamic mappings that were used live on; those that were not, and tentative ones nobody answered, go
 *
 * Dynamic mappings (wire.md section 2, lifetimes; decisions.md 7) have no JavaScript object each: what the shared tables do not hold is in
 * typed columns by slot. A mapping made by an inbound packet is tentative until the local host answers, and is not saved before.
 */
import {
  type AddressWords,
  bytesFromWords,
  equalAddress,
  familyOf,
  familyOfWords,
  formatWords,
  type Prefix,
  prefixContains,
  wordsFromBytes,
} from '../../ipref/address.ts'
import { Fault } from '../../ipref/faults.ts'
import { DYNAMIC_LIFETIME_S } from '../../ipref/lifetimes.ts'
import { formatReference, referenceFromWords, wordsFromReference } from '../../ipref/reference.ts'
import { type MappingsWriter, NEVER } from '../plane/mappings.ts'
import { chooseEncoded, chooseReference, dynamicSpace, type Pool, wholeNetwork } from './allocate.ts'
import {
  type Assertion,
  type Claim,
  describeAssertion,
  isContext,
  type Owner,
  type PortRange,
  type Problem,
  resolve,
} from './assertions.ts'
import type { SavedMapping } from './store.ts'

const TENTATIVE_S = 60
const TENTATIVE_SHARE = 8
const TENTATIVE_PER_PEER = 256
/** Records looked at by one tick: a million in less than a minute, each tick in a few milliseconds. */
const SCAN_STEP = 20_000
const NO_PEER = -1
const DYNAMIC = 0

/** An address of ours that others may begin connections to, as text. */
export interface PublishedHost {
  address: string
  /** absent: every port and protocol */
  ports?: readonly PortRange[]
}

export interface MapperPorts {
  tables: MappingsWriter
  store: {
    save(mapping: SavedMapping): Promise<void>
    saveLater(mapping: SavedMapping): void
    remove(kind: 'ours' | 'theirs', local: AddressWords): void
  }
  /** Addresses of ours that others may begin connections to. */
  filter: { change(published: readonly PublishedHost[], withdrawn: readonly string[]): Promise<void> }
  peers: {
    require(a0: number, a1: number, a2: number, a3: number): number
    release(number: number): void
    readonly capacity: number
  }
  /** seconds, monotonic: the clock of the tables */
  now(): number
  /** seconds, wall clock: for what is saved */
  unixNow(): number
  random32(): number
  onProblems(problems: Problem[]): void
}

export interface MapperSettings {
  encodingNetworks: readonly Prefix[]
  ownEncoded: readonly Uint8Array[]
  contexts: readonly Uint8Array[]
  gatewayReference: bigint
  referenceLength: 4 | 8
  quotaPerPeer: number
  /** where dynamic encoded addresses are taken from; absent: the encoding networks, but for their static part */
  pools?: readonly Pool[]
}

export interface MappingRow {
  relation: 'ours' | 'theirs'
  local: string
  remote: string
  owner: Owner
  tentative: boolean
  /** dynamic, and in the store */
  saved: boolean
  expiresInSeconds: number | null
  lastUsedSecondsAgo: number | null
}

export type Encoded = { encoded: Uint8Array; durable: Promise<void> } | { refused: string }

interface Tentative {
  slot: number
  generation: number
  deadline: number
  peer: number
}

export class Mapper {
  readonly #ports: MapperPorts
  readonly #settings: MapperSettings
  readonly #sets = new Map<Owner, readonly Assertion[]>()
  readonly #owners: Owner[] = ['dynamic']
  // columns by slot: index into #owners, saved expiry (0: not saved), 1: tentative
  readonly #oursOwner: Uint16Array
  readonly #theirsOwner: Uint16Array
  readonly #oursSaved: Int32Array
  readonly #theirsSaved: Int32Array
  readonly #tentative: Uint8Array
  readonly #perPeer: Int32Array
  readonly #tentativePerPeer: Int32Array
  #pools: readonly Pool[] = []
  #contexts: readonly Uint8Array[]
  #mayAllocate = true
  readonly #tentativeLimit = new Map<number, number>()
  #tentatives: Tentative[] = []
  #generation = 0
  readonly #claims = new Map<string, Claim & { slot: number }>()
  #problems: Problem[] = []
  #reported = new Set<string>()
  #changing: Promise<void> = Promise.resolve()
  #scanOurs = 0
  #scanTheirs = 0
  readonly counts = { allocatedEncoded: 0, allocatedReferences: 0, expired: 0, refused: 0, tentative: 0, promoted: 0 }

  constructor(ports: MapperPorts, settings: MapperSettings) {
    this.#ports = ports
    this.#settings = settings
    this.#contexts = settings.contexts
    const { ours, theirs } = ports.tables
    this.#oursOwner = new Uint16Array(ours.capacity)
    this.#oursSaved = new Int32Array(ours.capacity)
    this.#theirsOwner = new Uint16Array(theirs.capacity)
    this.#theirsSaved = new Int32Array(theirs.capacity)
    this.#tentative = new Uint8Array(theirs.capacity)
    this.#perPeer = new Int32Array(ports.peers.capacity)
    this.#tentativePerPeer = new Int32Array(ports.peers.capacity)
    this.setPools(settings.pools ?? settings.encodingNetworks.map(wholeNetwork))
  }

  /** Dynamic encoded addresses outside these are taken away at once: they are another gateway's to give. */
  setPools(pools: readonly Pool[]): void {
    this.#pools = pools
    const { theirs } = this.#ports.tables
    this.#tentativeLimit.clear()
    for (const { family } of pools.map(pool => pool.network)) {
      const space = pools.filter(p => p.network.family === family).reduce((sum, pool) => sum + dynamicSpace(pool), 0)
      this.#tentativeLimit.set(family, Math.floor(Math.min(space, theirs.capacity) / TENTATIVE_SHARE))
    }
    for (let slot = 0; slot < theirs.highWater; slot++) {
      if (this.#theirsOwner[slot] !== DYNAMIC || !theirs.isUsed(slot)) continue
      if (!this.#isInPool(bytesFromWords(theirs.encoded(slot)))) this.#removeDynamicTheirs(slot)
    }
  }

  /** false: another gateway gives encoded addresses and references; this one keeps what it has and what it is told (`adopt`). */
  setAllocating(isAllowed: boolean): void {
    this.#mayAllocate = isAllowed
  }

  #isInPool(address: Uint8Array): boolean {
    return this.#pools.some(({ network }) => prefixContains(network, address))
  }

  /** Our own addresses are these from now on: what leads to them turns around here, what leads elsewhere needs a peer. */
  setContexts(contexts: readonly Uint8Array[]): Promise<void> {
    this.#contexts = contexts
    const { theirs } = this.#ports.tables
    for (let slot = 0; slot < theirs.highWater; slot++)
      if (theirs.isUsed(slot) && this.#isOwnContext(theirs.context(slot)) !== theirs.peer(slot) < 0) this.#relink(slot)
    return this.#inTurn(() => this.#resolve())
  }

  #relink(slot: number): void {
    const { theirs } = this.#ports.tables
    // nobody has answered it, so nobody misses it
    if (this.#tentative[slot] === 1) return this.#removeTheirs(slot)
    const context = theirs.context(slot)
    this.#releasePeer(theirs.peer(slot))
    const peer = this.#requirePeer(context)
    if (peer >= 0 || this.#isOwnContext(context)) return theirs.setPeer(slot, peer)
    // no room for another peer
    theirs.setPeer(slot, NO_PEER)
    if (this.#theirsOwner[slot] === DYNAMIC) return this.#removeDynamicTheirs(slot)
    for (const [key, claim] of this.#claims)
      if (claim.assertion.kind === 'theirs' && claim.slot === slot) this.#withdraw(key, claim)
  }

  // ---- what owners say

  /** Replaces everything that this owner says. Resolves, when it is in force, to what could not be. */
  setSource(owner: Owner, assertions: readonly Assertion[]): Promise<Problem[]> {
    const change = this.#inTurn(() => {
      if (assertions.length === 0) this.#sets.delete(owner)
      else this.#sets.set(owner, assertions)
      return this.#resolve()
    })
    return change.then(() => this.#problems.filter(problem => problem.owner === owner))
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(change)
    this.#changing = done.catch(() => {})
    return done
  }

  async #resolve(): Promise<void> {
    const { winners, problems } = resolve(this.#sets, { ...this.#settings, contexts: this.#contexts })
    const added = [...winners].filter(([key, claim]) => !isSame(this.#claims.get(key), claim))
    const removed = [...this.#claims].filter(([key, claim]) => !isSame(winners.get(key), claim))
    const otherPorts: Claim[] = []
    for (const [key, claim] of winners) {
      const held = this.#claims.get(key)
      if (!held || !isSame(held, claim)) continue
      if (portsOf(held) !== portsOf(claim)) otherPorts.push(claim)
      this.#setOwner(held, claim)
    }
    const published = hostsOf([...added.map(([, claim]) => claim), ...otherPorts])
    const stays = new Set(published.map(host => host.address))
    const withdrawn = hostsOf(removed.map(([, claim]) => claim))
      .map(host => host.address)
      .filter(address => !stays.has(address))
    // open before the tables have it, closed after they lost it: a mapped, published host is never closed
    if (published.length > 0) await this.#ports.filter.change(published, [])
    for (const [key, claim] of removed) this.#withdraw(key, claim)
    for (const [key, claim] of added) {
      const problem = this.#enforce(key, claim)
      if (problem) problems.push(problem)
    }
    if (withdrawn.length > 0) await this.#ports.filter.change([], withdrawn)
    this.#report(problems)
  }

  #setOwner(held: Claim & { slot: number }, claim: Claim): void {
    held.owner = claim.owner
    held.assertion = claim.assertion
    const column = claim.assertion.kind === 'ours' ? this.#oursOwner : this.#theirsOwner
    column[held.slot] = this.#ownerIndex(claim.owner)
  }

  #ownerIndex(owner: Owner): number {
    const index = this.#owners.indexOf(owner)
    return index >= 0 ? index : this.#owners.push(owner) - 1
  }

  #withdraw(key: string, claim: Claim & { slot: number }): void {
    this.#claims.delete(key)
    if (claim.assertion.kind === 'ours') this.#ports.tables.ours.remove(claim.slot)
    else this.#removeTheirs(claim.slot)
  }

  // a dynamic mapping of the same address, reference or remote host gives way
  #enforce(key: string, claim: Claim): Problem | undefined {
    const { assertion, owner } = claim
    const reference = wordsFromReference(assertion.reference)
    const slot =
      assertion.kind === 'ours'
        ? this.#enforceOurs(wordsFromBytes(assertion.address), reference)
        : this.#enforceTheirs(assertion, reference)
    if (slot < 0)
      return {
        owner,
        assertion,
        reason: 'invalid',
        detail: `no room for ${describeAssertion(assertion)}: raise -max-mappings`,
      }
    const column = assertion.kind === 'ours' ? this.#oursOwner : this.#theirsOwner
    column[slot] = this.#ownerIndex(owner)
    this.#claims.set(key, { owner, assertion, slot })
    return undefined
  }

  #enforceOurs(address: AddressWords, reference: AddressWords): number {
    const { ours } = this.#ports.tables
    for (const slot of [ours.findAddress(address), ours.findReference(reference)])
      if (slot >= 0) this.#removeDynamicOurs(slot)
    return ours.add(address, reference, NEVER)
  }

  #enforceTheirs(assertion: Assertion & { kind: 'theirs' }, reference: AddressWords): number {
    const { theirs } = this.#ports.tables
    const ea = wordsFromBytes(assertion.encoded)
    const context = wordsFromBytes(assertion.context)
    for (const slot of [theirs.findEncoded(ea), theirs.findRemote(context, reference, familyOfWords(ea))]) {
      if (slot >= 0) this.#removeDynamicTheirs(slot)
    }
    const peer = this.#requirePeer(context)
    if (peer === NO_PEER && !this.#isOwnContext(context)) return -1
    return theirs.add({ ea, context, reference, peer, expires: NEVER })
  }

  #report(problems: Problem[]): void {
    this.#problems = problems
    const keys = new Set(problems.map(problem => `${problem.owner} ${problem.detail}`))
    const fresh = problems.filter(problem => !this.#reported.has(`${problem.owner} ${problem.detail}`))
    this.#reported = keys
    if (fresh.length > 0) this.#ports.onProblems(fresh)
  }

  /** Assertions that are not in force now. */
  problems(): readonly Problem[] {
    return this.#problems
  }

  /** Hosts that somebody published. */
  published(): PublishedHost[] {
    return hostsOf([...this.#claims.values()])
  }

  // ---- dynamic mappings

  /**
   * The encoded address of a remote host, made if there is none. `durable`: when it may be given out. The resolver asks; what traffic
   * makes is tentative (missRemote).
   */
  encodedFor(wanted: { context: Uint8Array; reference: bigint; family: 4 | 6 }): Encoded {
    const { context, reference, family } = wanted
    if (reference === 0n) return this.#refuse('0 is no reference')
    if (!isContext(context)) return this.#refuse('the context is no unicast address')
    const words = wordsFromBytes(context)
    const referenceWords = wordsFromReference(reference)
    const { theirs } = this.#ports.tables
    let slot = theirs.findRemote(words, referenceWords, family)
    if (slot >= 0 && this.#theirsOwner[slot] !== DYNAMIC)
      return { encoded: bytesFromWords(theirs.encoded(slot)), durable: Promise.resolve() }
    if (slot < 0) {
      if (!this.#mayAllocate) return this.#refuse('another gateway of this cluster gives encoded addresses')
      const made = this.#addTheirs(words, referenceWords, family, this.#ports.now() + DYNAMIC_LIFETIME_S)
      if (made < 0)
        return this.#refuse(made === -2 ? 'the quota of this peer is used up' : 'no encoded address is left')
      slot = made
    } else if (this.#tentative[slot] === 1) this.#promote(slot)
    return { encoded: bytesFromWords(theirs.encoded(slot)), durable: this.#keepTheirs(slot) }
  }

  /** The host of ours behind a reference, if it has an address of that family. */
  nativeOf(wanted: { family: 4 | 6; reference: bigint }): Uint8Array | undefined {
    const { ours } = this.#ports.tables
    const slot = ours.findReference(wordsFromReference(wanted.reference))
    const address = slot >= 0 ? bytesFromWords(ours.address(slot)) : undefined
    return address && familyOf(address) === wanted.family ? address : undefined
  }

  #refuse(refused: string): Encoded {
    this.counts.refused++
    return { refused }
  }

  /** A local host sends and has no reference: it gets one. Fault.none: try the packet again. */
  missNative(address: AddressWords): number {
    const { ours } = this.#ports.tables
    const slot = ours.findAddress(address)
    if (slot >= 0) return Fault.none
    if (!this.#mayAllocate) return Fault.source_unmapped
    const bytes = bytesFromWords(address)
    if (!this.#settings.encodingNetworks.some(network => network.family === familyOf(bytes)))
      return Fault.source_unmapped
    const reference = chooseReference(
      this.#settings.referenceLength,
      this.#ports.random32,
      words => ours.findReference(words) < 0,
    )
    const added = reference ? ours.add(address, reference, this.#ports.now() + DYNAMIC_LIFETIME_S) : -1
    if (added < 0) return Fault.quota_exceeded
    this.#oursOwner[added] = DYNAMIC
    this.counts.allocatedReferences++
    this.#saveOurs(added)
    return Fault.none
  }

  /** A remote host sends to one of ours and has no encoded address: it gets one, on trial. Fault.none: try the packet again. */
  missRemote(wanted: { context: AddressWords; reference: AddressWords; family: 4 | 6 }): number {
    const { context, reference, family } = wanted
    const { theirs } = this.#ports.tables
    if (theirs.findRemote(context, reference, family) >= 0) return Fault.none
    const limit = this.#tentativeLimit.get(family)
    if (limit === undefined) return Fault.ip_version_unserved
    if (!this.#mayAllocate) return Fault.source_unmapped
    if (this.#tentatives.length >= limit) this.#evictTentative()
    const slot = this.#addTheirs(context, reference, family, this.#ports.now() + TENTATIVE_S, TENTATIVE_PER_PEER)
    if (slot < 0) return Fault.quota_exceeded
    const peer = theirs.peer(slot)
    this.#tentative[slot] = 1
    if (peer >= 0) this.#tentativePerPeer[peer]! += 1
    this.#tentatives.push({ slot, generation: ++this.#generation, deadline: this.#ports.now() + TENTATIVE_S, peer })
    this.counts.tentative++
    return Fault.none
  }

  /** Slot; −1: no room; −2: quota. */
  #addTheirs(
    context: AddressWords,
    reference: AddressWords,
    family: 4 | 6,
    expires: number,
    tentativeQuota = 0,
  ): number {
    const { tables } = this.#ports
    const pools = this.#pools.filter(p => p.network.family === family)
    if (pools.length === 0) return -1
    const peer = this.#requirePeer(context)
    if (peer === NO_PEER && !this.#isOwnContext(context)) return -2
    const quotaLeft =
      peer < 0 ||
      (this.#perPeer[peer]! <= this.#settings.quotaPerPeer &&
        (tentativeQuota === 0 || this.#tentativePerPeer[peer]! < tentativeQuota))
    const ea = quotaLeft ? this.#chooseEncoded(pools) : undefined
    const slot = ea ? tables.theirs.add({ ea, context, reference, peer, expires }) : -1
    if (slot < 0) {
      this.#releasePeer(peer)
      return quotaLeft ? -1 : -2
    }
    this.#theirsOwner[slot] = DYNAMIC
    this.#theirsSaved[slot] = 0
    this.#tentative[slot] = 0
    this.counts.allocatedEncoded++
    return slot
  }

  // the pools by turns, beginning anywhere
  #chooseEncoded(pools: readonly Pool[]): AddressWords | undefined {
    const { random32, tables } = this.#ports
    const first = (random32() >>> 0) % pools.length
    for (let i = 0; i < pools.length; i++) {
      const pool = pools[(first + i) % pools.length]!
      const ea = chooseEncoded(pool, random32, words => tables.theirs.findEncoded(words) < 0)
      if (ea) return ea
    }
    return undefined
  }

  #requirePeer(context: AddressWords): number {
    if (this.#isOwnContext(context)) return NO_PEER
    const peer = this.#ports.peers.require(...context)
    if (peer >= 0) this.#perPeer[peer]! += 1
    return peer
  }

  #releasePeer(peer: number): void {
    if (peer < 0) return
    this.#perPeer[peer]! -= 1
    this.#ports.peers.release(peer)
  }

  #isOwnContext(context: AddressWords): boolean {
    const bytes = bytesFromWords(context)
    return this.#contexts.some(own => equalAddress(own, bytes))
  }

  // ---- lifetimes

  /** Once a second. */
  tick(): void {
    const now = this.#ports.now()
    this.#judgeTentatives(now)
    this.#scanOurs = this.#scan('ours', this.#scanOurs, now)
    this.#scanTheirs = this.#scan('theirs', this.#scanTheirs, now)
  }

  #judgeTentatives(now: number): void {
    if (this.#tentatives.length === 0) return
    const { theirs } = this.#ports.tables
    this.#tentatives = this.#tentatives.filter(({ slot, deadline }) => {
      if (this.#tentative[slot] === 0) return false
      if (theirs.answered[slot] === 1) {
        this.#promote(slot)
        void this.#keepTheirs(slot).catch(() => {})
        return false
      }
      if (deadline > now) return true
      this.#removeTheirs(slot)
      this.counts.expired++
      return false
    })
  }

  #evictTentative(): void {
    for (let oldest = this.#tentatives.shift(); oldest; oldest = this.#tentatives.shift()) {
      if (this.#tentative[oldest.slot] === 0) continue
      this.#removeTheirs(oldest.slot)
      this.counts.expired++
      return
    }
  }

  #promote(slot: number): void {
    const { theirs } = this.#ports.tables
    const peer = theirs.peer(slot)
    this.#tentative[slot] = 0
    if (peer >= 0) this.#tentativePerPeer[peer]! -= 1
    theirs.expires[slot] = this.#ports.now() + DYNAMIC_LIFETIME_S
    this.counts.promoted++
  }

  // mappings that were used live on; written at most once a quarter of the lifetime
  #scan(kind: 'ours' | 'theirs', from: number, now: number): number {
    const table = this.#ports.tables[kind]
    const owner = kind === 'ours' ? this.#oursOwner : this.#theirsOwner
    const end = Math.min(from + SCAN_STEP, table.highWater)
    for (let slot = from; slot < end; slot++) {
      const expires = table.expires[slot]!
      if (owner[slot] !== DYNAMIC || expires === NEVER || !table.isUsed(slot)) continue
      if (kind === 'theirs' && this.#tentative[slot] === 1) continue
      const used = table.lastUsed[slot]! === 0 ? 0 : table.lastUsed[slot]! + DYNAMIC_LIFETIME_S
      if (used > expires) this.#extend(kind, slot, used)
      else if (expires <= now) this.#expire(kind, slot)
    }
    return end >= table.highWater ? 0 : end
  }

  #extend(kind: 'ours' | 'theirs', slot: number, expires: number): void {
    this.#ports.tables[kind].expires[slot] = expires
    const saved = kind === 'ours' ? this.#oursSaved[slot]! : this.#theirsSaved[slot]!
    if (this.#toUnix(expires) - saved < DYNAMIC_LIFETIME_S / 4) return
    if (kind === 'ours') this.#saveOurs(slot)
    else {
      this.#theirsSaved[slot] = this.#toUnix(expires)
      this.#ports.store.saveLater(this.#savedTheirs(slot))
    }
  }

  #expire(kind: 'ours' | 'theirs', slot: number): void {
    this.counts.expired++
    if (kind === 'ours') this.#removeDynamicOurs(slot)
    else this.#removeDynamicTheirs(slot)
  }

  #removeDynamicOurs(slot: number): void {
    const { tables, store } = this.#ports
    if (this.#oursOwner[slot] !== DYNAMIC) return
    const address = tables.ours.address(slot)
    tables.ours.remove(slot)
    store.remove('ours', address)
  }

  #removeDynamicTheirs(slot: number): void {
    const { tables, store } = this.#ports
    if (this.#theirsOwner[slot] !== DYNAMIC) return
    const ea = tables.theirs.encoded(slot)
    const wasSaved = this.#theirsSaved[slot] !== 0
    this.#removeTheirs(slot)
    if (wasSaved) store.remove('theirs', ea)
  }

  #removeTheirs(slot: number): void {
    const { theirs } = this.#ports.tables
    const peer = theirs.peer(slot)
    if (this.#tentative[slot] === 1 && peer >= 0) this.#tentativePerPeer[peer]! -= 1
    this.#tentative[slot] = 0
    this.#theirsSaved[slot] = 0
    theirs.remove(slot)
    this.#releasePeer(peer)
  }

  // ---- the store

  #toUnix(monotonic: number): number {
    return Math.floor(this.#ports.unixNow() + monotonic - this.#ports.now())
  }

  #saveOurs(slot: number): void {
    const { ours } = this.#ports.tables
    const expires = this.#toUnix(ours.expires[slot]!)
    this.#oursSaved[slot] = expires
    const [local, reference] = [ours.address(slot), ours.reference(slot)]
    this.#ports.store.saveLater({ kind: 'ours', local, context: [0, 0, 0, 0], reference, expires })
  }

  #savedTheirs(slot: number): SavedMapping {
    const { theirs } = this.#ports.tables
    const expires = this.#toUnix(theirs.expires[slot]!)
    return {
      kind: 'theirs',
      local: theirs.encoded(slot),
      context: theirs.context(slot),
      reference: theirs.reference(slot),
      expires,
    }
  }

  // a full lifetime from now on, on disk: at once when it was not saved, or when a quarter of what is saved has passed
  #keepTheirs(slot: number): Promise<void> {
    const { tables, store, now } = this.#ports
    tables.theirs.expires[slot] = Math.max(tables.theirs.expires[slot]!, now() + DYNAMIC_LIFETIME_S)
    const mapping = this.#savedTheirs(slot)
    if (this.#theirsSaved[slot] !== 0 && mapping.expires - this.#theirsSaved[slot]! < DYNAMIC_LIFETIME_S / 4)
      return Promise.resolve()
    const sequence = tables.theirs.encoded(slot)
    return store.save(mapping).then(() => {
      if (equalWords(tables.theirs.encoded(slot), sequence)) this.#theirsSaved[slot] = mapping.expires
    })
  }

  /** At start: a mapping that was saved. Those that ran out, or do not fit the configuration any more, are left out. */
  restore(saved: SavedMapping): boolean {
    const { tables, now, unixNow } = this.#ports
    const left = saved.expires - Math.floor(unixNow())
    if (left <= 0) return false
    const expires = now() + Math.min(left, DYNAMIC_LIFETIME_S)
    const local = bytesFromWords(saved.local)
    const inNetwork = this.#settings.encodingNetworks.some(network => prefixContains(network, local))
    if (saved.kind === 'ours') {
      if (inNetwork || tables.ours.findAddress(saved.local) >= 0 || tables.ours.findReference(saved.reference) >= 0)
        return false
      const slot = tables.ours.add(saved.local, saved.reference, expires)
      if (slot < 0) return false
      this.#oursOwner[slot] = DYNAMIC
      this.#oursSaved[slot] = saved.expires
      return true
    }
    if (!this.#isInPool(local) || tables.theirs.findEncoded(saved.local) >= 0) return false
    if (tables.theirs.findRemote(saved.context, saved.reference, familyOfWords(saved.local)) >= 0) return false
    const peer = this.#requirePeer(saved.context)
    const slot = tables.theirs.add({
      ea: saved.local,
      context: saved.context,
      reference: saved.reference,
      peer,
      expires,
    })
    if (slot < 0) return false
    this.#theirsOwner[slot] = DYNAMIC
    this.#theirsSaved[slot] = saved.expires
    return true
  }

  /** Saves every dynamic mapping anew: the store lost its file. */
  saveAll(): void {
    for (const mapping of this.dynamicMappings()) {
      const { ours, theirs } = this.#ports.tables
      if (mapping.kind === 'ours') this.#oursSaved[ours.findAddress(mapping.local)] = mapping.expires
      else this.#theirsSaved[theirs.findEncoded(mapping.local)] = mapping.expires
      this.#ports.store.saveLater(mapping)
    }
  }

  // ---- several gateways that carry the same mappings (kube/uplink.ts)

  /** All that are not tentative. Each is as it is when it is taken: the tables may change in between. */
  *dynamicMappings(): Generator<SavedMapping> {
    const { ours, theirs } = this.#ports.tables
    for (let slot = 0; slot < ours.highWater; slot++) {
      if (this.#oursOwner[slot] !== DYNAMIC || !ours.isUsed(slot)) continue
      const expires = this.#toUnix(ours.expires[slot]!)
      yield { kind: 'ours', local: ours.address(slot), context: [0, 0, 0, 0], reference: ours.reference(slot), expires }
    }
    for (let slot = 0; slot < theirs.highWater; slot++) {
      if (this.#theirsOwner[slot] !== DYNAMIC || !theirs.isUsed(slot) || this.#tentative[slot] === 1) continue
      yield this.#savedTheirs(slot)
    }
  }

  /**
   * Takes over what another gateway gave: dynamic mappings that contradict it go, what owners say stays. False: it is not taken. A mapping that
   * is here already, as it is, gets its expiry.
   */
  adopt(mapping: SavedMapping): boolean {
    const { kind, local, context, reference } = mapping
    if (!isPossible(mapping)) return false
    const { ours, theirs } = this.#ports.tables
    const slots =
      kind === 'ours'
        ? [ours.findAddress(local), ours.findReference(reference)]
        : [theirs.findEncoded(local), theirs.findRemote(context, reference, familyOfWords(local))]
    const owner = kind === 'ours' ? this.#oursOwner : this.#theirsOwner
    if (slots.some(slot => slot >= 0 && owner[slot] !== DYNAMIC)) return false
    if (slots[0]! >= 0 && slots[0] === slots[1]) {
      this.#renew(kind, slots[0]!, mapping.expires)
      this.#ports.store.saveLater(mapping)
      return true
    }
    for (const slot of slots) {
      if (slot < 0) continue
      if (kind === 'ours') this.#removeDynamicOurs(slot)
      else this.#removeDynamicTheirs(slot)
    }
    return this.merge(mapping)
  }

  /** As adopt, but gives way to what is here. */
  merge(mapping: SavedMapping): boolean {
    if (!isPossible(mapping) || !this.restore(mapping)) return false
    this.#ports.store.saveLater(mapping)
    return true
  }

  #renew(kind: 'ours' | 'theirs', slot: number, expires: number): void {
    if (kind === 'theirs' && this.#tentative[slot] === 1) this.#promote(slot)
    const left = Math.min(expires - Math.floor(this.#ports.unixNow()), DYNAMIC_LIFETIME_S)
    this.#ports.tables[kind].expires[slot] = this.#ports.now() + Math.max(0, left)
    const saved = kind === 'ours' ? this.#oursSaved : this.#theirsSaved
    saved[slot] = expires
  }

  /** The other gateway took it away; a mapping that an owner asserts stays. */
  drop(kind: 'ours' | 'theirs', local: AddressWords): void {
    const { ours, theirs } = this.#ports.tables
    const slot = kind === 'ours' ? ours.findAddress(local) : theirs.findEncoded(local)
    if (slot < 0) return
    if (kind === 'ours') this.#removeDynamicOurs(slot)
    else this.#removeDynamicTheirs(slot)
  }

  // ---- what people ask

  countsByOwner(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const { owner } of this.#claims.values()) counts[owner] = (counts[owner] ?? 0) + 1
    const { ours, theirs } = this.#ports.tables
    counts.tentative = this.#tentatives.length
    counts.dynamic = ours.size + theirs.size - this.#claims.size - this.#tentatives.length
    return counts
  }

  /** The first `limit` mappings, those of owners before dynamic ones. */
  rows(limit: number): MappingRow[] {
    const rows: MappingRow[] = []
    for (const claim of this.#claims.values()) {
      if (rows.length >= limit) return rows
      rows.push(this.#row(claim.assertion.kind, claim.slot))
    }
    for (const kind of ['ours', 'theirs'] as const) {
      const table = this.#ports.tables[kind]
      const owner = kind === 'ours' ? this.#oursOwner : this.#theirsOwner
      for (let slot = 0; slot < table.highWater && rows.length < limit; slot++) {
        if (owner[slot] === DYNAMIC && table.isUsed(slot)) rows.push(this.#row(kind, slot))
      }
    }
    return rows
  }

  #row(kind: 'ours' | 'theirs', slot: number): MappingRow {
    const { ours, theirs } = this.#ports.tables
    const table = kind === 'ours' ? ours : theirs
    const now = this.#ports.now()
    const [expires, used] = [table.expires[slot]!, table.lastUsed[slot]!]
    const reference = formatReference(
      referenceFromWords(kind === 'ours' ? ours.reference(slot) : theirs.reference(slot)),
    )
    return {
      relation: kind,
      local: formatWords(kind === 'ours' ? ours.address(slot) : theirs.encoded(slot)),
      remote: kind === 'ours' ? `+ ${reference}` : `${formatWords(theirs.context(slot))} + ${reference}`,
      owner: this.#owners[(kind === 'ours' ? this.#oursOwner : this.#theirsOwner)[slot]!]!,
      tentative: kind === 'theirs' && this.#tentative[slot] === 1,
      saved: (kind === 'ours' ? this.#oursSaved : this.#theirsSaved)[slot] !== 0,
      expiresInSeconds: expires === NEVER ? null : Math.max(0, expires - now),
      lastUsedSecondsAgo: used === 0 ? null : Math.max(0, now - used),
    }
  }

  /** The mapping of a local address: native, or encoded. */
  describe(address: Uint8Array): MappingRow | undefined {
    const words = wordsFromBytes(address)
    const { ours, theirs } = this.#ports.tables
    const slot = ours.findAddress(words)
    if (slot >= 0) return this.#row('ours', slot)
    const remote = theirs.findEncoded(words)
    return remote >= 0 ? this.#row('theirs', remote) : undefined
  }
}

function isPossible({ kind, context, reference }: SavedMapping): boolean {
  return reference.some(word => word !== 0) && (kind === 'ours' || isContext(bytesFromWords(context)))
}

function equalWords(a: AddressWords, b: AddressWords): boolean {
  return a.every((word, i) => word === b[i])
}

function isSame(a: Claim | undefined, b: Claim | undefined): boolean {
  return a !== undefined && b !== undefined && describeAssertion(a.assertion) === describeAssertion(b.assertion)
}

function portsOf({ assertion }: Claim): string {
  return assertion.kind === 'ours' && assertion.ports ? JSON.stringify(assertion.ports) : ''
}

function hostsOf(claims: readonly Claim[]): PublishedHost[] {
  return claims.flatMap(({ assertion }) => {
    if (assertion.kind !== 'ours') return []
    const { address, ports } = assertion
    return [{ address: formatWords(wordsFromBytes(address)), ...(ports ? { ports } : {}) }]
  })
}
