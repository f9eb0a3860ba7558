/** Settings of the platform: defaults, mistakes with their places, and secrets that are not shown. */
import { describe, expect, it } from 'vitest'
import { type Config, describeConfig, parseConfig } from '../../../resources/config.ts'

function config(text: string): Config {
  const parsed = parseConfig(text, 'c.yaml')
  if ('problems' in parsed) throw new Error(parsed.problems.join('\n'))
  return parsed.config
}

function problems(text: string): string[] {
  const parsed = parseConfig(text, 'c.yaml')
  return 'problems' in parsed ? parsed.problems : []
}

describe('defaults', () => {
  const standard = {
    encodingNetworks: ['10.176.0.0/12'],
    internalZone: 'ipref.internal',
    inbound: { default: 'allow' },
    referenceLength: 8,
    referenceHoldTimeMs: 86_400_000,
    sliceLengths: { ipv4: 18, ipv6: 80 },
    uplink: 'auto',
    gatewayStaleTimeMs: 40_000,
    nodeReleaseTimeMs: 600_000,
    publishers: { rfc2136: [] },
    readBack: { mode: 'Authoritative', servers: [], intervalSeconds: 30 },
    clusterDns: { manage: false, namespace: 'kube-system', configMap: 'coredns' },
  }
  it.each(['', '# nothing yet\n', '{}', 'inbound:\npublishers:\n'])('hold where %j says nothing', text => {
    expect(config(text)).toMatchObject(standard)
    expect(config(text)).not.toHaveProperty('publicZone')
    expect(config(text).publishers).not.toHaveProperty('zoneServer')
  })

  it('fill what a publisher leaves out', () => {
    const { publishers } = config('publishers: {zoneServer: {nameServers: [ns1.example.com.]}, configMap: {}}')
    expect(publishers.zoneServer).toEqual({
      listen: ['0.0.0.0:5353'],
      nameServers: ['ns1.example.com'],
      transfer: { allow: [], keys: [], keySecrets: [] },
      notify: [],
    })
    expect(publishers.configMap).toEqual({ name: 'ipref-zones' })
  })

  it('are frozen with everything else', () => {
    const read = config('grants: [{namespace: shop, names: [a.ipref.internal]}]')
    expect(() => (read.grants[0]!.names as string[]).push('b.ipref.internal')).toThrow(TypeError)
    expect(() => Object.assign(read.inbound, { default: 'deny' })).toThrow(TypeError)
  })
})

it('times are read', () => {
  const read = config('referenceHoldTime: 1d12h\ngatewayStaleTime: 500ms\nnodeReleaseTime: 1h30m')
  expect(read).toMatchObject({
    referenceHoldTimeMs: 129_600_000,
    gatewayStaleTimeMs: 500,
    nodeReleaseTimeMs: 5_400_000,
  })
})

it('zones lose the dot at their end', () => {
  const read = config('internalZone: in.example.com.\npublicZone: example.com.\n')
  expect(read).toMatchObject({ internalZone: 'in.example.com', publicZone: 'example.com' })
})

describe('mistakes', () => {
  it.each([
    [
      'a name misspelt',
      'encodingNetwork: [10.0.0.0/8]',
      '1:1 encodingNetwork: unknown field; did you mean encodingNetworks?',
    ],
    [
      'a name misspelt further down',
      'inbound:\n  defualt: deny',
      '2:3 inbound.defualt: unknown field; did you mean default?',
    ],
    ['a bit too many', 'podNetworks:\n  - 10.0.0.0/8\n  - 10.0.0.1/8', '3:5 podNetworks[1]: not an address prefix'],
    [
      'two networks of one version',
      'encodingNetworks: [10.0.0.0/12, 10.176.0.0/12]',
      '1:1 encodingNetworks: two of the same',
    ],
    ['no network', 'encodingNetworks: []', '1:1 encodingNetworks: 0 items; at least 1'],
    ['a zone in capitals', 'internalZone: Example.com', '1:1 internalZone: "Example.com" does not fit'],
    ['a zone twice', 'internalZone: a.example\npublicZone: a.example.', '2:1 publicZone: the internal zone too'],
    ['an unknown word', 'uplink: both', '1:1 uplink: "both" is not known; one of auto, perNode, single'],
    ['YAML that says yes', 'clusterDns: {manage: yes}', '1:14 clusterDns.manage: "yes" is no yes or no; true or false'],
    ['a length in between', 'referenceLength: 6', '1:1 referenceLength: 6 is out of range; one of 4, 8'],
    ['a label that is a truth', 'gatewayNodeSelector: {gateway: true}', 'in quotes'],
    ['a time without a unit', 'nodeReleaseTime: "10"', '1:1 nodeReleaseTime: "10" does not fit; a time such as 40s'],
    ['a time that is a number', 'nodeReleaseTime: 10', '1:1 nodeReleaseTime: 10 is no text'],
    ['slices as large as the network', 'sliceLengths:\n  ipv4: 12', '2:3 sliceLengths.ipv4: 12 leaves no slice'],
    [
      'a grant outside',
      'grants: [{namespace: shop, names: [www.example.com]}]',
      '1:36 grants[0].names[0]: www.example.com is in none',
    ],
    ['a grant of everything', 'grants: [{namespace: shop, names: ["*"]}]', 'does not fit'],
    ['a grant above the zone', 'grants: [{namespace: shop, names: ["*.internal"]}]', 'is in none of the zones'],
    ['a star inside', 'grants: [{namespace: shop, names: ["a.*.ipref.internal"]}]', 'does not fit'],
    [
      'a grant to peers',
      'grants: [{namespace: peers, names: [a.ipref.internal]}]',
      '1:11 grants[0].namespace: a namespace that gets no names',
    ],
    [
      'a grant of peers',
      'grants: [{namespace: shop, names: ["*.peers.ipref.internal"]}]',
      'among the names of hosts of peers',
    ],
    [
      'a grant below a peer',
      'grants: [{namespace: shop, names: [a.b.peers.ipref.internal]}]',
      'among the names of hosts of peers',
    ],
    ['a grant without names', 'grants: [{namespace: shop}]', '1:10 grants[0].names: missing'],
    [
      'two addresses of one version',
      'publicAddresses:\n  node-1: [198.51.100.1, 198.51.100.2]',
      '2:3 publicAddresses.node-1: two of the same',
    ],
    ['a server by name', 'publishers: {rfc2136: [{server: ns1.example.com, zone: internal}]}', 'neither an address'],
    [
      'a key twice',
      'publishers: {rfc2136: [{zone: internal, server: 192.0.2.53, key: "hmac-sha256:a:YQ==", keySecret: {name: k}}]}',
      'key and keySecret',
    ],
    [
      'nothing to publish',
      'publishers: {rfc2136: [{server: 192.0.2.53}], dnsEndpoint: {}}',
      '1:47 publishers.dnsEndpoint.zones: the public zone',
    ],
    ['a listener without a port', 'publishers: {zoneServer: {listen: [0.0.0.0], nameServers: [ns1]}}', 'no port'],
    [
      'a cluster DNS without a resolver',
      'clusterDns:\n  manage: true',
      '1:1 clusterDns.resolver: the cluster DNS shall be changed',
    ],
    ['a text', 'settings', '1:1 settings: "settings" is no set of fields'],
    ['a list', '- a', '1:1 settings: ["a"] is no set of fields'],
    ['two documents', 'uplink: auto\n---\nuplink: single', 'a second document'],
    ['no YAML', 'uplink: [', 'c.yaml:1:'],
    ['a name twice', 'uplink: auto\nuplink: single', 'c.yaml:2:1'],
  ])('%s', (_name, text, expected) => {
    const found = problems(text)
    expect(found.join('\n')).toContain(expected)
    expect(found.filter(line => !/^c\.yaml:\d+:\d+ .+/.test(line))).toEqual([])
  })

  it('are all named at once', () => {
    expect(problems('uplink: both\nreferenceLength: 6\npodNetworks: 5\nnonsense: 1')).toHaveLength(4)
  })
})

describe('secrets', () => {
  const key = 'hmac-sha256:transfer:aHVudGVyMg'
  const text = `publicZone: example.com\npublishers: {rfc2136: [{server: 192.0.2.53, key: "${key}"}], zoneServer: {nameServers: [ns1], transfer: {keys: ["${key}"]}}}`

  it('are not in what is shown', () => {
    expect(JSON.stringify(config(text))).toContain('aHVudGVyMg')
    const shown = JSON.stringify(describeConfig(config(text)))
    expect(shown).not.toContain('aHVudGVyMg')
    expect(shown.split('hmac-sha256:transfer:(not shown)')).toHaveLength(3)
  })

  it.each([':bXk=:x', ' aHVudGVyMg', ''])('are not in what is wrong with them (%j)', more => {
    const wrong = problems(text.replaceAll(key, `hmac-md5:${key}${more}`))
    expect(wrong.length).toBe(2)
    expect(wrong.join()).not.toContain('aHVudGVyMg')
  })

  it('are not in problems of other types either', () => {
    expect(
      problems('publishers: {zoneServer: {nameServers: [ns1], transfer: {keys: [{a: aHVudGVyMg}]}}}').join(),
    ).not.toContain('aHVudGVyMg')
  })
})
