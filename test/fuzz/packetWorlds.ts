/** The gateways that the packet fuzzer drives: every pair of families, each with other settings, over poisoned memory. And the packets it begins with. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ForwardSettings } from '../../gateway/forward/environment.ts'
import { parseAddress, parsePrefix, prefixWords } from '../../ipref/address.ts'
import { hashHosts } from '../../ipref/hostSetHash.ts'
import { encodeGetEncoded, encodeHostData, encodeHostDataHash } from '../../ipref/mapperMessage.ts'
import { joinFields, unhex } from '../conformance/vectors.ts'
import { ForwardBench, settingsFor } from '../support/forwardBench.ts'
import type { Random } from './random.ts'

const ROOT = join(import.meta.dirname, '../..')

export interface Seeds {
  encap: Uint8Array[]
  decap: Uint8Array[]
  mapper: Uint8Array[]
  hosts: string[]
}

export function loadSeeds(): Seeds {
  const seeds: Seeds = { encap: [], decap: [], mapper: messages(), hosts: [] }
  for (const folder of [join(ROOT, 'test/vectors'), join(ROOT, '../shared/vectors')]) {
    if (!existsSync(folder)) continue
    for (const file of readdirSync(folder).filter(name => name.endsWith('.json'))) {
      const { vectors } = joinFields(JSON.parse(readFileSync(join(folder, file), 'utf8'))) as {
        vectors: { class: string; input: Record<string, never> }[]
      }
      for (const { input, class: kind } of vectors as { class: string; input: Record<string, string & string[]> }[]) {
        if (input.packets) seeds.encap.push(...input.packets.map(unhex))
        if (input.datagrams) seeds.decap.push(...input.datagrams.map(unhex))
        if (input.message) seeds.mapper.push(unhex(input.message))
        if (kind === 'hosts-file') seeds.hosts.push(input.text as string)
      }
    }
  }
  return seeds
}

/** Questions for encoded addresses, hosts and their hash, as our clients write them: what to begin with where there are no vectors of them. */
function messages(): Uint8Array[] {
  const addresses = { 4: parseAddress('10.1.0.2')!, 6: parseAddress('fd01::2')! }
  const gateways = { 4: parseAddress('198.51.100.1')!, 6: parseAddress('2001:db8:100::1')! }
  const names = { local: 'internal', public: 'example.com' }
  return ([4, 6] as const).flatMap(encodedFamily =>
    ([4, 6] as const).flatMap(tunnelFamily => {
      const header = { id: 7, encodedFamily, tunnelFamily }
      const [native, context] = [addresses[encodedFamily], gateways[tunnelFamily]]
      const hosts = [11n, 22n, 33n].map(reference => ({ native, context, reference }))
      const hash = hashHosts(hosts)
      return [
        encodeGetEncoded(header, { context, reference: 11n }),
        encodeGetEncoded(header, { context, reference: 22n }, 'host22.example.com'),
        encodeHostData(header, { batch: 1, hash, ...names }, hosts),
        encodeHostDataHash(header, { count: hosts.length, hash, ...names }),
      ]
    }),
  )
}

export interface World {
  bench: ForwardBench
  sources: string[]
}

function world(
  random: Random,
  encodeNet: string,
  contexts: string[],
  remotes: string[],
  change: Partial<ForwardSettings>,
  mtu: number,
): World {
  const bench = new ForwardBench(settingsFor({ encodeNets: [encodeNet], contexts, change }), 4096)
  bench.peers.mtu.fill(mtu)
  const is6 = encodeNet.includes(':')
  const own = is6 ? 'fd01::2' : '10.1.0.2'
  bench.addOurs(own, 11n)
  bench.addOurs(is6 ? 'fd01::3' : '10.1.0.3', 22n)
  for (const [i, remote] of remotes.entries()) {
    bench.addTheirs(is6 ? `fd99:240::10${2 + i * 2}` : `10.240.1.${2 + i * 2}`, remote, 22n)
    bench.addTheirs(is6 ? `fd99:240::10${1 + i * 2}` : `10.240.1.${1 + i * 2}`, remote, 11n)
  }
  if (is6) bench.env.tables.noteHostMtu(0xfd010000 | 0, 0, 0, 2, 1280)
  bench.env.mayAnswer = () => !random.oneIn(4)
  bench.env.mayReach = () => !random.oneIn(16)
  return { bench, sources: remotes }
}

const local4 = [prefixWords(parsePrefix('10.1.0.0/24')!)]
export function makeWorlds(random: Random): World[] {
  return [
    world(random, '10.240.0.0/12', ['198.51.100.1'], ['198.51.100.2'], {}, 65535),
    world(
      random,
      '10.240.0.0/12',
      ['198.51.100.2'],
      ['198.51.100.1'],
      { gatewayOpen: false, decrementTtl: true, tunMtu: 1464, localNetworks: local4, probeId: 7 },
      1500,
    ),
    world(random, '10.240.0.0/12', ['198.51.100.2'], ['198.51.100.1'], { decrementTtl: true }, 600),
    world(random, '10.240.0.0/12', ['2001:db8:100::1'], ['2001:db8:100::2'], { decrementTtl: true }, 1280),
    world(random, '10.240.0.0/12', ['2001:db8:100::2'], ['2001:db8:100::1'], {}, 65535),
    world(random, 'fd99:240::/64', ['198.51.100.1'], ['198.51.100.2'], { decrementTtl: true }, 1300),
    world(random, 'fd99:240::/64', ['198.51.100.2'], ['198.51.100.1'], { gatewayOpen: false }, 65535),
    world(random, 'fd99:240::/64', ['2001:db8:100::2'], ['2001:db8:100::1'], {}, 65535),
    world(random, '10.240.0.0/12', [], ['198.51.100.1', '198.51.100.2'], {}, 65535),
  ]
}
