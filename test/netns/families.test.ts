/** Every family of client, server and tunnel: ping, large ping, TCP, UDP of every size, traceroute (twoNetworks.ts). */
import { type Checks, expectSame } from '../support/checks.ts'
import { exchange, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { learnPathMtu, ping, traceroute } from '../support/probes.ts'
import type { TransferReport, UdpReport } from '../support/traffic.ts'
import { openTwoNetworks, ways } from './twoNetworks.ts'

const TRANSFER_BYTES = 100_000_000
// two gateways, each once as the kernel's router and once as IPREF, and the host
const HOPS = 5

export async function run(checks: Checks): Promise<void> {
  const { lab, a, b } = await openTwoNetworks()
  try {
    const [client, server] = [a.host('client'), b.host('server')]
    await serveTraffic(server)
    for (const [number, { name, address }] of ways.entries()) {
      await checks.check(`${name}: ping`, async () => `${await ping(client, address)} ms`)
      await checks.check(`${name}: ping with 8,000 bytes`, async () => {
        await learnPathMtu(client, address)
        return `${await ping(client, address, { size: 8000 })} ms`
      })
      await checks.check(`${name}: TCP 100 MB with a hash`, async () => {
        const direction = number % 2 === 0 ? 'upload' : 'download'
        const { bytes, ms } = await exchange<TransferReport>(client, [
          direction,
          address,
          TRAFFIC_PORT,
          TRANSFER_BYTES,
          number,
        ])
        return `${direction}, ${Math.round((bytes * 8) / 1000 / ms)} Mbit/s`
      })
      await checks.check(`${name}: UDP of all sizes from 0 to 2,000`, async () => {
        const { sizes, resent } = await exchange<UdpReport>(client, ['udp', address, TRAFFIC_PORT, 0, 2000])
        return `${sizes} sizes${resent > 0 ? `, ${resent} sent again` : ''}`
      })
      await checks.check(`${name}: traceroute`, async () => {
        const hops = await traceroute(client, address)
        expectSame('hops that did not answer', hops.filter(hop => hop === '*').length, 0)
        expectSame('hops', hops.length, HOPS)
        return hops.join(' ')
      })
    }
    await checks.check('the gateways are well after it', async () => {
      for (const network of [a, b]) {
        const { problems, workers } = await network.status()
        expectSame(`problems of ${network.plan.name}`, problems.join('; '), '')
        expectSame(
          `worker restarts of ${network.plan.name}`,
          workers.reduce((sum, worker) => sum + worker.restarts, 0),
          0,
        )
      }
      return undefined
    })
  } finally {
    await lab.close()
  }
}
