/**
 * Does this node forward, and would FORWARD drop what goes to or from encoded addresses? Read from nftables' own listing (iptables-nft is in it), never
 * changed.
 *
 * Two packets that begin a connection, one in each direction, are sent through each chain of type filter at the forward hook whose policy is drop.
 * A match has three outcomes: yes, no, cannot tell. An accept that certainly matches lets the packet pass; one that may match leaves
 * the answer open, and then nothing is said: traffic itself will tell (the counters "entered" and "left" of nodeTable.ts).
 */
import { parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import type { Hindrance } from '../../runtime/steps.ts'
import { familyOfText } from './nodeDesired.ts'
import { NODE_TABLE } from './nodeMarks.ts'

export interface Sample {
  name: string
  source: string
  destination: string
  /** undefined: cannot be told */
  incoming: string | undefined
  outgoing: string | undefined
}

export interface ForwardChain {
  family: string
  table: string
  name: string
}

type Expression = Record<string, unknown>
type Verdict = 'accept' | 'drop' | 'unknown' | 'none'
interface Chain extends ForwardChain {
  type?: string
  hook?: string
  policy?: string
}
interface Listed {
  nftables?: { chain?: Chain; rule?: ForwardRule }[]
}
interface ForwardRule {
  table: string
  chain: string
  family: string
  expr?: Expression[]
}

const MOST_JUMPS = 16

/** Below /proc/sys/net; `setting`: its text, undefined where it is not there. */
export function forwardingProblems(
  families: readonly (4 | 6)[],
  setting: (path: string) => string | undefined,
): Hindrance[] {
  const settings = [
    { family: 4, path: 'ipv4/ip_forward', key: 'net.ipv4.ip_forward' },
    { family: 6, path: 'ipv6/conf/all/forwarding', key: 'net.ipv6.conf.all.forwarding' },
  ] as const
  return settings
    .filter(({ family }) => families.includes(family))
    .filter(({ path }) => setting(path) === '0')
    .map(({ key }) => ({ what: `this node does not forward packets: ${key} is 0`, fix: `sysctl -w ${key}=1` }))
}

/** `list`: of nftables, parsed (sys/nft.ts). */
export async function forwardProblems(
  { samples, encodingNetworks }: { samples: readonly Sample[]; encodingNetworks: readonly string[] },
  list: (what: string) => Promise<unknown>,
): Promise<Hindrance[]> {
  const problems: Hindrance[] = []
  for (const chain of droppingChains(await list('chains'))) {
    const { family, table, name } = chain
    const dropped = droppedBy(chain, await list(`table ${family} ${table}`), samples)
    if (dropped.length > 0)
      problems.push({
        what: `chain ${name} of nftables table ${family} ${table} drops ${dropped.map(sample => sample.name).join(' and ')}`,
        fix: `let it accept ${encodingNetworks.join(', ')} as source and as destination`,
      })
  }
  return problems
}

/** Chains at the forward hook that drop by policy, out of `nft -j list chains`. */
export function droppingChains(listed: unknown): ForwardChain[] {
  return (((listed as Listed | undefined)?.nftables ?? []).flatMap(entry => entry.chain ?? []) as Chain[])
    .filter(chain => chain.type === 'filter' && chain.hook === 'forward' && chain.policy === 'drop')
    .filter(chain => ['ip', 'ip6', 'inet'].includes(chain.family) && chain.table !== NODE_TABLE)
    .map(({ family, table, name }) => ({ family, table, name }))
}

/** What this chain drops of the samples, out of `nft -j list table …` of its table. */
export function droppedBy(chain: ForwardChain, listed: unknown, samples: readonly Sample[]): Sample[] {
  const rules = ((listed as Listed | undefined)?.nftables ?? []).flatMap(entry => entry.rule ?? [])
  const families = { ip: [4], ip6: [6] }[chain.family] ?? [4, 6]
  return samples
    .filter(sample => families.includes(familyOfText(sample.source)))
    .filter(sample => {
      const verdict = walk(chain.name, rules, sample, 0)
      return verdict === 'drop' || verdict === 'none'
    })
}

function walk(chain: string, rules: readonly ForwardRule[], sample: Sample, depth: number): Verdict {
  if (depth > MOST_JUMPS) return 'unknown'
  let isOpen = false
  for (const rule of rules.filter(one => one.chain === chain)) {
    const expressions = rule.expr ?? []
    const outcome = expressions.reduce<boolean | undefined>((so, one) => and(so, matches(one, sample)), true)
    if (outcome === false) continue
    const verdict = verdictOf(expressions, rules, sample, depth)
    if (verdict === 'return' && outcome) break
    if (verdict === 'unknown' || (outcome === undefined && verdict === 'accept')) isOpen = true
    else if (outcome && (verdict === 'accept' || verdict === 'drop')) return isOpen ? 'unknown' : verdict
  }
  return isOpen ? 'unknown' : 'none'
}

function verdictOf(
  expressions: readonly Expression[],
  rules: readonly ForwardRule[],
  sample: Sample,
  depth: number,
): Verdict | 'return' {
  for (const one of expressions) {
    if ('accept' in one) return 'accept'
    if ('drop' in one || 'reject' in one) return 'drop'
    if ('return' in one) return 'return'
    const target = ((one.jump ?? one.goto) as { target?: string } | undefined)?.target
    if (target !== undefined) return walk(target, rules, sample, depth + 1)
    // what iptables has and nft does not, and maps of verdicts
    if ('xt' in one || 'vmap' in one) return 'unknown'
  }
  return 'none'
}

function and(one: boolean | undefined, other: boolean | undefined): boolean | undefined {
  if (one === false || other === false) return false
  return one === undefined || other === undefined ? undefined : true
}

/** undefined: cannot be told. What is no match does not keep a packet from going on. */
function matches(expression: Expression, sample: Sample): boolean | undefined {
  if ('xt' in expression) return undefined
  const match = expression.match as { op: string; left: Expression; right: unknown } | undefined
  if (!match) return true
  const { op, left, right } = match
  const found = lookUp(left, right, sample)
  return found === undefined ? undefined : op === '!=' ? !found : found
}

function lookUp(left: Expression, right: unknown, sample: Sample): boolean | undefined {
  const payload = left.payload as { protocol?: string; field?: string } | undefined
  if (payload?.field === 'saddr' || payload?.field === 'daddr') {
    const address = payload.field === 'saddr' ? sample.source : sample.destination
    if ((payload.protocol === 'ip') !== (familyOfText(address) === 4)) return false
    return among(right, member => holds(member, address))
  }
  const meta = (left.meta as { key?: string } | undefined)?.key
  if (meta === 'iifname' || meta === 'oifname') {
    const name = meta === 'iifname' ? sample.incoming : sample.outgoing
    return name === undefined ? undefined : among(right, member => isName(member, name))
  }
  if (meta === 'nfproto')
    return among(right, member => member === (familyOfText(sample.source) === 4 ? 'ipv4' : 'ipv6'))
  if (isMark(left)) return among(right, member => member === 0)
  const state = (left.ct as { key?: string } | undefined)?.key
  return state === 'state' ? among(right, member => member === 'new') : undefined
}

// packets that nobody marked have mark 0, and so has every part of it
function isMark(left: Expression): boolean {
  const masked = (left['&'] as [Expression] | undefined)?.[0]
  return ((masked ?? left).meta as { key?: string } | undefined)?.key === 'mark'
}

function among(right: unknown, isIt: (member: unknown) => boolean | undefined): boolean | undefined {
  const members = Array.isArray(right) ? right : ((right as { set?: unknown[] } | null)?.set ?? [right])
  const outcomes = members.map(isIt)
  if (outcomes.includes(true)) return true
  return outcomes.includes(undefined) ? undefined : false
}

function holds(member: unknown, address: string): boolean | undefined {
  const bytes = parseAddress(address)
  const { prefix } = (member ?? {}) as { prefix?: { addr: string; len: number } }
  const text = prefix ? `${prefix.addr}/${prefix.len}` : typeof member === 'string' ? member : undefined
  if (!bytes || text === undefined || text.startsWith('@')) return undefined
  if (!text.includes('/')) return text === address
  const network = parsePrefix(text)
  return network ? prefixContains(network, bytes) : undefined
}

function isName(member: unknown, name: string): boolean | undefined {
  if (typeof member !== 'string' || member.startsWith('@')) return undefined
  return member.endsWith('*') ? name.startsWith(member.slice(0, -1)) : member === name
}
