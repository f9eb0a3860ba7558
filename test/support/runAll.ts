/**
 * `npm test`: every suite, one after the other, and one line at the end that adds them up.
 *
 *   types ─ lint ─ unit, property, contract, repository rules (vitest) ─ conformance ─ networks ─ API server (vitest)
 *
 * Types and lint count as one check each. Suites of our own say `N passed, N failed, N skipped` in their last line; vitest
 * writes a file. A suite that ends badly without a failed test counts as one failure. Reasons of skipped checks are repeated
 * before the last line, so that "green" cannot mean "skipped".
 *
 * The API server is that of KUBECONFIG, or one started from the programs of KUBEBUILDER_ASSETS or of test/cluster, which are
 * built here, once, where Go is installed (not with IPREF_NO_BUILD=1). Without, each of its tests counts as skipped.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Tally } from './checks.ts'

const ROOT = join(import.meta.dirname, '../..')

interface SuiteResult extends Tally {
  /** reasons of skipped checks */
  reasons: string[]
}

interface Suite {
  name: string
  run(): Promise<SuiteResult>
}

const folder = mkdtempSync(join(tmpdir(), 'ipref-test-'))
const vitest = 'node_modules/vitest/vitest.mjs'
const apiConfig = 'vitest.api.config.ts'

const suites: readonly Suite[] = [
  { name: 'types', run: () => asOneCheck(['node_modules/typescript/bin/tsc', '-p', '.']) },
  { name: 'lint', run: () => asOneCheck(['node_modules/@biomejs/biome/bin/biome', 'check', '.']) },
  { name: 'units, properties, contracts, repository', run: () => runVitest('vitest.config.ts') },
  { name: 'conformance', run: () => asOwnSuite(['test/conformance/run.ts']) },
  { name: 'networks', run: () => asOwnSuite(['test/netns/run.ts']) },
  { name: 'API server', run: runApiServer },
]

async function main(): Promise<number> {
  const total: SuiteResult = { passed: 0, failed: 0, skipped: 0, reasons: [] }
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
  }
  rmSync(folder, { recursive: true, force: true })
  say(`\n=== all, ${secondsSince(began)} s\n${timings.join('\n')}`)
  for (const reason of total.reasons) say(`skipped: ${reason}`)
  say(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  return total.failed === 0 ? 0 : 1
}

async function asOneCheck(argv: readonly string[]): Promise<SuiteResult> {
  const { code } = await runNode(argv)
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, reasons: [] }
}

async function asOwnSuite(argv: readonly string[]): Promise<SuiteResult> {
  const { code, output } = await runNode(argv)
  const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1)
  const [passed = 0, failed = 0, skipped = 0] = (counts ?? []).slice(1).map(Number)
  const reasons = [...output.matchAll(/^\s*(?:skip|skipped) +(\S.*)$/gm)].map(match => match[1]!)
  return { passed, failed: failed === 0 && code !== 0 ? 1 : failed, skipped, reasons }
}

interface VitestReport {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  testResults: { status: string; assertionResults: { status: string; fullName: string; title: string }[] }[]
}

async function runApiServer(): Promise<SuiteResult> {
  const setup = await runProgram('bash', ['test/cluster/setup', 'api'], { IPREF_NO_INSTALL: '1' })
  const result = await runVitest(apiConfig)
  // a server that could be had and did not start is a failure
  if (setup.code === 0) return { ...result, failed: result.failed + (result.passed === 0 ? 1 : 0) }
  const missing = setup.output.trimEnd().split('\n').at(-1)!
  const reason = `${missing.replace(/^.*error: /, '')}; npm run setup:cluster sees to it`
  // at least one, so that what cannot even be counted is missed
  const skipped = Math.max(1, result.skipped)
  return { ...result, skipped, reasons: [`${skipped} tests: ${reason}`] }
}

async function runVitest(config: string): Promise<SuiteResult> {
  const file = join(folder, `${config}.json`)
  const { code } = await runNode([
    vitest,
    'run',
    '--config',
    config,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
  ])
  const report = readJson<VitestReport>(file)
  if (!report) return { passed: 0, failed: 1, skipped: 0, reasons: [] }
  const tests = report.testResults.flatMap(result => result.assertionResults)
  const skipped = tests.filter(test => test.status !== 'passed' && test.status !== 'failed')
  // a file that cannot be loaded has no tests to count
  const broken = report.testResults.filter(
    r => r.status === 'failed' && !r.assertionResults.some(t => t.status === 'failed'),
  ).length
  const failed = report.numFailedTests + broken
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && code !== 0 ? 1 : failed,
    skipped: skipped.length,
    reasons: skipped.map(test => test.fullName),
  }
}

function readJson<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch {
    return undefined
  }
}

function runNode(argv: readonly string[]): Promise<{ code: number; output: string }> {
  return runProgram(process.execPath, argv, {})
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
