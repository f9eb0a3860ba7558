import { describe, expect, it } from 'vitest'
import { desire, halves, wantedProblems } from '../../../../gateway/kube/nodeDesired.ts'
import type { Desired, NodeNetworkWanted, RouteWanted, Surroundings } from '../../../../gateway/kube/nodeTypes.ts'
import { around, aroundN3, N2, wanted, wantedWithoutGateway } from './nodeBuilders.ts'

const text = ({ table, destination, device, via, mtu, source, onLink }: RouteWanted) =>
  `${table === 'main' ? '' : 'return: '}${destination} ${device ? `${device} ${via}` : 'unreachable'}${onLink ? ' onlink' : ''}${mtu ? ` mtu ${mtu}` : ''}${source ? ` from ${source}` : ''}`
const routesOf = (desired: Desired) => desired.routes.map(text)
const PROVED = new Set(['n2 IPv4', 'n2 IPv6', 'n3 IPv4', 'n3 IPv6'])

describe('routes of a node', () => {
  const rows: { name: string; wanted: NodeNetworkWanted; around?: Surroundings; routes: string[] }[] = [
    {
      name: 'auto begins with VXLAN, and a probe has the link to itself',
      wanted: wanted(),
      routes: [
        '10.178.0.0/18 ipref-vx 172.18.0.2 onlink mtu 1450 from 172.18.0.1',
        '10.178.0.0/32 eth0 172.18.0.2',
        'return: 10.244.2.0/24 ipref-vx 172.18.0.2 onlink mtu 1450',
        'return: 172.18.0.2/32 ipref-vx 172.18.0.2 onlink mtu 1450',
        'return: 10.244.3.0/24 ipref-vx 172.19.0.3 onlink mtu 1450',
        'return: 172.19.0.3/32 ipref-vx 172.19.0.3 onlink mtu 1450',
      ],
    },
    {
      name: 'auto takes the link once a probe came back; who is on no link of ours never has one',
      wanted: wanted(),
      around: around({ proved: PROVED }),
      routes: [
        '10.178.0.0/18 eth0 172.18.0.2 from 172.18.0.1',
        '10.178.0.0/32 eth0 172.18.0.2',
        'return: 10.244.2.0/24 eth0 172.18.0.2',
        'return: 10.244.3.0/24 ipref-vx 172.19.0.3 onlink mtu 1450',
        'return: 172.19.0.3/32 ipref-vx 172.19.0.3 onlink mtu 1450',
      ],
    },
    {
      name: 'vxlan does not use the link, whatever was proved',
      wanted: wanted({ mode: 'vxlan', nodes: [] }),
      around: around({ proved: PROVED }),
      routes: [
        '10.178.0.0/18 ipref-vx 172.18.0.2 onlink mtu 1450 from 172.18.0.1',
        'return: 172.18.0.2/32 ipref-vx 172.18.0.2 onlink mtu 1450',
      ],
    },
    {
      name: 'direct needs no proof',
      wanted: wanted({ mode: 'direct', nodes: [] }),
      routes: ['10.178.0.0/18 eth0 172.18.0.2 from 172.18.0.1'],
    },
    {
      name: 'a smaller MTU on the way to a node lowers that of its routes',
      wanted: wanted({ mode: 'vxlan', nodes: [] }),
      around: around({ ways: new Map([['172.18.0.2', { device: 'eth0', isOnLink: true, mtu: 1400 }]]) }),
      routes: [
        '10.178.0.0/18 ipref-vx 172.18.0.2 onlink mtu 1350 from 172.18.0.1',
        'return: 172.18.0.2/32 ipref-vx 172.18.0.2 onlink mtu 1350',
      ],
    },
    {
      name: 'static hosts are routed to the gateway that carries them',
      wanted: wanted({ mode: 'direct', nodes: [], gateways: [{ ...N2, statics: ['10.176.0.50/32'] }] }),
      routes: ['10.178.0.0/18 eth0 172.18.0.2 from 172.18.0.1', '10.176.0.50/32 eth0 172.18.0.2 from 172.18.0.1'],
    },
    {
      name: 'with a single uplink both halves lead to the active gateway, and slices do not count',
      wanted: wanted({ mode: 'direct', nodes: [], active: 'g2' }),
      routes: ['10.176.0.0/13 eth0 172.18.0.2 from 172.18.0.1', '10.184.0.0/13 eth0 172.18.0.2 from 172.18.0.1'],
    },
    {
      name: 'the active gateway itself needs none',
      wanted: wanted({ mode: 'direct', nodes: [], active: 'g1' }),
      routes: [],
    },
    {
      name: 'a node without a gateway refuses what is in no slice, and has no way back',
      wanted: wantedWithoutGateway(),
      around: aroundN3(),
      routes: [
        '10.177.0.0/18 ipref-vx 172.18.0.1 onlink mtu 1450 from 172.19.0.3',
        '10.178.0.0/18 ipref-vx 172.18.0.2 onlink mtu 1450 from 172.19.0.3',
        '10.176.0.0/12 unreachable',
      ],
    },
    {
      name: 'IPv6 encoded addresses travel over IPv4 nodes by link-local next hops',
      wanted: wanted({
        mode: 'vxlan',
        nodes: [],
        encodingNetworks: ['fd24::/64'],
        gateways: [{ ...N2, slices: ['fd24::2:0:0:0/80'] }],
      }),
      routes: ['fd24::2:0:0:0/80 ipref-vx fe80::49:acff:fe12:2 mtu 1450'],
    },
    {
      name: 'and IPv4 ones over IPv6 nodes, directly by a next hop of the other family',
      wanted: wanted({
        nodes: [],
        own: { nodeName: 'n1', nodeAddresses: ['fd18::1'], slices: ['10.177.0.0/18'] },
        gateways: [{ ...N2, nodeAddresses: ['fd18::2'] }],
      }),
      around: around({ proved: PROVED }),
      routes: ['10.178.0.0/18 eth0 fd18::2', '10.178.0.0/32 eth0 fd18::2'],
    },
    {
      name: 'a slice of a family without an encoding network is left out',
      wanted: wanted({ mode: 'direct', nodes: [], gateways: [{ ...N2, slices: ['fd24::2:0:0:0/80'] }] }),
      routes: [],
    },
  ]
  it.each(rows)('$name', ({ wanted, around: surroundings, routes }) => {
    const desired = desire(wanted, surroundings ?? around())
    expect(routesOf(desired)).toEqual(routes)
    expect(desired.problems).toEqual([])
  })
})

describe('what cannot be is named', () => {
  const rows: { name: string; wanted: NodeNetworkWanted; around?: Surroundings; problem: RegExp }[] = [
    {
      name: 'direct without a link in common',
      wanted: wanted({ mode: 'direct' }),
      problem: /^node n3 cannot be reached for IPv4 .*auto or vxlan would/,
    },
    {
      name: 'no address of a family that both have',
      wanted: wanted({ nodes: [], gateways: [{ ...N2, nodeAddresses: ['fd77::2'] }] }),
      problem: /^node n2 cannot be reached .*\(fd77::2\).*\(172\.18\.0\.1\)/,
    },
    {
      name: 'an own address that this host does not have',
      wanted: wanted({ mode: 'vxlan', nodes: [], own: { nodeName: 'n1', nodeAddresses: ['172.18.0.9'], slices: [] } }),
      problem: /^node n2 cannot be reached/,
    },
    {
      name: 'an active gateway that nobody knows',
      wanted: wanted({ active: 'g9' }),
      problem: /active gateway g9 is not known/,
    },
    {
      name: 'nodes whose hardware addresses would be one',
      wanted: wanted({ nodes: [], gateways: [N2, { ...N2, name: 'g4', nodeName: 'n4' }] }),
      problem: /^nodes n2 and n4 have one hardware address, 02:49:ac:12:00:02/,
    },
    {
      name: 'a strict filter, an overlay, and pods whose networks are not known',
      wanted: wanted({ mode: 'direct', nodes: [] }),
      around: around({ strict: new Set(['eth0']), overlays: ['flannel.1'] }),
      problem: /filter of eth0 is strict, and .*net\.ipv4\.conf\.eth0\.rp_filter/,
    },
  ]
  it.each(rows)('$name', ({ wanted, around: surroundings, problem }) => {
    expect(desire(wanted, surroundings ?? around()).problems).toEqual([expect.stringMatching(problem)])
  })

  it('texts that are no networks or addresses', () => {
    const wrong = wanted({ podNetworks: ['10.244.0.1/16'], gateways: [{ ...N2, nodeAddresses: ['n2'] }] })
    expect(wantedProblems(wrong)).toEqual(['10.244.0.1/16 is no network', 'n2 is no address of a node'])
    expect(wantedProblems(wanted())).toEqual([])
  })
})

describe('links and who lives where', () => {
  it('one VXLAN link for each family of the nodes, with the MTU that is left', () => {
    const mixed = wanted({
      own: { nodeName: 'n1', nodeAddresses: ['172.18.0.1', 'fd18::1'], slices: ['10.177.0.0/18'] },
      gateways: [N2, { name: 'g3', nodeName: 'n3', nodeAddresses: ['fd19::3'], slices: ['10.179.0.0/18'] }],
      nodes: [],
    })
    const { links, addresses, neighbours, forwarding } = desire(mixed, around())
    expect(links.map(({ name, local, mtu }) => `${name} ${local} ${mtu}`)).toEqual([
      'ipref-vx 172.18.0.1 1450',
      'ipref-vx6 fd18::1 1430',
    ])
    expect(addresses).toEqual([
      { device: 'ipref-vx', address: '192.0.0.8/32' },
      { device: 'ipref-vx6', address: '192.0.0.8/32' },
      { device: 'ipref-vx', address: '10.177.0.0/32' },
    ])
    expect(forwarding.map(({ device, address }) => `${device} ${address}`)).toEqual([
      'ipref-vx 172.18.0.2',
      'ipref-vx6 fd19::3',
    ])
    expect(neighbours.map(({ device, address }) => `${device} ${address}`)).toEqual([
      'ipref-vx 172.18.0.2',
      expect.stringMatching(/^ipref-vx6 fe80::/),
    ])
  })

  it('nobody else, no link', () => {
    const { links, addresses, routes, rules } = desire(wanted({ gateways: [], nodes: [] }), around())
    expect({ links, addresses, routes, rules }).toEqual({ links: [], addresses: [], routes: [], rules: [] })
  })
})

describe('probes', () => {
  it('go from slice to slice, and to the address of a node without a gateway', () => {
    const onLink = { device: 'eth0', isOnLink: true, mtu: 1500 }
    const ways = new Map(['172.18.0.2', '172.19.0.3'].map(address => [address, onLink]))
    expect(desire(wanted(), around({ ways })).probes).toEqual([
      { key: 'n2 IPv4', source: '10.177.0.0', destination: '10.178.0.0', via: '172.18.0.2' },
      { key: 'n3 IPv4', source: '10.177.0.0', destination: '172.19.0.3', via: '172.19.0.3' },
    ])
  })

  it.each(['direct', 'vxlan'] as const)('nobody asks with %s', mode => {
    expect(desire(wanted({ mode, nodes: [] }), around()).probes).toEqual([])
  })
})

describe('links by which encoded sources may come in', () => {
  const carriers = (change: Partial<NodeNetworkWanted>, more: Partial<Surroundings> = {}) =>
    desire(wanted(change), around(more)).table.carriers

  it('the TUN, VXLAN, and the link of a node with auto and direct', () => {
    expect(carriers({})).toEqual(['eth0', 'ipref-vx', 'ipref-vx6', 'ipref0', 'lo'])
    expect(carriers({ mode: 'vxlan' })).toEqual(['ipref-vx', 'ipref-vx6', 'ipref0', 'lo'])
    expect(carriers({ mode: 'direct' })).toEqual(['eth0', 'ipref0', 'lo'])
  })

  it("the CNI's overlays only while others cannot know where our pods are", () => {
    expect(carriers({ mode: 'vxlan' }, { overlays: ['flannel.1'] })).not.toContain('flannel.1')
    expect(carriers({ mode: 'vxlan', nodes: [] }, { overlays: ['flannel.1'] })).toContain('flannel.1')
  })
})

describe('halves', () => {
  it.each([
    ['10.176.0.0/12', ['10.176.0.0/13', '10.184.0.0/13']],
    ['fd24::/64', ['fd24::/65', 'fd24::8000:0:0:0/65']],
    ['10.0.0.0/8', ['10.0.0.0/9', '10.128.0.0/9']],
    ['10.0.0.1/32', ['10.0.0.1/32']],
  ])('%s', (network, two) => {
    expect(halves(network)).toEqual(two)
  })
})
