/** The repository as its own tests see it: source files, and what they import. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

export const ROOT = join(import.meta.dirname, '../..')
export const PROGRAM_FOLDERS = ['ipref', 'runtime', 'dns', 'resources', 'gateway', 'operator', 'cli'] as const

export interface Import {
  file: string
  /** a path from the root of the repository, or the name of a package */
  target: string
  isOurs: boolean
  isTypeOnly: boolean
}

/** Paths from the root of the repository. */
export function sourceFiles(folders: readonly string[] = PROGRAM_FOLDERS): string[] {
  const all = readdirSync(ROOT, { withFileTypes: true }).map(entry => entry.name)
  return folders
    .filter(folder => all.includes(folder.split('/')[0]!))
    .flatMap(folder =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map(name => join(folder, name)),
    )
    .filter(file => file.endsWith('.ts') && !file.endsWith('.d.ts'))
    .sort()
}

export function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}

const STATEMENT = /^(?:import|export)(\s+type)?\s[^'"]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm

export function importsOf(file: string): Import[] {
  return [...read(file).matchAll(STATEMENT)].map(match => {
    const text = match[2] ?? match[3] ?? match[4]!
    const isOurs = text.startsWith('.')
    const target = isOurs ? normalize(join(dirname(file), text)) : text
    return { file, target, isOurs, isTypeOnly: match[1] !== undefined }
  })
}

export function isBelow(folder: string, path: string): boolean {
  return path.startsWith(`${folder}/`)
}
