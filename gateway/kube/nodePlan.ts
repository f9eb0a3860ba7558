/**
 * From what is in the kernel to what should be: changes in the order in which they are safe. Pure; each change is a value with a verb, so logs and tests say the same.
 *
 *   links ─ addresses ─ who lives where ─ routes ─ rules ─── then what is not wanted any more, backwards
 *
 * Only what bears one of our marks (nodeMarks.ts) is in `Current`, so nothing of others can be changed by what comes out here.
 */
import type { Desired, LinkWanted, NeighbourWanted, RouteWanted, RuleWanted } from './nodeTypes.ts'

export interface CurrentLink extends LinkWanted {
  isUp: boolean
  /** its reverse path filter is loose */
  isLoose: boolean
}

export interface Current {
  links: readonly CurrentLink[]
  /** names of ours that links of another kind have */
  takenNames: readonly string[]
  addresses: Desired['addresses']
  neighbours: readonly NeighbourWanted[]
  forwarding: readonly NeighbourWanted[]
  routes: readonly RouteWanted[]
  rules: readonly RuleWanted[]
  /** routes of others in the main table, by destination → who made them */
  foreign: ReadonlyMap<string, string>
}

export type Change =
  | { do: 'add-link'; link: LinkWanted }
  | { do: 'set-link'; name: string; mtu: number }
  | { do: 'remove-link'; name: string }
  | { do: 'add-address' | 'remove-address'; device: string; address: string }
  | { do: 'set-neighbour' | 'remove-neighbour' | 'set-forwarding' | 'remove-forwarding'; neighbour: NeighbourWanted }
  | { do: 'set-route' | 'remove-route'; route: RouteWanted }
  | { do: 'add-rule' | 'remove-rule'; rule: RuleWanted }

export type DesiredKernel = Pick<Desired, 'links' | 'addresses' | 'neighbours' | 'forwarding' | 'routes' | 'rules'>

export const NOTHING_WANTED: DesiredKernel = {
  links: [],
  addresses: [],
  neighbours: [],
  forwarding: [],
  routes: [],
  rules: [],
}

export function planNode(desired: DesiredKernel, current: Current): { changes: Change[]; problems: string[] } {
  const problems = desired.links
    .filter(link => current.takenNames.includes(link.name))
    .map(link => `a device called ${link.name} is there, and it is not ours; rename it, or set nodeNetwork to direct`)
  const links = desired.links.filter(link => !current.takenNames.includes(link.name))
  const fresh = links.filter(link => !current.links.some(one => isSameLink(one, link)))
  const gone = current.links.filter(one => !links.some(link => isSameLink(one, link)))
  // what was on a link that goes, goes with it
  const isKept = ({ device }: { device?: string }) => !gone.some(link => link.name === device)
  const isPossible = ({ device }: { device?: string }) => device === undefined || !current.takenNames.includes(device)
  const addresses = difference(desired.addresses.filter(isPossible), current.addresses.filter(isKept))
  const neighbours = difference(desired.neighbours.filter(isPossible), current.neighbours.filter(isKept))
  const forwarding = difference(desired.forwarding.filter(isPossible), current.forwarding.filter(isKept))
  const routes = routeChanges(distinctRoutes(desired.routes.filter(isPossible)), current.routes.filter(isKept))
  const rules = difference(desired.rules, current.rules)
  for (const { table, destination } of desired.routes) {
    const maker = table === 'main' ? current.foreign.get(destination) : undefined
    if (maker) problems.push(`a route to ${destination} that is not ours (${maker}) is there; it goes before ours`)
  }
  const changes: Change[] = [
    ...gone.filter(one => links.some(link => link.name === one.name)).map(removeLink),
    ...fresh.map(link => ({ do: 'add-link' as const, link })),
    ...links
      .filter(link => needsSetting(link, current, fresh))
      .map(({ name, mtu }) => ({ do: 'set-link' as const, name, mtu })),
    ...addresses.missing.map(address => ({ do: 'add-address' as const, ...address })),
    ...forwarding.missing.map(neighbour => ({ do: 'set-forwarding' as const, neighbour })),
    ...neighbours.missing.map(neighbour => ({ do: 'set-neighbour' as const, neighbour })),
    ...routes.set.map(route => ({ do: 'set-route' as const, route })),
    ...rules.missing.map(rule => ({ do: 'add-rule' as const, rule })),
    ...rules.extra.map(rule => ({ do: 'remove-rule' as const, rule })),
    ...routes.remove.map(route => ({ do: 'remove-route' as const, route })),
    ...neighbours.extra
      .filter(isStale(neighbours.missing))
      .map(neighbour => ({ do: 'remove-neighbour' as const, neighbour })),
    ...forwarding.extra
      .filter(isStaleEntry(forwarding.missing))
      .map(neighbour => ({ do: 'remove-forwarding' as const, neighbour })),
    ...addresses.extra.map(address => ({ do: 'remove-address' as const, ...address })),
    ...gone.filter(one => !links.some(link => link.name === one.name)).map(removeLink),
  ]
  return { changes, problems: [...new Set(problems)] }
}

function removeLink({ name }: LinkWanted): Change {
  return { do: 'remove-link', name }
}

// name, local address and hardware address cannot be changed without harm to what uses the link
function isSameLink(one: LinkWanted, other: LinkWanted): boolean {
  return one.name === other.name && one.local === other.local && one.hardwareAddress === other.hardwareAddress
}

function needsSetting(link: LinkWanted, current: Current, fresh: readonly LinkWanted[]): boolean {
  if (fresh.includes(link)) return true
  const found = current.links.find(one => one.name === link.name)
  return !found || found.mtu !== link.mtu || !found.isUp || !found.isLoose
}

/** A new entry with the same address has taken the old one's place already. */
function isStale(set: readonly NeighbourWanted[]): (one: NeighbourWanted) => boolean {
  return one => !set.some(other => other.device === one.device && other.address === one.address)
}

// forwarding entries are known by their hardware address; a second destination would be a copy
function isStaleEntry(set: readonly NeighbourWanted[]): (one: NeighbourWanted) => boolean {
  return one => !set.some(other => other.device === one.device && other.hardwareAddress === one.hardwareAddress)
}

function difference<T extends object>(wanted: readonly T[], found: readonly T[]): { missing: T[]; extra: T[] } {
  const [has, wants] = [new Set(found.map(keyOf)), new Set(wanted.map(keyOf))]
  return {
    missing: wanted.filter(one => !has.has(keyOf(one))),
    extra: found.filter(one => !wants.has(keyOf(one))),
  }
}

function keyOf(value: object): string {
  return JSON.stringify(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}

const placeOf = (route: RouteWanted) => `${route.table} ${route.destination}`

function distinctRoutes(routes: readonly RouteWanted[]): RouteWanted[] {
  const first = new Map<string, RouteWanted>()
  for (const route of routes) if (!first.has(placeOf(route))) first.set(placeOf(route), route)
  return [...first.values()]
}

/** A route that only changes is set in one step: there is no moment without one. */
function routeChanges(
  wanted: readonly RouteWanted[],
  found: readonly RouteWanted[],
): { set: RouteWanted[]; remove: RouteWanted[] } {
  const { missing, extra } = difference(wanted, found)
  const replaced = new Set(missing.map(placeOf))
  return { set: missing, remove: extra.filter(route => !replaced.has(placeOf(route))) }
}

/** One line for a log. */
export function describeChange(change: Change): string {
  switch (change.do) {
    case 'add-link':
      return `add-link ${change.link.name} from ${change.link.local}`
    case 'set-link':
      return `set-link ${change.name} mtu ${change.mtu}`
    case 'remove-link':
      return `remove-link ${change.name}`
    case 'add-address':
    case 'remove-address':
      return `${change.do} ${change.address} on ${change.device}`
    case 'set-neighbour':
    case 'remove-neighbour':
    case 'set-forwarding':
    case 'remove-forwarding': {
      const { device, address, hardwareAddress } = change.neighbour
      return `${change.do} ${address} ${hardwareAddress} on ${device}`
    }
    case 'set-route':
    case 'remove-route': {
      const { table, destination, device, via } = change.route
      const way = device ? `${via ? ` via ${via}` : ''} dev ${device}` : ' unreachable'
      return `${change.do} ${destination}${way}${table === 'main' ? '' : ` table ${table}`}`
    }
    case 'add-rule':
    case 'remove-rule':
      return `${change.do} IPv${change.rule.family} from ${change.rule.incoming}`
  }
}
