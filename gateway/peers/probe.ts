/**
 * The echo by which a peer proves that it is reached at an address and port.
 *
 *   tunnel header (our context + our own reference -> their context + reference 1)
 *   ICMP echo request: type 8, code 0, checksum, identifier, sequence
 *   16 random bytes (the nonce), then zeros up to the size wanted
 *
 * Reference 1 is the gateway itself and answers echo, whoever made it (wire.md section 2, decisions.md 6). Nobody who cannot read
 * what is sent to that address and port can know the nonce, so an answer is a proof, and one forged datagram changes nothing.
 */
import { ICMP_ECHO_REQUEST } from '../../ipref/icmp.ts'
import { IPPROTO_ICMP } from '../../ipref/ip.ts'

export const NONCE_LENGTH = 16
const ICMP_HEADER_LENGTH = 8
const VERSION_1 = 0x10
const DONT_FRAGMENT = 0x01
const PROBE_TTL = 64

export interface ProbeAddressing {
  family: 4 | 6
  /** 4 or 16 bytes; zeros when unknown */
  ourContext: Uint8Array
  theirContext: Uint8Array
  /** the two references as they stand in the header: equal lengths of 4, 8 or 16 bytes, and the length code */
  ourReference: Uint8Array
  theirReference: Uint8Array
  referenceCode: number
}

export interface ProbeEcho {
  id: number
  sequence: number
  /** 16 bytes */
  nonce: Uint8Array
  /** beyond the peer, on the way to a host */
  mayBeFragmented?: boolean
}

/** The UDP payload of one probe; `size` is the payload length wanted, 0 for the smallest. */
export function encodeProbe(to: ProbeAddressing, echo: ProbeEcho, size = 0): Uint8Array {
  const headerLength = 4 + 2 * to.ourContext.length + 2 * to.ourReference.length
  const payload = new Uint8Array(Math.max(size, headerLength + ICMP_HEADER_LENGTH + NONCE_LENGTH))
  const flags = echo.mayBeFragmented ? 0 : DONT_FRAGMENT
  payload.set([VERSION_1 | (to.referenceCode << 2) | flags, to.family << 4, PROBE_TTL, IPPROTO_ICMP])
  let offset = 4
  for (const part of [to.ourContext, to.theirContext, to.ourReference, to.theirReference]) {
    payload.set(part, offset)
    offset += part.length
  }
  const view = new DataView(payload.buffer)
  payload[offset] = ICMP_ECHO_REQUEST
  view.setUint16(offset + 4, echo.id)
  view.setUint16(offset + 6, echo.sequence)
  payload.set(echo.nonce, offset + ICMP_HEADER_LENGTH)
  view.setUint16(offset + 2, internetChecksum(view, offset))
  return payload
}

function internetChecksum(view: DataView, from: number): number {
  let sum = 0
  for (let i = from; i < view.byteLength; i += 2)
    sum += i + 1 < view.byteLength ? view.getUint16(i) : view.getUint8(i) << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
