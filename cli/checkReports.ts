/**
 * What `ipref check` found, as text (stepLines.ts), as JUnit XML, and as an exit code. Pure.
 */
import type { Step } from '../runtime/steps.ts'
import { exitCodeOfSteps, stepLines } from './stepLines.ts'

/** One thing that was checked: a name, a peer, the node; its steps in order. */
export interface Checked {
  subject: string
  steps: Step[]
}

/** Exit code: it could not be checked; else as stepLines.ts says. */
export const NOT_CHECKED = 2

export function exitCodeOf(all: readonly Checked[]): number {
  return exitCodeOfSteps(all.flatMap(one => one.steps))
}

// ---- for people

export function renderChecked(all: readonly Checked[]): string {
  return all.map(one => [...(all.length > 1 ? [`${one.subject}:`] : []), ...linesOf(one)].join('\n')).join('\n\n')
}

function linesOf({ subject, steps }: Checked): string[] {
  return [...stepLines(steps), ...verdictOf({ subject, steps })].map(printable)
}

/** The first thing that is wrong, and what to do about it; else what is to be looked at. */
export function verdictOf({ subject, steps }: Checked): string[] {
  const wrong = steps.filter(step => !step.ok)
  const first = wrong[0] ?? steps.find(step => step.warns)
  const fix = first?.fix ? [`→ ${first.fix}`] : []
  if (!first) return [steps.length === 0 ? `${subject}: nothing was checked` : `${subject}: all is well`]
  if (wrong.length === 0) return [`${subject}: it works, but ${first.what}: ${first.detail}`, ...fix]
  const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : ''
  return [`${subject}: ${first.what}: ${first.detail}${more}`, ...fix]
}

// what others put into names and records must not move the cursor
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}

// ---- for machines

/** JUnit XML, as CI servers read it: a suite for each subject, a case for each step. */
export function renderJunit(all: readonly Checked[]): string {
  const steps = all.flatMap(one => one.steps)
  const suites = all.map(one => suiteOf(one)).join('')
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="ipref check" ${countsOf(steps)}>\n${suites}</testsuites>\n`
}

function countsOf(steps: readonly Step[]): string {
  const failures = steps.filter(step => !step.ok).length
  const seconds = steps.reduce((sum, step) => sum + (step.ms ?? 0), 0) / 1000
  return `tests="${steps.length}" failures="${failures}" errors="0" skipped="0" time="${seconds.toFixed(3)}"`
}

function suiteOf({ subject, steps }: Checked): string {
  const cases = steps.map(step => caseOf(subject, step)).join('')
  return `  <testsuite name="${escapeXml(subject)}" ${countsOf(steps)}>\n${cases}  </testsuite>\n`
}

function caseOf(subject: string, step: Step): string {
  const { what, detail, fix, ok, warns, ms = 0 } = step
  const head = `    <testcase classname="${escapeXml(subject)}" name="${escapeXml(`${what}: ${detail}`)}" time="${(ms / 1000).toFixed(4)}"`
  const text = escapeXml(fix === undefined ? detail : `${detail}\n→ ${fix}`)
  if (!ok) return `${head}>\n      <failure message="${escapeXml(detail)}">${text}</failure>\n    </testcase>\n`
  if (warns) return `${head}>\n      <system-out>${escapeXml('warning: ')}${text}</system-out>\n    </testcase>\n`
  return `${head}/>\n`
}

/** What XML 1.0 does not allow at all (section 2.2) becomes a question mark: no escape makes it legal. */
export function escapeXml(text: string): string {
  const marks: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&apos;',
  }
  return text
    .toWellFormed()
    .replace(/[^\P{Cc}\t\r\n]|[\ufffe\uffff]/gu, '?')
    .replace(/[&<>"']/g, mark => marks[mark]!)
    .replace(/[\t\r\n]/g, space => `&#${space.charCodeAt(0)};`)
}
