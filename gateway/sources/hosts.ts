/**
 * The hosts file as a source of assertions: read whole, watched, handed over as one set.
 *
 * The folder is watched rather than the file, so that a file put in its place by rename (editors, ConfigMaps) is seen; a slow poll covers what
 * watching misses. While the file cannot be read, the last set stays in force.
 */
import { type FSWatcher, readFileSync, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'
import { type HostRecord, type HostsError, parseHostsFile } from '../../ipref/hostsFile.ts'
import type { Assertion } from '../mapper/assertions.ts'

const SETTLE_MS = 50
const POLL_MS = 2000

export interface HostsSourcePorts {
  onAssertions(assertions: Assertion[]): void
  /** Problems of the file as it is now; empty: there were some, and there are none any more. */
  onProblems(problems: string[]): void
}

export class HostsSource {
  readonly #path: string
  readonly #ports: HostsSourcePorts
  #watcher: FSWatcher | undefined
  #poll: NodeJS.Timeout | undefined
  #settle: NodeJS.Timeout | undefined
  #text: string | undefined
  #stamp = ''
  #hadProblems = false

  constructor(path: string, ports: HostsSourcePorts) {
    this.#path = path
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

  /** Reads the file now; hands its mappings over when the text changed. */
  read(): void {
    let text: string
    try {
      const stat = statSync(this.#path)
      this.#stamp = `${stat.mtimeMs} ${stat.size} ${stat.ino}`
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      this.#stamp = ''
      return this.#tell([
        `${this.#path}: cannot be read (${(error as NodeJS.ErrnoException).code}); the mappings read last stay in force`,
      ])
    }
    if (text === this.#text) return
    this.#text = text
    const { records, errors } = parseHostsFile(text)
    this.#tell(errors.map(error => describe(this.#path, error)))
    this.#ports.onAssertions(records.map(record => this.#assertion(record)))
  }

  #assertion(record: HostRecord): Assertion {
    const where = `${this.#path}:${record.line}`
    const { address, reference } = record
    if (record.kind === 'theirs') return { kind: 'theirs', encoded: address, context: record.context, reference, where }
    return { kind: 'ours', address, contexts: record.context ?? 'all', reference, where }
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

function describe(path: string, error: HostsError): string {
  return `${path}:${error.line}: ${error.problem}`
}
