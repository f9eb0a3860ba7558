/**
 * `npm run bench -- start`: a gateway is killed (SIGKILL) and started again while a stream goes through it; milliseconds from the start of its process to the
 * first packet that arrives behind the other gateway, which stays up, and to the first answer that comes back.
 *
 *   ha 10.1.0.2 ── ga (killed) ══ gb (stays) ── hb 10.1.0.2          a datagram every 5 ms, answered
 *
 *   mappings 0, 1,000, 100,000   so many in the store; the stream's own are in the hosts file
 *   kube                         -kube, API server away: the stream's are in what the cluster said last
 *   bare                         `node -e 0` in the same namespace and round: what no program in Node can be faster than
 *
 *   --rounds N   default 10      --only NAMES   some rows, as 0,kube     --json FILE   all values     --cold   Node has to compile the sources each time
 *
 * `processor` is the time of all processors that the gateway had used then: it says the same on a busy machine.
 * The parts are the gateway's own (`startMs` of its log), counted from the start of the process here, and each is the moment when it was done.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { SavedState } from '../../gateway/kube/savedState.ts'
import { acceptedPeer, mappedService, network } from '../support/clusterBuilders.ts'
import { eventually, type Lab, type Namespace, openLab, type Running } from '../support/netns.ts'
import { fillStore } from './fillStore.ts'
import { argumentOf, median, round } from './numbers.ts'

const ROOT = join(import.meta.dirname, '../..')
const ENCODING = '10.240.0.0/12'
const FAR = '10.240.1.2'
const NEAR_CONTEXT = '198.51.100.1'
const FAR_CONTEXT = '198.51.100.2'
const ROUNDS = Number(argumentOf('--rounds') ?? 10)
const stages = ['modules', 'store', 'objects', 'files', 'device', 'filter', 'packets', 'ready'] as const

const rows = [
  { name: '0', stored: 0, isKube: false },
  { name: '1000', stored: 1000, isKube: false },
  { name: '100000', stored: 100_000, isKube: false },
  { name: 'kube', stored: 1000, isKube: true },
].filter(row => argumentOf('--only')?.split(',').includes(row.name) ?? true)
type Row = (typeof rows)[number]
type Times = Record<string, number>

/** Moments at which one end of the stream got something. */
class End {
  readonly #child: ChildProcess
  #at: number[] = []

  constructor(within: Namespace, args: readonly string[]) {
    const [program = '', ...rest] = [
      ...within.enter,
      process.execPath,
      join(import.meta.dirname, 'startStream.ts'),
      ...args,
    ]
    this.#child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
    let pending = ''
    this.#child.stdout!.setEncoding('utf8').on('data', (data: string) => {
      const lines = (pending + data).split('\n')
      pending = lines.pop()!
      for (const line of lines) this.#at.push(Number(line) / 1000)
    })
  }

  forget(): void {
    this.#at = []
  }

  firstAfter(ms: number): number | undefined {
    return this.#at.find(at => at > ms)
  }

  close(): void {
    this.#child.kill('SIGKILL')
  }
}

const nowMs = () => Number(process.hrtime.bigint() / 1000n) / 1000

/** The near side's mappings as objects; n1 is its node. */
function writeClusterState(folder: string): void {
  const gateway = {
    ...{ name: 'n1', nodeName: 'n1', nodeAddresses: [NEAR_CONTEXT], publicAddresses: [NEAR_CONTEXT] },
    ...{ slices: ['10.241.0.0/16'], publish: true },
  }
  const hosts = [{ name: 'far', reference: '22', encodedAddress: FAR, dnsName: '' }]
  new SavedState(join(folder, 'cluster.json')).write({
    network: network({ encodingNetworks: [ENCODING], statics: ['10.240.0.0/16'], gateways: [gateway] }),
    services: [mappedService('near', [{ address: '10.1.0.2', reference: '11' }])],
    peers: [
      acceptedPeer(
        'far',
        { gateway: { address: FAR_CONTEXT }, hosts: [{ name: 'far', reference: '22' }] },
        { addresses: [FAR_CONTEXT], gateway: 'n1', hosts },
      ),
    ],
  })
}

class StartBench {
  readonly #lab: Lab
  #ga!: Namespace
  #sender!: End
  #receiver!: End

  constructor(lab: Lab) {
    this.#lab = lab
  }

  async build(): Promise<void> {
    const lab = this.#lab
    const forwards = { forwards: true }
    const [ha, ga] = [await lab.add('ha'), await lab.add('ga', forwards)]
    const [gb, hb] = [await lab.add('gb', forwards), await lab.add('hb')]
    for (const [host, gateway] of [
      [ha, ga],
      [hb, gb],
    ] as const) {
      await lab.connect(
        { in: host, device: 'e0', addresses: ['10.1.0.2/24'] },
        { in: gateway, device: 'lan', addresses: ['10.1.0.1/24'] },
      )
      await host.ip('route add default via 10.1.0.1')
    }
    await lab.connect(
      { in: ga, device: 'wan', addresses: [`${NEAR_CONTEXT}/24`] },
      { in: gb, device: 'wan', addresses: [`${FAR_CONTEXT}/24`] },
    )
    this.#ga = ga
    writeFileSync(lab.file('a.hosts'), `10.1.0.2 near #= pub + 11\n${FAR} far #= ext ${FAR_CONTEXT} + 22\n`)
    writeFileSync(lab.file('b.hosts'), `10.1.0.2 far #= pub + 22\n10.240.1.1 near #= ext ${NEAR_CONTEXT} + 11\n`)
    // nobody answers at port 1 in there
    writeFileSync(lab.file('kubeconfig'), JSON.stringify(kubeconfig('https://127.0.0.1:1')))
    this.#start(gb, 'b', FAR_CONTEXT, ['-hosts', lab.file('b.hosts')])
    this.#receiver = new End(hb, ['answer'])
    this.#sender = new End(ha, ['send', FAR])
  }

  #start(within: Namespace, side: string, own: string, more: readonly string[]): Running {
    const path = (name: string) => this.#lab.file(`${side}-${name}`)
    const argv = [
      ...['gateway', '-gateway', own, '-encode-net', ENCODING, '-data', path('data')],
      ...['-mapper-socket', path('mapper.sock'), '-control-socket', path('control.sock'), ...more],
    ]
    const env = process.argv.includes('--cold') ? { NODE_DISABLE_COMPILE_CACHE: '1' } : {}
    return within.start([join(ROOT, 'cli/ipref'), ...argv], { log: `${side}.log`, env })
  }

  async bare(): Promise<number> {
    const begun = nowMs()
    await this.#ga.require([process.execPath, '-e', '0'])
    return nowMs() - begun
  }

  /** Makes what a row begins with, and kills the gateway that ran with it. */
  async prepare(row: Row): Promise<void> {
    const side = `a-${row.name}`
    const data = this.#lab.file(`${side}-data`)
    fillStore(data, { pairs: Math.ceil(row.stored / 2), context: 0xc6336402, firstEncoded: 0x0af10000 })
    if (row.isKube) writeClusterState(data)
    const { gateway } = await this.#flows(row)
    await gateway.stop('SIGKILL')
  }

  async #flows(row: Row): Promise<{ gateway: Running; begun: number; out: number; back: number; cpu: number }> {
    const { isKube } = row
    const lab = this.#lab
    for (const end of [this.#sender, this.#receiver]) end.forget()
    const begun = nowMs()
    const more = isKube
      ? ['-hosts', '/dev/null', '-kubeconfig', lab.file('kubeconfig'), '-node', 'n1']
      : ['-hosts', lab.file('a.hosts')]
    const gateway = this.#start(this.#ga, `a-${row.name}`, NEAR_CONTEXT, more)
    const first = (end: End, what: string) =>
      eventually(
        what,
        () => {
          if (gateway.hasExited()) throw new Error(gateway.log())
          return end.firstAfter(begun)
        },
        { everyMs: 20 },
      )
    const out = await first(this.#receiver, `${row.name}: a packet arrives`)
    const cpu = processorMs(gateway.pid)
    const back = await first(this.#sender, `${row.name}: an answer arrives`)
    return { gateway, begun, out, back, cpu }
  }

  async measure(row: Row): Promise<Times> {
    const log = this.#lab.file(`a-${row.name}.log`)
    const before = readFileSync(log, 'utf8').length
    const begunAt = Date.now()
    const { gateway, begun, out, back, cpu } = await this.#flows(row)
    const started = await eventually('the gateway says that it has started', () => startedLine(log, before))
    await gateway.stop('SIGKILL')
    // the log line is written at `ready`: so the two clocks meet
    const origin = Date.parse(started.time) - begunAt - started.startMs.ready!
    const times: Times = { node: origin }
    for (const stage of stages) times[stage] = origin + started.startMs[stage]!
    return { ...times, 'first packet': out - begun, 'first answer': back - begun, processor: cpu }
  }

  close(): void {
    this.#sender?.close()
    this.#receiver?.close()
  }
}

/** What a process has used by now, in steps of 10. Fields 14 and 15 of /proc/PID/stat, counted behind the name in parentheses. */
function processorMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function startedLine(log: string, from: number): { time: string; startMs: Times } | undefined {
  const lines = readFileSync(log, 'utf8').slice(from).split('\n')
  const line = lines.find(one => one.startsWith('{') && one.includes('"gateway started"'))
  return line === undefined ? undefined : JSON.parse(line)
}

const kubeconfig = (server: string) => ({
  apiVersion: 'v1',
  kind: 'Config',
  'current-context': 'x',
  clusters: [{ name: 'x', cluster: { server } }],
  users: [{ name: 'x', user: { token: 'x' } }],
  contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
})

async function main(): Promise<void> {
  const lab = await openLab()
  const bench = new StartBench(lab)
  const values: Record<string, Times[]> = Object.fromEntries(rows.map(row => [row.name, []]))
  const bare: number[] = []
  try {
    await bench.build()
    for (const row of rows) await bench.prepare(row)
    for (let i = 0; i < ROUNDS; i++) {
      bare.push(await bench.bare())
      for (const row of rows) values[row.name]!.push(await bench.measure(row))
    }
  } finally {
    bench.close()
    await lab.close()
  }
  report(bare, values)
}

function report(bare: readonly number[], values: Readonly<Record<string, readonly Times[]>>): void {
  const base = median(bare)
  console.log(`${cpus().length} processors, ${ROUNDS} rounds; milliseconds since the process was started, medians`)
  console.log(`bare node: ${round(base, 0)} (${round(Math.min(...bare), 0)} to ${round(Math.max(...bare), 0)})`)
  const table = Object.fromEntries(
    Object.entries(values).map(([name, all]) => {
      const names = Object.keys(all[0]!)
      const cells = names.map(key => [key, round(median(all.map(times => times[key]!)), 0)] as const)
      const firsts = all.map(times => times['first packet']!)
      const more = {
        least: round(Math.min(...firsts), 0),
        most: round(Math.max(...firsts), 0),
        '/ bare': round(median(firsts) / base, 1),
      }
      return [name, { ...Object.fromEntries(cells), ...more }]
    }),
  )
  console.table(table)
  const file = argumentOf('--json')
  if (file) writeFileSync(file, `${JSON.stringify({ bare, values }, null, 2)}\n`)
}

await main()
