/** `ipref check` of hosts and peers: what is said of a way that takes so much, of ports, of silence; and that nothing is sent from where nothing may be. */
import { describe, expect, it } from 'vitest'
import { Checker, type CheckPorts, sourcesOf } from '../../../gateway/check.ts'
import type { CheckReport, PeerReport } from '../../../gateway/controlReports.ts'
import { Echoes, type EchoResult, type EchoTarget } from '../../../gateway/echoes.ts'
import type { MappingRow } from '../../../gateway/mapper/mapper.ts'
import { formatAddress, parseAddress, parsePrefix } from '../../../ipref/address.ts'
import type { Step } from '../../../runtime/steps.ts'

const GATEWAY = 1n
const HOST = 22n
const peer: PeerReport = {
  ...{ address: '198.51.100.2', port: 1045, verified: true, configured: true, mappings: 1, mtu: 1500, rttMs: 1 },
  ...{ lastSeenSecondsAgo: 3, bytesIn: 0, bytesOut: 0, packetsIn: 0, packetsOut: 0 },
}
const row = (local: string): MappingRow => ({
  ...{ relation: 'theirs', local, remote: '198.51.100.2 + 22', owner: 'dynamic', tentative: false, saved: true },
  ...{ expiresInSeconds: 1, lastUsedSecondsAgo: 1 },
})

interface World {
  /** largest outer packet by the path, and to the host */
  path?: number
  host?: number
  /** path MTU that a router says once something was too large */
  said?: number
  peer?: Partial<PeerReport>
  ports?: Partial<CheckPorts>
}

function world({ path = 1500, host = 1500, said, peer: more = {}, ports = {} }: World): {
  checker: Checker
  sent: EchoTarget[]
} {
  const sent: EchoTarget[] = []
  let { mtu } = { ...peer, ...more }
  const ask = async (target: EchoTarget, { wireSize = 60 }: { wireSize?: number }): Promise<EchoResult> => {
    sent.push(target)
    if (wireSize > path && said !== undefined) mtu = said
    return wireSize > path || (target.reference === HOST && wireSize > host) ? 'lost' : 1
  }
  const checker = new Checker({
    describe: address => row(formatAddress(address)),
    carrierOf: () => undefined,
    silence: () => undefined,
    peer: () => ({ ...peer, ...more, mtu }),
    know: () => true,
    expectedPort: () => 1045,
    wireMtu: () => 1500,
    isOwnContext: context => formatAddress(context) === '198.51.100.1',
    sources: () => [],
    echoes: { ask },
    ...ports,
  })
  return { checker, sent }
}

const all = ({ steps, hosts }: CheckReport) => [...steps, ...hosts.flatMap(host => host.steps)]
const shown = (steps: readonly Step[]) => steps.map(({ what, ok, warns }) => `${ok ? (warns ? '~' : '') : '!'}${what}`)
const stepOf = (steps: readonly Step[], what: string) => steps.find(step => step.what === what)

describe('hosts', () => {
  const rows: { name: string; world: World; shown: string[]; detail?: [what: string, text: RegExp] }[] = [
    { name: 'all is well', world: {}, shown: ['port', 'path', 'ping', 'large packets'] },
    {
      name: 'large packets vanish between the gateways',
      world: { path: 1380 },
      shown: ['port', '!path', 'ping', 'large packets'],
      detail: ['path', /lost without a word/],
    },
    {
      name: 'a router said so',
      world: { path: 1400, said: 1400 },
      shown: ['port', 'path', 'ping', 'large packets'],
      detail: ['path', /of 1400 bytes pass; a router said so/],
    },
    {
      name: 'a router said more than is true',
      world: { path: 1380, said: 1400 },
      shown: ['port', '!path', 'ping', 'large packets'],
      detail: ['path', /path MTU assumed: 1400/],
    },
    {
      name: 'large packets vanish behind the far gateway',
      world: { host: 1000 },
      shown: ['port', 'path', 'ping', '!large packets'],
      detail: ['large packets', /lost behind the far gateway/],
    },
    { name: 'the host is silent', world: { host: 0 }, shown: ['port', 'path', '!ping'] },
    { name: 'the gateway is silent, as the trace has said', world: { path: 0 }, shown: [] },
    {
      name: 'a path too narrow for the family',
      world: { path: 500, said: 500 },
      shown: ['port', '~path', 'ping', 'large packets'],
    },
    {
      name: 'another port',
      world: { peer: { port: 5001 } },
      shown: ['~port', 'path', 'ping', 'large packets'],
      detail: ['port', /UDP port 5001, not 1045.*kept for 3 s/],
    },
  ]
  it.each(rows)('$name', async ({ world: given, shown: expected, detail }) => {
    const steps = all(await world(given).checker.hosts(['10.240.1.2']))
    expect(shown(steps)).toEqual(expected)
    if (detail) expect(stepOf(steps, detail[0])!.detail).toMatch(detail[1])
    for (const step of steps) if (!step.ok || step.warns) expect(step.fix).toMatch(/./)
  })

  it('the way to a peer is tried once for two hosts', async () => {
    const report = await world({}).checker.hosts(['10.240.1.2', '10.240.1.3'])
    expect(report.hosts.map(host => host.address)).toEqual(['10.240.1.2', '10.240.1.3'])
    expect(shown(all(report))).toEqual(['port', 'path', 'ping', 'large packets', 'ping', 'large packets'])
  })

  it.each([
    ['of another gateway of the cluster', { carrierOf: () => 'b' }],
    ['that nothing is mapped to', { describe: () => undefined }],
    ['of our own', { describe: () => ({ ...row('10.1.0.10'), relation: 'ours' as const }) }],
    ['behind our own gateway', { isOwnContext: () => true }],
  ])('nothing is sent to one %s', async (_, ports) => {
    const { checker, sent } = world({ ports })
    expect(all(await checker.hosts(['10.240.1.2']))).toEqual([])
    expect(sent).toEqual([])
  })

  it('a gateway that carries no packets sends none: peers would take its port for that of the one that does', async () => {
    const { checker, sent } = world({ ports: { silence: () => 'gateway a carries the packets of this cluster' } })
    for (const report of [await checker.hosts(['10.240.1.2']), await checker.peer('198.51.100.2')])
      expect(report.steps).toMatchObject([
        { what: 'gateway', warns: true, detail: expect.stringContaining('gateway a') },
      ])
    expect(sent).toEqual([])
  })
})

describe('a peer', () => {
  it('its answer, its port, its sizes; all from reference 1', async () => {
    const { checker, sent } = world({})
    expect(shown((await checker.peer('198.51.100.2')).steps)).toEqual(['peer', 'port', 'path'])
    expect(new Set(sent.map(({ reference }) => reference))).toEqual(new Set([GATEWAY]))
  })

  it.each([
    ['silent', '198.51.100.2', { path: 0 }, '!answer'],
    ['ourselves', '198.51.100.1', {}, 'peer'],
    ['no address', 'gw', {}, '!peer'],
    ['one too many', '198.51.100.2', { ports: { know: () => false } }, '!peer'],
  ])('%s', async (_, text, given, expected) => {
    expect(shown((await world(given).checker.peer(text)).steps)).toEqual([expected])
  })
})

describe('echo requests', () => {
  const target: EchoTarget = { context: parseAddress('198.51.100.2')!, reference: HOST, port: 1045 }

  it('the answer with the same random bytes ends the waiting, another does not', async () => {
    const nonces: Uint8Array[] = []
    const sizes: number[] = []
    const send = (_: EchoTarget, echo: { nonce: Uint8Array }, size: number) => {
      nonces.push(echo.nonce)
      sizes.push(size)
      return true
    }
    const echoes = new Echoes({ send, nowMs: () => 5 })
    const asked = echoes.ask(target, { wireSize: 1500, patienceMs: 60_000 })
    expect(echoes.answered(new Uint8Array(16))).toBe(false)
    expect(echoes.answered(nonces[0]!)).toBe(true)
    expect(await asked).toBe(0)
    expect(echoes.answered(nonces[0]!)).toBe(false)
    // without IP and UDP header
    expect(sizes).toEqual([1472])
  })

  it('none in time is lost, and what the kernel does not send is refused', async () => {
    expect(await new Echoes({ send: () => true, nowMs: () => 0 }).ask(target, { patienceMs: 1 })).toBe('lost')
    expect(await new Echoes({ send: () => false, nowMs: () => 0 }).ask(target, { patienceMs: 60_000 })).toBe('refused')
  })

  it('an error that is pending at the socket is told once, and does not count', async () => {
    let calls = 0
    const echoes = new Echoes({ send: () => ++calls > 1, nowMs: () => 0 })
    expect(await echoes.ask(target, { patienceMs: 1 })).toBe('lost')
  })
})

describe('the address that connections of this host come from', () => {
  const own = [
    { address: parseAddress('127.0.0.1')!, device: 'lo' },
    { address: parseAddress('198.51.100.1')!, device: 'wan' },
    { address: parseAddress('10.240.0.1')!, device: 'ipref0' },
    { address: parseAddress('10.1.0.1')!, device: 'lan' },
    { address: parseAddress('fe80::1')!, device: 'lan' },
  ]
  const settings = {
    tunName: 'ipref0',
    encodingNetworks: [parsePrefix('10.240.0.0/12')!],
    bind: [parseAddress('198.51.100.1')!],
  }
  const sources = (addresses: typeof own, ...localNetworks: string[]) => {
    const given = { ...settings, localNetworks: localNetworks.map(text => parsePrefix(text)!) }
    return sourcesOf(addresses, given).map(formatAddress)
  }

  it('one that hosts know, and not the encoded one', () => expect(sources(own)).toEqual(['10.1.0.1']))
  it('else the one that peers know', () => expect(sources(own.slice(0, 3))).toEqual(['198.51.100.1']))
  it('one that may send, or none', () => expect(sources(own, '172.16.0.0/12')).toEqual([]))
})
