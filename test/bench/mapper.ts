/**
 * P16 and P17: durable creations a second through the mapper's own interface, loading a million saved mappings, memory.
 *
 * Each figure is measured in a process of its own, so that memory is that of one thing.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MapperLab } from '../conformance/mapper.ts'
import { fillStore } from './fillStore.ts'

export interface MapperFigures {
  createPerSecond: number
  bulkLoadSeconds: number
  fixedMegabytes: number
  bytesPerMapping: number
}

const HALF_MILLION = 500_000

/** Fills a data folder with 500,000 mappings of each relation (encoding network 10.240.0.0/12), or empties it. */
export function prepareMillion(folder: string, what: 'fill' | 'empty'): void {
  fillStore(folder, { pairs: what === 'fill' ? HALF_MILLION : 0, context: 0xc6336440, firstEncoded: 0x0af00000 })
}

async function create(): Promise<number> {
  const lab = new MapperLab({
    encodeNets: ['10.0.0.0/8'],
    contexts: ['198.51.100.1'],
    capacity: 1_000_000,
    quotaPerPeer: 10_000_000,
  })
  await lab.open()
  const context = Uint8Array.of(198, 51, 100, 2)
  const seconds = 3
  const started = performance.now()
  let made = 0
  // 512 askers, as many as an open socket may have outstanding; each waits for its own commit
  const asker = async (first: number) => {
    for (let n = first; performance.now() - started < seconds * 1000; n += 512) {
      const got = lab.mapper.encodedFor({ context, reference: BigInt(n + 2), family: 4 })
      if ('refused' in got) throw new Error(got.refused)
      await got.durable
      made++
    }
  }
  await Promise.all(Array.from({ length: 512 }, (_, i) => asker(i)))
  const rate = made / ((performance.now() - started) / 1000)
  await lab.close()
  return rate
}

function load(folder: string): Promise<{ seconds: number; megabytes: number; mappings: number }> {
  const lab = new MapperLab({
    encodeNets: ['10.240.0.0/12'],
    contexts: ['198.51.100.1'],
    capacity: 1_000_000,
    quotaPerPeer: 10_000_000,
    dataFolder: folder,
  })
  const started = performance.now()
  lab.store.open(saved => lab.mapper.restore(saved))
  const seconds = (performance.now() - started) / 1000
  global.gc?.()
  const megabytes = process.memoryUsage.rss() / 1e6
  const { dynamic = 0 } = lab.mapper.countsByOwner()
  return lab.close().then(() => ({ seconds, megabytes, mappings: dynamic }))
}

function inProcess(...args: string[]): unknown {
  const run = spawnSync(process.execPath, ['--expose-gc', import.meta.filename, ...args], {
    encoding: 'utf8',
    timeout: 300_000,
  })
  if (run.status !== 0) throw new Error(run.stderr)
  return JSON.parse(run.stdout)
}

export async function measureMapper(): Promise<MapperFigures> {
  const createPerSecond = Math.round(inProcess('create') as number)
  const folder = mkdtempSync(join(tmpdir(), 'ipref-bench-'))
  try {
    prepareMillion(folder, 'empty')
    const empty = inProcess('load', folder) as { megabytes: number }
    prepareMillion(folder, 'fill')
    const full = inProcess('load', folder) as { seconds: number; megabytes: number; mappings: number }
    return {
      createPerSecond,
      bulkLoadSeconds: Number(full.seconds.toFixed(2)),
      fixedMegabytes: Math.round(empty.megabytes),
      bytesPerMapping: Math.round(((full.megabytes - empty.megabytes) * 1e6) / full.mappings),
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  const [what, folder = ''] = process.argv.slice(2)
  if (what === 'create') console.log(JSON.stringify(await create()))
  else if (what === 'load') console.log(JSON.stringify(await load(folder)))
  else console.log(JSON.stringify(await measureMapper(), null, 2))
  process.exit(0)
}
