/** Short runs of the fuzzers, from seeds that stay; long ones are started by hand (`npm run fuzz`). */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const RUN = join(import.meta.dirname, '../fuzz/run.ts')

function fuzz(target: string): Promise<{ code: number | null; output: string }> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [RUN, target, '--seconds', '5', '--seed', '20'])
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text: Buffer) => {
        output += text
      })
    child.on('close', code => resolve({ code, output }))
  })
}

it.each(['packets', 'dns'])(
  '%s',
  async target => {
    const { code, output } = await fuzz(target)
    const problems = output.split('\n').filter(line => /^PROBLEM |repeat with --seed/.test(line))
    expect(problems.join('\n')).toBe('')
    expect(output).toMatch(/^\d+ passed, 0 failed, 0 skipped$/m)
    expect(code, output).toBe(0)
  },
  180_000,
)
