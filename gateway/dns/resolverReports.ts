/** What /metrics and the log say of the resolver. Metrics are computed at scrape from the counters of the worker. */
import type { Logger } from '../../runtime/log.ts'
import type { ResolverEvent } from './resolverHost.ts'
import type { ResolverStat } from './resolverProtocol.ts'

export interface ResolverMetricRow {
  name: string
  kind: 'counter' | 'gauge'
  labels: readonly string[]
  help: string
  values: readonly { labels: Record<string, string>; stat: ResolverStat | 'restarts' }[]
}

const one = (stat: ResolverStat | 'restarts') => [{ labels: {}, stat }]
const by = (label: string, stats: readonly [string, ResolverStat][]) =>
  stats.map(([value, stat]) => ({ labels: { [label]: value }, stat }))

export const resolverMetricTable: readonly ResolverMetricRow[] = [
  {
    name: 'ipref_dns_queries_total',
    kind: 'counter',
    labels: [],
    help: 'questions to the resolver',
    values: one('queries'),
  },
  {
    name: 'ipref_dns_cache_hits_total',
    kind: 'counter',
    labels: [],
    help: 'questions answered from memory',
    values: one('cache_hits'),
  },
  {
    name: 'ipref_dns_responses_total',
    kind: 'counter',
    labels: ['rcode'],
    help: 'answers of the resolver, by response code',
    values: by('rcode', [
      ['NOERROR', 'rcode_noerror'],
      ['FORMERR', 'rcode_formerr'],
      ['SERVFAIL', 'rcode_servfail'],
      ['NXDOMAIN', 'rcode_nxdomain'],
      ['NOTIMP', 'rcode_notimp'],
      ['REFUSED', 'rcode_refused'],
      ['other', 'rcode_other'],
    ]),
  },
  {
    name: 'ipref_dns_questions_total',
    kind: 'counter',
    labels: ['way'],
    help: 'how questions that were not in memory were dealt with',
    values: by('way', [
      ['mapped', 'mapped'],
      ['forwarded', 'forwarded'],
      ['reverse', 'reverse'],
      ['joined', 'joined'],
      ['stale', 'stale'],
    ]),
  },
  {
    name: 'ipref_dns_refused_total',
    kind: 'counter',
    labels: ['reason'],
    help: 'questions that were not looked into, by reason',
    values: by('reason', [
      ['access', 'refused_access'],
      ['rate_limit', 'rate_limited'],
      ['malformed', 'malformed'],
      ['new_names', 'over_budget'],
      ['busy', 'busy'],
      ['denied_answer', 'denied_answers'],
    ]),
  },
  {
    name: 'ipref_dns_upstream_total',
    kind: 'counter',
    labels: ['event'],
    help: 'questions to upstream servers and forwarders; ignored: answers that did not fit what was asked',
    values: by('event', [
      ['asked', 'upstream_asked'],
      ['answered', 'upstream_answered'],
      ['ignored', 'upstream_ignored'],
      ['timeout', 'upstream_timeouts'],
      ['tcp', 'upstream_tcp'],
      ['failed', 'upstream_failed'],
    ]),
  },
  {
    name: 'ipref_dns_mapper_total',
    kind: 'counter',
    labels: ['event'],
    help: 'requests of the resolver to the mapper',
    values: by('event', [
      ['asked', 'mapper_asked'],
      ['ack', 'mapper_acks'],
      ['nack', 'mapper_nacks'],
      ['timeout', 'mapper_timeouts'],
      ['unavailable', 'mapper_unavailable'],
    ]),
  },
  {
    name: 'ipref_dns_calls_total',
    kind: 'counter',
    labels: ['call'],
    help: 'system calls of the resolver that moved messages',
    values: by('call', [
      ['receive', 'receive_calls'],
      ['send', 'send_calls'],
    ]),
  },
  {
    name: 'ipref_dns_worker_restarts_total',
    kind: 'counter',
    labels: [],
    help: 'times that the worker of the resolver was started again',
    values: one('restarts'),
  },
]

/** Text of the Prometheus exposition format. */
export function renderResolverMetrics(stat: (name: ResolverStat) => number, restarts: number): string {
  const lines: string[] = []
  for (const { name, kind, help, values } of resolverMetricTable) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`)
    for (const { labels, stat: which } of values) {
      const value = which === 'restarts' ? restarts : stat(which)
      const shown = Object.entries(labels).map(([key, value]) => `${key}="${value}"`)
      lines.push(`${name}${shown.length > 0 ? `{${shown.join(',')}}` : ''} ${value}`)
    }
  }
  return `${lines.join('\n')}\n`
}

export function logResolverEvent(log: Logger, event: ResolverEvent): void {
  const own = log.child({ component: 'resolver' })
  if (event.what === 'died') own.error({ error: String(event.error) }, 'the worker died; it is started again')
  else if (event.what === 'restarted') own.warn('the worker runs again')
  else if (event.what === 'mapper-up') own.info('connected to the mapper')
  else own.warn(`no mapper: ${event.why}; names with AA records get SERVFAIL until it is back`)
}
