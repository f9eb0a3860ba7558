/**
 * `ipref trace`: what becomes of a packet to an address, and of a question for a name, step by step. A name ends with the steps of its addresses: one code for both.
 *
 *   name ──► resolver (dns/nameTrace.ts) ──► addresses ──► encoding network ─ mapping ─ store ─ peer ─ tunnel ─ answer of the peer
 *
 * The verdict names the first thing that is wrong, and what to do about it. Asks the running parts; decides nothing about packets.
 */

import { parseName } from '../dns/name.ts'
import {
  equalAddress,
  familyOf,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  prefixContains,
} from '../ipref/address.ts'
import { roundMs, type Step, Steps, verdictOf } from '../runtime/steps.ts'
import type { PeerReport, TraceReport } from './controlReports.ts'
import type { ResolverHost } from './dns/resolverHost.ts'
import type { MappingRow } from './mapper/mapper.ts'

/** A peer that was heard from since it was asked is there, though it answers no echo. */
const HEARD_SINCE_S = 4

export interface TracePorts {
  config(): {
    encodingNetworks: readonly Prefix[]
    ownEncoded: readonly Uint8Array[]
    contexts: readonly Uint8Array[]
    bind: readonly Uint8Array[]
    openHosts: boolean
    devmode: boolean
  }
  describe(address: Uint8Array): MappingRow | undefined
  /** Another gateway of the cluster that packets to this address go to; undefined: this one. */
  carrierOf(address: Uint8Array): string | undefined
  /** mappings cannot be written */
  storeFailing(): boolean
  peer(context: Uint8Array): PeerReport | undefined
  /** Sends echo requests: milliseconds until one is answered, or undefined. */
  measure(context: Uint8Array): Promise<number | undefined>
  resolver(): ResolverHost | undefined
}

export class Tracer {
  readonly #ports: TracePorts

  constructor(ports: TracePorts) {
    this.#ports = ports
  }

  async address(text: string): Promise<TraceReport> {
    const address = parseAddress(text)
    if (!address) return { address: text, steps: [], addresses: [], verdict: `${text} is no IP address` }
    const traced = await this.#address(address)
    return { address: text, steps: traced.steps, addresses: [text], verdict: verdictOf(traced.steps, traced.verdict) }
  }

  async name(text: string): Promise<TraceReport> {
    const name = parseName(text)
    if (!name) return { name: text, steps: [], addresses: [], verdict: `${text} is no name and no address` }
    const resolver = this.#ports.resolver()
    if (!resolver) return withoutResolver(text)
    const { steps, addresses } = await resolver.trace(name, '-resolver-')
    const traced = await Promise.all(addresses.map(address => this.#address(parseAddress(address)!)))
    const all = [...steps, ...traced.flatMap(one => one.steps)]
    const verdict = traced.map(one => one.verdict).join('\n')
    return { name: text, steps: all, addresses, verdict: verdictOf(all, verdict) }
  }

  async #address(address: Uint8Array): Promise<{ steps: Step[]; verdict: string }> {
    const { encodingNetworks, ownEncoded } = this.#ports.config()
    const steps = new Steps()
    const text = formatAddress(address)
    const network = encodingNetworks.find(n => prefixContains(n, address))
    steps.right(
      'encoding network',
      network
        ? `${text} lies in ${formatPrefix(network)}: it stands for a remote host`
        : `${text} lies in no encoding network: a host of ours`,
    )
    if (ownEncoded.some(own => equalAddress(own, address)))
      return { steps: steps.all, verdict: `${text} is this gateway itself` }
    const carrier = network && this.#ports.carrierOf(address)
    if (carrier !== undefined) {
      steps.right('gateway', `packets to ${text} go to gateway ${carrier}; ipref trace there says how they go on`)
      return { steps: steps.all, verdict: `a packet to ${text} goes to gateway ${carrier} of this cluster` }
    }
    const row = this.#ports.describe(address)
    if (!row) {
      const fix = network
        ? 'name it in the hosts file, or ask for its name in DNS'
        : 'it gets one when it first sends, or is published by `#= pub + REFERENCE`'
      steps.wrong('mapping', network ? `nothing is mapped to ${text}` : `${text} has no reference yet`, { fix })
      return { steps: steps.all, verdict: '' }
    }
    steps.right('mapping', `${row.local} ⇔ ${row.remote}, owner ${row.owner}${lifeOf(row)}`)
    this.#store(row, steps)
    const verdict = network ? await this.#remote(row, steps) : this.#local(row, steps)
    return { steps: steps.all, verdict }
  }

  #store(row: MappingRow, steps: Steps): void {
    if (row.owner !== 'dynamic') return
    if (this.#ports.storeFailing())
      steps.wrong('store', 'the mapping store cannot be written', {
        fix: 'make room on its disk; the log names the file',
      })
    else if (row.saved) steps.right('store', 'on disk: it survives a restart')
    else steps.right('store', `not on disk${row.tentative ? ' until the host here answers' : ''}`)
  }

  #local(row: MappingRow, steps: Steps): string {
    const [text, reference] = [row.local, row.remote.slice(2)]
    const { openHosts } = this.#ports.config()
    const isReached = row.owner !== 'dynamic' || openHosts
    if (isReached) steps.right('host filter', row.owner === 'dynamic' ? 'open to all' : 'published: others may begin')
    else
      steps.wrong('host filter', `${text} is not published: only replies reach it`, {
        fix: 'publish it with `#= pub + REFERENCE`, if others are to begin connections',
      })
    return `packets from ${text} leave with reference ${reference}; packets to that reference reach ${text}${isReached ? '' : ', if they are replies'}`
  }

  async #remote(row: MappingRow, steps: Steps): Promise<string> {
    const [contextText = ''] = row.remote.split(' ')
    const context = parseAddress(contextText)!
    const { contexts, bind, devmode } = this.#ports.config()
    if (contexts.some(own => equalAddress(own, context))) {
      steps.right('peer', `${contextText} is this gateway: packets turn around here`)
      return `a packet to ${row.local} goes to the host of ours with that reference`
    }
    const peer = this.#ports.peer(context)
    if (!peer) {
      steps.wrong('peer', `there is no room to keep track of ${contextText}`, { fix: 'raise -max-remote-gateways' })
      return ''
    }
    const state = peer.verified ? 'verified' : 'not verified yet'
    steps.right('peer', `${contextText} port ${peer.port}, ${state}, path MTU ${peer.mtu}, ${heardFrom(peer)}`)
    const from = bind.find(own => familyOf(own) === familyOf(context))
    const family = `IPv${familyOf(context)}`
    if (devmode) {
      steps.right('tunnel', 'none: -devmode moves no packets, so the peer was not asked')
      return `a packet to ${row.local} would go to ${row.remote}`
    }
    if (!from) {
      steps.wrong('tunnel', `this gateway has no ${family} address to send from`, { fix: 'add one with -gateway-bind' })
      return ''
    }
    steps.right('tunnel', `sent over ${family} from ${formatAddress(from)}`)
    await this.#ask(context, peer, steps)
    return `a packet to ${row.local} goes to ${row.remote}, by UDP to port ${peer.port}`
  }

  async #ask(context: Uint8Array, peer: PeerReport, steps: Steps): Promise<void> {
    const rtt = await this.#ports.measure(context)
    const { lastSeenSecondsAgo: ago } = this.#ports.peer(context) ?? peer
    if (rtt !== undefined) steps.all.push({ what: 'answer', ok: true, detail: 'the peer answers', ms: roundMs(rtt) })
    else if (ago !== null && ago < HEARD_SINCE_S)
      steps.right('answer', `none to our echo requests, but other packets come from the peer`)
    else
      steps.wrong('answer', `${peer.address} is silent: no answer from UDP port ${peer.port}, ${heardFrom(peer)}`, {
        fix: `look whether a gateway runs there, and whether UDP port ${peer.port} passes the firewalls and NAT between (both ways)`,
      })
  }
}

/** For a gateway that runs no resolver: another program may. */
function withoutResolver(name: string): TraceReport {
  const steps = new Steps()
  steps.wrong('resolver', 'this gateway runs none', {
    fix: 'start it with -resolver-listen ADDRESS and -resolver-upstream ADDRESS, or run `ipref resolver` beside it',
  })
  return { name, steps: steps.all, addresses: [], verdict: verdictOf(steps.all, ''), lacksResolver: true }
}

function lifeOf(row: MappingRow): string {
  if (row.tentative) return ' (tentative)'
  return row.expiresInSeconds === null ? '' : `, for another ${row.expiresInSeconds} s at least`
}

function heardFrom({ lastSeenSecondsAgo: ago }: PeerReport): string {
  return ago === null ? 'nothing heard from it yet' : `heard from ${ago} s ago`
}
