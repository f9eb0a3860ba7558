import { beforeEach, describe, expect, it } from 'vitest'
import { type PeerEvent, Peers } from '../../../gateway/peers/peers.ts'
import { PeerFlag, PeerTable } from '../../../gateway/plane/peerTable.ts'
import type { AddressWords } from '../../../ipref/address.ts'

const CAPACITY = 16
const peer = (n: number): AddressWords => [0, 0, 0xffff, (0xc6336400 + n) | 0]

class World {
  now = 100
  readonly table = new PeerTable(PeerTable.allocate(CAPACITY), CAPACITY)
  readonly probes: { to: AddressWords; port: number; nonce: Uint8Array }[] = []
  readonly events: PeerEvent[] = []
  readonly peers: Peers

  constructor(configured: { address: AddressWords; port: number }[] = [], keepsOpen = false) {
    this.peers = new Peers(
      {
        table: this.table,
        now: () => this.now,
        nowMs: () => this.now * 1000,
        sendProbe: (to, port, nonce) => this.probes.push({ to, port, nonce }) > 0,
        routeMtu: () => 1500,
        onEvent: event => this.events.push(event),
      },
      { defaultPort: 1045, wireMtu: undefined, configured, keepsOpen },
    )
  }

  number(n: number): number {
    return this.table.find(...peer(n))
  }

  port(n: number): number {
    return this.table.port[this.number(n)]!
  }

  answerLast(): void {
    const { to, port, nonce } = this.probes.at(-1)!
    this.peers.answered(to, port, nonce)
  }
}

let world: World
beforeEach(() => {
  world = new World()
})

describe('a stranger', () => {
  it('is asked to prove its port, and has a budget until then', () => {
    world.peers.arrived(peer(1), 5000, 120)
    expect(world.probes).toHaveLength(1)
    expect([world.port(1), world.table.flags[world.number(1)], world.table.bytesIn[world.number(1)]]).toEqual([
      5000,
      PeerFlag.used,
      120,
    ])
    world.answerLast()
    expect(world.table.flags[world.number(1)]! & PeerFlag.verified).toBeTruthy()
    expect(world.events).toMatchObject([{ what: 'reachable', port: 5000 }])
  })
})

describe('the port of a known peer', () => {
  beforeEach(() => {
    world.peers.require(...peer(1))
    world.peers.candidate(world.number(1), 1045)
  })
  it('changes only when the probe comes back from the new one', () => {
    world.peers.candidate(world.number(1), 6000)
    expect(world.port(1)).toBe(1045)
    world.answerLast()
    expect(world.port(1)).toBe(6000)
    expect(world.events).toMatchObject([{ what: 'port-changed', from: 1045, to: 6000 }])
  })
  it('is asked about between two keepalives too, and where it comes right after one of ours', () => {
    world.peers.setNamed([{ address: peer(2), port: 1045, probeS: 25 }])
    for (let second = 0; second < 40; second += 0.25) {
      world.now += 0.25
      world.peers.tick()
    }
    const silent = world.probes.length
    // NAT gave the peer another port; what comes from there is a probe of its own, once in 25 s
    world.peers.candidate(world.number(2), 1421)
    expect(world.probes.slice(silent)).toMatchObject([{ port: 1421 }])
    world.peers.candidate(world.number(2), 1422)
    world.now += 1.25
    world.peers.tick()
    world.now += 1.25
    world.peers.tick()
    world.answerLast()
    expect(world.port(2)).toBe(1421)
  })
  it('that comes within a second of a probe is asked about when that is over', () => {
    world.peers.setNamed([{ address: peer(2), port: 1045, probeS: 25 }])
    world.peers.tick()
    expect(world.probes).toMatchObject([{ port: 1045 }])
    world.peers.candidate(world.number(2), 1421)
    expect(world.probes).toHaveLength(1)
    world.now += 1
    world.peers.tick()
    expect(world.probes.slice(1)).toMatchObject([{ port: 1421 }])
  })
  it('does not change for an answer with other bytes, or from elsewhere', () => {
    world.peers.candidate(world.number(1), 6000)
    const { nonce } = world.probes.at(-1)!
    world.peers.answered(peer(1), 6000, new Uint8Array(16))
    world.peers.answered(peer(1), 6001, nonce)
    world.peers.answered(peer(2), 6000, nonce)
    expect(world.port(1)).toBe(1045)
  })
  it('a flood of ports costs one probe a second and two candidates', () => {
    for (let second = 0; second < 5; second++) {
      for (let port = 2000; port < 2100; port++) world.peers.candidate(world.number(1), port + second)
      world.now++
      world.peers.tick()
    }
    expect(world.probes.length).toBeLessThanOrEqual(6)
    expect(new Set(world.probes.map(probe => probe.port)).size).toBeLessThanOrEqual(3)
  })
})

describe('the path MTU', () => {
  beforeEach(() => world.peers.require(...peer(1)))
  it.each([
    [1400, 1400],
    [9000, 1500],
    [100, 552],
    [0, 1500],
    [67, 1500],
  ])('told %i becomes %i', (told, mtu) => {
    world.peers.mtuReported(peer(1), told)
    expect(world.table.mtu[world.number(1)]).toBe(mtu)
  })
  it('is tried again after ten minutes', () => {
    world.peers.mtuReported(peer(1), 1300)
    world.now += 601
    world.peers.tick()
    expect(world.table.mtu[world.number(1)]).toBe(1500)
  })
})

describe('room for peers', () => {
  it('a full table gives up who was silent longest and has no mapping, never a configured one', () => {
    world = new World([{ address: peer(99), port: 1045 }])
    for (let n = 1; n < CAPACITY; n++) world.peers.arrived(peer(n), 1045, 100)
    expect(world.peers.require(...peer(50))).toBe(-1)
    world.now += 6
    expect(world.peers.require(...peer(50))).toBeGreaterThanOrEqual(0)
    expect(world.number(99)).toBeGreaterThanOrEqual(0)
    expect(world.peers.evicted).toBe(1)
  })
})

it('configured peers are probed every 25 s while our own address is unknown', () => {
  world = new World([{ address: peer(9), port: 1045 }], true)
  world.peers.tick()
  world.answerLast()
  for (let second = 0; second < 60; second++) {
    world.now++
    world.peers.tick()
    world.answerLast()
  }
  expect(world.probes.length).toBeGreaterThanOrEqual(3)
  expect(world.probes.length).toBeLessThanOrEqual(5)
})

describe('a person who asks how far away a peer is', () => {
  const measured = (): (number | undefined)[] => {
    const times: (number | undefined)[] = []
    world.peers.measure(peer(1), rttMs => times.push(rttMs))
    return times
  }
  const wait = (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      world.now++
      world.peers.tick()
    }
  }

  it('hears it from one probe', () => {
    world.peers.require(...peer(1))
    const times = measured()
    expect(world.probes).toHaveLength(1)
    world.now += 0.5
    world.answerLast()
    expect(times).toEqual([500])
  })
  it('hears of silence after some probes, a second apart, and of a peer that is none', () => {
    expect(measured()).toEqual([undefined])
    world.peers.require(...peer(1))
    const times = measured()
    wait(3)
    expect([times, world.probes.length]).toEqual([[], 4])
    wait(3)
    expect([times, world.probes.length]).toEqual([[undefined], 4])
  })
  it('does not wear out the patience with a stranger', () => {
    world.peers.arrived(peer(1), 1045, 100)
    for (let i = 0; i < 5; i++) {
      measured()
      wait(5)
    }
    const before = world.probes.length
    measured()
    expect(world.probes.length).toBe(before + 1)
  })
  it('does not keep an unreachable peer from being told', () => {
    world = new World([{ address: peer(1), port: 1045 }], true)
    for (let i = 0; i < 6; i++) {
      measured()
      wait(1)
    }
    expect(world.events).toMatchObject([{ what: 'unreachable', port: 1045 }])
  })
})

describe('peers that resources name', () => {
  const seconds = (count: number) => {
    for (let i = 0; i < count * 4; i++) {
      world.now += 0.25
      world.peers.tick()
      if (world.probes.length > 0) world.answerLast()
    }
  }

  it('are asked as often as they say, and are ordinary again when nobody names them', () => {
    world.peers.setNamed([{ address: peer(1), port: 1045, probeS: 10 }])
    seconds(31)
    expect(world.probes.length).toBeGreaterThanOrEqual(3)
    expect(world.probes.length).toBeLessThanOrEqual(5)
    world.peers.setNamed([])
    const before = world.probes.length
    seconds(60)
    expect(world.probes.length).toBe(before)
    expect(world.table.flags[world.number(1)]! & PeerFlag.configured).toBe(0)
  })

  it('without a probe they are kept, and not asked', () => {
    world.peers.setNamed([{ address: peer(1), port: 1045 }])
    seconds(60)
    expect(world.probes).toHaveLength(0)
    expect(world.table.flags[world.number(1)]! & PeerFlag.configured).toBeTruthy()
  })

  it('a port that was proved stays', () => {
    world.peers.arrived(peer(1), 5000, 100)
    world.answerLast()
    world.peers.setNamed([{ address: peer(1), port: 1045 }])
    expect(world.port(1)).toBe(5000)
  })

  it('those of flags stay configured', () => {
    world = new World([{ address: peer(1), port: 1045 }])
    world.peers.setNamed([{ address: peer(1), port: 1045, probeS: 10 }])
    world.peers.setNamed([])
    expect(world.table.flags[world.number(1)]! & PeerFlag.configured).toBeTruthy()
  })
})

it('configured peers are asked no more once our own address is known, and again when it is not', () => {
  const world = new World([{ address: peer(1), port: 1045 }])
  const asked = () => {
    const before = world.probes.length
    for (let i = 0; i < 4 * 60; i++) {
      world.now += 0.25
      world.peers.tick()
    }
    return world.probes.length - before
  }
  expect(asked()).toBe(0)
  world.peers.setKeepsOpen({ isNeeded: true })
  expect(asked()).toBeGreaterThan(1)
  world.peers.setKeepsOpen({ isNeeded: false })
  expect(asked()).toBe(0)
})

it('every peer in use is asked at once by a gateway that becomes active, and nobody else', () => {
  const world = new World([{ address: peer(1), port: 1045 }])
  world.peers.require(...peer(2))
  world.peers.release(world.peers.require(...peer(3)))
  world.peers.announce()
  expect(world.probes.map(({ to, port }) => [to, port])).toEqual([
    [peer(1), 1045],
    [peer(2), 1045],
  ])
})

describe('a gateway that begins to speak for others', () => {
  const wait = (seconds: number) => {
    for (let i = 0; i < seconds * 4; i++) {
      world.now += 0.25
      world.peers.tick()
    }
  }
  const flags = (n: number) => world.table.flags[world.number(n)]!

  it('tells a peer again when it does not hear of it, and no longer than it speaks', () => {
    world.peers.require(...peer(1))
    world.peers.announce()
    wait(10)
    expect(world.probes).toHaveLength(4)
    world.peers.announce()
    world.peers.hush()
    wait(10)
    expect(world.probes).toHaveLength(5)
    world.peers.announce()
    world.answerLast()
    wait(10)
    expect(world.probes).toHaveLength(6)
  })

  it('knows what was proved of peers in use, and how much their paths take', () => {
    world = new World([{ address: peer(4), port: 1045 }])
    world.peers.require(...peer(1))
    world.peers.require(...peer(2))
    // 3 is not in use, 2 proved nothing
    for (const n of [1, 3, 4]) {
      world.peers.arrived(peer(n), 4000 + n, 100)
      world.now += 2
      world.peers.tick()
      world.answerLast()
    }
    world.peers.mtuReported(peer(1), 1300)
    const byAddress = (a: { address: AddressWords }, b: { address: AddressWords }) => a.address[3] - b.address[3]
    expect([...world.peers.known()].sort(byAddress)).toEqual([
      { address: peer(1), port: 4001, mtu: 1300 },
      { address: peer(4), port: 4004, mtu: 0 },
    ])
  })

  it('reaches them where another found them, at once and without a budget', () => {
    world.peers.require(...peer(1))
    world.peers.adopt({ address: peer(1), port: 4001, mtu: 1300 })
    // an object names it, but only from now on
    world.peers.adopt({ address: peer(2), port: 4002, mtu: 0 })
    expect(world.probes).toHaveLength(0)
    world.peers.setNamed([{ address: peer(2), port: 1045 }])
    expect([world.port(1), world.table.mtu[world.number(1)], world.port(2)]).toEqual([4001, 1300, 4002])
    expect(flags(1) & flags(2) & PeerFlag.verified).toBeTruthy()
    const before = world.probes.length
    world.peers.announce()
    expect(world.probes.slice(before).map(({ port }) => port)).toEqual([4001, 4002])
  })

  it('takes what another found for later than what it proved itself before', () => {
    world.peers.arrived(peer(1), 4001, 100)
    world.answerLast()
    world.peers.adopt({ address: peer(1), port: 5001, mtu: 0 })
    expect(world.port(1)).toBe(5001)
  })

  it('tries what is written down of a peer too, once, and takes it when that answers', () => {
    world = new World([{ address: peer(1), port: 1045 }])
    world.peers.adopt({ address: peer(1), port: 4001, mtu: 0 })
    world.peers.adopt({ address: peer(2), port: 4002, mtu: 0 })
    for (let i = 0; i < 3; i++) world.peers.setNamed([{ address: peer(2), port: 2045 }])
    wait(20)
    const asked = (n: number) => world.probes.filter(({ to }) => to[3] === peer(n)[3]).map(({ port }) => port)
    expect([asked(1), asked(2)]).toEqual([Array(4).fill(1045), Array(4).fill(2045)])
    expect([world.port(1), world.port(2)]).toEqual([4001, 4002])
    world.peers.setNamed([{ address: peer(2), port: 3045 }])
    world.answerLast()
    expect(world.port(2)).toBe(3045)
  })

  it('goes on with what an active gateway before it found, where it knows nothing better', () => {
    for (const n of [1, 2]) world.peers.require(...peer(n))
    world.peers.arrived(peer(1), 4001, 100)
    world.answerLast()
    const before = world.probes.length
    for (const n of [1, 2, 3]) world.peers.merge({ address: peer(n), port: 5000 + n, mtu: 0 })
    expect([world.port(1), world.port(2), world.number(3)]).toEqual([4001, 5002, -1])
    expect(world.probes.slice(before)).toMatchObject([{ to: peer(2), port: 5002 }])
  })

  it('no MTU that it is told is below what every path takes', () => {
    world.peers.adopt({ address: peer(1), port: 4001, mtu: 1 })
    world.peers.adopt({ address: peer(2), port: 4001, mtu: 65_535 })
    expect([1, 2].map(n => world.table.mtu[world.number(n)])).toEqual([552, 1500])
  })
})
