/** The writing thread of the mapping store (store.ts): each message is one transaction. SQLite blocks here, and nowhere else. */
import { parentPort, workerData } from 'node:worker_threads'
import { Operation, openDatabase, ROW_WORDS, Row } from './store.ts'

const port = parentPort!
const db = openDatabase((workerData as { file: string }).file)
const saveOurs = db.prepare('INSERT OR REPLACE INTO ours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
const saveTheirs = db.prepare('INSERT OR REPLACE INTO theirs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
const removeOurs = db.prepare('DELETE FROM ours WHERE l3 = ? AND l2 = ? AND l1 = ? AND l0 = ?')
const removeTheirs = db.prepare('DELETE FROM theirs WHERE l3 = ? AND l2 = ? AND l1 = ? AND l0 = ?')

function write(rows: Int32Array, at: number): void {
  const word = (i: number) => rows[at + i]!
  const [l0, l1, l2, l3] = [word(1), word(2), word(3), word(4)]
  const [r0, r1, r2, r3] = [word(9), word(10), word(11), word(12)]
  const expires = word(Row.expires)
  const operation = word(Row.operation)
  if (operation === Operation.saveTheirs)
    saveTheirs.run(l0, l1, l2, l3, word(5), word(6), word(7), word(8), r0, r1, r2, r3, expires)
  else if (operation === Operation.saveOurs) saveOurs.run(l0, l1, l2, l3, r0, r1, r2, r3, expires)
  else if (operation === Operation.removeTheirs) removeTheirs.run(l3, l2, l1, l0)
  else removeOurs.run(l3, l2, l1, l0)
}

port.on('message', (message: 'close' | { rows: Int32Array; count: number }) => {
  if (message === 'close') {
    db.close()
    port.close()
    return
  }
  try {
    db.exec('BEGIN IMMEDIATE')
    for (let i = 0; i < message.count; i++) write(message.rows, i * ROW_WORDS)
    db.exec('COMMIT')
    port.postMessage({})
  } catch (error) {
    try {
      db.exec('ROLLBACK')
    } catch {
      // SQLite has rolled back by itself
    }
    port.postMessage({ error: (error as Error).message })
  }
})
