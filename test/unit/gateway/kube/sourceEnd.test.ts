/** The end of a gateway's view of the cluster: nothing is left that would keep its process, and its port, from the next one. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { KubeSource } from '../../../../gateway/kube/source.ts'
import { DirectoryStore } from '../../../../resources/directoryStore.ts'
import { type Clock, systemClock } from '../../../../runtime/clock.ts'
import { quietSourcePorts } from '../../../support/quietSource.ts'

let folder: string
let store: DirectoryStore

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-end-'))
  store = await DirectoryStore.open(folder, { fieldManager: 'ipref-gateway' })
})
afterEach(async () => {
  await store.close()
  rmSync(folder, { recursive: true })
})

/** Knows what was asked for and is not over. */
class CountingClock implements Clock {
  readonly pending = new Set<number>()
  #next = 0

  now(): number {
    return systemClock.now()
  }

  after(ms: number, run: () => void): () => void {
    const id = this.#next++
    this.pending.add(id)
    const cancel = systemClock.after(ms, () => {
      this.pending.delete(id)
      run()
    })
    return () => {
      this.pending.delete(id)
      cancel()
    }
  }
}

it('no timer outlives it, once it has followed the cluster', async () => {
  const clock = new CountingClock()
  const source = new KubeSource(
    {
      name: 'node-1',
      namespace: 'ipref',
      stateFile: join(folder, '.data', 'cluster.json'),
      tunnelFamilies: [4],
      own: {},
    },
    quietSourcePorts(store, { clock }),
  )
  await source.restore()
  source.start()
  // all that it lacks is what an operator would make
  const lacking = [expect.stringMatching(/^ipref-network: .* is not there/)]
  await expect.poll(() => source.problems, { timeout: 20_000 }).toEqual(lacking)
  expect(clock.pending.size).toBeGreaterThan(0)
  await source.stop()
  expect([...clock.pending]).toEqual([])
})
