/** Mappings put back into a store: into an empty one, an equal one, one that contradicts them; a gateway that runs. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type MappingReport, restoreMappings, savedMappings } from '../../../gateway/mapper/savedMappings.ts'
import { openDatabase, type SavedMapping, STORE_FILE, Store } from '../../../gateway/mapper/store.ts'
import { LockHeld, lockFolder } from '../../../gateway/sys/lock.ts'
import { type AddressWords, parseAddress, wordsFromBytes } from '../../../ipref/address.ts'
import { wordsFromReference } from '../../../ipref/reference.ts'

const NOW = 1_900_000_000
const LATER = NOW + 3600
const nothing: MappingReport = { restored: 0, renewed: 0, same: 0, expired: 0, conflicts: [] }

const words = (text: string): AddressWords => wordsFromBytes(parseAddress(text)!)
const theirs = (local: string, context: string, reference: number, expires = LATER): SavedMapping => ({
  kind: 'theirs',
  local: words(local),
  context: words(context),
  reference: wordsFromReference(BigInt(reference)),
  expires,
})
const ours = (local: string, reference: number, expires = LATER): SavedMapping => ({
  kind: 'ours',
  local: words(local),
  context: [0, 0, 0, 0],
  reference: wordsFromReference(BigInt(reference)),
  expires,
})

const some = [
  theirs('10.241.16.1', '198.51.100.2', 22),
  theirs('10.241.16.2', '198.51.100.2', 23),
  theirs('2001:db8:e::16:1', '198.51.100.2', 22),
  theirs('10.241.16.3', '2001:db8:2::1', 22),
  ours('10.1.0.10', 0x9a21000),
  ours('2001:db8:1::10', 0x9a21001),
]

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-saved-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

async function fill(mappings: readonly SavedMapping[]): Promise<void> {
  const store = new Store(folder, () => {})
  store.open(() => {})
  for (const mapping of mappings) await store.save(mapping)
  await store.close()
}

const restore = (mappings: readonly SavedMapping[], isDryRun = false) =>
  restoreMappings(folder, mappings, { now: NOW, isDryRun })
const sorted = (mappings: Iterable<SavedMapping>) => [...mappings].map(one => JSON.stringify(one)).sort()
const held = () => sorted(savedMappings(folder))

describe('mappings put back', () => {
  it('into a folder where nothing is: what the store gave is there again', async () => {
    expect(restore(some)).toEqual({ ...nothing, restored: some.length })
    expect(held()).toEqual(sorted(some))
  })

  it('a second time: nothing is to be done', async () => {
    restore(some)
    expect(restore(some)).toEqual({ ...nothing, same: some.length })
    expect(held()).toEqual(sorted(some))
  })

  it('live until the later of the two times, and not at all when theirs is over', async () => {
    await fill([
      theirs('10.241.16.1', '198.51.100.2', 22, NOW + 10),
      theirs('10.241.16.2', '198.51.100.2', 23, LATER + 10),
    ])
    const old = [ours('10.1.0.77', 0x9a21077, NOW), theirs('10.241.16.9', '198.51.100.2', 99, NOW - 1)]
    expect(restore([...some.slice(0, 2), ...old])).toEqual({ ...nothing, renewed: 1, same: 1, expired: 2 })
    expect(held()).toEqual(sorted([some[0]!, theirs('10.241.16.2', '198.51.100.2', 23, LATER + 10)]))
  })

  it.each([
    ['the address stands for another', theirs('10.241.16.1', '198.51.100.9', 5), '10.241.16.1 ⇔ 198.51.100.9 + 5'],
    ['the other has another address', theirs('10.241.16.9', '198.51.100.2', 22), '10.241.16.9 ⇔ 198.51.100.2 + 22'],
    ['the host has another reference', ours('10.1.0.10', 0x9a21099), '10.1.0.10 ⇔ ours + 9a2-1099'],
    ['the reference is of another host', ours('10.1.0.99', 0x9a21000), '10.1.0.99 ⇔ ours + 9a2-1000'],
  ])('never over what is there: %s', async (_what, there, here) => {
    await fill([there])
    const report = restore(some)
    expect(report).toMatchObject({ restored: some.length - 1, same: 0 })
    expect(report.conflicts).toEqual([{ backup: expect.stringMatching(/ ⇔ /), here }])
    const clash = some.find(one => one.kind === there.kind)!
    expect(held()).toEqual(sorted([there, ...some.filter(one => one !== clash)]))
    expect(restore(some)).toMatchObject({ restored: 0, same: some.length - 1, conflicts: report.conflicts })
  })

  it('names both that one mapping contradicts', async () => {
    await fill([theirs('10.241.16.1', '198.51.100.9', 5), theirs('10.241.16.9', '198.51.100.2', 22)])
    expect(restore(some).conflicts.map(({ here }) => here)).toEqual([
      '10.241.16.1 ⇔ 198.51.100.9 + 5',
      '10.241.16.9 ⇔ 198.51.100.2 + 22',
    ])
  })

  it('over what is there only when its time is over', async () => {
    await fill([theirs('10.241.16.1', '198.51.100.9', 5, NOW), theirs('10.241.16.9', '198.51.100.2', 22, NOW - 1)])
    expect(restore(some)).toEqual({ ...nothing, restored: some.length })
    expect(held()).toEqual(sorted(some))
  })

  it('the same host by both IP versions is no contradiction', async () => {
    await fill([theirs('2001:db8:e::16:1', '198.51.100.2', 22)])
    expect(restore(some)).toEqual({ ...nothing, restored: some.length - 1, same: 1 })
  })

  it.each([
    ['two things of one address', theirs('10.241.16.1', '198.51.100.7', 7)],
    ['two addresses of one host', theirs('10.241.16.7', '198.51.100.2', 22)],
    ['one reference of two hosts', ours('10.1.0.11', 0x9a21000)],
  ])('not at all when the backup says %s', async (_what, more) => {
    expect(() => restore([...some, more])).toThrow(/the backup says two things of/)
    expect(held()).toEqual([])
  })

  it('as a dry run: the same report, nothing is written, and no store is begun', async () => {
    expect(restore(some, true)).toEqual({ ...nothing, restored: some.length })
    expect(existsSync(join(folder, STORE_FILE))).toBe(false)
    const there = theirs('10.241.16.1', '198.51.100.9', 5)
    await fill([there])
    const planned = restore(some, true)
    expect(planned).toMatchObject({
      restored: some.length - 1,
      conflicts: [{ here: '10.241.16.1 ⇔ 198.51.100.9 + 5' }],
    })
    expect(held()).toEqual(sorted([there]))
    expect(restore(some)).toEqual(planned)
  })

  it('not while a gateway runs, but for a dry run', async () => {
    const lock = lockFolder(folder)
    expect(() => restore(some)).toThrow(LockHeld)
    expect(restore(some, true)).toEqual({ ...nothing, restored: some.length })
    lock.release()
    expect(restore(some)).toEqual({ ...nothing, restored: some.length })
  })

  it('all or none: an error in between leaves the store as it was', async () => {
    await fill([some[5]!])
    function* broken() {
      yield* some.slice(0, 3)
      throw new Error('cut off')
    }
    expect(() => restoreMappings(folder, broken(), { now: NOW, isDryRun: false })).toThrow(/cut off/)
    expect(held()).toEqual(sorted([some[5]!]))
  })
})

describe('mappings read', () => {
  it('are all of one moment, while a gateway writes', async () => {
    const store = new Store(folder, () => {})
    store.open(() => {})
    await store.save(some[0]!)
    const reading = savedMappings(folder)
    expect(reading.next().value).toEqual(some[0])
    await store.save(some[1]!)
    expect([...reading]).toEqual([])
    expect(held()).toHaveLength(2)
    await store.close()
  })

  it.each([
    ['nothing is there', () => {}, /no mapping store/],
    ['it is no store', () => writeFileSync(join(folder, STORE_FILE), 'x'.repeat(8192)), /not a database/],
    ['it is empty', () => writeFileSync(join(folder, STORE_FILE), ''), /no mapping store/],
    [
      'it is of a newer version',
      () => {
        const db = openDatabase(join(folder, STORE_FILE))
        db.exec('PRAGMA user_version = 99')
        db.close()
      },
      /newer ipref/,
    ],
  ])('not where %s, and a sentence says so', (_what, spoil, said) => {
    spoil()
    expect(() => held()).toThrow(said)
  })
})
