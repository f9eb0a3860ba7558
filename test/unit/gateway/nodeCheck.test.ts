/** `ipref check` of the node: of what a host may lack, each is named, with what to do, and nothing twice. */
import { describe, expect, it } from 'vitest'
import type { PeerReport } from '../../../gateway/controlReports.ts'
import { checkNode, type GatewayFacts, type NodePorts } from '../../../gateway/nodeCheck.ts'
import type { Link } from '../../../gateway/sys/netlink.ts'
import { parseAddress, parsePrefix } from '../../../ipref/address.ts'
import type { Step } from '../../../runtime/steps.ts'

const bytes = (text: string) => parseAddress(text)!
const link = (index: number, name: string, more: Partial<Link> = {}): Link => ({
  ...{ index, name, mtu: 1500, up: true, kind: '', alias: '', hardwareAddress: new Uint8Array(6), rpFilter: 0 },
  data: undefined,
  ...more,
})
const peer = (more: Partial<PeerReport> = {}): PeerReport => ({
  ...{ address: '198.51.100.2', port: 1045, verified: true, configured: true, mappings: 1, mtu: 1500, rttMs: 1 },
  ...{ lastSeenSecondsAgo: 3, bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 },
  ...more,
})

const FORWARDING = 'this node does not forward packets: net.ipv4.ip_forward is 0; sysctl -w net.ipv4.ip_forward=1'
const LINKS = [link(1, 'lo'), link(2, 'wan'), link(3, 'lan'), link(4, 'ipref0', { kind: 'tun' })]
const UDP = '  sl  local_address rem_address\n   0: 0100007F:0035 00000000:0000 07\n'

interface Changes {
  gateway?: Partial<GatewayFacts> | { missing: string }
  ports?: Partial<NodePorts>
}

async function check({ gateway = {}, ports = {} }: Changes): Promise<Step[]> {
  const facts: GatewayFacts = {
    ...{ listening: ['198.51.100.1:1045'], services: ['metrics at :9145'], bind: [bytes('198.51.100.1')] },
    ...{ contexts: [bytes('198.51.100.1')], unready: [], peers: [peer()], samples: undefined, devmode: false },
    ...{ filterTable: 'ipref_ipref0', ...gateway },
  }
  return checkNode(
    {
      ...{ encodingNetworks: [parsePrefix('10.240.0.0/12')!], tunName: 'ipref0', port: 1045 },
      gateway: 'missing' in gateway ? gateway : facts,
    },
    {
      setting: path => (path === 'ipv4/ip_forward' ? '1' : undefined),
      nftList: async what => (what === 'chains' ? { nftables: [] } : { nftables: [{}] }),
      nft: async () => {},
      links: () => LINKS,
      addresses: () => [
        { index: 2, address: bytes('198.51.100.1'), length: 24 },
        { index: 3, address: bytes('10.1.0.1'), length: 24 },
      ],
      wayTo: () => 2,
      openTun: () => {},
      procNet: () => UDP,
      ...ports,
    },
  )
}

const shown = (steps: readonly Step[]) => steps.map(({ what, ok, warns }) => `${ok ? (warns ? '~' : '') : '!'}${what}`)
const refused = (code: string) => () => {
  throw Object.assign(new Error(code), { code })
}

describe('the node', () => {
  it('all is well', async () => {
    const expected = ['forwarding', 'FORWARD', 'reverse path', 'tun', 'nftables', 'ports', 'ready', 'NAT']
    expect(shown(await check({}))).toEqual([...expected, 'peer 198.51.100.2'])
  })

  const rows: { name: string; changes: Changes; what: string; detail: RegExp; fix: RegExp }[] = [
    {
      name: 'it does not forward',
      changes: { ports: { setting: path => (path === 'ipv4/ip_forward' ? '0' : undefined) } },
      ...{ what: '!forwarding', detail: /ip_forward is 0/, fix: /^sysctl -w net\.ipv4\.ip_forward=1$/ },
    },
    {
      name: 'FORWARD drops',
      changes: {
        ports: {
          nftList: async what =>
            what === 'chains'
              ? {
                  nftables: [
                    {
                      chain: {
                        family: 'ip',
                        table: 'filter',
                        name: 'FORWARD',
                        type: 'filter',
                        hook: 'forward',
                        policy: 'drop',
                      },
                    },
                  ],
                }
              : { nftables: [] },
        },
      },
      ...{ what: '!FORWARD', detail: /chain FORWARD .* drops from 10\.240\.0\.0\/12 to hosts/, fix: /accept/ },
    },
    {
      name: 'peers come in by one device, whose filter is strict, and go out by another',
      changes: { ports: { links: () => LINKS.map(one => ({ ...one, rpFilter: 1 })), wayTo: () => 3 } },
      ...{ what: '!reverse path', detail: /comes in at wan.* way back is lan/, fix: /conf\.wan\.rp_filter=2/ },
    },
    {
      name: 'the filter of all devices is strict',
      changes: { ports: { setting: () => '1', wayTo: () => 3 } },
      ...{ what: '!reverse path', detail: /strict/, fix: /rp_filter=2/ },
    },
    {
      name: 'there is no TUN device file',
      changes: { ports: { openTun: refused('ENOENT') } },
      ...{ what: '!tun', detail: /is not there/, fix: /modprobe tun/ },
    },
    {
      name: 'the runtime refuses the TUN device',
      changes: { ports: { openTun: refused('EPERM') } },
      ...{ what: '!tun', detail: /refused \(EPERM\)/, fix: /gateway\.privileged/ },
    },
    {
      name: 'nft is not there',
      changes: { ports: { nft: () => Promise.reject(new Error('nft cannot be started')) } },
      ...{ what: '!nftables', detail: /cannot be started/, fix: /install nftables/ },
    },
    {
      name: 'the filter table is gone',
      changes: { ports: { nftList: async what => (what === 'chains' ? { nftables: [] } : undefined) } },
      ...{ what: '!nftables', detail: /ipref_ipref0 is gone/, fix: /flushes/ },
    },
    {
      name: 'hosts are open',
      changes: { gateway: { filterTable: undefined } },
      ...{ what: '~nftables', detail: /open to all/, fix: /-open-hosts/ },
    },
    {
      name: 'the gateway is not ready',
      changes: { gateway: { unready: ['the encap worker is down'] } },
      ...{ what: '!ready', detail: /encap worker is down/, fix: /log/ },
    },
    {
      name: 'the public address is that of a NAT',
      changes: { gateway: { contexts: [bytes('203.0.113.7')] } },
      ...{
        what: '~NAT',
        detail: /203\.0\.113\.7 is not on this host/,
        fix: /lead UDP port 1045 .*ipref check 203\.0\.113\.7/,
      },
    },
    {
      name: 'the same, bound to all addresses',
      changes: { gateway: { bind: [bytes('0.0.0.0')], contexts: [bytes('203.0.113.7')] } },
      ...{ what: '~NAT', detail: /not on this host: there is a NAT/, fix: /to port 1045 of this host/ },
    },
    {
      name: 'the public address is unknown, and nobody is named',
      changes: { gateway: { contexts: [], peers: [] } },
      ...{ what: '~NAT', detail: /not known/, fix: /-peer/ },
    },
    {
      name: 'a configured peer is silent',
      changes: { gateway: { peers: [peer({ lastSeenSecondsAgo: 300 })] } },
      ...{ what: '~peer 198.51.100.2', detail: /silent for 300 s/, fix: /ipref check peer\/198\.51\.100\.2/ },
    },
    {
      name: 'no gateway runs',
      changes: { gateway: { missing: 'nobody answers' } },
      ...{ what: '!gateway', detail: /nobody answers/, fix: /start it/ },
    },
    {
      name: 'another program has the port',
      changes: {
        gateway: { missing: 'nobody answers' },
        ports: { procNet: name => (name === 'udp6' ? `head\n 1: 00:0415 00:0000 07\n` : UDP) },
      },
      ...{ what: '!ports', detail: /1045 is taken/, fix: /ss -lunp/ },
    },
  ]
  it.each(rows)('$name', async ({ changes, what, detail, fix }) => {
    const steps = await check(changes)
    const found = steps[shown(steps).indexOf(what)]
    expect(shown(steps)).toContain(what)
    expect(found!.detail).toMatch(detail)
    expect(found!.fix).toMatch(fix)
  })

  it('what /readyz says of the same is not said again', async () => {
    const setting = (path: string) => (path === 'ipv4/ip_forward' ? '0' : undefined)
    const steps = await check({ gateway: { unready: [FORWARDING] }, ports: { setting } })
    expect(steps.filter(step => !step.ok).map(step => step.what)).toEqual(['forwarding'])
  })

  it('behind a NAT that a configured peer keeps open', async () => {
    const steps = await check({ gateway: { contexts: [] } })
    expect(steps.find(step => step.what === 'NAT')).toMatchObject({
      ok: true,
      detail: expect.stringContaining('kept open'),
    })
  })

  it('a free port of a gateway that does not run', async () => {
    expect(shown(await check({ gateway: { missing: 'nobody answers' } }))).toContain('ports')
  })
})
