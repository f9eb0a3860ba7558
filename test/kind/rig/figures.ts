/** Figures that files find on their way, for one table at the end of a run and for `--json FILE`. */
import { writeFileSync } from 'node:fs'
import type { Flow } from './stream.ts'

export interface Figure {
  what: string
  value: number
  unit: string
}

const found: Figure[] = []

export function note(what: string, value: number, unit: string): void {
  found.push({ what, value: Math.round(value * 1000) / 1000, unit })
}

export function noteFlow(what: string, { lost, sent, gapMs, recoveredMs }: Flow): void {
  note(`${what}: packets lost`, lost, `of ${sent}`)
  note(`${what}: longest gap`, gapMs / 1000, 's')
  note(`${what}: time to recover`, recoveredMs / 1000, 's')
}

/** Lines of the table; empty: nothing was noted. */
export function figureTable(): string[] {
  const width = Math.max(0, ...found.map(({ what }) => what.length))
  return found.map(({ what, value, unit }) => `      ${what.padEnd(width)}  ${String(value).padStart(9)} ${unit}`)
}

export function writeFigures(file: string): void {
  writeFileSync(file, `${JSON.stringify(found, undefined, 2)}\n`)
}
