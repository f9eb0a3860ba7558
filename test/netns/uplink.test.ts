/**
 * A single uplink with packets (uplinkWorld.ts): two gateways behind one public address, a node without a gateway, and the node networks of all three by
 * the gateways themselves.
 *
 *   pod3 ── n3 ──VXLAN──► active of n1, n2 ══ NAT 203.0.113.2 ══ gw-far ── far
 */

import type { StatusReport } from '../../gateway/controlReports.ts'
import { GATEWAY_FINALIZER } from '../../operator/gateway/plan.ts'
import { API_VERSION } from '../../resources/kinds.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually } from '../support/netns.ts'
import { type Network, startStream } from '../support/networks.ts'
import { ping } from '../support/probes.ts'
import type { StreamReport } from '../support/traffic.ts'
import { type ClusterNode, openThreeNodes } from './threeNodes.ts'
import { checkBehindNat } from './uplinkNat.ts'
import { addressOfFar, OUTSIDE, PATIENCE, rolesOf, statusOf, World } from './uplinkWorld.ts'

export async function run(checks: Checks): Promise<void> {
  const cluster = await openThreeNodes()
  const world = new World(cluster)
  try {
    await world.open()
    await checkAll(checks, world)
    await checkBehindNat(checks, world)
    await checkReleased(checks, world)
  } finally {
    await world.operator?.close()
    await cluster.lab.close()
  }
}

async function checkAll(checks: Checks, world: World): Promise<void> {
  const { n1, n2, n3 } = world.cluster.nodes
  const { far } = world.cluster
  let active = n1
  let other = n2
  let address = ''
  let references = ''
  await checks.check('one of two is active, the other stands by', async () => {
    ;({ active, other } = await rolesOf(world))
    return active.name
  })
  await checks.check('all nodes give the far host one address, and packets to it go to the active one', async () => {
    address = await addressOfFar([n1, n2, n3])
    await eventually('pods reach it', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    await ping(other.pod, address)
    await ping(active.pod, address)
    references = await referencesAt(far)
    return address
  })
  await checks.check('a connection lives through kill -9 of the active one', async () => {
    const stream = startStream(n3.pod, address, 1)
    await stream.connected()
    const pings = n3.pod.start(['ping', '-n', '-D', '-i', '0.05', address], { log: 'gap.log' })
    await pause(500)
    await world.kill(active)
    await eventually('the other is active', async () => (await statusOf(other)).uplink?.startsWith('active'), PATIENCE)
    await eventually('packets flow', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    await pause(5000)
    await pings.stop('SIGINT')
    const report = JSON.parse(await stream.end()) as StreamReport
    expectSame('every byte echoed', report.ok, true)
    return `no packet came back for ${longestPause(pings.log())} ms; the connection waited ${report.longestGapMs} ms`
  })
  await checks.check('the address is the same, and the far network sees the same reference', async () => {
    expectSame('at the node without a gateway', await addressOfFar([other, n3]), address)
    expectSame('hosts of ours that it knows', await referencesAt(far), references)
    return undefined
  })
  await checks.check('back again it stands by, and takes over in turn', async () => {
    world.start(active)
    await eventually(
      'it stands by',
      async () => (await statusOf(other)).uplink === `active, standby ${active.name}`,
      PATIENCE,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${world.last()}`)
    })
    await world.kill(other)
    await eventually('packets flow', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    expectSame('the address', await addressOfFar([active, n3]), address)
    world.start(other)
    return undefined
  })
  await checks.check('an overlap takes mappings and routes away by name, and they come back', async () => {
    const problem = { reason: 'EncodingNetworkOverlap', message: 'the encoding network contains 10.180.0.1, a pod' }
    await world.say({ problem })
    for (const node of [n1, n2, n3]) {
      await eventually(
        `${node.name} leads nothing to the TUN`,
        async () => !(await routesOf(node)).some(route => route.startsWith('10.17') || route.startsWith('10.18')),
        PATIENCE,
      )
      const { problems } = await statusOf(node)
      expectThat(problems.includes(problem.message), `it is not named: ${problems.join('; ')}`)
    }
    await world.say({})
    address = await addressOfFar([n1, n2, n3])
    await eventually('packets flow', () => ping(n3.pod, address, { count: 1 }).then(() => true), PATIENCE)
    return undefined
  })
}

async function checkReleased(checks: Checks, world: World): Promise<void> {
  const { n3 } = world.cluster.nodes
  await checks.check(
    'a node whose IprefGateway is deleted is clean before the object is gone, and back with another',
    async () => {
      const operator = world.operator!
      const key = { name: n3.name }
      const metadata = { ...key, finalizers: [GATEWAY_FINALIZER] }
      const spec = { nodeName: n3.name }
      await operator.create('IprefGateway', { apiVersion: API_VERSION, kind: 'IprefGateway', metadata, spec })
      const reason = async () => {
        const { conditions } = (await operator.get('IprefGateway', key))?.status ?? {}
        return conditions?.find(({ type }) => type === 'Accepted')?.reason
      }
      await eventually('it reports', async () => (await reason()) !== undefined, PATIENCE)
      expectThat((await leftOn(n3)).length > 0, 'there was nothing to be taken away')
      await operator.delete('IprefGateway', key)
      await eventually('it says that the node is clean', async () => (await reason()) === 'Released', PATIENCE)
      expectSame('left on the node', (await leftOn(n3)).join('; '), '')
      const object = (await operator.get('IprefGateway', key))!
      await operator.update('IprefGateway', { ...object, metadata: { ...object.metadata, finalizers: [] } })
      await eventually('the network of the node is back', async () => (await leftOn(n3)).length > 0, PATIENCE)
      return undefined
    },
  )
}

/** Routes to encoded addresses, our rules, devices and tables. */
async function leftOn(node: ClusterNode): Promise<string[]> {
  const routes = (await routesOf(node)).filter(route => route.startsWith('10.17') || route.startsWith('10.18'))
  const links = ((await node.in.ipJson('link show')) as { ifname: string }[]).map(({ ifname }) => ifname)
  const tables = await node.in.require(['nft', 'list', 'tables'])
  return [
    ...routes,
    ...links.filter(name => name.startsWith('ipref-vx')),
    ...tables.split('\n').filter(line => line.includes('ipref_node')),
  ]
}

/** What the far network knows of hosts of ours. */
async function referencesAt(far: Network): Promise<string> {
  const { mappings } = (await askControl(far.controlSocket, { do: 'status' })) as StatusReport
  const ofOurs = mappings.rows.filter(row => row.relation === 'theirs' && row.remote.startsWith(`${OUTSIDE} + `))
  // the gateway itself, which answers probes, is no host
  return ofOurs
    .filter(row => row.remote !== `${OUTSIDE} + 1`)
    .map(row => `${row.local} ${row.remote}`)
    .sort()
    .join('; ')
}

async function routesOf(node: ClusterNode): Promise<string[]> {
  const routes = (await node.in.ipJson('-4 route show table main')) as { dst: string }[]
  return routes.map(route => route.dst)
}

/** Between two answers of `ping -D`, in milliseconds. */
function longestPause(log: string): number {
  const times = [...log.matchAll(/^\[(\d+\.\d+)\].* bytes from /gm)].map(([, seconds]) => Number(seconds) * 1000)
  return Math.round(Math.max(0, ...times.slice(1).map((time, i) => time - times[i]!)))
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
