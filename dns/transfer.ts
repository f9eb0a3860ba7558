/**
 * Zone transfers from a primary (AXFR, RFC 5936), signed where there is a key (RFC 8945 section 5.3.1).
 *
 *   SOA ─ records … ─ SOA: all of it, or an error; never a part
 *
 * Records are handed over as they come, and memory is the caller's: what cannot be trusted until the end must be kept aside until then. Bounded in time, in
 * records and in bytes; a server that sends byte by byte runs into the idle time.
 */
import { randomInt } from 'node:crypto'
import { connect } from 'node:net'
import { formatHostPort } from '../ipref/address.ts'
import { Class, Flag, formatRcode, Opcode, Rcode, Type } from './constants.ts'
import {
  decodeMessage,
  decodeSoa,
  encodeMessage,
  type Message,
  opcodeOf,
  type ResourceRecord,
  rcodeOf,
} from './message.ts'
import { formatName, isAtOrBelow, lowerName, type Name } from './name.ts'
import { FrameReader } from './tcpListener.ts'
import { framed } from './tcpQuery.ts'
import { type TsigKey, TsigSigner, TsigVerifier, tsigErrorOf } from './tsig.ts'

export interface TransferWanted {
  server: { host: string; port: number }
  zone: Name
  key?: TsigKey | undefined
  /** each record below the zone, but for the SOA records */
  onRecord(record: ResourceRecord): void
  signal?: AbortSignal
  limits?: Partial<TransferLimits>
}

export interface TransferLimits {
  records: number
  bytes: number
  /** of the whole transfer, and between two messages */
  totalMs: number
  idleMs: number
}

export interface Transferred {
  serial: number
  records: number
  /** records of other zones, which were left out */
  foreign: number
}

const LIMITS: TransferLimits = { records: 5_000_000, bytes: 1 << 30, totalMs: 300_000, idleMs: 20_000 }

/** Rejects with a sentence that names the server, the zone, and what to do. */
export function transferZone(wanted: TransferWanted): Promise<Transferred> {
  const { server, zone, key } = wanted
  const limits = { ...LIMITS, ...wanted.limits }
  const shown = formatHostPort(server.host, server.port)
  const now = () => Date.now() / 1000
  return new Promise((resolve, reject) => {
    const id = randomInt(65536)
    const query = encodeMessage({ id, flags: 0, questions: [{ name: zone, type: Type.AXFR, class: Class.IN }] })
    const signed = key && new TsigSigner(key, now).sign(query)
    const verifier = key && new TsigVerifier([key], now, signed!.mac)
    const state = new TransferState(id, zone, wanted.onRecord, limits)
    const reader = new FrameReader()
    const socket = connect(server)
    let isOver = false
    const end = (error: string | undefined) => {
      if (isOver) return
      isOver = true
      clearTimeout(total)
      wanted.signal?.removeEventListener('abort', abort)
      socket.destroy()
      if (error === undefined) resolve(state.result())
      else reject(new Error(`${formatName(zone)} from ${shown}: ${error}`))
    }
    const abort = () => end('given up')
    const total = setTimeout(() => end(`not complete within ${limits.totalMs / 1000} s`), limits.totalMs)
    wanted.signal?.addEventListener('abort', abort)
    if (wanted.signal?.aborted) return abort()
    let idle = setTimeout(() => end('no connection'), limits.idleMs)
    const awake = () => {
      clearTimeout(idle)
      idle = setTimeout(() => end(`silent for ${limits.idleMs / 1000} s`), limits.idleMs)
    }
    socket.on('error', (error: NodeJS.ErrnoException) =>
      end(error.code === 'ECONNREFUSED' ? 'nobody listens there' : error.message),
    )
    socket.on('close', () => {
      clearTimeout(idle)
      end('the connection was closed before the end of the zone')
    })
    socket.on('connect', () => {
      awake()
      socket.write(framed(signed?.message ?? query))
    })
    socket.on('data', (data: Buffer) => {
      // whole messages keep it awake, single bytes do not
      for (const bytes of reader.take(data)) {
        if (isOver) return
        awake()
        const problem = takeMessage(bytes, state, verifier)
        if (problem !== undefined) return end(problem)
        if (state.isComplete) {
          if (verifier && !verifier.complete) return end('the end of the transfer is not signed')
          return end(undefined)
        }
      }
    })
  })
}

function takeMessage(bytes: Uint8Array, state: TransferState, verifier: TsigVerifier | undefined): string | undefined {
  const message = decodeMessage(bytes)
  if (typeof message === 'string') return `a malformed message (${message})`
  const rcode = rcodeOf(message)
  if (verifier && rcode === Rcode.NOERROR) {
    const fault = verifier.verify(bytes, message)
    if (fault) return `the signature does not hold: ${fault}`
  }
  if (rcode !== Rcode.NOERROR) return explain(rcode, message.tsig ? tsigErrorOf(message.tsig) : 0)
  return state.take(message, bytes.length)
}

// an error is believed unsigned: a transfer that fails does no harm, and the reason helps
function explain(rcode: number, tsigError: number): string {
  if (rcode === Rcode.REFUSED)
    return 'refused (REFUSED): allow this address to transfer the zone, or give a key with -key'
  if (tsigError === Rcode.BADKEY) return 'it does not know the key (BADKEY): the name or the algorithm is another there'
  if (tsigError === Rcode.BADSIG) return 'the secret of the key is another there (BADSIG)'
  if (tsigError === Rcode.BADTIME) return 'the clocks differ by minutes (BADTIME): set both by NTP'
  if (rcode === Rcode.NOTAUTH)
    return 'not authorised (NOTAUTH): the key, its secret or the clock is another there, or the zone is not served'
  return `the server says ${formatRcode(rcode)}`
}

class TransferState {
  readonly #id: number
  readonly #zone: Name
  readonly #onRecord: (record: ResourceRecord) => void
  readonly #limits: TransferLimits
  #serial: number | undefined
  #messages = 0
  #records = 0
  #foreign = 0
  #bytes = 0
  isComplete = false

  constructor(id: number, zone: Name, onRecord: (record: ResourceRecord) => void, limits: TransferLimits) {
    this.#id = id
    this.#zone = lowerName(zone)
    this.#onRecord = onRecord
    this.#limits = limits
  }

  result(): Transferred {
    return { serial: this.#serial!, records: this.#records, foreign: this.#foreign }
  }

  take(message: Message, bytes: number): string | undefined {
    if (message.id !== this.#id) return 'an answer to another question (its id)'
    if ((message.flags & Flag.QR) === 0) return 'a question instead of an answer'
    // of updates alone records may be without their data
    if (opcodeOf(message.flags) !== Opcode.QUERY) return 'an answer to another kind of question'
    const [question] = message.questions
    if (message.questions.length > 1 || (this.#messages === 0 && !question)) return 'an answer without its question'
    if (question && (question.type !== Type.AXFR || lowerName(question.name) !== this.#zone))
      return 'an answer to another question'
    this.#messages++
    this.#bytes += bytes
    if (this.#bytes > this.#limits.bytes) return `more than ${this.#limits.bytes} bytes`
    if (message.answers.length === 0) return 'a message without records'
    for (const record of message.answers) {
      const problem = this.#record(record)
      if (problem !== undefined) return problem
    }
    return undefined
  }

  #record(record: ResourceRecord): string | undefined {
    if (this.isComplete) return 'records after the end of the zone'
    const isApexSoa = record.type === Type.SOA && record.class === Class.IN && lowerName(record.name) === this.#zone
    if (this.#serial === undefined) {
      if (!isApexSoa) return 'the zone does not begin with its SOA record'
      this.#serial = decodeSoa(record.data).serial
      return undefined
    }
    if (isApexSoa) {
      if (decodeSoa(record.data).serial !== this.#serial) return 'the zone changed during the transfer'
      this.isComplete = true
      return undefined
    }
    if (++this.#records > this.#limits.records) return `more than ${this.#limits.records} records`
    if (record.class !== Class.IN || !isAtOrBelow(lowerName(record.name), this.#zone)) this.#foreign++
    else this.#onRecord(record)
    return undefined
  }
}
