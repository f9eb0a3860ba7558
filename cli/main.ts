/** The command `ipref`: one subcommand each; those that run a program are started here and nowhere else. */
import { main as agent } from '../gateway/dns/agentMain.ts'
import { main as resolver } from '../gateway/dns/resolverMain.ts'
import { main as gateway } from '../gateway/main.ts'
import { runAa } from './aaLint.ts'
import { asksForHelp, say } from './arguments.ts'
import { runRef } from './ref.ts'
import { runStatus } from './status.ts'
import { runTrace } from './trace.ts'

const USAGE = `usage: ipref COMMAND [OPTIONS]

  gateway    connect this network with other IPREF networks
  resolver   answer DNS questions for names with AA records, with the mapper of any gateway
  dns-agent  publish the hosts of zones, to the mapper of any gateway
  status     what a running gateway maps, whom it talks to, what is wrong
  trace      what becomes of a question for a name, or a packet to an address, step by step
  aa         check the AA records of a zone: ipref aa lint ZONE-OR-FILE
  ref        what a reference, an IPREF address or an AA record means, and how it is written
  version    which version this is
  help       this; ipref COMMAND -help lists the options of a command
`

const commands: Readonly<Record<string, (argv: readonly string[]) => Promise<number> | number>> = {
  gateway,
  resolver,
  'dns-agent': agent,
  status: runStatus,
  trace: runTrace,
  aa: runAa,
  ref: runRef,
  version: argv => (asksForHelp(argv) ? say('usage: ipref version') : gateway(['-version'])),
  help: ([name]) =>
    name !== undefined && Object.hasOwn(commands, name) ? commands[name]!(['-help']) : say(USAGE.trimEnd()),
}

async function run([name = 'help', ...rest]: readonly string[]): Promise<number> {
  const wanted = asksForHelp([name]) ? 'help' : name.replace(/^--?(?=version$)/, '')
  if (Object.hasOwn(commands, wanted)) return commands[wanted]!(rest)
  process.stderr.write(`ipref: unknown command ${name}\n\n${USAGE}`)
  return 2
}

process.exitCode = await run(process.argv.slice(2))
