/** `ipref status`: of a gateway: mappings, peers, traffic, and what is wrong; of a cluster: its objects (clusterStatus.ts). As tables or JSON. */
import type { DirectionReport, StatusReport } from '../gateway/controlReports.ts'
import { askControl } from '../runtime/controlSocket.ts'
import { type Arguments, asksForHelp, DEFAULT_CONTROL_SOCKET, fail, parseCommand, say } from './arguments.ts'
import { CLUSTER_USAGE, type ClusterSettings, clusterFlags, clusterSettings, openCluster } from './clusterStore.ts'
import { duration, quantity, renderTable } from './table.ts'

const WATCH_MS = 1000

export const USAGE = `usage: ipref status [-json] [-watch] [-control-socket PATH]
       ipref status -kube|-kubeconfig FILE|-manifests FOLDER [-n NAMESPACE] [-json] [-watch]

  ipref status          mappings, peers and traffic of the gateway on this host, and what is wrong
  ipref status -kube    what is published in a cluster, its peers and gateways, and what is wrong
  ipref status -watch   the same every second, until Ctrl-C
  ipref status -json    for programs

Asks the gateway at ${DEFAULT_CONTROL_SOCKET}, or at PATH; or reads objects:
${CLUSTER_USAGE}`

/** Text to show, again and again where it is watched. */
type Look = () => Promise<string>

export async function runStatus(argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const args = parseCommand(argv, {
    text: ['control-socket', ...clusterFlags.text],
    switches: ['json', 'watch', ...clusterFlags.switches],
    short: clusterFlags.short,
  })
  if (typeof args === 'string') return fail('status', args, 2)
  if (args.rest.length > 0) return fail('status', USAGE, 2)
  const settings = clusterSettings(args)
  if (settings && 'problem' in settings) return fail('status', settings.problem, 2)
  try {
    if (!settings) return await show(args, () => lookAtGateway(args))
    const opened = await openCluster(args, settings)
    try {
      return await show(args, () => lookAtCluster(args, settings, opened))
    } finally {
      await opened.store.close()
    }
  } catch (error) {
    return fail('status', (error as Error).message)
  }
}

async function show(args: Arguments, look: Look): Promise<number> {
  const isWatching = args.switches.has('watch')
  for (;;) {
    say(`${isWatching ? '\x1b[H\x1b[2J' : ''}${await look()}`)
    if (!isWatching) return 0
    await new Promise(resolve => setTimeout(resolve, WATCH_MS))
  }
}

async function lookAtGateway(args: Arguments): Promise<string> {
  const socket = args.values.get('control-socket') ?? DEFAULT_CONTROL_SOCKET
  const report = (await askControl(socket, { do: 'status' })) as StatusReport
  return args.switches.has('json') ? JSON.stringify(report, null, 2) : renderStatus(report)
}

async function lookAtCluster(
  args: Arguments,
  { namespace }: ClusterSettings,
  { store, mistakes }: Awaited<ReturnType<typeof openCluster>>,
): Promise<string> {
  const { readCluster, renderCluster } = await import('./clusterStatus.ts')
  const now = Date.now()
  const report = await readCluster(store, namespace, { problems: mistakes(), now })
  return args.switches.has('json') ? JSON.stringify(report, null, 2) : renderCluster(report, now)
}

export function renderStatus(report: StatusReport): string {
  const parts = [headline(report)]
  if (report.uplink) parts.push(`Uplink: ${report.uplink}`)
  for (const problem of report.problems) parts.push(`  ! ${problem}`)
  parts.push('', mappings(report), '', peers(report))
  if (report.traffic) parts.push('', traffic(report.traffic))
  return parts.join('\n')
}

function headline(report: StatusReport): string {
  const contexts = report.contexts.length > 0 ? report.contexts.join(', ') : 'address unknown'
  const tun = report.tun ? `, ${report.tun.name} MTU ${report.tun.mtu}` : ', no packets (devmode)'
  const off = Object.entries(report.offloads)
    .filter(([, on]) => !on)
    .map(([name]) => name)
  const offloads = off.length > 0 ? `, without ${off.join(', ')}` : ''
  return `ipref gateway ${report.version}: ${contexts}${tun}, up ${duration(report.uptimeSeconds)}${offloads}`
}

function mappings(report: StatusReport): string {
  const { counts, rows, truncated } = report.mappings
  const total = Object.entries(counts)
    .filter(([, n]) => n > 0)
    .map(([owner, n]) => `${n} ${owner}`)
  const title = `Mappings: ${total.length > 0 ? total.join(', ') : 'none'}`
  if (rows.length === 0) return title
  const table = renderTable(
    ['LOCAL', 'REMOTE', 'OWNER', 'USED', 'EXPIRES'],
    rows.map(row => [
      row.local,
      row.relation === 'ours' ? `ours ${row.remote}` : row.remote,
      row.tentative ? 'tentative' : row.owner,
      row.lastUsedSecondsAgo === null ? '-' : `${duration(row.lastUsedSecondsAgo)} ago`,
      row.expiresInSeconds === null ? '-' : `in ${duration(row.expiresInSeconds)}`,
    ]),
  )
  return `${title}\n${table}${truncated ? `\n… the first ${rows.length}` : ''}`
}

function peers(report: StatusReport): string {
  if (report.peers.length === 0) return 'Peers: none yet'
  const table = renderTable(
    ['ADDRESS', 'PORT', 'STATE', 'MTU', 'RTT', 'SEEN', 'IN', 'OUT', 'MAPPINGS'],
    report.peers.map(peer => [
      peer.address,
      String(peer.port),
      peer.verified ? 'verified' : 'unverified',
      String(peer.mtu),
      peer.rttMs === null ? '-' : `${peer.rttMs.toFixed(1)}ms`,
      peer.lastSeenSecondsAgo === null ? 'never' : `${duration(peer.lastSeenSecondsAgo)} ago`,
      `${quantity(peer.bytesIn)}B`,
      `${quantity(peer.bytesOut)}B`,
      String(peer.mappings),
    ]),
  )
  return `Peers: ${report.peers.length}\n${table}`
}

function traffic(of: { encap: DirectionReport; decap: DirectionReport }): string {
  const row = (name: string, d: DirectionReport) => [
    name,
    quantity(d.packetsIn),
    `${quantity(d.bytesIn)}B`,
    quantity(d.forwarded),
    quantity(d.answered),
    quantity(Object.values(d.refused).reduce((a, b) => a + b, 0)),
  ]
  const lines = [
    renderTable(
      ['TRAFFIC', 'PACKETS', 'BYTES', 'FORWARDED', 'ANSWERED', 'REFUSED'],
      [row('to the tunnel', of.encap), row('from the tunnel', of.decap)],
    ),
  ]
  for (const [name, direction] of [
    ['to the tunnel', of.encap],
    ['from the tunnel', of.decap],
  ] as const) {
    for (const [reason, count] of Object.entries(direction.refused)) lines.push(`  refused ${name}: ${reason} ${count}`)
  }
  return lines.join('\n')
}
