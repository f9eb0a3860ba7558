/**
 * Ports for servers that want to be told one. They are taken from below those that the kernel gives to clients, as a port that was only
 * found free may be somebody's a moment later: the tests open thousands of sockets without asking for a port.
 */
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'

const FIRST = 10_240
/** of the ports of NodePort services, which a cluster on this machine may have */
const LAST = 29_999
/** never twice in one process, though nobody may listen there yet */
const given = new Set<number>()

/** Free now on all of these addresses, for UDP and TCP. */
export async function freePorts(count: number, hosts: readonly string[] = ['127.0.0.1']): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const port = FIRST + Math.floor(Math.random() * (lastPort() - FIRST + 1))
    if (given.has(port)) continue
    const isFree = await Promise.all(hosts.flatMap(host => [bindsTcp(host, port), bindsUdp(host, port)]))
    if (!isFree.every(Boolean)) continue
    given.add(port)
    ports.push(port)
  }
  return ports
}

export async function freePort(hosts?: readonly string[]): Promise<number> {
  const [port] = await freePorts(1, hosts)
  return port!
}

function lastPort(): number {
  try {
    const first = Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1').split(/\s+/)[0])
    return first > FIRST + 1000 ? Math.min(LAST, first - 1) : LAST
  } catch {
    return LAST
  }
}

function bindsTcp(host: string, port: number): Promise<boolean> {
  const server = createServer()
  return new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen({ host, port }, () => server.close(() => resolve(true)))
  })
}

function bindsUdp(host: string, port: number): Promise<boolean> {
  const socket = createSocket('udp4')
  return new Promise(resolve => {
    socket.once('error', () => {
      socket.close()
      resolve(false)
    })
    socket.bind(port, host, () => socket.close(() => resolve(true)))
  })
}
