/** `ipref backup` beside a gateway that gives out mappings, and killed in the middle; `ipref restore` beside a gateway that runs. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { BackupLines } from '../../cli/backupFile.ts'
import { readBackup, writeBackup } from '../../cli/backupStorage.ts'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { restoreMappings } from '../../gateway/mapper/savedMappings.ts'
import type { SavedMapping } from '../../gateway/mapper/store.ts'
import { formatWords } from '../../ipref/address.ts'
import { referenceFromWords } from '../../ipref/reference.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { eventually } from '../support/netns.ts'

const NODE = join(import.meta.dirname, '../../node_modules/.bin/node')
const IPREF = join(import.meta.dirname, '../../cli/ipref')
const CHILD = join(import.meta.dirname, 'child.ts')
const PATIENCE_MS = 120_000
const TIMEOUT_MS = 5 * PATIENCE_MS
const MANY = 40_000
const KILLS = 12

let folder = ''
const children = new Set<ChildProcess>()
const path = (name: string) => join(folder, name)

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-backup-'))
  mkdirSync(path('tmp'))
})
afterEach(async () => {
  for (const child of [...children]) await end(child, 'SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

function start(argv: readonly string[]): ChildProcess {
  const [program = '', ...rest] = argv
  const env = { ...process.env, TMPDIR: path('tmp') }
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], env })
  children.add(child)
  return child
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  children.delete(child)
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill(signal)
  await ended
}

async function run(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = start([IPREF, ...args])
  let [out, err] = ['', '']
  child.stdout!.on('data', data => {
    out += data
  })
  child.stderr!.on('data', data => {
    err += data
  })
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  children.delete(child)
  return { code, out, err }
}

const inAnHour = Math.floor(Date.now() / 1000) + 3600
const mapping = (n: number): SavedMapping => ({
  kind: 'theirs',
  local: [0, 0, 0xffff, 0x0af01000 + (n & 0xff) + ((n >>> 8) << 16)],
  context: [0, 0, 0xffff, 7 << 24],
  reference: [0, 0, 0, n + 2],
  expires: inAnHour,
})

it('a backup beside a gateway under load has all that was acknowledged before it began', {
  timeout: TIMEOUT_MS,
}, async () => {
  const acknowledged = new Map<number, string>()
  let rest = ''
  const child = start([NODE, CHILD, path('data')])
  child.stdout!.on('data', data => {
    const lines = (rest + data).split('\n')
    rest = lines.pop()!
    for (const line of lines) acknowledged.set(Number(line.split(' ')[0]), line.split(' ')[1]!)
  })
  await eventually('mappings are given out', async () => acknowledged.size > 500, { withinMs: PATIENCE_MS })
  for (let i = 0; i < 4; i++) {
    const before = new Map(acknowledged)
    const file = path(`backup-${i}`)
    expect(await run('backup', file, '-data', path('data'))).toMatchObject({ code: 0, out: '' })
    await eventually('it goes on meanwhile', async () => acknowledged.size > before.size, { withinMs: PATIENCE_MS })
    const { mappings } = await readBackup(file)
    const held = new Map([...mappings].map(one => [Number(referenceFromWords(one.reference)), formatWords(one.local)]))
    expect(new Set(held.values()).size).toBe(mappings.length)
    const lost = [...before].filter(([reference, encoded]) => held.get(reference) !== encoded)
    expect(lost).toEqual([])
  }
  await end(child, 'SIGKILL')
  const restored = await run('restore', path('backup-3'), '-data', path('anew'))
  expect(restored).toMatchObject({ code: 0, out: expect.stringMatching(/^mappings: \d+ restored, 0 renewed/) })
  await run('backup', path('again'), '-data', path('anew'))
  const sorted = async (name: string) =>
    [...(await readBackup(path(name))).mappings].map(one => JSON.stringify(one)).sort()
  expect(await sorted('again')).toEqual(await sorted('backup-3'))
})

it(`${KILLS} kills in the middle of a backup leave a whole file under its name`, { timeout: TIMEOUT_MS }, async () => {
  function* many() {
    for (let n = 0; n < MANY; n++) yield mapping(n)
  }
  restoreMappings(path('data'), many(), { now: 0, isDryRun: false })
  const file = path('backup')
  const lines = new BackupLines()
  await writeBackup(file, [lines.header(0), lines.end()])
  const before = readFileSync(file)
  let cut = 0
  for (let i = 0; i < KILLS; i++) {
    const child = start([IPREF, 'backup', file, '-data', path('data')])
    const hasEnded = new Promise<void>(resolve => child.once('exit', () => resolve()))
    const part = () => readdirSync(folder).find(name => name.endsWith('.part'))
    await eventually('it is writing, or has ended', async () => part() !== undefined || child.exitCode !== null, {
      withinMs: PATIENCE_MS,
      everyMs: 1,
    })
    await new Promise(resolve => setTimeout(resolve, i * 4))
    await Promise.all([end(child, 'SIGKILL'), hasEnded])
    const left = part()
    if (left !== undefined) {
      cut++
      expect(statSync(path(left)).mode & 0o777).toBe(0o600)
      // whole, where only the new name was missing
      const problem = await readBackup(path(left)).then(
        () => 'was cut off before it was renamed',
        (error: Error) => error.message,
      )
      expect(problem).toMatch(/is empty|no backup|was cut off/)
      expect(readFileSync(file).equals(before)).toBe(true)
      rmSync(path(left))
    } else expect((await readBackup(file)).mappings.length).toBe(MANY)
    writeFileSync(file, before)
  }
  process.stdout.write(`${cut} of ${KILLS} kills were in the middle of the file\n`)
  expect(cut).toBeGreaterThan(0)
  expect(await run('backup', file, '-data', path('data'))).toMatchObject({
    code: 0,
    err: `mappings: ${MANY}, in ${file}\n`,
  })
  expect((await readBackup(file)).mappings.length).toBe(MANY)
})

it('a gateway that runs is backed up, not restored into; one that starts has what was restored', {
  timeout: TIMEOUT_MS,
}, async () => {
  const gateway = async (data: string) => {
    const control = path(`${data}.control`)
    const child = start([
      ...[IPREF, 'gateway', '-devmode', '-gateway', '198.51.100.1', '-hosts', '/dev/null', '-data', path(data)],
      ...['-mapper-socket', path(`${data}.mapper`), '-control-socket', control, '-log-level', 'error'],
      ...['-metrics-address', 'off', '-health-address', 'off'],
    ])
    await eventually('the gateway answers', async () => existsSync(control) && askControl(control, { do: 'status' }), {
      withinMs: PATIENCE_MS,
    })
    const { mappings } = (await askControl(control, { do: 'status' })) as StatusReport
    return { child, mappings: mappings.rows.map(({ local, remote }) => `${local} ${remote}`).sort() }
  }
  const few = Array.from({ length: 20 }, (_, n) => mapping(n))
  restoreMappings(path('data'), few, { now: 0, isDryRun: false })
  const first = await gateway('data')
  expect(first.mappings).toHaveLength(20)
  expect(await run('backup', path('backup'), '-data', path('data'))).toMatchObject({ code: 0 })
  expect(await run('restore', path('backup'), '-data', path('data'))).toEqual({
    code: 1,
    out: '',
    err: expect.stringMatching(/is in use by another ipref gateway \(process \d+\)/),
  })
  const planned = await run('restore', path('backup'), '-dry-run', '-data', path('data'))
  expect(planned).toMatchObject({ code: 0, out: expect.stringContaining('0 to restore, 0 to renew, 20 there already') })
  await end(first.child, 'SIGTERM')
  expect(await run('restore', path('backup'), '-data', path('anew'))).toMatchObject({
    code: 0,
    out: 'mappings: 20 restored, 0 renewed, 0 there already, 0 expired, 0 conflicts\n',
  })
  expect((await gateway('anew')).mappings).toEqual(first.mappings)
})
