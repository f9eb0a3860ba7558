/** What a person would type to see whether a host is reachable, run in a namespace and judged: ping, traceroute. */
import type { Namespace } from './netns.ts'

export interface PingOptions {
  count?: number
  /** payload bytes */
  size?: number
  /** the packet must not be fragmented */
  whole?: boolean
  waitSeconds?: number
}

/** Every echo must come back. Resolves to the round-trip time of the last, in ms. */
export async function ping(from: Namespace, address: string, options: PingOptions = {}): Promise<number> {
  const count = options.count ?? 2
  const { stdout, code } = await from.run(pingCommand(address, count, options))
  const received = Number(/(\d+) received/.exec(stdout)?.[1] ?? 0)
  if (code !== 0 || received !== count)
    throw new Error(`ping ${address} from ${from.label}: ${received} of ${count} came back\n${stdout.trim()}`)
  return Number([...stdout.matchAll(/time=([\d.]+) ms/g)].at(-1)?.[1] ?? 0)
}

/** IPv6 hosts learn the path MTU by losing a packet, each for its own direction: lets both do so. */
export async function learnPathMtu(from: Namespace, address: string): Promise<void> {
  await from.run(pingCommand(address, 3, { size: 8000, waitSeconds: 1 }))
}

/** Nothing may come back. */
export async function expectNoPing(from: Namespace, address: string): Promise<void> {
  const { stdout } = await from.run(pingCommand(address, 2, { waitSeconds: 1 }))
  if (!/ 0 received/.test(stdout)) throw new Error(`ping ${address} from ${from.label} was answered\n${stdout.trim()}`)
}

/** The MTU that an ICMP error names for a packet that may not be fragmented. */
export async function pathMtuByPing(from: Namespace, address: string, size: number): Promise<number | undefined> {
  const { stdout, stderr } = await from.run(pingCommand(address, 4, { size, whole: true, waitSeconds: 1 }))
  const found = /mtu\s*[=:]\s*(\d+)/i.exec(stdout + stderr)?.[1]
  return found === undefined ? undefined : Number(found)
}

function pingCommand(address: string, count: number, options: PingOptions): string[] {
  const argv = ['ping', '-n', '-c', String(count), '-i', '0.2', '-W', String(options.waitSeconds ?? 2)]
  if (options.size !== undefined) argv.push('-s', String(options.size))
  if (options.whole) argv.push('-M', 'do')
  return [...argv, address]
}

/** The addresses of the hops, '*' for one that did not answer; the last must be the address itself. */
export async function traceroute(from: Namespace, address: string): Promise<string[]> {
  const output = await from.require(['traceroute', '-n', '-q', '1', '-w', '2', '-m', '12', address])
  const hops = [...output.matchAll(/^ *\d+ +(\S+)/gm)].map(match => match[1]!)
  if (hops.at(-1) !== address)
    throw new Error(`traceroute to ${address} from ${from.label} ends elsewhere\n${output.trim()}`)
  return hops
}
