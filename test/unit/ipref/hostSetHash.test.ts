/** The hash of a set of hosts: against a set that was captured, and against the definition in BigInt. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareHosts, type HostRecord, hashHosts } from '../../../ipref/hostSetHash.ts'
import { decodeRequest, encodeHostData, encodeHostDataHash, recordsOfBatch } from '../../../ipref/mapperMessage.ts'
import { encodeReference } from '../../../ipref/reference.ts'

// a batch as the deployed agent sends it: five hosts, internal:example.com
const CAPTURED =
  '114e638b4400002f31902d838184a7399753cb1a0408696e7465726e616c0000040b6578616d706c652e636f6d00' +
  '0000000000000a01000bc633640200000000000000000000000000000016' +
  '000000000a010021c633640100000000000000000000000000000021' +
  '000000000a01002cc63364010000000000000000000000000000002c' +
  '000000000a010037c633640100000000000000000000000000000055' +
  '000000000a0100010af6574b00000000000000000000000000000001'

function byDefinition(records: readonly HostRecord[]): bigint {
  let hash = 0xcbf29ce484222325n
  for (const { native, context, reference } of records) {
    for (const byte of [...native, ...context, ...encodeReference(reference, 16)])
      hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  }
  return hash
}

describe('hash of a set of hosts', () => {
  const request = decodeRequest(Uint8Array.from(Buffer.from(CAPTURED, 'hex')))
  if (typeof request === 'string' || request.what !== 'hostData') throw new Error('the captured batch is not read')

  it('is that of a captured set', () => {
    expect(hashHosts([...request.records].sort(compareHosts))).toBe(request.head.hash)
  })

  it('agrees with the definition', () => {
    const record = fc.record({
      native: fc.uint8Array({ minLength: 4, maxLength: 4 }),
      context: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      reference: fc.bigInt(1n, (1n << 128n) - 1n),
    })
    fc.assert(fc.property(fc.array(record, { maxLength: 20 }), set => hashHosts(set) === byDefinition(set)))
  })

  it('the captured batch is written as it was sent', () => {
    const { id, encodedFamily, tunnelFamily } = request.header
    const bytes = encodeHostData({ id, encodedFamily, tunnelFamily }, request.head, request.records)
    expect(Buffer.from(bytes).toString('hex')).toBe(CAPTURED)
  })

  it('a hash message is read back', () => {
    const set = { count: 5, hash: request.head.hash, local: 'internal', public: 'example.com' }
    const bytes = encodeHostDataHash({ id: 7, encodedFamily: 6, tunnelFamily: 4 }, set)
    expect(decodeRequest(bytes)).toMatchObject({ what: 'hostDataHash', ...set })
  })

  it('a batch holds what fits', () => {
    const names = { local: 'internal', public: 'example.com' }
    expect(recordsOfBatch({ encodedFamily: 4, tunnelFamily: 4 }, names, 1200)).toBe(41)
  })
})
