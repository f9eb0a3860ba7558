/** Which set of hosts is believed (hostile-input.md section 8): by cases, and over all that servers may do. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Decision, Quorum, type Verdict } from '../../../../gateway/dns/quorum.ts'

const HOLD = 60

/** Sets are words, their hosts the letters: `abc` has three. The zone is the set, unless said otherwise. */
class Lab {
  readonly quorum: Quorum
  readonly #serials: number[]
  now = 1000

  constructor(servers: number, holdDown = HOLD) {
    this.#serials = Array.from({ length: servers }, () => 1)
    this.quorum = new Quorum(servers, holdDown, (from, to) => [...from].filter(host => !to.includes(host)).length)
  }

  /** Serves that set with the next serial, or the one given. */
  serve(server: number, hash: string, report: { serial?: number; zone?: string } = {}): Verdict {
    const serial = report.serial ?? ++this.#serials[server]!
    return this.quorum.report(server, { serial, zone: report.zone ?? hash, hash, hosts: hash.length }, this.now)
  }

  /** Again what it served last. */
  repeat(server: number, hash: string): Verdict {
    return this.serve(server, hash, { serial: this.#serials[server]! })
  }

  decide(): Decision {
    return this.quorum.decide(this.now)
  }

  pass(seconds: number): void {
    this.now += seconds
  }

  /** All servers serve it, and what is held down is confirmed. */
  settle(servers: number, hash: string): void {
    for (let i = 0; i < servers; i++) this.serve(i, hash)
    this.decide()
    this.pass(HOLD)
    for (let i = 0; i < servers; i++) this.repeat(i, hash)
    expect(this.decide().current).toBe(hash)
  }
}

describe('more than half', () => {
  it.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
    [5, 3],
    [6, 4],
  ])('of %i servers are %i', (servers, needed) => {
    const lab = new Lab(servers)
    expect(lab.quorum.needed).toBe(needed)
    for (let i = 0; i < needed; i++) {
      expect(lab.decide()).toMatchObject({ current: undefined, changed: false })
      lab.serve(i, 'abc')
    }
    expect(lab.decide()).toMatchObject({ current: 'abc', changed: true })
    expect(lab.decide()).toMatchObject({ current: 'abc', changed: false })
  })

  it('says what is missing', () => {
    const lab = new Lab(3)
    lab.serve(0, 'abc')
    expect(lab.decide().why).toBe('1 of 3 servers have reported, 2 are needed')
    lab.serve(1, 'abd')
    expect(lab.decide().why).toBe('the servers do not agree: 1 against 1')
  })

  it('two of four against two: never, and the last good set stays for ever', () => {
    const lab = new Lab(4)
    lab.settle(4, 'abc')
    for (let round = 0; round < 50; round++) {
      for (const i of [0, 1]) lab.serve(i, 'abcd')
      for (const i of [2, 3]) lab.serve(i, 'abce')
      expect(lab.decide()).toMatchObject({
        current: 'abc',
        changed: false,
        why: 'the servers do not agree: 2 against 2',
      })
      lab.pass(HOLD)
    }
    lab.serve(2, 'abcd')
    expect(lab.decide()).toMatchObject({ current: 'abcd', changed: true })
  })

  it('one server that lies, or that stands still, changes nothing', () => {
    const lab = new Lab(3)
    lab.settle(3, 'abc')
    lab.serve(0, 'xyz')
    expect(lab.decide()).toMatchObject({ current: 'abc', changed: false })
    // server 0 keeps what it says, server 1 goes on, server 2 is dead: no quorum
    lab.serve(1, 'abcd')
    expect(lab.decide()).toMatchObject({ current: 'abc', changed: false })
    lab.serve(2, 'abcd')
    expect(lab.decide()).toMatchObject({ current: 'abcd', changed: true })
  })
})

describe('a server in doubt', () => {
  it.each([
    ['a serial that goes back', { serial: 9 }, /serial went back from 10 to 9/],
    ['a serial half of all away, which is neither newer nor older', { serial: 10 + 2 ** 31 }, /serial went back/],
    ['another zone under the same serial', { serial: 10 }, /zone changed and the serial 10 did not/],
  ])('%s: counts when it still says so after the hold-down', (_, report, why) => {
    const lab = new Lab(1)
    lab.serve(0, 'abc', { serial: 10 })
    expect(lab.decide().current).toBe('abc')
    expect(lab.serve(0, 'abcd', report)).toMatchObject({ what: 'doubted', again: lab.now + HOLD })
    const said = lab.serve(0, 'abcd', report)
    expect(said).toMatchObject({ what: 'doubted', why: expect.stringMatching(why) })
    lab.pass(HOLD - 1)
    expect(lab.serve(0, 'abcd', report).what).toBe('doubted')
    expect(lab.decide().current).toBe('abc')
    lab.pass(1)
    expect(lab.serve(0, 'abcd', report).what).toBe('taken')
    expect(lab.decide().current).toBe('abcd')
  })

  it.each([
    ['forward', 10, 11],
    ['over the end of 32 bits', 2 ** 32 - 1, 0],
    ['by almost half of all', 10, 10 + 2 ** 31 - 1],
  ])('a serial that goes %s is none', (_, from, to) => {
    const lab = new Lab(1)
    lab.serve(0, 'abc', { serial: from })
    expect(lab.serve(0, 'abcd', { serial: to }).what).toBe('taken')
  })

  it('the same zone with other local addresses is none', () => {
    const lab = new Lab(1)
    lab.serve(0, 'abc', { serial: 10, zone: 'z' })
    expect(lab.serve(0, 'abcd', { serial: 10, zone: 'z' }).what).toBe('taken')
  })

  it('one that goes on from a serial that went back is believed in the end, one that comes and goes is not', () => {
    const lab = new Lab(1)
    lab.serve(0, 'a', { serial: 100 })
    for (let i = 0; i < 12; i++) {
      expect(lab.serve(0, `ab${i}`, { serial: 5 + i }).what).toBe(i * 10 >= HOLD ? 'taken' : 'doubted')
      if (i * 10 >= HOLD) break
      lab.pass(10)
    }
    const other = new Lab(1)
    other.serve(0, 'a', { serial: 100 })
    for (let i = 0; i < 20; i++) {
      expect(other.serve(0, 'b', { serial: 5 }).what).toBe('doubted')
      other.pass(HOLD - 1)
      expect(other.serve(0, 'a', { serial: 100 }).what).toBe('taken')
      other.pass(HOLD - 1)
    }
  })
})

describe('hosts that go', () => {
  it.each([
    ['one of three', 'ab'],
    ['two of three', 'a'],
    ['all', ''],
    ['one, while another comes', 'abx'],
  ])('%s: stay until a quorum confirms it after the hold-down', (_, next) => {
    const lab = new Lab(3)
    lab.settle(3, 'abc')
    for (let i = 0; i < 3; i++) lab.serve(i, next)
    const held = lab.decide()
    expect(held).toMatchObject({ current: 'abc', changed: false, confirm: { at: lab.now + HOLD, servers: [0, 1, 2] } })
    expect(held.why).toMatch(/hosts are gone: to be confirmed/)
    lab.pass(HOLD - 1)
    for (let i = 0; i < 3; i++) lab.repeat(i, next)
    expect(lab.decide().current).toBe('abc')
    lab.pass(1)
    lab.repeat(0, next)
    expect(lab.decide()).toMatchObject({ current: 'abc', confirm: { servers: [1, 2] } })
    lab.repeat(2, next)
    expect(lab.decide()).toMatchObject({ current: next, changed: true, confirm: undefined })
  })

  it('hosts that only come are there at once', () => {
    const lab = new Lab(3)
    lab.settle(3, 'abc')
    lab.serve(0, 'abcd')
    lab.serve(1, 'abcd')
    expect(lab.decide()).toMatchObject({ current: 'abcd', changed: true })
  })

  it('a zone that is empty from the start is to be confirmed too: a mapper may hold hosts from before', () => {
    const lab = new Lab(1)
    lab.serve(0, '')
    expect(lab.decide()).toMatchObject({ current: undefined, why: 'the zone has no hosts: to be confirmed' })
    lab.pass(HOLD)
    lab.repeat(0, '')
    expect(lab.decide()).toMatchObject({ current: '', changed: true })
  })

  it('hosts that come back in time were never gone', () => {
    const lab = new Lab(1)
    lab.settle(1, 'abcd')
    for (let i = 0; i < 10; i++) {
      lab.serve(0, '')
      expect(lab.decide().current).toBe('abcd')
      lab.pass(HOLD - 1)
      lab.serve(0, 'abcd')
      expect(lab.decide()).toMatchObject({ current: 'abcd', confirm: undefined })
    }
  })

  it('changes without end do not hold up others for longer than the hold-down', () => {
    const lab = new Lab(1)
    let hosts = 'abcdefghijklmnopqrst'
    lab.settle(1, hosts)
    let taken = 0
    for (let i = 0; i < 40; i++) {
      // one goes, one comes
      hosts = `${hosts.slice(1)}${String.fromCharCode(1000 + i)}`
      lab.serve(0, hosts)
      if (lab.decide().changed) taken++
      lab.pass(10)
    }
    expect(taken).toBe(Math.floor(400 / (HOLD + 10)))
  })

  it('a loss of more than half must have lasted for all of the hold-down, whatever was held before', () => {
    const lab = new Lab(1)
    lab.settle(1, 'abcdef')
    lab.serve(0, 'abcde')
    lab.decide()
    lab.pass(HOLD - 1)
    lab.serve(0, '')
    lab.decide()
    lab.pass(1)
    lab.repeat(0, '')
    expect(lab.decide()).toMatchObject({ current: 'abcdef', confirm: { at: lab.now - 1 + HOLD } })
    lab.pass(HOLD)
    lab.repeat(0, '')
    expect(lab.decide().current).toBe('')
  })

  it('a loss that was long ago is a new one', () => {
    const lab = new Lab(3)
    lab.settle(3, 'abc')
    lab.serve(0, 'ab')
    lab.serve(1, 'ab')
    lab.decide()
    lab.pass(5)
    lab.serve(1, 'abcd')
    expect(lab.decide().confirm).toBeUndefined()
    lab.pass(3600)
    lab.serve(1, 'ab')
    expect(lab.decide()).toMatchObject({ current: 'abc', confirm: { at: lab.now + HOLD } })
  })

  it('without a hold-down they go at once', () => {
    const lab = new Lab(1, 0)
    lab.serve(0, 'abc')
    lab.decide()
    lab.serve(0, '')
    expect(lab.decide()).toMatchObject({ current: '', changed: true })
  })
})

describe('whatever servers do', () => {
  const SETS = ['', 'a', 'ab', 'abc', 'abcd', 'xyz'] as const
  const step = fc.record({
    server: fc.nat({ max: 4 }),
    set: fc.constantFrom(...SETS),
    serial: fc.constantFrom('next', 'same', 'back'),
    pass: fc.constantFrom(0, 1, 20, 61),
  })

  it('no set is ever current that fewer than a quorum served, and no host goes without the hold-down', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 60 }), (count, steps) => {
        const quorum = new Quorum(count, HOLD, (from, to) => [...from].filter(host => !to.includes(host)).length)
        const serials = Array.from({ length: count }, () => 100)
        // what each server served last, and what it was last believed to serve: a set of hosts, and when
        const served = Array.from({ length: count }, () => [] as { set: string; at: number }[])
        let [now, current] = [0, undefined as string | undefined]
        for (const { server: any, set, serial, pass } of steps) {
          now += pass
          const server = any % count
          serials[server]! += { next: 1, same: 0, back: -1 }[serial]
          served[server]!.push({ set, at: now })
          quorum.report(server, { serial: serials[server]!, zone: set, hash: set, hosts: set.length }, now)
          const decision = quorum.decide(now)
          expect(decision.current).toBe(quorum.current)
          if (decision.current === current) continue
          const next = decision.current!
          const servers = served.filter(list => list.some(one => one.set === next))
          expect(servers.length).toBeGreaterThan(count / 2)
          const gone = [...(current ?? '')].filter(host => !next.includes(host))
          if (gone.length > 0) {
            // a quorum had taken hosts away a hold-down ago, and a quorum says so now
            const confirmed = served.filter(list => list.some(one => one.set === next && one.at > now - HOLD))
            expect(confirmed.length).toBeGreaterThan(count / 2)
            const before = served.filter(list =>
              list.some(one => one.at <= now - HOLD && [...current!].some(host => !one.set.includes(host))),
            )
            expect(before.length).toBeGreaterThan(count / 2)
          }
          current = next
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('the order in which servers are heard does not matter', () => {
    const votes = fc.array(fc.constantFrom(...SETS), { minLength: 1, maxLength: 6 })
    const pair = votes.chain(list =>
      fc.tuple(
        fc.constant(list),
        fc.shuffledSubarray(
          list.map((_, i) => i),
          { minLength: list.length },
        ),
      ),
    )
    fc.assert(
      fc.property(pair, ([list, order]) => {
        const outcome = (servers: readonly number[]) => {
          const lab = new Lab(list.length)
          for (const round of [0, 1]) {
            for (const server of servers) {
              if (round === 0) lab.serve(server, list[server]!)
              else lab.repeat(server, list[server]!)
              lab.decide()
            }
            lab.pass(HOLD)
          }
          return lab.quorum.current
        }
        expect(outcome(order)).toBe(outcome(list.map((_, i) => i)))
      }),
    )
  })
})
