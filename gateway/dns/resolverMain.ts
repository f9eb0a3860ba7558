/** `ipref resolver`: from the command line to a running resolver, and to its end. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseName } from '../../dns/name.ts'
import { formatAddress } from '../../ipref/address.ts'
import { serveControl } from '../../runtime/controlSocket.ts'
import { healthPages, metricsPage, servePages } from '../../runtime/http.ts'
import { createLogger, type Logger } from '../../runtime/log.ts'
import { verdictOf } from '../../runtime/steps.ts'
import { parseResolverConfig, type ResolverProgramConfig } from './resolverConfig.ts'
import { ResolverHost } from './resolverHost.ts'
import { logResolverEvent, renderResolverMetrics } from './resolverReports.ts'
import { serveZones } from './zones.ts'

/** Resolves to the exit code: 0; 1: could not start; 2: the configuration is wrong. */
export async function main(argv: readonly string[]): Promise<number> {
  const parsed = parseResolverConfig(argv, path => readFileSync(path, 'utf8'))
  if ('help' in parsed) return say(parsed.help, 0)
  if ('version' in parsed) return say(`ipref ${versionOf()}`, 0)
  if ('problems' in parsed) {
    process.stderr.write(`${parsed.problems.map(problem => `ipref resolver: ${problem}`).join('\n')}\n`)
    return 2
  }
  const { config } = parsed
  if (config.checkOnly) return say('the configuration is right', 0)
  const log = createLogger({ level: config.logLevel, format: config.logFormat })
  const ends: (() => void | Promise<void>)[] = []
  try {
    await start(config, log, ends)
    const signal = await untilSignal()
    log.info({ signal }, 'resolver ends')
    return 0
  } catch (error) {
    process.stderr.write(`ipref resolver: ${(error as Error).message}\n`)
    return 1
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

async function start(config: ResolverProgramConfig, log: Logger, ends: (() => void | Promise<void>)[]): Promise<void> {
  for (const note of config.notes) log.info(note)
  const host = new ResolverHost(config.resolver, { onEvent: event => logResolverEvent(log, event) })
  ends.push(() => host.stop())
  await host.start()
  if (config.zones.length > 0) ends.push(await serveZones(config.zones, log))
  await serveTraces(host, config, log, ends)
  const { metrics, health } = config
  if (metrics) {
    const render = () => renderResolverMetrics(name => host.stat(name), host.restarts)
    const pages = await servePages(metrics, metricsPage(render))
    ends.push(() => pages.close())
  }
  if (health) {
    const pages = await servePages(
      health,
      healthPages(() => (host.unready ? [host.unready] : [])),
    )
    ends.push(() => pages.close())
  }
  log.info(
    {
      listening: host.listening.map(({ address, port }) => `${formatAddress(address)} port ${port}`),
      upstreams: config.resolver.upstreams.map(s => s.text),
      forwarders: config.resolver.forwarders.map(s => s.text),
      mapper: config.resolver.mapperSocket,
    },
    'resolver started',
  )
}

// for a person who looks for a fault; names are answered without it too
async function serveTraces(
  host: ResolverHost,
  config: ResolverProgramConfig,
  log: Logger,
  ends: (() => void | Promise<void>)[],
): Promise<void> {
  if (!config.controlSocket) return
  try {
    const control = await serveControl(config.controlSocket, async request => {
      const text = String(request.name)
      if (request.do !== 'trace' || request.name === undefined)
        throw new Error('the resolver answers `ipref trace NAME` alone; for the rest ask the gateway')
      const name = parseName(text)
      if (!name) return { name: text, steps: [], addresses: [], verdict: `${text} is no name` }
      const { steps, addresses } = await host.trace(name, '-')
      const verdict = verdictOf(steps, `${text} is answered with ${addresses.join(', ')}`)
      return { name: text, steps, addresses, verdict }
    })
    ends.push(() => control.close())
  } catch (error) {
    log.warn(`no control socket, so no \`ipref trace\`: ${(error as Error).message}`)
  }
}

function versionOf(): string {
  return (JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string })
    .version
}

function say(text: string, code: number): number {
  process.stdout.write(`${text}\n`)
  return code
}

function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
}
