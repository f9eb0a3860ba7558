/**
 * Names without AA records: what the resolver hands on comes back byte for byte, but for id and TTL (performance.md, D4).
 *
 *   10,000 questions ──► knotd, named ─────────────────► answer ─┐
 *          └───────────► resolver ──TXT, then the question──► … ─┴─► equal?
 *
 * The zone has odd bytes, odd letters, aliases, wildcards, delegations, a type that nobody knows; the questions have odd letters, with and without EDNS and its
 * DO bit. A program that is not installed is skipped with its name.
 */
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Flag } from '../../dns/constants.ts'
import { HEADER } from '../../dns/message.ts'
import { walkRecords } from '../../dns/packet.ts'
import { freePorts } from '../support/ports.ts'
import { edns, query } from '../unit/dns/builders.ts'
import { HOST, has, type Secondary, startServer } from './programs.ts'
import { ResolverWorld, until } from './resolverWorld.ts'

const NAMES = 10_000
const OUTSTANDING = 100
const RETRY_MS = 2000
const MOST_TRIES = 20

/** Line of the zone and question of each kind. `$` is the number. */
const KINDS: readonly (readonly [line: string, question: string])[] = [
  ['n$ 300 A 192.0.2.1', 'n$ A'],
  ['n$ 300 A 192.0.2.1\nn$ 300 A 192.0.2.2\nn$ 300 AAAA 2001:db8::$', 'n$ AAAA'],
  ['n$ 300 AAAA 2001:db8::$', 'n$ A'],
  ['n$ MX 10 mail\nn$ MX 20 Mail2.Example.COM.\nn$ MX 30 mail.elsewhere.example.', 'n$ MX'],
  ['n$ TXT "odd \\000\\001\\128\\255 \\"quoted\\" bytes $" "second; string"', 'n$ TXT'],
  ['n$ TXT "v=spf1 -all" \nn$ A 192.0.2.3', 'n$ A'],
  ['_sip._udp.n$ SRV 1 2 5060 mail', '_sip._udp.n$ SRV'],
  ['n$ CNAME target', 'n$ A'],
  ['n$ CNAME m$\nm$ CNAME target', 'n$ AAAA'],
  ['n$ CNAME nowhere', 'n$ A'],
  ['n$ CNAME n$.elsewhere.example.', 'n$ A'],
  ['', 'none$ A'],
  ['', 'none$ MX'],
  ['N$.MiXed A 192.0.2.4', 'n$.mIxEd A'],
  ['a\\.b\\000\\255$ A 192.0.2.5', 'a\\.b\\000\\255$ A'],
  ['', 'w$.wild A'],
  ['', 'w$.wild TXT'],
  ['n$ TYPE65280 \\# 4 0102$HEX', 'n$ TYPE65280'],
  ['n$ CAA 0 issue "ca.example.net"', 'n$ CAA'],
  ['n$ A 192.0.2.6', 'n$ TYPE65'],
  ['sub$ NS ns.sub$\nns.sub$ A 192.0.2.7', 'www.sub$ A'],
  ['n$ TXT "not AA 192.0.2.1 + 5"\nn$ TXT "aa 192.0.2.1 + 5"\nn$ TXT "AA 192.0.2.1 5"\nn$ A 192.0.2.8', 'n$ A'],
  [`n$ TXT "${'a'.repeat(255)}" "${'b'.repeat(255)}" "${'c'.repeat(200)}"`, 'n$ TXT'],
  [`n$ TXT ${Array.from({ length: 8 }, () => `"${'d'.repeat(250)}"`).join(' ')}`, 'n$ TXT'],
]

const fill = (text: string, i: number) =>
  text.replaceAll('$HEX', (i & 0xffff).toString(16).padStart(4, '0')).replaceAll('$', String(i))

function zoneText(): string {
  const lines = [
    '$TTL 3600',
    '$ORIGIN example.com.',
    '@ SOA ns1 admin 1 3600 600 604800 60',
    '@ NS ns1',
    '@ NS ns2',
    'ns1 A 192.0.2.53',
    'ns2 AAAA 2001:db8::53',
    'mail A 192.0.2.25',
    'mail AAAA 2001:db8::25',
    'Mail2 A 192.0.2.26',
    'target A 192.0.2.80',
    'target AAAA 2001:db8::80',
    'target TXT "a target"',
    '*.wild A 192.0.2.90',
    '*.wild MX 5 mail',
  ]
  for (let i = 0; i < NAMES; i++) lines.push(fill(KINDS[i % KINDS.length]![0], i))
  return `${lines.join('\n')}\n`
}

let state = 1
function random(below: number): number {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0
  return (state >>> 8) % below
}

function questionOf(i: number): Uint8Array {
  const [owner, type] = fill(KINDS[i % KINDS.length]![1], i).split(' ')
  const options = [
    {},
    { edns: edns({ payloadSize: 1232 }) },
    { edns: edns({ payloadSize: 1232, dnssecOk: true }) },
    { edns: edns({ payloadSize: 512 }) },
  ]
  const flags = (random(8) > 0 ? Flag.RD : 0) | (random(4) === 0 ? Flag.CD : 0) | (random(4) === 0 ? Flag.AD : 0)
  const bytes = query(`${owner}.example.com. ${type}`, { ...options[random(options.length)], flags })
  const end = walkRecords(bytes)!.questionEnd - 4
  // letters at random, in one of three questions
  if (random(3) === 0)
    for (let at = HEADER; at < end; at++) if (((bytes[at]! | 32) - 97) >>> 0 < 26 && random(2)) bytes[at]! ^= 32
  return bytes
}

/** All of the questions, some at a time, each again when nothing comes. */
function askAll(port: number, questions: readonly Uint8Array[]): Promise<Uint8Array[]> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
    const answers: Uint8Array[] = []
    const timers = new Map<number, NodeJS.Timeout>()
    let next = 0
    let open = 0
    const end = (error?: Error) => {
      for (const timer of timers.values()) clearTimeout(timer)
      socket.close()
      if (error) reject(error)
      else resolve(answers)
    }
    const send = (i: number, tries: number) => {
      if (tries === MOST_TRIES) return end(new Error(`no answer to question ${i}`))
      const bytes = questions[i]!.slice()
      bytes[0] = i >> 8
      bytes[1] = i
      socket.send(bytes, port, HOST)
      timers.set(i, setTimeout(send, RETRY_MS, i, tries + 1))
    }
    const pump = () => {
      while (open < OUTSTANDING && next < questions.length) {
        open++
        send(next++, 0)
      }
      if (open === 0) end()
    }
    socket.on('message', bytes => {
      const i = bytes.readUInt16BE()
      if (answers[i]) return
      answers[i] = Uint8Array.from(bytes)
      clearTimeout(timers.get(i))
      timers.delete(i)
      open--
      pump()
    })
    socket.bind(0, HOST, pump)
  })
}

/** Without id and TTLs. */
function comparable(answer: Uint8Array): string {
  const bytes = answer.slice()
  bytes.fill(0, 0, 2)
  for (const { type, ttlAt } of walkRecords(bytes)?.records ?? []) if (type !== 41) bytes.fill(0, ttlAt, ttlAt + 4)
  return Buffer.from(bytes).toString('hex')
}

const servers: Record<string, (folder: string, port: number) => { config: string; argv: string[] }> = {
  knotd: (folder, port) => ({
    argv: ['-c', join(folder, 'conf')],
    config: `server:
    rundir: ${folder}
    listen: ${HOST}@${port}
    udp-workers: 1
database:
    storage: ${folder}
log:
  - target: stderr
    any: info
zone:
  - domain: example.com
    file: ${folder}/zone
    semantic-checks: false
`,
  }),
  named: (folder, port) => ({
    argv: ['-g', '-n', '1', '-c', join(folder, 'conf')],
    config: `options {
    directory "${folder}";
    pid-file "${folder}/pid";
    session-keyfile "${folder}/session.key";
    managed-keys-directory "${folder}";
    listen-on port ${port} { ${HOST}; };
    listen-on-v6 { none; };
    recursion no;
    dnssec-validation no;
    rrset-order { order none; };
};
controls { };
zone "example.com" { type primary; file "${folder}/zone"; check-names ignore; };
`,
  }),
}

describe.each(Object.keys(servers))('with %s', program => {
  const isHere = has(program)
  let folder: string
  let server: Secondary
  let world: ResolverWorld
  let port: number

  beforeAll(async () => {
    if (!isHere) return
    folder = mkdtempSync(join(tmpdir(), 'ipref-transparency-'))
    writeFileSync(join(folder, 'zone'), zoneText())
    ;[port] = (await freePorts(1)) as [number]
    const { config, argv } = servers[program]!(folder, port)
    server = startServer(program, { folder, config, argv, port })
    world = new ResolverWorld()
    await world.startMapper()
    await world.startResolver('-upstream', `${HOST}:${port}`, '-forward', `${HOST}:${port}`)
    const soa = query('example.com. SOA')
    await until(`${program} serves the zone`, async () => {
      const [answer] = await askAll(port, [soa]).catch(() => [])
      return answer !== undefined && (answer[3]! & 15) === 0
    })
  })
  afterAll(async () => {
    if (!isHere) return
    await world.stop()
    await server.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  it.skipIf(!isHere)(
    `10,000 answers are equal${isHere ? '' : ` (skipped: ${program} is not installed)`}`,
    async () => {
      const questions = Array.from({ length: NAMES }, (_, i) => questionOf(i))
      const direct = await askAll(port, questions)
      const through = await askAll(world.port, questions)
      const different = questions.flatMap((_, i) => {
        const [a, b] = [comparable(direct[i]!), comparable(through[i]!)]
        return a === b ? [] : [`${fill(KINDS[i % KINDS.length]![1], i)}\n  ${a}\n  ${b}`]
      })
      expect(different.slice(0, 5).join('\n'), `${different.length} differ; ${server.log().slice(-500)}`).toBe('')
      // the questions are what they are meant to be
      const rcodes = new Set(direct.map(bytes => bytes[3]! & 15))
      expect(rcodes).toEqual(new Set([0, 3]))
      expect(direct.filter(bytes => (bytes[2]! & 2) !== 0).length).toBeGreaterThan(100)
      // again, from memory
      const again = await askAll(world.port, questions)
      expect(again.filter((bytes, i) => comparable(bytes) !== comparable(direct[i]!)).length).toBe(0)
      await until('counted', () => world.stat('forwarded') >= NAMES / 2)
      expect(world.stat('mapped')).toBe(0)
    },
    600_000,
  )
})
