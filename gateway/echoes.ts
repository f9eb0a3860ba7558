/**
 * Echo requests of any size to any host behind a peer, for `ipref check`: sent from the tunnel's own socket as tunnel packets, from our reference 1, so that
 * they need no right to raw sockets, and go the way that packets of hosts go, NAT included.
 *
 *   ask ──► socket ──► peer ──► host ──► peer ──► decap, which knows our identifier ──► answered
 *
 * 16 random bytes in each tell the answers apart; nobody who does not see the request can answer it. The outer packet is never fragmented. An answer in
 * fragments counts when its first one arrives: the way to there took the request whole.
 */
import { randomBytes } from 'node:crypto'
import { headerLength } from '../ipref/tunnelHeader.ts'
import { NONCE_LENGTH, type ProbeEcho } from './peers/probe.ts'

export interface EchoTarget {
  context: Uint8Array
  reference: bigint
  port: number
}

export interface EchoesPorts {
  /** UDP payload of `size` bytes; 0: as few as can be. False: the kernel refused it. */
  send(target: EchoTarget, echo: Omit<ProbeEcho, 'id' | 'sequence'>, size: number): boolean
  /** milliseconds, monotonic */
  nowMs(): number
}

/** Milliseconds until the answer; 'refused': the kernel did not send it, as for one that is larger than the interface takes. */
export type EchoResult = number | 'lost' | 'refused'

/** An error that is pending at the socket is told once, in place of sending. */
const SENDS = 3
/** by this reference every gateway itself is reached */
export const THE_GATEWAY = 1n
const ICMP_HEADER = 8
const UDP_HEADER = 8

export class Echoes {
  readonly #ports: EchoesPorts
  readonly #waiting = new Map<string, () => void>()

  constructor(ports: EchoesPorts) {
    this.#ports = ports
  }

  /** `wireSize`: bytes of the outer packet, its IP header included; absent: as few as can be. */
  ask(target: EchoTarget, more: { wireSize?: number; patienceMs: number }): Promise<EchoResult> {
    const nonce = new Uint8Array(randomBytes(NONCE_LENGTH))
    const size = more.wireSize === undefined ? 0 : more.wireSize - outerHeaders(target.context)
    return new Promise(resolve => {
      const key = Buffer.from(nonce).toString('hex')
      const end = (result: EchoResult) => {
        clearTimeout(timer)
        this.#waiting.delete(key)
        resolve(result)
      }
      const timer = setTimeout(() => end('lost'), more.patienceMs)
      const sentMs = this.#ports.nowMs()
      this.#waiting.set(key, () => end(this.#ports.nowMs() - sentMs))
      const mayBeFragmented = target.reference !== THE_GATEWAY && size > 0
      for (let tries = 0; tries < SENDS; tries++) if (this.#ports.send(target, { nonce, mayBeFragmented }, size)) return
      end('refused')
    })
  }

  /** False: the answer to an echo request of somebody else. */
  answered(nonce: Uint8Array): boolean {
    const end = this.#waiting.get(Buffer.from(nonce).toString('hex'))
    end?.()
    return end !== undefined
  }
}

/** The outer packet of the smallest echo request with references of this length code. */
export function smallestEcho(context: Uint8Array, referenceCode: number): number {
  const family = context.length === 4 ? 4 : 6
  return outerHeaders(context) + headerLength(family, referenceCode) + ICMP_HEADER + NONCE_LENGTH
}

function outerHeaders(context: Uint8Array): number {
  return (context.length === 4 ? 20 : 40) + UDP_HEADER
}
