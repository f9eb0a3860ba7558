/** A1: 100,000 AA records at three primaries (knotd), until the mapper of a gateway has them in force; seconds from the start of the agent's process. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Class, Type } from '../../dns/constants.ts'
import { encodeMessage } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { askUdp } from '../support/dnsServer.ts'

const HOSTS = 100_000
const IPREF = join(import.meta.dirname, '../../cli/ipref')
const PATIENCE_MS = 120_000
const PORTS = [5421, 5422, 5423] as const

// the low sixteen bits of a static reference stay below 4096
const referenceOf = (i: number) => `${(((i >> 12) + 1) & 0xffff).toString(16)}-${(i & 0xfff).toString(16)}`

async function lastHost(port: number): Promise<void> {
  const name = parseName(`h${HOSTS - 1}.example.com.`)!
  const query = encodeMessage({ id: 1, flags: 0, questions: [{ name, type: Type.TXT, class: Class.IN }] })
  const answer = await askUdp(port, query, 500)
  if (!answer || answer[7] === 0) throw new Error('not loaded yet')
}

async function answers(who: string, ask: () => Promise<unknown>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; ; ) {
    try {
      await ask()
      return
    } catch (error) {
      if (performance.now() > end) throw new Error(`${who} does not answer: ${(error as Error).message}`)
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

export async function measureAgent(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-bench-agent-'))
  const children: ChildProcess[] = []
  const start = (program: string, args: readonly string[]) => {
    const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
    children.push(child)
    return child
  }
  try {
    const head = ['$TTL 60', '@ SOA ns1 admin 1 7200 3600 1209600 60', '@ NS ns1', 'ns1 A 127.0.0.1']
    const [publicZone, localZone] = [[...head], [...head]]
    for (let i = 0; i < HOSTS; i++) {
      publicZone.push(`h${i} TXT "AA 198.51.100.1 + ${referenceOf(i)}"`)
      localZone.push(`h${i} A 10.${1 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`)
    }
    writeFileSync(join(folder, 'public.zone'), `${publicZone.join('\n')}\n`)
    writeFileSync(join(folder, 'local.zone'), `${localZone.join('\n')}\n`)
    for (const port of PORTS) {
      const conf = `server:\n  rundir: ${folder}/${port}\n  listen: 127.0.0.1@${port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\nlog:\n  - target: stderr\n    any: error\ndatabase:\n  storage: ${folder}/${port}\nacl:\n  - id: all\n    address: 127.0.0.0/8\n    action: transfer\nzone:\n  - domain: example.com\n    storage: ${folder}\n    file: public.zone\n    acl: all\n  - domain: internal\n    storage: ${folder}\n    file: local.zone\n`
      writeFileSync(join(folder, `knot-${port}.conf`), conf)
      start('mkdir', ['-p', join(folder, String(port))])
      await new Promise(resolve => setTimeout(resolve, 100))
      start('knotd', ['-c', join(folder, `knot-${port}.conf`)])
    }
    const control = join(folder, 'control.sock')
    const mapper = join(folder, 'mapper.sock')
    start(IPREF, [
      ...['gateway', '-devmode', '-gateway', '198.51.100.1', '-hosts', '/dev/null', '-data', join(folder, 'data')],
      ...['-mapper-socket', mapper, '-control-socket', control],
      ...['-metrics-address', 'off', '-health-address', 'off', '-log-level', 'warn'],
    ])
    await answers('the gateway', () => askControl(control, { do: 'status' }))
    // zones of 100,000 names take a while to load
    for (const port of PORTS) await answers(`knotd on port ${port}`, () => lastHost(port))
    const begun = performance.now()
    const servers = PORTS.map(port => `127.0.0.1:${port}`).join(',')
    start(IPREF, [
      ...['dns-agent', '-m', mapper, '-resolver', `127.0.0.1:${PORTS[0]}`, '-log-level', 'warn'],
      `internal:example.com:${servers}`,
    ])
    for (;;) {
      const { mappings } = (await askControl(control, { do: 'status' })) as StatusReport
      if (mappings.counts['dns:internal:example.com'] === HOSTS) return (performance.now() - begun) / 1000
      if (performance.now() - begun > PATIENCE_MS)
        throw new Error(`after ${PATIENCE_MS / 1000} s the mapper has ${JSON.stringify(mappings.counts)}`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  } finally {
    for (const child of children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGTERM')
      await new Promise(resolve => child.on('exit', resolve))
    }
    rmSync(folder, { recursive: true, force: true })
  }
}
