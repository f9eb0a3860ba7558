/** What the system knows of names without asking: /etc/hosts, and the name servers of /etc/resolv.conf. A file that is not there says nothing. */
import { readFileSync } from 'node:fs'
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import type { UpstreamServer } from './upstreams.ts'

const DNS_PORT = 53

/** Addresses by name, in lower case. */
export function readHosts(path: string): Map<string, Uint8Array[]> {
  const hosts = new Map<string, Uint8Array[]>()
  for (const line of readText(path).split('\n')) {
    const [address, ...names] = line.replace(/#.*/, '').trim().split(/\s+/)
    const bytes = address ? parseAddress(address) : undefined
    if (!bytes) continue
    for (const name of names) {
      const key = name.replace(/\.$/, '').toLowerCase()
      hosts.set(key, [...(hosts.get(key) ?? []), bytes])
    }
  }
  return hosts
}

export function readResolvers(path: string): UpstreamServer[] {
  return readText(path)
    .split('\n')
    .flatMap(line => {
      const text = /^\s*nameserver\s+(\S+)/.exec(line)?.[1]
      const address = text && parseAddress(text.replace(/%.*/, ''))
      return address ? [{ text: formatAddress(address), address, port: DNS_PORT }] : []
    })
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
