/** `ipref operator`: from the command line to a running operator, and to its end. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DirectoryStore } from '../resources/directoryStore.ts'
import { KubernetesStore } from '../resources/kubernetesStore.ts'
import type { ResourceStore } from '../resources/store.ts'
import { systemClock } from '../runtime/clock.ts'
import { healthPages, metricsPage, servePages } from '../runtime/http.ts'
import { createLogger, type Logger } from '../runtime/log.ts'
import { cleanUp } from './cleanup.ts'
import { Operator } from './operator.ts'
import { type OperatorConfig, parseOperatorConfig } from './operatorOptions.ts'

/** Resolves to the exit code: 0; 1: could not start; 2: the options are wrong. */
export async function main(argv: readonly string[]): Promise<number> {
  const parsed = parseOperatorConfig(argv, path => readFileSync(path, 'utf8'))
  if ('help' in parsed) return say(parsed.help, 0)
  if ('version' in parsed) return say(`ipref ${versionOf()}`, 0)
  if ('problems' in parsed) {
    process.stderr.write(`${parsed.problems.map(problem => `ipref operator: ${problem}`).join('\n')}\n`)
    return 2
  }
  const { config } = parsed
  if (config.checkOnly) return say('the options are right', 0)
  const log = createLogger({ level: config.logLevel, format: config.logFormat })
  const ends: (() => unknown)[] = []
  try {
    const store = await openStore(config, log)
    ends.push(() => store.close())
    if (config.cleanup) return await cleanUpWith(config, config.cleanup, store, log)
    const operator = new Operator(config, { store, clock: systemClock, log, random: Math.random })
    ends.push(() => operator.stop())
    const { health, metrics } = config
    if (health)
      ends.push(
        (
          await servePages(
            health,
            healthPages(() => operator.unready()),
          )
        ).close,
      )
    if (metrics)
      ends.push(
        (
          await servePages(
            metrics,
            metricsPage(() => operator.metrics.render()),
          )
        ).close,
      )
    await operator.start()
    const signal = await untilSignal()
    log.info({ signal }, 'operator ends; what is published stays')
    return 0
  } catch (error) {
    const lines = (error as Error).message.split('\n').map(line => `ipref operator: ${line}`)
    process.stderr.write(`${lines.join('\n')}\n`)
    return 1
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

async function cleanUpWith(
  config: OperatorConfig,
  cleanup: NonNullable<OperatorConfig['cleanup']>,
  store: ResourceStore,
  log: Logger,
): Promise<number> {
  const { namespace, settings, identity } = config
  const problems = await cleanUp({ namespace, settings, identity, ...cleanup }, { store, clock: systemClock, log })
  for (const problem of problems) process.stderr.write(`ipref operator -cleanup: ${problem}\n`)
  return problems.length === 0 ? 0 : 1
}

function openStore(config: OperatorConfig, log: Logger): Promise<ResourceStore> {
  const { manifests, kubeconfig, context } = config
  if (manifests === undefined)
    return KubernetesStore.open({
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(context === undefined ? {} : { context }),
    })
  let hadProblems = false
  const onProblems = (problems: readonly string[]) => {
    for (const problem of problems) log.error({ component: 'manifests' }, problem)
    if (problems.length === 0 && hadProblems)
      log.info({ component: 'manifests' }, 'the files have no mistakes any more')
    hadProblems = problems.length > 0
  }
  return DirectoryStore.open(manifests, { onProblems })
}

function versionOf(): string {
  const file = join(import.meta.dirname, '../package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
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
