/** Kills a mapper under load again and again: no acknowledged mapping may be lost, and no encoded address be given to two. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Store } from '../../gateway/mapper/store.ts'
import { formatWords } from '../../ipref/address.ts'
import { referenceFromWords } from '../../ipref/reference.ts'

const CHILD = join(import.meta.dirname, 'child.ts')

export interface KillingReport {
  kills: number
  acknowledged: number
  lost: string[]
  twice: string[]
}

/** What one child acknowledged before it was killed, some time after its first word. */
function runAndKill(node: string, folder: string, first: number, afterMs: number): Promise<Map<number, string>> {
  return new Promise((resolve, reject) => {
    const child = spawn(node, [CHILD, folder, String(first)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: join(folder, '../tmp') },
    })
    let [out, err] = ['', '']
    child.stderr.on('data', data => {
      err += data
    })
    child.stdout.on('data', data => {
      if (out === '') setTimeout(() => child.kill('SIGKILL'), afterMs)
      out += data
    })
    child.on('close', (_code, signal) => {
      if (signal !== 'SIGKILL') return reject(new Error(`the mapper ended by itself: ${err}`))
      // the last line may be cut
      const lines = out.slice(0, out.lastIndexOf('\n')).split('\n')
      resolve(new Map(lines.map(line => [Number(line.split(' ')[0]), line.split(' ')[1]!])))
    })
  })
}

export async function killAgainAndAgain(kills: number, node = process.execPath): Promise<KillingReport> {
  const parent = mkdtempSync(join(tmpdir(), 'ipref-kill-'))
  const folder = join(parent, 'data')
  // what killed children leave behind goes with it
  mkdirSync(join(parent, 'tmp'))
  const acknowledged = new Map<number, string>()
  const report: KillingReport = { kills, acknowledged: 0, lost: [], twice: [] }
  try {
    let first = 2
    for (let i = 0; i < kills; i++) {
      for (const [reference, encoded] of await runAndKill(node, folder, first, (i * 7) % 40)) {
        acknowledged.set(reference, encoded)
        first = Math.max(first, reference + 1)
      }
      compare(folder, acknowledged, report)
      if (report.lost.length + report.twice.length > 0) break
    }
    report.acknowledged = acknowledged.size
    return report
  } finally {
    rmSync(parent, { recursive: true, force: true })
  }
}

function compare(folder: string, acknowledged: ReadonlyMap<number, string>, report: KillingReport): void {
  const held = new Map<number, string>()
  const holders = new Map<string, number>()
  const store = new Store(folder, () => {})
  store.readOnce(saved => {
    const [reference, encoded] = [Number(referenceFromWords(saved.reference)), formatWords(saved.local)]
    held.set(reference, encoded)
    const before = holders.get(encoded)
    if (before !== undefined && before !== reference) report.twice.push(`${encoded}: ${before} and ${reference}`)
    holders.set(encoded, reference)
  })
  for (const [reference, encoded] of acknowledged)
    if (held.get(reference) !== encoded) report.lost.push(`${reference} ${encoded}, found ${held.get(reference)}`)
  const given = new Map<string, number>()
  for (const [reference, encoded] of acknowledged) {
    if (given.has(encoded)) report.twice.push(`${encoded} was given to ${given.get(encoded)} and ${reference}`)
    given.set(encoded, reference)
  }
}
