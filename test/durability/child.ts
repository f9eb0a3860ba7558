/** A mapper that is going to be killed: prints `reference encoded` for each mapping it acknowledges. See killing.ts. */
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import { MapperLab } from '../conformance/mapper.ts'

const [folder = '', first = '2'] = process.argv.slice(2)
const lab = new MapperLab({
  encodeNets: ['10.240.0.0/12'],
  contexts: ['198.51.100.1'],
  capacity: 1 << 17,
  dataFolder: folder,
})
lab.store.open(saved => lab.mapper.restore(saved))
const context = parseAddress('198.51.100.2')!
let next = Number(first)

async function ask(): Promise<void> {
  for (;;) {
    const reference = next++
    const got = lab.mapper.encodedFor({ context, reference: BigInt(reference), family: 4 })
    if ('refused' in got) throw new Error(got.refused)
    await got.durable
    // one write for each: what is printed was acknowledged
    process.stdout.write(`${reference} ${formatAddress(got.encoded)}\n`)
  }
}
await Promise.all(Array.from({ length: 32 }, ask))
