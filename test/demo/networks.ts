/**
 * The three networks of the demo. The drawing below is printed; the plans beside it are what is built.
 *
 * Networks 1 and 2 use the same addresses, down to the same host address on both sides; network 3 has IPv6 only, its gateway too. Each publishes a web site:
 *
 *   networks 1 and 2   folders of YAML (network-1/, network-2/), read by `ipref operator -manifests` and `ipref gateway -manifests`: the same kinds as in
 *                      Kubernetes. The operator serves the zones
 *   network 3          zone files: a line in the internal zone with the native address, one in the public zone with the AA record. The gateway serves them,
 *                      and its DNS agent publishes what they say
 *
 * Nothing else is told to anybody: the public DNS is an ordinary secondary of the public zones.
 */
import { formatHostPort } from '../../ipref/address.ts'
import type { NetworkPlan } from '../support/networks.ts'

export const drawing = `
  network 1  example.com                                            network 2  example.net
  10.1.0.0/24                     ┌───────────────────────┐         10.1.0.0/24
 ┌──────────────────────┐         │      the internet     │        ┌──────────────────────┐
 │ anna 10.1.0.10       │         │                       │        │ bob  10.1.0.10       │
 │  web.shop.example.com├─ gw-1 ──┤ 198.51.100.1      .2  ├─ gw-2 ─┤  web.news.example.net│
 │ alex 10.1.0.20       │         │ 2001:db8:1::1   2::1  │        └──────────────────────┘
 │ amy  10.1.0.30       │         │                       │         network 3  example.org
 │  not published       │         │                       │         IPv6 only
 └──────────────────────┘         │      public DNS       │        ┌──────────────────────┐
                                  │     203.0.113.53      │        │ carol fd03::10       │
                                  │    2001:db8:53::53    ├─ gw-3 ─┤  web.example.org     │
                                  │         2001:db8:3::1 │        │ dora  fd03::20       │
                                  └───────────────────────┘        │  not published       │
                                                                   └──────────────────────┘
  Networks 1 and 2 publish what folders of IprefService YAML say, as in Kubernetes; network 3 has zone files.
  anna asks for web.news.example.net: gw-1 finds  AA 198.51.100.2 + 22  in the public DNS, gives the pair
  an address of its own choosing, 10.240.x.y, and carries what anna sends there to gw-2, for bob.
`

export const PUBLIC_DNS = { 4: '203.0.113.53', 6: '2001:db8:53::53' } as const

/** Beside the gateway's own, which are at port 9145. */
export const OPERATOR_METRICS = '127.0.0.1:9147'

/** How network 2 knows carol without DNS: a line of its hosts file. Network 1 has an IprefPeer. */
export const CAROL = '10.240.3.33'

export interface SitePlan {
  /** in the names of namespaces and files */
  network: string
  publicZone: string
  /** who publishes: IprefServices in the folder `network-N`, or zone files */
  publishes: 'manifests' | 'zone files'
  internalZone: string
  /** host with the web site, its name for others, its address */
  host: string
  site: string
  address: string
  /** hosts that are not published at first */
  others: Readonly<Record<string, string>>
  /** of the gateway: inside, and outside with the router's side of the link */
  lan: string
  wan: readonly { gateway: string; router: string }[]
}

export const sites: readonly SitePlan[] = [
  {
    network: '1',
    publicZone: 'example.com',
    publishes: 'manifests',
    internalZone: 'internal.example.com',
    host: 'anna',
    site: 'web.shop.example.com',
    address: '10.1.0.10',
    others: { alex: '10.1.0.20', amy: '10.1.0.30' },
    lan: '10.1.0.1',
    wan: [
      { gateway: '198.51.100.1/31', router: '198.51.100.0/31' },
      { gateway: '2001:db8:1::1/64', router: '2001:db8:1::ff/64' },
    ],
  },
  {
    network: '2',
    publicZone: 'example.net',
    publishes: 'manifests',
    internalZone: 'internal.example.net',
    host: 'bob',
    site: 'web.news.example.net',
    address: '10.1.0.10',
    others: {},
    lan: '10.1.0.1',
    wan: [
      { gateway: '198.51.100.2/31', router: '198.51.100.3/31' },
      { gateway: '2001:db8:2::1/64', router: '2001:db8:2::ff/64' },
    ],
  },
  {
    network: '3',
    publicZone: 'example.org',
    publishes: 'zone files',
    internalZone: 'three.internal',
    host: 'carol',
    site: 'web.example.org',
    address: 'fd03::10',
    others: { dora: 'fd03::20' },
    lan: 'fd03::1',
    wan: [{ gateway: '2001:db8:3::1/64', router: '2001:db8:3::ff/64' }],
  },
]

/** What publishes dora while the demo runs: a line for each zone. */
export const doraLines = {
  internal: 'dora  AAAA  fd03::20',
  public: 'dora  TXT   "AA gw.example.org + 34"',
} as const

/** The gateway's addresses outside, without the length of their prefix. */
export function outsideOf(site: SitePlan): string[] {
  return site.wan.map(({ gateway }) => gateway.split('/')[0]!)
}

export function internalZoneOf(site: SitePlan): string {
  const type = addressType(site.address)
  return `; names and native addresses of network ${site.network}: for its own hosts and its DNS agent
$ORIGIN ${site.internalZone}.
$TTL 5
@     SOA   gw hostmaster 1 3600 600 86400 1
@     NS    gw
gw    ${type} ${site.lan}
web   ${type} ${site.address}
`
}

export function publicZoneOf(site: SitePlan): string {
  const outside = outsideOf(site)
  return `; what network ${site.network} publishes: names of hosts, the gateway's name and a reference; and where the public DNS is
$ORIGIN ${site.publicZone}.
$TTL 5
@     SOA   gw hostmaster 1 60 10 86400 1
@     NS    ns
ns    A     ${PUBLIC_DNS[4]}
ns    AAAA  ${PUBLIC_DNS[6]}
${outside.map(address => `gw    ${addressType(address)} ${address}\n`).join('')}web   TXT   "AA gw.${site.publicZone} + 33"
`
}

function addressType(address: string): string {
  return address.includes(':') ? 'AAAA ' : 'A    '
}

export function planOf(site: SitePlan, files: { zone(zone: string): string; manifests: string }): NetworkPlan {
  const prefix = site.lan.includes(':') ? 64 : 24
  const hosts = { [site.host]: site.address, ...site.others }
  const sources = site.publishes === 'manifests' ? manifestFlags(site, files.manifests) : zoneFlags(site, files.zone)
  return {
    name: site.network,
    lan: [`${site.lan}/${prefix}`],
    hosts: Object.fromEntries(Object.entries(hosts).map(([label, address]) => [label, [`${address}/${prefix}`]])),
    nameServers: [site.lan],
    mappings: site.network === '2' ? [`${CAROL}  carol  #= ext 2001:db8:3::1 + 33`] : [],
    flags: [...gatewayFlags(site), ...sources, ...resolverFlags(site)],
  }
}

function gatewayFlags(site: SitePlan): string[] {
  const flags = outsideOf(site).flatMap(address => ['-gateway', address])
  return site.lan.includes(':') ? [...flags, '-encode-net', 'fd24::/64'] : flags
}

function manifestFlags({ network }: SitePlan, folder: string): string[] {
  return ['-manifests', folder, '-node', `gw-${network}`]
}

/** The command line of the operator beside a gateway that reads manifests. */
export function operatorArguments(folder: string): string[] {
  const running = ['-leader-elect=false', '-metrics-address', OPERATOR_METRICS, '-health-address', 'off']
  return ['operator', '-manifests', folder, '-log-format', 'text', ...running]
}

function zoneFlags(site: SitePlan, zoneFile: (zone: string) => string): string[] {
  const [outside] = outsideOf(site)
  const inside = formatHostPort(site.lan, 5353)
  return [
    // both zones, and who may have the public one whole: the public DNS and our own agent
    ...['-zone-internal', `${site.internalZone}=${zoneFile(site.internalZone)}`],
    ...['-zone', `${site.publicZone}=${zoneFile(site.publicZone)}`],
    ...outsideOf(site).flatMap(address => ['-zone-listen', formatHostPort(address, 53), '-zone-transfer', address]),
    ...['-zone-listen', inside, '-zone-transfer', PUBLIC_DNS[4], '-zone-transfer', PUBLIC_DNS[6]],
    ...['-dns-agent', `${site.internalZone}:${site.publicZone}:${formatHostPort(outside!, 53)}`],
    ...['-dns-agent-resolver', inside],
  ]
}

// AA records are looked for in the public DNS; what has none is asked of the internal zone, then of the public DNS
function resolverFlags({ lan }: SitePlan): string[] {
  const publicDns = formatHostPort(PUBLIC_DNS[lan.includes(':') ? 6 : 4], 53)
  return [
    ...['-resolver-listen', formatHostPort(lan, 53), '-resolver-upstream', publicDns],
    ...['-resolver-forward', formatHostPort(lan, 5353), '-resolver-forward', publicDns],
  ]
}
