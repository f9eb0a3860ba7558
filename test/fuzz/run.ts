/**
 * `npm run fuzz -- --seconds 60 [--seed N]`: mutated vectors and random bytes into encap, decap, the mapper socket's messages and the hosts file.
 *
 * Fails when something throws, when a refusal has no name, when the counters do not add up, when a packet that was put out carries bytes that
 * were never put in (memory around every packet is poisoned), or when a reason of refusal was never met.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ForwardSettings } from '../../gateway/forward/environment.ts'
import { Verdict } from '../../gateway/forward/environment.ts'
import { parsePrefix, prefixWords } from '../../ipref/address.ts'
import { Fault, faultNames } from '../../ipref/faults.ts'
import { parseHostsFile } from '../../ipref/hostsFile.ts'
import { MapperLab } from '../conformance/mapper.ts'
import { joinFields, unhex } from '../conformance/vectors.ts'
import { ForwardBench, POISON, settingsFor } from '../support/forwardBench.ts'

const ROOT = join(import.meta.dirname, '../..')
/** bytes in a row that look like nobody wrote them */
const POISON_RUN = 12
/** reasons that only workers and the mapper give: met by the tests of whole networks */
const NOT_HERE = new Set<number>(
  (
    [
      'none',
      'quota_exceeded',
      'source_unmapped',
      'miss_queue_full',
      'peer_unverified',
      'tunnel_send_failed',
      'tun_write_failed',
      'receive_truncated',
      'fragment_hold_expired',
    ] as const
  ).map(name => Fault[name]),
)

function option(name: string, standard: number): number {
  const i = process.argv.indexOf(name)
  return i < 0 ? standard : Number(process.argv[i + 1])
}

const seconds = option('--seconds', 60)
const seed = option('--seed', (Math.random() * 2 ** 31) | 0)
let state = seed | 1
/** xorshift: a run is repeated by its seed */
function random(below: number): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % below
}

interface Seeds {
  encap: Uint8Array[]
  decap: Uint8Array[]
  mapper: Uint8Array[]
  hosts: string[]
}

function loadSeeds(): Seeds {
  const seeds: Seeds = { encap: [], decap: [], mapper: [], hosts: [] }
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

const INTERESTING = [
  0, 1, 2, 3, 4, 6, 7, 8, 11, 16, 17, 20, 40, 44, 47, 50, 58, 59, 60, 64, 127, 128, 129, 132, 224, 254, 255,
]

function mutate(packet: Uint8Array): Uint8Array {
  let bytes = packet.slice()
  for (let i = random(5); i > 0 && bytes.length > 0; i--) {
    const at = random(bytes.length)
    switch (random(7)) {
      case 0:
        bytes[at]! ^= 1 << random(8)
        break
      case 1:
        bytes[at] = INTERESTING[random(INTERESTING.length)]!
        break
      case 2:
        bytes[at] = random(256)
        break
      case 3:
        bytes = bytes.slice(0, at)
        break
      case 4:
        bytes = Uint8Array.from([...bytes, ...Array.from({ length: random(64) }, () => random(256))])
        break
      case 5:
        if (at + 1 < bytes.length) bytes.set([random(256), random(256)], at)
        break
      default:
        bytes.copyWithin(at, random(bytes.length))
    }
  }
  return bytes
}

// most would end at the header checksum or the total length otherwise
function repairHeader(packet: Uint8Array): void {
  if (packet.length >= 40 && packet[0]! >> 4 === 6)
    packet.set([((packet.length - 40) >> 8) & 0xff, (packet.length - 40) & 0xff], 4)
  if (packet.length < 20 || packet[0]! >> 4 !== 4) return
  const header = Math.max(20, (packet[0]! & 15) * 4)
  if (random(2) === 0) packet.set([packet.length >> 8, packet.length & 0xff], 2)
  packet.set([0, 0], 10)
  let sum = 0
  for (let i = 0; i < Math.min(header, packet.length); i += 2) sum += (packet[i]! << 8) | (packet[i + 1] ?? 0)
  sum = (sum & 0xffff) + (sum >>> 16)
  sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff
  packet.set([sum >> 8, sum & 0xff], 10)
}

interface World {
  bench: ForwardBench
  sources: string[]
}

function world(
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
  bench.env.mayAnswer = () => random(4) !== 0
  bench.env.mayReach = () => random(16) !== 0
  return { bench, sources: remotes }
}

const local4 = [prefixWords(parsePrefix('10.1.0.0/24')!)]
const worlds: World[] = [
  world('10.240.0.0/12', ['198.51.100.1'], ['198.51.100.2'], {}, 65535),
  world(
    '10.240.0.0/12',
    ['198.51.100.2'],
    ['198.51.100.1'],
    { gatewayOpen: false, decrementTtl: true, tunMtu: 1464, localNetworks: local4, probeId: 7 },
    1500,
  ),
  world('10.240.0.0/12', ['198.51.100.2'], ['198.51.100.1'], { decrementTtl: true }, 600),
  world('10.240.0.0/12', ['2001:db8:100::1'], ['2001:db8:100::2'], { decrementTtl: true }, 1280),
  world('10.240.0.0/12', ['2001:db8:100::2'], ['2001:db8:100::1'], {}, 65535),
  world('fd99:240::/64', ['198.51.100.1'], ['198.51.100.2'], { decrementTtl: true }, 1300),
  world('fd99:240::/64', ['198.51.100.2'], ['198.51.100.1'], { gatewayOpen: false }, 65535),
  world('fd99:240::/64', ['2001:db8:100::2'], ['2001:db8:100::1'], {}, 65535),
  world('10.240.0.0/12', [], ['198.51.100.1', '198.51.100.2'], {}, 65535),
]

const tally = {
  received: 0,
  forwarded: 0,
  answered: 0,
  dropped: 0,
  held: 0,
  missed: 0,
  probes: 0,
  pastHeader: 0,
  out: 0,
}
const byFault = new Float64Array(faultNames.length)
const headerFaults = new Set<number>([
  Fault.datagram_empty,
  Fault.tunnel_header_invalid,
  Fault.ip_header_invalid,
  Fault.ip_length_mismatch,
  Fault.outer_source_invalid,
])
const problems: string[] = []

function onePacket(seeds: Seeds): void {
  const { bench, sources } = worlds[random(worlds.length)]!
  const isEncap = random(2) === 0
  const from = isEncap ? seeds.encap : seeds.decap
  const packet =
    random(20) === 0 ? Uint8Array.from({ length: random(200) }, () => random(256)) : mutate(from[random(from.length)]!)
  if (isEncap && random(8) !== 0) repairHeader(packet)
  bench.env.now += random(1000) === 0 ? 61 : 0
  const verdict = isEncap ? runEncap(bench, packet) : runDecap(bench, packet, sources)
  account(bench, verdict, isEncap ? bench.encap.fault : bench.decap.fault, packet)
}

function runEncap(bench: ForwardBench, packet: Uint8Array): number {
  const at = bench.placeTight(packet)
  const isSuper = random(10) === 0
  const types = [0, 1, 3, 4, 5, 0x81, 0x84, 77]
  const size = isSuper ? [0, 1, 100, 536, 1400, 65535][random(6)]! : 0
  return bench.encap.encap(
    at,
    packet.length,
    isSuper || random(10) === 0,
    isSuper ? types[random(types.length)]! : 0,
    size,
  )
}

function runDecap(bench: ForwardBench, packet: Uint8Array, sources: string[]): number {
  if (random(4) === 0) bench.decap.forget()
  const at = bench.placeTight(packet)
  const all = [...sources, '198.51.100.1', '198.51.100.2', '2001:db8:100::1', '2001:db8:100::2', '127.0.0.1', 'ff02::1']
  const o = bench.wordsOf(random(8) === 0 ? all[random(all.length)]! : sources[random(sources.length)]!)
  return bench.decap.decap(at, packet.length, o[0], o[1], o[2], o[3], random(200) === 0 ? 0 : 1045, random(256))
}

function account(bench: ForwardBench, verdict: number, fault: number, packet: Uint8Array): void {
  tally.received++
  const isRefused = verdict === Verdict.dropped || verdict === Verdict.answered
  if (verdict === Verdict.forwarded) tally.forwarded++
  else if (verdict === Verdict.answered) tally.answered++
  else if (verdict === Verdict.dropped) tally.dropped++
  else if (verdict === Verdict.held) tally.held++
  else if (verdict === Verdict.probeAnswer) tally.probes++
  else tally.missed++
  if (!isRefused || !headerFaults.has(fault)) tally.pastHeader++
  if (isRefused) byFault[fault]!++
  if (isRefused && fault === Fault.none)
    problems.push(`refused without a reason: ${Buffer.from(packet).toString('hex')}`)
  if (!bench.hasOutput()) return
  const hasPoison = longestPoison(packet) >= POISON_RUN
  for (const { bytes } of bench.takeAndPoison()) {
    tally.out++
    if (bytes.length > 65535 + 100) problems.push(`a packet of ${bytes.length} bytes was put out`)
    if (!hasPoison && longestPoison(bytes) >= POISON_RUN)
      problems.push(
        `foreign memory in ${Buffer.from(bytes).toString('hex').slice(0, 400)} from ${Buffer.from(packet).toString('hex').slice(0, 400)}`,
      )
  }
}

function longestPoison(bytes: Uint8Array): number {
  let [longest, run] = [0, 0]
  for (let i = 0; i < bytes.length; i++) {
    run = bytes[i] === POISON ? run + 1 : 0
    if (run > longest) longest = run
  }
  return longest
}

async function fuzzMessages(seeds: Seeds, count: number): Promise<number> {
  const lab = new MapperLab({
    encodeNets: ['10.240.0.0/12'],
    contexts: ['198.51.100.1'],
    capacity: 1 << 17,
    quotaPerPeer: 1000,
  })
  await lab.open()
  let answered = 0
  for (let done = 0; done < count; ) {
    const batch: Promise<Uint8Array | undefined>[] = []
    for (let i = 0; i < 500; i++, done++)
      batch.push(lab.messages.handle(mutate(seeds.mapper[random(seeds.mapper.length)]!)))
    for (const answer of await Promise.all(batch)) {
      if (!answer) continue
      answered++
      const mode = answer[1]! >> 6
      if (answer[0] !== 0x11 || (mode !== 2 && mode !== 3))
        problems.push(`mapper socket answered ${Buffer.from(answer).toString('hex')}`)
    }
  }
  await lab.close()
  return answered
}

function fuzzHosts(seeds: Seeds, count: number): number {
  let records = 0
  for (let i = 0; i < count; i++) {
    const text = mutate(Buffer.from(seeds.hosts[random(seeds.hosts.length)] ?? '10.1.0.2 a #= pub + 11\n'))
    records += parseHostsFile(Buffer.from(text).toString('utf8')).records.length
  }
  return records
}

process.on('unhandledRejection', error => problems.push(`unhandled: ${String(error)}`))
const seeds = loadSeeds()
console.log(
  `seed ${seed}: ${seeds.encap.length} local packets, ${seeds.decap.length} tunnel packets, ${seeds.mapper.length} messages, ${seeds.hosts.length} hosts files`,
)
const messages = Math.max(2000, Math.round(100_000 * Math.min(1, seconds / 60)))
const answeredMessages = await fuzzMessages(seeds, messages)
const hosts = Math.round(messages / 2)
const records = fuzzHosts(seeds, hosts)
const until = performance.now() + seconds * 1000
try {
  while (performance.now() < until && problems.length < 10) for (let i = 0; i < 1000; i++) onePacket(seeds)
} catch (error) {
  problems.push((error as Error).stack ?? String(error))
}

const sum = tally.forwarded + tally.answered + tally.dropped + tally.held + tally.missed + tally.probes
if (sum !== tally.received) problems.push(`${tally.received} received, but ${sum} accounted for`)
const missing = faultNames.filter((_name, fault) => !NOT_HERE.has(fault) && byFault[fault] === 0)
if (missing.length > 0 && tally.received > 1_000_000) problems.push(`never met: ${missing.join(', ')}`)
console.log(`\n${'refused'.padEnd(30)}packets`)
for (const [fault, name] of faultNames.entries())
  if (byFault[fault]! > 0) console.log(`${name.padEnd(30)}${byFault[fault]}`)
const share = Math.round((100 * tally.pastHeader) / tally.received)
console.log(
  `\nreceived ${tally.received} = forwarded ${tally.forwarded} + dropped ${tally.dropped} + answered ${tally.answered} + held ${tally.held} + without mapping ${tally.missed} + probe answers ${tally.probes}`,
)
console.log(
  `${share} % got past the header checks; ${tally.out} packets put out; ${messages} messages (${answeredMessages} answered); ${hosts} hosts files (${records} records)`,
)
if (share < 30) problems.push(`only ${share} % got past the header checks`)
for (const problem of problems.slice(0, 10)) console.log(`PROBLEM ${problem}`)
console.log(problems.length === 0 ? 'no problem found' : `${problems.length} problems; repeat with --seed ${seed}`)
process.exit(problems.length === 0 ? 0 : 1)
