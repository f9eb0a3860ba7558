/**
 * `ipref check` of hosts and peers, the part that sends: what trace.ts found the way of is tried, with echo requests of all sizes (echoes.ts).
 *
 *   peer ─ port ─ path (sizes between the gateways) ─ host: ping ─ host: large packets
 *
 * Between the gateways no packet is fragmented on the way: what is lost there without a word is lost for hosts too. Behind the far gateway packets may be.
 * Says nothing again that a trace has said: a peer that is silent has no further steps. Decides nothing about packets.
 */
import {
  equalAddress,
  familyOf,
  formatAddress,
  isLinkLocal,
  isLoopback,
  type Prefix,
  parseAddress,
  prefixContains,
} from '../ipref/address.ts'
import { parseIprefAddress } from '../ipref/iprefAddress.ts'
import { wordsFromReference } from '../ipref/reference.ts'
import { lengthCode } from '../ipref/tunnelHeader.ts'
import { roundMs, Steps } from '../runtime/steps.ts'
import type { CheckReport, PeerReport } from './controlReports.ts'
import { type Echoes, type EchoResult, type EchoTarget, smallestEcho, THE_GATEWAY } from './echoes.ts'
import type { MappingRow } from './mapper/mapper.ts'
import { findSizes, type Sizes } from './sizes.ts'

const PINGS = 3
const PATIENCE_MS = 1000
/** For packets that are tried several times: so many round trips, and never less than a busy machine may take. */
const ROUND_TRIPS = 5
const LEAST_PATIENCE_MS = 400
/** A lowered path MTU becomes known while it is tried. */
const LEARNED_TIMES = 3
/** What every path of the family must take; TCP of hosts needs more than that. */
const LEAST_MTU = { 4: 576, 6: 1280 } as const

export interface CheckPorts {
  describe(address: Uint8Array): MappingRow | undefined
  /** Another gateway of the cluster that packets to this address go to; undefined: this one. */
  carrierOf(address: Uint8Array): string | undefined
  /** Why nothing is to be sent to peers from here: they would take our port for that of the gateway that carries packets. */
  silence(): string | undefined
  peer(context: Uint8Array): PeerReport | undefined
  /** Keeps track of a peer that nothing is mapped to; false: there is no room. */
  know(context: Uint8Array): boolean
  /** the port that a peer is expected at, before one is learned */
  expectedPort(context: Uint8Array): number
  /** MTU of our own interface and route towards it */
  wireMtu(context: Uint8Array): number
  isOwnContext(context: Uint8Array): boolean
  /** addresses of this host that its own connections may come from */
  sources(): readonly Uint8Array[]
  echoes: Pick<Echoes, 'ask'>
}

interface Way {
  rttMs: number
  /** largest outer packet that passes between the gateways; undefined: it cannot be told */
  size: number | undefined
}

export class Checker {
  readonly #ports: CheckPorts
  readonly #ways = new Map<string, Promise<Way | undefined>>()

  constructor(ports: CheckPorts) {
    this.#ports = ports
  }

  /** Encoded addresses, as a trace gave them. */
  async hosts(addresses: readonly string[]): Promise<CheckReport> {
    const between = new Steps()
    const silence = this.#ports.silence()
    const hosts: CheckReport['hosts'] = []
    if (silence !== undefined) sayElsewhere(silence, between)
    for (const text of silence === undefined ? addresses : []) {
      const address = parseAddress(text)
      const behind = new Steps()
      if (address) await this.#host(address, { between, behind })
      hosts.push({ address: text, steps: behind.all })
    }
    return { steps: between.all, hosts, sources: this.#ports.sources().map(formatAddress) }
  }

  /** A gateway. */
  async peer(text: string): Promise<CheckReport> {
    const steps = new Steps()
    const context = parseAddress(text)
    if (!context) steps.wrong('peer', `${text} is no IP address`, { fix: 'give an address' })
    else await this.#peer(context, steps)
    return { steps: steps.all, hosts: [], sources: [] }
  }

  async #peer(context: Uint8Array, steps: Steps): Promise<void> {
    const text = formatAddress(context)
    const silence = this.#ports.silence()
    if (silence !== undefined) return sayElsewhere(silence, steps)
    if (this.#ports.isOwnContext(context))
      return steps.right('peer', `${text} is this gateway itself; check it from a gateway elsewhere`)
    if (!this.#ports.know(context) || !this.#ports.peer(context))
      return steps.wrong('peer', `there is no room to keep track of ${text}`, { fix: 'raise -max-remote-gateways' })
    const found = new Steps()
    const way = await this.#wayTo(context, found)
    const { port } = this.#ports.peer(context)!
    if (way) steps.all.push({ what: 'peer', ok: true, detail: `${text} answers at UDP port ${port}`, ms: way.rttMs })
    else
      steps.wrong('answer', `${text} is silent: no answer from UDP port ${port}`, {
        fix: `look whether a gateway runs there, and whether UDP port ${port} passes the firewalls and NAT between (both ways)`,
      })
    steps.all.push(...found.all)
  }

  async #host(address: Uint8Array, { between, behind }: { between: Steps; behind: Steps }): Promise<void> {
    const row = this.#ports.describe(address)
    const remote = row && parseIprefAddress(row.remote)
    if (!row || !remote || row.relation === 'ours') return
    if (this.#ports.isOwnContext(remote.context) || this.#ports.carrierOf(address) !== undefined) return
    const way = await this.#wayTo(remote.context, between)
    const peer = this.#ports.peer(remote.context)
    if (!way || !peer) return
    const target = { ...remote, port: peer.port }
    if (!(await this.#ping(row, target, behind)) || way.size === undefined) return
    await this.#largePackets(row, target, { rttMs: way.rttMs, size: way.size }, behind)
  }

  // ---- between the gateways

  /** Once for each peer, however many addresses lead to it. undefined: it does not answer. */
  #wayTo(context: Uint8Array, steps: Steps): Promise<Way | undefined> {
    const key = formatAddress(context)
    const known = this.#ways.get(key)
    if (known) return known
    const found = this.#findWay(context, steps)
    this.#ways.set(key, found)
    return found
  }

  async #findWay(context: Uint8Array, steps: Steps): Promise<Way | undefined> {
    const before = this.#ports.peer(context)
    if (!before) return undefined
    const target = { context, reference: THE_GATEWAY, port: before.port }
    const rttMs = await this.#firstAnswer(target)
    if (rttMs === undefined) return undefined
    const peer = this.#ports.peer(context)!
    this.#sayPort(context, peer, peer.port === before.port ? before.lastSeenSecondsAgo : null, steps)
    return { rttMs, size: await this.#sayPath(context, { ...target, port: peer.port }, rttMs, steps) }
  }

  async #firstAnswer(target: EchoTarget): Promise<number | undefined> {
    for (let tries = 0; tries < PINGS; tries++) {
      // a port may be learned meanwhile
      const port = this.#ports.peer(target.context)?.port ?? target.port
      const result = await this.#ports.echoes.ask({ ...target, port }, { patienceMs: PATIENCE_MS })
      if (typeof result === 'number') return roundMs(result)
    }
    return undefined
  }

  /** `silence`: how long nothing came from that port before it answered. */
  #sayPort(context: Uint8Array, { address, port }: PeerReport, silence: number | null, steps: Steps): void {
    const expected = this.#ports.expectedPort(context)
    if (port === expected) return steps.right('port', `${address} is where it is expected: nothing changes its port`)
    const kept = silence === null || silence === 0 ? '' : `; it was kept for ${silence} s of silence`
    steps.doubtful('port', `${address} sends from UDP port ${port}, not ${expected}: a NAT there changes it${kept}`, {
      fix: `it works while that network sends first; for others to reach it, that NAT must lead UDP port ${expected} to the gateway behind it, or that gateway must name each peer with -peer`,
    })
  }

  async #sayPath(context: Uint8Array, target: EchoTarget, rttMs: number, steps: Steps): Promise<number | undefined> {
    const own = this.#ports.wireMtu(context)
    const { sizes, known } = await this.#sizesBetween(context, target, rttMs)
    if (!sizes) {
      steps.doubtful('path', 'the gateway answers now and then: its sizes cannot be told', {
        fix: 'look for packet loss on the way',
      })
      return undefined
    }
    const { passes } = sizes
    const between = `between the gateways packets of ${passes} bytes pass`
    if (sizes.fails !== undefined && !sizes.isRefused)
      steps.wrong(
        'path',
        `${between}, and those of ${sizes.fails} are lost without a word (path MTU assumed: ${known})`,
        {
          fix: adviceFor(passes, familyOf(context)),
        },
      )
    else if (passes < LEAST_MTU[familyOf(context)])
      steps.doubtful('path', `${between}, no more`, { fix: 'look for the narrow link on the way' })
    else steps.right('path', passes < own ? `${between}; a router said so` : `${between}: all that our interface takes`)
    return passes
  }

  /** A router that says what passes lowers the path MTU of the peer: then that is tried. */
  async #sizesBetween(
    context: Uint8Array,
    target: EchoTarget,
    rttMs: number,
  ): Promise<{ sizes: Sizes | undefined; known: number }> {
    const from = smallestEcho(context, 0)
    const attempt = (wireSize: number) => this.#attempt(target, wireSize, rttMs)
    let known = this.#knownMtu(context)
    for (let times = 0; ; times++) {
      const isWhole = typeof (await attempt(known)) === 'number'
      const learned = this.#knownMtu(context)
      if (!isWhole && learned < known && times < LEARNED_TIMES) {
        known = learned
        continue
      }
      if (isWhole) return { sizes: { passes: known, fails: undefined, isRefused: false }, known }
      return { sizes: await findSizes(attempt, { from, to: known }), known }
    }
  }

  #knownMtu(context: Uint8Array): number {
    return Math.min(this.#ports.peer(context)?.mtu ?? 0, this.#ports.wireMtu(context))
  }

  #attempt(target: EchoTarget, wireSize: number, rttMs: number): Promise<EchoResult> {
    const patienceMs = Math.min(PATIENCE_MS * 2, Math.max(LEAST_PATIENCE_MS, rttMs * ROUND_TRIPS))
    return this.#ports.echoes.ask(target, { wireSize, patienceMs })
  }

  // ---- behind the far gateway

  async #ping({ local, remote }: MappingRow, target: EchoTarget, steps: Steps): Promise<boolean> {
    const answers: number[] = []
    for (let sent = 0; sent < PINGS; sent++) {
      const result = await this.#ports.echoes.ask(target, { patienceMs: PATIENCE_MS })
      if (typeof result === 'number') answers.push(result)
    }
    const what = `${remote} (${local})`
    if (answers.length === 0) {
      steps.wrong('ping', `${what}: the gateway answers, the host does not`, {
        fix: 'look whether the host runs and answers pings (a ClusterIP does not: name a port, -tcp 80), and on its side whether that reference is published: ipref trace there, with its native address',
      })
      return false
    }
    const ms = roundMs(Math.min(...answers))
    const detail = `${what} answers ${answers.length} of ${PINGS}`
    if (answers.length === PINGS) steps.all.push({ what: 'ping', ok: true, detail, ms })
    else steps.all.push({ what: 'ping', ok: true, warns: true, detail, ms, fix: 'look for packet loss on the way' })
    return true
  }

  async #largePackets(
    row: MappingRow,
    target: EchoTarget,
    { rttMs, size }: Way & { size: number },
    steps: Steps,
  ): Promise<void> {
    const code = lengthCode(...wordsFromReference(target.reference))
    const from = smallestEcho(target.context, code)
    const sizes = await findSizes(wireSize => this.#attempt(target, wireSize, rttMs), { from, to: size })
    if (!sizes)
      return steps.doubtful('large packets', `${row.remote}: answers come and go`, {
        fix: 'look for packet loss behind the far gateway',
      })
    if (sizes.fails === undefined)
      return steps.right('large packets', `${row.remote} answers packets of ${size} bytes (${row.local})`)
    steps.wrong(
      'large packets',
      `${row.remote}: of ${sizes.passes} bytes they are answered, of ${sizes.fails} they are lost behind the far gateway (${row.local})`,
      {
        fix: 'there, look at the MTU of the link between gateway and host, and at a firewall that drops fragments or limits the size of pings',
      },
    )
  }
}

function sayElsewhere(silence: string, steps: Steps): void {
  steps.doubtful('gateway', `${silence}: nothing is tried from here`, { fix: 'run ipref check there' })
}

function adviceFor(passes: number, family: 4 | 6): string {
  const icmp = family === 4 ? 'ICMP "fragmentation needed"' : 'ICMPv6 "packet too big"'
  return `give both gateways -gateway-ifc-mtu ${passes} (TCP connections then keep within it: their MSS is clamped), or let ${icmp} through the firewalls on the way, or widen the link that takes no more`
}

export interface SourceSettings {
  tunName: string
  encodingNetworks: readonly Prefix[]
  /** empty: all may send */
  localNetworks: readonly Prefix[]
  bind: readonly Uint8Array[]
}

/** One address of each family by which this host itself gets answers: not the gateway's own encoded one, whose reference takes pings alone. */
export function sourcesOf(
  own: readonly { address: Uint8Array; device: string }[],
  { tunName, encodingNetworks, localNetworks, bind }: SourceSettings,
): Uint8Array[] {
  const isUsable = (address: Uint8Array) =>
    !isLoopback(address) &&
    !isLinkLocal(address) &&
    !encodingNetworks.some(network => prefixContains(network, address)) &&
    (localNetworks.length === 0 || localNetworks.some(network => prefixContains(network, address)))
  const usable = own.filter(({ address, device }) => device !== tunName && isUsable(address)).map(one => one.address)
  // one that hosts know rather than one that peers know
  const inside = usable.filter(address => !bind.some(one => equalAddress(one, address)))
  return ([4, 6] as const).flatMap(family => [...inside, ...usable].find(address => familyOf(address) === family) ?? [])
}
