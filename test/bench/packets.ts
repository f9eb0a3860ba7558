/**
 * `npm run bench` (run.ts): packets and mappings. Us and the baselines in one run, interleaved; medians, and ratios under the names of the performance goals.
 *
 *   --json FILE   everything, for machines      --quick   P1, P2, P8, P10 in under a minute      --only P1,P7   some
 *   WIREGUARD_GO  the program wireguard-go; without it, `go install` is tried, and else that baseline is left out
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Namespace, openLab, type Running } from '../support/netns.ts'
import { labSupport } from '../support/userNamespace.ts'
import { measureMapper } from './mapper.ts'
import { argumentOf, median, percentile, round } from './numbers.ts'
import { type Bench, buildBench, type Way, ways } from './topology.ts'

const QUICK = process.argv.includes('--quick')
const ROUNDS = QUICK ? 3 : 5
const STEP_S = QUICK ? 2 : 3
const UDP_STEP_S = QUICK ? 1.5 : 3
const LOAD = join(import.meta.dirname, 'udpLoad.ts')
const IPERF_PORT = 5201
const UDP_PORT = 7777

const results: Record<string, unknown> = {}
const ratios: Record<string, number | Record<string, number>> = {}

const only = argumentOf('--only')?.split(',')
const quickSet = ['P1', 'P2', 'P8', 'P10']
function wants(...goals: string[]): boolean {
  return goals.some(goal => (only ? only.includes(goal) : !QUICK || quickSet.includes(goal)))
}

// ---- measuring

/** Mbit/s received. */
async function tcp(bench: Bench, way: Way, options: string[] = [], seconds = STEP_S): Promise<number> {
  const { to, from } = ways[way]
  const out = await bench.ha.require(
    ['iperf3', '-J', '-c', to, '-B', from, '-p', String(IPERF_PORT), '-t', String(seconds), ...options],
    { timeoutMs: (seconds + 20) * 1000 },
  )
  const { end } = JSON.parse(out) as {
    end: { sum_received: { bits_per_second: number }; sum_received_bidir_reverse?: { bits_per_second: number } }
  }
  return (end.sum_received.bits_per_second + (end.sum_received_bidir_reverse?.bits_per_second ?? 0)) / 1e6
}

interface Receiver {
  running: Running
  take(): Promise<{ packets: number; bytes: number }>
}

/** What one UDP load of `size` bytes brought: packets sent and received a second, Mbit/s. */
async function udp(
  bench: Bench,
  way: Way,
  load: { size: number; seconds: number; rate: number; gso: number },
): Promise<{ sent: number; received: number; mbit: number }> {
  const { to } = ways[way]
  const { size, seconds, rate, gso } = load
  const before = await counter.take()
  void before
  const out = await bench.ha.require([
    process.execPath,
    LOAD,
    'send',
    to,
    String(UDP_PORT),
    String(size),
    String(seconds),
    String(rate),
    String(gso),
  ])
  const { sent, seconds: took } = JSON.parse(out) as { sent: number; seconds: number }
  await new Promise(resolve => setTimeout(resolve, 100))
  const { packets, bytes } = await counter.take()
  return { sent: sent / took, received: packets / took, mbit: (bytes * 8) / took / 1e6 }
}

let counter!: Receiver

async function startCounter(host: Namespace): Promise<Receiver> {
  const { spawn } = await import('node:child_process')
  const child = spawn('ip', ['netns', 'exec', host.name, process.execPath, LOAD, 'receive', String(UDP_PORT)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines: string[] = []
  let waiting: ((line: string) => void) | undefined
  let pending = ''
  child.stdout.setEncoding('utf8').on('data', (data: string) => {
    pending += data
    for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
      lines.push(pending.slice(0, end))
      pending = pending.slice(end + 1)
    }
    while (waiting && lines.length > 0) {
      const deliver = waiting
      waiting = undefined
      deliver(lines.shift()!)
    }
  })
  const next = () =>
    new Promise<string>(resolve => {
      if (lines.length > 0) resolve(lines.shift()!)
      else waiting = resolve
    })
  await next()
  process.on('exit', () => child.kill('SIGKILL'))
  return {
    running: undefined as never,
    async take() {
      child.stdin.write('\n')
      return JSON.parse(await next()) as { packets: number; bytes: number }
    },
  }
}

/** The highest rate of 64-byte packets that arrives with a loss of 0.1 % at most, by bisection. */
async function lossFreeRate(bench: Bench, way: Way): Promise<number> {
  const flood = await udp(bench, way, { size: 64, seconds: UDP_STEP_S, rate: 0, gso: 1 })
  let [low, high] = [0, flood.sent]
  for (let step = 0; step < (QUICK ? 5 : 7); step++) {
    const rate = (low + high) / 2
    const { sent, received } = await udp(bench, way, { size: 64, seconds: UDP_STEP_S, rate, gso: 1 })
    if (received >= sent * 0.999 && sent >= rate * 0.97) low = rate
    else high = rate
  }
  return low
}

/** Round-trip times of small pings, in microseconds. */
async function roundTrips(bench: Bench, way: Way, count: number, intervalS = 0.004): Promise<number[]> {
  const { to, from } = ways[way]
  const out = await bench.ha.require(['ping', '-n', '-i', String(intervalS), '-c', String(count), '-I', from, to], {
    timeoutMs: 120_000,
  })
  return [...out.matchAll(/time=([\d.]+) ms/g)].map(match => Number(match[1]) * 1000).slice(5)
}

/** user and system seconds of both our gateways */
function cpuOf(pids: readonly number[]): { user: number; system: number } {
  let [user, system] = [0, 0]
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    user += Number(fields[11]) / 100
    system += Number(fields[12]) / 100
  }
  return { user, system }
}

// `ip netns exec` replaces itself, sh too: the process is the gateway
function gatewayPids(bench: Bench): number[] {
  return bench.gateways.map(gateway => gateway.pid)
}

async function metric(gateway: Namespace): Promise<Map<string, number>> {
  const text = await gateway.require([
    process.execPath,
    '-e',
    "fetch('http://127.0.0.1:9145/metrics').then(r => r.text()).then(t => process.stdout.write(t))",
  ])
  return new Map(
    text
      .split('\n')
      .filter(line => line !== '' && !line.startsWith('#'))
      .map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )
}

// ---- the goals

async function throughput(bench: Bench): Promise<void> {
  const all: Way[] = ['routing', 'vxlan', 'ours']
  if (!QUICK) all.push('naive')
  if (!QUICK && bench.available.has('wireguard')) all.push('wireguard')
  const rates = await interleaved(all, way => tcp(bench, way))
  results.tcp1 = rates
  const m = (way: Way) => median(rates.get(way) ?? [Number.NaN])
  ratios.P1 = round(m('ours') / m('routing'))
  ratios.P2 = round(m('ours') / m('vxlan'))
  if (rates.has('wireguard')) ratios.P4 = round(m('ours') / m('wireguard'))
  if (rates.has('naive')) ratios['ours/N'] = round(m('ours') / m('naive'))
  if (QUICK) return
  const flows = await interleavedBy({ one: [], eight: ['-P', '8'], many: ['-P', '64'], both: ['--bidir'] }, options =>
    tcp(bench, 'ours', options),
  )
  results.flows = flows
  const one = median(flows.get('one')!)
  ratios.P5 = round(Math.min(median(flows.get('eight')!), median(flows.get('many')!)) / one)
  ratios.P6 = round(median(flows.get('both')!) / one)
}

async function interleaved(list: readonly Way[], measure: (way: Way) => Promise<number>): Promise<Map<Way, number[]>> {
  const rates = new Map<Way, number[]>(list.map(way => [way, []]))
  for (let i = 0; i < ROUNDS; i++) for (const way of list) rates.get(way)!.push(round(await measure(way), 1))
  for (const [way, values] of rates) console.log(`  ${way.padEnd(12)} ${values.join(' ')}  median ${median(values)}`)
  return rates
}

async function interleavedBy(
  options: Record<string, string[]>,
  measure: (options: string[]) => Promise<number>,
): Promise<Map<string, number[]>> {
  const rates = new Map<string, number[]>(Object.keys(options).map(name => [name, []]))
  for (let i = 0; i < ROUNDS; i++)
    for (const [name, values] of Object.entries(options)) rates.get(name)!.push(round(await measure(values), 1))
  for (const [name, values] of rates) console.log(`  ${name.padEnd(12)} ${values.join(' ')}  median ${median(values)}`)
  return rates
}

async function families(bench: Bench): Promise<void> {
  const rates = await interleaved(['ours', 'ours 4→6', 'ours 6→4'], way => tcp(bench, way))
  results.families = rates
  ratios.P14 = round(
    Math.min(median(rates.get('ours 4→6')!), median(rates.get('ours 6→4')!)) / median(rates.get('ours')!),
  )
}

async function largeUdp(bench: Bench): Promise<void> {
  const flows: number[] = []
  const datagrams: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    flows.push(await tcp(bench, 'ours'))
    datagrams.push((await udp(bench, 'ours', { size: 1400, seconds: STEP_S, rate: 0, gso: 40 })).mbit)
  }
  results.udp1400 = { tcp: flows.map(v => round(v, 0)), udp: datagrams.map(v => round(v, 0)) }
  console.log(`  TCP ${flows.map(v => round(v, 0)).join(' ')} UDP ${datagrams.map(v => round(v, 0)).join(' ')}`)
  ratios.P7 = round(median(datagrams) / median(flows))
}

async function smallUdp(bench: Bench): Promise<void> {
  const rates = new Map<Way, number[]>([
    ['vxlan', []],
    ['ours', []],
  ])
  for (let i = 0; i < (QUICK ? 1 : 3); i++)
    for (const way of rates.keys()) rates.get(way)!.push(Math.round(await lossFreeRate(bench, way)))
  results.udp64 = rates
  console.log(`  loss-free packets/s: vxlan ${rates.get('vxlan')!.join(' ')}; ours ${rates.get('ours')!.join(' ')}`)
  ratios.P8 = round(median(rates.get('ours')!) / median(rates.get('vxlan')!))
}

async function latency(bench: Bench): Promise<void> {
  const times = { routing: [] as number[], vxlan: [] as number[], naive: [] as number[], ours: [] as number[] }
  for (let i = 0; i < ROUNDS; i++)
    for (const way of ['routing', 'vxlan', 'naive', 'ours'] as const)
      times[way].push(...(await roundTrips(bench, way, QUICK ? 300 : 600)))
  const added = (p: number) => Math.round(percentile(times.ours, p) - percentile(times.routing, p))
  ratios.P10 = { p50: added(50), p99: added(99) }
  for (const [way, values] of Object.entries(times))
    console.log(
      `  ${way.padEnd(12)} p50 ${Math.round(percentile(values, 50))} µs, p90 ${Math.round(percentile(values, 90))} µs, p99 ${Math.round(percentile(values, 99))} µs`,
    )
  console.log(`  added round trip: p50 ${added(50)} µs, p99 ${added(99)} µs`)
}

async function underLoad(bench: Bench): Promise<void> {
  const full = await tcp(bench, 'ours', [], 2)
  const load = tcp(bench, 'ours', ['-b', `${Math.round(full * 0.8)}M`], STEP_S * 3)
  await new Promise(resolve => setTimeout(resolve, 500))
  const times = await roundTrips(bench, 'ours', 2000, 0.004)
  await load
  ratios.P11 = round(percentile(times, 99.9) / 1000, 1)
  console.log(`  p99.9 round trip at 80 % load: ${ratios.P11} ms`)
}

async function costs(bench: Bench): Promise<void> {
  const pids = gatewayPids(bench)
  const [before, metricsBefore, decapBefore] = [cpuOf(pids), await metric(bench.ga), await metric(bench.gb)]
  const seconds = STEP_S * 2
  const mbit = await tcp(bench, 'ours', [], seconds)
  const [after, metricsAfter, decapAfter] = [cpuOf(pids), await metric(bench.ga), await metric(bench.gb)]
  const bytes = (mbit * 1e6 * seconds) / 8
  const user = ((after.user - before.user) * 1e9) / bytes
  const all = ((after.user + after.system - before.user - before.system) * 1e9) / bytes
  ratios.P12 = { user: round(user), 'user + system': round(all) }
  const mean = (name: string, direction: string, a: Map<string, number>, b: Map<string, number>) => {
    const difference = (suffix: string) =>
      b.get(`${name}_${suffix}{direction="${direction}"}`)! - a.get(`${name}_${suffix}{direction="${direction}"}`)!
    return difference('sum') / difference('count')
  }
  ratios.P13 = {
    'segments per UDP send': round(mean('ipref_send_segments', 'encap', metricsBefore, metricsAfter), 1),
    'segments per UDP receive': round(mean('ipref_receive_segments', 'decap', decapBefore, decapAfter), 1),
    'KB per TUN write': round(mean('ipref_send_bytes', 'decap', decapBefore, decapAfter) / 1000, 1),
  }
  results.histograms = {
    encap: [...metricsAfter].filter(([name]) => /segments_bucket|bytes_bucket/.test(name)),
    decap: [...decapAfter].filter(([name]) => /segments_bucket|bytes_bucket/.test(name)),
  }
  console.log(`  CPU ns per byte: ${JSON.stringify(ratios.P12)}; batches: ${JSON.stringify(ratios.P13)}`)
}

async function underGarbage(bench: Bench): Promise<void> {
  const clean: number[] = []
  const dirty: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    const before = await tcp(bench, 'ours')
    clean.push(before)
    // three of ten packets are garbage: counted against the segments of the transfer
    const rate = Math.round(((before * 1e6) / 8 / 1400) * (0.3 / 0.7))
    const garbage = bench.ga.run(
      [process.execPath, LOAD, 'send', '198.51.100.2', '1045', '120', String(STEP_S + 1), String(rate), '16'],
      { timeoutMs: 60_000 },
    )
    await new Promise(resolve => setTimeout(resolve, 500))
    dirty.push(await tcp(bench, 'ours'))
    await garbage
  }
  ratios.P18 = round(median(dirty) / median(clean))
  console.log(
    `  TCP under garbage: ${dirty.map(v => round(v, 0)).join(' ')}, without: ${clean.map(v => round(v, 0)).join(' ')}`,
  )
}

async function tables(bench: Bench): Promise<void> {
  const few = []
  const many = []
  const { prepareMillion } = await import('./mapper.ts')
  for (let i = 0; i < (QUICK ? 1 : 2); i++) {
    for (let k = 0; k < 3; k++) few.push(await tcp(bench, 'ours'))
    await bench.stopOurs()
    for (const side of ['a', 'b'] as const) prepareMillion(join(bench.folderOf(side), 'data'), 'fill')
    await bench.restartOurs()
    await tcp(bench, 'ours', [], 1)
    for (let k = 0; k < 3; k++) many.push(await tcp(bench, 'ours'))
    await bench.stopOurs()
    for (const side of ['a', 'b'] as const) prepareMillion(join(bench.folderOf(side), 'data'), 'empty')
    await bench.restartOurs()
    await tcp(bench, 'ours', [], 1)
  }
  results.tables = { few, many }
  ratios.P15 = round(median(many) / median(few))
  console.log(
    `  with few mappings ${few.map(v => round(v, 0)).join(' ')}, with a million ${many.map(v => round(v, 0)).join(' ')}`,
  )
}

// ---- running

function findWireguard(): string | undefined {
  if (spawnSync('wg', ['--version'], { stdio: 'ignore' }).status !== 0) return undefined
  const given = process.env.WIREGUARD_GO
  if (given || QUICK) return given
  const folder = join(tmpdir(), 'ipref-bench-go')
  const program = join(folder, 'wireguard')
  if (existsSync(program)) return program
  const build = spawnSync('go', ['install', 'golang.zx2c4.com/wireguard@latest'], {
    env: { ...process.env, GOBIN: folder },
    stdio: 'ignore',
    timeout: 300_000,
  })
  return build.status === 0 ? program : undefined
}

const support = labSupport()
if (support.how === 'none') {
  console.error(`the bench cannot run here: ${support.reason}`)
  process.exit(1)
}

const lab = await openLab()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => void lab.close().then(() => process.exit(1)))
try {
  const bench = await buildBench(lab, findWireguard())
  if (!bench.available.has('wireguard') && !QUICK)
    console.log('without wireguard-go: it needs the package wireguard-tools, and Go or WIREGUARD_GO')
  bench.hb.start(['iperf3', '-s', '-p', String(IPERF_PORT)], { log: 'iperf.log' })
  counter = await startCounter(bench.hb)
  for (const way of bench.available) await roundTrips(bench, way, 10, 0.01)
  await tcp(bench, 'ours', [], 1)
  const stages: [string, string[], () => Promise<void>][] = [
    ['TCP, Mbit/s', ['P1', 'P2', 'P4', 'P5', 'P6'], () => throughput(bench)],
    ['UDP 1400 bytes, segmented by the sender, Mbit/s', ['P7'], () => largeUdp(bench)],
    ['UDP 64 bytes', ['P8'], () => smallUdp(bench)],
    ['round trips', ['P10'], () => latency(bench)],
    ['round trips under load', ['P11'], () => underLoad(bench)],
    ['cost and batches', ['P12', 'P13'], () => costs(bench)],
    ['across IP families, Mbit/s', ['P14'], () => families(bench)],
    ['under garbage', ['P18'], () => underGarbage(bench)],
    ['a million mappings', ['P15'], () => tables(bench)],
  ]
  for (const [title, goals, run] of stages) {
    if (!wants(...goals)) continue
    console.log(`${goals.join(' ')}  ${title}`)
    await run()
  }
} finally {
  await lab.close()
}
if (wants('P16', 'P17')) {
  console.log('P16 P17  mapper')
  const mapper = await measureMapper()
  ratios.P16 = { 'creations per second': mapper.createPerSecond, 'seconds to load a million': mapper.bulkLoadSeconds }
  ratios.P17 = { 'fixed MB': mapper.fixedMegabytes, 'bytes per mapping': mapper.bytesPerMapping }
  results.mapper = mapper
  console.log(`  ${JSON.stringify(mapper)}`)
}
const floors: Record<string, number> = { P1: 0.45, P2: 0.5, P5: 0.85, P7: 0.6, P8: 0.5, P14: 0.85, P15: 0.9 }
console.log('\nratio   measured   floor')
for (const [name, value] of Object.entries(ratios))
  console.log(`${name.padEnd(8)}${JSON.stringify(value).padEnd(11)}${floors[name] ?? ''}`)
const out = argumentOf('--json')
if (out) {
  const plain = JSON.parse(
    JSON.stringify(results, (_key, value) => (value instanceof Map ? Object.fromEntries(value) : value)),
  )
  writeFileSync(
    out,
    `${JSON.stringify({ node: process.version, cpus: cpus().length, rounds: ROUNDS, ratios, results: plain }, null, 2)}\n`,
  )
}
process.exit(0)
