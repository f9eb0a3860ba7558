/**
 * Our block in a Corefile of CoreDNS: names of other networks, and our own, go to the resolvers. Pure.
 *
 *   # BEGIN ipref sha256:<hash of the lines between>
 *   example.com other.example.net {
 *       errors
 *       cache 30
 *       forward . 10.96.0.53
 *   }
 *   # END ipref
 *
 * Everything outside the two markers is left as it is, byte for byte. Where the lines between do not have the hash of their marker somebody changed them, and they
 * are his. A zone that another block serves is left out: CoreDNS refuses to start with two; so is one that would take the cluster's own names away.
 */
import { createHash } from 'node:crypto'
import { DNS_NAME } from '../../resources/schema/texts.ts'

export interface BlockWanted {
  domains: readonly string[]
  /** ADDRESS, or ADDRESS:PORT */
  resolver: string
}

export interface Edited {
  /** undefined: nothing is to be changed */
  text: string | undefined
  /** what a person should know */
  problems: string[]
}

const BEGIN = '# BEGIN ipref'
const END = '# END ipref'
/** `joined`: the text before had no end of line at its end, and gets that back */
const BLOCK = /^# BEGIN ipref(?: sha256:([0-9a-f]*))?( joined)?[^\n]*\n([\s\S]*?)^# END ipref[^\n]*(?:\n|$)/m
const wholeName = new RegExp(DNS_NAME)
/** In every cluster; the Corefile may name others. */
const CLUSTER_ZONES = ['cluster.local', 'in-addr.arpa', 'ip6.arpa']

/** The lines to add by hand, without markers. */
export function stubDomains({ domains, resolver }: BlockWanted): string {
  const names = [...new Set(domains)].filter(name => wholeName.test(name)).sort()
  if (names.length === 0) return ''
  return `${names.join(' ')} {\n    errors\n    cache 30\n    forward . ${resolver}\n}\n`
}

/** The Corefile with our block as it shall be. */
export function withBlock(corefile: string, wanted: BlockWanted): Edited {
  const found = findBlock(corefile)
  if (typeof found === 'string') return { text: undefined, problems: [found] }
  const others = found ? corefile.slice(0, found.start) + corefile.slice(found.end) : corefile
  const { domains, problems } = allowed(wanted.domains, others)
  const lines = stubDomains({ ...wanted, domains })
  if (found?.lines === lines) return { text: undefined, problems }
  const [before, after] = found ? [corefile.slice(0, found.start), corefile.slice(found.end)] : [corefile, '']
  const isJoined = before !== '' && !before.endsWith('\n')
  const block = lines === '' ? '' : marked(lines, isJoined)
  const text = `${before}${isJoined && block !== '' ? '\n' : ''}${block}${after}`
  return { text: text === corefile ? undefined : text, problems }
}

/** The Corefile without it. */
export function withoutBlock(corefile: string): Edited {
  const found = findBlock(corefile)
  if (typeof found === 'string') return { text: undefined, problems: [found] }
  return { text: found ? corefile.slice(0, found.start) + corefile.slice(found.end) : undefined, problems: [] }
}

function marked(lines: string, isJoined: boolean): string {
  return `${BEGIN} sha256:${hashOf(lines)}${isJoined ? ' joined' : ''} (kept by the ipref operator; edit it, and it is left alone)\n${lines}${END}\n`
}

function hashOf(lines: string): string {
  return createHash('sha256').update(lines).digest('hex')
}

/** A text: why it is not to be touched. undefined: there is none. */
function findBlock(corefile: string): { start: number; end: number; lines: string } | string | undefined {
  const begins = corefile.split(BEGIN).length - 1
  const match = BLOCK.exec(corefile)
  if (!match)
    return begins === 0 && !corefile.includes(END)
      ? undefined
      : `the Corefile has one of "${BEGIN}" and "${END}" without the other: put it back, or take both away`
  if (begins > 1) return `the Corefile has several "${BEGIN}": leave one of the blocks, or none`
  const [whole, hash, joined, lines] = match as unknown as [string, string?, string?, string?]
  if (lines === undefined || hash !== hashOf(lines))
    return `somebody changed the block between "${BEGIN}" and "${END}": it is left alone; take it away, markers included, and it is made anew`
  return { start: match.index - (joined ? 1 : 0), end: match.index + whole.length, lines }
}

function allowed(domains: readonly string[], others: string): { domains: string[]; problems: string[] } {
  const { served, cluster } = zonesOf(others)
  const kept: string[] = []
  const problems: string[] = []
  for (const name of new Set(domains)) {
    const own = [...cluster, ...CLUSTER_ZONES].find(zone => zone === name || zone.endsWith(`.${name}`))
    if (!wholeName.test(name)) problems.push(`${JSON.stringify(name)} is no domain`)
    else if (own !== undefined) problems.push(`${name} would take ${own} away from the cluster: it is left out`)
    else if (served.has(name)) problems.push(`another block of the Corefile serves ${name}: it is left out`)
    else kept.push(name)
  }
  return { domains: kept, problems }
}

/** Zones that server blocks are for, and those of the kubernetes plugin. */
function zonesOf(corefile: string): { served: Set<string>; cluster: string[] } {
  const served = new Set<string>()
  const cluster: string[] = []
  let depth = 0
  // zones of one block may stand in several lines, with or without commas
  let heads: string[] = []
  for (const line of corefile.split('\n')) {
    const words = line
      .replace(/#.*/, '')
      .split(/[\s,]+/)
      .filter(word => word !== '')
    if (depth === 0) heads.push(...words.filter(word => word !== '{' && word !== '}'))
    else if (words[0] === 'kubernetes') cluster.push(...words.slice(1).filter(word => word !== '{'))
    for (const word of words) {
      if (word === '{' || (depth === 0 && word.endsWith('{'))) depth++
      else if (word === '}') depth--
    }
    if (depth > 0 && heads.length > 0) {
      for (const head of heads) served.add(zoneOfHead(head))
      heads = []
    }
  }
  return { served, cluster: cluster.map(zoneOfHead) }
}

/** `dns://example.com.:53{` is example.com. */
function zoneOfHead(text: string): string {
  return text
    .replace(/\{$/, '')
    .replace(/^\w+:\/\//, '')
    .replace(/:\d+$/, '')
    .replace(/\.$/, '')
    .toLowerCase()
}
