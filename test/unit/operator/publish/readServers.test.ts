/** Whom the operator asks about what it published. */
import { describe, expect, it } from 'vitest'
import { ReadServers, type SystemDns } from '../../../../operator/publish/readServers.ts'
import { type Config, parseConfig } from '../../../../resources/config.ts'
import { ManualClock } from '../../../support/manualClock.ts'

const OWN = { host: '10.1.0.1', port: 5353 }
const PUBLIC = '203.0.113.53'

function configOf(more = ''): Config {
  const parsed = parseConfig(
    `encodingNetworks: [10.176.0.0/12]\ninternalZone: internal.example.com\npublicZone: example.com
publishers: {zoneServer: {nameServers: [ns1.example.org]}}\n${more}`,
    'test',
  )
  if ('problems' in parsed) throw new Error(parsed.problems.join('\n'))
  return parsed.config
}

function world(dns: Partial<SystemDns>) {
  const clock = new ManualClock()
  const warned: object[] = []
  const unknown = async () => {
    throw new Error('no such name')
  }
  const servers = new ReadServers({
    dns: { nameServers: unknown, addresses: unknown, servers: () => [], ...dns },
    clock,
    log: { warn: fields => warned.push(fields) },
    known: () => [OWN],
  })
  return { clock, warned, servers }
}

describe('servers to read back from', () => {
  it('are those that the DNS names, beside those that are published to', async () => {
    const { servers } = world({ nameServers: async () => ['ns1.example.org'], addresses: async () => [PUBLIC] })
    expect(await servers.of('public', configOf())).toEqual([{ host: PUBLIC, port: 53, name: 'ns1.example.org' }, OWN])
  })

  it('of a public zone that is not delegated yet: those that it names itself', async () => {
    const { servers } = world({ addresses: async () => [PUBLIC] })
    expect(await servers.of('public', configOf())).toEqual([{ host: PUBLIC, port: 53, name: 'ns1.example.org' }, OWN])
  })

  it('of an internal zone: never the servers of the public one, which know nothing of it', async () => {
    const { servers } = world({ addresses: async () => [PUBLIC] })
    expect(await servers.of('internal', configOf())).toEqual([OWN])
  })

  it('are looked for again soon where the DNS knew none, and said once', async () => {
    let addresses: string[] = []
    const { servers, clock, warned } = world({ addresses: async () => addresses })
    expect(await servers.of('public', configOf())).toEqual([OWN])
    addresses = [PUBLIC]
    await clock.advance(1000)
    expect(await servers.of('public', configOf())).toEqual([OWN])
    await clock.advance(5000)
    expect(await servers.of('public', configOf())).toEqual([{ host: PUBLIC, port: 53, name: 'ns1.example.org' }, OWN])
    expect(warned).toEqual([{ zone: 'example.com' }])
  })

  it('are those of the settings, where they name any', async () => {
    const { servers } = world({})
    expect(await servers.of('public', configOf(`readBack: {servers: ['192.0.2.1:53']}`))).toEqual([
      { host: '192.0.2.1', port: 53 },
    ])
  })
})
