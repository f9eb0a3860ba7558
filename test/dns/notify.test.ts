/**
 * NOTIFY to Knot DNS, NSD and BIND when something is in the way of it.
 *
 *   ZoneServer, its port closed ──NOTIFY──► secondary: cannot transfer     port opens ──NOTIFY──► it has the zone, an hour before its own refresh
 *   a zone that they do not have ──NOTIFY──► one line, no warning          one that may not be told ──NOTIFY──► a warning
 *
 * A program that is not installed is skipped with its name.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Rcode, Type } from '../../dns/constants.ts'
import { decodeSoa, rcodeOf } from '../../dns/message.ts'
import { parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import { Zone } from '../../dns/zone.ts'
import type { NotifyTarget } from '../../dns/zoneNotify.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import { parseZoneText } from '../../dns/zoneText.ts'
import { parsePrefix } from '../../ipref/address.ts'
import { freePorts } from '../support/ports.ts'
import { HOST, has, SECRET, type Secondary, startSecondary } from './programs.ts'

const PROGRAMS = ['knotd', 'nsd', 'named'] as const
const key = parseTsigKey(`hmac-sha256:transfer:${SECRET}`) as TsigKey
const origin = parseName('example.com.')!

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-notify-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** Refreshed by its secondaries once an hour, after a failure within half an hour. */
function zoneOf(serial: number, of = origin): Zone {
  const text = `$TTL 1h\n@ IN SOA ns1 admin ${serial} 1h 30m 1w 5m\n@ NS ns1\nns1 A 192.0.2.1\n`
  const { zone } = Zone.from(of, parseZoneText(text, { origin: of, file: 'zone' }).records)
  return zone!
}

type Line = { level: 'info' | 'warn'; text: string }

function serverOn(port: number, notify: readonly NotifyTarget[]): { server: ZoneServer; logged: Line[] } {
  const logged: Line[] = []
  const server = new ZoneServer(
    {
      listen: [{ host: HOST, port }],
      keys: [key],
      transferAllow: [parsePrefix(`${HOST}/32`)!],
      transferKeys: [key.name],
      notify,
    },
    {
      log: {
        info: (fields, text) => void logged.push({ level: 'info', text: `${text} ${JSON.stringify(fields)}` }),
        warn: (fields, text) => void logged.push({ level: 'warn', text: `${text} ${JSON.stringify(fields)}` }),
      },
    },
  )
  closing.push(() => server.stop())
  return { server, logged }
}

async function soaAt(port: number): Promise<{ rcode?: number; serial?: number }> {
  const answer = await queryServer({ host: HOST, port }, { name: origin, type: Type.SOA })
  const soa = answer?.answers.find(({ type }) => type === Type.SOA)
  return { ...(answer && { rcode: rcodeOf(answer) }), ...(soa && { serial: decodeSoa(soa.data).serial }) }
}

const patiently = { timeout: 60_000, interval: 50 }

describe.each(PROGRAMS)('%s', program => {
  async function start(): Promise<{ own: number; secondary: Secondary }> {
    const [own, port] = (await freePorts(2)) as [number, number]
    const secondary = startSecondary(program, {
      folder: mkdtempSync(join(folder, `${program}-`)),
      zone: 'example.com',
      primaryPort: own,
      port,
      secret: SECRET,
    })
    closing.push(() => secondary.stop())
    return { own, secondary }
  }

  it.skipIf(!has(program))(
    `that could not transfer when it was told, is told again (needs ${program})`,
    { timeout: 240_000 },
    async () => {
      const { own, secondary } = await start()
      const target = { host: HOST, port: secondary.port, key }
      const before = serverOn(own, [target])
      before.server.setZone(zoneOf(1))
      await before.server.start()
      await expect.poll(() => soaAt(secondary.port), patiently).toEqual({ rcode: Rcode.NOERROR, serial: 1 })
      await before.server.stop()
      const after = serverOn(own, [target])
      after.server.setZone(zoneOf(2))
      // twice: it answered, was asked, and has the old one
      await expect.poll(() => after.server.notifiesSent, patiently).toBeGreaterThanOrEqual(2)
      expect(await soaAt(secondary.port), secondary.log()).toEqual({ rcode: Rcode.NOERROR, serial: 1 })
      await after.server.start()
      const since = performance.now()
      await expect.poll(() => soaAt(secondary.port), patiently).toEqual({ rcode: Rcode.NOERROR, serial: 2 })
      console.log(`${program}: has it ${Math.round(performance.now() - since)} ms after the port opened`)
      expect(after.logged.filter(({ level }) => level === 'warn')).toEqual([])
    },
  )

  it.skipIf(!has(program)).each<[string, { key?: TsigKey }]>([
    ['without a key', {}],
    ['with the key', { key }],
  ])(
    `that has no such zone, told %s, is no reason for a warning (needs ${program})`,
    { timeout: 120_000 },
    async (_, signed) => {
      const { own, secondary } = await start()
      await expect.poll(async () => (await soaAt(secondary.port)).rcode, patiently).toBe(Rcode.SERVFAIL)
      const { server, logged } = serverOn(own, [{ host: HOST, port: secondary.port, ...signed }])
      server.setZone(zoneOf(1, parseName('internal.example.org.')!))
      await expect.poll(() => logged.length, patiently).toBe(1)
      const text = expect.stringContaining('is no secondary of this zone')
      expect(logged).toEqual([{ level: 'info', text }])
    },
  )

  // BIND takes it from the address of the primary, whatever the key
  if (program === 'named') return
  it.skipIf(!has(program))(
    `that has the zone and takes no NOTIFY without a key is named in a warning (needs ${program})`,
    { timeout: 120_000 },
    async () => {
      const { own, secondary } = await start()
      await expect.poll(async () => (await soaAt(secondary.port)).rcode, patiently).toBe(Rcode.SERVFAIL)
      const { server, logged } = serverOn(own, [{ host: HOST, port: secondary.port }])
      server.setZone(zoneOf(1))
      await expect.poll(() => logged.length, patiently).toBe(1)
      const text = expect.stringMatching(/^secondary refuses NOTIFY .*(NOTAUTH|REFUSED)/)
      expect(logged).toEqual([{ level: 'warn', text }])
    },
  )
})
