/**
 * Reading back: is each record where other networks will look for it?
 *
 *   expect(set) ──► asked soon, and again after 0.2, 0.5, 1, 2 … s ──► every server says the same: right
 *   right ──► each interval one question for the serial of each server ── another serial: all sets again, at a measured pace
 *               └─ a set that was right is wrong: drift
 *
 * Resolvers keep answers: through one (mode Resolver) there is no serial worth asking for, so all sets are asked for again at that pace, and a name that was
 * asked for too early is not found until its negative answer has run out. A server that does not answer proves nothing: what was right stays right, what was not
 * is waited for. At most 32 questions are on their way at a time.
 */
import { Flag, formatRcode, Rcode, Type } from '../../dns/constants.ts'
import { decodeSoa, type Message, rcodeOf, stringsOf } from '../../dns/message.ts'
import { lowerName, type Name, parseName } from '../../dns/name.ts'
import { formatAddress } from '../../ipref/address.ts'
import type { Clock } from '../../runtime/clock.ts'
import { type Server, showServer } from './endpoints.ts'
import { type RecordSet, setKey, type ZoneKind } from './records.ts'

export interface ReadBackSettings {
  /** answers must come from an authority */
  isAuthoritative: boolean
  intervalMs: number
  zones: ReadonlyMap<ZoneKind, string>
}

export interface ReadBackPorts {
  clock: Clock
  /** 0 to 1 */
  random(): number
  ask(server: Server, question: { name: Name; type: number }): Promise<Message | undefined>
  servers(kind: ZoneKind): Promise<readonly Server[]>
  /** What is known of it changed. */
  onEntry(entry: ReadEntry): void
  /** It was right, and is not any more. */
  onDrift(entry: ReadEntry): void
}

export interface ReadEntry {
  kind: ZoneKind
  /** what shall be there; undefined: nothing of `former` any more */
  set: RecordSet | undefined
  former: RecordSet | undefined
  state: 'unknown' | 'right' | 'wrong'
  /** where it is not right, or why it is not known */
  problem: string | undefined
  wasRight: boolean
  tries: number
}

const AT_ONCE = 32
const FIRST_WAITS_MS = [200, 500, 1000, 2000, 4000, 8000, 15_000]
/** Sets that nobody waits for, in a second. */
const PACE = 200
const NO_SERVERS = 'no server of the zone is known: name one in readBack.servers'

export class ReadBack {
  readonly #settings: ReadBackSettings
  readonly #ports: ReadBackPorts
  readonly #entries = new Map<ZoneKind, Map<string, ReadEntry>>([
    ['internal', new Map()],
    ['public', new Map()],
  ])
  readonly #timers = new Map<ReadEntry, () => void>()
  readonly #waiting = new Set<ReadEntry>()
  /** serial of each server when all sets were right there */
  readonly #serials = new Map<string, number>()
  readonly #cancels: (() => void)[] = []
  #running = 0
  #isStopped = false
  asked = 0

  constructor(settings: ReadBackSettings, ports: ReadBackPorts) {
    this.#settings = settings
    this.#ports = ports
  }

  start(): void {
    for (const kind of this.#settings.zones.keys()) this.#lookLater(kind)
  }

  stop(): void {
    this.#isStopped = true
    for (const cancel of [...this.#timers.values(), ...this.#cancels]) cancel()
    this.#timers.clear()
    this.#waiting.clear()
  }

  get(kind: ZoneKind, key: string): ReadEntry | undefined {
    return this.#entries.get(kind)!.get(key)
  }

  /** Sets that are not known to be right. */
  get pending(): number {
    return this.#timers.size + this.#waiting.size + this.#running
  }

  expect(kind: ZoneKind, set: RecordSet): void {
    this.#put(
      { kind, set, former: undefined, state: 'unknown', problem: undefined, wasRight: false, tries: 0 },
      setKey(set),
    )
  }

  /** Until it is gone. */
  expectGone(kind: ZoneKind, former: RecordSet): void {
    this.#put(
      { kind, set: undefined, former, state: 'unknown', problem: undefined, wasRight: false, tries: 0 },
      setKey(former),
    )
  }

  forget(kind: ZoneKind, key: string): void {
    const entries = this.#entries.get(kind)!
    const entry = entries.get(key)
    if (!entry) return
    entries.delete(key)
    this.#drop(entry)
  }

  #put(entry: ReadEntry, key: string): void {
    this.forget(entry.kind, key)
    this.#entries.get(entry.kind)!.set(key, entry)
    this.#again(entry)
  }

  #drop(entry: ReadEntry): void {
    this.#timers.get(entry)?.()
    this.#timers.delete(entry)
    this.#waiting.delete(entry)
  }

  #isCurrent(entry: ReadEntry): boolean {
    return !this.#isStopped && this.get(entry.kind, setKey((entry.set ?? entry.former)!)) === entry
  }

  /** Those that are waited for are asked for now: an output has just published. */
  hurry(kinds: readonly ZoneKind[]): void {
    for (const entry of [...this.#timers.keys()]) {
      if (!kinds.includes(entry.kind)) continue
      entry.tries = Math.min(entry.tries, 1)
      this.#drop(entry)
      this.#again(entry)
    }
  }

  #again(entry: ReadEntry): void {
    const { clock, random } = this.#ports
    const { intervalMs } = this.#settings
    const waitMs = Math.min(FIRST_WAITS_MS[entry.tries] ?? intervalMs, intervalMs)
    this.#timers.set(
      entry,
      clock.after(waitMs * (0.75 + random() / 2), () => {
        this.#timers.delete(entry)
        this.#queue(entry)
      }),
    )
  }

  #queue(entry: ReadEntry): void {
    if (!this.#isCurrent(entry)) return
    this.#waiting.add(entry)
    this.#pump()
  }

  #pump(): void {
    while (this.#running < AT_ONCE) {
      const next = this.#waiting.values().next()
      if (next.done) return
      this.#waiting.delete(next.value)
      this.#running++
      void this.#check(next.value)
    }
  }

  async #check(entry: ReadEntry): Promise<void> {
    const outcome = await this.#read(entry).catch(error => ({
      is: 'silent' as const,
      problem: (error as Error).message,
    }))
    this.#running--
    if (this.#isCurrent(entry)) this.#settle(entry, outcome)
    this.#pump()
  }

  #settle(entry: ReadEntry, { is, problem }: Outcome): void {
    const before = { state: entry.state, problem: entry.problem }
    entry.tries++
    if (is === 'right') {
      entry.state = 'right'
      entry.wasRight = true
      entry.problem = undefined
    } else if (!(is === 'silent' && before.state === 'right')) {
      entry.state = is === 'wrong' ? 'wrong' : before.state
      entry.problem = problem
    }
    if (before.state === 'right' && entry.state === 'wrong') {
      entry.tries = 0
      this.#ports.onDrift(entry)
    }
    if (!this.#isCurrent(entry)) return
    if (entry.state !== before.state || entry.problem !== before.problem) this.#ports.onEntry(entry)
    if (this.#isCurrent(entry) && entry.state !== 'right') this.#again(entry)
  }

  async #read(entry: ReadEntry): Promise<Outcome> {
    const servers = await this.#ports.servers(entry.kind)
    if (servers.length === 0) return { is: 'silent', problem: NO_SERVERS }
    const { name: text, type } = (entry.set ?? entry.former)!
    const question = { name: parseName(text)!, type: Type[type] }
    const outcomes = await Promise.all(
      servers.map(async server => {
        this.asked++
        const answer = await this.#ports.ask(server, question)
        return judge(answer, question, entry, this.#settings.isAuthoritative, showServer(server))
      }),
    )
    const silent = unreached(servers, entry.kind === 'internal' ? withoutStrangers(outcomes) : outcomes)
    return outcomes.find(({ is }) => is === 'wrong') ?? silent ?? { is: 'right' }
  }

  // ---- what changed without us

  #lookLater(kind: ZoneKind): void {
    const { clock, random } = this.#ports
    this.#later(clock, this.#settings.intervalMs * (0.75 + random() / 2), async () => {
      await this.#look(kind).catch(() => {})
      if (!this.#isStopped) this.#lookLater(kind)
    })
  }

  #later(clock: Clock, ms: number, run: () => Promise<void>): void {
    const cancel = clock.after(ms, () => {
      this.#cancels.splice(this.#cancels.indexOf(cancel), 1)
      void run()
    })
    this.#cancels.push(cancel)
  }

  async #look(kind: ZoneKind): Promise<void> {
    const serials = this.#settings.isAuthoritative ? await this.#newSerials(kind) : undefined
    if (serials?.size === 0) return
    const right = [...this.#entries.get(kind)!.values()].filter(({ state }) => state === 'right')
    for (let at = 0; at < right.length && !this.#isStopped; at += PACE) {
      for (const entry of right.slice(at, at + PACE)) this.#queue(entry)
      if (at + PACE < right.length)
        await new Promise<void>(resolve => this.#later(this.#ports.clock, 1000, async () => resolve()))
    }
    for (const [server, serial] of serials ?? []) this.#serials.set(server, serial)
  }

  /** Of servers whose zone is not the one that was looked through last. */
  async #newSerials(kind: ZoneKind): Promise<Map<string, number>> {
    const name = parseName(this.#settings.zones.get(kind)!)!
    const found = new Map<string, number>()
    for (const server of await this.#ports.servers(kind)) {
      this.asked++
      const answer = await this.#ports.ask(server, { name, type: Type.SOA })
      const soa = answer?.answers.find(({ type }) => type === Type.SOA)
      if (!soa) continue
      const { serial } = decodeSoa(soa.data)
      const key = `${kind} ${showServer(server)}`
      if (this.#serials.get(key) !== serial) found.set(key, serial)
    }
    return found
  }
}

interface Outcome {
  is: 'right' | 'wrong' | 'silent'
  problem?: string
  /** the server knows nothing of the zone */
  isStranger?: boolean
}

/**
 * Both zones are said to be served by the same name servers, and those of the public one seldom know the internal one: where another answers for it,
 * one that refuses is not one of its servers.
 */
function withoutStrangers(outcomes: readonly Outcome[]): readonly Outcome[] {
  if (outcomes.every(({ is }) => is === 'silent')) return outcomes
  return outcomes.map(outcome => (outcome.isStranger ? { is: 'right' } : outcome))
}

/** Of a server that answers at none of its addresses: from a network of one IP version half of them cannot be reached. */
function unreached(servers: readonly Server[], outcomes: readonly Outcome[]): Outcome | undefined {
  const nameOf = (server: Server) => server.name ?? showServer(server)
  const answering = new Set(servers.filter((_, i) => outcomes[i]!.is !== 'silent').map(nameOf))
  return outcomes.find(({ is }, i) => is === 'silent' && !answering.has(nameOf(servers[i]!)))
}

/** What one server says of one set. Pure. */
export function judge(
  answer: Message | undefined,
  question: { name: Name; type: number },
  { set, former }: Pick<ReadEntry, 'set' | 'former'>,
  isAuthoritative: boolean,
  server: string,
): Outcome {
  const wanted = (set ?? former)!
  const say = (is: 'wrong' | 'silent', what: string): Outcome => ({
    is,
    problem: `${server}: ${wanted.name} ${wanted.type}: ${what}`,
  })
  if (!answer) return say('silent', 'no answer')
  const rcode = rcodeOf(answer)
  if (rcode === Rcode.REFUSED || rcode === Rcode.NOTAUTH)
    return { ...say('silent', formatRcode(rcode)), isStranger: true }
  if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN) return say('silent', formatRcode(rcode))
  if (isAuthoritative && (answer.flags & Flag.AA) === 0)
    return say('silent', 'not answered by an authority of the zone')
  const values = new Set(valuesOf(answer, question))
  if (!set) return wanted.values.some(value => values.has(value)) ? say('wrong', 'still there') : { is: 'right' }
  if (values.size === 0) return say('wrong', rcode === Rcode.NXDOMAIN ? 'no such name yet' : 'no such records yet')
  const isSame = values.size === set.values.length && set.values.every(value => values.has(value))
  return isSame ? { is: 'right' } : say('wrong', 'other records')
}

/** Addresses, or AA strings; of TXT records for others nothing is said. */
function valuesOf({ answers }: Message, { name, type }: { name: Name; type: number }): string[] {
  const own = answers.filter(record => record.type === type && lowerName(record.name) === lowerName(name))
  if (type !== Type.TXT) return own.map(({ data }) => formatAddress(data))
  return own.flatMap(({ data }) => stringsOf(data)).filter(text => text.startsWith('AA '))
}
