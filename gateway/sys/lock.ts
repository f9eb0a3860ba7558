/** One gateway for one data folder: an advisory lock (flock(2)) that the kernel lets go when the process ends, however it ends. */
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { LOCK_EX, LOCK_NB } from './layouts.ts'
import { flock } from './libc.ts'

export class LockHeld extends Error {}

export function lockFolder(folder: string): { release(): void } {
  mkdirSync(folder, { recursive: true, mode: 0o750 })
  const file = join(folder, 'lock')
  const fd = openSync(file, 'a+', 0o600)
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    const owner = readFileSync(file, 'utf8').trim()
    closeSync(fd)
    throw new LockHeld(
      `${folder} is in use by another ipref gateway${owner === '' ? '' : ` (process ${owner})`}; give this one a data folder of its own with -data`,
    )
  }
  ftruncateSync(fd)
  writeSync(fd, `${process.pid}\n`)
  return { release: () => closeSync(fd) }
}
