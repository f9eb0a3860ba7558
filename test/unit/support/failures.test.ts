/** What `npm test` says of failures at its end: which test, why, and of a property how to see it again. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { failuresOfOutput, lastLines, reasonLines, shownFailures } from '../../support/failures.ts'
import type { VitestSummary } from '../../support/summaryReporter.ts'

const ROOT = join(import.meta.dirname, '../../..')

const FILES = {
  'some.test.ts': `
    import fc from 'fast-check'
    import { describe, expect, it } from 'vitest'
    const numbers = fc.array(fc.integer())
    describe('some', () => {
      it('is right', () => {})
      it.skip('is left out', () => {})
      it('property', () => {
        fc.assert(fc.property(numbers, list => { expect(list.length).toBeLessThan(3) }), { seed: 7 })
      })
      it('is different', () => expect([1, { deep: 'here' }]).toEqual([1, { deep: 'there' }]))
      it('takes too long', () => new Promise(() => {}), 50)
    })`,
  'hook.test.ts': `
    import { beforeAll, describe, it } from 'vitest'
    describe('group', () => {
      beforeAll(() => { throw new Error('no server') })
      it('is not run', () => {})
    })`,
  'missing.test.ts': `import './notThere.ts'`,
  'outside.test.ts': `
    import { it } from 'vitest'
    it('is right', async () => {
      void Promise.reject(new Error('nobody waits for this'))
      await new Promise(setImmediate)
    })`,
}

it('of a run of vitest, each failure has its file, its name and why', { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-failures-'))
  const file = join(folder, 'summary.json')
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(folder, name), text)
  const reporter = join(ROOT, 'test/support/summaryReporter.ts')
  const args = [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--root', folder, `--reporter=${reporter}`]
  const env = { ...process.env, IPREF_TEST_SUMMARY: file }
  await new Promise(resolve => execFile(process.execPath, args, { cwd: folder, env }, resolve))
  const summary = JSON.parse(readFileSync(file, 'utf8')) as VitestSummary
  rmSync(folder, { recursive: true })
  expect(summary.passed).toBe(2)
  expect(summary.skipped.sort()).toEqual(['group is not run', 'some is left out'])
  const reasons = Object.fromEntries(summary.failures.map(({ test, lines }) => [test, lines.join('\n')]))
  expect(Object.keys(reasons).sort()).toEqual([
    'hook.test.ts: group',
    'missing.test.ts',
    'outside of all tests',
    'some.test.ts: some is different',
    'some.test.ts: some property',
    'some.test.ts: some takes too long',
  ])
  expect(reasons['hook.test.ts: group']).toContain('no server')
  expect(reasons['missing.test.ts']).toContain('notThere.ts')
  expect(reasons['outside of all tests']).toContain('nobody waits for this')
  expect(reasons['some.test.ts: some is different']).toMatch(/deep.*there.*\n.*deep.*here/)
  expect(reasons['some.test.ts: some takes too long']).toContain('timed out in 50ms')
  const property = reasons['some.test.ts: some property']
  expect(property).toMatch(/seed: 7, path: "[\d:]+"/)
  expect(property).toContain('Counterexample: [[0,0,0]]')
  expect(property).toContain('because: expected 3 to be less than 3')
  expect(property).toMatch(/at .*some\.test\.ts:\d+$/)
})

it('of suites of our own, the lines that say FAIL and what is below', () => {
  const output = [
    'ok    ping                          0.1 s',
    'FAIL  over IPv4: traceroute         2.0 s',
    '        expected 5 hops, found 3',
    '        \x1b[31mthe third is silent\x1b[0m',
    'ok    SERVFAIL for what is gone     0.1 s',
    '  FAILED enc-12 (a long one): threw Error',
    'FAIL  last                          0.1 s',
  ].join('\n')
  expect(failuresOfOutput(output)).toEqual([
    { test: 'over IPv4: traceroute (2.0 s)', lines: ['expected 5 hops, found 3', 'the third is silent'] },
    { test: 'enc-12 (a long one): threw Error', lines: [] },
    { test: 'last (0.1 s)', lines: [] },
  ])
})

it('is short: of many lines the first and where it was, of long lines the beginning, of many failures the first', () => {
  const many = Array.from({ length: 100 }, (_, i) => `line ${i}`).join('\n')
  expect(reasonLines(many)).toHaveLength(10)
  expect(reasonLines(many).at(-1)).toBe('line 99')
  expect(lastLines(`${many}\n\n`).at(-1)).toBe('line 99')
  expect(reasonLines('x'.repeat(10_000))[0]!.length).toBeLessThan(400)
  const shown = shownFailures(Array.from({ length: 40 }, (_, i) => ({ test: `test ${i}`, lines: ['why'] })))
  expect(shown.slice(0, 2)).toEqual(['failed: test 0', '        why'])
  expect(shown.at(-1)).toBe('failed: 15 more')
})
