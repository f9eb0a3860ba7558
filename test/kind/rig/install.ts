/**
 * The chart in both clusters, by `helm install` with a values file each, as a platform team would write it:
 *
 *   A  a public address for each node; its zone goes to the name server by transfer, from a node port
 *   B  one public address, that of the NAT, for all nodes, so one gateway is active; its zone goes there by updates with a key
 *
 * In both the cluster's DNS asks the name server of the rig for everything outside, as it would ask a provider's, and the operator keeps its block in it.
 */
import { rmSync } from 'node:fs'
import { runProgram } from '../../support/netns.ts'
import { CHART, type Cluster, NAMESPACE, RELEASE } from './cluster.ts'
import { DNS_ADDRESS, UPDATE_KEY, ZONES_NODE_PORT } from './plain.ts'
import { docker, tell } from './programs.ts'
import { writeRigFile } from './state.ts'

/** of the service network of kind; the same in both */
export const RESOLVER_ADDRESS = '10.96.10.53'

export function valuesOf(cluster: Cluster, image: string): string {
  const { facts } = cluster
  const isA = facts.publicZone === 'pub.a.example'
  const [repository, tag] = image.split(':')
  const addressOf = (index: number) => facts.publicAddresses[index] ?? facts.publicAddresses[0]
  const addresses = facts.nodes.map(({ name }, index) => `    ${name}: [${addressOf(index)}]`)
  return `image: { repository: ${repository}, tag: ${tag}, pullPolicy: Never }
config:
  internalZone: ${facts.internalZone}
  publicZone: ${facts.publicZone}
  publicAddresses:
${addresses.join('\n')}
  clusterDns: { manage: true }
  publishers:
${isA ? PUBLISHERS_OF_A : PUBLISHERS_OF_B}
resolver:
  upstreams: [${DNS_ADDRESS}]
  service: { clusterIP: ${RESOLVER_ADDRESS} }
${isA ? `zones: { service: { type: NodePort, nodePort: ${ZONES_NODE_PORT} } }\n` : ''}`
}

const PUBLISHERS_OF_A = `    zoneServer:
      nameServers: [ns.example]
      transfer: { allow: [${DNS_ADDRESS}/32] }
      notify: [${DNS_ADDRESS}]`

const PUBLISHERS_OF_B = `    zoneServer:
      nameServers: [ns.example]
    rfc2136:
      - { zone: public, server: ${DNS_ADDRESS}, keySecret: { name: dns-key }, owner: cluster-b }`

/** The chart as it is, with this image: installed, or upgraded. */
export async function installChart(cluster: Cluster, image: string): Promise<void> {
  const values = writeRigFile(`values-${cluster.name}.yaml`, valuesOf(cluster, image))
  await cluster.apply(`apiVersion: v1
kind: Namespace
metadata: { name: ${NAMESPACE} }
---
apiVersion: v1
kind: Secret
metadata: { name: dns-key, namespace: ${NAMESPACE} }
stringData: { key: "${UPDATE_KEY}" }
`)
  await forgetUnfinished(cluster)
  await cluster.helm(['upgrade', '--install', RELEASE, CHART, '--values', values, '--wait', '--timeout', '5m'])
}

/** Helm takes an upgrade whose process was ended for one that goes on, and refuses the next. */
async function forgetUnfinished(cluster: Cluster): Promise<void> {
  const pending = 'owner=helm,status in (pending-install,pending-upgrade,pending-rollback)'
  await cluster.kubectl(['-n', NAMESPACE, 'delete', 'secrets', '-l', pending])
}

/** CoreDNS of the cluster asks the name server of the rig for what is not the cluster's. */
export async function useRigDns(cluster: Cluster): Promise<void> {
  const corefile = await cluster.kubectl([
    '-n',
    'kube-system',
    'get',
    'cm',
    'coredns',
    '-o',
    'jsonpath={.data.Corefile}',
  ])
  if (!corefile.includes('forward . /etc/resolv.conf')) return
  const changed = corefile.replace('forward . /etc/resolv.conf', `forward . ${DNS_ADDRESS}`)
  const patch = JSON.stringify({ data: { Corefile: changed } })
  await cluster.kubectl(['-n', 'kube-system', 'patch', 'configmap', 'coredns', '--type=merge', '--patch', patch])
  await cluster.kubectl(['-n', 'kube-system', 'rollout', 'restart', 'deployment/coredns'])
}

/** The image on every node that lacks it. It is written out once for all, and read by all at the same time. */
export async function loadImage(clusters: readonly Cluster[], image: string): Promise<void> {
  const nodes = clusters.flatMap(({ facts }) => facts.nodes.map(({ name }) => name))
  const has = (node: string) => runProgram(['docker', 'exec', node, 'crictl', 'inspecti', '-q', image])
  const found = await Promise.all(nodes.map(async node => ({ node, isMissing: (await has(node)).code !== 0 })))
  const missing = found.filter(({ isMissing }) => isMissing).map(({ node }) => node)
  if (missing.length === 0) return
  const archive = writeRigFile('image.tar', '')
  try {
    await docker('save', '--output', archive, image)
    const load = 'docker exec -i "$1" ctr --namespace=k8s.io images import --digests - <"$2"'
    await Promise.all(missing.map(node => tell(['sh', '-c', load, 'sh', node, archive], { timeoutMs: 300_000 })))
  } finally {
    rmSync(archive, { force: true })
  }
}

/** Each knows the other: its gateway by name, and its domain. */
export async function introduce(
  cluster: Cluster,
  peer: { name: string; gateway: string; domain: string },
): Promise<void> {
  await cluster.apply(`apiVersion: ipref.io/v1alpha1
kind: IprefPeer
metadata: { name: ${peer.name} }
spec:
  gateway: { name: ${peer.gateway} }
  domains: [${peer.domain}]
`)
}
