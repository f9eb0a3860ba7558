/**
 * What may end while a connection goes on: each packet worker, and the whole gateway by SIGKILL and SIGTERM (twoNetworks.ts).
 *
 * The TUN device, its addresses and routes stay in every case (decisions.md 12); only `-cleanup` removes them.
 */
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually } from '../support/netns.ts'
import { type Network, serveTraffic, startStream } from '../support/networks.ts'
import { ping } from '../support/probes.ts'
import type { StreamReport } from '../support/traffic.ts'
import { openTwoNetworks } from './twoNetworks.ts'

const ADDRESS = '10.240.4.4'
/** over IPv6, where network B has no line for the client */
const DYNAMIC_ADDRESS = '10.240.6.4'
const COMMITTED_WITHIN_MS = 500
const ENV = { IPREF_TEST: '1' }

export async function run(checks: Checks): Promise<void> {
  const { lab, a, b } = await openTwoNetworks(ENV)
  try {
    const client = a.host('client')
    await serveTraffic(b.host('server'))
    await ping(client, ADDRESS)
    let seed = 1
    const livesThrough = async (change: () => Promise<unknown>): Promise<string> => {
      const stream = startStream(client, ADDRESS, seed++)
      await stream.connected()
      await pause(200)
      await change()
      await pause(1000)
      const report = JSON.parse(await stream.end()) as StreamReport
      expectSame('every byte echoed', report.ok, true)
      return `longest gap ${report.longestGapMs} ms`
    }
    for (const [network, role] of [
      [a, 'encap'],
      [a, 'decap'],
      [b, 'encap'],
      [b, 'decap'],
    ] as const) {
      await checks.check(`a connection lives through a crash of ${role} in gateway ${network.plan.name}`, () =>
        livesThrough(() => crashWorker(network, role)),
      )
    }
    await checks.check('a connection lives through kill -9 and a new start of a gateway', () =>
      livesThrough(async () => {
        await a.stopGateway('SIGKILL')
        a.startGateway(ENV)
        await a.ready()
      }),
    )
    await checks.check('dynamic mappings are the same after kill -9 of the other gateway', async () => {
      await ping(client, DYNAMIC_ADDRESS)
      const before = await eventually('a dynamic mapping', async () => nonEmpty(await dynamicRows(b)))
      // nobody was promised this one (a promise waits for the disk, see test/durability), so its commit may be under way
      await pause(COMMITTED_WITHIN_MS)
      await b.stopGateway('SIGKILL')
      b.startGateway(ENV)
      await b.ready()
      const after = await dynamicRows(b)
      for (const row of before) expectThat(after.includes(row), `${row} is gone; now: ${after.join(', ')}`)
      return `${before.length}`
    })
    await checks.check('SIGTERM ends with exit code 0 and keeps the TUN device and its routes', async () => {
      expectSame('exit code', await a.stopGateway('SIGTERM'), 0)
      expectThat((await routesOf(a)).includes('10.240.0.0/12'), 'the route to the encoding network is gone')
      a.startGateway(ENV)
      await a.ready()
      await ping(client, ADDRESS)
      return undefined
    })
  } finally {
    await lab.close()
  }
}

async function crashWorker(network: Network, role: 'encap' | 'decap'): Promise<void> {
  const restarts = async () => (await network.status()).workers.find(worker => worker.role === role)!
  const before = (await restarts()).restarts
  await network.ask({ do: 'crash-worker', role })
  const isBack = async () => {
    const { running, restarts: now } = await restarts()
    return running && now === before + 1
  }
  await eventually(`${role} runs again`, isBack, { everyMs: 20 })
}

async function dynamicRows(network: Network): Promise<string[]> {
  const { mappings } = await network.status()
  return mappings.rows
    .filter(row => row.owner === 'dynamic' && !row.tentative)
    .map(row => `${row.relation} ${row.local} ${row.remote}`)
}

function nonEmpty(rows: string[]): string[] | undefined {
  return rows.length > 0 ? rows : undefined
}

async function routesOf(network: Network): Promise<string[]> {
  const routes = (await network.gateway.ipJson('route show dev ipref0')) as { dst: string }[]
  return routes.map(route => route.dst)
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
