/**
 * What is wrong with the strings of one TXT record that are AA records, or were meant as such (wire.md section 1, AA records), and what would be right.
 *
 *   "AA gw.example.com + 11"        right
 *   "aa gw.example.com + 11"        not seen as an AA record by anybody: upper case, one space
 *   "AA gw.example.com" "+ 11"      torn: the strings of a record are looked at one by one
 *   "v=spf1 -all"                   none of ours
 *
 * Pure. Read by `ipref aa lint` (aaLint.ts) and by the trace of a name.
 */
import { type AaFault, type AaRecord, parseAaRecord } from '../ipref/aaRecord.ts'
import { formatAddress, isLinkLocal, isLoopback, isUnicast, isUnspecified, parseAddress } from '../ipref/address.ts'
import { isStaticReference } from '../ipref/lifetimes.ts'
import { formatReference } from '../ipref/reference.ts'
import { countLabels, parseName } from './name.ts'

/** The rules by which something is found; also the names in `--json`. */
export type AaRule =
  | 'prefix'
  | 'torn'
  | 'characters'
  | 'plus'
  | 'reference'
  | 'reference-zero'
  | 'reference-gateway'
  | 'reference-dynamic'
  | 'context'
  | 'context-private'
  | 'context-unqualified'

export interface AaFinding {
  rule: AaRule
  severity: 'error' | 'warning'
  what: string
  right: string
}

export interface AaJudgement {
  /** as it stands in the record, or as it was meant, joined */
  text: string
  /** undefined: nobody takes it as an AA record */
  record: AaRecord | undefined
  findings: AaFinding[]
}

const EXAMPLE = 'AA gw.example.com + 11'
const HEX = /^[0-9a-f]+$/i
const KINDS_OF_PRIVATE = [
  { shown: '10.0.0.0/8', is: (a: Uint8Array) => a.length === 4 && a[0] === 10 },
  { shown: '172.16.0.0/12', is: (a: Uint8Array) => a.length === 4 && a[0] === 172 && (a[1]! & 0xf0) === 16 },
  { shown: '192.168.0.0/16', is: (a: Uint8Array) => a.length === 4 && a[0] === 192 && a[1] === 168 },
  { shown: '100.64.0.0/10', is: (a: Uint8Array) => a.length === 4 && a[0] === 100 && (a[1]! & 0xc0) === 64 },
  { shown: 'fc00::/7', is: (a: Uint8Array) => a.length === 16 && (a[0]! & 0xfe) === 0xfc },
]

/** Of one TXT record; strings that have nothing to do with AA records are left out. */
export function judgeStrings(strings: readonly string[]): AaJudgement[] {
  const judgements: AaJudgement[] = []
  for (let at = 0; at < strings.length; at++) {
    const torn = tornFrom(strings, at)
    if (torn) {
      judgements.push(torn.judgement)
      at = torn.last
      continue
    }
    const judgement = judgeString(strings[at]!)
    if (judgement) judgements.push(judgement)
  }
  return judgements
}

// the longest run of strings that makes one AA record when put together
function tornFrom(strings: readonly string[], first: number): { judgement: AaJudgement; last: number } | undefined {
  if (!/^\s*aa(\s|$)/i.test(strings[first]!)) return undefined
  for (let last = strings.length - 1; last > first; last--) {
    const parts = strings.slice(first, last + 1)
    const [joined, spaced] = [parseAaRecord(parts.join('')), parseAaRecord(parts.join(' '))]
    const meant = typeof joined === 'object' ? joined : spaced
    if (typeof meant !== 'object') continue
    const text = formatAa(meant)
    const shown = parts.map(part => `"${part}"`).join(' ')
    const finding = finds('torn', `one AA record in ${parts.length} strings: ${shown}`, `one string, "${text}"`)
    return { judgement: { text, record: undefined, findings: [finding] }, last }
  }
  return undefined
}

/** undefined: not meant as an AA record. */
export function judgeString(text: string): AaJudgement | undefined {
  if (text.startsWith('AA ')) return judgeAa(text)
  const meant = meantAs(text)
  if (meant === undefined) return undefined
  const finding = finds('prefix', `${meant.why}: "${shown(text)}"`, `"${meant.text}"`)
  return { text: meant.text, record: undefined, findings: [finding] }
}

// a text that is no AA record to anybody, but would be after one step
function meantAs(text: string): { text: string; why: string } | undefined {
  const plain = text.trim().replace(/^"(.*)"$/, '$1')
  const keyword = /^aa[\s:=\xc2]+(?=\S)/i.exec(plain)
  if (keyword) {
    const rest = plain.slice(keyword[0].length)
    if (!rest.includes('+')) return undefined
    const why = plain.startsWith('AA ')
      ? plain === text.trim()
        ? 'blanks before AA'
        : 'quotes are part of the text'
      : keyword[0].startsWith('AA')
        ? 'AA is followed by something else than a space'
        : 'AA is written in upper case'
    return { text: `AA ${rest}`, why }
  }
  const [rest, why] = /^AA\S/.test(plain)
    ? [plain.slice(2), 'no space behind AA']
    : [plain, 'AA and a space are missing before it']
  const record = parseAaRecord(`AA ${rest}`)
  if (typeof record !== 'object') return undefined
  // a word with a plus in it is anything; an address or a name with dots is meant
  return 'context' in record || /[a-z].*\.[a-z]/i.test(record.name) ? { text: `AA ${rest}`, why } : undefined
}

function judgeAa(text: string): AaJudgement {
  const record = parseAaRecord(text)
  if (/[^ -~\t]/.test(text)) {
    const finding = finds('characters', `"${shown(text)}" has characters that are not printable ASCII`, `"${EXAMPLE}"`)
    return { text, record: typeof record === 'object' ? record : undefined, findings: [finding] }
  }
  if (typeof record === 'string') return { text, record: undefined, findings: [explainFault(text, record)] }
  if (!record) return { text, record: undefined, findings: [] }
  const findings = [...judgeReference(text, record.reference), ...judgePlace(record)]
  return { text, record, findings }
}

function explainFault(text: string, fault: AaFault): AaFinding {
  const [where = '', after = '', ...more] = text
    .slice(3)
    .split('+')
    .map(part => part.trim())
  if (fault === 'no_plus')
    return finds('plus', `"${text}" has no + between context and reference`, `"${EXAMPLE}", and other texts without AA`)
  if (fault === 'several_plus') {
    if (after === '' && more.length === 1)
      return finds('plus', `"${text}" has a sign before the reference`, `"AA ${where} + ${more[0]}"`)
    return finds('plus', `"${text}" has more than one +`, 'one string for each IPREF address')
  }
  if (fault === 'context_invalid') return explainContext(text, where, after)
  return finds('reference', explainReference(text, after), rightReference(where, after))
}

function explainContext(text: string, where: string, reference: string): AaFinding {
  const bare = where.replace(/^\[(.*)\](:\d+)?$/, '$1').replace(/^(\d+\.\d+\.\d+\.\d+)[:/]\d+$/, '$1')
  if (where === '') return finds('context', `"${text}" has no context before the +`, `"${EXAMPLE}"`)
  if (bare !== where && parseAddress(bare))
    return finds('context', `${where} is an address and more`, `"AA ${bare} + ${reference}"`)
  const kind = /^[\d.]+$/.test(where) ? 'no IPv4 address' : 'neither an address nor a name of a host'
  return finds('context', `${where} is ${kind}`, `the address or the name of a gateway, as in "${EXAMPLE}"`)
}

function explainReference(text: string, reference: string): string {
  if (reference === '') return `"${text}" has no reference behind the +`
  if (/^-\d/.test(reference)) return `${reference} has a sign; references have none`
  if (/\s/.test(reference)) return `"${reference}" is more than a reference`
  if (/^\d+$/.test(reference)) return `${reference} is above 2^128 - 1, the largest reference`
  if (/^(0x)?[0-9a-f]+$/i.test(reference)) return `${reference} is no decimal number, and hexadecimal needs dashes`
  if (reference.startsWith('-') || reference.split('--').length > 2)
    return `${reference} is no reference: -- stands once, between or behind groups`
  return `${reference} is no reference: groups of 1 to 4 hexadecimal digits joined by -, at most 8 of them`
}

function rightReference(where: string, reference: string): string {
  const digits = reference.replace(/^0x/i, '')
  const sign = /^-(\d+)$/.exec(reference)?.[1]
  if (sign) return `"AA ${where} + ${sign}"`
  const isHex = HEX.test(digits) && !/^\d+$/.test(reference) && digits.length <= 32
  if (isHex) return `"AA ${where} + ${formatReference(BigInt(`0x${digits}`))}"`
  return 'a number such as 11, or groups such as 0-7000'
}

function judgeReference(text: string, value: bigint): AaFinding[] {
  if (value === 0n) return [finds('reference-zero', '0 is no reference', 'a number from 2 on')]
  if (value === 1n)
    return [warns('reference-gateway', 'reference 1 is the gateway itself', 'the reference of a host, from 2 on')]
  const written = text.slice(text.indexOf('+') + 1).trim()
  if (/^0\d/.test(written) && !written.includes('-'))
    return [warns('reference', `${written} has zeros before it; it is read as decimal`, formatReference(value))]
  if (!isStaticReference(value))
    return [
      warns(
        'reference-dynamic',
        `reference ${written} has 16 or more in its bits 15..8, which gateways keep for hosts that nobody published`,
        `another, such as ${formatReference(value & ~0xf000n)}`,
      ),
    ]
  return []
}

function judgePlace(record: AaRecord): AaFinding[] {
  if ('context' in record) return judgeContext(record.context)
  const name = parseName(record.name)
  if (name && countLabels(name) > 1) return []
  const what = `${record.name} is no complete name, and nobody looks it up`
  return [finds('context-unqualified', what, `the whole name, ${record.name.replace(/\.$/, '')}.example.com`)]
}

/** Of an address that is the context of an AA record, or that its name resolves to. */
export function judgeContext(context: Uint8Array): AaFinding[] {
  const text = formatAddress(context)
  const right = 'the address at which other networks reach the gateway'
  if (isUnspecified(context)) return [finds('context', `context ${text} is nobody's address`, right)]
  if (!isUnicast(context) || isLoopback(context) || isLinkLocal(context))
    return [finds('context', `context ${text} is no unicast address that can be reached from elsewhere`, right)]
  const kind = KINDS_OF_PRIVATE.find(({ is }) => is(context))
  if (!kind) return []
  return [
    warns('context-private', `context ${text} is private (${kind.shown}); only your own networks reach it`, right),
  ]
}

/** The canonical text of what an AA record says. */
export function formatAa(record: AaRecord): string {
  return `AA ${'name' in record ? record.name : formatAddress(record.context)} + ${formatReference(record.reference)}`
}

/** For messages: bytes that a terminal would not show as `\DDD`. */
function shown(text: string): string {
  return text.replace(/[^ -~]/g, c => `\\${String(c.charCodeAt(0)).padStart(3, '0')}`)
}

function finds(rule: AaRule, what: string, right: string): AaFinding {
  return { rule, severity: 'error', what, right }
}

function warns(rule: AaRule, what: string, right: string): AaFinding {
  return { rule, severity: 'warning', what, right }
}
