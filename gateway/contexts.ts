/**
 * The context addresses of this gateway, one for each IP version at most: what `-gateway-pub` says, else what the cluster knows of it (spec of its
 * IprefGateway, settings, annotation of the node, ExternalIP; operator/gateway/plan.ts), else nobody knows: zeros are sent, and every destination
 * context is taken as ours. Pure.
 */
import { equalAddress, formatAddress, parseAddress } from '../ipref/address.ts'

export interface OwnContexts {
  contexts: readonly Uint8Array[]
  /** where the two say different things: peers are told one address by DNS, and see another in packets */
  problems: string[]
}

/** `published`: what the cluster says, as text. */
export function ownContextsOf(given: readonly Uint8Array[], published: readonly string[]): OwnContexts {
  const contexts = [...given]
  const problems: string[] = []
  for (const text of published) {
    const address = parseAddress(text)
    if (!address) continue
    const own = contexts.find(context => context.length === address.length)
    if (!own) contexts.push(address)
    else if (!equalAddress(own, address))
      problems.push(
        `the cluster publishes ${text} for this gateway, -gateway-pub says ${formatAddress(own)}: who asks DNS sends to the former, and is refused`,
      )
  }
  return { contexts, problems }
}

export function isSameList(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((address, i) => equalAddress(address, b[i]!))
}
