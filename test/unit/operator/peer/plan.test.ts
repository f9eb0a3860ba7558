import { describe, expect, it } from 'vitest'
import { type PeerInput, planPeer } from '../../../../operator/peer/plan.ts'
import { peerStatus } from '../../../../operator/peer/status.ts'
import type { IprefPeer, IprefPeerStatus, PeerObservation } from '../../../../resources/kinds.ts'
import { timestamp } from '../../../../runtime/clock.ts'
import { gateway, peer, settings } from '../../../support/operatorObjects.ts'

const NOW = Date.UTC(2030, 0, 1, 12)
const older = (spec: Parameters<typeof peer>[0], status?: Partial<IprefPeerStatus>): IprefPeer => ({
  ...peer(spec, { name: 'older', creationTimestamp: '2029-01-01T00:00:00Z' }),
  ...(status ? { status: { observedGeneration: 1, ...status } } : {}),
})
const plan = (input: Partial<PeerInput>) =>
  planPeer({
    object: peer(),
    config: settings(),
    others: [],
    refusalOf: () => undefined,
    resolved: { addresses: ['203.0.113.2'] },
    gateways: ['n1'],
    ...input,
  })
const said = ({ findings }: ReturnType<typeof plan>) => findings.map(({ status, reason }) => `${status} ${reason}`)
const REFUSED = 'Unknown NotAccepted'

describe('a peer', () => {
  it('is accepted with an address of another network', () => {
    expect([said(plan({})), plan({}).addresses]).toEqual([['True Accepted', 'True Resolved'], ['203.0.113.2']])
  })

  it.each<[string, string[], string | undefined]>([
    ['beside our zones', ['example.net', 'notexample.com', 'com'], undefined],
    ['our internal zone', ['in.example.com'], 'DomainIsOurs'],
    ['in our internal zone', ['x.in.example.com'], 'DomainIsOurs'],
    ['in our public zone', ['example.net', 'shop.example.com'], 'DomainIsOurs'],
  ])('a domain that is %s', (_name, domains, reason) => {
    const found = plan({ object: peer({ domains }) })
    expect(said(found)).toEqual(reason ? [`False ${reason}`, REFUSED] : ['True Accepted', 'True Resolved'])
  })

  const refusalOf: PeerInput['refusalOf'] = address =>
    address.startsWith('10.') ? { reason: 'GatewayForbidden', message: `${address} is a pod` } : undefined

  it('whose gateway is no other network is refused; of several addresses the right ones are used', () => {
    const wrong = plan({ refusalOf, resolved: { addresses: ['10.0.0.1', '10.0.0.2'] } })
    expect([said(wrong), wrong.addresses, wrong.hosts]).toEqual([['False GatewayForbidden', REFUSED], [], []])
    const some = plan({ refusalOf, resolved: { addresses: ['10.0.0.1', '203.0.113.2'] } })
    expect([said(some), some.addresses]).toEqual([['True Accepted', 'True SomeAddressesForbidden'], ['203.0.113.2']])
    expect(some.findings[1]!.message).toContain('10.0.0.1')
  })

  it('a name that is not resolved says why, and keeps what was known', () => {
    const problem = { reason: 'LookupFailed', message: 'gw.example.net: SERVFAIL' }
    const found = plan({ resolved: { addresses: ['203.0.113.2'], problem } })
    expect([said(found), found.addresses]).toEqual([['True Accepted', 'False LookupFailed'], ['203.0.113.2']])
    expect(found.findings[1]!.message).toBe('gw.example.net: SERVFAIL; 203.0.113.2 stay')
    const waiting = plan({
      resolved: { addresses: [], problem: { reason: 'Resolving', message: '', isWaiting: true } },
    })
    expect(said(waiting)).toEqual(['True Accepted', 'Unknown Resolving'])
  })
})

describe('two peers in conflict', () => {
  it.each<[string, IprefPeer, string | undefined]>([
    ['a domain', older({ domains: ['example.net'] }), 'DomainConflict'],
    ['a domain below', older({ domains: ['a.example.net'], gateway: { address: '203.0.113.9' } }), undefined],
    ['an address', older({ gateway: { address: '203.0.113.2' } }), 'GatewayConflict'],
    [
      'an address by name',
      older({ gateway: { name: 'gw.example.net' } }, { addresses: ['203.0.113.9', '203.0.113.2'] }),
      'GatewayConflict',
    ],
    ['nothing', older({ gateway: { address: '203.0.113.9' } }), undefined],
  ])('over %s: the older wins', (_name, other, reason) => {
    const object = peer({ domains: ['example.net'] })
    const found = plan({ object, others: [other] })
    expect(said(found)[0]).toBe(reason ? `False ${reason}` : 'True Accepted')
    if (reason) expect(found.findings[0]!.message).toContain('older IprefPeer older')
    expect(said(plan({ object: other, others: [object], resolved: { addresses: ['203.0.113.2'] } }))[0]).toBe(
      'True Accepted',
    )
  })

  it('an older one that is refused itself claims nothing, until it is edited', () => {
    const conditions = [{ ...condition('Accepted'), status: 'False' as const }]
    const other = older({ domains: ['example.net'], gateway: { address: '203.0.113.9' } }, { conditions })
    const object = peer({ domains: ['example.net'] })
    expect(said(plan({ object, others: [other] }))[0]).toBe('True Accepted')
    const edited = { ...other, metadata: { ...other.metadata, generation: 2 } }
    expect(said(plan({ object, others: [edited] }))[0]).toBe('False DomainConflict')
  })
})

describe('the gateway that carries its hosts', () => {
  const hosts = [{ name: 'db', reference: '11' }]
  const withGateway = (name: string): IprefPeer => ({
    ...peer({ hosts }),
    status: { observedGeneration: 1, gateway: name },
  })

  it('is one that is alive, always the same', () => {
    const found = plan({ object: peer({ hosts }), gateways: ['n3', 'n1', 'n2'] }).gateway
    expect(['n1', 'n2', 'n3']).toContain(found)
    expect(plan({ object: peer({ hosts }), gateways: ['n1', 'n2', 'n3'] }).gateway).toBe(found)
  })

  it('stays while it lives, moves when it goes, and stays where nobody could take over', () => {
    expect(plan({ object: withGateway('n2'), gateways: ['n1', 'n2'] }).gateway).toBe('n2')
    expect(plan({ object: withGateway('n9'), gateways: ['n1'] }).gateway).toBe('n1')
    expect(plan({ object: withGateway('n9'), gateways: [] }).gateway).toBe('n9')
  })

  it('is none where there are no hosts', () => {
    expect(plan({ object: { ...withGateway('n2'), spec: peer().spec } }).gateway).toBeUndefined()
  })
})

function condition(type: string) {
  return {
    type,
    status: 'True' as const,
    reason: type,
    message: '',
    lastTransitionTime: '2030-01-01T00:00:00Z',
    observedGeneration: 1,
  }
}

describe('what is said of a peer', () => {
  type Row = Omit<PeerObservation, 'gateway'>
  const row = (more: Partial<Row> = {}): Row => ({
    ...{
      address: '203.0.113.2',
      verified: true,
      rttMilliseconds: 20,
      pathMtu: 1400,
      lastSeenTime: timestamp(NOW - 10_000),
    },
    ...more,
  })
  function status(
    rows: Row[] | Record<string, Row[]>,
    more: { object?: IprefPeer; before?: IprefPeerStatus; sinceMs?: number; found?: ReturnType<typeof plan> } = {},
  ) {
    const gateways = Object.entries(Array.isArray(rows) ? { n1: rows } : rows).map(([name, peers]) =>
      gateway(name, {}, { peers }),
    )
    const object = { ...(more.object ?? peer()), ...(more.before ? { status: more.before } : {}) }
    return peerStatus({ object, plan: more.found ?? plan({ object }), gateways, sinceMs: more.sinceMs ?? 0, now: NOW })
  }
  const conditionOf = ({ conditions }: IprefPeerStatus, type: string) => {
    const found = conditions!.find(one => one.type === type)!
    return `${found.status} ${found.reason}`
  }

  it.each<[string, Row[], string]>([
    ['a gateway heard from it lately', [row()], 'True Reachable'],
    ['no gateway knows it', [], 'Unknown NotObserved'],
    ['a gateway knows only others', [row({ address: '203.0.113.9' })], 'Unknown NotObserved'],
    ['it never answered', [{ address: '203.0.113.2', verified: false }], 'False NoAnswer'],
    ['it was heard and not verified', [row({ verified: false })], 'False NoAnswer'],
    ['it fell silent', [row({ lastSeenTime: timestamp(NOW - 601_000) })], 'False NoAnswer'],
  ])('Reachable, where %s', (_name, rows, expected) => {
    expect(conditionOf(status(rows), 'Reachable')).toBe(expected)
  })

  it('one of several gateways is enough', () => {
    expect(conditionOf(status({ n1: [row({ verified: false })], n2: [row()] }), 'Ready')).toBe('True Ready')
  })

  it('silence is longer where probes are rare', () => {
    const object = peer({ probe: { mode: 'Enabled', intervalSeconds: 3600 } })
    expect(conditionOf(status([row({ lastSeenTime: timestamp(NOW - 3 * 3_600_000) })], { object }), 'Reachable')).toBe(
      'True Reachable',
    )
  })

  it('without probes nothing is known, and that is no fault', () => {
    const object = peer({ probe: { mode: 'Disabled' } })
    const found = status([], { object })
    expect([conditionOf(found, 'Reachable'), conditionOf(found, 'Ready')]).toEqual(['Unknown NotProbed', 'True Ready'])
  })

  it('one that is not accepted any more is not called reachable', () => {
    const before = status([row()])
    const found = plan({ object: peer({ domains: ['example.com'] }) })
    const after = status([row()], { before, found })
    expect([conditionOf(after, 'Reachable'), conditionOf(after, 'Ready')]).toEqual([
      'Unknown NotAccepted',
      'False DomainIsOurs',
    ])
  })

  it.each<[string, Partial<Row>, number, boolean]>([
    ['nothing is new', {}, 1e9, false],
    ['the path is verified no more', { verified: false }, 0, true],
    ['its MTU is another', { pathMtu: 1300 }, 0, true],
    ['a little slower', { rttMilliseconds: 23 }, 1e9, false],
    ['much slower, after a moment', { rttMilliseconds: 40 }, 59_000, false],
    ['much slower, after a minute', { rttMilliseconds: 40 }, 60_000, true],
    ['heard again, after a minute', { lastSeenTime: timestamp(NOW) }, 60_000, false],
    ['heard again, after five', { lastSeenTime: timestamp(NOW) }, 300_000, true],
  ])('is written when %s: not each time that a gateway reports', (_name, more, sinceMs, isWritten) => {
    const before = status([row()])
    const after = status([row(more)], { before, sinceMs })
    expect(JSON.stringify(after.observations) !== JSON.stringify(before.observations)).toBe(isWritten)
  })

  it('rows come and go at once', () => {
    const before = status({ n1: [row()] })
    expect(status({ n1: [row()], n2: [row()] }, { before }).observations).toHaveLength(2)
    expect(status({}, { before }).observations).toBeUndefined()
    expect(status({ n2: [row()] }, { before }).observations![0]!.gateway).toBe('n2')
  })

  it('no more than a status holds', () => {
    const rows = Object.fromEntries(Array.from({ length: 1100 }, (_, i) => [`n${i}`, [row()]]))
    expect(status(rows).observations).toHaveLength(1024)
  })
})
