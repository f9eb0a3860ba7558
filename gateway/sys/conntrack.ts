/**
 * Connection tracking by netlink (linux/netfilter/nfnetlink_conntrack.h): removes the entries that a condition picks by their four addresses.
 * The next packet of such a connection is judged anew, by the rules as they are now.
 */
import { Errno } from './layouts.ts'
import { attribute, attributesOf, concat, NETLINK_NETFILTER, NLM_F, request, tolerate } from './netlinkMessages.ts'

const SUBSYSTEM = 1 << 8
const GET = SUBSYSTEM | 1
const DELETE = SUBSYSTEM | 2
const CTA = { original: 1, reply: 2, id: 12, zone: 18 } as const
const CTA_TUPLE_IP = 1
const CTA_IP = [1, 2, 3, 4] as const
const NESTED = 0x8000
const NOTHING = new Uint8Array(0)

/** Removes entries of which one address is picked; how many. */
export function flushConntrack(isPicked: (address: Uint8Array) => boolean): number {
  // struct nfgenmsg { u8 family; u8 version; be16 resource; }
  const list = { type: GET, flags: NLM_F.dump, body: new Uint8Array(4), protocol: NETLINK_NETFILTER }
  let removed = 0
  for (const { body } of request('list connections', list)) {
    const attributes = attributesOf(body, 4)
    if (![CTA.original, CTA.reply].some(tuple => addressesOf(attributes.get(tuple)).some(isPicked))) continue
    removed++
    tolerate([Errno.ENOENT], () =>
      request('remove connection', {
        type: DELETE,
        flags: NLM_F.ack,
        body: concat(
          Uint8Array.of(body[0]!, 0, 0, 0),
          attribute(CTA.original | NESTED, attributes.get(CTA.original)!),
          ...[CTA.id, CTA.zone].flatMap(type => {
            const value = attributes.get(type)
            return value ? [attribute(type, value)] : []
          }),
        ),
        protocol: NETLINK_NETFILTER,
      }),
    )
  }
  return removed
}

function addressesOf(tuple: Uint8Array | undefined): Uint8Array[] {
  const ip = attributesOf(attributesOf(tuple ?? NOTHING, 0).get(CTA_TUPLE_IP) ?? NOTHING, 0)
  return CTA_IP.flatMap(type => ip.get(type) ?? [])
}
