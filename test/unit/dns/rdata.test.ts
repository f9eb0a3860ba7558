/** Record data as text and as bytes, for every type that has a form. */
import dnsPacket from 'dns-packet'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dataKey, formatData, isData, parseData, parseTtl, type Token } from '../../../dns/rdata.ts'
import { decoded, EXAMPLE, hex, records, type } from './builders.ts'

/** Words, as `'…'` where they are quoted. */
function tokens(text: string): Token[] {
  return [...text.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => ({
    text: Buffer.from(quoted ?? word!).toString('latin1'),
    isQuoted: quoted !== undefined,
  }))
}

const parse = (kind: string, text: string) => parseData(type(kind), tokens(text), EXAMPLE)

const NAME = '01 61 07 6578616d706c65 03 636f6d 00'

describe('golden', () => {
  it.each([
    { kind: 'A', text: '192.0.2.1', wire: 'c0000201' },
    { kind: 'AAAA', text: '2001:db8::1', wire: '20010db8 00*11 01' },
    { kind: 'NS', text: 'a', wire: NAME, printed: 'a.example.com.' },
    { kind: 'CNAME', text: 'a.example.com.', wire: NAME },
    { kind: 'PTR', text: '.', wire: '00' },
    { kind: 'DNAME', text: '@', wire: NAME.slice(6), printed: 'example.com.' },
    { kind: 'MX', text: '10 a', wire: `000a ${NAME}`, printed: '10 a.example.com.' },
    { kind: 'TXT', text: "'a b' c", wire: '03 612062 01 63', printed: '"a b" "c"' },
    { kind: 'TXT', text: "''", wire: '00', printed: '""' },
    {
      kind: 'TXT',
      text: String.raw`'\"\\\000\255é'`,
      wire: '06 22 5c 00 ff c3a9',
      printed: String.raw`"\"\\\000\255\195\169"`,
    },
    { kind: 'SPF', text: 'x', wire: '0178', printed: '"x"' },
    {
      kind: 'SOA',
      text: 'a b\\.c.d. 1 1h 1m30s 1W 0',
      wire: `${NAME} 03 622e63 01 64 00 00000001 00000e10 0000005a 00093a80 00000000`,
      printed: 'a.example.com. b\\.c.d. 1 3600 90 604800 0',
    },
    { kind: 'SRV', text: '1 2 65535 a', wire: `0001 0002 ffff ${NAME}`, printed: '1 2 65535 a.example.com.' },
    {
      kind: 'CAA',
      text: "128 issue 'ca.net; a=b'",
      wire: '80 05 6973737565 63612e6e65743b20613d62',
      printed: '128 issue "ca.net; a=b"',
    },
    { kind: 'HINFO', text: 'cpu os', wire: '03 637075 02 6f73', printed: '"cpu" "os"' },
    { kind: 'RP', text: 'a .', wire: `${NAME} 00`, printed: 'a.example.com. .' },
    {
      kind: 'NAPTR',
      text: String.raw`1 2 U E2U+sip '!^\\d$!x!' .`,
      wire: '0001 0002 01 55 07 4532552b736970 08 215e5c64 24 217821 00',
      printed: String.raw`1 2 "U" "E2U+sip" "!^\\d$!x!" .`,
    },
    { kind: 'DS', text: '60485 RSASHA256 2 ab CD', wire: 'ec45 08 02 abcd', printed: '60485 8 2 ABCD' },
    { kind: 'DNSKEY', text: '257 3 13 AwEA AQ==', wire: '0101 03 0d 03010001', printed: '257 3 13 AwEAAQ==' },
    { kind: 'TLSA', text: '3 1 1 abcd', wire: '03 01 01 abcd', printed: '3 1 1 ABCD' },
    { kind: 'SSHFP', text: '4 2 abcd', wire: '04 02 abcd', printed: '4 2 ABCD' },
    { kind: 'TYPE65280', text: '\\# 3 01 0203', wire: '010203', printed: '\\# 3 010203' },
    { kind: 'TYPE65280', text: '\\# 0', wire: '' },
    { kind: 'A', text: '\\# 4 C0000201', wire: 'c0000201', printed: '192.0.2.1' },
  ])('$kind $text', ({ kind, text, wire, printed }) => {
    expect(parse(kind, text)).toEqual(hex(wire))
    expect(formatData(type(kind), hex(wire))).toBe(printed ?? text)
  })

  it('bytes that do not fit their type are printed as bytes', () => {
    expect(formatData(type('A'), Uint8Array.of(1, 2, 3))).toBe('\\# 3 010203')
    expect(formatData(type('MX'), Uint8Array.of(0, 1, 5, 97))).toBe('\\# 4 00010561')
  })
})

describe('refused, with what would be right', () => {
  it.each([
    ['A', '192.0.2', /192.0.2 is no IPv4 address: write A 192.0.2.1/],
    ['A', '::1', /no IPv4 address/],
    ['AAAA', '1.2.3.4', /no IPv6 address/],
    ['A', '', /A needs more than that: write A 192.0.2.1/],
    ['A', '1.2.3.4 5', /5 is one word too many/],
    ['NS', 'a..b', /a..b is no name/],
    ['MX', 'mail', /mail is no number from 0 to 65535: write MX 10/],
    ['MX', '65536 mail', /no number from 0 to 65535/],
    ['SOA', 'ns admin@example.com 1 2 3 4 5', /a mailbox is written with a dot/],
    ['SOA', 'ns admin 4294967296 2 3 4 5', /no number from 0 to 4294967295/],
    ['SOA', 'ns admin 1 1x 3 4 5', /1x is no time/],
    ['SOA', 'ns admin 1 4294967296 3 4 5', /4294967296 is no time/],
    ['SOA', 'ns admin 1 2 3 4', /needs more than that/],
    ['TXT', 'a'.repeat(256), /256 bytes is too long: cut it into several/],
    ['TXT', 'a\\', /has a \\ without/],
    ['TXT', 'a\\25', /has a \\ without/],
    ['TXT', '\\256', /has a \\ without/],
    ['CAA', '0 is-sue x', /no tag/],
    ['CAA', '0 issue ca.net; a=b', /put text with spaces between quotes/],
    ['TLSA', '3 1 1 abc', /abc is no hex/],
    ['DS', '1 2 3', /needs more/],
    ['DNSKEY', '257 3 13 ===', /no base64/],
    ['TYPE65280', 'abc', /TYPE65280 is written as \\# LENGTH HEX/],
    ['TYPE65280', '\\# 2 abcdef', /3 bytes follow where 2 were announced/],
    ['TYPE65280', '\\# x', /length of the data is missing/],
    ['A', '\\# 3 010203', /these bytes are no data of A/],
    ['CNAME', '\\# 2 c00c', /these bytes are no data of CNAME/],
  ])('%s %s', (kind, text, problem) => expect(parse(kind, text)).toMatch(problem))

  it('words of a file cannot reach the terminal with more than letters', () => {
    expect(parse('A', '\u001b[31m\u202e')).toBe('?[31m? is no IPv4 address: write A 192.0.2.1')
    expect((parse('A', 'x'.repeat(10_000)) as string).length).toBeLessThan(150)
  })
})

const kinds = [
  'A',
  'AAAA',
  'NS',
  'MX',
  'TXT',
  'SOA',
  'SRV',
  'CAA',
  'HINFO',
  'RP',
  'NAPTR',
  'DS',
  'DNSKEY',
  'TLSA',
  'SSHFP',
  'PX',
  'TYPE65280',
]

describe('properties', () => {
  it('any bytes, printed and read again, are the same bytes', () => {
    fc.assert(
      fc.property(fc.constantFrom(...kinds), fc.uint8Array({ maxLength: 60 }), (kind, data) => {
        const text = formatData(type(kind), data)
        if (isData(type(kind), data)) expect(records(`@ 1 ${kind} ${text}`)[0]!.data).toEqual(data)
        else expect(text).toMatch(/^\\# /)
      }),
      { numRuns: 5000 },
    )
  })

  it('texts of any bytes, printed and read again, are the same', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 255 }), { minLength: 1, maxLength: 3 }), strings => {
        const data = Uint8Array.from(strings.flatMap(one => [one.length, ...one]))
        expect(records(`@ 1 TXT ${formatData(type('TXT'), data)}`)[0]!.data).toEqual(data)
      }),
    )
  })
})

it('dns-packet writes the same bytes', () => {
  const answers: dnsPacket.Answer[] = [
    {
      type: 'CAA',
      name: 'example.com',
      ttl: 1,
      data: { flags: 128, issuerCritical: true, tag: 'issue', value: 'ca.net' },
    },
    { type: 'HINFO', name: 'example.com', ttl: 1, data: { cpu: 'cpu', os: 'os' } },
    { type: 'RP', name: 'example.com', ttl: 1, data: { mbox: 'admin.example.com', txt: 'about.example.com' } },
    {
      type: 'NAPTR',
      name: 'example.com',
      ttl: 1,
      data: { order: 1, preference: 2, flags: 'U', services: 'E2U+sip', regexp: '!x!y!', replacement: '.' },
    },
    {
      type: 'DS',
      name: 'example.com',
      ttl: 1,
      data: { keyTag: 60485, algorithm: 8, digestType: 2, digest: Buffer.from('abcd', 'hex') },
    },
    {
      type: 'DNSKEY',
      name: 'example.com',
      ttl: 1,
      data: { flags: 257, algorithm: 13, key: Buffer.from([3, 1, 0, 1]) },
    },
    {
      type: 'TLSA',
      name: 'example.com',
      ttl: 1,
      data: { usage: 3, selector: 1, matchingType: 1, certificate: Buffer.from('abcd', 'hex') },
    },
    { type: 'SSHFP', name: 'example.com', ttl: 1, data: { algorithm: 4, hash: 2, fingerprint: 'ab'.repeat(32) } },
    { type: 'SRV', name: 'example.com', ttl: 1, data: { priority: 1, weight: 2, port: 3, target: 'a.example.com' } },
    { type: 'TXT', name: 'example.com', ttl: 1, data: ['a b', 'c'] },
  ]
  const theirs = decoded(Uint8Array.from(dnsPacket.encode({ type: 'response', answers })))
  const ours = records(
    `@ 1 CAA 128 issue ca.net
     @ 1 HINFO cpu os
     @ 1 RP admin about
     @ 1 NAPTR 1 2 U E2U+sip !x!y! .
     @ 1 DS 60485 8 2 abcd
     @ 1 DNSKEY 257 3 13 AwABAA==
     @ 1 TLSA 3 1 1 abcd
     @ 1 SSHFP 4 2 ${'ab'.repeat(32)}
     @ 1 SRV 1 2 3 a
     @ 1 TXT "a b" c`
      .replaceAll(/^ +/gm, '')
      .replace('AwABAA==', 'AwEAAQ=='),
  )
  expect(theirs.answers).toEqual(ours)
})

it.each([
  ['0', 0],
  ['2147483647', 2147483647],
  ['1h30m', 5400],
  ['1W2D3H4M5S', 788_645],
  ['2147483648', undefined],
  ['4000w', undefined],
  ['1h30', undefined],
  ['-1', undefined],
  ['', undefined],
  ['9'.repeat(100), undefined],
])('the time %s is %s seconds', (text, seconds) => expect(parseTtl(text)).toBe(seconds))

it('times of a SOA record use all 32 bits, and are read as they are printed', () => {
  const [soa] = records('@ 1 SOA ns admin 1 4294967295 2147483648 3 4')
  expect(formatData(soa!.type, soa!.data)).toBe('ns.example.com. admin.example.com. 1 4294967295 2147483648 3 4')
})

it('data that differs in the case of its names alone says the same', () => {
  const [a, b, c] = records('@ 1 MX 1 MAIL\n@ 1 MX 1 mail\n@ 1 TXT A').map(one => dataKey(one.type, one.data))
  expect(a).toBe(b)
  expect(c).toBe('\x01A')
})
