/**
 * Zone files as the source of zones: read whole, watched, checked, and served only when nothing is wrong.
 *
 *   file ──► text ──► records ──► Zone ──► onZone
 *                 └───────┴─────────┴──► problems, each with file and line; the last good zone stays in force
 *
 * The folder is watched rather than the file, so that a file put in its place by rename (editors, ConfigMaps) is seen; a slow poll covers what
 * watching misses. `SerialFile` keeps the serials that were served, for a server that may not go back in them.
 */
import { type FSWatcher, readFileSync, renameSync, statSync, watch, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { formatName, type Name, parseName } from './name.ts'
import { Zone } from './zone.ts'
import type { SerialStore, ServedSerial } from './zoneServer.ts'
import { describeProblem, parseZoneText } from './zoneText.ts'

const SETTLE_MS = 50
const POLL_MS = 2000

export interface ZoneFilePorts {
  onZone(zone: Zone): void
  /** Problems of the file as it is now; empty: there were some, and there are none any more. */
  onProblems(problems: string[]): void
}

/** The zone that a text describes, or every problem with file and line. */
export function readZone(text: string, origin: Name, file: string): { zone?: Zone; problems: string[] } {
  const { records, lines, problems } = parseZoneText(text, { origin, file })
  // what is missing may be in a line that could not be read
  if (problems.length > 0) return { problems: problems.map(describeProblem) }
  const { zone, problems: faults } = Zone.from(origin, records)
  const described = faults.map(({ index, problem }) =>
    describeProblem({ file, line: index === undefined ? 1 : lines[index]!, problem }),
  )
  return zone ? { zone, problems: [] } : { problems: described }
}

export class ZoneFile {
  readonly #path: string
  readonly #origin: Name
  readonly #ports: ZoneFilePorts
  #watcher: FSWatcher | undefined
  #poll: NodeJS.Timeout | undefined
  #settle: NodeJS.Timeout | undefined
  #bytes: Buffer | undefined
  #stamp = ''
  #hadProblems = false

  constructor(path: string, origin: Name, ports: ZoneFilePorts) {
    this.#path = path
    this.#origin = origin
    this.#ports = ports
  }

  start(): void {
    this.read()
    try {
      this.#watcher = watch(dirname(this.#path), (_event, name) => {
        if (name === null || name === basename(this.#path) || name.startsWith('..')) this.#soon()
      })
      this.#watcher.on('error', () => {})
    } catch {
      // no such folder yet: the poll finds it
    }
    this.#poll = setInterval(() => this.#readIfChanged(), POLL_MS)
  }

  #soon(): void {
    clearTimeout(this.#settle)
    this.#settle = setTimeout(() => this.read(), SETTLE_MS)
  }

  #readIfChanged(): void {
    const stat = statSync(this.#path, { throwIfNoEntry: false })
    const stamp = stat ? `${stat.mtimeMs} ${stat.size} ${stat.ino}` : ''
    if (stamp !== this.#stamp) this.read()
  }

  /** Reads the file now; hands its zone over when the text changed and is right. */
  read(): void {
    let bytes: Buffer
    try {
      const stat = statSync(this.#path)
      this.#stamp = `${stat.mtimeMs} ${stat.size} ${stat.ino}`
      bytes = readFileSync(this.#path)
    } catch (error) {
      this.#stamp = ''
      this.#bytes = undefined
      const { code } = error as NodeJS.ErrnoException
      return this.#tell([`${this.#path}: cannot be read (${code}); the zone read last stays in force`])
    }
    if (this.#bytes?.equals(bytes)) return
    this.#bytes = bytes
    const { zone, problems } = this.#parse(bytes)
    this.#tell(problems)
    if (zone) this.#ports.onZone(zone)
  }

  #parse(bytes: Buffer): { zone?: Zone; problems: string[] } {
    const text = textOf(bytes)
    if (text === undefined)
      return { problems: [`${this.#path}:${lineOfBadText(bytes)}: not UTF-8: write bytes as \\DDD, such as \\233`] }
    return readZone(text, this.#origin, this.#path)
  }

  #tell(problems: string[]): void {
    if (problems.length > 0 || this.#hadProblems) this.#ports.onProblems(problems)
    this.#hadProblems = problems.length > 0
  }

  stop(): void {
    this.#watcher?.close()
    clearInterval(this.#poll)
    clearTimeout(this.#settle)
  }
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}

function lineOfBadText(bytes: Buffer): number {
  const lines = bytes.toString('latin1').split('\n')
  return lines.findIndex(line => textOf(Buffer.from(line, 'latin1')) === undefined) + 1
}

/** What was served last, in a JSON file: `{"example.com.": {"serial": 1700000000, "fingerprint": "…"}}`. */
export class SerialFile implements SerialStore {
  readonly #path: string
  readonly #onProblem: (problem: string) => void
  readonly #served = new Map<Name, ServedSerial>()

  constructor(path: string, onProblem: (problem: string) => void) {
    this.#path = path
    this.#onProblem = onProblem
    try {
      this.#read(JSON.parse(readFileSync(path, 'utf8')))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        onProblem(`${path}: cannot be read (${(error as Error).message}); serials start with those of the zones`)
    }
  }

  #read(all: unknown): void {
    if (typeof all !== 'object' || all === null) return
    for (const [text, served] of Object.entries(all)) {
      const name = parseName(text)
      const { serial, fingerprint } = (served ?? {}) as Partial<ServedSerial>
      if (name === undefined || typeof serial !== 'number' || typeof fingerprint !== 'string') continue
      this.#served.set(name, { serial: serial >>> 0, fingerprint })
    }
  }

  get(origin: Name): ServedSerial | undefined {
    return this.#served.get(origin)
  }

  set(origin: Name, served: ServedSerial): void {
    this.#served.set(origin, served)
    const all = Object.fromEntries([...this.#served].map(([name, last]) => [formatName(name), last]))
    try {
      writeFileSync(`${this.#path}.new`, `${JSON.stringify(all)}\n`)
      renameSync(`${this.#path}.new`, this.#path)
    } catch (error) {
      this.#onProblem(
        `${this.#path}: cannot be written (${(error as Error).message}); serials may go back after a restart`,
      )
    }
  }
}
