/**
 * Settings of the platform, read: `parseConfig(text, file)` gives the effective settings, frozen, or all that is wrong with them, each as
 *
 *   file:line:column key: what is wrong; what would be right
 *
 * What each setting means and may be is in configTable.ts. Who reads a changed file again, and what happens while it is wrong, is the callers' affair:
 * the last good settings should stay in force.
 */
import { type Prefix, parsePrefix } from '../ipref/address.ts'
import { readYaml } from '../runtime/yaml.ts'
import { configTable } from './configTable.ts'
import { isAtOrBelow, PEERS } from './names.ts'
import { check, complete, type FieldProblem, pathText } from './schema/check.ts'
import type { Field } from './schema/schema.ts'

export interface KeySecret {
  /** absent: the operator's own */
  namespace?: string
  name: string
  /** entry of the Secret, which holds ALGORITHM:NAME:SECRET */
  key: string
}

export interface ZoneServerConfig {
  /** ADDRESS:PORT */
  listen: readonly string[]
  nameServers: readonly string[]
  transfer: { allow: readonly string[]; keys: readonly string[]; keySecrets: readonly KeySecret[] }
  /** ADDRESS or ADDRESS:PORT */
  notify: readonly string[]
}

export interface Rfc2136Config {
  zone: 'public' | 'internal' | 'both'
  /** ADDRESS or ADDRESS:PORT */
  server: string
  /** ALGORITHM:NAME:SECRET */
  key?: string
  keySecret?: KeySecret
  owner: string
}

export interface Config {
  /** at most one of each IP version */
  readonly encodingNetworks: readonly string[]
  /** names are in lower case, without a dot at their end */
  readonly internalZone: string
  /** absent: nothing is published outside */
  readonly publicZone?: string
  readonly grants: readonly { namespace: string; names: readonly string[] }[]
  /** without namespaces: all */
  readonly targets: { allowedRanges: readonly { cidr: string; namespaces?: readonly string[] }[] }
  readonly inbound: { default: 'allow' | 'deny' }
  readonly referenceLength: 4 | 8
  readonly referenceHoldTimeMs: number
  readonly sliceLengths: { ipv4: number; ipv6: number }
  readonly uplink: 'auto' | 'perNode' | 'single'
  readonly nodeNetwork: 'auto' | 'direct' | 'vxlan'
  readonly gatewayNodeSelector: Readonly<Record<string, string>>
  /** by node name */
  readonly publicAddresses: Readonly<Record<string, readonly string[]>>
  readonly podNetworks: readonly string[]
  readonly serviceNetworks: readonly string[]
  readonly gatewayStaleTimeMs: number
  readonly nodeReleaseTimeMs: number
  readonly publishers: {
    zoneServer?: ZoneServerConfig
    rfc2136: readonly Rfc2136Config[]
    dnsEndpoint?: { namespace?: string; quoting: 'quoted' | 'plain'; zones: readonly ('public' | 'internal')[] }
    configMap?: { namespace?: string; name: string }
  }
  readonly readBack: { mode: 'Authoritative' | 'Resolver' | 'Off'; servers: readonly string[]; intervalSeconds: number }
  readonly clusterDns: { manage: boolean; namespace: string; configMap: string; resolver?: string }
}

/** As in the file: times are texts. */
type Written = Omit<Config, 'referenceHoldTimeMs' | 'gatewayStaleTimeMs' | 'nodeReleaseTimeMs'> & {
  publicZone?: string
  referenceHoldTime: string
  gatewayStaleTime: string
  nodeReleaseTime: string
}

/** An empty text says nothing, and all defaults hold. */
export function parseConfig(text: string, file: string): { config: Config } | { problems: string[] } {
  const [document, second] = readYaml(text)
  if (document && document.problems.length > 0)
    return { problems: document.problems.map(({ line, column, problem }) => `${file}:${line}:${column} ${problem}`) }
  const value = complete(configTable, document?.value ?? {})
  const problems = check(configTable, value, undefined, [])
  if (problems.length === 0) problems.push(...crossProblems(value as Written))
  const lines = problems.map(problem => {
    const { line, column } = document?.placeOf(problem.path) ?? { line: 1, column: 1 }
    return `${file}:${line}:${column} ${pathText(problem.path) || 'settings'}: ${problem.problem}; ${problem.right}`
  })
  if (second) {
    const { line, column } = second.placeOf([])
    lines.push(`${file}:${line}:${column} settings: a second document; one, without --- between`)
  }
  return lines.length > 0 ? { problems: lines } : { config: deepFreeze(effective(value as Written)) }
}

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function millisecondsOf(text: string): number {
  const parts = [...text.matchAll(/(\d+)(ms|s|m|h|d)/g)]
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * units[unit!]!, 0)
}

function effective(written: Written): Config {
  const { referenceHoldTime, gatewayStaleTime, nodeReleaseTime, internalZone, publicZone, publishers, ...same } =
    written
  const { zoneServer, ...others } = publishers
  return {
    ...same,
    internalZone: withoutDot(internalZone),
    ...(publicZone !== undefined && { publicZone: withoutDot(publicZone) }),
    publishers: {
      ...others,
      ...(zoneServer && { zoneServer: { ...zoneServer, nameServers: zoneServer.nameServers.map(withoutDot) } }),
    },
    referenceHoldTimeMs: millisecondsOf(referenceHoldTime),
    gatewayStaleTimeMs: millisecondsOf(gatewayStaleTime),
    nodeReleaseTimeMs: millisecondsOf(nodeReleaseTime),
  }
}

function withoutDot(name: string): string {
  return name.replace(/\.$/, '')
}

// ---- settings that must fit each other

function crossProblems(written: Written): FieldProblem[] {
  return [...zoneProblems(written), ...grantProblems(written), ...sliceProblems(written), ...publisherProblems(written)]
}

function zoneProblems({ internalZone, publicZone }: Written): FieldProblem[] {
  if (publicZone === undefined || withoutDot(publicZone) !== withoutDot(internalZone)) return []
  const right =
    "a zone of its own, such as internal.example.com beside example.com: native addresses are nobody else's affair"
  return [{ path: ['publicZone'], problem: 'the internal zone too', right }]
}

function grantProblems({ grants, internalZone, publicZone }: Written): FieldProblem[] {
  const zones = [internalZone, ...(publicZone === undefined ? [] : [publicZone])].map(withoutDot)
  const peers = `${PEERS}.${withoutDot(internalZone)}`
  return grants.flatMap(({ namespace, names }, i) => {
    if (namespace === PEERS) {
      const problem = 'a namespace that gets no names: hosts of peers have theirs there'
      return [{ path: ['grants', i, 'namespace'], problem, right: `any but ${PEERS}` }]
    }
    return names.flatMap((name, j) => {
      const path = ['grants', i, 'names', j]
      const base = name.replace(/^\*\./, '')
      if (!zones.some(zone => isAtOrBelow(base, zone)))
        return [{ path, problem: `${name} is in none of the zones`, right: `a name in ${zones.join(' or ')}` }]
      if (isAtOrBelow(base, peers))
        return [{ path, problem: `${name} is among the names of hosts of peers`, right: `a name not below ${peers}` }]
      return []
    })
  })
}

function sliceProblems({ encodingNetworks, sliceLengths }: Written): FieldProblem[] {
  return encodingNetworks.flatMap(text => {
    const network = parsePrefix(text) as Prefix
    const key = network.family === 4 ? 'ipv4' : 'ipv6'
    if (sliceLengths[key] > network.length) return []
    const right = `longer than ${network.length}, the length of ${text}; each bit more doubles the number of slices`
    return [{ path: ['sliceLengths', key], problem: `${sliceLengths[key]} leaves no slice`, right }]
  })
}

function publisherProblems({ publicZone, publishers: { rfc2136, dnsEndpoint } }: Written): FieldProblem[] {
  if (publicZone !== undefined) return []
  const problem = 'the public zone shall be published, but there is none'
  const right = 'publicZone, or zone: internal'
  const updates = rfc2136.flatMap(({ zone }, i) =>
    zone === 'internal' ? [] : [{ path: ['publishers', 'rfc2136', i, 'zone'], problem, right }],
  )
  const endpoint = dnsEndpoint?.zones.includes('public')
    ? [{ path: ['publishers', 'dnsEndpoint', 'zones'], problem, right: 'publicZone, or zones: [internal]' }]
    : []
  return [...updates, ...endpoint]
}

// ---- showing them

/** The effective settings, without secrets. */
export function describeConfig(config: Config): unknown {
  return withoutSecrets(configTable, config)
}

function withoutSecrets(field: Field | undefined, value: unknown): unknown {
  if (field?.type === 'text' && field.isSecret && typeof value === 'string')
    return `${value.split(':').slice(0, -1).join(':')}:(not shown)`
  if (Array.isArray(value))
    return value.map(item => withoutSecrets(field?.type === 'list' ? field.of : undefined, item))
  if (typeof value !== 'object' || value === null) return value
  const of = (name: string) =>
    field?.type === 'object' ? field.fields[name] : field?.type === 'map' ? field.of : undefined
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withoutSecrets(of(name), member)]))
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) deepFreeze(member)
  return Object.freeze(value)
}
