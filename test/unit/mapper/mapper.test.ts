import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ownEncodedOf } from '../../../gateway/config.ts'
import { slice } from '../../../gateway/mapper/allocate.ts'
import type { Assertion, Problem } from '../../../gateway/mapper/assertions.ts'
import { Mapper, type PublishedHost } from '../../../gateway/mapper/mapper.ts'
import type { SavedMapping } from '../../../gateway/mapper/store.ts'
import { MappingsWriter } from '../../../gateway/plane/mappings.ts'
import { type AddressWords, formatAddress, parseAddress, parsePrefix, wordsFromBytes } from '../../../ipref/address.ts'
import { Fault } from '../../../ipref/faults.ts'
import { referenceFromWords } from '../../../ipref/reference.ts'

const address = (text: string) => parseAddress(text)!
const words = (text: string): AddressWords => wordsFromBytes(address(text))
const reference = (n: number): AddressWords => [0, 0, 0, n]
const ours = (host: string, n: bigint): Assertion => ({
  kind: 'ours',
  address: address(host),
  contexts: 'all',
  reference: n,
})
const theirs = (ea: string, context: string, n: bigint): Assertion => ({
  kind: 'theirs',
  encoded: address(ea),
  context: address(context),
  reference: n,
})

class World {
  now = 1000
  readonly tables = new MappingsWriter(MappingsWriter.allocate({ ours: 8192, theirs: 8192 }))
  readonly filter: string[] = []
  readonly saved = new Map<string, SavedMapping>()
  readonly problems: Problem[] = []
  failSaves = false
  hasRoomForPeers = true
  readonly #peers = new Map<string, number>()
  #random = 1
  readonly mapper: Mapper

  constructor(quotaPerPeer = 1000) {
    const network = parsePrefix('10.240.0.0/16')!
    this.mapper = new Mapper(
      {
        tables: this.tables,
        store: {
          save: mapping =>
            this.failSaves
              ? Promise.reject(new Error('disk full'))
              : Promise.resolve(void this.saved.set(mapping.local.join(), mapping)),
          saveLater: mapping => void this.saved.set(mapping.local.join(), mapping),
          remove: (_kind, local) => void this.saved.delete(local.join()),
        },
        filter: {
          change: (published, withdrawn) => {
            const shown = (host: PublishedHost) =>
              `+${host.address}${(host.ports ?? []).map(p => ` ${p.protocol} ${p.first}-${p.last}`).join()}`
            this.filter.push(...published.map(shown), ...withdrawn.map(a => `-${a}`))
            return Promise.resolve()
          },
        },
        peers: {
          require: (...w) => {
            if (!this.hasRoomForPeers) return -1
            if (!this.#peers.has(w.join())) this.#peers.set(w.join(), this.#peers.size)
            return this.#peers.get(w.join())!
          },
          release: () => {},
          capacity: 4096,
        },
        now: () => this.now,
        unixNow: () => 1_700_000_000 + this.now,
        random32: () => {
          this.#random = Math.imul(this.#random, 1664525) + 1013904223
          return this.#random ^ (this.#random >>> 13)
        },
        onProblems: problems => this.problems.push(...problems),
      },
      {
        encodingNetworks: [network],
        ownEncoded: [ownEncodedOf(network)],
        contexts: [address('198.51.100.1')],
        gatewayReference: 1n,
        referenceLength: 8,
        quotaPerPeer,
      },
    )
  }

  /** A second passes, as often as a whole scan may take. */
  pass(seconds: number): void {
    this.now += seconds
    this.mapper.tick()
  }
}

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => expect(world.tables.ours.size).toBeLessThanOrEqual(8192))

describe('owners', () => {
  it('the earlier one wins, and the later takes over when it goes', async () => {
    const { mapper, tables } = world
    await mapper.setSource('hosts', [ours('10.1.0.2', 11n)])
    await mapper.setSource('static', [ours('10.1.0.2', 12n)])
    expect(tables.ours.findReference(reference(12))).toBeGreaterThanOrEqual(0)
    expect(tables.ours.findReference(reference(11))).toBe(-1)
    expect(mapper.problems()).toMatchObject([{ owner: 'hosts', reason: 'shadowed' }])
    await mapper.setSource('static', [])
    expect(tables.ours.findReference(reference(11))).toBeGreaterThanOrEqual(0)
    expect(mapper.problems()).toEqual([])
  })
  it('a shadowed assertion is reported once', async () => {
    await world.mapper.setSource('static', [ours('10.1.0.2', 12n)])
    await world.mapper.setSource('hosts', [ours('10.1.0.2', 11n)])
    await world.mapper.setSource('crd', [ours('10.1.0.9', 13n)])
    expect(world.problems).toHaveLength(1)
  })
  it('within one owner, a second reference for an address is refused by name', async () => {
    const problems = await world.mapper.setSource('hosts', [ours('10.1.0.2', 11n), ours('10.1.0.2', 12n)])
    expect(problems).toMatchObject([{ reason: 'AddressAlreadyReferenced' }])
  })
  it('two lines that say the same are one', async () => {
    expect(await world.mapper.setSource('hosts', [ours('10.1.0.2', 11n), ours('10.1.0.2', 11n)])).toEqual([])
  })
  it.each([
    [ours('10.1.0.2', 0n), 'invalid'],
    [ours('10.1.0.2', 1n), 'invalid'],
    [ours('10.1.0.2', 0x1000n), 'not_static'],
    [ours('10.240.0.9', 5n), 'invalid'],
    [ours('fd01::2', 5n), 'invalid'],
    [theirs('10.1.0.2', '198.51.100.2', 5n), 'outside_encoding_network'],
    [theirs('10.240.0.1', '198.51.100.2', 5n), 'invalid'],
    [theirs('10.240.16.2', '198.51.100.2', 5n), 'not_static'],
    [theirs('10.240.1.2', '224.0.0.1', 5n), 'invalid'],
  ])('%o is refused: %s', async (assertion, reason) => {
    expect(await world.mapper.setSource('hosts', [assertion])).toMatchObject([{ reason }])
    expect(world.tables.ours.size + world.tables.theirs.size).toBe(0)
  })
  it('published hosts are opened before, and closed after, they are mapped', async () => {
    await world.mapper.setSource('hosts', [ours('10.1.0.2', 11n), ours('10.1.0.3', 12n)])
    await world.mapper.setSource('hosts', [ours('10.1.0.3', 12n), ours('10.1.0.4', 13n)])
    expect(world.filter).toEqual(['+10.1.0.2', '+10.1.0.3', '+10.1.0.4', '-10.1.0.2'])
  })
  it('new ports of a host change the filter, and nothing else', async () => {
    const web = (last: number): Assertion => ({
      kind: 'ours',
      address: address('10.1.0.5'),
      contexts: 'all',
      reference: 21n,
      ports: [{ protocol: 'tcp', first: 80, last }],
    })
    await world.mapper.setSource('crd', [web(80)])
    const slot = world.tables.ours.findAddress(words('10.1.0.5'))
    await world.mapper.setSource('crd', [web(89)])
    await world.mapper.setSource('crd', [web(89)])
    expect(world.filter).toEqual(['+10.1.0.5 tcp 80-80', '+10.1.0.5 tcp 80-89'])
    expect(world.tables.ours.findAddress(words('10.1.0.5'))).toBe(slot)
  })
  it('a dynamic mapping gives way to a published one', async () => {
    const { mapper, tables } = world
    expect(mapper.missNative(words('10.1.0.2'))).toBe(Fault.none)
    await mapper.setSource('hosts', [ours('10.1.0.2', 11n)])
    expect(tables.ours.size).toBe(1)
    expect(tables.ours.findReference(reference(11))).toBe(tables.ours.findAddress(words('10.1.0.2')))
  })
})

describe('dynamic mappings', () => {
  const remote = { context: Uint8Array.of(198, 51, 100, 2), reference: 99n, family: 4 } as const

  it('a remote host keeps its encoded address, which follows the rule of dynamic ones', async () => {
    const first = world.mapper.encodedFor(remote)
    const second = world.mapper.encodedFor(remote)
    if ('refused' in first || 'refused' in second) throw new Error('refused')
    await Promise.all([first.durable, second.durable])
    expect(formatAddress(second.encoded)).toBe(formatAddress(first.encoded))
    expect(first.encoded[2]).toBeGreaterThanOrEqual(16)
    expect(world.saved.size).toBe(1)
  })
  it('is not acknowledged while it cannot be saved, and is later', async () => {
    world.failSaves = true
    const first = world.mapper.encodedFor(remote)
    if ('refused' in first) throw new Error('refused')
    await expect(first.durable).rejects.toThrow('disk full')
    world.failSaves = false
    const again = world.mapper.encodedFor(remote)
    if ('refused' in again) throw new Error('refused')
    await again.durable
    expect(again.encoded).toEqual(first.encoded)
  })
  it.each([
    [{ ...remote, reference: 0n }, 'reference'],
    [{ ...remote, context: Uint8Array.of(224, 0, 0, 1) }, 'unicast'],
    [{ ...remote, context: Uint8Array.of(0, 0, 0, 0) }, 'unicast'],
  ])('%o is refused', (wanted, why) => {
    expect(world.mapper.encodedFor(wanted)).toMatchObject({ refused: expect.stringContaining(why) })
  })
  it('live on while they are used, and go when they are not', () => {
    const { mapper, tables } = world
    mapper.missNative(words('10.1.0.2'))
    const slot = tables.ours.findAddress(words('10.1.0.2'))
    world.pass(10_000)
    tables.ours.lastUsed[slot] = world.now
    world.pass(5000)
    expect(tables.ours.findAddress(words('10.1.0.2'))).toBe(slot)
    world.pass(14_401)
    expect(tables.ours.findAddress(words('10.1.0.2'))).toBe(-1)
    expect(world.saved.size).toBe(0)
  })
  it('references have 8 bytes, and 16 or more in bits 15..8', () => {
    for (let i = 2; i < 50; i++) {
      world.mapper.missNative(words(`10.1.0.${i}`))
      const value = referenceFromWords(world.tables.ours.reference(world.tables.ours.findAddress(words(`10.1.0.${i}`))))
      expect(value < 1n << 56n && ((value >> 8n) & 0xffn) >= 16n).toBe(true)
    }
  })
  it('a peer has a quota', () => {
    world = new World(3)
    const results = [1, 2, 3, 4].map(n => world.mapper.encodedFor({ ...remote, reference: BigInt(n + 100) }))
    expect(results.map(result => 'refused' in result)).toEqual([false, false, false, true])
    expect('refused' in world.mapper.encodedFor({ ...remote, context: Uint8Array.of(198, 51, 100, 3) })).toBe(false)
  })
})

describe('tentative mappings', () => {
  const from = (n: number, context = '198.51.100.2') =>
    ({ context: words(context), reference: reference(0x20000 + n), family: 4 }) as const

  it('go after a minute without an answer, and are never saved', () => {
    expect(world.mapper.missRemote(from(1))).toBe(Fault.none)
    world.pass(59)
    expect(world.tables.theirs.size).toBe(1)
    world.pass(2)
    expect([world.tables.theirs.size, world.saved.size]).toEqual([0, 0])
  })
  it('stay when the host answered', () => {
    world.mapper.missRemote(from(1))
    world.tables.theirs.answered[world.tables.theirs.findRemote(words('198.51.100.2'), reference(0x20001), 4)] = 1
    world.pass(1)
    world.pass(100)
    expect([world.tables.theirs.size, world.saved.size]).toEqual([1, 1])
  })
  it('are 256 for one peer', () => {
    const faults = Array.from({ length: 300 }, (_, i) => world.mapper.missRemote(from(i)))
    expect(faults.filter(fault => fault === Fault.none)).toHaveLength(256)
    expect(faults.at(-1)).toBe(Fault.quota_exceeded)
    expect(world.mapper.missRemote(from(1, '198.51.100.3'))).toBe(Fault.none)
  })
  it('are an eighth of all, the oldest going first, and never push out others', () => {
    for (let i = 0; i < 200; i++)
      world.mapper.encodedFor({ context: Uint8Array.of(198, 51, 100, 9), reference: BigInt(500 + i), family: 4 })
    for (let i = 0; i < 3000; i++) world.mapper.missRemote(from(i, `198.51.${100 + Math.floor(i / 200)}.7`))
    expect(world.tables.theirs.size).toBe(200 + 8192 / 8)
    expect(world.tables.theirs.findRemote(words('198.51.114.7'), reference(0x20000 + 2999), 4)).toBeGreaterThanOrEqual(
      0,
    )
    expect(world.tables.theirs.findRemote(words('198.51.100.7'), reference(0x20000), 4)).toBe(-1)
  })
})

describe('pools', () => {
  const wanted = (n: number) => ({ context: address('198.51.100.2'), reference: BigInt(n), family: 4 }) as const
  const encoded = (n: number) => {
    const found = world.mapper.encodedFor(wanted(n))
    return 'encoded' in found ? formatAddress(found.encoded) : found.refused
  }
  const pool = (text: string) => slice(parsePrefix(text)!)

  it('dynamic addresses are taken from the slices alone, all of them', () => {
    world.mapper.setPools([pool('10.240.64.0/28'), pool('10.240.0.16/28')])
    const given = new Set(Array.from({ length: 31 }, (_, i) => encoded(i + 1000)))
    // .0 of the first slice looks like a network address and is not given
    expect([...given].filter(a => a.startsWith('10.240.64.'))).toHaveLength(15)
    expect([...given].filter(a => a.startsWith('10.240.0.'))).toHaveLength(16)
    expect(encoded(2000)).toBe('no encoded address is left')
  })

  it('what lies in a slice that was given to another gateway goes at once', () => {
    world.mapper.setPools([pool('10.240.64.0/24')])
    const before = encoded(1000)
    world.mapper.setPools([pool('10.240.65.0/24')])
    expect(world.mapper.describe(address(before))).toBeUndefined()
    expect(encoded(1000)).toMatch(/^10\.240\.65\./)
  })

  it('a saved address outside the slices is not restored', () => {
    world.mapper.setPools([pool('10.240.64.0/24')])
    encoded(1000)
    const [saved] = [...world.saved.values()]
    world.mapper.setPools([pool('10.240.65.0/24')])
    expect(world.mapper.restore(saved!)).toBe(false)
    world.mapper.setPools([pool('10.240.64.0/24')])
    expect(world.mapper.restore(saved!)).toBe(true)
  })
})

describe('mappings of another gateway', () => {
  const remote = (n: number) => ({ context: address('198.51.100.2'), reference: BigInt(n), family: 4 }) as const
  const encoded = (n: number, of = world) => {
    const found = of.mapper.encodedFor(remote(n))
    return 'encoded' in found ? formatAddress(found.encoded) : found.refused
  }
  const all = (of: World) =>
    [...of.mapper.dynamicMappings()].map(m => `${m.kind} ${m.local.join()} ${m.reference.join()} ${m.expires}`).sort()

  it('are taken over one by one: the same addresses, references and lifetimes, on disk too', () => {
    for (let n = 1000; n < 1050; n++) encoded(n)
    world.mapper.missNative(words('10.1.0.7'))
    world.mapper.missRemote({ context: words('198.51.100.9'), reference: reference(77), family: 4 })
    const other = new World()
    for (const mapping of world.mapper.dynamicMappings()) expect(other.mapper.adopt(mapping)).toBe(true)
    expect(all(other)).toEqual(all(world))
    expect([other.saved.size, all(world).length]).toEqual([51, 51])
    other.mapper.setAllocating(false)
    expect(encoded(1007, other)).toBe(encoded(1007))
    // again, and later: the expiry moves
    world.now += 7200
    other.now += 7200
    encoded(1000)
    for (const mapping of world.mapper.dynamicMappings()) other.mapper.adopt(mapping)
    expect(all(other)).toEqual(all(world))
  })

  it('win over dynamic ones here, and give way to what owners say', async () => {
    const other = new World()
    encoded(1000)
    const [mapping] = [...world.mapper.dynamicMappings()]
    // the same generator of random numbers, one step further
    encoded(999, other)
    const here = encoded(1000, other)
    expect(other.mapper.adopt(mapping!)).toBe(true)
    expect(other.mapper.describe(address(here))).toBeUndefined()
    expect(encoded(1000, other)).toBe(encoded(1000))
    await other.mapper.setSource('static', [theirs('10.240.1.9', '198.51.100.2', 1000n)])
    expect([other.mapper.adopt(mapping!), encoded(1000, other)]).toEqual([false, '10.240.1.9'])
    other.mapper.drop('theirs', words('10.240.1.9'))
    expect(encoded(1000, other)).toBe('10.240.1.9')
  })

  it('that cannot be are not taken', () => {
    const fine: SavedMapping = {
      kind: 'theirs',
      local: words('10.240.16.9'),
      context: words('198.51.100.2'),
      reference: reference(5),
      expires: 1_700_000_000 + world.now + 60,
    }
    const wrong: Partial<SavedMapping>[] = [
      { local: words('10.1.0.1') },
      { context: words('127.0.0.1') },
      { reference: reference(0) },
      { expires: 1_700_000_000 + world.now },
      { kind: 'ours' },
    ]
    for (const part of wrong) expect([part, world.mapper.adopt({ ...fine, ...part })]).toEqual([part, false])
    expect(world.mapper.adopt(fine)).toBe(true)
    world.mapper.drop('theirs', fine.local)
    expect([all(world), world.saved.size]).toEqual([[], 0])
  })

  it('nothing new is made where another gateway makes it', () => {
    const known = encoded(1000)
    world.mapper.missNative(words('10.1.0.7'))
    world.mapper.setAllocating(false)
    expect([encoded(1000), encoded(1001)]).toEqual([known, expect.stringContaining('another gateway')])
    expect(world.mapper.missNative(words('10.1.0.7'))).toBe(Fault.none)
    expect(world.mapper.missNative(words('10.1.0.8'))).toBe(Fault.source_unmapped)
    const stranger = { context: words('198.51.100.9'), reference: reference(77), family: 4 } as const
    expect(world.mapper.missRemote(stranger)).toBe(Fault.source_unmapped)
    world.mapper.setAllocating(true)
    expect(world.mapper.missRemote(stranger)).toBe(Fault.none)
  })
})

describe('our own addresses change while mappings are in force', () => {
  const NEW = '198.51.100.7'
  const slotOf = (ea: string) => world.tables.theirs.findEncoded(words(ea))
  const peerAt = (ea: string) => world.tables.theirs.peer(slotOf(ea))

  it('what leads to a new one needs no peer any more, and one to an old one needs a peer', async () => {
    await world.mapper.setSource('hosts', [theirs('10.240.2.3', NEW, 7n), theirs('10.240.2.4', '198.51.100.1', 8n)])
    const made = world.mapper.encodedFor({ context: address(NEW), reference: 9n, family: 4 })
    const dynamic = 'encoded' in made ? formatAddress(made.encoded) : 'none'
    expect([peerAt('10.240.2.3'), peerAt(dynamic)].every(peer => peer >= 0)).toBe(true)
    expect(peerAt('10.240.2.4')).toBe(-1)
    await world.mapper.setContexts([address(NEW)])
    expect([peerAt('10.240.2.3'), peerAt(dynamic)]).toEqual([-1, -1])
    expect(peerAt('10.240.2.4')).toBeGreaterThanOrEqual(0)
    await world.mapper.setContexts([])
    expect([peerAt('10.240.2.3'), peerAt('10.240.2.4'), peerAt(dynamic)].every(peer => peer >= 0)).toBe(true)
  })

  it('lines that name a context are judged anew', async () => {
    const line = { ...ours('10.1.0.10', 11n), contexts: address(NEW) } as Assertion
    const problems = await world.mapper.setSource('hosts', [line])
    expect(problems.map(({ reason }) => reason)).toEqual(['foreign_context'])
    await world.mapper.setContexts([address(NEW)])
    expect(world.mapper.problems()).toEqual([])
    expect(world.tables.ours.findAddress(words('10.1.0.10'))).toBeGreaterThanOrEqual(0)
    await world.mapper.setContexts([address('198.51.100.1')])
    expect(world.mapper.problems()).toHaveLength(1)
    expect(world.tables.ours.findAddress(words('10.1.0.10'))).toBe(-1)
  })

  it('what was on trial is forgotten', async () => {
    const wanted = { context: words(NEW), reference: reference(9), family: 4 as const }
    expect(world.mapper.missRemote(wanted)).toBe(Fault.none)
    await world.mapper.setContexts([address(NEW)])
    expect(world.tables.theirs.findRemote(wanted.context, wanted.reference, 4)).toBe(-1)
  })

  it('without room for a peer it goes, and is named', async () => {
    await world.mapper.setContexts([address(NEW)])
    await world.mapper.setSource('hosts', [theirs('10.240.2.3', NEW, 7n)])
    world.hasRoomForPeers = false
    await world.mapper.setContexts([])
    expect(slotOf('10.240.2.3')).toBe(-1)
    expect(world.mapper.problems()).toHaveLength(1)
  })
})
