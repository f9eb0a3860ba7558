/** The store of a gateway's objects: a cluster, or a folder. */
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Logger } from '../../runtime/log.ts'
import type { KubeConfig } from './kubeOptions.ts'

const FIELD_MANAGER = 'ipref-gateway'

/** Rejects with a sentence for the person who started it. */
export function openStore({ from }: KubeConfig, log: Logger): Promise<ResourceStore> {
  if ('kubeconfig' in from) {
    const { kubeconfig } = from
    return KubernetesStore.open({ fieldManager: FIELD_MANAGER, ...(kubeconfig === undefined ? {} : { kubeconfig }) })
  }
  // the operator says the same to the object's status; here it is for whoever has a gateway alone
  const onProblems = (problems: readonly string[]) => {
    for (const problem of problems) log.warn({ component: 'manifests' }, problem)
  }
  return DirectoryStore.open(from.manifests, { fieldManager: FIELD_MANAGER, onProblems })
}
