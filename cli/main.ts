/** The command `ipref`: one subcommand each; those that run a program are started here and nowhere else. */
import { main as agent } from '../gateway/dns/agentMain.ts'
import { main as resolver } from '../gateway/dns/resolverMain.ts'
import { main as gateway } from '../gateway/main.ts'
import { runRef } from './ref.ts'
import { runStatus } from './status.ts'
import { runTrace } from './trace.ts'

const USAGE = `usage: ipref COMMAND [OPTIONS]

  gateway    connect this network with other IPREF networks
  resolver   answer DNS questions for names with AA records, with the mapper of any gateway
  dns-agent  publish the hosts of zones, to the mapper of any gateway
  status     what a running gateway maps, whom it talks to, what it refused   (--json, --watch)
  trace      what becomes of a question for a NAME or a packet to an ADDRESS, step by step
  aa         check the AA records of a zone: ipref aa lint ZONE-OR-FILE
  ref        references: what a text means, and how a value is written
  help       this; ipref gateway -help lists the options of the gateway

Everything but \`ref\` talks to the gateway of this host over its control socket (-control-socket PATH).
`

const commands: Readonly<Record<string, (argv: readonly string[]) => Promise<number> | number>> = {
  gateway,
  resolver,
  'dns-agent': agent,
  status: runStatus,
  trace: runTrace,
  ref: runRef,
  version: () => gateway(['-version']),
}

async function run(argv: readonly string[]): Promise<number> {
  const [name = 'help', ...rest] = argv
  const command = commands[name.replace(/^--?(?=version$)/, '')]
  if (command) return command(rest)
  if (['help', '-h', '-help', '--help'].includes(name)) {
    process.stdout.write(USAGE)
    return 0
  }
  process.stderr.write(`ipref: unknown command ${name}\n\n${USAGE}`)
  return 2
}

process.exitCode = await run(process.argv.slice(2))
