/** Options of the DNS agent: those of the deployed one as they are, ours beside them, and every mistake by its name. */
import { describe, expect, it } from 'vitest'
import { formatName } from '../../../../dns/name.ts'
import { type ParsedConfig, parseGatewayConfig } from '../../../../gateway/config.ts'
import { type AgentProgramConfig, parseAgentConfig, parseSource } from '../../../../gateway/dns/agentConfig.ts'

const SOURCE = 'internal:example.com:192.0.2.53'
const FILES: Readonly<Record<string, string>> = {
  'agent.yaml': 'ea-ipver: 6\nt: 5\nresolver: [192.0.2.1, "[2001:db8::1]:5353"]\n',
  'wrong.yaml': 'ea-ipver: 5\nunheard: 1\n',
}

function read(path: string): string {
  const text = FILES[path]
  if (text === undefined) throw Object.assign(new Error('no file'), { code: 'ENOENT' })
  return text
}

function config(...argv: string[]): AgentProgramConfig {
  const parsed = parseAgentConfig(argv, read)
  if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
  return parsed.config
}

function problems(...argv: string[]): string[] {
  const parsed = parseAgentConfig(argv, read)
  return 'problems' in parsed ? parsed.problems : []
}

describe('a source', () => {
  const shown = (text: string) => {
    const source = parseSource(text)
    if (typeof source === 'string') return source
    const servers = source.servers.map(server => `${server.host} ${server.port}`)
    return [formatName(source.local), formatName(source.public), ...servers]
  }

  it.each([
    [SOURCE, ['internal.', 'example.com.', '192.0.2.53 53']],
    ['internal:example.com:192.0.2.53:5353', ['internal.', 'example.com.', '192.0.2.53 5353']],
    ['a.b.:Example.COM.:192.0.2.1,192.0.2.2:54', ['a.b.', 'example.com.', '192.0.2.1 53', '192.0.2.2 54']],
    ['example.com:example.com:ns1.example.com', ['example.com.', 'example.com.', 'ns1.example.com 53']],
    ['i:p:NS1.Example.COM.:5353,ns2', ['i.', 'p.', 'ns1.example.com 5353', 'ns2 53']],
    ['i:p:[2001:DB8:0::1]', ['i.', 'p.', '2001:db8::1 53']],
    ['i:p:[2001:db8::1]:5353,192.0.2.1', ['i.', 'p.', '2001:db8::1 5353', '192.0.2.1 53']],
    ['i:p:192.0.2.1:5301,192.0.2.1:5302', ['i.', 'p.', '192.0.2.1 5301', '192.0.2.1 5302']],
  ])('%s', (text, expected) => expect(shown(text)).toEqual(expected))

  it.each([
    ['internal', /write LOCAL:PUBLIC:SERVER/],
    ['internal:example.com', /write LOCAL:PUBLIC:SERVER/],
    ['internal:example.com:', /write LOCAL:PUBLIC:SERVER/],
    [':example.com:192.0.2.1', /write LOCAL:PUBLIC:SERVER/],
    ['a..b:example.com:192.0.2.1', /a\.\.b is no domain name/],
    [`internal:${'x'.repeat(64)}.com:192.0.2.1`, /x\.com is no domain name/],
    ['i:p:192.0.2.300', /192\.0\.2\.300 is no server/],
    ['i:p:192.0.2', /192\.0\.2 is no server/],
    ['i:p:2001:db8::1', /2001:db8::1 is no server \(192\.0\.2\.53, \[2001:db8::53\]:5353/],
    ['i:p:[192.0.2.1]', /\[192\.0\.2\.1\] is no server/],
    ['i:p:[2001:db8::1', /is no server/],
    ['i:p:192.0.2.1:0', /192\.0\.2\.1:0 is no server/],
    ['i:p:192.0.2.1:65536', /is no server/],
    ['i:p:192.0.2.1:dns', /is no server/],
    ['i:p:.', /is no server/],
    ['i:p:192.0.2.1,,192.0.2.2', /a server is missing where two commas meet/],
    ['i:p:192.0.2.1,', /a server is missing where two commas meet, or at the end/],
    ['i:p:192.0.2.1,192.0.2.1:53', /192\.0\.2\.1:53 is there twice/],
    ['i:p:[2001:db8::1],[2001:DB8:0:0::1]', /\[2001:DB8:0:0::1\] is there twice/],
    ['i:p:ns1.example.com,NS1.example.com.', /NS1\.example\.com\. is there twice/],
  ])('%s is refused', (text, why) => {
    const said = parseSource(text)
    expect(said).toMatch(why)
    expect(said).toMatch(text.slice(0, 3))
  })
})

describe('options', () => {
  it('have the defaults of the deployed agent', () => {
    expect(config(SOURCE)).toMatchObject({
      devmode: false,
      logLevel: 'info',
      checkOnly: false,
      agent: {
        encodedFamilies: [4],
        contextFamilies: [4],
        mapperSocket: '/run/ipref/mapper.sock',
        pollSeconds: 59 * 60,
        holdDownSeconds: 60,
        keys: [],
        resolvers: [],
        notifyListen: undefined,
      },
    })
  })

  it('are those of the deployed agent, with one dash or two, flags first', () => {
    const { agent, devmode, logLevel } = config(
      ...['-ea-ipver=6', '--gw-ipver', '6', '-m', 'unix:///tmp/m.sock', '-t', '1', '-devmode', '--debug'],
      ...['-time-stamps', SOURCE, 'other:example.org:192.0.2.54'],
    )
    expect([devmode, logLevel]).toEqual([true, 'debug'])
    expect(agent).toMatchObject({
      encodedFamilies: [6],
      contextFamilies: [6],
      mapperSocket: '/tmp/m.sock',
      pollSeconds: 60,
    })
    expect(agent.sources.map(source => formatName(source.public))).toEqual(['example.com.', 'example.org.'])
  })

  it('both IP versions at once', () => {
    const { agent } = config('-ea-ipver', '4,6', '-gw-ipver', '6,4', SOURCE)
    expect([agent.encodedFamilies, agent.contextFamilies]).toEqual([
      [4, 6],
      [6, 4],
    ])
  })

  it('a path is a mapper socket too', () => {
    expect(config('-m', '/tmp/m.sock', SOURCE).agent.mapperSocket).toBe('/tmp/m.sock')
  })

  it('may come from a file', () => {
    const { agent } = config('-config', 'agent.yaml', SOURCE)
    expect(agent).toMatchObject({ encodedFamilies: [6], pollSeconds: 300 })
    expect(agent.resolvers.map(({ text, port }) => `${text} ${port}`)).toEqual([
      '192.0.2.1 53',
      '[2001:db8::1]:5353 5353',
    ])
  })

  it.each([
    [[], /no source: write LOCAL:PUBLIC:SERVER\[:PORT\]/],
    [['-t', '0', SOURCE], /-t: 0 is no number from 1 to 10080/],
    [['-t', '10081', SOURCE], /-t: 10081 is no number from 1 to 10080/],
    [['-t', '5m', SOURCE], /-t: 5m is no number/],
    [['-ea-ipver', '5', SOURCE], /-ea-ipver: 5 is no IP version \(4, 6, or 4,6\)/],
    [['-gw-ipver', '4,4', SOURCE], /-gw-ipver: 4,4 is no IP version/],
    [['-m', '', SOURCE], /-m: must not be empty/],
    [['-m', 'tcp://192.0.2.1', SOURCE], /-m: tcp:\/\/192\.0\.2\.1 is no Unix socket/],
    [['-key', 'nothing', SOURCE], /-key: write ALGORITHM:NAME:SECRET/],
    [['-key', '@missing', SOURCE], /-key: missing cannot be read \(ENOENT\)/],
    [['-resolver', 'ns1', SOURCE], /-resolver: ns1 is no address of a server/],
    [['-notify-listen', '5353', SOURCE], /-notify-listen: 5353 is no ADDRESS:PORT/],
    [['-hold-down', '86401', SOURCE], /-hold-down: 86401 is no number from 0 to 86400/],
    [['-eaipver=6', SOURCE], /-eaipver: unknown; did you mean ea-ipver\?/],
    [[SOURCE, 'Internal:EXAMPLE.com:192.0.2.54'], /source: internal:example\.com is there twice; write it once/],
    [['i:p:x:y:z'], /source: i:p:x:y:z: x:y:z is no server/],
  ])('%j is refused', (argv, why) => {
    expect(problems(...argv)).toEqual([expect.stringMatching(why)])
  })

  it('tells all mistakes at once, each with its place', () => {
    expect(problems('-config', 'wrong.yaml', '-t', '0', 'i:p')).toEqual([
      expect.stringMatching(/^wrong\.yaml:2: unheard: unknown/),
      expect.stringMatching(/^source: i:p: write/),
      expect.stringMatching(/^wrong\.yaml:1: ea-ipver: 5 is no IP version/),
      expect.stringMatching(/^-t: 0/),
    ])
  })

  it.each([
    ['-help', 'help'],
    ['-h', 'help'],
    ['--version', 'version'],
  ])('%s', (flag, what) => expect(parseAgentConfig([flag], read)).toHaveProperty(what))

  it('the help names every flag of the deployed agent', () => {
    const parsed = parseAgentConfig(['-help'], read)
    const help = 'help' in parsed ? parsed.help : ''
    for (const flag of ['ea-ipver', 'gw-ipver', 'm', 't', 'devmode', 'debug', 'time-stamps'])
      expect(help).toMatch(new RegExp(`^ +-${flag}\\b`, 'm'))
  })
})

describe('inside the gateway', () => {
  const gateway = (...argv: string[]): ParsedConfig => parseGatewayConfig(argv, read)
  const base = ['-gateway', '198.51.100.1', '-encode-net', '10.240.0.0/12', '-encode-net', 'fd24::/64']

  it('families are those of the gateway', () => {
    const parsed = gateway(...base, '-dns-agent', SOURCE, '-dns-agent-t', '7')
    expect('config' in parsed && parsed.config.agent).toMatchObject({
      encodedFamilies: [4, 6],
      contextFamilies: [4],
      pollSeconds: 420,
    })
  })

  it('without a source there is no agent', () => {
    const parsed = gateway(...base)
    expect('config' in parsed && parsed.config.agent).toBeUndefined()
  })

  it('mistakes name the option', () => {
    const parsed = gateway(...base, '-dns-agent', 'i:p', '-dns-agent-t', '0')
    expect('problems' in parsed && parsed.problems).toEqual([
      expect.stringMatching(/^-dns-agent: i:p: write LOCAL:PUBLIC/),
      expect.stringMatching(/^-dns-agent-t: 0 is no number/),
    ])
  })
})
