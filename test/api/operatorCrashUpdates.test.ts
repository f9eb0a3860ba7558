/**
 * The operator publishes by dynamic update into zones of others (Knot DNS), and ends at its n-th write, of the API server or of a zone, for every n: before
 * it, or when the answer is lost. Another operator goes on, and in the end the zones hold what others have and what the objects say, record for record: no
 * record and no mark left over, none of others touched, no reference lost, no object kept by its finalizer.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../dns/programs.ts'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import type { When } from '../support/crashPoint.ts'
import { CrashRuns } from '../support/crashRuns.ts'
import { UPDATE } from '../support/dnsRelay.ts'
import { OperatorCluster } from '../support/operatorCluster.ts'

const problem = ownApiServerProblem() ?? (has('knotd') ? undefined : 'the program knotd is not installed')
if (problem) process.stdout.write(`skipped: the operator ends at every update: ${problem}\n`)

type Step = (runs: CrashRuns, name: string) => Promise<void>

interface History {
  prepare: Step
  act: Step
  /** UPDATE messages at least: each zone has its own */
  updates: number
}

const ALIAS = 'alias'
const publish: Step = (runs, name) => runs.publish(name)
const publishes: History = { prepare: async () => {}, act: publish, updates: 2 }
const moves: History = { prepare: publish, act: (runs, name) => runs.move(name), updates: 1 }
const renames: History = {
  prepare: publish,
  act: (runs, name) => runs.rename(name, `${ALIAS}-${name}`),
  updates: 2,
}
const givesAway: History = {
  prepare: (runs, name) => runs.publish(name, { alias: `${ALIAS}-${name}` }),
  act: async (runs, name) => {
    await runs.rename(name, `former-${name}`)
    await runs.publish(runs.name(), { alias: `${ALIAS}-${name}` })
  },
  updates: 2,
}
const withdraws: History = { prepare: publish, act: (runs, name) => runs.remove(name), updates: 2 }

const isUpdate = (what: string) => what === UPDATE

describe.skipIf(problem)('the operator at every write and every update', { timeout: 400_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster
  let runs: CrashRuns

  beforeAll(async () => {
    server = await startOwnApiServer('operator-crash-updates')
    cluster = await OperatorCluster.open(server.kubeconfig)
    await cluster.startGateway()
    const { relay } = await cluster.publishByUpdates({ transfer: true })
    runs = new CrashRuns(cluster, point => {
      relay.point = point
    })
  })
  afterEach(() => runs?.stop())
  afterAll(async () => {
    await cluster?.close()
    await server?.stop()
  })

  // what comes first, an update or a status, is chance: so each is counted for itself
  async function endAtEach(when: When, { prepare, act }: History, counts: (what: string) => boolean): Promise<number> {
    const ends = await runs.endAtEach(
      when,
      name => prepare(runs, name),
      name => act(runs, name),
      counts,
    )
    return ends.length
  }

  describe.each<When>(['before', 'after'])('ending %s it', when => {
    describe('a server that shows whole zones', () => {
      beforeAll(async () => void (await cluster.publishByUpdates({ transfer: true })))

      it.each([
        ['publishes', publishes],
        ['follows a target that moved', moves],
        ['renames', renames],
        ['gives a name to another object', givesAway],
        ['withdraws', withdraws],
      ])('each update while it %s', async (_, history) => {
        expect(await endAtEach(when, history, isUpdate)).toBeGreaterThanOrEqual(history.updates)
      })

      it.each([
        ['publishes', publishes],
        ['follows a target that moved', moves],
        ['renames', renames],
        ['withdraws', withdraws],
      ])('each write to the API server while it %s', async (_, history) => {
        expect(await endAtEach(when, history, what => !isUpdate(what))).toBeGreaterThanOrEqual(2)
      })
    })

    // what was published, and is not asked for any more, is known by the objects alone
    describe('a server that answers for one name at a time', () => {
      beforeAll(async () => void (await cluster.publishByUpdates({ transfer: false })))

      it.each([
        ['renames', renames],
        ['withdraws', withdraws],
      ])('each update while it %s', async (_, history) => {
        expect(await endAtEach(when, history, isUpdate)).toBeGreaterThanOrEqual(history.updates)
      })

      it('each write to the API server while it renames', async () => {
        expect(await endAtEach(when, renames, what => !isUpdate(what))).toBeGreaterThanOrEqual(2)
      })
    })
  })
})
