/**
 * What the active gateway found out about remote gateways, on its way to the standby. Pure.
 *
 *   Peers.known() ──► ToldPeers: what differs from what was said ──peers──► HeardPeers ──► Peers.adopt when the standby becomes active
 *
 * Only ports that were proved by a probe (decisions.md 6), and only of peers that are in use: a forged datagram changes nothing here. What changed is said
 * in rounds, each peer once: how often a port changes is up to others, how much is said of it is not. Several rounds' changes of one peer are one record.
 */
import type { AddressWords } from '../../ipref/address.ts'
import type { KnownPeer } from '../peers/peers.ts'
import { MOST_PEER_RECORDS, type PeerRecord } from './uplinkProtocol.ts'

/** As many as a gateway can have (`-max-remote-gateways`). */
export const MOST_PEERS = 65_536

const keyOf = (address: AddressWords) => address.join()

/** The active gateway's side of one connection. */
export class ToldPeers {
  #told: ReadonlyMap<string, KnownPeer> = new Map<string, KnownPeer>()

  /** What is to be said, in portions of one frame each; the first time everything. */
  changes(known: Iterable<KnownPeer>): PeerRecord[][] {
    const before = this.#told
    const now = new Map<string, KnownPeer>()
    const records: PeerRecord[] = []
    for (const peer of known) {
      const key = keyOf(peer.address)
      const told = before.get(key)
      if (told?.port !== peer.port || told.mtu !== peer.mtu) records.push({ do: 'know', ...peer })
      now.set(key, peer)
    }
    for (const [key, { address }] of before) if (!now.has(key)) records.push({ do: 'forget', address, port: 0, mtu: 0 })
    this.#told = now
    return inPortions(records)
  }
}

/** The standby's side, over connections. */
export class HeardPeers {
  readonly #heard = new Map<string, KnownPeer>()
  /** said since a snapshot began; undefined: none is under way */
  #seen: Set<string> | undefined

  get size(): number {
    return this.#heard.size
  }

  beginSnapshot(): void {
    this.#seen = new Set()
  }

  /** What was not said since it began is gone. */
  endSnapshot(): void {
    for (const key of [...this.#heard.keys()]) if (this.#seen && !this.#seen.has(key)) this.#heard.delete(key)
    this.#seen = undefined
  }

  take({ do: verb, address, port, mtu }: PeerRecord): void {
    const key = keyOf(address)
    if (verb === 'forget') {
      this.#heard.delete(key)
      this.#seen?.delete(key)
    } else if (this.#heard.has(key) || this.#heard.size < MOST_PEERS) {
      this.#heard.set(key, { address, port, mtu })
      this.#seen?.add(key)
    }
  }

  portions(): PeerRecord[][] {
    return inPortions([...this.#heard.values()].map(peer => ({ do: 'know', ...peer })))
  }

  /** Everything, once: whoever goes on with it finds out more. */
  handOver(): KnownPeer[] {
    const all = [...this.#heard.values()]
    this.clear()
    return all
  }

  clear(): void {
    this.#heard.clear()
    this.#seen = undefined
  }
}

function inPortions(records: readonly PeerRecord[]): PeerRecord[][] {
  const count = Math.ceil(records.length / MOST_PEER_RECORDS)
  return Array.from({ length: count }, (_, i) => records.slice(i * MOST_PEER_RECORDS, (i + 1) * MOST_PEER_RECORDS))
}
