/**
 * Texts of the DNS: zone files, Corefiles, AA strings, names, keys, addresses of servers. Each parser gives what it read or says what is wrong; none
 * throws, none takes for ever, and what was read of a zone is read again from what is printed of it.
 */
import { formatName, labelsOf, parseName } from '../../dns/name.ts'
import { parseTsigKey } from '../../dns/tsig.ts'
import { Zone } from '../../dns/zone.ts'
import { formatZone, parseZoneText } from '../../dns/zoneText.ts'
import { readCorefile } from '../../gateway/dns/corefile.ts'
import { parseEndpoint, parseResolverConfig } from '../../gateway/dns/resolverConfig.ts'
import { parseAaRecord } from '../../ipref/aaRecord.ts'
import { formatReference, parseReference } from '../../ipref/reference.ts'
import { type Corpus, ZONE } from './dnsCorpus.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'
import type { Watchdog } from './watchdog.ts'

const COREFILES = [
  `example.com:5353 example.net {
    bind 127.0.0.1 ::1
    ipref {
        upstream 192.0.2.53
        except internal.example.com
        ea-ipver 4
        gw-ipver 4 6
        mapper unix:///run/ipref/mapper.sock
    }
    forward . 192.0.2.53 [2001:db8::53]:53 {
        max_fails 3
    }
    cache 30
    log
    errors
}
`,
  `# zones
. {
    file /etc/zone.db example.org
    transfer {
        to * 192.0.2.54
    }
}
`,
]
const AA_STRINGS = [
  'AA 198.51.100.2 + 22',
  'AA    gw.example.com.    +    0-1-2   ',
  'AA 2001:db8:100::2+a--1',
  `AA ${'a-'.repeat(40)}a.example + 1`,
  'AA gw + 28',
  `AA ${'1.'.repeat(60)}1 + ${'9'.repeat(100)}`,
  'AA x + y + z',
]
const WORDS = [
  ...[
    '$ORIGIN',
    '$TTL',
    '$INCLUDE',
    '@',
    'IN',
    'CH',
    'SOA',
    'TXT',
    'A',
    'TYPE65280',
    '\\#',
    '(',
    ')',
    '"',
    ';',
    '\\000',
  ],
  ...['{', '}', 'ipref', 'forward', 'file', 'transfer', 'to', 'bind', '.', '..', ':', '53', '[', '::1', '#', '/', ','],
  ...[
    '+',
    '-',
    '--',
    'AA ',
    '0',
    '65536',
    '4294967296',
    '1h',
    'a'.repeat(64),
    '\u{1f600}',
    '\0',
    '\r',
    '\t',
    '*',
    '==',
  ],
]
const AA_FAULTS = ['no_plus', 'several_plus', 'context_invalid', 'reference_invalid']

const P = {
  zone: 'zone text: nothing throws, what is printed reads the same',
  corefile: 'Corefile: nothing throws, what is accepted can be served',
  aa: 'AA strings: nothing throws, references read as they are printed',
  words: 'names, keys, endpoints: nothing throws, names read as they are printed',
} as const

export class TextsFuzzer {
  readonly #random: Random
  readonly #zones: readonly string[]
  readonly #report: Report
  readonly #watchdog: Watchdog

  constructor(random: Random, corpus: Corpus, report: Report, watchdog: Watchdog) {
    this.#random = random
    // lines of zones, besides whole ones: a whole one costs much
    this.#zones = [...corpus.zoneTexts, ...corpus.zoneTexts.flatMap(text => text.split('\n'))]
    this.#report = report
    this.#watchdog = watchdog
    report.promise(...Object.values(P))
  }

  one(): void {
    const random = this.#random
    const kind = random.below(8)
    if (kind < 2) this.#guard(P.zone, 'zone text', this.#changed(random.pick(this.#zones)), text => this.#zone(text))
    else if (kind < 4) this.#guard(P.corefile, 'Corefile', this.#corefile(), text => this.#core(text))
    else if (kind < 6) this.#guard(P.aa, 'AA strings', this.#changed(random.pick(AA_STRINGS)), text => this.#aa(text))
    else this.#guard(P.words, 'words', this.#changed(random.pick(WORDS)), text => this.#words(text))
  }

  conclude(): void {
    this.#report.requireOutcomes('zone text', ['a zone', 'records', 'problems', 'nothing'])
    this.#report.requireOutcomes('Corefile', ['accepted', 'problems'])
    this.#report.requireOutcomes('AA strings', ['read', 'none', ...AA_FAULTS])
  }

  #guard(property: string, target: string, text: string, look: (text: string) => string): void {
    const tally = this.#report.tally(target)
    const bytes = Buffer.from(text)
    tally.received++
    this.#watchdog.begin(bytes)
    try {
      tally.count(look(text))
    } catch (error) {
      tally.count('threw')
      this.#report.broken(property, (error as Error).stack ?? String(error), bytes)
    }
  }

  // words put in, lines twice, and bytes changed
  #changed(original: string): string {
    const random = this.#random
    let text = original
    for (let i = random.below(4); i > 0; i--) {
      const at = random.below(text.length + 1)
      const cut = random.oneIn(3) ? random.below(10) : 0
      text = text.slice(0, at) + random.pick(WORDS) + (random.oneIn(2) ? ' ' : '') + text.slice(at + cut)
    }
    if (random.oneIn(500)) text += random.pick(WORDS).repeat(2000)
    if (random.oneIn(4)) return text
    return Buffer.from(random.mutate(Buffer.from(text))).toString(random.oneIn(2) ? 'utf8' : 'latin1')
  }

  #corefile(): string {
    const random = this.#random
    const text = random.pick(COREFILES)
    if (random.oneIn(500)) return `${'a {\n'.repeat(random.pick([10, 100_000]))}${text}`
    if (random.oneIn(2)) return this.#changed(text)
    const lines = text.split('\n')
    for (let i = 1 + random.below(3); i > 0; i--) {
      const line = random.pick(lines)
      if (random.oneIn(2)) lines.splice(random.below(lines.length), 1)
      else lines.splice(random.below(lines.length), 0, random.oneIn(4) ? this.#changed(line) : line)
    }
    return lines.join('\n')
  }

  #zone(text: string): string {
    const { records, problems } = parseZoneText(text, { origin: ZONE, file: 'fuzz' })
    const printed = formatZone(records)
    const again = parseZoneText(printed, { origin: ZONE, file: 'fuzz' })
    if (again.problems.length > 0 || formatZone(again.records) !== printed)
      this.#report.broken(P.zone, again.problems[0]?.problem ?? 'other records', Buffer.from(text))
    const { zone } = Zone.from(ZONE, records)
    for (const { name, type } of records.slice(0, 8)) zone?.lookup(name, type)
    if (zone && zone.fingerprint() === '') return 'nothing'
    return zone ? 'a zone' : problems.length > 0 ? 'problems' : records.length > 0 ? 'records' : 'nothing'
  }

  #core(text: string): string {
    const problems: string[] = []
    const corefile = readCorefile('Corefile', () => text, problems)
    const parsed = parseResolverConfig(['-corefile', 'Corefile'], () => text)
    if (problems.length > 0) return 'problems'
    for (const { origin, listen, transferTo } of corefile?.zones ?? []) {
      const isRight =
        parseName(origin) !== undefined &&
        listen.every(one => parseEndpoint(one, 53)) &&
        transferTo.every(one => one === '*' || parseEndpoint(one, 53))
      if (!isRight) this.#report.broken(P.corefile, JSON.stringify({ origin, listen, transferTo }), Buffer.from(text))
    }
    return 'config' in parsed ? 'accepted' : 'problems'
  }

  #aa(text: string): string {
    const record = parseAaRecord(text)
    if (record === undefined) return 'none'
    if (typeof record === 'string') return record
    if (parseReference(formatReference(record.reference)) !== record.reference)
      this.#report.broken(P.aa, `reference ${record.reference}`, Buffer.from(text))
    if ('name' in record && parseName(record.name) === undefined)
      this.#report.broken(P.aa, `name ${record.name}`, Buffer.from(text))
    return 'read'
  }

  #words(text: string): string {
    parseTsigKey(text)
    parseEndpoint(text, 53)
    const name = parseName(text)
    if (name === undefined) return 'no name'
    if (parseName(formatName(name)) !== name || labelsOf(name).some(label => label.length > 63) || name.length > 255)
      this.#report.broken(P.words, formatName(name), Buffer.from(text))
    return 'a name'
  }
}
