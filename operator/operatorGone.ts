/**
 * What IprefServices and IprefPeers that outlive the operator say from then on: conditions that only an operator at work keeps true are `Unknown`, reason
 * `OperatorGone`. An operator that comes later finds out anew, and none of it is taken for proof.
 *
 *   Accepted, Resolved     as they were: what the object asks for may be
 *   Mapped, Published…     True ──► Unknown
 *   Ready                  Unknown, whatever it was
 *
 * Best effort, within a time: many at once, and what could not be told is counted. Called by cleanup.ts while operators rest.
 */
import type { Condition, IprefPeer, IprefService } from '../resources/kinds.ts'
import { type ResourceStore, StoreError } from '../resources/store.ts'
import type { Clock } from '../runtime/clock.ts'
import { type Finding, withFindings } from './conditions.ts'

const LASTING: ReadonlySet<string> = new Set(['Accepted', 'Resolved'])
const AT_ONCE = 16
const TRIES = 3

type Told = IprefService | IprefPeer

const gone = (type: string): Finding => ({
  type,
  status: 'Unknown',
  reason: 'OperatorGone',
  message: 'the operator was uninstalled, and nobody serves this object: install it again, or delete the object',
})

/** undefined: it says so already, never said anything, or is going. */
export function afterOperator(object: Told, now: number): Condition[] | undefined {
  const { metadata, status } = object
  if (!status?.conditions || metadata.deletionTimestamp !== undefined) return undefined
  const before = status.conditions
  const isOver = ({ type, status: is }: Condition) => type !== 'Ready' && is === 'True' && !LASTING.has(type)
  const over = before.filter(isOver).map(({ type }) => type)
  const ready = before.find(({ type }) => type === 'Ready')
  if (over.length === 0 && ready?.reason === gone('Ready').reason) return undefined
  const generation = status.observedGeneration ?? metadata.generation ?? 0
  const said = new Map(
    withFindings(before, [...over, 'Ready'].map(gone), { generation, now }).map(one => [one.type, one] as const),
  )
  // in the order that people know
  const types = new Set([...before.map(({ type }) => type), 'Ready'])
  return [...types].map(type => said.get(type)!)
}

/** How many of them were not told, and why one of these was not. */
export async function tellOperatorGone(
  objects: readonly Told[],
  { store, clock, withinMs }: { store: ResourceStore; clock: Clock; withinMs: number },
): Promise<{ left: number; problem: string | undefined }> {
  let left = objects.length
  let isOver = false
  let problem: string | undefined
  const rest = objects.values()
  const work = async () => {
    for (const object of rest) {
      if (isOver) return
      const why = await tell(object, store, clock)
      if (why === undefined) left--
      problem ??= why
    }
  }
  await new Promise<void>(resolve => {
    const cancel = clock.after(withinMs, () => {
      isOver = true
      problem ??= `${withinMs / 1000} s were not enough`
      resolve()
    })
    void Promise.all(Array.from({ length: AT_ONCE }, work)).then(() => {
      cancel()
      resolve()
    })
  })
  return { left, problem }
}

/** Why it could not be told. One that is gone, or changed into one that needs not be told, is told. */
async function tell(object: Told, store: ResourceStore, clock: Clock): Promise<string | undefined> {
  const { kind, metadata } = object
  let now: Told | undefined = object
  for (let tries = 1; ; tries++) {
    const conditions = now && afterOperator(now, clock.now())
    if (!now || !conditions) return undefined
    try {
      await store.updateStatus(kind, { ...now, status: { ...now.status!, conditions } } as Told)
      return undefined
    } catch (error) {
      if (error instanceof StoreError && error.code === 'NotFound') return undefined
      const isOther = error instanceof StoreError && error.code === 'Conflict' && tries < TRIES
      if (!isOther) return (error as Error).message
    }
    now = await store.get(kind, metadata).catch(() => undefined)
  }
}
