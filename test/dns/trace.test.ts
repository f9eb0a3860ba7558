/**
 * `ipref trace NAME` with real programs on loopback: gateways in devmode, with and without a resolver, `ipref resolver` beside one, and our zone server as the
 * public DNS. The good way, and for each thing that can be wrong first: that it is named, with what to do, and exit code 1.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf, trace as traceBy } from '../../cli/trace.ts'
import { Flag } from '../../dns/constants.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import type { TraceReport } from '../../gateway/controlReports.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { askUdp, TestDnsServer } from '../support/dnsServer.ts'
import { name, query, zone } from '../unit/dns/builders.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const PATIENCE_MS = 180_000
const folder = mkdtempSync(join(tmpdir(), 'ipref-trace-'))
const path = (called: string) => join(folder, called)
const programs: ChildProcess[] = []

const ZONE = `
gw      A 198.51.100.2
gw6     AAAA 2001:db8::2
web     60 TXT "AA gw.example.com + 11"
www     CNAME web
far     TXT "AA alias.example.com + 12"
alias   CNAME gw
plain   A 192.0.2.80
text    TXT "v=spf1 -all"
lower   TXT "aa gw.example.com + 11"
mixed   TXT "AA 198.51.100.3 + 13" "AA 198.51.100.3 + 0x12"
lost    TXT "AA nobody.example.com + 11"
six     TXT "AA 2001:db8::2 + 11"
sixname TXT "AA gw6.example.com + 11"
torn    TXT "AA gw.example.com" "+ 11"
own     TXT "AA 198.51.100.1 + 21"
unowned TXT "AA 198.51.100.1 + 22"
q1      TXT "AA 198.51.100.9 + 2"
q2      TXT "AA 198.51.100.9 + 3"
web.left TXT "AA gw.example.com + 11"
`

let dns: ZoneServer
let upstream = ''
const silent = new TestDnsServer(() => undefined)

function start(args: readonly string[]): ChildProcess {
  const child = spawn(IPREF, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  programs.push(child)
  return child
}

const QUIET = ['-metrics-address', 'off', '-health-address', 'off', '-log-level', 'error']

function startGateway(called: string, more: readonly string[]): void {
  writeFileSync(path(`${called}.hosts`), '10.1.0.10 host #= pub + 21\n')
  start([
    ...['gateway', '-devmode', '-gateway', '198.51.100.1', '-hosts', path(`${called}.hosts`), ...QUIET],
    ...['-data', path(`${called}.data`), '-mapper-socket', path(`${called}.mapper`)],
    ...['-control-socket', path(`${called}.control`), '-mapping-quota-per-peer', '1', ...more],
  ])
}

function startResolver(called: string, more: readonly string[]): void {
  start(['resolver', '-listen', '127.0.0.1:0', ...QUIET, '-control-socket', path(`${called}.control`), ...more])
}

/** Waits until a program answers at its control socket. */
async function ready(called: string): Promise<void> {
  const until = Date.now() + PATIENCE_MS
  for (;;) {
    try {
      return void (await askControl(path(`${called}.control`), { do: 'trace', name: 'not..a.name' }))
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

beforeAll(async () => {
  dns = new ZoneServer(
    { listen: [{ host: '127.0.0.1', port: 0 }], keys: [], transferAllow: [], transferKeys: [], notify: [] },
    { log: { info: () => {}, warn: () => {} } },
  )
  const [{ port } = { port: 0 }] = await dns.start()
  upstream = `127.0.0.1:${port}`
  dns.setZone(zone(ZONE))
  dns.setZone(zone('www CNAME web.example.com.\n', name('example.net.')))
  await silent.start()
  const resolving = ['-resolver-listen', '127.0.0.1:0', '-resolver-except', 'left.example.com']
  startGateway('a', [
    ...resolving,
    '-resolver-upstream',
    upstream,
    '-resolver-domain',
    'example.com',
    '-resolver-domain',
    'example.net',
  ])
  startGateway('bare', [])
  startResolver('beside', ['-upstream', upstream, '-mapper', path('bare.mapper')])
  startResolver('dead', ['-upstream', silent.text, '-mapper', path('bare.mapper')])
  startResolver('second', ['-upstream', silent.text, '-upstream', upstream, '-mapper', path('bare.mapper')])
  startResolver('lonely', ['-upstream', upstream, '-mapper', path('nowhere.mapper')])
  await Promise.all(['a', 'bare', 'beside', 'dead', 'second', 'lonely'].map(ready))
}, PATIENCE_MS)

afterAll(async () => {
  const ends = programs.map(child => new Promise<void>(resolve => child.once('exit', () => resolve())))
  for (const child of programs) child.kill('SIGTERM')
  await Promise.all(ends)
  await dns.stop()
  await silent.stop()
  rmSync(folder, { recursive: true, force: true })
}, PATIENCE_MS)

interface Traced {
  code: number
  report: TraceReport
  /** ok or FAIL, and the name of each step */
  steps: string[]
}

// as the command does, without a process for each
async function trace(subject: string, at: { gateway?: string; resolver?: string } = { gateway: 'a' }): Promise<Traced> {
  const sockets = {
    gateway: path(`${at.gateway ?? 'nobody'}.control`),
    resolver: path(`${at.resolver ?? 'nobody'}.control`),
  }
  const report = await traceBy(subject, sockets, (socket, request) => {
    return askControl(socket, request, PATIENCE_MS) as Promise<TraceReport>
  })
  const steps = report.steps.map(({ ok, what }) => `${ok ? 'ok' : 'FAIL'} ${what}`)
  return { code: exitCodeOf(report), report, steps }
}

function ipref(args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise(resolve => {
    execFile(IPREF, args, { timeout: PATIENCE_MS }, (error, out, err) => {
      resolve({ code: error ? Number(error.code) : 0, out, err })
    })
  })
}

const detailOf = ({ report }: Traced, what: string) => report.steps.find(step => step.what === what)?.detail

const PACKETS = ['ok encoding network', 'ok mapping', 'ok store', 'ok peer', 'ok tunnel']

describe('the good way', { timeout: 3 * PATIENCE_MS }, () => {
  it('from the question to the encoded address, and on to the peer', async () => {
    const traced = await trace('web.example.com')
    expect(traced.steps).toEqual([
      ...['ok resolver', 'ok domain', 'ok cache', 'ok TXT', 'ok AA record', 'ok context', 'ok mapper', 'ok answer'],
      ...PACKETS,
    ])
    const { report } = traced
    expect(traced.code).toBe(0)
    expect(report.addresses).toEqual([expect.stringMatching(/^10\.2[4-5]\d\.\d+\.\d+$/)])
    const [address] = report.addresses
    expect(detailOf(traced, 'TXT')).toBe(`TXT of web.example.com. at ${upstream}: 1 record`)
    expect(detailOf(traced, 'AA record')).toBe('"AA gw.example.com + 11"')
    expect(detailOf(traced, 'context')).toBe(`gw.example.com. is 198.51.100.2 (${upstream})`)
    expect(detailOf(traced, 'mapper')).toBe(`${address} stands for 198.51.100.2 + 11`)
    expect(detailOf(traced, 'answer')).toBe(`A ${address}, TTL 60`)
    expect(detailOf(traced, 'store')).toBe('on disk: it survives a restart')
    for (const what of ['TXT', 'context', 'mapper'])
      expect(report.steps.find(step => step.what === what)?.ms).toBeGreaterThanOrEqual(0)
    // the same again gives the same, and an address ends with the same steps
    expect((await trace('WEB.example.com.')).report.addresses).toEqual(report.addresses)
    expect((await trace(address!)).steps).toEqual(PACKETS)
  })

  it('over aliases, also into another zone, and of the gateway', async () => {
    const traced = await trace('www.example.net')
    expect(traced.code).toBe(0)
    expect(detailOf(traced, 'alias')).toBe('www.example.net. → web.example.com.')
    expect(detailOf(await trace('www.example.com'), 'alias')).toBe('www.example.com. → web.example.com.')
  })

  it('says what the cache holds, and asks afresh', async () => {
    const before = await trace('web.example.com')
    const port = Number(/port (\d+)$/.exec(detailOf(before, 'resolver')!)![1])
    await askUdp(port, query('web.example.com. A', { flags: Flag.RD }))
    const after = await trace('web.example.com')
    const [address] = after.report.addresses
    expect(detailOf(after, 'cache')).toMatch(/^holds A \S+ for \d+ s; 1 AA record for \d+ s; asked afresh here$/)
    expect(detailOf(after, 'cache')).toContain(`A ${address} for`)
    expect(detailOf(after, 'TXT')).toContain('1 record')
  })

  it('to a host of this network: its own address', async () => {
    const traced = await trace('own.example.com')
    expect([traced.code, traced.report.addresses]).toEqual([0, ['10.1.0.10']])
    expect(traced.steps.slice(-3)).toEqual(['ok encoding network', 'ok mapping', 'ok host filter'])
  })

  it('as text: a line for each step, and the verdict', async () => {
    const { code, out } = await ipref(['trace', 'web.example.com', '-control-socket', path('a.control')])
    expect(code).toBe(0)
    expect(out).toMatch(/^ok {4}resolver .*answers at 127\.0\.0\.1 port \d+\n/)
    expect(out).toMatch(/\nok {4}TXT +\d+\.\dms {2}TXT of web\.example\.com\./)
    expect(out).toMatch(/\na packet to 10\.\S+ would go to 198\.51\.100\.2 \+ 11\n$/)
  })
})

describe('what is wrong first', { timeout: 3 * PATIENCE_MS }, () => {
  it.each<{ what: string; subject: string; step: string; says: RegExp; fix: RegExp }>([
    {
      what: 'no domain of the resolver',
      subject: 'web.example.org',
      step: 'domain',
      says: /none of the domains.*example\.com\., example\.net\./,
      fix: /-resolver-domain/,
    },
    {
      what: 'an excluded domain',
      subject: 'web.left.example.com',
      step: 'domain',
      says: /left\.example\.com\./,
      fix: /-resolver-except left\.example\.com\./,
    },
    {
      what: 'no such name',
      subject: 'gone.example.com',
      step: 'TXT',
      says: /gone\.example\.com\. does not exist/,
      fix: /IN TXT "AA /,
    },
    { what: 'no TXT record', subject: 'plain.example.com', step: 'TXT', says: /no TXT record/, fix: /IN TXT "AA / },
    {
      what: 'a zone that the upstream does not serve',
      subject: 'far.nowhere.example.net',
      step: 'TXT',
      says: /does not exist/,
      fix: /publish/,
    },
    {
      what: 'TXT but no AA record',
      subject: 'text.example.com',
      step: 'AA record',
      says: /no AA record among 1 strings, such as "v=spf1 -all"/,
      fix: /"AA "/,
    },
    {
      what: 'a malformed AA record',
      subject: 'lower.example.com',
      step: 'AA record',
      says: /upper case/,
      fix: /write "AA gw\.example\.com \+ 11"/,
    },
    {
      what: 'a torn AA record',
      subject: 'torn.example.com',
      step: 'AA record',
      says: /in 2 strings/,
      fix: /one string/,
    },
    {
      what: 'a context that is not there',
      subject: 'lost.example.com',
      step: 'context',
      says: /nobody\.example\.com\. has no A record/,
      fix: /address in its zone/,
    },
    {
      what: 'a context of the other IP version',
      subject: 'six.example.com',
      step: 'context',
      says: /IPv4/,
      fix: /IP version/,
    },
    {
      what: 'a name of the other IP version',
      subject: 'sixname.example.com',
      step: 'context',
      says: /gw6\.example\.com\. has no A record/,
      fix: /address in its zone/,
    },
    {
      what: 'a reference of this network that nobody has',
      subject: 'unowned.example.com',
      step: 'mapper',
      says: /no IPv4 host has that reference/,
      fix: /pub \+ 22/,
    },
  ])('$what', async ({ subject, step, says, fix }) => {
    const { code, report } = await trace(subject)
    const wrong = report.steps.find(({ ok }) => !ok)
    expect([code, wrong?.what, wrong?.detail, wrong?.fix]).toEqual([
      ...[1, step, expect.stringMatching(says), expect.stringMatching(fix)],
    ])
    expect(report.verdict).toBe(`${step}: ${wrong!.detail}\n→ ${wrong!.fix}`)
    expect(report.addresses).toEqual([])
  })

  it('one of two AA records: the other one is followed, and exit code 1', async () => {
    const { code, report, steps } = await trace('mixed.example.com')
    expect([code, report.addresses.length]).toEqual([1, 1])
    expect(steps).toContain('FAIL AA record')
    expect(report.verdict).toMatch(
      /^a packet to 10\.\S+ would go to 198\.51\.100\.3 \+ 13\nbut AA record: 0x12 .*\n→ write "AA 198/,
    )
  })

  it('the mapper refuses, and says why', async () => {
    const first = await trace('q1.example.com')
    const second = await trace('q2.example.com')
    expect([first.code, second.code]).toEqual([0, 1])
    expect(second.report.verdict).toMatch(/^mapper: no IPv4 encoded address for 198\.51\.100\.9 \+ 3: .*quota/)
  })

  it('no upstream answers', async () => {
    const { code, report } = await trace('web.example.com', { resolver: 'dead' })
    expect([code, report.verdict]).toEqual([
      1,
      expect.stringContaining(`TXT: TXT of web.example.com.: no answer from ${silent.text}`),
    ])
  })

  it('no mapper', async () => {
    const { code, report } = await trace('web.example.com', { resolver: 'lonely' })
    expect([code, report.verdict]).toEqual([
      1,
      expect.stringContaining(`mapper: no answer at ${path('nowhere.mapper')}`),
    ])
  })

  it('no resolver, here and beside', async () => {
    const { code, report } = await trace('web.example.com', { gateway: 'bare' })
    expect([code, report.verdict]).toEqual([
      1,
      expect.stringMatching(/^resolver: this gateway runs none\n→ .*-resolver-listen/),
    ])
  })

  it('as JSON, with exit code 1', async () => {
    const { code, out } = await ipref(['trace', 'gone.example.com', '--json', '-control-socket', path('a.control')])
    const { name: asked, steps } = JSON.parse(out) as TraceReport
    expect([code, asked, steps.at(-1)!.ok]).toEqual([1, 'gone.example.com', false])
  })

  it('neither gateway nor resolver', async () => {
    const sockets = ['-control-socket', path('nobody'), '-resolver-socket', path('nobody')]
    expect(await ipref(['trace', 'web.example.com', ...sockets])).toEqual({
      code: 1,
      out: '',
      err: expect.stringContaining('is it running?'),
    })
  })

  it('an address that nothing is mapped to', async () => {
    const { code, report } = await trace('10.240.0.99')
    expect([code, report.verdict]).toEqual([1, expect.stringContaining('mapping: nothing is mapped to 10.240.0.99')])
  })
})

describe('ipref resolver', { timeout: 3 * PATIENCE_MS }, () => {
  it('beside a gateway that runs none: its steps, then those of the gateway', async () => {
    const traced = await trace('far.example.com', { gateway: 'bare', resolver: 'beside' })
    expect(traced.code).toBe(0)
    expect(detailOf(traced, 'context')).toMatch(/^alias\.example\.com\. → gw\.example\.com\. is 198\.51\.100\.2 /)
    expect(traced.steps.slice(-PACKETS.length)).toEqual(PACKETS)
  })

  it('alone: its steps, and that no gateway was asked', async () => {
    const traced = await trace('far.example.com', { resolver: 'beside' })
    expect([traced.code, traced.steps.at(-1)]).toEqual([0, 'ok gateway'])
  })

  it('a silent server before one that answers is named', async () => {
    const traced = await trace('far.example.com', { resolver: 'second' })
    expect([traced.code, detailOf(traced, 'TXT')]).toEqual([
      0,
      expect.stringContaining(`(${silent.text} before it is silent)`),
    ])
  })
})
