/**
 * Programs of the rig: Docker, and those of test/cluster (kubectl, helm, kind), found or built by its scripts.
 *
 * `tell` returns what a program said or throws it; `runProgram` of test/support is for those that may fail.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { type RunOptions, runProgram } from '../../support/netns.ts'

export const ROOT = join(import.meta.dirname, '../../..')
export const CLUSTER_SCRIPTS = join(ROOT, 'test/cluster')

/** What the program wrote to its standard output. Throws its last words where it fails. */
export async function tell(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await runProgram(argv, options)
  if (code === 0) return stdout.trim()
  const said = (stderr.trim() || stdout.trim()).split('\n').slice(-15).join('\n')
  throw new Error(`${argv.slice(0, 6).join(' ')} … ended with ${code}\n${said}`)
}

export function docker(...argv: string[]): Promise<string> {
  return tell(['docker', ...argv], { timeoutMs: 600_000 })
}

/** Whether Docker has it: `docker inspect`, with a type where names of several kinds may be the same. */
export async function dockerHas(type: 'container' | 'image' | 'network', name: string): Promise<boolean> {
  return (await runProgram(['docker', type, 'inspect', name])).code === 0
}

/** A script of test/cluster, whose progress is shown as it comes; what it answers is returned. */
export function clusterScript(argv: readonly string[], environment: Record<string, string> = {}): Promise<string> {
  const [script = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(join(CLUSTER_SCRIPTS, script), args, {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let answer = ''
    let last = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      answer += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      last = text.trim().split('\n').at(-1) ?? last
      process.stderr.write(text.replace(/^/gm, '        ').trimEnd().concat('\n'))
    })
    child.on('error', reject)
    child.on('close', code =>
      code === 0 ? resolve(answer.trim()) : reject(new Error(`${script}: ${last.replace(/^.*error: /, '')}`)),
    )
  })
}

/** Says how long it took, on a line of its own. */
export async function stage<T>(name: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now()
  try {
    return await work()
  } finally {
    process.stdout.write(`stage ${name.padEnd(66)} ${((performance.now() - started) / 1000).toFixed(1)} s\n`)
  }
}
