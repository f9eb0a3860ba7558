/**
 * What an application team does, and what others then reach: the IprefService of README.md, a Service behind its ClusterIP, and the pods themselves.
 *
 *   client pods on each node of B ── names ──► resolver, active gateway ══ NAT ══ gateways of A ──► ClusterIP, pod on another node
 *   and the other way round
 *
 * Both clusters have the same pod and service networks. Names, TCP, UDP and ICMP; each remote pod is an address of its own for the server, by both ways.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Checks, expectThat } from '../support/checks.ts'
import type { Cluster } from './rig/cluster.ts'
import {
  addressesOf,
  type Client,
  pings,
  seenByTcp,
  seenByUdp,
  soon,
  startClients,
  UDP_PORT,
  webServers,
} from './rig/pods.ts'
import { ROOT } from './rig/programs.ts'
import type { Rig } from './rig/rig.ts'

const NAMESPACE = 'shop'
const ENCODED = /^10\.1(7[6-9]|8\d|9[01])\./
const PODS = `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: {name: pod, namespace: ${NAMESPACE}}
spec:
  target: {pods: {selector: {matchLabels: {app: web}}}}
`

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const { a, b } = rig
  await checks.check('servers and clients run in both', async () => {
    await Promise.all([a.apply(webServers(NAMESPACE, 1)), b.apply(webServers(NAMESPACE, 1))])
    for (const cluster of [a, b]) {
      await cluster.waitFor('condition=Available', 'deployment/web', NAMESPACE)
      await startClients(cluster)
    }
    return undefined
  })
  await checks.check('pod and service networks of both are the same', async () => {
    const [ofA, ofB] = await Promise.all([networksOf(a), networksOf(b)])
    expectThat(ofA === ofB, `${ofA} and ${ofB}`)
    return ofA
  })
  await checks.check('nodes of B reach those of A through the NAT alone', async () => {
    const { address } = b.workers[0]!
    const { code } = await a.onNode(a.workers[0]!.name, `ping -c 1 -W 1 ${address}`).then(
      () => ({ code: 0 }),
      () => ({ code: 1 }),
    )
    expectThat(code !== 0, `${address} answers ${a.workers[0]!.name}`)
    await b.onNode(b.workers[0]!.name, `ping -c 1 -W 2 ${a.workers[0]!.address}`)
    return undefined
  })
  for (const cluster of [a, b]) await checkReady(checks, cluster)
  for (const cluster of [a, b]) await checkInternal(checks, cluster)
  await checkDirection(checks, b, a)
  await checkDirection(checks, a, b)
}

/** The manifest of README.md with the target that its comment names. */
export function readmeService(): string {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const block = /```yaml manifest\n([^`]*kind: IprefService[^`]*)```/.exec(readme)?.[1]
  const changed = block?.replace(/address: \S+ +# in a cluster: (.*\}), or .*/, '$1')
  if (!changed || changed === block) throw new Error('README.md has no IprefService with a target for clusters')
  return changed
}

async function checkReady(checks: Checks, cluster: Cluster): Promise<void> {
  await checks.check(`${cluster.name}: kubectl apply, kubectl wait --for=condition=Ready`, async () => {
    await cluster.apply(readmeService())
    await cluster.waitFor('condition=Ready', 'iprefservice/web', NAMESPACE)
    return undefined
  })
  await checks.check(`${cluster.name}: pods by their labels, Ready`, async () => {
    await cluster.apply(PODS)
    await cluster.waitFor('condition=Ready', 'iprefservice/pod', NAMESPACE)
    return undefined
  })
}

/** Pods ask the cluster's DNS, and that asks any of the resolvers. */
async function checkInternal(checks: Checks, cluster: Cluster): Promise<void> {
  const name = `pod.${NAMESPACE}.${cluster.facts.internalZone}`
  await checks.check(`${cluster.name}: the resolver of each node answers for the internal zone`, async () => {
    const [client] = await startClients(cluster)
    const said: string[] = []
    for (const { address } of cluster.facts.nodes)
      said.push(...(await addressesOf(client!, name, { address, port: 1053 })))
    expectThat(said.length === cluster.facts.nodes.length && new Set(said).size === 1, said.join(' '))
    return said[0]
  })
}

async function checkDirection(checks: Checks, from: Cluster, to: Cluster): Promise<void> {
  const name = `${from.name} → ${to.name}`
  const clients = await startClients(from)
  const web = `web.${NAMESPACE}.${to.facts.publicZone}`
  const pod = `pod.${NAMESPACE}.${to.facts.publicZone}`
  let elsewhere = clients
  await checks.check(`${name}: names are encoded addresses`, async () => {
    const addresses = await soon(`${pod} resolves`, async () => {
      const found = await addressesOf(clients[0]!, pod)
      return found.length > 0 && found
    })
    expectThat(
      addresses.every(address => ENCODED.test(address)),
      addresses.join(' '),
    )
    const givers = await Promise.all(addresses.map(address => giverOf(from, address)))
    elsewhere = clients.filter(({ node }) => !givers.includes(node))
    return `${addresses.join(' ')}, given by ${[...new Set(givers)].join(' ')}`
  })
  await checks.check(`${name}: there are clients on other nodes than the gateway that gives addresses`, async () => {
    expectThat(elsewhere.length > 0, 'a gateway of each node gave an address')
    return elsewhere.map(({ node }) => node).join(' ')
  })
  await checks.check(`${name}: ICMP to a pod`, () => each(elsewhere, client => pings(client, pod)))
  await checkSeen(checks, `${name}: TCP to a pod`, clients, client => seenByTcp(client, pod))
  await checkSeen(checks, `${name}: UDP to a pod`, clients, client => seenByUdp(client, pod))
  await checkSeen(checks, `${name}: TCP to a ClusterIP`, clients, client => seenByTcp(client, web, 80))
  await checkSeen(checks, `${name}: UDP ${UDP_PORT} to a ClusterIP`, clients, client => seenByUdp(client, web))
}

/** Every client is answered, and is an encoded address of its own for the server. */
async function checkSeen(
  checks: Checks,
  name: string,
  clients: readonly Client[],
  ask: (client: Client) => Promise<string>,
): Promise<void> {
  await checks.check(`${name}: each client is an address of its own`, async () => {
    const addresses: string[] = []
    for (const client of clients) addresses.push(await ask(client))
    expectThat(new Set(addresses).size === clients.length, `the server saw ${addresses.join(' ')}`)
    expectThat(
      addresses.every(address => ENCODED.test(address)),
      `the server saw ${addresses.join(' ')}`,
    )
    return addresses.join(' ')
  })
}

async function each(clients: readonly Client[], work: (client: Client) => Promise<void>): Promise<undefined> {
  for (const client of clients) await work(client)
  return undefined
}

/** Node of the gateway that gave an encoded address: the active one, or that of its slice. */
async function giverOf(cluster: Cluster, address: string): Promise<string> {
  const active = await cluster.activeGateway()
  if (active) return active
  const gateways = await cluster.list('iprefgateways')
  const owner = gateways.find(({ spec }) => (spec?.slices as string[] | undefined)?.some(slice => isIn(address, slice)))
  if (!owner) throw new Error(`${address} is of no slice`)
  return owner.metadata.name
}

function isIn(address: string, prefix: string): boolean {
  const [network = '', length] = prefix.split('/')
  const shift = 32 - Number(length)
  const number = (text: string) => text.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0)
  return Math.floor(number(address) / 2 ** shift) === Math.floor(number(network) / 2 ** shift)
}

async function networksOf(cluster: Cluster): Promise<string> {
  const pods = await cluster.kubectl(['get', 'nodes', '-o', 'jsonpath={.items[*].spec.podCIDR}'])
  const services = await cluster.kubectl(['get', 'servicecidrs', '-o', 'jsonpath={.items[*].spec.cidrs[*]}'])
  return `pods ${pods.split(' ').sort().join(' ')}, services ${services}`
}
