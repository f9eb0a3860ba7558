/**
 * What lies between the two clusters: a plain network, a NAT in front of one of them, and a name server that everybody asks.
 *
 *   nodes of A ──┐                                          ┌── nodes of B
 *                ├── ipref-plain 198.51.100.0/24 ── NAT ────┤   ipref-inside 10.51.0.0/24
 *   name server ─┘                                          └── nobody else
 *
 * Both are networks of Docker, which keeps them apart; the NAT, a container in both, is the only way from one to the other, and lets in answers alone. Each
 * node of B has its route by a unit of systemd, so that it is there again when the node was started again.
 */
import { createHash } from 'node:crypto'
import { eventually } from '../../support/netns.ts'
import type { Node } from './cluster.ts'
import { docker, dockerHas, tell } from './programs.ts'
import { writeRigFile } from './state.ts'

export const PLAIN = 'ipref-plain'
export const INSIDE = 'ipref-inside'
const PLAIN_NETWORK = '198.51.100.0/24'
const INSIDE_NETWORK = '10.51.0.0/24'
/** Docker gives nodes addresses from the lower half. */
export const DNS_ADDRESS = '198.51.100.200'
export const NAT_ADDRESS = '198.51.100.201'
/** of the network without a cluster: plainHost.ts */
export const HOST_ADDRESS = '198.51.100.202'
/** the network behind that host */
export const HOME = 'ipref-home'
export const HOME_NETWORK = '10.1.0.0/24'
const NAT_INSIDE = '10.51.0.200'
const NAT = 'ipref-rig-nat'
const DNS = 'ipref-rig-dns'
export const BASE = 'ipref/base:bookworm'
const DNS_IMAGE = 'ipref/rig-dns:bookworm'
export const LABEL = 'ipref.rig=part'
/** of what the name server was started with */
const CONTENT = 'ipref.rig.content'
export const UPDATE_KEY = 'hmac-sha256:b-updates:cmVhbCBzZWNyZXRzIGFyZSBsb25nZXIgdGhhbiB0aGlz'
/** node port of the zone server of A */
export const ZONES_NODE_PORT = 30053

export async function makeNetworks(): Promise<void> {
  await makeNetwork(PLAIN, PLAIN_NETWORK, '198.51.100.0/25')
  await makeNetwork(INSIDE, INSIDE_NETWORK, '10.51.0.0/25')
}

export async function makeNetwork(name: string, subnet: string, range: string): Promise<void> {
  if (await dockerHas('network', name)) return
  const major = Number.parseInt(await docker('version', '--format', '{{.Server.Version}}'), 10)
  // later versions drop at every bridge what comes for a container from elsewhere, and so what the NAT has to carry
  const open = major >= 28 ? ['--opt', 'com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected'] : []
  await docker('network', 'create', '--subnet', subnet, '--ip-range', range, '--label', LABEL, ...open, name)
}

const NAT_RULES = `flush ruleset
table ip rig {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${INSIDE_NETWORK} ip daddr != ${INSIDE_NETWORK} masquerade
  }
  chain through {
    type filter hook forward priority filter; policy drop;
    ip saddr ${INSIDE_NETWORK} accept
    ct state established,related accept
  }
}
`

export async function startNat(): Promise<void> {
  if (await isRunning(NAT)) return
  await docker('rm', '-f', NAT).catch(() => {})
  const options = ['--detach', '--init', '--privileged', '--label', LABEL, '--sysctl', 'net.ipv4.ip_forward=1']
  await docker('run', ...options, '--name', NAT, '--network', INSIDE, '--ip', NAT_INSIDE, BASE, 'sleep', 'infinity')
  await docker('network', 'connect', '--ip', NAT_ADDRESS, PLAIN, NAT)
  await tell(['docker', 'exec', '--interactive', NAT, 'nft', '-f', '-'], { input: NAT_RULES })
}

const ROUTE_UNIT = `[Unit]
Description=the way through the NAT
Before=kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip route replace ${PLAIN_NETWORK} via ${NAT_INSIDE}
[Install]
WantedBy=multi-user.target
`

/** The way of the nodes behind the NAT to everybody else, now and after each start of a node. */
export async function routeThroughNat(nodes: readonly Node[]): Promise<void> {
  const install = 'cat >/etc/systemd/system/rig-route.service && systemctl enable --quiet --now rig-route.service'
  await Promise.all(
    nodes.map(({ name }) =>
      tell(['docker', 'exec', '--interactive', name, 'sh', '-c', install], { input: ROUTE_UNIT }),
    ),
  )
}

export interface Zones {
  /** addresses of the gateways of A */
  gatewaysOfA: readonly string[]
}

/**
 * knot, authoritative for all zones of the rig: those of A it transfers from the operator there, those of B the operator there updates, through the NAT.
 */
export async function startDns(zones: Zones): Promise<void> {
  writeRigFile('dns/example.zone', exampleZone(zones))
  writeRigFile('dns/pub.b.example.zone', zoneHead('pub.b.example'))
  const conf = writeRigFile('dns/knot.conf', knotConf(zones))
  const content = createHash('sha256').update(exampleZone(zones)).update(knotConf(zones)).digest('hex')
  if ((await isRunning(DNS)) && (await labelOf(DNS, CONTENT)) === content) return
  await docker('rm', '-f', DNS).catch(() => {})
  if (!(await dockerHas('image', DNS_IMAGE))) {
    const install = 'apt-get update -qq && apt-get install -y -qq --no-install-recommends knot knot-dnsutils'
    const dockerfile = `FROM ${BASE}\nLABEL ${LABEL}\nRUN ${install} && rm -rf /var/lib/apt/lists/*\n`
    await tell(['docker', 'build', '--tag', DNS_IMAGE, '-'], { input: dockerfile, timeoutMs: 600_000 })
  }
  const folder = conf.slice(0, conf.lastIndexOf('/'))
  const labels = ['--label', LABEL, '--label', `${CONTENT}=${content}`]
  const options = ['--detach', '--init', ...labels, '--volume', `${folder}:/rig:ro`]
  const start =
    'mkdir -p /run/knot /var/lib/knot/zones && cp /rig/*.zone /var/lib/knot/zones && exec knotd -c /rig/knot.conf'
  await docker('run', ...options, '--name', DNS, '--network', PLAIN, '--ip', DNS_ADDRESS, DNS_IMAGE, 'sh', '-c', start)
  await eventually('the name server answers', async () => (await askDns('gw.a.example', 'A')).length > 0, {
    withinMs: 30_000,
    everyMs: 300,
  })
}

/** What the name server says, a line for each record. */
export async function askDns(name: string, type: string): Promise<string[]> {
  const text = await docker('exec', DNS, 'kdig', '+short', `@${DNS_ADDRESS}`, name, type)
  return text.split('\n').filter(line => line !== '')
}

function zoneHead(zone: string): string {
  return `$ORIGIN ${zone}.\n$TTL 60\n@ SOA ns.example. admin.example. 1 60 10 86400 5\n@ NS ns.example.\n`
}

function exampleZone({ gatewaysOfA }: Zones): string {
  return [
    zoneHead('example'),
    `ns A ${DNS_ADDRESS}`,
    ...gatewaysOfA.map(address => `gw.a A ${address}`),
    `gw.b A ${NAT_ADDRESS}`,
    ...['pub.a', 'pub.b', 'host'].map(zone => `${zone} NS ns`),
    '',
  ].join('\n')
}

function knotConf({ gatewaysOfA }: Zones): string {
  const [algorithm, name, secret] = UPDATE_KEY.split(':')
  return `server:
    rundir: /run/knot
    listen: 0.0.0.0@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: /var/lib/knot
key:
  - id: ${name}
    algorithm: ${algorithm}
    secret: ${secret}
remote:
  - id: operator-a
    address: [${gatewaysOfA.map(address => `${address}@${ZONES_NODE_PORT}`).join(', ')}]
  - id: gateway-host
    address: ${HOST_ADDRESS}@53
acl:
  - id: told
    address: ${PLAIN_NETWORK}
    action: notify
  - id: updates
    key: ${name}
    action: [update, transfer]
template:
  - id: default
    storage: /var/lib/knot/zones
    file: "%s.zone"
    zonefile-sync: -1
    zonefile-load: difference
    journal-content: changes
  - id: copy
    file: "%s.copy"
    zonefile-sync: -1
    zonefile-load: none
    journal-content: none
    refresh-max-interval: 60
    retry-max-interval: 5
    acl: told
zone:
  - domain: example
  - domain: pub.b.example
    acl: updates
  - domain: pub.a.example
    template: copy
    master: operator-a
  - domain: host.example
    template: copy
    master: gateway-host
`
}

function labelOf(container: string, label: string): Promise<string> {
  return docker('container', 'inspect', '--format', `{{index .Config.Labels "${label}"}}`, container)
}

export async function isRunning(container: string): Promise<boolean> {
  if (!(await dockerHas('container', container))) return false
  return (await docker('container', 'inspect', '--format', '{{.State.Running}}', container)) === 'true'
}

/** Containers and networks of the rig, but for the nodes. */
export async function removePlain(): Promise<void> {
  const containers = await docker('ps', '--all', '--quiet', '--filter', `label=${LABEL}`)
  if (containers !== '') await docker('rm', '--force', ...containers.split('\n'))
  for (const network of [PLAIN, INSIDE, HOME])
    if (await dockerHas('network', network)) await docker('network', 'rm', network)
}
