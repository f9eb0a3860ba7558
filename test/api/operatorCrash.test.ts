/**
 * The operator ends at its n-th write to a real API server, before or after the server has it, for every n that publishing, moving and withdrawing an object
 * needs; and users who are faster than each of its writes. Another operator goes on, and everything is as the objects say: no reference lost or given twice,
 * nobody else's object touched. Then: nothing is written when nothing changed.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { eventually } from '../support/netns.ts'
import { OperatorCluster, type RunningOperator, type Wanted } from '../support/operatorCluster.ts'
import { CrashingStore, MeddledStore } from '../support/storeWrappers.ts'

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: the operator ends at every write: ${problem}\n`)

describe.skipIf(problem)('the operator at every write', { timeout: 300_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster
  let operator: RunningOperator | undefined
  /** what users want at the moment */
  const wanted: Record<string, Wanted> = {}

  beforeAll(async () => {
    server = await startOwnApiServer('operator-crash')
    cluster = await OperatorCluster.open(server.kubeconfig)
    await cluster.startGateway()
  })
  afterEach(async () => {
    await operator?.stop()
    operator = undefined
  })
  afterAll(async () => {
    await cluster?.close()
    await server?.stop()
  })

  async function publish(name: string, at: string): Promise<void> {
    wanted[name] = { address: at }
    await cluster.publish(name, { address: at })
  }
  async function move(name: string, at: string): Promise<void> {
    wanted[name] = { address: at }
    await cluster.move(name, at)
  }
  async function remove(name: string): Promise<void> {
    delete wanted[name]
    await cluster.remove(name)
  }

  async function startCrashing(): Promise<CrashingStore> {
    let store: CrashingStore | undefined
    operator = await cluster.startOperator({
      through: inner => {
        store = new CrashingStore(inner)
        return store
      },
    })
    return store!
  }

  let [count, addresses] = [0, 0]
  /** Nobody else's: an address that another object maps has a reference already. */
  const address = () => `172.20.${16 + (++addresses >> 8)}.${addresses & 255}`

  /** `prepare`, undisturbed; then `act`, in which the operator ends at its n-th write, until there is no n-th. Resolves to how many there were. */
  async function endAtEach(
    when: 'before' | 'after',
    prepare: (name: string) => Promise<void>,
    act: (name: string) => Promise<void>,
  ): Promise<number> {
    let store = await startCrashing()
    let points = 0
    for (let n = 1; ; n++) {
      const name = `web-${++count}`
      await prepare(name)
      await cluster.settled(wanted)
      store.arm(n, when)
      await act(name)
      await cluster.settled(wanted, () => store.hasEnded)
      if (!store.hasEnded) break
      points = n
      await operator!.stop()
      store = await startCrashing()
      await cluster.settled(wanted)
      // a claim that was made and not written down elsewhere is found again
      expect(await cluster.spareClaims()).toEqual([])
    }
    store.arm(Number.POSITIVE_INFINITY, when)
    for (const name of Object.keys(wanted)) await remove(name)
    await cluster.settled({})
    return points
  }

  describe.each(['before', 'after'] as const)('that ends %s each of its writes', when => {
    it('while it publishes', async () => {
      const writes = await endAtEach(
        when,
        async () => {},
        name => publish(name, address()),
      )
      // finalizer, claim, mappings, their version; serial and text of the zones
      expect(writes).toBeGreaterThanOrEqual(5)
    })

    it('while it follows a target that moved', async () => {
      const writes = await endAtEach(
        when,
        name => publish(name, address()),
        name => move(name, address()),
      )
      // a reference belongs to an object's slot, so there is no claim to make
      expect(writes).toBeGreaterThanOrEqual(3)
    })

    it('while it withdraws', async () => {
      const writes = await endAtEach(
        when,
        name => publish(name, address()),
        async name => {
          await remove(name)
        },
      )
      // text and serial of the zones, when they were gone, the finalizer, the claim
      expect(writes).toBeGreaterThanOrEqual(4)
    })
  })

  describe('with users who are faster', () => {
    const meddlings: [string, (name: string) => Promise<void>][] = [
      ['move the target', name => move(name, address())],
      [
        'withdraw it, and publish it again if they can',
        async name => {
          await cluster.remove(name)
          // an object without its finalizer is gone at once; else it goes when the operator lets it, which waits for us
          if (!(await cluster.object(name))) await publish(name, address())
          else delete wanted[name]
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
      for (let n = 1; ; n++) {
        const name = `edited-${++count}`
        store!.arm(name, n, () => meddle(name))
        await publish(name, address())
        await cluster.settled(wanted)
        if (!(await store!.hasMeddled())) break
        await cluster.settled(wanted)
      }
      store!.arm('', 1, async () => {})
      for (const name of Object.keys(wanted)) await remove(name)
      await cluster.settled({})
      expect(count).toBeGreaterThan(3)
    })
  })

  it('writes nothing when nothing changed: two hundred objects, looked at again, by it and by one that begins', async () => {
    for (const name of Object.keys(wanted)) await remove(name)
    operator = await cluster.startOperator()
    await cluster.settled({})
    const names = Array.from({ length: 200 }, (_, i) => `many-${i}`)
    for (let i = 0; i < names.length; i += 20)
      await Promise.all(names.slice(i, i + 20).map((name, j) => publish(name, `172.20.2.${i + j}`)))
    await cluster.settled(wanted)

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
    await cluster.settled(wanted)
    expect(writes()).toBe('')
    expect(await cluster.versions()).toEqual(before)
  })
})
