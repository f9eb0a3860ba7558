import { describe, expect, it } from 'vitest'
import {
  GATEWAY_FINALIZER,
  type GatewayInput,
  PUBLIC_ADDRESSES,
  planGateways,
} from '../../../../operator/gateway/plan.ts'
import { parseConfig } from '../../../../resources/config.ts'
import { API_VERSION, type IprefGateway, type IprefGatewaySpec, type Node } from '../../../../resources/kinds.ts'
import { formatNetwork, parseNetwork } from '../../../../resources/network.ts'

const config = (more = '') => {
  const parsed = parseConfig(`encodingNetworks: [10.176.0.0/12]\ninternalZone: in.example.com\n${more}`, 'test')
  if ('problems' in parsed) throw new Error(parsed.problems.join('\n'))
  return parsed.config
}
const node = (name: string, more: Partial<Node['metadata']> = {}, addresses: [string, string][] = []): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, creationTimestamp: '2030-01-01T00:00:00Z', ...more },
  status: { addresses: addresses.map(([type, address]) => ({ type, address })) },
})
const gateway = (name: string, spec: IprefGatewaySpec): IprefGateway => ({
  apiVersion: API_VERSION,
  kind: 'IprefGateway',
  metadata: { name, uid: name, creationTimestamp: '2030-01-01T00:00:00Z', finalizers: [GATEWAY_FINALIZER] },
  spec,
})
const plan = (input: Partial<GatewayInput>) =>
  planGateways({
    config: config(),
    nodes: [],
    gateways: [],
    missingSince: new Map(),
    releasingSince: new Map(),
    isAlive: () => true,
    inUse: [],
    serviceNetworks: [],
    zoneServers: [],
    tunnelFamilies: [4, 6],
    now: 0,
    ...input,
  })
const seen = ({ changes }: ReturnType<typeof plan>) => changes.map(c => `${c.do} ${c.object.metadata.name}`)

describe('gateways of nodes', () => {
  it('one for each node that matches, with a slice', () => {
    const nodes = [node('a', { labels: { edge: 'yes' } }), node('b')]
    const { changes } = plan({ nodes, config: config('gatewayNodeSelector: {edge: "yes"}') })
    expect(changes).toMatchObject([
      { do: 'make', object: { metadata: { name: 'a' }, spec: { nodeName: 'a', slices: ['10.177.0.0/18'] } } },
    ])
  })

  it('one that a person made without a slice is completed; one with a slice is left as it is', () => {
    const nodes = [node('a'), node('b')]
    const gateways = [gateway('a', { nodeName: 'a' }), gateway('b', { nodeName: 'b', slices: ['10.180.0.0/18'] })]
    const { changes, network } = plan({ nodes, gateways })
    expect(changes).toMatchObject([{ do: 'complete', object: { spec: { slices: ['10.177.0.0/18'] } } }])
    expect(network.gateways.map(g => g.slices)).toEqual([['10.177.0.0/18'], ['10.180.0.0/18']])
  })

  it('one that a person made is guarded by a finalizer, beside those of others', () => {
    const made = gateway('a', { nodeName: 'a', slices: ['10.177.0.0/18'] })
    const gateways = [{ ...made, metadata: { ...made.metadata, finalizers: ['example.com/mine'] } }]
    const { changes } = plan({ nodes: [node('a')], gateways })
    expect(changes).toMatchObject([
      {
        do: 'complete',
        object: { metadata: { finalizers: ['example.com/mine', GATEWAY_FINALIZER] }, spec: made.spec },
      },
    ])
  })

  it('a slice that a person wrote wrongly stays written, and the gateway is told why it has another', () => {
    const result = plan({ nodes: [node('a')], gateways: [gateway('a', { nodeName: 'a', slices: ['10.0.0.0/18'] })] })
    expect(seen(result)).toEqual([])
    expect(result.network.gateways[0]).toMatchObject({ problem: { reason: 'SliceInvalid' } })
  })

  it('one whose node is gone keeps its slice for the release time, and goes then', () => {
    const gateways = [gateway('a', { nodeName: 'a', slices: ['10.177.0.0/18'] }), gateway('outside', {})]
    const missingSince = new Map([['a', 1000]])
    const early = plan({ gateways, missingSince, now: 1000 + 599_000 })
    expect(seen(early)).toEqual(['complete outside'])
    expect(early.network.gateways.map(g => g.name)).toEqual(['a', 'outside'])
    expect(seen(plan({ gateways, missingSince, now: 1000 + 600_000 }))).toContain('release a')
  })

  it.each<[string, IprefGatewaySpec, Partial<Node['metadata']>, [string, string][], string, string[]]>([
    ['nothing is known', {}, {}, [['InternalIP', '192.168.0.1']], '', []],
    [
      'ExternalIPs of the node',
      {},
      {},
      [
        ['ExternalIP', '198.51.100.1'],
        ['ExternalIP', '2001:db8::1'],
      ],
      '',
      ['198.51.100.1', '2001:db8::1'],
    ],
    [
      'the annotation wins over them',
      {},
      { annotations: { [PUBLIC_ADDRESSES]: '198.51.100.2, 198.51.100.9' } },
      [['ExternalIP', '198.51.100.1']],
      '',
      ['198.51.100.2'],
    ],
    [
      'the settings win over both',
      {},
      { annotations: { [PUBLIC_ADDRESSES]: '198.51.100.2' } },
      [],
      'publicAddresses: {a: [198.51.100.3]}',
      ['198.51.100.3'],
    ],
    [
      'what the object says wins over all',
      { publicAddresses: ['198.51.100.4'] },
      {},
      [],
      'publicAddresses: {a: [198.51.100.3]}',
      ['198.51.100.4'],
    ],
    ['and may say that it is unknown', { publicAddresses: [] }, {}, [['ExternalIP', '198.51.100.1']], '', []],
  ])('public addresses: %s', (_name, spec, metadata, addresses, settings, expected) => {
    const nodes = [node('a', metadata, addresses)]
    const gateways = [gateway('a', { nodeName: 'a', slices: ['10.177.0.0/18'], ...spec })]
    expect(plan({ nodes, gateways, config: config(settings) }).network.gateways[0]!.publicAddresses).toEqual(expected)
  })

  it.each<[string, (4 | 6)[], IprefGatewaySpec, string[]]>([
    ['IPv6 has none of the addresses that the cloud gave', [4], {}, ['198.51.100.1']],
    ['nor has IPv4', [6], {}, ['2001:db8::1']],
    [
      'an address that a person names is published all the same',
      [4],
      { publicAddresses: ['2001:db8::2'] },
      ['2001:db8::2'],
    ],
  ])('where the tunnel has one IP version alone: %s', (_name, tunnelFamilies, spec, expected) => {
    const external: [string, string][] = ['2001:db8::1', '198.51.100.1'].map(address => ['ExternalIP', address])
    const gateways = [gateway('a', { nodeName: 'a', slices: ['10.177.0.0/18'], ...spec })]
    const { network } = plan({ nodes: [node('a', {}, external)], gateways, tunnelFamilies })
    expect(network.gateways[0]!.publicAddresses).toEqual(expected)
  })

  it.each([
    ['each has an address of its own', ['198.51.100.1', '198.51.100.2'], 'perNode'],
    ['two share one', ['198.51.100.1', '198.51.100.1'], 'single'],
    ['one is unknown', ['198.51.100.1', ''], 'single'],
  ])('uplink auto, %s: %s → %s', (_name, addresses, uplink) => {
    const nodes = addresses.map((address, i) => node(`n${i}`, {}, address ? [['ExternalIP', address]] : []))
    expect(plan({ nodes }).network.uplink).toBe(uplink)
  })

  it('one that is not published does not count for the uplink', () => {
    const nodes = [node('a', {}, [['ExternalIP', '198.51.100.1']]), node('b')]
    const gateways = [gateway('b', { nodeName: 'b', publish: false })]
    expect(plan({ nodes, gateways }).network.uplink).toBe('perNode')
  })

  it('an overlap is refused by name', () => {
    const inUse = [
      { what: 'a network of the cluster', network: '10.96.0.0/12' },
      { what: 'the address of pod shop/web-0', network: '10.180.1.2/32' },
    ]
    expect(plan({ inUse }).network.problem).toEqual({
      reason: 'EncodingNetworkOverlap',
      message:
        'the encoding network 10.176.0.0/12 contains 10.180.1.2/32, the address of pod shop/web-0: choose another in encodingNetworks',
    })
  })
  it('all nodes are told with their pod networks, gateways or not', () => {
    const plain = node('b', {}, [
      ['InternalIP', '10.0.0.2'],
      ['Hostname', 'b'],
    ])
    const nodes = [{ ...plain, spec: { podCIDRs: ['10.244.1.0/24'] } }, node('a', { labels: { edge: 'yes' } })]
    const { network } = plan({
      nodes,
      serviceNetworks: ['10.96.0.0/16'],
      config: config('gatewayNodeSelector: {edge: "yes"}\nserviceNetworks: [10.97.0.0/16]'),
    })
    expect([network.nodes, network.gateways.length, network.serviceNetworks]).toEqual([
      [
        { name: 'a', addresses: [], podNetworks: [] },
        { name: 'b', addresses: ['10.0.0.2'], podNetworks: ['10.244.1.0/24'] },
      ],
      1,
      ['10.97.0.0/16', '10.96.0.0/16'],
    ])
    expect(parseNetwork(formatNetwork(network))).toEqual(network)
  })
})
