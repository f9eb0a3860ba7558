/** Zone text: what operators write, and what they write wrong. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ResourceRecord } from '../../../dns/message.ts'
import { nameOfLabels } from '../../../dns/name.ts'
import { describeProblem, formatZone, parseZoneText } from '../../../dns/zoneText.ts'
import { EXAMPLE, lines, name } from './builders.ts'

function read(text: string): { lines: string[]; problems: string[] } {
  const { records, problems } = parseZoneText(text, { origin: EXAMPLE, file: 'zone' })
  return { lines: lines(records), problems: problems.map(describeProblem) }
}

describe('records', () => {
  it.each([
    {
      what: 'everything given',
      text: 'www.example.com. 60 IN A 192.0.2.1',
      line: 'www.example.com. 60 IN A 192.0.2.1',
    },
    { what: 'a relative name', text: 'www 60 IN A 192.0.2.1', line: 'www.example.com. 60 IN A 192.0.2.1' },
    { what: 'the class before the TTL', text: 'www IN 60 A 192.0.2.1', line: 'www.example.com. 60 IN A 192.0.2.1' },
    { what: 'no class', text: 'www 60 A 192.0.2.1', line: 'www.example.com. 60 IN A 192.0.2.1' },
    {
      what: 'a class by its number',
      text: 'www 60 CLASS1 TYPE1 192.0.2.1',
      line: 'www.example.com. 60 IN A 192.0.2.1',
    },
    { what: 'small letters', text: 'www 1m in a 192.0.2.1', line: 'www.example.com. 60 IN A 192.0.2.1' },
    { what: 'a name that is a class', text: 'in 60 IN A 192.0.2.1', line: 'in.example.com. 60 IN A 192.0.2.1' },
    { what: 'a name that is a type', text: 'txt 60 A 192.0.2.1', line: 'txt.example.com. 60 IN A 192.0.2.1' },
    { what: 'a name that is a number', text: '1 60 PTR a.', line: '1.example.com. 60 IN PTR a.' },
    { what: '@', text: '@ 60 CNAME @', line: 'example.com. 60 IN CNAME example.com.' },
    { what: 'an escaped @', text: '\\@ 60 CNAME a\\.b', line: '\\@.example.com. 60 IN CNAME a\\.b.example.com.' },
    { what: 'an escaped $', text: '\\$ttl 60 A 192.0.2.1', line: '\\$ttl.example.com. 60 IN A 192.0.2.1' },
    { what: 'a wildcard', text: '*.a 60 A 192.0.2.1', line: '*.a.example.com. 60 IN A 192.0.2.1' },
    {
      what: 'an AA string',
      text: 'www 60 TXT "AA 192.0.2.1 + 12-34"',
      line: 'www.example.com. 60 IN TXT "AA 192.0.2.1 + 12-34"',
    },
    { what: 'a ; in quotes', text: 'www 60 TXT "a;b" c\\;d ;e', line: 'www.example.com. 60 IN TXT "a;b" "c;d"' },
    {
      what: 'quotes within quotes',
      text: 'www 60 TXT "a\\"b(" "c)"',
      line: 'www.example.com. 60 IN TXT "a\\"b(" "c)"',
    },
    {
      what: 'words without a blank between',
      text: 'www 60 TXT "a""b"c',
      line: 'www.example.com. 60 IN TXT "a" "b" "c"',
    },
    {
      what: 'parentheses over lines',
      text: 'www 60 A (;one\n;two\n\n 192.0.2.1\n)',
      line: 'www.example.com. 60 IN A 192.0.2.1',
    },
    {
      what: 'parentheses around everything',
      text: 'www (60 (A) 192.0.2.1)',
      line: 'www.example.com. 60 IN A 192.0.2.1',
    },
    { what: 'lines of Windows', text: 'www 60 A 192.0.2.1\r\n', line: 'www.example.com. 60 IN A 192.0.2.1' },
    { what: 'a byte order mark', text: '\ufeffwww 60 A 192.0.2.1', line: 'www.example.com. 60 IN A 192.0.2.1' },
    { what: 'more than ASCII', text: 'é 60 TXT é', line: '\\195\\169.example.com. 60 IN TXT "\\195\\169"' },
    { what: 'another type', text: 'www 60 TYPE65280 \\# 2 abcd', line: 'www.example.com. 60 IN TYPE65280 \\# 2 ABCD' },
  ])('$what', ({ text, line }) => expect(read(text)).toEqual({ lines: [line], problems: [] }))

  it('a line that starts with a blank has the name of the record before', () => {
    const text =
      'a 60 A 192.0.2.1\n\tA 192.0.2.2\n\n  ; nothing\n$ORIGIN x.org.\n 61 A 192.0.2.3\nb A 192.0.2.4\n A 192.0.2.5\n'
    expect(read(text).lines).toEqual([
      'a.example.com. 60 IN A 192.0.2.1',
      'a.example.com. 60 IN A 192.0.2.2',
      'a.example.com. 61 IN A 192.0.2.3',
      'b.x.org. 61 IN A 192.0.2.4',
      'b.x.org. 61 IN A 192.0.2.5',
    ])
  })

  it('$ORIGIN is taken below the origin before it', () => {
    expect(read('$ORIGIN a\n$origin b\nc 1 CNAME .\n$ORIGIN .\nd 1 CNAME e').lines).toEqual([
      'c.b.a.example.com. 1 IN CNAME .',
      'd. 1 IN CNAME e.',
    ])
  })
})

describe('TTL', () => {
  const ttls = (text: string) => parseZoneText(text, { origin: EXAMPLE, file: '' }).records.map(one => one.ttl)
  const SOA = '@ SOA ns admin 1 2 3 4 300\n'

  it.each([
    ['its own', '$TTL 10\na 20 A 192.0.2.1', [20]],
    ['that of $TTL', '$TTL 1m\na A 192.0.2.1', [60]],
    ['that of $TTL, not of the record before', '$TTL 1m\na 20 A 192.0.2.1\na A 192.0.2.2', [20, 60]],
    ['that of the $TTL that came last', '$TTL 1\na A 192.0.2.1\n$TTL 2\na A 192.0.2.2', [1, 2]],
    ['that of the record before', 'a 20 A 192.0.2.1\na A 192.0.2.2', [20, 20]],
    ['the minimum of the SOA record', `${SOA}a A 192.0.2.2`, [300, 300]],
  ])('%s', (_, text, expected) => expect(ttls(text)).toEqual(expected))
})

describe('mistakes', () => {
  it.each([
    ['no TTL anywhere', 'a A 192.0.2.1', 'zone:1: the record has no TTL: write $TTL 1h before the first record'],
    ['a name from nowhere', ' 1 A 192.0.2.1', /^zone:1: .*write @ for the zone itself$/],
    ['no type', '\n\na 1 IN', /^zone:3: the record has no type: write NAME/],
    ['an unknown type', 'a 1 IN AAA ::1', /^zone:1: AAA is neither a type nor a TTL/],
    ['two classes', 'a IN IN A 192.0.2.1', /IN is neither a type nor a TTL/],
    ['another class', 'a 1 CH TXT x', /class CH is not served: write IN/],
    ['a TTL beyond 2^31', 'a 4294967295 A 192.0.2.1', /4294967295 is neither a type nor a TTL/],
    ['a type of questions', 'a 1 AXFR x', /AXFR is no type of records in a zone/],
    ['OPT', 'a 1 OPT \\# 0', /OPT is no type of records/],
    ['a bad name', '\n\n\na..b 1 A 192.0.2.1', /^zone:4: a..b is no name/],
    ['bad data', 'a 1 A 192.0.2.256', /192.0.2.256 is no IPv4 address/],
    ['a record over lines, by its first', '\na 1 TXT (\n\n"x" \\256 )', /^zone:2: /],
    ['a quote that does not end', '\na 1 TXT "abc', /^zone:2: a text that starts with " does not end in this line/],
    ['a quote over two lines', 'a 1 TXT "abc\ndef"', /^zone:1: a text/],
    ['a ( that does not end', 'a 1 TXT\nb 1 TXT (\n"x"\n', /^zone:2: a \( that is never closed/],
    ['a ) from nowhere', 'a 1 TXT x )', /^zone:1: a \) without a \(/],
    ['$INCLUDE', '$INCLUDE other.zone', /\$INCLUDE is not supported: write the records of that file here/],
    ['$GENERATE', '$GENERATE 1-2 a$ A 192.0.2.$', /\$GENERATE is not supported/],
    ['an unknown directive', '$FOO', /\$FOO is none of \$ORIGIN and \$TTL/],
    ['$TTL without time', '$TTL', /\$TTL has one word after it: write \$TTL 1h/],
    ['$TTL without sense', '$TTL soon', /soon is no time: write \$TTL 1h/],
    ['$ORIGIN without sense', '$ORIGIN a..', /a.. is no name: write \$ORIGIN/],
  ])('%s', (_, text, problem) => {
    const { problems } = read(text)
    expect(problems.some(one => (typeof problem === 'string' ? one === problem : problem.test(one)))).toBe(true)
  })

  it('all are reported, and the rest is read', () => {
    const { lines: right, problems } = read('a 1 A x\nb 1 A 192.0.2.1\n$FOO\nc 1 A "\nd 1 A 192.0.2.2')
    expect(right).toEqual(['b.example.com. 1 IN A 192.0.2.1', 'd.example.com. 1 IN A 192.0.2.2'])
    expect(problems.map(problem => problem.slice(0, 7))).toEqual(['zone:1:', 'zone:3:', 'zone:4:'])
  })

  it('a file of nothing but mistakes does not fill the memory', () => {
    expect(read('x\n'.repeat(100_000)).problems.length).toBeLessThanOrEqual(101)
    expect(read(')'.repeat(100_000)).problems.length).toBeLessThanOrEqual(101)
  })

  it('time is linear in the text, whatever is in it', () => {
    for (const part of [
      '(',
      '"',
      '\\',
      'a ',
      '((',
      ' \t',
      ';',
      '1',
      '\n\n',
      ')',
      '$',
      '@ 1 A x\n',
      '"a" ',
      '\\000',
      '.',
      'a.',
    ]) {
      read(`x 1 TXT ${part.repeat(200_000)}`)
    }
  })
})

describe('properties', () => {
  it('no text makes it throw', () => {
    const words = [
      '$TTL',
      '$ORIGIN',
      '@',
      'IN',
      'A',
      'TXT',
      'SOA',
      'MX',
      '\\#',
      '(',
      ')',
      '"',
      ';',
      '\n',
      ' ',
      '\\',
      '1',
      '.',
      'a',
      '\t',
      'é',
      '\0',
    ]
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 100 }),
      fc.array(fc.constantFrom(...words), { maxLength: 60 }).map(list => list.join('')),
      fc.array(fc.constantFrom(...words), { maxLength: 60 }).map(list => list.join(' ')),
    )
    fc.assert(
      fc.property(text, one => void read(one)),
      { numRuns: 20_000 },
    )
  })

  it('records, printed and read again, are the same', () => {
    const label = fc.uint8Array({ minLength: 1, maxLength: 20 }).map(bytes => Buffer.from(bytes).toString('latin1'))
    const record: fc.Arbitrary<ResourceRecord> = fc.record({
      name: fc.array(label, { maxLength: 5 }).map(list => nameOfLabels(list)!),
      type: fc.constantFrom(65280, 65534),
      class: fc.constant(1),
      ttl: fc.integer({ min: 0, max: 0x7fffffff }),
      data: fc.uint8Array({ maxLength: 30 }),
    })
    fc.assert(
      fc.property(fc.array(record, { maxLength: 5 }), list => {
        const read = parseZoneText(formatZone(list), { origin: name('other.'), file: '' })
        expect(read).toMatchObject({ records: list, problems: [] })
      }),
    )
  })
})
