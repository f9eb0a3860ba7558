/**
 * Which folder may import which (design.md section 3, decisions.md 17), and where the doors to the outside are.
 *
 *   cli ──► gateway/main, gateway/controlReports (types)          everything ──► ipref, runtime
 *   gateway ──► mapper, plane, peers, sources, sys                plane ──► forward, sys
 *                                                                 forward ──► nothing but ipref
 */
import { describe, expect, it } from 'vitest'
import { type Import, importsOf, isBelow, read, sourceFiles } from './files.ts'

/** Longest prefix wins. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  ipref: [],
  runtime: [],
  dns: ['ipref', 'runtime'],
  resources: ['ipref', 'runtime'],
  'gateway/forward': ['ipref'],
  'gateway/sys': ['runtime'],
  'gateway/plane': ['ipref', 'runtime', 'gateway/forward', 'gateway/sys'],
  'gateway/mapper': ['ipref', 'runtime', 'gateway/plane', 'gateway/sys'],
  'gateway/peers': ['ipref', 'runtime', 'gateway/plane', 'gateway/sys'],
  'gateway/sources': ['ipref', 'runtime', 'gateway/mapper', 'gateway/sys', 'resources'],
  'gateway/dns': ['ipref', 'runtime', 'gateway/mapper', 'gateway/sys', 'dns'],
  'gateway/kube': [
    'ipref',
    'runtime',
    'gateway/mapper',
    'gateway/peers',
    'gateway/plane',
    'gateway/dns',
    'gateway/sys',
    'dns',
    'resources',
  ],
  gateway: ['ipref', 'runtime', 'gateway', 'dns', 'resources'],
  operator: ['ipref', 'runtime', 'resources', 'dns'],
  cli: ['ipref', 'runtime', 'dns', 'resources', 'gateway/controlReports.ts'],
}

/** One file each that may do more than its folder. */
const mayAlso: Readonly<Record<string, readonly string[]>> = {
  'cli/main.ts': ['gateway/main.ts', 'gateway/dns/resolverMain.ts', 'gateway/dns/agentMain.ts', 'operator/main.ts'],
  // the store of a gateway that may not run
  'cli/backup.ts': ['gateway/mapper/savedMappings.ts'],
  'cli/restore.ts': ['gateway/mapper/savedMappings.ts'],
}

const all: readonly Import[] = sourceFiles().flatMap(importsOf)

function folderOf(path: string): string {
  const folders = Object.keys(mayImport).filter(folder => isBelow(folder, path))
  return folders.sort((a, b) => b.length - a.length)[0] ?? ''
}

function isAllowed({ file, target }: Import): boolean {
  const folder = folderOf(file)
  if (isBelow(folder, target) && folderOf(target) === folder) return true
  if (mayAlso[file]?.includes(target)) return true
  return (mayImport[folder] ?? []).some(allowed => target === allowed || isBelow(allowed, target))
}

const describeImport = ({ file, target }: Import) => `${file} imports ${target}`

describe('arrows between folders', () => {
  it('finds the imports at all', () => expect(all.length).toBeGreaterThan(100))

  it('holds for every import of ours', () => {
    expect(all.filter(one => one.isOurs && !isAllowed(one)).map(describeImport)).toEqual([])
  })

  it('forward is pure: nothing of Node, no package', () => {
    const doors = all.filter(one => isBelow('gateway/forward', one.file) && !one.isOurs)
    expect(doors.map(describeImport)).toEqual([])
  })

  it('ipref is pure: nothing of Node, no package', () => {
    expect(all.filter(one => isBelow('ipref', one.file) && !one.isOurs).map(describeImport)).toEqual([])
  })
})

describe('doors to the outside', () => {
  it.each([
    ['koffi', 'gateway/sys/libc.ts'],
    ['yaml', 'runtime/settings.ts', 'runtime/yaml.ts'],
    ['node:sqlite', 'gateway/mapper/store.ts', 'resources/folderLock.ts'],
    ['pino', 'runtime/log.ts'],
    ['prom-client', 'gateway/metrics.ts', 'operator/metrics.ts'],
    ['@kubernetes/client-node', 'resources/kubeCredentials.ts'],
  ])('%s is imported by %s alone', (name, ...doors) => {
    expect([...new Set(all.filter(one => one.target === name).map(one => one.file))].sort()).toEqual(doors)
  })

  it('every package that is imported is a dependency', () => {
    const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<string, Record<string, string>>
    const known = [...Object.keys(dependencies!), ...Object.keys(devDependencies!)]
    const missing = all.filter(one => !one.isOurs && !one.target.startsWith('node:') && !known.includes(one.target))
    expect(missing.map(describeImport)).toEqual([])
  })
})

describe('house rules', () => {
  it.each(sourceFiles())('%s opens with a comment that says what it is', file => {
    expect(read(file)).toMatch(/^(#!.*\n)?\/\*\*/)
  })

  it('imports end in .ts', () => {
    expect(all.filter(one => one.isOurs && !one.target.endsWith('.ts')).map(describeImport)).toEqual([])
  })
})
