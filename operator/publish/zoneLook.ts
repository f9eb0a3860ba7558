/**
 * What a zone that others write too holds at the names that are ours, or shall be: by transfer where the server allows it, else name by name.
 *
 *   transfer ──► every name with a mark, and what stands at it
 *   questions ──► only names that were asked for: a mark that is left from before the program started is found when the object that had the name is known
 */
import { formatRcode, Rcode, Type } from '../../dns/constants.ts'
import { type Message, type ResourceRecord, rcodeOf } from '../../dns/message.ts'
import { formatName, lowerName, type Name, parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import { transferZone } from '../../dns/transfer.ts'
import type { TsigKey } from '../../dns/tsig.ts'
import { type Server, showServer } from './endpoints.ts'
import { type PublishedType, recordTypes, type ZoneKind } from './records.ts'
import { bytesText, MARK_LABEL, markName, type NameState } from './updatePlan.ts'

export interface LookTarget {
  server: Server
  zone: Name
  kind: ZoneKind
  key: TsigKey | undefined
}

type Draft = { mark: string[]; sets: Partial<Record<PublishedType, { ttl: number; data: string[] }>>; isAlias: boolean }

const AT_ONCE = 16
const MOST_RECORDS = 2_000_000
const MARK_PREFIX = String.fromCharCode(MARK_LABEL.length) + MARK_LABEL

/** Of names that are wanted, and of those that have a mark. Rejects where transfers are refused. */
export async function lookByTransfer(
  { server, zone, kind, key }: LookTarget,
  wanted: (name: string) => boolean,
): Promise<{ names: Map<string, NameState>; serial: number }> {
  const drafts = new Map<Name, Draft>()
  const draftOf = (name: Name) => {
    const draft = drafts.get(name) ?? { mark: [], sets: {}, isAlias: false }
    drafts.set(name, draft)
    return draft
  }
  const { serial } = await transferZone({
    server,
    zone,
    key,
    limits: { records: MOST_RECORDS, totalMs: 60_000, idleMs: 5000 },
    onRecord: record => {
      const name = lowerName(record.name)
      if (record.type === Type.TXT && name.startsWith(MARK_PREFIX))
        draftOf(name.slice(MARK_PREFIX.length)).mark.push(bytesText(record.data))
      else take(record, kind, () => draftOf(name))
    },
  })
  const names = new Map<string, NameState>()
  for (const [name, draft] of drafts) {
    const text = textOf(name)
    if (draft.mark.length > 0 || wanted(text)) names.set(text, draft)
  }
  return { names, serial }
}

function take(record: ResourceRecord, kind: ZoneKind, draft: () => Draft): void {
  if (record.type === Type.CNAME) draft().isAlias = true
  const type = recordTypes[kind].find(one => Type[one] === record.type)
  if (!type) return
  const { sets } = draft()
  const known = sets[type]
  if (known) known.data.push(bytesText(record.data))
  else sets[type] = { ttl: record.ttl, data: [bytesText(record.data)] }
}

/** Each name asked for. Rejects when the server does not answer, or not as an authority. */
export async function lookByName(target: LookTarget, names: readonly string[]): Promise<Map<string, NameState>> {
  const found = new Map<string, NameState>()
  const rest = names.values()
  const work = async () => {
    for (const name of rest) found.set(name, await lookAt(target, name))
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return found
}

async function lookAt(target: LookTarget, text: string): Promise<NameState> {
  const draft: Draft = { mark: [], sets: {}, isAlias: false }
  const name = parseName(text)
  const at = parseName(markName(text))
  if (!name || !at) return draft
  for (const { type, data } of await askFor(target, at, Type.TXT))
    if (type === Type.TXT) draft.mark.push(bytesText(data))
  for (const type of recordTypes[target.kind])
    for (const record of await askFor(target, name, Type[type])) {
      // a CNAME answers for every type
      if (record.type === Type.CNAME) draft.isAlias = true
      else if (record.type === Type[type]) take(record, target.kind, () => draft)
    }
  return draft
}

async function askFor({ server, zone }: LookTarget, name: Name, type: number): Promise<ResourceRecord[]> {
  const answer = await queryServer(server, { name, type })
  const problem = problemOf(answer)
  if (problem) throw new Error(`${showServer(server)}, zone ${formatName(zone)}: ${problem}`)
  return answer!.answers.filter(record => lowerName(record.name) === lowerName(name))
}

function problemOf(answer: Message | undefined): string | undefined {
  if (!answer) return 'no answer to a question'
  const rcode = rcodeOf(answer)
  if (rcode === Rcode.NOERROR || rcode === Rcode.NXDOMAIN) return undefined
  return `it answers a question with ${formatRcode(rcode)}`
}

function textOf(name: Name): string {
  return formatName(name).replace(/\.$/, '')
}
