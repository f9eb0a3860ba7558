/**
 * Who may say what about an address, and who wins (design.md section 5).
 *
 *   static (flags)  >  crd  >  hosts  >  dns:<local>:<public>  >  dynamic
 *
 * Each owner but `dynamic` hands over its whole set of assertions; `resolve` puts the sets together: for each address and for each reference
 * the earlier owner wins, within one owner the earlier line. Losers stay in their owner's set, so they take over when the winner goes. Pure.
 */
import {
  type AddressWords,
  equalAddress,
  familyOf,
  formatAddress,
  isLinkLocal,
  isLoopback,
  isUnicast,
  type Prefix,
  prefixContains,
} from '../../ipref/address.ts'
import { isStaticEncoded, isStaticReference } from '../../ipref/lifetimes.ts'
import { formatReference } from '../../ipref/reference.ts'

export type Owner = 'static' | 'crd' | 'hosts' | `dns:${string}` | 'dynamic'

/** What of a published host may be reached, besides replies and ICMP. */
export interface PortRange {
  protocol: 'tcp' | 'udp' | 'sctp'
  first: number
  last: number
}

export type Assertion =
  | {
      kind: 'ours'
      address: Uint8Array
      contexts: 'all' | Uint8Array
      reference: bigint
      /** absent: every port and protocol */
      ports?: readonly PortRange[]
      where?: string
    }
  | { kind: 'theirs'; encoded: Uint8Array; context: Uint8Array; reference: bigint; where?: string }

/** An assertion that is not in force, and why. */
export interface Problem {
  owner: Owner
  assertion: Assertion
  reason:
    | 'invalid'
    | 'not_static'
    | 'outside_encoding_network'
    | 'foreign_context'
    | 'shadowed'
    | 'AddressAlreadyReferenced'
  detail: string
}

export interface AssertionRules {
  encodingNetworks: readonly Prefix[]
  /** own encoded addresses */
  ownEncoded: readonly Uint8Array[]
  /** own context addresses; empty: unknown, every one is taken as ours */
  contexts: readonly Uint8Array[]
  gatewayReference: bigint
}

const RANK = { static: 0, crd: 1, hosts: 2, dynamic: 4 } as const

export function compareOwners(a: Owner, b: Owner): number {
  const rank = (owner: Owner) => (owner.startsWith('dns:') ? 3 : RANK[owner as keyof typeof RANK])
  return rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0)
}

export function describeAssertion(assertion: Assertion): string {
  if (assertion.kind === 'ours')
    return `${formatAddress(assertion.address)} = pub + ${formatReference(assertion.reference)}`
  return `${formatAddress(assertion.encoded)} = ext ${formatAddress(assertion.context)} + ${formatReference(assertion.reference)}`
}

/** Is an assertion possible at all? undefined: yes. */
export function checkAssertion(owner: Owner, assertion: Assertion, rules: AssertionRules): Problem | undefined {
  const refuse = (reason: Problem['reason'], detail: string): Problem => ({ owner, assertion, reason, detail })
  const { reference } = assertion
  if (reference === 0n) return refuse('invalid', '0 is no reference')
  return assertion.kind === 'ours' ? checkOurs(assertion, rules, refuse) : checkTheirs(assertion, rules, refuse)
}

type Refuse = (reason: Problem['reason'], detail: string) => Problem

function checkOurs(
  assertion: Assertion & { kind: 'ours' },
  rules: AssertionRules,
  refuse: Refuse,
): Problem | undefined {
  const { address, contexts, reference } = assertion
  if (!isUnicast(address) || isLoopback(address) || isLinkLocal(address))
    return refuse('invalid', `${formatAddress(address)} is no address of a host`)
  if (rules.encodingNetworks.some(network => prefixContains(network, address))) {
    return refuse(
      'invalid',
      `${formatAddress(address)} lies in the encoding network; a host of ours has an address outside it`,
    )
  }
  if (!rules.encodingNetworks.some(network => network.family === familyOf(address))) {
    return refuse(
      'invalid',
      `there is no IPv${familyOf(address)} encoding network for ${formatAddress(address)}; add one with -encode-net`,
    )
  }
  if (reference === rules.gatewayReference)
    return refuse('invalid', `reference ${formatReference(reference)} is the gateway itself`)
  if (!isStaticReference(reference)) {
    return refuse(
      'not_static',
      `reference ${formatReference(reference)} has 16 or more in bits 15..8; those are for dynamic mappings`,
    )
  }
  if (
    contexts !== 'all' &&
    rules.contexts.length > 0 &&
    !rules.contexts.some(context => equalAddress(context, contexts))
  ) {
    return refuse(
      'foreign_context',
      `context ${formatAddress(contexts)} is not an address of this gateway (${rules.contexts.map(formatAddress).join(', ')})`,
    )
  }
  return undefined
}

function checkTheirs(
  assertion: Assertion & { kind: 'theirs' },
  rules: AssertionRules,
  refuse: Refuse,
): Problem | undefined {
  const { encoded, context } = assertion
  const network = rules.encodingNetworks.find(n => prefixContains(n, encoded))
  if (!network)
    return refuse('outside_encoding_network', `${formatAddress(encoded)} lies in no encoding network of this gateway`)
  if (rules.ownEncoded.some(own => equalAddress(own, encoded)) || equalAddress(network.address, encoded)) {
    return refuse('invalid', `${formatAddress(encoded)} is the gateway's own address, or that of the network`)
  }
  if (!isStaticEncoded(encoded)) {
    return refuse(
      'not_static',
      `${formatAddress(encoded)} has 16 or more in its second-to-last byte; those are for dynamic mappings`,
    )
  }
  if (!isContext(context)) return refuse('invalid', `context ${formatAddress(context)} is no unicast address`)
  return undefined
}

/** May be the address of a gateway. */
export function isContext(context: Uint8Array): boolean {
  return isUnicast(context) && !isLoopback(context)
}

export interface Claim {
  owner: Owner
  assertion: Assertion
}

export interface Resolution {
  /** by key: what is in force */
  winners: Map<string, Claim>
  problems: Problem[]
}

export function keyOfWords(kind: 'ours' | 'theirs', local: AddressWords): string {
  return `${kind === 'ours' ? 'o' : 't'}${local.join()}`
}

/** Puts the sets of all owners together. */
export function resolve(sets: ReadonlyMap<Owner, readonly Assertion[]>, rules: AssertionRules): Resolution {
  const winners = new Map<string, Claim>()
  const taken = new Map<string, Claim>()
  const problems: Problem[] = []
  const owners = [...sets.keys()].sort(compareOwners)
  for (const owner of owners) {
    for (const assertion of sets.get(owner)!) {
      const problem = checkAssertion(owner, assertion, rules) ?? claim({ owner, assertion }, taken, winners)
      if (problem) problems.push(problem)
    }
  }
  return { winners, problems }
}

function claim(wanted: Claim, taken: Map<string, Claim>, winners: Map<string, Claim>): Problem | undefined {
  const { assertion } = wanted
  const local = Buffer.from(assertion.kind === 'ours' ? assertion.address : assertion.encoded).toString('hex')
  const remote =
    assertion.kind === 'ours'
      ? assertion.reference.toString(16)
      : `${Buffer.from(assertion.context).toString('hex')}+${assertion.reference.toString(16)}/${local.length}`
  const [localKey, remoteKey] = [`${assertion.kind} at ${local}`, `${assertion.kind} by ${remote}`]
  const [byLocal, byRemote] = [taken.get(localKey), taken.get(remoteKey)]
  // the same said twice is one
  if (byLocal && byLocal === byRemote) return undefined
  const winner = byLocal ?? byRemote
  if (!winner) {
    taken.set(localKey, wanted)
    taken.set(remoteKey, wanted)
    winners.set(localKey, wanted)
    return undefined
  }
  const reason =
    byLocal && assertion.kind === 'ours' && winner.owner === wanted.owner ? 'AddressAlreadyReferenced' : 'shadowed'
  const where = winner.assertion.where ? ` (${winner.assertion.where})` : ''
  return {
    ...wanted,
    reason,
    detail: `${describeAssertion(assertion)} gives way to ${describeAssertion(winner.assertion)} of ${winner.owner}${where}`,
  }
}
