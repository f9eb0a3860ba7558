/**
 * Hostile DNS messages to everything that reads them. Each part has its share of the time; parts in the process do nothing but that, at the rate that
 * the machine allows; the last ones go through real sockets, to a resolver in a process of its own.
 */
import { CodecFuzzer } from './dnsCodec.ts'
import { makeCorpus } from './dnsCorpus.ts'
import { MessageMutator } from './dnsMutate.ts'
import { ResolverFuzzer } from './dnsResolver.ts'
import { SocketsFuzzer } from './dnsSockets.ts'
import { TextsFuzzer } from './dnsTexts.ts'
import { TransfersFuzzer } from './dnsTransfers.ts'
import { ZonesFuzzer } from './dnsZones.ts'
import { Random } from './random.ts'
import type { Report } from './report.ts'
import { Watchdog } from './watchdog.ts'

const BATCH = 200
/** So many at least, however slow the machine is: by then each reason of refusal was met. */
const LEAST = 20_000
const LEAST_TEXTS = 6000

interface Part {
  one(): void
  conclude(): void
}

export async function fuzzDns(run: { seconds: number; seed: number; report: Report }): Promise<void> {
  const { seconds, seed, report } = run
  const watchdog = new Watchdog(seed)
  const corpus = makeCorpus()
  const every = [...corpus.questions, ...corpus.answers, ...corpus.operations, ...corpus.signed]
  console.log(`${every.length} valid messages, ${corpus.zoneTexts.length} zone texts`)
  const chance = (part: number) => new Random(seed + part * 7919)
  const mutator = (part: number, seeds: readonly Uint8Array[]) => new MessageMutator(chance(part + 100), seeds)
  const parts: { part: Part; share: number; least?: number }[] = [
    { part: new CodecFuzzer(chance(1), mutator(1, every), report, watchdog), share: 0.25 },
    { part: new ResolverFuzzer(chance(3), corpus, report, watchdog), share: 0.3 },
    { part: new ZonesFuzzer(chance(2), corpus, report, watchdog), share: 0.15 },
    { part: new TextsFuzzer(chance(4), corpus, report, watchdog), share: 0.08, least: LEAST_TEXTS },
  ]
  for (const { part, share, least = LEAST } of parts) {
    const until = performance.now() + seconds * share * 1000
    for (let done = 0; (done < least || performance.now() < until) && !report.isHopeless; done += BATCH)
      for (let i = 0; i < BATCH; i++) part.one()
    part.conclude()
    watchdog.rest()
  }
  await new TransfersFuzzer(chance(5), corpus, report).run(seconds * 0.07)
  await new SocketsFuzzer(chance(6), corpus, report).run(seconds * 0.15)
}
