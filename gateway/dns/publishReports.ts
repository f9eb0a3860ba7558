/** What /metrics says of the zone server and the DNS agent of a gateway, computed at scrape from counters that exist anyway. One table: docs/metrics.md is made from it. */

export interface ZoneCounts {
  zones: number
  /** of zone files, as they are now */
  problems: number
  udpQueries: number
  tcpQueries: number
  dropped: number
  transfers: number
  transfersRefused: number
  notifiesSent: number
  failures: number
}

export interface AgentCounts {
  /** in the sets that are in force */
  hosts: number
  serversWell: number
  serversFailing: number
  transfers: number
  transfersFailed: number
}

interface Row<Counts> {
  name: string
  kind: 'counter' | 'gauge'
  labels: readonly string[]
  help: string
  values: readonly (readonly [label: string, count: keyof Counts])[]
}

const zoneRows: readonly Row<ZoneCounts>[] = [
  { name: 'ipref_zone_zones', kind: 'gauge', labels: [], help: 'zones that are served', values: [['', 'zones']] },
  {
    name: 'ipref_zone_problems',
    kind: 'gauge',
    labels: [],
    help: 'mistakes in zone files; the zones read last stay in force',
    values: [['', 'problems']],
  },
  {
    name: 'ipref_zone_queries_total',
    kind: 'counter',
    labels: ['transport'],
    help: 'questions to the zone server',
    values: [
      ['udp', 'udpQueries'],
      ['tcp', 'tcpQueries'],
    ],
  },
  {
    name: 'ipref_zone_dropped_total',
    kind: 'counter',
    labels: [],
    help: 'messages to the zone server that got no answer',
    values: [['', 'dropped']],
  },
  {
    name: 'ipref_zone_transfers_total',
    kind: 'counter',
    labels: ['outcome'],
    help: 'transfers that secondaries asked for',
    values: [
      ['begun', 'transfers'],
      ['refused', 'transfersRefused'],
    ],
  },
  {
    name: 'ipref_zone_notifies_total',
    kind: 'counter',
    labels: [],
    help: 'notifications sent to secondaries, repeated ones too',
    values: [['', 'notifiesSent']],
  },
  {
    name: 'ipref_zone_failures_total',
    kind: 'counter',
    labels: [],
    help: 'things that went wrong inside the zone server',
    values: [['', 'failures']],
  },
]

const agentRows: readonly Row<AgentCounts>[] = [
  {
    name: 'ipref_dns_agent_hosts',
    kind: 'gauge',
    labels: [],
    help: 'hosts that the DNS agent has handed to the mapper, once for each IP version of gateways',
    values: [['', 'hosts']],
  },
  {
    name: 'ipref_dns_agent_servers',
    kind: 'gauge',
    labels: ['state'],
    help: 'servers that zones are transferred from',
    values: [
      ['well', 'serversWell'],
      ['failing', 'serversFailing'],
    ],
  },
  {
    name: 'ipref_dns_agent_transfers_total',
    kind: 'counter',
    labels: ['outcome'],
    help: 'transfers by the DNS agent',
    values: [
      ['complete', 'transfers'],
      ['failed', 'transfersFailed'],
    ],
  },
]

export const publishMetricTable: readonly Omit<Row<never>, 'values'>[] = [...zoneRows, ...agentRows]

/** Text of the Prometheus exposition format; nothing of what does not run. */
export function renderPublishMetrics(zones: ZoneCounts | undefined, agent: AgentCounts | undefined): string {
  return (zones ? render(zoneRows, zones) : '') + (agent ? render(agentRows, agent) : '')
}

function render<Counts extends { [name in keyof Counts]: number }>(
  rows: readonly Row<Counts>[],
  counts: Counts,
): string {
  const lines = rows.flatMap(({ name, kind, labels, help, values }) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${kind}`,
    ...values.map(([label, count]) => `${name}${labels[0] ? `{${labels[0]}="${label}"}` : ''} ${counts[count]}`),
  ])
  return `${lines.join('\n')}\n`
}
