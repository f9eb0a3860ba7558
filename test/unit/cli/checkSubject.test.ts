/** `ipref check SUBJECT`: who is meant, who is asked what, and in which order things are said. TCP is real, on loopback. */
import { createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { type CheckPorts, checkSubject, whoIsMeant } from '../../../cli/checkSubject.ts'
import { connectTo, parsePorts, sourceFor, stepOfConnection } from '../../../cli/tcpConnect.ts'
import type { TraceReport } from '../../../gateway/controlReports.ts'
import { parseAddress } from '../../../ipref/address.ts'
import type { Step } from '../../../runtime/steps.ts'

const right = (what: string): Step => ({ what, ok: true, detail: `${what} is right` })
const wrong = (what: string): Step => ({ what, ok: false, detail: `${what} is wrong`, fix: `mend ${what}` })
const traced = (fields: Partial<TraceReport>): TraceReport => ({ steps: [], addresses: [], verdict: '', ...fields })

const STATUS = {
  contexts: ['198.51.100.1'],
  peers: [{ address: '198.51.100.2' }],
  encodingNetworks: ['10.240.0.0/12'],
  mappings: { rows: [{ local: '10.1.0.10' }], truncated: false },
}

interface Answers {
  trace?: Record<string, TraceReport>
  /** between the gateways, and behind */
  check?: Step[]
  host?: Step[]
  encode?: object
  names?: Record<string, string[]>
  sources?: string[]
}

/** Says what it is asked for, in `asked`. */
function world(answers: Answers): CheckPorts & { asked: string[] } {
  const asked: string[] = []
  return {
    asked,
    trace: async subject => {
      asked.push(`trace ${subject}`)
      return answers.trace?.[subject] ?? traced({ verdict: `${subject} is no name and no address` })
    },
    ask: async request => {
      asked.push(`${request.do} ${request.addresses ?? request.peer ?? request.context ?? ''}`.trim())
      if (request.do === 'status') return STATUS
      if (request.do === 'encode') return answers.encode
      const addresses = (request.addresses as string[] | undefined) ?? []
      const hosts = addresses.map(address => ({ address, steps: answers.host ?? [] }))
      return { steps: answers.check ?? [], hosts, sources: answers.sources ?? ['10.1.0.1'] }
    },
    lookUp: async name => (answers.names?.[name] ?? []).map(text => parseAddress(text)!) ?? 'does not exist',
    connect: async ({ address, port, from }) => {
      asked.push(`connect ${address} ${port} from ${from}`)
      return port === 80 ? { ms: 1 } : { failed: 'ECONNREFUSED' }
    },
  }
}

const check = async (subject: string, ports: CheckPorts, tcp: number[] = []) =>
  (await checkSubject(subject, { tcp }, ports)).steps.map(
    ({ what, ok, warns }) => `${ok ? (warns ? '~' : '') : '!'}${what}`,
  )

describe('who is meant', () => {
  it.each([
    ['web.example.com', { subject: 'web.example.com' }],
    ['10.240.1.2', { subject: '10.240.1.2' }],
    ['AA gw.example.com + 11', { aa: 'AA gw.example.com + 11' }],
    ['198.51.100.2+11', { aa: '198.51.100.2+11' }],
    ['peer/198.51.100.2', { peer: '198.51.100.2' }],
    ['peer/gw.example.com', { peer: 'gw.example.com' }],
  ])('%s', (subject, meant) => expect(whoIsMeant(subject)).toEqual(meant))
})

describe('a name', () => {
  const trace = { 'web.example.com': traced({ steps: [right('TXT'), right('answer')], addresses: ['10.240.1.2'] }) }

  it('the trace, what the gateway tries, then each port from an address that gets answers', async () => {
    const ports = world({ trace, check: [right('path')], host: [right('ping')] })
    expect(await check('web.example.com', ports, [80, 81])).toEqual([
      'TXT',
      'answer',
      'path',
      'ping',
      'TCP 80',
      '!TCP 81',
    ])
    expect(ports.asked).toEqual([
      'trace web.example.com',
      'check 10.240.1.2',
      'connect 10.240.1.2 80 from 10.1.0.1',
      'connect 10.240.1.2 81 from 10.1.0.1',
    ])
  })

  it('a host that answers no pings and accepts connections is there, as the address of a Service', async () => {
    const host = [wrong('ping')]
    expect(await check('web.example.com', world({ trace, host }), [80])).toEqual(['TXT', 'answer', '~ping', 'TCP 80'])
    expect(await check('web.example.com', world({ trace, host }), [81])).toEqual(['TXT', 'answer', '!ping', '!TCP 81'])
    expect(await check('web.example.com', world({ trace, host }))).toEqual(['TXT', 'answer', '!ping'])
    expect(await check('web.example.com', world({ trace, host, sources: [] }), [80])).toContain('!ping')
  })

  it('no port is tried behind a gateway that is silent', async () => {
    const silent = { 'web.example.com': traced({ steps: [wrong('answer')], addresses: ['10.240.1.2'] }) }
    expect(await check('web.example.com', world({ trace: silent }), [80])).toEqual(['!answer'])
  })

  it('a host where large packets are lost is tried all the same', async () => {
    const ports = world({ trace, check: [wrong('path')], host: [right('ping')] })
    expect(await check('web.example.com', ports, [80])).toContain('TCP 80')
  })

  it('without an address that may send, ports are not tried, which is said', async () => {
    expect(await check('web.example.com', world({ trace, sources: ['fd01::1'] }), [80])).toContain('~TCP 80')
  })

  it('a name that leads nowhere ends with the trace', async () => {
    const ports = world({ trace: { 'web.example.com': traced({ steps: [wrong('TXT')] }) } })
    expect(await check('web.example.com', ports)).toEqual(['!TXT'])
    expect(ports.asked).toEqual(['trace web.example.com'])
  })

  it('what is neither name nor address is wrong', async () => {
    expect(await check('not..a.name', world({}))).toEqual(['!subject'])
  })
})

describe('an address', () => {
  it.each(['198.51.100.2', '198.51.100.1', '203.0.113.9'])('%s stands for nothing here: a gateway', async address => {
    const ports = world({ check: [right('peer')] })
    expect(await check(address, ports)).toEqual(['peer'])
    expect(ports.asked).toEqual(['status', `check ${address}`])
  })

  it.each(['10.240.1.2', '10.1.0.10'])('%s is traced: of an encoding network, or a host of ours', async address => {
    const ports = world({ trace: { [address]: traced({ steps: [right('mapping')], addresses: [address] }) } })
    expect(await check(address, ports)).toEqual(['mapping'])
    expect(ports.asked).toEqual(['status', `trace ${address}`, `check ${address}`])
  })
})

describe('an AA record', () => {
  const trace = { '10.240.1.2': traced({ steps: [right('mapping')], addresses: ['10.240.1.2'] }) }
  const encode = { addresses: ['10.240.1.2'] }

  it('its context by name, the encoded address of the mapper, then as any other', async () => {
    const ports = world({ trace, encode, names: { 'gw.example.com': ['198.51.100.2'] } })
    expect(await check('AA gw.example.com + 11', ports)).toEqual(['AA record', 'context', 'mapper', 'mapping'])
    expect(ports.asked).toEqual(['encode 198.51.100.2', 'trace 10.240.1.2', 'check 10.240.1.2'])
  })

  it('is wrong where it is none, and where the mapper refuses', async () => {
    expect(await check('AA gw.example.com + zzz', world({}))).toEqual(['!AA record'])
    const ports = world({ encode: { refused: 'the quota of this peer is used up' } })
    expect(await check('198.51.100.2 + 11', ports)).toEqual(['AA record', '!mapper'])
  })
})

describe('a peer', () => {
  it('by name: each of its addresses', async () => {
    const ports = world({ check: [right('peer')], names: { 'gw.example.com': ['198.51.100.2', '2001:db8::2'] } })
    expect(await check('peer/gw.example.com', ports)).toEqual(['context', 'peer', 'peer'])
    expect(ports.asked).toEqual(['check 198.51.100.2', 'check 2001:db8::2'])
  })

  it('what is neither name nor address is wrong', async () => {
    expect(await check('peer/not..a.name', world({}))).toEqual(['!peer'])
  })
})

describe('TCP', () => {
  let server: Server | undefined
  afterEach(() => server?.close())

  it('a port at which somebody listens, and one at which nobody does any more', async () => {
    server = createServer(socket => socket.end())
    await new Promise<void>(resolve => server!.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const to = { address: '127.0.0.1', port, from: '127.0.0.1' }
    expect(stepOfConnection(to, await connectTo(to))).toMatchObject({ ok: true, ms: expect.any(Number) })
    await new Promise(resolve => server!.close(resolve))
    expect(stepOfConnection(to, await connectTo(to))).toMatchObject({
      ok: false,
      detail: expect.stringContaining('refused'),
    })
  })

  it.each(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ECONNRESET', 'EADDRNOTAVAIL'])(
    '%s: says what to do',
    failed => {
      const step = stepOfConnection({ address: '10.240.1.2', port: 80 }, { failed })
      expect(step).toMatchObject({ what: 'TCP 80', ok: false, fix: expect.stringMatching(/./) })
    },
  )

  it('the source is of the family of the destination', () => {
    expect(sourceFor('10.240.1.2', ['fd01::1', '10.1.0.1'])).toBe('10.1.0.1')
    expect(sourceFor('fd24::2', ['10.1.0.1'])).toBeUndefined()
  })

  it.each([
    ['80', [80]],
    ['80,443,80', [80, 443]],
    ['', undefined],
    ['0', undefined],
    ['65536', undefined],
    ['http', undefined],
    ['80,', undefined],
    ['-1', undefined],
  ])('ports %j', (text, ports) => expect(parsePorts(text)).toEqual(ports))
})
