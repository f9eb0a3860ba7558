/**
 * Writes the IP header of one packet for the local side (wire.md section 2, IP header on the way out of the tunnel).
 * Set the fields, then `write`. Reused for every packet.
 */
import { fold, negate } from '../../ipref/checksum.ts'
import { IP4_DF, IP4_MF, IPV4_HEADER, IPV6_FRAGMENT_HEADER, IPV6_HEADER, NEXT_FRAGMENT } from '../../ipref/ip.ts'
import type { Environment } from './environment.ts'

export class HostWriter {
  family = 4
  tos = 0
  ttl = 0
  protocol = 0
  dontFragment = false
  hasFragmentInfo = false
  fragmentOffset = 0
  moreFragments = false
  identification = 0
  s0 = 0
  s1 = 0
  s2 = 0
  s3 = 0
  d0 = 0
  d1 = 0
  d2 = 0
  d3 = 0
  readonly #env: Pick<Environment, 'view' | 'sum'>

  constructor(env: Pick<Environment, 'view' | 'sum'>) {
    this.#env = env
  }

  get headerLength(): number {
    if (this.family === 4) return IPV4_HEADER
    return this.hasFragmentInfo ? IPV6_HEADER + IPV6_FRAGMENT_HEADER : IPV6_HEADER
  }

  /** Writes at `at` for `l4Length` bytes of layer 4; the length of the header. */
  write(at: number, l4Length: number): number {
    return this.family === 4 ? this.#write4(at, l4Length) : this.#write6(at, l4Length)
  }

  #write4(at: number, l4Length: number): number {
    const { view } = this.#env
    view.setUint16(at, 0x4500 | this.tos)
    view.setUint16(at + 2, IPV4_HEADER + l4Length)
    view.setUint16(at + 4, this.identification & 0xffff)
    const flags = (this.dontFragment ? IP4_DF : 0) | (this.moreFragments ? IP4_MF : 0)
    view.setUint16(at + 6, flags | (this.fragmentOffset >>> 3))
    view.setUint16(at + 8, (this.ttl << 8) | this.protocol)
    view.setInt32(at + 12, this.s3)
    view.setInt32(at + 16, this.d3)
    const { s3, d3 } = this
    const sum =
      (0x4500 | this.tos) +
      IPV4_HEADER +
      l4Length +
      (this.identification & 0xffff) +
      (flags | (this.fragmentOffset >>> 3)) +
      ((this.ttl << 8) | this.protocol) +
      (s3 >>> 16) +
      (s3 & 0xffff) +
      (d3 >>> 16) +
      (d3 & 0xffff)
    view.setUint16(at + 10, negate(fold(sum)))
    return IPV4_HEADER
  }

  #write6(at: number, l4Length: number): number {
    const { view } = this.#env
    const { hasFragmentInfo } = this
    view.setUint32(at, 0x60000000 | (this.tos << 20))
    view.setUint16(at + 4, l4Length + (hasFragmentInfo ? IPV6_FRAGMENT_HEADER : 0))
    view.setUint16(at + 6, ((hasFragmentInfo ? NEXT_FRAGMENT : this.protocol) << 8) | this.ttl)
    view.setInt32(at + 8, this.s0)
    view.setInt32(at + 12, this.s1)
    view.setInt32(at + 16, this.s2)
    view.setInt32(at + 20, this.s3)
    view.setInt32(at + 24, this.d0)
    view.setInt32(at + 28, this.d1)
    view.setInt32(at + 32, this.d2)
    view.setInt32(at + 36, this.d3)
    if (!hasFragmentInfo) return IPV6_HEADER
    view.setUint32(at + 40, (this.protocol << 24) | this.fragmentOffset | (this.moreFragments ? 1 : 0))
    view.setUint32(at + 44, this.identification)
    return IPV6_HEADER + IPV6_FRAGMENT_HEADER
  }
}
