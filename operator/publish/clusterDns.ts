/**
 * The cluster's own DNS: how pods come to resolve names of other networks.
 *
 *   manage: true   our block is kept in the ConfigMap of CoreDNS, by updates with its resourceVersion; everything else there stays as it is
 *   manage: false  `linesToAdd` says what a person is to add, and where
 *   probe          a question to the cluster's DNS, as a pod would ask it: the proof
 *
 * Layouts (ConfigMap and key):
 *   coredns, Corefile           kubeadm, kind, k3s, EKS: the block at the end
 *   *-custom, ipref.server      AKS, k3s: a key of our own, which CoreDNS imports
 *   others                      written by an operator of theirs that would undo it (OpenShift, RKE2, GKE's kube-dns): named, with what to do there
 */
import { isDeepStrictEqual } from 'node:util'
import { Type } from '../../dns/constants.ts'
import { type Message, rcodeOf } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { formatAddress } from '../../ipref/address.ts'
import type { Config } from '../../resources/config.ts'
import type { ConfigMap, Service } from '../../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../../resources/store.ts'
import { stubDomains, withBlock, withoutBlock } from './corefileBlock.ts'
import { type Server, serverOf, showServer } from './endpoints.ts'
import type { RecordSet } from './records.ts'

export interface ClusterDnsState {
  /** what the ConfigMap of the cluster's DNS keeps pods from resolving; empty: all is well, or nothing is managed */
  problems: string[]
}

type Place = Pick<Config['clusterDns'], 'namespace' | 'configMap'>

const COREFILE = 'Corefile'
const OWN_KEY = 'ipref.server'
const TRIES = 4

/** Where the cluster's DNS has its address, by layout. */
export const DNS_SERVICES = [
  { namespace: 'kube-system', name: 'kube-dns' },
  { namespace: 'kube-system', name: 'coredns' },
  { namespace: 'kube-system', name: 'rke2-coredns-rke2-coredns' },
  { namespace: 'openshift-dns', name: 'dns-default' },
] as const

/** Names that pods should find by the resolvers: our zones, and the domains of peers. */
export function domainsOf(config: Config, peerDomains: Iterable<string>): string[] {
  const { internalZone, publicZone } = config
  const all = new Set([internalZone, ...(publicZone === undefined ? [] : [publicZone])])
  for (const domain of peerDomains) all.add(domain.toLowerCase().replace(/\.$/, ''))
  return [...all].sort()
}

/** What a person is to add, and where. Pure. */
export function linesToAdd(config: Config, domains: readonly string[]): { where: string; lines: string } {
  const { namespace, configMap, resolver } = config.clusterDns
  const to = resolver ?? 'ADDRESS-OF-THE-RESOLVERS'
  const layout = layoutOf(config.clusterDns)
  if (layout.kind === 'foreign') return { where: layout.where, lines: layout.lines(domains, to) }
  const key = layout.kind === 'custom' ? OWN_KEY : COREFILE
  return { where: `ConfigMap ${namespace}/${configMap}, key ${key}`, lines: stubDomains({ domains, resolver: to }) }
}

type Layout =
  | { kind: 'corefile' | 'custom' }
  | { kind: 'foreign'; where: string; lines(domains: readonly string[], resolver: string): string }

function layoutOf({ namespace, configMap }: Place): Layout {
  if (namespace === 'openshift-dns' || configMap === 'dns-default')
    return { kind: 'foreign', where: 'dns.operator.openshift.io/default, spec.servers', lines: openShiftServers }
  if (configMap.startsWith('rke2-coredns'))
    return {
      kind: 'foreign',
      where: 'HelmChartConfig kube-system/rke2-coredns, spec.valuesContent',
      lines: rke2Servers,
    }
  if (configMap === 'kube-dns')
    return { kind: 'foreign', where: 'ConfigMap kube-system/kube-dns, key stubDomains', lines: kubeDnsStubs }
  return { kind: configMap.endsWith('-custom') ? 'custom' : 'corefile' }
}

function openShiftServers(domains: readonly string[], resolver: string): string {
  const zones = domains.map(domain => `    - ${domain}\n`).join('')
  return `- name: ipref\n  zones:\n${zones}  forwardPlugin:\n    upstreams:\n    - ${resolver}\n`
}

function rke2Servers(domains: readonly string[], resolver: string): string {
  const zones = domains.map(domain => `  - zone: ${domain}.\n`).join('')
  return `servers:\n- zones:\n${zones}  port: 53\n  plugins:\n  - name: errors\n  - name: cache\n    parameters: 30\n  - name: forward\n    parameters: . ${resolver}\n`
}

function kubeDnsStubs(domains: readonly string[], resolver: string): string {
  return `${JSON.stringify(Object.fromEntries(domains.map(domain => [domain, [resolver]])))}\n`
}

/** Brings our block in order; nothing is written when it is. */
export async function keepBlock(
  store: ResourceStore,
  config: Config,
  domains: readonly string[],
): Promise<ClusterDnsState> {
  const { manage, namespace, configMap, resolver } = config.clusterDns
  if (!manage || resolver === undefined) return { problems: [] }
  const layout = layoutOf(config.clusterDns)
  if (layout.kind === 'foreign') {
    const { where, lines } = linesToAdd(config, domains)
    const problem = `ConfigMap ${namespace}/${configMap} is written by an operator of its own, which would undo the change: add to ${where}\n${lines}`
    return { problems: [problem] }
  }
  return editConfigMap(store, config.clusterDns, layout.kind, text => withBlock(text, { domains, resolver }))
}

/** Takes our block away, unless somebody changed it. */
export async function restore(store: ResourceStore, place: Place): Promise<ClusterDnsState> {
  const layout = layoutOf(place)
  if (layout.kind === 'foreign') return { problems: [] }
  return editConfigMap(store, place, layout.kind, withoutBlock)
}

async function editConfigMap(
  store: ResourceStore,
  place: Place,
  layout: 'corefile' | 'custom',
  edit: (text: string) => { text: string | undefined; problems: string[] },
): Promise<ClusterDnsState> {
  const key = { namespace: place.namespace, name: place.configMap }
  const shown = `ConfigMap ${key.namespace}/${key.name}`
  for (let tries = 1; ; tries++) {
    const found = await store.get('ConfigMap', key)
    if (!found) return { problems: [`${shown} is not there: name the one of the cluster's DNS in clusterDns`] }
    const entry = layout === 'custom' ? OWN_KEY : COREFILE
    const before = found.data?.[entry]
    if (layout === 'corefile' && before === undefined)
      return { problems: [`${shown} has no ${COREFILE}: name the one of CoreDNS in clusterDns`] }
    const { text, problems } = edit(before ?? '')
    const said = problems.map(problem => `${shown}: ${problem}`)
    if (text === undefined) return { problems: said }
    try {
      await store.update('ConfigMap', withEntry(found, entry, text))
      return { problems: said }
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'Conflict') || tries >= TRIES) throw error
    }
  }
}

/** A key of our own goes with its last line. */
function withEntry(found: ConfigMap, entry: string, text: string): ConfigMap {
  const { [entry]: _before, ...others } = found.data ?? {}
  return { ...found, data: entry === OWN_KEY && text === '' ? others : { ...others, [entry]: text } }
}

// ---- the probe

/** Address of the cluster's DNS, as pods have it. */
export function dnsServerOf(service: (namespace: string, name: string) => Service | undefined): Server | undefined {
  for (const { namespace, name } of DNS_SERVICES) {
    const { clusterIP } = service(namespace, name)?.spec ?? {}
    if (clusterIP && clusterIP !== 'None') return serverOf(clusterIP)
  }
  return undefined
}

export interface ProbeResult {
  resolves: boolean
  detail: string
}

/** Asks as a pod would. `known`: a set of the internal zone that is published. */
export async function probe(
  server: Server,
  known: RecordSet,
  ask: (server: Server, question: { name: string; type: number }) => Promise<Message | undefined>,
): Promise<ProbeResult> {
  const answer = await ask(server, { name: parseName(known.name)!, type: Type[known.type] })
  const at = `the cluster's DNS (${showServer(server)})`
  if (!answer) return { resolves: false, detail: `${at} does not answer` }
  const found = answer.answers.filter(({ type }) => type === Type[known.type]).map(({ data }) => formatAddress(data))
  const isSame = isDeepStrictEqual([...found].sort(), [...known.values].sort())
  if (isSame) return { resolves: true, detail: `${at} resolves ${known.name}` }
  const got = found.length > 0 ? found.join(', ') : `response code ${rcodeOf(answer)}`
  return {
    resolves: false,
    detail: `${at} does not resolve ${known.name}: ${got} instead of ${known.values.join(', ')}; a node-local DNS cache has a configuration of its own`,
  }
}
