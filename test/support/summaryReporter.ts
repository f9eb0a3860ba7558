/**
 * A reporter of vitest for `npm test`: writes to the file of IPREF_TEST_SUMMARY what passed, what was skipped and what failed.
 *
 * vitest's own JSON has neither why a test took too long, nor causes (what a property found), nor errors outside of tests.
 */
import { writeFileSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import type { Reporter, SerializedError, TestCase, TestModule, TestSuite } from 'vitest/node'
import { type Failure, reasonLines } from './failures.ts'

export interface VitestSummary {
  passed: number
  /** full names */
  skipped: string[]
  /** tests, hooks, files that cannot be loaded, errors outside of tests */
  failures: Failure[]
}

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const summary: VitestSummary = { passed: 0, skipped: [], failures: [] }
    for (const module of modules) addModule(module, summary)
    for (const error of unhandled) summary.failures.push({ test: 'outside of all tests', lines: linesOf([error]) })
    writeFileSync(process.env.IPREF_TEST_SUMMARY!, JSON.stringify(summary))
  }
}

function addModule(module: TestModule, summary: VitestSummary): void {
  const file = module.relativeModuleId
  const failed = (name: string, errors: readonly SerializedError[]) =>
    summary.failures.push({ test: name === '' ? file : `${file}: ${name}`, lines: linesOf(errors) })
  if (module.errors().length > 0) failed('', module.errors())
  for (const suite of module.children.allSuites()) if (suite.errors().length > 0) failed(nameOf(suite), suite.errors())
  for (const test of module.children.allTests()) {
    const { state, errors } = test.result()
    if (state === 'passed') summary.passed++
    else if (state === 'failed') failed(nameOf(test), errors)
    else summary.skipped.push(nameOf(test))
  }
}

function nameOf({ fullName }: TestCase | TestSuite): string {
  return fullName.replaceAll(' > ', ' ')
}

function linesOf(errors: readonly SerializedError[]): string[] {
  const texts: string[] = []
  for (const error of errors) {
    const place = error.stacks?.find(({ file }) => !file.includes('node_modules'))
    // the cause of a property that failed is what its last run threw
    for (let one: unknown = error, i = 0; isError(one) && i < 3; one = one.cause, i++)
      texts.push(`${i === 0 ? '' : 'because: '}${one.message}`, ...differences(one.diff))
    if (place) texts.push(`at ${place.file.replace(`${process.cwd()}/`, '')}:${place.line}`)
  }
  return reasonLines(texts.join('\n'))
}

function differences(diff = ''): string[] {
  return stripVTControlCharacters(diff)
    .split('\n')
    .filter(line => /^[-+] +[^- +]/.test(line))
    .slice(0, 4)
}

function isError(value: unknown): value is { message: string; cause?: unknown; diff?: string } {
  return typeof value === 'object' && value !== null && 'message' in value
}
