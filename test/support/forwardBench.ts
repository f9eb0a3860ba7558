/**
 * Encap and decap over a plain memory and the real mapping tables: what unit tests, the conformance runner and the fuzzer drive.
 */

import { Decap } from '../../gateway/forward/decap.ts'
import { HOLD_SLOT } from '../../gateway/forward/echoHold.ts'
import { Encap } from '../../gateway/forward/encap.ts'
import type { Environment, ForwardSettings } from '../../gateway/forward/environment.ts'
import { Direction, HEAD_SLOT, MOST_PER_CALL, Output, SCRATCH_PER_CALL } from '../../gateway/forward/output.ts'
import { MappingsReader, MappingsWriter, NEVER } from '../../gateway/plane/mappings.ts'
import { PeerTable } from '../../gateway/plane/peerTable.ts'
import { type AddressWords, parseAddress, parsePrefix, prefixWords, wordsFromBytes } from '../../ipref/address.ts'
import { sumBytes } from '../../ipref/checksum.ts'
import { wordsFromReference } from '../../ipref/reference.ts'

const PACKET_AT = 4096
const SLOTS_AT = 1 << 18
const CAPACITY = 2 * MOST_PER_CALL
const SCRATCH_AT = SLOTS_AT + CAPACITY * HEAD_SLOT
const SCRATCH = 8 * SCRATCH_PER_CALL
const HOLD_AT = SCRATCH_AT + SCRATCH
const HOLD = 8 * HOLD_SLOT
/** What memory holds that nobody wrote: to be looked for in outputs. */
export const POISON = 0xa5
const PEERS = 64

export interface Sent {
  to: 'tunnel' | 'host'
  bytes: Uint8Array
  tos: number
  peer: number
  fromGateway: boolean
}

export function addressWords(text: string): AddressWords {
  const bytes = parseAddress(text)
  if (!bytes) throw new Error(`not an address: ${text}`)
  return wordsFromBytes(bytes)
}

export function settingsFor(given: {
  encodeNets: string[]
  contexts: string[]
  change?: Partial<ForwardSettings>
}): ForwardSettings {
  const networks = given.encodeNets.map(text => parsePrefix(text)!)
  const own = (family: number) => {
    const network = networks.find(n => n.family === family)
    if (!network) return undefined
    const bytes = network.address.slice()
    bytes[bytes.length - 1] = 1
    return Int32Array.from(wordsFromBytes(bytes))
  }
  const contexts = given.contexts.map(text => parseAddress(text)!).filter(bytes => bytes.some(byte => byte !== 0))
  const context = (length: number) => {
    const bytes = contexts.find(c => c.length === length)
    return bytes && Int32Array.from(wordsFromBytes(bytes))
  }
  return {
    encodingNetworks: networks.map(prefixWords),
    ownEncoded4: own(4),
    ownEncoded6: own(6),
    context4: context(4),
    context6: context(16),
    gatewayReference: Int32Array.from(wordsFromReference(1n)),
    decrementTtl: false,
    probeId: -1,
    gatewayOpen: true,
    localNetworks: [],
    clampMss: true,
    tunMtu: 65535,
    ...given.change,
  }
}

export class ForwardBench {
  readonly bytes = new Uint8Array(HOLD_AT + HOLD).fill(POISON)
  readonly tables: MappingsWriter
  readonly peers: PeerTable
  readonly env: Environment
  readonly encap: Encap
  readonly decap: Decap
  readonly #output = new Output({ slots: SLOTS_AT, capacity: CAPACITY, scratch: SCRATCH_AT, scratchLength: SCRATCH })
  #random = 12345

  constructor(settings: ForwardSettings, capacity = 64) {
    const buffers = MappingsWriter.allocate({ ours: capacity, theirs: capacity })
    this.tables = new MappingsWriter(buffers)
    this.peers = new PeerTable(PeerTable.allocate(PEERS), PEERS)
    this.peers.mtu.fill(65535)
    const reader = new MappingsReader(buffers, this.peers)
    reader.now = 100
    const { bytes } = this
    this.env = {
      bytes,
      view: new DataView(bytes.buffer),
      words: new Int32Array(bytes.buffer),
      settings,
      tables: reader,
      output: this.#output,
      hold: HOLD_AT,
      holdLength: HOLD,
      sum: (offset, length) => sumBytes(bytes, offset, length),
      random32: () => {
        this.#random = Math.imul(this.#random, 1103515245) + 12345
        return this.#random | 0
      },
      now: 100,
      mayAnswer: () => true,
      mayReach: () => true,
    }
    this.encap = new Encap(this.env)
    this.decap = new Decap(this.env)
  }

  addOurs(address: string, reference: bigint, expires = NEVER): number {
    return this.tables.ours.add(addressWords(address), wordsFromReference(reference), expires)
  }

  addTheirs(ea: string, context: string, reference: bigint, options: { expires?: number; peer?: number } = {}): number {
    const record = { ea: addressWords(ea), context: addressWords(context), reference: wordsFromReference(reference) }
    return this.tables.theirs.add({ ...record, peer: options.peer ?? 0, expires: options.expires ?? NEVER })
  }

  /** Puts a packet into the receive buffer, surrounded by poison. */
  place(packet: Uint8Array): number {
    this.bytes.fill(POISON, 0, SLOTS_AT)
    this.bytes.set(packet, PACKET_AT)
    return PACKET_AT
  }

  /** As place, without the poison: for those who want speed. */
  placeUnguarded(packet: Uint8Array, run: (at: number) => number): number {
    this.bytes.set(packet, PACKET_AT)
    return run(PACKET_AT)
  }

  /** As place, with poison only close by: for the fuzzer, which has millions. */
  placeTight(packet: Uint8Array): number {
    this.bytes.fill(POISON, PACKET_AT - 128, PACKET_AT)
    this.bytes.fill(POISON, PACKET_AT + packet.length, PACKET_AT + packet.length + 1024)
    this.bytes.set(packet, PACKET_AT)
    return PACKET_AT
  }

  readonly #words = new Map<string, AddressWords>()

  wordsOf(address: string): AddressWords {
    let words = this.#words.get(address)
    if (!words) {
      words = addressWords(address)
      this.#words.set(address, words)
    }
    return words
  }

  hasOutput(): boolean {
    return this.#output.count > 0 || this.#output.scratchUsed > 0
  }

  /** As take, and what was written to is poisoned again. */
  takeAndPoison(): Sent[] {
    const { count, scratchUsed } = this.#output
    const sent = this.take()
    this.bytes.fill(POISON, SLOTS_AT, SLOTS_AT + count * HEAD_SLOT)
    this.bytes.fill(POISON, SCRATCH_AT, SCRATCH_AT + scratchUsed)
    return sent
  }

  runEncap(packet: Uint8Array, gso = { needsChecksum: false, type: 0, size: 0 }): number {
    return this.encap.encap(this.place(packet), packet.length, gso.needsChecksum, gso.type, gso.size)
  }

  runDecap(datagram: Uint8Array, from: { address: string; port: number; tos?: number }): number {
    const o = addressWords(from.address)
    return this.decap.decap(this.place(datagram), datagram.length, o[0], o[1], o[2], o[3], from.port, from.tos ?? 0)
  }

  /** Decap of several datagrams, each in a place of its own, all left in the output: as one batch of the worker. How many came out. */
  stay(datagrams: readonly Uint8Array[], from = '198.51.100.1'): number {
    const o = addressWords(from)
    let at = PACKET_AT
    for (const datagram of datagrams) {
      this.bytes.set(datagram, at)
      this.decap.decap(at, datagram.length, o[0], o[1], o[2], o[3], 1045, 0)
      at += (datagram.length + 63) & ~63
    }
    return this.#output.count
  }

  /** What was put out since the last call. */
  take(): Sent[] {
    const o = this.#output
    const sent: Sent[] = []
    for (let i = 0; i < o.count; i++) {
      const bytes = new Uint8Array(o.headLength[i]! + o.bodyLength[i]!)
      bytes.set(this.bytes.subarray(o.head[i]!, o.head[i]! + o.headLength[i]!))
      bytes.set(this.bytes.subarray(o.body[i]!, o.body[i]! + o.bodyLength[i]!), o.headLength[i]!)
      const to = o.direction[i] === Direction.tunnel ? 'tunnel' : 'host'
      sent.push({ to, bytes, tos: o.tos[i]!, peer: o.peer[i]!, fromGateway: o.fromGateway[i] === 1 })
    }
    o.clear()
    return sent
  }
}
