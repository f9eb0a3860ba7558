/**
 * Two dual-stack networks behind dual-stack gateways, and an internet of two routers; what families, mtu and restart tests use.
 *
 *   client 10.1.0.10 ── gw-a ── r1 ═══ r2 ── gw-b ── server 10.1.0.10
 *          fd01::10      198.51.100.1    198.51.100.2         fd01::10
 *                        2001:db8:a::1   2001:db8:b::1
 *
 * The server has reference 11 for its IPv4 and 12 for its IPv6 address. Network A gives it an encoded address for each of the
 * eight ways: own family × family of the server × family of the tunnel.
 */

import { type Lab, type LinkEnd, openLab } from '../support/netns.ts'
import { joinInternet, Network, type NetworkPlan } from '../support/networks.ts'

export interface Way {
  name: string
  /** what the client connects to */
  address: string
  /** family of the client's packets, and of the tunnel */
  family: 4 | 6
  tunnel: 4 | 6
}

const families = [4, 6] as const

export const ways: readonly Way[] = families.flatMap(tunnel =>
  families.flatMap(family =>
    families.map(far => ({
      name: `${family}→${far} over IPv${tunnel}`,
      address: family === 4 ? `10.240.${tunnel}.${far}` : `fd24::${tunnel}:${far}`,
      family,
      tunnel,
    })),
  ),
)

export interface TwoNetworks {
  lab: Lab
  a: Network
  b: Network
  /** the link between the two routers */
  middle: readonly [LinkEnd, LinkEnd]
}

const QUIET = ['-metrics-address', 'off', '-health-address', 'off'] as const
const contexts = { a: { 4: '198.51.100.1', 6: '2001:db8:a::1' }, b: { 4: '198.51.100.2', 6: '2001:db8:b::1' } } as const

function planOf(name: 'a' | 'b', host: string): NetworkPlan {
  const other = contexts[name === 'a' ? 'b' : 'a']
  return {
    name,
    lan: ['10.1.0.1/24', 'fd01::1/64'],
    hosts: { [host]: ['10.1.0.10/24', 'fd01::10/64'] },
    mappings: [
      `10.1.0.10 ${host}4 #= pub + 11`,
      `fd01::10 ${host}6 #= pub + 12`,
      // network B knows the client by name over IPv4 alone: over IPv6 it gets a dynamic address when it first sends
      ...ways
        .filter(way => name === 'a' || way.tunnel === 4)
        .map(way => `${way.address} far #= ext ${other[way.tunnel]} + ${way.address.endsWith('4') ? 11 : 12}`),
    ],
    flags: [
      ...['-gateway', contexts[name][4], '-gateway', contexts[name][6]],
      ...['-encode-net', '10.240.0.0/12', '-encode-net', 'fd24::/64', ...QUIET],
    ],
  }
}

export async function openTwoNetworks(env: NodeJS.ProcessEnv = {}): Promise<TwoNetworks> {
  const lab = await openLab()
  try {
    return await build(lab, env)
  } catch (error) {
    await lab.close()
    throw error
  }
}

async function build(lab: Lab, env: NodeJS.ProcessEnv): Promise<TwoNetworks> {
  const [r1, r2] = [await lab.add('r1', { forwards: true }), await lab.add('r2', { forwards: true })]
  const middle = [
    { in: r1, device: 'middle', addresses: ['203.0.113.1/30', '2001:db8:f::1/64'] },
    { in: r2, device: 'middle', addresses: ['203.0.113.2/30', '2001:db8:f::2/64'] },
  ] as const
  await lab.connect(middle[0], middle[1])
  await r1.ip('route add default via 203.0.113.2', 'route add default via 2001:db8:f::2')
  await r2.ip('route add default via 203.0.113.1', 'route add default via 2001:db8:f::1')
  const [a, b] = [await Network.build(lab, planOf('a', 'client')), await Network.build(lab, planOf('b', 'server'))]
  await joinInternet(lab, a, r1, {
    gateway: ['198.51.100.1/31', '2001:db8:a::1/64'],
    router: ['198.51.100.0/31', '2001:db8:a::ff/64'],
  })
  await joinInternet(lab, b, r2, {
    gateway: ['198.51.100.2/31', '2001:db8:b::1/64'],
    router: ['198.51.100.3/31', '2001:db8:b::ff/64'],
  })
  for (const network of [a, b]) network.startGateway(env)
  await Promise.all([a.ready(), b.ready()])
  return { lab, a, b, middle }
}
