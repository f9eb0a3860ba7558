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

const ALIAS = 'alias'
const publish: Step = (runs, name) => runs.publish(name)
const histories: [string, { prepare: Step; act: Step; updates: number }][] = [
  // each zone is a message of its own, but where names only go
  ['publishes', { prepare: async () => {}, act: publish, updates: 2 }],
  ['follows a target that moved', { prepare: publish, act: (runs, name) => runs.move(name), updates: 1 }],
  ['renames', { prepare: publish, act: (runs, name) => runs.rename(name, `${ALIAS}-${name}`), updates: 2 }],
  [
    'gives a name to another object',
    {
      prepare: (runs, name) => runs.publish(name, { alias: `${ALIAS}-${name}` }),
      act: async (runs, name) => {
        await runs.rename(name, `former-${name}`)
        await runs.publish(runs.name(), { alias: `${ALIAS}-${name}` })
      },
      updates: 2,
    },
  ],
  ['withdraws', { prepare: publish, act: (runs, name) => runs.remove(name), updates: 2 }],
]

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

  describe.each<[string, boolean]>([
    ['a server that shows whole zones', true],
    ['a server that answers for one name at a time', false],
  ])('%s', (_, transfer) => {
    beforeAll(async () => void (await cluster.publishByUpdates({ transfer })))

    describe.each<When>(['before', 'after'])('ending %s', when => {
      // what comes first, an update or a status, is chance: so each is counted for itself
      it.each(histories)('each update while it %s', async (_what, { prepare, act, updates }) => {
        const ends = await runs.endAtEach(
          when,
          name => prepare(runs, name),
          name => act(runs, name),
          what => what === UPDATE,
        )
        expect(ends.length).toBeGreaterThanOrEqual(updates)
      })

      it.each(histories)('each write to the API server while it %s', async (_what, { prepare, act }) => {
        const ends = await runs.endAtEach(
          when,
          name => prepare(runs, name),
          name => act(runs, name),
          what => what !== UPDATE,
        )
        expect(ends.length).toBeGreaterThanOrEqual(2)
      })
    })
  })
})
