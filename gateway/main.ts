/** `ipref gateway`: from the command line to a running gateway, and to its end. */
import { readFileSync } from 'node:fs'
import { createLogger, type Logger } from '../runtime/log.ts'
import type { Step } from '../runtime/steps.ts'
import { type GatewayConfig, parseGatewayConfig } from './config.ts'
import { removeDevice } from './device.ts'
import { Gateway, version } from './gateway.ts'
import { removeNodeNetwork } from './kube/nodeNetwork.ts'
import { checkNode } from './nodeCheck.ts'

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
  let giveUp = () => {}
  const fatal = new Promise<'fatal'>(resolve => {
    giveUp = () => resolve('fatal')
  })
  const gateway = new Gateway(config, log, giveUp)
  try {
    await gateway.start()
  } catch (error) {
    process.stderr.write(`ipref gateway: ${(error as Error).message}\n`)
    return 1
  }
  const end = await Promise.race([fatal, untilSignal(() => gateway.reload(readAgain(argv, log)))])
  if (end !== 'fatal') {
    log.info({ signal: end }, 'gateway ends; TUN device, routes and filter stay (ipref gateway -cleanup removes them)')
  }
  await gateway.stop()
  return end === 'fatal' ? 1 : 0
}

/** The configuration as it is now; undefined when it has mistakes, which are logged: the one in force stays. */
function readAgain(argv: readonly string[], log: Logger): GatewayConfig | undefined {
  const parsed = parseGatewayConfig(argv, path => readFileSync(path, 'utf8'))
  if ('config' in parsed) return parsed.config
  for (const problem of 'problems' in parsed ? parsed.problems : [])
    log.error(`${problem}; the configuration in force stays`)
  return undefined
}

/** For `ipref check` where no gateway answers, and why: what this host has for one with the ordinary settings. */
export function checkHost(missing: string): Promise<Step[]> {
  const parsed = parseGatewayConfig(['-devmode'], () => '')
  if (!('config' in parsed)) throw new Error('the ordinary settings are not right')
  const { encodingNetworks, tunName, port } = parsed.config
  return checkNode({ encodingNetworks, tunName, port, gateway: { missing } })
}

function say(text: string, code: number): number {
  process.stdout.write(`${text}\n`)
  return code
}

async function cleanup(tunName: string): Promise<number> {
  const problems = [...(await removeNodeNetwork()), ...(await removeDevice(tunName))]
  for (const problem of problems) process.stderr.write(`ipref gateway -cleanup: ${problem}\n`)
  return problems.length === 0 ? 0 : 1
}

function untilSignal(onHangup: () => void): Promise<NodeJS.Signals> {
  process.on('SIGHUP', onHangup)
  return new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
}
