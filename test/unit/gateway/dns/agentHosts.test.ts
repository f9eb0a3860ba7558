/** From records of a zone to sets of hosts: which AA strings count, whose address they get, who is asked for what, and what a failed lookup means. */
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { formatName, type Name, plainName } from '../../../../dns/name.ts'
import { type AaEntry, HostFinder, lostHosts, matchHosts, ZoneEntries } from '../../../../gateway/dns/agentHosts.ts'
import type { HostSet } from '../../../../gateway/dns/agentLink.ts'
import type { Looked } from '../../../../gateway/dns/lookup.ts'
import { formatAddress, parseAddress } from '../../../../ipref/address.ts'
import { compareHosts, hashHosts } from '../../../../ipref/hostSetHash.ts'
import { formatReference } from '../../../../ipref/reference.ts'
import { ManualClock } from '../../../support/manualClock.ts'
import { EXAMPLE, name, records } from '../../dns/builders.ts'
import { server } from './resolverLab.ts'

const RESOLVER = server('192.0.2.1')
const ZONE_SERVER = server('192.0.2.53')

function entriesOf(text: string): ZoneEntries {
  const entries = new ZoneEntries(EXAMPLE)
  for (const record of records(`$TTL 60\n${text}`)) entries.add(record)
  return entries
}

describe('entries of a zone', () => {
  const shown = ({ label, context, reference }: AaEntry) =>
    `${label} ${typeof context === 'string' ? formatName(context) : formatAddress(context)} ${reference}`

  it.each([
    ['an AA string', 'web TXT "AA 198.51.100.1 + 11"', ['web 198.51.100.1 11']],
    ['the first label alone counts', 'a.b.c TXT "AA 198.51.100.1 + 11"', ['a 198.51.100.1 11']],
    ['in lower case', 'WeB TXT "AA 198.51.100.1 + 11"', ['web 198.51.100.1 11']],
    [
      'several strings of one record, and several records',
      'web TXT "AA 198.51.100.1 + 11" "AA 2001:db8::1 + 12"\nweb TXT "AA 198.51.100.2 + 13"',
      ['web 198.51.100.1 11', 'web 2001:db8::1 12', 'web 198.51.100.2 13'],
    ],
    ['a name in place of the address', 'web TXT "AA GW.example.com + 11"', ['web gw.example.com. 11']],
    ['beside other strings', 'web TXT "v=spf1 -all" "AA 198.51.100.1 + 11" "AA"', ['web 198.51.100.1 11']],
    ['other types', 'web A 10.1.1.1\nweb AAAA 2001:db8::1\nmx MX 1 web', []],
    ['the zone itself is no host', '@ TXT "AA 198.51.100.1 + 11"', []],
    ['a wildcard names none', '* TXT "AA 198.51.100.1 + 11"\n*.a TXT "AA 198.51.100.1 + 11"', []],
    ['a name of one label is no gateway', 'web TXT "AA gw + 11"', []],
    [
      'what is nearly one',
      'web TXT "AA 198.51.100.1" "AA 198.51.100.1 + 11 + 12" "AA + 11" "aa 198.51.100.1 + 11" "AA 198.51.100.300 + 11"',
      [],
    ],
  ])('%s', (_, text, expected) => expect(entriesOf(text).list.map(shown)).toEqual(expected))

  it('have a fingerprint that does not depend on their order, and depends on all else', () => {
    const line = fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 1, max: 5 }))
    const textOf = (lines: readonly (readonly [string, number])[]) =>
      lines.map(([label, reference]) => `${label} TXT "AA 198.51.100.1 + ${reference}"`).join('\n')
    const keyOf = (lines: readonly (readonly [string, number])[]) => lines.map(String).sort().join()
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), fc.array(line, { maxLength: 8 }), (a, b) => {
        const same = entriesOf(textOf(a)).fingerprint === entriesOf(textOf(b)).fingerprint
        expect(same).toBe(keyOf(a) === keyOf(b))
        expect(entriesOf(textOf([...a].reverse())).fingerprint).toBe(entriesOf(textOf(a)).fingerprint)
      }),
    )
  })
})

/** A source `internal:example.com`, with what others know of names; `'failed'`, `'elsewhere'` or addresses. */
class Lab {
  readonly clock = new ManualClock(0)
  readonly asked: string[] = []
  readonly problems: string[] = []
  readonly known = new Map<string, Looked>()
  hosts = new Map<string, Uint8Array[]>()
  resolvers = [RESOLVER]
  readonly finder: HostFinder

  constructor(encoded: readonly (4 | 6)[] = [4], context: readonly (4 | 6)[] = [4], local = 'internal.') {
    this.finder = new HostFinder(
      { local: name(local), public: EXAMPLE, servers: [] },
      { encoded, context },
      {
        clock: this.clock,
        hosts: () => this.hosts,
        resolvers: () => this.resolvers,
        onProblem: text => this.problems.push(text),
        lookup: {
          addresses: (wanted: Name, family, servers, how) => {
            const at = how?.authoritative ? 'zone' : 'resolver'
            const question = `${plainName(wanted)} ${family} ${at}`
            expect(servers).toEqual(at === 'zone' ? [ZONE_SERVER] : this.resolvers)
            this.asked.push(question)
            return Promise.resolve(this.known.get(question) ?? [])
          },
        },
      },
    )
  }

  /** `web.internal 4 resolver`: addresses */
  knows(question: string, ...addresses: string[]): void {
    this.known.set(
      question,
      addresses.map(address => parseAddress(address)!),
    )
  }

  sets(text: string, freshAfter = Number.NEGATIVE_INFINITY): Promise<HostSet[]> {
    return this.finder.setsOf({ entries: entriesOf(text).list, zoneServer: ZONE_SERVER, freshAfter })
  }

  async lines(text: string, freshAfter?: number): Promise<string[]> {
    const sets = await this.sets(text, freshAfter)
    return sets.flatMap(set => set.records.map(lineOf))
  }
}

function lineOf({ native, context, reference }: HostSet['records'][number]): string {
  return `${formatAddress(native)} = ${formatAddress(context)} + ${formatReference(reference)}`
}

let lab: Lab
beforeEach(() => {
  lab = new Lab()
  lab.knows('web.internal 4 resolver', '10.1.1.1')
  lab.knows('db.internal 4 resolver', '10.1.1.2')
})

describe('hosts', () => {
  it('have the address of their name in the local domain', async () => {
    expect(await lab.lines('web TXT "AA 198.51.100.1 + 11"\ndb TXT "AA 198.51.100.1 + 12"')).toEqual([
      '10.1.1.1 = 198.51.100.1 + 11',
      '10.1.1.2 = 198.51.100.1 + 12',
    ])
    expect(lab.asked).toEqual(['web.internal 4 resolver', 'db.internal 4 resolver'])
  })

  it('split horizon: the domain may be the same, the resolver inside has its own view of it', async () => {
    lab = new Lab([4], [4], 'example.com.')
    lab.knows('web.example.com 4 resolver', '10.1.1.1')
    expect(await lab.lines('web TXT "AA 198.51.100.1 + 11"')).toEqual(['10.1.1.1 = 198.51.100.1 + 11'])
  })

  it('are asked for once, however many strings they have', async () => {
    const lines = await lab.lines(
      'web TXT "AA 198.51.100.1 + 11" "AA 198.51.100.2 + 11"\na.web TXT "x"\nweb.b TXT "AA 198.51.100.3 + 1"',
    )
    expect(lines).toHaveLength(3)
    expect(lab.asked).toEqual(['web.internal 4 resolver'])
  })

  it('said twice are one, in whatever order they come', async () => {
    const text = ['web TXT "AA 198.51.100.1 + 11"', 'web.b TXT "AA 198.51.100.1 + 11"', 'db TXT "AA 198.51.100.1 + 12"']
    const [one, other] = [await lab.sets(text.join('\n')), await lab.sets(text.reverse().join('\n'))]
    expect(one[0]!.records).toHaveLength(2)
    expect(other).toEqual(one)
  })

  it('of two names with one reference both are told: the gateway says what is wrong', async () => {
    expect(await lab.lines('web TXT "AA 198.51.100.1 + 11"\ndb TXT "AA 198.51.100.1 + 11"')).toHaveLength(2)
  })

  it('without an address, of reference 0, and under contexts that are none, are left out', async () => {
    const text = `
web TXT "AA 198.51.100.1 + 0" "AA 224.0.0.1 + 11" "AA 0.0.0.0 + 11" "AA 127.0.0.1 + 11" "AA 255.255.255.255 + 11"
nobody TXT "AA 198.51.100.1 + 12"
db TXT "AA 198.51.100.1 + 13"`
    expect(await lab.lines(text)).toEqual(['10.1.1.2 = 198.51.100.1 + 13'])
  })

  it('of networks other than ours are told too', async () => {
    expect(await lab.lines('web TXT "AA 203.0.113.9 + 11"')).toEqual(['10.1.1.1 = 203.0.113.9 + 11'])
  })

  it('with several addresses get the lowest, each time', async () => {
    lab.knows('web.internal 4 resolver', '10.1.1.9', '10.1.1.10', '10.1.1.8')
    expect(await lab.lines('web TXT "AA 198.51.100.1 + 11"')).toEqual(['10.1.1.8 = 198.51.100.1 + 11'])
  })

  it('come from the hosts file first', async () => {
    lab.hosts.set('web.internal', [parseAddress('fd01::1')!, parseAddress('10.1.1.7')!])
    expect(await lab.lines('web TXT "AA 198.51.100.1 + 11"')).toEqual(['10.1.1.7 = 198.51.100.1 + 11'])
    expect(lab.asked).toEqual([])
  })

  it('the hash is that of the records in order', async () => {
    const [set] = await lab.sets('db TXT "AA 198.51.100.2 + 12" "AA 198.51.100.1 + 12"\nweb TXT "AA 198.51.100.1 + 11"')
    expect(set!.hash).toBe(hashHosts([...set!.records].sort(compareHosts)))
    expect(set!.records.map(lineOf)).toEqual([
      '10.1.1.1 = 198.51.100.1 + 11',
      '10.1.1.2 = 198.51.100.1 + 12',
      '10.1.1.2 = 198.51.100.2 + 12',
    ])
  })
})

describe('IP versions', () => {
  it('records of the wrong one are skipped', async () => {
    expect(await lab.lines('web TXT "AA 2001:db8::1 + 11"\ndb TXT "AA 198.51.100.1 + 12"')).toEqual([
      '10.1.1.2 = 198.51.100.1 + 12',
    ])
  })

  it('all of them at once: one set for each pair, of the same zone', async () => {
    lab = new Lab([4, 6], [4, 6])
    lab.knows('web.internal 4 resolver', '10.1.1.1')
    lab.knows('web.internal 6 resolver', 'fd01::1')
    lab.knows('gw.example.com 4 zone', '198.51.100.1')
    lab.knows('gw.example.com 6 zone', '2001:db8::1')
    const sets = await lab.sets('web TXT "AA gw.example.com + 11"')
    expect(sets.map(set => [set.encodedFamily, set.tunnelFamily, ...set.records.map(lineOf)])).toEqual([
      [4, 4, '10.1.1.1 = 198.51.100.1 + 11'],
      [4, 6, '10.1.1.1 = 2001:db8::1 + 11'],
      [6, 4, 'fd01::1 = 198.51.100.1 + 11'],
      [6, 6, 'fd01::1 = 2001:db8::1 + 11'],
    ])
    expect(lab.asked).toHaveLength(4)
  })
})

describe('gateways that are named', () => {
  const TEXT = 'web TXT "AA gw.example.com + 11"'

  it('are asked for at the server that the zone came from, and have all their addresses', async () => {
    lab.knows('gw.example.com 4 zone', '198.51.100.2', '198.51.100.1')
    // what a special resolver would say
    lab.knows('gw.example.com 4 resolver', '10.240.16.1')
    expect(await lab.lines(TEXT)).toEqual(['10.1.1.1 = 198.51.100.1 + 11', '10.1.1.1 = 198.51.100.2 + 11'])
    expect(lab.asked).toEqual(['gw.example.com 4 zone', 'web.internal 4 resolver'])
  })

  it('outside the zone are asked for where hosts are asked for, when its server does not know them', async () => {
    lab.known.set('gw.example.net 4 zone', 'elsewhere')
    lab.knows('gw.example.net 4 resolver', '203.0.113.1')
    expect(await lab.lines('web TXT "AA gw.example.net + 11"')).toEqual(['10.1.1.1 = 203.0.113.1 + 11'])
  })

  it('of the zone, which its server does not tell: the transfer is worth nothing', async () => {
    lab.known.set('gw.example.com 4 zone', 'failed')
    await expect(lab.sets(TEXT)).rejects.toThrow(/gw\.example\.com\. could not be looked up at 192\.0\.2\.53/)
  })

  it('of others, which nobody tells: what was known stays, or their records alone have no effect', async () => {
    const text = 'web TXT "AA gw.example.net + 11"\ndb TXT "AA 198.51.100.1 + 12"'
    lab.known.set('gw.example.net 4 zone', 'elsewhere')
    lab.known.set('gw.example.net 4 resolver', 'failed')
    expect(await lab.lines(text)).toEqual(['10.1.1.2 = 198.51.100.1 + 12'])
    expect(lab.problems).toEqual([expect.stringMatching(/gw\.example\.net\. could not be looked up/)])
    lab.knows('gw.example.net 4 resolver', '203.0.113.1')
    expect(await lab.lines(text)).toHaveLength(2)
    lab.known.set('gw.example.net 4 resolver', 'failed')
    expect(await lab.lines(text)).toHaveLength(2)
  })
})

describe('lookups', () => {
  const TEXT = 'web TXT "AA 198.51.100.1 + 11"\ndb TXT "AA 198.51.100.1 + 12"'

  it('that fail are a doubt: what was known stays', async () => {
    expect(await lab.lines(TEXT)).toHaveLength(2)
    lab.known.set('db.internal 4 resolver', 'failed')
    expect(await lab.lines(TEXT, lab.clock.now() + 1)).toEqual([
      '10.1.1.1 = 198.51.100.1 + 11',
      '10.1.1.2 = 198.51.100.1 + 12',
    ])
  })

  it('that say that there is none take the host away', async () => {
    expect(await lab.lines(TEXT)).toHaveLength(2)
    lab.knows('db.internal 4 resolver')
    expect(await lab.lines(TEXT, lab.clock.now() + 1)).toEqual(['10.1.1.1 = 198.51.100.1 + 11'])
  })

  it('that all fail make the transfer worth nothing', async () => {
    for (const host of ['web', 'db']) lab.known.set(`${host}.internal 4 resolver`, 'failed')
    await expect(lab.sets(TEXT)).rejects.toThrow(
      /none of the names below internal\. could be looked up: 192\.0\.2\.1 did/,
    )
  })

  it('need a resolver, unless the hosts file knows', async () => {
    lab.resolvers = []
    await expect(lab.sets(TEXT)).rejects.toThrow(/there is no resolver; name one with -resolver/)
    lab.hosts.set('web.internal', [parseAddress('10.1.1.7')!])
    expect(await lab.lines(TEXT)).toEqual(['10.1.1.7 = 198.51.100.1 + 11'])
  })

  it('are shared by servers that are polled at about the same time, and made anew for one that had them already', async () => {
    await lab.sets(TEXT)
    await lab.sets(TEXT)
    expect(lab.asked).toHaveLength(2)
    const had = lab.clock.now()
    await lab.clock.advance(1)
    await lab.sets(TEXT, had + 1)
    expect(lab.asked).toHaveLength(4)
    await lab.sets(TEXT, had + 1)
    expect(lab.asked).toHaveLength(4)
    await lab.clock.advance(10_001)
    await lab.sets(TEXT)
    expect(lab.asked).toHaveLength(6)
    lab.finder.forget()
    await lab.sets(TEXT)
    expect(lab.asked).toHaveLength(8)
  })
})

describe('hosts that are lost', () => {
  const set = (text: string, families: Partial<HostSet> = {}): HostSet => {
    const hosts = text.split(' ').flatMap(one => {
      const [native, reference] = one.split('+')
      return one === ''
        ? []
        : [
            {
              native: parseAddress(`10.1.1.${native}`)!,
              context: parseAddress('198.51.100.1')!,
              reference: BigInt(reference!),
            },
          ]
    })
    const rest = { local: 'i', public: 'p', encodedFamily: 4, tunnelFamily: 4, hash: 0n } as const
    return { ...rest, records: hosts, ...families }
  }

  it.each([
    ['nothing', '1+1 2+2', '1+1 2+2', 0],
    ['one', '1+1 2+2', '1+1', 1],
    ['all', '1+1 2+2', '', 2],
    ['one that moved to another address is there', '1+1 2+2', '1+1 3+2', 0],
    ['one with another reference is there', '1+1 2+2', '1+1 2+9', 0],
    ['one whose address and reference are others is gone', '1+1 2+2', '1+1 3+3', 1],
    ['more than before', '1+1', '1+1 2+2', 0],
  ])('%s', (_, from, to, count) => expect(lostHosts([set(from)], [set(to)])).toBe(count))

  it('are counted for each pair of IP versions', () => {
    const six = { tunnelFamily: 6 } as const
    expect(lostHosts([set('1+1'), set('1+1', six)], [set('1+1'), set('', six)])).toBe(1)
    expect(lostHosts([set('1+1'), set('1+1', six)], [set('1+1')])).toBe(1)
  })
})

it('the same entries give the same records, however they are ordered', async () => {
  const entry = fc.record({
    label: fc.constantFrom('a', 'b', 'c', 'd'),
    context: fc.constantFrom(...['198.51.100.1', '198.51.100.2', '2001:db8::1'].map(text => parseAddress(text)!)),
    reference: fc.bigInt(0n, 4n),
  })
  const natives = new Map(['a', 'b', 'c'].map((label, i) => [label, Uint8Array.of(10, 1, 1, i)]))
  const known = { natives, contexts: new Map() }
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 30 }), async entries => {
      const [one, other] = [await matchHosts(entries, known, 4), await matchHosts([...entries].reverse(), known, 4)]
      expect(other).toEqual(one)
      for (let i = 1; i < one.length; i++) expect(compareHosts(one[i - 1]!, one[i]!)).toBeLessThan(0)
      const wanted = entries.filter(e => e.label !== 'd' && e.context.length === 4 && e.reference !== 0n)
      expect(one.length).toBe(new Set(wanted.map(e => `${e.label} ${e.context} ${e.reference}`)).size)
    }),
  )
})
