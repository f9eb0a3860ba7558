/** Names of IprefServices, and what people may try in order to get names that are not theirs. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { IprefServiceSpec } from '../../../resources/kinds.ts'
import { isNameProblem, memberNameOf, type NameConfig, namesOf } from '../../../resources/names.ts'

const config: NameConfig = {
  internalZone: 'internal.example.com',
  publicZone: 'example.com',
  grants: [
    { namespace: 'shop', names: ['www.example.com', '*.store.example.com', 'api.other.example.com'] },
    { namespace: 'other', names: ['other.example.com'] },
    { namespace: 'peers', names: ['peers.example.com'] },
    { namespace: 'greedy', names: ['*.peers.internal.example.com', '*.internal.example.com', '*.example.com'] },
  ],
}

function names(
  { name = 'web', namespace = 'shop', ...spec }: Partial<IprefServiceSpec> & { name?: string; namespace?: string },
  settings = config,
) {
  const object = { metadata: { name, namespace }, spec: { target: { address: '192.0.2.7' }, ...spec } }
  return namesOf(object, settings)
}

describe('names', () => {
  it.each([
    ['the name of the object', {}, 'web.shop.internal.example.com', 'web.shop.example.com'],
    ['a hostname', { hostname: 'a' }, 'a.shop.internal.example.com', 'a.shop.example.com'],
    [
      'a hostname where the name of the object is none',
      { name: 'a.b', hostname: 'c' },
      'c.shop.internal.example.com',
      'c.shop.example.com',
    ],
    [
      'another name of its own',
      { publicName: 'x.shop.example.com' },
      'web.shop.internal.example.com',
      'x.shop.example.com',
    ],
    ['a granted name', { publicName: 'www.example.com' }, 'web.shop.internal.example.com', 'www.example.com'],
    [
      'one below a granted star',
      { publicName: 'a.store.example.com' },
      'web.shop.internal.example.com',
      'a.store.example.com',
    ],
    [
      'a granted name in the space of another namespace',
      { publicName: 'api.other.example.com' },
      'web.shop.internal.example.com',
      'api.other.example.com',
    ],
    ['another namespace', { namespace: 'a' }, 'web.a.internal.example.com', 'web.a.example.com'],
  ])('are made of %s', (_name, object, internal, outside) => {
    expect(names(object)).toEqual({ internal, public: outside })
  })

  it('are inside only without a public zone', () => {
    const { publicZone: _, ...inside } = config
    expect(names({}, inside)).toEqual({ internal: 'web.shop.internal.example.com' })
    expect(names({ publicName: 'www.example.com' }, inside)).toMatchObject({ reason: 'InvalidName' })
  })
})

describe('attempts on names of others', () => {
  it.each([
    ['a dot in the hostname', { hostname: 'web.other' }, 'InvalidName'],
    ['a dot in the name of the object', { name: 'web.other' }, 'InvalidName'],
    ['a dot at the end of the hostname', { hostname: 'web.' }, 'InvalidName'],
    ['an empty hostname', { hostname: '' }, 'InvalidName'],
    ['a capital', { hostname: 'Web' }, 'InvalidName'],
    ['a capital that lower case makes a plain letter', { hostname: '\u212aa' }, 'InvalidName'],
    ['a dot that is none', { hostname: 'web\u3002other' }, 'InvalidName'],
    ['a dot of full width', { publicName: 'web\uff0eother.example.com' }, 'InvalidName'],
    ['an escaped dot', { hostname: 'web\\.other' }, 'InvalidName'],
    ['a byte by number', { hostname: 'web\\046' }, 'InvalidName'],
    ['a star', { hostname: '*' }, 'InvalidName'],
    ['a line of its own', { hostname: 'web\nother' }, 'InvalidName'],
    ['a line at the end', { hostname: 'web\n' }, 'InvalidName'],
    ['a label too long', { hostname: 'x'.repeat(64) }, 'InvalidName'],
    ['a namespace with a dot', { namespace: 'shop.other' }, 'InvalidName'],
    ['no namespace', { namespace: '' }, 'InvalidName'],
    ['a name of another namespace', { publicName: 'web.other.example.com' }, 'NameNotGranted'],
    ['an internal name of another namespace', { internalName: 'web.other.internal.example.com' }, 'NameNotGranted'],
    ['what is granted to another namespace', { publicName: 'other.example.com' }, 'NameNotGranted'],
    ['the name of its own namespace', { publicName: 'shop.example.com' }, 'NameNotGranted'],
    ['two labels below its own namespace', { publicName: 'a.b.shop.example.com' }, 'NameNotGranted'],
    ['a namespace that ends like its own', { publicName: 'web.myshop.example.com' }, 'NameNotGranted'],
    ['the zone itself', { publicName: 'example.com' }, 'NameNotGranted'],
    ['a sibling of a granted name', { publicName: 'ww.example.com' }, 'NameNotGranted'],
    ['a name below a granted one', { publicName: 'a.www.example.com' }, 'NameNotGranted'],
    ['a name above a granted star', { publicName: 'store.example.com' }, 'NameNotGranted'],
    ['two labels below a granted star', { publicName: 'a.b.store.example.com' }, 'NameNotGranted'],
    ['a granted star as a suffix of a label', { publicName: 'a.mystore.example.com' }, 'NameNotGranted'],
    ['a label in front of a star without a dot', { publicName: 'astore.example.com' }, 'NameNotGranted'],
    ['the star itself', { publicName: '*.store.example.com' }, 'InvalidName'],
    ['a granted name with a dot at its end', { publicName: 'www.example.com.' }, 'InvalidName'],
    ['a granted name in capitals', { publicName: 'WWW.example.com' }, 'InvalidName'],
    ['another zone', { publicName: 'web.shop.example.org' }, 'InvalidName'],
    ['a zone that ends like ours', { publicName: 'web.shop.badexample.com' }, 'InvalidName'],
    ['a name of the internal zone outside', { publicName: 'web.shop.internal.example.com' }, 'NamespaceReserved'],
    ['a public name inside', { internalName: 'www.example.com' }, 'InvalidName'],
    ['the namespace of peers', { namespace: 'peers' }, 'NamespaceReserved'],
    [
      'the namespace of peers, with a grant',
      { namespace: 'peers', publicName: 'peers.example.com' },
      'NamespaceReserved',
    ],
    ['a name of the namespace of peers', { internalName: 'web.peers.internal.example.com' }, 'NamespaceReserved'],
    ['a host of a peer', { namespace: 'greedy', internalName: 'db.peers.internal.example.com' }, 'NamespaceReserved'],
    ['the apex of the peers', { namespace: 'greedy', internalName: 'peers.internal.example.com' }, 'NamespaceReserved'],
    ['a namespace called like the inner zone', { namespace: 'internal' }, 'NamespaceReserved'],
    ['the inner zone itself', { namespace: 'greedy', publicName: 'internal.example.com' }, 'NamespaceReserved'],
    [
      'the peers by the outer zone',
      { namespace: 'greedy', publicName: 'peers.internal.example.com' },
      'NamespaceReserved',
    ],
  ])('%s: refused', (_name, object, reason) => {
    expect(names(object)).toMatchObject({ reason })
  })

  it('the public zone inside the internal one: the same', () => {
    const turned = { internalZone: 'example.com', publicZone: 'pub.example.com', grants: [] }
    expect(names({ namespace: 'pub' }, turned)).toMatchObject({ reason: 'NamespaceReserved' })
    expect(names({ namespace: 'pu' }, turned)).toMatchObject({ internal: 'web.pu.example.com' })
  })

  it.each([
    [125, 'public'],
    [126, 'reason'],
  ])('names are at most 253 characters long: 128 and %i', (length, member) => {
    const publicZone = `${'x'.repeat(63)}.${'y'.repeat(length - 64)}`
    const long = { hostname: 'h'.repeat(63), namespace: 'n'.repeat(63) }
    const found = names(long, { ...config, publicZone })
    expect(found).toHaveProperty(member)
    expect(isNameProblem(found) && found.reason).toBe(member === 'reason' && 'NameTooLong')
  })

  const piece = fc.constantFrom(
    'web',
    'shop',
    'other',
    'peers',
    'internal',
    'example',
    'com',
    '*',
    '',
    '.',
    'www',
    'store',
    'A',
    '-',
  )
  const anyName = fc.array(piece, { maxLength: 6 }).map(pieces => pieces.join('.'))

  it('whatever is said, a name is its own or granted', () => {
    const right =
      /^([a-z0-9-]+\.shop\.example\.com|www\.example\.com|[a-z0-9-]+\.store\.example\.com|api\.other\.example\.com)$/
    fc.assert(
      fc.property(anyName, anyName, anyName, (hostname, publicName, internalName) => {
        const found = names({ hostname, publicName, internalName })
        const outside = names({ publicName })
        if (!isNameProblem(outside)) expect(outside.public).toMatch(right)
        if (isNameProblem(found)) return
        expect(found.public).toMatch(right)
        expect(found.internal).toMatch(/^[a-z0-9-]+\.shop\.internal\.example\.com$/)
      }),
      { numRuns: 2000 },
    )
  })

  it('two namespaces without grants never get the same name', () => {
    const bare = { ...config, grants: [] }
    fc.assert(
      fc.property(anyName, anyName, piece, piece, (one, other, a, b) => {
        fc.pre(a !== b)
        const first = names({ hostname: 'web', publicName: one, namespace: a }, bare)
        const second = names({ hostname: 'web', publicName: other, namespace: b }, bare)
        if (!isNameProblem(first) && !isNameProblem(second)) expect(first.public).not.toBe(second.public)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('members of StatefulSets', () => {
  const place = { namespace: 'shop', config }
  it.each([
    ['below its own name', 'db-0', 'db.shop.example.com', 'example.com', 'db-0.db.shop.example.com'],
    ['inside too', 'db-0', 'db.shop.internal.example.com', 'internal.example.com', 'db-0.db.shop.internal.example.com'],
    ['not below a name granted alone', 'db-0', 'www.example.com', 'example.com', undefined],
    ['not two below a star', 'db-0', 'a.store.example.com', 'example.com', undefined],
    ['not with a dot', 'db.0', 'db.shop.example.com', 'example.com', undefined],
    ['not in capitals', 'DB-0', 'db.shop.example.com', 'example.com', undefined],
    ['not of another namespace', 'db-0', 'db.other.example.com', 'example.com', undefined],
  ])('%s', (_name, member, name, zone, expected) => {
    expect(memberNameOf(member, name, zone, place)).toBe(expected)
  })

  it('below a granted name that covers them', () => {
    const grants = [{ namespace: 'shop', names: ['db.example.com', '*.db.example.com'] }]
    const wide = { namespace: 'shop', config: { ...config, grants } }
    expect(memberNameOf('db-0', 'db.example.com', 'example.com', wide)).toBe('db-0.db.example.com')
  })

  it('not where they would be too long', () => {
    const name = `${'h'.repeat(63)}.shop.${'z'.repeat(60)}.${'z'.repeat(60)}.com`
    const long = { ...config, publicZone: name.split('.').slice(2).join('.') }
    expect(memberNameOf('m'.repeat(63), name, long.publicZone, { namespace: 'shop', config: long })).toBeUndefined()
  })
})
