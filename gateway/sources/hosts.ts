/**
 * The hosts file as a source of assertions: read whole, watched, handed over as one set. While the file cannot be read, the last set stays in force.
 */
import { readFileSync } from 'node:fs'
import { type HostRecord, type HostsError, parseHostsFile } from '../../ipref/hostsFile.ts'
import { watchFile } from '../../runtime/watchFile.ts'
import type { Assertion } from '../mapper/assertions.ts'

export interface HostsSourcePorts {
  onAssertions(assertions: Assertion[]): void
  /** Problems of the file as it is now; empty: there were some, and there are none any more. */
  onProblems(problems: string[]): void
}

export class HostsSource {
  readonly #path: string
  readonly #ports: HostsSourcePorts
  #unwatch: (() => void) | undefined
  #text: string | undefined
  #hadProblems = false

  constructor(path: string, ports: HostsSourcePorts) {
    this.#path = path
    this.#ports = ports
  }

  start(): void {
    this.#unwatch = watchFile(this.#path, () => this.read())
    this.read()
  }

  /** Reads the file now; hands its mappings over when the text changed. */
  read(): void {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
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
    this.#unwatch?.()
  }
}

function describe(path: string, error: HostsError): string {
  return `${path}:${error.line}: ${error.problem}`
}
