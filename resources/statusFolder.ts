/**
 * `DIR/.status/`: the objects of a folder store as they are, each in a file that people can read. This is the truth; what processes hold in memory follows it.
 *
 *   IprefService/shop/web.yaml           objects that a file in DIR says
 *   objects/Lease/ipref/leader.yaml      objects that programs made
 *   version                              the last resourceVersion that was given away
 *   journal                              `RESOURCEVERSION KIND/NAMESPACE/NAME` of each write, for the other processes; `*` for "look at everything"
 *   lock                                 folderLock.ts
 *
 * A file holds two documents: the object, and what the store keeps about it (which file says it, who says which field).
 *
 * A write, with the lock held: version, then the object's file (written aside, synced, renamed), then the journal. Ended between any two, it leaves a number
 * unused, or a change that the next process to write here tells with `*`. Readers need no lock. A journal that is begun anew has another first line.
 */
import { randomUUID } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  fdatasyncSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { readYaml, writeYaml } from '../runtime/yaml.ts'
import type { Owners } from './fieldOwners.ts'
import { type KindName, type KubeObject, kindTable } from './kinds.ts'
import { compareVersions, freeze } from './view.ts'

export interface Entry {
  kind: KindName
  /** frozen */
  object: KubeObject
  /** the file in DIR that says it; undefined: made by a program */
  source: string | undefined
  owners: Owners
}

export interface EntryChange {
  kind: KindName
  before: KubeObject | undefined
  now: KubeObject | undefined
}

interface Stored extends Entry {
  stamp: string
}

const MOST_JOURNAL_BYTES = 1 << 20
const HEADER_BYTES = 40

export class StatusFolder {
  readonly #root: string
  readonly #entries = new Map<string, Stored>()
  readonly #onProblem: (problem: string) => void
  #version = 0
  #journalHeader = ''
  #journalOffset = 0
  #temporary = 0

  constructor(root: string, onProblem: (problem: string) => void) {
    this.#root = root
    this.#onProblem = onProblem
    mkdirSync(join(root, 'objects'), { recursive: true, mode: 0o750 })
  }

  get(id: string): Entry | undefined {
    return this.#entries.get(id)
  }

  ids(): Iterable<string> {
    return this.#entries.keys()
  }

  entries(): Iterable<[string, Entry]> {
    return this.#entries
  }

  /** Up to here everything is known. */
  get version(): string {
    return String(this.#version)
  }

  // ---- reading

  /** With the lock held, once: whatever an earlier end left behind is put right. */
  open(): void {
    this.#removeTemporary(this.#root)
    this.#readAll()
    const newest = [...this.#entries.values()].reduce((most, one) => Math.max(most, versionOf(one)), 0)
    const { last } = this.#readJournal()
    const given = this.#readVersion()
    this.#version = Math.max(newest, given, last)
    if (this.#version > last || last === 0) {
      this.#version++
      this.#writeAside(join(this.#root, 'version'), `${this.#version}\n`)
      this.#tell('*')
    }
  }

  /** What others wrote since. */
  refresh(): EntryChange[] {
    const { ids, last } = this.#readJournal()
    this.#version = Math.max(this.#version, last)
    if (ids === 'all') return this.#readAll()
    const changes = [...ids].flatMap(id => this.#reread(id, undefined))
    return inOrder(changes)
  }

  /** `refresh` with the lock held, before a write: tells what a process that ended within its write could not tell. */
  catchUp(): EntryChange[] {
    const changes = this.refresh()
    const given = this.#readVersion()
    if (given <= this.#version) return changes
    this.#version = given
    changes.push(...this.#readAll())
    this.#tell('*')
    return changes
  }

  /** Ids named since the last call, or `all`, and the last version there. */
  #readJournal(): { ids: Set<string> | 'all'; last: number } {
    let fd: number
    try {
      fd = openSync(join(this.#root, 'journal'), 'r')
    } catch {
      return { ids: new Set(), last: 0 }
    }
    try {
      const size = fstatSync(fd).size
      const header = readText(fd, 0, Math.min(size, HEADER_BYTES))
      const isOther = header !== this.#journalHeader || size < this.#journalOffset
      const from = isOther ? Math.min(HEADER_BYTES, size) : this.#journalOffset
      const text = readText(fd, from, size - from)
      const end = text.lastIndexOf('\n') + 1
      const lines = text
        .slice(0, end)
        .split('\n')
        .filter(line => line !== '')
      this.#journalHeader = header
      this.#journalOffset = from + Buffer.byteLength(text.slice(0, end))
      const ids = new Set(lines.map(line => line.slice(line.indexOf(' ') + 1)))
      const last = lines.reduce((most, line) => Math.max(most, Number.parseInt(line, 10) || 0), 0)
      return { ids: isOther || ids.has('*') ? 'all' : ids, last }
    } finally {
      closeSync(fd)
    }
  }

  #readVersion(): number {
    try {
      return Number.parseInt(readFileSync(join(this.#root, 'version'), 'utf8'), 10) || 0
    } catch {
      return 0
    }
  }

  #readAll(): EntryChange[] {
    const found = new Map<string, string[]>()
    for (const below of ['', 'objects']) {
      for (const kind of namesIn(join(this.#root, below))) {
        if (!Object.hasOwn(kindTable, kind)) continue
        for (const path of filesBelow(join(this.#root, below, kind))) {
          const id = `${kind}/${path.replace(/\.yaml$/, '')}`
          found.set(id, [...(found.get(id) ?? []), join(this.#root, below, kind, path)])
        }
      }
    }
    const ids = new Set([...found.keys(), ...this.#entries.keys()])
    return inOrder([...ids].flatMap(id => this.#reread(id, found.get(id) ?? [])))
  }

  #reread(id: string, paths: readonly string[] = [this.#path(id, 'x'), this.#path(id, undefined)]): EntryChange[] {
    const before = this.#entries.get(id)
    const all = paths.flatMap(path => this.#load(path, before) ?? [])
    const now = all.sort((a, b) => versionOf(b) - versionOf(a))[0]
    if (now === before) return []
    if (now) this.#entries.set(id, now)
    else this.#entries.delete(id)
    return changeOf(before, now)
  }

  /** undefined: not there, or not to be read. */
  #load(path: string, before: Stored | undefined): Stored | undefined {
    const stamp = stampOf(path)
    if (stamp === undefined) return undefined
    if (before?.stamp === stamp) return before
    try {
      const [object, kept] = readYaml(readFileSync(path, 'utf8'))
      const value = object?.value as KubeObject
      if (!value?.metadata?.resourceVersion || !Object.hasOwn(kindTable, value.kind))
        throw new Error('is no object of ours')
      const { source, owners } = (kept?.value ?? {}) as { source?: string; owners?: Owners }
      return { kind: value.kind as KindName, object: freeze(value), source, owners: owners ?? {}, stamp }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      this.#onProblem(`${path}: ${(error as Error).message}`)
      return before
    }
  }

  // ---- writing, with the lock held and after `refresh`

  /** `next` without its new resourceVersion; undefined: the object goes. */
  write(id: string, next: Entry | undefined): EntryChange[] {
    const before = this.#entries.get(id)
    const version = ++this.#version
    this.#writeAside(join(this.#root, 'version'), `${version}\n`)
    if (next) this.#save(id, next, version)
    else this.#entries.delete(id)
    if (before && (!next || (before.source === undefined) !== (next.source === undefined)))
      rmSync(this.#path(id, before.source), { force: true })
    this.#tell(id)
    return changeOf(before, this.#entries.get(id))
  }

  #save(id: string, next: Entry, version: number): void {
    const { kind, source, owners } = next
    const object = structuredClone(next.object)
    object.metadata.resourceVersion = String(version)
    freeze(object)
    const path = this.#path(id, source)
    mkdirSync(dirname(path), { recursive: true, mode: 0o750 })
    const kept = { ...(source !== undefined && { source }), owners }
    const text = `${writeYaml(object)}---\n# kept by the store: which file says this object, and who says which field\n${writeYaml(kept)}`
    this.#writeAside(path, text, 'durable')
    this.#entries.set(id, { kind, object, source, owners, stamp: stampOf(path)! })
  }

  #tell(id: string): void {
    const path = join(this.#root, 'journal')
    const line = `${this.#version} ${id}\n`
    const size = statSync(path, { throwIfNoEntry: false })?.size
    if (size === undefined || size > MOST_JOURNAL_BYTES) {
      this.#journalHeader = `# ${randomUUID()}\n`.padStart(HEADER_BYTES, '#')
      const text = `${this.#journalHeader}${this.#version} *\n`
      this.#writeAside(path, text)
      this.#journalOffset = Buffer.byteLength(text)
      return
    }
    appendFileSync(path, line)
    this.#journalOffset = size + Buffer.byteLength(line)
  }

  #path(id: string, source: string | undefined): string {
    return join(this.#root, source === undefined ? 'objects' : '', `${id}.yaml`)
  }

  #writeAside(path: string, text: string, how?: 'durable'): void {
    const aside = join(dirname(path), `.${process.pid}-${this.#temporary++}.tmp`)
    const fd = openSync(aside, 'w', 0o640)
    try {
      writeSync(fd, text)
      if (how === 'durable') fdatasyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(aside, path)
  }

  /** With the lock held nobody else is writing. */
  #removeTemporary(folder: string): void {
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true, encoding: 'utf8' }))
      if (/^\.\d+-\d+\.tmp$/.test(entry.name)) rmSync(join(entry.parentPath, entry.name), { force: true })
  }
}

function changeOf(before: Stored | undefined, now: Stored | undefined): EntryChange[] {
  const kind = (now ?? before)?.kind
  if (kind === undefined) return []
  if (before && now && before.object.metadata.uid !== now.object.metadata.uid)
    return [
      { kind, before: before.object, now: undefined },
      { kind, before: undefined, now: now.object },
    ]
  if (before?.object.metadata.resourceVersion === now?.object.metadata.resourceVersion) return []
  return [{ kind, before: before?.object, now: now?.object }]
}

function inOrder(changes: EntryChange[]): EntryChange[] {
  const version = ({ now, before }: EntryChange) => (now ?? before)!.metadata.resourceVersion!
  return changes.sort((a, b) => compareVersions(version(a), version(b)))
}

function versionOf(entry: Entry): number {
  return Number(entry.object.metadata.resourceVersion)
}

function stampOf(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat && `${stat.mtimeMs} ${stat.size} ${stat.ino}`
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** `name.yaml` and `namespace/name.yaml`. */
function filesBelow(folder: string): string[] {
  return namesIn(folder).flatMap(name => {
    if (name.startsWith('.')) return []
    if (name.endsWith('.yaml')) return [name]
    return namesIn(join(folder, name))
      .filter(inner => inner.endsWith('.yaml') && !inner.startsWith('.'))
      .map(inner => `${name}/${inner}`)
  })
}

function readText(fd: number, from: number, length: number): string {
  const buffer = Buffer.alloc(length)
  let read = 0
  while (read < length) {
    const n = readSync(fd, buffer, read, length - read, from + read)
    if (n === 0) break
    read += n
  }
  return buffer.toString('utf8', 0, read)
}
