/**
 * Drives a real mapper socket (SEQPACKET) with the vectors of mapper.json.
 *
 * The vectors of one `e?t?` group belong to one connection; those of host-data build on each other, and some steps of that sequence are not in the
 * file: they are worked out here from their neighbours (README of the vectors).
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ownEncodedOf } from '../../gateway/config.ts'
import { type Assertion, isContext } from '../../gateway/mapper/assertions.ts'
import { Mapper } from '../../gateway/mapper/mapper.ts'
import { MapperMessages } from '../../gateway/mapper/mapperSocket.ts'
import { Store } from '../../gateway/mapper/store.ts'
import { MappingsWriter } from '../../gateway/plane/mappings.ts'
import { Poller } from '../../gateway/sys/poller.ts'
import { connectSeqpacket, type SeqpacketConnection, SeqpacketServer } from '../../gateway/sys/seqpacket.ts'
import { familyOf, type Prefix, parseAddress, parsePrefix } from '../../ipref/address.ts'
import { Command, decodeHeader, decodeRequest, type MessageHeader } from '../../ipref/mapperMessage.ts'
import { encodeReference, parseReference } from '../../ipref/reference.ts'
import { hex, type Outcome, unhex, type Vector } from './vectors.ts'

const SEQUENCE = [
  'hash-unknown',
  'data-1',
  'hash-count-short',
  'data-2',
  'hash-ok',
  'data-dup',
  'hash-ok-2',
  'hash-wrong',
  'hash-after-nack',
  'data-new',
  'hash-new',
  'hash-old',
  'data-empty',
  'hash-empty',
]
/** where no answer is due, how long to be sure of it */
const SILENCE_MS = 25

/** A mapper with its store and socket in a folder of its own. */
export class MapperLab {
  readonly folder: string
  readonly path: string
  readonly mapper: Mapper
  readonly messages: MapperMessages
  readonly store: Store
  readonly #poller = new Poller()
  #server: SeqpacketServer | undefined
  #connection: SeqpacketConnection | undefined
  #onMessage: ((message: Uint8Array) => void) | undefined

  constructor(settings: {
    encodeNets: string[]
    contexts: string[]
    capacity?: number
    quotaPerPeer?: number
    dataFolder?: string
    /** where a slow disk must not make answers late: what is durable is tested elsewhere */
    inMemory?: boolean
  }) {
    const parent = settings.inMemory && existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
    this.folder = mkdtempSync(join(parent, 'ipref-mapper-'))
    this.path = join(this.folder, 'mapper.sock')
    const encodingNetworks = settings.encodeNets.map(text => parsePrefix(text) as Prefix)
    const contexts = settings.contexts.map(text => parseAddress(text)!)
    const capacity = settings.capacity ?? 4096
    this.store = new Store(settings.dataFolder ?? join(this.folder, 'data'), () => {})
    const tables = new MappingsWriter(MappingsWriter.allocate({ ours: capacity, theirs: capacity }))
    const peers = new Map<string, number>()
    this.mapper = new Mapper(
      {
        tables,
        store: this.store,
        filter: { change: () => Promise.resolve() },
        peers: {
          require: (...words) => {
            const key = words.join()
            if (!peers.has(key)) peers.set(key, peers.size)
            return peers.get(key)!
          },
          release: () => {},
          capacity: 4096,
        },
        now: () => process.hrtime()[0],
        unixNow: () => Date.now() / 1000,
        random32: () => (Math.random() * 2 ** 32) | 0,
        onProblems: () => {},
      },
      {
        encodingNetworks,
        ownEncoded: encodingNetworks.map(ownEncodedOf),
        contexts,
        gatewayReference: 1n,
        referenceLength: 8,
        quotaPerPeer: settings.quotaPerPeer ?? 100_000,
      },
    )
    this.messages = new MapperMessages({
      encodedFor: wanted => this.mapper.encodedFor(wanted),
      setSource: (owner, assertions) => this.mapper.setSource(owner, assertions),
      encodedFamilies: encodingNetworks.map(n => n.family),
      tunnelFamilies: contexts.map(familyOf),
    })
  }

  async open(): Promise<void> {
    this.store.open(saved => this.mapper.restore(saved))
    this.#server = await SeqpacketServer.listen({
      path: this.path,
      mode: 0o660,
      maxClients: 8,
      maxMessage: 65536,
      poller: this.#poller,
      onMessage: (connection, message) =>
        void this.messages.handle(message, connection).then(answer => answer && connection.send(answer)),
      onClosed: connection => this.messages.left(connection),
    })
    this.#connection = connectSeqpacket({
      path: this.path,
      poller: this.#poller,
      most: 65536,
      onMessage: message => this.#onMessage?.(message),
    })
  }

  /** The answer to one message, or undefined when none came for a while. */
  ask(message: Uint8Array, patienceMs: number): Promise<Uint8Array | undefined> {
    return new Promise(resolve => {
      const timer = setTimeout(() => resolve(undefined), patienceMs)
      this.#onMessage = answer => {
        clearTimeout(timer)
        resolve(answer)
      }
      this.#connection!.send(message)
    })
  }

  async close(): Promise<void> {
    this.messages.stop()
    this.#connection?.close()
    this.#server?.close()
    this.#poller.close()
    await this.store.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export async function runMapperVectors(vectors: readonly Vector[]): Promise<Outcome[]> {
  const groups = Map.groupBy(vectors, vector => (/^e\dt\d/.test(vector.name) ? vector.name.slice(0, 4) : 'captured'))
  const outcomes: Outcome[] = []
  for (const [name, group] of groups) {
    const lives = name === 'captured' ? livesOf(group) : [group]
    for (const life of lives) outcomes.push(...(await runGroup(life)))
  }
  return outcomes
}

// a hash that was acknowledged before and is refused now: the captured gateway was started again in between
function livesOf(captured: Vector[]): Vector[][] {
  const lives: Vector[][] = [[]]
  for (const vector of captured) {
    const isRefused = vector.class === 'agent-hash' && unhex(vector.expect.message)[1]! >> 6 === 3
    if (isRefused) lives.push([])
    lives.at(-1)!.push(vector)
  }
  return lives
}

async function runGroup(group: Vector[]): Promise<Outcome[]> {
  const { state } = group[0]!
  const lab = new MapperLab({ encodeNets: [state.encode_net], contexts: [state.gateway_address], inMemory: true })
  await lab.open()
  const records = [...mappingsOf(state).records, ...impliedBy(group)]
  await lab.mapper.setSource('static', records)
  const outcomes: Outcome[] = []
  const names = new Set(group.map(vector => vector.name.slice(5)))
  const inSequence = new Map(group.filter(v => v.class === 'host-data').map(v => [v.name.slice(5), v]))
  for (const vector of group)
    if (!SEQUENCE.includes(vector.name.slice(5))) outcomes.push(await runOne(lab, vector, names))
  if (inSequence.size > 0) {
    for (const step of SEQUENCE) {
      const vector = inSequence.get(step)
      if (vector) outcomes.push(await runOne(lab, vector, names))
    }
  }
  await lab.close()
  return outcomes
}

// captured between the deployed programs, which map what the rule refuses
function refusedByRule(vector: Vector): string | undefined {
  if (vector.class !== 'plugin-get-ea' || vector.do_better) return undefined
  const request = decodeRequest(unhex(vector.input.message))
  if (typeof request === 'string' || request.what !== 'getEncoded') return undefined
  const { context, reference } = request.record
  return reference === 0n || !isContext(context)
    ? 'wire.md 3: reference 0 and contexts that are not unicast are refused'
    : undefined
}

function mappingsOf(state: Vector['state']): { records: Assertion[] } {
  const records: Assertion[] = (state.mappings ?? []).map(
    (m: { kind: string; ip: string; ea: string; context: string; ref: string }) => {
      const reference = parseReference(m.ref)!
      if (m.kind === 'ours') return { kind: 'ours', address: parseAddress(m.ip)!, contexts: 'all', reference }
      return { kind: 'theirs', encoded: parseAddress(m.ea)!, context: parseAddress(m.context)!, reference }
    },
  )
  return { records }
}

// a captured answer with an address that is not free to choose: the hosts file of that gateway had it
function impliedBy(group: readonly Vector[]): Assertion[] {
  const assertions = new Map<string, Assertion>()
  for (const vector of group) {
    if (vector.class !== 'plugin-get-ea' || vector.expect.any || !vector.expect.message) continue
    const request = decodeRequest(unhex(vector.input.message))
    if (typeof request === 'string' || request.what !== 'getEncoded') continue
    const { context, reference } = request.record
    const encoded = unhex(vector.expect.message).slice(8, 12)
    assertions.set(hex(encoded), { kind: 'theirs', encoded, context, reference })
  }
  return [...assertions.values()]
}

async function runOne(lab: MapperLab, vector: Vector, names: ReadonlySet<string>): Promise<Outcome> {
  if (vector.class === 'host-data') await sendMissingData(lab, vector, names)
  const expected = (vector.do_better && vector.better) || vector.expect
  const answer = await lab.ask(unhex(vector.input.message), expected.outcome === 'answered' ? 1000 : SILENCE_MS)
  const rule = refusedByRule(vector)
  if (rule) {
    const isNack = answer !== undefined && answer[1]! >> 6 === 3
    return isNack
      ? { vector, kind: 'superseded', why: rule }
      : { vector, kind: 'failed', why: `${rule}: answered ${answer && hex(answer)}` }
  }
  const why = differs(answer, expected, vector)
  return why ? { vector, kind: 'failed', why } : { vector, kind: 'passed' }
}

function differs(answer: Uint8Array | undefined, expected: Vector['expect'], vector: Vector): string | undefined {
  if (expected.outcome !== 'answered') return answer ? `answered ${hex(answer)}, expected no answer` : undefined
  if (!answer) return 'no answer'
  if (expected.nack) return answer[1]! >> 6 === 3 ? undefined : `answered ${hex(answer)}, expected a NACK`
  const wanted = unhex(expected.message ?? vector.expect.message)
  for (const [offset, length] of (expected.any ?? vector.expect.any ?? []) as [number, number][]) {
    if (answer.subarray(offset, offset + length).every(byte => byte === 0)) return 'the encoded address is not set'
    wanted.fill(0, offset, offset + length)
    answer.fill(0, offset, offset + length)
  }
  return hex(answer) === hex(wanted) ? undefined : `answered ${hex(answer)}, expected ${hex(wanted)}`
}

/** The data that a hash is about, by the names of the vectors. */
const DATA_OF: Readonly<Record<string, readonly string[]>> = {
  'hash-ok': ['data-1', 'data-2'],
  'hash-ok-2': ['data-1', 'data-2'],
  'hash-after-nack': ['data-1', 'data-2'],
  'hash-new': ['data-new'],
  'hash-other-source': ['data-other-source'],
}
const FIRST_HOST = 0x33
const FIRST_REFERENCE = 0x151

// a hash whose data is not in the file, or not all of it: the records are those of the neighbours, 0x33 + 0x151 and on
async function sendMissingData(lab: MapperLab, vector: Vector, names: ReadonlySet<string>): Promise<void> {
  const step = vector.name.slice(5)
  if (!DATA_OF[step]?.some(data => !names.has(data))) return
  const request = unhex(vector.input.message)
  const header = decodeHeader(request) as MessageHeader
  const count = new DataView(request.buffer).getUint32(8)
  const strings = request.subarray(20)
  const context = parseAddress(vector.state.gateway_address)!
  const native = parseAddress(vector.state.mappings[0].ip)!
  const parts = [request.subarray(0, 8), Uint8Array.of(0xaa, 0xaa, 0, 0), request.subarray(12, 20), strings]
  for (let i = 0; i < count; i++) {
    const host = native.slice()
    host[host.length - 1] = FIRST_HOST + i
    parts.push(new Uint8Array(native.length), host, context, encodeReference(BigInt(FIRST_REFERENCE + i), 16))
  }
  const message = Uint8Array.from(Buffer.concat(parts))
  message[1] = (header.mode << 6) | Command.hostData
  new DataView(message.buffer).setUint16(6, message.length / 4)
  await lab.ask(message, 1000)
}
