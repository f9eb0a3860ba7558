/**
 * Who holds the uplink, as far as this gateway knows. Pure, but for the file that a restart goes on with.
 *
 *   the Lease, as last seen ──┐
 *   what its holder told us ──┼──► holder           the later claim counts; `leaseTransitions` says which is later
 *   the file ─────────────────┘
 *
 * A Lease that nobody renews still names its holder: with the API server away, the active gateway stays active (decisions.md 24). One that was given back
 * names nobody, and the last holder counts until another takes it: packets have to go somewhere.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import type { Lease } from '../../resources/kinds.ts'

export interface Claim {
  name: string
  transitions: number
}

interface Saved {
  holder?: Claim
  /** base64 */
  key?: string
}

export class UplinkState {
  readonly #file: string
  #saved: Saved = {}
  #text = ''
  /** of the Lease, when it was told otherwise */
  #told: Claim | undefined
  #seen: Claim | undefined

  constructor(file: string) {
    this.#file = file
    try {
      this.#text = readFileSync(file, 'utf8')
      this.#saved = checked(JSON.parse(this.#text))
    } catch {
      // none, or not what we write: the Lease and the Secret will say
    }
  }

  get holder(): Claim | undefined {
    const known = this.#seen ?? this.#saved.holder
    return this.#told && (!known || this.#told.transitions > known.transitions) ? this.#told : known
  }

  get key(): Uint8Array | undefined {
    return this.#saved.key === undefined ? undefined : Uint8Array.from(Buffer.from(this.#saved.key, 'base64'))
  }

  setKey(key: Uint8Array): void {
    this.#save({ ...this.#saved, key: Buffer.from(key).toString('base64') })
  }

  /** The Lease as it is; undefined: there is none. True: another gateway holds it now. */
  see(lease: Lease | undefined): boolean {
    const { holderIdentity, leaseTransitions } = lease?.spec ?? {}
    const before = this.holder?.name
    if (!lease) {
      this.#seen = undefined
      this.#told = undefined
    }
    if (!holderIdentity) return false
    const seen = { name: holderIdentity, transitions: leaseTransitions ?? 0 }
    // a watch that lags behind what we have read
    if (this.#seen && seen.transitions < this.#seen.transitions) return false
    // whatever was told, the Lease has moved since
    if (seen.name !== this.#seen?.name || seen.transitions !== this.#seen.transitions) this.#told = undefined
    this.#seen = seen
    return this.#changed(before)
  }

  /** Somebody who can know says it. True: another gateway holds it now. */
  tell(claim: Claim): boolean {
    const before = this.holder?.name
    if (!this.#told || claim.transitions > this.#told.transitions) this.#told = claim
    return this.#changed(before)
  }

  #changed(before: string | undefined): boolean {
    const { holder } = this
    if (holder) this.#save({ ...this.#saved, holder })
    return holder?.name !== before
  }

  #save(saved: Saved): void {
    this.#saved = saved
    const text = JSON.stringify(saved)
    if (text === this.#text) return
    try {
      writeFileSync(`${this.#file}.new`, text, { mode: 0o600 })
      renameSync(`${this.#file}.new`, this.#file)
      this.#text = text
    } catch {
      // a full disk: the store of mappings says so
    }
  }
}

function checked(value: unknown): Saved {
  const { holder, key } = value as Saved
  const isClaim = typeof holder?.name === 'string' && Number.isSafeInteger(holder.transitions)
  return {
    ...(isClaim ? { holder: { name: holder.name, transitions: holder.transitions } } : {}),
    ...(typeof key === 'string' ? { key } : {}),
  }
}
