/**
 * The web sites of the demo, and two small tools that ask about them.
 *
 *   node site.ts serve HOST                     port 80: says who it is, and who asks, by the name that its own network has for the asker
 *   node site.ts get URL                        prints a page, where there is no curl
 *   node site.ts wait SERVER ZONE…              until the server knows all the zones
 *   node site.ts ask SERVER NAME [TXT]          the addresses, or the texts, that a server has for a name; or the error code
 */
import { Resolver, reverse } from 'node:dns/promises'
import { createServer, get } from 'node:http'

const PAGE_PATIENCE_MS = 8000
const ANSWER_PATIENCE_MS = 1000
const TRIES_EVERY_MS = 100

function serve(host: string): void {
  const server = createServer(async (request, response) => {
    const from = request.socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''
    const names = await reverse(from).catch(() => [])
    response.end(`${request.headers.host}, on ${host}: welcome, ${[from, ...names].join(' ')}\n`)
  })
  server.listen(80, '::', () => console.log('ready'))
}

function fetchPage(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: PAGE_PATIENCE_MS }, async response => {
      let text = ''
      for await (const part of response.setEncoding('utf8')) text += part
      resolve(text)
    })
    request.on('timeout', () => request.destroy(new Error('timed out')))
    request.on('error', reject)
  })
}

function resolverAt(server: string): Resolver {
  const resolver = new Resolver({ timeout: ANSWER_PATIENCE_MS, tries: 1 })
  resolver.setServers([server])
  return resolver
}

async function waitFor(server: string, zones: readonly string[]): Promise<void> {
  const resolver = resolverAt(server)
  for (const zone of zones) {
    while (!(await resolver.resolveSoa(zone).catch(() => undefined)))
      await new Promise(resolve => setTimeout(resolve, TRIES_EVERY_MS))
  }
}

async function ask(server: string, name: string, type = 'A'): Promise<string> {
  const resolver = resolverAt(server)
  try {
    if (type === 'TXT') return (await resolver.resolveTxt(name)).flat().join('\n')
    return (await resolver.resolve4(name)).join(' ')
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}

const [what, first = '', ...rest] = process.argv.slice(2)
if (what === 'serve') serve(first)
else if (what === 'get') process.stdout.write(await fetchPage(first))
else if (what === 'wait') await waitFor(first, rest)
else if (what === 'ask') console.log(await ask(first, rest[0] ?? '', rest[1]))
else throw new Error(`unknown: ${what}`)
