/** What the image keeps of Node's work: that too which no command loads that could be run while the image is built. */
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { read, sourceFiles } from './files.ts'

const WORKER = /new Worker\(new URL\('(\.\/\w+\.ts)'/g
const LOADED_LATE = /await import\('(\.{1,2}\/[\w/.]+)'\)/g

function named(files: readonly string[], pattern: RegExp): string[] {
  return files.flatMap(file => [...read(file).matchAll(pattern)].map(([, name]) => join(dirname(file), name!)))
}

it('the Dockerfile loads every worker, and what the gateway loads behind its first packets', () => {
  const workers = named(sourceFiles(), WORKER)
  const late = named(['gateway/gateway.ts', 'gateway/kube/openStore.ts'], LOADED_LATE)
  expect(workers.length).toBeGreaterThanOrEqual(3)
  expect(late.length).toBeGreaterThanOrEqual(8)
  for (const file of [...workers, ...late]) expect(read('Dockerfile'), file).toContain(` ./${file}`)
})
