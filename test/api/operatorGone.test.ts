/** Uninstalled and installed again, with many objects that stay: none says meanwhile that it is served, and each is served again afterwards. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cleanUp } from '../../operator/cleanup.ts'
import { API_VERSION } from '../../resources/kinds.ts'
import { systemClock } from '../../runtime/clock.ts'
import { type ApiServer, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { eventually } from '../support/netns.ts'
import { conditionOf, NAMESPACE, OperatorCluster, type Wanted } from '../support/operatorCluster.ts'
import { silentLog } from '../support/silentLog.ts'

const COUNT = 150
const AT_ONCE = 20

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: the operator is uninstalled: ${problem}\n`)

describe.skipIf(problem)('objects that outlive the operator', { timeout: 600_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster

  beforeAll(async () => {
    server = await startOwnApiServer('operator-gone')
    cluster = await OperatorCluster.open(server.kubeconfig)
  })
  afterAll(async () => {
    await cluster?.close()
    await server?.stop()
  })

  it('say so, and are Ready again when another comes', async () => {
    await cluster.startGateway()
    const first = await cluster.startOperator({ leaderElect: true })
    const wanted: Record<string, Wanted> = {}
    for (let i = 0; i < COUNT; i++) wanted[`stays-${i}`] = { address: `172.20.${16 + (i >> 8)}.${i & 255}` }
    const names = Object.keys(wanted)
    for (let i = 0; i < COUNT; i += AT_ONCE)
      await Promise.all(names.slice(i, i + AT_ONCE).map(name => cluster.publish(name, wanted[name]!)))
    const peer = { apiVersion: API_VERSION, kind: 'IprefPeer' as const, metadata: { name: 'other' } }
    await cluster.users.create('IprefPeer', { ...peer, spec: { gateway: { address: '203.0.113.9' } } })
    await cluster.settled(wanted)
    const peerReason = async () =>
      (await cluster.users.get('IprefPeer', peer.metadata))?.status?.conditions?.find(({ type }) => type === 'Ready')
        ?.reason
    await eventually('the peer was looked at', async () => (await peerReason()) !== undefined, { withinMs: 180_000 })

    const left = await cleanUp(
      {
        namespace: NAMESPACE,
        settings: 'ipref-config',
        identity: 'cleanup',
        gateways: undefined,
        nodeCleanup: undefined,
        operators: undefined,
        patienceMs: 120_000,
      },
      { store: cluster.users, clock: systemClock, log: silentLog },
    )
    expect(left).toEqual([])
    // while the hook holds the Lease it rests, and then its pod goes
    expect(first.operator.isActing).toBe(false)
    await first.stop()
    await cluster.stopGateway()
    const objects = await cluster.users.list('IprefService')
    expect(objects).toHaveLength(COUNT)
    const said = objects.map(object =>
      ['Accepted', 'Mapped', 'PublishedInternal', 'PublishedPublic', 'Ready'].map(type => {
        const { status, reason } = conditionOf(object, type)!
        return `${type} ${status} ${reason}`
      }),
    )
    const gone = (type: string) => `${type} Unknown OperatorGone`
    expect([...new Set(said.map(all => all.join()))]).toEqual([
      ['Accepted True Accepted', ...['Mapped', 'PublishedInternal', 'PublishedPublic', 'Ready'].map(gone)].join(),
    ])
    expect(await peerReason()).toBe('OperatorGone')

    // references are the same: the ledger of the cluster sees to it
    await cluster.startOperator()
    await cluster.startGateway()
    await cluster.settled(wanted)
    await eventually('so is the peer', async () => (await peerReason()) !== 'OperatorGone', { withinMs: 180_000 })
  })
})
