/**
 * What the mapping store holds, for backups: read while a gateway runs, and put back while none does.
 *
 *   savedMappings ◄── one read transaction of the store: all of one moment, while the gateway goes on writing
 *   restoreMappings ──► the store's lock ──► temporary tables ──► compared in SQL ──► one transaction, or nothing
 *
 * What is in the store wins: a mapping of the backup that contradicts one there is named, and left out. One that is there already lives as long as the
 * later of the two. Those whose time is over count for nothing, on either side.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type AddressWords, formatWords } from '../../ipref/address.ts'
import { formatReference, referenceFromWords } from '../../ipref/reference.ts'
import { lockFolder } from '../sys/lock.ts'
import { isCorruption, openDatabase, openSnapshot, rowsOf, type SavedMapping, STORE_FILE, StoreError } from './store.ts'

export type { SavedMapping } from './store.ts'

type Database = ReturnType<typeof openDatabase>
type Statement = ReturnType<Database['prepare']>

export interface MappingConflict {
  /** what the backup says, and what the store says */
  backup: string
  here: string
}

export interface MappingReport {
  restored: number
  /** there already, and valid for longer now */
  renewed: number
  same: number
  expired: number
  conflicts: MappingConflict[]
}

export interface RestoreOptions {
  /** seconds of the wall clock */
  now: number
  /** Nothing is changed; the gateway may run. */
  isDryRun: boolean
}

/** Throws StoreError. */
export function* savedMappings(folder: string): Generator<SavedMapping> {
  const file = join(folder, STORE_FILE)
  if (!existsSync(file)) throw new StoreError(`${folder}: there is no mapping store (${STORE_FILE}); another: -data`)
  const db = orStoreError(file, () => openSnapshot(file))
  try {
    yield* rowsOf(db)
  } catch (error) {
    throw asStoreError(file, error)
  } finally {
    db.close()
  }
}

/** Throws StoreError, or LockHeld while a gateway runs. */
export function restoreMappings(
  folder: string,
  mappings: Iterable<SavedMapping>,
  { now, isDryRun }: RestoreOptions,
): MappingReport {
  const file = join(folder, STORE_FILE)
  if (isDryRun) {
    const db = orStoreError(file, () => (existsSync(file) ? openSnapshot(file) : openDatabase(':memory:')))
    return finished(file, db, () => compare(db, mappings, now))
  }
  const lock = lockFolder(folder)
  try {
    const db = orStoreError(file, () => openDatabase(file))
    return finished(file, db, () => {
      db.exec('BEGIN IMMEDIATE')
      const report = compare(db, mappings, now)
      put(db, now)
      db.exec('COMMIT')
      return report
    })
  } finally {
    lock.release()
  }
}

function finished<Result>(file: string, db: Database, work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    throw asStoreError(file, error)
  } finally {
    // a transaction that was not committed ends with the connection
    db.close()
  }
}

function orStoreError<Result>(file: string, work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    throw asStoreError(file, error)
  }
}

function asStoreError(file: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const { message } = error as Error
  const hint = isCorruption(error) ? '; a gateway sets it aside when it starts' : ''
  return new StoreError(`${file}: ${message}${hint}`, { cause: error })
}

// ---- in SQL

const LOCAL = ['l0', 'l1', 'l2', 'l3'] as const
const CONTEXT = ['c0', 'c1', 'c2', 'c3'] as const
const REFERENCE = ['r0', 'r1', 'r2', 'r3'] as const
const isFour = (table: string) => `(${table}.l0 = 0 AND ${table}.l1 = 0 AND ${table}.l2 = 65535)`

const kinds = [
  { table: 'ours', columns: [...LOCAL, ...REFERENCE], remote: REFERENCE },
  { table: 'theirs', columns: [...LOCAL, ...CONTEXT, ...REFERENCE], remote: [...REFERENCE, ...CONTEXT] },
] as const
type Kind = (typeof kinds)[number]

const Verdict = { new: 0, same: 1, renewed: 2, conflict: 3 } as const

const equal = (columns: readonly string[]) => columns.map(column => `i.${column} = t.${column}`).join(' AND ')

/** A remote address has one encoded address of each IP version; a reference belongs to one address. */
function sameRemote({ table, remote }: Kind): string {
  return table === 'ours' ? equal(remote) : `${equal(remote)} AND ${isFour('i')} = ${isFour('t')}`
}

function compare(db: Database, mappings: Iterable<SavedMapping>, now: number): MappingReport {
  db.exec('PRAGMA temp_store = MEMORY')
  const expired = take(db, mappings, now)
  const report: MappingReport = { restored: 0, renewed: 0, same: 0, expired, conflicts: [] }
  for (const kind of kinds) judge(db, kind, now, report)
  return report
}

/** Into temporary tables; those whose time is over are only counted. */
function take(db: Database, mappings: Iterable<SavedMapping>, now: number): number {
  const insert: Partial<Record<SavedMapping['kind'], Statement>> = {}
  for (const { table, columns, remote } of kinds) {
    const family = table === 'theirs' ? ', (l0 = 0 AND l1 = 0 AND l2 = 65535)' : ''
    db.exec(`CREATE TEMP TABLE new_${table} (${columns.join(' INTEGER, ')} INTEGER, expires INTEGER, verdict INTEGER DEFAULT 0);
      CREATE UNIQUE INDEX temp.new_${table}_local ON new_${table} (l3, l2, l1, l0);
      CREATE UNIQUE INDEX temp.new_${table}_remote ON new_${table} (${[...remote].reverse().join(', ')}${family})`)
    const places = [...columns, 'expires'].map(() => '?').join(', ')
    insert[table] = db.prepare(`INSERT OR IGNORE INTO temp.new_${table} VALUES (${places}, 0)`)
  }
  let expired = 0
  for (const { kind, local, context, reference, expires } of mappings) {
    if (expires <= now) {
      expired++
      continue
    }
    const words = kind === 'ours' ? [...local, ...reference] : [...local, ...context, ...reference]
    if (insert[kind]!.run(...words, expires).changes === 1) continue
    throw new StoreError(
      `the backup says two things of ${formatWords(local)}, or of ${remoteText(kind, context, reference)}`,
    )
  }
  return expired
}

function judge(db: Database, kind: Kind, now: number, report: MappingReport): void {
  const { table } = kind
  const [local, remote] = [equal(LOCAL), sameRemote(kind)]
  const mark = (verdict: number, from: string) =>
    db
      .prepare(`UPDATE temp.new_${table} SET verdict = ${verdict} WHERE rowid IN (SELECT i.rowid FROM ${from})`)
      .run(now)
  // CROSS JOIN keeps the order: the store's rows, each looked up by an index of ours
  const pairs = `main.${table} t CROSS JOIN temp.new_${table} i`
  mark(Verdict.same, `${pairs} WHERE t.expires > ? AND ${local} AND ${remote}`)
  mark(Verdict.renewed, `${pairs} WHERE t.expires > ? AND ${local} AND ${remote} AND i.expires > t.expires`)
  const contradicts = [
    `${pairs} WHERE t.expires > ? AND ${local} AND NOT (${remote})`,
    `${pairs} WHERE t.expires > ? AND ${remote} AND NOT (${local})`,
  ]
  const columns = (of: string) => [...LOCAL, ...kind.remote].map(column => `${of}.${column}`).join(', ')
  for (const from of contradicts) {
    mark(Verdict.conflict, from)
    const found = db.prepare(`SELECT ${columns('i')}, ${columns('t')} FROM ${from}`)
    found.setReturnArrays(true)
    for (const row of found.iterate(now) as unknown as Iterable<number[]>) {
      const half = row.length / 2
      report.conflicts.push({ backup: rowText(kind, row.slice(0, half)), here: rowText(kind, row.slice(half)) })
    }
  }
  const count = db.prepare(`SELECT count(*) AS n FROM temp.new_${table} WHERE verdict = ?`)
  const of = (verdict: number) => (count.get(verdict) as { n: number }).n
  report.restored += of(Verdict.new)
  report.renewed += of(Verdict.renewed)
  report.same += of(Verdict.same)
}

function put(db: Database, now: number): void {
  for (const { table, columns } of kinds) {
    // one whose time is over may stand where a new one goes
    db.prepare(`DELETE FROM ${table} WHERE expires <= ?`).run(now)
    const all = [...columns, 'expires'].join(', ')
    const wanted = `verdict IN (${Verdict.new}, ${Verdict.renewed})`
    db.exec(`INSERT OR REPLACE INTO ${table} (${all}) SELECT ${all} FROM temp.new_${table} WHERE ${wanted}`)
  }
}

function rowText({ table }: Kind, row: readonly number[]): string {
  const words = (at: number): AddressWords => [row[at]!, row[at + 1]!, row[at + 2]!, row[at + 3]!]
  const context = table === 'theirs' ? words(8) : words(0)
  return `${formatWords(words(0))} ⇔ ${remoteText(table, context, words(4))}`
}

function remoteText(kind: SavedMapping['kind'], context: AddressWords, reference: AddressWords): string {
  return `${kind === 'ours' ? 'ours' : formatWords(context)} + ${formatReference(referenceFromWords(reference))}`
}
