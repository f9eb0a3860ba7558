/**
 * Super-packets: what the TUN device hands over whole leaves as the packets a network would have carried, and what comes in pieces is written
 * as one only when it is truly one.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Coalescer } from '../../../gateway/forward/coalesce.ts'
import { Verdict } from '../../../gateway/forward/environment.ts'
import { fold, sumBytes, swap16 } from '../../../ipref/checksum.ts'
import { ForwardBench, settingsFor } from '../../support/forwardBench.ts'

const A = '10.1.0.2'
const EA = '10.240.1.2'
const TUNNEL_HEADER = 20

function pair(): { a: ForwardBench; b: ForwardBench } {
  const a = new ForwardBench(settingsFor({ encodeNets: ['10.240.0.0/12'], contexts: ['198.51.100.1'] }))
  a.addOurs(A, 11n)
  a.addTheirs(EA, '198.51.100.2', 22n)
  const b = new ForwardBench(settingsFor({ encodeNets: ['10.240.0.0/12'], contexts: ['198.51.100.2'] }))
  b.addOurs(A, 22n)
  b.addTheirs('10.240.1.1', '198.51.100.1', 11n)
  return { a, b }
}

function ipv4(protocol: number, l4: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + l4.length)
  const view = new DataView(packet.buffer)
  packet.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 1, 0, 2, 10, 240, 1, 2])
  view.setUint16(2, packet.length)
  view.setUint16(10, ~sumBytes(packet, 0, 20) & 0xffff, true)
  packet.set(l4, 20)
  return packet
}

function tcp(payload: Uint8Array, flags: number, sequence: number): Uint8Array {
  const segment = new Uint8Array(20 + payload.length)
  const view = new DataView(segment.buffer)
  view.setUint16(0, 40000)
  view.setUint16(2, 80)
  view.setUint32(4, sequence)
  segment.set([0x50, flags, 0xfa, 0xf0], 12)
  segment.set(payload, 20)
  return segment
}

function udp(payload: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(8 + payload.length)
  const view = new DataView(datagram.buffer)
  view.setUint16(0, 5000)
  view.setUint16(2, 53)
  view.setUint16(4, datagram.length)
  datagram.set(payload, 8)
  return datagram
}

function checksumIsRight(packet: Uint8Array): boolean {
  const l4 = packet.length - 20
  return fold(sumBytes(packet, 12, 8) + swap16(packet[9]!) + swap16(l4) + sumBytes(packet, 20, l4)) === 0xffff
}

const payloads = fc.record({
  payload: fc.uint8Array({ minLength: 1, maxLength: 6000 }),
  size: fc.integer({ min: 8, max: 1400 }),
  sequence: fc.nat(0xffffffff),
  flags: fc.constantFrom(0x10, 0x18, 0x11, 0x90),
})

/** Through both gateways: what host b gets for one super-packet of host a. */
function through(
  packet: Uint8Array,
  gsoType: number,
  size: number,
): { tunnel: Uint8Array[]; host: Uint8Array[]; b: ForwardBench } {
  const { a, b } = pair()
  expect(a.runEncap(packet, { needsChecksum: true, type: gsoType, size })).toBe(Verdict.forwarded)
  const tunnel = a.take().map(sent => sent.bytes)
  const host = tunnel.map(bytes => {
    expect(b.runDecap(bytes, { address: '198.51.100.1', port: 1045 })).toBe(Verdict.forwarded)
    return b.take()[0]!.bytes
  })
  return { tunnel, host, b }
}

describe('a TCP super-packet', () => {
  it('leaves as segments whose checksums, sequence numbers and flags are right, and whose payload is the same', () => {
    fc.assert(
      fc.property(payloads, ({ payload, size, sequence, flags }) => {
        const { host } = through(ipv4(6, tcp(payload, flags, sequence)), 1, size)
        const joined = Buffer.concat(host.map(packet => packet.subarray(40)))
        expect(joined.equals(payload)).toBe(true)
        for (const [i, packet] of host.entries()) {
          const view = new DataView(packet.buffer)
          expect(checksumIsRight(packet)).toBe(true)
          expect(view.getUint32(24)).toBe((sequence + i * size) >>> 0)
          const isLast = i === host.length - 1
          const expected = flags & (i === 0 ? 0xff : ~0x80) & (isLast ? 0xff : ~0x09)
          expect(packet[33]).toBe(expected)
        }
      }),
      { numRuns: 60 },
    )
  })
})

describe('a UDP super-packet', () => {
  it('leaves as datagrams of its segment size with right lengths and checksums', () => {
    fc.assert(
      fc.property(payloads, ({ payload, size }) => {
        const { host, tunnel } = through(ipv4(17, udp(payload)), 5, size)
        expect(Buffer.concat(host.map(packet => packet.subarray(28))).equals(payload)).toBe(true)
        for (const packet of host) {
          expect(checksumIsRight(packet)).toBe(true)
          expect(new DataView(packet.buffer).getUint16(24)).toBe(packet.length - 20)
        }
        for (const bytes of tunnel.slice(0, -1)) expect(bytes.length).toBe(TUNNEL_HEADER + 8 + size)
      }),
      { numRuns: 60 },
    )
  })
})

// ---- coalescing

/** Sends whole packets of host a through both gateways in one batch; the groups that Coalescer makes of them. */
function groupsOf(packets: Uint8Array[], spoil: (tunnel: Uint8Array, i: number) => void = () => {}): number[][] {
  const { a, b } = pair()
  const tunnel: Uint8Array[] = packets.map(packet => {
    a.runEncap(packet)
    return a.take()[0]!.bytes
  })
  for (const [i, bytes] of tunnel.entries()) spoil(bytes, i)
  const stay = b.stay(tunnel)
  const coalescer = new Coalescer(b.env)
  coalescer.run({ tcp4: true, tcp6: true, udp4: true, udp6: true })
  const groups: number[][] = []
  for (let i = 0; i < stay; i++) {
    if (coalescer.leads[i] === 0) continue
    const group = []
    for (let k = i; k >= 0; k = coalescer.next[k]!) group.push(k)
    groups.push(group)
  }
  return groups
}

function whole(payload: Uint8Array, flags: number, sequence: number): Uint8Array {
  const packet = ipv4(6, tcp(payload, flags, sequence))
  const view = new DataView(packet.buffer)
  view.setUint16(
    36,
    ~fold(sumBytes(packet, 12, 8) + swap16(6) + swap16(packet.length - 20) + sumBytes(packet, 20, packet.length - 20)) &
      0xffff,
    true,
  )
  return packet
}

const data = (length: number) => new Uint8Array(length).fill(7)

describe('coalescing', () => {
  it('joins segments in order, up to and with a short last one', () => {
    expect(
      groupsOf([
        whole(data(100), 0x10, 0),
        whole(data(100), 0x10, 100),
        whole(data(50), 0x10, 200),
        whole(data(100), 0x10, 250),
      ]),
    ).toEqual([[0, 1, 2], [3]])
  })
  it('never joins a segment whose checksum is wrong, nor one behind it in its place', () => {
    const spoil = (tunnel: Uint8Array, i: number) => {
      if (i === 1) tunnel[tunnel.length - 1]! ^= 1
    }
    expect(
      groupsOf([whole(data(100), 0x10, 0), whole(data(100), 0x10, 100), whole(data(100), 0x10, 200)], spoil),
    ).toEqual([[0], [1], [2]])
  })
  it.each([
    ['a gap', [0, 150]],
    ['the wrong order', [100, 0]],
    ['the same twice', [0, 0]],
  ])('does not join over %s', (_name, sequences) => {
    expect(groupsOf(sequences.map(sequence => whole(data(100), 0x10, sequence)))).toEqual([[0], [1]])
  })
  it('ends a group at PSH, and leaves FIN, SYN, RST and empty segments alone', () => {
    expect(groupsOf([whole(data(100), 0x18, 0), whole(data(100), 0x10, 100)])).toEqual([[0], [1]])
    expect(groupsOf([whole(data(100), 0x10, 0), whole(data(100), 0x11, 100)])).toEqual([[0], [1]])
    expect(groupsOf([whole(data(0), 0x10, 0), whole(data(0), 0x10, 0)])).toEqual([[0], [1]])
  })
})
