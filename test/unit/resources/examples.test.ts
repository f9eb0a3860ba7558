/** The examples that people begin with are right, and so is what the pages show. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../../resources/config.ts'
import type { IprefService } from '../../../resources/kinds.ts'
import { isNameProblem, namesOf } from '../../../resources/names.ts'
import { problemText } from '../../../resources/schema/check.ts'
import { configExample } from '../../../resources/schema/page.ts'
import { type OwnKind, validate } from '../../../resources/schema/tables.ts'
import { readYaml } from '../../../runtime/yaml.ts'
import { ROOT, read } from '../../repo/files.ts'

const files = readdirSync(join(ROOT, 'crds/examples')).filter(name => name.endsWith('.yaml'))

it('there are some', () => expect(files.length).toBeGreaterThan(5))

describe.each(files)('%s', file => {
  const documents = readYaml(read(`crds/examples/${file}`))

  it('can be read', () => expect(documents.flatMap(one => one.problems)).toEqual([]))

  it('is right', () => {
    const objects = documents.map(one => one.value as { kind: OwnKind })
    expect(objects.flatMap(object => validate(object.kind, object).map(problemText))).toEqual([])
  })
})

it('the settings of the page are right, and the names of the examples are granted by them and by their own comment', () => {
  const parsed = parseConfig(`${configExample}`, 'example')
  expect(parsed).toHaveProperty('config')
  if (!('config' in parsed)) return
  const grants = [...parsed.config.grants, { namespace: 'shop', names: ['erp.example.com'] }]
  const services = files
    .flatMap(file => readYaml(read(`crds/examples/${file}`)))
    .map(one => one.value as IprefService)
    .filter(one => one.kind === 'IprefService')
  const names = services.map(service => namesOf(service, { ...parsed.config, grants }))
  expect(names.filter(isNameProblem)).toEqual([])
})
