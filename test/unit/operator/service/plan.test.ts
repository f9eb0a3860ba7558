import { describe, expect, it } from 'vitest'
import { type PlanInput, planService } from '../../../../operator/service/plan.ts'
import { LAST_HOLDER, lastHolderText } from '../../../../operator/service/slots.ts'
import type { TargetsFound, WantedAddress } from '../../../../operator/service/targets.ts'
import { referenceOf } from '../../../../resources/claims.ts'
import {
  API_VERSION,
  type IprefReference,
  type IprefReferenceSpec,
  type IprefService,
  type ServiceMapping,
} from '../../../../resources/kinds.ts'
import { iprefService } from '../../../support/operatorObjects.ts'

const NOW = Date.UTC(2030, 0, 1, 12)
const TTL_MS = 60_000
const ago = (ms: number) => `${new Date(NOW - ms).toISOString().slice(0, 19)}Z`

/** `lastHolder`: who was there until it was released. */
function claim(hex: string, spec: Partial<IprefReferenceSpec> = {}, lastHolder?: string): IprefReference {
  const text = lastHolderText(lastHolder ?? '', spec.releasedAt ?? ago(0))
  return {
    apiVersion: API_VERSION,
    kind: 'IprefReference',
    metadata: { name: hex, ...(lastHolder === undefined ? {} : { annotations: { [LAST_HOLDER]: text } }) },
    spec: { namespace: 'shop', name: 'web', uid: 'uid-web', slot: 0, family: 'IPv4', ...spec },
  }
}

/** `ADDRESS`, or `MEMBER-ORDINAL=ADDRESS`; the holder of a plain one is its address. */
function wants(...texts: string[]): TargetsFound {
  return {
    wanted: texts.map((text): WantedAddress => {
      const [name, address] = text.includes('=') ? (text.split('=') as [string, string]) : [undefined, text]
      const family = address.includes(':') ? 'IPv6' : 'IPv4'
      if (name === undefined) return { holder: address, family, address }
      return { holder: `uid-${name}`, ordinal: Number(name.split('-').at(-1)), member: name, family, address }
    }),
  }
}
const alone = (...addresses: string[]): TargetsFound => ({
  wanted: addresses.map(address => ({
    holder: 'ClusterIP',
    ordinal: 0,
    family: address.includes(':') ? 'IPv6' : 'IPv4',
    address,
  })),
})
const pair = (holder: string, ...addresses: string[]): WantedAddress[] =>
  addresses.map(address => ({ holder, family: address.includes(':') ? 'IPv6' : 'IPv4', address }))

const mapping = (slot: number, address: string, reference: string, member?: string): ServiceMapping => ({
  ...{ slot, family: address.includes(':') ? ('IPv6' as const) : ('IPv4' as const), address, reference },
  ...(member === undefined ? {} : { member }),
})

function withStatus(object: IprefService, mappings: ServiceMapping[]): IprefService {
  return { ...object, status: { observedGeneration: 1, mappings } }
}

const web = iprefService()
function plan(input: Partial<PlanInput>) {
  return planService({
    object: web,
    names: { internal: 'web.shop.in.example.com', public: 'web.shop.example.com' },
    targets: alone('10.96.0.10'),
    families: new Set(['IPv4', 'IPv6']),
    own: [],
    mappedAt: () => [],
    addressesOf: () => [],
    ownerOfName: () => undefined,
    askerOf: () => undefined,
    holderOf: () => undefined,
    holdMs: 24 * 3_600_000,
    now: NOW,
    ...input,
  })
}

type Plan = ReturnType<typeof plan>
const shown = ({ mappings, changes }: Plan) =>
  mappings.map(({ slot, address, reference }) => {
    const text = typeof reference === 'string' ? reference : `(${changes[reference.claim]!.do})`
    return `${slot} ${address} ${text}`
  })
const done = ({ changes }: Plan) =>
  changes.map(change =>
    change.do === 'claim'
      ? `claim ${change.slot} ${change.reference ?? 'any'}`
      : `${change.do} ${change.claim.metadata.name}`,
  )
const why = ({ findings }: Plan) => findings.map(({ type, status, reason }) => `${type} ${status} ${reason}`).join(', ')

describe('one address', () => {
  it('is given a reference once, in slot 0', () => {
    const made = plan({})
    expect([shown(made), done(made), why(made)]).toEqual([
      ['0 10.96.0.10 (claim)'],
      ['claim 0 any'],
      'Accepted True Accepted, Resolved True Resolved',
    ])
  })

  it('keeps it, also when the address is another, and nothing is to be done', () => {
    const object = withStatus(web, [mapping(0, '10.96.0.10', '2466')])
    for (const address of ['10.96.0.10', '10.96.0.99']) {
      const made = plan({ object, own: [claim('9a2')], targets: alone(address) })
      expect([shown(made), done(made)]).toEqual([[`0 ${address} 2466`], []])
    }
  })

  it('takes a claim that was made before a crash', () => {
    const made = plan({ own: [claim('9a2')] })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 2466'], []])
  })

  it('takes up the claim of an object of its name that is gone', () => {
    for (const spec of [{ uid: 'old' }, { uid: 'old', releasedAt: ago(3_600_000) }]) {
      const made = plan({ own: [claim('9a2', spec)] })
      expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 2466'], ['adopt 9a2']])
    }
  })

  it('does not take up one that another object maps elsewhere by now', () => {
    const made = plan({ own: [claim('9a2', { uid: 'old' })], addressesOf: () => ['10.96.0.77'] })
    expect(shown(made)).toEqual(['0 10.96.0.10 (claim)'])
  })

  it('of two claims keeps the one that is mapped, and lets the other go', () => {
    const object = withStatus(web, [mapping(0, '10.96.0.10', '2467')])
    const made = plan({ object, own: [claim('9a2'), claim('9a3')] })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 2467'], ['leave 9a2']])
  })

  it('claims again what it is mapped with, when somebody took the claim away', () => {
    const object = withStatus(web, [mapping(0, '10.96.0.10', '2466')])
    const own = [claim('9a3', { releasedAt: ago(1000) })]
    const made = plan({ object, own })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 (claim)'], ['claim 0 2466']])
  })

  it('of an object that is gone takes up the claim that was in use last', () => {
    const own = [
      claim('9a2', { uid: 'old', releasedAt: ago(9000) }),
      claim('9a3', { uid: 'old', releasedAt: ago(5000) }),
    ]
    expect(shown(plan({ own }))).toEqual(['0 10.96.0.10 2467'])
  })

  it('has both IP versions in one slot, with a reference each', () => {
    const made = plan({ targets: alone('10.96.0.10', 'fd00::10') })
    expect(shown(made)).toEqual(['0 10.96.0.10 (claim)', '0 fd00::10 (claim)'])
    expect(made.mappings.map(({ reference }) => reference)).toEqual([{ claim: 0 }, { claim: 1 }])
  })
})

describe('IP versions without an encoding network', () => {
  const families = new Set(['IPv4'] as const)

  it('are left out', () => {
    const made = plan({ families, targets: alone('10.96.0.10', 'fd00::10') })
    expect([shown(made), why(made)]).toEqual([
      ['0 10.96.0.10 (claim)'],
      'Accepted True Accepted, Resolved True Resolved',
    ])
  })

  it('leave nothing where the target has no other, and what was mapped goes', () => {
    const object = withStatus(web, [mapping(0, 'fd00::10', '2466')])
    const made = plan({ object, families, targets: alone('fd00::10'), own: [claim('9a2', { family: 'IPv6' })] })
    expect([shown(made), done(made), why(made)]).toEqual([
      [],
      ['leave 9a2'],
      'Accepted True Accepted, Resolved False NoEncodingNetwork',
    ])
    expect(made.findings[1]!.message).toContain('IPv6')
  })
})

describe('slots', () => {
  it('are the ordinals of StatefulSet members, and the lowest for others', () => {
    expect(shown(plan({ targets: wants('web-3=10.0.0.3', '10.0.0.9', 'web-0=10.0.0.1', '10.0.0.8') }))).toEqual([
      '0 10.0.0.1 (claim)',
      '1 10.0.0.8 (claim)',
      '2 10.0.0.9 (claim)',
      '3 10.0.0.3 (claim)',
    ])
  })

  it('are kept by whoever has them, also when another one has that ordinal', () => {
    const object = withStatus(web, [mapping(0, '10.0.0.9', '2466'), mapping(1, '10.0.0.1', '2467', 'web-0')])
    const own = [claim('9a2'), claim('9a3', { slot: 1 })]
    expect(shown(plan({ object, own, targets: wants('web-0=10.0.0.1', '10.0.0.9') }))).toEqual([
      '0 10.0.0.9 2466',
      '1 10.0.0.1 2467',
    ])
    const alone = plan({ object, own, targets: wants('web-0=10.0.0.1') })
    expect([shown(alone), done(alone)]).toEqual([['1 10.0.0.1 2467'], ['leave 9a2']])
  })

  it('of a member stays its own under another address, at once', () => {
    const object = withStatus(web, [mapping(0, '10.0.0.1', '2466', 'web-0')])
    const made = plan({ object, own: [claim('9a2')], targets: wants('web-0=10.0.0.7') })
    expect([shown(made), done(made)]).toEqual([['0 10.0.0.7 2466'], []])
  })

  it('of a member is not given to another member that came to its address', () => {
    const object = withStatus(web, [mapping(0, '10.0.0.1', '2466', 'web-0'), mapping(1, '10.0.0.2', '2467', 'web-1')])
    const own = [claim('9a2'), claim('9a3', { slot: 1 })]
    const made = plan({ object, own, targets: wants('web-0=10.0.0.2', 'web-1=10.0.0.1') })
    expect(shown(made)).toEqual(['0 10.0.0.2 2466', '1 10.0.0.1 2467'])
  })

  it('that was left is not given to another for two TTLs, neither in the same pass', () => {
    const object = withStatus(web, [mapping(0, '10.0.0.1', '2466')])
    const swapped = plan({ object, own: [claim('9a2')], targets: wants('10.0.0.2') })
    expect([shown(swapped), done(swapped)]).toEqual([['1 10.0.0.2 (claim)'], ['claim 1 any', 'leave 9a2']])
    expect(swapped.changes[1]).toMatchObject({ do: 'leave', holder: '10.0.0.1' })
    const left = (ms: number) =>
      plan({ own: [claim('9a2', { releasedAt: ago(ms) }, '10.0.0.1')], targets: wants('10.0.0.2') })
    expect(shown(left(2 * TTL_MS - 1000))).toEqual(['1 10.0.0.2 (claim)'])
    expect([shown(left(2 * TTL_MS)), done(left(2 * TTL_MS))]).toEqual([['0 10.0.0.2 2466'], ['adopt 9a2']])
  })

  it('that was left counts by the TTL of the object', () => {
    const object = iprefService({ ttlSeconds: 300 })
    const own = [claim('9a2', { releasedAt: ago(599_000) }, '10.0.0.1')]
    expect(shown(plan({ object, own, targets: wants('10.0.0.2') }))).toEqual(['1 10.0.0.2 (claim)'])
  })

  it('waits for whoever left it, who has it back at once', () => {
    const own = [claim('9a2', { releasedAt: ago(1000) }, '10.0.0.1')]
    const made = plan({ own, targets: wants('10.0.0.1') })
    expect([shown(made), done(made)]).toEqual([['0 10.0.0.1 2466'], ['adopt 9a2']])
  })

  it('that was left, and taken by one who never had it, is not free for the next', () => {
    const own = [claim('9a2', {}, '10.0.0.1')]
    expect(shown(plan({ own, targets: wants('10.0.0.2') }))).toEqual(['1 10.0.0.2 (claim)'])
    expect(shown(plan({ own, targets: wants('10.0.0.1') }))).toEqual(['0 10.0.0.1 2466'])
  })

  it('is not given back to a former one while another has it', () => {
    const object = withStatus(web, [mapping(0, '10.0.0.2', '2466')])
    const own = [claim('9a2'), claim('9a3', { releasedAt: ago(1000) }, '10.0.0.1')]
    expect(shown(plan({ object, own, targets: wants('10.0.0.1', '10.0.0.2') }))).toEqual([
      '0 10.0.0.2 2466',
      '1 10.0.0.1 (claim)',
    ])
  })

  it('is not given back to one that was there before another, whose record is younger', () => {
    const long = claim('9a3', { family: 'IPv6', releasedAt: ago(3 * 3_600_000) }, 'fd00::1')
    const targets = { wanted: pair('b', '10.0.0.1', 'fd00::1') }
    const inUse = withStatus(web, [mapping(0, '10.0.0.1', '2466', 'web-0')])
    expect(plan({ object: inUse, own: [claim('9a2'), long], targets }).mappings[0]!.slot).toBe(1)
    const left = claim('9a2', { releasedAt: ago(10_000) }, 'web-0')
    expect(plan({ own: [left, long], targets }).mappings[0]!.slot).toBe(1)
    expect(plan({ own: [long], targets }).mappings[0]!.slot).toBe(0)
  })

  it('is free for a member of its ordinal only when others have forgotten who was there', () => {
    const own = [claim('9a2', { releasedAt: ago(1000) }, '10.0.0.9')]
    expect(shown(plan({ own, targets: wants('web-0=10.0.0.1') }))).toEqual(['1 10.0.0.1 (claim)'])
  })

  it('of a claim that was never mapped is free at once', () => {
    const made = plan({ own: [claim('9a2')], targets: wants('10.0.0.2') })
    expect([shown(made), done(made)]).toEqual([['0 10.0.0.2 2466'], []])
  })

  it('holds both IP versions of a pod, whichever comes first', () => {
    const object = withStatus(web, [mapping(1, 'fd00::1', '2466')])
    const own = [claim('9a2', { slot: 1, family: 'IPv6' })]
    const made = plan({ object, own, targets: { wanted: pair('a', '10.0.0.1', 'fd00::1') } })
    expect(shown(made)).toEqual(['1 10.0.0.1 (claim)', '1 fd00::1 2466'])
  })

  it('there are 256; who finds none waits, and is said', () => {
    const many = Array.from({ length: 260 }, (_, i) => `10.0.${i >> 8}.${i & 255}`)
    const made = plan({ targets: wants(...many) })
    expect(made.mappings.length).toBe(256)
    expect(made.findings[1]).toMatchObject({
      status: 'True',
      reason: 'WaitingForSlot',
      message: expect.stringContaining('256 of 260'),
    })
    expect(made.againMs).toBeUndefined()
    const members = Array.from({ length: 300 }, (_, i) => `web-${i}=10.0.${i >> 8}.${i & 255}`)
    expect(plan({ targets: wants(...members) }).mappings.length).toBe(256)
  })

  it('who waits looks again when the next becomes free', () => {
    const own = Array.from({ length: 256 }, (_, slot) =>
      claim((0x10000 + slot).toString(16), { slot, releasedAt: ago(slot === 7 ? 100_000 : 1000) }),
    )
    const made = plan({ own, targets: wants('10.0.0.1') })
    expect([shown(made), made.againMs]).toEqual([[], 20_000])
  })
})

describe('an address that another object maps', () => {
  const older = [{ reference: '77', owner: 'shop/old', isOlder: true }]
  const younger = [{ reference: '88', owner: 'shop/new', isOlder: false }]

  it('has that reference, and no claim of its own', () => {
    const made = plan({ mappedAt: () => older })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 77'], []])
  })

  it("keeps a younger one's reference where it comes anew, so that nobody's reference moves", () => {
    expect(shown(plan({ mappedAt: () => younger }))).toEqual(['0 10.96.0.10 88'])
    const object = withStatus(web, [mapping(0, '10.96.0.10', '88')])
    const holderOf = () => ({ claim: claim('58', { name: 'new' }), owner: 'shop/new', gone: false })
    const own = [claim('9a2', { releasedAt: ago(1000) })]
    const again = plan({ object, mappedAt: () => younger, holderOf, own })
    expect([shown(again), done(again)]).toEqual([['0 10.96.0.10 88'], []])
  })

  it('of two that came at once the older keeps its own, the younger takes that', () => {
    const object = withStatus(web, [mapping(0, '10.96.0.10', '2466')])
    expect(shown(plan({ object, own: [claim('9a2')], mappedAt: () => younger }))).toEqual(['0 10.96.0.10 2466'])
    const made = plan({ object, own: [claim('9a2')], mappedAt: () => older })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 77'], ['leave 9a2']])
  })

  it('keeps the reference when the other is gone, and takes the claim over', () => {
    const object = withStatus(web, [mapping(0, '10.96.0.10', '77')])
    const holderOf = () => ({ claim: claim('4d', { name: 'old', uid: 'x' }), owner: 'shop/old', gone: true })
    const made = plan({ object, holderOf })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 77'], ['adopt 4d']])
  })

  it('has another one when the other has left it and lives', () => {
    const object = withStatus(web, [mapping(0, '10.96.0.10', '77')])
    const holderOf = () => ({ claim: claim('4d', { name: 'old', uid: 'x' }), owner: 'shop/old', gone: false })
    expect(shown(plan({ object, holderOf }))).toEqual(['0 10.96.0.10 (claim)'])
  })
})

describe('a given reference', () => {
  const object = iprefService({ reference: '2466' })
  const claimOfOther = claim('9a2', { name: 'old', uid: 'x' })

  it('is claimed', () => {
    const made = plan({ object })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 (claim)'], ['claim 0 2466']])
  })

  it('is kept, also in another IP version', () => {
    const made = plan({ object, own: [claim('9a2')], targets: alone('fd00::10') })
    expect([shown(made), done(made)]).toEqual([['0 fd00::10 2466'], ['adopt 9a2']])
  })

  it('takes the place of an allotted one, which is forgotten after the hold time', () => {
    const before = withStatus(object, [mapping(0, '10.96.0.10', '77')])
    const made = plan({ object: before, own: [claim('4d')] })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 (claim)'], ['claim 0 2466', 'leave 4d']])
    const own = [claim('9a2'), claim('4d', { releasedAt: ago(24 * 3_600_000) })]
    expect(done(plan({ object: withStatus(object, [mapping(0, '10.96.0.10', '2466')]), own }))).toEqual(['forget 4d'])
  })

  it('of a Service with both IP versions is that of its first address', () => {
    const made = plan({ object, targets: alone('10.96.0.10', 'fd00::10') })
    expect(done(made)).toEqual(['claim 0 2466', 'claim 0 any'])
    const own = [claim('9a2'), claim('9a3', { family: 'IPv6' })]
    const before = withStatus(object, [mapping(0, '10.96.0.10', '2466'), mapping(0, 'fd00::10', '2467')])
    const again = plan({ object: before, own, targets: alone('fd00::10', '10.96.0.10') })
    expect([shown(again), done(again)]).toEqual([['0 10.96.0.10 2466', '0 fd00::10 2467'], []])
  })

  it('is for one address', () => {
    const made = plan({ object, targets: wants('10.0.0.1', '10.0.0.2') })
    expect([shown(made), why(made)]).toEqual([[], 'Accepted False SeveralAddresses, Resolved Unknown NotAccepted'])
  })

  it('that another object has is refused by its name', () => {
    const made = plan({ object, holderOf: () => ({ claim: claimOfOther, owner: 'shop/old', gone: false }) })
    expect([shown(made), done(made), why(made)]).toEqual([
      [],
      [],
      'Accepted False ReferenceTaken, Resolved Unknown NotAccepted',
    ])
    expect(made.findings[0]!.message).toContain('shop/old')
  })

  it('that an older object asks for is left to it', () => {
    const made = plan({ object, askerOf: () => 'shop/old' })
    expect([done(made), why(made)]).toEqual([[], 'Accepted False ReferenceTaken, Resolved Unknown NotAccepted'])
  })

  it('of an object that is gone may be taken by another of the namespace', () => {
    const made = plan({ object, holderOf: () => ({ claim: claimOfOther, owner: 'shop/old', gone: true }) })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 2466'], ['adopt 9a2']])
  })

  it('of an object that is gone is kept from strangers for the hold time', () => {
    const stranger = (releasedAt: string | undefined) =>
      plan({
        object,
        holderOf: () => ({
          claim: claim('9a2', { namespace: 'other', ...(releasedAt === undefined ? {} : { releasedAt }) }),
          ...{ owner: 'other/old', gone: true },
        }),
      })
    expect(why(stranger(undefined))).toContain('ReferenceTaken')
    const early = stranger(ago(23 * 3_600_000))
    expect([why(early), early.againMs]).toEqual([
      'Accepted False ReferenceTaken, Resolved Unknown NotAccepted',
      3_600_000,
    ])
    expect(done(stranger(ago(24 * 3_600_000)))).toEqual(['adopt 9a2'])
  })

  it('of an object that is gone stays with who shared it, of whatever namespace', () => {
    const before = withStatus(object, [mapping(0, '10.96.0.10', '2466')])
    const gone = { claim: claim('9a2', { namespace: 'other', releasedAt: ago(1000) }), owner: 'other/old', gone: true }
    const made = plan({ object: before, holderOf: () => gone, askerOf: () => 'shop/old' })
    expect([shown(made), done(made)]).toEqual([['0 10.96.0.10 2466'], ['adopt 9a2']])
  })

  it('for an address that an older object has under another is refused', () => {
    const made = plan({ object, mappedAt: () => [{ reference: '77', owner: 'shop/old', isOlder: true }] })
    expect(why(made)).toContain('AddressAlreadyReferenced')
    expect(made.findings[0]!.message).toContain('shop/old')
    expect(shown(plan({ object, mappedAt: () => [{ reference: '2466', owner: 'shop/old', isOlder: true }] }))).toEqual([
      '0 10.96.0.10 2466',
    ])
  })

  it('for an address that a younger one has under another wins', () => {
    const made = plan({ object, mappedAt: () => [{ reference: '77', owner: 'shop/new', isOlder: false }] })
    expect(done(made)).toEqual(['claim 0 2466'])
  })
})

describe('what is refused', () => {
  it('names that are not its own, or belong to an older object', () => {
    const unnamed = plan({ names: { reason: 'NameNotGranted', problem: 'www.example.com is not granted' } })
    expect([why(unnamed), unnamed.names]).toEqual([
      'Accepted False NameNotGranted, Resolved Unknown NotAccepted',
      undefined,
    ])
    for (const name of ['web.shop.in.example.com', 'web.shop.example.com']) {
      const made = plan({ ownerOfName: one => (one === name ? 'shop/old' : undefined) })
      expect([why(made), made.names]).toEqual(['Accepted False NameConflict, Resolved Unknown NotAccepted', undefined])
      expect(made.findings[0]!.message).toBe(`${name} belongs to the older IprefService shop/old`)
    }
  })

  it('keeps its names while only the target is missing', () => {
    const made = plan({ targets: { type: 'Resolved', reason: 'ServiceNotFound', message: '' } })
    expect([why(made), made.names?.internal]).toEqual([
      'Accepted True Accepted, Resolved False ServiceNotFound',
      'web.shop.in.example.com',
    ])
  })

  it('lets its claims go, and has them back afterwards', () => {
    const object = withStatus(web, [mapping(0, '10.0.0.1', '2466')])
    const refused = plan({
      object,
      own: [claim('9a2')],
      targets: { type: 'Accepted', reason: 'TargetForbidden', message: '' },
    })
    expect(refused.changes).toMatchObject([{ do: 'leave', holder: '10.0.0.1' }])
    const own = [claim('9a2', { releasedAt: ago(5000) }, '10.0.0.1')]
    expect(shown(plan({ own, targets: wants('10.0.0.1') }))).toEqual(['0 10.0.0.1 2466'])
  })

  it('a warning does not', () => {
    const warning = { type: 'Accepted' as const, reason: 'SomeTargetsForbidden', message: 'not published: x' }
    expect(why(plan({ targets: { ...wants('10.0.0.1'), warning } }))).toBe(
      'Accepted True Accepted, Resolved True SomeTargetsForbidden',
    )
    const none = { type: 'Resolved' as const, reason: 'NoReadyEndpoints', message: '' }
    const made = plan({ targets: { ...alone('10.96.0.10'), warning: none } })
    expect([why(made), shown(made).length]).toEqual(['Accepted True Accepted, Resolved False NoReadyEndpoints', 1])
  })
})

describe('claims of an object of this name that is gone', () => {
  const old = (hex: string, slot: number, releasedAt?: string) =>
    claim(hex, { uid: 'old', slot, ...(releasedAt ? { releasedAt } : {}) })

  it('that find no use are let go, held, and forgotten', () => {
    const now = plan({ own: [old('9a2', 0), old('9a3', 1)] })
    expect([done(now), now.againMs]).toEqual([['adopt 9a2', 'leave 9a3'], 24 * 3_600_000])
    const later = plan({ own: [claim('9a2'), old('9a3', 1, ago(24 * 3_600_000))] })
    expect(done(later)).toEqual(['forget 9a3'])
  })

  it('are not forgotten while another object maps them', () => {
    const own = [claim('9a2'), old('9a3', 1, ago(25 * 3_600_000))]
    expect(done(plan({ own, addressesOf: () => ['10.0.0.1'] }))).toEqual([])
  })
})

it('a claim is named by its reference in hexadecimal', () => {
  expect(referenceOf(claim('8a3f00000812'))).toBe('8a3f-0-812')
})
