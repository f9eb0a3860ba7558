/**
 * One tunnel packet, taken apart (layout: ipref/tunnelHeader.ts). Reused for every packet.
 *
 * `parseStart` reads the first 4 (or, with fragment info, 12) bytes and finds out where layer 4 begins; `parseEnds` the contexts and references,
 * which are the same for all packets of a run and need not be read again then.
 */
import { Fault } from '../../ipref/faults.ts'
import { MAX_PACKET } from '../../ipref/ip.ts'
import { FLAG_DF, FLAG_FRAGMENT, FRAGMENT_INFO, headerLength, VERSION_1 } from '../../ipref/tunnelHeader.ts'
import { MAPPED } from './tables.ts'

export class TunnelPacket {
  /** 4 or 6: of the context addresses */
  family = 4
  ttl = 0
  protocol = 0
  dontFragment = false
  hasFragmentInfo = false
  fragmentOffset = 0
  moreFragments = false
  identification = 0
  /** where contexts and references begin, and how many bytes they are */
  ends = 0
  endsLength = 0
  code = 0
  l4 = 0
  l4Length = 0
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

  get isFragment(): boolean {
    return this.fragmentOffset !== 0 || this.moreFragments
  }

  parseStart(at: number, length: number): number {
    const view = this.#view
    if (length < 4) return Fault.tunnel_header_invalid
    const flags = view.getUint8(at)
    const version = view.getUint8(at + 1)
    this.code = (flags >>> 2) & 3
    if ((flags & 0xf0) !== VERSION_1 || this.code === 3) return Fault.tunnel_header_invalid
    if (version !== 0x40 && version !== 0x60) return Fault.tunnel_header_invalid
    this.family = version >>> 4
    this.ttl = view.getUint8(at + 2)
    this.protocol = view.getUint8(at + 3)
    this.dontFragment = (flags & FLAG_DF) !== 0
    this.hasFragmentInfo = (flags & FLAG_FRAGMENT) !== 0
    const fixed = headerLength(this.family, this.code)
    const header = fixed + (this.hasFragmentInfo ? FRAGMENT_INFO : 0)
    if (length < header) return Fault.tunnel_header_invalid
    this.ends = at + header - fixed + 4
    this.endsLength = fixed - 4
    this.l4 = at + header
    this.l4Length = length - header
    this.fragmentOffset = 0
    this.moreFragments = false
    this.identification = 0
    return this.hasFragmentInfo ? this.#parseFragment(at + 4) : Fault.none
  }

  #parseFragment(at: number): number {
    const view = this.#view
    const offset = view.getUint16(at + 2)
    if (view.getUint16(at) !== 0 || (offset & 6) !== 0) return Fault.fragment_invalid
    this.fragmentOffset = offset & 0xfff8
    this.moreFragments = (offset & 1) !== 0
    this.identification = view.getUint32(at + 4)
    return Fault.none
  }

  /** A fragment's length, for one that is not quoted. */
  checkFragment(): number {
    if (this.moreFragments && (this.l4Length & 7) !== 0) return Fault.fragment_invalid
    return this.fragmentOffset + this.l4Length > MAX_PACKET ? Fault.fragment_beyond_end : Fault.none
  }

  parseEnds(): void {
    const view = this.#view
    let at = this.ends
    if (this.family === 4) {
      this.sc0 = 0
      this.sc1 = 0
      this.sc2 = MAPPED
      this.sc3 = view.getInt32(at)
      this.dc0 = 0
      this.dc1 = 0
      this.dc2 = MAPPED
      this.dc3 = view.getInt32(at + 4)
      at += 8
    } else {
      this.sc0 = view.getInt32(at)
      this.sc1 = view.getInt32(at + 4)
      this.sc2 = view.getInt32(at + 8)
      this.sc3 = view.getInt32(at + 12)
      this.dc0 = view.getInt32(at + 16)
      this.dc1 = view.getInt32(at + 20)
      this.dc2 = view.getInt32(at + 24)
      this.dc3 = view.getInt32(at + 28)
      at += 32
    }
    const length = 4 << this.code
    this.sr0 = this.#top(at)
    this.sr1 = this.code === 2 ? view.getInt32(at + 4) : 0
    this.sr2 = this.#middle(at)
    this.sr3 = this.#low(at)
    at += length
    this.dr0 = this.#top(at)
    this.dr1 = this.code === 2 ? view.getInt32(at + 4) : 0
    this.dr2 = this.#middle(at)
    this.dr3 = this.#low(at)
  }

  #top(at: number): number {
    const word = this.#view.getInt32(at)
    return this.code === 2 ? word : word & 0xff000000
  }

  #middle(at: number): number {
    if (this.code === 0) return 0
    return this.code === 1 ? this.#view.getInt32(at) & 0x00ffffff : this.#view.getInt32(at + 8)
  }

  #low(at: number): number {
    if (this.code === 0) return this.#view.getInt32(at) & 0x00ffffff
    return this.#view.getInt32(at + (this.code === 1 ? 4 : 12))
  }

  hasZeroSource(): boolean {
    return this.sc0 === 0 && this.sc1 === 0 && this.sc3 === 0 && (this.sc2 === 0 || this.family === 4)
  }

  hasZeroDestination(): boolean {
    return this.dc0 === 0 && this.dc1 === 0 && this.dc3 === 0 && (this.dc2 === 0 || this.family === 4)
  }
}
