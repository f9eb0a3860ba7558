/**
 * `npm run fuzz -- [packets|dns] [--seconds 60] [--seed N]`: hostile bytes, mutated from valid ones and made up.
 *
 *   packets   encap, decap, the mapper socket's messages, the hosts file (the default)
 *   dns       the DNS codec, the resolver between hostile askers and servers, zone servers, transfers, zone text
 *
 * Ends with a table of what became of the messages, and with code 1 when anything threw, hung, did not add up or answered too much. A run is repeated by its seed.
 */
import { fuzzDns } from './dns.ts'
import { fuzzPackets } from './packets.ts'
import { Report } from './report.ts'

const targets = { packets: fuzzPackets, dns: fuzzDns } as const

function option(name: string, standard: number): number {
  const i = process.argv.indexOf(name)
  const value = i < 0 ? standard : Number(process.argv[i + 1])
  if (Number.isFinite(value)) return value
  console.error(`${name} has a number after it, such as ${name} 60`)
  process.exit(2)
}

const target = process.argv[2]?.startsWith('--') ? 'packets' : (process.argv[2] ?? 'packets')
if (!Object.hasOwn(targets, target)) {
  console.error(`${target} is none of ${Object.keys(targets).join(', ')}`)
  process.exit(2)
}
const seconds = option('--seconds', 60)
const seed = option('--seed', (Math.random() * 2 ** 31) | 0)
const report = new Report(seed)
report.promise('nothing is left unhandled')
for (const event of ['unhandledRejection', 'uncaughtException'] as const)
  process.on(event, (error: unknown) =>
    report.broken('nothing is left unhandled', error instanceof Error ? (error.stack ?? error.message) : String(error)),
  )
console.log(`seed ${seed}, ${seconds} s`)
try {
  await targets[target as keyof typeof targets]({ seconds, seed, report })
} catch (error) {
  report.broken('nothing is left unhandled', (error as Error).stack ?? String(error))
}
process.exit(report.end())
