/** Objects of our kinds as programs leave them, for tests of those who read them. */
import {
  API_VERSION,
  type IprefPeer,
  type IprefPeerSpec,
  type IprefPeerStatus,
  type IprefService,
  type ServiceMapping,
} from '../../resources/kinds.ts'
import type { Network } from '../../resources/network.ts'

export const network = (more: Partial<Network> = {}): Network => ({
  encodingNetworks: ['10.176.0.0/12'],
  statics: ['10.176.0.0/16'],
  uplink: 'perNode',
  nodeNetwork: 'auto',
  inbound: 'allow',
  podNetworks: [],
  serviceNetworks: [],
  internalZone: 'in.example.com',
  zoneServers: [],
  gateways: [],
  ...more,
})

export const mappedService = (
  name: string,
  mappings: Partial<ServiceMapping>[],
  labels: Record<string, string> = {},
): IprefService => ({
  apiVersion: API_VERSION,
  kind: 'IprefService',
  metadata: { name, namespace: 'shop', labels },
  spec: { target: { service: { name } } },
  status: {
    observedGeneration: 1,
    mappings: mappings.map(one => ({ slot: 0, family: 'IPv4', address: '10.1.0.9', reference: '11', ...one })),
  },
})

export const acceptedPeer = (
  name: string,
  spec: Partial<IprefPeerSpec>,
  status: Partial<IprefPeerStatus> = {},
): IprefPeer => ({
  apiVersion: API_VERSION,
  kind: 'IprefPeer',
  metadata: { name },
  spec: { gateway: { address: '203.0.113.2' }, ...spec },
  status: {
    observedGeneration: 1,
    addresses: ['203.0.113.2'],
    conditions: [
      {
        type: 'Accepted',
        status: 'True',
        reason: 'Accepted',
        message: '',
        lastTransitionTime: '',
        observedGeneration: 1,
      },
    ],
    ...status,
  },
})
