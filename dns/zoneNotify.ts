/**
 * NOTIFY to secondaries (RFC 1996): on every new serial, until they have it.
 *
 *   changed ──► sent ──► answered ── 3, 5, 10 … 60 s ──► asked for its SOA ──► done: it has the serial, or does not say
 *                │ ▲        │                              │
 *                │ │        │                              └─ an older serial, SERVFAIL: sent again; after ten looks done, and a line in the log
 *                │ │        ├─ NOTAUTH, NXDOMAIN: asked for its SOA ──► not its zone: a stranger, told nothing for an hour; else refused
 *                │ │        └─ another code: refused, done
 *                └─┘ no answer: again after 1, 2, 4 … 60 s, ten times; then done, and a line in the log
 *
 * An answer says only that the message came: what the secondary does then may fail (nobody leads to us yet, a firewall), and its own next look may be
 * minutes away. "Does not say": an answer without authority or SOA record, REFUSED, or three looks in a row without an answer; then the answered NOTIFY
 * counts. NOTAUTH is how Knot DNS and BIND, NXDOMAIN how NSD says that a zone is none of theirs; but Knot DNS says NOTAUTH, too, to those who
 * may not notify it of one that is. Its SOA tells these apart.
 *
 * A new serial begins anew from every state: at once, or, while a message is on its way, with the answer or the end of the wait for it. To each
 * secondary one message of a zone is on its way at a time, and at most five NOTIFY a second. Secondaries are those that are configured, and the
 * addresses of the zone's NS names that the zone itself has, but for the primary of its SOA record (RFC 1996 section 3.6) and ourselves.
 */
import { randomInt } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { formatAddress, parseAddress } from '../ipref/address.ts'
import { Class, Flag, formatRcode, Opcode, Rcode, Type } from './constants.ts'
import {
  decodeMessage,
  decodeSoa,
  encodeMessage,
  isNewerSerial,
  type Message,
  nameAt,
  opcodeOf,
  rcodeOf,
} from './message.ts'
import { formatName, lowerName, type Name } from './name.ts'
import { type TsigFault, type TsigKey, TsigSigner, TsigVerifier } from './tsig.ts'
import type { Zone } from './zone.ts'

export interface NotifyTarget {
  /** an address */
  host: string
  port: number
  key?: TsigKey
}

export interface NotifySettings {
  targets: readonly NotifyTarget[]
  /** also the addresses of NS names that are in the zone */
  toNameServers: boolean
  /** where we listen: messages leave from the address of their family, and none goes there */
  own: readonly { host: string; port: number }[]
  pace?: Partial<NotifyPace>
}

/** All in seconds. */
export interface NotifyPace {
  /** waits for an answer to NOTIFY, one after the other; with the last of them over, no more is sent */
  answerS: readonly number[]
  /** waits between an answered NOTIFY and the question what the secondary has; as many as there are looks */
  lookS: readonly number[]
  /** wait for an answer to that question */
  lookAnswerS: number
  /** how long one is told nothing that says it is no secondary of the zone */
  strangerS: number
}

export interface NotifyLog {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}

export interface NotifyPorts {
  log: NotifyLog
  /** seconds since 1970 */
  now(): number
}

const DEFAULT_PACE: NotifyPace = {
  answerS: [1, 2, 4, 8, 16, 32, 60, 60, 60, 60],
  lookS: [3, 5, 10, 20, 40, 60, 60, 60, 60, 60],
  lookAnswerS: 2,
  strangerS: 3600,
}
const BETWEEN_MS = 200
/** as the id of a message: none is on its way */
const NOBODY = -1
/** looks in a row without an answer, after which the secondary is one that does not say */
const MOST_SILENT = 3
const WHAT_TO_LOOK_AT =
  'the log of the secondary: does it reach this server over UDP and TCP, may it transfer (address, key), is its zone whole'

/** What a secondary has: a serial; SERVFAIL: none that it gives out. undefined: the zone is not its, or it does not say. */
type Copy = number | 'SERVFAIL' | undefined

/** What one secondary is to be told of one zone. */
interface Task {
  zone: Zone
  readonly target: NotifyTarget
  /** 'sent', 'asked': a message is on its way. 'answered': the next look is awaited */
  state: 'sent' | 'answered' | 'asked' | 'done'
  /** a new serial came while a message was on its way */
  isChanged: boolean
  /** how often it was sent since the last change or answer */
  sent: number
  sentAtMs: number
  id: number
  mac: Uint8Array | undefined
  timer: NodeJS.Timeout | undefined
  /** why the last answer was not taken */
  problem: string | undefined
  /** the answer that may mean that the zone is none of its */
  denial: number | undefined
  strangerUntilMs: number
  /** since the last change */
  looks: number
  /** looks in a row that were not answered */
  silent: number
  copy: Copy
  /** looks in a row that found the same old copy, whatever the serial is by now */
  misses: number
  /** what the log has said already: it once, until the secondary has caught up */
  isReported: boolean
  isStrangerReported: boolean
}

export class Notifier {
  readonly #settings: NotifySettings
  readonly #pace: NotifyPace
  readonly #ports: NotifyPorts
  readonly #tasks = new Map<string, Task>()
  readonly #sockets = new Map<4 | 6, Socket>()
  #isStopped = false
  sent = 0

  constructor(settings: NotifySettings, ports: NotifyPorts) {
    this.#settings = settings
    this.#pace = { ...DEFAULT_PACE, ...settings.pace }
    this.#ports = ports
  }

  /** The zone has a new serial. */
  zoneChanged(zone: Zone): void {
    if (this.#isStopped) return
    for (const target of targetsOf(zone, this.#settings)) {
      const key = `${target.host} ${target.port} ${zone.origin}`
      const known = this.#tasks.get(key)
      if (known) this.#changed(known, zone)
      else this.#send(this.#newTask(key, zone, target))
    }
  }

  #newTask(key: string, zone: Zone, target: NotifyTarget): Task {
    const task: Task = {
      zone,
      target,
      state: 'done',
      isChanged: false,
      sent: 0,
      sentAtMs: 0,
      id: NOBODY,
      mac: undefined,
      timer: undefined,
      problem: undefined,
      denial: undefined,
      strangerUntilMs: 0,
      looks: 0,
      silent: 0,
      copy: undefined,
      misses: 0,
      isReported: false,
      isStrangerReported: false,
    }
    this.#tasks.set(key, task)
    return task
  }

  #changed(task: Task, zone: Zone): void {
    task.zone = zone
    if (task.state === 'sent' || task.state === 'asked') task.isChanged = true
    else if (performance.now() >= task.strangerUntilMs) this.#sendSoon(task)
  }

  #sendSoon(task: Task): void {
    Object.assign(task, { isChanged: false, sent: 0, looks: 0, silent: 0, denial: undefined, id: NOBODY })
    const waitMs = task.sentAtMs + BETWEEN_MS - performance.now()
    if (waitMs <= 0) return this.#send(task)
    task.state = 'sent'
    this.#after(task, waitMs / 1000, () => this.#send(task))
  }

  // the one timer of a task
  #after(task: Task, afterS: number, act: () => void): void {
    clearTimeout(task.timer)
    task.timer = setTimeout(act, afterS * 1000)
  }

  #done(task: Task): void {
    clearTimeout(task.timer)
    task.state = 'done'
  }

  removeZone(origin: Name): void {
    for (const [key, task] of this.#tasks) {
      if (task.zone.origin !== lowerName(origin)) continue
      clearTimeout(task.timer)
      this.#tasks.delete(key)
    }
  }

  // ---- NOTIFY

  #send(task: Task): void {
    task.state = 'sent'
    task.isChanged = false
    task.sentAtMs = performance.now()
    this.sent++
    const flags = (Opcode.NOTIFY << 11) | Flag.AA
    this.#transmit(task, { flags, answers: [task.zone.soaRecord], key: task.target.key })
    const afterS = this.#pace.answerS[task.sent++] ?? 60
    this.#after(task, spread(afterS), () => this.#unanswered(task))
  }

  #unanswered(task: Task): void {
    if (task.isChanged) return this.#sendSoon(task)
    if (task.sent < this.#pace.answerS.length) return this.#send(task)
    this.#done(task)
    const problem = task.problem ?? 'no answer'
    this.#ports.log.warn({ ...fieldsOf(task), problem }, 'secondary does not answer NOTIFY')
  }

  #answered(task: Task, bytes: Uint8Array, message: Message): void {
    const rcode = rcodeOf(message)
    const isDenial = rcode === Rcode.NOTAUTH || rcode === Rcode.NXDOMAIN
    const fault = this.#faultOf(task, bytes, message)
    // of a zone that is none of theirs, Knot DNS and NSD say so before they look for a key
    if (fault !== undefined && !(isDenial && fault === 'unsigned')) {
      task.problem = `${formatRcode(rcode)}, ${fault}`
      return
    }
    task.sent = 0
    if (isDenial) {
      task.denial = rcode
      return this.#ask(task)
    }
    if (rcode !== 0) return this.#refused(task, rcode)
    task.problem = undefined
    if (task.isChanged) this.#sendSoon(task)
    else this.#lookLater(task)
  }

  #refused(task: Task, rcode: number): void {
    const problem = formatRcode(rcode)
    if (problem !== task.problem) this.#ports.log.warn({ ...fieldsOf(task), problem }, 'secondary refuses NOTIFY')
    task.problem = problem
    if (task.isChanged) this.#sendSoon(task)
    else this.#done(task)
  }

  // ---- what the secondary has

  #lookLater(task: Task): void {
    task.state = 'answered'
    this.#after(task, spread(this.#pace.lookS[task.looks++] ?? 60), () => this.#ask(task))
  }

  #ask(task: Task): void {
    task.state = 'asked'
    // who may not know the zone, does not know its key
    this.#transmit(task, { flags: 0, answers: [], key: task.denial === undefined ? task.target.key : undefined })
    this.#after(task, this.#pace.lookAnswerS, () => this.#silent(task))
  }

  #silent(task: Task): void {
    task.silent++
    if (task.denial === undefined && task.isChanged) this.#sendSoon(task)
    else if (task.silent >= MOST_SILENT) this.#looked(task, undefined)
    else if (task.denial !== undefined) this.#ask(task)
    else if (task.looks < this.#pace.lookS.length) this.#lookLater(task)
    else this.#looked(task, undefined)
  }

  #looked(task: Task, copy: Copy): void {
    task.silent = 0
    if (task.denial !== undefined) return copy === undefined ? this.#stranger(task) : this.#refused(task, task.denial)
    if (task.isChanged) return this.#sendSoon(task)
    if (copy === undefined) return this.#done(task)
    if (copy !== 'SERVFAIL' && !isNewerSerial(task.zone.soa.serial, copy)) return this.#caughtUp(task)
    task.misses = copy === task.copy ? task.misses + 1 : 1
    task.copy = copy
    const isLast = task.looks >= this.#pace.lookS.length
    if (isLast || task.misses >= this.#pace.lookS.length) this.#reportOld(task)
    if (isLast) this.#done(task)
    else this.#send(task)
  }

  #caughtUp(task: Task): void {
    this.#done(task)
    if (task.isReported) this.#ports.log.info(fieldsOf(task), 'secondary has the zone again')
    Object.assign(task, { copy: undefined, misses: 0, isReported: false })
  }

  #reportOld(task: Task): void {
    if (task.isReported) return
    task.isReported = true
    const fields = { ...fieldsOf(task), theirs: task.copy, look: WHAT_TO_LOOK_AT }
    this.#ports.log.warn(fields, 'secondary answers NOTIFY, and keeps an old copy of the zone')
  }

  #stranger(task: Task): void {
    this.#done(task)
    task.isChanged = false
    task.strangerUntilMs = performance.now() + this.#pace.strangerS * 1000
    if (task.isStrangerReported) return
    task.isStrangerReported = true
    this.#ports.log.info({ ...fieldsOf(task), answer: formatRcode(task.denial!) }, 'is no secondary of this zone')
  }

  // ---- messages

  #transmit(
    task: Task,
    { flags, answers, key }: { flags: number; answers: Message['answers']; key: TsigKey | undefined },
  ): void {
    const { zone, target } = task
    task.id = randomInt(65536)
    const questions = [{ name: zone.origin, type: Type.SOA, class: Class.IN }]
    let bytes = encodeMessage({ id: task.id, flags, questions, answers })
    task.mac = undefined
    if (key) ({ message: bytes, mac: task.mac } = new TsigSigner(key, this.#ports.now).sign(bytes))
    // what cannot be sent is sent again, like what is lost
    this.#socketFor(target.host).send(bytes, target.port, target.host, () => {})
  }

  #socketFor(host: string): Socket {
    const family = host.includes(':') ? 6 : 4
    const known = this.#sockets.get(family)
    if (known) return known
    const socket = createSocket({ type: family === 4 ? 'udp4' : 'udp6', ipv6Only: family === 6 })
    this.#sockets.set(family, socket)
    socket.on('message', (bytes, from) => this.#received(bytes, from.address, from.port))
    socket.on('error', error => {
      this.#ports.log.warn({ problem: error.message }, 'NOTIFY cannot be sent')
      this.#sockets.delete(family)
      socket.close()
    })
    const source = this.#settings.own.find(({ host: own }) => own.includes(':') === (family === 6) && !isAny(own))
    socket.bind(0, source?.host)
    return socket
  }

  #received(bytes: Uint8Array, host: string, port: number): void {
    const message = decodeMessage(bytes)
    if (typeof message === 'string' || (message.flags & Flag.QR) === 0) return
    const opcode = opcodeOf(message.flags)
    const awaited = opcode === Opcode.NOTIFY ? 'sent' : opcode === Opcode.QUERY ? 'asked' : undefined
    for (const task of this.#tasks.values()) {
      if (task.id !== message.id || task.state !== awaited) continue
      if (task.target.port !== port || !isSameHost(task.target.host, host)) continue
      if (awaited === 'sent') this.#answered(task, bytes, message)
      else if (this.#faultOf(task, bytes, message) === undefined) this.#looked(task, copyIn(message, task.zone.origin))
    }
  }

  // of an answer to what was signed
  #faultOf({ target, mac }: Task, bytes: Uint8Array, message: Message): TsigFault | undefined {
    if (!target.key || !mac) return undefined
    return new TsigVerifier([target.key], this.#ports.now, mac).verify(bytes, message)
  }

  stop(): void {
    this.#isStopped = true
    for (const task of this.#tasks.values()) clearTimeout(task.timer)
    this.#tasks.clear()
    for (const socket of this.#sockets.values()) socket.close()
    this.#sockets.clear()
  }
}

function copyIn(message: Message, origin: Name): Copy {
  const rcode = rcodeOf(message)
  if (rcode === Rcode.SERVFAIL) return 'SERVFAIL'
  if (rcode !== 0 || (message.flags & Flag.AA) === 0) return undefined
  const soa = message.answers.find(record => record.type === Type.SOA && lowerName(record.name) === origin)
  return soa && decodeSoa(soa.data).serial
}

// those who wait for the same do not all act at the same moment
function spread(seconds: number): number {
  return seconds * (1 + Math.random() / 4)
}

function fieldsOf({ zone, target }: Task): object {
  return { zone: formatName(zone.origin), secondary: `${target.host} port ${target.port}`, serial: zone.soa.serial }
}

/** Whom to tell of a change of the zone. */
export function targetsOf(zone: Zone, settings: NotifySettings): NotifyTarget[] {
  const targets = [...settings.targets]
  if (!settings.toNameServers) return targets
  const primary = lowerName(zone.soa.primary)
  const hosts = zone
    .find(zone.origin, Type.NS)
    .map(record => lowerName(nameAt(record.data, 0)))
    .filter(name => name !== primary)
    .flatMap(name => [...zone.find(name, Type.A), ...zone.find(name, Type.AAAA)])
    .map(record => formatAddress(record.data))
  for (const host of new Set(hosts)) {
    const isKnown = targets.some(target => isSameHost(target.host, host))
    const isOwn = settings.own.some(own => own.port === 53 && isSameHost(own.host, host))
    if (!isKnown && !isOwn) targets.push({ host, port: 53 })
  }
  return targets
}

function isAny(host: string): boolean {
  return parseAddress(host)?.every(byte => byte === 0) ?? true
}

function isSameHost(a: string, b: string): boolean {
  const [x, y] = [parseAddress(a), parseAddress(b.replace(/%.*/, ''))]
  return x && y ? formatAddress(x) === formatAddress(y) : a === b
}
