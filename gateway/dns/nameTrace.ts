/**
 * The trace of a name (`ipref trace NAME`): the way of a question, step by step, asked afresh at the same servers and the same mapper, through the same sockets
 * as the resolver asks; and the first thing that is wrong, with what to do about it. Runs in the resolver's thread; nothing here waits, everything calls back.
 *
 *   domain ─ route ─ cache ─ TXT ─ alias ─ AA record … ─ context … ─ mapper … ─ answer
 *
 * A step that is wrong does not end the trace while another AA record may do; it ends where the resolver would have nothing to go on with. Like a question, a
 * trace makes the mapping if there is none.
 */
import { judgeStrings } from '../../dns/aaText.ts'
import { formatRcode, formatType, Rcode, Type } from '../../dns/constants.ts'
import { type Message, nameAt, stringsOf } from '../../dns/message.ts'
import { formatName, isAtOrBelow, lowerName, type Name } from '../../dns/name.ts'
import { formatAddress } from '../../ipref/address.ts'
import { formatReference } from '../../ipref/reference.ts'
import { type Step, Steps } from '../../runtime/steps.ts'
import { isContext } from '../mapper/assertions.ts'
import type { MapperAnswer } from './mapperClient.ts'
import { MAPPING_TTL, type Remembered, type ResolverSettings } from './resolver.ts'
import type { RouteTable, Way } from './routes.ts'
import {
  aaOfString,
  askServers,
  askUpstreams,
  MOST_ADDRESSES,
  MOST_ALIASES,
  MOST_CONTEXT_NAMES,
  MOST_STRINGS,
  type Reading,
  readAnswer,
  type Servers,
} from './upstreamAnswers.ts'
import type { ServerState } from './upstreams.ts'

const MOST_SHOWN = 60

export interface NameTrace {
  steps: Step[]
  /** what the resolver would answer, as text */
  addresses: string[]
  /** steps in which the mapper refused: it knows why */
  refused: { step: number; family: 4 | 6; context: Uint8Array; reference: bigint }[]
}

export interface NameTracePorts extends Servers {
  /** what the resolver knows and has been told */
  resolver: {
    readonly routes: RouteTable
    readonly uplink: readonly ServerState[]
    looksForAa(name: Name): boolean
    isOwnContext(context: Uint8Array): boolean
    remembered(name: Name): Remembered
  }
  mapper(
    wanted: { family: 4 | 6; context: Uint8Array; reference: bigint; name: string },
    done: (answer: MapperAnswer) => void,
  ): void
  native(wanted: { family: 4 | 6; reference: bigint }, done: (address: Uint8Array | undefined) => void): void
  /** milliseconds, monotonic */
  nowMs(): number
}

export interface NameTraceSettings extends ResolverSettings {
  mapperSocket: string
  /** what stands before the names of options: `-resolver-` in the gateway, `-` in `ipref resolver` */
  optionPrefix: string
}

interface Candidate {
  context: Uint8Array
  reference: bigint
}

export function traceName(
  name: Name,
  settings: NameTraceSettings,
  ports: NameTracePorts,
  done: (trace: NameTrace) => void,
): void {
  new Tracing(name, settings, ports, done).start()
}

class Tracing {
  readonly #name: Name
  readonly #shown: string
  readonly #settings: NameTraceSettings
  readonly #ports: NameTracePorts
  readonly #done: (trace: NameTrace) => void
  readonly #steps: Steps
  readonly #trace: NameTrace
  #aliases = 0
  #ttl = MAPPING_TTL

  constructor(name: Name, settings: NameTraceSettings, ports: NameTracePorts, done: (trace: NameTrace) => void) {
    this.#name = lowerName(name)
    this.#shown = formatName(name)
    this.#settings = settings
    this.#ports = ports
    this.#done = done
    this.#steps = new Steps(() => ports.nowMs())
    this.#trace = { steps: this.#steps.all, addresses: [], refused: [] }
  }

  start(): void {
    const way = this.#ports.resolver.routes.wayOf(this.#name)
    if (way.route?.looksForAa === false) return this.#followPlain(way)
    if (!this.#checkDomain()) return this.#end()
    this.#showRoute(way)
    this.#showCache()
    this.#askTxt(this.#name)
  }

  #right(what: string, detail: string, since?: number): void {
    this.#steps.right(what, detail, since)
  }

  #wrong(what: string, detail: string, fix: string, since?: number): void {
    this.#steps.wrong(what, detail, { fix, ...(since === undefined ? {} : { since }) })
  }

  #end(): void {
    this.#done(this.#trace)
  }

  // ---- here

  #forwardersOf(name: Name): readonly ServerState[] {
    return this.#ports.resolver.routes.wayOf(name).forwarders
  }

  #showRoute({ route, upstreams, forwarders }: Way): void {
    if (!route) return
    const asked = `AA records at ${upstreams.map(namesOf).join(', then at ')}`
    const others = forwarders.length > 0 ? `, everything else at ${namesOf(forwarders)}` : ''
    this.#right('route', `${formatName(route.domain)} by ${route.by}: ${asked}${others}`)
  }

  // no AA records are looked for: what others say is the answer
  #followPlain({ route, forwarders }: Way): void {
    const who = `${formatName(route!.domain)} by ${route!.by}`
    this.#right('route', `${who}: no AA records are looked for; asked at ${namesOf(forwarders)}`)
    this.#showCache()
    this.#askElsewhere('answer', forwarders)
  }

  #askElsewhere(what: string, group: readonly ServerState[]): void {
    const { upstreams } = this.#ports
    const { encodedFamilies } = this.#settings
    let open = encodedFamilies.length
    const step = () => {
      if (--open === 0) this.#end()
    }
    for (const family of encodedFamilies) {
      const type = family === 4 ? Type.A : Type.AAAA
      const since = this.#ports.nowMs()
      askServers({ upstreams, group }, { name: this.#name, type }, (answer, from) => {
        this.#judgeElsewhere(what, { type, answer, server: from?.server.text ?? namesOf(group), since })
        step()
      })
    }
  }

  #judgeElsewhere(
    what: string,
    { type, answer, server, since }: { type: number; answer: Message | undefined; server: string; since: number },
  ): void {
    const asked = `${formatType(type)} of ${this.#shown} at ${server}`
    const reading = answer && readAnswer(answer, { name: this.#name, type, mostAliases: MOST_ALIASES })
    const fix = `look whether ${server} runs, is reached from here, and knows ${this.#shown}`
    if (!reading || (reading.rcode !== Rcode.NOERROR && reading.rcode !== Rcode.NXDOMAIN))
      return this.#wrong(
        what,
        `${asked}: ${reading ? `it says ${formatRcode(reading.rcode)}` : 'no answer'}`,
        fix,
        since,
      )
    const addresses = reading.records.map(({ data }) => data)
    for (const address of addresses) this.#give(address)
    if (addresses.length > 0) return this.#right(what, `${asked}: ${addresses.map(formatAddress).join(' ')}`, since)
    if (reading.rcode === Rcode.NOERROR) return this.#right(what, `${asked}: no such record`, since)
    this.#wrong(what, `${asked}: ${this.#shown} does not exist`, fix, since)
  }

  #checkDomain(): boolean {
    const { domains, excluded, optionPrefix } = this.#settings
    const elsewhere = `${this.#forwardersOf(this.#name).length > 0 ? 'the forwarders answer it' : 'it gets SERVFAIL'}`
    const left = excluded.find(domain => isAtOrBelow(this.#name, domain))
    if (left) {
      const detail = `${this.#shown} lies in ${formatName(left)}, where no AA records are looked for: ${elsewhere}`
      this.#wrong('domain', detail, `take ${optionPrefix}except ${formatName(left)} away`)
      return false
    }
    const { resolver } = this.#ports
    const routed = resolver.looksForAa(this.#name) ? resolver.routes.wayOf(this.#name).route?.domain : undefined
    const domain = routed ?? domains.find(one => isAtOrBelow(this.#name, one))
    if (!domain) {
      const list = domains.map(formatName).join(', ')
      const detail = `${this.#shown} lies in none of the domains in which AA records are looked for (${list}): ${elsewhere}`
      this.#wrong('domain', detail, `add its domain with ${optionPrefix}domain`)
      return false
    }
    this.#right(
      'domain',
      domain === '\0' ? 'AA records are looked for in all domains' : `lies in ${formatName(domain)}`,
    )
    return true
  }

  #showCache(): void {
    const { aa, answers } = this.#ports.resolver.remembered(this.#name)
    const parts = answers.map(({ type, addresses, left }) => {
      const shown = addresses.length > 0 ? addresses.join(' ') : 'none'
      return `${formatType(type)} ${shown} for ${Math.ceil(left)} s`
    })
    if (aa)
      parts.push(
        aa.found === 'found'
          ? `${aa.strings} AA record${aa.strings === 1 ? '' : 's'} for ${Math.ceil(aa.left)} s`
          : `that ${aa.found === 'none' ? 'there is no AA record' : 'no server answered'}, for ${Math.ceil(aa.left)} s`,
      )
    this.#right('cache', parts.length > 0 ? `holds ${parts.join('; ')}; asked afresh here` : 'holds nothing of it')
  }

  // ---- TXT

  #askTxt(name: Name): void {
    const since = this.#ports.nowMs()
    const shown = formatName(name)
    askUpstreams(this.#ports, { name, type: Type.TXT }, (answer, from) => {
      if (!answer) return this.#noAnswer('TXT', `TXT of ${shown}`, { name, since })
      const mostAliases = MOST_ALIASES - this.#aliases
      const reading = readAnswer(answer, { name, type: Type.TXT, mostAliases })
      this.#aliases += reading.links.length
      this.#ttl = Math.min(this.#ttl, reading.ttl)
      if (!this.#judgeTxt(reading, name, from, since)) return this.#end()
      if (reading.links.length > 0) this.#right('alias', this.#wayOf(name, reading))
      if (this.#aliases > MOST_ALIASES) {
        const fix = 'let the name lead to its AA record in fewer steps'
        this.#wrong('alias', `more than ${MOST_ALIASES} aliases, one behind the other`, fix)
        return this.#end()
      }
      // the rest of the way lies with other servers
      if (reading.records.length === 0) return this.#askTxt(reading.owner)
      this.#readStrings(reading)
    })
  }

  // false: the resolver has nothing to go on with
  #judgeTxt(reading: Reading, name: Name, from: ServerState | undefined, since: number): boolean {
    const shown = formatName(name)
    const { rcode, records, links, owner } = reading
    const server = from?.server.text ?? 'the server'
    const asked = `TXT of ${shown} at ${server}${this.#silentBefore(name, from)}`
    const publish = `publish it: ${formatName(owner)} IN TXT "AA GATEWAY + REFERENCE"`
    if (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN) {
      const fix = `let ${server} answer for this domain, or name another with ${this.#settings.optionPrefix}upstream`
      this.#wrong('TXT', `${asked}: it says ${formatRcode(rcode)}`, fix, since)
      return false
    }
    if (records.length > 0 || (links.length > 0 && rcode === Rcode.NOERROR)) {
      const what = records.length > 0 ? `${records.length} record${records.length === 1 ? '' : 's'}` : 'an alias'
      this.#right('TXT', `${asked}: ${what}`, since)
      return true
    }
    const missing = rcode === Rcode.NXDOMAIN ? 'does not exist' : 'has no TXT record, so no AA record'
    const forwarded = this.#forwardersOf(this.#name).length > 0 ? '; the forwarders answer instead' : ''
    this.#wrong('TXT', `${asked}: ${formatName(owner)} ${missing}${forwarded}`, publish, since)
    return false
  }

  #noAnswer(what: string, asked: string, { name, since }: { name: Name; since: number }): void {
    const servers = this.#serversFor(name).map(({ server }) => server.text)
    const fix = 'look whether these servers run, and whether this machine reaches them (UDP and TCP)'
    this.#wrong(what, `${asked}: no answer from ${servers.join(', ') || 'anybody'}`, fix, since)
    this.#end()
  }

  // servers that are asked first and keep silent make every question slow
  #silentBefore(name: Name, from: ServerState | undefined): string {
    const servers = this.#serversFor(name)
    const before = from ? servers.slice(0, servers.indexOf(from)) : []
    const silent = before.filter(state => state.silences > 0).map(({ server }) => server.text)
    return silent.length > 0 ? ` (${silent.join(', ')} before it ${silent.length === 1 ? 'is' : 'are'} silent)` : ''
  }

  #serversFor(name: Name): ServerState[] {
    return this.#ports.serversFor(name).flat()
  }

  #wayOf(name: Name, reading: Reading): string {
    return [name, ...reading.links.map(link => nameAt(link.data, 0))].map(formatName).join(' → ')
  }

  // ---- AA records

  #readStrings(reading: Reading): void {
    const all = reading.records.flatMap(({ data }) => stringsOf(data))
    const judgements = reading.records.flatMap(({ data }) => judgeStrings(stringsOf(data)))
    if (all.length > MOST_STRINGS)
      this.#wrong('AA record', `${all.length} strings; the first ${MOST_STRINGS} are looked at`, 'publish fewer')
    for (const { text, findings } of judgements) {
      const [worst] = findings.filter(one => one.severity === 'error')
      const warning = findings[0] ? ` (${findings[0].what})` : ''
      if (worst) this.#wrong('AA record', worst.what, `write ${worst.right}`)
      else this.#right('AA record', `"${text}"${warning}`)
    }
    const found = all.slice(0, MOST_STRINGS).flatMap(text => aaOfString(text) ?? [])
    if (judgements.length === 0) {
      const [first = ''] = all
      const detail = `no AA record among ${all.length} strings, such as "${first.slice(0, MOST_SHOWN).replace(/[^ -~]/g, '?')}"`
      this.#wrong('AA record', detail, 'publish a string that starts with "AA "')
    }
    if (found.length === 0) return this.#end()
    this.#findContexts(found)
  }

  // ---- contexts

  #findContexts(found: readonly { context: Uint8Array | Name; reference: bigint }[]): void {
    const { contextFamilies } = this.#settings
    const candidates = new Map<string, Candidate>()
    const add = (context: Uint8Array, reference: bigint) =>
      candidates.set(`${formatAddress(context)} ${reference}`, { context, reference })
    let open = 1
    const step = () => {
      if (--open === 0) this.#judgeCandidates([...candidates.values()])
    }
    for (const { context, reference } of found) {
      if (typeof context === 'string') continue
      if (contextFamilies.includes(context.length === 4 ? 4 : 6)) add(context, reference)
      else this.#right('context', `${formatAddress(context)}: left out, for this side has no ${ipv(context)} tunnel`)
    }
    const byName = Map.groupBy(found, ({ context }) => (typeof context === 'string' ? lowerName(context) : ''))
    byName.delete('')
    for (const [name, users] of [...byName].slice(0, MOST_CONTEXT_NAMES)) {
      open++
      this.#askContext(name, contextFamilies, this.#ports.nowMs(), addresses => {
        for (const { reference } of users) for (const address of addresses) add(address, reference)
        step()
      })
    }
    step()
  }

  #askContext(
    name: Name,
    families: readonly (4 | 6)[],
    since: number,
    done: (addresses: Uint8Array[]) => void,
    way: Name[] = [name],
  ): void {
    const [family, ...rest] = families
    const shown = way.map(formatName).join(' → ')
    if (family === undefined) {
      const types = this.#settings.contextFamilies.map(one => (one === 4 ? 'A' : 'AAAA')).join(' and no ')
      const fix = `give ${formatName(way.at(-1)!)} an address in its zone, or write the gateway's address into the AA record`
      this.#wrong('context', `${shown} has no ${types} record`, fix, since)
      return done([])
    }
    const type = family === 4 ? Type.A : Type.AAAA
    const asked = way.at(-1)!
    askUpstreams(this.#ports, { name: asked, type }, (answer, from) => {
      const server = from?.server.text ?? namesOf(this.#serversFor(asked))
      const reading = answer && readAnswer(answer, { name: asked, type, mostAliases: MOST_ALIASES - 1 })
      if (!reading || (reading.rcode !== Rcode.NOERROR && reading.rcode !== Rcode.NXDOMAIN)) {
        const said = reading ? `${server} says ${formatRcode(reading.rcode)}` : `no answer from ${server}`
        const fix = `look whether ${server} resolves ${formatName(asked)}`
        this.#wrong('context', `${formatType(type)} of ${shown}: ${said}`, fix, since)
        return done([])
      }
      const full = [...way, ...reading.links.map(link => lowerName(nameAt(link.data, 0)))]
      const addresses = reading.records.slice(0, MOST_ADDRESSES).map(r => r.data)
      if (addresses.length > 0) {
        this.#ttl = Math.min(this.#ttl, reading.ttl)
        const detail = `${full.map(formatName).join(' → ')} is ${addresses.map(formatAddress).join(', ')} (${server})`
        this.#right('context', detail, since)
        return done(addresses)
      }
      const goesOn = reading.links.length > 0 && reading.rcode === Rcode.NOERROR && full.length <= MOST_ALIASES
      if (goesOn) return this.#askContext(name, families, since, done, full)
      this.#askContext(name, rest, since, done, full)
    })
  }

  #judgeCandidates(candidates: Candidate[]): void {
    const usable = candidates.filter(({ context, reference }) => reference !== 0n && isContext(context))
    for (const { context } of candidates.filter(one => !isContext(one.context)))
      this.#wrong(
        'context',
        `${formatAddress(context)} is no unicast address`,
        'publish the public address of the gateway',
      )
    if (usable.length > 0) return this.#map(usable)
    // something wrong was shown, or nothing could be: no tunnel of the right family
    if (this.#trace.steps.every(({ ok }) => ok)) {
      const families = this.#settings.contextFamilies.map(family => `IPv${family}`).join(' and ')
      const fix = 'give this gateway an address of the other IP version, or publish an AA record for this one'
      this.#wrong('context', `no AA record with an ${families} context`, fix)
    }
    this.#end()
  }

  // ---- the mapper

  #map(candidates: readonly Candidate[]): void {
    const { encodedFamilies } = this.#settings
    const { resolver } = this.#ports
    if (resolver.uplink.length > 0 && !candidates.every(({ context }) => resolver.isOwnContext(context)))
      return this.#askElsewhere('active gateway', resolver.uplink)
    let open = 1
    const step = () => {
      if (--open === 0) this.#conclude()
    }
    for (const family of encodedFamilies) {
      for (const candidate of candidates) {
        open++
        if (resolver.isOwnContext(candidate.context)) this.#askNative(family, candidate, step)
        else this.#askMapper(family, candidate, step)
      }
    }
    step()
  }

  #askMapper(family: 4 | 6, { context, reference }: Candidate, step: () => void): void {
    const since = this.#ports.nowMs()
    const remote = `${formatAddress(context)} + ${formatReference(reference)}`
    this.#ports.mapper({ family, context, reference, name: this.#shown }, answer => {
      if (typeof answer === 'object') {
        this.#give(answer.encoded)
        this.#right('mapper', `${formatAddress(answer.encoded)} stands for ${remote}`, since)
      } else if (answer === 'refused') {
        this.#trace.refused.push({ step: this.#trace.steps.length, family, context, reference })
        const fix = 'look at `ipref status` of the gateway, and at its log'
        this.#wrong('mapper', `no IPv${family} encoded address for ${remote}: the mapper refuses`, fix, since)
      } else {
        const fix = 'look whether the gateway runs, and whether this program may open its mapper socket'
        this.#wrong('mapper', `no answer at ${this.#settings.mapperSocket}`, fix, since)
      }
      step()
    })
  }

  #askNative(family: 4 | 6, { context, reference }: Candidate, step: () => void): void {
    const remote = `${formatAddress(context)} + ${formatReference(reference)}`
    this.#ports.native({ family, reference }, address => {
      if (address) {
        this.#give(address)
        this.#right('mapper', `${remote} is a host of this network: its own address, ${formatAddress(address)}`)
      } else {
        const fix = `publish it: ADDRESS = pub + ${formatReference(reference)}, in the hosts file, by the DNS agent or as an IprefService`
        this.#wrong('mapper', `${remote} is this network, and no IPv${family} host has that reference`, fix)
      }
      step()
    })
  }

  #give(address: Uint8Array): void {
    const text = formatAddress(address)
    if (!this.#trace.addresses.includes(text)) this.#trace.addresses.push(text)
  }

  #conclude(): void {
    const { addresses } = this.#trace
    if (addresses.length > 0) {
      const of = (isRight: (text: string) => boolean, type: string) => {
        const some = addresses.filter(isRight)
        return some.length > 0 ? [`${type} ${some.join(' ')}`] : []
      }
      const shown = [...of(text => !text.includes(':'), 'A'), ...of(text => text.includes(':'), 'AAAA')]
      this.#right('answer', `${shown.join(', ')}, TTL ${this.#ttl}`)
    }
    this.#end()
  }
}

function namesOf(servers: readonly ServerState[]): string {
  return servers.map(({ server }) => server.text).join(', ')
}

function ipv(address: Uint8Array): string {
  return `IPv${address.length === 4 ? 4 : 6}`
}
