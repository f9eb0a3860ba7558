/**
 * Hands sets of hosts to the mapper and keeps them there (wire.md sections 3 and 4): batches, again after 5 s without an answer; the hash once a minute or once a
 * poll interval; everything again 257 ms after a refused hash. The connection comes and goes below (MapperLink).
 */
import { randomInt } from 'node:crypto'
import type { HostRecord } from '../../ipref/hostSetHash.ts'
import {
  Command,
  decodeHeader,
  encodeHostData,
  encodeHostDataHash,
  MESSAGE_HEADER,
  Mode,
  recordsOfBatch,
} from '../../ipref/mapperMessage.ts'
import type { Poller } from '../sys/poller.ts'
import { connectSeqpacket, type SeqpacketConnection } from '../sys/seqpacket.ts'

const BATCH_BYTES = 1200
const OUTSTANDING = 32
const AGAIN_MS = 5000
const AFTER_NACK_MS = 257
const HASH_MS = 60_000
const RECONNECT_MS = 10_000
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
  reconnectMs = RECONNECT_MS,
): MapperLink {
  let connection: SeqpacketConnection | undefined
  let timer: NodeJS.Timeout | undefined
  let isClosed = false
  const dial = () => {
    timer = undefined
    if (isClosed) return
    try {
      connection = connectSeqpacket({
        path,
        poller,
        most: MOST_MESSAGE,
        onMessage: message => events.onMessage(message),
        onClosed: () => {
          connection = undefined
          if (isClosed) return
          timer = setTimeout(dial, reconnectMs)
          events.onDown('the connection was closed')
        },
      })
      events.onUp()
    } catch (error) {
      timer = setTimeout(dial, reconnectMs)
      events.onDown((error as Error).message)
    }
  }
  timer = setTimeout(dial, 0)
  return {
    send: message => connection?.send(message) ?? false,
    close: () => {
      isClosed = true
      clearTimeout(timer)
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

export interface HostSet {
  local: string
  public: string
  encodedFamily: 4 | 6
  tunnelFamily: 4 | 6
  hash: bigint
  records: readonly HostRecord[]
}

export type SetEvent = { what: 'acknowledged' | 'refused'; set: HostSet; ms: number }

/** One set on its way, and kept there. */
class Keeper {
  readonly #send: (message: Uint8Array) => boolean
  readonly #onEvent: (event: SetEvent) => void
  readonly #hashMs: number
  set: HostSet
  #batches: { records: readonly HostRecord[]; batch: number; sentAt: number }[] = []
  #next = 0
  readonly #open = new Map<number, { records: readonly HostRecord[]; sentAt: number }>()
  #hashAt = Number.POSITIVE_INFINITY
  #hashAsked = false
  #resendAt = Number.POSITIVE_INFINITY
  #startedAt = 0
  #isDelivered = false

  constructor(
    set: HostSet,
    ports: { send(message: Uint8Array): boolean; onEvent(event: SetEvent): void; hashMs: number },
  ) {
    this.set = set
    this.#send = ports.send
    this.#onEvent = ports.onEvent
    this.#hashMs = ports.hashMs
  }

  get isDelivered(): boolean {
    return this.#isDelivered
  }

  #header(): { id: number; encodedFamily: 4 | 6; tunnelFamily: 4 | 6 } {
    return { id: randomInt(65536), encodedFamily: this.set.encodedFamily, tunnelFamily: this.set.tunnelFamily }
  }

  /** Everything, from the first record on. */
  deliver(now: number): void {
    const { set } = this
    const size = recordsOfBatch(this.#header(), set, BATCH_BYTES)
    let batch = randomInt(2 ** 31)
    this.#batches = []
    for (let at = 0; at < set.records.length || at === 0; at += size)
      this.#batches.push({ records: set.records.slice(at, at + size), batch: batch++, sentAt: 0 })
    this.#next = 0
    this.#open.clear()
    this.#isDelivered = false
    this.#startedAt = now
    this.#hashAt = Number.POSITIVE_INFINITY
    this.#resendAt = Number.POSITIVE_INFINITY
    this.#pump(now)
  }

  #pump(now: number): void {
    while (this.#open.size < OUTSTANDING && this.#next < this.#batches.length) {
      const { records, batch } = this.#batches[this.#next]!
      if (!this.#sendBatch(batch, records)) return
      this.#open.set(batch, { records, sentAt: now })
      this.#next++
    }
  }

  #sendBatch(batch: number, records: readonly HostRecord[]): boolean {
    const { hash, local, public: publicName } = this.set
    return this.#send(encodeHostData(this.#header(), { batch, hash, local, public: publicName }, records))
  }

  askHash(now: number): void {
    const { hash, local, public: publicName, records } = this.set
    const message = encodeHostDataHash(this.#header(), { count: records.length, hash, local, public: publicName })
    this.#hashAsked = this.#send(message)
    this.#hashAt = now + this.#hashMs
  }

  /** Is this about this set? */
  isFor(families: { encodedFamily: number; tunnelFamily: number }, hash: bigint): boolean {
    const { set } = this
    return (
      set.encodedFamily === families.encodedFamily && set.tunnelFamily === families.tunnelFamily && set.hash === hash
    )
  }

  acknowledged(batch: number, now: number): void {
    if (!this.#open.delete(batch)) return
    this.#pump(now)
    if (this.#open.size > 0 || this.#next < this.#batches.length || this.#isDelivered) return
    this.#isDelivered = true
    this.#batches = []
    this.#hashAt = now + this.#hashMs
    this.#onEvent({ what: 'acknowledged', set: this.set, ms: now - this.#startedAt })
  }

  hashAnswered(isAck: boolean, now: number): void {
    if (!this.#hashAsked) return
    this.#hashAsked = false
    if (isAck) {
      this.#isDelivered = true
      return
    }
    if (this.#resendAt !== Number.POSITIVE_INFINITY) return
    this.#onEvent({ what: 'refused', set: this.set, ms: 0 })
    this.#resendAt = now + AFTER_NACK_MS
  }

  tick(now: number): void {
    if (now >= this.#resendAt) return this.deliver(now)
    for (const [batch, open] of this.#open) {
      if (now - open.sentAt < AGAIN_MS) continue
      open.sentAt = now
      this.#sendBatch(batch, open.records)
    }
    this.#pump(now)
    if (now >= this.#hashAt) this.askHash(now)
  }
}

export class SetDelivery {
  readonly #keepers = new Map<string, Keeper>()
  readonly #link: MapperLink
  readonly #onEvent: (event: SetEvent) => void
  readonly #hashMs: number
  readonly #timer: NodeJS.Timeout
  isUp = false

  /** `pollSeconds`: the hash is sent at least that often */
  constructor(
    link: (events: LinkEvents) => MapperLink,
    settings: { pollSeconds: number; onEvent(event: SetEvent): void; onUp(): void; onDown(why: string): void },
  ) {
    this.#onEvent = settings.onEvent
    this.#hashMs = Math.min(HASH_MS, settings.pollSeconds * 1000)
    this.#timer = setInterval(() => this.#tick(), 50)
    this.#link = link({
      onMessage: message => this.#hear(message),
      onUp: () => {
        this.isUp = true
        settings.onUp()
        // a gateway that still has the set says so; another one refuses the hash, and gets everything
        for (const keeper of this.#keepers.values()) keeper.askHash(performance.now())
      },
      onDown: why => {
        this.isUp = false
        settings.onDown(why)
      },
    })
  }

  /** From now on the mapper is to have this set. */
  put(set: HostSet): void {
    const key = `${set.local}:${set.public} ${set.encodedFamily} ${set.tunnelFamily}`
    const old = this.#keepers.get(key)
    if (old && old.set.hash === set.hash) return
    const keeper = new Keeper(set, {
      send: message => this.isUp && this.#link.send(message),
      onEvent: event => this.#onEvent(event),
      hashMs: this.#hashMs,
    })
    this.#keepers.set(key, keeper)
    keeper.deliver(performance.now())
  }

  get delivered(): { set: HostSet; isDelivered: boolean }[] {
    return [...this.#keepers.values()].map(keeper => ({ set: keeper.set, isDelivered: keeper.isDelivered }))
  }

  #tick(): void {
    if (!this.isUp) return
    const now = performance.now()
    for (const keeper of this.#keepers.values()) keeper.tick(now)
  }

  #hear(message: Uint8Array): void {
    const header = decodeHeader(message)
    if (typeof header === 'string' || message.length < MESSAGE_HEADER + 12) return
    const view = new DataView(message.buffer, message.byteOffset, message.length)
    const now = performance.now()
    const keeper = [...this.#keepers.values()].find(k => k.isFor(header, view.getBigUint64(12)))
    if (header.command === Command.hostData && header.mode === Mode.ack) keeper?.acknowledged(view.getUint32(8), now)
    else if (header.command === Command.hostDataHash) keeper?.hashAnswered(header.mode === Mode.ack, now)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#link.close()
  }
}
