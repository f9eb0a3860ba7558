/** Counts tunnel packets by their source context, as they arrive in a namespace: nftables reads it in the datagram itself. */
import type { Namespace } from './netns.ts'

/** bits from the UDP header: 64 of that, 32 of ours, then the source context (wire.md section 2; no fragment info) */
const SOURCE_CONTEXT = '@th,96,32'

/** IPv4 contexts; '0.0.0.0' is one that the sender does not know. */
export async function watchContexts(at: Namespace, contexts: readonly string[]): Promise<void> {
  const counters = contexts.map(context => `counter ${nameOf(context)} {}`)
  const rules = contexts.map(
    context => `udp dport 1045 ${SOURCE_CONTEXT} ${numberOf(context)} counter name ${nameOf(context)}`,
  )
  await at.nft(`table ip wire {
  ${counters.join('\n  ')}
  chain arrives {
    type filter hook prerouting priority -300;
    ${rules.join('\n    ')}
  }
}`)
}

/** Packets so far. */
export async function packetsWith(at: Namespace, context: string): Promise<number> {
  const text = await at.require(['nft', '-j', 'list', 'counter', 'ip', 'wire', nameOf(context)])
  const { nftables } = JSON.parse(text) as { nftables: { counter?: { packets: number } }[] }
  return nftables.find(one => one.counter)!.counter!.packets
}

function nameOf(context: string): string {
  return `from_${context.replaceAll('.', '_')}`
}

function numberOf(context: string): string {
  return `0x${context
    .split('.')
    .map(part => Number(part).toString(16).padStart(2, '0'))
    .join('')}`
}
