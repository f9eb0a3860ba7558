/**
 * `npm test [-- --kind --arm64]`: every suite, one after the other, and one line at the end that adds them up.
 *
 *   types ─ lint ─ unit, property, contract, repository rules (vitest) ─ conformance ─ networks ─ API server (vitest) ─ with --kind: two kind clusters
 *   ─ with --arm64: the image for arm64, emulated
 *
 * Types and lint count as one check each. Suites of our own say `N passed, N failed, N skipped` in their last line; of vitest
 * summaryReporter.ts writes a file. A suite that ends badly without a failed test counts as one failure. What failed is repeated, by name and
 * with the first lines of why, before the sums, and so are the reasons of skipped checks: "green" cannot mean "skipped".
 *
 * The API server is that of KUBECONFIG, or one started from the programs of KUBEBUILDER_ASSETS or of test/cluster, which are
 * built here, once, where Go is installed (not with IPREF_NO_BUILD=1). Without, each of its tests counts as skipped. The kind clusters
 * take ten minutes and the image for arm64 up to ten, so they have to be asked for; `.ci/run` asks for the clusters.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Tally } from './checks.ts'
import { type Failure, failuresOfOutput, lastLines, shownFailures } from './failures.ts'
import type { VitestSummary } from './summaryReporter.ts'

const ROOT = join(import.meta.dirname, '../..')

interface SuiteResult extends Tally {
  /** reasons of skipped checks */
  reasons: string[]
  failures: Failure[]
}

interface Suite {
  name: string
  run(): Promise<SuiteResult>
}

const folder = mkdtempSync(join(tmpdir(), 'ipref-test-'))
const vitest = 'node_modules/vitest/vitest.mjs'
const apiConfig = 'vitest.api.config.ts'
/** Without those that take clusters apart or make more of them, a quarter of an hour more: faults, lifecycle, dualstack. `npm run test:kind` has all. */
const KIND_FILES = ['quickstart', 'publish', 'check', 'shapes', 'figures']

const suites: readonly Suite[] = [
  { name: 'types', run: () => asOneCheck(['node_modules/typescript/bin/tsc', '-p', '.']) },
  { name: 'lint', run: () => asOneCheck(['node_modules/@biomejs/biome/bin/biome', 'check', '.']) },
  { name: 'units, properties, contracts, repository', run: () => runVitest('vitest.config.ts') },
  { name: 'conformance', run: () => asOwnSuite(['test/conformance/run.ts']) },
  { name: 'networks', run: () => asOwnSuite(['test/netns/run.ts']) },
  { name: 'API server', run: runApiServer },
  ...(process.argv.includes('--kind') ? [{ name: 'kind clusters', run: runKind }] : []),
  ...(process.argv.includes('--arm64') ? [{ name: 'arm64', run: () => asOwnSuite(['test/arm64/run.ts']) }] : []),
]

async function main(): Promise<number> {
  const total: SuiteResult = { passed: 0, failed: 0, skipped: 0, reasons: [], failures: [] }
  const timings: string[] = []
  const began = performance.now()
  for (const suite of suites) {
    say(`\n=== ${suite.name}`)
    const started = performance.now()
    const result = await suite.run()
    const { passed, failed, skipped } = result
    timings.push(`${suite.name}: ${passed} passed, ${failed} failed, ${skipped} skipped (${secondsSince(started)} s)`)
    total.passed += passed
    total.failed += failed
    total.skipped += skipped
    total.reasons.push(...result.reasons.map(reason => `${suite.name}: ${reason}`))
    total.failures.push(...result.failures.map(({ test, lines }) => ({ test: `${suite.name}: ${test}`, lines })))
  }
  rmSync(folder, { recursive: true, force: true })
  say(`\n=== all, ${secondsSince(began)} s`)
  for (const line of shownFailures(total.failures)) say(line)
  say(timings.join('\n'))
  for (const reason of total.reasons) say(`skipped: ${reason}`)
  say(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  return total.failed === 0 ? 0 : 1
}

async function asOneCheck(argv: readonly string[]): Promise<SuiteResult> {
  const { code, output } = await runNode(argv)
  if (code === 0) return { passed: 1, failed: 0, skipped: 0, reasons: [], failures: [] }
  return { passed: 0, failed: 1, skipped: 0, reasons: [], failures: [endedBadly(code, output)] }
}

async function asOwnSuite(argv: readonly string[]): Promise<SuiteResult> {
  const { code, output } = await runNode(argv)
  const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1)
  const [passed = 0, failed = 0, skipped = 0] = (counts ?? []).slice(1).map(Number)
  const reasons = [...output.matchAll(/^\s*(?:skip|skipped) +(\S.*)$/gm)].map(match => match[1]!)
  // what failed and was well when it was run once more does not count
  const named = failed === 0 ? [] : failuresOfOutput(output)
  const failures = code !== 0 && named.length === 0 ? [endedBadly(code, output)] : named
  return { passed, failed: failed === 0 && code !== 0 ? 1 : failed, skipped, reasons, failures }
}

function endedBadly(code: number, output: string): Failure {
  return { test: `ended with ${code}`, lines: lastLines(output) }
}

async function runApiServer(): Promise<SuiteResult> {
  const setup = await runProgram('bash', ['test/cluster/setup', 'api'], { IPREF_NO_INSTALL: '1' })
  const result = await runVitest(apiConfig)
  // a server that could be had and did not start is a failure
  if (setup.code === 0 && result.passed > 0) return result
  if (setup.code === 0) {
    const nothing: Failure = { test: 'no test passed', lines: [] }
    return { ...result, failed: result.failed + 1, failures: [...result.failures, nothing] }
  }
  const missing = setup.output.trimEnd().split('\n').at(-1)!
  const reason = `${missing.replace(/^.*error: /, '')}; npm run setup:cluster sees to it`
  // at least one, so that what cannot even be counted is missed
  const skipped = Math.max(1, result.skipped)
  return { ...result, skipped, reasons: [`${skipped} tests: ${reason}`] }
}

async function runKind(): Promise<SuiteResult> {
  const setup = await runProgram('bash', ['test/cluster/setup', 'kind'], {})
  if (setup.code === 0) return asOwnSuite(['test/kind/run.ts', ...KIND_FILES])
  const missing = setup.output.trimEnd().split('\n').at(-1)!
  return { passed: 0, failed: 0, skipped: 1, reasons: [missing.replace(/^.*error: /, '')], failures: [] }
}

async function runVitest(config: string): Promise<SuiteResult> {
  const file = join(folder, `${config}.json`)
  const { code, output } = await runNode(
    [vitest, 'run', '--config', config, '--reporter=default', '--reporter=./test/support/summaryReporter.ts'],
    { IPREF_TEST_SUMMARY: file },
  )
  const summary = readJson<VitestSummary>(file)
  if (!summary) return { passed: 0, failed: 1, skipped: 0, reasons: [], failures: [endedBadly(code, output)] }
  const { passed, skipped } = summary
  const isSilent = code !== 0 && summary.failures.length === 0
  const failures = isSilent ? [endedBadly(code, output)] : summary.failures
  return { passed, failed: failures.length, skipped: skipped.length, reasons: skipped, failures }
}

function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch {
    return undefined
  }
}

function runNode(
  argv: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ code: number; output: string }> {
  return runProgram(process.execPath, argv, environment)
}

/** Everything that the program prints is passed on at once. */
function runProgram(
  program: string,
  argv: readonly string[],
  environment: Record<string, string>,
): Promise<{ code: number; output: string }> {
  return new Promise(resolve => {
    const env = { ...process.env, ...environment }
    const child = spawn(program, [...argv], { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', (text: string) => {
        output += text
        process.stdout.write(text)
      })
    }
    child.on('error', error => resolve({ code: 127, output: error.message }))
    child.on('close', code => resolve({ code: code ?? 1, output }))
  })
}

function secondsSince(started: number): number {
  return Math.round((performance.now() - started) / 1000)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exitCode = await main()
