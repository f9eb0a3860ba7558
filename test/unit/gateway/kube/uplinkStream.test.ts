/** The stream between an active gateway and its standby, over loopback, with mappings that are maps. */
import { connect, createServer, type Socket } from 'node:net'
import pino from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { UplinkActive } from '../../../../gateway/kube/uplinkActive.ts'
import { encodeUplink, FrameReader, proofOf, type UplinkMessage } from '../../../../gateway/kube/uplinkProtocol.ts'
import { keyOf } from '../../../../gateway/kube/uplinkRecords.ts'
import { UplinkStandby } from '../../../../gateway/kube/uplinkStandby.ts'
import type { SavedMapping } from '../../../../gateway/mapper/store.ts'
import type { KnownPeer } from '../../../../gateway/peers/peers.ts'
import { freePort as freePortOf } from '../../../support/ports.ts'
import { silentLog } from '../../../support/silentLog.ts'

const KEY = new Uint8Array(32).fill(7)
const NODES: Record<string, string> = { a: '127.0.0.2', b: '127.0.0.3', c: '127.0.0.4' }
const NOW = 1_800_000_000
const ends: (() => unknown)[] = []
afterEach(() => {
  for (const end of ends.splice(0).reverse()) end()
})

const mapping = (n: number, more: Partial<SavedMapping> = {}): SavedMapping => ({
  kind: 'theirs',
  local: [0, 0, 0, n],
  context: [0, 0, 0, 1],
  reference: [0, 0, 0, n],
  expires: NOW + 14_400,
  ...more,
})

class Mappings extends Map<string, SavedMapping> {
  put(...all: SavedMapping[]): this {
    for (const one of all) this.set(keyOf(one), one)
    return this
  }
  get shown(): string[] {
    return [...this.values()].map(one => JSON.stringify(one)).sort()
  }
}

/** A port that is free on all addresses of the test. */
const freePort = () => freePortOf(Object.values(NODES))

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 60_000
  while (!holds()) {
    if (Date.now() > end) throw new Error(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

function startActive(
  port: number,
  more: { name?: string; key?: Uint8Array; standbys?: string[]; mappings?: Mappings; patienceMs?: number } = {},
) {
  // a busy machine is no reason to do without a standby that works
  const { name = 'a', key = KEY, standbys = ['b', 'c'], mappings = new Mappings(), patienceMs = 60_000 } = more
  const peers: KnownPeer[] = []
  const merged: KnownPeer[] = []
  const taken: string[] = []
  const refusals: string[] = []
  const log = pino(
    { level: 'debug' },
    { write: line => void refusals.push((JSON.parse(line) as { why?: string }).why ?? '') },
  )
  const active = new UplinkActive(
    { name, port },
    {
      log,
      key: () => key,
      standbys: () => standbys.map(one => ({ name: one, addresses: [NODES[one]!] })),
      ownAddresses: () => [NODES[name]!],
      transitions: () => 5,
      mappings: () => mappings.values(),
      merge: one => void (mappings.has(keyOf(one)) || mappings.put(one)),
      peers: { known: () => peers, merge: one => void merged.push(one) },
      unixNow: () => NOW,
      patienceMs,
      onTaken: (by, transitions) => void taken.push(`${by} ${transitions}`),
    },
  )
  active.start()
  ends.push(() => active.stop('the test ends'))
  return { active, mappings, taken, refusals, peers, merged }
}

function startStandby(
  port: number,
  more: { name?: string; nodes?: string[]; mappings?: Mappings; newer?: string } = {},
) {
  const { name = 'b', nodes = Object.values(NODES), mappings = new Mappings(), newer } = more
  const disk = { isStuck: false }
  const standby = new UplinkStandby(
    { name, port },
    {
      log: silentLog,
      key: () => KEY,
      isNode: address => nodes.includes(address),
      newerThan: () => (newer === undefined ? undefined : { name: newer, transitions: 9 }),
      transitions: () => 5,
      mappings: () => mappings.values(),
      adopt: one => void mappings.put(one),
      drop: (kind, local) => void mappings.delete(keyOf({ kind, local })),
      durable: () => (disk.isStuck ? new Promise(() => {}) : Promise.resolve()),
      unixNow: () => NOW,
    },
  )
  standby.listen([NODES[name]!])
  ends.push(() => standby.stop())
  return { standby, mappings, disk }
}

describe('a standby', () => {
  it('has what the active gateway has, gives it what it lacks, and forgets the rest', async () => {
    const port = await freePort()
    const here = new Mappings().put(mapping(1), mapping(2, { kind: 'ours' }), mapping(3))
    // 3 is another one there; 4 is there alone
    const there = new Mappings().put(mapping(3, { reference: [0, 0, 0, 99] }), mapping(4))
    const { standby, mappings } = startStandby(port, { mappings: there })
    const { active } = startActive(port, { mappings: here })
    await until('a standby', () => active.standby === 'b' && standby.isSynchronized)
    expect(mappings.shown).toEqual(here.shown)
    expect([here.has(keyOf(mapping(4))), here.get(keyOf(mapping(3)))]).toEqual([true, mapping(3)])
    expect(standby.active).toBe('a')
  })

  it('has each commit before the address is given out', async () => {
    const port = await freePort()
    const { mappings } = startStandby(port)
    const { active } = startActive(port)
    await until('a standby', () => active.standby !== undefined)
    for (let n = 1; n <= 200; n++) {
      await active.save(mapping(n))
      expect(mappings.has(keyOf(mapping(n)))).toBe(true)
    }
    active.remove('theirs', mapping(7).local)
    active.saveLater(mapping(8, { expires: NOW + 60 }))
    await active.save(mapping(201))
    expect([mappings.has(keyOf(mapping(7))), mappings.get(keyOf(mapping(8)))?.expires]).toEqual([false, NOW + 60])
    expect(active.alone).toBe(0)
  })

  it('is not waited for when there is none, which is counted', async () => {
    const port = await freePort()
    const { active } = startActive(port)
    await active.save(mapping(1))
    expect(active.alone).toBe(1)
    startStandby(port)
    await until('a standby', () => active.standby !== undefined)
    await active.save(mapping(2))
    expect(active.alone).toBe(1)
  })

  it('is none before it has written all mappings', async () => {
    const port = await freePort()
    const { standby, mappings, disk } = startStandby(port)
    disk.isStuck = true
    const { active } = startActive(port, { mappings: new Mappings().put(mapping(1)), patienceMs: 100 })
    await until('all is there', () => mappings.size === 1 && standby.isSynchronized)
    await active.save(mapping(2))
    expect([active.standby, active.alone, mappings.size]).toEqual([undefined, 1, 2])
  })

  it('is not waited for when its disk is stuck, which is counted', async () => {
    const port = await freePort()
    const { disk } = startStandby(port)
    const { active } = startActive(port, { patienceMs: 100 })
    await until('a standby', () => active.standby !== undefined)
    disk.isStuck = true
    await Promise.all([active.save(mapping(3)), active.save(mapping(4))])
    expect(active.alone).toBe(2)
  })

  it('ends up with the same when commits come while it is given everything', async () => {
    const port = await freePort()
    const here = new Mappings().put(...Array.from({ length: 20_000 }, (_, n) => mapping(n)))
    const { active } = startActive(port, { mappings: here })
    const { standby, mappings } = startStandby(port, { mappings: new Mappings().put(mapping(30_000)) })
    let seed = 1
    const random = (n: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
      return seed % n
    }
    await until('something of it', () => mappings.size > 500)
    while (!standby.isSynchronized) {
      for (let i = 0; i < 50; i++) {
        const n = random(25_000)
        if (random(3) === 0) {
          here.delete(keyOf(mapping(n)))
          active.remove('theirs', mapping(n).local)
        } else {
          const one = mapping(n, { reference: [0, 0, 1, random(1000)] })
          here.put(one)
          active.saveLater(one)
        }
      }
      await new Promise(resolve => setImmediate(resolve))
    }
    await until('the same', () => active.standby === 'b' && mappings.size === here.size)
    await active.save([...here.values()][0]!)
    expect(mappings.shown).toEqual(here.shown)
  })

  it('that goes is followed by the next one, and by itself when it is back', async () => {
    const port = await freePort()
    const b = startStandby(port)
    const c = startStandby(port, { name: 'c' })
    const { active } = startActive(port, { mappings: new Mappings().put(mapping(1)) })
    await until('b', () => active.standby === 'b')
    expect(c.mappings.size).toBe(0)
    b.standby.stop()
    await until('c', () => active.standby === 'c')
    expect(c.mappings.shown).toEqual([JSON.stringify(mapping(1))])
    startStandby(port)
    c.standby.stop()
    await until('b again', () => active.standby === 'b')
  })
})

const peer = (n: number, port: number, mtu = 0): KnownPeer => ({ address: [0, 0, 0xffff, n], port, mtu })

describe('what was found out about peers', () => {
  it('is with the standby at once, and as it changes, until that takes over', async () => {
    const port = await freePort()
    const { standby } = startStandby(port)
    const { active, peers } = startActive(port)
    peers.push(peer(1, 4001), peer(2, 4002, 1300), peer(3, 1045))
    await until('a standby', () => active.standby !== undefined)
    expect(standby.peers).toBe(3)
    peers.splice(0, 2, peer(1, 5001))
    await until('it is said that one is gone', () => standby.peers === 2)
    peers.push(peer(4, 4004))
    await until('it is said that there is another', () => standby.peers === 3)
    const byAddress = (a: KnownPeer, b: KnownPeer) => a.address[3] - b.address[3]
    expect(standby.takeOver(6).sort(byAddress)).toEqual([peer(1, 5001), peer(3, 1045), peer(4, 4004)])
    expect(standby.peers).toBe(0)
  })

  it('comes back to an active gateway that was started again, and is kept meanwhile', async () => {
    const port = await freePort()
    const { standby } = startStandby(port)
    const first = startActive(port)
    first.peers.push(peer(1, 4001), peer(2, 4002))
    await until('a standby', () => first.active.standby !== undefined)
    first.active.stop('killed')
    await until('it is gone', () => standby.active === undefined)
    expect(standby.peers).toBe(2)
    const second = startActive(port)
    await until('it has them', () => second.merged.length === 2)
    expect(second.merged).toMatchObject([peer(1, 4001), peer(2, 4002)])
    // what it does not go on with is not in its snapshot
    await until('a standby', () => second.active.standby !== undefined)
    expect(standby.peers).toBe(0)
  })

  it('is not told to a standby of the version before, which works as ever', async () => {
    const port = await freePort()
    const old = await startOldStandby(port)
    const { active, peers } = startActive(port)
    peers.push(peer(1, 4001))
    await until('a standby', () => active.standby === 'b')
    peers.push(peer(2, 4002))
    await active.save(mapping(1))
    await until('pings', () => old.heard.filter(one => one.kind === 'ping').length >= 3)
    const kinds = new Set(old.heard.map(one => one.kind))
    expect([...kinds].sort()).toEqual(['begin', 'commit', 'end', 'hello', 'ping', 'proof'])
    expect(old.heard.find(one => one.kind === 'begin')).toEqual({ kind: 'begin', features: 0 })
    expect(old.heard.find(one => one.kind === 'end')).toMatchObject({ features: 0 })
  })

  it('is not told to an active gateway of the version before, and forgotten: who knows what changed', async () => {
    const port = await freePort()
    const { standby } = startStandby(port)
    const { active, peers } = startActive(port)
    peers.push(peer(1, 4001))
    await until('a standby', () => active.standby !== undefined)
    active.stop('an older version is active')
    await until('it is gone', () => standby.active === undefined)
    expect(standby.peers).toBe(1)
    const old = startOldActive(port)
    await until('acknowledged', () => old.heard.some(one => one.kind === 'ack'))
    expect(standby.isSynchronized).toBe(true)
    expect(old.heard.map(one => one.kind).filter(kind => kind !== 'ping')).toEqual(['hello', 'proof', 'end', 'ack'])
    expect(standby.peers).toBe(0)
  })
})

/** Says and takes what version 1 had, in its frames. */
function oldEnd(socket: Socket, hear: (message: UplinkMessage) => void): UplinkMessage[] {
  const heard: UplinkMessage[] = []
  const reader = new FrameReader()
  socket.on('error', () => {})
  socket.on('data', (bytes: Buffer) => {
    const messages = reader.push(bytes)
    if (typeof messages === 'string') throw new Error(messages)
    for (const message of messages) {
      heard.push(message)
      hear(message)
    }
  })
  ends.push(() => socket.destroy())
  return heard
}

const nonce = new Uint8Array(32).fill(3)

async function startOldStandby(port: number): Promise<{ heard: UplinkMessage[] }> {
  const all: { heard: UplinkMessage[] } = { heard: [] }
  const server = createServer(socket => {
    const say = (message: UplinkMessage) => socket.write(encodeUplink(message))
    const timer = setInterval(() => say({ kind: 'ping' }), 100)
    socket.on('close', () => clearInterval(timer))
    all.heard = oldEnd(socket, message => {
      if (message.kind === 'hello') {
        const shake = { active: message, standby: { nonce, name: 'b' } }
        say({ kind: 'hello', nonce, name: 'b', transitions: 5 })
        say({ kind: 'proof', proof: proofOf(KEY, 'standby', shake) })
      } else if (message.kind === 'proof') say({ kind: 'end', sequence: 0, features: 0 })
      else if (message.kind === 'commit' || message.kind === 'end') say({ kind: 'ack', sequence: message.sequence })
    })
  })
  await new Promise<void>(resolve => server.listen({ host: NODES.b!, port }, resolve))
  ends.push(() => server.close())
  return all
}

function startOldActive(port: number): { heard: UplinkMessage[] } {
  const socket = connect({ host: NODES.b!, port, localAddress: NODES.a! })
  const say = (message: UplinkMessage) => socket.write(encodeUplink(message))
  socket.on('connect', () => say({ kind: 'hello', nonce, name: 'a', transitions: 5 }))
  let standby: { nonce: Uint8Array; name: string } = { nonce, name: '' }
  const heard = oldEnd(socket, message => {
    if (message.kind === 'hello') standby = message
    else if (message.kind === 'proof')
      say({ kind: 'proof', proof: proofOf(KEY, 'active', { active: { nonce, name: 'a' }, standby }) })
    else if (message.kind === 'end') {
      say({ kind: 'begin', features: 0 })
      say({ kind: 'end', sequence: 1, features: 0 })
    }
  })
  return { heard }
}

describe('who may speak', () => {
  it.each<[string, Parameters<typeof startActive>[1], Parameters<typeof startStandby>[1]]>([
    ['somebody without the key', { key: new Uint8Array(32) }, {}],
    ['somebody who is on no node', {}, { nodes: ['127.0.0.4'] }],
    ['another gateway in the place of the one that was asked', { standbys: ['c'] }, { name: 'b' }],
  ])('not %s', async (_what, asActive, asStandby) => {
    const port = await freePort()
    NODES.c = asActive?.standbys ? '127.0.0.3' : '127.0.0.4'
    try {
      const { standby, mappings } = startStandby(port, { ...asStandby, mappings: new Mappings().put(mapping(9)) })
      const {
        active,
        mappings: here,
        refusals,
      } = startActive(port, { mappings: new Mappings().put(mapping(1)), ...asActive })
      await until('two tries', () => refusals.length >= 2)
      expect([active.standby, standby.active]).toEqual([undefined, undefined])
      expect([mappings.shown, here.shown]).toEqual([[JSON.stringify(mapping(9))], [JSON.stringify(mapping(1))]])
    } finally {
      NODES.c = '127.0.0.4'
    }
  })

  it('one that is not active any more is told who is', async () => {
    const port = await freePort()
    const { mappings } = startStandby(port, { newer: 'c' })
    const { taken } = startActive(port, { mappings: new Mappings().put(mapping(1)) })
    await until('it is told', () => taken.includes('c 9'))
    expect(mappings.size).toBe(0)
  })

  it('a standby that takes over says so', async () => {
    const port = await freePort()
    const { standby } = startStandby(port)
    const { active, taken } = startActive(port)
    await until('a standby', () => standby.isSynchronized && active.standby === 'b')
    standby.takeOver(6)
    await until('it is told', () => taken.includes('b 6'))
  })
})
