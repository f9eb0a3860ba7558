/**
 * By what we know what is ours on a node, also when nothing else is remembered: removing needs these alone, and nothing without one of them is touched.
 *
 *   routes, rules   protocol number 145 (`ip route show proto 145`); distributions and routing daemons use lower ones, and 186 to 192
 *   links           the two names, of kind vxlan, with our number of the network (VNI) and our port
 *   nftables        one table
 */
export const ROUTE_PROTOCOL = 145
/** Beside a route of somebody else to the same destination, ours has its own place, and theirs mostly comes first. */
export const ROUTE_METRIC = 145
/** Ways back: from the tunnel to the pods of other nodes. The number is table and priority of the rule. */
export const RETURN_TABLE = 1045
export const RULE_PRIORITY = 1045
/** By family of the network below. */
export const VXLAN_NAMES = { 4: 'ipref-vx', 6: 'ipref-vx6' } as const
export const VXLAN_ALIAS = 'ipref node network: removed by ipref gateway -cleanup'
/**
 * The dummy address of RFC 7600, on each VXLAN link of ours: a loose reverse path filter drops, at a link without any IPv4 address, all sources that it
 * would answer by another link (Linux net/ipv4/fib_frontend.c, __fib_validate_source, no_addr).
 */
export const DUMMY_ADDRESS = '192.0.0.8/32'
export const VNI = 1045
export const VXLAN_PORT = 1046
export const PROBE_PORT = 1047
export const NODE_TABLE = 'ipref_node'
export const RULE_FAMILIES = [4, 6] as const

export function isVxlanName(name: string): boolean {
  return name === VXLAN_NAMES[4] || name === VXLAN_NAMES[6]
}
