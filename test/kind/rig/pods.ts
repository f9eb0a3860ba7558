/**
 * Pods of the checks, all of the image that is on every node: servers that answer with the address they see, clients that ask them.
 *
 *   TCP 8080, UDP 9000   one line: the address of whoever asks, and the name of the pod
 */
import { eventually } from '../../support/netns.ts'
import type { Cluster } from './cluster.ts'

export const TCP_PORT = 8080
export const UDP_PORT = 9000
const IMAGE = 'image: ipref/toolbox:local, imagePullPolicy: Never'
// socat leaves the address in the environment of what it starts; with -t it waits for a slow answer after the end of the question
const ECHO = "'system:echo $SOCAT_PEERADDR $(hostname)'"
export const SERVE = `socat -T10 udp4-recvfrom:${UDP_PORT},fork ${ECHO} & exec socat -t5 tcp4-listen:${TCP_PORT},fork,reuseaddr,backlog=64 ${ECHO}`

const SERVER = `{name: server, ${IMAGE}, command: [sh, -c, "${SERVE}"], readinessProbe: {tcpSocket: {port: ${TCP_PORT}}, periodSeconds: 1}}`

/** Namespace and, in it, `web`: a Deployment with its Service (80/TCP, 9000/UDP). */
export function webServers(namespace: string, replicas: number): string {
  return `${namespaceNamed(namespace)}---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: ${namespace}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [${SERVER}]
---
${webService(namespace)}`
}

export function webService(namespace: string): string {
  return `apiVersion: v1
kind: Service
metadata: {name: web, namespace: ${namespace}}
spec:
  selector: {app: web}
  ports: [{name: tcp, port: 80, targetPort: ${TCP_PORT}}, {name: udp, port: ${UDP_PORT}, protocol: UDP}]
`
}

/** A StatefulSet with its headless Service of the same name. */
export function memberServers(namespace: string, name: string, replicas: number): string {
  return `${namespaceNamed(namespace)}---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  serviceName: ${name}
  replicas: ${replicas}
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [${SERVER}]
---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec:
  clusterIP: None
  selector: {app: ${name}}
  ports: [{port: ${TCP_PORT}}]
`
}

export function namespaceNamed(namespace: string): string {
  return `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${namespace}}\n`
}

export interface Client {
  cluster: Cluster
  pod: string
  node: string
}

/** A client on each node but one, control plane and all, in namespace `clients`. They stay. */
export async function startClients(cluster: Cluster, without?: string): Promise<Client[]> {
  const nodes = cluster.facts.nodes.filter(({ name }) => name !== without)
  const clients = nodes.map(({ name }) => ({ cluster, pod: `on-${name}`, node: name }))
  const pods = clients.map(
    ({ pod, node }) => `---
apiVersion: v1
kind: Pod
metadata: {name: ${pod}, namespace: clients}
spec:
  nodeName: ${node}
  tolerations: [{operator: Exists}]
  terminationGracePeriodSeconds: 0
  containers: [{name: client, ${IMAGE}, command: [sleep, infinity]}]
`,
  )
  await cluster.apply(`${namespaceNamed('clients')}${pods.join('')}`)
  for (const { pod } of clients) await cluster.waitFor('condition=Ready', `pod/${pod}`, 'clients')
  return clients
}

function inClient({ cluster, pod }: Client, line: string): Promise<string> {
  return cluster.inPod(pod, line, { namespace: 'clients', timeoutMs: 30_000 })
}

/** Addresses of a name, as the client's resolver says them, or another one. */
export async function addressesOf(
  client: Client,
  name: string,
  server?: { address: string; port: number },
): Promise<string[]> {
  const at = server ? `-p ${server.port} @${server.address} ` : ''
  const lines = (await inClient(client, `dig ${at}+short +time=2 +tries=2 ${name} A`)).split('\n')
  return lines.filter(line => /^[0-9.]+$/.test(line))
}

export interface Answer {
  /** of the client, as the server sees it */
  from: string
  /** name of the pod, or host, that answered */
  server: string
}

/** Throws where nothing answers. */
export function askByTcp(client: Client, host: string, port = TCP_PORT): Promise<Answer> {
  return answerOf(client, tcpLine(host, port))
}

export function askByUdp(client: Client, host: string): Promise<Answer> {
  return answerOf(client, udpLine(host))
}

/** What the server sees of the client. */
export async function seenByTcp(client: Client, host: string, port = TCP_PORT): Promise<string> {
  return (await askByTcp(client, host, port)).from
}

export async function seenByUdp(client: Client, host: string): Promise<string> {
  return (await askByUdp(client, host)).from
}

export function tcpLine(host: string, port = TCP_PORT): string {
  return `socat -t5 -T5 - tcp4:${host}:${port},connect-timeout=5 </dev/null`
}

export function udpLine(host: string): string {
  const ask = `(echo who; sleep 0.2) | socat -t2 -T5 - udp4:${host}:${UDP_PORT}`
  // a datagram may be lost, and a busy machine may take its time
  return `for try in 1 2 3 4 5; do answer=$( ${ask}); [ -z "$answer" ] || break; done; echo "$answer"`
}

async function answerOf(client: Client, line: string): Promise<Answer> {
  const answer = parseAnswer(await inClient(client, line))
  if (!answer) throw new Error(`${client.cluster.name}, ${client.pod}: ${line}\nno answer`)
  return answer
}

export function parseAnswer(text: string): Answer | undefined {
  const [, from, server] = /^([0-9.]+) (\S+)$/m.exec(text) ?? []
  return from && server ? { from, server } : undefined
}

export async function pings(client: Client, host: string): Promise<void> {
  await inClient(client, `ping -c 3 -i 0.2 -W 3 ${host}`)
}

/** Asks again until it works: what was just published is known to others after a TTL at most. */
export function soon<T>(what: string, ask: () => Promise<T | undefined | false>, seconds = 90): Promise<T> {
  return eventually(what, ask, { withinMs: seconds * 1000, everyMs: 500 })
}
