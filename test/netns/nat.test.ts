/**
 * A gateway behind NAT, whose outside port is another one, and changes under traffic; over an IPv4 and an IPv6 tunnel.
 *
 *   client ── gw-a ───────────── nat ─────────────── gw-b ── server
 *             192.168.7.2        198.51.100.1:5001   198.51.100.2
 *             port 1045            later :5002       port 1045
 *
 * decisions.md 6: replies go to a new port only after a probe to it was answered; that takes less than 2 s. Neither gateway asks the other of itself here.
 */
import { type Checks, expectSame } from '../support/checks.ts'
import { eventually, type Lab, type Namespace, openLab } from '../support/netns.ts'
import { exchange, joinInternet, Network, serveTraffic, startStream, TRAFFIC_PORT } from '../support/networks.ts'
import { ping } from '../support/probes.ts'
import type { StreamReport, TransferReport } from '../support/traffic.ts'

// after the switch TCP waits for its next retransmission
const RETRANSMITTED_MS = 4000
const SAVED_WITHIN_MS = 3000
const TRANSFER_BYTES = 20_000_000

interface Outside {
  family: 4 | 6
  inside: string
  insideRouter: string
  bits: number
  nat: string
  far: string
  farRouter: string
  linkBits: number
}

const outsides: readonly Outside[] = [
  {
    ...{ family: 4, inside: '192.168.7.2', insideRouter: '192.168.7.1', bits: 24 },
    ...{ nat: '198.51.100.1', far: '198.51.100.2', farRouter: '198.51.100.1', linkBits: 24 },
  },
  {
    ...{ family: 6, inside: 'fd07::2', insideRouter: 'fd07::1', bits: 64 },
    ...{ nat: '2001:db8::1', far: '2001:db8::2', farRouter: '2001:db8::1', linkBits: 64 },
  },
]

export async function run(checks: Checks): Promise<void> {
  for (const outside of outsides) await runBehind(outside, checks)
}

async function runBehind(outside: Outside, checks: Checks): Promise<void> {
  const lab = await openLab()
  const title = (text: string) => `NAT over IPv${outside.family}: ${text}`
  try {
    const { a, b, nat } = await build(lab, outside)
    const [client, server] = [a.host('client'), b.host('server')]
    await serveTraffic(server)
    // the first answer too, although the outside port is not proved by then
    await checks.check(title('ping from the inside'), async () => `${await ping(client, '10.240.9.9')} ms`)
    await checks.check(title('the far gateway learns the outside port'), () => portBecomes(b, 5001))
    await checks.check(title('ping to the inside'), async () => `${await ping(server, '10.240.9.9')} ms`)
    await checks.check(title('ping to the inside after kill -9 of the far gateway, nothing said'), async () => {
      // a crash loses what was learned in the last seconds
      await pause(SAVED_WITHIN_MS)
      await b.stopGateway('SIGKILL')
      b.startGateway()
      await b.ready()
      return `${await ping(server, '10.240.9.9')} ms`
    })
    await checks.check(title('TCP with a hash'), async () => {
      await exchange<TransferReport>(client, ['upload', '10.240.9.9', TRAFFIC_PORT, TRANSFER_BYTES, 3])
      return undefined
    })
    await checks.check(title('a connection lives through a change of the port'), async () => {
      const stream = startStream(client, '10.240.9.9', 5)
      await stream.connected()
      await pause(500)
      await useOutsidePort(nat, outside, 5002)
      const took = await portBecomes(b, 5002)
      await pause(RETRANSMITTED_MS)
      const report = JSON.parse(await stream.end()) as StreamReport
      expectSame('every byte echoed', report.ok, true)
      return `${took}, longest gap ${report.longestGapMs} ms`
    })
  } finally {
    await lab.close()
  }
}

async function build(lab: Lab, o: Outside): Promise<{ a: Network; b: Network; nat: Namespace }> {
  const nat = await lab.add('nat', { forwards: true })
  const quiet = ['-metrics-address', 'off', '-health-address', 'off']
  const a = await Network.build(lab, {
    name: 'a',
    lan: ['10.1.0.1/24'],
    hosts: { client: ['10.1.0.10/24'] },
    mappings: ['10.1.0.10 client #= pub + 11', `10.240.9.9 server #= ext ${o.far} + 11`],
    flags: ['-gateway-bind', o.inside, '-gateway-pub', o.nat, ...quiet],
  })
  const b = await Network.build(lab, {
    name: 'b',
    lan: ['10.1.0.1/24'],
    hosts: { server: ['10.1.0.10/24'] },
    mappings: ['10.1.0.10 server #= pub + 11', `10.240.9.9 client #= ext ${o.nat} + 11`],
    flags: ['-gateway', o.far, ...quiet],
  })
  await joinInternet(lab, a, nat, { gateway: [`${o.inside}/${o.bits}`], router: [`${o.insideRouter}/${o.bits}`] })
  await joinInternet(lab, b, nat, { gateway: [`${o.far}/${o.linkBits}`], router: [`${o.nat}/${o.linkBits}`] })
  await useOutsidePort(nat, o, 5001)
  for (const network of [a, b]) network.startGateway()
  await Promise.all([a.ready(), b.ready()])
  return { a, b, nat }
}

// established flows keep their port until their entry is gone
async function useOutsidePort(nat: Namespace, o: Outside, port: number): Promise<void> {
  const family = o.family === 4 ? 'ip' : 'ip6'
  const to = o.family === 4 ? `${o.nat}:${port}` : `[${o.nat}]:${port}`
  await nat.nft(`
    table ${family} nat {}
    delete table ${family} nat
    table ${family} nat {
      chain post { type nat hook postrouting priority 100; oifname "to-b" udp sport 1045 snat to ${to}; }
    }
  `)
  await nat.run(['conntrack', '-F', '-f', o.family === 4 ? 'ipv4' : 'ipv6'])
}

async function portBecomes(network: Network, port: number): Promise<string> {
  const started = performance.now()
  const isVerified = async () => (await network.status()).peers.some(peer => peer.port === port && peer.verified)
  await eventually(`gateway ${network.plan.name} uses port ${port}`, isVerified)
  return `switched after ${Math.round(performance.now() - started)} ms`
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
