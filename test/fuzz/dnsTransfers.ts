/**
 * The reader of zone transfers, from primaries on loopback that send real transfers, signed or not, with changed messages, lying lengths, and ends in the
 * middle. Every transfer is whole, or ends in a sentence; of a signed one no changed byte is ever taken.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { FrameReader, frameOf } from '../../dns/tcpListener.ts'
import { transferZone } from '../../dns/transfer.ts'
import { Zone } from '../../dns/zone.ts'
import { ZoneResponder } from '../../dns/zoneResponder.ts'
import { parseAddress, parsePrefix } from '../../ipref/address.ts'
import { type Corpus, KEYS, recordsOf, ZONE, ZONE_TEXT } from './dnsCorpus.ts'
import { MessageMutator } from './dnsMutate.ts'
import { joined, type Random } from './random.ts'
import type { Report } from './report.ts'

const LANES = 8
const LEAST = 1000
const LOOPBACK = parseAddress('127.0.0.1')!
const LIMITS = { records: 1500, bytes: 1 << 20, totalMs: 60_000, idleMs: 60_000 }

const P = {
  throws: 'transfers: each is whole or ends in a sentence',
  records: 'transfers: what is whole has the records that were handed over',
  signed: 'transfers: of a signed one no changed byte is taken',
} as const

/** One primary and its secondary: one transfer after the other. */
class Lane {
  readonly #random: Random
  readonly #messages: MessageMutator
  readonly #responder: ZoneResponder
  readonly #server: Server
  /** what was sent last differs in more than the case of letters from what was signed */
  isChanged = false

  constructor(random: Random, messages: MessageMutator, responder: ZoneResponder) {
    this.#random = random
    this.#messages = messages
    this.#responder = responder
    this.#server = createServer(socket => this.#serve(socket))
  }

  async start(): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port
  }

  async stop(): Promise<void> {
    await new Promise(resolve => this.#server.close(resolve))
  }

  #serve(socket: Socket): void {
    const reader = new FrameReader()
    socket.on('error', () => socket.destroy())
    socket.on('data', (data: Buffer) => {
      for (const query of reader.take(data)) {
        const stream = this.#stream(query)
        // in pieces, that reading in pieces is met too
        const middle = this.#random.below(stream.length + 1)
        socket.write(stream.subarray(0, middle))
        socket.end(stream.subarray(middle))
      }
    })
  }

  #stream(query: Uint8Array): Uint8Array {
    const random = this.#random
    const messages = this.#honest(query)
    const sent = this.#hostile(messages, query)
    const plain = (list: readonly Uint8Array[]) =>
      Buffer.from(joined(...list))
        .toString('latin1')
        .toLowerCase()
    this.isChanged = plain(sent.slice(0, messages.length)) !== plain(messages)
    const frames = sent.map(frameOf)
    const lying = random.oneIn(12) ? random.below(messages.length) : frames.length
    if (lying < frames.length) {
      // a length that is not that of the message
      frames[lying]!.set(random.bytes(2))
      this.isChanged = true
    }
    return joined(...frames)
  }

  #honest(query: Uint8Array): Uint8Array[] {
    const answer = this.#responder.answer(query, { transport: 'tcp', address: LOOPBACK })
    if (!answer || answer instanceof Uint8Array) return answer ? [answer] : []
    const messages: Uint8Array[] = []
    for (let next = answer.messages.next(); !next.done; next = answer.messages.next()) messages.push(next.value)
    return messages
  }

  #hostile(messages: readonly Uint8Array[], query: Uint8Array): Uint8Array[] {
    const random = this.#random
    const sent = [...messages]
    const i = random.below(sent.length)
    const [id0, id1] = query
    const altered = sent[i]!.slice()
    switch (random.below(12)) {
      case 0:
        return sent
      case 1:
        return sent.slice(0, i)
      case 2:
        return sent.toSpliced(i, 1)
      case 3:
        return sent.toSpliced(i, 0, random.oneIn(4) ? new Uint8Array() : sent[i]!)
      case 4:
        return [...sent, this.#messages.next().subarray(0, 65_535)]
      case 5: {
        const other = this.#messages.next().slice(0, 65_535)
        if (other.length > 1) other.set([id0!, id1!])
        return sent.with(random.oneIn(2) ? 0 : i, other)
      }
      case 6:
        altered[random.below(2)]! ^= 1 << random.below(8)
        return sent.with(i, altered)
      case 7:
        // an operation
        altered[2]! |= 8 << random.below(4)
        return sent.with(i, altered)
      default:
        return sent.with(random.oneIn(2) ? 0 : i, this.#messages.change(sent[i]!).slice(0, 65_535))
    }
  }
}

export class TransfersFuzzer {
  readonly #random: Random
  readonly #report: Report
  readonly #lanes: readonly Lane[]

  constructor(random: Random, corpus: Corpus, report: Report) {
    this.#random = random
    this.#report = report
    const messages = new MessageMutator(random, corpus.answers)
    const allow = [parsePrefix('127.0.0.0/8')!]
    const settings = { keys: KEYS, transferAllow: allow, transferKeys: [] }
    const responder = new ZoneResponder(settings, { now: () => Date.now() / 1000 })
    const hosts = Array.from({ length: 900 }, (_, i) => `many${i} TXT "AA 198.51.100.2 + ${i + 100}"\n`)
    responder.setZone(Zone.from(ZONE, recordsOf(`${ZONE_TEXT}${hosts.join('')}`)).zone!)
    this.#lanes = Array.from({ length: LANES }, () => new Lane(random, messages, responder))
    report.promise(...Object.values(P))
  }

  async run(seconds: number): Promise<void> {
    const until = performance.now() + seconds * 1000
    const tally = this.#report.tally('transfers')
    const isOver = () => this.#report.isHopeless || (tally.received >= LEAST && performance.now() >= until)
    await Promise.all(
      this.#lanes.map(async lane => {
        await lane.start()
        while (!isOver()) await this.#transfer(lane)
        await lane.stop()
      }),
    )
    this.#report.requireOutcomes('transfers', [
      'whole',
      'the connection was closed before the end of the zone',
      'an answer to another question (its id)',
      'an answer to another kind of question',
    ])
  }

  async #transfer(lane: Lane): Promise<void> {
    const tally = this.#report.tally('transfers')
    tally.received++
    const key = this.#random.oneIn(3) ? this.#random.pick(KEYS) : undefined
    let handed = 0
    const onRecord = () => void handed++
    try {
      const server = { host: '127.0.0.1', port: lane.port }
      const { records, foreign } = await transferZone({ server, zone: ZONE, key, limits: LIMITS, onRecord })
      tally.count('whole')
      if (records - foreign !== handed) this.#report.broken(P.records, `${handed} of ${records} (${foreign} foreign)`)
      if (key && lane.isChanged) this.#report.broken(P.signed, 'taken as whole')
    } catch (error) {
      tally.count(this.#sentence(error as Error))
    }
  }

  #sentence(error: Error): string {
    const sentence = /^example\.com\. from 127\.0\.0\.1:\d+: (.+)$/.exec(error.message)?.[1]
    if (sentence === undefined) this.#report.broken(P.throws, error.stack ?? error.message)
    return (sentence ?? 'threw').replace(/\d+/g, 'N')
  }
}
