/**
 * RFC 2136 updates to BIND and Knot DNS as primaries of a zone that others write too.
 *
 *   Rfc2136Output ──update, TSIG──► named, knotd ◄── records of people, made and changed by nsupdate and by the zone file
 *
 * What others have is compared record for record after everything that we do. A program that is not installed is skipped with its name.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Class, Type } from '../../dns/constants.ts'
import { dataOfStrings, type ResourceRecord } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { transferZone } from '../../dns/transfer.ts'
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import { formatRecord } from '../../dns/zoneText.ts'
import { DesiredTable, type OwnedSet } from '../../operator/publish/desired.ts'
import type { RecordSet, ZoneKind } from '../../operator/publish/records.ts'
import { Rfc2136Output } from '../../operator/publish/rfc2136Output.ts'
import { sendUnits } from '../../operator/publish/updateMessage.ts'
import type { UpdateUnit } from '../../operator/publish/updatePlan.ts'
import { dataOf } from '../../operator/publish/zoneOf.ts'
import type { Rfc2136Config } from '../../resources/config.ts'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import { systemClock } from '../../runtime/clock.ts'
import { freePorts } from '../support/ports.ts'
import { HOST, has, SECRET, type Secondary, WRONG_SECRET } from './programs.ts'
import { startUpdatePrimary, UPDATE_PRIMARIES } from './updatePrimaries.ts'

const ZONE = 'example.com'
const origin = parseName(ZONE)!
const BASE = `$TTL 1h
@ IN SOA ns1 admin 1 1h 10m 1w 5m
  IN NS ns1
ns1 A 192.0.2.1
www A 192.0.2.80
www MX 10 mail
mail A 192.0.2.25
spf TXT "v=spf1 -all"
alias CNAME www
theirs TXT "AA 192.0.2.9 + 77"
_ipref-owner.theirs TXT "ipref-owner=elsewhere"
`
const AA = (reference: string) => `AA 198.51.100.1 + ${reference}`
const KEY = `hmac-sha256:transfer:${SECRET}`
const PLAIN_KEY = `hmac-sha256:noaxfr:${SECRET}`
const log = { info: () => {}, warn: () => {} }

let folder: string
let store: DirectoryStore
const running: Secondary[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-rfc2136-'))
  store = await DirectoryStore.open(mkdtempSync(join(folder, 'objects-')))
})
afterAll(async () => {
  await Promise.all(running.map(one => one.stop()))
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

/** All records but those of the zone itself, as text. */
async function all(port: number): Promise<string[]> {
  const found: ResourceRecord[] = []
  await transferZone({
    server: { host: HOST, port },
    zone: origin,
    key: parseTsigKey(KEY) as TsigKey,
    onRecord: record => found.push(record),
  })
  return found.map(formatRecord).sort()
}

async function start(program: (typeof UPDATE_PRIMARIES)[number], name: string): Promise<Secondary> {
  const [port] = (await freePorts(1)) as [number]
  const keys = [
    { name: 'transfer', secret: SECRET, may: 'update and transfer' as const },
    { name: 'noaxfr', secret: SECRET, may: 'update' as const },
  ]
  const primary = startUpdatePrimary(program, {
    folder: join(folder, `${program}-${name}`),
    zones: { [ZONE]: BASE },
    port,
    keys,
  })
  running.push(primary)
  const deadline = performance.now() + 60_000
  while (!(await queryServer({ host: HOST, port }, { name: origin, type: Type.SOA }, 300))?.answers.length)
    if (performance.now() > deadline) throw new Error(`${program} does not answer:\n${primary.log().slice(-3000)}`)
  return primary
}

const ZONES = new Map<ZoneKind, string>([
  ['public', ZONE],
  ['internal', ZONE],
])

class World {
  readonly table = new DesiredTable(ZONES)
  readonly output: Rfc2136Output
  constructor(port: number, more: Partial<Rfc2136Config> = {}, kind: ZoneKind = 'public') {
    const config = { zone: kind, server: `${HOST}:${port}`, key: KEY, owner: 'cluster-1', ...more }
    this.output = new Rfc2136Output(config, kind, ZONE, 1000, { store, clock: systemClock, log, namespace: 'ipref' })
  }
  want(key: string, kind: ZoneKind, ...sets: RecordSet[]): this {
    this.table.set(key, key, {
      internal: kind === 'internal' ? sets : [],
      public: kind === 'public' ? sets : [],
      leftOut: 0,
    })
    return this
  }
  apply() {
    return this.output.apply(this.table.snapshot())
  }
}

const txt = (name: string, ...references: string[]): RecordSet => ({
  name: `${name}.${ZONE}`,
  type: 'TXT',
  ttl: 60,
  values: references.map(AA),
})

/** As a person would, with the same key. */
async function byHand(port: number, updates: ResourceRecord[]): Promise<void> {
  const unit = {
    do: 'change',
    name: '',
    prerequisites: [],
    updates,
    after: { mark: [], sets: {}, isAlias: false },
  } as UpdateUnit
  const target = {
    server: { host: HOST, port },
    zone: origin,
    key: parseTsigKey(KEY) as TsigKey,
    now: () => Date.now() / 1000,
    patienceMs: 60_000,
  }
  expect(await sendUnits(target, [unit], () => {})).toEqual([])
}

const record = (
  name: string,
  type: 'A' | 'TXT',
  value: string,
  more: Partial<ResourceRecord> = {},
): ResourceRecord => ({
  name: parseName(`${name}.${ZONE}`)!,
  type: Type[type],
  class: Class.IN,
  ttl: 60,
  data: dataOf(type, value),
  ...more,
})

const marks = (lines: readonly string[], owner = 'cluster-1') =>
  lines.filter(line => line.includes(`"ipref-owner=${owner}"`)).map(line => line.split('.')[1])

for (const program of UPDATE_PRIMARIES) {
  describe.skipIf(!has(program))(`${program} as a primary (needs the program ${program})`, { timeout: 180_000 }, () => {
    let port: number
    let base: string[]
    beforeAll(async () => {
      const primary = await start(program, 'main')
      port = primary.port
      base = await all(port)
    }, 180_000)

    it('takes records with their mark, moves them, and is left as it was', async () => {
      const world = new World(port)
      world
        .want('shop/web', 'public', txt('web.shop', '1-0-1', '1-0-2'))
        .want('shop/www', 'public', txt('www', '1-0-3'))
      expect((await world.apply()).conflicts.size).toBe(0)
      let now = await all(port)
      expect(now).toContain(`web.shop.example.com.\t60\tIN\tTXT\t"${AA('1-0-1')}"`)
      expect(now).toContain(`www.example.com.\t60\tIN\tTXT\t"${AA('1-0-3')}"`)
      expect(now).toContain(`_ipref-owner.web.shop.example.com.\t60\tIN\tTXT\t"ipref-owner=cluster-1"`)
      for (const line of base) expect(now).toContain(line)
      world.want('shop/web', 'public', { ...txt('web.shop', '1-0-2', '1-0-9'), ttl: 120 })
      await world.apply()
      now = await all(port)
      expect(now.filter(line => line.startsWith('web.shop.'))).toEqual([
        `web.shop.example.com.\t120\tIN\tTXT\t"${AA('1-0-2')}"`,
        `web.shop.example.com.\t120\tIN\tTXT\t"${AA('1-0-9')}"`,
      ])
      world.want('shop/web', 'public').want('shop/www', 'public')
      await world.apply()
      expect(await all(port)).toEqual(base)
    })

    it('takes addresses of both families', async () => {
      const world = new World(port, {}, 'internal')
      const name = `web.shop.${ZONE}`
      const a: RecordSet = { name, type: 'A', ttl: 60, values: ['10.0.0.1', '10.0.0.2'] }
      world.want('shop/web', 'internal', a, { name, type: 'AAAA', ttl: 60, values: ['2001:db8::1'] })
      await world.apply()
      expect((await all(port)).filter(line => line.startsWith('web.shop.'))).toHaveLength(3)
      world.want('shop/web', 'internal', { ...a, values: ['10.0.0.2'] })
      await world.apply()
      expect((await all(port)).filter(line => line.startsWith('web.shop.'))).toEqual([`${name}.\t60\tIN\tA\t10.0.0.2`])
      world.want('shop/web', 'internal')
      await world.apply()
      expect(await all(port)).toEqual(base)
    })

    it('keeps what is not ours: records without a mark, with the mark of others, a CNAME', async () => {
      const world = new World(port)
      world
        .want('a/spf', 'public', txt('spf', '1-0-1'))
        .want('a/theirs', 'public', txt('theirs', '1-0-2'))
        .want('a/alias', 'public', txt('alias', '1-0-3'))
        .want('a/free', 'public', txt('free', '1-0-4'))
      const { conflicts } = await world.apply()
      expect([...conflicts.keys()].sort()).toEqual([
        'public alias.example.com',
        'public spf.example.com',
        'public theirs.example.com',
      ])
      expect(conflicts.get('public theirs.example.com')).toMatch(/another's: "ipref-owner=elsewhere"/)
      expect(marks(await all(port))).toEqual(['free'])
      for (const key of ['a/spf', 'a/theirs', 'a/alias', 'a/free']) world.want(key, 'public')
      await world.apply()
      expect(await all(port)).toEqual(base)
    })

    it('is looked at again when it is in doubt, and when its serial moves', async () => {
      const world = new World(port).want('shop/web', 'public', txt('web.shop', '1-0-1'))
      await world.apply()
      const right = await all(port)
      for (const harm of [
        [record('web.shop', 'TXT', AA('1-0-1'), { class: Class.NONE, ttl: 0 })],
        [record('web.shop', 'TXT', AA('6-6-6'))],
        [record('web.shop', 'TXT', AA('1-0-1'), { class: Class.ANY, ttl: 0, data: new Uint8Array() })],
      ]) {
        await byHand(port, harm)
        expect(await all(port)).not.toEqual(right)
        await world.apply()
        expect(await all(port)).toEqual(right)
      }
      // text of others under our mark stays
      await byHand(port, [record('web.shop', 'TXT', 'hello')])
      await world.apply()
      world.want('shop/web', 'public')
      await world.apply()
      expect((await all(port)).filter(line => !base.includes(line))).toEqual([
        `web.shop.example.com.\t60\tIN\tTXT\t"hello"`,
      ])
      await byHand(port, [record('web.shop', 'TXT', 'hello', { class: Class.NONE, ttl: 0 })])
      expect(await all(port)).toEqual(base)
    })

    it('is not touched where it changed between a look and an update', async () => {
      const world = new World(port).want('shop/one', 'public', txt('one', '1-0-1'))
      await world.apply()
      // the output knows of nothing there; by then somebody has the name
      await byHand(port, [record('race', 'TXT', 'mine')])
      world.want('shop/race', 'public', txt('race', '1-0-2'))
      const { conflicts } = await world.apply()
      expect(conflicts.get('public race.example.com')).toMatch(/not ours/)
      // and somebody takes our mark over
      await byHand(port, [
        { ...record('_ipref-owner.one', 'TXT', ''), class: Class.ANY, ttl: 0, data: new Uint8Array() },
        { ...record('_ipref-owner.one', 'TXT', ''), data: dataOfStrings(['ipref-owner=elsewhere']) },
      ])
      world.want('shop/one', 'public', txt('one', '1-0-3'))
      const second = await world.apply()
      expect(second.conflicts.get(`public one.${ZONE}`)).toMatch(/another's/)
      expect(await all(port)).toContain(`one.example.com.\t60\tIN\tTXT\t"${AA('1-0-1')}"`)
      await byHand(
        port,
        ['one', '_ipref-owner.one', 'race'].map(name => ({
          ...record(name, 'TXT', ''),
          class: Class.ANY,
          ttl: 0,
          data: new Uint8Array(),
        })),
      )
      expect(await all(port)).toEqual(base)
    })

    it('loses records from before, which a program that starts anew finds by their marks', async () => {
      await new World(port).want('shop/old', 'public', txt('old', '1-0-1')).apply()
      const other = new World(port, { owner: 'cluster-2' }).want('shop/other', 'public', txt('other', '1-0-5'))
      await other.apply()
      await new World(port).want('shop/new', 'public', txt('new', '1-0-2')).apply()
      const now = await all(port)
      expect(marks(now)).toEqual(['new'])
      expect(marks(now, 'cluster-2')).toEqual(['other'])
      await new World(port).apply()
      await other.want('shop/other', 'public').apply()
      expect(await all(port)).toEqual(base)
    })

    it('takes updates where it lets nobody transfer: names are asked for one by one', async () => {
      const world = new World(port, { key: PLAIN_KEY })
      world.want('shop/web', 'public', txt('web.shop', '1-0-1')).want('a/theirs', 'public', txt('theirs', '1-0-2'))
      expect([...(await world.apply()).conflicts.keys()]).toEqual(['public theirs.example.com'])
      await byHand(port, [record('web.shop', 'TXT', AA('1-0-1'), { class: Class.ANY, ttl: 0, data: new Uint8Array() })])
      await world.apply()
      expect(await all(port)).toContain(`web.shop.example.com.\t60\tIN\tTXT\t"${AA('1-0-1')}"`)
      // a program that starts anew knows what may be left by the objects alone
      const anew = new World(port, { key: PLAIN_KEY })
      anew.table.suspect('public', { ...txt('web.shop', '1-0-1'), owner: 'shop/web' } as OwnedSet)
      await anew.apply()
      expect(await all(port)).toEqual(base)
    })

    it('takes 2,000 names in messages that it can hold, and a conflict among them costs no other', async () => {
      const world = new World(port)
      for (let i = 0; i < 2000; i++) world.want(`load/h${i}`, 'public', txt(`h${i}.load`, `1-0-${(i % 90) + 1}`))
      await world.apply()
      await byHand(port, [record('h2000.load', 'TXT', 'mine')])
      for (let i = 2000; i < 2100; i++) world.want(`load/h${i}`, 'public', txt(`h${i}.load`, '1-0-7'))
      expect([...(await world.apply()).conflicts.keys()]).toEqual(['public h2000.load.example.com'])
      expect(marks(await all(port))).toHaveLength(2099)
      for (let i = 0; i < 2100; i++) world.want(`load/h${i}`, 'public')
      await world.apply()
      expect((await all(port)).filter(line => !base.includes(line))).toEqual([
        `h2000.load.example.com.\t60\tIN\tTXT\t"mine"`,
      ])
      await byHand(port, [record('h2000.load', 'TXT', 'mine', { class: Class.NONE, ttl: 0 })])
    })

    it.each([
      ['another secret', { key: `hmac-sha256:transfer:${WRONG_SECRET}` }, /BADSIG.*secret/],
      ['a key it does not know', { key: `hmac-sha256:nobody:${SECRET}` }, /BADKEY|NOTAUTH/],
      [
        'a Secret that is not there',
        { key: undefined, keySecret: { name: 'dns-key', key: 'key' } },
        /Secret ipref\/dns-key is not there/,
      ],
    ])('refuses %s, and it is said what to do', async (_, more, why) => {
      const { key, ...rest } = more as Partial<Rfc2136Config>
      const config = {
        zone: 'public',
        server: `${HOST}:${port}`,
        owner: 'x',
        ...rest,
        ...(key === undefined ? {} : { key }),
      } as Rfc2136Config
      const output = new Rfc2136Output(config, 'public', ZONE, 1000, {
        store,
        clock: systemClock,
        log,
        namespace: 'ipref',
      })
      const table = new DesiredTable(new Map<ZoneKind, string>([['public', ZONE]]))
      table.set('shop/web', '', { internal: [], public: [txt('web.shop', '1-0-1')], leftOut: 0 })
      await expect(output.apply(table.snapshot())).rejects.toThrow(why)
      expect(await all(port)).toEqual(base)
    })

    it('refuses what is not signed, and a zone that it does not have', async () => {
      const table = (zone: string) => {
        const made = new DesiredTable(new Map<ZoneKind, string>([['public', zone]]))
        made.set('shop/web', '', {
          internal: [],
          public: [{ ...txt('web', '1-0-1'), name: `web.${zone}` }],
          leftOut: 0,
        })
        return made.snapshot()
      }
      const output = (config: Partial<Rfc2136Config>, zone: string) =>
        new Rfc2136Output({ zone: 'public', server: `${HOST}:${port}`, owner: 'x', ...config }, 'public', zone, 1000, {
          store,
          clock: systemClock,
          log,
          namespace: 'ipref',
        })
      await expect(output({}, ZONE).apply(table(ZONE))).rejects.toThrow(/REFUSED|NOTAUTH/)
      await expect(output({ key: KEY }, 'example.org').apply(table('example.org'))).rejects.toThrow(/REFUSED|NOTAUTH/)
    })

    it('has the key in a Secret', async () => {
      const data = { key: Buffer.from(`${KEY}\n`).toString('base64') }
      await store.apply('Secret', {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace: 'ipref', name: 'dns' },
        data,
      })
      const config: Rfc2136Config = {
        zone: 'public',
        server: `${HOST}:${port}`,
        owner: 'x',
        keySecret: { name: 'dns', key: 'key' },
      }
      const output = new Rfc2136Output(config, 'public', ZONE, 1000, {
        store,
        clock: systemClock,
        log,
        namespace: 'ipref',
      })
      const table = new DesiredTable(new Map<ZoneKind, string>([['public', ZONE]]))
      const desired = (sets: RecordSet[]) => {
        table.set('shop/web', '', { internal: [], public: sets, leftOut: 0 })
        return table.snapshot()
      }
      await output.apply(desired([txt('secret', '1-0-1')]))
      expect(await all(port)).toContain(`secret.example.com.\t60\tIN\tTXT\t"${AA('1-0-1')}"`)
      await output.apply(desired([]))
      expect(await all(port)).toEqual(base)
    })
  })
}

describe('a server that is not there', () => {
  it('is named', async () => {
    const [port] = (await freePorts(1)) as [number]
    const world = new World(port).want('shop/web', 'public', txt('web', '1-0-1'))
    await expect(world.apply()).rejects.toThrow(`${HOST}:${port}`)
  })
})
