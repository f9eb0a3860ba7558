/**
 * The operator ends at its n-th write to a real API server, before or after the server has it, for every n that publishing, moving and withdrawing an object
 * needs; and users who are faster than each of its writes. Another operator goes on, and everything is as the objects say: no reference lost or given twice,
 * nobody else's object touched. Then: nothing is written when nothing changed.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { CrashRuns } from '../support/crashRuns.ts'
import { eventually } from '../support/netns.ts'
import { OperatorCluster, type RunningOperator } from '../support/operatorCluster.ts'
import { MeddledStore } from '../support/storeWrappers.ts'

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: the operator ends at every write: ${problem}\n`)

describe.skipIf(problem)('the operator at every write', { timeout: 300_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster
  let runs: CrashRuns
  let operator: RunningOperator | undefined

  beforeAll(async () => {
    server = await startOwnApiServer('operator-crash')
    cluster = await OperatorCluster.open(server.kubeconfig)
    runs = new CrashRuns(cluster)
    await cluster.startGateway()
  })
  afterEach(async () => {
    await runs.stop()
    await operator?.stop()
    operator = undefined
  })
  afterAll(async () => {
    await cluster?.close()
    await server?.stop()
  })

  describe.each(['before', 'after'] as const)('that ends %s each of its writes', when => {
    it('while it publishes', async () => {
      const ends = await runs.endAtEach(
        when,
        async () => {},
        name => runs.publish(name),
      )
      // finalizer, claim, mappings, their version; serial and text of the zones
      expect(ends.length).toBeGreaterThanOrEqual(5)
    })

    it('while it follows a target that moved', async () => {
      const ends = await runs.endAtEach(
        when,
        name => runs.publish(name),
        name => runs.move(name),
      )
      // a reference belongs to an object's slot, so there is no claim to make
      expect(ends.length).toBeGreaterThanOrEqual(3)
    })

    it('while it withdraws', async () => {
      const ends = await runs.endAtEach(
        when,
        name => runs.publish(name),
        name => runs.remove(name),
      )
      // text and serial of the zones, when they were gone, the finalizer, the claim
      expect(ends.length).toBeGreaterThanOrEqual(4)
    })
  })

  describe('with users who are faster', () => {
    const meddlings: [string, (name: string) => Promise<void>][] = [
      ['move the target', name => runs.move(name)],
      [
        'withdraw it, and publish it again if they can',
        async name => {
          await runs.remove(name)
          // an object without its finalizer is gone at once; else it goes when the operator lets it, which waits for us
          if (!(await cluster.object(name))) await runs.publish(name)
        },
      ],
    ]

    it.each(meddlings)('than each of its writes, and %s', async (_what, meddle) => {
      let store: MeddledStore | undefined
      operator = await cluster.startOperator({
        through: inner => {
          store = new MeddledStore(inner)
          return store
        },
      })
      let last = 0
      for (let n = 1; ; n++) {
        last = n
        const name = runs.name('edited')
        store!.arm(name, n, () => meddle(name))
        await runs.publish(name)
        await cluster.settled(runs.wanted)
        if (!(await store!.hasMeddled())) break
        await cluster.settled(runs.wanted)
      }
      store!.arm('', 1, async () => {})
      await runs.removeAll()
      await cluster.settled({})
      expect(last).toBeGreaterThan(3)
    })
  })

  it('writes nothing when nothing changed: two hundred objects, looked at again, by it and by one that begins', async () => {
    await runs.removeAll()
    operator = await cluster.startOperator()
    await cluster.settled({})
    const names = Array.from({ length: 200 }, (_, i) => `many-${i}`)
    for (let i = 0; i < names.length; i += 20)
      await Promise.all(names.slice(i, i + 20).map((name, j) => runs.publish(name, { address: `172.20.2.${i + j}` })))
    await cluster.settled(runs.wanted)

    const isIdleAfter = async (least: number) => {
      const reconciles = async () => {
        const text = await operator!.operator.metrics.render()
        const counted = /^ipref_operator_reconciles_total\{controller="services",result="done"\} (\d+)$/m.exec(text)
        return Number(counted?.[1] ?? 0)
      }
      const before = await reconciles()
      return () =>
        eventually(
          'all are looked at',
          async () => (await reconciles()) >= before + least && operator!.operator.isIdle,
          {
            withinMs: 60_000,
          },
        )
    }
    const writes = () => [...operator!.store.requests].filter(([what]) => !what.includes(' Event ')).join('\n')

    // the same settings in other words: everything is looked at
    const looked = await isIdleAfter(200)
    const [requests, versions] = [writes(), await cluster.versions()]
    await cluster.settings({ comment: 'the same' })
    await looked()
    expect(writes()).toBe(requests)
    const others = (all: string[]) => all.filter(one => !one.includes('ipref-config'))
    expect(others(await cluster.versions())).toEqual(others(versions))

    // one that begins sees all, and has not done any of it
    await operator.stop()
    const before = await cluster.versions()
    operator = await cluster.startOperator()
    const begun = await isIdleAfter(0)
    await begun()
    await cluster.settled(runs.wanted)
    expect(writes()).toBe('')
    expect(await cluster.versions()).toEqual(before)
  })
})
