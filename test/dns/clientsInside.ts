/**
 * Runs inside a network and mount namespace of its own (clients.test.ts): a zone, a mapper, and resolvers on port 53, where every client looks for one.
 *
 *   127.0.0.1, ::1 and OUTSIDE  port 53   as configured by default
 *   OUTSIDE                     port 54   open to everybody, 5 answers a second
 *
 * Prints one line of JSON when all is ready: names and the encoded addresses that they must have. Ends with its standard input.
 */
import { Type } from '../../dns/constants.ts'
import { formatData } from '../../dns/rdata.ts'
import { parseAddress } from '../../ipref/address.ts'
import { ofZone, ResolverWorld } from './resolverWorld.ts'

export const OUTSIDE = '198.51.100.9'

const CONTEXT = '198.51.100.2'
const ZONE = `
web 300 TXT "AA ${CONTEXT} + 11"
named TXT "AA gw + 12" "AA gw.example.com + 12"
gw A ${CONTEXT}
multi TXT "AA ${CONTEXT} + 13"
multi TXT "AA ${CONTEXT} + 14"
alias CNAME web
${Array.from({ length: 60 }, (_, i) => `many TXT "AA ${CONTEXT} + ${100 + i}"`).join('\n')}
plain A 192.0.2.7
plain AAAA 2001:db8::7
*.wild TXT "AA ${CONTEXT} + 15"
`

export interface Inside {
  /** by name, without the domain: encoded addresses, sorted */
  v4: Record<string, string[]>
  v6: Record<string, string[]>
}

async function main(): Promise<void> {
  const world = new ResolverWorld()
  const open = new ResolverWorld()
  const [server] = await world.addServers(ofZone(ZONE))
  const { mapper } = await world.startMapper(['10.240.0.0/12', 'fd00:ea::/64'])
  const servers = ['-upstream', server!.text, '-forward', server!.text, '-ea-ipver', '4,6']
  const listen = ['127.0.0.1:53', '[::1]:53', `${OUTSIDE}:53`].flatMap(address => ['-listen', address])
  await world.startResolver(...listen, ...servers)
  const limits = ['-allow', '0.0.0.0/0', '-rate-limit', '5']
  await open.startResolver('-listen', `${OUTSIDE}:54`, ...servers, '-mapper', world.mapperPath, ...limits)
  const encoded = (family: 4 | 6, ...references: number[]) =>
    references
      .map(reference => {
        const found = mapper.encodedFor({ context: parseAddress(CONTEXT)!, reference: BigInt(reference), family })
        if (!('encoded' in found)) throw new Error(found.refused)
        return formatData(family === 4 ? Type.A : Type.AAAA, found.encoded)
      })
      .sort()
  const all = (family: 4 | 6) => ({
    web: encoded(family, 11),
    WEB: encoded(family, 11),
    named: encoded(family, 12),
    multi: encoded(family, 13, 14),
    alias: encoded(family, 11),
    many: encoded(family, ...Array.from({ length: 60 }, (_, i) => 100 + i)),
    'a.b.wild': encoded(family, 15),
    plain: family === 4 ? ['192.0.2.7'] : ['2001:db8::7'],
  })
  const inside: Inside = { v4: all(4), v6: all(6) }
  process.stdout.write(`${JSON.stringify(inside)}\n`)
  await new Promise(resolve => process.stdin.on('end', resolve).resume())
  await open.stop()
  await world.stop()
}

if (import.meta.main) await main()
