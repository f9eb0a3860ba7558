/**
 * The resolver with its real way of asking (Upstreams), between hostile askers and hostile servers, in a time of its own: nothing waits, days go by.
 *
 *   askers ──► Resolver ──► Upstreams ──► questions that are open ──► answers that fit, lie, come late, twice, from elsewhere, or never
 *                  └──────► mapper: an address, refused, silent
 *
 * Now and then nobody answers any more: after that every question must have ended, and every asker must have had one answer.
 */
import { formatRcode } from '../../dns/constants.ts'
import { parseName, ROOT } from '../../dns/name.ts'
import type { ResolverSettings } from '../../gateway/dns/resolver.ts'
import { parseAddress, parsePrefix } from '../../ipref/address.ts'
import type { Corpus } from './dnsCorpus.ts'
import { MessageMutator } from './dnsMutate.ts'
import { type ResolverKind, ResolverWorld, resolverProperties } from './dnsResolverWorld.ts'
import { HostileServer } from './dnsUpstream.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'
import type { Watchdog } from './watchdog.ts'

const MOST_OPEN = 300
/** between two times at which everything must have ended */
const ROUND = 1000
const TARGET = 'resolver'

const P = resolverProperties

const STANDARD: ResolverSettings = {
  domains: [ROOT],
  excluded: [],
  encodedFamilies: [4, 6],
  contextFamilies: [4, 6],
  cacheSize: 0,
  serveStale: 0,
  denyAnswers: [],
  ownContexts: [],
}

const kinds: readonly ResolverKind[] = [
  { settings: { ...STANDARD, cacheSize: 512, serveStale: 600 }, forwarders: 2 },
  { settings: { ...STANDARD, denyAnswers: [parsePrefix('10.240.0.0/12')!], encodedFamilies: [4] }, forwarders: 1 },
  {
    settings: { ...STANDARD, cacheSize: 64, contextFamilies: [4], ownContexts: [parseAddress('198.51.100.1')!] },
    forwarders: 3,
  },
  {
    settings: { ...STANDARD, domains: [parseName('example.com.')!], excluded: [parseName('sub.example.com.')!] },
    forwarders: 0,
  },
]

export class ResolverFuzzer {
  readonly #random: Random
  readonly #corpus: Corpus
  readonly #messages: MessageMutator
  readonly #servers: HostileServer
  readonly #report: Report
  readonly #watchdog: Watchdog
  #world: ResolverWorld
  #steps = 0

  constructor(random: Random, corpus: Corpus, report: Report, watchdog: Watchdog) {
    this.#random = random
    this.#corpus = corpus
    this.#report = report
    this.#watchdog = watchdog
    this.#messages = new MessageMutator(random, [
      ...corpus.questions,
      ...corpus.questions,
      ...corpus.operations,
      ...corpus.signed,
    ])
    this.#servers = new HostileServer(random, new MessageMutator(random, corpus.answers))
    this.#world = new ResolverWorld(random, report, random.pick(kinds))
    report.promise(...Object.values(P))
  }

  one(): void {
    const random = this.#random
    const world = this.#world
    const bytes = random.oneIn(3) ? random.pick(this.#corpus.questions) : this.#messages.next()
    if (bytes.length > 65_535) return
    this.#watchdog.begin(bytes)
    try {
      world.ask(bytes)
      while (world.open > 0 && (world.open > MOST_OPEN || !random.oneIn(4))) world.answer(this.#servers)
      while (world.mapperOpen > 0 && !random.oneIn(3)) world.mapperAnswer()
      if (random.oneIn(30)) world.pass(random.below(random.oneIn(20) ? 100_000 : 900))
      if (++this.#steps % ROUND === 0) this.#renew()
    } catch (error) {
      this.#report.broken(P.throws, (error as Error).stack ?? String(error), bytes)
      this.#world = new ResolverWorld(random, this.#report, random.pick(kinds))
    }
  }

  #renew(): void {
    this.#world.settle()
    if (this.#random.oneIn(2)) this.#world = new ResolverWorld(this.#random, this.#report, this.#random.pick(kinds))
  }

  conclude(): void {
    this.#watchdog.rest()
    this.#world.settle()
    this.#report.requireOutcomes(TARGET, ['dropped', ...[0, 1, 2, 3, 4, 5].map(rcode => formatRcode(rcode))])
    this.#report.requireOutcomes('upstream answers', ['over UDP', 'over TCP', 'from elsewhere', 'silence', 'twice'])
  }
}
