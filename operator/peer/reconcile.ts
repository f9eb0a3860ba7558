/**
 * The peer controller: IprefPeer ──► addresses of its gateway, encoded addresses of its hosts, what gateways saw of it.
 *
 * One write at most, of the status, with the resourceVersion of what was decided on. Nothing of a peer outlives it here: its mappings are the gateways',
 * its names the publisher's.
 */
import { isDeepStrictEqual } from 'node:util'
import { formatAddress, parseAddress } from '../../ipref/address.ts'
import type { IprefGateway, IprefPeer, IprefPeerStatus } from '../../resources/kinds.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Cluster } from '../cluster.ts'
import type { Events } from '../events.ts'
import { planPeer } from './plan.ts'
import type { Resolved, ResolvedNames } from './resolved.ts'
import { peerStatus } from './status.ts'

/** A peer that was heard of is looked at again, for it may have fallen silent. */
const LOOK_MS = 60_000

export interface PeerPorts {
  store: ResourceStore
  cluster: Cluster
  names: ResolvedNames
  /** gateways that are alive */
  gateways(): readonly IprefGateway[]
  publicAddresses(gateway: IprefGateway): readonly string[]
  events: Events
  clock: Clock
}

export class PeerController {
  readonly #ports: PeerPorts

  constructor(ports: PeerPorts) {
    this.#ports = ports
  }

  readonly reconcile = async (name: string): Promise<{ againMs?: number } | undefined> => {
    const { cluster, names, store, clock, gateways, publicAddresses } = this.#ports
    const peers = cluster.peers()
    names.keep(new Set(peers.flatMap(peer => peer.spec.gateway.name ?? [])))
    const object = peers.find(peer => peer.metadata.name === name)
    if (!object || object.metadata.deletionTimestamp !== undefined) return undefined
    const { addresses, problem } = this.#addresses(object)
    const alive = gateways()
    const plan = planPeer({
      object,
      config: cluster.config,
      others: peers.filter(peer => peer !== object && peer.metadata.deletionTimestamp === undefined),
      own: cluster.gateways().flatMap(gateway => publicAddresses(gateway)),
      addresses,
      unresolved: problem,
      gateways: alive,
    })
    const status = peerStatus({ object, plan, addresses, gateways: alive, now: clock.now() })
    if (!isDeepStrictEqual(status, object.status)) {
      await store.updateStatus('IprefPeer', { ...object, status })
      this.#tell(object, status)
    }
    return { againMs: LOOK_MS }
  }

  #addresses({ spec, status }: IprefPeer): Resolved {
    const { name, address } = spec.gateway
    if (name !== undefined) return this.#ports.names.get(name, status?.addresses ?? [])
    const bytes = parseAddress(address ?? '')
    return { addresses: bytes ? [formatAddress(bytes)] : [] }
  }

  #tell(object: IprefPeer, status: IprefPeerStatus): void {
    const ready = (of: IprefPeerStatus | undefined) => of?.conditions?.find(condition => condition.type === 'Ready')
    const [before, now] = [ready(object.status), ready(status)]
    if (!now || (before?.status === now.status && before.reason === now.reason)) return
    const { events } = this.#ports
    if (now.status === 'True')
      events.say(object, 'Normal', 'Ready', `reached at ${status.addresses?.join(', ') ?? '?'}`)
    else if (now.status === 'False') events.say(object, 'Warning', now.reason, now.message)
  }
}
