/**
 * Ordinary resolution for the DNS agent: hundreds of questions at once, each asked as the resolver asks its upstreams (upstreams.ts), on the main thread. A name that
 * does not exist has no addresses; a question that nobody answered is a failure: the two are not the same.
 */
import { randomFillSync } from 'node:crypto'
import { Class, Flag, Rcode, Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, nameAt } from '../../dns/message.ts'
import { lowerName, type Name } from '../../dns/name.ts'
import { queryOverTcp } from '../../dns/tcpQuery.ts'
import { formatAddress } from '../../ipref/address.ts'
import { Arena } from '../sys/arena.ts'
import type { Poller } from '../sys/poller.ts'
import { UpstreamSockets } from './upstreamSockets.ts'
import { type ServerState, type UpstreamServer, Upstreams } from './upstreams.ts'

const OUTSTANDING = 250
const TICK_MS = 25
const TCP_MS = 5000
const ARENA_BYTES = 4 << 20
const MOST_ALIASES = 8
const RANDOM_WORDS = 4096
/** Servers that something is remembered of. */
const MOST_STATES = 256

/** `elsewhere`: the server is not the one to ask. */
export type Looked = Uint8Array[] | 'failed' | 'elsewhere'

interface Question {
  name: Name
  type: number
  servers: readonly ServerState[]
  aliases: number
  /** only what the server has of its own */
  isAuthoritative: boolean
  done(found: Looked): void
}

export class Lookup {
  readonly #upstreams: Upstreams
  readonly #sockets: UpstreamSockets
  readonly #poller: Poller
  readonly #waiting: Question[] = []
  readonly #random = new Int32Array(RANDOM_WORDS)
  readonly #states = new Map<string, ServerState>()
  #randomLeft = 0
  #open = 0
  #head = 0
  #timer: NodeJS.Timeout | undefined
  #flushSoon = false

  constructor(poller: Poller) {
    this.#poller = poller
    const random32 = () => this.#random32()
    this.#sockets = openSockets(random32)
    for (const { fd, number } of this.#sockets.open) this.#watch(fd, number)
    this.#upstreams = new Upstreams({
      choose: server => this.#sockets.choose(server),
      send: (number, server, message) => {
        this.#scheduleFlush()
        return this.#sockets.send(number, server, message)
      },
      askTcp: (server, message, done) => {
        void queryOverTcp({ host: formatAddress(server.address), port: server.port }, message, TCP_MS).then(done)
      },
      now: () => performance.now(),
      random32,
    })
  }

  #random32(): number {
    if (this.#randomLeft === 0) {
      randomFillSync(this.#random)
      this.#randomLeft = RANDOM_WORDS
    }
    return this.#random[--this.#randomLeft]!
  }

  #watch(fd: number, number: number): void {
    this.#poller.add(fd, () =>
      this.#sockets.receive(number, (bytes, sender) => this.#upstreams.onDatagram(number, bytes, sender)),
    )
  }

  #scheduleFlush(): void {
    if (this.#flushSoon) return
    this.#flushSoon = true
    setImmediate(() => {
      this.#flushSoon = false
      this.#sockets.flush()
    })
  }

  #stateOf(server: UpstreamServer): ServerState {
    const key = `${formatAddress(server.address)} ${server.port}`
    let state = this.#states.get(key)
    if (!state) {
      state = this.#upstreams.makeState(server)
      if (this.#states.size >= MOST_STATES) this.#states.clear()
      this.#states.set(key, state)
    }
    return state
  }

  /** The addresses of a name at the first of the servers that answers. */
  addresses(
    name: Name,
    family: 4 | 6,
    servers: readonly UpstreamServer[],
    wanted: { authoritative: boolean } = { authoritative: false },
  ): Promise<Looked> {
    return new Promise(resolve => {
      this.#waiting.push({
        name,
        type: family === 4 ? Type.A : Type.AAAA,
        servers: servers.map(server => this.#stateOf(server)),
        aliases: MOST_ALIASES,
        isAuthoritative: wanted.authoritative,
        done: resolve,
      })
      this.#pump()
    })
  }

  #pump(): void {
    while (this.#open < OUTSTANDING && this.#head < this.#waiting.length) {
      this.#open++
      this.#ask(this.#waiting[this.#head++]!)
    }
    if (this.#head === this.#waiting.length) {
      this.#waiting.length = 0
      this.#head = 0
    }
    if (this.#open > 0) this.#timer ??= setInterval(() => this.#tick(), TICK_MS)
  }

  #tick(): void {
    this.#upstreams.tick()
    this.#sockets.flush()
    this.#sockets.renew(performance.now(), {
      opened: (fd, number) => this.#watch(fd, number),
      closing: fd => this.#poller.remove(fd),
    })
    if (this.#open > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #ask(question: Question): void {
    const { name, type, servers, aliases } = question
    const message = encodeMessage({ id: 0, flags: Flag.RD, questions: [{ name, type, class: Class.IN }] })
    this.#upstreams.ask({
      servers,
      message,
      optAt: 0,
      transport: 'udp-then-tcp',
      letters: 'random',
      done: bytes => {
        const found = read(bytes, question)
        if (typeof found === 'object' && 'alias' in found) {
          if (aliases > 0) return this.#ask({ ...question, name: found.alias, aliases: aliases - 1 })
          return this.#finish(question, 'failed')
        }
        this.#finish(question, found)
      },
    })
  }

  #finish(question: Question, found: Looked): void {
    this.#open--
    question.done(found)
    // not from within the answers of a batch: those of one batch go out together
    this.#pump()
  }

  stop(): void {
    clearInterval(this.#timer)
    for (const { fd } of this.#sockets.open) this.#poller.remove(fd)
    this.#sockets.close()
  }
}

// a host without IPv6 asks over IPv4 alone
function openSockets(random32: () => number): UpstreamSockets {
  const any4 = { text: '', address: new Uint8Array(4), port: 0 }
  const any6 = { text: '', address: new Uint8Array(16), port: 0 }
  const arena = new Arena(ARENA_BYTES)
  try {
    return new UpstreamSockets(arena, [any4, any6], random32)
  } catch {
    return new UpstreamSockets(arena, [any4], random32)
  }
}

function read(
  bytes: Uint8Array | undefined,
  { name, type, isAuthoritative }: Pick<Question, 'name' | 'type' | 'isAuthoritative'>,
): Looked | { alias: Name } {
  const answer = bytes && decodeMessage(bytes)
  if (!answer || typeof answer === 'string') return 'failed'
  const rcode = answer.flags & 15
  if (isAuthoritative && (rcode === Rcode.REFUSED || rcode === Rcode.NOTAUTH)) return 'elsewhere'
  if (rcode === Rcode.NXDOMAIN) return []
  if (rcode !== Rcode.NOERROR) return 'failed'
  let owner = lowerName(name)
  for (let i = 0; ; i++) {
    const link = answer.answers.find(r => r.type === Type.CNAME && lowerName(r.name) === owner)
    if (!link) break
    // in circles: that is no answer, and does not say that there are no addresses
    if (i === MOST_ALIASES) return 'failed'
    owner = lowerName(nameAt(link.data, 0))
  }
  const found = answer.answers.filter(r => r.type === type && lowerName(r.name) === owner).map(r => r.data)
  if (found.length > 0) return found
  if (owner !== lowerName(name)) return { alias: owner }
  const isReferral = isAuthoritative && (answer.flags & Flag.AA) === 0
  return isReferral ? 'elsewhere' : []
}
