/**
 * A DNS agent between real servers and a real mapper, all on loopback, in time that passes twenty times as fast for the agent.
 *
 *   primaries (of others, or ZoneServer) ──NOTIFY, AXFR with TSIG──► Agent ──SEQPACKET──► link ──► mapper of MapperLab, which may be exchanged
 *   ZoneServer of the local domain ──────────────UDP──────────────────┘
 *
 * Every set that a mapper was told to put in force is kept. Host `h300` has 10.1.1.44, fd01::12c and reference 400.
 */
import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { Type } from '../../dns/constants.ts'
import { stringsOf } from '../../dns/message.ts'
import { transferZone } from '../../dns/transfer.ts'
import { parseTsigKey, type TsigKey } from '../../dns/tsig.ts'
import type { Zone } from '../../dns/zone.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import { Agent } from '../../gateway/dns/agent.ts'
import { type AgentConfig, parseSource } from '../../gateway/dns/agentConfig.ts'
import { connectMapper } from '../../gateway/dns/agentLink.ts'
import type { Assertion } from '../../gateway/mapper/assertions.ts'
import { Poller } from '../../gateway/sys/poller.ts'
import { formatAddress, parseAddress, parsePrefix } from '../../ipref/address.ts'
import type { Clock } from '../../runtime/clock.ts'
import { MapperLab } from '../conformance/mapper.ts'
import { freePorts } from '../support/ports.ts'
import { EXAMPLE, name, zone } from '../unit/dns/builders.ts'
import { HOST, SECRET, type Server, startPrimary, WRONG_SECRET } from './programs.ts'

export const SPEED = 20
export const HOLD_S = 20
const PATIENCE_MS = 90_000
/** with addresses in the local domain; their references must be static ones */
export const HOSTS = 2000
export const KEY = parseTsigKey(`hmac-sha256:transfer:${SECRET}`) as TsigKey
export const WRONG_KEY = parseTsigKey(`hmac-sha256:transfer:${WRONG_SECRET}`) as TsigKey

const hurried: Clock = {
  now: () => performance.now() * SPEED,
  after: (ms, run) => {
    const timer = setTimeout(run, ms / SPEED)
    return () => clearTimeout(timer)
  },
}

export function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

export function pauseOfAgent(seconds: number): Promise<void> {
  return pause((seconds * 1000) / SPEED)
}

/** Repeated until it holds; `say` is for the report when it never does. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, say: () => string = () => '') {
  const end = performance.now() + PATIENCE_MS
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`never: ${what}\n${say()}`)
    await pause(20)
  }
}

/** `1 2 7`: hosts by number; `7=9`: host 7 has the reference of 9. */
export function recordsOf(hosts: string): string {
  return hosts
    .split(' ')
    .filter(one => one !== '')
    .map(one => {
      const [host, reference = host] = one.split('=')
      return `h${host} 60 TXT "AA gw.example.com + ${100 + Number(reference)}"\n`
    })
    .join('')
}

const BASE = 'gw A 198.51.100.1\ngw AAAA 2001:db8::1\n'

export function zoneOf(hosts: string, serial: number): Zone {
  return zone(BASE + recordsOf(hosts)).withSerial(serial)
}

const quiet = { info: () => {}, warn: () => {} }

/** Our zone server as a primary: keeps its port when it dies and comes back. */
export class OurPrimary {
  #server: ZoneServer | undefined
  readonly #notifyPort: number
  port = 0
  #zone: Zone | undefined
  /** all that it has served */
  readonly served: string[] = []

  constructor(notifyPort: number) {
    this.#notifyPort = notifyPort
  }

  get isUp(): boolean {
    return this.#server !== undefined
  }

  async start(): Promise<void> {
    const server = new ZoneServer(
      {
        listen: [{ host: HOST, port: this.port }],
        keys: [KEY],
        transferAllow: [parsePrefix(`${HOST}/32`)!],
        transferKeys: [KEY.name],
        notify: [{ host: HOST, port: this.#notifyPort, key: KEY }],
        notifyNameServers: false,
        bumpSerials: false,
      },
      { log: quiet },
    )
    const [own] = await server.start()
    this.port = own!.port
    this.#server = server
    if (this.#zone) server.setZone(this.#zone)
  }

  serve(hosts: string, serial: number): void {
    this.served.push(shownHosts(hosts))
    this.#zone = zoneOf(hosts, serial)
    this.#server?.setZone(this.#zone)
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    await server?.stop()
  }
}

/** `2 1` is `1 2`. */
export function shownHosts(hosts: string): string {
  return hosts
    .split(' ')
    .filter(one => one !== '')
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
    .join(' ')
}

/** Knot DNS, NSD or BIND. */
export class OtherPrimary {
  readonly program: string
  readonly port: number
  readonly #folder: string
  readonly #notifyPort: number
  #server: Server | undefined

  constructor(program: string, parts: { folder: string; port: number; notifyPort: number }) {
    this.program = program
    this.port = parts.port
    this.#folder = parts.folder
    this.#notifyPort = parts.notifyPort
  }

  write(hosts: string, serial: number): void {
    const head = `$TTL 60\n@ SOA ns1 admin ${serial} 7200 3600 1209600 60\n@ NS ns1\nns1 A 127.0.0.1\n`
    writeFileSync(join(this.#folder, 'zone'), head + BASE + recordsOf(hosts))
  }

  async start(): Promise<void> {
    const secret = SECRET
    this.#server = startPrimary(this.program, {
      folder: this.#folder,
      zone: 'example.com',
      port: this.port,
      secret,
      notifyPort: this.#notifyPort,
    })
    await until(`${this.program} serves`, async () => (await this.#content()) !== undefined, this.log)
  }

  readonly log = () => this.#server?.log().slice(-3000) ?? ''

  /** Resolves when it is served. */
  async serve(hosts: string, serial: number): Promise<void> {
    this.write(hosts, serial)
    const wanted = `${serial} ${shownHosts(hosts)}`
    let rounds = 0
    await until(
      `${this.program} serves ${wanted}`,
      async () => {
        // one that came while it was still reading may be lost
        if (rounds++ % 50 === 0) this.#server!.reload()
        return (await this.#content()) === wanted
      },
      this.log,
    )
  }

  /** `SERIAL HOSTS` */
  async #content(): Promise<string | undefined> {
    const hosts: string[] = []
    try {
      const { serial } = await transferZone({
        server: { host: HOST, port: this.port },
        zone: EXAMPLE,
        key: KEY,
        onRecord: record => {
          if (record.type !== Type.TXT) return
          const host = /h(\d+)/.exec(record.name)![1]!
          const reference = String(Number(/\+ (\d+)/.exec(stringsOf(record.data)[0]!)![1]) - 100)
          hosts.push(host === reference ? host : `${host}=${reference}`)
        },
        limits: { totalMs: 5000 },
      })
      return `${serial} ${shownHosts(hosts.join(' '))}`
    } catch {
      return undefined
    }
  }

  async stop(): Promise<void> {
    await this.#server?.stop()
    this.#server = undefined
  }
}

export class AgentWorld {
  readonly folder = mkdtempSync(join(tmpdir(), 'ipref-agent-'))
  readonly mapperPath = join(this.folder, 'mapper.sock')
  /** sets that mappers were told to put in force, in order */
  readonly held: string[] = []
  /** lines of the agent's log: states that pass may be over before a test looks */
  readonly logged: string[] = []
  notifyPort = 0
  #localPort = 0
  readonly #poller = new Poller()
  readonly #ends: (() => Promise<void> | void)[] = []
  #mapper: MapperLab | undefined
  #agent: Agent | undefined

  async start(): Promise<void> {
    const [notifyPort] = await freePorts(1)
    this.notifyPort = notifyPort!
    const local = new ZoneServer(
      { listen: [{ host: HOST, port: 0 }], keys: [], transferAllow: [], transferKeys: [], notify: [] },
      { log: quiet },
    )
    const [own] = await local.start()
    this.#localPort = own!.port
    const text = Array.from(
      { length: HOSTS },
      (_, i) => `h${i} A 10.1.${i >> 8}.${i & 255}\nh${i} AAAA fd01::${i.toString(16)}\n`,
    )
    local.setZone(zone(text.join(''), name('internal.')))
    this.#ends.push(() => local.stop())
    await this.startMapper()
  }

  async startMapper(): Promise<void> {
    const mapper = new MapperLab({
      encodeNets: ['10.240.0.0/12', 'fd24::/64'],
      contexts: ['198.51.100.1', '2001:db8::1'],
      inMemory: true,
    })
    const setSource = mapper.mapper.setSource.bind(mapper.mapper)
    mapper.mapper.setSource = (owner, assertions) => {
      this.held.push(shownSet(assertions))
      return setSource(owner, assertions)
    }
    await mapper.open()
    symlinkSync(mapper.path, this.mapperPath)
    this.#mapper = mapper
  }

  async stopMapper(): Promise<void> {
    const mapper = this.#mapper
    this.#mapper = undefined
    if (!mapper) return
    unlinkSync(this.mapperPath)
    await mapper.close()
  }

  /** Addresses that are published now, in IPv4: `1 2`; what is not in force is not there. */
  get published(): string {
    const hosts = this.#mapper?.mapper.published() ?? []
    const ipv4 = hosts.map(({ address }) => parseAddress(address)!).filter(address => address.length === 4)
    return shownHosts(ipv4.map(hostOf).join(' '))
  }

  get mapper(): MapperLab {
    return this.#mapper!
  }

  get agent(): Agent {
    return this.#agent!
  }

  async startAgent(ports: readonly number[], config: Partial<AgentConfig> = {}, host = HOST): Promise<Agent> {
    const source = parseSource(`internal:example.com:${ports.map(port => `${host}:${port}`).join(',')}`)
    if (typeof source === 'string') throw new Error(source)
    const agent = new Agent(
      {
        sources: [source],
        encodedFamilies: [4],
        contextFamilies: [4],
        mapperSocket: this.mapperPath,
        pollSeconds: 59 * 60,
        holdDownSeconds: HOLD_S,
        keys: [KEY],
        resolvers: [{ text: HOST, address: parseAddress(HOST)!, port: this.#localPort }],
        notifyListen: { host: HOST, port: this.notifyPort },
        ...config,
      },
      {
        link: events => connectMapper(this.mapperPath, this.#poller, events, hurried),
        poller: this.#poller,
        log: pino({}, { write: line => void this.logged.push(line) }),
        hostsFile: '/dev/null',
        clock: hurried,
      },
    )
    this.#agent = agent
    await agent.start()
    return agent
  }

  async stopAgent(): Promise<void> {
    await this.#agent?.stop()
    this.#agent = undefined
  }

  /** For the report of a test that fails. */
  readonly say = () =>
    `published [${this.published}]\nheld ${JSON.stringify(this.held)}\n${JSON.stringify(this.#agent?.status(), null, 1)}`

  /** That the agent said it, since `after` lines of its log. */
  hasLogged(text: RegExp, after: number): Promise<void> {
    return until(`the log says ${text}`, () => this.logged.slice(after).some(line => text.test(line)), this.say)
  }

  has(hosts: string): Promise<void> {
    return until(`hosts [${hosts}]`, () => this.held.at(-1) === hosts && this.#mapper !== undefined, this.say)
  }

  async stop(): Promise<void> {
    await this.stopAgent()
    await this.stopMapper()
    for (const end of this.#ends) await end()
    this.#poller.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

function hostOf(address: Uint8Array): number {
  return address.at(-2)! * 256 + address.at(-1)!
}

/** IPv4 hosts of IPv4 gateways as `1 2`, or `1=2` where host 1 has the reference of 2; of others with their families before them. */
function shownSet(assertions: readonly Assertion[]): string {
  const shown = assertions.flatMap(assertion => {
    if (assertion.kind !== 'ours') return []
    const { address, contexts, reference } = assertion
    const context = contexts === 'all' ? 'all' : formatAddress(contexts)
    const host = hostOf(address)
    const other = Number(reference) - 100
    const families = `${address.length === 4 ? 4 : 6}${context.includes(':') ? 6 : 4}`
    return `${host}${host === other ? '' : `=${other}`}${families === '44' ? '' : `/${families}`}`
  })
  return shownHosts(shown.join(' '))
}
