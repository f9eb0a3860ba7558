/**
 * `ipref check` of one subject with the gateway of this host: who is meant, the steps of the trace, then what the gateway tries, then TCP.
 *
 *   web.example.com          the trace of the name ────────────────────────────┐
 *   10.240.17.4              the trace of the address ─────────────────────────┼─► addresses ─► path, ping, sizes ─► TCP
 *   AA gw.example.com + 11   context by name, encoded address from the mapper ─┘
 *   peer/GATEWAY             peer, port, sizes
 */
import { parseName } from '../dns/name.ts'
import type { CheckReport, EncodeReport, StatusReport, TraceReport } from '../gateway/controlReports.ts'
import { parseAaRecord } from '../ipref/aaRecord.ts'
import { formatAddress, parseAddress, parsePrefix, prefixContains } from '../ipref/address.ts'
import { formatReference } from '../ipref/reference.ts'
import { type Step, Steps } from '../runtime/steps.ts'
import type { Checked } from './checkReports.ts'
import { type Connected, sourceFor, stepOfConnection } from './tcpConnect.ts'

const PEER = 'peer/'
const NO_PINGS =
  'nothing, where it is meant so: the address of a Service answers no pings, nor does a host whose firewall drops them'

export interface CheckPorts {
  trace(subject: string): Promise<TraceReport>
  /** of the gateway; rejects with a sentence when nobody answers */
  ask(request: Record<string, unknown>): Promise<unknown>
  /** addresses of a name, by ordinary resolution; or why there are none */
  lookUp(name: string): Promise<readonly Uint8Array[] | string>
  connect(to: { address: string; port: number; from: string | undefined }): Promise<Connected>
}

export interface CheckWanted {
  tcp: readonly number[]
}

export type Meant = { peer: string } | { aa: string } | { subject: string }

/** `peer/…`, something with a plus, or what a trace understands. */
export function whoIsMeant(subject: string): Meant {
  if (subject.startsWith(PEER)) return { peer: subject.slice(PEER.length) }
  if (subject.includes('+')) return { aa: subject }
  return { subject }
}

/** Rejects with a sentence when there is nobody to ask. */
export async function checkSubject(subject: string, wanted: CheckWanted, ports: CheckPorts): Promise<Checked> {
  const meant = whoIsMeant(subject)
  if ('peer' in meant) return { subject, steps: await checkPeer(meant.peer, ports) }
  if ('aa' in meant) return { subject, steps: await checkAa(meant.aa, wanted, ports) }
  if (parseAddress(meant.subject) && (await isGateway(meant.subject, ports)))
    return { subject, steps: await checkPeer(meant.subject, ports) }
  const traced = await ports.trace(meant.subject)
  // neither a name nor an address: the verdict says so
  if (traced.steps.length === 0) return { subject, steps: [wrong('subject', traced.verdict)] }
  return { subject, steps: [...traced.steps, ...(await checkAddresses(traced, wanted, ports))] }
}

function wrong(what: string, detail: string, fix?: string): Step {
  return { what, ok: false, detail, ...(fix === undefined ? {} : { fix }) }
}

/** An address that stands for no remote host and is no host of ours is that of a gateway. */
async function isGateway(text: string, ports: CheckPorts): Promise<boolean> {
  const { peers, encodingNetworks, mappings, contexts } = (await ports.ask({ do: 'status' })) as StatusReport
  const address = parseAddress(text)!
  if (encodingNetworks.some(one => prefixContains(parsePrefix(one)!, address))) return false
  const shown = formatAddress(address)
  if ([...contexts, ...peers.map(peer => peer.address)].includes(shown)) return true
  return !mappings.rows.some(row => row.local === shown) && !mappings.truncated
}

// ---- hosts

async function checkAddresses(traced: TraceReport, wanted: CheckWanted, ports: CheckPorts): Promise<Step[]> {
  const { addresses } = traced
  if (addresses.length === 0) return []
  const report = await ports.ask({ do: 'check', addresses }).catch((error: Error) => error)
  if (report instanceof Error)
    return [
      { what: 'gateway', ok: true, warns: true, detail: `not asked: ${report.message}`, fix: 'check from a gateway' },
    ]
  const { steps, hosts, sources } = report as CheckReport
  // behind a gateway that is silent each port would be silent too
  if (traced.steps.some(isSilence)) return [...steps, ...hosts.flatMap(host => host.steps)]
  const tried: Step[] = []
  for (const host of hosts) tried.push(...judgeHost(host.steps, await checkPorts(host.address, sources, wanted, ports)))
  return [...steps, ...tried]
}

/** One that answers no pings, and accepts connections, is there: so do addresses of Services. */
function judgeHost(pings: readonly Step[], connections: readonly Step[]): Step[] {
  const isThere = connections.some(({ ok, warns }) => ok && !warns)
  const judged = pings.map(step => (isThere && !step.ok && step.what === 'ping' ? excused(step) : step))
  return [...judged, ...connections]
}

function excused({ what, detail }: Step): Step {
  return { what, ok: true, warns: true, detail: `${detail}; it accepts connections, though`, fix: NO_PINGS }
}

function isSilence({ what, ok }: Step): boolean {
  return !ok && what === 'answer'
}

async function checkPorts(
  address: string,
  sources: readonly string[],
  { tcp }: CheckWanted,
  ports: CheckPorts,
): Promise<Step[]> {
  const from = sourceFor(address, sources)
  const detail = `${address}: not tried: no address of this host may send (-local-net)`
  const fix = 'try it from a host that may'
  if (from === undefined) return tcp.map(port => ({ what: `TCP ${port}`, ok: true, warns: true, detail, fix }))
  const steps: Step[] = []
  for (const port of tcp) steps.push(stepOfConnection({ address, port }, await ports.connect({ address, port, from })))
  return steps
}

// ---- AA records

async function checkAa(text: string, wanted: CheckWanted, ports: CheckPorts): Promise<Step[]> {
  const record = parseAaRecord(text.startsWith('AA ') ? text : `AA ${text}`)
  if (record === undefined || typeof record === 'string')
    return [
      wrong('AA record', `${text} is none`, 'write ADDRESS-OR-NAME + REFERENCE, such as "AA gw.example.com + 11"'),
    ]
  const steps = new Steps()
  steps.right('AA record', `"${text}"`)
  const contexts = 'context' in record ? [record.context] : await contextsOf(record.name, steps, ports)
  const addresses: string[] = []
  for (const context of contexts) {
    const asked = { do: 'encode', context: formatAddress(context), reference: formatReference(record.reference) }
    const report = (await ports.ask(asked)) as EncodeReport
    const shown = `${asked.context} + ${asked.reference}`
    if ('refused' in report) steps.wrong('mapper', `${shown}: ${report.refused}`, { fix: 'look at ipref status' })
    else {
      steps.right(
        'mapper',
        `${report.addresses.join(' ')} ${report.addresses.length > 1 ? 'stand' : 'stands'} for ${shown}`,
      )
      addresses.push(...report.addresses)
    }
  }
  const traces = await Promise.all(addresses.map(address => ports.trace(address)))
  steps.all.push(...traces.flatMap(one => one.steps))
  const traced: TraceReport = { steps: steps.all, addresses, verdict: '' }
  return [...steps.all, ...(await checkAddresses(traced, wanted, ports))]
}

async function contextsOf(name: string, steps: Steps, ports: CheckPorts): Promise<readonly Uint8Array[]> {
  const begun = performance.now()
  const found = await ports.lookUp(name)
  if (typeof found === 'string') {
    steps.wrong('context', `${name}: ${found}`, {
      fix: 'give it an address in its zone, or name the address of the gateway',
      since: begun,
    })
    return []
  }
  steps.right('context', `${name} is ${found.map(formatAddress).join(', ')}`, begun)
  return found
}

// ---- peers

async function checkPeer(text: string, ports: CheckPorts): Promise<Step[]> {
  const address = parseAddress(text)
  const steps = new Steps()
  if (!address && !parseName(text)) return [wrong('peer', `${text} is neither address nor name`)]
  const contexts = address ? [address] : await contextsOf(text, steps, ports)
  for (const context of contexts) {
    const report = (await ports.ask({ do: 'check', peer: formatAddress(context) })) as CheckReport
    steps.all.push(...report.steps)
  }
  return steps.all
}
