/** Questions to other servers: which answers count, what becomes of the others, and who is asked when. Time is the test's. */
import { describe, expect, it } from 'vitest'
import { encodeMessage, HEADER, type Message } from '../../../../dns/message.ts'
import { isWhole } from '../../../../dns/packet.ts'
import type { ServerState } from '../../../../gateway/dns/upstreams.ts'
import { decoded, edns, lines, query, records } from '../../dns/builders.ts'
import { type Answering, type Asked, ResolverLab, reply } from './resolverLab.ts'

const [ONE, TWO, THREE] = ['192.0.2.1', '192.0.2.2', '192.0.2.3'] as const
const A = records('$TTL 1h\nwww A 192.0.2.7')
const good: Answering = asked => reply(asked, { answers: A })
const silent: Answering = () => undefined
const failing: Answering = asked => reply(asked, { flags: 2 })
const refusing: Answering = asked => reply(asked, { flags: 5 })

/** Asks through Upstreams alone. */
class Lab extends ResolverLab {
  readonly states: ServerState[]

  constructor(servers: Record<string, Answering>) {
    super({ upstreams: {} })
    this.states = Object.entries(servers).map(([address, answering]) => {
      this.answering.set(address, answering)
      return this.upstreams.makeState({ text: address, address: Uint8Array.from(address.split('.'), Number), port: 53 })
    })
  }

  start(
    transport: 'udp' | 'udp-then-tcp' | 'tcp' = 'udp-then-tcp',
    withEdns = true,
  ): { answer?: Message; from?: string; isDone: boolean } {
    const message = query('WwW.example.com. A', { id: 0, flags: 0x100, ...(withEdns ? { edns: edns() } : {}) })
    const result: { answer?: Message; from?: string; isDone: boolean } = { isDone: false }
    this.upstreams.ask({
      servers: this.states,
      message,
      optAt: withEdns ? message.length - 11 : 0,
      transport,
      letters: 'random',
      isReadable: isWhole,
      done: (bytes, from) => {
        expect(result.isDone).toBe(false)
        result.isDone = true
        if (bytes) result.answer = decoded(bytes)
        if (from) result.from = from.server.text
      },
    })
    return result
  }

  run(...args: Parameters<Lab['start']>): ReturnType<Lab['start']> {
    const result = this.start(...args)
    this.deliver()
    this.pass(20_000)
    expect(result.isDone).toBe(true)
    expect(this.upstreams.outstanding).toBe(0)
    return result
  }

  get servers(): string[] {
    return this.asked.map(a => `${a.server}${a.transport === 'tcp' ? ' tcp' : ''}`)
  }
}

const shown = (result: { answer?: Message }) =>
  result.answer && lines(result.answer.answers).map(line => line.replace(/^www/i, 'www'))
const rcodeOf = (result: { answer?: Message }) => result.answer && result.answer.flags & 15
const RIGHT = ['www.example.com. 3600 IN A 192.0.2.7']

describe('which answer counts', () => {
  it('one of the server asked, to the port used, with the id and the question, letter for letter', () => {
    const lab = new Lab({ [ONE]: good })
    expect(shown(lab.run())).toEqual(RIGHT)
    expect(lab.upstreams.counts).toMatchObject({ asked: 1, answered: 1, ignored: 0, timeouts: 0 })
  })

  it('the question comes back in the letters that it was asked in', () => {
    const lab = new Lab({ [ONE]: good })
    expect(Buffer.from(lab.run().answer!.questions[0]!.name).toString()).toBe('\x03WwW\x07example\x03com\0')
  })

  const evil = records('$TTL 1h\nwww A 6.6.6.6')
  const flip = (bytes: Uint8Array, at: number, mask = 1) => bytes.with(at, bytes[at]! ^ mask) as Uint8Array
  const forged: [string, (asked: Asked, message: Message) => [Uint8Array, { address?: string; port?: number }?]][] = [
    ['another id', (_, m) => [flip(reply(m, { answers: evil }), 1)]],
    ['another source address', (_, m) => [reply(m, { answers: evil }), { address: TWO }]],
    ['another source port', (_, m) => [reply(m, { answers: evil }), { port: 54 }]],
    ['another name', (_, m) => [flip(reply(m, { answers: evil }), HEADER + 1, 4)]],
    ['another type', (_, m) => [reply({ ...m, questions: [{ ...m.questions[0]!, type: 28 }] }, { answers: evil })]],
    ['another class', (_, m) => [reply({ ...m, questions: [{ ...m.questions[0]!, class: 3 }] }, { answers: evil })]],
    ['no question', (_, m) => [reply({ ...m, questions: [] }, { answers: evil })]],
    ['two questions', (_, m) => [reply({ ...m, questions: [...m.questions, ...m.questions] }, { answers: evil })]],
    ['no QR', (_, m) => [flip(reply(m, { answers: evil }), 2, 0x80)]],
    ['another operation', (_, m) => [flip(reply(m, { answers: evil }), 2, 0x20)]],
    [
      'the wrong cookie',
      (_, m) => [reply(m, { answers: evil, edns: edns({ options: [{ code: 10, data: new Uint8Array(16) }] }) })],
    ],
    [
      'a cookie that is too short',
      (_, m) => [reply(m, { answers: evil, edns: edns({ options: [{ code: 10, data: new Uint8Array(4) }] }) })],
    ],
    ['less than a header', (_, m) => [reply(m).slice(0, 11)]],
    ['a record that is cut', (_, m) => [reply(m, { answers: evil }).slice(0, -1)]],
    ['bytes behind its end', (_, m) => [Uint8Array.from([...reply(m, { answers: evil }), 0])]],
    ['more records counted than there are', (_, m) => [flip(reply(m, { answers: evil }), 7, 2)]],
    ['an error in it', (_, m) => [flip(reply(m, { flags: 2 }), 1)]],
    ['nothing at all', () => [new Uint8Array()]],
  ]
  it.each(forged)('not one with %s: it is counted, and the wait goes on', (_, make) => {
    const lab = new Lab({ [ONE]: silent })
    const result = lab.start()
    const [asked] = lab.asked
    const [bytes, sender] = make(asked!, decoded(asked!.bytes))
    for (let i = 0; i < 5; i++) lab.receive(asked!, bytes, sender)
    lab.deliver()
    expect(result.isDone).toBe(false)
    expect(lab.upstreams.counts.ignored).toBe(5)
    lab.receive(asked!, good(decoded(asked!.bytes), 'udp')!)
    expect(shown(result)).toEqual(RIGHT)
  })

  it('not one to another socket', () => {
    const lab = new Lab({ [ONE]: silent })
    const result = lab.start()
    const [asked] = lab.asked
    lab.receive({ ...asked!, socket: 8 }, good(decoded(asked!.bytes), 'udp')!)
    expect(result.isDone).toBe(false)
  })

  it('not a second one', () => {
    const lab = new Lab({ [ONE]: silent })
    const result = lab.start()
    const [asked] = lab.asked
    const answer = good(decoded(asked!.bytes), 'udp')!
    lab.receive(asked!, answer)
    lab.receive(asked!, answer)
    expect(shown(result)).toEqual(RIGHT)
    expect(lab.upstreams.counts).toMatchObject({ answered: 1, ignored: 1 })
  })

  it('out of order, each its own', () => {
    const lab = new Lab({ [ONE]: silent })
    const results = Array.from({ length: 50 }, () => lab.start())
    for (const i of [...results.keys()].reverse()) {
      const { bytes } = lab.asked[i]!
      lab.receive(lab.asked[i]!, reply(decoded(bytes), { answers: records(`$TTL 1h\nwww A 192.0.2.${i}`) }))
    }
    expect(results.map(shown)).toEqual(results.map((_, i) => [`www.example.com. 3600 IN A 192.0.2.${i}`]))
  })
})

describe('what nobody outside can know', () => {
  it('ids are those of no open question, and letters are different every time', () => {
    const lab = new Lab({ [ONE]: silent })
    for (let i = 0; i < 300; i++) lab.start()
    const ids = new Set(lab.asked.map(a => (a.bytes[0]! << 8) | a.bytes[1]!))
    expect(ids.size).toBe(300)
    const names = new Set(lab.asked.map(a => Buffer.from(a.bytes.subarray(HEADER, HEADER + 17)).toString()))
    expect(names.size).toBeGreaterThan(200)
  })

  it('a cookie of ours is sent, and the one of the server with it from then on', () => {
    const serverCookie = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
    const lab = new Lab({ [ONE]: withCookies(serverCookie) })
    lab.run()
    lab.run()
    const [first, second] = lab.asked.map(a => decoded(a.bytes).edns!.options.find(o => o.code === 10)!.data)
    expect(first!.length).toBe(8)
    expect(Buffer.from(second!)).toEqual(Buffer.concat([first!, serverCookie]))
    const other = new Lab({ [ONE]: good, [TWO]: good })
    expect(other.states[0]!.clientCookie).not.toEqual(other.states[1]!.clientCookie)
  })

  it('no cookie is put into a message that has no room for it', () => {
    const lab = new Lab({ [ONE]: good })
    const padding = { code: 12, data: new Uint8Array(65_480) }
    const message = query('www.example.com. A', { id: 0, edns: edns({ options: [padding] }) })
    const optAt = message.length - 11 - 4 - padding.data.length
    const wanted = { servers: lab.states, message, optAt, letters: 'asked', isReadable: isWhole } as const
    lab.upstreams.ask({ ...wanted, transport: 'tcp', done: () => {} })
    expect(lab.asked[0]!.bytes.length).toBe(message.length)
    expect(decoded(lab.asked[0]!.bytes).edns!.options).toEqual([padding])
  })

  it('an answer without the cookie that the server gave is checked over TCP', () => {
    const lab = new Lab({ [ONE]: withCookies(new Uint8Array(8).fill(9)) })
    lab.run()
    lab.answering.set(ONE, (asked, transport) =>
      transport === 'tcp' ? withCookies(new Uint8Array(8))(asked, transport) : undefined,
    )
    const result = lab.start()
    lab.receive(
      lab.asked.at(-1)!,
      reply(decoded(lab.asked.at(-1)!.bytes), { answers: records('$TTL 1h\nwww A 6.6.6.6') }),
    )
    expect(result.isDone).toBe(false)
    lab.deliver()
    expect(shown(result)).toEqual(RIGHT)
    expect(lab.servers.at(-1)).toBe(`${ONE} tcp`)
  })

  it('a server that has given up cookies is believed after TCP said so', () => {
    const lab = new Lab({ [ONE]: withCookies(new Uint8Array(8).fill(9)) })
    lab.run()
    lab.answering.set(ONE, good)
    expect(shown(lab.run())).toEqual(RIGHT)
    expect(shown(lab.run())).toEqual(RIGHT)
    expect(lab.servers).toEqual([ONE, ONE, `${ONE} tcp`, ONE])
  })

  it('BADCOOKIE is no answer: the question goes over TCP', () => {
    const lab = new Lab({
      [ONE]: (asked, transport) =>
        transport === 'tcp'
          ? good(asked, transport)
          : reply(asked, { flags: 7, edns: edns({ extendedRcode: 1, options: cookieOf(asked, new Uint8Array(8)) }) }),
    })
    expect(shown(lab.run())).toEqual(RIGHT)
    expect(lab.servers).toEqual([ONE, `${ONE} tcp`])
  })
})

describe('servers that do less than others', () => {
  const lowerCase: Answering = asked =>
    reply({ ...asked, questions: asked.questions.map(q => ({ ...q, name: q.name.toLowerCase() })) }, { answers: A })

  it('one that changes the letters is asked over TCP, and in its letters when that is sure', () => {
    const lab = new Lab({ [ONE]: lowerCase })
    for (let i = 0; i < 6; i++) expect(shown(lab.run())).toEqual(RIGHT)
    expect(lab.states[0]!.keepsCase).toBe(false)
    expect(lab.servers.filter(s => s.endsWith('tcp')).length).toBeLessThan(5)
    expect(lab.servers.at(-1)).toBe(ONE)
  })

  it('so is one that has no TCP', () => {
    const lab = new Lab({
      [ONE]: (asked, transport) => (transport === 'udp' ? lowerCase(asked, transport) : undefined),
    })
    for (let i = 0; i < 4; i++) lab.run()
    expect(shown(lab.run())).toEqual(RIGHT)
  })

  it('one forged answer in other letters does not change how a good server is asked', () => {
    const lab = new Lab({ [ONE]: good })
    for (let i = 0; i < 10; i++) {
      const result = lab.start()
      const asked = lab.asked.at(-1)!
      lab.receive(asked, lowerCase(decoded(asked.bytes), 'udp')!)
      lab.deliver()
      expect(shown(result)).toEqual(RIGHT)
    }
    expect(lab.states[0]!.keepsCase).toBe(true)
  })

  it('one that knows no EDNS and answers with a header alone is asked over TCP first', () => {
    const bare: Answering = (asked, transport) =>
      transport === 'udp' ? encodeMessage({ id: asked.id, flags: 0x8001 }) : undefined
    const lab = new Lab({ [ONE]: bare })
    const result = lab.run()
    expect([rcodeOf(result), result.answer!.questions.length]).toEqual([1, 0])
    expect(lab.servers).toEqual([ONE, `${ONE} tcp`])
    // forged, while the server is well
    const other = new Lab({
      [ONE]: (asked, transport) => (transport === 'tcp' ? good(asked, transport) : bare(asked, transport)),
    })
    expect(shown(other.run())).toEqual(RIGHT)
  })

  it('a header alone is nothing where no EDNS was asked for', () => {
    const lab = new Lab({ [ONE]: asked => encodeMessage({ id: asked.id, flags: 0x8001 }) })
    expect(lab.run('udp-then-tcp', false).answer).toBeUndefined()
  })
})

describe('answers that were cut', () => {
  const cut: Answering = (asked, transport) =>
    transport === 'tcp' ? good(asked, transport) : reply(asked, { flags: 0x200 })

  it('are asked for over TCP, or handed on, as wanted', () => {
    const lab = new Lab({ [ONE]: cut })
    expect(shown(lab.run('udp-then-tcp'))).toEqual(RIGHT)
    expect(lab.servers).toEqual([ONE, `${ONE} tcp`])
    expect(lab.run('udp').answer!.flags & 0x200).toBe(0x200)
  })

  it('of a server without TCP lead to the next server, and to an end', () => {
    const noTcp: Answering = asked => reply(asked, { flags: 0x200 })
    const udpOnly: Answering = (asked, transport) => (transport === 'udp' ? noTcp(asked, transport) : undefined)
    const lab = new Lab({ [ONE]: udpOnly, [TWO]: good })
    expect(shown(lab.run())).toEqual(RIGHT)
    expect(lab.servers).toEqual([ONE, `${ONE} tcp`, TWO])
    const none = new Lab({ [ONE]: udpOnly })
    expect(none.run().answer).toBeUndefined()
    expect(none.servers).toEqual([ONE, `${ONE} tcp`])
  })
})

describe('who is asked', () => {
  it('the servers in the order given', () => {
    const lab = new Lab({ [ONE]: good, [TWO]: good })
    for (let i = 0; i < 5; i++) lab.run()
    expect(new Set(lab.servers)).toEqual(new Set([ONE]))
  })

  it('the next one when one is silent, and a late answer of the first is still taken', () => {
    const lab = new Lab({ [ONE]: silent, [TWO]: silent })
    const result = lab.start()
    lab.deliver()
    lab.pass(600)
    expect(lab.servers).toEqual([ONE, TWO])
    lab.receive(lab.asked[0]!, good(decoded(lab.asked[0]!.bytes), 'udp')!)
    expect([shown(result), result.from]).toEqual([RIGHT, ONE])
  })

  it('one that was silent three times is passed over, tried again by one question alone, and taken back', () => {
    const lab = new Lab({ [ONE]: silent, [TWO]: good })
    for (let i = 0; i < 3; i++) {
      lab.start()
      lab.deliver()
      lab.pass(550)
    }
    lab.asked.length = 0
    const quick = lab.start()
    lab.deliver()
    expect([shown(quick), lab.servers]).toEqual([RIGHT, [TWO]])
    lab.answering.set(ONE, good)
    lab.nowMs += 40_000
    lab.asked.length = 0
    for (let i = 0; i < 5; i++) lab.start()
    expect(lab.servers).toEqual([ONE, TWO, TWO, TWO, TWO])
    lab.deliver()
    lab.asked.length = 0
    lab.run()
    expect(lab.servers).toEqual([ONE])
  })

  it.each([
    ['fails', failing],
    ['refuses', refusing],
  ])('the next one at once when one %s', (_, answering) => {
    const lab = new Lab({ [ONE]: answering, [TWO]: good })
    const result = lab.start()
    lab.deliver()
    expect([shown(result), lab.servers]).toEqual([RIGHT, [ONE, TWO]])
  })

  it('all fail: the first failure is the answer, each server was asked once', () => {
    const lab = new Lab({ [ONE]: failing, [TWO]: refusing, [THREE]: failing })
    const result = lab.start()
    lab.deliver()
    expect([rcodeOf(result), result.from, lab.servers]).toEqual([2, ONE, [ONE, TWO, THREE]])
  })

  it('one is silent and the other fails: there is an end, with the failure', () => {
    for (const order of [
      [ONE, TWO],
      [TWO, ONE],
    ]) {
      const lab = new Lab(Object.fromEntries(order.map(address => [address, address === ONE ? silent : failing])))
      expect(rcodeOf(lab.run())).toBe(2)
      expect(lab.asked.length).toBeLessThanOrEqual(5)
    }
  })

  it('one is slow and the other fails: the slow answer is taken', () => {
    const lab = new Lab({ [ONE]: silent, [TWO]: failing })
    const result = lab.start()
    lab.deliver()
    lab.pass(700)
    expect(result.isDone).toBe(false)
    lab.receive(lab.asked[0]!, good(decoded(lab.asked[0]!.bytes), 'udp')!)
    expect(shown(result)).toEqual(RIGHT)
  })

  it('all are silent: at most four questions, and an end', () => {
    for (const servers of [
      { [ONE]: silent },
      { [ONE]: silent, [TWO]: silent },
      { [ONE]: silent, [TWO]: silent, [THREE]: silent },
    ]) {
      const lab = new Lab(servers)
      const before = lab.nowMs
      const result = lab.start()
      lab.deliver()
      while (!result.isDone) lab.pass(50)
      expect(result.answer).toBeUndefined()
      expect(lab.asked.length).toBeLessThanOrEqual(4)
      expect(lab.nowMs - before).toBeLessThanOrEqual(4000)
    }
  })

  it('six servers, four that fail and two that are silent: there is an end', () => {
    const lab = new Lab(
      Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`192.0.2.${10 + i}`, i < 4 ? failing : silent])),
    )
    expect(rcodeOf(lab.run())).toBe(2)
    expect(lab.asked.length).toBeLessThanOrEqual(8)
  })

  it('twenty servers that fail: not all of them are asked (NXNS)', () => {
    const lab = new Lab(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`192.0.2.${10 + i}`, failing])))
    expect(rcodeOf(lab.run())).toBe(2)
    expect(lab.asked.length).toBe(8)
  })

  it('over TCP: the next server when one does not answer, and an end', () => {
    const lab = new Lab({ [ONE]: silent, [TWO]: good })
    expect(shown(lab.run('tcp'))).toEqual(RIGHT)
    expect(lab.servers).toEqual([`${ONE} tcp`, `${TWO} tcp`])
    const none = new Lab({ [ONE]: silent, [TWO]: failing })
    expect(rcodeOf(none.run('tcp'))).toBe(2)
    expect(new Lab({ [ONE]: silent }).run('tcp').answer).toBeUndefined()
  })

  it('nobody: an end at once', () => {
    expect(new Lab({}).start().isDone).toBe(true)
  })

  it('whatever servers do, every exchange ends', () => {
    const ways: Answering[] = [
      good,
      silent,
      failing,
      refusing,
      asked => reply(asked, { flags: 0x200 }),
      (asked, transport) => (transport === 'udp' ? reply(asked, { flags: 0x200 }) : undefined),
      asked => encodeMessage({ id: asked.id, flags: 0x8001 }),
      asked =>
        reply(
          { ...asked, questions: asked.questions.map(q => ({ ...q, name: q.name.toLowerCase() })) },
          { answers: A },
        ),
      asked => reply(asked, { answers: A }).slice(0, -3),
      asked => reply(asked, { flags: 7, edns: edns({ extendedRcode: 1 }) }),
      withCookies(new Uint8Array(8).fill(3)),
    ]
    let state = 1
    const random = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % below
    }
    for (let round = 0; round < 400; round++) {
      const servers = Object.fromEntries(
        Array.from({ length: 1 + random(4) }, (_, i) => [`192.0.2.${10 + i}`, ways[random(ways.length)]!]),
      )
      const lab = new Lab(servers)
      for (let i = 0; i < 4; i++) {
        lab.run((['udp', 'tcp', 'udp-then-tcp'] as const)[random(3)]!, random(4) > 0)
        lab.answering.set('192.0.2.10', ways[random(ways.length)]!)
      }
      expect(lab.asked.length).toBeLessThanOrEqual(4 * 14)
    }
  })
})

function cookieOf(asked: Message, serverCookie: Uint8Array) {
  const mine = asked.edns?.options.find(o => o.code === 10)?.data.subarray(0, 8)
  return mine ? [{ code: 10, data: Uint8Array.from([...mine, ...serverCookie]) }] : []
}

function withCookies(serverCookie: Uint8Array): Answering {
  return asked =>
    reply(asked, { answers: A, ...(asked.edns ? { edns: edns({ options: cookieOf(asked, serverCookie) }) } : {}) })
}
