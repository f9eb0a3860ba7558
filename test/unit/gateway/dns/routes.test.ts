/** Routes of the resolver: who is asked about a name, and what changes when routes do. */
import { describe, expect, it } from 'vitest'
import { nameToBytes } from '../../../../dns/name.ts'
import { noRouting, type Route, RouteTable } from '../../../../gateway/dns/routes.ts'
import { ServerState } from '../../../../gateway/dns/upstreams.ts'
import { formatAddress, parseAddress, parsePrefix } from '../../../../ipref/address.ts'
import { lines, name, query } from '../../dns/builders.ts'
import { type Answering, ofZone, ResolverLab, reply, server } from './resolverLab.ts'

const OWN = '192.0.2.53'
const FORWARDER = '192.0.2.54'
const PEER = '192.0.2.60'
const OTHER = '192.0.2.61'
const ACTIVE = '192.0.2.70'

function route(domain: string, servers: readonly string[], more: Partial<Route> = {}): Route {
  return {
    domain: name(domain),
    by: 'the test',
    upstreams: servers.map(server),
    forwarders: servers.map(server),
    orOwn: false,
    looksForAa: true,
    mayHold: [],
    ...more,
  }
}

const zones: Record<string, Answering> = {
  [OWN]: ofZone('web TXT "AA 198.51.100.2 + 1"\ngw A 198.51.100.2\nout TXT "AA gw + 9"'),
  [FORWARDER]: ofZone('plain A 192.0.2.1\nweb A 192.0.2.1'),
  [PEER]: ofZone(
    'web TXT "AA 198.51.100.3 + 2"\nplain A 192.0.2.2\nnamed TXT "AA gw.example.com + 3"\ngw A 198.51.100.4',
  ),
  [OTHER]: ofZone('web TXT "AA 198.51.100.5 + 5"\nplain A 192.0.2.3\nheld A 10.240.0.7\nloose A 10.240.16.7'),
}

function lab(settings: ConstructorParameters<typeof ResolverLab>[1] = {}): ResolverLab {
  const made = new ResolverLab(
    { upstreams: { [OWN]: zones[OWN]! }, forwarders: { [FORWARDER]: zones[FORWARDER]! } },
    settings,
  )
  for (const address of [PEER, OTHER]) made.answering.set(address, zones[address]!)
  return made
}

const to = (made: ResolverLab) => [...new Set(made.asked.splice(0).map(asked => asked.server))].join(' ')

describe('the way of a name', () => {
  const state = (address: string) => new ServerState(server(address), new Uint8Array(8))
  const own = [state(OWN)]
  const table = () => new RouteTable({ upstreams: own, forwarders: [] }, one => new ServerState(one, new Uint8Array(8)))
  const askedBy = (routes: RouteTable, text: string) =>
    routes.wayOf(name(text)).upstreams.map(group => group.map(one => one.server.text).join())

  it.each([
    ['b.example.', [PEER]],
    ['www.B.example.', [PEER]],
    ['x.in.b.example.', [OTHER]],
    ['xb.example.', [OWN]],
    ['example.', [OWN]],
    ['.', [OWN]],
  ])('%s is asked at %j: the longest route counts', (text, servers) => {
    const routes = table()
    routes.set([route('b.example.', [PEER]), route('in.b.example.', [OTHER])])
    expect(askedBy(routes, text)).toEqual(servers)
  })

  it('of two for one domain the first counts, and one for all names is the last resort', () => {
    const routes = table()
    routes.set([route('b.example.', [PEER]), route('b.example.', [OTHER]), route('.', [OTHER])])
    expect([askedBy(routes, 'b.example.'), askedBy(routes, 'c.example.')]).toEqual([[PEER], [OTHER]])
  })

  it('set says which domains are answered in another way, and servers keep their state', () => {
    const routes = table()
    expect(routes.set([route('b.example.', [PEER]), route('c.example.', [PEER])])).toHaveLength(2)
    const before = routes.wayOf(name('b.example.')).upstreams[0]![0]
    expect(routes.set([route('b.example.', [PEER]), route('c.example.', [PEER, OTHER])])).toEqual([name('c.example.')])
    expect(routes.wayOf(name('b.example.')).upstreams[0]![0]).toBe(before)
    expect(routes.set([route('b.example.', [PEER], { by: 'somebody else' })])).toEqual([name('c.example.')])
    expect(routes.set([])).toEqual([name('b.example.')])
  })
})

describe('a resolver with routes', () => {
  it('asks the servers of the route for AA records, contexts, and everything else', () => {
    const made = lab()
    made.resolver.setRouting({ ...noRouting, routes: [route('example.com.', [PEER])] })
    made.ask('web.example.com. A')
    made.ask('named.example.com. A')
    expect([made.mapped, to(made)]).toEqual([['4 198.51.100.3 2', '4 198.51.100.4 3'], PEER])
    expect(lines(made.ask('plain.example.com. A').answers)).toEqual([expect.stringMatching(/ A 192\.0\.2\.2$/)])
    expect(made.ask('plain.example.com. MX').flags & 15).toBe(0)
    expect(to(made)).toBe(PEER)
  })

  it('asks its own servers for other names, and those of the route for contexts below it', () => {
    const made = lab()
    made.resolver.setRouting({ ...noRouting, routes: [route('gw.example.com.', [PEER])] })
    made.ask('web.example.com. A')
    expect(to(made)).toBe(OWN)
    made.answering.set(OWN, ofZone('out TXT "AA gw.example.com + 9"'))
    made.ask('out.example.com. A')
    expect(made.mapped).toEqual(['4 198.51.100.2 1', '4 198.51.100.4 9'])
  })

  it('looks for AA records below a route, also where it looks for none otherwise', () => {
    const made = lab({ domains: [name('elsewhere.')] })
    made.ask('web.example.com. A')
    expect(made.mapped).toEqual([])
    made.resolver.setRouting({ ...noRouting, routes: [route('example.com.', [])] })
    made.ask('web.example.com. A')
    expect(made.mapped).toEqual(['4 198.51.100.2 1'])
  })

  it('looks for none below one that says so', () => {
    const made = lab()
    made.resolver.setRouting({ ...noRouting, routes: [route('example.com.', [OTHER], { looksForAa: false })] })
    expect(lines(made.ask('plain.example.com. A').answers)).toEqual([expect.stringMatching(/ A 192\.0\.2\.3$/)])
    expect(made.asked.map(one => one.question)).toEqual(['plain.example.com. 1'])
  })

  it('asks its own upstreams for what the route does not know, where it says so', () => {
    const made = lab()
    const routes = [route('example.com.', [PEER], { orOwn: true, forwarders: [] })]
    made.resolver.setRouting({ ...noRouting, routes })
    made.answering.set(PEER, ofZone('other TXT "AA 198.51.100.3 + 2"'))
    made.ask('web.example.com. A')
    made.ask('other.example.com. A')
    expect(made.mapped).toEqual(['4 198.51.100.2 1', '4 198.51.100.3 2'])
    made.answering.set(PEER, () => undefined)
    made.answering.set(OWN, ofZone('late TXT "AA 198.51.100.2 + 4"'))
    made.ask('late.example.com. A')
    expect(made.mapped.at(-1)).toBe('4 198.51.100.2 4')
    to(made)
    expect(lines(made.ask('plain.example.com. A').answers)).toEqual([expect.stringMatching(/ A 192\.0\.2\.1$/)])
    expect(to(made)).toContain(FORWARDER)
  })

  it('refuses an address that only the mapper gives, but for those that the route may hold', () => {
    const denyAnswers = [parsePrefix('10.240.0.0/12')!]
    const made = lab({ denyAnswers })
    const plain = { looksForAa: false }
    made.resolver.setRouting({ ...noRouting, routes: [route('example.com.', [OTHER], plain)] })
    expect(made.ask('held.example.com. A').flags & 15).toBe(2)
    const mayHold = [parsePrefix('10.240.0.0/20')!]
    made.resolver.setRouting({ ...noRouting, routes: [route('example.com.', [OTHER], { ...plain, mayHold })] })
    expect(lines(made.ask('held.example.com. A').answers)).toEqual([expect.stringMatching(/ A 10\.240\.0\.7$/)])
    expect(made.ask('loose.example.com. A').flags & 15).toBe(2)
  })
})

describe('when routes change', () => {
  it('answers below other domains stay, those below a changed one go', () => {
    const made = lab()
    made.answering.set(OTHER, ofZone('web TXT "AA 198.51.100.5 + 5"'))
    const web = route('web.example.com.', [PEER])
    made.resolver.setRouting({ ...noRouting, routes: [web] })
    for (const text of ['web.example.com. A', 'gw.example.com. A', 'web.example.com. A']) made.ask(text)
    to(made)
    made.resolver.setRouting({ ...noRouting, routes: [route('web.example.com.', [OTHER])] })
    made.ask('gw.example.com. A')
    expect(to(made)).toBe('')
    made.ask('web.example.com. A')
    expect([to(made), made.mapped.at(-1)]).toEqual([OTHER, '4 198.51.100.5 5'])
    // the same routes again change nothing
    made.resolver.setRouting({ ...noRouting, routes: [route('web.example.com.', [OTHER])] })
    made.ask('web.example.com. A')
    expect(to(made)).toBe('')
  })

  it('an answer on its way reaches who waits for it, and nobody else', () => {
    const made = lab()
    const first = made.send(query('web.example.com. A', { flags: 0x0100 }))
    made.resolver.setRouting({ ...noRouting, routes: [route('example.com.', [OTHER])] })
    const second = made.send(query('web.example.com. A', { flags: 0x0100 }))
    made.deliver()
    expect([first, second].map(([answer]) => formatAddress(answer!.answers[0]!.data))).toEqual([
      formatAddress(made.encodedFor({ family: 4, context: parseAddress('198.51.100.2')!, reference: 1n })),
      formatAddress(made.encodedFor({ family: 4, context: parseAddress('198.51.100.5')!, reference: 5n })),
    ])
    to(made)
    const [third] = made.send(query('web.example.com. A', { flags: 0x0100 }))
    expect([formatAddress(third!.answers[0]!.data), to(made)]).toEqual([formatAddress(second[0]!.answers[0]!.data), ''])
  })
})

describe('a resolver whose names another one maps', () => {
  const uplink = [server(ACTIVE)]
  const mapped: Answering = asked =>
    reply(asked, {
      answers: [{ name: asked.questions[0]!.name, type: 1, class: 1, ttl: 60, data: parseAddress('10.240.16.9')! }],
    })
  const below = (settings: ConstructorParameters<typeof ResolverLab>[1] = {}) => {
    const made = lab({ denyAnswers: [parsePrefix('10.240.0.0/12')!], ...settings })
    made.answering.set(ACTIVE, mapped)
    made.resolver.setRouting({ ...noRouting, uplink })
    return made
  }

  it('hands it names with AA records, and hands on what it says', () => {
    const made = below()
    expect(lines(made.ask('web.example.com. A').answers)).toEqual([expect.stringMatching(/ A 10\.240\.16\.9$/)])
    expect([made.mapped, to(made)]).toEqual([[], `${OWN} ${ACTIVE}`])
    made.ask('web.example.com. A')
    expect(to(made)).toBe('')
  })

  it('answers names without AA records, and hosts of its own network, itself', () => {
    const made = below()
    made.ask('plain.example.com. A')
    expect(to(made)).toBe(`${OWN} ${FORWARDER}`)
    made.natives.set(1n, parseAddress('10.1.0.9')!)
    made.resolver.setRouting({ ...noRouting, uplink, ownContexts: [parseAddress('198.51.100.2')!] })
    expect(lines(made.ask('web.example.com. A').answers)).toEqual([expect.stringMatching(/ A 10\.1\.0\.9$/)])
    expect(to(made)).toBe(OWN)
  })

  it('hands it questions for names of encoded addresses, and no others', () => {
    const made = below()
    const target = name('web.example.com.')
    made.answering.set(ACTIVE, asked =>
      reply(asked, {
        answers: [{ name: asked.questions[0]!.name, type: 12, class: 1, ttl: 60, data: nameToBytes(target) }],
      }),
    )
    const answer = made.ask('9.16.240.10.in-addr.arpa. PTR')
    expect([answer.answers.length, to(made)]).toEqual([1, ACTIVE])
    made.ask('9.16.1.10.in-addr.arpa. PTR')
    expect(to(made)).toBe(FORWARDER)
  })

  it('another one, or none: nothing that it said is shown any more', () => {
    const made = below()
    made.ask('web.example.com. A')
    made.resolver.setRouting(noRouting)
    made.ask('web.example.com. A')
    expect(made.mapped).toEqual(['4 198.51.100.2 1'])
    made.resolver.setRouting({ ...noRouting, uplink })
    to(made)
    made.ask('web.example.com. A')
    expect(to(made)).toContain(ACTIVE)
  })

  it('that is silent: SERVFAIL, and nothing of its own', () => {
    const made = below()
    made.answering.set(ACTIVE, () => undefined)
    expect([made.ask('web.example.com. A').flags & 15, made.mapped]).toEqual([2, []])
  })
})
