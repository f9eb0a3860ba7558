/**
 * NOTIFY to secondaries (RFC 1996): on every new serial, until they answer.
 *
 *   changed ──► sent ──► answered ──► done
 *                │ ▲        └─ changed meanwhile: sent again with the new serial
 *                └─┘ no answer: again after 1, 2, 4 … 60 s, ten times; then a line in the log, and the secondary learns of it by its own refresh
 *
 * To each secondary one message of a zone is on its way at a time, at most five a second. Secondaries are those that are configured, and the
 * addresses of the zone's NS names that the zone itself has, but for the primary of its SOA record (RFC 1996 section 3.6) and ourselves.
 */
import { randomInt } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { formatAddress, parseAddress } from '../ipref/address.ts'
import { Class, Flag, formatRcode, Opcode, Type } from './constants.ts'
import { decodeMessage, encodeMessage, type Message, nameAt, opcodeOf, rcodeOf } from './message.ts'
import { formatName, lowerName, type Name } from './name.ts'
import { type TsigKey, TsigSigner, TsigVerifier } from './tsig.ts'
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

const RETRY_S = [1, 2, 4, 8, 16, 32, 60, 60, 60]
const BETWEEN_MS = 200

/** What one secondary is to be told of one zone. */
interface Task {
  zone: Zone
  readonly target: NotifyTarget
  /** how often it was sent since the last change */
  sent: number
  sentAtMs: number
  id: number
  mac: Uint8Array | undefined
  timer: NodeJS.Timeout | undefined
  state: 'waiting' | 'changed' | 'done'
  /** why the last answer was not taken */
  problem: string | undefined
}

export class Notifier {
  readonly #settings: NotifySettings
  readonly #ports: NotifyPorts
  readonly #tasks = new Map<string, Task>()
  readonly #sockets = new Map<4 | 6, Socket>()
  #isStopped = false
  sent = 0

  constructor(settings: NotifySettings, ports: NotifyPorts) {
    this.#settings = settings
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
    const rest = { sent: 0, sentAtMs: 0, id: 0, mac: undefined, timer: undefined, problem: undefined }
    const task: Task = { zone, target, state: 'waiting', ...rest }
    this.#tasks.set(key, task)
    return task
  }

  #changed(task: Task, zone: Zone): void {
    task.zone = zone
    if (task.state === 'waiting') task.state = 'changed'
    else if (task.state === 'done') this.#sendSoon(task)
  }

  #sendSoon(task: Task): void {
    task.state = 'waiting'
    task.sent = 0
    clearTimeout(task.timer)
    const waitMs = task.sentAtMs + BETWEEN_MS - performance.now()
    if (waitMs <= 0) this.#send(task)
    else task.timer = setTimeout(() => this.#send(task), waitMs)
  }

  removeZone(origin: Name): void {
    for (const [key, task] of this.#tasks) {
      if (task.zone.origin !== lowerName(origin)) continue
      clearTimeout(task.timer)
      this.#tasks.delete(key)
    }
  }

  #send(task: Task): void {
    const { zone, target } = task
    task.state = 'waiting'
    task.id = randomInt(65536)
    task.sentAtMs = performance.now()
    let bytes = encodeMessage({
      id: task.id,
      flags: (Opcode.NOTIFY << 11) | Flag.AA,
      questions: [{ name: zone.origin, type: Type.SOA, class: Class.IN }],
      answers: [zone.soaRecord],
    })
    task.mac = undefined
    if (target.key) ({ message: bytes, mac: task.mac } = new TsigSigner(target.key, this.#ports.now).sign(bytes))
    this.sent++
    // what cannot be sent is sent again, like what is lost
    this.#socketFor(target.host).send(bytes, target.port, target.host, () => {})
    const afterS = RETRY_S[task.sent++]
    clearTimeout(task.timer)
    task.timer = setTimeout(() => this.#unanswered(task), (afterS ?? 60) * 1000 * (1 + Math.random() / 4))
  }

  #unanswered(task: Task): void {
    if (task.state === 'changed') return this.#sendSoon(task)
    if (task.sent <= RETRY_S.length) return this.#send(task)
    task.state = 'done'
    const problem = task.problem ?? 'no answer'
    this.#ports.log.warn({ ...fieldsOf(task), problem }, 'secondary does not answer NOTIFY')
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
    if (opcodeOf(message.flags) !== Opcode.NOTIFY) return
    for (const task of this.#tasks.values()) {
      if (task.id !== message.id || task.state === 'done') continue
      if (task.target.port !== port || !isSameHost(task.target.host, host)) continue
      this.#answered(task, bytes, message)
    }
  }

  #answered(task: Task, bytes: Uint8Array, message: Message): void {
    const rcode = rcodeOf(message)
    if (task.target.key) {
      const fault = new TsigVerifier([task.target.key], this.#ports.now, task.mac).verify(bytes, message)
      if (fault !== undefined) {
        task.problem = `${formatRcode(rcode)}, ${fault}`
        return
      }
    }
    const changed = task.state === 'changed'
    const problem = rcode === 0 ? undefined : formatRcode(rcode)
    if (problem !== undefined && problem !== task.problem)
      this.#ports.log.warn({ ...fieldsOf(task), problem }, 'secondary refuses NOTIFY')
    task.problem = problem
    task.state = 'done'
    clearTimeout(task.timer)
    if (changed) this.#sendSoon(task)
  }

  stop(): void {
    this.#isStopped = true
    for (const task of this.#tasks.values()) clearTimeout(task.timer)
    this.#tasks.clear()
    for (const socket of this.#sockets.values()) socket.close()
    this.#sockets.clear()
  }
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
