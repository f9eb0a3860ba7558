/** What an authoritative server answers to every kind of message: bytes in, bytes out. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Class, Flag, Opcode, Rcode, Type } from '../../../dns/constants.ts'
import { encodeMessage, encodeSoa, type Message, type MessageParts, rcodeOf } from '../../../dns/message.ts'
import { TsigSigner, TsigVerifier, tsigErrorOf } from '../../../dns/tsig.ts'
import { MAX_UDP, type ResponderSettings, type Transfer, ZoneResponder } from '../../../dns/zoneResponder.ts'
import { parsePrefix } from '../../../ipref/address.ts'
import { decoded, EXAMPLE, edns, hex, key, lines, name, query, zone } from './builders.ts'

const NOW = 1_700_000_000
const now = () => NOW
const LOCAL = Uint8Array.of(127, 0, 0, 1)
const udp = { transport: 'udp', address: LOCAL } as const
const tcp = { transport: 'tcp', address: LOCAL } as const

const TEXT = `www A 192.0.2.2
big TXT ${Array.from({ length: 4 }, (_, i) => String(i).repeat(200)).join(' ')}
huge TXT ${Array.from({ length: 20 }, (_, i) => String.fromCharCode(97 + i).repeat(200)).join(' ')}
mx MX 1 host
${Array.from({ length: 30 }, (_, i) => `host A 192.0.2.${i}`).join('\n')}
sub NS ns.sub
${Array.from({ length: 100 }, (_, i) => `ns.sub A 192.0.2.${i}`).join('\n')}
`

function responder(settings: Partial<ResponderSettings> = {}): ZoneResponder {
  const all = { keys: [key()], transferAllow: [parsePrefix('127.0.0.0/8')!], transferKeys: [], ...settings }
  const one = new ZoneResponder(all, { now })
  one.setZone(zone(TEXT))
  return one
}

const server = responder()

function ask(text: string, parts: Partial<MessageParts> = {}, from: typeof udp | typeof tcp = udp): Message {
  return decoded(server.answer(query(text, parts), from))
}

function all(transfer: unknown): Message[] {
  if (!transfer || transfer instanceof Uint8Array) throw new Error('no transfer')
  return messagesOf(transfer as Transfer).map(decoded)
}

function messagesOf({ messages }: Transfer): Uint8Array[] {
  const list: Uint8Array[] = []
  for (let next = messages.next(); !next.done; next = messages.next()) list.push(next.value)
  return list
}

describe('an answer', () => {
  it('has the id, the question and RD of its query, and AA', () => {
    expect(ask('WWW.example.com. A', { flags: Flag.RD | Flag.AD | Flag.CD, id: 7 })).toMatchObject({
      id: 7,
      flags: Flag.QR | Flag.AA | Flag.RD,
      questions: [{ name: name('WWW.example.com.'), type: Type.A, class: Class.IN }],
      answers: [{ name: name('WWW.example.com.') }],
    })
  })

  it('has OPT when there was one, with DO and without its options', () => {
    expect(ask('www.example.com. A').edns).toBeUndefined()
    const asked = edns({
      dnssecOk: true,
      options: [
        { code: 10, data: new Uint8Array(8) },
        { code: 65001, data: new Uint8Array() },
      ],
    })
    expect(ask('www.example.com. A', { edns: asked }).edns).toEqual(edns({ payloadSize: MAX_UDP, dnssecOk: true }))
  })

  it.each([
    { what: 'without EDNS', owner: 'big', parts: {}, most: 512, truncated: true },
    { what: 'with EDNS', owner: 'big', parts: { edns: edns() }, most: 1232, truncated: false },
    {
      what: 'with EDNS of less than 512',
      owner: 'big',
      parts: { edns: edns({ payloadSize: 0 }) },
      most: 512,
      truncated: true,
    },
    {
      what: 'with EDNS of 4096, which could be fragmented',
      owner: 'huge',
      parts: { edns: edns({ payloadSize: 4096 }) },
      most: 1232,
      truncated: true,
    },
  ])('over UDP is short $what', ({ owner, parts, most, truncated }) => {
    const bytes = server.answer(query(`${owner}.example.com. TXT`, parts), udp) as Uint8Array
    expect(bytes.length).toBeLessThanOrEqual(most)
    expect((decoded(bytes).flags & Flag.TC) !== 0).toBe(truncated)
    expect(decoded(bytes).answers).toHaveLength(truncated ? 0 : 1)
  })

  it('over TCP is whole', () => {
    expect(ask('huge.example.com. TXT', {}, tcp)).toMatchObject({ flags: Flag.QR | Flag.AA, answers: [{}] })
  })

  it('leaves addresses out before it is truncated, but never glue', () => {
    expect(ask('mx.example.com. MX')).toMatchObject({ flags: Flag.QR | Flag.AA, answers: [{}], additional: [] })
    expect(ask('x.sub.example.com. A')).toMatchObject({ flags: Flag.QR | Flag.TC, authority: [], additional: [] })
  })

  it('to DS comes from the zone above', () => {
    const both = responder()
    both.setZone(zone('', name('www.example.com.')))
    const soaOf = (text: string) => decoded(both.answer(query(text), udp)).authority[0]!.name
    expect(soaOf('www.example.com. DS')).toBe(EXAMPLE)
    expect(soaOf('www.example.com. MX')).toBe(name('www.example.com.'))
    expect(soaOf('x.www.example.com. DS')).toBe(name('www.example.com.'))
  })
})

describe('refusals', () => {
  it.each([
    { what: 'a name that is in no zone here', bytes: query('example.org. A'), rcode: Rcode.REFUSED },
    {
      what: 'another class',
      bytes: query('example.com. A', { questions: [{ name: EXAMPLE, type: 1, class: Class.CH }] }),
      rcode: Rcode.REFUSED,
    },
    {
      what: 'class ANY',
      bytes: query('example.com. A', { questions: [{ name: EXAMPLE, type: 1, class: Class.ANY }] }),
      rcode: Rcode.REFUSED,
    },
    { what: 'no question', bytes: query('example.com. A', { questions: [] }), rcode: Rcode.FORMERR },
    {
      what: 'two questions',
      bytes: query('example.com. A', { questions: Array(2).fill({ name: EXAMPLE, type: 1, class: 1 }) }),
      rcode: Rcode.FORMERR,
    },
    { what: 'a question that is cut', bytes: query('example.com. A').subarray(0, 20), rcode: Rcode.FORMERR },
    { what: 'a byte too many', bytes: Uint8Array.from([...query('example.com. A'), 0]), rcode: Rcode.FORMERR },
    { what: 'a pointer to itself', bytes: hex('1234 0000 0001 0000 0000 0000 c00c 0001 0001'), rcode: Rcode.FORMERR },
    {
      what: 'EDNS of a later version',
      bytes: query('example.com. A', { edns: edns({ version: 1 }) }),
      rcode: Rcode.BADVERS,
    },
    { what: 'NOTIFY', bytes: query('example.com. SOA', { flags: Opcode.NOTIFY << 11 }), rcode: Rcode.NOTIMP },
    { what: 'UPDATE', bytes: query('example.com. SOA', { flags: Opcode.UPDATE << 11 }), rcode: Rcode.NOTIMP },
    {
      what: 'an operation that nobody knows',
      bytes: query('example.com. SOA', { flags: 15 << 11 }),
      rcode: Rcode.NOTIMP,
    },
    {
      what: 'an operation that nobody knows, unreadable',
      bytes: hex('1234 7800 ffff ffff ffff ffff'),
      rcode: Rcode.NOTIMP,
    },
    { what: 'AXFR over UDP', bytes: query('example.com. AXFR'), rcode: Rcode.FORMERR },
    { what: 'IXFR without a serial', bytes: query('example.com. IXFR'), rcode: Rcode.FORMERR },
  ])('$what', ({ bytes, rcode }) => {
    const answer = decoded(server.answer(bytes, udp))
    expect(rcodeOf(answer)).toBe(rcode)
    expect(answer).toMatchObject({ id: 0x1234, answers: [], authority: [] })
    expect(answer.flags & (Flag.QR | Flag.AA | (15 << 11))).toBe(
      Flag.QR | (((bytes[2]! << 8) | bytes[3]!) & (15 << 11)),
    )
  })

  it('BADVERS says which version there is', () => {
    expect(ask('example.com. A', { edns: edns({ version: 1 }) }).edns).toMatchObject({ version: 0, extendedRcode: 1 })
  })

  it.each([
    ['an answer', query('example.com. A', { flags: Flag.QR })],
    ['less than a header', new Uint8Array(11)],
    ['nothing', new Uint8Array()],
  ])('%s gets no answer', (_, bytes) => expect(server.answer(bytes, udp)).toBeUndefined())

  it('no bytes make it throw, and no answer is an answer to an answer', () => {
    const start = query('www.example.com. A')
    const changed = fc
      .array(fc.tuple(fc.nat(start.length - 1), fc.nat(255)), { maxLength: 4 })
      .map(list => list.reduce((bytes, [at, value]) => bytes.with(at, value), start))
    const signed = new TsigSigner(key(), now).sign(query('example.com. AXFR')).message
    const changedSigned = fc
      .array(fc.tuple(fc.nat(signed.length - 1), fc.nat(255)), { maxLength: 3 })
      .map(list => list.reduce((bytes, [at, value]) => bytes.with(at, value), signed))
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 80 }), changed, changedSigned),
        fc.constantFrom(udp, tcp),
        (bytes, from) => {
          const answer = server.answer(bytes, from)
          if (!(answer instanceof Uint8Array)) return
          const first = decoded(answer)
          expect(first.flags & Flag.QR).toBe(Flag.QR)
          expect(first.id).toBe((bytes[0]! << 8) | bytes[1]!)
          expect(server.answer(answer, from)).toBeUndefined()
        },
      ),
      { numRuns: 10_000 },
    )
  })
})

describe('transfers', () => {
  const soa = (serial: number) => ({
    name: EXAMPLE,
    type: Type.SOA,
    class: Class.IN,
    ttl: 0,
    data: encodeSoa({ ...zone().soa, serial }),
  })
  const axfr = query('example.com. AXFR')
  const ixfr = (serial: number) => query('example.com. IXFR', { authority: [soa(serial)] })

  it('hold the zone between two SOA records', () => {
    const messages = all(server.answer(axfr, tcp))
    expect(lines(messages.flatMap(message => message.answers))).toEqual(lines([...zone(TEXT).transfer()]))
    expect(messages[0]).toMatchObject({ flags: Flag.QR | Flag.AA, questions: [{ type: Type.AXFR }] })
  })

  it('are of many messages of at most 16 KB, signed ones too', () => {
    const large = responder()
    large.setZone(zone(Array.from({ length: 5000 }, (_, i) => `host${i} TXT "AA 192.0.2.1 + ${i}"\n`).join('')))
    const requested = new TsigSigner(key(), now).sign(axfr)
    const messages = messagesOf(large.answer(requested.message, tcp) as Transfer)
    expect(messages.length).toBeGreaterThan(10)
    expect(Math.max(...messages.map(bytes => bytes.length))).toBeLessThanOrEqual(16_384)
    const verifier = new TsigVerifier([key()], now, requested.mac)
    expect(messages.map(bytes => verifier.verify(bytes, decoded(bytes)))).toEqual(messages.map(() => undefined))
    expect(verifier.complete).toBe(true)
  })

  it('go on with the zone with which they began', () => {
    const changing = responder()
    const transfer = changing.answer(axfr, tcp)
    changing.setZone(zone().withSerial(2))
    changing.removeZone(EXAMPLE)
    expect(all(transfer).flatMap(message => message.answers)).toHaveLength(zone(TEXT).size + 1)
  })

  it('a record of 60,000 bytes has a message for itself', () => {
    const large = responder()
    large.setZone(zone(`a TYPE65280 \\# 60000 ${'ab'.repeat(60_000)}`))
    const messages = all(large.answer(axfr, tcp))
    expect(messages.flatMap(message => message.answers)).toHaveLength(5)
  })

  it.each([
    { what: 'an older serial', asked: 0, from: tcp, answers: zone(TEXT).size + 1 },
    { what: 'the same serial', asked: 1, from: tcp, answers: 1 },
    { what: 'a newer serial', asked: 2, from: tcp, answers: 1 },
    { what: 'an older serial over UDP', asked: 0, from: udp, answers: 1 },
  ])('IXFR from $what', ({ asked, from, answers }) => {
    const answer = server.answer(ixfr(asked), from)
    const messages = answer instanceof Uint8Array ? [decoded(answer)] : all(answer)
    const list = messages.flatMap(message => message.answers)
    expect(list).toHaveLength(answers)
    expect(list[0]!.type).toBe(Type.SOA)
  })

  it('IXFR with a serial in a record that has none', () => {
    const empty = { ...soa(1), class: Class.ANY, data: new Uint8Array() }
    expect(rcodeOf(decoded(server.answer(query('example.com. IXFR', { authority: [empty] }), tcp)))).toBe(Rcode.FORMERR)
  })

  describe('are refused', () => {
    const other = key('hmac-sha256:other:bXkgc2VjcmV0')
    const signed = new TsigSigner(key(), now).sign(axfr).message
    const signedByOther = new TsigSigner(other, now).sign(axfr).message
    const keyed = responder({ keys: [key(), other], transferKeys: [key().name] })
    const far = { transport: 'tcp', address: Uint8Array.of(192, 0, 2, 1) } as const
    const rcode = (one: ZoneResponder, bytes: Uint8Array, from: typeof far | typeof tcp = tcp) => {
      const answer = one.answer(bytes, from)
      return answer instanceof Uint8Array ? rcodeOf(decoded(answer)) : 'transfer'
    }

    it.each([
      {
        what: 'to nobody, where nobody is listed',
        one: responder({ transferAllow: [] }),
        bytes: axfr,
        from: tcp,
        is: Rcode.REFUSED,
      },
      { what: 'to an address that is not listed', one: server, bytes: axfr, from: far, is: Rcode.REFUSED },
      {
        what: 'to an address that is not listed, with the key',
        one: keyed,
        bytes: signed,
        from: far,
        is: Rcode.REFUSED,
      },
      { what: 'unsigned, where a key is asked for', one: keyed, bytes: axfr, from: tcp, is: Rcode.REFUSED },
      { what: 'with a key that is for other things', one: keyed, bytes: signedByOther, from: tcp, is: Rcode.REFUSED },
      { what: 'not with the key', one: keyed, bytes: signed, from: tcp, is: 'transfer' },
      { what: 'not unsigned, where no key is asked for', one: server, bytes: axfr, from: tcp, is: 'transfer' },
      {
        what: 'of a zone that is not here',
        one: server,
        bytes: query('example.org. AXFR'),
        from: tcp,
        is: Rcode.NOTAUTH,
      },
      { what: 'of a part of a zone', one: server, bytes: query('www.example.com. AXFR'), from: tcp, is: Rcode.NOTAUTH },
    ])('$what', ({ one, bytes, from, is }) => expect(rcode(one, bytes, from)).toBe(is))

    it('and say why to the operator', () => {
      const reasons: string[] = []
      const one = new ZoneResponder(
        { keys: [key(), other], transferAllow: [parsePrefix('127.0.0.1/32')!], transferKeys: [key().name] },
        { now, onRefusedTransfer: (_zone, _asker, reason) => reasons.push(reason) },
      )
      one.answer(axfr, tcp)
      one.answer(signedByOther, tcp)
      one.answer(signed, far)
      expect(reasons).toEqual([
        'not signed',
        'signed with a key that is not for transfers',
        'the address is not listed',
      ])
    })
  })
})

describe('signatures', () => {
  const soa = query('example.com. SOA')

  it('are answered with one', () => {
    const asked = new TsigSigner(key(), now).sign(soa)
    const answer = server.answer(asked.message, udp) as Uint8Array
    expect(new TsigVerifier([key()], now, asked.mac).verify(answer, decoded(answer))).toBeUndefined()
    expect(decoded(answer).answers).toHaveLength(1)
  })

  it('leave an answer over UDP within its limit', () => {
    const asked = new TsigSigner(key(), now).sign(query('big.example.com. TXT', { edns: edns({ payloadSize: 900 }) }))
    const answer = server.answer(asked.message, udp) as Uint8Array
    expect(answer.length).toBeLessThanOrEqual(900)
    expect(decoded(answer).flags & Flag.TC).toBe(Flag.TC)
  })

  it.each([
    { what: 'of an unknown key', by: key('hmac-sha256:other:bXkgc2VjcmV0'), error: Rcode.BADKEY },
    { what: 'of an unknown algorithm for the key', by: key('hmac-sha512:transfer:bXkgc2VjcmV0'), error: Rcode.BADKEY },
    { what: 'of another secret', by: key('hmac-sha256:transfer:b3RoZXI='), error: Rcode.BADSIG },
  ])('$what', ({ by, error }) => {
    const answer = decoded(server.answer(new TsigSigner(by, now).sign(soa).message, udp))
    expect(rcodeOf(answer)).toBe(Rcode.NOTAUTH)
    expect(answer.answers).toEqual([])
    expect(tsigErrorOf(answer.tsig!)).toBe(error)
  })

  it('of a key with a name too long to repeat: without a signature, in 512 bytes', () => {
    const longName = `${'a'.repeat(63)}.`.repeat(3)
    const by = key(`hmac-sha256:${longName}:bXkgc2VjcmV0`)
    const bytes = new TsigSigner(by, () => NOW).sign(query(`${longName}example.com. SOA`)).message
    const answer = server.answer(bytes, udp) as Uint8Array
    expect(answer.length).toBeLessThanOrEqual(512)
    expect(decoded(answer)).toMatchObject({ flags: Flag.QR | Rcode.NOTAUTH })
    expect(decoded(server.answer(bytes, { ...udp, transport: 'tcp' })).tsig).toBeDefined()
  })

  it('of another time are answered with a signature, so that the asker learns of its clock', () => {
    const late = () => NOW - 1000
    const asked = new TsigSigner(key(), late).sign(soa)
    const answer = server.answer(asked.message, udp) as Uint8Array
    expect(new TsigVerifier([key()], late, asked.mac).verify(answer, decoded(answer))).toBeUndefined()
    expect([rcodeOf(decoded(answer)), tsigErrorOf(decoded(answer).tsig!)]).toEqual([Rcode.NOTAUTH, Rcode.BADTIME])
  })

  it('that are none are a mistake of form', () => {
    const broken = Uint8Array.from([...soa, 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 1, 0])
    broken[11] = 1
    expect(rcodeOf(decoded(server.answer(broken, udp)))).toBe(Rcode.FORMERR)
  })
})

it('encodeMessage and the responder agree on what a query is', () => {
  expect(encodeMessage(decoded(query('example.com. A')))).toEqual(query('example.com. A'))
})

describe('an internal zone', () => {
  const far = Uint8Array.of(192, 0, 2, 1)
  const internal = { zones: [EXAMPLE], allows: (address: Uint8Array) => address[0] === 127 }
  const one = responder({ internal, transferAllow: [parsePrefix('0.0.0.0/0')!] })
  one.setZone(zone('www A 192.0.2.3', name('example.net.')))
  const rcode = (text: string, address: Uint8Array, transport: 'udp' | 'tcp' = 'udp') => {
    const answer = one.answer(query(text), { transport, address })
    return answer instanceof Uint8Array ? rcodeOf(decoded(answer)) : 'transfer'
  }

  it.each(['www.example.com. A', 'nobody.example.com. A', 'WWW.EXAMPLE.COM. TXT'])('%s is for those inside', text => {
    expect(rcode(text, LOCAL)).not.toBe(Rcode.REFUSED)
    expect(rcode(text, far)).toBe(Rcode.REFUSED)
  })

  it('is transferred to nobody outside, listed or not', () => {
    expect(rcode('example.com. AXFR', LOCAL, 'tcp')).toBe('transfer')
    expect(rcode('EXAMPLE.com. AXFR', far, 'tcp')).toBe(Rcode.REFUSED)
  })

  it('leaves others as they are', () => {
    expect(rcode('www.example.net. A', far)).toBe(Rcode.NOERROR)
    expect(rcode('example.net. AXFR', far, 'tcp')).toBe('transfer')
  })
})
