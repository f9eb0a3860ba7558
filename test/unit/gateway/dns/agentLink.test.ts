/** Sets of hosts on their way to the mapper: batches, repeats, hashes, connections that come and go; with a clock that the test moves. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  connectMapper,
  type HostSet,
  joinMapper,
  type LinkEvents,
  pretendMapper,
  SetDelivery,
  type SetEvent,
} from '../../../../gateway/dns/agentLink.ts'
import { Poller } from '../../../../gateway/sys/poller.ts'
import { type SeqpacketConnection, SeqpacketServer } from '../../../../gateway/sys/seqpacket.ts'
import { formatAddress, parseAddress } from '../../../../ipref/address.ts'
import { compareHosts, type HostRecord, hashHosts } from '../../../../ipref/hostSetHash.ts'
import {
  decodeRequest,
  encodeHostDataAck,
  encodeSame,
  type MapperRequest,
  Mode,
} from '../../../../ipref/mapperMessage.ts'
import { ManualClock } from '../../../support/manualClock.ts'

const POLL_S = 60
const HALF_A_MINUTE = 30_000

function host(i: number, family: 4 | 6 = 4): HostRecord {
  const native = parseAddress(family === 4 ? `10.1.${i >> 8}.${i & 255}` : `fd01::${i.toString(16)}`)!
  return { native, context: parseAddress('198.51.100.1')!, reference: BigInt(0x1000 + i) }
}

function setOf(count: number, parts: Partial<HostSet> = {}): HostSet {
  const family = parts.encodedFamily ?? 4
  const records = Array.from({ length: count }, (_, i) => host(i, family)).sort(compareHosts)
  const rest = { local: 'internal', public: 'example.com', encodedFamily: 4, tunnelFamily: 4 } as const
  return { ...rest, records, hash: hashHosts(records), ...parts }
}

/** A mapper of the test's, which keeps what it is told to. */
class Lab {
  readonly clock = new ManualClock(0)
  readonly messages: { bytes: Uint8Array; request: MapperRequest; at: number }[] = []
  readonly events: string[] = []
  answering: 'everything' | 'nothing' | 'no hashes' | 'refuses hashes' = 'everything'
  isUp = true
  #link!: LinkEvents
  readonly delivery: SetDelivery

  constructor() {
    this.delivery = new SetDelivery(
      events => {
        this.#link = events
        return { send: bytes => this.#take(bytes), close: () => {} }
      },
      {
        pollSeconds: POLL_S,
        clock: this.clock,
        random: () => 0.5,
        onEvent: ({ what, set }: SetEvent) => this.events.push(`${what} ${set.local}:${set.public}`),
        onUp: () => this.events.push('up'),
        onDown: why => this.events.push(`down: ${why}`),
      },
    )
  }

  up(): void {
    this.isUp = true
    this.#link.onUp()
  }

  down(): void {
    this.isUp = false
    this.#link.onDown('gone')
  }

  #take(bytes: Uint8Array): boolean {
    if (!this.isUp) return false
    const request = decodeRequest(bytes)
    if (typeof request === 'string') throw new Error(request)
    this.messages.push({ bytes, request, at: this.clock.now() })
    const isHash = request.what === 'hostDataHash'
    if (this.answering === 'nothing' || (isHash && this.answering === 'no hashes')) return true
    const mode = isHash && this.answering === 'refuses hashes' ? Mode.nack : Mode.ack
    setImmediate(() => this.answer(isHash ? encodeSame(bytes, mode) : encodeHostDataAck(request.header, bytes)))
    return true
  }

  answer(bytes: Uint8Array): void {
    this.#link.onMessage(bytes)
  }

  /** What came since the last time this was asked: `data 3` with the count of records, or `hash`, and when. */
  taken(): string[] {
    return this.messages
      .splice(0)
      .map(({ request, at }) =>
        request.what === 'hostData' ? `data ${request.records.length} at ${at}` : `hash at ${at}`,
      )
  }
}

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.delivery.stop())

describe('a set', () => {
  it('goes in batches of at most 1200 bytes, each record once, in order, under one hash', async () => {
    lab.up()
    const set = setOf(100)
    lab.delivery.put(set)
    await lab.clock.advance(10)
    expect(lab.messages.map(({ bytes }) => bytes.length)).toEqual([1196, 1196, 48 + 18 * 28])
    for (const { bytes } of lab.messages) expect(bytes.length).toBeLessThanOrEqual(1200)
    const requests = lab.messages.map(({ request }) => request)
    const data = requests.flatMap(request => (request.what === 'hostData' ? [request] : []))
    expect(data.map(request => request.head)).toEqual(
      data.map((_, i) => ({
        batch: data[0]!.head.batch + i,
        hash: set.hash,
        local: 'internal',
        public: 'example.com',
      })),
    )
    expect(data.flatMap(request => request.records.map(record => formatAddress(record.native)))).toEqual(
      set.records.map(record => formatAddress(record.native)),
    )
    expect(lab.events).toEqual(['up', 'acknowledged internal:example.com'])
    expect(lab.delivery.delivered).toMatchObject([{ isDelivered: true }])
  })

  it('fits a batch with the longest of names and addresses', async () => {
    const label = 'x'.repeat(63)
    const long = [label, label, label, label.slice(0, 61)].join('.')
    lab.up()
    lab.delivery.put(setOf(50, { local: long, public: long, encodedFamily: 6 }))
    await lab.clock.advance(10)
    expect(lab.messages.length).toBeGreaterThan(3)
    for (const { bytes } of lab.messages) expect(bytes.length).toBeLessThanOrEqual(1200)
    expect(lab.events.at(-1)).toBe(`acknowledged ${long}:${long}`)
  })

  it('that is empty is one message without records', async () => {
    lab.up()
    lab.delivery.put(setOf(0))
    await lab.clock.advance(10)
    expect(lab.taken()).toEqual(['data 0 at 0'])
    expect(lab.events).toEqual(['up', 'acknowledged internal:example.com'])
  })

  it('that is the same goes once, another one at once', async () => {
    lab.up()
    lab.delivery.put(setOf(3))
    await lab.clock.advance(10)
    lab.delivery.put(setOf(3))
    await lab.clock.advance(10)
    expect(lab.taken()).toEqual(['data 3 at 0'])
    lab.delivery.put(setOf(4))
    await lab.clock.advance(10)
    expect(lab.taken()).toEqual(['data 4 at 20'])
  })

  it('at most 32 batches are on their way, of all sets together', async () => {
    lab.answering = 'nothing'
    lab.up()
    lab.delivery.put(setOf(2000))
    lab.delivery.put(setOf(2000, { public: 'example.org' }))
    await lab.clock.advance(100)
    expect(lab.messages.length).toBe(32)
    lab.answering = 'everything'
    await lab.clock.advance(5000)
    for (let i = 0; i < 20; i++) await lab.clock.advance(50)
    expect(lab.events).toEqual(['up', 'acknowledged internal:example.com', 'acknowledged internal:example.org'])
  })

  it('two sources with the same hosts, or none, are both delivered, and both hashes are heard', async () => {
    lab.up()
    for (const count of [3, 0]) {
      lab.events.length = 0
      lab.delivery.put(setOf(count))
      lab.delivery.put(setOf(count, { public: 'example.org' }))
      lab.delivery.put(setOf(count, { tunnelFamily: 6 }))
      await lab.clock.advance(10)
      expect(lab.events).toEqual([
        'acknowledged internal:example.com',
        'acknowledged internal:example.org',
        'acknowledged internal:example.com',
      ])
      expect(lab.delivery.delivered.map(one => one.isDelivered)).toEqual([true, true, true])
    }
    lab.answering = 'refuses hashes'
    await lab.clock.advance(POLL_S * 1000 + 100)
    expect(lab.events.slice(3)).toEqual([
      'refused internal:example.com',
      'refused internal:example.org',
      'refused internal:example.com',
    ])
  })
})

describe('without an answer', () => {
  it('a batch is sent again every 5 s, the same, and in the end somebody is told', async () => {
    lab.answering = 'nothing'
    lab.up()
    lab.delivery.put(setOf(60))
    await lab.clock.advance(4999)
    expect(lab.taken()).toEqual(['data 41 at 0', 'data 19 at 0'])
    await lab.clock.advance(10_100)
    const times = lab.taken()
    expect(times.slice(0, 2)).toEqual(['data 41 at 5000', 'data 19 at 5000'])
    expect(times.length).toBe(6)
    expect(lab.events).toEqual(['up', 'unanswered internal:example.com'])
    lab.answering = 'everything'
    await lab.clock.advance(5100)
    expect(lab.taken()).toHaveLength(2)
    expect(lab.events.at(-1)).toBe('acknowledged internal:example.com')
    await lab.clock.advance(HALF_A_MINUTE)
    expect(lab.taken()).toEqual([])
  })

  it('only the batch that was not answered is', async () => {
    lab.answering = 'nothing'
    lab.up()
    lab.delivery.put(setOf(60))
    const [first, second] = lab.messages
    lab.answer(encodeHostDataAck(second!.request.header, second!.bytes))
    lab.taken()
    await lab.clock.advance(5000)
    expect(lab.taken()).toEqual(['data 41 at 5000'])
    lab.answer(encodeHostDataAck(first!.request.header, first!.bytes))
    expect(lab.events.at(-1)).toBe('acknowledged internal:example.com')
  })

  it('answers that nobody asked for change nothing', async () => {
    lab.answering = 'nothing'
    lab.up()
    lab.delivery.put(setOf(3))
    const { request, bytes } = lab.messages[0]!
    const ack = encodeHostDataAck(request.header, bytes)
    const flipped = (at: number, to: number) => {
      const copy = ack.slice()
      copy[at]! ^= to
      return copy
    }
    // batch, hash, a name, families, NACK, another command, cut off, nothing at all
    const wrong = [flipped(8, 1), flipped(19, 1), flipped(22, 32), flipped(4, 2), flipped(1, 0x40), flipped(1, 9)]
    for (const one of [...wrong, ack.subarray(0, 24), new Uint8Array(), encodeSame(ack, Mode.request)]) lab.answer(one)
    expect(lab.delivery.delivered[0]!.isDelivered).toBe(false)
    lab.answer(ack)
    expect(lab.delivery.delivered[0]!.isDelivered).toBe(true)
  })
})

describe('the hash', () => {
  it('is sent about once per poll interval, with the count', async () => {
    lab.up()
    lab.delivery.put(setOf(3))
    await lab.clock.advance(10)
    lab.messages.length = 0
    await lab.clock.advance(POLL_S * 1000 * 3 + 1000)
    expect(lab.messages.length).toBe(3)
    expect(lab.messages[0]!.request).toMatchObject({ what: 'hostDataHash', count: 3, hash: setOf(3).hash })
    expect(lab.events).toEqual(['up', 'acknowledged internal:example.com'])
  })

  it('refused: everything again 257 ms later, not before', async () => {
    lab.up()
    lab.delivery.put(setOf(3))
    await lab.clock.advance(10)
    lab.answering = 'refuses hashes'
    lab.messages.length = 0
    await lab.clock.advance(POLL_S * 1000 + 100)
    const [{ at } = { at: 0 }] = lab.messages
    await lab.clock.advance(at + 257 - lab.clock.now() - 1)
    expect(lab.taken()).toHaveLength(1)
    expect(lab.delivery.delivered[0]!.isDelivered).toBe(false)
    await lab.clock.advance(60)
    expect(lab.taken()).toEqual([expect.stringMatching(/^data 3 at/)])
    expect(lab.events).toEqual([
      'up',
      'acknowledged internal:example.com',
      'refused internal:example.com',
      'acknowledged internal:example.com',
    ])
  })

  it('without an answer it is sent again after 5 s', async () => {
    lab.up()
    lab.delivery.put(setOf(3))
    await lab.clock.advance(10)
    lab.answering = 'no hashes'
    lab.messages.length = 0
    await lab.clock.advance(POLL_S * 1000 + 5100)
    expect(lab.taken()).toHaveLength(2)
  })

  it('of a set that is not there any more is not heard', async () => {
    lab.answering = 'no hashes'
    lab.up()
    lab.delivery.put(setOf(3))
    await lab.clock.advance(POLL_S * 1000 + 100)
    const hash = lab.messages.findLast(({ request }) => request.what === 'hostDataHash')!
    lab.delivery.put(setOf(4))
    await lab.clock.advance(10)
    lab.answer(encodeSame(hash.bytes, Mode.nack))
    expect(lab.events.at(-1)).toBe('acknowledged internal:example.com')
  })
})

describe('a connection', () => {
  it('that is not there yet: the set goes when it is, whole', async () => {
    lab.isUp = false
    lab.delivery.put(setOf(60))
    await lab.clock.advance(20_000)
    expect(lab.taken()).toEqual([])
    lab.up()
    await lab.clock.advance(10)
    expect(lab.taken()).toEqual(['data 41 at 20000', 'data 19 at 20000'])
  })

  it('that was lost in the middle: everything from the first batch on', async () => {
    lab.answering = 'nothing'
    lab.up()
    lab.delivery.put(setOf(60))
    const [first] = lab.messages
    lab.answer(encodeHostDataAck(first!.request.header, first!.bytes))
    lab.taken()
    lab.down()
    await lab.clock.advance(10_000)
    expect(lab.taken()).toEqual([])
    lab.answering = 'everything'
    lab.up()
    await lab.clock.advance(10)
    expect(lab.taken()).toEqual(['data 41 at 10000', 'data 19 at 10000'])
    expect(lab.events).toEqual(['up', 'down: gone', 'up', 'acknowledged internal:example.com'])
  })

  it.each([
    ['still has the set: its hash, nothing else', 'everything', ['hash at 10010']],
    ['lost the set: its hash, and 257 ms later all of it', 'refuses hashes', ['hash at 10010', 'data 3 at 10267']],
  ] as const)('that was lost afterwards, to a mapper that %s', async (_, answering, expected) => {
    lab.up()
    lab.delivery.put(setOf(3))
    await lab.clock.advance(10)
    lab.down()
    await lab.clock.advance(10_000)
    lab.taken()
    lab.answering = answering
    lab.up()
    await lab.clock.advance(HALF_A_MINUTE)
    expect(lab.taken()).toEqual(expected)
  })

  it('that ends while something is sent is gone', async () => {
    lab.up()
    lab.isUp = false
    lab.delivery.put(setOf(60))
    lab.down()
    lab.up()
    await lab.clock.advance(10)
    expect(lab.events.at(-1)).toBe('acknowledged internal:example.com')
  })
})

describe('ways to a mapper', () => {
  const events = () => {
    const said: string[] = []
    const messages: Uint8Array[] = []
    const link: LinkEvents = {
      onMessage: message => messages.push(message),
      onUp: () => said.push('up'),
      onDown: why => said.push(why),
    }
    return { said, messages, link }
  }

  it('over its socket: tried again every 10 s, before the first time and after the last', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ipref-link-'))
    const path = join(folder, 'mapper.sock')
    const poller = new Poller()
    const clients: SeqpacketConnection[] = []
    const listen = () =>
      SeqpacketServer.listen({
        path,
        mode: 0o600,
        maxClients: 4,
        maxMessage: 65536,
        poller,
        onMessage: (connection, message) => {
          if (!clients.includes(connection)) clients.push(connection)
          connection.send(message)
        },
      })
    const until = async (what: () => boolean) => {
      for (let i = 0; i < 12_000 && !what(); i++) await new Promise(resolve => setTimeout(resolve, 5))
      expect(what()).toBe(true)
    }
    try {
      const { said, messages, link } = events()
      const clock = new ManualClock(0)
      const mapper = connectMapper(path, poller, link, clock)
      expect(mapper.send(Uint8Array.of(1))).toBe(false)
      await clock.advance(9999)
      expect(said).toEqual([expect.stringMatching(/ENOENT/)])
      const server = await listen()
      await clock.advance(1)
      expect(said.slice(1)).toEqual(['up'])
      expect(mapper.send(Uint8Array.of(1, 2, 3))).toBe(true)
      await until(() => messages.length === 1)
      server.close()
      await until(() => said.length === 3)
      expect(said[2]).toBe('the connection was closed')
      expect(mapper.send(Uint8Array.of(1))).toBe(false)
      const again = await listen()
      await clock.advance(9999)
      expect(said.length).toBe(3)
      await clock.advance(1)
      expect(said[3]).toBe('up')
      mapper.close()
      await clock.advance(60_000)
      expect(said.length).toBe(4)
      again.close()
    } finally {
      poller.close()
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it('in one process', async () => {
    const { said, messages, link } = events()
    const mapper = joinMapper(message => Promise.resolve(message.length > 1 ? message : undefined), link)
    expect(said).toEqual([])
    await new Promise(resolve => setImmediate(resolve))
    expect(said).toEqual(['up'])
    mapper.send(Uint8Array.of(1))
    mapper.send(Uint8Array.of(1, 2))
    await new Promise(resolve => setImmediate(resolve))
    expect(messages).toEqual([Uint8Array.of(1, 2)])
  })

  it('without one: what would be handed over is told, and taken', async () => {
    const clock = new ManualClock(0)
    const told: string[] = []
    const said: string[] = []
    const delivery = new SetDelivery(
      events =>
        pretendMapper(events, (source, { native, reference }) =>
          told.push(`${source} ${formatAddress(native)} ${reference}`),
        ),
      {
        pollSeconds: 60,
        clock,
        random: () => 0.5,
        onEvent: ({ what }) => said.push(what),
        onUp: () => {},
        onDown: () => {},
      },
    )
    delivery.put(setOf(2))
    await clock.advance(120_000)
    expect(told).toEqual(['internal:example.com 10.1.0.0 4096', 'internal:example.com 10.1.0.1 4097'])
    expect(said).toEqual(['acknowledged'])
    delivery.stop()
  })
})
