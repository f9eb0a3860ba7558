/** Reading back from servers in memory, with a clock that the test moves. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Class, Flag, Rcode, Type } from '../../../../dns/constants.ts'
import { encodeSoa, type Message } from '../../../../dns/message.ts'
import { formatName, type Name, parseName } from '../../../../dns/name.ts'
import type { Server } from '../../../../operator/publish/endpoints.ts'
import { judge, ReadBack, type ReadEntry } from '../../../../operator/publish/readBack.ts'
import type { RecordSet } from '../../../../operator/publish/records.ts'
import { dataOf } from '../../../../operator/publish/zoneOf.ts'
import { ManualClock } from '../../../support/manualClock.ts'

const set = (name: string, ...values: string[]): RecordSet => ({
  name: `${name}.example.com`,
  type: 'TXT',
  ttl: 60,
  values,
})
const A1 = 'AA 198.51.100.1 + 1-0-1'
const A2 = 'AA 198.51.100.1 + 1-0-2'

function message(name: Name, type: number, values: readonly string[], more: Partial<Message> = {}): Message {
  const answers = values.map(value => ({ name, type, class: Class.IN, ttl: 60, data: dataOf('TXT', value) }))
  return { id: 1, flags: Flag.QR | Flag.AA, questions: [], answers, authority: [], additional: [], ...more }
}

/** Two name servers: what each has, or silence. */
class Servers {
  readonly all: Server[] = [
    { host: '192.0.2.1', port: 53 },
    { host: '192.0.2.2', port: 53 },
  ]
  readonly zones = new Map(
    this.all.map(({ host }) => [
      host,
      { sets: new Map<string, string[]>(), serial: 1, isSilent: false, isStranger: false },
    ]),
  )
  asked: string[] = []

  put(one: RecordSet, where: readonly string[] = ['192.0.2.1', '192.0.2.2']): void {
    for (const host of where) this.zones.get(host)!.sets.set(one.name, [...one.values])
  }
  bump(): void {
    for (const zone of this.zones.values()) zone.serial++
  }
  ask = async ({ host }: Server, { name, type }: { name: Name; type: number }): Promise<Message | undefined> => {
    const zone = this.zones.get(host)!
    const text = formatName(name).slice(0, -1)
    this.asked.push(`${host} ${text} ${type}`)
    if (zone.isSilent) return undefined
    if (zone.isStranger) return message(name, type, [], { flags: Flag.QR | Rcode.REFUSED })
    if (type === Type.SOA) {
      const soa = { primary: name, mailbox: name, serial: zone.serial, refresh: 1, retry: 1, expire: 1, minimum: 1 }
      return { ...message(name, type, []), answers: [{ name, type, class: Class.IN, ttl: 60, data: encodeSoa(soa) }] }
    }
    const values = zone.sets.get(text)
    return values ? message(name, type, values) : message(name, type, [], { flags: Flag.QR | Flag.AA | Rcode.NXDOMAIN })
  }
}

let clock: ManualClock
let servers: Servers
let told: string[]
let drifts: ReadEntry[]

function open(more: { isAuthoritative?: boolean } = {}): ReadBack {
  const readBack = new ReadBack(
    { isAuthoritative: true, intervalMs: 30_000, zones: new Map([['public', 'example.com']]), ...more },
    {
      clock,
      random: () => 0.5,
      ask: servers.ask,
      servers: async () => servers.all,
      onEntry: ({ set: one, former, state, problem }) =>
        told.push(`${(one ?? former)!.name} ${state} ${problem ?? ''}`.trim()),
      onDrift: entry => drifts.push(entry),
    },
  )
  readBack.start()
  return readBack
}

beforeEach(() => {
  clock = new ManualClock()
  servers = new Servers()
  told = []
  drifts = []
})

describe('reading back', () => {
  it('is right only when every server has it', async () => {
    const readBack = open()
    servers.put(set('web', A1), ['192.0.2.1'])
    readBack.expect('public', set('web', A1))
    await clock.advance(3000)
    expect(told).toEqual(['web.example.com wrong 192.0.2.2:53: web.example.com TXT: no such name yet'])
    servers.put(set('web', A1))
    await clock.advance(30_000)
    expect(told.at(-1)).toBe('web.example.com right')
    expect(readBack.pending).toBe(0)
  })

  it('takes silence for no proof, of presence or of absence', async () => {
    const readBack = open()
    servers.put(set('web', A1))
    servers.zones.get('192.0.2.2')!.isSilent = true
    readBack.expect('public', set('web', A1))
    await clock.advance(3000)
    expect(told).toEqual(['web.example.com unknown 192.0.2.2:53: web.example.com TXT: no answer'])
    servers.zones.get('192.0.2.2')!.isSilent = false
    await clock.advance(30_000)
    servers.zones.get('192.0.2.2')!.isSilent = true
    servers.bump()
    await clock.advance(100_000)
    expect(told.at(-1)).toBe('web.example.com right')
    expect(drifts).toEqual([])
  })

  it('leaves out a server that refuses the internal zone, where another has it', async () => {
    const readBack = open()
    servers.put(set('web', A1), ['192.0.2.1'])
    servers.zones.get('192.0.2.2')!.isStranger = true
    readBack.expect('internal', set('web', A1))
    await clock.advance(3000)
    expect(told).toEqual(['web.example.com right'])
    readBack.expect('public', set('web', A1))
    await clock.advance(3000)
    expect(told.at(-1)).toBe('web.example.com unknown 192.0.2.2:53: web.example.com TXT: REFUSED')
    servers.zones.get('192.0.2.1')!.isSilent = true
    readBack.expect('internal', set('api', A1))
    await clock.advance(3000)
    expect(told).toContain('api.example.com unknown 192.0.2.1:53: api.example.com TXT: no answer')
    expect(told).not.toContain('api.example.com right')
  })

  it('counts a server that answers at one of its addresses', async () => {
    const readBack = open()
    servers.put(set('web', A1))
    for (const server of servers.all) server.name = 'ns1.example.com'
    servers.zones.get('192.0.2.2')!.isSilent = true
    readBack.expect('public', set('web', A1))
    await clock.advance(3000)
    expect(told).toEqual(['web.example.com right'])
    servers.zones.get('192.0.2.1')!.isSilent = true
    readBack.expect('public', set('web', A1))
    await clock.advance(3000)
    expect(readBack.get('public', 'web.example.com TXT')!.state).toBe('unknown')
  })

  it('asks for serials alone while nothing changes, and sees what others change', async () => {
    const readBack = open()
    for (const name of ['a', 'b', 'c']) {
      servers.put(set(name, A1))
      readBack.expect('public', set(name, A1))
    }
    await clock.advance(100_000)
    servers.asked = []
    await clock.advance(300_000)
    expect(new Set(servers.asked)).toEqual(new Set(['192.0.2.1 example.com 6', '192.0.2.2 example.com 6']))
    servers.put(set('b', A2), ['192.0.2.2'])
    servers.bump()
    await clock.advance(40_000)
    expect(drifts.map(({ set: one, problem }) => `${one!.name} ${problem}`)).toEqual([
      'b.example.com 192.0.2.2:53: b.example.com TXT: other records',
    ])
    servers.put(set('b', A1))
    await clock.advance(40_000)
    expect(readBack.get('public', 'b.example.com TXT')!.state).toBe('right')
  })

  it('asks a resolver for everything again, at a measured pace', async () => {
    const readBack = open({ isAuthoritative: false })
    for (let i = 0; i < 500; i++) {
      servers.put(set(`h${i}`, A1))
      readBack.expect('public', set(`h${i}`, A1))
    }
    await clock.advance(20_000)
    expect(readBack.pending).toBe(0)
    servers.asked = []
    await clock.advance(10_500)
    const soon = servers.asked.length
    await clock.advance(2500)
    expect(soon).toBeLessThanOrEqual(2 * 400)
    expect(servers.asked.length).toBe(2 * 500)
  })

  it('waits until what was withdrawn is gone, whatever stands there instead', async () => {
    const readBack = open()
    servers.put(set('web', A1, A2))
    readBack.expectGone('public', set('web', A1))
    await clock.advance(3000)
    expect(told).toEqual(['web.example.com wrong 192.0.2.1:53: web.example.com TXT: still there'])
    servers.put(set('web', A2))
    await clock.advance(30_000)
    expect(told.at(-1)).toBe('web.example.com right')
  })

  it('forgets what is not asked for any more', async () => {
    const readBack = open()
    readBack.expect('public', set('web', A1))
    readBack.forget('public', 'web.example.com TXT')
    await clock.advance(5000)
    expect([told, servers.asked]).toEqual([[], []])
  })

  it('keeps at most 32 sets on their way', async () => {
    const held: (() => void)[] = []
    servers.ask = () => new Promise(resolve => held.push(() => resolve(undefined)))
    const readBack = open()
    for (let i = 0; i < 300; i++) readBack.expect('public', set(`h${i}`, A1))
    await clock.advance(300)
    expect(held.length).toBe(2 * 32)
    expect(readBack.pending).toBe(300)
    for (const release of held.splice(0, 10)) release()
    await clock.advance(0)
    expect(held.length).toBe(2 * 32)
    readBack.stop()
  })
})

describe('one answer', () => {
  const name = parseName('web.example.com')!
  const question = { name, type: Type.TXT }
  const wanted = { set: set('web', A1), former: undefined }
  it.each([
    ['the same strings', message(name, Type.TXT, [A1]), 'right'],
    ['text of others beside them', message(name, Type.TXT, [A1, 'v=spf1 -all']), 'right'],
    ['more strings', message(name, Type.TXT, [A1, A2]), 'wrong'],
    ['others', message(name, Type.TXT, [A2]), 'wrong'],
    ['no records', message(name, Type.TXT, []), 'wrong'],
    ['no name', message(name, Type.TXT, [], { flags: Flag.QR | Flag.AA | Rcode.NXDOMAIN }), 'wrong'],
    ['no authority', message(name, Type.TXT, [A1], { flags: Flag.QR }), 'silent'],
    ['a failure', message(name, Type.TXT, [], { flags: Flag.QR | Rcode.SERVFAIL }), 'silent'],
    ['nothing', undefined, 'silent'],
  ])('with %s is %s', (_, answer, is) => {
    expect(judge(answer, question, wanted, true, 'ns1').is).toBe(is)
  })
})
