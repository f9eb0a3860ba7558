/**
 * An API server that listens on 127.0.0.1 of this host alone, as seen from a network namespace: two ends joined by a Unix socket, which namespaces share.
 *
 *   in the namespace: client ─► 127.0.0.1:PORT ─ node apiRelay.ts PORT SOCKET ─► Unix socket ─► startRelay, in this process ─► 127.0.0.1:PORT of the server
 *
 * The port is the same on both sides, so that kubeconfig and certificate are right as they are. Carries bytes and knows nothing of them.
 */
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'
import { eventually, type Namespace } from './netns.ts'

export interface Relay {
  close(): Promise<void>
}

/** From now on the server at this port of 127.0.0.1 is there in the namespace, too. `socket`: path of a file that is made. */
export async function startRelay(from: Namespace, port: number, socket: string): Promise<Relay> {
  const outside = await listening(socket, { host: '127.0.0.1', port })
  const inside = from.start([process.execPath, import.meta.filename, String(port), socket], {
    log: `${from.label}-relay.log`,
  })
  await eventually('the relay of the API server', () => inside.log().includes('ready'), { withinMs: 60_000 })
  return {
    async close() {
      await inside.stop()
      await outside.close()
    },
  }
}

async function listening(at: string | { host: string; port: number }, to: NetConnectOpts): Promise<Relay> {
  const sockets = new Set<Socket>()
  const server: Server = createServer(near => {
    const far = connect(to)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(at, resolve)
  })
  return {
    async close() {
      const closed = new Promise(resolve => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

if (import.meta.main) {
  const [port, path] = process.argv.slice(2) as [string, string]
  await listening({ host: '127.0.0.1', port: Number(port) }, { path })
  console.log('ready')
}
