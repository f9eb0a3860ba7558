/** Nodes of a cluster as tests of node networks speak of them; each field can be given. */
import type { NodeNetworkWanted, Surroundings } from '../../../../gateway/kube/nodeTypes.ts'

export const N2 = { name: 'g2', nodeName: 'n2', nodeAddresses: ['172.18.0.2'], slices: ['10.178.0.0/18'] }
export const N3 = { nodeName: 'n3', nodeAddresses: ['172.19.0.3'], podNetworks: ['10.244.3.0/24'] }

/** n1 (here) and n2 have gateways and share a link; n3 has none and is behind a router. */
export function wanted(change: Partial<NodeNetworkWanted> = {}): NodeNetworkWanted {
  return {
    encodingNetworks: ['10.176.0.0/12'],
    own: { nodeName: 'n1', nodeAddresses: ['172.18.0.1'], slices: ['10.177.0.0/18'] },
    gateways: [{ name: 'g1', nodeName: 'n1', nodeAddresses: ['172.18.0.1'], slices: ['10.177.0.0/18'] }, N2],
    nodes: [
      { nodeName: 'n1', nodeAddresses: ['172.18.0.1'], podNetworks: ['10.244.1.0/24'] },
      { nodeName: 'n2', nodeAddresses: ['172.18.0.2'], podNetworks: ['10.244.2.0/24'] },
      N3,
    ],
    mode: 'auto',
    tun: 'ipref0',
    tunnelPort: 1045,
    uplinkPort: 1048,
    podNetworks: ['10.244.0.0/16'],
    serviceNetworks: ['10.96.0.0/16'],
    ...change,
  }
}

/** As n3 wants it: no gateway here. */
export function wantedWithoutGateway(change: Partial<NodeNetworkWanted> = {}): NodeNetworkWanted {
  return wanted({ own: { nodeName: 'n3', nodeAddresses: ['172.19.0.3'], slices: [] }, tun: undefined, ...change })
}

export function around(change: Partial<Surroundings> = {}): Surroundings {
  return {
    ways: new Map([
      ['172.18.0.2', { device: 'eth0', isOnLink: true, mtu: 1500 }],
      ['172.19.0.3', { device: 'eth0', isOnLink: false, mtu: 1500 }],
      ['fd18::2', { device: 'eth0', isOnLink: true, mtu: 1500 }],
      ['fd19::3', { device: 'eth0', isOnLink: false, mtu: 1500 }],
    ]),
    own: new Map(['172.18.0.1', 'fd18::1'].map(address => [address, { device: 'eth0', mtu: 1500 }])),
    strict: new Set(),
    overlays: [],
    proved: new Set(),
    ...change,
  }
}

export function aroundN3(): Surroundings {
  const way = { device: 'eth0', isOnLink: false, mtu: 1500 }
  return around({
    ways: new Map([
      ['172.18.0.1', way],
      ['172.18.0.2', way],
    ]),
    own: new Map([['172.19.0.3', { device: 'eth0', mtu: 1500 }]]),
  })
}
