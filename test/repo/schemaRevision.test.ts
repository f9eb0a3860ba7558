/**
 * The schemas of crds/ change together with SCHEMA_REVISION: the chart never replaces a newer definition by an older one, and it tells them apart by that
 * number alone. What is committed in schemaRevision.json is the revision and the sum of the schemas at that revision.
 */
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { SCHEMA_REVISION } from '../../resources/schema/crd.ts'
import { readYaml } from '../../runtime/yaml.ts'
import { ROOT, read } from './files.ts'

const LABEL = 'ipref.io/schema-revision'

/** Of what the API server enforces and shows; the order of keys and the number itself do not count. */
function sumOfSchemas(): string {
  const files = readdirSync(join(ROOT, 'crds')).filter(name => name.endsWith('.yaml'))
  const specs = files.sort().map(name => sorted((readYaml(read(`crds/${name}`))[0]!.value as { spec: unknown }).spec))
  return createHash('sha256').update(JSON.stringify(specs)).digest('hex')
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sorted(one)]),
  )
}

const committed = JSON.parse(read('test/repo/schemaRevision.json')) as { revision: number; sum: string }

it('a change of the schemas raises the revision', () => {
  const isSame = sumOfSchemas() === committed.sum
  const advice = `raise SCHEMA_REVISION (resources/schema/crd.ts) above ${committed.revision}, npm run docs, and write here: ${JSON.stringify({ revision: SCHEMA_REVISION, sum: sumOfSchemas() })}`
  if (!isSame) expect(SCHEMA_REVISION, advice).toBeGreaterThan(committed.revision)
  expect(committed, advice).toEqual({ revision: SCHEMA_REVISION, sum: sumOfSchemas() })
})

it('every definition carries it', () => {
  for (const name of readdirSync(join(ROOT, 'crds')).filter(one => one.endsWith('.yaml')))
    expect(read(`crds/${name}`)).toContain(`${LABEL}: "${SCHEMA_REVISION}"`)
})
