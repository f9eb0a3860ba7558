/** `ipref check -kube`: what conditions, pods and nodes say, what is run in which pod, and what is said where that does not go. */
import { describe, expect, it } from 'vitest'
import { checkCluster, stepOfPod, stepsOfObjects, stepsOfPeer } from '../../../cli/clusterCheck.ts'
import { checkInPod, kubectlArguments, type Outcome } from '../../../cli/podExec.ts'
import { API_VERSION, type IprefPeer, type Node, type Pod } from '../../../resources/kinds.ts'

const EXEC = { namespace: 'ipref', pod: 'ipref-gateway-x', cluster: ['--context', 'one'] }
const answering = (outcome: Partial<Outcome>) => async () => ({ code: 0, stdout: '', stderr: '', ...outcome })
const row = { namespace: 'shop', name: 'web', mappings: [], ageSeconds: 1 }

describe('objects', () => {
  it('are right when they are ready, wrong when they are not, and doubtful when nobody knows', () => {
    const { steps } = stepsOfObjects({
      problems: ['IprefGateways cannot be read'],
      services: [
        { ...row, ready: 'True', reason: 'Ready', message: '' },
        { ...row, ready: 'False', reason: 'NoReadyEndpoints', message: 'none of 2 is ready' },
        { ...row, ready: 'Unknown', reason: 'NotSeen', message: 'nobody has looked' },
      ],
    })
    expect(steps.map(({ ok, warns }) => `${ok} ${warns ?? false}`)).toEqual([
      'true true',
      'true false',
      'false false',
      'true true',
    ])
    expect(steps[2]).toMatchObject({ what: 'IprefService shop/web', detail: 'NoReadyEndpoints: none of 2 is ready' })
    expect(steps[2]!.fix).toMatch(/./)
  })

  const peer = (status: IprefPeer['status']): IprefPeer => ({
    ...{ apiVersion: API_VERSION, kind: 'IprefPeer', metadata: { name: 'two', generation: 2 } },
    spec: { gateway: { address: '198.51.100.2' } },
    ...(status ? { status } : {}),
  })
  const condition = (type: string, status: 'True' | 'False', reason: string) => ({
    ...{
      type,
      status,
      reason,
      message: `${type} ${status}`,
      lastTransitionTime: '2030-01-01T00:00:00Z',
      observedGeneration: 2,
    },
  })

  it('a peer: each of its conditions', () => {
    const conditions = [condition('Accepted', 'True', 'Accepted'), condition('Reachable', 'False', 'Silent')]
    const steps = stepsOfPeer(peer({ observedGeneration: 2, conditions }))
    expect(steps.map(({ what, ok }) => [what, ok])).toEqual([
      ['accepted', true],
      ['reachable', false],
    ])
  })

  it.each([undefined, { observedGeneration: 1, conditions: [condition('Ready', 'True', 'Ready')] }])(
    'a peer that the operator has not seen as it is: %j',
    status => expect(stepsOfPeer(peer(status))).toMatchObject([{ what: 'operator', ok: false }]),
  )
})

describe('the pod of a gateway', () => {
  const pod = (status: Pod['status']): Pod => ({
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'gw', namespace: 'ipref' }, spec: { nodeName: 'n1' } },
    ...(status ? { status } : {}),
  })
  const node: Node = {
    ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } },
    status: { nodeInfo: { containerRuntimeVersion: 'containerd://2.1.0' } },
  }

  it('that runs', () => {
    const running = { containerStatuses: [{ name: 'gateway', state: { running: {} } }] }
    expect(stepOfPod(pod({ ...running, conditions: [{ type: 'Ready', status: 'True' }] }), [])).toEqual({
      ...{ what: 'pod gw', ok: true, detail: 'runs' },
    })
    expect(stepOfPod(pod(running), []).detail).toMatch(/not ready/)
  })

  it('that does not: why, and with which runtime', () => {
    const message = 'ipref gateway: starting\nipref gateway: /dev/net/tun is refused (EPERM)\n'
    const status = {
      containerStatuses: [
        {
          name: 'gateway',
          state: { waiting: { reason: 'CrashLoopBackOff' } },
          lastState: { terminated: { exitCode: 1, message } },
        },
      ],
    }
    expect(stepOfPod(pod(status), [node])).toMatchObject({
      ok: false,
      detail: 'does not run (containerd://2.1.0): CrashLoopBackOff: ipref gateway: /dev/net/tun is refused (EPERM)',
      fix: expect.stringContaining('gateway.privileged'),
    })
    expect(stepOfPod(pod({ phase: 'Pending' }), []).detail).toBe('does not run: Pending')
  })
})

describe('in a pod', () => {
  const checked = [{ subject: 'web.example.com', steps: [{ what: 'ping', ok: false, detail: 'silent' }] }]

  it('by kubectl exec', () => {
    expect(kubectlArguments(EXEC, ['web.example.com']).join(' ')).toBe(
      '--context one exec -n ipref ipref-gateway-x -c gateway -- ipref check web.example.com',
    )
  })

  it('what is wrong in there is an answer, though the exit code is 1', async () => {
    const run = answering({ code: 1, stdout: JSON.stringify(checked), stderr: 'command terminated with exit code 1' })
    expect(await checkInPod(EXEC, ['web.example.com'], run)).toEqual(checked)
  })

  it.each([
    {
      name: 'not permitted',
      outcome: { code: 1, stderr: 'Error from server (Forbidden): pods "x" is forbidden\nmore' },
      said: /is forbidden$/,
    },
    { name: 'no kubectl', outcome: { code: 127, stderr: 'spawn kubectl ENOENT' }, said: /ENOENT/ },
    {
      name: 'an older image',
      outcome: { code: 2, stdout: 'usage', stderr: 'ipref: unknown command check' },
      said: /unknown command/,
    },
    { name: 'JSON of another kind', outcome: { stdout: '[{"subject":1}]' }, said: /exit code 0/ },
  ])('$name: a warning, with the command for somebody who may', async ({ outcome, said }) => {
    const step = await checkInPod(EXEC, ["it's + 11"], answering(outcome))
    expect(step).toMatchObject({ ok: true, warns: true, detail: expect.stringMatching(said) })
    expect((step as { fix: string }).fix).toMatch(/kubectl --context one exec .* ipref check 'it'\\''s \+ 11'$/)
  })
})

it('a folder that is not there is a sentence', async () => {
  const args = { values: new Map([['manifests', '/nowhere']]), switches: new Set<string>(), rest: [] }
  const wanted = { args, settings: { namespace: undefined, operatorNamespace: 'ipref' }, tcp: [] }
  await expect(checkCluster({ ...wanted, local: async () => [] })).rejects.toThrow('/nowhere')
})
