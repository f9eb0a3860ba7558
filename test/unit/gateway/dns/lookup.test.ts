/** Addresses of many names at once, as the DNS agent asks for them: real sockets, servers of the test. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeMessage, type Message } from '../../../../dns/message.ts'
import { type Looked, Lookup } from '../../../../gateway/dns/lookup.ts'
import { Poller } from '../../../../gateway/sys/poller.ts'
import { formatAddress, parseAddress } from '../../../../ipref/address.ts'
import { type Answering, TestDnsServer } from '../../../support/dnsServer.ts'
import { name } from '../../dns/builders.ts'
import { ofZone, reply } from './resolverLab.ts'

const answers = ofZone(`
host A 10.1.0.1
host AAAA fd00::1
two A 10.1.0.2
two A 10.1.0.3
alias CNAME alias2
alias2 CNAME host
c1 CNAME c2
c2 CNAME c1
text TXT "no address"
${Array.from({ length: 60 }, (_, i) => `large A 10.2.0.${i}`).join('\n')}
${Array.from({ length: 1000 }, (_, i) => `n${i} A 10.3.${i >> 8}.${i & 255}`).join('\n')}
`)
const zone: Answering = (bytes, transport) => answers(decodeMessage(bytes) as Message, transport)

describe('lookup', () => {
  let poller: Poller
  let lookup: Lookup
  const servers: TestDnsServer[] = []

  beforeEach(() => {
    poller = new Poller()
    lookup = new Lookup(poller)
  })
  afterEach(async () => {
    lookup.stop()
    poller.close()
    for (const server of servers.splice(0)) await server.stop()
  })

  async function start(...answering: Answering[]) {
    for (const one of answering) {
      const server = new TestDnsServer(one)
      await server.start()
      servers.push(server)
    }
    return servers.map(({ port, text }) => ({ text, port, address: parseAddress('127.0.0.1')! }))
  }

  const shown = (found: Looked) => (typeof found === 'string' ? found : found.map(formatAddress).sort())

  it.each([
    ['host', 4, ['10.1.0.1']],
    ['host', 6, ['fd00::1']],
    ['two', 4, ['10.1.0.2', '10.1.0.3']],
    ['alias', 4, ['10.1.0.1']],
    ['none', 4, []],
    ['text', 4, []],
    ['c1', 4, 'failed'],
    ['large', 4, Array.from({ length: 60 }, (_, i) => `10.2.0.${i}`).sort()],
  ] as const)('%s in IPv%i', async (host, family, expected) => {
    const asked = await start(zone)
    expect(shown(await lookup.addresses(name(`${host}.example.com.`), family, asked))).toEqual(expected)
  })

  it('a failure is no absence', async () => {
    const asked = await start(bytes => reply(decodeMessage(bytes) as Message, { flags: 2 }))
    expect(await lookup.addresses(name('host.example.com.'), 4, asked)).toBe('failed')
  })

  it('the next server when one fails or is silent', async () => {
    const asked = await start(
      bytes => reply(decodeMessage(bytes) as Message, { flags: 2 }),
      () => undefined,
      zone,
    )
    expect(shown(await lookup.addresses(name('host.example.com.'), 4, asked))).toEqual(['10.1.0.1'])
  })

  it('a thousand at once', async () => {
    const asked = await start(zone)
    const found = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => lookup.addresses(name(`n${i}.example.com.`), 4, asked)),
    )
    expect(found.map(shown)).toEqual(found.map((_, i) => [`10.3.${i >> 8}.${i & 255}`]))
  })
})
