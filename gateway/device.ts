/**
 * The TUN device and what belongs to it: MTU, own addresses, routes to the encoding networks, the nftables table. Put up at start, repaired
 * when somebody takes a piece away, and removed only on demand (`-cleanup`): a restart must not interrupt connections (decisions.md 12).
 */
import { equalAddress, familyOf, formatAddress, formatPrefix, type Prefix, prefixesOverlap } from '../ipref/address.ts'
import { renderRemoval } from './hostFilter.ts'
import { isVxlanName, ROUTE_PROTOCOL } from './kube/nodeMarks.ts'
import {
  addAddress,
  addRoute,
  type Link,
  linkByName,
  listAddresses,
  listLinks,
  listRoutes,
  removeAddress,
  removeRoute,
  routeTo,
  setLink,
} from './sys/netlink.ts'
import { runNft } from './sys/nft.ts'
import { removeTun } from './sys/tun.ts'

const TX_QUEUE = 1000

export interface DeviceSettings {
  name: string
  mtu: number
  ownEncoded: readonly Uint8Array[]
  encodingNetworks: readonly Prefix[]
}

/** Up, with its MTU, addresses and routes. Safe to repeat. */
export function configureDevice(settings: DeviceSettings): Link {
  const link = requireLink(settings.name)
  setLink({ index: link.index, up: true, mtu: settings.mtu, txqueuelen: TX_QUEUE })
  try {
    setLink({ index: link.index, tunnelConf: true })
  } catch {
    // a kernel without this attribute: the setting of the host holds
  }
  for (const [i, network] of settings.encodingNetworks.entries()) {
    const address = settings.ownEncoded[i]!
    addAddress({ index: link.index, address, length: address.length * 8 })
    addRoute({ destination: network.address, length: network.length, interfaceIndex: link.index })
  }
  return link
}

/** Takes routes and addresses away: nothing is led to the device any more. Safe to repeat. */
export function withdrawDevice({ name, encodingNetworks, ownEncoded }: DeviceSettings): void {
  const link = linkByName(name)
  if (!link) return
  for (const route of listRoutes()) {
    const isOurs = encodingNetworks.some(
      n => n.length === route.length && formatAddress(n.address) === formatAddress(route.destination),
    )
    if (route.interfaceIndex === link.index && isOurs) removeRoute(route)
  }
  for (const { index, address } of listAddresses()) {
    const isOurs = ownEncoded.some(own => equalAddress(own, address))
    if (index === link.index && isOurs) removeAddress({ index, address, length: address.length * 8 })
  }
}

function requireLink(name: string): Link {
  const link = linkByName(name)
  if (!link) throw new Error(`TUN device ${name} is gone`)
  return link
}

export function isDeviceGone(settings: DeviceSettings): boolean {
  return linkByName(settings.name) === undefined
}

/** Something is missing that configureDevice would put back. */
export function deviceProblem(settings: DeviceSettings): string | undefined {
  const link = linkByName(settings.name)
  if (!link) return `TUN device ${settings.name} is gone`
  if (!link.up) return `TUN device ${settings.name} is down`
  if (link.mtu !== settings.mtu) return `MTU of ${settings.name} is ${link.mtu}, should be ${settings.mtu}`
  const routes = listRoutes().filter(route => route.interfaceIndex === link.index)
  const lost = settings.encodingNetworks.find(
    n => !routes.some(r => r.length === n.length && formatAddress(r.destination) === formatAddress(n.address)),
  )
  return lost ? `route to ${formatPrefix(lost)} is gone` : undefined
}

/** An encoding network must not contain addresses that this host reaches otherwise. What leads to other gateways' slices is ours (kube/nodeNetwork.ts). */
export function overlapWithHost(settings: DeviceSettings): string | undefined {
  const own = linkByName(settings.name)?.index
  const names = new Map(listLinks().map(link => [link.index, link.name]))
  for (const network of settings.encodingNetworks) {
    for (const { address, index } of listAddresses()) {
      if (index === own || familyOf(address) !== network.family || isVxlanName(names.get(index) ?? '')) continue
      const prefix: Prefix = { family: network.family, address, length: address.length * 8 }
      if (prefixesOverlap(network, prefix)) {
        return `${formatAddress(address)} on ${names.get(index) ?? 'this host'} lies in the encoding network ${formatPrefix(network)}; choose another with -encode-net`
      }
    }
    for (const route of listRoutes()) {
      if (route.interfaceIndex === own || route.length === 0 || familyOf(route.destination) !== network.family) continue
      if (route.protocol === ROUTE_PROTOCOL || isVxlanName(names.get(route.interfaceIndex) ?? '')) continue
      const prefix: Prefix = { family: network.family, address: route.destination, length: route.length }
      if (route.length >= network.length && prefixesOverlap(network, prefix)) {
        return `the route to ${formatPrefix(prefix)} on ${names.get(route.interfaceIndex) ?? 'this host'} lies in the encoding network ${formatPrefix(network)}; choose another with -encode-net`
      }
    }
  }
  return undefined
}

/** All of this host, with the names of their devices. */
export function ownAddresses(): { address: Uint8Array; device: string }[] {
  const names = new Map(listLinks().map(link => [link.index, link.name]))
  return listAddresses().map(({ address, index }) => ({ address, device: names.get(index) ?? '' }))
}

/** MTU towards a peer: of the route and its interface. */
export function wireMtuTo(address: Uint8Array): number {
  return routeTo(address)?.mtu ?? 1500
}

/** MTU of the interface that has this address; undefined: none has. */
export function mtuOfAddress(address: Uint8Array): number | undefined {
  const text = formatAddress(address)
  const index = listAddresses().find(own => formatAddress(own.address) === text)?.index
  return listLinks().find(link => link.index === index)?.mtu
}

/** Removes the device (its addresses and routes go with it) and the nftables table. Idempotent; the problems met. */
export async function removeDevice(name: string): Promise<string[]> {
  const problems: string[] = []
  try {
    if (linkByName(name)) removeTun(name)
  } catch (error) {
    problems.push((error as Error).message)
  }
  await runNft(renderRemoval(name)).catch(error => problems.push((error as Error).message))
  return problems
}
