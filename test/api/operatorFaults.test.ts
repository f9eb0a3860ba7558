/**
 * The operator among everything that goes wrong between it and its objects: an API server that is killed, connections that are cut, refused, delayed and
 * answered twice, leaders that end without a word, and two that act at once. Users go on all the while; at the end every object is what it says, no reference
 * was lost or given twice, and nobody else's object was touched.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { CrashPoint } from '../support/crashPoint.ts'
import { type Fault, type FaultyProxy, type Seen, startFaultyProxy } from '../support/faultyProxy.ts'
import { eventually } from '../support/netns.ts'
import { OperatorCluster, type RunningOperator, type Wanted } from '../support/operatorCluster.ts'
import { CrashingStore } from '../support/storeWrappers.ts'

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: the operator among faults: ${problem}\n`)

const LONG = { withinMs: 90_000 }

describe.skipIf(problem)('the operator among faults', { timeout: 300_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster
  let proxy: FaultyProxy
  const running: RunningOperator[] = []
  let wanted: Record<string, Wanted> = {}

  beforeAll(async () => {
    server = await startOwnApiServer('operator-faults')
    proxy = await startFaultyProxy(server.kubeconfig)
    cluster = await OperatorCluster.open(server.kubeconfig)
    await cluster.startGateway()
  })
  afterEach(async () => {
    proxy.fault = undefined
    for (const operator of running.splice(0)) await operator.stop()
  })
  afterAll(async () => {
    await cluster?.close()
    await proxy?.close()
    await server?.stop()
  })

  async function start(...[options]: Parameters<OperatorCluster['startOperator']>): Promise<RunningOperator> {
    const operator = await cluster.startOperator(options)
    running.push(operator)
    return operator
  }

  let addresses = 0
  /** Nobody else's: an address that another object maps has a reference already. */
  const address = () => `172.20.${++addresses >> 8}.${addresses & 255}`

  async function publish(name: string): Promise<void> {
    wanted[name] = { address: address() }
    await cluster.publish(name, wanted[name])
  }
  async function move(name: string): Promise<void> {
    wanted[name] = { address: address() }
    await cluster.move(name, wanted[name].address)
  }
  async function remove(name: string): Promise<void> {
    delete wanted[name]
    await cluster.remove(name)
  }
  const names = (of: string, count: number) => Array.from({ length: count }, (_, i) => `${of}-${i}`)

  async function begin(of: string, count: number): Promise<string[]> {
    const all = names(of, count)
    await Promise.all(all.map(publish))
    await cluster.settled(wanted)
    return all
  }
  async function clear(): Promise<void> {
    await Promise.all(Object.keys(wanted).map(remove))
    await cluster.settled({})
    wanted = {}
  }

  /** Users who change one object after the other until they are called off. */
  function churn(objects: readonly string[]): { rounds(): number; stop(): Promise<void> } {
    let [isOver, rounds] = [false, 0]
    const gone = new Set<string>()
    const work = (async () => {
      for (; !isOver; rounds++) {
        const name = objects[rounds % objects.length]!
        if (gone.has(name)) continue
        if (rounds % 11 === 10 && gone.size < objects.length / 3) {
          gone.add(name)
          await remove(name)
        } else await move(name)
        if (rounds % 7 === 6) await publish(`${name}-${rounds}`)
        await new Promise(resolve => setTimeout(resolve, 30))
      }
    })()
    return {
      rounds: () => rounds,
      stop: async () => {
        isOver = true
        await work
      },
    }
  }

  it.each([
    ['is killed', { kill: true }],
    ['is killed, and etcd with it', { kill: true, etcd: true }],
  ] as const)('an API server that %s and comes back, while objects change', async (what, how) => {
    const operator = await start()
    const objects = await begin(what.length > 10 ? 'etcd' : 'killed', 6)
    const users = churn(objects)
    await eventually('users are at work', () => users.rounds() > 8, LONG)
    await server.restart({
      ...how,
      async during() {
        await eventually('it says that it does not see', () => operator.operator.unready().length > 0, LONG)
      },
    })
    const before = users.rounds()
    await eventually('users are at work again', () => users.rounds() > before + 8, LONG)
    await users.stop()
    await cluster.settled(wanted)
    await eventually('it sees all again', () => operator.operator.unready().length === 0, LONG)
    await clear()
  })

  // the same in each run
  function* random(seed: number): Generator<number, never> {
    for (let state = seed; ; ) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      yield state / 2 ** 32
    }
  }

  const gone = JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'Expired', code: 410 })
  const ofWatches: readonly Fault[] = [
    { cut: 'before' },
    { cutAfterBytes: 700 },
    { status: 410, body: gone },
    { lines: line => line + line },
    { status: 429, headers: { 'retry-after': '1' } },
    { delayMs: 300 },
    { pieceBytes: 3 },
  ]
  const ofRequests: readonly Fault[] = [
    { cut: 'before' },
    { cut: 'after' },
    { status: 500, body: 'oops' },
    { status: 503 },
    { status: 429, headers: { 'retry-after': '1' } },
    { cutAfterBytes: 50 },
    { delayMs: 500 },
  ]

  it.each([1, 2])('connections that are cut, refused, delayed and too old (seed %i)', async seed => {
    const numbers = random(seed)
    const hits = new Map<string, number>()
    const faultFor = ({ isWatch }: Seen): Fault | undefined => {
      if (numbers.next().value > 0.35) return undefined
      const faults = isWatch ? ofWatches : ofRequests
      const n = Math.floor(numbers.next().value * faults.length)
      const name = `${isWatch ? 'watch' : 'request'} ${n}`
      hits.set(name, (hits.get(name) ?? 0) + 1)
      return faults[n]
    }
    // it begins among them, too
    proxy.fault = faultFor
    await start({ kubeconfig: proxy.kubeconfig('first') })
    const all = names(`cut${seed}`, 6)
    await Promise.all(all.map(publish))
    const users = churn(all)
    const isEnough = () => users.rounds() > 40 && hits.size === ofWatches.length + ofRequests.length
    const cuts = setInterval(() => proxy.cutAll(), 400)
    try {
      await eventually('every fault was there', isEnough, LONG)
    } finally {
      clearInterval(cuts)
      await users.stop()
      proxy.fault = undefined
    }
    await cluster.settled(wanted)
    await clear()
  })

  it('a server that asks every write for patience is given it, and all is written in the end', async () => {
    await start({ kubeconfig: proxy.kubeconfig('first') })
    let refused = 0
    proxy.fault = ({ method }) =>
      method !== 'GET' && refused < 12 && ++refused ? { status: 429, headers: { 'retry-after': '1' } } : undefined
    await begin('patient', 4)
    expect(refused).toBe(12)
    await clear()
  })

  describe('with another operator', () => {
    beforeAll(() => cluster.settings({ inOneProcess: true }))
    afterAll(() => cluster.settings())

    const mortal = () => {
      const point = new CrashPoint()
      const through = (inner: ConstructorParameters<typeof CrashingStore>[0]) => new CrashingStore(inner, point)
      const die = () => {
        point.hasEnded = true
      }
      const live = () => {
        point.hasEnded = false
      }
      return { through, die, live }
    }

    it('one leads; it ends without a word in the middle of its work, and the other goes on; it comes back, and follows', async () => {
      const { through, die, live } = mortal()
      const a = await start({ leaderElect: true, identity: 'a', through })
      await eventually('a leads', () => a.operator.isActing, LONG)
      const b = await start({ leaderElect: true, identity: 'b' })
      const objects = await begin('led', 6)
      expect([a.operator.isActing, b.operator.isActing]).toEqual([true, false])
      expect([...b.store.requests.keys()].filter(what => /^(create|update)/.test(what))).toEqual([])
      for (const name of objects) await move(name)
      die()
      for (const name of objects) await move(name)
      await publish('led-late')
      await remove(objects[0]!)
      await eventually('b leads', () => b.operator.isActing, LONG)
      await eventually('a knows that it does not', () => !a.operator.isActing, LONG)
      await cluster.settled(wanted)
      live()
      await publish('led-later')
      await cluster.settled(wanted)
      expect([a.operator.isActing, b.operator.isActing]).toEqual([false, true])
      // one that ends in order gives the Lease back
      running.splice(running.indexOf(b), 1)
      await b.stop()
      await eventually('a leads again', () => a.operator.isActing, { withinMs: 14_000 })
      await clear()
    })

    it('both act at once', async () => {
      const [a, b] = [await start({ identity: 'a' }), await start({ identity: 'b' })]
      const objects = await begin('both', 8)
      const users = churn(objects)
      await eventually('users are at work', () => users.rounds() > 60, LONG)
      await users.stop()
      await cluster.settled(wanted)
      expect([a.operator.isActing, b.operator.isActing]).toEqual([true, true])
      // each was refused what the other had decided meanwhile
      const conflicts = [a, b].map(({ store }) => [...store.requests].some(([what]) => what.endsWith(' 409')))
      expect(conflicts).toContain(true)
      await clear()
      await eventually('they find an end', async () => {
        const versions = await cluster.versions()
        await new Promise(resolve => setTimeout(resolve, 1000))
        return (await cluster.versions()).join() === versions.join()
      })
    })
  })
})
