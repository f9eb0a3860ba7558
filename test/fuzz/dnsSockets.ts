/**
 * Through real sockets: `ipref resolver` in a process of its own, with hostile servers and a real mapper socket behind it, and a zone server with a hostile
 * secondary. The process must neither end nor log an error, and answer an honest question at the end.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { join } from 'node:path'
import { Type } from '../../dns/constants.ts'
import { parseName } from '../../dns/name.ts'
import { Zone } from '../../dns/zone.ts'
import { ZoneServer } from '../../dns/zoneServer.ts'
import { parsePrefix } from '../../ipref/address.ts'
import { MapperLab } from '../conformance/mapper.ts'
import { askUdp, TestDnsServer } from '../support/dnsServer.ts'
import { HostileClients } from './dnsClients.ts'
import { type Corpus, KEYS, questionOf, recordsOf, ZONE, ZONE_TEXT } from './dnsCorpus.ts'
import { MessageMutator } from './dnsMutate.ts'
import { HostileServer } from './dnsUpstream.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'

const MAIN = join(import.meta.dirname, '../../cli/main.ts')
const LEAST = 2000
const HONEST_TRIES = 20

const P = {
  alive: 'resolver process: it neither ends nor logs an error',
  answers: 'resolver process: an honest question is answered afterwards',
  end: 'resolver process: it ends well when told to',
  zones: 'zone server on sockets: nothing fails inside, messages add up',
} as const

export class SocketsFuzzer {
  readonly #random: Random
  readonly #corpus: Corpus
  readonly #report: Report

  constructor(random: Random, corpus: Corpus, report: Report) {
    this.#random = random
    this.#corpus = corpus
    this.#report = report
    report.promise(...Object.values(P))
  }

  async run(seconds: number): Promise<void> {
    await this.#zoneServer(seconds / 3)
    await this.#resolver((2 * seconds) / 3)
  }

  #clients(target: string, port: number): HostileClients {
    const { questions, operations, signed, answers } = this.#corpus
    const seeds = [...questions, ...questions, ...operations, ...signed, ...answers.slice(0, 20)]
    const messages = new MessageMutator(this.#random, seeds)
    return new HostileClients({ random: this.#random, messages, report: this.#report, target, port })
  }

  // ---- the resolver

  async #resolver(seconds: number): Promise<void> {
    const hostile = new HostileServer(this.#random, new MessageMutator(this.#random, this.#corpus.answers))
    const servers = [0, 1].map(() => new TestDnsServer(query => hostile.answer(query)?.subarray(0, 60_000)))
    for (const server of servers) await server.start()
    const lab = new MapperLab({ encodeNets: ['10.240.0.0/12'], contexts: ['198.51.100.1'], inMemory: true })
    await lab.open()
    const child = new ResolverProcess(
      lab.path,
      servers.map(server => server.text),
    )
    try {
      const port = await child.started()
      if (port === undefined) return this.#report.broken(P.alive, `it does not start: ${child.log}`)
      await this.#clients('resolver process', port).run(seconds, LEAST)
      if (child.hasEnded) this.#report.broken(P.alive, `it ended with ${child.child.exitCode}: ${child.log}`)
      for (const line of child.errors) this.#report.broken(P.alive, line)
      await this.#honest(port)
    } finally {
      const code = await child.stop()
      if (code !== 0) this.#report.broken(P.end, `code ${code}: ${child.log.slice(-2000)}`)
      for (const server of servers) await server.stop()
      await lab.close()
    }
  }

  async #honest(port: number): Promise<void> {
    for (let i = 0; i < HONEST_TRIES; i++) {
      const query = questionOf(parseName(`honest${i}.example.com.`)!, Type.A)
      if (await askUdp(port, query)) return
    }
    this.#report.broken(P.answers, `${HONEST_TRIES} times nothing`)
  }

  // ---- the zone server

  async #zoneServer(seconds: number): Promise<void> {
    const secondary = await this.#secondary()
    const server = new ZoneServer(
      {
        keys: KEYS,
        transferAllow: [parsePrefix('127.0.0.0/8')!],
        transferKeys: [],
        listen: [{ host: '127.0.0.1', port: 0 }],
        notify: [{ host: '127.0.0.1', port: secondary.address().port }],
        notifyNameServers: false,
      },
      { log: { info: () => {}, warn: (fields, text) => this.#warned(fields, text) } },
    )
    const { port } = (await server.start())[0]!
    const zoneOf = (serial: number) =>
      Zone.from(ZONE, recordsOf(`${ZONE_TEXT.replace('(1 1h', `(${serial} 1h`)}`)).zone!
    server.setZone(zoneOf(1))
    let serial = 1
    const changing = setInterval(() => server.setZone(zoneOf(++serial)), 250)
    await this.#clients('zone server on sockets', port).run(seconds, LEAST)
    clearInterval(changing)
    const { failures } = server.counters
    if (failures > 0) this.#report.broken(P.zones, `${failures} failures`)
    await server.stop()
    secondary.close()
  }

  #warned(fields: object, text: string): void {
    if (/failed/.test(text)) this.#report.broken(P.zones, `${text} ${JSON.stringify(fields)}`)
  }

  // answers notifications with whatever comes to mind, and often with what nearly fits
  async #secondary(): Promise<Socket> {
    const messages = new MessageMutator(this.#random, this.#corpus.operations)
    const socket = createSocket('udp4')
    socket.on('message', (notification, from) => {
      for (let i = this.#random.below(4); i > 0; i--) {
        const answer = this.#random.oneIn(3) ? messages.next() : messages.change(notification)
        if (answer.length < 12 || answer.length > 60_000) continue
        answer.set(notification.subarray(0, 2))
        answer[2]! |= 0x80
        socket.send(answer, from.port, from.address, () => {})
      }
    })
    await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
    return socket
  }
}

/** `ipref resolver` with what it logs. */
class ResolverProcess {
  readonly child: ChildProcess
  log = ''
  #isStopping = false

  constructor(mapper: string, servers: readonly string[]) {
    const options = [
      ...['-listen', '127.0.0.1:0', '-mapper', mapper, '-cache-size', '4096', '-serve-stale', '60'],
      ...['-deny-answer', '10.240.0.0/12', '-ea-ipver', '4', '-gw-ipver', '4'],
      ...servers.flatMap(server => ['-upstream', server, '-forward', server]),
    ]
    this.child = spawn(process.execPath, [MAIN, 'resolver', ...options], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.child.stderr!.on('data', (text: Buffer) => {
      this.log = `${this.log}${text}`.slice(-1_000_000)
    })
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  /** Lines that are errors, or no lines of the log at all. */
  get errors(): string[] {
    const isFine = (line: string) => /^\{.*"level":"(debug|info|warn)"/.test(line)
    return this.log.split('\n').filter(line => line !== '' && !isFine(line))
  }

  /** Its port; undefined: it ended. */
  async started(): Promise<number | undefined> {
    while (!this.hasEnded) {
      const port = /"listening":\["127\.0\.0\.1 port (\d+)"/.exec(this.log)?.[1]
      if (port !== undefined) return Number(port)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    return undefined
  }

  async stop(): Promise<number | null> {
    if (this.#isStopping || this.hasEnded) return this.child.exitCode
    this.#isStopping = true
    const ended = new Promise<void>(resolve => this.child.once('close', () => resolve()))
    this.child.kill('SIGTERM')
    await ended
    return this.child.exitCode
  }
}
