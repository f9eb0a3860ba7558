/**
 * `npm test`: every suite, one after the other, and one line at the end that adds them up.
 *
 *   types ─ lint ─ unit, property, contract, repository rules (vitest) ─ conformance ─ networks
 *
 * Types and lint count as one check each. Suites of our own say `N passed, N failed, N skipped` in their last line; vitest
 * writes a file. A suite that ends badly without a failed test counts as one failure. Reasons of skipped checks are repeated
 * before the last line, so that "green" cannot mean "skipped".
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

const suites: readonly Suite[] = [
  { name: 'types', run: () => asOneCheck(['node_modules/typescript/bin/tsc', '-p', '.']) },
  { name: 'lint', run: () => asOneCheck(['node_modules/@biomejs/biome/bin/biome', 'check', '.']) },
  { name: 'units, properties, contracts, repository', run: runVitest },
  { name: 'conformance', run: () => asOwnSuite(['test/conformance/run.ts']) },
  { name: 'networks', run: () => asOwnSuite(['test/netns/run.ts']) },
]

async function main(): Promise<number> {
  const total: SuiteResult = { passed: 0, failed: 0, skipped: 0, reasons: [] }
  const timings: string[] = []
  for (const suite of suites) {
    say(`\n=== ${suite.name}`)
    const started = performance.now()
    const result = await suite.run()
    const { passed, failed, skipped } = result
    timings.push(
      `${suite.name}: ${passed} passed, ${failed} failed, ${skipped} skipped (${Math.round((performance.now() - started) / 1000)} s)`,
    )
    total.passed += passed
    total.failed += failed
    total.skipped += skipped
    total.reasons.push(...result.reasons.map(reason => `${suite.name}: ${reason}`))
  }
  rmSync(folder, { recursive: true, force: true })
  say(`\n=== all\n${timings.join('\n')}`)
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

async function runVitest(): Promise<SuiteResult> {
  const file = join(folder, 'vitest.json')
  const { code } = await runNode([
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
  ])
  const report = readReport(file)
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

function readReport(file: string): VitestReport | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as VitestReport
  } catch {
    return undefined
  }
}

/** Everything that the program prints is passed on at once. */
function runNode(argv: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [...argv], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
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

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exitCode = await main()
