import { describe, expect, it } from 'vitest'
import { type GatewayConfig, parseGatewayConfig } from '../../../gateway/config.ts'
import { gatewayIntro, gatewayProgram, options } from '../../../gateway/options.ts'
import { formatAddress, formatPrefix } from '../../../ipref/address.ts'
import { helpText } from '../../../runtime/settings.ts'

const files: Record<string, string> = {}
function readFile(path: string): string {
  const text = files[path]
  if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  return text
}
const parse = (...argv: string[]) => parseGatewayConfig(argv, readFile)

function config(...argv: string[]): GatewayConfig {
  const parsed = parse(...argv)
  if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
  return parsed.config
}

function problems(...argv: string[]): string[] {
  const parsed = parse(...argv)
  return 'problems' in parsed ? parsed.problems : []
}

describe('the command line', () => {
  it('takes one dash or two, and values behind = or a space', () => {
    const c = config('--gateway=198.51.100.1', '-gateway-port', '1046', '--dec-ttl=false', '-open-hosts')
    expect(c.bind.map(formatAddress)).toEqual(['198.51.100.1'])
    expect(c.contexts.map(formatAddress)).toEqual(['198.51.100.1'])
    expect([c.port, c.decrementTtl, c.openHosts]).toEqual([1046, false, true])
  })
  it('has the defaults of deployed gateways, but that TTLs fall', () => {
    const c = config('-gateway', '198.51.100.1')
    expect([c.port, c.remotePort, c.dataFolder, c.hostsFile, c.mapperSocket]).toEqual([
      1045,
      1045,
      '/var/lib/ipref',
      '/etc/hosts',
      '/run/ipref/mapper.sock',
    ])
    expect(c.encodingNetworks.map(formatPrefix)).toEqual(['10.240.0.0/12'])
    expect(c.ownEncoded.map(formatAddress)).toEqual(['10.240.0.1'])
    expect([c.decrementTtl, c.gatewayReference]).toEqual([true, 1n])
  })
  it('an unknown public address is no context', () => {
    expect(config('-gateway-bind', '192.168.1.2', '-gateway-pub', '0.0.0.0').contexts).toEqual([])
  })
  it('accepts the options of old unit files', () => {
    const c = config('-gateway', '198.51.100.1', '-max-buffers', '64', '-debug', '-time-stamps')
    expect(c.logLevel).toBe('debug')
    expect(c.notes).toHaveLength(2)
  })
  it('reports all mistakes at once, and what would be right', () => {
    expect(
      problems('-gatewy', '-encode-net', '10.0.0.0/24', '-gateway-port', '0', '-peer', 'x', '-log-level', 'loud'),
    ).toEqual([
      '-gatewy: unknown; did you mean gateway?',
      '-encode-net: 10.0.0.0/24 is too small; it needs /19 or shorter',
      '-gateway: the address to listen on is missing; write -gateway ADDRESS (or -gateway-bind, behind NAT)',
      '-gateway-port: 0 is no number from 1 to 65535',
      '-peer: x is no peer (198.51.100.2, 198.51.100.2:1045, [2001:db8::2]:1045)',
      '-log-level: loud is not one of debug, info, warn, error',
    ])
  })
  it.each([
    [['-gateway', '198.51.100.1', '-gateway', '198.51.100.2'], 'two IPv4 addresses'],
    [['-gateway', '10.240.5.5'], 'lies in the encoding network'],
    [['-gateway', '198.51.100.1', '-local-net', '10.0.0.0/8'], 'overlaps the encoding network'],
    [
      ['-gateway', '198.51.100.1', '-encode-net', '10.176.0.0/12', '-encode-net', '10.192.0.0/12'],
      'a second IPv4 encoding network',
    ],
    [['-gateway', '198.51.100.1', '-static', '10.1.0.9 = pup + 1'], 'one of pub, ext, loc'],
    [['-gateway'], 'a value is missing'],
    [['-gateway', '198.51.100.1', 'extra'], 'flags begin with a dash'],
    [['-config', '/none'], 'cannot be read (ENOENT)'],
  ])('%j: %s', (argv, problem) => {
    expect(problems(...argv).join('\n')).toContain(problem)
  })
})

describe('the configuration file', () => {
  it('has the same names, lists for those that repeat, and gives way to the command line', () => {
    files['/c.yaml'] =
      'gateway: [198.51.100.1, "2001:db8::1"]\ngateway-port: 2000\nopen-hosts: true\npeer: 198.51.100.7:99\n'
    const c = config('-config', '/c.yaml', '-gateway-port', '3000')
    expect(c.bind).toHaveLength(2)
    expect([c.port, c.openHosts]).toEqual([3000, true])
    expect(c.peers).toEqual([{ address: Uint8Array.of(198, 51, 100, 7), port: 99 }])
  })
  it('mistakes name file and line', () => {
    files['/bad.yaml'] = 'gateway: 198.51.100.1\nencode-nets: 10.0.0.0/8\ngateway-port: many\n'
    expect(problems('-config', '/bad.yaml')).toEqual([
      '/bad.yaml:2: encode-nets: unknown; did you mean encode-net?',
      '/bad.yaml:3: gateway-port: many is no number from 1 to 65535',
    ])
  })
  it.each([
    ['gateway: [', '/x.yaml:1:'],
    ['- a\n- b\n', 'expected names and values'],
    ['gateway-port: [1, 2]\n', 'one value, not a list'],
  ])('%j: %s', (text, problem) => {
    files['/x.yaml'] = text
    expect(problems('-config', '/x.yaml').join('\n')).toContain(problem)
  })
})

it('the help names every option, in lines that fit a terminal', () => {
  const help = helpText(gatewayProgram, gatewayIntro)
  for (const name of options.keys()) expect(help).toContain(`-${name}`)
  expect(Math.max(...help.split('\n').map(line => line.length))).toBeLessThanOrEqual(100)
})

describe('the DNS agent in the gateway', () => {
  const gateway = ['-gateway', '198.51.100.1', '-gateway', '2001:db8::1']

  it('has its sources as an option, and the families of the gateway', () => {
    const source = 'one.internal:example.com:198.51.100.1'
    const { agent } = config(...gateway, '-dns-agent', source, '-dns-agent-t', '2', '-encode-net', 'fd24::/64')
    expect(agent).toMatchObject({ pollSeconds: 120, encodedFamilies: [6], contextFamilies: [4, 6] })
    expect(agent?.sources[0]?.servers).toEqual([{ text: '198.51.100.1', host: '198.51.100.1', port: 53 }])
  })

  it('is off without a source, and a wrong one is named', () => {
    expect(config(...gateway).agent).toBeUndefined()
    expect(problems(...gateway, '-dns-agent', 'example.com')).toEqual([
      expect.stringContaining('-dns-agent: example.com'),
    ])
  })
})
