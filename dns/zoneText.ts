/**
 * Zone text, the master file of RFC 1035 section 5, with $TTL of RFC 2308 section 4: text to records, and back.
 *
 *   $ORIGIN example.com.
 *   $TTL 1h
 *   @      IN SOA ns1 admin (1 1h 10m 1w 5m)   ; parentheses: the record goes on in the next line
 *          IN NS  ns1                          ; starts with a blank: the name of the record before
 *   ns1    IN A   192.0.2.1
 *
 * One pass, linear in the text. Text is Unicode; characters beyond ASCII become their UTF-8 bytes. Every mistake is reported with its line, and the
 * record that has it is left out. $INCLUDE and $GENERATE are refused: one file holds one zone. Where a TTL is nowhere said it is that of the
 * record before, or the minimum of the SOA record.
 */
import { Class, formatType, parseType, Type } from './constants.ts'
import { decodeSoa, type ResourceRecord } from './message.ts'
import { formatName, type Name, parseName } from './name.ts'
import { formatData, parseData, parseTtl, show, type Token } from './rdata.ts'

export interface ZoneTextSettings {
  /** what names without a dot at their end are below, until $ORIGIN says otherwise */
  origin: Name
  /** for the problems */
  file: string
}

export interface ZoneTextProblem {
  file: string
  line: number
  problem: string
}

export interface ParsedZoneText {
  records: ResourceRecord[]
  /** of each record, where it starts */
  lines: number[]
  problems: ZoneTextProblem[]
}

export function describeProblem({ file, line, problem }: ZoneTextProblem): string {
  return `${file}:${line}: ${problem}`
}

const MOST_PROBLEMS = 100
const NOT_IN_ZONES: ReadonlySet<number> = new Set([
  0,
  Type.OPT,
  Type.TSIG,
  Type.IXFR,
  Type.AXFR,
  Type.MAILA,
  Type.MAILB,
  Type.ANY,
])

export function parseZoneText(text: string, settings: ZoneTextSettings): ParsedZoneText {
  const parser = new Parser(settings)
  const start = text.startsWith('\ufeff') ? 1 : 0
  // from here on one character is one byte
  const bytes = /[^\0-\x7f]/.test(text) ? Buffer.from(text.slice(start)).toString('latin1') : text
  const scanner = new Scanner(bytes, (line, problem) => parser.tell(line, problem))
  for (let entry = scanner.next(); entry; entry = scanner.next()) {
    if (parser.problems.length > MOST_PROBLEMS) break
    parser.take(entry)
  }
  const { records, lines, problems } = parser
  return { records, lines, problems }
}

// ---- words

/** A record or directive: one line, or several held together by parentheses. */
interface Entry {
  line: number
  startsBlank: boolean
  tokens: Token[]
}

const isBlank = (c: string | undefined) => c === ' ' || c === '\t'
const ENDS_WORD = /[ \t\r\n;()"]/

class Scanner {
  readonly #text: string
  readonly #tell: (line: number, problem: string) => void
  #at = 0
  #line = 1

  constructor(text: string, tell: (line: number, problem: string) => void) {
    this.#text = text
    this.#tell = tell
  }

  /** undefined: the text is at its end. Entries with broken words are reported and left out. */
  next(): Entry | undefined {
    while (this.#at < this.#text.length) {
      const entry = this.#entry()
      if (entry && entry.tokens.length > 0) return entry
    }
    return undefined
  }

  #entry(): Entry | undefined {
    const text = this.#text
    const entry: Entry = { line: this.#line, startsBlank: isBlank(text[this.#at]), tokens: [] }
    const opened: number[] = []
    let isRight = true
    const wrong = (line: number, problem: string) => {
      isRight = false
      this.#tell(line, problem)
    }
    while (this.#at < text.length) {
      const c = text[this.#at]!
      if (c === '\n') {
        this.#at++
        this.#line++
        if (opened.length === 0) return isRight ? entry : undefined
      } else if (c === '(') {
        opened.push(this.#line)
        this.#at++
      } else if (c === ')') {
        if (opened.pop() === undefined) wrong(this.#line, 'a ) without a ( before it: remove it')
        this.#at++
      } else if (c === ';') this.#skipComment()
      else if (isBlank(c) || c === '\r') this.#at++
      else {
        if (entry.tokens.length === 0) entry.line = this.#line
        const token = c === '"' ? this.#quoted() : this.#word()
        if (token) entry.tokens.push(token)
        else wrong(this.#line, 'a text that starts with " does not end in this line: put " at its end')
      }
    }
    if (opened.length > 0) wrong(opened[0]!, 'a ( that is never closed: put ) at the end of the record')
    return isRight ? entry : undefined
  }

  #skipComment(): void {
    const end = this.#text.indexOf('\n', this.#at)
    this.#at = end < 0 ? this.#text.length : end
  }

  #word(): Token {
    const start = this.#at
    const text = this.#text
    while (this.#at < text.length && !ENDS_WORD.test(text[this.#at]!)) this.#step()
    return { text: text.slice(start, this.#at), isQuoted: false }
  }

  // undefined: it does not end; the rest of the line is skipped
  #quoted(): Token | undefined {
    const start = ++this.#at
    const text = this.#text
    while (this.#at < text.length && text[this.#at] !== '\n') {
      if (text[this.#at] === '"') return { text: text.slice(start, this.#at++), isQuoted: true }
      this.#step()
    }
    return undefined
  }

  // a character after \ is taken as it is, but for the end of the line
  #step(): void {
    const isEscape =
      this.#text[this.#at] === '\\' && this.#at + 1 < this.#text.length && this.#text[this.#at + 1] !== '\n'
    this.#at += isEscape ? 2 : 1
  }
}

// ---- records

class Parser {
  readonly records: ResourceRecord[] = []
  readonly lines: number[] = []
  readonly problems: ZoneTextProblem[] = []
  readonly #file: string
  #origin: Name
  #owner: Name | undefined
  #defaultTtl: number | undefined
  #lastTtl: number | undefined

  constructor(settings: ZoneTextSettings) {
    this.#file = settings.file
    this.#origin = settings.origin
  }

  tell(line: number, problem: string): void {
    const { length } = this.problems
    if (length > MOST_PROBLEMS) return
    if (length === MOST_PROBLEMS) problem = 'too many problems: the rest was not read'
    this.problems.push({ file: this.#file, line, problem })
  }

  take(entry: Entry): void {
    const first = entry.tokens[0]!
    const problem = first.text.startsWith('$') && !first.isQuoted ? this.#directive(entry.tokens) : this.#record(entry)
    if (problem !== undefined) this.tell(entry.line, problem)
  }

  #directive([name, value, ...rest]: readonly Token[]): string | undefined {
    const keyword = name!.text.toUpperCase()
    if (keyword === '$INCLUDE') return '$INCLUDE is not supported: write the records of that file here'
    if (keyword === '$GENERATE') return '$GENERATE is not supported: write each record out'
    if (keyword !== '$ORIGIN' && keyword !== '$TTL') return `${show(name!.text)} is none of $ORIGIN and $TTL`
    const right = keyword === '$TTL' ? '$TTL 1h' : '$ORIGIN example.com.'
    if (!value || rest.length > 0) return `${keyword} has one word after it: write ${right}`
    if (keyword === '$TTL') {
      const ttl = parseTtl(value.text)
      if (ttl === undefined) return `${show(value.text)} is no time: write ${right}`
      this.#defaultTtl = ttl
      return undefined
    }
    const origin = parseName(value.text, this.#origin)
    if (origin === undefined) return `${show(value.text)} is no name: write ${right}`
    this.#origin = origin
    return undefined
  }

  #record({ line, startsBlank, tokens }: Entry): string | undefined {
    let at = 0
    if (!startsBlank) {
      const text = tokens[at++]!.text
      this.#owner = parseName(text, this.#origin)
      if (this.#owner === undefined)
        return `${show(text)} is no name: labels have 1 to 63 characters, a name at most 253, and no two dots meet`
    }
    const name = this.#owner
    if (name === undefined)
      return 'a line that starts with a blank takes its name from the record before, which has none: write @ for the zone itself'
    // class and TTL in either order, at most one of each
    let ttl: number | undefined
    let hasClass = false
    for (; at < tokens.length; at++) {
      const { text } = tokens[at]!
      const given = ttl === undefined && /^\d/.test(text) ? parseTtl(text) : undefined
      if (given !== undefined) ttl = given
      else if (!hasClass && isClass(text)) {
        hasClass = true
        if (!/^(IN|CLASS1)$/i.test(text)) return `class ${text} is not served: write IN`
      } else break
    }
    const type = parseRecordType(tokens[at])
    if (typeof type === 'string') return type
    if (ttl !== undefined) this.#lastTtl = ttl
    const data = parseData(type, tokens.slice(at + 1), this.#origin)
    if (typeof data === 'string') return data
    ttl ??= this.#defaultTtl ?? this.#lastTtl ?? (type === Type.SOA ? decodeSoa(data).minimum & 0x7fffffff : undefined)
    if (ttl === undefined) return 'the record has no TTL: write $TTL 1h before the first record'
    this.#lastTtl = ttl
    this.records.push({ name, type, class: Class.IN, ttl, data })
    this.lines.push(line)
    return undefined
  }
}

function isClass(text: string): boolean {
  return /^(IN|CH|HS|CS|ANY|NONE|CLASS\d{1,5})$/i.test(text)
}

function parseRecordType(token: Token | undefined): number | string {
  const right = 'write NAME [TTL] [IN] TYPE DATA, such as www 1h IN A 192.0.2.1'
  if (!token) return `the record has no type: ${right}`
  const type = parseType(token.text)
  if (type === undefined) return `${show(token.text)} is neither a type nor a TTL: ${right}`
  return NOT_IN_ZONES.has(type) ? `${formatType(type)} is no type of records in a zone: ${right}` : type
}

// ---- printing

/** One record a line, every name complete. Reading it gives the same records. */
export function formatZone(records: Iterable<ResourceRecord>): string {
  let text = ''
  for (const record of records) text += `${formatRecord(record)}\n`
  return text
}

export function formatRecord({ name, type, class: recordClass, ttl, data }: ResourceRecord): string {
  const className = recordClass === Class.IN ? 'IN' : `CLASS${recordClass}`
  return `${formatName(name)}\t${ttl}\t${className}\t${formatType(type)}\t${formatData(type, data)}`
}
