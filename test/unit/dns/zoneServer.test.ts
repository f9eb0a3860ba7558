/** The zone server on real sockets of this machine: UDP, TCP with its limits, NOTIFY, serials. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Flag, Opcode, Rcode, Type } from '../../../dns/constants.ts'
import { decodeSoa, encodeMessage, type Message, opcodeOf, rcodeOf } from '../../../dns/message.ts'
import { FrameReader, frameOf } from '../../../dns/tcpListener.ts'
import { TsigSigner, TsigVerifier } from '../../../dns/tsig.ts'
import { Notifier, targetsOf } from '../../../dns/zoneNotify.ts'
import {
  type ServedSerial,
  ZoneServer,
  type ZoneServerPorts,
  type ZoneServerSettings,
} from '../../../dns/zoneServer.ts'
import { parsePrefix } from '../../../ipref/address.ts'
import { decoded, EXAMPLE, key, name, query, zone } from './builders.ts'

const HOST = '127.0.0.1'
const NOW = 1_700_000_000
const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close()
})

const logged: string[] = []
const log = {
  info: (fields: object, text: string) => void logged.push(`${text} ${JSON.stringify(fields)}`),
  warn: (fields: object, text: string) => void logged.push(`${text} ${JSON.stringify(fields)}`),
}

async function serve(settings: Partial<ZoneServerSettings> = {}, ports: Partial<ZoneServerPorts> = {}) {
  const server = new ZoneServer(
    {
      listen: [{ host: HOST, port: 0 }],
      keys: [key()],
      transferAllow: [parsePrefix('127.0.0.0/8')!],
      transferKeys: [],
      notify: [],
      ...settings,
    },
    { log, ...ports },
  )
  opened.push({ close: () => server.stop() })
  const [{ port } = { port: 0 }] = await server.start()
  return { server, port }
}

/** Sends bytes over TCP; `next` gives one message after the other, undefined when the connection is closed. */
function dial(port: number, host = HOST) {
  const socket: Socket = connect({ port, host, allowHalfOpen: true })
  const reader = new FrameReader()
  const arrived: Message[] = []
  let wake = () => {}
  let isClosed = false
  socket.on('data', data => {
    for (const frame of reader.take(data as Buffer)) arrived.push(decoded(frame))
    wake()
  })
  const closed = () => {
    isClosed = true
    wake()
  }
  socket.on('error', closed)
  socket.on('close', closed)
  socket.on('end', closed)
  opened.push({ close: () => socket.destroy() })
  const next = async (): Promise<Message | undefined> => {
    while (arrived.length === 0 && !isClosed) await new Promise<void>(resolve => (wake = resolve))
    return arrived.shift()
  }
  return { socket, next, send: (bytes: Uint8Array) => socket.write(frameOf(bytes)) }
}

function askUdp(port: number, bytes: Uint8Array, host = HOST): Promise<Message> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  opened.push({ close: () => new Promise<void>(resolve => socket.close(() => resolve())) })
  return new Promise(resolve => {
    socket.once('message', answer => resolve(decoded(Uint8Array.from(answer))))
    socket.send(bytes, port, host)
  })
}

describe('sockets', () => {
  it('UDP and TCP on one port, IPv4 and IPv6', async () => {
    const { server } = await serve({ listen: [] })
    expect(await server.start()).toEqual([])
    const both = new ZoneServer(
      {
        listen: [
          { host: HOST, port: 0 },
          { host: '::1', port: 0 },
        ],
        keys: [],
        transferAllow: [],
        transferKeys: [],
        notify: [],
      },
      { log },
    )
    opened.push({ close: () => both.stop() })
    const addresses = await both.start()
    both.setZone(zone())
    for (const { host, port } of addresses) {
      expect((await askUdp(port, query('example.com. SOA'), host)).answers).toHaveLength(1)
      const tcp = dial(port, host)
      tcp.send(query('example.com. SOA'))
      expect((await tcp.next())!.answers).toHaveLength(1)
    }
  })

  it('services are not told of errors, but get their answers', async () => {
    const { server, port } = await serve()
    server.setZone(zone('www A 192.0.2.7'))
    const service = createSocket('udp4')
    opened.push({ close: () => new Promise<void>(resolve => service.close(() => resolve())) })
    await new Promise<void>(resolve => service.bind(1045, '127.0.0.78', resolve))
    const got: number[] = []
    const answered = new Promise<void>(resolve => {
      service.on('message', bytes => {
        got.push((bytes[0]! << 8) | bytes[1]!)
        resolve()
      })
    })
    const good = query('www.example.com. A', { id: 5 })
    const bad = [
      good.slice(0, 20),
      query('www.example.net. A'),
      query('www.example.com. A', { flags: Opcode.UPDATE << 11 }),
    ]
    for (const bytes of [...bad, good]) service.send(bytes, port, HOST)
    await answered
    expect(got).toEqual([5])
    expect(server.counters).toMatchObject({ udpQueries: 4, dropped: 3 })
  })

  it('an address that cannot be had is named', async () => {
    const { port } = await serve()
    await expect(serve({ listen: [{ host: HOST, port }] })).rejects.toThrow(`cannot listen on ${HOST} port ${port}`)
  })

  it('many questions at once on one connection are answered in order', async () => {
    const { server, port } = await serve()
    server.setZone(zone())
    const { socket, next } = dial(port)
    const ids = Array.from({ length: 50 }, (_, i) => i)
    const bytes = Buffer.concat(
      ids.map(id => frameOf(query(id === 10 ? 'example.com. AXFR' : 'example.com. SOA', { id }))),
    )
    // cut where it hurts: in lengths, in headers
    for (let at = 0; at < bytes.length; at += 17) socket.write(bytes.subarray(at, at + 17))
    for (const id of ids) expect((await next())!.id).toBe(id)
  })

  it('who says that it sends no more still gets its answer', async () => {
    const { server, port } = await serve()
    server.setZone(zone())
    const { socket, next } = dial(port)
    socket.end(frameOf(query('example.com. AXFR')))
    expect((await next())!.answers).toHaveLength(4)
    expect(await next()).toBeUndefined()
  })

  it('what is no query closes the connection', async () => {
    const { port } = await serve()
    for (const bytes of [query('example.com. A', { flags: Flag.QR }), new Uint8Array(), new Uint8Array(11)]) {
      const { send, next, socket } = dial(port)
      send(bytes)
      socket.write(Uint8Array.of(0))
      expect(await next()).toBeUndefined()
    }
  })

  it('a connection that says nothing, or a byte now and then, is closed after the idle time', async () => {
    const { server, port } = await serve({ tcp: { idleMs: 300 } })
    server.setZone(zone())
    const silent = dial(port)
    const slow = dial(port)
    const trickle = setInterval(() => slow.socket.write(Uint8Array.of(0x40)), 50)
    expect(await silent.next()).toBeUndefined()
    expect(await slow.next()).toBeUndefined()
    clearInterval(trickle)
  })

  it('a connection that asks again in time stays', async () => {
    const idleMs = 4000
    const { server, port } = await serve({ tcp: { idleMs } })
    server.setZone(zone())
    const { send, next } = dial(port)
    for (const end = performance.now() + idleMs + 500; performance.now() < end; ) {
      send(query('example.com. SOA'))
      expect((await next())!.answers).toHaveLength(1)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  })

  it('one address has so many connections and no more', async () => {
    const { server, port } = await serve({ tcp: { perAddress: 3 } })
    server.setZone(zone())
    const all = [dial(port), dial(port), dial(port)]
    for (const { send, next } of all) {
      send(query('example.com. SOA'))
      expect(await next()).toBeDefined()
    }
    expect(await dial(port).next()).toBeUndefined()
    all[0]!.socket.destroy()
    const isServed = () => {
      const again = dial(port)
      again.send(query('example.com. SOA'))
      return again.next()
    }
    await expect.poll(isServed).toBeDefined()
  })

  it('where all places are taken the one idle for longest makes room', async () => {
    const { server, port } = await serve({ tcp: { connections: 2 } })
    server.setZone(zone())
    const [first, second] = [dial(port), dial(port)]
    for (const { send, next } of [first, second, first]) {
      send(query('example.com. SOA'))
      await next()
    }
    const third = dial(port)
    third.send(query('example.com. SOA'))
    expect(await third.next()).toBeDefined()
    expect(await second.next()).toBeUndefined()
    first.send(query('example.com. SOA'))
    expect(await first.next()).toBeDefined()
  })
})

describe('transfers', () => {
  const large = (serial: number) =>
    zone(Array.from({ length: 60_000 }, (_, i) => `host${i} TXT "AA 192.0.2.1 + ${i}"\n`).join('')).withSerial(serial)

  it('wait for who reads slowly, from the zone as it was, and others are answered meanwhile', async () => {
    const { server, port } = await serve()
    const old = large(1)
    server.setZone(old)
    const { socket, next, send } = dial(port)
    socket.pause()
    send(query('example.com. AXFR'))
    await expect.poll(() => server.counters.transfers).toBe(1)
    const before = process.memoryUsage().arrayBuffers
    server.setZone(zone().withSerial(2))
    expect((await askUdp(port, query('example.com. SOA'))).answers).toHaveLength(1)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20e6)
    socket.resume()
    let count = 0
    let last: Message | undefined
    while (count < old.size + 1) {
      last = await next()
      count += last!.answers.length
    }
    expect(count).toBe(old.size + 1)
    expect(decodeSoa(last!.answers.at(-1)!.data).serial).toBe(1)
    expect(server.counters.transfers).toBe(1)
  })

  it('that nobody reads are given up', async () => {
    const { server, port } = await serve({ tcp: { stallMs: 200 } })
    server.setZone(large(1))
    const { socket, send } = dial(port)
    // more than the buffers of the kernel hold
    for (let i = 0; i < 20; i++) send(query('example.com. AXFR'))
    socket.pause()
    // who writes learns that nobody is there any more
    const isClosed = () => {
      if (!socket.destroyed) socket.write(Uint8Array.of(0))
      return socket.destroyed
    }
    await expect.poll(isClosed).toBe(true)
    expect(server.counters.transfers).toBeLessThan(20)
  })

  it('that are refused are logged, once in a while', async () => {
    const { server, port } = await serve({ transferAllow: [] })
    server.setZone(zone())
    logged.length = 0
    for (let i = 0; i < 3; i++) {
      const { send, next } = dial(port)
      send(query('example.com. AXFR'))
      expect(rcodeOf((await next())!)).toBe(Rcode.REFUSED)
    }
    expect(server.counters.transfersRefused).toBe(3)
    expect(logged).toEqual([
      'zone transfer refused {"zone":"example.com.","to":"127.0.0.1","reason":"the address is not listed"}',
    ])
  })
})

describe('serials', () => {
  const make = (ports: Partial<ZoneServerPorts> = {}, settings: Partial<ZoneServerSettings> = {}) =>
    new ZoneServer(
      { listen: [], keys: [], transferAllow: [], transferKeys: [], notify: [], ...settings },
      { log, now: () => NOW, ...ports },
    )
  const serialAfter = (server: ZoneServer, text: string, serial: number) =>
    server.setZone(zone(text).withSerial(serial)).soa.serial

  it('are made newer where the content changed and they are not', () => {
    const server = make()
    expect(serialAfter(server, 'a TXT x', 5)).toBe(5)
    expect(serialAfter(server, 'a TXT x', 5)).toBe(5)
    expect(serialAfter(server, 'a TXT y', 5)).toBe(NOW)
    expect(serialAfter(server, 'a TXT z', 4)).toBe(NOW + 1)
    expect(serialAfter(server, 'a TXT z', 4)).toBe(NOW + 1)
    expect(serialAfter(server, 'a TXT z', NOW + 5)).toBe(NOW + 5)
    expect(server.zone(EXAMPLE)!.soa.serial).toBe(NOW + 5)
  })

  it('wrap as RFC 1982 says', () => {
    const server = make({ now: () => 0xffffffff })
    expect(serialAfter(server, 'a TXT x', 0xffffffff)).toBe(0xffffffff)
    expect(serialAfter(server, 'a TXT y', 0xffffffff)).toBe(0)
    expect(serialAfter(server, 'a TXT y', 3)).toBe(3)
  })

  it('go on after the zone was away', () => {
    const server = make()
    serialAfter(server, 'a TXT x', 100)
    server.removeZone(EXAMPLE)
    expect(server.zone(EXAMPLE)).toBeUndefined()
    expect(serialAfter(server, 'a TXT x', 5)).toBe(NOW)
  })

  it('go on after a restart: the same where the content is', () => {
    const kept = new Map<string, ServedSerial>()
    const first = make({ serials: kept })
    serialAfter(first, 'a TXT x', 5)
    expect(serialAfter(first, 'a TXT y', 5)).toBe(NOW)
    expect(serialAfter(make({ serials: kept }), 'a TXT y', 5)).toBe(NOW)
    expect(serialAfter(make({ serials: kept }), 'a TXT z', 5)).toBe(NOW + 1)
  })

  it('stay as they are where that is wanted, and a line says so', () => {
    const server = make({}, { bumpSerials: false })
    logged.length = 0
    serialAfter(server, 'a TXT x', 5)
    expect(serialAfter(server, 'a TXT y', 5)).toBe(5)
    expect(logged).toEqual([expect.stringContaining('zone changed without a newer serial')])
  })
})

describe('NOTIFY', () => {
  /** A secondary that answers as it is told; `received` in order of arrival. */
  async function secondary(answer: (message: Message, bytes: Uint8Array) => Uint8Array | undefined) {
    const socket: UdpSocket = createSocket('udp4')
    opened.push({ close: () => new Promise<void>(resolve => socket.close(() => resolve())) })
    const received: Message[] = []
    let wake = () => {}
    socket.on('message', (bytes, from) => {
      const message = decoded(Uint8Array.from(bytes))
      received.push(message)
      const reply = answer(message, Uint8Array.from(bytes))
      if (reply) socket.send(reply, from.port, from.address)
      wake()
    })
    await new Promise<void>(resolve => socket.bind(0, HOST, resolve))
    const until = async (count: number) => {
      while (received.length < count) await new Promise<void>(resolve => (wake = resolve))
      return received
    }
    return { target: { host: HOST, port: socket.address().port }, received, until }
  }

  const agree = ({ id, flags, questions }: Message, rcode = 0) =>
    encodeMessage({ id, flags: flags | Flag.QR | rcode, questions })
  const serialsOf = (list: readonly Message[]) => list.map(message => decodeSoa(message.answers[0]!.data).serial)
  const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

  it('goes out on every new serial, and on no other', async () => {
    const { target, until, received } = await secondary(message => agree(message))
    const { server } = await serve({ notify: [target] })
    server.setZone(zone('a TXT x').withSerial(5))
    const [first] = await until(1)
    expect(opcodeOf(first!.flags)).toBe(Opcode.NOTIFY)
    expect(first).toMatchObject({
      questions: [{ name: EXAMPLE, type: Type.SOA, class: 1 }],
      answers: [{ name: EXAMPLE, type: Type.SOA }],
    })
    server.setZone(zone('a TXT x').withSerial(5))
    server.setZone(zone('a TXT x').withSerial(6))
    await until(2)
    await pause(300)
    expect(serialsOf(received)).toEqual([5, 6])
  })

  it('goes out again until it is answered', async () => {
    let count = 0
    const { target, until, received } = await secondary(message => (++count < 3 ? undefined : agree(message)))
    const { server } = await serve({ notify: [target] })
    server.setZone(zone())
    await until(3)
    await pause(300)
    expect(received).toHaveLength(3)
    expect(server.notifiesSent).toBe(3)
  })

  it('of many changes in a row the first and the last go out', async () => {
    const { target, until, received } = await secondary(message => agree(message))
    const { server } = await serve({ notify: [target] })
    for (let serial = 1; serial <= 100; serial++) server.setZone(zone(`a TXT ${serial}`).withSerial(serial))
    await until(2)
    await pause(400)
    expect(serialsOf(received)).toEqual([1, 100])
  })

  it('is signed, and an answer counts only when it is', async () => {
    let isFirst = true
    const { target, until, received } = await secondary((message, bytes) => {
      const verifier = new TsigVerifier([key()], () => Date.now() / 1000)
      expect(verifier.verify(bytes, message)).toBeUndefined()
      const answer = agree(message)
      const mac = isFirst ? Uint8Array.of(1) : verifier.mac!
      isFirst = false
      return new TsigSigner(key(), () => Date.now() / 1000, mac).sign(answer).message
    })
    const { server } = await serve({ notify: [{ ...target, key: key() }] })
    server.setZone(zone())
    await until(2)
    await pause(300)
    expect(received).toHaveLength(2)
  })

  it('that is refused is logged, and not sent again', async () => {
    const { target, until, received } = await secondary(message => agree(message, Rcode.REFUSED))
    const { server } = await serve({ notify: [target] })
    logged.length = 0
    server.setZone(zone())
    await until(1)
    await pause(1500)
    expect(received).toHaveLength(1)
    expect(logged).toEqual([expect.stringMatching(/secondary refuses NOTIFY.*REFUSED/)])
  })

  it('goes to nobody any more once the zone is gone', async () => {
    const { target, until, received } = await secondary(() => undefined)
    const { server } = await serve({ notify: [target] })
    server.setZone(zone())
    await until(1)
    server.removeZone(EXAMPLE)
    await pause(1500)
    expect(received).toHaveLength(1)
  })

  it('goes to the addresses of NS names in the zone, but not to the primary, to us, or twice', () => {
    const text = `@ NS ns2
@ NS ns3
@ NS ns4.example.org.
@ NS ns5
ns2 A 192.0.2.2
ns2 AAAA 2001:db8::2
ns3 A 192.0.2.3
ns5 A 192.0.2.5
`
    const own = [{ host: '192.0.2.5', port: 53 }]
    const explicit = { host: '192.0.2.3', port: 5353 }
    const settings = { targets: [explicit], toNameServers: true, own }
    expect(targetsOf(zone(text), settings)).toEqual([
      explicit,
      { host: '192.0.2.2', port: 53 },
      { host: '2001:db8::2', port: 53 },
    ])
    expect(targetsOf(zone(text), { ...settings, toNameServers: false })).toEqual([explicit])
  })

  it('to an address that cannot be reached makes nothing throw', async () => {
    const notifier = new Notifier(
      {
        targets: [
          { host: '255.255.255.255', port: 53 },
          { host: 'no.such.host.invalid', port: 53 },
        ],
        toNameServers: false,
        own: [],
      },
      { log, now: () => NOW },
    )
    opened.push({ close: () => notifier.stop() })
    notifier.zoneChanged(zone())
    await pause(200)
    expect(notifier.sent).toBe(2)
  })
})

it('names are of one zone, whatever their case', async () => {
  const { server } = await serve()
  server.setZone(zone('', name('EXAMPLE.org.')))
  expect(server.zone(name('example.ORG.'))).toBeDefined()
})
