/** A folder with one IprefService that is published in order, and everything behind it; and servers that know its records. For traces that find what is wrong. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TracePorts } from '../../cli/serviceTrace.ts'
import { Class, Flag, Rcode, Type } from '../../dns/constants.ts'
import { dataOfStrings, type Message, type ResourceRecord } from '../../dns/message.ts'
import { formatName, type Name } from '../../dns/name.ts'
import { parseAddress } from '../../ipref/address.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import type { Condition, IprefServiceStatus, KindName, Kinds } from '../../resources/kinds.ts'
import { formatNetwork, NETWORK_KEY, NETWORK_NAME, type Network } from '../../resources/network.ts'
import { gateway, iprefService, pod, service, slice } from './operatorObjects.ts'

export const NOW = Date.UTC(2030, 0, 1, 1)
const RENEWED = new Date(NOW - 5000).toISOString()
export const AA = 'AA 198.51.100.1 + 8a3f-0-812'

const network: Network = {
  encodingNetworks: ['10.176.0.0/12'],
  statics: ['10.176.0.0/16'],
  uplink: 'perNode',
  nodeNetwork: 'auto',
  inbound: 'allow',
  podNetworks: [],
  serviceNetworks: [],
  internalZone: 'in.example.com',
  publicZone: 'example.com',
  zoneServers: [],
  nodes: [],
  gateways: [
    {
      name: 'gw-1',
      nodeName: 'node-1',
      nodeAddresses: ['192.0.2.1'],
      slices: ['10.177.0.0/18'],
      publicAddresses: ['198.51.100.1'],
      publish: true,
    },
  ],
}

export function condition(type: string, reason: string, status: Condition['status'] = 'True', message = ''): Condition {
  return { type, status, reason, message, lastTransitionTime: '2030-01-01T00:00:10Z', observedGeneration: 1 }
}

export const goodConditions: readonly Condition[] = [
  condition('Accepted', 'Accepted'),
  condition('Resolved', 'Resolved'),
  condition('Mapped', 'Mapped'),
  condition('PublishedInternal', 'Published'),
  condition('PublishedPublic', 'Published'),
  condition('Ready', 'Ready'),
]

export const goodStatus: IprefServiceStatus = {
  observedGeneration: 1,
  conditions: [...goodConditions],
  internalName: 'web.shop.in.example.com',
  publicName: 'web.shop.example.com',
  mappings: [{ slot: 0, family: 'IPv4', address: '10.96.0.10', reference: '8a3f-0-812' }],
  mappingsVersion: '5',
}

export class TracedWorld {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ipref-traced-'))
  store!: DirectoryStore
  /** `SERVER name TYPE` → values; absent: no such name */
  readonly records = new Map([
    ['203.0.113.53 web.shop.example.com TXT', [AA]],
    ['10.96.0.53 web.shop.in.example.com A', ['10.96.0.10']],
  ])
  /** that answer nothing, or with an error */
  readonly broken = new Map<string, number | undefined>()
  isFolder = false

  async open(): Promise<void> {
    this.store = await DirectoryStore.open(this.#folder, { now: () => NOW - 3_600_000 })
    await this.put('IprefService', iprefService(), goodStatus)
    await this.put('Service', service())
    await this.put('EndpointSlice', slice(['10.244.1.5', '10.244.2.5']))
    await this.put('Pod', pod('web-1', ['10.244.1.5'], { spec: { nodeName: 'node-1' } }))
    await this.put('Pod', pod('web-2', ['10.244.2.5'], { spec: { nodeName: 'node-2' } }))
    await this.put('IprefGateway', gateway('gw-1', { nodeName: 'node-1' }), {
      observedGeneration: 1,
      observedResourceVersion: '9',
      conditions: [condition('Accepted', 'Accepted'), condition('Ready', 'Ready')],
    })
    await this.put('Lease', {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'ipref-gateway-gw-1', namespace: 'ipref' },
      spec: { holderIdentity: 'gw-1', renewTime: RENEWED },
    })
    const metadata = { name: '8a3f00000812' }
    const spec = { namespace: 'shop', name: 'web', uid: 'uid-web', slot: 0, family: 'IPv4' as const }
    await this.put('IprefReference', { apiVersion: 'ipref.io/v1alpha1', kind: 'IprefReference', metadata, spec })
    await this.put('ConfigMap', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: NETWORK_NAME, namespace: 'ipref' },
      data: { [NETWORK_KEY]: formatNetwork(network) },
    })
  }

  async put<Kind extends KindName>(kind: Kind, object: Kinds[Kind], status?: unknown): Promise<void> {
    const { uid: _uid, creationTimestamp: _at, generation: _generation, ...metadata } = object.metadata
    const made = await this.store.create(kind, { ...object, metadata })
    // a status is not made with its object
    status ??= (object as { status?: unknown }).status
    if (status !== undefined) await this.store.updateStatus(kind, { ...made, status } as Kinds[Kind])
  }

  async edit<Kind extends KindName>(
    kind: Kind,
    name: string,
    change: (object: Kinds[Kind]) => void,
    write: 'update' | 'updateStatus' = 'update',
  ): Promise<void> {
    const namespaces: Partial<Record<KindName, string>> = {
      IprefService: 'shop',
      Service: 'shop',
      EndpointSlice: 'shop',
      Pod: 'shop',
      Lease: 'ipref',
    }
    const namespace = namespaces[kind]
    const object = (await this.store.get(kind, { name, ...(namespace === undefined ? {} : { namespace }) }))!
    change(object)
    await this.store[write](kind, object)
  }

  /** Status of the IprefService. */
  say(...conditions: Condition[]): Promise<void> {
    return this.edit(
      'IprefService',
      'web',
      object => {
        const said = new Map([...object.status!.conditions!, ...conditions].map(one => [one.type, one]))
        object.status!.conditions = [...said.values()]
      },
      'updateStatus',
    )
  }

  get ports(): TracePorts {
    return {
      ask: async ({ host }, { name, type }) => this.#answer(host, name, type),
      servers: async zone => [{ host: zone === 'public' ? '203.0.113.53' : '10.96.0.53', port: 53 }],
      isFolder: this.isFolder,
      now: NOW,
    }
  }

  #answer(host: string, name: Name, type: number): Message | undefined {
    const shown = formatName(name).replace(/\.$/, '')
    const rcode = this.broken.get(host)
    if (this.broken.has(host) && rcode === undefined) return undefined
    const values = this.records.get(`${host} ${shown} ${type === Type.TXT ? 'TXT' : type === Type.A ? 'A' : 'AAAA'}`)
    const data = (value: string) => (type === Type.TXT ? dataOfStrings([value]) : parseAddress(value)!)
    const answers = (values ?? []).map(
      (value): ResourceRecord => ({ name, type, class: Class.IN, ttl: 60, data: data(value) }),
    )
    const code = rcode ?? (values ? Rcode.NOERROR : Rcode.NXDOMAIN)
    return { id: 0, flags: Flag.QR | Flag.AA | code, questions: [], answers, authority: [], additional: [] }
  }

  async close(): Promise<void> {
    await this.store.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
