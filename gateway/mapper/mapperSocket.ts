/**
 * What the mapper socket answers (wire.md section 3): the resolver asks for encoded addresses, the DNS agent hands over its sets.
 *
 * Free of the socket itself: `handle` takes one message and resolves to the answer, or to undefined when none is due. An encoded
 * address is acknowledged only after it is durable; a request that takes longer than 359 ms is refused. Messages that make no sense are counted.
 */
import { formatAddress } from '../../ipref/address.ts'
import {
  type AddressRecord,
  decodeRequest,
  encodeEncodedAck,
  encodeHostDataAck,
  encodeNack,
  encodeSame,
  type MapperRequest,
  type MessageFault,
  Mode,
} from '../../ipref/mapperMessage.ts'
import { formatReference } from '../../ipref/reference.ts'
import type { Assertion, Owner } from './assertions.ts'
import type { Encoded } from './mapper.ts'

const ANSWER_WITHIN_MS = 359
/** After the last batch of a set, so that a set of many batches is put in force once. */
const APPLY_AFTER_MS = 100
const MOST_SOURCES = 64
const MOST_RECORDS = 1 << 20
const MOST_OUTSTANDING = 10_000

export interface MapperSocketPorts {
  encodedFor(wanted: { context: Uint8Array; reference: bigint; family: 4 | 6 }): Encoded
  setSource(owner: Owner, assertions: readonly Assertion[]): Promise<unknown>
  /** families of encoding networks, and of tunnels */
  encodedFamilies: readonly number[]
  tunnelFamilies: readonly number[]
}

/** Of one source, for one pair of IP versions. */
interface HostSet {
  source: string
  hash: bigint
  records: Map<string, Assertion>
  timer: NodeJS.Timeout | undefined
}

type GetEncoded = MapperRequest & { what: 'getEncoded' }
type HostData = MapperRequest & { what: 'hostData' }
type HostDataHash = MapperRequest & { what: 'hostDataHash' }

export class MapperMessages {
  readonly #ports: MapperSocketPorts
  readonly #sets = new Map<string, HostSet>()
  #outstanding = 0
  readonly counts = { requests: 0, acks: 0, nacks: 0, ignored: {} as Record<string, number> }

  constructor(ports: MapperSocketPorts) {
    this.#ports = ports
  }

  /** The answer, or undefined: none is due. Never rejects. */
  async handle(message: Uint8Array): Promise<Uint8Array | undefined> {
    this.counts.requests++
    const request = decodeRequest(message)
    if (typeof request === 'string') return this.#ignore(request)
    const { encodedFamily, tunnelFamily } = request.header
    if (!this.#ports.encodedFamilies.includes(encodedFamily) || !this.#ports.tunnelFamilies.includes(tunnelFamily))
      return this.#ignore('version')
    if (request.what === 'noop') return undefined
    if (request.what === 'getEncoded') return this.#getEncoded(request)
    if (request.what === 'hostData') return this.#hostData(request, message)
    return this.#hostDataHash(request, message)
  }

  #ignore(fault: MessageFault): undefined {
    this.counts.ignored[fault] = (this.counts.ignored[fault] ?? 0) + 1
    return undefined
  }

  #nack(answer: Uint8Array): Uint8Array {
    this.counts.nacks++
    return answer
  }

  async #getEncoded(request: GetEncoded): Promise<Uint8Array> {
    const { header, record } = request
    if (this.#outstanding >= MOST_OUTSTANDING) return this.#nack(encodeNack(header))
    const found = this.#ports.encodedFor({
      context: record.context,
      reference: record.reference,
      family: header.encodedFamily,
    })
    if ('refused' in found) return this.#nack(encodeNack(header))
    this.#outstanding++
    const inTime = await withinTime(found.durable)
    this.#outstanding--
    if (!inTime) return this.#nack(encodeNack(header))
    this.counts.acks++
    return encodeEncodedAck(header, { ...record, encoded: found.encoded })
  }

  #hostData(request: HostData, message: Uint8Array): Uint8Array | undefined {
    const { head, records, header } = request
    const source = `${head.local}:${head.public}`
    const key = keyOfSet(source, header)
    let set = this.#sets.get(key)
    if (!set || set.hash !== head.hash) {
      if (!set && this.#sets.size >= MOST_SOURCES) return this.#ignore('content')
      clearTimeout(set?.timer)
      set = { source, hash: head.hash, records: new Map(), timer: undefined }
      this.#sets.set(key, set)
    }
    for (const record of records) if (set.records.size < MOST_RECORDS) this.#addRecord(set, record, source)
    this.#applySoon(source, set)
    this.counts.acks++
    return encodeHostDataAck(header, message)
  }

  #addRecord(set: HostSet, record: AddressRecord, source: string): void {
    const { native, context, reference } = record
    const key = `${formatAddress(native)} ${formatAddress(context)} ${formatReference(reference)}`
    set.records.set(key, { kind: 'ours', address: native, contexts: context, reference, where: source })
  }

  #applySoon(source: string, set: HostSet): void {
    clearTimeout(set.timer)
    set.timer = setTimeout(() => {
      set.timer = undefined
      const all = [...this.#sets.values()].filter(one => one.source === source)
      void this.#ports.setSource(
        `dns:${source}`,
        all.length === 1 ? [...set.records.values()] : all.flatMap(one => [...one.records.values()]),
      )
    }, APPLY_AFTER_MS)
  }

  #hostDataHash(request: HostDataHash, message: Uint8Array): Uint8Array {
    const set = this.#sets.get(keyOfSet(`${request.local}:${request.public}`, request.header))
    const isHeld = set !== undefined && set.hash === request.hash && set.records.size === request.count
    if (!isHeld) return this.#nack(encodeSame(message, Mode.nack))
    this.counts.acks++
    return encodeSame(message, Mode.ack)
  }

  stop(): void {
    for (const set of this.#sets.values()) clearTimeout(set.timer)
  }
}

function keyOfSet(source: string, header: { encodedFamily: number; tunnelFamily: number }): string {
  return `${source} ${header.encodedFamily} ${header.tunnelFamily}`
}

function withinTime(durable: Promise<void>): Promise<boolean> {
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve(false), ANSWER_WITHIN_MS)
    durable
      .then(
        () => resolve(true),
        () => resolve(false),
      )
      .finally(() => clearTimeout(timer))
  })
}
