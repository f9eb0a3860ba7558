/**
 * Neighbours (address → hardware address) and forwarding entries of a VXLAN link (hardware address → address of the machine that has it), both
 * permanent: rtnetlink(7), RTM_NEWNEIGH; a forwarding entry is a neighbour of family AF_BRIDGE that belongs to the link itself.
 */
import { AF_INET, AF_INET6, Errno } from './layouts.ts'
import { attribute, attributesOf, concat, NLM_F, request, tolerate } from './netlinkMessages.ts'

const RTM = { newNeighbour: 28, delNeighbour: 29, getNeighbour: 30 } as const
const NDA = { destination: 1, hardwareAddress: 2 } as const
const NUD_PERMANENT = 0x80
const NTF_SELF = 0x02
const AF_BRIDGE = 7

export interface Neighbour {
  index: number
  /** of the neighbour; in a forwarding entry that of the machine */
  address: Uint8Array
  hardwareAddress: Uint8Array
}

// struct ndmsg { u8 family; u8 pad1; u16 pad2; i32 ifindex; u16 state; u8 flags; u8 type; }
function body(of: Neighbour, family: number): Uint8Array {
  const header = new Uint8Array(12)
  const view = new DataView(header.buffer)
  header[0] = family
  view.setInt32(4, of.index, true)
  view.setUint16(8, NUD_PERMANENT, true)
  header[10] = family === AF_BRIDGE ? NTF_SELF : 0
  return concat(header, attribute(NDA.destination, of.address), attribute(NDA.hardwareAddress, of.hardwareAddress))
}

function set(what: string, of: Neighbour, family: number): void {
  const flags = NLM_F.ack | NLM_F.create | NLM_F.replace
  request(what, { type: RTM.newNeighbour, flags, body: body(of, family) })
}

function remove(what: string, of: Neighbour, family: number): void {
  tolerate([Errno.ENOENT, Errno.ENODEV], () =>
    request(what, { type: RTM.delNeighbour, flags: NLM_F.ack, body: body(of, family) }),
  )
}

export function setNeighbour(neighbour: Neighbour): void {
  set('set neighbour', neighbour, familyNumber(neighbour))
}

export function removeNeighbour(neighbour: Neighbour): void {
  remove('remove neighbour', neighbour, familyNumber(neighbour))
}

export function setForwarding(entry: Neighbour): void {
  set('set forwarding entry', entry, AF_BRIDGE)
}

export function removeForwarding(entry: Neighbour): void {
  remove('remove forwarding entry', entry, AF_BRIDGE)
}

function familyNumber({ address }: Neighbour): number {
  return address.length === 4 ? AF_INET : AF_INET6
}

/** Permanent ones alone. */
export function listNeighbours(): Neighbour[] {
  return [AF_INET, AF_INET6].flatMap(list)
}

/** Entries that tell a machine. */
export function listForwarding(): Neighbour[] {
  return list(AF_BRIDGE)
}

function list(family: number): Neighbour[] {
  const header = new Uint8Array(12)
  header[0] = family
  return request('list neighbours', { type: RTM.getNeighbour, flags: NLM_F.dump, body: header }).flatMap(message => {
    const view = new DataView(message.body.buffer)
    const attributes = attributesOf(message.body, 12)
    const address = attributes.get(NDA.destination)?.slice()
    const hardwareAddress = attributes.get(NDA.hardwareAddress)?.slice()
    const isPermanent = (view.getUint16(8, true) & NUD_PERMANENT) !== 0
    return address && hardwareAddress && isPermanent
      ? [{ index: view.getInt32(4, true), address, hardwareAddress }]
      : []
  })
}
