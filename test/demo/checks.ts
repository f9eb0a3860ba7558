/** What the demo shows of its three networks, one line each. */
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import type { Namespace } from '../support/netns.ts'
import { exchange, type Network, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { expectNoPing, ping, traceroute } from '../support/probes.ts'
import type { TransferReport, UdpReport } from '../support/traffic.ts'
import { remote } from './networks.ts'

const MEGABYTE = 1_000_000
const TRANSFER_BYTES = 50 * MEGABYTE
const CLOSED_WITHIN_MS = 1500

export interface DemoNetworks {
  one: Network
  two: Network
  three: Network
}

export async function runDemoChecks({ one, two, three }: DemoNetworks, checks: Checks): Promise<void> {
  const [anna, alex, bob, carol] = [one.host('anna'), one.host('alex'), two.host('bob'), three.host('carol')]
  await Promise.all([alex, bob, carol].map(serveTraffic))

  await checks.check('anna pings bob: both have the address 10.1.0.10', () => pings(anna, remote.bob))
  await checks.check('bob pings anna', () => pings(bob, remote.anna))
  await checks.check('ping with 8,000 bytes', () => pings(anna, remote.bob, 8000))
  await checks.check('bob sees anna as an address of its own encoding network', async () => {
    const { from } = await exchange<TransferReport>(anna, ['upload', remote.bob, TRAFFIC_PORT, 1000, 1])
    expectSame('source address at bob', from, remote.anna)
    return from
  })
  await checks.check('TCP: 50 MB from anna to bob, hash compared', () => transfers(anna, remote.bob, 'upload'))
  await checks.check('TCP: 50 MB from bob to anna, hash compared', () => transfers(anna, remote.bob, 'download'))
  await checks.check('UDP: every size from 0 to 2,000 bytes, echoed', () => echoes(anna, remote.bob))
  await checks.check('traceroute through both gateways', async () => (await traceroute(anna, remote.bob)).join(' '))
  await checks.check('anna (IPv4) pings carol (IPv6), over an IPv6 tunnel', () => pings(anna, remote.carol))
  await checks.check('carol (IPv6) pings anna (IPv4)', () => pings(carol, remote.annaFrom3))
  await checks.check('TCP: 50 MB from IPv4 to IPv6, hash compared', () => transfers(anna, remote.carol, 'upload'))
  await checks.check('UDP from IPv4 to IPv6, every size', () => echoes(anna, remote.carol))
  await checks.check('traceroute from IPv4 to IPv6', async () => (await traceroute(anna, remote.carol)).join(' '))
  await checks.check('alex, whom nobody published, reaches bob and gets replies', () => pings(alex, remote.bob))
  await checks.check('alex is closed to the outside', () => expectClosed(two, bob))
  for (const network of [one, two, three]) {
    await checks.check(`gateway ${network.plan.name} is well`, async () => {
      const { problems, workers } = await network.status()
      expectSame('problems', problems.join('; '), '')
      expectThat(
        workers.every(worker => worker.running && worker.restarts === 0),
        `workers: ${JSON.stringify(workers)}`,
      )
      return undefined
    })
  }
}

async function pings(from: Namespace, address: string, size?: number): Promise<string> {
  const ms = await ping(from, address, { count: 3, ...(size === undefined ? {} : { size }) })
  return `${address} in ${ms} ms`
}

async function transfers(from: Namespace, address: string, direction: 'upload' | 'download'): Promise<string> {
  const { bytes, ms } = await exchange<TransferReport>(from, [direction, address, TRAFFIC_PORT, TRANSFER_BYTES, 7])
  return `${Math.round((bytes * 8) / 1000 / ms)} Mbit/s`
}

async function echoes(from: Namespace, address: string): Promise<string> {
  const { sizes } = await exchange<UdpReport>(from, ['udp', address, TRAFFIC_PORT, 0, 2000])
  return `${sizes} sizes`
}

// network 2 gave alex an address when he sent: it is good for replies and nothing else
async function expectClosed(two: Network, bob: Namespace): Promise<string> {
  const { mappings } = await two.status()
  const alex = mappings.rows.find(row => row.remote.startsWith('198.51.100.1 ') && row.owner === 'dynamic')?.local
  if (!alex) throw new Error(`network 2 has no dynamic mapping for alex: ${JSON.stringify(mappings.rows)}`)
  await expectNoPing(bob, alex)
  const client = [
    process.execPath,
    '-e',
    `require('node:net').connect(${TRAFFIC_PORT}, '${alex}').on('error', () => {}).on('connect', () => process.exit(7))`,
  ]
  const { code } = await bob.run(client, { timeoutMs: CLOSED_WITHIN_MS })
  expectThat(code !== 7, `TCP from bob to ${alex} was accepted`)
  return `${alex} answers neither ping nor TCP`
}
