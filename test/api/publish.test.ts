/**
 * Publishing with a real API server: DNSEndpoint objects under external-dns's own CRD, turned into records by its own plan and rfc2136 provider; zone text
 * and serials in ConfigMaps.
 *
 *   DnsEndpointOutput ──► kube-apiserver ──► kubectl get -o json ──► external-dns's packages ──update──► named
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Type } from '../../dns/constants.ts'
import { stringsOf } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { parseAaRecord } from '../../ipref/aaRecord.ts'
import { ConfigMapOutput } from '../../operator/publish/configMapOutput.ts'
import { DesiredTable } from '../../operator/publish/desired.ts'
import { DnsEndpointOutput } from '../../operator/publish/dnsEndpointOutput.ts'
import { judge } from '../../operator/publish/readBack.ts'
import type { RecordSet, ZoneKind } from '../../operator/publish/records.ts'
import { SerialBook } from '../../operator/publish/serialBook.ts'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { systemClock } from '../../runtime/clock.ts'
import { HOST, has, SECRET, type Secondary } from '../dns/programs.ts'
import { startUpdatePrimary } from '../dns/updatePrimaries.ts'
import { type ApiServer, kubectl, ownApiServerProblem, startOwnApiServer } from '../support/apiServer.ts'
import { externalDns } from '../support/externalDns.ts'
import { makeNamespaces } from '../support/namespaces.ts'
import { freePorts } from '../support/ports.ts'

const program = externalDns()
const reason = ownApiServerProblem() ?? ('missing' in program ? program.missing : undefined)
if (reason !== undefined) process.stdout.write(`skipped: publishing with an API server: ${reason}\n`)

const ZONES = new Map<ZoneKind, string>([
  ['internal', 'internal.example.com'],
  ['public', 'example.com'],
])
const txt = (name: string, ...references: string[]): RecordSet => ({
  name: `${name}.example.com`,
  type: 'TXT',
  ttl: 60,
  values: references.map(reference => `AA 198.51.100.1 + ${reference}`),
})

describe.skipIf(reason !== undefined)(
  'with an API server and the packages of external-dns',
  { timeout: 120_000 },
  () => {
    let store: KubernetesStore
    let space: string
    let server: ApiServer
    let table: DesiredTable
    let kubeconfig: string
    const want = (key: string, ...sets: RecordSet[]) => table.set(key, key, { internal: [], public: sets, leftOut: 0 })
    const endpoints = async () => store.list('DNSEndpoint', { namespace: space })
    const open = (quoting: 'quoted' | 'plain' = 'quoted') =>
      new DnsEndpointOutput({ namespace: space, quoting, zones: ['public'] }, store, () => {})

    beforeAll(async () => {
      // of our own: another test is about what a server says that has no such CRD
      server = await startOwnApiServer('publish')
      kubeconfig = server.kubeconfig
      store = await KubernetesStore.open({ kubeconfig })
      ;[space] = (await makeNamespaces(store)).namespaces
      table = new DesiredTable(ZONES)
    })
    afterAll(async () => {
      await store?.close()
      await server?.stop()
    })

    it('names the CRD that is not there', async () => {
      want('shop/web', txt('web.shop', '1-0-1'))
      await expect(open().apply(table.snapshot())).rejects.toThrow(/install the CRD of external-dns/)
    })

    it('has its objects accepted under the CRD of external-dns, each once, and takes them away', async () => {
      if ('missing' in program) throw new Error(program.missing)
      // what it says of the schema counts: a field that is not in it would be dropped silently
      const applied = await kubectl(kubeconfig, ['apply', '-f', program.crd])
      expect(applied.errors).toBe('')
      await kubectl(kubeconfig, ['wait', '--for=condition=Established', '--timeout=60s', '-f', program.crd])
      want('shop/web', txt('web.shop', '1-0-1', '1-0-2'))
      want('shop/db', txt('db.shop', '1-0-3'))
      const output = open()
      await expect
        .poll(() => output.apply(table.snapshot()).then(() => 'applied', String), { timeout: 30_000 })
        .toBe('applied')
      const found = await endpoints()
      expect(found.map(({ metadata }) => metadata.name).sort()).toEqual(['shop.db', 'shop.web'])
      expect(found.find(({ metadata }) => metadata.name === 'shop.web')!.spec.endpoints).toEqual([
        {
          dnsName: 'web.shop.example.com',
          recordType: 'TXT',
          recordTTL: 60,
          targets: ['"AA 198.51.100.1 + 1-0-1"', '"AA 198.51.100.1 + 1-0-2"'],
        },
      ])
      const versions = () => endpoints().then(all => all.map(({ metadata }) => metadata.resourceVersion).sort())
      const before = await versions()
      await output.apply(table.snapshot())
      output.doubt()
      await output.apply(table.snapshot())
      expect(await versions()).toEqual(before)
      want('shop/db')
      await output.apply(table.snapshot())
      await output.stop()
      expect((await endpoints()).map(({ metadata }) => metadata.name)).toEqual(['shop.web'])
    })

    describe.skipIf(!has('named'))('and named as its server (needs the program named)', () => {
      let folder: string
      let primary: Secondary
      beforeAll(async () => {
        folder = mkdtempSync(join(tmpdir(), 'ipref-external-dns-'))
        const [port] = (await freePorts(1)) as [number]
        primary = startUpdatePrimary('named', {
          folder: join(folder, 'named'),
          zones: {
            'example.com': '$TTL 1h\n@ IN SOA ns1 admin 1 1h 10m 1w 5m\n  IN NS ns1\nns1 A 192.0.2.1\n',
          },
          port,
          keys: [{ name: 'transfer', secret: SECRET, may: 'update and transfer' }],
        })
      })
      afterAll(async () => {
        await primary?.stop()
        rmSync(folder, { recursive: true, force: true })
      })

      const ask = async (name: string, type: number) =>
        (await queryServer({ host: HOST, port: primary.port }, { name: parseName(name)!, type }, 500))?.answers ?? []
      const strings = async (name: string) => (await ask(name, Type.TXT)).map(({ data }) => stringsOf(data)).sort()

      async function externalDnsRuns(): Promise<Record<string, number>> {
        const { output } = await kubectl(kubeconfig, ['get', 'dnsendpoints', '-n', space, '-o', 'json'])
        const argv = [
          '-host',
          HOST,
          '-port',
          String(primary.port),
          '-zone',
          'example.com',
          '-key',
          'transfer',
          '-secret',
          SECRET,
        ]
        return JSON.parse(await runWith('missing' in program ? '' : program.program, argv, output))
      }

      it('becomes records, each AA string in one piece', async () => {
        await expect.poll(() => ask('example.com', Type.SOA).then(all => all.length), { timeout: 30_000 }).toBe(1)
        const output = open()
        want('shop/web', txt('web.shop', '1-0-1', '1-0-2'))
        want('shop/db', txt('db.shop', '1-0-3'))
        await output.apply(table.snapshot())
        expect(await externalDnsRuns()).toEqual({ create: 2, update: 0, delete: 0 })
        expect(await strings('web.shop.example.com')).toEqual([
          ['AA 198.51.100.1 + 1-0-1'],
          ['AA 198.51.100.1 + 1-0-2'],
        ])
        const [[text]] = (await strings('db.shop.example.com')) as [[string]]
        expect(parseAaRecord(text)).toMatchObject({ reference: expect.anything() })
        await output.stop()
      })

      // it reads records back without quotes, and removes what they say then: four strings that are not there
      it('gets new strings when it changes, and keeps the old ones, which reading back tells', async () => {
        const output = open()
        want('shop/web', txt('web.shop', '1-0-2', '1-0-9'))
        want('shop/db')
        await output.apply(table.snapshot())
        await output.stop()
        const { create, update, delete: removed } = await externalDnsRuns()
        expect([create, update, removed]).toEqual([0, 1, 1])
        const name = parseName('web.shop.example.com')!
        const answer = await queryServer({ host: HOST, port: primary.port }, { name, type: Type.TXT })
        const found = answer!.answers.flatMap(({ data }) => stringsOf(data)).sort()
        expect(found).toEqual(['1', '2', '9'].map(n => `AA 198.51.100.1 + 1-0-${n}`))
        expect(await strings('db.shop.example.com')).toEqual([['AA 198.51.100.1 + 1-0-3']])
        const set = table.get('public', 'web.shop.example.com TXT')
        const entry = { set, former: undefined }
        expect(judge(answer, { name, type: Type.TXT }, entry, true, 'named').is).toBe('wrong')
        want('shop/web')
      })

      it('arrives in pieces without quotes, which is why quoting is a setting', async () => {
        const output = open('plain')
        want('shop/plain', txt('plain.shop', '1-0-1'))
        await output.apply(table.snapshot())
        await externalDnsRuns()
        expect(await strings('plain.shop.example.com')).toEqual([['AA', '198.51.100.1', '+', '1-0-1']])
        want('shop/plain')
        await output.apply(table.snapshot())
        await output.stop()
      })
    })

    it('keeps zone text and serials in ConfigMaps, and writes nothing when nothing changed', async () => {
      want('shop/web', txt('web.shop', '1-0-1'))
      const ports = { store, serials: new SerialBook(store, space), clock: systemClock }
      const output = new ConfigMapOutput({ namespace: space, name: 'zones', nameServers: ['ns1.example.com'] }, ports)
      await output.apply(table.snapshot())
      const versions = async () =>
        (await store.list('ConfigMap', { namespace: space }))
          .map(({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`)
          .sort()
      const before = await versions()
      expect(before.map(one => one.split(' ')[0])).toEqual(expect.arrayContaining(['ipref-zones-state', 'zones']))
      await output.apply(table.snapshot())
      await new ConfigMapOutput(
        { namespace: space, name: 'zones', nameServers: ['ns1.example.com'] },
        { ...ports, serials: new SerialBook(store, space) },
      ).apply(table.snapshot())
      expect(await versions()).toEqual(before)
      const { data } = (await store.get('ConfigMap', { namespace: space, name: 'zones' }))!
      expect(data!['example.com.zone']).toContain('web.shop.example.com.\t60\tIN\tTXT\t"AA 198.51.100.1 + 1-0-1"')
    })
  },
)

function runWith(path: string, argv: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, [...argv], { stdio: ['pipe', 'pipe', 'pipe'], timeout: 60_000 })
    let [output, errors] = ['', '']
    child.stdout.on('data', (data: Buffer) => (output += data.toString()))
    child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
    child.on('error', reject)
    child.on('close', code => (code === 0 ? resolve(output) : reject(new Error(errors))))
    child.stdin.end(input)
  })
}
