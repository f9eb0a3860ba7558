/**
 * Which gateways are alive: each renews a Lease of its own (`ipref-gateway-<name>`); one that has not for `gatewayStaleTime` is not waited for, and carries
 * nobody's hosts. The time is that at which we saw the Lease change: what clocks of nodes say is never compared with ours.
 */
import type { IprefGateway, Lease } from '../../resources/kinds.ts'
import type { Change } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'

const PREFIX = 'ipref-gateway-'

export function leaseNameOf(gateway: string): string {
  return `${PREFIX}${gateway}`
}

export class Liveness {
  readonly #clock: Clock
  readonly #staleMs: () => number
  readonly #onChange: () => void
  /** by gateway */
  readonly #seen = new Map<string, { renewTime: string; at: number; cancel: () => void }>()

  /** `onChange`: the set of gateways that are alive is another. */
  constructor(clock: Clock, staleMs: () => number, onChange: () => void) {
    this.#clock = clock
    this.#staleMs = staleMs
    this.#onChange = onChange
  }

  change({ before, now }: Change<'Lease'>): void {
    const { name } = (now ?? before)!.metadata
    if (!name.startsWith(PREFIX)) return
    const gateway = name.slice(PREFIX.length)
    const wasAlive = this.isAlive(gateway)
    const known = this.#seen.get(gateway)
    if (!now) {
      known?.cancel()
      this.#seen.delete(gateway)
    } else if (known?.renewTime !== renewTimeOf(now)) {
      known?.cancel()
      this.#seen.set(gateway, this.#entry(now))
    }
    if (this.isAlive(gateway) !== wasAlive) this.#onChange()
  }

  // a moment after it becomes stale, whoever looks is told
  #entry(lease: Lease) {
    const cancel = this.#clock.after(this.#staleMs() + 1, () => this.#onChange())
    return { renewTime: renewTimeOf(lease), at: this.#clock.now(), cancel }
  }

  isAlive(gateway: string): boolean {
    const seen = this.#seen.get(gateway)
    return seen !== undefined && seen.renewTime !== '' && this.#clock.now() - seen.at <= this.#staleMs()
  }

  alive(gateways: Iterable<IprefGateway>): IprefGateway[] {
    return [...gateways].filter(gateway => this.isAlive(gateway.metadata.name))
  }

  stop(): void {
    for (const { cancel } of this.#seen.values()) cancel()
    this.#seen.clear()
  }
}

// a gateway that ends in order gives its Lease up
function renewTimeOf({ spec }: Lease): string {
  return spec?.holderIdentity ? (spec.renewTime ?? '') : ''
}
