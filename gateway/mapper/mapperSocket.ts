/**
 * What the mapper socket answers (wire.md section 3): the resolver asks for encoded addresses, the DNS agent hands over its sets.
 *
 * Free of the socket itself: `handle` takes one message and resolves to the answer, or to undefined when none is due. An encoded
 * address is acknowledged only after it is durable; a request that takes longer than 359 ms is refused. Messages that make no sense are counted.
 *
 * A set of hosts arrives in batches, and no batch says that it is the last. It is put in force at once and whole, when its records have the hash that every
 * batch names; until then the set before it stays:
 *
 *   batches ──► arriving ──┬─ records have the hash, or a HOST_DATA_HASH fits, or nothing more came for 10 s ──► in force
 *                          └─ the agent went away before that ──► forgotten: its hash is refused, and everything is sent again
 */
import { formatAddress } from '../../ipref/address.ts'
import { compareContexts, hashHosts } from '../../ipref/hostSetHash.ts'
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
/** An agent sends batches again after 5 s: one that sends nothing has sent all that it means to, whatever it hashes. */
const SETTLED_AFTER_MS = 10_000
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

type OurAssertion = Assertion & { kind: 'ours'; contexts: Uint8Array }

/** Of one source, for one pair of IP versions. */
interface HostSet {
  source: string
  /** what came last; in the order of arrival */
  hash: bigint
  records: Map<string, OurAssertion>
  from: object | undefined
  timer: NodeJS.Timeout | undefined
  /** what is in force */
  inForce: readonly OurAssertion[]
  inForceHash: bigint | undefined
  /** records that came under the hash in force since it is */
  hasMore: boolean
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

  /** The answer, or undefined: none is due. Never rejects. `from`: whose connection it came over, for `left`. */
  async handle(message: Uint8Array, from?: object): Promise<Uint8Array | undefined> {
    this.counts.requests++
    const request = decodeRequest(message)
    if (typeof request === 'string') return this.#ignore(request)
    const { encodedFamily, tunnelFamily } = request.header
    if (!this.#ports.encodedFamilies.includes(encodedFamily) || !this.#ports.tunnelFamilies.includes(tunnelFamily))
      return this.#ignore('version')
    if (request.what === 'noop') return undefined
    if (request.what === 'getEncoded') return this.#getEncoded(request)
    if (request.what === 'hostData') return this.#hostData(request, message, from)
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

  #hostData(request: HostData, message: Uint8Array, from: object | undefined): Uint8Array | undefined {
    const { head, records, header } = request
    const source = `${head.local}:${head.public}`
    const key = keyOfSet(source, header)
    let set = this.#sets.get(key)
    if (!set) {
      if (this.#sets.size >= MOST_SOURCES) return this.#ignore('content')
      set = { source, ...startOf(head.hash), inForce: [], inForceHash: undefined }
      this.#sets.set(key, set)
    } else if (set.hash !== head.hash) {
      clearTimeout(set.timer)
      Object.assign(set, startOf(head.hash))
      // the one in force again: all of it is known
      if (set.inForceHash === head.hash) for (const one of set.inForce) set.records.set(keyOfHost(one), one)
    }
    set.from = from
    for (const record of records) if (set.records.size < MOST_RECORDS) this.#addRecord(set, record, source)
    if (!isInForce(set)) this.#applyWhenWhole(set, APPLY_AFTER_MS)
    this.counts.acks++
    return encodeHostDataAck(header, message)
  }

  #addRecord(set: HostSet, record: AddressRecord, source: string): void {
    const { native, context, reference } = record
    const host: OurAssertion = { kind: 'ours', address: native, contexts: context, reference, where: source }
    const key = keyOfHost(host)
    if (set.records.has(key)) return
    set.records.set(key, host)
    set.hasMore = true
  }

  #applyWhenWhole(set: HostSet, waitMs: number): void {
    clearTimeout(set.timer)
    set.timer = setTimeout(() => {
      set.timer = undefined
      if (waitMs === SETTLED_AFTER_MS || isWhole(set)) this.#apply(set)
      else this.#applyWhenWhole(set, SETTLED_AFTER_MS)
    }, waitMs)
  }

  #apply(set: HostSet): void {
    clearTimeout(set.timer)
    set.timer = undefined
    set.inForce = [...set.records.values()]
    set.inForceHash = set.hash
    set.hasMore = false
    const all = [...this.#sets.values()].filter(one => one.source === set.source)
    void this.#ports.setSource(`dns:${set.source}`, all.length === 1 ? set.inForce : all.flatMap(one => one.inForce))
  }

  #hostDataHash(request: HostDataHash, message: Uint8Array): Uint8Array {
    const set = this.#sets.get(keyOfSet(`${request.local}:${request.public}`, request.header))
    const isHeld = set !== undefined && set.hash === request.hash && set.records.size === request.count
    if (!isHeld) return this.#nack(encodeSame(message, Mode.nack))
    if (!isInForce(set)) this.#apply(set)
    this.counts.acks++
    return encodeSame(message, Mode.ack)
  }

  /** That connection is gone: what it left unfinished is worth nothing. */
  left(from: object): void {
    for (const [key, set] of this.#sets) {
      if (set.from !== from) continue
      set.from = undefined
      if (isInForce(set) || isWhole(set)) continue
      clearTimeout(set.timer)
      set.timer = undefined
      if (set.inForceHash === undefined) this.#sets.delete(key)
      // no set has this hash with these records
      else Object.assign(set, startOf(set.hash))
    }
  }

  stop(): void {
    for (const set of this.#sets.values()) clearTimeout(set.timer)
  }
}

function keyOfSet(source: string, header: { encodedFamily: number; tunnelFamily: number }): string {
  return `${source} ${header.encodedFamily} ${header.tunnelFamily}`
}

function startOf(hash: bigint): Pick<HostSet, 'hash' | 'records' | 'from' | 'timer' | 'hasMore'> {
  return { hash, records: new Map(), from: undefined, timer: undefined, hasMore: false }
}

function keyOfHost({ address, contexts, reference }: OurAssertion): string {
  return `${formatAddress(address)} ${formatAddress(contexts)} ${formatReference(reference)}`
}

function isInForce({ inForceHash, hash, hasMore }: HostSet): boolean {
  return inForceHash === hash && !hasMore
}

// an agent sends in the order in which it hashes: of records that differ in the native address alone, in that of their arrival
function isWhole({ records, hash }: HostSet): boolean {
  const list = [...records.values()].map(({ address, contexts, reference }) => ({
    native: address,
    context: contexts,
    reference,
  }))
  return hashHosts(list.sort(compareContexts)) === hash
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
