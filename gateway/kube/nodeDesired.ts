/**
 * What a node's links, routes, rules and table should be. Pure: what is wanted + how this node reaches the others + what probes have shown.
 *
 *   pod of this node ──► slice of another gateway ──► that gateway's node       main table
 *   tunnel ──► TUN ──► pod of another node, or the node itself ──► that node    table 1045, by a rule for what comes in by the TUN
 *
 * The second row is needed because the network between nodes may know pods' addresses and still drop encoded ones as sources; what
 * the CNI does with its own addresses stays untouched. Each node is reached in one of two ways, for each family of encoded addresses:
 *
 *   direct   its address is the next hop, on a link that both share; `auto` takes it after an encoded source and destination came back
 *   vxlan    kernel VXLAN from node address to node address, with the MTU that is left
 *
 * Own slices need no route: the whole encoding network leads to the TUN (device.ts), and other slices are more specific. With a single
 * uplink its two halves lead to the active gateway's node. A node without a gateway refuses encoded addresses that are in no slice.
 */
import { formatPrefix, hostPrefix, type IpFamily, parseAddress, parsePrefix } from '../../ipref/address.ts'
import { DUMMY_ADDRESS, RULE_FAMILIES, VXLAN_NAMES } from './nodeMarks.ts'
import type {
  Desired,
  GatewayPlace,
  LinkWanted,
  NeighbourWanted,
  NodeNetworkWanted,
  NodePath,
  Probe,
  RouteWanted,
  Surroundings,
  TableWanted,
} from './nodeTypes.ts'
import { hardwareAddressOf, linkLocalOf, VXLAN_OVERHEAD } from './vxlan.ts'

interface Machine {
  nodeName: string
  addresses: readonly string[]
  podNetworks: readonly string[]
  gateways: GatewayPlace[]
}

/** A way that packets of one family can take to a machine. */
interface Hop {
  device: string
  via: string
  onLink: boolean
  mtu?: number
}

export function probeKey(nodeName: string, family: IpFamily): string {
  return `${nodeName} IPv${family}`
}

export function familyOfText(text: string): IpFamily {
  return text.includes(':') ? 6 : 4
}

const ofFamily = (texts: readonly string[], family: IpFamily) => texts.filter(text => familyOfText(text) === family)

/** First address of a network: in a slice it is never given out, and answers probes. */
export function firstAddress(network: string): string {
  return network.slice(0, network.indexOf('/'))
}

/** The two networks of one bit more that are a network together: more specific than the route to all of it. */
export function halves(network: string): string[] {
  const prefix = parsePrefix(network)
  if (!prefix || prefix.length >= prefix.address.length * 8) return [network]
  const upper = prefix.address.slice()
  upper[prefix.length >> 3]! |= 0x80 >> (prefix.length & 7)
  return [prefix.address, upper].map(address => formatPrefix({ ...prefix, address, length: prefix.length + 1 }))
}

/** Texts that nothing can be done with; a caller checks before. */
export function wantedProblems(wanted: NodeNetworkWanted): string[] {
  const prefixes = [
    ...wanted.encodingNetworks,
    ...wanted.own.slices,
    ...wanted.gateways.flatMap(gateway => [...gateway.slices, ...(gateway.statics ?? [])]),
    ...wanted.nodes.flatMap(node => node.podNetworks),
    ...wanted.podNetworks,
    ...wanted.serviceNetworks,
  ]
  const addresses = [wanted.own, ...wanted.gateways, ...wanted.nodes].flatMap(place => place.nodeAddresses)
  return [
    ...prefixes.filter(text => !parsePrefix(text)).map(text => `${text} is no network`),
    ...addresses.filter(text => !parseAddress(text)).map(text => `${text} is no address of a node`),
  ]
}

/** Addresses of which this node must know the way before it can decide. */
export function addressesToReach(wanted: NodeNetworkWanted): string[] {
  return machinesOf(wanted).flatMap(machine => machine.addresses)
}

function machinesOf(wanted: NodeNetworkWanted): Machine[] {
  const machines = new Map<string, Machine>()
  for (const { nodeName, nodeAddresses: addresses, podNetworks } of wanted.nodes)
    machines.set(nodeName, { nodeName, addresses, podNetworks, gateways: [] })
  for (const gateway of wanted.gateways) {
    const known = machines.get(gateway.nodeName)
    if (known) known.gateways.push(gateway)
    else {
      const { nodeName, nodeAddresses: addresses } = gateway
      machines.set(nodeName, { nodeName, addresses, podNetworks: [], gateways: [gateway] })
    }
  }
  machines.delete(wanted.own.nodeName)
  // two nodes without gateways have nothing to say to each other
  return [...machines.values()].filter(machine => wanted.tun !== undefined || machine.gateways.length > 0)
}

export function desire(wanted: NodeNetworkWanted, around: Surroundings): Desired {
  return new Desire(wanted, around).result()
}

class Desire {
  readonly #wanted: NodeNetworkWanted
  readonly #around: Surroundings
  readonly #machines: Machine[]
  readonly #families: IpFamily[]
  readonly #paths = new Map<string, NodePath>()
  readonly #problems: string[] = []

  constructor(wanted: NodeNetworkWanted, around: Surroundings) {
    this.#wanted = wanted
    this.#around = around
    this.#machines = machinesOf(wanted)
    this.#families = RULE_FAMILIES.filter(family => ofFamily(wanted.encodingNetworks, family).length > 0)
  }

  result(): Desired {
    const links = this.#links()
    const routes = this.#routes()
    const returns = this.#returnRoutes()
    return {
      links,
      addresses: this.#addresses(links),
      ...this.#neighbours(links),
      routes: [...routes, ...this.#probeRoutes(), ...returns],
      rules: this.#families.flatMap(family =>
        this.#wanted.tun &&
        ofFamily(
          returns.map(route => route.destination),
          family,
        ).length > 0
          ? [{ family, incoming: this.#wanted.tun }]
          : [],
      ),
      table: this.#table(),
      probes: this.#machines.flatMap(machine => this.#families.flatMap(family => this.#probe(machine, family) ?? [])),
      paths: [...this.#paths.values()],
      problems: [...this.#problems, ...this.#strictFilters()],
    }
  }

  // ---- links

  /** Family of the network below, own address and theirs. */
  #vxlanTo(machine: Machine): { family: IpFamily; local: string; remote: string } | undefined {
    if (this.#wanted.mode === 'direct') return undefined
    for (const family of RULE_FAMILIES) {
      const local = this.#ownAddress(family)
      const remote = ofFamily(machine.addresses, family)[0]
      if (local && remote) return { family, local, remote }
    }
    return undefined
  }

  // the first that this host has
  #ownAddress(family: IpFamily): string | undefined {
    return ofFamily(this.#wanted.own.nodeAddresses, family).find(address => this.#around.own.has(address))
  }

  #links(): LinkWanted[] {
    const locals = new Map<IpFamily, string>()
    for (const machine of this.#machines) {
      const way = this.#vxlanTo(machine)
      if (way) locals.set(way.family, way.local)
    }
    return [...locals].map(([family, local]) => ({
      name: VXLAN_NAMES[family],
      local,
      hardwareAddress: hardwareAddressOf(local),
      mtu: this.#around.own.get(local)!.mtu - VXLAN_OVERHEAD[family],
    }))
  }

  #neighbours(links: readonly LinkWanted[]): Pick<Desired, 'neighbours' | 'forwarding'> {
    const neighbours: NeighbourWanted[] = []
    const forwarding: NeighbourWanted[] = []
    const users = new Map(links.map(link => [`${link.name} ${link.hardwareAddress}`, 'this node']))
    for (const machine of this.#machines) {
      const way = this.#vxlanTo(machine)
      if (!way) continue
      const device = VXLAN_NAMES[way.family]
      const hardwareAddress = hardwareAddressOf(way.remote)
      const user = users.get(`${device} ${hardwareAddress}`)
      if (user) {
        this.#problems.push(
          `nodes ${user} and ${machine.nodeName} have one hardware address, ${hardwareAddress}; give one another address`,
        )
        continue
      }
      users.set(`${device} ${hardwareAddress}`, machine.nodeName)
      forwarding.push({ device, address: way.remote, hardwareAddress })
      for (const family of this.#families)
        neighbours.push({ device, address: vxlanNextHop(machine, family, hardwareAddress), hardwareAddress })
    }
    return { neighbours: distinct(neighbours), forwarding }
  }

  /** One for the filter of each link, and those that answer probes. */
  #addresses(links: readonly LinkWanted[]): Desired['addresses'] {
    const dummies = links.map(({ name }) => ({ device: name, address: DUMMY_ADDRESS }))
    const device = links[0]?.name
    if (!device || this.#wanted.mode !== 'auto') return dummies
    const probed = this.#families.flatMap(family => {
      const slice = ofFamily(this.#wanted.own.slices, family)[0]
      return slice ? [{ device, address: hostPrefix(firstAddress(slice)) }] : []
    })
    return [...dummies, ...probed]
  }

  // ---- ways

  #directHop(machine: Machine, family: IpFamily): Hop | undefined {
    // IPv4 packets may have a next hop of IPv6, not the other way round
    for (const of of family === 4 ? RULE_FAMILIES : ([6] as const)) {
      for (const via of ofFamily(machine.addresses, of)) {
        const way = this.#around.ways.get(via)
        if (way?.isOnLink) return { device: way.device, via, onLink: false }
      }
    }
    return undefined
  }

  #vxlanHop(machine: Machine, family: IpFamily): Hop | undefined {
    const vxlan = this.#vxlanTo(machine)
    if (!vxlan) return undefined
    const overhead = VXLAN_OVERHEAD[vxlan.family]
    const below = Math.min(
      this.#around.own.get(vxlan.local)!.mtu,
      this.#around.ways.get(vxlan.remote)?.mtu ?? Number.POSITIVE_INFINITY,
    )
    const via = vxlanNextHop(machine, family, hardwareAddressOf(vxlan.remote))
    return { device: VXLAN_NAMES[vxlan.family], via, onLink: familyOfText(via) === 4, mtu: below - overhead }
  }

  #hop(machine: Machine, family: IpFamily): Hop | undefined {
    const { mode } = this.#wanted
    const direct = mode === 'vxlan' ? undefined : this.#directHop(machine, family)
    const isProved = this.#around.proved.has(probeKey(machine.nodeName, family))
    if (direct && (mode === 'direct' || isProved)) {
      this.#say(machine, family, 'direct', mode === 'direct' ? 'nodeNetwork: direct' : 'a probe came back')
      return direct
    }
    const vxlan = this.#vxlanHop(machine, family)
    if (vxlan) {
      const why = mode === 'vxlan' ? 'nodeNetwork: vxlan' : direct ? 'no probe came back' : 'no link in common'
      this.#say(machine, family, 'vxlan', why)
      return vxlan
    }
    const reason =
      mode === 'direct'
        ? 'it is on no link of this node, which nodeNetwork: direct needs; auto or vxlan would reach it'
        : `no address of it (${machine.addresses.join(', ') || 'none known'}) has the family of one of this node (${this.#wanted.own.nodeAddresses.join(', ') || 'none known'})`
    this.#complain(`node ${machine.nodeName} cannot be reached for IPv${family} encoded addresses: ${reason}`)
    return undefined
  }

  #complain(problem: string): void {
    if (!this.#problems.includes(problem)) this.#problems.push(problem)
  }

  #say(machine: Machine, family: IpFamily, how: NodePath['how'], why: string): void {
    const { nodeName } = machine
    this.#paths.set(probeKey(nodeName, family), { nodeName, family, how, why })
  }

  // ---- routes

  #routes(): RouteWanted[] {
    const { active, own, tun, encodingNetworks } = this.#wanted
    const routes: RouteWanted[] = []
    if (active !== undefined) {
      const place = this.#wanted.gateways.find(gateway => gateway.name === active)
      if (!place) this.#complain(`the active gateway ${active} is not known`)
      const machine = this.#machines.find(one => one.nodeName === place?.nodeName)
      if (machine && place?.nodeName !== own.nodeName) {
        for (const network of encodingNetworks.flatMap(halves)) routes.push(...this.#routeTo(machine, network))
      }
    } else {
      for (const machine of this.#machines) {
        for (const { slices, statics } of machine.gateways)
          for (const network of [...slices, ...(statics ?? [])]) routes.push(...this.#routeTo(machine, network))
      }
    }
    if (tun === undefined) for (const destination of encodingNetworks) routes.push({ table: 'main', destination })
    return routes
  }

  #routeTo(machine: Machine, destination: string): RouteWanted[] {
    const family = familyOfText(destination)
    if (!this.#families.includes(family)) return []
    const hop = this.#hop(machine, family)
    const source = this.#ownAddress(family)
    return hop ? [{ table: 'main', destination, ...routeFields(hop), ...(source ? { source } : {}) }] : []
  }

  // straight to the link in every state: they are what a probe travels by
  #probeRoutes(): RouteWanted[] {
    if (this.#wanted.mode !== 'auto') return []
    return this.#machines.flatMap(machine =>
      this.#families.flatMap(family => {
        const slice = ofFamily(
          machine.gateways.flatMap(gateway => gateway.slices),
          family,
        )[0]
        const hop = this.#directHop(machine, family)
        if (!slice || !hop) return []
        return [{ table: 'main' as const, destination: hostPrefix(firstAddress(slice)), ...routeFields(hop) }]
      }),
    )
  }

  #returnRoutes(): RouteWanted[] {
    if (this.#wanted.tun === undefined) return []
    return this.#machines.flatMap(machine =>
      this.#families.flatMap(family => {
        const pods = ofFamily(machine.podNetworks, family)
        const hop = this.#hop(machine, family)
        if (!hop) return []
        // on a common link the main table knows the nodes themselves
        const nodes = hop.mtu === undefined ? [] : ofFamily(machine.addresses, family).map(hostPrefix)
        return [...pods, ...nodes].map(destination => ({ table: 'return' as const, destination, ...routeFields(hop) }))
      }),
    )
  }

  #probe(machine: Machine, family: IpFamily): Probe | undefined {
    const hop = this.#wanted.mode === 'auto' ? this.#directHop(machine, family) : undefined
    if (!hop) return undefined
    const theirSlices = machine.gateways.flatMap(gateway => gateway.slices)
    const source = probeAddress(this.#wanted.own.slices, this.#ownAddress(family), family)
    const destination = probeAddress(theirSlices, ofFamily(machine.addresses, family)[0], family)
    const key = probeKey(machine.nodeName, family)
    return source && destination ? { key, source, destination, via: hop.via } : undefined
  }

  // ---- rules

  #table(): TableWanted {
    const { encodingNetworks, podNetworks, serviceNetworks, tunnelPort, uplinkPort, mode, tun, own } = this.#wanted
    const devices = this.#machines.flatMap(machine =>
      machine.addresses.flatMap(address => this.#around.ways.get(address) ?? []),
    )
    const vxlans = mode === 'direct' ? [] : Object.values(VXLAN_NAMES)
    const ofCni = this.#wanted.nodes.find(node => node.nodeName === own.nodeName)?.podNetworks.length
      ? []
      : [...this.#around.overlays, ...devices.map(way => way.device)]
    const direct = mode === 'vxlan' ? [] : devices.filter(way => way.isOnLink).map(way => way.device)
    const addresses = this.#machines.flatMap(machine => machine.addresses)
    const probers = this.#families.flatMap(family =>
      this.#machines.flatMap(machine => {
        const slices = machine.gateways.flatMap(gateway => gateway.slices)
        return probeAddress(slices, ofFamily(machine.addresses, family)[0], family) ?? []
      }),
    )
    return {
      encodingNetworks: [...encodingNetworks].sort(),
      carriers: sorted(['lo', ...(tun ? [tun] : []), ...vxlans, ...direct, ...ofCni]),
      underlay: sorted(devices.map(way => way.device)),
      nodes: sorted(addresses),
      probers: sorted(probers),
      inside: sorted([...podNetworks, ...serviceNetworks, ...encodingNetworks]),
      tunnelPort,
      uplinkPort,
    }
  }

  #strictFilters(): string[] {
    if (this.#wanted.mode !== 'direct' || this.#wanted.tun === undefined) return []
    return this.#machines.flatMap(machine => {
      const device = this.#directHop(machine, 4)?.device
      if (!device || !isStrictTowards(machine.podNetworks, device, this.#around)) return []
      return [
        `the reverse path filter of ${device} is strict, and where the way back to pods of node ${machine.nodeName} leads is not known: their packets may be dropped; set net.ipv4.conf.${device}.rp_filter to 2, or nodeNetwork to vxlan`,
      ]
    })
  }
}

/**
 * May a strict filter drop what pods of another node send to our TUN by this link? Where we know their networks, our own way back to them is by the same
 * link and the filter sees it; else the CNI's is, and with an overlay that is another. IPv6 has no such filter in the kernel.
 */
export function isStrictTowards(
  podNetworks: readonly string[],
  device: string,
  around: Pick<Surroundings, 'overlays' | 'strict'>,
): boolean {
  return around.strict.has(device) && around.overlays.length > 0 && ofFamily(podNetworks, 4).length === 0
}

function probeAddress(slices: readonly string[], node: string | undefined, family: IpFamily): string | undefined {
  const slice = ofFamily(slices, family)[0]
  return slice ? firstAddress(slice) : node
}

// IPv4 by the node's own IPv4 address where it has one: a host without IPv6 has no link-local addresses
function vxlanNextHop(machine: Machine, family: IpFamily, hardwareAddress: string): string {
  const own = family === 4 ? ofFamily(machine.addresses, 4)[0] : undefined
  return own ?? linkLocalOf(hardwareAddress)
}

function routeFields({ device, via, onLink, mtu }: Hop): Omit<RouteWanted, 'table' | 'destination'> {
  return { device, via, ...(onLink ? { onLink } : {}), ...(mtu === undefined ? {} : { mtu }) }
}

function sorted(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort()
}

function distinct(neighbours: readonly NeighbourWanted[]): NeighbourWanted[] {
  return [...new Map(neighbours.map(one => [`${one.device} ${one.address}`, one])).values()]
}
