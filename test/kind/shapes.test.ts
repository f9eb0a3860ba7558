/**
 * Shapes of what is published, and of networks: members of a StatefulSet by name, more and fewer pods, an object that moves to another namespace, and a
 * plain host with our gateway as third network.
 *
 * Each is looked at from where it counts: a pod of the other cluster, or the box behind that host.
 */
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import type { Cluster } from './rig/cluster.ts'
import { askFromBox, BOX_NAME, gatewayLog, inBox, startPlainHost, stopPlainHost } from './rig/plainHost.ts'
import {
  addressesOf,
  askByTcp,
  askByUdp,
  memberServers,
  namespaceNamed,
  pings,
  seenByTcp,
  soon,
  startClients,
  webServers,
  webService,
} from './rig/pods.ts'
import type { Rig } from './rig/rig.ts'

const SHORT_TTL = 'ttlSeconds: 5'

export async function run(checks: Checks, rig: Rig): Promise<void> {
  const { a, b } = rig
  await startClients(a)
  await startClients(b)
  await checkMembers(checks, a, b)
  await checkMembers(checks, b, a)
  await checkPods(checks, a, b)
  await checkMove(checks, a, b)
  await checkPlainHost(checks, rig)
}

// ---- a StatefulSet

async function checkMembers(checks: Checks, home: Cluster, other: Cluster): Promise<void> {
  const client = (await startClients(other)).at(-1)!
  const base = `db.members.${home.facts.publicZone}`
  const member = (ordinal: number) => `db-${ordinal}.${base}`
  const answers = (ordinal: number) =>
    soon(`${member(ordinal)} answers`, async () => {
      const { server } = await askByTcp(client, member(ordinal))
      return server === `db-${ordinal}` && server
    })
  const scale = (replicas: number) =>
    home.kubectl(['-n', 'members', 'scale', 'statefulset/db', `--replicas=${replicas}`])
  let first = ''
  await checks.check(`${home.name}: members of a StatefulSet, each by its name`, async () => {
    await home.apply(memberServers('members', 'db', 2))
    await home.apply(publish('members', 'db', 'service: { name: db }'))
    await home.kubectl(['-n', 'members', 'rollout', 'status', 'statefulset/db', '--timeout=120s'], {
      timeoutMs: 130_000,
    })
    await home.waitFor('condition=Ready', 'iprefservice/db', 'members')
    await answers(0)
    await answers(1)
    first = await referenceOf(home, 'members', 'db', 0)
    return `${member(0)} is + ${first}`
  })
  await checks.check(`${home.name}: a third member comes`, async () => {
    await scale(3)
    await answers(2)
    await soon(`${base} has three`, async () => (await addressesOf(client, base)).length >= 3)
    return undefined
  })
  await checks.check(`${home.name}: two members go, and the first keeps its reference`, async () => {
    await scale(1)
    await soon(`${member(2)} is gone`, async () => (await addressesOf(client, member(2))).length === 0)
    await soon(`${member(1)} is gone`, async () => (await addressesOf(client, member(1))).length === 0)
    await answers(0)
    expectSame('reference of the first member', await referenceOf(home, 'members', 'db', 0), first)
    return undefined
  })
  await checks.check(`${home.name}: a member whose pod is made again keeps its name and its reference`, async () => {
    await home.kubectl(['-n', 'members', 'delete', 'pod/db-0', '--wait=true'])
    await home.kubectl(['-n', 'members', 'rollout', 'status', 'statefulset/db', '--timeout=120s'], {
      timeoutMs: 130_000,
    })
    await answers(0)
    expectSame('reference of the first member', await referenceOf(home, 'members', 'db', 0), first)
    return undefined
  })
  await home.kubectl(['delete', 'namespace', 'members', '--wait=false'])
}

async function referenceOf(cluster: Cluster, namespace: string, name: string, slot: number): Promise<string> {
  const object = await cluster.get('iprefservice', name, namespace)
  const mappings = (object?.status?.mappings ?? []) as { slot: number; reference: string }[]
  const found = mappings.find(mapping => mapping.slot === slot)
  if (!found) throw new Error(`${namespace}/${name} has no mapping of slot ${slot}`)
  return found.reference
}

// ---- pods by their labels

async function checkPods(checks: Checks, home: Cluster, other: Cluster): Promise<void> {
  const client = (await startClients(other)).at(-1)!
  const name = `many.crowd.${home.facts.publicZone}`
  const pods = (count: number) =>
    soon(
      `${count} pods answer at ${name}`,
      async () => {
        const addresses = await addressesOf(client, name)
        // each pod has one address for each gateway of its network
        const servers = new Set(await Promise.all(addresses.map(async one => (await askByTcp(client, one)).server)))
        return servers.size === count && [...servers]
      },
      120,
    )
  await checks.check(
    `${home.name}: pods by their labels, one and then three, each by an address of its own`,
    async () => {
      await home.apply(webServers('crowd', 1))
      await home.apply(publish('crowd', 'many', 'pods: { selector: { matchLabels: { app: web } } }'))
      await home.waitFor('condition=Ready', 'iprefservice/many', 'crowd')
      await pods(1)
      await home.kubectl(['-n', 'crowd', 'scale', 'deployment/web', '--replicas=3'])
      return (await pods(3)).join(' ')
    },
  )
  await checks.check(`${home.name}: and one again`, async () => {
    await home.kubectl(['-n', 'crowd', 'scale', 'deployment/web', '--replicas=1'])
    return (await pods(1)).join(' ')
  })
  await home.kubectl(['delete', 'namespace', 'crowd', '--wait=false'])
}

// ---- another namespace

async function checkMove(checks: Checks, home: Cluster, other: Cluster): Promise<void> {
  const client = (await startClients(other)).at(-1)!
  const nameIn = (namespace: string) => `web.${namespace}.${home.facts.publicZone}`
  const target = publish('old', 'web', 'service: { name: web }')
  let before = ''
  await checks.check(`${home.name}: a Service before it moves`, async () => {
    await home.apply(webServers('old', 1))
    await home.apply(target)
    await home.waitFor('condition=Ready', 'iprefservice/web', 'old')
    await soon('it answers', () => seenByTcp(client, nameIn('old'), 80))
    before = await referenceOf(home, 'old', 'web', 0)
    return `+ ${before}`
  })
  await checks.check(`${home.name}: moved to another namespace, it has a name and a reference of its own`, async () => {
    await home.kubectl(['-n', 'old', 'delete', 'iprefservice/web', 'service/web', '--timeout=120s'], {
      timeoutMs: 130_000,
    })
    await home.apply(webServers('new', 1))
    await home.apply(target.replaceAll('namespace: old', 'namespace: new'))
    await home.waitFor('condition=Ready', 'iprefservice/web', 'new')
    await soon('it answers at its new name', () => seenByTcp(client, nameIn('new'), 80))
    await soon('the old name is gone', async () => (await addressesOf(client, nameIn('old'))).length === 0)
    const after = await referenceOf(home, 'new', 'web', 0)
    expectThat(after !== before, `the reference ${before} is kept for old/web`)
    return `+ ${after}`
  })
  await checks.check(`${home.name}: made again where it was, it has the reference that it had`, async () => {
    await home.apply(webService('old'))
    await home.apply(target)
    await home.waitFor('condition=Ready', 'iprefservice/web', 'old')
    expectSame('reference', await referenceOf(home, 'old', 'web', 0), before)
    await soon('it answers at its old name', () => seenByTcp(client, nameIn('old'), 80))
    return undefined
  })
  for (const namespace of ['old', 'new']) await home.kubectl(['delete', 'namespace', namespace, '--wait=false'])
}

// ---- a network without a cluster

async function checkPlainHost(checks: Checks, { a, b, image }: Rig): Promise<void> {
  const isUp = await checks.check('a plain host with our gateway, and its zone in the public DNS', async () => {
    await startPlainHost(image).catch(async (error: Error) => {
      throw new Error(`${error.message}\n${await gatewayLog().catch(() => '')}`)
    })
    for (const cluster of [a, b]) {
      await cluster.apply(namespaceNamed('plain'))
      await cluster.apply(`apiVersion: ipref.io/v1alpha1
kind: IprefPeer
metadata: { name: host }
spec: { gateway: { name: gw.host.example }, domains: [host.example] }
`)
      await cluster.apply(webServers('plain', 1))
      await cluster.apply(publish('plain', 'web', 'service: { name: web }'))
      await cluster.apply(publish('plain', 'pod', 'pods: { selector: { matchLabels: { app: web } } }'))
    }
    return undefined
  })
  if (isUp) for (const cluster of [a, b]) await checkThird(checks, cluster)
  for (const cluster of [a, b]) {
    await cluster.kubectl(['delete', 'namespace', 'plain', '--wait=false', '--ignore-not-found'])
    await cluster.kubectl(['delete', 'iprefpeer', 'host', '--ignore-not-found'])
  }
  await stopPlainHost()
}

async function checkThird(checks: Checks, cluster: Cluster): Promise<void> {
  const zone = cluster.facts.publicZone
  const clients = await startClients(cluster)
  await checks.check(
    `${cluster.name} → plain host: TCP, UDP and ICMP from pods, each seen as an address of its own`,
    async () => {
      // a pod has one address by each gateway that it goes through, and none of another pod
      const seen: Set<string>[] = []
      for (const client of clients) {
        const { from, server } = await soon('the box answers', () => askByTcp(client, BOX_NAME))
        expectSame('who answered', server, 'box')
        // each CoreDNS reads its file again at a time of its own, and the next question may be for another one
        const byUdp = await soon('the box answers by UDP', () => askByUdp(client, BOX_NAME))
        await soon('the box answers a ping', () => pings(client, BOX_NAME).then(() => true))
        seen.push(new Set([from, byUdp.from]))
      }
      const all = seen.flatMap(addresses => [...addresses])
      expectSame('different addresses', new Set(all).size, all.length)
      const gateways = cluster.facts.publicAddresses.length
      expectThat(gateways > 1 || all.length === clients.length, `by one gateway, yet ${all.join(' ')}`)
      return all.join(' ')
    },
  )
  await checks.check(`plain host → ${cluster.name}: TCP to a ClusterIP and to a pod, UDP, ICMP`, async () => {
    for (const name of ['web', 'pod']) await cluster.waitFor('condition=Ready', `iprefservice/${name}`, 'plain')
    const byService = await soon('the Service answers', () => askFromBox(`web.plain.${zone}`, 'tcp', 80))
    const byPod = await soon('the pod answers', () => askFromBox(`pod.plain.${zone}`, 'tcp'))
    expectSame('who answered', byService.server, byPod.server)
    expectThat((await askFromBox(`pod.plain.${zone}`, 'udp')).server === byPod.server, 'another pod answered by UDP')
    const { code, stdout } = await inBox(`ping -c 3 -i 0.2 -W 3 pod.plain.${zone}`)
    expectThat(code === 0, stdout)
    return `seen as ${byService.from}, ${byPod.from}`
  })
}

function publish(namespace: string, name: string, target: string): string {
  return `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata: { name: ${name}, namespace: ${namespace} }
spec:
  target: { ${target} }
  ${SHORT_TTL}
`
}
