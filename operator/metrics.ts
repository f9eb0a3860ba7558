/**
 * Metrics of the operator, computed at scrape where they exist anyway. `operatorMetricTable` is the one list: docs/metrics.md is generated from it.
 * Labels never carry names of objects.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { OutputState } from './publish/output.ts'

export interface OperatorGauges {
  queues(): Readonly<Record<string, number>>
  /** `verb kind code` → count */
  requests(): ReadonlyMap<string, number>
  services(): Readonly<Record<'ready' | 'waiting' | 'failed', number>>
  gateways(): { alive: number; all: number }
  references(): number
  outputs(): readonly OutputState[]
  records(): Readonly<Record<string, number>>
  pendingRecords(): number
  isLeader(): boolean
  /** kinds whose view may be behind */
  troubles(): number
  settingsProblems(): number
}

type Name = keyof typeof rows

const rows = {
  ipref_operator_reconciles_total: row(
    'counter',
    'objects brought in order, by result: done, conflict, failed',
    'controller',
    'result',
  ),
  ipref_operator_reconcile_seconds: row('histogram', 'time that one took', 'controller'),
  ipref_operator_last_success_timestamp_seconds: row('gauge', 'when an object was brought in order last', 'controller'),
  ipref_operator_queue_length: row('gauge', 'objects that wait', 'controller'),
  ipref_operator_services: row('gauge', 'IprefServices: ready, waiting, failed', 'state'),
  ipref_operator_references: row('gauge', 'references that are claimed'),
  ipref_operator_gateways: row('gauge', 'gateways'),
  ipref_operator_gateways_alive: row('gauge', 'gateways that renew their Lease'),
  ipref_operator_records: row('gauge', 'record sets to publish', 'zone'),
  ipref_operator_records_pending: row('gauge', 'record sets that are not known to be where they should be'),
  ipref_operator_output_up: row('gauge', '1: the output has all that it should', 'output'),
  ipref_operator_output_last_success_timestamp_seconds: row('gauge', 'when the output had all last', 'output'),
  ipref_operator_leader: row('gauge', '1 while this operator acts'),
  ipref_operator_watches_behind: row('gauge', 'kinds whose view may be behind'),
  ipref_operator_settings_problems: row('gauge', 'mistakes in the settings; those in force stay'),
  ipref_operator_api_requests_total: row('counter', 'requests to the API server', 'verb', 'kind', 'code'),
} as const

function row(kind: 'counter' | 'gauge' | 'histogram', help: string, ...labels: string[]) {
  return { kind, help, labels }
}

export const operatorMetricTable = Object.entries(rows).map(([name, one]) => ({ name, ...one }))

export class OperatorMetrics {
  readonly #registry = new Registry()
  readonly #reconciles: Counter
  readonly #seconds: Histogram
  readonly #lastSuccess: Gauge

  constructor(gauges: OperatorGauges) {
    this.#reconciles = new Counter(this.#of('ipref_operator_reconciles_total'))
    this.#seconds = new Histogram({
      ...this.#of('ipref_operator_reconcile_seconds'),
      buckets: [0.001, 0.01, 0.05, 0.2, 1, 5, 30],
    })
    this.#lastSuccess = new Gauge(this.#of('ipref_operator_last_success_timestamp_seconds'))
    this.#gauge('ipref_operator_references', gauges.references)
    this.#gauge('ipref_operator_gateways', () => gauges.gateways().all)
    this.#gauge('ipref_operator_gateways_alive', () => gauges.gateways().alive)
    this.#gauge('ipref_operator_records_pending', gauges.pendingRecords)
    this.#gauge('ipref_operator_leader', () => Number(gauges.isLeader()))
    this.#gauge('ipref_operator_watches_behind', gauges.troubles)
    this.#gauge('ipref_operator_settings_problems', gauges.settingsProblems)
    this.#labelled('ipref_operator_queue_length', gauges.queues)
    this.#labelled('ipref_operator_services', gauges.services)
    this.#labelled('ipref_operator_records', gauges.records)
    const ofOutputs = (read: (state: OutputState) => number) => () =>
      Object.fromEntries(gauges.outputs().map(state => [state.name, read(state)]))
    this.#labelled(
      'ipref_operator_output_up',
      ofOutputs(state => Number(state.problem === undefined)),
    )
    this.#labelled(
      'ipref_operator_output_last_success_timestamp_seconds',
      ofOutputs(state => Math.floor((state.lastSuccessMs ?? 0) / 1000)),
    )
    this.#requests(gauges.requests)
  }

  #of(name: Name) {
    const { help, labels } = rows[name]
    return { name, help, labelNames: labels, registers: [this.#registry] }
  }

  #gauge(name: Name, read: () => number): void {
    new Gauge({
      ...this.#of(name),
      collect() {
        this.set(read())
      },
    })
  }

  #labelled(name: Name, read: () => Readonly<Record<string, number>>): void {
    const [label] = rows[name].labels
    new Gauge({
      ...this.#of(name),
      collect() {
        this.reset()
        for (const [value, count] of Object.entries(read())) this.set({ [label!]: value }, count)
      },
    })
  }

  #requests(read: () => ReadonlyMap<string, number>): void {
    new Counter({
      ...this.#of('ipref_operator_api_requests_total'),
      collect() {
        this.reset()
        for (const [what, count] of read()) {
          const [verb = '', kind = '', code = ''] = what.split(' ')
          this.inc({ verb, kind, code }, count)
        }
      },
    })
  }

  reconciled(controller: string, result: 'done' | 'conflict' | 'failed', ms: number, now: number): void {
    this.#reconciles.inc({ controller, result })
    this.#seconds.observe({ controller }, ms / 1000)
    if (result === 'done') this.#lastSuccess.set({ controller }, Math.floor(now / 1000))
  }

  render(): Promise<string> {
    return this.#registry.metrics()
  }
}
