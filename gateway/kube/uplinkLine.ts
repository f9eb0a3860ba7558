/**
 * One connection between an active gateway and its standby: frames in both directions, and an end when nothing comes for a while or too much waits to go.
 *
 * Both ends begin here (uplinkActive.ts, uplinkStandby.ts). A message that makes no sense ends the connection; whoever is active dials again.
 */
import type { Socket } from 'node:net'
import { encodeUplink, FrameReader, type UplinkMessage } from './uplinkProtocol.ts'

export const PING_MS = 500
/** Without a word of the other side. */
const SILENT_MS = 2000
/** Bytes that the other side does not take. */
const MOST_WAITING = 32 << 20

export interface LineEvents {
  onMessage(message: UplinkMessage): void
  /** Once. */
  onEnd(why: string): void
}

export class Line {
  readonly #socket: Socket
  readonly #reader = new FrameReader()
  readonly #events: LineEvents
  readonly #timer: NodeJS.Timeout
  #heardAt = performance.now()
  #why = 'the other side closed it'
  #isEnded = false

  constructor(socket: Socket, events: LineEvents) {
    this.#socket = socket
    this.#events = events
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', error => {
      this.#why = error.message
    })
    socket.on('close', () => this.#end())
    this.#timer = setInterval(() => this.#look(), PING_MS)
  }

  #take(bytes: Buffer): void {
    this.#heardAt = performance.now()
    const messages = this.#reader.push(bytes)
    if (typeof messages === 'string') return this.close(`a frame that makes no sense: ${messages}`)
    for (const message of messages) if (!this.#isEnded) this.#events.onMessage(message)
  }

  #look(): void {
    if (performance.now() - this.#heardAt > SILENT_MS) return this.close('it is silent')
    this.send({ kind: 'ping' })
  }

  get isOpen(): boolean {
    return !this.#isEnded
  }

  send(message: UplinkMessage): void {
    if (this.#isEnded) return
    this.#socket.write(encodeUplink(message))
    if (this.#socket.writableLength > MOST_WAITING) this.close('it does not take what it is sent')
  }

  /** As send; resolves when there is room for more, or the connection has ended. */
  async sendSlowly(message: UplinkMessage): Promise<void> {
    this.send(message)
    if (!this.#socket.writableNeedDrain || this.#isEnded) return
    await new Promise<void>(resolve => {
      const done = () => {
        this.#socket.off('drain', done)
        this.#socket.off('close', done)
        resolve()
      }
      this.#socket.on('drain', done)
      this.#socket.on('close', done)
    })
  }

  close(why: string): void {
    if (this.#isEnded) return
    this.#why = why
    this.#socket.destroy()
    this.#end()
  }

  /** As close, with a last word that still goes out. */
  finish(message: UplinkMessage, why: string): void {
    if (this.#isEnded) return
    this.#why = why
    this.#socket.end(encodeUplink(message), () => this.#socket.destroy())
    this.#end()
  }

  #end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    clearInterval(this.#timer)
    this.#events.onEnd(this.#why)
  }
}
