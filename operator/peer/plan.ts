/**
 * What follows from an IprefPeer: whether it is accepted, at which addresses its gateway is, its hosts, and the gateway that carries them. Pure.
 *
 * Of two peers that say the same gateway or domain the older wins; one that is refused itself claims nothing. An address of a gateway is taken as it is, but for
 * what can be no other network: our own gateways and nodes (packets would come back to us), loopback and link-local, encoding networks (they lead into the
 * tunnel), pod and service networks (from there nothing is taken for a tunnel packet, decisions.md 26). Names are resolved by what others write into DNS, so
 * a name that leads there must not make our gateways send there.
 */
import { createHash } from 'node:crypto'
import type { Config } from '../../resources/config.ts'
import type { IprefPeer } from '../../resources/kinds.ts'
import { isAtOrBelow } from '../../resources/names.ts'
import type { Finding } from '../conditions.ts'
import { type Host, hostsOf } from './hosts.ts'
import type { Resolved } from './resolved.ts'

export interface PeerInput {
  object: IprefPeer
  config: Pick<Config, 'encodingNetworks' | 'internalZone' | 'publicZone'>
  /** every other peer that is not being deleted */
  others: readonly IprefPeer[]
  /** why no gateway of another network has this address */
  refusalOf(address: string): { reason: 'GatewayIsOurs' | 'GatewayForbidden'; message: string } | undefined
  /** of the gateway, as resolved last */
  resolved: Resolved
  /** names of gateways that are alive */
  gateways: readonly string[]
}

export interface PeerPlan {
  /** those that may be */
  addresses: string[]
  hosts: Host[]
  gateway: string | undefined
  /** `Accepted` and `Resolved` */
  findings: Finding[]
}

type Problem = { reason: string; message: string }

export function planPeer(input: PeerInput): PeerPlan {
  const { object, config, others, resolved, refusalOf } = input
  const addresses = resolved.addresses.filter(address => refusalOf(address) === undefined)
  const problem = refusalOfPeer(input, addresses)
  if (problem) return refused(problem, addresses)
  const { encodingNetworks, internalZone } = config
  const rivals = others.map(peer => ({ peer, isOlder: isOlder(peer, object) }))
  const found = hostsOf({ object, encodingNetworks, internalZone, others: rivals })
  if (found.problem) return refused(found.problem, addresses)
  const accepted: Finding = { type: 'Accepted', status: 'True', reason: 'Accepted', message: '' }
  const { hosts } = found
  return { addresses, hosts, gateway: carrierOf(input, hosts), findings: [accepted, resolvedFinding(input, addresses)] }
}

function refused({ reason, message }: Problem, addresses: string[]): PeerPlan {
  const findings: Finding[] = [
    { type: 'Accepted', status: 'False', reason, message },
    { type: 'Resolved', status: 'Unknown', reason: 'NotAccepted', message: 'the object is not accepted' },
  ]
  return { addresses, hosts: [], gateway: undefined, findings }
}

// ---- what forbids the whole

function refusalOfPeer(input: PeerInput, addresses: readonly string[]): Problem | undefined {
  const { object, config, others, resolved, refusalOf } = input
  const { domains = [] } = object.spec
  for (const zone of [config.internalZone, config.publicZone]) {
    const inside = domains.find(domain => zone !== undefined && isAtOrBelow(domain, zone))
    if (inside !== undefined)
      return { reason: 'DomainIsOurs', message: `domain ${inside} lies in our own zone ${zone}; leave it out` }
  }
  const [first] = resolved.addresses
  if (first !== undefined && addresses.length === 0) return refusalOf(first)
  for (const other of others.filter(one => isOlder(one, object) && !isRefused(one))) {
    const { name } = other.metadata
    const domain = domains.find(one => other.spec.domains?.includes(one))
    if (domain !== undefined)
      return { reason: 'DomainConflict', message: `domain ${domain} belongs to the older IprefPeer ${name}` }
    const theirs = [...(other.status?.addresses ?? []), other.spec.gateway.address]
    const shared = addresses.find(address => theirs.includes(address))
    if (shared !== undefined)
      return { reason: 'GatewayConflict', message: `${shared} is the gateway of the older IprefPeer ${name}` }
  }
  return undefined
}

export function isOlder({ metadata: a }: IprefPeer, { metadata: b }: IprefPeer): boolean {
  return `${a.creationTimestamp} ${a.uid}` < `${b.creationTimestamp} ${b.uid}`
}

/** As it is now: after an edit it claims again until it was looked at. */
function isRefused({ metadata, status }: IprefPeer): boolean {
  const accepted = status?.conditions?.find(({ type }) => type === 'Accepted')
  return accepted?.status === 'False' && accepted.observedGeneration === metadata.generation
}

function resolvedFinding({ resolved, refusalOf }: PeerInput, addresses: readonly string[]): Finding {
  const { problem } = resolved
  const say = (status: Finding['status'], reason: string, message: string): Finding => ({
    type: 'Resolved',
    status,
    reason,
    message,
  })
  if (problem) {
    const message = addresses.length === 0 ? problem.message : `${problem.message}; ${addresses.join(', ')} stay`
    return say(problem.isWaiting ? 'Unknown' : 'False', problem.reason, message)
  }
  const left = resolved.addresses.find(address => !addresses.includes(address))
  if (left === undefined) return say('True', 'Resolved', '')
  return say('True', 'SomeAddressesForbidden', `left out: ${refusalOf(left)!.message}`)
}

// ---- the gateway that carries its hosts

/** Kept while it is alive; moved when it is not and another is. */
function carrierOf({ object, gateways }: PeerInput, hosts: readonly Host[]): string | undefined {
  if (hosts.length === 0) return undefined
  const { status, metadata } = object
  const known = status?.gateway
  if ((known !== undefined && gateways.includes(known)) || gateways.length === 0) return known
  const digest = createHash('sha256').update(metadata.name).digest()
  return [...gateways].sort()[digest.readUInt32BE() % gateways.length]
}
