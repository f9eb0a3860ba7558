/**
 * Small TCP and UDP exchanges between two hosts of a lab, every byte compared.
 *
 *   node traffic.ts serve PORT                          until it is ended: TCP as below, UDP echo, both families
 *   node traffic.ts upload ADDRESS PORT BYTES SEED      client -> server; the server answers what it received
 *   node traffic.ts download ADDRESS PORT BYTES SEED    server -> client
 *   node traffic.ts udp ADDRESS PORT FROM TO [STEP]     one datagram of each size, echoed
 *   node traffic.ts stream ADDRESS PORT SEED            a TCP connection that echoes a block every 20 ms until SIGTERM
 *
 *   TCP: client -> server  one line {"do":"upload","bytes":N,"seed":S}, then for an upload N bytes
 *        server -> client  for an upload one line {"bytes":N,"sha256":H,"from":ADDRESS}, for a download N bytes
 *
 * Both sides make the same bytes from the seed. Each client prints one line of JSON and exits 0 when all bytes were right.
 */
import { createCipheriv, createHash, type Hash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, isIPv6, type Socket } from 'node:net'

export interface TransferReport {
  ok: boolean
  bytes: number
  sha256: string
  ms: number
  /** upload: how the server saw the client */
  from?: string
  error?: string
}

export interface UdpReport {
  ok: boolean
  sizes: number
  /** sizes whose echo had other bytes, and sizes that nothing came back for */
  wrong: number[]
  missing: number[]
  /** datagrams sent again because nothing came back for a while */
  resent: number
}

export interface StreamReport {
  ok: boolean
  blocks: number
  /** the longest time between two echoes */
  longestGapMs: number
  error?: string
}

interface Order {
  do: 'upload' | 'download' | 'stream'
  bytes: number
  seed: number
}

const CHUNK = 1 << 18
const UDP_WINDOW = 16
const UDP_PATIENCE_MS = 400
const UDP_TRIES = 60

/** The bytes that belong to a seed, made as they are needed: a key stream, so no two blocks are alike. */
class Bytes {
  readonly #cipher
  readonly #zeros = Buffer.alloc(CHUNK)
  #left: number

  constructor(seed: number, length: number) {
    const key = createHash('sha256').update(`seed ${seed}`).digest()
    this.#cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16))
    this.#left = length
  }

  next(): Buffer | undefined {
    if (this.#left === 0) return undefined
    const size = Math.min(this.#left, CHUNK)
    this.#left -= size
    return this.#cipher.update(this.#zeros.subarray(0, size))
  }
}

async function send(socket: Socket, bytes: Bytes, hash: Hash): Promise<void> {
  for (let chunk = bytes.next(); chunk; chunk = bytes.next()) {
    hash.update(chunk)
    if (!socket.write(chunk)) await once(socket, 'drain')
  }
}

// ---- server

function serve(port: number): void {
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => socket.destroy())
    answer(socket).catch(() => socket.destroy())
  })
  server.listen(port, '::')
  for (const type of ['udp4', 'udp6'] as const) {
    const udp = createSocket({ type, ipv6Only: type === 'udp6' })
    udp.on('error', () => {})
    udp.on('message', (message, from) => udp.send(message, from.port, from.address))
    udp.bind(port, () => type === 'udp6' && console.log('ready'))
  }
}

async function answer(socket: Socket): Promise<void> {
  let head: Buffer = Buffer.alloc(0)
  const hash = createHash('sha256')
  let order: Order | undefined
  let received = 0
  // leaving the loop must not close the connection: the answer is still to be sent
  for await (const data of socket.iterator({ destroyOnReturn: false })) {
    let chunk: Buffer = data
    if (!order) {
      head = Buffer.concat([head, chunk])
      const end = head.indexOf(10)
      if (end < 0) continue
      order = JSON.parse(head.toString('utf8', 0, end)) as Order
      chunk = head.subarray(end + 1)
      if (order.do === 'download') return sendAll(socket, order)
    }
    received += chunk.length
    if (order.do === 'stream') socket.write(chunk)
    else hash.update(chunk)
    if (order.do === 'upload' && received >= order.bytes) break
  }
  if (order?.do !== 'upload') return void socket.end()
  const from = socket.remoteAddress?.replace(/^::ffff:/, '')
  socket.end(`${JSON.stringify({ bytes: received, sha256: hash.digest('hex'), from })}\n`)
}

async function sendAll(socket: Socket, order: Order): Promise<void> {
  await send(socket, new Bytes(order.seed, order.bytes), createHash('sha256'))
  socket.end()
}

// ---- clients

async function open(address: string, port: number, order: Order): Promise<Socket> {
  const socket = connect({ host: address, port, noDelay: true })
  await once(socket, 'connect')
  socket.write(`${JSON.stringify(order)}\n`)
  return socket
}

async function upload(address: string, port: number, bytes: number, seed: number): Promise<TransferReport> {
  const socket = await open(address, port, { do: 'upload', bytes, seed })
  const started = performance.now()
  const hash = createHash('sha256')
  await send(socket, new Bytes(seed, bytes), hash)
  const parts: Buffer[] = []
  for await (const data of socket) parts.push(data)
  const seen = JSON.parse(Buffer.concat(parts).toString()) as { bytes: number; sha256: string; from: string }
  const sha256 = hash.digest('hex')
  const ok = seen.sha256 === sha256 && seen.bytes === bytes
  return { ok, bytes: seen.bytes, sha256: seen.sha256, ms: performance.now() - started, from: seen.from }
}

async function download(address: string, port: number, bytes: number, seed: number): Promise<TransferReport> {
  const socket = await open(address, port, { do: 'download', bytes, seed })
  const started = performance.now()
  const hash = createHash('sha256')
  let received = 0
  for await (const data of socket) {
    hash.update(data)
    received += data.length
  }
  const ms = performance.now() - started
  const expected = createHash('sha256')
  const source = new Bytes(seed, bytes)
  for (let chunk = source.next(); chunk; chunk = source.next()) expected.update(chunk)
  const sha256 = hash.digest('hex')
  return { ok: sha256 === expected.digest('hex') && received === bytes, bytes: received, sha256, ms }
}

/** Sizes are told apart by the length of what comes back; a lost datagram is sent again with the same bytes. */
async function udp(
  address: string,
  port: number,
  range: { from: number; to: number; step: number },
): Promise<UdpReport> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  // an ICMP error is a loss like any other
  socket.on('error', () => {})
  const todo: number[] = []
  for (let size = range.from; size <= range.to; size += range.step) todo.push(size)
  const report: UdpReport = { ok: false, sizes: todo.length, wrong: [], missing: [], resent: 0 }
  const waiting = new Map<number, { tries: number; sent: number }>()
  const sendOne = (size: number, tries: number) => {
    waiting.set(size, { tries, sent: performance.now() })
    socket.send(patternOf(size), port, address, () => {})
  }
  const { promise, resolve } = Promise.withResolvers<void>()
  const fill = () => {
    while (waiting.size < UDP_WINDOW && todo.length > 0) sendOne(todo.shift()!, 1)
    if (waiting.size === 0) resolve()
  }
  socket.on('message', message => {
    if (!waiting.delete(message.length)) return
    if (!message.equals(patternOf(message.length))) report.wrong.push(message.length)
    fill()
  })
  const timer = setInterval(() => {
    for (const [size, state] of waiting) {
      if (performance.now() - state.sent < UDP_PATIENCE_MS) continue
      if (state.tries < UDP_TRIES) {
        report.resent++
        sendOne(size, state.tries + 1)
      } else {
        waiting.delete(size)
        report.missing.push(size)
      }
    }
    fill()
  }, 50)
  fill()
  await promise
  clearInterval(timer)
  socket.close()
  report.ok = report.wrong.length === 0 && report.missing.length === 0
  return report
}

function patternOf(size: number): Buffer {
  return new Bytes(size + 1, size).next() ?? Buffer.alloc(0)
}

/** One connection that must live through whatever happens between its ends. */
async function stream(address: string, port: number, seed: number): Promise<StreamReport> {
  const socket = await open(address, port, { do: 'stream', bytes: 0, seed })
  console.error('connected')
  const block = 1000
  const sent = createHash('sha256')
  const echoed = createHash('sha256')
  const source = new Bytes(seed, 1 << 30)
  let pending: Buffer = Buffer.alloc(0)
  let [received, written, last, longestGapMs] = [0, 0, performance.now(), 0]
  const timer = setInterval(() => {
    if (pending.length < block) pending = source.next() ?? Buffer.alloc(block)
    const data = pending.subarray(0, block)
    pending = pending.subarray(block)
    sent.update(data)
    written += block
    socket.write(data)
  }, 20)
  process.once('SIGTERM', () => {
    clearInterval(timer)
    socket.end()
  })
  for await (const data of socket) {
    echoed.update(data)
    received += data.length
    longestGapMs = Math.max(longestGapMs, performance.now() - last)
    last = performance.now()
  }
  const ok = received === written && sent.digest('hex') === echoed.digest('hex')
  return { ok, blocks: written / block, longestGapMs: Math.round(longestGapMs) }
}

async function main(argv: readonly string[]): Promise<void> {
  const [what, address = '', ...numbers] = argv
  if (what === 'serve') return serve(Number(address))
  const [port = 0, second = 0, third = 0, fourth = 1] = numbers.map(Number)
  const clients: Record<string, () => Promise<{ ok: boolean }>> = {
    upload: () => upload(address, port, second, third),
    download: () => download(address, port, second, third),
    udp: () => udp(address, port, { from: second, to: third, step: fourth }),
    stream: () => stream(address, port, second),
  }
  const client = clients[what ?? '']
  if (!client) throw new Error(`unknown exchange: ${what}`)
  const report = await client().catch((error: Error) => ({ ok: false, error: error.message }))
  console.log(JSON.stringify(report))
  process.exitCode = report.ok ? 0 : 1
}

if (import.meta.main) await main(process.argv.slice(2))
