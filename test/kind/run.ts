/**
 * `npm run test:kind`: our chart in two real clusters, with real pods between them (rig/rig.ts). One line for each check; the last line counts them.
 *
 *   npm run test:kind                        all files, then everything is removed
 *   npm run test:kind -- shapes              those whose name holds one of the words
 *   npm run test:kind -- --keep [WORD...]    the rig stays up, and the next run uses it
 *   npm run test:kind -- --up                the rig alone, kept
 *   npm run test:kind -- --down              removes it
 *   npm run test:kind -- figures --figures   with what takes minutes more: a thousand services, throughput
 *   npm run test:kind -- --json FILE         figures that were found, into a file as well
 *
 * Each file exports `run(checks, rig)`. Six machines in one now and then have no time for something: a file in which a check failed is run once more at the
 * end, and what it finds then is what counts. Where there can be no rig, each file counts as skipped, with the reason.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Checks } from '../support/checks.ts'
import { figureTable, writeFigures } from './rig/figures.ts'
import { closeRig, openRig, type Rig, rigProblem } from './rig/rig.ts'

export interface ClusterTest {
  run(checks: Checks, rig: Rig): Promise<void>
}

const SUFFIX = '.test.ts'
/** The order of the files; those that break things come last. */
const ORDER = ['quickstart', 'dualstack', 'publish', 'check', 'shapes', 'figures', 'faults', 'lifecycle']

async function main(argv: readonly string[]): Promise<number> {
  const words = argv.filter((word, i) => !word.startsWith('--') && argv[i - 1] !== '--json')
  const keeps = argv.includes('--keep') || argv.includes('--up')
  if (argv.includes('--down')) {
    await closeRig()
    return 0
  }
  const files = testFiles(words)
  const checks = new Checks(say)
  const problem = await rigProblem()
  if (problem) {
    for (const file of files) checks.skip(file, problem)
  } else {
    await runAll(checks, argv.includes('--up') ? [] : files)
    if (!keeps) await closeRig()
  }
  for (const line of figureTable()) say(line)
  const json = argv.indexOf('--json')
  if (json >= 0 && argv[json + 1]) writeFigures(argv[json + 1]!)
  say(checks.summary())
  return checks.tally.failed === 0 ? 0 : 1
}

async function runAll(checks: Checks, files: readonly string[]): Promise<void> {
  let rig: Rig | undefined
  await checks.check('the rig: two clusters with our chart', async () => {
    rig = await openRig().catch(async (error: Error) => {
      say(`${error.message}\n        once more, from nothing`)
      await closeRig()
      return openRig()
    })
    return undefined
  })
  const again: string[] = []
  for (const file of files) {
    say(`--- ${file.slice(0, -SUFFIX.length)}`)
    if (!rig) checks.skip(file, 'the rig is not up')
    else if (!(await runFile(checks, file, rig))) again.push(file)
  }
  for (const file of again) {
    say(`--- ${file.slice(0, -SUFFIX.length)}, once more`)
    await runFile(checks, file, rig!, 'last')
  }
}

/** Whether all went well, or it was the last time: only then its checks are counted. */
async function runFile(checks: Checks, file: string, rig: Rig, turn?: 'last'): Promise<boolean> {
  const own = new Checks(say)
  const { run } = (await import(join(import.meta.dirname, file))) as ClusterTest
  await run(own, rig).catch((error: Error) => own.check(`${file} runs to its end`, () => Promise.reject(error)))
  const counts = own.tally.failed === 0 || turn === 'last'
  if (counts) for (const name of ['passed', 'failed', 'skipped'] as const) checks.tally[name] += own.tally[name]
  return counts
}

function testFiles(words: readonly string[]): string[] {
  const place = (file: string) => ORDER.findIndex(word => file.startsWith(word))
  return readdirSync(import.meta.dirname)
    .filter(name => name.endsWith(SUFFIX) && (words.length === 0 || words.some(word => name.includes(word))))
    .sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1))
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exit(await main(process.argv.slice(2)))
