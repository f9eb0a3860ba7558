/**
 * The mapper's store, seen by a standby too: what is saved here is sent there, and a promise of `save` is kept when both have it (decisions.md 24).
 *
 *   mapper ──save, remove──► store of this gateway
 *                        └──► replica: the active gateway's stream to its standby; none: the store alone
 */
import type { AddressWords } from '../../ipref/address.ts'
import type { MapperPorts } from '../mapper/mapper.ts'
import type { SavedMapping } from '../mapper/store.ts'

export interface Replica {
  /** Resolves when the standby has it, or when it is not waited for any longer; never rejects. */
  save(mapping: SavedMapping): Promise<void>
  saveLater(mapping: SavedMapping): void
  remove(kind: 'ours' | 'theirs', local: AddressWords): void
}

export class UplinkStore {
  readonly #store: MapperPorts['store']
  /** undefined: this gateway is not the active one */
  replica: Replica | undefined

  constructor(store: MapperPorts['store']) {
    this.#store = store
  }

  save(mapping: SavedMapping): Promise<void> {
    const here = this.#store.save(mapping)
    if (!this.replica) return here
    const there = this.replica.save(mapping)
    return here.then(() => there)
  }

  saveLater(mapping: SavedMapping): void {
    this.#store.saveLater(mapping)
    this.replica?.saveLater(mapping)
  }

  remove(kind: 'ours' | 'theirs', local: AddressWords): void {
    this.#store.remove(kind, local)
    this.replica?.remove(kind, local)
  }
}
