/**
 * Path-MTU discovery: the link between the routers of twoNetworks.ts shrinks to 1,300 bytes while both gateways believe in 1,500.
 *
 *   client ─1500─ gw-a ─1500─ r1 ═1300═ r2 ─1500─ gw-b ─1500─ server
 *
 * r1 answers the gateway's tunnel packets with "too big"; the gateway lowers its path MTU and tells its own hosts in turn.
 */
import { type Checks, expectThat } from '../support/checks.ts'
import { exchange, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { pathMtuByPing, ping } from '../support/probes.ts'
import type { TransferReport, UdpReport } from '../support/traffic.ts'
import { openTwoNetworks, ways } from './twoNetworks.ts'

const LINK_MTU = 1300
// larger than the link, smaller than what the gateways believe in
const BEFORE = 1340
const TRANSFER_BYTES = 10_000_000
const OVERHEAD_MOST = 100

export async function run(checks: Checks): Promise<void> {
  const { lab, a, b, middle } = await openTwoNetworks()
  try {
    const [client, server] = [a.host('client'), b.host('server')]
    await serveTraffic(server)
    for (const { name, address } of ways)
      await checks.check(`${name}: ping before`, async () => void (await ping(client, address)))
    await lab.setMtu(middle[0], middle[1], LINK_MTU)
    for (const [number, { name, address, family }] of ways.entries()) {
      await checks.check(`${name}: a host is told the path MTU`, async () => {
        const mtu = await pathMtuByPing(client, address, BEFORE)
        expectThat(mtu !== undefined, 'no ICMP error came back')
        expectThat(mtu! < LINK_MTU && mtu! > LINK_MTU - OVERHEAD_MOST, `told ${mtu}`)
        // a packet of exactly that size passes whole
        await ping(client, address, { size: mtu! - (family === 4 ? 28 : 48), whole: true })
        return `${mtu}`
      })
      await checks.check(`${name}: TCP with a hash, both directions`, async () => {
        for (const direction of ['upload', 'download']) {
          await exchange<TransferReport>(client, [direction, address, TRAFFIC_PORT, TRANSFER_BYTES, number])
        }
        return undefined
      })
      await checks.check(`${name}: UDP around the limit, and fragments`, async () => {
        await exchange<UdpReport>(client, ['udp', address, TRAFFIC_PORT, 1150, 1500])
        await ping(client, address, { size: 8000 })
        return undefined
      })
    }
  } finally {
    await lab.close()
  }
}
