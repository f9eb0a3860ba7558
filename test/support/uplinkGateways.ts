/**
 * Two gateways of a single uplink: processes without packets, on two addresses of loopback, and the DNS server that they ask. Where their objects come
 * from is the test's affair.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Flag } from '../../dns/constants.ts'
import { decodeMessage } from '../../dns/message.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { formatAddress } from '../../ipref/address.ts'
import type { ConfigMap } from '../../resources/kinds.ts'
import { formatNetwork, NETWORK_KEY, NETWORK_NAME, type NetworkGateway } from '../../resources/network.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { edns, query, zone } from '../unit/dns/builders.ts'
import { network } from './clusterBuilders.ts'
import { freePorts } from './ports.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
export const PATIENCE_MS = 60_000
const HOSTS = 400
export const GATEWAYS = ['a', 'b'] as const
export type Name = (typeof GATEWAYS)[number]
const ADDRESS = { a: '127.0.0.2', b: '127.0.0.3' } as const
export const OTHER = { a: 'b', b: 'a' } as const

/** What the operator would tell them. */
export function networkOfTwo(): ConfigMap {
  const gateways = GATEWAYS.map(
    (name, i): NetworkGateway => ({
      name,
      nodeName: name,
      nodeAddresses: [ADDRESS[name]],
      slices: [`10.177.${64 * i}.0/18`],
      publicAddresses: ['198.51.100.1'],
      publish: true,
    }),
  )
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'ipref', name: NETWORK_NAME },
    data: { [NETWORK_KEY]: formatNetwork(network({ uplink: 'single', gateways })) },
  }
}

export class UplinkGateways {
  /** for what else the test needs; gone in the end */
  readonly folder = mkdtempSync(join(tmpdir(), 'ipref-uplink-'))
  readonly #children = new Map<Name, ChildProcess>()
  readonly #dns = new ZoneServer(
    { listen: [{ host: '127.0.0.1', port: 0 }], keys: [], transferAllow: [], transferKeys: [], notify: [] },
    { log: { info: () => {}, warn: () => {} } },
  )
  #ports = { dns: 0, uplink: 0 }
  #upstream = ''

  static async open(): Promise<UplinkGateways> {
    const gateways = new UplinkGateways()
    const [server] = await gateways.#dns.start()
    gateways.#upstream = `127.0.0.1:${server!.port}`
    const records = Array.from({ length: HOSTS }, (_, i) => `host${i} 300 TXT "AA 203.0.113.7 + ${i + 1}"`)
    gateways.#dns.setZone(zone(records.join('\n')))
    const [dns, uplink] = (await freePorts(2, Object.values(ADDRESS))) as [number, number]
    gateways.#ports = { dns, uplink }
    return gateways
  }

  async close(): Promise<void> {
    for (const name of GATEWAYS) await this.end(name, 'SIGKILL')
    await this.#dns.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** `objects`: flags that say where they come from. */
  start(name: Name, objects: readonly string[]): void {
    const path = (called: string) => join(this.folder, `${name}.${called}`)
    const argv = [
      ...['gateway', '-devmode', ...objects, '-node', name, '-encode-net', '10.176.0.0/12', '-hosts', '/dev/null'],
      ...['-data', path('data'), '-mapper-socket', path('mapper'), '-control-socket', path('control')],
      ...['-resolver-listen', `${ADDRESS[name]}:${this.#ports.dns}`, '-resolver-upstream', this.#upstream],
      ...['-uplink-port', String(this.#ports.uplink), '-resolver-cache-size', '0'],
      ...['-metrics-address', 'off', '-health-address', 'off', '-log-level', 'error'],
    ]
    this.#children.set(name, spawn(IPREF, argv, { stdio: ['ignore', 'ignore', 'inherit'] }))
  }

  async end(name: Name, signal: NodeJS.Signals): Promise<void> {
    const child = this.#children.get(name)
    this.#children.delete(name)
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
    child.kill(signal)
    await ended
  }

  /** What `ipref status` says of it. */
  async uplinkOf(name: Name): Promise<string> {
    try {
      const report = (await askControl(join(this.folder, `${name}.control`), { do: 'status' })) as StatusReport
      return report.uplink ?? 'none'
    } catch {
      return 'not there'
    }
  }

  /** The active one, once the other stands by. */
  active(): Promise<Name> {
    return until('an active gateway with a standby', async () => {
      const said = await Promise.all(GATEWAYS.map(name => this.uplinkOf(name)))
      const active = GATEWAYS.find((name, i) => said[i] === `active, standby ${OTHER[name]}`)
      const isFollowed = active && said[GATEWAYS.indexOf(OTHER[active])] === `${active} is active; standing by for it`
      return isFollowed ? active : undefined
    })
  }

  /** What the resolver of a gateway answers; undefined: no address. */
  addressAt(name: Name, host: string): Promise<string | undefined> {
    const socket = createSocket('udp4')
    const id = Math.floor(Math.random() * 65536)
    return new Promise(resolve => {
      const done = (address?: string) => {
        clearTimeout(timer)
        socket.close()
        resolve(address)
      }
      const timer = setTimeout(done, 1500)
      socket.on('error', () => done())
      socket.on('message', bytes => {
        const answer = decodeMessage(Uint8Array.from(bytes))
        done(typeof answer === 'string' || !answer.answers[0] ? undefined : formatAddress(answer.answers[0].data))
      })
      socket.send(query(`${host}.example.com A`, { id, flags: Flag.RD, edns: edns() }), this.#ports.dns, ADDRESS[name])
    })
  }

  async addresses(name: Name, hosts: readonly string[]): Promise<(string | undefined)[]> {
    const found: (string | undefined)[] = []
    for (const host of hosts) found.push(await until(host, () => this.addressAt(name, host)))
    return found
  }
}

export async function until<Value>(what: string, look: () => Promise<Value | undefined | false>): Promise<Value> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const value = await look()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
