/** Namespaces of a test file's own, on a server that others use too. */
import { randomBytes } from 'node:crypto'
import type { ResourceStore } from '../../resources/store.ts'

export async function makeNamespaces(
  store: ResourceStore,
): Promise<{ namespaces: readonly [string, string]; remove(): Promise<void> }> {
  const suffix = randomBytes(4).toString('hex')
  const namespaces = [`test-a-${suffix}`, `test-b-${suffix}`] as const
  for (const name of namespaces)
    await store.create('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  return {
    namespaces,
    async remove() {
      for (const name of namespaces) await store.delete('Namespace', { name })
    },
  }
}
