/** Zones: what is refused, and what is answered. */
import { describe, expect, it } from 'vitest'
import { Rcode } from '../../../dns/constants.ts'
import { nextSerial, Zone } from '../../../dns/zone.ts'
import { APEX, EXAMPLE, lines, name, records, shown, type, zone } from './builders.ts'

const SOA = 'example.com. 300 IN SOA ns1.example.com. admin.example.com. 1 3600 600 604800 300'

/** The answer to `NAME TYPE`, with what is empty left out. */
function ask(text: string, question: string, origin = EXAMPLE): Record<string, unknown> | undefined {
  const [owner, kind] = question.split(' ')
  const answer = zone(text, origin).lookup(name(owner!), type(kind!))
  if (!answer) return undefined
  return Object.fromEntries(
    Object.entries(shown(answer)).filter(([, value]) => !Array.isArray(value) || value.length > 0),
  )
}

const found = (...answers: string[]) => ({ rcode: 0, aa: true, answers })
const nodata = { rcode: 0, aa: true, authority: [SOA] }
const nxdomain = { rcode: Rcode.NXDOMAIN, aa: true, authority: [SOA] }

describe('checks', () => {
  const problems = (text: string) => Zone.from(EXAMPLE, records(text)).problems.map(one => one.problem)

  it.each([
    ['no SOA record', '$TTL 1\n@ NS ns', /no SOA record at example.com./],
    ['no NS record', '$TTL 1\n@ SOA ns a 1 2 3 4 5', /no NS record at example.com./],
    ['two SOA records', `${APEX}@ SOA ns1 admin 2 1h 10m 1w 5m`, /a second SOA record/],
    ['an SOA record elsewhere', `${APEX}a SOA ns1 admin 2 1h 10m 1w 5m`, /a SOA record at a.example.com./],
    ['a name that is not in the zone', `${APEX}www.example.org. A 192.0.2.1`, /www.example.org. is not in the zone/],
    ['a name that only ends alike', `${APEX}xexample.com. A 192.0.2.1`, /not in the zone/],
    ['CNAME beside A', `${APEX}a CNAME b\na A 192.0.2.1`, /CNAME beside A at a.example.com./],
    ['CNAME at the apex', `${APEX}@ CNAME b`, /CNAME beside SOA/],
    ['two CNAMEs', `${APEX}a CNAME b\na CNAME c`, /a second CNAME at a.example.com./],
    ['two DNAMEs', `${APEX}a DNAME b\na DNAME c`, /a second DNAME/],
    [
      'names below a DNAME',
      `${APEX}a DNAME b\nx.y.a A 192.0.2.1`,
      /x.y.a.example.com. is below the DNAME of a.example.com./,
    ],
    ['DNAME beside NS', `${APEX}a DNAME b\na NS c`, /DNAME beside NS/],
    ['NS at a wildcard', `${APEX}*.a NS b`, /NS at the wildcard/],
    ['DNAME at a wildcard', `${APEX}*.a DNAME b`, /DNAME at the wildcard/],
    [
      'a set that fits no message',
      APEX + Array.from({ length: 5000 }, (_, i) => `a A 10.0.${i >> 8}.${i & 255}\n`).join(''),
      /do not fit into one message/,
    ],
  ])('%s', (_, text, problem) => {
    expect(problems(text)).toEqual([expect.stringMatching(problem)])
  })

  it('say which record is wrong', () => {
    const { problems } = Zone.from(EXAMPLE, records(`${APEX}a A 192.0.2.1\na.org. A 192.0.2.1`))
    expect(problems).toEqual([{ index: 4, problem: expect.stringContaining('a.org.') }])
  })

  it('of another class, or with data that does not fit', () => {
    const all = records(`${APEX}a A 192.0.2.1`)
    const wrong = (change: object) =>
      Zone.from(EXAMPLE, [...all.slice(0, 3), { ...all[3]!, ...change }]).problems[0]!.problem
    expect(wrong({ class: 3 })).toContain('only IN')
    expect(wrong({ data: Uint8Array.of(1) })).toContain('no data of A')
    expect(wrong({ type: 65280, data: new Uint8Array(64_001) })).toContain('at most 64000')
    expect(wrong({ ttl: 0x80000000 })).toContain('TTL')
  })

  it('two equal records are one, and a set has its lowest TTL', () => {
    const both = zone('a 60 A 192.0.2.1\nA 50 A 192.0.2.1\na 70 A 192.0.2.2\na 60 MX 1 B\na 60 MX 1 b')
    expect(lines(both.find(name('a.example.com.'), type('A')))).toEqual([
      'a.example.com. 50 IN A 192.0.2.1',
      'a.example.com. 50 IN A 192.0.2.2',
    ])
    expect(both.find(name('a.example.com.'), type('MX'))).toHaveLength(1)
    expect(both.size).toBe(6)
  })
})

describe('answers', () => {
  const WWW = 'www A 192.0.2.2\nwww TXT x\n'

  it('with the records of that type', () => {
    expect(ask(WWW, 'www.example.com. A')).toEqual(found('www.example.com. 3600 IN A 192.0.2.2'))
  })

  it('NODATA where the name has others', () => expect(ask(WWW, 'www.example.com. AAAA')).toEqual(nodata))
  it('NXDOMAIN where there is no such name', () => expect(ask(WWW, 'w.example.com. A')).toEqual(nxdomain))
  it('nothing for names elsewhere', () => expect(ask(WWW, 'www.example.org. A')).toBeUndefined())
  it('nothing for names above', () => expect(ask(WWW, 'com. NS')).toBeUndefined())
  it('NXDOMAIN below a name that has records', () => expect(ask(WWW, 'a.www.example.com. A')).toEqual(nxdomain))

  it('NODATA at a name that is there because of one below', () => {
    expect(ask('a.b.c A 192.0.2.1', 'b.c.example.com. A')).toEqual(nodata)
    expect(ask('a.b.c A 192.0.2.1', 'c.example.com. A')).toEqual(nodata)
    expect(ask('a.b.c A 192.0.2.1', 'd.c.example.com. A')).toEqual(nxdomain)
  })

  it('the lower of TTL and minimum limits what is not there', () => {
    const low = Zone.from(EXAMPLE, records('@ 60 SOA ns a 1 2 3 4 300\n@ 60 NS ns')).zone!
    expect(low.lookup(name('x.example.com.'), 1)!.authority[0]!.ttl).toBe(60)
  })

  it('without regard to case, and in the case of the question', () => {
    expect(ask('WwW A 192.0.2.2', 'wWw.eXample.COM. A')).toEqual(found('wWw.eXample.COM. 3600 IN A 192.0.2.2'))
    expect(ask('', 'x.EXAMPLE.com. A')).toEqual({
      ...nxdomain,
      authority: [SOA.replace('example.com.', 'EXAMPLE.com.')],
    })
  })

  it('labels with dots and NULs are labels', () => {
    expect(ask('a\\.b A 192.0.2.2', 'b.example.com. A')).toEqual(nxdomain)
    expect(ask('\\000a A 192.0.2.2', '\\000a.example.com. A')).toMatchObject({ answers: [expect.any(String)] })
  })

  it('with the addresses of hosts that are named', () => {
    const text = '@ MX 1 mail\n@ MX 2 MAIL.example.org.\nmail A 192.0.2.3\nmail AAAA ::1\n_x._tcp SRV 1 2 3 mail\n'
    const additional = ['mail.example.com. 3600 IN A 192.0.2.3', 'mail.example.com. 3600 IN AAAA ::1']
    expect(ask(text, 'example.com. MX')).toMatchObject({ additional })
    expect(ask(text, '_x._tcp.example.com. SRV')).toMatchObject({ additional })
    expect(ask(text, 'example.com. NS')).toMatchObject({ additional: ['ns1.example.com. 3600 IN A 192.0.2.1'] })
  })

  it('ANY with as little as can be (RFC 8482)', () => {
    expect(ask(WWW, 'www.example.com. ANY')).toEqual(found('www.example.com. 3789 IN HINFO "RFC8482" ""'))
    expect(ask(WWW, 'w.example.com. ANY')).toEqual(nxdomain)
    expect(ask('a.b A 192.0.2.1', 'b.example.com. ANY')).toEqual(nodata)
  })

  it('in the root zone too', () => {
    const root = Zone.from(name('.'), records('. 9 SOA a. b. 1 2 3 4 5\n. 9 NS a.\na. 9 A 192.0.2.1')).zone!
    expect(lines(root.lookup(name('a.'), type('A'))!.answers)).toEqual(['a. 9 IN A 192.0.2.1'])
    expect(root.lookup(name('b.'), type('A'))!.rcode).toBe(Rcode.NXDOMAIN)
  })
})

// RFC 4592 section 2.2.1
describe('wildcards', () => {
  const TEXT = `*.w TXT "wild"
*.w MX 10 host1
sub.*.w TXT "not one"
host1.w A 192.0.2.4
_ssh._tcp.host1.w SRV 1 2 3 host1
_ssh._tcp.host2.w SRV 1 2 3 host1
del.w NS ns.example.org.
`
  it.each([
    { question: 'host3.w.example.com. MX', answer: found('host3.w.example.com. 3600 IN MX 10 host1.example.com.') },
    { question: 'host3.w.example.com. A', answer: nodata },
    { question: 'foo.bar.w.example.com. TXT', answer: found('foo.bar.w.example.com. 3600 IN TXT "wild"') },
    { question: 'FOO.w.example.com. TXT', answer: found('FOO.w.example.com. 3600 IN TXT "wild"') },
    { question: '*.w.example.com. TXT', answer: found('*.w.example.com. 3600 IN TXT "wild"') },
    { question: 'host1.w.example.com. MX', answer: nodata },
    { question: 'sub.*.w.example.com. MX', answer: nodata },
    { question: '_telnet._tcp.host1.w.example.com. SRV', answer: nxdomain },
    { question: '_tcp.host2.w.example.com. TXT', answer: nodata },
    { question: 'x.host2.w.example.com. TXT', answer: nxdomain },
    { question: 'ghost.*.w.example.com. MX', answer: nxdomain },
    {
      question: 'host.del.w.example.com. A',
      answer: { rcode: 0, aa: false, authority: ['del.w.example.com. 3600 IN NS ns.example.org.'] },
    },
    { question: 'x.example.com. TXT', answer: nxdomain },
  ])('$question', ({ question, answer }) => expect(ask(TEXT, question)).toEqual(answer))

  it('of a CNAME lead on', () => {
    expect(ask('* CNAME a\na A 192.0.2.1', 'x.y.example.com. A')).toEqual(
      found('x.y.example.com. 3600 IN CNAME a.example.com.', 'a.example.com. 3600 IN A 192.0.2.1'),
    )
  })
})

describe('CNAME', () => {
  it('leads on within the zone', () => {
    expect(ask('a CNAME b\nb CNAME C\nc A 192.0.2.1', 'a.example.com. A')).toEqual(
      found(
        'a.example.com. 3600 IN CNAME b.example.com.',
        'b.example.com. 3600 IN CNAME C.example.com.',
        'C.example.com. 3600 IN A 192.0.2.1',
      ),
    )
  })

  it.each([
    {
      what: 'asked for itself',
      text: 'a CNAME b',
      question: 'a.example.com. CNAME',
      answer: found('a.example.com. 3600 IN CNAME b.example.com.'),
    },
    {
      what: 'leaves the zone',
      text: 'a CNAME b.org.',
      question: 'a.example.com. A',
      answer: found('a.example.com. 3600 IN CNAME b.org.'),
    },
    {
      what: 'leads to itself',
      text: 'a CNAME A',
      question: 'a.example.com. A',
      answer: found('a.example.com. 3600 IN CNAME A.example.com.'),
    },
    {
      what: 'leads to no such name',
      text: 'a CNAME b',
      question: 'a.example.com. A',
      answer: { ...nxdomain, answers: ['a.example.com. 3600 IN CNAME b.example.com.'] },
    },
    {
      what: 'leads to no such type',
      text: 'a CNAME ns1',
      question: 'a.example.com. AAAA',
      answer: { ...nodata, answers: ['a.example.com. 3600 IN CNAME ns1.example.com.'] },
    },
    {
      what: 'leads below a delegation',
      text: 'a CNAME x.sub\nsub NS ns.sub\nns.sub A 192.0.2.9',
      question: 'a.example.com. A',
      answer: {
        rcode: 0,
        aa: true,
        answers: ['a.example.com. 3600 IN CNAME x.sub.example.com.'],
        authority: ['sub.example.com. 3600 IN NS ns.sub.example.com.'],
        additional: ['ns.sub.example.com. 3600 IN A 192.0.2.9'],
      },
    },
  ])('$what', ({ text, question, answer }) => expect(ask(text, question)).toEqual(answer))

  it('in a ring, or in a chain without end, comes to one', () => {
    expect(ask('a CNAME b\nb CNAME a', 'a.example.com. A')!.answers).toHaveLength(2)
    const chain = Array.from({ length: 100 }, (_, i) => `c${i} CNAME c${i + 1}\n`).join('')
    expect(ask(chain, 'c0.example.com. A')!.answers).toHaveLength(16)
  })
})

describe('DNAME', () => {
  it('leads names below it on', () => {
    expect(ask('d DNAME t\nx.t A 192.0.2.1', 'X.D.example.com. A')).toEqual(
      found(
        'D.example.com. 3600 IN DNAME t.example.com.',
        'X.D.example.com. 3600 IN CNAME X.t.example.com.',
        'X.t.example.com. 3600 IN A 192.0.2.1',
      ),
    )
  })

  it('is no answer for its own name', () => {
    expect(ask('d DNAME t', 'd.example.com. A')).toEqual(nodata)
    expect(ask('d DNAME t', 'd.example.com. DNAME')).toEqual(found('d.example.com. 3600 IN DNAME t.example.com.'))
  })

  it('that makes a name too long says so', () => {
    const label = 'a'.repeat(60)
    const target = `${label}.${label}.${label}`
    const long = `${label}.d.example.com.`
    expect(ask(`d DNAME ${target}`, `x.${long} A`)).toMatchObject({
      rcode: Rcode.YXDOMAIN,
      answers: [expect.stringContaining('DNAME')],
    })
  })

  it('in a ring comes to an end', () => {
    expect(ask('a DNAME b\nb DNAME a', 'x.a.example.com. A')!.answers).toHaveLength(4)
  })
})

describe('delegations', () => {
  const TEXT = `sub NS ns.sub
sub NS other.example.org.
sub NS ns1
sub DS 1 8 2 aa
ns.sub A 192.0.2.9
ns.sub AAAA ::9
host.sub A 192.0.2.10
`
  const referral = {
    rcode: 0,
    aa: false,
    authority: [
      'sub.example.com. 3600 IN NS ns.sub.example.com.',
      'sub.example.com. 3600 IN NS other.example.org.',
      'sub.example.com. 3600 IN NS ns1.example.com.',
    ],
    additional: [
      'ns.sub.example.com. 3600 IN A 192.0.2.9',
      'ns.sub.example.com. 3600 IN AAAA ::9',
      'ns1.example.com. 3600 IN A 192.0.2.1',
    ],
  }

  it.each([
    'sub.example.com. A',
    'sub.example.com. NS',
    'x.y.sub.example.com. A',
    'host.sub.example.com. A',
    'ns.sub.example.com. A',
    'sub.example.com. ANY',
  ])('%s is referred', question => expect(ask(TEXT, question)).toEqual(referral))

  it('its DS record is answered', () => {
    expect(ask(TEXT, 'sub.example.com. DS')).toEqual(found('sub.example.com. 3600 IN DS 1 8 2 AA'))
    expect(ask('sub NS a.', 'sub.example.com. DS')).toEqual(nodata)
  })
})

describe('a zone', () => {
  it('is transferred between two SOA records', () => {
    const list = lines([...zone('a TXT x').transfer()])
    expect(list[0]).toMatch(/ SOA /)
    expect(list.at(-1)).toBe(list[0])
    expect(list.slice(1, -1).sort()).toEqual([
      'a.example.com. 3600 IN TXT "x"',
      'example.com. 3600 IN NS ns1.example.com.',
      'ns1.example.com. 3600 IN A 192.0.2.1',
    ])
  })

  it('under another serial is the same but for that', () => {
    const one = zone('a TXT x')
    const other = one.withSerial(7)
    expect([one.soa.serial, other.soa.serial]).toEqual([1, 7])
    expect(other.lookup(EXAMPLE, type('SOA'))!.answers[0]!.data).toEqual(other.soaRecord.data)
    expect(other.hasContentOf(one) && one.hasContentOf(other)).toBe(true)
    expect(other.fingerprint()).toBe(one.fingerprint())
  })

  it.each([
    ['a TXT x', 'a TXT y'],
    ['a TXT x', 'a 60 TXT x'],
    ['a TXT x', 'A TXT x'],
    ['a TXT x', 'b TXT x'],
    ['a TXT x', 'a SPF x'],
    ['a TXT x', 'a TXT x\na TXT y'],
    ['a TXT x\nb TXT x', 'a TXT x\na TXT y'],
  ])('with %j has not the content of one with %j', (a, b) => {
    expect(zone(a).hasContentOf(zone(b))).toBe(false)
    expect(zone(a).fingerprint()).not.toBe(zone(b).fingerprint())
  })

  it('has the content of one that says the same in another order', () => {
    expect(zone('a TXT x\na TXT y\nb TXT x').hasContentOf(zone('b TXT x\na TXT y\na TXT x'))).toBe(true)
  })
})

describe('the next serial', () => {
  it.each([
    { last: 1, now: 1_700_000_000, next: 1_700_000_000 },
    { last: 1_700_000_000, now: 1_700_000_000.9, next: 1_700_000_001 },
    { last: 1_700_000_005, now: 1_700_000_000, next: 1_700_000_006 },
    { last: 2_024_010_101, now: 1_700_000_000, next: 2_024_010_102 },
    { last: 0xffffffff, now: 0xffffffff, next: 0 },
    { last: 0xfffffff0, now: 5, next: 5 },
    { last: 0, now: 0x80000000, next: 1 },
    { last: 4_000_000_000, now: 1_700_000_000, next: 1_700_000_000 },
  ])('after $last at $now is $next', ({ last, now, next }) => expect(nextSerial(last, now)).toBe(next))
})
