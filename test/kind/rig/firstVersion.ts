/**
 * The chart as it was first committed, and the programs of that time: where an upgrade begins.
 *
 *   git archive ──► chart, packaged by helm                    ──► helm install
 *              └──► sources, over those of the image of today  ──► an image FROM it, so nodes need its last layers alone
 *
 * The programs are of the first commit that had a Dockerfile: those three minutes older do not start. Dependencies did not change since. Their operator wants one
 * right that their chart does not give; whoever ran it had to add that, and so does `valuesOfFirst`. Their rules name protocols, which slim bases do not know.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runProgram } from '../../support/netns.ts'
import { type Cluster, NAMESPACE } from './cluster.ts'
import { loadLayers } from './layers.ts'
import { docker, ROOT, tell } from './programs.ts'

const CHART_COMMIT = '5cc0c1cac2c7'
const PROGRAMS_COMMIT = '6f4432cd6eeb'
const IMAGE = 'ipref:first'
const PROTOCOLS = ['icmp 1', 'tcp 6', 'udp 17', 'ipv6-icmp 58', 'sctp 132']
const FOLDERS = ['ipref', 'runtime', 'dns', 'resources', 'gateway', 'operator', 'cli']

/** Why there is no first version here. */
export async function firstVersionProblem(): Promise<string | undefined> {
  for (const commit of [CHART_COMMIT, PROGRAMS_COMMIT]) {
    const { code } = await runProgram(['git', '-C', ROOT, 'cat-file', '-e', `${commit}^{commit}`])
    if (code !== 0) return `this clone has no history: git fetch --unshallow brings commit ${commit}`
  }
  return undefined
}

export interface FirstVersion {
  /** chart, packaged */
  chart: string
  /** on all nodes of the cluster */
  image: string
  remove(): void
}

export async function makeFirstVersion(cluster: Cluster, present: string): Promise<FirstVersion> {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-first-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  try {
    await unpack(CHART_COMMIT, ['helm/ipref'], folder)
    await unpack(PROGRAMS_COMMIT, ['package.json', ...FOLDERS], folder)
    writeFileSync(join(folder, 'Dockerfile'), dockerfile(present))
    await tell(['docker', 'build', '--tag', IMAGE, folder], { timeoutMs: 300_000 })
    await loadLayers(
      cluster.facts.nodes.map(({ name }) => name),
      IMAGE,
      present,
    )
    const said = await cluster.helm(['package', join(folder, 'helm/ipref'), '--destination', folder])
    return { chart: said.split(' ').at(-1)!, image: IMAGE, remove }
  } catch (error) {
    remove()
    throw error
  }
}

export async function removeFirstImage(): Promise<void> {
  await docker('image', 'rm', '--force', IMAGE)
}

/** What is added to the values of today. */
export const valuesOfFirst = `extraObjects:
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: Role
    metadata: { name: first-chart, namespace: ${NAMESPACE} }
    rules: [{ apiGroups: [""], resources: [configmaps], resourceNames: [ipref-network], verbs: [list, watch] }]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: { name: first-chart, namespace: ${NAMESPACE} }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: first-chart }
    subjects: [{ kind: ServiceAccount, name: ipref-operator, namespace: ${NAMESPACE} }]
`

async function unpack(commit: string, paths: readonly string[], folder: string): Promise<void> {
  const archive = join(folder, `${commit}.tar`)
  await tell(['git', '-C', ROOT, 'archive', '--output', archive, commit, ...paths])
  await tell(['tar', '-xf', archive, '-C', folder])
  rmSync(archive)
}

function dockerfile(present: string): string {
  const copies = FOLDERS.map(name => `COPY ${name} /opt/ipref/${name}\n`).join('')
  return `FROM ${present}
USER 0:0
RUN cd /opt/ipref && rm -rf ${FOLDERS.join(' ')} && printf '%s\\n' ${PROTOCOLS.map(one => `'${one}'`).join(' ')} >/etc/protocols
COPY package.json /opt/ipref/
${copies}USER 65532:65532
`
}
