/**
 * `npm run demo`: three networks on this machine, each with its own gateway and its own names, and a public DNS; see networks.ts for the drawing.
 *
 *   npm run demo              shows what works, then stays up until Ctrl-C and says what to try
 *   npm run demo -- --check   one line per check, cleans up, exit code 0 or 1
 *
 * Everything lives in network namespaces of its own; nothing is left behind, however this process ends (netns.ts).
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Checks, expectSame } from '../support/checks.ts'
import { eventually, type Lab, type Namespace, openLab, requireProgram, runProgram } from '../support/netns.ts'
import { joinInternet, Network } from '../support/networks.ts'
import {
  enterFromOutside,
  isInsideUserNamespace,
  labSupport,
  onOutsideStop,
  reenter,
} from '../support/userNamespace.ts'
import { type DemoNetworks, fetcherFor, runDemoChecks, serveSite, zonesKnown } from './checks.ts'
import { drawing, internalZoneOf, PUBLIC_DNS, planOf, publicZoneOf, sites } from './networks.ts'
import { startPublicDns } from './publicDns.ts'

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
  say('$ ipref trace web.example.net')
  const traced = ['trace', 'web.example.net', '-control-socket', networks.one.controlSocket]
  say((await networks.one.gateway.run([IPREF, ...traced])).stdout)
  say(whatToTry(lab, networks))
  return checks
}

async function build(lab: Lab): Promise<DemoNetworks> {
  const internet = await lab.add('internet', { forwards: true })
  const zoneFile = (zone: string) => lab.file(`${zone}.zone`)
  const networks = await Promise.all(
    sites.map(async site => {
      writeFileSync(zoneFile(site.internalZone), internalZoneOf(site))
      writeFileSync(zoneFile(site.publicZone), publicZoneOf(site))
      const network = await Network.build(lab, planOf(site, zoneFile))
      await joinInternet(lab, network, internet, {
        gateway: site.wan.map(({ gateway }) => gateway),
        router: site.wan.map(({ router }) => router),
      })
      return network
    }),
  )
  const publicZones = sites.map(site => ({ site, zoneFile: zoneFile(site.publicZone) }))
  say(`  public DNS: ${await startPublicDns(lab, internet, publicZones, IPREF)}\n`)
  for (const network of networks) network.startGateway()
  const [one, two, three] = networks as [Network, Network, Network]
  await Promise.all([
    ...networks.map(network => published(network)),
    ...sites.map((site, i) => serveSite(networks[i]!.host(site.host))),
    zonesKnown(
      internet,
      PUBLIC_DNS[4],
      sites.map(site => site.publicZone),
    ),
  ])
  const fetcher = fetcherFor((await runProgram(['curl', '--version'])).code === 0)
  return { internet, one, two, three, zoneFile, fetcher }
}

/** Resolves when the DNS agent of a gateway has published the host of its zones. */
async function published(network: Network): Promise<void> {
  await network.ready()
  await eventually(`gateway ${network.plan.name} publishes its site`, async () => {
    const { counts } = (await network.status()).mappings
    return Object.entries(counts).some(([owner, count]) => owner.startsWith('dns:') && count > 0)
  })
}

/** A script that runs a command on a host or gateway, wherever it is called from. */
function writeOn(lab: Lab, namespaces: readonly Namespace[]): string {
  const path = lab.file('on')
  const lines = namespaces.map(
    one => `  ${one.label}) exec ${enterFromOutside(lab.folder)}${one.enter.join(' ')} "$@" ;;`,
  )
  writeFileSync(
    path,
    `#!/bin/sh\nhost=$1; shift\ncase $host in\n${lines.join('\n')}\n  *) echo "hosts: ${namespaces.map(one => one.label).join(' ')}" >&2; exit 2 ;;\nesac\n`,
    { mode: 0o755 },
  )
  return path
}

function whatToTry(lab: Lab, { one, two, three, zoneFile }: DemoNetworks): string {
  const namespaces = [one, two, three].flatMap(network => [network.gateway, ...network.hosts.values()])
  const on = writeOn(lab, namespaces)
  const control = `-control-socket ${one.controlSocket}`
  return `Everything is up until Ctrl-C. Try, in another terminal${isInsideUserNamespace() ? '' : ' (as root)'}:
  ${on} anna curl http://web.example.net
  ${on} anna ping web.example.org
  ${on} carol traceroute -n web.example.net
  ${on} bob tcpdump -ni eth0                    # who reaches bob, as bob sees it
  ${on} gw-2 tcpdump -ni wan udp port 1045      # the tunnel
  ${on} gw-1 ${IPREF} trace web.example.net ${control}
  ${IPREF} status --watch ${control}
Publish another host: a line with its address in ${zoneFile('one.internal')},
and one with its AA record in ${zoneFile('example.com')}: in force within seconds.
What gateway 1 says of it: tail -f ${lab.file('1.log')}`
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
