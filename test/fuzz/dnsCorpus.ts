/**
 * Valid DNS messages that the fuzzer begins with: questions of every kind, answers with records of every type, operations, transfers, signed ones; and
 * the questions of the vectors, where these are to be had. Times of signatures are about NOW.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Class, Flag, Opcode, parseType, Type } from '../../dns/constants.ts'
import { type Edns, encodeMessage, type MessageParts, type ResourceRecord } from '../../dns/message.ts'
import { type Name, nameOfLabels, parseName, ROOT } from '../../dns/name.ts'
import { parseTsigKey, type TsigKey, TsigSigner } from '../../dns/tsig.ts'
import { parseZoneText } from '../../dns/zoneText.ts'

const FOLDERS = ['../vectors', '../../../shared/vectors'].map(folder => join(import.meta.dirname, folder))
/** seconds since 1970 */
export const NOW = 1_700_000_000

export const ZONE: Name = parseName('example.com.')!
export const ZONE_TEXT = `$ORIGIN example.com.
$TTL 1h
@ IN SOA ns1 admin (1 1h 10m 1w 5m) ; the apex
@ NS ns1
@ NS ns2.sub
@ MX 10 mail
@ TXT "v=spf1 -all" "second string"
@ CAA 0 issue "ca.example.net"
@ 300 TYPE65280 \\# 3 0a0b0c
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
sub NS ns2.sub
ns2.sub A 192.0.2.2
*.wild 60 TXT "AA 198.51.100.2 + 60"
host11 TXT "AA 198.51.100.2 + 22"
named TXT "AA gw.example.com + 0-23"
two TXT "AA 198.51.100.2 + 31" "AA 2001:db8:100::2 + a--1" "hello"
gw A 198.51.100.2
gw AAAA 2001:db8:100::2
alias CNAME host11
loop CNAME loop
mail HINFO "cpu" "system"
all MINFO admin errors
all AFSDB 1 ns1
all RT 5 ns1
all KX 5 ns1
all PX 10 a b
all RP admin about
all SRV 0 5 443 gw
all NAPTR 100 10 "U" "E2U+sip" "!^.*$!sip:info@example.com!" .
all DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
all SSHFP 4 2 1234567890ABCDEF
all DNSKEY 257 3 13 AwEAAQ==
all TLSA 3 1 1 0123456789ABCDEF
all SPF "v=spf1"
all MB gw
all MG gw
all MR gw
old DNAME new.example.com.
we\\.ird\\000\\255 PTR Mixed.CASE.example.com.
`

export const KEYS: readonly TsigKey[] = ['hmac-sha256:transfer:bXkgc2VjcmV0', 'hmac-sha512:other:b3RoZXI='].map(
  text => parseTsigKey(text) as TsigKey,
)
const UNKNOWN = ['hmac-sha256:nobody:bXkgc2VjcmV0', `hmac-sha1:${`${'k'.repeat(60)}.`.repeat(4)}:bXkgc2VjcmV0`].map(
  text => parseTsigKey(text) as TsigKey,
)
const FORGED: TsigKey = { ...KEYS[0]!, secret: Uint8Array.of(1) }

export interface Corpus {
  questions: Uint8Array[]
  /** answers, and whatever else has QR set */
  answers: Uint8Array[]
  /** NOTIFY, UPDATE, strange opcodes */
  operations: Uint8Array[]
  signed: Uint8Array[]
  records: readonly ResourceRecord[]
  zoneTexts: string[]
}

export function recordsOf(text: string): ResourceRecord[] {
  return parseZoneText(text, { origin: ZONE, file: 'corpus' }).records
}

export function ednsOf(parts: Partial<Edns> = {}): Edns {
  return { payloadSize: 1232, extendedRcode: 0, version: 0, dnssecOk: false, options: [], ...parts }
}

export function questionOf(name: Name, type: number, parts: Partial<MessageParts> = {}): Uint8Array {
  return encodeMessage({ id: 0x1234, flags: Flag.RD, questions: [{ name, type, class: Class.IN }], ...parts })
}

export function makeCorpus(): Corpus {
  const records = recordsOf(ZONE_TEXT)
  const vectors = loadVectors()
  const names = [...new Set(records.map(record => record.name)), ROOT, longestName(), parseName('nx.example.com.')!]
  const questions = names.flatMap(name => [Type.A, Type.AAAA, Type.TXT, Type.ANY].map(type => questionOf(name, type)))
  const large = { edns: ednsOf({ payloadSize: 4096 }) }
  questions.push(...names.flatMap(name => [Type.A, Type.MX].map(type => questionOf(name, type, large))))
  questions.push(...vectors.questions, ...variants())
  const operations = operationsOf(records)
  const big = [questionOf(ZONE, Type.AXFR), questionOf(longestName(), Type.A)]
  return {
    questions,
    answers: answersOf(records),
    operations,
    signed: [...questions.slice(0, 20), ...big, ...operations].flatMap(one => signedForms(one)),
    records,
    zoneTexts: [ZONE_TEXT, ...vectors.zones],
  }
}

function longestName(): Name {
  return nameOfLabels([...new Array<string>(3).fill('l'.repeat(63)), 'm'.repeat(61)])!
}

function variants(): Uint8Array[] {
  const name = parseName('host11.example.com.')!
  const cookie = { code: 10, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }
  const of = (parts: Partial<MessageParts>, type: number = Type.A) => questionOf(name, type, parts)
  const soa = recordsOf(ZONE_TEXT)[0]!
  return [
    of({ flags: 0 }),
    of({ flags: Flag.RD | Flag.CD | Flag.AD }),
    of({ edns: ednsOf() }),
    of({ edns: ednsOf({ dnssecOk: true, payloadSize: 512 }) }),
    of({ edns: ednsOf({ payloadSize: 65535 }) }, Type.TXT),
    of({ edns: ednsOf({ payloadSize: 0 }) }),
    of({ edns: ednsOf({ options: [cookie] }) }),
    of({
      edns: ednsOf({ options: [cookie, { code: 12, data: new Uint8Array(400) }, { code: 8, data: cookie.data }] }),
    }),
    of({ edns: ednsOf({ version: 1 }) }),
    // nothing fits beside it
    of({ edns: ednsOf({ options: [{ code: 12, data: new Uint8Array(65_470) }] }) }),
    of({ questions: [{ name, type: Type.TXT, class: Class.CH }] }),
    questionOf(parseName('1.1.240.10.in-addr.arpa.')!, Type.PTR),
    questionOf(ZONE, Type.SOA, { edns: ednsOf() }),
    questionOf(ZONE, Type.AXFR),
    questionOf(ZONE, Type.AXFR, { edns: ednsOf() }),
    questionOf(ZONE, Type.IXFR, { authority: [soa] }),
    questionOf(ZONE, Type.DS),
  ]
}

function answersOf(records: readonly ResourceRecord[]): Uint8Array[] {
  const flags = Flag.QR | Flag.RA | Flag.RD
  const answers = [...Map.groupBy(records, record => record.name)].flatMap(([name, own]) => [
    questionOf(name, own[0]!.type, { flags, answers: own }),
    questionOf(name, own[0]!.type, { flags, answers: own, edns: ednsOf() }),
  ])
  for (const record of records) answers.push(questionOf(record.name, record.type, { flags, answers: [record] }))
  const soa = records[0]!
  return [
    ...answers,
    questionOf(ZONE, Type.AXFR, { flags: flags | Flag.AA, answers: [...records, soa] }),
    questionOf(ZONE, Type.A, { flags: flags | 3, authority: [soa] }),
    questionOf(ZONE, Type.A, { flags: flags | Flag.TC }),
    encodeMessage({
      id: 1,
      flags,
      questions: [],
      answers: [...records],
      authority: [...records],
      additional: [...records],
    }),
  ]
}

function operationsOf(records: readonly ResourceRecord[]): Uint8Array[] {
  const soa = records[0]!
  const none = new Uint8Array()
  const prerequisite = { ...soa, class: Class.ANY, ttl: 0, data: none }
  const removed = { ...records[6]!, class: Class.NONE, ttl: 0, data: none }
  const of = (opcode: number, parts: Partial<MessageParts>) =>
    questionOf(ZONE, Type.SOA, { flags: opcode << 11, ...parts })
  return [
    of(Opcode.NOTIFY, { answers: [soa], flags: (Opcode.NOTIFY << 11) | Flag.AA }),
    of(Opcode.NOTIFY, {}),
    of(Opcode.UPDATE, { answers: [prerequisite], authority: [removed, records[7]!] }),
    of(Opcode.UPDATE, { answers: [prerequisite], flags: Flag.QR | (Opcode.UPDATE << 11) }),
    of(2, {}),
    of(15, {}),
  ]
}

/** With the right key, at the right and at a wrong time, and with keys that nobody has. */
export function signedForms(message: Uint8Array, now = NOW): Uint8Array[] {
  const sign = (key: TsigKey, at: number) => new TsigSigner(key, () => at).sign(message).message
  const late = sign(KEYS[0]!, now - 1000)
  return [...KEYS.map(key => sign(key, now)), late, sign(FORGED, now), ...UNKNOWN.map(key => sign(key, now))]
}

interface DnsVectors {
  zone?: string[]
  vectors?: { input: { name?: string; type?: string; recursion_desired?: boolean; edns?: boolean } }[]
}

function loadVectors(): { questions: Uint8Array[]; zones: string[] } {
  const questions: Uint8Array[] = []
  const zones: string[] = []
  for (const folder of FOLDERS.filter(existsSync)) {
    for (const file of readdirSync(folder).filter(name => name.startsWith('dns') && name.endsWith('.json'))) {
      const { zone, vectors = [] } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as DnsVectors
      if (zone) zones.push(zone.join('\n'))
      for (const { input } of vectors) {
        const [name, type] = [parseName(input.name ?? ''), parseType(input.type ?? '')]
        if (name === undefined || type === undefined) continue
        const flags = input.recursion_desired ? Flag.RD : 0
        questions.push(questionOf(name, type, { flags, ...(input.edns ? { edns: ednsOf() } : {}) }))
      }
    }
  }
  return { questions, zones }
}
