/**
 * The main thread's end of the resolver: opens its sockets, starts its worker and keeps it alive, and does for it what is rare: TCP to and from it, and
 * the native addresses of our own network.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import type { Name } from '../../dns/name.ts'
import { framed, queryOverTcp } from '../../dns/tcpQuery.ts'
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import { openDatagramSocket, portOf } from '../sys/datagrams.ts'
import { makeEventFd, signalEventFd } from '../sys/eventfd.ts'
import { close } from '../sys/libc.ts'
import type { NameTrace } from './nameTrace.ts'
import type { ResolverConfig } from './resolverConfig.ts'
import {
  type FromWorker,
  type ResolverSetup,
  type ResolverStat,
  resolverStats,
  type ToWorker,
} from './resolverProtocol.ts'
import { noRouting, type Routing } from './routes.ts'
import type { UpstreamServer } from './upstreams.ts'

const QUEUE_BYTES = 8 << 20
const RESTART_MS = 50
const STOP_MS = 3000
const PORT_TRIES = 8
const TCP_MOST = 256
const TCP_MOST_OPEN = 64
/** Bytes of answers that a client has not taken yet, before no more of its questions are read. */
const TCP_MOST_UNREAD = 256 << 10
const TCP_IDLE_MS = 10_000
const TCP_UPSTREAM_MS = 3000
const MOST_UPSTREAM_TCP = 256

const DOWN: NameTrace = {
  steps: [{ what: 'resolver', ok: false, detail: 'its worker is down', fix: 'look at the log; it is started again' }],
  addresses: [],
  refused: [],
}

export interface ResolverHostPorts {
  /** undefined: nothing of our own network is short-cut */
  native?(wanted: { family: 4 | 6; reference: bigint }): Uint8Array | undefined
  /** Why the mapper gives no encoded address; absent: it is in another process. */
  whyRefused?(wanted: { family: 4 | 6; context: Uint8Array; reference: bigint }): string | undefined
  onEvent(event: ResolverEvent): void
  /** how long a client over TCP may say nothing, or be at one question; 10 s if not given */
  tcpIdleMs?: number
}

export type ResolverEvent =
  | { what: 'died'; error: unknown }
  | { what: 'restarted' }
  | { what: 'mapper-up' }
  | { what: 'mapper-down'; why: string }

export class ResolverHost {
  readonly #config: ResolverConfig
  readonly #ports: ResolverHostPorts
  readonly #ownContexts: readonly Uint8Array[]
  readonly #sockets: { family: 4 | 6; fd: number }[] = []
  readonly #servers: Server[] = []
  readonly #wakeFd = makeEventFd()
  readonly #stats = new SharedArrayBuffer(resolverStats.length * 8)
  readonly #clients = new Map<number, { socket: Socket; open: number }>()
  readonly #queries = new Map<number, number>()
  readonly #traces = new Map<number, (trace: NameTrace) => void>()
  #connections = new Set<Socket>()
  #routing = noRouting
  #worker: Worker | undefined
  #nextClient = 0
  #nextQuery = 0
  #upstreamTcp = 0
  #stopping = false
  #mapperTrouble: string | undefined
  restarts = 0
  /** ADDRESS:PORT, as they were bound */
  readonly listening: { address: Uint8Array; port: number }[] = []

  constructor(config: ResolverConfig, ports: ResolverHostPorts, ownContexts: readonly Uint8Array[] = []) {
    this.#config = config
    this.#ports = ports
    this.#ownContexts = ownContexts
  }

  /** Resolves when the worker answers. Rejects with the address that could not be bound. */
  async start(): Promise<void> {
    for (const { address, port } of this.#config.listen) await this.#listen(address, port)
    await this.#spawn()
  }

  async #listen(address: Uint8Array, port: number): Promise<void> {
    const host = formatAddress(address)
    // a port that the system chose for UDP may be taken for TCP
    for (let triesLeft = port === 0 ? PORT_TRIES : 1; ; triesLeft--) {
      let fd: number
      try {
        fd = openDatagramSocket(address, port, QUEUE_BYTES)
      } catch (error) {
        throw new Error(`the resolver cannot listen on ${host} port ${port}: ${(error as Error).message}`)
      }
      const bound = portOf(fd)
      const problem = await this.#listenTcp(host, bound)
      if (problem === undefined) {
        this.#sockets.push({ family: address.length === 4 ? 4 : 6, fd })
        this.listening.push({ address, port: bound })
        return
      }
      close(fd)
      if (triesLeft <= 1) throw new Error(`the resolver cannot listen on ${host} TCP port ${bound}: ${problem}`)
    }
  }

  get unready(): string | undefined {
    if (!this.#worker) return 'the resolver is down'
    return this.#mapperTrouble && `the resolver has no mapper: ${this.#mapperTrouble}`
  }

  stat(name: ResolverStat): number {
    return new Float64Array(this.#stats)[resolverStats.indexOf(name)]!
  }

  /** Ends the worker as an exception would: for tests of the restart. */
  crash(): void {
    void this.#worker?.terminate()
  }

  forgetMappings(): void {
    this.#tell({ what: 'forget' })
  }

  /** In force for the next question, without a restart; what is kept of other domains stays. */
  setRouting(routing: Routing): void {
    this.#routing = this.#ports.native ? routing : { ...routing, ownContexts: [] }
    this.#tell({ what: 'routing', routing: this.#routing })
  }

  /** What becomes of a question for this name. `optionPrefix`: of the options of the resolver in this program. */
  async trace(name: Name, optionPrefix: string): Promise<NameTrace> {
    if (!this.#worker) return DOWN
    const listening = this.listening.map(({ address, port }) => `${formatAddress(address)} port ${port}`)
    const id = ++this.#nextQuery
    const trace = await new Promise<NameTrace>(resolve => {
      this.#traces.set(id, resolve)
      this.#tell({ what: 'trace', id, name, optionPrefix })
    })
    for (const { step, ...wanted } of trace.refused) {
      const why = this.#ports.whyRefused?.(wanted)
      if (why) trace.steps[step]!.detail += `: ${why}`
    }
    if (trace === DOWN) return trace
    const here = { what: 'resolver', ok: true, detail: `answers at ${listening.join(', ')}` }
    return { ...trace, steps: [here, ...trace.steps] }
  }

  #setup(): ResolverSetup {
    const c = this.#config
    return {
      sockets: this.#sockets,
      wakeFd: this.#wakeFd,
      upstreams: [...c.upstreams],
      forwarders: [...c.forwarders],
      domains: [...c.domains],
      excluded: [...c.excluded],
      encodedFamilies: [...c.encodedFamilies],
      contextFamilies: [...c.contextFamilies],
      cacheSize: c.cacheSize,
      serveStale: c.serveStale,
      denyAnswers: [...c.denyAnswers],
      allow: [...c.allow],
      rateLimit: c.rateLimit,
      mapperSocket: c.mapperSocket,
      ownContexts: this.#ports.native ? [...this.#ownContexts] : [],
      routing: this.#routing,
      stats: this.#stats,
    }
  }

  #spawn(): Promise<void> {
    const worker = new Worker(new URL('./resolverWorker.ts', import.meta.url), {
      name: 'ipref-resolver',
      workerData: this.#setup(),
    })
    this.#worker = worker
    let death: unknown = new Error('ended without an error')
    worker.on('error', error => {
      death = error
    })
    worker.on('exit', () => this.#exited(worker, death))
    return new Promise((resolve, reject) => {
      worker.on('message', (message: FromWorker) => {
        if (message.what === 'ready') resolve()
        else this.#hear(message)
      })
      worker.once('error', reject)
    })
  }

  #exited(worker: Worker, error: unknown): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    for (const done of this.#traces.values()) done(DOWN)
    this.#traces.clear()
    if (this.#stopping) return
    this.restarts++
    this.#ports.onEvent({ what: 'died', error })
    for (const socket of this.#connections) socket.destroy()
    this.#queries.clear()
    setTimeout(
      () => {
        if (this.#stopping) return
        this.#spawn()
          .then(() => this.#ports.onEvent({ what: 'restarted' }))
          .catch(() => {})
      },
      Math.min(1000, RESTART_MS * this.restarts),
    )
  }

  #tell(message: ToWorker): void {
    this.#worker?.postMessage(message)
    signalEventFd(this.#wakeFd)
  }

  #hear(message: FromWorker): void {
    if (message.what === 'tcp-reply') this.#replyTcp(message.id, message.bytes)
    else if (message.what === 'ask-tcp')
      this.#askTcp(message.server, message.bytes, bytes => this.#tell({ what: 'tcp-answer', id: message.id, bytes }))
    else if (message.what === 'ask-native') {
      const address = this.#ports.native?.({ family: message.family, reference: message.reference })
      this.#tell({ what: 'native', id: message.id, address })
    } else if (message.what === 'traced') {
      this.#traces.get(message.id)?.(message.trace)
      this.#traces.delete(message.id)
    } else if (message.what === 'mapper') {
      this.#mapperTrouble = message.up ? undefined : message.why
      this.#ports.onEvent(message.up ? { what: 'mapper-up' } : { what: 'mapper-down', why: message.why })
    }
  }

  // ---- TCP from clients

  /** Resolves to what is wrong, if anything is. */
  async #listenTcp(host: string, port: number): Promise<string | undefined> {
    const server = createServer(socket => this.#accept(socket))
    server.maxConnections = TCP_MOST
    const problem = await new Promise<string | undefined>(resolve => {
      server.once('error', error => resolve(error.message))
      server.listen({ host, port, ipv6Only: true }, () => resolve(undefined))
    })
    if (problem === undefined) this.#servers.push(server)
    return problem
  }

  #accept(socket: Socket): void {
    const client = ++this.#nextClient
    const state = { socket, open: 0 }
    this.#clients.set(client, state)
    this.#connections.add(socket)
    const from = (socket.remoteAddress ?? '').replace(/%.*$/, '')
    const address = parseAddress(from) ?? new Uint8Array(4)
    let pending: Buffer = Buffer.alloc(0)
    const idleMs = this.#ports.tcpIdleMs ?? TCP_IDLE_MS
    socket.setTimeout(idleMs, () => socket.destroy())
    // a query that comes byte by byte does not keep the connection for ever
    let begun: NodeJS.Timeout | undefined
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      clearTimeout(begun)
      this.#clients.delete(client)
      this.#connections.delete(socket)
    })
    const hasRoom = () => state.open < TCP_MOST_OPEN && socket.writableLength < TCP_MOST_UNREAD
    const read = () => {
      let isWhole = pending.length === 0
      while (pending.length >= 2 && hasRoom()) {
        const length = pending.readUInt16BE()
        if (pending.length < 2 + length) break
        const bytes = Uint8Array.from(pending.subarray(2, 2 + length))
        pending = pending.subarray(2 + length)
        isWhole = true
        const id = ++this.#nextQuery
        this.#queries.set(id, client)
        state.open++
        this.#tell({ what: 'tcp-query', id, address, bytes })
      }
      if (isWhole || !hasRoom()) {
        clearTimeout(begun)
        begun = undefined
      }
      if (!hasRoom()) socket.pause()
      else if (pending.length > 0) begun ??= setTimeout(() => socket.destroy(), idleMs)
    }
    const goOn = () => {
      if (!socket.isPaused() || !hasRoom()) return
      socket.resume()
      read()
    }
    socket.on('data', (data: Buffer) => {
      pending = pending.length === 0 ? data : Buffer.concat([pending, data])
      read()
    })
    socket.on('drain', goOn)
    socket.on('answered', goOn)
  }

  #replyTcp(id: number, bytes: Uint8Array | undefined): void {
    const client = this.#clients.get(this.#queries.get(id) ?? -1)
    this.#queries.delete(id)
    if (!client) return
    client.open--
    if (!bytes) return void client.socket.destroy()
    client.socket.write(framed(bytes))
    client.socket.emit('answered')
  }

  // ---- TCP to upstreams

  #askTcp(server: UpstreamServer, bytes: Uint8Array, done: (answer: Uint8Array | undefined) => void): void {
    if (this.#upstreamTcp >= MOST_UPSTREAM_TCP) return done(undefined)
    this.#upstreamTcp++
    void queryOverTcp({ host: formatAddress(server.address), port: server.port }, bytes, TCP_UPSTREAM_MS).then(
      answer => {
        this.#upstreamTcp--
        done(answer)
      },
    )
  }

  // ---- end

  async stop(): Promise<void> {
    this.#stopping = true
    for (const server of this.#servers) server.close()
    for (const socket of this.#connections) socket.destroy()
    const worker = this.#worker
    if (worker) {
      const ended = new Promise<void>(resolve => worker.once('exit', () => resolve()))
      this.#tell({ what: 'stop' })
      const timer = setTimeout(() => void worker.terminate(), STOP_MS)
      await ended
      clearTimeout(timer)
    }
    for (const { fd } of this.#sockets.splice(0)) close(fd)
    close(this.#wakeFd)
  }
}
