/**
 * Only replies reach hosts that nobody published: nftables on the TUN device.
 *
 *   from the TUN ──► reply to a connection that our side began? ──yes──► pass
 *                 └► to a published address, or to the gateway itself? ──yes──► pass
 *                 └► to a port of a host that is published with ports, or ICMP to it? ──yes──► pass
 *                 └► dropped, counter "unpublished"
 *
 * Why: a local host that only sends gets a dynamic reference, by which anybody could reach all its ports for hours (design.md
 * section 5, decisions.md 8). What the gateway's own address accepts is decided in decap (decisions.md 1).
 *
 * One table of our own, named after the TUN device; nothing outside it is read or changed. `install` replaces it in one
 * transaction. A published address is added here before the mapping tables have it, and removed after they lost it, so there is
 * never a moment in which a mapped, published host is closed.
 */
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../ipref/ip.ts'
import type { PortRange } from './mapper/assertions.ts'
import type { PublishedHost } from './mapper/mapper.ts'

export interface HostFilterPorts {
  /** Runs one nft script as a transaction; rejects with a message that names what nft said. */
  nft(script: string): Promise<void>
  /** `nft -j list …`: the parsed JSON, or undefined when there is no such object. */
  nftList(what: string): Promise<unknown>
}

export interface HostFilterSettings {
  tun: string
  /** text of the gateway's own encoded addresses */
  own: string[]
}

/** By address: the ports; undefined: all. */
// as numbers: slim images have no /etc/protocols, and nft takes names of protocols from there
const PROTOCOLS = { tcp: IPPROTO_TCP, udp: IPPROTO_UDP, sctp: IPPROTO_SCTP } as const

type Published = ReadonlyMap<string, readonly PortRange[] | undefined>

export class HostFilter {
  readonly #ports: HostFilterPorts
  readonly #settings: HostFilterSettings
  readonly #published = new Map<string, readonly PortRange[] | undefined>()
  #waiting: Promise<void> = Promise.resolve()

  constructor(ports: HostFilterPorts, settings: HostFilterSettings) {
    this.#ports = ports
    this.#settings = settings
  }

  get tableName(): string {
    return filterTableName(this.#settings.tun)
  }

  /** Puts the whole table in force with the hosts published by now. Rejects where nftables is missing. */
  async install(published: Iterable<PublishedHost>): Promise<void> {
    for (const { address, ports } of published) this.#published.set(address, ports)
    await this.#ports.nft(renderFilter(this.#settings, this.#published))
  }

  /** Resolves when the kernel has the change; changes are carried out one after the other, each as a whole. */
  change(published: readonly PublishedHost[], withdrawn: readonly string[]): Promise<void> {
    const gone = new Map<string, readonly PortRange[] | undefined>()
    for (const address of [...withdrawn, ...published.map(host => host.address)]) {
      if (!this.#published.has(address)) continue
      gone.set(address, this.#published.get(address))
      this.#published.delete(address)
    }
    for (const { address, ports } of published) this.#published.set(address, ports)
    const fresh = new Map(published.map(({ address, ports }) => [address, ports]))
    const script = [...elements('delete', this.tableName, gone), ...elements('add', this.tableName, fresh)].join('\n')
    const run = () => (script === '' ? Promise.resolve() : this.#ports.nft(`${script}\n`))
    // an element that is already gone makes the transaction fail: then the whole table is put in force anew
    this.#waiting = this.#waiting.then(run).catch(() => this.#ports.nft(renderFilter(this.#settings, this.#published)))
    return this.#waiting
  }

  /** Packets dropped because nobody published their destination, since the table was installed. */
  async droppedPackets(): Promise<number> {
    const list = (await this.#ports.nftList(`counter inet ${this.tableName} unpublished`)) as
      | { nftables?: { counter?: { packets?: number } }[] }
      | undefined
    return list?.nftables?.find(entry => entry.counter)?.counter?.packets ?? 0
  }
}

export function filterTableName(tun: string): string {
  return `ipref_${tun.replace(/[^A-Za-z0-9_]/g, '_')}`
}

/** The script that removes the table of this TUN device, whether it is there or not. */
export function renderRemoval(tun: string): string {
  const table = filterTableName(tun)
  return `table inet ${table} {}\ndelete table inet ${table}\n`
}

export function renderFilter(settings: HostFilterSettings, published: Published): string {
  const { tun, own } = settings
  const table = filterTableName(tun)
  const members = membersOf(published)
  const set = (name: string, type: string) =>
    `  set ${name} { type ${type}; ${members[name]?.length ? `elements = { ${members[name].join(', ')} };` : ''} }`
  return `${renderRemoval(tun)}
table inet ${table} {
  comment "ipref gateway on ${tun}: removed by ipref gateway --cleanup"
  counter unpublished { }
${set('published4', 'ipv4_addr')}
${set('published6', 'ipv6_addr')}
${set('limited4', 'ipv4_addr')}
${set('limited6', 'ipv6_addr')}
${set('ports4', 'ipv4_addr . inet_proto . inet_service; flags interval')}
${set('ports6', 'ipv6_addr . inet_proto . inet_service; flags interval')}
  chain from_tunnel {
    type filter hook prerouting priority -140; policy accept;
    iifname != "${tun}" accept
    ct state established,related accept
    ip daddr @published4 accept
    ip6 daddr @published6 accept
    ip daddr . meta l4proto . th dport @ports4 accept
    ip6 daddr . meta l4proto . th dport @ports6 accept
    ip daddr @limited4 meta l4proto ${IPPROTO_ICMP} accept
    ip6 daddr @limited6 meta l4proto ${IPPROTO_ICMPV6} accept
${own.map(address => `    ${isIPv4(address) ? 'ip' : 'ip6'} daddr ${address} accept\n`).join('')}    counter name unpublished drop
  }
}
`
}

/** By name of the set. */
function membersOf(published: Published): Record<string, string[]> {
  const members: Record<string, string[]> = {}
  const add = (name: string, member: string) => {
    members[name] ??= []
    members[name].push(member)
  }
  for (const [address, ports] of published) {
    const family = isIPv4(address) ? 4 : 6
    add(ports ? `limited${family}` : `published${family}`, address)
    for (const { protocol, first, last } of joined(ports ?? []))
      add(`ports${family}`, `${address} . ${PROTOCOLS[protocol]} . ${first === last ? first : `${first}-${last}`}`)
  }
  return members
}

// ranges that meet or overlap are one: a set refuses elements that overlap
function joined(ports: readonly PortRange[]): PortRange[] {
  const result: PortRange[] = []
  const order = [...ports].sort((a, b) => a.protocol.localeCompare(b.protocol) || a.first - b.first)
  for (const { protocol, first, last } of order) {
    const before = result.at(-1)
    if (before?.protocol === protocol && first <= before.last + 1) before.last = Math.max(before.last, last)
    else result.push({ protocol, first, last })
  }
  return result
}

function elements(verb: 'add' | 'delete', table: string, published: Published): string[] {
  return Object.entries(membersOf(published)).map(
    ([set, members]) => `${verb} element inet ${table} ${set} { ${members.join(', ')} }`,
  )
}

function isIPv4(address: string): boolean {
  return !address.includes(':')
}
