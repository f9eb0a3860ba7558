/** The command `ipref`: one subcommand each; those that run a program are loaded and started here and nowhere else. */
import { runAa } from './aaLint.ts'
import { asksForHelp, say } from './arguments.ts'
import { runCheck } from './check.ts'
import { runRef } from './ref.ts'
import { runStatus } from './status.ts'
import { runTrace } from './trace.ts'

const USAGE = `usage: ipref COMMAND [OPTIONS]

  gateway    connect this network with other IPREF networks
  resolver   answer DNS questions for names with AA records, with the mapper of any gateway
  dns-agent  publish the hosts of zones, to the mapper of any gateway
  operator   publish what IprefService objects say: of a cluster, or of a folder of YAML
  status     what a running gateway maps, whom it talks to, what is wrong; what a cluster publishes
  trace      what becomes of a question for a name, a packet to an address, an IprefService, step by step
  backup     the mappings of a gateway, the references of a cluster: into a file
  restore    out of it again: what is missing; what is there stays
  check      whether a name, a peer or this node works: DNS, mapping, ping, sizes of packets, TCP, NAT
  aa         check the AA records of a zone: ipref aa lint ZONE-OR-FILE
  ref        what a reference, an IPREF address or an AA record means, and how it is written
  version    which version this is
  help       this; ipref COMMAND -help lists the options of a command
`

type Argv = readonly string[]

// a command that only asks does not wait for what the programs load
const gateway = async (argv: Argv) => (await import('../gateway/main.ts')).main(argv)
const resolver = async (argv: Argv) => (await import('../gateway/dns/resolverMain.ts')).main(argv)
const agent = async (argv: Argv) => (await import('../gateway/dns/agentMain.ts')).main(argv)

const operator = async (argv: Argv) => (await import('../operator/main.ts')).main(argv)

// where no gateway answers, its program looks at the host all the same
const checkHost = async (missing: string) => (await import('../gateway/main.ts')).checkHost(missing)

const commands: Readonly<Record<string, (argv: Argv) => Promise<number> | number>> = {
  gateway,
  resolver,
  'dns-agent': agent,
  operator,
  status: runStatus,
  trace: runTrace,
  check: argv => runCheck(argv, checkHost),
  backup: async argv => (await import('./backup.ts')).runBackup(argv),
  restore: async argv => (await import('./restore.ts')).runRestore(argv),
  aa: runAa,
  ref: runRef,
  version: argv => (asksForHelp(argv) ? say('usage: ipref version') : gateway(['-version'])),
  help: ([name]) =>
    name !== undefined && Object.hasOwn(commands, name) ? commands[name]!(['-help']) : say(USAGE.trimEnd()),
}

async function run([name = 'help', ...rest]: Argv): Promise<number> {
  const wanted = asksForHelp([name]) ? 'help' : name.replace(/^--?(?=version$)/, '')
  if (Object.hasOwn(commands, wanted)) return commands[wanted]!(rest)
  process.stderr.write(`ipref: unknown command ${name}\n\n${USAGE}`)
  return 2
}

process.exitCode = await run(process.argv.slice(2))
