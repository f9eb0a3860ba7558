/**
 * `ipref aa lint ZONE-OR-FILE`: checks the AA records of a zone file, or of a zone by transfer. The rules are in dns/aaLint.ts; here are files, sockets and text.
 *
 *   FILE ──zoneText──┐
 *   ZONE ──AXFR──────┴──► records ──► names of gateways outside the zone, looked up ──► findings, a line each ──► exit code 1 if one is an error
 */
import { existsSync, readFileSync } from 'node:fs'
import { contextsToAsk, type LintFinding, type LintReport, lintZone, type Outside } from '../dns/aaLint.ts'
import { Type } from '../dns/constants.ts'
import type { ResourceRecord } from '../dns/message.ts'
import { formatName, type Name, parseName, ROOT } from '../dns/name.ts'
import { transferZone } from '../dns/transfer.ts'
import { parseTsigKey, type TsigKey } from '../dns/tsig.ts'
import { parseZoneText } from '../dns/zoneText.ts'
import { asksForHelp, fail, parseCommand, say } from './arguments.ts'
import { lookUp, parseServer, type Server, serversOfZone, showServer, systemServers } from './lookUp.ts'

export const USAGE = `usage: ipref aa lint FILE|ZONE [-server ADDRESS[:PORT]] [-key ALGORITHM:NAME:SECRET|@FILE]
                    [-origin NAME] [-resolver ADDRESS[:PORT]] [-json]

  ipref aa lint example.com.zone                      a zone file
  ipref aa lint example.com -server 192.0.2.53        a zone, by transfer from that server
  ipref aa lint example.com                           from one of its own name servers

One line for each finding: FILE:LINE: error|warning NAME: what is wrong — what would be right.
-origin    the zone, where the file does not say it with $ORIGIN or the name of its SOA record
-key       signs the transfer; @FILE holds the key
-resolver  looks up gateways outside the zone; default: -server, then the servers of the system

Exit code 0: nothing but warnings; 1: errors, or no zone to be had; 2: the command is wrong.`

interface Zone {
  /** what findings begin with */
  source: string
  origin: Name
  records: ResourceRecord[]
  lines?: number[]
  findings: LintFinding[]
}

interface Wanted {
  subject: string
  server: Server | undefined
  resolver: Server | undefined
  key: TsigKey | undefined
  origin: Name | undefined
  isJson: boolean
}

export async function runAa(argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const [command, ...rest] = argv
  if (command !== 'lint') return fail('aa', USAGE, 2)
  const wanted = readArguments(rest)
  if (typeof wanted === 'string') return fail('aa lint', wanted, 2)
  try {
    const isFile = wanted.subject.includes('/') || existsSync(wanted.subject)
    const zone = isFile ? readFileZone(wanted) : await transfer(wanted)
    if (typeof zone === 'string') return fail('aa lint', zone, 2)
    const report = lintZone(zone, await askOutside(zone, wanted))
    const findings = [...zone.findings, ...report.findings].sort((a, b) => (a.line ?? 0) - (b.line ?? 0))
    say(render(zone, { ...report, findings }, wanted.isJson))
    return findings.some(({ severity }) => severity === 'error') ? 1 : 0
  } catch (error) {
    return fail('aa lint', (error as Error).message)
  }
}

function readArguments(argv: readonly string[]): Wanted | string {
  const args = parseCommand(argv, { text: ['server', 'key', 'origin', 'resolver'], switches: ['json'] })
  if (typeof args === 'string') return args
  const [subject] = args.rest
  if (!subject || args.rest.length !== 1) return USAGE
  const { values } = args
  const servers = new Map<string, Server | undefined>()
  for (const name of ['server', 'resolver']) {
    const text = values.get(name)
    servers.set(name, text === undefined ? undefined : parseServer(text))
    if (text !== undefined && !servers.get(name))
      return `-${name}: ${text} is no address (192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:53)`
  }
  const origin = values.has('origin') ? parseName(values.get('origin')!) : undefined
  if (values.has('origin') && !origin) return `-origin: ${values.get('origin')} is no name`
  const key = values.has('key') ? readKey(values.get('key')!) : undefined
  if (typeof key === 'string') return `-key: ${key}`
  const isJson = args.switches.has('json')
  return { subject, server: servers.get('server'), resolver: servers.get('resolver'), key, origin, isJson }
}

function readKey(text: string): TsigKey | string {
  if (!text.startsWith('@')) return parseTsigKey(text)
  let lines: string[]
  try {
    lines = readFileSync(text.slice(1), 'utf8').split('\n')
  } catch (error) {
    return describeFileError(text.slice(1), error)
  }
  const line = lines.map(one => one.trim()).find(one => one !== '' && !one.startsWith('#'))
  return line === undefined ? `${text.slice(1)} holds no key` : parseTsigKey(line)
}

function describeFileError(path: string, error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' ? `${path}: there is no such file` : `${path} cannot be read (${code})`
}

// ---- where the records come from

function readFileZone({ subject, origin: given }: Wanted): Zone | string {
  let text: string
  try {
    text = readFileSync(subject, 'utf8')
  } catch (error) {
    return describeFileError(subject, error)
  }
  const origin = given ?? originOf(text)
  if (origin === undefined) return `${subject} does not say which zone it is: give -origin NAME`
  const { records, lines, problems } = parseZoneText(text, { origin, file: subject })
  const findings = problems.map(({ line, problem }): LintFinding => {
    return { rule: 'syntax', severity: 'error', name: '', line, what: problem, right: '' }
  })
  return { source: subject, origin, records, lines, findings }
}

/** As the first $ORIGIN says, or the SOA record if its name is complete. */
function originOf(text: string): Name | undefined {
  const directive = /^\$ORIGIN[ \t]+(\S+\.)[ \t\r]*(?:;.*)?$/im.exec(text)?.[1]
  const before = directive === undefined ? undefined : parseName(directive)
  if (before) return before
  const { records } = parseZoneText(text, { origin: ROOT, file: '' })
  const soa = records.find(({ type }) => type === Type.SOA)
  return soa && soa.name !== ROOT ? soa.name : undefined
}

async function transfer({ subject, server, resolver, key }: Wanted): Promise<Zone | string> {
  const origin = parseName(subject)
  if (!origin) return `${subject} is neither a file nor a name`
  const servers = server ? [server] : await serversOfZone(origin, resolver ? [resolver] : systemServers())
  if (servers.length === 0)
    throw new Error(`no name servers of ${formatName(origin)} could be found: give one with -server ADDRESS`)
  const refusals: string[] = []
  for (const one of servers) {
    const records: ResourceRecord[] = []
    try {
      await transferZone({ server: one, zone: origin, key, onRecord: record => records.push(record) })
      return { source: `${formatName(origin)}@${showServer(one)}`, origin, records, findings: [] }
    } catch (error) {
      refusals.push((error as Error).message)
    }
  }
  throw new Error(refusals.join('\n'))
}

async function askOutside(zone: Zone, { server, resolver }: Wanted): Promise<Map<Name, Outside>> {
  const servers = resolver ? [resolver] : [...(server ? [server] : []), ...systemServers()]
  const names = contextsToAsk(zone)
  const found = await Promise.all(names.map(async name => [name, await lookUp(name, servers)] as const))
  return new Map(found)
}

// ---- text

function render(zone: Zone, report: LintReport, isJson: boolean): string {
  const { findings, aaRecords, names } = report
  const errors = findings.filter(({ severity }) => severity === 'error').length
  const warnings = findings.length - errors
  const origin = formatName(zone.origin)
  if (isJson)
    return JSON.stringify({ zone: origin, source: zone.source, aaRecords, names, errors, warnings, findings }, null, 2)
  const lines = findings.map(({ line, severity, name, what, right }) => {
    const where = line === undefined ? zone.source : `${zone.source}:${line}`
    return `${where}: ${severity}${name === '' ? '' : ` ${name}`}: ${what}${right === '' ? '' : ` — ${right}`}`
  })
  const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`
  const summary = `${count(aaRecords, 'AA record')} at ${count(names, 'name')} in ${origin}: ${count(errors, 'error')}, ${count(warnings, 'warning')}`
  return [...lines, summary].join('\n')
}
