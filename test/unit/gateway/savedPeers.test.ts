import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { KnownPeer } from '../../../gateway/peers/peers.ts'
import { SavedPeers } from '../../../gateway/peers/savedPeers.ts'

const KNOWN: KnownPeer[] = [
  { address: [0, 0, 0xffff, 0xc6336409 | 0], port: 4045, mtu: 1300 },
  { address: [0x20010db8, 0, 0, 9], port: 1045, mtu: 0 },
]
const NOW = 1_800_000_000
let folder = ''
let file = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-peers-'))
  file = join(folder, 'peers.json')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function open(known: readonly KnownPeer[], clock = { now: NOW }) {
  const adopted: KnownPeer[] = []
  const peers = { known: () => known.values() as Generator<KnownPeer>, adopt: (one: KnownPeer) => adopted.push(one) }
  return { saved: new SavedPeers(file, peers, () => clock.now), adopted, clock }
}

function restored(now = NOW): KnownPeer[] {
  const { saved, adopted } = open([], { now })
  saved.restore()
  return adopted
}

describe('ports of peers', () => {
  it('are there again after a restart', () => {
    open(KNOWN).saved.save()
    expect(restored()).toEqual(KNOWN)
    expect(readdirSync(folder)).toEqual(['peers.json'])
  })

  it('are void when it took longer than NAT keeps them, or the clock was set back', () => {
    open(KNOWN).saved.save()
    expect([300, 3600, -3600].map(later => restored(NOW + later).length)).toEqual([2, 0, 0])
  })

  it('are written when they are others, and once a minute to say how old they are', () => {
    const known = KNOWN.map(one => ({ ...one }))
    const { saved, clock } = open(known)
    const writes = (seconds: number) => {
      const before = statSync(file, { throwIfNoEntry: false })?.ino
      clock.now += seconds
      saved.save()
      return statSync(file).ino !== before
    }
    expect([writes(0), writes(2), writes(2)]).toEqual([true, false, false])
    known[0]!.port = 4046
    expect([writes(2), writes(2), writes(60), writes(2)]).toEqual([true, false, true, false])
    expect(restored(clock.now)[0]!.port).toBe(4046)
  })

  it('are written at the end', () => {
    const known = [KNOWN[0]!]
    const { saved } = open(known)
    saved.start()
    known.push(KNOWN[1]!)
    saved.stop()
    expect(restored()).toEqual(KNOWN)
  })

  it('of a file that makes no sense, or in part, are those that do', () => {
    expect(restored()).toEqual([])
    for (const text of ['', 'null', '[]', '{"savedAt":1800000000}', '{"savedAt":"x","peers":[]}']) {
      writeFileSync(file, text)
      expect(restored()).toEqual([])
    }
    open(KNOWN).saved.save()
    const good = JSON.parse(readFileSync(file, 'utf8')) as { peers: unknown[] }
    const wrong = [{ port: 0 }, { port: 70_000 }, { mtu: -1 }, { address: 'x' }, { address: 7 }, { port: '1' }]
    good.peers.push(...wrong.map(change => ({ address: '192.0.2.1', port: 1, mtu: 0, ...change })), {})
    writeFileSync(file, JSON.stringify(good))
    expect(restored()).toEqual(KNOWN)
  })
})
