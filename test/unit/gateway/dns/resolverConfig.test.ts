import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { formatName } from '../../../../dns/name.ts'
import { parseEndpoint } from '../../../../gateway/dns/endpoint.ts'
import { parseResolverConfig } from '../../../../gateway/dns/resolverConfig.ts'
import { formatAddress } from '../../../../ipref/address.ts'

const noFile = () => {
  throw Object.assign(new Error(), { code: 'ENOENT' })
}
const UPSTREAM = ['-upstream', '192.0.2.53']

function config(argv: string[], readFile: (path: string) => string = noFile) {
  const parsed = parseResolverConfig(argv, readFile)
  if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
  return parsed.config
}

function problems(argv: string[], readFile: (path: string) => string = noFile): string[] {
  const parsed = parseResolverConfig(argv, readFile)
  return 'problems' in parsed ? parsed.problems : []
}

describe('settings of the resolver', () => {
  it('are safe by default: loopback alone, local askers alone, limits on', () => {
    const { resolver, metrics, health } = config(UPSTREAM)
    expect(resolver.listen.map(({ address, port }) => `${formatAddress(address)} ${port}`)).toEqual(['127.0.0.1 1053'])
    expect(resolver.allow.length).toBe(9)
    expect(resolver).toMatchObject({
      rateLimit: 100,
      cacheSize: 65536,
      serveStale: 0,
      encodedFamilies: [4],
      contextFamilies: [4],
      mapperSocket: '/run/ipref/mapper.sock',
      forwarders: [],
      excluded: [],
    })
    expect(resolver.domains.map(formatName)).toEqual(['.'])
    expect([metrics, health]).toEqual([undefined, undefined])
  })

  it('listen on each address of a list, with the standard port or one of its own', () => {
    const { resolver } = config([
      ...UPSTREAM,
      '-listen',
      '192.0.2.1,2001:db8::1,[2001:db8::2]:53',
      '-listen',
      '192.0.2.2',
    ])
    expect(resolver.listen.map(({ address, port }) => `${formatAddress(address)} ${port}`)).toEqual([
      '192.0.2.1 1053',
      '2001:db8::1 1053',
      '2001:db8::2 53',
      '192.0.2.2 1053',
    ])
    expect(problems([...UPSTREAM, '-listen', '192.0.2.1,'])[0]).toMatch(/^-listen: 192\.0\.2\.1, is no address/)
  })

  it('take what is asked for AA records from the forwarders where no upstream is given', () => {
    const { resolver } = config(['-forward', '192.0.2.1', '-forward', '192.0.2.2:5353'])
    expect(resolver.upstreams).toEqual(resolver.forwarders)
    expect(resolver.forwarders.map(s => s.port)).toEqual([53, 5353])
  })

  it('take servers from a file like /etc/resolv.conf, in its order, beside those that are named', () => {
    const folder = mkdtempSync(join(tmpdir(), 'ipref-resolv-'))
    const file = join(folder, 'resolv.conf')
    try {
      writeFileSync(file, 'search example.com\n# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n')
      const { resolver } = config(['-upstream', file, '-upstream', '192.0.2.53:5353', '-forward', file])
      expect(resolver.upstreams.map(({ text }) => text)).toEqual(['192.0.2.1', 'fe80::1', '192.0.2.53:5353'])
      expect(resolver.forwarders.map(({ text, port }) => `${text} ${port}`)).toEqual(['192.0.2.1 53', 'fe80::1 53'])
      writeFileSync(file, 'search example.com\n')
      expect(problems(['-upstream', file])[0]).toMatch(/^-upstream: .*resolv\.conf is no address of a server/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('are the same with one dash, with two, and in a file', () => {
    const expected = config(['-upstream', '192.0.2.53', '-domain', 'Example.com', '-ea-ipver', '4,6'])
    expect(config(['--upstream=192.0.2.53', '--domain', 'example.COM.', '--ea-ipver', '4 6'])).toMatchObject({
      resolver: { domains: expected.resolver.domains, encodedFamilies: [4, 6] },
    })
    const file = 'upstream: 192.0.2.53\ndomain: [example.com]\nea-ipver: "4,6"\nmapper: unix:///run/x.sock\n'
    expect(config(['-config', 'r.yaml'], () => file)).toMatchObject({
      resolver: { domains: expected.resolver.domains, encodedFamilies: [4, 6], mapperSocket: '/run/x.sock' },
    })
  })

  it.each([
    [['-upstream', 'ns1.example.com'], /^-upstream: ns1\.example\.com is no address of a server/],
    [['-upstream', '192.0.2.1:0'], /^-upstream: 192\.0\.2\.1:0 is no address/],
    [['-upstream', '192.0.2.1:65536'], /^-upstream: .* is no address/],
    [['-forward', 'tls://192.0.2.1'], /^-forward: .* is no address/],
    [['-upstream', '/nowhere/resolv.conf'], /^-upstream: .* or file with lines 'nameserver ADDRESS'/],
    [[], /^-upstream: nobody to ask for AA records; write -upstream ADDRESS$/],
    [[...UPSTREAM, '-listen', 'eth0'], /^-listen: eth0 is no address to listen on/],
    [[...UPSTREAM, '-domain', 'a..b'], /^-domain: a\.\.b is no domain name/],
    [[...UPSTREAM, '-except', `${'a'.repeat(64)}.example`], /^-except: .* is no domain name/],
    [[...UPSTREAM, '-allow', '10.0.0.0'], /^-allow: 10\.0\.0\.0 is no prefix/],
    [[...UPSTREAM, '-deny-answer', '10.240.0.0/33'], /^-deny-answer: .* is no prefix/],
    [[...UPSTREAM, '-ea-ipver', '4,4'], /^-ea-ipver: 4,4 is no IP version/],
    [[...UPSTREAM, '-gw-ipver', '5'], /^-gw-ipver: 5 is no IP version/],
    [[...UPSTREAM, '-cache-size', '-1'], /^-cache-size:/],
    [[...UPSTREAM, '-serve-stale', 'yes'], /^-serve-stale:/],
    [[...UPSTREAM, '-upstreem', '192.0.2.1'], /^-upstreem: unknown; did you mean upstream\?$/],
    [[...UPSTREAM, 'example.com'], /^example\.com: flags begin with a dash/],
    [['-upstream'], /^-upstream: a value is missing/],
  ])('%j is refused', (argv, expected) => {
    expect(
      problems(argv).some(problem => expected.test(problem)),
      JSON.stringify(problems(argv)),
    ).toBe(true)
  })

  it('name the line of a file', () => {
    const found = problems(['-config', 'r.yaml'], () => 'upstream: 192.0.2.53\nallow:\n  - 10.0.0.0/40\nfoo: 1\n')
    expect(found.some(p => /^r\.yaml:2: allow: 10\.0\.0\.0\/40 is no prefix/.test(p))).toBe(true)
    expect(found.some(p => /^r\.yaml:4: foo: unknown/.test(p))).toBe(true)
  })

  it('say all that is wrong at once', () => {
    expect(problems(['-upstream', 'x', '-listen', 'y', '-domain', 'a..b']).length).toBeGreaterThanOrEqual(3)
  })
})

describe('addresses with ports', () => {
  it.each([
    ['192.0.2.1', '192.0.2.1 53'],
    ['192.0.2.1:5353', '192.0.2.1 5353'],
    ['2001:db8::1', '2001:db8::1 53'],
    ['[2001:db8::1]', '2001:db8::1 53'],
    ['[2001:db8::1]:5353', '2001:db8::1 5353'],
    ['127.0.0.1:0', '127.0.0.1 0'],
  ])('%s', (text, expected) => {
    const { address, port } = parseEndpoint(text, 53)!
    expect(`${formatAddress(address)} ${port}`).toBe(expected)
  })

  it.each([
    '',
    'localhost',
    '192.0.2.1:',
    '192.0.2.1:x',
    '192.0.2.1:65536',
    '[192.0.2.1',
    '2001:db8::1]:53',
    '192.0.2.256',
    '[::1]53',
  ])('%j is none', text => expect(parseEndpoint(text, 53)).toBeUndefined())
})
