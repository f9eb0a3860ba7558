/**
 * Whether what the cluster says of the network goes together with how this gateway was started. Pure.
 *
 *   EncodingNetworkOverlap, EncodingNetworkMismatch, Releasing, Released   nothing is in force: no mapping, no route to the encoding network
 *   WaitingForOperator   nothing new is given, what was said last goes on
 *   NotAGateway, NoSliceLeft, …   works without a slice: names are handed to gateways that have one
 */
import { formatPrefix, type Prefix } from '../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../resources/network.ts'

export interface Refusal {
  reason: string
  message: string
}

export const waiting: Refusal = {
  reason: 'WaitingForOperator',
  message: 'the operator has not said yet which gateways there are',
}

/** The operator waits for `released` before the object is gone. */
export const releasing: Refusal = {
  reason: 'Releasing',
  message: 'the IprefGateway of this node is being deleted: what was made on the node is taken away',
}

export const released: Refusal = {
  reason: 'Released',
  message: 'the IprefGateway of this node is being deleted: nothing is in force here any more',
}

/** Nothing may be in force: packets would go astray, or pods be taken for remote hosts. */
export function isForbidden(refusal: Refusal | undefined): boolean {
  const reasons = ['EncodingNetworkOverlap', 'EncodingNetworkMismatch', releasing.reason, released.reason]
  return refusal !== undefined && reasons.includes(refusal.reason)
}

/** Why the gateway may not work as it is; undefined: it may. */
export function refusalOf(
  network: Network,
  self: NetworkGateway | undefined,
  { encodingNetworks }: { encodingNetworks: readonly Prefix[] },
): Refusal | undefined {
  if (network.problem) return network.problem
  const [wanted, ours] = [[...network.encodingNetworks].sort(), encodingNetworks.map(formatPrefix).sort()]
  if (wanted.join() !== ours.join()) {
    const message = `the cluster's encoding network is ${wanted.join(', ')}, this gateway was started with ${ours.join(', ')}; start it with -encode-net as in the settings of the platform`
    return { reason: 'EncodingNetworkMismatch', message }
  }
  if (!self)
    return {
      reason: 'NotAGateway',
      message: 'the operator has no IprefGateway of this name yet, or its node does not match',
    }
  return self.problem
}
