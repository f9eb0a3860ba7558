import { beforeEach, describe, expect, it } from 'vitest'
import { HeardPeers, MOST_PEERS, ToldPeers } from '../../../../gateway/kube/uplinkPeers.ts'
import { encodeUplink, FrameReader, MOST_PAYLOAD, type PeerRecord } from '../../../../gateway/kube/uplinkProtocol.ts'
import type { KnownPeer } from '../../../../gateway/peers/peers.ts'
import type { AddressWords } from '../../../../ipref/address.ts'

const address = (n: number): AddressWords => [0, 0, 0xffff, n]
const peer = (n: number, port = 1045, mtu = 0): KnownPeer => ({ address: address(n), port, mtu })
const know = (n: number, port = 1045, mtu = 0): PeerRecord => ({ do: 'know', ...peer(n, port, mtu) })
const forget = (n: number): PeerRecord => ({ do: 'forget', address: address(n), port: 0, mtu: 0 })

describe('what is said', () => {
  let told: ToldPeers
  beforeEach(() => {
    told = new ToldPeers()
    told.changes([peer(1), peer(2, 4002)])
  })

  it('is everything at first', () => {
    expect(new ToldPeers().changes([peer(1), peer(2, 4002, 1300)])).toEqual([[know(1), know(2, 4002, 1300)]])
  })

  it.each<[string, KnownPeer[], PeerRecord[][]]>([
    ['nothing changed', [peer(2, 4002), peer(1)], []],
    ['a port', [peer(1), peer(2, 4003)], [[know(2, 4003)]]],
    ['an MTU', [peer(1, 1045, 1400), peer(2, 4002)], [[know(1, 1045, 1400)]]],
    ['a peer that is new', [peer(1), peer(2, 4002), peer(3)], [[know(3)]]],
    ['a peer that is gone', [peer(2, 4002)], [[forget(1)]]],
  ])('then what is another: %s', (_what, known, records) => {
    expect(told.changes(known)).toEqual(records)
    expect(told.changes(known)).toEqual([])
  })

  it('is one record for a port that changed a hundred times since', () => {
    const known = peer(1)
    for (let port = 2000; port < 2100; port++) known.port = port
    expect(told.changes([known, peer(2, 4002)])).toEqual([[know(1, 2099)]])
  })

  it('fits into frames, however many they are', () => {
    const portions = new ToldPeers().changes(Array.from({ length: 4500 }, (_, n) => peer(n)))
    expect(portions.flat()).toHaveLength(4500)
    const frames = portions.map(records => encodeUplink({ kind: 'peers', records }))
    for (const frame of frames) {
      expect(frame.length).toBeLessThan(MOST_PAYLOAD)
      expect(new FrameReader().push(frame)).toHaveLength(1)
    }
  })
})

describe('what is heard', () => {
  let heard: HeardPeers
  beforeEach(() => {
    heard = new HeardPeers()
    for (const record of [know(1), know(2, 4002), know(1, 4001)]) heard.take(record)
  })

  it('is the last that was said of each, handed over once', () => {
    expect(heard.handOver()).toEqual([peer(1, 4001), peer(2, 4002)])
    expect([heard.size, heard.handOver()]).toEqual([0, []])
  })

  it('stays when a snapshot breaks off, and goes at its end unless it was said', () => {
    heard.beginSnapshot()
    heard.take(know(3))
    expect(heard.size).toBe(3)
    heard.beginSnapshot()
    heard.take(know(2, 5002))
    heard.take(know(4))
    heard.take(forget(4))
    heard.endSnapshot()
    expect(heard.handOver()).toEqual([peer(2, 5002)])
  })

  it('is bounded, and those that are known may still change', () => {
    for (let n = 10; n < MOST_PEERS + 100; n++) heard.take(know(n))
    expect(heard.size).toBe(MOST_PEERS)
    heard.take(know(1, 6001))
    expect(heard.handOver()[0]).toEqual(peer(1, 6001))
  })
})
