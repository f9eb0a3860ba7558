/**
 * `ipref status` of a cluster, or of a folder: IprefServices, IprefPeers and IprefGateways, as tables or JSON. What is not ready says why below its table.
 */
import type { Condition, IprefGateway, IprefPeer, IprefService } from '../resources/kinds.ts'
import type { ResourceStore } from '../resources/store.ts'
import { listIfAllowed } from './clusterStore.ts'
import { duration, renderTable } from './table.ts'

interface Ready {
  ready: Condition['status']
  reason: string
  message: string
  ageSeconds: number
}

export interface ServiceRow extends Ready {
  namespace: string
  name: string
  publicName?: string
  internalName?: string
  mappings: { address: string; reference: string }[]
}

export interface PeerRow extends Ready {
  name: string
  gateway: string
  addresses: string[]
  domains: string[]
  hosts: number
  inbound?: 'Allow' | 'Deny'
  rttMilliseconds?: number
  lastSeenTime?: string
}

export interface GatewayRow extends Ready {
  name: string
  node?: string
  publicAddresses: string[]
  slices: string[]
  tunMtu?: number
  version?: string
  refused: number
}

export interface ClusterReport {
  services: ServiceRow[]
  /** absent: we may not read them */
  peers?: PeerRow[]
  gateways?: GatewayRow[]
  /** mistakes in files, and what may not be read */
  problems: string[]
}

export async function readCluster(
  store: ResourceStore,
  namespace: string | undefined,
  at: { problems: readonly string[]; now: number },
): Promise<ClusterReport> {
  const problems = [...at.problems]
  const options = namespace === undefined ? {} : { namespace }
  const [services, peers, gateways] = await Promise.all([
    listIfAllowed(store, 'IprefService', options),
    listIfAllowed(store, 'IprefPeer'),
    listIfAllowed(store, 'IprefGateway'),
  ])
  if (services === 'Forbidden')
    problems.push('IprefServices cannot be read: not allowed, or not installed; of one namespace: -n NAMESPACE')
  for (const [kind, found] of Object.entries({ IprefPeers: peers, IprefGateways: gateways }))
    if (found === 'Forbidden') problems.push(`${kind} cannot be read: not allowed, or not installed`)
  return {
    services: services === 'Forbidden' ? [] : services.map(one => serviceRow(one, at.now)),
    ...(peers === 'Forbidden' ? {} : { peers: peers.map(one => peerRow(one, at.now)) }),
    ...(gateways === 'Forbidden' ? {} : { gateways: gateways.map(one => gatewayRow(one, at.now)) }),
    problems,
  }
}

function readyOf({ metadata, status }: IprefService | IprefPeer | IprefGateway, now: number): Ready {
  const condition = status?.conditions?.find(one => one.type === 'Ready')
  const ageSeconds = Math.max(0, (now - (Date.parse(metadata.creationTimestamp ?? '') || now)) / 1000)
  if (metadata.deletionTimestamp !== undefined)
    return { ready: 'False', reason: 'Deleting', message: 'it is being deleted', ageSeconds }
  const isOld = (status?.observedGeneration ?? -1) < (metadata.generation ?? 0)
  if (!condition || isOld)
    return { ready: 'Unknown', reason: 'NotSeen', message: 'nobody has looked at it as it is now', ageSeconds }
  return { ready: condition.status, reason: condition.reason, message: condition.message, ageSeconds }
}

function serviceRow(object: IprefService, now: number): ServiceRow {
  const { metadata, status } = object
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    ...readyOf(object, now),
    ...(status?.publicName === undefined ? {} : { publicName: status.publicName }),
    ...(status?.internalName === undefined ? {} : { internalName: status.internalName }),
    mappings: (status?.mappings ?? []).map(({ address, reference }) => ({ address, reference })),
  }
}

function peerRow(object: IprefPeer, now: number): PeerRow {
  const { metadata, spec, status } = object
  const seen = [...(status?.observations ?? [])].sort((a, b) =>
    (a.lastSeenTime ?? '') < (b.lastSeenTime ?? '') ? 1 : -1,
  )[0]
  return {
    name: metadata.name,
    ...readyOf(object, now),
    gateway: spec.gateway.name ?? spec.gateway.address ?? '',
    addresses: status?.addresses ?? [],
    domains: spec.domains ?? [],
    hosts: spec.hosts?.length ?? 0,
    ...(spec.inbound ? { inbound: spec.inbound.policy } : {}),
    ...(seen?.rttMilliseconds === undefined ? {} : { rttMilliseconds: seen.rttMilliseconds }),
    ...(seen?.lastSeenTime === undefined ? {} : { lastSeenTime: seen.lastSeenTime }),
  }
}

function gatewayRow(object: IprefGateway, now: number): GatewayRow {
  const { metadata, spec, status } = object
  return {
    name: metadata.name,
    ...readyOf(object, now),
    ...(spec.nodeName === undefined ? {} : { node: spec.nodeName }),
    publicAddresses: status?.publicAddresses ?? spec.publicAddresses ?? [],
    slices: spec.slices ?? [],
    ...(status?.tunMtu === undefined ? {} : { tunMtu: status.tunMtu }),
    ...(status?.version === undefined ? {} : { version: status.version }),
    refused: status?.refused?.length ?? 0,
  }
}

// ---- as text

export function renderCluster({ services, peers, gateways, problems }: ClusterReport, now: number): string {
  const parts = problems.map(problem => `! ${problem}`)
  if (parts.length > 0) parts.push('')
  parts.push(section('IprefServices', services, servicesTable, ({ namespace, name }) => `${namespace}/${name}`))
  if (peers)
    parts.push(
      '',
      section('IprefPeers', peers, rows => peersTable(rows, now), nameOf),
    )
  if (gateways) parts.push('', section('IprefGateways', gateways, gatewaysTable, nameOf))
  return parts.join('\n')
}

function nameOf({ name }: { name: string }): string {
  return name
}

function section<Row extends Ready>(
  title: string,
  rows: readonly Row[],
  table: (rows: readonly Row[]) => string,
  nameIt: (row: Row) => string,
): string {
  if (rows.length === 0) return `${title}: none`
  const ready = rows.filter(row => row.ready === 'True').length
  const reasons = rows
    .filter(row => row.ready !== 'True' && row.message !== '')
    .map(row => `  ! ${nameIt(row)}: ${row.message}`)
  return [`${title}: ${rows.length}, ${ready} ready`, table(rows), ...reasons].join('\n')
}

function servicesTable(rows: readonly ServiceRow[]): string {
  return renderTable(
    ['NAMESPACE', 'NAME', 'READY', 'REASON', 'ADDRESS', 'REFERENCE', 'KNOWN AS', 'AGE'],
    rows.map(row => [
      row.namespace,
      row.name,
      row.ready,
      row.reason,
      several(row.mappings.map(({ address }) => address)),
      several(row.mappings.map(({ reference }) => reference)),
      row.publicName ?? row.internalName ?? '-',
      duration(row.ageSeconds),
    ]),
  )
}

function peersTable(rows: readonly PeerRow[], now: number): string {
  return renderTable(
    ['NAME', 'READY', 'REASON', 'GATEWAY', 'DOMAINS', 'HOSTS', 'INBOUND', 'RTT', 'SEEN', 'AGE'],
    rows.map(row => [
      row.name,
      row.ready,
      row.reason,
      row.gateway,
      several(row.domains),
      String(row.hosts),
      row.inbound ?? '-',
      row.rttMilliseconds === undefined ? '-' : `${row.rttMilliseconds}ms`,
      row.lastSeenTime === undefined
        ? 'never'
        : `${duration(Math.max(0, now - Date.parse(row.lastSeenTime)) / 1000)} ago`,
      duration(row.ageSeconds),
    ]),
  )
}

function gatewaysTable(rows: readonly GatewayRow[]): string {
  return renderTable(
    ['NAME', 'READY', 'REASON', 'NODE', 'PUBLIC', 'SLICES', 'MTU', 'REFUSED', 'VERSION', 'AGE'],
    rows.map(row => [
      row.name,
      row.ready,
      row.reason,
      row.node ?? '-',
      several(row.publicAddresses),
      several(row.slices),
      row.tunMtu === undefined ? '-' : String(row.tunMtu),
      String(row.refused),
      row.version ?? '-',
      duration(row.ageSeconds),
    ]),
  )
}

const MOST_SHOWN = 2

function several(texts: readonly string[]): string {
  const unique = [...new Set(texts)]
  if (unique.length === 0) return '-'
  const more = unique.length - MOST_SHOWN
  return `${unique.slice(0, MOST_SHOWN).join(',')}${more > 0 ? `,+${more}` : ''}`
}
