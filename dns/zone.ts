/**
 * A zone: checked once, never changed after that, and asked as RFC 1034 section 4.3.2 says.
 *
 *                     ┌ below a delegation ───► referral with glue
 *   name, type ──► walk ┼ below a DNAME ────────► DNAME and CNAME, on with the new name
 *   from the apex     ├ exists ───────────────► records · CNAME, on with its target · NODATA
 *                     └ does not ──► wildcard beside the last name that does (RFC 4592) · NXDOMAIN
 *
 * A name exists when it or a name below it has records. Names are compared without case, and answered with the case that was asked for. ANY gets
 * the minimal answer of RFC 8482. Chains are followed within the zone alone.
 */
import { createHash } from 'node:crypto'
import { Class, formatType, Rcode, Type } from './constants.ts'
import { dataOfStrings, decodeSoa, encodeSoa, isNewerSerial, nameAt, type ResourceRecord, type Soa } from './message.ts'
import { formatName, isAtOrBelow, joinNames, lowerName, type Name, nameToBytes, parentOf } from './name.ts'
import { dataKey, isData } from './rdata.ts'

export interface ZoneAnswer {
  rcode: number
  isAuthoritative: boolean
  answers: ResourceRecord[]
  authority: ResourceRecord[]
  additional: ResourceRecord[]
  /** An answer without the additional section would be useless: glue (RFC 9471). */
  needsAdditional: boolean
}

export interface ZoneProblem {
  /** of the record that is wrong; none: it is about the zone as a whole */
  index?: number
  problem: string
}

/** one owner, one type, one TTL; never empty */
type RecordSet = readonly ResourceRecord[]

interface Node {
  /** as the zone writes it */
  readonly name: Name
  sets: RecordSet[]
  isDelegation: boolean
}

/** Longest chain of CNAME and DNAME that is followed. */
const MOST_STEPS = 16
/** So that a message with it, a question and a signature fits into 65,535 bytes. */
const MOST_DATA = 64_000
const MOST_SET = 64_000
const MINIMAL_ANY = { ttl: 3789, data: dataOfStrings(['RFC8482', '']) }
/** Types that lead nowhere else. */
const PLAIN: ReadonlySet<number> = new Set<number>([Type.A, Type.AAAA, Type.TXT])
const WILDCARD: Name = '\x01*'

export class Zone {
  /** lower case */
  readonly origin: Name
  readonly soa: Soa
  /** records, the SOA record counted once */
  readonly size: number
  readonly #nodes: ReadonlyMap<Name, Node>
  readonly #apex: Node
  readonly #negativeTtl: number

  private constructor(origin: Name, nodes: ReadonlyMap<Name, Node>) {
    this.origin = origin
    this.#nodes = nodes
    this.#apex = nodes.get(origin)!
    const record = setOf(this.#apex, Type.SOA)![0]!
    this.soa = decodeSoa(record.data)
    this.#negativeTtl = Math.min(record.ttl, this.soa.minimum)
    let size = 0
    for (const node of nodes.values()) for (const set of node.sets) size += set.length
    this.size = size
  }

  /** The zone when nothing is wrong with the records. Equal records count once; a set with several TTLs gets the lowest. */
  static from(origin: Name, records: readonly ResourceRecord[]): { zone?: Zone; problems: ZoneProblem[] } {
    const builder = new Builder(lowerName(origin))
    for (const [index, record] of records.entries()) builder.add(record, index)
    const nodes = builder.finish()
    return builder.problems.length > 0
      ? { problems: builder.problems }
      : { zone: new Zone(lowerName(origin), nodes), problems: [] }
  }

  /** The same records under another serial. */
  withSerial(serial: number): Zone {
    const sets = this.#apex.sets.map(set =>
      set[0]!.type === Type.SOA ? [{ ...set[0]!, data: encodeSoa({ ...this.soa, serial }) }] : set,
    )
    return new Zone(this.origin, new Map(this.#nodes).set(this.origin, { ...this.#apex, sets }))
  }

  /**
   * The zone with these records at these names instead of what is there, and none where the list is empty: for zones of which little changes at a time. Addresses and
   * text alone, below the apex; undefined: something there is more than that, or wrong, and the zone is to be made whole by `from`.
   */
  withRecords(changes: ReadonlyMap<Name, readonly ResourceRecord[]>): Zone | undefined {
    const nodes = new Map(this.#nodes)
    const empty = new Set<Name>()
    for (const [name, records] of changes) {
      const lower = lowerName(name)
      const isPlace = lower !== this.origin && isAtOrBelow(lower, this.origin)
      if (!isPlace || !this.#isPlainAt(lower) || records.some(record => !isPlain(record, lower))) return undefined
      const builder = new Builder(this.origin)
      for (const [index, record] of records.entries()) builder.add(record, index)
      const sets = builder.setsOf(lower)
      if (builder.problems.length > 0) return undefined
      nodes.set(lower, { name: records[0]?.name ?? name, sets, isDelegation: false })
      if (sets.length === 0) empty.add(lower)
      else empty.delete(lower)
      for (let up = parentOf(name); up !== undefined && lowerName(up) !== this.origin; up = parentOf(up)) {
        const above = lowerName(up)
        const node = nodes.get(above)
        if (!node) nodes.set(above, { name: up, sets: [], isDelegation: false })
        if (!node?.sets.length) empty.add(above)
      }
    }
    for (const name of unneeded(empty, nodes)) nodes.delete(name)
    return new Zone(this.origin, nodes)
  }

  // neither here nor above is anything that leads elsewhere
  #isPlainAt(lower: Name): boolean {
    for (let at: Name | undefined = lower; at !== undefined && at !== this.origin; at = parentOf(at))
      if (this.#nodes.get(at)?.sets.some(set => !PLAIN.has(set[0]!.type))) return false
    return setOf(this.#apex, Type.DNAME) === undefined
  }

  /** Everything but the serial is the same. */
  hasContentOf(other: Zone): boolean {
    if (this.origin !== other.origin || this.size !== other.size) return false
    const twin = this.soa.serial === other.soa.serial ? other : other.withSerial(this.soa.serial)
    for (const [name, node] of this.#nodes) {
      const second = twin.#nodes.get(name)
      if (!second || second.sets.length !== node.sets.length) return false
      for (const set of node.sets) if (!isSameSet(set, setOf(second, set[0]!.type))) return false
    }
    return true
  }

  /** Another for other content; the serial does not count. */
  fingerprint(): string {
    const hash = createHash('sha256')
    for (const { name, type, ttl, data } of this.withSerial(0).records())
      hash.update(`${formatName(name)} ${type} ${ttl} ${data.length} `).update(data)
    return hash.digest('base64')
  }

  get soaRecord(): ResourceRecord {
    return setOf(this.#apex, Type.SOA)![0]!
  }

  /** The SOA record first, then those of the same name, then the others. */
  *records(): Generator<ResourceRecord, void> {
    yield this.soaRecord
    for (const set of this.#apex.sets) if (set[0]!.type !== Type.SOA) yield* set
    for (const node of this.#nodes.values()) if (node !== this.#apex) for (const set of node.sets) yield* set
  }

  /** As a transfer sends it (RFC 5936 section 2.2): the SOA record also at the end. */
  *transfer(): Generator<ResourceRecord, void> {
    yield* this.records()
    yield this.soaRecord
  }

  /** The set at exactly that name, whatever delegations lie above it. */
  find(name: Name, type: number): readonly ResourceRecord[] {
    const node = this.#nodes.get(lowerName(name))
    return (node && setOf(node, type)) ?? []
  }

  /** undefined: the name is not in the zone. */
  lookup(name: Name, type: number): ZoneAnswer | undefined {
    if (!isAtOrBelow(lowerName(name), this.origin)) return undefined
    const answer: ZoneAnswer = {
      rcode: Rcode.NOERROR,
      isAuthoritative: true,
      answers: [],
      authority: [],
      additional: [],
      needsAdditional: false,
    }
    const seen = new Set<Name>()
    let next: Name | undefined = name
    while (next !== undefined && seen.size < MOST_STEPS) {
      const lower = lowerName(next)
      if (seen.has(lower) || !isAtOrBelow(lower, this.origin)) break
      seen.add(lower)
      next = this.#step(next, type, answer)
    }
    return answer
  }

  // adds what is known of one name; gives the name to go on with
  #step(name: Name, type: number, answer: ZoneAnswer): Name | undefined {
    const place = this.#walk(lowerName(name))
    const { node } = place
    if (place.is === 'delegation' && !(type === Type.DS && node.name.length === name.length)) {
      this.#refer(name, node, answer)
      return undefined
    }
    if (place.is === 'redirected') return redirect(name, type, setOf(node, Type.DNAME)![0]!, answer)
    const found = place.is === 'encloser' ? this.#wildcardBelow(node) : node
    if (!found) {
      answer.rcode = Rcode.NXDOMAIN
      answer.authority.push(this.#negative(name))
      return undefined
    }
    return this.#answerFrom(found, name, type, answer)
  }

  #answerFrom(node: Node, name: Name, type: number, answer: ZoneAnswer): Name | undefined {
    if (type === Type.ANY && node.sets.length > 0) {
      answer.answers.push({ name, type: Type.HINFO, class: Class.IN, ...MINIMAL_ANY })
      return undefined
    }
    const set = setOf(node, type)
    if (set) {
      answer.answers.push(...underName(set, name))
      this.#addAddresses(set, answer)
      return undefined
    }
    const alias = setOf(node, Type.CNAME)
    if (alias) {
      answer.answers.push(...underName(alias, name))
      return nameAt(alias[0]!.data, 0)
    }
    answer.authority.push(this.#negative(name))
    return undefined
  }

  #walk(lower: Name): { is: 'node' | 'encloser' | 'delegation' | 'redirected'; node: Node } {
    const starts: number[] = []
    const apexAt = lower.length - this.origin.length
    for (let at = 0; at < apexAt; at += 1 + lower.charCodeAt(at)) starts.push(at)
    let node = this.#apex
    for (let start = starts.pop(); start !== undefined; start = starts.pop()) {
      if (setOf(node, Type.DNAME)) return { is: 'redirected', node }
      const child = this.#nodes.get(lower.slice(start))
      if (!child) return { is: 'encloser', node }
      if (child.isDelegation) return { is: 'delegation', node: child }
      node = child
    }
    return { is: 'node', node }
  }

  #wildcardBelow(encloser: Node): Node | undefined {
    return this.#nodes.get(WILDCARD + lowerName(encloser.name))
  }

  #refer(name: Name, delegation: Node, answer: ZoneAnswer): void {
    // after a CNAME of ours the first name of the answer is ours (RFC 1035 section 4.1.1)
    answer.isAuthoritative = answer.answers.length > 0
    const servers = setOf(delegation, Type.NS)!
    answer.authority.push(...underName(servers, suffixOf(name, delegation.name)))
    this.#addAddresses(servers, answer)
    answer.needsAdditional = answer.additional.length > 0
  }

  #negative(name: Name): ResourceRecord {
    return { ...this.soaRecord, name: suffixOf(name, this.origin), ttl: this.#negativeTtl }
  }

  // addresses of the hosts that the records name, as far as they are in the zone
  #addAddresses(set: RecordSet, answer: ZoneAnswer): void {
    const at = targetAt(set[0]!.type)
    if (at === undefined) return
    const hosts = new Set(set.map(record => lowerName(nameAt(record.data, at))))
    for (const host of hosts) for (const type of [Type.A, Type.AAAA]) answer.additional.push(...this.find(host, type))
  }
}

function setOf(node: Node, type: number): RecordSet | undefined {
  for (const set of node.sets) if (set[0]!.type === type) return set
  return undefined
}

function isPlain({ name, type }: ResourceRecord, lower: Name): boolean {
  return PLAIN.has(type) && lowerName(name) === lower
}

/** Those below which there is nothing. */
function unneeded(empty: ReadonlySet<Name>, nodes: ReadonlyMap<Name, Node>): Set<Name> {
  const left = new Set(empty)
  if (left.size === 0) return left
  for (const [lower, node] of nodes) {
    if (node.sets.length === 0) continue
    for (let up: Name | undefined = lower; up !== undefined && left.size > 0; up = parentOf(up)) left.delete(up)
  }
  return left
}

function underName(set: RecordSet, name: Name): readonly ResourceRecord[] {
  return set[0]!.name === name ? set : set.map(record => ({ ...record, name }))
}

/** `ancestor` with the case of `name`, which is below it. */
function suffixOf(name: Name, ancestor: Name): Name {
  return name.slice(name.length - ancestor.length)
}

function targetAt(type: number): number | undefined {
  if (type === Type.NS) return 0
  if (type === Type.MX) return 2
  return type === Type.SRV ? 6 : undefined
}

// RFC 6672 section 3.2
function redirect(name: Name, type: number, dname: ResourceRecord, answer: ZoneAnswer): Name | undefined {
  const owner = suffixOf(name, dname.name)
  answer.answers.push({ ...dname, name: owner })
  const target = joinNames(`${name.slice(0, name.length - owner.length)}\0`, nameAt(dname.data, 0))
  if (target === undefined) {
    answer.rcode = Rcode.YXDOMAIN
    return undefined
  }
  answer.answers.push({ name, type: Type.CNAME, class: Class.IN, ttl: dname.ttl, data: nameToBytes(target) })
  return type === Type.CNAME ? undefined : target
}

function isSameSet(a: RecordSet, b: RecordSet | undefined): boolean {
  if (!b || a.length !== b.length || a[0]!.ttl !== b[0]!.ttl || a[0]!.name !== b[0]!.name) return false
  const keys = new Set(a.map(keyOf))
  return b.every(record => keys.has(keyOf(record)))
}

function keyOf({ type, data }: ResourceRecord): string {
  return dataKey(type, data)
}

// ---- building

interface Draft {
  record: ResourceRecord
  index: number
}

class Builder {
  readonly problems: ZoneProblem[] = []
  readonly #origin: Name
  readonly #owners = new Map<Name, { name: Name; types: Map<number, Draft[]> }>()

  constructor(origin: Name) {
    this.#origin = origin
  }

  #tell(index: number | undefined, problem: string): void {
    this.problems.push(index === undefined ? { problem } : { index, problem })
  }

  add(record: ResourceRecord, index: number): void {
    const lower = lowerName(record.name)
    const problem = this.#problemOf(record, lower)
    if (problem !== undefined) return this.#tell(index, problem)
    const owner = this.#owners.get(lower) ?? { name: record.name, types: new Map<number, Draft[]>() }
    this.#owners.set(lower, owner)
    const drafts = owner.types.get(record.type)
    if (drafts) drafts.push({ record, index })
    else owner.types.set(record.type, [{ record, index }])
  }

  #problemOf({ name, type, class: recordClass, ttl, data }: ResourceRecord, lower: Name): string | undefined {
    const at = formatName(name)
    const zone = formatName(this.#origin)
    if (!isAtOrBelow(lower, this.#origin))
      return `${at} is not in the zone ${zone}: remove the record, or write a name below ${zone}`
    if (recordClass !== Class.IN) return `${at} is of class ${recordClass}: only IN is served`
    if (ttl > 0x7fffffff) return `${at} has a TTL of ${ttl}: at most 2147483647 is allowed`
    if (!isData(type, data)) return `the data of ${at} is no data of ${formatType(type)}`
    if (data.length > MOST_DATA)
      return `${at} has ${data.length} bytes of data: at most ${MOST_DATA} fit into a message`
    if (type === Type.SOA && lower !== this.#origin)
      return `a SOA record at ${at}: a zone has one, at ${zone}; ${at} would be a zone of its own`
    if (name.startsWith(WILDCARD) && (type === Type.NS || type === Type.DNAME))
      return `${formatType(type)} at the wildcard ${at} has no meaning (RFC 4592 section 4): write the names out`
    return undefined
  }

  setsOf(lower: Name): RecordSet[] {
    return [...(this.#owners.get(lower)?.types.values() ?? [])].map(drafts => this.#merge(drafts))
  }

  finish(): Map<Name, Node> {
    const nodes = new Map<Name, Node>()
    for (const [lower, { name, types }] of this.#owners) {
      this.#checkOwner(lower, name, types)
      const sets = [...types.values()].map(drafts => this.#merge(drafts))
      nodes.set(lower, { name, sets, isDelegation: types.has(Type.NS) && lower !== this.#origin })
    }
    this.#checkApex()
    this.#addEmpty(nodes)
    this.#checkRedirections(nodes)
    return nodes
  }

  #checkApex(): void {
    const types = this.#owners.get(this.#origin)?.types
    const zone = formatName(this.#origin)
    const soas = (types?.get(Type.SOA) ?? []).filter((draft, i, all) => i === 0 || !isEqual(draft, all[0]!))
    if (soas.length === 0)
      this.#tell(undefined, `no SOA record at ${zone}: write @ SOA ns1 admin 1 1h 10m 1w 5m with the names of the zone`)
    for (const { index } of soas.slice(1)) this.#tell(index, `a second SOA record at ${zone}: keep one of them`)
    if (!types?.has(Type.NS))
      this.#tell(undefined, `no NS record at ${zone}: write @ NS and the name of a server of the zone`)
  }

  #checkOwner(lower: Name, name: Name, types: Map<number, Draft[]>): void {
    const at = formatName(name)
    const first = (type: number) => types.get(type)?.[0]?.index
    const alias = first(Type.CNAME)
    const other = [...types.keys()].find(type => type !== Type.CNAME && type !== Type.RRSIG && type !== Type.NSEC)
    if (alias !== undefined && other !== undefined)
      this.#tell(alias, `CNAME beside ${formatType(other)} at ${at}: a name with a CNAME has no other records`)
    for (const type of [Type.CNAME, Type.DNAME]) {
      const all = types.get(type) ?? []
      const second = all.find(draft => !isEqual(draft, all[0]!))
      if (second) this.#tell(second.index, `a second ${formatType(type)} at ${at}: a name has one at most`)
    }
    if (types.has(Type.DNAME) && types.has(Type.NS) && lower !== this.#origin)
      this.#tell(first(Type.DNAME), `DNAME beside NS at ${at}: remove one of them (RFC 6672 section 2.3)`)
  }

  #merge(drafts: readonly Draft[]): RecordSet {
    const { name } = this.#owners.get(lowerName(drafts[0]!.record.name))!
    const ttl = drafts.reduce((least, { record }) => Math.min(least, record.ttl), 0x7fffffff)
    const seen = new Set<string>()
    const set: ResourceRecord[] = []
    let bytes = 0
    for (const { record } of drafts) {
      const key = drafts.length > 1 ? keyOf(record) : ''
      if (seen.has(key)) continue
      seen.add(key)
      bytes += record.data.length + 12
      set.push({ name, type: record.type, class: Class.IN, ttl, data: record.data })
    }
    if (bytes > MOST_SET)
      this.#tell(
        drafts.at(-1)!.index,
        `all ${formatType(set[0]!.type)} records of ${formatName(name)} do not fit into one message: leave some out`,
      )
    return set
  }

  // names that exist only because others are below them
  #addEmpty(nodes: Map<Name, Node>): void {
    if (!nodes.has(this.#origin)) return
    for (const { name } of [...nodes.values()]) {
      for (let up = parentOf(name); up !== undefined && !nodes.has(lowerName(up)); up = parentOf(up))
        nodes.set(lowerName(up), { name: up, sets: [], isDelegation: false })
    }
  }

  #checkRedirections(nodes: ReadonlyMap<Name, Node>): void {
    const redirected = [...this.#owners].filter(([, { types }]) => types.has(Type.DNAME))
    if (redirected.length === 0) return
    const tops = new Set(redirected.map(([lower]) => lower))
    for (const [lower, { name, types }] of this.#owners) {
      for (let up = parentOf(lower); up !== undefined && nodes.has(up); up = parentOf(up)) {
        if (!tops.has(up)) continue
        this.#tell(
          [...types.values()][0]![0]!.index,
          `${formatName(name)} is below the DNAME of ${formatName(up)}, which hides it`,
        )
        break
      }
    }
  }
}

function isEqual(a: Draft, b: Draft): boolean {
  return keyOf(a.record) === keyOf(b.record)
}

/** A serial that secondaries take for newer than the last (RFC 1982), and the time where that is newer: max(unix time, last + 1). */
export function nextSerial(last: number, nowUnix: number): number {
  const time = Math.floor(nowUnix) >>> 0
  return isNewerSerial(time, last) ? time : (last + 1) >>> 0
}
