/** `ipref dns-agent`: from the command line to a running agent, and to its end. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatAddress } from '../../ipref/address.ts'
import { formatReference } from '../../ipref/reference.ts'
import { metricsPage, servePages } from '../../runtime/http.ts'
import { createLogger } from '../../runtime/log.ts'
import { Poller } from '../sys/poller.ts'
import { Agent } from './agent.ts'
import { parseAgentConfig } from './agentConfig.ts'
import { connectMapper, type LinkEvents, type MapperLink, pretendMapper } from './agentLink.ts'
import { renderPublishMetrics } from './publishReports.ts'

/** Resolves to the exit code: 0; 1: could not start; 2: the configuration is wrong. */
export async function main(argv: readonly string[]): Promise<number> {
  const parsed = parseAgentConfig(argv, path => readFileSync(path, 'utf8'))
  if ('help' in parsed) return say(parsed.help, 0)
  if ('version' in parsed) return say(`ipref ${versionOf()}`, 0)
  if ('problems' in parsed) {
    process.stderr.write(`${parsed.problems.map(problem => `ipref dns-agent: ${problem}`).join('\n')}\n`)
    return 2
  }
  const { config } = parsed
  if (config.checkOnly) return say('the configuration is right', 0)
  const log = createLogger({ level: config.logLevel, format: config.logFormat })
  const poller = new Poller()
  const link = (events: LinkEvents): MapperLink =>
    config.devmode
      ? pretendMapper(events, (source, { native, context, reference }) =>
          log.info(
            { source },
            `host ${formatAddress(native)} = ${formatAddress(context)} + ${formatReference(reference)}`,
          ),
        )
      : connectMapper(config.agent.mapperSocket, poller, events)
  const agent = new Agent(config.agent, { link, poller, log })
  let pages: { close(): Promise<void> | void } | undefined
  try {
    await agent.start()
    const metrics = metricsPage(() => renderPublishMetrics(undefined, agent.counts()))
    pages = config.metrics && (await servePages(config.metrics, metrics))
    log.info(
      { sources: agent.status().map(s => s.source), mapper: config.devmode ? null : config.agent.mapperSocket },
      'DNS agent started',
    )
    const signal = await untilSignal()
    log.info({ signal }, 'DNS agent ends')
    return 0
  } catch (error) {
    process.stderr.write(`ipref dns-agent: ${(error as Error).message}\n`)
    return 1
  } finally {
    await pages?.close()
    await agent.stop()
    poller.close()
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
