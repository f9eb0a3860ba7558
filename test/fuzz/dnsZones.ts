/** Those who answer for zones: the zone server's responder, and the agent's listener for notifications. Mutated questions, transfers, operations, signed ones. */
import { Flag, formatRcode, Type } from '../../dns/constants.ts'
import { decodeMessage, HEADER, type Message, opcodeOf, rcodeOf } from '../../dns/message.ts'
import { isAtOrBelow, lowerName, type Name, parseName } from '../../dns/name.ts'
import { TsigVerifier } from '../../dns/tsig.ts'
import { Zone } from '../../dns/zone.ts'
import { type Asker, MAX_UDP, type ResponderSettings, type Transfer, ZoneResponder } from '../../dns/zoneResponder.ts'
import { parseZoneText } from '../../dns/zoneText.ts'
import { NotifyListener } from '../../gateway/dns/notifyListener.ts'
import { parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import { type Corpus, KEYS, NOW, questionOf, signedForms, ZONE, ZONE_TEXT } from './dnsCorpus.ts'
import { MessageMutator } from './dnsMutate.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'
import type { Watchdog } from './watchdog.ts'

const INSIDE: Name = parseName('inside.example.com.')!
const INSIDE_TEXT = '$TTL 60\n@ IN SOA ns1 admin 1 1h 10m 1w 5m\n@ NS ns1\nns1 A 10.9.9.9\nsecret TXT "hidden"\n'
const LOCAL = [parsePrefix('10.0.0.0/8')!, parsePrefix('fd00::/8')!]
const INTERNAL = {
  zones: [INSIDE],
  allows: (address: Uint8Array) => LOCAL.some(prefix => prefixContains(prefix, address)),
}
const ADDRESSES = ['10.1.2.3', '192.0.2.9', 'fd00::9', '2001:db8::9'].map(text => parseAddress(text)!)
const MIN_UDP = 512
const MOST_TCP = 65_535
/** beside BADTIME (RFC 8945 section 5.2.3) */
const OUR_TIME = 6

const P = {
  throws: 'zone server: nothing throws',
  responses: 'zone server: responses are not answered, questions are',
  length: 'zone server: no reply is longer than allowed',
  whole: 'zone server: replies are whole messages with the id of the question',
  transfer: 'zone server: transfers go to those who may have them, whole and signed as the question',
  inside: 'zone server: internal zones are not seen from outside',
  notify: 'notifications: nothing throws, replies are whole, none longer than the question and our time',
} as const

export class ZonesFuzzer {
  readonly #random: Random
  readonly #messages: MessageMutator
  readonly #notifications: MessageMutator
  readonly #report: Report
  readonly #watchdog: Watchdog
  readonly #servers: readonly { settings: ResponderSettings; responder: ZoneResponder }[]
  readonly #listeners: readonly NotifyListener[]

  constructor(random: Random, corpus: Corpus, report: Report, watchdog: Watchdog) {
    this.#random = random
    this.#report = report
    this.#watchdog = watchdog
    const inside = [Type.A, Type.TXT, Type.AXFR].flatMap(type => [
      questionOf(INSIDE, type),
      questionOf(parseName('secret.inside.example.com.')!, type),
    ])
    const answers = corpus.answers.slice(0, 20)
    this.#messages = new MessageMutator(random, [
      ...corpus.questions,
      ...corpus.operations,
      ...corpus.signed,
      ...inside,
      ...answers,
    ])
    const recently = Date.now() / 1000
    this.#notifications = new MessageMutator(random, [
      ...corpus.operations.flatMap(one => [one, ...signedForms(one, recently)]),
      ...answers,
      ...corpus.questions.slice(0, 20),
    ])
    this.#servers = makeServers()
    this.#listeners = [[], KEYS].map(
      keys => new NotifyListener({ listen: { host: '', port: 0 }, keys, onNotify: name => lowerName(name) === ZONE }),
    )
    report.promise(...Object.values(P))
  }

  one(): void {
    if (this.#random.oneIn(8)) this.#notify()
    else this.#ask()
  }

  conclude(): void {
    this.#report.requireOutcomes('zone server', [
      'transfer',
      'dropped',
      ...[0, 1, 3, 4, 5, 9, 16].map(rcode => formatRcode(rcode)),
    ])
    this.#report.requireOutcomes('notifications', ['NOERROR', 'REFUSED', 'FORMERR', 'NOTAUTH', 'dropped'])
  }

  // ---- zone server

  #ask(): void {
    const { settings, responder } = this.#random.pick(this.#servers)
    const asker: Asker = {
      transport: this.#random.oneIn(2) ? 'udp' : 'tcp',
      address: this.#random.pick(ADDRESSES),
    }
    const bytes = this.#messages.next()
    if (bytes.length > MOST_TCP) return
    const tally = this.#report.tally('zone server')
    tally.received++
    this.#watchdog.begin(bytes)
    try {
      const answer = responder.answer(bytes, asker)
      if (!answer) {
        tally.count('dropped')
        if (bytes.length >= HEADER && (bytes[2]! & 0x80) === 0) this.#report.broken(P.responses, 'no answer', bytes)
      } else if (answer instanceof Uint8Array) tally.count(this.#answered(bytes, answer, asker))
      else {
        tally.count('transfer')
        this.#transferred(bytes, answer, asker, settings)
      }
    } catch (error) {
      this.#report.broken(P.throws, (error as Error).stack ?? String(error), bytes)
    }
  }

  #answered(bytes: Uint8Array, answer: Uint8Array, asker: Asker): string {
    if ((bytes[2]! & 0x80) !== 0) this.#report.broken(P.responses, 'an answer to a response', bytes)
    const asked = decodeMessage(bytes)
    const size = typeof asked === 'string' ? undefined : asked.edns?.payloadSize
    const mostUdp = size === undefined ? MIN_UDP : Math.max(MIN_UDP, Math.min(MAX_UDP, size))
    const most = typeof asked === 'string' ? HEADER : asker.transport === 'udp' ? mostUdp : MOST_TCP
    if (answer.length > most)
      this.#report.broken(P.length, `${answer.length} bytes over ${asker.transport}, at most ${most}`, bytes)
    const read = this.#whole(bytes, answer)
    if (!read) return 'malformed'
    const isOutside = !LOCAL.some(prefix => isIn(asker.address, prefix))
    if (isOutside && read.answers.some(record => isAtOrBelow(lowerName(record.name), INSIDE)))
      this.#report.broken(P.inside, 'an answer from an internal zone', bytes)
    return formatRcode(rcodeOf(read))
  }

  #whole(bytes: Uint8Array, answer: Uint8Array): Message | undefined {
    const read = decodeMessage(answer)
    const isRight =
      typeof read !== 'string' && answer[0] === bytes[0] && answer[1] === bytes[1] && (read.flags & Flag.QR) !== 0
    if (!isRight) this.#report.broken(P.whole, `reply ${Buffer.from(answer).toString('hex')}`, bytes)
    return typeof read === 'string' ? undefined : read
  }

  #transferred(bytes: Uint8Array, { zone, messages }: Transfer, asker: Asker, settings: ResponderSettings): void {
    const wrong = (what: string) => this.#report.broken(P.transfer, what, bytes)
    const asked = decodeMessage(bytes) as Message
    const keyName = asked.tsig && lowerName(asked.tsig.name)
    if (!LOCAL.some(prefix => isIn(asker.address, prefix))) wrong('to an address that may not')
    if (asker.transport === 'udp') wrong('over UDP')
    if (settings.transferKeys.length > 0 && !settings.transferKeys.includes(keyName ?? ''))
      wrong('without the right key')
    const verifier = asked.tsig && new TsigVerifier(KEYS, () => NOW, macOf(bytes, asked))
    let records = 0
    for (let next = messages.next(); !next.done; next = messages.next()) {
      if (next.value.length > MOST_TCP) this.#report.broken(P.length, `${next.value.length} bytes`, bytes)
      const read = this.#whole(bytes, next.value)
      if (!read) return
      const fault = verifier?.verify(next.value, read)
      if (fault) wrong(`signed: ${fault}`)
      records += read.answers.length
    }
    if (records !== zone.size + 1) wrong(`${records} records of ${zone.size + 1}`)
  }

  // ---- notifications

  #notify(): void {
    const bytes = this.#notifications.next()
    const tally = this.#report.tally('notifications')
    tally.received++
    this.#watchdog.begin(bytes)
    try {
      const answer = this.#random.pick(this.#listeners).answer(bytes, '10.1.2.3')
      if (!answer) return tally.count('dropped')
      const read = decodeMessage(answer)
      const isAnswer = typeof read !== 'string' && answer[0] === bytes[0] && answer[1] === bytes[1]
      tally.count(typeof read === 'string' ? 'malformed' : formatRcode(rcodeOf(read)))
      if (!isAnswer || (bytes[2]! & 0x80) !== 0) this.#report.broken(P.notify, 'no answer to this', bytes)
      else if (answer.length > bytes.length + OUR_TIME) this.#report.broken(P.notify, `${answer.length} bytes`, bytes)
      else if (opcodeOf(read.flags) !== ((bytes[2]! >> 3) & 15)) this.#report.broken(P.notify, 'opcode', bytes)
    } catch (error) {
      this.#report.broken(P.notify, (error as Error).stack ?? String(error), bytes)
    }
  }
}

function makeServers(): { settings: ResponderSettings; responder: ZoneResponder }[] {
  const hosts = Array.from({ length: 400 }, (_, i) => `host${i}.big TXT "AA 198.51.100.2 + ${i + 100}"\n`).join('')
  const zones = [
    zoneOf(ZONE, ZONE_TEXT),
    zoneOf(INSIDE, INSIDE_TEXT),
    zoneOf(parseName('big.')!, `${bigHead()}${hosts}`),
  ]
  const all: ResponderSettings[] = [
    { keys: KEYS, transferAllow: LOCAL, transferKeys: [], internal: INTERNAL },
    { keys: KEYS, transferAllow: LOCAL, transferKeys: [KEYS[0]!.name], internal: INTERNAL },
  ]
  return all.map(settings => {
    const responder = new ZoneResponder(settings, { now: () => NOW })
    for (const zone of zones) responder.setZone(zone)
    return { settings, responder }
  })
}

const bigHead = () => '$ORIGIN big.\n$TTL 60\n@ IN SOA ns1 admin 1 1h 10m 1w 5m\n@ NS ns1\n'

function zoneOf(origin: Name, text: string): Zone {
  const { zone, problems } = Zone.from(origin, parseZoneText(text, { origin, file: '' }).records)
  if (!zone) throw new Error(JSON.stringify(problems))
  return zone
}

function macOf(bytes: Uint8Array, asked: Message): Uint8Array | undefined {
  const verifier = new TsigVerifier(KEYS, () => NOW)
  verifier.verify(bytes, asked)
  return verifier.mac
}

function isIn(address: Uint8Array, { address: network, length }: (typeof LOCAL)[number]): boolean {
  const bytes = length / 8
  return address.length === network.length && network.subarray(0, bytes).every((byte, i) => byte === address[i])
}
