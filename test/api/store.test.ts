/** The contract of a ResourceStore, for a real API server. */
import { describe } from 'vitest'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { storeContract } from '../contract/resourceStore.ts'
import { isMissing, sharedApiServer } from '../support/apiServer.ts'
import { makeNamespaces } from '../support/namespaces.ts'

const server = sharedApiServer()

describe.skipIf(isMissing(server))('with an API server', () => {
  storeContract('an API server', async () => {
    if (isMissing(server)) throw new Error(server.missing)
    const { kubeconfig } = server
    const store = await KubernetesStore.open({ kubeconfig })
    const { namespaces, remove } = await makeNamespaces(store)
    return {
      store,
      another: settings => KubernetesStore.open({ kubeconfig, ...settings }),
      namespaces,
      async close() {
        await remove()
        await store.close()
      },
    }
  })
})
