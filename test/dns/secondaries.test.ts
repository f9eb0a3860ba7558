/**
 * Knot DNS, NSD and BIND as secondaries of our zone server, and dig, drill and kdig as its clients.
 *
 *   1,000 changes ──► ZoneServer ──NOTIFY──► knotd, nsd, named ──AXFR, IXFR with TSIG──► the same zone, serial for serial
 *
 * A program that is not installed is skipped with its name.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Class, formatRcode, parseType, Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, type ResourceRecord } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { FrameReader, frameOf } from '../../dns/tcpListener.ts'
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import { Zone } from '../../dns/zone.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import { formatRecord, parseZoneText } from '../../dns/zoneText.ts'
import { parsePrefix } from '../../ipref/address.ts'
import { freePorts } from '../support/ports.ts'
import { HOST, has, runClient, SECRET, type Secondary, startSecondary, WRONG_SECRET } from './programs.ts'

const PROGRAMS = ['knotd', 'nsd', 'named'] as const
const CLIENTS = ['dig', 'drill', 'kdig'] as const
const CHANGES = 1000
const ROUNDS = 8
const UNLISTED = '127.0.0.9'

const origin = parseName('example.com.')!
const key = parseTsigKey(`hmac-sha256:transfer:${SECRET}`) as TsigKey
const installed = PROGRAMS.filter(has)

const BASE = `$TTL 1h
@ IN SOA ns1 admin 1 1h 10m 1w 5m
  IN NS ns1
  IN NS ns2.example.org.
  IN MX 10 mail
  IN CAA 0 issue "ca.example.net"
ns1 A 192.0.2.1
    AAAA 2001:db8::1
mail A 192.0.2.2
*.wild TXT "wild; card" "two strings"
a\\.dot A 192.0.2.3
alias CNAME alias2
alias2 CNAME mail
away DNAME wild
_sip._udp SRV 1 2 5060 mail
_25._tcp.mail TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
mail SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
naptr NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
about RP admin.example.com. about
about HINFO "cpu" "system"
other TYPE65280 \\# 3 010203
sub NS ns.sub
sub DS 60485 8 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.sub A 192.0.2.9
big TXT ${Array.from({ length: 10 }, (_, i) => `"${String(i).repeat(200)}"`).join(' ')}
`

/** A zone whose hosts are added, changed and taken away; always the same way. */
class Changing {
  readonly #base: ResourceRecord[]
  readonly #hosts = new Map<number, number>()
  #state = 12345

  constructor() {
    const { records, problems } = parseZoneText(BASE, { origin, file: 'base' })
    expect(problems).toEqual([])
    this.#base = records
    for (let i = 0; i < 300; i++) this.#hosts.set(i, i)
  }

  #random(below: number): number {
    this.#state = (Math.imul(this.#state, 1103515245) + 12345) >>> 0
    return (this.#state >>> 8) % below
  }

  change(): void {
    const host = this.#random(500)
    if (this.#hosts.has(host) && this.#random(3) === 0) this.#hosts.delete(host)
    else this.#hosts.set(host, this.#random(1 << 30))
  }

  zone(): Zone {
    const lines = [...this.#hosts].map(([host, reference]) => `host${host} 60 TXT "AA 192.0.2.1 + ${reference}"`)
    const { records } = parseZoneText(lines.join('\n'), { origin, file: 'hosts' })
    const { zone, problems } = Zone.from(origin, [...this.#base, ...records])
    if (!zone) throw new Error(JSON.stringify(problems))
    return zone
  }
}

/** All records of an AXFR, without the SOA record at the end; undefined: refused, or no server. */
function transfer(port: number, type: number = Type.AXFR): Promise<ResourceRecord[] | undefined> {
  return new Promise(resolve => {
    const socket = connect(port, HOST)
    const reader = new FrameReader()
    const records: ResourceRecord[] = []
    const done = (result: ResourceRecord[] | undefined) => {
      socket.destroy()
      resolve(result)
    }
    socket.setTimeout(30_000, () => done(undefined))
    socket.on('error', () => done(undefined))
    socket.on('close', () => done(undefined))
    socket.on('data', data => {
      for (const frame of reader.take(data as Buffer)) {
        const message = decodeMessage(frame)
        if (typeof message === 'string' || message.answers.length === 0) return done(undefined)
        records.push(...message.answers)
        if (type === Type.SOA) return done(records)
      }
      if (records.length > 1 && records.at(-1)!.type === Type.SOA) done(records.slice(0, -1))
    })
    socket.write(frameOf(encodeMessage({ id: 1, flags: 0, questions: [{ name: origin, type, class: Class.IN }] })))
  })
}

async function serialAt(port: number): Promise<number | undefined> {
  const records = await transfer(port, Type.SOA)
  const soa = records?.find(record => record.type === Type.SOA)
  return soa && new DataView(soa.data.buffer, soa.data.byteOffset + soa.data.length - 20).getUint32(0)
}

const sorted = (records: Iterable<ResourceRecord>) => [...records].map(formatRecord).sort()
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

let folder: string
const running: Secondary[] = []
const servers: ZoneServer[] = []
const log = { info: () => {}, warn: () => {} }

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-secondaries-'))
})
afterAll(async () => {
  await Promise.all(running.map(secondary => secondary.stop()))
  await Promise.all(servers.map(server => server.stop()))
  rmSync(folder, { recursive: true, force: true })
})

async function startServer(notifyPorts: readonly number[]): Promise<{ server: ZoneServer; port: number }> {
  const server = new ZoneServer(
    {
      listen: [{ host: HOST, port: 0 }],
      keys: [key],
      transferAllow: [parsePrefix(`${HOST}/32`)!],
      transferKeys: [key.name],
      notify: notifyPorts.map(port => ({ host: HOST, port, key })),
    },
    { log },
  )
  servers.push(server)
  const [{ port } = { port: 0 }] = await server.start()
  return { server, port }
}

/** Until it has that serial; else the test fails with what the program wrote. */
async function inStep(name: string, secondary: Secondary, serial: number): Promise<void> {
  const deadline = performance.now() + 60_000
  let last: number | undefined
  while (performance.now() < deadline) {
    last = await serialAt(secondary.port)
    if (last === serial) return
    await pause(50)
  }
  throw new Error(`${name} has serial ${last}, not ${serial}:\n${secondary.log().slice(-3000)}`)
}

describe('secondaries', () => {
  for (const name of PROGRAMS.filter(one => !has(one))) it.skip(`${name} (needs the program ${name})`, () => {})

  it.skipIf(installed.length === 0)(
    `${installed.join(', ')} stay in step through ${CHANGES} changes, by NOTIFY and transfers with TSIG`,
    { timeout: 180_000 },
    async () => {
      const ports = await freePorts(installed.length)
      const { server, port } = await startServer(ports)
      const changing = new Changing()
      let serial = server.setZone(changing.zone()).soa.serial
      const all = installed.map((name, i) => {
        const settings = { folder: join(folder, name), zone: 'example.com', primaryPort: port, secret: SECRET }
        return { name, secondary: startSecondary(name, { ...settings, port: ports[i]! }) }
      })
      running.push(...all.map(({ secondary }) => secondary))
      await Promise.all(all.map(({ name, secondary }) => inStep(name, secondary, serial)))
      const first = serial
      let changes = 0
      for (let round = 1; round <= ROUNDS; round++) {
        for (; changes < (CHANGES * round) / ROUNDS; changes++) {
          changing.change()
          serial = server.setZone(changing.zone()).soa.serial
          await pause(1)
        }
        await Promise.all(all.map(({ name, secondary }) => inStep(name, secondary, serial)))
      }
      const ours = sorted(server.zone(origin)!.records())
      expect(serial).toBeGreaterThan(first + 900)
      expect(ours.length).toBeGreaterThan(300)
      for (const { name, secondary } of all) {
        const theirs = await transfer(secondary.port)
        expect(theirs && sorted(theirs), name).toEqual(ours)
      }
      // a transfer each at least for every round, and one to begin with
      expect(server.counters.transfers).toBeGreaterThanOrEqual((ROUNDS + 1) * all.length)
    },
  )

  it.skipIf(installed.length === 0)(
    `${installed.join(', ')} with the wrong key get nothing`,
    { timeout: 180_000 },
    async () => {
      const ports = await freePorts(installed.length)
      const { server, port } = await startServer([])
      server.setZone(new Changing().zone())
      const all = installed.map((name, i) => {
        const settings = { folder: join(folder, `wrong-${name}`), zone: 'example.com', primaryPort: port }
        return { name, secondary: startSecondary(name, { ...settings, port: ports[i]!, secret: WRONG_SECRET }) }
      })
      running.push(...all.map(({ secondary }) => secondary))
      const told = /failed to verify TSIG|bad tsig signature|tsig indicates error/
      for (const { name, secondary } of all) {
        const deadline = performance.now() + 60_000
        while (!told.test(secondary.log()) && performance.now() < deadline) await pause(50)
        expect(secondary.log(), name).toMatch(told)
        expect(await serialAt(secondary.port), name).toBeUndefined()
      }
      expect(server.counters.transfers).toBe(0)
    },
  )
})

describe('clients', () => {
  let port: number
  let zone: Zone
  beforeAll(async () => {
    const started = await startServer([])
    port = started.port
    zone = started.server.setZone(new Changing().zone())
  })

  const questions = [
    'example.com. SOA',
    'example.com. NS',
    'example.com. MX',
    'example.com. CAA',
    'EXAMPLE.com. AAAA',
    'ns1.example.com. A',
    'ns1.example.com. AAAA',
    'x.wild.example.com. TXT',
    'x.y.wild.example.com. A',
    'wild.example.com. TXT',
    'alias.example.com. A',
    'host.away.example.com. TXT',
    'a\\.dot.example.com. A',
    '_sip._udp.example.com. SRV',
    '_25._tcp.mail.example.com. TLSA',
    'naptr.example.com. NAPTR',
    'about.example.com. RP',
    'about.example.com. HINFO',
    'sub.example.com. DS',
    'deep.below.sub.example.com. A',
    'nothing.example.com. A',
    'big.example.com. TXT',
    'host7.example.com. TXT',
    'ns1.example.com. ANY',
  ]
  const modes: Readonly<Record<(typeof CLIENTS)[number], Readonly<Record<string, readonly string[]>>>> = {
    dig: {
      UDP: ['+noedns', '+notcp'],
      'UDP with EDNS': ['+edns=0', '+notcp'],
      TCP: ['+noedns', '+tcp'],
      'TCP with EDNS': ['+edns=0', '+tcp'],
    },
    kdig: {
      UDP: ['+noedns'],
      'UDP with EDNS': ['+edns=0'],
      TCP: ['+noedns', '+tcp'],
      'TCP with EDNS': ['+edns=0', '+tcp'],
    },
    drill: { UDP: ['-a'], 'UDP with EDNS': ['-a', '-b', '1232'], TCP: ['-t'], 'TCP with EDNS': ['-t', '-b', '1232'] },
  }

  function argvOf(client: (typeof CLIENTS)[number], mode: readonly string[], name: string, type: string): string[] {
    if (client === 'drill') return ['-p', String(port), ...mode, name, `@${HOST}`, type]
    const quick = client === 'dig' ? ['+tries=1', '+time=30'] : ['+retry=0', '+time=30']
    return ['-p', String(port), `@${HOST}`, '+norec', ...quick, ...mode, name, type]
  }

  // printed by others, read by us: case and the form of hex differ between them
  function read(output: string): string[] {
    const lines = output.split('\n').filter(line => line !== '' && !line.startsWith(';'))
    const { records, problems } = parseZoneText(lines.join('\n'), { origin, file: 'output' })
    expect(problems, output).toEqual([])
    return sorted(records).map(line => line.toLowerCase())
  }

  async function ask(client: (typeof CLIENTS)[number], mode: string, question: string): Promise<void> {
    const [name, type] = question.split(' ') as [string, string]
    const { rcode, answers, authority, additional } = zone.lookup(parseName(name)!, parseType(type)!)!
    const { status, output } = await runClient(client, argvOf(client, modes[client][mode]!, name, type))
    expect(status, `${question}\n${output}`).toBe(formatRcode(rcode))
    expect(read(output)).toEqual(sorted([...answers, ...authority, ...additional]).map(line => line.toLowerCase()))
  }

  for (const client of CLIENTS)
    for (const mode of Object.keys(modes[client]))
      it.skipIf(!has(client))(`${client} over ${mode} (needs ${client})`, { timeout: 180_000 }, async () => {
        for (const question of questions) await ask(client, mode, question)
      })

  it.skipIf(!has('dig'))(
    'dig transfers with the key, and is refused otherwise (needs dig)',
    { timeout: 180_000 },
    async () => {
      const dig = (...args: string[]) => runClient('dig', ['-p', String(port), `@${HOST}`, '+tries=1', ...args])
      const axfr = ['example.com.', 'AXFR']
      const right = await dig('-y', `hmac-sha256:transfer:${SECRET}`, ...axfr)
      const lines = right.output.split('\n').filter(line => !line.includes('TSIG'))
      // the SOA record stands at both ends
      expect(new Set(read(lines.join('\n')))).toEqual(new Set(sorted(zone.records()).map(line => line.toLowerCase())))
      for (const args of [
        ['-y', `hmac-sha256:transfer:${WRONG_SECRET}`],
        ['-y', `hmac-sha256:other:${SECRET}`],
        ['-y', `hmac-sha512:transfer:${SECRET}`],
        [],
        ['-b', UNLISTED, '-y', `hmac-sha256:transfer:${SECRET}`],
      ]) {
        const refused = await dig(...args, ...axfr)
        expect(refused.output).toMatch(/Transfer failed|BADSIG|BADKEY|REFUSED/)
        expect(refused.output).not.toContain('host7')
      }
    },
  )
})
