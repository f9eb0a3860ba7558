/**
 * Random histories of pods: they come, go, are unready for a while, take over each other's addresses; time passes; the operator ends between any two of its
 * writes. After each pass it is checked what must hold of slots and references.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { planService } from '../../../../operator/service/plan.ts'
import { LAST_HOLDER, lastHolderText } from '../../../../operator/service/slots.ts'
import type { WantedAddress } from '../../../../operator/service/targets.ts'
import { nameOfClaim, referenceOf } from '../../../../resources/claims.ts'
import {
  API_VERSION,
  type IprefReference,
  type IprefService,
  type ServiceMapping,
} from '../../../../resources/kinds.ts'
import { timestamp } from '../../../../runtime/clock.ts'
import { iprefService } from '../../../support/operatorObjects.ts'

const TTL_S = 60
const PODS = 6
const ADDRESSES = 5

type Step =
  | { do: 'come'; pod: number; address: number; isMember: boolean; isDual: boolean }
  | { do: 'go'; pod: number }
  | { do: 'flip'; pod: number }
  | { do: 'pass'; writes: number }
  | { do: 'wait'; seconds: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('come' as const),
      pod: fc.nat(PODS - 1),
      address: fc.nat(ADDRESSES - 1),
      isMember: fc.boolean(),
      isDual: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('go' as const), pod: fc.nat(PODS - 1) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('flip' as const), pod: fc.nat(PODS - 1) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('pass' as const), writes: fc.oneof(fc.constant(99), fc.nat(4)) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.nat(4 * TTL_S) }) },
)

interface PodState {
  uid: string
  member: string | undefined
  ordinal: number
  addresses: string[]
  isReady: boolean
}

class History {
  now = Date.UTC(2030, 0, 1)
  object: IprefService = iprefService({ ttlSeconds: TTL_S })
  claims = new Map<string, IprefReference>()
  readonly #pods = new Map<number, PodState>()
  #nextReference = 0x10000n
  #nextUid = 0
  /** by reference: who was mapped with it last, and until when */
  readonly #lastMapped = new Map<string, { holder: string; until: number }>()

  take(one: Step): void {
    if (one.do === 'come') this.#come(one)
    else if (one.do === 'go') this.#pods.delete(one.pod)
    else if (one.do === 'wait') this.now += one.seconds * 1000
    else if (one.do === 'pass') this.pass(one.writes)
    else {
      const pod = this.#pods.get(one.pod)
      if (pod) pod.isReady = !pod.isReady
    }
  }

  #come({ pod, address, isMember, isDual }: Step & { do: 'come' }): void {
    const addresses = [`10.0.0.${address + 1}`, ...(isDual ? [`fd00::${address + 1}`] : [])]
    // whoever had the address is gone
    for (const [other, { addresses: theirs }] of this.#pods) if (theirs[0] === addresses[0]) this.#pods.delete(other)
    const member = isMember ? `web-${pod}` : undefined
    this.#pods.set(pod, { uid: `uid-${this.#nextUid++}`, member, ordinal: pod, addresses, isReady: true })
  }

  #wanted(): WantedAddress[] {
    return [...this.#pods.values()].flatMap(({ uid, member, ordinal, addresses, isReady }) =>
      isReady
        ? addresses.map(address => ({
            ...{ holder: uid, address, family: address.includes(':') ? ('IPv6' as const) : ('IPv4' as const) },
            ...(member === undefined ? {} : { member, ordinal }),
          }))
        : [],
    )
  }

  /** `writes`: after so many the operator ends. */
  pass(writes: number): void {
    const before = this.object.status?.mappings ?? []
    const wanted = this.#wanted()
    const plan = planService({
      object: this.object,
      names: { internal: 'web.shop.in.example.com' },
      targets: wanted.length > 0 ? { wanted } : { type: 'Resolved', reason: 'NoReadyEndpoints', message: '' },
      families: new Set(['IPv4', 'IPv6']),
      own: [...this.claims.values()],
      mappedAt: () => [],
      addressesOf: () => [],
      ownerOfName: () => undefined,
      askerOf: () => undefined,
      holderOf: () => undefined,
      holdMs: 86_400_000,
      now: this.now,
    })
    const references: string[] = []
    for (const [i, change] of plan.changes.entries()) {
      if (i >= writes) return
      references.push(this.#apply(change))
    }
    if (plan.changes.length >= writes) return
    const mappings: ServiceMapping[] = plan.mappings.map(({ reference, ...more }) => ({
      ...more,
      reference: typeof reference === 'string' ? reference : references[reference.claim]!,
    }))
    this.object = { ...this.object, status: { observedGeneration: 1, mappings } }
    this.#check(before, mappings, wanted)
  }

  #apply(change: ReturnType<typeof planService>['changes'][number]): string {
    const { uid } = this.object.metadata
    if (change.do === 'claim') {
      const name = nameOfClaim(this.#nextReference++)
      const spec = { namespace: 'shop', name: 'web', uid: uid!, slot: change.slot, family: change.family }
      this.claims.set(name, { apiVersion: API_VERSION, kind: 'IprefReference', metadata: { name }, spec })
      return referenceOf(this.claims.get(name)!)
    }
    const { metadata } = change.claim
    const { releasedAt: _dropped, ...spec } = change.claim.spec
    const put = (object: IprefReference) => this.claims.set(metadata.name, object)
    if (change.do === 'forget') this.claims.delete(metadata.name)
    else if (change.do === 'adopt')
      put({ ...change.claim, spec: { ...spec, uid: uid!, slot: change.slot, family: change.family } })
    else {
      const releasedAt = timestamp(this.now)
      const text = change.holder === undefined ? undefined : lastHolderText(change.holder, releasedAt)
      const annotations = text === undefined ? metadata.annotations : { [LAST_HOLDER]: text }
      put({
        ...change.claim,
        metadata: { ...metadata, ...(annotations ? { annotations } : {}) },
        spec: { ...spec, releasedAt },
      })
    }
    return referenceOf(change.claim)
  }

  #check(before: readonly ServiceMapping[], now: readonly ServiceMapping[], wanted: readonly WantedAddress[]): void {
    // each address that is wanted is mapped, in a slot that no other holder has, with a reference of its own
    expect(now.map(({ address }) => address).sort()).toEqual(wanted.map(({ address }) => address).sort())
    const holderOf = new Map(wanted.map(({ address, holder }) => [address, holder]))
    const bySlot = new Map<number, string>()
    for (const { slot, address } of now) {
      const holder = holderOf.get(address)!
      expect(bySlot.get(slot) ?? holder).toBe(holder)
      bySlot.set(slot, holder)
    }
    expect(new Set([...bySlot.values()]).size).toBe(bySlot.size)
    expect(new Set(now.map(({ reference }) => reference)).size).toBe(now.length)
    // who stays keeps slot and reference
    for (const mapping of before) {
      const same = now.find(({ address, member }) => address === mapping.address && member === mapping.member)
      if (same && now.filter(({ slot }) => slot === same.slot).length === 1) expect(same).toEqual(mapping)
    }
    // what was mapped was in force until now
    for (const { reference, address, member } of before)
      this.#lastMapped.set(reference, { holder: member ?? address, until: this.now })
    // nobody is reached by a record of another one that others may still remember
    for (const { reference, address, member } of now) {
      const holder = member ?? address
      const last = this.#lastMapped.get(reference)
      if (last && last.holder !== holder) expect(this.now - last.until).toBeGreaterThanOrEqual(2 * TTL_S * 1000 - 1000)
    }
    for (const { reference, address, member } of now)
      this.#lastMapped.set(reference, { holder: member ?? address, until: this.now })
    // claims in use are those that are mapped
    const used = [...this.claims.values()].filter(({ spec }) => spec.releasedAt === undefined).map(referenceOf)
    expect(used.sort()).toEqual(now.map(({ reference }) => reference).sort())
  }
}

it('no slot has two holders, no reference is given twice, and who stays keeps both, whatever happens', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), steps => {
      const history = new History()
      for (const one of steps) history.take(one)
      history.pass(99)
    }),
    { numRuns: 1500 },
  )
})
