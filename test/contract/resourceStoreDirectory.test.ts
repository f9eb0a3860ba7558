/** The contract of a ResourceStore, for a folder of YAML. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { storeContract } from './resourceStore.ts'

storeContract('a folder', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-store-'))
  const store = await DirectoryStore.open(folder)
  return {
    store,
    another: settings => DirectoryStore.open(folder, settings),
    namespaces: ['shop', 'other'],
    async close() {
      await store.close()
      rmSync(folder, { recursive: true })
    },
  }
})
