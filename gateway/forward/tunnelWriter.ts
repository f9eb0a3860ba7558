/**
 * Writes the tunnel header of one packet (layout: ipref/tunnelHeader.ts). Set the fields, then `write`. Reused for every packet.
 */
import { FLAG_DF, FLAG_FRAGMENT, headerLength, lengthCode, VERSION_1 } from '../../ipref/tunnelHeader.ts'
import { isMapped } from './tables.ts'

export class TunnelWriter {
  ttl = 0
  protocol = 0
  dontFragment = false
  hasFragmentInfo = false
  fragmentOffset = 0
  moreFragments = false
  identification = 0
  /** 4 or 6: of both context addresses */
  family = 4
  /** of both references */
  code = 0
  // source and destination context address and reference
  sc0 = 0
  sc1 = 0
  sc2 = 0
  sc3 = 0
  dc0 = 0
  dc1 = 0
  dc2 = 0
  dc3 = 0
  sr0 = 0
  sr1 = 0
  sr2 = 0
  sr3 = 0
  dr0 = 0
  dr1 = 0
  dr2 = 0
  dr3 = 0
  readonly #view: DataView

  constructor(view: DataView) {
    this.#view = view
  }

  /** The family follows the destination context; undefined context: unknown, zeros are written. */
  setContexts(context4: Int32Array | undefined, context6: Int32Array | undefined): void {
    this.family = isMapped(this.dc0, this.dc1, this.dc2) ? 4 : 6
    const context = this.family === 4 ? context4 : context6
    this.sc0 = context ? context[0]! : 0
    this.sc1 = context ? context[1]! : 0
    this.sc2 = context ? context[2]! : 0
    this.sc3 = context ? context[3]! : 0
  }

  /** Chooses the shortest form that holds both references; the length of the header, fragment info not counted. */
  measure(): number {
    const source = lengthCode(this.sr0, this.sr1, this.sr2, this.sr3)
    const destination = lengthCode(this.dr0, this.dr1, this.dr2, this.dr3)
    this.code = Math.max(source, destination)
    return headerLength(this.family, this.code)
  }

  /** Writes at `at`; the length of the header. `measure` was called. */
  write(at: number): number {
    const view = this.#view
    const start = at
    const flags = (this.hasFragmentInfo ? FLAG_FRAGMENT : 0) | (this.dontFragment ? FLAG_DF : 0)
    view.setUint8(at, VERSION_1 | (this.code << 2) | flags)
    view.setUint8(at + 1, this.family << 4)
    view.setUint8(at + 2, this.ttl)
    view.setUint8(at + 3, this.protocol)
    at += 4
    if (this.hasFragmentInfo) {
      view.setUint32(at, this.fragmentOffset | (this.moreFragments ? 1 : 0))
      view.setUint32(at + 4, this.identification)
      at += 8
    }
    at = this.#writeContext(at, this.sc0, this.sc1, this.sc2, this.sc3)
    at = this.#writeContext(at, this.dc0, this.dc1, this.dc2, this.dc3)
    at = this.#writeReference(at, this.sr0, this.sr1, this.sr2, this.sr3)
    at = this.#writeReference(at, this.dr0, this.dr1, this.dr2, this.dr3)
    return at - start
  }

  #writeContext(at: number, w0: number, w1: number, w2: number, w3: number): number {
    const view = this.#view
    if (this.family === 4) {
      view.setInt32(at, w3)
      return at + 4
    }
    view.setInt32(at, w0)
    view.setInt32(at + 4, w1)
    view.setInt32(at + 8, w2)
    view.setInt32(at + 12, w3)
    return at + 16
  }

  #writeReference(at: number, w0: number, w1: number, w2: number, w3: number): number {
    const view = this.#view
    const top = w0 & 0xff000000
    if (this.code === 0) {
      view.setInt32(at, top | (w3 & 0x00ffffff))
      return at + 4
    }
    if (this.code === 1) {
      view.setInt32(at, top | (w2 & 0x00ffffff))
      view.setInt32(at + 4, w3)
      return at + 8
    }
    view.setInt32(at, w0)
    view.setInt32(at + 4, w1)
    view.setInt32(at + 8, w2)
    view.setInt32(at + 12, w3)
    return at + 16
  }
}
