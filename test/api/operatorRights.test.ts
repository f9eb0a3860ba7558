/** What the operator must be allowed is what it says it needs, no more; one right that is missing is named, and the rest goes on. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { neededRights, type Right } from '../../operator/rights.ts'
import type { KindName } from '../../resources/kinds.ts'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { eventually } from '../support/netns.ts'
import { conditionOf, NAMESPACE, OperatorCluster, type RunningOperator } from '../support/operatorCluster.ts'
import { makeRestrictedUser, type RestrictedUser } from '../support/restrictedUser.ts'

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: rights of the operator: ${problem}\n`)

/** All but one verb of one kind; `status/update`: of its status. */
function without(kind: KindName, verb: string): Right[] {
  const drop = (right: Right): Right =>
    verb.startsWith('status/')
      ? { ...right, status: right.status?.filter(one => `status/${one}` !== verb) ?? [] }
      : { ...right, verbs: right.verbs.filter(one => one !== verb) }
  return neededRights.map(right => (right.kind === kind ? drop(right) : right))
}

describe.skipIf(problem)('the operator as a service account', { timeout: 240_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster
  let user: RestrictedUser
  let operator: RunningOperator | undefined
  const folder = mkdtempSync(join(tmpdir(), 'ipref-rights-'))

  beforeAll(async () => {
    server = await startOwnApiServer('operator-rights')
    cluster = await OperatorCluster.open(server.kubeconfig)
    await cluster.startGateway()
    const file = join(folder, 'kubeconfig')
    user = await makeRestrictedUser(server.kubeconfig, { namespace: NAMESPACE, name: 'operator', file })
  })
  afterEach(async () => {
    await operator?.stop()
    operator = undefined
  })
  afterAll(async () => {
    await cluster?.close()
    await server?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const start = async (leaderElect = false) => {
    operator = await cluster.startOperator({ kubeconfig: user.kubeconfig, leaderElect })
    return operator
  }
  const said = (what: RegExp) => operator!.log.filter(line => what.test(line))

  it('needs no more than it says', async () => {
    await user.allow(neededRights)
    const { operator: running, log } = await start(true)
    await cluster.publish('web', { address: '172.20.0.1' })
    await cluster.settled({ web: { address: '172.20.0.1' } })
    await cluster.move('web', '172.20.0.2')
    await cluster.settled({ web: { address: '172.20.0.2' } })
    await cluster.remove('web')
    await cluster.settled({})
    expect(running.unready()).toEqual([])
    expect(log.filter(line => /orbidden|\(403\)/.test(line))).toEqual([])
    expect((await cluster.users.list('Event')).some(({ reason }) => reason === 'Ready')).toBe(true)
  })

  it('does not begin where it cannot see what it decides on, and names all that is missing', async () => {
    await user.allow(without('Pod', 'watch').map(right => (right.kind === 'Node' ? { ...right, verbs: [] } : right)))
    const starting = start()
    await expect(starting).rejects.toThrow(/list Node: .*cannot list resource "nodes".*\(403\)/)
    await expect(starting).rejects.toThrow(/Node[\s\S]*give the role/)
    await user.allow(without('ConfigMap', 'list'))
    await expect(start()).rejects.toThrow(/list ConfigMap.*"configmaps".*namespace "ipref"/)
  })

  it('goes on without what it can do without', async () => {
    await user.allow(without('ServiceCIDR', 'list'))
    await start()
    expect(said(/list ServiceCIDR.*goes on without/)).toHaveLength(1)
    await cluster.publish('one', { address: '172.20.0.3' })
    await cluster.settled({ one: { address: '172.20.0.3' } })
  })

  it.each<[KindName, string, RegExp]>([
    ['IprefService', 'status/update', /may not update the status of IprefService: .*"iprefservices\/status"/],
    ['IprefReference', 'create', /may not create IprefReference: .*"iprefreferences"/],
    ['IprefService', 'update', /may not update IprefService: .*"iprefservices"/],
    ['ConfigMap', 'update', /may not update ConfigMap: .*"configmaps"/],
  ])('may not, of %s, %s: says so, does all else, and what is left when it may', async (kind, verb, what) => {
    const name = `${kind}-${verb}`.toLowerCase().replace('/', '-')
    await user.allow(without(kind, verb))
    await start()
    expect(operator!.operator.unready()).toEqual([])
    await cluster.publish(name, { address: '172.20.0.4' })
    const unready = await eventually('it is named', () => {
      const all = operator!.operator.unready()
      return all.some(line => what.test(line)) && all
    })
    expect(unready.filter(line => what.test(line))).toHaveLength(1)
    // others are brought in order all the same: a gateway that comes
    await cluster.users.create('Node', { apiVersion: 'v1', kind: 'Node', metadata: { name } })
    await eventually('the gateway of a new node', () => cluster.users.get('IprefGateway', { name }), {
      withinMs: 60_000,
    })
    // what was there before stays published
    const one = await cluster.object('one')
    expect(conditionOf(one!, 'Ready')?.status).toBe('True')
    expect((await cluster.object(name))!.metadata.deletionTimestamp).toBeUndefined()
    await user.allow(neededRights)
    await cluster.settled({ one: { address: '172.20.0.3' }, [name]: { address: '172.20.0.4' } })
    // writes of outputs have a back-off of their own
    await eventually('nothing is missing any more', () => operator!.operator.unready().length === 0, {
      withinMs: 60_000,
    })
    // said once, however often it was tried
    expect(said(new RegExp(`"msg":"may not .*${kind}.*the rest goes on without`))).toHaveLength(1)
    await cluster.users.delete('Node', { name })
    await cluster.remove(name)
    await cluster.settled({ one: { address: '172.20.0.3' } })
  })
})
