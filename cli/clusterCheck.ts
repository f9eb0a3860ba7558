/**
 * `ipref check` of a cluster, or of a folder of objects: what their conditions say, then what is tried from where a gateway runs.
 *
 *   no subject      IprefServices, IprefPeers, IprefGateways, the gateways' pods; then the node of each gateway
 *   IprefPeer       its conditions; then each of its addresses as peer/ADDRESS
 *   IprefService    the trace of it (clusterTrace.ts)
 *   anything else   in the pod of a gateway
 *
 * With a folder, "where a gateway runs" is this host.
 */
import type { IprefPeer, Node, Pod } from '../resources/kinds.ts'
import { UPLINK_NAME } from '../resources/network.ts'
import { isReadyPod } from '../resources/pods.ts'
import { fixOf } from '../resources/reasons.ts'
import type { ResourceStore } from '../resources/store.ts'
import type { Step } from '../runtime/steps.ts'
import type { Arguments } from './arguments.ts'
import type { Checked } from './checkReports.ts'
import { type ClusterReport, readCluster } from './clusterStatus.ts'
import { type ClusterSettings, ifAllowed, listIfAllowed, openCluster } from './clusterStore.ts'
import { traceInCluster } from './clusterTrace.ts'
import { checkInPod, type Run, runKubectl } from './podExec.ts'
import { findService } from './serviceFacts.ts'

const GATEWAY_PODS = 'app.kubernetes.io/name=ipref,app.kubernetes.io/component=gateway'
const PEERS = /^(iprefpeers?|peer)\//i
const MOST_PODS = 50

export interface ClusterCheckWanted {
  args: Arguments
  settings: ClusterSettings
  tcp: readonly number[]
  /** the subjects as they were given, with the gateway of this host */
  local(): Promise<Checked[]>
  run?: Run
}

/** Rejects with a sentence when the objects cannot be read. */
export async function checkCluster(wanted: ClusterCheckWanted): Promise<Checked[]> {
  const { args, settings } = wanted
  const opened = await openCluster(args, settings)
  try {
    const pods = new Pods(opened.store, wanted)
    if (args.rest.length > 0) {
      const checked: Checked[] = []
      for (const subject of args.rest) checked.push(...(await checkSubject(subject, opened.store, pods, wanted)))
      return checked
    }
    const report = await readCluster(opened.store, settings.namespace, { problems: opened.mistakes(), now: Date.now() })
    if (args.values.has('manifests')) return [stepsOfObjects(report), ...(await wanted.local())]
    return [stepsOfObjects(report), ...(await pods.checkNodes())]
  } finally {
    await opened.store.close()
  }
}

// ---- objects

interface Row {
  ready: string
  reason: string
  message: string
}

export function stepsOfObjects(report: ClusterReport): Checked {
  const steps: Step[] = report.problems.map(detail => ({ what: 'objects', ok: true, warns: true, detail }))
  for (const row of report.services) steps.push(stepOfRow('IprefService', `${row.namespace}/${row.name}`, row))
  for (const row of report.peers ?? []) steps.push(stepOfRow('IprefPeer', row.name, row))
  for (const row of report.gateways ?? []) steps.push(stepOfRow('IprefGateway', row.name, row))
  return { subject: 'objects', steps }
}

function stepOfRow(kind: 'IprefService' | 'IprefPeer' | 'IprefGateway', name: string, row: Row): Step {
  const what = `${kind} ${name}`
  if (row.ready === 'True') return { what, ok: true, detail: 'ready' }
  const fix = fixOf(kind, 'Ready', row.reason) ?? `kubectl describe ${kind.toLowerCase()} says more`
  const detail = `${row.reason}: ${row.message}`
  return row.ready === 'False' ? { what, ok: false, detail, fix } : { what, ok: true, warns: true, detail, fix }
}

async function checkSubject(
  subject: string,
  store: ResourceStore,
  pods: Pods,
  wanted: ClusterCheckWanted,
): Promise<Checked[]> {
  const peer = await findPeer(subject, store)
  if (peer) {
    const steps = stepsOfPeer(peer)
    const tried = await pods.check((peer.status?.addresses ?? []).map(address => `peer/${address}`))
    return [{ subject, steps }, ...tried]
  }
  if (await isService(subject, store, wanted.settings)) {
    const { steps } = await traceInCluster(subject, { ...wanted, gateway: undefined })
    return [{ subject, steps }]
  }
  return pods.check([subject])
}

async function findPeer(subject: string, store: ResourceStore): Promise<IprefPeer | undefined> {
  const name = subject.replace(PEERS, '')
  if (!/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name)) return undefined
  const found = await ifAllowed(store.get('IprefPeer', { name }))
  return found === 'Forbidden' ? undefined : found
}

async function isService(subject: string, store: ResourceStore, { namespace }: ClusterSettings): Promise<boolean> {
  if (/[+]|^peer\//.test(subject)) return false
  return findService(store, subject, namespace).then(
    () => true,
    () => false,
  )
}

export function stepsOfPeer({ metadata, status }: IprefPeer): Step[] {
  const conditions = status?.conditions ?? []
  if (conditions.length === 0 || (status?.observedGeneration ?? -1) < (metadata.generation ?? 0))
    return [
      {
        ...{ what: 'operator', ok: false, detail: `has not seen IprefPeer ${metadata.name} as it is now` },
        fix: 'look whether the operator runs, and at its log',
      },
    ]
  return conditions
    .filter(({ type }) => type !== 'Ready')
    .map(({ type, status: is, reason, message }) => {
      const [what, detail] = [type.toLowerCase(), message ? `${reason}: ${message}` : reason]
      if (is === 'True') return { what, ok: true, detail: message || 'yes' }
      const fix = fixOf('IprefPeer', type, reason) ?? "look at the operator's log"
      return is === 'False' ? { what, ok: false, detail, fix } : { what, ok: true, warns: true, detail, fix }
    })
}

// ---- where gateways run

class Pods {
  readonly #store: ResourceStore
  readonly #wanted: ClusterCheckWanted
  readonly #run: Run

  constructor(store: ResourceStore, wanted: ClusterCheckWanted) {
    this.#store = store
    this.#wanted = wanted
    this.#run = wanted.run ?? runKubectl
  }

  /** From the gateway that carries all packets, else the first that is ready; with a folder, from here. */
  async check(subjects: readonly string[]): Promise<Checked[]> {
    if (subjects.length === 0) return []
    const { args, local } = this.#wanted
    if (args.values.has('manifests')) return local()
    const { pods, problem } = await this.#list()
    const holder = await this.#holder()
    const pod = pods.find(one => isReadyPod(one) && one.spec?.nodeName === holder) ?? pods.find(isReadyPod)
    if (!pod) {
      const what = problem ?? {
        what: 'gateway',
        ok: false,
        detail: 'no pod of a gateway is ready',
        fix: 'ipref check -kube says why',
      }
      return [{ subject: subjects.join(' '), steps: [what] }]
    }
    const found = await checkInPod(this.#exec(pod), [...subjects, ...this.#flags()], this.#run)
    if (!Array.isArray(found)) return [{ subject: subjects.join(' '), steps: [found] }]
    return found.map(one => ({ ...one, subject: `${one.subject} from ${pod.spec?.nodeName ?? pod.metadata.name}` }))
  }

  /** Node of the gateway that carries all packets, where one does: the others are silent towards peers. */
  async #holder(): Promise<string | undefined> {
    const namespace = this.#wanted.settings.operatorNamespace
    const lease = await ifAllowed(this.#store.get('Lease', { namespace, name: UPLINK_NAME }))
    const name = lease === 'Forbidden' ? undefined : lease?.spec?.holderIdentity
    if (name === undefined) return undefined
    const gateway = await ifAllowed(this.#store.get('IprefGateway', { name }))
    return gateway === 'Forbidden' ? name : (gateway?.spec.nodeName ?? name)
  }

  /** Of each gateway. */
  async checkNodes(): Promise<Checked[]> {
    const { pods, problem } = await this.#list()
    if (problem) return [{ subject: 'gateways', steps: [problem] }]
    const nodes = await listIfAllowed(this.#store, 'Node')
    const checked: Checked[] = []
    for (const pod of pods.slice(0, MOST_PODS)) {
      const subject = `node ${pod.spec?.nodeName ?? '?'}`
      const steps: Step[] = [stepOfPod(pod, nodes === 'Forbidden' ? [] : nodes)]
      if (steps[0]!.ok) {
        const found = await checkInPod(this.#exec(pod), [], this.#run)
        if (Array.isArray(found)) steps.push(...found.flatMap(one => one.steps))
        else steps.push(found)
      }
      checked.push({ subject, steps })
    }
    return checked
  }

  async #list(): Promise<{ pods: readonly Pod[]; problem?: Step }> {
    const namespace = this.#wanted.settings.operatorNamespace
    const found = await listIfAllowed(this.#store, 'Pod', { namespace, labelSelector: GATEWAY_PODS })
    const what = 'gateways'
    if (found === 'Forbidden') {
      const detail = `pods in namespace ${namespace} may not be listed`
      const fix = `let somebody run it who may: kubectl exec -n ${namespace} PODOFGATEWAY -c gateway -- ipref check`
      return { pods: [], problem: { what, ok: true, warns: true, detail, fix } }
    }
    if (found.length > 0) return { pods: found }
    const fix = 'install the chart there, or name its namespace with -operator-namespace'
    return {
      pods: [],
      problem: { what, ok: false, detail: `there is no pod of a gateway in namespace ${namespace}`, fix },
    }
  }

  #exec(pod: Pod): { namespace: string; pod: string; cluster: readonly string[] } {
    const { args, settings } = this.#wanted
    const cluster = ['kubeconfig', 'context'].flatMap(name => {
      const value = args.values.get(name)
      return value === undefined ? [] : [`--${name}`, value]
    })
    return { namespace: settings.operatorNamespace, pod: pod.metadata.name, cluster }
  }

  #flags(): string[] {
    const { tcp } = this.#wanted
    return tcp.length > 0 ? ['-tcp', tcp.join(',')] : []
  }
}

/** A pod that does not run says why here, since nothing can be run in it; with the runtime, for some refuse what a gateway needs (decisions.md 33). */
export function stepOfPod(pod: Pod, nodes: readonly Node[]): Step {
  const what = `pod ${pod.metadata.name}`
  const [container] = pod.status?.containerStatuses ?? []
  if (container?.state?.running || (!container && pod.status?.phase === 'Running'))
    return { what, ok: true, detail: `runs${isReadyPod(pod) ? '' : ', and is not ready'}` }
  const { waiting, terminated } = container?.state ?? {}
  const last = terminated ?? container?.lastState?.terminated
  const runtime = nodes.find(node => node.metadata.name === pod.spec?.nodeName)?.status?.nodeInfo
    ?.containerRuntimeVersion
  const reasons = [waiting?.reason, waiting?.message, last?.message?.trim().split('\n').at(-1)].filter(text => text)
  const by = runtime === undefined ? '' : ` (${runtime})`
  return {
    ...{ what, ok: false, detail: `does not run${by}: ${reasons.join(': ') || pod.status?.phase || 'not started'}` },
    fix: `kubectl logs -n ${pod.metadata.namespace} ${pod.metadata.name} --previous says why it ended; where /dev/net/tun is refused: gateway.seLinuxOptions, at last gateway.privileged`,
  }
}
