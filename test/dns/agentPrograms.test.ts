/**
 * `ipref dns-agent` as a program of its own, and the agent inside `ipref gateway`: their options work as they are written, with our zone server as the primary and
 * as the one who knows local names.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ZoneServer } from '../../dns/zoneServer.ts'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { parsePrefix } from '../../ipref/address.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { freePorts } from '../support/ports.ts'
import { name, zone } from '../unit/dns/builders.ts'
import { KEY, until } from './agentWorld.ts'
import { HOST, SECRET } from './programs.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const SOURCE = 'internal:example.com'
const ZONE = `
gw A 198.51.100.1
gw AAAA 2001:db8::1
web TXT "AA gw.example.com + 101"
db TXT "AA 198.51.100.1 + 102" "AA 2001:db8::1 + 102"
`
const LOCAL = 'web A 10.1.0.1\nweb AAAA fd01::1\ndb A 10.1.0.2\ndb AAAA fd01::2\n'

let folder: string
let server: ZoneServer
let port: number
const running: Program[] = []

interface Program {
  /** lines of standard error that are JSON */
  lines: Record<string, unknown>[]
  output: string
  child: ChildProcess
  exit: Promise<number | null>
}

function run(...argv: string[]): Program {
  const child = spawn(IPREF, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  const program: Program = {
    lines: [],
    output: '',
    child,
    exit: new Promise(resolve => child.on('close', code => resolve(code))),
  }
  let rest = ''
  child.stdout.on('data', (data: Buffer) => (program.output += data.toString()))
  child.stderr.on('data', (data: Buffer) => {
    program.output += data.toString()
    const lines = (rest + data.toString()).split('\n')
    rest = lines.pop()!
    for (const line of lines) if (line.startsWith('{')) program.lines.push(JSON.parse(line))
  })
  running.push(program)
  return program
}

async function stop({ child, exit }: Program): Promise<number | null> {
  child.kill('SIGTERM')
  return exit
}

const path = (called: string) => join(folder, called)
const said = (program: Program, text: RegExp) => program.lines.some(line => text.test(String(line.msg)))

function startGateway(called: string, ...more: string[]): Program {
  return run(
    ...['gateway', '-devmode', '-gateway', '198.51.100.1', '-hosts', '/dev/null', '-data', path(called)],
    ...['-mapper-socket', path(`${called}.mapper`), '-control-socket', path(`${called}.control`)],
    ...['-metrics-address', 'off', '-health-address', 'off', ...more],
  )
}

async function statusOf(called: string): Promise<StatusReport | undefined> {
  try {
    return (await askControl(path(`${called}.control`), { do: 'status' })) as StatusReport
  } catch {
    return undefined
  }
}

async function countAt(called: string): Promise<number | undefined> {
  return (await statusOf(called))?.mappings.counts[`dns:${SOURCE}`]
}

const say = () => running.map(program => program.output).join('\n')

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-agent-programs-'))
  server = new ZoneServer(
    {
      listen: [{ host: HOST, port: 0 }],
      keys: [KEY],
      transferAllow: [parsePrefix(`${HOST}/32`)!],
      transferKeys: [KEY.name],
      notify: [],
    },
    { log: { info: () => {}, warn: () => {} } },
  )
  ;[{ port } = { port: 0 }] = await server.start()
  server.setZone(zone(ZONE))
  server.setZone(zone(LOCAL, name('internal.')))
  writeFileSync(path('key'), `# for transfers\nhmac-sha256:transfer:${SECRET}\n`, { mode: 0o600 })
})
afterEach(async () => {
  await Promise.all(running.splice(0).map(stop))
})
afterAll(async () => {
  await server.stop()
  rmSync(folder, { recursive: true, force: true })
})

describe('ipref dns-agent', () => {
  const keyed = () => ['-key', `@${path('key')}`, '-resolver', `${HOST}:${port}`]
  const source = () => `${SOURCE}:${HOST}:${port}`

  it('hands hosts to the mapper of a gateway', async () => {
    startGateway('one')
    await until('the gateway is there', async () => (await statusOf('one')) !== undefined, say)
    const agent = run('dns-agent', '-m', `unix://${path('one.mapper')}`, ...keyed(), source())
    await until('the gateway has them', async () => (await countAt('one')) === 2, say)
    for (const text of [/connected to the mapper/, /hosts agreed upon/, /the mapper has the hosts/])
      await until(String(text), () => said(agent, text), say)
    expect(await stop(agent)).toBe(0)
  }, 180_000)

  it('-metrics-address serves what it has', async () => {
    const [at] = await freePorts(1, [HOST])
    const flags = ['-devmode', '-t', '1', '-metrics-address', `${HOST}:${at}`]
    const agent = run('dns-agent', ...flags, ...keyed(), source())
    const metrics = async () => {
      const response = await fetch(`http://${HOST}:${at}/metrics`).catch(() => undefined)
      return response?.ok ? response.text() : ''
    }
    await until('both hosts are counted', async () => /^ipref_dns_agent_hosts 2$/m.test(await metrics()), say)
    expect(await metrics()).toMatch(/^ipref_dns_agent_servers\{state="well"\} 1$/m)
    expect(await metrics()).not.toContain('ipref_zone_')
    expect(await stop(agent)).toBe(0)
  }, 180_000)

  it('-devmode says what it would hand over, of the IP versions asked for', async () => {
    const agent = run('dns-agent', '-devmode', '-ea-ipver', '6', '-gw-ipver', '4,6', '-t', '1', ...keyed(), source())
    await until('all are told', () => agent.lines.filter(line => /^host /.test(String(line.msg))).length === 4, say)
    expect(agent.lines.flatMap(line => (/^host /.test(String(line.msg)) ? [line.msg] : [])).sort()).toEqual([
      'host fd01::1 = 198.51.100.1 + 101',
      'host fd01::1 = 2001:db8::1 + 101',
      'host fd01::2 = 198.51.100.1 + 102',
      'host fd01::2 = 2001:db8::1 + 102',
    ])
    expect(agent.lines[0]).toHaveProperty('time')
    expect(await stop(agent)).toBe(0)
  }, 180_000)

  it('takes the flags of the deployed agent as they are', async () => {
    const flags = ['-ea-ipver=4', '-gw-ipver', '4', '-m', 'unix:///run/x.sock', '--t', '59', '-debug', '-time-stamps']
    const right = run('dns-agent', '-check-config', ...flags, '-devmode', source())
    expect(await right.exit).toBe(0)
    expect(right.output).toMatch(/the configuration is right/)
    const help = run('dns-agent', '-help')
    expect(await help.exit).toBe(0)
    expect(help.output).toMatch(/usage: ipref dns-agent \[FLAGS\] LOCAL:PUBLIC:SERVER\[:PORT\]/)
    const wrong = run('dns-agent', '-t', '0', 'internal')
    expect(await wrong.exit).toBe(2)
    expect(wrong.output).toMatch(/-t: 0 is no number from 1 to 10080/)
    expect(wrong.output).toMatch(/source: internal: write LOCAL:PUBLIC:SERVER/)
  }, 180_000)

  it('a port that is taken ends it with a reason', async () => {
    const taken = run('dns-agent', '-devmode', '-notify-listen', `${HOST}:${port}`, ...keyed(), source())
    expect(await taken.exit).toBe(1)
    expect(taken.output).toMatch(new RegExp(`cannot listen for NOTIFY on ${HOST} port ${port}: .*EADDRINUSE`))
  }, 180_000)
})

describe('inside ipref gateway', () => {
  it('the agent runs by configuration alone, from a file', async () => {
    writeFileSync(
      path('gateway.yaml'),
      `dns-agent: ${SOURCE}:${HOST}:${port}
dns-agent-key: "@${path('key')}"
dns-agent-resolver: ${HOST}:${port}
`,
    )
    startGateway('two', '-config', path('gateway.yaml'))
    await until('the mapper has the hosts', async () => (await countAt('two')) === 2, say)
  }, 180_000)

  it('beside its own zone server a change of its files is soon there, without notification', async () => {
    const [own] = await freePorts(1)
    const head = '$TTL 60\n@ SOA ns1 admin 1 7200 3600 1209600 60\n@ NS ns1\nns1 A 127.0.0.1\n'
    writeFileSync(path('public.zone'), head + ZONE)
    writeFileSync(path('local.zone'), head + LOCAL)
    startGateway(
      'three',
      ...['-zone', `example.com=${path('public.zone')}`, '-zone', `internal=${path('local.zone')}`],
      ...['-zone-listen', `${HOST}:${own}`, '-zone-transfer', `${HOST}/32`],
      ...['-dns-agent', `${SOURCE}:${HOST}:${own}`, '-dns-agent-resolver', `${HOST}:${own}`],
    )
    await until('the mapper has the hosts', async () => (await countAt('three')) === 2, say)
    writeFileSync(path('local.zone'), `${head + LOCAL}new A 10.1.0.3\n`)
    writeFileSync(path('public.zone'), `${head + ZONE}new TXT "AA 198.51.100.1 + 103"\n`)
    await until('the mapper has another one', async () => (await countAt('three')) === 3, say)
  }, 180_000)
})
