/** Configuration of the DNS agent, alone (`ipref dns-agent`) and as a part of the gateway. */
import { countLabels, lowerName, type Name, parseName, plainName } from '../../dns/name.ts'
import type { TsigKey } from '../../dns/tsig.ts'
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import { helpText, isOn, optionsOf, parseSettings, SettingsReader } from '../../runtime/settings.ts'
import { agentIntro, agentProgram } from './agentOptions.ts'
import { parseEndpoint } from './resolverConfig.ts'
import type { UpstreamServer } from './upstreams.ts'
import { readKeys } from './zones.ts'

const DNS_PORT = 53

export interface AgentServer {
  /** as it was written */
  text: string
  /** an address, or a name that the system resolves */
  host: string
  port: number
}

export interface AgentSource {
  local: Name
  public: Name
  servers: readonly AgentServer[]
}

export interface AgentConfig {
  sources: readonly AgentSource[]
  encodedFamilies: readonly (4 | 6)[]
  contextFamilies: readonly (4 | 6)[]
  mapperSocket: string
  /** seconds between two transfers from one server, about */
  pollSeconds: number
  holdDownSeconds: number
  keys: readonly TsigKey[]
  /** who knows local names; empty: /etc/hosts and /etc/resolv.conf */
  resolvers: readonly UpstreamServer[]
  notifyListen: { host: string; port: number } | undefined
}

export interface AgentProgramConfig {
  agent: AgentConfig
  /** no mapper */
  devmode: boolean
  /** undefined: nowhere */
  metrics: { host: string; port: number } | undefined
  logLevel: 'debug' | 'info' | 'warn' | 'error'
  logFormat: 'json' | 'text'
  checkOnly: boolean
}

export type ParsedAgentConfig =
  | { config: AgentProgramConfig }
  | { problems: string[] }
  | { help: string }
  | { version: true }

const EXPECTED = 'write LOCAL:PUBLIC:SERVER[:PORT],…, such as internal:example.com:192.0.2.53,ns2.example.com:5353'

/** A text: what is wrong with it. */
export function parseSource(text: string): AgentSource | string {
  const match = /^([^:]+):([^:]+):(.+)$/.exec(text)
  if (!match) return `${text}: ${EXPECTED}`
  const [local, publicName] = [parseName(match[1]!), parseName(match[2]!)]
  if (!local || !publicName) return `${text}: ${local ? match[2] : match[1]} is no domain name; ${EXPECTED}`
  const servers: AgentServer[] = []
  for (const one of match[3]!.split(',')) {
    if (one === '') return `${text}: a server is missing where two commas meet, or at the end`
    const server = parseServer(one)
    if (!server) return `${text}: ${one} is no server (192.0.2.53, [2001:db8::53]:5353, ns1.example.com:53)`
    if (servers.some(s => s.host === server.host && s.port === server.port)) return `${text}: ${one} is there twice`
    servers.push(server)
  }
  return { local: lowerName(local), public: lowerName(publicName), servers }
}

function parseServer(text: string): AgentServer | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(text)
  if (!match) return undefined
  const host = match[1] ?? match[2]!
  const port = match[3] === undefined ? DNS_PORT : Number(match[3])
  if (port < 1 || port > 65535) return undefined
  const address = parseAddress(host)
  if (match[1] !== undefined) return address?.length === 16 ? { text, host: formatAddress(address), port } : undefined
  if (/^[\d.]+$/.test(host)) return address ? { text, host: formatAddress(address), port } : undefined
  const name = parseName(host)
  return name && countLabels(name) > 0 ? { text, host: plainName(lowerName(name)), port } : undefined
}

function familiesOf(text: string): (4 | 6)[] | undefined {
  const families = text.split(/[, ]+/)
  const isRight = families.every(f => f === '4' || f === '6') && new Set(families).size === families.length
  return isRight ? families.map(f => Number(f) as 4 | 6) : undefined
}

/** What both ways of running have in common. */
export function readAgentSettings(
  settings: SettingsReader,
  sources: readonly { text: string; where: string }[],
  known: { encodedFamilies?: readonly (4 | 6)[]; contextFamilies?: readonly (4 | 6)[]; mapperSocket?: string },
): AgentConfig {
  const parsed = sources.flatMap(({ text, where }) => {
    const source = parseSource(text)
    if (typeof source !== 'string') return [source]
    settings.problem(`${where}: ${source}`)
    return []
  })
  parsed.forEach((source, i) => {
    // to the mapper they would be one
    if (parsed.findIndex(one => one.local === source.local && one.public === source.public) === i) return
    const shown = `${plainName(source.local)}:${plainName(source.public)}`
    settings.problem(`${sources[i]!.where}: ${shown} is there twice; write it once, with all its servers`)
  })
  const ipVersion = 'IP version (4, 6, or 4,6)'
  return {
    sources: parsed,
    encodedFamilies: known.encodedFamilies ?? settings.each('ea-ipver', familiesOf, ipVersion).at(-1) ?? [4],
    contextFamilies: known.contextFamilies ?? settings.each('gw-ipver', familiesOf, ipVersion).at(-1) ?? [4],
    mapperSocket: known.mapperSocket ?? socketOf(settings),
    pollSeconds: 60 * settings.number('t')!,
    holdDownSeconds: settings.number('hold-down')!,
    keys: readKeys(settings, 'key'),
    resolvers: settings.each(
      'resolver',
      text => {
        const endpoint = parseEndpoint(text, DNS_PORT)
        return endpoint && { text, ...endpoint }
      },
      'address of a server (192.0.2.53, 192.0.2.53:5353)',
    ),
    notifyListen: settings.listen('notify-listen'),
  }
}

function socketOf(settings: SettingsReader): string {
  const path = settings.text('m').replace(/^unix:\/\//, '')
  if (path.includes('://')) settings.problem(`-m: ${path} is no Unix socket; write unix:///run/ipref/mapper.sock`)
  return path
}

/** `readFile` throws for a file that cannot be read. */
export function parseAgentConfig(argv: readonly string[], readFile: (path: string) => string): ParsedAgentConfig {
  const problems: string[] = []
  const { given, rest } = parseSettings(agentProgram, argv, readFile, problems)
  if (isOn(given.get('help'))) return { help: helpText(agentProgram, agentIntro) }
  if (isOn(given.get('version'))) return { version: true }
  const settings = new SettingsReader(optionsOf(agentProgram), given, problems)
  const sources = rest.map(text => ({ text, where: 'source' }))
  if (sources.length === 0 && problems.length === 0) settings.problem(`no source: ${EXPECTED}`)
  const config: AgentProgramConfig = {
    agent: readAgentSettings(settings, sources, {}),
    devmode: settings.boolean('devmode'),
    metrics: settings.listen('metrics-address'),
    logLevel: settings.boolean('debug') ? 'debug' : (settings.choice('log-level') as AgentProgramConfig['logLevel']),
    logFormat: settings.choice('log-format') as 'json' | 'text',
    checkOnly: settings.boolean('check-config'),
  }
  return problems.length > 0 ? { problems } : { config: Object.freeze(config) }
}
