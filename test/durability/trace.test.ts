/**
 * The order of system calls: a mapping is acknowledged only after the log of the store is on disk.
 *
 * 32 askers wait for their mappings, so one commit can settle 32 at most. At no moment may there be more acknowledgements written than 32 for each
 * completed fdatasync: one that left before its commit would break that.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const NODE = join(import.meta.dirname, '../../node_modules/.bin/node')
const CHILD = join(import.meta.dirname, 'child.ts')
const ASKERS = 32
const MINUTE = 60_000
const hasStrace = spawnSync('strace', ['-V'], { stdio: 'ignore' }).status === 0

function trace(folder: string, file: string): Promise<void> {
  return new Promise(resolve => {
    const calls = 'trace=fdatasync,fsync,write,writev'
    const argv = ['-f', '-s', '65535', '-e', calls, '-o', file, NODE, CHILD, join(folder, 'data')]
    const env = { ...process.env, TMPDIR: join(folder, 'tmp') }
    const child = spawn('strace', argv, { stdio: ['ignore', 'pipe', 'ignore'], env, detached: true })
    let lines = 0
    child.stdout.on('data', (data: Buffer) => {
      lines += data.toString().split('\n').length - 1
      if (lines > ASKERS * 20) process.kill(-child.pid!, 'SIGKILL')
    })
    child.on('close', () => resolve())
  })
}

it.skipIf(!hasStrace)(
  'fdatasync returns before each acknowledgement (needs strace)',
  { timeout: 10 * MINUTE },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ipref-trace-'))
    const file = join(folder, 'calls')
    mkdirSync(join(folder, 'tmp'))
    await trace(folder, file)
    let [commits, acknowledged, most] = [0, 0, 0]
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      if (/(fdatasync|fsync)(\(| resumed).*= 0$/.test(line)) commits++
      if (!/ writev?\(1, /.test(line)) continue
      acknowledged += line.split('\\n').length - 1
      most = Math.max(most, acknowledged - ASKERS * commits)
    }
    rmSync(folder, { recursive: true, force: true })
    expect(acknowledged).toBeGreaterThan(ASKERS * 10)
    expect(commits).toBeGreaterThan(5)
    expect(most).toBeLessThanOrEqual(0)
  },
)
