/**
 * `ipref trace IPREFSERVICE`: from the object to what others reach by it, step by step, and the first thing that is wrong.
 *
 *   object ─ operator ─ accepted ─ target ─ pods ─ references ─ each gateway ─ internal name ─ public name
 *
 * Conditions say what the operator found out; beside them, what can be looked at is looked at afresh: pods, claims, reports of gateways, and the records at
 * servers of the zones. Decides nothing and writes nothing.
 */
import { formatRcode, Rcode, Type } from '../dns/constants.ts'
import { type Message, rcodeOf, stringsOf } from '../dns/message.ts'
import { lowerName, type Name, parseName } from '../dns/name.ts'
import type { Server } from '../dns/query.ts'
import type { TraceReport } from '../gateway/controlReports.ts'
import { formatAddress } from '../ipref/address.ts'
import type { Condition, EndpointSlice, IprefGateway, IprefService, Lease, ServiceMapping } from '../resources/kinds.ts'
import { isReadyPod } from '../resources/pods.ts'
import { fixOf } from '../resources/reasons.ts'
import { compareVersions, versionOfMappings } from '../resources/view.ts'
import { Steps, verdictOf } from '../runtime/steps.ts'
import { showServer } from './lookUp.ts'
import type { ServiceFacts } from './serviceFacts.ts'
import { duration } from './table.ts'

/** A gateway that has not renewed its Lease for so long is not waited for. */
const SILENT_MS = 40_000
const MOST_NAMED = 4

export type Zone = 'internal' | 'public'

export interface TracePorts {
  ask(server: Server, question: { name: Name; type: number }): Promise<Message | undefined>
  /** of a zone; empty: none is known */
  servers(zone: Zone): Promise<readonly Server[]>
  /** with a folder, not a cluster */
  isFolder: boolean
  now: number
}

export async function traceService(facts: ServiceFacts, ports: TracePorts): Promise<TraceReport> {
  const { object } = facts
  const steps = new Steps()
  const end = (otherwise: string): TraceReport => ({
    name: keyOf(object),
    steps: steps.all,
    addresses: (object.status?.mappings ?? []).map(({ address }) => address),
    verdict: verdictOf(steps.all, otherwise),
  })
  sayObject(object, steps, ports.now)
  if (!sayOperator(facts, steps, ports) || !sayCondition(object, 'Accepted', 'accepted', steps)) return end('')
  sayTarget(facts, steps)
  sayPods(facts, steps)
  const mappings = object.status?.mappings ?? []
  if (mappings.length === 0) return end('nothing is mapped')
  sayReferences(facts, mappings, steps)
  sayGateways(facts, steps, ports.now)
  await sayName('internal', facts, steps, ports)
  await sayName('public', facts, steps, ports)
  return end(steps.all.every(step => step.ok) ? summaryOf(object) : '')
}

function keyOf({ metadata }: IprefService): string {
  return `${metadata.namespace}/${metadata.name}`
}

function summaryOf({ status }: IprefService): string {
  const name = status?.publicName ?? status?.internalName ?? 'it'
  return (status?.mappings ?? [])
    .map(({ address, reference }) => `${name} leads to ${address}: others reach it by reference ${reference}`)
    .join('\n')
}

function conditionOf({ status }: IprefService, type: string): Condition | undefined {
  return status?.conditions?.find(condition => condition.type === type)
}

// ---- the object, and who looks after it

function sayObject(object: IprefService, steps: Steps, now: number): void {
  const { metadata } = object
  const age = duration(Math.max(0, now - (Date.parse(metadata.creationTimestamp ?? '') || now)) / 1000)
  if (metadata.deletionTimestamp === undefined)
    return steps.right('object', `IprefService ${keyOf(object)}, ${age} old`)
  const since = duration(Math.max(0, now - Date.parse(metadata.deletionTimestamp)) / 1000)
  steps.wrong('object', `IprefService ${keyOf(object)} is being deleted, since ${since}`, {
    fix: 'its records go first, then its mapping; make it again if it shall stay',
  })
}

function sayOperator({ object, leases }: ServiceFacts, steps: Steps, { isFolder, now }: TracePorts): boolean {
  const seen = object.status?.observedGeneration ?? -1
  const lease = leases?.get('ipref-operator')
  const silentMs = lease?.spec?.renewTime === undefined ? undefined : now - Date.parse(lease.spec.renewTime)
  const silence =
    silentMs !== undefined && silentMs > SILENT_MS ? `, and is silent since ${duration(silentMs / 1000)}` : ''
  if (object.status?.conditions && seen >= (object.metadata.generation ?? 0)) {
    steps.right('operator', `has seen it as it is now${silence}`)
    return true
  }
  const what = seen < 0 ? 'has not seen it' : 'has not seen the last change of it'
  const fix = isFolder
    ? 'start `ipref operator -manifests` with this folder, or look at its log'
    : 'look whether the operator runs, and at its log: kubectl get pods in its namespace'
  steps.wrong('operator', `${what}${silence}`, { fix })
  return seen >= 0
}

/** Is it True, or at least not False? */
function sayCondition(object: IprefService, type: string, what: string, steps: Steps): boolean {
  const condition = conditionOf(object, type)
  if (!condition || condition.status === 'True') {
    steps.right(what, condition?.message || 'yes')
    return true
  }
  const detail = `${condition.reason}: ${condition.message}`
  steps.wrong(what, detail, { fix: fixOf('IprefService', type, condition.reason) ?? "look at the operator's log" })
  return (object.status?.mappings?.length ?? 0) > 0
}

// ---- what is behind it

function sayTarget({ object, service }: ServiceFacts, steps: Steps): void {
  const { target } = object.spec
  const condition = conditionOf(object, 'Resolved')
  if (condition && condition.status !== 'True') {
    const fix = fixOf('IprefService', 'Resolved', condition.reason) ?? 'look at the target'
    return steps.wrong('target', `${condition.reason}: ${condition.message}`, { fix })
  }
  if (target.address !== undefined) return steps.right('target', `${target.address}, a machine outside the cluster`)
  if (target.pods) return steps.right('target', 'pods that the selector finds')
  const of =
    service?.spec.clusterIP === 'None' ? 'headless' : (service?.spec.clusterIPs ?? [service?.spec.clusterIP]).join(', ')
  steps.right('target', `Service ${target.service?.name}${service ? `, ${of}` : ''}`)
}

function sayPods({ object, slices, pods }: ServiceFacts, steps: Steps): void {
  const { target } = object.spec
  if (target.address !== undefined) return
  const ready = target.pods
    ? pods.filter(isReadyPod).map(shownPod)
    : readyEndpoints(slices).map(address => {
        const pod = pods.find(one => one.status?.podIPs?.some(({ ip }) => ip === address))
        return pod ? shownPod(pod) : address
      })
  const all = target.pods ? pods.length : new Set(slices.flatMap(addressesIn)).size
  if (ready.length === 0)
    return steps.wrong('pods', all === 0 ? 'none' : `none of ${all} is ready`, {
      fix: fixOf('IprefService', 'Resolved', 'NoReadyEndpoints')!,
    })
  const more = ready.length > MOST_NAMED ? ` and ${ready.length - MOST_NAMED} more` : ''
  steps.right('pods', `${ready.length} of ${all} ready: ${ready.slice(0, MOST_NAMED).join(', ')}${more}`)
}

function addressesIn({ endpoints }: EndpointSlice): string[] {
  return (endpoints ?? []).flatMap(one => one.addresses)
}

function readyEndpoints(slices: readonly EndpointSlice[]): string[] {
  const ready = slices.flatMap(({ endpoints }) =>
    (endpoints ?? []).filter(({ conditions }) => conditions?.ready !== false).flatMap(({ addresses }) => addresses),
  )
  return [...new Set(ready)].sort()
}

function shownPod({ metadata, spec, status }: ServiceFacts['pods'][number]): string {
  return `${metadata.name} (${[status?.podIP, spec?.nodeName].filter(text => text !== undefined).join(' on ')})`
}

// ---- what others know it by

function sayReferences(facts: ServiceFacts, mappings: readonly ServiceMapping[], steps: Steps): void {
  const { object, claims } = facts
  for (const { address, reference, member } of mappings) {
    const what = `${member === undefined ? '' : `${member}: `}${address} ⇔ ${reference}`
    if (!claims) {
      steps.right('reference', what)
      continue
    }
    const claim = claims.get(reference)
    const owner = claim && `${claim.spec.namespace}/${claim.spec.name}`
    if (!claim)
      steps.wrong('reference', `${what}, which nobody has claimed: another object could get it`, {
        fix: "look at the operator's log; it claims what it gives",
      })
    else if (owner === keyOf(object)) steps.right('reference', what)
    else steps.right('reference', `${what}, shared with IprefService ${owner}, which has it`)
  }
}

// ---- gateways

function sayGateways(facts: ServiceFacts, steps: Steps, now: number): void {
  const { gateways } = facts
  if (!gateways) return void sayCondition(facts.object, 'Mapped', 'gateways', steps)
  if (gateways.length === 0)
    return steps.wrong('gateways', 'there is none', { fix: fixOf('IprefService', 'Mapped', 'NoGateway')! })
  for (const gateway of gateways) sayGateway(gateway, facts, steps, now)
}

function sayGateway(gateway: IprefGateway, { object, leases }: ServiceFacts, steps: Steps, now: number): void {
  const { metadata, status, spec } = gateway
  const what = `gateway ${metadata.name}`
  const where = spec.nodeName === undefined ? '' : ` on node ${spec.nodeName}`
  const silence = leases && silenceOf(leases.get(`ipref-gateway-${metadata.name}`), now)
  if (silence !== undefined)
    return steps.wrong(what, `${silence}${where}`, {
      fix: 'start it, or look at its log; a gateway that is gone for good: delete its IprefGateway',
    })
  const refused = status?.refused?.find(
    one => one.namespace === object.metadata.namespace && one.name === object.metadata.name,
  )
  if (refused)
    return steps.wrong(what, `refuses it: ${refused.reason}: ${refused.message}`, {
      fix: fixOf('IprefService', 'Mapped', refused.reason) ?? "look at the gateway's log",
    })
  const unready = status?.conditions?.find(one => one.status === 'False')
  if (unready)
    return steps.wrong(what, `${unready.reason}: ${unready.message}`, {
      fix: fixOf('IprefGateway', unready.type, unready.reason) ?? "look at the gateway's log",
    })
  const [reported, wanted] = [status?.observedResourceVersion, versionOfMappings(object)]
  if (wanted === undefined || reported === undefined || compareVersions(reported, wanted) < 0)
    return steps.wrong(
      what,
      `has not reported it yet: reports ${reported ?? 'nothing'}, and it is of ${wanted ?? '?'}`,
      {
        fix: "wait a moment; then look at the gateway's log: does it reach the API server?",
      },
    )
  steps.right(what, `has it in force${where}`)
}

function silenceOf(lease: Lease | undefined, now: number): string | undefined {
  if (!lease?.spec?.holderIdentity || lease.spec.renewTime === undefined) return 'does not run'
  const silentMs = now - Date.parse(lease.spec.renewTime)
  return silentMs > SILENT_MS ? `silent for ${duration(silentMs / 1000)}` : undefined
}

// ---- names

async function sayName(zone: Zone, facts: ServiceFacts, steps: Steps, ports: TracePorts): Promise<void> {
  const { status } = facts.object
  const what = `${zone} name`
  const name = zone === 'internal' ? status?.internalName : status?.publicName
  const type = zone === 'internal' ? 'PublishedInternal' : 'PublishedPublic'
  const condition = conditionOf(facts.object, type)
  if (name === undefined) {
    if (zone === 'public') steps.right(what, 'none: there is no public zone')
    return
  }
  const answers = await askAll(zone, name, facts, ports)
  const wrong = answers.find(answer => answer.is === 'wrong')
  const fix = () =>
    fixOf('IprefService', type, condition?.reason ?? '') ?? fixOf('IprefService', type, 'WaitingForDns')!
  if (wrong) return steps.wrong(what, wrong.text, { fix: fix() })
  const right = answers.filter(answer => answer.is === 'right')
  if (right.length > 0) {
    for (const answer of right) steps.right(what, answer.text)
    if (condition?.status !== 'False') return
  }
  // nobody was asked, or nobody answered here: the operator may have asked from elsewhere
  const silent =
    answers.find(answer => answer.is === 'silent')?.text ?? 'not asked from here: name a server with -server'
  if (condition && condition.status !== 'True')
    return steps.wrong(
      what,
      `${name}: ${condition.reason}${condition.message === '' ? '' : `: ${condition.message}`}`,
      { fix: fix() },
    )
  const read = condition?.reason === 'Published' ? 'the operator read it back' : 'handed over'
  steps.right(what, `${name}: ${read} (${silent})`)
}

interface Answer {
  is: 'right' | 'wrong' | 'silent'
  text: string
}

async function askAll(zone: Zone, name: string, facts: ServiceFacts, ports: TracePorts): Promise<Answer[]> {
  const parsed = parseName(name)
  if (!parsed) return []
  const servers = await ports.servers(zone)
  const types = zone === 'public' ? (['TXT'] as const) : addressTypes(facts.object)
  const answers = servers.flatMap(server =>
    types.map(async (type): Promise<Answer> => {
      const answer = await ports.ask(server, { name: parsed, type: Type[type] })
      const wanted = zone === 'public' ? publicValues(facts) : internalValues(facts.object, type)
      return judge(answer, { name: parsed, shown: name, type, wanted, at: showServer(server) })
    }),
  )
  return Promise.all(answers)
}

function addressTypes({ status }: IprefService): ('A' | 'AAAA')[] {
  const families = new Set((status?.mappings ?? []).map(({ family }) => family))
  return [...(families.has('IPv4') ? (['A'] as const) : []), ...(families.has('IPv6') ? (['AAAA'] as const) : [])]
}

function internalValues({ status }: IprefService, type: 'A' | 'AAAA' | 'TXT'): string[] {
  const family = type === 'A' ? 'IPv4' : 'IPv6'
  return [...new Set((status?.mappings ?? []).filter(one => one.family === family).map(({ address }) => address))]
}

/** undefined: which contexts there are is not known here. */
function publicValues({ object, network }: ServiceFacts): string[] | undefined {
  const published = network?.gateways.filter(({ publish, publicAddresses }) => publish && publicAddresses.length > 0)
  if (!published) return undefined
  const contexts = published.slice(0, 4).flatMap(({ publicAddresses }) => publicAddresses)
  const references = [...new Set((object.status?.mappings ?? []).map(({ reference }) => reference))]
  const most = Math.max(1, Math.floor(64 / Math.max(1, contexts.length)))
  return references.slice(0, most).flatMap(reference => contexts.map(context => `AA ${context} + ${reference}`))
}

interface Question {
  name: Name
  shown: string
  type: 'A' | 'AAAA' | 'TXT'
  wanted: readonly string[] | undefined
  at: string
}

function judge(answer: Message | undefined, { name, shown, type, wanted, at }: Question): Answer {
  const what = `${shown} ${type}`
  if (!answer) return { is: 'silent', text: `${at} does not answer` }
  const rcode = rcodeOf(answer)
  if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN)
    return { is: 'silent', text: `${at} says ${formatRcode(rcode)}` }
  const own = answer.answers.filter(one => one.type === Type[type] && lowerName(one.name) === lowerName(name))
  const found = new Set(
    type === 'TXT'
      ? own.flatMap(({ data }) => stringsOf(data)).filter(text => text.startsWith('AA '))
      : own.map(({ data }) => formatAddress(data)),
  )
  if (found.size === 0)
    return {
      is: 'wrong',
      text: `${what} is not there: ${at} says ${rcode === Rcode.NXDOMAIN ? 'no such name' : 'no such records'}`,
    }
  const values = [...found].sort()
  const missing = wanted?.filter(value => !found.has(value)) ?? []
  const foreign = wanted && values.filter(value => !wanted.includes(value))
  if (missing.length > 0) return { is: 'wrong', text: `${what} at ${at} lacks ${missing[0]}; it has ${values[0]}` }
  if (foreign && foreign.length > 0)
    return { is: 'wrong', text: `${what} at ${at} has ${foreign[0]} too, which is not of this object` }
  const quoted = type === 'TXT' ? values.map(value => `"${value}"`) : values
  return { is: 'right', text: `${what} ${quoted.slice(0, MOST_NAMED).join(' ')}, at ${at}` }
}
