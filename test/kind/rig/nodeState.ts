/**
 * What a node looks like to a program that should leave no trace: rules, routes, links, sysctls, files, as lines that can be compared.
 *
 *   stateOf(node) ── before ─┐
 *   … install, uninstall …   ├─► differences(before, after): what is there now and was not, and the other way round
 *   stateOf(node) ── after ──┘
 *
 * Left out is what changes by itself: counters, what belongs to the pods that happen to run (their veth devices, routes to them), and what kube-proxy has for
 * Services that happen to be there.
 */
import type { Cluster } from './cluster.ts'

/** Each: a shell line on the node, and what of a line counts; undefined: nothing. */
const LOOKS: Record<string, { line: string; keep?(line: string): string | undefined }> = {
  nftables: { line: 'nft list ruleset', keep: withoutCounters },
  'iptables-legacy': { line: 'iptables-legacy-save; ip6tables-legacy-save', keep: withoutCounters },
  routes: { line: 'ip route show table all; ip -6 route show table all' },
  'policy rules': { line: 'ip rule; ip -6 rule' },
  links: { line: 'ip -br -d link', keep: line => line.replace(/@if\d+/, '').split(/\s+/)[0] },
  addresses: { line: "ip -o address | awk '{print $2, $3, $4}'" },
  sysctls: { line: 'sysctl -a 2>/dev/null | grep ^net', keep: steadySysctl },
  files: { line: 'ls -d /run/ipref* /var/lib/ipref/* /etc/ipref* /tmp/ipref* 2>/dev/null || true' },
}

export type NodeState = Record<string, string[]>

export async function stateOf(cluster: Cluster, node: string): Promise<NodeState> {
  const state: NodeState = {}
  for (const [what, { line, keep = (text: string) => text }] of Object.entries(LOOKS)) {
    const lines = await cluster.onNode(node, line, { timeoutMs: 60_000 })
    state[what] = scoped(lines.split('\n')).flatMap(text => (isOfPods(text) ? [] : (keep(text) ?? [])))
    state[what].sort()
  }
  return state
}

/** Of all nodes, by their names. */
export async function stateOfNodes(cluster: Cluster): Promise<Record<string, NodeState>> {
  const found = await Promise.all(cluster.facts.nodes.map(async ({ name }) => [name, await stateOf(cluster, name)]))
  return Object.fromEntries(found) as Record<string, NodeState>
}

/** One line for each difference; empty: there is none. */
export function differences(before: Record<string, NodeState>, after: Record<string, NodeState>): string[] {
  return Object.keys(before).flatMap(node =>
    Object.keys(LOOKS).flatMap(what => {
      const [was, is] = [before[node]?.[what] ?? [], after[node]?.[what] ?? []]
      const left = minus(is, was).map(line => `${node}, ${what}: left behind: ${line}`)
      return [...left, ...minus(was, is).map(line => `${node}, ${what}: gone: ${line}`)]
    }),
  )
}

/** Lines of `of` that `other` has not, each as often as it is there more often. */
function minus(of: readonly string[], other: readonly string[]): string[] {
  const left = new Map<string, number>()
  for (const line of other) left.set(line, (left.get(line) ?? 0) + 1)
  return of.filter(line => {
    const count = left.get(line) ?? 0
    left.set(line, count - 1)
    return count <= 0
  })
}

/** A rule means something in its chain alone, so each line of a ruleset carries the table and the chain that it stands in. */
function scoped(lines: readonly string[]): string[] {
  const inside: string[] = []
  return lines.map(line => {
    const text = line.trim()
    if (text === '}') inside.pop()
    if (text === '}' || text === '') return ''
    const whole = [...inside, text].join(' ')
    if (text.endsWith('{')) inside.push(text.slice(0, -1).trim())
    return inside.length > 0 || text.endsWith('{') ? whole : text
  })
}

function isOfPods(line: string): boolean {
  return line === '' || /\bveth\w+|\bKUBE-(SERVICES|NODEPORTS|SVC-|SEP-|EXT-|FW-)/.test(line)
}

function withoutCounters(line: string): string | undefined {
  if (line.startsWith('#')) return undefined
  // iptables-save says the counters of a chain in brackets
  return line.replace(/ ?counter packets \d+ bytes \d+/g, '').replace(/ \[\d+:\d+\]$/, '')
}

/** Those that are settings, not what the kernel counts or draws. */
function steadySysctl(line: string): string | undefined {
  return /conntrack_count|stable_secret|\.random|tcp_mem|udp_mem|somaxconn_cur/.test(line) ? undefined : line
}
