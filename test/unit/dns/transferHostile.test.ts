/** What a primary may send that is no zone: every message ends in a sentence, none in an exception. */
import { createServer, type Server } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { transferZone } from '../../../dns/transfer.ts'
import { EXAMPLE, hex } from './builders.ts'

let server: Server | undefined

afterEach(() => new Promise<void>(resolve => (server ? server.close(() => resolve()) : resolve())))

/** Answers every question with these bytes behind its id. */
async function primary(wire: string): Promise<{ host: string; port: number }> {
  server = createServer(socket => {
    socket.on('error', () => {})
    socket.once('data', (query: Buffer) => {
      const answer = Buffer.from([...query.subarray(2, 4), ...hex(wire)])
      socket.write(Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 255]), answer]))
    })
  })
  await new Promise<void>(resolve => server!.listen(0, '127.0.0.1', resolve))
  return { host: '127.0.0.1', port: (server.address() as { port: number }).port }
}

const QUESTION = '076578616d706c6503636f6d00 00fc 0001'

it.each([
  {
    what: 'an update, whose SOA record of class ANY has no data',
    wire: `a800 0001 0001 0000 0000 ${QUESTION} c00c 0006 00ff 00000000 0000`,
    why: /another kind of question/,
  },
  {
    what: 'a SOA record of another class',
    wire: `8000 0001 0001 0000 0000 ${QUESTION} c00c 0006 0003 00000000 0016 00 00 00*20`,
    why: /does not begin with its SOA record/,
  },
  {
    what: 'a SOA record without data',
    wire: `8000 0001 0001 0000 0000 ${QUESTION} c00c 0006 0001 00000000 0000`,
    why: /malformed message \(truncated\)/,
  },
  { what: 'less than a header', wire: '80', why: /malformed message \(short\)/ },
])('$what', async ({ wire, why }) => {
  const wanted = { server: await primary(wire), zone: EXAMPLE, onRecord: () => {}, limits: { idleMs: 20_000 } }
  await expect(transferZone(wanted)).rejects.toThrow(why)
})
