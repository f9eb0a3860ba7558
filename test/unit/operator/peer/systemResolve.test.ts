/** The resolvers of this host, in the test a server on loopback: both families, the least TTL, and what is an answer and what is none. */
import { createSocket, type Socket } from 'node:dgram'
import { afterEach, expect, it } from 'vitest'
import { Rcode, Type } from '../../../../dns/constants.ts'
import { systemResolve } from '../../../../operator/peer/systemResolve.ts'

type Given = { addresses?: string[]; ttl?: number; rcode?: number } | 'silent'

const sockets: Socket[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close()
})

/** Answers the first question of each message; names are not looked at. */
async function serve(answers: { 4: Given; 6: Given }): Promise<string> {
  const socket = createSocket('udp4')
  sockets.push(socket)
  socket.on('message', (query, from) => {
    const end = query.indexOf(0, 12) + 5
    const given = answers[query.readUInt16BE(end - 4) === Type.AAAA ? 6 : 4]
    if (given !== 'silent') socket.send(answer(query, end, given), from.port, from.address)
  })
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  return `127.0.0.1:${socket.address().port}`
}

function answer(query: Buffer, end: number, { addresses = [], ttl = 60, rcode = 0 }: Exclude<Given, 'silent'>): Buffer {
  const head = Buffer.from(query.subarray(0, end))
  head.writeUInt16BE(0x8180 | rcode, 2)
  head.writeUInt16BE(addresses.length, 6)
  head.writeUInt16BE(0, 10)
  const records = addresses.map(text => {
    const data = text.includes(':')
      ? Buffer.from(text.replaceAll(':', ''), 'hex')
      : Buffer.from(text.split('.').map(Number))
    const record = Buffer.alloc(12)
    record.writeUInt16BE(0xc00c, 0)
    query.copy(record, 2, end - 4, end)
    record.writeUInt32BE(ttl, 6)
    record.writeUInt16BE(data.length, 10)
    return Buffer.concat([record, data])
  })
  return Buffer.concat([head, ...records])
}

const IPV6 = '2001:0db8:0000:0000:0000:0000:0000:0001'

it.each<[string, { 4: Given; 6: Given }, object]>([
  [
    'both families, with the least TTL, each address once',
    { 4: { addresses: ['192.0.2.1', '192.0.2.2', '192.0.2.1'], ttl: 120 }, 6: { addresses: [IPV6], ttl: 30 } },
    { addresses: ['192.0.2.1', '192.0.2.2', '2001:db8::1'], ttlSeconds: 30 },
  ],
  [
    'a long TTL is shortened',
    { 4: { addresses: ['192.0.2.1'], ttl: 86_400 }, 6: {} },
    { addresses: ['192.0.2.1'], ttlSeconds: 300 },
  ],
  [
    'no such name: nothing, and no failure',
    { 4: { rcode: Rcode.NXDOMAIN }, 6: { rcode: Rcode.NXDOMAIN } },
    { addresses: [], ttlSeconds: 300 },
  ],
  ['no records', { 4: {}, 6: {} }, { addresses: [], ttlSeconds: 300 }],
  [
    'one family that cannot be asked for',
    { 4: { addresses: ['192.0.2.1'] }, 6: { rcode: Rcode.SERVFAIL } },
    { addresses: ['192.0.2.1'], ttlSeconds: 60 },
  ],
  [
    'a server in trouble',
    { 4: { rcode: Rcode.SERVFAIL }, 6: { rcode: Rcode.SERVFAIL } },
    { failed: expect.stringContaining('ESERVFAIL') },
  ],
  [
    'one that refuses, and a family without records',
    { 4: { rcode: Rcode.REFUSED }, 6: {} },
    { failed: expect.stringContaining('EREFUSED') },
  ],
])('%s', async (_name, answers, expected) => {
  const resolve = systemResolve([await serve(answers)])
  expect(await resolve('gw.example.com')).toEqual(expected)
})

it('a server that says nothing is a failure, after a while', { timeout: 60_000 }, async () => {
  const resolve = systemResolve([await serve({ 4: 'silent', 6: 'silent' })])
  expect(await resolve('gw.example.com')).toEqual({ failed: expect.stringContaining('ETIMEOUT') })
})
