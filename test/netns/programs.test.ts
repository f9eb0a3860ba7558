/**
 * Three programs in place of one: beside a gateway that knows nothing of DNS run `ipref resolver`, from a Corefile, and `ipref dns-agent`, as the deployed ones do
 * beside a deployed gateway. The other network has all in its gateway; the public DNS is a primary that both agents transfer from.
 *
 *   host-a ── gw-a: gateway ─── internet ─── gw-b: gateway ◄─ mapper socket ─ resolver, dns-agent ── host-b
 *   10.1.0.10  198.51.100.1    203.0.113.53    198.51.100.2                                      10.1.0.10
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Checks, expectThat } from '../support/checks.ts'
import { eventually, type Lab, type Namespace, openLab, type Running } from '../support/netns.ts'
import { joinInternet, Network, type NetworkPlan } from '../support/networks.ts'
import { ping } from '../support/probes.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const PUBLIC_DNS = '203.0.113.53'
const ENCODED = /^10\.2[45]\d\./
const RECONNECTS_WITHIN_MS = 120_000

interface Programs {
  a: Network
  b: Network
  resolver: Running
  agent: Running
}

export async function run(checks: Checks): Promise<void> {
  const lab = await openLab()
  try {
    const { a, b, resolver, agent } = await build(lab)
    const [hostA, hostB] = [a.host('host-a'), b.host('host-b')]
    await checks.check('agent alone: the other network reaches what it published', () =>
      reaches(hostA, 'web.example.net'),
    )
    await checks.check('resolver alone, from a Corefile: names of the other network', () =>
      reaches(hostB, 'web.example.com'),
    )
    await checks.check('resolver alone: PTR of an encoded address', async () => {
      const line = await hostB.require(['getent', 'hosts', await addressOf(hostB, 'web.example.com')])
      expectThat(/\sweb\.example\.com$/.test(line.trim()), `getent hosts says ${line}`)
      return undefined
    })
    await checks.check('resolver alone: an excepted name has its native address', async () => {
      const address = await addressOf(hostB, 'web.example.net')
      expectThat(address === '10.1.0.10', `web.example.net is ${address}`)
      return undefined
    })
    await checks.check('the gateway ends and starts again: both find it, nothing is lost', async () => {
      const before = await addressOf(hostB, 'web.example.com')
      await b.stopGateway('SIGKILL')
      b.startGateway()
      await b.ready()
      await reaches(hostA, 'web.example.net')
      await reaches(hostB, 'web.example.com')
      const after = await addressOf(hostB, 'web.example.com')
      expectThat(after === before, `${before} became ${after}`)
      for (const [what, running] of Object.entries({ resolver, agent }))
        expectThat(!running.hasExited(), `the ${what} ended:\n${running.log()}`)
      return undefined
    })
  } finally {
    await lab.close()
  }
}

async function addressOf(host: Namespace, name: string): Promise<string> {
  return (await host.require(['getent', 'ahosts', name])).split(/\s/)[0] ?? ''
}

async function reaches(host: Namespace, name: string): Promise<string> {
  const reach = async () => {
    const address = await addressOf(host, name)
    expectThat(ENCODED.test(address), `${name} is ${address}`)
    await ping(host, address)
    return address
  }
  return eventually(`${host.label} reaches ${name}`, reach, { withinMs: RECONNECTS_WITHIN_MS, everyMs: 500 })
}

// ---- what is built

async function build(lab: Lab): Promise<Programs> {
  const internet = await lab.add('internet', { forwards: true })
  await internet.ip(`address add ${PUBLIC_DNS}/32 dev lo`)
  startPublicDns(lab, internet)
  const [a, b] = [await Network.build(lab, planA(lab)), await Network.build(lab, planB())]
  await joinInternet(lab, a, internet, { gateway: ['198.51.100.1/31'], router: ['198.51.100.0/31'] })
  await joinInternet(lab, b, internet, { gateway: ['198.51.100.2/31'], router: ['198.51.100.3/31'] })
  for (const network of [a, b]) network.startGateway()
  const [resolver, agent] = startBeside(lab, b)
  await Promise.all([a.ready(), b.ready()])
  return { a, b, resolver, agent }
}

function planA(lab: Lab): NetworkPlan {
  const internalZone = zoneFile(lab, 'one.internal', 'gw', 'gw A 10.1.0.1\nweb A 10.1.0.10\n')
  return {
    name: 'a',
    lan: ['10.1.0.1/24'],
    hosts: { 'host-a': ['10.1.0.10/24'] },
    nameServers: ['10.1.0.1'],
    mappings: [],
    flags: [
      ...['-gateway', '198.51.100.1', '-resolver-listen', '10.1.0.1:53', '-resolver-upstream', PUBLIC_DNS],
      ...['-zone-internal', `one.internal=${internalZone}`, '-zone-listen', '10.1.0.1:5353'],
      ...['-dns-agent', `one.internal:example.com:${PUBLIC_DNS}`, '-dns-agent-resolver', '10.1.0.1:5353'],
    ],
  }
}

function planB(): NetworkPlan {
  return {
    name: 'b',
    lan: ['10.1.0.1/24'],
    hosts: { 'host-b': ['10.1.0.10/24'] },
    nameServers: ['10.1.0.1'],
    mappings: [],
    flags: ['-gateway', '198.51.100.2'],
  }
}

// the inside sees example.net with native addresses: LOCAL and PUBLIC are one domain
function startBeside(lab: Lab, b: Network): [resolver: Running, agent: Running] {
  const inside = zoneFile(lab, 'inside.example.net', 'gw', 'gw A 10.1.0.1\nweb A 10.1.0.10\n')
  const corefile = lab.file('Corefile')
  const mapper = lab.file('b-mapper.sock')
  writeFileSync(
    corefile,
    `.:53 {
    bind 10.1.0.1
    ipref {
        except example.net
        upstream ${PUBLIC_DNS}
        mapper ${mapper}
    }
    forward . 10.1.0.1:5353 ${PUBLIC_DNS}
    errors
}
example.net:5353 {
    bind 10.1.0.1
    file ${inside}
}
`,
  )
  const start = (...words: string[]) =>
    b.gateway.start([IPREF, ...words, '-log-format', 'text'], { log: `b-${words[0]}.log` })
  const resolver = start('resolver', '-corefile', corefile, '-control-socket', lab.file('b-resolver.sock'))
  const flags = ['-m', `unix://${mapper}`, '-t', '1', '-resolver', '10.1.0.1:5353', '-log-format', 'text']
  const source = `example.net:example.net:${PUBLIC_DNS}`
  return [resolver, b.gateway.start([IPREF, 'dns-agent', ...flags, source], { log: 'b-dns-agent.log' })]
}

function startPublicDns(lab: Lab, internet: Namespace): void {
  const com = zoneFile(lab, 'example.com', 'ns', 'ns A 203.0.113.53\nweb TXT "AA 198.51.100.1 + 11"\n')
  const net = zoneFile(
    lab,
    'example.net',
    'ns',
    'ns A 203.0.113.53\ngw A 198.51.100.2\nweb TXT "AA gw.example.net + 22"\n',
  )
  const zones = ['-zone', `example.com=${com}`, '-zone', `example.net=${net}`, '-zone-listen', `${PUBLIC_DNS}:53`]
  const folders = [
    '-data',
    lab.file('public-data'),
    '-mapper-socket',
    lab.file('public-mapper.sock'),
    '-hosts',
    '/dev/null',
  ]
  internet.start(
    [
      IPREF,
      'gateway',
      '-devmode',
      ...zones,
      '-zone-transfer',
      '198.51.100.0/24',
      ...folders,
      '-control-socket',
      lab.file('p.sock'),
    ],
    { log: 'public-dns.log' },
  )
}

function zoneFile(lab: Lab, name: string, server: string, lines: string): string {
  const file = lab.file(`${name}.zone`)
  writeFileSync(file, `$TTL 5\n@ SOA ${server} hostmaster 1 60 10 86400 1\n@ NS ${server}\n${lines}`)
  return file
}
