/**
 * Configuration of `ipref gateway`: command line and YAML file, checked as a whole. All problems are reported at once, each with the
 * flag, or file and line, and what would be right. The result is frozen; nothing else reads flags or files of settings.
 */
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
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
import type { Assertion } from './mapper/assertions.ts'
import { helpText, type Option, options } from './options.ts'

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
  devmode: boolean
  checkOnly: boolean
  cleanup: boolean
  /** things that are no errors, but that a person should know */
  notes: readonly string[]
}

export type ParsedConfig = { config: GatewayConfig } | { problems: string[] } | { help: string } | { version: true }

interface Given {
  text: string
  /** `-name`, or `file:line` */
  where: string
}

const LEAST_HOST_BITS = 13

/** `readFile` throws for a file that cannot be read. */
export function parseGatewayConfig(argv: readonly string[], readFile: (path: string) => string): ParsedConfig {
  const problems: string[] = []
  const given = parseArguments(argv, problems)
  if (isOn(given.get('help'))) return { help: helpText() }
  if (isOn(given.get('version'))) return { version: true }
  const file = given.get('config')?.[0]?.text
  if (file !== undefined) mergeFile(file, readFile, given, problems)
  const config = new Reader(given, problems).read()
  return problems.length > 0 ? { problems } : { config: Object.freeze(config) }
}

function isOn(values: readonly Given[] | undefined): boolean {
  return values?.at(-1)?.text === 'true'
}

function parseArguments(argv: readonly string[], problems: string[]): Map<string, Given[]> {
  const given = new Map<string, Given[]>()
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!
    const match = /^--?([A-Za-z][\w-]*)(?:=(.*))?$/s.exec(argument)
    if (!match) {
      problems.push(`${argument}: flags begin with a dash; ipref gateway takes nothing else`)
      continue
    }
    const name = match[1] === 'h' ? 'help' : match[1]!
    const option = options.get(name)
    if (!option) {
      problems.push(unknown(`-${name}`, name))
      continue
    }
    const isSwitch = option.kind === 'boolean'
    const value = match[2] ?? (isSwitch ? 'true' : argv[++i])
    if (value === undefined) problems.push(`-${name}: a value is missing; write -${name} ${option.value}`)
    else add(given, option, { text: value, where: `-${name}` }, problems)
  }
  return given
}

function add(given: Map<string, Given[]>, option: Option, value: Given, problems: string[]): void {
  const before = given.get(option.name)
  if (!before) given.set(option.name, [value])
  else if (option.many) before.push(value)
  else problems.push(`${value.where}: given more than once`)
}

function unknown(where: string, name: string): string {
  const near = [...options.keys()]
    .map(known => ({ known, distance: distanceOf(known, name) }))
    .sort((a, b) => a.distance - b.distance)[0]
  return `${where}: unknown${near && near.distance <= 3 ? `; did you mean ${near.known}?` : '; ipref gateway -help lists all'}`
}

// Levenshtein
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}

// what the command line has not said
function mergeFile(
  file: string,
  readFile: (path: string) => string,
  given: Map<string, Given[]>,
  problems: string[],
): void {
  let text: string
  try {
    text = readFile(file)
  } catch (error) {
    problems.push(`-config ${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`)
    return
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  for (const error of document.errors)
    problems.push(`${file}:${error.linePos?.[0].line ?? 1}: ${error.message.split('\n')[0]}`)
  if (document.errors.length > 0 || document.contents === null) return
  if (!isMap(document.contents)) {
    problems.push(`${file}:1: expected names and values, such as\n    gateway: 198.51.100.1`)
    return
  }
  const lineOf = (node: unknown) => lines.linePos((node as { range?: [number] }).range?.[0] ?? 0).line
  const fromFile = new Map<string, Given[]>()
  for (const pair of document.contents.items) {
    const name = String(isScalar(pair.key) ? pair.key.value : pair.key)
    const where = `${file}:${lineOf(pair.key)}: ${name}`
    const option = options.get(name)
    if (!option || name === 'config') {
      problems.push(unknown(where, name))
      continue
    }
    const nodes = isSeq(pair.value) ? pair.value.items : [pair.value]
    if (isSeq(pair.value) && !option.many) problems.push(`${where}: one value, not a list`)
    for (const node of nodes) {
      if (!isScalar(node)) problems.push(`${where}: expected a plain value`)
      else add(fromFile, option, { text: String(node.value), where }, problems)
    }
  }
  for (const [name, values] of fromFile) if (!given.has(name)) given.set(name, values)
}

/** Turns texts into values; every mistake becomes a problem. */
class Reader {
  readonly #given: ReadonlyMap<string, readonly Given[]>
  readonly #problems: string[]

  constructor(given: ReadonlyMap<string, readonly Given[]>, problems: string[]) {
    this.#given = given
    this.#problems = problems
  }

  read(): GatewayConfig {
    const both = this.#addresses('gateway')
    const bind = this.#onePerFamily('gateway-bind', [...this.#addresses('gateway-bind'), ...both])
    const contexts = this.#onePerFamily('gateway-pub', [...this.#addresses('gateway-pub'), ...both]).filter(
      a => !isUnspecified(a),
    )
    const encodingNetworks = this.#encodingNetworks()
    const localNetworks = this.#values('local-net').flatMap(given => this.#prefix(given))
    const [devmode, cleanup] = [this.#boolean('devmode'), this.#boolean('cleanup')]
    if (bind.length === 0 && !devmode && !cleanup) {
      this.#problems.push(
        '-gateway: the address to listen on is missing; write -gateway ADDRESS (or -gateway-bind, behind NAT)',
      )
    }
    this.#checkOverlap(encodingNetworks, localNetworks, [...bind, ...contexts])
    const debug = this.#boolean('debug') || this.#boolean('trace')
    return {
      bind,
      contexts,
      port: this.#number('gateway-port')!,
      gatewayReference: this.#reference('gateway-ref'),
      wireMtu: this.#number('gateway-ifc-mtu'),
      encodingNetworks,
      ownEncoded: encodingNetworks.map(ownEncodedOf),
      localNetworks,
      tunName: this.#text('tun-name'),
      dataFolder: this.#text('data'),
      hostsFile: this.#text('hosts'),
      static: this.#values('static').flatMap(given => this.#static(given)),
      maxMappings: this.#number('max-mappings')!,
      quotaPerPeer: this.#number('mapping-quota-per-peer')!,
      referenceLength: Number(this.#choice('reference-length')) as 4 | 8,
      mapperSocket: this.#text('mapper-socket').replace(/^unix:\/\//, ''),
      peers: this.#values('peer').flatMap(given => this.#peer(given)),
      remotePort: this.#number('remote-gateway-port')!,
      maxPeers: this.#number('max-remote-gateways')!,
      openHosts: this.#boolean('open-hosts'),
      gatewayOpen: this.#boolean('gateway-open'),
      decrementTtl: this.#boolean('dec-ttl'),
      clampMss: this.#boolean('clamp-mss'),
      offloads: {
        tunTso: this.#choice('tun-tso') === 'auto',
        tunUso: this.#choice('tun-uso') === 'auto',
        udpGso: this.#choice('udp-gso') === 'auto',
        udpGro: this.#choice('udp-gro') === 'auto',
      },
      controlSocket: this.#text('control-socket'),
      metrics: this.#listen('metrics-address'),
      health: this.#listen('health-address'),
      logLevel: debug ? 'debug' : (this.#choice('log-level') as GatewayConfig['logLevel']),
      logFormat: this.#choice('log-format') as 'json' | 'text',
      devmode,
      checkOnly: this.#boolean('check-config'),
      cleanup,
      notes: this.#notes(),
    }
  }

  #values(name: string): readonly Given[] {
    const given = this.#given.get(name)
    if (given) return given
    const { standard } = options.get(name)!
    return standard === undefined ? [] : [{ text: String(standard), where: `-${name}` }]
  }

  #text(name: string): string {
    const given = this.#values(name).at(-1)
    if (given?.text === '') this.#problems.push(`${given.where}: must not be empty`)
    return given?.text ?? ''
  }

  #choice(name: string): string {
    const given = this.#values(name).at(-1)!
    const { oneOf } = options.get(name)!
    if (!oneOf!.includes(given.text))
      this.#problems.push(`${given.where}: ${given.text} is not one of ${oneOf!.join(', ')}`)
    return given.text
  }

  #boolean(name: string): boolean {
    const given = this.#values(name).at(-1)!
    if (given.text !== 'true' && given.text !== 'false')
      this.#problems.push(`${given.where}: ${given.text} is neither true nor false`)
    return given.text === 'true'
  }

  #number(name: string): number | undefined {
    const given = this.#values(name).at(-1)
    if (!given) return undefined
    const { least = 0, most = Number.MAX_SAFE_INTEGER } = options.get(name)!
    const value = /^\d+$/.test(given.text) ? Number(given.text) : Number.NaN
    if (!(value >= least && value <= most))
      this.#problems.push(`${given.where}: ${given.text} is no number from ${least} to ${most}`)
    return value
  }

  #reference(name: string): bigint {
    const given = this.#values(name).at(-1)!
    const value = parseReference(given.text)
    if (value === undefined || value === 0n)
      this.#problems.push(`${given.where}: ${given.text} is no reference (1, 11, 0-7000, …)`)
    return value ?? 1n
  }

  #addresses(name: string): Uint8Array[] {
    return this.#values(name).flatMap(given => {
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
    for (const given of this.#values('encode-net')) {
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
    const port = portText === undefined ? this.#number('remote-gateway-port')! : Number(portText)
    if (!address || port < 1 || port > 65535) {
      this.#problems.push(
        `${given.where}: ${given.text} is no peer (198.51.100.2, 198.51.100.2:1045, [2001:db8::2]:1045)`,
      )
      return []
    }
    return [{ address, port }]
  }

  #listen(name: string): Listen | undefined {
    const given = this.#values(name).at(-1)!
    if (given.text === 'off') return undefined
    const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(given.text)
    const port = Number(match?.[3])
    if (!match || port > 65535)
      this.#problems.push(`${given.where}: ${given.text} is no ADDRESS:PORT (127.0.0.1:9145, :9145, off)`)
    return { host: match?.[1] ?? match?.[2] ?? '', port }
  }

  #notes(): string[] {
    const without = ['max-buffers', 'max-local-ips', 'ticks', 'time-stamps'].filter(name => this.#given.has(name))
    return without.map(name => `-${name} is accepted and has no effect`)
  }
}

/** The gateway's own encoded address: `.1`, `::1`. */
export function ownEncodedOf(network: Prefix): Uint8Array {
  const address = network.address.slice()
  address[address.length - 1] = 1
  return address
}
