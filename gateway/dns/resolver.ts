/**
 * The special resolver (wire.md section 5): what is asked, what is found out about it, what is answered. Free of sockets and threads; nothing here
 * waits, everything calls back.
 *
 *   query ──► answer cache ──► A, AAAA below our domains ──► TXT at the upstreams ──► AA strings ──► contexts ──► mapper ──► answer
 *                                        │                                    └ none: forwarders, else SERVFAIL
 *                                        └ everything else: PTR of an encoded address, forwarders, else SERVFAIL
 *
 * Routes (routes.ts) say who the upstreams and forwarders of a name are. With an uplink another resolver maps: names with AA records are handed to it.
 * What is handed on goes to the forwarder as it came and comes back byte for byte, but for the id and a cookie of ours. Equal
 * questions that are open at the same time are asked once. Nothing is guessed: where the mapper or the upstreams say nothing, the answer is SERVFAIL
 * with the reason (RFC 8914).
 *
 * Longer than other files: it is one machine, from a query to its answer, whose steps share the jobs that are open. What is looked up is in aaLookup.ts, what
 * is handed on in forwarding.ts.
 */
import { Class, EdnsOption, ExtendedError, Flag, Opcode, Rcode, Type } from '../../dns/constants.ts'
import {
  decodeMessage,
  type Edns,
  encodeMessage,
  HEADER,
  type Message,
  opcodeOf,
  type Question,
  type ResourceRecord,
} from '../../dns/message.ts'
import { addressOfReverse, formatName, isAtOrBelow, lowerName, type Name, nameToBytes, ROOT } from '../../dns/name.ts'
import { isWhole, Scan, type ScannedQuery, scanQuery, Variant, walkRecords } from '../../dns/packet.ts'
import { equalAddress, formatAddress, type Prefix, prefixContains } from '../../ipref/address.ts'
import { isContext } from '../mapper/assertions.ts'
import { type AaFound, AaLookup, type AaResult, endOf, type Remote } from './aaLookup.ts'
import type { NewNameBudget } from './access.ts'
import { AnswerCache, type CachedAnswer } from './answerCache.ts'
import { fitAnswer, forwardQuery, holdsAddressIn, leastOfAny, ttlOfForwarded } from './forwarding.ts'
import type { MapperAnswer } from './mapperClient.ts'
import { Memory } from './memory.ts'
import { noRouting, RouteTable, type Routing, serverText } from './routes.ts'
import { MOST_UDP } from './upstreamAnswers.ts'
import { findOpt, type ServerState, type Upstreams, withoutCookie } from './upstreams.ts'

/** A mapping is good for three quarters of its lifetime, at least, after the mapper said so (wire.md section 2, lifetimes). */
export const MAPPING_TTL = 10_800
const REVERSE_TTL = 60
/** RFC 9520: a failure is remembered, so that a storm of questions does not become one of retries. */
const FAILURE_TTL = 2
/** Some of what a name has could not be found out. */
const PARTIAL_TTL = 5
const STALE_TTL = 30
/** Longer answers are not kept: the size of the memory is that of its entries. */
const MOST_KEPT_BYTES = 4096
const MOST_NAMES = 100_000
const MOST_JOBS = 20_000
/** of one question that is open */
const MOST_ASKERS = 2000
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
  /** for TXT, and the addresses of contexts, where no route says otherwise; so the forwarders */
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
  /** whose budget new names are charged to */
  readonly from: string
  /** bytes that an answer may have */
  readonly most: number
  /** asks from the port of a service: is not told of errors, lest two services talk to each other for ever (CVE-2024-2169) */
  readonly isService: boolean
  reply(answer: Uint8Array): void
}

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
  /** the answer may be kept; not when what it follows from has changed */
  isCurrent: boolean
}

/** Who a question is handed on to. */
interface HandOver {
  servers: readonly ServerState[]
  /** addresses that the answer may hold although they are denied */
  mayHold: readonly Prefix[]
  who: string
}

interface Failure {
  code: number
  why: string
  /** seconds that it is remembered; what may be right again at once is not */
  keepFor?: number
  /** without an EDE */
  isOrdinary?: true
}

/** What the mapper says, and that a host of ours has no address of that family. */
type Mapped = MapperAnswer | 'other-family'

export class Resolver {
  readonly #settings: ResolverSettings
  readonly #ports: ResolverPorts
  readonly cache: AnswerCache
  readonly #lookup: AaLookup
  readonly #namesOfEncoded = new Memory<Name>(MOST_NAMES)
  /** what the mapper was asked for lately: asking again costs it nothing */
  readonly #mapped = new Memory<true>(2 * MOST_NAMES)
  readonly #jobs = new Map<string, Job>()
  readonly routes: RouteTable
  #routing = noRouting
  #uplink: readonly ServerState[] = []
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
    const { contextFamilies: families } = settings
    const { upstreams, upstreamServers, forwarders } = ports
    this.routes = new RouteTable({ upstreams: upstreamServers, forwarders }, server => upstreams.makeState(server))
    const servers = { upstreams, serversFor: (name: Name) => this.routes.wayOf(name).upstreams }
    this.#lookup = new AaLookup(servers, { families, keeps: this.cache.enabled }, () => ports.now())
  }

  /** Answers below domains that are routed in another way are forgotten, others stay; an answer that came there by an alias runs out by itself. */
  setRouting(routing: Routing): void {
    const before = this.#routing
    this.#routing = routing
    const changed = this.routes.set(routing.routes)
    if (!isEqual(before.uplink.map(serverText), routing.uplink.map(serverText))) {
      this.#uplink = routing.uplink.map(server => this.#ports.upstreams.makeState(server))
      changed.push(ROOT)
    }
    if (!isEqual(before.ownContexts.map(formatAddress), routing.ownContexts.map(formatAddress))) changed.push(ROOT)
    if (changed.length > 0) this.#forget(changed)
  }

  get uplink(): readonly ServerState[] {
    return this.#uplink
  }

  get ownContexts(): readonly Uint8Array[] {
    return [...this.#settings.ownContexts, ...this.#routing.ownContexts]
  }

  #forget(domains: readonly Name[]): void {
    const isGone = (name: Name) => domains.some(domain => isAtOrBelow(name, domain))
    this.cache.forget(question => isGone(Buffer.from(question.subarray(0, -4)).toString('latin1')))
    this.#lookup.forget(domains)
    // who waits gets what was asked for; who asks from now on does not wait for it
    for (const [key, job] of this.#jobs) {
      if (!isGone(lowerName(job.question.name))) continue
      job.isCurrent = false
      this.#jobs.delete(key)
    }
  }

  get open(): number {
    return this.#jobs.size
  }

  /** After the mapper lost its mappings: nothing that came from it is shown any more. */
  forgetMappings(): void {
    this.cache.clear()
    this.#namesOfEncoded.clear()
    this.#mapped.clear()
  }

  /** What is kept for a name, for a person who asks. */
  remembered(name: Name): Remembered {
    const now = this.#ports.now()
    const key = lowerName(name)
    const aa = this.#lookup.remembered(name)
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
      aa: aa && {
        found: aa.result.kind,
        strings: aa.result.kind === 'found' ? aa.result.strings.length : 0,
        left: aa.left,
      },
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
    if (asker.isService) return
    const flags = (query[2]! << 8) | query[3]!
    // what another operation looks like, nobody knows
    const rcode = opcodeOf(flags) === Opcode.QUERY ? Rcode.FORMERR : Rcode.NOTIMP
    this.#count(rcode)
    const id = (query[0]! << 8) | query[1]!
    asker.reply(encodeMessage({ id, flags: Flag.QR | (flags & (0x7800 | Flag.RD)) | rcode }))
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
    if (asker.isService) return
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
    // options that nobody knows may change the answer: shared with those who ask with the same ones alone
    const rest = mayShare ? '' : Buffer.from(query.subarray(scan.questionEnd)).toString('latin1')
    const key = `${asker.overTcp ? 't' : 'u'}${scan.variant} ${question.type} ${question.class} ${lowerName(question.name)}${rest}`
    const one = {
      asker,
      id: message.id,
      question: query.slice(HEADER, scan.questionEnd),
      payloadSize: scan.payloadSize,
    }
    const open = this.#jobs.get(key)
    // one that found its question full of askers is one too many: it is not remembered, so it is answered and gone
    if (open && open.askers.length >= MOST_ASKERS) {
      this.counts.busy++
      const busy: Job = { ...open, key: '', askers: [one], query, message, question, scanned: scan, isPlain: false }
      return this.#fail(busy, { code: ExtendedError.other, why: 'too many ask the same at once' })
    }
    if (open) {
      this.counts.joined++
      open.askers.push(one)
      return
    }
    const job: Job = { key, query, message, question, scanned: scan, askers: [one], isPlain: mayShare, isCurrent: true }
    if (this.#jobs.size >= MOST_JOBS) {
      this.counts.busy++
      return this.#fail(job, { code: ExtendedError.other, why: 'too many questions at once' })
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
      if (found) return this.#answerReverse(job, found)
      return this.#isMappedAbove(lower) ? this.#handUp(job) : this.#forward(job)
    }
    const isOurs = (type === Type.A || type === Type.AAAA) && this.looksForAa(lower)
    if (!isOurs) return this.#forward(job)
    this.#lookup.strings(name, result => {
      if (result.kind === 'none') return this.#forward(job)
      if (result.kind === 'failed')
        return this.#fail(job, { code: ExtendedError.noReachableAuthority, why: result.why })
      this.#lookup.remotes(result, remotes => {
        if (remotes !== 'failed') return this.#map(job, result, remotes)
        this.#fail(job, { code: ExtendedError.noReachableAuthority, why: 'no address of the gateway could be found' })
      })
    })
  }

  /** Are AA records looked for? `name` in lower case. */
  looksForAa(name: Name): boolean {
    const { domains, excluded } = this.#settings
    const isBelow = (list: readonly Name[]) => list.some(domain => isAtOrBelow(name, domain))
    if (isBelow(excluded)) return false
    return this.routes.wayOf(name).route?.looksForAa ?? isBelow(domains)
  }

  isOwnContext(context: Uint8Array): boolean {
    return this.ownContexts.some(own => equalAddress(own, context))
  }

  // ---- the mapper

  #map(job: Job, found: AaFound, remotes: { list: readonly Remote[]; ttl: number; isPartial: boolean }): void {
    if (remotes.list.length === 0) return this.#forward(job)
    const family = job.question.type === Type.A ? 4 : 6
    if (!this.#settings.encodedFamilies.includes(family)) return this.#answerAa(job, found, [], remotes.ttl)
    const usable = remotes.list.filter(({ context, reference }) => reference !== 0n && isContext(context))
    if (usable.length === 0) return this.#forward(job)
    if (this.#uplink.length > 0 && !usable.every(({ context }) => this.isOwnContext(context))) return this.#handUp(job)
    const now = this.#ports.now()
    const keyOf = ({ context, reference }: Remote) => `${family} ${formatAddress(context)} ${reference}`
    const unknown = usable.filter(wanted => !this.#mapped.get(keyOf(wanted), now))
    if (unknown.length > 0 && !this.#ports.budget.take(job.askers[0]!.asker.from, unknown.length, now)) {
      this.counts.overBudget++
      return this.#fail(job, { code: ExtendedError.prohibited, why: 'too many new names from this address' })
    }
    const addresses = new Map<string, { address: Uint8Array; isEncoded: boolean }>()
    const faults = new Set<Exclude<Mapped, object>>()
    let open = usable.length
    const take = (answer: Mapped, isEncoded: boolean) => {
      if (typeof answer === 'string') faults.add(answer)
      else addresses.set(formatAddress(answer.encoded), { address: answer.encoded, isEncoded })
      if (--open > 0) return
      const isWhole = !remotes.isPartial && !faults.has('unavailable')
      const ttl = Math.min(remotes.ttl, isWhole ? MAPPING_TTL : PARTIAL_TTL)
      if (addresses.size > 0) return this.#answerAa(job, found, [...addresses.values()], ttl)
      if (faults.has('unavailable'))
        return this.#fail(job, { code: ExtendedError.notReady, why: 'the mapper does not answer' })
      if (faults.has('other-family')) return this.#answerAa(job, found, [], ttl)
      this.#fail(job, { code: ExtendedError.other, why: 'the mapper has no address for it' })
    }
    const name = formatName(job.question.name)
    for (const wanted of usable) {
      const { context, reference } = wanted
      this.#mapped.set(keyOf(wanted), true, now + MAPPING_TTL)
      if (this.isOwnContext(context)) this.#nativeOf(family, reference, answer => take(answer, false))
      else this.#ports.mapper({ family, context, reference, name }, answer => take(answer, true))
    }
  }

  // a host of ours is reached as it is: no packet of ours to us goes through the gateway
  #nativeOf(family: 4 | 6, reference: bigint, done: (answer: Mapped) => void): void {
    const { native } = this.#ports
    native({ family, reference }, address => {
      if (address) return done({ encoded: address })
      native({ family: family === 4 ? 6 : 4, reference }, other => done(other ? 'other-family' : 'refused'))
    })
  }

  #answerAa(job: Job, found: AaFound, addresses: { address: Uint8Array; isEncoded: boolean }[], ttl: number): void {
    const { question, message } = job
    const { chain } = found
    const now = this.#ports.now()
    const owner = endOf(chain, question.name)
    // each alias under the name that the one before it gives
    const answers: ResourceRecord[] =
      addresses.length === 0 ? [] : chain.map((link, i) => ({ ...link, name: endOf(chain.slice(0, i), question.name) }))
    for (const { address: data, isEncoded } of addresses) {
      answers.push({ name: owner, type: question.type, class: Class.IN, ttl, data })
      if (isEncoded) this.#namesOfEncoded.set(formatAddress(data), question.name, now + Math.max(ttl, REVERSE_TTL))
    }
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
    const record = { name: question.name, type: Type.PTR, class: Class.IN, ttl: REVERSE_TTL, data: nameToBytes(target) }
    const bytes = encodeMessage({
      id: 0,
      flags: Flag.QR | (message.flags & (Flag.RD | Flag.CD)) | this.#ra(),
      questions: [question],
      answers: [record],
      ...(message.edns ? { edns: ednsOfOurs(message.edns) } : {}),
    })
    this.#finish(job, bytes, REVERSE_TTL)
  }

  // ---- forwarders

  #forward(job: Job): void {
    const { route, forwarders: servers } = this.routes.wayOf(job.question.name)
    if (servers.length === 0)
      return this.#fail(job, { code: ExtendedError.other, why: 'no AA record, and no forwarders', isOrdinary: true })
    this.#handOver(job, { servers, mayHold: route?.mayHold ?? [], who: 'the forwarders' })
  }

  // the address is the mapper's, though not the mapper's here
  #handUp(job: Job): void {
    const { denyAnswers: mayHold } = this.#settings
    this.#handOver(job, { servers: this.#uplink, mayHold, who: 'the active gateway' })
  }

  #isMappedAbove(name: Name): boolean {
    const address = this.#uplink.length > 0 ? addressOfReverse(name) : undefined
    return address !== undefined && this.#settings.denyAnswers.some(prefix => prefixContains(prefix, address))
  }

  #handOver(job: Job, over: HandOver): void {
    this.counts.forwarded++
    const { bytes, optAt } = forwardQuery(job.query, job.message, job.scanned.questionEnd)
    this.#ports.upstreams.ask({
      servers: over.servers,
      message: bytes,
      optAt,
      transport: job.askers[0]!.asker.overTcp ? 'tcp' : 'udp',
      letters: 'asked',
      isReadable: isWhole,
      done: answer => {
        const why = `no answer from ${over.who}`
        if (!answer) return this.#fail(job, { code: ExtendedError.networkError, why, keepFor: FAILURE_TTL })
        this.#handOn(job, optAt > 0 ? withoutCookie(answer) : answer, over)
      },
    })
  }

  #handOn(job: Job, handed: Uint8Array, { mayHold }: HandOver): void {
    // a server that does not know EDNS and says no more: the asker does without it
    if (handed.length === HEADER) return this.#bareError(job, handed[3]! & 15)
    const answer = job.question.type === Type.ANY ? leastOfAny(handed) : handed
    const walked = answer && walkRecords(answer)
    if (!answer || !walked)
      return this.#fail(job, { code: ExtendedError.other, why: 'the answer of the forwarder is malformed' })
    if (holdsAddressIn(answer, walked, this.#settings.denyAnswers, mayHold)) {
      this.counts.denied++
      const why = 'the answer of the forwarder holds an address that only the mapper gives'
      return this.#fail(job, { code: ExtendedError.prohibited, why, keepFor: FAILURE_TTL })
    }
    const rcode = answer[3]! & 15
    if ((rcode === Rcode.SERVFAIL || rcode === Rcode.REFUSED) && this.#showStale(job)) return
    const isCut = (answer[2]! & 2) !== 0
    this.#finish(job, answer, isCut ? 0 : ttlOfForwarded(answer, walked))
  }

  #bareError(job: Job, rcode: number): void {
    const flags = Flag.QR | (job.message.flags & (Flag.RD | Flag.CD)) | this.#ra() | rcode
    this.#finish(job, encodeMessage({ id: 0, flags, questions: [job.question] }), 0)
  }

  // ---- answers

  #fail(job: Job, { code, why, keepFor = 0, isOrdinary }: Failure): void {
    if (this.#showStale(job)) return
    const { message, question } = job
    const edns = message.edns && ednsOfOurs(message.edns)
    if (edns && !isOrdinary) edns.options.push(extendedError(code, why))
    const bytes = encodeMessage({
      id: 0,
      flags: Flag.QR | (message.flags & (Flag.RD | Flag.CD)) | this.#ra() | Rcode.SERVFAIL,
      questions: [question],
      ...(edns ? { edns } : {}),
    })
    this.#finish(job, bytes, keepFor)
  }

  // RFC 8767: what ran out is shown once more, and not looked for again so soon
  #showStale(job: Job): boolean {
    const { serveStale } = this.#settings
    const { query, scanned } = job
    const now = this.#ports.now()
    const entry = serveStale > 0 && this.cache.findStale(query, HEADER, scanned.questionEnd, scanned.variant, now)
    if (!entry) return false
    this.counts.stale++
    const bytes = entry.bytes.slice()
    for (const at of entry.ttlAt) bytes.set([0, 0, 0, STALE_TTL], at)
    const left = entry.staleUntil - now
    this.#finish(job, withStaleError(bytes), Math.min(STALE_TTL, left), Math.max(0, left - STALE_TTL))
    return true
  }

  /** Answers all who asked, and keeps the answer for `ttl` seconds, and for `staleFor` more. */
  #finish(job: Job, bytes: Uint8Array, ttl: number, staleFor = this.#settings.serveStale): void {
    if (job.isCurrent) this.#jobs.delete(job.key)
    const { scanned } = job
    for (const { asker, id, question, payloadSize } of job.askers) {
      this.#count(bytes[3]! & 15)
      const answer = job.askers.length > 1 || ttl > 0 ? bytes.slice() : bytes
      answer[0] = id >>> 8
      answer[1] = id
      answer.set(question, HEADER)
      asker.reply(fitAnswer(answer, HEADER + question.length, mostFor(asker, payloadSize)))
    }
    const isKept = job.isPlain && job.isCurrent && this.cache.enabled
    if (!isKept || bytes.length > MOST_KEPT_BYTES || ttl <= 0) return
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
      // a failure is never shown for longer
      staleFor: (bytes[3]! & 15) === Rcode.SERVFAIL ? 0 : staleFor,
    })
  }

  #replyFromCache(entry: CachedAnswer, query: Uint8Array, scan: ScannedQuery, asker: Asker): void {
    const answer = entry.bytes.slice()
    answer[0] = query[0]!
    answer[1] = query[1]!
    answer.set(query.subarray(HEADER, scan.questionEnd), HEADER)
    this.#count(answer[3]! & 15)
    asker.reply(fitAnswer(answer, scan.questionEnd, mostFor(asker, scan.payloadSize)))
  }

  #count(rcode: number): void {
    this.counts.rcode[rcode] = (this.counts.rcode[rcode] ?? 0) + 1
  }
}

function isEqual(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i])
}

function addressesIn(answer: Uint8Array, type: number): string[] {
  const records = walkRecords(answer)?.records.filter(r => r.section === 'answer' && r.type === type) ?? []
  return records.map(({ dataAt, end }) => formatAddress(answer.subarray(dataAt, end)))
}

function ednsOfOurs(asked: Edns): Edns {
  return { payloadSize: MOST_UDP, extendedRcode: 0, version: 0, dnssecOk: asked.dnssecOk, options: [] }
}

function mostFor(asker: Asker, payloadSize: number): number {
  return asker.overTcp ? asker.most : Math.min(asker.most, payloadSize, MOST_UDP)
}

function extendedError(code: number, why: string): { code: number; data: Uint8Array } {
  return { code: EdnsOption.EXTENDED_ERROR, data: Uint8Array.from([code >> 8, code & 255, ...Buffer.from(why)]) }
}

// where the OPT record is the last, as in all that we and most others write
function withStaleError(bytes: Uint8Array): Uint8Array {
  const opt = findOpt(bytes)
  if (!opt || opt.end !== bytes.length) return bytes
  const option = [0, EdnsOption.EXTENDED_ERROR, 0, 2, 0, ExtendedError.staleAnswer]
  const out = new Uint8Array(bytes.length + option.length)
  out.set(bytes)
  out.set(option, bytes.length)
  const length = opt.end - opt.dataAt + option.length
  out[opt.dataAt - 2] = length >>> 8
  out[opt.dataAt - 1] = length
  return out
}
