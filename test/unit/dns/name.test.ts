/** Names: text and bytes, case, and what lies below what. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addressOfReverse,
  compareNames,
  countLabels,
  formatName,
  isAtOrBelow,
  joinNames,
  labelsOf,
  lowerName,
  nameOfLabels,
  parentOf,
  parseName,
  ROOT,
  reverseName,
} from '../../../dns/name.ts'
import { name } from './builders.ts'

const anyLabel = fc.uint8Array({ minLength: 1, maxLength: 63 }).map(bytes => Buffer.from(bytes).toString('latin1'))
const anyName = fc
  .array(anyLabel, { maxLength: 6 })
  .map(nameOfLabels)
  .filter(one => one !== undefined)

describe('text', () => {
  it.each([
    { text: 'www.example.com.', wire: '\x03www\x07example\x03com\0' },
    { text: 'www', wire: '\x03www\x07example\x03com\0' },
    { text: '@', wire: '\x07example\x03com\0' },
    { text: '.', wire: '\0' },
    { text: 'a\\.b.', wire: '\x03a.b\0' },
    { text: '\\000\\255.', wire: '\x02\0\xff\0' },
    { text: '\\@.', wire: '\x01@\0' },
    { text: `${'a'.repeat(63)}.`, wire: `?${'a'.repeat(63)}\0` },
  ])('$text', ({ text, wire }) => expect(parseName(text, name('example.com.'))).toBe(wire))

  it.each([
    ['an empty label', 'a..b.'],
    ['a dot first', '.a.'],
    ['nothing', ''],
    ['a label of 64', `${'a'.repeat(64)}.`],
    ['more than 255 bytes', `${'abcdefg.'.repeat(32)}`],
    ['a code beyond a byte', '\\256.'],
    ['an escape of nothing', 'a\\'],
    ['a character beyond a byte', 'ā.'],
  ])('%s is no name', (_, text) => expect(parseName(text)).toBeUndefined())

  it('every name can be written and read again', () => {
    fc.assert(fc.property(anyName, one => parseName(formatName(one)) === one))
  })
})

describe('structure', () => {
  it('labels are taken apart and put together', () => {
    fc.assert(
      fc.property(anyName, one => nameOfLabels(labelsOf(one)) === one && countLabels(one) === labelsOf(one).length),
    )
  })

  it('only letters have a lower case', () => {
    expect(lowerName('\x03A@Z\x02\xc0[\0')).toBe('\x03a@z\x02\xc0[\0')
  })

  it('a dot within a label is none between labels', () => {
    expect(isAtOrBelow(name('a\\.example.com.'), name('example.com.'))).toBe(false)
    expect(isAtOrBelow(name('a.example.com.'), name('example.com.'))).toBe(true)
    expect(isAtOrBelow(name('xexample.com.'), name('example.com.'))).toBe(false)
  })

  it('a label that looks like a name is not below it', () => {
    // the last bytes of the label spell the wire form of example.com
    expect(
      isAtOrBelow('\x0ex\x07example\x03com\0'.replace('\x0ex', '\x0fxx').slice(0, -1), '\x07example\x03com\0'),
    ).toBe(false)
  })

  it('every name is below its parents', () => {
    fc.assert(
      fc.property(anyName, one => {
        for (let up = parentOf(one); up !== undefined; up = parentOf(up)) if (!isAtOrBelow(one, up)) return false
        return isAtOrBelow(one, ROOT)
      }),
    )
  })

  it('a name that grows too long is none', () => {
    const long = nameOfLabels(Array.from({ length: 3 }, () => 'a'.repeat(63)))!
    expect(joinNames(long, name('example.com.'))).toHaveLength(3 * 64 + 13)
    expect(joinNames(long, long)).toBeUndefined()
  })
})

it('names are in the order of RFC 4034 section 6.1', () => {
  const sorted = [
    'example.',
    'a.example.',
    'yljkjljk.a.example.',
    'Z.a.example.',
    'zABC.a.EXAMPLE.',
    'z.example.',
    '\\001.z.example.',
    '*.z.example.',
    '\\200.z.example.',
  ]
  expect(
    [...sorted]
      .reverse()
      .map(text => name(text))
      .sort(compareNames),
  ).toEqual(sorted.map(text => name(text)))
})

it.each([
  { bytes: [192, 0, 2, 1], text: '1.2.0.192.in-addr.arpa.' },
  {
    bytes: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    text: `1.${'0.'.repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa.`,
  },
])('the reverse name $text', ({ bytes, text }) => {
  expect(formatName(reverseName(Uint8Array.from(bytes)))).toBe(text)
  expect(addressOfReverse(name(text))).toEqual(Uint8Array.from(bytes))
})

it.each([
  '2.0.192.in-addr.arpa.',
  '01.2.0.192.in-addr.arpa.',
  '256.2.0.192.in-addr.arpa.',
  '1.ip6.arpa.',
  'example.com.',
])('%s is about no address', text => expect(addressOfReverse(name(text))).toBeUndefined())
