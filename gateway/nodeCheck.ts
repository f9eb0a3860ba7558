/**
 * `ipref check` of the node: what a gateway needs of the host it runs on, and whether it has it. Also where no gateway runs, which may be for want of it.
 *
 *   forwarding ─ FORWARD ─ reverse path filter ─ /dev/net/tun ─ nftables ─ ports ─ ready ─ NAT ─ each peer
 *
 * What is an administrator's is named and not changed (decisions.md 33). Sentences of /readyz and of the node network (kube/nodeForward.ts) are the same ones;
 * none is said twice.
 */
import { closeSync, openSync, readFileSync } from 'node:fs'
import {
  familyOf,
  formatAddress,
  formatPrefix,
  isLinkLocal,
  isLoopback,
  isUnspecified,
  type Prefix,
  parseAddress,
} from '../ipref/address.ts'
import { hindranceText, type Step, Steps } from '../runtime/steps.ts'
import type { PeerReport } from './controlReports.ts'
import { forwardingProblems, forwardProblems, type Sample } from './kube/nodeForward.ts'
import { readSetting } from './kube/nodeKernel.ts'
import { type InterfaceAddress, type Link, listAddresses, listLinks, routeTo } from './sys/netlink.ts'
import { listNft, runNft } from './sys/nft.ts'
import { TUN_PATH, tunRefusal } from './sys/tun.ts'

const STRICT = 1
/** Peers that are asked all the time are asked every 25 s: this much silence is three answers missed. */
const SILENT_S = 80
const MOST_PEERS = 16
/** bound to all of its addresses */
const THIS_HOST = 'this host'
const READ_WRITE = 'r+'

export interface NodeFacts {
  encodingNetworks: readonly Prefix[]
  tunName: string
  port: number
  /** undefined: no gateway answers, and why */
  gateway: GatewayFacts | { missing: string }
}

export interface GatewayFacts {
  listening: readonly string[]
  /** resolver, metrics and so on, as text */
  services: readonly string[]
  bind: readonly Uint8Array[]
  contexts: readonly Uint8Array[]
  /** reasons of /readyz */
  unready: readonly string[]
  peers: readonly PeerReport[]
  /** undefined: made from what this host has */
  samples: readonly Sample[] | undefined
  devmode: boolean
  /** nftables table of the host filter; undefined: all hosts are open */
  filterTable: string | undefined
}

export interface NodePorts {
  setting(path: string): string | undefined
  nftList(what: string): Promise<unknown>
  /** rejects with a sentence */
  nft(script: string): Promise<void>
  links(): readonly Link[]
  addresses(): readonly InterfaceAddress[]
  /** index of the interface by which an address is reached */
  wayTo(address: Uint8Array): number | undefined
  /** throws what the system says */
  openTun(): void
  /** text of a file below /proc/net */
  procNet(name: string): string
}

export const systemNodePorts: NodePorts = {
  setting: readSetting,
  nftList: listNft,
  nft: runNft,
  links: listLinks,
  addresses: listAddresses,
  wayTo: address => routeTo(address)?.interfaceIndex,
  openTun: () => closeSync(openSync(TUN_PATH, READ_WRITE)),
  procNet: name => {
    try {
      return readFileSync(`/proc/net/${name}`, 'utf8')
    } catch {
      return ''
    }
  },
}

export async function checkNode(facts: NodeFacts, ports: NodePorts = systemNodePorts): Promise<Step[]> {
  const steps = new Steps()
  const { gateway } = facts
  const runs = 'missing' in gateway ? undefined : gateway
  sayForwarding(facts, ports, steps)
  await sayForward(facts, runs, ports, steps)
  sayReversePath(runs, ports, steps)
  if (!runs?.devmode) sayTun(facts, ports, steps)
  await sayNftables(runs, ports, steps)
  if ('missing' in gateway) {
    sayTaken(facts.port, ports, steps)
    steps.wrong('gateway', gateway.missing, { fix: 'start it, or look at its log for why it ended' })
    return steps.all
  }
  steps.right('ports', [...gateway.listening.map(at => `${at} UDP`), ...gateway.services].join(', '))
  sayReady(gateway, steps)
  sayNat(gateway, facts.port, ports, steps)
  for (const peer of gateway.peers.slice(0, MOST_PEERS)) sayPeer(peer, steps)
  return steps.all
}

// ---- the host

function sayForwarding({ encodingNetworks }: NodeFacts, ports: NodePorts, steps: Steps): void {
  const families = [...new Set(encodingNetworks.map(({ family }) => family))]
  const problems = forwardingProblems(families, ports.setting)
  for (const { what, fix } of problems) steps.wrong('forwarding', what, { fix })
  if (problems.length === 0)
    steps.right('forwarding', `this node forwards ${families.map(family => `IPv${family}`).join(' and ')}`)
}

async function sayForward(
  facts: NodeFacts,
  runs: GatewayFacts | undefined,
  ports: NodePorts,
  steps: Steps,
): Promise<void> {
  const encodingNetworks = facts.encodingNetworks.map(formatPrefix)
  const samples = runs?.samples ?? samplesOf(facts, ports)
  const problems = await forwardProblems({ samples, encodingNetworks }, ports.nftList)
  for (const { what, fix } of problems) steps.wrong('FORWARD', what, { fix })
  if (problems.length === 0) steps.right('FORWARD', 'no rule is seen that drops encoded addresses')
}

/** A packet in each direction between an encoded address and one that this host has on a network. */
function samplesOf({ encodingNetworks, tunName }: NodeFacts, ports: NodePorts): Sample[] {
  const tun = ports.links().find(link => link.name === tunName)?.index
  const own = ports
    .addresses()
    .filter(one => one.index !== tun && !isLoopback(one.address) && !isLinkLocal(one.address))
  return encodingNetworks.flatMap(network => {
    const local = own.find(({ address }) => familyOf(address) === network.family)
    if (!local) return []
    const text = formatPrefix(network)
    const [remote, host] = [formatAddress(network.address), formatAddress(local.address)]
    return [
      { name: `from ${text} to hosts`, source: remote, destination: host, incoming: tunName, outgoing: undefined },
      { name: `from hosts to ${text}`, source: host, destination: remote, incoming: undefined, outgoing: tunName },
    ]
  })
}

/** What peers send comes in where we listen; the way back must be the same where the filter is strict. IPv4 alone has one. */
function sayReversePath(runs: GatewayFacts | undefined, ports: NodePorts, steps: Steps): void {
  const links = ports.links()
  const nameOf = (index: number | undefined) => links.find(link => link.index === index)?.name
  const ofAll = Number(ports.setting('ipv4/conf/all/rp_filter') ?? 0)
  const strict = links.filter(link => Math.max(link.rpFilter, ofAll) === STRICT)
  const bound = (runs?.bind ?? []).filter(address => address.length === 4 && !isUnspecified(address))
  const problems: string[] = []
  for (const bind of bound) {
    const at = ports.addresses().find(one => formatAddress(one.address) === formatAddress(bind))?.index
    const device = strict.find(link => link.index === at)
    for (const peer of device ? (runs?.peers ?? []) : []) {
      const address = parseAddress(peer.address)
      const way = address?.length === 4 ? nameOf(ports.wayTo(address)) : undefined
      if (way === undefined || way === device!.name || way === 'lo') continue
      problems.push(device!.name)
      steps.wrong(
        'reverse path',
        `what ${peer.address} sends to ${formatAddress(bind)} comes in at ${device!.name}, whose filter is strict, and the way back is ${way}: it is dropped`,
        {
          fix: `sysctl -w net.ipv4.conf.${device!.name}.rp_filter=2, or a route to ${peer.address} by ${device!.name}`,
        },
      )
    }
  }
  if (problems.length > 0) return
  const detail = strict.length === 0 ? 'no strict filter' : `strict at ${strict.map(({ name }) => name).join(', ')}`
  steps.right('reverse path', strict.length === 0 ? detail : `${detail}; not in the way`)
}

function sayTun({ tunName }: NodeFacts, ports: NodePorts, steps: Steps): void {
  try {
    ports.openTun()
    const link = ports.links().find(one => one.name === tunName)
    const device = link ? `${tunName}${link.up ? '' : ' is down'}, MTU ${link.mtu}` : `no device ${tunName} yet`
    steps.right('tun', `${TUN_PATH} can be opened; ${device}`)
  } catch (error) {
    const { what, fix } = tunRefusal(error as NodeJS.ErrnoException)
    steps.wrong('tun', what, { fix })
  }
}

async function sayNftables(runs: GatewayFacts | undefined, ports: NodePorts, steps: Steps): Promise<void> {
  try {
    await ports.nft('')
  } catch (error) {
    return steps.wrong('nftables', (error as Error).message, {
      fix: 'install nftables; it keeps what nobody published closed',
    })
  }
  if (!runs || runs.devmode) return steps.right('nftables', 'there')
  if (runs.filterTable === undefined)
    return steps.doubtful('nftables', 'hosts that nobody published are open to all (-open-hosts)', {
      fix: 'take -open-hosts away where that is not meant',
    })
  if (await ports.nftList(`table inet ${runs.filterTable}`))
    return steps.right('nftables', `table inet ${runs.filterTable} is in force: others reach what is published`)
  steps.wrong('nftables', `table inet ${runs.filterTable} is gone: what nobody published is open`, {
    fix: 'start the gateway anew, and look for what flushes the rule set',
  })
}

/** No gateway of ours answers: does somebody else have its port? */
function sayTaken(port: number, ports: NodePorts, steps: Steps): void {
  if (!isTaken(port, ports)) return steps.right('ports', `UDP port ${port} is free`)
  steps.wrong('ports', `UDP port ${port} is taken by another program`, {
    fix: `look which: ss -lunp 'sport = :${port}'; or choose another with -gateway-port`,
  })
}

// local address in the second column, as HEX:PORT
function isTaken(port: number, ports: NodePorts): boolean {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return ['udp', 'udp6'].some(name =>
    ports
      .procNet(name)
      .split('\n')
      .slice(1)
      .some(line => line.trim().split(/\s+/)[1]?.endsWith(wanted)),
  )
}

// ---- the gateway

function sayReady({ unready }: GatewayFacts, steps: Steps): void {
  const said = steps.all.filter(step => !step.ok).map(({ detail, fix = '' }) => hindranceText({ what: detail, fix }))
  const fresh = unready.filter(reason => !said.includes(reason))
  for (const reason of fresh)
    steps.wrong('ready', reason, { fix: 'the log of the gateway says more; /readyz says the same' })
  if (unready.length === 0) steps.right('ready', 'the gateway does its whole work')
}

/** A public address that this host does not have is that of a NAT in front. */
function sayNat({ bind, contexts, peers }: GatewayFacts, port: number, ports: NodePorts, steps: Steps): void {
  const own = new Set(ports.addresses().map(({ address }) => formatAddress(address)))
  const families = [...new Set(bind.map(familyOf))]
  for (const family of families) {
    const inside = bind
      .filter(address => familyOf(address) === family)
      .map(address => (isUnspecified(address) ? THIS_HOST : formatAddress(address)))
      .join(', ')
    const outside = contexts.filter(address => familyOf(address) === family).map(formatAddress)
    const foreign = outside.filter(text => !own.has(text))
    if (foreign.length > 0) {
      const text = foreign.join(', ')
      steps.doubtful('NAT', `${text} is not on this host${asText(inside)}: there is a NAT in front`, {
        fix: `it must lead UDP port ${port} of ${text} to port ${port} of ${inside}, and keep that port as source of what we send; whether it does, a peer sees: ipref check ${foreign[0]} there`,
      })
    } else if (outside.length > 0) steps.right('NAT', `${outside.join(', ')} is on this host: none`)
    else sayUnknown({ family, inside, peers }, steps)
  }
}

function asText(inside: string): string {
  return inside === THIS_HOST ? '' : ` (${inside})`
}

function sayUnknown(
  { family, inside, peers }: { family: 4 | 6; inside: string; peers: readonly PeerReport[] },
  steps: Steps,
): void {
  const kept = peers.filter(peer => peer.configured && (peer.address.includes(':') ? 6 : 4) === family)
  const open = kept.filter(peer => peer.verified)
  const what = `our public IPv${family} address is not known${asText(inside)}, as behind a NAT`
  if (open.length > 0)
    return steps.right('NAT', `${what}; it is kept open towards ${open.map(({ address }) => address).join(', ')}`)
  steps.doubtful('NAT', `${what}, and it is not open towards anybody`, {
    fix: 'others reach us only if each of them is named with -peer (or an IprefPeer), or if -gateway-pub says the public address and the NAT leads its port to us',
  })
}

function sayPeer(peer: PeerReport, steps: Steps): void {
  const { address, port, verified, configured, lastSeenSecondsAgo: ago, mtu, rttMs } = peer
  const what = `peer ${address}`
  if (verified && ago !== null && (ago <= SILENT_S || !configured)) {
    const rtt = rttMs === null ? '' : `, ${rttMs.toFixed(1)} ms`
    return steps.right(what, `at UDP port ${port}, heard from ${ago} s ago${rtt}, path MTU ${mtu}`)
  }
  if (!configured)
    return steps.right(what, `at UDP port ${port}, not proved yet${ago === null ? '' : `, heard from ${ago} s ago`}`)
  const heard = ago === null ? 'nothing was ever heard from it' : `silent for ${ago} s`
  steps.doubtful(what, `at UDP port ${port}: ${heard}`, { fix: `ipref check peer/${address}` })
}
