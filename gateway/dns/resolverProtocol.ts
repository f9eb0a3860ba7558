/** What the resolver's worker and the main thread say to each other. */
import type { Name } from '../../dns/name.ts'
import type { Prefix } from '../../ipref/address.ts'
import type { NameTrace } from './nameTrace.ts'
import type { Routing } from './routes.ts'
import type { UpstreamServer } from './upstreams.ts'

export interface ResolverSetup {
  /** bound sockets to answer on */
  sockets: { family: 4 | 6; fd: number }[]
  wakeFd: number
  upstreams: UpstreamServer[]
  forwarders: UpstreamServer[]
  domains: Name[]
  excluded: Name[]
  encodedFamilies: (4 | 6)[]
  contextFamilies: (4 | 6)[]
  cacheSize: number
  serveStale: number
  denyAnswers: Prefix[]
  allow: Prefix[]
  rateLimit: number
  mapperSocket: string
  ownContexts: Uint8Array[]
  routing: Routing
  /** counters, see resolverStats */
  stats: SharedArrayBuffer
}

export type ToWorker =
  | { what: 'tcp-query'; id: number; address: Uint8Array; bytes: Uint8Array }
  | { what: 'tcp-answer'; id: number; bytes: Uint8Array | undefined }
  | { what: 'native'; id: number; address: Uint8Array | undefined }
  | { what: 'trace'; id: number; name: Name; optionPrefix: string }
  | { what: 'forget' }
  | { what: 'routing'; routing: Routing }
  | { what: 'stop' }

export type FromWorker =
  | { what: 'ready' }
  | { what: 'tcp-reply'; id: number; bytes: Uint8Array | undefined }
  | { what: 'ask-tcp'; id: number; server: UpstreamServer; bytes: Uint8Array }
  | { what: 'ask-native'; id: number; family: 4 | 6; reference: bigint }
  | { what: 'traced'; id: number; trace: NameTrace }
  | { what: 'mapper'; up: boolean; why: string }

/** One counter for each, in this order, as float64. */
export const resolverStats = [
  'queries',
  'cache_hits',
  'refused_access',
  'rate_limited',
  'malformed',
  'joined',
  'forwarded',
  'mapped',
  'reverse',
  'stale',
  'denied_answers',
  'over_budget',
  'busy',
  'upstream_asked',
  'upstream_answered',
  'upstream_ignored',
  'upstream_timeouts',
  'upstream_tcp',
  'upstream_failed',
  'mapper_asked',
  'mapper_acks',
  'mapper_nacks',
  'mapper_timeouts',
  'mapper_unavailable',
  'rcode_noerror',
  'rcode_formerr',
  'rcode_servfail',
  'rcode_nxdomain',
  'rcode_notimp',
  'rcode_refused',
  'rcode_other',
  'send_refused',
  'receive_calls',
  'send_calls',
] as const

export type ResolverStat = (typeof resolverStats)[number]
