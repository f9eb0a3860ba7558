/**
 * Only replies reach hosts that nobody published: nftables on the TUN device.
 *
 *   from the TUN ──► reply to a connection that our side began? ──yes──► pass
 *                 └► to a published address, or to the gateway itself? ──yes──► pass
 *                 └► dropped, counter "unpublished"
 *
 * Why: a local host that only sends gets a dynamic reference, by which anybody could reach all its ports for hours (design.md
 * section 5, decisions.md 8). What the gateway's own address accepts is decided in decap (decisions.md 1).
 *
 * One table of our own, named after the TUN device; nothing outside it is read or changed. `install` replaces it in one
 * transaction. A published address is added here before the mapping tables have it, and removed after they lost it, so there is
 * never a moment in which a mapped, published host is closed.
 */
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

export class HostFilter {
  readonly #ports: HostFilterPorts
  readonly #settings: HostFilterSettings
  readonly #published = new Set<string>()
  #waiting: Promise<void> = Promise.resolve()

  constructor(ports: HostFilterPorts, settings: HostFilterSettings) {
    this.#ports = ports
    this.#settings = settings
  }

  get tableName(): string {
    return filterTableName(this.#settings.tun)
  }

  /** Puts the whole table in force with the addresses published by now. Rejects where nftables is missing. */
  async install(published: Iterable<string>): Promise<void> {
    for (const address of published) this.#published.add(address)
    await this.#ports.nft(renderFilter(this.#settings, this.#published))
  }

  /** Resolves when the kernel has the change; changes are carried out one after the other. */
  change(published: readonly string[], withdrawn: readonly string[]): Promise<void> {
    for (const address of withdrawn) this.#published.delete(address)
    for (const address of published) this.#published.add(address)
    const table = this.tableName
    const script = [...elements('delete', table, withdrawn), ...elements('add', table, published)].join('\n')
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

export function renderFilter(settings: HostFilterSettings, published: ReadonlySet<string>): string {
  const { tun, own } = settings
  const table = filterTableName(tun)
  const all = [...published]
  return `${renderRemoval(tun)}
table inet ${table} {
  comment "ipref gateway on ${tun}: removed by ipref gateway --cleanup"
  counter unpublished { }
  set published4 { type ipv4_addr; ${setBody(all.filter(isIPv4))} }
  set published6 { type ipv6_addr; ${setBody(all.filter(a => !isIPv4(a)))} }
  chain from_tunnel {
    type filter hook prerouting priority -140; policy accept;
    iifname != "${tun}" accept
    ct state established,related accept
    ip daddr @published4 accept
    ip6 daddr @published6 accept
${own.map(address => `    ${isIPv4(address) ? 'ip' : 'ip6'} daddr ${address} accept\n`).join('')}    counter name unpublished drop
  }
}
`
}

function setBody(addresses: readonly string[]): string {
  return addresses.length === 0 ? '' : `elements = { ${addresses.join(', ')} };`
}

function elements(verb: 'add' | 'delete', table: string, addresses: readonly string[]): string[] {
  const lines: string[] = []
  for (const [set, members] of [
    ['published4', addresses.filter(isIPv4)],
    ['published6', addresses.filter(a => !isIPv4(a))],
  ] as const) {
    if (members.length > 0) lines.push(`${verb} element inet ${table} ${set} { ${members.join(', ')} }`)
  }
  return lines
}

function isIPv4(address: string): boolean {
  return !address.includes(':')
}
