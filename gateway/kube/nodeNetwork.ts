/**
 * The network of a node between the pods and the gateways of a cluster: routes to slices, VXLAN, the nftables table, probes.
 *
 *   apply(wanted) ──► surroundings ──► desire ──► table in force ──► plan ──► changes ──► probes
 *   check()       ──► questions to send; the same way again when a probe changed its mind, when somebody took a piece away, or every few seconds
 *   remove()      ──► everything that bears our marks goes
 *
 * Owns all that nodeMarks.ts names, and nothing else. The order is a promise: no route to an encoded address before the table that keeps
 * sources honest. Calls wait for each other. A restart finds what is there, changes nothing that is right, and breaks no connection.
 */
import { setImmediate } from 'node:timers/promises'
import { parsePrefix, prefixContains } from '../../ipref/address.ts'
import { hindranceText } from '../../runtime/steps.ts'
import { flushConntrack } from '../sys/conntrack.ts'
import { listNft, nftGeneration, runNft } from '../sys/nft.ts'
import { addressesToReach, desire, familyOfText, firstAddress, isStrictTowards, wantedProblems } from './nodeDesired.ts'
import { forwardingProblems, forwardProblems, type Sample } from './nodeForward.ts'
import { carryOut, readCurrent, readSetting, readSurroundings, removeMarked } from './nodeKernel.ts'
import { isVxlanName, NODE_TABLE, VXLAN_NAMES } from './nodeMarks.ts'
import { type Change, type Current, describeChange, planNode } from './nodePlan.ts'
import { ProbeLedger, ProbeSockets } from './nodeProbe.ts'
import {
  countersOf,
  listedEncoding,
  type NodeCounter,
  normalizeListing,
  renderTable,
  TABLE_REMOVAL,
} from './nodeTable.ts'
import type { Desired, NodeNetworkWanted, NodePath, Probe, RouteWanted, Surroundings } from './nodeTypes.ts'

const TABLE = `table inet ${NODE_TABLE}`
/** Looking after the kernel takes at most one part in so many of the time: at once with ten nodes, every few seconds with a thousand. */
const LOOK_SHARE = 50
/** Changes made in one go; then packets' business has its turn. */
const CHANGES_AT_ONCE = 100
/** Packets that came into FORWARD, none of which left it, before that is called a problem. */
const LOST_PACKETS = 10

export interface NodeNetworkSettings {
  /** how often ways, counters and FORWARD are looked at again */
  surveyEveryMs: number
}

export interface NodeNetworkPorts {
  surroundings(addresses: readonly string[]): Omit<Surroundings, 'proved'>
  current(tun: string | undefined): Current
  carryOut(change: Change): void
  removeMarked(): string[]
  nft(script: string): Promise<void>
  nftList(what: string): Promise<unknown>
  nftGeneration(): number
  flushConntrack(isPicked: (address: Uint8Array) => boolean): number
  /** below /proc/sys/net; undefined: not there */
  setting(path: string): string | undefined
  nowMs(): number
}

export const systemPorts: NodeNetworkPorts = {
  surroundings: readSurroundings,
  current: readCurrent,
  carryOut,
  removeMarked,
  nft: runNft,
  nftList: listNft,
  nftGeneration,
  flushConntrack,
  setting: readSetting,
  nowMs: () => performance.now(),
}

export interface NodeNetworkReport {
  /** sentences for /readyz and the condition NodeNetwork; empty: all is in force */
  problems: string[]
  paths: NodePath[]
  /** what this call changed, one line each */
  changes: string[]
  /** packets, since the table was put in force */
  counters: Record<NodeCounter, number>
}

export class NodeNetwork {
  readonly #settings: NodeNetworkSettings
  readonly #ports: NodeNetworkPorts
  readonly #ledger = new ProbeLedger()
  readonly #sockets: ProbeSockets
  #wanted: NodeNetworkWanted | undefined
  #around: Omit<Surroundings, 'proved'> | undefined
  #tableText = ''
  #listing: string | undefined
  #generation = -1
  #surveyedAt = Number.NEGATIVE_INFINITY
  #lookedAt = Number.NEGATIVE_INFINITY
  #lookMs = 0
  #proved = ''
  #counters = countersOf(undefined)
  #hostProblems: string[] = []
  #report: NodeNetworkReport = { problems: [], paths: [], changes: [], counters: this.#counters }
  #turn: Promise<unknown> = Promise.resolve()

  constructor(settings: NodeNetworkSettings = { surveyEveryMs: 5000 }, ports: NodeNetworkPorts = systemPorts) {
    this.#settings = settings
    this.#ports = ports
    this.#sockets = new ProbeSockets({
      onMessage: (from, message) => this.#ledger.heard(from, message),
      stateTowards: asking => ({ isReady: this.#ledger.isReady(asking), isStrict: this.#isStrictTowards(asking) }),
    })
  }

  /** Puts all of this in force, whatever was before. What cannot be is in the problems; the rest is. */
  apply(wanted: NodeNetworkWanted): Promise<NodeNetworkReport> {
    return this.#inTurn(async () => {
      const problems = wantedProblems(wanted)
      if (problems.length > 0) return { ...this.#report, problems, changes: [] }
      this.#wanted = wanted
      return this.#bringAbout({ surveys: true })
    })
  }

  /** To be called about once a second. */
  check(): Promise<NodeNetworkReport> {
    return this.#inTurn(async () => {
      if (!this.#wanted) return this.#report
      for (const { probe, ...question } of this.#ledger.due(this.#ports.nowMs())) this.#sockets.ask(probe, question)
      const nowMs = this.#ports.nowMs()
      const surveys = nowMs - this.#surveyedAt >= this.#settings.surveyEveryMs
      const isQuiet = !surveys && this.#provedText() === this.#proved
      if (isQuiet && nowMs - this.#lookedAt < this.#lookMs * LOOK_SHARE) return { ...this.#report, changes: [] }
      return this.#bringAbout({ surveys })
    })
  }

  /** Removes everything of ours; the problems met. Needs no `apply` before. */
  remove(): Promise<string[]> {
    return this.#inTurn(async () => {
      this.stop()
      this.#wanted = undefined
      return removeNodeNetwork(this.#ports)
    })
  }

  /** Ends probing; all that is in force stays. */
  stop(): void {
    this.#ledger.setProbes([])
    this.#sockets.close()
  }

  #inTurn<T>(what: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(what)
    this.#turn = result.catch(() => {})
    return result
  }

  // ---- one round

  async #bringAbout({ surveys }: { surveys: boolean }): Promise<NodeNetworkReport> {
    const wanted = this.#wanted!
    this.#lookedAt = this.#ports.nowMs()
    this.#proved = this.#provedText()
    const changes: string[] = []
    const problems: string[] = []
    let paths: NodePath[] = []
    try {
      if (surveys || !this.#around) this.#around = this.#ports.surroundings(addressesToReach(wanted))
      const desired = this.#desire(wanted, this.#around)
      paths = desired.paths
      problems.push(...desired.problems)
      changes.push(...(await this.#bringTable(desired)))
      await this.#bringKernel(desired, changes, problems)
      this.#sockets.listen([...new Set(desired.probes.map(probe => probe.source))])
      this.#lookMs = this.#ports.nowMs() - this.#lookedAt
      if (surveys) await this.#survey(wanted)
    } catch (error) {
      problems.push((error as Error).message)
    }
    this.#report = {
      problems: [...problems, ...this.#hostProblems, ...this.#sockets.problems],
      paths,
      changes,
      counters: this.#counters,
    }
    return this.#report
  }

  /** At the first round, ways that are in use count as proved: a restart does not change them. */
  #desire(wanted: NodeNetworkWanted, around: Omit<Surroundings, 'proved'>): Desired {
    const desired = desire(wanted, { ...around, proved: this.#ledger.proved() })
    const isFirst = this.#tableText === ''
    const assumed = isFirst ? waysInUse(desired.probes, this.#ports.current(wanted.tun).routes) : new Set<string>()
    this.#ledger.setProbes(desired.probes, assumed)
    return assumed.size > 0 ? desire(wanted, { ...around, proved: this.#ledger.proved() }) : desired
  }

  #provedText(): string {
    return [...this.#ledger.proved()].join()
  }

  async #bringKernel(desired: Desired, changes: string[], problems: string[]): Promise<void> {
    const plan = planNode(desired, this.#ports.current(this.#wanted!.tun))
    problems.push(...plan.problems)
    for (const [i, change] of plan.changes.entries()) {
      if (i % CHANGES_AT_ONCE === CHANGES_AT_ONCE - 1) await setImmediate()
      const text = describeChange(change)
      try {
        this.#ports.carryOut(change)
        changes.push(text)
      } catch (error) {
        problems.push(`${text}: ${(error as Error).message}`)
      }
    }
  }

  /** The table as it should be. Connections are judged anew only when the table was not for these encoded addresses before. */
  async #bringTable(desired: Desired): Promise<string[]> {
    const text = renderTable(desired.table)
    const generation = this.#ports.nftGeneration()
    if (text === this.#tableText && generation === this.#generation) return []
    const found = await this.#ports.nftList(TABLE)
    if (text === this.#tableText && normalizeListing(found) === this.#listing) {
      this.#generation = generation
      return []
    }
    await this.#ports.nft(text)
    const changes = [`install-table ${NODE_TABLE}`]
    const encoding = desired.table.encodingNetworks
    if (listedEncoding(found) !== encoding.join(' ')) {
      const prefixes = encoding.map(network => parsePrefix(network)!)
      const flushed = this.#ports.flushConntrack(address => prefixes.some(prefix => prefixContains(prefix, address)))
      if (flushed > 0) changes.push(`flush ${flushed} connections`)
    }
    this.#tableText = text
    this.#generation = this.#ports.nftGeneration()
    this.#listing = normalizeListing(await this.#ports.nftList(TABLE))
    return changes
  }

  // ---- the host around

  /** What an administrator must mend (decisions.md 33): it is named, and not changed. */
  async #survey(wanted: NodeNetworkWanted): Promise<void> {
    this.#surveyedAt = this.#ports.nowMs()
    this.#counters = countersOf(await this.#ports.nftList(TABLE))
    const { encodingNetworks } = wanted
    const families = encodingNetworks.map(familyOfText)
    const dropped = await forwardProblems({ samples: samplesOf(wanted), encodingNetworks }, this.#ports.nftList)
    this.#hostProblems = [
      ...[...forwardingProblems(families, path => this.#ports.setting(path)), ...dropped].map(hindranceText),
      ...this.#lost(),
    ]
  }

  #lost(): string[] {
    const { entered, left } = this.#counters
    if (entered < LOST_PACKETS || left > 0) return []
    return [
      `${entered} packets from or to encoded addresses came into FORWARD of this node, and none left it: a rule drops them (nft list ruleset; iptables-legacy -S FORWARD)`,
    ]
  }

  #isStrictTowards(asking: string): boolean {
    const wanted = this.#wanted
    if (!wanted || !this.#around) return false
    const nodeName =
      wanted.gateways.find(gateway => gateway.slices.some(slice => firstAddress(slice) === asking))?.nodeName ??
      wanted.nodes.find(node => node.nodeAddresses.includes(asking))?.nodeName
    const node = wanted.nodes.find(one => one.nodeName === nodeName)
    const ways = wanted.nodes.find(one => one.nodeName === nodeName)?.nodeAddresses ?? []
    const device = ways.map(address => this.#around!.ways.get(address)).find(found => found?.isOnLink)?.device
    return device !== undefined && isStrictTowards(node?.podNetworks ?? [], device, this.#around)
  }
}

/** Keys of the probes whose way some route of ours to a network takes already. */
function waysInUse(probes: readonly Probe[], routes: readonly RouteWanted[]): Set<string> {
  const isNetwork = ({ destination }: RouteWanted) => !/\/(32|128)$/.test(destination)
  const isDirect = ({ device }: RouteWanted) => device !== undefined && !isVxlanName(device)
  const inUse = routes.filter(route => isNetwork(route) && isDirect(route))
  const isTaken = ({ via, destination }: Probe) =>
    inUse.some(route => route.via === via && familyOfText(route.destination) === familyOfText(destination))
  return new Set(probes.filter(isTaken).map(probe => probe.key))
}

/** What FORWARD is asked about: one packet in each direction for each family. */
export function samplesOf({ encodingNetworks, podNetworks, tun }: NodeNetworkWanted): Sample[] {
  return encodingNetworks.flatMap(network => {
    const family = familyOfText(network)
    const pods = podNetworks.find(one => familyOfText(one) === family)
    if (!pods) return []
    const [remote, pod] = [firstAddress(network), firstAddress(pods)]
    const device = tun ?? VXLAN_NAMES[4]
    return [
      { name: `from ${network} to pods`, source: remote, destination: pod, incoming: device, outgoing: undefined },
      { name: `from pods to ${network}`, source: pod, destination: remote, incoming: undefined, outgoing: device },
    ]
  })
}

/** Also of a gateway that is not there any more: everything is found by its marks. */
export async function removeNodeNetwork(ports: NodeNetworkPorts = systemPorts): Promise<string[]> {
  const problems = ports.removeMarked()
  await ports.nft(TABLE_REMOVAL).catch(error => problems.push((error as Error).message))
  return problems
}
