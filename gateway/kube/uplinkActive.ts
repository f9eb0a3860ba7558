/**
 * The active gateway's end of the stream: finds a standby, gives it everything, then each commit as it comes, and what changed of peers twice a second.
 *
 *   gateways by name, beginning after our own ──dial──► first that answers and knows the key ──► merge ──► snapshot ──► commits
 *                                   ▲──────────────────────────── the connection ends ───────────────────────────────────┘
 *
 * `save` waits for the standby's acknowledgement, at most 100 ms; without a standby it does not wait. Both are counted: an answer left that one
 * gateway alone could keep. Snapshot and commits share one connection, in order; a portion is read when there is room to send it, so it is never older than
 * what was sent before it.
 */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { AddressWords } from '../../ipref/address.ts'
import type { Logger } from '../../runtime/log.ts'
import type { SavedMapping } from '../mapper/store.ts'
import type { KnownPeer } from '../peers/peers.ts'
import { Line } from './uplinkLine.ts'
import { ToldPeers } from './uplinkPeers.ts'
import {
  FEATURES,
  Feature,
  type Handshake,
  isProof,
  MOST_RECORDS,
  NONCE_BYTES,
  proofOf,
  type UplinkMessage,
  type UplinkRecord,
} from './uplinkProtocol.ts'
import { mappingOf, portionsOf, recordOf } from './uplinkRecords.ts'
import type { Replica } from './uplinkStore.ts'

const DIAL_MS = 1000
const AGAIN_MS = 1000
const SOON_MS = 100
const PATIENCE_MS = 100
const PEERS_MS = 500

export interface Contact {
  name: string
  addresses: readonly string[]
}

export interface ActivePorts {
  log: Logger
  /** of the Secret; undefined: not known yet */
  key(): Uint8Array | undefined
  /** who may be the standby, in the order in which they are tried */
  standbys(): readonly Contact[]
  ownAddresses(): readonly string[]
  /** of the Lease, when we took it */
  transitions(): number
  mappings(): Iterable<SavedMapping>
  /** A mapping of the standby that is not here: taken over, unless it contradicts one that is. */
  merge(mapping: SavedMapping): void
  peers: {
    /** ports that were proved, of peers in use */
    known(): Iterable<KnownPeer>
    /** Found out by an active gateway before us: taken over, unless we found out ourselves. */
    merge(peer: KnownPeer): void
  }
  /** seconds, wall clock */
  unixNow(): number
  /** how long a standby may take to keep a mapping before its address is given out without it; default: 100 ms */
  patienceMs?: number
  /** Another gateway has taken the Lease. */
  onTaken(name: string, transitions: number): void
}

interface Waiting {
  sequence: number
  until: number
  resolve(): void
}

export class UplinkActive implements Replica {
  readonly #self: { name: string; port: number }
  readonly #ports: ActivePorts
  #line: Line | undefined
  #standby = ''
  /** all mappings are on their way to it: what comes now has to be acknowledged */
  #isSent = false
  /** the number of that message whose acknowledgement says that it has them */
  #lastOfAll = Number.POSITIVE_INFINITY
  #isSynchronized = false
  #isRunning = false
  #cancelDial: NodeJS.Timeout | undefined
  #peersTimer: NodeJS.Timeout | undefined
  #next = 0
  #sequence = 0
  #queue: UplinkRecord[] = []
  #waiting: Waiting[] = []
  #patience: NodeJS.Timeout | undefined
  /** answers that left while one gateway alone could keep them */
  alone = 0

  constructor(self: { name: string; port: number }, ports: ActivePorts) {
    this.#self = self
    this.#ports = ports
  }

  /** Name of the gateway that has everything; undefined: none has. */
  get standby(): string | undefined {
    return this.#isSynchronized ? this.#standby : undefined
  }

  start(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    this.#next = 0
    this.#dial()
  }

  stop(why: string): void {
    this.#isRunning = false
    clearTimeout(this.#cancelDial)
    this.#line?.close(why)
  }

  // ---- commits

  save(mapping: SavedMapping): Promise<void> {
    this.saveLater(mapping)
    if (!this.#isSent) {
      this.alone++
      return Promise.resolve()
    }
    return new Promise(resolve => {
      this.#waiting.push({
        sequence: this.#sequence,
        until: performance.now() + (this.#ports.patienceMs ?? PATIENCE_MS),
        resolve,
      })
      this.#watchPatience()
    })
  }

  saveLater(mapping: SavedMapping): void {
    this.#push(recordOf(mapping, this.#ports.unixNow()))
  }

  remove(kind: 'ours' | 'theirs', local: AddressWords): void {
    const none: AddressWords = [0, 0, 0, 0]
    this.#push({ do: 'remove', kind, local, context: none, reference: none, left: 0 })
  }

  #push(record: UplinkRecord): void {
    if (!this.#line || this.#standby === '') return
    this.#sequence++
    // what is said in one turn of the event loop goes in one frame
    if (this.#queue.length === 0) setImmediate(() => this.#flush())
    this.#queue.push(record)
    if (this.#queue.length >= MOST_RECORDS) this.#flush()
  }

  #flush(): void {
    const records = this.#queue
    if (records.length === 0) return
    this.#queue = []
    this.#line?.send({ kind: 'commit', sequence: this.#sequence, records })
  }

  #watchPatience(): void {
    const [first] = this.#waiting
    if (this.#patience || !first) return
    this.#patience = setTimeout(
      () => {
        this.#patience = undefined
        const now = performance.now()
        while (this.#waiting[0] && this.#waiting[0].until <= now) {
          this.alone++
          this.#waiting.shift()!.resolve()
        }
        this.#watchPatience()
      },
      Math.max(1, Math.ceil(first.until - performance.now())),
    )
  }

  #acknowledged(sequence: number): void {
    let done = 0
    while (done < this.#waiting.length && this.#waiting[done]!.sequence <= sequence) this.#waiting[done++]!.resolve()
    this.#waiting.splice(0, done)
    if (this.#isSynchronized || sequence < this.#lastOfAll) return
    this.#isSynchronized = true
    this.#ports.log.info({ standby: this.#standby }, 'a standby has all mappings')
  }

  // ---- the standby

  #dial(): void {
    if (!this.#isRunning) return
    const { standbys, key } = this.#ports
    const contacts = standbys()
    const secret = key()
    const contact = contacts[this.#next % Math.max(1, contacts.length)]
    // after all of them, a rest
    const isLast = ++this.#next >= contacts.length
    if (isLast) this.#next = 0
    if (!contact || !secret) return this.#dialLater(AGAIN_MS)
    const pair = this.#pairTo(contact)
    if (!pair) return this.#dialLater(isLast ? AGAIN_MS : 0)
    const socket = connect({ host: pair.to, port: this.#self.port, localAddress: pair.from })
    const timer = setTimeout(() => socket.destroy(new Error('no connection in time')), DIAL_MS)
    socket.once('connect', () => clearTimeout(timer))
    const nonce = randomBytes(NONCE_BYTES)
    let hear: (message: UplinkMessage) => void = () => {}
    const line = new Line(socket, {
      onMessage: message => hear(message),
      onEnd: why => {
        clearTimeout(timer)
        this.#ended(contact.name, why, isLast)
      },
    })
    this.#line = line
    hear = this.#greeting({ line, key: secret, nonce, expected: contact.name }, () => {
      hear = message => this.#hear(message, line, contact.name)
    })
    socket.once('connect', () =>
      line.send({ kind: 'hello', nonce, name: this.#self.name, transitions: this.#ports.transitions() }),
    )
  }

  #pairTo({ addresses }: Contact): { from: string; to: string } | undefined {
    const isSameFamily = (a: string, b: string) => a.includes(':') === b.includes(':')
    for (const to of addresses) {
      const from = this.#ports.ownAddresses().find(own => isSameFamily(own, to))
      if (from !== undefined) return { from, to }
    }
    return undefined
  }

  #dialLater(ms: number): void {
    clearTimeout(this.#cancelDial)
    if (this.#isRunning) this.#cancelDial = setTimeout(() => this.#dial(), ms)
  }

  #ended(name: string, why: string, isLast: boolean): void {
    const { log } = this.#ports
    const fields = { standby: name, why }
    const wasStandby = this.#isSent
    if (wasStandby) log.warn(fields, 'the standby is gone; another one is looked for')
    else log.debug(fields, 'no standby there')
    if (wasStandby) this.#next = 0
    this.#line = undefined
    this.#standby = ''
    this.#isSent = false
    this.#lastOfAll = Number.POSITIVE_INFINITY
    this.#isSynchronized = false
    clearTimeout(this.#peersTimer)
    this.#queue = []
    for (const { resolve } of this.#waiting.splice(0)) {
      this.alone++
      resolve()
    }
    this.#dialLater(wasStandby ? SOON_MS : isLast ? AGAIN_MS : 0)
  }

  #greeting(
    { line, key, nonce, expected }: { line: Line; key: Uint8Array; nonce: Uint8Array; expected: string },
    begin: () => void,
  ) {
    let shake: Handshake | undefined
    return (message: UplinkMessage) => {
      if (message.kind === 'ping') return
      if (message.kind === 'hello' && !shake) {
        if (message.name !== expected) return line.close(`${message.name} answers in the place of ${expected}`)
        shake = { active: { nonce, name: this.#self.name }, standby: message }
      } else if (message.kind === 'proof' && shake) {
        if (!isProof(message.proof, proofOf(key, 'standby', shake))) return line.close('it does not know the key')
        line.send({ kind: 'proof', proof: proofOf(key, 'active', shake) })
        begin()
      } else line.close(`a message out of turn: ${message.kind}`)
    }
  }

  #hear(message: UplinkMessage, line: Line, name: string): void {
    if (message.kind === 'ack') return this.#acknowledged(message.sequence)
    if (message.kind === 'taken') return this.#ports.onTaken(message.name, message.transitions)
    if (message.kind === 'ping') return
    if (message.kind === 'commit' && this.#standby === '') {
      const now = this.#ports.unixNow()
      for (const record of message.records) if (record.do === 'save') this.#ports.merge(mappingOf(record, now))
      return
    }
    if (message.kind === 'end' && this.#standby === '') {
      this.#standby = name
      return void this.#synchronize(line, message.features & FEATURES)
    }
    if (message.kind === 'peers' && this.#standby !== '') {
      for (const record of message.records) if (record.do === 'know') this.#ports.peers.merge(record)
      return
    }
    line.close(`a message out of turn: ${message.kind}`)
  }

  async #synchronize(line: Line, features: number): Promise<void> {
    const { mappings, unixNow, log } = this.#ports
    line.send({ kind: 'begin', features })
    let count = 0
    for (const records of portionsOf(mappings(), unixNow)) {
      count += records.length
      await line.sendSlowly({ kind: 'commit', sequence: this.#sequence, records })
      if (!line.isOpen) return
      // others have their turn between portions
      await new Promise(resolve => setImmediate(resolve))
    }
    const tellPeers = this.#peersTo(line, features)
    await tellPeers()
    this.#flush()
    this.#lastOfAll = ++this.#sequence
    line.send({ kind: 'end', sequence: this.#lastOfAll, features: 0 })
    if (!line.isOpen) return
    this.#isSent = true
    this.#tellPeersAgain(line, tellPeers)
    log.debug({ standby: this.#standby, mappings: count }, 'all mappings are on their way to a standby')
  }

  #peersTo(line: Line, features: number): () => Promise<void> {
    if ((features & Feature.peers) === 0) return () => Promise.resolve()
    const told = new ToldPeers()
    return async () => {
      for (const records of told.changes(this.#ports.peers.known())) {
        await line.sendSlowly({ kind: 'peers', records })
        if (!line.isOpen) return
      }
    }
  }

  // the next round begins when this one has gone out
  #tellPeersAgain(line: Line, tellPeers: () => Promise<void>): void {
    this.#peersTimer = setTimeout(() => {
      void tellPeers().then(() => line.isOpen && this.#tellPeersAgain(line, tellPeers))
    }, PEERS_MS)
  }
}
