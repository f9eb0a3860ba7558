/**
 * Reading a zone transfer: all of a zone or a sentence that says why not, whatever the primary sends, and however its bytes arrive. (What is no message at all is in
 * transferHostile.test.ts.)
 */
import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Class, Flag, Opcode, Rcode, Type } from '../../../dns/constants.ts'
import { decodeMessage, encodeMessage, type MessageParts, type ResourceRecord } from '../../../dns/message.ts'
import { FrameReader, frameOf } from '../../../dns/tcpListener.ts'
import { type TransferLimits, type Transferred, transferZone } from '../../../dns/transfer.ts'
import { appendTsigError, type TsigKey, TsigSigner, TsigVerifier } from '../../../dns/tsig.ts'
import { ZoneResponder } from '../../../dns/zoneResponder.ts'
import { parsePrefix } from '../../../ipref/address.ts'
import { decoded, EXAMPLE, key, lines, name, records, zone } from './builders.ts'

const KEY = key()
const SOA = '@ IN SOA ns1 admin 7 1h 10m 1w 5m\n'
const QUESTION = { name: EXAMPLE, type: Type.AXFR, class: Class.IN }

type Serving = (query: Uint8Array, socket: Socket) => void

let server: Server | undefined
const sockets = new Set<Socket>()
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await new Promise<void>(resolve => (server ? server.close(() => resolve()) : resolve()))
  server = undefined
})

async function listen(serving: Serving): Promise<{ host: string; port: number }> {
  server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    const reader = new FrameReader()
    socket.on('data', (data: Buffer) => {
      for (const query of reader.take(data)) serving(query, socket)
    })
  })
  await new Promise<void>(resolve => server!.listen(0, '127.0.0.1', resolve))
  return { host: '127.0.0.1', port: (server.address() as { port: number }).port }
}

interface Outcome {
  zone?: Transferred
  records: string[]
  problem?: string
}

async function transfer(
  serving: Serving,
  parts: { key?: TsigKey; limits?: Partial<TransferLimits>; signal?: AbortSignal } = {},
): Promise<Outcome> {
  const taken: ResourceRecord[] = []
  const wanted = {
    server: await listen(serving),
    zone: EXAMPLE,
    onRecord: (record: ResourceRecord) => taken.push(record),
  }
  try {
    const result = await transferZone({ ...wanted, ...parts })
    return { zone: result, records: lines(taken) }
  } catch (error) {
    return { problem: (error as Error).message, records: lines(taken) }
  }
}

function text(zoneText: string, origin = EXAMPLE): ResourceRecord[] {
  return records(`$TTL 60\n${zoneText}`, origin)
}

/** Answers with one message for each list of records. */
function messagesOf(
  query: Uint8Array,
  lists: readonly (readonly ResourceRecord[])[],
  parts: Partial<MessageParts> = {},
) {
  const { id } = decoded(query)
  return lists.map((answers, i) =>
    encodeMessage({
      id,
      flags: Flag.QR | Flag.AA,
      questions: i === 0 ? [QUESTION] : [],
      answers: [...answers],
      ...parts,
    }),
  )
}

const sending =
  (...texts: readonly string[]): Serving =>
  (query, socket) => {
    for (const message of messagesOf(
      query,
      texts.map(one => text(one)),
    ))
      socket.write(frameOf(message))
  }

const HOSTS = 'a A 10.1.0.1\nb TXT "AA 198.51.100.1 + 1"\n'
const SHOWN = ['a.example.com. 60 IN A 10.1.0.1', 'b.example.com. 60 IN TXT "AA 198.51.100.1 + 1"']
const WHOLE = { zone: { serial: 7, records: 2, foreign: 0 }, records: SHOWN }

describe('a zone', () => {
  it.each([
    ['in one message', [SOA + HOSTS + SOA]],
    ['in many', [SOA, 'a A 10.1.0.1\n', 'b TXT "AA 198.51.100.1 + 1"\n', SOA]],
    ['with its ends beside other records', [`${SOA}a A 10.1.0.1\n`, `b TXT "AA 198.51.100.1 + 1"\n${SOA}`]],
  ])('%s', async (_, texts) => expect(await transfer(sending(...texts))).toEqual(WHOLE))

  it('that is empty', async () => {
    expect(await transfer(sending(SOA + SOA))).toEqual({ zone: { serial: 7, records: 0, foreign: 0 }, records: [] })
  })

  it('in other letters than it was asked for', async () => {
    const outcome = await transfer((query, socket) => {
      const { id } = decoded(query)
      const questions = [{ ...QUESTION, name: name('eXample.COM.') }]
      const answers = text(SOA + HOSTS + SOA, name('EXAMPLE.com.'))
      socket.write(frameOf(encodeMessage({ id, flags: Flag.QR, questions, answers })))
    })
    expect(outcome.zone).toEqual(WHOLE.zone)
  })

  it('with the question in every message, or in the first alone', async () => {
    const outcome = await transfer((query, socket) => {
      for (const one of messagesOf(query, [text(SOA), text(HOSTS), text(SOA)], { questions: [QUESTION] }))
        socket.write(frameOf(one))
    })
    expect(outcome).toEqual(WHOLE)
  })

  it('byte by byte, and all at once with the borders anywhere', async () => {
    for (const size of [1, 3, 7, 100_000]) {
      const outcome = await transfer((query, socket) => {
        const all = Buffer.concat(messagesOf(query, [text(SOA + HOSTS), text(SOA)]).map(frameOf))
        for (let at = 0; at < all.length; at += size) socket.write(all.subarray(at, at + size))
      })
      expect(outcome).toEqual(WHOLE)
      await new Promise<void>(resolve => server!.close(() => resolve()))
    }
  })

  it('with names compressed within each message', async () => {
    const many = Array.from({ length: 3000 }, (_, i) => `host${i}.sub TXT "AA 198.51.100.1 + ${i + 1}"\n`).join('')
    const responder = new ZoneResponder(
      { keys: [KEY], transferAllow: [parsePrefix('127.0.0.1/32')!], transferKeys: [KEY.name] },
      { now: () => Date.now() / 1000 },
    )
    responder.setZone(zone(many))
    let messages = 0
    const outcome = await transfer(
      (query, socket) => {
        const answer = responder.answer(query, { transport: 'tcp', address: Uint8Array.of(127, 0, 0, 1) })
        if (!answer || answer instanceof Uint8Array) throw new Error('refused')
        for (let next = answer.messages.next(); !next.done; next = answer.messages.next()) {
          messages++
          // a pointer to the name before stands in place of most of them
          expect(next.value.length / decoded(next.value).answers.length).toBeLessThan(60)
          socket.write(frameOf(next.value))
        }
      },
      { key: KEY },
    )
    expect(messages).toBeGreaterThan(5)
    // with NS and the address of ns1
    expect(outcome.zone).toMatchObject({ serial: 1, records: 3002, foreign: 0 })
    expect(outcome.records).toContain('host2999.sub.example.com. 3600 IN TXT "AA 198.51.100.1 + 3000"')
  })

  it('with records of other zones and classes: they are left out, and counted', async () => {
    const outcome = await transfer((query, socket) => {
      const foreign = [
        ...text('@ A 1.2.3.4\n', name('example.org.')),
        ...text('x A 1.2.3.4\n', name('badexample.com.')),
      ]
      const chaos = text('a TXT "x"\n').map(record => ({ ...record, class: 3 }))
      const answers = [...text(SOA), ...foreign, ...chaos, ...text(HOSTS + SOA)]
      for (const message of messagesOf(query, [answers])) socket.write(frameOf(message))
    })
    expect(outcome).toEqual({ zone: { serial: 7, records: 5, foreign: 3 }, records: SHOWN })
  })

  it.each([0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1])('of serial %i', async serial => {
    const soa = SOA.replace(' 7 ', ` ${serial} `)
    expect((await transfer(sending(soa + HOSTS + soa))).zone).toMatchObject({ serial })
  })
})

describe('no zone', () => {
  it.each([
    [
      'without the SOA record at its end, and nothing after it',
      [SOA + HOSTS],
      /closed before the end of the zone/,
      'end',
    ],
    ['without anything', [], /closed before the end of the zone/, 'end'],
    ['whose connection is cut in the middle of a message', [SOA + HOSTS], /ECONNRESET|closed before the end/, 'reset'],
    ['without the SOA record at its beginning', [HOSTS + SOA], /does not begin with its SOA record/, ''],
    ['whose SOA record at the end has another serial', [SOA + HOSTS + SOA.replace(' 7 ', ' 8 ')], /changed during/, ''],
    ['that goes on after its end', [SOA + HOSTS + SOA + HOSTS], /records after the end of the zone/, ''],
    ['with a message without records', [SOA, ''], /a message without records/, ''],
  ])('%s', async (_, texts, why, end) => {
    const outcome = await transfer((query, socket) => {
      sending(...texts)(query, socket)
      if (end === 'end') socket.end()
      if (end === 'reset') {
        socket.write(Uint8Array.of(1, 0, 1, 2, 3))
        setTimeout(() => socket.resetAndDestroy(), 20)
      }
    })
    expect(outcome.problem).toMatch(why)
    expect(outcome.problem).toMatch(/^example\.com\. from 127\.0\.0\.1:\d+: /)
  })

  it.each([
    ['REFUSED', Rcode.REFUSED, /refused \(REFUSED\): allow this address to transfer the zone, or give a key/],
    ['NOTAUTH', Rcode.NOTAUTH, /not authorised \(NOTAUTH\)/],
    ['SERVFAIL', Rcode.SERVFAIL, /the server says SERVFAIL/],
    ['FORMERR', Rcode.FORMERR, /the server says FORMERR/],
    ['NXDOMAIN', Rcode.NXDOMAIN, /the server says NXDOMAIN/],
  ])('%s', async (_, rcode, why) => {
    const outcome = await transfer((query, socket) => {
      const { id } = decoded(query)
      socket.write(frameOf(encodeMessage({ id, flags: Flag.QR | rcode, questions: [QUESTION] })))
    })
    expect(outcome.problem).toMatch(why)
  })

  it('an error after half of it', async () => {
    const outcome = await transfer((query, socket) => {
      const [first] = messagesOf(query, [text(SOA + HOSTS)])
      const [second] = messagesOf(query, [[]], { flags: Flag.QR | Rcode.SERVFAIL })
      socket.write(Buffer.concat([frameOf(first!), frameOf(second!)]))
    })
    expect(outcome.problem).toMatch(/the server says SERVFAIL/)
  })

  it.each([
    ['another id', { id: 1 }, /answer to another question \(its id\)/],
    ['a question', { flags: 0 }, /a question instead of an answer/],
    ['another operation', { flags: Flag.QR | (Opcode.NOTIFY << 11) }, /answer to another kind of question/],
    ['no question', { questions: [] }, /an answer without its question/],
    ['two questions', { questions: [QUESTION, QUESTION] }, /an answer without its question/],
    ['the question of another zone', { questions: [{ ...QUESTION, name: name('example.org.') }] }, /another question/],
    ['the question of another type', { questions: [{ ...QUESTION, type: Type.SOA }] }, /another question/],
  ])('%s', async (_, parts, why) => {
    const outcome = await transfer((query, socket) => {
      const { id } = decoded(query)
      const flipped = 'id' in parts ? { id: id ^ parts.id } : parts
      for (const message of messagesOf(query, [text(SOA + HOSTS + SOA)], flipped)) socket.write(frameOf(message))
    })
    expect(outcome.problem).toMatch(why)
    expect(outcome.records).toEqual([])
  })

  it.each([
    ['behind the last record', (message: Uint8Array) => Buffer.concat([message, Uint8Array.of(0)])],
    ['missing', (message: Uint8Array) => message.subarray(0, -1)],
    ['none at all', () => new Uint8Array()],
  ])('bytes %s', async (_, change) => {
    const outcome = await transfer((query, socket) => {
      const [message] = messagesOf(query, [text(SOA + HOSTS + SOA)])
      // the next frame begins, so that an empty one is over
      socket.write(Buffer.concat([frameOf(change(message!)), Uint8Array.of(0)]))
    })
    expect(outcome.problem).toMatch(/a malformed message/)
  })

  it('nobody listens', async () => {
    const wanted = { server: { host: '127.0.0.1', port: 1 }, zone: EXAMPLE, onRecord: () => {} }
    await expect(transferZone(wanted)).rejects.toThrow('example.com. from 127.0.0.1:1: nobody listens there')
  })
})

describe('bounds', () => {
  it('a server that accepts and keeps silent', async () => {
    const outcome = await transfer(() => {}, { limits: { idleMs: 50 } })
    expect(outcome.problem).toMatch(/silent for 0.05 s/)
  })

  it('a server that sends byte by byte does not keep it awake', async () => {
    const outcome = await transfer(
      (query, socket) => {
        const bytes = frameOf(messagesOf(query, [text(SOA + HOSTS + SOA)])[0]!)
        let at = 0
        const timer = setInterval(() => {
          if (socket.destroyed || at >= bytes.length - 1) clearInterval(timer)
          else socket.write(bytes.subarray(at, ++at))
        }, 10)
      },
      { limits: { idleMs: 100 } },
    )
    expect(outcome.problem).toMatch(/silent for 0.1 s/)
  })

  it('a server that sends whole messages without end', async () => {
    const outcome = await transfer(
      (query, socket) => {
        const [first, next] = messagesOf(query, [text(SOA), text(HOSTS)]).map(frameOf)
        socket.write(first!)
        const timer = setInterval(() => (socket.destroyed ? clearInterval(timer) : socket.write(next!)), 10)
      },
      { limits: { idleMs: 10_000, totalMs: 200 } },
    )
    expect(outcome.problem).toMatch(/not complete within 0.2 s/)
  })

  it.each([
    ['records', { records: 1 }, /more than 1 records/],
    ['bytes', { bytes: 100 }, /more than 100 bytes/],
  ])('too many %s', async (_, limits, why) => {
    const outcome = await transfer(sending(SOA, HOSTS, SOA), { limits })
    expect(outcome.problem).toMatch(why)
  })

  it('given up by the caller, before and in the middle', async () => {
    const before = await transfer(sending(SOA + HOSTS + SOA), { signal: AbortSignal.abort() })
    expect(before.problem).toMatch(/given up/)
    await new Promise<void>(resolve => server!.close(() => resolve()))
    const abort = new AbortController()
    const outcome = await transfer(
      (query, socket) => {
        sending(SOA + HOSTS)(query, socket)
        setTimeout(() => abort.abort(), 20)
      },
      { signal: abort.signal },
    )
    expect(outcome.problem).toMatch(/given up/)
    const closed = [...sockets].map(socket =>
      socket.closed ? undefined : new Promise(done => socket.once('close', done)),
    )
    await Promise.all(closed)
  })
})

/** Which messages of a transfer are signed, and how. */
function signing(
  texts: readonly string[],
  isSigned: (i: number) => boolean,
  parts: { key?: TsigKey; now?: () => number; change?: (message: Uint8Array, i: number) => Uint8Array } = {},
): Serving {
  const now = parts.now ?? (() => Date.now() / 1000)
  return (query, socket) => {
    const verifier = new TsigVerifier([KEY], () => Date.now() / 1000)
    expect(verifier.verify(query, decoded(query))).toBeUndefined()
    const signer = new ChainSigner(parts.key ?? KEY, now, verifier.mac!)
    messagesOf(
      query,
      texts.map(one => text(one)),
    ).forEach((message, i) => {
      const whole = isSigned(i) ? signer.sign(message) : signer.skip(message)
      socket.write(frameOf(parts.change ? parts.change(whole, i) : whole))
    })
    socket.end()
  }
}

/** Signs as RFC 8945 section 5.3.1 has it where messages between are unsigned: the next signature covers them too, in their order. */
class ChainSigner {
  readonly #signer: TsigSigner
  #skipped: Uint8Array[] = []

  constructor(signedBy: TsigKey, now: () => number, mac: Uint8Array) {
    this.#signer = new TsigSigner(signedBy, now, mac)
  }

  skip(message: Uint8Array): Uint8Array {
    this.#skipped.push(message)
    return message
  }

  sign(message: Uint8Array): Uint8Array {
    const covered = Buffer.concat([...this.#skipped, message])
    this.#skipped = []
    const record = this.#signer.sign(covered).message.subarray(covered.length)
    const signed = Buffer.concat([message, record])
    signed.writeUInt16BE(signed.readUInt16BE(10) + 1, 10)
    return Uint8Array.from(signed)
  }
}

const PARTS = [SOA, 'a A 10.1.0.1\n', 'b TXT "AA 198.51.100.1 + 1"\n', SOA]

describe('signatures', () => {
  it.each([
    ['on every message', () => true],
    ['on the first and the last', (i: number) => i === 0 || i === 3],
    ['on every other one and the last', (i: number) => i % 2 === 0 || i === 3],
  ])('%s', async (_, isSigned) => expect(await transfer(signing(PARTS, isSigned), { key: KEY })).toEqual(WHOLE))

  it('up to 99 messages between two signed ones may have none, a hundred may not', async () => {
    const long = (count: number) => [SOA, ...Array.from({ length: count }, (_, i) => `h${i} A 10.1.0.1\n`), SOA]
    const ends = (count: number) => (i: number) => i === 0 || i === count + 1
    expect((await transfer(signing(long(99), ends(99)), { key: KEY })).zone?.records).toBe(99)
    await new Promise<void>(resolve => server!.close(() => resolve()))
    expect((await transfer(signing(long(100), ends(100)), { key: KEY })).problem).toMatch(/does not hold: unsigned/)
  })

  it.each([
    ['none at all', () => false, {}, /does not hold: unsigned/],
    ['none on the first', (i: number) => i > 0, {}, /does not hold: unsigned/],
    ['none on the last', (i: number) => i < 3, {}, /the end of the transfer is not signed/],
    [
      'of another secret',
      () => true,
      { key: key('hmac-sha256:transfer:YW5vdGhlcg==') },
      /does not hold: bad signature/,
    ],
    ['of another name', () => true, { key: key('hmac-sha256:other:bXkgc2VjcmV0') }, /does not hold: bad key/],
    ['of another algorithm', () => true, { key: key('hmac-sha512:transfer:bXkgc2VjcmV0') }, /does not hold: bad key/],
    ['that ran out', () => true, { now: () => Date.now() / 1000 - 301 }, /does not hold: bad time/],
    ['of a clock that is ahead', () => true, { now: () => Date.now() / 1000 + 302 }, /does not hold: bad time/],
  ])('%s', async (_, isSigned, parts, why) => {
    expect((await transfer(signing(PARTS, isSigned, parts), { key: KEY })).problem).toMatch(why)
  })

  it.each([0, 1, 2, 3])('message %i changed on its way', async changed => {
    const flip = (message: Uint8Array, i: number) => {
      if (i !== changed) return message
      const copy = message.slice()
      // the AA bit: the message is read all the same
      copy[2]! ^= 4
      return copy
    }
    for (const isSigned of [() => true, (i: number) => i === 0 || i === 3]) {
      const outcome = await transfer(signing(PARTS, isSigned, { change: flip }), { key: KEY })
      expect(outcome.problem).toMatch(/does not hold: bad signature/)
      await new Promise<void>(resolve => server!.close(() => resolve()))
    }
    server = undefined
  })

  it('a message between that is left out, or sent twice', async () => {
    for (const texts of [
      [SOA, '', 'b TXT "x"\n', SOA],
      [SOA, 'a A 10.1.0.1\n', 'a A 10.1.0.1\n', SOA],
    ]) {
      const serving = signing(texts, i => i === 0 || i === 3)
      const outcome = await transfer(
        (query, socket) => {
          const sent: Uint8Array[] = []
          serving(query, { write: (bytes: Uint8Array) => sent.push(bytes), end: () => {} } as unknown as Socket)
          if (texts[1] === '') sent.splice(1, 1)
          else sent.splice(2, 0, sent[1]!)
          for (const bytes of sent) socket.write(bytes)
          socket.end()
        },
        { key: KEY },
      )
      expect(outcome.problem).toMatch(/does not hold: bad signature/)
      await new Promise<void>(resolve => server!.close(() => resolve()))
    }
    server = undefined
  })

  it.each([
    ['BADKEY', Rcode.BADKEY, /it does not know the key \(BADKEY\)/],
    ['BADSIG', Rcode.BADSIG, /the secret of the key is another there \(BADSIG\)/],
    ['BADTIME', Rcode.BADTIME, /the clocks differ by minutes \(BADTIME\)/],
  ])('a server that says %s', async (_, error, why) => {
    const outcome = await transfer(
      (query, socket) => {
        const { id, tsig } = decoded(query)
        const plain = encodeMessage({ id, flags: Flag.QR | Rcode.NOTAUTH, questions: [QUESTION] })
        socket.write(frameOf(appendTsigError(plain, tsig!, error, Date.now() / 1000)))
      },
      { key: KEY },
    )
    expect(outcome.problem).toMatch(why)
  })

  it('without a key of ours they are not looked at', async () => {
    const outcome = await transfer((query, socket) => {
      for (const message of messagesOf(query, [text(SOA + HOSTS + SOA)])) {
        const signed = new TsigSigner(key('hmac-sha256:other:bXkgc2VjcmV0'), () => 0).sign(message).message
        expect(typeof decodeMessage(signed)).toBe('object')
        socket.write(frameOf(signed))
      }
    })
    expect(outcome).toEqual(WHOLE)
  })
})
