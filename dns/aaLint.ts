/**
 * What is wrong with the AA records of a zone, record by record and name by name.
 *
 *   records ──► strings of TXT (aaText.ts) ──► sets of a name: doubles, too many, TTL, CNAME or addresses beside ──► contexts that are names
 *
 * A context that is a name of the zone itself is looked up in its records, through aliases, wildcards and glue. What lies outside is the caller's to
 * ask: `contextsToAsk` says which names, and their addresses come back as `outside`. Pure.
 */
import type { AaRecord } from '../ipref/aaRecord.ts'
import { formatAddress } from '../ipref/address.ts'
import { DYNAMIC_LIFETIME_S } from '../ipref/lifetimes.ts'
import { formatReference } from '../ipref/reference.ts'
import { type AaRule, formatAa, judgeContext, judgeStrings } from './aaText.ts'
import { Type } from './constants.ts'
import { nameAt, type ResourceRecord, stringsOf } from './message.ts'
import { formatName, isAtOrBelow, lowerName, type Name, parentOf, parseName } from './name.ts'

/** What a resolver looks at, at most (wire.md section 5, decisions.md 22). */
const MOST_STRINGS = 64
const MOST_NAMES = 8
const MOST_ALIASES = 8
const WILDCARD = '\x01*'

export type LintRule =
  | AaRule
  | 'unresolved'
  | 'not-looked-up'
  | 'cname-beside'
  | 'address-beside'
  | 'double'
  | 'too-many'
  | 'ttl'
  | 'syntax'

export interface LintFinding {
  rule: LintRule
  severity: 'error' | 'warning'
  /** owner, as text; empty: about the file */
  name: string
  /** undefined: no file, no line */
  line: number | undefined
  what: string
  right: string
}

export interface LintedZone {
  origin: Name
  records: readonly ResourceRecord[]
  /** of each record, where there is a file */
  lines?: readonly number[]
}

/** Of a name outside the zone: what an ordinary resolver says. */
export type Outside = { addresses: Uint8Array[]; aliases: string[]; missing?: string } | { failed: string }

export interface LintReport {
  findings: LintFinding[]
  /** strings that are AA records, and the names that have any */
  aaRecords: number
  names: number
}

interface Owner {
  name: Name
  records: { record: ResourceRecord; line: number | undefined }[]
}

interface Found {
  record: AaRecord
  line: number | undefined
  ttl: number
}

type Resolved = { addresses: Uint8Array[] } | { missing: string } | { ask: Name }

export function contextsToAsk(zone: LintedZone): Name[] {
  const lint = new Lint(zone, new Map())
  lint.run()
  return [...lint.asked]
}

/** Names of `outside` in lower case. */
export function lintZone(zone: LintedZone, outside: ReadonlyMap<Name, Outside>): LintReport {
  return new Lint(zone, outside).run()
}

class Lint {
  readonly #zone: LintedZone
  readonly #origin: Name
  readonly #outside: ReadonlyMap<Name, Outside>
  readonly #owners = new Map<Name, Owner>()
  /** names that have records, or names below that have */
  readonly #existing = new Set<Name>()
  readonly #findings: LintFinding[] = []
  readonly asked = new Set<Name>()
  #aaRecords = 0

  constructor(zone: LintedZone, outside: ReadonlyMap<Name, Outside>) {
    this.#zone = zone
    this.#origin = lowerName(zone.origin)
    this.#outside = outside
    for (const [i, record] of zone.records.entries()) {
      const key = lowerName(record.name)
      let owner = this.#owners.get(key)
      if (!owner) {
        owner = { name: record.name, records: [] }
        this.#owners.set(key, owner)
        for (let at: Name | undefined = key; at && !this.#existing.has(at); at = parentOf(at)) this.#existing.add(at)
      }
      owner.records.push({ record, line: zone.lines?.[i] })
    }
  }

  run(): LintReport {
    let names = 0
    for (const owner of this.#owners.values()) {
      const found = this.#strings(owner)
      this.#besides(owner, found)
      if (found.length === 0) continue
      names++
      this.#aaRecords += found.length
      this.#ttl(owner, found)
      this.#contexts(owner, found)
    }
    if (this.#zone.lines) this.#findings.sort((a, b) => (a.line ?? 0) - (b.line ?? 0))
    return { findings: this.#findings, aaRecords: this.#aaRecords, names }
  }

  #tell(owner: Owner, line: number | undefined, finding: Pick<LintFinding, 'rule' | 'severity' | 'what' | 'right'>) {
    this.#findings.push({ ...finding, name: formatName(owner.name), line })
  }

  // ---- strings

  #strings(owner: Owner): Found[] {
    const found: Found[] = []
    let seen = 0
    let isTold = false
    for (const { record, line } of owner.records) {
      if (record.type !== Type.TXT) continue
      const strings = stringsOf(record.data)
      for (const { record: aa, findings } of judgeStrings(strings)) {
        for (const finding of findings) this.#tell(owner, line, finding)
        if (aa) found.push({ record: aa, line, ttl: record.ttl })
      }
      seen += strings.length
      if (seen <= MOST_STRINGS || found.length === 0 || isTold) continue
      isTold = true
      this.#tell(owner, line, {
        rule: 'too-many',
        severity: 'error',
        what: `more than ${MOST_STRINGS} strings at one name; resolvers look at the first ${MOST_STRINGS}`,
        right: 'fewer, or several names',
      })
    }
    return found
  }

  // ---- what stands beside

  #besides(owner: Owner, found: readonly Found[]): void {
    const of = (...types: number[]) => owner.records.find(({ record }) => types.includes(record.type))
    const [alias, text, address] = [of(Type.CNAME), of(Type.TXT), of(Type.A, Type.AAAA)]
    if (alias && text)
      this.#tell(owner, alias.line, {
        rule: 'cname-beside',
        severity: 'error',
        what: 'CNAME beside TXT at one name; servers refuse that, or hide one of them',
        right: 'either the CNAME alone, with the AA record at its target, or no CNAME',
      })
    if (address && found.length > 0)
      this.#tell(owner, address.line, {
        rule: 'address-beside',
        severity: 'warning',
        what: 'A or AAAA beside AA records; IPREF networks never use it',
        right: 'a name of its own for hosts that are reached without IPREF, if that is not meant',
      })
  }

  #ttl(owner: Owner, found: readonly Found[]): void {
    const least = found.reduce((a, b) => (b.ttl < a.ttl ? b : a))
    if (least.ttl === 0)
      this.#tell(owner, least.line, {
        rule: 'ttl',
        severity: 'warning',
        what: 'TTL 0; every connection asks anew',
        right: '60 or more',
      })
    if (least.ttl > DYNAMIC_LIFETIME_S)
      this.#tell(owner, least.line, {
        rule: 'ttl',
        severity: 'warning',
        what: `TTL ${least.ttl} is above ${DYNAMIC_LIFETIME_S} s, the life of a mapping; resolvers show less`,
        right: 'an hour or less',
      })
  }

  // ---- contexts

  #contexts(owner: Owner, found: readonly Found[]): void {
    const byText = new Map<string, Found>()
    const byAddress = new Map<string, Found>()
    const names = new Set<Name>()
    for (const one of found) {
      const text = formatAa(one.record).toLowerCase().replace('. +', ' +')
      if (byText.has(text)) {
        this.#double(owner, one, `${formatAa(one.record)} stands here twice`)
        continue
      }
      byText.set(text, one)
      for (const address of this.#addressesOf(owner, one, names)) {
        const key = `${formatAddress(address)} + ${formatReference(one.record.reference)}`
        const before = byAddress.get(key)
        if (before) this.#double(owner, one, `${formatAa(one.record)} and ${formatAa(before.record)} are both ${key}`)
        else byAddress.set(key, one)
      }
    }
    if (names.size > MOST_NAMES)
      this.#tell(owner, found[0]!.line, {
        rule: 'too-many',
        severity: 'error',
        what: `${names.size} names of gateways; resolvers look up the first ${MOST_NAMES}`,
        right: 'addresses in place of names, or fewer',
      })
  }

  #double(owner: Owner, found: Found, what: string): void {
    this.#tell(owner, found.line, { rule: 'double', severity: 'warning', what, right: 'one of them' })
  }

  #addressesOf(owner: Owner, { record, line }: Found, names: Set<Name>): Uint8Array[] {
    if ('context' in record) return [record.context]
    const name = parseName(record.name)
    // what is not complete was told before
    if (!name || parentOf(name) === '\0') return []
    names.add(lowerName(name))
    const resolved = this.#resolve(lowerName(name), record.name.replace(/\.?$/, '.'))
    if ('failed' in resolved)
      this.#tell(owner, line, {
        rule: 'not-looked-up',
        severity: 'warning',
        what: `${record.name} could not be looked up: ${resolved.failed}`,
        right: 'a server that answers, with -resolver ADDRESS',
      })
    else if ('missing' in resolved)
      this.#tell(owner, line, {
        rule: 'unresolved',
        severity: 'error',
        what: resolved.missing,
        right: 'an A or AAAA record there, or the address of the gateway in the AA record',
      })
    else if ('addresses' in resolved) {
      for (const finding of resolved.addresses.flatMap(judgeContext))
        this.#tell(owner, line, { ...finding, what: `${record.name}: ${finding.what}` })
      return resolved.addresses
    }
    return []
  }

  #resolve(name: Name, shown: string): Resolved | { failed: string } {
    const inside = this.#resolveInside(name, shown)
    if (!('ask' in inside)) return inside
    this.asked.add(inside.ask)
    const said = this.#outside.get(inside.ask)
    if (!said || 'failed' in said) return said ?? inside
    if (said.addresses.length > 0) return said
    const asked = formatName(inside.ask)
    const way = [...(asked === shown ? [] : [asked]), ...said.aliases]
    return { missing: describeMissing(shown, way, said.missing ?? 'has no A or AAAA record') }
  }

  // RFC 1034 section 4.3.2, as far as addresses go
  #resolveInside(start: Name, shown: string): Resolved {
    const way: string[] = []
    let name = start
    for (let i = 0; i <= MOST_ALIASES; i++) {
      if (!isAtOrBelow(name, this.#origin)) return { ask: name }
      const owner = this.#owners.get(name) ?? this.#wildcardFor(name)
      const records = owner?.records.map(({ record }) => record) ?? []
      const addresses = records.filter(r => r.type === Type.A || r.type === Type.AAAA).map(r => r.data)
      if (addresses.length > 0) return { addresses }
      if (this.#isDelegated(name)) return { ask: name }
      const alias = records.find(r => r.type === Type.CNAME)
      if (!alias) {
        const missing = owner || this.#existing.has(name) ? 'has no A or AAAA record' : 'does not exist in this zone'
        return { missing: describeMissing(shown, way, missing) }
      }
      name = lowerName(nameAt(alias.data, 0))
      way.push(formatName(name))
    }
    return { missing: `${shown} is an alias of an alias, and so on, without an end` }
  }

  #isDelegated(name: Name): boolean {
    for (let at: Name | undefined = name; at && at !== this.#origin; at = parentOf(at)) {
      if (this.#owners.get(at)?.records.some(({ record }) => record.type === Type.NS)) return true
    }
    return false
  }

  #wildcardFor(name: Name): Owner | undefined {
    if (this.#existing.has(name)) return undefined
    let closest = parentOf(name)
    while (closest && !this.#existing.has(closest)) closest = parentOf(closest)
    return closest === undefined ? undefined : this.#owners.get(WILDCARD + closest)
  }
}

function describeMissing(shown: string, way: readonly string[], missing: string): string {
  if (way.length === 0) return `${shown} ${missing}`
  return `${shown} is an alias of ${way.join(', that of ')}, which ${missing}`
}
