/**
 * A backup as text: one JSON object a line, so that people can read it, search it and compare two. Pure but for the hash.
 *
 *   {"ipref":"backup","version":1,"made":"2030-01-01T00:00:00Z"}
 *   {"reference":"6c-3d61-6789-d72","of":"shop/web","slot":0,"family":"IPv4","uid":"…"}      an IprefReference; also "releasedAt", "annotations"
 *   {"object":{"apiVersion":"ipref.io/v1alpha1","kind":"IprefService","metadata":{…},"spec":{…}}}
 *   {"local":"10.241.9.67","remote":"198.51.100.2 + 22","expires":"2030-01-01T04:00:00Z"}    a mapping of a gateway, as `ipref status` shows it
 *   {"local":"10.1.0.77","remote":"ours + 7f-1d20-91c3-9d72","expires":"…"}
 *   {"end":{"lines":4,"sha256":"…"}}                                                         of all bytes before this line
 *
 * The last line makes a cut file known as one, whole lines missing or not. A field that is not known is refused: a newer version has another number.
 */
import { createHash } from 'node:crypto'
import { type AddressWords, formatWords, parseAddress, wordsFromBytes } from '../ipref/address.ts'
import { parseIprefAddress } from '../ipref/iprefAddress.ts'
import { formatReference, parseReference, referenceFromWords, wordsFromReference } from '../ipref/reference.ts'
import { nameOfClaim, referenceOf } from '../resources/claims.ts'
import { API_VERSION, type IprefReference, type KubeObject } from '../resources/kinds.ts'
import { problemText } from '../resources/schema/check.ts'
import { validate } from '../resources/schema/tables.ts'
import { timestamp } from '../runtime/clock.ts'

export const FORMAT = 1
/** An object of an API server has at most 1.5 MiB. */
export const LONGEST_LINE = 4 << 20

export const EMPTY = 'is empty'

/** As the mapping store has it. */
export interface BackupMapping {
  kind: 'ours' | 'theirs'
  local: AddressWords
  context: AddressWords
  reference: AddressWords
  /** seconds of the wall clock */
  expires: number
}

export const objectKinds = ['IprefPeer', 'IprefGateway', 'IprefService'] as const
export type BackupObject = KubeObject & { kind: (typeof objectKinds)[number]; spec: unknown }

export type Entry =
  | { what: 'reference'; reference: IprefReference }
  | { what: 'object'; object: BackupObject }
  | { what: 'mapping'; mapping: BackupMapping }

const OURS = 'ours + '
const noWords: AddressWords = [0, 0, 0, 0]

// ---- writing

/** Lines of a whole file, in turn: hand each to `write`. */
export class BackupLines {
  readonly #hash = createHash('sha256')
  #lines = 0

  header(now: number): string {
    return this.#line({ ipref: 'backup', version: FORMAT, made: timestamp(now) })
  }

  entry(entry: Entry): string {
    return this.#line(encode(entry))
  }

  end(): string {
    const end = { lines: this.#lines, sha256: this.#hash.digest('hex') }
    return `${JSON.stringify({ end })}\n`
  }

  #line(value: object): string {
    const text = `${JSON.stringify(value)}\n`
    this.#hash.update(text)
    this.#lines++
    return text
  }
}

function encode(entry: Entry): object {
  if (entry.what === 'object') return { object: entry.object }
  if (entry.what === 'reference') return encodeReference(entry.reference)
  const { kind, local, context, reference, expires } = entry.mapping
  const text = formatReference(referenceFromWords(reference))
  const remote = kind === 'ours' ? `${OURS}${text}` : `${formatWords(context)} + ${text}`
  return { local: formatWords(local), remote, expires: timestamp(expires * 1000) }
}

function encodeReference(claim: IprefReference): object {
  const { metadata, spec } = claim
  const { namespace, name, uid, slot, family, releasedAt } = spec
  const { annotations } = metadata
  return {
    reference: referenceOf(claim),
    of: `${namespace}/${name}`,
    ...{ slot, family, uid },
    ...(releasedAt === undefined ? {} : { releasedAt }),
    ...(annotations && Object.keys(annotations).length > 0 ? { annotations } : {}),
  }
}

// ---- reading

export interface BackupContent {
  made: string
  references: IprefReference[]
  objects: BackupObject[]
  mappings: PackedMappings
}

/** Fed with the lines of a file, without their ends; a text: why it is none, or no more. */
export class BackupReader {
  readonly #hash = createHash('sha256')
  readonly #content: BackupContent = { made: '', references: [], objects: [], mappings: new PackedMappings() }
  readonly #claimed = new Set<string>()
  #lines = 0
  #hasEnded = false

  line(bytes: Buffer): string | undefined {
    const place = `line ${this.#lines + 1}`
    if (this.#hasEnded) return `there is more behind its last line, at ${place}`
    const value = parseJson(bytes)
    if (this.#lines === 0 && value?.ipref !== 'backup') return 'is no backup of ipref'
    if (value === undefined) return `${place} is no JSON object: the file is damaged`
    if (value.end !== undefined) return this.#end(value.end)
    this.#hash.update(bytes).update('\n')
    this.#lines++
    const problem = this.#lines === 1 ? this.#header(value) : this.#entry(value)
    return problem === undefined || this.#lines === 1 ? problem : `${place}: ${problem}`
  }

  /** After the last line. */
  finish(): BackupContent | string {
    if (this.#lines === 0) return EMPTY
    return this.#hasEnded ? this.#content : `was cut off after line ${this.#lines}: its last line is missing`
  }

  #header({ version, made }: Record<string, unknown>): string | undefined {
    if (version !== FORMAT) return `was written in format ${String(version)}; this ipref knows ${FORMAT}`
    if (typeof made !== 'string') return 'does not say when it was made: the file is damaged'
    this.#content.made = made
    return undefined
  }

  #entry(value: Record<string, unknown>): string | undefined {
    const entry = decode(value)
    if (typeof entry === 'string') return entry
    if (entry.what === 'mapping') this.#content.mappings.push(entry.mapping)
    else if (entry.what === 'object') this.#content.objects.push(entry.object)
    else {
      const { name } = entry.reference.metadata
      if (this.#claimed.has(name)) return `reference ${String(value.reference)} is there twice`
      this.#claimed.add(name)
      this.#content.references.push(entry.reference)
    }
    return undefined
  }

  #end(end: unknown): string | undefined {
    const { lines, sha256 } = (isRecord(end) ? end : {}) as { lines?: unknown; sha256?: unknown }
    if (lines !== this.#lines) return `has ${this.#lines} lines and should have ${String(lines)}: the file is damaged`
    if (sha256 !== this.#hash.digest('hex')) return 'is not what its checksum says: it was changed, or is damaged'
    this.#hasEnded = true
    return undefined
  }
}

/** A million of them in little room. */
export class PackedMappings {
  static readonly #WORDS = 14
  #words = new Int32Array(PackedMappings.#WORDS * 64)
  length = 0

  push({ kind, local, context, reference, expires }: BackupMapping): void {
    const at = this.length++ * PackedMappings.#WORDS
    if (at + PackedMappings.#WORDS > this.#words.length) {
      const larger = new Int32Array(this.#words.length * 2)
      larger.set(this.#words)
      this.#words = larger
    }
    this.#words[at] = kind === 'ours' ? 1 : 0
    this.#words[at + 1] = expires
    for (const [i, four] of [local, context, reference].entries()) this.#words.set(four, at + 2 + i * 4)
  }

  *[Symbol.iterator](): Generator<BackupMapping> {
    for (let i = 0; i < this.length; i++) {
      const word = (n: number) => this.#words[i * PackedMappings.#WORDS + n]!
      const four = (n: number): AddressWords => [word(n), word(n + 1), word(n + 2), word(n + 3)]
      const kind = word(0) === 1 ? 'ours' : 'theirs'
      yield { kind, local: four(2), context: four(6), reference: four(10), expires: word(1) }
    }
  }
}

function decode(value: Record<string, unknown>): Entry | string {
  if (value.local !== undefined) return decodeMapping(value)
  if (value.reference !== undefined) return decodeReference(value)
  if (value.object !== undefined) return decodeObject(value)
  return `nothing that is known: ${Object.keys(value).join(', ').slice(0, 80)}`
}

function decodeMapping({ local, remote, expires, ...more }: Record<string, unknown>): Entry | string {
  const address = typeof local === 'string' ? parseAddress(local) : undefined
  const time = secondsOf(expires)
  if (!address || typeof remote !== 'string' || time === undefined || Object.keys(more).length > 0)
    return 'no mapping: local, remote, expires'
  const isOurs = remote.startsWith(OURS)
  const found = isOurs ? undefined : parseIprefAddress(remote)
  const reference = isOurs ? parseReference(remote.slice(OURS.length)) : found?.reference
  if (reference === undefined || reference === 0n) return `no mapping: remote ${remote.slice(0, 80)}`
  const mapping: BackupMapping = {
    kind: isOurs ? 'ours' : 'theirs',
    local: wordsFromBytes(address),
    context: found ? wordsFromBytes(found.context) : noWords,
    reference: wordsFromReference(reference),
    expires: time,
  }
  return { what: 'mapping', mapping }
}

function decodeReference(value: Record<string, unknown>): Entry | string {
  const { reference: text, of, slot, family, uid, releasedAt, annotations, ...more } = value
  const parsed = typeof text === 'string' ? parseReference(text) : undefined
  const [namespace, name] = typeof of === 'string' ? of.split('/') : []
  if (parsed === undefined || name === undefined || Object.keys(more).length > 0)
    return 'no reference: reference, of, slot, family, uid'
  const spec = { namespace, name, uid, slot, family, ...(releasedAt === undefined ? {} : { releasedAt }) }
  const metadata = { name: nameOfClaim(parsed), ...(annotations === undefined ? {} : { annotations }) }
  const reference = { apiVersion: API_VERSION, kind: 'IprefReference', metadata, spec } as unknown as IprefReference
  const problem = validate('IprefReference', reference)[0]
  return problem ? problemText(problem) : { what: 'reference', reference }
}

function decodeObject({ object }: Record<string, unknown>): Entry | string {
  const { kind } = isRecord(object) ? object : {}
  const known = objectKinds.find(one => one === kind)
  if (!known) return `no object of ${objectKinds.join(', ')}`
  const problem = validate(known, object as unknown as KubeObject)[0]
  return problem ? `${known}: ${problemText(problem)}` : { what: 'object', object: object as unknown as BackupObject }
}

/** What the table of mappings can hold. */
function secondsOf(time: unknown): number | undefined {
  const seconds = typeof time === 'string' ? Date.parse(time) / 1000 : Number.NaN
  return Number.isInteger(seconds) && seconds > 0 && seconds <= 0x7fffffff ? seconds : undefined
}

function parseJson(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
