/** The plugin of kubectl says -kube for every command that knows it, and for no other. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const CLI = join(import.meta.dirname, '../../../cli')

it('asks the cluster with every command that can', async () => {
  const plugin = readFileSync(join(CLI, 'kubectl-ipref'), 'utf8')
  const ofTheCluster = /^ {2}([a-z |]+)\)$/m.exec(plugin)![1]!.split(' | ').sort()
  const knowing: string[] = []
  for (const file of readdirSync(CLI).filter(name => name.endsWith('.ts') && name !== 'main.ts')) {
    const { USAGE } = (await import(join(CLI, file))) as { USAGE?: string }
    const command = /^usage: ipref ([a-z]+)/.exec(USAGE ?? '')?.[1]
    if (command !== undefined && /(^|\s)-kube\b(?!config|-)/.test(USAGE!)) knowing.push(command)
  }
  expect(knowing.length).toBeGreaterThan(2)
  expect(knowing.sort()).toEqual(ofTheCluster)
})
