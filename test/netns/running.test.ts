/** Running a gateway: what it refuses at start, the hosts file under its eyes, health pages, and -cleanup (twoNetworks.ts). */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually, type Namespace } from '../support/netns.ts'
import type { Network } from '../support/networks.ts'
import { ping } from '../support/probes.ts'
import { openTwoNetworks } from './twoNetworks.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')

export async function run(checks: Checks): Promise<void> {
  const { lab, a, b } = await openTwoNetworks()
  try {
    const client = a.host('client')
    await checks.check('a second gateway on the same data folder is refused by name', async () => {
      const { code, stderr } = await a.gateway.run([IPREF, ...a.arguments()])
      expectSame('exit code', code, 1)
      expectThat(stderr.includes(lab.file('a-data')), `it said: ${stderr}`)
      return undefined
    })
    await checks.check('a line added to the hosts file is in force at once', async () => {
      editHosts(a, text => `${text}10.240.7.7 gateway-b #= ext 198.51.100.2 + 1\n`)
      await eventually('ping to the new address', () => answers(client, '10.240.7.7'))
      return undefined
    })
    await checks.check('an error in the hosts file is reported by line, and the rest stays', async () => {
      editHosts(a, text => `${text}10.240.7.8 wrong #= ext nonsense + + 1\n`)
      const line = readFileSync(a.hostsFile, 'utf8').trim().split('\n').length
      const problem = await eventually('the problem in ipref status', async () => (await a.status()).problems[0])
      expectThat(problem.includes(`${a.hostsFile}:${line}`), `it said: ${problem}`)
      await ping(client, '10.240.4.4')
      editHosts(a, text => text.replace(/^.*nonsense.*\n/m, ''))
      await eventually('no problem any more', async () => (await a.status()).problems.length === 0)
      return problem
    })
    await checks.check('a line taken away ends its mapping', async () => {
      editHosts(a, text => text.replace(/^10\.240\.7\.7 .*\n/m, ''))
      await eventually('no ping', async () => !(await answers(client, '10.240.7.7')))
      return undefined
    })
    await checks.check('ipref status and ipref trace work from the command line', async () => {
      const status = await a.gateway.require([IPREF, 'status', '-control-socket', a.controlSocket])
      const widest = Math.max(...status.split('\n').map(line => line.length))
      expectThat(widest <= 100, `a line of ipref status has ${widest} columns`)
      JSON.parse(await a.gateway.require([IPREF, 'status', '--json', '-control-socket', a.controlSocket]))
      const trace = await a.gateway.require([IPREF, 'trace', '10.240.4.4', '-control-socket', a.controlSocket])
      expectThat(trace.includes('198.51.100.2 + 11'), `ipref trace said: ${trace}`)
      const unknown = await a.gateway.run([IPREF, 'trace', '10.240.99.99', '-control-socket', a.controlSocket])
      expectSame('exit code of a trace that finds something wrong', unknown.code, 1)
      return undefined
    })
    await checks.check('-cleanup removes device, routes and filter, and may be repeated', async () => {
      expectSame('exit code of the gateway', await b.stopGateway(), 0)
      expectThat((await tables(b)).includes('ipref_ipref0'), 'the filter did not stay after SIGTERM')
      await b.cleanUp()
      await b.cleanUp()
      expectSame('device', (await b.gateway.run(['ip', 'link', 'show', 'ipref0'])).code, 1)
      expectSame('tables of nftables', (await tables(b)).trim(), '')
      return undefined
    })
  } finally {
    await lab.close()
  }
}

function editHosts(network: Network, change: (text: string) => string): void {
  writeFileSync(network.hostsFile, change(readFileSync(network.hostsFile, 'utf8')))
}

async function answers(from: Namespace, address: string): Promise<boolean> {
  return ping(from, address, { count: 1, waitSeconds: 1 }).then(
    () => true,
    () => false,
  )
}

function tables(network: Network): Promise<string> {
  return network.gateway.require(['nft', 'list', 'tables'])
}
