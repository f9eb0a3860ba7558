/** The zone server with zones from files, as a part of the gateway (`-zone`), or as a Corefile of the resolver asks for it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatName, lowerName, type Name, parseName } from '../../dns/name.ts'
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import { SerialFile, ZoneFile } from '../../dns/zoneFiles.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import { formatAddress, type Prefix, parseAddress, parsePrefix, prefixContains } from '../../ipref/address.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Option, SettingsReader } from '../../runtime/settings.ts'
import { localPrefixes } from './access.ts'
import type { CorefileZone } from './corefile.ts'
import type { ZoneCounts } from './publishReports.ts'
import { type Endpoint, parseEndpoint } from './resolverConfig.ts'

const ZONE_PORT = 5353
const DNS_PORT = 53

export interface ZonesConfig {
  files: readonly { origin: Name; file: string; isInternal?: boolean }[]
  listen: readonly Endpoint[]
  transferAllow: readonly Prefix[]
  keys: readonly TsigKey[]
  notify: readonly Endpoint[]
}

export const zoneOptions: readonly Option[] = [
  {
    name: 'zone',
    kind: 'text',
    many: true,
    value: 'DOMAIN=FILE',
    help: 'serve this zone from a zone file, which is watched; absent: no zone server',
  },
  {
    name: 'zone-internal',
    kind: 'text',
    many: true,
    value: 'DOMAIN=FILE',
    help: 'as -zone, for askers with loopback, link-local, private and unique local addresses alone',
  },
  {
    name: 'zone-listen',
    kind: 'text',
    many: true,
    value: 'ADDRESS[:PORT]',
    help: 'where zones are served, over UDP and TCP; port 5353 if none is given',
  },
  {
    name: 'zone-transfer',
    kind: 'text',
    many: true,
    value: 'PREFIX',
    help: 'secondaries that may transfer zones; absent: nobody',
  },
  {
    name: 'zone-notify',
    kind: 'text',
    many: true,
    value: 'ADDRESS[:PORT]',
    help: 'secondaries that are told of changes, besides the name servers that a zone names',
  },
  {
    name: 'zone-key',
    kind: 'text',
    many: true,
    value: 'ALGORITHM:NAME:SECRET',
    help: 'TSIG key, secret in base64; where there is one, transfers must be signed; @FILE reads one a line',
  },
]

/** Keys as options name them; `@FILE` keeps secrets out of the list of processes. */
export function readKeys(settings: SettingsReader, name: string): TsigKey[] {
  return settings.values(name).flatMap(given => {
    let texts = [given.text]
    if (given.text.startsWith('@')) {
      try {
        texts = readFileSync(given.text.slice(1), 'utf8').split('\n')
      } catch (error) {
        settings.problem(
          `${given.where}: ${given.text.slice(1)} cannot be read (${(error as NodeJS.ErrnoException).code})`,
        )
        return []
      }
    }
    return texts
      .map(text => text.trim())
      .filter(text => text !== '' && !text.startsWith('#'))
      .flatMap(text => {
        const key = parseTsigKey(text)
        if (typeof key !== 'string') return [key]
        settings.problem(`${given.where}: ${key}`)
        return []
      })
  })
}

export function readZoneSettings(settings: SettingsReader): ZonesConfig {
  const filesOf = (option: string, isInternal: boolean) =>
    settings.values(option).flatMap(given => {
      const match = /^([^=]+)=(.+)$/.exec(given.text)
      const origin = match && parseName(match[1]!)
      if (origin) return [{ origin: lowerName(origin), file: match[2]!, isInternal }]
      settings.problem(`${given.where}: ${given.text} is no DOMAIN=FILE (example.com=/etc/ipref/example.com.zone)`)
      return []
    })
  const files = [...filesOf('zone', false), ...filesOf('zone-internal', true)]
  const listen = settings.each('zone-listen', text => parseEndpoint(text, ZONE_PORT), 'address (192.0.2.53:53)')
  if (files.length > 0 && listen.length === 0)
    settings.problem('-zone-listen: where to serve the zones is missing; write -zone-listen ADDRESS:PORT')
  return {
    files,
    listen,
    transferAllow: settings.each('zone-transfer', prefixOf, 'prefix or address (192.0.2.0/24, 192.0.2.54)'),
    keys: readKeys(settings, 'zone-key'),
    notify: settings.each('zone-notify', text => parseEndpoint(text, DNS_PORT), 'address (192.0.2.54:53)'),
  }
}

function prefixOf(text: string): Prefix | undefined {
  const address = parseAddress(text)
  return parsePrefix(address ? `${text}/${address.length * 8}` : text)
}

export class Zones {
  readonly #config: ZonesConfig
  readonly #log: Logger
  readonly #server: ZoneServer
  readonly #files: ZoneFile[] = []
  readonly #problems = new Map<string, readonly string[]>()

  readonly #onChange: (zone: Name) => void

  /** `folder`: where the serials that were served are kept; undefined: nowhere. `onChange`: a zone, in lower case, has new content. */
  constructor(config: ZonesConfig, log: Logger, folder: string | undefined, onChange: (zone: Name) => void = () => {}) {
    this.#config = config
    this.#onChange = onChange
    this.#log = log.child({ component: 'zones' })
    const serials =
      folder === undefined ? undefined : new SerialFile(join(folder, 'serials.json'), text => this.#log.warn(text))
    this.#server = new ZoneServer(
      {
        listen: config.listen.map(({ address, port }) => ({ host: formatAddress(address), port })),
        transferAllow: config.transferAllow,
        keys: config.keys,
        transferKeys: config.keys.map(key => key.name),
        internal: {
          zones: config.files.filter(file => file.isInternal).map(file => file.origin),
          allows: address => localPrefixes.some(prefix => prefixContains(prefix, address)),
        },
        notify: config.notify.map(({ address, port }) => ({
          host: formatAddress(address),
          port,
          ...(config.keys[0] ? { key: config.keys[0] } : {}),
        })),
      },
      { log: this.#log, ...(serials ? { serials } : {}) },
    )
  }

  counts(): ZoneCounts {
    const { counters, notifiesSent } = this.#server
    const zones = this.#config.files.filter(({ origin }) => this.#server.zone(origin)).length
    return { zones, problems: this.problems.length, notifiesSent, ...counters }
  }

  get problems(): string[] {
    return [...this.#problems.values()].flat()
  }

  /** Where it listens. Rejects when an address cannot be had. */
  async start(): Promise<readonly { host: string; port: number }[]> {
    const listening = await this.#server.start()
    for (const { origin, file } of this.#config.files) {
      const source = new ZoneFile(file, origin, {
        onZone: zone => {
          const served = this.#server.setZone(zone)
          this.#log.info({ zone: formatName(origin), file, serial: served.soa.serial }, 'zone served')
          this.#onChange(origin)
        },
        onProblems: problems => {
          this.#problems.set(file, problems)
          for (const problem of problems) this.#log.error(problem)
          if (problems.length === 0) this.#log.info(`${file}: no errors any more`)
        },
      })
      this.#files.push(source)
      source.start()
    }
    return listening
  }

  async stop(): Promise<void> {
    for (const file of this.#files) file.stop()
    await this.#server.stop()
  }
}

/** Serves what a Corefile says; ends with what is returned. */
export async function serveZones(zones: readonly CorefileZone[], log: Logger): Promise<() => Promise<void>> {
  const running: Zones[] = []
  for (const group of Map.groupBy(zones, zone => zone.listen.join()).values()) {
    const transferTo = [...new Set(group.flatMap(zone => zone.transferTo))].filter(text => text !== '*')
    const isOpen = group.some(zone => zone.transferTo.includes('*'))
    const endpoints = transferTo.flatMap(text => parseEndpoint(text, DNS_PORT) ?? [])
    const config: ZonesConfig = {
      files: group.map(({ origin, file }) => ({ origin: lowerName(parseName(origin)!), file })),
      listen: group[0]!.listen.map(text => parseEndpoint(text, DNS_PORT)!),
      transferAllow: isOpen
        ? [parsePrefix('0.0.0.0/0')!, parsePrefix('::/0')!]
        : endpoints.map(({ address }) => prefixOf(formatAddress(address))!),
      keys: [],
      notify: endpoints,
    }
    const one = new Zones(config, log, undefined)
    await one.start()
    running.push(one)
  }
  return async () => {
    for (const one of running) await one.stop()
  }
}
