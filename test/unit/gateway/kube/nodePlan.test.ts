import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { desire } from '../../../../gateway/kube/nodeDesired.ts'
import {
  type Change,
  type Current,
  type DesiredKernel,
  describeChange,
  NOTHING_WANTED,
  planNode,
} from '../../../../gateway/kube/nodePlan.ts'
import type { NeighbourWanted, RouteWanted } from '../../../../gateway/kube/nodeTypes.ts'
import { around, wanted, wantedWithoutGateway } from './nodeBuilders.ts'

const EMPTY: Current = {
  links: [],
  takenNames: [],
  addresses: [],
  neighbours: [],
  forwarding: [],
  routes: [],
  rules: [],
  foreign: new Map(),
}

/** The kernel as it is when everything wanted is in force. */
const inForce = (desired: DesiredKernel): Current => ({
  ...EMPTY,
  ...desired,
  links: desired.links.map(link => ({ ...link, isUp: true, isLoose: true })),
})

const verbs = (desired: DesiredKernel, current: Current) => planNode(desired, current).changes.map(describeChange)

/** A small model of what the kernel does with each change. */
function carryOut(current: Current, change: Change): Current {
  const on = (device: string) => (one: { device?: string }) => one.device !== device
  const sameEntry = (a: NeighbourWanted) => (b: NeighbourWanted) => a.device === b.device && a.address === b.address
  const samePlace = (a: RouteWanted) => (b: RouteWanted) => a.table === b.table && a.destination === b.destination
  switch (change.do) {
    case 'add-link':
      return { ...current, links: [...current.links, { ...change.link, isUp: false, isLoose: false }] }
    case 'set-link': {
      const set = { mtu: change.mtu, isUp: true, isLoose: true }
      return { ...current, links: current.links.map(link => (link.name === change.name ? { ...link, ...set } : link)) }
    }
    case 'remove-link': {
      const { name } = change
      return {
        ...current,
        links: current.links.filter(link => link.name !== name),
        addresses: current.addresses.filter(on(name)),
        neighbours: current.neighbours.filter(on(name)),
        forwarding: current.forwarding.filter(on(name)),
        routes: current.routes.filter(on(name)),
      }
    }
    case 'add-address':
      return { ...current, addresses: [...current.addresses, { device: change.device, address: change.address }] }
    case 'remove-address':
      return {
        ...current,
        addresses: current.addresses.filter(one => one.device !== change.device || one.address !== change.address),
      }
    case 'set-neighbour':
    case 'remove-neighbour': {
      const rest = current.neighbours.filter(one => !sameEntry(change.neighbour)(one))
      return { ...current, neighbours: change.do === 'set-neighbour' ? [...rest, change.neighbour] : rest }
    }
    case 'set-forwarding':
    case 'remove-forwarding': {
      const { device, hardwareAddress } = change.neighbour
      const rest = current.forwarding.filter(one => one.device !== device || one.hardwareAddress !== hardwareAddress)
      return { ...current, forwarding: change.do === 'set-forwarding' ? [...rest, change.neighbour] : rest }
    }
    case 'set-route':
    case 'remove-route': {
      const rest = current.routes.filter(one => !samePlace(change.route)(one))
      return { ...current, routes: change.do === 'set-route' ? [...rest, change.route] : rest }
    }
    case 'add-rule':
      return { ...current, rules: [...current.rules, change.rule] }
    case 'remove-rule':
      return {
        ...current,
        rules: current.rules.filter(one => one.family !== change.rule.family || one.incoming !== change.rule.incoming),
      }
  }
}

describe('changes', () => {
  const all = desire(wanted(), around())

  it('begin with links and end with rules', () => {
    expect(planNode(all, EMPTY).changes.map(change => change.do)).toEqual([
      'add-link',
      'set-link',
      ...['add-address', 'add-address'],
      ...['set-forwarding', 'set-forwarding'],
      ...['set-neighbour', 'set-neighbour'],
      ...new Array(6).fill('set-route'),
      'add-rule',
    ])
  })

  it('are none when all is in force', () => {
    expect(planNode(all, inForce(all))).toEqual({ changes: [], problems: [] })
  })

  it('a route that moves is set in one step', () => {
    const direct = desire(wanted(), around({ proved: new Set(['n2 IPv4']) }))
    expect(verbs(direct, inForce(all))).toEqual([
      'set-route 10.178.0.0/18 via 172.18.0.2 dev eth0',
      'set-route 10.244.2.0/24 via 172.18.0.2 dev eth0 table return',
      'remove-route 172.18.0.2/32 via 172.18.0.2 dev ipref-vx table return',
    ])
  })

  it.each([
    ['is down', { isUp: false }, ['set-link ipref-vx mtu 1450']],
    ['has another MTU', { mtu: 1400 }, ['set-link ipref-vx mtu 1450']],
    ['has a strict filter', { isLoose: false }, ['set-link ipref-vx mtu 1450']],
  ])('a link that %s is set right', (_name, damage, expected) => {
    const current = inForce(all)
    expect(verbs(all, { ...current, links: current.links.map(link => ({ ...link, ...damage })) })).toEqual(expected)
  })

  it('a link with another local address is made anew, with all that was on it', () => {
    const current = inForce(all)
    const links = current.links.map(link => ({ ...link, local: '172.18.0.77' }))
    const changes = planNode(all, { ...current, links }).changes
    expect(changes.slice(0, 3).map(change => change.do)).toEqual(['remove-link', 'add-link', 'set-link'])
    expect(changes.filter(change => change.do === 'set-neighbour')).toHaveLength(2)
    expect(changes.filter(change => change.do === 'set-route')).toHaveLength(5)
  })

  it('nothing wanted: rules and routes go before the link', () => {
    const done = planNode(NOTHING_WANTED, inForce(all)).changes.map(change => change.do)
    expect(done).toEqual(['remove-rule', 'remove-route', 'remove-link'])
  })

  it('a name that somebody else has is left to them, and named', () => {
    const { changes, problems } = planNode(all, { ...EMPTY, takenNames: ['ipref-vx'] })
    expect(changes.map(describeChange)).toEqual([
      'set-route 10.178.0.0/32 via 172.18.0.2 dev eth0',
      'add-rule IPv4 from ipref0',
    ])
    expect(problems).toEqual([expect.stringMatching(/^a device called ipref-vx is there/)])
  })

  it("somebody else's route to a slice is named, and stays", () => {
    const foreign = new Map([['10.178.0.0/18', 'dev eth1 proto 3']])
    const { changes, problems } = planNode(all, { ...inForce(all), foreign })
    expect(changes).toEqual([])
    expect(problems).toEqual([expect.stringMatching(/10\.178\.0\.0\/18 that is not ours \(dev eth1 proto 3\)/)])
  })

  it('lead from any of these states to any other, and then there are none', () => {
    const states = [
      NOTHING_WANTED,
      all,
      desire(wanted({ mode: 'vxlan' }), around()),
      desire(wanted({ mode: 'direct', nodes: [] }), around()),
      desire(wanted({ active: 'g2' }), around({ proved: new Set(['n2 IPv4']) })),
      desire(wantedWithoutGateway(), around()),
      desire(wanted({ tun: 'ipref7', gateways: [] }), around()),
    ]
    const state = fc.constantFrom(...states)
    fc.assert(
      fc.property(fc.array(state, { minLength: 1, maxLength: 5 }), path => {
        let kernel = EMPTY
        for (const desired of path) {
          for (const change of planNode(desired, kernel).changes) kernel = carryOut(kernel, change)
          expect(verbs(desired, kernel)).toEqual([])
        }
      }),
    )
  })
})
