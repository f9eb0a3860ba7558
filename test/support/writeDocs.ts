/** `npm run docs`: writes the pages that are made from the program itself. test/repo compares them. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { renderMetricsPage } from '../../gateway/metrics.ts'
import { renderOptionsPage } from '../../gateway/options.ts'

export const generatedPages: Readonly<Record<string, () => string>> = {
  'docs/metrics.md': renderMetricsPage,
  'docs/options.md': renderOptionsPage,
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '../..')
  for (const [path, render] of Object.entries(generatedPages)) writeFileSync(join(root, path), render())
}
