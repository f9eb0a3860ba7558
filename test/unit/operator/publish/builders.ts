/** Objects and settings for the tests of publishing. */
import type { PublicGateway } from '../../../../operator/publish/records.ts'
import { type Config, parseConfig } from '../../../../resources/config.ts'
import type { IprefGateway, IprefPeer, IprefService, ServiceMapping } from '../../../../resources/kinds.ts'

export function configOf(text = ''): Config {
  const zones = /^internalZone:/m.test(text) ? '' : 'internalZone: internal.example.com\npublicZone: example.com\n'
  const parsed = parseConfig(`${zones}${text}`, 'config.yaml')
  if ('problems' in parsed) throw new Error(parsed.problems.join('\n'))
  return parsed.config
}

export const mapping = (more: Partial<ServiceMapping> = {}): ServiceMapping => ({
  slot: 0,
  family: 'IPv4',
  address: '10.1.2.3',
  reference: '8a3f-0-12',
  ...more,
})

export interface ServiceGiven {
  namespace?: string
  name?: string
  uid?: string
  created?: string
  isAccepted?: boolean
  deletedAt?: string
  mappings?: ServiceMapping[]
  spec?: Partial<IprefService['spec']>
  status?: Partial<NonNullable<IprefService['status']>>
}

/** Accepted, with the names that it has by default. */
export function service(given: ServiceGiven = {}): IprefService {
  const { namespace = 'shop', name = 'web', uid = `u-${name}`, created = '2026-01-01T00:00:00Z' } = given
  const condition = {
    type: 'Accepted',
    status: given.isAccepted === false ? ('False' as const) : ('True' as const),
    reason: 'Accepted',
    message: '',
    lastTransitionTime: created,
    observedGeneration: 1,
  }
  return {
    apiVersion: 'ipref.io/v1alpha1',
    kind: 'IprefService',
    metadata: {
      namespace,
      name,
      uid,
      creationTimestamp: created,
      generation: 1,
      ...(given.deletedAt === undefined ? {} : { deletionTimestamp: given.deletedAt }),
    },
    spec: { target: { service: { name } }, ...given.spec },
    status: {
      observedGeneration: 1,
      conditions: [condition],
      internalName: `${name}.${namespace}.internal.example.com`,
      publicName: `${name}.${namespace}.example.com`,
      mappings: given.mappings ?? [mapping()],
      ...given.status,
    },
  }
}

export function gateway(name: string, more: Partial<IprefGateway['spec']> = {}): IprefGateway {
  return { apiVersion: 'ipref.io/v1alpha1', kind: 'IprefGateway', metadata: { name }, spec: { ...more } }
}

export const at = (...addresses: string[]): PublicGateway => ({ name: addresses[0] ?? 'none', addresses })

export function peer(name: string, hosts: NonNullable<IprefPeer['status']>['hosts'] = []): IprefPeer {
  return {
    apiVersion: 'ipref.io/v1alpha1',
    kind: 'IprefPeer',
    metadata: { name },
    spec: { gateway: { address: '203.0.113.9' } },
    status: { observedGeneration: 1, hosts },
  }
}
