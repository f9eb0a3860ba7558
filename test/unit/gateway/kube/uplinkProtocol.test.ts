import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  encodeUplink,
  FrameReader,
  isProof,
  MOST_PAYLOAD,
  proofOf,
  type UplinkFault,
  type UplinkMessage,
} from '../../../../gateway/kube/uplinkProtocol.ts'
import type { AddressWords } from '../../../../ipref/address.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const unhex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')
const nonce = new Uint8Array(32).fill(0xa5)
const a5 = 'a5'.repeat(32)

const golden: [string, UplinkMessage][] = [
  [`0000002b 01 01 ${a5} 00000007 6e6f64652d61`, { kind: 'hello', nonce, name: 'node-a', transitions: 7 }],
  [`00000020 02 ${a5}`, { kind: 'proof', proof: nonce }],
  // as in version 1
  ['00000000 04', { kind: 'begin', features: 0 }],
  ['00000008 05 0000000000000102', { kind: 'end', sequence: 258, features: 0 }],
  // with what was added since
  ['00000001 04 01', { kind: 'begin', features: 1 }],
  ['00000008 05 0100000000000102', { kind: 'end', sequence: 258, features: 1 }],
  [
    '0000002a 09 01 00000000000000000000ffff c6336402 0fcd 0514 02 20010db8000000000000000000000001 0000 0000',
    {
      kind: 'peers',
      records: [
        { do: 'know', address: [0, 0, 0xffff, 0xc6336402 | 0], port: 4045, mtu: 1300 },
        { do: 'forget', address: [0x20010db8, 0, 0, 1], port: 0, mtu: 0 },
      ],
    },
  ],
  ['00000008 06 0000000000000001', { kind: 'ack', sequence: 1 }],
  ['00000000 07', { kind: 'ping' }],
  ['0000000a 08 00000009 6e6f64652d62', { kind: 'taken', name: 'node-b', transitions: 9 }],
  [
    `00000072 03 0000000000000005
      02 000000000000000000000000 0ab01009 000000000000000000000000 c6336402 00000000000000000012345678 9abcde 00003840
      03 000000000000000000000000 0a010007 00000000000000000000000000000000 00000000000000000000000000000000 00000000`.replace(
      /\s+/g,
      ' ',
    ),
    {
      kind: 'commit',
      sequence: 5,
      records: [
        {
          do: 'save',
          kind: 'theirs',
          local: [0, 0, 0, 0x0ab01009],
          context: [0, 0, 0, 0xc6336402 | 0],
          reference: [0, 0, 0x00123456, 0x789abcde],
          left: 14400,
        },
        {
          do: 'remove',
          kind: 'ours',
          local: [0, 0, 0, 0x0a010007],
          context: [0, 0, 0, 0],
          reference: [0, 0, 0, 0],
          left: 0,
        },
      ],
    },
  ],
]

describe('frames', () => {
  it.each(golden)('%s', (wire, message) => {
    expect([hex(encodeUplink(message)), new FrameReader().push(unhex(wire))]).toEqual([hex(unhex(wire)), [message]])
  })

  it.each<[UplinkFault, string]>([
    ['too_long', '00010001 03'],
    ['unknown_kind', '00000000 0a'],
    ['unknown_version', `0000002b 01 02 ${a5} 00000007 6e6f64652d61`],
    ['bad_length', '00000002 04 0000'],
    ['bad_length', '00000001 07 00'],
    ['bad_length', '00000007 06 00000000000001'],
    ['bad_length', `0000001f 02 ${'a5'.repeat(31)}`],
    ['bad_length', `00000024 01 01 ${a5} 000000`],
    ['bad_length', '00000009 03 0000000000000005 02'],
    ['bad_length', '00000003 08 000000'],
    ['bad_name', `00000025 01 01 ${a5} 00000007`],
    ['bad_name', `0000002b 01 01 ${a5} 00000007 6e6f0a652d61`],
    ['bad_name', '00000005 08 00000009 2d'],
    ['bad_record', `0000003d 03 0000000000000005 05 ${'00'.repeat(52)}`],
    ['bad_record', `0000003d 03 0000000000000005 00 ${'00'.repeat(52)}`],
    ['bad_length', `00000014 09 01 ${'00'.repeat(19)}`],
    ['bad_record', `00000015 09 00 ${'00'.repeat(20)}`],
    ['bad_record', `00000015 09 01 ${'00'.repeat(20)}`],
    ['bad_record', `00000015 09 02 ${'00'.repeat(16)} 0001 0000`],
    ['bad_record', `00000015 09 02 ${'00'.repeat(16)} 0000 0001`],
    ['bad_record', `00000015 09 03 ${'00'.repeat(16)} 0001 0000`],
  ])('%s: %s', (fault, wire) => {
    expect(new FrameReader().push(unhex(wire))).toBe(fault)
  })

  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
  const words = fc.tuple(word, word, word, word) as fc.Arbitrary<AddressWords>
  const sequence = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
  const anyName = fc.stringMatching(/^[a-z0-9]([-a-z0-9.]{0,40}[a-z0-9])?$/)
  const transitions = fc.nat(0xffffffff)
  const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
  const record = fc.record({
    do: fc.constantFrom('save' as const, 'remove' as const),
    kind: fc.constantFrom('ours' as const, 'theirs' as const),
    local: words,
    context: words,
    reference: words,
    left: fc.nat(0xffffffff),
  })
  const known = fc.record({
    do: fc.constant('know' as const),
    address: words,
    port: fc.integer({ min: 1, max: 65535 }),
    mtu: fc.nat(65535),
  })
  const none = fc.constant(0)
  const gone = fc.record({ do: fc.constant('forget' as const), address: words, port: none, mtu: none })
  const message: fc.Arbitrary<UplinkMessage> = fc.oneof(
    fc.record({ kind: fc.constant('hello' as const), nonce: bytes32, name: anyName, transitions }),
    fc.record({ kind: fc.constant('proof' as const), proof: bytes32 }),
    fc.record({ kind: fc.constant('commit' as const), sequence, records: fc.array(record, { maxLength: 8 }) }),
    fc.record({ kind: fc.constant('begin' as const), features: fc.nat(255) }),
    fc.record({ kind: fc.constant('ping' as const) }),
    fc.record({ kind: fc.constant('peers' as const), records: fc.array(fc.oneof(known, gone), { maxLength: 8 }) }),
    fc.record({ kind: fc.constant('end' as const), sequence, features: fc.nat(255) }),
    fc.record({ kind: fc.constant('ack' as const), sequence }),
    fc.record({ kind: fc.constant('taken' as const), name: anyName, transitions }),
  )

  it('come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 6 }), fc.integer({ min: 1, max: 70 }), (sent, step) => {
        const stream = Buffer.concat(sent.map(encodeUplink))
        const reader = new FrameReader()
        const got: UplinkMessage[] = []
        for (let at = 0; at < stream.length; at += step) {
          const part = reader.push(stream.subarray(at, at + step))
          if (typeof part === 'string') throw new Error(part)
          got.push(...part)
        }
        expect(got).toEqual(sent)
      }),
    )
  })

  it('no bytes make it throw, or keep more than a frame', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
        new FrameReader().push(bytes)
      }),
    )
    expect(new FrameReader().push(new Uint8Array([0, 1, 0, 0, 3, ...new Uint8Array(MOST_PAYLOAD - 1)]))).toEqual([])
  })
})

describe('proofs', () => {
  const key = new Uint8Array(32).fill(1)
  const shake = { active: { nonce, name: 'a' }, standby: { nonce: nonce.map(byte => byte ^ 1), name: 'b' } }

  it('are of one key, one side, one connection and two names', () => {
    const proof = proofOf(key, 'active', shake)
    const others = [
      proofOf(key, 'standby', shake),
      proofOf(
        key.map(byte => byte ^ 1),
        'active',
        shake,
      ),
      proofOf(key, 'active', { ...shake, active: { ...shake.active, name: 'c' } }),
      proofOf(key, 'active', { ...shake, standby: { ...shake.standby, nonce } }),
      proof.subarray(1),
    ]
    expect([isProof(proofOf(key, 'active', shake), proof), others.map(one => isProof(one, proof))]).toEqual([
      true,
      [false, false, false, false, false],
    ])
  })
})
