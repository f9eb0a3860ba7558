/**
 * Questions to other servers: over UDP with a port, an id, letter case and a cookie that nobody outside can know (RFC 5452, RFC 7873, the 0x20 rule);
 * over TCP where an answer was cut. Nothing here waits: an answer, or the end of patience, calls back.
 *
 * An answer counts only when it comes from the server asked, to the port used, with the id and the question, letter for letter, with our cookie where that
 * server gave us one, and when it can be read; everything else is counted and ignored, and the wait goes on: a forged answer must not even make the question
 * fail. What is nearly right (another case, no cookie, an error without the question) is asked again over TCP, where nobody outside can answer.
 *
 * Servers are asked in the order given; one that keeps silent is passed over for a while, and a later answer of an earlier server is still taken. Every
 * exchange ends: attempts are counted, and each has a deadline.
 */
import { EdnsOption, Rcode } from '../../dns/constants.ts'
import { HEADER, MAX_MESSAGE } from '../../dns/message.ts'
import { skipName, walkRecords } from '../../dns/packet.ts'

export interface UpstreamServer {
  readonly text: string
  readonly address: Uint8Array
  readonly port: number
}

export interface UpstreamPorts {
  /** One of the sockets of that family: its number, for `send` and `onDatagram`. */
  choose(server: UpstreamServer): number
  /** False: not sent. */
  send(socket: number, server: UpstreamServer, message: Uint8Array): boolean
  /** Asks over TCP; `done` is called once, with undefined when that failed. */
  askTcp(server: UpstreamServer, message: Uint8Array, done: (answer: Uint8Array | undefined) => void): void
  /** milliseconds, monotonic */
  now(): number
  random32(): number
}

/** The last answer that came and the server it came from, or undefined: no server gave one. */
export type ExchangeDone = (answer: Uint8Array | undefined, from?: ServerState) => void

export interface ExchangeWanted {
  servers: readonly ServerState[]
  /** id 0, the question first and only, at most one OPT record, at its end */
  message: Uint8Array
  /** where an OPT record begins, to which a cookie is added; 0: there is none */
  optAt: number
  /** over TCP only (asked over TCP), or over UDP and again over TCP when cut, or over UDP alone */
  transport: 'tcp' | 'udp-then-tcp' | 'udp'
  /**
   * 'asked': as they are in the message. Servers that compress names by exact letters (BIND, CoreDNS) give other bytes, and more of them, to
   * a question in other letters.
   */
  letters: 'random' | 'asked'
  /** Can this answer be read? One that cannot is as if it had not come. */
  isReadable?(answer: Uint8Array): boolean
  done: ExchangeDone
}

const COOKIE_CLIENT = 8
/** From the first attempt: when the next server is asked, and when patience ends. */
const ATTEMPT_MS = [500, 700, 1000, 1200] as const
const QUEUES = ATTEMPT_MS.length
/** With those that servers refused at once. */
const MOST_ATTEMPTS = 8
const DOWN_AFTER = 3
const DOWN_MS = 2000
const MOST_DOWN_MS = 30_000
const CASE_MISSES = 3
const MOST_OPEN = 40_000
const MOST_DRAWS = 16
const BADCOOKIE = 23

/** Why a server is asked over TCP. */
type TcpReason = 'asked' | 'cut' | 'case' | 'cookie' | 'bare'

export class ServerState {
  readonly server: UpstreamServer
  readonly clientCookie: Uint8Array
  serverCookie: Uint8Array | undefined
  silences = 0
  /** milliseconds, monotonic */
  lastAnswerAt = Number.NEGATIVE_INFINITY
  downUntil = 0
  keepsCase = true
  caseMisses = 0
  readonly counts = { asked: 0, answered: 0, silent: 0 }

  constructor(server: UpstreamServer, clientCookie: Uint8Array) {
    this.server = server
    this.clientCookie = clientCookie
  }
}

interface Found {
  answer: Uint8Array
  from: ServerState
}

interface Exchange {
  readonly wanted: ExchangeWanted
  readonly nameEnd: number
  attempts: number
  readonly tried: Set<ServerState>
  /** those that will not give an answer to this */
  readonly refused: Set<ServerState>
  readonly triedTcp: Set<ServerState>
  /** attempts whose answer is welcome; those that are overdue too */
  open: Attempt[]
  /** an answer that is good only if no better one comes (SERVFAIL) */
  fallback: Found | undefined
  tcpOpen: number
  isDone: boolean
}

interface Attempt {
  readonly exchange: Exchange
  readonly state: ServerState
  readonly key: number
  readonly sent: Uint8Array
  readonly sentAt: number
  readonly deadline: number
  readonly isLast: boolean
  isOverdue: boolean
}

export class Upstreams {
  readonly #ports: UpstreamPorts
  readonly #open = new Map<number, Attempt>()
  /** attempts by how long they are waited for; each list is in the order of deadlines */
  readonly #waiting: Attempt[][] = Array.from({ length: QUEUES }, () => [])
  readonly #heads = new Array<number>(QUEUES).fill(0)
  readonly counts = { asked: 0, answered: 0, ignored: 0, timeouts: 0, tcp: 0, failed: 0 }

  constructor(ports: UpstreamPorts) {
    this.#ports = ports
  }

  get outstanding(): number {
    return this.#open.size
  }

  makeState(server: UpstreamServer): ServerState {
    const cookie = new Uint8Array(COOKIE_CLIENT)
    for (let i = 0; i < COOKIE_CLIENT; i++) cookie[i] = this.#ports.random32() & 255
    return new ServerState(server, cookie)
  }

  ask(wanted: ExchangeWanted): void {
    const exchange: Exchange = {
      wanted,
      nameEnd: skipName(wanted.message, HEADER),
      attempts: 0,
      tried: new Set(),
      refused: new Set(),
      triedTcp: new Set(),
      open: [],
      fallback: undefined,
      tcpOpen: 0,
      isDone: false,
    }
    if (wanted.servers.length === 0 || this.#open.size >= MOST_OPEN) return wanted.done(undefined)
    this.#next(exchange)
  }

  // of those that did not refuse: the first in order that is up and was not tried; when all were, again from the first
  #choose(exchange: Exchange): ServerState | undefined {
    const now = this.#ports.now()
    const willing = exchange.wanted.servers.filter(state => !exchange.refused.has(state))
    const fresh = willing.filter(state => !exchange.tried.has(state))
    const list = fresh.length > 0 ? fresh : willing
    return list.find(state => state.downUntil <= now) ?? list[0]
  }

  #next(exchange: Exchange): void {
    const state = this.#choose(exchange)
    if (!state) return this.#finish(exchange, exchange.fallback)
    exchange.tried.add(state)
    if (exchange.wanted.transport === 'tcp') return this.#askTcp(exchange, state, 'asked')
    const now = this.#ports.now()
    const wait = ATTEMPT_MS[Math.min(exchange.attempts, QUEUES - 1)]!
    // of servers that are silent anyway, each is asked once
    const isHopeless = state.downUntil > now && exchange.attempts >= exchange.wanted.servers.length - 1
    const isLast = isHopeless || exchange.attempts >= QUEUES - 1
    // one question finds out whether it is back, the others go on without it
    if (state.silences >= DOWN_AFTER && state.downUntil <= now) state.downUntil = now + wait
    const message = this.#dress(exchange, state)
    const socket = this.#ports.choose(state.server)
    let key = 0
    for (let tries = 0; tries < MOST_DRAWS; tries++) {
      key = socket * 65536 + (this.#ports.random32() & 0xffff)
      if (!this.#open.has(key)) break
    }
    message[0] = (key >>> 8) & 255
    message[1] = key & 255
    this.counts.asked++
    state.counts.asked++
    const isSent = !this.#open.has(key) && this.#ports.send(socket, state.server, message)
    const attempt: Attempt = {
      exchange,
      state,
      key,
      sent: message,
      sentAt: this.#ports.now(),
      deadline: this.#ports.now() + (isSent ? wait : 0),
      isLast,
      isOverdue: false,
    }
    exchange.open.push(attempt)
    if (isSent) this.#open.set(key, attempt)
    this.#waiting[Math.min(exchange.attempts, QUEUES - 1)]!.push(attempt)
    exchange.attempts++
  }

  // letters in random case where that changes nothing, and our cookie
  #dress(exchange: Exchange, state: ServerState): Uint8Array {
    const { message, optAt } = exchange.wanted
    const dressed = optAt > 0 ? withCookie(message, optAt, state) : message.slice()
    if (!state.keepsCase || exchange.wanted.letters === 'asked') return dressed
    let bits = 0
    let left = 0
    for (let i = HEADER; i < exchange.nameEnd; i++) {
      const c = dressed[i]!
      if ((c | 32) < 97 || (c | 32) > 122) continue
      if (left === 0) {
        bits = this.#ports.random32()
        left = 32
      }
      if ((bits & 1) === 1) dressed[i] = c ^ 32
      bits >>>= 1
      left--
    }
    return dressed
  }

  #askTcp(exchange: Exchange, state: ServerState, reason: TcpReason): void {
    const message = this.#dress(exchange, state)
    const id = this.#ports.random32() & 0xffff
    message[0] = id >>> 8
    message[1] = id
    this.counts.tcp++
    exchange.attempts++
    exchange.tcpOpen++
    exchange.triedTcp.add(state)
    state.counts.asked++
    this.#ports.askTcp(state.server, message, answer => {
      exchange.tcpOpen--
      const isFit =
        answer !== undefined &&
        answer.length > HEADER &&
        answer[0] === message[0] &&
        answer[1] === message[1] &&
        (answer[2]! & 0xf8) === 0x80 &&
        this.#isQuestion(answer, message, exchange.nameEnd, false)
      const keepsCase = isFit && this.#isQuestion(answer, message, exchange.nameEnd, true)
      if (isFit) undress(answer, exchange)
      const isGood = isFit && (exchange.wanted.isReadable?.(answer) ?? true)
      if (reason === 'case' && !keepsCase && ++state.caseMisses >= CASE_MISSES) state.keepsCase = false
      if (reason === 'cookie' && (!isGood || cookieOf(answer, state) !== 'ours')) state.serverCookie = undefined
      if (exchange.isDone) return
      if (isGood && !isBadCookie(answer)) {
        this.#answered(state)
        return this.#judge(exchange, state, answer)
      }
      this.#failedOverTcp(exchange, state, reason)
    })
  }

  #failedOverTcp(exchange: Exchange, state: ServerState, reason: TcpReason): void {
    // what it said over UDP is all that there is to be had
    if (reason === 'bare') return this.#finish(exchange, exchange.fallback)
    if (reason === 'asked') this.#silent(state)
    if (reason === 'asked' || reason === 'cut') return this.#refuse(exchange, state)
    this.#goOn(exchange)
  }

  // what nearly fits is either forged, or of a server that does less than others: over TCP it is the server
  #verify(exchange: Exchange, state: ServerState, reason: TcpReason): void {
    this.#ignore()
    if (!exchange.triedTcp.has(state)) this.#askTcp(exchange, state, reason)
  }

  /** A datagram that came to a socket of ours. `sender`: address and port. */
  onDatagram(socket: number, bytes: Uint8Array, sender: { address: Uint8Array; port: number }): void {
    if (bytes.length < HEADER || (bytes[2]! & 0xf8) !== 0x80) return this.#ignore()
    const attempt = this.#open.get(socket * 65536 + ((bytes[0]! << 8) | bytes[1]!))
    if (!attempt) return this.#ignore()
    const { exchange, state, sent } = attempt
    const { server } = state
    if (sender.port !== server.port || !equalBytes(sender.address, server.address)) return this.#ignore()
    if (this.#isBareError(bytes, attempt)) {
      exchange.fallback ??= { answer: bytes, from: state }
      return this.#verify(exchange, state, 'bare')
    }
    if (!this.#isQuestion(bytes, sent, exchange.nameEnd, state.keepsCase)) {
      const onlyCase = state.keepsCase && this.#isQuestion(bytes, sent, exchange.nameEnd, false)
      return onlyCase ? this.#verify(exchange, state, 'case') : this.#ignore()
    }
    undress(bytes, exchange)
    if (exchange.wanted.isReadable?.(bytes) === false) return this.#ignore()
    const cookie = exchange.wanted.optAt > 0 ? cookieOf(bytes, state) : 'none'
    if (cookie === 'wrong') return this.#ignore()
    if ((cookie === 'none' && exchange.wanted.optAt > 0 && state.serverCookie) || isBadCookie(bytes))
      return this.#verify(exchange, state, 'cookie')
    this.#answered(state)
    const isCut = (bytes[2]! & 2) !== 0
    if (isCut && exchange.wanted.transport === 'udp-then-tcp') {
      this.#close(attempt)
      if (exchange.triedTcp.has(state)) return this.#refuse(exchange, state)
      return this.#askTcp(exchange, state, 'cut')
    }
    this.#judge(exchange, state, bytes)
  }

  #answered(state: ServerState): void {
    this.counts.answered++
    state.counts.answered++
    state.silences = 0
    state.downUntil = 0
    state.lastAnswerAt = this.#ports.now()
  }

  // of a server that does not know EDNS, and does not even repeat the question
  #isBareError(bytes: Uint8Array, { exchange, state }: Attempt): boolean {
    const rcode = bytes[3]! & 15
    const isError = rcode === Rcode.FORMERR || rcode === Rcode.NOTIMP
    return bytes.length === HEADER && isError && exchange.wanted.optAt > 0 && !state.serverCookie
  }

  #ignore(): void {
    this.counts.ignored++
  }

  #isQuestion(answer: Uint8Array, sent: Uint8Array, nameEnd: number, exact: boolean): boolean {
    if (answer.length < nameEnd + 4 || answer[4] !== 0 || answer[5] !== 1) return false
    for (let i = HEADER; i < nameEnd + 4; i++) {
      const [a, b] = [answer[i]!, sent[i]!]
      if (a === b) continue
      const letter = a | 32
      if (exact || i >= nameEnd || letter !== (b | 32) || letter < 97 || letter > 122) return false
    }
    return true
  }

  // SERVFAIL and REFUSED of one server: another may know better
  #judge(exchange: Exchange, state: ServerState, answer: Uint8Array): void {
    const rcode = answer[3]! & 15
    if (rcode !== Rcode.SERVFAIL && rcode !== Rcode.REFUSED) return this.#finish(exchange, { answer, from: state })
    exchange.fallback ??= { answer, from: state }
    this.#refuse(exchange, state)
  }

  #refuse(exchange: Exchange, state: ServerState): void {
    exchange.refused.add(state)
    for (const attempt of exchange.open.filter(a => a.state === state)) this.#close(attempt)
    const isFresh = (other: ServerState) => !exchange.tried.has(other) && !exchange.refused.has(other)
    if (exchange.attempts < MOST_ATTEMPTS && exchange.wanted.servers.some(isFresh)) return this.#next(exchange)
    this.#goOn(exchange)
  }

  // when nothing is waited for: again, while that may help, or the end
  #goOn(exchange: Exchange): void {
    if (exchange.isDone || exchange.tcpOpen > 0 || exchange.open.some(attempt => !attempt.isOverdue)) return
    const { servers, transport } = exchange.wanted
    const mayHelp = exchange.attempts < QUEUES && transport !== 'tcp'
    if (mayHelp && servers.some(state => !exchange.refused.has(state))) return this.#next(exchange)
    this.#finish(exchange, exchange.fallback)
  }

  #finish(exchange: Exchange, found: Found | undefined): void {
    if (exchange.isDone) return
    exchange.isDone = true
    for (const attempt of exchange.open) if (this.#open.get(attempt.key) === attempt) this.#open.delete(attempt.key)
    exchange.open = []
    if (!found) this.counts.failed++
    exchange.wanted.done(found?.answer, found?.from)
  }

  #close(attempt: Attempt): void {
    if (this.#open.get(attempt.key) === attempt) this.#open.delete(attempt.key)
    const { exchange } = attempt
    exchange.open = exchange.open.filter(other => other !== attempt)
  }

  #silent(state: ServerState): void {
    state.counts.silent++
    state.silences++
    if (state.silences < DOWN_AFTER) return
    const longer = 2 ** Math.min(10, state.silences - DOWN_AFTER)
    state.downUntil = this.#ports.now() + Math.min(MOST_DOWN_MS, DOWN_MS * longer)
  }

  /** Call now and then: looks after those that are overdue. Milliseconds until the next is. */
  tick(): number {
    const now = this.#ports.now()
    let next = Number.POSITIVE_INFINITY
    for (let queue = 0; queue < QUEUES; queue++) {
      const list = this.#waiting[queue]!
      let head = this.#heads[queue]!
      while (head < list.length && (list[head]!.deadline <= now || list[head]!.exchange.isDone)) {
        const attempt = list[head++]!
        if (!attempt.exchange.isDone) this.#overdue(attempt)
      }
      if (head > 1024 && head * 2 > list.length) {
        list.splice(0, head)
        head = 0
      }
      this.#heads[queue] = head
      if (head < list.length) next = Math.min(next, list[head]!.deadline - now)
    }
    return Math.max(0, next)
  }

  #overdue(attempt: Attempt): void {
    const { exchange, state } = attempt
    if (!exchange.open.includes(attempt)) return
    this.counts.timeouts++
    // one lost datagram among answers says nothing about the server
    if (state.lastAnswerAt < attempt.sentAt) this.#silent(state)
    // its answer is still welcome
    attempt.isOverdue = true
    if (!attempt.isLast) return this.#next(exchange)
    if (exchange.tcpOpen === 0) this.#finish(exchange, exchange.fallback)
  }
}

/** The question in the letters of the asker again, and owners that repeat it letter for letter. */
function undress(answer: Uint8Array, { wanted, nameEnd }: Exchange): void {
  const { message } = wanted
  const sent = answer.slice(HEADER, nameEnd)
  const asked = message.subarray(HEADER, nameEnd)
  answer.set(asked, HEADER)
  let at = nameEnd + 4
  while (at > 0 && at < answer.length) {
    let i = 0
    while (i < sent.length && answer[at + i] === sent[i]) i++
    if (i === sent.length) answer.set(asked, at)
    const end = skipName(answer, at)
    if (end < 0 || end + 10 > answer.length) return
    at = end + 10 + ((answer[end + 8]! << 8) | answer[end + 9]!)
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** The message with a COOKIE option at the end of its OPT record, which is its last. As it was, where there is no room. */
function withCookie(message: Uint8Array, optAt: number, state: ServerState): Uint8Array {
  const { clientCookie, serverCookie } = state
  const length = clientCookie.length + (serverCookie?.length ?? 0)
  if (message.length + 4 + length > MAX_MESSAGE) return message.slice()
  const out = new Uint8Array(message.length + 4 + length)
  out.set(message)
  let at = message.length
  out[at + 1] = EdnsOption.COOKIE
  out[at + 3] = length
  at += 4
  out.set(clientCookie, at)
  if (serverCookie) out.set(serverCookie, at + clientCookie.length)
  const rdLength = ((out[optAt + 9]! << 8) | out[optAt + 10]!) + 4 + length
  out[optAt + 9] = rdLength >>> 8
  out[optAt + 10] = rdLength
  return out
}

export interface FoundOpt {
  /** start of the record (its root name) */
  at: number
  dataAt: number
  end: number
  cookie: { at: number; data: Uint8Array } | undefined
}

/** The OPT record of a message with its COOKIE option. */
export function findOpt(bytes: Uint8Array): FoundOpt | undefined {
  const record = walkRecords(bytes)?.records.find(r => r.section === 'additional' && r.type === 41)
  if (!record) return undefined
  const found: FoundOpt = { at: record.start, dataAt: record.dataAt, end: record.end, cookie: undefined }
  for (let at = record.dataAt; at + 4 <= record.end; ) {
    const code = (bytes[at]! << 8) | bytes[at + 1]!
    const length = (bytes[at + 2]! << 8) | bytes[at + 3]!
    if (at + 4 + length > record.end) return undefined
    if (code === EdnsOption.COOKIE) found.cookie ??= { at, data: bytes.subarray(at + 4, at + 4 + length) }
    at += 4 + length
  }
  return found
}

/** Remembers the cookie that the server gave. */
function cookieOf(bytes: Uint8Array, state: ServerState): 'none' | 'ours' | 'wrong' {
  // no additional records: no cookie
  const cookie = bytes[11] === 0 && bytes[10] === 0 ? undefined : findOpt(bytes)?.cookie
  if (!cookie) return 'none'
  const { data } = cookie
  if (data.length < COOKIE_CLIENT || !equalBytes(data.subarray(0, COOKIE_CLIENT), state.clientCookie)) return 'wrong'
  if (data.length >= 16 && data.length <= 40) state.serverCookie = data.slice(COOKIE_CLIENT)
  return 'ours'
}

// RFC 7873 section 5.3: the server wants the cookie that comes with this
function isBadCookie(bytes: Uint8Array): boolean {
  if ((bytes[3]! & 15) !== (BADCOOKIE & 15) || bytes.length < HEADER) return false
  const opt = findOpt(bytes)
  return opt !== undefined && bytes[opt.at + 5] === BADCOOKIE >> 4
}

/** An answer without the COOKIE option that was put into the question: as if it had not been. */
export function withoutCookie(bytes: Uint8Array): Uint8Array {
  const opt = findOpt(bytes)
  if (!opt?.cookie) return bytes
  const { at, data } = opt.cookie
  const removed = 4 + data.length
  const out = new Uint8Array(bytes.length - removed)
  out.set(bytes.subarray(0, at))
  out.set(bytes.subarray(at + removed), at)
  const rdLength = opt.end - opt.dataAt - removed
  out[opt.dataAt - 2] = rdLength >>> 8
  out[opt.dataAt - 1] = rdLength
  return out
}
