/** Addresses and name servers by ordinary resolution, for commands that people type: servers in order until one knows, aliases followed. */
import { getServers } from 'node:dns'
import type { Outside } from '../dns/aaLint.ts'
import { Flag, formatRcode, Rcode, Type } from '../dns/constants.ts'
import { type Message, nameAt, type ResourceRecord, rcodeOf } from '../dns/message.ts'
import { formatName, lowerName, type Name } from '../dns/name.ts'
import { queryServer, type Server } from '../dns/query.ts'
import { formatAddress, formatHostPort, parseAddress } from '../ipref/address.ts'

export type { Server }

const DNS_PORT = 53
const MOST_ALIASES = 8

/** ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT. */
export function parseServer(text: string): Server | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? text
  const port = match?.[3] === undefined ? DNS_PORT : Number(match[3])
  return parseAddress(host) && port > 0 && port <= 65535 ? { host, port } : undefined
}

export function showServer({ host, port }: Server): string {
  return port === DNS_PORT ? host : formatHostPort(host, port)
}

/** Those of /etc/resolv.conf. */
export function systemServers(): Server[] {
  return getServers().flatMap(text => parseServer(text.replace(/%[^\]]*/, '')) ?? [])
}

type Said = { answer: Message; server: Server } | { failed: string }

// a server that refuses, fails, or only points elsewhere does not know; the next may
async function ask(servers: readonly Server[], name: Name, type: number): Promise<Said> {
  const failures: string[] = []
  for (const server of servers) {
    const answer = await queryServer(server, { name, type })
    const problem = answer ? problemOf(answer) : 'no answer'
    if (answer && problem === undefined) return { answer, server }
    failures.push(`${showServer(server)}: ${problem}`)
  }
  return { failed: failures.length > 0 ? failures.join(', ') : 'there is no server to ask' }
}

function problemOf(answer: Message): string | undefined {
  const rcode = rcodeOf(answer)
  if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN) return formatRcode(rcode)
  const isReferral =
    rcode === Rcode.NOERROR && answer.answers.length === 0 && (answer.flags & (Flag.AA | Flag.RA)) === 0
  return isReferral ? 'it points to other servers' : undefined
}

interface Followed {
  records: ResourceRecord[]
  aliases: Name[]
  exists: boolean
}

async function follow(servers: readonly Server[], name: Name, type: number): Promise<Followed | { failed: string }> {
  const aliases: Name[] = []
  let owner = lowerName(name)
  for (;;) {
    const said = await ask(servers, owner, type)
    if ('failed' in said) return said
    const before = aliases.length
    const { answers } = said.answer
    for (let link = aliasIn(answers, owner); link !== undefined; link = aliasIn(answers, owner)) {
      owner = link
      aliases.push(link)
      if (aliases.length > MOST_ALIASES) return { failed: `more than ${MOST_ALIASES} aliases, one behind the other` }
    }
    const records = answers.filter(r => r.type === type && lowerName(r.name) === owner)
    const exists = rcodeOf(said.answer) === Rcode.NOERROR
    // the end of the chain may lie with others
    if (records.length > 0 || aliases.length === before || !exists) return { records, aliases, exists }
  }
}

function aliasIn(records: readonly ResourceRecord[], owner: Name): Name | undefined {
  const link = records.find(r => r.type === Type.CNAME && lowerName(r.name) === owner)
  return link && lowerName(nameAt(link.data, 0))
}

/** A and AAAA of a name. */
export async function lookUp(name: Name, servers: readonly Server[]): Promise<Outside> {
  const both = await Promise.all([Type.A, Type.AAAA].map(type => follow(servers, name, type)))
  const [four, six] = both as [(typeof both)[0], (typeof both)[0]]
  const known = [four, six].filter(one => !('failed' in one)) as Followed[]
  const addresses = known.flatMap(({ records }) => records.map(({ data }) => data))
  const aliases = (known.find(one => one.records.length > 0) ?? known[0])?.aliases.map(formatName) ?? []
  if (addresses.length > 0) return { addresses, aliases }
  if ('failed' in four) return four
  if ('failed' in six) return six
  return { addresses, aliases, missing: four.exists || six.exists ? 'has no A or AAAA record' : 'does not exist' }
}

/** The addresses of the name servers of a zone. */
export async function serversOfZone(zone: Name, servers: readonly Server[]): Promise<Server[]> {
  const named = await follow(servers, zone, Type.NS)
  if ('failed' in named) throw new Error(`name servers of ${formatName(zone)}: ${named.failed}`)
  const names = named.records.map(({ data }) => nameAt(data, 0))
  const found = await Promise.all(names.map(name => lookUp(name, servers)))
  return found.flatMap(one =>
    'failed' in one ? [] : one.addresses.map(address => ({ host: formatAddress(address), port: DNS_PORT })),
  )
}
