/**
 * `kubectl ipref check` from a workstation: objects and the node of each gateway; a peer behind the NAT, from both sides; a Service of the other cluster by its
 * name, in the pod of a gateway.
 */
import { join } from 'node:path'
import type { Checked } from '../../cli/checkReports.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { runProgram } from '../support/netns.ts'
import { readmeService } from './publish.test.ts'
import type { Cluster } from './rig/cluster.ts'
import { soon, webServers } from './rig/pods.ts'
import { ROOT } from './rig/programs.ts'
import type { Rig } from './rig/rig.ts'

const NAMESPACE = 'shop'
const PATIENCE_MS = 300_000

export async function run(checks: Checks, { a, b }: Rig): Promise<void> {
  for (const cluster of [a, b])
    await checks.check(`${cluster.name}: objects, and the node of each gateway`, async () => {
      const { code, checked } = await check(cluster)
      expectSame(`exit code; ${said(checked)}`, code, 0)
      const nodes = checked.filter(one => one.subject.startsWith('node '))
      expectSame('nodes', nodes.length, cluster.facts.nodes.length)
      for (const { subject, steps } of nodes)
        for (const what of ['forwarding', 'FORWARD', 'tun', 'nftables', 'ready'])
          expectThat(
            steps.some(step => step.what === what && step.ok && !step.warns),
            `${subject}: no good ${what}`,
          )
      return `${nodes.length} nodes`
    })
  await checks.check('from A: the NAT in front of B changes the port', async () => {
    const { code, checked } = await check(a, 'b')
    expectSame(`exit code; ${said(checked)}`, code, 0)
    const port = stepsOf(checked).find(step => step.what === 'port')
    expectThat(port?.warns === true && /not 1045: a NAT there changes it/.test(port.detail), said(checked))
    return port!.detail
  })
  await checks.check('from B: the gateways of A are where they are expected', async () => {
    const { code, checked } = await check(b, 'a')
    expectSame(`exit code; ${said(checked)}`, code, 0)
    for (const what of ['reachable', 'peer', 'port', 'path'])
      expectThat(
        stepsOf(checked).some(step => step.what === what && step.ok && !step.warns),
        said(checked),
      )
    return undefined
  })
  for (const [from, to] of [
    [b, a],
    [a, b],
  ] as const)
    await checks.check(`${from.name} → ${to.name}: a Service by its name`, () => checkService(from, to))
}

async function checkService(from: Cluster, to: Cluster): Promise<string> {
  await to.apply(webServers(NAMESPACE, 1))
  await to.apply(readmeService())
  await to.waitFor('condition=Ready', 'iprefservice/web', NAMESPACE)
  const name = `web.${NAMESPACE}.${to.facts.publicZone}`
  return soon(`${name} accepts connections`, async () => {
    const { code, checked } = await check(from, name, '-tcp', '80')
    const steps = stepsOf(checked)
    expectSame(`exit code; ${said(checked)}`, code, 0)
    for (const what of ['TXT', 'path', 'TCP 80'])
      expectThat(
        steps.some(step => step.what === what && step.ok && !step.warns),
        `no good ${what}: ${said(checked)}`,
      )
    return `${steps
      .filter(step => step.what === 'TCP 80')
      .map(step => step.detail)
      .join(', ')}`
  })
}

interface Found {
  code: number
  checked: Checked[]
}

/** As a person types it: with kubectl and ours on PATH. */
async function check({ facts }: Cluster, ...words: string[]): Promise<Found> {
  const path = `PATH=${facts.programs}:${join(ROOT, 'cli')}:${process.env.PATH}`
  const argv = ['env', path, 'kubectl', 'ipref', 'check', ...words, '-json', '-kubeconfig', facts.kubeconfig]
  const { code, stdout, stderr } = await runProgram(argv, { timeoutMs: PATIENCE_MS })
  expectThat(stdout !== '', `it printed nothing but ${stderr}`)
  return { code, checked: JSON.parse(stdout) as Checked[] }
}

function stepsOf(checked: readonly Checked[]): Checked['steps'] {
  return checked.flatMap(one => one.steps)
}

function said(checked: readonly Checked[]): string {
  const lines = checked.flatMap(({ subject, steps }) =>
    steps.filter(step => !step.ok || step.warns).map(step => `${subject}: ${step.what}: ${step.detail}`),
  )
  return lines.join('\n')
}
