/**
 * What /metrics says. Everything is computed at scrape from counters that exist anyway; nothing is added to the path of packets.
 * `metricTable` is the one list: docs/metrics.md is generated from it.
 */
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { Counter, Gauge, Registry } from 'prom-client'
import { Fault, faultDescriptions, faultNames } from '../ipref/faults.ts'
import { publishMetricTable } from './dns/publishReports.ts'
import { resolverMetricTable } from './dns/resolverReports.ts'
import { kubeMetricTable } from './kube/kubeReports.ts'
import type { WorkerRole } from './plane/protocol.ts'
import { type HistogramName, histogramBounds, type WorkerStats } from './plane/stats.ts'

export interface MetricsSources {
  stats(role: WorkerRole): WorkerStats | undefined
  restarts(role: WorkerRole): number
  /** packets that waited for a mapping and got none, by fault number */
  missesDropped: Record<WorkerRole, Float64Array>
  offloads(): Record<string, boolean>
  mappings(): Record<string, number>
  mappingCapacity: number
  mapperCounts(): Record<string, number>
  peers(): { verified: number; all: number; evicted: number }
  socket(): { requests: number; acks: number; nacks: number; ignored: Record<string, number> }
  store(): { commits: number; rowsWritten: number; failing: boolean }
  problems(): number
  hostFilterDrops(): Promise<number>
}

export interface MetricRow {
  name: string
  kind: 'counter' | 'gauge' | 'histogram'
  labels: readonly string[]
  help: string
}

export const metricTable: readonly MetricRow[] = [
  {
    name: 'ipref_packets_received_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'packets taken from the TUN device (encap) or the tunnel (decap)',
  },
  { name: 'ipref_bytes_received_total', kind: 'counter', labels: ['direction'], help: 'bytes of them' },
  {
    name: 'ipref_packets_sent_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'packets put into the tunnel (encap) or the TUN device (decap)',
  },
  { name: 'ipref_bytes_sent_total', kind: 'counter', labels: ['direction'], help: 'bytes of them' },
  {
    name: 'ipref_packets_forwarded_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'received packets that were forwarded',
  },
  {
    name: 'ipref_packets_refused_total',
    kind: 'counter',
    labels: ['direction', 'reason'],
    help: 'received packets that were dropped, by reason',
  },
  {
    name: 'ipref_packets_answered_total',
    kind: 'counter',
    labels: ['direction', 'reason'],
    help: 'received packets that were refused with an ICMP error',
  },
  {
    name: 'ipref_packets_waiting',
    kind: 'gauge',
    labels: ['direction'],
    help: 'packets that wait for a mapping',
  },
  {
    name: 'ipref_packets_turned_around_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'packets from our own network to itself',
  },
  { name: 'ipref_wakeups_total', kind: 'counter', labels: ['direction'], help: 'returns of ppoll' },
  { name: 'ipref_receive_calls_total', kind: 'counter', labels: ['direction'], help: 'system calls that received' },
  { name: 'ipref_send_calls_total', kind: 'counter', labels: ['direction'], help: 'system calls that sent' },
  {
    name: 'ipref_offload_fallbacks_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'batches written again without an offload that the kernel refused',
  },
  {
    name: 'ipref_send_retries_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'sends repeated after a full queue or a queued error',
  },
  { name: 'ipref_receive_bytes', kind: 'histogram', labels: ['direction'], help: 'bytes received by one call' },
  { name: 'ipref_receive_segments', kind: 'histogram', labels: ['direction'], help: 'packets in one received buffer' },
  { name: 'ipref_send_segments', kind: 'histogram', labels: ['direction'], help: 'packets in one message sent' },
  { name: 'ipref_send_bytes', kind: 'histogram', labels: ['direction'], help: 'bytes of one message sent' },
  { name: 'ipref_batch_packets', kind: 'histogram', labels: ['direction'], help: 'packets handled for one wake-up' },
  {
    name: 'ipref_worker_restarts_total',
    kind: 'counter',
    labels: ['direction'],
    help: 'times that a packet worker was started again',
  },
  { name: 'ipref_offload', kind: 'gauge', labels: ['offload'], help: '1: in use' },
  { name: 'ipref_mapper_records', kind: 'gauge', labels: ['owner'], help: 'mappings by owner' },
  {
    name: 'ipref_mapper_capacity',
    kind: 'gauge',
    labels: [],
    help: 'mappings of each relation that there is room for',
  },
  {
    name: 'ipref_mapper_events_total',
    kind: 'counter',
    labels: ['event'],
    help: 'allocations, expiries, promotions and refusals of dynamic mappings',
  },
  { name: 'ipref_mapper_problems', kind: 'gauge', labels: [], help: 'assertions that are not in force' },
  { name: 'ipref_peers', kind: 'gauge', labels: ['state'], help: 'remote gateways tracked' },
  {
    name: 'ipref_peers_evicted_total',
    kind: 'counter',
    labels: [],
    help: 'remote gateways forgotten for want of room',
  },
  {
    name: 'ipref_mapper_socket_requests_total',
    kind: 'counter',
    labels: ['outcome'],
    help: 'messages of the mapper socket',
  },
  { name: 'ipref_store_commits_total', kind: 'counter', labels: [], help: 'transactions of the mapping store' },
  { name: 'ipref_store_rows_total', kind: 'counter', labels: [], help: 'rows written by them' },
  { name: 'ipref_store_failing', kind: 'gauge', labels: [], help: '1: the mapping store cannot be written' },
  {
    name: 'ipref_host_filter_dropped_total',
    kind: 'counter',
    labels: [],
    help: 'packets to hosts that nobody published',
  },
  {
    name: 'ipref_event_loop_delay_seconds',
    kind: 'gauge',
    labels: ['quantile'],
    help: 'delay of the main thread since the last scrape',
  },
  {
    name: 'ipref_gc_seconds_total',
    kind: 'counter',
    labels: [],
    help: 'time the main thread spent collecting garbage',
  },
]

const histograms: Readonly<Record<string, HistogramName>> = {
  ipref_receive_bytes: 'receiveBytes',
  ipref_receive_segments: 'receiveSegments',
  ipref_send_segments: 'sendSegments',
  ipref_send_bytes: 'sendBytes',
  ipref_batch_packets: 'batchPackets',
}
const directions = ['encap', 'decap'] as const
const ofStats = {
  ipref_packets_received_total: 'packetsIn',
  ipref_bytes_received_total: 'bytesIn',
  ipref_packets_sent_total: 'packetsOut',
  ipref_bytes_sent_total: 'bytesOut',
  ipref_packets_forwarded_total: 'forwarded',
  ipref_packets_turned_around_total: 'turnedAround',
  ipref_wakeups_total: 'wakeups',
  ipref_receive_calls_total: 'receiveCalls',
  ipref_send_calls_total: 'sendCalls',
  ipref_offload_fallbacks_total: 'offloadFallbacks',
  ipref_send_retries_total: 'retries',
} as const

export class Metrics {
  readonly #registry = new Registry()
  readonly #sources: MetricsSources
  readonly #metrics = new Map<string, Counter | Gauge>()
  readonly #delay = monitorEventLoopDelay({ resolution: 20 })
  readonly #observer: PerformanceObserver
  #gcSeconds = 0

  constructor(sources: MetricsSources) {
    this.#sources = sources
    for (const { name, kind, labels, help } of metricTable) {
      if (kind === 'histogram') continue
      const settings = { name, help, labelNames: [...labels], registers: [this.#registry] }
      this.#metrics.set(name, kind === 'counter' ? new Counter(settings) : new Gauge(settings))
    }
    this.#delay.enable()
    this.#observer = new PerformanceObserver(list => {
      for (const entry of list.getEntries()) this.#gcSeconds += entry.duration / 1000
    })
    this.#observer.observe({ entryTypes: ['gc'] })
  }

  stop(): void {
    this.#delay.disable()
    this.#observer.disconnect()
  }

  async render(): Promise<string> {
    for (const metric of this.#metrics.values()) metric.reset()
    for (const role of directions) this.#direction(role)
    this.#rest()
    this.#set('ipref_host_filter_dropped_total', await this.#sources.hostFilterDrops())
    return `${await this.#registry.metrics()}\n${this.#renderHistograms()}`
  }

  #set(name: string, value: number, labels: Record<string, string> = {}): void {
    const metric = this.#metrics.get(name)!
    if (metric instanceof Counter) metric.inc(labels, value)
    else metric.set(labels, value)
  }

  #direction(direction: WorkerRole): void {
    const stats = this.#sources.stats(direction)
    if (!stats) return
    for (const [name, stat] of Object.entries(ofStats)) this.#set(name, stats.get(stat), { direction })
    this.#set('ipref_worker_restarts_total', this.#sources.restarts(direction), { direction })
    const refusedLate = this.#sources.missesDropped[direction].reduce((sum, count) => sum + count, 0)
    this.#set('ipref_packets_waiting', stats.get('missed') - refusedLate, { direction })
    for (const reason of faultNames) {
      const fault = Fault[reason]
      if (fault === Fault.none) continue
      const dropped = stats.droppedBy(fault) + this.#sources.missesDropped[direction][fault]!
      this.#set('ipref_packets_refused_total', dropped, { direction, reason })
      if (stats.answeredBy(fault) > 0)
        this.#set('ipref_packets_answered_total', stats.answeredBy(fault), { direction, reason })
    }
  }

  #rest(): void {
    const s = this.#sources
    for (const [offload, on] of Object.entries(s.offloads())) this.#set('ipref_offload', on ? 1 : 0, { offload })
    for (const [owner, count] of Object.entries(s.mappings()))
      this.#set('ipref_mapper_records', count, { owner: owner.startsWith('dns:') ? 'dns' : owner })
    this.#set('ipref_mapper_capacity', s.mappingCapacity)
    for (const [event, count] of Object.entries(s.mapperCounts()))
      this.#set('ipref_mapper_events_total', count, { event })
    this.#set('ipref_mapper_problems', s.problems())
    const peers = s.peers()
    this.#set('ipref_peers', peers.verified, { state: 'verified' })
    this.#set('ipref_peers', peers.all - peers.verified, { state: 'unverified' })
    this.#set('ipref_peers_evicted_total', peers.evicted)
    const socket = s.socket()
    this.#set('ipref_mapper_socket_requests_total', socket.acks, { outcome: 'ack' })
    this.#set('ipref_mapper_socket_requests_total', socket.nacks, { outcome: 'nack' })
    for (const [fault, count] of Object.entries(socket.ignored))
      this.#set('ipref_mapper_socket_requests_total', count, { outcome: `ignored_${fault}` })
    const store = s.store()
    this.#set('ipref_store_commits_total', store.commits)
    this.#set('ipref_store_rows_total', store.rowsWritten)
    this.#set('ipref_store_failing', store.failing ? 1 : 0)
    for (const [quantile, p] of [
      ['0.5', 50],
      ['0.99', 99],
      ['1', 100],
    ] as const) {
      this.#set('ipref_event_loop_delay_seconds', this.#delay.percentile(p) / 1e9, { quantile })
    }
    this.#delay.reset()
    this.#set('ipref_gc_seconds_total', this.#gcSeconds)
  }

  // prom-client cannot be handed finished buckets
  #renderHistograms(): string {
    const lines: string[] = []
    for (const [name, histogram] of Object.entries(histograms)) {
      lines.push(`# HELP ${name} ${metricTable.find(row => row.name === name)!.help}`, `# TYPE ${name} histogram`)
      for (const direction of directions) {
        const stats = this.#sources.stats(direction)
        if (!stats) continue
        const { counts, sum, count } = stats.histogram(histogram)
        let below = 0
        for (const [i, bound] of histogramBounds[histogram].entries()) {
          below += counts[i]!
          lines.push(`${name}_bucket{direction="${direction}",le="${bound}"} ${below}`)
        }
        lines.push(`${name}_bucket{direction="${direction}",le="+Inf"} ${count}`)
        lines.push(`${name}_sum{direction="${direction}"} ${sum}`, `${name}_count{direction="${direction}"} ${count}`)
      }
    }
    return `${lines.join('\n')}\n`
  }
}

/** docs/metrics.md */
export function renderMetricsPage(): string {
  const rows = [...metricTable, ...resolverMetricTable, ...publishMetricTable, ...kubeMetricTable].map(
    row => `| \`${row.name}\` | ${row.kind} | ${row.labels.map(l => `\`${l}\``).join(', ')} | ${row.help} |`,
  )
  const reasons = faultNames.filter(name => name !== 'none').map(name => `| \`${name}\` | ${faultDescriptions[name]} |`)
  return [
    '# Metrics',
    '',
    'Generated by `npm run docs`. `direction` is `encap` (local side to tunnel) or `decap` (tunnel to local side).',
    '',
    '| name | kind | labels | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
    '## Reasons of refusal',
    '',
    'Every packet that is not forwarded is counted under one of these, as `reason` of `ipref_packets_refused_total` or `ipref_packets_answered_total`.',
    '',
    '| reason | meaning |',
    '| --- | --- |',
    ...reasons,
    '',
  ].join('\n')
}
