/**
 * Mappings in a hosts file: `/etc/hosts` syntax, with the mapping after `#=` (wire.md section 1, static mappings).
 *
 *   10.1.0.10   web              #= pub + 11                     our host; `pub CONTEXT + 11` under one context only
 *   10.240.1.2  web.far          #= ext 198.51.100.2 + 11        their host, reached at 10.240.1.2
 *   10.1.0.11   printer          #= loc                          not mapped
 *
 * Only the text between the first and the second `#` counts. Of two lines with the same address the last wins. A line that is wrong is an error
 * that says what would be right; the other lines count.
 */
import { formatAddress, isUnicast, isUnspecified, parseAddress } from './address.ts'
import { isStaticEncoded, isStaticReference } from './lifetimes.ts'
import { parseReference } from './reference.ts'

export type HostRecord =
  | {
      kind: 'ours'
      address: Uint8Array
      context: Uint8Array | undefined
      reference: bigint
      names: string[]
      line: number
    }
  | { kind: 'theirs'; address: Uint8Array; context: Uint8Array; reference: bigint; names: string[]; line: number }

export interface HostsError {
  line: number
  problem: string
}

export function parseHostsFile(text: string): { records: HostRecord[]; errors: HostsError[] } {
  const records = new Map<string, HostRecord>()
  const errors: HostsError[] = []
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const record = parseLine(line, index + 1)
    if (typeof record === 'string') errors.push({ line: index + 1, problem: record })
    else if (record) {
      // set again at its new place: the last line wins, in the order of the file
      const key = formatAddress(record.address)
      records.delete(key)
      records.set(key, record)
    }
  }
  return { records: [...records.values()], errors }
}

/** A record, an error, or undefined: nothing to map. */
function parseLine(line: string, number: number): HostRecord | string | undefined {
  const [before = '', comment] = line.split('#')
  if (comment === undefined || !comment.startsWith('=')) return undefined
  const [addressText, ...names] = before.trim().split(/\s+/)
  const words = comment.slice(1).replace('+', ' + ').trim().split(/\s+/)
  const keyword = words.shift() ?? ''
  // no address: a comment that happens to begin with `=`
  if (addressText === undefined || addressText === '') return undefined
  const address = parseAddress(addressText)
  if (!address) return `${addressText} is no IP address`
  if (keyword === 'loc' || keyword === 'local') return undefined
  if (keyword === 'pub' || keyword === 'public') return parsePub(words, { address, names, line: number })
  if (keyword === 'ext' || keyword === 'external') return parseExt(words, { address, names, line: number })
  return `${keyword === '' ? 'nothing' : keyword} after \`#=\`; it is one of pub, ext, loc`
}

interface Start {
  address: Uint8Array
  names: string[]
  line: number
}

function parsePub(words: string[], start: Start): HostRecord | string {
  // without a reference it is read, and refused later as reference 0
  if (!words.includes('+') && words.length <= 1 && (words.length === 0 || parseAddress(words[0]!)))
    words = [...words, '+', '0']
  const parsed = parseRemote(words)
  if (typeof parsed === 'string') return `${parsed}; write pub + REFERENCE, or pub CONTEXT + REFERENCE`
  const { context, reference } = parsed
  if (!isStaticReference(reference))
    return 'a static reference has less than 16 in bits 15..8 (8-15 of its low 16 bits); those above are for dynamic mappings'
  return { kind: 'ours', ...start, context: context && isUnspecified(context) ? undefined : context, reference }
}

function parseExt(words: string[], start: Start): HostRecord | string {
  const parsed = parseRemote(words)
  if (typeof parsed === 'string') return `${parsed}; write ext CONTEXT + REFERENCE`
  const { context, reference } = parsed
  if (!context) return 'ext needs the address of their gateway; write ext CONTEXT + REFERENCE'
  if (!isStaticEncoded(start.address))
    return 'a static encoded address has less than 16 in its second-to-last byte; those above are for dynamic mappings'
  return { kind: 'theirs', ...start, context, reference }
}

// [CONTEXT] + REFERENCE, or REFERENCE alone
function parseRemote(words: readonly string[]): { context: Uint8Array | undefined; reference: bigint } | string {
  const plus = words.indexOf('+')
  const contextText = plus > 0 ? words[0] : undefined
  const rest = plus >= 0 ? words.slice(plus + 1) : words
  if (plus > 1 || rest.length !== 1)
    return rest.length === 0 ? 'the reference is missing' : `cannot read \`${words.join(' ')}\``
  const context = contextText === undefined ? undefined : parseAddress(contextText)
  if (contextText !== undefined && !context) return `${contextText} is no IP address`
  if (context && !isUnicast(context) && !isUnspecified(context))
    return `${contextText} cannot be the address of a gateway`
  const reference = parseReference(rest[0]!)
  if (reference === undefined) return `${rest[0]} is no reference`
  return { context, reference }
}
