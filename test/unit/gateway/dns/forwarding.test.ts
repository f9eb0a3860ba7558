/** Questions that the resolver hands on, those that it refuses, and what it remembers of both. */
import { describe, expect, it } from 'vitest'
import { encodeMessage, HEADER } from '../../../../dns/message.ts'
import { formatName, nameToBytes } from '../../../../dns/name.ts'
import { fitAnswer, forwardQuery } from '../../../../gateway/dns/forwarding.ts'
import { parseAddress, parsePrefix } from '../../../../ipref/address.ts'
import { decoded, EXAMPLE, edns, lines, name, query, records as recordsOf } from '../../dns/builders.ts'
import { type Answering, ofZone, ResolverLab, reply } from './resolverLab.ts'

const records = (text: string, origin = EXAMPLE) => recordsOf(`$TTL 1h\n${text}`, origin)

const FORWARDER = '192.0.2.54'
const SECOND = '192.0.2.55'
const ZONE = `
plain A 192.0.2.7
plain AAAA 2001:db8::7
mail MX 10 plain
Upper TXT "odd \\000\\255 bytes"
large TXT ${Array.from({ length: 8 }, (_, i) => `"${String(i).repeat(200)}"`).join(' ')}
rebind A 10.240.16.9
rebind6 AAAA fd00::9
glue MX 10 rebind
`
const zone = ofZone(ZONE)
const silent: Answering = () => undefined
const failing: Answering = asked => reply(asked, { flags: 2 })

function lab(answering: Answering = zone, settings: ConstructorParameters<typeof ResolverLab>[1] = {}): ResolverLab {
  // nothing is looked up in AA records: the domain is another
  const domains = [name('aa.example.')]
  return new ResolverLab(
    { upstreams: { '192.0.2.53': silent }, forwarders: { [FORWARDER]: answering } },
    { domains, ...settings },
  )
}

const rcodeOf = (answer: { flags: number; edns?: { extendedRcode: number } }) =>
  (answer.flags & 15) | ((answer.edns?.extendedRcode ?? 0) << 4)
const shown = (answer: { answers: Parameters<typeof lines>[0] }) => lines(answer.answers)
const reasonOf = (answer: { edns?: { options: { code: number; data: Uint8Array }[] } }) => {
  const option = answer.edns?.options.find(o => o.code === 15)
  return option && (option.data[0]! << 8) | option.data[1]!
}

describe('refusals of messages (RFC 8906)', () => {
  const question = query('plain.example.com. A')
  const withByte = (at: number, value: number) => Uint8Array.from(question.with(at, value))
  const rows: [string, Uint8Array, number | undefined][] = [
    ['a response: silence', withByte(2, 0x80), undefined],
    ['a response with an error: silence', withByte(2, 0x80).fill(1, 3, 4), undefined],
    ['less than a header: silence', question.slice(0, 11), undefined],
    ['nothing: silence', new Uint8Array(), undefined],
    ['no question: FORMERR', encodeMessage({ id: 1, flags: 0 }), 1],
    [
      'two questions: FORMERR',
      encodeMessage({ id: 1, flags: 0, questions: [...decoded(question).questions, ...decoded(question).questions] }),
      1,
    ],
    ['a count that is too large: FORMERR', withByte(5, 2), 1],
    ['records in the answer: FORMERR', query('plain.example.com. A', { answers: records('plain A 192.0.2.1') }), 1],
    ['a name that is cut: FORMERR', question.slice(0, 16), 1],
    ['a pointer to itself: FORMERR', Uint8Array.from([...question.slice(0, 12), 0xc0, 12, 0, 1, 0, 1]), 1],
    ['a pointer forwards: FORMERR', Uint8Array.from([...question.slice(0, 12), 0xc0, 18, 0, 1, 0, 1]), 1],
    ['a label of type 01: FORMERR', Uint8Array.from([...question.slice(0, 12), 0x41, 97, 0, 0, 1, 0, 1]), 1],
    ['a label of type 10: FORMERR', Uint8Array.from([...question.slice(0, 12), 0x81, 97, 0, 0, 1, 0, 1]), 1],
    [
      'a name of 256 bytes: FORMERR',
      Uint8Array.from([
        ...question.slice(0, 12),
        ...Array.from({ length: 4 }, () => [62, ...new Array(62).fill(97)]).flat(),
        2,
        97,
        97,
        0,
        0,
        1,
        0,
        1,
      ]),
      1,
    ],
    ['bytes behind the end: FORMERR', Uint8Array.from([...question, 0]), 1],
    ['two OPT records: FORMERR', withTwoOpt(), 1],
    ['operation UPDATE: NOTIMP', withByte(2, 5 << 3), 4],
    ['operation NOTIFY: NOTIMP', withByte(2, 4 << 3), 4],
    ['operation 15: NOTIMP', withByte(2, 15 << 3), 4],
    ['operation 7 with what nobody can read: NOTIMP', withByte(2, 7 << 3).slice(0, 14), 4],
    ['a zone transfer: REFUSED', query('example.com. AXFR'), 5],
    ['an incremental one: REFUSED', query('example.com. IXFR'), 5],
    ['EDNS version 1: BADVERS', query('plain.example.com. A', { edns: edns({ version: 1 }) }), 16],
    ['EDNS version 255: BADVERS', query('plain.example.com. A', { edns: edns({ version: 255 }) }), 16],
    ['type OPT: FORMERR', query('plain.example.com. TYPE41'), 1],
    ['an unknown type: NOERROR', query('plain.example.com. TYPE65280'), 0],
    [
      'an unknown option: NOERROR',
      query('plain.example.com. A', { edns: edns({ options: [{ code: 65001, data: Uint8Array.of(1, 2) }] }) }),
      0,
    ],
    ['an unknown EDNS flag: NOERROR', withEdnsFlags(0x4000), 0],
    ['the Z bit: NOERROR', withByte(3, 0x40), 0],
  ]

  it.each(rows)('%s', (_, bytes, rcode) => {
    const one = lab()
    const answers = one.send(bytes)
    one.deliver()
    if (rcode === undefined) return expect(answers).toEqual([])
    expect(answers).toHaveLength(1)
    expect(rcodeOf(answers[0]!)).toBe(rcode)
    expect(answers[0]!.flags & 0x8000).toBe(0x8000)
    expect(answers[0]!.id).toBe((bytes[0]! << 8) | bytes[1]!)
  })

  it.each(rows.filter(([, , rcode]) => rcode !== undefined && rcode !== 0))(
    '%s, but silence for the port of a service',
    (_, bytes) => {
      const one = lab()
      expect(one.send(bytes, { isService: true })).toEqual([])
    },
  )

  it('answers a good question from such a port', () => {
    expect(shown(lab().ask('plain.example.com. A', {}, { isService: true }))).toHaveLength(1)
  })

  it('no refusal is longer than what it refuses', () => {
    for (const [, bytes, rcode] of rows) {
      if (!rcode) continue
      const [answer] = lab().send(bytes)
      expect(answer!.bytes.length).toBeLessThanOrEqual(Math.max(bytes.length, HEADER))
    }
  })

  it('BADVERS says which version there is', () => {
    const answer = lab().ask('plain.example.com. A', { edns: edns({ version: 3 }) })
    expect(answer.edns).toMatchObject({ version: 0, extendedRcode: 1 })
  })

  function withTwoOpt(): Uint8Array {
    const bytes = query('plain.example.com. A', { edns: edns() })
    const twice = Uint8Array.from([...bytes, ...bytes.slice(-11)])
    twice[11] = 2
    return twice
  }

  function withEdnsFlags(flags: number): Uint8Array {
    const bytes = query('plain.example.com. A', { edns: edns() })
    new DataView(bytes.buffer).setUint16(bytes.length - 4, flags)
    return bytes
  }
})

describe('what is handed on', () => {
  it('is the question as it came, with another id', () => {
    const one = lab()
    const asked = query('pLAin.example.com. A', { id: 4711, flags: 0x0130 })
    one.send(asked)
    const [sent] = one.asked
    expect(Buffer.from(sent!.bytes.slice(2, 12)).toString('hex')).toBe(Buffer.from(asked.slice(2, 12)).toString('hex'))
    expect(Buffer.from(sent!.bytes.slice(12))).toEqual(Buffer.from(asked.slice(12)))
    expect(sent!.bytes.slice(0, 2)).not.toEqual(asked.slice(0, 2))
  })

  it('has no cookie of the asker, and no more room than we take; other options pass', () => {
    const options = [
      { code: 10, data: new Uint8Array(8).fill(7) },
      { code: 8, data: Uint8Array.of(0, 1, 24, 0, 192, 0, 2) },
      { code: 11, data: new Uint8Array() },
    ]
    const asked = query('plain.example.com. A', { edns: edns({ payloadSize: 65535, dnssecOk: true, options }) })
    const message = decoded(asked)
    const { bytes } = forwardQuery(asked, message, HEADER + message.questions[0]!.name.length + 4)
    expect(decoded(bytes).edns).toEqual(edns({ payloadSize: 1232, dnssecOk: true, options: [options[1]!] }))
  })

  it('comes back with the letters of the asker, also in owners that repeat the question', () => {
    const one = lab(asked => {
      const { id, questions } = asked
      const question = questions[0]!
      // an answer without compression
      const owner = nameToBytes(question.name)
      const head = encodeMessage({ id, flags: 0x8400, questions })
      const answer = Uint8Array.from([...head, ...owner, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1])
      answer[7] = 1
      return answer
    })
    const answer = one.ask('wWw.ExAmple.com. A')
    expect(formatName(answer.questions[0]!.name)).toBe('wWw.ExAmple.com.')
    expect(shown(answer)).toEqual(['wWw.ExAmple.com. 60 IN A 192.0.2.1'])
    // from memory, for an asker with other letters
    expect(formatName(one.ask('WWW.example.com. A').questions[0]!.name)).toBe('WWW.example.com.')
    expect(one.asked).toHaveLength(1)
  })

  it('keeps bytes that are no text', () => {
    expect(shown(lab().ask('upper.example.com. TXT'))).toEqual([
      'upper.example.com. 3600 IN TXT "odd \\000\\255 bytes"',
    ])
  })

  it('is cut over UDP and whole over TCP, as the forwarder says', () => {
    const one = lab()
    const cut = one.ask('large.example.com. TXT')
    expect([cut.flags & 0x200, cut.answers.length]).toEqual([0x200, 0])
    const whole = one.ask('large.example.com. TXT', {}, { overTcp: true })
    expect([whole.flags & 0x200, whole.answers.length]).toEqual([0, 1])
    expect(one.asked.map(a => a.transport)).toEqual(['udp', 'tcp'])
    // the whole answer is remembered, and cut for those who have no room for it
    expect(one.ask('large.example.com. TXT', { edns: edns() }).flags & 0x200).toBe(0x200)
    expect(one.ask('large.example.com. TXT').bytes.length).toBeLessThan(513)
  })

  it('ANY has one set of records (RFC 8482)', () => {
    const one = lab(asked =>
      reply(asked, {
        answers: records('plain A 192.0.2.7\nplain A 192.0.2.8\nplain TXT "a"\nplain MX 1 plain'),
        authority: records('@ NS ns1'),
      }),
    )
    const answer = one.ask('plain.example.com. ANY')
    expect(shown(answer)).toEqual(['plain.example.com. 3600 IN A 192.0.2.7', 'plain.example.com. 3600 IN A 192.0.2.8'])
    expect(answer.authority).toEqual([])
  })

  it('is an error without a question made a whole one, so that the asker does without EDNS', () => {
    const one = lab((asked, transport) =>
      transport === 'tcp'
        ? undefined
        : asked.edns
          ? encodeMessage({ id: asked.id, flags: 0x8001 })
          : zone(asked, transport),
    )
    const refused = one.ask('plain.example.com. A', { edns: edns() })
    expect([rcodeOf(refused), refused.questions.length]).toEqual([1, 1])
    expect(shown(one.ask('plain.example.com. A'))).toHaveLength(1)
  })
})

describe('answers to the outside', () => {
  it('are at most as long as they may be, and then cut', () => {
    const answers = records(Array.from({ length: 20 }, (_, i) => `plain A 192.0.2.${i}`).join('\n'))
    const one = lab(asked => reply(asked, { answers, edns: edns() }))
    const answer = one.ask('plain.example.com. A', { edns: edns() }, { most: 300 })
    expect(answer.bytes.length).toBeLessThanOrEqual(300)
    expect(answer.flags & 0x200).toBe(0x200)
    expect(answer.answers).toEqual([])
    expect(answer.edns).toBeDefined()
  })

  it('that are cut keep the question, and the OPT record where there is room', () => {
    const whole = query('plain.example.com. A', { flags: 0x8180, answers: records('plain A 192.0.2.7'), edns: edns() })
    const cut = decoded(fitAnswer(whole, HEADER + 19 + 4, 50))
    expect([cut.questions.length, cut.answers.length, cut.flags & 0x200, Boolean(cut.edns)]).toEqual([
      1,
      0,
      0x200,
      true,
    ])
    expect(decoded(fitAnswer(whole, HEADER + 19 + 4, 40)).edns).toBeUndefined()
    expect(fitAnswer(whole, HEADER + 19 + 4, whole.length)).toBe(whole)
  })
})

describe('rebinding', () => {
  const denyAnswers = [parsePrefix('10.240.0.0/12')!, parsePrefix('fd00::/16')!]

  it.each(['rebind A', 'rebind6 AAAA', 'glue MX'])(
    'an answer to %s with an address that only the mapper gives is refused',
    text => {
      const [owner, kind] = text.split(' ')
      const one = lab(zone, { denyAnswers })
      const answer = one.ask(`${owner}.example.com. ${kind}`, { edns: edns() })
      expect([rcodeOf(answer), shown(answer), reasonOf(answer)]).toEqual([2, [], 18])
      expect(one.resolver.counts.denied).toBe(1)
      expect(rcodeOf(lab().ask(`${owner}.example.com. ${kind}`))).toBe(0)
    },
  )

  it('so is one with such an address as a hint', () => {
    const https = (...hint: number[]) => {
      const data = Uint8Array.from([0, 1, 0, 0, 1, 0, 3, 2, 104, 50, 0, 4, 0, hint.length, ...hint])
      return lab(
        asked => reply(asked, { answers: [{ name: name('h.example.com.'), type: 65, class: 1, ttl: 60, data }] }),
        { denyAnswers },
      )
    }
    expect(rcodeOf(https(192, 0, 2, 1, 10, 240, 16, 9).ask('h.example.com. HTTPS'))).toBe(2)
    expect(rcodeOf(https(192, 0, 2, 1).ask('h.example.com. HTTPS'))).toBe(0)
    expect(rcodeOf(https(192, 0, 2).ask('h.example.com. HTTPS'))).toBe(0)
  })

  it('other addresses pass', () => {
    expect(shown(lab(zone, { denyAnswers }).ask('plain.example.com. A'))).toHaveLength(1)
  })
})

describe('failures', () => {
  it.each([
    ['a forwarder that is silent', silent, 23],
    ['a forwarder that fails', failing, undefined],
  ])('%s: SERVFAIL, and a storm of questions makes no storm of retries (RFC 9520)', (_, answering, reason) => {
    const one = lab(answering)
    const first = one.ask('plain.example.com. A', { edns: edns() })
    expect([rcodeOf(first), reasonOf(first)]).toEqual([2, reason])
    const asked = one.asked.length
    expect(asked).toBeLessThanOrEqual(4)
    for (let i = 0; i < 100; i++) expect(rcodeOf(one.ask('plain.example.com. A', { edns: edns() }))).toBe(2)
    expect(one.asked.length).toBe(asked)
    one.answering.set(FORWARDER, zone)
    one.nowMs += 3000
    expect(shown(one.ask('plain.example.com. A', { edns: edns() }))).toHaveLength(1)
  })

  it('an upstream that is silent: one exchange for many questions about one name', () => {
    const one = new ResolverLab({ upstreams: { [FORWARDER]: silent } })
    for (let i = 0; i < 50; i++) one.send(query(`host.example.com. ${i % 2 ? 'A' : 'AAAA'}`))
    one.pass(10_000)
    expect(one.asked.length).toBeLessThanOrEqual(4)
    expect(one.resolver.open).toBe(0)
    expect(rcodeOf(one.ask('host.example.com. A'))).toBe(2)
  })

  it('REFUSED is handed on and not remembered', () => {
    const one = lab(asked => reply(asked, { flags: 5 }))
    expect(rcodeOf(one.ask('plain.example.com. A'))).toBe(5)
    one.ask('plain.example.com. A')
    expect(one.asked).toHaveLength(2)
  })

  it('an answer that nobody can read is as if it had not come: the next server is asked', () => {
    const one = new ResolverLab(
      {
        upstreams: {},
        forwarders: {
          [FORWARDER]: asked => reply(asked, { answers: records('plain A 192.0.2.7') }).slice(0, -2),
          [SECOND]: zone,
        },
      },
      { domains: [name('aa.example.')] },
    )
    expect(shown(one.ask('plain.example.com. A'))).toEqual(['plain.example.com. 3600 IN A 192.0.2.7'])
    expect(one.asked.map(a => a.server)).toEqual([FORWARDER, SECOND])
  })

  it('more questions than there is room for are refused at once, with the reason', () => {
    const one = lab(silent)
    for (let i = 0; i < 20_000; i++) one.send(query(`n${i}.example.com. A`))
    const [answer] = one.send(query('one.example.com. A', { edns: edns() }))
    expect([rcodeOf(answer!), reasonOf(answer!)]).toEqual([2, 0])
    expect(one.resolver.counts.busy).toBe(1)
  })
})

describe('stale answers', () => {
  const serveStale = 3600
  const dead = (one: ResolverLab) => one.answering.set(FORWARDER, silent)

  it('are shown where nothing better is to be had, with a TTL of 30 and the reason', () => {
    const one = lab(zone, { serveStale })
    one.ask('plain.example.com. A', { edns: edns() })
    one.nowMs += 3_700_000
    dead(one)
    const answer = one.ask('plain.example.com. A', { edns: edns() })
    expect(shown(answer)).toEqual(['plain.example.com. 30 IN A 192.0.2.7'])
    expect(reasonOf(answer)).toBe(3)
    expect(one.resolver.counts.stale).toBe(1)
  })

  it('are shown again for 30 s without asking anybody, counted down, and then looked for again', () => {
    const one = lab(zone, { serveStale })
    one.ask('plain.example.com. A')
    one.nowMs += 3_700_000
    dead(one)
    one.ask('plain.example.com. A')
    const asked = one.asked.length
    one.nowMs += 10_000
    expect(shown(one.ask('plain.example.com. A'))).toEqual(['plain.example.com. 20 IN A 192.0.2.7'])
    expect(one.asked.length).toBe(asked)
    one.nowMs += 21_000
    one.answering.set(FORWARDER, zone)
    expect(shown(one.ask('plain.example.com. A'))).toEqual(['plain.example.com. 3600 IN A 192.0.2.7'])
  })

  it('are shown instead of SERVFAIL and REFUSED too', () => {
    for (const rcode of [2, 5]) {
      const one = lab(zone, { serveStale })
      one.ask('plain.example.com. A')
      one.nowMs += 3_700_000
      one.answering.set(FORWARDER, asked => reply(asked, { flags: rcode }))
      expect(shown(one.ask('plain.example.com. A'))).toHaveLength(1)
    }
  })

  it('are not shown for longer than said, and not at all unless asked for', () => {
    const one = lab(zone, { serveStale })
    one.ask('plain.example.com. A')
    one.nowMs += (3600 + 3600) * 1000
    dead(one)
    expect(rcodeOf(one.ask('plain.example.com. A'))).toBe(2)
    const without = lab(zone)
    without.ask('plain.example.com. A')
    without.nowMs += 3_700_000
    dead(without)
    expect(rcodeOf(without.ask('plain.example.com. A'))).toBe(2)
  })

  it('give way to a new answer, also that there is none any more', () => {
    const one = lab(zone, { serveStale })
    one.ask('plain.example.com. A')
    one.nowMs += 3_700_000
    one.answering.set(FORWARDER, asked => reply(asked, { flags: 3, authority: records('@ SOA ns1 admin 1 1 1 1 60') }))
    expect(rcodeOf(one.ask('plain.example.com. A'))).toBe(3)
  })

  it('of the mapper are shown while the mapper is away for a moment, but not after it was lost', () => {
    const aa = ofZone('host TXT "AA 198.51.100.2 + 11"')
    const one = new ResolverLab({ upstreams: { '192.0.2.53': aa } }, { serveStale })
    one.ask('host.example.com. A')
    one.nowMs += 3_700_000
    one.mapping = () => 'unavailable'
    expect(shown(one.ask('host.example.com. A'))).toEqual(['host.example.com. 30 IN A 10.240.16.1'])
    one.resolver.forgetMappings()
    expect(rcodeOf(one.ask('host.example.com. A'))).toBe(2)
  })
})

describe('memory', () => {
  it('NXDOMAIN and NODATA are kept as long as their SOA record says', () => {
    const one = lab(asked => reply(asked, { flags: 3, authority: records('@ 900 SOA ns1 admin 1 1 1 1 60') }))
    one.ask('none.example.com. A')
    one.nowMs += 59_000
    one.ask('none.example.com. A')
    expect(one.asked).toHaveLength(1)
    one.nowMs += 2000
    one.ask('none.example.com. A')
    expect(one.asked).toHaveLength(2)
  })

  it('what has no TTL to go by is not kept', () => {
    for (const parts of [
      { flags: 3 },
      {},
      { answers: records('plain 0 A 192.0.2.1') },
      { flags: 5 },
      { flags: 0x200, answers: [] },
    ]) {
      const one = lab(asked => reply(asked, parts))
      one.ask('plain.example.com. A')
      one.ask('plain.example.com. A')
      expect(one.asked).toHaveLength(2)
    }
  })

  it('a TTL with its top bit set is 0 (RFC 2181)', () => {
    const one = lab(asked => {
      const answer = reply(asked, { answers: records('plain A 192.0.2.1') })
      answer[answer.length - 10] = 0xff
      return answer
    })
    one.ask('plain.example.com. A')
    one.ask('plain.example.com. A')
    expect(one.asked).toHaveLength(2)
  })

  it('very long answers are not kept: memory has a bound', () => {
    const text = Array.from(
      { length: 30 },
      (_, i) => `plain TXT "${String.fromCharCode(97 + (i % 26)).repeat(200)}${i}"`,
    ).join('\n')
    const one = lab(asked => reply(asked, { answers: records(text) }))
    one.ask('plain.example.com. TXT', {}, { overTcp: true })
    expect(one.resolver.cache.size).toBe(0)
  })

  it('a name with a dot inside a label is another name', () => {
    const one = lab(asked =>
      reply(asked, { answers: records(`@ A 192.0.2.${one.asked.length}`, asked.questions[0]!.name) }),
    )
    expect(one.ask('a\\.b.example.com. A').answers[0]!.data).not.toEqual(one.ask('a.b.example.com. A').answers[0]!.data)
    expect(one.ask('a\\000b.example.com. A').answers[0]!.data).not.toEqual(
      one.ask('ab.example.com. A').answers[0]!.data,
    )
    expect(parseAddress('192.0.2.1')).toEqual(one.ask('a\\.b.example.com. A').answers[0]!.data)
  })
})
