/**
 * The standby's end of the stream: takes what the active gateway says, writes it into its own tables and store, and acknowledges what is on disk.
 *
 *   connection ──from a node of the plan?──► hello ──older claim than what we know?──► proof ──► what we have ──► snapshot ──► commits, peers
 *
 * What is not in the snapshot, nor in commits since it began, goes at its end. Peers are kept for the day when we become active. One active gateway at a time: one that proves itself takes the
 * place of the one before. Listens on node addresses alone.
 */
import { randomBytes } from 'node:crypto'
import { createServer, type Server, type Socket } from 'node:net'
import type { AddressWords } from '../../ipref/address.ts'
import type { Logger } from '../../runtime/log.ts'
import type { SavedMapping } from '../mapper/store.ts'
import type { KnownPeer } from '../peers/peers.ts'
import { Line } from './uplinkLine.ts'
import { HeardPeers } from './uplinkPeers.ts'
import {
  FEATURES,
  Feature,
  type Handshake,
  isProof,
  NONCE_BYTES,
  proofOf,
  type UplinkMessage,
  type UplinkRecord,
} from './uplinkProtocol.ts'
import { keyOf, mappingOf, portionsOf } from './uplinkRecords.ts'

const MOST_CONNECTIONS = 8
const SHAKE_MS = 2000

export interface StandbyPorts {
  log: Logger
  key(): Uint8Array | undefined
  /** Is this an address of a gateway's node? */
  isNode(address: string): boolean
  /** Somebody who knows the key says that it is active: who has taken the Lease since? undefined: nobody that we know of. */
  newerThan(name: string, transitions: number): { name: string; transitions: number } | undefined
  transitions(): number
  mappings(): Iterable<SavedMapping>
  adopt(mapping: SavedMapping): void
  drop(kind: 'ours' | 'theirs', local: AddressWords): void
  /** Resolves when everything so far is on disk. */
  durable(): Promise<void>
  unixNow(): number
}

export class UplinkStandby {
  readonly #self: { name: string; port: number }
  readonly #ports: StandbyPorts
  readonly #servers = new Map<string, Server>()
  readonly #lines = new Set<Line>()
  #active: { line: Line; name: string } | undefined
  #isSynchronized = false
  /** what the snapshot and the commits since its beginning hold; undefined: none is under way */
  #seen: Set<string> | undefined
  readonly #peers = new HeardPeers()
  #written = 0
  #isWriting = false
  /** milliseconds, monotonic: when we last were a standby that has everything */
  synchronizedAt = Number.NEGATIVE_INFINITY
  problems: string[] = []

  constructor(self: { name: string; port: number }, ports: StandbyPorts) {
    this.#self = self
    this.#ports = ports
  }

  /** Name of the gateway that we stand by for; undefined: for none. */
  get active(): string | undefined {
    return this.#active?.name
  }

  get isSynchronized(): boolean {
    return this.#isSynchronized
  }

  /** Remote gateways of which we know how the active gateway reaches them. */
  get peers(): number {
    return this.#peers.size
  }

  /** None: nobody is listened to. */
  listen(addresses: readonly string[]): void {
    for (const [address, server] of this.#servers) {
      if (addresses.includes(address)) continue
      server.close()
      this.#servers.delete(address)
    }
    for (const address of addresses) if (!this.#servers.has(address)) this.#listen(address)
    if (addresses.length === 0) for (const line of this.#lines) line.close('this gateway is no candidate any more')
  }

  #listen(host: string): void {
    const server = createServer(socket => this.#accept(socket))
    const where = `${host} TCP port ${this.#self.port}`
    server.maxConnections = MOST_CONNECTIONS
    server.on('error', error => {
      this.#servers.delete(host)
      this.problems = [`the standby cannot listen on ${where}: ${error.message}`]
      this.#ports.log.error(this.problems[0]!)
    })
    server.listen({ host, port: this.#self.port }, () => {
      this.problems = []
    })
    this.#servers.set(host, server)
  }

  #accept(socket: Socket): void {
    const key = this.#ports.key()
    const from = (socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    if (!key || !this.#ports.isNode(from)) return void socket.destroy()
    const timer = setTimeout(() => line.close('no proof in time'), SHAKE_MS)
    let hear: (message: UplinkMessage) => void = () => {}
    const line = new Line(socket, {
      onMessage: message => hear(message),
      onEnd: why => {
        clearTimeout(timer)
        this.#ended(line, why)
      },
    })
    this.#lines.add(line)
    hear = this.#greeting(line, key, name => {
      clearTimeout(timer)
      hear = message => this.#hear(message, line)
      this.#follow(line, name)
    })
  }

  #greeting(line: Line, key: Uint8Array, begin: (name: string) => void) {
    let shake: (Handshake & { transitions: number }) | undefined
    return (message: UplinkMessage) => {
      if (message.kind === 'ping') return
      if (message.kind === 'hello' && !shake) {
        const nonce = randomBytes(NONCE_BYTES)
        const { name } = this.#self
        shake = { active: message, standby: { nonce, name }, transitions: message.transitions }
        line.send({ kind: 'hello', nonce, name, transitions: this.#ports.transitions() })
        line.send({ kind: 'proof', proof: proofOf(key, 'standby', shake) })
      } else if (message.kind === 'proof' && shake) {
        const { active, transitions } = shake
        if (!isProof(message.proof, proofOf(key, 'active', shake))) return line.close('it does not know the key')
        const newer = this.#ports.newerThan(active.name, transitions)
        if (newer) return line.finish({ kind: 'taken', ...newer }, `${active.name} is not active any more`)
        begin(active.name)
      } else line.close(`a message out of turn: ${message.kind}`)
    }
  }

  #follow(line: Line, name: string): void {
    this.#active?.line.close('another gateway is active')
    this.#active = { line, name }
    this.#isSynchronized = false
    this.#seen = undefined
    this.#isWriting = false
    void this.#offer(line)
  }

  async #offer(line: Line): Promise<void> {
    for (const records of portionsOf(this.#ports.mappings(), () => this.#ports.unixNow())) {
      await line.sendSlowly({ kind: 'commit', sequence: 0, records })
      if (!line.isOpen) return
    }
    line.send({ kind: 'end', sequence: 0, features: FEATURES })
  }

  // an active gateway that has just been started again knows nobody any more
  #beginPeers(features: number, line: Line): void {
    if ((features & Feature.peers) === 0) return this.#peers.clear()
    for (const records of this.#peers.portions()) line.send({ kind: 'peers', records })
    this.#peers.beginSnapshot()
  }

  #hear(message: UplinkMessage, line: Line): void {
    if (this.#isSynchronized) this.synchronizedAt = performance.now()
    if (message.kind === 'ping') return
    if (message.kind === 'begin') {
      this.#seen = new Set()
      return this.#beginPeers(message.features, line)
    }
    if (message.kind === 'peers') {
      for (const record of message.records) this.#peers.take(record)
      return
    }
    if (message.kind === 'commit') {
      for (const record of message.records) this.#take(record)
      return this.#acknowledge(line, message.sequence)
    }
    if (message.kind === 'end' && this.#seen) {
      this.#forgetOthers(this.#seen)
      this.#peers.endSnapshot()
      this.#seen = undefined
      this.#isSynchronized = true
      this.synchronizedAt = performance.now()
      this.#ports.log.info({ active: this.#active?.name }, 'standing by: all mappings of the active gateway are here')
      return this.#acknowledge(line, message.sequence)
    }
    line.close(`a message out of turn: ${message.kind}`)
  }

  #take(record: UplinkRecord): void {
    const { adopt, drop, unixNow } = this.#ports
    if (record.do === 'save') {
      adopt(mappingOf(record, unixNow()))
      this.#seen?.add(keyOf(record))
    } else {
      drop(record.kind, record.local)
      this.#seen?.delete(keyOf(record))
    }
  }

  #forgetOthers(seen: ReadonlySet<string>): void {
    const others = [...this.#ports.mappings()].filter(mapping => !seen.has(keyOf(mapping)))
    for (const { kind, local } of others) this.#ports.drop(kind, local)
  }

  // one wait for the disk at a time; what comes meanwhile is acknowledged with the next
  #acknowledge(line: Line, sequence: number): void {
    this.#written = sequence
    if (this.#isWriting) return
    this.#isWriting = true
    this.#ports
      .durable()
      .then(
        () => line.send({ kind: 'ack', sequence }),
        () => line.close('mappings cannot be written here'),
      )
      .finally(() => {
        this.#isWriting = false
        if (line.isOpen && this.#written !== sequence) this.#acknowledge(line, this.#written)
      })
  }

  #ended(line: Line, why: string): void {
    this.#lines.delete(line)
    if (this.#active?.line !== line) return
    this.#ports.log.info({ active: this.#active.name, why }, 'standing by no more')
    this.#active = undefined
    this.#isSynchronized = false
    this.#seen = undefined
  }

  /** We hold the Lease now: whoever still thinks that it is active is told. What it found out about peers. */
  takeOver(transitions: number): KnownPeer[] {
    const line = this.#active?.line
    line?.finish({ kind: 'taken', name: this.#self.name, transitions }, 'this gateway is active now')
    return this.#peers.handOver()
  }

  /** What an active gateway said of peers is old by now. */
  forgetPeers(): void {
    this.#peers.clear()
  }

  stop(): void {
    for (const line of this.#lines) line.close('the gateway ends')
    for (const server of this.#servers.values()) server.close()
    this.#servers.clear()
  }
}
