/**
 * The files of a folder store that people write: `*.yaml` and `*.yml` in the folder and in its folders, any number of documents in each, `kind: List` too.
 *
 *   scan ── a file that changed is read again ──► Declared, a key each; problems as `file:line:column field: what is wrong`
 *
 * The first of two files, by path, that say the same object wins; the other is named. Kinds that are none of ours and that we do not read are let be, so
 * that a folder may hold other manifests. Names that begin with a dot are not looked at, nor is the configuration beside the objects.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { readYaml, type YamlDocument } from '../runtime/yaml.ts'
import { GROUP, type KindName, type KubeObject, kindTable } from './kinds.ts'
import { type FieldProblem, problemText } from './schema/check.ts'
import type { Key } from './store.ts'

/** Settings of the platform, in the same folder (config.ts). */
export const CONFIG_FILE = 'ipref-config.yaml'
const DEFAULT_NAMESPACE = 'default'

export interface Declared {
  kind: KindName
  key: Key
  object: KubeObject
  /** from the folder */
  file: string
  /** `file:line:column path: problem` */
  say(found: FieldProblem): string
}

interface ReadFile {
  stamp: string
  declared: Declared[]
  problems: string[]
}

export interface Manifests {
  /** by `idOf` */
  declared: ReadonlyMap<string, Declared>
  problems: string[]
  /** Files that could not be read whole: what they do not say may be said by them all the same. */
  unsure: ReadonlySet<string>
  /** The folder itself could not be read. */
  isUnreadable: boolean
}

export function idOf(kind: KindName, key: Key): string {
  return key.namespace === undefined ? `${kind}/${key.name}` : `${kind}/${key.namespace}/${key.name}`
}

export class ManifestFolder {
  readonly #folder: string
  #files = new Map<string, ReadFile>()

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Folders to watch, from the last scan. */
  folders: string[] = []

  scan(): Manifests {
    const problems: string[] = []
    const { files, isUnreadable } = this.#listFiles(problems)
    const read = new Map<string, ReadFile>()
    for (const file of files) {
      const found = this.#read(file, problems)
      if (found) read.set(file, found)
    }
    const unsure = new Set(files.filter(file => (read.get(file)?.problems.length ?? 1) > 0))
    this.#files = read
    const declared = new Map<string, Declared>()
    for (const { declared: all, problems: own } of read.values()) {
      problems.push(...own)
      for (const one of all) {
        const id = idOf(one.kind, one.key)
        const first = declared.get(id)
        if (!first) declared.set(id, one)
        else
          problems.push(
            one.say({
              path: ['metadata', 'name'],
              problem: `${id} is in ${first.file} too, which counts`,
              right: 'say it once',
            }),
          )
      }
    }
    return { declared, problems, unsure, isUnreadable }
  }

  #listFiles(problems: string[]): { files: string[]; isUnreadable: boolean } {
    const files: string[] = []
    const folders = [this.#folder]
    let isUnreadable = false
    const look = (folder: string, prefix: string) => {
      let entries: { name: string; isDirectory(): boolean }[]
      try {
        entries = readdirSync(folder, { withFileTypes: true })
      } catch (error) {
        isUnreadable = true
        problems.push(`${prefix || this.#folder}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
        return
      }
      for (const entry of entries) {
        const { name } = entry
        if (name.startsWith('.')) continue
        if (prefix === '' && isFolder(folder, entry)) {
          folders.push(join(folder, name))
          look(join(folder, name), `${name}/`)
        } else if (/\.ya?ml$/.test(name) && !(prefix === '' && name === CONFIG_FILE)) files.push(prefix + name)
      }
    }
    look(this.#folder, '')
    this.folders = folders
    return { files: files.sort(), isUnreadable }
  }

  #read(file: string, problems: string[]): ReadFile | undefined {
    const path = join(this.#folder, file)
    try {
      const { mtimeMs, ctimeMs, size, ino } = statSync(path)
      const stamp = `${mtimeMs} ${ctimeMs} ${size} ${ino}`
      const before = this.#files.get(file)
      if (before?.stamp === stamp) return before
      return { stamp, ...parseManifests(file, readFileSync(path, 'utf8')) }
    } catch (error) {
      problems.push(`${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? (error as Error).message})`)
      return undefined
    }
  }
}

function isFolder(above: string, entry: { name: string; isDirectory(): boolean; isSymbolicLink?(): boolean }): boolean {
  if (!entry.isSymbolicLink?.()) return entry.isDirectory()
  return statSync(join(above, entry.name), { throwIfNoEntry: false })?.isDirectory() ?? false
}

export function parseManifests(file: string, text: string): { declared: Declared[]; problems: string[] } {
  const declared: Declared[] = []
  const problems: string[] = []
  for (const document of readYaml(text)) {
    for (const { line, column, problem } of document.problems) problems.push(`${file}:${line}:${column} ${problem}`)
    if (document.problems.length > 0 || document.value === undefined || document.value === null) continue
    for (const { value, above } of itemsOf(document.value)) {
      const say = placed(file, document, above)
      const found = declaredOf(value)
      if ('problem' in found) problems.push(say(found))
      else if (found.object) declared.push({ ...found, file, say })
    }
  }
  return { declared, problems }
}

function placed(file: string, document: YamlDocument, above: readonly (string | number)[]): Declared['say'] {
  return found => {
    const { line, column } = document.placeOf([...above, ...found.path])
    const text = found.path.length === 0 ? `${found.problem}; ${found.right}` : problemText(found)
    return `${file}:${line}:${column} ${text}`
  }
}

function itemsOf(value: unknown): { value: unknown; above: (string | number)[] }[] {
  const { kind, items } = isMap(value) ? value : {}
  if (kind !== 'List' || !Array.isArray(items)) return [{ value, above: [] }]
  return items.map((item, i) => ({ value: item, above: ['items', i] }))
}

type Found = { kind: KindName; key: Key; object: KubeObject } | { object: undefined } | FieldProblem

function declaredOf(value: unknown): Found {
  if (!isMap(value))
    return { path: [], problem: 'no object', right: 'apiVersion, kind, metadata, and what the kind holds' }
  const { apiVersion, kind, metadata } = value
  if (typeof apiVersion !== 'string')
    return { path: ['apiVersion'], problem: 'missing', right: 'such as ipref.io/v1alpha1' }
  if (typeof kind !== 'string') return { path: ['kind'], problem: 'missing', right: 'such as IprefService' }
  const known = Object.hasOwn(kindTable, kind) ? kindTable[kind as KindName] : undefined
  if (known?.apiVersion !== apiVersion) return otherKind(apiVersion, kind, known?.apiVersion)
  if (!isMap(metadata) || typeof metadata.name !== 'string')
    return { path: ['metadata', 'name'], problem: 'missing', right: 'the name of the object' }
  const problem = metadataProblem(metadata, known.scope)
  if (problem) return problem
  const namespace = known.scope === 'Namespaced' ? ((metadata.namespace as string) ?? DEFAULT_NAMESPACE) : undefined
  const key: Key = { name: metadata.name, ...(namespace !== undefined && { namespace }) }
  const { labels, annotations, finalizers } = metadata
  const said = { ...key, ...(isMap(labels) && { labels }), ...(isMap(annotations) && { annotations }) }
  const kept = { ...said, ...(Array.isArray(finalizers) && { finalizers }) }
  return { kind: kind as KindName, key, object: { ...value, metadata: kept } as unknown as KubeObject }
}

function otherKind(apiVersion: string, kind: string, expected: string | undefined): Found {
  if (apiVersion.split('/')[0] === GROUP && !expected) {
    const ours = Object.entries(kindTable).flatMap(([name, one]) =>
      one.apiVersion.startsWith(`${GROUP}/`) ? name : [],
    )
    return { path: ['kind'], problem: `${kind} is no kind of ${GROUP}`, right: `one of ${ours.join(', ')}` }
  }
  if (expected && apiVersion.split('/')[0] === expected.split('/')[0])
    return { path: ['apiVersion'], problem: `${apiVersion} is not known of ${kind}`, right: expected }
  return { object: undefined }
}

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
/** less than the 253 of the API: the name and `.yaml` are the name of a file */
const MOST_NAME = 240
const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/

/** What an API server refuses of a name. */
export function nameProblem({ name, namespace }: Key, scope: 'Namespaced' | 'Cluster'): FieldProblem | undefined {
  const quoted = (text: string | undefined) => (text === undefined ? 'missing' : JSON.stringify(text.slice(0, 80)))
  if (name.length > MOST_NAME || !SUBDOMAIN.test(name))
    return {
      path: ['metadata', 'name'],
      problem: `${quoted(name)} is no name`,
      right: `small letters, digits, dashes and dots, such as web-1; at most ${MOST_NAME}`,
    }
  if (scope === 'Cluster' && namespace !== undefined)
    return { path: ['metadata', 'namespace'], problem: 'this kind is in no namespace', right: 'without it' }
  if (scope === 'Namespaced' && !(namespace !== undefined && LABEL.test(namespace)))
    return { path: ['metadata', 'namespace'], problem: `${quoted(namespace)} is no namespace`, right: 'such as shop' }
  return undefined
}

function metadataProblem(metadata: Record<string, unknown>, scope: 'Namespaced' | 'Cluster'): FieldProblem | undefined {
  const { namespace, labels, annotations, finalizers } = metadata
  const at = (...path: string[]) => ['metadata', ...path]
  if (namespace !== undefined && typeof namespace !== 'string')
    return { path: at('namespace'), problem: 'no text', right: `"${String(namespace)}", in quotes` }
  for (const [name, map] of Object.entries({ labels, annotations })) {
    if (map === undefined || map === null) continue
    if (!isMap(map)) return { path: at(name), problem: 'no names with texts', right: 'such as app: web' }
    const wrong = Object.keys(map).find(key => typeof map[key] !== 'string')
    if (wrong !== undefined)
      return { path: at(name, wrong), problem: 'no text', right: `"${String(map[wrong])}", in quotes` }
  }
  if (finalizers !== undefined && !(Array.isArray(finalizers) && finalizers.every(one => typeof one === 'string')))
    return { path: at('finalizers'), problem: 'no list of texts', right: 'such as [example.com/mine]' }
  const given = scope === 'Namespaced' ? ((namespace as string | undefined) ?? DEFAULT_NAMESPACE) : namespace
  return nameProblem(
    { name: metadata.name as string, ...(given !== undefined && { namespace: given as string }) },
    scope,
  )
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
