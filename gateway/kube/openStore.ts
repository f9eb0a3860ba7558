/** The store of a gateway's objects: a cluster, or a folder. Only what is used is loaded. */
import type { ResourceStore } from '../../resources/store.ts'
import type { Logger } from '../../runtime/log.ts'
import type { KubeConfig } from './kubeOptions.ts'

const FIELD_MANAGER = 'ipref-gateway'

export interface OpenedStore {
  store: ResourceStore
  /**
   * Rejects with a sentence for the person who started it. What a cluster wants to know of us is read by a program of its own, which takes longer than all
   * the rest of a start: packets, which go by what is on disk, need not wait for it.
   */
  prepare(): Promise<void>
}

/** Rejects with a sentence for the person who started it. */
export async function openStore({ from }: KubeConfig, log: Logger): Promise<OpenedStore> {
  if ('kubeconfig' in from) {
    const { kubeconfig } = from
    const { KubernetesStore } = await import('../../resources/kubernetesStore.ts')
    const store = KubernetesStore.of({
      fieldManager: FIELD_MANAGER,
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
    })
    return { store, prepare: () => store.prepare() }
  }
  const { DirectoryStore } = await import('../../resources/directoryStore.ts')
  // the operator says the same to the object's status; here it is for whoever has a gateway alone
  const onProblems = (problems: readonly string[]) => {
    for (const problem of problems) log.warn({ component: 'manifests' }, problem)
  }
  const store = await DirectoryStore.open(from.manifests, { fieldManager: FIELD_MANAGER, onProblems })
  return { store, prepare: async () => {} }
}
