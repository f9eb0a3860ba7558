/**
 * One kind cluster of the rig, as tests use it: kubectl, helm, programs in pods and on nodes.
 *
 * It holds names and addresses alone, so it can be made again from the state file (state.ts) by another process.
 */
import { join } from 'node:path'
import { type Outcome, type RunOptions, requireProgram, runProgram } from '../../support/netns.ts'
import { ROOT, tell } from './programs.ts'

export const RELEASE = 'ipref'
/** of the chart */
export const NAMESPACE = 'ipref'
export const CHART = join(ROOT, 'helm/ipref')

export interface Node {
  name: string
  address: string
  isControlPlane: boolean
}

export interface ClusterFacts {
  /** name of the kind cluster */
  name: string
  kubeconfig: string
  /** folder with kubectl and helm */
  programs: string
  nodes: Node[]
  publicZone: string
  internalZone: string
  /** addresses by which others know its gateways */
  publicAddresses: string[]
}

export interface KubeObject {
  metadata: { name: string; namespace?: string; uid?: string; deletionTimestamp?: string }
  spec?: Record<string, unknown>
  status?: Record<string, unknown>
  [member: string]: unknown
}

export class Cluster {
  readonly facts: ClusterFacts

  constructor(facts: ClusterFacts) {
    this.facts = facts
  }

  get name(): string {
    return this.facts.name
  }

  get workers(): Node[] {
    return this.facts.nodes.filter(node => !node.isControlPlane)
  }

  /** What kubectl said; throws where it fails. */
  kubectl(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return tell([join(this.facts.programs, 'kubectl'), '--kubeconfig', this.facts.kubeconfig, ...argv], options)
  }

  tryKubectl(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    return runProgram([join(this.facts.programs, 'kubectl'), '--kubeconfig', this.facts.kubeconfig, ...argv], options)
  }

  helm(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    const helm = join(this.facts.programs, 'helm')
    return tell([helm, '--kubeconfig', this.facts.kubeconfig, '--namespace', NAMESPACE, ...argv], {
      timeoutMs: 600_000,
      ...options,
    })
  }

  apply(yaml: string): Promise<string> {
    return this.kubectl(['apply', '-f', '-'], { input: yaml })
  }

  /** One object; undefined: there is none. */
  async get(kind: string, name: string, namespace?: string): Promise<KubeObject | undefined> {
    const place = namespace ? ['-n', namespace] : []
    const text = await this.kubectl(['get', kind, name, ...place, '--ignore-not-found', '-o', 'json'])
    return text === '' ? undefined : (JSON.parse(text) as KubeObject)
  }

  async list(kind: string, ...more: string[]): Promise<KubeObject[]> {
    return (JSON.parse(await this.kubectl(['get', kind, '-o', 'json', ...more])) as { items: KubeObject[] }).items
  }

  /** Waits by `kubectl wait`; throws with what the object says of itself where it takes too long. */
  async waitFor(condition: string, object: string, namespace: string, seconds = 180): Promise<void> {
    const argv = ['-n', namespace, 'wait', `--for=${condition}`, object, `--timeout=${seconds}s`]
    const { code, stderr } = await this.tryKubectl(argv, { timeoutMs: (seconds + 20) * 1000 })
    if (code === 0) return
    const found = await this.tryKubectl(['-n', namespace, 'get', object, '-o', 'jsonpath={.status}'])
    throw new Error(`${object} in ${this.name}: ${stderr.trim()}\n${found.stdout}`)
  }

  /** A shell line in a pod's first container. */
  tryInPod(pod: string, line: string, options: RunOptions & { namespace?: string } = {}): Promise<Outcome> {
    const { namespace = 'default', ...rest } = options
    return this.tryKubectl(['-n', namespace, 'exec', pod, '--', 'sh', '-c', line], rest)
  }

  async inPod(pod: string, line: string, options: RunOptions & { namespace?: string } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.tryInPod(pod, line, options)
    if (code === 0) return stdout.trim()
    throw new Error(`${this.name}, pod ${pod}: ${line}\nended with ${code}: ${(stderr || stdout).trim()}`)
  }

  /** A shell line on a node: as the machine that the container stands for, root with all rights. */
  onNode(node: string, line: string, options: RunOptions = {}): Promise<string> {
    return requireProgram(['docker', 'exec', node, 'sh', '-c', line], options).then(text => text.trim())
  }

  /** The command `ipref` in the gateway pod of a node. */
  async ipref(node: string, argv: readonly string[]): Promise<Outcome> {
    return this.tryKubectl(['-n', NAMESPACE, 'exec', await this.gatewayPod(node), '--', 'ipref', ...argv])
  }

  async gatewayPod(node: string): Promise<string> {
    const pods = await this.list(
      'pods',
      '-n',
      NAMESPACE,
      '-l',
      'app.kubernetes.io/component=gateway',
      '--field-selector',
      `spec.nodeName=${node},status.phase=Running`,
    )
    const pod = pods.find(({ metadata }) => !metadata.deletionTimestamp)
    if (!pod) throw new Error(`${this.name}: no gateway runs on ${node}`)
    return pod.metadata.name
  }

  /** Node of the gateway that is active of those that share an address; undefined: none is. */
  async activeGateway(): Promise<string | undefined> {
    const lease = await this.get('lease', 'ipref-uplink', NAMESPACE)
    return (lease?.spec?.holderIdentity as string | undefined) || undefined
  }
}
