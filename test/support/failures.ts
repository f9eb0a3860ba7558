/**
 * What failed, for the end of `npm test`: there it is found when only the end of the output is kept.
 *
 *   vitest (summaryReporter.ts) ───┐
 *   `FAIL  name` and lines below ──┼──► { test, lines } ──► shownFailures ──► failed: SUITE: test
 *   the end of any other output ───┘                                            first lines of why
 */
import { stripVTControlCharacters } from 'node:util'

const MOST_LINES = 10
const MOST_WIDTH = 300
/** Beyond, only counted: many tests that fail have one cause. */
const MOST_SHOWN = 25

export interface Failure {
  /** where there is one, the file before the full name */
  test: string
  lines: string[]
}

/** Of suites of our own: `FAIL  name  1.2 s` with lines further in below it, or `FAILED name: why`. */
export function failuresOfOutput(output: string): Failure[] {
  const lines = stripVTControlCharacters(output).split('\n')
  return lines.flatMap((line, i) => {
    const [, indent, test] = /^( *)FAIL(?:ED)? +(\S.*)$/.exec(line) ?? []
    if (test === undefined) return []
    const rest = lines.slice(i + 1)
    const end = rest.findIndex(one => !one.startsWith(`${indent}    `))
    const name = test.replace(/ {2,}([\d.]+ s)$/, ' ($1)')
    return [{ test: shortened(name), lines: reasonLines(rest.slice(0, end < 0 ? undefined : end).join('\n')) }]
  })
}

/** How the output of a program ended. */
export function lastLines(output: string): string[] {
  return stripVTControlCharacters(output)
    .split('\n')
    .filter(line => line.trim() !== '')
    .slice(-MOST_LINES)
    .map(shortened)
}

/** The beginning, without what fast-check and stacks add; of more than fits, the last line stays, which says where. */
export function reasonLines(text: string): string[] {
  const lines = stripVTControlCharacters(text)
    .split('\n')
    .filter(line => line.trim() !== '' && !/^Hint: |^\s+at .*(?:node_modules|node:)/.test(line))
    .map(line => shortened(line.trim()))
  return lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES - 1), lines.at(-1)!] : lines
}

export function shownFailures(failures: readonly Failure[]): string[] {
  const shown = failures
    .slice(0, MOST_SHOWN)
    .flatMap(({ test, lines }) => [`failed: ${test}`, ...lines.map(line => `        ${line}`)])
  return failures.length > MOST_SHOWN ? [...shown, `failed: ${failures.length - MOST_SHOWN} more`] : shown
}

function shortened(line: string): string {
  return line.length > MOST_WIDTH ? `${line.slice(0, MOST_WIDTH)}…` : line
}
