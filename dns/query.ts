/**
 * One question to one server, for programs that ask little: over UDP from a socket of its own, twice, and over TCP when the answer was cut or none came
 * (some networks let one of the two through). What does not fit the question is ignored. The resolver and the agent, which ask much, have their own way
 * (gateway/dns/upstreams.ts).
 */
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { Class, Flag } from './constants.ts'
import { decodeMessage, encodeMessage, type Message } from './message.ts'
import { lowerName, type Name } from './name.ts'
import { queryOverTcp } from './tcpQuery.ts'

export interface Server {
  host: string
  port: number
}

const TRIES = 2
const DEFAULT_PATIENCE_MS = 1500
const PAYLOAD = 1232

/** undefined: no answer. `patienceMs`: for each try. */
export async function queryServer(
  server: Server,
  question: { name: Name; type: number },
  patienceMs = DEFAULT_PATIENCE_MS,
): Promise<Message | undefined> {
  for (let i = 0; i < TRIES; i++) {
    const answer = await overUdp(server, question, patienceMs)
    if (answer && (answer.flags & Flag.TC) === 0) return answer
    if (answer) break
  }
  const asked = questionOf(question)
  const bytes = await queryOverTcp(server, asked.bytes, patienceMs)
  return bytes && fitting(bytes, asked.id, question)
}

function questionOf(question: { name: Name; type: number }): { id: number; bytes: Uint8Array } {
  const id = randomInt(65536)
  const edns = { payloadSize: PAYLOAD, extendedRcode: 0, version: 0, dnssecOk: false, options: [] }
  return { id, bytes: encodeMessage({ id, flags: Flag.RD, questions: [{ ...question, class: Class.IN }], edns }) }
}

function overUdp(
  server: Server,
  question: { name: Name; type: number },
  patienceMs: number,
): Promise<Message | undefined> {
  const { id, bytes } = questionOf(question)
  return new Promise(resolve => {
    const socket = createSocket(server.host.includes(':') ? 'udp6' : 'udp4')
    let isOver = false
    const end = (answer: Message | undefined) => {
      if (isOver) return
      isOver = true
      clearTimeout(timer)
      socket.close()
      resolve(answer)
    }
    const timer = setTimeout(() => end(undefined), patienceMs)
    socket.on('error', () => end(undefined))
    socket.on('message', data => {
      const answer = fitting(Uint8Array.from(data), id, question)
      if (answer) end(answer)
    })
    // connected: the kernel takes nothing from elsewhere, and tells when nobody listens
    socket.connect(server.port, server.host, (error?: unknown) => (error ? end(undefined) : socket.send(bytes)))
  })
}

function fitting(bytes: Uint8Array, id: number, { name, type }: { name: Name; type: number }): Message | undefined {
  const answer = decodeMessage(bytes)
  if (typeof answer === 'string' || answer.id !== id || (answer.flags & Flag.QR) === 0) return undefined
  const [asked] = answer.questions
  return asked && asked.type === type && lowerName(asked.name) === lowerName(name) ? answer : undefined
}
