/**
 * A DNS agent whose servers, mapper and clock are the test's. What servers served and what the mapper held is kept, so that a checker can say afterwards
 * whether each set was one that a quorum served.
 *
 *   TestServer (zone, serial, up or not) ──transfer──► Agent ──batches──► TestMapper (sets that are whole)
 */
import type { TransferWanted } from '../../../../dns/transfer.ts'
import { Agent, type AgentPorts } from '../../../../gateway/dns/agent.ts'
import { type AgentConfig, parseSource } from '../../../../gateway/dns/agentConfig.ts'
import type { LinkEvents } from '../../../../gateway/dns/agentLink.ts'
import { Poller } from '../../../../gateway/sys/poller.ts'
import { formatAddress } from '../../../../ipref/address.ts'
import { compareHosts, type HostRecord, hashHosts } from '../../../../ipref/hostSetHash.ts'
import { decodeRequest, encodeHostDataAck, encodeSame, Mode } from '../../../../ipref/mapperMessage.ts'
import type { Logger } from '../../../../runtime/log.ts'
import { ManualClock } from '../../../support/manualClock.ts'
import { silentLog } from '../../../support/silentLog.ts'
import { records } from '../../dns/builders.ts'

export const HOLD_S = 60
export const POLL_S = 600

/** Hosts by name: the last bytes of their address and their reference are the number. */
export type Hosts = ReadonlyMap<string, number>

export function hostsOf(text: string): Hosts {
  return new Map(
    text
      .split(' ')
      .filter(one => one !== '')
      .map(one => [`h${one}`, Number(one)]),
  )
}

/** `1 2 7`: as a set is written everywhere in these tests. */
export function shownHosts(hosts: Hosts): string {
  return [...hosts.values()].sort((a, b) => a - b).join(' ')
}

export class TestServer {
  hosts: Hosts = new Map()
  serial = 1
  state: 'up' | 'dead' | 'cut' = 'up'
  /** names of keys it was asked with, or `-` */
  readonly keys: string[] = []
  readonly askedAt: number[] = []
  /** what it served, and when */
  readonly served: { set: string; at: number }[] = []
  /** the name of the key that it knows */
  knows: string | undefined

  serve(hosts: Hosts | string): void {
    this.hosts = typeof hosts === 'string' ? hostsOf(hosts) : hosts
    this.serial++
  }

  transfer(wanted: TransferWanted, now: number): Promise<{ serial: number; records: number; foreign: number }> {
    const key = wanted.key ? wanted.key.name : '-'
    this.keys.push(key)
    this.askedAt.push(now)
    if (this.state === 'dead') return Promise.reject(new Error('nobody listens there'))
    if (this.knows !== undefined && key !== this.knows) return Promise.reject(new Error('it does not know the key'))
    const text = [...this.hosts].map(([name, i]) => `${name} TXT "AA 198.51.100.1 + ${i}"`).join('\n')
    const all = records(`$TTL 60\n${text}`)
    if (this.state === 'cut') {
      for (const record of all.slice(0, all.length / 2)) wanted.onRecord(record)
      return Promise.reject(new Error('the connection was closed before the end of the zone'))
    }
    for (const record of all) wanted.onRecord(record)
    this.served.push({ set: shownHosts(this.hosts), at: now })
    return Promise.resolve({ serial: this.serial, records: all.length, foreign: 0 })
  }
}

/** Takes sets as ours does: in force when their records have their hash. */
export class TestMapper {
  readonly #now: () => number
  readonly #arriving = new Map<string, Map<string, HostRecord>>()
  #events: LinkEvents | undefined
  isUp = true
  /** sets in force, one after the other, and when */
  readonly held: { set: string; at: number }[] = []
  #hash: bigint | undefined

  constructor(now: () => number) {
    this.#now = now
  }

  get now(): string | undefined {
    return this.held.at(-1)?.set
  }

  readonly link = (events: LinkEvents) => {
    this.#events = events
    setImmediate(() => this.isUp && events.onUp())
    return { send: (message: Uint8Array) => this.isUp && this.#take(message), close: () => {} }
  }

  down(): void {
    this.isUp = false
    this.#arriving.clear()
    this.#events!.onDown('gone')
  }

  up(): void {
    this.isUp = true
    this.#events!.onUp()
  }

  /** It has nothing any more. */
  restart(): void {
    if (this.isUp) this.down()
    this.#hash = undefined
    this.up()
  }

  #take(message: Uint8Array): boolean {
    const request = decodeRequest(message)
    if (typeof request === 'string') throw new Error(request)
    if (request.what === 'hostData') {
      const key = request.head.hash.toString()
      const set = this.#arriving.get(key) ?? new Map<string, HostRecord>()
      this.#arriving.set(key, set)
      for (const record of request.records) set.set(`${record.native} ${record.context} ${record.reference}`, record)
      this.#judge(request.head.hash, [...set.values()].sort(compareHosts))
      this.#answer(encodeHostDataAck(request.header, message))
    } else if (request.what === 'hostDataHash') {
      this.#answer(encodeSame(message, request.hash === this.#hash ? Mode.ack : Mode.nack))
    }
    return true
  }

  #judge(hash: bigint, list: readonly HostRecord[]): void {
    if (hashHosts(list) !== hash || this.#hash === hash) return
    this.#hash = hash
    const numbers = list.map(record => Number(record.reference)).sort((a, b) => a - b)
    for (const { native, reference } of list)
      if (formatAddress(native) !== addressOf(Number(reference))) throw new Error('a host with the address of another')
    this.held.push({ set: numbers.join(' '), at: this.#now() })
  }

  #answer(message: Uint8Array): void {
    setImmediate(() => this.isUp && this.#events!.onMessage(message))
  }
}

function addressOf(i: number): string {
  return `10.1.${i >> 8}.${i & 255}`
}

export class AgentLab {
  readonly clock = new ManualClock(1_000_000)
  readonly servers: TestServer[]
  readonly mapper = new TestMapper(() => this.now)
  readonly agent: Agent
  readonly #poller = new Poller()

  constructor(servers: number, config: Partial<AgentConfig> = {}, ports: Partial<AgentPorts> & { log?: Logger } = {}) {
    this.servers = Array.from({ length: servers }, () => new TestServer())
    const list = this.servers.map((_, i) => `192.0.2.${i + 1}`).join(',')
    const source = parseSource(`internal:example.com:${list}`)
    if (typeof source === 'string') throw new Error(source)
    this.agent = new Agent(
      {
        sources: [source],
        encodedFamilies: [4],
        contextFamilies: [4],
        mapperSocket: '',
        pollSeconds: POLL_S,
        holdDownSeconds: HOLD_S,
        keys: [],
        resolvers: [{ text: '192.0.2.99', address: Uint8Array.of(192, 0, 2, 99), port: 53 }],
        notifyListen: undefined,
        ...config,
      },
      {
        link: this.mapper.link,
        poller: this.#poller,
        log: silentLog,
        hostsFile: '/dev/null',
        clock: this.clock,
        random: () => 0.5,
        transfer: wanted => this.servers[Number(wanted.server.host.split('.')[3]) - 1]!.transfer(wanted, this.now),
        lookup: {
          // host7 has the address 10.1.0.7; labels are length-prefixed
          addresses: name => {
            const number = Number(/h(\d+)/.exec(name)?.[1])
            return Promise.resolve([Uint8Array.of(10, 1, number >> 8, number & 255)])
          },
          stop: () => {},
        },
        ...ports,
      },
    )
  }

  /** seconds */
  get now(): number {
    return this.clock.now() / 1000
  }

  pass(seconds: number): Promise<void> {
    return this.clock.advance(seconds * 1000)
  }

  serveAll(hosts: Hosts | string): void {
    for (const server of this.servers) server.serve(hosts)
  }

  /** Servers say that the zone changed. */
  notify(): void {
    this.agent.zoneChanged('\x07example\x03com\x00')
  }

  async stop(): Promise<void> {
    await this.agent.stop()
    this.#poller.close()
  }
}

/**
 * What must hold of all that happened; a text: what does not. A set that the mapper held was served by more than half of the servers; a host that it lost was
 * gone from what a quorum served, and each server of a quorum said so, with that very set, after the hold-down.
 */
export function violation(
  held: readonly { set: string; at: number }[],
  servers: readonly { served: readonly { set: string; at: number }[] }[],
  holdDown: number,
): string | undefined {
  const isQuorum = (count: number) => count * 2 > servers.length
  for (const [i, { set, at }] of held.entries()) {
    const by = servers.filter(({ served }) => served.some(one => one.set === set && one.at <= at))
    if (!isQuorum(by.length)) return `at ${at} the mapper had [${set}], which ${by.length} of ${servers.length} served`
    const before = held[i - 1]?.set.split(' ').filter(host => host !== '') ?? []
    const gone = before.filter(host => !set.split(' ').includes(host))
    if (gone.length === 0) continue
    // it may have been decided long before, when there was no mapper
    const times = servers.flatMap(({ served }) => served.map(one => one.at)).filter(time => time <= at)
    const isRight = times.some(since => {
      const lacked = servers.filter(({ served }) =>
        served.some(one => one.at <= since && before.some(host => !one.set.split(' ').includes(host))),
      )
      const confirmed = servers.filter(({ served }) =>
        served.some(one => one.at >= since + holdDown && one.at <= at && one.set === set),
      )
      return isQuorum(confirmed.length) && isQuorum(lacked.length)
    })
    if (!isRight) return `at ${at} [${gone}] went without a quorum that confirmed it after the hold-down`
  }
  return undefined
}
