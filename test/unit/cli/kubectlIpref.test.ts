/** The plugin of kubectl says -kube for every command that knows it, and for no other. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const CLI = join(import.meta.dirname, '../../../cli')

it('asks the cluster with every command that can', () => {
  const plugin = readFileSync(join(CLI, 'kubectl-ipref'), 'utf8')
  const ofTheCluster = /^ {2}([a-z |]+)\)$/m.exec(plugin)![1]!.split(' | ').sort()
  const help = execFileSync(join(CLI, 'ipref'), ['help'], { encoding: 'utf8' })
  const commands = [...help.matchAll(/^ {2}([a-z][a-z-]*)\b/gm)].map(match => match[1]!)
  const knowing = commands.filter(command => {
    // the gateway's -kube is of a node, not of a person
    if (command === 'gateway') return false
    const usage = execFileSync(join(CLI, 'ipref'), [command, '-help'], { encoding: 'utf8' })
    return /(^|\s)-kube\b(?!config|-)/.test(usage)
  })
  expect(knowing.length).toBeGreaterThan(2)
  expect([...new Set(knowing)].sort()).toEqual(ofTheCluster)
}, 120_000)
