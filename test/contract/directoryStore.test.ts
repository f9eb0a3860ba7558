/** The folder store beyond the contract of all stores: files that people edit, and what several processes and sudden ends do to `.status`. */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import type { IprefService } from '../../resources/kinds.ts'
import type { Change } from '../../resources/store.ts'
import { readYaml } from '../../runtime/yaml.ts'
import { configMap, until } from './resourceStore.ts'

const web = (spec = 'target: {service: {name: web}}', more = '') => `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata:
  name: web
  namespace: shop
${more}spec:
  ${spec}
`
const WEB = { namespace: 'shop', name: 'web' }

let folder: string
let problems: readonly string[]
const stores: DirectoryStore[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-folder-'))
  problems = []
})
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close()
  rmSync(folder, { recursive: true, force: true })
})

async function open(): Promise<DirectoryStore> {
  const store = await DirectoryStore.open(folder, { onProblems: found => (problems = found) })
  stores.push(store)
  return store
}

function write(file: string, text: string): void {
  writeFileSync(join(folder, file), text)
}

function statusFile(file: string): string {
  return readFileSync(join(folder, '.status', file), 'utf8')
}

describe('files', () => {
  it('are objects when the store is open, in the folder and in its folders, several in one file, and in lists', async () => {
    mkdirSync(join(folder, 'shop'))
    mkdirSync(join(folder, '.git'))
    write('shop/web.yaml', web())
    write('.git/no.yaml', 'not: ours')
    write('ipref-config.yaml', 'internalZone: internal.example.com\n')
    write(
      'all.yml',
      `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
# nothing here
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Pod, metadata: {name: web-0, namespace: shop}, status: {phase: Running, podIPs: [{ip: 10.1.0.9}]}}
  - {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {}}
`,
    )
    const store = await open()
    expect(problems).toEqual([])
    expect(await store.get('IprefService', WEB)).toMatchObject({
      metadata: { name: 'web', namespace: 'shop', generation: 1 },
      spec: { target: { service: { name: 'web' } } },
    })
    expect((await store.get('Service', WEB))?.spec.clusterIP).toBe('10.96.0.10')
    expect((await store.get('Pod', { namespace: 'shop', name: 'web-0' }))?.status?.podIPs).toEqual([{ ip: '10.1.0.9' }])
  })

  it('are watched: edits, files put in place by rename, new folders, files that go', async () => {
    const store = await open()
    const changes: Change<'IprefService'>[] = []
    const view = await store.watch('IprefService', {}, { onChange: change => changes.push(change) })
    write('web.yaml', web())
    await until(
      () => view.size,
      size => size === 1,
    )
    const first = view.get(WEB)!

    writeFileSync(join(folder, '.web.yaml.swp'), web('target: {service: {name: other}}'))
    renameSync(join(folder, '.web.yaml.swp'), join(folder, 'web.yaml'))
    await until(
      () => view.get(WEB)!.spec.target.service?.name,
      name => name === 'other',
    )
    expect(view.get(WEB)!.metadata).toMatchObject({ uid: first.metadata.uid, generation: 2 })

    mkdirSync(join(folder, 'more'))
    write('more/mail.yaml', web().replace('name: web\n', 'name: mail\n'))
    await until(
      () => view.size,
      size => size === 2,
    )
    rmSync(join(folder, 'more/mail.yaml'))
    rmSync(join(folder, 'web.yaml'))
    await until(
      () => view.size,
      size => size === 0,
    )
    expect(changes.every(({ before, now }) => before || now)).toBe(true)
  })

  it('keep an object that is moved from one file to another', async () => {
    write('a.yaml', web())
    const store = await open()
    const { uid } = (await store.get('IprefService', WEB))!.metadata
    const gone: unknown[] = []
    await store.watch('IprefService', {}, { onChange: change => void (change.now ?? gone.push(change)) })
    renameSync(join(folder, 'a.yaml'), join(folder, 'b.yaml'))
    await until(
      () => statusFile('IprefService/shop/web.yaml').includes('source: b.yaml'),
      moved => moved,
    )
    expect(gone).toEqual([])
    expect((await store.get('IprefService', WEB))!.metadata.uid).toBe(uid)
  })

  it.each([
    ['what is no YAML', 'a.yaml', 'kind: [\n', /^a\.yaml:\d+:\d+ /],
    ['what is no object', 'a.yaml', '- 1\n', /^a\.yaml:1:1 no object; apiVersion, kind/],
    [
      'a kind of ours that is none',
      'a.yaml',
      web().replace('IprefService', 'IprefServce'),
      /^a\.yaml:2:1 kind: IprefServce is no kind of ipref\.io; one of .*IprefService/,
    ],
    [
      'a version that is none',
      'a.yaml',
      web().replace('v1alpha1', 'v2'),
      /^a\.yaml:1:1 apiVersion: ipref\.io\/v2 .*; ipref\.io\/v1alpha1$/,
    ],
    [
      'a name that is none',
      'a.yaml',
      web().replace('name: web\n', 'name: ../web\n'),
      /^a\.yaml:4:3 metadata\.name: .*is no name; small letters/,
    ],
    [
      'a field that is not known',
      'a.yaml',
      web('target: {service: {name: web}}\n  prots: []'),
      /^a\.yaml:8:3 spec\.prots: /,
    ],
    [
      'a value that is wrong',
      'a.yaml',
      web('target: {service: {name: web}}\n  ports: [{port: 70000}]'),
      /^a\.yaml:8:12 spec\.ports\[0\]\.port: 70000 .*65535/,
    ],
    ['a field that is missing', 'a.yaml', web('hostname: www'), /^a\.yaml:6:1 spec\.target: /],
    [
      'a label that is no text',
      'a.yaml',
      web(undefined, '  labels: {on.example.com/x: 1}\n'),
      /^a\.yaml:6:12 metadata\.labels\[on\.example\.com\/x\]: no text; "1", in quotes/,
    ],
    [
      'the second document',
      'a.yaml',
      `${web()}---\n${web('x: 1').replace('name: web', 'name: two')}`,
      /^a\.yaml:15:3 spec\.x: /,
    ],
  ])('name file, line, column, field and what would be right: %s', async (_what, file, text, expected) => {
    write(file, text)
    await open()
    expect(
      problems.some(problem => expected.test(problem)),
      problems.join('\n'),
    ).toBe(true)
  })

  it('that cannot be read or are not valid leave the last good object in force, also across a restart', async () => {
    const mail = `---\n${web().replace('name: web\n', 'name: mail\n')}`
    write('web.yaml', web() + mail)
    const store = await open()
    const good = await store.get('IprefService', WEB)
    for (const wrong of ['kind: [', web('target: {}') + mail, web('target: {service: {name: 7}}') + mail]) {
      write('web.yaml', wrong)
      await until(
        () => problems.length,
        count => count > 0,
      )
      // longer than it takes to miss an object
      await new Promise(resolve => setTimeout(resolve, 700))
      expect(await store.get('IprefService', WEB)).toEqual(good)
      expect(await store.list('IprefService')).toHaveLength(2)
    }
    await stores.pop()!.close()
    const again = await open()
    expect(problems.length).toBeGreaterThan(0)
    expect(await again.get('IprefService', WEB)).toEqual(good)
    write('web.yaml', web('target: {service: {name: next}}'))
    await until(
      () => problems.length,
      count => count === 0,
    )
    expect((await again.get('IprefService', WEB))?.spec.target.service?.name).toBe('next')
    await until(
      async () => (await again.list('IprefService')).length,
      count => count === 1,
    )
  })

  it('may not change what must not change', async () => {
    write('web.yaml', web('target: {address: 192.0.2.7}\n  reference: "1234"'))
    const store = await open()
    expect(problems).toEqual([])
    write('web.yaml', web('target: {address: 192.0.2.7}\n  reference: "1235"'))
    await until(
      () => problems,
      found => found.some(one => /^web\.yaml:\d+:\d+ spec(\.reference)?: /.test(one)),
    )
    expect((await store.get('IprefService', WEB))?.spec.reference).toBe('1234')
  })

  it('that say one object twice: the first by path counts, the other is named', async () => {
    write('b.yaml', web('target: {service: {name: b}}'))
    write('a.yaml', web('target: {service: {name: a}}'))
    const store = await open()
    expect((await store.get('IprefService', WEB))?.spec.target.service?.name).toBe('a')
    expect(problems).toEqual([
      expect.stringMatching(/^b\.yaml:4:3 metadata\.name: IprefService\/shop\/web is in a\.yaml too/),
    ])
    rmSync(join(folder, 'a.yaml'))
    await until(
      async () => (await store.get('IprefService', WEB))?.spec.target.service?.name,
      name => name === 'b',
    )
    expect(problems).toEqual([])
  })

  it('say again what somebody else changed, and leave alone what they do not say', async () => {
    write('web.yaml', web('target: {service: {name: web}}', '  labels: {app: web}\n'))
    const store = await open()
    const found = (await store.get('IprefService', WEB))!
    await store.update('IprefService', {
      ...found,
      metadata: { ...found.metadata, annotations: { note: 'mine' }, finalizers: ['ipref.io/mapping'] },
      spec: { target: { service: { name: 'theirs' } } },
    })
    const back = await until(
      async () => (await store.get('IprefService', WEB))!,
      object => object.spec.target.service?.name === 'web',
    )
    expect(back.metadata).toMatchObject({ annotations: { note: 'mine' }, finalizers: ['ipref.io/mapping'] })
    write('web.yaml', web())
    await until(
      async () => (await store.get('IprefService', WEB))!.metadata,
      metadata => metadata.labels === undefined,
    )
    expect((await store.get('IprefService', WEB))!.metadata.annotations).toEqual({ note: 'mine' })
  })

  it('that are gone leave an object that waits for its finalizers, and a new one when they are back', async () => {
    write('web.yaml', web())
    const store = await open()
    const found = (await store.get('IprefService', WEB))!
    await store.update('IprefService', { ...found, metadata: { ...found.metadata, finalizers: ['ipref.io/mapping'] } })
    rmSync(join(folder, 'web.yaml'))
    const going = await until(
      async () => (await store.get('IprefService', WEB))!,
      object => object.metadata.deletionTimestamp !== undefined,
    )
    expect(statusFile('IprefService/shop/web.yaml')).toContain('deletionTimestamp:')
    write('web.yaml', web('target: {service: {name: back}}'))
    await new Promise(resolve => setTimeout(resolve, 300))
    expect((await store.get('IprefService', WEB))!.spec).toEqual(going.spec)
    await store.update('IprefService', { ...going, metadata: { ...going.metadata, finalizers: [] } })
    const back = await until(
      () => store.get('IprefService', WEB),
      object => object?.spec.target.service?.name === 'back',
    )
    expect(back!.metadata.uid).not.toBe(going.metadata.uid)
    expect(back!.metadata.deletionTimestamp).toBeUndefined()
  })

  it('are deleted objects while nobody looked', async () => {
    write('web.yaml', web())
    await open()
    await stores.pop()!.close()
    rmSync(join(folder, 'web.yaml'))
    const store = await open()
    await until(
      () => store.get('IprefService', WEB),
      object => object === undefined,
    )
  })
})

describe('.status', () => {
  it('can be read by people: the object with its status', async () => {
    write('web.yaml', web())
    const store = await open()
    const found = (await store.get('IprefService', WEB))!
    const status = { observedGeneration: 1, internalName: 'web.shop.internal.example.com', mappings: [] }
    const next = await store.updateStatus('IprefService', { ...found, status })
    const [object, kept] = readYaml(statusFile('IprefService/shop/web.yaml'))
    expect(object!.value).toEqual(next)
    expect(next.status).toEqual(status)
    expect(kept!.value).toMatchObject({ source: 'web.yaml' })
  })

  it('holds what programs made apart, and survives a restart with all that the store gave', async () => {
    const store = await open()
    const made = await store.create('ConfigMap', configMap('shop', 'made', { a: '1' }))
    expect(statusFile('objects/ConfigMap/shop/made.yaml')).toContain('a: "1"')
    await stores.pop()!.close()
    const again = await open()
    expect(await again.get('ConfigMap', { namespace: 'shop', name: 'made' })).toEqual(made)
    const next = await again.create('ConfigMap', configMap('shop', 'next'))
    expect(Number(next.metadata.resourceVersion)).toBeGreaterThan(Number(made.metadata.resourceVersion))
  })

  it('goes with its object', async () => {
    write('web.yaml', web())
    const store = await open()
    await store.create('ConfigMap', configMap('shop', 'made'))
    await store.delete('ConfigMap', { namespace: 'shop', name: 'made' })
    rmSync(join(folder, 'web.yaml'))
    await until(
      () => store.get('IprefService', WEB),
      object => object === undefined,
    )
    const left = readdirSync(join(folder, '.status'), { recursive: true, encoding: 'utf8' })
    expect(left.filter(name => name.endsWith('.yaml') || name.endsWith('.tmp'))).toEqual([])
  })

  it('takes objects along that have no other owner', async () => {
    const store = await open()
    const owner = await store.create('ConfigMap', configMap('shop', 'owner'))
    const ownerReferences = [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner.metadata.uid! }]
    await store.create('ConfigMap', configMap('shop', 'owned', {}, { ownerReferences }))
    await store.delete('ConfigMap', { namespace: 'shop', name: 'owner' })
    expect(await store.list('ConfigMap')).toEqual([])
  })

  it('refuses an object of ours that is not valid, naming the field', async () => {
    const store = await open()
    const wrong = { ...(readYaml(web('target: {}'))[0]!.value as IprefService) }
    await expect(store.create('IprefService', wrong)).rejects.toMatchObject({ code: 'Invalid' })
    await expect(store.create('IprefService', wrong)).rejects.toThrow(/spec\.target/)
  })

  it('begins its journal anew, and nobody misses anything', async () => {
    const store = await open()
    const second = await open()
    const view = await second.watch('ConfigMap', {}, { onChange() {} })
    await store.create('ConfigMap', configMap('shop', 'one'))
    await until(
      () => view.size,
      size => size === 1,
    )
    appendFileSync(join(folder, '.status/journal'), `${'# long\n'.repeat(170_000)}`)
    await store.create('ConfigMap', configMap('shop', 'two'))
    await store.delete('ConfigMap', { namespace: 'shop', name: 'one' })
    await until(
      () => [...view.all()].map(object => object.metadata.name),
      names => names.join() === 'two',
    )
    expect(readFileSync(join(folder, '.status/journal')).length).toBeLessThan(1000)
  })
})

describe('several processes', () => {
  const children: ChildProcess[] = []
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const ended = new Promise(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    }
  })

  /** Writes on and on; says `KEY RESOURCEVERSION` of each write that was done. */
  function writer(name: string): { child: ChildProcess; said(): string[] } {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'writerChild.ts'), folder, name], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    let text = ''
    child.stdout!.setEncoding('utf8').on('data', chunk => {
      text += chunk
    })
    return { child, said: () => text.split('\n').slice(0, -1) }
  }

  it('write one after the other, see each other, and outlive each other’s sudden end', {
    timeout: 180_000,
  }, async () => {
    const store = await open()
    const seen = new Map<string, number[]>()
    const onChange = ({ now }: Change<'ConfigMap'>) => {
      const { name, resourceVersion } = now!.metadata
      seen.set(name, [...(seen.get(name) ?? []), Number(resourceVersion)])
    }
    const view = await store.watch('ConfigMap', { namespace: 'race' }, { onChange })
    const versions: string[] = []
    const counted = new Map<string, number>()
    for (let round = 0; round < 5; round++) {
      const writers = [writer('a'), writer('b')]
      await until(
        () => writers.map(one => one.said().length),
        counts => counts.every(count => count >= 5 + round),
      )
      const killed = writers.map(({ child }) => new Promise(resolve => child.once('close', resolve)))
      for (const { child } of writers) child.kill('SIGKILL')
      await Promise.all(killed)
      for (const line of writers.flatMap(one => one.said())) {
        const [key, count, version] = line.split(' ')
        versions.push(version!)
        counted.set(key!, Math.max(counted.get(key!) ?? 0, Number(count)))
      }
      // a writer after a sudden end is not held up, and what was said to be written is there
      await store.apply('ConfigMap', configMap('race', 'ours', { round: String(round) }))
      for (const [key, count] of counted) {
        const found = await store.get('ConfigMap', { namespace: 'race', name: key })
        expect(Number(found?.data?.count)).toBeGreaterThanOrEqual(count)
      }
    }
    expect(new Set(versions).size).toBe(versions.length)
    await until(
      async () => (await store.list('ConfigMap', { namespace: 'race' })).map(object => object.metadata.resourceVersion),
      wanted =>
        isSame(
          wanted,
          [...view.all()].map(object => object.metadata.resourceVersion),
        ),
    )
    for (const inOrder of seen.values()) expect([...inOrder].sort((a, b) => a - b)).toEqual(inOrder)
    const left = readdirSync(join(folder, '.status'), { recursive: true, encoding: 'utf8' })
    await stores.pop()!.close()
    await open()
    const now = readdirSync(join(folder, '.status'), { recursive: true, encoding: 'utf8' })
    expect(now.filter(name => name.endsWith('.tmp'))).toEqual([])
    expect(now.filter(name => name.endsWith('.yaml'))).toEqual(left.filter(name => name.endsWith('.yaml')))
  })
})

function isSame(a: unknown[], b: unknown[]): boolean {
  return JSON.stringify([...a].sort()) === JSON.stringify([...b].sort())
}
