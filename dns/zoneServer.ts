/**
 * The zone server: an authoritative server over UDP and TCP, IPv4 and IPv6, from which ordinary secondaries transfer.
 *
 *   setZone ──► serial made newer where it is not ──► ZoneResponder ◄── queries, transfers ── UDP, TCP
 *                                              └────► Notifier ──► secondaries
 *
 * Off unless configured, bound where told. Zones are replaced at any time; a transfer goes on with the zone with which it began. Where it listens on
 * an unspecified address of a host with several, the system chooses the source of UDP answers: list the addresses there.
 *
 * Nothing that arrives makes it throw; what goes wrong inside is counted, and one example a minute is logged.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { formatAddress, parseAddress } from '../ipref/address.ts'
import { Rcode, servicePorts } from './constants.ts'
import { isNewerSerial } from './message.ts'
import { formatName, lowerName, type Name } from './name.ts'
import { DEFAULT_LIMITS, type TcpLimits, TcpListener } from './tcpListener.ts'
import { nextSerial, type Zone } from './zone.ts'
import { Notifier, type NotifyTarget } from './zoneNotify.ts'
import { type Asker, type ResponderSettings, type Transfer, ZoneResponder } from './zoneResponder.ts'

export interface ZoneServerSettings extends ResponderSettings {
  /** addresses; port 0: any that is free */
  listen: readonly { host: string; port: number }[]
  /** told of every new serial */
  notify: readonly NotifyTarget[]
  /** also tell the servers that the zone names in NS records and has the addresses of; default: yes */
  notifyNameServers?: boolean
  /** give changed content that comes without a newer serial one; default: yes */
  bumpSerials?: boolean
  tcp?: Partial<TcpLimits>
}

export interface ZoneServerLog {
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
}

/** What was served last of a zone; without it a zone may come back after a restart with a serial that secondaries have passed. */
export interface ServedSerial {
  serial: number
  fingerprint: string
}

export interface SerialStore {
  get(origin: Name): ServedSerial | undefined
  set(origin: Name, served: ServedSerial): void
}

export interface ZoneServerPorts {
  log: ZoneServerLog
  serials?: SerialStore
  /** seconds since 1970 */
  now?(): number
}

const LOG_AGAIN_MS = 60_000
const RECEIVE_BUFFER = 1 << 20

export class ZoneServer {
  readonly #settings: ZoneServerSettings
  readonly #log: ZoneServerLog
  readonly #serials: SerialStore | undefined
  readonly #now: () => number
  readonly #responder: ZoneResponder
  readonly #notifier: Notifier
  readonly #tcp: TcpListener
  readonly #udp: Socket[] = []
  /** also of zones that are not served now: one that comes back goes on from there */
  readonly #lastSerials = new Map<Name, number>()
  readonly #loggedAt = new Map<string, number>()
  readonly #own: { host: string; port: number }[] = []
  readonly counters = { udpQueries: 0, tcpQueries: 0, dropped: 0, transfers: 0, transfersRefused: 0, failures: 0 }

  constructor(settings: ZoneServerSettings, ports: ZoneServerPorts) {
    this.#settings = settings
    this.#log = ports.log
    this.#serials = ports.serials
    this.#now = ports.now ?? (() => Date.now() / 1000)
    this.#responder = new ZoneResponder(settings, {
      now: this.#now,
      onRefusedTransfer: (zone, asker, reason) => this.#refusedTransfer(zone, asker, reason),
    })
    this.#notifier = new Notifier(
      { targets: settings.notify, toNameServers: settings.notifyNameServers ?? true, own: this.#own },
      { log: ports.log, now: this.#now },
    )
    this.#tcp = new TcpListener((request, address) => this.#answerTcp(request, address), {
      ...DEFAULT_LIMITS,
      ...settings.tcp,
    })
  }

  // ---- life

  /** Where it listens, once it does. Rejects when an address cannot be had. */
  async start(): Promise<readonly { host: string; port: number }[]> {
    for (const { host, port } of this.#settings.listen) {
      try {
        this.#own.push({ host, port: await this.#listen(host, port) })
      } catch (error) {
        await this.stop()
        throw new Error(`zone server: cannot listen on ${host} port ${port}: ${(error as Error).message}`, {
          cause: error,
        })
      }
    }
    return this.#own
  }

  // a port that is free for TCP may be taken for UDP: where any will do, another is tried
  async #listen(host: string, port: number): Promise<number> {
    for (let triesLeft = port === 0 ? 5 : 1; ; triesLeft--) {
      const tcp = await this.#tcp.listen(host, port)
      try {
        await this.#listenUdp(host, tcp.port)
        return tcp.port
      } catch (error) {
        tcp.close()
        if (triesLeft <= 1) throw error
      }
    }
  }

  async #listenUdp(host: string, port: number): Promise<void> {
    const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', ipv6Only: host.includes(':') })
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject)
        socket.bind({ address: host, port, exclusive: true }, resolve)
      })
    } catch (error) {
      socket.close()
      throw error
    }
    socket.removeAllListeners('error')
    socket.on('error', error => this.#failed('udp', error))
    socket.on('message', (bytes, from) => this.#answerUdp(socket, bytes, from))
    try {
      socket.setRecvBufferSize(RECEIVE_BUFFER)
    } catch {
      // the default will do
    }
    this.#udp.push(socket)
  }

  async stop(): Promise<void> {
    this.#notifier.stop()
    const closed = this.#udp.map(socket => new Promise<void>(resolve => void socket.close(() => resolve())))
    this.#udp.length = 0
    await Promise.all([...closed, this.#tcp.close()])
  }

  // ---- zones

  /** Serves the zone from now on, instead of the one of that name. Gives what is served, perhaps with a newer serial. */
  setZone(zone: Zone): Zone {
    const old = this.#responder.zone(zone.origin)
    const kept = this.#serials?.get(zone.origin)
    const last = this.#lastSerials.get(zone.origin) ?? kept?.serial
    const isNewer = last === undefined || isNewerSerial(zone.soa.serial, last)
    if (old && !isNewer && old.hasContentOf(zone)) return old
    const fingerprint = this.#serials && zone.fingerprint()
    let served = zone
    if (!isNewer && kept && kept.fingerprint === fingerprint) served = zone.withSerial(last)
    else if (!isNewer) served = this.#bump(zone, last)
    this.#responder.setZone(served)
    this.#lastSerials.set(served.origin, served.soa.serial)
    if (fingerprint !== undefined) this.#serials?.set(served.origin, { serial: served.soa.serial, fingerprint })
    if (served.soa.serial !== old?.soa.serial) this.#notifier.zoneChanged(served)
    return served
  }

  // content changed, its serial is not newer
  #bump(zone: Zone, last: number): Zone {
    if (this.#settings.bumpSerials ?? true) return zone.withSerial(nextSerial(last, this.#now()))
    const fields = { zone: formatName(zone.origin), serial: zone.soa.serial, last }
    this.#log.warn(fields, 'zone changed without a newer serial: secondaries will not transfer it')
    return zone
  }

  removeZone(origin: Name): void {
    this.#responder.removeZone(origin)
    this.#notifier.removeZone(origin)
  }

  zone(origin: Name): Zone | undefined {
    return this.#responder.zone(lowerName(origin))
  }

  get notifiesSent(): number {
    return this.#notifier.sent
  }

  // ---- queries

  #answerUdp(socket: Socket, bytes: Uint8Array, from: RemoteInfo): void {
    this.counters.udpQueries++
    const address = parseAddress(from.address.replace(/%.*/, ''))
    const answer = address && from.port !== 0 ? this.#answer(bytes, { transport: 'udp', address }) : undefined
    if (!(answer instanceof Uint8Array) || (servicePorts.has(from.port) && isRefusal(answer))) {
      this.counters.dropped++
      return
    }
    try {
      socket.send(answer, from.port, from.address, () => {})
    } catch (error) {
      this.#failed('send', error as Error)
    }
  }

  #answerTcp(bytes: Uint8Array, from: string): Iterable<Uint8Array> | undefined {
    this.counters.tcpQueries++
    const address = parseAddress(from)
    const asker: Asker | undefined = address && { transport: 'tcp', address }
    const answer = asker && this.#answer(bytes, asker)
    if (!answer) {
      this.counters.dropped++
      return undefined
    }
    return answer instanceof Uint8Array ? [answer] : this.#transfer(answer, asker)
  }

  *#transfer({ zone, messages }: Transfer, asker: Asker): Generator<Uint8Array, void> {
    this.counters.transfers++
    for (let next = messages.next(); !next.done; next = messages.next()) yield next.value
    const fields = { zone: formatName(zone.origin), serial: zone.soa.serial, to: formatAddress(asker.address) }
    this.#logRarely(`transfer ${zone.origin}`, fields, 'zone transferred')
  }

  #answer(bytes: Uint8Array, asker: Asker): Uint8Array | Transfer | undefined {
    try {
      return this.#responder.answer(bytes, asker)
    } catch (error) {
      this.#failed('answer', error as Error)
      return undefined
    }
  }

  // ---- log

  #refusedTransfer(zone: Name, asker: Asker, reason: string): void {
    this.counters.transfersRefused++
    const fields = { zone: formatName(zone), to: formatAddress(asker.address), reason }
    this.#logRarely('refused', fields, 'zone transfer refused')
  }

  #failed(what: string, error: Error): void {
    this.counters.failures++
    this.#logRarely(what, { what, problem: error.message }, 'zone server: something failed')
  }

  #logRarely(key: string, fields: object, text: string): void {
    const now = performance.now()
    const last = this.#loggedAt.get(key)
    if (last !== undefined && now - last < LOG_AGAIN_MS) return
    this.#loggedAt.set(key, now)
    if (key.startsWith('transfer ')) this.#log.info(fields, text)
    else this.#log.warn(fields, text)
  }
}

function isRefusal(answer: Uint8Array): boolean {
  const rcode = answer[3]! & 15
  return rcode === Rcode.FORMERR || rcode === Rcode.NOTIMP || rcode === Rcode.REFUSED
}
