/**
 * Configuration of `ipref gateway`: command line and YAML file, checked as a whole. All problems are reported at once, each with the
 * flag, or file and line, and what would be right. The result is frozen; nothing else reads flags or files of settings.
 */
import {
  equalAddress,
  familyOf,
  formatAddress,
  formatPrefix,
  isUnspecified,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
} from '../ipref/address.ts'
import { parseHostsFile } from '../ipref/hostsFile.ts'
import { parseReference } from '../ipref/reference.ts'
import { type Given, helpText, isOn, parseSettings, SettingsReader } from '../runtime/settings.ts'
import { type AgentConfig, readAgentSettings } from './dns/agentConfig.ts'
import { type ResolverConfig, readResolverSettings } from './dns/resolverConfig.ts'
import { readZoneSettings, type ZonesConfig } from './dns/zones.ts'
import { type KubeConfig, readKubeSettings } from './kube/kubeOptions.ts'
import type { Assertion } from './mapper/assertions.ts'
import { gatewayIntro, gatewayProgram, options } from './options.ts'

export interface PeerSetting {
  address: Uint8Array
  port: number
}

export interface Listen {
  host: string
  port: number
}

export interface GatewayConfig {
  bind: readonly Uint8Array[]
  /** known public addresses: source contexts */
  contexts: readonly Uint8Array[]
  port: number
  gatewayReference: bigint
  wireMtu: number | undefined
  encodingNetworks: readonly Prefix[]
  /** `.1` of each encoding network, in the same order */
  ownEncoded: readonly Uint8Array[]
  localNetworks: readonly Prefix[]
  tunName: string
  dataFolder: string
  hostsFile: string
  static: readonly Assertion[]
  maxMappings: number
  quotaPerPeer: number
  referenceLength: 4 | 8
  mapperSocket: string
  peers: readonly PeerSetting[]
  remotePort: number
  maxPeers: number
  openHosts: boolean
  gatewayOpen: boolean
  decrementTtl: boolean
  clampMss: boolean
  offloads: { tunTso: boolean; tunUso: boolean; udpGso: boolean; udpGro: boolean }
  controlSocket: string
  metrics: Listen | undefined
  health: Listen | undefined
  logLevel: 'debug' | 'info' | 'warn' | 'error'
  logFormat: 'json' | 'text'
  /** undefined: none in this process */
  resolver: ResolverConfig | undefined
  /** answer native addresses for names of our own network */
  shortcut: boolean
  zones: ZonesConfig | undefined
  kube: KubeConfig | undefined
  agent: AgentConfig | undefined
  devmode: boolean
  checkOnly: boolean
  cleanup: boolean
  /** things that are no errors, but that a person should know */
  notes: readonly string[]
}

export type ParsedConfig = { config: GatewayConfig } | { problems: string[] } | { help: string } | { version: true }

const LEAST_HOST_BITS = 13

/** `readFile` throws for a file that cannot be read. */
export function parseGatewayConfig(argv: readonly string[], readFile: (path: string) => string): ParsedConfig {
  const problems: string[] = []
  const { given } = parseSettings(gatewayProgram, argv, readFile, problems)
  if (isOn(given.get('help'))) return { help: helpText(gatewayProgram, gatewayIntro) }
  if (isOn(given.get('version'))) return { version: true }
  const config = new Reader(new SettingsReader(options, given, problems)).read()
  return problems.length > 0 ? { problems } : { config: Object.freeze(config) }
}

/** Turns texts into values; every mistake becomes a problem. */
class Reader {
  readonly #settings: SettingsReader
  readonly #problems: string[]

  constructor(settings: SettingsReader) {
    this.#settings = settings
    this.#problems = settings.problems
  }

  read(): GatewayConfig {
    const both = this.#addresses('gateway')
    const bind = this.#onePerFamily('gateway-bind', [...this.#addresses('gateway-bind'), ...both])
    const contexts = this.#onePerFamily('gateway-pub', [...this.#addresses('gateway-pub'), ...both]).filter(
      a => !isUnspecified(a),
    )
    const encodingNetworks = this.#encodingNetworks()
    const localNetworks = this.#settings.values('local-net').flatMap(given => this.#prefix(given))
    const [devmode, cleanup] = [this.#settings.boolean('devmode'), this.#settings.boolean('cleanup')]
    if (bind.length === 0 && !devmode && !cleanup) {
      this.#problems.push(
        '-gateway: the address to listen on is missing; write -gateway ADDRESS (or -gateway-bind, behind NAT)',
      )
    }
    this.#checkOverlap(encodingNetworks, localNetworks, [...bind, ...contexts])
    const debug = this.#settings.boolean('debug') || this.#settings.boolean('trace')
    return {
      bind,
      contexts,
      port: this.#settings.number('gateway-port')!,
      gatewayReference: this.#reference('gateway-ref'),
      wireMtu: this.#settings.number('gateway-ifc-mtu'),
      encodingNetworks,
      ownEncoded: encodingNetworks.map(ownEncodedOf),
      localNetworks,
      tunName: this.#settings.text('tun-name'),
      dataFolder: this.#settings.text('data'),
      hostsFile: this.#settings.text('hosts'),
      static: this.#settings.values('static').flatMap(given => this.#static(given)),
      maxMappings: this.#settings.number('max-mappings')!,
      quotaPerPeer: this.#settings.number('mapping-quota-per-peer')!,
      referenceLength: Number(this.#settings.choice('reference-length')) as 4 | 8,
      mapperSocket: this.#settings.text('mapper-socket').replace(/^unix:\/\//, ''),
      peers: this.#settings.values('peer').flatMap(given => this.#peer(given)),
      remotePort: this.#settings.number('remote-gateway-port')!,
      maxPeers: this.#settings.number('max-remote-gateways')!,
      openHosts: this.#settings.boolean('open-hosts'),
      gatewayOpen: this.#settings.boolean('gateway-open'),
      decrementTtl: this.#settings.boolean('dec-ttl'),
      clampMss: this.#settings.boolean('clamp-mss'),
      offloads: {
        tunTso: this.#settings.choice('tun-tso') === 'auto',
        tunUso: this.#settings.choice('tun-uso') === 'auto',
        udpGso: this.#settings.choice('udp-gso') === 'auto',
        udpGro: this.#settings.choice('udp-gro') === 'auto',
      },
      controlSocket: this.#settings.text('control-socket'),
      metrics: this.#settings.listen('metrics-address'),
      health: this.#settings.listen('health-address'),
      logLevel: debug ? 'debug' : (this.#settings.choice('log-level') as GatewayConfig['logLevel']),
      logFormat: this.#settings.choice('log-format') as 'json' | 'text',
      resolver: this.#resolver(encodingNetworks, contexts.length > 0 ? contexts : bind),
      shortcut: this.#settings.boolean('resolver-shortcut'),
      zones: this.#zones(),
      agent: this.#agent(encodingNetworks, contexts.length > 0 ? contexts : bind),
      kube: readKubeSettings(this.#settings),
      devmode,
      checkOnly: this.#settings.boolean('check-config'),
      cleanup,
      notes: this.#notes(),
    }
  }

  #reference(name: string): bigint {
    const given = this.#settings.values(name).at(-1)!
    const value = parseReference(given.text)
    if (value === undefined || value === 0n)
      this.#problems.push(`${given.where}: ${given.text} is no reference (1, 11, 0-7000, …)`)
    return value ?? 1n
  }

  #addresses(name: string): Uint8Array[] {
    return this.#settings.values(name).flatMap(given => {
      const address = parseAddress(given.text)
      if (!address) this.#problems.push(`${given.where}: ${given.text} is no IP address (198.51.100.1, 2001:db8::1)`)
      return address ? [address] : []
    })
  }

  #onePerFamily(name: string, addresses: Uint8Array[]): Uint8Array[] {
    const families = new Map<number, Uint8Array>()
    for (const address of addresses) {
      const before = families.get(familyOf(address))
      if (before && !equalAddress(before, address)) {
        this.#problems.push(
          `-${name}: two IPv${familyOf(address)} addresses, ${formatAddress(before)} and ${formatAddress(address)}; there can be one`,
        )
      }
      families.set(familyOf(address), address)
    }
    return [...families.values()].sort((a, b) => a.length - b.length)
  }

  #prefix(given: Given): Prefix[] {
    const prefix = parsePrefix(given.text)
    if (!prefix)
      this.#problems.push(
        `${given.where}: ${given.text} is no prefix with zeros behind its length (10.1.0.0/24, fd01::/64)`,
      )
    return prefix ? [prefix] : []
  }

  #encodingNetworks(): Prefix[] {
    const networks: Prefix[] = []
    for (const given of this.#settings.values('encode-net')) {
      const [prefix] = this.#prefix(given)
      if (!prefix) continue
      const bits = prefix.address.length * 8 - prefix.length
      if (bits < LEAST_HOST_BITS)
        this.#problems.push(
          `${given.where}: ${given.text} is too small; it needs /${prefix.address.length * 8 - LEAST_HOST_BITS} or shorter`,
        )
      if (networks.some(n => n.family === prefix.family))
        this.#problems.push(`${given.where}: a second IPv${prefix.family} encoding network; there can be one`)
      networks.push(prefix)
    }
    return networks.sort((a, b) => a.family - b.family)
  }

  #checkOverlap(encoding: readonly Prefix[], local: readonly Prefix[], own: readonly Uint8Array[]): void {
    for (const network of encoding) {
      for (const prefix of local) {
        if (prefixesOverlap(network, prefix))
          this.#problems.push(
            `-local-net ${formatPrefix(prefix)} overlaps the encoding network ${formatPrefix(network)}; choose another with -encode-net`,
          )
      }
      for (const address of own) {
        if (prefixContains(network, address))
          this.#problems.push(
            `${formatAddress(address)} lies in the encoding network ${formatPrefix(network)}; choose another with -encode-net`,
          )
      }
    }
  }

  // ADDRESS = pub + REF, ADDRESS = ext CONTEXT + REF: a line of a hosts file without the #
  #static(given: Given): Assertion[] {
    const { records, errors } = parseHostsFile(given.text.replace('=', 'static #='))
    if (errors.length > 0 || records.length !== 1) {
      this.#problems.push(
        `${given.where}: ${given.text}: ${errors[0]?.problem ?? "write 'ADDRESS = pub + REFERENCE' or 'ADDRESS = ext CONTEXT + REFERENCE'"}`,
      )
      return []
    }
    const record = records[0]!
    const where = given.where
    if (record.kind === 'ours')
      return [
        {
          kind: 'ours',
          address: record.address,
          contexts: record.context ?? 'all',
          reference: record.reference,
          where,
        },
      ]
    return [{ kind: 'theirs', encoded: record.address, context: record.context, reference: record.reference, where }]
  }

  #peer(given: Given): PeerSetting[] {
    const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(given.text)
    const plain = /^([^:]+):(\d+)$/.exec(given.text)
    const host = bracketed?.[1] ?? plain?.[1] ?? given.text
    const portText = bracketed?.[2] ?? plain?.[2]
    const address = parseAddress(host)
    const port = portText === undefined ? this.#settings.number('remote-gateway-port')! : Number(portText)
    if (!address || port < 1 || port > 65535) {
      this.#problems.push(
        `${given.where}: ${given.text} is no peer (198.51.100.2, 198.51.100.2:1045, [2001:db8::2]:1045)`,
      )
      return []
    }
    return [{ address, port }]
  }

  #resolver(networks: readonly Prefix[], own: readonly Uint8Array[]): ResolverConfig | undefined {
    const config = readResolverSettings(this.#settings.part('resolver-'), {
      encodedFamilies: networks.map(n => n.family),
      contextFamilies: own.length > 0 ? own.map(familyOf) : [4, 6],
      mapperSocket: this.#settings.text('mapper-socket').replace(/^unix:\/\//, ''),
      encodingNetworks: networks,
    })
    return config.listen.length > 0 ? config : undefined
  }

  #zones(): ZonesConfig | undefined {
    const zones = readZoneSettings(this.#settings)
    return zones.files.length > 0 ? zones : undefined
  }

  #agent(networks: readonly Prefix[], own: readonly Uint8Array[]): AgentConfig | undefined {
    const config = readAgentSettings(this.#settings.part('dns-agent-'), this.#settings.values('dns-agent'), {
      encodedFamilies: networks.map(n => n.family),
      contextFamilies: own.length > 0 ? own.map(familyOf) : [4, 6],
      mapperSocket: this.#settings.text('mapper-socket').replace(/^unix:\/\//, ''),
    })
    return config.sources.length > 0 ? config : undefined
  }

  #notes(): string[] {
    const without = ['max-buffers', 'max-local-ips', 'ticks', 'time-stamps'].filter(name => this.#settings.has(name))
    return without.map(name => `-${name} is accepted and has no effect`)
  }
}

/** The gateway's own encoded address: `.1`, `::1`. */
export function ownEncodedOf(network: Prefix): Uint8Array {
  const address = network.address.slice()
  address[address.length - 1] = 1
  return address
}
