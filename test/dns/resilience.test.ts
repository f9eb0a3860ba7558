/**
 * The resolver when others do not do their part: upstream servers that are dead, slow, lying, cut or forged; a mapper that goes, comes back, or comes back as
 * another; clients that are rude. Real sockets, on loopback (resolverWorld.ts).
 */
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, type Message } from '../../dns/message.ts'
import { formatData } from '../../dns/rdata.ts'
import { framed } from '../../dns/tcpQuery.ts'
import { Poller } from '../../gateway/sys/poller.ts'
import { SeqpacketServer } from '../../gateway/sys/seqpacket.ts'
import { parseAddress } from '../../ipref/address.ts'
import { type Answering, askUdp } from '../support/dnsServer.ts'
import { freePorts } from '../support/ports.ts'
import { query, records } from '../unit/dns/builders.ts'
import {
  ofZone,
  question,
  ResolverWorld,
  rcodeOf,
  reasonOf,
  replyTo,
  sendFrom,
  typeOf,
  until,
} from './resolverWorld.ts'

const ZONE = `
host 300 TXT "AA 198.51.100.2 + 11"
named TXT "AA gw.example.com + 12"
gw A 198.51.100.2
plain A 192.0.2.7
large ${Array.from({ length: 10 }, (_, i) => `TXT "${String(i).repeat(150)}"`).join('\nlarge ')}
many TXT "AA 198.51.100.2 + 900"
${Array.from({ length: 60 }, (_, i) => `many TXT "AA 198.51.100.2 + ${900 + i}"`).join('\n')}
*.wild TXT "AA 198.51.100.2 + 60"
`
const zone = ofZone(ZONE)
const failing: Answering = bytes => replyTo(bytes, { flags: 2 })
const silent: Answering = () => undefined
const EVIL = records('$TTL 1h\nhost TXT "AA 203.0.113.66 + 6"\ngw A 203.0.113.66')

const NOT_READY = 14

const addressesOf = (message: Message) =>
  message.answers.filter(r => r.type === Type.A).map(r => formatData(r.type, r.data))

let world: ResolverWorld
afterEach(() => world.stop())

async function open(answering: Answering[], ...argv: string[]): Promise<ResolverWorld> {
  world = new ResolverWorld()
  const servers = await world.addServers(...answering)
  await world.startMapper()
  const list = (option: string) => servers.flatMap(server => [option, server.text])
  await world.startResolver(...list('-upstream'), ...list('-forward'), ...argv)
  return world
}

// the mapper of the test, in this very process, may be late on a busy machine
async function askPatiently(text: string): Promise<Message> {
  let answer = await world.ask(text)
  await until('the mapper answers', async () => {
    if (reasonOf(answer) !== NOT_READY) return true
    answer = await world.ask(text)
    return false
  })
  return answer
}

async function expectMapped(text = 'host.example.com. A'): Promise<void> {
  const answer = await askPatiently(text)
  expect([rcodeOf(answer), addressesOf(answer).length]).toEqual([0, 1])
  expect(addressesOf(answer)[0]).toMatch(/^10\.2(4\d|5[0-5])\./)
  expect(answer.answers.at(-1)!.ttl).toBeGreaterThan(0)
}

describe('upstream servers', () => {
  it('dead: SERVFAIL with the reason; another one takes over', async () => {
    const [port] = await freePorts(1)
    await open([zone])
    const dead = new ResolverWorld()
    try {
      await dead.startResolver('-upstream', `127.0.0.1:${port}`, '-forward', `127.0.0.1:${port}`)
      const questions = ['host.example.com. A', 'plain.example.com. MX'].map(text => dead.ask(text))
      const answers = await Promise.all(questions)
      expect(answers.map(answer => [rcodeOf(answer), reasonOf(answer)])).toEqual([
        [2, 22],
        [2, 23],
      ])
    } finally {
      await dead.stop()
    }
    await world.host.stop()
    await world.startResolver('-upstream', `127.0.0.1:${port}`, '-upstream', world.servers[0]!.text)
    await expectMapped()
  })

  it('silent, failing, then good: the answer of the third', async () => {
    await open([silent, failing, zone])
    await expectMapped()
    expect(world.servers.map(s => s.asked.udp > 0)).toEqual([true, true, true])
    expect(addressesOf(await world.ask('plain.example.com. A'))).toEqual(['192.0.2.7'])
  })

  it('silent and failing: an end, and no question stays open', async () => {
    await open([silent, failing])
    const answers = await Promise.all(['host', 'plain', 'named'].map(name => world.ask(`${name}.example.com. A`)))
    expect(answers.map(rcodeOf)).toEqual([2, 2, 2])
    world.servers[0]!.answering = zone
    await until('works again', async () => rcodeOf(await world.ask('host.example.com. A')) === 0)
  })

  it('slow: an answer that comes when others were asked already is still taken', async () => {
    await open([
      async (bytes, transport, from) => {
        await new Promise(resolve => setTimeout(resolve, 900))
        return zone(bytes, transport, from)
      },
      silent,
    ])
    await expectMapped()
    expect(world.servers[1]!.asked.udp).toBeGreaterThan(0)
  })

  it('cut: asked again over TCP', async () => {
    await open([
      (bytes, transport, from) =>
        transport === 'udp' ? replyTo(bytes, { flags: 0x200 }) : zone(bytes, transport, from),
    ])
    await expectMapped('named.example.com. A')
    // for its TXT records and for those of the gateway, and again when the answer was late
    expect(world.servers[0]!.asked.tcp).toBeGreaterThanOrEqual(2)
  })

  it('that answer in any order, each question has its own answer', async () => {
    const waiting: (() => void)[] = []
    await open(
      [
        async (bytes, transport, from) => {
          if (waiting.length < 99) await new Promise<void>(resolve => waiting.push(resolve))
          else for (const resolve of waiting.splice(0).reverse()) resolve()
          return zone(bytes, transport, from)
        },
      ],
      '-domain',
      'elsewhere.example',
    )
    const names = Array.from({ length: 100 }, (_, i) => `n${i}.wild.example.com.`)
    const answers = await Promise.all(names.map(name => world.ask(`${name} TXT`)))
    for (const answer of answers) expect(answer.answers).toHaveLength(1)
  })

  it('that fail in a storm: few questions go out, and the failure is remembered', async () => {
    await open([failing], '-domain', 'elsewhere.example')
    const answers = await Promise.all(Array.from({ length: 300 }, () => world.ask('plain.example.com. A')))
    expect(new Set(answers.map(rcodeOf))).toEqual(new Set([2]))
    // at most once for each two seconds that this takes
    expect(world.servers[0]!.asked.udp).toBeLessThan(20)
  })
})

describe('forged and lying answers are waited past', () => {
  const flip = (bytes: Uint8Array, at: number, mask = 1) => bytes.with(at, bytes[at]! ^ mask) as Uint8Array
  const evil = (bytes: Uint8Array) => replyTo(bytes, { answers: EVIL.filter(r => r.type === typeOf(bytes)) })
  const without = (bytes: Uint8Array) => {
    const { id, questions } = decodeMessage(bytes) as Message
    return { id, questions }
  }
  const lies: Record<string, (bytes: Uint8Array) => Uint8Array[]> = {
    'a wrong id': bytes => [flip(evil(bytes), 0), flip(evil(bytes), 1)],
    'a wrong question': bytes => [flip(evil(bytes), 13, 2), flip(evil(bytes), 14, 4)],
    'a question in other letters': bytes => [
      evil(
        encodeMessage({
          ...without(bytes),
          flags: 0,
          questions: without(bytes).questions.map(q => ({ ...q, name: swapCase(q.name) })),
        }),
      ),
    ],
    'no question': bytes => [encodeMessage({ id: without(bytes).id, flags: 0x8400, answers: EVIL })],
    'the bit of a question': bytes => [flip(evil(bytes), 2, 0x80)],
    'an error with a wrong id': bytes => [flip(replyTo(bytes, { flags: 3 }), 1), flip(replyTo(bytes, { flags: 2 }), 1)],
    'records of others alone, with a wrong cookie': bytes => [
      replyTo(bytes, {
        answers: EVIL,
        edns: {
          payloadSize: 1232,
          extendedRcode: 0,
          version: 0,
          dnssecOk: false,
          options: [{ code: 10, data: new Uint8Array(16) }],
        },
      }),
    ],
    'a message that is cut': bytes => [evil(bytes).slice(0, -5), evil(bytes).slice(0, 20), evil(bytes).slice(0, 5)],
    'a loop of pointers': bytes => [Uint8Array.from([...evil(bytes).slice(0, 12), 0xc0, 0x0c, 0, 16, 0, 1])],
    'bytes at random': () => Array.from({ length: 50 }, (_, i) => crypto.getRandomValues(new Uint8Array(i * 7))),
  }

  const servers: Record<string, Answering> = {
    ...Object.fromEntries(
      Object.entries(lies).map(([lie, make]): [string, Answering] => [
        lie,
        (bytes, transport, from) => {
          if (transport === 'udp') for (const forged of make(bytes)) world.servers[0]!.sendUnasked(forged, from)
          return zone(bytes, transport, from)
        },
      ]),
    ),
    'another source': async (bytes, transport, from) => {
      if (transport === 'udp') {
        await sendFrom('127.0.0.1', evil(bytes), from)
        await sendFrom('127.0.0.9', evil(bytes), from)
      }
      return zone(bytes, transport, from)
    },
    'a flood of guesses at ids': (bytes, transport, from) => {
      const forged = evil(bytes)
      for (let i = 1; i < 1000; i++) {
        const id = ((bytes[0]! << 8) | bytes[1]!) + i
        world.servers[0]!.sendUnasked(forged.with(0, (id >> 8) & 255).with(1, id & 255) as Uint8Array, from)
      }
      return zone(bytes, transport, from)
    },
    'strings of others beside the right one': async (bytes, transport, from) => {
      const right = decodeMessage((await zone(bytes, transport, from))!) as Message
      const junk = records(
        '$TTL 1h\nevil.example.org. TXT "AA 203.0.113.66 + 6"\nother TXT "AA 203.0.113.66 + 6"\ngw.example.org. A 203.0.113.66',
      )
      return encodeMessage({ ...right, answers: [...junk, ...right.answers], authority: junk, additional: junk })
    },
  }

  it('each of them, one after the other', async () => {
    await open([zone], '-cache-size', '0')
    for (const [lie, answering] of Object.entries(servers)) {
      world.servers[0]!.answering = answering
      await expectNothingEvil(lie)
    }
    await until('they are counted', () => world.stat('upstream_ignored') > 1000)
  })

  // the mapper knows who was asked for: an encoded address of the evil one would be another than that of the right one
  async function expectNothingEvil(lie: string): Promise<void> {
    const context = parseAddress('198.51.100.2')!
    for (const [text, reference] of [
      ['host.example.com. A', 11n],
      ['named.example.com. A', 12n],
    ] as const) {
      const found = world.mapper.mapper.encodedFor({ context, reference, family: 4 })
      const expected = 'encoded' in found ? formatData(Type.A, found.encoded) : 'none'
      expect(addressesOf(await askPatiently(text)), lie).toEqual([expected])
    }
  }
})

describe('what nobody outside can know', () => {
  it('questions go out from many ports, and from others every half second; ids and letters are never the same', async () => {
    const ports = new Set<number>()
    const ids = new Set<number>()
    const letters = new Set<string>()
    let asked = 0
    await open(
      [
        (bytes, transport, from) => {
          asked++
          ports.add(from)
          ids.add((bytes[0]! << 8) | bytes[1]!)
          letters.add((decodeMessage(bytes) as Message).questions[0]!.name)
          return zone(bytes, transport, from)
        },
      ],
      '-cache-size',
      '0',
    )
    await until('12 ports are seen', async () => {
      await Promise.all(Array.from({ length: 10 }, () => world.ask('host.example.com. A')))
      return ports.size >= 12
    })
    // 14 letters have 16,384 ways, and ids 65,536: some may be twice
    expect(ids.size).toBeGreaterThan(asked * 0.9)
    expect(letters.size).toBeGreaterThan(Math.min(asked, 300) * 0.8)
    const sorted = [...ports].sort((a, b) => a - b)
    const distances = new Set(sorted.slice(1).map((port, i) => port - sorted[i]!))
    expect(distances.size).toBeGreaterThan(sorted.length / 2)
  })
})

const swapCase = (name: string) =>
  name.replace(/[a-z]/gi, c => (c === c.toLowerCase() ? c.toUpperCase() : c.toLowerCase()))

describe('the mapper', () => {
  it('gone: SERVFAIL with the reason, other questions as ever; back: works again, without a restart', async () => {
    await open([zone])
    await expectMapped()
    await world.stopMapper()
    await until('notices', () => world.host.unready !== undefined)
    const answer = await world.ask('host.example.com. A')
    expect([rcodeOf(answer), reasonOf(answer)]).toEqual([2, 14])
    expect(addressesOf(await world.ask('plain.example.com. A'))).toEqual(['192.0.2.7'])
    await world.startMapper()
    await until('works again', async () => rcodeOf(await world.ask('host.example.com. A')) === 0)
    await expectMapped()
    await until('ready again', () => world.host.unready === undefined)
    expect(world.host.restarts).toBe(0)
  })

  it('gone and back, many times: unready and ready each time', async () => {
    await open([zone])
    for (let i = 0; i < 4; i++) {
      await expectMapped()
      await until('ready', () => world.host.unready === undefined)
      await world.stopMapper()
      await until('unready', () => world.host.unready !== undefined)
      await world.startMapper()
      await until('works again', async () => rcodeOf(await world.ask('host.example.com. A')) === 0)
    }
    await until('ready', () => world.host.unready === undefined)
  })

  it('not there yet at the start: SERVFAIL, and the first question after it came is answered', async () => {
    world = new ResolverWorld()
    const [server] = await world.addServers(zone)
    await world.startResolver('-upstream', server!.text)
    const answer = await world.ask('host.example.com. A')
    expect([rcodeOf(answer), reasonOf(answer)]).toEqual([2, 14])
    await until('says so', () => world.host.unready !== undefined)
    await world.startMapper()
    await until('works', async () => rcodeOf(await world.ask('host.example.com. A')) === 0)
    await until('ready', () => world.host.unready === undefined)
  })

  it('back with other mappings: its addresses, not those that were remembered, in answers and in PTR', async () => {
    await open([zone])
    const first = await askPatiently('host.example.com. A')
    const [before] = addressesOf(first)
    const reverse = `${before!.split('.').reverse().join('.')}.in-addr.arpa. PTR`
    expect((await world.ask(reverse)).answers).toHaveLength(1)
    const other = await world.startMapper(['10.176.0.0/12'])
    await until('works again', async () => rcodeOf(await world.ask('host.example.com. A')) === 0)
    const found = other.mapper.encodedFor({ context: parseAddress('198.51.100.2')!, reference: 11n, family: 4 })
    const after = addressesOf(await askPatiently('host.example.com. A'))
    expect(after).toEqual(['encoded' in found ? formatData(Type.A, found.encoded) : ''])
    expect(after[0]).toMatch(/^10\.1(7[6-9]|8\d|9[01])\./)
    expect((await world.ask(reverse)).answers).toHaveLength(0)
  })

  it('that takes questions and gives no answers: SERVFAIL with the reason', async () => {
    world = new ResolverWorld()
    const [server] = await world.addServers(zone)
    const poller = new Poller()
    const heard: Uint8Array[] = []
    const mute = await SeqpacketServer.listen({
      path: world.mapperPath,
      mode: 0o600,
      maxClients: 2,
      maxMessage: 65536,
      poller,
      onMessage: (_, message) => void heard.push(message),
    })
    try {
      await world.startResolver('-upstream', server!.text)
      const answer = await world.ask('host.example.com. A')
      expect([rcodeOf(answer), reasonOf(answer), heard.length]).toEqual([2, 14, 1])
    } finally {
      await world.host.stop()
      mute.close()
      poller.close()
    }
  })
})

describe('the resolver itself', () => {
  it('answers again after its worker died', async () => {
    await open([zone])
    await expectMapped()
    world.host.crash()
    await until('restarted', () => world.events.some(event => event.what === 'restarted'))
    await expectMapped()
    expect((await world.askTcp('large.example.com. TXT')).answers).toHaveLength(10)
    await until('ready', () => world.host.unready === undefined)
  })

  it('large answers: cut over UDP, whole over TCP, for names with AA records too', async () => {
    await open([zone])
    for (const [text, count] of [
      ['large.example.com. TXT', 10],
      ['many.example.com. A', 60],
    ] as const) {
      await until(`${text} is whole`, async () => (await world.askTcp(text)).answers.length === count)
      const cut = decodeMessage((await askUdp(world.port, query(text)))!) as Message
      expect([cut.flags & 0x200, cut.answers.length]).toEqual([0x200, 0])
    }
  })

  it('refuses whoever is not allowed: REFUSED over UDP, a closed connection over TCP', async () => {
    await open([zone], '-allow', '192.168.255.0/24')
    const answer = await world.ask('host.example.com. A')
    expect([rcodeOf(answer), answer.answers.length]).toEqual([5, 0])
    expect(await world.askManyTcp([question('host.example.com. A')])).toEqual([])
    expect(world.servers[0]!.asked.udp).toBe(0)
  })

  it('answers no responses, nothing without a header, and tells services of no errors', async () => {
    await open([zone])
    const got: Uint8Array[] = []
    const service = createSocket('udp4')
    const ordinary = createSocket('udp4')
    await new Promise<void>(resolve => service.bind(1045, '127.0.0.77', resolve))
    await new Promise<void>(resolve => ordinary.bind(0, '127.0.0.1', resolve))
    try {
      const right = question('plain.example.com. A', { id: 7, flags: 0x100 })
      const malformed = right.slice(0, 20)
      const toldOf: number[] = []
      service.on('message', bytes => got.push(bytes))
      ordinary.on('message', bytes => toldOf.push((bytes[0]! << 8) | bytes[1]!))
      for (const bytes of [right.with(2, 0x81), new Uint8Array(0), new Uint8Array(11), malformed, right.with(2, 0x28)])
        service.send(bytes as Uint8Array, world.port, '127.0.0.1')
      for (const bytes of [right.with(2, 0x81), new Uint8Array(11)])
        ordinary.send(bytes as Uint8Array, world.port, '127.0.0.1')
      service.send(right, world.port, '127.0.0.1')
      ordinary.send(malformed.with(1, 8), world.port, '127.0.0.1')
      await until('answers', () => got.length > 0 && toldOf.length > 0)
      // all of these are answered in the order in which they came
      expect(got.map(bytes => bytes[3]! & 15)).toEqual([0])
      expect(toldOf).toEqual([8])
    } finally {
      service.close()
      ordinary.close()
    }
  })

  it('over TCP: 300 questions in a row, questions in small pieces, connections that say nothing or nonsense', async () => {
    await open([zone])
    const idle = Array.from({ length: 20 }, () => connect(world.port, '127.0.0.1'))
    for (const [i, socket] of idle.entries()) {
      socket.on('error', () => {})
      if (i % 2) socket.write(Uint8Array.of(255, 255, 1, 2, 3))
    }
    const many = Array.from({ length: 300 }, (_, i) => question(`n${i}.wild.example.com. TXT`, { id: i, flags: 0x100 }))
    const answers = await world.askManyTcp(many)
    expect(new Set(answers.map(bytes => (bytes[0]! << 8) | bytes[1]!)).size).toBe(300)
    expect(new Set(answers.map(bytes => bytes[3]! & 15))).toEqual(new Set([0]))
    expect(await world.askManyTcp(many.slice(0, 5), 100)).toHaveLength(5)
    const [formerr] = await world.askManyTcp([many[0]!.slice(0, 25)])
    expect(formerr![3]! & 15).toBe(1)
    for (const socket of idle) socket.destroy()
  })

  it('over TCP: a question that comes byte by byte is not waited for for ever', async () => {
    world = new ResolverWorld()
    world.tcpIdleMs = 1000
    const [server] = await world.addServers(zone)
    await world.startMapper()
    await world.startResolver('-upstream', server!.text)
    const socket = connect(world.port, '127.0.0.1')
    socket.on('error', () => {})
    let isClosed = false
    socket.on('close', () => {
      isClosed = true
    })
    // never as long without a byte as would end it
    socket.write(Uint8Array.of(0, 255))
    for (let sent = 0; sent < 250 && !isClosed; sent++) {
      socket.write(Uint8Array.of(0))
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    expect(isClosed).toBe(true)
    await expectMapped()
  })

  it('over TCP: a client that takes no answers is not read from for ever', async () => {
    await open([zone])
    const socket = connect(world.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.pause()
    const large = Buffer.concat(Array.from({ length: 200 }, () => framed(question('large.example.com. TXT'))))
    let isFull = false
    for (let i = 0; i < 5000 && !isFull; i++) {
      if (socket.write(large)) continue
      isFull = !(await Promise.race([
        new Promise<boolean>(resolve => socket.once('drain', () => resolve(true))),
        new Promise<boolean>(resolve => setTimeout(() => resolve(false), 1500)),
      ]))
    }
    expect(isFull).toBe(true)
    await expectMapped()
    socket.destroy()
  })
})

describe('the program', () => {
  it('ipref resolver: answers, reports, is ready when the mapper is there, and ends on SIGTERM', async () => {
    world = new ResolverWorld()
    const [server] = await world.addServers(zone)
    const [port, metrics, health] = await freePorts(3)
    const main = join(import.meta.dirname, '../../cli/main.ts')
    const argv = ['resolver', '-listen', `127.0.0.1:${port}`, '-upstream', server!.text, '-mapper', world.mapperPath]
    const pages = ['-metrics-address', `127.0.0.1:${metrics}`, '-health-address', `127.0.0.1:${health}`]
    const child = spawn(process.execPath, [main, ...argv, ...pages], { stdio: ['ignore', 'pipe', 'pipe'] })
    let log = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (log += data.toString()))
    const ended = new Promise<number | null>(resolve => child.on('exit', code => resolve(code)))
    const page = async (at: number, path: string) => {
      const response = await fetch(`http://127.0.0.1:${at}${path}`).catch(() => undefined)
      return response && { status: response.status, text: await response.text() }
    }
    try {
      await until(`it is started: ${log}`, async () => (await page(health!, '/healthz'))?.status === 200)
      await until('it is not ready', async () => (await page(health!, '/readyz'))?.status === 503)
      await world.startMapper()
      await until('it is ready', async () => (await page(health!, '/readyz'))?.status === 200)
      await until('it answers', async () => {
        const answer = await askUdp(port!, question('host.example.com. A'))
        return answer !== undefined && addressesOf(decodeMessage(answer) as Message).length === 1
      })
      await until('it counts', async () =>
        /ipref_dns_questions_total\{way="mapped"\} [1-9]/.test((await page(metrics!, '/metrics'))!.text),
      )
      child.kill('SIGTERM')
      expect(await ended).toBe(0)
      expect(log).toMatch(/resolver started/)
      expect(log).toMatch(/connected to the mapper/)
    } finally {
      child.kill('SIGKILL')
      await ended
    }
  })
})
