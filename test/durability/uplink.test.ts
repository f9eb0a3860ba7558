/**
 * Single uplink: two gateways (processes, without packets) in one folder of objects; the active one is killed, and the other goes on with the same encoded
 * addresses. How long that took is printed; it is the Lease's time and a little.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Flag } from '../../dns/constants.ts'
import { decodeMessage } from '../../dns/message.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { formatAddress } from '../../ipref/address.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { formatNetwork, NETWORK_KEY, NETWORK_NAME, type NetworkGateway } from '../../resources/network.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { network } from '../support/clusterBuilders.ts'
import { edns, query, zone } from '../unit/dns/builders.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const PATIENCE_MS = 60_000
const GATEWAYS = ['a', 'b'] as const
type Name = (typeof GATEWAYS)[number]
const ADDRESS = { a: '127.0.0.2', b: '127.0.0.3' } as const
const OTHER = { a: 'b', b: 'a' } as const

let folder: string
let operator: DirectoryStore
let dns: ZoneServer
let ports: { dns: number; uplink: number }
let upstream: string
const children = new Map<Name, ChildProcess>()

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-uplink-'))
  mkdirSync(join(folder, 'objects'))
  dns = new ZoneServer(
    { listen: [{ host: '127.0.0.1', port: 0 }], keys: [], transferAllow: [], transferKeys: [], notify: [] },
    { log: { info: () => {}, warn: () => {} } },
  )
  upstream = `127.0.0.1:${(await dns.start())[0]!.port}`
  dns.setZone(zone(Array.from({ length: 400 }, (_, i) => `host${i} 300 TXT "AA 203.0.113.7 + ${i + 1}"`).join('\n')))
  ports = { dns: await freePort(), uplink: await freePort() }
  operator = await DirectoryStore.open(join(folder, 'objects'))
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
  await operator.apply('ConfigMap', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: 'ipref', name: NETWORK_NAME },
    data: { [NETWORK_KEY]: formatNetwork(network({ uplink: 'single', gateways })) },
  })
})

afterEach(async () => {
  for (const name of GATEWAYS) await end(name, 'SIGKILL')
  await operator.close()
  await dns.stop()
  rmSync(folder, { recursive: true, force: true })
}, PATIENCE_MS)

/** Free for UDP and TCP on both addresses. */
async function freePort(): Promise<number> {
  for (;;) {
    const probe = createServer()
    await new Promise<void>(resolve => probe.listen(0, ADDRESS.a, resolve))
    const { port } = probe.address() as { port: number }
    await new Promise(resolve => probe.close(resolve))
    const bound = await Promise.all(
      GATEWAYS.flatMap(name => [bindsTcp(ADDRESS[name], port), bindsUdp(ADDRESS[name], port)]),
    )
    if (bound.every(Boolean)) return port
  }
}

function bindsTcp(host: string, port: number): Promise<boolean> {
  const server = createServer()
  return new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen({ host, port }, () => server.close(() => resolve(true)))
  })
}

function bindsUdp(host: string, port: number): Promise<boolean> {
  const socket = createSocket('udp4')
  return new Promise(resolve => {
    socket.once('error', () => resolve(false))
    socket.bind(port, host, () => socket.close(() => resolve(true)))
  })
}

function start(name: Name): void {
  const path = (called: string) => join(folder, `${name}.${called}`)
  const child = spawn(
    IPREF,
    [
      ...['gateway', '-devmode', '-manifests', join(folder, 'objects'), '-node', name, '-encode-net', '10.176.0.0/12'],
      ...[
        '-hosts',
        '/dev/null',
        '-data',
        path('data'),
        '-mapper-socket',
        path('mapper'),
        '-control-socket',
        path('control'),
      ],
      ...['-resolver-listen', `${ADDRESS[name]}:${ports.dns}`, '-resolver-upstream', upstream],
      ...['-uplink-port', String(ports.uplink), '-resolver-cache-size', '0'],
      ...['-metrics-address', 'off', '-health-address', 'off', '-log-level', 'error'],
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  children.set(name, child)
}

async function end(name: Name, signal: NodeJS.Signals): Promise<void> {
  const child = children.get(name)
  children.delete(name)
  if (!child || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill(signal)
  await ended
}

async function uplinkOf(name: Name): Promise<string> {
  try {
    const report = (await askControl(join(folder, `${name}.control`), { do: 'status' })) as StatusReport
    return report.uplink ?? 'none'
  } catch {
    return 'not there'
  }
}

async function until<Value>(what: string, look: () => Promise<Value | undefined | false>): Promise<Value> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const value = await look()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** What the resolver of a gateway answers; undefined: no address. */
function addressAt(name: Name, host: string): Promise<string | undefined> {
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
    socket.send(query(`${host}.example.com A`, { id, flags: Flag.RD, edns: edns() }), ports.dns, ADDRESS[name])
  })
}

async function addresses(name: Name, hosts: readonly string[]): Promise<(string | undefined)[]> {
  const found: (string | undefined)[] = []
  for (const host of hosts) found.push(await until(host, () => addressAt(name, host)))
  return found
}

const activeOf = () =>
  until('an active gateway with a standby', async () => {
    const said = await Promise.all(GATEWAYS.map(uplinkOf))
    const active = GATEWAYS.find((name, i) => said[i] === `active, standby ${OTHER[name]}`)
    const isFollowed = active && said[GATEWAYS.indexOf(OTHER[active])] === `${active} is active; standing by for it`
    return isFollowed ? active : undefined
  })

describe('a single uplink', { timeout: 4 * PATIENCE_MS }, () => {
  it('one of two is active, names asked at either have one address, and survive kill -9 of the active one, twice', async () => {
    for (const name of GATEWAYS) start(name)
    const first = await activeOf()
    const hosts = Array.from({ length: 40 }, (_, i) => `host${i}`)
    const given = [...(await addresses(first, hosts.slice(0, 20))), ...(await addresses(OTHER[first], hosts.slice(20)))]
    expect(new Set(given).size).toBe(40)
    expect(await addresses(OTHER[first], hosts)).toEqual(given)

    const killed = performance.now()
    await end(first, 'SIGKILL')
    const second = OTHER[first]
    const fresh = await until('an address for a new name', () => addressAt(second, 'host100'))
    console.log(`the standby gave a new address ${((performance.now() - killed) / 1000).toFixed(1)} s after kill -9`)
    expect(await addresses(second, hosts)).toEqual(given)

    // back again, it stands by, and has everything when its turn comes
    start(first)
    expect(await activeOf()).toBe(second)
    await end(second, 'SIGKILL')
    await until('the first one is active again', async () => (await uplinkOf(first)).startsWith('active'))
    expect([await addresses(first, hosts), await addressAt(first, 'host100')]).toEqual([given, fresh])
  })

  it('an ordered end hands over at once, and a restart goes on as active while nobody else took it', async () => {
    for (const name of GATEWAYS) start(name)
    const first = await activeOf()
    const [given] = await addresses(first, ['host1'])
    await end(first, 'SIGTERM')
    const second = OTHER[first]
    expect(await addresses(second, ['host1'])).toEqual([given])
    // nobody else is there: the same one, from its own store
    await end(second, 'SIGKILL')
    start(second)
    await until('it is active', async () => (await uplinkOf(second)).startsWith('active'))
    expect(await addresses(second, ['host1'])).toEqual([given])
  })
})
