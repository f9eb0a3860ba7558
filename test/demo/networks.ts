/**
 * The three networks of the demo, and their zones. The drawing below is printed; the plans beside it are what is built.
 *
 * Networks 1 and 2 use the same addresses, down to the same host address on both sides; network 3 has IPv6 only, its gateway too. Each publishes a
 * web site by one line in its internal zone, with the native address, and one in its public zone, with the AA record. Nothing else is told to anybody:
 * the gateway serves both zones, its DNS agent publishes what they say, and the public DNS is an ordinary secondary of the public one.
 */
import type { NetworkPlan } from '../support/networks.ts'

export const drawing = `
  network 1  example.com                                            network 2  example.net
  10.1.0.0/24                     ┌───────────────────────┐         10.1.0.0/24
 ┌──────────────────────┐         │      the internet     │        ┌──────────────────────┐
 │ anna 10.1.0.10       │         │                       │        │ bob  10.1.0.10       │
 │  web.example.com     ├─ gw-1 ──┤ 198.51.100.1      .2  ├─ gw-2 ─┤  web.example.net     │
 │ alex 10.1.0.20       │         │ 2001:db8:1::1   2::1  │        └──────────────────────┘
 │  not published       │         │                       │         network 3  example.org
 └──────────────────────┘         │                       │         IPv6 only
                                  │      public DNS       │        ┌──────────────────────┐
                                  │     203.0.113.53      │        │ carol fd03::10       │
                                  │    2001:db8:53::53    ├─ gw-3 ─┤  web.example.org     │
                                  │         2001:db8:3::1 │        └──────────────────────┘
                                  └───────────────────────┘
  Each gateway resolves names for its hosts and serves the zones of its network.
  anna asks for web.example.net: gw-1 finds  AA gw.example.net + 22  in the public DNS, gives the pair
  an address of its own choosing, 10.240.x.y, and carries what anna sends there to gw-2, for bob.
`

export const PUBLIC_DNS = { 4: '203.0.113.53', 6: '2001:db8:53::53' } as const

/** How network 1 knows carol without DNS: a line of its hosts file. */
export const CAROL = '10.240.3.33'

export interface SitePlan {
  /** in the names of namespaces and files */
  network: string
  internalZone: string
  publicZone: string
  /** host with the web site, its address, and its reference */
  host: string
  address: string
  reference: number
  /** of the gateway: inside, and outside with the router's side of the link */
  lan: string
  wan: readonly { gateway: string; router: string }[]
}

export const sites: readonly SitePlan[] = [
  {
    network: '1',
    internalZone: 'one.internal',
    publicZone: 'example.com',
    host: 'anna',
    address: '10.1.0.10',
    reference: 11,
    lan: '10.1.0.1',
    wan: [
      { gateway: '198.51.100.1/31', router: '198.51.100.0/31' },
      { gateway: '2001:db8:1::1/64', router: '2001:db8:1::ff/64' },
    ],
  },
  {
    network: '2',
    internalZone: 'two.internal',
    publicZone: 'example.net',
    host: 'bob',
    address: '10.1.0.10',
    reference: 22,
    lan: '10.1.0.1',
    wan: [
      { gateway: '198.51.100.2/31', router: '198.51.100.3/31' },
      { gateway: '2001:db8:2::1/64', router: '2001:db8:2::ff/64' },
    ],
  },
  {
    network: '3',
    internalZone: 'three.internal',
    publicZone: 'example.org',
    host: 'carol',
    address: 'fd03::10',
    reference: 33,
    lan: 'fd03::1',
    wan: [{ gateway: '2001:db8:3::1/64', router: '2001:db8:3::ff/64' }],
  },
]

export const ALEX = { address: '10.1.0.20', reference: 12 } as const

/** What publishes alex while the demo runs: a line for each zone. */
export const alexLines = {
  internal: `alex  A     ${ALEX.address}`,
  public: `alex  TXT   "AA gw.example.com + ${ALEX.reference}"`,
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
  const families = outside.map(address => (address.includes(':') ? 6 : 4))
  return `; what network ${site.network} publishes: names of hosts, the gateway's name and a reference
$ORIGIN ${site.publicZone}.
$TTL 5
@     SOA   gw hostmaster 1 60 10 86400 1
@     NS    ns
${families.map(family => `ns    ${addressType(PUBLIC_DNS[family])} ${PUBLIC_DNS[family]}\n`).join('')}${outside
  .map(address => `gw    ${addressType(address)} ${address}\n`)
  .join('')}web   TXT   "AA gw.${site.publicZone} + ${site.reference}"
`
}

function addressType(address: string): string {
  return address.includes(':') ? 'AAAA ' : 'A    '
}

export function planOf(site: SitePlan, zoneFile: (zone: string) => string): NetworkPlan {
  const isIpv6 = site.lan.includes(':')
  return {
    name: site.network,
    lan: [isIpv6 ? `${site.lan}/64` : `${site.lan}/24`],
    hosts: {
      [site.host]: [isIpv6 ? `${site.address}/64` : `${site.address}/24`],
      ...(site.network === '1' ? { alex: [`${ALEX.address}/24`] } : {}),
    },
    nameServers: [site.lan],
    mappings: site.network === '1' ? [`${CAROL}  carol  #= ext 2001:db8:3::1 + 33`] : [],
    flags: [...gatewayFlags(site), ...dnsFlags(site, zoneFile)],
  }
}

function gatewayFlags(site: SitePlan): string[] {
  const flags = outsideOf(site).flatMap(address => ['-gateway', address])
  return site.lan.includes(':') ? [...flags, '-encode-net', 'fd24::/64'] : flags
}

function dnsFlags(site: SitePlan, zoneFile: (zone: string) => string): string[] {
  const [outside] = outsideOf(site)
  const publicDns = PUBLIC_DNS[site.lan.includes(':') ? 6 : 4]
  const inside = withPort(site.lan, 5353)
  return [
    // both zones, and who may have the public one whole: the public DNS and our own agent
    ...['-zone-internal', `${site.internalZone}=${zoneFile(site.internalZone)}`],
    ...['-zone', `${site.publicZone}=${zoneFile(site.publicZone)}`],
    ...outsideOf(site).flatMap(address => ['-zone-listen', withPort(address, 53), '-zone-transfer', address]),
    ...['-zone-listen', inside, '-zone-transfer', PUBLIC_DNS[4], '-zone-transfer', PUBLIC_DNS[6]],
    ...['-dns-agent', `${site.internalZone}:${site.publicZone}:${withPort(outside!, 53)}`],
    ...['-dns-agent-resolver', inside],
    // AA records are looked for in the public DNS; what has none is asked of the internal zone, then of the public DNS
    ...['-resolver-listen', withPort(site.lan, 53), '-resolver-upstream', withPort(publicDns, 53)],
    ...['-resolver-forward', inside, '-resolver-forward', withPort(publicDns, 53)],
  ]
}

function withPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
