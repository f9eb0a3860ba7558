/**
 * Hands sets of hosts to the mapper and keeps them there (wire.md sections 3 and 4): batches, again after 5 s without an answer; the hash about once a poll
 * interval; everything again 257 ms after a refused hash. The connection comes and goes below (MapperLink).
 *
 *   put ──► batches, at most 32 unanswered ──► all answered: delivered ──► hash ──► hash ──► refused: from the first batch again
 *                 └── connection lost: from the first batch again, when it is back; a set that was delivered: its hash first
 */
import { randomInt } from 'node:crypto'
import type { HostRecord } from '../../ipref/hostSetHash.ts'
import {
  Command,
  decodeRequest,
  encodeHostData,
  encodeHostDataAck,
  encodeHostDataHash,
  encodeSame,
  Mode,
  readHostAnswer,
  recordsOfBatch,
} from '../../ipref/mapperMessage.ts'
import { type Clock, monotonicClock } from '../../runtime/clock.ts'
import type { Poller } from '../sys/poller.ts'
import { connectSeqpacket, type SeqpacketConnection } from '../sys/seqpacket.ts'

const BATCH_BYTES = 1200
/** Batches without an answer, of all sets: they must find room in the socket. */
const OUTSTANDING = 32
const AGAIN_MS = 5000
const UNANSWERED_AFTER = 3
const AFTER_NACK_MS = 257
const SPREAD = 0.2
export const RECONNECT_MS = 10_000
const MOST_MESSAGE = 65536

/** A way to the mapper. */
export interface MapperLink {
  /** False: there is no connection. */
  send(message: Uint8Array): boolean
  close(): void
}

export interface LinkEvents {
  onMessage(message: Uint8Array): void
  onUp(): void
  onDown(why: string): void
}

/** Over the mapper socket; connects again 10 s after it was lost. */
export function connectMapper(
  path: string,
  poller: Poller,
  events: LinkEvents,
  clock: Clock = monotonicClock,
): MapperLink {
  let connection: SeqpacketConnection | undefined
  let stopTimer: () => void
  let isClosed = false
  const lost = (why: string) => {
    if (isClosed) return
    stopTimer = clock.after(RECONNECT_MS, dial)
    events.onDown(why)
  }
  const dial = () => {
    try {
      connection = connectSeqpacket({
        path,
        poller,
        most: MOST_MESSAGE,
        onMessage: message => events.onMessage(message),
        onClosed: () => {
          connection = undefined
          lost('the connection was closed')
        },
      })
    } catch (error) {
      return lost((error as Error).message)
    }
    events.onUp()
  }
  stopTimer = clock.after(0, dial)
  return {
    send: message => connection?.send(message) ?? false,
    close: () => {
      isClosed = true
      stopTimer()
      connection?.close()
    },
  }
}

/** In the process of the gateway. */
export function joinMapper(
  handle: (message: Uint8Array) => Promise<Uint8Array | undefined>,
  events: LinkEvents,
): MapperLink {
  setImmediate(() => events.onUp())
  return {
    send: message => {
      void handle(message).then(answer => answer && events.onMessage(answer))
      return true
    },
    close: () => {},
  }
}

/** Instead of a mapper: takes everything, and says what it was given. */
export function pretendMapper(events: LinkEvents, onRecord: (source: string, record: HostRecord) => void): MapperLink {
  setImmediate(() => events.onUp())
  const answer = (message: Uint8Array): Uint8Array | undefined => {
    const request = decodeRequest(message)
    if (typeof request === 'string') return undefined
    if (request.what === 'hostDataHash') return encodeSame(message, Mode.ack)
    if (request.what !== 'hostData') return undefined
    for (const record of request.records) onRecord(`${request.head.local}:${request.head.public}`, record)
    return encodeHostDataAck(request.header, message)
  }
  return {
    send: message => {
      const said = answer(message)
      if (said) setImmediate(() => events.onMessage(said))
      return true
    },
    close: () => {},
  }
}

export interface HostSet {
  local: string
  public: string
  encodedFamily: 4 | 6
  tunnelFamily: 4 | 6
  hash: bigint
  records: readonly HostRecord[]
}

/** `unanswered`: sent again and again for a while; it may be that the mapper has no network of that IP version. */
export type SetEvent = { what: 'acknowledged' | 'refused' | 'unanswered'; set: HostSet; ms: number }

/** What a keeper needs of the delivery it belongs to. */
interface KeeperPorts {
  send(message: Uint8Array): boolean
  onEvent(event: SetEvent): void
  /** milliseconds until the hash is due */
  hashIn(): number
  /** May one more batch be on its way, of all sets together? */
  hasRoom(): boolean
}

interface Batch {
  number: number
  records: readonly HostRecord[]
  sentAt: number
  /** how often */
  sent: number
}

/** One set on its way, and kept there. */
class Keeper {
  readonly #ports: KeeperPorts
  readonly set: HostSet
  #batches: Batch[] = []
  #next = 0
  readonly #open = new Map<number, Batch>()
  #hashAt = Number.POSITIVE_INFINITY
  /** when a hash went out that was not answered yet */
  #hashAskedAt: number | undefined
  #resendAt = Number.POSITIVE_INFINITY
  #startedAt = 0
  #isDelivered = false

  constructor(set: HostSet, ports: KeeperPorts) {
    this.set = set
    this.#ports = ports
  }

  get isDelivered(): boolean {
    return this.#isDelivered
  }

  get outstanding(): number {
    return this.#open.size
  }

  #header(): { id: number; encodedFamily: 4 | 6; tunnelFamily: 4 | 6 } {
    return { id: randomInt(65536), encodedFamily: this.set.encodedFamily, tunnelFamily: this.set.tunnelFamily }
  }

  /** Everything, from the first record on. */
  deliver(now: number): void {
    const { records } = this.set
    const size = recordsOfBatch(this.#header(), this.set, BATCH_BYTES)
    let number = randomInt(2 ** 31)
    this.#batches = []
    for (let at = 0; at < records.length || at === 0; at += size)
      this.#batches.push({ number: number++, records: records.slice(at, at + size), sentAt: 0, sent: 0 })
    this.#next = 0
    this.#open.clear()
    this.#isDelivered = false
    this.#startedAt = now
    this.#hashAt = Number.POSITIVE_INFINITY
    this.#hashAskedAt = undefined
    this.#resendAt = Number.POSITIVE_INFINITY
    this.pump(now)
  }

  pump(now: number): void {
    while (this.#next < this.#batches.length && this.#ports.hasRoom()) {
      const batch = this.#batches[this.#next]!
      if (!this.#sendBatch(batch, now)) return
      this.#open.set(batch.number, batch)
      this.#next++
    }
  }

  #sendBatch(batch: Batch, now: number): boolean {
    const { hash, local, public: publicName } = this.set
    const head = { batch: batch.number, hash, local, public: publicName }
    batch.sentAt = now
    batch.sent++
    return this.#ports.send(encodeHostData(this.#header(), head, batch.records))
  }

  /** There is a connection, perhaps to another mapper. One that still has the set says so; another one refuses the hash, and gets everything. */
  connected(now: number): void {
    if (this.#isDelivered) this.#askHash(now)
    else this.deliver(now)
  }

  #askHash(now: number): void {
    const { hash, local, public: publicName, records } = this.set
    const message = encodeHostDataHash(this.#header(), { count: records.length, hash, local, public: publicName })
    this.#hashAskedAt = this.#ports.send(message) ? now : undefined
    this.#hashAt = now + this.#ports.hashIn()
  }

  acknowledged(number: number, now: number): void {
    if (!this.#open.delete(number)) return
    if (this.#open.size > 0 || this.#next < this.#batches.length) return
    this.#isDelivered = true
    this.#batches = []
    this.#hashAt = now + this.#ports.hashIn()
    this.#ports.onEvent({ what: 'acknowledged', set: this.set, ms: now - this.#startedAt })
  }

  hashAnswered(isAck: boolean, now: number): void {
    if (this.#hashAskedAt === undefined) return
    this.#hashAskedAt = undefined
    if (isAck) return
    this.#isDelivered = false
    this.#ports.onEvent({ what: 'refused', set: this.set, ms: 0 })
    this.#resendAt = now + AFTER_NACK_MS
  }

  /** When `tick` has something to do. */
  get dueAt(): number {
    let due = Math.min(this.#resendAt, this.#hashAt, (this.#hashAskedAt ?? Number.POSITIVE_INFINITY) + AGAIN_MS)
    for (const { sentAt } of this.#open.values()) due = Math.min(due, sentAt + AGAIN_MS)
    return due
  }

  tick(now: number): void {
    if (now >= this.#resendAt) return this.deliver(now)
    for (const batch of this.#open.values()) {
      if (now - batch.sentAt < AGAIN_MS) continue
      if (batch.sent === UNANSWERED_AFTER && this.#open.values().next().value === batch)
        this.#ports.onEvent({ what: 'unanswered', set: this.set, ms: now - this.#startedAt })
      if (!this.#sendBatch(batch, now)) return
    }
    this.pump(now)
    const isUnheard = this.#hashAskedAt !== undefined && now - this.#hashAskedAt >= AGAIN_MS
    if (now >= this.#hashAt || isUnheard) this.#askHash(now)
  }
}

export interface DeliverySettings {
  /** the hash is sent about that often */
  pollSeconds: number
  clock: Clock
  /** 0 to 1 */
  random(): number
  onEvent(event: SetEvent): void
  onUp(): void
  onDown(why: string): void
}

export class SetDelivery {
  readonly #keepers = new Map<string, Keeper>()
  readonly #link: MapperLink
  readonly #settings: DeliverySettings
  #stopTimer: () => void = () => {}
  #timerAt = Number.POSITIVE_INFINITY
  isUp = false

  constructor(link: (events: LinkEvents) => MapperLink, settings: DeliverySettings) {
    this.#settings = settings
    this.#link = link({
      onMessage: message => this.#hear(message),
      onUp: () => {
        this.isUp = true
        settings.onUp()
        for (const keeper of this.#keepers.values()) keeper.connected(settings.clock.now())
        this.#tickWhenDue()
      },
      onDown: why => {
        this.isUp = false
        settings.onDown(why)
      },
    })
  }

  /** From now on the mapper is to have this set. */
  put(set: HostSet): void {
    const { clock, pollSeconds, random } = this.#settings
    const key = keyOf(set)
    if (this.#keepers.get(key)?.set.hash === set.hash) return
    const keeper = new Keeper(set, {
      send: message => this.isUp && this.#link.send(message),
      onEvent: event => this.#settings.onEvent(event),
      hashIn: () => pollSeconds * 1000 * (1 - SPREAD + 2 * SPREAD * random()),
      hasRoom: () => this.#outstanding < OUTSTANDING,
    })
    this.#keepers.set(key, keeper)
    if (this.isUp) keeper.deliver(clock.now())
    this.#tickWhenDue()
  }

  get delivered(): { set: HostSet; isDelivered: boolean }[] {
    return [...this.#keepers.values()].map(keeper => ({ set: keeper.set, isDelivered: keeper.isDelivered }))
  }

  get #outstanding(): number {
    let sum = 0
    for (const keeper of this.#keepers.values()) sum += keeper.outstanding
    return sum
  }

  #tickWhenDue(): void {
    const { clock } = this.#settings
    let due = Number.POSITIVE_INFINITY
    if (this.isUp) for (const keeper of this.#keepers.values()) due = Math.min(due, keeper.dueAt)
    if (due === this.#timerAt) return
    this.#stopTimer()
    this.#timerAt = due
    if (due === Number.POSITIVE_INFINITY) return
    this.#stopTimer = clock.after(Math.max(0, due - clock.now()), () => {
      this.#timerAt = Number.POSITIVE_INFINITY
      if (this.isUp) for (const keeper of this.#keepers.values()) keeper.tick(clock.now())
      this.#tickWhenDue()
    })
  }

  #hear(message: Uint8Array): void {
    const answer = readHostAnswer(message)
    if (!answer) return
    const keeper = this.#keepers.get(keyOf(answer))
    if (keeper?.set.hash !== answer.hash) return
    const now = this.#settings.clock.now()
    if (answer.command === Command.hostDataHash) keeper.hashAnswered(answer.mode === Mode.ack, now)
    else if (answer.mode === Mode.ack) keeper.acknowledged(answer.number, now)
    // the room of one is everybody's
    for (const one of this.#keepers.values()) one.pump(now)
    this.#tickWhenDue()
  }

  stop(): void {
    this.isUp = false
    this.#stopTimer()
    this.#link.close()
  }
}

function keyOf(set: { local: string; public: string; encodedFamily: number; tunnelFamily: number }): string {
  return `${encodedText(set.local)}:${encodedText(set.public)} ${set.encodedFamily} ${set.tunnelFamily}`
}

// as it comes back: names that are too long for a string are cut
function encodedText(name: string): string {
  return name.slice(0, 255)
}
