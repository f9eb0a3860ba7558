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
import { ManifestFolder } from './manifests.ts'
import {
  drawing,
  internalZoneOf,
  operatorArguments,
  PUBLIC_DNS,
  planOf,
  publicZoneOf,
  type SitePlan,
  sites,
} from './networks.ts'
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
  say('$ ipref trace web.news.example.net')
  const traced = ['trace', 'web.news.example.net', '-control-socket', networks.one.controlSocket]
  say((await networks.one.gateway.run([IPREF, ...traced])).stdout)
  const ofFolder = ['-manifests', networks.manifests.one.folder]
  say('\n$ ipref status -manifests network-1')
  say((await networks.one.gateway.run([IPREF, 'status', ...ofFolder])).stdout)
  say('$ ipref trace shop/web -manifests network-1')
  say((await networks.one.gateway.run([IPREF, 'trace', 'shop/web', ...ofFolder])).stdout)
  say(whatToTry(lab, networks))
  return checks
}

async function build(lab: Lab): Promise<DemoNetworks> {
  const internet = await lab.add('internet', { forwards: true })
  const zoneFile = (zone: string) => lab.file(`${zone}.zone`)
  const networks = await Promise.all(sites.map(site => buildSite(lab, site, internet, zoneFile)))
  say(`  public DNS: ${await startPublicDns(lab, internet, sites)}\n`)
  const [one, two, three] = networks as [Network, Network, Network]
  const [first, second] = await Promise.all([one, two].map(network => startOperator(lab, network)))
  for (const network of networks) network.startGateway()
  const manifests = { one: first!, two: second! }
  await Promise.all([
    ...networks.map(network => network.ready()),
    eventually('network 1 publishes its site', () => manifests.one.isReady('shop', 'web'), { withinMs: 60_000 }),
    eventually('network 2 publishes its site', () => manifests.two.isReady('news', 'web'), { withinMs: 60_000 }),
    eventually('network 3 publishes its site', () => agentPublishes(three), { withinMs: 60_000 }),
    ...sites.map((site, i) => serveSite(networks[i]!.host(site.host))),
    zonesKnown(
      internet,
      PUBLIC_DNS[4],
      sites.map(site => site.publicZone),
    ),
  ])
  const fetcher = fetcherFor((await runProgram(['curl', '--version'])).code === 0)
  return { internet, one, two, three, manifests, zoneFile, fetcher }
}

async function buildSite(
  lab: Lab,
  site: SitePlan,
  internet: Namespace,
  zoneFile: (zone: string) => string,
): Promise<Network> {
  if (site.publishes === 'zone files') {
    writeFileSync(zoneFile(site.internalZone), internalZoneOf(site))
    writeFileSync(zoneFile(site.publicZone), publicZoneOf(site))
  }
  const network = await Network.build(lab, planOf(site, { zone: zoneFile, manifests: folderOf(lab, site.network) }))
  await joinInternet(lab, network, internet, {
    gateway: site.wan.map(({ gateway }) => gateway),
    router: site.wan.map(({ router }) => router),
  })
  return network
}

function folderOf(lab: Lab, network: string): string {
  return lab.file(`network-${network}`)
}

/** On the gateway's host, which asks the public DNS for names: so the operator finds out who serves its zone. */
async function startOperator(lab: Lab, { plan, gateway }: Network): Promise<ManifestFolder> {
  const from = join(import.meta.dirname, `network-${plan.name}`)
  const folder = folderOf(lab, plan.name)
  const manifests = await ManifestFolder.open(from, folder, line => say(`  ·   network ${plan.name}: ${line}`))
  gateway.useNameServers([PUBLIC_DNS[4]])
  gateway.start([IPREF, ...operatorArguments(folder)], { log: `${plan.name}-operator.log` })
  return manifests
}

/** Has the DNS agent of a gateway published the host of its zones? */
async function agentPublishes(network: Network): Promise<boolean> {
  const { counts } = (await network.status()).mappings
  return Object.entries(counts).some(([owner, count]) => owner.startsWith('dns:') && count > 0)
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

function whatToTry(lab: Lab, { one, two, three, manifests, zoneFile }: DemoNetworks): string {
  const namespaces = [one, two, three].flatMap(network => [network.gateway, ...network.hosts.values()])
  const on = writeOn(lab, namespaces)
  const control = `-control-socket ${one.controlSocket}`
  return `Everything is up until Ctrl-C. Try, in another terminal${isInsideUserNamespace() ? '' : ' (as root)'}:
  ${on} anna curl http://web.news.example.net
  ${on} anna ping web.example.org
  ${on} carol traceroute -n web.news.example.net
  ${on} bob tcpdump -ni eth0                    # who reaches bob, as bob sees it
  ${on} gw-2 tcpdump -ni wan udp port 1045      # the tunnel
  ${on} gw-1 ${IPREF} trace web.news.example.net ${control}
  ${IPREF} status --watch ${control}
  ${on} gw-1 ${IPREF} trace shop/web -manifests ${manifests.one.folder}
Publish, move and withdraw hosts of networks 1 and 2: edit the YAML in
  ${manifests.one.folder}
  ${manifests.two.folder}
and see here what becomes of it. Network 3 has zone files: a line with an address in ${zoneFile('three.internal')},
one with the AA record in ${zoneFile('example.org')}. Logs: tail -f ${lab.file('1')}*.log`
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
