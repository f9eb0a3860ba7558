/** Outputs that keep objects, the serials, the cluster's DNS: in a store of files. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Class, Type } from '../../../../dns/constants.ts'
import { decodeSoa, type Message, rcodeOf } from '../../../../dns/message.ts'
import { type Name, parseName } from '../../../../dns/name.ts'
import { queryServer } from '../../../../dns/query.ts'
import { parseZoneText } from '../../../../dns/zoneText.ts'
import { parseAddress, parsePrefix } from '../../../../ipref/address.ts'
import {
  dnsServerOf,
  domainsOf,
  keepBlock,
  linesToAdd,
  probe,
  restore,
} from '../../../../operator/publish/clusterDns.ts'
import { ConfigMapOutput, partsOf } from '../../../../operator/publish/configMapOutput.ts'
import { DesiredTable } from '../../../../operator/publish/desired.ts'
import { DnsEndpointOutput } from '../../../../operator/publish/dnsEndpointOutput.ts'
import { type Output, OutputRunner } from '../../../../operator/publish/output.ts'
import type { RecordSet, ZoneKind } from '../../../../operator/publish/records.ts'
import { SerialBook, STATE_NAME } from '../../../../operator/publish/serialBook.ts'
import { askersOfInternal, ZoneServerOutput } from '../../../../operator/publish/zoneServerOutput.ts'
import { DirectoryStore } from '../../../../resources/directoryStore.ts'
import type { ConfigMap, Service } from '../../../../resources/kinds.ts'
import { ManualClock } from '../../../support/manualClock.ts'
import { configOf } from './builders.ts'

const ZONES = new Map<ZoneKind, string>([
  ['internal', 'internal.example.com'],
  ['public', 'example.com'],
])
const AA = 'AA 198.51.100.1 + 1-0-1'
const log = { info: () => {}, warn: () => {} }
const namespace = 'ipref'

let folder: string
let store: DirectoryStore
let table: DesiredTable
const clock = new ManualClock()

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-outputs-'))
  store = await DirectoryStore.open(folder)
  table = new DesiredTable(ZONES)
})
afterEach(async () => {
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

const a = (name: string, ...values: string[]): RecordSet => ({
  name: `${name}.internal.example.com`,
  type: 'A',
  ttl: 60,
  values,
})
const txt = (name: string, ...values: string[]): RecordSet => ({
  name: `${name}.example.com`,
  type: 'TXT',
  ttl: 60,
  values,
})
const want = (key: string, internal: RecordSet[], outside: RecordSet[] = []) =>
  table.set(key, key, { internal, public: outside, leftOut: 0 })
const writes = () =>
  [...store.requests].filter(([what]) => /^(create|update|apply|delete)/.test(what)).reduce((sum, [, n]) => sum + n, 0)
const configMap = (name: string) => store.get('ConfigMap', { namespace, name })

describe('serials', () => {
  it('are max(time, last + 1), kept, and not written when nothing changed', async () => {
    const book = new SerialBook(store, namespace)
    expect(await book.serialFor('example.com', 'h1', 1000)).toBe(1000)
    expect(await book.serialFor('example.com', 'h2', 1000)).toBe(1001)
    expect(await book.serialFor('example.com', 'h3', 900)).toBe(1002)
    expect(await book.serialFor('example.com', 'h4', 5000)).toBe(5000)
    const before = writes()
    expect(await book.serialFor('example.com', 'h4', 6000)).toBe(5000)
    expect(await new SerialBook(store, namespace).serialFor('example.com', 'h4', 7000)).toBe(5000)
    expect(writes()).toBe(before)
  })

  it('are never given twice by two that write at the same time', async () => {
    const books = [new SerialBook(store, namespace), new SerialBook(store, namespace)]
    for (const book of books) await book.read()
    const all = await Promise.all(
      books.flatMap((book, i) => [1, 2, 3].map(n => book.serialFor('example.com', `h${i}${n}`, 1000))),
    )
    expect(new Set(all).size).toBe(all.length)
  })
})

describe('the ConfigMap', () => {
  const open = () =>
    new ConfigMapOutput(
      { namespace, name: 'zones', nameServers: ['ns1.example.com'] },
      { store, serials: new SerialBook(store, namespace), clock },
    )

  it('holds both zones as text that reads back, and is written on change alone', async () => {
    want('shop/web', [a('web.shop', '10.0.0.1')], [txt('web.shop', AA)])
    const output = open()
    await output.apply(table.snapshot())
    const { data } = (await configMap('zones'))!
    for (const [zone, line] of [
      ['example.com', `"${AA}"`],
      ['internal.example.com', '10.0.0.1'],
    ]) {
      const text = data![`${zone}.zone`]!
      expect(text).toContain(line)
      const { records, problems } = parseZoneText(text, { origin: parseName(zone!)!, file: zone! })
      expect(problems).toEqual([])
      expect(records.map(({ type }) => type)).toEqual([Type.SOA, Type.NS, zone === 'example.com' ? Type.TXT : Type.A])
    }
    const before = writes()
    await output.apply(table.snapshot())
    await open().apply(table.snapshot())
    expect(writes()).toBe(before)
  })

  it('is brought in order again after somebody changed it', async () => {
    want('shop/web', [a('web.shop', '10.0.0.1')])
    const output = open()
    await output.apply(table.snapshot())
    const found = (await configMap('zones'))!
    await store.update('ConfigMap', { ...found, data: { junk: 'x' } })
    await output.apply(table.snapshot())
    expect((await configMap('zones'))!.data).toEqual(found.data)
  })

  it("is left alone where it is somebody else's", async () => {
    await store.create('ConfigMap', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace, name: 'zones' },
      data: { a: 'b' },
    })
    await expect(open().apply(table.snapshot())).rejects.toThrow(/somebody else's/)
    expect((await configMap('zones'))!.data).toEqual({ a: 'b' })
  })

  it('is several where the text is long, and fewer when it is short again', async () => {
    const many = Array.from({ length: 9000 }, (_, i) =>
      txt(`h${i}`, ...[1, 2].map(n => `AA 198.51.100.${n} + 8a3f-1234-${i + 1}`)),
    )
    want('shop/web', [], many)
    const output = open()
    await output.apply(table.snapshot())
    const parts = [await configMap('zones'), await configMap('zones-2'), await configMap('zones-3')].filter(
      one => one !== undefined,
    )
    expect(parts.length).toBeGreaterThan(1)
    for (const { data } of parts) expect(JSON.stringify(data).length).toBeLessThan(1_048_576)
    const text = parts.map(({ data }) => data!['example.com.zone'] ?? '').join('')
    const { records, problems } = parseZoneText(text, { origin: parseName('example.com')!, file: 'zone' })
    expect([problems, records.length]).toEqual([[], 2 + 18_000])
    want('shop/web', [], [many[0]!])
    await output.apply(table.snapshot())
    expect(await configMap('zones-2')).toBeUndefined()
  })

  it('is cut at ends of lines', () => {
    const text = Array.from({ length: 100 }, (_, i) => `line ${i}\n`).join('')
    const parts = partsOf(
      new Map([
        ['a', text],
        ['b', text],
      ]),
      100,
    )
    expect(parts.map(part => part.a ?? '').join('')).toBe(text)
    expect(parts.map(part => part.b ?? '').join('')).toBe(text)
    for (const part of parts) {
      expect(Object.values(part).join('').length).toBeLessThanOrEqual(100)
      for (const value of Object.values(part)) expect(value.endsWith('\n')).toBe(true)
    }
    expect(partsOf(new Map([['a', `${'x'.repeat(500)}\nshort\n`]]), 100).map(part => part.a)).toEqual([
      `${'x'.repeat(500)}\n`,
      'short\n',
    ])
  })
})

describe('DNSEndpoint objects', () => {
  let touched = 0
  const open = (quoting: 'quoted' | 'plain' = 'quoted', zones: ZoneKind[] = ['public']) =>
    new DnsEndpointOutput({ namespace, quoting, zones }, store, () => touched++)
  const endpoints = async () =>
    (await store.list('DNSEndpoint', { namespace }))
      .map(({ metadata, spec }) => [metadata.name, spec.endpoints] as const)
      .sort()

  it('are one for each object, quoted or plain, and go with it', async () => {
    want('shop/web', [a('web.shop', '10.0.0.1')], [txt('web.shop', AA)])
    want('shop/db', [], [txt('db.shop', AA)])
    const quoted = open()
    await quoted.apply(table.snapshot())
    expect(await endpoints()).toEqual([
      ['shop.db', [{ dnsName: 'db.shop.example.com', recordType: 'TXT', recordTTL: 60, targets: [`"${AA}"`] }]],
      ['shop.web', [{ dnsName: 'web.shop.example.com', recordType: 'TXT', recordTTL: 60, targets: [`"${AA}"`] }]],
    ])
    const before = writes()
    await quoted.apply(table.snapshot())
    expect(writes()).toBe(before)
    want('shop/db', [], [])
    await quoted.apply(table.snapshot())
    await quoted.stop()
    const plain = open('plain', ['public', 'internal'])
    await plain.apply(table.snapshot())
    await plain.stop()
    expect(await endpoints()).toEqual([
      [
        'shop.web',
        [
          { dnsName: 'web.shop.example.com', recordType: 'TXT', recordTTL: 60, targets: [AA] },
          { dnsName: 'web.shop.internal.example.com', recordType: 'A', recordTTL: 60, targets: ['10.0.0.1'] },
        ],
      ],
    ])
  })

  it("are left alone where they are somebody else's, and those are named", async () => {
    const theirs = {
      apiVersion: 'externaldns.k8s.io/v1alpha1',
      kind: 'DNSEndpoint' as const,
      metadata: { namespace, name: 'shop.web' },
      spec: { endpoints: [] },
    }
    await store.create('DNSEndpoint', theirs)
    want('shop/web', [], [txt('web.shop', AA)])
    const output = open()
    const { conflicts } = await output.apply(table.snapshot())
    expect(conflicts.get('public web.shop.example.com')).toMatch(/somebody else's/)
    want('shop/web', [], [])
    await output.apply(table.snapshot())
    await output.stop()
    expect(await endpoints()).toEqual([['shop.web', []]])
  })

  it('tell when somebody changes or deletes one', async () => {
    want('shop/web', [], [txt('web.shop', AA)])
    const output = open()
    await output.apply(table.snapshot())
    touched = 0
    await store.delete('DNSEndpoint', { namespace, name: 'shop.web' })
    await expect.poll(() => touched).toBeGreaterThan(0)
    await output.apply(table.snapshot())
    await output.stop()
    expect(await endpoints()).toHaveLength(1)
  })
})

describe('the zone server', () => {
  const settings = configOf('publishers: {zoneServer: {nameServers: [ns1.example.com]}}')
  const running: Output[] = []
  afterEach(async () => {
    for (const output of running.splice(0)) await output.stop()
  })
  const open = (isLeader: () => boolean) => {
    const ports = {
      store,
      serials: new SerialBook(store, namespace),
      isLeader,
      inside: () => [],
      clock,
      log,
      namespace,
    }
    const output = new ZoneServerOutput(
      { ...settings.publishers.zoneServer!, listen: ['127.0.0.1:0'] },
      settings,
      ports,
    )
    running.push(output)
    return output
  }
  const ask = async (output: ZoneServerOutput, name: string, type: number): Promise<Message> =>
    (await queryServer(output.servers()[0]!, { name: parseName(name)!, type }))!
  const serialAt = async (output: ZoneServerOutput) => {
    const { answers } = await ask(output, 'example.com', Type.SOA)
    return answers[0] && decodeSoa(answers[0].data).serial
  }

  it('answers for both zones, with a serial that outlives a restart', async () => {
    want('shop/web', [a('web.shop', '10.0.0.1')], [txt('web.shop', AA)])
    const first = open(() => true)
    await first.apply(table.snapshot())
    expect((await ask(first, 'web.shop.example.com', Type.TXT)).answers).toHaveLength(1)
    expect((await ask(first, 'web.shop.internal.example.com', Type.A)).answers).toMatchObject([
      { class: Class.IN, ttl: 60 },
    ])
    expect((await ask(first, 'example.com', Type.NS)).answers).toHaveLength(1)
    const serial = await serialAt(first)
    expect(serial).toBe(Math.floor(clock.now() / 1000))
    await clock.advance(60_000)
    const second = open(() => true)
    const before = writes()
    await second.apply(table.snapshot())
    expect([await serialAt(second), writes()]).toEqual([serial, before])
    want('shop/db', [], [txt('db.shop', AA)])
    await second.apply(table.snapshot())
    expect(await serialAt(second)).toBe(serial! + 60)
  })

  it('answers from every replica with the recorded serial, and not at all with a content that has none', async () => {
    want('shop/web', [], [txt('web.shop', AA)])
    const leader = open(() => true)
    const follower = open(() => false)
    await follower.apply(table.snapshot())
    expect(rcodeOf(await ask(follower, 'example.com', Type.SOA))).not.toBe(0)
    await leader.apply(table.snapshot())
    await follower.apply(table.snapshot())
    expect(await serialAt(follower)).toBe(await serialAt(leader))
    // the follower sees a change before the leader has recorded it: what it served goes on for a moment
    const old = await serialAt(follower)
    want('shop/db', [], [txt('db.shop', AA)])
    await follower.apply(table.snapshot())
    expect(await serialAt(follower)).toBe(old)
    expect(follower.lookEveryMs).toBe(300)
    await clock.advance(299_000)
    await follower.apply(table.snapshot())
    expect(await serialAt(follower)).toBe(old)
    await clock.advance(2000)
    await follower.apply(table.snapshot())
    expect(await serialAt(follower)).toBeUndefined()
    await leader.apply(table.snapshot())
    await follower.apply(table.snapshot())
    expect(await serialAt(follower)).toBe(await serialAt(leader))
    expect(follower.lookEveryMs).toBe(5000)
    expect((await configMap(STATE_NAME))!.data).toBeDefined()
  })
})

describe('the internal zone', () => {
  const bytes = (text: string) => parseAddress(text)!
  let inside = [parsePrefix('203.0.113.0/26')!, parsePrefix('2001:db8:7::5/128')!]
  const allows = askersOfInternal([parsePrefix('198.51.100.9/32')!], () => inside)

  it.each(['10.1.2.3', '127.0.0.1', 'fd00::1', '198.51.100.9', '203.0.113.7', '2001:db8:7::5'])('is for %s', text => {
    expect(allows(bytes(text))).toBe(true)
  })

  it.each(['198.51.100.8', '203.0.113.64', '2001:db8:7::6'])('is not for %s', text => {
    expect(allows(bytes(text))).toBe(false)
  })

  it('is for nodes as they come and go', () => {
    inside = [parsePrefix('192.0.2.1/32')!]
    expect(['192.0.2.1', '203.0.113.7'].map(text => allows(bytes(text)))).toEqual([true, false])
  })
})

describe('a runner', () => {
  it('tries again with growing patience, with what is wanted by then, and holds up nobody', async () => {
    const seen: number[] = []
    let isBroken = true
    const output: Output = {
      name: 'test',
      zones: ['public'],
      lookEveryMs: undefined,
      async apply({ version }) {
        seen.push(version)
        if (isBroken) throw new Error('no luck')
        return { conflicts: new Map() }
      },
      doubt: () => {},
      servers: () => [],
      stop: async () => {},
    }
    const runner = new OutputRunner(output, { clock, random: () => 0.5, onState: () => {} })
    runner.want(table.snapshot())
    await clock.advance(900)
    expect([seen.length, runner.state.problem]).toEqual([1, 'no luck'])
    want('shop/web', [], [txt('web.shop', AA)])
    runner.want(table.snapshot())
    await clock.advance(200)
    expect(seen).toHaveLength(2)
    await clock.advance(10_000)
    expect(seen.length).toBeLessThanOrEqual(5)
    const tries = seen.length
    runner.retryFailed()
    await clock.advance(0)
    expect(seen).toHaveLength(tries + 1)
    isBroken = false
    await clock.advance(60_000)
    expect(runner.state).toMatchObject({ problem: undefined, appliedVersion: table.version })
    await runner.stop()
  })

  it.each(['wanted', 'doubted'])('does not forget what is %s while it tries again, and that succeeds', async what => {
    const [seen, doubts]: number[][] = [[], []]
    let end = (_isBroken: boolean) => {}
    const output: Output = {
      name: 'test',
      zones: ['public'],
      lookEveryMs: undefined,
      async apply({ version }) {
        seen!.push(version)
        if (await new Promise<boolean>(resolve => (end = resolve))) throw new Error('no luck')
        return { conflicts: new Map() }
      },
      doubt: () => doubts!.push(seen!.length),
      servers: () => [],
      stop: async () => {},
    }
    const runner = new OutputRunner(output, { clock, random: () => 0.5, onState: () => {} })
    runner.want(table.snapshot())
    end(true)
    await clock.advance(1500)
    expect(seen).toHaveLength(2)
    want('shop/late', [], [txt('late.shop', AA)])
    if (what === 'wanted') runner.want(table.snapshot())
    else runner.again()
    end(false)
    await clock.advance(1500)
    expect(seen).toHaveLength(3)
    end(false)
    await clock.advance(100)
    expect(runner.state.appliedVersion).toBe(seen!.at(-1))
    if (what === 'wanted') expect(runner.state.appliedVersion).toBe(table.version)
    else expect(doubts).toEqual([2])
    await runner.stop()
  })
})

describe("the cluster's DNS", () => {
  const manage = (more = '') => configOf(`clusterDns: {manage: true, resolver: 10.96.0.53${more}}`)
  const place = { namespace: 'kube-system', name: 'coredns' }
  const corefile = '.:53 {\n    kubernetes cluster.local\n    forward . /etc/resolv.conf\n}\n'
  const make = (name: string, data: Record<string, string>): Promise<ConfigMap> =>
    store.create('ConfigMap', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: 'kube-system', name },
      data,
    })

  it('gets our block, once, and is given back as it was', async () => {
    await make('coredns', { Corefile: corefile, other: 'kept' })
    const config = manage()
    const domains = domainsOf(config, ['Peer.Example.', 'example.com'])
    expect(domains).toEqual(['example.com', 'internal.example.com', 'peer.example'])
    expect(await keepBlock(store, config, domains)).toEqual({ problems: [] })
    const { data } = (await store.get('ConfigMap', place))!
    expect(data!.Corefile).toContain('\nexample.com internal.example.com peer.example {\n')
    expect(data!.other).toBe('kept')
    const before = writes()
    await keepBlock(store, config, domains)
    expect(writes()).toBe(before)
    await restore(store, config.clusterDns)
    expect((await store.get('ConfigMap', place))!.data).toEqual({ Corefile: corefile, other: 'kept' })
  })

  it('is left alone when somebody changed the block', async () => {
    await make('coredns', { Corefile: corefile })
    await keepBlock(store, manage(), ['example.com'])
    const found = (await store.get('ConfigMap', place))!
    const edited = { Corefile: found.data!.Corefile!.replace('cache 30', 'cache 1') }
    await store.update('ConfigMap', { ...found, data: edited })
    for (const { problems } of [
      await keepBlock(store, manage(), ['example.org']),
      await restore(store, manage().clusterDns),
    ])
      expect(problems[0]).toMatch(/kube-system\/coredns: somebody changed the block/)
    expect((await store.get('ConfigMap', place))!.data).toEqual(edited)
  })

  it('has a key of its own where CoreDNS imports such keys', async () => {
    await make('coredns-custom', { 'theirs.server': 'x {\n}\n' })
    const config = manage(', configMap: coredns-custom')
    await keepBlock(store, config, ['example.com'])
    const key = { namespace: 'kube-system', name: 'coredns-custom' }
    expect(Object.keys((await store.get('ConfigMap', key))!.data!).sort()).toEqual(['ipref.server', 'theirs.server'])
    await restore(store, config.clusterDns)
    expect((await store.get('ConfigMap', key))!.data).toEqual({ 'theirs.server': 'x {\n}\n' })
  })

  it.each([
    ['RKE2', 'configMap: rke2-coredns-rke2-coredns', /HelmChartConfig/],
    ['OpenShift', 'namespace: openshift-dns, configMap: dns-default', /dns.operator.openshift.io/],
    ['GKE', 'configMap: kube-dns', /stubDomains/],
  ])('of %s is not touched, and it is said what to do', async (_, where, what) => {
    const { problems } = await keepBlock(store, manage(`, ${where}`), ['example.com'])
    expect(problems[0]).toMatch(what)
    expect(problems[0]).toContain('example.com')
    expect(writes()).toBe(0)
  })

  it('that is not there is named', async () => {
    expect((await keepBlock(store, manage(), ['example.com'])).problems[0]).toMatch(/kube-system\/coredns is not there/)
  })

  it('is not touched unless it shall be, and the lines to add are known', async () => {
    await make('coredns', { Corefile: corefile })
    const config = configOf('clusterDns: {resolver: 10.96.0.53}')
    const before = writes()
    await keepBlock(store, config, ['example.com'])
    expect(writes()).toBe(before)
    expect(linesToAdd(config, ['example.com'])).toEqual({
      where: 'ConfigMap kube-system/coredns, key Corefile',
      lines: 'example.com {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n',
    })
  })

  it('is asked as a pod would ask it', async () => {
    const service = { spec: { clusterIP: '10.96.0.10' } } as Service
    const server = dnsServerOf((_, name) => (name === 'kube-dns' ? service : undefined))!
    expect(server).toEqual({ host: '10.96.0.10', port: 53 })
    const known = a('web.shop', '10.0.0.1')
    const answer =
      (address: string[]) =>
      async (_: unknown, { name, type }: { name: Name; type: number }) =>
        ({
          flags: 0,
          answers: address.map(() => ({ name, type, class: 1, ttl: 1, data: Uint8Array.of(10, 0, 0, 1) })),
        }) as unknown as Message
    expect((await probe(server, known, answer(['10.0.0.1']))).resolves).toBe(true)
    expect(await probe(server, known, answer([]))).toMatchObject({
      resolves: false,
      detail: /does not resolve web.shop/,
    })
    expect(await probe(server, known, async () => undefined)).toMatchObject({
      resolves: false,
      detail: /does not answer/,
    })
  })
})
