/** What the image keeps of Node's work: the workers too, which no command loads that could be run while the image is built. */
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { read, sourceFiles } from './files.ts'

it('the Dockerfile loads every worker', () => {
  const workers = sourceFiles().flatMap(file =>
    [...read(file).matchAll(/new Worker\(new URL\('(\.\/\w+\.ts)'/g)].map(([, name]) => join(dirname(file), name!)),
  )
  expect(workers.length).toBeGreaterThanOrEqual(3)
  for (const worker of workers) expect(read('Dockerfile')).toContain(` ./${worker}`)
})
