/**
 * Where backups are kept: a file that is whole under its name or not there, readable by its owner alone; or standard output.
 *
 *   FILE.PID.part ── written, synced ── renamed to FILE, the folder synced
 *
 * Ended in between, a part is left, and what was at FILE before stays.
 */
import { closeSync, createReadStream, fsyncSync, openSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type BackupContent, BackupReader, EMPTY, LONGEST_LINE } from './backupFile.ts'

const CHUNK_BYTES = 1 << 16
const NEWLINE = 0x0a

/** Rejects with a sentence. */
export async function writeBackup(file: string | undefined, lines: Iterable<string>): Promise<void> {
  if (file === undefined) return toStandardOutput(lines)
  if (statSync(file, { throwIfNoEntry: false })?.isFile() === false)
    throw new Error(`${file} is no ordinary file; without a name the backup goes to standard output`)
  const part = `${file}.${process.pid}.part`
  try {
    // left by a process of the same number
    rmSync(part, { force: true })
    const fd = openSync(part, 'wx', 0o600)
    try {
      for (const chunk of chunksOf(lines)) writeFileSync(fd, chunk)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(part, file)
    syncFolder(dirname(file))
  } catch (error) {
    rmSync(part, { force: true })
    throw error
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function* chunksOf(lines: Iterable<string>): Generator<string> {
  let chunk = ''
  for (const line of lines) {
    chunk += line
    if (chunk.length < CHUNK_BYTES) continue
    yield chunk
    chunk = ''
  }
  yield chunk
}

async function toStandardOutput(lines: Iterable<string>): Promise<void> {
  const out = process.stdout
  for (const chunk of chunksOf(lines))
    await new Promise<void>((resolve, reject) => out.write(chunk, error => (error ? reject(error) : resolve())))
}

/** Rejects with a sentence that names the file; nothing of a file that is not whole is handed over. */
export async function readBackup(file: string): Promise<BackupContent> {
  const reader = new BackupReader()
  const refuse = (problem: string): never => {
    throw new Error(/^(is|has|was|does) /.test(problem) ? `${file} ${problem}` : `${file}: ${problem}`)
  }
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    let from = 0
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      const problem = reader.line(bytes.subarray(from, end))
      if (problem !== undefined) refuse(problem)
      from = end + 1
    }
    rest = bytes.subarray(from)
    if (rest.length > LONGEST_LINE) refuse('is no backup of ipref')
  }
  const content = reader.finish()
  if (typeof content === 'string')
    return refuse(rest.length > 0 && content === EMPTY ? 'is no backup of ipref' : content)
  return rest.length > 0 ? refuse('has something behind its last line: the file is damaged') : content
}
