/**
 * A third network, without a cluster: one Linux host that is its router runs our gateway with a file of settings, as README.md says under "Use it".
 *
 *   box 10.1.0.10 ── ipref-home 10.1.0.0/24 ── 10.1.0.2 router 198.51.100.202 ── ipref-plain
 *
 * The router is two containers in one network: one with the usual tools, and the gateway in our image, with NET_ADMIN and /dev/net/tun alone.
 */
import { eventually, type Outcome, runProgram } from '../../support/netns.ts'
import {
  askDns,
  BASE,
  DNS_ADDRESS,
  HOME,
  HOME_NETWORK,
  HOST_ADDRESS,
  isRunning,
  LABEL,
  makeNetwork,
  PLAIN,
} from './plain.ts'
import { type Answer, parseAnswer, SERVE, tcpLine, udpLine } from './pods.ts'
import { docker } from './programs.ts'
import { writeRigFile } from './state.ts'

const ROUTER = 'ipref-rig-router'
const GATEWAY = 'ipref-rig-gateway'
const BOX = 'ipref-rig-box'
const INSIDE_ADDRESS = '10.1.0.2'
const BOX_ADDRESS = '10.1.0.10'
export const BOX_NAME = 'box.host.example'

const SETTINGS = `gateway: ${HOST_ADDRESS}
resolver-listen: ${INSIDE_ADDRESS}:53
resolver-upstream: ${DNS_ADDRESS}
resolver-forward: [${INSIDE_ADDRESS}:5353, ${DNS_ADDRESS}]
zone: host.example=/etc/ipref/host.example.zone
zone-internal: home.internal=/etc/ipref/home.internal.zone
zone-listen: [${HOST_ADDRESS}:53, ${INSIDE_ADDRESS}:5353]
zone-transfer: [${HOST_ADDRESS}, ${DNS_ADDRESS}]
dns-agent: home.internal:host.example:${HOST_ADDRESS}
dns-agent-resolver: ${INSIDE_ADDRESS}:5353
metrics-address: "off"
data: /var/lib/ipref
`
const PUBLIC_ZONE = `$TTL 10
@    SOA  gw hostmaster 1 60 10 86400 5
@    NS   ns.example.
gw   A    ${HOST_ADDRESS}
box  TXT  "AA gw.host.example + 11"
`
const INTERNAL_ZONE = `$TTL 10
@    SOA  gw hostmaster 1 60 10 86400 5
@    NS   gw
gw   A    ${INSIDE_ADDRESS}
box  A    ${BOX_ADDRESS}
`

export async function startPlainHost(image: string): Promise<void> {
  const folder = writeRigFile('host/gateway.yaml', SETTINGS).replace(/\/[^/]*$/, '')
  writeRigFile('host/host.example.zone', PUBLIC_ZONE)
  writeRigFile('host/home.internal.zone', INTERNAL_ZONE)
  await stopPlainHost()
  await makeNetwork(HOME, HOME_NETWORK, '10.1.0.128/25')
  const tools = ['--detach', '--init', '--privileged', '--label', LABEL, '--sysctl', 'net.ipv4.ip_forward=1']
  await docker('run', ...tools, '--name', ROUTER, '--network', PLAIN, '--ip', HOST_ADDRESS, BASE, 'sleep', 'infinity')
  await docker('network', 'connect', '--ip', INSIDE_ADDRESS, HOME, ROUTER)
  const least = ['--cap-drop', 'ALL', '--cap-add', 'NET_ADMIN', '--cap-add', 'NET_BIND_SERVICE', '--user', '0']
  const gateway = [...least, '--device', '/dev/net/tun', '--tmpfs', '/run/ipref', '--volume', `${folder}:/etc/ipref:ro`]
  await docker(
    ...['run', '--detach', '--label', LABEL, '--name', GATEWAY, '--network', `container:${ROUTER}`, ...gateway],
    ...[image, 'gateway', '-config', '/etc/ipref/gateway.yaml'],
  )
  const box = ['--detach', '--init', '--privileged', '--label', LABEL, '--hostname', 'box', '--dns', INSIDE_ADDRESS]
  await docker('run', ...box, '--name', BOX, '--network', HOME, '--ip', BOX_ADDRESS, BASE, 'sh', '-c', SERVE)
  await docker('exec', BOX, 'ip', 'route', 'replace', 'default', 'via', INSIDE_ADDRESS)
  await eventually(`${BOX_NAME} is in the public DNS`, async () => (await askDns(BOX_NAME, 'TXT')).length > 0, {
    withinMs: 60_000,
    everyMs: 500,
  })
}

export function gatewayLog(): Promise<string> {
  return docker('logs', '--tail', '15', GATEWAY)
}

export function inBox(line: string): Promise<Outcome> {
  return runProgram(['docker', 'exec', BOX, 'sh', '-c', line], { timeoutMs: 40_000 })
}

export async function askFromBox(host: string, how: 'tcp' | 'udp', port?: number): Promise<Answer> {
  const { stdout, stderr } = await inBox(how === 'tcp' ? tcpLine(host, port) : udpLine(host))
  const answer = parseAnswer(stdout)
  if (!answer) throw new Error(`the box asked ${host} by ${how}: no answer; ${stderr.trim()}`)
  return answer
}

export async function stopPlainHost(): Promise<void> {
  for (const name of [BOX, GATEWAY, ROUTER])
    if (await isRunning(name)) await docker('rm', '--force', '--volumes', name)
    else await runProgram(['docker', 'rm', '--force', name])
}
