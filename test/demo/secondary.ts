/**
 * The smallest secondary: transfers zones when their serial changes, and serves them. Stands in for Knot DNS, NSD or BIND in the demo, where none of them is installed.
 *
 *   node secondary.ts LISTEN,LISTEN ZONE=PRIMARY,PRIMARY …
 */
import { Type } from '../../dns/constants.ts'
import { decodeSoa, type ResourceRecord } from '../../dns/message.ts'
import { type Name, parseName } from '../../dns/name.ts'
import { queryServer, type Server } from '../../dns/query.ts'
import { transferZone } from '../../dns/transfer.ts'
import { Zone } from '../../dns/zone.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'

const LOOK_MS = 300
const PORT = 53

function serversOf(list: string): Server[] {
  return list.split(',').map(host => ({ host, port: PORT }))
}

async function transfer(zone: Name, server: Server): Promise<Zone | undefined> {
  const answer = await queryServer(server, { name: zone, type: Type.SOA })
  const soa = answer?.answers.find(record => record.type === Type.SOA)
  if (!soa || decodeSoa(soa.data).serial === served.get(zone)) return undefined
  const records: ResourceRecord[] = [soa]
  const { serial } = await transferZone({ server, zone, onRecord: record => records.push(record) })
  return serial === decodeSoa(soa.data).serial ? Zone.from(zone, records).zone : undefined
}

async function follow(zone: Name, primaries: readonly Server[]): Promise<never> {
  for (;;) {
    for (const server of primaries) {
      // a primary that is not there yet is asked again
      const found = await transfer(zone, server).catch(() => undefined)
      if (!found) continue
      zones.setZone(found)
      served.set(zone, found.soa.serial)
      break
    }
    await new Promise(resolve => setTimeout(resolve, LOOK_MS))
  }
}

const [listen = '', ...wanted] = process.argv.slice(2)
const served = new Map<Name, number>()
const quiet = { info() {}, warn() {} }
const zones = new ZoneServer(
  { listen: serversOf(listen), keys: [], transferAllow: [], transferKeys: [], notify: [], notifyNameServers: false },
  { log: quiet },
)
await zones.start()
for (const one of wanted) {
  const [zone = '', primaries = ''] = one.split('=')
  void follow(parseName(zone)!, serversOf(primaries))
}
