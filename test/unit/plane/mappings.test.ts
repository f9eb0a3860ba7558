import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MappingsReader, MappingsWriter, NEVER } from '../../../gateway/plane/mappings.ts'
import { PeerTable } from '../../../gateway/plane/peerTable.ts'
import { Ring } from '../../../gateway/plane/ring.ts'
import type { AddressWords } from '../../../ipref/address.ts'

function tables(capacity = 64): { writer: MappingsWriter; reader: MappingsReader } {
  const buffers = MappingsWriter.allocate({ ours: capacity, theirs: capacity })
  const reader = new MappingsReader(buffers, new PeerTable(PeerTable.allocate(16), 16))
  reader.now = 100
  return { writer: new MappingsWriter(buffers), reader }
}

const v4 = (n: number): AddressWords => [0, 0, 0xffff, n]
const ref = (n: number): AddressWords => [0, 0, 0, n]

describe('mapping tables', () => {
  it('agree with a map through any sequence of additions and removals', () => {
    const steps = fc.array(fc.record({ key: fc.integer({ min: 1, max: 40 }), add: fc.boolean() }), { maxLength: 200 })
    fc.assert(
      fc.property(steps, list => {
        const { writer, reader } = tables()
        const model = new Map<number, number>()
        for (const { key, add } of list) {
          if (add && !model.has(key))
            model.set(
              key,
              writer.theirs.add({ ea: v4(key), context: v4(1000 + key), reference: ref(key), peer: 1, expires: NEVER }),
            )
          else if (!add && model.has(key)) {
            writer.theirs.remove(model.get(key)!)
            model.delete(key)
          }
        }
        for (let key = 1; key <= 40; key++) {
          expect(reader.findEncoded(...v4(key))).toBe(model.has(key))
          expect(reader.findRemote(...v4(1000 + key), ...ref(key), 4)).toBe(model.has(key))
          if (model.has(key)) expect([reader.a3, writer.theirs.findEncoded(v4(key))]).toEqual([key, model.get(key)])
        }
        expect(writer.theirs.size).toBe(model.size)
      }),
    )
  })
  it('do not find what has expired, and mark what was found as used', () => {
    const { writer, reader } = tables()
    const slot = writer.ours.add(v4(5), ref(7), 101)
    expect(reader.findNative(...v4(5))).toBe(true)
    expect(writer.ours.lastUsed[slot]).toBe(100)
    reader.now = 101
    expect(reader.findNative(...v4(5))).toBe(false)
    expect(reader.findReference(...ref(7))).toBe(false)
  })
  it('have one encoded address of each family for a remote host', () => {
    const { writer, reader } = tables()
    writer.theirs.add({ ea: v4(5), context: v4(9), reference: ref(1), peer: 0, expires: NEVER })
    writer.theirs.add({ ea: [1, 2, 3, 4], context: v4(9), reference: ref(1), peer: 0, expires: NEVER })
    expect(reader.findRemote(...v4(9), ...ref(1), 6)).toBe(true)
    expect([reader.a0, reader.a3]).toEqual([1, 4])
    expect(reader.findRemote(...v4(9), ...ref(1), 4)).toBe(true)
    expect(reader.a3).toBe(5)
  })
  it('say when they are full', () => {
    const { writer } = tables(4)
    const slots = [1, 2, 3, 4, 5].map(n => writer.ours.add(v4(n), ref(n), NEVER))
    expect(slots.filter(slot => slot >= 0)).toHaveLength(4)
    expect(slots.at(-1)).toBe(-1)
  })
  it('forget the path MTU of a host after a while', () => {
    const { writer, reader } = tables()
    writer.ours.add(v4(5), ref(7), NEVER)
    reader.noteHostMtu(...v4(5), 1280)
    reader.findReference(...ref(7))
    expect(reader.hostMtu).toBe(1280)
    reader.now += 601
    reader.findReference(...ref(7))
    expect(reader.hostMtu).toBe(65535)
  })
})

describe('the ring between threads', () => {
  it('hands over what was put in, in order, and refuses what does not fit', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 60 }), packets => {
        const buffer = Ring.allocate(1024)
        const [writer, reader] = [new Ring(buffer, 4), new Ring(buffer, 4)]
        const waiting: Uint8Array[] = []
        for (const [i, packet] of packets.entries()) {
          writer.words[0] = i
          if (writer.push(3, packet, 0, packet.length)) waiting.push(packet)
          if (i % 3 !== 0) continue
          for (const expected of waiting.splice(0)) {
            expect(reader.next()).toBe(true)
            const got = new Uint8Array(reader.packetLength)
            reader.takePacket(got, 0)
            expect(got).toEqual(expected)
            reader.release()
          }
          expect(reader.next()).toBe(false)
        }
      }),
    )
  })
  it('notifies once until the reader begins to read', () => {
    const buffer = Ring.allocate(1024)
    const [writer, reader] = [new Ring(buffer, 0), new Ring(buffer, 0)]
    expect([writer.shouldNotify(), writer.shouldNotify()]).toEqual([true, false])
    reader.beginRead()
    expect(writer.shouldNotify()).toBe(true)
  })
})
