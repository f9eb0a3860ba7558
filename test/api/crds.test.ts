/** The rules of our kinds, as a real API server reads them: each row of resourceCases.ts is accepted or refused there too, for the same field, with our words. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { KubeObject } from '../../resources/kinds.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { celMessage } from '../../resources/schema/crd.ts'
import { type OwnKind, ownKinds, placedRules, validate } from '../../resources/schema/tables.ts'
import { StoreError } from '../../resources/store.ts'
import { readYaml } from '../../runtime/yaml.ts'
import { isMissing, kubectl, sharedApiServer } from '../support/apiServer.ts'
import { arbitraryChange, arbitraryObject } from '../support/resourceArbitrary.ts'
import type { ResourceCase } from '../support/resourceBuilders.ts'
import { resourceCases } from '../support/resourceCases.ts'

const server = sharedApiServer()
const EXAMPLES = join(import.meta.dirname, '../../crds/examples')
const RANDOM_OBJECTS = 40
const AT_ONCE = 8
let store: KubernetesStore

beforeAll(async () => {
  if (!isMissing(server)) store = await KubernetesStore.open({ kubeconfig: server.kubeconfig })
})
afterAll(() => store?.close())

/** What the server says; undefined: accepted. Nothing is left behind. */
async function verdict(kind: OwnKind, object: object, old?: object): Promise<string | undefined> {
  const { metadata } = (old ?? object) as KubeObject
  const key = { name: metadata.name, ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }) }
  try {
    const made = await store.create(kind, (old ?? object) as never)
    if (!old) return undefined
    const next = {
      ...object,
      metadata: { ...(object as KubeObject).metadata, resourceVersion: made.metadata.resourceVersion },
    }
    await store.update(kind, next as never)
    return undefined
  } catch (error) {
    if (error instanceof StoreError && error.code === 'Invalid') return error.message
    throw error
  } finally {
    await store.delete(kind, key)
  }
}

/** Several at once, each under a name of its own; the names of rows about names, and of claims, mean something. */
async function each<Item>(
  items: readonly Item[],
  judge: (item: Item, rename: <O extends object>(object: O) => O) => Promise<string | undefined>,
  atOnce = AT_ONCE,
) {
  const wrong: string[] = []
  let next = 0
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) {
      const rename = <O extends object>(object: O): O => {
        const { kind, metadata } = object as unknown as KubeObject
        if (kind === 'IprefReference') return object
        return { ...object, metadata: { ...metadata, name: `row-${i}` } }
      }
      const problem = await judge(items[i]!, rename)
      if (problem !== undefined) wrong.push(problem)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return wrong
}

// the server drops them, unless it is asked not to
function isAboutUnknownFields({ name }: ResourceCase): boolean {
  return name.startsWith('an unknown field')
}

function isAboutNames({ kind, refused, rule }: ResourceCase): boolean {
  return kind === 'IprefReference' || refused === 'metadata.name' || rule?.includes('name') === true
}

function expectedWords({ kind, rule }: ResourceCase): string[] {
  if (rule === undefined) return []
  return placedRules(kind)
    .filter(placed => placed.place === rule)
    .map(placed => celMessage(placed.rule))
}

describe.skipIf(isMissing(server))('with an API server', () => {
  it.each(ownKinds)('%s: every row is accepted or refused as the table says', async kind => {
    const rows = resourceCases.filter(one => one.kind === kind && !isAboutUnknownFields(one))
    const [named, others] = [rows.filter(isAboutNames), rows.filter(row => !isAboutNames(row))]
    const judge = async (row: ResourceCase, rename: <O extends object>(object: O) => O) => {
      const said = await verdict(kind, rename(row.object), row.old && rename(row.old))
      const words = expectedWords(row)
      const isRight =
        row.refused === undefined
          ? said === undefined
          : said?.includes(row.refused) && words.every(one => said.includes(one))
      return isRight ? undefined : `${row.rule ?? 'schema'}, ${row.name}: ${said ?? 'accepted'}`
    }
    const wrong = await each(others, judge)
    for (const row of named) wrong.push(...[await judge(row, object => object)].filter(one => one !== undefined))
    expect(wrong).toEqual([])
  })

  it.each(ownKinds)('%s: random objects and changes are judged as by our own validation', async kind => {
    const objects = fc.sample(arbitraryObject(kind, '9a2'), { numRuns: RANDOM_OBJECTS, seed: 7 })
    const changes = fc.sample(arbitraryChange(kind, '9a2'), { numRuns: RANDOM_OBJECTS, seed: 11 })
    const pairs = [...objects.map(object => ({ object, old: undefined })), ...changes]
    const inTurn = kind === 'IprefReference' ? 1 : AT_ONCE
    const wrong = await each(
      pairs,
      async ({ object, old }, rename) => {
        const ours = validate(kind, object, old).length === 0
        const theirs = (await verdict(kind, rename(object), old && rename(old))) === undefined
        if (ours === theirs) return undefined
        return `${JSON.stringify(old)} to ${JSON.stringify(object)}: we say ${ours}, the server says ${theirs}`
      },
      inTurn,
    )
    expect(wrong).toEqual([])
  })

  it('fields that are in no table are refused where the client asks for it, as kubectl does', async () => {
    if (isMissing(server)) return
    const rows = resourceCases.filter(isAboutUnknownFields)
    expect(rows.length).toBeGreaterThan(0)
    for (const { object, refused } of rows) {
      const argv = ['create', '--dry-run=server', '--validate=strict', '-f', '-']
      const { code, errors } = await kubectl(server.kubeconfig, argv, JSON.stringify(object))
      expect([code, errors]).toEqual([1, expect.stringContaining(`unknown field "${refused}"`)])
    }
  })

  it('the examples are applied by kubectl, and explained', async () => {
    if (isMissing(server)) return
    for (const file of readdirSync(EXAMPLES)) {
      const text = readFileSync(join(EXAMPLES, file), 'utf8')
      expect(readYaml(text).length).toBeGreaterThan(0)
      const argv = ['apply', '--server-side', '--dry-run=server', '-f', '-']
      // examples are in namespaces of their teams, which are not there
      const inDefault = text.replaceAll(/^( *)namespace: .*$/gm, '$1namespace: default')
      const { code, errors } = await kubectl(server.kubeconfig, argv, inDefault)
      expect([file, code, errors]).toMatchObject([file, 0, expect.anything()])
    }
    const { output } = await kubectl(server.kubeconfig, ['explain', 'iprefservice.spec.target.service.mode'])
    expect(output).toContain('Endpoints')
  })

  it('kubectl get shows the columns, by short names and the category', async () => {
    if (isMissing(server)) return
    const argv = ['apply', '-f', '-']
    const manifest = {
      apiVersion: 'ipref.io/v1alpha1',
      kind: 'IprefService',
      metadata: { name: 'columns', namespace: 'default' },
      spec: { target: { service: { name: 'web' } } },
    }
    await kubectl(server.kubeconfig, argv, JSON.stringify(manifest))
    try {
      const { output } = await kubectl(server.kubeconfig, ['get', 'iprefsvc', '-n', 'default'])
      expect(output.split('\n')[0]).toMatch(/^NAME +READY +REASON +TARGET/)
      const all = await kubectl(server.kubeconfig, ['get', 'ipref', '-n', 'default'])
      expect(all.output).toContain('columns')
    } finally {
      await store.delete('IprefService', { namespace: 'default', name: 'columns' })
    }
  })
})
