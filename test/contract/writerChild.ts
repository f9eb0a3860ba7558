/** Child of directoryStore.test.ts: counts up an object of its own and one that it shares, until it is killed; says each write that was done. */
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { StoreError } from '../../resources/store.ts'

const [folder, name] = process.argv.slice(2) as [string, string]
const store = await DirectoryStore.open(folder)
for (let i = 0; ; i++) {
  const key = { namespace: 'race', name: i % 2 ? 'shared' : name }
  const found = await store.get('ConfigMap', key)
  const count = Number(found?.data?.count ?? 0) + 1
  const data = { count: String(count), by: name }
  try {
    const made = found
      ? await store.update('ConfigMap', { ...found, data })
      : await store.create('ConfigMap', { apiVersion: 'v1', kind: 'ConfigMap', metadata: key, data })
    process.stdout.write(`${key.name} ${count} ${made.metadata.resourceVersion}\n`)
  } catch (error) {
    if (!(error instanceof StoreError && /Conflict|AlreadyExists/.test(error.code))) throw error
  }
}
