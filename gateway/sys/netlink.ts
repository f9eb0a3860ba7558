/**
 * rtnetlink (rtnetlink(7), netlink(7)): links, addresses and routes of this network namespace.
 *
 *   | nlmsghdr: length type flags sequence pid |  ifinfomsg, ifaddrmsg or rtmsg  | attributes: length type value (padded to 4) |
 *
 * One request, one answer, on a socket of its own that waits two seconds at most; for the main thread at start and on changes.
 */
import { AF_INET, AF_INET6, AF_NETLINK, Errno, SO_RCVTIMEO, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET } from './layouts.ts'
import { check, close, recv, SysError, send, setsockopt, socket } from './libc.ts'
import { scratch } from './scratch.ts'

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
const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const NLM_F = { request: 1, multi: 2, ack: 4, dump: 0x300, replace: 0x100, exclusive: 0x200, create: 0x400 } as const
const IFLA = { name: 3, mtu: 4, txqueuelen: 13, afSpec: 26 } as const
const IFLA_INET_CONF = 1
const DEVCONF_RP_FILTER = 8
const DEVCONF_ACCEPT_LOCAL = 23
const RP_FILTER_LOOSE = 2
const IFA = { address: 1, local: 2, flags: 8 } as const
const IFA_F_NODAD = 0x02
const RTA = { destination: 1, oif: 4, gateway: 5, prefSource: 7, metrics: 8 } as const
const RTAX_MTU = 2
const IFF_UP = 1
const RT_TABLE_MAIN = 254
const RTPROT_STATIC = 4
const RT_SCOPE_LINK = 253
const RTN_UNICAST = 1
const HEADER = 16
const AT = 8192
const ANSWER_AT = 65536
const ANSWER_BYTES = 1 << 18

interface Message {
  type: number
  body: Uint8Array
}

export interface Link {
  index: number
  name: string
  mtu: number
  up: boolean
}

export interface InterfaceAddress {
  index: number
  address: Uint8Array
  length: number
}

export interface Route {
  destination: Uint8Array
  length: number
  interfaceIndex: number
}

function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + value.length + 3) & ~3)
  new DataView(bytes.buffer).setUint16(0, 4 + value.length, true)
  new DataView(bytes.buffer).setUint16(2, type, true)
  bytes.set(value, 4)
  return bytes
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts))
}

// attributes that begin at `offset` of a message body: type → value
function attributesOf(body: Uint8Array, offset: number): Map<number, Uint8Array> {
  const view = new DataView(body.buffer, body.byteOffset, body.length)
  const found = new Map<number, Uint8Array>()
  for (let at = offset; at + 4 <= body.length; ) {
    const length = view.getUint16(at, true)
    if (length < 4 || at + length > body.length) break
    found.set(view.getUint16(at + 2, true) & 0x3fff, body.subarray(at + 4, at + length))
    at += (length + 3) & ~3
  }
  return found
}

function request(what: string, message: { type: number; flags: number; body: Uint8Array }): Message[] {
  const memory = scratch()
  const fd = check('socket AF_NETLINK', socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0))
  try {
    memory.setPointer(64, 2)
    memory.setPointer(72, 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, memory.address(64), 16)
    const length = HEADER + message.body.length
    memory.view.setUint32(AT, length, true)
    memory.view.setUint16(AT + 4, message.type, true)
    memory.view.setUint16(AT + 6, message.flags | NLM_F.request, true)
    memory.view.setUint32(AT + 8, 1, true)
    memory.view.setUint32(AT + 12, 0, true)
    memory.bytes.set(message.body, AT + HEADER)
    check(what, send(fd, memory.address(AT), length, 0))
    return receive(what, fd)
  } finally {
    close(fd)
  }
}

function receive(what: string, fd: number): Message[] {
  const memory = scratch()
  const { view } = memory
  const messages: Message[] = []
  for (;;) {
    const got = check(what, recv(fd, memory.address(ANSWER_AT), ANSWER_BYTES, 0))
    let isMulti = false
    for (let at = ANSWER_AT; at + HEADER <= ANSWER_AT + got; ) {
      const length = view.getUint32(at, true)
      const type = view.getUint16(at + 4, true)
      if (length < HEADER) break
      isMulti = (view.getUint16(at + 6, true) & NLM_F.multi) !== 0
      if (type === NLMSG_DONE) return messages
      if (type === NLMSG_ERROR) {
        const error = -view.getInt32(at + HEADER, true)
        if (error !== 0) throw new SysError(what, error)
        return messages
      }
      messages.push({ type, body: memory.bytes.slice(at + HEADER, at + length) })
      at += (length + 3) & ~3
    }
    if (!isMulti && messages.length > 0) return messages
  }
}

function tolerate(errnos: readonly number[], change: () => void): void {
  try {
    change()
  } catch (error) {
    if (!(error instanceof SysError) || !errnos.includes(error.errno)) throw error
  }
}

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
  return request('list links', { type: RTM.getLink, flags: NLM_F.dump, body: linkBody(0, 0, 0) }).map(({ body }) => {
    const view = new DataView(body.buffer)
    const attributes = attributesOf(body, 16)
    const name = Buffer.from(attributes.get(IFLA.name) ?? [])
      .toString()
      .replace(/\0.*$/, '')
    const mtu = attributes.get(IFLA.mtu)
    return {
      index: view.getInt32(4, true),
      name,
      mtu: mtu ? new DataView(mtu.buffer, mtu.byteOffset).getUint32(0, true) : 0,
      up: (view.getUint32(8, true) & IFF_UP) !== 0,
    }
  })
}

export function linkByName(name: string): Link | undefined {
  return listLinks().find(link => link.name === name)
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

// ---- addresses

// struct ifaddrmsg { u8 family; u8 prefixlen; u8 flags; u8 scope; u32 index; }
function addressBody(of: InterfaceAddress): Uint8Array {
  const header = new Uint8Array(8)
  header[0] = of.address.length === 4 ? AF_INET : AF_INET6
  header[1] = of.length
  new DataView(header.buffer).setUint32(4, of.index, true)
  const parts = [header, attribute(IFA.local, of.address), attribute(IFA.address, of.address)]
  if (of.address.length === 16) parts.push(attribute(IFA.flags, u32(IFA_F_NODAD)))
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
  const is4 = route.destination.length === 4
  const header = new Uint8Array(12)
  header.set([
    is4 ? AF_INET : AF_INET6,
    route.length,
    0,
    0,
    RT_TABLE_MAIN,
    RTPROT_STATIC,
    is4 ? RT_SCOPE_LINK : 0,
    RTN_UNICAST,
  ])
  return concat(header, attribute(RTA.destination, route.destination), attribute(RTA.oif, u32(route.interfaceIndex)))
}

export function addRoute(route: Route): void {
  const flags = NLM_F.ack | NLM_F.create | NLM_F.replace
  tolerate([Errno.EEXIST], () => request('add route', { type: RTM.newRoute, flags, body: routeBody(route) }))
}

export function removeRoute(route: Route): void {
  tolerate([Errno.ESRCH, Errno.ENOENT], () =>
    request('remove route', { type: RTM.delRoute, flags: NLM_F.ack, body: routeBody(route) }),
  )
}

/** Routes of the main table to more than one address. */
export function listRoutes(): Route[] {
  const body = new Uint8Array(12)
  return request('list routes', { type: RTM.getRoute, flags: NLM_F.dump, body }).flatMap(message => {
    const family = message.body[0]
    if (message.body[4] !== RT_TABLE_MAIN || (family !== AF_INET && family !== AF_INET6)) return []
    const attributes = attributesOf(message.body, 12)
    const oif = attributes.get(RTA.oif)
    const destination = attributes.get(RTA.destination)?.slice() ?? new Uint8Array(family === AF_INET ? 4 : 16)
    return [
      {
        destination,
        length: message.body[1]!,
        interfaceIndex: oif ? new DataView(oif.buffer, oif.byteOffset).getUint32(0, true) : 0,
      },
    ]
  })
}

/** The way to an address: MTU (of the route or else of its interface), interface, and the source address the kernel would take. */
export function routeTo(
  address: Uint8Array,
): { mtu: number; interfaceIndex: number; source: Uint8Array | undefined } | undefined {
  const header = new Uint8Array(12)
  header[0] = address.length === 4 ? AF_INET : AF_INET6
  header[1] = address.length * 8
  let answers: Message[] = []
  tolerate([Errno.ENETUNREACH, Errno.EHOSTUNREACH, Errno.ESRCH], () => {
    answers = request('get route', {
      type: RTM.getRoute,
      flags: 0,
      body: concat(header, attribute(RTA.destination, address)),
    })
  })
  const body = answers[0]?.body
  if (!body) return undefined
  const attributes = attributesOf(body, 12)
  const oif = attributes.get(RTA.oif)
  const interfaceIndex = oif ? new DataView(oif.buffer, oif.byteOffset).getUint32(0, true) : 0
  const metrics = attributes.get(RTA.metrics)
  const metric = metrics && attributesOf(metrics, 0).get(RTAX_MTU)
  const ofLink = listLinks().find(link => link.index === interfaceIndex)?.mtu ?? 1500
  const mtu = metric ? new DataView(metric.buffer, metric.byteOffset).getUint32(0, true) : ofLink
  return { mtu: Math.min(mtu, 65535), interfaceIndex, source: attributes.get(RTA.prefSource)?.slice() }
}
