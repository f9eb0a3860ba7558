/**
 * The codec: reads or refuses whatever comes, writes what it read so that it reads the same again, and agrees with those who read the same bytes in
 * another way: the scanner of the fast path, the walker of what is handed on, zone text, dns-packet.
 */
import dnsPacket from 'dns-packet'
import { Class, formatType, Opcode, Type } from '../../dns/constants.ts'
import {
  decodeMessage,
  encodeMessage,
  HEADER,
  type Message,
  messageFaults,
  opcodeOf,
  type ResourceRecord,
} from '../../dns/message.ts'
import { labelsOf, type Name, ROOT } from '../../dns/name.ts'
import { isWhole, Scan, type ScannedQuery, scanQuery, Variant, walkRecords } from '../../dns/packet.ts'
import { dataKey } from '../../dns/rdata.ts'
import { TsigVerifier, tsigFaults } from '../../dns/tsig.ts'
import { formatRecord, parseZoneText } from '../../dns/zoneText.ts'
import { chainOfPointers } from './dnsChain.ts'
import { KEYS, NOW } from './dnsCorpus.ts'
import type { MessageMutator } from './dnsMutate.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'
import type { Watchdog } from './watchdog.ts'

const NO_TEXT: ReadonlySet<number> = new Set([0, 250, 251, 252, 253, 254, 255, Type.OPT])
/** a message of 16 times the length may take 16 times as long; this much noise is let pass, quadratic time is three times as much */
const [SHORT, LONG] = [1000, 16_000]
const NOISE = 5
const TIMED_RUNS = 7

const P = {
  throws: 'codec: nothing throws',
  round: 'codec: what was read is written so that it reads the same',
  scan: 'codec: the scanner of queries agrees',
  walk: 'codec: the walker of records agrees',
  text: 'codec: records survive zone text',
  second: 'codec: dns-packet agrees where it reads the message too',
  linear: 'codec: time is linear in the length',
} as const

export class CodecFuzzer {
  readonly #random: Random
  readonly #messages: MessageMutator
  readonly #report: Report
  readonly #watchdog: Watchdog
  readonly #scan: ScannedQuery = { questionEnd: 0, type: 0, class: 0, variant: 0, payloadSize: 0 }

  constructor(random: Random, messages: MessageMutator, report: Report, watchdog: Watchdog) {
    this.#random = random
    this.#messages = messages
    this.#report = report
    this.#watchdog = watchdog
    report.promise(...Object.values(P))
  }

  one(): void {
    const bytes = this.#messages.next()
    const tally = this.#report.tally('codec')
    tally.received++
    this.#watchdog.begin(bytes)
    try {
      const message = decodeMessage(bytes)
      tally.count(typeof message === 'string' ? message : 'read')
      this.#scanned(bytes, message)
      if (typeof message === 'string') return
      this.#walked(bytes, message)
      this.#signature(bytes, message)
      const { tsig: _, ...bare } = message
      const written = encodeMessage(bare)
      const again = decodeMessage(written)
      const isCut = (written[2]! & 2) !== 0 && (message.flags & 0x200) === 0
      if (!isCut && !isSame(bare, again)) this.#report.broken(P.round, `reads as ${JSON.stringify(again)}`, bytes)
      if (this.#random.oneIn(8)) this.#texts(message, bytes)
      // of updates, in which data may be missing, the other knows nothing
      if (opcodeOf(message.flags) !== Opcode.UPDATE && this.#random.oneIn(8)) this.#secondOpinion(message, bytes)
    } catch (error) {
      this.#report.broken(P.throws, (error as Error).stack ?? String(error), bytes)
    }
  }

  conclude(): void {
    this.#watchdog.rest()
    this.#linear()
    this.#report.requireOutcomes('codec', ['read', ...messageFaults])
    this.#report.requireOutcomes('TSIG', ['right', ...tsigFaults])
  }

  // plain: exactly the queries with one question and at most an OPT record without options, whose name is not a pointer
  #scanned(bytes: Uint8Array, message: Message | string): void {
    const scan = this.#scan
    const verdict = scanQuery(bytes, 0, bytes.length, scan)
    const wrong = (what: string) => this.#report.broken(P.scan, what, bytes)
    const mustDrop = bytes.length < HEADER || (bytes[2]! & 0x80) !== 0
    if (mustDrop !== (verdict === Scan.drop)) wrong('dropped, or not, against the header')
    if (verdict === Scan.drop || (typeof message === 'string' && verdict !== Scan.plain)) return
    if (typeof message === 'string') return wrong(`plain, but refused: ${message}`)
    if (isPlain(message, bytes.length) !== (verdict === Scan.plain)) return wrong(`verdict ${verdict}`)
    if (verdict !== Scan.plain) return
    const { name, type, class: questionClass } = message.questions[0]!
    if (scan.questionEnd !== HEADER + name.length + 4 || scan.type !== type || scan.class !== questionClass)
      wrong('the question is another')
    const { edns, flags } = message
    const variant = (flags & 0x100 ? Variant.RD : 0) | (flags & 0x10 ? Variant.CD : 0) | (flags & 0x20 ? Variant.AD : 0)
    if (scan.variant !== (variant | (edns ? Variant.EDNS : 0) | (edns?.dnssecOk ? Variant.DO : 0))) wrong('the variant')
    if (scan.payloadSize !== Math.max(512, edns?.payloadSize ?? 512)) wrong('the payload size')
  }

  #walked(bytes: Uint8Array, message: Message): void {
    if (message.questions.length !== 1) return
    const { answers, authority, additional, edns, tsig } = message
    const count = answers.length + authority.length + additional.length + (edns ? 1 : 0) + (tsig ? 1 : 0)
    const walked = walkRecords(bytes)
    if (walked?.records.length !== count || !isWhole(bytes))
      this.#report.broken(P.walk, `${walked?.records.length} records instead of ${count}`, bytes)
  }

  #signature(bytes: Uint8Array, message: Message): void {
    if (!message.tsig && !this.#random.oneIn(16)) return
    const tally = this.#report.tally('TSIG')
    tally.received++
    tally.count(new TsigVerifier(KEYS, () => NOW).verify(bytes, message) ?? 'right')
  }

  #texts(message: Message, bytes: Uint8Array): void {
    for (const record of [...message.answers, ...message.authority, ...message.additional].slice(0, 10)) {
      const text = formatRecord(record)
      if (record.class !== Class.IN || NO_TEXT.has(record.type) || record.data.length > 4000) continue
      const { records, problems } = parseZoneText(`${text}\n`, { origin: ROOT, file: '' })
      const [read] = records
      // data of a type whose form it does not fit is printed in a way that says so
      if (!read && /these bytes are no data/.test(problems[0]?.problem ?? '')) continue
      if (!read || !isSameRecord(read, record) || dataKey(record.type, record.data) !== dataKey(read.type, read.data))
        this.#report.broken(P.text, `${text} ${problems[0]?.problem ?? ''}`, bytes)
    }
  }

  // of other types it takes the length of the data from the data
  #secondOpinion(message: Message, bytes: Uint8Array): void {
    const { answers, authority, additional } = message
    if (![...answers, ...authority, ...additional].every(record => isKnownToBoth(record.type))) return
    let other: dnsPacket.Packet
    try {
      other = dnsPacket.decode(Buffer.from(bytes))
    } catch {
      return
    }
    const lists = [
      [message.questions, other.questions],
      [message.answers, other.answers],
      [message.authority, other.authorities],
    ] as const
    for (const [ours, theirs] of lists) {
      if (ours.length !== theirs?.length) return this.#report.broken(P.second, 'another count', bytes)
      for (const [i, { name, type }] of ours.entries()) {
        const labels = labelsOf(name)
        const isNameSame = !labels.every(isOrdinary) || theirs[i]!.name === (labels.join('.') || '.')
        const isTypeSame = !isKnownToBoth(type) || theirs[i]!.type === formatType(type)
        if (!isNameSame || !isTypeSame)
          return this.#report.broken(P.second, `${theirs[i]!.name} ${theirs[i]!.type}`, bytes)
      }
    }
  }

  // the best of several runs: what else the machine does makes a run longer, never shorter
  #linear(): void {
    const shapes: Readonly<Record<string, (size: number) => Uint8Array>> = {
      'pointers to pointers': size => chainOfPointers(size / 4, [], Math.floor(size / 24)),
      'labels behind pointers': size => chainOfPointers(Math.min(120, size / 8), [1, 97], Math.floor(size / 24)),
      'questions by the thousand': size => joinedCounts(size),
    }
    for (const [shape, make] of Object.entries(shapes)) {
      const [small, large] = [make(SHORT), make(LONG)].map(bytes => bestTime(bytes))
      if (large! > NOISE * (LONG / SHORT) * small!)
        this.#report.broken(P.linear, `${shape}: ${large} µs after ${small} µs`)
    }
  }
}

function joinedCounts(size: number): Uint8Array {
  const bytes = new Uint8Array(HEADER + 5 * Math.floor(size / 5))
  bytes.set([1, 2, 0, 0, (size / 5) >> 8, Math.floor(size / 5) & 255])
  return bytes
}

// of the processor: what else the machine does is not counted
function bestTime(bytes: Uint8Array): number {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < TIMED_RUNS; i++) {
    const started = process.cpuUsage()
    for (let j = 0; j < 5; j++) decodeMessage(bytes)
    const { user, system } = process.cpuUsage(started)
    best = Math.min(best, Math.max(1, user + system))
  }
  return best
}

function isPlain(message: Message, length: number): boolean {
  const { flags, questions, answers, authority, additional, edns, tsig } = message
  const isSimple = (flags & 0xfa00) === 0 && questions.length === 1
  const isEdnsPlain = !edns || (edns.options.length === 0 && edns.version === 0)
  if (questions.length === 1 && length !== HEADER + questions[0]!.name.length + (edns ? 15 : 4)) return false
  return isSimple && isEdnsPlain && !tsig && answers.length + authority.length + additional.length === 0
}

const isOrdinary = (label: string) => /^[A-Za-z0-9_-]+$/.test(label)
const isKnownToBoth = (type: number) => [1, 2, 5, 6, 12, 15, 16, 28, 33].includes(type)

function isSame(a: Omit<Message, 'tsig'>, b: Message | string): boolean {
  if (typeof b === 'string' || a.id !== b.id || a.flags !== b.flags || b.tsig) return false
  const isOneSame = (x: Name, y: Name) => x === y
  return (
    a.questions.length === b.questions.length &&
    a.questions.every((one, i) => {
      const other = b.questions[i]!
      return isOneSame(one.name, other.name) && one.type === other.type && one.class === other.class
    }) &&
    (['answers', 'authority', 'additional'] as const).every(
      section =>
        a[section].length === b[section].length && a[section].every((one, i) => isSameRecord(one, b[section][i]!)),
    ) &&
    JSON.stringify(shown(a.edns)) === JSON.stringify(shown(b.edns))
  )
}

function shown(edns: Message['edns']): unknown {
  return edns && { ...edns, options: edns.options.map(({ code, data }) => [code, ...data]) }
}

function isSameRecord(a: ResourceRecord, b: ResourceRecord): boolean {
  return (
    a.name === b.name &&
    a.type === b.type &&
    a.class === b.class &&
    a.ttl === b.ttl &&
    Buffer.compare(a.data, b.data) === 0
  )
}
