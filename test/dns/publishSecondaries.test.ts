/**
 * The operator's zone server with ordinary secondaries, read back from them.
 *
 *   objects ──► Publisher ──► zone server ──NOTIFY, AXFR with TSIG from a Secret──► named, knotd ◄── read back, before anything counts as published
 *
 * A program that is not installed is skipped with its name.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Type } from '../../dns/constants.ts'
import { decodeSoa, stringsOf } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { Cluster } from '../../operator/cluster.ts'
import { Events } from '../../operator/events.ts'
import { Publisher } from '../../operator/publish/publisher.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { systemClock } from '../../runtime/clock.ts'
import { freePorts } from '../support/ports.ts'
import { silentLog } from '../support/silentLog.ts'
import { configOf, gateway, mapping, service } from '../unit/operator/publish/builders.ts'
import { HOST, has, SECRET, type Secondary, startSecondary } from './programs.ts'

const namespace = 'ipref'
const NAME = 'web.shop.example.com'
const question = { name: parseName(NAME)!, type: Type.TXT }

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-publish-secondaries-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.each(['named', 'knotd'])('%s as a secondary of the operator', program => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function openStore(): Promise<DirectoryStore> {
    const store = await DirectoryStore.open(mkdtempSync(join(folder, 'objects-')))
    closing.push(() => store.close())
    const data = { key: Buffer.from(`hmac-sha256:transfer:${SECRET}`).toString('base64') }
    await store.create('Secret', { apiVersion: 'v1', kind: 'Secret', metadata: { namespace, name: 'transfer' }, data })
    await store.create('IprefGateway', gateway('node-1', { publicAddresses: ['198.51.100.1'] }))
    return store
  }

  async function operator(store: DirectoryStore, ports: { own: number; secondary: number }): Promise<Publisher> {
    const cluster = new Cluster(
      store,
      configOf(`
publishers:
  zoneServer:
    listen: ['${HOST}:${ports.own}']
    nameServers: [ns1.example.com]
    transfer: {allow: [${HOST}/32], keySecrets: [{name: transfer}]}
    notify: ['${HOST}:${ports.secondary}']
readBack: {servers: ['${HOST}:${ports.secondary}'], intervalSeconds: 1}
`),
      silentLog,
    )
    const publisher = new Publisher({
      store,
      cluster,
      events: new Events({ store, clock: systemClock, log: silentLog, namespace }),
      clock: systemClock,
      log: silentLog,
      random: Math.random,
      namespace,
      publicAddresses: ({ spec }) => spec.publicAddresses ?? [],
      onChange: () => {},
    })
    await cluster.start()
    publisher.start()
    publisher.lead()
    closing.push(async () => {
      await publisher.stop()
      cluster.stop()
    })
    return publisher
  }

  async function put(store: DirectoryStore, references: readonly string[]): Promise<void> {
    const mappings = references.map((reference, slot) => mapping({ slot, reference, address: `10.1.2.${slot + 1}` }))
    const { status, ...object } = service({ mappings })
    const found = await store.get('IprefService', { namespace: 'shop', name: 'web' })
    const { uid: _uid, creationTimestamp: _created, generation: _generation, ...metadata } = object.metadata
    const made =
      found ?? (await store.create('IprefService', { ...object, metadata: { ...metadata, finalizers: ['test/keep'] } }))
    await store.updateStatus('IprefService', { ...made, status: status! })
  }

  it.skipIf(!has(program))(
    `follows, and only what it has counts as published; through a restart of the operator (needs ${program})`,
    { timeout: 180_000 },
    async () => {
      const [own, port] = (await freePorts(2)) as [number, number]
      const store = await openStore()
      await put(store, ['1-0-1'])
      const publisher = await operator(store, { own, secondary: port })
      // nobody answers yet
      await expect.poll(() => publisher.report.outputs[0]!.appliedVersion).toBeGreaterThan(0)
      expect(publisher.public(service()).reason).toBe('WaitingForDns')
      const secondary: Secondary = startSecondary(program, {
        folder: mkdtempSync(join(folder, `${program}-`)),
        zone: 'example.com',
        primaryPort: own,
        port,
        secret: SECRET,
      })
      closing.push(() => secondary.stop())
      const there = async () => {
        const answer = await queryServer({ host: HOST, port }, question, 5000)
        return (answer?.answers ?? []).flatMap(({ data }) => stringsOf(data)).sort()
      }
      const serial = async (at: number) => {
        const answer = await queryServer(
          { host: HOST, port: at },
          { name: parseName('example.com')!, type: Type.SOA },
          5000,
        )
        return answer?.answers[0] && decodeSoa(answer.answers[0].data).serial
      }
      const published = async (of: Publisher, references: readonly string[]) => {
        const wanted = references.map(reference => `AA 198.51.100.1 + ${reference}`)
        await expect.poll(there).toEqual(wanted)
        await expect.poll(() => of.public(service()).reason).toBe('Published')
      }
      await published(publisher, ['1-0-1'])
      for (let i = 2; i < 12; i++) await put(store, ['1-0-1', `1-0-${i}`])
      await published(publisher, ['1-0-1', '1-0-11'])
      const before = await serial(port)
      expect(await serial(own)).toBe(before)
      await closing.pop()!()
      await closing.pop()!()
      // the secondary was stopped with it: both begin anew
      const again = await operator(store, { own, secondary: port })
      const second = startSecondary(program, {
        folder: mkdtempSync(join(folder, `${program}-`)),
        zone: 'example.com',
        primaryPort: own,
        port,
        secret: SECRET,
      })
      closing.push(() => second.stop())
      await published(again, ['1-0-1', '1-0-11'])
      expect(await serial(own)).toBe(before)
      await store.delete('IprefService', { namespace: 'shop', name: 'web' })
      const gone = await store.get('IprefService', { namespace: 'shop', name: 'web' })
      await expect.poll(() => again.isWithdrawn(gone!)).toBe(true)
      expect(await there()).toEqual([])
    },
  )
})
