/** Whether what the cluster says of the network goes together with how this gateway was started. Pure. */
import { formatPrefix, type Prefix } from '../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../resources/network.ts'

export interface Refusal {
  reason: string
  message: string
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
