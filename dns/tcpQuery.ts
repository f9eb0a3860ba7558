/** One question over TCP (RFC 7766): connect, ask, take one answer, close. */
import { connect } from 'node:net'
import { FrameReader } from './tcpListener.ts'

/** A message with its two bytes of length. */
export function framed(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(2 + message.length)
  frame[0] = message.length >>> 8
  frame[1] = message.length
  frame.set(message, 2)
  return frame
}

/** undefined: no answer in time, or no connection. */
export function queryOverTcp(
  server: { host: string; port: number },
  message: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array | undefined> {
  return new Promise(resolve => {
    const socket = connect(server)
    const reader = new FrameReader()
    const end = (answer: Uint8Array | undefined) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(answer)
    }
    const timer = setTimeout(() => end(undefined), timeoutMs)
    socket.on('error', () => end(undefined))
    socket.on('close', () => end(undefined))
    socket.on('connect', () => socket.write(framed(message)))
    socket.on('data', (data: Buffer) => {
      for (const answer of reader.take(data)) return end(answer)
    })
  })
}
