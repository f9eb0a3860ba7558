/** What the resolver answers for names with AA records (wire.md section 5), with servers and a mapper of the test. */
import { describe, expect, it } from 'vitest'
import { formatName, nameToBytes } from '../../../../dns/name.ts'
import { NewNameBudget } from '../../../../gateway/dns/access.ts'
import { MAPPING_TTL } from '../../../../gateway/dns/resolver.ts'
import { parseAddress } from '../../../../ipref/address.ts'
import { edns, lines, name, query } from '../../dns/builders.ts'
import { ofZone, ResolverLab, reply } from './resolverLab.ts'

const AUTHORITY = '192.0.2.53'
const FORWARDER = '192.0.2.54'

const ZONE = `
host 300 TXT "AA 198.51.100.2 + 11"
multi 120 TXT "AA 198.51.100.2 + 31"
multi 120 TXT "AA 198.51.100.3 + 32"
two TXT "AA 198.51.100.2 + 41" "AA 198.51.100.2 + 42"
junk TXT "v=spf1 -all"
junk TXT "AA 198.51.100.2 + zz"
junk TXT "AA 198.51.100.2 + 340282366920938463463374607431768211456"
junk TXT "AA 198.51.100.2 + +5"
junk TXT "aa 198.51.100.2 + 5"
junk TXT "AA 198.51.100.2 + 5 + 5"
junk TXT "AA  + 5"
junk TXT "AA gw + 5"
junk TXT "AA 198.51.100.2 + 45"
big TXT "AA 198.51.100.2 + 340282366920938463463374607431768211455"
split TXT "AA 198.51.100.2" " + 43"
bad TXT "AA 198.51.100.2 + zz"
bad A 192.0.2.99
zero TXT "AA 198.51.100.2 + 0"
multicast TXT "AA 224.0.0.1 + 5"
loop TXT "AA 127.0.0.1 + 5"
dup TXT "AA 198.51.100.2 + 56"
dup TXT "AA gw.example.com + 56"
dup TXT "AA GW.example.com. + 0-38"
named 600 TXT "AA gw.example.com + 23"
gw 90 A 198.51.100.2
gw 90 AAAA 2001:db8:100::2
gw2 A 198.51.100.2
gw2 A 198.51.100.3
namedtwo TXT "AA gw2.example.com + 25"
gwalias 40 CNAME gw
namedalias TXT "AA gwalias.example.com + 26"
nowhere TXT "AA nx.example.com + 27"
v6 TXT "AA 2001:db8:100::2 + 51"
v46 TXT "AA 2001:db8:100::2 + 52"
v46 TXT "AA 198.51.100.3 + 53"
both A 192.0.2.8
both TXT "AA 198.51.100.2 + 59"
alias 50 CNAME alias2
alias2 70 CNAME host
plain A 192.0.2.7
own TXT "AA 198.51.100.1 + 70"
own6 TXT "AA 198.51.100.1 + 71"
ownnone TXT "AA 198.51.100.1 + 72"
mixed TXT "AA 198.51.100.1 + 70"
mixed TXT "AA 198.51.100.2 + 73"
long 90000 TXT "AA 198.51.100.2 + 80"
none 0 TXT "AA 198.51.100.2 + 81"
many A 192.0.2.1
*.wild TXT "AA 198.51.100.2 + 60"
x.except TXT "AA 198.51.100.2 + 61"
x.except A 192.0.2.9
c1 CNAME c2
c2 CNAME c1
${Array.from({ length: 12 }, (_, i) => `chain${i} CNAME chain${i + 1}`).join('\n')}
chain12 TXT "AA 198.51.100.2 + 90"
${Array.from({ length: 90 }, (_, i) => `crowd TXT "AA 198.51.100.2 + ${1000 + i}"`).join('\n')}
${Array.from({ length: 60 }, (_, i) => `notes TXT "note ${i}"`).join('\n')}
notes TXT "AA 198.51.100.2 + 95"
${Array.from({ length: 30 }, (_, i) => `onegw TXT "AA gw.example.com + ${2000 + i}"`).join('\n')}
${Array.from({ length: 30 }, (_, i) => `fan TXT "AA g${i}.example.com + 5"`).join('\n')}
`

const zone = ofZone(ZONE)

function lab(settings: ConstructorParameters<typeof ResolverLab>[1] = {}, budget?: NewNameBudget): ResolverLab {
  return new ResolverLab({ upstreams: { [AUTHORITY]: zone }, forwarders: { [FORWARDER]: zone } }, settings, budget)
}
const alone = (settings: ConstructorParameters<typeof ResolverLab>[1] = {}) =>
  new ResolverLab({ upstreams: { [AUTHORITY]: zone } }, settings)

const shown = (answer: { answers: Parameters<typeof lines>[0] }) => lines(answer.answers)
const rcodeOf = (answer: { flags: number }) => answer.flags & 15
const [NOERROR, SERVFAIL] = [0, 2]

describe('names with AA records', () => {
  it.each([
    ['one string', 'host', ['host.example.com. 300 IN A 10.240.16.1']],
    [
      'several records, several addresses',
      'multi',
      ['multi.example.com. 120 IN A 10.240.16.1', 'multi.example.com. 120 IN A 10.240.16.2'],
    ],
    [
      'several strings of one record',
      'two',
      ['two.example.com. 3600 IN A 10.240.16.1', 'two.example.com. 3600 IN A 10.240.16.2'],
    ],
    ['the one that is right among others', 'junk', ['junk.example.com. 3600 IN A 10.240.16.1']],
    ['the largest reference', 'big', ['big.example.com. 3600 IN A 10.240.16.1']],
    ['the same address twice is one', 'dup', ['dup.example.com. 90 IN A 10.240.16.1']],
    ['a name as context, the lesser TTL', 'named', ['named.example.com. 90 IN A 10.240.16.1']],
    [
      'each address of a context',
      'namedtwo',
      ['namedtwo.example.com. 3600 IN A 10.240.16.1', 'namedtwo.example.com. 3600 IN A 10.240.16.2'],
    ],
    ['a context that is an alias', 'namedalias', ['namedalias.example.com. 40 IN A 10.240.16.1']],
    ['contexts of our families alone', 'v46', ['v46.example.com. 3600 IN A 10.240.16.1']],
    ['a wildcard', 'a.b.wild', ['a.b.wild.example.com. 3600 IN A 10.240.16.1']],
    ['native addresses beside it are never shown', 'both', ['both.example.com. 3600 IN A 10.240.16.1']],
    ['a TTL of 0', 'none', ['none.example.com. 0 IN A 10.240.16.1']],
    ['behind many other strings', 'notes', ['notes.example.com. 3600 IN A 10.240.16.1']],
    [
      'aliases, as a chain',
      'alias',
      [
        'alias.example.com. 50 IN CNAME alias2.example.com.',
        'alias2.example.com. 70 IN CNAME host.example.com.',
        'host.example.com. 50 IN A 10.240.16.1',
      ],
    ],
  ])('%s', (_, host, expected) => {
    const answer = lab().ask(`${host}.example.com. A`)
    expect([...shown(answer)].sort()).toEqual([...expected].sort())
    expect(answer.flags & 0x8780).toBe(0x8180)
  })

  it('asks the mapper with the name, the context and the reference', () => {
    const names: string[] = []
    const one = lab()
    one.mapping = wanted => {
      names.push(wanted.name)
      return { encoded: one.encodedFor(wanted) }
    }
    one.ask('host.example.com. A')
    expect(names).toEqual(['host.example.com.'])
    expect(one.mapped).toEqual(['4 198.51.100.2 11'])
  })

  it.each([
    ['no AA string is right', 'bad', ['bad.example.com. 3600 IN A 192.0.2.99']],
    ['one string is cut in two', 'split', []],
    ['the reference is 0', 'zero', []],
    ['the context is no unicast address', 'multicast', []],
    ['the context is a loopback address', 'loop', []],
    ['the context has an address of another family alone', 'v6', []],
    ['the context has no address', 'nowhere', []],
    ['there is no TXT record', 'plain', ['plain.example.com. 3600 IN A 192.0.2.7']],
  ])('where %s, the forwarder has the word; without one the answer is SERVFAIL', (_, host, expected) => {
    const answer = lab().ask(`${host}.example.com. A`)
    expect(rcodeOf(answer)).toBe(NOERROR)
    expect(shown(answer)).toEqual(expected)
    const without = alone().ask(`${host}.example.com. A`)
    expect(rcodeOf(without)).toBe(SERVFAIL)
    expect(shown(without)).toEqual([])
  })

  it('is only for the domains given, and not for those left out', () => {
    const one = lab({ domains: [name('example.com.')], excluded: [name('except.example.com.')] })
    expect(shown(one.ask('x.except.example.com. A'))).toEqual(['x.except.example.com. 3600 IN A 192.0.2.9'])
    expect(one.asked.map(a => a.server)).toEqual([FORWARDER])
    one.ask('www.example.org. A')
    expect(one.asked.at(-1)!.server).toBe(FORWARDER)
    expect(one.asked.every(a => a.server === FORWARDER)).toBe(true)
    expect(shown(one.ask('host.EXAMPLE.com. A'))).toEqual(['host.EXAMPLE.com. 300 IN A 10.240.16.1'])
  })

  it("other types and classes are the forwarder's", () => {
    const one = lab()
    expect(shown(one.ask('host.example.com. TXT'))).toEqual(['host.example.com. 300 IN TXT "AA 198.51.100.2 + 11"'])
    expect(one.asked.map(a => a.server)).toEqual([FORWARDER])
    expect(rcodeOf(alone().ask('host.example.com. TXT'))).toBe(SERVFAIL)
  })

  it('maps at most 64 strings, for as many names of gateways as it takes, but only 8 different ones', () => {
    expect(lab().ask('crowd.example.com. A', {}, { overTcp: true }).answers).toHaveLength(64)
    expect(lab().ask('onegw.example.com. A', {}, { overTcp: true }).answers).toHaveLength(30)
    const fan = lab()
    fan.ask('fan.example.com. A')
    expect(fan.asked.filter(a => /^g\d+\./.test(a.question))).toHaveLength(8)
  })

  it('follows 8 aliases, and does not run in circles', () => {
    for (const host of ['c1', 'chain0']) {
      const one = lab()
      expect(rcodeOf(one.ask(`${host}.example.com. A`, { edns: edns() }))).toBe(SERVFAIL)
      expect(one.asked.length).toBeLessThan(12)
      expect(one.mapped).toEqual([])
    }
    expect(shown(lab().ask('chain5.example.com. A'))).toHaveLength(8)
  })
})

describe('families', () => {
  it('AAAA is answered without records where there is no IPv6 encoding network, with or without forwarders', () => {
    for (const one of [lab(), alone()]) {
      const answer = one.ask('host.example.com. AAAA')
      expect(rcodeOf(answer)).toBe(NOERROR)
      expect(answer.answers).toEqual([])
      expect(one.mapped).toEqual([])
    }
  })

  it('A and AAAA come from their own encoding networks', () => {
    const one = lab({ encodedFamilies: [4, 6] })
    expect(shown(one.ask('host.example.com. A'))).toEqual(['host.example.com. 300 IN A 10.240.16.1'])
    expect(shown(one.ask('host.example.com. AAAA'))).toEqual(['host.example.com. 300 IN AAAA fd00::2'])
    expect(shown(lab({ encodedFamilies: [6] }).ask('host.example.com. A'))).toEqual([])
  })

  it('a context with both families is used in the first one that we have', () => {
    const used = (contextFamilies: (4 | 6)[]) => {
      const one = lab({ contextFamilies })
      one.ask('named.example.com. A')
      return one.mapped
    }
    expect(used([4])).toEqual(['4 198.51.100.2 23'])
    expect(used([6])).toEqual(['4 2001:db8:100::2 23'])
    expect(used([6, 4])).toEqual(['4 2001:db8:100::2 23'])
    expect(used([4, 6])).toEqual(['4 198.51.100.2 23'])
  })

  it('the second family is used where the first has no address', () => {
    const one = lab({ contextFamilies: [6, 4] })
    one.ask('namedtwo.example.com. A')
    expect(one.mapped).toEqual(['4 198.51.100.2 25', '4 198.51.100.3 25'])
  })
})

describe('our own network', () => {
  const ownContexts = [parseAddress('198.51.100.1')!]
  const natives = () => {
    const one = lab({ ownContexts, encodedFamilies: [4, 6] })
    one.natives.set(70n, parseAddress('10.1.0.70')!)
    one.natives.set(71n, parseAddress('fd01::71')!)
    return one
  }

  it('is answered with the native address, and the mapper is not asked', () => {
    const one = natives()
    expect(shown(one.ask('own.example.com. A'))).toEqual(['own.example.com. 3600 IN A 10.1.0.70'])
    expect(shown(one.ask('own6.example.com. AAAA'))).toEqual(['own6.example.com. 3600 IN AAAA fd01::71'])
    expect(one.mapped).toEqual([])
  })

  it('has no records of the other family (an error there makes some clients give up)', () => {
    const one = natives()
    for (const question of ['own.example.com. AAAA', 'own6.example.com. A']) {
      const answer = one.ask(question)
      expect(rcodeOf(answer)).toBe(NOERROR)
      expect(answer.answers).toEqual([])
    }
  })

  it('refuses a reference that nobody has', () => {
    expect(rcodeOf(natives().ask('ownnone.example.com. A'))).toBe(SERVFAIL)
  })

  it('goes to the mapper like any other without the short cut', () => {
    const one = lab()
    expect(shown(one.ask('own.example.com. A'))).toEqual(['own.example.com. 3600 IN A 10.240.16.1'])
  })

  it('its PTR stays with those who know it; those of encoded addresses are ours', () => {
    const one = natives()
    one.ask('mixed.example.com. A')
    expect(shown(one.ask('1.16.240.10.in-addr.arpa. PTR'))).toEqual([
      '1.16.240.10.in-addr.arpa. 60 IN PTR mixed.example.com.',
    ])
    one.ask('70.0.1.10.in-addr.arpa. PTR')
    expect(one.asked.at(-1)).toMatchObject({ server: FORWARDER, question: '70.0.1.10.in-addr.arpa. 12' })
  })
})

describe('PTR of encoded addresses', () => {
  it('is the name that was asked for, in both families', () => {
    const one = lab({ encodedFamilies: [4, 6] })
    one.ask('Host.example.com. A')
    one.ask('host.example.com. AAAA')
    expect(shown(one.ask('1.16.240.10.IN-ADDR.arpa. PTR'))).toEqual([
      '1.16.240.10.IN-ADDR.arpa. 60 IN PTR Host.example.com.',
    ])
    const reversed = `2.${'0.'.repeat(27)}0.0.d.f.ip6.arpa.`
    expect(shown(one.ask(`${reversed} PTR`))).toEqual([`${reversed} 60 IN PTR host.example.com.`])
  })

  it("is the forwarder's where we gave no such address, or for what is no address", () => {
    const one = lab()
    for (const owner of [
      '9.16.240.10.in-addr.arpa.',
      '16.240.10.in-addr.arpa.',
      'x.16.240.10.in-addr.arpa.',
      '01.16.240.10.in-addr.arpa.',
    ]) {
      one.ask(`${owner} PTR`)
      expect(one.asked.at(-1)!.server).toBe(FORWARDER)
    }
  })
})

describe('time', () => {
  it('no answer is good for longer than the mapping behind it', () => {
    const one = lab()
    expect(one.ask('long.example.com. A').answers[0]!.ttl).toBe(MAPPING_TTL)
    // the mapper promises 14,400 s, and extends them when a quarter is gone
    expect(MAPPING_TTL).toBeLessThanOrEqual((14_400 * 3) / 4)
    one.pass(1000)
    const again = one.ask('long.example.com. A', { edns: edns({ dnssecOk: true }) })
    expect(again.answers[0]!.ttl).toBeLessThanOrEqual(MAPPING_TTL)
  })

  it('aliases and addresses are counted down, whichever memory they come from', () => {
    const one = lab()
    const ttls = (parts = {}) => one.ask('alias.example.com. A', parts).answers.map(r => r.ttl)
    expect(ttls()).toEqual([50, 70, 50])
    const asked = one.asked.length
    one.nowMs += 20_000
    expect(ttls()).toEqual([30, 50, 30])
    // another variant: not an answer from memory, but AA records from memory
    expect(ttls({ edns: edns() })).toEqual([30, 50, 30])
    expect(one.asked.length).toBe(asked)
    one.nowMs += 31_000
    expect(ttls()).toEqual([50, 70, 50])
    expect(one.asked.length).toBeGreaterThan(asked)
  })

  it('answers of a mapper that was lost are forgotten, the AA records are not', () => {
    const one = lab()
    one.ask('host.example.com. A')
    const asked = one.asked.length
    one.mapping = () => ({ encoded: parseAddress('10.240.99.99')! })
    one.resolver.forgetMappings()
    expect(shown(one.ask('host.example.com. A'))).toEqual(['host.example.com. 300 IN A 10.240.99.99'])
    expect(one.asked.length).toBe(asked)
    one.ask('1.16.240.10.in-addr.arpa. PTR')
    expect(one.asked.at(-1)!.server).toBe(FORWARDER)
  })

  it('a name without AA records is asked for again when its negative TTL is over', () => {
    const one = lab({ encodedFamilies: [4, 6] })
    const txt = () => one.asked.filter(a => a.question === 'plain.example.com. 16').length
    one.ask('plain.example.com. A')
    one.ask('plain.example.com. AAAA')
    one.ask('plain.example.com. A', { edns: edns() })
    expect(txt()).toBe(1)
    one.nowMs += 301_000
    one.ask('plain.example.com. AAAA')
    expect(txt()).toBe(2)
  })

  it('without memory, everything is asked for every time', () => {
    const one = lab({ cacheSize: 0 })
    one.ask('host.example.com. A')
    one.ask('host.example.com. A')
    expect(one.asked).toHaveLength(2)
  })
})

describe('questions at the same time', () => {
  it('equal ones are asked once, and each asker has his id and his letters back', () => {
    const one = lab()
    const spellings = ['host.example.com.', 'HOST.example.com.', 'hOsT.eXaMpLe.CoM.']
    const answers = spellings.map((text, i) => one.send(query(`${text} A`, { id: i + 1, flags: 0x100 })))
    expect(one.asked).toHaveLength(1)
    one.deliver()
    for (const [i, [answer]] of answers.entries()) {
      expect(answer!.id).toBe(i + 1)
      expect(formatName(answer!.questions[0]!.name)).toBe(spellings[i])
      expect(shown(answer!)).toEqual([`${spellings[i]} 300 IN A 10.240.16.1`])
    }
    expect(one.resolver.counts.joined).toBe(2)
    expect(one.resolver.open).toBe(0)
  })

  it('one question takes so many askers and no more: who comes then is told at once', () => {
    const one = lab()
    const answers = Array.from({ length: 2001 }, (_, i) => one.send(query('host.example.com. A', { id: i & 0xffff })))
    expect(answers.map(each => each.length)).toEqual([...Array(2000).fill(0), 1])
    expect(answers.at(-1)![0]!.flags & 15).toBe(2)
    expect(one.asked).toHaveLength(1)
    one.deliver()
    expect(answers.every(each => each.length === 1)).toBe(true)
    expect([one.resolver.open, one.resolver.counts.busy]).toEqual([0, 1])
  })

  it('so are those that lead to one question: TXT for A and AAAA, addresses of one gateway', () => {
    const one = lab({ encodedFamilies: [4, 6] })
    const waiting = [
      'named.example.com. A',
      'named.example.com. AAAA',
      'onegw.example.com. A',
      'dup.example.com. A',
    ].map(text => one.send(query(text), { overTcp: true }))
    one.deliver()
    expect(waiting.map(answers => answers.length)).toEqual([1, 1, 1, 1])
    const questions = one.asked.map(a => a.question)
    expect(new Set(questions).size).toBe(questions.length)
  })

  it('so are those with options that nobody knows, when these are the same', () => {
    const one = lab()
    const option = (value: number) => edns({ options: [{ code: 65001, data: Uint8Array.of(value) }] })
    for (const value of [1, 1, 1, 2]) one.send(query('plain.example.com. MX', { edns: option(value) }))
    expect(one.asked).toHaveLength(2)
  })

  it('those over UDP and over TCP are not, for their answers differ', () => {
    const one = lab()
    one.send(query('plain.example.com. MX'))
    one.send(query('plain.example.com. MX'), { overTcp: true })
    expect(one.asked.map(a => a.transport)).toEqual(['udp', 'tcp'])
  })
})

describe('the mapper', () => {
  it('that is not there makes SERVFAIL at once, with the reason, and is asked again by the next', () => {
    const one = lab()
    one.mapping = () => 'unavailable'
    const answer = one.ask('host.example.com. A', { edns: edns() })
    expect(rcodeOf(answer)).toBe(SERVFAIL)
    expect(reason(answer)).toEqual([14, 'the mapper does not answer'])
    expect(one.asked).toHaveLength(1)
    one.mapping = wanted => ({ encoded: one.encodedFor(wanted) })
    expect(shown(one.ask('host.example.com. A'))).toHaveLength(1)
  })

  it('that is not there is no reason to keep other questions from their answers', () => {
    const one = lab()
    one.mapping = () => 'unavailable'
    expect(shown(one.ask('plain.example.com. A'))).toEqual(['plain.example.com. 3600 IN A 192.0.2.7'])
    expect(rcodeOf(one.ask('both.example.com. TXT'))).toBe(NOERROR)
  })

  it('that refuses makes SERVFAIL, never the native address', () => {
    const one = lab()
    one.mapping = () => 'refused'
    const answer = one.ask('both.example.com. A', { edns: edns() })
    expect([rcodeOf(answer), shown(answer)]).toEqual([SERVFAIL, []])
    expect(reason(answer)).toEqual([0, 'the mapper has no address for it'])
  })

  it('that gives some addresses and not others is believed, and soon asked again where it was not there', () => {
    const one = lab()
    one.mapping = wanted => (wanted.reference === 31n ? 'refused' : { encoded: one.encodedFor(wanted) })
    expect(shown(one.ask('multi.example.com. A'))).toEqual(['multi.example.com. 120 IN A 10.240.16.1'])
    const other = lab()
    other.mapping = wanted => (wanted.reference === 31n ? 'unavailable' : { encoded: other.encodedFor(wanted) })
    expect(other.ask('multi.example.com. A').answers.map(r => r.ttl)).toEqual([5])
  })

  it('is not flooded: one asker has a budget, and others have theirs', () => {
    const text = Array.from({ length: 9 }, (_, i) => `x${i} TXT "AA 198.51.100.2 + ${500 + i}"`).join('\n')
    const one = new ResolverLab({ upstreams: { [AUTHORITY]: ofZone(text) } }, {}, new NewNameBudget(3, 1))
    const ask = (i: number, from: string, dnssecOk = false) =>
      one.ask(`x${i}.example.com. A`, { edns: edns({ dnssecOk }) }, { from })
    for (const i of [0, 1, 2]) expect(rcodeOf(ask(i, 'a'))).toBe(NOERROR)
    const refused = ask(3, 'a')
    expect(rcodeOf(refused)).toBe(SERVFAIL)
    expect(reason(refused)).toEqual([18, 'too many new names from this address'])
    expect(one.resolver.counts.overBudget).toBe(1)
    expect(one.mapped).toHaveLength(3)
    expect(rcodeOf(ask(4, 'b'))).toBe(NOERROR)
    // what was mapped lately costs nothing, whoever asks
    expect(rcodeOf(ask(4, 'a', true))).toBe(NOERROR)
    one.nowMs += 3000
    expect(rcodeOf(ask(3, 'a'))).toBe(NOERROR)
    // a mapper that was lost has to map it again
    for (const i of [5, 6]) expect(rcodeOf(ask(i, 'a'))).toBe(NOERROR)
    expect(rcodeOf(ask(4, 'a', true))).toBe(NOERROR)
    one.resolver.forgetMappings()
    expect(rcodeOf(ask(4, 'a', true))).toBe(SERVFAIL)
  })

  it('is charged by mapping: a name with many strings costs as many', () => {
    const one = lab({}, new NewNameBudget(40, 0))
    expect(rcodeOf(one.ask('crowd.example.com. A', {}, { overTcp: true }))).toBe(SERVFAIL)
    expect(one.mapped).toEqual([])
    expect(rcodeOf(one.ask('onegw.example.com. A', {}, { overTcp: true }))).toBe(NOERROR)
  })
})

describe('TXT answers that are hostile', () => {
  const asked = (parts: Parameters<typeof reply>[1]) => {
    const one = new ResolverLab({
      upstreams: { [AUTHORITY]: message => (message.questions[0]!.type === 16 ? reply(message, parts) : undefined) },
    })
    return { one, answer: one.ask('www.example.com. A') }
  }
  const txt = (owner: string, text: string) => ({
    name: name(owner),
    type: 16,
    class: 1,
    ttl: 60,
    data: Uint8Array.from([text.length, ...Buffer.from(text)]),
  })

  it('AA strings of other names, other classes and other sections are not ours', () => {
    for (const parts of [
      { answers: [txt('evil.example.org.', 'AA 198.51.100.66 + 1')] },
      { answers: [{ ...txt('www.example.com.', 'AA 198.51.100.66 + 1'), class: 3 }] },
      { authority: [txt('www.example.com.', 'AA 198.51.100.66 + 1')] },
      { additional: [txt('www.example.com.', 'AA 198.51.100.66 + 1')] },
    ]) {
      const { one, answer } = asked(parts)
      expect(one.mapped).toEqual([])
      expect(rcodeOf(answer)).toBe(SERVFAIL)
    }
  })

  it('junk beside the right string does no harm', () => {
    const answers = [txt('evil.example.org.', 'AA 198.51.100.66 + 1'), txt('www.example.com.', 'AA 198.51.100.2 + 11')]
    const { one } = asked({
      answers,
      additional: [{ name: name('gw.example.com.'), type: 1, class: 1, ttl: 9, data: Uint8Array.of(6, 6, 6, 6) }],
    })
    expect(one.mapped).toEqual(['4 198.51.100.2 11'])
  })

  it('an alias of somebody else leads nowhere', () => {
    const alias = {
      name: name('other.example.com.'),
      type: 5,
      class: 1,
      ttl: 60,
      data: nameToBytes(name('evil.example.org.')),
    }
    const { one } = asked({ answers: [alias, txt('evil.example.org.', 'AA 198.51.100.66 + 1')] })
    expect(one.mapped).toEqual([])
  })
})

function reason(answer: { edns?: { options: { code: number; data: Uint8Array }[] } }): [number, string] | undefined {
  const option = answer.edns?.options.find(o => o.code === 15)
  return option && [(option.data[0]! << 8) | option.data[1]!, Buffer.from(option.data.subarray(2)).toString()]
}
