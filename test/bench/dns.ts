/**
 * `npm run bench -- dns`: our resolver and CoreDNS in one run, interleaved, with dnsperf, on the same names and the same upstream server; medians, and
 * ratios under the names of the performance goals.
 *
 *   D1   cached AA names / CoreDNS with cache and forward          D3   p99 at half of that load
 *   D2   mapped AA names, nothing cached / CoreDNS with forward    A1   100,000 AA records, quorum of 3, until the mapper has them
 *
 *   --json FILE   everything, for machines      --quick   2 s steps, 3 rounds      --only D1,D2   some
 *   COREDNS       the program coredns; without it, `go install` is tried, and else that baseline is left out
 *
 * Everything is on loopback: upstream (knotd), gateway (its mapper and socket, no packets), resolvers and dnsperf share the processors.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodeMessage } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { askUdp } from '../support/dnsServer.ts'
import { argumentOf, median, percentile, round } from './numbers.ts'

const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 3 : 5
const STEP_S = QUICK ? 2 : 4
const NAMES = 5000
const OUTSTANDING = 500
const COREDNS_VERSION = 'v1.12.1'
const IPREF = join(import.meta.dirname, '../../cli/ipref')
const PORT = { upstream: 5400, oursCached: 5401, oursBare: 5402, coreCached: 5403, coreBare: 5404 } as const

const folder = mkdtempSync(join(tmpdir(), 'ipref-bench-dns-'))
const children: ChildProcess[] = []
const results: Record<string, unknown> = {}
const ratios: Record<string, number> = {}
const only = argumentOf('--only')?.split(',')
const wants = (goal: string) => only?.includes(goal) ?? true

function start(program: string, args: readonly string[], name: string): void {
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr!.on('data', data => {
    log = (log + data).slice(-4000)
  })
  child.on('exit', code => {
    if (!ending) console.error(`${name} ended (${code}):\n${log}`)
  })
  children.push(child)
}
let ending = false

function findCoredns(): string | undefined {
  if (process.env.COREDNS) return process.env.COREDNS
  const kept = join(tmpdir(), `ipref-bench-coredns-${COREDNS_VERSION}`)
  if (!existsSync(join(kept, 'coredns'))) {
    console.log(`building CoreDNS ${COREDNS_VERSION} (go install), minutes the first time …`)
    mkdirSync(kept, { recursive: true })
    spawnSync('go', ['install', `github.com/coredns/coredns@${COREDNS_VERSION}`], {
      env: { ...process.env, GOBIN: kept, GOFLAGS: '-mod=mod' },
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: 900_000,
    })
  }
  return existsSync(join(kept, 'coredns')) ? join(kept, 'coredns') : undefined
}

async function answers(port: number, wanted: string): Promise<void> {
  const query = encodeMessage({
    id: 1,
    flags: 0x100,
    questions: [{ name: parseName('h1.example.com.')!, type: 1, class: 1 }],
  })
  for (let i = 0; i < 100; i++) {
    const answer = await askUdp(port, query, 300)
    if (answer && (answer[3]! & 15) === 0 && answer[7]! > 0) return
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  throw new Error(`${wanted} on port ${port} does not answer`)
}

// ---- what is measured

async function startAll(coredns: string | undefined): Promise<void> {
  const zone = ['$TTL 3600', '@ SOA ns1 admin 1 7200 3600 1209600 60', '@ NS ns1', 'ns1 A 127.0.0.1']
  for (let i = 0; i < NAMES; i++) zone.push(`h${i} TXT "AA 198.51.100.2 + ${1000 + i}"`, `h${i} A 192.0.2.${i % 250}`)
  writeFileSync(join(folder, 'example.com.zone'), `${zone.join('\n')}\n`)
  writeFileSync(
    join(folder, 'knot.conf'),
    `server:\n  rundir: ${folder}\n  listen: 127.0.0.1@${PORT.upstream}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\nlog:\n  - target: stderr\n    any: error\ndatabase:\n  storage: ${folder}\nzone:\n  - domain: example.com\n    storage: ${folder}\n    file: example.com.zone\n`,
  )
  start('knotd', ['-c', join(folder, 'knot.conf')], 'knotd')
  await answers(PORT.upstream, 'knotd')
  const socket = join(folder, 'mapper.sock')
  start(
    IPREF,
    [
      ...['gateway', '-devmode', '-gateway', '198.51.100.1', '-hosts', '/dev/null', '-data', join(folder, 'data')],
      ...['-mapper-socket', socket, '-control-socket', join(folder, 'control.sock')],
      ...[
        '-metrics-address',
        'off',
        '-health-address',
        'off',
        '-log-level',
        'warn',
        '-mapping-quota-per-peer',
        '1000000',
      ],
      ...['-resolver-listen', `127.0.0.1:${PORT.oursCached}`, '-resolver-upstream', `127.0.0.1:${PORT.upstream}`],
    ],
    'gateway',
  )
  await answers(PORT.oursCached, 'our resolver')
  start(
    IPREF,
    [
      ...['resolver', '-listen', `127.0.0.1:${PORT.oursBare}`, '-upstream', `127.0.0.1:${PORT.upstream}`],
      ...['-mapper', socket, '-control-socket', 'off', '-cache-size', '0', '-log-level', 'warn'],
    ],
    'resolver',
  )
  await answers(PORT.oursBare, 'our resolver without cache')
  if (!coredns) return
  for (const [port, cache] of [
    [PORT.coreCached, '  cache\n'],
    [PORT.coreBare, ''],
  ] as const) {
    const file = join(folder, `Corefile-${port}`)
    writeFileSync(file, `.:${port} {\n  bind 127.0.0.1\n${cache}  forward . 127.0.0.1:${PORT.upstream}\n}\n`)
    start(coredns, ['-conf', file, '-quiet'], `CoreDNS ${port}`)
    await answers(port, 'CoreDNS')
  }
}

interface Run {
  qps: number
  lost: number
}

async function dnsperf(port: number, seconds: number, rate?: number): Promise<Run> {
  const args = ['-s', '127.0.0.1', '-p', String(port), '-d', join(folder, 'names'), '-l', String(seconds)]
  args.push('-q', String(OUTSTANDING), ...(rate ? ['-Q', String(Math.round(rate))] : []))
  const child = spawn('dnsperf', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  child.stdout.on('data', data => {
    out += data
  })
  const code = await new Promise<number | null>(resolve => child.on('exit', resolve))
  const qps = Number(/Queries per second:\s+([\d.]+)/.exec(out)?.[1])
  const lost = Number(/Queries lost:\s+(\d+)/.exec(out)?.[1])
  const bad = /Response codes:\s+(.*)/.exec(out)?.[1] ?? ''
  if (code !== 0 || !(qps > 0)) throw new Error(`dnsperf: ${out}`)
  if (!/^NOERROR \d+ \(100\.00%\)/.test(bad)) console.log(`  port ${port}: ${bad}`)
  return { qps, lost }
}

async function interleaved(ways: Readonly<Record<string, number>>): Promise<Record<string, number[]>> {
  const rates: Record<string, number[]> = Object.fromEntries(Object.keys(ways).map(way => [way, []]))
  for (const port of Object.values(ways)) await dnsperf(port, 1)
  for (let i = 0; i < ROUNDS; i++)
    for (const [way, port] of Object.entries(ways)) rates[way]!.push(Math.round((await dnsperf(port, STEP_S)).qps))
  for (const [way, values] of Object.entries(rates))
    console.log(`  ${way.padEnd(26)} ${values.join(' ')}  median ${median(values)}`)
  return rates
}

/** Round trips of single questions while `load` runs, in milliseconds. */
async function roundTrips(port: number, load: Promise<unknown>): Promise<number[]> {
  const socket = createSocket('udp4')
  const sent = new Map<number, number>()
  const times: number[] = []
  socket.on('message', bytes => {
    const id = bytes.readUInt16BE()
    const at = sent.get(id)
    if (at !== undefined) times.push(performance.now() - at)
    sent.delete(id)
  })
  let isOver = false
  void load.finally(() => {
    isOver = true
  })
  for (let id = 0; !isOver; id = (id + 1) & 0xffff) {
    const name = parseName(`h${(id * 7) % NAMES}.example.com.`)!
    sent.set(id, performance.now())
    socket.send(encodeMessage({ id, flags: 0x100, questions: [{ name, type: 1, class: 1 }] }), port, '127.0.0.1')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  await new Promise(resolve => setTimeout(resolve, 200))
  socket.close()
  if (sent.size > times.length / 100)
    throw new Error(`${sent.size} of ${times.length + sent.size} probes got no answer`)
  return times
}

// ---- the goals

try {
  for (const program of ['dnsperf', 'knotd']) {
    if (spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0) {
      console.error(`the bench needs ${program}: apt-get install dnsperf knot`)
      process.exit(1)
    }
  }
  const needsCoredns = wants('D1') || wants('D2')
  const coredns = needsCoredns ? findCoredns() : undefined
  if (needsCoredns && !coredns) console.log('without CoreDNS: it needs Go, or COREDNS with the path of the program')
  writeFileSync(join(folder, 'names'), Array.from({ length: NAMES }, (_, i) => `h${i}.example.com A\n`).join(''))
  if (wants('D1') || wants('D2') || wants('D3')) {
    await startAll(coredns)
    // every name is mapped before anything is measured
    await dnsperf(PORT.oursCached, 2)
  }
  let full = Number.NaN
  if (wants('D1') || wants('D3')) {
    console.log('D1  names in memory, queries/s')
    const rates = await interleaved({
      ours: PORT.oursCached,
      ...(coredns ? { 'CoreDNS cache + forward': PORT.coreCached } : {}),
    })
    results.D1 = rates
    full = median(rates.ours!)
    const base = rates['CoreDNS cache + forward']
    if (base) ratios.D1 = round(full / median(base))
  }
  if (wants('D2')) {
    console.log('D2  names that are mapped, nothing in memory, queries/s')
    const rates = await interleaved({ ours: PORT.oursBare, ...(coredns ? { 'CoreDNS forward': PORT.coreBare } : {}) })
    results.D2 = rates
    const base = rates['CoreDNS forward']
    if (base) ratios.D2 = round(median(rates.ours!) / median(base))
  }
  if (wants('D3')) {
    console.log('D3  round trips at half of the load of D1, ms')
    const times: number[] = []
    for (let i = 0; i < ROUNDS; i++)
      times.push(...(await roundTrips(PORT.oursCached, dnsperf(PORT.oursCached, STEP_S, full / 2))))
    ratios.D3 = round(percentile(times, 99), 2)
    results.D3 = {
      p50: percentile(times, 50),
      p90: percentile(times, 90),
      p99: percentile(times, 99),
      probes: times.length,
    }
    console.log(`  p50 ${round(percentile(times, 50))}, p90 ${round(percentile(times, 90))}, p99 ${ratios.D3}`)
  }
  if (wants('A1')) {
    console.log('A1  100,000 AA records from three servers to the mapper, seconds')
    const { measureAgent } = await import('./agent.ts')
    const seconds: number[] = []
    for (let i = 0; i < (QUICK ? 1 : 3); i++) seconds.push(await measureAgent())
    results.A1 = seconds
    ratios.A1 = round(median(seconds))
    console.log(`  ${seconds.map(s => round(s)).join(' ')}`)
  }
} finally {
  ending = true
  for (const child of children) child.kill('SIGTERM')
  await Promise.all(
    children.map(child => (child.exitCode !== null ? undefined : new Promise(resolve => child.on('exit', resolve)))),
  )
  rmSync(folder, { recursive: true, force: true })
}

const floors: Record<string, string> = { D1: '>= 1.5', D2: '>= 0.4', D3: '<= 5 ms', A1: '<= 10 s' }
console.log('\ngoal    measured   floor')
for (const [name, value] of Object.entries(ratios))
  console.log(`${name.padEnd(8)}${String(value).padEnd(11)}${floors[name] ?? ''}`)
const out = argumentOf('--json')
if (out)
  writeFileSync(
    out,
    `${JSON.stringify({ node: process.version, cpus: cpus().length, rounds: ROUNDS, ratios, results }, null, 2)}\n`,
  )
process.exit(0)
