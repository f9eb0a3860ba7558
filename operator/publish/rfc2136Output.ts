/**
 * Output: a DNS server that takes dynamic updates (RFC 2136), in a zone that others may write too.
 *
 *   full look ──► known names ──► plan (updatePlan.ts) ──► messages ──► known names, as they are now
 *      ▲                              ▲                       └─ a prerequisite does not hold: that name is looked at again, once
 *      └─ at first; in doubt; when the serial of the zone is another than after the last look
 *
 * Between full looks only what changes here is sent; the prerequisites see to it that what is not as we know it is left alone.
 */
import { Rcode, Type } from '../../dns/constants.ts'
import { decodeSoa, rcodeOf } from '../../dns/message.ts'
import { type Name, parseName } from '../../dns/name.ts'
import { queryServer } from '../../dns/query.ts'
import type { TsigKey } from '../../dns/tsig.ts'
import type { Rfc2136Config } from '../../resources/config.ts'
import type { ResourceStore } from '../../resources/store.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Desired, DesiredZone, OwnedSet } from './desired.ts'
import { type Server, serverOf, showServer } from './endpoints.ts'
import { readKey } from './keys.ts'
import { type Applied, NO_CONFLICTS, type Output } from './output.ts'
import type { ZoneKind } from './records.ts'
import { sendUnits } from './updateMessage.ts'
import { type NameState, planUpdates, type UpdateUnit } from './updatePlan.ts'
import { type LookTarget, lookByName, lookByTransfer } from './zoneLook.ts'

export interface Rfc2136Ports {
  store: ResourceStore
  clock: Clock
  log: { info(fields: object, text: string): void; warn(fields: object, text: string): void }
  namespace: string
}

const ROUNDS = 3
const PATIENCE_MS = 10_000
/** a server that refuses transfers is not asked for one again before */
const TRANSFER_AGAIN_MS = 600_000
/** intervals of looking, after which others' changes are looked for while ours go on */
const LONGEST_TRUST = 10

export class Rfc2136Output implements Output {
  readonly name: string
  readonly zones: readonly ZoneKind[]
  readonly lookEveryMs: number
  readonly #config: Rfc2136Config
  readonly #kind: ZoneKind
  readonly #server: Server
  readonly #ports: Rfc2136Ports
  /** what is at our names there; undefined: to be looked at */
  #known: Map<string, NameState> | undefined
  #serial: number | undefined
  #lookedAt = 0
  #lastVersion = 0
  #refusedTransferAt: number | undefined

  constructor(config: Rfc2136Config, kind: ZoneKind, zone: string, lookEveryMs: number, ports: Rfc2136Ports) {
    this.#config = config
    this.#kind = kind
    this.#server = serverOf(config.server)
    this.#ports = ports
    this.name = `rfc2136 ${showServer(this.#server)} ${zone}`
    this.zones = [kind]
    this.lookEveryMs = lookEveryMs
  }

  doubt(): void {
    this.#known = undefined
  }

  servers(): readonly Server[] {
    return [this.#server]
  }

  async apply(desired: Desired): Promise<Applied> {
    const zone = desired.zones.get(this.#kind)
    if (!zone) return NO_CONFLICTS
    const key = await readKey(this.#config, this.#ports.store, this.#ports.namespace)
    const origin = parseName(zone.zone)!
    const wanted = byName(zone)
    const target: LookTarget = { server: this.#server, zone: origin, kind: this.#kind, key }
    if (this.#known && this.#isTimeToLook(desired) && (await this.#serialNow(origin)) !== this.#serial) this.doubt()
    this.#known ??= await this.#look(target, zone, wanted)
    await this.#lookAtFormer(target, zone, this.#known)
    try {
      const conflicts = await this.#bringInOrder(target, wanted, this.#known)
      this.#lastVersion = desired.version
      return { conflicts: new Map([...conflicts].map(([name, why]) => [`${this.#kind} ${name}`, why])) }
    } catch (error) {
      // what of the last message is in force is not known
      this.#known = undefined
      throw error
    }
  }

  // a change of ours is sent at once; what others did is looked for when there is none, and now and then all the same
  #isTimeToLook({ version }: Desired): boolean {
    const sinceMs = this.#ports.clock.now() - this.#lookedAt
    return version === this.#lastVersion || sinceMs >= LONGEST_TRUST * this.lookEveryMs
  }

  /** A transfer has shown every mark; without one, names are known that were wanted. */
  async #lookAtFormer(target: LookTarget, { former }: DesiredZone, known: Map<string, NameState>): Promise<void> {
    if (this.#refusedTransferAt === undefined) return
    const unseen = [...former].filter(name => !known.has(name))
    for (const [name, state] of await lookByName(target, unseen)) known.set(name, state)
  }

  async #bringInOrder(
    target: LookTarget,
    wanted: ReadonlyMap<string, readonly OwnedSet[]>,
    known: Map<string, NameState>,
  ): Promise<Map<string, string>> {
    const counts = { claim: 0, change: 0, release: 0 }
    const done = (unit: UpdateUnit) => {
      known.set(unit.name, unit.after)
      counts[unit.do]++
    }
    let refused: UpdateUnit[] = []
    for (let round = 0; ; round++) {
      const { units, conflicts } = planUpdates({ kind: this.#kind, owner: this.#config.owner, current: known, wanted })
      if (units.length === 0 || round >= ROUNDS) {
        if (round > 0) this.#ports.log.info({ output: this.name, ...counts }, 'names changed')
        if (units.length > 0) for (const { name } of refused) conflicts.set(name, `${name} changes there all the time`)
        return conflicts
      }
      // after it the serial is another, by us
      this.#serial = undefined
      refused = await sendUnits(this.#updateTarget(target), units, done)
      const seen = await lookByName(
        target,
        refused.map(({ name }) => name),
      )
      for (const [name, state] of seen) known.set(name, state)
    }
  }

  #updateTarget({ server, zone, key }: { server: Server; zone: Name; key: TsigKey | undefined }) {
    return { server, zone, key, now: () => this.#ports.clock.now() / 1000, patienceMs: PATIENCE_MS }
  }

  async #look(
    target: LookTarget,
    zone: DesiredZone,
    wanted: ReadonlyMap<string, readonly OwnedSet[]>,
  ): Promise<Map<string, NameState>> {
    const now = this.#ports.clock.now()
    this.#lookedAt = now
    const isRefused = this.#refusedTransferAt !== undefined && now - this.#refusedTransferAt < TRANSFER_AGAIN_MS
    if (!isRefused) {
      try {
        const { names, serial } = await lookByTransfer(target, name => wanted.has(name))
        this.#serial = serial
        this.#refusedTransferAt = undefined
        return names
      } catch (error) {
        this.#refusedTransferAt = now
        this.#ports.log.warn(
          { output: this.name, problem: (error as Error).message },
          'the zone cannot be transferred: names are asked for one by one, and records left from before may be missed',
        )
      }
    }
    this.#serial = await this.#serialNow(target.zone)
    return lookByName(target, [...new Set([...wanted.keys(), ...zone.former])])
  }

  /** undefined: it does not say. Rejects when it does not answer. */
  async #serialNow(zone: Name): Promise<number | undefined> {
    const answer = await queryServer(this.#server, { name: zone, type: Type.SOA })
    if (!answer) throw new Error(`${showServer(this.#server)} does not answer`)
    if (rcodeOf(answer) !== Rcode.NOERROR) return undefined
    const soa = answer.answers.find(({ type }) => type === Type.SOA)
    return soa && decodeSoa(soa.data).serial
  }

  async stop(): Promise<void> {}
}

function byName({ sets }: DesiredZone): Map<string, OwnedSet[]> {
  const names = new Map<string, OwnedSet[]>()
  for (const set of sets.values()) {
    const known = names.get(set.name)
    if (known) known.push(set)
    else names.set(set.name, [set])
  }
  return names
}
