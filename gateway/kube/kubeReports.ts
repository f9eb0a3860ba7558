/** What /metrics says of a gateway's part in a cluster, computed at scrape. One table: docs/metrics.md is made from it. */
import type { UplinkCounts } from './uplink.ts'

export const kubeMetricTable = [
  {
    name: 'ipref_uplink_active',
    kind: 'gauge',
    labels: [],
    help: '1: this gateway is the active one of a single uplink',
    count: 'active',
  },
  {
    name: 'ipref_uplink_standby',
    kind: 'gauge',
    labels: [],
    help: '1: active, and a standby has all mappings; or such a standby',
    count: 'standby',
  },
  {
    name: 'ipref_uplink_alone_total',
    kind: 'counter',
    labels: [],
    help: 'encoded addresses given out while only the active gateway had them',
    count: 'alone',
  },
  {
    name: 'ipref_uplink_peers',
    kind: 'gauge',
    labels: [],
    help: 'remote gateways that this standby knows the port of, from the active gateway',
    count: 'peers',
  },
] as const

/** Text of the Prometheus exposition format. */
export function renderKubeMetrics(counts: UplinkCounts): string {
  const lines = kubeMetricTable.flatMap(({ name, kind, help, count }) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${kind}`,
    `${name} ${counts[count]}`,
  ])
  return `${lines.join('\n')}\n`
}
