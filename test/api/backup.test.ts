/**
 * References put back into a cluster that lost all of them, with its objects: the same services have the same references again, nobody else has one of
 * them, and the ledger, which looks at every moment in between, has no fault to tell. A real API server, the operator, and `ipref` as people call it.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { readBackup } from '../../cli/backupStorage.ts'
import { referenceOf as referenceText } from '../../resources/claims.ts'
import type { IprefService } from '../../resources/kinds.ts'
import { type ApiServer, kubectl, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { eventually } from '../support/netns.ts'
import { conditionOf, OperatorCluster, type RunningOperator, SHOP } from '../support/operatorCluster.ts'
import { openAccounts } from '../support/referenceLedger.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const LONG = { withinMs: 90_000, everyMs: 200 }
const NAMES = ['web', 'api', 'mail', 'chat', 'cache'] as const
const address = (i: number) => `172.20.0.${i + 10}`

const problem = ownApiServerProblem()
if (problem) process.stdout.write(`skipped: backup and restore of a cluster: ${problem}\n`)

describe.skipIf(problem)('backup and restore of a cluster', { timeout: 240_000 }, () => {
  let server: ApiServer
  let cluster: OperatorCluster
  let operator: RunningOperator | undefined
  const folder = mkdtempSync(join(tmpdir(), 'ipref-backup-'))
  const file = join(folder, 'backup')
  /** by name, as others know it */
  let before: Record<string, string>

  function ipref(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    return new Promise(resolve => {
      const child = spawn(IPREF, [...args, '-kubeconfig', server.kubeconfig])
      let [out, err] = ['', '']
      child.stdout.on('data', data => {
        out += data
      })
      child.stderr.on('data', data => {
        err += data
      })
      child.on('close', code => resolve({ code, out, err }))
    })
  }

  const referenceOf = (object: IprefService | undefined) => object?.status?.mappings?.[0]?.reference
  async function references(): Promise<Record<string, string | undefined>> {
    const objects = await cluster.users.list('IprefService')
    return Object.fromEntries(objects.map(object => [object.metadata.name, referenceOf(object)]))
  }
  const published = (name: string) =>
    eventually(`${name} has a reference`, async () => referenceOf(await cluster.object(name)), LONG)

  /** As after `kubectl delete` of everything of ours, finalizers and all. */
  async function empty(): Promise<void> {
    const { users } = cluster
    for (const object of await users.list('IprefService'))
      await users.update('IprefService', { ...object, metadata: { ...object.metadata, finalizers: [] } })
    for (const { metadata } of await users.list('IprefService')) {
      const { namespace, name } = metadata
      await users.delete('IprefService', { namespace: namespace!, name })
    }
    await eventually('no objects', async () => (await users.list('IprefService')).length === 0, LONG)
    for (const { metadata } of await users.list('IprefReference'))
      await users.delete('IprefReference', { name: metadata.name })
    expect(await users.list('IprefReference')).toEqual([])
  }

  async function applyObjects(what: (text: string) => boolean): Promise<void> {
    const { code, out } = await ipref('restore', file, '-objects')
    expect(code).toBe(0)
    const documents = out.split('---\n').filter(text => text.includes('kind: IprefService') && what(text))
    const { code: applied, errors } = await kubectl(server.kubeconfig, ['apply', '-f', '-'], documents.join('---\n'))
    expect({ applied, errors }).toMatchObject({ applied: 0 })
  }

  beforeAll(async () => {
    server = await startOwnApiServer('backup')
    cluster = await OperatorCluster.open(server.kubeconfig)
    operator = await cluster.startOperator()
    for (const [i, name] of NAMES.entries()) await cluster.publish(name, { address: address(i) })
    for (const name of NAMES) await published(name)
    // shares that of `web`, and comes before it in the alphabet
    await cluster.publish('alias', { address: address(0) })
    await cluster.publish('gone', { address: '172.20.0.99' })
    await published('gone')
    await published('alias')
    before = (await references()) as Record<string, string>
    expect(before.alias).toBe(before.web)
    await cluster.remove('gone')
    await eventually('gone is gone', async () => (await cluster.object('gone')) === undefined, LONG)
    await eventually(
      'its claim is let go',
      async () => (await claimOf(before.gone!))?.spec.releasedAt !== undefined,
      LONG,
    )
    expect(await ipref('backup', file)).toEqual({ code: 0, out: '', err: `references: 6, objects: 6, in ${file}\n` })
    await operator.stop()
    operator = undefined
  }, 180_000)
  afterEach(async () => {
    await operator?.stop()
    operator = undefined
  })
  afterAll(async () => {
    await cluster?.close()
    await server?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  async function claimOf(reference: string) {
    return (await cluster.users.list('IprefReference')).find(claim => referenceText(claim) === reference)
  }

  /** Everything as it was; what is gone is still kept, and no other has any of the references. */
  async function isAsBefore(): Promise<void> {
    const { gone, ...living } = before
    await eventually(
      'the same references',
      async () => JSON.stringify(sorted(await references())) === JSON.stringify(sorted(living)),
      LONG,
    ).catch(async (error: Error) => {
      throw new Error(`${error.message}\n${JSON.stringify({ now: await references(), living }, null, 1)}`)
    })
    const [objects, claims] = [await cluster.users.list('IprefService'), await cluster.users.list('IprefReference')]
    expect(openAccounts(objects, claims)).toEqual([])
    expect(claims.map(referenceText).sort()).toEqual([...new Set(Object.values(before))].sort())
    expect((await claimOf(gone!))?.spec).toMatchObject({ name: 'gone', releasedAt: expect.any(String) })
    expect(cluster.ledger.faults).toEqual([])
  }

  it('has all claims, also of what is gone, and its objects in the order in which they can come back', async () => {
    const content = await readBackup(file)
    expect(content.references.map(referenceText).sort()).toEqual([...new Set(Object.values(before))].sort())
    expect(content.objects.map(({ metadata }) => metadata.name).at(-1)).toBe('alias')
    expect(JSON.stringify(content.objects)).not.toMatch(/status|resourceVersion|finalizers|"uid"/)
  })

  it('an emptied cluster, under an operator that runs', async () => {
    await empty()
    operator = await cluster.startOperator()
    expect(await ipref('restore', file, '-dry-run')).toMatchObject({
      code: 0,
      out: expect.stringContaining('references: 6 to restore, 0 there already, 0 conflicts\n'),
    })
    expect(await cluster.users.list('IprefReference')).toEqual([])
    const restored = await ipref('restore', file, '-wait', '90')
    expect(restored).toMatchObject({ code: 0, err: '' })
    expect(restored.out).toMatch(/^references: 6 restored, 0 there already, 0 conflicts\nthe operator knows them/)
    await applyObjects(text => !text.includes('no reference of its own'))
    for (const name of NAMES) await published(name)
    await applyObjects(() => true)
    await isAsBefore()
    expect(await ipref('restore', file)).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^references: 0 restored, 6 there already, 0 conflicts\n/),
    })
    await isAsBefore()
  })

  it('an emptied cluster, before its operator comes', async () => {
    await empty()
    const restored = await ipref('restore', file, '-wait', '0')
    expect(restored.out).toMatch(/^references: 6 restored, .*\nno operator has taken note of them yet/)
    await applyObjects(text => !text.includes('no reference of its own'))
    operator = await cluster.startOperator()
    for (const name of NAMES) await published(name)
    await applyObjects(() => true)
    await isAsBefore()
  })

  it('objects first: their new references stay, the old ones are named, and nobody has two', async () => {
    await empty()
    operator = await cluster.startOperator()
    await cluster.publish('web', { address: address(0) })
    const other = await published('web')
    // asks for the reference of another, which nobody has here
    const metadata = { namespace: SHOP, name: 'thief' }
    const spec = { target: { address: '172.20.0.66' }, reference: before.api!, ttlSeconds: 1 }
    const kind = 'IprefService' as const
    await cluster.users.create(kind, { apiVersion: 'ipref.io/v1alpha1', kind, metadata, spec })
    expect(await published('thief')).toBe(before.api)
    const { code, out } = await ipref('restore', file)
    expect(code).toBe(1)
    expect(out).toContain(`conflict: ${before.web} cannot be of ${SHOP}/web slot 0 IPv4, which has ${other} here\n`)
    expect(out).toContain(`conflict: ${before.api} is of ${SHOP}/thief slot 0 IPv4 here\n`)
    expect(out).toContain('references: 4 restored, 0 there already, 2 conflicts\n')
    await cluster.publish('api', { address: address(1) })
    const api = await published('api')
    expect(await references()).toEqual({ web: other, thief: before.api, api })
    expect(api).not.toBe(before.api)
    expect(await claimOf(before.web!)).toBeUndefined()
    // kept for those that were not there
    await cluster.users.create(kind, {
      ...{ apiVersion: 'ipref.io/v1alpha1', kind, metadata: { namespace: 'ipref', name: 'stranger' } },
      spec: { target: { address: '172.20.0.77' }, reference: before.mail! },
    })
    const refused = await eventually(
      'the stranger is refused',
      async () => {
        const found = await cluster.users.get('IprefService', { namespace: 'ipref', name: 'stranger' })
        return found && conditionOf(found, 'Accepted')?.reason === 'ReferenceTaken' && found
      },
      LONG,
    )
    expect(referenceOf(refused)).toBeUndefined()
    const claims = await cluster.users.list('IprefReference')
    expect(new Set(claims.map(referenceText)).size).toBe(claims.length)
  })

  it('a damaged file changes nothing', async () => {
    await empty()
    const bytes = readFileSync(file)
    for (const length of [0, 10, bytes.length >> 1, bytes.length - 1]) {
      writeFileSync(join(folder, 'cut'), bytes.subarray(0, length))
      const { code, out, err } = await ipref('restore', join(folder, 'cut'))
      expect({ code, out }).toEqual({ code: 1, out: '' })
      expect(err).toMatch(/^ipref restore: .*cut (is empty|is no backup|was cut off)/)
    }
    expect(await cluster.users.list('IprefReference')).toEqual([])
  })
})

function sorted(of: Record<string, unknown>): [string, unknown][] {
  return Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1))
}
