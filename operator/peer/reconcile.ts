/**
 * The peer controller: IprefPeer ──► addresses of its gateway, encoded addresses of its hosts, what gateways saw of it.
 *
 * One write at most, of the status, with the resourceVersion of what was decided on. Nothing of a peer outlives it here: its mappings are the gateways',
 * its names the publisher's. What was written is remembered until the view has it, for what one peer may have depends on what the others have.
 */
import { isDeepStrictEqual } from 'node:util'
import type { IprefPeer, IprefPeerStatus } from '../../resources/kinds.ts'
import type { ResourceStore } from '../../resources/store.ts'
import { compareVersions } from '../../resources/view.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Events } from '../events.ts'
import { SurroundingsCache } from '../surroundings.ts'
import { gatherPeer, type PeerGatherPorts } from './gather.ts'
import { planPeer } from './plan.ts'
import { peerStatus } from './status.ts'

/** A peer that was heard of is looked at again, for it may have fallen silent. */
const LOOK_MS = 60_000

export interface PeerPorts extends Omit<PeerGatherPorts, 'surroundings'> {
  store: ResourceStore
  events: Events
  clock: Clock
}

export class PeerController {
  readonly #ports: PeerPorts
  readonly #surroundings: SurroundingsCache
  /** by name: as written last, and when */
  readonly #written = new Map<string, { object: IprefPeer; at: number }>()

  /** Before the cluster starts. */
  constructor(ports: PeerPorts) {
    this.#ports = ports
    this.#surroundings = new SurroundingsCache(ports.cluster)
  }

  readonly reconcile = async (name: string): Promise<{ againMs?: number } | undefined> => {
    const { names, store, clock, gateways } = this.#ports
    const peers = this.#peers()
    names.keep(new Set(peers.flatMap(peer => peer.spec.gateway.name ?? [])))
    const object = peers.find(peer => peer.metadata.name === name)
    if (!object || object.metadata.deletionTimestamp !== undefined) return undefined
    const plan = planPeer(gatherPeer(object, peers, { ...this.#ports, surroundings: this.#surroundings }))
    const now = clock.now()
    const sinceMs = now - (this.#written.get(name)?.at ?? Number.NEGATIVE_INFINITY)
    const status = peerStatus({ object, plan, gateways: gateways(), sinceMs, now })
    if (!isDeepStrictEqual(status, object.status)) {
      const written = await store.updateStatus('IprefPeer', { ...object, status })
      this.#written.set(name, { object: written, at: now })
      this.#tell(object, status)
    }
    return { againMs: LOOK_MS }
  }

  #peers(): IprefPeer[] {
    const peers = this.#ports.cluster.peers()
    const there = new Set(peers.map(({ metadata }) => metadata.name))
    for (const name of this.#written.keys()) if (!there.has(name)) this.#written.delete(name)
    return peers.map(peer => {
      const known = this.#written.get(peer.metadata.name)?.object
      return known && known.metadata.uid === peer.metadata.uid && isNewer(known, peer) ? known : peer
    })
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

function isNewer({ metadata: a }: IprefPeer, { metadata: b }: IprefPeer): boolean {
  return compareVersions(a.resourceVersion ?? '', b.resourceVersion ?? '') > 0
}
