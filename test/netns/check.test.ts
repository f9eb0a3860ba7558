/**
 * `ipref check` with two real gateways, and a router between them that loses, drops and rewrites: each thing that can be wrong is made wrong, and must be the
 * first that is named.
 *
 *   client ── gw-a ───────────── internet ───────────── gw-b ── server, with a TCP service at port 80
 *   10.1.0.10  198.51.100.1    203.0.113.53, its DNS    198.51.100.2  10.1.0.10
 *
 * It runs where gw-a runs, as a person would run it; behind the NAT, where gw-b runs.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Checked } from '../../cli/checkReports.ts'
import type { Step } from '../../runtime/steps.ts'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually, type Lab, type Namespace, openLab, type Running } from '../support/netns.ts'
import { joinInternet, Network } from '../support/networks.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const DNS = '203.0.113.53'
const NAME = 'web.example.net'
/** Outer bytes; nobody is told. */
const BLACK_HOLE = 1380
/** What is tried is told apart so well. */
const NEAR = 8
const SERVE = "require('net').createServer(s => s.end()).listen(80, '0.0.0.0', () => console.log('ready'))"
const PATIENCE_MS = 300_000

interface World {
  lab: Lab
  internet: Namespace
  a: Network
  b: Network
  dns: Running
}

interface Found {
  code: number
  checked: Checked[]
  steps: Step[]
  /** the first that is wrong, or else to be looked at */
  first: Step | undefined
}

export async function run(checks: Checks): Promise<void> {
  const world = await build()
  const { a, b, internet, lab } = world
  const check = (...words: string[]) => runCheck(a, words)
  try {
    await checks.check('all is well: DNS, mapping, gateway, ping, sizes, TCP', async () => {
      const { code, steps } = await check(NAME, '-tcp', '80')
      expectSame(`exit code; ${said(steps)}`, code, 0)
      for (const what of ['TXT', 'AA record', 'mapping', 'peer', 'port', 'path', 'ping', 'large packets', 'TCP 80'])
        expectThat(
          steps.some(step => step.what === what && step.ok && !step.warns),
          `no good ${what}: ${said(steps)}`,
        )
      expectThat(stepOf(steps, 'path').detail.includes('packets of 1500 bytes pass'), said(steps))
      return `${stepOf(steps, 'ping').ms} ms`
    })
    await checks.check('as text, and as JUnit XML', async () => {
      const junit = lab.file('junit.xml')
      const { stdout, code } = await a.gateway.run([...commandOf(a), NAME, '-junit', junit], { timeoutMs: PATIENCE_MS })
      expectSame('exit code', code, 0)
      expectThat(stdout.trim().endsWith(`${NAME}: all is well`), stdout)
      expectThat(/^ok {4}ping/m.test(stdout), stdout)
      const xml = readFileSync(junit, 'utf8')
      expectThat(xml.includes(`<testsuite name="${NAME}"`) && xml.includes('failures="0"'), xml)
      return undefined
    })
    await checks.check('an AA record, and an IPREF address', async () => {
      for (const subject of ['AA gw.example.net + 22', '198.51.100.2 + 22']) {
        const { code, steps } = await check(subject, '-tcp', '80')
        expectSame(`exit code for ${subject}; ${said(steps)}`, code, 0)
        expectThat(
          steps.some(step => step.what === 'TCP 80'),
          said(steps),
        )
      }
      return undefined
    })
    await checks.check('a TCP port at which nothing listens', async () => {
      const { code, first } = await check(NAME, '-tcp', '80,81')
      expectFirst({ code, first }, 'TCP 81', /refused/)
      return undefined
    })
    await checks.check('no AA record', async () => {
      expectFirst(await check('mail.example.net'), 'TXT', /does not exist/)
      return undefined
    })
    await checks.check('a reference that nothing has', async () => {
      expectFirst(await check('198.51.100.2 + 99'), 'ping', /the gateway answers, the host does not/)
      return undefined
    })
    await checks.check('the host is down', async () => {
      const server = b.host('server')
      await server.ip('link set eth0 down')
      expectFirst(await check(NAME, '-tcp', '80'), 'ping', /the gateway answers, the host does not/)
      await server.ip('link set eth0 up', 'route replace default via 10.1.0.1')
      return undefined
    })
    await checks.check(
      'a host that answers no pings, as the address of a Service, and accepts connections',
      async () => {
        await drop(b.gateway, 'meta l4proto icmp drop')
        const { code, first } = await check(NAME, '-tcp', '80')
        expectSame(
          `what is to be looked at (exit code ${code})`,
          `${code} ${first?.what} ${first?.warns}`,
          '0 ping true',
        )
        await drop(b.gateway)
        return undefined
      },
    )
    await checks.check('large packets are lost on the way, without a word', async () => {
      await drop(internet, `udp dport 1045 meta length > ${BLACK_HOLE} drop`)
      const found = await check(NAME)
      expectFirst(found, 'path', /are lost without a word/)
      const passes = Number(/packets of (\d+) bytes pass/.exec(found.first!.detail)?.[1])
      expectThat(passes <= BLACK_HOLE && passes > BLACK_HOLE - NEAR, `it says ${found.first!.detail}`)
      expectThat(found.first!.fix?.includes(`-gateway-ifc-mtu ${passes}`) === true, `it advises ${found.first!.fix}`)
      await drop(internet)
      return found.first!.detail
    })
    await checks.check('large packets are lost behind the far gateway', async () => {
      await drop(b.gateway, 'ip daddr 10.1.0.10 meta length > 1200 drop')
      expectFirst(await check(NAME), 'large packets', /lost behind the far gateway/)
      await drop(b.gateway)
      return undefined
    })
    await checks.check('the gateway is not reached', async () => {
      await drop(internet, 'udp dport 1045 drop')
      // what was heard a moment ago counts as being there
      const found = await eventually(
        'silence',
        async () => {
          const found = await check(NAME)
          return found.first?.what === 'answer' && found
        },
        { withinMs: 60_000 },
      )
      expectFirst(found, 'answer', /198\.51\.100\.2 is silent/)
      expectFirst(await check('peer/gw.example.net'), 'answer', /198\.51\.100\.2 is silent/)
      await drop(internet)
      return undefined
    })
    await checks.check('a router that says what it takes is believed', async () => {
      await setMtu(world, 1400)
      const { code, steps } = await check('peer/198.51.100.2')
      expectSame(`exit code; ${said(steps)}`, code, 0)
      expectThat(/packets of 1400 bytes pass; a router said so/.test(stepOf(steps, 'path').detail), said(steps))
      await setMtu(world, 1500)
      return undefined
    })
    await checkNodes(world, checks)
    await checks.check('the DNS is dead', async () => {
      await world.dns.stop()
      expectFirst(await check('other.example.net'), 'TXT', /no answer from/)
      return undefined
    })
    await checks.check('a NAT that changes the port, seen from the other side', async () => {
      expectSame('exit code before', (await runCheck(b, ['peer/198.51.100.1'])).code, 0)
      await internet.nft(
        'table ip nat {\n chain post {\n type nat hook postrouting priority 100;\n oifname "to-b" udp sport 1045 snat to 198.51.100.1:5001\n }\n}\n',
      )
      await internet.run(['conntrack', '-F'])
      expectSame('exit code from the inside', (await check('peer/198.51.100.2')).code, 0)
      const found = await eventually('the new port', async () => {
        const found = await runCheck(b, ['peer/198.51.100.1'])
        return found.first?.what === 'port' && found
      })
      expectSame('exit code', found.code, 0)
      expectThat(/sends from UDP port 5001, not 1045/.test(found.first!.detail), said(found.steps))
      return found.first!.detail
    })
  } finally {
    await lab.close()
  }
}

async function checkNodes({ a }: World, checks: Checks): Promise<void> {
  const check = () => runCheck(a, [])
  await checks.check('the node: all is well', async () => {
    const { code, steps } = await check()
    expectSame(`exit code; ${said(steps)}`, code, 0)
    for (const what of ['forwarding', 'FORWARD', 'reverse path', 'tun', 'nftables', 'ports', 'ready', 'NAT'])
      expectThat(stepOf(steps, what).warns === undefined, said(steps))
    expectThat(stepOf(steps, 'ports').detail.includes('198.51.100.1:1045'), said(steps))
    return undefined
  })
  await checks.check('the node does not forward', async () => {
    await a.gateway.sysctl({ 'ipv4/ip_forward': 0 })
    expectFirst(await check(), 'forwarding', /ip_forward is 0/)
    await a.gateway.sysctl({ 'ipv4/ip_forward': 1 })
    return undefined
  })
  await checks.check('FORWARD drops', async () => {
    await a.gateway.nft(
      'table ip filter {\n chain FORWARD {\n type filter hook forward priority 0; policy drop;\n }\n}\n',
    )
    expectFirst(await check(), 'FORWARD', /chain FORWARD of nftables table ip filter drops/)
    await a.gateway.nft('delete table ip filter')
    return undefined
  })
  await checks.check('a filter table that somebody flushed', async () => {
    const before = await a.gateway.require(['nft', 'list', 'table', 'inet', 'ipref_ipref0'])
    await a.gateway.nft('delete table inet ipref_ipref0')
    expectFirst(await check(), 'nftables', /is gone/)
    await a.gateway.nft(before)
    return undefined
  })
  await checks.check('no gateway runs: the node is checked all the same', async () => {
    const { stdout, code } = await a.gateway.run([IPREF, 'check', '-json', '-control-socket', '/nowhere.sock'])
    const steps = (JSON.parse(stdout) as Checked[]).flatMap(one => one.steps)
    expectSame('exit code', code, 1)
    expectThat(stepOf(steps, 'forwarding').ok, said(steps))
    expectThat(/nobody answers at \/nowhere\.sock/.test(stepOf(steps, 'gateway').detail), said(steps))
    expectThat(/1045 is taken/.test(stepOf(steps, 'ports').detail), said(steps))
    return undefined
  })
}

// ---- asking

function commandOf(network: Network): string[] {
  return [IPREF, 'check', '-control-socket', network.controlSocket]
}

async function runCheck(network: Network, words: readonly string[]): Promise<Found> {
  const argv = [...commandOf(network), ...words, '-json']
  const { code, stdout, stderr } = await network.gateway.run(argv, { timeoutMs: PATIENCE_MS })
  expectThat(stdout !== '', `it printed nothing but ${stderr}`)
  const checked = JSON.parse(stdout) as Checked[]
  const steps = checked.flatMap(one => one.steps)
  return { code, checked, steps, first: steps.find(step => !step.ok) ?? steps.find(step => step.warns) }
}

function stepOf(steps: readonly Step[], what: string): Step {
  const found = steps.find(step => step.what === what)
  if (!found) throw new Error(`no step ${what} in ${said(steps)}`)
  return found
}

function said(steps: readonly Step[]): string {
  return steps
    .map(({ what, ok, warns, detail }) => `${ok ? (warns ? 'warn' : 'ok') : 'FAIL'} ${what}: ${detail}`)
    .join('\n')
}

function expectFirst({ code, first }: Pick<Found, 'code' | 'first'>, what: string, detail: RegExp): void {
  expectSame(`exit code (${first?.what}: ${first?.detail})`, code, 1)
  expectSame('what is wrong first', first?.what, what)
  expectThat(detail.test(first!.detail), `${what} says: ${first!.detail}`)
  expectThat((first!.fix ?? '') !== '', `${what}: nothing is said of what to do`)
}

// ---- what is built, and made worse

async function build(): Promise<World> {
  const lab = await openLab()
  try {
    const internet = await lab.add('internet', { forwards: true })
    await internet.ip(`address add ${DNS}/32 dev lo`)
    const dns = startDns(lab, internet)
    const common = { lan: ['10.1.0.1/24'], nameServers: ['10.1.0.1'] }
    const quiet = ['-metrics-address', 'off', '-health-address', 'off']
    const resolving = ['-resolver-listen', '10.1.0.1:53', '-resolver-upstream', DNS]
    const a = await Network.build(lab, {
      ...{ ...common, name: 'a', hosts: { client: ['10.1.0.10/24'] } },
      mappings: ['10.1.0.10 client #= pub + 11'],
      flags: ['-gateway', '198.51.100.1', ...resolving, ...quiet],
    })
    const b = await Network.build(lab, {
      ...{ ...common, name: 'b', hosts: { server: ['10.1.0.10/24'] } },
      mappings: ['10.1.0.10 server #= pub + 22'],
      flags: ['-gateway', '198.51.100.2', ...quiet],
    })
    await joinInternet(lab, a, internet, { gateway: ['198.51.100.1/31'], router: ['198.51.100.0/31'] })
    await joinInternet(lab, b, internet, { gateway: ['198.51.100.2/31'], router: ['198.51.100.3/31'] })
    // who types `ipref check peer/NAME` at a gateway resolves names there
    for (const { gateway } of [a, b]) gateway.useNameServers([DNS])
    const server = b.host('server').start([process.execPath, '-e', SERVE], { log: 'server.log' })
    for (const network of [a, b]) network.startGateway()
    await Promise.all([a.ready(), b.ready(), eventually('the TCP service', () => server.log().includes('ready'))])
    await eventually('the public DNS', async () => (await runCheck(a, [NAME])).code === 0, { withinMs: 60_000 })
    return { lab, internet, a, b, dns }
  } catch (error) {
    await lab.close()
    throw error
  }
}

function startDns(lab: Lab, internet: Namespace): Running {
  const zone = lab.file('example.net.zone')
  const lines = ['ns A 203.0.113.53', 'gw A 198.51.100.2', 'web TXT "AA gw.example.net + 22"']
  const head = ['$TTL 1', '@ SOA ns hostmaster 1 60 10 86400 1', '@ NS ns']
  writeFileSync(zone, `${[...head, ...lines, 'other TXT "AA gw.example.net + 22"'].join('\n')}\n`)
  const sockets = ['-mapper-socket', lab.file('dns-mapper.sock'), '-control-socket', lab.file('dns-control.sock')]
  const files = ['-data', lab.file('dns-data'), '-hosts', '/dev/null', ...sockets]
  const serving = ['-zone', `example.net=${zone}`, '-zone-listen', `${DNS}:53`, '-metrics-address', 'off']
  const argv = [IPREF, 'gateway', '-devmode', ...serving, '-health-address', 'off', ...files]
  return internet.start(argv, { log: 'dns.log' })
}

/** Of what is forwarded; without a rule: nothing is dropped any more. */
async function drop(where: Namespace, rule = ''): Promise<void> {
  await where.nft(`
    table inet worse {}
    delete table inet worse
    table inet worse {
      chain forward {
        type filter hook forward priority 0;
        ${rule}
      }
    }
  `)
}

async function setMtu({ lab, internet, b }: World, mtu: number): Promise<void> {
  await lab.setMtu(
    { in: internet, device: 'to-b', addresses: [] },
    { in: b.gateway, device: 'wan', addresses: [] },
    mtu,
  )
}
