/** `ipref status`: mappings, peers, traffic, and what is wrong, as tables or JSON. */
import type { DirectionReport, StatusReport } from '../gateway/controlReports.ts'
import { askControl } from '../runtime/controlSocket.ts'
import { asksForHelp, DEFAULT_CONTROL_SOCKET, fail, parseCommand, say } from './arguments.ts'
import { duration, quantity, renderTable } from './table.ts'

const WATCH_MS = 1000

export const USAGE = `usage: ipref status [-json] [-watch] [-control-socket PATH]

  ipref status          mappings, peers and traffic of the gateway on this host, and what is wrong
  ipref status -watch   the same every second, until Ctrl-C
  ipref status -json    for programs

Asks the gateway at ${DEFAULT_CONTROL_SOCKET}, or at PATH.`

export async function runStatus(argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const args = parseCommand(argv, { text: ['control-socket'], switches: ['json', 'watch'] })
  if (typeof args === 'string') return fail('status', args, 2)
  if (args.rest.length > 0) return fail('status', USAGE, 2)
  const socket = args.values.get('control-socket') ?? DEFAULT_CONTROL_SOCKET
  const isWatching = args.switches.has('watch')
  for (;;) {
    try {
      const report = (await askControl(socket, { do: 'status' })) as StatusReport
      const text = args.switches.has('json') ? JSON.stringify(report, null, 2) : renderStatus(report)
      say(`${isWatching ? '\x1b[H\x1b[2J' : ''}${text}`)
    } catch (error) {
      return fail('status', (error as Error).message)
    }
    if (!isWatching) return 0
    await new Promise(resolve => setTimeout(resolve, WATCH_MS))
  }
}

export function renderStatus(report: StatusReport): string {
  const parts = [headline(report)]
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
