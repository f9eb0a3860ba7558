/** `ipref gateway`: from the command line to a running gateway, and to its end. */
import { readFileSync } from 'node:fs'
import { createLogger } from '../runtime/log.ts'
import { parseGatewayConfig } from './config.ts'
import { removeDevice } from './device.ts'
import { Gateway, version } from './gateway.ts'

/** Resolves to the exit code: 0; 1: could not start or do its work; 2: the configuration is wrong. */
export async function main(argv: readonly string[]): Promise<number> {
  const parsed = parseGatewayConfig(argv, path => readFileSync(path, 'utf8'))
  if ('help' in parsed) return say(parsed.help, 0)
  if ('version' in parsed) return say(`ipref ${version}`, 0)
  if ('problems' in parsed) {
    process.stderr.write(`${parsed.problems.map(problem => `ipref gateway: ${problem}`).join('\n')}\n`)
    return 2
  }
  const { config } = parsed
  if (config.checkOnly) return say('the configuration is right', 0)
  if (config.cleanup) return cleanup(config.tunName)
  const log = createLogger({ level: config.logLevel, format: config.logFormat })
  for (const note of config.notes) log.info(note)
  const gateway = new Gateway(config, log)
  try {
    await gateway.start()
  } catch (error) {
    process.stderr.write(`ipref gateway: ${(error as Error).message}\n`)
    return 1
  }
  const signal = await untilSignal(() => gateway.reload())
  log.info({ signal }, 'gateway ends; TUN device, routes and filter stay (ipref gateway -cleanup removes them)')
  await gateway.stop()
  return 0
}

function say(text: string, code: number): number {
  process.stdout.write(`${text}\n`)
  return code
}

async function cleanup(tunName: string): Promise<number> {
  const problems = await removeDevice(tunName)
  for (const problem of problems) process.stderr.write(`ipref gateway -cleanup: ${problem}\n`)
  return problems.length === 0 ? 0 : 1
}

function untilSignal(onHangup: () => void): Promise<NodeJS.Signals> {
  process.on('SIGHUP', onHangup)
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
}
