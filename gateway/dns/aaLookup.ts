/**
 * What the upstream servers say of a name: its AA strings, through its aliases, and the addresses of the gateways that these name.
 *
 *   name ──TXT──► AA strings ──A, AAAA of contexts that are names──► context + reference, each once
 *
 * Answers are kept for as long as they say, failures for two seconds (RFC 9520). Equal questions that are open at the same time are asked once
 * (RFC 5452 section 5). How far one name may reach is bounded: aliases, strings, names of gateways, addresses of each.
 */
import { Rcode, Type } from '../../dns/constants.ts'
import { decodeSoa, type Message, nameAt, type ResourceRecord, stringsOf } from '../../dns/message.ts'
import { isAtOrBelow, lowerName, type Name } from '../../dns/name.ts'
import { formatAddress } from '../../ipref/address.ts'
import { Memory } from './memory.ts'
import {
  type AaString,
  aaOfString,
  askUpstreams,
  MOST_ADDRESSES,
  MOST_ALIASES,
  MOST_CONTEXT_NAMES,
  MOST_STRINGS,
  MOST_TTL,
  readAnswer,
  type Servers,
} from './upstreamAnswers.ts'

/** Seconds that are kept: no AA records, where the zone does not say for how long; a failure; the longest that "none" is kept. */
const NO_AA_TTL = 60
const FAILURE_TTL = 2
const MOST_NEGATIVE_TTL = 300
const MOST_NAMES = 100_000

export interface AaFound {
  kind: 'found'
  /** the CNAME records from the question to the owner of the TXT records */
  chain: readonly ResourceRecord[]
  strings: readonly AaString[]
  ttl: number
}
export type AaResult = AaFound | { kind: 'none' } | { kind: 'failed'; why: string }

export interface Remote {
  context: Uint8Array
  reference: bigint
}

export interface Remotes {
  list: Remote[]
  ttl: number
  /** the addresses of a gateway could not be found out */
  isPartial: boolean
}

type Addresses = { addresses: Uint8Array[]; ttl: number } | 'failed'

export class AaLookup {
  readonly #servers: Servers
  readonly #families: readonly (4 | 6)[]
  readonly #keeps: boolean
  readonly #now: () => number
  readonly #aa = new Memory<AaResult>(MOST_NAMES)
  readonly #addresses = new Memory<Addresses>(MOST_NAMES / 10)
  readonly #aaOpen = new Map<string, ((result: AaResult) => void)[]>()
  readonly #addressesOpen = new Map<string, ((result: Addresses) => void)[]>()

  /** `families`: of contexts, in the order of preference. `keeps`: answers are remembered. `now`: seconds. */
  constructor(servers: Servers, settings: { families: readonly (4 | 6)[]; keeps: boolean }, now: () => number) {
    this.#servers = servers
    this.#families = settings.families
    this.#keeps = settings.keeps
    this.#now = now
  }

  /** What is kept of a name. */
  remembered(name: Name): { result: AaResult; left: number } | undefined {
    const key = lowerName(name)
    const result = this.#aa.get(key, this.#now())
    return result && { result, left: this.#aa.left(key, this.#now()) }
  }

  /** Other servers are asked about these domains from now on: what is kept goes, and what is on its way is not kept. */
  forget(domains: readonly Name[]): void {
    const isGone = (name: Name) => domains.some(domain => isAtOrBelow(name, domain))
    const isGoneAddress = (key: string) => isGone(key.slice(1))
    this.#aa.forget(isGone)
    this.#addresses.forget(isGoneAddress)
    for (const name of this.#aaOpen.keys()) if (isGone(name)) this.#aaOpen.delete(name)
    for (const key of this.#addressesOpen.keys()) if (isGoneAddress(key)) this.#addressesOpen.delete(key)
  }

  // ---- AA strings

  strings(name: Name, done: (result: AaResult) => void): void {
    const key = lowerName(name)
    const now = this.#now()
    const known = this.#aa.get(key, now)
    if (known) return done(known.kind === 'found' ? aged(known, this.#aa.left(key, now)) : known)
    const open = this.#aaOpen.get(key)
    if (open) return void open.push(done)
    const waiting = [done]
    this.#aaOpen.set(key, waiting)
    this.#askTxt(key, [], MOST_TTL, (result, ttl) => {
      if (close(this.#aaOpen, key, waiting) && this.#keeps && ttl > 0) this.#aa.set(key, result, this.#now() + ttl)
      for (const callback of waiting) callback(result)
    })
  }

  #askTxt(
    name: Name,
    chain: readonly ResourceRecord[],
    least: number,
    done: (result: AaResult, ttl: number) => void,
  ): void {
    askUpstreams(this.#servers, { name, type: Type.TXT }, answer => {
      if (!answer) return done({ kind: 'failed', why: 'no answer from the upstream servers' }, FAILURE_TTL)
      const mostAliases = MOST_ALIASES - chain.length
      const { rcode, owner, records: texts, ...reading } = readAnswer(answer, { name, type: Type.TXT, mostAliases })
      // whoever does not know the zone, or the type, knows no AA records
      if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN) return done({ kind: 'none' }, FAILURE_TTL)
      const links = [...chain, ...reading.links]
      const ttl = Math.min(least, reading.ttl)
      if (links.length > MOST_ALIASES)
        return done({ kind: 'failed', why: 'the chain of aliases is too long' }, NO_AA_TTL)
      if (texts.length === 0 && rcode === Rcode.NOERROR && links.length > chain.length)
        return this.#askTxt(owner, links, ttl, done)
      const strings = texts
        .flatMap(text => stringsOf(text.data))
        .flatMap(text => aaOfString(text) ?? [])
        .slice(0, MOST_STRINGS)
      if (strings.length === 0) return done({ kind: 'none' }, texts.length > 0 ? ttl : negativeTtl(answer))
      done({ kind: 'found', chain: links, strings, ttl }, ttl)
    })
  }

  // ---- contexts

  /** 'failed': no gateway's address could be found out. */
  remotes(found: AaFound, done: (remotes: Remotes | 'failed') => void): void {
    const list = new Map<string, Remote>()
    let ttl = found.ttl
    let isPartial = false
    const add = (context: Uint8Array, reference: bigint) => {
      if (list.size < MOST_STRINGS) list.set(`${formatAddress(context)} ${reference}`, { context, reference })
    }
    const references = new Map<Name, bigint[]>()
    for (const { context, reference } of found.strings) {
      if (typeof context !== 'string') {
        if (this.#families.includes(context.length === 4 ? 4 : 6)) add(context, reference)
        continue
      }
      const key = lowerName(context)
      const known = references.get(key)
      if (known) known.push(reference)
      else if (references.size < MOST_CONTEXT_NAMES) references.set(key, [reference])
    }
    let open = references.size
    const end = () => done(list.size === 0 && isPartial ? 'failed' : { list: [...list.values()], ttl, isPartial })
    if (open === 0) return end()
    for (const [name, ofName] of references) {
      this.#addressesOf(name, this.#families, result => {
        if (result === 'failed') isPartial = true
        else {
          if (result.addresses.length > 0) ttl = Math.min(ttl, result.ttl)
          for (const address of result.addresses) for (const reference of ofName) add(address, reference)
        }
        if (--open === 0) end()
      })
    }
  }

  // the addresses of the first family that has any
  #addressesOf(name: Name, families: readonly (4 | 6)[], done: (result: Addresses) => void): void {
    const [family, ...rest] = families
    if (family === undefined) return done({ addresses: [], ttl: 0 })
    const use = (result: Addresses) => {
      if (result !== 'failed' && result.addresses.length === 0) return this.#addressesOf(name, rest, done)
      done(result)
    }
    const key = `${family}${name}`
    const now = this.#now()
    const known = this.#addresses.get(key, now)
    if (known) return use(known === 'failed' ? known : { ...known, ttl: this.#addresses.left(key, now) })
    const open = this.#addressesOpen.get(key)
    if (open) return void open.push(use)
    const waiting = [use]
    this.#addressesOpen.set(key, waiting)
    const type = family === 4 ? Type.A : Type.AAAA
    this.#askAddresses({ name, type, aliases: MOST_ALIASES, least: MOST_TTL }, (result, keepFor) => {
      const isCurrent = close(this.#addressesOpen, key, waiting)
      if (isCurrent && this.#keeps && keepFor > 0) this.#addresses.set(key, result, this.#now() + keepFor)
      for (const callback of waiting) callback(result)
    })
  }

  #askAddresses(
    asked: { name: Name; type: number; aliases: number; least: number },
    done: (result: Addresses, keepFor: number) => void,
  ): void {
    const { name, type, aliases, least } = asked
    askUpstreams(this.#servers, { name, type }, answer => {
      const read = answer && readAnswer(answer, { name, type, mostAliases: MOST_ALIASES - 1 })
      if (!read || (read.rcode !== Rcode.NOERROR && read.rcode !== Rcode.NXDOMAIN)) return done('failed', FAILURE_TTL)
      const { owner, rcode } = read
      const records = read.records.slice(0, MOST_ADDRESSES)
      const ttl = Math.min(least, read.ttl)
      if (records.length === 0 && owner !== name && rcode === Rcode.NOERROR && aliases > 0)
        return this.#askAddresses({ name: owner, type, aliases: aliases - 1, least: ttl }, done)
      const keepFor = records.length > 0 ? ttl : negativeTtl(answer)
      done({ addresses: records.map(r => r.data), ttl }, keepFor)
    })
  }
}

/** False: it was forgotten meanwhile. */
function close<Waiting>(open: Map<string, Waiting>, key: string, waiting: Waiting): boolean {
  return open.get(key) === waiting && open.delete(key)
}

// aliases have grown as old as the strings
function aged(found: AaFound, left: number): AaFound {
  const age = found.ttl - left
  const chain = found.chain.map(link => ({ ...link, ttl: Math.max(0, link.ttl - age) }))
  return { ...found, chain, ttl: left }
}

/** The owner of the records at the end of a chain of aliases. */
export function endOf(chain: readonly ResourceRecord[], name: Name): Name {
  const last = chain.at(-1)
  return last ? nameAt(last.data, 0) : name
}

// RFC 2308 section 5
function negativeTtl(answer: Message): number {
  const soa = answer.authority.find(r => r.type === Type.SOA)
  return soa ? Math.min(soa.ttl, decodeSoa(soa.data).minimum, MOST_NEGATIVE_TTL) : NO_AA_TTL
}
