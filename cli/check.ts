/**
 * `ipref check`: the connection test, of this node, of names and of peers; for people and for CI.
 *
 *   ipref check                      the node and its gateway
 *   ipref check web.example.com      from the question to the host (checkSubject.ts)
 *   kubectl ipref check …            conditions of objects, then the same in a gateway's pod (clusterCheck.ts)
 */
import { writeFileSync } from 'node:fs'
import { parseName } from '../dns/name.ts'
import type { CheckReport } from '../gateway/controlReports.ts'
import { askControl } from '../runtime/controlSocket.ts'
import type { Step } from '../runtime/steps.ts'
import {
  type Arguments,
  asksForHelp,
  DEFAULT_CONTROL_SOCKET,
  DEFAULT_RESOLVER_SOCKET,
  fail,
  parseCommand,
  say,
} from './arguments.ts'
import { type Checked, exitCodeOf, NOT_CHECKED, renderChecked, renderJunit } from './checkReports.ts'
import { type CheckPorts, checkSubject } from './checkSubject.ts'
import { CLUSTER_USAGE, clusterFlags, clusterSettings } from './clusterStore.ts'
import { lookUp, systemServers } from './lookUp.ts'
import { connectTo, parsePorts } from './tcpConnect.ts'
import { askSocket, trace } from './trace.ts'

export const USAGE = `usage: ipref check [NAME|ADDRESS|AA|peer/GATEWAY]… [-tcp PORT,…] [-junit FILE] [-json]
                   [-control-socket PATH] [-resolver-socket PATH]
       ipref check [SUBJECT]… -kube|-kubeconfig FILE|-manifests FOLDER [-n NAMESPACE] [the same]

  ipref check                             this node: forwarding, filters, device, ports, NAT, peers
  ipref check web.example.com -tcp 80     DNS, mapping, gateway, ping, sizes of packets, TCP ports
  ipref check 10.240.17.4                 the same from an encoded address
  ipref check 'AA gw.example.com + 11'    from an AA record, or 198.51.100.2 + 11
  ipref check peer/gw.example.com         a gateway: its port as seen through NAT, sizes of packets

One line for each thing: ok, warn or FAIL, what, and what was measured; then the first that is wrong, and
what to do. Run it where the gateway runs (${DEFAULT_CONTROL_SOCKET}). It sends some hundred packets.

  -tcp PORT,…     connect to these ports of each host
  -junit FILE     JUnit XML too, for CI
  -json           JSON in place of text

Exit code 0: all is well, or no more than warnings; 1: something is wrong; 2: it could not be checked.

Of a cluster, an IprefService or IprefPeer may be named too: what their conditions say comes first; then the
same is run in the pod of a gateway, by kubectl exec. Without a subject: all objects, and each gateway's node.
${CLUSTER_USAGE}`

/** Echo requests of many sizes, and those that are lost are waited for. */
const PATIENCE_MS = 300_000

/** Of a host on which no gateway answers: it may be for want of what the host has. */
export type CheckHost = (missing: string) => Promise<Step[]>

export async function runCheck(argv: readonly string[], checkHost: CheckHost): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const args = parseCommand(argv, {
    text: ['control-socket', 'resolver-socket', 'tcp', 'junit', ...clusterFlags.text],
    switches: ['json', ...clusterFlags.switches],
    short: clusterFlags.short,
  })
  if (typeof args === 'string') return fail('check', args, NOT_CHECKED)
  const tcp = args.values.has('tcp') ? parsePorts(args.values.get('tcp')!) : []
  if (!tcp) return fail('check', `-tcp ${args.values.get('tcp')}: no list of ports, such as 80,443`, NOT_CHECKED)
  const settings = clusterSettings(args)
  if (settings && 'problem' in settings) return fail('check', settings.problem, NOT_CHECKED)
  try {
    const here = { args, tcp, checkHost }
    const checked = settings
      ? await (await import('./clusterCheck.ts')).checkCluster({ args, settings, tcp, local: () => checkHere(here) })
      : await checkHere(here)
    const junit = args.values.get('junit')
    if (junit !== undefined) writeFileSync(junit, renderJunit(checked))
    const text = args.switches.has('json') ? JSON.stringify(checked, null, 2) : renderChecked(checked)
    return say(text, exitCodeOf(checked))
  } catch (error) {
    return fail('check', (error as Error).message, NOT_CHECKED)
  }
}

interface Here {
  args: Arguments
  tcp: readonly number[]
  checkHost: CheckHost
}

async function checkHere({ args, tcp, checkHost }: Here): Promise<Checked[]> {
  const sockets = {
    gateway: args.values.get('control-socket') ?? DEFAULT_CONTROL_SOCKET,
    resolver: args.values.get('resolver-socket') ?? DEFAULT_RESOLVER_SOCKET,
  }
  if (args.rest.length === 0) return [await checkThisNode(sockets.gateway, checkHost)]
  const ports: CheckPorts = {
    trace: subject => trace(subject, sockets, askSocket),
    ask: request => askControl(sockets.gateway, request, PATIENCE_MS),
    lookUp: addressesOf,
    connect: connectTo,
  }
  const checked: Checked[] = []
  for (const subject of args.rest) checked.push(await checkSubject(subject, { tcp }, ports))
  return checked
}

async function checkThisNode(socket: string, checkHost: CheckHost): Promise<Checked> {
  const report = await askControl(socket, { do: 'check' }, PATIENCE_MS).catch((error: Error) => error)
  const steps = report instanceof Error ? await checkHost(report.message) : (report as CheckReport).steps
  return { subject: 'this node', steps }
}

async function addressesOf(text: string): Promise<readonly Uint8Array[] | string> {
  const name = parseName(text)
  if (!name) return 'no name'
  const found = await lookUp(name, systemServers())
  if ('failed' in found) return found.failed
  return found.addresses.length > 0 ? found.addresses : (found.missing ?? 'has no address')
}
