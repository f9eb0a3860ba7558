/**
 * `npm run test:netns`: real gateways, real TUN devices, in network namespaces. One line per check; the last line counts them.
 *
 *   npm run test:netns                 all files
 *   npm run test:netns -- mtu restart  those whose name holds one of the words
 *
 * Each file exports `run(checks)` and opens labs of its own. Where namespaces cannot be made, all is skipped with the reason.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Checks } from '../support/checks.ts'
import { isInsideUserNamespace, labSupport, reenter } from '../support/userNamespace.ts'

export interface NetworkTest {
  run(checks: Checks): Promise<void>
}

const SUFFIX = '.test.ts'

async function main(words: readonly string[]): Promise<number> {
  const files = readdirSync(import.meta.dirname)
    .filter(name => name.endsWith(SUFFIX) && (words.length === 0 || words.some(word => name.includes(word))))
    .sort()
  const checks = new Checks(say)
  const support = isInsideUserNamespace() ? ({ how: 'root' } as const) : labSupport()
  if (support.how === 'user-namespace') return reenter()
  for (const file of files) {
    if (support.how === 'none') {
      checks.skip(file, support.reason)
      continue
    }
    say(`--- ${file.slice(0, -SUFFIX.length)}`)
    const test = (await import(join(import.meta.dirname, file))) as NetworkTest
    // a lab that cannot be built fails by name, and the other files run
    await test.run(checks).catch((error: Error) => checks.check(`${file} runs to its end`, () => Promise.reject(error)))
  }
  say(checks.summary())
  return checks.tally.failed === 0 ? 0 : 1
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

// labs are removed on exit, so a signal only has to end the process in order
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130))
process.exit(await main(process.argv.slice(2)))
