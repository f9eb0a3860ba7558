/**
 * Mutated vectors and random bytes into encap, decap, the mapper socket's messages and the hosts file.
 *
 * Fails when something throws, when a refusal has no name, when the counters do not add up, when a packet that was put out carries bytes that
 * were never put in (memory around every packet is poisoned), or when a reason of refusal was never met.
 */
import { Verdict } from '../../gateway/forward/environment.ts'
import { Fault, faultNames } from '../../ipref/faults.ts'
import { parseHostsFile } from '../../ipref/hostsFile.ts'
import { MapperLab } from '../conformance/mapper.ts'
import { type ForwardBench, POISON } from '../support/forwardBench.ts'
import { loadSeeds, makeWorlds, type Seeds, type World } from './packetWorlds.ts'
import { Random } from './random.ts'
import type { Report } from './report.ts'

/** bytes in a row that look like nobody wrote them */
const POISON_RUN = 12
/** of that many, every reason must have been met */
const ENOUGH = 1_000_000
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
const headerFaults = new Set<number>([
  Fault.datagram_empty,
  Fault.tunnel_header_invalid,
  Fault.ip_header_invalid,
  Fault.ip_length_mismatch,
  Fault.outer_source_invalid,
])
const PROPERTIES = {
  named: 'packets: every refusal has a name',
  length: 'packets: none longer than 65535 bytes and its headers is put out',
  memory: 'packets: no foreign memory is put out',
  header: 'packets: 30 % get past the header checks',
  mapper: 'mapper socket: answers are answers',
} as const

export async function fuzzPackets(run: { seconds: number; seed: number; report: Report }): Promise<void> {
  await new PacketFuzzer(run.seed, run.report).run(run.seconds)
}

class PacketFuzzer {
  readonly #random: Random
  readonly #report: Report
  readonly #seeds: Seeds = loadSeeds()
  readonly #worlds: World[]
  readonly #byFault = new Float64Array(faultNames.length)
  readonly #verdicts = { forwarded: 0, held: 0, probes: 0, missed: 0 }
  #received = 0
  #pastHeader = 0
  #out = 0

  constructor(seed: number, report: Report) {
    this.#random = new Random(seed)
    this.#report = report
    this.#worlds = makeWorlds(this.#random)
    report.promise(...Object.values(PROPERTIES))
  }

  async run(seconds: number): Promise<void> {
    const { encap, decap, mapper, hosts } = this.#seeds
    console.log(
      `${encap.length} local packets, ${decap.length} tunnel packets, ${mapper.length} messages, ${hosts.length} hosts files`,
    )
    const messages = Math.max(2000, Math.round(100_000 * Math.min(1, seconds / 60)))
    await this.#messages(messages)
    this.#hosts(Math.round(messages / 2))
    const until = performance.now() + seconds * 1000
    while (performance.now() < until && !this.#report.isHopeless) for (let i = 0; i < 1000; i++) this.#one()
    this.#conclude()
  }

  #one(): void {
    const random = this.#random
    const { bench, sources } = random.pick(this.#worlds)
    const isEncap = random.oneIn(2)
    const packet = random.oneIn(20)
      ? random.bytes(random.below(200))
      : random.mutate(random.pick(isEncap ? this.#seeds.encap : this.#seeds.decap))
    if (isEncap && !random.oneIn(8)) repairHeader(packet, random)
    bench.env.now += random.oneIn(1000) ? 61 : 0
    const verdict = isEncap ? this.#encap(bench, packet) : this.#decap(bench, packet, sources)
    this.#account(bench, verdict, isEncap ? bench.encap.fault : bench.decap.fault, packet)
  }

  #encap(bench: ForwardBench, packet: Uint8Array): number {
    const random = this.#random
    const at = bench.placeTight(packet)
    const isSuper = random.oneIn(10)
    const size = isSuper ? random.pick([0, 1, 100, 536, 1400, 65535]) : 0
    const type = isSuper ? random.pick([0, 1, 3, 4, 5, 0x81, 0x84, 77]) : 0
    return bench.encap.encap(at, packet.length, isSuper || random.oneIn(10), type, size)
  }

  #decap(bench: ForwardBench, packet: Uint8Array, sources: readonly string[]): number {
    const random = this.#random
    if (random.oneIn(4)) bench.decap.forget()
    const at = bench.placeTight(packet)
    const strange = ['198.51.100.1', '198.51.100.2', '2001:db8:100::1', '2001:db8:100::2', '127.0.0.1', 'ff02::1']
    const isStrange = sources.length === 0 || random.oneIn(8)
    const o = bench.wordsOf(random.pick(isStrange ? [...sources, ...strange] : sources))
    const port = random.oneIn(200) ? 0 : 1045
    return bench.decap.decap(at, packet.length, o[0], o[1], o[2], o[3], port, random.below(256))
  }

  #account(bench: ForwardBench, verdict: number, fault: number, packet: Uint8Array): void {
    this.#received++
    const isRefused = verdict === Verdict.dropped || verdict === Verdict.answered
    if (verdict === Verdict.forwarded) this.#verdicts.forwarded++
    else if (verdict === Verdict.held) this.#verdicts.held++
    else if (verdict === Verdict.probeAnswer) this.#verdicts.probes++
    else if (!isRefused) this.#verdicts.missed++
    if (!isRefused || !headerFaults.has(fault)) this.#pastHeader++
    if (isRefused) this.#byFault[fault]!++
    if (isRefused && fault === Fault.none) this.#report.broken(PROPERTIES.named, 'refused without a reason', packet)
    if (!bench.hasOutput()) return
    const hasPoison = longestPoison(packet) >= POISON_RUN
    for (const { bytes } of bench.takeAndPoison()) {
      this.#out++
      if (bytes.length > 65535 + 100) this.#report.broken(PROPERTIES.length, `${bytes.length} bytes`, packet)
      if (!hasPoison && longestPoison(bytes) >= POISON_RUN)
        this.#report.broken(PROPERTIES.memory, Buffer.from(bytes).toString('hex').slice(0, 400), packet)
    }
  }

  async #messages(count: number): Promise<void> {
    const tally = this.#report.tally('mapper socket')
    const lab = new MapperLab({
      encodeNets: ['10.240.0.0/12'],
      contexts: ['198.51.100.1'],
      capacity: 1 << 17,
      quotaPerPeer: 1000,
    })
    await lab.open()
    while (tally.received < count) {
      const batch: Promise<Uint8Array | undefined>[] = []
      for (let i = 0; i < 500; i++, tally.received++)
        batch.push(lab.messages.handle(this.#random.mutate(this.#random.pick(this.#seeds.mapper))))
      for (const answer of await Promise.all(batch)) {
        tally.count(answer ? 'answered' : 'dropped')
        if (!answer) continue
        const mode = answer[1]! >> 6
        if (answer[0] !== 0x11 || (mode !== 2 && mode !== 3))
          this.#report.broken(PROPERTIES.mapper, 'no answer', answer)
      }
    }
    await lab.close()
  }

  #hosts(count: number): void {
    const tally = this.#report.tally('hosts file')
    const seeds = this.#seeds.hosts.length > 0 ? this.#seeds.hosts : ['10.1.0.2 a #= pub + 11\n']
    for (let i = 0; i < count; i++) {
      tally.received++
      const text = Buffer.from(this.#random.mutate(Buffer.from(this.#random.pick(seeds)))).toString('utf8')
      tally.count(parseHostsFile(text).records.length > 0 ? 'with records' : 'without records')
    }
  }

  #conclude(): void {
    const tally = this.#report.tally('packets')
    tally.received = this.#received
    for (const [verdict, count] of Object.entries(this.#verdicts)) tally.outcomes.set(verdict, count)
    for (const [fault, name] of faultNames.entries())
      if (this.#byFault[fault]! > 0) tally.outcomes.set(name, this.#byFault[fault]!)
    if (this.#received > ENOUGH)
      this.#report.requireOutcomes(
        'packets',
        faultNames.filter((_name, fault) => !NOT_HERE.has(fault)),
      )
    const share = Math.round((100 * this.#pastHeader) / this.#received)
    console.log(`${share} % got past the header checks; ${this.#out} packets put out`)
    if (share < 30) this.#report.broken(PROPERTIES.header, `only ${share} % did`)
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

// most would end at the header checksum or the total length otherwise
function repairHeader(packet: Uint8Array, random: Random): void {
  if (packet.length >= 40 && packet[0]! >> 4 === 6)
    packet.set([((packet.length - 40) >> 8) & 0xff, (packet.length - 40) & 0xff], 4)
  if (packet.length < 20 || packet[0]! >> 4 !== 4) return
  const header = Math.max(20, (packet[0]! & 15) * 4)
  if (random.oneIn(2)) packet.set([packet.length >> 8, packet.length & 0xff], 2)
  packet.set([0, 0], 10)
  let sum = 0
  for (let i = 0; i < Math.min(header, packet.length); i += 2) sum += (packet[i]! << 8) | (packet[i + 1] ?? 0)
  sum = (sum & 0xffff) + (sum >>> 16)
  sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff
  packet.set([sum >> 8, sum & 0xff], 10)
}
