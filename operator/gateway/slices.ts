/**
 * How the encoding networks are cut (decisions.md 20). Pure.
 *
 *   10.176.0.0/12   |static, shared: 10.176.0.0/16|slice|slice|slice| …         a slice: /18, wholly dynamic, of one gateway
 *
 * A slice is kept for as long as its gateway exists; a new gateway takes the lowest that nobody has. What a person wrote into an IprefGateway holds, as long
 * as it lies in the network, outside the static part and in nobody else's slice; of two, the older keeps it.
 */
import { formatPrefix, type Prefix, parsePrefix, prefixContains, prefixesOverlap } from '../../ipref/address.ts'

/** The static part takes a sixteenth at least, and is no smaller than one of these where there is room. */
const STATIC_LENGTH = { 4: 16, 6: 80 } as const
const STATIC_BITS = 2

export interface SliceLengths {
  ipv4: number
  ipv6: number
}

export interface SliceOwner {
  name: string
  /** written before, by the operator or by a person */
  slices: readonly string[]
  /** for ties */
  age: string
}

export interface Allotment {
  /** by gateway */
  slices: Map<string, string[]>
  /** by gateway: why it has no slice, or not the one that is written */
  problems: Map<string, { reason: 'NoSliceLeft' | 'SliceInvalid' | 'SliceConflict'; message: string }>
}

/** The first part of an encoding network: static addresses of all gateways. */
export function staticPart(network: Prefix): Prefix {
  const length = Math.max(network.length + STATIC_BITS, STATIC_LENGTH[network.family])
  return { ...network, length: Math.min(length, network.address.length * 8) }
}

export function allot(owners: readonly SliceOwner[], networks: readonly Prefix[], lengths: SliceLengths): Allotment {
  const order = [...owners].sort((a, b) => (a.age < b.age ? -1 : a.age > b.age ? 1 : a.name < b.name ? -1 : 1))
  const slices = new Map<string, string[]>(order.map(owner => [owner.name, []]))
  const problems: Allotment['problems'] = new Map()
  for (const network of networks) {
    const taken: { slice: Prefix; owner: string }[] = []
    const without: string[] = []
    for (const { name, slices: written } of order) {
      const own = written.map(parsePrefix).find(slice => slice?.family === network.family)
      const problem = own && refusal(own, network, taken)
      if (problem) problems.set(name, problem)
      if (!own || problem) without.push(name)
      else give(name, own)
    }
    for (const name of without) {
      const free = lowestFree(network, network.family === 4 ? lengths.ipv4 : lengths.ipv6, taken)
      if (free) give(name, free)
      else problems.set(name, { reason: 'NoSliceLeft', message: noneLeft(network, lengths, taken.length) })
    }
    function give(owner: string, slice: Prefix): void {
      taken.push({ slice, owner })
      slices.get(owner)!.push(formatPrefix(slice))
    }
  }
  return { slices, problems }
}

function refusal(
  slice: Prefix,
  network: Prefix,
  taken: readonly { slice: Prefix; owner: string }[],
): { reason: 'SliceInvalid' | 'SliceConflict'; message: string } | undefined {
  const text = formatPrefix(slice)
  const fixed = staticPart(network)
  if (slice.length < network.length || !prefixContains(network, slice.address))
    return { reason: 'SliceInvalid', message: `${text} is not inside the encoding network ${formatPrefix(network)}` }
  if (prefixesOverlap(slice, fixed))
    return {
      reason: 'SliceInvalid',
      message: `${text} meets the static part ${formatPrefix(fixed)}, which all gateways share`,
    }
  const other = taken.find(one => prefixesOverlap(one.slice, slice))
  return (
    other && {
      reason: 'SliceConflict',
      message: `${text} meets ${formatPrefix(other.slice)} of gateway ${other.owner}`,
    }
  )
}

function lowestFree(network: Prefix, length: number, taken: readonly { slice: Prefix }[]): Prefix | undefined {
  const bits = network.address.length * 8
  const step = 1n << BigInt(bits - length)
  const fixed = staticPart(network)
  const first = numberOf(network.address) + (1n << BigInt(bits - fixed.length))
  const end = numberOf(network.address) + (1n << BigInt(bits - network.length))
  const used = taken.map(({ slice }) => {
    const start = numberOf(slice.address)
    return { start, end: start + (1n << BigInt(bits - slice.length)) }
  })
  for (let at = roundUp(first, step); at + step <= end; ) {
    const hit = used.find(one => at < one.end && one.start < at + step)
    if (!hit) return { family: network.family, address: bytesOfNumber(at, network.address.length), length }
    at = roundUp(hit.end, step)
  }
  return undefined
}

export function numberOf(address: Uint8Array): bigint {
  return address.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n)
}

export function bytesOfNumber(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * (length - 1 - i))) & 0xffn))
}

function roundUp(value: bigint, step: bigint): bigint {
  return ((value + step - 1n) / step) * step
}

function noneLeft(network: Prefix, { ipv4, ipv6 }: SliceLengths, taken: number): string {
  const length = network.family === 4 ? ipv4 : ipv6
  return `${formatPrefix(network)} has no /${length} left: ${taken} gateways have one each; make sliceLengths longer, or the network larger`
}
