/** What the demo shows of its three networks, one line each. */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { publishMetricTable } from '../../gateway/dns/publishReports.ts'
import { resolverMetricTable } from '../../gateway/dns/resolverReports.ts'
import { metricTable } from '../../gateway/metrics.ts'
import { operatorMetricTable } from '../../operator/metrics.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually, type Namespace } from '../support/netns.ts'
import { exchange, type Network, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { ping, traceroute } from '../support/probes.ts'
import type { TransferReport, UdpReport } from '../support/traffic.ts'
import { showManifests } from './manifestChecks.ts'
import type { ManifestFolder } from './manifests.ts'
import { CAROL, doraLines, OPERATOR_METRICS } from './networks.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const SITE = join(import.meta.dirname, 'site.ts')
const MEGABYTE = 1_000_000
const TRANSFER_BYTES = 50 * MEGABYTE
const PAGE_PATIENCE_S = 8
const ENCODED_4 = /^10\.2[45]\d\./
const ENCODED_6 = /^fd24:/

export interface DemoNetworks {
  internet: Namespace
  one: Network
  two: Network
  three: Network
  /** of networks 1 and 2 */
  manifests: { one: ManifestFolder; two: ManifestFolder }
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
  await showManifests(networks, checks)
  await showZoneFiles(networks, checks)
  await checks.check('metrics of gateway 3: what it publishes and answers', () => readMetrics(networks))
  await checks.check('metrics of operator 1', () => readOperatorMetrics(networks))
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
  await checks.check('anna: curl http://web.news.example.net', show(anna, 'web.news.example.net', 'bob'))
  await checks.check('bob: curl http://web.shop.example.com', show(bob, 'web.shop.example.com', 'anna'))
  await checks.check('anna (IPv4): curl http://web.example.org (IPv6)', show(anna, 'web.example.org', 'carol'))
  await checks.check('bob (IPv4): curl http://web.example.org (IPv6)', show(bob, 'web.example.org', 'carol'))
  await checks.check(
    'carol (IPv6): curl http://web.shop.example.com (IPv4)',
    show(carol, 'web.shop.example.com', 'anna'),
  )
  await checks.check(
    'carol (IPv6): curl http://web.news.example.net (IPv4)',
    show(carol, 'web.news.example.net', 'bob'),
  )
  await checks.check("a name of one's own network has its native address", async () => {
    expectSame('web.shop.example.com for alex', await addressOf(alex, 'web.shop.example.com'), '10.1.0.10')
    return show(alex, 'web.shop.example.com', 'anna')()
  })
  await checks.check('bob knows by name who asks him', async () => {
    const text = await page(anna, fetcher, 'web.news.example.net')
    expectThat(text.endsWith(' web.shop.example.com'), `the page says ${text}`)
    return text
  })
  await checks.check('PTR: the name of an encoded address', async () => {
    const address = await addressOf(anna, 'web.news.example.net')
    const line = (await anna.require(['getent', 'hosts', address])).trim()
    expectThat(/\sweb\.news\.example\.net$/.test(line), `getent hosts ${address} says ${line}`)
    return `${address} web.news.example.net`
  })
  await checks.check('names without AA records: from the public DNS, and internal ones', async () => {
    expectSame('ns.example.org for anna', await addressOf(anna, 'ns.example.org'), '203.0.113.53')
    const internal = 'web.shop.internal.example.com'
    expectSame(`${internal} for alex`, await addressOf(alex, internal), '10.1.0.10')
    return undefined
  })
  await checks.check('ipref trace web.news.example.net: nothing is wrong on the way', async () => {
    const argv = [IPREF, 'trace', 'web.news.example.net', '-control-socket', one.controlSocket]
    return (await one.gateway.require(argv)).trim().split('\n').at(-1)
  })
  await checks.check('the internet is told nothing of internal names', async () => {
    const said = await internet.require([
      process.execPath,
      SITE,
      'ask',
      '198.51.100.1',
      'web.shop.internal.example.com',
    ])
    expectSame('what gateway 1 says to the internet', said.trim(), 'EREFUSED')
    return undefined
  })
}

export async function page(from: Namespace, fetcher: readonly string[], site: string): Promise<string> {
  return (await from.require([...fetcher, `http://${site}/`], { timeoutMs: 20_000 })).trim()
}

/** The first address that the system's resolver gives a host. */
export async function addressOf(host: Namespace, name: string): Promise<string> {
  return (await addressesOf(host, name))[0] ?? ''
}

async function addressesOf(host: Namespace, name: string): Promise<string[]> {
  const output = await host.require(['getent', 'ahosts', name])
  return [...new Set(output.split('\n').map(line => line.split(/\s/)[0] ?? ''))].filter(address => address !== '')
}

// ---- packets

async function showPackets({ one, two, three }: DemoNetworks, checks: Checks): Promise<void> {
  const [anna, bob, carol] = [one.host('anna'), two.host('bob'), three.host('carol')]
  await Promise.all([bob, carol].map(serveTraffic))
  const encoded = { bob: '', carol: '', annaFrom3: '' }
  let annaForBob: string[] = []
  await checks.check('web.news.example.net is an address of network 1 for anna', async () => {
    encoded.bob = await addressOf(anna, 'web.news.example.net')
    annaForBob = await addressesOf(bob, 'web.shop.example.com')
    encoded.annaFrom3 = await addressOf(carol, 'web.shop.example.com')
    for (const address of [encoded.bob, ...annaForBob])
      expectThat(ENCODED_4.test(address), `${address} is not in 10.240.0.0/12`)
    expectThat(ENCODED_6.test(encoded.annaFrom3), `${encoded.annaFrom3} is not in fd24::/64`)
    return `anna says ${encoded.bob}; bob says ${annaForBob.join(' and ')} for web.shop.example.com, carol ${encoded.annaFrom3}`
  })
  await checks.check('anna pings bob: both have the address 10.1.0.10', () => pings(anna, encoded.bob))
  await checks.check('ping with 8,000 bytes', () => pings(anna, encoded.bob, 8000))
  // one for each address of her gateway
  await checks.check('bob sees anna as an address that he has for her name', async () => {
    const { from } = await exchange<TransferReport>(anna, ['upload', encoded.bob, TRAFFIC_PORT, 1000, 1])
    expectThat(annaForBob.includes(from ?? ''), `bob sees ${from}, and has ${annaForBob.join(' and ')} for her name`)
    return from
  })
  await checks.check('TCP: 50 MB from anna to bob, hash compared', () => transfers(anna, encoded.bob, 'upload'))
  await checks.check('TCP: 50 MB from bob to anna, hash compared', () => transfers(anna, encoded.bob, 'download'))
  await checks.check('UDP: every size from 0 to 2,000 bytes, echoed', () => echoes(anna, encoded.bob))
  await checks.check('traceroute through both gateways', () => hops(anna, encoded.bob))
  await checks.check('carol (IPv6) pings anna (IPv4), over an IPv6 tunnel', () => pings(carol, encoded.annaFrom3))
  await checks.check('network 2 knows carol from its hosts file too: the same address', async () => {
    expectSame('web.example.org for bob', await addressOf(bob, 'web.example.org'), CAROL)
    return pings(bob, CAROL)
  })
  await checks.check('network 1 knows carol from an IprefPeer too: the same address', async () => {
    const name = 'carol.three.peers.internal.example.com'
    encoded.carol = await addressOf(anna, name)
    expectSame(`web.example.org for anna, and ${name}`, await addressOf(anna, 'web.example.org'), encoded.carol)
    return pings(anna, encoded.carol)
  })
  await checks.check('TCP: 50 MB from IPv4 to IPv6, hash compared', () => transfers(anna, encoded.carol, 'upload'))
  await checks.check('UDP from IPv4 to IPv6, every size', () => echoes(anna, encoded.carol))
  await checks.check('traceroute from IPv4 to IPv6', () => hops(anna, encoded.carol))
}

export async function pings(from: Namespace, address: string, size?: number): Promise<string> {
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

// ---- zone files

async function showZoneFiles({ two, three, zoneFile, fetcher }: DemoNetworks, checks: Checks): Promise<void> {
  const bob = two.host('bob')
  await serveSite(three.host('dora'))
  await checks.check('a line in each zone publishes dora: bob: curl http://dora.example.org', async () => {
    appendFileSync(zoneFile('three.internal'), `${doraLines.internal}\n`)
    appendFileSync(zoneFile('example.org'), `${doraLines.public}\n`)
    return eventually(
      'dora.example.org is there for bob',
      async () => {
        const text = await page(bob, fetcher, 'dora.example.org')
        return text.startsWith('dora.example.org, on dora: welcome') && text
      },
      { withinMs: 30_000, everyMs: 300 },
    )
  })
  await checks.check('a zone with a mistake is named, and the last good one stays', async () => {
    const file = zoneFile('example.org')
    const good = readFileSync(file)
    appendFileSync(file, 'oops  A     10.1.0\n')
    const problems = (wanted: (texts: readonly string[]) => string | false) => async () =>
      wanted((await three.status()).problems)
    let found: string
    try {
      found = await eventually(
        'gateway 3 names the line',
        problems(texts => texts.find(text => text.includes(basename(file))) ?? false),
      )
      const text = await page(bob, fetcher, 'dora.example.org')
      expectThat(text.startsWith('dora.example.org, on dora'), `the page says ${text}`)
    } finally {
      writeFileSync(file, good)
    }
    await eventually(
      'gateway 3 is content again',
      problems(texts => texts.length === 0 && 'yes'),
    )
    return found.slice(found.indexOf(basename(file)))
  })
}

async function isWell(network: Network): Promise<undefined> {
  const { problems, workers } = await network.status()
  expectSame('problems', problems.join('; '), '')
  expectThat(
    workers.every(worker => worker.running && worker.restarts === 0),
    `workers: ${JSON.stringify(workers)}`,
  )
}

async function readMetrics({ three, fetcher }: DemoNetworks): Promise<string> {
  const text = await three.gateway.require([...fetcher, 'http://127.0.0.1:9145/metrics'])
  const rows = [...metricTable, ...resolverMetricTable, ...publishMetricTable]
  expectAll(rows, text)
  // carol and dora; network 3 has tunnels of one IP version
  expectSame('ipref_dns_agent_hosts', numberOf(text, 'ipref_dns_agent_hosts'), 2)
  expectSame('ipref_zone_zones', numberOf(text, 'ipref_zone_zones'), 2)
  expectThat(numberOf(text, 'ipref_dns_queries_total') > 0, 'ipref_dns_queries_total is not above 0')
  return `${rows.length} metrics`
}

async function readOperatorMetrics({ one, fetcher }: DemoNetworks): Promise<string> {
  const text = await one.gateway.require([...fetcher, `http://${OPERATOR_METRICS}/metrics`])
  expectAll(operatorMetricTable, text)
  expectSame('ipref_operator_gateways_alive', numberOf(text, 'ipref_operator_gateways_alive'), 1)
  expectSame('ready IprefServices', numberOf(text, 'ipref_operator_services{state="ready"}'), 1)
  return `${operatorMetricTable.length} metrics`
}

function expectAll(rows: readonly { name: string }[], text: string): void {
  const missing = rows.map(row => row.name).filter(name => !text.includes(`\n# TYPE ${name} `))
  expectSame('metrics that docs/metrics.md has and the page has not', missing.join(' '), '')
}

function numberOf(text: string, name: string): number {
  const line = `\n${text}`.split(`\n${name} `)[1] ?? ''
  return Number(line.split('\n')[0])
}
