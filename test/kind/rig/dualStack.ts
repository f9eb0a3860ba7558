/**
 * Two small clusters of two IP versions, with the same pod and service networks, beside those of the rig: our chart in both, an encoding network and a tunnel of
 * each version, and each knows the other.
 *
 *   cluster A: two gateways ═══ IPv4 and IPv6, one Docker network ═══ cluster B: one gateway
 *                                   ◄── B knows A, and asks for its zone, by an IPv6 address
 *           A knows B by IPv4 ──►
 */
import { readFileSync } from 'node:fs'
import { runProgram } from '../../support/netns.ts'
import { CHART, Cluster, NAMESPACE, type Node, RELEASE } from './cluster.ts'
import { RESOLVER_ADDRESS } from './install.ts'
import { clusterScript } from './programs.ts'
import { writeRigFile } from './state.ts'

export type Which = 'a' | 'b'
const NAMES = { a: 'ipref-dual-a', b: 'ipref-dual-b' } as const
const WORKERS = { a: '1', b: '0' } as const
/** that of kind itself, which has both versions where Docker can */
const DOCKER_NETWORK = 'kind'
const ZONES_NODE_PORT = 30053
export const ENCODING_NETWORKS = ['10.176.0.0/12', 'fd24::/64'] as const

/** Why there can be no such clusters here; undefined: it can be tried. */
export async function dualStackProblem(): Promise<string | undefined> {
  const links = readText('/proc/net/if_inet6')
  if (!links) return 'this kernel has no IPv6, or it is switched off (/proc/net/if_inet6)'
  const { code, stderr } = await runProgram(['sh', '-c', 'ip6tables -t nat -nL'])
  if (code !== 0) return `Docker and kube-proxy need NAT for IPv6: ip6tables -t nat -nL: ${stderr.trim()}`
  const network = await runProgram(['docker', 'network', 'inspect', '-f', '{{.EnableIPv6}}', DOCKER_NETWORK])
  return network.code === 0 && network.stdout.trim() !== 'true'
    ? `the Docker network ${DOCKER_NETWORK} is there without IPv6: docker network rm ${DOCKER_NETWORK}, and kind makes it anew`
    : undefined
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

export interface DualNode extends Node {
  address6: string
}

export interface DualCluster {
  cluster: Cluster
  nodes: DualNode[]
}

export async function makeDualCluster(which: Which, programs: string): Promise<DualCluster> {
  const environment = { KIND_EXPERIMENTAL_DOCKER_NETWORK: DOCKER_NETWORK }
  const kubeconfig = await clusterScript(['kind-up', NAMES[which], WORKERS[which], '--ip-family', 'dual'], environment)
  const facts = {
    name: NAMES[which],
    kubeconfig,
    programs,
    publicZone: `${which}.example`,
    internalZone: `${which}.internal`,
    publicAddresses: [],
  }
  const nodes = await nodesOf(new Cluster({ ...facts, nodes: [] }))
  return { cluster: new Cluster({ ...facts, nodes }), nodes }
}

async function nodesOf(cluster: Cluster): Promise<DualNode[]> {
  const nodes = (await cluster.list('nodes')).map(({ metadata: { name }, status }) => {
    const all = (status!.addresses as { type: string; address: string }[]).filter(({ type }) => type === 'InternalIP')
    const address = all.find(one => !one.address.includes(':'))?.address
    const address6 = all.find(one => one.address.includes(':'))?.address
    if (!address || !address6) throw new Error(`node ${name} has ${all.map(one => one.address).join(', ')} alone`)
    return { name, address, address6, isControlPlane: name.endsWith('control-plane') }
  })
  return nodes.sort((one, other) => (one.name < other.name ? -1 : 1))
}

/** Safe to repeat. */
export async function removeDualClusters(): Promise<void> {
  for (const name of Object.values(NAMES)) await clusterScript(['kind-down', name])
}

export async function installDual({ cluster, nodes }: DualCluster, image: string): Promise<void> {
  const [repository, tag] = image.split(':')
  const { internalZone, publicZone, name } = cluster.facts
  const values = writeRigFile(
    `values-${name}.yaml`,
    `image: { repository: ${repository}, tag: ${tag}, pullPolicy: Never }
config:
  encodingNetworks: ${JSON.stringify(ENCODING_NETWORKS)}
  internalZone: ${internalZone}
  publicZone: ${publicZone}
  publicAddresses:
${nodes.map(node => `    ${node.name}: ["${node.address}", "${node.address6}"]`).join('\n')}
  clusterDns: { manage: true }
operator: { replicas: 1, podDisruptionBudget: { enabled: false } }
gateway: { bind: ["0.0.0.0", "::"] }
resolver: { service: { clusterIP: ${RESOLVER_ADDRESS}, ipFamilyPolicy: RequireDualStack } }
zones: { service: { type: NodePort, nodePort: ${ZONES_NODE_PORT}, ipFamilyPolicy: RequireDualStack } }
cleanup: { removeData: true }
`,
  )
  const wait = ['--create-namespace', '--wait', '--timeout', '5m']
  await cluster.helm(['upgrade', '--install', RELEASE, CHART, '--values', values, ...wait])
}

/** The zone server is asked on the node that an operator is on: the last one, as the first takes no ordinary pods where there are others. */
export async function introduceDual(cluster: Cluster, other: DualCluster, family: 4 | 6): Promise<void> {
  const { address, address6 } = other.nodes.at(-1)!
  const [gateway, dns] = family === 6 ? [address6, `[${address6}]`] : [address, address]
  await cluster.apply(`apiVersion: ipref.io/v1alpha1
kind: IprefPeer
metadata: { name: other }
spec:
  gateway: { address: "${gateway}" }
  domains: [${other.cluster.facts.publicZone}]
  dnsServers: ["${dns}:${ZONES_NODE_PORT}"]
`)
}

/** Addresses of the resolvers' Service. */
export async function resolversOf(cluster: Cluster): Promise<string[]> {
  const service = await cluster.get('service', 'ipref-resolver', NAMESPACE)
  return service!.spec!.clusterIPs as string[]
}
