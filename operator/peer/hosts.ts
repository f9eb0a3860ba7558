/**
 * Encoded addresses and names of hosts of peers that are known without DNS (decisions.md 29). Pure.
 *
 *   each encoding network: │ static part, of no gateway │ slices …       in it: second-to-last byte 0 to 15, last byte 2 to 254
 *
 * An address is kept for as long as the host is named. Where a new one begins to be looked for follows from the names, so that a peer that is made again finds
 * its addresses again where they are free. No two hosts of all peers have one address: where two do, the older peer keeps it.
 */
import { createHash } from 'node:crypto'
import {
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../ipref/address.ts'
import { isStaticEncoded } from '../../ipref/lifetimes.ts'
import type { IprefPeer, IprefPeerStatus } from '../../resources/kinds.ts'
import { PEERS } from '../../resources/names.ts'
import { bytesOfNumber, numberOf, staticPart } from '../gateway/slices.ts'

export type Host = NonNullable<IprefPeerStatus['hosts']>[number]

export interface HostsInput {
  object: IprefPeer
  encodingNetworks: readonly string[]
  internalZone: string
  /** every other peer; `isOlder`: what it has counts more */
  others: readonly { peer: IprefPeer; isOlder: boolean }[]
}

export interface HostsProblem {
  reason: 'NameTooLong' | 'NoEncodedAddressLeft'
  message: string
}

const MOST_NAME = 253
/** Neither a network's own address, nor that of a gateway, nor what looks like a broadcast. */
const [FIRST_LAST_BYTE, LAST_BYTES] = [2, 253]
const STATIC_BYTES = 16

/** In the order of the networks and of the specification. */
export function hostsOf(input: HostsInput): { hosts: Host[]; problem?: HostsProblem } {
  const { object, encodingNetworks, internalZone } = input
  const wanted = object.spec.hosts ?? []
  const { name: peer } = object.metadata
  const nameOf = (host: string) => `${host}.${peer}.${PEERS}.${internalZone}`
  const long = wanted.map(({ name }) => nameOf(name)).find(name => name.length > MOST_NAME)
  if (long !== undefined)
    return { hosts: [], problem: { reason: 'NameTooLong', message: `${long} has more than ${MOST_NAME} characters` } }
  const taken = takenByOthers(input)
  const hosts: Host[] = []
  for (const network of encodingNetworks.flatMap(text => parsePrefix(text) ?? [])) {
    const fixed = staticPart(network)
    const kept = keptAddresses(object, fixed, taken)
    for (const { name, reference } of wanted) {
      const encodedAddress = kept.get(name) ?? freeAddress(`${peer} ${name}`, fixed, taken)
      if (encodedAddress === undefined) {
        const message = `no static address is left in ${formatPrefix(network)} for host ${name}`
        return { hosts, problem: { reason: 'NoEncodedAddressLeft', message } }
      }
      taken.add(encodedAddress)
      hosts.push({ name, reference, encodedAddress, dnsName: nameOf(name) })
    }
  }
  return { hosts }
}

/** What a younger one has of ours is ours by right: it is told when it looks again. */
function takenByOthers({ object, others }: HostsInput): Set<string> {
  const own = new Set((object.status?.hosts ?? []).map(({ encodedAddress }) => encodedAddress))
  const taken = new Set<string>()
  for (const { peer, isOlder } of others)
    for (const { encodedAddress } of peer.status?.hosts ?? [])
      if (isOlder || !own.has(encodedAddress)) taken.add(encodedAddress)
  return taken
}

/** By name of the host; before any new one is given, so that none is given to another host. */
function keptAddresses({ spec, status }: IprefPeer, fixed: Prefix, taken: Set<string>): Map<string, string> {
  const kept = new Map<string, string>()
  const named = new Set((spec.hosts ?? []).map(({ name }) => name))
  for (const { name, encodedAddress } of status?.hosts ?? []) {
    const address = parseAddress(encodedAddress)
    if (!address || !named.has(name) || kept.has(name) || taken.has(encodedAddress)) continue
    if (!prefixContains(fixed, address) || !isStaticEncoded(address)) continue
    kept.set(name, encodedAddress)
    taken.add(encodedAddress)
  }
  return kept
}

function freeAddress(name: string, fixed: Prefix, taken: ReadonlySet<string>): string | undefined {
  const places = placesOf(fixed)
  const start = createHash('sha256').update(name).digest().readUIntBE(0, 6)
  for (let i = 0; i < places; i++) {
    const address = placeAt(fixed, (start + i) % places)
    // a small network may have no static address at all
    if (isStaticEncoded(address) && !taken.has(formatAddress(address))) return formatAddress(address)
  }
  return undefined
}

function placesOf({ address, length }: Prefix): number {
  const hostBits = address.length * 8 - length
  if (hostBits < 8) return Math.max(0, 2 ** hostBits - 1 - FIRST_LAST_BYTE)
  return Math.min(STATIC_BYTES, 2 ** (hostBits - 8)) * LAST_BYTES
}

function placeAt(fixed: Prefix, place: number): Uint8Array {
  const low = BigInt(Math.floor(place / LAST_BYTES) * 256 + (place % LAST_BYTES) + FIRST_LAST_BYTE)
  return bytesOfNumber(numberOf(fixed.address) + low, fixed.address.length)
}
