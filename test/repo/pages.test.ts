/** README and docs agree with the program: commands exist, links lead somewhere, generated pages are up to date. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { publishMetricTable } from '../../gateway/dns/publishReports.ts'
import { resolverMetricTable } from '../../gateway/dns/resolverReports.ts'
import { metricTable } from '../../gateway/metrics.ts'
import { options } from '../../gateway/options.ts'
import { faultDescriptions, faultNames } from '../../ipref/faults.ts'
import { operatorMetricTable } from '../../operator/metrics.ts'
import { generatedPages } from '../support/writeDocs.ts'
import { ROOT, read } from './files.ts'

const { scripts, bin } = JSON.parse(read('package.json')) as {
  scripts: Record<string, string>
  bin: Record<string, string>
}
const pages = [
  'README.md',
  '.github/CONTRIBUTING.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
  ...['dns/README.md', 'gateway/dns/README.md', 'helm/ipref/README.md'],
]

describe.each(pages)('%s', page => {
  const text = read(page)

  it('names only scripts that exist', () => {
    const named = [...text.matchAll(/npm run ([\w:-]+)/g)].map(match => match[1]!)
    if (/npm test/.test(text)) named.push('test')
    expect(named.filter(name => scripts[name] === undefined)).toEqual([])
  })

  it('has links that lead to a file', () => {
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)].map(match => match[1]!)
    expect(links.filter(link => !existsSync(join(ROOT, dirname(page), link)))).toEqual([])
  })

  it('names only options of the gateway that exist', () => {
    const commands = [...text.matchAll(/ipref gateway((?: +-{1,2}[a-z][\w-]*(?: +[^\s`-]\S*)?)+)/g)].map(
      match => match[1]!,
    )
    const named = commands.flatMap(command => [...command.matchAll(/ -{1,2}([a-z][\w-]*)/g)].map(match => match[1]!))
    expect(named.filter(name => !options.has(name))).toEqual([])
  })
})

describe('package.json', () => {
  const files = Object.values(scripts).flatMap(line =>
    [...line.matchAll(/\b(?:node|sh) (\S+)/g)].map(match => match[1]!),
  )

  it.each([...files, ...Object.values(bin)])('%s exists', file => expect(existsSync(join(ROOT, file))).toBe(true))

  it('the two commands of the README are there', () => {
    expect(read('README.md')).toContain('npm ci && npm run demo')
    expect(read('README.md')).toContain('npm ci && npm test')
  })
})

describe('generated pages', () => {
  it.each(Object.entries(generatedPages))('%s is what npm run docs writes', (page, render) => {
    expect(read(page)).toBe(render())
  })

  it.each([...metricTable, ...resolverMetricTable, ...publishMetricTable, ...operatorMetricTable])(
    '$name is named and explained as a metric of ours',
    ({ name, kind, help }) => {
      expect(name).toMatch(/^ipref_[a-z0-9_]+$/)
      expect(name.endsWith('_total')).toBe(kind === 'counter')
      expect(help).not.toBe('')
      expect(read('docs/metrics.md')).toContain(`| \`${name}\` |`)
    },
  )

  it('every reason of refusal is explained', () => {
    expect(faultNames.filter(name => name !== 'none' && !faultDescriptions[name])).toEqual([])
  })
})
