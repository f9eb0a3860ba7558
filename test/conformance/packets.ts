/**
 * Drives encap and decap with one vector of encap.json or decap.json.
 *
 * A vector without do_better is binding; one with it is held to its `better`, or to a named assertion of its `rule`. Some binding vectors contradict a
 * rule of wire.md or a decision, which win (decisions.md): those are recognised by what is in the packet, held to the rule, and
 * counted as a class of their own, `superseded`.
 */

import { Verdict } from '../../gateway/forward/environment.ts'
import { parseAddress, wordsFromBytes } from '../../ipref/address.ts'
import { fold, sumBytes, swap16 } from '../../ipref/checksum.ts'
import { type Fault, faultNames } from '../../ipref/faults.ts'
import { parseReference, wordsFromReference } from '../../ipref/reference.ts'
import { ForwardBench, type Sent, settingsFor } from '../support/forwardBench.ts'
import { hex, type Outcome, unhex, type Vector } from './vectors.ts'

interface Expected {
  outcome: string
  output?: {
    after: number
    to: string
    bytes: string
    any?: [number, number][]
    outer_tos?: number
    from_gateway?: boolean
  }[]
  note?: string
}

interface Seen {
  outcome: string
  fault: string
  output: (Sent & { after: number })[]
}

export function runPacketVector(vector: Vector, direction: 'encap' | 'decap'): Outcome {
  const seen = drive(vector, direction)
  const rule = supersedingRule(vector, direction)
  if (rule) {
    const why = rule.holds(seen, vector)
    return why
      ? { vector, kind: 'failed', why: `${rule.name}: ${why}` }
      : { vector, kind: 'superseded', why: rule.name }
  }
  const expected: Expected | undefined = vector.do_better ? vector.better || undefined : vector.expect
  const why = expected ? differs(seen, expected, vector) : ruleFails(vector, seen)
  return why ? { vector, kind: 'failed', why } : { vector, kind: 'passed' }
}

// ---- driving

function drive(vector: Vector, direction: 'encap' | 'decap'): Seen {
  const { state, input } = vector
  const bench = benchFor(state)
  const packets: string[] = direction === 'encap' ? input.packets : input.datagrams
  const seen: Seen = { outcome: 'dropped', fault: '', output: [] }
  for (const [after, text] of packets.entries()) {
    const verdict = oneWithMisses(bench, state, () =>
      direction === 'encap'
        ? bench.runEncap(unhex(text))
        : bench.runDecap(unhex(text), {
            address: input.source_address,
            port: input.source_port,
            tos: input.outer_tos ?? 0,
          }),
    )
    const part = direction === 'encap' ? bench.encap : bench.decap
    for (const sent of bench.take()) seen.output.push({ ...sent, after })
    seen.fault = faultNames[part.fault] ?? ''
    if (verdict === Verdict.forwarded) seen.outcome = 'sent'
    else if (seen.outcome !== 'sent')
      seen.outcome = verdict === Verdict.answered ? 'answered' : verdict === Verdict.held ? 'held' : 'dropped'
  }
  return seen
}

function benchFor(state: Vector['state']): ForwardBench {
  const gatewayReference = Int32Array.from(wordsFromReference(parseReference(state.gateway_reference ?? '1')!))
  const change = { decrementTtl: state.decrement_ttl === true, gatewayReference }
  const bench = new ForwardBench(
    settingsFor({ encodeNets: [state.encode_net], contexts: [state.gateway_address], change }),
  )
  for (const mapping of state.mappings ?? []) {
    const expires = mapping.expired ? 1 : undefined
    const reference = parseReference(mapping.ref)!
    if (mapping.kind === 'ours') bench.addOurs(mapping.ip, reference, expires)
    else bench.addTheirs(mapping.ea, mapping.context, reference, expires === undefined ? {} : { expires })
  }
  if (state.tunnel_mtu) bench.peers.mtu.fill(state.tunnel_mtu)
  if (state.host_path_mtu) {
    for (const mapping of state.mappings) {
      if (mapping.kind !== 'ours') continue
      bench.env.tables.noteHostMtu(...wordsFromBytes(parseAddress(mapping.ip)!), state.host_path_mtu)
    }
  }
  return bench
}

// what the main thread does: a mapping with what the vector says the allocator gives, then the same packet again
function oneWithMisses(bench: ForwardBench, state: Vector['state'], run: () => number): number {
  const verdict = run()
  if (verdict === Verdict.missNative) {
    if (!state.next_reference) return Verdict.dropped
    const { miss0, miss1, miss2, miss3 } = bench.encap
    removeExpired(bench)
    bench.tables.ours.add(
      [miss0, miss1, miss2, miss3],
      wordsFromReference(parseReference(state.next_reference)!),
      0x7fffffff,
    )
    return run()
  }
  if (verdict === Verdict.missRemote) {
    if (!state.next_ea) return Verdict.dropped
    const { missC0, missC1, missC2, missC3, missR0, missR1, missR2, missR3 } = bench.decap
    removeExpired(bench)
    bench.tables.theirs.add({
      ea: wordsFromBytes(parseAddress(state.next_ea)!),
      context: [missC0, missC1, missC2, missC3],
      reference: [missR0, missR1, missR2, missR3],
      peer: 0,
      expires: 0x7fffffff,
    })
    return run()
  }
  return verdict
}

function removeExpired(bench: ForwardBench): void {
  for (const table of [bench.tables.ours, bench.tables.theirs]) {
    for (let slot = 0; slot < table.highWater; slot++)
      if (table.isUsed(slot) && table.expires[slot]! < 100) table.remove(slot)
  }
}

// ---- comparing

function differs(seen: Seen, expected: Expected, vector: Vector): string | undefined {
  if (seen.outcome !== expected.outcome) return `${seen.outcome} (${seen.fault}), expected ${expected.outcome}`
  if (expected.note?.includes('1280'))
    return mtuField6(seen) === 1280 ? undefined : `MTU field ${mtuField6(seen)}, expected 1280`
  if (!expected.output) return undefined
  if (seen.output.length !== expected.output.length)
    return `${seen.output.length} packets, expected ${expected.output.length}`
  const unordered = [...seen.output]
  for (const [i, wanted] of expected.output.entries()) {
    const sent = unordered[i]!
    const why = differsBytes(sent, wanted)
    if (why) return `packet ${i}: ${why}`
    const tos = wanted.outer_tos ?? vector.better?.output?.[i]?.outer_tos
    if (tos !== undefined && sent.tos !== tos) return `packet ${i}: outer TOS ${sent.tos}, expected ${tos}`
  }
  return undefined
}

function differsBytes(
  sent: Sent & { after: number },
  wanted: NonNullable<Expected['output']>[number],
): string | undefined {
  if (sent.to !== wanted.to || sent.after !== wanted.after)
    return `to ${sent.to} after ${sent.after}, expected to ${wanted.to} after ${wanted.after}`
  const bytes = unhex(wanted.bytes)
  for (const [offset, length] of wanted.any ?? []) {
    bytes.fill(0, offset, offset + length)
    sent.bytes.fill(0, offset, offset + length)
  }
  const [a, b] = [hex(sent.bytes), hex(bytes)]
  if (a === b) return undefined
  const at = [...b].findIndex((c, i) => a[i] !== c) >> 1
  return `differs at byte ${at}:\n      sent     ${a.slice(0, 240)}\n      expected ${b.slice(0, 240)}`
}

function mtuField6(seen: Seen): number | undefined {
  const bytes = seen.output[0]?.bytes
  return bytes && new DataView(bytes.buffer).getUint32(44)
}

// ---- rules

function ruleFails(vector: Vector, seen: Seen): string | undefined {
  const assertion = rules.find(rule => rule.applies(vector))
  return assertion ? assertion.holds(seen, vector) : `no assertion for the rule "${vector.rule}"`
}

/** One for each rule that a vector names without saying what comes out. */
const rules: {
  name: string
  applies(vector: Vector): boolean
  holds(seen: Seen, vector: Vector): string | undefined
}[] = [
  {
    name: 'a DF packet that does not fit is answered with the MTU that does',
    applies: vector => vector.class === 'tunnel-mtu',
    holds(seen, vector) {
      if (seen.outcome !== 'answered') return `${seen.outcome}, expected answered`
      const bytes = seen.output[0]!.bytes
      const view = new DataView(bytes.buffer)
      const isIPv6 = bytes[0]! >> 4 === 6
      const told = isIPv6 ? view.getUint32(44) : view.getUint16(26)
      const tunnelIsIPv6 = vector.state.gateway_address.includes(':')
      const overhead = (tunnelIsIPv6 ? 40 + 8 + 4 + 32 : 20 + 8 + 4 + 8) + 8
      const fits = vector.state.tunnel_mtu - overhead + (isIPv6 ? 40 : 20)
      const right = isIPv6 ? Math.max(fits, 1280) : fits
      return told === right ? undefined : `told ${told}, right would be ${right}`
    },
  },
]

interface Superseding {
  name: string
  holds(seen: Seen, vector: Vector): string | undefined
}

const mustDrop = (fault: keyof typeof Fault) => (seen: Seen) =>
  seen.outcome === 'dropped' && seen.fault === fault
    ? undefined
    : `${seen.outcome} (${seen.fault}), expected dropped (${fault})`

// of the message behind the tunnel header or the IPv4 header: its sum is all ones
function hasValidIcmpChecksum(seen: Seen): string | undefined {
  const sent = seen.output[0]
  if (!sent) return 'nothing was sent'
  const bytes = sent.bytes
  const header = sent.to === 'host' ? 20 : 4 + (bytes[1] === 0x40 ? 8 : 32) + (8 << ((bytes[0]! >> 2) & 3))
  return sumBytes(bytes, header, bytes.length - header) === 0xffff ? undefined : 'wrong ICMP checksum'
}

function isValidUdp6(bytes: Uint8Array): boolean {
  const length = bytes.length - 40
  const sum = sumBytes(bytes, 8, bytes.length - 8) + swap16(17) + swap16(length)
  return fold(sum) === 0xffff && (bytes[46] !== 0 || bytes[47] !== 0)
}

// does the deployed program tell an IPv6 host less than every IPv6 path takes?
function toldTooLittle6(vector: Vector): boolean {
  const sent = vector.expect.output?.[0]
  if (sent?.to !== 'host') return false
  const bytes = unhex(sent.bytes)
  return bytes[0]! >> 4 === 6 && bytes[6] === 58 && bytes[40] === 2 && new DataView(bytes.buffer).getUint32(44) < 1280
}

/** Binding vectors that a rule or decision overrules; undefined: none does. */
function supersedingRule(vector: Vector, direction: 'encap' | 'decap'): Superseding | undefined {
  if (vector.do_better) return undefined
  if (vector.class === 'icmp-error-odd') {
    return { name: 'wire.md 2: the checksum of an odd length covers a zero byte', holds: hasValidIcmpChecksum }
  }
  if (toldTooLittle6(vector)) {
    return {
      name: 'wire.md 2: an IPv6 host is never told less than 1280',
      holds: seen =>
        seen.outcome === vector.expect.outcome && mtuField6(seen) === 1280
          ? undefined
          : `${seen.outcome}, MTU field ${mtuField6(seen)}`,
    }
  }
  if (direction === 'encap') {
    const packet = unhex(vector.input.packets[0])
    if (packet[0] === 0x45 && sumBytes(packet, 0, 20) !== 0xffff && vector.expect.outcome !== 'dropped') {
      return {
        name: 'wire.md 2: a packet with a wrong IPv4 header checksum is dropped',
        holds: mustDrop('ip_header_invalid'),
      }
    }
    const isMulticast = packet[0]! >> 4 === 4 ? packet[16]! >> 4 === 0xe : packet[24] === 0xff
    if (isMulticast && vector.expect.outcome !== 'dropped')
      return {
        name: 'decisions.md 2: a multicast destination is dropped without an answer',
        holds: mustDrop('destination_multicast'),
      }
    return undefined
  }
  const datagram = unhex(vector.input.datagrams[0])
  if (datagram.length < 4 || !/from[46]-/.test(vector.name)) return undefined
  const hasInfo = (datagram[0]! & 2) !== 0
  const header = 4 + (hasInfo ? 8 : 0) + (datagram[1] === 0x40 ? 8 : 32) + (8 << ((datagram[0]! >> 2) & 3))
  const protocol = datagram[3]
  if (vector.class === 'truncated' && protocol === 6 && !hasInfo && datagram.length - header < 18) {
    return { name: 'wire.md 2: TCP cut before the end of its checksum is dropped', holds: mustDrop('l4_truncated') }
  }
  if (vector.class === 'protocol' && [47, 50, 132].includes(protocol!) && vector.expect.outcome === 'dropped') {
    return {
      name: 'wire.md 2: SCTP, ESP and GRE are carried untouched, both ways',
      holds: seen =>
        seen.outcome === 'sent' && hex(seen.output[0]!.bytes).endsWith(hex(datagram.subarray(header)))
          ? undefined
          : seen.outcome,
    }
  }
  const checksumAt = header + 6
  if (
    vector.class === 'udp' &&
    protocol === 17 &&
    vector.state.encode_net.includes(':') &&
    new DataView(datagram.buffer).getUint16(checksumAt) === 0
  ) {
    return {
      name: 'wire.md 2: UDP without a checksum gets one towards an IPv6 host',
      holds: seen =>
        seen.outcome === 'sent' && isValidUdp6(seen.output[0]!.bytes)
          ? undefined
          : `${seen.outcome}, or its checksum is wrong`,
    }
  }
  return undefined
}
