/**
 * Updates on the wire (RFC 2136, signed as RFC 8945 says): units packed into messages, each message sent over TCP, and what the server says in words.
 *
 *   units ──► messages of at most 32 KB ──► sent ── NOERROR ──► done
 *                                                ├─ a prerequisite does not hold ──► halved, until the unit is found
 *                                                └─ anything else ──► an error that names the server and what to do
 */
import { randomInt } from 'node:crypto'
import { Class, Flag, formatRcode, Opcode, Rcode, Type } from '../../dns/constants.ts'
import { decodeMessage, encodeMessage, type ResourceRecord, rcodeOf } from '../../dns/message.ts'
import { formatName, type Name } from '../../dns/name.ts'
import { queryOverTcp } from '../../dns/tcpQuery.ts'
import { type TsigKey, TsigSigner, TsigVerifier, tsigErrorOf } from '../../dns/tsig.ts'
import { type Server, showServer } from './endpoints.ts'
import type { UpdateUnit } from './updatePlan.ts'

export interface UpdateTarget {
  server: Server
  zone: Name
  key: TsigKey | undefined
  /** seconds since 1970 */
  now(): number
  /** of one message */
  patienceMs: number
}

/** Half of what a message may have: names are counted uncompressed, and others' limits may be lower. */
const MOST_BYTES = 32_000
const MOST_UNITS = 200

export function* packed(units: readonly UpdateUnit[], mostBytes = MOST_BYTES): Generator<UpdateUnit[], void> {
  let pack: UpdateUnit[] = []
  let bytes = 0
  for (const unit of units) {
    const more = sizeOf(unit.prerequisites) + sizeOf(unit.updates)
    if (pack.length > 0 && (bytes + more > mostBytes || pack.length >= MOST_UNITS)) {
      yield pack
      pack = []
      bytes = 0
    }
    pack.push(unit)
    bytes += more
  }
  if (pack.length > 0) yield pack
}

function sizeOf(records: readonly ResourceRecord[]): number {
  return records.reduce((sum, { name, data }) => sum + name.length + 10 + data.length, 0)
}

/** Those whose prerequisites do not hold. `onDone`: told of each that is in force. */
export async function sendUnits(
  target: UpdateTarget,
  units: readonly UpdateUnit[],
  onDone: (unit: UpdateUnit) => void,
): Promise<UpdateUnit[]> {
  const refused: UpdateUnit[] = []
  for (const pack of packed(units)) await sendPack(target, pack, onDone, refused)
  return refused
}

async function sendPack(
  target: UpdateTarget,
  pack: readonly UpdateUnit[],
  onDone: (unit: UpdateUnit) => void,
  refused: UpdateUnit[],
): Promise<void> {
  if (await sendOne(target, pack)) {
    for (const unit of pack) onDone(unit)
    return
  }
  if (pack.length === 1) {
    refused.push(pack[0]!)
    return
  }
  const half = Math.ceil(pack.length / 2)
  await sendPack(target, pack.slice(0, half), onDone, refused)
  await sendPack(target, pack.slice(half), onDone, refused)
}

const UNMET: ReadonlySet<number> = new Set([Rcode.NXDOMAIN, Rcode.YXDOMAIN, Rcode.YXRRSET, Rcode.NXRRSET])

/** false: a prerequisite does not hold, and nothing was changed. */
async function sendOne(target: UpdateTarget, pack: readonly UpdateUnit[]): Promise<boolean> {
  const { server, zone, key, now, patienceMs } = target
  const id = randomInt(65536)
  const plain = encodeMessage({
    id,
    flags: Opcode.UPDATE << 11,
    questions: [{ name: zone, type: Type.SOA, class: Class.IN }],
    answers: pack.flatMap(({ prerequisites }) => prerequisites),
    authority: pack.flatMap(({ updates }) => updates),
  })
  const signed = key && new TsigSigner(key, now).sign(plain)
  const bytes = await queryOverTcp(server, signed?.message ?? plain, patienceMs)
  const fail = (problem: string): never => {
    throw new Error(`${showServer(server)}, zone ${formatName(zone)}: ${problem}`)
  }
  if (!bytes) return fail('no answer to an update: is it the address of the primary, and is TCP let through?')
  const answer = decodeMessage(bytes)
  if (typeof answer === 'string' || answer.id !== id || (answer.flags & Flag.QR) === 0)
    return fail('what it answers is no answer to an update')
  const rcode = rcodeOf(answer)
  if (key) {
    const fault = new TsigVerifier([key], now, signed!.mac).verify(bytes, answer)
    // an error of the signature itself comes unsigned
    if (fault !== undefined && rcode === Rcode.NOERROR)
      return fail(`its answer is not signed as it should be (${fault})`)
  }
  if (rcode === Rcode.NOERROR) return true
  if (UNMET.has(rcode)) return false
  return fail(explain(rcode, answer.tsig ? tsigErrorOf(answer.tsig) : 0, key !== undefined))
}

function explain(rcode: number, tsigError: number, isSigned: boolean): string {
  if (tsigError === Rcode.BADKEY)
    return 'it does not know the TSIG key (BADKEY): the name and the algorithm must be the same there'
  if (tsigError === Rcode.BADSIG) return 'the signature is wrong (BADSIG): the secret is another there'
  if (tsigError === Rcode.BADTIME)
    return 'the signature is too old or too new (BADTIME): one of the two clocks is wrong'
  if (rcode === Rcode.NOTAUTH) return 'it is not the primary of this zone, or does not take the key (NOTAUTH)'
  if (rcode === Rcode.REFUSED)
    return isSigned
      ? 'refused (REFUSED): allow this key to update these names, TXT records of _ipref-owner labels included'
      : 'refused (REFUSED): it wants a TSIG key (key or keySecret), or does not let this address update'
  if (rcode === Rcode.SERVFAIL)
    return 'it fails (SERVFAIL): its own log says why, often that it cannot write its journal'
  if (rcode === Rcode.NOTIMP) return 'it takes no updates (NOTIMP)'
  if (rcode === Rcode.NOTZONE) return 'a name is not in the zone there (NOTZONE)'
  return `it answers ${formatRcode(rcode)}`
}
