/** Small HTTP services beside the program: /metrics, and /healthz with /readyz. Nothing secret is served; requests are not logged. */
import { createServer, type Server } from 'node:http'

export type Page = () =>
  | Promise<{ status: number; type: string; body: string }>
  | { status: number; type: string; body: string }

export async function servePages(
  listen: { host: string; port: number },
  pages: Readonly<Record<string, Page>>,
): Promise<{ port: number; close(): void }> {
  const server = createServer(async (request, response) => {
    const page = pages[(request.url ?? '').split('?')[0]!]
    if (!page || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(page ? 405 : 404, { 'content-type': 'text/plain' }).end(`${Object.keys(pages).join('\n')}\n`)
      return
    }
    try {
      const { status, type, body } = await page()
      response.writeHead(status, { 'content-type': type }).end(body)
    } catch (error) {
      response.writeHead(500, { 'content-type': 'text/plain' }).end(`${(error as Error).message}\n`)
    }
  })
  server.maxConnections = 64
  server.requestTimeout = 10_000
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => reject(new Error(`${listen.host}:${listen.port}: ${error.message}`)))
    server.listen(listen.port, listen.host === '' ? undefined : listen.host, resolve)
  })
  return { port: (server.address() as { port: number }).port, close: () => closeServer(server) }
}

function closeServer(server: Server): void {
  server.close()
  server.closeAllConnections()
}

/** /metrics, in the text format of Prometheus. */
export function metricsPage(render: () => Promise<string> | string): Record<string, Page> {
  const type = 'text/plain; version=0.0.4; charset=utf-8'
  return { '/metrics': async () => ({ status: 200, type, body: await render() }) }
}

/** /healthz: the process answers. /readyz: it does its work, or the reasons why not, one a line. */
export function healthPages(reasons: () => readonly string[]): Record<string, Page> {
  return {
    '/healthz': () => ({ status: 200, type: 'text/plain', body: 'ok\n' }),
    '/readyz': () => {
      const found = reasons()
      return found.length === 0
        ? { status: 200, type: 'text/plain', body: 'ready\n' }
        : { status: 503, type: 'text/plain', body: `${found.join('\n')}\n` }
    },
  }
}
