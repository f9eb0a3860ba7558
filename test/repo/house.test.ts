/** The rules of the house: what may import what, what starts under plain Node, and documents that agree with the program. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { renderChecksumBytes } from '../../gateway/sys/buildChecksum.ts'
import { generatedPages } from '../support/writeDocs.ts'

const ROOT = join(import.meta.dirname, '../..')
const NODE = join(ROOT, 'node_modules/.bin/node')
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

function sources(folder: string): string[] {
  if (!existsSync(join(ROOT, folder))) return []
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map(name => `${folder}/${name}`)
}

/** What a file imports: paths from the root, or names of packages. */
function importsOf(file: string): { what: string; typeOnly: boolean }[] {
  return [...read(file).matchAll(/^(?:import|export) (type )?[^'"]*?from '([^']+)'|^import '([^']+)'/gms)].map(
    match => {
      const from = match[2] ?? match[3]!
      const what = from.startsWith('.') ? relative(ROOT, join(ROOT, dirname(file), from)) : from
      return { what, typeOnly: match[1] !== undefined }
    },
  )
}

/** Folder → folders it may import, besides itself; packages are not judged here. The longest folder that fits is meant. */
const arrows: Record<string, string[]> = {
  ipref: [],
  runtime: [],
  'gateway/forward': ['ipref'],
  'gateway/sys': [],
  'gateway/plane': ['ipref', 'gateway/forward', 'gateway/sys'],
  'gateway/mapper': ['ipref', 'runtime', 'gateway/sys', 'gateway/plane/mappings.ts'],
  'gateway/sources': ['ipref', 'runtime', 'gateway/mapper/assertions.ts'],
  'gateway/peers': ['ipref', 'gateway/plane/peerTable.ts'],
  gateway: ['ipref', 'runtime', 'gateway'],
  cli: ['ipref', 'runtime', 'gateway/main.ts', 'gateway/controlReports.ts'],
}
const folders = Object.keys(arrows).sort((a, b) => b.length - a.length)
const folderOf = (file: string) => folders.find(folder => file.startsWith(`${folder}/`))!

describe('arrows', () => {
  const files = ['ipref', 'runtime', 'gateway', 'cli'].flatMap(sources)
  it.each(files)('%s imports what its folder may', file => {
    const own = folderOf(file)
    const allowed = [own, ...arrows[own]!]
    for (const { what } of importsOf(file)) {
      if (!what.includes('/') || what.startsWith('node:') || what.startsWith('@')) continue
      const isOurs = ['ipref/', 'runtime/', 'gateway/', 'cli/', 'test/'].some(folder => what.startsWith(folder))
      const fits = allowed.some(place => what === place || what.startsWith(`${place}/`))
      expect(!isOurs || fits, `${file} imports ${what}`).toBe(true)
    }
  })
  it('koffi has one door', () => {
    expect(files.filter(file => importsOf(file).some(i => i.what === 'koffi'))).toEqual(['gateway/sys/libc.ts'])
  })
  it('the command line takes only types from reports, and starts programs in one place', () => {
    const others = sources('cli').filter(file =>
      importsOf(file).some(i => i.what.startsWith('gateway/') && !i.typeOnly),
    )
    expect(others).toEqual(['cli/main.ts'])
  })
  it('the environment is read in one place', () => {
    expect(files.filter(file => /process\.env/.test(read(file)))).toEqual(['gateway/gateway.ts'])
  })
})

describe('entry points start under plain Node', () => {
  it.each([
    [['cli/main.ts', 'help'], 0],
    [['cli/main.ts', 'gateway', '-gateway', '198.51.100.1', '-check-config'], 0],
    [['cli/main.ts', 'gateway', '-check-config'], 2],
    [['cli/main.ts', 'ref', '11'], 0],
    [['cli/main.ts', 'status', '-control-socket', '/nowhere/control.sock'], 1],
  ])('%j ends with %i', (argv, code) => {
    const { status, stderr } = spawnSync(NODE, argv, { cwd: ROOT, encoding: 'utf8' })
    expect(status, stderr).toBe(code)
    expect(stderr).not.toMatch(/\n\s+at /)
  })
  it.each([
    'gateway/plane/worker.ts',
    'gateway/mapper/storeWorker.ts',
    'test/demo/main.ts',
    'test/bench/run.ts',
    'test/fuzz/run.ts',
    'test/soak/run.ts',
  ])('%s has no syntax that Node cannot strip', file => {
    const { status, stderr } = spawnSync(NODE, ['--check', file], { cwd: ROOT, encoding: 'utf8' })
    expect(status, stderr).toBe(0)
  })
  it('the launcher finds its packages from anywhere', () => {
    const { status, stdout } = spawnSync(join(ROOT, 'cli/ipref'), ['version'], { cwd: '/', encoding: 'utf8' })
    expect([status, stdout]).toEqual([
      0,
      `ipref ${(JSON.parse(read('package.json')) as { version: string }).version}\n`,
    ])
  })
})

describe('documents', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  it.each(['README.md', '.github/CONTRIBUTING.md'])('%s names only commands and files that exist', file => {
    const text = read(file)
    for (const [, script] of text.matchAll(/npm run ([\w:]+)/g))
      expect(scripts, `npm run ${script}`).toHaveProperty([script!])
    for (const [, target] of text.matchAll(/\]\(((?!http)[^)]+)\)/g))
      expect(existsSync(join(ROOT, dirname(file), target!)), target).toBe(true)
  })
  it.each(Object.keys(generatedPages))('%s is what the program says (npm run docs)', path => {
    expect(read(path)).toBe(generatedPages[path]!())
  })
  it('the checksum in use is the one in checksum.wat (npm run build:checksum)', async () => {
    expect(await renderChecksumBytes()).toBe(read('gateway/sys/checksumBytes.ts'))
  })
  it('the lock file names no registry', () => {
    expect(read('package-lock.json')).not.toContain('"resolved"')
  })
  it('continuous integration calls the test command of the README', () => {
    expect(read('README.md')).toContain('npm ci && npm test')
    expect(read('.ci/run')).toContain('npm test')
  })
})
