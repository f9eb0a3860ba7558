/**
 * The control socket: one JSON object a line, one answer a line, over a Unix stream socket that only its owner may open.
 *
 *   {"do":"status"}  ──►        ◄── {"ok":true,"result":{…}}   or   {"ok":false,"error":"…"}
 */
import { chmodSync, existsSync, mkdirSync, unlinkSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'

const LONGEST_REQUEST = 4096
const MOST_CLIENTS = 16
const IDLE_MS = 10_000

export type Handler = (request: Record<string, unknown>) => unknown

export async function serveControl(path: string, handle: Handler): Promise<{ close(): void }> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 })
  if (existsSync(path)) {
    if (await answers(path))
      throw new Error(`${path} is in use by another process; choose another with -control-socket`)
    unlinkSync(path)
  }
  const server = createServer(socket => serve(socket, handle))
  server.maxConnections = MOST_CLIENTS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  chmodSync(path, 0o600)
  return { close: () => closeServer(server) }
}

function closeServer(server: Server): void {
  server.close()
}

function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

function serve(socket: Socket, handle: Handler): void {
  let pending = ''
  socket.setEncoding('utf8')
  socket.setTimeout(IDLE_MS, () => socket.destroy())
  socket.on('error', () => socket.destroy())
  socket.on('data', async (data: string) => {
    pending += data
    if (pending.length > LONGEST_REQUEST) return void socket.destroy()
    for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
      const line = pending.slice(0, end)
      pending = pending.slice(end + 1)
      // what is asked for may take longer than a silent client is waited for
      socket.setTimeout(0)
      socket.write(`${await answer(line, handle)}\n`)
      socket.setTimeout(IDLE_MS)
    }
  })
}

async function answer(line: string, handle: Handler): Promise<string> {
  try {
    const request: unknown = JSON.parse(line)
    if (typeof request !== 'object' || request === null || Array.isArray(request))
      throw new Error('a request is a JSON object')
    return JSON.stringify({ ok: true, result: await handle(request as Record<string, unknown>) })
  } catch (error) {
    return JSON.stringify({ ok: false, error: (error as Error).message })
  }
}

/** Asks once. Rejects with a sentence for the person at the terminal. */
export function askControl(path: string, request: Record<string, unknown>, patienceMs = IDLE_MS): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    let text = ''
    socket.setEncoding('utf8')
    socket.setTimeout(patienceMs, () =>
      socket.destroy(new Error(`no answer from ${path} within ${patienceMs / 1000} s`)),
    )
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`))
    socket.on('error', (error: NodeJS.ErrnoException) => reject(new Error(explain(path, error))))
    socket.on('close', () => reject(new Error(`${path}: closed without an answer`)))
    socket.on('data', data => {
      text += data
      if (!text.endsWith('\n')) return
      socket.destroy()
      const reply = JSON.parse(text) as { ok: boolean; result: unknown; error: string }
      if (reply.ok) resolve(reply.result)
      else reject(new Error(reply.error))
    })
  })
}

function explain(path: string, error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
    return `nobody answers at ${path}: is it running? (another socket: -control-socket PATH)`
  }
  if (error.code === 'EACCES') return `${path}: not permitted; run as root, or as the user of the gateway`
  return error.message
}
