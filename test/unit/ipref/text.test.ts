import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseAaRecord } from '../../../ipref/aaRecord.ts'
import {
  bytesFromWords,
  formatAddress,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
  prefixWords,
  wordsFromBytes,
} from '../../../ipref/address.ts'
import { parseHostsFile } from '../../../ipref/hostsFile.ts'
import {
  decodeReference,
  encodeReferences,
  formatReference,
  MAX_REFERENCE,
  parseReference,
  referenceFromWords,
  wordsFromReference,
} from '../../../ipref/reference.ts'

const reference = fc.bigInt({ min: 0n, max: MAX_REFERENCE })
const address = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))

describe('references', () => {
  it('are read as they were printed', () => {
    fc.assert(fc.property(reference, value => parseReference(formatReference(value)) === value))
  })
  it('are the same as words', () => {
    fc.assert(fc.property(reference, value => referenceFromWords(wordsFromReference(value)) === value))
  })
  it('survive the form of a tunnel header, in the shortest length that holds both', () => {
    fc.assert(
      fc.property(reference, reference, (a, b) => {
        const e = encodeReferences(a, b)
        return decodeReference(e.source) === a && decodeReference(e.destination) === b && e.source.length === e.length
      }),
    )
  })
  it.each(['', '-', '--1', '1-', '+5', ' 5', '1--2--3', '12345-1', '340282366920938463463374607431768211456', 'x'])(
    '%j is none',
    text => {
      expect(parseReference(text)).toBeUndefined()
    },
  )
})

describe('addresses', () => {
  it('are read as they were printed', () => {
    fc.assert(fc.property(address, bytes => Buffer.from(parseAddress(formatAddress(bytes))!).equals(bytes)))
  })
  it('are the same as words, but that an IPv4-mapped one is IPv4', () => {
    fc.assert(fc.property(address, bytes => Buffer.from(bytesFromWords(wordsFromBytes(bytes))).equals(bytes)))
  })
  it.each([
    ['::', '::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::ffff:1.2.3.4', '::ffff:1.2.3.4'],
    ['fe80::1', 'fe80::1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ])('%s is printed as RFC 5952 says: %s', (text, printed) => {
    expect(formatAddress(parseAddress(text)!)).toBe(printed)
  })
  it.each([
    '',
    '1.2.3',
    '1.2.3.04',
    '1.2.3.256',
    ':::',
    '1::2::3',
    '12345::',
    '1:2:3:4:5:6:7:8:9',
    'fe80::1%eth0',
    '1.2.3.4:',
    ' 1.2.3.4',
  ])('%j is none', text => {
    expect(parseAddress(text)).toBeUndefined()
  })
  it('prefixes hold what they hold', () => {
    const net = parsePrefix('10.240.0.0/12')!
    expect(prefixContains(net, parseAddress('10.255.1.1')!)).toBe(true)
    expect(prefixContains(net, parseAddress('10.239.255.255')!)).toBe(false)
    expect(prefixesOverlap(net, parsePrefix('10.0.0.0/8')!)).toBe(true)
    expect(parsePrefix('10.241.0.0/12')).toBeUndefined()
    const { mask, network } = prefixWords(net)
    const inside = wordsFromBytes(parseAddress('10.250.0.1')!)
    expect(inside.every((word, i) => (word & mask[i]!) === network[i])).toBe(true)
  })
})

describe('AA records', () => {
  it.each([
    ['AA 198.51.100.1 + 11', { context: Uint8Array.of(198, 51, 100, 1), reference: 11n }],
    ['AA gw.example.com+0-7000', { name: 'gw.example.com', reference: 0x7000n }],
    ['aa 198.51.100.1 + 11', undefined],
    ['AA 198.51.100.1 11', 'no_plus'],
    ['AA a + 1 + 2', 'several_plus'],
    ['AA 1.2.3 + 1', 'context_invalid'],
    ['AA gw.example.com + x', 'reference_invalid'],
  ])('%j', (text, meaning) => {
    expect(parseAaRecord(text)).toEqual(meaning)
  })
})

describe('hosts files', () => {
  it('no text makes them throw, and every error names its line', () => {
    const line = fc.constantFrom(
      '10.1.0.2 a #= pub + 11',
      '10.240.1.2 b #= ext 198.51.100.2 + 22',
      'x #= pub + 1',
      '#',
      '10.1.0.2 #= ext + 3',
      '10.1.0.2 #= foo',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string())), lines => {
        const { errors } = parseHostsFile(lines.join('\n'))
        return errors.every(error => error.line >= 1 && error.problem.length > 0)
      }),
    )
  })
  it.each([
    ['10.1.0.300 a #= pub + 1', '10.1.0.300 is no IP address'],
    ['10.1.0.2 a #= publish + 1', 'publish after `#=`; it is one of pub, ext, loc'],
    ['10.240.1.2 a #= ext + 5', 'ext needs the address of their gateway; write ext CONTEXT + REFERENCE'],
    ['10.240.1.2 a #= ext 198.51.100.2 +', 'the reference is missing'],
  ])('%s: %s', (line, problem) => {
    expect(parseHostsFile(line).errors).toEqual([{ line: 1, problem: expect.stringContaining(problem) }])
  })
})
