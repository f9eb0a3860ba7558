/**
 * What follows from an IprefPeer: whether it is accepted, the encoded addresses and names of its hosts, and the gateway that carries them. Pure.
 *
 * Hosts have static encoded addresses (decisions.md 29): in the first part of each encoding network, which no gateway has as a slice, and where the
 * second-to-last byte says that an address is static. An address is kept for as long as the host is named; where it begins to be looked for follows from the
 * names, so that a peer that is made again finds its addresses again where they are free. Of two peers that say the same, the older wins.
 */
import { createHash } from 'node:crypto'
import { formatAddress, type Prefix, parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import { isStaticEncoded } from '../../ipref/lifetimes.ts'
import type { Config } from '../../resources/config.ts'
import type { IprefGateway, IprefPeer, IprefPeerStatus } from '../../resources/kinds.ts'
import { isAtOrBelow, PEERS } from '../../resources/names.ts'
import type { Finding } from '../conditions.ts'
import { bytesOfNumber, numberOf, staticPart } from '../gateway/slices.ts'

type Host = NonNullable<IprefPeerStatus['hosts']>[number]

const MOST_NAME = 253

export interface PeerInput {
  object: IprefPeer
  config: Config
  /** every other peer that is not being deleted */
  others: readonly IprefPeer[]
  /** public addresses of our own gateways */
  own: readonly string[]
  /** of the gateway, as resolved last */
  addresses: readonly string[]
  /** why they may be old; undefined: they are not */
  unresolved: { reason: string; message: string } | undefined
  /** gateways that are alive */
  gateways: readonly IprefGateway[]
}

export interface PeerPlan {
  hosts: Host[]
  gateway: string | undefined
  /** `Accepted` and `Resolved` */
  findings: Finding[]
}

export function planPeer(input: PeerInput): PeerPlan {
  const refusal = refusalOf(input)
  if (refusal) return { hosts: [], gateway: undefined, findings: [said('Accepted', refusal), unknown('Resolved')] }
  const { hosts, problem } = hostsOf(input)
  const accepted = problem ? said('Accepted', problem) : good('Accepted', 'Accepted')
  return { hosts, gateway: carrierOf(input, hosts), findings: [accepted, resolvedOf(input)] }
}

type Problem = { reason: string; message: string }

function said(type: string, { reason, message }: Problem): Finding {
  return { type, status: 'False', reason, message }
}

function good(type: string, reason: string): Finding {
  return { type, status: 'True', reason, message: '' }
}

function unknown(type: string): Finding {
  return { type, status: 'Unknown', reason: 'NotAccepted', message: 'the object is not accepted' }
}

// ---- what forbids the whole

function refusalOf({ object, config, others, own, addresses }: PeerInput): Problem | undefined {
  const { spec } = object
  for (const zone of [config.internalZone, config.publicZone]) {
    const inside = spec.domains?.find(domain => zone !== undefined && isAtOrBelow(domain, zone))
    if (inside !== undefined)
      return { reason: 'DomainIsOurs', message: `domain ${inside} lies in our own zone ${zone}; leave it out` }
  }
  const ours = addresses.find(address => own.includes(address))
  if (ours !== undefined)
    return { reason: 'GatewayIsOurs', message: `${ours} is a gateway of this cluster; a peer is another network` }
  for (const other of others.filter(one => isOlder(one, object))) {
    const { name } = other.metadata
    const domain = spec.domains?.find(one => other.spec.domains?.includes(one))
    if (domain !== undefined)
      return { reason: 'DomainConflict', message: `domain ${domain} belongs to the older IprefPeer ${name}` }
    const shared = addresses.find(address => other.status?.addresses?.includes(address))
    if (shared !== undefined)
      return { reason: 'GatewayConflict', message: `${shared} is the gateway of the older IprefPeer ${name}` }
  }
  return undefined
}

export function isOlder({ metadata: a }: IprefPeer, { metadata: b }: IprefPeer): boolean {
  return `${a.creationTimestamp} ${a.uid}` < `${b.creationTimestamp} ${b.uid}`
}

function resolvedOf({ addresses, unresolved }: PeerInput): Finding {
  if (!unresolved) return good('Resolved', 'Resolved')
  const message = addresses.length === 0 ? unresolved.message : `${unresolved.message}; ${addresses.join(', ')} stay`
  return { type: 'Resolved', status: 'False', reason: unresolved.reason, message }
}

// ---- hosts

function hostsOf({ object, config, others }: PeerInput): { hosts: Host[]; problem?: Problem } {
  const taken = new Set<string>()
  for (const other of others)
    for (const { encodedAddress } of other.status?.hosts ?? []) {
      // what a younger one has may be ours by right: it is told when it looks again
      if (isOlder(other, object) || !isOwn(object, encodedAddress)) taken.add(encodedAddress)
    }
  const hosts: Host[] = []
  const { name: peer } = object.metadata
  for (const network of config.encodingNetworks.map(text => parsePrefix(text)!)) {
    for (const { name, reference } of object.spec.hosts ?? []) {
      const dnsName = `${name}.${peer}.${PEERS}.${config.internalZone}`
      if (dnsName.length > MOST_NAME)
        return {
          hosts,
          problem: { reason: 'NameTooLong', message: `${dnsName} has more than ${MOST_NAME} characters` },
        }
      const encodedAddress = addressOf({ peer, name }, network, object, taken)
      if (encodedAddress === undefined) {
        const message = `no static address is left in ${formatAddress(network.address)}/${network.length} for host ${name}`
        return { hosts, problem: { reason: 'NoEncodedAddressLeft', message } }
      }
      taken.add(encodedAddress)
      hosts.push({ name, reference, encodedAddress, dnsName })
    }
  }
  return { hosts }
}

function isOwn({ status }: IprefPeer, address: string): boolean {
  return status?.hosts?.some(host => host.encodedAddress === address) === true
}

function addressOf(
  { peer, name }: { peer: string; name: string },
  network: Prefix,
  { status }: IprefPeer,
  taken: ReadonlySet<string>,
): string | undefined {
  const fixed = staticPart(network)
  const kept = status?.hosts?.find(host => {
    const address = host.name === name ? parseAddress(host.encodedAddress) : undefined
    return address !== undefined && address.length === fixed.address.length && prefixContains(fixed, address)
  })
  if (kept && !taken.has(kept.encodedAddress)) return kept.encodedAddress
  const digest = createHash('sha256').update(`${peer} ${name}`).digest()
  const places = staticPlaces(fixed)
  const start = digest.readUIntBE(0, 6) % places
  for (let i = 0; i < places; i++) {
    const text = formatAddress(placeAt(fixed, (start + i) % places))
    if (!taken.has(text)) return text
  }
  return undefined
}

/** Second-to-last byte 0 to 15, last byte 2 to 254: neither a network's own address, nor the gateways', nor what looks like a broadcast. */
const LAST_BYTES = 253
const FIRST_LAST_BYTE = 2
const STATIC_BYTES = 16

function staticPlaces(fixed: Prefix): number {
  const hostBits = fixed.address.length * 8 - fixed.length
  return Math.min(STATIC_BYTES, hostBits >= 16 ? STATIC_BYTES : 2 ** Math.max(0, hostBits - 8)) * LAST_BYTES
}

function placeAt(fixed: Prefix, place: number): Uint8Array {
  const low = BigInt(Math.floor(place / LAST_BYTES) * 256 + (place % LAST_BYTES) + FIRST_LAST_BYTE)
  const address = bytesOfNumber(numberOf(fixed.address) + low, fixed.address.length)
  if (!isStaticEncoded(address)) throw new Error(`${formatAddress(address)} is not static`)
  return address
}

// ---- the gateway that carries them

function carrierOf({ object, gateways }: PeerInput, hosts: readonly Host[]): string | undefined {
  if (hosts.length === 0) return undefined
  const names = gateways.map(gateway => gateway.metadata.name).sort()
  const { status, metadata } = object
  if (status?.gateway !== undefined && names.includes(status.gateway)) return status.gateway
  if (names.length === 0) return status?.gateway
  const digest = createHash('sha256').update(metadata.name).digest()
  return names[digest.readUInt32BE() % names.length]
}
