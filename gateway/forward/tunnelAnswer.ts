/**
 * The IPREF-ICMP error that a refused tunnel packet deserves: from our own context and the gateway's reference, back to where the
 * datagram came from (wire.md section 2, ICMP).
 *
 *   | tunnel header | ICMP header |   the tunnel packet, at most 576 bytes |
 *          head slot                          scratch
 */
import { fold, negate } from '../../ipref/checksum.ts'
import { ICMP_HEADER, IPPROTO_ICMP, icmp } from '../../ipref/ip.ts'
import type { Environment } from './environment.ts'
import { ANSWER_TTL, answerKind } from './hostAnswer.ts'
import { MOST_QUOTED } from './mtu.ts'
import { Direction, HEAD_SLOT, PEER_SOURCE } from './output.ts'
import type { TunnelPacket } from './tunnelPacket.ts'
import { TunnelWriter } from './tunnelWriter.ts'

export class TunnelAnswer {
  readonly #env: Environment
  readonly #writer: TunnelWriter

  constructor(env: Environment) {
    this.#env = env
    this.#writer = new TunnelWriter(env.view)
  }

  /** Adds the answer to the output; false when the rate limit says no. */
  send(to: TunnelPacket, about: { fault: number; mtu: number; packet: number; length: number }): boolean {
    const { output, bytes, view } = this.#env
    if (!this.#env.mayAnswer(to.sc0, to.sc1, to.sc2, to.sc3)) return false
    const i = output.count++
    const head = output.slots + i * HEAD_SLOT
    this.#turnAround(to)
    this.#writer.ttl = ANSWER_TTL
    const header = this.#writer.write(head)
    const quoted = Math.min(about.length, MOST_QUOTED)
    const body = output.scratch + output.scratchUsed
    bytes.copyWithin(body, about.packet, about.packet + quoted)
    output.scratchUsed += (quoted + 3) & ~3
    const at = head + header
    view.setUint16(at, answerKind(about.fault))
    view.setUint16(at + icmp.checksum, 0)
    view.setUint32(at + 4, about.mtu)
    view.setUint16(at + icmp.checksum, negate(fold(this.#env.sum(at, ICMP_HEADER) + this.#env.sum(body, quoted))), true)
    this.#add(i, { head, headLength: header + ICMP_HEADER, body, bodyLength: quoted })
    return true
  }

  /** An echo request to the gateway's own reference: answered from where it lies; as long as the request, so it amplifies nothing. */
  sendEchoReply(to: TunnelPacket): void {
    const { output, view } = this.#env
    const i = output.count++
    const head = output.slots + i * HEAD_SLOT
    this.#turnAround(to)
    this.#writer.ttl = ANSWER_TTL
    this.#writer.dontFragment = to.dontFragment
    const headLength = this.#writer.write(head)
    // type 8 becomes 0: the sum loses 8 in the first byte of a word
    const sum = negate(view.getUint16(to.l4 + icmp.checksum, true)) + negate(view.getUint16(to.l4, true))
    view.setUint16(to.l4, 0)
    view.setUint16(to.l4 + icmp.checksum, negate(fold(sum)), true)
    this.#add(i, { head, headLength, body: to.l4, bodyLength: to.l4Length })
  }

  #add(i: number, packet: { head: number; headLength: number; body: number; bodyLength: number }): void {
    const { output } = this.#env
    output.direction[i] = Direction.tunnel
    output.head[i] = packet.head
    output.headLength[i] = packet.headLength
    output.body[i] = packet.body
    output.bodyLength[i] = packet.bodyLength
    output.peer[i] = PEER_SOURCE
    output.tos[i] = 0
    output.fromGateway[i] = 1
  }

  // a gateway that does not know its own address answers with the one it was called by
  #turnAround(to: TunnelPacket): void {
    const { settings } = this.#env
    const writer = this.#writer
    writer.protocol = IPPROTO_ICMP
    writer.dontFragment = false
    writer.hasFragmentInfo = false
    writer.dc0 = to.sc0
    writer.dc1 = to.sc1
    writer.dc2 = to.sc2
    writer.dc3 = to.sc3
    writer.setContexts(settings.context4, settings.context6)
    if (!(writer.family === 4 ? settings.context4 : settings.context6)) {
      writer.sc0 = to.dc0
      writer.sc1 = to.dc1
      writer.sc2 = to.dc2
      writer.sc3 = to.dc3
    }
    writer.dr0 = to.sr0
    writer.dr1 = to.sr1
    writer.dr2 = to.sr2
    writer.dr3 = to.sr3
    const gateway = settings.gatewayReference
    writer.sr0 = gateway[0]!
    writer.sr1 = gateway[1]!
    writer.sr2 = gateway[2]!
    writer.sr3 = gateway[3]!
    writer.measure()
  }
}
