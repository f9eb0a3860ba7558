/**
 * `ipref trace NAME-or-ADDRESS`: what becomes of a question for a name, and of a packet to an address, step by step, and the first thing that is wrong. Of an
 * IprefService: clusterTrace.ts.
 *
 *   gateway with a resolver ─────────────────────────► all steps
 *   gateway without, or none ──► `ipref resolver` ──► the steps of the name ──► gateway ──► those of its addresses
 */
import type { TraceReport } from '../gateway/controlReports.ts'
import { parseAddress } from '../ipref/address.ts'
import { askControl } from '../runtime/controlSocket.ts'
import { verdictOf } from '../runtime/steps.ts'
import {
  type Arguments,
  asksForHelp,
  DEFAULT_CONTROL_SOCKET,
  DEFAULT_RESOLVER_SOCKET,
  fail,
  parseCommand,
  say,
} from './arguments.ts'
import { CLUSTER_USAGE, type ClusterSettings, clusterFlags, clusterSettings } from './clusterStore.ts'
import { exitCodeOfSteps, stepLines } from './stepLines.ts'

export const USAGE = `usage: ipref trace NAME|ADDRESS [-json] [-control-socket PATH] [-resolver-socket PATH]
       ipref trace IPREFSERVICE -kube|-kubeconfig FILE|-manifests FOLDER [-n NAMESPACE] [-server ADDRESS[:PORT]] [-json]

  ipref trace web.example.com   from the question to the encoded address, and on to the peer
  ipref trace 10.240.17.4       from an encoded address, or that of a host here
  ipref trace shop/web -kube    from an IprefService to its target, its references, the gateways, and its records in the DNS;
                                also as web -n shop, iprefservice/web, or by a name that it has

Asks the gateway of this host (${DEFAULT_CONTROL_SOCKET}); for names, where that runs no
resolver, \`ipref resolver\` (${DEFAULT_RESOLVER_SOCKET}). Asks servers and mapper afresh, as a
host's question would, and sends the peer an echo request. Exit code 1: something is wrong.

Of an IprefService, the objects are read, and the records asked for at the servers of the zones, or at -server;
with -control-socket, that gateway is asked too.
${CLUSTER_USAGE}`

const PATIENCE_MS = 60_000

export interface Sockets {
  gateway: string
  resolver: string
}

export type Ask = (path: string, request: Record<string, unknown>) => Promise<TraceReport>

export async function runTrace(argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const args = parseCommand(argv, {
    text: ['control-socket', 'resolver-socket', 'server', ...clusterFlags.text],
    switches: ['json', ...clusterFlags.switches],
    short: clusterFlags.short,
  })
  if (typeof args === 'string') return fail('trace', args, 2)
  const [subject] = args.rest
  if (!subject || args.rest.length !== 1) return fail('trace', USAGE, 2)
  const settings = clusterSettings(args)
  if (settings && 'problem' in settings) return fail('trace', settings.problem, 2)
  const sockets = {
    gateway: args.values.get('control-socket') ?? DEFAULT_CONTROL_SOCKET,
    resolver: args.values.get('resolver-socket') ?? DEFAULT_RESOLVER_SOCKET,
  }
  try {
    const report = settings ? await traceObject(subject, args, settings) : await trace(subject, sockets, askSocket)
    return say(args.switches.has('json') ? JSON.stringify(report, null, 2) : renderTrace(report), exitCodeOf(report))
  } catch (error) {
    return fail('trace', (error as Error).message)
  }
}

async function traceObject(subject: string, args: Arguments, settings: ClusterSettings): Promise<TraceReport> {
  const { traceInCluster } = await import('./clusterTrace.ts')
  const socket = args.values.get('control-socket')
  const gateway = socket === undefined ? undefined : (address: string) => askSocket(socket, { do: 'trace', address })
  return traceInCluster(subject, { args, settings, gateway })
}

export function askSocket(path: string, request: Record<string, unknown>): Promise<TraceReport> {
  return askControl(path, request, PATIENCE_MS) as Promise<TraceReport>
}

/** Rejects with a sentence when neither gateway nor resolver can be asked. */
export async function trace(subject: string, sockets: Sockets, ask: Ask): Promise<TraceReport> {
  if (parseAddress(subject)) return ask(sockets.gateway, { do: 'trace', address: subject })
  const question = { do: 'trace', name: subject }
  const byGateway = await ask(sockets.gateway, question).catch((error: Error) => error)
  if (!(byGateway instanceof Error) && !byGateway.lacksResolver) return byGateway
  const byResolver = await ask(sockets.resolver, question).catch((error: Error) => error)
  // with neither, what the gateway says is of more use
  if (byResolver instanceof Error) {
    if (byGateway instanceof Error) throw byGateway
    return byGateway
  }
  return withPackets(byResolver, byGateway, address => ask(sockets.gateway, { do: 'trace', address }))
}

async function withPackets(
  named: TraceReport,
  gateway: TraceReport | Error,
  ask: (address: string) => Promise<TraceReport>,
): Promise<TraceReport> {
  if (gateway instanceof Error) {
    const detail = `not asked, so nothing is said of packets: ${gateway.message}`
    return { ...named, steps: [...named.steps, { what: 'gateway', ok: true, detail }] }
  }
  const packets = await Promise.all(named.addresses.map(ask))
  const steps = [...named.steps, ...packets.flatMap(one => one.steps)]
  // the verdict of a trace in which something is wrong begins with what is right about it, if anything
  const right = packets.filter(one => one.steps.every(step => step.ok)).map(one => one.verdict)
  return { ...named, steps, verdict: verdictOf(steps, right.join('\n')) }
}

export function exitCodeOf({ steps }: TraceReport): number {
  return exitCodeOfSteps(steps)
}

export function renderTrace(report: TraceReport): string {
  return [...stepLines(report.steps), report.verdict].filter(line => line !== '').join('\n')
}
