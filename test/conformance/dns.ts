/**
 * Drives a real resolver (UDP, with its worker and a real mapper socket) with the vectors of dns.json. The server of the zone is our own zone code behind a
 * socket, with two ways of the deployed server: SERVFAIL outside its zone, and nothing for ANY.
 */
import { readFileSync } from 'node:fs'
import { Class, Flag, formatRcode, formatType, parseType, Rcode, Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, type Message, type ResourceRecord, rcodeOf } from '../../dns/message.ts'
import { formatName, isAtOrBelow, lowerName, parseName } from '../../dns/name.ts'
import { formatData } from '../../dns/rdata.ts'
import { readZone } from '../../dns/zoneFiles.ts'
import { ZoneResponder } from '../../dns/zoneResponder.ts'
import { parseResolverConfig } from '../../gateway/dns/resolverConfig.ts'
import { ResolverHost } from '../../gateway/dns/resolverHost.ts'
import { parseAddress } from '../../ipref/address.ts'
import { parseReference } from '../../ipref/reference.ts'
import { askUdp, TestDnsServer } from '../support/dnsServer.ts'
import { MapperLab } from './mapper.ts'
import type { Outcome, Vector } from './vectors.ts'

const OUR_CONTEXT = '198.51.100.1'
const DEAD = '127.0.0.1:1'

interface Expected {
  rcode: string
  flags?: string
  answer: { name: string; type: string; ttl: number; data: string; ea_id?: number }[]
}

export async function runDnsVectors(file: string, vectors: readonly Vector[]): Promise<Outcome[]> {
  const { zone } = JSON.parse(readFileSync(file, 'utf8')) as { zone: string[] }
  const server = new TestDnsServer(asDeployed(zone.join('\n')))
  await server.start()
  const outcomes: Outcome[] = []
  try {
    for (const group of Map.groupBy(vectors, v => `${v.state.resolver} ${v.state.excluded.join()}`).values())
      outcomes.push(...(await runGroup(group, server)))
  } finally {
    await server.stop()
  }
  return outcomes
}

function asDeployed(text: string): (query: Uint8Array) => Uint8Array | undefined {
  const { zone, problems } = readZone(text, parseName('example.com.')!, 'dns.json')
  if (!zone) throw new Error(problems.join('\n'))
  const responder = new ZoneResponder(
    { keys: [], transferAllow: [], transferKeys: [] },
    { now: () => Date.now() / 1000 },
  )
  responder.setZone(zone)
  return query => {
    const message = decodeMessage(query)
    if (typeof message === 'string') return undefined
    const { id, questions } = message
    const isOutside = !isAtOrBelow(lowerName(questions[0]!.name), zone.origin)
    const rd = message.flags & Flag.RD
    if (isOutside) return encodeMessage({ id, flags: Flag.QR | rd | Rcode.SERVFAIL, questions })
    if (questions[0]!.type === Type.ANY) return encodeMessage({ id, flags: Flag.QR | Flag.AA | rd, questions })
    const answer = responder.answer(query, { transport: 'udp', address: parseAddress('127.0.0.1')! })
    return answer instanceof Uint8Array ? answer : undefined
  }
}

async function runGroup(group: readonly Vector[], server: TestDnsServer): Promise<Outcome[]> {
  const { state } = group[0]!
  const lab = new MapperLab({ encodeNets: [state.encode_net], contexts: [OUR_CONTEXT], inMemory: true })
  await lab.open()
  await lab.mapper.setSource(
    'static',
    (state.mappings as { ea: string; context: string; ref: string }[]).map(m => ({
      kind: 'theirs',
      encoded: parseAddress(m.ea)!,
      context: parseAddress(m.context)!,
      reference: parseReference(m.ref)!,
    })),
  )
  const upstream = state.resolver === 'upstream-dead' ? DEAD : server.text
  const parsed = parseResolverConfig(
    [
      ...['-listen', '127.0.0.1:0', '-upstream', upstream, '-cache-size', '0'],
      ...(state.resolver === 'forwarding' ? ['-forward', server.text] : []),
      ...['-mapper', state.resolver === 'no-mapper' ? `${lab.path}.none` : lab.path],
      ...state.excluded.flatMap((name: string) => ['-except', name]),
    ],
    () => '',
  )
  if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
  const host = new ResolverHost(parsed.config.resolver, { onEvent: () => {} })
  await host.start()
  const outcomes: Outcome[] = []
  const known = new Map<number, string>()
  try {
    for (const vector of group) {
      const why = await runOne(vector, host.listening[0]!.port, known)
      outcomes.push(why ? { vector, kind: 'failed', why } : { vector, kind: 'passed' })
    }
  } finally {
    await host.stop()
    await lab.close()
  }
  return outcomes
}

async function runOne(vector: Vector, port: number, known: Map<number, string>): Promise<string | undefined> {
  const { name, type, class: questionClass, recursion_desired: rd, edns } = vector.input
  const query = encodeMessage({
    id: Math.floor(Math.random() * 65536),
    flags: rd ? Flag.RD : 0,
    questions: [
      { name: parseName(name)!, type: parseType(type)!, class: questionClass === 'CH' ? Class.CH : Class.IN },
    ],
    ...(edns ? { edns: { payloadSize: 1232, extendedRcode: 0, version: 0, dnssecOk: false, options: [] } } : {}),
  })
  const bytes = await askUdp(port, query, 8000)
  if (!bytes) return 'no answer'
  if (bytes[0] !== query[0] || bytes[1] !== query[1]) return 'the id is another'
  const message = decodeMessage(bytes)
  if (typeof message === 'string') return `the answer is malformed: ${message}`
  if (Boolean(edns) !== Boolean(message.edns)) return edns ? 'no OPT record' : 'an OPT record that nobody asked for'
  if (vector.do_better && !vector.better) return byRule(vector, message)
  return differs(
    message,
    { ...vector.expect, ...(vector.do_better ? { flags: undefined, ...vector.better } : {}) },
    known,
  )
}

// "as if the AA string were not there": no address, and what a name without AA records gets
function byRule(vector: Vector, message: Message): string | undefined {
  if (message.answers.length > 0) return `${message.answers.length} records, expected none: ${vector.rule}`
  const expected = vector.state.resolver === 'forwarding' ? 'NOERROR' : 'SERVFAIL'
  const rcode = formatRcode(rcodeOf(message))
  return rcode === expected ? undefined : `${rcode}, expected ${expected}: ${vector.rule}`
}

function differs(message: Message, expected: Expected, known: Map<number, string>): string | undefined {
  const rcode = formatRcode(rcodeOf(message))
  if (rcode !== expected.rcode) return `${rcode}, expected ${expected.rcode}`
  if (expected.flags !== undefined) {
    // RA is not compared (decisions.md 2)
    const names = (['QR', 'AA', 'TC', 'RD', 'AD', 'CD'] as const).filter(flag => (message.flags & Flag[flag]) !== 0)
    if (names.join(' ') !== expected.flags) return `flags ${names.join(' ')}, expected ${expected.flags}`
  }
  const left = [...message.answers]
  if (left.length !== expected.answer.length)
    return `${left.length} records (${left.map(shown).join(', ')}), expected ${expected.answer.length}`
  for (const wanted of expected.answer) {
    const at = left.findIndex(record => matches(record, wanted, known))
    if (at < 0) return `no record ${JSON.stringify(wanted)} in ${left.map(shown).join(', ')}`
    const [found] = left.splice(at, 1)
    if (wanted.ea_id !== undefined) known.set(wanted.ea_id, formatData(found!.type, found!.data))
  }
  const values = [...known.values()]
  return new Set(values).size === values.length ? undefined : 'two remote hosts have one address'
}

function matches(record: ResourceRecord, wanted: Expected['answer'][number], known: Map<number, string>): boolean {
  const data = formatData(record.type, record.data)
  const isData =
    wanted.data !== 'EA'
      ? data.toLowerCase() === wanted.data.toLowerCase()
      : known.get(wanted.ea_id!) === undefined
        ? /^10\.2(4\d|5[0-5])\.(1[6-9]|[2-9]\d|\d{3})\.\d+$/.test(data) && ![...known.values()].includes(data)
        : known.get(wanted.ea_id!) === data
  return (
    isData &&
    lowerName(record.name) === lowerName(parseName(wanted.name)!) &&
    formatType(record.type) === wanted.type &&
    record.ttl === wanted.ttl
  )
}

function shown(record: ResourceRecord): string {
  return `${formatName(record.name)} ${record.ttl} ${formatType(record.type)} ${formatData(record.type, record.data)}`
}
