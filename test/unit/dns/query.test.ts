/** One question to one server: UDP, TCP where that does not do, and nothing taken that does not fit. */
import { afterEach, describe, expect, it } from 'vitest'
import { Flag, Type } from '../../../dns/constants.ts'
import { decodeMessage, encodeMessage, type Message } from '../../../dns/message.ts'
import { queryServer } from '../../../dns/query.ts'
import { TestDnsServer } from '../../support/dnsServer.ts'
import { name, records } from './builders.ts'

/** longer than a busy machine takes for an answer that comes */
const PATIENCE_MS = 60_000
const question = { name: name('web.example.com.'), type: Type.A }
const answers = records('web 60 A 192.0.2.80\n')
let server: TestDnsServer

async function serve(answering: TestDnsServer['answering'], patienceMs = PATIENCE_MS): Promise<Message | undefined> {
  server = new TestDnsServer(answering)
  await server.start()
  return queryServer({ host: '127.0.0.1', port: server.port }, question, patienceMs)
}

function reply(query: Uint8Array, parts: Partial<Message> = {}): Uint8Array {
  const { id, questions } = decodeMessage(query) as Message
  return encodeMessage({ id, flags: Flag.QR, questions, answers, ...parts })
}

afterEach(() => server.stop())

describe('an answer', () => {
  it('over UDP', async () => {
    expect((await serve(query => reply(query)))?.answers).toHaveLength(1)
    expect(server.asked).toEqual({ udp: 1, tcp: 0 })
  })

  it('over TCP, when the one over UDP was cut', async () => {
    const cut = { flags: Flag.QR | Flag.TC, answers: [] }
    expect((await serve((query, by) => reply(query, by === 'udp' ? cut : {})))?.answers).toHaveLength(1)
    expect(server.asked).toEqual({ udp: 1, tcp: 1 })
  })

  it('over TCP, when UDP is silent after two questions', async () => {
    expect((await serve((query, by) => (by === 'tcp' ? reply(query) : undefined), 2000))?.answers).toHaveLength(1)
    expect(server.asked).toEqual({ udp: 2, tcp: 1 })
  })
})

describe('no answer', () => {
  it.each<[string, (query: Uint8Array) => Uint8Array | undefined]>([
    ['nothing', () => undefined],
    ['another id', query => reply(query, { id: ((query[0]! << 8) | query[1]!) ^ 1 })],
    ['another name', query => reply(query, { questions: [{ ...question, name: name('x.example.com.'), class: 1 }] })],
    ['no question', query => reply(query, { questions: [] })],
    ['a question', query => reply(query, { flags: 0 })],
    ['no message', () => Uint8Array.of(1, 2, 3)],
  ])('%s', { timeout: 180_000 }, async (_what, answering) => {
    server = new TestDnsServer(answering)
    await server.start()
    expect(await queryServer({ host: '127.0.0.1', port: server.port }, question, 200)).toBeUndefined()
  })
})
