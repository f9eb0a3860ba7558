/**
 * `ipref trace IPREFSERVICE`, put together: the store, the servers of the zones, and the gateway of this host where it is named. The steps are in serviceTrace.ts.
 *
 *   servers of a zone: -server; else readBack.servers; else those that the DNS names (public), and where the operator serves (settings of the platform)
 */
import { parseName } from '../dns/name.ts'
import { queryServer, type Server } from '../dns/query.ts'
import type { TraceReport } from '../gateway/controlReports.ts'
import type { Config } from '../resources/config.ts'
import { verdictOf } from '../runtime/steps.ts'
import type { Arguments } from './arguments.ts'
import { type ClusterSettings, openCluster } from './clusterStore.ts'
import { parseServer, serversOfZone, systemServers } from './lookUp.ts'
import { findService, gatherFacts } from './serviceFacts.ts'
import { traceService, type Zone } from './serviceTrace.ts'

const ANY = new Set(['0.0.0.0', '::'])

export interface TraceWanted {
  args: Arguments
  settings: ClusterSettings
  /** asks the gateway that is named what becomes of packets of an address */
  gateway: ((address: string) => Promise<TraceReport>) | undefined
}

/** Rejects with a sentence. */
export async function traceInCluster(subject: string, { args, settings, gateway }: TraceWanted): Promise<TraceReport> {
  const { server: given, problem } = givenServer(args)
  if (problem !== undefined) throw new Error(problem)
  const opened = await openCluster(args, settings)
  try {
    const object = await findService(opened.store, subject, settings.namespace)
    const facts = await gatherFacts(opened.store, object, settings.operatorNamespace)
    const report = await traceService(facts, {
      ask: queryServer,
      servers: zone => (given ? Promise.resolve([given]) : serversOf(zone, opened.settings)),
      isFolder: args.values.has('manifests'),
      now: Date.now(),
    })
    return gateway ? await withGateway(report, gateway) : report
  } finally {
    await opened.store.close()
  }
}

function givenServer(args: Arguments): { server?: Server; problem?: string } {
  const text = args.values.get('server')
  if (text === undefined) return {}
  const server = parseServer(text)
  return server ? { server } : { problem: `-server ${text}: no ADDRESS or ADDRESS:PORT` }
}

async function serversOf(zone: Zone, config: Config | undefined): Promise<readonly Server[]> {
  if (!config) return []
  const named = config.readBack.servers.flatMap(text => parseServer(text) ?? [])
  if (named.length > 0) return named
  const own = (config.publishers.zoneServer?.listen ?? [])
    .flatMap(text => parseServer(text) ?? [])
    .filter(({ host }) => !ANY.has(host))
  const name = zone === 'public' && config.publicZone !== undefined ? parseName(config.publicZone) : undefined
  if (!name) return own
  const found = await serversOfZone(name, systemServers()).catch(() => [])
  return found.length > 0 ? found : own
}

async function withGateway(report: TraceReport, ask: (address: string) => Promise<TraceReport>): Promise<TraceReport> {
  const found = await Promise.all(report.addresses.map(ask))
  const steps = [...report.steps, ...found.flatMap(one => one.steps)]
  const isRight = report.steps.every(step => step.ok)
  return { ...report, steps, verdict: verdictOf(steps, isRight ? report.verdict : '') }
}
