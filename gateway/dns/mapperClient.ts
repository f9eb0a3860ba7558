/**
 * The resolver's end of the mapper socket (wire.md section 3): asks for encoded addresses, many at a time, and gives up on each after 500 ms. The
 * socket itself is the worker's: `send` takes a message, `onMessage` hands one in, `onDown` says that the connection is gone.
 */
import {
  Command,
  decodeHeader,
  encodeGetEncoded,
  MESSAGE_HEADER,
  type MessageHeader,
  Mode,
  recordLength,
} from '../../ipref/mapperMessage.ts'

const PATIENCE_MS = 500
const IDS = 65536
const MOST_OPEN = 8192

export type MapperAnswer = { encoded: Uint8Array } | 'refused' | 'unavailable'

interface Question {
  readonly deadline: number
  /** as it was sent: the answer repeats its record */
  readonly request: Uint8Array
  readonly done: (answer: MapperAnswer) => void
}

export class MapperClient {
  readonly #send: (message: Uint8Array) => boolean
  readonly #now: () => number
  readonly #open = new Map<number, Question>()
  #nextId = 0
  readonly counts = { asked: 0, acks: 0, nacks: 0, timeouts: 0, unavailable: 0 }

  /** `send`: false when there is no connection. `now`: milliseconds, monotonic. */
  constructor(send: (message: Uint8Array) => boolean, now: () => number) {
    this.#send = send
    this.#now = now
  }

  ask(
    wanted: { family: 4 | 6; context: Uint8Array; reference: bigint; name: string },
    done: (answer: MapperAnswer) => void,
  ): void {
    this.counts.asked++
    if (this.#open.size >= MOST_OPEN) return this.#unavailable(done)
    do this.#nextId = (this.#nextId + 1) % IDS
    while (this.#open.has(this.#nextId))
    const { family, context, reference, name } = wanted
    const tunnelFamily = context.length === 4 ? 4 : 6
    const message = encodeGetEncoded(
      { id: this.#nextId, encodedFamily: family, tunnelFamily },
      { context, reference },
      name,
    )
    if (!this.#send(message)) return this.#unavailable(done)
    this.#open.set(this.#nextId, { deadline: this.#now() + PATIENCE_MS, request: message, done })
  }

  #unavailable(done: (answer: MapperAnswer) => void): void {
    this.counts.unavailable++
    done('unavailable')
  }

  onMessage(message: Uint8Array): void {
    const header = decodeHeader(message)
    if (typeof header === 'string' || header.command !== Command.getEncoded) return
    const question = this.#open.get(header.id)
    if (!question) return
    if (header.mode === Mode.nack) {
      this.counts.nacks++
      this.#open.delete(header.id)
      return question.done('refused')
    }
    // a late answer to an id that was used before is about somebody else
    if (header.mode !== Mode.ack || !isAbout(question.request, message, header)) return
    const length = header.encodedFamily === 4 ? 4 : 16
    this.counts.acks++
    this.#open.delete(header.id)
    question.done({ encoded: message.slice(MESSAGE_HEADER, MESSAGE_HEADER + length) })
  }

  /** All that were asked get no answer any more. */
  onDown(): void {
    const questions = [...this.#open.values()]
    this.#open.clear()
    for (const { done } of questions) this.#unavailable(done)
  }

  /** Milliseconds until the next one is overdue. */
  tick(): number {
    const now = this.#now()
    // in the order of asking: the first that is not overdue ends the walk
    for (const [id, { deadline, done }] of this.#open) {
      if (deadline > now) return deadline - now
      this.#open.delete(id)
      this.counts.timeouts++
      done('unavailable')
    }
    return Number.POSITIVE_INFINITY
  }
}

/** Same families, same context and reference, and an encoded address. */
function isAbout(request: Uint8Array, answer: Uint8Array, header: MessageHeader): boolean {
  const end = MESSAGE_HEADER + recordLength(header)
  const length = header.encodedFamily === 4 ? 4 : 16
  if (answer.length < end || answer[4] !== request[4]) return false
  if (answer.subarray(MESSAGE_HEADER, MESSAGE_HEADER + length).every(byte => byte === 0)) return false
  for (let i = MESSAGE_HEADER + 2 * length; i < end; i++) if (answer[i] !== request[i]) return false
  return true
}
