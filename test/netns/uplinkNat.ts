/**
 * A takeover, and a peer behind a NAT that gave it another port: only the active gateway ever heard it (decisions.md 24).
 *
 *   pod3 ── n3 ──► active of n1, n2 ══ r 203.0.113.2 ══ nat 198.51.100.9:4045 ── gw-home 192.168.9.2:1045 ── inner 10.1.0.20
 *                                      1045 leads to the first active one, for ever
 *
 * The NAT lets in what comes for port 4045, and nothing else. Its gateway does speak every 25 s, but to 203.0.113.2:1045, and so to the one that was killed:
 * the new active gateway hears nothing of it before it speaks itself, to a port that it can only have been told.
 */
import { type Checks, expectSame } from '../support/checks.ts'
import { eventually } from '../support/netns.ts'
import { joinInternet, Network } from '../support/networks.ts'
import { ping } from '../support/probes.ts'
import type { ClusterNode } from './threeNodes.ts'
import {
  ADDRESSES,
  addressOfFar,
  BEHIND_NAT,
  metricOf,
  OUTSIDE,
  PATIENCE,
  rolesOf,
  statusOf,
  type World,
} from './uplinkWorld.ts'

const NAT_PORT = 4045
const INSIDE = '192.168.9.2'

export async function checkBehindNat(checks: Checks, world: World): Promise<void> {
  const { n1, n2, n3 } = world.cluster.nodes
  await checks.check('a peer behind a NAT that chose another port is reached', async () => {
    const { active, other } = await rolesOf(world)
    const before = await metricOf(other, 'ipref_uplink_peers')
    const home = await addHome(world, active)
    await eventually('the active gateway has its port', () => isProved(active), PATIENCE)
    const address = await addressOfFar([n1, n2, n3], 'inner')
    await eventually('pods reach it', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    const told = await eventually(
      'the standby was told of one more',
      async () => {
        const peers = await metricOf(other, 'ipref_uplink_peers')
        return peers > before && peers
      },
      PATIENCE,
    )
    expectSame('what the standby found out itself', await isProved(other), false)
    expectSame('the port that the peer knows us at', await portAtHome(home), 1045)
    return `${told} peers`
  })
  await checks.check('and after kill -9 of the active one too, without a word of its own', async () => {
    const { active, other } = await rolesOf(world)
    const address = await addressOfFar([other, n3], 'inner')
    const begun = performance.now()
    await world.kill(active)
    await eventually(
      'packets flow',
      () => ping(n3.pod, address, { count: 1, waitSeconds: 1 }).then(() => true),
      PATIENCE,
    )
    const took = `the first answer came ${Math.round(performance.now() - begun)} ms after it`
    expectSame('the other has its port', await isProved(other), true)
    world.start(active)
    return took
  })
}

/** The network behind the NAT, and the port of ours that leads to the gateway that is active now. */
async function addHome(world: World, active: ClusterNode): Promise<Network> {
  const { lab, router } = world.cluster
  const nat = await lab.add('nat', { forwards: true })
  await lab.connect(
    { in: nat, device: 'wan', addresses: [`${BEHIND_NAT}/30`] },
    { in: router, device: 'to-nat', addresses: ['198.51.100.10/30'] },
  )
  await nat.ip('route add default via 198.51.100.10')
  await nat.nft(`table ip nat {
  chain pre { type nat hook prerouting priority -100; iifname "wan" udp dport ${NAT_PORT} dnat to ${INSIDE}:1045; }
  chain post { type nat hook postrouting priority 100; oifname "wan" udp sport 1045 snat to ${BEHIND_NAT}:${NAT_PORT}; }
  chain in { type filter hook input priority 0; iifname "wan" udp dport 0-65535 drop; }
}`)
  await router.nft(`table ip outside {
  chain pre { type nat hook prerouting priority -100; ip daddr ${OUTSIDE} udp dport 1045 dnat to ${ADDRESSES[active.name][0]}; }
}
add rule ip outside post ip saddr 172.18.0.0/24 ip daddr ${BEHIND_NAT} udp sport 1045 snat to ${OUTSIDE}`)
  const home = await Network.build(lab, {
    name: 'home',
    lan: ['10.1.0.1/24'],
    hosts: { inner: ['10.1.0.20/24'] },
    mappings: ['10.1.0.20 inner #= pub + 21'],
    flags: ['-gateway-bind', INSIDE, '-peer', OUTSIDE, '-metrics-address', 'off', '-health-address', 'off'],
  })
  await joinInternet(lab, home, nat, { gateway: [`${INSIDE}/24`], router: ['192.168.9.1/24'] })
  home.startGateway()
  await home.ready()
  return home
}

async function isProved(node: ClusterNode): Promise<boolean> {
  const { peers } = await statusOf(node)
  return peers.some(peer => peer.address === BEHIND_NAT && peer.port === NAT_PORT && peer.verified)
}

async function portAtHome(home: Network): Promise<number | undefined> {
  const { peers } = await home.status()
  return peers.find(peer => peer.address === OUTSIDE)?.port
}
