/** Arguments of the small commands: flags with one dash or two, and the rest; and help, which every command gives in the same way. */
import { parseArgs } from 'node:util'

export const DEFAULT_CONTROL_SOCKET = '/run/ipref/control.sock'
export const DEFAULT_RESOLVER_SOCKET = '/run/ipref/resolver.sock'

export interface CommandOptions {
  /** names of flags with a value, and of those without */
  text: readonly string[]
  switches: readonly string[]
  /** one letter → name */
  short?: Readonly<Record<string, string>>
}

export interface Arguments {
  values: ReadonlyMap<string, string>
  switches: ReadonlySet<string>
  rest: readonly string[]
}

/** An error text for a flag that is not known. */
export function parseCommand(argv: readonly string[], options: CommandOptions): Arguments | string {
  const known: Record<string, { type: 'string' | 'boolean'; short?: string }> = {}
  for (const name of options.text) known[name] = { type: 'string' }
  for (const name of options.switches) known[name] = { type: 'boolean' }
  for (const [letter, name] of Object.entries(options.short ?? {})) known[name]!.short = letter
  try {
    const { values, positionals } = parseArgs({
      args: argv.map(argument => argument.replace(/^-(?=[a-z]{2})/, '--')),
      options: known,
      allowPositionals: true,
    })
    const given = Object.entries(values)
    return {
      values: new Map(given.filter((entry): entry is [string, string] => typeof entry[1] === 'string')),
      switches: new Set(given.filter(([, value]) => value === true).map(([name]) => name)),
      rest: positionals,
    }
  } catch (error) {
    return (error as Error).message.split('. ')[0]!
  }
}

export function asksForHelp(argv: readonly string[]): boolean {
  return argv.some(argument => /^(-h|--?help)$/.test(argument))
}

export function say(text: string, code = 0): number {
  process.stdout.write(`${text}\n`)
  return code
}

export function fail(command: string, message: string, code = 1): number {
  process.stderr.write(`ipref ${command}: ${message}\n`)
  return code
}
