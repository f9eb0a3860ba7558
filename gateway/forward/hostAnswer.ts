/**
 * The ICMP error that a refused local packet deserves (wire.md section 2, ICMP).
 *
 *   | IP header: our own encoded address -> sender | ICMP header |   the packet, at most 576 bytes |
 *                     head slot                                      in place
 */
import { fold, negate, sumOfWords, swap16 } from '../../ipref/checksum.ts'
import { Fault } from '../../ipref/faults.ts'
import {
  FRAGMENTATION_NEEDED,
  iprefToIcmp4,
  iprefToIcmp6,
  NETWORK_UNREACHABLE,
  TTL_EXCEEDED,
} from '../../ipref/icmp.ts'
import { ICMP_HEADER, IPPROTO_ICMP, IPPROTO_ICMPV6, IPV4_HEADER, IPV6_HEADER, icmp } from '../../ipref/ip.ts'
import type { Environment } from './environment.ts'
import type { LocalPacket } from './localPacket.ts'
import { MOST_QUOTED } from './mtu.ts'
import { Direction, HEAD_SLOT } from './output.ts'

export const ANSWER_TTL = 64

/** IPREF-ICMP type and code of the answer to a fault. */
export function answerKind(fault: number): number {
  if (fault === Fault.too_big) return FRAGMENTATION_NEEDED
  return fault === Fault.ttl_exceeded ? TTL_EXCEEDED : NETWORK_UNREACHABLE
}

export class HostAnswer {
  readonly #env: Environment

  constructor(env: Environment) {
    this.#env = env
  }

  /** Adds the answer to the output; false when the rate limit says no, or we have no address of that family. */
  send(to: LocalPacket, about: { fault: number; mtu: number; packet: number; length: number }): boolean {
    const { settings, output, bytes } = this.#env
    const own = to.family === 4 ? settings.ownEncoded4 : settings.ownEncoded6
    if (!own || !this.#env.mayAnswer(to.s0, to.s1, to.s2, to.s3)) return false
    const i = output.count++
    const head = output.slots + i * HEAD_SLOT
    const headLength = (to.family === 4 ? IPV4_HEADER : IPV6_HEADER) + ICMP_HEADER
    const quoted = Math.min(about.length, MOST_QUOTED)
    // copied: what follows in the receive buffer may be handed on before this is written
    const body = output.scratch + output.scratchUsed
    bytes.copyWithin(body, about.packet, about.packet + quoted)
    output.scratchUsed += (quoted + 3) & ~3
    this.#writeIcmp(to.family, head + headLength - ICMP_HEADER, about)
    if (to.family === 4) this.#finish4(head, to, own, body, quoted)
    else this.#finish6(head, to, own, body, quoted)
    output.direction[i] = Direction.host
    output.head[i] = head
    output.headLength[i] = headLength
    output.body[i] = body
    output.bodyLength[i] = quoted
    output.tos[i] = 0
    output.fromGateway[i] = 1
    return true
  }

  #writeIcmp(family: number, at: number, about: { fault: number; mtu: number }): void {
    const { view } = this.#env
    const kind = answerKind(about.fault)
    view.setUint16(at, (family === 4 ? iprefToIcmp4 : iprefToIcmp6)[kind]!)
    view.setUint16(at + icmp.checksum, 0)
    view.setUint32(at + 4, about.mtu)
  }

  #finish4(head: number, to: LocalPacket, own: Int32Array, body: number, quoted: number): void {
    const { view } = this.#env
    view.setUint16(head, 0x4500)
    view.setUint16(head + 2, IPV4_HEADER + ICMP_HEADER + quoted)
    view.setUint16(head + 4, this.#env.random32() & 0xffff)
    view.setUint16(head + 6, 0)
    view.setUint8(head + 8, ANSWER_TTL)
    view.setUint8(head + 9, IPPROTO_ICMP)
    view.setUint16(head + 10, 0)
    view.setInt32(head + 12, own[3]!)
    view.setInt32(head + 16, to.s3)
    view.setUint16(head + 10, negate(fold(this.#env.sum(head, IPV4_HEADER))), true)
    const at = head + IPV4_HEADER
    const sum = this.#env.sum(at, ICMP_HEADER) + this.#env.sum(body, quoted)
    view.setUint16(at + icmp.checksum, negate(fold(sum)), true)
  }

  #finish6(head: number, to: LocalPacket, own: Int32Array, body: number, quoted: number): void {
    const { view } = this.#env
    view.setUint32(head, 0x60000000)
    view.setUint16(head + 4, ICMP_HEADER + quoted)
    view.setUint8(head + 6, IPPROTO_ICMPV6)
    view.setUint8(head + 7, ANSWER_TTL)
    for (let w = 0; w < 4; w++) view.setInt32(head + 8 + w * 4, own[w]!)
    view.setInt32(head + 24, to.s0)
    view.setInt32(head + 28, to.s1)
    view.setInt32(head + 32, to.s2)
    view.setInt32(head + 36, to.s3)
    const at = head + IPV6_HEADER
    const pseudo =
      sumOfWords(own[0]!, own[1]!, own[2]!, own[3]!) +
      sumOfWords(to.s0, to.s1, to.s2, to.s3) +
      swap16(ICMP_HEADER + quoted) +
      swap16(IPPROTO_ICMPV6)
    const sum = fold(pseudo) + this.#env.sum(at, ICMP_HEADER) + this.#env.sum(body, quoted)
    view.setUint16(at + icmp.checksum, negate(fold(sum)), true)
  }
}
