/**
 * The life of a release: installed, upgraded, rolled back, uninstalled; and what is left of it then, on nodes and in the cluster.
 *
 *   uninstall ─ the first chart, with its programs ─ today's ─ other values ─ back ─ uninstall ─ install, definitions deleted, uninstall
 *        └ nodes compared ───────────────────────────────────────────────────────────┘ and again ──────────────────────────────────┘
 *
 * All in cluster B, with a pod there that talks to one in A throughout. What is promised: references and encoded addresses are the same before and after each
 * change, and nothing but what people wrote outlives the release. Rolling back to the first programs is not possible: they take an address of their
 * own VXLAN device for somebody else's, and do not start.
 */
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { CHART, type Cluster, type KubeObject, NAMESPACE, RELEASE } from './rig/cluster.ts'
import { firstVersionProblem, makeFirstVersion, removeFirstImage, valuesOfFirst } from './rig/firstVersion.ts'
import { installChart, introduce, valuesOf } from './rig/install.ts'
import { differences, type NodeState, stateOfNodes } from './rig/nodeState.ts'
import { askDns } from './rig/plain.ts'
import { addressesOf, type Client, pings, soon, startClients, webServers } from './rig/pods.ts'
import type { Rig } from './rig/rig.ts'
import { writeRigFile } from './rig/state.ts'
import { Stream, told } from './rig/stream.ts'

const PLACE = 'life'
const SERVICE = `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: web, namespace: ${PLACE}}
spec:
  target: {pods: {selector: {matchLabels: {app: web}}}}
`
const OURS = /ipref|10\.176\.0\.0\/|10\.17[6-9]\.|10\.18\d\.|10\.19[01]\./
const DATA = '/var/lib/ipref'
/** differences that are shown */
const MOST = 30

type Nodes = Record<string, NodeState>

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const { a, b } = rig
  let before: Nodes = {}
  let corefile = ''
  if (!(await isInstalled(b))) await installChart(b, rig.image)
  await a.apply(`${webServers(PLACE, 1)}---\n${SERVICE}`)
  await checks.check('uninstalled: nodes without a mark of ours, the store of mappings kept', async () => {
    await uninstall(b)
    before = await settled(b)
    const marks = linesOf(before).filter(line => OURS.test(line) && !line.startsWith(DATA))
    expectThat(marks.length === 0, `left behind:\n${marks.slice(0, MOST).join('\n')}`)
    expectThat(linesOf(before).includes(`${DATA}/mappings.db`), `no ${DATA}/mappings.db`)
    for (const { name } of b.facts.nodes) await b.onNode(name, `rm -rf ${DATA}`)
    before = await settled(b)
    corefile = await corefileOf(b)
    expectThat(!corefile.includes('ipref'), corefile)
    return undefined
  })
  await checks.check('uninstalled: of ours in the cluster, only what people wrote', () => leftovers(b))
  await checkChanges(checks, rig)
  await checks.check('uninstalled with removeData: nodes as they were before the first install', async () => {
    await uninstall(b)
    const changes = differences(before, await settled(b))
    expectThat(changes.length === 0, changes.slice(0, MOST).join('\n'))
    expectSame('the Corefile', await corefileOf(b), corefile)
    return undefined
  })
  await checks.check('uninstalled: again, only what people wrote; no record in the public zone', async () => {
    const name = `web.${PLACE}.${b.facts.publicZone}`
    expectSame(`TXT of ${name}`, (await askDns(name, 'TXT')).join(' '), '')
    return leftovers(b)
  })
  await checks.check('a namespace with IprefServices in it can be deleted then', async () => {
    await b.kubectl(['delete', 'namespace', PLACE, '--timeout=90s'], { timeoutMs: 120_000 })
    return undefined
  })
  await checks.check('uninstalled when definitions and objects are gone, or going', async () => {
    await upgrade(b, { image: rig.image, more: 'cleanup: { removeData: true }\n' })
    const kinds = ['iprefgateways', 'iprefpeers', 'iprefreferences', 'iprefservices'].map(kind => `${kind}.ipref.io`)
    await b.kubectl(['delete', 'crd', ...kinds, '--wait=false'])
    await uninstall(b)
    await soon(
      'no definition is left',
      async () => (await b.kubectl(['get', 'crd', '-o', 'name'])).includes('ipref.io') === false,
    )
    const changes = differences(before, await settled(b))
    expectThat(changes.length === 0, changes.slice(0, MOST).join('\n'))
    return leftovers(b)
  })
  await a.kubectl(['delete', 'namespace', PLACE, '--timeout=120s'], { timeoutMs: 150_000 })
}

/** The first chart, then today's, then back from other values. */
async function checkChanges(checks: Checks, rig: Rig): Promise<void> {
  const { a, b, image } = rig
  let talk: Talk | undefined
  const problem = await firstVersionProblem()
  if (problem) {
    checks.skip('the first chart, with its programs', problem)
    await checks.check('installed', () => upgrade(b, { image }))
  } else {
    await checks.check('the first chart, with its programs', async () => {
      const first = await makeFirstVersion(b, image)
      try {
        await upgrade(b, { image: first.image, chart: first.chart, more: valuesOfFirst })
      } finally {
        first.remove()
      }
      return undefined
    })
  }
  await checks.check('objects, and a pod that talks to one in A', async () => {
    await introduce(b, { name: 'a', gateway: 'gw.a.example', domain: 'a.example' })
    await b.apply(`${webServers(PLACE, 1)}---\n${SERVICE}`)
    await b.waitFor('condition=Ready', 'iprefservice/web', PLACE)
    talk = await Talk.start(b, `web.${PLACE}.${a.facts.publicZone}`)
    return `${talk.facts.address}; references ${talk.facts.references}`
  })
  if (!talk) return
  const kept = talk
  const change = (name: string, work: () => Promise<unknown>) =>
    checks.check(`${name}: references, objects and encoded addresses are kept`, async () => {
      kept.stream.mark()
      await work()
      return kept.same()
    })
  await change('upgraded to the chart of today', () => upgrade(b, { image, more: 'cleanup: { removeData: true }\n' }))
  await change('upgraded, with other values', () => upgrade(b, { image, more: 'gateway: { logLevel: debug }\n' }))
  await change('rolled back', () => b.helm(['rollback', RELEASE, '--wait', '--timeout', '4m']))
  kept.stream.stop()
  if (!problem) await removeFirstImage().catch(() => {})
}

/** What must be the same after a change: a stream of packets, its address, and what the cluster knows. */
class Talk {
  readonly stream: Stream
  readonly facts: { address: string; references: string; mappings: string }
  readonly #cluster: Cluster
  readonly #client: Client
  readonly #name: string

  private constructor(cluster: Cluster, client: Client, name: string, stream: Stream, facts: Talk['facts']) {
    this.#cluster = cluster
    this.#client = client
    this.#name = name
    this.stream = stream
    this.facts = facts
  }

  static async start(cluster: Cluster, name: string): Promise<Talk> {
    const client = (await startClients(cluster)).find(one => one.node === cluster.workers[0]!.name)!
    const [address = ''] = await soon(`${name} resolves`, async () => {
      const found = await addressesOf(client, name)
      return found.length > 0 && found
    })
    await soon(`${address} answers`, () => pings(client, address).then(() => true))
    const stream = await Stream.start(client, address)
    return new Talk(cluster, client, name, stream, { address, ...(await knownOf(cluster)) })
  }

  async same(): Promise<string> {
    await this.stream.untilAnswers(60)
    const flow = told(this.stream.flow())
    const known = await soon('objects are as they were', async () => {
      const found = await knownOf(this.#cluster)
      return JSON.stringify(found) === JSON.stringify(knownPart(this.facts)) && found
    }).catch(async () => knownOf(this.#cluster))
    expectSame('references', known.references, this.facts.references)
    expectSame('mappings', known.mappings, this.facts.mappings)
    const addresses = await soon(`${this.#name} resolves`, async () => {
      const found = await addressesOf(this.#client, this.#name)
      return found.length > 0 && found
    })
    expectThat(addresses.includes(this.facts.address), `${this.facts.address} was given, now ${addresses.join(' ')}`)
    await this.#cluster.waitFor('condition=Ready', 'iprefservice/web', PLACE)
    return flow
  }
}

function knownPart({ references, mappings }: Talk['facts']): Omit<Talk['facts'], 'address'> {
  return { references, mappings }
}

async function knownOf(cluster: Cluster): Promise<Omit<Talk['facts'], 'address'>> {
  const claims = await cluster.list('iprefreferences')
  const services = await cluster.list('iprefservices', '--all-namespaces')
  const shown = ({ metadata, status }: KubeObject) => `${metadata.name}=${JSON.stringify(status?.mappings)}`
  return {
    references: claims
      .map(({ metadata }) => metadata.name)
      .sort()
      .join(' '),
    mappings: services.map(shown).sort().join(' '),
  }
}

interface Version {
  image: string
  chart?: string
  /** values beside those of the rig */
  more?: string
}

async function upgrade(cluster: Cluster, { image, chart = CHART, more = '' }: Version): Promise<undefined> {
  const values = writeRigFile(`life-${cluster.name}.yaml`, `${valuesOf(cluster, image)}${more}`)
  await cluster.helm(['upgrade', '--install', RELEASE, chart, '--values', values, '--wait', '--timeout', '4m'])
  return undefined
}

/** Not after a run of this file that came to its end. */
async function isInstalled(cluster: Cluster): Promise<boolean> {
  return (await cluster.helm(['list', '--short'])).split('\n').includes(RELEASE)
}

async function uninstall(cluster: Cluster): Promise<void> {
  await cluster.helm(['uninstall', RELEASE, '--wait', '--timeout', '6m'])
}

/** kube-proxy takes rules of Services away some seconds after these are gone. */
async function settled(cluster: Cluster): Promise<Nodes> {
  let last = await stateOfNodes(cluster)
  return soon('the state of the nodes rests', async () => {
    await new Promise(resolve => setTimeout(resolve, 3000))
    const now = await stateOfNodes(cluster)
    const isSame = differences(last, now).length === 0
    last = now
    return isSame && now
  })
}

function linesOf(nodes: Nodes): string[] {
  return Object.values(nodes).flatMap(state => Object.values(state).flat())
}

function corefileOf(cluster: Cluster): Promise<string> {
  return cluster.kubectl(['-n', 'kube-system', 'get', 'configmap', 'coredns', '-o', 'jsonpath={.data.Corefile}'])
}

/** Throws what should not be there. */
async function leftovers(cluster: Cluster): Promise<string> {
  const names = 'deployments,daemonsets,pods,services,configmaps,secrets,leases,serviceaccounts,roles,rolebindings,jobs'
  const all = async (kinds: string, ...more: string[]) =>
    (await cluster.kubectl(['get', kinds, '--ignore-not-found', '-o', 'name', ...more])).split('\n').filter(Boolean)
  const inNamespace = await soon('pods of ours have ended', async () => {
    const found = await all(names, '-n', NAMESPACE)
    return !found.some(name => name.startsWith('pod/')) && found
  })
  const theirs = /configmap\/kube-root-ca.crt|secret\/dns-key|serviceaccount\/default/
  const wide = await all(
    'clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings',
  )
  const left = [...inNamespace.filter(name => !theirs.test(name)), ...wide.filter(name => name.includes('ipref'))]
  const kinds = (await all('customresourcedefinitions')).filter(name => name.includes('ipref.io'))
  if (kinds.length > 0) {
    left.push(...(await all('iprefgateways')))
    for (const { metadata } of await cluster.list('iprefservices', '--all-namespaces')) {
      const { finalizers = [] } = metadata as { finalizers?: string[] }
      if (finalizers.length > 0)
        left.push(`${metadata.namespace}/${metadata.name} has finalizers ${finalizers.join(' ')}`)
    }
  }
  expectThat(left.length === 0, `left behind:\n${left.join('\n')}`)
  return kinds.length > 0 ? `${kinds.length} definitions stay` : ''
}
