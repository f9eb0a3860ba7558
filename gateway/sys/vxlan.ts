/**
 * VXLAN links (Linux Documentation/networking/vxlan.rst) without learning: where a hardware address lives is told by hand (neighbours.ts).
 * One link carries one family of the network below; the packets inside may be of both.
 */
import { addLink, type Link } from './netlink.ts'
import { attribute, attributesOf, be16, concat, u32, u32Of } from './netlinkMessages.ts'

const VXLAN = { id: 1, local: 4, learning: 7, port: 15, local6: 17 } as const

export interface VxlanLink {
  name: string
  alias: string
  hardwareAddress: Uint8Array
  mtu: number
  /** source of the outer packets */
  local: Uint8Array
  vni: number
  port: number
}

export function addVxlan(wanted: VxlanLink): void {
  const { name, alias, hardwareAddress, mtu, local, vni, port } = wanted
  const data = concat(
    attribute(VXLAN.id, u32(vni)),
    attribute(local.length === 4 ? VXLAN.local : VXLAN.local6, local),
    attribute(VXLAN.port, be16(port)),
    attribute(VXLAN.learning, Uint8Array.of(0)),
  )
  addLink({ name, kind: 'vxlan', data, mtu, alias, hardwareAddress })
}

/** undefined: the link is of another kind. */
export function vxlanOf(link: Link): VxlanLink | undefined {
  if (link.kind !== 'vxlan' || !link.data) return undefined
  const attributes = attributesOf(link.data, 0)
  const port = attributes.get(VXLAN.port)
  return {
    name: link.name,
    alias: link.alias,
    hardwareAddress: link.hardwareAddress,
    mtu: link.mtu,
    local: attributes.get(VXLAN.local)?.slice() ?? attributes.get(VXLAN.local6)?.slice() ?? new Uint8Array(0),
    vni: u32Of(attributes.get(VXLAN.id)) ?? 0,
    port: port ? (port[0]! << 8) | port[1]! : 0,
  }
}
