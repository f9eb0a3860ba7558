/**
 * A proxy in front of a real API server that does what networks, load balancers and servers in trouble do.
 *
 *   store ── HTTPS ──► proxy ── HTTPS, as administrator ──► kube-apiserver
 *                        └ `fault` decides for each request: answer instead, wait, go silent, cut, or change the lines of a watch
 *
 * It has a certificate and accepts bearer tokens of its own, so that expired tokens can be tried too: each kubeconfig that it writes is the test's.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Agent, createServer, request } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'

export interface Seen {
  method: string
  /** without query */
  path: string
  query: URLSearchParams
  isWatch: boolean
  /** of `performance.now` */
  at: number
}

export interface Fault {
  /** answered by the proxy; the server is not asked */
  status?: number
  headers?: Record<string, string>
  body?: string
  /** before the request goes on */
  delayMs?: number
  /** The connection ends instead of an answer; `after`: the server has done what was asked. */
  cut?: 'before' | 'after'
  /** nothing of the answer's body comes through, and the connection stays */
  silent?: true
  /** The body ends after so many bytes, and with it the connection. */
  cutAfterBytes?: number
  /** Each line of a watch, with its newline; what is returned is sent instead. */
  lines?(line: string): string
  /** the answer comes in pieces of so many bytes */
  pieceBytes?: number
}

export interface FaultyProxy {
  /** undefined: pass on; told of all requests */
  fault: ((seen: Seen) => Fault | undefined) | undefined
  /** path of a file with the proxy's address and this token */
  kubeconfig(token: string): string
  /** which bearer tokens count, but for administrators of tests */
  tokens: Set<string>
  seen: Seen[]
  /** Ends all connections now. */
  cutAll(): void
  close(): Promise<void>
}

interface Upstream {
  url: string
  agent: Agent
}

export async function startFaultyProxy(kubeconfig: string): Promise<FaultyProxy> {
  const folder = mkdtempSync(join(tmpdir(), 'ipref-proxy-'))
  const { key, cert } = makeCertificate(folder)
  const upstream = readUpstream(kubeconfig)
  const sockets = new Set<Socket>()
  const server = createServer({ key, cert }, (incoming, outgoing) => {
    handle(proxy, upstream, incoming, outgoing).catch(() => outgoing.destroy())
  })
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const proxy: FaultyProxy = {
    fault: undefined,
    tokens: new Set(['first']),
    seen: [],
    kubeconfig(token) {
      const file = join(folder, 'kubeconfig')
      const cluster = { server: `https://127.0.0.1:${port}`, 'certificate-authority-data': cert.toString('base64') }
      writeFileSync(
        file,
        writeYaml({
          apiVersion: 'v1',
          kind: 'Config',
          'current-context': 'proxy',
          clusters: [{ name: 'proxy', cluster }],
          users: [{ name: 'proxy', user: { token } }],
          contexts: [{ name: 'proxy', context: { cluster: 'proxy', user: 'proxy' } }],
        }),
      )
      return file
    },
    cutAll() {
      for (const socket of sockets) socket.destroy()
    },
    async close() {
      const closed = new Promise(resolve => server.close(resolve))
      this.cutAll()
      await closed
      upstream.agent.destroy()
      rmSync(folder, { recursive: true })
    },
  }
  return proxy
}

async function handle(
  proxy: FaultyProxy,
  upstream: Upstream,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const url = new URL(incoming.url!, 'https://proxy')
  const seen: Seen = {
    method: incoming.method!,
    path: url.pathname,
    query: url.searchParams,
    isWatch: url.searchParams.get('watch') === 'true',
    at: performance.now(),
  }
  proxy.seen.push(seen)
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  const token = /^Bearer (.*)$/.exec(incoming.headers.authorization ?? '')?.[1] ?? ''
  const fault = proxy.tokens.has(token) ? (proxy.fault?.(seen) ?? {}) : { status: 401, body: 'no' }
  if (fault.delayMs) await new Promise(resolve => setTimeout(resolve, fault.delayMs))
  if (fault.status !== undefined) {
    outgoing.writeHead(fault.status, fault.headers).end(fault.body ?? '')
    return
  }
  if (fault.cut === 'before') return void outgoing.destroy()
  const answer = await ask(upstream, incoming, Buffer.concat(chunks), outgoing)
  if (fault.cut === 'after') {
    for await (const _ of answer);
    return void outgoing.destroy()
  }
  outgoing.writeHead(answer.statusCode!, headersOf(answer, fault))
  outgoing.flushHeaders()
  await pass(answer, outgoing, fault)
}

function headersOf(answer: IncomingMessage, fault: Fault): Record<string, string | string[]> {
  const headers = { ...answer.headers } as Record<string, string | string[]>
  // a body that is changed has another length
  if (fault.lines) delete headers['content-length']
  delete headers['transfer-encoding']
  delete headers.connection
  return headers
}

function ask(
  upstream: Upstream,
  { method, url, headers }: IncomingMessage,
  body: Buffer,
  outgoing: ServerResponse,
): Promise<IncomingMessage> {
  const { authorization: _token, host: _host, connection: _connection, ...kept } = headers
  return new Promise((resolve, reject) => {
    const asked = request(upstream.url + url, { method, headers: kept, agent: upstream.agent } as object, resolve)
    asked.on('error', reject)
    outgoing.on('close', () => asked.destroy())
    asked.end(body)
  })
}

async function pass(answer: IncomingMessage, outgoing: ServerResponse, fault: Fault): Promise<void> {
  let sent = 0
  let line = Buffer.alloc(0)
  for await (const chunk of answer) {
    if (fault.silent) continue
    let out = chunk as Buffer
    if (fault.lines) {
      const text = Buffer.concat([line, out])
      const end = text.lastIndexOf(0x0a) + 1
      line = text.subarray(end)
      const whole = text.subarray(0, end).toString('utf8').split('\n').slice(0, -1)
      out = Buffer.from(whole.map(one => fault.lines!(`${one}\n`)).join(''))
    }
    const room = (fault.cutAfterBytes ?? Number.POSITIVE_INFINITY) - sent
    await write(outgoing, out.subarray(0, room), fault.pieceBytes)
    sent += out.length
    if (out.length >= room) return void outgoing.socket?.end(() => outgoing.destroy())
  }
  if (!fault.silent) outgoing.end()
}

async function write(outgoing: ServerResponse, bytes: Buffer, pieceBytes = bytes.length): Promise<void> {
  for (let from = 0; from < bytes.length; from += pieceBytes) {
    outgoing.write(bytes.subarray(from, from + pieceBytes))
    if (pieceBytes < bytes.length) await new Promise(resolve => setImmediate(resolve))
  }
}

function readUpstream(kubeconfig: string): Upstream {
  const value = readYaml(readFileSync(kubeconfig, 'utf8'))[0]!.value as {
    clusters: { cluster: Record<string, string> }[]
    users: { user: Record<string, string> }[]
  }
  const { cluster } = value.clusters[0]!
  const { user } = value.users[0]!
  const bytes = (from: Record<string, string>, name: string) =>
    from[`${name}-data`] ? Buffer.from(from[`${name}-data`]!, 'base64') : from[name] && readFileSync(from[name])
  const tls = {
    ca: bytes(cluster, 'certificate-authority'),
    cert: bytes(user, 'client-certificate'),
    key: bytes(user, 'client-key'),
  }
  const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value))
  return { url: cluster.server!, agent: new Agent({ keepAlive: true, ...given }) }
}

function makeCertificate(folder: string): { key: Buffer; cert: Buffer } {
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
    ...['-subj', '/CN=proxy', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
  ])
  if (made.status !== 0) throw new Error(`openssl: ${made.error?.message ?? made.stderr}`)
  return { key: readFileSync(key), cert: readFileSync(cert) }
}
