/** Arguments of the small commands: flags with one dash or two, and the rest. */
import { parseArgs } from 'node:util'

export const DEFAULT_CONTROL_SOCKET = '/run/ipref/control.sock'

export interface Arguments {
  controlSocket: string
  json: boolean
  watch: boolean
  rest: string[]
}

/** An error text for a flag that is not known. */
export function parseCommand(argv: readonly string[]): Arguments | string {
  try {
    const { values, positionals } = parseArgs({
      args: argv.map(argument => argument.replace(/^-(?=[a-z]{2})/, '--')),
      options: {
        'control-socket': { type: 'string', default: DEFAULT_CONTROL_SOCKET },
        json: { type: 'boolean', default: false },
        watch: { type: 'boolean', default: false },
      },
      allowPositionals: true,
    })
    return { controlSocket: values['control-socket'], json: values.json, watch: values.watch, rest: positionals }
  } catch (error) {
    return (error as Error).message
  }
}

export function fail(command: string, message: string, code = 1): number {
  process.stderr.write(`ipref ${command}: ${message}\n`)
  return code
}
