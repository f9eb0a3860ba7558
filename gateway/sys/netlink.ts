/**
 * rtnetlink (rtnetlink(7), netlink(7)): links, addresses and routes of this network namespace.
 *
 * Messages are in netlinkMessages.ts; VXLAN links, neighbours and rules have files of their own (vxlan.ts, neighbours.ts, rules.ts).
 */
import { AF_INET, AF_INET6, Errno } from './layouts.ts'
import {
  attribute,
  attributesOf,
  concat,
  type Message,
  NLM_F,
  nested,
  request,
  textOf,
  tolerate,
  u32,
  u32Of,
} from './netlinkMessages.ts'

const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  delAddress: 21,
  getAddress: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
} as const
const IFLA = { address: 1, name: 3, mtu: 4, txqueuelen: 13, linkInfo: 18, alias: 20, afSpec: 26 } as const
const IFLA_INFO = { kind: 1, data: 2 } as const
const IFLA_INET_CONF = 1
const DEVCONF_RP_FILTER = 8
const DEVCONF_ACCEPT_LOCAL = 23
const RP_FILTER_LOOSE = 2
const IFA = { address: 1, local: 2, cacheInfo: 6, flags: 8 } as const
const IFA_F_NODAD = 0x02
const RTA = {
  destination: 1,
  oif: 4,
  gateway: 5,
  priority: 6,
  prefSource: 7,
  metrics: 8,
  table: 15,
  via: 18,
} as const
const RTAX_MTU = 2
const RTNH_F_ONLINK = 4
const IFF_UP = 1
export const RT_TABLE_MAIN = 254
const RT_TABLE_COMPAT = 252
const RTPROT_STATIC = 4
const RT_SCOPE = { universe: 0, link: 253, host: 254 } as const
const FOR_EVER = 0xffffffff
const RTN = { unicast: 1, unreachable: 7 } as const

export interface Link {
  index: number
  name: string
  mtu: number
  up: boolean
  /** 'vxlan', 'veth', 'tun' and so on; '' for hardware */
  kind: string
  alias: string
  hardwareAddress: Uint8Array
  /** of the device alone: the greater of this and that of `all` is in force */
  rpFilter: number
  /** attributes of the kind */
  data: Uint8Array | undefined
}

export interface InterfaceAddress {
  index: number
  address: Uint8Array
  length: number
  /** never: the kernel takes it as source of nothing by itself */
  choice?: 'never'
}

export interface Route {
  destination: Uint8Array
  length: number
  /** 0: none, for unreachable */
  interfaceIndex: number
  kind?: 'unicast' | 'unreachable'
  /** next hop; it may be of the other family */
  via?: Uint8Array
  /** the next hop is on the link, whatever routes say */
  onLink?: boolean
  /** absent: main */
  table?: number
  /** who made it; absent: static */
  protocol?: number
  metric?: number
  mtu?: number
  /** preferred source of the host's own packets */
  source?: Uint8Array
}

const NOTHING = new Uint8Array(0)

// ---- links

// struct ifinfomsg { u8 family; u8 pad; u16 type; i32 index; u32 flags; u32 change; }
function linkBody(index: number, flags: number, change: number): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setInt32(4, index, true)
  view.setUint32(8, flags, true)
  view.setUint32(12, change, true)
  return bytes
}

export function listLinks(): Link[] {
  return request('list links', { type: RTM.getLink, flags: NLM_F.dump, body: linkBody(0, 0, 0) }).map(linkOf)
}

function linkOf({ body }: Message): Link {
  const view = new DataView(body.buffer)
  const attributes = attributesOf(body, 16)
  const info = attributesOf(attributes.get(IFLA.linkInfo) ?? NOTHING, 0)
  return {
    index: view.getInt32(4, true),
    name: textOf(attributes.get(IFLA.name)),
    mtu: u32Of(attributes.get(IFLA.mtu)) ?? 0,
    up: (view.getUint32(8, true) & IFF_UP) !== 0,
    kind: textOf(info.get(IFLA_INFO.kind)),
    alias: textOf(attributes.get(IFLA.alias)),
    hardwareAddress: (attributes.get(IFLA.address) ?? NOTHING).slice(),
    rpFilter: rpFilterOf(attributes.get(IFLA.afSpec)),
    data: info.get(IFLA_INFO.data)?.slice(),
  }
}

// IFLA_AF_SPEC { AF_INET { IFLA_INET_CONF: one u32 for each setting, from number 1 on } }
function rpFilterOf(families: Uint8Array | undefined): number {
  const inet = attributesOf(families ?? NOTHING, 0).get(AF_INET)
  const settings = attributesOf(inet ?? NOTHING, 0).get(IFLA_INET_CONF)
  return u32Of(settings?.subarray((DEVCONF_RP_FILTER - 1) * 4)) ?? 0
}

export function linkByName(name: string): Link | undefined {
  const body = concat(linkBody(0, 0, 0), attribute(IFLA.name, Uint8Array.from(Buffer.from(`${name}\0`))))
  let answers: Message[] = []
  tolerate([Errno.ENODEV], () => {
    answers = request(`get link ${name}`, { type: RTM.getLink, flags: 0, body })
  })
  return answers[0] && linkOf(answers[0])
}

export interface LinkChange {
  index: number
  up?: boolean
  mtu?: number
  txqueuelen?: number
  /**
   * For a TUN device of ours: rp_filter 2 (loose), since answers may leave by another way than they came, and accept_local, since ICMP errors
   * that we make come in by it with an address of this host as source.
   */
  tunnelConf?: boolean
}

export function setLink(change: LinkChange): void {
  const up = change.up === undefined ? [0, 0] : [change.up ? IFF_UP : 0, IFF_UP]
  const parts = [linkBody(change.index, up[0]!, up[1]!)]
  if (change.mtu !== undefined) parts.push(attribute(IFLA.mtu, u32(change.mtu)))
  if (change.txqueuelen !== undefined) parts.push(attribute(IFLA.txqueuelen, u32(change.txqueuelen)))
  if (change.tunnelConf) {
    const values = concat(attribute(DEVCONF_RP_FILTER, u32(RP_FILTER_LOOSE)), attribute(DEVCONF_ACCEPT_LOCAL, u32(1)))
    const conf = attribute(IFLA_INET_CONF, values)
    parts.push(attribute(IFLA.afSpec, attribute(AF_INET, conf)))
  }
  request(`set link ${change.index}`, { type: RTM.setLink, flags: NLM_F.ack, body: concat(...parts) })
}

/** A link of a kind that the kernel makes itself. */
export function addLink(wanted: {
  name: string
  kind: string
  data: Uint8Array
  mtu: number
  alias: string
  hardwareAddress: Uint8Array
}): void {
  const text = (value: string) => Uint8Array.from(Buffer.from(`${value}\0`))
  const body = concat(
    linkBody(0, 0, 0),
    attribute(IFLA.name, text(wanted.name)),
    attribute(IFLA.mtu, u32(wanted.mtu)),
    attribute(IFLA.address, wanted.hardwareAddress),
    nested(IFLA.linkInfo, attribute(IFLA_INFO.kind, text(wanted.kind)), nested(IFLA_INFO.data, wanted.data)),
  )
  const flags = NLM_F.ack | NLM_F.create | NLM_F.exclusive
  request(`add ${wanted.kind} link ${wanted.name}`, { type: RTM.newLink, flags, body })
  // an alias is taken of links that are there, not of those that are being made
  const made = linkByName(wanted.name)
  if (!made) return
  const named = concat(linkBody(made.index, 0, 0), attribute(IFLA.alias, Uint8Array.from(Buffer.from(wanted.alias))))
  request(`name link ${wanted.name}`, { type: RTM.setLink, flags: NLM_F.ack, body: named })
}

export function removeLink(index: number): void {
  tolerate([Errno.ENODEV], () =>
    request(`remove link ${index}`, { type: RTM.delLink, flags: NLM_F.ack, body: linkBody(index, 0, 0) }),
  )
}

// ---- addresses

// struct ifaddrmsg { u8 family; u8 prefixlen; u8 flags; u8 scope; u32 index; }
function addressBody(of: InterfaceAddress): Uint8Array {
  const header = new Uint8Array(8)
  header[0] = of.address.length === 4 ? AF_INET : AF_INET6
  header[1] = of.length
  const [is4, isChosen] = [of.address.length === 4, of.choice !== 'never']
  header[3] = is4 && !isChosen ? RT_SCOPE.host : RT_SCOPE.universe
  new DataView(header.buffer).setUint32(4, of.index, true)
  const parts = [header, attribute(IFA.local, of.address), attribute(IFA.address, of.address)]
  if (!is4) parts.push(attribute(IFA.flags, u32(IFA_F_NODAD)))
  // struct ifa_cacheinfo { u32 preferred, valid, created, updated; }: what is not preferred any more is not chosen
  if (!is4 && !isChosen) parts.push(attribute(IFA.cacheInfo, concat(u32(0), u32(FOR_EVER), u32(0), u32(0))))
  return concat(...parts)
}

/** An address that is there already is no error. */
export function addAddress(address: InterfaceAddress): void {
  const flags = NLM_F.ack | NLM_F.create | NLM_F.exclusive
  tolerate([Errno.EEXIST], () => request('add address', { type: RTM.newAddress, flags, body: addressBody(address) }))
}

export function removeAddress(address: InterfaceAddress): void {
  tolerate([Errno.EADDRNOTAVAIL, Errno.ENOENT], () =>
    request('remove address', { type: RTM.delAddress, flags: NLM_F.ack, body: addressBody(address) }),
  )
}

export function listAddresses(): InterfaceAddress[] {
  const body = new Uint8Array(8)
  return request('list addresses', { type: RTM.getAddress, flags: NLM_F.dump, body }).flatMap(message => {
    const attributes = attributesOf(message.body, 8)
    const address = attributes.get(IFA.local) ?? attributes.get(IFA.address)
    if (!address) return []
    return [
      {
        index: new DataView(message.body.buffer).getUint32(4, true),
        address: address.slice(),
        length: message.body[1]!,
      },
    ]
  })
}

// ---- routes

// struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; }
function routeBody(route: Route): Uint8Array {
  const { via, mtu, source, metric } = route
  const is4 = route.destination.length === 4
  const table = route.table ?? RT_TABLE_MAIN
  const kind = route.kind ?? 'unicast'
  const header = new Uint8Array(12)
  header.set([
    is4 ? AF_INET : AF_INET6,
    route.length,
    0,
    0,
    table < 256 ? table : RT_TABLE_COMPAT,
    route.protocol ?? RTPROT_STATIC,
    is4 && !via && kind === 'unicast' ? RT_SCOPE.link : RT_SCOPE.universe,
    RTN[kind],
  ])
  new DataView(header.buffer).setUint32(8, route.onLink ? RTNH_F_ONLINK : 0, true)
  const parts = [header, attribute(RTA.destination, route.destination), attribute(RTA.table, u32(table))]
  if (route.interfaceIndex !== 0) parts.push(attribute(RTA.oif, u32(route.interfaceIndex)))
  if (via?.length === route.destination.length) parts.push(attribute(RTA.gateway, via))
  // struct rtvia { sa_family_t family; u8 address[]; }
  else if (via) parts.push(attribute(RTA.via, concat(Uint8Array.of(via.length === 4 ? AF_INET : AF_INET6, 0), via)))
  if (metric !== undefined) parts.push(attribute(RTA.priority, u32(metric)))
  if (source) parts.push(attribute(RTA.prefSource, source))
  if (mtu !== undefined) parts.push(nested(RTA.metrics, attribute(RTAX_MTU, u32(mtu))))
  return concat(...parts)
}

/** Takes the place of one to the same destination with the same metric in the same table. */
export function addRoute(route: Route): void {
  const flags = NLM_F.ack | NLM_F.create | NLM_F.replace
  tolerate([Errno.EEXIST], () => request('add route', { type: RTM.newRoute, flags, body: routeBody(route) }))
}

export function removeRoute(route: Route): void {
  tolerate([Errno.ESRCH, Errno.ENOENT, Errno.ENODEV], () =>
    request('remove route', { type: RTM.delRoute, flags: NLM_F.ack, body: routeBody(route) }),
  )
}

/** Routes of the main table to more than one address. */
export function listRoutes(): Route[] {
  return listAllRoutes().filter(route => route.table === RT_TABLE_MAIN)
}

/** Routes of all tables. */
export function listAllRoutes(): Route[] {
  const body = new Uint8Array(12)
  return request('list routes', { type: RTM.getRoute, flags: NLM_F.dump, body }).flatMap(message => {
    const family = message.body[0]
    return family === AF_INET || family === AF_INET6 ? [routeOf(message)] : []
  })
}

function routeOf({ body }: Message): Route {
  const attributes = attributesOf(body, 12)
  const size = body[0] === AF_INET ? 4 : 16
  const via = attributes.get(RTA.gateway)?.slice() ?? attributes.get(RTA.via)?.slice(2)
  const source = attributes.get(RTA.prefSource)?.slice()
  const metric = u32Of(attributes.get(RTA.priority))
  const mtu = u32Of(attributesOf(attributes.get(RTA.metrics) ?? NOTHING, 0).get(RTAX_MTU))
  return {
    destination: attributes.get(RTA.destination)?.slice() ?? new Uint8Array(size),
    length: body[1]!,
    interfaceIndex: u32Of(attributes.get(RTA.oif)) ?? 0,
    kind: body[7] === RTN.unreachable ? 'unreachable' : 'unicast',
    table: u32Of(attributes.get(RTA.table)) ?? body[4]!,
    protocol: body[5]!,
    onLink: (new DataView(body.buffer).getUint32(8, true) & RTNH_F_ONLINK) !== 0,
    ...(via ? { via } : {}),
    ...(metric === undefined ? {} : { metric }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(source ? { source } : {}),
  }
}

/** The route that the kernel would take to an address. */
export function lookUpRoute(address: Uint8Array): Route | undefined {
  const header = new Uint8Array(12)
  header[0] = address.length === 4 ? AF_INET : AF_INET6
  header[1] = address.length * 8
  let answers: Message[] = []
  tolerate([Errno.ENETUNREACH, Errno.EHOSTUNREACH, Errno.ESRCH], () => {
    const body = concat(header, attribute(RTA.destination, address))
    answers = request('get route', { type: RTM.getRoute, flags: 0, body })
  })
  return answers[0] && routeOf(answers[0])
}

/** The way to an address: MTU (of the route or else of its interface), interface, and the source address the kernel would take. */
export function routeTo(
  address: Uint8Array,
): { mtu: number; interfaceIndex: number; source: Uint8Array | undefined } | undefined {
  const route = lookUpRoute(address)
  if (!route) return undefined
  const { interfaceIndex, source } = route
  const mtu = route.mtu ?? listLinks().find(link => link.index === interfaceIndex)?.mtu ?? 1500
  return { mtu: Math.min(mtu, 65535), interfaceIndex, source }
}
