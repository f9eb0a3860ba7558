/**
 * Drives a real mapper socket (SEQPACKET) with the vectors of mapper.json.
 *
 * The vectors of one `e?t?` group belong to one connection; those of host-data build on each other, and some steps of that sequence are not in the
 * file: they are worked out here from their neighbours (README of the vectors).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { familyOf, parseAddress, parsePrefix, type Prefix } from '../../ipref/address.ts'
import { parseReference } from '../../ipref/reference.ts'
import { ownEncodedOf } from '../../gateway/config.ts'
import type { Assertion } from '../../gateway/mapper/assertions.ts'
import { Mapper } from '../../gateway/mapper/mapper.ts'
import { MapperMessages } from '../../gateway/mapper/mapperSocket.ts'
import { Store } from '../../gateway/mapper/store.ts'
import { MappingsWriter } from '../../gateway/plane/mappings.ts'
import { Poller } from '../../gateway/sys/poller.ts'
import { connectSeqpacket, type SeqpacketConnection, SeqpacketServer } from '../../gateway/sys/seqpacket.ts'
import { hex, type Outcome, unhex, type Vector } from './vectors.ts'

const SEQUENCE = [
  'hash-unknown', 'data-1', 'hash-count-short', 'data-2', 'hash-ok', 'data-dup', 'hash-ok-2', 'hash-wrong', 'hash-after-nack', 'data-new', 'hash-new',
  'hash-old', 'data-empty', 'hash-empty',
]
/** where no answer is due, how long to be sure of it */
const SILENCE_MS = 25

/** A mapper with its store and socket in a folder of its own. */
export class MapperLab {
  readonly folder = mkdtempSync(join(tmpdir(), 'ipref-mapper-'))
  readonly path = join(this.folder, 'mapper.sock')
  readonly mapper: Mapper
  readonly messages: MapperMessages
  readonly store: Store
  readonly #poller = new Poller()
  #server: SeqpacketServer | undefined
  #connection: SeqpacketConnection | undefined
  #onMessage: ((message: Uint8Array) => void) | undefined

  constructor(settings: { encodeNets: string[]; contexts: string[]; capacity?: number; quotaPerPeer?: number; dataFolder?: string }) {
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
      onMessage: (connection, message) => void this.messages.handle(message).then(answer => answer && connection.send(answer)),
    })
    this.#connection = connectSeqpacket({ path: this.path, poller: this.#poller, most: 65536, onMessage: message => this.#onMessage?.(message) })
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
  for (const group of groups.values()) outcomes.push(...(await runGroup(group)))
  return outcomes
}

async function runGroup(group: Vector[]): Promise<Outcome[]> {
  const { state } = group[0]!
  const lab = new MapperLab({ encodeNets: [state.encode_net], contexts: [state.gateway_address] })
  await lab.open()
  const { records } = mappingsOf(state)
  await lab.mapper.setSource('static', records)
  const outcomes: Outcome[] = []
  const prefix = group[0]!.name.slice(0, 5)
  const inSequence = new Map(group.filter(v => v.class === 'host-data').map(v => [v.name.slice(5), v]))
  for (const vector of group) if (!SEQUENCE.includes(vector.name.slice(5))) outcomes.push(await runOne(lab, vector))
  if (inSequence.size > 0) {
    for (const step of SEQUENCE) {
      const vector = inSequence.get(step)
      if (vector) outcomes.push(await runOne(lab, vector))
      else await sendMissing(lab, step, inSequence, prefix)
    }
  }
  await lab.close()
  return outcomes
}

function mappingsOf(state: Vector['state']): { records: Assertion[] } {
  const records: Assertion[] = (state.mappings ?? []).map((m: { kind: string; ip: string; ea: string; context: string; ref: string }) => {
    const reference = parseReference(m.ref)!
    if (m.kind === 'ours') return { kind: 'ours', address: parseAddress(m.ip)!, contexts: 'all', reference }
    return { kind: 'theirs', encoded: parseAddress(m.ea)!, context: parseAddress(m.context)!, reference }
  })
  return { records }
}

async function runOne(lab: MapperLab, vector: Vector): Promise<Outcome> {
  const expected = (vector.do_better && vector.better) || vector.expect
  const answer = await lab.ask(unhex(vector.input.message), expected.outcome === 'answered' ? 1000 : SILENCE_MS)
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

// data-2 adds a second record to the set of data-1; the hashes that are not in the file follow from their neighbours
async function sendMissing(lab: MapperLab, step: string, known: ReadonlyMap<string, Vector>, prefix: string): Promise<void> {
  const like = (name: string) => unhex(known.get(name)!.input.message)
  const is6 = prefix.startsWith('e6')
  const recordLength = (is6 ? 32 : 8) + (prefix[3] === '6' ? 16 : 4) + 16
  if (step === 'data-2' || step === 'data-1') {
    const source = known.get('data-1') ?? known.get('data-dup')
    if (!source) return
    const message = unhex(source.input.message)
    const nativeLast = message.length - recordLength + (is6 ? 31 : 7)
    message[nativeLast] = step === 'data-1' ? message[nativeLast]! - 1 : known.has('data-dup') ? unhex(known.get('data-dup')!.input.message)[nativeLast]! : message[nativeLast]! + 1
    await lab.ask(message, 1000)
    return
  }
  if (step.startsWith('data') && known.has('data-dup')) {
    const wanted = { 'data-new': 0x33, 'data-empty': 0x44 }[step]
    if (wanted === undefined) return
    const message = like('data-dup')
    message[18] = wanted
    message[19] = wanted
    await lab.ask(message, 1000)
  }
}
