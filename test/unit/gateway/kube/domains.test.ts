import { describe, expect, it } from 'vitest'
import { formatName } from '../../../../dns/name.ts'
import type { Domain } from '../../../../gateway/kube/assertions.ts'
import { routingOf } from '../../../../gateway/kube/domains.ts'
import { formatAddress, formatPrefix } from '../../../../ipref/address.ts'
import type { Network, NetworkGateway } from '../../../../resources/network.ts'
import { network } from '../../../support/clusterBuilders.ts'

const gateway = (name: string, more: Partial<NetworkGateway>): NetworkGateway => ({
  name,
  nodeAddresses: [],
  slices: [],
  publicAddresses: [],
  publish: true,
  ...more,
})

function routing(more: Partial<Network>, domains: readonly Domain[] = [], above: readonly NetworkGateway[] = []) {
  const found = routingOf({ network: network(more), domains, above, resolverPort: 1053 })
  const texts = (servers: readonly { address: Uint8Array; port: number }[]) =>
    servers.map(({ address, port }) => `${formatAddress(address)} ${port}`)
  const routes = found.routing.routes.map(
    ({ domain, upstreams, forwarders, orOwn, looksForAa, mayHold }) =>
      `${formatName(domain)} aa:${looksForAa ? [...texts(upstreams), ...(orOwn ? ['own'] : [])] : 'no'} else:${texts(forwarders)} holds:${mayHold.map(formatPrefix)}`,
  )
  return {
    routes,
    problems: found.problems,
    uplink: texts(found.routing.uplink),
    own: found.routing.ownContexts.map(formatAddress),
    allow: found.routing.allow.map(formatPrefix),
  }
}

describe('zones of the cluster', () => {
  it('are asked at the zone servers: native addresses, AA records, static encoded addresses of hosts of peers', () => {
    const zones = { publicZone: 'Example.com', zoneServers: ['10.96.0.77', '[fd00::77]:5353'] }
    expect(routing(zones).routes).toEqual([
      'in.example.com. aa:no else:10.96.0.77 53,fd00::77 5353 holds:10.176.0.0/16',
      'example.com. aa:10.96.0.77 53,fd00::77 5353,own else: holds:',
    ])
  })

  it('without zone servers the own servers of the resolver are asked', () => {
    expect(routing({ publicZone: 'example.com' }).routes).toEqual([
      'in.example.com. aa:no else: holds:10.176.0.0/16',
      'example.com. aa:own else: holds:',
    ])
  })
})

describe('domains of peers', () => {
  const domain = (name: string, servers: string[], by = 'IprefPeer b'): Domain => ({ name, servers, by })

  it('are asked at their servers, or at the own ones', () => {
    const { routes } = routing({}, [domain('b.example', ['192.0.2.9:5353']), domain('c.example.', [])])
    expect(routes.slice(1)).toEqual([
      'b.example. aa:192.0.2.9 5353 else:192.0.2.9 5353 holds:',
      'c.example. aa: else: holds:',
    ])
  })

  it('of two that claim one the first counts, and the zones of the cluster before both', () => {
    const { routes, problems } = routing({}, [
      domain('b.example', ['192.0.2.9']),
      domain('B.example.', ['192.0.2.10'], 'IprefPeer c'),
      domain('in.example.com', ['192.0.2.10'], 'IprefPeer c'),
    ])
    expect([routes.length, problems]).toEqual([
      2,
      [
        'IprefPeer c: b.example. is claimed by IprefPeer b already',
        'IprefPeer c: in.example.com. is claimed by the internal zone already',
      ],
    ])
  })

  it('that cannot be are named, and a domain whose servers are all wrong is not asked elsewhere', () => {
    const { routes, problems } = routing({}, [domain('x..y', []), domain('b.example', ['ns.b.example'])])
    expect([routes.length, problems]).toEqual([
      1,
      ['IprefPeer b: x..y is no domain name', 'IprefPeer b: ns.b.example is no address of a DNS server'],
    ])
  })
})

describe('who asks and who is asked', () => {
  it('pods, services and nodes may ask', () => {
    const nodes = [{ name: 'n', addresses: ['192.0.2.7', '2001:db8::7'], podNetworks: ['10.244.1.0/24'] }]
    const gateways = [gateway('a', { nodeAddresses: ['192.0.2.7'], publicAddresses: ['198.51.100.7'] })]
    const found = routing({ nodes, gateways, podNetworks: ['10.200.0.0/16'], serviceNetworks: ['10.96.0.0/16'] })
    expect([found.allow, found.own]).toEqual([
      ['10.200.0.0/16', '10.96.0.0/16', '10.244.1.0/24', '192.0.2.7/32', '2001:db8::7/128'],
      ['198.51.100.7'],
    ])
  })

  it('the resolvers of other gateways are asked at their node addresses', () => {
    const above = [gateway('a', { nodeAddresses: ['192.0.2.7', '2001:db8::7'] })]
    expect(routing({}, [], above).uplink).toEqual(['192.0.2.7 1053', '2001:db8::7 1053'])
  })
})
