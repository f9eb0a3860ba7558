/** What the demo shows of its three networks, one line each. */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { publishMetricTable } from '../../gateway/dns/publishReports.ts'
import { resolverMetricTable } from '../../gateway/dns/resolverReports.ts'
import { metricTable } from '../../gateway/metrics.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually, type Namespace } from '../support/netns.ts'
import { exchange, type Network, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { expectNoPing, ping, traceroute } from '../support/probes.ts'
import type { TransferReport, UdpReport } from '../support/traffic.ts'
import { alexLines, CAROL } from './networks.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const SITE = join(import.meta.dirname, 'site.ts')
const MEGABYTE = 1_000_000
const TRANSFER_BYTES = 50 * MEGABYTE
const CLOSED_WITHIN_MS = 1500
const PAGE_PATIENCE_S = 8
const ENCODED_4 = /^10\.2[45]\d\./
const ENCODED_6 = /^fd24:/

export interface DemoNetworks {
  internet: Namespace
  one: Network
  two: Network
  three: Network
  zoneFile(zone: string): string
  /** prints pages */
  fetcher: readonly string[]
}

export function fetcherFor(hasCurl: boolean): string[] {
  return hasCurl ? ['curl', '-sS', '--max-time', String(PAGE_PATIENCE_S)] : [process.execPath, SITE, 'get']
}

/** The web site of a host, until the lab is closed. */
export async function serveSite(host: Namespace): Promise<void> {
  const running = host.start([process.execPath, SITE, 'serve', host.label], { log: `${host.label}-site.log` })
  await eventually(`web site on ${host.label}`, () => running.log().includes('ready'))
}

/** Until a server has all the zones. */
export async function zonesKnown(from: Namespace, server: string, zones: readonly string[]): Promise<void> {
  await from.require([process.execPath, SITE, 'wait', server, ...zones], { timeoutMs: 30_000 })
}

export async function runDemoChecks(networks: DemoNetworks, checks: Checks): Promise<void> {
  await showNames(networks, checks)
  await showPackets(networks, checks)
  await showHosts(networks, checks)
  await checks.check('metrics of gateway 1: what it publishes and answers', () => readMetrics(networks))
  for (const network of [networks.one, networks.two, networks.three])
    await checks.check(`gateway ${network.plan.name} is well`, () => isWell(network))
}

// ---- names

async function showNames({ internet, one, two, three, fetcher }: DemoNetworks, checks: Checks): Promise<void> {
  const [anna, alex, bob, carol] = [one.host('anna'), one.host('alex'), two.host('bob'), three.host('carol')]
  const show = (who: Namespace, site: string, from: string) => async () => {
    const text = await page(who, fetcher, site)
    expectThat(text.startsWith(`${site}, on ${from}: welcome`), `the page says ${text}`)
    return text
  }
  await checks.check('anna: curl http://web.example.net', show(anna, 'web.example.net', 'bob'))
  await checks.check('bob: curl http://web.example.com', show(bob, 'web.example.com', 'anna'))
  await checks.check('anna (IPv4): curl http://web.example.org (IPv6)', show(anna, 'web.example.org', 'carol'))
  await checks.check('bob (IPv4): curl http://web.example.org (IPv6)', show(bob, 'web.example.org', 'carol'))
  await checks.check('carol (IPv6): curl http://web.example.com (IPv4)', show(carol, 'web.example.com', 'anna'))
  await checks.check('carol (IPv6): curl http://web.example.net (IPv4)', show(carol, 'web.example.net', 'bob'))
  await checks.check("a name of one's own network has its native address", async () => {
    expectSame('web.example.com for alex', await addressOf(alex, 'web.example.com'), '10.1.0.10')
    return show(alex, 'web.example.com', 'anna')()
  })
  await checks.check('bob knows by name who asks him', async () => {
    const text = await page(anna, fetcher, 'web.example.net')
    expectThat(text.endsWith(' web.example.com'), `the page says ${text}`)
    return text
  })
  await checks.check('PTR: the name of an encoded address', async () => {
    const address = await addressOf(anna, 'web.example.net')
    const line = (await anna.require(['getent', 'hosts', address])).trim()
    expectThat(/\sweb\.example\.net$/.test(line), `getent hosts ${address} says ${line}`)
    return `${address} web.example.net`
  })
  await checks.check('names without AA records: from the public DNS, and internal ones', async () => {
    expectSame('ns.example.net for anna', await addressOf(anna, 'ns.example.net'), '203.0.113.53')
    expectSame('gw.one.internal for anna', await addressOf(anna, 'gw.one.internal'), '10.1.0.1')
    return undefined
  })
  await checks.check('ipref trace web.example.net: nothing is wrong on the way', async () => {
    const argv = [IPREF, 'trace', 'web.example.net', '-control-socket', one.controlSocket]
    return (await one.gateway.require(argv)).trim().split('\n').at(-1)
  })
  await checks.check('the internet is told nothing of internal names', async () => {
    const said = await internet.require([process.execPath, SITE, 'ask', '198.51.100.1', 'web.one.internal'])
    expectSame('what gateway 1 says to the internet', said.trim(), 'EREFUSED')
    return undefined
  })
}

async function page(from: Namespace, fetcher: readonly string[], site: string): Promise<string> {
  return (await from.require([...fetcher, `http://${site}/`], { timeoutMs: 20_000 })).trim()
}

/** The first address that the system's resolver gives a host. */
async function addressOf(host: Namespace, name: string): Promise<string> {
  const output = await host.require(['getent', 'ahosts', name])
  return output.split(/\s/)[0] ?? ''
}

// ---- packets

async function showPackets({ one, two, three }: DemoNetworks, checks: Checks): Promise<void> {
  const [anna, bob, carol] = [one.host('anna'), two.host('bob'), three.host('carol')]
  await Promise.all([bob, carol].map(serveTraffic))
  const encoded = { bob: '', anna: '', annaFrom3: '' }
  await checks.check('web.example.net is an address of network 1 for anna', async () => {
    encoded.bob = await addressOf(anna, 'web.example.net')
    encoded.anna = await addressOf(bob, 'web.example.com')
    encoded.annaFrom3 = await addressOf(carol, 'web.example.com')
    for (const address of [encoded.bob, encoded.anna])
      expectThat(ENCODED_4.test(address), `${address} is not in 10.240.0.0/12`)
    expectThat(ENCODED_6.test(encoded.annaFrom3), `${encoded.annaFrom3} is not in fd24::/64`)
    return `anna says ${encoded.bob}; bob says ${encoded.anna} for web.example.com, carol ${encoded.annaFrom3}`
  })
  await checks.check('anna pings bob: both have the address 10.1.0.10', () => pings(anna, encoded.bob))
  await checks.check('ping with 8,000 bytes', () => pings(anna, encoded.bob, 8000))
  await checks.check('bob sees anna as the address that he has for her name', async () => {
    const { from } = await exchange<TransferReport>(anna, ['upload', encoded.bob, TRAFFIC_PORT, 1000, 1])
    expectSame('source address at bob', from, encoded.anna)
    return from
  })
  await checks.check('TCP: 50 MB from anna to bob, hash compared', () => transfers(anna, encoded.bob, 'upload'))
  await checks.check('TCP: 50 MB from bob to anna, hash compared', () => transfers(anna, encoded.bob, 'download'))
  await checks.check('UDP: every size from 0 to 2,000 bytes, echoed', () => echoes(anna, encoded.bob))
  await checks.check('traceroute through both gateways', () => hops(anna, encoded.bob))
  await checks.check('carol (IPv6) pings anna (IPv4), over an IPv6 tunnel', () => pings(carol, encoded.annaFrom3))
  await checks.check('network 1 knows carol from its hosts file too: the same address', async () => {
    expectSame('web.example.org for anna', await addressOf(anna, 'web.example.org'), CAROL)
    return pings(anna, CAROL)
  })
  await checks.check('TCP: 50 MB from IPv4 to IPv6, hash compared', () => transfers(anna, CAROL, 'upload'))
  await checks.check('UDP from IPv4 to IPv6, every size', () => echoes(anna, CAROL))
  await checks.check('traceroute from IPv4 to IPv6', () => hops(anna, CAROL))
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

async function hops(from: Namespace, address: string): Promise<string> {
  return (await traceroute(from, address)).join(' ')
}

// ---- hosts that are published, and those that are not

async function showHosts(networks: DemoNetworks, checks: Checks): Promise<void> {
  const { one, two, zoneFile, fetcher } = networks
  const [alex, bob] = [one.host('alex'), two.host('bob')]
  await Promise.all([serveTraffic(alex), serveSite(alex)])
  await checks.check('alex, whom nobody published, reaches bob and gets replies', async () =>
    pings(alex, await addressOf(alex, 'web.example.net')),
  )
  await checks.check('alex is closed to the outside', () => expectClosed(two, bob))
  await checks.check('a line in each zone publishes him: bob: curl http://alex.example.com', async () => {
    appendFileSync(zoneFile('one.internal'), `${alexLines.internal}\n`)
    appendFileSync(zoneFile('example.com'), `${alexLines.public}\n`)
    return eventually(
      'alex.example.com is there for bob',
      async () => {
        const text = await page(bob, fetcher, 'alex.example.com')
        return text.startsWith('alex.example.com, on alex: welcome') && text
      },
      { withinMs: 30_000, everyMs: 300 },
    )
  })
  await checks.check('a zone with a mistake is named, and the last good one stays', async () => {
    const file = zoneFile('example.com')
    const good = readFileSync(file)
    appendFileSync(file, 'oops  A     10.1.0\n')
    const problems = (wanted: (texts: readonly string[]) => string | false) => async () =>
      wanted((await one.status()).problems)
    let found: string
    try {
      found = await eventually(
        'gateway 1 names the line',
        problems(texts => texts.find(text => text.includes(basename(file))) ?? false),
      )
      const text = await page(bob, fetcher, 'alex.example.com')
      expectThat(text.startsWith('alex.example.com, on alex'), `the page says ${text}`)
    } finally {
      writeFileSync(file, good)
    }
    await eventually(
      'gateway 1 is content again',
      problems(texts => texts.length === 0 && 'yes'),
    )
    return found.slice(found.indexOf(basename(file)))
  })
}

// network 2 gave alex an address when he sent: it is good for replies and nothing else
async function expectClosed(two: Network, bob: Namespace): Promise<string> {
  const { mappings } = await two.status()
  const isAlex = ({ remote, owner }: { remote: string; owner: string }) =>
    owner === 'dynamic' && remote.startsWith('198.51.100.1 ') && remote !== '198.51.100.1 + 11'
  const alex = mappings.rows.find(isAlex)?.local
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

async function isWell(network: Network): Promise<undefined> {
  const { problems, workers } = await network.status()
  expectSame('problems', problems.join('; '), '')
  expectThat(
    workers.every(worker => worker.running && worker.restarts === 0),
    `workers: ${JSON.stringify(workers)}`,
  )
}

async function readMetrics({ one, fetcher }: DemoNetworks): Promise<string> {
  const text = await one.gateway.require([...fetcher, 'http://127.0.0.1:9145/metrics'])
  const missing = metricNames().filter(name => !text.includes(`\n# TYPE ${name} `))
  expectSame('metrics that docs/metrics.md has and the page has not', missing.join(' '), '')
  const numberOf = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
  // anna and alex, each for tunnels of both IP versions
  expectSame('ipref_dns_agent_hosts', numberOf('ipref_dns_agent_hosts'), 4)
  expectSame('ipref_zone_zones', numberOf('ipref_zone_zones'), 2)
  expectThat(numberOf('ipref_dns_queries_total') > 0, 'ipref_dns_queries_total is not above 0')
  return `${metricNames().length} metrics`
}

function metricNames(): string[] {
  return [...metricTable, ...resolverMetricTable, ...publishMetricTable].map(row => row.name)
}
