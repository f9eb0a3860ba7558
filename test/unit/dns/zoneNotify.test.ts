/** NOTIFY until a secondary has the serial: what it answers when asked for its SOA, and what is made of that. Real sockets, waits of milliseconds. */
import { createSocket, type Socket } from 'node:dgram'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Flag, Opcode, Rcode, Type } from '../../../dns/constants.ts'
import { decodeSoa, encodeMessage, type Message, opcodeOf } from '../../../dns/message.ts'
import { type TsigKey, TsigSigner, TsigVerifier } from '../../../dns/tsig.ts'
import { Notifier, type NotifyPace, type NotifyTarget } from '../../../dns/zoneNotify.ts'
import { decoded, EXAMPLE, key, zone } from './builders.ts'

const HOST = '127.0.0.1'
const PACE: NotifyPace = { answerS: [5, 5, 5], lookS: [0.02, 0.02, 0.02, 0.02], lookAnswerS: 5, strangerS: 60 }
const now = () => Date.now() / 1000
const WRONG_KEY = key('hmac-sha256:transfer:b3RoZXI=')

const opened: { close(): unknown }[] = []
const logged: { level: 'info' | 'warn'; text: string; fields: Record<string, unknown> }[] = []
const log = {
  info: (fields: object, text: string) => void logged.push({ level: 'info', text, fields: { ...fields } }),
  warn: (fields: object, text: string) => void logged.push({ level: 'warn', text, fields: { ...fields } }),
}
beforeEach(() => void logged.splice(0))
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close()
})

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
const zoneOf = (serial: number) => zone('a TXT x').withSerial(serial)

/** What a secondary says: a serial, with or without authority; a code; nothing. */
type Copy = number | { rcode: number } | 'not authoritative' | 'no record' | 'silent'

/** A secondary whose answers can be set at any time; `told`: the serials of NOTIFY, in order. */
class Secondary {
  copy: Copy
  /** to NOTIFY; undefined: none */
  rcode: number | undefined = 0
  readonly told: number[] = []
  asked = 0
  /** messages that were there before the one before them was answered */
  overlaps = 0
  /** what its answers are signed with: to NOTIFY, to questions */
  keys: { notify: TsigKey; question: TsigKey } | undefined
  readonly #socket: Socket
  readonly target: NotifyTarget
  delayMs = 0
  #isBusy = false
  #isClosed = false

  private constructor(socket: Socket, copy: Copy) {
    this.#socket = socket
    this.copy = copy
    this.target = { host: HOST, port: socket.address().port }
    socket.on('message', (bytes, from) => void this.#received(Uint8Array.from(bytes), from.port))
  }

  static async open(copy: Copy): Promise<Secondary> {
    const socket = createSocket('udp4')
    await new Promise<void>(resolve => socket.bind(0, HOST, resolve))
    const secondary = new Secondary(socket, copy)
    opened.push({ close: () => secondary.#close() })
    return secondary
  }

  #close(): Promise<void> {
    this.#isClosed = true
    return new Promise(resolve => this.#socket.close(resolve))
  }

  async #received(bytes: Uint8Array, port: number): Promise<void> {
    const message = decoded(bytes)
    const isNotify = opcodeOf(message.flags) === Opcode.NOTIFY
    if (this.#isBusy) this.overlaps++
    if (isNotify) this.told.push(decodeSoa(message.answers[0]!.data).serial)
    else this.asked++
    const answer = isNotify ? this.#answerToNotify(message) : this.#answerToQuestion(message)
    if (!answer) return
    this.#isBusy = true
    if (this.delayMs > 0) await pause(this.delayMs)
    this.#isBusy = false
    if (this.#isClosed) return
    const signingKey = isNotify ? this.keys?.notify : this.keys?.question
    this.#socket.send(signingKey ? signed(answer, signingKey, { bytes, message }) : answer, port, HOST)
  }

  #answerToNotify({ id, flags, questions }: Message): Uint8Array | undefined {
    if (this.rcode === undefined) return undefined
    return encodeMessage({ id, flags: flags | Flag.QR | this.rcode, questions })
  }

  #answerToQuestion({ id, questions }: Message): Uint8Array | undefined {
    const { copy } = this
    if (copy === 'silent') return undefined
    if (typeof copy === 'object') return encodeMessage({ id, flags: Flag.QR | copy.rcode, questions })
    const flags = Flag.QR | (copy === 'not authoritative' ? 0 : Flag.AA)
    const answers = copy === 'no record' ? [] : [zoneOf(typeof copy === 'number' ? copy : 1).soaRecord]
    return encodeMessage({ id, flags, questions, answers })
  }
}

function signed(answer: Uint8Array, by: TsigKey, request: { bytes: Uint8Array; message: Message }): Uint8Array {
  const verifier = new TsigVerifier([key()], now)
  expect(verifier.verify(request.bytes, request.message)).toBeUndefined()
  return new TsigSigner(by, now, verifier.mac!).sign(answer).message
}

function notifierFor(targets: readonly NotifyTarget[], pace: Partial<NotifyPace> = {}): Notifier {
  const settings = { targets, toNameServers: false, own: [], pace: { ...PACE, ...pace } }
  const notifier = new Notifier(settings, { log, now })
  opened.push({ close: () => notifier.stop() })
  return notifier
}

const patiently = { timeout: 20_000, interval: 5 }
const tolds = (secondary: Secondary) => expect.poll(() => secondary.told, patiently)
const toldTimes = (secondary: Secondary, least: number) =>
  expect.poll(() => secondary.told.length, patiently).toBeGreaterThanOrEqual(least)
const texts = () => logged.map(({ level, text }) => `${level}: ${text}`)
const OLD_COPY = 'warn: secondary answers NOTIFY, and keeps an old copy of the zone'
const CAUGHT_UP = 'info: secondary has the zone again'
const STRANGER = 'info: is no secondary of this zone'
const REFUSES = 'warn: secondary refuses NOTIFY'

describe('a secondary that answered', () => {
  it.each<[string, Copy]>([
    ['the serial', 7],
    ['a newer one', 9],
    ['an answer without authority', 'not authoritative'],
    ['no record', 'no record'],
    ['REFUSED', { rcode: Rcode.REFUSED }],
    ['NOTAUTH', { rcode: Rcode.NOTAUTH }],
    ['NXDOMAIN', { rcode: Rcode.NXDOMAIN }],
  ])('is asked once for what it has; %s: it is told no more', async (_, copy) => {
    const secondary = await Secondary.open(copy)
    notifierFor([secondary.target]).zoneChanged(zoneOf(7))
    await expect.poll(() => secondary.asked, patiently).toBe(1)
    await pause(300)
    expect(secondary).toMatchObject({ told: [7], asked: 1 })
    expect(logged).toEqual([])
  })

  it.each<[string, Copy]>([
    ['an older serial', 6],
    ['one that is older as RFC 1982 counts', 0xfffffff0],
    ['SERVFAIL', { rcode: Rcode.SERVFAIL }],
  ])('is told again while it has %s, until it has the new one', async (_, copy) => {
    const secondary = await Secondary.open(copy)
    notifierFor([secondary.target], { lookS: Array(100).fill(0.02) }).zoneChanged(zoneOf(7))
    await toldTimes(secondary, 3)
    secondary.copy = 7
    const { asked } = secondary
    const times = secondary.told.length
    await expect.poll(() => secondary.asked > asked, patiently).toBe(true)
    await pause(300)
    // one more may have been on its way
    expect(secondary.told.length).toBeLessThanOrEqual(times + 1)
    expect(logged).toEqual([])
  })

  it('is told as often as there are looks; the log names it, its serial, ours, and where to look, once', async () => {
    const secondary = await Secondary.open(6)
    const notifier = notifierFor([secondary.target])
    notifier.zoneChanged(zoneOf(7))
    await expect.poll(() => logged.length, patiently).toBe(1)
    expect(secondary).toMatchObject({ told: [7, 7, 7, 7], asked: 4 })
    const { fields } = logged[0]!
    expect(texts()).toEqual([OLD_COPY])
    expect(fields).toMatchObject({ zone: 'example.com.', serial: 7, theirs: 6 })
    expect(fields).toMatchObject({ secondary: `${HOST} port ${secondary.target.port}`, look: expect.any(String) })
    await pause(300)
    expect(secondary.told).toHaveLength(4)
    // the same again with the next serial: told, and nothing new to say
    notifier.zoneChanged(zoneOf(8))
    await tolds(secondary).toEqual([7, 7, 7, 7, 8, 8, 8, 8])
    await expect.poll(() => secondary.asked, patiently).toBe(8)
    await pause(100)
    expect(texts()).toEqual([OLD_COPY])
    secondary.copy = 9
    notifier.zoneChanged(zoneOf(9))
    await expect.poll(texts, patiently).toEqual([OLD_COPY, CAUGHT_UP])
  })

  it('is named, too, where the serial changes before the looks are over', async () => {
    const secondary = await Secondary.open(6)
    const notifier = notifierFor([secondary.target])
    for (let serial = 7; logged.length === 0 && serial < 50; serial++) {
      notifier.zoneChanged(zoneOf(serial))
      const { asked } = secondary
      await expect.poll(() => secondary.asked > asked || logged.length > 0, patiently).toBe(true)
      await pause(10)
    }
    expect(texts()).toEqual([OLD_COPY])
  })

  it('and does not answer the question, is asked three times, and is told no more', async () => {
    const secondary = await Secondary.open('silent')
    notifierFor([secondary.target], { lookAnswerS: 0.1 }).zoneChanged(zoneOf(7))
    await expect.poll(() => secondary.asked, patiently).toBe(3)
    await pause(400)
    expect(secondary).toMatchObject({ told: [7], asked: 3 })
    expect(logged).toEqual([])
  })

  it('is found again where one answer was lost', async () => {
    const secondary = await Secondary.open('silent')
    notifierFor([secondary.target], { lookAnswerS: 0.5 }).zoneChanged(zoneOf(7))
    await expect.poll(() => secondary.asked, patiently).toBe(1)
    secondary.copy = 6
    await toldTimes(secondary, 2)
  })

  it('a new serial begins anew, at once between two looks', async () => {
    const secondary = await Secondary.open(6)
    const notifier = notifierFor([secondary.target], { lookS: [60] })
    notifier.zoneChanged(zoneOf(7))
    await tolds(secondary).toEqual([7])
    await pause(100)
    notifier.zoneChanged(zoneOf(8))
    await tolds(secondary).toEqual([7, 8])
    expect(secondary.asked).toBe(0)
  })

  it('a new serial that comes while it is asked goes out, though it had the one before', async () => {
    const secondary = await Secondary.open(7)
    secondary.delayMs = 300
    const notifier = notifierFor([secondary.target])
    notifier.zoneChanged(zoneOf(7))
    await expect.poll(() => secondary.asked, patiently).toBe(1)
    notifier.zoneChanged(zoneOf(8))
    await toldTimes(secondary, 2)
    expect(secondary.told.slice(0, 2)).toEqual([7, 8])
    expect(secondary.overlaps).toBe(0)
  })

  it('of a zone that is gone is asked no more', async () => {
    const secondary = await Secondary.open(6)
    const notifier = notifierFor([secondary.target], { lookS: Array(100).fill(0.02) })
    notifier.zoneChanged(zoneOf(7))
    await toldTimes(secondary, 2)
    notifier.removeZone(EXAMPLE)
    await pause(100)
    const { asked, told } = secondary
    const before = [...told]
    await pause(300)
    expect(secondary).toMatchObject({ told: before, asked })
  })

  it('is asked with its key, and heard only with it', async () => {
    const [right, wrong] = [await Secondary.open(6), await Secondary.open(6)]
    right.keys = { notify: key(), question: key() }
    wrong.keys = { notify: key(), question: WRONG_KEY }
    for (const { target } of [right, wrong])
      notifierFor([{ ...target, key: key() }], { lookAnswerS: 0.3 }).zoneChanged(zoneOf(7))
    await tolds(right).toEqual([7, 7, 7, 7])
    await expect.poll(() => wrong.asked, patiently).toBe(3)
    await pause(400)
    expect(wrong).toMatchObject({ told: [7], asked: 3 })
  })
})

describe('NOTAUTH and NXDOMAIN', () => {
  const denials = [Rcode.NOTAUTH, Rcode.NXDOMAIN]

  it.each(denials.flatMap(rcode => [false, true].map(hasKey => [rcode, hasKey] as const)))(
    '%i from who has no such zone (key: %s): one line that is no warning, and no more for a while',
    async (rcode, hasKey) => {
      const secondary = await Secondary.open({ rcode: Rcode.REFUSED })
      secondary.rcode = rcode
      const target = { ...secondary.target, ...(hasKey ? { key: key() } : {}) }
      const notifier = notifierFor([target], { strangerS: 2 })
      notifier.zoneChanged(zoneOf(7))
      await expect.poll(texts, patiently).toEqual([STRANGER])
      expect(logged[0]!.fields).toMatchObject({ zone: 'example.com.' })
      notifier.zoneChanged(zoneOf(8))
      await pause(300)
      expect(secondary).toMatchObject({ told: [7], asked: 1 })
      await pause(1800)
      notifier.zoneChanged(zoneOf(9))
      await tolds(secondary).toEqual([7, 9])
      await expect.poll(() => secondary.asked, patiently).toBe(2)
      await pause(100)
      expect(texts()).toEqual([STRANGER])
    },
  )

  it.each<[string, Copy]>([
    ['a copy', 6],
    ['SERVFAIL for it', { rcode: Rcode.SERVFAIL }],
  ])('from who has %s: it refuses, which is a warning; a new serial is tried again', async (_, copy) => {
    const secondary = await Secondary.open(copy)
    secondary.rcode = Rcode.NOTAUTH
    const notifier = notifierFor([secondary.target])
    notifier.zoneChanged(zoneOf(7))
    await expect.poll(texts, patiently).toEqual([REFUSES])
    expect(logged[0]!.fields).toMatchObject({ problem: 'NOTAUTH', serial: 7 })
    await pause(300)
    expect(secondary.told).toEqual([7])
    secondary.rcode = 0
    secondary.copy = 8
    notifier.zoneChanged(zoneOf(8))
    await tolds(secondary).toEqual([7, 8])
  })

  it('from who says nothing to the question: no secondary', async () => {
    const secondary = await Secondary.open('silent')
    secondary.rcode = Rcode.NOTAUTH
    notifierFor([secondary.target], { lookAnswerS: 0.1 }).zoneChanged(zoneOf(7))
    await expect.poll(texts, patiently).toEqual([STRANGER])
    expect(secondary).toMatchObject({ told: [7], asked: 3 })
  })

  it('with a wrong signature is no answer: it is the key that is wrong', async () => {
    const secondary = await Secondary.open({ rcode: Rcode.REFUSED })
    secondary.rcode = Rcode.NOTAUTH
    secondary.keys = { notify: WRONG_KEY, question: WRONG_KEY }
    notifierFor([{ ...secondary.target, key: key() }], { answerS: [0.2, 0.2, 0.2] }).zoneChanged(zoneOf(7))
    await expect.poll(texts, patiently).toEqual(['warn: secondary does not answer NOTIFY'])
    expect(logged[0]!.fields).toMatchObject({ problem: 'NOTAUTH, bad signature' })
    expect(secondary).toMatchObject({ told: [7, 7, 7], asked: 0 })
  })
})

it('whatever it says and whenever the serial changes, it is told each serial or a later one, and the last one in the end', async () => {
  const copies: Copy[] = [1, 1000, { rcode: Rcode.SERVFAIL }, { rcode: Rcode.REFUSED }, 'silent', 'no record']
  const step = fc.record({
    copy: fc.constantFrom(...copies),
    rcode: fc.constantFrom(0, 0, 0, Rcode.REFUSED, undefined),
    isNew: fc.boolean(),
    afterMs: fc.integer({ min: 0, max: 60 }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async steps => {
      const secondary = await Secondary.open(1)
      secondary.delayMs = 5
      const notifier = notifierFor([secondary.target], { answerS: Array(50).fill(0.05), lookAnswerS: 0.05 })
      let serial = 10
      notifier.zoneChanged(zoneOf(serial))
      for (const { copy, rcode, isNew, afterMs } of steps) {
        Object.assign(secondary, { copy, rcode })
        if (isNew) notifier.zoneChanged(zoneOf(++serial))
        await pause(afterMs)
      }
      Object.assign(secondary, { copy: 1000, rcode: 0 })
      await expect.poll(() => secondary.told.at(-1), patiently).toBe(serial)
      notifier.stop()
      expect(secondary.told).toEqual([...secondary.told].sort((a, b) => a - b))
    }),
    { numRuns: 15 },
  )
})

it('is an SOA question of the zone, without recursion', async () => {
  const socket = createSocket('udp4')
  opened.push({ close: () => new Promise<void>(resolve => socket.close(() => resolve())) })
  await new Promise<void>(resolve => socket.bind(0, HOST, resolve))
  const question = new Promise<Message>(resolve => {
    socket.on('message', (bytes, from) => {
      const message = decoded(Uint8Array.from(bytes))
      if (opcodeOf(message.flags) === Opcode.QUERY) return resolve(message)
      socket.send(encodeMessage({ ...message, flags: message.flags | Flag.QR, answers: [] }), from.port, HOST)
    })
  })
  notifierFor([{ host: HOST, port: socket.address().port }]).zoneChanged(zoneOf(7))
  const { flags, questions, answers, tsig } = await question
  expect({ flags, questions, answers, tsig }).toEqual({
    flags: 0,
    questions: [{ name: EXAMPLE, type: Type.SOA, class: 1 }],
    answers: [],
    tsig: undefined,
  })
})
