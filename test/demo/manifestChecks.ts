/**
 * What the demo shows of folders of YAML: files of network 1 are made, edited and taken away while it runs, and network 2 sees what becomes of it.
 *
 *   chat.yaml ── publish alex ── let network 2 in ── mistake ── move to amy ── another object wants the name ── withdraw
 */
import { join } from 'node:path'
import { type Checks, expectSame, expectThat } from '../support/checks.ts'
import { eventually, type Namespace } from '../support/netns.ts'
import { type Network, serveTraffic, TRAFFIC_PORT } from '../support/networks.ts'
import { expectNoPing } from '../support/probes.ts'
import { addressOf, type DemoNetworks, page, pings, serveSite } from './checks.ts'
import type { ManifestFolder } from './manifests.ts'
import { PUBLIC_DNS, sites } from './networks.ts'

const IPREF = join(import.meta.dirname, '../../cli/ipref')
const SITE = join(import.meta.dirname, 'site.ts')
const CLOSED_WITHIN_MS = 1500
const SLOWLY = { withinMs: 60_000, everyMs: 200 } as const

const CHAT = 'chat.shop.example.com'
const FILE = 'chat.yaml'

/** `partner`: network 2 may reach it (network-1/peers.yaml). */
function chat(address: string, { name = 'chat', partner = 'yes' } = {}): string {
  return `apiVersion: ipref.io/v1alpha1
kind: IprefService
metadata:
  name: ${name}
  namespace: shop
  labels:
    partner: "${partner}"
spec:
  hostname: chat
  target:
    address: ${address}
  ttlSeconds: 5
`
}

export async function showManifests(networks: DemoNetworks, checks: Checks): Promise<void> {
  const { one, two, three, manifests } = networks
  const folder = manifests.one
  const [alex, bob] = [one.host('alex'), two.host('bob')]
  const siteOn =
    (host: string, from = bob) =>
    async () => {
      const text = await page(from, networks.fetcher, CHAT)
      return text.startsWith(`${CHAT}, on ${host}: welcome`) && text
    }
  await Promise.all([alex, one.host('amy')].flatMap(host => [serveTraffic(host), serveSite(host)]))
  await checks.check('alex, whom nobody published, reaches bob and gets replies', async () =>
    pings(alex, await addressOf(alex, 'web.news.example.net')),
  )
  await checks.check('alex is closed to the outside', () => expectClosed(networks, bob))
  await checks.check(`${FILE} publishes alex: carol: curl http://${CHAT}`, async () => {
    folder.write(FILE, chat('10.1.0.20', { partner: 'no' }))
    await told(folder, `${CHAT} published: AA `)
    return eventually('the page of alex', siteOn('alex', three.host('carol')), SLOWLY)
  })
  await checks.check('network 2 may reach partners alone: packets of bob are refused', async () => {
    const before = await denied(one)
    await expectNoPing(bob, await addressOf(bob, CHAT))
    const count = (await denied(one)) - before
    expectThat(count > 0, 'gateway 1 has counted no packet as peer_denied')
    return `peer_denied ${count}`
  })
  await checks.check(`the label partner: "yes" lets him in: bob: curl http://${CHAT}`, async () => {
    folder.write(FILE, chat('10.1.0.20'))
    return eventually('the page of alex', siteOn('alex'), SLOWLY)
  })
  await checks.check('a mistake in it is named, and the last good object stays', async () => {
    folder.write(FILE, chat('10.1.0'))
    const line = await told(folder, `${FILE}:11:5 spec.target.address: `)
    expectThat((await siteOn('alex')()) !== false, 'alex is not there any more')
    return line
  })
  await checks.check('another address in it moves the name to amy, with the same reference', async () => {
    const before = referenceOf(folder)
    folder.write(FILE, chat('10.1.0.30'))
    const line = await told(folder, `${CHAT} moved from 10.1.0.20 to 10.1.0.30`)
    await eventually('the page of amy', siteOn('amy'), SLOWLY)
    expectSame('reference', referenceOf(folder), before)
    return line
  })
  await checks.check('another object cannot take the name: the older one keeps it', async () => {
    folder.write('talk.yaml', chat('10.1.0.20', { name: 'talk' }))
    const line = await told(folder, 'shop/talk is not published: NameConflict')
    expectThat((await siteOn('amy')()) !== false, 'amy is not there any more')
    const { code, text } = await traced(networks, 'talk')
    expectThat(code === 1 && text.includes('NameConflict'), `ipref trace talk says\n${text}`)
    folder.remove('talk.yaml')
    await told(folder, 'shop/talk is withdrawn')
    return line
  })
  await checks.check('ipref trace chat -manifests: from the object to its records, nothing is wrong', async () => {
    const { code, last } = await traced(networks, 'chat')
    expectSame('exit code', code, 0)
    return last
  })
  await checks.check('without the file it is withdrawn: its records first, then its mapping', () =>
    expectWithdrawn(networks),
  )
}

async function traced({ one, manifests }: DemoNetworks, name: string) {
  const argv = [IPREF, 'trace', `shop/${name}`, '-manifests', manifests.one.folder]
  const { code, stdout, stderr } = await one.gateway.run([...argv, '-control-socket', one.controlSocket])
  const text = `${stdout}${stderr}`.trim()
  return { code, text, last: text.split('\n').at(-1) ?? '' }
}

/** Until the terminal has shown it. */
function told(folder: ManifestFolder, beginning: string): Promise<string> {
  return eventually(`"${beginning}" is told`, () => folder.lines.findLast(line => line.startsWith(beginning)), SLOWLY)
}

async function denied(network: Network): Promise<number> {
  return (await network.status()).traffic?.decap.refused.peer_denied ?? 0
}

function referenceOf(folder: ManifestFolder): string {
  return folder.service('shop', 'chat')?.status?.mappings?.[0]?.reference ?? ''
}

async function isMapped(network: Network, address: string): Promise<boolean> {
  const { rows } = (await network.status()).mappings
  return rows.some(({ local, owner }) => local === address && owner === 'crd')
}

async function expectWithdrawn({ internet, one, manifests }: DemoNetworks): Promise<undefined> {
  const answerOf = async () =>
    (await internet.require([process.execPath, SITE, 'ask', PUBLIC_DNS[4], CHAT, 'TXT'])).trim()
  expectThat((await answerOf()).startsWith('AA 198.51.100.1 + '), 'the public DNS has no record of it')
  expectSame('mapped by gateway 1', await isMapped(one, '10.1.0.30'), true)
  manifests.one.remove(FILE)
  await eventually(
    'record and mapping are gone',
    async () => {
      const isThere = await isMapped(one, '10.1.0.30')
      const answer = await answerOf()
      // asked in this order, a mapping that goes first cannot be missed
      if (!isThere && answer !== 'ENOTFOUND') throw new Error(`the mapping is gone, and the record is not: ${answer}`)
      return !isThere
    },
    SLOWLY,
  )
  await told(manifests.one, `${CHAT} is withdrawn`)
}

// network 2 gave alex an address when he sent: it is good for replies and nothing else
async function expectClosed({ two, manifests }: DemoNetworks, bob: Namespace): Promise<string> {
  const published = manifests.one.service('shop', 'web')?.status?.mappings?.map(({ reference }) => reference) ?? []
  const contexts = sites[0]!.wan.map(({ gateway }) => gateway.split('/')[0]!)
  const { rows } = (await two.status()).mappings
  const alex = rows.find(({ remote, owner }) => {
    const [context = '', reference = ''] = remote.split(' + ')
    return owner === 'dynamic' && contexts.includes(context) && !published.includes(reference)
  })?.local
  if (!alex) throw new Error(`network 2 has no dynamic mapping for alex: ${JSON.stringify(rows)}`)
  await expectNoPing(bob, alex)
  const client = [
    process.execPath,
    '-e',
    `require('node:net').connect(${TRAFFIC_PORT}, '${alex}').on('error', () => {}).on('connect', () => process.exit(7))`,
  ]
  const { code } = await bob.run(client, { timeoutMs: CLOSED_WITHIN_MS })
  expectThat(code !== 7, `TCP from bob to ${alex} was accepted`)
  return `${alex} answers neither ping nor TCP`
}
