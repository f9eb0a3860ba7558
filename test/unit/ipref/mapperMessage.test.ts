import fc from 'fast-check'
import { expect, it } from 'vitest'
import { decodeRequest, encodeEncodedAck, encodeGetEncoded, encodeNack } from '../../../ipref/mapperMessage.ts'

const header = { id: 7, encodedFamily: 4, tunnelFamily: 4 } as const

it('a request for an encoded address is read as it was written', () => {
  const record = { context: Uint8Array.of(198, 51, 100, 2), reference: 0x1267n }
  const request = decodeRequest(encodeGetEncoded(header, record, 'host.example.com.'))
  expect(request).toMatchObject({ what: 'getEncoded', name: 'host.example.com.', record })
})

it('answers echo the packet id', () => {
  const request = decodeRequest(encodeGetEncoded(header, { context: Uint8Array.of(198, 51, 100, 2), reference: 5n }))
  if (typeof request === 'string' || request.what !== 'getEncoded') throw new Error('not read')
  const ack = encodeEncodedAck(request.header, { ...request.record, encoded: Uint8Array.of(10, 240, 16, 1) })
  expect(Buffer.from(ack).toString('hex')).toBe(
    '11870007440000090af0100100000000c633640200000000000000000000000000000005',
  )
  expect(Buffer.from(encodeNack(request.header)).toString('hex')).toBe('11c7000744000002')
})

it('no bytes make it throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), bytes => {
      if (bytes.length >= 8) bytes.set([0x11], 0)
      if (bytes.length % 4 === 0 && bytes.length >= 8) bytes.set([0, 0, bytes.length >> 10, bytes.length >> 2], 4)
      decodeRequest(bytes)
    }),
  )
})
