/**
 * Does the network between two nodes carry encoded addresses as they are? Clouds drop packets whose addresses they do not know, so it is tried.
 *
 *   node A, first address of A's slice ──► straight over the link ──► first address of B's slice, node B     "are you there" + 16 random bytes
 *                                      ◄──────────────────────────                                           the same bytes
 *
 * A node without a gateway has no slice and uses its own address. Nobody else sends to or from these addresses, and a route of their own leads to
 * them, so probing does not disturb anything.
 *
 *   0      4      5       6       22
 *   | IPRP | kind | state | nonce |     kind: 1 question, 2 answer; state of the sender: 1 answers reach it, 2 its filter is in the way
 *
 * Both nodes change over together: strict reverse path filters drop what comes by another way than the answer would go. So a way is proved when
 * answers reach both, and each message says what its sender knows. Two answers in a row are needed, five once the way was lost; three losses in a
 * row lose it. While the two change, within about a second, packets may be lost.
 *
 * ProbeLedger is pure but for the nonces; ProbeSockets has the sockets.
 */
import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { familyOfText } from './nodeDesired.ts'
import { PROBE_PORT } from './nodeMarks.ts'
import type { Probe } from './nodeTypes.ts'

const MAGIC = Buffer.from('IPRP')
const KIND = { question: 1, answer: 2 } as const
const STATE = { ready: 1, strict: 2 } as const
const AT = { kind: 4, state: 5, nonce: 6 } as const
const LENGTH = 22
const NEEDED_FIRST = 2
const NEEDED_AGAIN = 5
const LOSSES_MOST = 3
const EVERY_MS = { first: 1000, later: 10_000, proved: 15_000 } as const
/** Questions asked at the quick pace of a start. */
const FIRST_QUESTIONS = 30
const ANSWERED_WITHIN_MS = 1000

export interface ProbeMessage {
  kind: 'question' | 'answer'
  /** answers to its own questions reach the sender */
  isReady: boolean
  /** the sender's filter would drop packets of the receiver's pods */
  isStrict: boolean
  /** hexadecimal */
  nonce: string
}

export function encodeProbe({ kind, isReady, isStrict, nonce }: ProbeMessage): Buffer {
  const state = (isReady ? STATE.ready : 0) | (isStrict ? STATE.strict : 0)
  return Buffer.concat([MAGIC, Buffer.of(KIND[kind], state), Buffer.from(nonce, 'hex')])
}

/** undefined: not one of ours. Unknown bits of the state say nothing. */
export function decodeProbe(bytes: Buffer): ProbeMessage | undefined {
  if (bytes.length !== LENGTH || !bytes.subarray(0, AT.kind).equals(MAGIC)) return undefined
  const kind = (['question', 'answer'] as const).find(name => KIND[name] === bytes[AT.kind])
  if (!kind) return undefined
  const state = bytes[AT.state]!
  const nonce = bytes.subarray(AT.nonce).toString('hex')
  return { kind, isReady: (state & STATE.ready) !== 0, isStrict: (state & STATE.strict) !== 0, nonce }
}

interface Entry {
  probe: Probe
  isReady: boolean
  /** the other node, by its last message */
  other: { isReady: boolean; isStrict: boolean }
  wasLost: boolean
  answers: number
  losses: number
  asked: number
  nonce: string | undefined
  sentAt: number
}

export class ProbeLedger {
  readonly #entries = new Map<string, Entry>()

  /** What is asked from now on; what is known of those that stay is kept. Those whose keys are `assumed` count as proved until they are lost. */
  setProbes(probes: readonly Probe[], assumed: ReadonlySet<string> = new Set()): void {
    const wanted = new Map(probes.map(probe => [probe.key, probe]))
    for (const [key, { probe }] of this.#entries) {
      const now = wanted.get(key)
      if (now?.source !== probe.source || now.destination !== probe.destination) this.#entries.delete(key)
    }
    for (const [key, probe] of wanted) {
      if (this.#entries.has(key)) continue
      const isReady = assumed.has(key)
      this.#entries.set(key, {
        probe,
        isReady,
        other: { isReady, isStrict: false },
        wasLost: false,
        answers: 0,
        losses: 0,
        asked: 0,
        nonce: undefined,
        sentAt: Number.NEGATIVE_INFINITY,
      })
    }
  }

  /** Questions to send now; those that were not answered in time are losses. */
  due(nowMs: number): { probe: Probe; isReady: boolean; nonce: string }[] {
    const questions: { probe: Probe; isReady: boolean; nonce: string }[] = []
    for (const entry of this.#entries.values()) {
      if (entry.nonce !== undefined && nowMs - entry.sentAt >= ANSWERED_WITHIN_MS) lose(entry)
      if (entry.nonce !== undefined || nowMs - entry.sentAt < pauseOf(entry)) continue
      entry.nonce = randomBytes(LENGTH - AT.nonce).toString('hex')
      entry.sentAt = nowMs
      entry.asked++
      questions.push({ probe: entry.probe, isReady: entry.isReady, nonce: entry.nonce })
    }
    return questions
  }

  /** Any message of another node; whether it is believed depends on where it came from. */
  heard(from: string, { kind, nonce, isReady, isStrict }: ProbeMessage): void {
    const entry = this.#entryOf(from)
    if (!entry) return
    if (kind === 'answer') {
      if (entry.nonce !== nonce) return
      entry.nonce = undefined
      entry.losses = 0
      if (++entry.answers >= (entry.wasLost ? NEEDED_AGAIN : NEEDED_FIRST)) entry.isReady = true
    }
    entry.other = { isReady, isStrict }
  }

  /** Do answers of this node reach us? */
  isReady(from: string): boolean {
    return this.#entryOf(from)?.isReady ?? false
  }

  proved(): ReadonlySet<string> {
    return new Set([...this.#entries.values()].filter(isProved).map(entry => entry.probe.key))
  }

  #entryOf(from: string): Entry | undefined {
    return [...this.#entries.values()].find(entry => entry.probe.destination === from)
  }
}

function isProved({ isReady, other }: Entry): boolean {
  return isReady && other.isReady && !other.isStrict
}

function lose(entry: Entry): void {
  entry.nonce = undefined
  entry.answers = 0
  if (++entry.losses < LOSSES_MOST || !entry.isReady) return
  entry.isReady = false
  entry.wasLost = true
}

// quick while something is about to change
function pauseOf(entry: Entry): number {
  if (isProved(entry)) return entry.losses > 0 || entry.answers < NEEDED_AGAIN ? EVERY_MS.first : EVERY_MS.proved
  return entry.answers > 0 || entry.asked < FIRST_QUESTIONS ? EVERY_MS.first : EVERY_MS.later
}

export interface ProbeSocketsPorts {
  onMessage(from: string, message: ProbeMessage): void
  stateTowards(asking: string): { isReady: boolean; isStrict: boolean }
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

  /** The addresses must be there; sockets that failed are opened again. */
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
      this.#ports.onMessage(address, message)
      if (message.kind !== 'question') return
      const answer = encodeProbe({ kind: 'answer', nonce: message.nonce, ...this.#ports.stateTowards(address) })
      socket.send(answer, PROBE_PORT, address, () => {})
    })
    socket.bind({ port: PROBE_PORT, address: source })
    socket.unref()
  }

  /** What cannot be sent is a loss like one on the way. */
  ask({ source, destination }: Probe, question: { isReady: boolean; nonce: string }): void {
    const { isStrict } = this.#ports.stateTowards(destination)
    const bytes = encodeProbe({ kind: 'question', isStrict, ...question })
    try {
      this.#sockets.get(source)?.send(bytes, PROBE_PORT, destination, () => {})
    } catch {
      // not bound yet
    }
  }

  close(): void {
    this.listen([])
  }
}
