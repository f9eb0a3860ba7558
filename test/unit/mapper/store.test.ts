import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type SavedMapping, STORE_FILE, Store, StoreError, type StoreEvent } from '../../../gateway/mapper/store.ts'
import { lockFolder } from '../../../gateway/sys/lock.ts'

let folder = ''
let events: StoreEvent[] = []
const mapping = (n: number): SavedMapping => ({
  kind: 'theirs',
  local: [0, 0, 0xffff, n],
  context: [0, 0, 0xffff, 7],
  reference: [0, 0, -1, n],
  expires: 2_000_000_000,
})

// a small disk needs the right to mount one
function canMount(): boolean {
  const place = mkdtempSync(join(tmpdir(), 'ipref-mount-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', place]).status === 0
  if (mounted) spawnSync('umount', [place])
  rmSync(place, { recursive: true, force: true })
  return mounted
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-store-'))
  events = []
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function open(): { store: Store; found: SavedMapping[]; broken: boolean } {
  const store = new Store(folder, event => events.push(event))
  const found: SavedMapping[] = []
  return { store, found, broken: store.open(m => found.push(m)) }
}

describe('the mapping store', () => {
  it('gives back what was saved, and not what was removed', async () => {
    const { store } = open()
    await Promise.all([1, 2, 3].map(n => store.save(mapping(n))))
    store.remove('theirs', [0, 0, 0xffff, 2])
    await store.close()
    const again = open()
    expect(again.found.sort((a, b) => a.local[3] - b.local[3])).toEqual([mapping(1), mapping(3)])
    await again.store.close()
  })
  it('writes what waits in one transaction', async () => {
    const { store } = open()
    await Promise.all(Array.from({ length: 1000 }, (_, n) => store.save(mapping(n))))
    expect(store.commits).toBeLessThan(10)
    await store.close()
  })
  it.each([
    ['no database at all', (file: string) => writeFileSync(file, 'x'.repeat(8192))],
    ['cut in the middle', (file: string) => truncateSync(file, 5000)],
  ])('sets a broken file aside: %s', async (_name, spoil) => {
    const first = open()
    await Promise.all(Array.from({ length: 500 }, (_, n) => first.store.save(mapping(n))))
    await first.store.close()
    spoil(join(folder, STORE_FILE))
    const { store, broken } = open()
    expect(broken).toBe(true)
    expect(events).toMatchObject([{ what: 'set-aside', detail: expect.stringContaining('corrupt-') }])
    expect(readdirSync(folder).some(name => name.includes('corrupt-'))).toBe(true)
    await store.save(mapping(1))
    await store.close()
  })
  it('refuses a newer schema by name', () => {
    const db = new DatabaseSync(join(folder, STORE_FILE))
    db.exec('PRAGMA user_version = 99')
    db.close()
    expect(() => open()).toThrow(StoreError)
    expect(() => open()).toThrow(/newer ipref \(schema 99/)
  })
  it('says that it leaves the files of another program alone', async () => {
    writeFileSync(join(folder, 'mapper.db'), 'theirs')
    const { store } = open()
    expect(events).toMatchObject([{ what: 'foreign-files' }])
    await store.close()
  })
  it('is for one process at a time', () => {
    const lock = lockFolder(folder)
    expect(() => lockFolder(folder)).toThrow(/in use by another ipref gateway \(process \d+\)/)
    lock.release()
    lockFolder(folder).release()
  })
  it.skipIf(!canMount())(
    'tells who waits when the disk is full, and goes on when it is not (needs the right to mount)',
    async () => {
      expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=600k', 'tmpfs', folder]).status).toBe(0)
      try {
        const { store } = open()
        const filler = join(folder, 'filler')
        await store.save(mapping(0))
        spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1k'])
        const outcomes = await Promise.allSettled(Array.from({ length: 3000 }, (_, n) => store.save(mapping(n + 1))))
        expect(outcomes.some(outcome => outcome.status === 'rejected')).toBe(true)
        expect(store.failing).toBe(true)
        rmSync(filler)
        await expect.poll(() => store.failing).toBe(false)
        await store.save(mapping(9999))
        await store.close()
        expect(open().found.length).toBe(3002)
      } finally {
        spawnSync('umount', ['-l', folder])
      }
    },
  )
})
