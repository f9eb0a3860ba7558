/**
 * ResourceStore in a folder of YAML that people edit, for networks without Kubernetes, the demo and tests.
 *
 *   DIR/*.yaml, DIR/FOLDER/*.yaml ── scan, parse (manifests.ts) ── applied by the manager `files` ──┐
 *                                                                                                    ▼
 *   programs ── create, update, updateStatus, apply, delete ──► lock ─► DIR/.status (statusFolder.ts) ──► views, in this and in other processes
 *
 * A file is what its objects should be: what it says is set again when somebody else changed it, what it does not say is left alone, and what is gone
 * from all files is deleted, after a second look, for editors save by taking a file away and putting another in its place. What cannot be read or is not valid
 * changes nothing: the last good object stays in force, also across restarts, and `onProblems` is told.
 *
 * The rest is as in an API server: uid, generation, finalizers, preconditions, field owners, deletion of what the deleted object owned; Events are kept an hour.
 * Namespaces need no object. Everything between taking the lock and releasing it runs without a pause.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { mergeApplied, type Owners, ownersAfterWrite } from './fieldOwners.ts'
import { FolderLock } from './folderLock.ts'
import { FolderWatcher } from './folderWatcher.ts'
import { type KindName, type Kinds, type KubeObject, kindTable } from './kinds.ts'
import { type Declared, idOf, ManifestFolder, type Manifests, nameProblem } from './manifests.ts'
import {
  complete,
  hasOwnStatus,
  hasProgramStatus,
  invalid,
  isGoing,
  isSameObject,
  named,
  problemsOf,
  requireSame,
  withoutStatus,
  withStatusOf,
} from './objectRules.ts'
import { validate } from './schema/tables.ts'
import { selects } from './selectors.ts'
import { type Entry, type EntryChange, StatusFolder } from './statusFolder.ts'
import { type Change, type Key, type ResourceStore, StoreError, type Watched, type WatchOptions } from './store.ts'
import { keyText, View } from './view.ts'

export interface DirectorySettings {
  fieldManager?: string
  /** Problems of the files as they are now; empty: there were some, and there are none any more. */
  onProblems?(problems: readonly string[]): void
  now?(): number
}

const FIELD_MANAGER = 'ipref-operator'
const FILES = 'files'
const SETTLE_MS = 50
const NOTICE_MS = 3
const POLL_MS = 2000
/** gone from the files for this long is gone */
const GONE_MS = 300
const TURN_MS = 50
const EVENT_LIFE_MS = 3_600_000

interface Subscriber {
  kind: KindName
  take(change: EntryChange): void
  trouble(problem: string | undefined): void
}

export class DirectoryStore implements ResourceStore {
  readonly #folder: string
  readonly #settings: DirectorySettings
  readonly #manager: string
  readonly #manifests: ManifestFolder
  readonly #status: StatusFolder
  readonly #lock: FolderLock
  readonly #subscribers = new Set<Subscriber>()
  readonly #counts = new Map<string, number>()
  readonly #watcher = new FolderWatcher()
  /** when each object was missed first in the files */
  readonly #missedAt = new Map<string, number>()
  /** last outcome of each declared object, to do nothing when nothing changed */
  readonly #taken = new Map<string, { declared: Declared; object: KubeObject | undefined; problems: string[] }>()
  #pending: EntryChange[] = []
  #isTelling = false
  #problems: string[] = []
  #trouble: string | undefined
  #settle: NodeJS.Timeout | undefined
  #notice: NodeJS.Timeout | undefined
  #poll: NodeJS.Timeout | undefined
  #lifeSign = performance.now()
  #isClosed = false

  static async open(folder: string, settings: DirectorySettings = {}): Promise<DirectoryStore> {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new StoreError('Unavailable', `${folder}: is no folder; make it, and put YAML files there`)
    let store: DirectoryStore
    try {
      store = new DirectoryStore(folder, settings)
    } catch (error) {
      throw new StoreError('Unavailable', `${folder}/.status: cannot be used: ${(error as Error).message}`, {
        cause: error,
      })
    }
    await store.#lock.hold(() => store.#status.open())
    await store.#import()
    store.#start()
    return store
  }

  private constructor(folder: string, settings: DirectorySettings) {
    this.#folder = folder
    this.#settings = settings
    this.#manager = settings.fieldManager ?? FIELD_MANAGER
    this.#manifests = new ManifestFolder(folder)
    const root = join(folder, '.status')
    this.#status = new StatusFolder(root, problem => this.#tellTrouble(problem))
    this.#lock = new FolderLock(join(root, 'lock'))
  }

  get requests(): ReadonlyMap<string, number> {
    return this.#counts
  }

  /** Of the files, as they are now. */
  get problems(): readonly string[] {
    return this.#problems
  }

  // ---- reading

  async watch<Kind extends KindName>(
    kind: Kind,
    options: WatchOptions,
    events: { onChange(change: Change<Kind>): void; onTrouble?(problem: string | undefined): void },
  ): Promise<Watched<Kind>> {
    this.#requireOpen()
    this.#refresh()
    const view = new View<Kind>()
    const matches = selects(options)
    const put = (object: KubeObject) => {
      for (const change of view.put(object as Kinds[Kind])) events.onChange(change)
    }
    const remove = (object: KubeObject) => {
      for (const change of view.remove(keyText(object.metadata))) events.onChange(change)
    }
    const subscriber: Subscriber = {
      kind,
      take({ before, now }) {
        if (now && matches(now)) put(now)
        else if (before) remove(before)
      },
      trouble: problem => events.onTrouble?.(problem),
    }
    this.#count('list', kind, '200')
    this.#subscribers.add(subscriber)
    for (const [, entry] of this.#status.entries()) if (entry.kind === kind && matches(entry.object)) put(entry.object)
    if (this.#trouble !== undefined) events.onTrouble?.(this.#trouble)
    const store = this
    return {
      get: key => view.get(key),
      all: () => view.all(),
      get size() {
        return view.size
      },
      get resourceVersion() {
        return store.#status.version
      },
      get silentMs() {
        return performance.now() - store.#lifeSign
      },
      stop: () => void this.#subscribers.delete(subscriber),
    }
  }

  async get<Kind extends KindName>(kind: Kind, key: Key): Promise<Kinds[Kind] | undefined> {
    this.#requireOpen()
    this.#refresh()
    const entry = this.#status.get(idOf(kind, key))
    this.#count('get', kind, entry ? '200' : '404')
    return entry && (structuredClone(entry.object) as Kinds[Kind])
  }

  async list<Kind extends KindName>(kind: Kind, options: WatchOptions = {}): Promise<Kinds[Kind][]> {
    this.#requireOpen()
    this.#refresh()
    const matches = selects(options)
    this.#count('list', kind, '200')
    return [...this.#status.entries()]
      .filter(([, entry]) => entry.kind === kind && matches(entry.object))
      .map(([, entry]) => structuredClone(entry.object) as Kinds[Kind])
  }

  // ---- writing

  create<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#write('create', kind, object.metadata, (id, old) => {
      if (old) throw new StoreError('AlreadyExists', `create ${id}: it is there already`, { status: 409 })
      return this.#put(id, kind, undefined, hasOwnStatus.has(kind) ? withoutStatus(object) : object, {})
    })
  }

  update<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#write('update', kind, object.metadata, (id, old) => {
      const entry = this.#requireCurrent('update', id, old, object)
      const next = hasOwnStatus.has(kind) ? withStatusOf(object, entry.object) : object
      return this.#put(id, kind, entry, next, ownersAfterWrite(entry.owners, entry.object, next))
    })
  }

  updateStatus<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#write('update-status', kind, object.metadata, (id, old) => {
      const entry = this.#requireCurrent('update-status', id, old, object)
      const next = withStatusOf(entry.object, object)
      return this.#put(id, kind, entry, next, ownersAfterWrite(entry.owners, entry.object, next))
    })
  }

  apply<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
    return this.#write('apply', kind, object.metadata, (id, old) => {
      const { resourceVersion, uid } = object.metadata
      if (resourceVersion !== undefined || uid !== undefined)
        requireSame('apply', id, old?.object, { resourceVersion, uid })
      const said = hasOwnStatus.has(kind) ? withoutStatus(object) : object
      const merged = mergeApplied(old?.object, { ...said, ...named(kind) }, this.#manager, old?.owners ?? {})
      return this.#put(id, kind, old, merged.object, merged.owners)
    })
  }

  async delete(kind: KindName, key: Key, only: { uid?: string; resourceVersion?: string } = {}): Promise<void> {
    await this.#write('delete', kind, key, (id, old) => {
      if (!old) return undefined
      requireSame('delete', id, old.object, only)
      this.#remove(id, old)
      return old.object
    })
  }

  async #write<Result extends KubeObject>(
    verb: string,
    kind: KindName,
    key: Key,
    work: (id: string, old: Entry | undefined) => KubeObject | undefined,
  ): Promise<Result> {
    this.#requireOpen()
    const id = idOf(kind, key)
    try {
      const problem = nameProblem(key, kindTable[kind].scope)
      if (problem) throw invalid(verb, id, [problem])
      const result = await this.#locked(() => work(id, this.#status.get(id)))
      this.#count(verb, kind, '200')
      return structuredClone(result) as Result
    } catch (error) {
      this.#count(verb, kind, error instanceof StoreError ? String(error.status ?? error.code) : 'none')
      throw error
    } finally {
      this.#tell()
    }
  }

  /** The object as it is afterwards. */
  #put(id: string, kind: KindName, old: Entry | undefined, wanted: KubeObject, owners: Owners, source = old?.source) {
    const object = complete(kind, old?.object, wanted, this.#timestamp())
    const problems = problemsOf(kind, object, old?.object)
    if (problems.length > 0) throw invalid(old ? 'update' : 'create', id, problems)
    if (isGoing(object) && !object.metadata.finalizers?.length) {
      this.#note(this.#status.write(id, undefined))
      this.#removeOwned(object)
      return object
    }
    const isSame = old && isSameObject(object, old.object) && source === old.source
    if (isSame && isDeepStrictEqual(owners, old.owners)) return old.object
    this.#note(this.#status.write(id, { kind, object, source, owners }))
    return this.#status.get(id)!.object
  }

  #remove(id: string, old: Entry): void {
    const { object } = old
    if (!object.metadata.finalizers?.length) {
      this.#note(this.#status.write(id, undefined))
      this.#removeOwned(object)
      return
    }
    if (isGoing(object)) return
    const next = structuredClone(object)
    next.metadata.deletionTimestamp = this.#timestamp()
    if (next.metadata.generation !== undefined) next.metadata.generation++
    this.#note(this.#status.write(id, { ...old, object: next }))
  }

  /** What has no other owner left. */
  #removeOwned(owner: KubeObject): void {
    const uids = new Set([...this.#status.entries()].map(([, { object }]) => object.metadata.uid))
    for (const [id, entry] of [...this.#status.entries()]) {
      const { ownerReferences = [] } = entry.object.metadata
      const isOwned = ownerReferences.some(({ uid }) => uid === owner.metadata.uid)
      if (isOwned && !ownerReferences.some(({ uid }) => uids.has(uid))) this.#remove(id, entry)
    }
  }

  #requireCurrent(verb: string, id: string, old: Entry | undefined, object: KubeObject): Entry {
    const { resourceVersion, uid } = object.metadata
    if (!resourceVersion)
      throw invalid(verb, id, [
        { path: ['metadata', 'resourceVersion'], problem: 'missing', right: 'that of the object as it was read' },
      ])
    requireSame(verb, id, old?.object, { resourceVersion, uid })
    return old!
  }

  #timestamp(): string {
    return `${new Date(this.#settings.now?.() ?? Date.now()).toISOString().slice(0, 19)}Z`
  }

  // ---- files

  #start(): void {
    this.#watchFolders()
    this.#poll = setInterval(() => {
      this.#refresh()
      void this.#import()
    }, POLL_MS)
  }

  #watchFolders(): void {
    const wanted = new Map(this.#manifests.folders.map(folder => [folder, (name: string) => this.#fileChanged(name)]))
    wanted.set(join(this.#folder, '.status'), () => this.#noticeSoon())
    this.#watcher.set(wanted)
  }

  #fileChanged(name: string): void {
    if (!name.startsWith('.')) this.#soon()
  }

  #soon(ms = SETTLE_MS): void {
    if (this.#isClosed) return
    clearTimeout(this.#settle)
    this.#settle = setTimeout(() => void this.#import(), ms)
  }

  #noticeSoon(): void {
    if (this.#notice || this.#isClosed) return
    this.#notice = setTimeout(() => {
      this.#notice = undefined
      this.#refresh()
    }, NOTICE_MS)
  }

  /** Makes the objects what the files say. */
  async #import(): Promise<void> {
    if (this.#isClosed) return
    try {
      // many new objects are taken a few at a time, and the process has turns in between
      while (!(await this.#locked(() => this.#importSome()))) await new Promise(setImmediate)
      this.#watchFolders()
      this.#tellTrouble(undefined)
    } catch (error) {
      if (!this.#isClosed) this.#tellTrouble(`${this.#folder}: ${(error as Error).message}`)
    } finally {
      this.#tell()
    }
  }

  /** false: there is more. */
  #importSome(): boolean {
    // read with the lock held: a process that read an older file must not undo what another took from a newer one
    const manifests = this.#manifests.scan()
    const problems = [...manifests.problems]
    const end = performance.now() + TURN_MS
    for (const [id, declared] of manifests.declared) {
      if (performance.now() > end) return false
      problems.push(...this.#take(id, declared))
    }
    this.#removeMissing(manifests)
    this.#removeOldEvents()
    this.#tellProblems(problems)
    return true
  }

  #take(id: string, declared: Declared): string[] {
    const old = this.#status.get(id)
    const last = this.#taken.get(id)
    if (last?.declared === declared && last.object === old?.object) return last.problems
    const problems: string[] = []
    // it comes back when its finalizers are gone
    if (!isGoing(old?.object)) {
      const said = hasProgramStatus.has(declared.kind) ? withoutStatus(declared.object) : declared.object
      const merged = mergeApplied(old?.object, said, FILES, old?.owners ?? {})
      const object = complete(declared.kind, old?.object, merged.object, this.#timestamp())
      // all that is wrong, also what was let in before
      const found = validate(declared.kind, object, old?.object)
      problems.push(...found.map(one => declared.say(one)))
      try {
        if (problems.length === 0) this.#put(id, declared.kind, old, merged.object, merged.owners, declared.file)
      } catch (error) {
        problems.push(`${declared.file}: ${id} cannot be kept in .status: ${(error as Error).message}`)
      }
    }
    this.#taken.set(id, { declared, object: this.#status.get(id)?.object, problems })
    return problems
  }

  #removeMissing({ declared, unsure, isUnreadable }: Manifests): void {
    const now = performance.now()
    for (const id of this.#taken.keys()) if (!declared.has(id)) this.#taken.delete(id)
    for (const [id, entry] of [...this.#status.entries()]) {
      const isMissing = entry.source !== undefined && !declared.has(id) && !isUnreadable && !unsure.has(entry.source)
      if (!isMissing || isGoing(entry.object)) {
        this.#missedAt.delete(id)
        continue
      }
      const since = this.#missedAt.get(id) ?? now
      this.#missedAt.set(id, since)
      if (now - since >= GONE_MS) {
        this.#missedAt.delete(id)
        this.#remove(id, entry)
      } else this.#soon(GONE_MS)
    }
  }

  #removeOldEvents(): void {
    const oldest = (this.#settings.now?.() ?? Date.now()) - EVENT_LIFE_MS
    for (const [id, entry] of [...this.#status.entries()]) {
      if (entry.kind !== 'Event') continue
      const { lastTimestamp, metadata } = entry.object as Kinds['Event']
      if (Date.parse(lastTimestamp ?? metadata.creationTimestamp ?? '') < oldest) this.#remove(id, entry)
    }
  }

  #tellProblems(problems: string[]): void {
    const found = [...new Set(problems)].sort()
    if (isDeepStrictEqual(found, this.#problems)) return
    this.#problems = found
    this.#settings.onProblems?.(found)
  }

  // ---- what happened

  #locked<Result>(work: () => Result): Promise<Result> {
    return this.#lock.hold(() => {
      this.#note(this.#status.catchUp())
      return work()
    })
  }

  #refresh(): void {
    if (this.#isClosed) return
    try {
      this.#note(this.#status.refresh())
      this.#lifeSign = performance.now()
    } catch (error) {
      this.#tellTrouble(`${this.#folder}: ${(error as Error).message}`)
    }
    this.#tell()
  }

  #note(changes: readonly EntryChange[]): void {
    this.#pending.push(...changes)
  }

  /** In order, also when somebody who is told writes or reads. */
  #tell(): void {
    if (this.#isTelling) return
    this.#isTelling = true
    try {
      for (let change = this.#pending.shift(); change; change = this.#pending.shift()) {
        for (const subscriber of this.#subscribers) if (subscriber.kind === change.kind) subscriber.take(change)
        // what files say is made anew when it is gone at last, and said again when somebody else changed it
        if (change.before && change.before.metadata.generation !== change.now?.metadata.generation) this.#soon()
      }
    } finally {
      this.#isTelling = false
    }
  }

  #tellTrouble(problem: string | undefined): void {
    if (problem === this.#trouble) return
    this.#trouble = problem
    for (const subscriber of this.#subscribers) subscriber.trouble(problem)
  }

  #count(verb: string, kind: KindName, code: string): void {
    const name = `${verb} ${kind} ${code}`
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new StoreError('Unavailable', `${this.#folder}: the store is closed`)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#subscribers.clear()
    clearInterval(this.#poll)
    for (const timer of [this.#settle, this.#notice]) clearTimeout(timer)
    this.#watcher.close()
    await this.#lock.close()
  }
}
