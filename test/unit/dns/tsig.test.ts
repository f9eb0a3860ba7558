/** TSIG: what was signed verifies, and nothing else does. */
import { createHmac } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Rcode } from '../../../dns/constants.ts'
import { decodeMessage, MAX_MESSAGE } from '../../../dns/message.ts'
import { nameToBytes } from '../../../dns/name.ts'
import {
  appendTsigError,
  parseTsigKey,
  type TsigKey,
  TsigSigner,
  TsigVerifier,
  tsigErrorOf,
  tsigLength,
} from '../../../dns/tsig.ts'
import { decoded, key, query } from './builders.ts'

const NOW = 1_700_000_000
const now = () => NOW
const message = query('example.com. SOA')

function verify(bytes: Uint8Array, keys: readonly TsigKey[] = [key()], at = NOW) {
  return new TsigVerifier(keys, () => at).verify(bytes, decoded(bytes))
}

describe('keys', () => {
  it.each(['transfer:bXkgc2VjcmV0', 'hmac-sha256:transfer:bXkgc2VjcmV0', 'HMAC-SHA256:Transfer.:bXkgc2VjcmV0'])(
    '%s',
    text => {
      expect(key(text)).toEqual(key())
    },
  )

  it.each([
    ['transfer', /write ALGORITHM:NAME:SECRET/],
    ['hmac-md5:transfer:bXkgc2VjcmV0', /hmac-md5 is none of hmac-sha1, hmac-sha224/],
    ['hmac-sha256:tran..sfer:bXkgc2VjcmV0', /no name of a key/],
    ['hmac-sha256:transfer:not base64', /no base64/],
  ])('%s is refused', (text, problem) => expect(parseTsigKey(text)).toMatch(problem))
})

describe('one message', () => {
  it('is signed over the bytes of RFC 8945 section 4.3', () => {
    const { mac } = new TsigSigner(key(), now).sign(message)
    const signedBytes = Buffer.concat([
      message,
      nameToBytes(key().name),
      Buffer.from('00ff00000000', 'hex'),
      nameToBytes(key().algorithm),
      Buffer.from('00006553f100012c00000000', 'hex'),
    ])
    expect(Buffer.from(mac)).toEqual(createHmac('sha256', 'my secret').update(signedBytes).digest())
  })

  it.each(['sha1', 'sha224', 'sha256', 'sha384', 'sha512'])(
    'verifies with hmac-%s, and is as long as foretold',
    hash => {
      const one = key(`hmac-${hash}:k:bXkgc2VjcmV0`)
      const signed = new TsigSigner(one, now).sign(message).message
      expect(verify(signed, [one])).toBeUndefined()
      expect(signed.length).toBe(message.length + tsigLength(one) - 6)
    },
  )

  it('verifies after its id was changed on the way', () => {
    const signed = new TsigSigner(key(), now).sign(message).message
    signed[0] = signed[0]! ^ 0xff
    expect(verify(signed)).toBeUndefined()
  })

  it.each([
    { what: 'nothing', keys: [key()], bytes: message, at: NOW, fault: 'unsigned' },
    { what: 'another name', keys: [key('hmac-sha256:other:bXkgc2VjcmV0')], at: NOW, fault: 'bad key' },
    { what: 'another algorithm', keys: [key('hmac-sha512:transfer:bXkgc2VjcmV0')], at: NOW, fault: 'bad key' },
    { what: 'another secret', keys: [key('hmac-sha256:transfer:b3RoZXI=')], at: NOW, fault: 'bad signature' },
    { what: 'no keys at all', keys: [], at: NOW, fault: 'bad key' },
    { what: 'a clock 301 s ahead', keys: [key()], at: NOW + 301, fault: 'bad time' },
    { what: 'a clock 301 s behind', keys: [key()], at: NOW - 301, fault: 'bad time' },
  ])('$what: $fault', ({ keys, bytes, at, fault }) => {
    expect(verify(bytes ?? new TsigSigner(key(), now).sign(message).message, keys, at)).toBe(fault)
  })

  it('clocks may be 300 s apart', () => {
    const signed = new TsigSigner(key(), now).sign(message).message
    expect(verify(signed, [key()], NOW + 300)).toBeUndefined()
    expect(verify(signed, [key()], NOW - 300)).toBeUndefined()
  })

  it('any bit that changes, but for the id, is found', () => {
    const signed = new TsigSigner(key(), now).sign(message).message
    fc.assert(
      fc.property(fc.integer({ min: 16, max: signed.length * 8 - 1 }), bit => {
        const bytes = Uint8Array.from(signed)
        bytes[bit >> 3] = bytes[bit >> 3]! ^ (1 << (bit & 7))
        const read = decodeMessage(bytes)
        // names of keys have no case
        if (typeof read === 'string' || lowerEqual(bytes, signed)) return
        expect(new TsigVerifier([key()], now).verify(bytes, read)).toBeDefined()
      }),
      { numRuns: 2000 },
    )
  })

  it('an algorithm with a name of more than 255 bytes is none', () => {
    const data = [
      ...`\x01a`
        .repeat(128)
        .split('')
        .map(c => c.charCodeAt(0)),
      0,
      ...new Array<number>(16).fill(0),
    ]
    const rest = [0, 0, 250, 0, 255, 0, 0, 0, 0, data.length >> 8, data.length & 255, ...data]
    const bytes = Uint8Array.from([...message, ...rest])
    bytes[11] = 1
    expect(verify(bytes)).toBe('malformed')
  })

  it('no bytes in the place of the data make it throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), data => {
        const rest = [0, 0, 250, 0, 255, 0, 0, 0, 0, data.length >> 8, data.length & 255, ...data]
        const bytes = Uint8Array.from([...message, ...rest])
        bytes[11] = 1
        const read = decodeMessage(bytes)
        if (typeof read !== 'string') expect(verify(bytes)).toBeDefined()
      }),
      { numRuns: 2000 },
    )
  })
})

function lowerEqual(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).toString('latin1').toLowerCase() === Buffer.from(b).toString('latin1').toLowerCase()
}

describe('answers', () => {
  const request = new TsigSigner(key(), now).sign(message)

  it('belong to their request', () => {
    const answer = new TsigSigner(key(), now, request.mac).sign(message).message
    expect(new TsigVerifier([key()], now, request.mac).verify(answer, decoded(answer))).toBeUndefined()
    const other = Uint8Array.from(request.mac).reverse()
    expect(new TsigVerifier([key()], now, other).verify(answer, decoded(answer))).toBe('bad signature')
    expect(new TsigVerifier([key()], now).verify(answer, decoded(answer))).toBe('bad signature')
  })

  it('say BADKEY and BADSIG without a signature', () => {
    for (const error of [Rcode.BADKEY, Rcode.BADSIG]) {
      const { tsig } = decoded(appendTsigError(message, decoded(request.message).tsig!, error, NOW))
      expect(tsigErrorOf(tsig!)).toBe(error)
    }
  })

  it('say BADTIME signed, so that a clock far away takes it', () => {
    const far = NOW - 100_000
    const asked = new TsigSigner(key(), () => far).sign(message)
    const answer = new TsigSigner(key(), now, asked.mac).sign(message, Rcode.BADTIME, far).message
    expect(new TsigVerifier([key()], () => far, asked.mac).verify(answer, decoded(answer))).toBeUndefined()
    expect(tsigErrorOf(decoded(answer).tsig!)).toBe(Rcode.BADTIME)
    expect(Buffer.from(answer.subarray(-6)).readUIntBE(0, 6)).toBe(NOW)
  })
})

describe('transfers of many messages', () => {
  const request = new TsigSigner(key(), now).sign(message)
  const chain = (count: number) => {
    const signer = new TsigSigner(key(), now, request.mac)
    return Array.from({ length: count }, (_, i) => signer.sign(query(`n${i}.example.com. A`)).message)
  }
  const verifier = () => new TsigVerifier([key()], now, request.mac)
  const faults = (list: readonly Uint8Array[]) => {
    const one = verifier()
    return { faults: list.map(bytes => one.verify(bytes, decoded(bytes))), complete: one.complete }
  }

  it('verify one after the other', () => {
    expect(faults(chain(5))).toEqual({ faults: Array(5).fill(undefined), complete: true })
  })

  it('in another order do not', () => {
    const [a, b, c] = chain(3)
    expect(faults([a!, c!, b!]).faults).toEqual([undefined, 'bad signature', undefined])
  })

  it('with one left out do not', () => {
    const [a, , c] = chain(3)
    expect(faults([a!, c!]).faults).toEqual([undefined, 'bad signature'])
  })

  it('that end unsigned are not complete', () => {
    const [a] = chain(1)
    expect(faults([a!, message])).toEqual({ faults: [undefined, undefined], complete: false })
  })

  it('that begin unsigned are refused, and so is the 100th in a row that is unsigned', () => {
    expect(faults([message]).faults).toEqual(['unsigned'])
    expect(faults([...chain(1), ...Array(100).fill(message)]).faults.at(-1)).toBe('unsigned')
  })
})

it('the largest message that leaves room for its signature can be signed', () => {
  const long = new Uint8Array(MAX_MESSAGE - tsigLength(key()))
  expect(new TsigSigner(key(), now).sign(long, Rcode.BADTIME).message.length).toBe(MAX_MESSAGE)
})
