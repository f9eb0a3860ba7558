/**
 * Which mappings, policy and peers follow from the objects of the cluster. Pure.
 *
 *   IprefService.status.mappings ─────────────► ours: native address ⇔ reference, with its ports
 *   IprefPeer.status.hosts that are ours ─────► theirs: encoded address ⇔ gateway of the peer + reference
 *   IprefPeer.spec.inbound, settings ─────────► policy: peer × reference
 *   IprefPeer.spec.gateway, probe ────────────► peers that are known and asked
 *   IprefPeer.spec.domains ───────────────────► domains that the resolver answers for
 *
 * An object that is being deleted counts until it is gone: the operator takes the records away first (decisions.md 30). What cannot be used is named with
 * its object; everything else goes on.
 */

import { type AddressWords, familyOf, hostPrefix, parseAddress, wordsFromBytes } from '../../ipref/address.ts'
import { isStaticReference } from '../../ipref/lifetimes.ts'
import { parseReference, wordsFromReference } from '../../ipref/reference.ts'
import type { IprefPeer, IprefService, PortRule, RefusedMapping } from '../../resources/kinds.ts'
import type { Network } from '../../resources/network.ts'
import { matchesLabels } from '../../resources/selectors.ts'
import type { Assertion, PortRange, Problem } from '../mapper/assertions.ts'
import type { NamedPeer } from '../peers/peers.ts'
import type { Policy, PolicyRule } from '../plane/policyTable.ts'

const DEFAULT_PORT = 1045
const DEFAULT_PROBE_S = 25
const LAST_PORT = 65535

export interface KubeInput {
  /** name of our own IprefGateway */
  self: string
  services: Iterable<IprefService>
  peers: Iterable<IprefPeer>
  network: Network
  /** IP versions of tunnels that we have a socket for, in the order of preference */
  tunnelFamilies: readonly (4 | 6)[]
}

export interface Domain {
  name: string
  /** `ADDRESS` or `ADDRESS:PORT`; empty: the resolver's own upstreams */
  servers: readonly string[]
  /** who says so */
  by: string
}

/** Hosts of peers that are known without DNS: their encoded addresses are static, and lead to the gateway that carries them. */
export interface Carried {
  gateway: string
  /** of one address */
  networks: readonly string[]
}

export interface Wanted {
  assertions: Assertion[]
  policy: Policy
  peers: NamedPeer[]
  domains: Domain[]
  carried: Carried[]
  /** mappings of IprefServices that cannot be used */
  refused: RefusedMapping[]
}

export function wantedOf(input: KubeInput): Wanted {
  const services = [...input.services]
  const peers = [...input.peers].filter(isAccepted).sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
  const wanted: Wanted = {
    assertions: [],
    policy: policyOf(peers, services, input.network),
    peers: [],
    domains: [],
    carried: [],
    refused: [],
  }
  for (const service of services) addService(service, wanted)
  for (const peer of peers) addPeer(peer, input, wanted)
  return wanted
}

// a peer that lost against an older one has no say
function isAccepted({ status }: IprefPeer): boolean {
  return status?.conditions?.find(condition => condition.type === 'Accepted')?.status === 'True'
}

function addService({ metadata, status }: IprefService, wanted: Wanted): void {
  const { namespace = '', name } = metadata
  const where = whereOf(namespace, name)
  for (const { address, reference, ports } of status?.mappings ?? []) {
    const [bytes, value] = [parseAddress(address), parseReference(reference)]
    if (!bytes || !value || !isStaticReference(value)) {
      const message = `${address} + ${reference} is no mapping`
      wanted.refused.push({ namespace, name, reason: 'InvalidMapping', message })
      continue
    }
    const limits = ports?.length ? { ports: ports.flatMap(rangesOf) } : {}
    wanted.assertions.push({ kind: 'ours', address: bytes, contexts: 'all', reference: value, where, ...limits })
  }
}

function rangesOf({ port, endPort, protocol = 'TCP' }: PortRule): PortRange[] {
  const last = endPort ?? port
  const isRight = port >= 1 && last >= port && last <= LAST_PORT
  return isRight ? [{ protocol: protocol.toLowerCase() as PortRange['protocol'], first: port, last }] : []
}

function whereOf(namespace: string, name: string): string {
  return `IprefService ${namespace}/${name}`
}

function addPeer(peer: IprefPeer, input: KubeInput, wanted: Wanted): void {
  const { spec, status, metadata } = peer
  const addresses = (status?.addresses ?? []).flatMap(text => parseAddress(text) ?? [])
  const { mode = 'Enabled', intervalSeconds = DEFAULT_PROBE_S } = spec.probe ?? {}
  for (const address of addresses) {
    const probe = mode === 'Enabled' ? { probeS: intervalSeconds } : {}
    wanted.peers.push({ address: wordsFromBytes(address), port: spec.gateway.port ?? DEFAULT_PORT, ...probe })
  }
  const by = `IprefPeer ${metadata.name}`
  for (const name of spec.domains ?? []) wanted.domains.push({ name, servers: spec.dnsServers ?? [], by })
  if (status?.gateway === undefined) return
  const networks = (status.hosts ?? []).map(({ encodedAddress }) => hostPrefix(encodedAddress))
  if (networks.length > 0) wanted.carried.push({ gateway: status.gateway, networks })
  // with a single uplink whoever is active carries them
  if (status.gateway !== input.self && input.network.uplink === 'perNode') return
  const context = input.tunnelFamilies
    .map(family => addresses.find(address => familyOf(address) === family))
    .find(address => address !== undefined)
  if (!context) return
  for (const { encodedAddress, reference } of status.hosts ?? []) {
    const [encoded, value] = [parseAddress(encodedAddress), parseReference(reference)]
    if (!encoded || !value) continue
    wanted.assertions.push({ kind: 'theirs', encoded, context, reference: value, where: by })
  }
}

// ---- policy

function policyOf(peers: readonly IprefPeer[], services: readonly IprefService[], network: Network): Policy {
  const rules: { context: AddressWords; rule: PolicyRule }[] = []
  for (const { spec, status } of peers) {
    if (!spec.inbound) continue
    const { policy, except = [] } = spec.inbound
    const references = new Map<bigint, AddressWords>()
    for (const exception of except) {
      for (const text of referencesOf(exception, services)) {
        const value = parseReference(text)
        if (value) references.set(value, wordsFromReference(value))
      }
    }
    const rule = { allow: policy === 'Allow', except: [...references.values()] }
    for (const text of status?.addresses ?? []) {
      const address = parseAddress(text)
      if (address) rules.push({ context: wordsFromBytes(address), rule })
    }
  }
  return { others: { allow: network.inbound === 'allow', except: [] }, peers: rules }
}

function referencesOf(
  exception: NonNullable<NonNullable<IprefPeer['spec']['inbound']>['except']>[number],
  services: readonly IprefService[],
): string[] {
  if (exception.reference !== undefined) return [exception.reference]
  const { namespace, selector } = exception.services ?? {}
  if (!selector) return []
  return services
    .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace)
    .filter(({ metadata }) => matchesLabels(selector, metadata.labels))
    .flatMap(({ status }) => (status?.mappings ?? []).map(mapping => mapping.reference))
}

// ---- what the mapper said of it

/** Mappings of IprefServices that are not in force, one line for each object: the first reason. */
export function refusedOf(
  wanted: Wanted,
  problems: readonly Problem[],
  services: Iterable<IprefService>,
): RefusedMapping[] {
  const refused = new Map(wanted.refused.map(one => [whereOf(one.namespace, one.name), one]))
  const byWhere = new Map(problems.map(problem => [problem.assertion.where, problem]))
  for (const { metadata } of services) {
    const { namespace = '', name } = metadata
    const where = whereOf(namespace, name)
    const problem = byWhere.get(where)
    if (problem && !refused.has(where))
      refused.set(where, { namespace, name, reason: reasonOf(problem), message: problem.detail })
  }
  return [...refused.values()].sort((a, b) => (whereOf(a.namespace, a.name) < whereOf(b.namespace, b.name) ? -1 : 1))
}

/** As conditions spell them. */
function reasonOf({ reason }: Problem): string {
  return reason.replace(/(?:^|_)([a-z])/g, (_all, letter: string) => letter.toUpperCase())
}
