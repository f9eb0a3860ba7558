/**
 * `npm run demo`: three networks on this machine, each with its own gateway; see networks.ts for the drawing.
 *
 *   npm run demo              shows what works, then stays up until Ctrl-C and says what to try
 *   npm run demo -- --check   one line per check, cleans up, exit code 0 or 1
 *
 * Everything lives in network namespaces of its own; nothing is left behind, however this process ends (netns.ts).
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Checks, expectSame } from '../support/checks.ts'
import { type Lab, openLab, requireProgram, runProgram } from '../support/netns.ts'
import { joinInternet, Network } from '../support/networks.ts'
import {
  enterFromOutside,
  isInsideUserNamespace,
  labSupport,
  onOutsideStop,
  reenter,
} from '../support/userNamespace.ts'
import { type DemoNetworks, runDemoChecks } from './checks.ts'
import { drawing, links, plans, remote } from './networks.ts'

const ROOT = join(import.meta.dirname, '../..')
const IPREF = join(ROOT, 'cli/ipref')
const USAGE = 'usage: npm run demo [-- --check]\n'

async function main(argv: readonly string[]): Promise<number> {
  if (argv.some(argument => argument !== '--check')) {
    process.stderr.write(USAGE)
    return 2
  }
  const support = isInsideUserNamespace() ? ({ how: 'root' } as const) : labSupport()
  if (support.how === 'none') {
    process.stderr.write(`the demo cannot run here: ${support.reason}\n`)
    return 1
  }
  if (support.how === 'user-namespace') return reenter()
  return runDemo({ staysUp: !argv.includes('--check') })
}

async function runDemo({ staysUp }: { staysUp: boolean }): Promise<number> {
  const lab = await openLab()
  const stopped = untilStopped()
  const show = showNetworks(lab, staysUp)
  show.catch(() => {})
  try {
    const outcome = await Promise.race([show, stopped.then(() => 'stopped' as const)])
    if (outcome !== 'stopped') {
      if (staysUp) await stopped
      else await outcome.check('nothing is left behind', () => expectNothingLeft(lab))
      say(outcome.summary())
      return outcome.tally.failed === 0 ? 0 : 1
    }
    return 130
  } finally {
    await lab.close()
  }
}

async function showNetworks(lab: Lab, staysUp: boolean): Promise<Checks> {
  say(drawing)
  const networks = await build(lab)
  const checks = new Checks(say)
  await runDemoChecks(networks, checks)
  if (!staysUp) return checks
  say('\n$ ipref status          (on gateway 1)')
  say(await requireProgram([IPREF, 'status', '-control-socket', networks.one.controlSocket]))
  say(`$ ipref trace ${remote.bob}`)
  say((await runProgram([IPREF, 'trace', remote.bob, '-control-socket', networks.one.controlSocket])).stdout)
  say(whatToTry(lab, networks))
  return checks
}

async function build(lab: Lab): Promise<DemoNetworks> {
  const internet = await lab.add('internet', { forwards: true })
  const networks = await Promise.all(
    plans.map(async plan => {
      const network = await Network.build(lab, plan)
      await joinInternet(lab, network, internet, links[plan.name]!)
      network.startGateway()
      return network
    }),
  )
  await Promise.all(networks.map(network => network.ready()))
  const [one, two, three] = networks as [Network, Network, Network]
  return { one, two, three }
}

function whatToTry(lab: Lab, { one, two }: DemoNetworks): string {
  const enter = `${process.getuid?.() === 0 && !isInsideUserNamespace() ? '' : enterFromOutside(lab.folder)}ip netns exec`
  const log = (network: Network) => `tail -f ${lab.file(`${network.plan.name}.log`)}`
  return `Everything is up until Ctrl-C. Try, in another terminal${isInsideUserNamespace() ? '' : ' (as root)'}:
  ${enter} ${one.host('anna').name} ping ${remote.bob}
  ${enter} ${one.host('anna').name} traceroute -n ${remote.carol}
  ${enter} ${two.host('bob').name} tcpdump -ni eth0          # bob sees anna as ${remote.anna}
  ${enter} ${two.gateway.name} tcpdump -ni wan udp port 1045  # the tunnel
  ${IPREF} status --watch -control-socket ${one.controlSocket}
  ${log(one)}
The hosts file of gateway 1, ${one.hostsFile}, is watched: a line added there is in force at once.`
}

async function expectNothingLeft(lab: Lab): Promise<undefined> {
  await lab.close()
  const names = await requireProgram(['ip', 'netns', 'list'])
  expectSame('namespaces left', names.split('\n').filter(name => name.startsWith(`${lab.prefix}-`)).length, 0)
  expectSame('folder left', existsSync(lab.folder), false)
  return undefined
}

function untilStopped(): Promise<void> {
  return new Promise(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve())
    if (isInsideUserNamespace()) onOutsideStop(resolve)
  })
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exit(await main(process.argv.slice(2)))
