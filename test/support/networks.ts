/**
 * IPREF networks in a lab: each a LAN with hosts, and a gateway host that runs `ipref gateway`, on an "internet" of one namespace.
 *
 *   host ──┐ lan                                   ┌─ host
 *   host ──┴── gateway ══ wan ══ internet ══ wan ══ gateway
 *
 * The gateway host is the default router of its LAN, so hosts need no route of their own for the encoding network. Nothing here
 * knows what is tested.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StatusReport } from '../../gateway/controlReports.ts'
import { askControl } from '../../runtime/controlSocket.ts'
import { eventually, type Lab, type LinkEnd, type Namespace, type Running } from './netns.ts'

const ROOT = join(import.meta.dirname, '../..')
const IPREF = join(ROOT, 'cli/ipref')
const TRAFFIC = join(ROOT, 'test/support/traffic.ts')
export const TRAFFIC_PORT = 7000

export interface NetworkPlan {
  /** short: it becomes part of the names of namespaces */
  name: string
  /** the gateway's addresses on its LAN, in CIDR form */
  lan: readonly string[]
  /** label of a host → its addresses in CIDR form */
  hosts: Readonly<Record<string, readonly string[]>>
  /** what hosts ask for names; absent: what this machine asks */
  nameServers?: readonly string[]
  /** lines of the hosts file */
  mappings: readonly string[]
  /** further flags of `ipref gateway` */
  flags: readonly string[]
}

/** One network with its hosts and its gateway. */
export class Network {
  readonly plan: NetworkPlan
  readonly gateway: Namespace
  readonly hosts: ReadonlyMap<string, Namespace>
  readonly hostsFile: string
  readonly controlSocket: string
  readonly #lab: Lab
  #running: Running | undefined

  private constructor(
    lab: Lab,
    plan: NetworkPlan,
    namespaces: { gateway: Namespace; hosts: ReadonlyMap<string, Namespace> },
  ) {
    this.#lab = lab
    this.plan = plan
    this.gateway = namespaces.gateway
    this.hosts = namespaces.hosts
    this.hostsFile = lab.file(`${plan.name}-hosts`)
    this.controlSocket = lab.file(`${plan.name}-control.sock`)
  }

  static async build(lab: Lab, plan: NetworkPlan): Promise<Network> {
    const gateway = await lab.add(`gw-${plan.name}`, { forwards: true })
    await addBridge(gateway, plan.lan)
    const hosts = new Map<string, Namespace>()
    for (const [label, addresses] of Object.entries(plan.hosts)) {
      const host = await lab.add(label)
      const device = `to-${label}`
      await lab.connect({ in: host, device: 'eth0', addresses }, { in: gateway, device, addresses: [] })
      await gateway.ip(`link set dev ${device} master lan`)
      await host.ip(...plan.lan.map(address => `route add default via ${address.split('/')[0]}`))
      if (plan.nameServers) host.useNameServers(plan.nameServers)
      hosts.set(label, host)
    }
    return new Network(lab, plan, { gateway, hosts })
  }

  host(label: string): Namespace {
    const host = this.hosts.get(label)
    if (!host) throw new Error(`network ${this.plan.name} has no host ${label}`)
    return host
  }

  /** The command line of the gateway, without the program. */
  arguments(): string[] {
    const { name, flags } = this.plan
    return [
      ...['gateway', '-hosts', this.hostsFile, '-data', this.#lab.file(`${name}-data`)],
      ...['-mapper-socket', this.#lab.file(`${name}-mapper.sock`), '-control-socket', this.controlSocket],
      ...['-log-format', 'text', ...flags],
    ]
  }

  startGateway(env: NodeJS.ProcessEnv = {}): Running {
    writeFileSync(this.hostsFile, `${this.plan.mappings.join('\n')}\n`)
    this.#running = this.gateway.start([IPREF, ...this.arguments()], { log: `${this.plan.name}.log`, env })
    return this.#running
  }

  /** Resolves when the gateway serves all lines of its hosts file. */
  async ready(): Promise<void> {
    const running = this.#running
    if (!running) throw new Error(`gateway ${this.plan.name} was not started`)
    const wanted = this.plan.mappings.length
    const isReady = async () => {
      if (running.hasExited()) return 'ended' as const
      const { problems, mappings } = await this.status()
      if (problems.length > 0) throw new Error(problems.join('; '))
      return (mappings.counts.hosts ?? 0) >= wanted
    }
    await eventually(`gateway ${this.plan.name} is ready`, isReady, { withinMs: 60_000 })
    if (running.hasExited()) throw new Error(`gateway ${this.plan.name} ended at once:\n${running.log()}`)
  }

  async status(): Promise<StatusReport> {
    return (await this.ask({ do: 'status' })) as StatusReport
  }

  ask(request: Record<string, unknown>): Promise<unknown> {
    return askControl(this.controlSocket, request)
  }

  log(): string {
    return this.#running?.log() ?? ''
  }

  stopGateway(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    return this.#running?.stop(signal) ?? Promise.resolve(0)
  }

  /** `ipref gateway -cleanup`, in the gateway's namespace. */
  cleanUp(): Promise<string> {
    return this.gateway.require([IPREF, 'gateway', '-cleanup'])
  }
}

// reassembled by netfilter of the bridge, IPv6 fragments would go on as whole packets that are larger than what the host sent
const ROUTED_ONLY = 'for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$f" ] || echo 0 > "$f"; done'

// a bridge without learning delays: ports forward at once
async function addBridge(gateway: Namespace, addresses: readonly string[]): Promise<void> {
  await gateway.ip(
    'link add lan type bridge forward_delay 0',
    ...addresses.map(a => `address add ${a} dev lan${a.includes(':') ? ' nodad' : ''}`),
    'link set lan up',
  )
  await gateway.require(['sh', '-c', ROUTED_ONLY])
}

/** A link between a gateway and a router, with default routes of the gateway to it. */
export async function joinInternet(
  lab: Lab,
  network: Network,
  router: Namespace,
  addresses: { gateway: readonly string[]; router: readonly string[] },
): Promise<{ gateway: LinkEnd; router: LinkEnd }> {
  const ends = {
    gateway: { in: network.gateway, device: 'wan', addresses: addresses.gateway },
    router: { in: router, device: `to-${network.plan.name}`, addresses: addresses.router },
  }
  await lab.connect(ends.gateway, ends.router)
  for (const address of addresses.router) {
    const plain = address.split('/')[0]!
    await network.gateway.ip(`route add default via ${plain}${plain.startsWith('fe80') ? ' dev wan' : ''}`)
  }
  return ends
}

/** Serves TCP and UDP exchanges (traffic.ts) on a host until the lab is closed. */
export async function serveTraffic(host: Namespace): Promise<void> {
  const running = host.start([process.execPath, TRAFFIC, 'serve', String(TRAFFIC_PORT)], {
    log: `${host.label}-traffic.log`,
  })
  await eventually(`traffic server on ${host.label}`, () => running.log().includes('ready'))
}

/** One exchange of traffic.ts; the report of the client, or an error that holds it. */
export async function exchange<Report extends { ok: boolean }>(
  host: Namespace,
  words: readonly (string | number)[],
): Promise<Report> {
  const outcome = await host.run([process.execPath, TRAFFIC, ...words.map(String)], { timeoutMs: 60_000 })
  const text = outcome.stdout.trim()
  if (outcome.code !== 0) throw new Error(text || outcome.stderr.trim().slice(-500) || `exit code ${outcome.code}`)
  return JSON.parse(text) as Report
}

/** A stream that runs until `end` is called; then its report. */
export function startStream(
  host: Namespace,
  address: string,
  seed: number,
): { connected(): Promise<void>; end(): Promise<string> } {
  const name = `stream-${host.label}-${seed}.log`
  const running = host.start([process.execPath, TRAFFIC, 'stream', address, String(TRAFFIC_PORT), String(seed)], {
    log: name,
  })
  return {
    connected: async () => {
      await eventually(`stream to ${address}`, () => running.log().includes('connected'))
    },
    end: async () => {
      await running.stop('SIGTERM', 60_000)
      return running.log().trim().split('\n').at(-1) ?? ''
    },
  }
}
