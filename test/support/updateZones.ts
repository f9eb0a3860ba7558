/**
 * Knot DNS with the internal and the public zone of an OperatorCluster, which others write too, behind a relay (dnsRelay.ts): where an operator publishes by
 * dynamic update. `problems` is what differs, record for record, from what others have there and what the objects ask for.
 */
import { join } from 'node:path'
import { Type } from '../../dns/constants.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { transferZone } from '../../dns/transfer.ts'
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import { formatRecord } from '../../dns/zoneText.ts'
import type { IprefService } from '../../resources/kinds.ts'
import { HOST, SECRET, type Server } from '../dns/programs.ts'
import { startUpdatePrimary } from '../dns/updatePrimaries.ts'
import { DnsRelay } from './dnsRelay.ts'
import { eventually } from './netns.ts'
import { freePort } from './ports.ts'

const OWNER = 'crashing'
const KEYS = [
  { name: 'all', secret: SECRET, may: 'update and transfer' },
  { name: 'noaxfr', secret: SECRET, may: 'update' },
] as const
/** People's, and those of other owners: one whose name begins as ours does, one beside our names. */
const BASE = `$TTL 1h
@ IN SOA ns1 admin 1 1h 10m 1w 5m
  IN NS ns1
ns1 A 192.0.2.1
www A 192.0.2.80
spf.shop TXT "v=spf1 -all"
theirs.shop TXT "AA 192.0.2.9 + 77"
_ipref-owner.theirs.shop TXT "ipref-owner=${OWNER}-2"
host.shop A 192.0.2.8
_ipref-owner.host.shop TXT "ipref-owner=elsewhere"
`

interface Zones {
  internal: string
  public: string
}

export class UpdateZones {
  readonly relay: DnsRelay
  readonly #server: Server
  readonly #zones: Zones
  readonly #base = new Map<string, string[]>()

  static async open(folder: string, zones: Zones): Promise<UpdateZones> {
    const settings = { folder: join(folder, 'knotd'), port: await freePort(), keys: KEYS }
    const texts = Object.fromEntries(Object.values(zones).map(zone => [zone, BASE]))
    const server = startUpdatePrimary('knotd', { ...settings, zones: texts })
    const opened = new UpdateZones(server, zones, await DnsRelay.open(server.port))
    try {
      for (const zone of Object.values(zones)) {
        const question = { name: parseName(zone)!, type: Type.SOA }
        const isThere = async () =>
          (await queryServer({ host: HOST, port: server.port }, question, 300))?.answers.length
        await eventually(`knotd has ${zone}`, isThere, { withinMs: 60_000 })
        opened.#base.set(zone, await opened.#records(zone))
      }
    } catch (error) {
      await opened.close()
      throw new Error(`${(error as Error).message}\n${server.log().slice(-3000)}`)
    }
    return opened
  }

  private constructor(server: Server, zones: Zones, relay: DnsRelay) {
    this.#server = server
    this.#zones = zones
    this.relay = relay
  }

  async close(): Promise<void> {
    await this.relay.close()
    await this.#server.stop()
  }

  /** Of the operator's settings. `transfer`: whether it may see a zone as a whole. */
  settings({ transfer }: { transfer: boolean }): string {
    const key = `hmac-sha256:${transfer ? 'all' : 'noaxfr'}:${SECRET}`
    return `publishers:
  rfc2136: [{zone: both, server: "${HOST}:${this.relay.port}", key: "${key}", owner: ${OWNER}}]
readBack: {servers: ["${HOST}:${this.#server.port}"], intervalSeconds: 10}`
  }

  async #records(zone: string): Promise<string[]> {
    const found: string[] = []
    const key = parseTsigKey(`hmac-sha256:all:${SECRET}`) as TsigKey
    await transferZone({
      server: { host: HOST, port: this.#server.port },
      zone: parseName(zone)!,
      key,
      onRecord: record => found.push(formatRecord(record)),
    })
    return found.filter(line => !/\tSOA\t/.test(line)).sort()
  }

  async problems(objects: readonly IprefService[], context: string): Promise<string[]> {
    const problems: string[] = []
    for (const kind of ['public', 'internal'] as const) {
      const there = new Set(await this.#records(this.#zones[kind]))
      const right = new Set(this.#base.get(this.#zones[kind]))
      for (const object of objects) for (const line of linesOf(kind, object, context)) right.add(line)
      for (const line of there) if (!right.has(line)) problems.push(`${kind}: stray: ${line}`)
      for (const line of right) if (!there.has(line)) problems.push(`${kind}: missing: ${line}`)
    }
    return problems
  }
}

function linesOf(kind: keyof Zones, { spec, status }: IprefService, context: string): string[] {
  const name = kind === 'public' ? status!.publicName! : status!.internalName!
  const records = (status!.mappings ?? []).map(({ address, reference }) =>
    kind === 'public' ? `TXT\t"AA ${context} + ${reference}"` : `A\t${address}`,
  )
  const mark = `_ipref-owner.${name}.\t${spec.ttlSeconds}\tIN\tTXT\t"ipref-owner=${OWNER}"`
  return [...records.map(data => `${name}.\t${spec.ttlSeconds}\tIN\t${data}`), mark]
}
