/**
 * The bench's networks: two hosts, two gateways, one wire, and every way across it side by side, so that one run can go through them in turn.
 *
 *   ha ── ga ══ wire (MTU 1500) ══ gb ── hb
 *
 *   way       ha calls hb        how it gets there
 *   routing   10.22.0.2          ga and gb forward
 *   vxlan     10.23.0.2          a VXLAN device on ga and gb
 *   wireguard 10.24.0.2          wireguard-go on ga and gb
 *   naive     10.192.1.2         naive.ts, one packet for each call
 *   ours      10.240.1.2         4→4;  10.240.1.3: 4→6 (hb by its IPv6 address);  fd24::1:2: 6→4
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { eventually, type Lab, type Namespace, type Running, requireProgram } from '../support/netns.ts'

const ROOT = join(import.meta.dirname, '../..')
const HERE = import.meta.dirname

export const ways = {
  routing: { to: '10.22.0.2', from: '10.12.0.2' },
  vxlan: { to: '10.23.0.2', from: '10.13.0.2' },
  wireguard: { to: '10.24.0.2', from: '10.14.0.2' },
  naive: { to: '10.192.1.2', from: '10.1.0.2' },
  ours: { to: '10.240.1.2', from: '10.1.0.2' },
  'ours 4→6': { to: '10.240.1.3', from: '10.1.0.2' },
  'ours 6→4': { to: 'fd24::1:2', from: 'fd01::2' },
} as const
export type Way = keyof typeof ways

export interface Bench {
  ha: Namespace
  hb: Namespace
  ga: Namespace
  gb: Namespace
  /** present in this run */
  available: Set<Way>
  gateways: Running[]
  controlOf(side: 'a' | 'b'): Promise<StatusReport>
  restartOurs(): Promise<void>
  folderOf(side: 'a' | 'b'): string
  stopOurs(): Promise<void>
  mapperSocket: string
}

export async function buildBench(lab: Lab, wireguard: string | undefined): Promise<Bench> {
  const [ha, ga, gb, hb] = [
    await lab.add('ha'),
    await lab.add('ga', { forwards: true }),
    await lab.add('gb', { forwards: true }),
    await lab.add('hb'),
  ]
  await lab.connect(
    { in: ha, device: 'e0', addresses: ['10.1.0.2/24', 'fd01::2/64', '10.12.0.2/32', '10.13.0.2/32', '10.14.0.2/32'] },
    { in: ga, device: 'lan', addresses: ['10.1.0.1/24', 'fd01::1/64'] },
  )
  await lab.connect(
    { in: hb, device: 'e0', addresses: ['10.1.0.2/24', 'fd01::2/64', '10.22.0.2/32', '10.23.0.2/32', '10.24.0.2/32'] },
    { in: gb, device: 'lan', addresses: ['10.1.0.1/24', 'fd01::1/64'] },
  )
  await lab.connect(
    { in: ga, device: 'wan', addresses: ['198.51.100.1/24'] },
    { in: gb, device: 'wan', addresses: ['198.51.100.2/24'] },
  )
  for (const [host, own, theirs] of [
    [ha, 1, 2],
    [hb, 2, 1],
  ] as const) {
    await host.ip('route add default via 10.1.0.1 src 10.1.0.2', '-6 route add default via fd01::1'.replace('-6 ', ''))
    for (const net of [2, 3, 4])
      await host.ip(`route add 10.${theirs}${net}.0.2/32 via 10.1.0.1 src 10.${own}${net}.0.2`)
  }
  const available = new Set<Way>(['routing', 'vxlan', 'naive', 'ours', 'ours 4→6', 'ours 6→4'])
  for (const [gateway, own, theirs] of [
    [ga, 1, 2],
    [gb, 2, 1],
  ] as const) {
    await gateway.ip(
      ...[2, 3, 4].map(net => `route add 10.${own}${net}.0.2/32 dev lan`),
      `route add 10.${theirs}2.0.2/32 via 198.51.100.${theirs}`,
      `link add vx type vxlan id 7 remote 198.51.100.${theirs} local 198.51.100.${own} dev wan dstport 4789`,
      `address add 10.99.0.${own}/24 dev vx`,
      'link set dev vx up',
      `route add 10.${theirs}3.0.2/32 via 10.99.0.${theirs}`,
    )
  }
  if (wireguard && existsSync(wireguard)) {
    await startWireguard(lab, wireguard, ga, gb)
    available.add('wireguard')
  }
  for (const [gateway, own, theirs, reference, their] of [
    [ga, 1, 2, 11, 22],
    [gb, 2, 1, 22, 11],
  ] as const) {
    const naive = gateway.start(
      [
        process.execPath,
        join(HERE, 'naive.ts'),
        'naive0',
        `198.51.100.${own}`,
        `198.51.100.${theirs}`,
        '10.192.0.0/12',
        '10.1.0.2',
        String(reference),
        String(their),
        '10.192.1.2',
      ],
      { log: `naive-${own}.log` },
    )
    await eventually(
      'naive gateway',
      () => naive.log().includes('ready') || (naive.hasExited() && Promise.reject(new Error(naive.log()))),
    )
  }
  const bench: Bench = {
    ha,
    hb,
    ga,
    gb,
    available,
    gateways: [],
    controlOf: side => askControl(lab.file(`${side}/control.sock`), { do: 'status' }) as Promise<StatusReport>,
    folderOf: side => lab.file(side),
    mapperSocket: lab.file('a/mapper.sock'),
    stopOurs: async () =>
      void (await Promise.all(bench.gateways.splice(0).map(gateway => gateway.stop('SIGTERM', 10_000)))),
    restartOurs: async () => {
      await bench.stopOurs()
      bench.gateways = await Promise.all([startOurs(lab, ga, 'a', 1, 2), startOurs(lab, gb, 'b', 2, 1)])
      await Promise.all(
        (['a', 'b'] as const).map(side => eventually(`gateway ${side}`, () => isUp(bench, side), { withinMs: 60_000 })),
      )
    },
  }
  await bench.restartOurs()
  return bench
}

async function isUp(bench: Bench, side: 'a' | 'b'): Promise<boolean> {
  const gone = bench.gateways.find(gateway => gateway.hasExited())
  if (gone) throw new Error(gone.log())
  return (await bench.controlOf(side)).mappings.counts.hosts === 5
}

async function startOurs(lab: Lab, gateway: Namespace, side: 'a' | 'b', own: number, theirs: number): Promise<Running> {
  const folder = lab.file(side)
  mkdirSync(folder, { recursive: true })
  const reference = (n: number, host: number) => n * 11 + host
  writeFileSync(
    join(folder, 'hosts'),
    [
      `10.1.0.2 v4 #= pub + ${reference(own, 0)}`,
      `fd01::2 v6 #= pub + ${reference(own, 1)}`,
      `10.240.1.2 far4 #= ext 198.51.100.${theirs} + ${reference(theirs, 0)}`,
      `10.240.1.3 far6 #= ext 198.51.100.${theirs} + ${reference(theirs, 1)}`,
      `fd24::1:2 far4 #= ext 198.51.100.${theirs} + ${reference(theirs, 0)}`,
      '',
    ].join('\n'),
  )
  const options = [
    ...[
      '-gateway',
      `198.51.100.${own}`,
      '-encode-net',
      '10.240.0.0/12',
      '-encode-net',
      'fd24::/64',
      '-hosts',
      join(folder, 'hosts'),
    ],
    ...[
      '-data',
      join(folder, 'data'),
      '-mapper-socket',
      join(folder, 'mapper.sock'),
      '-control-socket',
      join(folder, 'control.sock'),
    ],
    ...['-metrics-address', ':9145', '-mapping-quota-per-peer', '16000000'],
  ]
  return gateway.start([join(ROOT, 'cli/ipref'), 'gateway', ...options], { log: `gateway-${side}.log` })
}

async function startWireguard(lab: Lab, program: string, ga: Namespace, gb: Namespace): Promise<void> {
  const keys: { secret: string; known: string }[] = []
  for (let i = 0; i < 2; i++) {
    const secret = (await requireProgram(['wg', 'genkey'])).trim()
    keys.push({ secret, known: (await requireProgram(['wg', 'pubkey'], { input: `${secret}\n` })).trim() })
  }
  for (const [i, gateway] of [ga, gb].entries()) {
    const [own, theirs] = [i + 1, 2 - i]
    gateway.start([program, '-f', `wg${own}`], { log: `wireguard-${own}.log`, env: { WG_PROCESS_FOREGROUND: '1' } })
    await eventually('wireguard device', async () => (await gateway.run(['ip', 'link', 'show', `wg${own}`])).code === 0)
    const keyFile = lab.file(`wg-${own}.key`)
    writeFileSync(keyFile, `${keys[i]!.secret}\n`, { mode: 0o600 })
    await gateway.require([
      'wg',
      'set',
      `wg${own}`,
      'listen-port',
      '51820',
      'private-key',
      keyFile,
      'peer',
      keys[1 - i]!.known,
      'allowed-ips',
      '0.0.0.0/0',
      'endpoint',
      `198.51.100.${theirs}:51820`,
    ])
    await gateway.ip(`link set dev wg${own} mtu 1420 up`, `route add 10.${theirs}4.0.2/32 dev wg${own}`)
  }
}
