/**
 * Runs `ipref check` in the pod of a gateway, by the kubectl of this machine: it brings credentials, exec plugins and proxies along, and needs the right
 * `pods/exec` in the operator's namespace. Where that does not go, the command is named, for somebody who may.
 */
import { execFile } from 'node:child_process'
import type { Step } from '../runtime/steps.ts'
import type { Checked } from './checkReports.ts'

const PATIENCE_MS = 600_000
const MOST_BYTES = 1 << 26

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

export interface PodExec {
  namespace: string
  pod: string
  /** flags of kubectl that say which cluster */
  cluster: readonly string[]
}

export type Run = (argv: readonly string[]) => Promise<Outcome>

export function kubectlArguments({ namespace, pod, cluster }: PodExec, words: readonly string[]): string[] {
  return [...cluster, 'exec', '-n', namespace, pod, '-c', 'gateway', '--', 'ipref', 'check', ...words]
}

/** What was checked in there; or a step that says why it was not, and how to do it. */
export async function checkInPod(
  exec: PodExec,
  words: readonly string[],
  run: Run = runKubectl,
): Promise<Checked[] | Step> {
  const argv = kubectlArguments(exec, words)
  const { stdout, stderr, code } = await run([...argv, '-json'])
  const found = parseChecked(stdout)
  if (found) return found
  const said = stderr.trim().split('\n')[0] || `exit code ${code}`
  return {
    what: `pod ${exec.pod}`,
    ok: true,
    warns: true,
    detail: `not checked from there: ${said}`,
    fix: `let somebody run it who may: kubectl ${argv.map(quoted).join(' ')}`,
  }
}

function parseChecked(text: string): Checked[] | undefined {
  try {
    const found: unknown = JSON.parse(text)
    return Array.isArray(found) && found.every(isChecked) ? found : undefined
  } catch {
    return undefined
  }
}

function isChecked(value: unknown): value is Checked {
  const { subject, steps } = (value ?? {}) as Partial<Checked>
  const isStep = (step: Step) => typeof step?.what === 'string' && typeof step.detail === 'string'
  return typeof subject === 'string' && Array.isArray(steps) && steps.every(isStep)
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

export function runKubectl(argv: readonly string[]): Promise<Outcome> {
  return new Promise(resolve => {
    execFile('kubectl', argv, { timeout: PATIENCE_MS, maxBuffer: MOST_BYTES }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : 127) : 0
      resolve({ code, stdout, stderr: stderr || (error ? error.message : '') })
    })
  })
}
