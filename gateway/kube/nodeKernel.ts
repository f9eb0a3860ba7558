/**
 * The door between the plans of a node's network, which are text, and the kernel, which has bytes and numbers. Reads and changes only what bears our
 * marks; what others made is read where a plan must know it.
 */
import { readFileSync } from 'node:fs'
import { familyOf, formatAddress, formatPrefix, parseAddress, parsePrefix } from '../../ipref/address.ts'
import {
  listForwarding,
  listNeighbours,
  type Neighbour,
  removeForwarding,
  removeNeighbour,
  setForwarding,
  setNeighbour,
} from '../sys/neighbours.ts'
import {
  addAddress,
  addRoute,
  type Link,
  linkByName,
  listAddresses,
  listAllRoutes,
  listLinks,
  lookUpRoute,
  type Route,
  RT_TABLE_MAIN,
  removeAddress,
  removeLink,
  removeRoute,
  setLink,
} from '../sys/netlink.ts'
import { addRule, listRules, type Rule, removeRule } from '../sys/rules.ts'
import { addVxlan, vxlanOf } from '../sys/vxlan.ts'
import {
  isVxlanName,
  RETURN_TABLE,
  ROUTE_METRIC,
  ROUTE_PROTOCOL,
  RULE_PRIORITY,
  VNI,
  VXLAN_ALIAS,
  VXLAN_PORT,
} from './nodeMarks.ts'
import type { Change, Current, CurrentLink } from './nodePlan.ts'
import type { NeighbourWanted, NodeWay, RouteWanted, RuleWanted, Surroundings } from './nodeTypes.ts'

const STRICT = 1
const LOOSE = 2
/** Kinds of links by which CNIs carry packets between nodes. */
const OVERLAY_KINDS = ['vxlan', 'geneve', 'ipip', 'sit', 'ip6tnl', 'gre', 'gretap', 'ip6gre', 'ip6gretap', 'wireguard']
const tables = { main: RT_TABLE_MAIN, return: RETURN_TABLE } as const

export function readSetting(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/net/${path}`, 'utf8').trim()
  } catch {
    return undefined
  }
}

// ---- what there is

export function readSurroundings(addresses: readonly string[]): Omit<Surroundings, 'proved'> {
  const links = listLinks()
  const byIndex = new Map(links.map(link => [link.index, link]))
  const own = new Map<string, { device: string; mtu: number }>()
  for (const { address, index } of listAddresses()) {
    const link = byIndex.get(index)
    if (link && !isVxlanName(link.name)) own.set(formatAddress(address), { device: link.name, mtu: link.mtu })
  }
  const ways = new Map<string, NodeWay>()
  for (const text of addresses) {
    const route = lookUpRoute(bytesOf(text))
    const link = route && byIndex.get(route.interfaceIndex)
    if (!link || isVxlanName(link.name)) continue
    const isOnLink = route.via === undefined && link.name !== 'lo'
    ways.set(text, { device: link.name, isOnLink, mtu: route.mtu ?? link.mtu })
  }
  const ofAll = Number(readSetting('ipv4/conf/all/rp_filter') ?? 0)
  return {
    own,
    ways,
    strict: new Set(links.filter(link => Math.max(link.rpFilter, ofAll) === STRICT).map(link => link.name)),
    overlays: links.filter(link => OVERLAY_KINDS.includes(link.kind) && !isVxlanName(link.name)).map(link => link.name),
  }
}

export function readCurrent(tun: string | undefined): Current {
  const links = listLinks()
  const names = new Map(links.map(link => [link.index, link.name]))
  const ours = links.filter(isOurs)
  const isOnOurs = ({ index }: { index: number }) => ours.some(link => link.index === index)
  const neighbour = ({ index, address, hardwareAddress }: Neighbour): NeighbourWanted => ({
    device: names.get(index)!,
    address: formatAddress(address),
    hardwareAddress: colons(hardwareAddress),
  })
  const foreign = new Map<string, string>()
  const routes: RouteWanted[] = []
  for (const route of listAllRoutes()) {
    if (route.protocol === ROUTE_PROTOCOL) routes.push(...wantedOf(route, names))
    else if (route.table === RT_TABLE_MAIN && names.get(route.interfaceIndex) !== tun)
      foreign.set(destinationOf(route), `dev ${names.get(route.interfaceIndex) ?? '?'} proto ${route.protocol}`)
  }
  return {
    links: ours.map(currentLink),
    takenNames: links.filter(link => isVxlanName(link.name) && !isOurs(link)).map(link => link.name),
    addresses: listAddresses()
      .filter(one => isOnOurs(one) && !isLinkLocal(one.address))
      .map(({ index, address, length }) => ({
        device: names.get(index)!,
        address: `${formatAddress(address)}/${length}`,
      })),
    neighbours: listNeighbours().filter(isOnOurs).map(neighbour),
    forwarding: listForwarding().filter(isOnOurs).map(neighbour),
    routes,
    rules: ownRules().map(({ family, incoming }) => ({ family, incoming })),
    foreign,
  }
}

// the alias comes a moment after the link: a sudden end between the two must not leave a link that is nobody's
function isOurs(link: Link): boolean {
  const vxlan = isVxlanName(link.name) ? vxlanOf(link) : undefined
  return vxlan?.vni === VNI && vxlan.port === VXLAN_PORT
}

function currentLink(link: Link): CurrentLink {
  return {
    name: link.name,
    local: formatAddress(vxlanOf(link)!.local),
    hardwareAddress: colons(link.hardwareAddress),
    mtu: link.mtu,
    isUp: link.up,
    isLoose: link.rpFilter === LOOSE,
  }
}

function ownRules(): Rule[] {
  return listRules().filter(rule => rule.protocol === ROUTE_PROTOCOL)
}

function wantedOf(route: Route, names: ReadonlyMap<number, string>): RouteWanted[] {
  const table = (['main', 'return'] as const).find(name => tables[name] === route.table)
  if (!table) return []
  const destination = destinationOf(route)
  if (route.kind === 'unreachable') return [{ table, destination }]
  const { via, mtu, source, onLink } = route
  return [
    {
      table,
      destination,
      device: names.get(route.interfaceIndex) ?? '?',
      ...(via ? { via: formatAddress(via) } : {}),
      ...(onLink ? { onLink } : {}),
      ...(mtu === undefined ? {} : { mtu }),
      ...(source ? { source: formatAddress(source) } : {}),
    },
  ]
}

function destinationOf({ destination, length }: Route): string {
  return formatPrefix({ family: familyOf(destination), address: destination, length })
}

function isLinkLocal(address: Uint8Array): boolean {
  return address.length === 16 && address[0] === 0xfe && (address[1]! & 0xc0) === 0x80
}

// ---- what changes

/** Throws what the kernel refuses. */
export function carryOut(change: Change): void {
  switch (change.do) {
    case 'add-link': {
      const { name, local, hardwareAddress, mtu } = change.link
      const bytes = { hardwareAddress: fromColons(hardwareAddress), local: bytesOf(local) }
      return addVxlan({ name, alias: VXLAN_ALIAS, mtu, vni: VNI, port: VXLAN_PORT, ...bytes })
    }
    case 'set-link':
      setLink({ index: indexOf(change.name), up: true, mtu: change.mtu })
      return setLink({ index: indexOf(change.name), tunnelConf: true })
    case 'remove-link': {
      const link = linkByName(change.name)
      return link && isOurs(link) ? removeLink(link.index) : undefined
    }
    case 'add-address':
      return addAddress({ index: indexOf(change.device), ...prefixOf(change.address), choice: 'never' })
    case 'remove-address':
      return removeAddress({ index: indexOf(change.device), ...prefixOf(change.address) })
    case 'set-neighbour':
      return setNeighbour(neighbourOf(change.neighbour))
    case 'remove-neighbour':
      return removeNeighbour(neighbourOf(change.neighbour))
    case 'set-forwarding':
      return setForwarding(neighbourOf(change.neighbour))
    case 'remove-forwarding':
      return removeForwarding(neighbourOf(change.neighbour))
    case 'set-route':
      return addRoute(routeOf(change.route))
    case 'remove-route':
      return removeRoute(routeOf(change.route))
    case 'add-rule':
      return addRule(ruleOf(change.rule))
    case 'remove-rule':
      return removeRule(ruleOf(change.rule))
  }
}

/** All that bears our marks, whatever was wanted; the problems met. */
export function removeMarked(): string[] {
  const problems: string[] = []
  const attempt = (what: () => void) => {
    try {
      what()
    } catch (error) {
      problems.push((error as Error).message)
    }
  }
  attempt(() => {
    for (const rule of ownRules()) attempt(() => removeRule(rule))
    for (const route of listAllRoutes()) if (route.protocol === ROUTE_PROTOCOL) attempt(() => removeRoute(route))
    for (const link of listLinks()) if (isOurs(link)) attempt(() => removeLink(link.index))
  })
  return problems
}

function routeOf({ table, destination, device, via, onLink, mtu, source }: RouteWanted): Route {
  const { address, length } = prefixOf(destination)
  return {
    destination: address,
    length,
    interfaceIndex: device === undefined ? 0 : indexOf(device),
    kind: device === undefined ? 'unreachable' : 'unicast',
    table: tables[table],
    protocol: ROUTE_PROTOCOL,
    metric: ROUTE_METRIC,
    ...(via === undefined ? {} : { via: bytesOf(via) }),
    ...(onLink ? { onLink } : {}),
    ...(mtu === undefined ? {} : { mtu }),
    ...(source === undefined ? {} : { source: bytesOf(source) }),
  }
}

function ruleOf({ family, incoming }: RuleWanted): Rule {
  return { family, incoming, priority: RULE_PRIORITY, table: RETURN_TABLE, protocol: ROUTE_PROTOCOL }
}

function neighbourOf({ device, address, hardwareAddress }: NeighbourWanted): Neighbour {
  return { index: indexOf(device), address: bytesOf(address), hardwareAddress: fromColons(hardwareAddress) }
}

function indexOf(name: string): number {
  const link = linkByName(name)
  if (!link) throw new Error(`device ${name} is gone`)
  return link.index
}

function bytesOf(text: string): Uint8Array {
  const bytes = parseAddress(text)
  if (!bytes) throw new Error(`${text} is no address`)
  return bytes
}

function prefixOf(text: string): { address: Uint8Array; length: number } {
  const prefix = parsePrefix(text)
  if (!prefix) throw new Error(`${text} is no network`)
  return prefix
}

function colons(bytes: Uint8Array): string {
  return [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join(':')
}

function fromColons(text: string): Uint8Array {
  return Uint8Array.from(text.split(':').map(byte => Number.parseInt(byte, 16)))
}
