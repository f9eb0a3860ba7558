/** The codec: golden bytes, refusals (RFC 9267), properties, and a second opinion. */
import dnsPacket from 'dns-packet'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Class, Flag, Type } from '../../../dns/constants.ts'
import {
  decodeMessage,
  decodeSoa,
  encodeMessage,
  encodeSoa,
  isNewerSerial,
  type Message,
  type ResourceRecord,
} from '../../../dns/message.ts'
import { type Name, nameOfLabels, nameToBytes } from '../../../dns/name.ts'
import { decoded, edns, hex, name, query, records } from './builders.ts'

const HEAD = '1234 0000 0001 0000 0000 0000'
const answering = (count: string) => `1234 8000 0001 ${count} 0000 0000`
const QUESTION = '03777777 076578616d706c65 03636f6d 00 0001 0001'

describe('golden', () => {
  it('a query', () => {
    expect(query('www.example.com. A')).toEqual(hex(`${HEAD} ${QUESTION}`))
  })

  it('an answer with its name compressed', () => {
    const answers = records('www 60 A 192.0.2.1')
    const bytes = query('www.example.com. A', { flags: Flag.QR, answers })
    expect(bytes).toEqual(hex(`${answering('0001')} ${QUESTION} c00c 0001 0001 0000003c 0004 c0000201`))
    expect(decoded(bytes).answers).toEqual(answers)
  })

  it('names in the data of SRV are not compressed, those of MX are', () => {
    const answers = records('www 60 MX 5 www\nwww 60 SRV 1 2 3 www')
    const bytes = query('www.example.com. A', { flags: Flag.QR, answers })
    const mx = 'c00c 000f 0001 0000003c 0004 0005 c00c'
    const srv = 'c00c 0021 0001 0000003c 0017 0001 0002 0003 03777777 076578616d706c65 03636f6d 00'
    expect(bytes).toEqual(hex(`${answering('0002')} ${QUESTION} ${mx} ${srv}`))
    expect(decoded(bytes).answers).toEqual(answers)
  })

  it('compression keeps the case of every name', () => {
    const answers = records('WWW 60 A 192.0.2.1')
    expect(decoded(query('www.example.com. A', { flags: Flag.QR, answers })).answers[0]!.name).toBe(
      name('WWW.example.com.'),
    )
  })

  it('EDNS, with an option', () => {
    const opt = edns({
      dnssecOk: true,
      extendedRcode: 1,
      version: 2,
      options: [{ code: 10, data: Uint8Array.of(1, 2) }],
    })
    const bytes = query('. NS', { edns: opt })
    expect(bytes).toEqual(hex('1234 0000 0001 0000 0000 0001 00 0002 0001 00 0029 04d0 01028000 0006 000a 0002 0102'))
    expect(decoded(bytes).edns).toEqual(opt)
  })

  it('a TTL with its top bit set is 0 (RFC 2181 section 8)', () => {
    const bytes = hex(`${answering('0001')} ${QUESTION} c00c 0001 0001 80000001 0004 c0000201`)
    expect(decoded(bytes).answers[0]!.ttl).toBe(0)
  })

  it('record data is written with its names whole when it is read', () => {
    const bytes = hex(`${answering('0001')} ${QUESTION} c00c 0005 0001 00000001 0002 c010`)
    expect(decoded(bytes).answers[0]!.data).toEqual(nameToBytes(name('example.com.')))
  })

  it('in an update, and only there, records of class ANY and NONE have no data', () => {
    const bytes = hex('1234 2800 0000 0000 0002 0000 00 0006 00ff 00000000 0000 00 0001 00fe 00000000 0000')
    expect(decoded(bytes).authority.map(one => one.data.length)).toEqual([0, 0])
  })

  it('an answer that is too long says so, without records', () => {
    const answers = records(Array.from({ length: 50 }, (_, i) => `www 60 A 192.0.2.${i}`).join('\n'))
    const bytes = encodeMessage({ ...decoded(query('www.example.com. A')), flags: Flag.QR, answers, edns: edns() }, 512)
    expect(decoded(bytes)).toMatchObject({ flags: Flag.QR | Flag.TC, answers: [], edns: {}, questions: [{}] })
  })
})

describe('refused', () => {
  const one = (rest: string) => `1234 8000 0000 0001 0000 0000 ${rest}`
  const extra = (rest: string, count = '0001') => `1234 0000 0000 0000 0000 ${count} ${rest}`
  it.each([
    { what: 'less than a header', wire: '1234 0000 0001', fault: 'short' },
    { what: 'no question where one is announced', wire: HEAD, fault: 'truncated' },
    { what: '65535 questions announced', wire: `1234 0000 ffff 0000 0000 0000 ${QUESTION}`, fault: 'truncated' },
    { what: 'a question cut in its type', wire: `${HEAD} 00 00`, fault: 'truncated' },
    { what: 'a label that is cut', wire: `${HEAD} 05 6161`, fault: 'truncated' },
    { what: 'a name without an end', wire: `${HEAD} 01 61`, fault: 'truncated' },
    { what: 'a pointer that is cut', wire: `${HEAD} c0`, fault: 'truncated' },
    { what: 'a pointer to itself', wire: `${HEAD} c00c 0001 0001`, fault: 'pointer' },
    { what: 'a pointer forward', wire: `${HEAD} c012 0001 0001 00`, fault: 'pointer' },
    { what: 'a pointer beyond the message', wire: `${HEAD} ffff 0001 0001`, fault: 'pointer' },
    { what: 'a pointer into the header', wire: `${HEAD} c002 0001 0001`, fault: 'pointer' },
    {
      what: 'two pointers that lead to each other',
      wire: one('0161c010 0161c00c 0001 0001 00000000 0000'),
      fault: 'pointer',
    },
    { what: 'a pointer into its own labels', wire: `${HEAD} 0161 c00c 0001 0001`, fault: 'pointer' },
    { what: 'a label of type 01', wire: `${HEAD} 4161 00 0001 0001`, fault: 'label' },
    { what: 'a label of type 10', wire: `${HEAD} 8161 00 0001 0001`, fault: 'label' },
    {
      what: 'a name of 256 bytes',
      wire: `${HEAD} ${`3f${'61'.repeat(63)}`.repeat(3)} 3e ${'61'.repeat(62)} 00 0001 0001`,
      fault: 'name',
    },
    { what: 'RDLENGTH beyond the message', wire: one('00 0001 0001 00000000 0005 01020304'), fault: 'truncated' },
    { what: 'an address of 3 bytes', wire: one('00 0001 0001 00000000 0003 010203'), fault: 'data' },
    { what: 'an address of 17 bytes', wire: one('00 001c 0001 00000000 0011 00*17'), fault: 'data' },
    { what: 'RDLENGTH shorter than its name', wire: one('00 0005 0001 00000000 0001 0161 00'), fault: 'data' },
    { what: 'RDLENGTH longer than its name', wire: one('00 0005 0001 00000000 0004 016100 00'), fault: 'data' },
    { what: 'a SOA record of class ANY without data', wire: one('00 0006 00ff 00000000 0000'), fault: 'truncated' },
    { what: 'an address of class NONE without data', wire: one('00 0001 00fe 00000000 0000'), fault: 'data' },
    { what: 'a SOA record without its numbers', wire: one('00 0006 0001 00000000 0002 0000'), fault: 'truncated' },
    { what: 'a text that is longer than its data', wire: one('00 0010 0001 00000000 0002 0561'), fault: 'data' },
    { what: 'a text without strings', wire: one('00 0010 0001 00000000 0000'), fault: 'data' },
    { what: 'bytes after the last record', wire: `${HEAD} ${QUESTION} 00`, fault: 'trailing' },
    {
      what: 'two OPT records',
      wire: extra('00 0029 0200 00000000 0000 00 0029 0200 00000000 0000', '0002'),
      fault: 'opt',
    },
    { what: 'OPT under a name', wire: extra('016100 0029 0200 00000000 0000'), fault: 'opt' },
    { what: 'OPT among the answers', wire: one('00 0029 0200 00000000 0000'), fault: 'opt' },
    { what: 'an option longer than OPT', wire: extra('00 0029 0200 00000000 0005 000a 0002 01'), fault: 'opt' },
    {
      what: 'TSIG that is not last',
      wire: extra('00 00fa 00ff 00000000 0000 00 0001 0001 00000000 0004 01020304', '0002'),
      fault: 'tsig',
    },
    { what: 'TSIG of class IN', wire: extra('00 00fa 0001 00000000 0000'), fault: 'tsig' },
    { what: 'TSIG among the answers', wire: one('00 00fa 00ff 00000000 0000'), fault: 'tsig' },
    { what: 'more than 65,535 bytes', wire: '00*65536', fault: 'long' },
  ])('$what', ({ wire, fault }) => expect(decodeMessage(hex(wire))).toBe(fault))

  it('no bytes make it throw', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      // few counts and many pointers, so that more of it is read
      fc
        .array(fc.constantFrom(0, 1, 2, 5, 6, 15, 41, 63, 97, 192, 193, 250, 255), { maxLength: 200 })
        .map(rest => Uint8Array.from([0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 2, ...rest])),
    )
    fc.assert(
      fc.property(bytes, one => void decodeMessage(one)),
      { numRuns: 20_000 },
    )
  })

  // the data of the first record is a chain of links; the record after it is named by its end
  const chained = (links: number, link: readonly number[]): Uint8Array => {
    const length = 1 + links * (link.length + 2)
    const bytes = new Uint8Array(23 + length + 12)
    bytes.set([0, 0, 0x80, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 255, 0, 1, 0, 0, 0, 0, length >> 8, length & 255])
    let last = 23
    for (let at = 24; at < 23 + length; at += link.length + 2) {
      bytes.set([...link, 0xc0 | (last >> 8), last & 255], at)
      last = at
    }
    bytes.set([0xc0 | (last >> 8), last & 255, 0, 255, 0, 1], 23 + length)
    return bytes
  }

  it('a name of 126 labels, each behind a pointer, is read; one of 128 is none', () => {
    expect(decoded(chained(126, [1, 97])).answers[1]!.name).toBe(name('a.'.repeat(126)))
    expect(decoded(chained(127, [1, 97])).answers[1]!.name).toBe(name('a.'.repeat(127)))
    expect(decodeMessage(chained(128, [1, 97]))).toBe('name')
  })

  it('pointers to pointers are followed 128 times, not for ever', () => {
    expect(decoded(chained(127, [])).answers[1]!.name).toBe(name('.'))
    expect(decodeMessage(chained(128, []))).toBe('pointer')
    expect(decodeMessage(chained(8000, []))).toBe('pointer')
  })
})

// ---- properties

const label = fc.uint8Array({ minLength: 1, maxLength: 20 }).map(bytes => Buffer.from(bytes).toString('latin1'))
const plainLabel = fc.stringMatching(/^[a-zA-Z0-9_-]{1,20}$/)
const nameOf = (labels: fc.Arbitrary<string>): fc.Arbitrary<Name> =>
  fc.array(labels, { maxLength: 6 }).map(list => nameOfLabels(list)!)
const u16 = fc.integer({ min: 0, max: 65535 })
const u32 = fc.integer({ min: 0, max: 0xffffffff })
const ttl = fc.integer({ min: 0, max: 0x7fffffff })

function dataFor(owner: fc.Arbitrary<Name>): fc.Arbitrary<Pick<ResourceRecord, 'type' | 'data'>> {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
  const ofNames = owner.map(one => nameToBytes(one))
  const soa = fc
    .record({ primary: owner, mailbox: owner, serial: u32, refresh: u32, retry: u32, expire: u32, minimum: u32 })
    .map(encodeSoa)
  const mx = fc
    .tuple(u16, ofNames)
    .map(([preference, host]) => Uint8Array.from([preference >> 8, preference & 255, ...host]))
  const text = fc
    .array(fc.uint8Array({ maxLength: 255 }), { minLength: 1, maxLength: 3 })
    .map(list => Uint8Array.from(list.flatMap(one => [one.length, ...one])))
  const of = (types: readonly number[], data: fc.Arbitrary<Uint8Array>) =>
    fc.tuple(fc.constantFrom(...types), data).map(([kind, value]) => ({ type: kind, data: value }))
  return fc.oneof(
    of([Type.A], bytes(4)),
    of([Type.AAAA], bytes(16)),
    of([Type.NS, Type.CNAME, Type.PTR, Type.DNAME], ofNames),
    of([Type.MX], mx),
    of([Type.SOA], soa),
    of([Type.TXT], text),
    of([65280], fc.uint8Array({ maxLength: 40 })),
  )
}

function recordFor(owner: fc.Arbitrary<Name>): fc.Arbitrary<ResourceRecord> {
  return fc
    .tuple(owner, ttl, dataFor(owner))
    .map(([one, seconds, rest]) => ({ name: one, class: Class.IN, ttl: seconds, ...rest }))
}

function messageFor(owner: fc.Arbitrary<Name>): fc.Arbitrary<Message> {
  const section = fc.array(recordFor(owner), { maxLength: 4 })
  return fc
    .record({
      id: u16,
      flags: fc.constantFrom(0, Flag.QR, Flag.QR | Flag.AA | Flag.RD, Flag.RD | Flag.AD),
      questions: fc.array(fc.record({ name: owner, type: u16, class: u16 }), { maxLength: 2 }),
      answers: section,
      authority: section,
      additional: section,
      edns: fc.option(
        fc.record({
          payloadSize: u16,
          extendedRcode: fc.integer({ min: 0, max: 255 }),
          version: fc.integer({ min: 0, max: 255 }),
          dnssecOk: fc.boolean(),
          options: fc.array(fc.record({ code: u16, data: fc.uint8Array({ maxLength: 20 }) }), { maxLength: 3 }),
        }),
        { nil: undefined },
      ),
    })
    .map(({ edns: opt, ...rest }) => ({ ...rest, ...(opt ? { edns: opt } : {}) }))
}

describe('round trips', () => {
  it('every message is read as it was written', () => {
    fc.assert(
      fc.property(messageFor(nameOf(label)), message => {
        expect(decodeMessage(encodeMessage(message))).toEqual(message)
      }),
      { numRuns: 500 },
    )
  })

  it('cut anywhere, a message is refused', () => {
    fc.assert(
      fc.property(messageFor(nameOf(label)), fc.double({ min: 0, max: 1, noNaN: true }), (message, where) => {
        const bytes = encodeMessage(message)
        const cut = bytes.subarray(0, Math.floor(where * (bytes.length - 1)))
        if (bytes.length > 12) expect(typeof decodeMessage(cut)).toBe('string')
      }),
    )
  })

  it('SOA data', () => {
    const soa = {
      primary: name('a.'),
      mailbox: name('b.c.'),
      serial: 0xffffffff,
      refresh: 1,
      retry: 2,
      expire: 3,
      minimum: 4,
    }
    expect(decodeSoa(encodeSoa(soa))).toEqual(soa)
  })
})

describe('dns-packet, a second opinion', () => {
  it('reads and writes what we write, and we read it again', () => {
    const messages = messageFor(nameOf(plainLabel)).map(({ edns: _, ...message }) => ({
      ...message,
      questions: message.questions.map(question => ({ ...question, type: Type.A, class: Class.IN })),
      answers: message.answers.filter(one => one.type !== 65280),
      authority: message.authority.filter(one => one.type !== 65280),
      additional: message.additional.filter(one => one.type !== 65280),
    }))
    fc.assert(
      fc.property(messages, message => {
        const theirs = dnsPacket.encode(dnsPacket.decode(Buffer.from(encodeMessage(message))))
        expect(decodeMessage(Uint8Array.from(theirs))).toEqual(message)
      }),
      { numRuns: 500 },
    )
  })

  it('writes what we read', () => {
    const answers: dnsPacket.Answer[] = [
      { type: 'A', name: 'a.example.com', ttl: 5, data: '192.0.2.1' },
      {
        type: 'SOA',
        name: 'example.com',
        ttl: 6,
        data: {
          mname: 'ns.example.com',
          rname: 'admin.example.com',
          serial: 7,
          refresh: 8,
          retry: 9,
          expire: 10,
          minimum: 11,
        },
      },
      { type: 'MX', name: 'example.com', ttl: 7, data: { preference: 12, exchange: 'mail.example.com' } },
      {
        type: 'SRV',
        name: '_x._tcp.example.com',
        ttl: 8,
        data: { priority: 1, weight: 2, port: 3, target: 'a.example.com' },
      },
    ]
    const bytes = dnsPacket.encode({ type: 'response', id: 9, flags: 0, questions: [], answers })
    const expected = records('a 5 A 192.0.2.1\n@ 6 SOA ns admin 7 8 9 10 11\n@ 7 MX 12 mail\n_x._tcp 8 SRV 1 2 3 a')
    expect(decoded(Uint8Array.from(bytes)).answers).toEqual(expected)
  })
})

describe('serials (RFC 1982)', () => {
  it.each([
    { a: 2, b: 1, newer: true },
    { a: 1, b: 2, newer: false },
    { a: 1, b: 1, newer: false },
    { a: 0, b: 0xffffffff, newer: true },
    { a: 0xffffffff, b: 0, newer: false },
    { a: 0x7fffffff, b: 0, newer: true },
    { a: 0x80000000, b: 0, newer: false },
    { a: 0, b: 0x80000000, newer: false },
  ])('$a is newer than $b: $newer', ({ a, b, newer }) => expect(isNewerSerial(a, b)).toBe(newer))
})
