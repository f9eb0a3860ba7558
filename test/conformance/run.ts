/**
 * `npm run conformance -- FOLDER…`: runs every vector file of the folders (without one: test/vectors and, where it exists, ../shared/vectors).
 *
 * The driver is chosen by what a file holds. Prints a line for each class that is not whole, the counts by class, and at last
 * `N passed, N failed, N skipped`. Exit code 1 when one failed.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { runDnsVectors } from './dns.ts'
import { runMapperVectors } from './mapper.ts'
import { runPacketVector } from './packets.ts'
import { runRefsVector } from './refs.ts'
import { joinFields, type Outcome, type Vector } from './vectors.ts'

const ROOT = join(import.meta.dirname, '../..')

function defaultFolders(): string[] {
  return [join(ROOT, 'test/vectors'), join(ROOT, '../shared/vectors')].filter(folder => existsSync(folder))
}

async function runFile(file: string): Promise<Outcome[]> {
  const { vectors } = joinFields(JSON.parse(readFileSync(file, 'utf8'))) as { vectors: Vector[] }
  const first = vectors[0]?.input ?? {}
  if ('packets' in first) return vectors.map(vector => guarded(vector, () => runPacketVector(vector, 'encap')))
  if ('datagrams' in first) return vectors.map(vector => guarded(vector, () => runPacketVector(vector, 'decap')))
  if (basename(file).startsWith('mapper')) return runMapperVectors(vectors)
  if (basename(file).startsWith('dns')) return runDnsVectors(file, vectors)
  return vectors.map(vector => guarded(vector, () => runRefsVector(vector)))
}

function guarded(vector: Vector, run: () => Outcome): Outcome {
  try {
    return run()
  } catch (error) {
    return { vector, kind: 'failed', why: `threw ${(error as Error).stack}` }
  }
}

export interface ConformanceResult {
  passed: number
  failed: number
  skipped: { count: number; why: string }[]
}

export async function runConformance(
  folders: readonly string[],
  print: (line: string) => void,
): Promise<ConformanceResult> {
  const result: ConformanceResult = { passed: 0, failed: 0, skipped: [] }
  for (const folder of folders) {
    const files = statSync(folder).isDirectory()
      ? readdirSync(folder)
          .filter(name => name.endsWith('.json'))
          .sort()
          .map(name => join(folder, name))
      : [folder]
    for (const file of files) report(await runFile(file), file, result, print)
  }
  return result
}

function report(outcomes: Outcome[], file: string, result: ConformanceResult, print: (line: string) => void): void {
  const counts = (kind: Outcome['kind']) => outcomes.filter(outcome => outcome.kind === kind)
  const [failed, skipped, superseded] = [counts('failed'), counts('skipped'), counts('superseded')]
  const better = outcomes.filter(outcome => outcome.kind === 'passed' && outcome.vector.do_better).length
  result.passed += outcomes.length - failed.length - skipped.length
  result.failed += failed.length
  print(
    `${file}: ${outcomes.length - failed.length - skipped.length} passed (${better} by a do-better rule, ${superseded.length} superseded), ${failed.length} failed, ${skipped.length} skipped`,
  )
  for (const [why, group] of Map.groupBy(superseded, outcome => outcome.why!))
    print(`  superseded ${group.length}: ${why}`)
  for (const [why, group] of Map.groupBy(skipped, outcome => outcome.why!)) {
    print(`  skipped ${group.length}: ${why}`)
    result.skipped.push({ count: group.length, why })
  }
  for (const outcome of failed) print(`  FAILED ${outcome.vector.name} (${outcome.vector.description}): ${outcome.why}`)
}

if (import.meta.main) {
  const folders = process.argv.slice(2)
  const missing = folders.filter(folder => !existsSync(folder))
  for (const folder of missing) console.error(`${folder}: no such file or folder`)
  const result = await runConformance(
    folders.length > 0 ? folders.filter(f => !missing.includes(f)) : defaultFolders(),
    console.log,
  )
  const skipped = result.skipped.reduce((sum, { count }) => sum + count, 0)
  console.log(`${result.passed} passed, ${result.failed} failed, ${skipped} skipped`)
  process.exit(result.failed > 0 || missing.length > 0 ? 1 : 0)
}
