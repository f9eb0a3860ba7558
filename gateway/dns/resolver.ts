/**
 * The special resolver (wire.md section 5): what is asked, what is found out about it, what is answered. Free of sockets and threads; nothing here
 * waits, everything calls back.
 *
 *   query ──► answer cache ──► A, AAAA below our domains ──► TXT at the upstreams ──► AA strings ──► contexts ──► mapper ──► answer
 *                                        │                                    └ none: forwarders, else SERVFAIL
 *                                        └ everything else: PTR of an encoded address, forwarders, else SERVFAIL
 *
 * What is handed on goes to the forwarder as it came and comes back byte for byte, but for the id and the letter case that protect it. Equal
 * questions that are open at the same time are asked once. Nothing is guessed: where the mapper or the upstreams say nothing, the answer is SERVFAIL
 * with the reason (RFC 8914).
 */
import { Class, EdnsOption, ExtendedError, Flag, Opcode, Rcode, Type } from '../../dns/constants.ts'
import {
  decodeMessage,
  type Edns,
  encodeMessage,
  HEADER,
  type Message,
  nameAt,
  opcodeOf,
  type Question,
  type ResourceRecord,
  stringsOf,
} from '../../dns/message.ts'
import { addressOfReverse, formatName, isAtOrBelow, lowerName, type Name, nameToBytes } from '../../dns/name.ts'
import { Scan, type ScannedQuery, scanQuery, Variant, walkRecords } from '../../dns/packet.ts'
import { formatAddress, type Prefix, prefixContains } from '../../ipref/address.ts'
import { isContext } from '../mapper/assertions.ts'
import type { NewNameBudget } from './access.ts'
import { AnswerCache, type CachedAnswer } from './answerCache.ts'
import type { MapperAnswer } from './mapperClient.ts'
import {
  type AaString,
  aaOfString,
  askUpstreams,
  MOST_ADDRESSES,
  MOST_ALIASES,
  MOST_CONTEXT_NAMES,
  MOST_STRINGS,
  MOST_TTL,
  MOST_UDP,
  readAnswer,
} from './upstreamAnswers.ts'
import { type ServerState, type Upstreams, withoutCookie } from './upstreams.ts'

/** A mapping is good for three quarters of its lifetime, at least, after the mapper said so (wire.md section 2, lifetimes). */
export const MAPPING_TTL = 10_800
const NO_AA_TTL = 60
const FAILURE_TTL = 2
const STALE_TTL = 30
const MOST_NAMES = 100_000
const MOST_JOBS = 20_000
const VARIANTS = 32

export interface ResolverSettings {
  /** lower case; names at or below are looked up in AA records */
  domains: readonly Name[]
  excluded: readonly Name[]
  /** families of encoding networks, and of contexts in the order of preference */
  encodedFamilies: readonly (4 | 6)[]
  contextFamilies: readonly (4 | 6)[]
  /** answers; 0: nothing is kept */
  cacheSize: number
  /** seconds that an answer is shown after it ran out, when there is no better one */
  serveStale: number
  /** answers of forwarders with an address in one of these are refused: only the mapper gives such */
  denyAnswers: readonly Prefix[]
  /** our own contexts, when the native address behind them can be asked for */
  ownContexts: readonly Uint8Array[]
}

export interface ResolverPorts {
  upstreams: Upstreams
  /** for TXT, and the addresses of contexts */
  upstreamServers: readonly ServerState[]
  forwarders: readonly ServerState[]
  mapper(
    wanted: { family: 4 | 6; context: Uint8Array; reference: bigint; name: string },
    done: (answer: MapperAnswer) => void,
  ): void
  /** The native address behind a reference of our own network. */
  native(wanted: { family: 4 | 6; reference: bigint }, done: (address: Uint8Array | undefined) => void): void
  budget: NewNameBudget
  /** seconds, monotonic */
  now(): number
}

/** Who asked, and how it is answered. */
export interface Asker {
  readonly overTcp: boolean
  /** address as text, for budgets */
  readonly from: string
  reply(answer: Uint8Array): void
}

interface AaFound {
  kind: 'found'
  /** the CNAME records from the question to the owner of the TXT records */
  chain: readonly ResourceRecord[]
  strings: readonly AaString[]
  ttl: number
}
type AaResult = AaFound | { kind: 'none' } | { kind: 'failed'; why: string }
type Addresses = { addresses: Uint8Array[]; ttl: number } | 'failed'

/** `left`: seconds. */
export interface Remembered {
  aa: { found: AaResult['kind']; strings: number; left: number } | undefined
  answers: { type: number; addresses: string[]; left: number }[]
}

interface Job {
  readonly key: string
  readonly query: Uint8Array
  readonly message: Message
  readonly question: Question
  readonly scanned: ScannedQuery
  readonly askers: { asker: Asker; id: number; question: Uint8Array; payloadSize: number }[]
  readonly isPlain: boolean
}

interface Kept<Value> {
  value: Value
  expires: number
}

/** A table that forgets what ran out, and the oldest when it is full. */
class Memory<Value> {
  readonly #entries = new Map<string, Kept<Value>>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  get(key: string, now: number): Value | undefined {
    const kept = this.#entries.get(key)
    if (kept && kept.expires > now) return kept.value
    if (kept) this.#entries.delete(key)
    return undefined
  }

  /** Seconds that are left of what `get` found. */
  left(key: string, now: number): number {
    return (this.#entries.get(key)?.expires ?? now) - now
  }

  set(key: string, value: Value, expires: number): void {
    this.#entries.delete(key)
    if (this.#entries.size >= this.#most) this.#entries.delete(this.#entries.keys().next().value!)
    this.#entries.set(key, { value, expires })
  }

  clear(): void {
    this.#entries.clear()
  }
}

export class Resolver {
  readonly #settings: ResolverSettings
  readonly #ports: ResolverPorts
  readonly cache: AnswerCache
  readonly #aa = new Memory<AaResult>(MOST_NAMES)
  readonly #addresses = new Memory<Addresses>(MOST_NAMES / 10)
  readonly #namesOfEncoded = new Memory<Name>(MOST_NAMES)
  /** what the mapper was asked for lately: asking again costs it nothing */
  readonly #mapped = new Memory<true>(2 * MOST_NAMES)
  readonly #jobs = new Map<string, Job>()
  readonly #aaOpen = new Map<string, ((result: AaResult) => void)[]>()
  readonly #scan: ScannedQuery = { questionEnd: 0, type: 0, class: 0, variant: 0, payloadSize: 512 }
  readonly counts = {
    queries: 0,
    malformed: 0,
    joined: 0,
    forwarded: 0,
    mapped: 0,
    reverse: 0,
    stale: 0,
    denied: 0,
    overBudget: 0,
    busy: 0,
    rcode: {} as Record<number, number>,
  }

  constructor(settings: ResolverSettings, ports: ResolverPorts) {
    this.#settings = settings
    this.#ports = ports
    this.cache = new AnswerCache(settings.cacheSize)
  }

  get open(): number {
    return this.#jobs.size
  }

  /** After the mapper lost its mappings: nothing that came from it is shown any more. */
  forgetMappings(): void {
    this.cache.clear()
    this.#namesOfEncoded.clear()
  }

  /** What is kept for a name, for a person who asks. */
  remembered(name: Name): Remembered {
    const now = this.#ports.now()
    const key = lowerName(name)
    const aa = this.#aa.get(key, now)
    const answers = new Map<string, Remembered['answers'][number]>()
    const question = new Uint8Array(key.length + 4)
    question.set(nameToBytes(key))
    question[key.length + 3] = Class.IN
    for (const type of [Type.A, Type.AAAA]) {
      question[key.length + 1] = type
      for (let variant = 0; variant < VARIANTS; variant++) {
        const entry = this.cache.peek(question, variant, now)
        if (!entry) continue
        const shown = addressesIn(entry.bytes, type)
        answers.set(`${type} ${shown.join()}`, { type, addresses: shown, left: entry.expires - now })
      }
    }
    return {
      aa: aa && { found: aa.kind, strings: aa.kind === 'found' ? aa.strings.length : 0, left: this.#aa.left(key, now) },
      answers: [...answers.values()],
    }
  }

  /** One query; `bytes` is the caller's again afterwards. */
  handle(bytes: Uint8Array, asker: Asker): void {
    const scan = this.#scan
    const verdict = scanQuery(bytes, 0, bytes.length, scan)
    if (verdict === Scan.drop) return
    this.counts.queries++
    const now = this.#ports.now()
    if (verdict === Scan.plain) {
      const entry = this.cache.find(bytes, HEADER, scan.questionEnd, scan.variant, now)
      if (entry) return this.#replyFromCache(entry, bytes, scan, asker)
    }
    const query = bytes.slice()
    const message = decodeMessage(query)
    if (typeof message === 'string') return this.#malformed(query, asker)
    const refusal = this.#refusalOf(message)
    if (refusal !== undefined) return this.#refuse(message, refusal, asker)
    this.#start(query, message, { ...scan }, verdict === Scan.plain, asker)
  }

  #malformed(query: Uint8Array, asker: Asker): void {
    this.counts.malformed++
    const flags = Flag.QR | (((query[2]! << 8) | query[3]!) & (0x7800 | Flag.RD)) | Rcode.FORMERR
    this.#count(Rcode.FORMERR)
    asker.reply(encodeMessage({ id: (query[0]! << 8) | query[1]!, flags }))
  }

  // RFC 8906 section 3
  #refusalOf(message: Message): number | undefined {
    if (opcodeOf(message.flags) !== Opcode.QUERY) return Rcode.NOTIMP
    if (message.questions.length !== 1 || message.answers.length > 0 || message.authority.length > 0)
      return Rcode.FORMERR
    if (message.edns && message.edns.version > 0) return Rcode.BADVERS
    const { type } = message.questions[0]!
    if (type === Type.AXFR || type === Type.IXFR) return Rcode.REFUSED
    if (type === Type.OPT || type === Type.TSIG || type === 0) return Rcode.FORMERR
    return undefined
  }

  #refuse(message: Message, rcode: number, asker: Asker): void {
    this.#count(rcode)
    const questions = message.questions.length === 1 ? message.questions : []
    const edns = message.edns && { ...ednsOfOurs(message.edns), extendedRcode: rcode >> 4 }
    asker.reply(
      encodeMessage({
        id: message.id,
        flags: Flag.QR | (message.flags & (0x7800 | Flag.RD)) | (rcode & 15),
        questions,
        ...(edns ? { edns } : {}),
      }),
    )
  }

  #start(query: Uint8Array, message: Message, scan: ScannedQuery, isPlain: boolean, asker: Asker): void {
    const question = message.questions[0]!
    const { edns } = message
    if (!isPlain) {
      scan.questionEnd = HEADER + question.name.length + 4
      scan.type = question.type
      scan.class = question.class
      scan.payloadSize = edns ? Math.max(512, edns.payloadSize) : 512
      scan.variant =
        (message.flags & Flag.RD ? Variant.RD : 0) |
        (message.flags & Flag.CD ? Variant.CD : 0) |
        (message.flags & Flag.AD ? Variant.AD : 0) |
        (edns ? Variant.EDNS : 0) |
        (edns?.dnssecOk ? Variant.DO : 0)
    }
    // a compressed name in a question: valid, and never seen from an honest asker
    if (query[HEADER]! >= 192 || scan.questionEnd > query.length) return this.#malformed(query, asker)
    const cookieOnly = edns?.options.every(o => o.code === EdnsOption.COOKIE) ?? true
    if (!isPlain && cookieOnly) {
      const entry = this.cache.find(query, HEADER, scan.questionEnd, scan.variant, this.#ports.now())
      if (entry) return this.#replyFromCache(entry, query, scan, asker)
    }
    const mayShare = isPlain || cookieOnly
    const key = `${mayShare ? '' : `${Math.random()}`}${asker.overTcp ? 't' : 'u'}${scan.variant} ${question.type} ${question.class} ${lowerName(question.name)}`
    const one = {
      asker,
      id: message.id,
      question: query.slice(HEADER, scan.questionEnd),
      payloadSize: scan.payloadSize,
    }
    const open = this.#jobs.get(key)
    if (open) {
      this.counts.joined++
      open.askers.push(one)
      return
    }
    const job: Job = { key, query, message, question, scanned: scan, askers: [one], isPlain: mayShare }
    if (this.#jobs.size >= MOST_JOBS) {
      this.counts.busy++
      return this.#fail(job, ExtendedError.other, 'too many questions at once')
    }
    this.#jobs.set(key, job)
    this.#resolve(job)
  }

  #resolve(job: Job): void {
    const { type, class: questionClass, name } = job.question
    if (questionClass !== Class.IN) return this.#forward(job)
    const lower = lowerName(name)
    if (type === Type.PTR) {
      const found = this.#nameOfReverse(lower)
      return found ? this.#answerReverse(job, found) : this.#forward(job)
    }
    const { domains, excluded } = this.#settings
    const isOurs =
      (type === Type.A || type === Type.AAAA) &&
      domains.some(domain => isAtOrBelow(lower, domain)) &&
      !excluded.some(domain => isAtOrBelow(lower, domain))
    if (!isOurs) return this.#forward(job)
    this.#lookUpAa(name, result => {
      if (result.kind === 'none') return this.#forward(job)
      if (result.kind === 'failed') return this.#fail(job, ExtendedError.noReachableAuthority, result.why)
      this.#resolveContexts(job, result)
    })
  }

  // ---- AA records

  #lookUpAa(name: Name, done: (result: AaResult) => void): void {
    const key = lowerName(name)
    const now = this.#ports.now()
    const known = this.#aa.get(key, now)
    if (known) return done(known.kind === 'found' ? { ...known, ttl: this.#aa.left(key, now) } : known)
    const open = this.#aaOpen.get(key)
    if (open) return void open.push(done)
    const waiting = [done]
    this.#aaOpen.set(key, waiting)
    this.#askTxt(key, [], MOST_TTL, (result, ttl) => {
      this.#aaOpen.delete(key)
      if (this.cache.enabled && ttl > 0) this.#aa.set(key, result, this.#ports.now() + ttl)
      for (const callback of waiting) callback(result)
    })
  }

  #askTxt(
    name: Name,
    chain: readonly ResourceRecord[],
    least: number,
    done: (result: AaResult, ttl: number) => void,
  ): void {
    askUpstreams(this.#ports, { name, type: Type.TXT }, answer => {
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
        .slice(0, MOST_STRINGS)
        .flatMap(text => aaOfString(text) ?? [])
      if (strings.length === 0) return done({ kind: 'none' }, texts.length > 0 ? ttl : negativeTtl(answer))
      done({ kind: 'found', chain: links, strings, ttl }, ttl)
    })
  }

  // ---- contexts

  #resolveContexts(job: Job, found: AaFound): void {
    const { contextFamilies } = this.#settings
    const candidates = new Map<string, { context: Uint8Array; reference: bigint }>()
    const names = found.strings.filter(s => typeof s.context === 'string').slice(0, MOST_CONTEXT_NAMES)
    let ttl = found.ttl
    let failed = false
    let open = 1
    const add = (context: Uint8Array, reference: bigint) => {
      if (candidates.size < MOST_STRINGS)
        candidates.set(`${formatAddress(context)} ${reference}`, { context, reference })
    }
    const step = () => {
      if (--open > 0) return
      if (candidates.size === 0 && failed)
        return this.#fail(job, ExtendedError.noReachableAuthority, 'no address of the gateway could be found')
      this.#map(job, found, [...candidates.values()], ttl)
    }
    for (const { context, reference } of found.strings) {
      if (typeof context !== 'string' && contextFamilies.includes(context.length === 4 ? 4 : 6)) add(context, reference)
    }
    for (const { context, reference } of names) {
      open++
      this.#addressesOf(context as Name, contextFamilies, result => {
        if (result === 'failed') failed = true
        else {
          if (result.addresses.length > 0) ttl = Math.min(ttl, result.ttl)
          for (const address of result.addresses) add(address, reference)
        }
        step()
      })
    }
    step()
  }

  // the addresses of the first family that has any
  #addressesOf(name: Name, families: readonly (4 | 6)[], done: (result: Addresses) => void): void {
    const [family, ...rest] = families
    if (family === undefined) return done({ addresses: [], ttl: 0 })
    const key = `${family}${lowerName(name)}`
    const use = (result: Addresses) => {
      if (result !== 'failed' && result.addresses.length === 0) return this.#addressesOf(name, rest, done)
      done(result)
    }
    const now = this.#ports.now()
    const known = this.#addresses.get(key, now)
    if (known) return use(known === 'failed' ? known : { ...known, ttl: this.#addresses.left(key, now) })
    const type = family === 4 ? Type.A : Type.AAAA
    this.#askAddresses(lowerName(name), type, MOST_ALIASES, MOST_TTL, (result, keepFor) => {
      if (this.cache.enabled && keepFor > 0) this.#addresses.set(key, result, this.#ports.now() + keepFor)
      use(result)
    })
  }

  #askAddresses(
    name: Name,
    type: number,
    aliases: number,
    least: number,
    done: (result: Addresses, keepFor: number) => void,
  ): void {
    askUpstreams(this.#ports, { name, type }, answer => {
      const read = answer && readAnswer(answer, { name, type, mostAliases: MOST_ALIASES - 1 })
      if (!read || (read.rcode !== Rcode.NOERROR && read.rcode !== Rcode.NXDOMAIN)) return done('failed', FAILURE_TTL)
      const { owner, rcode } = read
      const records = read.records.slice(0, MOST_ADDRESSES)
      const ttl = Math.min(least, read.ttl)
      if (records.length === 0 && owner !== name && rcode === Rcode.NOERROR && aliases > 0)
        return this.#askAddresses(owner, type, aliases - 1, ttl, done)
      const keepFor = records.length > 0 ? ttl : negativeTtl(answer)
      done({ addresses: records.map(r => r.data), ttl }, keepFor)
    })
  }

  // ---- the mapper

  #map(job: Job, found: AaFound, candidates: { context: Uint8Array; reference: bigint }[], ttl: number): void {
    if (candidates.length === 0) return this.#forward(job)
    const family = job.question.type === Type.A ? 4 : 6
    if (!this.#settings.encodedFamilies.includes(family)) return this.#answerAa(job, found.chain, [], ttl)
    const usable = candidates.filter(({ context, reference }) => reference !== 0n && isContext(context))
    if (usable.length === 0) return this.#forward(job)
    const now = this.#ports.now()
    const keyOf = (wanted: { context: Uint8Array; reference: bigint }) =>
      `${family} ${formatAddress(wanted.context)} ${wanted.reference}`
    const isKnown = usable.every(wanted => this.#mapped.get(keyOf(wanted), now))
    if (!isKnown && !this.#ports.budget.take(job.askers[0]!.asker.from, now)) {
      this.counts.overBudget++
      return this.#fail(job, ExtendedError.prohibited, 'too many new names from this address')
    }
    const encoded = new Map<string, Uint8Array>()
    let unavailable = false
    let open = usable.length
    const name = formatName(job.question.name)
    const take = (answer: MapperAnswer) => {
      if (answer === 'unavailable') unavailable = true
      else if (answer !== 'refused') encoded.set(formatAddress(answer.encoded), answer.encoded)
      if (--open > 0) return
      if (encoded.size > 0) return this.#answerAa(job, found.chain, [...encoded.values()], Math.min(ttl, MAPPING_TTL))
      if (unavailable) return this.#fail(job, ExtendedError.notReady, 'the mapper does not answer')
      this.#fail(job, ExtendedError.other, 'the mapper has no address for it')
    }
    for (const wanted of usable) {
      const { context, reference } = wanted
      this.#mapped.set(keyOf(wanted), true, now + MAPPING_TTL)
      const isOwn = this.#settings.ownContexts.some(own => formatAddress(own) === formatAddress(context))
      if (!isOwn) this.#ports.mapper({ family, context, reference, name }, take)
      else this.#ports.native({ family, reference }, address => take(address ? { encoded: address } : 'refused'))
    }
  }

  #answerAa(job: Job, chain: readonly ResourceRecord[], addresses: Uint8Array[], ttl: number): void {
    const { question, message } = job
    const now = this.#ports.now()
    const owner = chain.length > 0 ? nameAt(chain.at(-1)!.data, 0) : question.name
    const answers: ResourceRecord[] =
      addresses.length === 0 ? [] : chain.map((link, i) => (i === 0 ? { ...link, name: question.name } : link))
    for (const data of addresses) answers.push({ name: owner, type: question.type, class: Class.IN, ttl, data })
    for (const address of addresses)
      this.#namesOfEncoded.set(formatAddress(address), question.name, now + Math.max(ttl, NO_AA_TTL))
    this.counts.mapped++
    const bytes = encodeMessage({
      id: 0,
      flags: Flag.QR | (message.flags & (Flag.RD | Flag.CD)) | this.#ra(),
      questions: [question],
      answers,
      ...(message.edns ? { edns: ednsOfOurs(message.edns) } : {}),
    })
    this.#finish(job, bytes, ttl)
  }

  #ra(): number {
    return this.#ports.forwarders.length > 0 ? Flag.RA : 0
  }

  // ---- PTR

  #nameOfReverse(name: Name): Name | undefined {
    const address = addressOfReverse(name)
    return address && this.#namesOfEncoded.get(formatAddress(address), this.#ports.now())
  }

  #answerReverse(job: Job, target: Name): void {
    const { question, message } = job
    this.counts.reverse++
    const record = { name: question.name, type: Type.PTR, class: Class.IN, ttl: NO_AA_TTL, data: nameToBytes(target) }
    const bytes = encodeMessage({
      id: 0,
      flags: Flag.QR | (message.flags & (Flag.RD | Flag.CD)) | this.#ra(),
      questions: [question],
      answers: [record],
      ...(message.edns ? { edns: ednsOfOurs(message.edns) } : {}),
    })
    this.#finish(job, bytes, NO_AA_TTL)
  }

  // ---- forwarders

  #forward(job: Job): void {
    const { forwarders, upstreams } = this.#ports
    if (forwarders.length === 0) return this.#fail(job, ExtendedError.other, 'no AA record, and no forwarders', false)
    this.counts.forwarded++
    const { bytes, optAt } = forwardQuery(job)
    upstreams.ask({
      servers: forwarders,
      message: bytes,
      optAt,
      transport: job.askers[0]!.asker.overTcp ? 'tcp' : 'udp',
      done: answer => {
        if (!answer) return this.#fail(job, ExtendedError.networkError, 'no answer from the forwarders')
        this.#handOn(job, optAt > 0 ? withoutCookie(answer) : answer)
      },
    })
  }

  #handOn(job: Job, answer: Uint8Array): void {
    const walked = walkRecords(answer)
    if (!walked) return this.#fail(job, ExtendedError.other, 'the answer of the forwarder is malformed')
    for (const { type, dataAt, end } of walked.records) {
      if (type !== Type.A && type !== Type.AAAA) continue
      const address = answer.subarray(dataAt, end)
      if (
        this.#settings.denyAnswers.some(
          prefix => address.length === prefix.address.length && prefixContains(prefix, address),
        )
      ) {
        this.counts.denied++
        return this.#fail(
          job,
          ExtendedError.prohibited,
          'the answer of the forwarder holds an address that only the mapper gives',
        )
      }
    }
    this.#restoreCase(answer, job, walked.questionEnd)
    const isCut = (answer[2]! & 2) !== 0
    this.#finish(job, answer, isCut ? 0 : ttlOfForwarded(answer, walked))
  }

  // owners that repeat the question letter for letter have its letters again
  #restoreCase(answer: Uint8Array, job: Job, questionEnd: number): void {
    const asked = job.query.subarray(HEADER, questionEnd - 4)
    const sent = answer.slice(HEADER, questionEnd - 4)
    answer.set(asked, HEADER)
    for (const { start } of walkRecords(answer)?.records ?? []) {
      if (answer[start]! >= 192 || answer[start] === 0) continue
      let i = 0
      while (i < sent.length && answer[start + i] === sent[i]) i++
      if (i === sent.length) answer.set(asked, start)
    }
  }

  // ---- answers

  #fail(job: Job, code: number, why: string, withReason = true): void {
    const now = this.#ports.now()
    const { query, scanned, message, question } = job
    const stale =
      this.#settings.serveStale > 0
        ? this.cache.findStale(query, HEADER, scanned.questionEnd, scanned.variant, now)
        : undefined
    if (stale) {
      this.counts.stale++
      const bytes = stale.bytes.slice()
      for (const at of stale.ttlAt) bytes.set([0, 0, 0, STALE_TTL], at)
      return this.#finish(job, bytes, 0)
    }
    const edns = message.edns && ednsOfOurs(message.edns)
    if (edns && withReason) {
      const text = Buffer.from(why)
      edns.options.push({ code: EdnsOption.EXTENDED_ERROR, data: Uint8Array.from([code >> 8, code & 255, ...text]) })
    }
    const bytes = encodeMessage({
      id: 0,
      flags: Flag.QR | (message.flags & (Flag.RD | Flag.CD)) | this.#ra() | Rcode.SERVFAIL,
      questions: [question],
      ...(edns ? { edns } : {}),
    })
    this.#finish(job, bytes, 0)
  }

  /** Answers all who asked, and keeps the answer for `ttl` seconds. */
  #finish(job: Job, bytes: Uint8Array, ttl: number): void {
    this.#jobs.delete(job.key)
    const { scanned } = job
    for (const { asker, id, question, payloadSize } of job.askers) {
      this.#count(bytes[3]! & 15)
      const answer = job.askers.length > 1 || ttl > 0 ? bytes.slice() : bytes
      answer[0] = id >>> 8
      answer[1] = id
      answer.set(question, HEADER)
      asker.reply(fitAnswer(answer, HEADER + question.length, asker.overTcp ? 65535 : Math.min(payloadSize, MOST_UDP)))
    }
    if (ttl <= 0 || !job.isPlain || !this.cache.enabled) return
    const walked = walkRecords(bytes)
    if (!walked) return
    this.cache.store({
      bytes,
      questionStart: HEADER,
      questionEnd: scanned.questionEnd,
      variant: scanned.variant,
      ttlAt: walked.records.filter(r => r.type !== Type.OPT).map(r => r.ttlAt),
      now: this.#ports.now(),
      ttl,
      staleFor: this.#settings.serveStale,
    })
  }

  #replyFromCache(entry: CachedAnswer, query: Uint8Array, scan: ScannedQuery, asker: Asker): void {
    const answer = entry.bytes.slice()
    answer[0] = query[0]!
    answer[1] = query[1]!
    answer.set(query.subarray(HEADER, scan.questionEnd), HEADER)
    this.#count(answer[3]! & 15)
    asker.reply(fitAnswer(answer, scan.questionEnd, asker.overTcp ? 65535 : Math.min(scan.payloadSize, MOST_UDP)))
  }

  #count(rcode: number): void {
    this.counts.rcode[rcode] = (this.counts.rcode[rcode] ?? 0) + 1
  }
}

function addressesIn(answer: Uint8Array, type: number): string[] {
  const records = walkRecords(answer)?.records.filter(r => r.section === 'answer' && r.type === type) ?? []
  return records.map(({ dataAt, end }) => formatAddress(answer.subarray(dataAt, end)))
}

function ednsOfOurs(asked: Edns): Edns {
  return { payloadSize: MOST_UDP, extendedRcode: 0, version: 0, dnssecOk: asked.dnssecOk, options: [] }
}

// RFC 2308 section 5
function negativeTtl(answer: Message): number {
  const soa = answer.authority.find(r => r.type === Type.SOA)
  if (!soa) return NO_AA_TTL
  const minimum = new DataView(soa.data.buffer, soa.data.byteOffset + soa.data.length - 4, 4).getUint32(0)
  return Math.min(soa.ttl, minimum, NO_AA_TTL * 5)
}

function ttlOfForwarded(answer: Uint8Array, walked: NonNullable<ReturnType<typeof walkRecords>>): number {
  const rcode = answer[3]! & 15
  if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN) return rcode === Rcode.SERVFAIL ? FAILURE_TTL : 0
  const records = walked.records.filter(r => r.type !== Type.OPT)
  const hasAnswer = records.some(r => r.section === 'answer')
  let ttl = MOST_TTL
  for (const record of records) ttl = Math.min(ttl, record.ttl)
  if (hasAnswer && rcode === Rcode.NOERROR) return ttl
  const soa = records.find(r => r.section === 'authority' && r.type === Type.SOA)
  if (!soa) return 0
  const minimum = new DataView(answer.buffer, answer.byteOffset + soa.end - 4, 4).getUint32(0)
  return Math.min(ttl, minimum, 3600)
}

/** As it is, or cut to the question with TC set (and its OPT record, if that is its last). */
export function fitAnswer(answer: Uint8Array, questionEnd: number, most: number): Uint8Array {
  if (answer.length <= most) return answer
  const opt = walkRecords(answer)?.records.find(r => r.type === Type.OPT)
  const optBytes = opt && opt.end - opt.start <= most - questionEnd ? answer.subarray(opt.start, opt.end) : undefined
  const cut = new Uint8Array(questionEnd + (optBytes?.length ?? 0))
  cut.set(answer.subarray(0, questionEnd))
  cut.fill(0, 6, HEADER)
  cut[2]! |= 2
  if (optBytes) {
    cut.set(optBytes, questionEnd)
    cut[11] = 1
  }
  return cut
}

/** The query as it came, with id 0; its OPT record last, without cookies, and with no more room than we take. */
function forwardQuery(job: Job): { bytes: Uint8Array; optAt: number } {
  const { message, query, scanned } = job
  if (!message.edns) {
    const bytes = query.slice(0, scanned.questionEnd)
    bytes.fill(0, 6, HEADER)
    bytes[0] = 0
    bytes[1] = 0
    return { bytes, optAt: 0 }
  }
  const options = message.edns.options.filter(o => o.code !== EdnsOption.COOKIE && o.code !== EdnsOption.KEEPALIVE)
  const edns = { ...message.edns, payloadSize: Math.min(Math.max(512, message.edns.payloadSize), MOST_UDP), options }
  const bytes = encodeMessage({ id: 0, flags: message.flags, questions: message.questions, edns })
  return { bytes, optAt: scanned.questionEnd }
}
