/** A store with so many mappings, written without a gateway. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { openDatabase, STORE_FILE } from '../../gateway/mapper/store.ts'

export interface Filling {
  /** mappings of each relation; 0: the store is emptied */
  pairs: number
  /** of all of theirs: a gateway, as the last word of its address */
  context: number
  /** of theirs: where encoded addresses begin, as the last word of an address */
  firstEncoded: number
}

/** What was in the store of this data folder is gone then. */
export function fillStore(folder: string, { pairs, context, firstEncoded }: Filling): void {
  mkdirSync(folder, { recursive: true })
  const db = openDatabase(join(folder, STORE_FILE))
  const expires = Math.floor(Date.now() / 1000) + 14_000
  db.exec('BEGIN; DELETE FROM ours; DELETE FROM theirs')
  const ours = db.prepare('INSERT INTO ours VALUES (0, 0, 65535, ?, 0, 0, ?, ?, ?)')
  const theirs = db.prepare('INSERT INTO theirs VALUES (0, 0, 65535, ?, 0, 0, 65535, ?, 0, 0, ?, ?, ?)')
  for (let i = 0; i < pairs; i++) {
    // the dynamic part of the network: second-to-last byte 16 to 255
    const [sixteen, rest] = [Math.floor(i / 60_000), i % 60_000]
    const host = (sixteen << 16) | ((16 + Math.floor(rest / 250)) << 8) | (1 + (rest % 250))
    ours.run((0xac000000 + host) | 0, 0x1000, 0x10001000 + i, expires)
    theirs.run((firstEncoded + host) | 0, context | 0, 0x2000, 0x20001000 + i, expires)
  }
  db.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
}
