/** Configuration of the resolver, alone (`ipref resolver`, from flags, YAML or a Corefile) and as a part of the gateway. Problems name flag or file and line. */
import { lowerName, type Name, parseName, ROOT } from '../../dns/name.ts'
import { type Prefix, parsePrefix } from '../../ipref/address.ts'
import { helpText, isOn, optionsOf, parseSettings, SettingsReader } from '../../runtime/settings.ts'
import { localPrefixes } from './access.ts'
import { type CorefileZone, readCorefile } from './corefile.ts'
import { type Endpoint, parseEndpoint } from './endpoint.ts'
import { resolverIntro, resolverProgram } from './resolverOptions.ts'
import { readResolvers } from './systemNames.ts'
import type { UpstreamServer } from './upstreams.ts'

export { type Endpoint, parseEndpoint }

export const RESOLVER_PORT = 1053
const DNS_PORT = 53

export interface ResolverConfig {
  listen: readonly Endpoint[]
  upstreams: readonly UpstreamServer[]
  forwarders: readonly UpstreamServer[]
  /** lower case */
  domains: readonly Name[]
  excluded: readonly Name[]
  encodedFamilies: readonly (4 | 6)[]
  contextFamilies: readonly (4 | 6)[]
  allow: readonly Prefix[]
  rateLimit: number
  cacheSize: number
  serveStale: number
  denyAnswers: readonly Prefix[]
  mapperSocket: string
}

export interface ResolverProgramConfig {
  resolver: ResolverConfig
  /** zones that a Corefile asks to serve */
  zones: readonly CorefileZone[]
  metrics: { host: string; port: number } | undefined
  health: { host: string; port: number } | undefined
  /** undefined: none */
  controlSocket: string | undefined
  logLevel: 'debug' | 'info' | 'warn' | 'error'
  logFormat: 'json' | 'text'
  checkOnly: boolean
  notes: readonly string[]
}

export type ParsedResolverConfig =
  | { config: ResolverProgramConfig }
  | { problems: string[] }
  | { help: string }
  | { version: true }

function serverOf(text: string): UpstreamServer | undefined {
  const endpoint = parseEndpoint(text.replace(/^dns:\/\//, ''), DNS_PORT)
  return endpoint && endpoint.port > 0 ? { text, ...endpoint } : undefined
}

/** ADDRESS[:PORT], or a file like /etc/resolv.conf, which says who is asked here. */
function serversOf(text: string): UpstreamServer[] | undefined {
  const servers = text.startsWith('/') ? readResolvers(text) : [serverOf(text) ?? []].flat()
  return servers.length > 0 ? servers : undefined
}

/** As a pod is told the addresses of its node: with commas between. */
function endpointsOf(text: string): Endpoint[] | undefined {
  const endpoints = text.split(',').map(one => parseEndpoint(one, RESOLVER_PORT))
  return endpoints.every(one => one !== undefined) ? endpoints : undefined
}

function nameOf(text: string): Name | undefined {
  const name = parseName(text)
  return name && lowerName(name)
}

function familiesOf(text: string): (4 | 6)[] | undefined {
  const families = text.split(/[, ]+/)
  const isRight = families.every(f => f === '4' || f === '6') && new Set(families).size === families.length
  return isRight ? families.map(f => Number(f) as 4 | 6) : undefined
}

const EXAMPLE = '(192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:53)'

/** What both ways of running have in common. */
export function readResolverSettings(
  settings: SettingsReader,
  known: {
    encodedFamilies?: readonly (4 | 6)[]
    contextFamilies?: readonly (4 | 6)[]
    mapperSocket?: string
    encodingNetworks?: readonly Prefix[]
  },
): ResolverConfig {
  const listen = settings.each('listen', endpointsOf, `address to listen on ${EXAMPLE}`).flat()
  const servers = (name: string) =>
    settings.each(name, serversOf, `address of a server ${EXAMPLE}, or file with lines 'nameserver ADDRESS'`).flat()
  const forwarders = servers('forward')
  const upstreams = servers('upstream')
  if (upstreams.length + forwarders.length === 0 && listen.length > 0)
    settings.problem(
      `${settings.flag('upstream')}: nobody to ask for AA records; write ${settings.flag('upstream')} ADDRESS`,
    )
  const domains = settings.each('domain', nameOf, 'domain name')
  const contextFamilies = settings.each('gw-ipver', familiesOf, 'IP version (4, 6, or 4,6)').at(-1)
  const allow = settings.each('allow', parsePrefix, 'prefix (10.0.0.0/8, fd00::/8)')
  return {
    listen,
    upstreams: upstreams.length > 0 ? upstreams : forwarders,
    forwarders,
    domains: domains.length > 0 ? domains : [ROOT],
    excluded: settings.each('except', nameOf, 'domain name'),
    encodedFamilies: known.encodedFamilies ??
      settings.each('ea-ipver', familiesOf, 'IP version (4, 6, or 4,6)').at(-1) ?? [4],
    contextFamilies: contextFamilies ?? known.contextFamilies ?? [4],
    allow: allow.length > 0 ? allow : [...localPrefixes, ...(known.encodingNetworks ?? [])],
    rateLimit: settings.number('rate-limit')!,
    cacheSize: settings.number('cache-size')!,
    serveStale: settings.number('serve-stale')!,
    denyAnswers: [
      ...settings.each('deny-answer', parsePrefix, 'prefix (10.240.0.0/12)'),
      ...(known.encodingNetworks ?? []),
    ],
    mapperSocket: known.mapperSocket ?? settings.text('mapper').replace(/^unix:\/\//, ''),
  }
}

/** `readFile` throws for a file that cannot be read. */
export function parseResolverConfig(argv: readonly string[], readFile: (path: string) => string): ParsedResolverConfig {
  const problems: string[] = []
  const { given } = parseSettings(resolverProgram, argv, readFile, problems)
  if (isOn(given.get('help'))) return { help: helpText(resolverProgram, resolverIntro) }
  if (isOn(given.get('version'))) return { version: true }
  const corefile = given.get('corefile')?.[0]?.text
  const core = corefile === undefined ? undefined : readCorefile(corefile, readFile, problems)
  for (const [name, values] of core?.given ?? []) if (!given.has(name)) given.set(name, values)
  const settings = new SettingsReader(optionsOf(resolverProgram), given, problems)
  const config: ResolverProgramConfig = {
    resolver: readResolverSettings(settings, {}),
    zones: core?.zones ?? [],
    metrics: settings.listen('metrics-address'),
    health: settings.listen('health-address'),
    controlSocket: settings.text('control-socket') === 'off' ? undefined : settings.text('control-socket'),
    logLevel: settings.choice('log-level') as ResolverProgramConfig['logLevel'],
    logFormat: settings.choice('log-format') as 'json' | 'text',
    checkOnly: settings.boolean('check-config'),
    notes: core?.notes ?? [],
  }
  return problems.length > 0 ? { problems } : { config: Object.freeze(config) }
}
