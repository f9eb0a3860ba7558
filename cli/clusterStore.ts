/** Which objects `ipref status` and `ipref trace` look at: those of a cluster, or of a folder. Programs that do not ask for them do not load what reads them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../resources/config.ts'
import type { KindName, Kinds } from '../resources/kinds.ts'
import type { Network } from '../resources/network.ts'
import { type Key, type ResourceStore, StoreError, type WatchOptions } from '../resources/store.ts'
import type { Arguments, CommandOptions } from './arguments.ts'

/** Which cluster, or which folder. */
export const placeFlags = {
  text: ['kubeconfig', 'context', 'manifests'],
  switches: ['kube'],
} as const satisfies CommandOptions

/** And which of its objects. */
export const clusterFlags = {
  text: [...placeFlags.text, 'namespace', 'operator-namespace'],
  switches: [...placeFlags.switches, 'all-namespaces'],
  short: { n: 'namespace', A: 'all-namespaces' },
} as const satisfies CommandOptions

/** Of `placeFlags`, but for the folder, of which each command wants something else. */
export const CLUSTER_PLACE_USAGE = `  -kube                 the cluster of $KUBECONFIG, ~/.kube/config, or the pod's service account
  -kubeconfig FILE      the cluster of this file; -context NAME: another than its current one`

export const CLUSTER_USAGE = `${CLUSTER_PLACE_USAGE}
  -manifests FOLDER     no cluster: the objects in this folder
  -n NAMESPACE          only those of a namespace; otherwise all (-A)
  -operator-namespace   the operator's own; default: ipref`

const SETTINGS = 'ipref-config'
const FIELD_MANAGER = 'ipref-cli'

export interface ClusterSettings {
  namespace: string | undefined
  operatorNamespace: string
}

/** undefined: neither cluster nor folder is asked for. */
export function clusterSettings(args: Arguments): ClusterSettings | undefined | { problem: string } {
  const { values, switches } = args
  const isCluster = switches.has('kube') || values.has('kubeconfig') || values.has('context')
  if (!isCluster && !values.has('manifests')) {
    const stray = ['namespace', 'operator-namespace'].find(name => values.has(name))
    const flag = stray ?? (switches.has('all-namespaces') ? 'all-namespaces' : undefined)
    return flag === undefined
      ? undefined
      : { problem: `-${flag}: of what? -kube, -kubeconfig FILE or -manifests FOLDER` }
  }
  if (isCluster && values.has('manifests'))
    return { problem: '-manifests: there is no cluster then; leave -kube, -kubeconfig and -context out' }
  if (values.has('namespace') && switches.has('all-namespaces'))
    return { problem: '-A: all namespaces, or one with -n' }
  return { namespace: values.get('namespace'), operatorNamespace: values.get('operator-namespace') ?? 'ipref' }
}

export interface OpenedCluster {
  store: ResourceStore
  /** in the files of a folder, as they are now */
  mistakes(): readonly string[]
  /** of the platform; undefined: they cannot be read */
  settings: Config | undefined
}

/** Rejects with a sentence. */
export async function openCluster(args: Arguments, { operatorNamespace }: ClusterSettings): Promise<OpenedCluster> {
  const folder = args.values.get('manifests')
  if (folder !== undefined) {
    const { DirectoryStore } = await import('../resources/directoryStore.ts')
    const store = await DirectoryStore.open(folder, { fieldManager: FIELD_MANAGER })
    return { store, mistakes: () => store.problems, settings: await readSettings(() => textOfFile(folder)) }
  }
  const { KubernetesStore } = await import('../resources/kubernetesStore.ts')
  const [kubeconfig, context] = [args.values.get('kubeconfig'), args.values.get('context')]
  const store = await KubernetesStore.open({
    fieldManager: FIELD_MANAGER,
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  })
  const settings = await readSettings(async () => {
    const found = await store.get('ConfigMap', { namespace: operatorNamespace, name: SETTINGS })
    return found?.data?.['config.yaml']
  })
  return { store, mistakes: () => [], settings }
}

async function textOfFile(folder: string): Promise<string> {
  const { CONFIG_FILE } = await import('../resources/manifests.ts')
  return readFileSync(join(folder, CONFIG_FILE), 'utf8')
}

// for the names of servers to ask: without them there is less to ask
async function readSettings(read: () => Promise<string | undefined>): Promise<Config | undefined> {
  const { parseConfig } = await import('../resources/config.ts')
  const text = await read().catch(() => undefined)
  const parsed = text === undefined ? { problems: [] } : parseConfig(text, SETTINGS)
  return 'config' in parsed ? parsed.config : undefined
}

/** What all gateways are told; undefined: it cannot be read. */
export async function readNetwork(store: ResourceStore, namespace: string): Promise<Network | undefined> {
  const { NETWORK_KEY, NETWORK_NAME, parseNetwork } = await import('../resources/network.ts')
  const found = await ifAllowed(store.get('ConfigMap', { namespace, name: NETWORK_NAME }))
  const text = found === 'Forbidden' ? undefined : found?.data?.[NETWORK_KEY]
  const network = text === undefined ? undefined : parseNetwork(text)
  return typeof network === 'string' ? undefined : network
}

/** An application team may see less than the platform team, and a kind may not be served. */
export async function ifAllowed<Value>(asked: Promise<Value>): Promise<Value | 'Forbidden'> {
  try {
    return await asked
  } catch (error) {
    if (error instanceof StoreError && (error.code === 'Forbidden' || error.code === 'NoSuchKind')) return 'Forbidden'
    throw error
  }
}

export async function listIfAllowed<Kind extends KindName>(
  store: ResourceStore,
  kind: Kind,
  options: WatchOptions = {},
): Promise<Kinds[Kind][] | 'Forbidden'> {
  const found = await ifAllowed(store.list(kind, options))
  if (found === 'Forbidden') return found
  const keyOf = ({ namespace = '', name }: Key) => `${namespace}/${name}`
  return found.sort((a, b) => (keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1))
}
