/**
 * Two networks in Docker, each with one host and one gateway; the gateways may be of different architectures.
 *
 *   host 10.61.1.10 ── 10.61.1.2 gateway a 10.61.0.2 ── 10.61.0.3 gateway b 10.61.2.2 ── 10.61.2.10 host
 *       sees 10.240.1.3                                                                      sees 10.240.1.2
 *
 * A host is a container with the usual tools that serves a file by HTTP. Everything has names of its own and a label, and goes with closePair().
 */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { docker, dockerHas } from '../kind/rig/programs.ts'
import { expectSame } from '../support/checks.ts'
import { eventually, runProgram } from '../support/netns.ts'

const TOOLBOX = 'ipref/toolbox:local'
const LABEL = 'ipref.test=arm64'
const BETWEEN = 'ipref-arm64-between'
const FILE_BYTES = 5_000_000
const PATIENCE_MS = 120_000
/** Hosts: address, reference, and where the other one sees it. */
const SIDES = {
  a: { inside: '10.61.1', outside: '10.61.0.2', reference: 11, seenAs: '10.240.1.2' },
  b: { inside: '10.61.2', outside: '10.61.0.3', reference: 22, seenAs: '10.240.1.3' },
} as const

export type Side = keyof typeof SIDES
const OTHER = { a: 'b', b: 'a' } as const

export interface Pair {
  images: Readonly<Record<Side, string>>
}

const gatewayOf = (side: Side) => `ipref-arm64-gateway-${side}`
const hostOf = (side: Side) => `ipref-arm64-host-${side}`
const networkOf = (side: Side) => `ipref-arm64-${side}`

/** `platform`: of gateway a; `folder`: for hosts files, as long as the pair lives */
export async function openPair(wanted: {
  images: Record<Side, string>
  platform: string
  folder: string
}): Promise<Pair> {
  await closePair()
  await makeNetwork(BETWEEN, '10.61.0.0/24')
  for (const side of ['a', 'b'] as const) {
    await makeNetwork(networkOf(side), `${SIDES[side].inside}.0/24`)
    await startGateway(side, wanted)
    await startHost(side)
  }
  for (const side of ['a', 'b'] as const)
    await eventually(
      `gateway ${side} runs`,
      async () => {
        const { stdout, stderr } = await runProgram(['docker', 'logs', gatewayOf(side)])
        if (`${stdout}${stderr}`.includes('"gateway started"')) return true
        throw new Error(`${stdout}${stderr}`.trim().split('\n').at(-1))
      },
      { withinMs: PATIENCE_MS, everyMs: 500 },
    )
  return { images: wanted.images }
}

function makeNetwork(name: string, subnet: string): Promise<string> {
  return docker('network', 'create', '--label', LABEL, '--subnet', subnet, name)
}

async function startGateway(
  side: Side,
  { images, platform, folder }: { images: Record<Side, string>; platform: string; folder: string },
): Promise<void> {
  const { inside, outside, reference } = SIDES[side]
  const other = SIDES[OTHER[side]]
  const hosts = join(folder, `${side}.hosts`)
  const lines = [
    `${inside}.10 host #= pub + ${reference}`,
    `${other.seenAs} other #= ext ${other.outside} + ${other.reference}`,
  ]
  writeFileSync(hosts, `${lines.join('\n')}\n`)
  chmodSync(hosts, 0o644)
  const rights = ['--user', '0', '--cap-drop', 'ALL', '--cap-add', 'NET_ADMIN', '--device', '/dev/net/tun']
  const places = ['--tmpfs', '/run/ipref', '--tmpfs', '/var/lib/ipref', '--volume', `${hosts}:/etc/ipref-hosts:ro`]
  const network = ['--network', BETWEEN, '--ip', outside, '--sysctl', 'net.ipv4.ip_forward=1']
  const which = side === 'a' ? ['--platform', platform] : []
  const settings = ['-gateway', outside, '-hosts', '/etc/ipref-hosts', '-open-hosts']
  await docker(
    ...['create', '--name', gatewayOf(side), '--label', LABEL, ...which, ...network, ...rights, ...places],
    ...[images[side], 'gateway', ...settings],
  )
  await docker('network', 'connect', '--ip', `${inside}.2`, networkOf(side), gatewayOf(side))
  await docker('start', gatewayOf(side))
}

async function startHost(side: Side): Promise<void> {
  const { inside } = SIDES[side]
  const serve = `ip route replace default via ${inside}.2 && mkdir /www && cd /www && head -c ${FILE_BYTES} /dev/urandom >file &&
    sha256sum file | cut -d' ' -f1 >hash && exec busybox httpd -f -p 80 -h /www`
  const network = ['--network', networkOf(side), '--ip', `${inside}.10`, '--cap-add', 'NET_ADMIN']
  const what = ['--detach', '--init', '--name', hostOf(side), '--label', LABEL, ...network]
  await docker('run', ...what, TOOLBOX, 'sh', '-c', serve)
}

function inHost(side: Side, line: string): Promise<string> {
  return docker('exec', hostOf(side), 'sh', '-c', line)
}

/** Until five of five come back. */
export async function pingThrough(from: Side): Promise<string> {
  const { seenAs } = SIDES[OTHER[from]]
  return eventually(
    `five answers of ${seenAs}`,
    async () => /5 (?:packets )?received.*/.exec(await inHost(from, `ping -c 5 -i 0.2 -W 5 ${seenAs}`))?.[0],
    { withinMs: PATIENCE_MS },
  )
}

/** Fetches the file, and compares its hash. */
export async function fetchThrough(from: Side, to: Side): Promise<string> {
  const { seenAs } = SIDES[OTHER[from]]
  const hash = await inHost(to, 'cat /www/hash')
  const line = `curl -sS --max-time 300 -w '%{speed_download}' -o /tmp/file http://${seenAs}/file && echo && sha256sum /tmp/file`
  const [speed, found] = (await inHost(from, line)).split('\n')
  expectSame('hash', found?.split(' ')[0], hash)
  return `${((Number(speed) * 8) / 1e6).toFixed(0)} Mbit/s`
}

/** Safe to repeat. */
export async function closePair(): Promise<void> {
  for (const name of [hostOf('a'), hostOf('b'), gatewayOf('a'), gatewayOf('b')])
    if (await dockerHas('container', name)) await docker('rm', '--force', '--volumes', name)
  for (const name of [networkOf('a'), networkOf('b'), BETWEEN])
    if (await dockerHas('network', name)) await docker('network', 'rm', name)
}
