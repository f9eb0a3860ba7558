/**
 * Every example in the pages is read by what it is written for. The word behind the fence says how:
 *
 *   zone ORIGIN [FILE]    the reader of zone files, and the lint of AA records         sh, console   commands of ours: their options are checked by the programs
 *   yaml ipref-config.yaml   settings of the platform                             yaml manifest   objects of our kinds
 *   yaml values           values of the chart (operating.test.ts)
 *   yaml, corefile, key   written to FILE, where commands of the same page find them    hosts         the reader of hosts files
 *   knot, nsd, named      the program's own check, where it is installed                (nothing)     drawings: not read
 *
 * Paths below /etc in a command lead to the files of its page.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { lintZone } from '../../dns/aaLint.ts'
import { parseName } from '../../dns/name.ts'
import { readZone } from '../../dns/zoneFiles.ts'
import { parseGatewayConfig } from '../../gateway/config.ts'
import { parseAgentConfig } from '../../gateway/dns/agentConfig.ts'
import { parseResolverConfig } from '../../gateway/dns/resolverConfig.ts'
import { parseHostsFile } from '../../ipref/hostsFile.ts'
import { parseOperatorConfig } from '../../operator/operatorOptions.ts'
import { parseConfig } from '../../resources/config.ts'
import { parseManifests } from '../../resources/manifests.ts'
import { validate } from '../../resources/schema/tables.ts'
import { ROOT, read } from './files.ts'

interface Example {
  page: string
  line: number
  kind: string
  words: string[]
  text: string
}

const pages = [
  'README.md',
  ...['docs', 'dns', 'gateway/dns'].flatMap(folder =>
    readdirSync(join(ROOT, folder))
      .filter(name => name.endsWith('.md'))
      .map(name => `${folder}/${name}`),
  ),
]
const folder = mkdtempSync(join(tmpdir(), 'ipref-examples-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const examples: readonly Example[] = pages.flatMap(page => {
  const text = read(page)
  return [...text.matchAll(/^( *)```([^\n]*)\n([\s\S]*?)^ *```$/gm)].map(match => {
    const [kind = '', ...words] = match[2]!.trim().split(/\s+/)
    const indent = new RegExp(`^${match[1]}`, 'gm')
    const line = text.slice(0, match.index).split('\n').length
    return { page, line, kind, words, text: match[3]!.replace(indent, '') }
  })
})

function of(...kinds: string[]): Example[] {
  return examples.filter(example => kinds.includes(example.kind))
}

function ofYaml(file: string): Example[] {
  return of('yaml').filter(({ words }) => words.includes(file))
}

// each page has a folder of its own
function inFolder(page: string, text: string): string {
  return text.replaceAll(/(?<![\w./])\/etc\/(?!hosts\b)/g, `${join(folder, page.replaceAll('/', '_'))}/etc/`)
}

for (const { page, kind, words, text } of examples) {
  const file = words.find(word => word.startsWith('/etc/'))
  if (!file || kind === '') continue
  const path = inFolder(page, file)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, inFolder(page, text))
}

const readFile = (path: string) => readFileSync(path, 'utf8')
const programs: Readonly<Record<string, (argv: readonly string[]) => object>> = {
  gateway: argv => parseGatewayConfig(argv, readFile),
  resolver: argv => parseResolverConfig(argv, readFile),
  'dns-agent': argv => parseAgentConfig(argv, readFile),
  operator: argv => parseOperatorConfig(argv, readFile),
}

/** Words of each command of ours; a console has them behind `$`. */
const commands = of('sh', 'console').flatMap(({ page, line, kind, text }) =>
  text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter(one => kind === 'sh' || one.startsWith('$ '))
    .map(one => /(?:^|\s)(?:\.\/cli\/)?ipref ([a-z-]+)(.*)$/.exec(one.replace(/ #.*$/, '')))
    .filter(match => match !== null)
    .map(match => ({ where: `${page}:${line}`, page, program: match[1]!, rest: match[2]!.trim() })),
)

it('examples are found, each of a kind that is read', () => {
  const known = ['', 'zone', 'yaml', 'corefile', 'key', 'sh', 'console', 'hosts', 'knot', 'nsd', 'named']
  expect(examples.length).toBeGreaterThan(10)
  expect(examples.filter(({ kind }) => !known.includes(kind)).map(({ page, line }) => `${page}:${line}`)).toEqual([])
  for (const kind of known) expect([kind, of(kind).length > 0]).toEqual([kind, true])
})

describe('zone files', () => {
  it.each(of('zone'))('$page:$line is right, its AA records too', ({ page, words, text }) => {
    const origin = parseName(words[0]!)!
    const { zone, problems } = readZone(text, origin, page)
    expect(problems).toEqual([])
    const records = [...zone!.transfer()].slice(0, -1)
    expect(lintZone({ origin, records }, new Map()).findings).toEqual([])
  })

  it('some of them have AA records', () => {
    expect(of('zone').filter(({ text }) => /TXT +"AA /.test(text)).length).toBeGreaterThan(0)
  })
})

describe('commands', () => {
  it.each(commands.filter(({ program }) => programs[program]))('$where: ipref $program $rest', one => {
    const argv = inFolder(one.page, one.rest)
      .split(/\s+/)
      .filter(word => word !== '')
    expect(programs[one.program]!(argv)).toHaveProperty('config')
  })

  it('all programs are shown', () => {
    const shown = new Set(commands.map(({ program }) => program))
    expect(Object.keys(programs).filter(program => !shown.has(program))).toEqual([])
  })

  it.each(commands.filter(({ program }) => program === 'ref'))('$where: ipref ref $rest', ({ rest }) => {
    const { status } = spawnSync(join(ROOT, 'cli/ipref'), ['ref', ...rest.split(' ')])
    expect(status).toBe(0)
  })
})

describe('settings', () => {
  it.each(ofYaml('ipref-config.yaml'))('$page:$line is right as settings of the platform', ({ text, page }) => {
    expect(parseConfig(text, page)).toHaveProperty('config')
  })

  it.each(ofYaml('manifest'))('$page:$line are objects of ours', ({ text, page }) => {
    const { declared, problems } = parseManifests(page, text)
    expect(problems).toEqual([])
    expect(declared.length).toBeGreaterThan(0)
    expect(declared.flatMap(({ kind, object }) => validate(kind, object, undefined))).toEqual([])
  })

  it.each(
    of('yaml').filter(({ words }) => !words.some(word => ['ipref-config.yaml', 'manifest', 'values'].includes(word))),
  )('$page:$line is a configuration of the gateway', ({ page, text }) => {
    const parsed = parseGatewayConfig(['-config', 'example.yaml'], path =>
      path === 'example.yaml' ? inFolder(page, text) : readFile(path),
    )
    expect(parsed).toHaveProperty('config')
  })

  it.each(of('corefile'))('$page:$line is a configuration of the resolver', ({ text }) => {
    expect(parseResolverConfig(['-corefile', 'Corefile'], () => text)).toHaveProperty('config')
  })

  it.each(of('hosts'))('$page:$line has mappings and no mistakes', ({ text }) => {
    const { records, errors } = parseHostsFile(text)
    expect(errors).toEqual([])
    expect(records.length).toBeGreaterThan(0)
  })
})

describe('secondaries', () => {
  const checks: Readonly<Record<string, (file: string) => string[]>> = {
    knot: file => ['knotc', '-c', file, 'conf-check'],
    nsd: file => ['nsd-checkconf', file],
    named: file => ['named-checkconf', file],
  }
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

  describe.each(of(...Object.keys(checks)))('$page:$line', ({ kind, text }) => {
    const file = join(folder, `${kind}.conf`)
    const [program = '', ...args] = checks[kind]!(file)
    const isInstalled = spawnSync('sh', ['-c', `command -v ${program}`], { env }).status === 0

    it.skipIf(!isInstalled)(`${program} finds no mistake${isInstalled ? '' : ` (skipped: no ${program} here)`}`, () => {
      writeFileSync(file, text)
      const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8' })
      expect({ status, said: `${stdout}${stderr}` }).toMatchObject({ status: 0 })
    })
  })
})

describe('unit files', () => {
  const units = readdirSync(join(ROOT, 'docs')).filter(name => name.endsWith('.service'))
  const lines = units.flatMap(unit => {
    const text = read(`docs/${unit}`)
    const sources = /^Environment=SOURCES=(.*)$/m.exec(text)?.[1] ?? ''
    return [...text.matchAll(/\/opt\/ipref\/cli\/ipref ([a-z-]+) ([^'"\n]*)/g)].map(match => ({
      unit,
      program: match[1]!,
      argv: match[2]!
        .replace('$SOURCES', sources)
        .split(' ')
        .filter(word => word !== ''),
    }))
  })

  it.each(lines)('$unit: ipref $program $argv', ({ program, argv }) => {
    const smallest: Record<string, string> = { gateway: 'gateway: 198.51.100.1', resolver: 'upstream: 192.0.2.53' }
    const file = join(folder, `${program}.yaml`)
    writeFileSync(file, smallest[program] ?? '')
    const words = argv.map(word => (word.startsWith('/etc/ipref/') ? file : word))
    expect(programs[program]!(words)).toHaveProperty('config')
  })
})
