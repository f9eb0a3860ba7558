/** The writing thread of the mapping store (store.ts): each message is one transaction. SQLite blocks here, and nowhere else. */
import { parentPort, workerData } from 'node:worker_threads'
import { Operation, openDatabase, ROW_WORDS, Row } from './store.ts'

const port = parentPort!
const db = openDatabase((workerData as { file: string }).file)
const saveOurs = db.prepare('INSERT OR REPLACE INTO ours VALUES (?, ?, ?)')
const saveTheirs = db.prepare('INSERT OR REPLACE INTO theirs VALUES (?, ?, ?, ?)')
const removeOurs = db.prepare('DELETE FROM ours WHERE local = ?')
const removeTheirs = db.prepare('DELETE FROM theirs WHERE local = ?')

function blob(rows: Int32Array, at: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < 4; i++) view.setInt32(i * 4, rows[at + i]!)
  return bytes
}

function write(rows: Int32Array, at: number): void {
  const local = blob(rows, at + Row.local)
  const operation = rows[at]
  if (operation === Operation.saveTheirs) {
    saveTheirs.run(local, blob(rows, at + Row.context), blob(rows, at + Row.reference), rows[at + Row.expires]!)
  } else if (operation === Operation.saveOurs) saveOurs.run(local, blob(rows, at + Row.reference), rows[at + Row.expires]!)
  else if (operation === Operation.removeTheirs) removeTheirs.run(local)
  else removeOurs.run(local)
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
