/**
 * The DNS agent against Knot DNS, NSD and BIND as primaries, against our own zone server where servers must lie or die quickly, and with a real mapper on a real
 * socket. Servers that are not installed are skipped by name.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { freePorts } from '../support/ports.ts'
import { EXAMPLE } from '../unit/dns/builders.ts'
import {
  AgentWorld,
  HOLD_S,
  HOSTS,
  KEY,
  OtherPrimary,
  OurPrimary,
  pause,
  pauseOfAgent,
  SPEED,
  shownHosts,
  until,
  WRONG_KEY,
} from './agentWorld.ts'
import { has } from './programs.ts'

const PROGRAMS = ['knotd', 'nsd', 'named'] as const
const installed = PROGRAMS.filter(has)

describe('primaries of others', () => {
  for (const program of PROGRAMS.filter(one => !has(one)))
    it.skip(`${program} (needs the program ${program})`, () => {})

  let world: AgentWorld
  const primaries: OtherPrimary[] = []
  let serial = 1

  beforeAll(async () => {
    world = new AgentWorld()
    await world.start()
    const ports = await freePorts(installed.length)
    for (const [i, program] of installed.entries()) {
      const folder = join(world.folder, program)
      mkdirSync(folder)
      const primary = new OtherPrimary(program, { folder, port: ports[i]!, notifyPort: world.notifyPort })
      primary.write('1 2 3', serial)
      primaries.push(primary)
    }
    await Promise.all(primaries.map(primary => primary.start()))
  }, 180_000)
  afterAll(async () => {
    await Promise.all(primaries.map(primary => primary.stop()))
    await world.stop()
  })

  const ports = () => primaries.map(primary => primary.port)
  const serveAt = async (some: readonly OtherPrimary[], hosts: string, next = ++serial) => {
    serial = next
    await Promise.all(some.map(primary => primary.serve(hosts, next)))
  }
  const serve = (hosts: string, next?: number) => serveAt(primaries, hosts, next)

  const inOrder = it.skipIf(installed.length < 2)

  inOrder.each([...installed])('%s with another key gives nothing, and the reason is told', async program => {
    const one = primaries.filter(primary => primary.program === program)
    const agent = await world.startAgent(
      one.map(primary => primary.port),
      { keys: [WRONG_KEY], notifyListen: undefined },
    )
    await until('a problem', () => agent.problems.length > 0, world.say)
    expect(agent.problems[0]).toMatch(/secret of the key is another there \(BADSIG\)|NOTAUTH/)
    await world.stopAgent()
    // one of two keys is right
    await world.startAgent(
      one.map(primary => primary.port),
      { keys: [WRONG_KEY, KEY], notifyListen: undefined },
    )
    await world.has('1 2 3')
    await world.stopAgent()
    await world.stopMapper()
    await world.startMapper()
    world.held.length = 0
  })

  inOrder.each([...installed])(
    '%s gives a large zone in many messages, each signed as it signs them',
    async program => {
      const primary = primaries.find(one => one.program === program)!
      const hosts = Array.from({ length: 3900 }, (_, i) => i).join(' ')
      await primary.serve(hosts, serial)
      await primary.serve('1 2 3', serial)
    },
  )

  inOrder('what they agree on is published', async () => {
    await world.startAgent(ports())
    await world.has('1 2 3')
    await until('published', () => world.published === '1 2 3', world.say)
    // all three, with what they say of the gateway's name
    await until('all reported', () => world.agent.counts().transfers >= installed.length, world.say)
    expect(world.agent.problems).toEqual([])
  })

  inOrder('a change is there when they say so, long before the next poll', async () => {
    await serve('1 2 3 4 5')
    await world.has('1 2 3 4 5')
    await serve('1 2=20 3 4 5')
    await world.has('1 2=20 3 4 5')
  })

  inOrder('a host that is gone stays for the hold-down', async () => {
    const [before, lines] = [performance.now(), world.logged.length]
    await serve('1 3 4 5')
    await world.hasLogged(/1 of 5 hosts are gone/, lines)
    await world.has('1 3 4 5')
    expect(performance.now() - before).toBeGreaterThan((HOLD_S * 1000) / SPEED)
    await until('withdrawn', () => world.published === '1 3 4 5', world.say)
  })

  it.skipIf(installed.length < 3).each([...installed])(
    '%s is dead: the others go on',
    async program => {
      const dead = primaries.find(primary => primary.program === program)!
      const others = primaries.filter(primary => primary !== dead)
      await dead.stop()
      const hosts = `1 3 4 5 ${10 + primaries.indexOf(dead)}`
      await serveAt(others, hosts)
      await world.has(hosts)
      // of two that are dead, the last good set stays
      await others[0]!.stop()
      await serveAt([others[1]!], `${hosts} 30`)
      world.agent.zoneChanged(EXAMPLE)
      await pauseOfAgent(15)
      expect(world.held.at(-1)).toBe(hosts)
      for (const one of [dead, others[0]!]) {
        one.write(`${hosts} 30`, serial)
        await one.start()
      }
      await world.has(`${hosts} 30`)
      await serve('1 3 4 5')
      await world.has('1 3 4 5')
    },
    60_000,
  )

  inOrder('serials that go back, and content that changes without one, are believed after the hold-down', async () => {
    const before = world.held.length
    let [since, lines] = [performance.now(), world.logged.length]
    const expectHeldDown = () => expect(performance.now() - since).toBeGreaterThan((HOLD_S * 1000) / SPEED)
    await serve('1 3 4 5 6', serial - 4)
    await world.hasLogged(/serial went back/, lines)
    await world.has('1 3 4 5 6')
    expectHeldDown()
    ;[since, lines] = [performance.now(), world.logged.length]
    await serve('1 3 4 5 6 7', serial)
    // no server tells of it: they have no new serial
    world.agent.zoneChanged(EXAMPLE)
    await world.hasLogged(/the serial \d+ did not/, lines)
    await world.has('1 3 4 5 6 7')
    expectHeldDown()
    expect(world.held.length).toBe(before + 2)
    await until('no doubt is left', () => world.agent.problems.length === 0, world.say)
  })

  inOrder('a zone that is empty: the hosts go when all agree, after the hold-down', async () => {
    const [first, ...others] = primaries
    const next = ++serial
    await first!.serve('', next)
    await pauseOfAgent(HOLD_S * 1.5)
    expect(world.published).toBe('1 3 4 5 6 7')
    const before = performance.now()
    await Promise.all(others.map(primary => primary.serve('', next)))
    await world.has('')
    expect(performance.now() - before).toBeGreaterThan((HOLD_S * 1000) / SPEED)
    await until('withdrawn', () => world.published === '', world.say)
  })
}, 180_000)

describe('primaries of ours', () => {
  let world: AgentWorld
  let primaries: OurPrimary[]
  let serial = 1

  beforeEach(async () => {
    world = new AgentWorld()
    await world.start()
    primaries = []
    serial = 1
  })
  afterEach(async () => {
    await Promise.all(primaries.map(primary => primary.stop()))
    await world.stop()
  })

  const startPrimaries = async (count: number, hosts: string) => {
    primaries = Array.from({ length: count }, () => new OurPrimary(world.notifyPort))
    for (const primary of primaries) {
      primary.serve(hosts, serial)
      await primary.start()
    }
    return primaries.map(primary => primary.port)
  }
  const serve = (hosts: string, some = primaries) => {
    serial++
    for (const primary of some) primary.serve(hosts, serial)
  }

  it('two of four against two: nothing changes until one gives way', async () => {
    await world.startAgent(await startPrimaries(4, '1 2 3'))
    await world.has('1 2 3')
    serve('1 2 3 4', primaries.slice(0, 2))
    serve('1 2 3 5', primaries.slice(2))
    await until('a split', () => world.agent.status()[0]!.state === 'the servers do not agree: 2 against 2', world.say)
    await pauseOfAgent(HOLD_S * 2)
    expect(world.held).toEqual(['1 2 3'])
    serve('1 2 3 4', primaries.slice(2, 3))
    await world.has('1 2 3 4')
    expect(world.held).toEqual(['1 2 3', '1 2 3 4'])
  })

  it('a mapper that goes and comes back, or was started again, has the set', async () => {
    await world.startAgent(await startPrimaries(1, '1 2 3'))
    await world.has('1 2 3')
    await world.stopMapper()
    serve('1 2 3 4')
    await until('the agent has it', () => world.agent.status()[0]!.hosts === 4, world.say)
    await pauseOfAgent(12)
    await world.startMapper()
    await world.has('1 2 3 4')
    // the same set, lost
    await world.stopMapper()
    await world.startMapper()
    await until('sent again', () => world.held.length === 3, world.say)
    expect(world.held).toEqual(['1 2 3', '1 2 3 4', '1 2 3 4'])
    await until('published', () => world.published === '1 2 3 4', world.say)
  })

  it('a server that is named: asked at each of its addresses until one answers, and its notifications are known', async () => {
    await world.startAgent(await startPrimaries(1, '1 2 3'), {}, 'localhost')
    await world.has('1 2 3')
    serve('1 2 3 4')
    await world.has('1 2 3 4')
  })

  it('both IP versions of hosts and of gateways at once', async () => {
    const both = [4, 6] as const
    await world.startAgent(await startPrimaries(2, '1 2'), { encodedFamilies: both, contextFamilies: both })
    const wanted = ['1', '1/46', '1/64', '1/66', '2', '2/46', '2/64', '2/66']
    const last = () => world.held.at(-1)?.split(' ').sort()
    await until('all four sets', () => String(last()) === String(wanted), world.say)
    serve('1 2 3')
    await until('a change of all four', () => last()?.length === 12, world.say)
    // a reference belongs to one address: the gateway takes the IPv4 ones, and says so of the others
    await until('published', () => world.published === '1 2 3', world.say)
  })

  it('a set of many batches, from an agent that dies in the middle: whole, or not at all', async () => {
    const hosts = Array.from({ length: HOSTS }, (_, i) => i)
    const [first, second] = [hosts.slice(1).join(' '), hosts.join(' ')]
    await world.startAgent(await startPrimaries(1, first), { holdDownSeconds: 0 })
    await world.has(first)
    const { messages } = world.mapper
    const handle = messages.handle.bind(messages)
    let left = 0
    messages.handle = (message, from) => {
      if (--left === 0) void world.stopAgent()
      return handle(message, from)
    }
    for (let i = 0; i < 4; i++) {
      await world.stopAgent()
      left = 1 + i * 12
      const before = messages.counts.requests
      serve(i % 2 === 0 ? second : first)
      await world.startAgent(
        primaries.map(primary => primary.port),
        { holdDownSeconds: 0 },
      )
      await until('the agent is dead', () => left <= 0, world.say)
      await pause(150)
      expect(messages.counts.requests - before).toBeGreaterThan(i * 12)
    }
    await world.stopAgent()
    serve(second)
    await world.startAgent(
      primaries.map(primary => primary.port),
      { holdDownSeconds: 0 },
    )
    await world.has(second)
    for (const set of world.held) expect([first, second].includes(set), `a part: ${set.slice(0, 50)}…`).toBe(true)
  })

  // the seed is in the name of the failure; put it in its place to see it again, as far as time allows
  const seed = (Date.now() & 0xffff) | 1
  it(`servers that change, lie, die and come back at random, seed ${seed}: no set that a quorum did not serve, nothing lost`, async () => {
    let state = seed
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return (state >>> 8) % below
    }
    const STABLE = '1 2 3'
    const changing = new Set<number>([10, 11])
    const truth = () => shownHosts(`${STABLE} ${[...changing].join(' ')}`)
    await world.startAgent(await startPrimaries(3, truth()))
    await world.has(truth())
    /** at most one of three is ill at a time: the quorum is of the others */
    let ill: OurPrimary | undefined
    const steps: string[] = []
    for (let i = 0; i < 40; i++) {
      const step = random(10)
      const victim = primaries[random(primaries.length)]!
      if (step < 4) {
        const host = 10 + random(20)
        if (changing.has(host)) changing.delete(host)
        else changing.add(host)
        serve(
          truth(),
          primaries.filter(primary => primary !== ill),
        )
      } else if (step === 4 && !ill) {
        ill = victim
        await victim.stop()
      } else if (step === 5 && !ill) {
        ill = victim
        serve(`9 ${33 + random(3)}`, [victim])
      } else if (step === 6 && !ill) {
        ill = victim
        serve('', [victim])
      } else if (step === 7 && ill) {
        ill.serve(truth(), serial)
        if (!ill.isUp) await ill.start()
        ill = undefined
      } else if (step === 8 && random(3) === 0) {
        await world.stopMapper()
        await world.startMapper()
      } else await pauseOfAgent(random(15))
      steps.push(`${step}`)
      await pause(20)
    }
    if (ill) {
      ill.serve(truth(), serial)
      if (!ill.isUp) await ill.start()
    }
    serve(truth())
    await world.has(truth())
    await until('published', () => world.published === truth(), world.say)
    const report = `seed ${seed}, steps ${steps.join('')}\n${world.say()}`
    for (const set of world.held) {
      const by = primaries.filter(primary => primary.served.includes(set))
      expect(by.length, `[${set}] was served by ${by.length}\n${report}`).toBeGreaterThanOrEqual(2)
      for (const host of STABLE.split(' ')) expect(set.split(' '), report).toContain(host)
    }
    expect(world.held.length, report).toBeGreaterThan(1)
  })
}, 180_000)
