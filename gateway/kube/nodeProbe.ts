/**
 * Does the network between two nodes carry encoded addresses as they are? Clouds drop packets whose addresses they do not know, so it is tried.
 *
 *   node A, first address of A's slice ──► straight over the link ──► first address of B's slice, node B     "are you there" + 16 random bytes
 *                                      ◄──────────────────────────                                           the same bytes, and a word
 *
 * A node without a gateway has no slice and uses its own address. Nobody else sends to or from these addresses, and a route of their own leads to
 * them, so probing does not disturb anything. The word says whether packets of A's pods would be dropped on the way in by a strict filter of B.
 *
 *   0     4  5          21
 *   | IPRP | kind | nonce |     kind: 1 question, 2 answer, 3 answer: a strict reverse path filter is in the way
 *
 * ProbeLedger is pure but for the nonces; ProbeSockets has the sockets. A way is proved by two answers in a row, and by five once it was lost; three
 * losses in a row end the proof.
 */
import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { familyOfText } from './nodeDesired.ts'
import { PROBE_PORT } from './nodeMarks.ts'
import type { Probe } from './nodeTypes.ts'

const MAGIC = Buffer.from('IPRP')
const KIND = { question: 1, answer: 2, strict: 3 } as const
const NONCE = 16
const LENGTH = MAGIC.length + 1 + NONCE
const NEEDED_FIRST = 2
const NEEDED_AGAIN = 5
const LOSSES_MOST = 3
const EVERY_MS = { first: 1000, later: 10_000, proved: 15_000 } as const
/** Questions asked at the quick pace of a start. */
const FIRST_QUESTIONS = 30
const ANSWERED_WITHIN_MS = 1000

export interface ProbeMessage {
  kind: 'question' | 'answer' | 'strict'
  nonce: string
}

export function encodeProbe({ kind, nonce }: ProbeMessage): Buffer {
  return Buffer.concat([MAGIC, Buffer.of(KIND[kind]), Buffer.from(nonce, 'hex')])
}

/** undefined: not one of ours. */
export function decodeProbe(bytes: Buffer): ProbeMessage | undefined {
  if (bytes.length !== LENGTH || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined
  const kind = (['question', 'answer', 'strict'] as const).find(name => KIND[name] === bytes[MAGIC.length])
  return kind && { kind, nonce: bytes.subarray(MAGIC.length + 1).toString('hex') }
}

interface Entry {
  probe: Probe
  isProved: boolean
  wasLost: boolean
  answers: number
  losses: number
  asked: number
  nonce: string | undefined
  sentAt: number
}

export class ProbeLedger {
  readonly #entries = new Map<string, Entry>()

  /** What is asked from now on; what is known of those that stay is kept. */
  setProbes(probes: readonly Probe[]): void {
    const wanted = new Map(probes.map(probe => [probe.key, probe]))
    for (const [key, { probe }] of this.#entries) {
      const now = wanted.get(key)
      if (now?.source !== probe.source || now.destination !== probe.destination) this.#entries.delete(key)
    }
    for (const [key, probe] of wanted) {
      if (this.#entries.has(key)) continue
      const nothing = { isProved: false, wasLost: false, answers: 0, losses: 0, asked: 0, nonce: undefined }
      this.#entries.set(key, { probe, ...nothing, sentAt: Number.NEGATIVE_INFINITY })
    }
  }

  /** Questions to send now; those that were not answered in time are losses. */
  due(nowMs: number): { probe: Probe; nonce: string }[] {
    const questions: { probe: Probe; nonce: string }[] = []
    for (const entry of this.#entries.values()) {
      if (entry.nonce !== undefined && nowMs - entry.sentAt >= ANSWERED_WITHIN_MS) lose(entry)
      if (entry.nonce !== undefined || nowMs - entry.sentAt < pauseOf(entry)) continue
      entry.nonce = randomBytes(NONCE).toString('hex')
      entry.sentAt = nowMs
      entry.asked++
      questions.push({ probe: entry.probe, nonce: entry.nonce })
    }
    return questions
  }

  answered(from: string, { kind, nonce }: ProbeMessage): void {
    for (const entry of this.#entries.values()) {
      if (entry.nonce !== nonce || entry.probe.destination !== from) continue
      if (kind === 'strict') return lose(entry)
      entry.nonce = undefined
      entry.losses = 0
      entry.answers++
      if (entry.answers >= (entry.wasLost ? NEEDED_AGAIN : NEEDED_FIRST)) entry.isProved = true
      return
    }
  }

  proved(): ReadonlySet<string> {
    return new Set([...this.#entries.values()].filter(entry => entry.isProved).map(entry => entry.probe.key))
  }
}

function lose(entry: Entry): void {
  entry.nonce = undefined
  entry.answers = 0
  if (++entry.losses < LOSSES_MOST || !entry.isProved) return
  entry.isProved = false
  entry.wasLost = true
}

function pauseOf(entry: Entry): number {
  // a loss is looked into at once
  if (entry.isProved) return entry.losses > 0 ? EVERY_MS.first : EVERY_MS.proved
  return entry.answers > 0 || entry.asked < FIRST_QUESTIONS ? EVERY_MS.first : EVERY_MS.later
}

export interface ProbeSocketsPorts {
  onAnswer(from: string, message: ProbeMessage): void
  /** Would a filter of this node drop what pods of the asking node send? */
  isStrictTowards(asking: string): boolean
}

/** One socket for each source, which asks and answers. */
export class ProbeSockets {
  readonly #ports: ProbeSocketsPorts
  readonly #sockets = new Map<string, Socket>()
  readonly #problems = new Map<string, string>()

  constructor(ports: ProbeSocketsPorts) {
    this.#ports = ports
  }

  get problems(): readonly string[] {
    return [...this.#problems.values()]
  }

  /** The addresses that must be there; sockets that failed are opened again. */
  listen(sources: readonly string[]): void {
    for (const [source, socket] of this.#sockets) {
      if (sources.includes(source)) continue
      this.#sockets.delete(source)
      socket.close()
    }
    for (const source of this.#problems.keys()) if (!sources.includes(source)) this.#problems.delete(source)
    for (const source of sources) if (!this.#sockets.has(source)) this.#open(source)
  }

  #open(source: string): void {
    const is6 = familyOfText(source) === 6
    const socket = createSocket({ type: is6 ? 'udp6' : 'udp4', ipv6Only: is6 })
    this.#sockets.set(source, socket)
    socket.on('error', error => {
      this.#problems.set(source, `probes from ${source} are not possible: ${error.message}`)
      if (this.#sockets.get(source) !== socket) return
      this.#sockets.delete(source)
      socket.close()
    })
    socket.on('listening', () => this.#problems.delete(source))
    socket.on('message', (bytes, { address }) => {
      const message = decodeProbe(bytes)
      if (!message) return
      if (message.kind !== 'question') return this.#ports.onAnswer(address, message)
      const kind = this.#ports.isStrictTowards(address) ? 'strict' : 'answer'
      socket.send(encodeProbe({ kind, nonce: message.nonce }), PROBE_PORT, address, () => {})
    })
    socket.bind({ port: PROBE_PORT, address: source })
    socket.unref()
  }

  /** What cannot be sent is a loss like one on the way. */
  send({ source, destination }: Probe, nonce: string): void {
    const socket = this.#sockets.get(source)
    try {
      socket?.send(encodeProbe({ kind: 'question', nonce }), PROBE_PORT, destination, () => {})
    } catch {
      // not bound yet
    }
  }

  close(): void {
    this.listen([])
  }
}
