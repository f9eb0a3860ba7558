/**
 * The rig: two kind clusters with the same pod and service networks, a plain network with a NAT and a name server between them, and our chart in both.
 *
 *                        ipref-plain 198.51.100.0/24
 *   cluster A            │                           │           cluster B
 *   pods 10.244.0.0/16 ──┤ each node has its address ├── NAT ─── pods 10.244.0.0/16, nodes 10.51.0.0/24
 *   pub.a.example        │                           │           pub.b.example
 *                        └── knot, the public DNS ───┘
 *
 * `openRig` makes what is missing and uses what is there, so a rig that was left up is ready in seconds. Each stage says its time. `closeRig` removes all.
 */
import { join } from 'node:path'
import { runProgram } from '../../support/netns.ts'
import { Cluster, type ClusterFacts, type Node } from './cluster.ts'
import { buildImage, megabytesOf } from './image.ts'
import { installChart, introduce, loadImage, useRigDns } from './install.ts'
import {
  DNS_ADDRESS,
  INSIDE,
  makeNetworks,
  NAT_ADDRESS,
  PLAIN,
  removePlain,
  routeThroughNat,
  startDns,
  startNat,
} from './plain.ts'
import { clusterScript, docker, stage, tell } from './programs.ts'
import { type RigFacts, readState, removeState, writeState } from './state.ts'

const NAMES = { a: 'ipref-a', b: 'ipref-b' } as const

export interface Rig {
  a: Cluster
  b: Cluster
  image: string
}

/** Why there can be no rig here; undefined: it can be tried. */
export async function rigProblem(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'kind clusters with TUN devices need Linux'
  if (process.getuid?.() !== 0) return 'Docker and its nodes need root'
  return undefined
}

/** The rig of the state file, as it is; undefined: none is up. */
export function attachRig(): Rig | undefined {
  const facts = readState()
  return facts && rigOf(facts)
}

function rigOf(facts: RigFacts): Rig {
  return { a: new Cluster(facts.a), b: new Cluster(facts.b), image: facts.image }
}

export async function openRig(): Promise<Rig> {
  const programs = await stage('programs and node image', makePrograms)
  await stage('networks, NAT', async () => {
    await makeNetworks()
    await startNat()
  })
  const a = new Cluster(await stage('cluster A', () => makeCluster('a', PLAIN, programs)))
  const b = new Cluster(await stage('cluster B', () => makeCluster('b', INSIDE, programs)))
  await stage('routes, name server', async () => {
    await routeThroughNat(b.facts.nodes)
    await startDns({ gatewaysOfA: a.facts.publicAddresses })
    await Promise.all([useRigDns(a), useRigDns(b)])
  })
  const image = await stage('image', buildImage)
  process.stdout.write(`        ${image}: ${await megabytesOf(image)} MB\n`)
  await stage('a container of it from start to end (ipref version)', () => docker('run', '--rm', image, 'version'))
  await stage('image onto the nodes', () => loadImage([a, b], image))
  await stage('chart', async () => {
    // both to their end, whatever becomes of the other
    const outcomes = await Promise.allSettled([installChart(a, image), installChart(b, image)])
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  })
  await introduce(a, { name: 'b', gateway: 'gw.b.example', domain: 'b.example' })
  await introduce(b, { name: 'a', gateway: 'gw.a.example', domain: 'a.example' })
  writeState({ image, a: a.facts, b: b.facts, dns: DNS_ADDRESS })
  return { a, b, image }
}

/** kubectl, helm and kind, and Docker with the images that nodes need. */
async function makePrograms(): Promise<string> {
  const folder = await clusterScript(['install-tools', 'kind'])
  await clusterScript(['docker-up'])
  await clusterScript(['kind-image'])
  return folder
}

async function makeCluster(which: 'a' | 'b', network: string, programs: string): Promise<ClusterFacts> {
  const name = NAMES[which]
  const kubeconfig = await clusterScript(['kind-up', name, '2'], { KIND_EXPERIMENTAL_DOCKER_NETWORK: network })
  const nodes = await nodesOf(name, join(programs, 'kind'))
  return {
    name,
    kubeconfig,
    programs,
    nodes,
    publicZone: `pub.${which}.example`,
    internalZone: `${which}.internal`,
    publicAddresses: which === 'a' ? nodes.map(({ address }) => address) : [NAT_ADDRESS],
  }
}

async function nodesOf(cluster: string, kind: string): Promise<Node[]> {
  const names = (await tell([kind, 'get', 'nodes', '--name', cluster])).split('\n').sort()
  return Promise.all(
    names.map(async name => {
      const address = await docker(
        'container',
        'inspect',
        '--format',
        '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}',
        name,
      )
      return { name, address, isControlPlane: name.endsWith('control-plane') }
    }),
  )
}

/** Safe to repeat. The images stay, and Docker. */
export async function closeRig(): Promise<void> {
  for (const name of Object.values(NAMES)) await clusterScript(['kind-down', name])
  if ((await runProgram(['docker', 'info'])).code === 0) await removePlain()
  removeState()
}
