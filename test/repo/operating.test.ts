/**
 * The pages for those who run it agree with the chart and the programs: values, settings, metrics, alerts, reasons and options that they name are there, and what they
 * say of privileges and alerts is what the chart has.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { USAGE as BACKUP } from '../../cli/backup.ts'
import { USAGE as CHECK } from '../../cli/check.ts'
import { USAGE as RESTORE } from '../../cli/restore.ts'
import { USAGE as STATUS } from '../../cli/status.ts'
import { USAGE as TRACE } from '../../cli/trace.ts'
import { parseConfig } from '../../resources/config.ts'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { ROOT, read } from './files.ts'

type Tree = Record<string, unknown>

const pages = ['operating', 'security', 'compatibility'].map(name => `docs/${name}.md`)
const values = readYaml(read('helm/ipref/values.yaml'))[0]!.value as Tree
const alerts = readYaml(read('helm/ipref/files/alerts.yaml'))[0]!.value as Tree
const settings = read('docs/resources.md').split('## Settings of the platform')[1]!
const usages: Readonly<Record<string, string>> = {
  backup: BACKUP,
  restore: RESTORE,
  check: CHECK,
  status: STATUS,
  trace: TRACE,
}

function at(tree: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, step) => (isTree(value) ? value[step] : undefined), tree)
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Words between backticks. */
function namesIn(page: string): string[] {
  const prose = read(page).replaceAll(/^ *```[\s\S]*?^ *```$/gm, '')
  return [...prose.matchAll(/`([^`\n]+)`/g)].map(match => match[1]!)
}

/** The one of the page's tables whose first column has this title: its first column. */
function firstColumn(page: string, title: string): string[] {
  const lines = read(page).split('\n')
  const from = lines.findIndex(line => line.startsWith(`| ${title} |`))
  const rows = lines.slice(from + 2)
  const end = rows.findIndex(line => !line.startsWith('|'))
  return rows.slice(0, end).map(line => line.split('|')[1]!.trim().replaceAll('`', ''))
}

function isSetting(path: readonly string[]): boolean {
  const name = path.join('.')
  return settings.includes(`| \`${name}\` |`) || settings.includes(`| \`${name}[]`) || settings.includes(`| \`${name}.`)
}

describe.each(pages)('%s', page => {
  const names = namesIn(page)
  const sections = Object.keys(values).filter(name => isTree(values[name]))

  it('names values of the chart that there are', () => {
    const named = names.filter(
      name => sections.some(section => name.startsWith(`${section}.`)) && /^[\w.]+$/.test(name),
    )
    const missing = named.filter(name => {
      const path = name.split('.')
      return path[0] === 'config' ? !isSetting(path.slice(1)) : at(values, path) === undefined
    })
    expect(missing).toEqual([])
  })

  it('names metrics that there are', () => {
    const named = names.filter(name => /^ipref_\w+$/.test(name) && name !== 'ipref_node')
    expect(named.filter(name => !read('docs/metrics.md').includes(`\`${name}\``))).toEqual([])
  })

  it('names files that there are', () => {
    const named = names.filter(name => /^(test|docs|helm|crds)\/[\w./]+$/.test(name))
    expect(named.filter(name => !existsSync(join(ROOT, name)))).toEqual([])
  })

  it('names suites of networks that there are', () => {
    const suites = [...read(page).matchAll(/npm run test:netns -- ([a-z]+)/g)].map(match => match[1]!)
    const files = readdirSync(join(ROOT, 'test/netns'))
    expect(suites.filter(name => !files.includes(`${name}.test.ts`))).toEqual([])
  })
})

describe('docs/operating.md', () => {
  const page = 'docs/operating.md'

  it('explains each alert of the chart, and no other', () => {
    expect(firstColumn(page, 'alert').sort()).toEqual(Object.keys(alerts).sort())
  })

  it('names reasons of conditions that there are', () => {
    const documented = read('docs/operator.md')
    const reasons = namesIn(page).filter(name => /^([A-Z][a-z]+){2,}$/.test(name) && !/^(Ipref|Published)/.test(name))
    expect(reasons.filter(name => !documented.includes(`\`${name}\``) && !name.startsWith('Node'))).toEqual([])
    expect(reasons.length).toBeGreaterThan(10)
  })

  it.each([...read(page).matchAll(/^```yaml values\n([\s\S]*?)^```$/gm)].map(match => match[1]!))(
    'values are values (%#)',
    text => {
      const given = readYaml(text)[0]!
      expect(given.problems).toEqual([])
      const { config, ...others } = given.value as Tree
      const missing = (tree: Tree, path: string[]): string[] =>
        Object.entries(tree).flatMap(([name, value]) => {
          const known = at(values, [...path, name])
          if (known === undefined) return [[...path, name].join('.')]
          return isTree(value) && isTree(known) && Object.keys(known).length > 0 ? missing(value, [...path, name]) : []
        })
      expect(missing(others, [])).toEqual([])
      // the chart says where the resolvers are
      const { clusterDns, ...said } = config as Tree
      const resolver = at(others, ['resolver', 'service', 'clusterIP'])
      const whole = { ...(values.config as Tree), ...said, clusterDns: { ...(clusterDns as Tree), resolver } }
      expect(parseConfig(writeYaml(whole), page)).toHaveProperty('config')
    },
  )
})

describe('docs/security.md', () => {
  const rows = new Map(
    read('docs/security.md')
      .split('\n')
      .filter(line => line.startsWith('| ') && line.split('|').length === 6)
      .map(line => [line.split('|')[1]!.trim(), line] as const),
  )
  const helpers = read('helm/ipref/templates/_helpers.tpl')
  const block = (name: string) => helpers.split(`define "${name}"`)[1]!.split('{{- define')[0]!

  it('says the capabilities that the chart gives', () => {
    const added = [...block('ipref.nodeSecurity').matchAll(/add: \[([^\]]*)\]/g)].map(match => match[1]!)
    expect(added).toEqual(['NET_ADMIN'])
    expect(rows.get('capabilities')).toContain('| `NET_ADMIN`, all others dropped | none |')
    expect(block('ipref.restricted')).toContain('drop: [ALL]')
    expect(block('ipref.restricted')).not.toContain('add:')
  })

  it('says what is mounted of the node', () => {
    const paths = [...block('ipref.nodeVolumes').matchAll(/hostPath: \{ path: ([^,]+),/g)].map(match => match[1]!)
    expect(paths).toEqual(['/dev/net/tun', '{{ .Values.gateway.dataPath | quote }}'])
    expect(rows.get('of the node')).toContain(
      '| its network, `/dev/net/tun`, the folder `gateway.dataPath` | nothing |',
    )
  })
})

describe('options in the pages', () => {
  const commands = pages
    .concat('docs/check.md', 'README.md', 'docs/dns.md', 'docs/operator.md')
    .filter(page => existsSync(join(ROOT, page)))
    .flatMap(page =>
      [...read(page).matchAll(/\bipref (backup|restore|check|status|trace)\b([^\n`|]*)/g)].map(match => ({
        page,
        command: match[1]!,
        options: [...match[2]!.matchAll(/(?:^|\s)(-{1,2}[a-zA-Z][\w-]*)/g)].map(option => option[1]!),
      })),
    )
    .filter(({ options }) => options.length > 0)

  it.each(commands)('$page: ipref $command takes $options', ({ command, options }) => {
    const usage = usages[command]!
    expect(options.filter(name => !new RegExp(`(^|[\\s[|])${name}\\b`, 'm').test(usage))).toEqual([])
  })

  it('some are found', () => expect(commands.length).toBeGreaterThan(8))
})
