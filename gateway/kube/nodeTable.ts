/**
 * The nftables table of a node: source addresses stay what they are, and nobody can pretend to be a remote host.
 *
 *   prerouting, raw    encoded source ─ by TUN, VXLAN or the link of a gateway's node? ─no─► dropped, counter "forged"
 *                      UDP to the tunnel or the VXLAN port from pods, services, encoded addresses ──► dropped, counter "inside"
 *                      UDP to the VXLAN or the probe port of this host, not from a node ──► dropped, counter "stranger"
 *   input, forward     the same to where a service has led it, and TCP to the uplink port of nodes; a pod's port of that number is its own affair
 *   output, raw        our own VXLAN packets are not tracked: a masquerade would take away the source by which others know a node
 *   postrouting, 90    to or from an encoded address ──► bound to its own source, before kube-proxy and the CNI (100) can masquerade it
 *   forward, ±300      counts what comes into FORWARD and what leaves it, so that a node that drops there can be named
 *
 * Why each row: design.md section 7 (source identity), decisions.md 26, 27 and 33. The table is put in force as a whole, in one transaction.
 */
import { hostPrefix } from '../../ipref/address.ts'
import { familyOfText } from './nodeDesired.ts'
import { NODE_TABLE, PROBE_PORT, VXLAN_PORT } from './nodeMarks.ts'
import type { TableWanted } from './nodeTypes.ts'

export const TABLE_REMOVAL = `table inet ${NODE_TABLE} {}\ndelete table inet ${NODE_TABLE}\n`

const COUNTERS = ['forged', 'inside', 'stranger', 'entered', 'left'] as const
export type NodeCounter = (typeof COUNTERS)[number]

export function renderTable(wanted: TableWanted): string {
  const { tunnelPort, uplinkPort } = wanted
  const sets = [
    ...addressSets('encoding', wanted.encodingNetworks),
    ...addressSets('inside', wanted.inside),
    ...addressSets('nodes', wanted.nodes),
    ...addressSets('probers', wanted.probers),
    nameSet('carriers', wanted.carriers),
    nameSet('underlay', wanted.underlay),
  ]
  return `${TABLE_REMOVAL}
table inet ${NODE_TABLE} {
  comment "ipref node network: removed by ipref gateway -cleanup"
${COUNTERS.map(name => `  counter ${name} { }`).join('\n')}
${sets.join('\n')}
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname "lo" accept
    udp dport ${PROBE_PORT} iifname @underlay ip saddr @probers accept
    udp dport ${PROBE_PORT} iifname @underlay ip6 saddr @probers6 accept
    ip saddr @encoding iifname != @carriers counter name forged drop
    ip6 saddr @encoding6 iifname != @carriers counter name forged drop
    jump guarded
    udp dport { ${VXLAN_PORT}, ${PROBE_PORT} } fib daddr type local jump machines
  }
  chain arriving {
    type filter hook input priority -300; policy accept;
    iifname "lo" accept
    jump guarded
    tcp dport ${uplinkPort} ip saddr @inside ip saddr != @nodes counter name inside drop
    tcp dport ${uplinkPort} ip6 saddr @inside6 ip6 saddr != @nodes6 counter name inside drop
  }
  chain guarded {
    udp dport { ${tunnelPort}, ${VXLAN_PORT} } ip saddr @inside ip saddr != @nodes counter name inside drop
    udp dport { ${tunnelPort}, ${VXLAN_PORT} } ip6 saddr @inside6 ip6 saddr != @nodes6 counter name inside drop
  }
  chain machines {
    iifname @underlay udp dport ${VXLAN_PORT} ip saddr @nodes notrack accept
    iifname @underlay udp dport ${VXLAN_PORT} ip6 saddr @nodes6 notrack accept
    counter name stranger drop
  }
  chain output {
    type filter hook output priority -300; policy accept;
    udp dport ${VXLAN_PORT} ip daddr @nodes notrack
    udp dport ${VXLAN_PORT} ip6 daddr @nodes6 notrack
  }
  chain postrouting {
    type nat hook postrouting priority 90; policy accept;
    ip daddr @encoding snat ip to ip saddr
    ip saddr @encoding snat ip to ip saddr
    ip6 daddr @encoding6 snat ip6 to ip6 saddr
    ip6 saddr @encoding6 snat ip6 to ip6 saddr
  }
  chain entering {
    type filter hook forward priority -300; policy accept;
    jump guarded
    tcp dport ${uplinkPort} ip saddr @inside ip saddr != @nodes ip daddr @nodes counter name inside drop
    tcp dport ${uplinkPort} ip6 saddr @inside6 ip6 saddr != @nodes6 ip6 daddr @nodes6 counter name inside drop
${counted('entered')}
  }
  chain leaving {
    type filter hook forward priority 300; policy accept;
${counted('left')}
  }
}
`
}

function counted(counter: NodeCounter): string {
  return ['ip saddr @encoding', 'ip daddr @encoding', 'ip6 saddr @encoding6', 'ip6 daddr @encoding6']
    .map(match => `    ${match} counter name ${counter}`)
    .join('\n')
}

function addressSets(name: string, texts: readonly string[]): string[] {
  return [
    set(
      name,
      'type ipv4_addr; flags interval; auto-merge',
      texts.filter(text => familyOfText(text) === 4),
    ),
    set(
      `${name}6`,
      'type ipv6_addr; flags interval; auto-merge',
      texts.filter(text => familyOfText(text) === 6),
    ),
  ]
}

function nameSet(name: string, names: readonly string[]): string {
  return set(
    name,
    'type ifname',
    names.map(one => `"${one}"`),
  )
}

function set(name: string, type: string, members: readonly string[]): string {
  const elements = members.length > 0 ? ` elements = { ${members.join(', ')} };` : ''
  return `  set ${name} { ${type};${elements} }`
}

// ---- what nft lists

interface Listed {
  nftables?: Record<string, unknown>[]
}

/** The listing without what changes by itself: two of them are the same text when nobody changed the table. undefined: there is none. */
export function normalizeListing(listed: unknown): string | undefined {
  const objects = (listed as Listed | undefined)?.nftables
  if (!objects?.some(object => 'table' in object)) return undefined
  const isOwn = (object: Record<string, unknown>) => !('metainfo' in object)
  return JSON.stringify(objects.filter(isOwn), (key, value) =>
    key === 'handle' || key === 'packets' || key === 'bytes' ? undefined : value,
  )
}

/** Encoding networks that a listed table is for, as sorted text; undefined: no table. */
export function listedEncoding(listed: unknown): string | undefined {
  const objects = (listed as Listed | undefined)?.nftables
  if (!objects?.some(object => 'table' in object)) return undefined
  const sets = objects.flatMap(object => (object.set as { name: string; elem?: unknown[] } | undefined) ?? [])
  return sets
    .filter(one => one.name === 'encoding' || one.name === 'encoding6')
    .flatMap(one => one.elem ?? [])
    .map(elementText)
    .sort()
    .join(' ')
}

function elementText(element: unknown): string {
  if (typeof element === 'string') return hostPrefix(element)
  const { prefix } = element as { prefix?: { addr: string; len: number } }
  return prefix ? `${prefix.addr}/${prefix.len}` : JSON.stringify(element)
}

export function countersOf(listed: unknown): Record<NodeCounter, number> {
  const result = Object.fromEntries(COUNTERS.map(name => [name, 0])) as Record<NodeCounter, number>
  for (const { counter } of (listed as Listed | undefined)?.nftables ?? []) {
    const { name, packets } = (counter ?? {}) as { name?: NodeCounter; packets?: number }
    if (name !== undefined && name in result) result[name] = packets ?? 0
  }
  return result
}
