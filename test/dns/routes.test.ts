/** Routes of a running resolver: they come and go without a restart, and `ipref trace` says which one was taken. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { noRouting, type Route } from '../../gateway/dns/routes.ts'
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import type { TestDnsServer } from '../support/dnsServer.ts'
import { name } from '../unit/dns/builders.ts'
import { ofZone, ResolverWorld, until } from './resolverWorld.ts'

let world: ResolverWorld
let own: TestDnsServer
let peer: TestDnsServer

beforeEach(async () => {
  world = new ResolverWorld()
  const servers = await world.addServers(
    ofZone('web 300 TXT "AA 198.51.100.2 + 11"\nkept 300 TXT "AA 198.51.100.2 + 12"\nplain A 192.0.2.1'),
    ofZone('web 300 TXT "AA 198.51.100.3 + 21"\nplain A 192.0.2.2'),
  )
  own = servers[0]!
  peer = servers[1]!
  await world.startMapper()
  await world.startResolver('-upstream', own.text, '-forward', own.text)
})
afterEach(() => world.stop())

const serverOf = ({ text, port }: TestDnsServer) => ({ text, address: parseAddress('127.0.0.1')!, port })

function route(domain: string, server: TestDnsServer): Route {
  const servers = [serverOf(server)]
  return {
    domain: name(domain),
    by: 'IprefPeer b',
    upstreams: servers,
    forwarders: servers,
    orOwn: false,
    looksForAa: true,
    mayHold: [],
  }
}

const addressOf = async (text: string) => {
  const { answers } = await world.ask(`${text} A`)
  return answers[0] && formatAddress(answers[0].data)
}

describe('routes', { timeout: 180_000 }, () => {
  it('count from the next question on, and what is kept of other domains stays', async () => {
    const before = [await addressOf('web.example.com'), await addressOf('kept.example.com')]
    expect(await addressOf('plain.example.com')).toBe('192.0.2.1')
    world.host.setRouting({
      ...noRouting,
      routes: [route('web.example.com.', peer), route('plain.example.com.', peer)],
    })
    await until('the other server is asked', async () => (await addressOf('plain.example.com')) === '192.0.2.2')
    expect(await addressOf('web.example.com')).not.toBe(before[0])
    const asked = own.asked.udp
    expect([await addressOf('kept.example.com'), own.asked.udp]).toEqual([before[1], asked])
    world.host.setRouting(noRouting)
    await until('the first server is asked again', async () => (await addressOf('plain.example.com')) === '192.0.2.1')
    expect([await addressOf('web.example.com'), world.host.restarts]).toEqual([before[0], 0])
  })

  it('stay when the worker dies', async () => {
    world.host.setRouting({ ...noRouting, routes: [route('plain.example.com.', peer)] })
    world.host.crash()
    await until('the worker is back', () => world.events.some(event => event.what === 'restarted'))
    expect(await addressOf('plain.example.com')).toBe('192.0.2.2')
  })

  it('are named in a trace', async () => {
    world.host.setRouting({ ...noRouting, routes: [route('example.com.', peer)] })
    const { steps, addresses } = await world.host.trace(name('web.example.com.'), '-')
    expect(steps.find(step => step.what === 'route')?.detail).toBe(
      `example.com. by IprefPeer b: AA records at ${peer.text}, everything else at ${peer.text}`,
    )
    expect(steps.find(step => step.what === 'TXT')?.detail).toContain(peer.text)
    expect([steps.every(step => step.ok), addresses]).toEqual([true, [await addressOf('web.example.com')]])
    const plain = { ...route('example.com.', peer), looksForAa: false }
    world.host.setRouting({ ...noRouting, routes: [plain] })
    const second = await world.host.trace(name('plain.example.com.'), '-')
    expect([second.steps.map(step => step.what), second.addresses]).toEqual([
      ['resolver', 'route', 'cache', 'answer'],
      ['192.0.2.2'],
    ])
  })

  it('to the resolver that maps: answers and trace come from it', async () => {
    const [active] = await world.addServers(ofZone('web A 10.240.16.9'))
    world.host.setRouting({ ...noRouting, uplink: [serverOf(active!)] })
    expect(await addressOf('web.example.com')).toBe('10.240.16.9')
    const { steps, addresses } = await world.host.trace(name('web.example.com.'), '-')
    expect([steps.at(-1)?.what, addresses]).toEqual(['active gateway', ['10.240.16.9']])
  })

  it('let others ask that the configuration does not know', async () => {
    const lonely = new ResolverWorld()
    try {
      const [server] = await lonely.addServers(ofZone('plain A 192.0.2.1'))
      await lonely.startMapper()
      await lonely.startResolver('-upstream', server!.text, '-forward', server!.text, '-allow', '192.0.2.0/24')
      expect((await lonely.ask('plain.example.com A')).flags & 15).toBe(5)
      const allow = [{ family: 4 as const, address: parseAddress('127.0.0.0')!, length: 8 }]
      lonely.host.setRouting({ ...noRouting, allow })
      await until('an answer', async () => ((await lonely.ask('plain.example.com A')).flags & 15) === 0)
    } finally {
      await lonely.stop()
    }
  })
})
