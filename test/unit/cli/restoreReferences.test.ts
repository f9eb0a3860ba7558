/** References put back into a store: into an empty one, an equal one, one that contradicts them; and what `ipref backup` and `ipref restore` say of a folder. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { haveBeenSeen, restoreReferences } from '../../../cli/restoreReferences.ts'
import { DirectoryStore } from '../../../resources/directoryStore.ts'
import {
  API_VERSION,
  type IprefReference,
  type IprefReferenceSpec,
  type IprefService,
  type KindName,
  type Kinds,
} from '../../../resources/kinds.ts'
import { PassingStore } from '../../support/storeWrappers.ts'

const IPREF = join(import.meta.dirname, '../../../cli/ipref')

let folder = ''
let store: DirectoryStore
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-restore-'))
  mkdirSync(join(folder, 'objects'))
  store = await DirectoryStore.open(join(folder, 'objects'))
})
afterEach(async () => {
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

function claim(name: string, owner: string, more: Partial<IprefReferenceSpec> = {}): IprefReference {
  const spec = { namespace: 'shop', name: owner, uid: `uid-${owner}`, slot: 0, family: 'IPv4' as const, ...more }
  return { apiVersion: API_VERSION, kind: 'IprefReference', metadata: { name }, spec }
}

const released = { releasedAt: '2030-01-01T00:00:00Z' }
const backup = [
  claim('9a2', 'web'),
  claim('9a3', 'api'),
  claim('9a4', 'api', { slot: 1 }),
  claim('9a5', 'old', released),
]

const owners = async () =>
  Object.fromEntries(
    (await store.list('IprefReference')).map(({ metadata, spec }) => [metadata.name, `${spec.name} ${spec.slot}`]),
  )
const put = (...claims: IprefReference[]) => Promise.all(claims.map(one => store.create('IprefReference', one)))
const conflictsOf = async (claims = backup) =>
  (await restoreReferences(store, claims)).conflicts.map(({ claim: one, why }) => `${one.metadata.name} ${why}`)

describe('references put back', () => {
  it('where nothing is: each with the owner that it had, and when that was gone', async () => {
    const { created, there, conflicts } = await restoreReferences(store, backup)
    expect({ created: created.length, there, conflicts }).toEqual({ created: 4, there: 0, conflicts: [] })
    const found = (await store.list('IprefReference')).map(({ metadata: { name }, spec }) => ({ name, spec }))
    expect(found).toEqual(backup.map(({ metadata: { name }, spec }) => ({ name, spec })))
  })

  it('a second time: nothing is to be done, whatever became of them', async () => {
    await restoreReferences(store, backup)
    const web = (await store.get('IprefReference', { name: '9a2' }))!
    await store.update('IprefReference', { ...web, spec: { ...web.spec, ...released } })
    const before = await store.list('IprefReference')
    expect(await restoreReferences(store, backup)).toEqual({ created: [], there: 4, conflicts: [] })
    expect(await store.list('IprefReference')).toEqual(before)
  })

  it.each([
    ['is of another', claim('9a2', 'other'), ['9a2 is of shop/other slot 0 IPv4 here']],
    ['was of another, and is kept for it', claim('9a2', 'other', released), ['9a2 is of shop/other slot 0 IPv4 here']],
    ['is of another slot', claim('9a3', 'api', { slot: 7 }), ['9a3 is of shop/api slot 7 IPv4 here']],
    ['has an owner with another one', claim('8', 'web'), ['9a2 cannot be of shop/web slot 0 IPv4, which has 8 here']],
    ['has an owner that had another one', claim('8', 'web', released), []],
    ['was of one that has another one', claim('8', 'old'), []],
    ['is of another IP version', claim('8', 'web', { family: 'IPv6' }), []],
  ])('never over what is there: one that %s', async (_what, there, conflicts) => {
    await put(there)
    const before = await store.get('IprefReference', there.metadata)
    expect(await conflictsOf()).toEqual(conflicts)
    expect(await store.get('IprefReference', there.metadata)).toEqual(before)
    const names = new Set([there, ...backup].map(({ metadata }) => metadata.name))
    const refused = conflicts.length > 0 && there.metadata.name === '8' ? 1 : 0
    expect(Object.keys(await owners())).toHaveLength(names.size - refused)
  })

  it('not while another object maps it, whose claim is lost', async () => {
    const status = { observedGeneration: 1, mappings: [mappingOf('2466')] }
    const map = async (name: string) => {
      const object = await store.create('IprefService', serviceOf(name))
      await store.updateStatus('IprefService', { ...object, status })
    }
    await map('other')
    expect(await conflictsOf()).toEqual(['9a2 is in use by shop/other here'])
    await map('web')
    // shared, and its owner is one of the two
    expect(await conflictsOf()).toEqual([])
  })

  it('names somebody who was faster', async () => {
    class Racing extends PassingStore {
      override async create<Kind extends KindName>(kind: Kind, object: Kinds[Kind]): Promise<Kinds[Kind]> {
        if (object.metadata.name === '9a3') await put(claim('9a3', 'thief'))
        if (object.metadata.name === '9a4') await put(claim('9a4', 'api', { slot: 1, uid: 'the operator' }))
        return super.create(kind, object)
      }
    }
    const { created, there, conflicts } = await restoreReferences(new Racing(store), backup)
    expect({ created: created.length, there }).toEqual({ created: 2, there: 1 })
    expect(conflicts).toMatchObject([{ why: 'is of shop/thief slot 0 IPv4 here' }])
  })

  it('are seen once an operator says since when they wait, or has given them to their owners', async () => {
    const { created } = await restoreReferences(store, backup)
    expect(await haveBeenSeen(store, created)).toBe(false)
    for (const name of ['9a2', '9a3', '9a4']) {
      expect(await haveBeenSeen(store, created)).toBe(false)
      if (name === '9a2') await store.create('IprefService', serviceOf('web'))
      else {
        const one = (await store.get('IprefReference', { name }))!
        await store.update('IprefReference', { ...one, spec: { ...one.spec, ...released } })
      }
    }
    expect(await haveBeenSeen(store, created)).toBe(true)
  })
})

function serviceOf(name: string): IprefService {
  const metadata = { namespace: 'shop', name }
  return { apiVersion: API_VERSION, kind: 'IprefService', metadata, spec: { target: { address: '10.1.0.10' } } }
}

function mappingOf(reference: string) {
  return { slot: 0, family: 'IPv4' as const, address: '10.1.0.10', reference }
}

describe('ipref backup and ipref restore of a folder', () => {
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(IPREF, args, { encoding: 'utf8' })
    return { code: status, out: stdout, err: stderr }
  }

  it('keep its references: dry run, restore, and what contradicts', async () => {
    await put(...backup)
    const file = join(folder, 'backup')
    const [from, to] = [join(folder, 'objects'), join(folder, 'anew')]
    expect(run('backup', file, '-manifests', from)).toEqual({
      ...{ code: 0, out: '' },
      err: `references: 4, objects: 0, in ${file}\n`,
    })
    expect(run('restore', file, '-manifests', to)).toMatchObject({
      code: 1,
      err: expect.stringContaining('is no folder'),
    })
    mkdirSync(to)
    expect(run('restore', file, '-dry-run', '-manifests', to)).toEqual({
      ...{ code: 0, err: '' },
      out: `would restore: 2466 for shop/web slot 0 IPv4
would restore: 2467 for shop/api slot 0 IPv4
would restore: 2468 for shop/api slot 1 IPv4
would restore: 2469 for shop/old slot 0 IPv4
references: 4 to restore, 0 there already, 0 conflicts
`,
    })
    const other = await DirectoryStore.open(to)
    await other.create('IprefReference', claim('9a2', 'other'))
    await other.close()
    const conflict = 'conflict: 2466 is of shop/other slot 0 IPv4 here\n'
    expect(run('restore', file, '-wait', 'x', '-manifests', to)).toMatchObject({ code: 2 })
    expect(run('restore', file, '-wait', '0', '-manifests', to)).toMatchObject({
      code: 1,
      out: expect.stringMatching(`^${conflict}references: 3 restored, 0 there already, 1 conflicts\nno operator`),
    })
    expect(run('restore', file, '-manifests', to)).toEqual({
      ...{ code: 1, err: '' },
      out: `${conflict}references: 0 restored, 3 there already, 1 conflicts\n`,
    })
    // standard output, and what nobody asked to put back
    const { out } = run('backup', '-', '-manifests', to)
    writeFileSync(file, out)
    const mappings = 'mappings: 0 restored, 0 renewed, 0 there already, 0 expired, 0 conflicts'
    expect(run('restore', file, '-data', join(folder, 'data'))).toEqual({
      ...{ code: 0, err: '' },
      out: `${mappings}\nleft out: 4 references; -kube or -manifests FOLDER restores them\n`,
    })
    writeFileSync(file, out.slice(0, -2))
    expect(run('restore', file, '-manifests', to)).toEqual({
      ...{ code: 1, out: '' },
      err: `ipref restore: ${file} was cut off after line 5: its last line is missing\n`,
    })
  }, 180_000)
})
