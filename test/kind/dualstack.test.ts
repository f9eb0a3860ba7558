/**
 * Pods with an address of each IP version, in two clusters of their own beside the rig (rig/dualStack.ts).
 *
 *   pod of one cluster ── A or AAAA ──► resolver ──► an encoded address of that version for each reference at each gateway address
 *                      ── TCP, ICMP ──► a pod's IPv4 or IPv6 address, a Service's IPv4 or IPv6 address
 *
 * A target of two versions has two references, a gateway of two versions two addresses, and a name is all of them: each address of an answer has to work, by
 * the version that was asked for up to here, by that of the gateway's address between, and by that of the target at its end.
 */

import { formatAddress, parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import type { Cluster } from './rig/cluster.ts'
import {
  type DualCluster,
  dualStackProblem,
  ENCODING_NETWORKS,
  installDual,
  introduceDual,
  makeDualCluster,
  removeDualClusters,
  resolversOf,
} from './rig/dualStack.ts'
import { loadImage } from './rig/install.ts'
import { differences, stateOfNodes } from './rig/nodeState.ts'
import { soon, TCP_PORT } from './rig/pods.ts'
import type { Rig } from './rig/rig.ts'

type Family = 4 | 6
const FAMILIES = [4, 6] as const
const NAMESPACE = 'shop'
const CLIENTS = ['client-1', 'client-2']
const IMAGE = '{image: "ipref/toolbox:local", imagePullPolicy: Never, name: main, command: [sh, -c'
const ECHO = "'system:echo $SOCAT_PEERADDR $(hostname)'"
const LISTEN = 'fork,reuseaddr,backlog=64'
const SERVE = `socat -t9 tcp6-listen:${TCP_PORT},ipv6only=1,${LISTEN} ${ECHO} & exec socat -t9 tcp4-listen:${TCP_PORT},${LISTEN} ${ECHO}`

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const problem = await dualStackProblem()
  if (problem) return checks.skip('two clusters of two IP versions', problem)
  try {
    await runIn(checks, rig)
  } finally {
    await removeDualClusters()
  }
}

async function runIn(checks: Checks, rig: Rig): Promise<void> {
  const made: DualCluster[] = []
  const isUp = await checks.check('two clusters of two IP versions, the same networks in both', async () => {
    const all = await Promise.all([
      makeDualCluster('a', rig.a.facts.programs),
      makeDualCluster('b', rig.a.facts.programs),
    ])
    made.push(...all)
    const [ofA, ofB] = await Promise.all(all.map(({ cluster }) => networksOf(cluster)))
    expectSame('networks of the second', ofB, ofA)
    return ofA
  })
  const [a, b] = made
  if (!isUp || !a || !b) return
  const before = await stateOfNodes(b.cluster)
  const isInstalled = await checks.check(
    'chart, servers and clients in both; one knows the other by IPv6',
    async () => {
      const clusters = [a.cluster, b.cluster]
      await loadImage(clusters, rig.image)
      await Promise.all([installDual(a, rig.image), installDual(b, rig.image)])
      await Promise.all([introduceDual(a.cluster, b, 4), introduceDual(b.cluster, a, 6)])
      await Promise.all([a, b].map(({ cluster, nodes }) => cluster.apply(podsOn(nodes.map(({ name }) => name)))))
      for (const cluster of clusters) {
        for (const name of ['web', 'pod']) await cluster.waitFor('condition=Ready', `iprefservice/${name}`, NAMESPACE)
        for (const pod of CLIENTS) await cluster.waitFor('condition=Ready', `pod/${pod}`, NAMESPACE)
        await cluster.waitFor('condition=Ready', 'iprefpeer/other', NAMESPACE)
      }
      return undefined
    },
  )
  if (!isInstalled) return
  await checkDirection(checks, a.cluster, b.cluster, 4)
  await checkDirection(checks, b.cluster, a.cluster, 6)
  await checkClusterDns(checks, a.cluster, b.cluster)
  await checks.check(`${b.cluster.name}: helm uninstall leaves nothing of either version on the node`, async () => {
    await b.cluster.kubectl(['delete', 'namespace', NAMESPACE, '--timeout=120s'], { timeoutMs: 130_000 })
    await b.cluster.helm(['uninstall', 'ipref', '--wait', '--timeout', '5m'])
    let left: string[] = []
    await soon('the node is as it was', async () => {
      left = differences(before, await stateOfNodes(b.cluster))
      return left.length === 0
    }).catch((error: Error) => expectThat(false, [error.message, ...left].join('\n')))
    return undefined
  })
}

/** `web`, a Service of both versions with its pod, and the pod itself, published; clients on the first nodes. */
function podsOn(nodes: readonly string[]): string {
  const pod = (line: string) => `${IMAGE}, ${JSON.stringify(line)}]`
  const clients = CLIENTS.map(
    (name, i) => `---
apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: ${NAMESPACE}}
spec:
  nodeName: ${nodes[i % nodes.length]}
  tolerations: [{operator: Exists}]
  terminationGracePeriodSeconds: 0
  containers: [${pod('exec sleep infinity')}}]
`,
  )
  return `apiVersion: v1
kind: Namespace
metadata: {name: ${NAMESPACE}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: ${NAMESPACE}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [${pod(SERVE)}, readinessProbe: {tcpSocket: {port: ${TCP_PORT}}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ${NAMESPACE}}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: ${TCP_PORT}}]
---
apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: web, namespace: ${NAMESPACE}}
spec: {target: {service: {name: web}}, ttlSeconds: 5}
---
apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: pod, namespace: ${NAMESPACE}}
spec: {target: {pods: {selector: {matchLabels: {app: web}}}}, ttlSeconds: 5}
${clients.join('')}`
}

/** `asks`: version of the address at which the resolvers are asked. */
async function checkDirection(checks: Checks, from: Cluster, to: Cluster, asks: Family): Promise<void> {
  const name = `${from.name} → ${to.name}`
  const resolver = (await resolversOf(from)).find(address => familyOf(address) === asks)
  for (const target of ['pod', 'web']) {
    const shown = target === 'pod' ? 'a pod' : 'a Service'
    for (const family of FAMILIES) {
      const type = family === 4 ? 'A' : 'AAAA'
      let answer: string[] = []
      await checks.check(`${name}: ${type} of ${shown}, asked at ${resolver}`, async () => {
        const host = `${target}.${NAMESPACE}.${to.facts.publicZone}`
        answer = await soon(`${host} has ${type}`, async () => {
          const found = await addressesOf(from, { host, type, server: resolver })
          return found.length > 0 && found
        })
        expectThat(
          answer.every(address => isEncoded(address, family)),
          answer.join(' '),
        )
        return `${answer.length} addresses`
      })
      await checkSeen(checks, { name: `${name}: TCP by IPv${family} to ${shown}`, answer, from, to, target })
      // the address of a Service answers no pings
      if (target === 'pod')
        await checks.check(`${name}: ICMP by IPv${family} to ${shown}`, async () => {
          for (const client of CLIENTS)
            await inClient(from, client, answer.map(one => `ping -c 2 -i 0.2 -W 3 ${one}`).join(' && '))
          expectThat(answer.length > 0, 'no address to ask')
          return undefined
        })
    }
  }
}

interface Way {
  name: string
  answer: readonly string[]
  from: Cluster
  to: Cluster
  target: string
}

/** Each address leads to where its reference says, and no two clients are the same for the server. */
async function checkSeen(checks: Checks, { name, answer, from, to, target }: Way): Promise<void> {
  await checks.check(`${name}: each client is an encoded address of its own`, async () => {
    const remotes = await remotesOf(from)
    const families = await targetFamilies(to, target)
    const ways = new Set<string>()
    const seen: string[][] = []
    for (const client of CLIENTS) {
      const own = new Set<string>()
      const lines = answer.map(address => `echo ${address} $(${tcpLine(address)})`)
      for (const line of (await inClient(from, client, lines.join('\n'))).split('\n')) {
        const [address = '', peer, server] = line.split(' ')
        expectThat(peer !== undefined && server !== undefined, `${client}: ${address} does not answer`)
        const { context, reference } = remotes.get(address)!
        const family = families.get(reference)
        expectThat(family !== undefined, `${address} stands for ${reference}, which ${to.name} has not published`)
        const source = plainAddress(peer!)
        expectThat(isEncoded(source, family!), `${address}, of IPv${family}: the server saw ${source}`)
        own.add(source)
        ways.add(`${familyOf(context)}→${family}`)
      }
      seen.push([...own])
    }
    const all = seen.flat()
    expectSame('addresses of both clients', new Set(all).size, all.length)
    expectSame('tunnel → target', [...ways].sort().join(' '), '4→4 4→6 6→4 6→6')
    return `${all.length} addresses, ${[...ways].sort().join(' ')}`
  })
}

/** As every pod asks, by the cluster's own DNS, which reads its configuration again within a minute. */
async function checkClusterDns(checks: Checks, from: Cluster, to: Cluster): Promise<void> {
  const host = `web.${NAMESPACE}.${to.facts.publicZone}`
  await checks.check(`${from.name}: the cluster's DNS has both versions of ${host}`, async () => {
    const seen: string[] = []
    for (const family of FAMILIES) {
      const type = family === 4 ? 'A' : 'AAAA'
      // one CoreDNS may have read it when another has not
      const answer = await soon(
        `${type} of ${host}`,
        async () => {
          const found = await addressesOf(from, { host, type, server: undefined })
          if (found.length === 0 || !found.every(address => isEncoded(address, family))) return undefined
          const line = `socat -t9 -T9 - tcp${family}:${host}:${TCP_PORT} </dev/null`
          const { stdout } = await from.tryInPod(CLIENTS[0]!, line, { namespace: NAMESPACE, timeoutMs: 30_000 })
          return /^\S+ web-/.test(stdout) && stdout
        },
        150,
      )
      seen.push(answer)
    }
    return seen.map(line => line.split(' ')[0]).join(' ')
  })
}

// ---- what clusters say

async function networksOf(cluster: Cluster): Promise<string> {
  const pods = await cluster.kubectl(['get', 'nodes', '-o', 'jsonpath={.items[0].spec.podCIDRs}'])
  const services = await cluster.kubectl(['get', 'servicecidrs', '-o', 'jsonpath={.items[*].spec.cidrs}'])
  expectThat(pods.includes(':') && services.includes(':'), `pods ${pods}, services ${services}`)
  return `pods ${pods}, services ${services}`
}

/** What encoded addresses stand for, by all gateways of a cluster. */
async function remotesOf(cluster: Cluster): Promise<Map<string, { context: string; reference: string }>> {
  const found = new Map<string, { context: string; reference: string }>()
  for (const { name } of cluster.facts.nodes) {
    const { stdout } = await cluster.ipref(name, ['status', '-json'])
    const { mappings } = JSON.parse(stdout) as { mappings: { rows: { local: string; remote: string }[] } }
    for (const { local, remote } of mappings.rows) {
      const [context, reference] = remote.split(' + ')
      if (context && reference) found.set(local, { context, reference })
    }
  }
  return found
}

/** IP version of what is behind each reference of an IprefService. */
async function targetFamilies(cluster: Cluster, name: string): Promise<Map<string, Family>> {
  const object = await cluster.get('iprefservice', name, NAMESPACE)
  const mappings = (object?.status?.mappings ?? []) as { address: string; reference: string }[]
  return new Map(mappings.map(({ address, reference }) => [reference, familyOf(address)]))
}

// ---- in clients

function inClient(cluster: Cluster, pod: string, line: string): Promise<string> {
  return cluster.inPod(pod, line, { namespace: NAMESPACE, timeoutMs: 180_000 })
}

async function addressesOf(
  cluster: Cluster,
  asked: { host: string; type: 'A' | 'AAAA'; server: string | undefined },
): Promise<string[]> {
  const at = asked.server === undefined ? '' : `@${asked.server} `
  const said = await inClient(cluster, CLIENTS[0]!, `dig ${at}+short +time=2 +tries=2 ${asked.host} ${asked.type}`)
  return said.split('\n').filter(line => parseAddress(line) !== undefined)
}

function tcpLine(address: string): string {
  const to = familyOf(address) === 4 ? `tcp4:${address}` : `tcp6:[${address}]`
  return `socat -t9 -T9 - ${to}:${TCP_PORT},connect-timeout=9 </dev/null`
}

function familyOf(address: string): Family {
  return address.includes(':') ? 6 : 4
}

/** socat writes IPv6 addresses at full length and in brackets. */
function plainAddress(text: string): string {
  const bytes = parseAddress(text.replace(/^\[|\]$/g, ''))
  return bytes ? formatAddress(bytes) : text
}

function isEncoded(text: string, family: Family): boolean {
  const address = parseAddress(text)
  const network = parsePrefix(ENCODING_NETWORKS[family === 4 ? 0 : 1])!
  return address !== undefined && familyOf(text) === family && prefixContains(network, address)
}
