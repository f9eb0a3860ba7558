/**
 * Nodes of a cluster (threeNodes.ts): routes to slices, VXLAN, null SNAT beside rules like kube-proxy's, forged sources, repair, and nothing left behind.
 *
 * The gateways are real ones; the network of each node is driven by a program of its own (nodeDriver.ts). That of n3 has CAP_NET_ADMIN alone and a
 * read-only /proc/sys, as in a pod. Long, for one lab is built once, and its checks follow each other.
 */
import { spawnSync } from 'node:child_process'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually, type Namespace } from '../support/netns.ts'
import { exchange, serveTraffic, startStream, TRAFFIC_PORT } from '../support/networks.ts'
import { expectNoPing, pathMtuByPing, ping } from '../support/probes.ts'
import type { StreamReport, TransferReport } from '../support/traffic.ts'
import { proxyRules } from './proxyRules.ts'
import {
  AT_FAR,
  CLUSTER_IPS,
  type ClusterNode,
  FAR,
  openThreeNodes,
  SLICES,
  type ThreeNodes,
  wantedOf,
} from './threeNodes.ts'

const FEW_RIGHTS = [
  ...['unshare', '--mount', 'sh', '-c'],
  'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec setpriv --bounding-set=-all,+net_admin --inh-caps=-all "$@"',
  'sh',
]
const PATIENCE = { withinMs: 90_000, everyMs: 500 }
const TRANSFER_BYTES = 3_000_000

const PROGRAMS = ['iptables-legacy', 'iptables-nft', 'conntrack', 'setpriv', 'unshare']

export async function run(checks: Checks): Promise<void> {
  const missing = PROGRAMS.filter(program => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0)
  if (missing.length > 0)
    return checks.skip('networks of nodes', `missing: ${missing.join(', ')}; see test/support/prepare`)
  const cluster = await openThreeNodes()
  try {
    await checkAll(checks, cluster)
  } finally {
    await cluster.lab.close()
  }
}

async function checkAll(checks: Checks, cluster: ThreeNodes): Promise<void> {
  const { n1, n2, n3 } = cluster.nodes
  const { far } = cluster
  const nodes = [n1, n2, n3]
  const before = new Map<ClusterNode, string>()
  for (const node of nodes) before.set(node, await picture(node.in))
  for (const network of [far, n1.network, n2.network]) network.startGateway()
  for (const network of [far, n1.network, n2.network]) await network.ready()
  await serveTraffic(far.host('host'))
  await serveTraffic(n3.pod)
  await serveTraffic(n2.pod)
  await startAll(checks, cluster)
  await checkReach(checks, cluster)
  await checkSources(checks, cluster)
  await checkForged(checks, cluster)
  await checkRepair(checks, cluster)
  await checkRestart(checks, cluster)
  await checkGatewayRestart(checks, cluster)
  await checkHost(checks, cluster)
  await checkMoves(checks, cluster)
  await checks.check('nothing is left behind, and -cleanup may be repeated', async () => {
    for (const node of nodes) {
      await node.stopDriver()
      await node.network.stopGateway()
      for (const _again of [1, 2]) await node.network.cleanUp()
      expectSamePicture(node.name, before.get(node)!, await picture(node.in))
    }
    return undefined
  })
}

async function startAll(checks: Checks, { nodes }: ThreeNodes): Promise<void> {
  const { n1, n2, n3 } = nodes
  await checks.check('connections from before the table are judged anew', async () => {
    // the kernel tracks connections only where a rule asks for it
    await n3.in.nft(
      'table ip asks { chain forward { type filter hook forward priority 0; policy accept; ct state invalid; }\n}',
    )
    await n3.pod.run(['ping', '-n', '-c', '1', '-W', '1', FAR.n2[0]])
    const found = (await trackedTo(n3.in, FAR.n2[0])).length
    n3.startDriverWith(wantedOf('n3'), FEW_RIGHTS)
    await n3.settled()
    expectSame('connections left', (await trackedTo(n3.in, FAR.n2[0])).length, 0)
    expectThat(found > 0, 'there was none before')
    await n3.in.nft('delete table ip asks')
    return undefined
  })
  await checks.check('nodes without a link in common use VXLAN, the others the link, by a probe', async () => {
    n1.startDriverWith(wantedOf('n1'))
    n2.startDriverWith(wantedOf('n2'))
    for (const node of [n1, n2, n3])
      expectSame(`problems of ${node.name}`, (await node.settled()).problems.join('; '), '')
    await eventually(
      'n1 and n2 reach each other directly',
      () => {
        const ways = [...pathsOf(n1), ...pathsOf(n2), ...pathsOf(n3)].join(', ')
        const expected =
          'n2 4 direct, n2 6 direct, n3 4 vxlan, n3 6 vxlan, n1 4 direct, n1 6 direct, n3 4 vxlan, n3 6 vxlan, n1 4 vxlan, n1 6 vxlan, n2 4 vxlan, n2 6 vxlan'
        if (ways !== expected) throw new Error(ways)
        return true
      },
      PATIENCE,
    )
    return undefined
  })
}

async function checkReach(checks: Checks, { nodes, far }: ThreeNodes): Promise<void> {
  const { n1, n2, n3 } = nodes
  for (const [from, what] of [
    [n1.pod, 'a pod on the link of the gateway'],
    [n2.pod, "a pod on the gateway's own node"],
    [n3.pod, 'a pod behind a router that drops encoded addresses'],
    [n3.in, 'a node behind that router, itself'],
  ] as const) {
    await checks.check(`${what} reaches the far host by the gateway of n2`, async () => {
      for (const address of FAR.n2) await ping(from, address)
      return undefined
    })
  }
  await checks.check('each slice leads to its own gateway', async () => {
    for (const address of [...FAR.n1, ...FAR.n2]) await ping(n3.pod, address)
    for (const address of FAR.n1) await ping(n2.pod, address)
    return undefined
  })
  await checks.check('the gateway sees the address of the pod, and of no node', async () => {
    const { mappings } = await n2.network.status()
    const locals = mappings.rows.filter(row => row.relation === 'ours' && row.owner === 'dynamic').map(row => row.local)
    for (const pod of ['10.244.1.10', 'fd44:1::10'])
      expectThat(locals.includes(pod), `${pod} is not among ${locals.join(', ')}`)
    for (const local of locals) expectThat(!local.startsWith('172.18.'), `${local} is the address of a node`)
    return undefined
  })
  await checks.check('packets as large as the path takes pass, larger ones are told the size', async () => {
    const told: number[] = []
    for (const [pod, address] of [
      [n1.pod, FAR.n2[0]],
      [n3.pod, FAR.n2[0]],
      [n3.pod, FAR.n2[1]],
    ] as const) {
      const overhead = address.includes(':') ? 48 : 28
      const mtu = await pathMtuByPing(pod, address, 1500 - overhead)
      expectThat(mtu !== undefined && mtu < 1500 && mtu > 1380, `${address} from ${pod.label}: told ${mtu}`)
      await ping(pod, address, { size: mtu! - overhead, whole: true })
      told.push(mtu!)
    }
    return told.join(', ')
  })
  await checks.check('TCP with a hash through VXLAN, both directions', async () => {
    await exchange<TransferReport>(n3.pod, ['upload', FAR.n2[0], TRAFFIC_PORT, TRANSFER_BYTES, 1])
    await exchange<TransferReport>(n3.pod, ['download', FAR.n2[1], TRAFFIC_PORT, TRANSFER_BYTES, 2])
    await exchange<TransferReport>(far.host('host'), ['upload', AT_FAR.pod3, TRAFFIC_PORT, TRANSFER_BYTES, 3])
    await exchange<TransferReport>(far.host('host'), ['download', AT_FAR.pod3v6, TRAFFIC_PORT, TRANSFER_BYTES, 4])
    return undefined
  })
}

/** How the server saw the far host. */
async function seenFrom({ far }: ThreeNodes, address: string): Promise<string> {
  const report = await exchange<TransferReport>(far.host('host'), ['upload', address, TRAFFIC_PORT, 10, 1])
  return (report.from ?? '').replace(/^::ffff:/, '')
}

async function checkSources(checks: Checks, cluster: ThreeNodes): Promise<void> {
  const { n1, n2, n3 } = cluster.nodes
  const services = [
    { clusterIp: CLUSTER_IPS.pod3, podAddress: '10.244.3.10' },
    { clusterIp: CLUSTER_IPS.pod2, podAddress: '10.244.2.10' },
  ]
  for (const { name, install, remove } of proxyRules(services, TRAFFIC_PORT)) {
    const everywhere = async (lines: readonly string[]) => {
      for (const node of [n1, n2, n3]) await node.in.require(['sh', '-ec', lines.join('\n')])
    }
    await everywhere(install)
    await checks.check(`${name}: without the table, a server sees its node`, async () => {
      await n2.stopDriver()
      await n2.in.nft('flush chain inet ipref_node postrouting')
      const seen = await seenFrom(cluster, AT_FAR.service2).catch(String)
      n2.startDriverWith(wantedOf('n2'))
      await n2.settled()
      expectSame('seen', seen, '10.244.2.1')
      return undefined
    })
    await checks.check(`${name}: with it, it sees the far host, through ClusterIPs too`, async () => {
      for (const address of [AT_FAR.service2, AT_FAR.service3, AT_FAR.pod2, AT_FAR.pod3])
        expectSame(`seen at ${address}`, await seenFrom(cluster, address), FAR.n2[0])
      return undefined
    })
    await checks.check(`${name}: pods keep their address on the way out`, async () => {
      for (const pod of [n1.pod, n2.pod, n3.pod]) await ping(pod, FAR.n2[0])
      const { mappings } = await n2.network.status()
      const locals = mappings.rows.filter(row => row.relation === 'ours').map(row => row.local)
      expectThat(locals.includes('10.244.1.10'), `10.244.1.10 is not among ${locals.join(', ')}`)
      for (const node of ['172.18.0.1', '172.18.0.2', '10.244.2.1'])
        expectThat(!locals.includes(node), `${node} was seen`)
      return undefined
    })
    await everywhere(remove)
  }
}

async function checkForged(checks: Checks, { nodes, router }: ThreeNodes): Promise<void> {
  const { n1, n2 } = nodes
  const rise = async (node: ClusterNode, counter: 'forged' | 'inside' | 'stranger', what: () => Promise<unknown>) => {
    const start = node.report().counters[counter]
    await what()
    await eventually(`${counter} of ${node.name} rises`, () => node.report().counters[counter] > start, PATIENCE)
  }
  for (const [address, target] of [
    ['10.177.0.77', '10.244.2.10'],
    ['fd24::1:0:0:77', 'fd44:2::10'],
  ] as const) {
    await checks.check(`a pod cannot send as ${address}`, async () => {
      const bits = address.includes(':') ? 128 : 32
      await n1.pod.ip(`address add ${address}/${bits} dev eth0${bits === 128 ? ' nodad' : ''}`)
      await rise(n1, 'forged', () => n1.pod.run(['ping', '-n', '-c', '2', '-W', '1', '-I', address, target]))
      await n1.pod.ip(`address del ${address}/${bits} dev eth0`)
      return undefined
    })
  }
  await checks.check('a pod cannot send tunnel packets or VXLAN', async () => {
    for (const [port, to] of [
      [1045, '203.0.113.1'],
      [1045, '172.18.0.2'],
      [1046, '172.18.0.2'],
      [1046, 'fd18::2'],
    ] as const)
      await rise(n1, 'inside', () => sendUdp(n1.pod, to, port))
    return undefined
  })
  await checks.check('nor where a service leads them', async () => {
    await n1.in.nft(`table ip leads {
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    ip daddr 10.96.0.99 udp dport 53 dnat to 172.18.0.2:1045
    ip daddr 10.96.0.99 tcp dport 80 dnat to 172.18.0.2:1048
    ip daddr 10.96.0.98 udp dport 53 dnat to 172.18.0.1:1045
  }
}`)
    await rise(n1, 'inside', () => sendUdp(n1.pod, '10.96.0.99', 53))
    await rise(n1, 'inside', () => sendUdp(n1.pod, '10.96.0.98', 53))
    await rise(n1, 'inside', () => connects(n1.pod, '10.96.0.99', 80))
    await n1.in.nft('delete table ip leads')
    return undefined
  })
  await checks.check(
    'a pod cannot speak to the uplink port of a node, its own or another, but to that of a pod',
    async () => {
      const server =
        "const s = require('node:net').createServer(c => c.end()); s.listen(1048, '::', () => console.log('ready'))"
      const everywhere = await Promise.all(
        [n1.in, n2.in, n2.pod].map(async where => {
          const running = where.start([process.execPath, '-e', server], { log: `${where.label}-1048.log` })
          await eventually(`port 1048 of ${where.label}`, () => running.log().includes('ready'), PATIENCE)
          return running
        }),
      )
      for (const address of ['172.18.0.2', 'fd18::2', '172.18.0.1', 'fd18::1'])
        await rise(n1, 'inside', async () => expectSame(address, await connects(n1.pod, address, 1048), false))
      expectSame('from pod to pod', await connects(n1.pod, '10.244.2.10', 1048), true)
      expectSame('from node to node', await connects(n1.in, '172.18.0.2', 1048), true)
      expectSame('from a node to itself', await connects(n1.in, '172.18.0.1', 1048), true)
      for (const running of everywhere) await running.stop()
      return undefined
    },
  )
  await checks.check('a machine that is no node cannot send VXLAN or probes', async () => {
    for (const port of [1046, 1047]) {
      await rise(n2, 'stranger', () => sendUdp(router, '172.18.0.2', port))
      await rise(n2, 'stranger', () => sendUdp(router, 'fd18::2', port))
    }
    return undefined
  })
}

async function sendUdp(from: Namespace, address: string, port: number): Promise<void> {
  const program = `const s = require('node:dgram').createSocket('udp${address.includes(':') ? 6 : 4}'); s.send('x', ${port}, '${address}', () => s.close())`
  await from.require([process.execPath, '-e', program])
}

/** Where a path has just changed, packets may be lost; on a starved machine probes are, and it changes again. */
async function reaches(from: Namespace, address: string): Promise<void> {
  await eventually(`${from.label} reaches ${address}`, () => ping(from, address).then(() => true), PATIENCE)
}

async function connects(from: Namespace, address: string, port: number): Promise<boolean> {
  const program = `require('node:net').connect(${port}, '${address}', () => process.exit(0)).setTimeout(1500, () => process.exit(1)).on('error', () => process.exit(1))`
  return (await from.run([process.execPath, '-e', program])).code === 0
}

async function checkRepair(checks: Checks, { nodes }: ThreeNodes): Promise<void> {
  const { n1, n2, n3 } = nodes
  const damages: [string, ClusterNode, string][] = [
    ['a route to a slice', n3, `ip route del ${SLICES.n2[0]} proto 145`],
    ['a route of IPv6', n1, `ip -6 route del ${SLICES.n2[1]} proto 145`],
    ['the VXLAN device', n3, 'ip link del ipref-vx'],
    ['its being up', n3, 'ip link set ipref-vx down'],
    ['its MTU', n3, 'ip link set ipref-vx mtu 1300'],
    ['where a node lives', n3, 'bridge fdb del 02:49:ac:12:00:02 dev ipref-vx dst 172.18.0.2 self'],
    ['a neighbour', n3, 'ip neigh del 172.18.0.2 dev ipref-vx'],
    ['the rule for the way back', n2, 'ip rule del pref 1045'],
    ['the way back', n2, 'ip route flush table 1045'],
    ['the nftables table', n2, 'nft delete table inet ipref_node'],
    ['one chain of it', n2, 'nft flush chain inet ipref_node prerouting'],
    ['one element of a set', n2, 'nft delete element inet ipref_node nodes { 172.19.0.3 }'],
  ]
  for (const [what, node, command] of damages) {
    await checks.check(`put back: ${what}`, async () => {
      const start = node.report().allChanges.length
      const healthy = await picture(node.in)
      await node.in.require(['sh', '-ec', command])
      await eventually(`${node.name} changes something`, () => node.report().allChanges.length > start, PATIENCE)
      await eventually('all is as before', async () => (await picture(node.in)) === healthy, PATIENCE)
      for (const address of FAR.n2) await reaches(n3.pod, address)
      return node.report().allChanges[start]
    })
  }
}

async function checkRestart(checks: Checks, { nodes }: ThreeNodes): Promise<void> {
  const { n1, n2 } = nodes
  await checks.check('a restart finds all in place, and a connection goes on', async () => {
    const stream = startStream(n1.pod, FAR.n2[0], 1)
    await stream.connected()
    await n1.stopDriver()
    await n2.stopDriver()
    for (const node of [n1, n2]) node.startDriverWith(wantedOf(node.name))
    for (const node of [n1, n2])
      expectSame('changes', (await node.settled()).allChanges.join(', '), 'install-table ipref_node')
    await ping(n1.pod, FAR.n2[0])
    const report = JSON.parse(await stream.end()) as StreamReport
    expectSame('every byte echoed', report.ok, true)
    expectSame('path', pathsOf(n1)[0], 'n2 4 direct')
    return `longest gap ${report.longestGapMs} ms`
  })
}

async function checkGatewayRestart(checks: Checks, { nodes }: ThreeNodes): Promise<void> {
  const { n1, n3 } = nodes
  await checks.check('a gateway that starts again takes routes to other slices for ours', async () => {
    await n1.network.stopGateway()
    n1.network.startGateway()
    await n1.network.ready()
    for (const address of FAR.n1) await ping(n3.pod, address)
    return undefined
  })
}

async function checkHost(checks: Checks, { nodes }: ThreeNodes): Promise<void> {
  const { n3 } = nodes
  const named = (pattern: RegExp) =>
    eventually(`a problem like ${pattern}`, () => node3Problems().find(problem => pattern.test(problem)), PATIENCE)
  const node3Problems = () => n3.report().problems
  const noneLeft = () => eventually('no problem any more', () => node3Problems().length === 0, PATIENCE)
  await checks.check('a policy of FORWARD that drops is named, and not changed', async () => {
    await n3.in.require(['iptables-nft', '-P', 'FORWARD', 'DROP'])
    const problem = await named(/chain FORWARD of nftables table ip filter drops from 10\.176\.0\.0\/12 to pods/)
    await expectNoPing(n3.pod, FAR.n2[0])
    // as CNIs do it
    for (const direction of ['-s', '-d'])
      await n3.in.require(['iptables-nft', '-A', 'FORWARD', direction, '10.244.0.0/16', '-j', 'ACCEPT'])
    await noneLeft()
    await ping(n3.pod, FAR.n2[0])
    await n3.in.require(['nft', 'delete', 'table', 'ip', 'filter'])
    return problem
  })
  await checks.check('legacy iptables that drop are named by what does not come through', async () => {
    await n3.stopDriver()
    await n3.in.require(['nft', 'delete', 'table', 'inet', 'ipref_node'])
    n3.startDriverWith(wantedOf('n3'), FEW_RIGHTS)
    await n3.settled()
    await n3.in.require(['iptables-legacy', '-P', 'FORWARD', 'DROP'])
    await n3.pod.run(['ping', '-n', '-c', '15', '-i', '0.1', '-W', '1', FAR.n2[0]])
    const problem = await named(/none left it/)
    await n3.in.require(['iptables-legacy', '-P', 'FORWARD', 'ACCEPT'])
    await ping(n3.pod, FAR.n2[0])
    await noneLeft()
    return problem
  })
  await checks.check('a node that does not forward is named, for each family', async () => {
    await n3.in.sysctl({ 'ipv4/ip_forward': 0, 'ipv6/conf/all/forwarding': 0 })
    await named(/net\.ipv4\.ip_forward is 0/)
    await named(/net\.ipv6\.conf\.all\.forwarding is 0/)
    await n3.in.sysctl({ 'ipv4/ip_forward': 1, 'ipv6/conf/all/forwarding': 1 })
    await noneLeft()
    return undefined
  })
}

async function checkMoves(checks: Checks, { nodes, spoil }: ThreeNodes): Promise<void> {
  const { n1, n2, n3 } = nodes
  await checks.check('a link that drops encoded addresses is found out, and VXLAN takes over', async () => {
    await reaches(n1.pod, FAR.n2[0])
    await spoil('drops')
    await eventually(
      'n1 uses VXLAN',
      () => pathsOf(n1).includes('n2 4 vxlan') && pathsOf(n2).includes('n1 4 vxlan'),
      PATIENCE,
    )
    for (const address of FAR.n2) await reaches(n1.pod, address)
    await spoil('carries')
    await eventually(
      'n1 and n2 use the link again',
      () => pathsOf(n1).includes('n2 4 direct') && pathsOf(n2).includes('n1 4 direct'),
      PATIENCE,
    )
    await reaches(n1.pod, FAR.n2[0])
    return undefined
  })
  await checks.check('a slice that moved to another gateway is reached there, a static host too', async () => {
    const gateways = wantedOf('n3').gateways.map(gateway =>
      gateway.nodeName === 'n1'
        ? { ...gateway, slices: SLICES.n2 }
        : { ...gateway, slices: SLICES.n1, statics: ['10.176.0.50/32'] },
    )
    await n3.apply(wantedOf('n3', { gateways }))
    for (const [address, node] of [
      [FAR.n2[0], '172.18.0.1'],
      [FAR.n1[0], '172.18.0.2'],
      ['10.176.0.50', '172.18.0.2'],
    ] as const)
      expectSame(`next hop to ${address}`, await nextHop(n3.in, address), node)
    return undefined
  })
  await checks.check('the slice of a gateway that is gone leads nowhere', async () => {
    const gateways = wantedOf('n3').gateways.filter(gateway => gateway.nodeName === 'n1')
    await n3.apply(wantedOf('n3', { gateways }))
    expectSame('next hop', await nextHop(n3.in, FAR.n2[0]), undefined)
    expectSame('next hop of the other', await nextHop(n3.in, FAR.n1[0]), '172.18.0.1')
    return undefined
  })
  await checks.check('single uplink: all encoded addresses lead to the active gateway, and follow it', async () => {
    for (const [active, node] of [
      ['gateway-n2', '172.18.0.2'],
      ['gateway-n1', '172.18.0.1'],
    ] as const) {
      for (const one of [n1, n2, n3])
        expectSame('problems', (await one.apply(wantedOf(one.name, { active }))).problems.join('; '), '')
      for (const address of ['10.176.0.9', FAR.n1[0], FAR.n2[0]])
        expectSame(`next hop to ${address}`, await nextHop(n3.in, address), node)
      const other = active === 'gateway-n2' ? n1 : n2
      expectSame(`${other.name} hands on`, await nextHop(other.in, FAR.n1[0]), node)
      const far = active === 'gateway-n2' ? FAR.n2 : FAR.n1
      for (const pod of [n1.pod, n2.pod, n3.pod]) for (const address of far) await ping(pod, address)
    }
    return undefined
  })
  await checks.check('nodes that have IPv6 addresses alone carry both families', async () => {
    const only6 = <T extends { nodeAddresses: readonly string[] }>(place: T): T => ({
      ...place,
      nodeAddresses: place.nodeAddresses.filter(address => address.includes(':')),
    })
    for (const one of [n1, n2, n3]) {
      const wanted = wantedOf(one.name)
      const [gateways, places] = [wanted.gateways.map(only6), wanted.nodes.map(only6)]
      const { problems } = await one.apply({ ...wanted, own: only6(wanted.own), gateways, nodes: places })
      expectSame('problems', problems.join('; '), '')
    }
    expectThat((await n3.in.require(['ip', 'link'])).includes('ipref-vx6:'), 'n3 has no VXLAN over IPv6')
    await eventually(
      'n1 and n2 use the link',
      () => pathsOf(n1).includes('n2 4 direct') && pathsOf(n2).includes('n1 4 direct'),
      PATIENCE,
    )
    for (const pod of [n1.pod, n3.pod]) {
      for (const address of FAR.n2) await ping(pod, address)
      expectThat((await pathMtuByPing(pod, FAR.n2[0], 1472)) !== undefined, 'too large, and not told')
    }
    return undefined
  })
  await checks.check('nodeNetwork: vxlan and direct, by setting', async () => {
    for (const one of [n1, n2, n3]) await one.apply(wantedOf(one.name, { mode: 'vxlan' }))
    expectThat(pathsOf(n1).includes('n2 4 vxlan'), pathsOf(n1).join(', '))
    for (const pod of [n1.pod, n3.pod]) for (const address of FAR.n2) await ping(pod, address)
    for (const one of [n1, n2, n3]) await one.apply(wantedOf(one.name, { mode: 'direct' }))
    for (const address of FAR.n2) await ping(n1.pod, address)
    const problems = n3.report().problems
    expectThat(
      problems.some(text => /node n2 cannot be reached/.test(text)),
      `no problem named: ${problems.join('; ')}`,
    )
    expectThat(!(await n1.in.require(['ip', 'link'])).includes('ipref-vx'), 'a VXLAN device is left')
    return undefined
  })
}

// ---- what is there

function pathsOf(node: ClusterNode): string[] {
  return node.report().paths.map(({ nodeName, family, how }) => `${nodeName} ${family} ${how}`)
}

async function nextHop(from: Namespace, address: string): Promise<string | undefined> {
  const { stdout, code } = await from.run(['ip', '-json', 'route', 'get', address])
  return code === 0 ? (JSON.parse(stdout) as { gateway?: string }[])[0]?.gateway : undefined
}

async function trackedTo(where: Namespace, address: string): Promise<string[]> {
  const { stdout } = await where.run(['conntrack', '-L', '-d', address])
  return stdout.split('\n').filter(line => line !== '')
}

const PICTURE = [
  'ip -d link',
  'ip -d address',
  'ip -d route show table all',
  'ip -6 -d route show table all',
  'ip rule',
  'ip -6 rule',
  'ip neigh show nud permanent',
  'bridge fdb show | grep permanent',
  'nft list ruleset',
]

/** Everything of the network of a namespace, but for numbers that change by themselves. */
async function picture(where: Namespace): Promise<string> {
  const text = await where.require(['sh', '-ec', PICTURE.map(command => `echo "# ${command}"; ${command}`).join('\n')])
  return text
    .split('\n')
    .map(line =>
      line
        .replace(/^\d+: /, '')
        .replace(
          /@if\d+|packets \d+ bytes \d+|state (UP|UNKNOWN) | (gc_timer|hello_timer|tcn_timer|topology_change_timer) +\d+\.\d+/g,
          '',
        ),
    )
    .sort()
    .join('\n')
}

function expectSamePicture(name: string, before: string, after: string): void {
  const [old, now] = [new Set(before.split('\n')), new Set(after.split('\n'))]
  const more = [...now].filter(line => !old.has(line)).map(line => `left: ${line.trim()}`)
  const less = [...old].filter(line => !now.has(line)).map(line => `missing: ${line.trim()}`)
  expectThat(more.length + less.length === 0, `${name}:\n${[...more, ...less].join('\n')}`)
}
